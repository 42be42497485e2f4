/*
 * px_delete.c - Delete: by keys straight to the log, by any other filter through a query for keys.
 *
 * BY FILTER   Each shard's matching keys are read at one snapshot, a page of them at a time in key
 *             order, and deleted before the next page is read: memory does not depend on how many
 *             match. Rows written after the snapshot stay, unless they carry a key that matched.
 * COUNT       Keys given, or rows matched.
 * THREADS     A worker of the write class.
 */
#include "proxy/px_methods.h"
#include "proxy/px_plan.h"
#include "proxy/px_write.h"

/* Keys read at a time. */
#define PAGE_KEYS 400000u
#define PAGE_BYTES_MAX ((size_t)512 << 20)

struct filtered {
    const struct px_coll *coll;
    const struct expr *plan;
    int64_t *scope, *read;         /* partitions to delete in; to read: those that can match */
    size_t nscope, nread;
    hts snapshot;
    int64_t count;
    hts ts;
};

/* One page of one shard; io_last: where the last page ended. *ret_n keys were found. */
static int delete_page(struct px_call *pc, struct filtered *f, const struct px_shard *shard,
                       struct column *io_last, struct arena *last_ar, uint32_t *ret_n,
                       struct status *st)
{
    Elanus__QueryReq req;
    Elanus__QueryResp resp;
    const struct expr *plan = f->plan;
    const struct field *pk = f->coll->schema->pk;
    struct column_builder *cb;
    struct batch b;
    hts ts = 0;
    int rc, asked = 0;

    elanus__query_req__init(&req);
    if (io_last->nrows) {
        plan = px_plan_after(pc, f->coll, plan, io_last, 0);
    }
    TRY(px_plan_bytes(pc, plan, &req.plan, st));
    req.vchannel = shard->vchannel;
    req.collection_id = f->coll->pb->id;
    req.partition_ids = f->read;
    req.n_partition_ids = f->nread;
    req.limit = PAGE_KEYS;
    req.guarantee_ts = f->snapshot;
    req.read_ts = f->snapshot;
    do {
        elanus__query_resp__init(&resp);
        rc = shard->sn->query(shard->sn->self, &pc->call, &req, &resp, st);
    } while (px_shard_behind(pc, &asked, rc, st));
    if (rc != 0) {
        px_shard_failed(pc, f->coll, st);
        goto out;
    }
    *ret_n = 0;
    if (resp.count == 0) {
        goto out;
    }
    TRY(batch_decode(slice_n(resp.batch.data, resp.batch.len), pc->ar, &b, st));
    if (b.ncols == 0 || b.nrows == 0) {
        FAIL(st, ST_INTERNAL, "a shard's answer does not fit the request");
    }
    TRY(px_send_deletes(pc, f->coll, &b.cols[0], f->scope, f->nscope, &ts, st));
    f->ts = MAX(f->ts, ts);
    f->count += b.nrows;
    *ret_n = b.nrows;
    arena_reset(last_ar);
    cb = column_builder_new(last_ar, pk->id, pk->type, DT_NONE, 0, 1);
    if (!column_builder_take(cb, &b.cols[0], b.nrows - 1)) {
        FAIL(st, ST_NO_MEMORY, "no memory for a key");
    }
    column_builder_finish(cb, io_last);
out:
    return rc;
}

static int delete_shard(struct px_call *pc, struct filtered *f, const struct px_shard *shard,
                        struct status *st)
{
    struct arena *page = arena_new(PAGE_BYTES_MAX), *last_ar = arena_new(0);
    struct column last = { 0 };
    uint32_t n = PAGE_KEYS;
    int rc = 0;

    while (n == PAGE_KEYS) {
        struct px_call sub = *pc; /* the page's memory instead of the request's */
        arena_reset(page);
        sub.ar = sub.call.ar = page;
        sub.pins = NULL;
        rc = delete_page(&sub, f, shard, &last, last_ar, &n, st);
        px_call_done(&sub);
        TRY(rc);
    }
out:
    arena_free(page);
    arena_free(last_ar);
    return rc;
}

/* Deletes what matches the plan now. */
static int delete_matching(struct px_call *pc, struct filtered *f, struct status *st)
{
    struct px_shard *shards;
    size_t nshards;
    int rc;

    f->read = f->scope;
    f->nread = f->nscope;
    TRY(px_plan_partitions(pc, f->coll, f->plan, &f->read, &f->nread, st));
    TRY(px_now_ts(pc, &f->snapshot, st));
    TRY(px_shards(pc, f->coll, &shards, &nshards, st));
    for (size_t s = 0; s < nshards; s++) {
        TRY(delete_shard(pc, f, &shards[s], st));
    }
out:
    return rc;
}

/* Whoever wants all rows gone must say so in another way. */
static int check_plan(const struct expr *plan, const char *text, struct status *st)
{
    if (!plan || (plan->kind == EX_CONST && plan->value.b)) {
        return st_fail(st, ERR_PARAMETER_INVALID, "failed to create delete plan: delete plan can't "
                       "be empty or always true : %s", text);
    }
    return 0;
}

int px_delete(struct px_call *pc, const Milvus__Proto__Milvus__DeleteRequest *req,
              Milvus__Proto__Milvus__MutationResult *resp, struct status *st)
{
    struct filtered f = { 0 };
    const struct field *pk;
    struct px_template *templates;
    const struct value *list;
    size_t ntemplates;
    bool exact = false;
    int rc;

    TRY(px_collection(pc, req->db_name, req->collection_name, &f.coll, st));
    if (req->has_namespace_case != 0) {
        FAIL(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: namespaces are not supported");
    }
    TRY(px_write_scope(pc, f.coll, req->partition_name, true, &f.scope, &f.nscope, st));
    PX_TEMPLATES(pc, req, &templates, &ntemplates);
    TRY(px_plan_parse(pc, f.coll, req->expr, templates, ntemplates, "failed to create delete plan",
                      &f.plan, st));
    TRY(check_plan(f.plan, req->expr, st));
    pk = f.coll->schema->pk;
    list = plan_pk_list(f.plan, pk->id, &exact);
    if (list && exact) {
        struct column pks;
        TRY(px_plan_column(pc, pk, list, &pks, st));
        TRY(px_send_deletes(pc, f.coll, &pks, f.scope, f.nscope, &f.ts, st));
        f.count = pks.nrows;
    } else if (f.plan->kind != EX_CONST) { /* a constant that is false matches nothing */
        TRY(px_collection_loaded(pc, req->db_name, req->collection_name, &f.coll, st));
        TRY(delete_matching(pc, &f, st));
    }
    if (f.ts == 0) { /* nothing to delete: the answer still carries a time to read at */
        TRY(px_now_ts(pc, &f.ts, st));
    }
    resp->delete_cnt = f.count;
    resp->acknowledged = true;
    resp->timestamp = f.ts;
out:
    return rc;
}
