/*
 * px_hybrid.c - HybridSearch: several searches of one collection, fused into one ranking.
 *
 * WHAT      Each sub-request runs as a search of its own; hits are joined by primary key. RRF gives
 *           the sum of 1 / (k + rank), rank from 1 (Cormack, Clarke, Buettcher: Reciprocal Rank
 *           Fusion, section 2); the weighted ranker the sum of weight x normalised score. Output
 *           fields of the winners are read by key at the snapshot of the searches.
 */
#include "proxy/px_methods.h"
#include "base/json.h"
#include "base/map.h"
#include "base/utf8.h"
#include "proxy/px_hybrid.h"
#include "schema/field_data.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define SUB_REQUESTS_MAX 1024u
#define RRF_K_DEFAULT 60.0
#define RRF_K_MAX 16384.0

/* ---- parameters ---- */

static int read_weights(const struct json_value *obj, size_t nreqs, struct arena *ar,
                        struct px_rank *r, struct status *st)
{
    struct json_value list, v;
    struct slice key;
    size_t pos = 0;
    bool escaped;

    r->weights = arena_alloc(ar, (nreqs + 1) * sizeof *r->weights);
    if (!json_member(obj, SLICE_LIT("weights"), &list) || list.type != JSON_ARRAY) {
        return st_fail(st, ERR_PARAMETER_INVALID, "the weights param is needed for the weighted "
                                                  "ranker");
    }
    while (json_next(&list, &pos, &key, &escaped, &v)) {
        double w = json_is_number(&v) ? json_number(&v) : -1;
        if (w < 0 || w > 1) {
            return st_fail(st, ERR_PARAMETER_INVALID, "rank param weight should be in range [0, "
                           "1]: %.*s", SLICE_ARG(v.raw));
        }
        if (r->nweights < nreqs) {
            r->weights[r->nweights] = w;
        }
        r->nweights++;
    }
    if (r->nweights != nreqs) {
        return st_fail(st, ERR_PARAMETER_INVALID, "the length of weights param mismatch with ann "
                       "search requests: invalid parameter[expected=%zu][actual=%zu]", nreqs,
                       r->nweights);
    }
    if (json_member(obj, SLICE_LIT("norm_score"), &v) && v.type == JSON_BOOL) {
        r->normalise = v.b;
    }
    return 0;
}

static int read_scorer(const char *text, enum px_group_scorer *ret, struct status *st)
{
    static const char *const names[] = { "max", "sum", "avg" };

    *ret = PX_GROUP_MAX;
    for (size_t i = 0; text && *text && i < ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum px_group_scorer)i;
            return 0;
        }
    }
    return text && *text ? st_fail(st, ERR_PARAMETER_INVALID, "rank_group_scorer %s is invalid: "
                                   "max, sum and avg are known", text)
                         : 0;
}

int px_rank_params(struct px_call *pc, const Milvus__Proto__Milvus__HybridSearchRequest *req,
                   struct px_rank *r, struct status *st)
{
    const char *strategy = px_kv(req->n_rank_params, req->rank_params, "strategy");
    const char *params = px_kv(req->n_rank_params, req->rank_params, "params");
    static const struct {
        const char *key;
        int64_t def;
    } ints[] = { { "limit", 0 }, { "offset", 0 }, { "round_decimal", -1 } };
    int64_t values[3], window = pc->px->lim.max_query_window;
    struct json_value obj = { .type = JSON_NULL }, v;
    int rc = 0;

    *r = (struct px_rank){ .rrf_k = RRF_K_DEFAULT, .normalise = true };
    for (size_t i = 0; i < ARRAY_LEN(ints); i++) {
        const char *text = px_kv(req->n_rank_params, req->rank_params, ints[i].key);
        values[i] = ints[i].def;
        if (text && !parse_i64(slice_of(text), &values[i])) {
            FAIL(st, ERR_PARAMETER_INVALID, "rank parameter %s [%s] should be an integer",
                 ints[i].key, text);
        }
    }
    TRY(px_group_params(req->n_rank_params, req->rank_params, &r->group, st));
    TRY(read_scorer(px_kv(req->n_rank_params, req->rank_params, "rank_group_scorer"), &r->scorer,
                    st));
    r->limit = values[0];
    r->offset = values[1];
    if (r->limit <= 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "limit [%" PRId64 "] is invalid, should be greater than 0",
             r->limit);
    }
    if (r->offset < 0 || r->limit > window || r->offset > window - r->limit) {
        FAIL(st, ERR_PARAMETER_INVALID, "invalid max query result window, (offset+limit) should be "
             "in range [1, %" PRId64 "], but got %" PRId64, window,
             r->offset > INT64_MAX - r->limit ? INT64_MAX : r->offset + r->limit);
    }
    if (values[2] < -1 || values[2] > 6) {
        FAIL(st, ERR_PARAMETER_INVALID, "round_decimal [%" PRId64 "] is invalid, should be -1 or "
             "an integer in range [0, 6]", values[2]);
    }
    r->round_decimal = (int)values[2];
    if (params && *params &&
        (json_validate(slice_of(params), st) != 0 || !json_parse(slice_of(params), &obj) ||
         obj.type != JSON_OBJECT)) {
        FAIL(st, ERR_PARAMETER_INVALID, "rank parameter params is not a JSON object: %s", params);
    }
    if (!strategy || !*strategy || strcmp(strategy, "rrf") == 0) {
        if (obj.type == JSON_OBJECT && json_member(&obj, SLICE_LIT("k"), &v)) {
            r->rrf_k = json_is_number(&v) ? json_number(&v) : -1;
        }
        if (r->rrf_k <= 0 || r->rrf_k >= RRF_K_MAX) {
            FAIL(st, ERR_PARAMETER_INVALID, "The rank params k should be in range (0, 16384)");
        }
    } else if (strcmp(strategy, "weighted") == 0) {
        r->weighted = true;
        if (obj.type != JSON_OBJECT) {
            FAIL(st, ERR_PARAMETER_INVALID, "the weighted ranker needs params with weights");
        }
        TRY(read_weights(&obj, req->n_requests, pc->ar, r, st));
    } else {
        FAIL(st, ERR_PARAMETER_INVALID, "unsupported rank type %s: rrf and weighted are known",
             strategy);
    }
out:
    return rc;
}

/* ---- fusing ---- */

static double normalised(double score, int metric, bool normalise)
{
    if (!px_metric_descends(metric)) {
        return 1.0 - 2.0 * atan(score) / M_PI;
    }
    if (!normalise) {
        return score;
    }
    return metric == px_metric_parse("COSINE") ? (1.0 + score) * 0.5 : 0.5 + atan(score) / M_PI;
}

static int by_score(const void *a, const void *b)
{
    const struct px_fused *x = a, *y = b;
    if (x->score != y->score) {
        return x->score < y->score ? 1 : -1;
    }
    return pk_cmp(&x->sub->hits.pks, x->row, &y->sub->hits.pks, y->row);
}

/* Joins the lists of one query; *ret holds them best first. */
static int fuse(struct px_call *pc, const struct px_search *subs, size_t nsubs,
                      const size_t *first, uint32_t q, const struct px_rank *r,
                      struct px_fused **ret, size_t *ret_n, struct status *st)
{
    struct str_map *seen = str_map_new();
    struct px_fused *all;
    size_t most = 0, n = 0;

    for (size_t i = 0; i < nsubs; i++) {
        most += (size_t)subs[i].topks[q];
    }
    all = arena_try_array(pc->ar, most + 1, sizeof *all);
    if (!all) {
        str_map_free(seen, NULL);
        return st_fail(st, ERR_PARAMETER_TOO_LARGE, "no memory for %zu hits", most);
    }
    for (size_t i = 0; i < nsubs; i++) {
        const struct px_search *s = &subs[i];
        for (int64_t j = 0; j < s->topks[q]; j++) {
            uint32_t row = s->rows[first[i] + (size_t)j];
            struct slice key = column_cell(&s->hits.pks, row);
            struct px_fused *f = str_map_get(seen, key);
            double add = r->weighted ? r->weights[i] * normalised((double)s->hits.scores[row],
                                                                  s->metric, r->normalise)
                                     : 1.0 / (r->rrf_k + (double)j + 1.0);
            if (!f) {
                f = &all[n++];
                *f = (struct px_fused){ .sub = s, .row = row };
                str_map_put(seen, key, f);
            }
            f->score += add;
        }
    }
    str_map_free(seen, NULL);
    qsort(all, n, sizeof *all, by_score);
    *ret = all;
    *ret_n = n;
    return 0;
}

/* The page of one query's ranking that was asked for. */
static int fused_page(struct px_call *pc, const struct px_search *subs, size_t nsubs,
                      const size_t *first, uint32_t q, const struct px_rank *r,
                      struct px_fused **ret, size_t *ret_n, struct status *st)
{
    struct px_fused_groups how = { .offset = r->offset, .limit = r->limit,
                                   .size = r->group.group_size, .scorer = r->scorer };
    struct px_fused *list = NULL;
    size_t n = 0, skip;
    int rc;

    TRY(fuse(pc, subs, nsubs, first, q, r, &list, &n, st));
    if (r->group.group_by) {
        TRY(px_group_fused(pc, &how, list, n, ret, ret_n, st));
        goto out;
    }
    skip = MIN((size_t)r->offset, n);
    *ret = list + skip;
    *ret_n = MIN(n - skip, (size_t)r->limit);
out:
    return rc;
}

/* ---- output fields of the winners ---- */

static int fetch_fields(struct px_call *pc, const struct px_search *sub,
                        const struct px_output *out, const struct column *pks,
                        Milvus__Proto__Schema__SearchResultData *rd, struct status *st)
{
    struct px_fetch f = { .pks = pks, .field_ids = out->field_ids, .nfields = out->nfields,
                          .partition_ids = sub->req.partition_ids,
                          .npartitions = sub->req.n_partition_ids, .snapshot = sub->snapshot,
                          .guarantee_ts = sub->req.guarantee_ts,
                          .max_bytes = pc->px->lim.max_output_bytes };
    struct batch got;
    uint32_t *rows;
    int rc;

    /* A sub-search's filter may have narrowed its partitions by their key. */
    if (sub->coll->schema->partition_key) {
        f.npartitions = 0;
    }
    TRY(px_fetch(pc, sub->coll, &f, &got, &rows, st));
    for (uint32_t i = 0; i < pks->nrows; i++) {
        if (rows[i] == PX_NO_ROW) {
            FAIL(st, ERR_INCONSISTENT_REQUERY, "inconsistent requery result: a row went away "
                 "between search and fetch");
        }
    }
    TRY(px_fill_fields(pc, sub->coll, out, &got, rows, pks->nrows, &rd->fields_data,
                       &rd->n_fields_data, st));
out:
    return rc;
}

/* ---- the call ---- */

/* A page is a page of the fused ranking: clients repeat its offset in every sub-request. Groups are
 * those of the hybrid search. */
static void adapt_params(struct px_call *pc,
                         const Milvus__Proto__Milvus__HybridSearchRequest *req,
                         Milvus__Proto__Milvus__SearchRequest *sub)
{
    static const char *const shared[] = { "group_by_field", "group_by_fields", "group_size",
                                          "strict_group_size", "offset" };
    px_kv_pb **kept =
        arena_alloc(pc->ar, (sub->n_search_params + ARRAY_LEN(shared)) * sizeof *kept);
    size_t n = 0;

    for (size_t i = 0; i < sub->n_search_params; i++) {
        bool own = true;
        for (size_t k = 0; k < ARRAY_LEN(shared); k++) {
            own = own && strcmp(sub->search_params[i]->key, shared[k]) != 0;
        }
        if (own) {
            kept[n++] = sub->search_params[i];
        }
    }
    for (size_t k = 0; k + 1 < ARRAY_LEN(shared); k++) { /* all but the offset */
        for (size_t i = 0; i < req->n_rank_params; i++) {
            if (strcmp(req->rank_params[i]->key, shared[k]) == 0) {
                kept[n++] = req->rank_params[i];
                break;
            }
        }
    }
    sub->search_params = kept;
    sub->n_search_params = n;
}

static int run_subs(struct px_call *pc, const Milvus__Proto__Milvus__HybridSearchRequest *req,
                    const struct px_coll *coll, struct px_search *subs, struct status *st)
{
    hts *snapshot = px_snapshot(pc, coll); /* all see the same rows */
    int rc = 0;

    if (!snapshot) {
        FAIL(st, ERR_PARAMETER_TOO_LARGE, "no memory for the searches");
    }

    for (size_t i = 0; i < req->n_requests; i++) {
        Milvus__Proto__Milvus__SearchRequest sub = *req->requests[i];
        sub.db_name = req->db_name;
        sub.collection_name = req->collection_name;
        sub.n_partition_names = req->n_partition_names;
        sub.partition_names = req->partition_names;
        sub.guarantee_timestamp = req->guarantee_timestamp;
        sub.consistency_level = req->consistency_level;
        sub.use_default_consistency = req->use_default_consistency;
        adapt_params(pc, req, &sub);
        subs[i].snapshot = snapshot;
        rc = px_search_run(pc, &sub, false, &subs[i], st);
        if (rc != 0) {
            st_context(st, "request %zu of the hybrid search", i + 1);
            goto out;
        }
        if (subs[i].sp.iterator) {
            FAIL(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: an iterator in a hybrid "
                 "search");
        }
        if (subs[i].hits.nq != subs[0].hits.nq) {
            FAIL(st, ERR_PARAMETER_INVALID, "nq of every request of a hybrid search must be the "
                 "same: %u and %u", subs[0].hits.nq, subs[i].hits.nq);
        }
    }
out:
    return rc;
}

/* Scores and keys of all queries; *ret_pks has the key of every row. */
static int fill_ranking(struct px_call *pc, const struct px_coll *coll,
                        const struct px_search *subs, size_t nsubs, const struct px_rank *r,
                        Milvus__Proto__Schema__SearchResultData *rd, struct column *ret_pks,
                        struct status *st)
{
    uint32_t nq = subs[0].hits.nq;
    const struct field *pk = coll->schema->pk, *group = subs[0].group;
    size_t *first = arena_alloc(pc->ar, nsubs * sizeof *first), most = 0;
    double scale = pow(10, r->round_decimal);
    struct column_builder *keys, *groups = NULL;
    int rc = 0;

    for (size_t i = 0; i < nsubs; i++) {
        most += subs[i].nrows;
    }
    rd->topks = arena_try_array(pc->ar, nq, sizeof *rd->topks);
    rd->scores = arena_try_array(pc->ar, most + 1, sizeof *rd->scores);
    if (!rd->topks || !rd->scores) {
        FAIL(st, ERR_PARAMETER_TOO_LARGE, "no memory for %u answers", nq);
    }
    keys = column_builder_new(pc->ar, pk->id, pk->type, DT_NONE, 0, 16);
    if (group) {
        groups = column_builder_new(pc->ar, group->id, group->type, DT_NONE, 0, 16);
    }
    for (uint32_t q = 0; q < nq; q++) {
        struct px_fused *list = NULL;
        size_t n = 0;
        TRY(fused_page(pc, subs, nsubs, first, q, r, &list, &n, st));
        for (size_t i = 0; i < n; i++) {
            const struct px_hits *h = &list[i].sub->hits;
            double score = list[i].score;
            score = r->round_decimal < 0 ? score : floor(score * scale + 0.5) / scale;
            rd->scores[rd->n_scores++] = (float)score;
            if (!column_builder_take(keys, &h->pks, list[i].row) ||
                (groups && !column_builder_take(groups, batch_column(&h->fields, group->id),
                                                list[i].row))) {
                FAIL(st, ERR_PARAMETER_TOO_LARGE, "no memory for the answer");
            }
        }
        rd->topks[q] = (int64_t)n;
        rd->top_k = MAX(rd->top_k, rd->topks[q]);
        for (size_t i = 0; i < nsubs; i++) {
            first[i] += (size_t)subs[i].topks[q];
        }
    }
    rd->n_topks = nq;
    rd->num_queries = nq;
    rd->all_search_count = (int64_t)rd->n_scores;
    rd->primary_field_name = pk->name;
    column_builder_finish(keys, ret_pks);
    rd->ids = ids_from_column(ret_pks, NULL, 0, pc->ar);
    if (groups) {
        struct column *values = ARENA_NEW(pc->ar, struct column);
        column_builder_finish(groups, values);
        rd->group_by_field_value = field_data_from_column(group, values, NULL, 0, pc->ar);
    }
    if (!rd->ids || (groups && !rd->group_by_field_value)) {
        FAIL(st, ERR_PARAMETER_TOO_LARGE, "no memory for the answer");
    }
out:
    return rc;
}

int px_hybrid_search(struct px_call *pc, const Milvus__Proto__Milvus__HybridSearchRequest *req,
                     Milvus__Proto__Milvus__SearchResults *resp, struct status *st)
{
    Milvus__Proto__Schema__SearchResultData *rd =
        ARENA_NEW(pc->ar, Milvus__Proto__Schema__SearchResultData);
    struct column *pks = ARENA_NEW(pc->ar, struct column);
    const struct px_coll *coll;
    struct px_search *subs;
    struct px_output out;
    struct px_rank r;
    int rc;

    milvus__proto__schema__search_result_data__init(rd);
    TRY(px_collection_loaded(pc, req->db_name, req->collection_name, &coll, st));
    if (req->n_requests == 0 || req->n_requests > SUB_REQUESTS_MAX) {
        FAIL(st, ERR_PARAMETER_INVALID, "maximum of ann search requests is %u, minimum 1, but got "
                                        "%zu",
             SUB_REQUESTS_MAX, req->n_requests);
    }
    if ((req->function_score && req->function_score->n_functions) || req->n_function_chains ||
        req->has_namespace_case) {
        FAIL(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: function rerankers and "
             "namespaces are not supported in a hybrid search; rrf and weighted are");
    }
    TRY(px_rank_params(pc, req, &r, st));
    TRY(px_output_fields(pc, coll, req->n_output_fields, req->output_fields, false, &out, st));
    subs = arena_alloc(pc->ar, req->n_requests * sizeof *subs);
    TRY(run_subs(pc, req, coll, subs, st));
    TRY(fill_ranking(pc, coll, subs, req->n_requests, &r, rd, pks, st));
    if (out.nfields) {
        TRY(fetch_fields(pc, &subs[0], &out, pks, rd, st));
        rd->output_fields = out.names;
        rd->n_output_fields = out.nnames;
    }
    for (size_t i = 0; i < req->n_requests; i++) {
        resp->session_ts = MAX(resp->session_ts, subs[i].hits.read_ts);
    }
    resp->results = rd;
    resp->collection_name = coll->pb->name;
out:
    return rc;
}
