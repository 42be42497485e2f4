/* test_seg_tend.c - growing rows are coded, sorted and attached beside searches, which stay right. */
#include "unit.h"
#include <stdatomic.h>
#include "base/clock.h"
#include "segment/segment.h"
#include "seg_fixture.h"

enum { SEED = 5, VEC = FX_FIRST, DIM = 16, GUIDE = 42, GUIDE_ROWS = 100000, STEPS = 60, STEP = 100 };

static const struct fx_field fields[] = { { DT_FLOAT_VECTOR, DT_NONE, DIM, false, false } };

struct world {
    struct schema *s;
    struct segment *seg;
    _Atomic uint32_t told; /* rows appended */
    _Atomic bool over;
};

static void append(struct world *w, uint32_t at, uint32_t n)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct batch b = fx_batch(w->s, SEED, at, n, 0, ar);
    CHECK(seg_append(w->seg, &b, 100 + at, at, &st) == 0);
    atomic_store_explicit(&w->told, at + n, memory_order_release);
    arena_free(ar);
}

static int setup(void **state)
{
    struct world *w = xalloc(sizeof *w);
    struct status st = STATUS_INIT;
    w->s = fx_schema(DT_INT64, fields, ARRAY_LEN(fields));
    ASSERT_OK(seg_growing_new(1, 1, 1, w->s, &w->seg, &st));
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    seg_unref(w->seg);
    schema_unref(w->s);
    mem_free(w);
    return 0;
}

/* The made-up guide: row r is attached to rows 64 r .. 64 r + 24 of it, modulo its size. */
static uint32_t guide_row(uint32_t row, uint32_t i)
{
    return (row * 64u + i) % GUIDE_ROWS;
}

static void near_of(uint32_t row, uint32_t n, struct index_near *ret, struct arena *ar)
{
    ret->max = SEG_GUIDE_NEAR;
    ret->rows = arena_alloc(ar, n * ret->max * sizeof *ret->rows);
    ret->counts = arena_alloc(ar, n * sizeof *ret->counts);
    ret->keys = arena_alloc(ar, n * sizeof *ret->keys);
    for (uint32_t j = 0; j < n; j++) {
        ret->counts[j] = ret->max;
        ret->keys[j] = 1;
        for (uint32_t i = 0; i < ret->max; i++) {
            ret->rows[j * ret->max + i] = guide_row(row + j, i);
        }
    }
}

/* A search for the very vector of a row, whose place in the guide is known; the row must come. */
static void search_row(const struct world *w, uint32_t row, bool guided, enum index_strategy *ret)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct seg_search_work work = { 0 };
    struct index_near near;
    struct topk *tk = NULL;
    const float *query =
        (const void *)fx_cell(schema_field(w->s, VEC), SEED, row, ar).p;
    struct seg_search q = { .filter = { .ts = INT64_MAX }, .field_id = VEC, .metric = METRIC_L2,
                            .queries = query, .nq = 1, .approx = true, .work = &work,
                            .deadline_us = DEADLINE_NONE };
    near_of(row, 1, &near, ar);
    near.counts[0] = 4;
    q.near = guided ? &near : NULL;
    q.near_id = GUIDE;
    q.limits = &(float){ 1e30f }; /* enough was found elsewhere */
    CHECK(seg_topk_new(&q, 3, &tk, &st) == 0);
    CHECK(seg_search(w->seg, &q, tk, ar, &st) == 0);
    CHECK(topk_count(tk, 0) > 0 && topk_row(tk, 0, 0) == row && topk_score(tk, 0, 0) == 0);
    *ret = work.counters.strategy;
    topk_free(tk);
    arena_free(ar);
}

static void code_all(struct world *w)
{
    for (int i = 0; seg_tend_codes(w->seg, VEC, false); i++) {
        CHECK(i < 100000);
    }
}

static bool attach_some(struct world *w, uint32_t most)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct index_near near;
    uint32_t coded, from = seg_guide_attached(w->seg, VEC, &coded);
    uint32_t n = MIN(coded - from, most);
    near_of(from, n, &near, ar);
    CHECK(n == 0 || seg_guide_attach(w->seg, VEC, &near, n, &st) == 0);
    arena_free(ar);
    return n > 0;
}

static void test_tend_when_a_search_met_many_rows_then_it_is_wanted_once(void **state)
{
    struct world *w = *state;
    struct seg_tend what[2];
    struct seg_info before, after;
    struct status st = STATUS_INIT;
    enum index_strategy how;
    float keys[] = { 1, 2, 3 };
    append(w, 0, 3000);
    assert_false(seg_tend_wanted(w->seg));
    search_row(w, 7, false, &how);
    assert_int_equal(how, STRAT_FLAT);
    assert_true(seg_tend_wanted(w->seg));
    assert_int_equal(seg_tend_fields(w->seg, what, 2), 1);
    assert_true(what[0].field_id == VEC && what[0].metric == METRIC_L2 &&
                what[0].row_bytes == DIM * sizeof(float));
    assert_false(seg_tend_wanted(w->seg));
    seg_get_info(w->seg, &before);
    code_all(w);
    seg_get_info(w->seg, &after);
    assert_true(after.memory_bytes > before.memory_bytes);
    search_row(w, 8, true, &how);
    assert_int_equal(how, STRAT_SCAN);
    assert_true(seg_tend_wanted(w->seg)); /* they have codes, no more */
    assert_int_equal(seg_guide(w->seg, VEC), 0);
    ASSERT_OK(seg_guide_set(w->seg, VEC, GUIDE, GUIDE_ROWS, keys, 3, &st));
    assert_int_equal(seg_guide(w->seg, VEC), GUIDE);
    while (attach_some(w, 77)) {
    }
    seg_get_info(w->seg, &before);
    assert_true(before.memory_bytes > after.memory_bytes + 4 * GUIDE_ROWS);
    search_row(w, 9, true, &how);
    assert_int_equal(how, STRAT_LISTS);
    append(w, 3000, 500); /* the writer codes them */
    assert_int_equal(seg_tend_fields(w->seg, what, 2), 1);
    search_row(w, 3400, true, &how);
    assert_int_equal(how, STRAT_LISTS);
    assert_false(seg_tend_wanted(w->seg));
    ASSERT_OK(seg_guide_set(w->seg, VEC, 0, 0, NULL, 0, &st));
    search_row(w, 9, true, &how);
    assert_int_equal(how, STRAT_SCAN);
}

static void writer(void *arg)
{
    struct world *w = arg;
    for (uint32_t i = 0; i < STEPS; i++) {
        append(w, 1000 + i * STEP, STEP);
    }
}

static void tender(void *arg)
{
    struct world *w = arg;
    struct status st = STATUS_INIT;
    struct seg_tend what;
    float keys[] = { 1, 2, 3 };
    bool set = false;
    while (!atomic_load(&w->over)) {
        (void)seg_tend_fields(w->seg, &what, 1);
        (void)seg_tend_codes(w->seg, VEC, true);
        uint32_t coded;
        (void)seg_guide_attached(w->seg, VEC, &coded);
        if (!set && coded) {
            CHECK(seg_guide_set(w->seg, VEC, GUIDE, GUIDE_ROWS, keys, 3, &st) == 0);
            set = true;
        }
        if (set) {
            (void)attach_some(w, 50);
        }
    }
}

static void test_search_when_rows_are_added_and_tended_beside_it_then_all_are_found(void **state)
{
    struct world *w = *state;
    enum index_strategy how = STRAT_AUTO;
    uint64_t rng = 3;
    append(w, 0, 1000);
    search_row(w, 0, false, &how);
    struct thread *t[] = { thread_start("write", writer, w), thread_start("tend", tender, w) };
    uint32_t rows = 0, coded, attached = 0;
    while (rows < 1000 + STEPS * STEP || attached < rows) {
        rows = atomic_load_explicit(&w->told, memory_order_acquire);
        attached = seg_guide_attached(w->seg, VEC, &coded);
        search_row(w, (uint32_t)(fx_rand(&rng) % rows), true, &how);
        search_row(w, rows - 1, true, &how);
    }
    assert_int_equal(how, STRAT_LISTS);
    atomic_store(&w->over, true);
    thread_join(t[0]);
    thread_join(t[1]);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_tend_when_a_search_met_many_rows_then_it_is_wanted_once),
        T(test_search_when_rows_are_added_and_tended_beside_it_then_all_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
