/*
 * px_search.c - Search: parameters, vectors, plan; fan-out; scores and fields of the answer.
 */
#include "proxy/px_methods.h"
#include "proto/proto.h"
#include "proxy/px_index_params.h"
#include "proxy/px_read.h"
#include "schema/field_data.h"
#include <inttypes.h>
#include <math.h>

#define LOG_ROOM "proxy"
#include "base/log.h"

static int no_memory(struct status *st)
{
    return st_fail(st, ERR_PARAMETER_TOO_LARGE, "the answer needs more memory than a request may "
                   "use: ask for less at a time");
}

/* ---- what to search ---- */

static int pick_field(struct px_search *s, struct status *st)
{
    const struct px_coll *coll = s->coll;

    if (!s->sp.anns_field) {
        if (coll->nvectors != 1) {
            return st_fail(st, ERR_PARAMETER_INVALID,
                           "multiple anns_fields exist, please specify a anns_field in "
                           "search_params");
        }
        s->field = coll->first_vector;
        return 0;
    }
    s->field = schema_field_by_name(coll->schema, slice_of(s->sp.anns_field));
    if (!s->field) {
        return st_fail(st, ERR_PARAMETER_INVALID, "failed to get field schema by name: "
                       "fieldName(%s) not found", s->sp.anns_field);
    }
    if (!dtype_is_vector(s->field->type)) {
        return st_fail(st, ERR_PARAMETER_INVALID, "field (%s) to search is not of vector data type",
                       s->sp.anns_field);
    }
    return 0;
}

static int pick_metric(struct px_search *s, struct status *st)
{
    const Elanus__Index *idx = px_index_of(s->coll, s->field->id);
    const char *metric = idx ? px_index_param(idx, "metric_type") : NULL;

    if (!metric) {
        return st_fail(st, ERR_INDEX_NOT_FOUND, "index not found[fieldName=%s]: create one and "
                       "load the collection", s->field->name);
    }
    if (s->sp.metric && strcasecmp(s->sp.metric, metric) != 0) {
        return st_fail(st, ERR_PARAMETER_INVALID, "metric type not match: invalid parameter"
                       "[expected=%s][actual=%s]", metric, s->sp.metric);
    }
    s->metric = px_metric_parse(metric);
    if (s->metric < 0) {
        return st_fail(st, ERR_SEGCORE_UNSUPPORTED, "searches by metric %s are not "
                                                    "supported", metric);
    }
    if (s->sp.has_radius && s->sp.has_range_filter) {
        bool down = px_metric_descends(s->metric);
        if (down ? s->sp.range_filter <= s->sp.radius : s->sp.range_filter >= s->sp.radius) {
            return st_fail(st, ERR_PARAMETER_INVALID, "metric type %s, range_filter(%g) must be %s "
                           "radius(%g)", metric, s->sp.range_filter,
                           down ? "greater than" : "less than", s->sp.radius);
        }
    }
    return 0;
}

static int read_vectors(struct px_call *pc, const Milvus__Proto__Milvus__SearchRequest *req,
                        const struct field *f, Elanus__SearchReq *sreq, struct status *st)
{
    Milvus__Proto__Common__PlaceholderGroup *pg;
    const Milvus__Proto__Common__PlaceholderValue *pv;
    int64_t max = pc->px->lim.max_nq;
    struct slice queries;

    pg = req->search_input_case ==
                 MILVUS__PROTO__MILVUS__SEARCH_REQUEST__SEARCH_INPUT_PLACEHOLDER_GROUP
             ? proto_unpack_borrow(&milvus__proto__common__placeholder_group__descriptor,
                                   slice_n(req->placeholder_group.data, req->placeholder_group.len),
                                   pc->ar, st)
             : NULL;
    if (!pg || pg->n_placeholders == 0) {
        return st_fail(st, ERR_PARAMETER_INVALID, "placeholder_group holds no query vectors%s%s",
                       st->code ? ": " : "", st->code ? st->msg : "");
    }
    pv = pg->placeholders[0];
    if (pv->n_values == 0 || (int64_t)pv->n_values > max) {
        return st_fail(st, ERR_PARAMETER_INVALID, "nq (number of search vector per search request) "
                       "should be in range [1, %" PRId64 "], but got %zu", max, pv->n_values);
    }
    int rc = queries_from_placeholder(f, (int)pv->type, pv->n_values, pv->values, pc->ar, &queries,
                                      &sreq->nq, st);
    if (rc == 0) {
        sreq->queries = (ProtobufCBinaryData){ .data = (uint8_t *)(uintptr_t)queries.p,
                                               .len = queries.n };
    }
    return rc;
}

static bool by_ids(const Milvus__Proto__Milvus__SearchRequest *req)
{
    return req->search_input_case == MILVUS__PROTO__MILVUS__SEARCH_REQUEST__SEARCH_INPUT_IDS;
}

static int check_unserved(const Milvus__Proto__Milvus__SearchRequest *req, struct status *st)
{
    bool rerank = req->function_score && req->function_score->n_functions;
    const char *what = rerank                       ? "function_score (rerankers)"
                       : req->highlighter           ? "highlighter"
                       : req->search_aggregation    ? "search_aggregation"
                       : req->n_function_chains     ? "function_chains"
                       : req->n_sub_reqs            ? "sub_reqs"
                       : req->has_namespace_case    ? "namespaces"
                                                    : NULL;
    if (what) {
        return st_fail(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: %s not supported in "
                                                      "a search",
                       what);
    }
    return 0;
}

/* What the field's index has to know; keys of other types are ignored, as the API does. */
static int pick_index_params(struct px_call *pc, struct px_search *s, struct status *st)
{
    const Elanus__Index *idx = px_index_of(s->coll, s->field->id);
    const char *type = px_index_param(idx, "index_type");
    struct px_kv_list list = { 0 };
    int rc = 0;

    /* A row that a page of an iterator misses would never come. */
    s->req.exact = s->sp.iterator || !type || strcmp(type, "FLAT") == 0 ||
                   strcmp(type, "BIN_FLAT") == 0;
    if (s->sp.has_inner && type) {
        TRY(px_index_search_params(type, &s->sp.inner, pc->ar, &list, st));
    }
    s->req.index_params = list.kv;
    s->req.n_index_params = list.n;
out:
    return rc;
}

/* Everything but queries and k. */
static int prepare(struct px_call *pc, const Milvus__Proto__Milvus__SearchRequest *req,
                   bool with_fields, struct px_search *s, struct status *st)
{
    struct px_template *templates;
    const struct expr *plan = NULL;
    size_t ntemplates;
    int rc;

    elanus__search_req__init(&s->req);
    TRY(px_collection_loaded(pc, req->db_name, req->collection_name, &s->coll, st));
    TRY(check_unserved(req, st));
    TRY(px_search_params(pc, req->n_search_params, req->search_params, &s->sp, st));
    TRY(pick_field(s, st));
    TRY(pick_metric(s, st));
    TRY(pick_index_params(pc, s, st));
    if (s->sp.group_by) {
        TRY(px_group_field(s, st));
    }
    PX_TEMPLATES(pc, req, &templates, &ntemplates);
    TRY(px_plan_parse(pc, s->coll, req->dsl, templates, ntemplates, "failed to create query plan",
                      &plan, st));
    TRY(px_plan_bytes(pc, plan, &s->req.plan, st));
    TRY(px_partition_ids(pc, s->coll, req->n_partition_names, req->partition_names,
                         &s->req.partition_ids, &s->req.n_partition_ids, st));
    TRY(px_plan_partitions(pc, s->coll, plan, &s->req.partition_ids, &s->req.n_partition_ids, st));
    if (with_fields) {
        TRY(px_output_fields(pc, s->coll, req->n_output_fields, req->output_fields, false, &s->out,
                             st));
    }
    s->req.collection_id = s->coll->pb->id;
    s->req.field_id = s->field->id;
    s->req.metric = s->metric;
    s->req.has_radius = s->sp.has_radius;
    s->req.radius = (float)s->sp.radius;
    s->req.has_range_filter = s->sp.has_range_filter;
    s->req.range_filter = (float)s->sp.range_filter;
    s->req.has_bound = s->sp.has_bound;
    s->req.bound = s->sp.bound;
    s->req.ignore_growing = s->sp.ignore_growing;
    s->req.output_field_ids = s->out.field_ids;
    s->req.n_output_field_ids = s->out.nfields;
out:
    return rc;
}

/* On a net thread: only what is known to be short. */
static int check_short(const struct px_call *pc, const Milvus__Proto__Milvus__SearchRequest *req,
                       const struct px_search *s, struct status *st)
{
    if (pc->call.no_wait &&
        (by_ids(req) || s->group || s->sp.iter_v2 || !px_kind_is_short(px_search_kind(s)))) {
        return st_fail(st, ST_WOULD_WAIT, "a search that may take long");
    }
    return 0;
}

/* What is before and after the search itself is short. */
static int search_timed(struct px_call *pc, struct px_search *s, struct status *st)
{
    struct px_kind kind = px_search_kind(s);
    int64_t began_us = clock_mono_us();
    int rc;

    pc->call.expect_us = px_kind_us(kind);
    TRY(px_search_shards(pc, s->coll, &s->req, s->snapshot, &s->hits, st));
    px_kind_took(kind, clock_mono_us() - began_us);
out:
    pc->call.expect_us = 0;
    return rc;
}

/* The answer's rows of an ungrouped search: hits offset .. offset + limit - 1 of every query. */
static int slice_hits(struct px_call *pc, struct px_search *s, struct status *st)
{
    const struct px_hits *h = &s->hits;
    bool all = true;
    uint32_t at = 0;

    s->rows = arena_try_array(pc->ar, h->total + 1, sizeof *s->rows);
    s->topks = arena_try_array(pc->ar, h->nq, sizeof *s->topks);
    if (!s->rows || !s->topks) {
        return no_memory(st);
    }
    for (uint32_t q = 0; q < h->nq; q++) {
        int64_t found = (int64_t)h->counts[q] - s->sp.offset;
        s->topks[q] = MAX((int64_t)0, MIN(found, s->sp.topk));
        for (int64_t i = 0; i < s->topks[q]; i++) {
            s->rows[s->nrows++] = at + (uint32_t)(s->sp.offset + i);
        }
        at += h->counts[q];
        all = all && s->topks[q] == (int64_t)h->counts[q];
    }
    s->fields = h->fields;
    s->field_rows = all && s->nrows == h->total ? NULL : s->rows; /* NULL: nothing is copied */
    return 0;
}

/* enum index_strategy of index/ann.h, which is not the proxy's to include. */
static const char *strategies(uint64_t bits, struct arena *ar)
{
    static const char *const names[] = { NULL,    "flat",   "scan",  "clusters",
                                         "graph", "graph2", "lists", "trees" };
    const char *text = "";

    for (size_t i = 1; i < ARRAY_LEN(names); i++) {
        if (bits >> i & 1) {
            text = arena_printf(ar, "%s%s%s", text, text[0] ? "+" : "", names[i]);
        }
    }
    return text[0] ? text : "none";
}

/* A search that asks for it, or that was slow, leaves a line that says where its time went. */
static void log_work(struct px_call *pc, const struct px_search *s, int64_t began_us)
{
    const Elanus__SearchWork *w = &s->hits.work;
    int64_t us = clock_mono_us() - began_us, slow_ms = pc->px->lim.slow_query_ms;

    if (!s->sp.explain && (slow_ms == 0 || us / 1000 < slow_ms)) {
        return;
    }
    LOG_I("search: coll=%" PRId64 " field=%s nq=%u k=%u filter_bytes=%zu strategy=%s indexed=%u "
          "other=%u distances=%" PRIu64 " exact=%" PRIu64 " hops=%" PRIu64 " lists=%" PRIu64
          " bytes=%" PRIu64 " reads=%" PRIu64 " fallbacks=%" PRIu64 " hits=%zu us=%" PRId64
          " request=%s", s->coll->pb->id, s->field->name, s->req.nq, s->req.k, s->req.plan.len,
          strategies(w->strategies, pc->ar), w->indexed_segments, w->other_segments, w->distances,
          w->exact, w->hops, w->lists, w->bytes, w->reads, w->fallbacks, s->hits.total, us,
          pc->call.request_id);
}

int px_search_run(struct px_call *pc, const Milvus__Proto__Milvus__SearchRequest *req,
                  bool with_fields, struct px_search *s, struct status *st)
{
    int64_t began_us = clock_mono_us();
    int rc;

    TRY(prepare(pc, req, with_fields, s, st));
    if (!by_ids(req)) {
        TRY(read_vectors(pc, req, s->field, &s->req, st));
    }
    s->req.k = (uint32_t)(s->sp.topk + s->sp.offset);
    TRY(check_short(pc, req, s, st));
    TRY(px_guarantee(pc, s->coll, (int)req->consistency_level, req->use_default_consistency,
                     req->guarantee_timestamp, s->sp.iterator, &s->req.guarantee_ts,
                     &s->req.read_ts, st));
    if (!s->snapshot && (s->group || s->sp.iter_v2 || by_ids(req))) {
        s->snapshot = px_snapshot(pc, s->coll);
        if (!s->snapshot) {
            rc = no_memory(st);
            goto out;
        }
    }
    if (by_ids(req)) {
        TRY(px_queries_of_ids(pc, s, req->ids, &s->req.queries, &s->req.nq, st));
    }
    if (s->group) {
        TRY(px_group_search(pc, s, st));
        goto out;
    }
    if (s->sp.iter_v2) {
        if (s->req.nq != 1) {
            FAIL(st, ERR_PARAMETER_INVALID, "search iterators take one vector, %u were sent",
                 s->req.nq);
        }
        TRY(px_iterator_search(pc, s, st));
    } else {
        TRY(search_timed(pc, s, st));
    }
    TRY(slice_hits(pc, s, st));
out:
    if (rc == 0) {
        log_work(pc, s, began_us);
    }
    return rc;
}

/* ---- the answer ---- */

static int fill_scores(struct px_call *pc, const struct px_search *s,
                       Milvus__Proto__Schema__SearchResultData *rd, struct status *st)
{
    rd->scores = arena_try_array(pc->ar, s->nrows + 1, sizeof *rd->scores);
    if (!rd->scores) {
        return no_memory(st);
    }
    for (size_t i = 0; i < s->nrows; i++) {
        rd->scores[i] = s->hits.scores[s->rows[i]];
    }
    if (s->sp.round_decimal >= 0) {
        double scale = pow(10, s->sp.round_decimal);
        for (size_t i = 0; i < s->nrows; i++) {
            rd->scores[i] = (float)(floor((double)rd->scores[i] * scale + 0.5) / scale);
        }
    }
    for (uint32_t q = 0; q < s->hits.nq; q++) {
        rd->top_k = MAX(rd->top_k, s->topks[q]);
    }
    rd->topks = s->topks;
    rd->n_topks = s->hits.nq;
    rd->n_scores = s->nrows;
    rd->num_queries = s->hits.nq;
    rd->all_search_count = (int64_t)s->nrows;
    return 0;
}

static int fill_ids(struct px_call *pc, const struct px_search *s,
                    Milvus__Proto__Schema__SearchResultData *rd, struct status *st)
{
    const struct field *pk = s->coll->schema->pk;
    struct column *none;
    const struct column *pks = &s->hits.pks;

    if (s->hits.total == 0) {
        none = ARENA_NEW(pc->ar, struct column);
        column_builder_finish(column_builder_new(pc->ar, pk->id, pk->type, DT_NONE, 0, 0), none);
        pks = none;
    }
    rd->ids = ids_from_column(pks, s->rows, (uint32_t)s->nrows, pc->ar);
    rd->primary_field_name = pk->name;
    return rd->ids ? 0 : no_memory(st);
}

/* The group of every row, beside the output fields. */
static int fill_groups(struct px_call *pc, const struct px_search *s,
                       Milvus__Proto__Schema__SearchResultData *rd, struct status *st)
{
    struct px_output group = { .nfields = 1, .field_ids = (int64_t[]){ s->group->id } };
    Milvus__Proto__Schema__FieldData **fds;
    size_t n;
    int rc;

    TRY(px_fill_fields(pc, s->coll, &group, &s->hits.fields, s->rows, (uint32_t)s->nrows, &fds, &n,
                       st));
    rd->group_by_field_value = fds[0];
out:
    return rc;
}

int px_search(struct px_call *pc, const Milvus__Proto__Milvus__SearchRequest *req,
              Milvus__Proto__Milvus__SearchResults *resp, struct status *st)
{
    struct px_search *s = ARENA_NEW(pc->ar, struct px_search);
    Milvus__Proto__Schema__SearchResultData *rd =
        ARENA_NEW(pc->ar, Milvus__Proto__Schema__SearchResultData);
    int rc;

    milvus__proto__schema__search_result_data__init(rd);
    TRY(px_search_run(pc, req, true, s, st));
    TRY(fill_scores(pc, s, rd, st));
    TRY(fill_ids(pc, s, rd, st));
    if (s->out.nfields) {
        TRY(px_fill_fields(pc, s->coll, &s->out, &s->fields, s->field_rows, (uint32_t)s->nrows,
                           &rd->fields_data, &rd->n_fields_data, st));
        rd->output_fields = s->out.names;
        rd->n_output_fields = s->out.nnames;
    }
    if (s->group) {
        TRY(fill_groups(pc, s, rd, st));
    }
    if (s->sp.iter_v2) {
        px_iterator_fill(pc, s, rd);
    }
    resp->results = rd;
    resp->collection_name = s->coll->pb->name;
    resp->session_ts = s->hits.read_ts;
out:
    return rc;
}
