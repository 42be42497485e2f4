/*
 * conform.h - the shared conformance suite of index types: data, building in memory, truth.
 *
 * Every type of index_table.def is taken through test_conform.c with each metric and element type
 * it names. Data are clustered: a few hundred centres, Gaussian clouds, so that approximate types
 * have something to find.
 */
#pragma once
#include "../lib/unit.h"
#include <math.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "base/pool.h"
#include "index/ann_int.h"
#include "index/flat.h"
#include "index/graph/order.h"

struct cf_set {
    struct index_rows rows;
    uint8_t *data, *queries;
    struct index_order *order; /* in which the rows lie; NULL: in any */
    uint32_t nq;
    size_t query_stride;
};

struct cf_file {
    uint8_t *p;
    size_t n, cap;
};

struct cf_index {
    struct cf_file file;
    struct index *ix;
};

static uint64_t cf_state;
static bool cf_laid; /* rows are put in a graph's order before their first build */

static inline double cf_uniform(void)
{
    cf_state = cf_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(cf_state >> 11) * 0x1p-53;
}

static inline double cf_gauss(void)
{
    double s = 0;
    for (int i = 0; i < 12; i++) {
        s += cf_uniform();
    }
    return s - 6;
}

static inline uint16_t cf_half(float f) /* truncates; normal range or zero */
{
    uint32_t b;
    memcpy(&b, &f, 4);
    int exp = (int)(b >> 23 & 0xff) - 112;
    return exp <= 0 ? 0 : (uint16_t)((b >> 16 & 0x8000) | (uint32_t)exp << 10 | (b >> 13 & 0x3ff));
}

static inline void cf_put(enum vec_type type, uint8_t *row, size_t i, double v)
{
    float f = (float)v;
    uint32_t b;
    uint16_t h;
    switch (type) {
    case VEC_F32:
        memcpy(row + 4 * i, &f, 4);
        break;
    case VEC_F16:
        h = cf_half(f);
        memcpy(row + 2 * i, &h, 2);
        break;
    case VEC_BF16:
        memcpy(&b, &f, 4);
        h = (uint16_t)(b >> 16);
        memcpy(row + 2 * i, &h, 2);
        break;
    case VEC_I8:
        row[i] = (uint8_t)(int8_t)fmax(-127, fmin(127, v * 24));
        break;
    default:
        if (v > 0.7) {
            row[i / 8] = (uint8_t)(row[i / 8] | 1u << (i % 8));
        }
    }
}

/* n rows about ncentres centres, and nq queries about the same. */
static inline void cf_set_new(struct cf_set *s, enum metric metric, enum vec_type type, size_t dim,
                              uint32_t n, uint32_t nq, uint32_t ncentres, uint64_t seed)
{
    size_t len = vec_bytes(type, dim);
    double *centres = xalloc(ncentres * dim * sizeof *centres);
    cf_state = seed * 2654435761u + 1;
    *s = (struct cf_set){ .nq = nq, .query_stride = len };
    s->data = xalloc(n * len + 1);
    s->queries = xalloc(nq * len + 1);
    for (size_t i = 0; i < ncentres * dim; i++) {
        centres[i] = cf_gauss();
    }
    for (uint32_t i = 0; i < n + nq; i++) {
        uint8_t *row = i < n ? s->data + i * len : s->queries + (i - n) * len;
        const double *c = centres + (size_t)(cf_uniform() * ncentres) * dim;
        for (size_t k = 0; k < dim; k++) {
            cf_put(type, row, k, c[k] + 0.4 * cf_gauss());
        }
    }
    s->rows = (struct index_rows){ .metric = metric, .type = type, .dim = dim, .base = s->data,
                                   .stride = len, .nrows = n };
    mem_free(centres);
}

/* Puts the rows in the order of a graph. */
static inline void cf_lay(struct cf_set *s, const struct index_params *p, struct pool *pool)
{
    struct status st = STATUS_INIT;
    struct index_build b = { .rows = &s->rows, .params = p, .pool = pool };
    const size_t n = s->rows.nrows, len = s->rows.stride;
    ASSERT_OK(index_order_new(&b, &s->order, &st));
    uint8_t *was = xalloc(n * len + 1);
    memcpy(was, s->data, n * len);
    for (size_t i = 0; i < n; i++) {
        memcpy(s->data + i * len, was + index_order_rows(s->order)[i] * len, len);
    }
    mem_free(was);
}

static inline void cf_set_done(struct cf_set *s)
{
    index_order_free(s->order);
    mem_free(s->data);
    mem_free(s->queries);
}

static inline int cf_sink(void *arg, const void *p, size_t n, struct status *st)
{
    struct cf_file *f = arg;
    (void)st;
    if (f->n + n > f->cap) {
        uint8_t *bigger;
        f->cap = (f->n + n) * 2;
        bigger = alloc_try_aligned(4096, ROUND_UP(f->cap, 4096));
        if (!bigger) {
            return st_fail(st, ST_NO_MEMORY, "test file");
        }
        memcpy(bigger, f->p ? f->p : p, f->n);
        mem_free(f->p);
        f->p = bigger;
    }
    memcpy(f->p + f->n, p, n);
    f->n += n;
    return 0;
}

/* Parameters that suit small sets. */
static inline void cf_params(struct index_params *p, enum index_type type, size_t dim)
{
    index_params_init(p, type);
    p->nlist = 32;
    p->M = 12;
    p->ef_construction = 80;
    p->n_trees = 24;
    p->m = dim % 4 == 0 ? (uint32_t)dim / 4 : (uint32_t)dim;
    p->nbits = 6;
    p->refine = true;
    p->max_degree = 32;
    p->search_list_size = 80;
    p->sub_dim = dim % 2 == 0 ? 2 : 1;
}

static inline void cf_search_params(struct index_search_params *p)
{
    index_search_params_init(p);
    p->ef = 120;
    p->nprobe = 16;
    p->reorder_k = 150;
    p->refine_k = 8;
    p->search_k = 2500;
    p->search_list = 120;
}

static inline int cf_build(const struct cf_set *s, const struct index_params *p, struct pool *pool,
                           struct cf_file *ret, struct status *st)
{
    if (cf_laid && !s->order) {
        cf_lay((struct cf_set *)(uintptr_t)s, p, pool);
    }
    struct index_build b = { .rows = &s->rows, .params = p, .pool = pool };
    if (s->order) {
        b.plan = index_order_plan(s->order, &b.plan_size);
    }
    return index_build(&b, cf_sink, ret, st);
}

static inline int cf_open(const struct cf_set *s, const struct cf_file *f, struct index **ret,
                          struct status *st)
{
    struct index_source src = { .map = f->p, .size = f->n, .fd = -1 };
    return index_open(&src, &s->rows, ret, st);
}

static inline void cf_index_new(struct cf_index *x, const struct cf_set *s, enum index_type type)
{
    struct status st = STATUS_INIT;
    struct index_params p;
    *x = (struct cf_index){ 0 };
    cf_params(&p, type, s->rows.dim);
    ASSERT_OK(cf_build(s, &p, NULL, &x->file, &st));
    ASSERT_OK(cf_open(s, &x->file, &x->ix, &st));
}

static inline void cf_index_done(struct cf_index *x)
{
    index_free(x->ix);
    mem_free(x->file.p);
}

static inline bool cf_larger(const struct cf_set *s)
{
    return metric_larger_is_better(s->rows.metric);
}

/* The true answer. */
static inline struct topk *cf_truth(const struct cf_set *s, uint32_t k, const uint64_t *allow,
                                    const struct topk_range *range)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct flat_rows rows = { .metric = s->rows.metric, .type = s->rows.type, .dim = s->rows.dim,
                              .base = s->data, .stride = s->rows.stride, .nrows = s->rows.nrows,
                              .allow = allow };
    struct flat_query q = { .queries = s->queries, .query_stride = s->query_stride, .nq = s->nq };
    ASSERT_OK(topk_new(s->nq, k, cf_larger(s), range, &tk, &st));
    ASSERT_OK(flat_search(&rows, &q, tk, &st));
    topk_finish(tk);
    return tk;
}

static inline struct topk *cf_search(const struct cf_index *x, const struct cf_set *s, uint32_t k,
                                     const uint64_t *allow, const struct topk_range *range,
                                     struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct index_search_params sp;
    cf_search_params(&sp);
    sp.ef = MAX(sp.ef, k);
    struct index_query q = { .queries = s->queries, .query_stride = s->query_stride, .nq = s->nq,
                             .allow = allow, .params = &sp,
                             .allow_count =
                                 allow ? (uint32_t)bits_count(allow, s->rows.nrows) : 0 };
    ASSERT_OK(topk_new(s->nq, k, cf_larger(s), range, &tk, &st));
    ASSERT_OK(index_search(x->ix, &q, tk, c, &st));
    topk_finish(tk);
    return tk;
}

/* Share of the true hits found; ties by score count. Fails the test when a hit is not allowed,
 * comes twice or carries a score that is not its own. */
static inline double cf_recall(const struct cf_set *s, const struct topk *got,
                               const struct topk *truth, const uint64_t *allow)
{
    double found = 0, all = 0;
    for (uint32_t j = 0; j < s->nq; j++) {
        uint32_t n = topk_count(truth, j);
        float worst = n ? topk_score(truth, j, n - 1) : 0;
        all += n;
        for (uint32_t i = 0; i < topk_count(got, j); i++) {
            float score = topk_score(got, j, i);
            uint64_t row = topk_row(got, j, i);
            assert_true(row < s->rows.nrows);
            assert_true(!allow || bit_get(allow, row));
            for (uint32_t h = 0; h < i; h++) {
                assert_true(topk_row(got, j, h) != row);
            }
            found += n && (cf_larger(s) ? score >= worst : score <= worst);
        }
    }
    return all > 0 ? found / all : 1;
}
