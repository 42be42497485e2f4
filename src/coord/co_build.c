/*
 * co_build.c - index files of segments: which are missing, who builds them, what became of it.
 *
 * TASKS      A task is not stored: it is the absence of a file. Every flushed segment large enough
 *            should have a file of every vector index of its collection (policy_index_has_file), and
 *            a SegmentIndex record says that it has. So nothing has to be recorded when an index is
 *            created or a segment flushed, nothing taken back when either goes, and a crash at any
 *            instant leaves exactly what is still to be done.
 * A BUILD    takes a build id, has a data node write "<segment>/index/<index>/<build id>/..", and
 *            commits the record under `commit` when segment and index are still there. An id is used
 *            once, so a file that no record names is an orphan (co_gc.c), and a node that comes back
 *            late harms nobody. Then the query node that serves the segment is told.
 * FAILURE    Tried again after policy_build_pause_ms(), or given up; both only in memory: the next
 *            start tries everything, perhaps with a program that can, and so does a node that
 *            registers, once.
 * REFUSED    A query node that opens a file and finds it damaged, or of a format that it does not
 *            read, reports it (reject_index): the record goes, the file is missing, it is built
 *            again. Successors that are refused too are given up (policy_refused_pause_ms).
 * THREADS    One that looks for work and sleeps without a timer when there is none; one for each
 *            running build, which waits for the data node. `lock` (RANK_LEAF) guards the list of
 *            builds; it is taken below `state`. A build's thread is the only one to change its entry
 *            while it runs, but for `cancel` and what a refusal or a registration changes.
 */
#include "coord/co_int.h"
#include "base/fault.h"
#include "base/metrics.h"
#include "coord/policy.h"

#define LOG_ROOM "coord"
#include "base/log.h"

#define FILE_NAME "vectors.ix"
#define REFUSED_FORGET_MS 600000 /* a refusal after so long has nothing to do with those before */

/* One that runs, waits after a failure, or was given up. */
struct build {
    struct coord *co;
    int64_t collection_id, index_id, segment_id;
    int64_t node_id, build_id;
    bool running, ended; /* ended: its thread can be joined */
    bool given_up;
    bool seen;           /* by the pass under way */
    int tries;           /* failed since a file was built */
    int refused;         /* files that were built and could not be opened, */
    int64_t refused_ms;  /* the last of them */
    int64_t due_ms;
    struct status why;
    _Atomic bool cancel;
    struct thread *thread;
};

struct co_builds {
    struct lock lock;
    struct cond wake;
    bool woken, stop;
    size_t n, cap;
    struct build **v;
    int64_t rows_min;
    size_t per_node;
    struct thread *thread;
    struct measure *done, *failed, *rows, *refused;
};

const char *co__index_param(const Elanus__Index *idx, const char *key)
{
    const char *v = co__kv(idx->params, idx->n_params, key);
    return v ? v : "";
}

const char *co__index_prefix(const Elanus__Segment *seg, int64_t index_id, struct arena *ar)
{
    return arena_printf(ar, "%s/index/%" PRId64 "/", seg->object_prefix, index_id);
}

const char *co__index_key(const Elanus__Segment *seg, int64_t index_id, int64_t build_id,
                          struct arena *ar)
{
    return arena_printf(ar, "%s%" PRId64 "/" FILE_NAME, co__index_prefix(seg, index_id, ar),
                        build_id);
}

bool co__is_dense(const pb_field *f)
{
    return f->data_type == MILVUS__PROTO__SCHEMA__DATA_TYPE__BinaryVector ||
           f->data_type == MILVUS__PROTO__SCHEMA__DATA_TYPE__FloatVector ||
           f->data_type == MILVUS__PROTO__SCHEMA__DATA_TYPE__Float16Vector ||
           f->data_type == MILVUS__PROTO__SCHEMA__DATA_TYPE__BFloat16Vector ||
           f->data_type == MILVUS__PROTO__SCHEMA__DATA_TYPE__Int8Vector;
}

bool co__index_wants_file(struct coord *co, const struct co_coll *c, const Elanus__Index *idx,
                          const Elanus__Segment *seg)
{
    const pb_field *f = co__field(c, idx->field_name);

    return f && co__is_dense(f) &&
           policy_index_has_file(co__index_param(idx, "index_type"), seg->num_rows,
                                 co->builds->rows_min);
}

/* ---- the list. Holds: lock ---- */

static struct build *find(const struct co_builds *b, int64_t index_id, int64_t segment_id)
{
    for (size_t i = 0; i < b->n; i++) {
        if (b->v[i]->index_id == index_id && b->v[i]->segment_id == segment_id) {
            return b->v[i];
        }
    }
    return NULL;
}

static struct build *add(struct coord *co, int64_t collection_id, int64_t index_id,
                         int64_t segment_id)
{
    struct co_builds *b = co->builds;
    struct build *t = xalloc(sizeof *t);

    *t = (struct build){ .co = co, .collection_id = collection_id, .index_id = index_id,
                         .segment_id = segment_id };
    if (b->n == b->cap) {
        b->cap = b->cap ? b->cap * 2 : 8;
        b->v = xrealloc(b->v, b->cap * sizeof *b->v);
    }
    b->v[b->n++] = t;
    return t;
}

const char *co__build_failure(struct coord *co, int64_t index_id, int64_t segment_id,
                              struct arena *ar)
{
    struct co_builds *b = co->builds;
    const char *why = NULL;
    const struct build *t;

    lock_acquire(&b->lock);
    t = find(b, index_id, segment_id);
    if (t && t->given_up) {
        why = arena_strdup(ar, t->why.msg);
    }
    lock_release(&b->lock);
    return why;
}

bool co__build_given_up(struct coord *co, int64_t index_id, int64_t segment_id)
{
    struct co_builds *b = co->builds;
    const struct build *t;
    bool given_up;

    lock_acquire(&b->lock);
    t = find(b, index_id, segment_id);
    given_up = t && t->given_up;
    lock_release(&b->lock);
    return given_up;
}

/* Holds: lock */
static void note_failure(struct build *t, const struct status *why)
{
    int64_t pause = policy_build_pause_ms(++t->tries, why->code);

    t->why = *why;
    t->given_up = pause < 0;
    t->due_ms = clock_mono_ms() + MAX(pause, (int64_t)0);
}

/* The entry's build may still be said to run: it has committed the file and is telling of it. */
int64_t co__build_refused(struct coord *co, int64_t collection_id, int64_t index_id,
                          int64_t segment_id, const char *reason)
{
    struct co_builds *b = co->builds;
    int64_t pause;
    struct build *t;

    lock_acquire(&b->lock);
    t = find(b, index_id, segment_id);
    t = t ? t : add(co, collection_id, index_id, segment_id);
    if (clock_mono_ms() - t->refused_ms > REFUSED_FORGET_MS) { /* another trouble than then */
        t->refused = 0;
    }
    t->refused_ms = clock_mono_ms();
    pause = policy_refused_pause_ms(++t->refused);
    st_clear(&t->why);
    st_fail(&t->why, ST_CORRUPT, "index files are built and refused: %s", reason);
    t->given_up = pause < 0;
    t->due_ms = clock_mono_ms() + MAX(pause, (int64_t)0);
    lock_release(&b->lock);
    return pause;
}

void co__build_refused_end(struct coord *co, int64_t index_id, int64_t segment_id, bool gone)
{
    struct co_builds *b = co->builds;

    if (gone) {
        metric_add(b->refused, 1);
        return;
    }
    lock_acquire(&b->lock);
    struct build *t = find(b, index_id, segment_id);
    if (t && t->refused > 0) {
        t->refused--;
        t->given_up = false;
    }
    lock_release(&b->lock);
}

/* Counts stay: what fails again is given up again, after that one build. */
void co__builds_retry(struct coord *co)
{
    struct co_builds *b = co->builds;

    lock_acquire(&b->lock);
    for (size_t i = 0; i < b->n; i++) {
        b->v[i]->given_up = false;
    }
    b->woken = true;
    cond_signal(&b->wake);
    lock_release(&b->lock);
}

/* ---- one build, on its thread ---- */

/* What the data node is told, copied. false: index or segment is gone. */
static bool describe(struct build *t, struct arena *ar, Elanus__BuildIndexReq *req)
{
    struct coord *co = t->co;
    struct co_coll *c;
    const struct co_rec *idx, *seg;
    bool found = false;

    rwlock_read(&co->state);
    c = co__by_id(co, t->collection_id);
    idx = c ? co__list_get(&c->indexes, t->index_id) : NULL;
    seg = c ? co__list_get(&c->segs, t->segment_id) : NULL;
    if (idx && seg) {
        req->collection = co__copy(c->rec->pb, ar);
        req->index = co__copy(idx->pb, ar);
        req->segment = co__copy(seg->pb, ar);
        req->build_id = t->build_id;
        req->object_key = co__index_key(seg->pb, t->index_id, t->build_id, ar);
        found = true;
    }
    rwlock_release(&co->state);
    return found;
}

/* *ret_gone: nobody wants the file any more. */
static int commit(struct build *t, const Elanus__BuildIndexReq *req,
                  const Elanus__BuildIndexResp *resp, struct arena *ar, bool *ret_gone,
                  struct status *st)
{
    struct coord *co = t->co;
    Elanus__SegmentIndex file;
    struct co_coll *c;
    struct co_txn tx;
    int rc = 0;

    elanus__segment_index__init(&file);
    file.collection_id = t->collection_id;
    file.index_id = t->index_id;
    file.segment_id = t->segment_id;
    file.build_id = t->build_id;
    file.field_id = req->index->field_id;
    file.object_key = resp->size_bytes ? req->object_key : "";
    file.num_rows = req->segment->num_rows;
    file.size_bytes = resp->size_bytes;
    file.format_version = resp->format_version;
    file.params = resp->params;
    co__txn_init(&tx, co, ar);
    lock_acquire(&co->commit); /* segments and indexes come and go under it only */
    TRY(co__ts(co, 1, DEADLINE_NONE, &file.created_ts, st));
    c = co__by_id(co, t->collection_id);
    *ret_gone = !c || !co__list_get(&c->indexes, t->index_id) ||
                !co__list_get(&c->segs, t->segment_id);
    if (!*ret_gone) {
        TRY(FAULT_POINT("index_before_commit", st));
        co__put(&tx, CO_SEGINDEX, &file);
        TRY(co__commit_locked(&tx, st));
    }
out:
    lock_release(&co->commit);
    co__txn_done(&tx);
    return rc;
}

static void tell_query_node(struct build *t, const struct call *call)
{
    struct status ignored = STATUS_INIT;

    if (FAULT_POINT("index_after_commit", &ignored) != 0) {
        LOG_W("query node not told of an index file, it asks when it loads: seg=%" PRId64,
              t->segment_id);
        return;
    }
    co__send_refresh(t->co, call, t->collection_id, &t->segment_id, 1, false);
}

static int build_one(struct build *t, struct arena *ar, struct status *st)
{
    struct coord *co = t->co;
    struct call call = call_internal(ar);
    const struct dnode_service *dn;
    Elanus__BuildIndexReq req;
    Elanus__BuildIndexResp resp;
    bool gone = false, remove = false;
    int64_t began = clock_mono_ms();
    int rc = 0;

    elanus__build_index_req__init(&req);
    elanus__build_index_resp__init(&resp);
    call.cancel = &t->cancel;
    TRY(co__id(co, 1, DEADLINE_NONE, &t->build_id, st));
    if (!describe(t, ar, &req)) {
        goto out;
    }
    TRY(FAULT_POINT("index_before_build", st));
    TRY(svc_dir_dnode(co->opts.dir, t->node_id, &dn, st));
    remove = true; /* if it fails: the node may have written the file, or may still */
    TRY(dn->build_index(dn->self, &call, &req, &resp, st));
    remove = false; /* a commit that failed may have happened all the same */
    TRY(commit(t, &req, &resp, ar, &gone, st));
    if (gone) {
        remove = true;
        goto out;
    }
    metric_add(co->builds->done, 1);
    metric_add(co->builds->rows, req.segment->num_rows);
    LOG_I("index built: coll=%" PRId64 " index=%s seg=%" PRId64 " rows=%" PRId64 " bytes=%" PRId64
          " params=%s ms=%" PRId64, t->collection_id, req.index->name, t->segment_id,
          req.segment->num_rows, resp.size_bytes, resp.params, clock_mono_ms() - began);
    call.cancel = NULL;
    tell_query_node(t, &call);
out:
    if (remove) {
        co__gc_prefix(co, arena_printf(ar, "%s%" PRId64 "/",
                                       co__index_prefix(req.segment, t->index_id, ar),
                                       t->build_id));
    }
    return rc;
}

static void build_main(void *arg)
{
    struct build *t = arg;
    struct coord *co = t->co;
    struct co_builds *b = co->builds;
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    int rc = build_one(t, ar, &st);

    arena_free(ar);
    lock_acquire(&b->lock);
    if (rc != 0 && !t->cancel) {
        note_failure(t, &st);
        metric_add(b->failed, 1);
        LOG_W("index not built%s: coll=%" PRId64 " index=%" PRId64 " seg=%" PRId64 " try=%d "
              "error=\"%s\"", t->given_up ? ", given up" : "", t->collection_id, t->index_id,
              t->segment_id, t->tries, st.msg);
    } else if (rc == 0) {
        t->tries = 0; /* due_ms is past, or of a refusal that came meanwhile */
    }
    t->ended = true;
    b->woken = true;
    cond_signal(&b->wake);
    lock_release(&b->lock);
    co__compacts_wake(co); /* a segment may have waited for its index */
}

/* ---- looking for work ---- */

/* Missing files, as the policy sees them, and whose they are. */
struct missing {
    struct arena *ar;
    size_t n, cap;
    struct policy_build *v;
    int64_t *collections;
};

static void missing_add(struct missing *m, int64_t collection_id, struct policy_build p)
{
    if (m->n == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 64;
        struct policy_build *v = arena_alloc(m->ar, cap * sizeof *v);
        int64_t *c = arena_alloc(m->ar, cap * sizeof *c);
        if (m->n) {
            memcpy(v, m->v, m->n * sizeof *v);
            memcpy(c, m->collections, m->n * sizeof *c);
        }
        m->v = v;
        m->collections = c;
        m->cap = cap;
    }
    m->v[m->n] = p;
    m->collections[m->n++] = collection_id;
}

/* Holds: state, lock */
static void look_at(struct coord *co, const struct co_coll *c, struct missing *m)
{
    for (size_t i = 0; i < c->indexes.n; i++) {
        const struct co_rec *idx = c->indexes.v[i];
        for (size_t j = 0; j < c->segs.n; j++) {
            const Elanus__Segment *seg = c->segs.v[j]->pb;
            struct build *t;
            if (co__list_get(&idx->files, seg->id) ||
                !co__index_wants_file(co, c, idx->pb, seg)) {
                continue;
            }
            t = find(co->builds, idx->id, seg->id);
            if (t) {
                t->seen = true;
            }
            missing_add(m, c->id, (struct policy_build){
                .index_id = idx->id,
                .segment_id = seg->id,
                .loaded = co__load_has(co__load_target(c), seg->partition_id),
                .taken = t && (t->running || t->given_up),
                .tries = t ? t->tries : 0,
                .due_ms = t ? t->due_ms : 0,
            });
        }
    }
}

/* Holds: state */
static bool there_are(struct coord *co, const struct build *t)
{
    const struct co_coll *c = co__by_id(co, t->collection_id);

    return c && co__list_get(&c->indexes, t->index_id) && co__list_get(&c->segs, t->segment_id);
}

/* Entries whose file is there, or not wanted any more; running ones are told to stop. Where a
 * file was refused they are kept: it may happen to its successor. Holds: state, lock */
static void forget_unseen(struct coord *co)
{
    struct co_builds *b = co->builds;
    size_t n = 0;

    for (size_t i = 0; i < b->n; i++) {
        struct build *t = b->v[i];
        if (t->running && !t->seen && !t->ended) {
            t->cancel = true;
        }
        if (t->running || t->seen || (t->refused > 0 && there_are(co, t))) {
            b->v[n++] = t;
        } else {
            mem_free(t);
        }
    }
    b->n = n;
}

/* Joins threads that have ended. */
static void reap(struct co_builds *b)
{
    lock_acquire(&b->lock);
    for (size_t i = 0; i < b->n; i++) {
        struct build *t = b->v[i];
        if (t->running && t->ended) {
            struct thread *th = TAKE(t->thread);
            lock_release(&b->lock);
            thread_join(th); /* past its last use of the lock */
            lock_acquire(&b->lock);
            t->running = t->ended = false;
            t->cancel = false;
        }
    }
    lock_release(&b->lock);
}

/* A data node with room for one more build; 0: none. Holds: state, lock */
static int64_t free_node(struct coord *co, int64_t *ids)
{
    struct co_builds *b = co->builds;
    size_t n = co__nodes(co, CO_WORK, ids), least = b->per_node;
    int64_t best = 0;

    for (size_t i = 0; i < n; i++) {
        size_t busy = 0;
        for (size_t j = 0; j < b->n; j++) {
            busy += b->v[j]->running && b->v[j]->node_id == ids[i];
        }
        if (busy < least) {
            least = busy;
            best = ids[i];
        }
    }
    return best;
}

/* Holds: state, lock */
static int64_t hand_out(struct coord *co, struct missing *m)
{
    int64_t *ids = arena_alloc(m->ar, CO_NODES_MAX * sizeof *ids);
    int64_t now = clock_mono_ms(), next_ms = INT64_MAX, node;
    size_t i;

    while ((node = free_node(co, ids)) != 0 &&
           (i = policy_build_next(m->v, m->n, now, &next_ms)) < m->n) {
        struct policy_build *p = &m->v[i];
        struct build *t = find(co->builds, p->index_id, p->segment_id);
        t = t ? t : add(co, m->collections[i], p->index_id, p->segment_id);
        t->node_id = node;
        t->running = t->seen = p->taken = true;
        t->thread = thread_start("co-build", build_main, t);
    }
    return node ? next_ms : INT64_MAX; /* when a node is free again, its build wakes us */
}

/* Returns when to look again. */
static int64_t pass(struct coord *co)
{
    struct co_builds *b = co->builds;
    struct missing m = { .ar = arena_new(0) };
    size_t pos = 0;
    int64_t id, next_ms;
    uint64_t v;

    reap(b);
    rwlock_read(&co->state);
    lock_acquire(&b->lock);
    for (size_t i = 0; i < b->n; i++) {
        b->v[i]->seen = false;
    }
    while (id_map_next(co->colls, &pos, &id, &v)) {
        const struct co_coll *c = (const struct co_coll *)(uintptr_t)v;
        if (co__pb(c)->state == ELANUS__COLLECTION_STATE__COLLECTION_CREATED) {
            look_at(co, c, &m);
        }
    }
    forget_unseen(co);
    next_ms = b->stop ? INT64_MAX : hand_out(co, &m);
    lock_release(&b->lock);
    rwlock_release(&co->state);
    arena_free(m.ar);
    return next_ms;
}

static void builds_main(void *arg)
{
    struct coord *co = arg;
    struct co_builds *b = co->builds;
    int64_t next_ms = INT64_MAX;

    for (;;) {
        bool stop;
        lock_acquire(&b->lock);
        while (!b->woken && !b->stop && next_ms > clock_mono_ms()) {
            if (next_ms == INT64_MAX) {
                cond_wait(&b->wake, &b->lock);
            } else {
                cond_wait_until(&b->wake, &b->lock, next_ms * 1000);
            }
        }
        stop = b->stop;
        b->woken = false;
        lock_release(&b->lock);
        if (stop) {
            return;
        }
        next_ms = pass(co);
    }
}

/* ---- life ---- */

void co__builds_new(struct coord *co)
{
    struct co_builds *b = xalloc(sizeof *b);

    lock_init(&b->lock, RANK_LEAF);
    cond_init(&b->wake);
    b->rows_min = config_int(co->opts.config,
                             "indexCoord.segment.minSegmentNumRowsToEnableIndex");
    b->per_node = (size_t)config_int(co->opts.config, "dataNode.indexBuild.tasks");
    b->done = metric_get(METRIC_COUNTER, "elanus_index_builds_total", "status=\"success\"",
                         "index files built for segments");
    b->failed = metric_get(METRIC_COUNTER, "elanus_index_builds_total", "status=\"fail\"",
                           "index files built for segments");
    b->rows = metric_get(METRIC_COUNTER, "elanus_index_built_rows_total", "",
                         "rows of the segments whose index files were built");
    b->refused = metric_get(METRIC_COUNTER, "elanus_index_files_refused_total", "",
                            "index files that query nodes could not open");
    co->builds = b;
}

void co__builds_start(struct coord *co)
{
    co->builds->woken = true;
    co->builds->thread = thread_start("co-builds", builds_main, co);
}

void co__builds_wake(struct coord *co)
{
    struct co_builds *b = co->builds;

    lock_acquire(&b->lock);
    b->woken = true;
    cond_signal(&b->wake);
    lock_release(&b->lock);
}

void co__builds_stop(struct coord *co)
{
    struct co_builds *b = co->builds;

    if (!b) {
        return;
    }
    lock_acquire(&b->lock);
    b->stop = true;
    cond_signal(&b->wake);
    lock_release(&b->lock);
    if (b->thread) {
        thread_join(TAKE(b->thread));
    }
    lock_acquire(&b->lock);
    for (size_t i = 0; i < b->n; i++) {
        b->v[i]->cancel = true;
    }
    for (size_t i = 0; i < b->n; i++) {
        struct thread *th = TAKE(b->v[i]->thread);
        lock_release(&b->lock);
        thread_join(th);
        lock_acquire(&b->lock);
    }
    lock_release(&b->lock);
}

void co__builds_free(struct coord *co)
{
    struct co_builds *b = co->builds;

    if (!b) {
        return;
    }
    for (size_t i = 0; i < b->n; i++) {
        mem_free(b->v[i]);
    }
    mem_free(b->v);
    cond_done(&b->wake);
    lock_done(&b->lock);
    mem_free(b);
    co->builds = NULL;
}
