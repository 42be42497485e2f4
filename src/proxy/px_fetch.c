/*
 * px_fetch.c - rows by key: what a search found, what an upsert changes, what an id stands for.
 *
 * WHAT      One query "key in (...)" at a snapshot. Its answer is sorted by key, so that each key
 *           finds its row by bisection.
 * THREADS   Any.
 */
#include "proxy/px_read.h"

/* The row of key pks[i] in keys (ascending), or PX_NO_ROW. */
static uint32_t find_key(const struct column *keys, const struct column *pks, uint32_t i)
{
    uint32_t lo = 0, hi = keys->nrows;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = pk_cmp(keys, mid, pks, i);
        if (c == 0) {
            return mid;
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return PX_NO_ROW;
}

int px_fetch(struct px_call *pc, const struct px_coll *coll, const struct px_fetch *f,
             struct batch *ret_rows, uint32_t **ret_at, struct status *st)
{
    uint32_t *at = arena_try_array(pc->ar, f->pks->nrows + 1u, sizeof *at);
    const struct column *keys;
    const struct expr *plan;
    Elanus__QueryReq req;
    struct px_rows got = { 0 };
    int rc = 0;

    elanus__query_req__init(&req);
    if (!at) {
        FAIL(st, ERR_PARAMETER_TOO_LARGE, "no memory for %u keys", f->pks->nrows);
    }
    if (f->pks->nrows) {
        TRY(px_plan_pk_in(pc, coll, f->pks, &plan, st));
        TRY(px_plan_bytes(pc, plan, &req.plan, st));
        req.collection_id = coll->pb->id;
        req.partition_ids = f->partition_ids;
        req.n_partition_ids = f->npartitions;
        req.output_field_ids = f->field_ids;
        req.n_output_field_ids = f->nfields;
        req.limit = -1;
        req.guarantee_ts = f->guarantee_ts;
        req.max_bytes = f->max_bytes;
        TRY(px_query_shards(pc, coll, &req, plan, f->snapshot, &got, st));
    }
    keys = batch_column(&got.rows, coll->schema->pk->id);
    for (uint32_t i = 0; i < f->pks->nrows; i++) {
        at[i] = keys ? find_key(keys, f->pks, i) : PX_NO_ROW;
    }
    *ret_rows = got.rows;
    *ret_at = at;
out:
    return rc;
}
