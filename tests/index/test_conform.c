/*
 * test_conform.c - what holds for every index type: counts, recall floors, filters, ranges, order,
 * odd sets, same bytes again, broken files, broken memory.
 *
 * usage: test_conform [TYPE]
 */
#include "conform.h"

#define DIM 24
#define NROWS 1500
#define NQ 20
#define K 10

static const char *only;

typedef void case_fn(enum index_type type, enum metric metric, enum vec_type vt);

/* Runs fn for every type there is; all_types: with every element type, else the first it takes. */
static void each(case_fn *fn, bool all_types)
{
    for (int t = 0; t < INDEX_TYPE_COUNT; t++) {
        const struct index_ops *ops = index__ops((enum index_type)t);
        if (!ops || (only && strcmp(only, index_type_name((enum index_type)t)) != 0)) {
            continue;
        }
        for (int m = 0; m < METRIC_COUNT; m++) {
            bool done = false;
            for (int v = 0; v < VEC_COUNT; v++) {
                if ((ops->metrics & METRIC_BIT(m)) && (ops->types & TYPE_BIT(v)) &&
                    metric_fits_type((enum metric)m, (enum vec_type)v) && (all_types || !done)) {
                    fn((enum index_type)t, (enum metric)m, (enum vec_type)v);
                    done = true;
                }
            }
        }
    }
}

static void expect_recall(double recall, double floor, enum index_type type, enum metric metric,
                          enum vec_type vt, const char *what)
{
    if (recall < floor) {
        fail_msg("%s %s vectors %d, %s: recall %.3f, at least %.3f", index_type_name(type),
                 metric_name(metric), (int)vt, what, recall, floor);
    }
}

static bool is_structure(enum metric m)
{
    return m == METRIC_SUBSTRUCTURE || m == METRIC_SUPERSTRUCTURE;
}

static void expect_counts(const struct cf_set *s, const struct topk *got, uint32_t want)
{
    for (uint32_t j = 0; j < s->nq; j++) {
        if (!is_structure(s->rows.metric)) {
            assert_int_equal(topk_count(got, j), want);
        }
    }
}

static void case_recall(enum index_type type, enum metric metric, enum vec_type vt)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    struct index_counters c = { 0 };
    cf_set_new(&s, metric, vt, DIM, NROWS, NQ, 60, 1);
    cf_index_new(&x, &s, type);
    ASSERT_OK(index_validate(x.ix, &st));
    struct topk *truth = cf_truth(&s, K, NULL, NULL), *got = cf_search(&x, &s, K, NULL, NULL, &c);
    expect_counts(&s, got, K);
    expect_recall(cf_recall(&s, got, truth, NULL), 0.9, type, metric, vt, "unfiltered");
    assert_true(c.distances + c.exact > 0 && c.bytes > 0);
    topk_free(truth);
    topk_free(got);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_search_when_rows_are_clustered_then_recall_is_high(void **state)
{
    each(case_recall, true);
}

static void case_filter(enum index_type type, enum metric metric, enum vec_type vt)
{
    static const double rates[] = { 0.99, 0.5, 0.2, 0.05, 0.01, 0.002, 0 };
    struct cf_set s;
    struct cf_index x;
    uint64_t allow[(NROWS + 63) / 64];
    cf_set_new(&s, metric, vt, DIM, NROWS, NQ, 60, 2);
    cf_index_new(&x, &s, type);
    for (size_t r = 0; r < ARRAY_LEN(rates); r++) {
        for (int shape = 0; shape < 2; shape++) { /* at random; one stretch of rows */
            uint32_t n = 0;
            bits_fill(allow, NROWS, false);
            for (uint32_t i = 0; i < NROWS; i++) {
                bool in = shape == 0 ? cf_uniform() < rates[r] : i < rates[r] * NROWS;
                if (in) {
                    bit_set(allow, i);
                    n++;
                }
            }
            struct topk *truth = cf_truth(&s, K, allow, NULL);
            struct topk *got = cf_search(&x, &s, K, allow, NULL, NULL);
            expect_counts(&s, got, MIN(n, (uint32_t)K));
            expect_recall(cf_recall(&s, got, truth, allow), 0.88, type, metric, vt, "filtered");
            topk_free(truth);
            topk_free(got);
        }
    }
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_search_when_filtered_then_counts_are_exact_and_recall_holds(void **state)
{
    each(case_filter, false);
}

static void case_large_k(enum index_type type, enum metric metric, enum vec_type vt)
{
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, metric, vt, DIM, 300, 3, 20, 3);
    cf_index_new(&x, &s, type);
    struct topk *truth = cf_truth(&s, 1000, NULL, NULL);
    struct topk *got = cf_search(&x, &s, 1000, NULL, NULL, NULL);
    for (uint32_t j = 0; j < s.nq; j++) {
        assert_int_equal(topk_count(got, j), topk_count(truth, j));
        for (uint32_t i = 0; i < topk_count(got, j); i++) {
            assert_int_equal(topk_row(got, j, i), topk_row(truth, j, i));
            assert_true(topk_score(got, j, i) == topk_score(truth, j, i));
        }
    }
    topk_free(truth);
    topk_free(got);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_search_when_k_is_above_the_rows_then_all_come_in_order(void **state)
{
    each(case_large_k, true);
}

static void case_range(enum index_type type, enum metric metric, enum vec_type vt)
{
    struct cf_set s;
    struct cf_index x;
    if (is_structure(metric)) {
        return;
    }
    cf_set_new(&s, metric, vt, DIM, NROWS, NQ, 60, 4);
    cf_index_new(&x, &s, type);
    struct topk *wide = cf_truth(&s, 60, NULL, NULL);
    /* Between the 5th and the 40th of the first query. */
    struct topk_range range = { .has_radius = true, .has_range_filter = true,
                                .radius = topk_score(wide, 0, 40),
                                .range_filter = topk_score(wide, 0, 5) };
    struct topk *truth = cf_truth(&s, 100, NULL, &range);
    struct topk *got = cf_search(&x, &s, 100, NULL, &range, NULL);
    double recall = cf_recall(&s, got, truth, NULL);
    for (uint32_t j = 0; j < s.nq; j++) {
        assert_true(topk_count(got, j) <= topk_count(truth, j));
    }
    expect_recall(recall, 0.85, type, metric, vt, "range");
    topk_free(wide);
    topk_free(truth);
    topk_free(got);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_search_when_a_range_is_asked_then_only_and_most_of_it_comes(void **state)
{
    each(case_range, false);
}

static void case_iterate(enum index_type type, enum metric metric, enum vec_type vt)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    struct index_iter *it;
    struct index_search_params sp;
    uint8_t seen[400] = { 0 };
    float scores[37];
    uint64_t rows[37];
    uint32_t n, total = 0;
    if (is_structure(metric)) {
        return;
    }
    cf_search_params(&sp);
    cf_set_new(&s, metric, vt, DIM, 400, 1, 20, 5);
    cf_index_new(&x, &s, type);
    struct index_query q = { .queries = s.queries, .query_stride = s.query_stride, .nq = 1,
                             .params = &sp };
    ASSERT_OK(index_iter_new(x.ix, &q, &it, &st));
    do {
        ASSERT_OK(index_iter_next(it, 37, scores, rows, &n, &st));
        for (uint32_t i = 0; i < n; i++) {
            assert_true(rows[i] < 400 && !seen[rows[i]]);
            seen[rows[i]] = 1;
        }
        total += n;
    } while (n == 37);
    assert_int_equal(total, 400);
    index_iter_free(it);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_iterator_when_run_to_the_end_then_every_row_came_once(void **state)
{
    each(case_iterate, false);
}

/* Sets on which builds like to hang, divide by zero or lose rows. */
static void odd_set(struct cf_set *s, int which, enum metric metric, enum vec_type vt)
{
    static const uint32_t sizes[] = { 0, 1, 2, 600, 600, 600, 33, 4200 };
    cf_set_new(s, metric, vt, DIM, sizes[which], 3, 10, 6);
    size_t len = s->rows.stride;
    for (uint32_t i = 0; i < s->rows.nrows; i++) {
        uint8_t *row = s->data + i * len;
        if (which == 3) { /* all equal */
            memcpy(row, s->data, len);
        } else if (which == 4) { /* all zero */
            memset(row, 0, len);
        } else if (which == 5 && i % 3 != 0) { /* a third equal, a third zero */
            memset(row, 0, len);
            if (i % 3 == 1) {
                memcpy(row, s->data, len);
            }
        } else if (which == 6 && vt == VEC_F32) { /* denormals and large numbers */
            for (size_t k = 0; k < DIM; k++) {
                float f = i % 2 ? 1e-41f * (float)(k + i) : 1e15f * (float)((k * i) % 7);
                memcpy(row + 4 * k, &f, 4);
            }
        } else if (which == 7 && vt == VEC_F32 && i == 3000) { /* one far from all others */
            for (size_t k = 0; k < DIM; k++) {
                float f;
                memcpy(&f, row + 4 * k, 4);
                f *= 1e4f;
                memcpy(row + 4 * k, &f, 4);
            }
        }
    }
}

static void case_odd(enum index_type type, enum metric metric, enum vec_type vt)
{
    struct status st = STATUS_INIT;
    for (int which = 0; which < 8; which++) {
        struct cf_set s;
        struct cf_index x;
        odd_set(&s, which, metric, vt);
        cf_index_new(&x, &s, type);
        ASSERT_OK(index_validate(x.ix, &st));
        struct topk *truth = cf_truth(&s, K, NULL, NULL);
        struct topk *got = cf_search(&x, &s, K, NULL, NULL, NULL);
        expect_counts(&s, got, MIN(s.rows.nrows, (uint32_t)K));
        /* Equal scores are all right, whichever rows bring them. */
        double least = which == 6 ? 0.5 : which == 7 ? 0.7 : 0.9; /* 4,200 rows tell codes apart less */
        expect_recall(cf_recall(&s, got, truth, NULL), least, type, metric, vt, "odd set");
        topk_free(truth);
        topk_free(got);
        cf_index_done(&x);
        cf_set_done(&s);
    }
}

static void test_build_when_rows_are_odd_then_answers_stay_complete(void **state)
{
    each(case_odd, false);
}

static void case_again(enum index_type type, enum metric metric, enum vec_type vt)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct index_params p;
    struct cf_file one = { 0 }, two = { 0 };
    struct pool *pool = pool_new("build", 2, 64);
    cf_set_new(&s, metric, vt, DIM, NROWS, 1, 60, 7);
    cf_params(&p, type, DIM);
    ASSERT_OK(cf_build(&s, &p, NULL, &one, &st));
    ASSERT_OK(cf_build(&s, &p, pool, &two, &st));
    assert_int_equal(one.n, two.n);
    if (memcmp(one.p, two.p, one.n) != 0) {
        fail_msg("%s %s: other bytes with two threads", index_type_name(type),
                 metric_name(metric));
    }
    pool_free(pool);
    mem_free(one.p);
    mem_free(two.p);
    cf_set_done(&s);
}

static void test_build_when_repeated_with_two_threads_then_bytes_are_the_same(void **state)
{
    each(case_again, false);
}

static int stop_now(void *arg, struct status *st)
{
    int *left = arg;
    return (*left)-- > 0 ? 0 : st_fail(st, ST_CANCELLED, "stopped by the test");
}

static int no_sink(void *arg, const void *p, size_t n, struct status *st)
{
    return 0;
}

static void case_cancel(enum index_type type, enum metric metric, enum vec_type vt)
{
    struct cf_set s;
    struct index_params p;
    cf_set_new(&s, metric, vt, DIM, NROWS, 1, 60, 8);
    cf_params(&p, type, DIM);
    for (int left = 0; left < 40; left += 3) {
        struct status st = STATUS_INIT;
        int budget = left;
        struct index_build b = { .rows = &s.rows, .params = &p, .check = stop_now,
                                 .check_arg = &budget };
        int rc = index_build(&b, no_sink, NULL, &st);
        assert_true(rc == 0 ? budget >= 0 : rc == ST_CANCELLED);
    }
    cf_set_done(&s);
}

static void test_build_when_cancelled_then_it_ends_with_that_status(void **state)
{
    each(case_cancel, false);
}

/* Answers of an opened file, as a number to compare. */
static uint64_t answers(const struct cf_index *x, const struct cf_set *s)
{
    struct topk *tk = cf_search(x, s, 5, NULL, NULL, NULL);
    uint64_t h = 1;
    for (uint32_t j = 0; j < s->nq; j++) {
        for (uint32_t i = 0; i < topk_count(tk, j); i++) {
            h = (h ^ topk_row(tk, j, i)) * 1099511628211u;
        }
    }
    topk_free(tk);
    return h;
}

static void case_mutilated(enum index_type type, enum metric metric, enum vec_type vt)
{
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, metric, vt, 8, 60, 2, 6, 9);
    cf_index_new(&x, &s, type);
    uint64_t want = answers(&x, &s);
    uint8_t *copy = alloc_try_aligned(4096, ROUND_UP(x.file.n, 4096));
    memcpy(copy, x.file.p, x.file.n);
    uint32_t refused = 0;
    for (size_t at = 0; at < x.file.n; at++) {
        struct status st = STATUS_INIT;
        struct cf_index y = { .file = { .p = copy, .n = x.file.n } };
        copy[at] ^= (uint8_t)(1u << (at % 8));
        if (cf_open(&s, &y.file, &y.ix, &st) != 0) {
            assert_true(st.code == ST_CORRUPT || st.code == ST_UNSUPPORTED ||
                        st.code == ST_INVALID);
            refused++;
        } else { /* a byte between sections */
            if (at % 64 == 0) {
                assert_true(answers(&y, &s) == want);
            }
            index_free(y.ix);
        }
        copy[at] = x.file.p[at];
    }
    assert_true(refused > 100);
    for (size_t n = 0; n < x.file.n; n += n < 700 ? 1 : 97) {
        struct status st = STATUS_INIT;
        struct cf_file cut = { .p = copy, .n = n };
        struct index *ix;
        assert_true(cf_open(&s, &cut, &ix, &st) == ST_CORRUPT);
    }
    mem_free(copy);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_open_when_any_byte_is_flipped_then_it_is_refused_or_harmless(void **state)
{
    each(case_mutilated, false);
}

static void case_no_memory(enum index_type type, enum metric metric, enum vec_type vt)
{
    struct cf_set s;
    struct index_params p;
    cf_set_new(&s, metric, vt, DIM, 200, 1, 10, 10);
    cf_params(&p, type, DIM);
    bool more = true;
    for (long n = 1; more && n < 4000; n += n < 60 ? 1 : 41) {
        struct status st = STATUS_INIT;
        struct cf_file f = { 0 };
        struct index *ix = NULL;
        struct topk *tk = NULL;
        struct index_query q = { .queries = s.queries, .query_stride = s.query_stride, .nq = 1 };
        alloc_fail_after(n);
        int rc = cf_build(&s, &p, NULL, &f, &st);
        rc = rc ? rc : cf_open(&s, &f, &ix, &st);
        rc = rc ? rc : topk_new(1, K, cf_larger(&s), NULL, &tk, &st);
        rc = rc ? rc : index_search(ix, &q, tk, NULL, &st);
        more = !alloc_fail_pending();
        alloc_fail_after(0);
        assert_true(rc == 0 || rc == ST_NO_MEMORY);
        topk_free(tk);
        index_free(ix);
        mem_free(f.p);
    }
    cf_set_done(&s);
}

static void test_everything_when_memory_is_gone_then_the_status_says_so(void **state)
{
    each(case_no_memory, false);
}

int main(int argc, char **argv)
{
    only = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_when_rows_are_clustered_then_recall_is_high),
        cmocka_unit_test(test_search_when_filtered_then_counts_are_exact_and_recall_holds),
        cmocka_unit_test(test_search_when_k_is_above_the_rows_then_all_come_in_order),
        cmocka_unit_test(test_search_when_a_range_is_asked_then_only_and_most_of_it_comes),
        cmocka_unit_test(test_iterator_when_run_to_the_end_then_every_row_came_once),
        cmocka_unit_test(test_build_when_rows_are_odd_then_answers_stay_complete),
        cmocka_unit_test(test_build_when_repeated_with_two_threads_then_bytes_are_the_same),
        cmocka_unit_test(test_build_when_cancelled_then_it_ends_with_that_status),
        cmocka_unit_test(test_open_when_any_byte_is_flipped_then_it_is_refused_or_harmless),
        cmocka_unit_test(test_everything_when_memory_is_gone_then_the_status_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
