/* test_fresh.c - codes of growing rows: recall, filters, readers beside the writer. */
#include "conform.h"

#include "index/scan/fresh.h"

/* Rows in pieces of uneven size, as a growing segment has them. */
#define NSPANS 9

static uint32_t spans_of(const struct cf_set *s, struct fresh_span *spans, uint32_t nrows)
{
    uint32_t n = 0, size = 64;
    for (uint32_t row = 0; row < nrows; n++) {
        uint32_t part = n == NSPANS - 1 ? nrows - row : MIN(size, nrows - row);
        spans[n] = (struct fresh_span){ .base = index_row(&s->rows, row), .row0 = row, .n = part };
        row += part;
        size *= 2;
    }
    return n;
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

static struct topk *search(const struct fresh *fr, const struct cf_set *s, uint32_t k,
                           const uint64_t *allow, const struct topk_range *range,
                           struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct fresh_span spans[NSPANS + 1];
    struct topk *tk;
    struct fresh_query q = { .queries = s->queries, .query_stride = s->query_stride, .nq = s->nq,
                             .spans = spans, .nspans = spans_of(s, spans, s->rows.nrows),
                             .stride = s->rows.stride, .nrows = s->rows.nrows, .allow = allow };
    ASSERT_OK(topk_new(s->nq, k, cf_larger(s), range, &tk, &st));
    ASSERT_OK(fresh_search(fr, &q, tk, c, &st));
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
        struct topk *truth = cf_truth(&s, 10, NULL, NULL), *got = search(fr, &s, 10, NULL, NULL, &c);
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
    }
}

static void test_search_when_the_writer_adds_then_whole_codes_are_seen(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    cf_set_new(&s, METRIC_L2, VEC_F32, 32, 10000, 2, 60, 15);
    struct index_rows first = s.rows;
    first.nrows = FRESH_MIN_ROWS;
    struct beside b = { .s = &s };
    ASSERT_OK(fresh_new(&first, &b.fr, &st));
    struct thread *t = thread_start("add", add_all, &b);
    struct fresh_span span = { .base = s.data, .n = s.rows.nrows };
    uint32_t coded_rows;
    do {
        struct topk *tk;
        coded_rows = fresh_coded(b.fr);
        struct fresh_query q = { .queries = s.queries, .query_stride = s.query_stride, .nq = s.nq,
                                 .spans = &span, .nspans = 1, .stride = s.rows.stride,
                                 .nrows = coded_rows };
        ASSERT_OK(topk_new(s.nq, 10, false, NULL, &tk, &st));
        if (coded_rows) {
            ASSERT_OK(fresh_search(b.fr, &q, tk, NULL, &st));
            assert_int_equal(tk->lists[0].n, 10);
        }
        topk_free(tk);
    } while (coded_rows < s.rows.nrows);
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
        cmocka_unit_test(test_search_when_the_writer_adds_then_whole_codes_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
