/*
 * qn_index.c - index files of loaded segments: asked for, opened, warmed, put to use.
 *
 * WHAT      A segment is served from its raw rows the moment it is loaded. Its index files, when
 *           there are any, follow: the coordinator says which there are, seg_index_open() maps and
 *           checks one and, once it is warm, makes searches use it with one store. Nothing waits for
 *           that, except a load that asks to (refresh_indexes with `wait`).
 * WHEN      After a segment has come into the table, and when the coordinator says that a file was
 *           committed. It says so after the commit, and this node asks after the segment is in the
 *           table: whichever is later finds the other done.
 * FAILURE   A file that is damaged, not there, or of a format that is not read any more (or not
 *           yet): reported, so that it is built anew; the segment goes on without. No memory, or no
 *           answer, also to a report: asked again after a pause.
 * THREADS   One, started when first needed, for what nobody waits for. `lock` (RANK_LEAF) guards the
 *           list of wishes; nothing else is held over a call or I/O. Two that open the same file at
 *           once: one of them wins.
 */
#include "node/query/qn_int.h"
#include "base/alloc.h"
#include "base/log.h"
#include "schema/errors.h"
#include <inttypes.h>

#define LOG_ROOM "node"
#define PAUSE_MIN_MS 200
#define PAUSE_MAX_MS 30000

struct wish {
    int64_t collection_id, segment_id;
    int64_t due_ms, pause_ms;
};

struct qn_indexes {
    struct lock lock;
    struct cond wake;
    size_t n, cap;
    struct wish *v;
    _Atomic bool stop; /* also ends calls under way */
    struct thread *thread;
};

/* ---- opening what there is ---- */

static const Elanus__Index *definition(const Elanus__SegmentIndexesResp *resp, int64_t index_id)
{
    for (size_t i = 0; i < resp->n_indexes; i++) {
        if (resp->indexes[i]->id == index_id) {
            return resp->indexes[i];
        }
    }
    return NULL;
}

static const char *param(const Elanus__Index *idx, const char *key)
{
    for (size_t i = 0; i < idx->n_params; i++) {
        if (strcmp(idx->params[i]->key, key) == 0) {
            return idx->params[i]->value;
        }
    }
    return "";
}

/* Whether another build of the file may be of use where this one is not. */
static bool is_refused(int rc)
{
    return rc == ST_CORRUPT || rc == ST_NOT_FOUND || rc == ST_INVALID || rc == ST_UNSUPPORTED;
}

/* Reports the file; *st: why it is refused, or, where that fails, why it was not reported. */
static int reject(struct qn *qn, const Elanus__SegmentIndex *file, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    struct status why = *st;
    Elanus__RejectIndexReq req;
    Elanus__Empty resp;
    int rc;

    LOG_W("index file cannot be used, another is asked for: seg=%" PRId64 " error=\"%s\"",
          file->segment_id, why.msg);
    st_clear(st);
    call.cancel = &qn->indexes->stop;
    elanus__reject_index_req__init(&req);
    elanus__empty__init(&resp);
    req.file = (Elanus__SegmentIndex *)(uintptr_t)file;
    req.reason = why.msg;
    rc = qn->opts.data->reject_index(qn->opts.data->self, &call, &req, &resp, st);
    if (rc != 0) {
        st_context(st, "%s is not reported", file->object_key);
    }
    arena_free(ar);
    return rc;
}

static struct segment *take_segment(struct qn *qn, int64_t collection_id, int64_t id)
{
    struct segment *seg;
    struct qn_coll *c;

    rwlock_read(&qn->lock);
    c = id_map_ptr(qn->colls, collection_id);
    seg = c ? qn__find(c, id) : NULL;
    seg = seg ? seg_ref(seg) : NULL;
    rwlock_release(&qn->lock);
    return seg;
}

/* Fails only with what another try may mend. */
static int open_file(struct qn *qn, const Elanus__SegmentIndex *file, const Elanus__Index *idx,
                     struct status *st)
{
    struct segment *seg = take_segment(qn, file->collection_id, file->segment_id);
    struct seg_index_file f = {
        .field_id = file->field_id,
        .build_id = file->build_id,
        .key = file->object_key,
        .index_type = param(idx, "index_type"),
        .metric_type = param(idx, "metric_type"),
    };
    int64_t began = clock_mono_ms();
    bool opened = false;
    int rc = 0;

    if (!seg || !file->object_key[0]) { /* released meanwhile; or nothing to index in it */
        goto out;
    }
    rc = seg_index_open(seg, &f, qn->opts.os, &opened, st);
    if (is_refused(rc)) {
        rc = reject(qn, file, st);
    } else if (rc == ERR_INDEX_NOT_SUPPORTED) { /* as defined: another file would be no better */
        LOG_W("index file not opened: seg=%" PRId64 " error=\"%s\"", file->segment_id, st->msg);
        st_clear(st);
        rc = 0;
    } else if (opened) {
        LOG_I("index in use: seg=%" PRId64 " type=%s bytes=%" PRId64 " ms=%" PRId64,
              file->segment_id, f.index_type, file->size_bytes, clock_mono_ms() - began);
    }
out:
    seg_unref(seg);
    return rc;
}

static int refresh(struct qn *qn, int64_t collection_id, const int64_t *ids, size_t n,
                   struct status *st)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    struct status one = STATUS_INIT;
    Elanus__SegmentIndexesReq req;
    Elanus__SegmentIndexesResp resp;
    int rc = 0;

    call.cancel = &qn->indexes->stop;
    elanus__segment_indexes_req__init(&req);
    elanus__segment_indexes_resp__init(&resp);
    req.collection_id = collection_id;
    req.segment_ids = (int64_t *)(uintptr_t)ids;
    req.n_segment_ids = n;
    TRY(qn->opts.data->segment_indexes(qn->opts.data->self, &call, &req, &resp, st));
    for (size_t i = 0; i < resp.n_files; i++) {
        const Elanus__Index *idx = definition(&resp, resp.files[i]->index_id);
        int failed;
        st_clear(&one);
        failed = idx ? open_file(qn, resp.files[i], idx, &one) : 0;
        if (failed) {
            *st = one;
            rc = failed;
        }
    }
out:
    arena_free(ar);
    return rc;
}

/* ---- the background ---- */

/* Holds: lock */
static void add(struct qn_indexes *x, struct wish w)
{
    for (size_t i = 0; i < x->n; i++) {
        if (x->v[i].segment_id == w.segment_id) {
            x->v[i].due_ms = MIN(x->v[i].due_ms, w.due_ms);
            return;
        }
    }
    if (x->n == x->cap) {
        x->cap = x->cap ? x->cap * 2 : 16;
        x->v = xrealloc(x->v, x->cap * sizeof *x->v);
    }
    x->v[x->n++] = w;
}

/* Takes the wishes of one collection that are due; NULL in *ret: none, look again at *ret_next_ms.
 * Holds: lock */
static size_t take_due(struct qn_indexes *x, struct wish **ret, int64_t *ret_next_ms)
{
    int64_t now = clock_mono_ms();
    struct wish *due = NULL;
    size_t n = 0, left = 0;

    *ret_next_ms = INT64_MAX;
    for (size_t i = 0; i < x->n; i++) {
        const struct wish w = x->v[i];
        if (w.due_ms <= now && (!due || due[0].collection_id == w.collection_id)) {
            due = due ? due : xalloc(x->n * sizeof *due);
            due[n++] = w;
        } else {
            *ret_next_ms = MIN(*ret_next_ms, w.due_ms);
            x->v[left++] = w;
        }
    }
    x->n = left;
    *ret = due;
    return n;
}

static void grant(struct qn *qn, struct wish *due, size_t n)
{
    struct qn_indexes *x = qn->indexes;
    int64_t *ids = xalloc(n * sizeof *ids), coll = due[0].collection_id;
    struct status st = STATUS_INIT;
    size_t nids = 0;

    for (size_t i = 0; i < n; i++) { /* what was released meanwhile needs no asking */
        struct segment *seg = take_segment(qn, coll, due[i].segment_id);
        if (seg) {
            ids[nids++] = due[i].segment_id;
            seg_unref(seg);
        }
    }
    if (nids > 0 && refresh(qn, coll, ids, nids, &st) != 0) {
        LOG_W("index files not opened, tried again: coll=%" PRId64 " segments=%zu error=\"%s\"",
              coll, nids, st.msg);
        lock_acquire(&x->lock);
        for (size_t i = 0; i < n; i++) {
            due[i].pause_ms = MIN(MAX(due[i].pause_ms * 2, (int64_t)PAUSE_MIN_MS),
                                  (int64_t)PAUSE_MAX_MS);
            due[i].due_ms = clock_mono_ms() + due[i].pause_ms;
            add(x, due[i]);
        }
        lock_release(&x->lock);
    }
    mem_free(ids);
}

static void indexes_main(void *arg)
{
    struct qn *qn = arg;
    struct qn_indexes *x = qn->indexes;

    lock_acquire(&x->lock);
    while (!x->stop) {
        struct wish *due;
        int64_t next_ms;
        size_t n = take_due(x, &due, &next_ms);
        if (n > 0) {
            lock_release(&x->lock);
            grant(qn, due, n);
            mem_free(due);
            lock_acquire(&x->lock);
        } else if (next_ms == INT64_MAX) {
            cond_wait(&x->wake, &x->lock);
        } else {
            cond_wait_until(&x->wake, &x->lock, next_ms * 1000);
        }
    }
    lock_release(&x->lock);
}

void qn__indexes_want(struct qn *qn, int64_t collection_id, const int64_t *ids, size_t n)
{
    struct qn_indexes *x = qn->indexes;
    int64_t now = clock_mono_ms();

    if (n == 0) {
        return;
    }
    lock_acquire(&x->lock);
    for (size_t i = 0; i < n; i++) {
        add(x, (struct wish){ .collection_id = collection_id, .segment_id = ids[i],
                              .due_ms = now });
    }
    if (!x->thread && !x->stop) {
        x->thread = thread_start("qn-index", indexes_main, qn);
    }
    cond_signal(&x->wake);
    lock_release(&x->lock);
}

int qn__refresh_indexes(void *self, const struct call *call,
                        const Elanus__RefreshIndexesReq *req, Elanus__Empty *resp,
                        struct status *st)
{
    struct qn *qn = self;

    (void)call;
    (void)resp;
    if (req->wait) {
        return refresh(qn, req->collection_id, req->segment_ids, req->n_segment_ids, st);
    }
    qn__indexes_want(qn, req->collection_id, req->segment_ids, req->n_segment_ids);
    return 0;
}

/* ---- life ---- */

void qn__indexes_new(struct qn *qn)
{
    qn->indexes = xalloc(sizeof *qn->indexes);
    lock_init(&qn->indexes->lock, RANK_LEAF);
    cond_init(&qn->indexes->wake);
}

void qn__indexes_free(struct qn *qn)
{
    struct qn_indexes *x = qn->indexes;

    lock_acquire(&x->lock);
    x->stop = true;
    cond_signal(&x->wake);
    lock_release(&x->lock);
    thread_join(TAKE(x->thread));
    cond_done(&x->wake);
    lock_done(&x->lock);
    mem_free(x->v);
    mem_free(x);
    qn->indexes = NULL;
}
