/*
 * test_filter_tries.c - a filtered search that tries a walk before a long scan (graph_filter.c). It
 * takes as many rows as make a scan long and give the planner enough clusters to choose them.
 */
#include "conform.h"

#include "index/topk.h"

enum { N = 64500, NQ = 16, K = 700, DIM = 512, CENTRES = 60 };

/* Half floats about centres, from few random words: there are many. */
static void rows_new(struct cf_set *s)
{
    uint16_t half[256], *cells = xalloc((size_t)(N + NQ) * DIM * sizeof *cells);
    uint8_t *centres = xalloc(CENTRES * DIM);
    cf_state = 17;
    for (int i = 0; i < 256; i++) {
        half[i] = cf_half((float)(i - 128) / 32);
    }
    for (size_t i = 0; i < CENTRES * DIM; i++) {
        centres[i] = (uint8_t)(cf_uniform() * 192);
    }
    for (size_t i = 0; i < N + NQ; i++) {
        const uint8_t *c = centres + i * 7 % CENTRES * DIM;
        for (size_t d = 0; d < DIM; d += 8) {
            uint64_t r = cf_state = cf_state * 6364136223846793005u + 1442695040888963407u;
            for (size_t k = 0; k < 8; k++) {
                cells[i * DIM + d + k] = half[c[d + k] + (r >> (8 + 7 * k) & 63)];
            }
        }
    }
    mem_free(centres);
    *s = (struct cf_set){ .data = (uint8_t *)cells, .queries = (uint8_t *)(cells + N * DIM),
                          .nq = 1, .query_stride = DIM * sizeof *cells };
    s->rows = (struct index_rows){ .metric = METRIC_L2, .type = VEC_F16, .dim = DIM,
                                   .base = s->data, .stride = s->query_stride, .nrows = N };
}

/* The walk that was to spare a scan by clusters found enough: the scan adds nothing to it. */
static void test_walk_when_tried_before_clusters_then_no_hit_comes_twice(void **state)
{
    struct status st = STATUS_INIT;
    struct pool *pool = pool_new("build", 2, 64);
    struct index_params p;
    struct cf_set s;
    struct cf_index x = { 0 };
    uint64_t *allow = xalloc(bits_words(N) * 8);
    uint32_t tries = 0;
    rows_new(&s);
    index_params_init(&p, INDEX_HNSW_SQ);
    p.M = 4;
    p.ef_construction = 8;
    ASSERT_OK(cf_build(&s, &p, pool, &x.file, &st));
    ASSERT_OK(cf_open(&s, &x.file, &x.ix, &st));
    for (uint32_t i = 0; i < N; i++) {
        if (cf_uniform() < .93) {
            bit_set(allow, i);
        }
    }
    for (uint32_t j = 0; j < NQ; j++, s.queries += s.query_stride) {
        struct index_counters c = { 0 };
        struct topk *tk = cf_search(&x, &s, K, allow, NULL, &c);
        assert_int_equal(topk_count(tk, 0), K);
        for (uint32_t i = 0; i < K; i++) {
            assert_true(bit_get(allow, topk_row(tk, 0, i)));
            /* Equal scores are in the order of rows, so that twins are neighbours. */
            assert_true(i == 0 || topk_row(tk, 0, i) != topk_row(tk, 0, i - 1));
        }
        tries += c.hops > 0;
        topk_free(tk);
    }
    assert_true(tries > NQ / 2);
    mem_free(allow);
    cf_index_done(&x);
    mem_free(s.data);
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk_when_tried_before_clusters_then_no_hit_comes_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
