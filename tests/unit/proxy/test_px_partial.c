/* test_px_partial.c - given columns laid over stored rows. */
#include "px_rows_fixture.h"
#include "proxy/px_partial.h"

enum { ID = 100, X, T, A, W, D, META };

struct pt {
    struct rw rw;
    struct schema *s;
    enum px_field_op ops[8];
};

static void pt_start(struct pt *pt)
{
    Milvus__Proto__Schema__CollectionSchema pb = MILVUS__PROTO__SCHEMA__COLLECTION_SCHEMA__INIT;
    Milvus__Proto__Schema__ValueField seven = MILVUS__PROTO__SCHEMA__VALUE_FIELD__INIT;
    static const struct {
        const char *name;
        int type;
    } fields[] = { { "id", DT_INT64 },  { "x", DT_INT64 },  { "t", DT_VARCHAR }, { "a", DT_ARRAY },
                   { "w", DT_ARRAY }, { "d", DT_INT64 }, { "$meta", DT_JSON } };
    struct status st = STATUS_INIT;

    *pt = (struct pt){ 0 };
    rw_start(&pt->rw, 1, 1, false);
    struct arena *ar = pt->rw.fx.ar;
    pb.name = "c";
    pb.n_fields = ARRAY_LEN(fields);
    pb.fields = arena_alloc(ar, pb.n_fields * sizeof pb.fields[0]);
    for (size_t i = 0; i < pb.n_fields; i++) {
        pb.fields[i] = fx_field(ar, ID + (int64_t)i, fields[i].name, fields[i].type);
    }
    pb.fields[0]->is_primary_key = true;
    pb.fields[T - ID]->nullable = true;
    fx_param(ar, pb.fields[T - ID], "max_length", "64");
    for (int i = A; i <= W; i++) {
        pb.fields[i - ID]->nullable = true;
        pb.fields[i - ID]->element_type = i == A ? MILVUS__PROTO__SCHEMA__DATA_TYPE__Int64
                                                 : MILVUS__PROTO__SCHEMA__DATA_TYPE__VarChar;
        fx_param(ar, pb.fields[i - ID], "max_capacity", "3");
        fx_param(ar, pb.fields[i - ID], "max_length", "64");
    }
    seven.data_case = MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_LONG_DATA;
    seven.long_data = 7;
    pb.fields[D - ID]->default_value = &seven;
    pb.fields[META - ID]->is_dynamic = true;
    pb.enable_dynamic_field = true;
    ASSERT_OK(schema_new(&pb, &pt->s, &st));
}

static void pt_stop(struct pt *pt)
{
    schema_unref(pt->s);
    rw_stop(&pt->rw);
}

/* One column; cells of n strings: a number for Int64, text for the others; NULL is null. For Array
 * of VarChar one element each character, for Array of Int64 its value as a digit. */
static struct column col(struct pt *pt, int id, size_t n, const char *const *cells)
{
    const struct field *f = schema_field(pt->s, id);
    struct column_builder *cb =
        column_builder_new(pt->rw.fx.ar, id, f->type, f->elem, f->dim, (uint32_t)n);
    struct column c;

    for (size_t i = 0; i < n; i++) {
        struct buf b;
        buf_init(&b, 4096);
        size_t len = cells[i] ? strlen(cells[i]) : 0;
        if (id == A) {
            for (size_t k = 0; k < len; k++) {
                buf_put_u64(&b, (uint64_t)(cells[i][k] - '0'));
            }
        } else if (id == W) {
            buf_put_u32(&b, (uint32_t)len);
            for (size_t k = 0; k < len; k++) {
                buf_put_u32(&b, (uint32_t)k + 1);
            }
            buf_put(&b, cells[i], len);
        } else if (f->type == DT_INT64) {
            buf_put_u64(&b, (uint64_t)atoll(cells[i] ? cells[i] : "0"));
        } else {
            buf_put(&b, cells[i], len);
        }
        assert_true(cells[i] ? column_builder_add(cb, buf_slice(&b)) : column_builder_null(cb));
        buf_done(&b);
    }
    column_builder_finish(cb, &c);
    return c;
}

#define CELLS(...) (const char *const[]){ __VA_ARGS__ }

static void expect_col(struct pt *pt, const struct batch *b, int id, size_t n,
                       const char *const *cells)
{
    struct column want = col(pt, id, n, cells);
    const struct column *got = batch_column(b, id);

    assert_non_null(got);
    assert_int_equal(got->nrows, n);
    for (uint32_t i = 0; i < n; i++) {
        struct slice g = column_cell(got, i), w = column_cell(&want, i);
        assert_int_equal(column_is_null(got, i), cells[i] == NULL);
        if (cells[i] && !slice_eq(g, w)) {
            fail_msg("field %d row %u: %.*s, not %s", id, i, SLICE_ARG(g), cells[i]);
        }
    }
}

/* Stored: keys 1, 2, 3. */
static struct batch stored_rows(struct pt *pt)
{
    struct column *c = arena_alloc(pt->rw.fx.ar, 7 * sizeof *c);

    c[0] = col(pt, ID, 3, CELLS("1", "2", "3"));
    c[1] = col(pt, X, 3, CELLS("10", "20", "30"));
    c[2] = col(pt, T, 3, CELLS("one", NULL, "three"));
    c[3] = col(pt, A, 3, CELLS("12", NULL, "1"));
    c[4] = col(pt, W, 3, CELLS("ab", "a", ""));
    c[5] = col(pt, D, 3, CELLS("1", "2", "3"));
    c[6] = col(pt, META, 3, CELLS("{\"a\":1,\"b\":{\"c\":2}}", "{}", "{\"q\\\"\":3}"));
    return (struct batch){ 3, 7, c };
}

static void test_given_columns_win_and_the_rest_stays(void **state)
{
    struct status st = STATUS_INIT;
    struct batch ret;
    struct pt pt;

    (void)state;
    pt_start(&pt);
    struct column given[] = { col(&pt, ID, 2, CELLS("3", "1")), col(&pt, X, 2, CELLS("33", "11")) };
    struct batch g = { 2, 2, given }, stored = stored_rows(&pt);
    ASSERT_OK(px_partial_merge(pt.rw.pc, pt.s, &g, pt.ops, &stored, (uint32_t[]){ 2, 0 }, &ret,
                               &st));
    assert_int_equal(ret.ncols, 7);
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(ret.cols[i].field_id, ID + i);
    }
    expect_col(&pt, &ret, ID, 2, CELLS("3", "1"));
    expect_col(&pt, &ret, X, 2, CELLS("33", "11"));
    expect_col(&pt, &ret, T, 2, CELLS("three", "one"));
    expect_col(&pt, &ret, A, 2, CELLS("1", "12"));
    expect_col(&pt, &ret, W, 2, CELLS("", "ab"));
    expect_col(&pt, &ret, D, 2, CELLS("3", "1"));
    expect_col(&pt, &ret, META, 2, CELLS("{\"q\\\"\":3}", "{\"a\":1,\"b\":{\"c\":2}}"));
    pt_stop(&pt);
}

static void test_dynamic_objects_are_joined_key_by_key(void **state)
{
    struct status st = STATUS_INIT;
    struct batch ret;
    struct pt pt;

    (void)state;
    pt_start(&pt);
    struct column given[] = { col(&pt, ID, 4, CELLS("1", "2", "3", "9")),
                              col(&pt, X, 4, CELLS("0", "0", "0", "0")),
                              col(&pt, META, 4, CELLS("{\"b\":{\"d\":4},\"n\":null}", "{}",
                                                      "{\"q\\u0022\":5, \"z\":[1,2]}",
                                                      "{\"k\":1}")) };
    struct batch g = { 4, 3, given }, stored = stored_rows(&pt);
    ASSERT_OK(px_partial_merge(pt.rw.pc, pt.s, &g, pt.ops, &stored,
                               (uint32_t[]){ 0, 1, 2, PX_NO_ROW }, &ret, &st));
    expect_col(&pt, &ret, META, 4, CELLS("{\"a\":1,\"b\":{\"d\":4},\"n\":null}", "{}",
                                         "{\"q\\u0022\":5,\"z\":[1,2]}", "{\"k\":1}"));
    pt_stop(&pt);
}

static void test_a_new_key_gets_defaults_or_is_refused(void **state)
{
    struct status st = STATUS_INIT;
    struct batch ret = { 0 };
    struct pt pt;

    (void)state;
    pt_start(&pt);
    struct column given[] = { col(&pt, ID, 2, CELLS("1", "9")), col(&pt, X, 2, CELLS("5", "6")) };
    struct batch g = { 2, 2, given }, stored = stored_rows(&pt);
    uint32_t at[] = { 0, PX_NO_ROW };
    ASSERT_OK(px_partial_merge(pt.rw.pc, pt.s, &g, pt.ops, &stored, at, &ret, &st));
    expect_col(&pt, &ret, T, 2, CELLS("one", NULL));
    expect_col(&pt, &ret, D, 2, CELLS("1", "7"));
    expect_col(&pt, &ret, META, 2, CELLS("{\"a\":1,\"b\":{\"c\":2}}", "{}"));
    g.ncols = 1; /* without x, which has no default */
    ret = (struct batch){ 0 };
    assert_int_equal(px_partial_merge(pt.rw.pc, pt.s, &g, pt.ops, &stored, at, &ret, &st), 1100);
    assert_non_null(strstr(st.msg, "fieldSchema(x) has no corresponding fieldData pass in"));
    assert_int_equal(ret.nrows, 0);
    pt_stop(&pt);
}

static void test_array_operations(void **state)
{
    static const struct {
        enum px_field_op op;
        int id;
        const char *given[4], *want[4];
    } rows[] = {
        /* rows 1, 2, 3 and a new one */
        { PX_ARRAY_APPEND, A, { "3", "3", "11", "9" }, { "123", "3", "111", "9" } },
        { PX_ARRAY_REMOVE, A, { "19", "3", "1", "9" }, { "2", "", "", "" } },
        { PX_ARRAY_APPEND, A, { NULL, NULL, "", NULL }, { "12", NULL, "1", NULL } },
        { PX_ARRAY_APPEND, W, { "c", "bc", "xyz", "q" }, { "abc", "abc", "xyz", "q" } },
        { PX_ARRAY_REMOVE, W, { "a", "a", "a", "q" }, { "b", "", "", "" } },
    };
    struct pt pt;

    (void)state;
    pt_start(&pt);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct status st = STATUS_INIT;
        struct batch ret;
        struct column given[] = { col(&pt, ID, 4, CELLS("1", "2", "3", "9")),
                                  col(&pt, X, 4, CELLS("1", "1", "1", "1")),
                                  col(&pt, rows[i].id, 4, rows[i].given) };
        struct batch g = { 4, 3, given }, stored = stored_rows(&pt);
        memset(pt.ops, 0, sizeof pt.ops);
        pt.ops[rows[i].id - ID] = rows[i].op;
        ASSERT_OK(px_partial_merge(pt.rw.pc, pt.s, &g, pt.ops, &stored,
                                   (uint32_t[]){ 0, 1, 2, PX_NO_ROW }, &ret, &st));
        expect_col(&pt, &ret, rows[i].id, 4, rows[i].want);
    }
    pt_stop(&pt);
}

static void test_array_operations_that_are_refused(void **state)
{
    Milvus__Proto__Schema__FieldPartialUpdateOp op =
        MILVUS__PROTO__SCHEMA__FIELD_PARTIAL_UPDATE_OP__INIT;
    Milvus__Proto__Schema__FieldPartialUpdateOp *ops[] = { &op };
    struct status st = STATUS_INIT;
    enum px_field_op *of;
    struct batch ret;
    struct pt pt;

    (void)state;
    pt_start(&pt);
    struct column given[] = { col(&pt, ID, 1, CELLS("1")), col(&pt, A, 1, CELLS("34")) };
    struct batch g = { 1, 2, given }, stored = stored_rows(&pt);
    op.field_name = "a";
    op.op = MILVUS__PROTO__SCHEMA__FIELD_PARTIAL_UPDATE_OP__OP_TYPE__ARRAY_APPEND;
    ASSERT_OK(px_partial_ops(pt.rw.pc, pt.s, 1, ops, &of, &st));
    assert_int_equal(of[A - ID], PX_ARRAY_APPEND);
    assert_int_equal(px_partial_merge(pt.rw.pc, pt.s, &g, of, &stored, (uint32_t[]){ 0 }, &ret,
                                      &st), 1100);
    assert_non_null(strstr(st.msg, "length (4) of the array exceeds max capacity (3), field a"));
    g.ncols = 1; /* named, but not given */
    assert_int_equal(px_partial_merge(pt.rw.pc, pt.s, &g, of, &stored, (uint32_t[]){ 0 }, &ret,
                                      &st), 1100);
    assert_non_null(strstr(st.msg, "field_ops: field a has no corresponding fieldData"));
    op.field_name = "x";
    assert_int_equal(px_partial_ops(pt.rw.pc, pt.s, 1, ops, &of, &st), 1100);
    assert_non_null(strstr(st.msg, "field x is of type Int64"));
    op.field_name = "nope";
    assert_int_equal(px_partial_ops(pt.rw.pc, pt.s, 1, ops, &of, &st), 1100);
    pt_stop(&pt);
}

/* ---- rows by key ---- */

static void test_fetch_finds_every_key_as_often_as_it_is_named(void **state)
{
    static const int64_t keys[] = { 7, 3, 7, 99, 0, 9 };
    int64_t field = 102;
    struct status st = STATUS_INIT;
    struct batch rows;
    uint32_t *at;

    (void)state;
    for (size_t shards = 1; shards <= 3; shards += 2) {
        struct rw rw;
        rw_start(&rw, shards, 1, false);
        rw.nrows = 10;
        struct column pks = { .field_id = 100, .type = DT_INT64, .nrows = 6, .width = 8,
                              .data = (const uint8_t *)keys };
        struct px_fetch f = { .pks = &pks, .field_ids = &field, .nfields = 1,
                              .max_bytes = 1 << 20 };
        ASSERT_OK(px_fetch(rw.pc, rw_coll(&rw), &f, &rows, &at, &st));
        assert_int_equal(rows.nrows, 4);
        for (size_t i = 0; i < 6; i++) {
            if (keys[i] == 99) {
                assert_int_equal(at[i], PX_NO_ROW);
            } else {
                assert_int_equal(column_i64(batch_column(&rows, 100), at[i]), keys[i]);
            }
        }
        rw_stop(&rw);
    }
}

static void test_keys_ask_only_their_shards(void **state)
{
    static const int64_t key = 7;
    int64_t field = 102;
    struct status st = STATUS_INIT;
    struct batch rows;
    uint32_t *at;
    struct rw rw;

    (void)state;
    rw_start(&rw, 16, 1, false);
    rw.nrows = 10;
    struct column pks = rw_key(&key);
    hts *snapshot = px_snapshot(rw.pc, rw_coll(&rw));
    struct px_fetch f = { .pks = &pks, .field_ids = &field, .nfields = 1, .snapshot = snapshot };
    ASSERT_OK(px_fetch(rw.pc, rw_coll(&rw), &f, &rows, &at, &st));
    assert_int_equal(rw.queries, 1);
    assert_int_equal(rows.nrows, 1);
    for (uint32_t s = 0; s < 16; s++) { /* the others' snapshot is still to be taken */
        assert_int_equal(snapshot[s], rw_is_mine(&rw.shards[s], key) ? 2000 + s : 0);
    }
    rw_stop(&rw);
}

static void test_fetch_of_too_much_is_told(void **state)
{
    static const int64_t keys[] = { 0, 1, 2, 3, 4, 6, 7, 8 };
    int64_t field = 102;
    struct status st = STATUS_INIT;
    struct batch rows;
    uint32_t *at;
    struct rw rw;

    (void)state;
    rw_start(&rw, 3, 1, false);
    rw.nrows = 10;
    struct column pks = { .field_id = 100, .type = DT_INT64, .nrows = 8, .width = 8,
                          .data = (const uint8_t *)keys };
    struct px_fetch f = { .pks = &pks, .field_ids = &field, .nfields = 1, .max_bytes = 70 };
    assert_int_equal(px_fetch(rw.pc, rw_coll(&rw), &f, &rows, &at, &st), 1102);
    assert_non_null(strstr(st.msg, "query results exceed the maxOutputSize Limit 70"));
    rw_stop(&rw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_given_columns_win_and_the_rest_stays),
        cmocka_unit_test(test_dynamic_objects_are_joined_key_by_key),
        cmocka_unit_test(test_a_new_key_gets_defaults_or_is_refused),
        cmocka_unit_test(test_array_operations),
        cmocka_unit_test(test_array_operations_that_are_refused),
        cmocka_unit_test(test_fetch_finds_every_key_as_often_as_it_is_named),
        cmocka_unit_test(test_keys_ask_only_their_shards),
        cmocka_unit_test(test_fetch_of_too_much_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
