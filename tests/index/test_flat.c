/*
 * test_flat.c - exact search against scoring every pair alone and sorting.
 *
 * Scores must agree bit for bit whatever path ran: streams, gathered rows, shared blocks, tiles.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "base/status.h"
#include "index/flat.h"
#include "index/flat_int.h"

static uint64_t rng_state = 88172645463325252u;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

enum data { DATA_RANDOM, DATA_TIES, DATA_NEAR, DATA_WILD, DATA_COUNT };

static uint16_t half_of(float f) /* truncates; values stay within the normal range or are 0 */
{
    uint32_t b;
    memcpy(&b, &f, 4);
    int exp = (int)(b >> 23 & 0xff) - 112;
    return exp <= 0 ? 0 : (uint16_t)((b >> 16 & 0x8000) | (uint32_t)exp << 10 | (b >> 13 & 0x3ff));
}

static float value_of(enum data data, size_t dim_at)
{
    float r = (float)((double)(int64_t)rng() * 0x1p-63);
    switch (data) {
    case DATA_TIES:
        return (float)(rng() % 2);
    case DATA_NEAR: /* a far point with small differences: norms cancel */
        return 100.0f + (float)(dim_at % 7) + r * 1e-3f;
    default:
        return r;
    }
}

static void fill_vec(enum vec_type type, enum data data, uint8_t *p, size_t dim)
{
    /* Rows of the wild set: zeros, overflowing, vanishing, not a number. */
    int wild = data == DATA_WILD ? (int)(rng() % 8) : 0;
    for (size_t i = 0; i < (type == VEC_BIN ? dim / 8 : dim); i++) {
        float f = value_of(data, i);
        uint32_t bits;
        uint16_t h;
        f = wild == 1 ? 0 : wild == 2 ? f * 1e22f : wild == 3 ? f * 1e-24f : f;
        f = wild == 4 && i == dim / 2 ? NAN : wild == 5 && i == 0 ? INFINITY : f;
        switch (type) {
        case VEC_F32:
            memcpy(p + 4 * i, &f, 4);
            break;
        case VEC_F16:
            h = isnan(f) ? 0x7e00 : isinf(f) ? 0x7c00 : fabsf(f) > 60000 ? 0x7bff : half_of(f);
            memcpy(p + 2 * i, &h, 2);
            break;
        case VEC_BF16:
            memcpy(&bits, &f, 4);
            h = (uint16_t)(bits >> 16);
            memcpy(p + 2 * i, &h, 2);
            break;
        case VEC_I8:
            p[i] = wild == 1           ? 0
                   : wild == 2         ? 0x80
                   : data == DATA_TIES ? rng() & 1
                                       : (uint8_t)rng();
            break;
        default:
            p[i] = wild == 1           ? 0
                   : wild == 2         ? 0xff
                   : data == DATA_TIES ? rng() & 1
                                       : (uint8_t)(rng() & rng() & rng());
            break;
        }
    }
}

struct world {
    struct flat_rows rows;
    struct flat_query query;
    uint8_t *base, *queries;
    uint64_t *allow;
};

static void world_new(struct world *w, enum metric metric, enum vec_type type, enum data data,
                      size_t dim, size_t nrows, uint32_t nq, unsigned per_mille)
{
    size_t bytes = vec_bytes(type, dim), stride = bytes + rng() % 2 * 3;
    memset(w, 0, sizeof *w);
    w->base = malloc(nrows * stride + 1);
    w->queries = malloc(nq * stride + 1);
    for (size_t i = 0; i < nrows; i++) {
        fill_vec(type, data, w->base + i * stride, dim);
    }
    for (size_t i = 0; i < nq; i++) {
        fill_vec(type, data, w->queries + i * stride, dim);
        if (rng() % 4 == 0 && nrows) {
            memcpy(w->queries + i * stride, w->base + rng() % nrows * stride, bytes);
        }
    }
    if (per_mille < 1000) {
        /* The bits of the last word past nrows are set: they must be ignored. */
        w->allow = malloc((nrows / 64 + 1) * 8);
        memset(w->allow, 0xff, (nrows / 64 + 1) * 8);
        for (size_t i = 0; i < nrows; i++) {
            bool far_from_all = per_mille == 5 && i / 1000 % 2; /* long runs of empty words */
            if (far_from_all || rng() % 1000 >= per_mille) {
                bit_clear(w->allow, i);
            }
        }
    }
    w->rows = (struct flat_rows){ .metric = metric,
                                  .type = type,
                                  .dim = dim,
                                  .base = w->base,
                                  .stride = stride,
                                  .nrows = nrows,
                                  .allow = w->allow };
    w->query = (struct flat_query){ .queries = w->queries, .query_stride = stride, .nq = nq };
}

static void world_free(struct world *w)
{
    free(w->base);
    free(w->queries);
    free(w->allow);
}

static struct topk *list_new(const struct world *w, uint32_t k, const struct topk_range *range)
{
    struct topk *tk = NULL;
    struct status st = STATUS_INIT;
    bool larger = metric_larger_is_better(w->rows.metric);
    assert_int_equal(topk_new(w->query.nq, k, larger, range, &tk, &st), 0);
    return tk;
}

/* Every allowed pair alone, through the one-row form. */
static struct topk *expected(const struct world *w, uint32_t k, const struct topk_range *range)
{
    struct topk *tk = list_new(w, k, range);
    struct simd_dist d = flat__dist(simd_ops(), w->rows.metric, w->rows.type);
    for (uint32_t q = 0; q < w->query.nq; q++) {
        for (size_t i = 0; i < w->rows.nrows; i++) {
            float s;
            if (w->allow && !bit_get(w->allow, i)) {
                continue;
            }
            d.rows(w->queries + q * w->query.query_stride, w->base + i * w->rows.stride, 0, 1,
                   w->rows.dim, &s);
            if (w->rows.metric < METRIC_SUBSTRUCTURE || s == 0) {
                topk_push(tk, q, s, i);
            }
        }
    }
    topk_finish(tk);
    return tk;
}

static void assert_same(const struct topk *a, const struct topk *b)
{
    for (uint32_t q = 0; q < a->nq; q++) {
        assert_int_equal(topk_count(a, q), topk_count(b, q));
        for (uint32_t i = 0; i < topk_count(a, q); i++) {
            float x = topk_score(a, q, i), y = topk_score(b, q, i);
            assert_int_equal(topk_row(a, q, i), topk_row(b, q, i));
            assert_memory_equal(&x, &y, 4);
        }
    }
}

static void check_world(const struct world *w, uint32_t k, const struct topk_range *range,
                        size_t chunk)
{
    struct topk *want = expected(w, k, range), *got = list_new(w, k, range);
    struct status st = STATUS_INIT;
    for (size_t at = 0; at < w->rows.nrows; at += chunk) {
        struct flat_rows part = w->rows;
        part.base = w->base + at * part.stride;
        part.nrows = chunk < w->rows.nrows - at ? chunk : w->rows.nrows - at;
        part.row_base = at;
        part.allow = w->allow ? w->allow + at / 64 : NULL;
        assert_int_equal(flat_search(&part, &w->query, got, &st), 0);
    }
    topk_finish(got);
    assert_same(want, got);
    topk_free(want);
    topk_free(got);
}

static void test_flat_of_every_metric_and_type_equals_sorting_all_pairs(void **state)
{
    static const size_t dims[] = { 1, 8, 24, 100, 128, 392, 1000 };
    static const uint32_t nqs[] = { 1, 3, 17, 70 };
    static const unsigned densities[] = { 1000, 990, 600, 100, 5, 0 };
    size_t turn = 0;
    for (int metric = 0; metric < METRIC_COUNT; metric++) {
        for (int type = 0; type < VEC_COUNT; type++) {
            for (size_t i = 0; i < ARRAY_LEN(dims) * DATA_COUNT; i++, turn++) {
                size_t dim = dims[i % ARRAY_LEN(dims)];
                if (!metric_fits_type(metric, type) || (type == VEC_BIN && dim % 8)) {
                    continue;
                }
                for (size_t n = 0; n < ARRAY_LEN(nqs); n++) {
                    struct world w;
                    world_new(&w, metric, type, (enum data)(i / ARRAY_LEN(dims)), dim,
                              turn % 9 == 0 ? 3 : 700 + rng() % 1300, nqs[n],
                              densities[(turn + n) % ARRAY_LEN(densities)]);
                    check_world(&w, turn % 3 == 0 ? 200 : 10, NULL, turn % 2 ? 512 : w.rows.nrows);
                    world_free(&w);
                }
            }
        }
    }
}

static void test_flat_with_large_k_returns_all_rows(void **state)
{
    for (uint32_t nq = 1; nq <= 33; nq += 32) {
        struct world w;
        world_new(&w, METRIC_L2, VEC_F32, DATA_RANDOM, 16, 9000, nq, 1000);
        check_world(&w, INDEX_TOPK_MAX, NULL, 9000);
        check_world(&w, 5000, NULL, 1024);
        world_free(&w);
    }
}

static void test_flat_with_more_queries_than_a_chunk_equals_sorting(void **state)
{
    struct world w;
    world_new(&w, METRIC_COSINE, VEC_F32, DATA_RANDOM, 20, 500, 901, 1000);
    check_world(&w, 7, NULL, 500);
    world_free(&w);
}

static void test_flat_range_search_equals_sorting_within_bounds(void **state)
{
    for (uint32_t nq = 1; nq <= 21; nq += 20) {
        for (int metric = 0; metric <= METRIC_JACCARD; metric++) {
            enum vec_type type = metric >= METRIC_HAMMING ? VEC_BIN : VEC_F32;
            struct topk_range r =
                metric == METRIC_L2        ? (struct topk_range){ 1, 1, 17, 13 }
                : metric == METRIC_IP      ? (struct topk_range){ 1, 1, 0.5f, 2 }
                : metric == METRIC_COSINE  ? (struct topk_range){ 1, 1, -0.1f, 0.4f }
                : metric == METRIC_HAMMING ? (struct topk_range){ 1, 1, 9, 5 }
                                           : (struct topk_range){ 1, 1, 0.9f, 0.2f };
            struct world w;
            world_new(&w, metric, type, DATA_RANDOM, 32, 3000, nq, 700);
            struct topk *want = expected(&w, 300, &r);
            assert_true(topk_count(want, 0) > 0); /* the bounds cut through the data */
            topk_free(want);
            check_world(&w, 300, &r, 3000);
            check_world(&w, 5, &r, 640);
            r.has_range_filter = false;
            check_world(&w, 300, &r, 3000);
            world_free(&w);
        }
    }
}

static void expect_scores(enum metric metric, enum vec_type type, size_t dim, const void *q,
                          const void *rows, size_t nrows, const float *scores,
                          const uint64_t *order, uint32_t count)
{
    struct world w = { .rows = { .metric = metric,
                                 .type = type,
                                 .dim = dim,
                                 .base = rows,
                                 .stride = vec_bytes(type, dim),
                                 .nrows = nrows,
                                 .row_base = 100 },
                       .query = { .queries = q, .query_stride = 0, .nq = 1 } };
    struct status st = STATUS_INIT;
    for (uint32_t nq = 1; nq <= 40; nq += 39) { /* alone and as a batch of equal queries */
        w.query.nq = nq;
        struct topk *tk = list_new(&w, 10, NULL);
        assert_int_equal(flat_search(&w.rows, &w.query, tk, &st), 0);
        topk_finish(tk);
        for (uint32_t j = 0; j < nq; j++) {
            assert_int_equal(topk_count(tk, j), count);
            for (uint32_t i = 0; i < count; i++) {
                assert_int_equal(topk_row(tk, j, i), 100 + order[i]);
                assert_float_equal(topk_score(tk, j, i), scores[i], 1e-6f);
            }
        }
        topk_free(tk);
    }
}

static void test_flat_scores_mean_what_the_api_says(void **state)
{
    const float q[] = { 1, 2 }, rows[] = { 1, 0, 0, 0, 2, 4, -1, -2 };
    expect_scores(METRIC_L2, VEC_F32, 2, q, rows, 4, (float[]){ 4, 5, 5, 20 },
                  (uint64_t[]){ 0, 1, 2, 3 }, 4);
    expect_scores(METRIC_IP, VEC_F32, 2, q, rows, 4, (float[]){ 10, 1, 0, -5 },
                  (uint64_t[]){ 2, 0, 1, 3 }, 4);
    expect_scores(METRIC_COSINE, VEC_F32, 2, q, rows, 4, (float[]){ 1, 0.4472136f, 0, -1 },
                  (uint64_t[]){ 2, 0, 1, 3 }, 4);
    const float zero[] = { 0, 0 };
    expect_scores(METRIC_COSINE, VEC_F32, 2, zero, rows, 4, (float[]){ 0, 0, 0, 0 },
                  (uint64_t[]){ 0, 1, 2, 3 }, 4);
    const int8_t qi[] = { -128, 127 }, ri[] = { 127, -128, -128, 127, 0, 0 };
    expect_scores(METRIC_L2, VEC_I8, 2, qi, ri, 3, (float[]){ 0, 32513, 130050 },
                  (uint64_t[]){ 1, 2, 0 }, 3);
    const uint8_t qb[] = { 0x0f }, rb[] = { 0x0f, 0xff, 0x03, 0x00, 0x13 };
    expect_scores(METRIC_HAMMING, VEC_BIN, 8, qb, rb, 5, (float[]){ 0, 2, 3, 4, 4 },
                  (uint64_t[]){ 0, 2, 4, 1, 3 }, 5);
    expect_scores(METRIC_JACCARD, VEC_BIN, 8, qb, rb, 5, (float[]){ 0, 0.5f, 0.5f, 0.6f, 1 },
                  (uint64_t[]){ 0, 1, 2, 4, 3 }, 5);
    expect_scores(METRIC_SUBSTRUCTURE, VEC_BIN, 8, qb, rb, 5, (float[]){ 0, 0 },
                  (uint64_t[]){ 0, 1 }, 2);
    expect_scores(METRIC_SUPERSTRUCTURE, VEC_BIN, 8, qb, rb, 5, (float[]){ 0, 0, 0 },
                  (uint64_t[]){ 0, 2, 3 }, 3);
    const uint8_t empty[] = { 0 };
    expect_scores(METRIC_JACCARD, VEC_BIN, 8, empty, empty, 1, (float[]){ 0 }, (uint64_t[]){ 0 },
                  1);
}

static int stop_at_third(void *arg, struct status *st)
{
    return ++*(int *)arg == 3 ? st_fail(st, ST_CANCELLED, "asked to stop") : 0;
}

static void test_flat_stops_when_the_check_says_so(void **state)
{
    for (uint32_t nq = 1; nq <= 33; nq += 32) {
        for (unsigned density = 50; density <= 1000; density += 950) {
            struct world w;
            int calls = 0;
            struct status st = STATUS_INIT;
            world_new(&w, METRIC_L2, VEC_F32, DATA_RANDOM, 1024, 12800, nq, 1000);
            if (density < 1000) { /* the sparse path counts its own bytes: give it enough */
                w.allow = malloc(12800 / 8);
                memset(w.allow, 0x77, 12800 / 8);
                w.rows.allow = w.allow;
            }
            w.query.check = stop_at_third;
            w.query.check_arg = &calls;
            struct topk *tk = list_new(&w, 10, NULL);
            int rc = flat_search(&w.rows, &w.query, tk, &st);
            assert_int_equal(calls, 3);
            assert_int_equal(rc, ST_CANCELLED);
            assert_int_equal(st.code, ST_CANCELLED);
            topk_free(tk);
            world_free(&w);
        }
    }
}

static void test_flat_with_bad_arguments_fails(void **state)
{
    struct world w;
    struct status st = STATUS_INIT;
    world_new(&w, METRIC_L2, VEC_F32, DATA_RANDOM, 16, 10, 20, 1000);
    struct topk *tk = list_new(&w, 3, NULL);
    struct flat_rows bad = w.rows;
    bad.metric = METRIC_HAMMING;
    assert_int_equal(flat_search(&bad, &w.query, tk, &st), ST_INVALID);
    bad = w.rows;
    bad.dim = INDEX_DIM_MAX + 1;
    assert_int_equal(flat_search(&bad, &w.query, tk, &st), ST_INVALID);
    bad = w.rows;
    bad.stride = 63;
    assert_int_equal(flat_search(&bad, &w.query, tk, &st), ST_INVALID);
    struct flat_query fewer = w.query;
    fewer.nq = 19;
    assert_int_equal(flat_search(&w.rows, &fewer, tk, &st), ST_INVALID);
    bad = w.rows;
    bad.metric = METRIC_IP; /* lists of the other direction */
    assert_int_equal(flat_search(&bad, &w.query, tk, &st), ST_INVALID);
    alloc_fail_after(1);
    assert_int_equal(flat_search(&w.rows, &w.query, tk, &st), ST_NO_MEMORY);
    alloc_fail_after(0);
    assert_int_equal(topk_count(tk, 0), 0);
    bad = w.rows;
    bad.nrows = 0;
    assert_int_equal(flat_search(&bad, &w.query, tk, &st), 0);
    topk_free(tk);
    world_free(&w);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !simd_cap(argv[1])) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flat_of_every_metric_and_type_equals_sorting_all_pairs),
        cmocka_unit_test(test_flat_with_large_k_returns_all_rows),
        cmocka_unit_test(test_flat_with_more_queries_than_a_chunk_equals_sorting),
        cmocka_unit_test(test_flat_range_search_equals_sorting_within_bounds),
        cmocka_unit_test(test_flat_scores_mean_what_the_api_says),
        cmocka_unit_test(test_flat_stops_when_the_check_says_so),
        cmocka_unit_test(test_flat_with_bad_arguments_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
