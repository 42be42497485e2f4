/* test_replies.c - columns into responses, ids both ways, and search input. */
#include "schema_fixture.h"
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

/* Rows given, stored and returned: what a client sent comes back, in the response's layout. */
struct trip {
    struct arena *ar;
    struct schema *s;
    struct column c;
};

static struct trip trip_new(struct arena *ar, int type, int elem, const char *param, fx_data *x,
                            uint32_t nrows)
{
    struct status st = STATUS_INIT;
    struct trip t = {.ar = ar};
    struct batch b;
    struct rows_opts partial = {.partial = true};
    fx_coll *coll = fx_simple(ar);
    fx_field *f = fx_add(ar, coll, "x", type, param);
    f->element_type = (Milvus__Proto__Schema__DataType)elem;
    f->nullable = x->n_valid_data != 0;
    if (elem == DT_VARCHAR) {
        fx_param(ar, f, "max_length", "100");
    }
    t.s = fx_schema(coll);
    if (rows_from_pb(t.s, 1, &x, nrows, &partial, ar, &b, &st)) {
        fail_msg("%s", st.msg);
    }
    t.c = b.cols[0];
    return t;
}

static fx_data *trip_out(const struct trip *t, const uint32_t *rows, uint32_t n)
{
    fx_data *d = field_data_from_column(&t->s->fields[2], &t->c, rows, n, t->ar);
    assert_non_null(d);
    assert_string_equal(d->field_name, "x");
    assert_int_equal(d->field_id, 102);
    assert_int_equal((int)d->type, t->c.type);
    return d;
}

static const uint32_t back[] = {2, 0};

static void test_reply_when_numbers_are_picked_then_rows_follow(void **state)
{
    struct arena *ar = *state;
    struct trip t = trip_new(ar, DT_INT64, 0, NULL, fx_longs(ar, "x", 3, (int64_t[]){1, 2, 3}), 3);
    fx_data *d = trip_out(&t, back, 2);
    assert_int_equal(d->n_valid_data, 0);
    assert_int_equal(d->scalars->long_data->n_data, 2);
    assert_int_equal(d->scalars->long_data->data[0], 3);
    d = trip_out(&t, NULL, 0);
    assert_int_equal(d->scalars->long_data->n_data, 3);
    assert_ptr_equal(d->scalars->long_data->data, t.c.data);
    d = trip_out(&t, back, 0);
    assert_int_equal(d->scalars->long_data->n_data, 0);
    schema_unref(t.s);
    t = trip_new(ar, DT_INT8, 0, NULL, fx_ints(ar, "x", 3, (int32_t[]){-1, 2, 3}), 3);
    assert_int_equal(trip_out(&t, back, 2)->scalars->int_data->data[1], -1);
    schema_unref(t.s);
    t = trip_new(ar, DT_BOOL, 0, NULL, fx_bools(ar, "x", 3, (protobuf_c_boolean[]){1, 0, 0}), 3);
    assert_int_equal(trip_out(&t, back, 2)->scalars->bool_data->data[1], 1);
    schema_unref(t.s);
    t = trip_new(ar, DT_FLOAT, 0, NULL, fx_floats(ar, "x", 3, (float[]){1, 0, 9}), 3);
    assert_true(trip_out(&t, back, 2)->scalars->float_data->data[0] == 9);
    schema_unref(t.s);
    t = trip_new(ar, DT_DOUBLE, 0, NULL, fx_doubles(ar, "x", 3, (double[]){1, 0, 9}), 3);
    assert_true(trip_out(&t, back, 2)->scalars->double_data->data[0] == 9);
    schema_unref(t.s);
}

static void test_reply_when_scalars_are_null_then_rows_stay_aligned(void **state)
{
    struct arena *ar = *state;
    fx_data *x = fx_valid(ar, fx_strings(ar, "x", 2, (char *[]){"a", "ccc"}), "101");
    struct trip t = trip_new(ar, DT_VARCHAR, 0, "10", x, 3);
    fx_data *d = trip_out(&t, NULL, 0);
    assert_int_equal(d->n_valid_data, 3);
    assert_int_equal(d->valid_data[1], 0);
    assert_int_equal(d->scalars->string_data->n_data, 3);
    assert_string_equal(d->scalars->string_data->data[1], "");
    assert_string_equal(d->scalars->string_data->data[2], "ccc");
    schema_unref(t.s);
    x = fx_valid(ar, fx_jsons(ar, "x", 2, (const char *[]){"1", "{}"}), "011");
    t = trip_new(ar, DT_JSON, 0, NULL, x, 3);
    d = trip_out(&t, back, 2);
    assert_int_equal(d->scalars->json_data->n_data, 2);
    assert_int_equal(d->scalars->json_data->data[0].len, 2);
    assert_int_equal(d->scalars->json_data->data[1].len, 0);
    assert_int_equal(d->valid_data[1], 0);
    schema_unref(t.s);
    x = fx_valid(ar, fx_longs(ar, "x", 3, (int64_t[]){1, 2, 3}), "111");
    t = trip_new(ar, DT_INT64, 0, NULL, x, 3); /* nullable without nulls */
    d = trip_out(&t, NULL, 0);
    assert_int_equal(d->n_valid_data, 3);
    assert_int_equal(d->valid_data[0], 1);
    schema_unref(t.s);
}

static void test_reply_when_arrays_are_stored_then_elements_come_back(void **state)
{
    struct arena *ar = *state;
    static const struct {
        int elem;
    } kinds[] = {{DT_BOOL},  {DT_INT8},   {DT_INT32},  {DT_INT64},
                 {DT_FLOAT}, {DT_DOUBLE}, {DT_VARCHAR}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        fx_data *rows[3];
        for (size_t r = 0; r < 3; r++) {
            size_t n = r == 1 ? 0 : r + 1; /* 1, 0 and 3 elements: 8-byte ones lose alignment */
            switch (kinds[i].elem) {
            case DT_BOOL:
                rows[r] = fx_bools(ar, "", n, (protobuf_c_boolean[]){1, 0, 1});
                break;
            case DT_INT64:
                rows[r] = fx_longs(ar, "", n, (int64_t[]){1, -2, 3});
                break;
            case DT_FLOAT:
                rows[r] = fx_floats(ar, "", n, (float[]){1, -2, 3});
                break;
            case DT_DOUBLE:
                rows[r] = fx_doubles(ar, "", n, (double[]){1, -2, 3});
                break;
            case DT_VARCHAR:
                rows[r] = fx_strings(ar, "", n, (char *[]){"one", "", "three"});
                break;
            default:
                rows[r] = fx_ints(ar, "", n, (int32_t[]){1, -2, 3});
            }
        }
        struct trip t = trip_new(ar, DT_ARRAY, kinds[i].elem, "3", fx_arrays(ar, "x", 3, rows), 3);
        fx_data *d = trip_out(&t, back, 2);
        assert_int_equal(d->scalars->array_data->n_data, 2);
        assert_int_equal((int)d->scalars->array_data->element_type, kinds[i].elem);
        fx_scalars *three = d->scalars->array_data->data[0], *sent = rows[2]->scalars;
        assert_int_equal(three->data_case, sent->data_case);
        switch (kinds[i].elem) {
        case DT_VARCHAR:
            assert_int_equal(three->string_data->n_data, 3);
            assert_string_equal(three->string_data->data[0], "one");
            assert_string_equal(three->string_data->data[2], "three");
            break;
        case DT_INT64:
        case DT_DOUBLE:
            assert_int_equal(three->long_data->n_data, 3);
            assert_memory_equal(three->long_data->data, sent->long_data->data, 24);
            break;
        default:
            assert_int_equal(three->int_data->n_data, 3);
            assert_memory_equal(three->int_data->data, sent->int_data->data, 12);
        }
        schema_unref(t.s);
    }
}

static void test_reply_when_vectors_are_null_then_they_are_left_out(void **state)
{
    struct arena *ar = *state;
    float v[4] = {1, 2, 3, 4};
    struct trip t = trip_new(ar, DT_FLOAT_VECTOR, 0, "2",
                             fx_valid(ar, fx_float_vectors(ar, "x", 2, 4, v), "101"), 3);
    fx_data *d = trip_out(&t, NULL, 0);
    assert_int_equal(d->vectors->dim, 2);
    assert_int_equal(d->vectors->float_vector->n_data, 4);
    assert_memory_equal(d->vectors->float_vector->data, v, 16);
    assert_int_equal(d->n_valid_data, 3);
    assert_int_equal(d->valid_data[1], 0);
    d = trip_out(&t, (uint32_t[]){1, 2}, 2);
    assert_int_equal(d->vectors->float_vector->n_data, 2);
    assert_memory_equal(d->vectors->float_vector->data, v + 2, 8);
    schema_unref(t.s);
    static const int bytes[] = {DT_BINARY_VECTOR, DT_INT8_VECTOR, DT_FLOAT16_VECTOR,
                                DT_BFLOAT16_VECTOR};
    for (size_t i = 0; i < ARRAY_LEN(bytes); i++) {
        size_t w = dtype_width((enum dtype)bytes[i], 8);
        t = trip_new(ar, bytes[i], 0, "8",
                     fx_byte_vectors(ar, "x", 8, bytes[i], 3 * w,
                                     "abcdefghijklmnopqrstuvwxyzABCDEFGHI"
                                     "JKLMNOPQRSTUVWXYZ"),
                     3);
        d = trip_out(&t, NULL, 0);
        assert_ptr_equal(d->vectors->binary_vector.data, t.c.data);
        assert_int_equal(d->vectors->binary_vector.len, 3 * w);
        d = trip_out(&t, back, 2);
        assert_int_equal(d->vectors->binary_vector.len, 2 * w);
        assert_memory_equal(d->vectors->binary_vector.data, t.c.data + 2 * w, w);
        schema_unref(t.s);
    }
}

static void test_reply_when_sparse_or_vector_arrays_then_layout_is_the_apis(void **state)
{
    struct arena *ar = *state;
    struct field f = {.id = 5, .name = "s", .type = DT_SPARSE_FLOAT_VECTOR, .nullable = true};
    struct slice refs[3] = {SLICE_LIT("\7\0\0\0\0\0\0\0"), {NULL, 0}, {NULL, 0}};
    uint64_t valid = 5;
    struct column c = {.field_id = 5, .type = f.type, .nrows = 3, .refs = refs, .valid = &valid};
    fx_data *d = field_data_from_column(&f, &c, NULL, 0, ar);
    assert_int_equal(d->vectors->sparse_float_vector->n_contents, 2);
    assert_int_equal(d->vectors->sparse_float_vector->dim, 8);
    assert_int_equal(d->vectors->sparse_float_vector->contents[1].len, 0);
    f = (struct field){
        .id = 5, .name = "s", .type = DT_ARRAY_OF_VECTOR, .elem = DT_INT8_VECTOR, .dim = 2};
    refs[0] = SLICE_LIT("abcd");
    c = (struct column){.type = f.type, .elem = f.elem, .dim = 2, .nrows = 2, .refs = refs};
    d = field_data_from_column(&f, &c, NULL, 0, ar);
    assert_int_equal(d->vectors->vector_array->n_data, 2);
    assert_int_equal(d->vectors->vector_array->data[0]->int8_vector.len, 4);
    assert_int_equal(d->vectors->vector_array->data[1]->int8_vector.len, 0);
}

static void test_ids_when_sent_and_returned_then_keys_are_the_same(void **state)
{
    struct arena *ar = *state;
    struct status st = STATUS_INIT;
    struct column c, c2;
    int64_t keys[] = {5, 6, 7};
    struct schema *ints = fx_schema(fx_simple(ar));
    fx_coll *coll = fx_simple(ar);
    coll->fields[0]->data_type = (Milvus__Proto__Schema__DataType)DT_VARCHAR;
    fx_param(ar, coll->fields[0], "max_length", "10");
    struct schema *strings = fx_schema(coll);
    struct column pk = {
        .field_id = 100, .type = DT_INT64, .width = 8, .nrows = 3, .data = (void *)keys};
    Milvus__Proto__Schema__IDs *ids = ids_from_column(&pk, back, 2, ar);
    assert_int_equal(ids->int_id->n_data, 2);
    assert_int_equal(ids->int_id->data[0], 7);
    assert_int_equal(ids_to_column(ints, ids, ar, &c, &st), 0);
    assert_int_equal(c.nrows, 2);
    assert_int_equal(c.field_id, 100);
    assert_int_equal(column_i64(&c, 1), 5);
    assert_int_equal(ids_to_column(strings, ids, ar, &c, &st), 1100);
    fx_has(st.msg, "primary key id is VarChar");
    struct slice refs[3] = {SLICE_LIT("a"), SLICE_LIT(""), SLICE_LIT("ccc")};
    pk = (struct column){.field_id = 100, .type = DT_VARCHAR, .nrows = 3, .refs = refs};
    ids = ids_from_column(&pk, NULL, 0, ar);
    assert_int_equal(ids->str_id->n_data, 3);
    assert_int_equal(ids_to_column(strings, ids, ar, &c2, &st), 0);
    assert_true(slice_is(column_cell(&c2, 1), ""));
    assert_true(slice_is(column_cell(&c2, 2), "ccc"));
    ids->id_field_case = 0;
    assert_int_equal(ids_to_column(ints, ids, ar, &c, &st), 0);
    assert_int_equal(c.nrows, 0);
    schema_unref(ints);
    schema_unref(strings);
}

static void test_reply_when_memory_is_short_then_null(void **state)
{
    struct arena *ar = *state;
    fx_data *rows[2] = {fx_strings(ar, "", 2, (char *[]){"one", "two"}), fx_longs(ar, "", 0, NULL)};
    rows[1] = rows[0];
    struct trip t = trip_new(ar, DT_ARRAY, DT_VARCHAR, "3", fx_arrays(ar, "x", 2, rows), 2);
    fx_data *d = NULL;
    size_t limit = 0;
    while (!d && limit < 10000) {
        limit += 16;
        struct arena *small = arena_new(limit);
        d = field_data_from_column(&t.s->fields[2], &t.c, back + 1, 1, small);
        arena_free(small);
    }
    assert_true(limit > 64 && limit < 10000);
    schema_unref(t.s);
}

/* ---- Search input */

static int queries(const struct field *f, int type, size_t n, const ProtobufCBinaryData *v,
                   struct arena *ar, struct slice *ret, struct status *st)
{
    uint32_t nq = 0;
    int rc = queries_from_placeholder(f, type, n, v, ar, ret, &nq, st);
    assert_int_equal(nq, rc ? 0 : n);
    return rc;
}

static void test_placeholder_when_sizes_fit_then_queries_lie_side_by_side(void **state)
{
    struct arena *ar = *state;
    struct status st = STATUS_INIT;
    struct slice out;
    float a[2] = {1, 2}, b[2] = {-1, 0.5f};
    ProtobufCBinaryData v[2] = {{8, (uint8_t *)a}, {8, (uint8_t *)b}};
    struct field f = {.name = "vec", .type = DT_FLOAT_VECTOR, .dim = 2};
    assert_int_equal(queries(&f, 101, 1, v, ar, &out, &st), 0);
    assert_ptr_equal(out.p, a);
    assert_int_equal(queries(&f, 101, 2, v, ar, &out, &st), 0);
    assert_int_equal(out.n, 16);
    assert_memory_equal(out.p + 8, b, 8);
    f.type = DT_FLOAT16_VECTOR; /* fp32 queries are narrowed */
    assert_int_equal(queries(&f, 101, 2, v, ar, &out, &st), 0);
    assert_int_equal(out.n, 8);
    assert_memory_equal(out.p, "\x00\x3c\x00\x40\x00\xbc\x00\x38", 8);
    f.type = DT_BFLOAT16_VECTOR;
    assert_int_equal(queries(&f, 101, 1, v, ar, &out, &st), 0);
    assert_memory_equal(out.p, "\x80\x3f\x00\x40", 4);
    f.type = DT_BINARY_VECTOR;
    f.dim = 16;
    v[0].len = 2;
    assert_int_equal(queries(&f, 100, 1, v, ar, &out, &st), 0);
}

static void test_placeholder_when_input_is_wrong_then_says_how(void **state)
{
    struct arena *ar = *state;
    struct status st = STATUS_INIT;
    struct slice out;
    float a[2] = {1, NAN};
    ProtobufCBinaryData v[1] = {{8, (uint8_t *)a}};
    struct field f = {.name = "vec", .type = DT_FLOAT_VECTOR, .dim = 2};
    assert_int_equal(queries(&f, 101, 1, v, ar, &out, &st), 1100);
    fx_has(st.msg, "field vec, query 0, component 1");
    v[0].len = 4;
    assert_int_equal(queries(&f, 101, 1, v, ar, &out, &st), 1100);
    fx_has(st.msg, "vector dimension mismatch, expected vector size(byte) 8, actual 4");
    assert_int_equal(queries(&f, 101, 0, v, ar, &out, &st), 1100);
    fx_has(st.msg, "nq (number of search vector per search request) should be in range [1, 16384]");
    assert_int_equal(queries(&f, 101, 16385, v, ar, &out, &st), 1100);
    assert_int_equal(queries(&f, 102, 1, v, ar, &out, &st), 1100);
    fx_has(st.msg,
           "vector type must be the same, field [vec] - type VECTOR_FLOAT, search info type "
           "VECTOR_FLOAT16");
    assert_int_equal(queries(&f, 21, 1, v, ar, &out, &st), 1100);
    assert_int_equal(queries(&f, 301, 1, v, ar, &out, &st), ST_UNSUPPORTED);
    f.type = DT_SPARSE_FLOAT_VECTOR;
    assert_int_equal(queries(&f, 104, 1, v, ar, &out, &st), ST_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reply_when_numbers_are_picked_then_rows_follow),
        cmocka_unit_test(test_reply_when_scalars_are_null_then_rows_stay_aligned),
        cmocka_unit_test(test_reply_when_arrays_are_stored_then_elements_come_back),
        cmocka_unit_test(test_reply_when_vectors_are_null_then_they_are_left_out),
        cmocka_unit_test(test_reply_when_sparse_or_vector_arrays_then_layout_is_the_apis),
        cmocka_unit_test(test_ids_when_sent_and_returned_then_keys_are_the_same),
        cmocka_unit_test(test_reply_when_memory_is_short_then_null),
        cmocka_unit_test(test_placeholder_when_sizes_fit_then_queries_lie_side_by_side),
        cmocka_unit_test(test_placeholder_when_input_is_wrong_then_says_how),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
