/*
 * px_flush.c - flushing collections, and whether it is done.
 *
 * Rows are durable before a flush (the log has them); flushing moves them into segment files.
 * THREADS  Workers.
 */
#include "base/alloc.h"
#include "proxy/px_methods.h"

static Milvus__Proto__Schema__LongArray *long_array(struct arena *ar, int64_t *v, size_t n)
{
    Milvus__Proto__Schema__LongArray *a = ARENA_NEW(ar, Milvus__Proto__Schema__LongArray);

    milvus__proto__schema__long_array__init(a);
    a->data = v;
    a->n_data = n;
    return a;
}

/* One entry of each of the response's maps. */
static void add_result(struct arena *ar, PX_PB(FlushResponse) *resp, const char *name,
                       const Elanus__FlushResult *res)
{
    size_t i = resp->n_coll_segids;
    PX_PB(FlushResponse__CollSegIDsEntry) *seg = ARENA_NEW(ar,
                                                           PX_PB(FlushResponse__CollSegIDsEntry));
    PX_PB(FlushResponse__FlushCollSegIDsEntry) *flushed =
        ARENA_NEW(ar, PX_PB(FlushResponse__FlushCollSegIDsEntry));
    PX_PB(FlushResponse__CollSealTimesEntry) *seal =
        ARENA_NEW(ar, PX_PB(FlushResponse__CollSealTimesEntry));
    PX_PB(FlushResponse__CollFlushTsEntry) *ts = ARENA_NEW(ar,
                                                           PX_PB(FlushResponse__CollFlushTsEntry));

    milvus__proto__milvus__flush_response__coll_seg_ids_entry__init(seg);
    milvus__proto__milvus__flush_response__flush_coll_seg_ids_entry__init(flushed);
    milvus__proto__milvus__flush_response__coll_seal_times_entry__init(seal);
    milvus__proto__milvus__flush_response__coll_flush_ts_entry__init(ts);
    seg->key = flushed->key = seal->key = ts->key = name;
    seg->value = long_array(ar, res->sealed_segment_ids, res->n_sealed_segment_ids);
    flushed->value = long_array(ar, res->flushed_segment_ids, res->n_flushed_segment_ids);
    seal->value = hts_physical_ms(res->flush_ts) / 1000;
    ts->value = res->flush_ts;
    resp->coll_segids[i] = seg;
    resp->flush_coll_segids[i] = flushed;
    resp->coll_seal_times[i] = seal;
    resp->coll_flush_ts[i] = ts;
    resp->n_coll_segids = resp->n_flush_coll_segids = i + 1;
    resp->n_coll_seal_times = resp->n_coll_flush_ts = i + 1;
}

static int flush_ids(struct px_call *pc, int64_t *ids, size_t n, Elanus__FlushResp *ret,
                     struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__FlushReq r = ELANUS__FLUSH_REQ__INIT;
    int rc;

    r.collection_ids = ids;
    r.n_collection_ids = n;
    TRY(data->flush(data->self, &pc->call, &r, ret, st));
    if (ret->n_results != n) {
        FAIL(st, ST_INTERNAL, "%zu collections flushed, %zu asked for", ret->n_results, n);
    }
out:
    return rc;
}

int px_flush(struct px_call *pc, const PX_PB(FlushRequest) *req, PX_PB(FlushResponse) *resp,
             struct status *st)
{
    Elanus__FlushResp done = ELANUS__FLUSH_RESP__INIT;
    size_t n = req->n_collection_names;
    struct arena *ar = pc->ar;
    const struct px_coll *coll;
    int64_t *ids;
    int rc = 0;

    if (n == 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "no collection to flush is named");
    }
    ids = arena_try_array(ar, n, sizeof ids[0]);
    resp->coll_segids = arena_try_array(ar, n, sizeof resp->coll_segids[0]);
    resp->flush_coll_segids = arena_try_array(ar, n, sizeof resp->flush_coll_segids[0]);
    resp->coll_seal_times = arena_try_array(ar, n, sizeof resp->coll_seal_times[0]);
    resp->coll_flush_ts = arena_try_array(ar, n, sizeof resp->coll_flush_ts[0]);
    if (!ids || !resp->coll_segids || !resp->flush_coll_segids || !resp->coll_seal_times ||
        !resp->coll_flush_ts) {
        FAIL(st, ST_NO_MEMORY, "%zu collections are too many for one flush", n);
    }
    for (size_t i = 0; i < n; i++) {
        TRY(px_collection(pc, req->db_name, req->collection_names[i], &coll, st));
        ids[i] = coll->pb->id;
    }
    TRY(flush_ids(pc, ids, n, &done, st));
    resp->db_name = px_db(pc, req->db_name);
    for (size_t i = 0; i < n; i++) {
        add_result(ar, resp, req->collection_names[i], done.results[i]);
        px_saw_ts(pc->px, done.results[i]->flush_ts);
    }
out:
    return rc;
}

int px_get_flush_state(struct px_call *pc, const PX_PB(GetFlushStateRequest) *req,
                       PX_PB(GetFlushStateResponse) *resp, struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__FlushStateReq r = ELANUS__FLUSH_STATE_REQ__INIT;
    Elanus__FlushStateResp state = ELANUS__FLUSH_STATE_RESP__INIT;
    const struct px_coll *coll;
    int rc = 0;

    if (req->collection_name[0] != '\0') {
        TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
        r.collection_id = coll->pb->id;
    } else {
        r.all = true; /* segments alone, from old clients: wait for whatever is on its way */
    }
    r.segment_ids = req->segmentids;
    r.n_segment_ids = req->n_segmentids;
    r.flush_ts = req->flush_ts;
    TRY(data->flush_state(data->self, &pc->call, &r, &state, st));
    resp->flushed = state.flushed;
out:
    return rc;
}

/* ---- everything ---- */

struct ids {
    int64_t *v; /* heap */
    size_t n, cap;
};

static void add_id(struct ids *l, int64_t id)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->v = xrealloc(l->v, l->cap * sizeof l->v[0]);
    }
    l->v[l->n++] = id;
}

/* Every collection of a database. */
static int collect_db(struct px_call *pc, const char *db, struct ids *ret, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__ListCollectionsReq r = ELANUS__LIST_COLLECTIONS_REQ__INIT;
    Elanus__CollectionList list = ELANUS__COLLECTION_LIST__INIT;
    int rc;

    r.db_name = db;
    TRY(root->list_collections(root->self, &pc->call, &r, &list, st));
    for (size_t i = 0; i < list.n_collections; i++) {
        add_id(ret, list.collections[i]->collection->id);
    }
out:
    return rc;
}

static int collect_all(struct px_call *pc, struct ids *ret, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    Elanus__DatabaseList dbs = ELANUS__DATABASE_LIST__INIT;
    int rc;

    TRY(root->list_databases(root->self, &pc->call, &empty, &dbs, st));
    for (size_t i = 0; i < dbs.n_databases; i++) {
        TRY(collect_db(pc, dbs.databases[i]->name, ret, st));
    }
out:
    return rc;
}

static int collect_target(struct px_call *pc, const PX_PB(FlushAllTarget) *t, struct ids *ret,
                          struct status *st)
{
    const char *db = px_db(pc, t->db_name);
    const struct px_coll *coll;
    int rc = 0;

    if (t->n_collection_names == 0) {
        return collect_db(pc, db, ret, st);
    }
    for (size_t i = 0; i < t->n_collection_names; i++) {
        TRY(px_collection(pc, db, t->collection_names[i], &coll, st));
        add_id(ret, coll->pb->id);
    }
out:
    return rc;
}

int px_flush_all(struct px_call *pc, const PX_PB(FlushAllRequest) *req,
                 PX_PB(FlushAllResponse) *resp, struct status *st)
{
    Elanus__FlushResp done = ELANUS__FLUSH_RESP__INIT;
    struct ids ids = { 0 };
    hts now;
    int rc = 0;

    if (req->n_flush_targets > 0) {
        for (size_t i = 0; i < req->n_flush_targets; i++) {
            TRY(collect_target(pc, req->flush_targets[i], &ids, st));
        }
    } else if (req->db_name[0] != '\0') {
        TRY(collect_db(pc, req->db_name, &ids, st));
    } else {
        TRY(collect_all(pc, &ids, st));
    }
    if (ids.n > 0) {
        TRY(flush_ids(pc, ids.v, ids.n, &done, st));
    }
    /* After the seals: everything sealed by this call is older. */
    TRY(px_now_ts(pc, &now, st));
    resp->flush_all_ts = now;
out:
    mem_free(ids.v);
    return rc;
}

int px_get_flush_all_state(struct px_call *pc, const PX_PB(GetFlushAllStateRequest) *req,
                           PX_PB(GetFlushAllStateResponse) *resp, struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__FlushStateReq r = ELANUS__FLUSH_STATE_REQ__INIT;
    Elanus__FlushStateResp state = ELANUS__FLUSH_STATE_RESP__INIT;
    int rc;

    r.all = true;
    r.flush_ts = req->flush_all_ts;
    for (size_t i = 0; i < req->n_flush_all_tss; i++) {
        r.flush_ts = MAX(r.flush_ts, req->flush_all_tss[i]->value);
    }
    TRY(data->flush_state(data->self, &pc->call, &r, &state, st));
    resp->flushed = state.flushed;
out:
    return rc;
}
