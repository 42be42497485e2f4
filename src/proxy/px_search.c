/*
 * px_search.c - Search: parameters, vectors, plan; fan-out; scores and fields of the answer.
 */
#include "proxy/px_methods.h"
#include "base/hash.h"
#include "proto/proto.h"
#include "proxy/px_read.h"
#include "schema/field_data.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

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
                           "multiple anns_fields exist, please specify a anns_field in search_params");
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
        return st_fail(st, ERR_INDEX_NOT_FOUND, "index not found[fieldName=%s]: create one and load "
                       "the collection", s->field->name);
    }
    if (s->sp.metric && strcasecmp(s->sp.metric, metric) != 0) {
        return st_fail(st, ERR_PARAMETER_INVALID, "metric type not match: invalid parameter"
                       "[expected=%s][actual=%s]", metric, s->sp.metric);
    }
    s->metric = px_metric_parse(metric);
    if (s->metric < 0) {
        return st_fail(st, ERR_SEGCORE_UNSUPPORTED, "searches by metric %s are not supported", metric);
    }
    if (s->sp.has_radius && s->sp.has_range_filter) {
        bool down = px_metric_descends(s->metric);
        if (down ? s->sp.range_filter <= s->sp.radius : s->sp.range_filter >= s->sp.radius) {
            return st_fail(st, ERR_PARAMETER_INVALID, "metric type %s, range_filter(%g) must be %s "
                           "radius(%g)", metric, (double)s->sp.range_filter,
                           down ? "greater than" : "less than", (double)s->sp.radius);
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

    if (req->search_input_case == MILVUS__PROTO__MILVUS__SEARCH_REQUEST__SEARCH_INPUT_IDS) {
        return st_fail(st, ERR_OPERATION_UNSUPPORTED,
                       "unsupported operation: search by primary keys is not supported: send vectors");
    }
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

static int check_unserved(const Milvus__Proto__Milvus__SearchRequest *req, struct status *st)
{
    const char *what = req->function_score          ? "function_score (rerankers)"
                       : req->highlighter           ? "highlighter"
                       : req->search_aggregation    ? "search_aggregation"
                       : req->n_function_chains     ? "function_chains"
                       : req->n_sub_reqs            ? "sub_reqs"
                       : req->has_namespace_case    ? "namespaces"
                                                    : NULL;
    if (what && !(req->function_score && req->function_score->n_functions == 0)) {
        return st_fail(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: %s not supported in a search",
                       what);
    }
    return 0;
}

int px_search_run(struct px_call *pc, const Milvus__Proto__Milvus__SearchRequest *req,
                  bool with_fields, struct px_search *s, struct status *st)
{
    struct px_template *templates;
    const struct expr *plan = NULL;
    Elanus__SearchReq sreq;
    size_t ntemplates;
    int rc;

    elanus__search_req__init(&sreq);
    TRY(px_collection_loaded(pc, req->db_name, req->collection_name, &s->coll, st));
    TRY(check_unserved(req, st));
    TRY(px_search_params(pc, req->n_search_params, req->search_params, &s->sp, st));
    TRY(pick_field(s, st));
    TRY(pick_metric(s, st));
    TRY(read_vectors(pc, req, s->field, &sreq, st));
    PX_TEMPLATES(pc, req, &templates, &ntemplates);
    TRY(px_plan_parse(pc, s->coll, req->dsl, templates, ntemplates, "failed to create query plan",
                      &plan, st));
    TRY(px_plan_bytes(pc, plan, &sreq.plan, st));
    TRY(px_partition_ids(pc, s->coll, req->n_partition_names, req->partition_names,
                         &sreq.partition_ids, &sreq.n_partition_ids, st));
    if (with_fields) {
        TRY(px_output_fields(pc, s->coll, req->n_output_fields, req->output_fields, false, &s->out,
                             st));
    }
    TRY(px_guarantee(pc, s->coll, (int)req->consistency_level, req->use_default_consistency,
                     req->guarantee_timestamp, s->sp.iterator, &sreq.guarantee_ts, &sreq.read_ts,
                     st));
    if (s->sp.iter_v2 && sreq.nq != 1) {
        FAIL(st, ERR_PARAMETER_INVALID, "search iterators take one vector, %u were sent", sreq.nq);
    }
    sreq.collection_id = s->coll->pb->id;
    sreq.field_id = s->field->id;
    sreq.metric = s->metric;
    sreq.k = (uint32_t)(s->sp.topk + s->sp.offset);
    sreq.has_radius = s->sp.has_radius;
    sreq.radius = s->sp.radius;
    sreq.has_range_filter = s->sp.has_range_filter;
    sreq.range_filter = s->sp.range_filter;
    sreq.has_bound = s->sp.has_bound;
    sreq.bound = s->sp.bound;
    sreq.ignore_growing = s->sp.ignore_growing;
    sreq.output_field_ids = s->out.field_ids;
    sreq.n_output_field_ids = s->out.nfields;
    sreq.search_params = s->sp.params;
    TRY(px_search_shards(pc, s->coll, &sreq, &s->hits, st));
out:
    return rc;
}

/* ---- the answer ---- */

static float rounded(float score, int decimals)
{
    double scale = pow(10, decimals);
    return decimals < 0 ? score : (float)(floor((double)score * scale + 0.5) / scale);
}

/* Takes hits offset .. offset + limit - 1 of every query. */
static int slice_hits(struct px_call *pc, const struct px_search *s,
                      Milvus__Proto__Schema__SearchResultData *rd, uint32_t **ret_rows,
                      struct status *st)
{
    const struct px_hits *h = &s->hits;
    uint32_t *rows = arena_try_array(pc->ar, h->total + 1, sizeof *rows);
    size_t n = 0;
    uint32_t at = 0;

    rd->topks = arena_try_array(pc->ar, h->nq, sizeof *rd->topks);
    rd->scores = arena_try_array(pc->ar, h->total + 1, sizeof *rd->scores);
    if (!rows || !rd->topks || !rd->scores) {
        return no_memory(st);
    }
    for (uint32_t q = 0; q < h->nq; q++) {
        int64_t found = (int64_t)h->counts[q] - s->sp.offset;
        rd->topks[q] = MAX((int64_t)0, MIN(found, s->sp.topk));
        rd->top_k = MAX(rd->top_k, rd->topks[q]);
        for (int64_t i = 0; i < rd->topks[q]; i++) {
            rows[n] = at + (uint32_t)(s->sp.offset + i);
            rd->scores[n] = rounded(h->scores[rows[n]], s->sp.round_decimal);
            n++;
        }
        at += h->counts[q];
    }
    rd->n_topks = h->nq;
    rd->n_scores = n;
    rd->num_queries = h->nq;
    rd->all_search_count = (int64_t)n;
    *ret_rows = rows;
    return 0;
}

static void fill_iterator(struct px_call *pc, const struct px_search *s,
                          Milvus__Proto__Schema__SearchResultData *rd)
{
    Milvus__Proto__Schema__SearchIteratorV2Results *it =
        ARENA_NEW(pc->ar, Milvus__Proto__Schema__SearchIteratorV2Results);
    int64_t seed[2] = { clock_mono_us(), atomic_fetch_add(&pc->px->next_identifier, 1) };
    uint64_t a = hash64(seed, sizeof seed), b = hash64(&a, sizeof a);

    milvus__proto__schema__search_iterator_v2_results__init(it);
    it->token = s->sp.iter_id;
    if (!it->token) { /* a new iterator: any UUID; the server keeps no state behind it */
        it->token = arena_printf(pc->ar, "%08x-%04x-4%03x-a%03x-%012" PRIx64, (unsigned)(a >> 32),
                                 (unsigned)(a >> 16) & 0xffffu, (unsigned)a & 0xfffu,
                                 (unsigned)(b >> 52) & 0xfffu, b & 0xffffffffffffu);
    }
    it->last_bound = rd->n_scores ? s->hits.scores[rd->n_scores - 1] : s->sp.bound;
    rd->search_iterator_v2_results = it;
}

static int fill_ids(struct px_call *pc, const struct px_search *s, const uint32_t *rows,
                    Milvus__Proto__Schema__SearchResultData *rd, struct status *st)
{
    const struct field *pk = s->coll->schema->pk;
    struct column none;
    const struct column *pks = &s->hits.pks;

    if (s->hits.total == 0) {
        column_builder_finish(column_builder_new(pc->ar, pk->id, pk->type, DT_NONE, 0, 0), &none);
        pks = &none;
    }
    rd->ids = ids_from_column(pks, rows, (uint32_t)rd->n_scores, pc->ar);
    rd->primary_field_name = pk->name;
    return rd->ids ? 0 : no_memory(st);
}

int px_search(struct px_call *pc, const Milvus__Proto__Milvus__SearchRequest *req,
              Milvus__Proto__Milvus__SearchResults *resp, struct status *st)
{
    struct px_search *s = ARENA_NEW(pc->ar, struct px_search);
    Milvus__Proto__Schema__SearchResultData *rd =
        ARENA_NEW(pc->ar, Milvus__Proto__Schema__SearchResultData);
    uint32_t *rows = NULL;
    int rc;

    milvus__proto__schema__search_result_data__init(rd);
    TRY(px_search_run(pc, req, true, s, st));
    TRY(slice_hits(pc, s, rd, &rows, st));
    TRY(fill_ids(pc, s, rows, rd, st));
    if (s->out.nfields) {
        TRY(px_fill_fields(pc, s->coll, &s->out, &s->hits.fields, rows, (uint32_t)rd->n_scores,
                           &rd->fields_data, &rd->n_fields_data, st));
        px_fill_names(pc, &s->out, &rd->output_fields, &rd->n_output_fields);
    }
    if (s->sp.iter_v2) {
        fill_iterator(pc, s, rd);
    }
    resp->results = rd;
    resp->collection_name = s->coll->pb->name;
    resp->session_ts = s->hits.read_ts;
out:
    return rc;
}
