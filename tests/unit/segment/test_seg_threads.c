/*
 * test_seg_threads.c - one writer, several readers, no torn picture.
 *
 * The writer inserts keys 0, 1, 2, ... in batches of rising timestamps, upserts every old key now
 * and then and deletes others, and tells the readers the last timestamp whose work is done. At any
 * told timestamp T the visible keys follow from T alone, so a reader can check whatever it reads.
 * A second segment, sealed, gets the same deletes from another thread meanwhile.
 */
#include "unit.h"
#include <stdatomic.h>
#include "base/clock.h"
#include "base/pool.h"
#include "segment/segment.h"
#include "seg_fixture.h"

enum { BATCH = 50, STEPS = 600, READERS = 3, VEC = 101, NUL = 102, TXT = 103 };

static const struct fx_field fields[] = {
    { DT_FLOAT_VECTOR, DT_NONE, 4, false, false },
    { DT_INT64, DT_NONE, 0, true, false },
    { DT_VARCHAR, DT_NONE, 0, false, false },
};

struct shared {
    struct schema *s;
    struct segment *seg, *sealed;
    _Atomic uint64_t told;        /* timestamp up to which all is applied */
    _Atomic uint64_t sealed_told;
    _Atomic bool over;
    _Atomic uint32_t reads;
};

/* Step t (timestamp t) inserts keys [(t-1) * BATCH, t * BATCH); an even step then deletes the keys
 * of step t / 2 at t, and a step divisible by 3 upserts the keys of step t / 3. */
static bool key_visible(uint64_t t_read, uint64_t step)
{
    bool there = step <= t_read;
    for (uint64_t t = step + 1; t <= t_read; t++) {
        if (t % 2 == 0 && t / 2 == step) {
            there = false;
        }
        if (t % 3 == 0 && t / 3 == step) {
            there = true;
        }
    }
    return there;
}

static uint64_t keys_visible(uint64_t t_read)
{
    uint64_t n = 0;
    for (uint64_t step = 1; step <= t_read; step++) {
        n += key_visible(t_read, step) ? BATCH : 0;
    }
    return n;
}

static struct batch rows_of(uint64_t step, struct arena *ar, struct column *ret_keys)
{
    int64_t *keys = arena_alloc(ar, BATCH * sizeof *keys), *nums = arena_alloc(ar, BATCH * 8);
    float *vecs = arena_alloc(ar, BATCH * 4 * sizeof *vecs);
    struct slice *txt = arena_alloc(ar, BATCH * sizeof *txt);
    uint64_t *valid = arena_alloc(ar, 8);
    for (int i = 0; i < BATCH; i++) {
        keys[i] = (int64_t)(step - 1) * BATCH + i;
        nums[i] = keys[i] % 3 ? keys[i] : 0;
        vecs[i * 4] = vecs[i * 4 + 1] = (float)keys[i];
        txt[i] = slice_of(arena_printf(ar, "text %lld", (long long)keys[i]));
        if (keys[i] % 3) {
            bit_set(valid, (size_t)i);
        }
    }
    struct column *cols = arena_alloc(ar, 4 * sizeof *cols);
    cols[0] = fx_keys(keys, BATCH);
    cols[1] = (struct column){ .field_id = VEC, .type = DT_FLOAT_VECTOR, .dim = 4, .nrows = BATCH,
                               .width = 16, .data = (const uint8_t *)vecs };
    cols[2] = (struct column){ .field_id = NUL, .type = DT_INT64, .nrows = BATCH, .width = 8,
                               .data = (const uint8_t *)nums, .valid = valid };
    cols[3] = (struct column){ .field_id = TXT, .type = DT_VARCHAR, .nrows = BATCH, .refs = txt };
    *ret_keys = cols[0];
    return (struct batch){ .nrows = BATCH, .ncols = 4, .cols = cols };
}

static void delete_step(struct segment *seg, const struct column *keys, uint64_t t)
{
    struct status st = STATUS_INIT;
    hts ts[BATCH];
    uint32_t hits = 0;
    for (int i = 0; i < BATCH; i++) {
        ts[i] = t;
    }
    CHECK(seg_delete(seg, keys, ts, BATCH, &hits, &st) == 0);
}

static void write_step(struct segment *seg, uint64_t t)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct column keys;
    struct batch b = rows_of(t, ar, &keys);
    CHECK(seg_append(seg, &b, t, t, &st) == 0);
    if (t % 2 == 0) {
        rows_of(t / 2, ar, &keys);
        delete_step(seg, &keys, t);
    }
    if (t % 3 == 0) {
        b = rows_of(t / 3, ar, &keys);
        delete_step(seg, &keys, t);
        CHECK(seg_append(seg, &b, t, t, &st) == 0);
    }
    arena_free(ar);
}

static void writer(void *arg)
{
    struct shared *sh = arg;
    for (uint64_t t = 1; t <= STEPS; t++) {
        /* Readers must get a look in: wait until somebody has read something. */
        uint32_t seen = atomic_load(&sh->reads);
        int64_t deadline = deadline_in_ms(2000);
        while (t % 4 == 0 && atomic_load(&sh->reads) == seen && clock_mono_us() < deadline) {
        }
        write_step(sh->seg, t);
        atomic_store_explicit(&sh->told, t, memory_order_release);
    }
    atomic_store(&sh->over, true);
}

/* Deletes step after step of the sealed segment, whose rows all have timestamp 1. */
static void deleter(void *arg)
{
    struct shared *sh = arg;
    for (uint64_t t = 1; t <= STEPS; t++) {
        struct arena *ar = arena_new(0);
        struct column keys;
        rows_of(t, ar, &keys);
        delete_step(sh->sealed, &keys, t + 1);
        atomic_store_explicit(&sh->sealed_told, t, memory_order_release);
        arena_free(ar);
    }
}

static void check_query(const struct segment *seg, uint64_t t, struct arena *ar)
{
    struct status st = STATUS_INIT;
    struct seg_filter f = { .ts = t };
    const uint32_t *rows = NULL;
    uint32_t n = 0;
    struct column keys, nums, txt, ts;
    CHECK(seg_query(seg, &f, 300, DEADLINE_NONE, &rows, &n, ar, &st) == 0);
    CHECK(seg_fetch(seg, FX_PK, rows, n, ar, &keys, &st) == 0);
    CHECK(seg_fetch(seg, NUL, rows, n, ar, &nums, &st) == 0);
    CHECK(seg_fetch(seg, TXT, rows, n, ar, &txt, &st) == 0);
    CHECK(seg_fetch(seg, FIELD_TIMESTAMP, rows, n, ar, &ts, &st) == 0);
    CHECK(n == MIN(keys_visible(t), UINT64_C(300)));
    for (uint32_t i = 0; i < n; i++) {
        int64_t key = column_i64(&keys, i);
        char want[32];
        snprintf(want, sizeof want, "text %lld", (long long)key);
        CHECK(i == 0 || column_i64(&keys, i - 1) < key);
        CHECK(key_visible(t, (uint64_t)key / BATCH + 1) && (uint64_t)column_i64(&ts, i) <= t);
        CHECK(slice_is(column_cell(&txt, i), want));
        CHECK(column_is_null(&nums, i) == (key % 3 == 0));
        CHECK(column_is_null(&nums, i) || column_i64(&nums, i) == key);
    }
}

static void check_search(const struct segment *seg, uint64_t t, struct arena *ar)
{
    struct status st = STATUS_INIT;
    const float query[4] = { (float)(t * BATCH / 2), (float)(t * BATCH / 2), 0, 0 };
    struct seg_search q = { .filter = { .ts = t }, .field_id = VEC, .metric = METRIC_L2,
                            .queries = query, .nq = 1, .deadline_us = DEADLINE_NONE };
    struct topk *tk = NULL;
    uint32_t rows[20];
    struct column keys;
    CHECK(seg_topk_new(&q, 20, &tk, &st) == 0);
    CHECK(seg_search(seg, &q, tk, ar, &st) == 0);
    uint32_t n = topk_count(tk, 0);
    CHECK(n == MIN(keys_visible(t), UINT64_C(20)));
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = (uint32_t)topk_row(tk, 0, i);
    }
    CHECK(seg_fetch(seg, FX_PK, rows, n, ar, &keys, &st) == 0);
    for (uint32_t i = 0; i < n; i++) {
        CHECK(key_visible(t, (uint64_t)column_i64(&keys, i) / BATCH + 1));
    }
    topk_free(tk);
}

/* Some keys by name: goes through the key map while the writer enters others. */
static void check_keys(const struct shared *sh, uint64_t t, uint64_t *rng, struct arena *ar)
{
    struct status st = STATUS_INIT;
    struct seg_filter f = { .ts = t };
    int64_t keys[4];
    uint64_t want = 0, n = 0;
    for (int i = 0; i < 4; i++) { /* four different keys; some are of steps to come */
        keys[i] = (int64_t)(fx_rand(rng) % ((t + 2) * BATCH)) / 4 * 4 + i;
        want += key_visible(t, (uint64_t)keys[i] / BATCH + 1);
    }
    const char *text = arena_printf(ar, "f0 in [%lld, %lld, %lld, %lld]", (long long)keys[0],
                                    (long long)keys[1], (long long)keys[2], (long long)keys[3]);
    CHECK(filter_parse(slice_of(text), sh->s, NULL, 0, ar, &f.expr, &st) == 0);
    CHECK(seg_count(sh->seg, &f, DEADLINE_NONE, &n, ar, &st) == 0);
    CHECK(n == want);
}

static void reader(void *arg)
{
    struct shared *sh = arg;
    struct arena *ar = arena_new(0);
    uint64_t rng = (uint64_t)(uintptr_t)&ar;
    bool last = false;
    while (!last) {
        last = atomic_load(&sh->over);
        uint64_t t = atomic_load_explicit(&sh->told, memory_order_acquire), n = 0;
        t -= fx_rand(&rng) % 4 == 0 ? fx_rand(&rng) % (t + 1) : 0; /* the past, too */
        struct status st = STATUS_INIT;
        struct seg_filter f = { .ts = t };
        CHECK(seg_count(sh->seg, &f, DEADLINE_NONE, &n, ar, &st) == 0);
        CHECK(n == keys_visible(t));
        check_query(sh->seg, t, ar);
        check_search(sh->seg, t, ar);
        check_keys(sh, t, &rng, ar);

        uint64_t gone = atomic_load_explicit(&sh->sealed_told, memory_order_acquire);
        f.ts = gone + 1; /* steps 1 .. gone are deleted, later ones may be */
        CHECK(seg_count(sh->sealed, &f, DEADLINE_NONE, &n, ar, &st) == 0);
        CHECK(n == (STEPS - gone) * BATCH);
        f.ts = 1;
        CHECK(seg_count(sh->sealed, &f, DEADLINE_NONE, &n, ar, &st) == 0);
        CHECK(n == STEPS * BATCH);
        struct seg_info info;
        seg_get_info(sh->seg, &info);
        CHECK(info.max_ts >= t);
        atomic_fetch_add(&sh->reads, 1);
        arena_reset(ar);
    }
    arena_free(ar);
}

static struct segment *sealed_rows(const struct schema *s)
{
    char *dir = unit_tmp_dir();
    struct object_store *os = NULL;
    struct segment *seg = NULL, *ret = NULL;
    struct status st = STATUS_INIT;
    struct arena *ar = arena_new(0);
    uint64_t bytes = 0;
    ASSERT_OK(object_local_open(dir, &os, &st));
    ASSERT_OK(seg_growing_new(1, 1, 1, s, &seg, &st));
    for (uint64_t step = 1; step <= STEPS; step++) {
        struct column keys;
        struct batch b = rows_of(step, ar, &keys);
        ASSERT_OK(seg_append(seg, &b, 1, 1, &st));
    }
    ASSERT_OK(seg_write_files(seg, os, "s", &bytes, &st));
    ASSERT_OK(seg_open(1, 1, 1, s, os, "s", &ret, &st));
    seg_unref(seg);
    object_close(os);
    unit_tmp_remove(dir);
    arena_free(ar);
    return ret;
}

static void test_readers_when_writer_runs_then_every_picture_is_whole(void **state)
{
    struct shared *sh = xalloc(sizeof *sh);
    struct thread *threads[READERS + 2];
    struct status st = STATUS_INIT;
    sh->s = fx_schema(DT_INT64, fields, ARRAY_LEN(fields));
    sh->sealed = sealed_rows(sh->s);
    ASSERT_OK(seg_growing_new(1, 1, 1, sh->s, &sh->seg, &st));
    for (int i = 0; i < READERS; i++) {
        threads[i] = thread_start("reader", reader, sh);
    }
    threads[READERS] = thread_start("writer", writer, sh);
    threads[READERS + 1] = thread_start("deleter", deleter, sh);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        thread_join(threads[i]);
    }
    assert_true(atomic_load(&sh->reads) >= READERS);
    ASSERT_OK(seg_validate(sh->seg, &st));
    ASSERT_OK(seg_validate(sh->sealed, &st));
    seg_unref(sh->seg);
    seg_unref(sh->sealed);
    schema_unref(sh->s);
    mem_free(sh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_when_writer_runs_then_every_picture_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
