/*
 * test_graph_laid.c - rows laid in a graph's own order: the order, the plan that is kept of it, and that
 * an index over them, which has no numbers of rows, finds what one with numbers finds.
 */
#include "../lib/alloc_torture.h"
#include "conform.h"
#include "base/hash.h"
#include "index/graph/graph_int.h"

#define K 10

static const struct graph *graph_of(const struct cf_index *x)
{
    return CONTAINER_OF(x->ix, const struct graph, head);
}

static void laid_set(struct cf_set *s, enum metric metric, enum vec_type type, size_t dim,
                     uint32_t n, uint32_t nq, uint64_t seed)
{
    struct index_params p;
    cf_set_new(s, metric, type, dim, n, nq, 60, seed);
    cf_params(&p, INDEX_HNSW, dim);
    cf_lay(s, &p, NULL);
}

/* ---- The order ---- */

static void test_order_when_made_then_each_row_is_in_it_once_whatever_the_threads(void **state)
{
    static const uint32_t counts[] = { 0, 1, 31, 1000, 5003 };
    struct status st = STATUS_INIT;
    struct pool *pool = pool_new("order", 3, 64);
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        const uint32_t n = counts[i];
        struct cf_set s;
        struct index_params p;
        struct index_order *one, *four;
        size_t size[2];
        cf_set_new(&s, METRIC_COSINE, VEC_F32, 24, n, 1, 60, 71);
        cf_params(&p, INDEX_HNSW, 24);
        struct index_build b = { .rows = &s.rows, .params = &p };
        ASSERT_OK(index_order_new(&b, &one, &st));
        b.pool = pool;
        ASSERT_OK(index_order_new(&b, &four, &st));
        const void *plan = index_order_plan(one, &size[0]), *same = index_order_plan(four, &size[1]);
        assert_int_equal(size[0], size[1]);
        assert_memory_equal(plan, same, size[0]);
        uint8_t *seen = xalloc(n + 1);
        for (uint32_t at = 0; at < n; at++) {
            const uint32_t row = index_order_rows(one)[at];
            assert_int_equal(row, index_order_rows(four)[at]);
            assert_true(row < n && !seen[row]);
            seen[row] = 1;
        }
        mem_free(seen);
        index_order_free(one);
        index_order_free(four);
        cf_set_done(&s);
    }
    pool_free(pool);
}

/* The order is that which a build over the same rows chooses. */
static void test_order_when_a_build_follows_then_its_nodes_come_in_this_order(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    struct index_params p;
    struct index_order *o;
    cf_set_new(&s, METRIC_L2, VEC_F32, 24, 4100, 1, 60, 72);
    cf_params(&p, INDEX_HNSW, 24);
    struct index_build b = { .rows = &s.rows, .params = &p };
    ASSERT_OK(index_order_new(&b, &o, &st));
    cf_index_new(&x, &s, INDEX_HNSW);
    assert_memory_equal(graph_of(&x)->perm, index_order_rows(o), 4100 * sizeof(uint32_t));
    index_order_free(o);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_order_when_rows_cannot_be_indexed_then_it_says_so(void **state)
{
    struct status st = STATUS_INIT;
    struct index_params p;
    float row = 0;
    struct index_order *o = NULL;
    struct index_rows rows = { .metric = METRIC_L2, .type = VEC_F32, .dim = 0, .base = &row,
                               .stride = 4, .nrows = 1 };
    index_params_init(&p, INDEX_HNSW);
    struct index_build b = { .rows = &rows, .params = &p };
    assert_int_equal(index_order_new(&b, &o, &st), ST_INVALID);
    assert_null(o);
}

static int stop(void *arg, struct status *st)
{
    uint32_t *left = arg;
    return (*left)-- == 0 ? st_fail(st, ST_CANCELLED, "stopped") : 0;
}

static void test_order_when_cancelled_then_it_ends(void **state)
{
    struct cf_set s;
    struct index_params p;
    cf_set_new(&s, METRIC_L2, VEC_F32, 24, 3000, 1, 60, 73);
    cf_params(&p, INDEX_HNSW, 24);
    for (uint32_t after = 0; after < 3; after++) {
        struct status st = STATUS_INIT;
        struct index_order *o = NULL;
        uint32_t left = after;
        struct index_build b = { .rows = &s.rows, .params = &p, .check = stop, .check_arg = &left };
        assert_int_equal(index_order_new(&b, &o, &st), ST_CANCELLED);
        assert_null(o);
    }
    cf_set_done(&s);
}

/* ---- Indexes over laid rows ---- */

static void test_build_when_rows_are_laid_then_recall_is_that_of_others(void **state)
{
    static const struct {
        enum metric metric;
        enum vec_type type;
        enum index_type index;
    } sets[] = {
        { METRIC_L2, VEC_F32, INDEX_HNSW },      { METRIC_IP, VEC_F32, INDEX_HNSW },
        { METRIC_COSINE, VEC_F16, INDEX_HNSW },  { METRIC_COSINE, VEC_BF16, INDEX_HNSW },
        { METRIC_L2, VEC_I8, INDEX_HNSW },       { METRIC_HAMMING, VEC_BIN, INDEX_HNSW },
        { METRIC_L2, VEC_F32, INDEX_HNSW_SQ },   { METRIC_COSINE, VEC_F32, INDEX_HNSW_PQ },
        { METRIC_L2, VEC_F32, INDEX_HNSW_PRQ },  { METRIC_L2, VEC_F32, INDEX_DISKANN },
    };
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        struct status st = STATUS_INIT;
        struct cf_set s;
        struct cf_index x;
        laid_set(&s, sets[i].metric, sets[i].type, 64, 4500, 30, 80 + i);
        cf_index_new(&x, &s, sets[i].index);
        ASSERT_OK(index_validate(x.ix, &st));
        if (sets[i].index != INDEX_DISKANN) {
            assert_null(graph_of(&x)->perm);
        }
        struct topk *truth = cf_truth(&s, K, NULL, NULL), *got;
        struct index_search_params sp;
        cf_search_params(&sp);
        struct index_query q = { .queries = s.queries, .query_stride = s.query_stride, .nq = s.nq,
                                 .params = &sp };
        ASSERT_OK(topk_new(s.nq, K, cf_larger(&s), NULL, &got, &st));
        ASSERT_OK(index_search(x.ix, &q, got, NULL, &st));
        topk_finish(got);
        assert_true(cf_recall(&s, got, truth, NULL) > 0.95);
        topk_free(truth);
        topk_free(got);
        cf_index_done(&x);
        cf_set_done(&s);
    }
}

static void test_build_when_rows_are_laid_then_bytes_do_not_depend_on_threads(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_file one = { 0 }, four = { 0 };
    struct index_params p;
    struct pool *pool = pool_new("build", 3, 64);
    laid_set(&s, METRIC_COSINE, VEC_F32, 64, 4200, 1, 91);
    cf_params(&p, INDEX_HNSW, 64);
    ASSERT_OK(cf_build(&s, &p, NULL, &one, &st));
    ASSERT_OK(cf_build(&s, &p, pool, &four, &st));
    assert_int_equal(one.n, four.n);
    assert_memory_equal(one.p, four.p, one.n);
    mem_free(one.p);
    mem_free(four.p);
    pool_free(pool);
    cf_set_done(&s);
}

static void assert_same(const struct topk *a, const struct topk *b, uint32_t nq)
{
    for (uint32_t j = 0; j < nq; j++) {
        assert_int_equal(topk_count(a, j), topk_count(b, j));
        for (uint32_t i = 0; i < topk_count(a, j); i++) {
            assert_int_equal(topk_row(a, j, i), topk_row(b, j, i));
            assert_true(topk_score(a, j, i) == topk_score(b, j, i));
        }
    }
}

static struct topk *ask(const struct cf_index *x, const struct cf_set *s, uint32_t how,
                        const uint64_t *allow, bool prepare, struct index_near *near)
{
    struct status st = STATUS_INIT;
    struct index_search_params sp;
    struct index_filter *filter = NULL;
    struct topk *tk;
    index_search_params_init(&sp);
    sp.ef = 48;
    sp.strategy = how;
    if (prepare) {
        ASSERT_OK(index_filter_new(x->ix, allow, &filter, &st));
    }
    struct index_query q = { .queries = s->queries, .query_stride = s->query_stride, .nq = s->nq,
                             .allow = allow, .filter = filter, .params = &sp, .near = near,
                             .allow_count =
                                 allow ? (uint32_t)bits_count(allow, s->rows.nrows) : 0 };
    ASSERT_OK(topk_new(s->nq, K, cf_larger(s), NULL, &tk, &st));
    ASSERT_OK(index_search(x->ix, &q, tk, NULL, &st));
    topk_finish(tk);
    index_filter_free(filter);
    return tk;
}

/* The same graph with numbers of rows, which are those of its nodes. */
static void numbered(const struct cf_set *s, const struct cf_index *laid, struct cf_index *ret)
{
    struct status st = STATUS_INIT;
    *ret = (struct cf_index){ 0 };
    ASSERT_OK(cf_open(s, &laid->file, &ret->ix, &st));
    struct graph *g = (struct graph *)(uintptr_t)graph_of(ret);
    uint32_t *perm = xalloc(g->n * sizeof *perm);
    g->node_of = xalloc(g->n * sizeof *perm);
    for (uint32_t i = 0; i < g->n; i++) {
        perm[i] = g->node_of[i] = i;
    }
    g->perm = perm;
}

static void numbered_done(struct cf_index *x)
{
    mem_free((void *)(uintptr_t)graph_of(x)->perm);
    cf_index_done(x);
}

static void test_search_when_rows_are_laid_then_hits_are_those_of_numbered_rows(void **state)
{
    static const double rates[] = { 1, .9, .5, .2, .1, .03, .01, .002 };
    enum { N = 9001, NEAR = 12, NQ = 6 };
    for (int m = METRIC_L2; m <= METRIC_COSINE; m++) {
        struct cf_set s;
        struct cf_index x, y;
        laid_set(&s, (enum metric)m, VEC_F32, 96, N, NQ, 95 + (uint64_t)m);
        cf_index_new(&x, &s, INDEX_HNSW);
        numbered(&s, &x, &y);
        assert_non_null(graph_of(&x)->bit_codec);
        uint64_t *allow = xalloc(bits_words(N) * 8);
        for (size_t r = 0; r < ARRAY_LEN(rates); r++) {
            memset(allow, 0, bits_words(N) * 8);
            for (uint32_t i = 0; i < N; i++) {
                if (cf_uniform() < rates[r]) {
                    bit_set(allow, i);
                }
            }
            for (uint32_t i = N; i < bits_words(N) * 64; i++) { /* nobody asks for these */
                bit_set(allow, i);
            }
            for (uint32_t how = STRAT_SCAN; how <= STRAT_GRAPH2; how++) {
                uint32_t rows[4][NQ * NEAR] = { { 0 } }, counts[4][NQ] = { { 0 } };
                struct topk *tk[4];
                for (int i = 0; i < 4; i++) {
                    struct index_near near = { .max = NEAR, .rows = rows[i], .counts = counts[i] };
                    tk[i] = ask(i < 2 ? &x : &y, &s, how, rates[r] < 1 ? allow : NULL,
                                rates[r] < 1 && i % 2, &near);
                }
                for (int i = 1; i < 4; i++) {
                    assert_same(tk[0], tk[i], s.nq);
                    assert_memory_equal(rows[0], rows[i], sizeof rows[0]);
                    assert_memory_equal(counts[0], counts[i], sizeof counts[0]);
                    topk_free(tk[i]);
                }
                topk_free(tk[0]);
            }
        }
        mem_free(allow);
        cf_index_done(&x);
        x.file.p = NULL;
        numbered_done(&y);
        cf_set_done(&s);
    }
}

static void test_memory_when_rows_are_laid_then_nothing_is_kept_for_numbers(void **state)
{
    struct cf_set s;
    struct cf_index x, y;
    struct index_memory laid, numbers;
    laid_set(&s, METRIC_L2, VEC_F32, 24, 3000, 1, 97);
    cf_index_new(&x, &s, INDEX_HNSW);
    numbered(&s, &x, &y);
    index_memory(x.ix, &laid);
    index_memory(y.ix, &numbers);
    assert_int_equal(numbers.heap - laid.heap, 3000 * sizeof(uint32_t));
    assert_int_equal(numbers.resident - laid.resident, 3000 * sizeof(uint32_t));
    numbered_done(&y);
    cf_index_done(&x);
    cf_set_done(&s);
}

/* ---- Plans that do not fit ---- */

static int build_planned(const struct cf_set *s, const void *plan, size_t size,
                         struct cf_index *ret, struct status *st)
{
    struct index_params p;
    cf_params(&p, INDEX_HNSW, s->rows.dim);
    struct index_build b = { .rows = &s->rows, .params = &p, .plan = plan, .plan_size = size };
    *ret = (struct cf_index){ 0 };
    int rc = index_build(&b, cf_sink, &ret->file, st);
    if (rc == 0) {
        assert_int_equal(cf_open(s, &ret->file, &ret->ix, st), 0);
    }
    return rc;
}

static void test_build_when_a_plan_is_of_another_metric_then_it_goes_without(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    size_t size;
    laid_set(&s, METRIC_L2, VEC_F32, 24, 2000, 1, 98);
    const void *plan = index_order_plan(s.order, &size);
    s.rows.metric = METRIC_COSINE;
    ASSERT_OK(build_planned(&s, plan, size, &x, &st));
    assert_non_null(graph_of(&x)->perm);
    ASSERT_OK(index_validate(x.ix, &st));
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_build_when_a_plan_is_of_other_rows_then_it_says_so(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    size_t size;
    laid_set(&s, METRIC_L2, VEC_F32, 24, 2000, 1, 99);
    const void *plan = index_order_plan(s.order, &size);
    s.rows.nrows--;
    assert_int_equal(build_planned(&s, plan, size, &x, &st), ST_INVALID);
    assert_non_null(strstr(st.msg, "2000 rows"));
    mem_free(x.file.p);
    cf_set_done(&s);
}

/* Any byte changed, any byte missing: refused. With sums made right: refused, or a graph that is
 * whole. */
static void test_build_when_a_plan_is_damaged_then_it_is_refused(void **state)
{
    enum { HEAD = 48, CRC_AT = 40 };
    struct cf_set s;
    struct cf_index x;
    size_t size;
    uint32_t refused = 0;
    laid_set(&s, METRIC_L2, VEC_F32, 8, 3000, 1, 100);
    const uint8_t *plan = index_order_plan(s.order, &size);
    uint8_t *bad = xalloc(size);
    for (size_t at = 0; at < size; at += at < HEAD ? 1 : 41) {
        struct status st = STATUS_INIT;
        memcpy(bad, plan, size);
        bad[at] ^= 0x11;
        if (at >= 12 && at < 16) { /* the metric: a plan for something else */
            continue;
        }
        if (at < HEAD - 4) {
            assert_int_not_equal(build_planned(&s, bad, size, &x, &st), 0);
            mem_free(x.file.p);
        } else if (at >= HEAD) {
            assert_int_equal(build_planned(&s, bad, size, &x, &st), ST_CORRUPT);
            mem_free(x.file.p);
        }
        assert_int_not_equal(build_planned(&s, plan, at, &x, &st), 0);
        mem_free(x.file.p);
    }
    const size_t numbers = size - 3 * 8 * sizeof(float);
    for (size_t at = HEAD; at < numbers; at += 4) {
        struct status st = STATUS_INIT;
        uint32_t crc, value;
        memcpy(bad, plan, size);
        memcpy(&value, bad + at, 4);
        value = at % 12 == 0 ? UINT32_MAX : at % 12 == 4 ? 0 : value + 1;
        memcpy(bad + at, &value, 4);
        crc = crc32c(0, bad + HEAD, size - HEAD);
        memcpy(bad + CRC_AT, &crc, 4);
        if (build_planned(&s, bad, size, &x, &st) == 0) {
            ASSERT_OK(index_validate(x.ix, &st));
            cf_index_done(&x);
        } else {
            assert_int_equal(st.code, ST_CORRUPT);
            mem_free(x.file.p);
            refused++;
        }
    }
    assert_true(refused > 50);
    mem_free(bad);
    cf_set_done(&s);
}

/* ---- Memory ---- */

static void test_order_and_build_when_memory_fails_then_nothing_leaks(void **state)
{
    struct cf_set s;
    struct index_params p;
    laid_set(&s, METRIC_L2, VEC_F32, 16, 1500, 1, 101);
    cf_params(&p, INDEX_HNSW, 16);
    p.M = 4;
    p.ef_construction = 8;
    struct index_build b = { .rows = &s.rows, .params = &p };
    size_t size;
    const void *plan = index_order_plan(s.order, &size);
    ALLOC_TORTURE {
        struct status st = STATUS_INIT;
        struct index_order *o = NULL;
        int rc = index_order_new(&b, &o, &st);
        assert_true(rc == 0 || rc == ST_NO_MEMORY);
        index_order_free(o);
    }
    ALLOC_TORTURE {
        struct status st = STATUS_INIT;
        struct cf_file f = { 0 };
        struct index_build laid = b;
        laid.plan = plan;
        laid.plan_size = size;
        int rc = index_build(&laid, cf_sink, &f, &st);
        assert_true(rc == 0 || rc == ST_NO_MEMORY);
        mem_free(f.p);
    }
    cf_set_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_when_made_then_each_row_is_in_it_once_whatever_the_threads),
        cmocka_unit_test(test_order_when_a_build_follows_then_its_nodes_come_in_this_order),
        cmocka_unit_test(test_order_when_rows_cannot_be_indexed_then_it_says_so),
        cmocka_unit_test(test_order_when_cancelled_then_it_ends),
        cmocka_unit_test(test_build_when_rows_are_laid_then_recall_is_that_of_others),
        cmocka_unit_test(test_build_when_rows_are_laid_then_bytes_do_not_depend_on_threads),
        cmocka_unit_test(test_search_when_rows_are_laid_then_hits_are_those_of_numbered_rows),
        cmocka_unit_test(test_memory_when_rows_are_laid_then_nothing_is_kept_for_numbers),
        cmocka_unit_test(test_build_when_a_plan_is_of_another_metric_then_it_goes_without),
        cmocka_unit_test(test_build_when_a_plan_is_of_other_rows_then_it_says_so),
        cmocka_unit_test(test_build_when_a_plan_is_damaged_then_it_is_refused),
        cmocka_unit_test(test_order_and_build_when_memory_fails_then_nothing_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
