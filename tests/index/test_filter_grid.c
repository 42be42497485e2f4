/*
 * test_filter_grid.c - filtered searches of a graph index: each pass rate, each way the filter can
 * lie to the query, each strategy. bench/filter_grid.c is the same on large sets, with times.
 */
#include "conform.h"

#include "index/graph/graph_int.h"
#include "index/graph/graph_plan.h"
#include "index/topk.h"

enum lie { RANDOM, NEAR, FAR, RUN, STRIPES, NLIES };

struct grid {
    struct cf_set s;
    struct cf_index x;
    struct topk *all; /* every row, best first */
};

static void grid_new(struct grid *g, enum metric metric, enum vec_type type, uint32_t n,
                     uint32_t nq, enum index_type index)
{
    /* k of every row: the ranking that near and far filters are cut from. */
    cf_set_new(&g->s, metric, type, 24, n, nq, n / 40 + 2, n + metric);
    cf_index_new(&g->x, &g->s, index);
    g->all = cf_truth(&g->s, MIN(n, (uint32_t)INDEX_TOPK_MAX), NULL, NULL);
}

static void grid_done(struct grid *g)
{
    topk_free(g->all);
    cf_index_done(&g->x);
    cf_set_done(&g->s);
}

static uint32_t make_filter(const struct grid *g, uint32_t j, enum lie lie, double rate,
                            uint64_t *allow)
{
    uint32_t n = g->s.rows.nrows, want = (uint32_t)(rate * n + 0.5), from;
    memset(allow, 0, bits_words(n) * 8);
    for (uint32_t i = 0; i < n; i++) {
        bool in = false;
        switch (lie) {
        case RANDOM:
            in = cf_uniform() < rate;
            break;
        case NEAR:
            in = i < want;
            break;
        case FAR:
            in = i >= n * 3 / 10 && cf_uniform() < rate;
            break;
        case RUN:
            from = (n - want) / 3;
            in = i >= from && i < from + want;
            break;
        default:
            in = fmod((double)i * rate, 1.0) < rate;
            break;
        }
        if (in) {
            bit_set(allow, lie == NEAR || lie == FAR ? topk_row(g->all, j, i) : i);
        }
    }
    return (uint32_t)bits_count(allow, n);
}

/* Recall of query j; asserts the count and that hits are allowed and distinct. Every second filter
 * is prepared. */
static double search_one(const struct grid *g, uint32_t j, const uint64_t *allow, uint32_t count,
                         uint32_t k, enum index_strategy how, struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct cf_set one = g->s;
    struct index_search_params sp;
    struct topk *tk, *truth;
    one.queries += j * g->s.query_stride;
    one.nq = 1;
    index_search_params_init(&sp);
    sp.ef = MAX(64u, k);
    sp.strategy = how;
    struct index_query q = { .queries = one.queries, .query_stride = one.query_stride, .nq = 1,
                             .allow = allow, .allow_count = count, .params = &sp };
    struct index_filter *filter = NULL;
    static unsigned turn;
    if (allow && (turn++ & 1)) {
        ASSERT_OK(index_filter_new(g->x.ix, allow, &filter, &st));
    }
    q.filter = filter;
    truth = cf_truth(&one, k, allow, NULL);
    ASSERT_OK(topk_new(1, k, cf_larger(&one), NULL, &tk, &st));
    ASSERT_OK(index_search(g->x.ix, &q, tk, c, &st));
    index_filter_free(filter);
    topk_finish(tk);
    assert_int_equal(topk_count(tk, 0), MIN(k, count));
    double recall = cf_recall(&one, tk, truth, allow);
    topk_free(tk);
    topk_free(truth);
    return recall;
}

static const double rates[] = { 1,    .9,  .7,  .5,   .3,   .2,   .1,    .07,
                                .05,  .03, .02, .01,  .005, .003, .001,  .0003 };

/* All cells for one strategy: recall is at most margin below that of an unfiltered search. */
static void run_grid(const struct grid *g, enum index_strategy how, uint32_t k, size_t step,
                     double margin, bool far_too)
{
    uint32_t n = g->s.rows.nrows;
    uint64_t *allow = xalloc(bits_words(n) * 8);
    double floor = -margin;
    for (uint32_t j = 0; j < g->s.nq; j++) {
        struct index_counters c = { 0 };
        floor += search_one(g, j, NULL, n, k, STRAT_AUTO, &c) / g->s.nq;
    }
    assert_true(floor > 0.9 - margin);
    for (int lie = 0; lie < NLIES; lie++) {
        for (size_t r = 0; r < ARRAY_LEN(rates) + 2; r += step) {
            double rate = r < ARRAY_LEN(rates) ? rates[r]
                          : r == ARRAY_LEN(rates) ? (double)k / n
                                                  : (double)(k / 2) / n;
            double sum = 0;
            for (uint32_t j = 0; j < g->s.nq; j++) {
                struct index_counters c = { 0 };
                uint32_t count = make_filter(g, j, (enum lie)lie, rate, allow);
                sum += search_one(g, j, allow, count, k, how, &c);
                assert_true(how == STRAT_AUTO || count == 0 || count == n || c.fallbacks ||
                            c.strategy == how);
            }
            if ((lie != FAR || far_too) && sum / g->s.nq < floor) {
                fail_msg("strategy %s, filter %d, pass rate %g, k %u: recall %.3f below %.3f",
                         index_strategy_name(how), lie, rate, k, sum / g->s.nq, floor);
            }
        }
    }
    mem_free(allow);
}

static void test_planner_when_rows_are_few_then_every_cell_is_right(void **state)
{
    static const uint32_t ks[] = { 1, 10, 100, 1000 };
    for (size_t i = 0; i < 4; i++) {
        struct grid g;
        grid_new(&g, (enum metric)(i % 3), VEC_F32, 1000, 4, INDEX_HNSW);
        run_grid(&g, STRAT_AUTO, ks[i], 1, 0.01, true);
        grid_done(&g);
    }
}

static void test_planner_when_rows_are_many_then_every_cell_is_right(void **state)
{
    struct grid g;
    grid_new(&g, METRIC_L2, VEC_F32, 9000, 3, INDEX_HNSW);
    run_grid(&g, STRAT_AUTO, 10, 1, 0.01, true);
    run_grid(&g, STRAT_AUTO, 100, 3, 0.01, true);
    for (int how = STRAT_SCAN; how <= STRAT_CLUSTERS; how++) {
        run_grid(&g, (enum index_strategy)how, 10, 2, 0.04, true);
    }
    /* Walks whose query the filter shuns are not held to a recall: the planner avoids them. */
    for (int how = STRAT_GRAPH; how <= STRAT_GRAPH2; how++) {
        run_grid(&g, (enum index_strategy)how, 10, 2, 0.04, false);
    }
    grid_done(&g);
}

static void test_planner_when_types_vary_then_recall_holds(void **state)
{
    static const enum vec_type types[] = { VEC_F16, VEC_BF16, VEC_I8 };
    for (size_t i = 0; i < 3; i++) {
        struct grid g;
        grid_new(&g, (enum metric)(2 - i), types[i], 3000, 3, i ? INDEX_HNSW : INDEX_HNSW_SQ);
        run_grid(&g, STRAT_AUTO, 10, 2, 0.02, true);
        grid_done(&g);
    }
}

static void test_filter_when_widened_then_no_better_row_is_lost(void **state)
{
    struct grid g;
    struct index_counters c = { 0 };
    uint32_t n = 3000, count = 0;
    uint64_t *allow = xalloc(bits_words(n) * 8);
    grid_new(&g, METRIC_L2, VEC_F32, n, 2, INDEX_HNSW);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = (uint32_t)((uint64_t)i * 1201 % n);
        bit_set(allow, row);
        count++;
        if (count % 250 == 5) {
            assert_true(search_one(&g, 1, allow, count, 10, STRAT_SCAN, &c) == 1);
            assert_true(search_one(&g, 1, allow, count, 10, STRAT_FLAT, &c) == 1);
        }
    }
    mem_free(allow);
    grid_done(&g);
}

/* The estimate must follow what each way reads, whatever the constants. */
static void test_plan_when_the_filter_narrows_then_choices_move_from_walk_to_scan(void **state)
{
    struct plan_search p = { .nrows = 1000000, .allowed = 900000, .nclusters = 1000, .degree = 32,
                             .k = 10, .ef = 64, .keep = 20, .row_bytes = 3072, .code_bytes = 768,
                             .local = -1 };
    assert_int_equal(plan_filtered(&p).strategy, STRAT_GRAPH2);
    p.allowed = 20; /* all get exact scores anyway */
    assert_int_equal(plan_filtered(&p).strategy, STRAT_FLAT);
    p.allowed = 100000;
    enum index_strategy middle = plan_filtered(&p).strategy;
    assert_true(middle == STRAT_CLUSTERS || middle == STRAT_GRAPH2);
    p.local = 0; /* the filter shuns the query: no walk */
    middle = plan_filtered(&p).strategy;
    assert_true(middle != STRAT_GRAPH2);
    double before = 0;
    for (p.allowed = 100; p.allowed < p.nrows; p.allowed *= 2) {
        assert_true(plan_cost(&p, STRAT_SCAN) > before);
        before = plan_cost(&p, STRAT_SCAN);
    }
}

/* What a walk must find rises as the share falls: without a filter it is ef, and k of the found are
 * allowed on average, or more. */
static void test_plan_walk_ef_when_fewer_are_allowed_then_walks_reach_farther(void **state)
{
    struct plan_search p = { .nrows = 100000, .allowed = 100000, .k = 10, .ef = 30, .local = -1 };
    assert_int_equal(plan_walk_ef(&p), 30);
    size_t before = 30;
    for (p.allowed = 90000; p.allowed > 100; p.allowed /= 2) {
        double found = (double)plan_walk_ef(&p) * p.allowed / p.nrows;
        assert_true(plan_walk_ef(&p) >= before);
        assert_true(found >= (double)p.k);
        before = plan_walk_ef(&p);
    }
    p.allowed = 1;
    assert_int_equal(plan_walk_ef(&p), p.nrows);
    p = (struct plan_search){ .nrows = 100, .allowed = 25, .k = 1000, .ef = 100, .local = -1 };
    assert_int_equal(plan_walk_allowed(&p), 1000); /* more are wanted than there are */
}

/* The same bits in the nodes' order and in the rows'. */
static void test_filter_when_prepared_then_forced_ways_answer_the_same(void **state)
{
    static const enum index_strategy ways[] = { STRAT_FLAT, STRAT_SCAN, STRAT_GRAPH };
    static const double shares[] = { .9, .3, .05, .01, .002 };
    struct status st = STATUS_INIT;
    struct grid g;
    grid_new(&g, METRIC_L2, VEC_F32, 4000, 6, INDEX_HNSW);
    uint64_t *allow = alloc_try_zero(bits_words(4000) * 8 + 8);
    for (size_t i = 0; i < ARRAY_LEN(shares) * ARRAY_LEN(ways); i++) {
        struct index_search_params sp;
        struct index_filter *filter = NULL;
        struct topk *tk[2];
        uint32_t count = make_filter(&g, (uint32_t)(i % 6), (enum lie)(i % NLIES),
                                     shares[i % ARRAY_LEN(shares)], allow);
        index_search_params_init(&sp);
        sp.strategy = ways[i / ARRAY_LEN(shares)];
        struct index_query q = { .queries = g.s.queries, .query_stride = g.s.query_stride, .nq = 6,
                                 .allow = allow, .allow_count = count, .params = &sp };
        assert_int_equal(index_filter_new(g.x.ix, allow, &filter, &st), 0);
        assert_true(index_filter_bytes(filter) >= 4000 / 8);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(topk_new(6, 10, false, NULL, &tk[k], &st), 0);
            q.filter = k ? filter : NULL;
            assert_int_equal(index_search(g.x.ix, &q, tk[k], NULL, &st), 0);
            topk_finish(tk[k]);
        }
        for (uint32_t j = 0; j < 6; j++) {
            assert_int_equal(topk_count(tk[0], j), topk_count(tk[1], j));
            for (uint32_t n = 0; n < topk_count(tk[0], j); n++) {
                assert_true(topk_row(tk[0], j, n) == topk_row(tk[1], j, n));
            }
        }
        index_filter_free(filter);
        topk_free(tk[0]);
        topk_free(tk[1]);
    }
    mem_free(allow);
    grid_done(&g);
}

/* What of a filtered search rests on bits: an index of so many rows has them. */
static void bits_grid(enum metric metric, enum vec_type type, enum index_type index, uint32_t n,
                      size_t dim)
{
    struct grid g;
    cf_set_new(&g.s, metric, type, dim, n, 4, n / 40, n + metric);
    cf_index_new(&g.x, &g.s, index);
    g.all = cf_truth(&g.s, n, NULL, NULL);
    const struct graph *graph = CONTAINER_OF(g.x.ix, const struct graph, head);
    assert_non_null(graph->bit_codec);
    assert_true((graph->centroid_codes != NULL) == (type == VEC_F32));
    run_grid(&g, STRAT_AUTO, 10, 3, 0.01, true);
    run_grid(&g, STRAT_SCAN, 10, 3, 0.02, true);
    run_grid(&g, STRAT_CLUSTERS, 10, 3, 0.04, true);
    grid_done(&g);
}

static void test_scan_when_there_are_bits_then_every_cell_is_right(void **state)
{
    bits_grid(METRIC_L2, VEC_F32, INDEX_HNSW, 4200, 64);
    bits_grid(METRIC_COSINE, VEC_F32, INDEX_HNSW, 4100, 96);
    bits_grid(METRIC_IP, VEC_F16, INDEX_HNSW_SQ, 4100, 65);
}

/* Rows without structure: thousands lie as far from the query as the nearest that are allowed, and no
 * code tells them apart. */
static void test_scan_when_scores_are_dense_then_the_best_are_among_them(void **state)
{
    struct grid g;
    struct index_counters c = { 0 };
    const uint32_t n = 12000;
    uint64_t *allow = xalloc(bits_words(n) * 8);
    cf_set_new(&g.s, METRIC_COSINE, VEC_F32, 64, n, 3, n, 5);
    cf_index_new(&g.x, &g.s, INDEX_HNSW);
    g.all = cf_truth(&g.s, n, NULL, NULL);
    double sum = 0;
    for (uint32_t j = 0; j < 3; j++) {
        uint32_t count = make_filter(&g, j, FAR, .9, allow);
        sum += search_one(&g, j, allow, count, 10, STRAT_SCAN, &c);
    }
    assert_true(sum / 3 > 0.94);
    mem_free(allow);
    grid_done(&g);
}

static void test_open_when_bits_are_damaged_then_it_says_so(void **state)
{
    struct status st = STATUS_INIT;
    struct grid g;
    struct index *ix;
    const void *at;
    size_t size;
    cf_set_new(&g.s, METRIC_L2, VEC_F32, 64, 4100, 1, 100, 6);
    cf_index_new(&g.x, &g.s, INDEX_HNSW);
    g.all = NULL;
    const struct ix_file *f = &CONTAINER_OF(g.x.ix, const struct graph, head)->head.file;
    ASSERT_OK(ix_section(f, GRAPH_BCOD, SIZE_MAX, &at, &size, &st));
    struct index_source src = { .map = g.x.file.p, .size = g.x.file.n, .fd = -1, .trusted = true };
    uint8_t *blob = (uint8_t *)(uintptr_t)at;
    blob[size - 1] ^= 1;
    assert_int_equal(index_open(&src, &g.s.rows, &ix, &st), ST_CORRUPT);
    st_clear(&st);
    blob[size - 1] ^= 1;
    /* Whatever the bits say, nothing outside is read and hits carry their own scores. */
    ASSERT_OK(ix_section(f, GRAPH_BITS, SIZE_MAX, &at, &size, &st));
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)(uintptr_t)at)[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    ASSERT_OK(index_open(&src, &g.s.rows, &ix, &st));
    index_free(g.x.ix);
    g.x.ix = ix;
    uint64_t *allow = xalloc(bits_words(4100) * 8);
    for (uint32_t i = 0; i < 4100; i += 3) {
        bit_set(allow, i);
    }
    for (int how = STRAT_SCAN; how <= STRAT_CLUSTERS; how++) {
        struct index_search_params sp;
        struct topk *tk;
        index_search_params_init(&sp);
        sp.strategy = (uint32_t)how;
        struct index_query q = { .queries = g.s.queries, .query_stride = g.s.query_stride, .nq = 1,
                                 .allow = allow, .params = &sp,
                                 .allow_count = (uint32_t)bits_count(allow, 4100) };
        ASSERT_OK(topk_new(1, 10, false, NULL, &tk, &st));
        ASSERT_OK(index_search(g.x.ix, &q, tk, NULL, &st));
        topk_free(tk);
    }
    mem_free(allow);
    grid_done(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planner_when_rows_are_few_then_every_cell_is_right),
        cmocka_unit_test(test_planner_when_rows_are_many_then_every_cell_is_right),
        cmocka_unit_test(test_planner_when_types_vary_then_recall_holds),
        cmocka_unit_test(test_filter_when_widened_then_no_better_row_is_lost),
        cmocka_unit_test(test_plan_when_the_filter_narrows_then_choices_move_from_walk_to_scan),
        cmocka_unit_test(test_plan_walk_ef_when_fewer_are_allowed_then_walks_reach_farther),
        cmocka_unit_test(test_scan_when_there_are_bits_then_every_cell_is_right),
        cmocka_unit_test(test_scan_when_scores_are_dense_then_the_best_are_among_them),
        cmocka_unit_test(test_open_when_bits_are_damaged_then_it_says_so),
        cmocka_unit_test(test_filter_when_prepared_then_forced_ways_answer_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
