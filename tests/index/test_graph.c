/*
 * test_graph.c - what is particular to graphs: reachability of equal rows, links that lie, walks
 * of every kind against each other, inner products of rows of unlike length.
 *
 * What every index type must do is in test_conform.c.
 */
#include "conform.h"
#include "index/graph/graph_int.h"

#define K 10

static const struct graph *graph_of(const struct cf_index *x)
{
    return CONTAINER_OF(x->ix, const struct graph, head);
}

static struct topk *search_with(const struct cf_index *x, const struct cf_set *s, uint32_t k,
                                uint32_t ef, enum index_strategy strategy, const uint64_t *allow,
                                const struct topk_range *range, struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct index_search_params sp;
    index_search_params_init(&sp);
    sp.ef = ef;
    sp.strategy = (uint32_t)strategy;
    struct index_query q = { .queries = s->queries, .query_stride = s->query_stride, .nq = s->nq,
                             .allow = allow, .params = &sp,
                             .allow_count =
                                 allow ? (uint32_t)bits_count(allow, s->rows.nrows) : 0 };
    ASSERT_OK(topk_new(s->nq, k, cf_larger(s), range, &tk, &st));
    ASSERT_OK(index_search(x->ix, &q, tk, c, &st));
    topk_finish(tk);
    return tk;
}

static double recall_with(const struct cf_index *x, const struct cf_set *s, uint32_t k, uint32_t ef)
{
    struct index_counters c = { 0 };
    struct topk *truth = cf_truth(s, k, NULL, NULL);
    struct topk *got = search_with(x, s, k, ef, STRAT_AUTO, NULL, NULL, &c);
    double recall = cf_recall(s, got, truth, NULL);
    assert_int_equal(c.fallbacks, 0);
    topk_free(truth);
    topk_free(got);
    return recall;
}

static void test_search_when_ef_grows_then_recall_grows_and_work_too(void **state)
{
    static const uint32_t efs[] = { 10, 20, 40, 80, 160 };
    struct cf_set s;
    struct cf_index x;
    double before = 0;
    uint64_t work = 0;
    cf_set_new(&s, METRIC_L2, VEC_F32, 24, 6000, 100, 6000, 1); /* no clusters to speak of */
    cf_index_new(&x, &s, INDEX_HNSW);
    for (size_t i = 0; i < ARRAY_LEN(efs); i++) {
        struct index_counters c = { 0 };
        double recall = recall_with(&x, &s, K, efs[i]);
        struct topk *tk = search_with(&x, &s, K, efs[i], STRAT_AUTO, NULL, NULL, &c);
        assert_true(recall >= before - 0.01);
        assert_true(c.distances > work && c.hops >= efs[i] * s.nq);
        before = recall;
        work = c.distances;
        topk_free(tk);
    }
    assert_true(before > 0.97);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_search_when_k_is_large_then_recall_holds(void **state)
{
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, METRIC_COSINE, VEC_F32, 24, 6000, 10, 300, 2);
    cf_index_new(&x, &s, INDEX_HNSW);
    assert_true(recall_with(&x, &s, 700, 10) > 0.95);  /* the sorted pool at its largest */
    assert_true(recall_with(&x, &s, 2000, 10) > 0.95); /* heaps */
    cf_index_done(&x);
    cf_set_done(&s);
}

/* The two walks are one search: with the same ef they find the same, up to ties at the end. */
static void test_walks_when_run_side_by_side_then_they_agree(void **state)
{
    struct cf_set s;
    struct cf_index x;
    uint64_t all[6000 / 64 + 1];
    cf_set_new(&s, METRIC_L2, VEC_F32, 24, 6000, 50, 300, 3);
    cf_index_new(&x, &s, INDEX_HNSW);
    bits_fill(all, 6000, true);
    struct topk *truth = cf_truth(&s, K, NULL, NULL);
    struct topk *one = search_with(&x, &s, K, 60, STRAT_GRAPH, NULL, NULL, NULL);
    struct topk *two = search_with(&x, &s, K, 60, STRAT_GRAPH, all, NULL, NULL);
    double a = cf_recall(&s, one, truth, NULL), b = cf_recall(&s, two, truth, NULL);
    assert_true(a > 0.95 && b > 0.95 && fabs(a - b) < 0.01);
    topk_free(truth);
    topk_free(one);
    topk_free(two);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_walk_when_rows_are_filtered_then_it_finds_the_rest(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    struct index_search_params sp;
    uint64_t allow[6000 / 64 + 1];
    cf_set_new(&s, METRIC_L2, VEC_F32, 24, 6000, 50, 300, 4);
    cf_index_new(&x, &s, INDEX_HNSW);
    index_search_params_init(&sp);
    sp.ef = 80;
    for (int share = 2; share <= 18; share *= 3) {
        struct index_counters c = { 0 };
        struct topk *got;
        bits_fill(allow, 6000, false);
        for (uint32_t i = 0; i < 6000; i++) {
            if (cf_uniform() * share < 1) {
                bit_set(allow, i);
            }
        }
        struct index_query q = { .queries = s.queries, .query_stride = s.query_stride, .nq = s.nq,
                                 .allow = allow, .params = &sp,
                                 .allow_count = (uint32_t)bits_count(allow, 6000) };
        struct topk *truth = cf_truth(&s, K, allow, NULL);
        ASSERT_OK(topk_new(s.nq, K, false, NULL, &got, &st));
        for (uint32_t j = 0; j < s.nq; j++) { /* the walk itself, whatever a planner would choose */
            ASSERT_OK(graph__search_walk(graph_of(&x), &q, j, got, &c, &st));
        }
        topk_finish(got);
        assert_true(cf_recall(&s, got, truth, allow) > 0.97);
        assert_int_equal(c.strategy, STRAT_GRAPH);
        topk_free(truth);
        topk_free(got);
    }
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_range_when_few_rows_are_inside_then_the_walk_ends_early(void **state)
{
    struct cf_set s;
    struct cf_index x;
    struct index_counters near = { 0 }, all = { 0 };
    cf_set_new(&s, METRIC_L2, VEC_F32, 24, 6000, 20, 300, 5);
    cf_index_new(&x, &s, INDEX_HNSW);
    struct topk_range range = { .has_radius = true, .radius = 9 };
    struct topk *truth = cf_truth(&s, 3000, NULL, &range);
    struct topk *got = search_with(&x, &s, 3000, 64, STRAT_AUTO, NULL, &range, &near);
    assert_true(topk_count(truth, 0) > 3 && topk_count(truth, 0) < 200);
    assert_true(cf_recall(&s, got, truth, NULL) > 0.97);
    struct topk *rest = search_with(&x, &s, 3000, 64, STRAT_AUTO, NULL, NULL, &all);
    assert_true(near.distances * 2 < all.distances);
    topk_free(truth);
    topk_free(got);
    topk_free(rest);
    cf_index_done(&x);
    cf_set_done(&s);
}

/* Norms of 0.2 to 5: the rows with the largest inner products are few and long. */
static void test_search_when_inner_products_of_unlike_rows_then_recall_is_high(void **state)
{
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, METRIC_IP, VEC_F32, 24, 5000, 50, 300, 6);
    for (uint32_t i = 0; i < s.rows.nrows; i++) {
        float *row = (float *)(void *)(s.data + (size_t)i * s.rows.stride);
        float scale = (float)(0.2 * pow(25, cf_uniform()));
        for (size_t k = 0; k < 24; k++) {
            row[k] *= scale;
        }
    }
    cf_index_new(&x, &s, INDEX_HNSW);
    assert_true(recall_with(&x, &s, K, 80) > 0.97);
    cf_index_done(&x);
    cf_set_done(&s);
}

/* ---- Rows that are equal ---- */

static void copy_rows(struct cf_set *s, uint32_t from, uint32_t n, const void *row)
{
    for (uint32_t i = from; i < from + n; i++) {
        memcpy(s->data + (size_t)i * s->rows.stride, row, s->rows.stride);
    }
}

static void test_build_when_rows_are_equal_by_the_thousand_then_each_is_reached(void **state)
{
    static const enum vec_type types[] = { VEC_F32, VEC_I8, VEC_BIN };
    static const enum metric metrics[] = { METRIC_COSINE, METRIC_L2, METRIC_HAMMING };
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        for (uint32_t n = 1000; n <= 3000; n += 2000) { /* some rows; all rows */
            struct status st = STATUS_INIT;
            struct cf_set s;
            struct cf_index x;
            struct index_counters c = { 0 };
            cf_set_new(&s, metrics[t], types[t], 32, 3000, 5, 50, 7);
            copy_rows(&s, 0, n, s.data);
            memcpy(s.queries, s.data, s.query_stride);
            cf_index_new(&x, &s, INDEX_HNSW);
            ASSERT_OK(index_validate(x.ix, &st)); /* every node is reached */
            struct topk *truth = cf_truth(&s, 100, NULL, NULL);
            struct topk *got = search_with(&x, &s, 100, 200, STRAT_AUTO, NULL, NULL, &c);
            assert_int_equal(c.fallbacks, 0);
            assert_true(cf_recall(&s, got, truth, NULL) > 0.95);
            topk_free(truth);
            topk_free(got);
            cf_index_done(&x);
            cf_set_done(&s);
        }
    }
}

static void test_build_when_rows_are_zero_then_each_is_reached(void **state)
{
    for (int m = METRIC_L2; m <= METRIC_COSINE; m++) {
        struct status st = STATUS_INIT;
        struct cf_set s;
        struct cf_index x;
        cf_set_new(&s, (enum metric)m, VEC_F32, 32, 2000, 5, 50, 8);
        memset(s.data, 0, 1000 * s.rows.stride);
        cf_index_new(&x, &s, INDEX_HNSW);
        ASSERT_OK(index_validate(x.ix, &st));
        /* Under L2 the rows at zero lie between all others: they fill the pool first. */
        assert_true(recall_with(&x, &s, K, 100) > (m == METRIC_L2 ? 0.7 : 0.95));
        cf_index_done(&x);
        cf_set_done(&s);
    }
}

static void test_build_when_degree_is_least_then_each_is_reached(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_file f = { 0 };
    struct index *ix;
    struct index_params p;
    cf_set_new(&s, METRIC_L2, VEC_F32, 8, 3000, 1, 3, 9);
    cf_params(&p, INDEX_HNSW, 8);
    p.M = 2;
    p.ef_construction = 1;
    ASSERT_OK(cf_build(&s, &p, NULL, &f, &st));
    ASSERT_OK(cf_open(&s, &f, &ix, &st));
    ASSERT_OK(index_validate(ix, &st));
    index_free(ix);
    mem_free(f.p);
    cf_set_done(&s);
}

/* ---- Files that lie ---- */

/* Links, rows and pivots of any value: a search may find nonsense but reads nothing that is not
 * there. Sums are not checked, as after a load that trusts them. */
static void test_search_when_links_are_wild_then_nothing_outside_is_read(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, METRIC_L2, VEC_F32, 16, 2000, 20, 50, 10);
    cf_index_new(&x, &s, INDEX_HNSW);
    const struct graph *g = graph_of(&x);
    uint32_t *links = (uint32_t *)(uintptr_t)g->links, *perm = (uint32_t *)(uintptr_t)g->perm;
    for (size_t i = 0; i < (size_t)g->n * g->degree; i++) {
        if (cf_uniform() < 0.2) {
            links[i] = (uint32_t)(cf_uniform() * 4294967295.0);
        }
    }
    for (uint32_t i = 0; perm && i < g->n; i += 3) {
        perm[i] = (uint32_t)(cf_uniform() * 4294967295.0);
    }
    struct topk *plain = search_with(&x, &s, K, 60, STRAT_GRAPH, NULL, NULL, NULL);
    struct topk *wide = search_with(&x, &s, 900, 60, STRAT_GRAPH, NULL, NULL, NULL);
    for (uint32_t j = 0; j < s.nq; j++) {
        for (uint32_t i = 0; i < topk_count(wide, j); i++) {
            assert_true(topk_row(wide, j, i) < s.rows.nrows);
        }
    }
    assert_int_equal(index_validate(x.ix, &st), ST_CORRUPT);
    topk_free(plain);
    topk_free(wide);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_validate_when_a_node_cannot_be_reached_then_it_says_so(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, METRIC_L2, VEC_F32, 16, 500, 1, 20, 11);
    cf_index_new(&x, &s, INDEX_HNSW);
    const struct graph *g = graph_of(&x);
    ASSERT_OK(g->head.ops->validate(x.ix, &st));
    for (uint32_t i = 0; i < g->n; i++) { /* nobody leads to node 77 any more */
        uint32_t *links = (uint32_t *)(uintptr_t)graph_links(g, i), m = 0;
        for (uint32_t k = 0; k < g->degree; k++) {
            if (links[k] != 77) {
                links[m++] = links[k];
            }
        }
        while (m < g->degree) {
            links[m++] = GRAPH_NONE;
        }
    }
    assert_int_equal(g->head.ops->validate(x.ix, &st), ST_CORRUPT);
    assert_non_null(strstr(st.msg, "reachable"));
    cf_index_done(&x);
    cf_set_done(&s);
}

/* ---- Codes ---- */

static void many_params(struct index_params *p, enum index_type type)
{
    index_params_init(p, type);
    p->M = 8;
    p->ef_construction = 40;
    p->seed = 5;
}

static void build_with(const struct cf_set *s, const struct index_params *p, struct pool *pool,
                       struct cf_index *ret)
{
    struct status st = STATUS_INIT;
    struct index_build b = { .rows = &s->rows, .params = p, .pool = pool };
    *ret = (struct cf_index){ 0 };
    ASSERT_OK(index_build(&b, cf_sink, &ret->file, &st));
    struct index_source src = { .map = ret->file.p, .size = ret->file.n, .fd = -1 };
    ASSERT_OK(index_open(&src, &s->rows, &ret->ix, &st));
    ASSERT_OK(index_validate(ret->ix, &st));
}

static void test_build_when_coarse_codes_serve_then_it_takes_them(void **state)
{
    static const enum metric metrics[] = { METRIC_L2, METRIC_COSINE, METRIC_IP };
    for (size_t m = 0; m < ARRAY_LEN(metrics); m++) {
        struct cf_set s;
        struct cf_index coarse, fine;
        struct index_params p;
        struct index_counters a = { 0 }, b = { 0 };
        cf_set_new(&s, metrics[m], m == 1 ? VEC_F16 : VEC_F32, 256, 4200, 60, 4200, 31);
        many_params(&p, INDEX_HNSW);
        build_with(&s, &p, NULL, &coarse);
        many_params(&p, INDEX_HNSW_SQ);
        p.sq_type = QUANT_SQ8;
        build_with(&s, &p, NULL, &fine);
        assert_int_equal(codec_kind_of(graph_of(&coarse)->codec), CODEC_SQ4);
        assert_int_equal(codec_kind_of(graph_of(&fine)->codec), CODEC_SQ8);
        assert_true(graph_of(&coarse)->quality.ten_in > graph_of(&fine)->quality.ten_in);
        assert_true(graph_of(&coarse)->quality.off > graph_of(&fine)->quality.off);
        struct topk *truth = cf_truth(&s, K, NULL, NULL);
        static const uint32_t efs[] = { K, 80 };
        for (size_t e = 0; e < ARRAY_LEN(efs); e++) { /* with ef = k coarse codes get some more */
            struct topk *x = search_with(&coarse, &s, K, efs[e], STRAT_AUTO, NULL, NULL, &a);
            struct topk *y = search_with(&fine, &s, K, efs[e], STRAT_AUTO, NULL, NULL, &b);
            assert_true(cf_recall(&s, x, truth, NULL) > cf_recall(&s, y, truth, NULL) - 0.02);
            topk_free(x);
            topk_free(y);
        }
        topk_free(truth);
        cf_index_done(&coarse);
        cf_index_done(&fine);
        cf_set_done(&s);
    }
}

/* Groups of rows far apart: 16 steps a dimension cannot tell the rows of a group from each other. */
static void test_build_when_coarse_codes_tell_too_little_then_it_keeps_fine_ones(void **state)
{
    struct cf_set s;
    struct cf_index x;
    struct index_params p;
    struct index_counters c = { 0 };
    cf_set_new(&s, METRIC_L2, VEC_F32, 64, 4200, 30, 4200, 35);
    float *rows = (float *)(void *)s.data, *queries = (float *)(void *)s.queries;
    for (size_t i = 0; i < 4200 + 30; i++) {
        float *row = i < 4200 ? rows + i * 64 : queries + (i - 4200) * 64;
        for (size_t d = 0; d < 64; d++) {
            row[d] += (float)((i * 7 + d * d * 3) % 10) * 4;
        }
    }
    many_params(&p, INDEX_HNSW);
    build_with(&s, &p, NULL, &x);
    assert_int_equal(codec_kind_of(graph_of(&x)->codec), CODEC_SQ8);
    struct topk *truth = cf_truth(&s, K, NULL, NULL);
    struct topk *got = search_with(&x, &s, K, 80, STRAT_AUTO, NULL, NULL, &c);
    assert_true(cf_recall(&s, got, truth, NULL) > 0.9);
    topk_free(truth);
    topk_free(got);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_build_when_threads_differ_then_codes_do_not(void **state)
{
    struct cf_set s;
    struct cf_index one, two;
    struct index_params p;
    struct pool *pool = pool_new("test", 1, 16);
    cf_set_new(&s, METRIC_COSINE, VEC_F32, 64, 4100, 1, 4100, 32);
    many_params(&p, INDEX_HNSW);
    build_with(&s, &p, NULL, &one);
    build_with(&s, &p, pool, &two);
    assert_true(graph_of(&one)->quality.off > 0);
    assert_int_equal(one.file.n, two.file.n);
    assert_memory_equal(one.file.p, two.file.p, one.file.n);
    pool_free(pool);
    cf_index_done(&one);
    cf_index_done(&two);
    cf_set_done(&s);
}

/* Rows without a direction, without an end and without a number among many others. */
static void test_search_when_rows_are_odd_then_codes_lose_none_of_the_others(void **state)
{
    struct cf_set s;
    struct cf_index x;
    struct index_params p;
    struct index_counters c = { 0 };
    cf_set_new(&s, METRIC_L2, VEC_F32, 64, 4200, 30, 40, 33);
    for (uint32_t i = 0; i < 4200; i += 7) {
        float *row = (float *)(void *)(s.data + i * s.rows.stride);
        for (size_t d = 0; d < 64; d++) {
            row[d] = i % 3 == 0 ? 0 : i % 3 == 1 ? 3e38f : NAN;
        }
    }
    many_params(&p, INDEX_HNSW);
    build_with(&s, &p, NULL, &x);
    struct topk *truth = cf_truth(&s, K, NULL, NULL);
    struct topk *got = search_with(&x, &s, K, 60, STRAT_AUTO, NULL, NULL, &c);
    assert_true(cf_recall(&s, got, truth, NULL) > 0.9);
    float *q = (float *)(void *)s.queries; /* and queries */
    for (size_t d = 0; d < 64; d++) {
        q[d] = NAN;
        q[64 + d] = 3e38f;
        q[128 + d] = 0;
    }
    struct topk *odd = search_with(&x, &s, K, 60, STRAT_AUTO, NULL, NULL, &c);
    assert_int_equal(topk_count(odd, 2), K);
    topk_free(truth);
    topk_free(got);
    topk_free(odd);
    cf_index_done(&x);
    cf_set_done(&s);
}

/* Rows may be measured in anything. */
static void test_search_when_rows_are_large_or_small_then_codes_serve_as_well(void **state)
{
    static const float units[] = { 1e-12f, 1e12f };
    for (size_t u = 0; u < ARRAY_LEN(units); u++) {
        struct cf_set s;
        struct cf_index x;
        struct index_params p;
        struct index_counters c = { 0 };
        cf_set_new(&s, METRIC_L2, VEC_F32, 64, 4200, 30, 40, 33);
        float *rows = (float *)(void *)s.data, *queries = (float *)(void *)s.queries;
        for (size_t i = 0; i < (size_t)4200 * 64; i++) {
            rows[i] *= units[u];
        }
        for (size_t i = 0; i < (size_t)30 * 64; i++) {
            queries[i] *= units[u];
        }
        many_params(&p, INDEX_HNSW);
        build_with(&s, &p, NULL, &x);
        struct topk *truth = cf_truth(&s, K, NULL, NULL);
        struct topk *got = search_with(&x, &s, K, 60, STRAT_AUTO, NULL, NULL, &c);
        assert_true(cf_recall(&s, got, truth, NULL) > 0.97);
        topk_free(truth);
        topk_free(got);
        cf_index_done(&x);
        cf_set_done(&s);
    }
}

static void test_open_when_errors_are_no_numbers_then_it_is_corrupt(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    struct index_params p;
    struct index *ix;
    const void *at;
    cf_set_new(&s, METRIC_L2, VEC_F32, 64, 300, 1, 40, 34);
    many_params(&p, INDEX_HNSW);
    build_with(&s, &p, NULL, &x);
    struct index_source src = { .map = x.file.p, .size = x.file.n, .fd = -1, .trusted = true };
    const struct ix_file *f = &graph_of(&x)->head.file;
    ASSERT_OK(ix_section(f, GRAPH_META, sizeof(struct graph_meta), &at, NULL, &st));
    struct graph_meta *meta = (struct graph_meta *)(uintptr_t)at;
    const float offs[] = { -1, NAN };
    for (size_t i = 0; i < ARRAY_LEN(offs); i++) {
        meta->off = offs[i];
        assert_int_equal(index_open(&src, &s.rows, &ix, &st), ST_CORRUPT);
        st_clear(&st);
    }
    cf_index_done(&x);
    cf_set_done(&s);
}

/* ---- Building ---- */

static void test_build_when_memory_is_limited_then_it_refuses(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_file f = { 0 };
    struct index_params p;
    cf_set_new(&s, METRIC_L2, VEC_F32, 64, 3000, 1, 20, 12);
    cf_params(&p, INDEX_HNSW, 64);
    struct index_build b = { .rows = &s.rows, .params = &p, .memory_max = 100000 };
    assert_int_equal(index_build(&b, cf_sink, &f, &st), ST_NO_MEMORY);
    assert_non_null(strstr(st.msg, "limit"));
    st_clear(&st);
    b.memory_max = (size_t)64 << 20;
    ASSERT_OK(index_build(&b, cf_sink, &f, &st));
    mem_free(f.p);
    cf_set_done(&s);
}

static double progress_last;

static void note_progress(void *arg, double done)
{
    assert_true(done >= progress_last && done <= 1);
    progress_last = done;
    ++*(int *)arg;
}

static void test_build_when_watched_then_progress_rises_to_one(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_file f = { 0 };
    struct index_params p;
    int calls = 0;
    cf_set_new(&s, METRIC_L2, VEC_F32, 16, 2000, 1, 20, 13);
    cf_params(&p, INDEX_HNSW, 16);
    struct index_build b = { .rows = &s.rows, .params = &p, .progress = note_progress,
                             .progress_arg = &calls };
    progress_last = 0;
    ASSERT_OK(index_build(&b, cf_sink, &f, &st));
    assert_true(calls > 10 && progress_last == 1);
    mem_free(f.p);
    cf_set_done(&s);
}

static void test_search_when_level_rises_then_it_looks_further(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    uint64_t work[2] = { 0 };
    cf_set_new(&s, METRIC_L2, VEC_F32, 24, 3000, 20, 100, 21);
    cf_index_new(&x, &s, INDEX_HNSW);
    for (int i = 0; i < 2; i++) {
        struct index_counters c = { 0 };
        struct index_search_params sp;
        struct topk *tk;
        index_search_params_init(&sp);
        sp.level = i ? 10 : 1;
        struct index_query q = { .queries = s.queries, .query_stride = s.query_stride, .nq = s.nq,
                                 .params = &sp };
        ASSERT_OK(topk_new(s.nq, 10, false, NULL, &tk, &st));
        ASSERT_OK(index_search(x.ix, &q, tk, &c, &st));
        work[i] = c.hops;
        topk_free(tk);
    }
    assert_true(work[1] > 4 * work[0]);
    cf_index_done(&x);
    cf_set_done(&s);
}

int main(int argc, char **argv)
{
    cf_laid = argc > 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_when_level_rises_then_it_looks_further),
        cmocka_unit_test(test_search_when_ef_grows_then_recall_grows_and_work_too),
        cmocka_unit_test(test_search_when_k_is_large_then_recall_holds),
        cmocka_unit_test(test_walks_when_run_side_by_side_then_they_agree),
        cmocka_unit_test(test_walk_when_rows_are_filtered_then_it_finds_the_rest),
        cmocka_unit_test(test_range_when_few_rows_are_inside_then_the_walk_ends_early),
        cmocka_unit_test(test_search_when_inner_products_of_unlike_rows_then_recall_is_high),
        cmocka_unit_test(test_build_when_rows_are_equal_by_the_thousand_then_each_is_reached),
        cmocka_unit_test(test_build_when_rows_are_zero_then_each_is_reached),
        cmocka_unit_test(test_build_when_degree_is_least_then_each_is_reached),
        cmocka_unit_test(test_search_when_links_are_wild_then_nothing_outside_is_read),
        cmocka_unit_test(test_validate_when_a_node_cannot_be_reached_then_it_says_so),
        cmocka_unit_test(test_build_when_coarse_codes_serve_then_it_takes_them),
        cmocka_unit_test(test_build_when_coarse_codes_tell_too_little_then_it_keeps_fine_ones),
        cmocka_unit_test(test_build_when_threads_differ_then_codes_do_not),
        cmocka_unit_test(test_search_when_rows_are_odd_then_codes_lose_none_of_the_others),
        cmocka_unit_test(test_search_when_rows_are_large_or_small_then_codes_serve_as_well),
        cmocka_unit_test(test_open_when_errors_are_no_numbers_then_it_is_corrupt),
        cmocka_unit_test(test_build_when_memory_is_limited_then_it_refuses),
        cmocka_unit_test(test_build_when_watched_then_progress_rises_to_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
