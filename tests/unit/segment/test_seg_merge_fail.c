/* test_seg_merge_fail.c - merges that must not come to a file: limits, damage, lost memory and power. */
#include "merge_fixture.h"
#include "alloc_torture.h"
#include "segment/sealed_int.h"

static void test_merge_when_rows_are_too_many_then_number_and_limit_are_named(void **state)
{
    enum { N = 16385, TIMES = 4096 };
    struct schema *s = fx_schema(DT_INT64, NULL, 0);
    struct world *w = world_new(DT_INT64, false);
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct segment *seg = NULL, *sealed = NULL, **from = xalloc(TIMES * sizeof *from);
    uint64_t bytes = 0;
    struct batch b = fx_batch(s, 1, 0, N, 0, ar);
    ASSERT_OK(seg_growing_new(1, 2, 3, s, &seg, &st));
    ASSERT_OK(seg_append(seg, &b, 5, 5, &st));
    ASSERT_OK(seg_write_files(seg, w->os, "from/0", &bytes, &st));
    ASSERT_OK(seg_open(1, 2, 3, s, w->os, "from/0", &sealed, &st));
    for (int i = 0; i < TIMES; i++) {
        from[i] = sealed;
    }
    struct seg_merge m = { .from = from, .nfrom = TIMES, .schema = s, .gone_before = 10 };
    struct seg_merged got = { .nrows = 77 };
    assert_int_equal(seg_merge_files(&m, w->os, "to", &got, &st), ST_TOO_LARGE);
    assert_non_null(strstr(st.msg, "67112960"));
    assert_non_null(strstr(st.msg, "67108864"));
    assert_int_equal(got.nrows, 77);
    check_absent(w->os, "to/rows.seg");
    m.nfrom = 3;
    m.expired_before = 5;
    ASSERT_OK(seg_merge_files(&m, w->os, "to", &got, &st));
    assert_int_equal(got.nrows, 3 * N);
    seg_unref(seg);
    seg_unref(sealed);
    arena_free(ar);
    schema_unref(s);
    mem_free(from);
    world_free(w);
}

static void test_merge_when_sources_do_not_fit_then_it_is_refused(void **state)
{
    struct world *w = world_new(DT_INT64, false);
    struct fx_field other[OLD];
    memcpy(other, fx_all, sizeof other);
    other[13].dim = 5;
    struct schema *dim = fx_schema(DT_INT64, other, OLD);
    struct schema *key = fx_schema(DT_VARCHAR, fx_all, OLD);
    struct status st = STATUS_INIT;
    struct seg_merged got = { .nrows = 77 };
    uint64_t rng = 7;
    add_source(w, w->old, 10, 10, 1, 1, &rng);
    assert_int_equal(merge(w, dim, w->os, &got, &st), ST_INVALID);
    assert_non_null(strstr(st.msg, "field 114"));
    assert_int_equal(merge(w, key, w->os, &got, &st), ST_INVALID);
    struct segment *sealed = w->src[0].seg;
    w->src[0].seg = growing(w->old, w->src[0].rows, 10, 1, 1);
    assert_int_equal(merge(w, w->wide, w->os, &got, &st), ST_INVALID);
    seg_unref(w->src[0].seg);
    w->src[0].seg = sealed;
    assert_int_equal(got.nrows, 77);
    check_absent(w->os, "to/rows.seg");
    schema_unref(dim);
    schema_unref(key);
    world_free(w);
}

struct stop {
    uint32_t calls, at;
};
/* index_check_fn */
static int stop_at(void *arg, struct status *st)
{
    struct stop *s = arg;
    return ++s->calls == s->at ? st_fail(st, ST_CANCELLED, "enough") : 0;
}

static void test_merge_when_told_to_stop_then_it_stops_and_nothing_is_left(void **state)
{
    struct world *w = world_new(DT_INT64, false);
    uint64_t rng = 8;
    add_source(w, w->wide, 300, 100, 1, 9, &rng);
    add_source(w, w->wide, 300, 100, 1, 9, &rng);
    add_delete(w, 5, 20);
    choose(w, 20, 2);
    struct segment *from[] = { w->src[0].seg, w->src[1].seg };
    struct stop stop = { .at = 1 };
    struct seg_merge m = { .from = from, .nfrom = 2, .schema = w->wide, .id = 9,
                           .collection_id = 2, .partition_id = 3, .gone_before = 20,
                           .expired_before = 2, .check = stop_at, .check_arg = &stop };
    for (;; stop = (struct stop){ .at = stop.at + 1 }) {
        struct status st = STATUS_INIT;
        struct seg_merged got = { .nrows = 77 };
        int rc = seg_merge_files(&m, w->os, "to", &got, &st);
        if (rc == 0) {
            assert_int_equal(stop.calls + 1, stop.at);
            check_bytes(w, w->wide, &got);
            break;
        }
        assert_int_equal(rc, ST_CANCELLED);
        assert_int_equal(stop.calls, stop.at); /* at once */
        assert_int_equal(got.nrows, 77);
        check_absent(w->os, "to/rows.seg");
    }
    assert_true(stop.calls > 50); /* for every block of both and of the new one */
    world_free(w);
}

/* Two sources that lose a row, or one that is laid in another order. */
static struct world *sources(bool laid, bool on_disk, uint32_t n, uint64_t rng)
{
    struct world *w = world_new(DT_INT64, on_disk);
    add_source(w, w->wide, n, n, 10, 30, &rng);
    if (laid) {
        choose(w, 0, 0);
        lay(w, &rng);
    } else {
        add_source(w, w->old, n, n, 10, 30, &rng);
        add_delete(w, w->src[0].rows[3].key, 35);
        choose(w, 35, 12);
    }
    return w;
}

static void lose_memory(bool laid)
{
    struct world *w = sources(laid, true, 100, 9);
    ALLOC_TORTURE {
        struct status st = STATUS_INIT;
        struct seg_merged got;
        int rc = merge(w, w->wide, w->os, &got, &st);
        assert_true(rc == 0 || rc == ST_NO_MEMORY);
        if (rc != 0) {
            check_absent(w->os, "to/rows.seg");
        }
    }
    world_free(w);
}

static void test_merge_when_memory_fails_then_nothing_is_left(void **state)
{
    lose_memory(false);
    lose_memory(true);
}

/* ---- Damage ---- */

static uint8_t *file_bytes(struct world *w, const char *key, size_t *ret_n)
{
    struct status st = STATUS_INIT;
    struct mapping *map = NULL;
    ASSERT_OK(object_map(w->os, slice_of(key), &map, &st));
    uint8_t *p = alloc_try_aligned(SF_ALIGN, map->n);
    memcpy(p, map->p, map->n);
    *ret_n = map->n;
    mapping_free(map);
    return p;
}

/* Merges with the first source from these bytes. */
static int merge_bytes(struct world *w, const uint8_t *p, size_t n, struct status *st)
{
    static const struct seg_ids ids = { 1, 2, 3 };
    struct segment *good = w->src[0].seg, *seg = NULL;
    struct seg_merged got;
    int rc = seg__open_bytes(&ids, w->wide, "damaged", p, n, &seg, st);
    if (rc != 0) {
        return rc;
    }
    w->src[0].seg = seg;
    rc = apply_deletes(w, seg, st);
    rc = rc ? rc : merge(w, w->wide, w->os, &got, st);
    w->src[0].seg = good;
    seg_unref(seg);
    return rc;
}

static void damage_any_byte(bool laid)
{
    struct world *w = sources(laid, false, 20, 10);
    struct status st = STATUS_INIT;
    size_t n = 0, want_n = 0, same = 0;
    uint8_t *p = file_bytes(w, "from/0/rows.seg", &n);
    struct seg_merged got;
    ASSERT_OK(merge(w, w->wide, w->os, &got, &st));
    uint8_t *want = file_bytes(w, "to/rows.seg", &want_n);
    for (size_t i = 0; i < n; i++) {
        ASSERT_OK(object_delete(w->os, SLICE_LIT("to/rows.seg"), &st));
        p[i] ^= (uint8_t)(1u << (i % 8));
        int rc = merge_bytes(w, p, n, &st);
        p[i] ^= (uint8_t)(1u << (i % 8));
        if (rc == 0) { /* zeros between blocks are not copied */
            size_t have_n = 0;
            uint8_t *have = file_bytes(w, "to/rows.seg", &have_n);
            assert_int_equal(have_n, want_n);
            assert_memory_equal(have, want, want_n);
            mem_free(have);
            same++;
            continue;
        }
        assert_true(rc == ST_CORRUPT || rc == ST_UNSUPPORTED);
        assert_non_null(strstr(st.msg, "damaged"));
        check_absent(w->os, "to/rows.seg");
    }
    assert_true(same > 0 && same < n / 2);
    mem_free(want);
    mem_free(p);
    world_free(w);
}

static void test_merge_when_any_byte_of_a_source_is_damaged_then_it_does_not_go_on(void **state)
{
    damage_any_byte(false);
    damage_any_byte(true);
}

/* With fitting checksums; *order is the file's. */
static int merge_spoiled(struct world *w, void (*spoil)(uint32_t *order, uint32_t nrows))
{
    struct status st = STATUS_INIT;
    size_t n = 0;
    uint8_t *p = file_bytes(w, "from/0/rows.seg", &n);
    struct sf_trailer *t = (void *)(p + n - sizeof *t);
    struct sf_footer *ft = (void *)(p + t->footer_off);
    spoil((void *)(p + ft->order.off), ft->nrows);
    ft->order.sum = sf_sum(p + ft->order.off, (size_t)ft->order.len);
    t->footer_sum = hash64(p + t->footer_off, (size_t)t->footer_len);
    t->sum = hash64(t, offsetof(struct sf_trailer, sum));
    int rc = merge_bytes(w, p, n, &st);
    if (rc != 0) {
        assert_non_null(strstr(st.msg, "damaged"));
        check_absent(w->os, "to/rows.seg");
    }
    mem_free(p);
    return rc;
}
static void spoil_nothing(uint32_t *order, uint32_t nrows)
{
}
static void spoil_swapped(uint32_t *order, uint32_t nrows)
{
    uint32_t first = order[0];
    order[0] = order[1];
    order[1] = first;
}
static void spoil_twice(uint32_t *order, uint32_t nrows)
{
    order[5] = order[6];
}
static void spoil_last_twice(uint32_t *order, uint32_t nrows)
{
    order[nrows - 1] = order[nrows - 2];
}
static void spoil_first_outside(uint32_t *order, uint32_t nrows)
{
    order[0] = nrows;
}
static void spoil_all_outside(uint32_t *order, uint32_t nrows)
{
    memset(order, 0xff, nrows * sizeof *order);
}
static void spoil_all_same(uint32_t *order, uint32_t nrows)
{
    memset(order, 0, nrows * sizeof *order);
}

static void test_merge_when_key_order_is_wrong_then_source_is_named(void **state)
{
    struct world *w = world_new(DT_INT64, false);
    struct status st = STATUS_INIT;
    uint64_t rng = 11;
    add_source(w, w->wide, 80, 1000000, 10, 30, &rng);
    add_source(w, w->wide, 80, 1000000, 10, 30, &rng);
    for (hts expired = 0; expired <= 12; expired += 12) { /* all rows, and some of them */
        choose(w, 0, expired);
        ASSERT_OK(merge_spoiled(w, spoil_nothing));
        ASSERT_OK(object_delete(w->os, SLICE_LIT("to/rows.seg"), &st));
        assert_int_equal(merge_spoiled(w, spoil_first_outside), ST_CORRUPT);
        assert_int_equal(merge_spoiled(w, spoil_all_outside), ST_CORRUPT);
        assert_int_equal(merge_spoiled(w, spoil_all_same), ST_CORRUPT);
    }
    choose(w, 0, 0); /* where every row's place counts */
    assert_int_equal(merge_spoiled(w, spoil_swapped), ST_CORRUPT);
    assert_int_equal(merge_spoiled(w, spoil_twice), ST_CORRUPT);
    assert_int_equal(merge_spoiled(w, spoil_last_twice), ST_CORRUPT);
    world_free(w);
    w = sources(true, false, 80, 11);
    ASSERT_OK(merge_spoiled(w, spoil_nothing));
    ASSERT_OK(object_delete(w->os, SLICE_LIT("to/rows.seg"), &st));
    void (*const all[])(uint32_t *, uint32_t) = { spoil_first_outside, spoil_all_outside,
                                                  spoil_all_same, spoil_swapped, spoil_twice,
                                                  spoil_last_twice };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_int_equal(merge_spoiled(w, all[i]), ST_CORRUPT);
    }
    world_free(w);
}

static void test_merge_when_power_goes_then_all_or_nothing(void **state)
{
    struct world *w = world_new(DT_INT64, true);
    uint64_t rng = 12;
    add_source(w, w->wide, 100, 70, 1, 9, &rng);
    add_source(w, w->old, 100, 70, 1, 9, &rng);
    add_delete(w, 5, 20);
    choose(w, 20, 2);
    for (long nth = 1;; nth++) {
        struct crash_fs *fs = crash_fs_new((uint64_t)nth);
        struct object_store *os = NULL;
        struct status st = STATUS_INIT;
        struct segment *seg = NULL;
        struct seg_merged got;
        ASSERT_OK(object_local_open("store", &os, &st));
        crash_fs_arm_change(fs, CRASH_MIX, nth);
        bool wrote = merge(w, w->wide, os, &got, &st) == 0, off = crash_fs_is_off(fs);
        object_close(os);
        crash_fs_restart(fs);
        os = NULL;
        st_clear(&st);
        ASSERT_OK(object_local_open("store", &os, &st));
        int rc = seg_open(9, 2, 3, w->wide, os, "to", &seg, &st);
        assert_true(rc == 0 || (rc == ST_NOT_FOUND && !wrote));
        if (rc == 0) {
            ASSERT_OK(seg_validate(seg, &st));
            check_cells(w, w->wide, seg);
        }
        seg_unref(seg);
        object_close(os);
        crash_fs_free(fs);
        if (!off) {
            assert_true(wrote && nth > 4);
            break;
        }
    }
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge_when_rows_are_too_many_then_number_and_limit_are_named),
        cmocka_unit_test(test_merge_when_sources_do_not_fit_then_it_is_refused),
        cmocka_unit_test(test_merge_when_told_to_stop_then_it_stops_and_nothing_is_left),
        cmocka_unit_test(test_merge_when_memory_fails_then_nothing_is_left),
        cmocka_unit_test(test_merge_when_any_byte_of_a_source_is_damaged_then_it_does_not_go_on),
        cmocka_unit_test(test_merge_when_key_order_is_wrong_then_source_is_named),
        cmocka_unit_test(test_merge_when_power_goes_then_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
