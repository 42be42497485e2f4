/*
 * px_query.c - Query: rows by filter, by key order; and their number.
 */
#include "proxy/px_methods.h"
#include "base/utf8.h"
#include "proxy/px_read.h"
#include <inttypes.h>

struct query_params {
    int64_t limit, offset;        /* limit -1: none given */
    bool ignore_growing, iterator;
};

static int int_param(const char *key, const char *text, int64_t *ret, struct status *st)
{
    if (text && !parse_i64(slice_of(text), ret)) {
        return st_fail(st, ERR_PARAMETER_INVALID, "%s [%s] is invalid, it should be an "
                                                  "integer", key,
                       text);
    }
    return 0;
}

static int read_params(struct px_call *pc, const Milvus__Proto__Milvus__QueryRequest *req,
                       struct query_params *p, struct status *st)
{
    static const char *const unserved[] = { "group_by_fields", "order_by_fields" };
    int64_t window = pc->px->lim.max_query_window;
    const char *v;
    int rc;

    *p = (struct query_params){ .limit = -1 };
    for (size_t i = 0; i < ARRAY_LEN(unserved); i++) {
        v = px_kv(req->n_query_params, req->query_params, unserved[i]);
        if (v && *v) {
            FAIL(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: query parameter %s is not "
                 "supported", unserved[i]);
        }
    }
    TRY(int_param("limit", px_kv(req->n_query_params, req->query_params, "limit"), &p->limit, st));
    TRY(int_param("offset", px_kv(req->n_query_params, req->query_params, "offset"), &p->offset,
                  st));
    v = px_kv(req->n_query_params, req->query_params, "ignore_growing");
    (void)(v && parse_bool(slice_of(v), &p->ignore_growing));
    v = px_kv(req->n_query_params, req->query_params, "iterator");
    (void)(v && parse_bool(slice_of(v), &p->iterator));
    if (p->limit < 0) { /* an offset means nothing without a limit */
        p->offset = 0;
    }
    if (p->limit <= 0 && p->limit != -1) {
        FAIL(st, ERR_PARAMETER_INVALID, "limit [%" PRId64 "] is invalid, should be greater than 0",
             p->limit);
    }
    if (p->offset < 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "offset [%" PRId64 "] is invalid, should be greater than "
             "or equal to 0", p->offset);
    }
    if (p->iterator) { /* a page larger than any answer is a page as large as one */
        p->limit = MIN(p->limit, window);
        window *= 2;
    }
    if (p->limit >= 0 && (p->limit > window || p->offset > window - p->limit)) {
        FAIL(st, ERR_PARAMETER_INVALID, "invalid max query result window, (offset+limit) should be "
             "in range [1, %" PRId64 "], but got %" PRId64, window,
             p->offset > INT64_MAX - p->limit ? INT64_MAX : p->offset + p->limit);
    }
out:
    return rc;
}

static bool is_count(const Milvus__Proto__Milvus__QueryRequest *req)
{
    return req->n_output_fields == 1 && strcasecmp(req->output_fields[0], "count(*)") == 0;
}

static void fill_count(struct px_call *pc, int64_t count,
                       Milvus__Proto__Milvus__QueryResults *resp)
{
    Milvus__Proto__Schema__FieldData *fd = ARENA_NEW(pc->ar, Milvus__Proto__Schema__FieldData);
    Milvus__Proto__Schema__ScalarField *sf = ARENA_NEW(pc->ar, Milvus__Proto__Schema__ScalarField);
    Milvus__Proto__Schema__LongArray *la = ARENA_NEW(pc->ar, Milvus__Proto__Schema__LongArray);

    milvus__proto__schema__field_data__init(fd);
    milvus__proto__schema__scalar_field__init(sf);
    milvus__proto__schema__long_array__init(la);
    la->data = arena_alloc(pc->ar, sizeof(int64_t));
    la->data[0] = count;
    la->n_data = 1;
    sf->data_case = MILVUS__PROTO__SCHEMA__SCALAR_FIELD__DATA_LONG_DATA;
    sf->long_data = la;
    fd->type = MILVUS__PROTO__SCHEMA__DATA_TYPE__Int64;
    fd->field_name = "count(*)";
    fd->field_case = MILVUS__PROTO__SCHEMA__FIELD_DATA__FIELD_SCALARS;
    fd->scalars = sf;
    resp->fields_data = arena_alloc(pc->ar, sizeof *resp->fields_data);
    resp->fields_data[0] = fd;
    resp->n_fields_data = 1;
    resp->output_fields = arena_alloc(pc->ar, sizeof *resp->output_fields);
    resp->output_fields[0] = "count(*)";
    resp->n_output_fields = 1;
}

/* Rows behind the offset. */
static int fill_rows(struct px_call *pc, const struct px_coll *coll, const struct px_output *out,
                     const struct px_rows *got, int64_t offset,
                     Milvus__Proto__Milvus__QueryResults *resp, struct status *st)
{
    uint32_t skip = (uint32_t)MIN(offset, (int64_t)got->rows.nrows);
    uint32_t n = got->rows.nrows - skip;
    uint32_t *rows = NULL;
    int rc;

    if (skip) {
        rows = arena_try_array(pc->ar, n + 1u, sizeof *rows);
        if (!rows) {
            return st_fail(st, ERR_PARAMETER_TOO_LARGE, "no memory for %u rows", n);
        }
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = skip + i;
        }
    }
    TRY(px_fill_fields(pc, coll, out, &got->rows, rows, n, &resp->fields_data,
                       &resp->n_fields_data, st));
    resp->output_fields = out->names;
    resp->n_output_fields = out->nnames;
    resp->primary_field_name = coll->schema->pk->name;
out:
    return rc;
}

int px_query(struct px_call *pc, const Milvus__Proto__Milvus__QueryRequest *req,
             Milvus__Proto__Milvus__QueryResults *resp, struct status *st)
{
    const struct px_coll *coll;
    struct query_params p;
    struct px_template *templates;
    const struct expr *plan = NULL;
    struct px_output out = { 0 };
    struct px_rows got;
    Elanus__QueryReq sreq;
    size_t ntemplates;
    bool count = is_count(req);
    int rc;

    elanus__query_req__init(&sreq);
    TRY(px_collection_loaded(pc, req->db_name, req->collection_name, &coll, st));
    if (req->has_namespace_case != 0) {
        FAIL(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: namespaces are not supported");
    }
    TRY(read_params(pc, req, &p, st));
    PX_TEMPLATES(pc, req, &templates, &ntemplates);
    TRY(px_plan_parse(pc, coll, req->expr, templates, ntemplates, "failed to create query plan",
                      &plan, st));
    if (count && p.limit >= 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "count entities with pagination is not allowed");
    }
    if (!plan && !count && p.limit < 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "empty expression should be used with limit");
    }
    TRY(px_partition_ids(pc, coll, req->n_partition_names, req->partition_names,
                         &sreq.partition_ids, &sreq.n_partition_ids, st));
    TRY(px_plan_partitions(pc, coll, plan, &sreq.partition_ids, &sreq.n_partition_ids, st));
    if (!count) {
        TRY(px_output_fields(pc, coll, req->n_output_fields, req->output_fields, true, &out, st));
    }
    TRY(px_plan_bytes(pc, plan, &sreq.plan, st));
    TRY(px_guarantee(pc, coll, (int)req->consistency_level, req->use_default_consistency,
                     req->guarantee_timestamp, p.iterator, &sreq.guarantee_ts, &sreq.read_ts, st));
    sreq.collection_id = coll->pb->id;
    sreq.output_field_ids = out.field_ids;
    sreq.n_output_field_ids = out.nfields;
    sreq.limit = p.limit < 0 ? -1 : p.limit + p.offset;
    sreq.count_only = count;
    sreq.ignore_growing = p.ignore_growing;
    sreq.max_bytes = pc->px->lim.max_output_bytes;
    TRY(px_query_shards(pc, coll, &sreq, plan, NULL, &got, st));
    resp->collection_name = coll->pb->name;
    resp->session_ts = got.read_ts;
    if (count) {
        fill_count(pc, got.count, resp);
    } else {
        TRY(fill_rows(pc, coll, &out, &got, p.offset, resp, st));
    }
out:
    return rc;
}
