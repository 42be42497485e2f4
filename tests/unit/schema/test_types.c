/* test_types.c - types, error texts and names: small tables, every row of interest looked at. */
#include "schema_fixture.h"
#include "schema/names.h"

static void test_dtype_when_every_value_is_tried_then_known_ones_have_names(void **state)
{
    static const struct {
        int t;
        const char *name;
        size_t width;
    } want[] = {
        {DT_BOOL, "Bool", 1},
        {DT_INT8, "Int8", 1},
        {DT_INT16, "Int16", 2},
        {DT_INT32, "Int32", 4},
        {DT_INT64, "Int64", 8},
        {DT_FLOAT, "Float", 4},
        {DT_DOUBLE, "Double", 8},
        {DT_VARCHAR, "VarChar", 0},
        {DT_ARRAY, "Array", 0},
        {DT_JSON, "JSON", 0},
        {DT_GEOMETRY, "Geometry", 0},
        {DT_TEXT, "Text", 0},
        {DT_TIMESTAMPTZ, "Timestamptz", 8},
        {DT_BINARY_VECTOR, "BinaryVector", 2},
        {DT_FLOAT_VECTOR, "FloatVector", 64},
        {DT_FLOAT16_VECTOR, "Float16Vector", 32},
        {DT_BFLOAT16_VECTOR, "BFloat16Vector", 32},
        {DT_SPARSE_FLOAT_VECTOR, "SparseFloatVector", 0},
        {DT_INT8_VECTOR, "Int8Vector", 16},
        {DT_ARRAY_OF_VECTOR, "ArrayOfVector", 0},
        {DT_ARRAY_OF_STRUCT, "ArrayOfStruct", 0},
    };
    size_t known = 0;
    for (int t = -5; t < 300; t++) {
        known += dtype_known(t);
        if (!dtype_known(t)) {
            assert_string_equal(dtype_name((enum dtype)t), "Unknown");
            assert_int_equal(dtype_width((enum dtype)t, 16), 0);
        }
    }
    assert_int_equal(known, ARRAY_LEN(want));
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_string_equal(dtype_name((enum dtype)want[i].t), want[i].name);
        assert_int_equal(dtype_width((enum dtype)want[i].t, 16), want[i].width);
    }
}

static void test_dtype_predicates_when_asked_then_agree_with_the_api(void **state)
{
    assert_true(dtype_is_vector(DT_SPARSE_FLOAT_VECTOR) && !dtype_is_dense(DT_SPARSE_FLOAT_VECTOR));
    assert_true(dtype_is_dense(DT_INT8_VECTOR) && !dtype_is_dense(DT_ARRAY_OF_VECTOR));
    assert_true(dtype_is_int(DT_INT64) && !dtype_is_int(DT_TIMESTAMPTZ) && !dtype_is_int(DT_BOOL));
    assert_true(dtype_is_float(DT_DOUBLE) && !dtype_is_float(DT_FLOAT_VECTOR));
    assert_true(dtype_is_string(DT_TEXT) && !dtype_is_string(DT_JSON));
    assert_true(dtype_is_var(DT_JSON) && dtype_is_var(DT_ARRAY) && !dtype_is_var(DT_INT8_VECTOR));
    assert_int_equal(hts_physical_ms(hts_make(1234567, 77)), 1234567);
}

static void test_err_text_when_code_is_known_then_gives_its_words(void **state)
{
    assert_string_equal(err_text(100), "collection not found");
    assert_string_equal(err_text(1), "service not ready");
    assert_string_equal(err_text(1100), "invalid parameter");
    assert_string_equal(err_text(1701), "field name invalid");
    assert_string_equal(err_text(65535), "unexpected error");
    assert_null(err_text(0));
    assert_null(err_text(110));
    assert_null(err_text(70000));
    size_t n = 0;
    for (int code = 0; code <= 65535; code++) {
        n += err_text(code) != NULL;
    }
    assert_int_equal(n, 120);
}

static void check_name(enum name_kind kind, const char *name, int code, const char *part)
{
    struct status st = STATUS_INIT;
    assert_int_equal(name_check(kind, slice_of(name), 255, &st), code);
    if (part) {
        fx_has(st.msg, part);
    }
}

static void test_name_check_when_name_is_wrong_then_uses_the_words_of_its_kind(void **state)
{
    char long_name[257];
    memset(long_name, 'a', 256);
    long_name[256] = 0;
    check_name(NAME_COLLECTION, "_ok_1", 0, NULL);
    check_name(NAME_COLLECTION, "1x", 1100,
               "Invalid collection name: 1x. the first character of a collection name must be an "
               "underscore or letter: invalid parameter");
    check_name(NAME_COLLECTION, "a b", 1100,
               "collection name can only contain numbers, letters and underscores");
    check_name(NAME_COLLECTION, long_name, 1100,
               "the length of a collection name must be less than 255 characters");
    check_name(NAME_COLLECTION, long_name + 1, 0, NULL);
    check_name(NAME_COLLECTION, "", 1100, "collection name should not be empty");
    check_name(NAME_ALIAS, "$", 1100,
               "Invalid collection alias: $. the first character of a "
               "collection alias");
    check_name(NAME_PARTITION, "2024-01", 0, NULL);
    check_name(NAME_PARTITION, "-x", 1100, "Invalid partition name: -x.");
    check_name(NAME_PARTITION, "", 1100, "Partition name should not be empty.");
    check_name(NAME_PARTITION, "a.b", 1100,
               "Partition name can only contain numbers, letters and underscores.");
    check_name(NAME_DATABASE, "a-b", 802,
               "database name can only contain numbers, letters and underscores: invalid database "
               "name[database=a-b]");
    check_name(NAME_DATABASE, "9", 802, "the first character of a database name");
    check_name(NAME_INDEX, "", 0, NULL);
    check_name(NAME_INDEX, "a b", 1100, "Invalid index name: a b. ");
}

static void check_field_name(const char *name, int code, const char *part)
{
    struct status st = STATUS_INIT;
    assert_int_equal(schema_check_field_name(slice_of(name), 255, &st), code);
    if (part) {
        fx_has(st.msg, part);
        fx_has(st.msg, "field name invalid[field=");
    }
}

static void test_field_name_when_reserved_or_keyword_then_is_refused(void **state)
{
    char long_name[257];
    memset(long_name, 'a', 256);
    long_name[256] = 0;
    check_field_name("like_2", 0, NULL);
    check_field_name("Like", 0, NULL);
    check_field_name("like", 1701, "Invalid field name: like. like is keyword in milvus.");
    check_field_name("JSON_CONTAINS_ANY", 1701, "is keyword in milvus");
    check_field_name("RowID", 1701, "reserved for internal use");
    check_field_name("Timestamp", 1701, "reserved for internal use");
    check_field_name("__virtual_pk__", 1701, "reserved for internal use");
    check_field_name("$meta", 1701, "Invalid field name: $meta. The first character");
    check_field_name("a-b", 1701, "can only contain numbers, letters, and underscores.");
    check_field_name(long_name, 1701, "must be less than 255 characters.");
    check_field_name("", 1701, "field name should not be empty");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtype_when_every_value_is_tried_then_known_ones_have_names),
        cmocka_unit_test(test_dtype_predicates_when_asked_then_agree_with_the_api),
        cmocka_unit_test(test_err_text_when_code_is_known_then_gives_its_words),
        cmocka_unit_test(test_name_check_when_name_is_wrong_then_uses_the_words_of_its_kind),
        cmocka_unit_test(test_field_name_when_reserved_or_keyword_then_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
