/*
 * params.c - the table of params.def at work: parse, print, defaults, fit to the rows.
 *
 * Values are strict: the whole text must be a number of the kind, within the range; 12.0 is no
 * whole number. Booleans are true/false in any case, 1 or 0.
 *
 * THREADS     No state.
 */
#include "index/params.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "index/ann_int.h"
#include "index/scan/plan.h"

#define T(type) (1u << (type))
#define T_ANY (T(INDEX_TYPE_COUNT) - 1)
#define T_IVF                                                                                      \
    (T(INDEX_IVF_FLAT) | T(INDEX_IVF_SQ8) | T(INDEX_IVF_PQ) | T(INDEX_IVF_RABITQ) |                \
     T(INDEX_SCANN) | T(INDEX_BIN_IVF_FLAT))
#define T_HNSW (T(INDEX_HNSW) | T(INDEX_HNSW_SQ) | T(INDEX_HNSW_PQ) | T(INDEX_HNSW_PRQ))
#define T_PQ (T(INDEX_IVF_PQ) | T(INDEX_HNSW_PQ) | T(INDEX_HNSW_PRQ))
#define T_REFINE                                                                                   \
    (T(INDEX_HNSW_SQ) | T(INDEX_HNSW_PQ) | T(INDEX_HNSW_PRQ) | T(INDEX_IVF_RABITQ))

enum kind { U32, U64, I64, F64, BOOL, QUANT, STRATEGY };

struct row {
    uint32_t types;
    const char *key;
    enum kind kind;
    size_t offset;
    double min, max;
};

#define INDEX_NAME(type, name)
#define BUILD_PARAM(types, key, kind, member, min, max)                                            \
    { types, key, kind, offsetof(struct index_params, member), min, max },
#define SEARCH_PARAM(types, key, kind, member, min, max)
static const struct row build_rows[] = {
#include "index/params.def"
};
#undef BUILD_PARAM
#undef SEARCH_PARAM
#define BUILD_PARAM(types, key, kind, member, min, max)
#define SEARCH_PARAM(types, key, kind, member, min, max)                                           \
    { types, key, kind, offsetof(struct index_search_params, member), min, max },
static const struct row search_rows[] = {
#include "index/params.def"
};
#undef INDEX_NAME
#undef BUILD_PARAM
#undef SEARCH_PARAM
#define INDEX_NAME(type, name) [type] = name,
#define BUILD_PARAM(types, key, kind, member, min, max)
#define SEARCH_PARAM(types, key, kind, member, min, max)
static const char *const type_names[INDEX_TYPE_COUNT] = {
#include "index/params.def"
};

static const char *const quant_names[QUANT_COUNT] = {
    [QUANT_SQ4U] = "SQ4U", [QUANT_SQ6] = "SQ6",   [QUANT_SQ8] = "SQ8",
    [QUANT_FP16] = "FP16", [QUANT_BF16] = "BF16", [QUANT_FP32] = "FP32",
};

const char *index_type_name(enum index_type t)
{
    return (unsigned)t < INDEX_TYPE_COUNT ? type_names[t] : NULL;
}

bool index_type_find(const char *name, enum index_type *ret)
{
    for (int i = 0; i < INDEX_TYPE_COUNT; i++) {
        if (strcmp(name, type_names[i]) == 0) {
            *ret = (enum index_type)i;
            return true;
        }
    }
    return false;
}

void index_params_init(struct index_params *p, enum index_type type)
{
    *p = (struct index_params){
        .type = type,
        .nlist = 128,
        .nbits = 8,
        .nrq = 2,
        .M = 30,
        .ef_construction = 360,
        .sq_type = QUANT_SQ8,
        .refine_type = QUANT_FP32,
        .rbq_bits = 1,
        .with_raw_data = true,
        .sub_dim = 2,
        .n_trees = 50,
        .max_degree = 56,
        .search_list_size = 100,
        .pq_code_budget_gb_ratio = 0.125,
        .search_cache_budget_gb_ratio = 0.1,
    };
}

void index_search_params_init(struct index_search_params *p)
{
    *p = (struct index_search_params){ .nprobe = 8,
                                       .refine_k = 1,
                                       .search_k = -1,
                                       .beamwidth_ratio = 4,
                                       .level = 1,
                                       .max_empty_result_buckets = 2 };
}

static const struct row *find(const struct row *rows, size_t n, enum index_type type,
                              const char *key)
{
    for (size_t i = 0; i < n; i++) {
        if ((rows[i].types & T(type)) && strcmp(rows[i].key, key) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

static int bad_range(const struct row *r, const char *value, struct status *st)
{
    return st_fail(st, ST_INVALID, "%s is '%.64s', should be %s in the range [%.15g, %.15g]", r->key,
                   value, r->kind == F64 ? "a number" : "a whole number", r->min, r->max);
}

static int parse_bool(const struct row *r, const char *value, bool *ret, struct status *st)
{
    if (strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0) {
        *ret = true;
    } else if (strcasecmp(value, "false") == 0 || strcmp(value, "0") == 0) {
        *ret = false;
    } else {
        return st_fail(st, ST_INVALID, "%s is '%.64s', should be true or false", r->key, value);
    }
    return 0;
}

static int parse_quant(const struct row *r, const char *value, enum quant *ret, struct status *st)
{
    if (strcasecmp(value, "FLAT") == 0 && r->max >= QUANT_FP32) {
        *ret = QUANT_FP32;
        return 0;
    }
    for (int i = (int)r->min; i <= (int)r->max; i++) {
        if (strcasecmp(value, quant_names[i]) == 0) {
            *ret = (enum quant)i;
            return 0;
        }
    }
    return st_fail(st, ST_INVALID, "%s is '%.64s', should be one of SQ4U, SQ6, SQ8, FP16, BF16%s",
                   r->key, value, r->max >= QUANT_FP32 ? ", FP32" : "");
}

static int parse_strategy(const struct row *r, const char *value, uint32_t *ret, struct status *st)
{
    for (int i = 0; i < STRAT_COUNT; i++) {
        if (strcasecmp(value, index_strategy_name((enum index_strategy)i)) == 0) {
            *ret = (uint32_t)i;
            return 0;
        }
    }
    return st_fail(st, ST_INVALID, "%s is '%.64s', which is none of the strategies", r->key, value);
}

static int parse_whole(const struct row *r, const char *value, void *at, struct status *st)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end != 0 || isspace((unsigned char)value[0]) || errno == ERANGE ||
        (double)v < r->min || (double)v > r->max) {
        return bad_range(r, value, st);
    }
    if (r->kind == U32) {
        *(uint32_t *)at = (uint32_t)v;
    } else if (r->kind == U64) {
        *(uint64_t *)at = (uint64_t)v;
    } else {
        *(int64_t *)at = v;
    }
    return 0;
}

static int set(const struct row *r, void *params, const char *value, struct status *st)
{
    void *at = (char *)params + r->offset;
    char *end;
    switch (r->kind) {
    case BOOL:
        return parse_bool(r, value, at, st);
    case QUANT:
        return parse_quant(r, value, at, st);
    case STRATEGY:
        return parse_strategy(r, value, at, st);
    case F64: {
        double v = strtod(value, &end);
        if (end == value || *end != 0 || isspace((unsigned char)value[0]) ||
            !(v >= r->min && v <= r->max)) {
            return bad_range(r, value, st);
        }
        *(double *)at = v;
        return 0;
    }
    default:
        return parse_whole(r, value, at, st);
    }
}

int index_params_set(struct index_params *p, const char *key, const char *value, bool *ret_known,
                     struct status *st)
{
    const struct row *r = find(build_rows, ARRAY_LEN(build_rows), p->type, key);
    *ret_known = r != NULL;
    return r ? set(r, p, value, st) : 0;
}

int index_search_params_set(struct index_search_params *p, enum index_type type, const char *key,
                            const char *value, bool *ret_known, struct status *st)
{
    const struct row *r = find(search_rows, ARRAY_LEN(search_rows), type, key);
    *ret_known = r != NULL;
    return r ? set(r, p, value, st) : 0;
}

/* What a type asks of the rows beyond metric and element type. */
static int check_shape(const struct index_params *p, size_t dim, struct status *st)
{
    if ((T(p->type) & T_PQ) && p->m == 0) {
        return st_fail(st, ST_INVALID, "%s needs the parameter m, a divisor of the dimension %zu",
                       index_type_name(p->type), dim);
    }
    if ((T(p->type) & T_PQ) && dim % p->m != 0) {
        return st_fail(st, ST_INVALID, "m is %u, should divide the dimension %zu", p->m, dim);
    }
    if (p->type == INDEX_SCANN && dim % p->sub_dim != 0) {
        return st_fail(st, ST_INVALID, "sub_dim is %u, should divide the dimension %zu", p->sub_dim,
                       dim);
    }
    return 0;
}

int index_params_resolve(struct index_params *p, enum metric metric, enum vec_type type, size_t dim,
                         uint32_t nrows, struct status *st)
{
    struct index_params r = *p;
    const struct index_ops *ops;
    if (r.type == INDEX_AUTOINDEX) {
        plan_auto(&r, metric, type, dim, nrows);
    }
    if (!metric_fits_type(metric, type)) {
        return st_fail(st, ST_INVALID, "metric %s does not fit the vectors' type",
                       metric_name(metric));
    }
    ops = index__ops(r.type);
    if (!ops) {
        return st_fail(st, ST_UNSUPPORTED, "index type %s is not served", index_type_name(r.type));
    }
    if (!(ops->types & TYPE_BIT(type)) || !(ops->metrics & METRIC_BIT(metric))) {
        return st_fail(st, ST_INVALID, "index type %s does not take metric %s of these vectors",
                       index_type_name(r.type), metric_name(metric));
    }
    int rc = check_shape(&r, dim, st);
    if (rc == 0) {
        *p = r;
    }
    return rc;
}

size_t index_params_print(const struct index_params *p, char *buf, size_t cap)
{
    size_t n = (size_t)snprintf(buf, cap, "type=%s", index_type_name(p->type));
    for (size_t i = 0; i < ARRAY_LEN(build_rows); i++) {
        const struct row *r = &build_rows[i];
        const void *at = (const char *)p + r->offset;
        char *to = n < cap ? buf + n : NULL;
        size_t room = n < cap ? cap - n : 0;
        if (!(r->types & T(p->type)) || (r->offset == offsetof(struct index_params, m) && !p->m)) {
            continue;
        }
        if (r->kind == F64) {
            n += (size_t)snprintf(to, room, ",%s=%.17g", r->key, *(const double *)at);
        } else if (r->kind == QUANT) {
            n += (size_t)snprintf(to, room, ",%s=%s", r->key,
                                  quant_names[*(const enum quant *)at]);
        } else {
            unsigned long long v = r->kind == BOOL  ? *(const bool *)at
                                   : r->kind == U64 ? *(const uint64_t *)at
                                                    : *(const uint32_t *)at;
            n += (size_t)snprintf(to, room, ",%s=%llu", r->key, v);
        }
    }
    return n;
}

/* One "key=value" of a text. */
static int parse_pair(struct index_params *p, char *pair, struct status *st)
{
    char *eq = strchr(pair, '=');
    bool known;
    if (!eq) {
        return st_fail(st, ST_INVALID, "'%.64s' is not key=value", pair);
    }
    *eq = 0;
    if (strcmp(pair, "type") == 0) {
        enum index_type type;
        if (!index_type_find(eq + 1, &type)) {
            return st_fail(st, ST_INVALID, "'%.64s' is no index type", eq + 1);
        }
        index_params_init(p, type);
        return 0;
    }
    int rc = index_params_set(p, pair, eq + 1, &known, st);
    if (rc == 0 && !known) {
        rc = st_fail(st, ST_INVALID, "%s has no parameter '%.64s'", index_type_name(p->type), pair);
    }
    return rc;
}

int index_params_parse(struct index_params *p, const char *text, struct status *st)
{
    char buf[1024];
    struct index_params r = *p;
    size_t n = strlen(text);
    int rc = 0;
    if (n >= sizeof buf) {
        return st_fail(st, ST_INVALID, "index parameters of %zu bytes, at most %zu", n,
                       sizeof buf - 1);
    }
    memcpy(buf, text, n + 1);
    char *rest = buf, *pair;
    while (rc == 0 && (pair = strsep(&rest, ",")) != NULL) {
        if (*pair != 0) {
            rc = parse_pair(&r, pair, st);
        }
    }
    if (rc == 0) {
        *p = r;
    }
    return rc;
}
