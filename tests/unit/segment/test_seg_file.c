/* test_seg_file.c - damaged files are named, a crash leaves all or nothing; delete files too. */
#include "unit.h"
#include "file_crash.h"
#include "base/hash.h"
#include "segment/sealed_int.h"
#include "segment/segment.h"
#include "seg_fixture.h"

enum { SEED = 11 };

static const struct seg_ids ids = { 1, 2, 3 };

static struct segment *growing(const struct schema *s, uint32_t n)
{
    struct segment *seg = NULL;
    struct status st = STATUS_INIT;
    struct arena *ar = arena_new(0);
    ASSERT_OK(seg_growing_new(1, 2, 3, s, &seg, &st));
    struct batch b = fx_batch(s, SEED, 0, n / 2, 0, ar);
    ASSERT_OK(seg_append(seg, &b, 5, 5, &st));
    b = fx_batch(s, SEED, n / 2, n - n / 2, 0, ar);
    ASSERT_OK(seg_append(seg, &b, 6, 6, &st));
    arena_free(ar);
    return seg;
}

/* The bytes of a segment file, 64-byte aligned. */
static uint8_t *file_bytes(const struct schema *s, uint32_t n, size_t *ret_n)
{
    struct segment *seg = growing(s, n);
    char *dir = unit_tmp_dir();
    struct object_store *os = NULL;
    struct status st = STATUS_INIT;
    struct mapping *map = NULL;
    uint64_t bytes = 0;
    ASSERT_OK(object_local_open(dir, &os, &st));
    ASSERT_OK(seg_write_files(seg, os, "s", &bytes, &st));
    ASSERT_OK(object_map(os, SLICE_LIT("s/rows.seg"), &map, &st));
    uint8_t *p = alloc_try_aligned(64, map->n + 64);
    memcpy(p, map->p, map->n);
    *ret_n = map->n;
    mapping_free(map);
    object_close(os);
    unit_tmp_remove(dir);
    seg_unref(seg);
    return p;
}

/* Uses everything once; what it finds does not matter. */
static void use(struct segment *seg, const struct schema *s)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct seg_filter f = { .ts = UINT64_MAX };
    struct seg_info info;
    const uint32_t *rows = NULL;
    uint32_t n = 0, hits = 0;
    uint64_t count = 0;
    seg_get_info(seg, &info);
    (void)seg_count(seg, &f, INT64_MAX, &count, ar, &st);
    (void)seg_query(seg, &f, 7, INT64_MAX, &rows, &n, ar, &st);
    (void)seg_query(seg, &f, UINT32_MAX, INT64_MAX, &rows, &n, ar, &st);
    uint32_t *all = arena_alloc(ar, (info.nrows + 1) * sizeof *all);
    for (uint32_t i = 0; i < info.nrows; i++) {
        all[i] = info.nrows - 1 - i;
    }
    for (uint32_t i = 0; i < s->nfields; i++) {
        struct column col;
        if (seg_fetch(seg, s->fields[i].id, all, info.nrows, ar, &col, &st) == 0) {
            volatile uint8_t sum = 0;
            for (uint32_t r = 0; r < info.nrows; r++) {
                struct slice cell = column_cell(&col, r);
                for (size_t k = 0; k < cell.n; k++) {
                    sum = (uint8_t)(sum + (uint8_t)cell.p[k]);
                }
            }
        }
    }
    struct column keys = fx_keys((const int64_t[]){ 1, 2 }, 2);
    (void)seg_delete(seg, &keys, (const hts[]){ 50, 50 }, 2, &hits, &st);
    arena_free(ar);
}

static void test_open_when_any_byte_is_damaged_then_open_or_validate_names_the_file(void **state)
{
    struct schema *s = fx_schema(DT_INT64, fx_all, ARRAY_LEN(fx_all));
    size_t n = 0;
    uint8_t *p = file_bytes(s, 20, &n);
    for (size_t i = 0; i < n; i++) {
        struct status st = STATUS_INIT;
        struct segment *seg = NULL;
        uint8_t was = p[i];
        p[i] ^= (uint8_t)(1u << (i % 8));
        int rc = seg__open_bytes(&ids, s, "s/rows.seg", p, n, &seg, &st);
        if (rc == 0) {
            rc = seg_validate(seg, &st);
            use(seg, s);
        }
        assert_true(rc == ST_CORRUPT || rc == ST_UNSUPPORTED);
        assert_non_null(strstr(st.msg, "s/rows.seg"));
        seg_unref(seg);
        p[i] = was;
    }
    mem_free(p);
    schema_unref(s);
}

static void test_open_when_file_is_cut_or_longer_then_it_is_refused(void **state)
{
    struct schema *s = fx_schema(DT_VARCHAR, fx_all, ARRAY_LEN(fx_all));
    size_t n = 0;
    uint8_t *p = file_bytes(s, 20, &n);
    for (size_t len = 0; len <= n + 64; len++) {
        struct status st = STATUS_INIT;
        struct segment *seg = NULL;
        if (len == n) {
            continue;
        }
        if (len > n) {
            p[len - 1] = 0;
        }
        assert_int_equal(seg__open_bytes(&ids, s, "f", p, len, &seg, &st), ST_CORRUPT);
    }
    mem_free(p);
    schema_unref(s);
}

/* Checksums of footer and trailer after a change, so that the change itself must be found. */
static void reseal(uint8_t *p, size_t n)
{
    struct sf_trailer *t = (void *)(p + n - sizeof *t);
    t->footer_sum = hash64(p + t->footer_off, (size_t)t->footer_len);
    t->sum = hash64(t, offsetof(struct sf_trailer, sum));
}

static void test_open_when_footer_lies_then_every_number_is_checked(void **state)
{
    struct schema *s = fx_schema(DT_INT64, fx_all, ARRAY_LEN(fx_all));
    size_t n = 0;
    uint8_t *p = file_bytes(s, 70, &n);
    struct sf_trailer *t = (void *)(p + n - sizeof *t);
    uint8_t *good = xalloc(n);
    memcpy(good, p, n);
    uint64_t rng = 5;
    static const uint64_t nasty[] = { 0, 1, 63, 64, 65, 1 << 20, UINT32_MAX, INT64_MAX, UINT64_MAX,
                                      UINT64_MAX - 7, UINT64_C(1) << 63, UINT64_C(1) << 40 };
    for (int i = 0; i < 20000; i++) {
        struct status st = STATUS_INIT;
        struct segment *seg = NULL;
        size_t at = (size_t)t->footer_off + fx_rand(&rng) % (size_t)(t->footer_len / 4) * 4;
        uint64_t v = fx_rand(&rng) % 3 ? nasty[fx_rand(&rng) % ARRAY_LEN(nasty)]
                                       : fx_rand(&rng) % (2 * n);
        memcpy(p + at, &v, fx_rand(&rng) % 2 && at + 8 <= n - sizeof *t ? 8 : 4);
        reseal(p, n);
        if (seg__open_bytes(&ids, s, "f", p, n, &seg, &st) == 0) {
            use(seg, s);
            (void)seg_validate(seg, &st);
            seg_unref(seg);
        }
        memcpy(p, good, n);
    }
    mem_free(good);
    mem_free(p);
    schema_unref(s);
}

static struct sf_column *column_of(uint8_t *p, size_t n, int64_t field_id)
{
    struct sf_trailer *t = (void *)(p + n - sizeof *t);
    struct sf_footer *ft = (void *)(p + t->footer_off);
    struct sf_column *cols = (void *)(ft + 1);
    for (uint32_t i = 0; i < ft->ncols; i++) {
        if (cols[i].field_id == field_id) {
            return &cols[i];
        }
    }
    fail();
    return NULL;
}

/* A writer's mistake: the bytes are sealed with fitting checksums and yet wrong. */
static int validate_with(const struct schema *s, void (*spoil)(uint8_t *p, size_t n))
{
    size_t n = 0;
    uint8_t *p = file_bytes(s, 70, &n);
    struct status st = STATUS_INIT;
    struct segment *seg = NULL;
    struct sf_trailer *t = (void *)(p + n - sizeof *t);
    struct sf_footer *ft = (void *)(p + t->footer_off);
    struct sf_column *cols = (void *)(ft + 1);
    spoil(p, n);
    for (uint32_t i = 0; i < ft->ncols; i++) {
        struct sf_block *blocks[] = { &cols[i].data, &cols[i].ends, &cols[i].valid };
        for (int k = 0; k < 3; k++) {
            blocks[k]->sum = sf_sum(p + blocks[k]->off, (size_t)blocks[k]->len);
        }
    }
    ft->ts.sum = sf_sum(p + ft->ts.off, (size_t)ft->ts.len);
    ft->order.sum = sf_sum(p + ft->order.off, (size_t)ft->order.len);
    ft->filter.sum = sf_sum(p + ft->filter.off, (size_t)ft->filter.len);
    reseal(p, n);
    int rc = seg__open_bytes(&ids, s, "f", p, n, &seg, &st);
    if (rc == 0) {
        rc = seg_validate(seg, &st);
        use(seg, s);
    }
    seg_unref(seg);
    mem_free(p);
    return rc;
}

static const struct sf_footer *footer_of(const uint8_t *p, size_t n)
{
    const struct sf_trailer *t = (const void *)(p + n - sizeof *t);
    return (const void *)(p + t->footer_off);
}
static void spoil_nothing(uint8_t *p, size_t n)
{
}
static void spoil_order_swapped(uint8_t *p, size_t n)
{
    uint32_t *order = (void *)(p + footer_of(p, n)->order.off);
    uint32_t first = order[0];
    order[0] = order[1];
    order[1] = first;
}
static void spoil_order_twice(uint8_t *p, size_t n)
{
    uint32_t *order = (void *)(p + footer_of(p, n)->order.off);
    order[5] = order[6];
}
static void spoil_order_outside(uint8_t *p, size_t n)
{
    uint32_t *order = (void *)(p + footer_of(p, n)->order.off);
    memset(order, 0xff, (size_t)footer_of(p, n)->order.len);
}
static void spoil_filter(uint8_t *p, size_t n)
{
    memset(p + footer_of(p, n)->filter.off, 0, (size_t)footer_of(p, n)->filter.len);
}
static void spoil_ts(uint8_t *p, size_t n)
{
    p[footer_of(p, n)->ts.off + 3] = 1;
}
static void spoil_ends_falling(uint8_t *p, size_t n)
{
    uint64_t *ends = (void *)(p + column_of(p, n, 108)->ends.off);
    ends[8] = UINT64_MAX;
}
static void spoil_array(uint8_t *p, size_t n)
{
    struct sf_column *c = column_of(p, n, 112);
    memset(p + c->data.off, 0x7f, (size_t)c->data.len);
}
static void spoil_valid(uint8_t *p, size_t n)
{
    p[column_of(p, n, 103)->valid.off] ^= 1;
}
static void spoil_bool(uint8_t *p, size_t n)
{
    p[column_of(p, n, 101)->data.off + 9] = 2;
}

static void test_validate_when_writer_erred_then_checksums_do_not_hide_it(void **state)
{
    struct schema *s = fx_schema(DT_INT64, fx_all, ARRAY_LEN(fx_all));
    assert_int_equal(validate_with(s, spoil_nothing), 0);
    assert_int_equal(validate_with(s, spoil_order_swapped), ST_CORRUPT);
    assert_int_equal(validate_with(s, spoil_order_twice), ST_CORRUPT);
    assert_int_equal(validate_with(s, spoil_order_outside), ST_CORRUPT);
    assert_int_equal(validate_with(s, spoil_filter), ST_CORRUPT);
    assert_int_equal(validate_with(s, spoil_ts), ST_CORRUPT);
    assert_int_equal(validate_with(s, spoil_ends_falling), ST_CORRUPT);
    assert_int_equal(validate_with(s, spoil_array), ST_CORRUPT);
    assert_int_equal(validate_with(s, spoil_valid), ST_CORRUPT);
    assert_int_equal(validate_with(s, spoil_bool), ST_CORRUPT);
    schema_unref(s);
}

static void test_open_when_schema_differs_then_it_is_refused(void **state)
{
    struct fx_field other[ARRAY_LEN(fx_all)];
    memcpy(other, fx_all, sizeof other);
    other[13].dim = 5;
    struct schema *s = fx_schema(DT_INT64, fx_all, ARRAY_LEN(fx_all));
    struct schema *dim = fx_schema(DT_INT64, other, ARRAY_LEN(other));
    struct schema *key = fx_schema(DT_VARCHAR, fx_all, ARRAY_LEN(fx_all));
    struct schema *fewer = fx_schema(DT_INT64, fx_all, 4);
    size_t n = 0;
    uint8_t *p = file_bytes(s, 20, &n);
    struct status st = STATUS_INIT;
    struct segment *seg = NULL;
    assert_int_equal(seg__open_bytes(&ids, dim, "f", p, n, &seg, &st), ST_CORRUPT);
    assert_int_equal(seg__open_bytes(&ids, key, "f", p, n, &seg, &st), ST_CORRUPT);
    ASSERT_OK(seg__open_bytes(&ids, fewer, "f", p, n, &seg, &st)); /* fields were dropped */
    ASSERT_OK(seg_validate(seg, &st));
    use(seg, fewer);
    seg_unref(seg);
    struct sf_header *h = (void *)p;
    h->version = SF_VERSION + 1;
    h->sum = hash64(h, offsetof(struct sf_header, sum));
    assert_int_equal(seg__open_bytes(&ids, s, "f", p, n, &seg, &st), ST_UNSUPPORTED);
    mem_free(p);
    schema_unref(s);
    schema_unref(dim);
    schema_unref(key);
    schema_unref(fewer);
}

static void test_write_when_power_goes_then_all_or_nothing(void **state)
{
    struct schema *s = fx_schema(DT_INT64, fx_all, ARRAY_LEN(fx_all));
    struct segment *seg = growing(s, 100);
    const int64_t keys[] = { 4, 5 };
    const hts ts[] = { 8, 9 };
    struct column pks = fx_keys(keys, 2);
    for (long nth = 1;; nth++) {
        struct crash_fs *fs = crash_fs_new((uint64_t)nth);
        struct object_store *os = NULL;
        struct status st = STATUS_INIT;
        struct segment *sealed = NULL;
        struct arena *ar = arena_new(0);
        uint64_t bytes = 0;
        const hts *got_ts = NULL;
        struct column got;
        ASSERT_OK(object_local_open("store", &os, &st));
        crash_fs_arm_change(fs, CRASH_MIX, nth);
        bool wrote = seg_write_files(seg, os, "s", &bytes, &st) == 0;
        bool wrote_delta = delta_write(os, "d/1", &pks, ts, &bytes, &st) == 0;
        bool off = crash_fs_is_off(fs);
        object_close(os);
        crash_fs_restart(fs);
        os = NULL;
        st_clear(&st);
        ASSERT_OK(object_local_open("store", &os, &st));
        int rc = seg_open(1, 2, 3, s, os, "s", &sealed, &st);
        assert_true(rc == 0 || (rc == ST_NOT_FOUND && !wrote));
        if (rc == 0) {
            ASSERT_OK(seg_validate(sealed, &st));
        }
        rc = delta_read(os, "d/1", ar, &got, &got_ts, &st);
        assert_true(rc == 0 || (rc == ST_NOT_FOUND && !wrote_delta));
        seg_unref(sealed);
        object_close(os);
        arena_free(ar);
        crash_fs_free(fs);
        if (!off) {
            assert_true(wrote && wrote_delta && nth > 4);
            break;
        }
    }
    seg_unref(seg);
    schema_unref(s);
}

static void delta_round_trip(const struct column *pks, uint32_t n)
{
    char *dir = unit_tmp_dir();
    struct object_store *os = NULL;
    struct status st = STATUS_INIT;
    struct arena *ar = arena_new(0);
    struct object_info info;
    uint64_t bytes = 0;
    const hts *got_ts = NULL;
    struct column got;
    hts *ts = arena_alloc(ar, (n + 1) * sizeof *ts);
    for (uint32_t i = 0; i < n; i++) {
        ts[i] = 1000 - i;
    }
    ASSERT_OK(object_local_open(dir, &os, &st));
    ASSERT_OK(delta_write(os, "delta/1", pks, ts, &bytes, &st));
    ASSERT_OK(object_stat(os, SLICE_LIT("delta/1"), &info, &st));
    assert_int_equal(info.size, bytes);
    ASSERT_OK(delta_read(os, "delta/1", ar, &got, &got_ts, &st));
    assert_int_equal(got.nrows, n);
    assert_int_equal(got.type, pks->type);
    assert_int_equal(got.field_id, pks->field_id);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(got_ts[i], ts[i]);
        assert_int_equal(pk_cmp(&got, i, pks, i), 0);
    }
    uint8_t *p = arena_alloc(ar, bytes);
    size_t k = 0;
    ASSERT_OK(object_get(os, SLICE_LIT("delta/1"), 0, p, bytes, &k, &st));
    for (size_t i = 0; i < bytes; i++) {
        p[i] ^= 0x10;
        assert_int_not_equal(delta__parse(p, bytes, "d", &got, &got_ts, &st), 0);
        p[i] ^= 0x10;
        assert_int_not_equal(delta__parse(p, i, "d", &got, &got_ts, &st), 0);
    }
    assert_int_equal(delta_read(os, "delta/2", ar, &got, &got_ts, &st), ST_NOT_FOUND);
    object_close(os);
    unit_tmp_remove(dir);
    arena_free(ar);
}

static void test_delta_when_written_then_it_reads_back_and_damage_is_found(void **state)
{
    const int64_t keys[] = { -1, 7, INT64_MAX };
    struct column ints = fx_keys(keys, 3);
    struct schema *s = fx_schema(DT_VARCHAR, NULL, 0);
    struct arena *ar = arena_new(0);
    struct batch b = fx_batch(s, SEED, 0, 37, 0, ar);
    delta_round_trip(&ints, 3);
    ints.nrows = 0;
    delta_round_trip(&ints, 0);
    delta_round_trip(&b.cols[0], 37);
    arena_free(ar);
    schema_unref(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_when_any_byte_is_damaged_then_open_or_validate_names_the_file),
        cmocka_unit_test(test_open_when_file_is_cut_or_longer_then_it_is_refused),
        cmocka_unit_test(test_open_when_footer_lies_then_every_number_is_checked),
        cmocka_unit_test(test_validate_when_writer_erred_then_checksums_do_not_hide_it),
        cmocka_unit_test(test_open_when_schema_differs_then_it_is_refused),
        cmocka_unit_test(test_write_when_power_goes_then_all_or_nothing),
        cmocka_unit_test(test_delta_when_written_then_it_reads_back_and_damage_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
