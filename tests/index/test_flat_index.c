/*
 * test_flat_index.c - the type FLAT: whatever the codes rule out, the answer is the plain scan's.
 *
 * Runs at the level named by the first argument.
 */
#include "conform.h"

#include "index/scan/bound.h"
#include "index/topk.h"
#include "simd/simd.h"

static uint64_t rng_state = 99;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
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

/* Queries first .. + nq of s against the codes, compared with the plain scan. */
static void check(const struct cf_set *s, const struct index *ix, uint32_t first, uint32_t nq,
                  uint32_t k, const uint64_t *allow, const struct topk_range *range,
                  struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct cf_set part = *s;
    struct topk *tk, *truth;
    struct index_search_params sp;
    index_search_params_init(&sp);
    sp.strategy = STRAT_SCAN;
    part.queries += first * s->query_stride;
    part.nq = nq;
    struct index_query q = { .queries = part.queries,
                             .query_stride = s->query_stride,
                             .nq = nq,
                             .allow = allow,
                             .params = &sp };
    q.allow_count = allow ? (uint32_t)bits_count(allow, s->rows.nrows) : 0;
    truth = cf_truth(&part, k, allow, range);
    ASSERT_OK(topk_new(nq, k, cf_larger(s), range, &tk, &st));
    ASSERT_OK(index_search(ix, &q, tk, c, &st));
    topk_finish(tk);
    assert_same(truth, tk);
    topk_free(tk);
    topk_free(truth);
}

/* Makes rows and queries nasty: copies, zeros, lengths far apart, numbers that are none. */
static void spoil(struct cf_set *s)
{
    size_t len = s->query_stride;
    for (uint32_t i = 1; i < s->rows.nrows; i += 11) {
        memcpy(s->data + i * len, s->data + rng() % i * len, len);
    }
    for (uint32_t i = 5; i < s->rows.nrows; i += 701) {
        uint8_t *row = s->data + i * len;
        switch (rng() % 4) {
        case 0:
            memset(row, 0, len);
            break;
        case 1:
            memset(row + rng() % s->rows.dim * (len / s->rows.dim), 0x7f, len / s->rows.dim);
            break;
        default:
            for (size_t j = 0; j < s->rows.dim; j++) {
                cf_put(s->rows.type, row, j, cf_gauss() * (rng() % 2 ? 3000 : 1e-4));
            }
            break;
        }
    }
    for (uint32_t i = 0; i < s->nq; i++) {
        if (i % 3 == 0) {
            memcpy(s->queries + i * len, s->data + rng() % s->rows.nrows * len, len);
        }
    }
    memset(s->queries + len, 0, len);
    memset(s->queries + 2 * len, 0x7f, len / s->rows.dim);
}

static uint64_t *some_rows(uint32_t n, unsigned in_100, bool runs)
{
    uint64_t *allow = xalloc(bits_words(n) * 8);
    for (uint32_t i = 0; i < n; i++) {
        if ((runs ? i / 200 % 100 : rng() % 100) < in_100) {
            bit_set(allow, i);
        }
    }
    return allow;
}

static const enum metric metrics[] = { METRIC_L2, METRIC_IP, METRIC_COSINE };

static void test_codes_when_shapes_vary_then_answers_are_the_plain_scans(void **state)
{
    static const size_t dims[] = { 65, 128, 200 };
    static const enum vec_type types[] = { VEC_F32, VEC_F16, VEC_BF16 };
    static const uint32_t ks[] = { 1, 10, 32, 33, 100 };
    struct index_counters c = { 0 };
    uint64_t pairs = 0;
    for (size_t i = 0; i < 9; i++) {
        struct cf_set s;
        struct cf_index x;
        struct status st = STATUS_INIT;
        uint32_t n = (uint32_t)(4200 + rng() % 2000);
        cf_set_new(&s, metrics[i % 3], types[(i / 3 + i) % 3], dims[i / 3], n, 40, 50, i);
        if (types[(i / 3 + i) % 3] != VEC_F32) { /* half the bytes: twice the rows make codes pay */
            cf_set_done(&s);
            cf_set_new(&s, metrics[i % 3], types[(i / 3 + i) % 3], dims[i / 3], 2 * n, 40, 50, i);
        }
        if (i % 2) {
            spoil(&s);
        }
        cf_index_new(&x, &s, INDEX_FLAT);
        assert_true(ix_has_section(&x.ix->file, BOUND_TAG_HEAD));
        ASSERT_OK(index_validate(x.ix, &st));
        for (int round = 0; round < 10; round++) {
            uint32_t nq = round % 2 ? 1 : (uint32_t)(1 + rng() % 39);
            uint32_t first = (uint32_t)(rng() % (s.nq - nq + 1));
            uint64_t *allow = round % 4 == 3
                                  ? some_rows(s.rows.nrows, (unsigned)(rng() % 90 + 1), rng() & 1)
                                  : NULL;
            check(&s, x.ix, first, nq, ks[rng() % 5], allow, NULL, &c);
            pairs += (uint64_t)nq * s.rows.nrows;
            mem_free(allow);
        }
        cf_index_done(&x);
        cf_set_done(&s);
    }
    assert_true(c.distances > pairs / 2); /* the codes were used, */
    assert_true(c.exact < pairs / 4);     /* and ruled most rows out */
}

static void test_codes_when_a_range_is_asked_then_bounds_hold(void **state)
{
    struct cf_set s;
    struct cf_index x;
    struct index_counters c = { 0 };
    for (size_t m = 0; m < 3; m++) {
        cf_set_new(&s, metrics[m], VEC_F32, 64, 5000, 8, 40, m + 20);
        cf_index_new(&x, &s, INDEX_FLAT);
        for (uint32_t j = 0; j < s.nq; j++) {
            struct cf_set one = s;
            one.queries += j * s.query_stride;
            one.nq = 1;
            struct topk *truth = cf_truth(&one, 200, NULL, NULL);
            struct topk_range range = { .has_radius = true,
                                        .radius = topk_score(truth, 0, 150),
                                        .has_range_filter = j & 1,
                                        .range_filter = topk_score(truth, 0, 20) };
            topk_free(truth);
            check(&s, x.ix, j, 1, j & 2 ? 10 : 1000, NULL, &range, &c);
        }
        cf_index_done(&x);
        cf_set_done(&s);
    }
}

static void test_codes_when_every_row_is_near_then_the_plain_scan_takes_over(void **state)
{
    struct cf_set s;
    struct cf_index x;
    struct index_counters c = { 0 };
    /* One centre, and nine rows in ten the same up to the last digits. */
    cf_set_new(&s, METRIC_L2, VEC_F32, 64, 30000, 20, 1, 7);
    for (uint32_t i = 0; i < s.rows.nrows; i++) {
        if (i % 10) {
            float *row = (float *)(void *)(s.data + i * s.query_stride);
            memcpy(row, s.data, s.query_stride);
            row[i % 64] += (float)(i % 7) * 1e-5f;
        }
    }
    cf_index_new(&x, &s, INDEX_FLAT);
    for (uint32_t j = 0; j < 4; j++) {
        memcpy(s.queries + j * s.query_stride, s.data, s.query_stride);
        check(&s, x.ix, j, 1, 50, NULL, NULL, &c);
    }
    check(&s, x.ix, 0, s.nq, 20, NULL, NULL, &c);
    assert_true(c.exact > s.rows.nrows);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_codes_when_lists_hold_other_rows_then_they_stay(void **state)
{
    struct cf_set a, b;
    struct cf_index x, y;
    struct status st = STATUS_INIT;
    struct topk *got, *want;
    struct index_search_params sp;
    cf_set_new(&a, METRIC_L2, VEC_F32, 64, 5000, 6, 30, 1);
    cf_set_new(&b, METRIC_L2, VEC_F32, 64, 6000, 6, 30, 2);
    cf_index_new(&x, &a, INDEX_FLAT);
    cf_index_new(&y, &b, INDEX_FLAT);
    ASSERT_OK(topk_new(a.nq, 20, false, NULL, &got, &st));
    ASSERT_OK(topk_new(a.nq, 20, false, NULL, &want, &st));
    index_search_params_init(&sp);
    sp.strategy = STRAT_SCAN;
    struct index_query q = { .queries = a.queries, .query_stride = a.query_stride, .nq = a.nq,
                             .params = &sp };
    ASSERT_OK(index_search(x.ix, &q, got, NULL, &st));
    q.row_base = 5000;
    ASSERT_OK(index_search(y.ix, &q, got, NULL, &st));
    sp.strategy = STRAT_FLAT;
    ASSERT_OK(index_search(y.ix, &q, want, NULL, &st));
    q.row_base = 0;
    ASSERT_OK(index_search(x.ix, &q, want, NULL, &st));
    topk_finish(got);
    topk_finish(want);
    assert_same(want, got);
    topk_free(got);
    topk_free(want);
    cf_index_done(&x);
    cf_index_done(&y);
    cf_set_done(&a);
    cf_set_done(&b);
}

static void test_validate_when_a_code_is_not_the_rows_then_it_says_which(void **state)
{
    struct cf_set s;
    struct cf_index x;
    struct status st = STATUS_INIT;
    struct bound bd;
    cf_set_new(&s, METRIC_COSINE, VEC_F32, 64, 5000, 1, 30, 3);
    cf_index_new(&x, &s, INDEX_FLAT);
    ASSERT_OK(bound_open(&x.ix->file, &s.rows, &bd, &st));
    ASSERT_OK(bound_validate(&bd, &s.rows, &st));
    uint8_t *block = (uint8_t *)(uintptr_t)bd.blocks + 3 * bd.block_bytes;
    float smaller, e;
    memcpy(&e, block + SIMD_BLOCK4_E + 4 * 5, 4);
    smaller = e / 2;
    memcpy(block + SIMD_BLOCK4_E + 4 * 5, &smaller, 4);
    assert_int_equal(bound_validate(&bd, &s.rows, &st), ST_CORRUPT);
    assert_non_null(strstr(st.msg, "row 53"));
    memcpy(block + SIMD_BLOCK4_E + 4 * 5, &e, 4);
    block[SIMD_BLOCK4_HEAD + 4 * 5] ^= 0x30;
    assert_int_equal(bound_validate(&bd, &s.rows, &st), ST_CORRUPT);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_build_when_codes_do_not_pay_then_the_file_has_none(void **state)
{
    struct cf_set s;
    struct cf_index x;
    struct index_counters c = { 0 };
    cf_set_new(&s, METRIC_L2, VEC_F32, 64, 500, 3, 10, 3);
    cf_index_new(&x, &s, INDEX_FLAT);
    assert_int_equal(x.ix->file.nsections, 0);
    check(&s, x.ix, 0, 3, 5, NULL, NULL, &c);
    assert_int_equal(c.strategy, STRAT_FLAT);
    cf_index_done(&x);
    cf_set_done(&s);
    cf_set_new(&s, METRIC_L2, VEC_F32, 64, 5000, 3, 10, 3); /* too many rows are no numbers */
    for (uint32_t i = 0; i < s.rows.nrows; i += 20) {
        memset(s.data + i * s.query_stride, 0x7f, 4);
        memset(s.data + i * s.query_stride + 2, 0xff, 2);
    }
    cf_index_new(&x, &s, INDEX_FLAT);
    assert_int_equal(x.ix->file.nsections, 0);
    check(&s, x.ix, 0, 3, 5, NULL, NULL, &c);
    cf_index_done(&x);
    cf_set_done(&s);
}

static int cancel_later(void *arg, struct status *st)
{
    int *left = arg;
    return (*left)-- > 0 ? 0 : st_fail(st, ST_CANCELLED, "stop");
}

static void test_search_when_cancelled_then_it_ends_and_the_next_is_whole(void **state)
{
    struct cf_set s;
    struct cf_index x;
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct index_counters c = { 0 };
    struct index_search_params sp;
    index_search_params_init(&sp);
    sp.strategy = STRAT_SCAN;
    cf_set_new(&s, METRIC_L2, VEC_F32, 64, 9000, 3, 10, 3);
    cf_index_new(&x, &s, INDEX_FLAT);
    ASSERT_OK(topk_new(3, 5, false, NULL, &tk, &st));
    for (int after = 0; after < 2; after++) {
        int left = after;
        struct index_query q = { .queries = s.queries, .query_stride = s.query_stride, .nq = 3,
                                 .params = &sp, .check = cancel_later, .check_arg = &left };
        assert_int_equal(index_search(x.ix, &q, tk, NULL, &st), ST_CANCELLED);
    }
    check(&s, x.ix, 0, 3, 5, NULL, NULL, &c);
    topk_free(tk);
    cf_index_done(&x);
    cf_set_done(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes_when_shapes_vary_then_answers_are_the_plain_scans),
        cmocka_unit_test(test_codes_when_a_range_is_asked_then_bounds_hold),
        cmocka_unit_test(test_codes_when_every_row_is_near_then_the_plain_scan_takes_over),
        cmocka_unit_test(test_codes_when_lists_hold_other_rows_then_they_stay),
        cmocka_unit_test(test_validate_when_a_code_is_not_the_rows_then_it_says_which),
        cmocka_unit_test(test_build_when_codes_do_not_pay_then_the_file_has_none),
        cmocka_unit_test(test_search_when_cancelled_then_it_ends_and_the_next_is_whole),
    };
    if (argc > 1 && !simd_cap(argv[1])) {
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
