/* test_seg_rows.c - cells come back as they went in: growing, written, opened. */
#include "unit.h"
#include "alloc_torture.h"
#include "segment/seg_int.h"
#include "segment/segment.h"
#include "seg_fixture.h"

enum { SEED = 7, TS = 1000 };

struct world {
    char *dir;
    struct object_store *os;
    struct arena *ar;
};

static int setup(void **state)
{
    struct world *w = xalloc(sizeof *w);
    struct status st = STATUS_INIT;
    w->dir = unit_tmp_dir();
    w->ar = arena_new(0);
    ASSERT_OK(object_local_open(w->dir, &w->os, &st));
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    object_close(w->os);
    unit_tmp_remove(w->dir);
    arena_free(w->ar);
    mem_free(w);
    return 0;
}

static struct segment *growing(const struct schema *s, const uint32_t *sizes, size_t nsizes)
{
    struct segment *seg = NULL;
    struct status st = STATUS_INIT;
    uint32_t at = 0;
    ASSERT_OK(seg_growing_new(3, 2, 1, s, &seg, &st));
    for (size_t i = 0; i < nsizes; i++) {
        struct arena *ar = arena_new(0);
        struct batch b = fx_batch(s, SEED, at, sizes[i], 0, ar);
        ASSERT_OK(seg_append(seg, &b, TS + i, 50 + i, &st));
        at += sizes[i];
        arena_free(ar); /* the segment keeps nothing of the batch */
    }
    return seg;
}

static struct segment *reopened(struct world *w, const struct segment *seg, const struct schema *s)
{
    struct segment *ret = NULL;
    struct status st = STATUS_INIT;
    uint64_t bytes = 0;
    struct object_info info;
    ASSERT_OK(seg_write_files(seg, w->os, "seg/1", &bytes, &st));
    ASSERT_OK(object_stat(w->os, SLICE_LIT("seg/1/rows.seg"), &info, &st));
    assert_int_equal(info.size, bytes);
    ASSERT_OK(seg_open(3, 2, 1, s, w->os, "seg/1", &ret, &st));
    ASSERT_OK(seg_validate(ret, &st));
    return ret;
}

static void check_cells(const struct segment *seg, const struct schema *s, const uint32_t *rows,
                        uint32_t n, uint64_t absent)
{
    struct status st = STATUS_INIT;
    struct arena *ar = arena_new(0);
    for (uint32_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        bool gone = (absent >> i) & 1;
        struct column col;
        ASSERT_OK(seg_fetch(seg, f->id, rows, n, ar, &col, &st));
        assert_int_equal(col.nrows, n);
        assert_int_equal(col.field_id, f->id);
        for (uint32_t r = 0; r < n; r++) {
            bool null = gone ? !f->has_default : fx_null(f, SEED, rows[r]);
            assert_int_equal(column_is_null(&col, r), null);
            struct slice want = gone ? f->default_cell : fx_cell(f, SEED, rows[r], ar);
            struct slice have = column_cell(&col, r);
            if (null) {
                for (size_t k = 0; k < have.n; k++) {
                    assert_int_equal(have.p[k], 0);
                }
            } else {
                assert_true(slice_eq(want, have));
            }
        }
    }
    arena_free(ar);
}

static void check_all(const struct segment *seg, const struct schema *s, uint32_t nrows)
{
    uint32_t *rows = xalloc(nrows * sizeof *rows + 1);
    uint64_t rng = 1;
    for (uint32_t i = 0; i < nrows; i++) {
        rows[i] = i;
    }
    check_cells(seg, s, rows, nrows, 0);
    for (uint32_t i = 0; i < nrows; i++) {
        rows[i] = (uint32_t)(fx_rand(&rng) % nrows);
    }
    check_cells(seg, s, rows, nrows, 0);
    check_cells(seg, s, rows, MIN(nrows, 1u), 0);
    mem_free(rows);
}

static void round_trip(struct world *w, enum dtype pk_type)
{
    const uint32_t sizes[] = { 1, 62, 1, 1, 200, 0, 3000, 5000, 1000 };
    struct schema *s = fx_schema(pk_type, fx_all, ARRAY_LEN(fx_all));
    struct segment *seg = growing(s, sizes, ARRAY_LEN(sizes));
    struct status st = STATUS_INIT;
    struct seg_info info;
    seg_get_info(seg, &info);
    assert_int_equal(info.nrows, 9265);
    assert_false(info.sealed);
    assert_int_equal(info.min_ts, TS);
    assert_int_equal(info.max_ts, TS + 8);
    assert_int_equal(info.first_position, 50);
    assert_int_equal(info.last_position, 58);
    ASSERT_OK(seg_validate(seg, &st));
    check_all(seg, s, info.nrows);

    struct segment *sealed = reopened(w, seg, s);
    seg_unref(seg);
    seg_get_info(sealed, &info);
    assert_int_equal(info.nrows, 9265);
    assert_true(info.sealed);
    assert_int_equal(info.id, 3);
    assert_int_equal(info.min_ts, TS);
    assert_int_equal(info.max_ts, TS + 8);
    assert_int_equal(info.first_position, 50);
    assert_int_equal(info.last_position, 58);
    check_all(sealed, s, info.nrows);
    /* A sealed segment written again gives the same bytes' worth of rows. */
    struct segment *again = reopened(w, sealed, s);
    seg_unref(sealed);
    check_all(again, s, info.nrows);
    seg_unref(again);
    schema_unref(s);
}

static void test_round_trip_when_key_is_int64_then_every_cell_is_equal(void **state)
{
    round_trip(*state, DT_INT64);
}

static void test_round_trip_when_key_is_varchar_then_every_cell_is_equal(void **state)
{
    round_trip(*state, DT_VARCHAR);
}

static void test_round_trip_when_segment_is_empty_then_it_opens_empty(void **state)
{
    struct schema *s = fx_schema(DT_INT64, fx_all, ARRAY_LEN(fx_all));
    struct segment *seg = growing(s, NULL, 0), *sealed = reopened(*state, seg, s);
    struct seg_filter f = { .ts = UINT64_MAX };
    struct status st = STATUS_INIT;
    uint64_t n = 9;
    ASSERT_OK(seg_count(sealed, &f, INT64_MAX, &n, ((struct world *)*state)->ar, &st));
    assert_int_equal(n, 0);
    ASSERT_OK(seg_count(seg, &f, INT64_MAX, &n, ((struct world *)*state)->ar, &st));
    assert_int_equal(n, 0);
    seg_unref(seg);
    seg_unref(sealed);
    schema_unref(s);
}

static void test_append_when_columns_are_absent_then_they_are_filled(void **state)
{
    struct world *w = *state;
    struct schema *s = fx_schema(DT_INT64, fx_all, ARRAY_LEN(fx_all));
    struct status st = STATUS_INIT;
    struct segment *seg = NULL;
    uint64_t skip = 0;
    uint32_t rows[100];
    for (uint32_t i = 0; i < s->nfields; i++) {
        if (s->fields[i].nullable || s->fields[i].has_default) {
            skip |= UINT64_C(1) << i;
        }
    }
    for (uint32_t i = 0; i < 100; i++) {
        rows[i] = i;
    }
    ASSERT_OK(seg_growing_new(3, 2, 1, s, &seg, &st));
    struct batch b = fx_batch(s, SEED, 0, 100, skip, w->ar);
    ASSERT_OK(seg_append(seg, &b, TS, 1, &st));
    check_cells(seg, s, rows, 100, skip);
    struct segment *sealed = reopened(w, seg, s);
    check_cells(sealed, s, rows, 100, skip);
    seg_unref(sealed);
    seg_unref(seg);
    schema_unref(s);
}

static void test_append_when_rows_do_not_fit_then_nothing_is_added(void **state)
{
    struct world *w = *state;
    struct schema *s = fx_schema(DT_INT64, fx_all, ARRAY_LEN(fx_all));
    struct segment *seg = growing(s, (const uint32_t[]){ 10 }, 1);
    struct status st = STATUS_INIT;
    struct seg_info before, after;
    seg_get_info(seg, &before);
    struct batch no_key = fx_batch(s, SEED, 10, 5, 1, w->ar);
    assert_int_equal(seg_append(seg, &no_key, TS, 1, &st), ST_INVALID);
    struct batch no_bool = fx_batch(s, SEED, 10, 5, 2, w->ar);
    assert_int_equal(seg_append(seg, &no_bool, TS, 1, &st), ST_INVALID);
    struct batch b = fx_batch(s, SEED, 10, 5, 0, w->ar);
    struct column *bools = &b.cols[1];
    uint64_t nulls = 0x1d;
    bools->valid = &nulls;
    assert_int_equal(seg_append(seg, &b, TS, 1, &st), ST_INVALID);
    bools->valid = NULL;
    bools->nrows = 4;
    assert_int_equal(seg_append(seg, &b, TS, 1, &st), ST_INVALID);
    bools->nrows = 5;
    bools->type = DT_INT8;
    assert_int_equal(seg_append(seg, &b, TS, 1, &st), ST_INVALID);
    bools->type = DT_BOOL;
    ASSERT_OK(seg_append(seg, &b, TS, 1, &st));
    seg_get_info(seg, &after);
    assert_int_equal(after.nrows, before.nrows + 5);
    ASSERT_OK(seg_validate(seg, &st));
    seg_unref(seg);
    schema_unref(s);
}

static void test_append_when_memory_is_gone_then_all_or_nothing(void **state)
{
    struct schema *s = fx_schema(DT_VARCHAR, fx_all, ARRAY_LEN(fx_all));
    struct arena *ar = arena_new(0);
    struct batch b = fx_batch(s, SEED, 0, 150, 0, ar);
    ALLOC_TORTURE
    {
        struct status st = STATUS_INIT;
        struct segment *seg = NULL;
        struct seg_info info;
        int rc = seg_growing_new(3, 2, 1, s, &seg, &st);
        if (rc == 0) {
            rc = seg_append(seg, &b, TS, 1, &st);
            seg_get_info(seg, &info);
            assert_true(rc == 0 || (rc == ST_NO_MEMORY && info.nrows == 0));
            if (rc != 0) { /* memory is back: the next append must not stumble over leftovers */
                st_clear(&st);
                ASSERT_OK(seg_append(seg, &b, TS, 1, &st));
                ASSERT_OK(seg_validate(seg, &st));
            }
        }
        seg_unref(seg);
    }
    arena_free(ar);
    schema_unref(s);
}

static void test_write_when_memory_is_gone_then_it_says_so(void **state)
{
    struct world *w = *state;
    struct schema *s = fx_schema(DT_VARCHAR, fx_all, ARRAY_LEN(fx_all));
    struct segment *seg = growing(s, (const uint32_t[]){ 100 }, 1);
    ALLOC_TORTURE
    {
        struct status st = STATUS_INIT;
        struct segment *sealed = NULL;
        uint64_t bytes = 0;
        int rc = seg_write_files(seg, w->os, "seg/2", &bytes, &st);
        if (rc == 0) {
            rc = seg_open(3, 2, 1, s, w->os, "seg/2", &sealed, &st);
        }
        assert_true(rc == 0 || rc == ST_NO_MEMORY);
        seg_unref(sealed);
    }
    seg_unref(seg);
    schema_unref(s);
}

static void test_fetch_when_schema_grew_then_new_field_has_default_or_null(void **state)
{
    struct world *w = *state;
    struct schema *old = fx_schema(DT_INT64, fx_all, 3);
    struct schema *wide = fx_schema(DT_INT64, fx_all, ARRAY_LEN(fx_all));
    struct segment *seg = growing(old, (const uint32_t[]){ 70 }, 1);
    struct segment *sealed = reopened(w, seg, wide);
    struct status st = STATUS_INIT;
    uint32_t rows[] = { 69, 0, 64 };
    struct column col;
    assert_int_not_equal(seg_fetch(seg, 104, rows, 3, w->ar, &col, &st), 0);
    seg_set_schema(seg, wide);
    const struct segment *both[] = { seg, sealed };
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(seg_fetch(both[i], 104, rows, 3, w->ar, &col, &st)); /* default 42 */
        assert_int_equal(column_int(&col, 2), 42);
        ASSERT_OK(seg_fetch(both[i], 110, rows, 3, w->ar, &col, &st)); /* nullable JSON */
        assert_true(column_is_null(&col, 0) && column_is_null(&col, 2));
    }
    uint32_t bad_row = 70;
    assert_int_equal(seg_fetch(seg, 101, &bad_row, 1, w->ar, &col, &st), ST_INVALID);
    seg_unref(seg);
    seg_unref(sealed);
    schema_unref(old);
    schema_unref(wide);
}

static void test_append_at_when_rows_have_own_timestamps_then_they_are_kept(void **state)
{
    struct world *w = *state;
    struct schema *s = fx_schema(DT_INT64, NULL, 0);
    struct segment *seg = NULL;
    struct status st = STATUS_INIT;
    struct batch b = fx_batch(s, SEED, 0, 200, 0, w->ar);
    hts ts[200];
    uint32_t rows[200];
    for (uint32_t i = 0; i < 200; i++) {
        ts[i] = 500 - i;
        rows[i] = i;
    }
    ASSERT_OK(seg_growing_new(3, 2, 1, s, &seg, &st));
    ASSERT_OK(seg_append_at(seg, &b, ts, 11, 12, &st));
    struct segment *sealed = reopened(w, seg, s);
    const struct segment *both[] = { seg, sealed };
    for (int k = 0; k < 2; k++) {
        struct column col;
        ASSERT_OK(seg_fetch(both[k], FIELD_TIMESTAMP, rows, 200, w->ar, &col, &st));
        for (uint32_t i = 0; i < 200; i++) {
            assert_int_equal(column_i64(&col, i), 500 - i);
        }
        struct seg_filter f = { .ts = 400 };
        uint64_t n = 0;
        ASSERT_OK(seg_count(both[k], &f, INT64_MAX, &n, w->ar, &st));
        assert_int_equal(n, 100); /* 400, 399, ..., 301 */
        f = (struct seg_filter){ .ts = 400, .ttl_before = 350 };
        ASSERT_OK(seg_count(both[k], &f, INT64_MAX, &n, w->ar, &st));
        assert_int_equal(n, 51);
    }
    seg_unref(seg);
    seg_unref(sealed);
    schema_unref(s);
}

static void test_chunks_when_counted_then_they_tile_the_rows(void **state)
{
    uint32_t row = 0;
    for (uint32_t c = 0; c < 40; c++) {
        assert_int_equal(seg__chunk_row0(c), row);
        assert_int_equal(seg__chunk_of(row), c);
        row += seg__chunk_cap(c);
        assert_int_equal(seg__chunk_of(row - 1), c);
        assert_int_equal(row % 64, 0);
    }
    assert_true(seg__chunk_of(SEG_ROWS_MAX - 1) < SEG_DIR_FAN * SEG_DIR_FAN);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_round_trip_when_key_is_int64_then_every_cell_is_equal),
        T(test_round_trip_when_key_is_varchar_then_every_cell_is_equal),
        T(test_round_trip_when_segment_is_empty_then_it_opens_empty),
        T(test_append_when_columns_are_absent_then_they_are_filled),
        T(test_append_when_rows_do_not_fit_then_nothing_is_added),
        T(test_append_when_memory_is_gone_then_all_or_nothing),
        T(test_write_when_memory_is_gone_then_it_says_so),
        T(test_fetch_when_schema_grew_then_new_field_has_default_or_null),
        T(test_append_at_when_rows_have_own_timestamps_then_they_are_kept),
        T(test_chunks_when_counted_then_they_tile_the_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
