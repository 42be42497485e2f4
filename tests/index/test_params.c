/* test_params.c - parameters of index types as text. */
#include "../lib/unit.h"

#include "index/ann_int.h"

static void assert_same(const struct index_params *a, const struct index_params *b)
{
    char ta[512], tb[512];
    (void)index_params_print(a, ta, sizeof ta);
    (void)index_params_print(b, tb, sizeof tb);
    assert_string_equal(ta, tb);
}

static int set(enum index_type type, const char *key, const char *value, struct index_params *p,
               bool *known, struct status *st)
{
    index_params_init(p, type);
    return index_params_set(p, key, value, known, st);
}

static void test_params_when_values_are_good_then_they_are_kept(void **state)
{
    struct status st = STATUS_INIT;
    struct index_params p;
    bool known;
    ASSERT_OK(set(INDEX_HNSW, "M", "16", &p, &known, &st));
    assert_true(known && p.M == 16 && p.ef_construction == 360);
    ASSERT_OK(set(INDEX_IVF_FLAT, "nlist", "65536", &p, &known, &st));
    assert_true(known && p.nlist == 65536);
    ASSERT_OK(set(INDEX_HNSW_SQ, "refine", "True", &p, &known, &st));
    assert_true(known && p.refine);
    ASSERT_OK(set(INDEX_HNSW_SQ, "refine_type", "FLAT", &p, &known, &st));
    assert_true(known && p.refine_type == QUANT_FP32);
    ASSERT_OK(set(INDEX_DISKANN, "pq_code_budget_gb_ratio", "0.25", &p, &known, &st));
    assert_true(known && p.pq_code_budget_gb_ratio == 0.25);
    ASSERT_OK(set(INDEX_FLAT, "nlist", "nonsense", &p, &known, &st));
    assert_false(known);
}

static void test_params_when_values_are_bad_then_key_and_range_are_named(void **state)
{
    static const struct {
        enum index_type type;
        const char *key, *value;
    } bad[] = {
        { INDEX_IVF_FLAT, "nlist", "0" },       { INDEX_IVF_FLAT, "nlist", "65537" },
        { INDEX_IVF_FLAT, "nlist", "12.0" },    { INDEX_IVF_FLAT, "nlist", "" },
        { INDEX_IVF_FLAT, "nlist", " 5" },      { INDEX_IVF_FLAT, "nlist", "5x" },
        { INDEX_HNSW, "M", "1" },               { INDEX_HNSW, "M", "2049" },
        { INDEX_HNSW, "efConstruction", "99999999999999999999" },
        { INDEX_HNSW_SQ, "sq_type", "FP32" },   { INDEX_HNSW_SQ, "sq_type", "SQ5" },
        { INDEX_HNSW_SQ, "refine", "maybe" },   { INDEX_HNSW_PRQ, "nrq", "17" },
        { INDEX_IVF_PQ, "nbits", "25" },        { INDEX_ANNOY, "n_trees", "1025" },
        { INDEX_DISKANN, "search_cache_budget_gb_ratio", "nan" },
        { INDEX_DISKANN, "pq_code_budget_gb_ratio", "-0.1" },
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct status st = STATUS_INIT;
        struct index_params p, before;
        bool known;
        index_params_init(&before, bad[i].type);
        assert_int_equal(set(bad[i].type, bad[i].key, bad[i].value, &p, &known, &st), ST_INVALID);
        assert_non_null(strstr(st.msg, bad[i].key));
        assert_same(&p, &before);
    }
}

static void test_params_when_printed_then_they_are_read_back(void **state)
{
    for (int t = 0; t < INDEX_TYPE_COUNT; t++) {
        struct status st = STATUS_INIT;
        struct index_params p, back;
        char text[512];
        index_params_init(&p, (enum index_type)t);
        p.seed = 77;
        assert_true(index_params_print(&p, text, sizeof text) < sizeof text);
        index_params_init(&back, INDEX_FLAT);
        ASSERT_OK(index_params_parse(&back, text, &st));
        assert_same(&p, &back);
    }
}

static void test_params_when_they_do_not_fit_the_rows_then_refused(void **state)
{
    struct status st = STATUS_INIT;
    struct index_params p;
    if (!index__ops(INDEX_IVF_PQ)) {
        skip();
    }
    index_params_init(&p, INDEX_IVF_PQ);
    assert_int_equal(index_params_resolve(&p, METRIC_L2, VEC_F32, 30, 100, &st), ST_INVALID);
    assert_non_null(strstr(st.msg, "m"));
    p.m = 7;
    assert_int_equal(index_params_resolve(&p, METRIC_L2, VEC_F32, 30, 100, &st), ST_INVALID);
    assert_non_null(strstr(st.msg, "30"));
    p.m = 6;
    ASSERT_OK(index_params_resolve(&p, METRIC_L2, VEC_F32, 30, 100, &st));
    assert_int_equal(index_params_resolve(&p, METRIC_HAMMING, VEC_F32, 30, 100, &st), ST_INVALID);
}

static void test_search_params_when_set_then_checked(void **state)
{
    struct status st = STATUS_INIT;
    struct index_search_params p;
    bool known;
    index_search_params_init(&p);
    ASSERT_OK(index_search_params_set(&p, INDEX_HNSW, "ef", "64", &known, &st));
    assert_true(known && p.ef == 64);
    ASSERT_OK(index_search_params_set(&p, INDEX_HNSW, "nprobe", "64", &known, &st));
    assert_false(known);
    ASSERT_OK(index_search_params_set(&p, INDEX_ANNOY, "search_k", "-1", &known, &st));
    assert_true(known && p.search_k == -1);
    ASSERT_OK(index_search_params_set(&p, INDEX_HNSW, "strategy", "clusters", &known, &st));
    assert_true(known && p.strategy == STRAT_CLUSTERS);
    assert_int_equal(index_search_params_set(&p, INDEX_HNSW, "strategy", "x", &known, &st),
                     ST_INVALID);
    assert_int_equal(index_search_params_set(&p, INDEX_HNSW, "refine_k", "1", &known, &st), 0);
    assert_false(known);
    assert_int_equal(index_search_params_set(&p, INDEX_HNSW_SQ, "refine_k", "0.5", &known, &st),
                     ST_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_params_when_values_are_good_then_they_are_kept),
        cmocka_unit_test(test_params_when_values_are_bad_then_key_and_range_are_named),
        cmocka_unit_test(test_params_when_printed_then_they_are_read_back),
        cmocka_unit_test(test_params_when_they_do_not_fit_the_rows_then_refused),
        cmocka_unit_test(test_search_params_when_set_then_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
