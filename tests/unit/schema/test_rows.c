/* test_rows.c - rows of requests into batches: every layout, null encoding and refusal. */
#include "schema_fixture.h"
#include "alloc_torture.h"
#include <math.h>

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

static const float vec2[8] = {1, 2, 3, 4, 5, 6, 7, 8};
static const int64_t ids2[2] = {10, 20};
static const struct rows_opts plain = {0};

static int convert(const struct schema *s, size_t n, fx_data **d, uint32_t nrows,
                   const struct rows_opts *opts, struct arena *ar, struct batch *ret,
                   struct status *st)
{
    return rows_from_pb(s, n, d, nrows, opts, ar, ret, st);
}

/* A collection of id, vec and one more field x; two rows of which only x matters. */
struct probe {
    struct arena *ar;
    fx_coll *coll;
    fx_field *f;
    struct schema *s;
    struct batch b;
    struct status st;
};

static struct probe probe_new(struct arena *ar, int type, const char *param)
{
    struct probe p = {.ar = ar, .coll = fx_simple(ar)};
    p.f = fx_add(ar, p.coll, "x", type, param);
    return p;
}

static void probe_again(struct probe *p, int type, const char *param)
{
    schema_unref(p->s);
    *p = probe_new(p->ar, type, param);
}

static int probe_run(struct probe *p, fx_data *x)
{
    fx_data *d[] = {x, fx_float_vectors(p->ar, "vec", 4, 8, vec2), fx_longs(p->ar, "id", 2, ids2)};
    schema_unref(p->s);
    p->s = fx_schema(p->coll);
    st_clear(&p->st);
    return convert(p->s, x ? 3 : 2, x ? d : d + 1, 2, &plain, p->ar, &p->b, &p->st);
}

static const struct column *probe_ok(struct probe *p, fx_data *x)
{
    if (probe_run(p, x)) {
        print_error("%s\n", p->st.msg);
        fail();
    }
    assert_int_equal(p->b.ncols, 3);
    assert_int_equal(p->b.cols[2].nrows, 2);
    assert_int_equal(p->b.cols[2].field_id, 102);
    return &p->b.cols[2];
}

static void probe_fails(struct probe *p, fx_data *x, int code, const char *part)
{
    int rc = probe_run(p, x);
    if (rc != code) {
        print_error("code %d, wanted %d: %s\n", rc, code, p->st.msg);
    }
    assert_int_equal(rc, code);
    fx_has(p->st.msg, part);
}

static void test_rows_when_layout_fits_then_borrows_from_the_message(void **state)
{
    struct arena *ar = *state;
    struct status st = STATUS_INIT;
    struct schema *s = fx_schema(fx_simple(ar));
    struct batch b;
    /* columns in any order */
    fx_data *d[] = {fx_float_vectors(ar, "vec", 4, 8, vec2), fx_longs(ar, "id", 2, ids2)};
    assert_int_equal(convert(s, 2, d, 2, &plain, ar, &b, &st), 0);
    assert_int_equal(b.nrows, 2);
    assert_int_equal(b.ncols, 2);
    assert_int_equal(b.cols[0].field_id, 100);
    assert_ptr_equal(b.cols[0].data, d[1]->scalars->long_data->data);
    assert_ptr_equal(b.cols[1].data, d[0]->vectors->float_vector->data);
    assert_null(b.cols[1].valid);
    assert_int_equal(column_i64(&b.cols[0], 1), 20);
    fx_cell(&b.cols[1], 1, vec2 + 4, 16);
    schema_unref(s);
}

static void test_rows_when_columns_do_not_match_then_names_the_field(void **state)
{
    struct arena *ar = *state;
    struct status st = STATUS_INIT;
    struct schema *s = fx_schema(fx_simple(ar));
    struct batch b = {.nrows = 77};
    fx_data *id = fx_longs(ar, "id", 2, ids2), *vec = fx_float_vectors(ar, "vec", 4, 8, vec2);
    fx_data *none[] = {id}, *twice[] = {id, vec, id};
    fx_data *unknown[] = {id, vec, fx_longs(ar, "nope", 2, ids2)};
    fx_data *dynamic[] = {id, vec, fx_jsons(ar, "$meta", 2, (const char *[]){"{}", "{}"})};
    fx_data *strings[] = {fx_strings(ar, "id", 2, (char *[]){"a", "b"}), vec};
    assert_int_equal(convert(s, 1, none, 2, &plain, ar, &b, &st), 1100);
    fx_has(st.msg, "fieldSchema(vec) has no corresponding fieldData pass in");
    assert_int_equal(convert(s, 3, twice, 2, &plain, ar, &b, &st), 1100);
    fx_has(st.msg, "duplicate data for field id");
    assert_int_equal(convert(s, 3, unknown, 2, &plain, ar, &b, &st), 1100);
    fx_has(st.msg, "fieldName nope not exist in collection schema");
    assert_int_equal(convert(s, 3, dynamic, 2, &plain, ar, &b, &st), 1100);
    fx_has(st.msg, "dynamic field is not enabled");
    assert_int_equal(convert(s, 2, strings, 2, &plain, ar, &b, &st), 1100);
    fx_has(st.msg,
           "Int64 field 'id' is illegal, array type mismatch: invalid parameter[expected=need "
           "long int array]");
    assert_int_equal(convert(s, 2, twice, 3, &plain, ar, &b, &st), 1100);
    fx_has(st.msg, "the num_rows (2) of field (id) is not equal to passed num_rows (3)");
    assert_int_equal(convert(s, 2, twice, 0, &plain, ar, &b, &st), 1100);
    assert_int_equal(b.nrows, 77);
    schema_unref(s);
}

static void test_rows_when_key_is_auto_then_is_absent_unless_allowed(void **state)
{
    struct arena *ar = *state;
    struct status st = STATUS_INIT;
    struct batch b;
    fx_coll *c = fx_simple(ar);
    c->fields[0]->autoid = true;
    struct schema *s = fx_schema(c);
    struct rows_opts upsert = {.for_upsert = true}, allow = {.allow_auto_pk = true};
    fx_data *d[] = {fx_float_vectors(ar, "vec", 4, 8, vec2), fx_longs(ar, "id", 2, ids2)};
    assert_int_equal(convert(s, 1, d, 2, &plain, ar, &b, &st), 0);
    assert_int_equal(b.ncols, 1);
    assert_int_equal(b.cols[0].field_id, 101);
    assert_int_equal(convert(s, 2, d, 2, &plain, ar, &b, &st), 1100);
    fx_has(st.msg, "can not assign primary field data when auto id enabled id");
    assert_int_equal(convert(s, 2, d, 2, &allow, ar, &b, &st), 0);
    assert_int_equal(b.ncols, 2);
    assert_int_equal(convert(s, 1, d, 2, &allow, ar, &b, &st), 0);
    assert_int_equal(b.ncols, 1);
    assert_int_equal(convert(s, 2, d, 2, &upsert, ar, &b, &st), 0);
    assert_int_equal(b.ncols, 2);
    assert_int_equal(convert(s, 1, d, 2, &upsert, ar, &b, &st), 1100);
    fx_has(st.msg, "must assign pk when upsert, primary field: id");
    schema_unref(s);
}

static void test_rows_when_partial_then_only_given_columns_come(void **state)
{
    struct arena *ar = *state;
    struct status st = STATUS_INIT;
    struct batch b;
    fx_coll *c = fx_simple(ar);
    fx_add(ar, c, "n", DT_INT32, NULL)->nullable = true;
    fx_dynamic(ar, c);
    struct schema *s = fx_schema(c);
    struct rows_opts partial = {.for_upsert = true, .partial = true};
    fx_data *d[] = {fx_longs(ar, "id", 2, ids2), fx_ints(ar, "n", 2, (int32_t[]){1, 2})};
    assert_int_equal(convert(s, 2, d, 2, &partial, ar, &b, &st), 0);
    assert_int_equal(b.ncols, 2);
    assert_int_equal(b.cols[1].field_id, 102);
    schema_unref(s);
}

static void test_rows_when_numbers_are_narrow_then_range_is_checked(void **state)
{
    struct probe p = probe_new(*state, DT_INT8, NULL);
    const struct column *c = probe_ok(&p, fx_ints(p.ar, "x", 2, (int32_t[]){-128, 127}));
    fx_cell(c, 0, "\x80", 1);
    fx_cell(c, 1, "\x7f", 1);
    probe_fails(&p, fx_ints(p.ar, "x", 2, (int32_t[]){0, 128}), 1100,
                "the 1th element (128) of field x is out of range");
    probe_again(&p, DT_INT16, NULL);
    c = probe_ok(&p, fx_ints(p.ar, "x", 2, (int32_t[]){-32768, 2}));
    fx_cell(c, 0, "\x00\x80", 2);
    probe_fails(&p, fx_ints(p.ar, "x", 2, (int32_t[]){-32769, 0}), 1100,
                "[-32769 out of range -32768 <= value <= 32767]");
    probe_again(&p, DT_INT32, NULL);
    fx_data *ints = fx_ints(p.ar, "x", 2, (int32_t[]){INT32_MIN, 2});
    c = probe_ok(&p, ints);
    assert_ptr_equal(c->data, ints->scalars->int_data->data);
    probe_again(&p, DT_BOOL, NULL);
    c = probe_ok(&p, fx_bools(p.ar, "x", 2, (protobuf_c_boolean[]){0, 5}));
    fx_cell(c, 0, "\0", 1);
    fx_cell(c, 1, "\1", 1);
    probe_again(&p, DT_DOUBLE, NULL);
    probe_ok(&p, fx_doubles(p.ar, "x", 2, (double[]){1, -1e308}));
    probe_fails(&p, fx_doubles(p.ar, "x", 2, (double[]){1, INFINITY}), 1100, "field x, row 1");
    probe_again(&p, DT_FLOAT, NULL);
    probe_fails(&p, fx_floats(p.ar, "x", 2, (float[]){NAN, 1}), 1100,
                "is not a number or infinity, field x, row 0");
    schema_unref(p.s);
}

static void test_rows_when_strings_are_given_then_bytes_are_limited(void **state)
{
    struct probe p = probe_new(*state, DT_VARCHAR, "4");
    const struct column *c = probe_ok(&p, fx_strings(p.ar, "x", 2, (char *[]){"", "\xc3\xa4hm"}));
    fx_cell(c, 0, "", 0);
    fx_cell(c, 1, "\xc3\xa4hm", 4);
    probe_fails(
        &p, fx_strings(p.ar, "x", 2, (char *[]){"ok", "\xc3\xa4hmm"}), 1100,
        "length of varchar field x exceeds max length, row number: 1, length: 5, max length: "
        "4: invalid parameter");
    probe_fails(&p, fx_strings(p.ar, "x", 2, (char *[]){"ok", "\xff"}), 1100, "not UTF-8");
    schema_unref(p.s);
}

static void test_rows_when_json_is_given_then_it_must_be_valid_and_short(void **state)
{
    struct probe p = probe_new(*state, DT_JSON, NULL);
    const struct column *c = probe_ok(&p, fx_jsons(p.ar, "x", 2, (const char *[]){"null", "[1]"}));
    fx_cell(c, 0, "null", 4);
    fx_cell(c, 1, "[1]", 3);
    assert_null(c->valid);
    probe_fails(&p, fx_jsons(p.ar, "x", 2, (const char *[]){"1", "{"}), 1100,
                "field x, row number: 1 is not valid JSON");
    char *big = arena_alloc(p.ar, 65538);
    memset(big, ' ', 65537);
    big[0] = '1';
    probe_fails(&p, fx_jsons(p.ar, "x", 2, (const char *[]){"1", big}), 1100,
                "the length (65537) of json field (x) exceeds max length (65536)");
    big[65536] = 0;
    probe_ok(&p, fx_jsons(p.ar, "x", 2, (const char *[]){"1", big}));
    schema_unref(p.s);
}

static void test_rows_when_dynamic_field_is_on_then_objects_are_wanted(void **state)
{
    struct arena *ar = *state;
    struct status st = STATUS_INIT;
    struct batch b;
    fx_coll *coll = fx_simple(ar);
    fx_dynamic(ar, coll);
    struct schema *s = fx_schema(coll);
    fx_data *d[] = {fx_longs(ar, "id", 2, ids2), fx_float_vectors(ar, "vec", 4, 8, vec2), NULL};
    assert_int_equal(convert(s, 2, d, 2, &plain, ar, &b, &st), 0);
    assert_int_equal(b.ncols, 3);
    fx_cell(&b.cols[2], 0, "{}", 2);
    fx_cell(&b.cols[2], 1, "{}", 2);
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"[]", "dynamic field must be a JSON object, row number: 1"},
        {"{\"a\":1,\"vec\":[]}", "dynamic field name cannot include the static field name: vec"},
        {"{\"v\\u0065c\":1}", "static field name: vec"},
        {"{\"$meta\":1}", "cannot set key name to: $meta"},
        {"{\"a\":}", "not valid JSON"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        d[2] = fx_jsons(ar, "$meta", 2, (const char *[]){"{\"a\":{\"vec\":1}}", bad[i].text});
        assert_int_equal(convert(s, 3, d, 2, &plain, ar, &b, &st), 1100);
        fx_has(st.msg, bad[i].part);
    }
    d[2] = fx_jsons(ar, "$meta", 2, (const char *[]){"{\"a\":{\"vec\":1}}", "{}"});
    d[2]->field_name = ""; /* some clients send no name */
    assert_int_equal(convert(s, 3, d, 2, &plain, ar, &b, &st), 0);
    fx_cell(&b.cols[2], 0, "{\"a\":{\"vec\":1}}", 15);
    schema_unref(s);
}

static void test_rows_when_vectors_are_given_then_size_and_values_are_checked(void **state)
{
    struct arena *ar = *state;
    struct probe p = probe_new(ar, DT_FLOAT_VECTOR, "4");
    float v[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    probe_ok(&p, fx_float_vectors(ar, "x", 4, 8, v));
    probe_ok(&p, fx_float_vectors(ar, "x", 0, 8, v));
    probe_fails(&p, fx_float_vectors(ar, "x", 4, 9, v), 1100,
                "the length(9) of float data should divide the dim(4)");
    probe_fails(&p, fx_float_vectors(ar, "x", 4, 4, v), 1100,
                "the num_rows (1) of field (x) is not equal to passed num_rows (2)");
    probe_fails(&p, fx_float_vectors(ar, "x", 8, 8, v), 1100,
                "the dim (8) of field data(x) is not equal to schema dim (4)");
    v[6] = -INFINITY;
    probe_fails(&p, fx_float_vectors(ar, "x", 4, 8, v), 1100,
                "is not a number or infinity, field x, row 1, component 2");
    probe_fails(&p, fx_byte_vectors(ar, "x", 4, DT_INT8_VECTOR, 8, v), 1100, "array type mismatch");
    probe_fails(&p, fx_longs(ar, "x", 2, ids2), 1100, "array type mismatch");
    probe_again(&p, DT_BINARY_VECTOR, "16");
    const struct column *c =
        probe_ok(&p, fx_byte_vectors(ar, "x", 16, DT_BINARY_VECTOR, 4, "abcd"));
    fx_cell(c, 1, "cd", 2);
    probe_fails(&p, fx_byte_vectors(ar, "x", 16, DT_BINARY_VECTOR, 3, "abc"), 1100,
                "the num(24) of all bits should divide the dim(16)");
    probe_again(&p, DT_INT8_VECTOR, "2");
    probe_ok(&p, fx_byte_vectors(ar, "x", 2, DT_INT8_VECTOR, 4, "\xff\xfe\xfd\xfc"));
    probe_fails(&p, fx_byte_vectors(ar, "x", 2, DT_INT8_VECTOR, 5, "abcde"), 1100,
                "the length(5) of int8 data should divide the dim(2)");
    schema_unref(p.s);
}

static void test_rows_when_halves_are_given_then_fp32_is_narrowed(void **state)
{
    struct arena *ar = *state;
    struct probe p = probe_new(ar, DT_FLOAT16_VECTOR, "2");
    float v[4] = {1.0f, -2.0f, 65504.0f, 5.9604645e-8f};
    const struct column *c = probe_ok(&p, fx_float_vectors(ar, "x", 2, 4, v));
    fx_cell(c, 0, "\x00\x3c\x00\xc0", 4);
    fx_cell(c, 1, "\xff\x7b\x01\x00", 4);
    v[2] = 65520.0f; /* rounds to infinity */
    probe_fails(&p, fx_float_vectors(ar, "x", 2, 4, v), 1100, "field x, row 1, component 0");
    fx_data *raw =
        fx_byte_vectors(ar, "x", 2, DT_FLOAT16_VECTOR, 8, "\x00\x3c\x00\xc0\x00\x00\x01\x00");
    c = probe_ok(&p, raw);
    assert_ptr_equal(c->data, raw->vectors->float16_vector.data);
    raw->vectors->float16_vector.data[5] = 0x7c;
    probe_fails(&p, raw, 1100, "row 1, component 0");
    probe_again(&p, DT_BFLOAT16_VECTOR, "2");
    v[2] = 1.00390625f; /* a tie between 1 and 1 + 2^-7: the even one */
    c = probe_ok(&p, fx_float_vectors(ar, "x", 2, 4, v));
    fx_cell(c, 0, "\x80\x3f\x00\xc0", 4);
    assert_memory_equal(column_cell(c, 1).p, "\x80\x3f", 2);
    raw = fx_byte_vectors(ar, "x", 2, DT_BFLOAT16_VECTOR, 8, "\x80\x3f\x00\xc0\x80\x7f\x00\x00");
    probe_fails(&p, raw, 1100, "row 1, component 0");
    schema_unref(p.s);
}

static void test_rows_when_arrays_are_given_then_capacity_and_elements_are_checked(void **state)
{
    struct arena *ar = *state;
    struct probe p = probe_new(ar, DT_ARRAY, "3");
    p.f->element_type = (Milvus__Proto__Schema__DataType)DT_INT16;
    fx_data *rows[2] = {fx_ints(ar, "", 3, (int32_t[]){1, -2, 3}),
                        fx_scalar_data(ar, "", DT_INT16)};
    const struct column *c = probe_ok(&p, fx_arrays(ar, "x", 2, rows));
    fx_cell(c, 0, "\1\0\xfe\xff\3\0", 6);
    fx_cell(c, 1, "", 0);
    rows[1] = fx_ints(ar, "", 4, (int32_t[]){1, 2, 3, 4});
    probe_fails(&p, fx_arrays(ar, "x", 2, rows), 1100,
                "the length (4) of 1th array exceeds max capacity (3)");
    rows[1] = fx_ints(ar, "", 1, (int32_t[]){40000});
    probe_fails(&p, fx_arrays(ar, "x", 2, rows), 1100, "row index: 1, array index: 0");
    rows[1] = fx_longs(ar, "", 2, ids2);
    probe_fails(&p, fx_arrays(ar, "x", 2, rows), 1100, "element type mismatch");
    probe_again(&p, DT_ARRAY, "3");
    p.f->element_type = (Milvus__Proto__Schema__DataType)DT_VARCHAR;
    fx_param(ar, p.f, "max_length", "3");
    rows[0] = fx_strings(ar, "", 2, (char *[]){"abc", "d"});
    rows[1] = fx_strings(ar, "", 0, NULL);
    c = probe_ok(&p, fx_arrays(ar, "x", 2, rows));
    fx_cell(c, 0, "\2\0\0\0\3\0\0\0\4\0\0\0abcd", 16);
    fx_cell(c, 1, "\0\0\0\0", 4);
    assert_true(array_cell_valid(DT_VARCHAR, column_cell(c, 0)));
    rows[1] = fx_strings(ar, "", 2, (char *[]){"", "abcd"});
    probe_fails(
        &p, fx_arrays(ar, "x", 2, rows), 1100,
        "length of VarChar array field \"x\" exceeds max length, row index: 1, array index: 1, "
        "length: 4, max length: 3");
    probe_again(&p, DT_ARRAY, "3");
    p.f->element_type = (Milvus__Proto__Schema__DataType)DT_FLOAT;
    rows[0] = fx_floats(ar, "", 2, (float[]){1, NAN});
    probe_fails(&p, fx_arrays(ar, "x", 2, rows), 1100, "array index: 1");
    schema_unref(p.s);
}

static void test_rows_when_values_are_null_then_both_encodings_are_understood(void **state)
{
    struct arena *ar = *state;
    struct probe p = probe_new(ar, DT_INT32, NULL);
    p.f->nullable = true;
    const struct column *c;
    for (int aligned = 0; aligned < 2; aligned++) {
        static const int32_t both[2] = {0, 7};
        c = probe_ok(
            &p, fx_valid(ar, fx_ints(ar, "x", aligned ? 2 : 1, aligned ? both : both + 1), "01"));
        assert_true(column_is_null(c, 0) && !column_is_null(c, 1));
        assert_int_equal(column_int(c, 0), 0);
        assert_int_equal(column_int(c, 1), 7);
    }
    c = probe_ok(&p, fx_valid(ar, fx_ints(ar, "x", 0, NULL), "00"));
    assert_true(column_is_null(c, 0) && column_is_null(c, 1));
    fx_data *no_payload = fx_valid(ar, fx_scalar_data(ar, "x", DT_INT32), "00");
    probe_ok(&p, no_payload);
    no_payload->field_case = 0;
    probe_ok(&p, no_payload);
    c = probe_ok(&p, fx_valid(ar, fx_ints(ar, "x", 2, (int32_t[]){1, 2}), "11"));
    assert_null(c->valid);
    c = probe_ok(&p, NULL); /* the whole column missing */
    assert_true(column_is_null(c, 1));
    probe_fails(&p, fx_valid(ar, fx_ints(ar, "x", 0, NULL), "01"), 1100,
                "the num_rows (0) of field (x) is not equal to passed num_rows (2)");
    probe_fails(&p, fx_valid(ar, fx_ints(ar, "x", 1, (int32_t[]){1}), "011"), 1100,
                "the length of valid_data of field(x) is wrong: invalid "
                "parameter[expected=2][actual=3]");
    p.f->nullable = false;
    probe_fails(&p, fx_valid(ar, fx_ints(ar, "x", 1, (int32_t[]){1}), "01"), 1100,
                "the length of valid_data of field(x) is wrong");
    probe_again(&p, DT_JSON, NULL); /* a row-aligned placeholder is not looked at */
    p.f->nullable = true;
    c = probe_ok(&p, fx_valid(ar, fx_jsons(ar, "x", 2, (const char *[]){"", "null"}), "01"));
    assert_true(column_is_null(c, 0) && !column_is_null(c, 1));
    fx_cell(c, 0, "", 0);
    fx_cell(c, 1, "null", 4);
    probe_fails(&p, fx_valid(ar, fx_jsons(ar, "x", 1, (const char *[]){"{"}), "01"), 1100,
                "row number: 1 is not valid JSON"); /* the row, not the place in the payload */
    probe_again(&p, DT_FLOAT_VECTOR, "4");
    p.f->nullable = true;
    c = probe_ok(&p, fx_valid(ar, fx_float_vectors(ar, "x", 4, 4, vec2), "01"));
    assert_true(column_is_null(c, 0));
    fx_cell(c, 0, (float[4]){0}, 16);
    fx_cell(c, 1, vec2, 16);
    schema_unref(p.s);
}

static void test_rows_when_field_has_default_then_it_replaces_null(void **state)
{
    struct arena *ar = *state;
    for (int nullable = 0; nullable < 2; nullable++) {
        struct probe p = probe_new(ar, DT_VARCHAR, "10");
        p.f->nullable = nullable;
        p.f->default_value =
            FX_NEW(ar, Milvus__Proto__Schema__ValueField, MILVUS__PROTO__SCHEMA__VALUE_FIELD__INIT);
        p.f->default_value->data_case = MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_STRING_DATA;
        p.f->default_value->string_data = "dflt";
        const struct column *c = probe_ok(&p, NULL);
        assert_null(c->valid);
        fx_cell(c, 0, "dflt", 4);
        fx_cell(c, 1, "dflt", 4);
        c = probe_ok(&p, fx_valid(ar, fx_strings(ar, "x", 1, (char *[]){"given"}), "10"));
        assert_null(c->valid);
        fx_cell(c, 0, "given", 5);
        fx_cell(c, 1, "dflt", 4);
        schema_unref(p.s);
    }
}

static void test_rows_when_memory_is_short_then_fails_cleanly(void **state)
{
    struct arena *ar = *state;
    fx_coll *coll = fx_simple(ar);
    fx_add(ar, coll, "t", DT_VARCHAR, "10");
    fx_add(ar, coll, "n", DT_INT8, NULL)->nullable = true;
    fx_dynamic(ar, coll);
    struct schema *s = fx_schema(coll);
    fx_data *d[] = {fx_longs(ar, "id", 2, ids2), fx_float_vectors(ar, "vec", 4, 8, vec2),
                    fx_strings(ar, "t", 2, (char *[]){"a", "b"}),
                    fx_valid(ar, fx_ints(ar, "n", 1, (int32_t[]){1}), "01"),
                    fx_jsons(ar, "$meta", 2, (const char *[]){"{\"\\u0061\":1}", "{}"})};
    size_t limit = 16;
    int rc;
    do {
        struct status st = STATUS_INIT;
        struct batch b = {.nrows = 77};
        struct arena *small = arena_new(limit);
        rc = convert(s, 5, d, 2, &plain, small, &b, &st);
        assert_true(rc == 0 || rc == ST_NO_MEMORY);
        assert_int_equal(b.nrows, rc ? 77 : 2);
        arena_free(small);
        limit += 16;
    } while (rc && limit < 100000);
    assert_int_equal(rc, 0);
    schema_unref(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_when_layout_fits_then_borrows_from_the_message),
        cmocka_unit_test(test_rows_when_columns_do_not_match_then_names_the_field),
        cmocka_unit_test(test_rows_when_key_is_auto_then_is_absent_unless_allowed),
        cmocka_unit_test(test_rows_when_partial_then_only_given_columns_come),
        cmocka_unit_test(test_rows_when_numbers_are_narrow_then_range_is_checked),
        cmocka_unit_test(test_rows_when_strings_are_given_then_bytes_are_limited),
        cmocka_unit_test(test_rows_when_json_is_given_then_it_must_be_valid_and_short),
        cmocka_unit_test(test_rows_when_dynamic_field_is_on_then_objects_are_wanted),
        cmocka_unit_test(test_rows_when_vectors_are_given_then_size_and_values_are_checked),
        cmocka_unit_test(test_rows_when_halves_are_given_then_fp32_is_narrowed),
        cmocka_unit_test(test_rows_when_arrays_are_given_then_capacity_and_elements_are_checked),
        cmocka_unit_test(test_rows_when_values_are_null_then_both_encodings_are_understood),
        cmocka_unit_test(test_rows_when_field_has_default_then_it_replaces_null),
        cmocka_unit_test(test_rows_when_memory_is_short_then_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
