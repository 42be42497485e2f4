/*
 * test_graph_reach.c - parts of filtered graph searches: selection, filters brought into the order of
 * nodes, and that a prepared filter and bits by row give the same hits.
 */
#include "conform.h"

#include "index/graph/graph_int.h"
#include "index/graph/graph_survivors.h"
#include "index/topk.h"

static int cmp_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Values in random, rising, falling and nearly sorted order. */
static void test_select_when_order_varies_then_the_smallest_are_in_front(void **state)
{
    uint64_t v[301], sorted[301];
    cf_state = 5;
    for (size_t n = 2; n <= 301; n += n < 40 ? 1 : 29) {
        for (int order = 0; order < 4; order++) {
            for (size_t k = 1; k < n; k += 1 + n / 16) {
                for (size_t i = 0; i < n; i++) {
                    const uint64_t random = (uint64_t)(cf_uniform() * 1e6) << 16;
                    v[i] = (order == 0                         ? random
                            : order == 1                       ? (uint64_t)i << 16
                            : order == 2                       ? (uint64_t)(n - i) << 16
                            : i % 7 == 0 && cf_uniform() < 0.5 ? random
                                                               : (uint64_t)i << 16) |
                           i;
                }
                memcpy(sorted, v, n * sizeof *v);
                qsort(sorted, n, sizeof *sorted, cmp_u64);
                graph__select(v, n, k);
                qsort(v, k, sizeof *v, cmp_u64);
                assert_memory_equal(v, sorted, k * sizeof *v);
                qsort(v, n, sizeof *v, cmp_u64);
                assert_memory_equal(v, sorted, n * sizeof *v);
            }
        }
    }
}

/* Row by row and node by node the same bits come out, whatever the number of rows. */
static void test_turn_when_rows_are_odd_then_bits_are_those_of_a_prepared_filter(void **state)
{
    static const uint32_t counts[] = { 1100, 1153, 1984, 2049, 4161 };
    static const double rates[] = { 0, .001, .02, .3, .97, 1 };
    if (cf_laid) { /* nothing is turned */
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        const uint32_t n = counts[i];
        struct cf_set s;
        struct cf_index x;
        cf_set_new(&s, METRIC_L2, VEC_F32, 8, n, 1, 20, n);
        cf_index_new(&x, &s, INDEX_HNSW);
        const struct graph *g = CONTAINER_OF(x.ix, const struct graph, head);
        const size_t words = bits_words(n);
        uint64_t *allow = alloc_try_zero(words * 8), *a = alloc_try_zero(words * 8),
                 *b = alloc_try_zero(words * 8);
        uint32_t *nodes = xalloc((n + 128) * sizeof *nodes);
        for (size_t r = 0; r < ARRAY_LEN(rates); r++) {
            memset(allow, 0, words * 8);
            memset(b, 0, words * 8);
            for (uint32_t row = 0; row < n; row++) {
                if (cf_uniform() < rates[r]) {
                    bit_set(allow, row);
                }
            }
            graph__filter(x.ix, allow, a);
            graph__turn(g, allow, b);
            assert_memory_equal(a, b, words * 8);
            size_t word = 0, got = 0;
            while (word < words) {
                got += graph__allowed_nodes(g, allow, &word, nodes + got, 64 + 64 * (r & 1));
            }
            assert_int_equal(got, bits_count(allow, n));
            for (size_t k = 0; k < got; k++) {
                assert_true(bit_get(a, nodes[k]));
            }
        }
        mem_free(allow);
        mem_free(a);
        mem_free(b);
        mem_free(nodes);
        cf_index_done(&x);
        cf_set_done(&s);
    }
}

/* Each way looks at the same nodes in the same order, whichever form the filter has. */
static void test_filtered_when_prepared_then_hits_are_the_same(void **state)
{
    static const double rates[] = { .9, .5, .2, .1, .03, .01, .002 };
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, METRIC_COSINE, VEC_F32, 96, 9000, 4, 90, 3);
    cf_index_new(&x, &s, INDEX_HNSW);
    uint64_t *allow = xalloc(bits_words(9000) * 8);
    for (size_t r = 0; r < ARRAY_LEN(rates); r++) {
        memset(allow, 0, bits_words(9000) * 8);
        for (uint32_t i = 0; i < 9000; i++) {
            if (cf_uniform() < rates[r]) {
                bit_set(allow, i);
            }
        }
        for (int how = STRAT_SCAN; how <= STRAT_GRAPH2; how++) {
            struct topk *tk[2];
            for (int prepared = 0; prepared < 2; prepared++) {
                struct index_counters c = { 0 };
                struct index_search_params sp;
                index_search_params_init(&sp);
                sp.ef = 48;
                sp.strategy = (uint32_t)how;
                struct index_query q = { .queries = s.queries, .query_stride = s.query_stride,
                                         .nq = s.nq, .allow = allow, .params = &sp,
                                         .allow_count = (uint32_t)bits_count(allow, 9000) };
                struct index_filter *filter = NULL;
                if (prepared) {
                    ASSERT_OK(index_filter_new(x.ix, allow, &filter, &st));
                }
                q.filter = filter;
                ASSERT_OK(topk_new(s.nq, 10, cf_larger(&s), NULL, &tk[prepared], &st));
                ASSERT_OK(index_search(x.ix, &q, tk[prepared], &c, &st));
                index_filter_free(filter);
                topk_finish(tk[prepared]);
            }
            for (uint32_t j = 0; j < s.nq; j++) {
                assert_int_equal(topk_count(tk[0], j), topk_count(tk[1], j));
                for (uint32_t i = 0; i < topk_count(tk[0], j); i++) {
                    assert_int_equal(topk_row(tk[0], j, i), topk_row(tk[1], j, i));
                }
            }
            topk_free(tk[0]);
            topk_free(tk[1]);
        }
    }
    mem_free(allow);
    cf_index_done(&x);
    cf_set_done(&s);
}

/* The rows nearest to query j of s, best first. */
static uint64_t *all_but_nearest(const struct cf_set *s, uint32_t j, uint32_t excluded)
{
    struct cf_set one = *s;
    one.queries += j * s->query_stride;
    one.nq = 1;
    uint64_t *allow = xalloc((bits_words(s->rows.nrows)) * 8);
    struct topk *near = cf_truth(&one, excluded, NULL, NULL);
    bits_fill(allow, s->rows.nrows, true);
    for (uint32_t i = 0; i < topk_count(near, 0); i++) {
        bit_clear(allow, topk_row(near, 0, i));
    }
    topk_free(near);
    return allow;
}

/* What was shown before is left out: the walk goes a little farther, and no scan begins. Where so
 * many are left out that the walk is given up, it does not name where it went. */
static void test_walk_when_the_nearest_are_excluded_then_it_goes_on_or_says_so(void **state)
{
    static const uint32_t counts[] = { 15, 20, 40, 100, 600, 3000 };
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    uint32_t given_up = 0;
    cf_set_new(&s, METRIC_L2, VEC_F32, 48, 12000, 6, 300, 3);
    cf_index_new(&x, &s, INDEX_HNSW);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        for (uint32_t j = 0; j < s.nq; j++) {
            uint64_t *allow = all_but_nearest(&s, j, counts[i]);
            struct cf_set one = s;
            struct index_counters c = { 0 };
            struct index_search_params sp;
            struct topk *tk, *truth;
            uint32_t rows[24], count = 0;
            float key = 0;
            struct index_near near = { .rows = rows, .max = 24, .counts = &count, .keys = &key };
            one.queries += j * s.query_stride;
            one.nq = 1;
            index_search_params_init(&sp);
            sp.ef = 14;
            struct index_query q = { .queries = one.queries, .query_stride = one.query_stride,
                                     .nq = 1, .allow = allow, .params = &sp, .near = &near,
                                     .allow_count = 12000 - counts[i] };
            ASSERT_OK(topk_new(1, 10, cf_larger(&s), NULL, &tk, &st));
            ASSERT_OK(index_search(x.ix, &q, tk, &c, &st));
            topk_finish(tk);
            truth = cf_truth(&one, 10, allow, NULL);
            assert_int_equal(topk_count(tk, 0), 10);
            if (counts[i] <= 40) {
                assert_int_equal(c.strategy, STRAT_GRAPH2);
                assert_true(c.distances < 3000);
            }
            if (c.strategy != STRAT_GRAPH2) {
                assert_int_equal(count, 0);
                given_up++;
            }
            assert_true(cf_recall(&one, tk, truth, allow) >= 0.6);
            topk_free(tk);
            topk_free(truth);
            mem_free(allow);
        }
    }
    assert_true(given_up > 0);
    cf_index_done(&x);
    cf_set_done(&s);
}

int main(int argc, char **argv)
{
    cf_laid = argc > 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_select_when_order_varies_then_the_smallest_are_in_front),
        cmocka_unit_test(test_turn_when_rows_are_odd_then_bits_are_those_of_a_prepared_filter),
        cmocka_unit_test(test_filtered_when_prepared_then_hits_are_the_same),
        cmocka_unit_test(test_walk_when_the_nearest_are_excluded_then_it_goes_on_or_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
