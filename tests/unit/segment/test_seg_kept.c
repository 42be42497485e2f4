/*
 * test_seg_kept.c - filters asked again and again: the answers of a sealed segment that keeps them
 * are those of a segment opened anew for every question, whatever was deleted in between.
 */
#include <stdatomic.h>
#include "unit.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "index/ann.h"
#include "index/flat.h"
#include "segment/segment.h"
#include "seg_fixture.h"

enum { SEED = 9, NROWS = 3000, NUM = 101, VEC = 102, NULLABLE = 103, DIM = 4, LAST = 100 };

static const struct fx_field fields[] = {
    { DT_INT64, DT_NONE, 0, false, false },
    { DT_FLOAT_VECTOR, DT_NONE, DIM, false, false },
    { DT_FLOAT_VECTOR, DT_NONE, DIM, true, false },
};

struct world {
    char *dir;
    struct object_store *os;
    struct schema *s;
    struct segment *seg;
    struct arena *ar;
};

static int sink(void *arg, const void *p, size_t n, struct status *st)
{
    return object_append(arg, p, n, st);
}

static void build(struct world *w, int64_t field, enum index_type type, const char *key)
{
    struct status st = STATUS_INIT;
    struct object_writer *ow = NULL;
    struct index_params params;
    struct flat_rows raw;
    const uint64_t *valid;
    assert_true(seg_vectors(w->seg, field, &raw, &valid));
    struct index_rows rows = { .metric = METRIC_L2, .type = raw.type, .dim = raw.dim,
                               .base = raw.base, .stride = raw.stride,
                               .nrows = (uint32_t)raw.nrows };
    struct index_build b = { .rows = &rows, .params = &params };
    index_params_init(&params, type);
    ASSERT_OK(object_writer_open(w->os, slice_of(key), &ow, &st));
    ASSERT_OK(index_build(&b, sink, ow, &st));
    ASSERT_OK(object_commit(ow, &st));
}

static struct segment *open_seg(struct world *w)
{
    struct status st = STATUS_INIT;
    struct segment *seg = NULL;
    bool opened = false;
    struct seg_index_file a = { .field_id = VEC, .key = "v", .index_type = "HNSW",
                                .metric_type = "L2" };
    struct seg_index_file b = { .field_id = NULLABLE, .key = "n", .index_type = "HNSW",
                                .metric_type = "L2" };
    ASSERT_OK(seg_open(1, 1, 1, w->s, w->os, "s", &seg, &st));
    if (w->seg) {
        ASSERT_OK(seg_index_open(seg, &a, w->os, &opened, &st));
        ASSERT_OK(seg_index_open(seg, &b, w->os, &opened, &st));
    }
    return seg;
}

static int setup(void **state)
{
    struct world *w = xalloc(sizeof *w);
    struct status st = STATUS_INIT;
    struct segment *growing = NULL;
    uint64_t bytes = 0;
    w->dir = unit_tmp_dir();
    w->ar = arena_new(0);
    w->s = fx_schema(DT_INT64, fields, ARRAY_LEN(fields));
    ASSERT_OK(object_local_open(w->dir, &w->os, &st));
    ASSERT_OK(seg_growing_new(1, 1, 1, w->s, &growing, &st));
    struct batch b = fx_batch(w->s, SEED, 0, NROWS, 0, w->ar);
    int64_t *num = (int64_t *)(uintptr_t)b.cols[1].data; /* 0, 1, ...: what rows pass is known */
    for (int64_t i = 0; i < NROWS; i++) {
        num[i] = i;
    }
    ASSERT_OK(seg_append(growing, &b, LAST, 1, &st));
    ASSERT_OK(seg_write_files(growing, w->os, "s", &bytes, &st));
    seg_unref(growing);
    w->seg = open_seg(w);
    build(w, VEC, INDEX_HNSW, "v");
    build(w, NULLABLE, INDEX_HNSW, "n");
    seg_unref(w->seg);
    w->seg = open_seg(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    seg_unref(w->seg);
    schema_unref(w->s);
    object_close(w->os);
    unit_tmp_remove(w->dir);
    arena_free(w->ar);
    mem_free(w);
    return 0;
}

static const struct expr *expr_of(struct world *w, struct arena *ar, const char *text)
{
    struct status st = STATUS_INIT;
    const struct expr *e = NULL;
    ASSERT_OK(filter_parse(slice_of(text), w->s, NULL, 0, ar, &e, &st));
    return e;
}

static int64_t hits(const char *kept)
{
    return metric_value(metric_get(METRIC_COUNTER, "elanus_segment_filter_hits_total", kept, ""));
}

static const float queries[2][DIM] = { { 20, 20, 20, 20 }, { 99, 0, 0, 99 } };

static struct topk *search(struct segment *seg, int64_t field, const struct expr *e, hts ts,
                           struct arena *ar)
{
    struct status st = STATUS_INIT;
    struct topk *tk = NULL;
    struct seg_param ef = { "ef", "3000" };
    struct seg_search q = { .filter = { .ts = ts, .expr = e }, .field_id = field,
                            .metric = METRIC_L2, .queries = queries, .nq = 2, .params = &ef,
                            .nparams = 1, .deadline_us = DEADLINE_NONE };
    ASSERT_OK(seg_topk_new(&q, 20, &tk, &st));
    ASSERT_OK(seg_search(seg, &q, tk, ar, &st));
    return tk;
}

static uint64_t count_rows(struct segment *seg, const struct expr *e, hts ts, struct arena *ar)
{
    struct status st = STATUS_INIT;
    struct seg_filter f = { .ts = ts, .expr = e };
    uint64_t n = 0;
    ASSERT_OK(seg_count(seg, &f, DEADLINE_NONE, &n, ar, &st));
    return n;
}

/* What w->seg answers, which was asked before, is what a segment says that never was. */
static void same(struct world *w, struct segment *fresh, const char *text, hts ts)
{
    const struct expr *e = expr_of(w, w->ar, text);
    for (int64_t field = VEC; field <= NULLABLE; field++) {
        struct topk *want = search(fresh, field, e, ts, w->ar);
        struct topk *got = search(w->seg, field, e, ts, w->ar);
        for (uint32_t j = 0; j < 2; j++) {
            assert_int_equal(topk_count(got, j), topk_count(want, j));
            for (uint32_t i = 0; i < topk_count(got, j); i++) {
                assert_true(topk_row(got, j, i) == topk_row(want, j, i));
            }
        }
        topk_free(got);
        topk_free(want);
    }
    assert_int_equal(count_rows(w->seg, e, ts, w->ar), count_rows(fresh, e, ts, w->ar));
}

static void delete_keys(struct segment *seg, int64_t from, int64_t step, int64_t n, hts ts)
{
    struct status st = STATUS_INIT;
    for (int64_t i = 0; i < n; i++) {
        int64_t key = from + i * step;
        struct column col = fx_keys(&key, 1);
        uint32_t marked = 0;
        ASSERT_OK(seg_delete(seg, &col, &ts, 1, &marked, &st));
    }
}

static void test_filter_when_asked_again_then_kept_and_the_same(void **state)
{
    struct world *w = *state;
    static const char *const texts[] = { "f1 < 1500", "f1 < 300", "f1 % 7 == 3 or f1 in [1, 2, 5]",
                                         "f1 < 0", "f1 >= 0" };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        int64_t passes = hits("kept=\"pass\""), wheres = hits("kept=\"where\"");
        for (int round = 0; round < 4; round++) {
            struct segment *fresh = open_seg(w);
            same(w, fresh, texts[i], LAST);
            seg_unref(fresh);
        }
        /* Nothing and everything need no list of bits for the index of a field without nulls. */
        assert_true(hits("kept=\"pass\"") >= passes + (i < 3 ? 4 : 0));
        assert_true(hits("kept=\"where\"") >= wheres + 2);
    }
}

static void test_filter_when_rows_are_deleted_then_readers_see_their_moment(void **state)
{
    struct world *w = *state;
    for (int64_t step = 0; step < 4; step++) {
        struct segment *fresh = open_seg(w);
        hts ts = LAST + 10 * (hts)step;
        for (int64_t k = 0; k < step; k++) {
            delete_keys(fresh, 20 * k, 1, 20, LAST + 10 * (hts)(k + 1));
        }
        if (step) {
            delete_keys(w->seg, 20 * (step - 1), 1, 20, ts);
        }
        for (int round = 0; round < 4; round++) {
            same(w, fresh, "f1 < 400", ts);
            same(w, fresh, "f1 < 400", ts - 1); /* before the last delete */
            same(w, fresh, "", ts + 5);
            same(w, fresh, "f1 < 400", LAST - 1); /* before the rows */
        }
        seg_unref(fresh);
    }
    const struct expr *e = expr_of(w, w->ar, "f1 < 400");
    assert_int_equal(count_rows(w->seg, e, LAST + 30, w->ar), 340);
    assert_int_equal(count_rows(w->seg, e, LAST + 19, w->ar), 380);
    /* One that comes late, of an earlier time, changes what later readers see. */
    delete_keys(w->seg, 100, 1, 10, LAST + 1);
    struct topk *tk = search(w->seg, VEC, e, LAST + 40, w->ar);
    for (uint32_t i = 0; i < topk_count(tk, 0); i++) {
        assert_false(topk_row(tk, 0, i) >= 100 && topk_row(tk, 0, i) < 110);
    }
    topk_free(tk);
}

/* Rows have what the schema of the moment says of a field that came after them. */
static void test_filter_when_the_schema_changes_then_defaults_are_its_own(void **state)
{
    struct world *w = *state;
    struct fx_field more[ARRAY_LEN(fields) + 1];
    memcpy(more, fields, sizeof fields);
    more[ARRAY_LEN(fields)] = (struct fx_field){ DT_INT32, DT_NONE, 0, true, true };
    struct schema *with = fx_schema(DT_INT64, more, ARRAY_LEN(more));
    more[ARRAY_LEN(fields)].has_default = false;
    struct schema *without = fx_schema(DT_INT64, more, ARRAY_LEN(more));
    for (int turn = 0; turn < 4; turn++) {
        struct schema *s = turn % 2 ? without : with;
        struct status st = STATUS_INIT;
        const struct expr *e = NULL;
        seg_set_schema(w->seg, s);
        ASSERT_OK(filter_parse(slice_of("f4 == 42 and f1 < 300"), s, NULL, 0, w->ar, &e, &st));
        for (int round = 0; round < 3; round++) {
            struct topk *tk = search(w->seg, VEC, e, LAST, w->ar);
            assert_int_equal(topk_count(tk, 0), turn % 2 ? 0 : 20);
            assert_int_equal(count_rows(w->seg, e, LAST, w->ar), turn % 2 ? 0 : 300);
            topk_free(tk);
        }
    }
    schema_unref(with);
    schema_unref(without);
}

static void test_filter_when_many_are_asked_then_memory_stays_bounded(void **state)
{
    struct world *w = *state;
    struct seg_info before, after;
    size_t most = 0;
    topk_free(search(w->seg, VEC, NULL, LAST, w->ar)); /* scratch of the index */
    seg_get_info(w->seg, &before);
    for (int i = 1; i < 400; i++) {
        struct arena *ar = arena_new(0);
        const struct expr *e = expr_of(w, ar, arena_printf(ar, "f1 < %d", i));
        for (int round = 0; round < 3; round++) {
            struct topk *tk = search(w->seg, VEC, e, LAST, ar);
            assert_int_equal(topk_count(tk, 0), MIN(i, 20));
            topk_free(tk);
        }
        seg_get_info(w->seg, &after);
        most = MAX(most, after.memory_bytes - before.memory_bytes);
        arena_free(ar);
    }
    assert_true(most > 400); /* it does keep something */
    assert_true(most < 2 * NROWS + (64 << 10));
}

/* ---- threads ---- */

enum { READERS = 3, DELETES = 200 };

struct shared {
    struct world *w;
    _Atomic uint64_t told; /* deletes up to here are applied: key i at LAST + 1 + i */
    _Atomic bool over;
    _Atomic uint32_t reads;
};

/* Keys 0 .. told - 1 are gone, later ones are not; f1 is the key. */
static void reader(struct shared *sh, uint64_t turn)
{
    struct arena *ar = arena_new(0);
    uint64_t told = atomic_load_explicit(&sh->told, memory_order_acquire);
    const char *text = arena_printf(ar, "f1 < %d", turn % 2 ? 250 : 400);
    struct topk *tk = search(sh->w->seg, VEC, expr_of(sh->w, ar, text), LAST + told, ar);
    uint64_t all = (turn % 2 ? 250 : 400);
    assert_int_equal(topk_count(tk, 0), MIN(all - told, 20u));
    for (uint32_t i = 0; i < topk_count(tk, 0); i++) {
        assert_true(topk_row(tk, 0, i) >= told && topk_row(tk, 0, i) < all);
    }
    assert_int_equal(count_rows(sh->w->seg, expr_of(sh->w, ar, text), LAST + told, ar), all - told);
    topk_free(tk);
    arena_free(ar);
    atomic_fetch_add_explicit(&sh->reads, 1, memory_order_relaxed);
}

static void thread(void *arg, size_t i)
{
    struct shared *sh = arg;
    if (i > 0) {
        for (uint64_t turn = i; !atomic_load_explicit(&sh->over, memory_order_relaxed); turn++) {
            reader(sh, turn / 4);
        }
        return;
    }
    for (int64_t k = 0; k < DELETES; k++) {
        uint32_t seen = atomic_load_explicit(&sh->reads, memory_order_relaxed);
        delete_keys(sh->w->seg, k, 1, 1, LAST + 1 + (hts)k);
        atomic_store_explicit(&sh->told, (uint64_t)k + 1, memory_order_release);
        for (int spin = 0; spin < 200 && k % 4 == 0 &&
                           atomic_load_explicit(&sh->reads, memory_order_relaxed) < seen + 6;
             spin++) {
            usleep(50);
        }
    }
    atomic_store_explicit(&sh->over, true, memory_order_relaxed);
}

static void test_filter_when_deletes_come_beside_then_every_answer_is_of_its_moment(void **state)
{
    struct shared sh = { .w = *state };
    struct pool *pool = pool_new("readers", READERS, 16);
    int64_t passes = hits("kept=\"pass\"");
    parallel_for(pool, READERS + 1, thread, &sh);
    pool_free(pool);
    assert_true(atomic_load(&sh.reads) > READERS);
    assert_true(hits("kept=\"pass\"") > passes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        CASE(test_filter_when_asked_again_then_kept_and_the_same),
        CASE(test_filter_when_rows_are_deleted_then_readers_see_their_moment),
        CASE(test_filter_when_the_schema_changes_then_defaults_are_its_own),
        CASE(test_filter_when_many_are_asked_then_memory_stays_bounded),
        CASE(test_filter_when_deletes_come_beside_then_every_answer_is_of_its_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
