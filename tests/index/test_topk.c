/* test_topk.c - the result lists against sorting everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/status.h"
#include "index/index.h"
#include "index/topk.h"

static uint64_t rng_state = 88172645463325252u;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

struct pair {
    float score;
    uint64_t row;
};
static bool larger;

static int pair_cmp(const void *pa, const void *pb)
{
    const struct pair *a = pa, *b = pb;
    if (a->score != b->score) {
        return (a->score < b->score) == larger ? 1 : -1;
    }
    return (a->row > b->row) - (a->row < b->row);
}

static struct topk *list_new(uint32_t nq, uint32_t k, const struct topk_range *range)
{
    struct topk *tk = NULL;
    struct status st = STATUS_INIT;
    assert_int_equal(topk_new(nq, k, larger, range, &tk, &st), 0);
    return tk;
}

static void expect_best(const struct topk *tk, uint32_t q, struct pair *all, size_t n)
{
    qsort(all, n, sizeof *all, pair_cmp);
    size_t want = n < tk->k ? n : tk->k;
    assert_int_equal(topk_count(tk, q), want);
    for (size_t i = 0; i < want; i++) {
        assert_true(topk_score(tk, q, (uint32_t)i) == all[i].score);
        assert_int_equal(topk_row(tk, q, (uint32_t)i), all[i].row);
    }
}

/* Rows in random order with scores from a set of `distinct` values, so that ties abound. */
static void run_random(uint32_t k, size_t n, uint64_t distinct)
{
    struct topk *tk = list_new(2, k, NULL);
    struct pair *all = calloc(n + 1, sizeof *all);
    for (size_t i = 0; i < n; i++) {
        all[i] = (struct pair){ (float)(rng() % distinct), i * 3 };
    }
    for (size_t i = n; i-- > 1;) {
        size_t j = rng() % (i + 1);
        struct pair t = all[i];
        all[i] = all[j];
        all[j] = t;
    }
    for (size_t i = 0; i < n; i++) {
        topk_push(tk, 1, all[i].score, all[i].row);
    }
    topk_finish(tk);
    assert_int_equal(topk_count(tk, 0), 0);
    expect_best(tk, 1, all, n);
    topk_free(tk);
    free(all);
}

static void test_topk_of_random_stream_equals_sorting(void **state)
{
    static const uint32_t ks[] = { 1, 2, 10, 31, 32, 33, 64, 100, 1000, 5000, 16384 };
    static const size_t ns[] = { 0, 1, 9, 10, 33, 100, 1001, 30000, 60000 };
    for (int dir = 0; dir < 2; dir++) {
        larger = dir != 0;
        for (size_t i = 0; i < ARRAY_LEN(ks); i++) {
            for (size_t j = 0; j < ARRAY_LEN(ns); j++) {
                run_random(ks[i], ns[j], 7);
                run_random(ks[i], ns[j], 1000000007);
                run_random(ks[i], ns[j], 1);
            }
        }
    }
}

/* Sorted, reversed and organ-pipe inputs must neither break nor slow the selection. */
static void test_topk_of_ordered_streams_equals_sorting(void **state)
{
    const size_t n = 50000;
    struct pair *all = calloc(n, sizeof *all);
    larger = false;
    for (int shape = 0; shape < 4; shape++) {
        struct topk *tk = list_new(1, 4000, NULL);
        for (size_t i = 0; i < n; i++) {
            size_t v = shape == 0   ? i
                       : shape == 1 ? n - i
                       : shape == 2 ? (i < n / 2 ? i : n - i)
                                    : i % 100;
            all[i] = (struct pair){ (float)v, i };
            topk_push(tk, 0, all[i].score, all[i].row);
        }
        topk_finish(tk);
        expect_best(tk, 0, all, n);
        topk_free(tk);
    }
    free(all);
}

static void test_topk_range_keeps_half_open_bounds(void **state)
{
    for (uint32_t k = 20; k <= 200; k += 180) { /* both shapes */
        struct topk_range range = { true, true, 8.0f, 3.0f };
        larger = false; /* 3 <= d < 8 */
        struct topk *tk = list_new(1, k, &range);
        for (uint64_t i = 0; i < 12; i++) {
            topk_push(tk, 0, (float)i, i);
        }
        topk_finish(tk);
        assert_int_equal(topk_count(tk, 0), 5);
        assert_true(topk_score(tk, 0, 0) == 3 && topk_score(tk, 0, 4) == 7);
        topk_free(tk);

        larger = true; /* 3 < s <= 8 */
        range = (struct topk_range){ true, true, 3.0f, 8.0f };
        tk = list_new(1, k, &range);
        for (uint64_t i = 0; i < 12; i++) {
            topk_push(tk, 0, (float)i, i);
        }
        topk_finish(tk);
        assert_int_equal(topk_count(tk, 0), 5);
        assert_true(topk_score(tk, 0, 0) == 8 && topk_score(tk, 0, 4) == 4);
        topk_free(tk);
    }
}

static void test_topk_drops_nan_keeps_infinity(void **state)
{
    for (int dir = 0; dir < 2; dir++) {
        larger = dir != 0;
        struct topk *tk = list_new(1, 3, NULL);
        topk_push(tk, 0, NAN, 1);
        topk_push(tk, 0, larger ? -INFINITY : INFINITY, 2);
        topk_push(tk, 0, 5, 3);
        topk_push(tk, 0, larger ? INFINITY : -INFINITY, 4);
        topk_push(tk, 0, -NAN, 5);
        topk_finish(tk);
        assert_int_equal(topk_count(tk, 0), 3);
        assert_int_equal(topk_row(tk, 0, 0), 4);
        assert_int_equal(topk_row(tk, 0, 1), 3);
        assert_int_equal(topk_row(tk, 0, 2), 2);
        topk_free(tk);
    }
}

static void test_topk_merge_equals_one_list(void **state)
{
    static const uint32_t ks[] = { 5, 32, 100, 3000 };
    larger = true;
    for (size_t i = 0; i < ARRAY_LEN(ks); i++) {
        const size_t n = 20000;
        struct topk *part[3] = { list_new(1, ks[i], NULL), list_new(1, ks[i], NULL),
                                 list_new(1, ks[i], NULL) };
        struct pair *all = calloc(n, sizeof *all);
        for (size_t j = 0; j < n; j++) {
            all[j] = (struct pair){ (float)(rng() % 500), j };
            topk_push(part[rng() % 3], 0, all[j].score, j);
        }
        topk_finish(part[1]);
        topk_merge(part[0], part[1]);
        topk_merge(part[0], part[2]); /* unfinished is as good */
        topk_finish(part[0]);
        expect_best(part[0], 0, all, n);
        for (int p = 0; p < 3; p++) {
            topk_free(part[p]);
        }
        free(all);
    }
}

static void test_topk_pushed_after_finish_stays_right(void **state)
{
    larger = false;
    for (uint32_t k = 16; k <= 160; k += 144) {
        struct topk *tk = list_new(1, k, NULL);
        struct pair all[3000];
        for (size_t i = 0; i < 3000; i++) {
            all[i] = (struct pair){ (float)(rng() % 900), i };
            topk_push(tk, 0, all[i].score, i);
            if (i % 250 == 7) {
                topk_finish(tk);
            }
        }
        topk_finish(tk);
        expect_best(tk, 0, all, 3000);
        topk_reset(tk, NULL);
        topk_push(tk, 0, 1e30f, 9);
        topk_finish(tk);
        assert_int_equal(topk_count(tk, 0), 1);
        topk_free(tk);
    }
}

static void test_topk_new_with_bad_sizes_fails(void **state)
{
    struct topk *tk = NULL;
    struct status st = STATUS_INIT;
    assert_int_equal(topk_new(1, 0, false, NULL, &tk, &st), ST_INVALID);
    assert_int_equal(topk_new(1, TOPK_MAX + 1, false, NULL, &tk, &st), ST_INVALID);
    assert_int_equal(topk_new(0, 1, false, NULL, &tk, &st), ST_INVALID);
    alloc_fail_after(1);
    assert_int_equal(topk_new(1, 1, false, NULL, &tk, &st), ST_NO_MEMORY);
    alloc_fail_after(0);
    assert_null(tk);
}

static void test_limit_when_given_then_equal_scores_stay_and_worse_ones_go(void **state)
{
    for (int largest_first = 0; largest_first < 2; largest_first++) {
        struct status st = STATUS_INIT;
        struct topk_range range = { .has_radius = true, .radius = largest_first ? 2.0f : 8.0f };
        struct topk *tk;
        assert_int_equal(topk_new(3, 40, largest_first, &range, &tk, &st), 0);
        topk_limit(tk, 0, 5);
        topk_limit(tk, 1, largest_first ? 1.0f : 9.0f); /* wider than the range */
        for (uint64_t row = 0; row < 30; row++) {
            for (uint32_t q = 0; q < 3; q++) {
                topk_push(tk, q, (float)(row % 10), row);
            }
        }
        topk_finish(tk);
        /* 0 .. 5, then what the range leaves: 0 .. 7; or 5 .. 9, and 3 .. 9 */
        assert_int_equal(topk_count(tk, 0), largest_first ? 15 : 18);
        assert_true(topk_score(tk, 0, topk_count(tk, 0) - 1) == 5.0f);
        assert_int_equal(topk_count(tk, 1), largest_first ? 21 : 24);
        assert_int_equal(topk_count(tk, 2), largest_first ? 21 : 24);
        topk_free(tk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topk_of_random_stream_equals_sorting),
        cmocka_unit_test(test_topk_of_ordered_streams_equals_sorting),
        cmocka_unit_test(test_topk_range_keeps_half_open_bounds),
        cmocka_unit_test(test_topk_drops_nan_keeps_infinity),
        cmocka_unit_test(test_topk_merge_equals_one_list),
        cmocka_unit_test(test_topk_pushed_after_finish_stays_right),
        cmocka_unit_test(test_topk_new_with_bad_sizes_fails),
        cmocka_unit_test(test_limit_when_given_then_equal_scores_stay_and_worse_ones_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
