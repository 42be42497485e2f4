/* test_px_index_params.c - what CreateIndex accepts, fills in and refuses. */
#include "px_fixture.h"
#include "proxy/px_index_params.h"

/* kv: "key=value" texts, NULL at the end. */
static int read_params(enum dtype type, const char *const *kv, struct arena *ar,
                       struct px_index_params *ret, struct status *st)
{
    struct field f = { .id = 100, .name = "f", .type = type, .dim = 12,
                       .elem = type == DT_ARRAY ? DT_INT32 : DT_NONE };
    struct px_kv_list l = { 0 };

    for (; *kv; kv++) {
        const char *eq = strchr(*kv, '=');
        px_kv_add(&l, ar, arena_strndup(ar, *kv, (size_t)(eq - *kv)), eq + 1);
    }
    st_clear(st);
    return px_index_params_read(&f, l.n, l.kv, ar, ret, st);
}
#define KV(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(,) NULL })
#define GET(p, key) px_kv((p).flat.n, (p).flat.kv, key)
#define USER(p, key) px_kv((p).user.n, (p).user.kv, key)

static void test_nothing_said_is_autoindex_with_the_type_s_metric(void **state)
{
    static const struct {
        enum dtype type;
        const char *metric;
    } rows[] = {
        { DT_FLOAT_VECTOR, "COSINE" },         { DT_FLOAT16_VECTOR, "COSINE" },
        { DT_BFLOAT16_VECTOR, "COSINE" },      { DT_INT8_VECTOR, "COSINE" },
        { DT_BINARY_VECTOR, "HAMMING" },       { DT_SPARSE_FLOAT_VECTOR, "IP" },
        { DT_VARCHAR, NULL },                  { DT_INT64, NULL },
    };
    struct arena *ar = arena_new(0);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct status st = STATUS_INIT;
        struct px_index_params p;
        ASSERT_OK(read_params(rows[i].type, KV(), ar, &p, &st));
        assert_string_equal(GET(p, "index_type"), "AUTOINDEX");
        assert_string_equal(USER(p, "index_type"), "AUTOINDEX");
        if (rows[i].metric) {
            assert_string_equal(GET(p, "metric_type"), rows[i].metric);
            assert_string_equal(USER(p, "metric_type"), rows[i].metric);
        } else {
            assert_null(GET(p, "metric_type"));
        }
    }
    arena_free(ar);
}

static void test_params_come_flat_or_as_json(void **state)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct px_index_params p;

    ASSERT_OK(read_params(DT_FLOAT_VECTOR,
                          KV("index_type=HNSW", "metric_type=L2",
                             "params={\"M\": 16, \"efConstruction\": \"200\", \"x\": null}"),
                          ar, &p, &st));
    assert_string_equal(GET(p, "M"), "16");
    assert_string_equal(GET(p, "efConstruction"), "200");
    assert_null(GET(p, "x"));
    assert_null(GET(p, "params"));
    assert_non_null(USER(p, "params")); /* shown as it was sent */
    assert_null(USER(p, "M"));

    ASSERT_OK(read_params(DT_FLOAT_VECTOR, KV("index_type=HNSW", "M=16", "params="), ar, &p, &st));
    assert_string_equal(GET(p, "M"), "16");
    assert_string_equal(GET(p, "efConstruction"), "360"); /* default */
    assert_string_equal(GET(p, "metric_type"), "COSINE");

    assert_int_equal(read_params(DT_FLOAT_VECTOR, KV("params=[1]"), ar, &p, &st),
                     ERR_PARAMETER_INVALID);
    arena_free(ar);
}

static void refused(enum dtype type, const char *const *kv, const char *words)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct px_index_params p = { 0 };
    int rc = read_params(type, kv, ar, &p, &st);

    if (rc == 0 || !strstr(st.msg, words)) {
        fail_msg("wanted \"%s\", got %d \"%s\"", words, rc, st.msg);
    }
    assert_true(rc == ERR_PARAMETER_INVALID || rc == ERR_PARAMETER_MISSING);
    assert_int_equal(p.flat.n, 0);
    arena_free(ar);
}

static void test_types_that_are_none_or_do_not_fit(void **state)
{
    refused(DT_FLOAT_VECTOR, KV("index_type=NOPE"),
            "invalid parameter[expected=valid index][actual=invalid index type: NOPE]");
    refused(DT_FLOAT_VECTOR, KV("index_type=hnsw"), "invalid index type: hnsw");
    refused(DT_FLOAT_VECTOR, KV("index_type=GPU_CAGRA"), "invalid index type");
    refused(DT_BINARY_VECTOR, KV("index_type=IVF_FLAT"), "can't build with this index IVF_FLAT");
    refused(DT_FLOAT_VECTOR, KV("index_type=INVERTED"), "INVERTED are not supported on FloatVector");
    refused(DT_INT64, KV("index_type=HNSW"), "can't build with this index HNSW");
    refused(DT_INT64, KV("index_type=TRIE"), "TRIE are only supported on varchar field");
    refused(DT_JSON, KV("index_type=BITMAP"), "bitmap index are only supported on");
    refused(DT_BOOL, KV("index_type=STL_SORT"), "STL_SORT are only supported on numeric field");
}

static void test_metrics_that_do_not_fit(void **state)
{
    refused(DT_FLOAT_VECTOR, KV("index_type=FLAT", "metric_type=HAMMING"),
            "float vector index does not support metric type: HAMMING");
    refused(DT_FLOAT_VECTOR, KV("index_type=FLAT", "metric_type=l2"),
            "float vector index does not support metric type");
    refused(DT_INT8_VECTOR, KV("metric_type=JACCARD"),
            "int8 vector index does not support metric type");
    refused(DT_BINARY_VECTOR, KV("index_type=BIN_FLAT", "metric_type=L2"),
            "binary vector index does not support metric type: L2");
    refused(DT_BINARY_VECTOR, KV("index_type=BIN_IVF_FLAT", "metric_type=SUBSTRUCTURE"),
            "binary vector index does not support metric type: SUBSTRUCTURE");
    refused(DT_BINARY_VECTOR, KV("index_type=BIN_FLAT", "metric_type=MHJACCARD"),
            "binary vector index does not support metric type: MHJACCARD");
    refused(DT_SPARSE_FLOAT_VECTOR, KV("metric_type=L2"),
            "only IP&BM25 is the supported metric type for sparse index");
    refused(DT_SPARSE_FLOAT_VECTOR, KV("metric_type=BM25"),
            "only BM25 Function output field support BM25 metric type");
}

static void test_values_out_of_range(void **state)
{
    const char *bad = "invalid parameter[expected=valid index params][actual=invalid index params]";

    refused(DT_FLOAT_VECTOR, KV("index_type=IVF_FLAT", "nlist=0"), bad);
    refused(DT_FLOAT_VECTOR, KV("index_type=IVF_FLAT", "nlist=65537"),
            "param 'nlist' (65537) should be in range [1, 65536]");
    refused(DT_FLOAT_VECTOR, KV("index_type=IVF_FLAT", "nlist=many"), "should be an integer");
    refused(DT_FLOAT_VECTOR, KV("index_type=IVF_FLAT", "params={\"nlist\": true}"), bad);
    refused(DT_FLOAT_VECTOR, KV("index_type=HNSW", "M=1"), "[2, 2048]");
    refused(DT_FLOAT_VECTOR, KV("index_type=HNSW_SQ", "sq_type=SQ5"), "should be one of");
    refused(DT_FLOAT_VECTOR, KV("index_type=HNSW_SQ", "refine=maybe"), "true or false");
    refused(DT_FLOAT_VECTOR, KV("index_type=IVF_PQ", "m=5"),
            "dimension must be able to be divided by `m`, dimension: 12, m: 5");
    refused(DT_SPARSE_FLOAT_VECTOR, KV("index_type=SPARSE_INVERTED_INDEX", "drop_ratio_build=1"),
            "[0, 1)");
    refused(DT_SPARSE_FLOAT_VECTOR, KV("index_type=SPARSE_INVERTED_INDEX",
                                       "inverted_index_algo=X"),
            "sparse inverted index algo X not found or not supported, supported:");
    refused(DT_SPARSE_FLOAT_VECTOR, KV("index_type=SPARSE_WAND", "bm25_b=nan"), bad);
    refused(DT_VARCHAR, KV("index_type=NGRAM", "min_gram=3"),
            "Ngram index must specify both min_gram and max_gram");
    refused(DT_VARCHAR, KV("index_type=NGRAM", "min_gram=3", "max_gram=2"), "invalid min_gram");
    refused(DT_JSON, KV("index_type=INVERTED"), "json index must specify cast type");
    refused(DT_JSON, KV("index_type=INVERTED", "json_cast_type=INT"), "json_cast_type");
}

static void test_values_at_the_edge_are_fine(void **state)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct px_index_params p;

    ASSERT_OK(read_params(DT_FLOAT_VECTOR, KV("index_type=IVF_PQ", "m=12", "nlist=65536"), ar, &p,
                          &st));
    ASSERT_OK(read_params(DT_FLOAT16_VECTOR, KV("index_type=HNSW", "M=2048"), ar, &p, &st));
    ASSERT_OK(read_params(DT_INT8_VECTOR, KV("index_type=HNSW"), ar, &p, &st));
    ASSERT_OK(read_params(DT_BINARY_VECTOR, KV("index_type=BIN_FLAT", "metric_type=SUPERSTRUCTURE"),
                          ar, &p, &st));
    ASSERT_OK(read_params(DT_BINARY_VECTOR, KV("index_type=MINHASH_LSH"), ar, &p, &st));
    assert_string_equal(GET(p, "metric_type"), "MHJACCARD");
    ASSERT_OK(read_params(DT_SPARSE_FLOAT_VECTOR,
                          KV("index_type=SPARSE_INVERTED_INDEX", "drop_ratio_build=0.2"), ar, &p,
                          &st));
    ASSERT_OK(read_params(DT_JSON, KV("index_type=INVERTED", "json_cast_type=double",
                                      "json_path=f[\"a\"]"), ar, &p, &st));
    ASSERT_OK(read_params(DT_ARRAY, KV("index_type=BITMAP"), ar, &p, &st));
    arena_free(ar);
}

static void test_only_some_properties_can_change(void **state)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct px_kv_list l = { 0 };
    static const char *const bad_key[] = { "nlist" };

    px_kv_add(&l, ar, "mmap_enabled", "True");
    ASSERT_OK(px_index_check_alter(l.n, l.kv, 0, NULL, &st));
    assert_string_equal(l.kv[0]->key, "mmap.enabled");
    l.kv[0]->value = "2";
    assert_int_equal(px_index_check_alter(l.n, l.kv, 0, NULL, &st), ERR_PARAMETER_INVALID);
    assert_int_equal(px_index_check_alter(0, NULL, 1, bad_key, &st), ERR_PARAMETER_INVALID);
    arena_free(ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_said_is_autoindex_with_the_type_s_metric),
        cmocka_unit_test(test_params_come_flat_or_as_json),
        cmocka_unit_test(test_types_that_are_none_or_do_not_fit),
        cmocka_unit_test(test_metrics_that_do_not_fit),
        cmocka_unit_test(test_values_out_of_range),
        cmocka_unit_test(test_values_at_the_edge_are_fine),
        cmocka_unit_test(test_only_some_properties_can_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
