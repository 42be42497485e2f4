/* test_schema.c - building schemas, and the rules of CreateCollection and AddCollectionField. */
#include "schema_fixture.h"

static struct schema_limits lim = SCHEMA_LIMITS_DEFAULT;

static int setup(void **state)
{
    *state = arena_new(0);
    return 0;
}

static int teardown(void **state)
{
    arena_free(*state);
    return 0;
}

static fx_field *with_default(struct arena *ar, fx_field *f, int data_case)
{
    f->default_value =
        FX_NEW(ar, Milvus__Proto__Schema__ValueField, MILVUS__PROTO__SCHEMA__VALUE_FIELD__INIT);
    f->default_value->data_case = data_case;
    return f;
}

#define VALUE(name) MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_##name

static void test_schema_new_when_message_is_whole_then_knows_every_field(void **state)
{
    struct arena *messages = arena_new(0);
    struct status st = STATUS_INIT;
    fx_coll *c = fx_simple(messages);
    fx_dynamic(messages, c); /* not last in the message: is moved */
    fx_add(messages, c, "name", DT_VARCHAR, "20")->is_partition_key = true;
    fx_field *tags = fx_add(messages, c, "tags", DT_ARRAY, "7");
    tags->element_type = (Milvus__Proto__Schema__DataType)DT_VARCHAR;
    tags->nullable = true;
    fx_param(messages, tags, "max_length", "\"9\"");
    with_default(messages, fx_add(messages, c, "n", DT_INT16, NULL), VALUE(INT_DATA))
        ->default_value->int_data = -3;
    struct schema *s = NULL;
    assert_int_equal(schema_new(c, &s, &st), 0);
    memset(c, 0xee, sizeof *c); /* nothing may point there any more */
    arena_free(messages);
    assert_string_equal(s->collection_name, "books");
    assert_int_equal(s->nfields, 6);
    assert_ptr_equal(s->pk, &s->fields[0]);
    assert_ptr_equal(s->dynamic, &s->fields[5]);
    assert_string_equal(s->dynamic->name, META_FIELD_NAME);
    assert_string_equal(s->partition_key->name, "name");
    assert_int_equal(s->partition_key->max_length, 20);
    assert_int_equal(schema_field(s, 101)->dim, 4);
    assert_null(schema_field(s, 99));
    const struct field *f = schema_field_by_name(s, SLICE_LIT("tags"));
    assert_int_equal(f->max_capacity, 7);
    assert_int_equal(f->max_length, 9);
    assert_int_equal(f->elem, DT_VARCHAR);
    assert_true(f->nullable);
    assert_null(schema_field_by_name(s, SLICE_LIT("tag")));
    f = schema_field_by_name(s, SLICE_LIT("n"));
    int16_t three = -3;
    assert_true(f->has_default);
    assert_int_equal(f->default_cell.n, 2);
    assert_memory_equal(f->default_cell.p, &three, 2);
    assert_null(field_param(f->pb, "nope"));
    struct schema *again = schema_ref(s);
    schema_unref(s);
    assert_string_equal(again->fields[1].name, "vec");
    schema_unref(again);
    schema_unref(NULL);
}

static void refuse_new(fx_coll *c, const char *part)
{
    struct status st = STATUS_INIT;
    struct schema *s = (struct schema *)(uintptr_t)1;
    assert_int_not_equal(schema_new(c, &s, &st), 0);
    assert_ptr_equal(s, (struct schema *)(uintptr_t)1);
    fx_has(st.msg, part);
}

static void test_schema_new_when_message_is_damaged_then_says_what(void **state)
{
    struct arena *ar = *state;
    fx_coll *c = fx_simple(ar);
    c->fields[1]->fieldid = 100;
    refuse_new(c, "occurs twice");
    c = fx_simple(ar);
    c->fields[1]->name = "id";
    refuse_new(c, "occurs twice");
    c = fx_simple(ar);
    c->fields[0]->fieldid = 1;
    refuse_new(c, "ids begin at 100");
    c = fx_simple(ar);
    c->fields[0]->is_primary_key = false;
    refuse_new(c, "no usable primary key");
    c = fx_simple(ar);
    fx_add(ar, c, "id2", DT_INT64, NULL)->is_primary_key = true;
    refuse_new(c, "\"id\" and \"id2\"");
    c = fx_simple(ar);
    c->enable_dynamic_field = true;
    refuse_new(c, META_FIELD_NAME);
    c = fx_simple(ar);
    fx_add(ar, c, "b", DT_BINARY_VECTOR, "12");
    refuse_new(c, "dim 12");
    c = fx_simple(ar);
    fx_add(ar, c, "b", DT_FLOAT_VECTOR, "12x");
    refuse_new(c, "must be an integer");
    c = fx_simple(ar);
    fx_add(ar, c, "x", 99, NULL);
    refuse_new(c, "data type 99");
}

static void check(struct arena *ar, fx_coll *c, int code, const char *part)
{
    struct status st = STATUS_INIT;
    int rc = schema_check(c, &lim, ar, &st);
    if (rc != code) {
        print_error("code %d, wanted %d: %s\n", rc, code, st.msg);
    }
    assert_int_equal(rc, code);
    if (part) {
        fx_has(st.msg, part);
    }
}

/* The check does not look at them either: whatever may be created must be usable. */
static void test_schema_new_when_a_parameter_belongs_to_another_type_then_ignored(void **state)
{
    struct arena *ar = *state;
    fx_coll *c = fx_simple(ar);
    fx_field *n = fx_add(ar, c, "n", DT_INT64, "-5"); /* dim */
    fx_param(ar, n, "max_length", "many");
    fx_param(ar, n, "max_capacity", "99999999999");
    fx_param(ar, c->fields[1], "max_length", "0");
    check(ar, c, 0, NULL);
    struct schema *s = fx_schema(c);
    assert_int_equal(schema_field_by_name(s, SLICE_LIT("n"))->dim, 0);
    assert_int_equal(schema_field_by_name(s, SLICE_LIT("vec"))->dim, 4);
    schema_unref(s);
}

static void test_schema_check_when_keys_are_wrong_then_names_them(void **state)
{
    struct arena *ar = *state;
    fx_coll *c = fx_simple(ar);
    check(ar, c, 0, NULL);
    c->fields[0]->is_primary_key = false;
    check(ar, c, 1100, "primary key is not specified: invalid parameter");
    c = fx_simple(ar);
    fx_add(ar, c, "id2", DT_INT64, NULL)->is_primary_key = true;
    check(ar, c, 1100, "there are more than one primary key, field name = id, id2");
    c = fx_simple(ar);
    c->fields[0]->data_type = (Milvus__Proto__Schema__DataType)DT_FLOAT;
    check(ar, c, 1100, "the data type of primary key should be Int64 or VarChar");
    c = fx_simple(ar);
    fx_add(ar, c, "n", DT_INT64, NULL)->autoid = true;
    check(ar, c, 1100, "only primary field can speficy AutoID with true, field name = n");
    c = fx_simple(ar);
    c->fields[0]->nullable = true;
    check(ar, c, 1100, "primary field not support null");
    c = fx_simple(ar);
    with_default(ar, c->fields[0], VALUE(LONG_DATA));
    check(ar, c, 1100, "primary field not support default_value");
    c = fx_simple(ar);
    fx_add(ar, c, "n", DT_FLOAT, NULL)->is_partition_key = true;
    check(ar, c, 1100, "the data type of partition key should be Int64 or VarChar");
    c = fx_simple(ar);
    c->fields[0]->is_partition_key = true;
    check(ar, c, 1100, "the partition key field must not be primary field");
    c = fx_simple(ar);
    fx_add(ar, c, "n", DT_INT64, NULL)->is_partition_key = true;
    fx_add(ar, c, "m", DT_INT64, NULL)->is_partition_key = true;
    check(ar, c, 1100, "there are more than one partition key, field name = n, m");
    c = fx_simple(ar);
    c->fields[1]->is_clustering_key = true;
    check(ar, c, 107, "vector clustering key not allowed");
}

static void test_schema_check_when_limits_are_passed_then_names_the_limit(void **state)
{
    struct arena *ar = *state;
    static const struct {
        int type;
        const char *param, *part;
        int code;
    } one[] = {
        {DT_FLOAT_VECTOR, "1", "invalid dimension: 1. should be in range 2 ~ 32768", 1100},
        {DT_FLOAT_VECTOR, "32769",
         "invalid dimension: 32769 of field x. float vector dimension "
         "should be in range 2 ~ 32768",
         1100},
        {DT_FLOAT_VECTOR, "32768", NULL, 0},
        {DT_FLOAT_VECTOR, "\"16\"", NULL, 0},
        {DT_FLOAT_VECTOR, NULL, "dimension is not defined in field type params of field x", 1100},
        {DT_INT8_VECTOR, "-2", "should be in range 2 ~ 32768", 1100},
        {DT_BINARY_VECTOR, "12", "binary vector dimension should be multiple of 8", 1100},
        {DT_BINARY_VECTOR, "262144", NULL, 0},
        {DT_BINARY_VECTOR, "262152", "binary vector dimension should be in range 2 ~ 262144", 1100},
        {DT_VARCHAR, NULL,
         "type param(max_length) should be specified for the field(x) of "
         "collection books",
         1101},
        {DT_VARCHAR, "0", "the maximum length specified for the field(x) should be in (0, 65535]",
         1100},
        {DT_VARCHAR, "65536", "should be in (0, 65535]", 1100},
        {DT_VARCHAR, "65535", NULL, 0},
        {DT_ARRAY, NULL, "type param(max_capacity) should be specified for array field", 1101},
        {DT_ARRAY, "4097", "the maximum capacity specified for a Array should be in (0, 4096]",
         1100},
        {DT_ARRAY, "4096", NULL, 0},
        {20, NULL, "string data type not supported yet, please use VarChar type instead", 1100},
        {DT_NONE, NULL, "data type None is not valid", 1100},
        {DT_SPARSE_FLOAT_VECTOR, NULL, "SparseFloatVector", ST_UNSUPPORTED},
        {DT_GEOMETRY, NULL, "Geometry", ST_UNSUPPORTED},
        {DT_TEXT, NULL, "Text", ST_UNSUPPORTED},
        {DT_TIMESTAMPTZ, NULL, "Timestamptz", ST_UNSUPPORTED},
    };
    for (size_t i = 0; i < ARRAY_LEN(one); i++) {
        fx_coll *c = fx_simple(ar);
        fx_field *f = fx_add(ar, c, "x", one[i].type, one[i].param);
        f->element_type = (Milvus__Proto__Schema__DataType)DT_INT64;
        check(ar, c, one[i].code, one[i].part);
    }
    char names[70][8];
    fx_coll *c = fx_simple(ar);
    for (int i = 0; i < 63; i++) {
        snprintf(names[i], sizeof names[i], "f%d", i);
        fx_add(ar, c, names[i], DT_INT64, NULL);
    }
    check(ar, c, 1100, "maximum field's number should be limited to 64");
    c->n_fields--;
    check(ar, c, 0, NULL);
    c = fx_simple(ar);
    for (int i = 0; i < 4; i++) {
        fx_add(ar, c, names[i], DT_FLOAT_VECTOR, "4");
    }
    check(ar, c, 1100, "maximum vector field's number should be limited to 4");
    c = fx_simple(ar);
    c->n_fields = 1;
    check(ar, c, 1100, "schema does not contain vector field");
}

static void test_schema_check_when_names_or_flags_are_wrong_then_refuses(void **state)
{
    struct arena *ar = *state;
    fx_coll *c = fx_simple(ar);
    c->name = "1a";
    check(ar, c, 1100, "Invalid collection name: 1a. the first character of a collection name");
    c = fx_simple(ar);
    fx_add(ar, c, "vec", DT_INT64, NULL);
    check(ar, c, 1100, "duplicated field name vec found");
    c = fx_simple(ar);
    fx_add(ar, c, "in", DT_INT64, NULL);
    check(ar, c, 1701, "in is keyword in milvus");
    c = fx_simple(ar);
    fx_add(ar, c, "j", DT_JSON, NULL)->is_dynamic = true;
    check(ar, c, 1100, "cannot explicitly set a field as a dynamic field");
    c = fx_simple(ar);
    fx_field *f = fx_add(ar, c, "a", DT_ARRAY, "4");
    f->element_type = (Milvus__Proto__Schema__DataType)DT_JSON;
    check(ar, c, 1100, "element type JSON is not supported");
    c = fx_simple(ar);
    Milvus__Proto__Schema__StructArrayFieldSchema
        sub = MILVUS__PROTO__SCHEMA__STRUCT_ARRAY_FIELD_SCHEMA__INIT,
        *subs[] = {&sub};
    sub.name = "clips";
    c->struct_array_fields = subs;
    c->n_struct_array_fields = 1;
    check(ar, c, ST_UNSUPPORTED, "clips");
    c = fx_simple(ar);
    Milvus__Proto__Schema__FunctionSchema fn = MILVUS__PROTO__SCHEMA__FUNCTION_SCHEMA__INIT,
                                          *fns[] = {&fn};
    fn.name = "bm25";
    c->functions = fns;
    c->n_functions = 1;
    check(ar, c, ST_UNSUPPORTED, "bm25");
}

static void test_schema_check_when_defaults_do_not_fit_then_refuses(void **state)
{
    struct arena *ar = *state;
    fx_coll *c = fx_simple(ar);
    fx_field *f = with_default(ar, fx_add(ar, c, "v", DT_VARCHAR, "2"), VALUE(STRING_DATA));
    f->default_value->string_data = "defaultaaaaaaaaa";
    check(ar, c, 1100, "the length (16) of string exceeds max length (2)");
    f->default_value->string_data = "ok";
    check(ar, c, 0, NULL);
    f->default_value->data_case = VALUE(INT_DATA);
    check(ar, c, 1100,
          "type (VarChar) of field (v) is not equal to the type(DataType_Int) of default_value");
    c = fx_simple(ar);
    f = with_default(ar, fx_add(ar, c, "n", DT_INT8, NULL), VALUE(INT_DATA));
    f->default_value->int_data = 128;
    check(ar, c, 1100, "[128 out of range -128 <= value <= 127]");
    f->default_value->int_data = 127;
    check(ar, c, 0, NULL);
    c = fx_simple(ar);
    with_default(ar, fx_add(ar, c, "j", DT_JSON, NULL), VALUE(BYTES_DATA));
    check(ar, c, 1100, "type not support default_value, type:JSON, name:j");
    c = fx_simple(ar);
    with_default(ar, c->fields[1], VALUE(FLOAT_DATA));
    check(ar, c, 1100, "type not support default_value, type:FloatVector");
    c = fx_simple(ar);
    with_default(ar, fx_add(ar, c, "n", DT_INT8, NULL), 0);
    check(ar, c, 0, NULL);
    assert_null(c->fields[2]->default_value);
}

static void test_schema_check_when_spelling_differs_then_brings_it_into_one_form(void **state)
{
    struct arena *ar = *state;
    fx_coll *c = fx_simple(ar);
    c->autoid = true;
    fx_param(ar, c->fields[1], "mmap_enabled", "True");
    c->fields[1]->type_params[0]->value = "\"4\"";
    check(ar, c, 0, NULL);
    assert_false(c->autoid);
    assert_true(c->fields[0]->autoid);
    assert_string_equal(field_param(c->fields[1], "mmap.enabled"), "true");
    assert_string_equal(field_param(c->fields[1], "dim"), "4");
}

static void check_added(struct arena *ar, const struct schema *s, fx_field *f, int code,
                        const char *part)
{
    struct status st = STATUS_INIT;
    assert_int_equal(schema_check_added_field(s, f, &lim, ar, &st), code);
    if (part) {
        fx_has(st.msg, part);
    }
}

static void test_added_field_when_old_rows_would_lack_it_then_is_refused(void **state)
{
    struct arena *ar = *state;
    struct schema *s = fx_schema(fx_simple(ar));
    fx_coll *c = fx_coll_new(ar, "x");
    fx_field *f = fx_add(ar, c, "n", DT_INT64, NULL);
    check_added(ar, s, f, 1100, "added field must be nullable, please check it, field name = n");
    f->nullable = true;
    check_added(ar, s, f, 0, NULL);
    f->name = "vec";
    check_added(ar, s, f, 1100, "duplicated field name vec found");
    f->name = "n";
    f->nullable = false;
    with_default(ar, f, VALUE(LONG_DATA));
    check_added(ar, s, f, 0, NULL);
    f->is_partition_key = true;
    check_added(ar, s, f, 1100, "not support to add partition key field");
    f = fx_add(ar, c, "p", DT_INT64, NULL);
    f->is_primary_key = true;
    check_added(ar, s, f, 1100, "not support to add pk field");
    schema_unref(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schema_new_when_message_is_whole_then_knows_every_field),
        cmocka_unit_test(test_schema_new_when_message_is_damaged_then_says_what),
        cmocka_unit_test(test_schema_new_when_a_parameter_belongs_to_another_type_then_ignored),
        cmocka_unit_test(test_schema_check_when_keys_are_wrong_then_names_them),
        cmocka_unit_test(test_schema_check_when_limits_are_passed_then_names_the_limit),
        cmocka_unit_test(test_schema_check_when_names_or_flags_are_wrong_then_refuses),
        cmocka_unit_test(test_schema_check_when_defaults_do_not_fit_then_refuses),
        cmocka_unit_test(test_schema_check_when_spelling_differs_then_brings_it_into_one_form),
        cmocka_unit_test(test_added_field_when_old_rows_would_lack_it_then_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
