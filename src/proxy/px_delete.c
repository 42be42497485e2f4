/*
 * px_delete.c - Delete: by keys straight to the log, by any other filter through a query for keys.
 *
 * THREADS   A worker of the write class.
 */
#include "proxy/px_methods.h"
#include "proxy/px_plan.h"
#include "proxy/px_write.h"

/* Keys in one log record; more go in several records. */
#define DELETE_KEYS_MAX 100000u

/* Deletes what matches the plan now; *ret_count rows. */
static int delete_matching(struct px_call *pc, const struct px_coll *coll,
                           const struct expr *plan, int64_t *partitions, size_t npartitions,
                           int64_t *ret_count, hts *ret_ts, struct status *st)
{
    Elanus__QueryReq req;
    struct px_shard *shards;
    size_t nshards;
    hts now;
    int rc;

    elanus__query_req__init(&req);
    TRY(px_now_ts(pc, &now, st));
    TRY(px_plan_bytes(pc, plan, &req.plan, st));
    TRY(px_shards(pc, coll, &shards, &nshards, st));
    req.collection_id = coll->pb->id;
    req.partition_ids = partitions;
    req.n_partition_ids = npartitions;
    req.limit = -1;
    req.guarantee_ts = now;
    for (size_t s = 0; s < nshards; s++) {
        Elanus__QueryResp resp;
        struct batch b;
        elanus__query_resp__init(&resp);
        req.vchannel = shards[s].vchannel;
        TRY(shards[s].sn->query(shards[s].sn->self, &pc->call, &req, &resp, st));
        if (resp.count == 0) {
            continue;
        }
        TRY(batch_decode(slice_n(resp.batch.data, resp.batch.len), pc->ar, &b, st));
        for (uint32_t at = 0; at < b.nrows; at += DELETE_KEYS_MAX) {
            uint32_t n = MIN(DELETE_KEYS_MAX, b.nrows - at);
            uint32_t *rows = arena_try_array(pc->ar, n, sizeof *rows);
            struct column pks;
            hts ts;
            for (uint32_t i = 0; rows && i < n; i++) {
                rows[i] = at + i;
            }
            if (!rows || !column_select(&b.cols[0], rows, n, pc->ar, &pks)) {
                FAIL(st, ERR_PARAMETER_TOO_LARGE, "the filter matches more rows than one delete "
                     "can hold in memory: delete in smaller ranges");
            }
            struct px_write w = { .coll = coll, .delete_pks = &pks,
                                  .delete_partitions = partitions,
                                  .ndelete_partitions = npartitions };
            TRY(px_send_writes(pc, &w, &ts, st));
            *ret_ts = MAX(*ret_ts, ts);
        }
        *ret_count += b.nrows;
    }
out:
    return rc;
}

int px_delete(struct px_call *pc, const Milvus__Proto__Milvus__DeleteRequest *req,
              Milvus__Proto__Milvus__MutationResult *resp, struct status *st)
{
    const struct px_coll *coll;
    struct px_template *templates;
    const struct expr *plan = NULL;
    const struct value *list;
    const char *name = req->partition_name;
    int64_t *partitions = NULL;
    size_t ntemplates, npartitions = 0;
    bool exact = false;
    hts ts = 0;
    int rc;

    TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    if (req->has_namespace_case != 0) {
        FAIL(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: namespaces are not supported");
    }
    if (*name) {
        TRY(px_partition_ids(pc, coll, 1, &name, &partitions, &npartitions, st));
    }
    PX_TEMPLATES(pc, req, &templates, &ntemplates);
    TRY(px_plan_parse(pc, coll, req->expr, templates, ntemplates, "failed to create delete plan",
                      &plan, st));
    if (!plan) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "failed to create delete plan: delete plan can't be empty or always true: expr is empty");
    }
    list = plan_pk_list(plan, coll->schema->pk->id, &exact);
    if (list && exact) {
        struct column pks;
        TRY(px_plan_pk_column(pc, coll, list, &pks, st));
        if (pks.nrows) {
            struct px_write w = { .coll = coll, .delete_pks = &pks,
                                  .delete_partitions = partitions,
                                  .ndelete_partitions = npartitions };
            TRY(px_send_writes(pc, &w, &ts, st));
        }
        resp->delete_cnt = pks.nrows;
    } else {
        TRY(px_collection_loaded(pc, req->db_name, req->collection_name, &coll, st));
        TRY(delete_matching(pc, coll, plan, partitions, npartitions, &resp->delete_cnt, &ts, st));
    }
    if (ts == 0) { /* nothing to delete: the answer still carries a time to read at */
        TRY(px_now_ts(pc, &ts, st));
    }
    resp->acknowledged = true;
    resp->timestamp = ts;
out:
    return rc;
}
