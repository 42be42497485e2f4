/*
 * ann.c - the common part of every index type: checks, dispatch, and the promise on counts.
 *
 * A type's search may come back with fewer hits than asked for and than there are allowed rows (a
 * graph walk that saw no more, lists that ended). For searches without a range, index_search()
 * then scans the allowed rows exactly, so that callers never see it. With a range nobody can tell
 * a short answer from a complete one: types follow the range themselves.
 *
 * THREADS     No state beside the immutable index.
 */
#include "index/ann.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/ann_int.h"
#include "index/flat_int.h"
#include "index/scan/plan.h"
#include "simd/simd.h"

#define INDEX_OPS(name, format) { &name, format },
static const struct {
    const struct index_ops *ops;
    uint16_t format;
} types[] = {
#include "index/index_table.def"
};
#undef INDEX_OPS

static const char *const strategy_names[STRAT_COUNT] = {
    [STRAT_AUTO] = "auto",         [STRAT_FLAT] = "flat",   [STRAT_SCAN] = "scan",
    [STRAT_CLUSTERS] = "clusters", [STRAT_GRAPH] = "graph", [STRAT_GRAPH2] = "graph2",
    [STRAT_LISTS] = "lists",       [STRAT_TREES] = "trees",
};

const char *index_strategy_name(enum index_strategy s)
{
    return (unsigned)s < STRAT_COUNT ? strategy_names[s] : "unknown";
}

const struct index_ops *index__ops(enum index_type type)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (types[i].ops->type == type) {
            return types[i].ops;
        }
    }
    return NULL;
}

uint16_t index__format(enum index_type type)
{
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (types[i].ops->type == type) {
            return types[i].format;
        }
    }
    return 0;
}

void index_rows_f32(const struct index_rows *r, const uint32_t *ids, size_t first, size_t n,
                    bool normalise, float *out)
{
    const struct simd_ops *ops = simd_ops();
    if (!ids) {
        ops->widen[r->type](index_row(r, first), r->stride, n, r->dim, out);
    }
    for (size_t i = 0; i < n; i++) {
        float *x = out + i * r->dim, norm2;
        if (ids) {
            ops->widen[r->type](index_row(r, ids[i]), r->stride, 1, r->dim, x);
        }
        if (normalise) {
            ops->norm2[SIMD_F32].rows(NULL, x, 0, 1, r->dim, &norm2);
            float scale = norm2 > 0 ? 1.0f / sqrtf(norm2) : 0;
            for (size_t k = 0; k < r->dim; k++) {
                x[k] *= scale;
            }
        }
    }
}

/* ---- Building ---- */

int index__check_rows(const struct index_rows *r, struct status *st)
{
    size_t max = r->type == VEC_BIN ? INDEX_BIN_DIM_MAX : INDEX_DIM_MAX;
    if (r->dim == 0 || r->dim > max || (r->type == VEC_BIN && r->dim % 8 != 0)) {
        return st_fail(st, ST_INVALID, "dimension %zu, should be %s up to %zu", r->dim,
                       r->type == VEC_BIN ? "a multiple of 8" : "1", max);
    }
    if (r->nrows >= UINT32_C(1) << 31 || r->stride < vec_bytes(r->type, r->dim)) {
        return st_fail(st, ST_INVALID, "%u rows of %zu bytes each cannot be indexed", r->nrows,
                       r->stride);
    }
    return 0;
}

int index_build(const struct index_build *b, index_sink_fn *sink, void *sink_arg, struct status *st)
{
    struct index_params params = *b->params;
    struct index_build build = *b;
    struct ixw *w = NULL;
    int rc;
    TRY(index__check_rows(b->rows, st));
    if (params.type == INDEX_AUTOINDEX) {
        TRY(plan_auto_rows(&params, b->rows, st));
    }
    TRY(index_params_resolve(&params, b->rows->metric, b->rows->type, b->rows->dim, b->rows->nrows,
                             st));
    build.params = &params;
    TRY(ixw_new(b->rows, &params, sink, sink_arg, &w, st));
    TRY(index__ops(params.type)->build(&build, w, st));
    TRY(ixw_finish(w, st));
    if (b->progress) {
        b->progress(b->progress_arg, 1);
    }
out:
    ixw_free(w);
    return rc;
}

/* ---- Opening ---- */

static int same_rows(const struct ix_head *h, const struct index_rows *r, struct status *st)
{
    if (h->metric != (uint32_t)r->metric || h->vec_type != (uint32_t)r->type || h->dim != r->dim ||
        h->nrows != r->nrows) {
        return st_fail(st, ST_INVALID,
                       "index file is of %llu rows of dimension %llu under %s, these are %u of %zu "
                       "under %s",
                       (unsigned long long)h->nrows, (unsigned long long)h->dim,
                       metric_name((enum metric)h->metric), r->nrows, r->dim,
                       metric_name(r->metric));
    }
    return 0;
}

int index_open(const struct index_source *src, const struct index_rows *rows,
               struct index **ret_ix, struct status *st)
{
    struct ix_file file;
    struct index_params params;
    struct index *ix = NULL;
    const struct index_ops *ops;
    int rc;
    TRY(index__check_rows(rows, st));
    TRY(ix_file_open(src, &file, st));
    TRY(same_rows(file.head, rows, st));
    index_params_init(&params, (enum index_type)file.head->type);
    if (index_params_parse(&params, file.head->params, st) != 0 ||
        params.type != (enum index_type)file.head->type) {
        FAIL(st, ST_CORRUPT, "index file: parameters '%.100s' make no sense", file.head->params);
    }
    ops = index__ops(params.type);
    if (!ops) {
        FAIL(st, ST_UNSUPPORTED, "index type %s is not served", index_type_name(params.type));
    }
    if (!(ops->types & TYPE_BIT(rows->type)) || !(ops->metrics & METRIC_BIT(rows->metric))) {
        FAIL(st, ST_CORRUPT, "index file: %s of such rows cannot be", index_type_name(params.type));
    }
    TRY(ops->open(&file, rows, &params, src, &ix, st));
    ix->ops = ops;
    ix->rows = *rows;
    ix->params = params;
    ix->file = file;
    *ret_ix = ix;
out:
    return rc;
}

void index_free(struct index *ix)
{
    if (ix) {
        ix->ops->free(ix);
    }
}

int index_validate(const struct index *ix, struct status *st)
{
    struct ix_file again;
    struct index_source src = { .map = ix->file.map, .size = ix->file.size, .fd = -1 };
    int rc;
    TRY(ix_file_open(&src, &again, st));
    if (ix->ops->validate) {
        TRY(ix->ops->validate(ix, st));
    }
out:
    return rc;
}

void index_memory(const struct index *ix, struct index_memory *ret)
{
    *ret = (struct index_memory){ 0 };
    ix->ops->memory(ix, ret);
    ret->mapped = ix->file.size;
}

enum index_type index_type_of(const struct index *ix)
{
    return ix->params.type;
}

const struct index_params *index_params_of(const struct index *ix)
{
    return &ix->params;
}

/* ---- Searching ---- */

/* A view of one list as a topk of its own: same memory, so hits land in the caller's. */
static struct topk one_list(struct topk *tk, uint32_t j)
{
    return (struct topk){ .larger_is_better = tk->larger_is_better,
                          .nq = 1,
                          .k = tk->k,
                          .lists = &tk->lists[j] };
}

int index__flat(const struct index *ix, const struct index_query *q, uint32_t query0, uint32_t nq,
                struct topk *tk, struct index_counters *c, struct status *st)
{
    struct flat_rows rows = { .metric = ix->rows.metric,
                              .type = ix->rows.type,
                              .dim = ix->rows.dim,
                              .base = ix->rows.base,
                              .stride = ix->rows.stride,
                              .nrows = ix->rows.nrows,
                              .row_base = q->row_base,
                              .allow = q->allow };
    struct flat_query fq = { .queries = (const uint8_t *)q->queries + query0 * q->query_stride,
                             .query_stride = q->query_stride,
                             .nq = nq,
                             .check = q->check,
                             .check_arg = q->check_arg };
    struct topk part = *tk;
    uint64_t n = q->allow ? q->allow_count : ix->rows.nrows;
    part.nq = nq;
    part.lists += query0;
    c->strategy = STRAT_FLAT;
    c->exact += n * nq;
    c->bytes += n * nq * vec_bytes(rows.type, rows.dim);
    return flat_search(&rows, &fq, &part, st);
}

#define RERANK_BATCH 256

void index__scores(const struct index *ix, const struct index_query *q, uint32_t j,
                   const uint32_t *rows, size_t n, float *scores, struct index_counters *c)
{
    const void *query = (const uint8_t *)q->queries + j * q->query_stride;
    const struct simd_dist kernel = flat__dist(simd_ops(), ix->rows.metric, ix->rows.type);
    kernel.ids(query, ix->rows.base, ix->rows.stride, rows, n, ix->rows.dim, scores);
    c->exact += n;
    c->bytes += n * vec_bytes(ix->rows.type, ix->rows.dim);
}

void index__rerank(const struct index *ix, const struct index_query *q, uint32_t j,
                   const uint32_t *rows, size_t n, struct topk *tk, struct index_counters *c)
{
    const bool is_structure = ix->rows.metric >= METRIC_SUBSTRUCTURE;
    float scores[RERANK_BATCH];
    for (size_t at = 0; at < n; at += RERANK_BATCH) {
        size_t part = MIN(n - at, (size_t)RERANK_BATCH);
        index__scores(ix, q, j, rows + at, part, scores, c);
        for (size_t i = 0; i < part; i++) {
            if (!is_structure || scores[i] == 0) {
                topk_push(tk, j, scores[i], q->row_base + rows[at + i]);
            }
        }
    }
}

/* Whether list j wants hits that a complete search would have found: it is not full, and holds
 * fewer of these rows than are allowed. */
static bool came_back_short(const struct index *ix, const struct index_query *q,
                            const struct topk *tk, uint32_t j)
{
    const struct topk_list *l = &tk->lists[j];
    uint32_t n = q->allow ? q->allow_count : ix->rows.nrows, got = 0;
    if (l->n >= l->k || l->bound_key != INFINITY || l->low_key != -INFINITY) {
        return false;
    }
    for (uint32_t i = 0; i < l->n; i++) {
        got += l->items[i].row - q->row_base < ix->rows.nrows;
    }
    return got < MIN(tk->k, n);
}

static int finish_short(const struct index *ix, const struct index_query *q, struct topk *tk,
                        struct index_counters *c, struct status *st)
{
    struct topk *fresh = NULL;
    int rc = 0;
    for (uint32_t j = 0; j < q->nq; j++) {
        if (!came_back_short(ix, q, tk, j)) {
            continue;
        }
        /* Into a list of its own: a row already found must not come twice. */
        struct index_query one = *q;
        struct topk list = one_list(tk, j);
        one.queries = (const uint8_t *)q->queries + j * q->query_stride;
        one.nq = 1;
        TRY(topk_new(1, tk->k, tk->larger_is_better, NULL, &fresh, st));
        TRY(index__flat(ix, &one, 0, 1, fresh, c, st));
        topk__drop(&tk->lists[j], q->row_base, ix->rows.nrows);
        topk_merge(&list, fresh);
        topk_free(TAKE(fresh));
        c->fallbacks++;
    }
out:
    topk_free(fresh);
    return rc;
}

int index_search(const struct index *ix, const struct index_query *q, struct topk *tk,
                 struct index_counters *counters, struct status *st)
{
    struct index_search_params defaults;
    struct index_counters none = { 0 }, *c = counters ? counters : &none;
    struct index_query query = *q;
    int rc = 0;
    if (tk->nq != q->nq || tk->larger_is_better != metric_larger_is_better(ix->rows.metric)) {
        FAIL(st, ST_INVALID, "result lists are not made for %u queries under %s", q->nq,
             metric_name(ix->rows.metric));
    }
    if (!query.params) {
        index_search_params_init(&defaults);
        query.params = &defaults;
    }
    if (query.allow && query.allow_count == ix->rows.nrows) {
        query.allow = NULL;
    }
    query.filter = query.allow ? query.filter : NULL;
    if (ix->rows.nrows == 0 || (query.allow && query.allow_count == 0)) {
        goto out;
    }
    if (query.params->strategy == STRAT_FLAT) {
        TRY(index__flat(ix, &query, 0, q->nq, tk, c, st));
        goto out;
    }
    TRY(ix->ops->search(ix, &query, tk, c, st));
    if (ix->rows.metric < METRIC_SUBSTRUCTURE) {
        TRY(finish_short(ix, &query, tk, c, st));
    }
out:
    return rc;
}

/* ---- Filters ---- */

int index_filter_new(const struct index *ix, const uint64_t *allow, struct index_filter **ret_f,
                     struct status *st)
{
    *ret_f = NULL;
    if (!ix->ops->filter) {
        return 0;
    }
    size_t bytes = sizeof **ret_f + bits_words(ix->rows.nrows) * 8;
    struct index_filter *f = alloc_try(bytes);
    if (!f) {
        return st_fail(st, ST_NO_MEMORY, "no memory for a filter of %u rows", ix->rows.nrows);
    }
    f->bytes = bytes;
    ix->ops->filter(ix, allow, f->bits);
    *ret_f = f;
    return 0;
}

size_t index_filter_bytes(const struct index_filter *f)
{
    return f ? f->bytes : 0;
}

void index_filter_free(struct index_filter *f)
{
    mem_free(f);
}

/* ---- Iterating ---- */

/*
 * Batches are searches for ever more rows of which those given out before are dropped: by their
 * bits, so that a row comes once even where a wider search reorders the near ones. A batch may find
 * a row better than the last one given; it is given next (an approximate index saw it late).
 */
struct index_iter {
    const struct index *ix;
    struct index_query q;
    struct index_search_params params;
    uint64_t *left; /* allowed rows not given out */
    uint32_t nleft;
    void *query;
};

int index_iter_new(const struct index *ix, const struct index_query *q, struct index_iter **ret_it,
                   struct status *st)
{
    size_t nbits = ix->rows.nrows, len = vec_bytes(ix->rows.type, ix->rows.dim);
    struct index_iter *it = xalloc(sizeof *it);
    int rc = 0;
    it->ix = ix;
    it->q = *q;
    if (q->nq != 1) {
        FAIL(st, ST_INVALID, "an iterator takes one query, not %u", q->nq);
    }
    it->left = alloc_try(bits_words(nbits) * sizeof(uint64_t) + 8);
    it->query = alloc_try(len);
    if (!it->left || !it->query) {
        FAIL(st, ST_NO_MEMORY, "no memory for an iterator over %zu rows", nbits);
    }
    memcpy(it->query, q->queries, len);
    bits_fill(it->left, nbits, true);
    if (q->allow) {
        bits_and(it->left, q->allow, nbits);
    }
    if (q->params) {
        it->params = *q->params;
    } else {
        index_search_params_init(&it->params);
    }
    it->nleft = (uint32_t)bits_count(it->left, nbits);
    it->q.queries = it->query;
    it->q.params = &it->params;
    it->q.allow = it->left;
    it->q.filter = NULL; /* of other bits */
    *ret_it = TAKE(it);
out:
    index_iter_free(it);
    return rc;
}

int index_iter_next(struct index_iter *it, uint32_t n, float *scores, uint64_t *rows,
                    uint32_t *ret_n, struct status *st)
{
    struct topk *tk = NULL;
    int rc;
    TRY(topk_new(1, n, metric_larger_is_better(it->ix->rows.metric), NULL, &tk, st));
    it->q.allow_count = it->nleft;
    TRY(index_search(it->ix, &it->q, tk, NULL, st));
    topk_finish(tk);
    for (uint32_t i = 0; i < topk_count(tk, 0); i++) {
        scores[i] = topk_score(tk, 0, i);
        rows[i] = topk_row(tk, 0, i);
        bit_clear(it->left, rows[i] - it->q.row_base);
    }
    it->nleft -= topk_count(tk, 0);
    *ret_n = topk_count(tk, 0);
out:
    topk_free(tk);
    return rc;
}

void index_iter_free(struct index_iter *it)
{
    if (it) {
        mem_free(it->left);
        mem_free(it->query);
        mem_free(it);
    }
}
