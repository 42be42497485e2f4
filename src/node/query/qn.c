/*
 * qn.c - the query node: sealed segments opened from the object store, search and retrieve on them.
 *
 * WHAT      A table of segments per collection. Loading opens the files by mapping and applies the
 *           shard's delete files; later deletes come from the shard. Nothing here is durable: all
 *           of it can be loaded again.
 * THREADS   One read-write lock over the table; readers take references under it and work outside.
 *           `load_lock` serialises loads (files are opened outside the table lock).
 * FAILURE   A damaged file fails the load and is named; segments loaded before stay.
 */
#include "node/node.h"
#include "base/alloc.h"
#include "base/lock.h"
#include "base/map.h"
#include "node/nd_read.h"
#include "schema/errors.h"
#include "segment/segment.h"

#define DELTA_MEMORY_MAX ((size_t)4 << 30)

struct qn_coll {
    struct schema *schema;
    struct id_map *segs; /* id -> struct segment * */
};

struct qn {
    struct qn_opts opts;
    struct rwlock lock;     /* colls and everything below */
    struct lock load_lock;
    struct id_map *colls;   /* id -> struct qn_coll * */
};

static void coll_free(struct qn_coll *c)
{
    size_t pos = 0;
    int64_t id;
    uint64_t v;

    while (id_map_next(c->segs, &pos, &id, &v)) {
        seg_unref((struct segment *)(uintptr_t)v);
    }
    id_map_free(c->segs);
    schema_unref(c->schema);
    mem_free(c);
}

int qn_new(const struct qn_opts *o, struct qn **ret_qn, struct status *st)
{
    struct qn *qn = xalloc(sizeof *qn);

    (void)st;
    qn->opts = *o;
    rwlock_init(&qn->lock, RANK_NODE_SHARD);
    lock_init(&qn->load_lock, RANK_NODE_REGISTRY);
    qn->colls = id_map_new();
    *ret_qn = qn;
    return 0;
}

void qn_free(struct qn *qn)
{
    size_t pos = 0;
    int64_t id;
    uint64_t v;

    if (!qn) {
        return;
    }
    while (id_map_next(qn->colls, &pos, &id, &v)) {
        coll_free((struct qn_coll *)(uintptr_t)v);
    }
    id_map_free(qn->colls);
    rwlock_done(&qn->lock);
    lock_done(&qn->load_lock);
    mem_free(qn);
}

int qn_start(struct qn *qn, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    Elanus__NodeInfo node;
    Elanus__RegisterReq req;
    Elanus__RegisterResp resp;
    int rc;

    elanus__node_info__init(&node);
    elanus__register_req__init(&req);
    elanus__register_resp__init(&resp);
    node.node_id = qn->opts.node_id;
    node.role = arena_strdup(ar, "querynode");
    node.address = arena_strdup(ar, qn->opts.address);
    req.node = &node;
    rc = qn->opts.streaming->register_node(qn->opts.streaming->self, &call, &req, &resp, st);
    arena_free(ar);
    return rc;
}

/* Referenced segments for one request, in the call's arena; release with unpin(). */
struct pinned {
    struct segment **segs;
    size_t n;
    struct schema *schema;
};

static void unpin(struct pinned *p)
{
    for (size_t i = 0; i < p->n; i++) {
        seg_unref(p->segs[i]);
    }
    schema_unref(p->schema);
}

/* A segment asked for by id and not here is an error: the shard believes it is served. */
static int pin(struct qn *qn, int64_t collection_id, const int64_t *ids, size_t nids,
               struct arena *ar, struct pinned *ret, struct status *st)
{
    struct qn_coll *c;
    int rc = 0;

    *ret = (struct pinned){ 0 };
    ret->segs = arena_try_array(ar, nids + 1, sizeof(struct segment *));
    if (!ret->segs) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %zu segments", nids);
    }
    rwlock_read(&qn->lock);
    c = id_map_ptr(qn->colls, collection_id);
    if (!c) {
        rc = st_fail(st, ERR_COLLECTION_NOT_LOADED, "collection not loaded[collection=%lld]",
                     (long long)collection_id);
        goto out;
    }
    ret->schema = schema_ref(c->schema);
    for (size_t i = 0; i < nids; i++) {
        struct segment *seg = id_map_ptr(c->segs, ids[i]);
        if (!seg) {
            rc = st_fail(st, ERR_SEGMENT_NOT_FOUND, "segment not loaded[segment=%lld]",
                         (long long)ids[i]);
            st->retriable = true;
            goto out;
        }
        ret->segs[ret->n++] = seg_ref(seg);
    }
out:
    rwlock_release(&qn->lock);
    if (rc != 0) {
        unpin(ret);
        *ret = (struct pinned){ 0 };
    }
    return rc;
}

/* ---- loading ---- */

static int apply_delta_files(struct qn *qn, struct segment *seg, const struct seg_info *info,
                             Elanus__Delta *const *deltas, size_t n, struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        struct arena *ar;
        struct column pks;
        const hts *ts;
        uint32_t hits;
        if (deltas[i]->max_ts <= info->min_ts) {
            continue; /* older than every row */
        }
        ar = arena_new(DELTA_MEMORY_MAX);
        rc = delta_read(qn->opts.os, deltas[i]->object_key, ar, &pks, &ts, st);
        if (rc == 0) {
            rc = seg_delete(seg, &pks, ts, pks.nrows, &hits, st);
        }
        arena_free(ar);
    }
    return rc;
}

/* Replaces the collection's definition when it is newer; makes the entry when there is none. */
static int ensure_collection(struct qn *qn, const Elanus__Collection *coll, struct status *st)
{
    struct schema *schema = NULL;
    struct qn_coll *c;
    int rc;

    TRY(schema_new(coll->schema, &schema, st));
    rwlock_write(&qn->lock);
    c = id_map_ptr(qn->colls, coll->id);
    if (!c) {
        c = xalloc(sizeof *c);
        c->segs = id_map_new();
        CHECK(id_map_put(qn->colls, coll->id, (uint64_t)(uintptr_t)c));
    }
    if (!c->schema || c->schema->version <= schema->version) {
        struct schema *old = c->schema;
        c->schema = TAKE(schema);
        schema = old;
    }
    rwlock_release(&qn->lock);
out:
    schema_unref(schema);
    return rc;
}

static bool is_loaded(struct qn *qn, int64_t collection_id, int64_t segment_id)
{
    rwlock_read(&qn->lock);
    struct qn_coll *c = id_map_ptr(qn->colls, collection_id);
    bool found = c && id_map_ptr(c->segs, segment_id);
    rwlock_release(&qn->lock);
    return found;
}

static int load_one(struct qn *qn, const Elanus__Collection *coll, const Elanus__Segment *meta,
                    Elanus__Delta *const *deltas, size_t ndeltas, struct status *st)
{
    struct segment *seg = NULL;
    struct schema *schema;
    struct seg_info info;
    struct qn_coll *c;
    int rc;

    rwlock_read(&qn->lock);
    c = id_map_ptr(qn->colls, coll->id);
    schema = c ? schema_ref(c->schema) : NULL;
    rwlock_release(&qn->lock);
    if (!schema) {
        FAIL(st, ERR_COLLECTION_NOT_LOADED, "collection %lld was released while loading",
             (long long)coll->id);
    }
    TRY(seg_open(meta->id, meta->collection_id, meta->partition_id, schema, qn->opts.os,
                 meta->object_prefix, &seg, st));
    seg_get_info(seg, &info);
    if (info.nrows != meta->num_rows) {
        FAIL(st, ST_CORRUPT, "segment %lld has %u rows, metadata says %lld", (long long)meta->id,
             info.nrows, (long long)meta->num_rows);
    }
    TRY(apply_delta_files(qn, seg, &info, deltas, ndeltas, st));
    rwlock_write(&qn->lock);
    c = id_map_ptr(qn->colls, coll->id);
    if (c && !id_map_ptr(c->segs, meta->id)) {
        CHECK(id_map_put(c->segs, meta->id, (uint64_t)(uintptr_t)TAKE(seg)));
    }
    rwlock_release(&qn->lock);
out:
    seg_unref(seg);
    schema_unref(schema);
    return rc;
}

static int do_load_segments(void *self, const struct call *call, const Elanus__LoadSegmentsReq *req,
                            Elanus__Empty *resp, struct status *st)
{
    struct qn *qn = self;
    int rc;

    (void)call;
    (void)resp;
    if (!req->collection || !req->collection->schema) {
        return st_fail(st, ST_INVALID, "load_segments without a collection");
    }
    lock_acquire(&qn->load_lock);
    TRY(ensure_collection(qn, req->collection, st));
    for (size_t i = 0; i < req->n_segments; i++) {
        if (!is_loaded(qn, req->collection_id, req->segments[i]->id)) {
            TRY(load_one(qn, req->collection, req->segments[i], req->deltas, req->n_deltas, st));
        }
    }
out:
    lock_release(&qn->load_lock);
    return rc;
}

static int do_release_segments(void *self, const struct call *call,
                               const Elanus__ReleaseSegmentsReq *req, Elanus__Empty *resp,
                               struct status *st)
{
    struct qn *qn = self;
    struct qn_coll *c;
    struct qn_coll *gone = NULL;

    (void)call;
    (void)resp;
    (void)st;
    rwlock_write(&qn->lock);
    c = id_map_ptr(qn->colls, req->collection_id);
    for (size_t i = 0; c && i < req->n_segment_ids; i++) {
        struct segment *seg = id_map_ptr(c->segs, req->segment_ids[i]);
        if (seg) {
            id_map_remove(c->segs, req->segment_ids[i]);
            seg_unref(seg);
        }
    }
    if (c && req->n_segment_ids == 0) { /* the whole collection */
        id_map_remove(qn->colls, req->collection_id);
        gone = c;
    }
    rwlock_release(&qn->lock);
    if (gone) {
        coll_free(gone);
    }
    return 0;
}

/* ---- requests ---- */

static int do_apply_deletes(void *self, const struct call *call,
                            const Elanus__ApplyDeletesReq *req, Elanus__Empty *resp,
                            struct status *st)
{
    struct qn *qn = self;
    struct pinned p = { 0 };
    struct batch b;
    uint32_t hits;
    int rc;

    (void)resp;
    TRY(pin(qn, req->collection_id, req->segment_ids, req->n_segment_ids, call->ar, &p, st));
    TRY(batch_decode(slice_n(req->pks.data, req->pks.len), call->ar, &b, st));
    if (b.ncols != 1 || b.nrows != req->n_timestamps) {
        FAIL(st, ST_INVALID, "%u keys with %zu timestamps", b.nrows, req->n_timestamps);
    }
    for (size_t i = 0; i < p.n; i++) {
        TRY(seg_delete(p.segs[i], &b.cols[0], req->timestamps, b.nrows, &hits, st));
    }
out:
    unpin(&p);
    return rc;
}

static int do_search(void *self, const struct call *call, const Elanus__SearchReq *req,
                     Elanus__SearchResp *resp, struct status *st)
{
    struct qn *qn = self;
    struct pinned p = { 0 };
    int rc;

    TRY(pin(qn, req->collection_id, req->segment_ids, req->n_segment_ids, call->ar, &p, st));
    TRY(nd_search(p.segs, p.n, p.schema, req, qn->opts.compute, call, resp, st));
out:
    unpin(&p);
    return rc;
}

static int do_query(void *self, const struct call *call, const Elanus__QueryReq *req,
                    Elanus__QueryResp *resp, struct status *st)
{
    struct qn *qn = self;
    struct pinned p = { 0 };
    int rc;

    TRY(pin(qn, req->collection_id, req->segment_ids, req->n_segment_ids, call->ar, &p, st));
    TRY(nd_query(p.segs, p.n, p.schema, req, qn->opts.compute, call, resp, st));
out:
    unpin(&p);
    return rc;
}

static int do_fetch(void *self, const struct call *call, const Elanus__FetchReq *req,
                    Elanus__FetchResp *resp, struct status *st)
{
    struct qn *qn = self;
    struct pinned p = { 0 };
    int64_t *ids = NULL;
    size_t nids = 0;
    struct batch b;
    int rc;

    if (req->n_segment_ids != req->n_rows) {
        FAIL(st, ST_INVALID, "%zu segments with %zu rows", req->n_segment_ids, req->n_rows);
    }
    ids = alloc_try_zero((req->n_segment_ids + 1) * sizeof *ids);
    if (!ids) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu rows", req->n_rows);
    }
    for (size_t i = 0; i < req->n_segment_ids; i++) {
        size_t j = 0;
        while (j < nids && ids[j] != req->segment_ids[i]) {
            j++;
        }
        if (j == nids) {
            ids[nids++] = req->segment_ids[i];
        }
    }
    TRY(pin(qn, req->collection_id, ids, nids, call->ar, &p, st));
    TRY(nd_fetch(p.segs, p.n, p.schema, req->segment_ids, req->rows, req->n_rows, req->field_ids,
                 req->n_field_ids, call, &b, st));
    TRY(nd_batch_bytes(&b, call->ar, &resp->batch, st));
out:
    unpin(&p);
    mem_free(ids);
    return rc;
}

/* Holds: the table lock for reading. */
static void segment_stats(const struct segment *seg, struct arena *ar, Elanus__SegmentStatsResp *r)
{
    Elanus__SegmentStats *s = ARENA_NEW(ar, Elanus__SegmentStats);
    struct seg_info info;

    elanus__segment_stats__init(s);
    seg_get_info(seg, &info);
    s->segment_id = info.id;
    s->num_rows = info.nrows;
    s->deleted_rows = info.deleted_rows;
    s->memory_bytes = (int64_t)info.memory_bytes;
    s->mapped_bytes = (int64_t)info.mapped_bytes;
    r->segments[r->n_segments++] = s;
}

static int do_stats(void *self, const struct call *call, const Elanus__ReleaseSegmentsReq *req,
                    Elanus__SegmentStatsResp *resp, struct status *st)
{
    struct qn *qn = self;
    struct qn_coll *c;
    size_t pos = 0;
    int64_t id;
    uint64_t v;
    int rc = 0;

    rwlock_read(&qn->lock);
    c = id_map_ptr(qn->colls, req->collection_id);
    if (c) {
        resp->segments = arena_try_array(call->ar, id_map_count(c->segs) + 1,
                                         sizeof(Elanus__SegmentStats *));
        if (!resp->segments) {
            rc = st_fail(st, ST_NO_MEMORY, "no memory for segment statistics");
        }
    }
    while (c && rc == 0 && id_map_next(c->segs, &pos, &id, &v)) {
        bool wanted = req->n_segment_ids == 0;
        for (size_t i = 0; i < req->n_segment_ids; i++) {
            wanted = wanted || req->segment_ids[i] == id;
        }
        if (wanted) {
            segment_stats((const struct segment *)(uintptr_t)v, call->ar, resp);
        }
    }
    rwlock_release(&qn->lock);
    return rc;
}

struct qnode_service qn_service(struct qn *qn)
{
    return (struct qnode_service){
        .self = qn,
        .load_segments = do_load_segments,
        .release_segments = do_release_segments,
        .apply_deletes = do_apply_deletes,
        .search = do_search,
        .fetch = do_fetch,
        .query = do_query,
        .stats = do_stats,
    };
}
