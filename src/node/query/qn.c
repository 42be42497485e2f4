/*
 * qn.c - the query node: sealed segments opened from the object store, search and retrieve on them.
 *
 * WHAT      A table of segments per collection. Loading opens the files by mapping and applies the
 *           shard's delete files; later deletes come from the shard. Nothing here is durable: all
 *           of it can be loaded again. Loading what is loaded applies the delete files again, so
 *           after a load a segment has them all, whatever happened before.
 * THREADS   One read-write lock over the table; readers take references under it and work outside.
 *           Files are opened outside of it: of two that load the same segment, one wins. Deletes of
 *           one collection are applied one call at a time (stripes of locks, by collection).
 * NOT HERE  Index files: qn_index.c.
 * FAILURE   A damaged file fails the load and is named; segments of the same call that were opened
 *           before are not kept, older ones stay.
 */
#include "node/query/qn_int.h"
#include "base/alloc.h"
#include "schema/errors.h"

#define DELTA_MEMORY_MAX ((size_t)4 << 30)
#define AHEAD_MEMORY_MAX ((size_t)64 << 20)

static void table_free(struct id_map *segs)
{
    size_t pos = 0;
    int64_t id;
    uint64_t v;

    while (id_map_next(segs, &pos, &id, &v)) {
        seg_unref((struct segment *)(uintptr_t)v);
    }
    id_map_free(segs);
}

static void coll_free(struct qn_coll *c)
{
    table_free(c->segs);
    table_free(c->loading);
    schema_unref(c->schema);
    mem_free(c);
}

int qn_new(const struct qn_opts *o, struct qn **ret_qn, struct status *st)
{
    struct qn *qn = xalloc(sizeof *qn);

    (void)st;
    qn->opts = *o;
    rwlock_init(&qn->lock, RANK_NODE_SHARD);
    for (size_t i = 0; i < QN_STRIPES; i++) {
        lock_init(&qn->deleting[i], RANK_NODE_FLUSH);
    }
    qn->colls = id_map_new();
    qn__indexes_new(qn);
    nd_measures_find(&qn->measures);
    qn->ahead = nd_ahead_new(AHEAD_MEMORY_MAX);
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
    qn__indexes_free(qn);
    nd_ahead_free(qn->ahead);
    while (id_map_next(qn->colls, &pos, &id, &v)) {
        coll_free((struct qn_coll *)(uintptr_t)v);
    }
    id_map_free(qn->colls);
    rwlock_done(&qn->lock);
    for (size_t i = 0; i < QN_STRIPES; i++) {
        lock_done(&qn->deleting[i]);
    }
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

/* A segment asked for by id and not here is an error: the shard believes it is served. Readers do
 * not see those still loading: a view from before a release could name them. */
static int pin(struct qn *qn, int64_t collection_id, const int64_t *ids, size_t nids, bool loading,
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
        struct segment *seg = loading ? qn__find(c, ids[i]) : id_map_ptr(c->segs, ids[i]);
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

/* ---- deletes ---- */

static int apply(struct qn *qn, int64_t collection_id, struct segment *seg,
                 const struct column *pks, const hts *ts, struct status *st)
{
    struct lock *l = &qn->deleting[(uint64_t)collection_id % QN_STRIPES];
    uint32_t hits;
    int rc;

    lock_acquire(l);
    rc = seg_delete(seg, pks, ts, pks->nrows, &hits, st);
    lock_release(l);
    return rc;
}

/* ---- loading ---- */

/* Replaces the collection's definition when it is newer; makes the entry when there is none. */
static int ensure_collection(struct qn *qn, const Elanus__Collection *coll,
                             struct schema **ret_schema, struct status *st)
{
    struct schema *schema = NULL;
    struct qn_coll *c;
    size_t pos = 0;
    int64_t id;
    uint64_t v;
    int rc;

    TRY(schema_new(coll->schema, &schema, st));
    rwlock_write(&qn->lock);
    c = id_map_ptr(qn->colls, coll->id);
    if (!c) {
        c = xalloc(sizeof *c);
        c->segs = id_map_new();
        c->loading = id_map_new();
        c->schema = schema_ref(schema);
        CHECK(id_map_put(qn->colls, coll->id, (uint64_t)(uintptr_t)c));
    }
    if (c->schema->version < schema->version) {
        schema_unref(c->schema);
        c->schema = schema_ref(schema);
        while (id_map_next(c->segs, &pos, &id, &v)) {
            seg_set_schema((struct segment *)(uintptr_t)v, schema);
        }
        pos = 0;
        while (id_map_next(c->loading, &pos, &id, &v)) {
            seg_set_schema((struct segment *)(uintptr_t)v, schema);
        }
    }
    *ret_schema = schema_ref(c->schema);
    rwlock_release(&qn->lock);
out:
    schema_unref(schema);
    return rc;
}

/* The segment when it is loaded, else opened and not in the table yet; referenced. */
static int open_one(struct qn *qn, const struct schema *schema, const Elanus__Segment *meta,
                    struct segment **ret, struct status *st)
{
    struct segment *seg = NULL;
    struct seg_info info;
    struct qn_coll *c;
    int rc = 0;

    rwlock_read(&qn->lock);
    c = id_map_ptr(qn->colls, meta->collection_id);
    seg = c ? qn__find(c, meta->id) : NULL;
    if (seg) {
        *ret = seg_ref(seg);
    }
    rwlock_release(&qn->lock);
    if (seg) {
        return 0;
    }
    TRY(seg_open(meta->id, meta->collection_id, meta->partition_id, schema, qn->opts.os,
                 meta->object_prefix, &seg, st));
    seg_get_info(seg, &info);
    if (info.nrows != meta->num_rows) {
        FAIL(st, ST_CORRUPT, "segment %lld has %u rows, metadata says %lld", (long long)meta->id,
             info.nrows, (long long)meta->num_rows);
    }
    *ret = TAKE(seg);
out:
    seg_unref(seg);
    return rc;
}

static bool concerns(const Elanus__Delta *d, const struct seg_info *info)
{
    if (d->max_ts <= info->min_ts) {
        return false; /* older than every row */
    }
    for (size_t i = 0; i < d->n_partition_ids; i++) {
        if (d->partition_ids[i] == info->partition_id) {
            return true;
        }
    }
    return d->n_partition_ids == 0;
}

/* Each file is read once, however many segments there are. */
static int apply_delta(struct qn *qn, const Elanus__Delta *d, struct segment *const *segs,
                       size_t nsegs, struct status *st)
{
    struct arena *ar = NULL;
    struct column pks;
    const hts *ts;
    int rc = 0;

    for (size_t i = 0; i < nsegs; i++) {
        struct seg_info info;
        seg_get_info(segs[i], &info);
        if (!concerns(d, &info)) {
            continue;
        }
        if (!ar) {
            ar = arena_new(DELTA_MEMORY_MAX);
            TRY(delta_read(qn->opts.os, d->object_key, ar, &pks, &ts, st));
        }
        TRY(apply(qn, info.collection_id, segs[i], &pks, ts, st));
    }
out:
    arena_free(ar);
    return rc;
}

/* Takes the references. The definition may have changed since the files were opened. */
static int put_in_table(struct qn *qn, int64_t collection_id, struct segment **segs, size_t nsegs,
                        struct status *st)
{
    struct qn_coll *c;
    int rc = 0;

    rwlock_write(&qn->lock);
    c = id_map_ptr(qn->colls, collection_id);
    if (!c) {
        FAIL(st, ERR_COLLECTION_NOT_LOADED, "collection %lld was released while loading",
             (long long)collection_id);
    }
    for (size_t i = 0; i < nsegs; i++) {
        struct seg_info info;
        struct segment *there;
        seg_get_info(segs[i], &info);
        there = qn__find(c, info.id);
        if (there && there != segs[i]) {
            rc = st_fail(st, ST_CONFLICT, "segment %lld was loaded by another call meanwhile",
                         (long long)info.id);
            st->retriable = true;
            goto out;
        }
        if (there) {
            continue;
        }
        if (seg_schema(segs[i]) != c->schema) {
            seg_set_schema(segs[i], c->schema);
        }
        CHECK(id_map_put(c->loading, info.id, (uint64_t)(uintptr_t)seg_ref(segs[i])));
    }
out:
    rwlock_release(&qn->lock);
    return rc;
}

static int do_load_segments(void *self, const struct call *call, const Elanus__LoadSegmentsReq *req,
                            Elanus__Empty *resp, struct status *st)
{
    struct segment **segs = arena_try_array(call->ar, req->n_segments + 1,
                                            sizeof(struct segment *));
    int64_t *ids = arena_try_array(call->ar, req->n_segments + 1, sizeof *ids);
    struct schema *schema = NULL;
    struct qn *qn = self;
    size_t n = 0;
    int rc = 0;

    (void)resp;
    if (!req->collection || !req->collection->schema) {
        return st_fail(st, ST_INVALID, "load_segments without a collection");
    }
    if (!segs || !ids) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %zu segments", req->n_segments);
    }
    TRY(ensure_collection(qn, req->collection, &schema, st));
    for (; n < req->n_segments; n++) {
        TRY(open_one(qn, schema, req->segments[n], &segs[n], st));
        ids[n] = req->segments[n]->id;
    }
    for (size_t i = 0; i < req->n_deltas; i++) {
        TRY(apply_delta(qn, req->deltas[i], segs, n, st));
    }
    TRY(put_in_table(qn, req->collection->id, segs, n, st));
    qn__indexes_want(qn, req->collection->id, ids, n);
out:
    for (size_t i = 0; i < n; i++) {
        seg_unref(segs[i]);
    }
    schema_unref(schema);
    return rc;
}

static int do_release_segments(void *self, const struct call *call,
                               const Elanus__ReleaseSegmentsReq *req, Elanus__Empty *resp,
                               struct status *st)
{
    struct qn *qn = self;
    struct qn_coll *c;
    struct segment **gone = arena_try_array(call->ar, req->n_segment_ids + 1,
                                            sizeof(struct segment *));
    size_t n = 0;

    (void)resp;
    if (!gone) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %zu segments", req->n_segment_ids);
    }
    rwlock_write(&qn->lock);
    c = id_map_ptr(qn->colls, req->collection_id);
    for (size_t i = 0; c && i < req->n_segment_ids; i++) {
        struct segment *seg = qn__find(c, req->segment_ids[i]);
        if (seg) {
            id_map_remove(c->segs, req->segment_ids[i]);
            id_map_remove(c->loading, req->segment_ids[i]);
            gone[n++] = seg;
        }
    }
    if (c && (req->n_segment_ids == 0 ||
              id_map_count(c->segs) + id_map_count(c->loading) == 0)) {
        id_map_remove(qn->colls, req->collection_id);
    } else {
        c = NULL;
    }
    rwlock_release(&qn->lock);
    for (size_t i = 0; i < n; i++) {
        seg_unref(gone[i]); /* unmaps: not under the lock */
    }
    if (c) {
        coll_free(c);
    }
    return 0;
}

/* ---- requests ---- */

/* From now on readers see them. */
static void serve_loaded(struct qn *qn, int64_t collection_id, const int64_t *ids, size_t n)
{
    struct qn_coll *c;

    rwlock_write(&qn->lock);
    c = id_map_ptr(qn->colls, collection_id);
    for (size_t i = 0; c && i < n; i++) {
        struct segment *seg = id_map_ptr(c->loading, ids[i]);
        if (seg) {
            id_map_remove(c->loading, ids[i]);
            CHECK(id_map_put(c->segs, ids[i], (uint64_t)(uintptr_t)seg));
        }
    }
    rwlock_release(&qn->lock);
}

static int do_apply_deletes(void *self, const struct call *call,
                            const Elanus__ApplyDeletesReq *req, Elanus__Empty *resp,
                            struct status *st)
{
    struct qn *qn = self;
    struct pinned p = { 0 };
    struct batch b = { 0 };
    int rc;

    (void)resp;
    TRY(pin(qn, req->collection_id, req->segment_ids, req->n_segment_ids, true, call->ar, &p, st));
    if (req->pks.len) {
        TRY(batch_decode(slice_n(req->pks.data, req->pks.len), call->ar, &b, st));
        if (b.ncols != 1 || b.nrows != req->n_timestamps) {
            FAIL(st, ST_INVALID, "%u keys with %zu timestamps", b.nrows, req->n_timestamps);
        }
    }
    for (size_t i = 0; b.nrows && i < p.n; i++) {
        TRY(apply(qn, req->collection_id, p.segs[i], &b.cols[0], req->timestamps, st));
    }
    if (req->activate) {
        serve_loaded(qn, req->collection_id, req->segment_ids, req->n_segment_ids);
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
    struct nd_known known = { .ahead = qn->ahead };
    int rc;

    TRY(pin(qn, req->collection_id, req->segment_ids, req->n_segment_ids, false, call->ar, &p, st));
    TRY(nd_search(p.segs, p.n, p.schema, req, &known, qn->opts.compute, call, resp, st));
    nd_measures_add(&qn->measures, resp->work);
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

    TRY(pin(qn, req->collection_id, req->segment_ids, req->n_segment_ids, false, call->ar, &p, st));
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
    TRY(pin(qn, req->collection_id, ids, nids, false, call->ar, &p, st));
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
    s->indexes = info.indexes;
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
        .refresh_indexes = qn__refresh_indexes,
    };
}
