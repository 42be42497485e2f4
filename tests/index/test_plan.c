/* test_plan.c - what AUTOINDEX becomes. */
#include "conform.h"

#include "index/scan/plan.h"

static enum index_type type_for(enum metric metric, enum vec_type type, size_t dim, uint32_t n)
{
    struct index_params p;
    index_params_init(&p, INDEX_AUTOINDEX);
    p.seed = 77;
    plan_auto(&p, metric, type, dim, n);
    assert_int_equal(p.seed, 77);
    return p.type;
}

static void test_auto_when_only_sizes_are_known_then_they_decide(void **state)
{
    assert_int_equal(type_for(METRIC_L2, VEC_F32, 128, 0), INDEX_FLAT);
    assert_int_equal(type_for(METRIC_L2, VEC_F32, 128, 10000), INDEX_FLAT);
    assert_int_equal(type_for(METRIC_COSINE, VEC_F32, 768, 100000), INDEX_HNSW);
    assert_int_equal(type_for(METRIC_L2, VEC_I8, 128, 5000000), INDEX_HNSW);
    assert_int_equal(type_for(METRIC_HAMMING, VEC_BIN, 512, 1000), INDEX_BIN_FLAT);
    assert_int_equal(type_for(METRIC_JACCARD, VEC_BIN, 512, 1000000), INDEX_BIN_IVF_FLAT);
    assert_int_equal(type_for(METRIC_SUBSTRUCTURE, VEC_BIN, 512, 1000000), INDEX_BIN_FLAT);
}

static void test_auto_when_rows_have_no_neighbourhoods_then_the_scan_is_taken(void **state)
{
    struct status st = STATUS_INIT;
    struct index_params p;
    struct cf_set s;
    uint32_t n = 17000;
    for (int m = METRIC_L2; m <= METRIC_COSINE; m++) {
        cf_set_new(&s, (enum metric)m, VEC_F32, 128, n, 1, 200, 5); /* clouds */
        index_params_init(&p, INDEX_AUTOINDEX);
        ASSERT_OK(plan_auto_rows(&p, &s.rows, &st));
        assert_int_equal(p.type, INDEX_HNSW);
        for (size_t i = 0; i < (size_t)n * 128; i++) { /* nothing but noise */
            float f = (float)cf_uniform();
            memcpy(s.data + 4 * i, &f, 4);
        }
        index_params_init(&p, INDEX_AUTOINDEX);
        ASSERT_OK(plan_auto_rows(&p, &s.rows, &st));
        assert_int_equal(p.type, INDEX_FLAT);
        cf_set_done(&s);
    }
}

static void test_auto_when_all_rows_are_equal_then_it_settles(void **state)
{
    struct status st = STATUS_INIT;
    struct index_params p;
    struct cf_set s;
    cf_set_new(&s, METRIC_L2, VEC_F32, 128, 17000, 1, 2, 5);
    memset(s.data, 0, 17000 * s.query_stride);
    index_params_init(&p, INDEX_AUTOINDEX);
    ASSERT_OK(plan_auto_rows(&p, &s.rows, &st));
    assert_int_equal(p.type, INDEX_HNSW);
    cf_set_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auto_when_only_sizes_are_known_then_they_decide),
        cmocka_unit_test(test_auto_when_rows_have_no_neighbourhoods_then_the_scan_is_taken),
        cmocka_unit_test(test_auto_when_all_rows_are_equal_then_it_settles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
