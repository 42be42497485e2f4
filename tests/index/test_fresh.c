/* test_fresh.c - codes of growing rows: recall, filters, readers beside the writer. */
#include "conform.h"

#include "index/flat.h"
#include "index/scan/fresh.h"

static const void *row_of(const void *arg, uint32_t row)
{
    return index_row(arg, row);
}

static struct fresh *coded(const struct cf_set *s, uint32_t nrows)
{
    struct status st = STATUS_INIT;
    struct fresh *fr;
    struct index_rows first = s->rows;
    first.nrows = FRESH_MIN_ROWS;
    ASSERT_OK(fresh_new(&first, &fr, &st));
    for (uint32_t row = 0, n = 1; row < nrows; row += n, n = MIN(n * 3, nrows - row)) {
        ASSERT_OK(fresh_add(fr, index_row(&s->rows, row), s->rows.stride, n, &st));
    }
    assert_int_equal(fresh_coded(fr), nrows);
    return fr;
}

static void sort_all(struct fresh *fr, const struct cf_set *s)
{
    for (int i = 0; fresh_sort(fr, row_of, &s->rows, 500); i++) {
        assert_true(i < 100000);
    }
}

static int run(struct fresh *fr, const struct cf_set *s, uint32_t nrows, const uint64_t *allow,
               bool whole, struct topk *tk, struct index_counters *c, struct status *st)
{
    struct fresh_query q = { .queries = s->queries, .query_stride = s->query_stride, .nq = s->nq,
                             .row = row_of, .row_arg = &s->rows, .nrows = nrows, .allow = allow,
                             .whole = whole };
    q.allow_count = allow ? (uint32_t)bits_count(allow, nrows) : 0;
    return fresh_search(fr, &q, tk, c, st);
}

static struct topk *search(struct fresh *fr, const struct cf_set *s, uint32_t k,
                           const uint64_t *allow, const struct topk_range *range,
                           struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    ASSERT_OK(topk_new(s->nq, k, cf_larger(s), range, &tk, &st));
    ASSERT_OK(run(fr, s, s->rows.nrows, allow, false, tk, c, &st));
    topk_finish(tk);
    return tk;
}

#define NROWS 20000

static void test_search_when_rows_have_codes_then_recall_is_near_one(void **state)
{
    static const enum metric metrics[] = { METRIC_L2, METRIC_IP, METRIC_COSINE };
    for (int m = 0; m < 3; m++) {
        struct cf_set s;
        struct index_counters c = { 0 };
        cf_set_new(&s, metrics[m], VEC_F32, 64, NROWS, 20, 300, 11);
        struct fresh *fr = coded(&s, NROWS);
        struct topk *truth = cf_truth(&s, 10, NULL, NULL);
        struct topk *got = search(fr, &s, 10, NULL, NULL, &c);
        double recall = cf_recall(&s, got, truth, NULL);
        if (recall < 0.99) {
            fail_msg("%s: recall %.4f", metric_name(metrics[m]), recall);
        }
        assert_true(c.exact < c.distances / 4); /* the codes do rule out */
        topk_free(truth);
        topk_free(got);
        fresh_free(fr);
        cf_set_done(&s);
    }
}

static void test_search_when_filtered_then_only_allowed_rows_come(void **state)
{
    struct cf_set s;
    uint64_t allow[(5000 + 63) / 64];
    cf_set_new(&s, METRIC_L2, VEC_F16, 32, 5000, 10, 60, 12);
    struct fresh *fr = coded(&s, 5000);
    for (int shape = 0; shape < 3; shape++) {
        bits_fill(allow, 5000, false);
        for (uint32_t i = 0; i < 5000; i++) {
            if (shape == 0 ? i % 3 == 0 : shape == 1 ? i > 4700 : i == 4096) {
                bit_set(allow, i);
            }
        }
        struct topk *truth = cf_truth(&s, 10, allow, NULL);
        struct topk *got = search(fr, &s, 10, allow, NULL, NULL);
        assert_true(cf_recall(&s, got, truth, allow) > 0.97);
        for (uint32_t j = 0; j < s.nq; j++) {
            assert_int_equal(topk_count(got, j), shape == 2 ? 1 : 10);
        }
        topk_free(truth);
        topk_free(got);
    }
    fresh_free(fr);
    cf_set_done(&s);
}

static void test_search_when_a_range_is_given_then_it_holds(void **state)
{
    struct cf_set s;
    cf_set_new(&s, METRIC_COSINE, VEC_F32, 48, 5000, 10, 60, 13);
    struct fresh *fr = coded(&s, 5000);
    struct topk *wide = cf_truth(&s, 100, NULL, NULL);
    struct topk_range range = { .has_radius = true, .has_range_filter = true,
                                .radius = topk_score(wide, 0, 80),
                                .range_filter = topk_score(wide, 0, 10) };
    struct topk *truth = cf_truth(&s, 200, NULL, &range);
    struct topk *got = search(fr, &s, 200, NULL, &range, NULL);
    assert_true(topk_count(truth, 0) == 70);
    for (uint32_t j = 0; j < s.nq; j++) {
        assert_true(topk_count(got, j) <= topk_count(truth, j));
    }
    assert_true(cf_recall(&s, got, truth, NULL) > 0.97);
    topk_free(wide);
    topk_free(truth);
    topk_free(got);
    fresh_free(fr);
    cf_set_done(&s);
}

static void test_search_when_rows_are_all_equal_or_zero_then_counts_hold(void **state)
{
    for (int zero = 0; zero < 2; zero++) {
        struct cf_set s;
        cf_set_new(&s, METRIC_COSINE, VEC_F32, 20, 2000, 3, 5, 14);
        for (uint32_t i = 0; i < 2000; i++) {
            memset(s.data + i * s.rows.stride, zero ? 0 : 0x3f, s.rows.stride);
        }
        struct fresh *fr = coded(&s, 2000);
        struct topk *got = search(fr, &s, 50, NULL, NULL, NULL);
        for (uint32_t j = 0; j < s.nq; j++) {
            assert_int_equal(topk_count(got, j), 50);
        }
        topk_free(got);
        fresh_free(fr);
        cf_set_done(&s);
    }
}

/* Searches that bring the score of a hit along: worse ones are not looked for. */
static void test_search_when_a_bound_is_brought_then_hits_up_to_it_come(void **state)
{
    static const enum metric metrics[] = { METRIC_L2, METRIC_IP, METRIC_COSINE };
    for (int m = 0; m < 3; m++) {
        struct cf_set s;
        struct index_counters with = { 0 }, without = { 0 };
        struct status st = STATUS_INIT;
        struct topk *got;
        uint32_t hits = 0, found = 0;
        cf_set_new(&s, metrics[m], VEC_F32, 96, 10000, 20, 100, 16);
        struct fresh *fr = coded(&s, 10000);
        struct topk *all = search(fr, &s, 10, NULL, NULL, &without);
        ASSERT_OK(topk_new(s.nq, 10, cf_larger(&s), NULL, &got, &st));
        for (uint32_t j = 0; j < s.nq; j++) {
            topk_limit(got, j, topk_score(all, j, 3));
        }
        ASSERT_OK(run(fr, &s, 10000, NULL, false, got, &with, &st));
        topk_finish(got);
        for (uint32_t j = 0; j < s.nq; j++) {
            assert_true(topk_count(got, j) <= 4);
            hits += 4;
            for (uint32_t i = 0; i < topk_count(got, j); i++) {
                found += topk_row(got, j, i) == topk_row(all, j, i);
            }
            /* The hit that has the bound's score itself. */
            uint32_t n = topk_count(got, j);
            found += n > 0 && n < 4 && topk_score(got, j, n - 1) == topk_score(all, j, 3);
        }
        if (found * 100 < hits * 98) {
            fail_msg("%s: %u of %u hits", metric_name(metrics[m]), found, hits);
        }
        assert_true(with.exact < without.exact);
        topk_free(all);
        topk_free(got);
        fresh_free(fr);
        cf_set_done(&s);
    }
}

static void test_search_when_rows_equal_the_bound_then_all_are_hits(void **state)
{
    struct cf_set s;
    struct status st = STATUS_INIT;
    struct topk *got;
    cf_set_new(&s, METRIC_L2, VEC_F32, 20, 2000, 1, 5, 17);
    for (uint32_t i = 0; i < 2000; i += 100) {
        memcpy(s.data + i * s.rows.stride, s.data, s.rows.stride);
    }
    memcpy(s.queries, s.data, s.rows.stride);
    struct fresh *fr = coded(&s, 2000);
    ASSERT_OK(topk_new(1, 50, false, NULL, &got, &st));
    topk_limit(got, 0, 0);
    ASSERT_OK(run(fr, &s, 2000, NULL, false, got, NULL, &st));
    topk_finish(got);
    assert_int_equal(topk_count(got, 0), 20);
    topk_free(got);
    fresh_free(fr);
    cf_set_done(&s);
}

static void test_search_when_rows_are_in_lists_then_few_are_read_and_recall_holds(void **state)
{
    static const struct {
        enum metric metric;
        enum vec_type type;
    } of[] = { { METRIC_L2, VEC_F32 },     { METRIC_IP, VEC_F32 }, { METRIC_COSINE, VEC_F32 },
               { METRIC_COSINE, VEC_F16 }, { METRIC_L2, VEC_I8 } };
    for (size_t m = 0; m < sizeof of / sizeof of[0]; m++) {
        struct cf_set s;
        struct index_counters c = { 0 };
        cf_set_new(&s, of[m].metric, of[m].type, 64, NROWS, 20, 300, 18);
        struct fresh *fr = coded(&s, NROWS);
        size_t before = fresh_memory(fr);
        sort_all(fr, &s);
        assert_int_equal(fresh_sorted(fr), NROWS);
        assert_true(fresh_memory(fr) > before);
        struct topk *truth = cf_truth(&s, 10, NULL, NULL);
        struct topk *got = search(fr, &s, 10, NULL, NULL, &c);
        double recall = cf_recall(&s, got, truth, NULL);
        if (recall < 0.97) {
            fail_msg("%s: recall %.4f", metric_name(of[m].metric), recall);
        }
        assert_true(c.lists > 0 && c.distances < (uint64_t)NROWS * s.nq * 7 / 10);
        topk_free(truth);
        topk_free(got);
        fresh_free(fr);
        cf_set_done(&s);
    }
}

/* Lists hold rows that a search must not see: later ones, and those a filter excludes. */
static void test_search_when_lists_hold_more_rows_then_only_its_own_come(void **state)
{
    struct cf_set s;
    struct status st = STATUS_INIT;
    uint64_t *allow = xalloc(bits_words(NROWS) * 8);
    cf_set_new(&s, METRIC_L2, VEC_F32, 32, NROWS, 10, 200, 19);
    struct fresh *fr = coded(&s, NROWS);
    sort_all(fr, &s);
    struct cf_set less = s;
    less.rows.nrows = 15001;
    struct topk *truth = cf_truth(&less, 10, NULL, NULL);
    struct topk *got = search(fr, &less, 10, NULL, NULL, NULL);
    assert_true(cf_recall(&less, got, truth, NULL) > 0.95);
    for (uint32_t j = 0; j < s.nq; j++) {
        assert_int_equal(topk_count(got, j), 10);
        for (uint32_t i = 0; i < 10; i++) {
            assert_true(topk_row(got, j, i) < 15001);
        }
    }
    topk_free(truth);
    topk_free(got);
    for (uint32_t i = 0; i < NROWS; i++) {
        if (i % 5 != 2) {
            bit_set(allow, i);
        }
    }
    truth = cf_truth(&s, 10, allow, NULL);
    got = search(fr, &s, 10, allow, NULL, NULL);
    assert_true(cf_recall(&s, got, truth, allow) > 0.95); /* and none is excluded */
    topk_free(got);
    ASSERT_OK(topk_new(s.nq, 10, false, NULL, &got, &st));
    ASSERT_OK(run(fr, &s, NROWS, allow, true, got, NULL, &st)); /* every code */
    topk_finish(got);
    assert_true(cf_recall(&s, got, truth, allow) > 0.99);
    topk_free(truth);
    topk_free(got);
    fresh_free(fr);
    cf_set_done(&s);
    mem_free(allow);
}

/* A filter that excludes the rows near the query excludes the lists near it: more are read then. */
static void test_search_when_all_near_lists_are_excluded_then_hits_come_from_others(void **state)
{
    enum { SORTED = 36864, ALL = 58000, DIM = 16 };
    struct cf_set s;
    uint64_t *allow = xalloc(bits_words(ALL) * 8);
    cf_set_new(&s, METRIC_L2, VEC_F32, DIM, ALL, 5, 1, 21);
    for (uint32_t i = 0; i < ALL; i++) { /* lists of one half; then rows of the other only */
        const bool far = i % 2 || i >= SORTED;
        for (size_t d = 0; far && d < DIM; d++) {
            float v;
            memcpy(&v, s.data + (i * DIM + d) * sizeof v, sizeof v);
            v += 4;
            memcpy(s.data + (i * DIM + d) * sizeof v, &v, sizeof v);
        }
        if (far) {
            bit_set(allow, i);
        }
    }
    struct cf_set some = s;
    some.rows.nrows = SORTED;
    struct fresh *fr = coded(&some, SORTED);
    struct status st = STATUS_INIT;
    sort_all(fr, &s);
    ASSERT_OK(fresh_add(fr, index_row(&s.rows, SORTED), s.rows.stride, ALL - SORTED, &st));
    sort_all(fr, &s);
    assert_int_equal(fresh_sorted(fr), ALL);
    struct index_counters c = { 0 };
    struct topk *truth = cf_truth(&s, 10, allow, NULL);
    struct topk *got = search(fr, &s, 10, allow, NULL, &c);
    assert_true(c.lists > 0);
    for (uint32_t j = 0; j < s.nq; j++) {
        assert_int_equal(topk_count(got, j), 10);
    }
    assert_true(cf_recall(&s, got, truth, allow) > 0.9);
    topk_free(truth);
    topk_free(got);
    fresh_free(fr);
    cf_set_done(&s);
    mem_free(allow);
}

static void test_sort_when_memory_is_short_then_searches_do_without(void **state)
{
    struct cf_set s;
    cf_set_new(&s, METRIC_L2, VEC_F32, 16, NROWS, 5, 100, 20);
    for (int fail = 1; fail < 400; fail = fail * 2 + 1) {
        struct fresh *fr = coded(&s, NROWS);
        alloc_fail_after(fail);
        sort_all(fr, &s);
        alloc_fail_after(0);
        struct topk *truth = cf_truth(&s, 10, NULL, NULL);
        struct topk *got = search(fr, &s, 10, NULL, NULL, NULL);
        assert_true(cf_recall(&s, got, truth, NULL) > 0.95);
        topk_free(truth);
        topk_free(got);
        fresh_free(fr);
    }
    cf_set_done(&s);
}

/* ---- A guide ---- */

/* The first half of a set is the guide, the second the growing rows. */
struct guided {
    struct cf_set s;
    struct index_rows guide, growing;
    struct fresh *fr;
    float far;
};

static struct index_near near_new(uint32_t nq, uint32_t max)
{
    return (struct index_near){ .max = max, .rows = xalloc((size_t)nq * max * 4),
                                .counts = xalloc(nq * 4), .keys = xalloc(nq * sizeof(float)) };
}

static void near_done(struct index_near *n)
{
    mem_free(n->rows);
    mem_free(n->counts);
    mem_free(n->keys);
}

/* What a perfect search of the guide would tell. */
static void near_of(const struct index_rows *guide, const void *rows, size_t stride, uint32_t n,
                    struct index_near *ret)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct flat_rows flat = { .metric = guide->metric, .type = guide->type, .dim = guide->dim,
                              .base = guide->base, .stride = guide->stride,
                              .nrows = guide->nrows };
    struct flat_query q = { .queries = rows, .query_stride = stride, .nq = n };
    ASSERT_OK(topk_new(n, ret->max, metric_larger_is_better(guide->metric), NULL, &tk, &st));
    ASSERT_OK(flat_search(&flat, &q, tk, &st));
    topk_finish(tk);
    for (uint32_t j = 0; j < n; j++) {
        ret->counts[j] = topk_count(tk, j);
        for (uint32_t i = 0; i < ret->counts[j]; i++) {
            ret->rows[j * ret->max + i] = (uint32_t)topk_row(tk, j, i);
        }
        ret->keys[j] = topk_key(tk, topk_score(tk, j, ret->counts[j] - 1));
    }
    topk_free(tk);
}

static int attach(struct fresh *fr, const struct guided *g, uint32_t n)
{
    struct status st = STATUS_INIT;
    struct index_near near = near_new(n, FRESH_ATTACH);
    near_of(&g->guide, index_row(&g->growing, fresh_attached(fr)), g->growing.stride, n, &near);
    int rc = fresh_attach(fr, &near, n, &st);
    near_done(&near);
    return rc;
}

/* nattached of the growing rows, all of which have codes. */
static void guided_new(struct guided *g, enum metric metric, uint32_t nrows, uint32_t nattached)
{
    struct status st = STATUS_INIT;
    struct index_near near = near_new(100, FRESH_ATTACH);
    g->guide = g->growing = g->s.rows;
    g->guide.nrows = nrows / 2;
    g->growing.nrows = nrows - nrows / 2;
    g->growing.base = index_row(&g->s.rows, nrows / 2);
    struct cf_set half = g->s;
    half.rows = g->growing;
    g->fr = coded(&half, g->growing.nrows);
    near_of(&g->guide, g->guide.base, g->guide.stride, 100, &near);
    g->far = fresh_guide_far(metric, near.keys, 100);
    assert_int_equal(fresh_guide_id(g->fr), 0);
    ASSERT_OK(fresh_guide_new(g->fr, 7, g->guide.nrows, g->far, &st));
    assert_int_equal(fresh_guide_id(g->fr), 7);
    while (fresh_attached(g->fr) < nattached) {
        assert_int_equal(attach(g->fr, g, MIN(nattached - fresh_attached(g->fr), 500u)), 0);
    }
    near_done(&near);
}

static void guided_done(struct guided *g)
{
    fresh_free(g->fr);
    cf_set_done(&g->s);
}

/* Searches that bring the guide's nearest near_max rows along, or with id 0 none. */
static struct topk *search_guided(const struct guided *g, uint32_t k, uint32_t near_max,
                                  uint64_t id, const uint64_t *allow, struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct index_near near = near_new(g->s.nq, near_max);
    struct fresh_query q = { .queries = g->s.queries, .query_stride = g->s.query_stride,
                             .nq = g->s.nq, .row = row_of, .row_arg = &g->growing,
                             .nrows = g->growing.nrows, .allow = allow,
                             .near = id ? &near : NULL, .near_id = id };
    q.allow_count = allow ? (uint32_t)bits_count(allow, q.nrows) : 0;
    near_of(&g->guide, g->s.queries, g->s.query_stride, g->s.nq, &near);
    ASSERT_OK(topk_new(g->s.nq, k, metric_larger_is_better(g->guide.metric), NULL, &tk, &st));
    struct cf_set half = g->s;
    half.rows = g->growing;
    struct topk *truth = cf_truth(&half, 2 * k, allow, NULL);
    for (uint32_t j = 0; j < g->s.nq; j++) { /* k hits no better than these are there already */
        topk_limit(tk, j, topk_score(truth, j, topk_count(truth, j) - 1));
    }
    topk_free(truth);
    ASSERT_OK(fresh_search(g->fr, &q, tk, c, &st));
    topk_finish(tk);
    near_done(&near);
    return tk;
}

static double recall_of(const struct guided *g, const struct topk *got, const uint64_t *allow)
{
    struct cf_set half = g->s;
    half.rows = g->growing;
    struct topk *truth = cf_truth(&half, got->k, allow, NULL);
    double recall = cf_recall(&half, got, truth, allow);
    topk_free(truth);
    return recall;
}

static void test_search_when_a_guide_was_searched_then_few_rows_are_looked_at(void **state)
{
    static const enum metric metrics[] = { METRIC_L2, METRIC_COSINE };
    for (int m = 0; m < 4; m++) {
        struct guided g;
        struct index_counters c = { 0 };
        cf_set_new(&g.s, metrics[m % 2], VEC_F32, 96, NROWS, 20, 400, 31);
        guided_new(&g, metrics[m % 2], NROWS, m < 2 ? NROWS / 2 : NROWS / 2 - 777);
        struct topk *got = search_guided(&g, 10, 19, 7, NULL, &c);
        struct topk *plain = search_guided(&g, 10, 19, 0, NULL, NULL);
        double recall = recall_of(&g, got, NULL), by_signs = recall_of(&g, plain, NULL);
        if (recall < by_signs - 0.03) {
            fail_msg("%s: recall %.4f, %.4f by signs", metric_name(metrics[m % 2]), recall,
                     by_signs);
        }
        topk_free(plain);
        assert_true(c.distances < (uint64_t)NROWS / 2 * g.s.nq / 3);
        assert_true(fresh_guide_memory(g.fr) > 4 * (size_t)NROWS / 2 * FRESH_ATTACH);
        topk_free(got);
        guided_done(&g);
    }
}

static void test_search_when_a_guide_is_another_or_left_then_every_row_counts(void **state)
{
    struct guided g;
    cf_set_new(&g.s, METRIC_L2, VEC_F32, 96, 8000, 10, 100, 32);
    guided_new(&g, METRIC_L2, 8000, 4000);
    for (int how = 0; how < 2; how++) {
        struct topk *got = search_guided(&g, 10, 3, how == 0 ? 8 : 7, NULL, NULL);
        struct topk *plain = search_guided(&g, 10, 3, 0, NULL, NULL);
        for (uint32_t j = 0; how == 0 && j < g.s.nq; j++) {
            assert_int_equal(topk_count(got, j), topk_count(plain, j));
            for (uint32_t i = 0; i < topk_count(got, j); i++) {
                assert_true(topk_row(got, j, i) == topk_row(plain, j, i));
            }
        }
        topk_free(got);
        topk_free(plain);
        fresh_guide_leave(g.fr);
        assert_int_equal(fresh_attached(g.fr), 0);
    }
    guided_done(&g);
}

/* Nothing was found elsewhere: rows must fill the list, however far they are. */
static void test_search_when_guided_without_a_bound_then_the_list_is_full(void **state)
{
    struct guided g;
    struct status st = STATUS_INIT;
    struct topk *tk;
    cf_set_new(&g.s, METRIC_L2, VEC_F32, 96, 8000, 10, 100, 37);
    guided_new(&g, METRIC_L2, 8000, 4000);
    struct index_near near = near_new(g.s.nq, 1);
    struct fresh_query q = { .queries = g.s.queries, .query_stride = g.s.query_stride,
                             .nq = g.s.nq, .row = row_of, .row_arg = &g.growing, .nrows = 4000,
                             .near = &near, .near_id = 7 };
    near_of(&g.guide, g.s.queries, g.s.query_stride, g.s.nq, &near);
    ASSERT_OK(topk_new(g.s.nq, 1000, false, NULL, &tk, &st));
    ASSERT_OK(fresh_search(g.fr, &q, tk, NULL, &st));
    topk_finish(tk);
    for (uint32_t j = 0; j < g.s.nq; j++) {
        assert_int_equal(topk_count(tk, j), 1000);
    }
    topk_free(tk);
    near_done(&near);
    guided_done(&g);
}

static void test_search_when_guided_and_filtered_then_only_allowed_rows_come(void **state)
{
    struct guided g;
    uint64_t allow[(5000 + 63) / 64] = { 0 };
    cf_set_new(&g.s, METRIC_COSINE, VEC_F16, 64, 10000, 10, 100, 33);
    guided_new(&g, METRIC_COSINE, 10000, 5000);
    for (uint32_t i = 0; i < 5000; i++) {
        if (i % 4) {
            bit_set(allow, i);
        }
    }
    struct topk *got = search_guided(&g, 10, 9, 7, allow, NULL);
    for (uint32_t j = 0; j < g.s.nq; j++) {
        for (uint32_t i = 0; i < topk_count(got, j); i++) {
            assert_true(bit_get(allow, topk_row(got, j, i)));
        }
    }
    topk_free(got);
    guided_done(&g);
}

/* A cloud of growing rows where the guide has none, and queries in it and on the way to it. */
static void test_search_when_rows_are_far_from_the_guide_then_none_is_lost(void **state)
{
    enum { N = 12000, DIM = 64, CLOUD = 3000 };
    for (int m = 0; m < 2; m++) {
        struct guided g;
        float *rows, *queries;
        cf_set_new(&g.s, m ? METRIC_COSINE : METRIC_L2, VEC_F32, DIM, N, 20, 200, 34);
        rows = (float *)(void *)g.s.data;
        queries = (float *)(void *)(uintptr_t)g.s.queries;
        for (uint32_t i = N - CLOUD; i < N; i++) {
            for (uint32_t d = 0; d < DIM; d++) {
                rows[i * DIM + d] = (d % 2 ? 9.0f : -9.0f) + rows[i * DIM + d] / 4;
            }
        }
        for (uint32_t j = 0; j < g.s.nq; j++) {
            const float part = j % 2 ? 0 : 0.5f;
            for (uint32_t d = 0; d < DIM; d++) {
                queries[j * DIM + d] = part * queries[j * DIM + d] +
                                       (1 - part) * rows[(N - CLOUD / 2 + j) * DIM + d];
            }
        }
        guided_new(&g, g.s.rows.metric, N, N / 2);
        struct topk *got = search_guided(&g, 10, 11, 7, NULL, NULL);
        struct topk *plain = search_guided(&g, 10, 11, 0, NULL, NULL);
        double with = recall_of(&g, got, NULL), without = recall_of(&g, plain, NULL);
        if (with < without - 0.03) {
            fail_msg("recall %.4f, %.4f without a guide", with, without);
        }
        topk_free(got);
        topk_free(plain);
        guided_done(&g);
    }
}

static void test_attach_when_memory_is_short_then_searches_find_all(void **state)
{
    struct guided g;
    cf_set_new(&g.s, METRIC_L2, VEC_F32, 96, 8000, 5, 200, 35);
    guided_new(&g, METRIC_L2, 8000, 1000);
    uint32_t before = fresh_attached(g.fr);
    struct index_near near = near_new(3000, FRESH_ATTACH);
    struct status st = STATUS_INIT;
    near_of(&g.guide, index_row(&g.growing, before), g.growing.stride, 3000, &near);
    alloc_fail_after(1);
    assert_int_equal(fresh_attach(g.fr, &near, 3000, &st), ST_NO_MEMORY);
    alloc_fail_after(0);
    assert_true(fresh_attached(g.fr) < 4000);
    struct topk *got = search_guided(&g, 10, 7, 7, NULL, NULL);
    struct topk *plain = search_guided(&g, 10, 7, 0, NULL, NULL);
    assert_true(recall_of(&g, got, NULL) > recall_of(&g, plain, NULL) - 0.05);
    topk_free(got);
    topk_free(plain);
    near_done(&near);
    guided_done(&g);
}

static void attach_all(void *arg)
{
    struct guided *g = arg;
    while (fresh_attached(g->fr) < g->growing.nrows) {
        if (attach(g->fr, g, MIN(g->growing.nrows - fresh_attached(g->fr), 50u)) != 0) {
            abort();
        }
    }
}

static void test_search_when_rows_are_attached_beside_it_then_each_comes_once(void **state)
{
    struct guided g;
    cf_set_new(&g.s, METRIC_L2, VEC_F32, 16, 6000, 3, 60, 36);
    guided_new(&g, METRIC_L2, 6000, 0);
    struct thread *t = thread_start("attach", attach_all, &g);
    uint32_t attached;
    do {
        attached = fresh_attached(g.fr);
        struct topk *got = search_guided(&g, 10, 5, 7, NULL, NULL);
        assert_true(topk_count(got, 0) > 0);
        for (uint32_t i = 1; i < topk_count(got, 0); i++) {
            assert_true(topk_row(got, 0, i) != topk_row(got, 0, i - 1));
        }
        topk_free(got);
    } while (attached < g.growing.nrows);
    thread_join(t);
    guided_done(&g);
}

struct beside {
    struct fresh *fr;
    const struct cf_set *s;
};

static void add_all(void *arg)
{
    struct beside *b = arg;
    struct status st = STATUS_INIT;
    for (uint32_t row = 0; row < b->s->rows.nrows; row += 100) {
        if (fresh_add(b->fr, index_row(&b->s->rows, row), b->s->rows.stride, 100, &st) != 0) {
            abort();
        }
        (void)fresh_sort(b->fr, row_of, &b->s->rows, 200);
    }
    while (fresh_sort(b->fr, row_of, &b->s->rows, 500)) {
    }
}

static void test_search_when_the_writer_adds_and_sorts_then_whole_codes_are_seen(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    cf_set_new(&s, METRIC_L2, VEC_F32, 32, 14000, 2, 60, 15);
    struct index_rows first = s.rows;
    first.nrows = FRESH_MIN_ROWS;
    struct beside b = { .s = &s };
    ASSERT_OK(fresh_new(&first, &b.fr, &st));
    struct thread *t = thread_start("add", add_all, &b);
    uint32_t coded_rows;
    do {
        struct topk *tk;
        coded_rows = fresh_coded(b.fr);
        ASSERT_OK(topk_new(s.nq, 10, false, NULL, &tk, &st));
        if (coded_rows) {
            ASSERT_OK(run(b.fr, &s, coded_rows, NULL, false, tk, NULL, &st));
            topk_finish(tk);
            assert_int_equal(topk_count(tk, 0), 10);
            for (uint32_t i = 0; i < 10; i++) {
                assert_true(topk_row(tk, 0, i) < coded_rows);
                assert_true(i == 0 || topk_row(tk, 0, i) != topk_row(tk, 0, i - 1));
            }
        }
        topk_free(tk);
    } while (coded_rows < s.rows.nrows || fresh_sorted(b.fr) < s.rows.nrows);
    thread_join(t);
    fresh_free(b.fr);
    cf_set_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_when_rows_have_codes_then_recall_is_near_one),
        cmocka_unit_test(test_search_when_filtered_then_only_allowed_rows_come),
        cmocka_unit_test(test_search_when_a_range_is_given_then_it_holds),
        cmocka_unit_test(test_search_when_rows_are_all_equal_or_zero_then_counts_hold),
        cmocka_unit_test(test_search_when_a_bound_is_brought_then_hits_up_to_it_come),
        cmocka_unit_test(test_search_when_rows_equal_the_bound_then_all_are_hits),
        cmocka_unit_test(test_search_when_rows_are_in_lists_then_few_are_read_and_recall_holds),
        cmocka_unit_test(test_search_when_lists_hold_more_rows_then_only_its_own_come),
        cmocka_unit_test(test_search_when_all_near_lists_are_excluded_then_hits_come_from_others),
        cmocka_unit_test(test_sort_when_memory_is_short_then_searches_do_without),
        cmocka_unit_test(test_search_when_a_guide_was_searched_then_few_rows_are_looked_at),
        cmocka_unit_test(test_search_when_a_guide_is_another_or_left_then_every_row_counts),
        cmocka_unit_test(test_search_when_guided_without_a_bound_then_the_list_is_full),
        cmocka_unit_test(test_search_when_guided_and_filtered_then_only_allowed_rows_come),
        cmocka_unit_test(test_search_when_rows_are_far_from_the_guide_then_none_is_lost),
        cmocka_unit_test(test_attach_when_memory_is_short_then_searches_find_all),
        cmocka_unit_test(test_search_when_rows_are_attached_beside_it_then_each_comes_once),
        cmocka_unit_test(test_search_when_the_writer_adds_and_sorts_then_whole_codes_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
