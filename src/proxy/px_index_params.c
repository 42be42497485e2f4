/*
 * px_index_params.c - checks what CreateIndex asks for against index_params.def.
 *
 * WHAT     Parameters arrive flat, or as JSON text under the key "params", or both; values are text
 *          either way. The result is flat, every value checked, defaults filled in.
 * METRICS  Which a vector may be compared by depends on its type; each type has a default. Words of
 *          refusals are the API's.
 * THREADS  Any.
 */
#include "proxy/px_index_params.h"
#include "base/json.h"
#include "base/utf8.h"
#include <math.h>
#include <strings.h>

enum group {
    G_FLOAT = 1 << 0, /* fp32, fp16, bf16 */
    G_INT8 = 1 << 1,
    G_BINARY = 1 << 2,
    G_SPARSE = 1 << 3,
    G_BOOL = 1 << 4,
    G_INT = 1 << 5,
    G_REAL = 1 << 6,
    G_VARCHAR = 1 << 7,
    G_ARRAY = 1 << 8,
    G_JSON = 1 << 9,
    G_GEOMETRY = 1 << 10,
    G_TIMESTAMPTZ = 1 << 11,
    G_VECTOR = G_FLOAT | G_INT8 | G_BINARY | G_SPARSE,
    G_ANY = (1 << 12) - 1,
};

enum kind { INT, FLOAT, PART, BOOL, CHOICE };

struct type_row {
    const char *name;
    unsigned fields;
};

struct param_row {
    const char *type, *key;
    enum kind kind;
    double min, max;
    const char *def, *choices;
};

#define INDEX_PARAM(type, key, kind, min, max, def, choices)
#define SEARCH_PARAM(type, key, kind, min, max)
#define INDEX_TYPE(name, fields) { name, fields },
static const struct type_row types[] = {
#include "proxy/index_params.def"
};
#undef INDEX_PARAM
#undef INDEX_TYPE

#define INDEX_TYPE(name, fields)
#define INDEX_PARAM(type, key, kind, min, max, def, choices)                                       \
    { type, key, kind, min, max, def, choices },
static const struct param_row params[] = {
#include "proxy/index_params.def"
};
#undef INDEX_PARAM
#undef SEARCH_PARAM
#define INDEX_PARAM(type, key, kind, min, max, def, choices)
#define SEARCH_PARAM(type, key, kind, min, max) { type, key, kind, min, max, "", NULL },
static const struct param_row search_params[] = {
#include "proxy/index_params.def"
};
#undef INDEX_PARAM
#undef SEARCH_PARAM
#undef INDEX_TYPE

static unsigned group_of(enum dtype t)
{
    switch (t) {
    case DT_FLOAT_VECTOR:
    case DT_FLOAT16_VECTOR:
    case DT_BFLOAT16_VECTOR:
        return G_FLOAT;
    case DT_INT8_VECTOR:
        return G_INT8;
    case DT_BINARY_VECTOR:
        return G_BINARY;
    case DT_SPARSE_FLOAT_VECTOR:
        return G_SPARSE;
    case DT_BOOL:
        return G_BOOL;
    case DT_INT8:
    case DT_INT16:
    case DT_INT32:
    case DT_INT64:
        return G_INT;
    case DT_FLOAT:
    case DT_DOUBLE:
        return G_REAL;
    case DT_VARCHAR:
    case DT_TEXT:
        return G_VARCHAR;
    case DT_ARRAY:
        return G_ARRAY;
    case DT_JSON:
        return G_JSON;
    case DT_GEOMETRY:
        return G_GEOMETRY;
    case DT_TIMESTAMPTZ:
        return G_TIMESTAMPTZ;
    default:
        return 0;
    }
}

/* ---- one flat list ---- */

static void set(struct px_kv_list *l, struct arena *ar, const char *key, const char *value)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->kv[i]->key, key) == 0) {
            l->kv[i]->value = value;
            return;
        }
    }
    px_kv_add(l, ar, key, value);
}

static const char *get(const struct px_kv_list *l, const char *key)
{
    return px_kv(l->n, l->kv, key);
}

/* Members of the JSON object become parameters: strings without quotes, the rest as written. */
static int flatten_json(const char *text, struct arena *ar, struct px_kv_list *l, struct status *st)
{
    struct status why = STATUS_INIT;
    struct json_value obj, v;
    struct slice key, s;
    bool escaped;
    size_t pos = 0;
    int rc = 0;

    if (text[0] == '\0') {
        return 0;
    }
    if (json_validate(slice_of(text), &why) != 0 || !json_parse(slice_of(text), &obj) ||
        obj.type != JSON_OBJECT) {
        FAIL(st, ERR_PARAMETER_INVALID, "index params are no JSON object: %.200s", text);
    }
    while (json_next(&obj, &pos, &key, &escaped, &v)) {
        if (v.type == JSON_NULL) {
            continue;
        }
        s = v.type == JSON_STRING ? json_string(&v, ar) : v.raw;
        set(l, ar, arena_strndup(ar, key.p, key.n), arena_strndup(ar, s.p, s.n));
    }
out:
    return rc;
}

static int flatten(size_t n, px_kv_pb *const *kv, struct arena *ar, struct px_kv_list *l,
                   struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        if (strcmp(kv[i]->key, "params") == 0) {
            TRY(flatten_json(kv[i]->value, ar, l, st));
        } else {
            set(l, ar, kv[i]->key, kv[i]->value);
        }
    }
out:
    return rc;
}

/* ---- metrics ---- */

static bool in_list(const char *s, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(s, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int check_sparse_metric(const struct field *f, const char *metric, struct status *st)
{
    bool bm25 = strcmp(metric, "BM25") == 0;

    if (!bm25 && strcmp(metric, "IP") != 0) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "only IP&BM25 is the supported metric type for sparse index");
    }
    if (bm25 && !f->is_function_output) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "only BM25 Function output field support BM25 metric type");
    }
    if (!bm25 && f->is_function_output) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "BM25 Function output field only support BM25 metric type");
    }
    return 0;
}

static int check_metric(const struct field *f, unsigned group, const char *type, const char *metric,
                        struct status *st)
{
    static const char *const floats[] = { "L2", "IP", "COSINE" };
    static const char *const binaries[] = { "HAMMING", "JACCARD", "SUBSTRUCTURE", "SUPERSTRUCTURE",
                                            "MHJACCARD" };
    bool structure, minhash;

    if (group == G_SPARSE) {
        return check_sparse_metric(f, metric, st);
    }
    if (group != G_BINARY) {
        return in_list(metric, floats, ARRAY_LEN(floats))
                   ? 0
                   : st_fail(st, ERR_PARAMETER_INVALID,
                             "%s vector index does not support metric type: %s",
                             group == G_INT8 ? "int8" : "float", metric);
    }
    structure = strcmp(metric, "SUBSTRUCTURE") == 0 || strcmp(metric, "SUPERSTRUCTURE") == 0;
    minhash = strcmp(metric, "MHJACCARD") == 0;
    if (!in_list(metric, binaries, ARRAY_LEN(binaries)) ||
        (structure && strcmp(type, "BIN_FLAT") != 0) ||
        (minhash != (strcmp(type, "MINHASH_LSH") == 0))) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "binary vector index does not support metric type: %s", metric);
    }
    return 0;
}

static const char *default_metric(const struct field *f, unsigned group, const char *type)
{
    if (group == G_SPARSE) {
        return f->is_function_output ? "BM25" : "IP";
    }
    if (group == G_BINARY) {
        return strcmp(type, "MINHASH_LSH") == 0 ? "MHJACCARD" : "HAMMING";
    }
    return "COSINE";
}

/* ---- values ---- */

#define BAD_PARAMS "invalid parameter[expected=valid index params][actual=invalid index params]"

static bool in_choices(const char *value, const char *choices)
{
    size_t n = strlen(value);

    for (const char *c = choices; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL) {
        size_t len = strcspn(c, "|");
        if (len == n && strncasecmp(c, value, n) == 0) {
            return true;
        }
    }
    return false;
}

static int bad_choice(const struct param_row *p, const char *value, struct status *st)
{
    if (strcmp(p->key, "inverted_index_algo") == 0) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "sparse inverted index algo %s not found or not supported, supported: [%s]: "
                       BAD_PARAMS, value, p->choices);
    }
    return st_fail(st, ERR_PARAMETER_INVALID, "param '%s' (%s) should be one of [%s]: " BAD_PARAMS,
                   p->key, value, p->choices);
}

static int check_value(const struct param_row *p, const char *value, struct status *st)
{
    struct slice s = slice_of(value);
    double v = 0;
    bool flag, ok = true;
    int64_t i = 0;

    switch (p->kind) {
    case BOOL:
        if (!parse_bool(s, &flag)) {
            return st_fail(st, ERR_PARAMETER_INVALID,
                           "param '%s' (%s) should be true or false: " BAD_PARAMS, p->key, value);
        }
        return 0;
    case CHOICE:
        return in_choices(value, p->choices) ? 0 : bad_choice(p, value, st);
    case INT:
        ok = parse_i64(s, &i);
        v = (double)i;
        break;
    case FLOAT:
    case PART:
        ok = parse_f64(s, &v) && isfinite(v);
        break;
    }
    if (!ok) {
        return st_fail(st, ERR_PARAMETER_INVALID, "param '%s' (%s) should be %s: " BAD_PARAMS,
                       p->key, value, p->kind == INT ? "an integer" : "a number");
    }
    if (v < p->min || v > p->max || (p->kind == PART && v >= p->max)) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "Out of range in json: param '%s' (%s) should be in range [%.15g, %.15g%c: "
                       BAD_PARAMS, p->key, value, p->min, p->max, p->kind == PART ? ')' : ']');
    }
    return 0;
}

/* ---- the type ---- */

static int wrong_field(const struct field *f, const char *type, struct status *st)
{
    static const struct {
        const char *type, *text;
    } words[] = {
        { "TRIE", "TRIE are only supported on varchar field" },
        { "Trie", "TRIE are only supported on varchar field" },
        { "STL_SORT", "STL_SORT are only supported on numeric field" },
        { "BITMAP", "bitmap index are only supported on bool, int, string and array field" },
        { "NGRAM", "ngram index can only be created on VARCHAR or JSON field" },
        { "RTREE", "RTREE index can only be built on geometry field" },
    };

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(words[i].type, type) == 0) {
            return st_fail(st, ERR_PARAMETER_INVALID, "%s: " BAD_PARAMS, words[i].text);
        }
    }
    if (strcmp(type, "INVERTED") == 0) {
        return st_fail(st, ERR_PARAMETER_INVALID, "INVERTED are not supported on %s field: "
                       BAD_PARAMS, dtype_name(f->type));
    }
    return st_fail(st, ERR_PARAMETER_INVALID,
                   "data type %s can't build with this index %s: " BAD_PARAMS, dtype_name(f->type),
                   type);
}

/* Rules between parameters, and between them and the field. */
static int check_together(const struct field *f, const char *type, const struct px_kv_list *l,
                          struct status *st)
{
    const char *m = get(l, "m"), *min_gram = get(l, "min_gram"), *max_gram = get(l, "max_gram");
    int64_t vm = 0, vmin = 0, vmax = 0;
    int rc = 0;

    if (m && (strcmp(type, "IVF_PQ") == 0 || strncmp(type, "HNSW_P", 6) == 0) &&
        parse_i64(slice_of(m), &vm) && f->dim % (uint64_t)vm != 0) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "dimension must be able to be divided by `m`, dimension: %u, m: %lld: " BAD_PARAMS,
             f->dim, (long long)vm);
    }
    if (strcmp(type, "NGRAM") == 0) {
        if (!min_gram || !max_gram) {
            FAIL(st, ERR_PARAMETER_INVALID,
                 "Ngram index must specify both min_gram and max_gram: " BAD_PARAMS);
        }
        (void)parse_i64(slice_of(min_gram), &vmin);
        (void)parse_i64(slice_of(max_gram), &vmax);
        if (vmin > vmax) {
            FAIL(st, ERR_PARAMETER_INVALID,
                 "invalid min_gram or max_gram value for Ngram index, min_gram: %s, max_gram: %s: "
                 BAD_PARAMS, min_gram, max_gram);
        }
    }
    if (f->type == DT_JSON && !get(l, "json_cast_type")) {
        if (strcmp(type, "STL_SORT") == 0) {
            return wrong_field(f, type, st); /* sorts numbers and texts, which only a cast gives */
        }
        FAIL(st, ERR_PARAMETER_MISSING,
             "json index must specify cast type: %s[missing_param=json_cast_type]",
             err_text(ERR_PARAMETER_MISSING));
    }
    if (f->type == DT_JSON) {
        static const struct param_row cast = {
            "", "json_cast_type", CHOICE, 0, 0, "",
            "BOOL|DOUBLE|VARCHAR|ARRAY_BOOL|ARRAY_DOUBLE|ARRAY_VARCHAR|JSON"
        };
        TRY(check_value(&cast, get(l, "json_cast_type"), st));
    }
out:
    return rc;
}

static int check_type(const struct field *f, unsigned group, const char *type, struct status *st)
{
    bool real_elem = f->elem == DT_FLOAT || f->elem == DT_DOUBLE;

    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, type) != 0) {
            continue;
        }
        if (!(types[i].fields & group)) {
            return wrong_field(f, type, st);
        }
        if (strcmp(type, "BITMAP") == 0 && f->is_pk) {
            return st_fail(st, ERR_PARAMETER_INVALID,
                           "create bitmap index on primary key not supported: " BAD_PARAMS);
        }
        if (strcmp(type, "BITMAP") == 0 && f->type == DT_ARRAY && real_elem) {
            return wrong_field(f, type, st);
        }
        return 0;
    }
    return st_fail(st, ERR_PARAMETER_INVALID,
                   "invalid parameter[expected=valid index][actual=invalid index type: %s]", type);
}

static int check_params(const char *type, struct arena *ar, struct px_kv_list *l,
                        struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(params); i++) {
        const struct param_row *p = &params[i];
        const char *value;
        if (strcmp(p->type, type) != 0) {
            continue;
        }
        bool flag;
        value = get(l, p->key);
        if (value) {
            TRY(check_value(p, value, st));
            if (p->kind == BOOL && parse_bool(slice_of(value), &flag)) {
                set(l, ar, p->key, flag ? "true" : "false");
            }
        } else if (p->def[0] != '\0') {
            set(l, ar, p->key, p->def);
        }
    }
out:
    return rc;
}

int px_index_params_read(const struct field *f, size_t n, px_kv_pb *const *kv, struct arena *ar,
                         struct px_index_params *ret, struct status *st)
{
    struct px_index_params out = { 0 };
    unsigned group = group_of(f->type);
    const char *type, *metric;
    int rc = 0;

    TRY(flatten(n, kv, ar, &out.flat, st));
    type = get(&out.flat, "index_type");
    type = type && type[0] != '\0' ? type : "AUTOINDEX";
    TRY(check_type(f, group, type, st));
    for (size_t i = 0; i < n; i++) {
        set(&out.user, ar, kv[i]->key, kv[i]->value);
    }
    set(&out.flat, ar, "index_type", type);
    set(&out.user, ar, "index_type", type);
    if (group & G_VECTOR) {
        metric = get(&out.flat, "metric_type");
        metric = metric && metric[0] != '\0' ? metric : default_metric(f, group, type);
        TRY(check_metric(f, group, type, metric, st));
        set(&out.flat, ar, "metric_type", metric);
        set(&out.user, ar, "metric_type", metric);
    }
    TRY(check_params(type, ar, &out.flat, st));
    TRY(check_together(f, type, &out.flat, st));
    *ret = out;
out:
    return rc;
}

/* ---- searches ---- */

int px_index_search_params(const char *type, const struct json_value *obj, struct arena *ar,
                           struct px_kv_list *ret, struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(search_params); i++) {
        const struct param_row *p = &search_params[i];
        struct json_value v;
        const char *text;
        struct slice s;
        if (strcmp(p->type, type) != 0 || !json_member(obj, slice_of(p->key), &v) ||
            v.type == JSON_NULL) {
            continue;
        }
        s = v.type == JSON_STRING ? json_string(&v, ar) : v.raw;
        text = arena_strndup(ar, s.p ? s.p : "", s.n);
        TRY(check_value(p, text, st));
        px_kv_add(ret, ar, p->key, text);
    }
out:
    return rc;
}

/* ---- changes ---- */

static int alterable(const char *key, struct status *st)
{
    static const char *const keys[] = { "mmap.enabled", "indexoffsetcache.enabled", "warmup" };

    return in_list(key, keys, ARRAY_LEN(keys))
               ? 0
               : st_fail(st, ERR_PARAMETER_INVALID, "%s is not a configurable index property", key);
}

int px_index_check_alter(size_t n, px_kv_pb *const *kv, size_t ndelete, const char *const *keys,
                         struct status *st)
{
    bool flag;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        if (strcmp(kv[i]->key, "mmap_enabled") == 0) {
            kv[i]->key = "mmap.enabled";
        }
        TRY(alterable(kv[i]->key, st));
        if (strcmp(kv[i]->key, "warmup") != 0 && !parse_bool(slice_of(kv[i]->value), &flag)) {
            FAIL(st, ERR_PARAMETER_INVALID, "invalid %s value: %s, expected: true, false",
                 kv[i]->key, kv[i]->value);
        }
    }
    for (size_t i = 0; i < ndelete; i++) {
        TRY(alterable(keys[i], st));
    }
out:
    return rc;
}
