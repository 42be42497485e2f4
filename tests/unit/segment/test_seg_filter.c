/* test_seg_filter.c - filters over growing and sealed rows: scans, key look-ups, absent fields. */
#include "unit.h"
#include "base/clock.h"
#include "segment/segment.h"
#include "seg_fixture.h"

enum { SEED = 21, NROWS = 9000, NUM = 101, NUL = 102, TXT = 103, VEC = 104, ADDED = 105 };

/* 105 is known to the newer schema only. */
static const struct fx_field fields[] = {
    { DT_INT16, DT_NONE, 0, false, false },
    { DT_INT16, DT_NONE, 0, true, false },
    { DT_VARCHAR, DT_NONE, 0, false, false },
    { DT_FLOAT_VECTOR, DT_NONE, 4, true, false },
    { DT_INT32, DT_NONE, 0, false, true },
};

struct world {
    struct schema *s, *wide;
    struct segment *segs[2]; /* growing, sealed */
    struct arena *ar;
};

static int setup(void **state)
{
    struct world *w = xalloc(sizeof *w);
    struct status st = STATUS_INIT;
    struct object_store *os = NULL;
    char *dir = unit_tmp_dir();
    uint64_t bytes = 0;
    w->ar = arena_new(0);
    w->s = fx_schema(DT_INT64, fields, ARRAY_LEN(fields) - 1);
    w->wide = fx_schema(DT_INT64, fields, ARRAY_LEN(fields));
    ASSERT_OK(seg_growing_new(1, 1, 1, w->s, &w->segs[0], &st));
    struct batch b = fx_batch(w->s, SEED, 0, NROWS, 0, w->ar);
    ASSERT_OK(seg_append(w->segs[0], &b, 10, 1, &st));
    ASSERT_OK(object_local_open(dir, &os, &st));
    ASSERT_OK(seg_write_files(w->segs[0], os, "s", &bytes, &st));
    ASSERT_OK(seg_open(1, 1, 1, w->s, os, "s", &w->segs[1], &st));
    for (int i = 0; i < 2; i++) {
        seg_set_schema(w->segs[i], w->wide);
        for (int64_t key = 0; key < NROWS; key += 7) {
            struct column col = fx_keys(&key, 1);
            uint32_t hits = 0;
            ASSERT_OK(seg_delete(w->segs[i], &col, (const hts[]){ 20 }, 1, &hits, &st));
        }
    }
    object_close(os);
    unit_tmp_remove(dir);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    seg_unref(w->segs[0]);
    seg_unref(w->segs[1]);
    schema_unref(w->s);
    schema_unref(w->wide);
    arena_free(w->ar);
    mem_free(w);
    return 0;
}

static int num(const struct world *w, int64_t field, uint32_t row)
{
    int16_t v;
    memcpy(&v, fx_cell(schema_field(w->s, field), SEED, row, w->ar).p, sizeof v);
    return v;
}

typedef bool want_fn(const struct world *w, uint32_t row);

static void check_segment(struct world *w, const struct segment *seg, const struct seg_filter *f,
                          want_fn *want)
{
    struct status st = STATUS_INIT;
    uint64_t count = 0, n = 0;
    const uint32_t *rows = NULL, *few = NULL;
    uint32_t nrows = 0, nfew = 0, vectors = 0;
    ASSERT_OK(seg_count(seg, f, DEADLINE_NONE, &count, w->ar, &st));
    ASSERT_OK(seg_query(seg, f, UINT32_MAX, DEADLINE_NONE, &rows, &nrows, w->ar, &st));
    ASSERT_OK(seg_query(seg, f, 10, DEADLINE_NONE, &few, &nfew, w->ar, &st));
    for (uint32_t row = 0; row < NROWS; row++) {
        if (row % 7 && want(w, row)) {
            assert_true(n < nrows && rows[n] == row); /* keys are row numbers */
            assert_true(n >= nfew || few[n] == row);
            vectors += !fx_null(schema_field(w->s, VEC), SEED, row);
            n++;
        }
    }
    assert_int_equal(count, n);
    assert_int_equal(nrows, n);
    assert_int_equal(nfew, MIN(n, UINT64_C(10)));

    static const float query[4] = { 1, 2, 3, 4 };
    struct seg_search q = { .filter = *f, .field_id = VEC, .metric = METRIC_IP, .queries = query,
                            .nq = 1, .deadline_us = DEADLINE_NONE };
    struct topk *tk = NULL;
    ASSERT_OK(seg_topk_new(&q, 16384, &tk, &st));
    ASSERT_OK(seg_search(seg, &q, tk, w->ar, &st));
    assert_int_equal(topk_count(tk, 0), vectors);
    for (uint32_t i = 0; i < topk_count(tk, 0); i++) {
        uint32_t row = (uint32_t)topk_row(tk, 0, i);
        assert_true(row % 7 && want(w, row) && !fx_null(schema_field(w->s, VEC), SEED, row));
    }
    topk_free(tk);
}

static void check(struct world *w, const char *text, want_fn *want)
{
    struct status st = STATUS_INIT;
    struct seg_filter f = { .ts = 100 };
    ASSERT_OK(filter_parse(slice_of(text), w->wide, NULL, 0, w->ar, &f.expr, &st));
    for (int i = 0; i < 2; i++) {
        check_segment(w, w->segs[i], &f, want);
    }
}

static bool num_positive(const struct world *w, uint32_t row)
{
    return num(w, NUM, row) > 500;
}
static bool nul_is_null(const struct world *w, uint32_t row)
{
    return fx_null(schema_field(w->s, NUL), SEED, row);
}
static bool nul_small(const struct world *w, uint32_t row)
{
    return !nul_is_null(w, row) && num(w, NUL, row) < 300;
}
static bool text_b(const struct world *w, uint32_t row)
{
    struct slice cell = fx_cell(schema_field(w->s, TXT), SEED, row, w->ar);
    return cell.n > 1 && memcmp(cell.p, "ab", 2) == 0;
}
static bool some_keys(const struct world *w, uint32_t row)
{
    return row == 1 || row == 5 || row == 8999 || row == 64 || row == 8191 || row == 8192;
}
static bool some_keys_positive(const struct world *w, uint32_t row)
{
    return some_keys(w, row) && num_positive(w, row);
}
static bool all(const struct world *w, uint32_t row)
{
    return true;
}
static bool none(const struct world *w, uint32_t row)
{
    return false;
}
static bool below_100(const struct world *w, uint32_t row)
{
    return row < 100;
}

static void test_filter_when_scanned_then_rows_pass_as_by_hand(void **state)
{
    check(*state, "f1 > 500", num_positive);
    check(*state, "f2 is null", nul_is_null);
    check(*state, "f2 < 300", nul_small);
    check(*state, "f3 like 'ab%'", text_b);
    check(*state, "f1 > 32000 and f1 < -32000", none);
    check(*state, "f0 >= 0 and f0 < 100", below_100);
}

static void test_filter_when_keys_are_named_then_looked_up_rows_pass(void **state)
{
    const char *keys = "f0 in [8999, 1, 5, 5, 64, 8191, 8192, 123456, -1, 7]";
    check(*state, keys, some_keys);
    check(*state, "f0 in [8999, 1, 5, 64, 8191, 8192, 7] and f1 > 500", some_keys_positive);
    check(*state, "f0 == 9000", none);
    check(*state, "f0 == 7", none); /* deleted */
}

static void test_filter_when_many_keys_are_named_then_rows_pass_all_the_same(void **state)
{
    struct world *w = *state;
    struct buf b;
    buf_init(&b, (size_t)1 << 20);
    buf_put_str(&b, "f0 in [0");
    for (int i = 1; i < 5000; i++) { /* too many for look-ups: scanned */
        buf_printf(&b, ", %d", i < 100 ? i : i * 100000);
    }
    buf_put_str(&b, "]");
    buf_putc(&b, 0);
    check(w, (const char *)b.p, below_100);
    buf_done(&b);
}

static void test_filter_when_field_came_later_then_its_default_counts(void **state)
{
    check(*state, "f5 == 42", all);
    check(*state, "f5 != 42", none);
    check(*state, "f0 in [1, 5, 64, 8191, 8192, 8999] and f5 == 42", some_keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filter_when_scanned_then_rows_pass_as_by_hand),
        cmocka_unit_test(test_filter_when_keys_are_named_then_looked_up_rows_pass),
        cmocka_unit_test(test_filter_when_many_keys_are_named_then_rows_pass_all_the_same),
        cmocka_unit_test(test_filter_when_field_came_later_then_its_default_counts),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
