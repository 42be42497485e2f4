/*
 * px_search_params.c - the key-value parameters of a search request, checked.
 *
 * WHAT      Unknown keys are ignored because clients merge whole dictionaries into them; keys of
 *           functions that are not served are refused by name, so that nobody gets an answer to
 *           another question than the one asked.
 */
#include "proxy/px_read.h"
#include "base/json.h"
#include "base/utf8.h"
#include <inttypes.h>
#include <math.h>
#include <strings.h>

/* Values of enum metric in index/index.h, which is not the proxy's to include. */
enum { M_L2, M_IP, M_COSINE, M_HAMMING, M_JACCARD, M_SUBSTRUCTURE, M_SUPERSTRUCTURE };

int px_metric_parse(const char *name)
{
    static const char *const names[] = { "L2",      "IP",           "COSINE",        "HAMMING",
                                         "JACCARD", "SUBSTRUCTURE", "SUPERSTRUCTURE" };
    for (int i = 0; i < (int)ARRAY_LEN(names); i++) {
        if (strcasecmp(name, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

bool px_metric_descends(int metric)
{
    return metric == M_IP || metric == M_COSINE;
}

static const char *const unserved[] = { "order_by_fields", "analyzer_name" };

/* quotaAndLimits.limits.maxGroupSize of the API. */
#define GROUP_SIZE_MAX 10

static int bad_int(const char *key, const char *text, struct status *st)
{
    return st_fail(st, ERR_PARAMETER_INVALID, "%s [%s] is invalid, it should be an integer", key,
                   text);
}

/* Numbers of the `params` object; clients also write them as strings. */
static int number_of(const struct json_value *obj, const char *key, bool *ret_has, double *ret,
                     struct arena *ar, struct status *st)
{
    struct json_value v;
    double d;

    *ret_has = false;
    if (!json_member(obj, slice_of(key), &v) || v.type == JSON_NULL) {
        return 0;
    }
    if (json_is_number(&v)) {
        d = json_number(&v);
    } else if (v.type != JSON_STRING || !parse_f64(json_string(&v, ar), &d)) {
        return st_fail(st, ERR_PARAMETER_INVALID, "search parameter %s [%.*s] is not a number", key,
                       SLICE_ARG(v.raw));
    }
    if (!isfinite(d)) {
        return st_fail(st, ERR_PARAMETER_INVALID, "search parameter %s is not finite", key);
    }
    *ret_has = true;
    *ret = d;
    return 0;
}

static int read_inner(struct px_call *pc, struct px_search_params *p, struct status *st)
{
    struct json_value obj, v;
    int rc = 0;

    if (!*p->params) {
        return 0;
    }
    if (json_validate(slice_of(p->params), st) != 0 ||
        !json_parse(slice_of(p->params), &obj) || obj.type != JSON_OBJECT) {
        return st_fail(st, ERR_PARAMETER_INVALID, "search parameter params is not a JSON object: "
                                                  "%s",
                       p->params);
    }
    TRY(number_of(&obj, "radius", &p->has_radius, &p->radius, pc->ar, st));
    TRY(number_of(&obj, "range_filter", &p->has_range_filter, &p->range_filter, pc->ar, st));
    if (p->has_range_filter && !p->has_radius) {
        FAIL(st, ERR_PARAMETER_INVALID, "range_filter requires radius to be set");
    }
    p->explain = json_member(&obj, SLICE_LIT("explain"), &v) && v.type == JSON_BOOL && v.b;
    p->has_inner = true;
    p->inner = obj;
out:
    return rc;
}

/* Sixteen keys are looked for in every search: most differ in the first byte. */
static const char *get(size_t n, Milvus__Proto__Common__KeyValuePair *const *kv, const char *key)
{
    for (size_t i = 0; i < n; i++) {
        const char *k = kv[i]->key;
        if (k[0] == key[0] && strcmp(k, key) == 0) {
            return *kv[i]->value ? kv[i]->value : NULL;
        }
    }
    return NULL;
}

static int int_of(size_t n, Milvus__Proto__Common__KeyValuePair *const *kv, const char *key,
                  int64_t *ret, struct status *st)
{
    const char *v = get(n, kv, key);
    return v && !parse_i64(slice_of(v), ret) ? bad_int(key, v, st) : 0;
}

static int read_iterator(size_t n, Milvus__Proto__Common__KeyValuePair *const *kv,
                         struct px_search_params *p, struct status *st)
{
    const char *v = get(n, kv, "search_iter_v2");
    double bound;
    int rc = 0;

    (void)(v && parse_bool(slice_of(v), &p->iter_v2));
    if (!p->iter_v2) {
        return 0;
    }
    if (!p->iterator) {
        FAIL(st, ERR_PARAMETER_INVALID, "both iterator and search_iter_v2 must be set in the SDK");
    }
    p->iter_batch = 0;
    TRY(int_of(n, kv, "search_iter_batch_size", &p->iter_batch, st));
    if (p->iter_batch <= 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "batch size is required, and must be greater than 0");
    }
    v = get(n, kv, "search_iter_last_bound");
    if (v) {
        if (!parse_f64(slice_of(v), &bound)) {
            FAIL(st, ERR_PARAMETER_INVALID, "failed to parse input last bound: %s", v);
        }
        p->has_bound = true;
        p->bound = (float)bound;
    }
    p->iter_id = get(n, kv, "search_iter_id");
    if (p->iter_id) {
        static const char shape[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
        bool ok = strlen(p->iter_id) == sizeof shape - 1;
        for (size_t i = 0; ok && i < sizeof shape - 1; i++) {
            ok = shape[i] == '-' ? p->iter_id[i] == '-'
                                 : strchr("0123456789abcdefABCDEF", p->iter_id[i]) != NULL;
        }
        if (!ok) {
            FAIL(st, ERR_PARAMETER_INVALID, "invalid token format: %s", p->iter_id);
        }
    }
out:
    return rc;
}

int px_group_params(size_t n, Milvus__Proto__Common__KeyValuePair *const *kv,
                    struct px_search_params *p, struct status *st)
{
    const char *many = get(n, kv, "group_by_fields"), *size = get(n, kv, "group_size");
    const char *strict = get(n, kv, "strict_group_size");
    int64_t group_size = 1;

    p->group_by = get(n, kv, "group_by_field");
    p->group_size = 1;
    if (!p->group_by && many) {
        if (strchr(many, ',')) {
            return st_fail(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: grouping by more "
                           "than one field is not supported: %s", many);
        }
        p->group_by = many;
    }
    if (!p->group_by) {
        return 0;
    }
    if (size && !parse_i64(slice_of(size), &group_size)) {
        return st_fail(st, ERR_PARAMETER_INVALID, "failed to parse input group size:%s", size);
    }
    if (group_size <= 0) {
        return st_fail(st, ERR_PARAMETER_INVALID, "input group size:%" PRId64 " is negative, "
                       "failed to do search_groupby", group_size);
    }
    if (group_size > GROUP_SIZE_MAX) {
        return st_fail(st, ERR_PARAMETER_INVALID, "input group size:%" PRId64 " exceeds configured "
                       "max group size:%d", group_size, GROUP_SIZE_MAX);
    }
    if (strict && !parse_bool(slice_of(strict), &p->strict_group_size)) {
        return st_fail(st, ERR_PARAMETER_INVALID, "failed to parse input "
                                                  "strict_group_size:%s", strict);
    }
    p->group_size = (uint32_t)group_size;
    return 0;
}

static int check_group(const struct px_search_params *p, struct status *st)
{
    if (p->group_by && p->iterator) {
        return st_fail(st, ERR_PARAMETER_INVALID, "Not allowed to do groupBy when doing iteration");
    }
    if (p->group_by && p->has_radius) {
        return st_fail(st, ERR_PARAMETER_INVALID, "Not allowed to do range-search when doing "
                       "search-group-by");
    }
    return 0;
}

static int check_window(const struct px_call *pc, struct px_search_params *p, struct status *st)
{
    int64_t max = pc->px->lim.max_topk, window = pc->px->lim.max_query_window;

    if (p->iter_v2) {
        p->topk = MIN(p->iter_batch, max);
    } else if (p->iterator) {
        p->topk = MIN(p->topk, max);
    }
    if (p->topk <= 0 || p->topk > max) {
        return st_fail(st, ERR_PARAMETER_INVALID, "topk [%" PRId64 "] is invalid, it should be in "
                       "range [1, %" PRId64 "], but got %" PRId64, p->topk, max, p->topk);
    }
    if (p->offset < 0 || p->offset > window) {
        return st_fail(st, ERR_PARAMETER_INVALID, "offset [%" PRId64 "] is invalid, it should be "
                       "in range [0, %" PRId64 "], but got %" PRId64, p->offset, window, p->offset);
    }
    if (p->topk + p->offset > window) {
        return st_fail(st, ERR_PARAMETER_INVALID, "invalid max query result window, (offset+limit) "
                       "should be in range [1, %" PRId64 "], but got %" PRId64
                       ": offset+topk [%" PRId64 "] is invalid", window, p->topk + p->offset,
                       p->topk + p->offset);
    }
    if (p->iter_v2 && p->offset) {
        return st_fail(st, ERR_PARAMETER_INVALID, "search iterators take no offset");
    }
    return 0;
}

int px_search_params(struct px_call *pc, size_t n,
                     Milvus__Proto__Common__KeyValuePair *const *kv, struct px_search_params *p,
                     struct status *st)
{
    int64_t decimals = -1;
    const char *v;
    int rc;

    *p = (struct px_search_params){ .round_decimal = -1, .params = "" };
    for (size_t i = 0; i < ARRAY_LEN(unserved); i++) {
        if ((v = get(n, kv, unserved[i]))) {
            FAIL(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: search parameter %s is not "
                 "supported", unserved[i]);
        }
    }
    if (!get(n, kv, "topk")) {
        FAIL(st, ERR_PARAMETER_INVALID, "topk not found in search_params");
    }
    TRY(int_of(n, kv, "topk", &p->topk, st));
    TRY(int_of(n, kv, "offset", &p->offset, st));
    TRY(int_of(n, kv, "round_decimal", &decimals, st));
    if (decimals < -1 || decimals > 6) {
        FAIL(st, ERR_PARAMETER_INVALID, "round_decimal [%" PRId64 "] is invalid, should be -1 or "
             "an integer in range [0, 6]", decimals);
    }
    p->round_decimal = (int)decimals;
    p->anns_field = get(n, kv, "anns_field");
    p->metric = get(n, kv, "metric_type");
    v = get(n, kv, "ignore_growing");
    (void)(v && parse_bool(slice_of(v), &p->ignore_growing));
    v = get(n, kv, "iterator");
    (void)(v && parse_bool(slice_of(v), &p->iterator));
    v = get(n, kv, "params");
    p->params = v ? v : "";
    TRY(read_inner(pc, p, st));
    TRY(read_iterator(n, kv, p, st));
    TRY(px_group_params(n, kv, p, st));
    TRY(check_group(p, st));
    TRY(check_window(pc, p, st));
out:
    return rc;
}
