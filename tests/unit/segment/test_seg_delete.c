/* test_seg_delete.c - who sees which row: random inserts and deletes against a plain model. */
#include "unit.h"
#include "segment/seg_int.h"
#include "segment/segment.h"
#include "seg_fixture.h"

enum { ROWS_MAX = 20000 };

/* The model: what the room's header promises, in the plainest way. */
struct model {
    uint32_t n;
    int64_t keys[ROWS_MAX];
    hts ts[ROWS_MAX], del[ROWS_MAX];
};

static uint32_t model_delete(struct model *m, int64_t key, hts ts)
{
    uint32_t hits = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        if (m->keys[i] == key && m->ts[i] < ts) {
            hits += m->del[i] == 0;
            m->del[i] = m->del[i] ? MIN(m->del[i], ts) : ts;
        }
    }
    return hits;
}

static bool model_sees(const struct model *m, uint32_t row, const struct seg_filter *f)
{
    return m->ts[row] <= f->ts && m->ts[row] >= f->ttl_before &&
           !(m->del[row] > 0 && m->del[row] <= f->ts);
}

static int model_order(const struct model *m, uint32_t a, uint32_t b)
{
    if (m->keys[a] != m->keys[b]) {
        return m->keys[a] < m->keys[b] ? -1 : 1;
    }
    if (m->ts[a] != m->ts[b]) {
        return m->ts[a] > m->ts[b] ? -1 : 1;
    }
    return a > b ? -1 : 1;
}

static void check(const struct segment *seg, const struct model *m, const struct seg_filter *f,
                  uint32_t limit)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    uint64_t count = 0, want = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        want += model_sees(m, i, f);
    }
    ASSERT_OK(seg_count(seg, f, INT64_MAX, &count, ar, &st));
    assert_int_equal(count, want);

    const uint32_t *rows = NULL;
    uint32_t n = 0, keys = 0;
    ASSERT_OK(seg_query(seg, f, limit, INT64_MAX, &rows, &n, ar, &st));
    uint8_t *in = arena_alloc(ar, m->n + 1);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(rows[i] < m->n && model_sees(m, rows[i], f));
        assert_true(i == 0 || model_order(m, rows[i - 1], rows[i]) < 0);
        keys += i == 0 || m->keys[rows[i]] != m->keys[rows[i - 1]];
        in[rows[i]] = 1;
    }
    assert_true(keys <= limit);
    for (uint32_t i = 0; i < m->n; i++) { /* whatever is missing has a key beyond the last */
        if (!in[i] && model_sees(m, i, f)) {
            assert_true(keys == limit && (limit == 0 || m->keys[i] > m->keys[rows[n - 1]]));
        }
    }
    uint64_t *bits = NULL;
    uint32_t nbits = 0, nset = 0;
    ASSERT_OK(seg_bits(seg, f, -1, INT64_MAX, ar, &bits, &nbits, &nset, &st));
    assert_int_equal(nset, want);
    for (uint32_t i = 0; i < m->n; i++) {
        assert_int_equal(bit_get(bits, i), model_sees(m, i, f));
    }
    arena_free(ar);
}

static void append(struct segment *seg, struct model *m, const int64_t *keys, uint32_t n, hts ts)
{
    struct status st = STATUS_INIT;
    struct column col = fx_keys(keys, n);
    struct batch b = { .nrows = n, .ncols = 1, .cols = &col };
    ASSERT_OK(seg_append(seg, &b, ts, ts, &st));
    for (uint32_t i = 0; i < n; i++) {
        m->keys[m->n] = keys[i];
        m->ts[m->n++] = ts;
    }
}

static void delete(struct segment *seg, struct model *m, const int64_t *keys, const hts *ts,
                   uint32_t n)
{
    struct status st = STATUS_INIT;
    struct column col = fx_keys(keys, n);
    uint32_t hits = 0, want = 0;
    for (uint32_t i = 0; m && i < n; i++) {
        want += model_delete(m, keys[i], ts[i]);
    }
    ASSERT_OK(seg_delete(seg, &col, ts, n, &hits, &st));
    if (m) {
        assert_int_equal(hits, want);
    }
}

static struct segment *seal(const struct segment *seg, const struct schema *s)
{
    char *dir = unit_tmp_dir();
    struct object_store *os = NULL;
    struct segment *ret = NULL;
    struct status st = STATUS_INIT;
    uint64_t bytes = 0;
    ASSERT_OK(object_local_open(dir, &os, &st));
    ASSERT_OK(seg_write_files(seg, os, "s", &bytes, &st));
    ASSERT_OK(seg_open(1, 1, 1, s, os, "s", &ret, &st));
    object_close(os);
    unit_tmp_remove(dir); /* the mapping lives on */
    return ret;
}

static void random_history(uint64_t seed, int64_t key_space)
{
    struct schema *s = fx_schema(DT_INT64, NULL, 0);
    struct model *m = xalloc(sizeof *m);
    struct segment *seg = NULL;
    struct status st = STATUS_INIT;
    uint64_t rng = seed;
    int64_t *keys = xalloc(1000 * sizeof *keys);
    hts *ts = xalloc(1000 * sizeof *ts), now = 10;
    int64_t *all_keys = xalloc(100000 * sizeof *keys);
    hts *all_ts = xalloc(100000 * sizeof *ts);
    uint32_t nall = 0;
    ASSERT_OK(seg_growing_new(1, 1, 1, s, &seg, &st));
    for (int step = 0; step < 60; step++) {
        uint32_t n = (uint32_t)(fx_rand(&rng) % 300);
        now += 1 + fx_rand(&rng) % 3;
        for (uint32_t i = 0; i < n; i++) {
            keys[i] = (int64_t)(fx_rand(&rng) % (uint64_t)key_space) - key_space / 2;
        }
        append(seg, m, keys, n, now);
        n = (uint32_t)(fx_rand(&rng) % 40);
        for (uint32_t i = 0; i < n; i++) {
            keys[i] = (int64_t)(fx_rand(&rng) % (uint64_t)key_space) - key_space / 2;
            ts[i] = now - MIN(now, fx_rand(&rng) % 20) + 2; /* early and late ones */
            all_keys[nall] = keys[i];
            all_ts[nall++] = ts[i];
        }
        delete(seg, m, keys, ts, n);
        delete(seg, m, keys, ts, n); /* idempotent: the model says 0 further hits */
        struct seg_filter f = { .ts = now - fx_rand(&rng) % 12 };
        check(seg, m, &f, (uint32_t)(fx_rand(&rng) % 50));
    }
    struct segment *sealed = seal(seg, s);
    struct seg_info gi, si;
    /* The same deletes in another order lead to the same rows. */
    for (uint32_t i = nall; i > 0; i--) {
        uint32_t j = (uint32_t)(fx_rand(&rng) % i);
        int64_t k = all_keys[j];
        hts t = all_ts[j];
        all_keys[j] = all_keys[i - 1];
        all_ts[j] = all_ts[i - 1];
        delete(sealed, NULL, &k, &t, 1);
    }
    /* Deletes that the growing one saw before a row came hit it here too when they are later. */
    struct model *m2 = xalloc(sizeof *m2);
    memcpy(m2, m, sizeof *m);
    seg_get_info(seg, &gi);
    seg_get_info(sealed, &si);
    assert_true(si.deleted_rows >= gi.deleted_rows);
    for (uint32_t i = 0; i < m2->n; i++) {
        m2->del[i] = seg__deleted_at(sealed, i);
        assert_true(m->del[i] == 0 || (m2->del[i] && m2->del[i] <= m->del[i]));
        assert_true(m2->del[i] == 0 || m2->del[i] > m2->ts[i]);
    }
    const uint32_t limits[] = { 0, 1, 7, 100, 3000, UINT32_MAX };
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        for (hts t = now; t > 10 && t > now - 60; t -= 9) {
            struct seg_filter f = { .ts = t, .ttl_before = (t % 2) * (t - 30) };
            check(seg, m, &f, limits[i]);
            check(sealed, m2, &f, limits[i]);
        }
    }
    ASSERT_OK(seg_validate(seg, &st));
    ASSERT_OK(seg_validate(sealed, &st));
    seg_unref(seg);
    seg_unref(sealed);
    mem_free(m);
    mem_free(m2);
    mem_free(keys);
    mem_free(ts);
    mem_free(all_keys);
    mem_free(all_ts);
    schema_unref(s);
}

static void test_history_when_keys_repeat_often_then_model_agrees(void **state)
{
    random_history(1, 300);
}

static void test_history_when_keys_repeat_rarely_then_model_agrees(void **state)
{
    random_history(2, 50000);
}

static void test_delete_when_upserted_at_one_timestamp_then_new_row_stays(void **state)
{
    struct schema *s = fx_schema(DT_INT64, NULL, 0);
    struct segment *seg = NULL;
    struct status st = STATUS_INIT;
    struct model *m = xalloc(sizeof *m);
    const int64_t key = -5;
    const hts at = 20;
    ASSERT_OK(seg_growing_new(1, 1, 1, s, &seg, &st));
    append(seg, m, &key, 1, 10);
    delete(seg, m, &key, &at, 1);
    append(seg, m, &key, 1, 20);
    delete(seg, m, &key, &at, 1); /* replayed after the row: 20 < 20 is false */
    const hts times[] = { 9, 10, 19, 20, 21 };
    const uint64_t seen[] = { 0, 1, 1, 1, 1 };
    struct segment *sealed = seal(seg, s);
    delete(sealed, NULL, &key, &at, 1);
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        struct seg_filter f = { .ts = times[i] };
        struct arena *ar = arena_new(0);
        const uint32_t *rows = NULL;
        uint32_t n = 0;
        for (int k = 0; k < 2; k++) {
            ASSERT_OK(seg_query(k ? sealed : seg, &f, 10, INT64_MAX, &rows, &n, ar, &st));
            assert_int_equal(n, seen[i]);
            assert_true(n == 0 || rows[0] == (times[i] >= 20));
        }
        arena_free(ar);
    }
    seg_unref(seg);
    seg_unref(sealed);
    mem_free(m);
    schema_unref(s);
}

static void test_delete_when_keys_are_strings_then_only_equal_ones_go(void **state)
{
    struct schema *s = fx_schema(DT_VARCHAR, NULL, 0);
    struct segment *seg = NULL;
    struct status st = STATUS_INIT;
    struct arena *ar = arena_new(0);
    const char *names[] = { "", "a", "a\0b", "ab", "abcdefgh", "abcdefghi", "abcdefgi", "b" };
    const size_t lens[] = { 0, 1, 3, 2, 8, 9, 8, 1 };
    struct column_builder *cb = column_builder_new(ar, FX_PK, DT_VARCHAR, DT_NONE, 0, 8);
    struct column keys;
    for (int i = 7; i >= 0; i--) {
        assert_true(column_builder_add(cb, slice_n(names[i], lens[i])));
    }
    column_builder_finish(cb, &keys);
    struct batch b = { .nrows = 8, .ncols = 1, .cols = &keys };
    ASSERT_OK(seg_growing_new(1, 1, 1, s, &seg, &st));
    ASSERT_OK(seg_append(seg, &b, 5, 5, &st));
    struct segment *sealed = seal(seg, s);
    for (int k = 0; k < 2; k++) {
        struct segment *sg = k ? sealed : seg;
        struct seg_filter f = { .ts = 100 };
        const uint32_t *rows = NULL;
        uint32_t n = 0, hits = 0;
        ASSERT_OK(seg_query(sg, &f, UINT32_MAX, INT64_MAX, &rows, &n, ar, &st));
        assert_int_equal(n, 8);
        for (uint32_t i = 0; i < 8; i++) {
            assert_int_equal(rows[i], 7 - i); /* names[] is in bytewise order */
        }
        for (uint32_t i = 0; i < 8; i++) {
            struct column one;
            hts ts = 50;
            assert_true(column_select(&keys, &i, 1, ar, &one));
            ASSERT_OK(seg_delete(sg, &one, &ts, 1, &hits, &st));
            assert_int_equal(hits, 1);
            ASSERT_OK(seg_query(sg, &f, 3, INT64_MAX, &rows, &n, ar, &st));
            assert_int_equal(n, MIN(3u, 7 - i));
        }
        struct column ints = fx_keys((const int64_t[]){ 1 }, 1);
        assert_int_equal(seg_delete(sg, &ints, (const hts[]){ 9 }, 1, &hits, &st), ST_INVALID);
    }
    seg_unref(seg);
    seg_unref(sealed);
    arena_free(ar);
    schema_unref(s);
}

static void test_delete_when_page_cannot_be_had_then_it_says_so_and_can_be_repeated(void **state)
{
    struct schema *s = fx_schema(DT_INT64, NULL, 0);
    struct segment *seg = NULL;
    struct status st = STATUS_INIT;
    struct model *m = xalloc(sizeof *m);
    const int64_t key = 1;
    const hts at = 20;
    struct column col = fx_keys(&key, 1);
    uint32_t hits = 7;
    ASSERT_OK(seg_growing_new(1, 1, 1, s, &seg, &st));
    append(seg, m, &key, 1, 10);
    for (long nth = 1; nth <= 2; nth++) {
        alloc_fail_after(nth);
        assert_int_equal(seg_delete(seg, &col, &at, 1, &hits, &st), ST_NO_MEMORY);
        alloc_fail_after(0);
        assert_int_equal(hits, 7);
    }
    delete(seg, m, &key, &at, 1);
    struct seg_filter f = { .ts = 20 };
    check(seg, m, &f, 5);
    seg_unref(seg);
    mem_free(m);
    schema_unref(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_history_when_keys_repeat_often_then_model_agrees),
        cmocka_unit_test(test_history_when_keys_repeat_rarely_then_model_agrees),
        cmocka_unit_test(test_delete_when_upserted_at_one_timestamp_then_new_row_stays),
        cmocka_unit_test(test_delete_when_keys_are_strings_then_only_equal_ones_go),
        cmocka_unit_test(test_delete_when_page_cannot_be_had_then_it_says_so_and_can_be_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
