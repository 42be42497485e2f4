/*
 * test_graph_bits.c - scans of a graph index that look at one bit a dimension first
 * (graph_bits.c, graph_survivors.c): counts and recall of every kind of rows, filters and queries,
 * scans that give up, files that lie.
 *
 * Bits take GRAPH_BITS_ROWS rows, so sets here are larger than those of test_conform.c and their
 * graphs poor: scans do not walk them.
 */
#include "conform.h"
#include "index/graph/graph_int.h"

#define K 10
#define DIM 64

static const struct graph *graph_of(const struct cf_index *x)
{
    return CONTAINER_OF(x->ix, const struct graph, head);
}

static void build(const struct cf_set *s, enum index_type type, struct cf_index *ret)
{
    struct status st = STATUS_INIT;
    struct index_params p;
    *ret = (struct cf_index){ 0 };
    index_params_init(&p, type);
    p.M = 4;
    p.ef_construction = 8;
    ASSERT_OK(cf_build(s, &p, NULL, &ret->file, &st));
    ASSERT_OK(cf_open(s, &ret->file, &ret->ix, &st));
    ASSERT_OK(index_validate(ret->ix, &st));
}

struct ask {
    uint32_t k, ef;
    enum index_strategy strategy;
    const uint64_t *allow;
    bool prepared; /* the filter is brought into the order of nodes first */
};

static struct topk *search(const struct cf_index *x, const struct cf_set *s, const struct ask *a,
                           struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct index_filter *filter = NULL;
    struct index_search_params sp;
    index_search_params_init(&sp);
    sp.ef = a->ef;
    sp.strategy = (uint32_t)a->strategy;
    if (a->prepared) {
        ASSERT_OK(index_filter_new(x->ix, a->allow, &filter, &st));
    }
    struct index_query q = { .queries = s->queries, .query_stride = s->query_stride, .nq = s->nq,
                             .allow = a->allow, .params = &sp, .filter = filter,
                             .allow_count = (uint32_t)bits_count(a->allow, s->rows.nrows) };
    ASSERT_OK(topk_new(s->nq, a->k, cf_larger(s), NULL, &tk, &st));
    ASSERT_OK(index_search(x->ix, &q, tk, c, &st));
    topk_finish(tk);
    index_filter_free(filter);
    return tk;
}

/* Recall of what is asked for; fails the test where a count is not that of the truth. */
static double recall(const struct cf_index *x, const struct cf_set *s, const struct ask *a)
{
    struct index_counters c = { 0 };
    struct topk *truth = cf_truth(s, a->k, a->allow, NULL);
    struct topk *got = search(x, s, a, &c);
    double r = cf_recall(s, got, truth, a->allow);
    for (uint32_t j = 0; j < s->nq; j++) {
        assert_int_equal(topk_count(got, j), topk_count(truth, j));
    }
    topk_free(truth);
    topk_free(got);
    return r;
}

/* About one row of so many. */
static uint64_t *some_allowed(uint32_t n, double of)
{
    uint64_t *allow = xalloc(bits_words(n) * 8);
    for (uint32_t i = 0; i < n; i++) {
        if (cf_uniform() * of < 1) {
            bit_set(allow, i);
        }
    }
    return allow;
}

/* ---- What is found ---- */

static void test_scan_when_rows_and_filters_are_of_every_kind_then_counts_are_exact(void **state)
{
    static const struct {
        enum metric metric;
        enum vec_type type;
        uint32_t n;
        size_t dim;
        bool bits;
    } sets[] = {
        { METRIC_L2, VEC_F32, 4095, 64, false },   { METRIC_L2, VEC_F32, 4096, 64, true },
        { METRIC_COSINE, VEC_F32, 4097, 65, true }, { METRIC_IP, VEC_F16, 4160, 100, true },
        { METRIC_L2, VEC_BF16, 4111, 77, true },   { METRIC_COSINE, VEC_F16, 4096, 63, false },
        { METRIC_L2, VEC_I8, 4200, 64, false },    { METRIC_HAMMING, VEC_BIN, 4200, 128, false },
    };
    static const double ofs[] = { 1.0005, 1.3, 8, 40, 400, 1500 };
    static const enum index_strategy ways[] = { STRAT_AUTO, STRAT_SCAN, STRAT_CLUSTERS };
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        struct cf_set s;
        struct cf_index x;
        cf_set_new(&s, sets[i].metric, sets[i].type, sets[i].dim, sets[i].n, 8, 300, 40 + i);
        build(&s, INDEX_HNSW, &x);
        assert_true((graph_of(&x)->bit_codec != NULL) == sets[i].bits);
        for (size_t f = 0; f < ARRAY_LEN(ofs); f++) {
            uint64_t *allow = some_allowed(sets[i].n, ofs[f]);
            const uint32_t allowed = (uint32_t)bits_count(allow, sets[i].n);
            const uint32_t ks[] = { 1, K, MAX(allowed, 2u) - 1, MAX(allowed, 1u), allowed + 1 };
            for (size_t k = 0; k < ARRAY_LEN(ks); k++) {
                for (size_t w = 0; w < ARRAY_LEN(ways) * 2; w++) {
                    if (ks[k] > K && (w % 2 || allowed > 600)) {
                        continue;
                    }
                    struct ask a = { .k = ks[k], .ef = 4, .strategy = ways[w / 2], .allow = allow,
                                     .prepared = w % 2 };
                    double r = recall(&x, &s, &a);
                    if (r < (ways[w / 2] == STRAT_SCAN ? .95 : .6)) {
                        print_message("set %zu, one of %g, k %u, way %zu: %.3f\n", i, ofs[f], ks[k],
                                      w, r);
                    }
                    assert_true(r >= (ways[w / 2] == STRAT_SCAN ? .95 : .6));
                }
            }
            mem_free(allow);
        }
        cf_index_done(&x);
        cf_set_done(&s);
    }
}

/* Candidates are as many as wanted but for a few when the query's own rows come: these push all
 * others out, not only those few in. */
static void test_scan_when_the_best_come_as_the_last_room_fills_then_none_is_lost(void **state)
{
    enum { N = 10000, OTHERS = 400, NEAR = 200 };
    struct cf_set s;
    struct cf_index x;
    if (cf_laid) { /* it counts on where rows lie */
        skip();
    }
    cf_set_new(&s, METRIC_L2, VEC_F32, DIM, N, 1, N, 61);
    float *rows = (float *)(void *)s.data, *q = (float *)(void *)s.queries;
    for (size_t i = 0; i < (size_t)N * DIM; i++) {
        rows[i] *= 4;
    }
    for (size_t d = 0; d < DIM; d++) {
        q[d] = 3;
    }
    for (size_t i = OTHERS; i < OTHERS + NEAR; i++) { /* at all distances from the query up to 30 */
        const float far = 30 * (float)cf_uniform();
        for (size_t d = 0; d < DIM; d++) {
            rows[i * DIM + d] = q[d] + far / 8 * (float)cf_gauss();
        }
    }
    build(&s, INDEX_HNSW, &x);
    assert_non_null(graph_of(&x)->bit_codec);
    double worst = 1;
    for (uint32_t others = 0; others < OTHERS; others += 5) {
        uint64_t *allow = xalloc(bits_words(N) * 8);
        for (uint32_t i = OTHERS - others; i < OTHERS + NEAR; i++) {
            bit_set(allow, i);
        }
        static const uint32_t ks[] = { K, 100, 180 };
        for (size_t k = 0; k < ARRAY_LEN(ks); k++) {
            struct ask a = { .k = ks[k], .ef = 14, .strategy = STRAT_SCAN, .allow = allow };
            double r = recall(&x, &s, &a);
            if (r < 0.97) {
                print_message("%u others, k %u: %.3f\n", others, ks[k], r);
            }
            worst = fmin(worst, r);
        }
        mem_free(allow);
    }
    assert_true(worst >= 0.97);
    cf_index_done(&x);
    cf_set_done(&s);
}

/* Candidates were scored already when a scan by clusters spent its budget. */
static void test_clusters_when_given_up_after_scores_then_no_hit_comes_twice(void **state)
{
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, METRIC_L2, VEC_F32, DIM, 30000, 12, 30000, 62);
    build(&s, INDEX_HNSW, &x);
    assert_non_null(graph_of(&x)->bit_codec);
    float *q = (float *)(void *)s.queries;
    for (size_t i = 0; i < 12 * DIM; i++) {
        q[i] *= (float)(1 + i / DIM); /* the last are far from everything */
    }
    for (double of = 1.2; of < 10; of *= 2) {
        uint64_t *allow = some_allowed(s.rows.nrows, of);
        for (uint32_t prepared = 0; prepared < 2; prepared++) {
            struct ask a = { .k = K, .ef = 14, .strategy = STRAT_CLUSTERS, .allow = allow,
                             .prepared = prepared };
            struct index_counters c = { 0 };
            struct topk *truth = cf_truth(&s, K, allow, NULL);
            struct topk *got = search(&x, &s, &a, &c);
            assert_true(cf_recall(&s, got, truth, allow) > 0.9);
            topk_free(truth);
            topk_free(got);
        }
        mem_free(allow);
    }
    cf_index_done(&x);
    cf_set_done(&s);
}

static void odd_row(float *row, uint32_t kind)
{
    for (size_t d = 0; d < DIM; d++) {
        row[d] = kind == 0 ? 0 : kind == 1 ? 3e38f : kind == 2 ? NAN : d == 5 ? INFINITY : row[d];
    }
}

static void test_scan_when_rows_and_queries_are_odd_then_counts_are_exact(void **state)
{
    static const enum metric metrics[] = { METRIC_L2, METRIC_IP, METRIC_COSINE };
    for (size_t m = 0; m < ARRAY_LEN(metrics); m++) {
        struct cf_set s;
        struct cf_index x;
        cf_set_new(&s, metrics[m], VEC_F32, DIM, 4200, 12, 60, 63);
        float *rows = (float *)(void *)s.data, *queries = (float *)(void *)s.queries;
        for (uint32_t i = 0; i < 4200; i += 5) { /* products without an end would be the best */
            odd_row(rows + i * DIM, metrics[m] == METRIC_IP ? i / 5 % 2 * 2 : i / 5 % 4);
        }
        for (uint32_t i = 1; i < 2000; i += 5) { /* and equal ones */
            memcpy(rows + i * DIM, rows + 1 * DIM, DIM * sizeof *rows);
        }
        for (uint32_t j = 0; j < 4; j++) {
            odd_row(queries + j * DIM, j);
        }
        memcpy(queries + 4 * DIM, rows + 1 * DIM, DIM * sizeof *rows);
        build(&s, INDEX_HNSW, &x);
        static const double ofs[] = { 1.1, 3, 30 };
        for (size_t f = 0; f < ARRAY_LEN(ofs); f++) {
            uint64_t *allow = some_allowed(4200, ofs[f]);
            for (uint32_t way = 0; way < STRAT_COUNT; way++) {
                struct ask a = { .k = K, .ef = 30, .strategy = (enum index_strategy)way,
                                 .allow = allow, .prepared = way & 1 };
                struct cf_set sound = s;
                (void)recall(&x, &s, &a);
                sound.queries += 4 * s.query_stride;
                sound.nq -= 4;
                double r = recall(&x, &sound, &a);
                for (uint32_t j = 0; way == 2 && m == 0 && j < 8; j++) { struct cf_set o1 = sound; o1.queries += j * s.query_stride; o1.nq = 1; print_message("  of %g q %u: %.3f\n", ofs[f], j, recall(&x, &o1, &a)); }
                if (r <= (way == STRAT_SCAN ? .95 : .7)) {
                    print_message("metric %zu, one of %g, way %u: %.3f\n", m, ofs[f], way, r);
                }
                assert_true(r > (way == STRAT_SCAN ? .95 : .7));
            }
            mem_free(allow);
        }
        for (int i = 0; i < 16; i++) { /* few allowed, odd ones by chance among the first of them */
            uint64_t *allow = some_allowed(4200, 30);
            struct ask a = { .k = K, .ef = 30, .strategy = STRAT_SCAN, .allow = allow };
            struct cf_set sound = s;
            sound.queries += 4 * s.query_stride;
            sound.nq -= 4;
            assert_true(recall(&x, &sound, &a) > .95);
            mem_free(allow);
        }
        cf_index_done(&x);
        cf_set_done(&s);
    }
}

/* Two clouds so far apart that codes cannot tell a cloud's rows from each other. */
static void test_scan_when_rows_are_two_far_clouds_then_recall_holds(void **state)
{
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, METRIC_L2, VEC_F32, DIM, 6000, 20, 6000, 64);
    for (uint32_t i = 0; i < 6020; i++) {
        float *row = (float *)(void *)(i < 6000 ? s.data + i * s.query_stride
                                               : s.queries + (i - 6000) * s.query_stride);
        for (size_t d = 0; d < DIM; d++) {
            row[d] += i % 2 ? 1000 : 0;
        }
    }
    build(&s, INDEX_HNSW, &x);
    for (double of = 1.1; of < 60; of *= 3) {
        uint64_t *allow = some_allowed(6000, of);
        for (uint32_t prepared = 0; prepared < 2; prepared++) {
            struct ask a = { .k = K, .ef = 14, .strategy = STRAT_SCAN, .allow = allow,
                             .prepared = prepared };
            double r = recall(&x, &s, &a);
            if (r < .95) {
                print_message("clouds, one of %g: %.3f\n", of, r);
            }
            assert_true(r > .95);
        }
        mem_free(allow);
    }
    cf_index_done(&x);
    cf_set_done(&s);
}

/* ---- What is counted ---- */

static void test_memory_when_searches_ran_then_their_scratch_is_counted_once(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    struct index_memory before, after;
    struct topk *tk;
    struct index_search_params sp;
    struct graph_scratch *all[SCRATCH_SLOTS + 1];
    cf_set_new(&s, METRIC_L2, VEC_F32, DIM, 4200, 2, 60, 65);
    build(&s, INDEX_HNSW, &x);
    const struct graph *g = graph_of(&x);
    index_memory(x.ix, &before);
    assert_true(before.resident >= (size_t)g->n * (g->stride + g->bit_stride + 4 * g->degree +
                                                  (cf_laid ? 0 : 4)));
    index_search_params_init(&sp);
    sp.ef = 1000; /* with a heap that grows */
    struct index_query q = { .queries = s.queries, .query_stride = s.query_stride, .nq = 2,
                             .params = &sp };
    ASSERT_OK(topk_new(2, K, false, NULL, &tk, &st));
    ASSERT_OK(index_search(x.ix, &q, tk, NULL, &st));
    topk_free(tk);
    size_t bytes = 0, given = 0;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        ASSERT_OK(graph__scratch_get(g, K, &all[i], &st));
        bytes += all[i]->bytes;
    }
    assert_true(all[0]->heap_cap > 0);
    index_memory(x.ix, &after);
    assert_int_equal(after.heap, before.heap + bytes);
    given = bytes - all[0]->bytes;
    for (size_t i = ARRAY_LEN(all); i-- > 0;) { /* the one with the heap is too many */
        graph__scratch_put(g, all[i]);
    }
    index_memory(x.ix, &after);
    assert_int_equal(after.heap, before.heap + given);
    cf_index_done(&x);
    cf_set_done(&s);
}

/* ---- Files that lie ---- */

static void search_every_way(const struct cf_set *s, struct index *ix)
{
    struct cf_index x = { .ix = ix };
    for (double of = 1.1; of < 100; of *= 5) {
        uint64_t *allow = some_allowed(s->rows.nrows, of);
        for (uint32_t way = 0; way < STRAT_COUNT; way++) {
            struct ask a = { .k = K, .ef = 20, .strategy = (enum index_strategy)way,
                             .allow = allow, .prepared = way & 1 };
            struct topk *tk = search(&x, s, &a, NULL);
            for (uint32_t j = 0; j < s->nq; j++) {
                assert_true(topk_count(tk, j) <= K);
                for (uint32_t i = 0; i < topk_count(tk, j); i++) {
                    assert_true(topk_row(tk, j, i) < s->rows.nrows);
                }
            }
            topk_free(tk);
        }
        mem_free(allow);
    }
}

static uint8_t *section(const struct cf_index *x, uint32_t tag, size_t *ret_size)
{
    struct status st = STATUS_INIT;
    const void *at;
    ASSERT_OK(ix_section(&x->ix->file, tag, SIZE_MAX, &at, ret_size, &st));
    return (uint8_t *)(uintptr_t)at;
}

/* Sums are not checked, as after a load that trusts them. */
static void test_search_when_meta_and_bits_are_wild_then_nothing_outside_is_read(void **state)
{
    static const uint32_t tags[] = { GRAPH_META, GRAPH_BCOD, GRAPH_BITS };
    static const float wild[] = { NAN, -NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 0, 1e-40f };
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, METRIC_L2, VEC_F32, DIM, 4100, 2, 60, 66);
    build(&s, INDEX_HNSW, &x);
    struct index_source src = { .map = x.file.p, .size = x.file.n, .fd = -1, .trusted = true };
    uint32_t opened = 0;
    for (size_t t = 0; t < ARRAY_LEN(tags); t++) {
        size_t size;
        uint8_t *p = section(&x, tags[t], &size), *saved = xalloc(size);
        memcpy(saved, p, size);
        const size_t tries = tags[t] == GRAPH_META ? size * 8 : 24;
        for (size_t i = 0; i < tries; i++) {
            struct status st = STATUS_INIT;
            struct index *ix = NULL;
            if (tags[t] == GRAPH_META) {
                p[i / 8] ^= (uint8_t)(1u << i % 8);
            } else if (tags[t] == GRAPH_BCOD) {
                p[i < 16 ? i : (size_t)(cf_uniform() * (double)size)] ^= 0xff;
            } else {
                const size_t share = i % 8 == 7 ? 1 : 3;
                for (size_t at = 0; at + 4 <= size; at += 4 * share) {
                    memcpy(p + at, &wild[(i + at / 4 / 7) % ARRAY_LEN(wild)], 4);
                }
            }
            if (index_open(&src, &s.rows, &ix, &st) == 0) {
                opened++;
                search_every_way(&s, ix);
                (void)index_validate(ix, &st);
            }
            index_free(ix);
            memcpy(p, saved, size);
        }
        mem_free(saved);
    }
    assert_true(opened > 24);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_validate_when_bits_are_not_those_of_the_rows_then_it_says_so(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    size_t size;
    cf_set_new(&s, METRIC_COSINE, VEC_F32, DIM, 4100, 1, 60, 67);
    build(&s, INDEX_HNSW, &x);
    uint8_t *bits = section(&x, GRAPH_BITS, &size);
    for (size_t at = 0; at < size; at += size / 7) {
        bits[at] ^= 0x10;
        assert_int_equal(graph_of(&x)->head.ops->validate(x.ix, &st), ST_CORRUPT);
        assert_non_null(strstr(st.msg, "bits"));
        st_clear(&st);
        bits[at] ^= 0x10;
    }
    ASSERT_OK(index_validate(x.ix, &st));
    cf_index_done(&x);
    cf_set_done(&s);
}

int main(int argc, char **argv)
{
    cf_laid = argc > 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan_when_rows_and_filters_are_of_every_kind_then_counts_are_exact),
        cmocka_unit_test(test_scan_when_the_best_come_as_the_last_room_fills_then_none_is_lost),
        cmocka_unit_test(test_clusters_when_given_up_after_scores_then_no_hit_comes_twice),
        cmocka_unit_test(test_scan_when_rows_and_queries_are_odd_then_counts_are_exact),
        cmocka_unit_test(test_scan_when_rows_are_two_far_clouds_then_recall_holds),
        cmocka_unit_test(test_memory_when_searches_ran_then_their_scratch_is_counted_once),
        cmocka_unit_test(test_search_when_meta_and_bits_are_wild_then_nothing_outside_is_read),
        cmocka_unit_test(test_validate_when_bits_are_not_those_of_the_rows_then_it_says_so),
    };
    if (argc > 2) {
        cmocka_set_test_filter(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
