/*
 * test_graph_turns.c - queries of one call take turns, and find bit for bit what each finds alone.
 */
#include "../lib/alloc_torture.h"
#include "conform.h"
#include "index/graph/graph_int.h"

#define K 10
#define NQ 33
#define NEAR_MAX 12
#define N 2500

/* An answer to one call, beside what index_search() is asked with. */
struct answer {
    struct index_query q;
    struct index_search_params sp;
    struct index_near near;
    struct index_counters c;
    struct topk *tk;
};

static void answer_done(struct answer *a)
{
    topk_free(a->tk);
    mem_free(a->near.rows);
    mem_free(a->near.counts);
    mem_free(a->near.keys);
}

/* Queries first .. first + nq. */
static int ask(struct index *ix, const struct cf_set *s, uint32_t first, uint32_t nq, uint32_t k,
               uint32_t ef, struct answer *a, struct status *st)
{
    int rc = 0;
    *a = (struct answer){ .near.max = NEAR_MAX };
    index_search_params_init(&a->sp);
    a->sp.ef = ef;
    a->near.rows = xalloc((size_t)nq * NEAR_MAX * sizeof *a->near.rows);
    a->near.counts = xalloc(nq * sizeof *a->near.counts);
    a->near.keys = xalloc(nq * sizeof *a->near.keys);
    a->q = (struct index_query){ .queries = s->queries + first * s->query_stride,
                                 .query_stride = s->query_stride, .nq = nq, .row_base = 7,
                                 .params = &a->sp };
    TRY(topk_new(nq, k, cf_larger(s), NULL, &a->tk, st));
    a->q.near = ef % 2 ? NULL : &a->near; /* odd: not asked for */
    TRY(index_search(ix, &a->q, a->tk, &a->c, st));
    topk_finish(a->tk);
out:
    return rc;
}

/* Query at of many against the only one of alone. */
static void assert_same(const struct answer *many, uint32_t at, const struct answer *alone)
{
    const struct topk_list *x = &many->tk->lists[at], *y = &alone->tk->lists[0];
    assert_int_equal(x->n, y->n);
    for (uint32_t i = 0; i < y->n; i++) {
        assert_memory_equal(&x->items[i].key, &y->items[i].key, sizeof(float));
        assert_int_equal(x->items[i].row, y->items[i].row);
    }
    assert_int_equal(many->near.counts[at], alone->near.counts[0]);
    assert_memory_equal(many->near.rows + (size_t)at * NEAR_MAX, alone->near.rows,
                        alone->near.counts[0] * sizeof *alone->near.rows);
    assert_memory_equal(&many->near.keys[at], &alone->near.keys[0], sizeof(float));
}

static void add(struct index_counters *sum, const struct index_counters *c)
{
    sum->distances += c->distances;
    sum->hops += c->hops;
    sum->exact += c->exact;
    sum->bytes += c->bytes;
    sum->fallbacks += c->fallbacks;
}

/* Calls of every size, over queries that begin anywhere. */
static void assert_turns_change_nothing(struct index *ix, const struct cf_set *s, uint32_t k,
                                        uint32_t ef)
{
    struct status st = STATUS_INIT;
    struct answer alone[NQ], many;
    for (uint32_t j = 0; j < NQ; j++) {
        ASSERT_OK(ask(ix, s, j, 1, k, ef, &alone[j], &st));
    }
    for (uint32_t nq = 2; nq <= NQ; nq++) {
        const uint32_t first = nq % 2 ? 0 : NQ - nq;
        struct index_counters sum = { 0 };
        ASSERT_OK(ask(ix, s, first, nq, k, ef, &many, &st));
        for (uint32_t j = 0; j < nq; j++) {
            assert_same(&many, j, &alone[first + j]);
            add(&sum, &alone[first + j].c);
        }
        sum.strategy = alone[0].c.strategy;
        assert_memory_equal(&many.c, &sum, sizeof sum);
        answer_done(&many);
    }
    for (uint32_t j = 0; j < NQ; j++) {
        answer_done(&alone[j]);
    }
}

/* Some queries are equal, some are rows, some rows are equal. */
static void with_equals(struct cf_set *s)
{
    const size_t len = s->query_stride;
    for (uint32_t i = 0; i < 60; i++) {
        memcpy(s->data + (500 + i) * len, s->data + 400 * len, len);
    }
    memcpy(s->queries, s->data + 400 * len, len);
    memcpy(s->queries + len, s->queries, len);
    memcpy(s->queries + 9 * len, s->queries + 8 * len, len);
    memcpy(s->queries + (NQ - 1) * len, s->data + 17 * len, len);
}

static void check(enum index_type type, enum quant quant, enum metric metric, enum vec_type vt,
                  size_t dim, uint32_t n)
{
    static const uint32_t efs[] = { 10, 16, 33, 64, 200 };
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x = { 0 };
    struct index_params p;
    cf_set_new(&s, metric, vt, dim, n, NQ, 60, 41);
    with_equals(&s);
    cf_params(&p, type, dim);
    p.sq_type = quant;
    ASSERT_OK(cf_build(&s, &p, NULL, &x.file, &st));
    ASSERT_OK(cf_open(&s, &x.file, &x.ix, &st));
    for (size_t e = 0; e < ARRAY_LEN(efs); e++) {
        assert_turns_change_nothing(x.ix, &s, K, efs[e]);
    }
    assert_turns_change_nothing(x.ix, &s, 1, 1);
    assert_turns_change_nothing(x.ix, &s, 300, 500); /* lists that are buffers */
    assert_turns_change_nothing(x.ix, &s, 10, 900);  /* wide walks do not take turns */
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_search_when_queries_take_turns_then_each_finds_the_same_with_any_codes(void **state)
{
    for (int q = 0; q < QUANT_FP32; q++) {
        check(INDEX_HNSW_SQ, (enum quant)q, METRIC_L2, VEC_F32, 24, N);
    }
    check(INDEX_HNSW_PQ, QUANT_SQ8, METRIC_L2, VEC_F32, 24, N);
    check(INDEX_HNSW_PRQ, QUANT_SQ8, METRIC_COSINE, VEC_F32, 24, N);
    check(INDEX_HNSW, QUANT_SQ8, METRIC_L2, VEC_I8, 33, N);
    check(INDEX_HNSW, QUANT_SQ8, METRIC_HAMMING, VEC_BIN, 64, N);
    check(INDEX_HNSW, QUANT_SQ8, METRIC_JACCARD, VEC_BIN, 64, N);
}

static void test_search_when_queries_take_turns_then_each_finds_the_same_by_any_metric(void **state)
{
    check(INDEX_HNSW, QUANT_SQ8, METRIC_COSINE, VEC_F32, 24, N);
    check(INDEX_HNSW, QUANT_SQ8, METRIC_IP, VEC_F16, 24, N);
    check(INDEX_HNSW, QUANT_SQ8, METRIC_L2, VEC_BF16, 24, N);
    check(INDEX_HNSW, QUANT_SQ8, METRIC_COSINE, VEC_F32, 256, 4200); /* 4 bits, and bits */
    check(INDEX_HNSW, QUANT_SQ8, METRIC_L2, VEC_F32, 24, 700);       /* fewer rows than ef */
}

/* ---- What ends a call ---- */

struct stop {
    uint32_t asked, at;
};

static int stop_at(void *arg, struct status *st)
{
    struct stop *s = arg;
    return ++s->asked == s->at ? st_fail(st, ST_TIMEOUT, "enough") : 0;
}

/* A call that is stopped leaves walks half done; what comes after it must not see where they were. */
static void test_search_when_stopped_between_turns_then_the_next_call_is_whole(void **state)
{
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, METRIC_L2, VEC_F32, 24, N, NQ, 60, 42);
    cf_index_new(&x, &s, INDEX_HNSW);
    for (uint32_t at = 1; at <= NQ; at += 4) {
        struct status st = STATUS_INIT;
        struct topk *tk;
        struct stop stop = { .at = at };
        struct index_query q = { .queries = s.queries, .query_stride = s.query_stride, .nq = NQ,
                                 .check = stop_at, .check_arg = &stop };
        ASSERT_OK(topk_new(NQ, K, false, NULL, &tk, &st));
        assert_int_equal(index_search(x.ix, &q, tk, NULL, &st), ST_TIMEOUT);
        assert_int_equal(stop.asked, at);
        topk_free(tk);
        assert_turns_change_nothing(x.ix, &s, K, 32);
    }
    struct status st = STATUS_INIT;
    struct stop never = { 0 };
    struct topk *tk;
    struct index_query q = { .queries = s.queries, .query_stride = s.query_stride, .nq = NQ,
                             .check = stop_at, .check_arg = &never };
    ASSERT_OK(topk_new(NQ, K, false, NULL, &tk, &st));
    ASSERT_OK(index_search(x.ix, &q, tk, NULL, &st));
    assert_int_equal(never.asked, NQ); /* before each query */
    topk_free(tk);
    cf_index_done(&x);
    cf_set_done(&s);
}

/* Lists with bounds of their own are searched one after the other, with and without others. */
static void test_search_when_one_list_has_a_bound_then_the_others_stay_the_same(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    struct answer a;
    struct topk *tk;
    cf_set_new(&s, METRIC_L2, VEC_F32, 24, N, NQ, 60, 43);
    cf_index_new(&x, &s, INDEX_HNSW);
    ASSERT_OK(ask(x.ix, &s, 0, 5, K, 64, &a, &st));
    ASSERT_OK(topk_new(5, K, false, NULL, &tk, &st));
    topk_limit(tk, 2, topk_score(a.tk, 2, 3));
    struct index_query q = a.q;
    q.near = NULL;
    ASSERT_OK(index_search(x.ix, &q, tk, NULL, &st));
    topk_finish(tk);
    for (uint32_t j = 0; j < 5; j++) {
        assert_int_equal(topk_count(tk, j), j == 2 ? 4 : K);
        for (uint32_t i = 0; i < topk_count(tk, j); i++) {
            assert_int_equal(topk_row(tk, j, i), topk_row(a.tk, j, i));
        }
    }
    topk_free(tk);
    answer_done(&a);
    cf_index_done(&x);
    cf_set_done(&s);
}

static size_t scratch_bytes(const struct cf_index *x)
{
    return CONTAINER_OF(x->ix, const struct graph, head)->scratch_bytes;
}

static void test_search_when_memory_is_short_then_fewer_take_turns(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    struct answer alone[6], many;
    uint32_t whole = 0;
    cf_set_new(&s, METRIC_L2, VEC_F32, 24, N, 6, 60, 44);
    cf_index_new(&x, &s, INDEX_HNSW);
    for (uint32_t j = 0; j < 6; j++) {
        ASSERT_OK(ask(x.ix, &s, j, 1, K, 64, &alone[j], &st));
    }
    const size_t of_one = scratch_bytes(&x);
    ASSERT_OK(ask(x.ix, &s, 0, 6, K, 64, &many, &st));
    answer_done(&many);
    assert_true(scratch_bytes(&x) >= 2 * of_one); /* there are turns */
    ALLOC_TORTURE {
        struct status failed = STATUS_INIT;
        struct index *ix = NULL; /* anew: without scratch of before */
        struct answer a = { 0 };
        int rc = cf_open(&s, &x.file, &ix, &failed);
        rc = rc ? rc : ask(ix, &s, 0, 6, K, 64, &a, &failed);
        assert_true(rc == 0 || rc == ST_NO_MEMORY);
        for (uint32_t j = 0; rc == 0 && j < 6; j++) {
            assert_same(&a, j, &alone[j]);
        }
        whole += rc == 0;
        answer_done(&a);
        index_free(ix);
    }
    assert_true(whole > 2); /* the run without a failure, and some in which only more scratch failed */
    for (uint32_t j = 0; j < 6; j++) {
        answer_done(&alone[j]);
    }
    cf_index_done(&x);
    cf_set_done(&s);
}

int main(int argc, char **argv)
{
    cf_laid = argc > 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            test_search_when_queries_take_turns_then_each_finds_the_same_with_any_codes),
        cmocka_unit_test(
            test_search_when_queries_take_turns_then_each_finds_the_same_by_any_metric),
        cmocka_unit_test(test_search_when_stopped_between_turns_then_the_next_call_is_whole),
        cmocka_unit_test(test_search_when_one_list_has_a_bound_then_the_others_stay_the_same),
        cmocka_unit_test(test_search_when_memory_is_short_then_fewer_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
