/* test_column.c - columns: arrays, builders, selection, keys; batches as bytes and back. */
#include "schema_fixture.h"
#include "base/alloc.h"
#include "alloc_torture.h"

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

#define CELL(s) slice_n(s, sizeof(s) - 1)

static void test_array_when_elements_are_strings_then_offsets_lead_to_them(void **state)
{
    struct slice cell = CELL("\2\0\0\0"
                             "\3\0\0\0"
                             "\4\0\0\0"
                             "abcd");
    assert_true(array_cell_valid(DT_VARCHAR, cell));
    assert_int_equal(array_count(DT_VARCHAR, cell), 2);
    assert_true(slice_is(array_elem(DT_VARCHAR, cell, 0), "abc"));
    assert_true(slice_is(array_elem(DT_VARCHAR, cell, 1), "d"));
    assert_true(array_cell_valid(DT_VARCHAR, CELL("\0\0\0\0")));
    assert_true(array_cell_valid(DT_VARCHAR, CELL("")));
    assert_int_equal(array_count(DT_VARCHAR, CELL("")), 0);
    assert_false(array_cell_valid(DT_VARCHAR, CELL("\1\0\0")));
    assert_false(array_cell_valid(DT_VARCHAR, CELL("\2\0\0\0"
                                                   "\3\0\0\0"
                                                   "\2\0\0\0"
                                                   "abc")));
    assert_false(array_cell_valid(DT_VARCHAR, CELL("\1\0\0\0"
                                                   "\4\0\0\0"
                                                   "abc")));
    assert_false(array_cell_valid(DT_VARCHAR, CELL("\1\0\0\0"
                                                   "\2\0\0\0"
                                                   "abc")));
    assert_false(array_cell_valid(DT_VARCHAR, CELL("\xff\xff\xff\xff"
                                                   "\2\0\0\0"
                                                   "abc")));
}

static void test_array_when_elements_are_fixed_then_count_follows_from_bytes(void **state)
{
    struct slice cell = CELL("\1\0\2\0\3\0");
    assert_true(array_cell_valid(DT_INT16, cell));
    assert_int_equal(array_count(DT_INT16, cell), 3);
    assert_true(slice_eq(array_elem(DT_INT16, cell, 2), CELL("\3\0")));
    assert_false(array_cell_valid(DT_INT32, cell));
    assert_false(array_cell_valid(DT_JSON, cell));
    assert_false(array_cell_valid(DT_TIMESTAMPTZ, CELL("12345678")));
    assert_int_equal(array_count(DT_BOOL, cell), 6);
}

static void test_builder_when_nulls_come_late_then_earlier_rows_stay_valid(void **state)
{
    struct column c;
    struct column_builder *cb = column_builder_new(*state, 7, DT_VARCHAR, DT_NONE, 0, 0);
    char text[16];
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "row %d", i);
        assert_true(i == 150 ? column_builder_null(cb) : column_builder_add(cb, slice_of(text)));
    }
    column_builder_finish(cb, &c);
    assert_int_equal(c.nrows, 200);
    assert_int_equal(c.field_id, 7);
    for (uint32_t i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "row %u", i);
        assert_int_equal(column_is_null(&c, i), i == 150);
        assert_true(slice_is(column_cell(&c, i), i == 150 ? "" : text));
    }
    assert_int_equal(c.valid[3] >> (200 - 192), 0);
}

static void test_builder_when_arena_is_full_then_fails_and_keeps_its_rows(void **state)
{
    struct arena *ar = arena_new(8000);
    struct column_builder *cb = column_builder_new(ar, 1, DT_INT64, DT_NONE, 0, 4);
    struct column c;
    int64_t v = 0;
    while (column_builder_add(cb, slice_n(&v, 8))) {
        v++;
    }
    assert_false(column_builder_add(cb, slice_n(&v, 8)));
    column_builder_finish(cb, &c);
    assert_true(v > 100);
    assert_int_equal(c.nrows, v);
    for (uint32_t i = 0; i < c.nrows; i++) {
        assert_int_equal(column_i64(&c, i), i);
    }
    arena_free(ar);
}

static void test_column_int_when_width_differs_then_sign_is_kept(void **state)
{
    int8_t a = -1;
    int16_t b = -300;
    int32_t c = INT32_MIN;
    int64_t d = INT64_MIN;
    assert_int_equal(column_int(&(struct column){.data = (void *)&a, .width = 1}, 0), -1);
    assert_int_equal(column_int(&(struct column){.data = (void *)&b, .width = 2}, 0), -300);
    assert_int_equal(column_int(&(struct column){.data = (void *)&c, .width = 4}, 0), INT32_MIN);
    assert_true(column_int(&(struct column){.data = (void *)&d, .width = 8}, 0) == INT64_MIN);
}

/* Int64 with a null, VarChar packed, VarChar refs, FloatVector, Array, all of nrows rows. */
static void sample(struct arena *ar, uint32_t nrows, struct batch *ret)
{
    struct column_builder *cb[5];
    struct column *cols = arena_alloc(ar, 6 * sizeof *cols);
    cb[0] = column_builder_new(ar, 100, DT_INT64, DT_NONE, 0, nrows);
    cb[1] = column_builder_new(ar, 101, DT_VARCHAR, DT_NONE, 0, nrows);
    cb[2] = column_builder_new(ar, 102, DT_FLOAT_VECTOR, DT_NONE, 3, nrows);
    cb[3] = column_builder_new(ar, 103, DT_ARRAY, DT_VARCHAR, 0, nrows);
    cb[4] = column_builder_new(ar, 104, DT_BOOL, DT_NONE, 0, nrows);
    struct slice *refs = arena_alloc(ar, (nrows + 1) * sizeof *refs);
    for (uint32_t i = 0; i < nrows; i++) {
        int64_t key = (int64_t)i - 1;
        float vec[3] = {(float)i, 0.5f, -1};
        char *text = arena_printf(ar, "%0*d", (int)(i % 5), i);
        uint8_t flag = i % 2;
        assert_true(i == 2 ? column_builder_null(cb[0])
                           : column_builder_add(cb[0], slice_n(&key, 8)));
        assert_true(column_builder_add(cb[1], slice_of(text)));
        assert_true(column_builder_add(cb[2], slice_n(vec, 12)));
        assert_true(column_builder_add(cb[3], CELL("\1\0\0\0\2\0\0\0ab")));
        assert_true(column_builder_add(cb[4], slice_n(&flag, 1)));
        refs[i] = slice_of(text);
    }
    for (int i = 0; i < 5; i++) {
        column_builder_finish(cb[i], &cols[i]);
    }
    cols[5] = (struct column){.field_id = 105, .type = DT_JSON, .nrows = nrows, .refs = refs};
    *ret = (struct batch){nrows, 6, cols};
}

static void same_column(const struct column *a, const struct column *b)
{
    assert_int_equal(a->field_id, b->field_id);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->elem, b->elem);
    assert_int_equal(a->dim, b->dim);
    assert_int_equal(a->nrows, b->nrows);
    for (uint32_t i = 0; i < a->nrows; i++) {
        assert_int_equal(column_is_null(a, i), column_is_null(b, i));
        assert_true(slice_eq(column_cell(a, i), column_cell(b, i)));
    }
}

static void test_select_when_rows_are_picked_then_cells_and_nulls_follow(void **state)
{
    static const uint32_t picked[] = {4, 2, 2, 0}, run[] = {1, 2, 3};
    struct batch b;
    sample(*state, 6, &b);
    for (uint32_t i = 0; i < b.ncols; i++) {
        struct column out;
        assert_true(column_select(&b.cols[i], picked, 4, *state, &out));
        assert_int_equal(out.nrows, 4);
        for (uint32_t r = 0; r < 4; r++) {
            assert_true(slice_eq(column_cell(&out, r), column_cell(&b.cols[i], picked[r])));
            assert_int_equal(column_is_null(&out, r), column_is_null(&b.cols[i], picked[r]));
        }
        assert_true(column_select(&b.cols[i], run, 3, *state, &out));
        for (uint32_t r = 0; r < 3; r++) {
            assert_true(slice_eq(column_cell(&out, r), column_cell(&b.cols[i], r + 1)));
            assert_int_equal(column_is_null(&out, r), column_is_null(&b.cols[i], r + 1));
        }
        assert_true(column_select(&b.cols[i], NULL, 0, *state, &out));
        assert_int_equal(out.nrows, 0);
    }
}

static void
test_pk_when_compared_and_hashed_then_order_and_hash_are_the_documented_ones(void **state)
{
    int64_t keys[] = {-5, 3, INT64_MAX};
    struct column ints = {.type = DT_INT64, .width = 8, .nrows = 3, .data = (void *)keys};
    struct slice refs[] = {SLICE_LIT("a"), SLICE_LIT("ab"), SLICE_LIT("b")};
    struct column strings = {.type = DT_VARCHAR, .nrows = 3, .refs = refs};
    assert_true(pk_cmp(&ints, 0, &ints, 1) < 0 && pk_cmp(&ints, 2, &ints, 1) > 0);
    assert_int_equal(pk_cmp(&ints, 1, &ints, 1), 0);
    assert_true(pk_cmp(&strings, 0, &strings, 1) < 0 && pk_cmp(&strings, 2, &strings, 1) > 0);
    /* murmur3_32 of the little-endian cell, seed 0, computed by another implementation */
    assert_int_equal(pk_hash(&ints, 1), 0xa33b57b3u);
    assert_int_equal(pk_hash(&strings, 1), 0x9bbfd75fu);
}

static void test_batch_when_encoded_and_decoded_then_is_the_same(void **state)
{
    static const uint32_t sizes[] = {0, 1, 3, 64, 65, 1000};
    struct arena *ar = *state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct status st = STATUS_INIT;
        struct batch in, out;
        struct buf b;
        buf_init(&b, 1 << 20);
        sample(ar, sizes[i], &in);
        assert_true(batch_encode(&in, &b));
        assert_int_equal(b.n % 8, 0);
        size_t before = arena_used(ar);
        assert_int_equal(batch_decode(buf_slice(&b), ar, &out, &st), 0);
        assert_true(arena_used(ar) - before < 1024); /* borrowed, not copied */
        assert_int_equal(out.nrows, sizes[i]);
        assert_int_equal(out.ncols, 6);
        for (uint32_t c = 0; c < 6; c++) {
            same_column(&in.cols[c], &out.cols[c]);
        }
        assert_ptr_equal(batch_column(&out, 104), &out.cols[4]);
        assert_null(batch_column(&out, 1));
        /* again from an odd address, in the middle of a buffer */
        char *odd = arena_alloc(ar, b.n + 1);
        memcpy(odd + 1, b.p, b.n);
        assert_int_equal(batch_decode(slice_n(odd + 1, b.n), ar, &out, &st), 0);
        same_column(&in.cols[3], &out.cols[3]);
        buf_done(&b);
    }
}

static void test_batch_when_ceiling_is_passed_then_nothing_is_appended(void **state)
{
    struct batch in;
    struct buf b;
    buf_init(&b, 200);
    sample(*state, 50, &in);
    assert_true(buf_put_str(&b, "before"));
    assert_false(batch_encode(&in, &b));
    assert_int_equal(b.n, 6);
    assert_true(b.failed);
    buf_done(&b);
}

static void test_batch_when_memory_fails_then_says_so(void **state)
{
    struct batch in, out;
    struct buf b;
    buf_init(&b, 1 << 20);
    sample(*state, 50, &in);
    assert_true(batch_encode(&in, &b));
    ALLOC_TORTURE
    {
        struct status st = STATUS_INIT;
        struct arena *ar = arena_new(0);
        int rc = batch_decode(buf_slice(&b), ar, &out, &st);
        assert_true(rc == 0 || rc == ST_NO_MEMORY);
        arena_free(ar);
    }
    buf_done(&b);
}

/* Reads the ends of every cell and element; what it returns does not matter. */
static unsigned touch(const struct batch *b)
{
    unsigned sink = 0;
    for (uint32_t c = 0; c < b->ncols; c++) {
        const struct column *col = &b->cols[c];
        for (uint32_t i = 0; i < b->nrows; i++) {
            struct slice cell = column_cell(col, i);
            sink += (uint8_t)(cell.n ? cell.p[0] ^ cell.p[cell.n - 1] : column_is_null(col, i));
            for (uint32_t e = 0; col->type == DT_ARRAY && e < array_count(col->elem, cell); e++) {
                struct slice el = array_elem(col->elem, cell, e);
                sink += (uint8_t)(el.n ? el.p[el.n - 1] : 0);
            }
        }
    }
    return sink;
}

static void test_batch_when_any_byte_is_changed_then_is_refused_or_safe(void **state)
{
    struct batch in, out;
    struct buf b;
    buf_init(&b, 1 << 20);
    sample(*state, 3, &in);
    assert_true(batch_encode(&in, &b));
    size_t refused = 0;
    for (size_t i = 0; i < b.n; i++) {
        for (int bit = 0; bit < 8; bit += 7) {
            struct status st = STATUS_INIT;
            struct arena *ar = arena_new(1 << 20);
            uint8_t *copy = xalloc(b.n);
            memcpy(copy, b.p, b.n);
            copy[i] ^= (uint8_t)(1 << bit);
            int rc = batch_decode(slice_n(copy, b.n), ar, &out, &st);
            if (rc == 0) {
                assert_true(touch(&out) < 1000000);
            } else {
                assert_int_equal(rc, ST_CORRUPT);
                fx_has(st.msg, "column batch");
                refused++;
            }
            mem_free(copy);
            arena_free(ar);
        }
    }
    assert_true(refused > b.n / 2);
    for (size_t n = 0; n < b.n; n++) {
        struct status st = STATUS_INIT;
        uint8_t *copy = xalloc(n ? n : 1);
        memcpy(copy, b.p, n);
        assert_int_equal(batch_decode(slice_n(copy, n), *state, &out, &st), ST_CORRUPT);
        mem_free(copy);
    }
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_array_when_elements_are_strings_then_offsets_lead_to_them),
        cmocka_unit_test(test_array_when_elements_are_fixed_then_count_follows_from_bytes),
        cmocka_unit_test(test_builder_when_nulls_come_late_then_earlier_rows_stay_valid),
        cmocka_unit_test(test_builder_when_arena_is_full_then_fails_and_keeps_its_rows),
        cmocka_unit_test(test_column_int_when_width_differs_then_sign_is_kept),
        cmocka_unit_test(test_select_when_rows_are_picked_then_cells_and_nulls_follow),
        cmocka_unit_test(
            test_pk_when_compared_and_hashed_then_order_and_hash_are_the_documented_ones),
        cmocka_unit_test(test_batch_when_encoded_and_decoded_then_is_the_same),
        cmocka_unit_test(test_batch_when_ceiling_is_passed_then_nothing_is_appended),
        cmocka_unit_test(test_batch_when_memory_fails_then_says_so),
        cmocka_unit_test(test_batch_when_any_byte_is_changed_then_is_refused_or_safe),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
