/* test_seg_merge.c - several sealed segments as one: rows, bytes and answers, against a plain model. */
#include "merge_fixture.h"

static void check_order(const struct segment *seg)
{
    uint32_t n = seg__nrows(seg);
    struct seg_sort *items = xalloc((n + 1) * sizeof *items);
    for (uint32_t i = 0; i < n; i++) {
        items[i] = (struct seg_sort){ seg__key_prefix(seg, i), i };
    }
    seg__sort_rows(seg, items, n);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(seg->s.order[i], items[i].row);
    }
    mem_free(items);
}

static void check_query(const struct world *w, const struct segment *seg, const struct seg_filter *f)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    const uint32_t *rows = NULL;
    uint32_t n = 0, sum = 0;
    uint64_t count = 0, counts = 0;
    uint8_t *passes = arena_alloc(ar, w->nkept + 1);
    for (uint32_t s = 0; s < w->nsrc; s++) {
        const struct source *src = &w->src[s];
        ASSERT_OK(seg_count(src->seg, f, INT64_MAX, &count, ar, &st));
        ASSERT_OK(seg_query(src->seg, f, UINT32_MAX, INT64_MAX, &rows, &n, ar, &st));
        counts += count;
        sum += n;
        for (uint32_t i = 0; i < n; i++) {
            assert_int_not_equal(src->rows[rows[i]].to, SEG_NO_ROW);
            passes[src->rows[rows[i]].to] = 1;
        }
    }
    ASSERT_OK(seg_count(seg, f, INT64_MAX, &count, ar, &st));
    assert_int_equal(count, counts);
    ASSERT_OK(seg_query(seg, f, UINT32_MAX, INT64_MAX, &rows, &n, ar, &st));
    assert_int_equal(n, sum);
    uint32_t at = 0;
    for (uint32_t i = 0; i < w->nkept; i++) { /* in key order */
        if (passes[seg->s.order[i]]) {
            assert_true(at < n && rows[at] == seg->s.order[i]);
            at++;
        }
    }
    assert_int_equal(at, n);
    arena_free(ar);
}

/* Every row that passes is a hit; scores by row of the merged segment, NAN: none. */
static void scores(const struct segment *seg, const struct row *rows, const struct seg_search *q,
                   float *ret)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct topk *tk = NULL;
    ASSERT_OK(seg_topk_new(q, 16384, &tk, &st));
    ASSERT_OK(seg_search(seg, q, tk, ar, &st));
    for (uint32_t i = 0; i < topk_count(tk, 0); i++) {
        uint32_t row = (uint32_t)topk_row(tk, 0, i);
        ret[rows ? rows[row].to : row] = topk_score(tk, 0, i);
    }
    topk_free(tk);
    arena_free(ar);
}

static void check_search(const struct world *w, const struct segment *seg,
                         const struct seg_filter *f, int64_t field_id, enum metric metric)
{
    static const float query[16] = { 1, 2, 3, 50 };
    struct seg_search q = { .filter = *f, .field_id = field_id, .metric = metric,
                            .queries = query, .nq = 1, .deadline_us = INT64_MAX };
    float *want = xalloc((w->nkept + 1) * sizeof *want), *have = xalloc((w->nkept + 1) * sizeof *have);
    for (uint32_t i = 0; i < w->nkept; i++) {
        want[i] = have[i] = -1e30f;
    }
    for (uint32_t s = 0; s < w->nsrc; s++) {
        scores(w->src[s].seg, w->src[s].rows, &q, want);
    }
    scores(seg, NULL, &q, have);
    for (uint32_t i = 0; i < w->nkept; i++) {
        float off = want[i] - have[i], eps = 1e-4f * (1 + (want[i] < 0 ? -want[i] : want[i]));
        assert_true(off <= eps && -off <= eps);
    }
    mem_free(want);
    mem_free(have);
}

static const char *const filters[] = {
    "",
    "f1 == true and f2 >= 1",
    "f4 in [1, 2, 42] or f6 > 60.5 or f7 <= 20.5 or f5 is null",
    "f8 like 'a%' and f9 != 'b'",
    "f10['a'] > 30",
    "array_length(f11) >= 2 or f12 is not null",
    "f21 == 42 or f22 is null",
    "f23 == 'default' and f28 is null",
};

static void check_answers(const struct world *w, const struct segment *seg, hts ts, bool search)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        struct seg_filter f = { .ts = ts, .ttl_before = w->expired_before };
        if (*filters[i]) {
            ASSERT_OK(filter_parse(slice_of(filters[i]), w->wide, NULL, 0, ar, &f.expr, &st));
        }
        check_query(w, seg, &f);
        for (uint32_t v = 0; search && v < w->wide->nfields; v++) {
            const struct field *vec = &w->wide->fields[v];
            switch (vec->type) {
            case DT_FLOAT_VECTOR:
            case DT_FLOAT16_VECTOR:
            case DT_BFLOAT16_VECTOR:
            case DT_INT8_VECTOR:
                check_search(w, seg, &f, vec->id, METRIC_L2);
                break;
            case DT_BINARY_VECTOR:
                check_search(w, seg, &f, vec->id, METRIC_HAMMING);
                break;
            default: /* sparse ones cannot be searched */
                break;
            }
        }
    }
    arena_free(ar);
}

/* Merges, and compares everything. */
static void check_merge(struct world *w, bool search)
{
    struct status st = STATUS_INIT;
    struct seg_merged got = { .nrows = 77 };
    struct segment *seg = NULL;
    struct seg_info info;
    ASSERT_OK(object_delete(w->os, SLICE_LIT("to/rows.seg"), &st));
    ASSERT_OK(merge(w, w->wide, w->os, &got, &st));
    if (w->nkept == 0) {
        assert_true(got.nrows == 0 && got.bytes == 0);
        check_absent(w->os, "to/rows.seg");
        return;
    }
    check_bytes(w, w->wide, &got);
    ASSERT_OK(seg_open(9, 2, 3, w->wide, w->os, "to", &seg, &st));
    ASSERT_OK(seg_validate(seg, &st));
    seg_get_info(seg, &info);
    assert_int_equal(info.nrows, w->nkept);
    assert_int_equal(info.first_position, w->first_position);
    assert_int_equal(info.last_position, w->last_position);
    check_order(seg);
    check_cells(w, w->wide, seg);
    ASSERT_OK(apply_deletes(w, seg, &st));
    ASSERT_OK(seg_validate(seg, &st));
    const hts at[] = { w->gone_before, w->gone_before + 1, w->gone_before + 40, UINT64_MAX };
    for (size_t i = 0; i < ARRAY_LEN(at); i++) {
        check_answers(w, seg, at[i], search && i % 2);
    }
    seg_unref(seg);
}

/* ---- Tests ---- */

static void by_hand(enum dtype pk)
{
    struct world *w = world_new(pk, false);
    uint64_t rng = 1;
    add_source(w, w->wide, 200, 300, 10, 10, &rng); /* no timestamps of their own */
    add_source(w, w->old, 130, 300, 20, 60, &rng);
    add_source(w, w->wide, 0, 1, 1, 1, &rng);
    add_source(w, w->old, 64, 300, 5, 100, &rng);
    choose(w, 0, 0); /* nothing is left out */
    check_merge(w, true);
    choose(w, 1000, 0); /* nothing is deleted */
    check_merge(w, false);
    for (uint32_t key = 0; key < 300; key += 3) {
        add_delete(w, key, 30 + key % 40);
    }
    choose(w, 0, 0); /* deleted rows stay as long as somebody may read before */
    check_merge(w, true);
    choose(w, 50, 0);
    check_merge(w, true);
    choose(w, 50, 11); /* all of the first source expire */
    check_merge(w, true);
    choose(w, 50, 50);
    check_merge(w, false);
    choose(w, 0, 101); /* all of all */
    assert_int_equal(w->nkept, 0);
    check_merge(w, false);
    world_free(w);
}

static void test_merge_when_keys_are_int64_then_it_answers_as_its_sources(void **state)
{
    by_hand(DT_INT64);
}

static void test_merge_when_keys_are_varchar_then_it_answers_as_its_sources(void **state)
{
    by_hand(DT_VARCHAR);
}

static void test_merge_when_one_key_is_in_all_sources_then_newest_comes_first(void **state)
{
    struct world *w = world_new(DT_VARCHAR, false);
    uint64_t rng = 2;
    for (uint32_t i = 0; i < 5; i++) {
        add_source(w, w->wide, 9, 1, 40 - i * 10, 41 - i * 10, &rng); /* older ones later */
    }
    add_source(w, w->wide, 9, 1, 40, 40, &rng); /* and the same timestamp again */
    add_delete(w, 0, 15);
    add_delete(w, 0, 31);
    choose(w, 15, 0);
    check_merge(w, true);
    world_free(w);
}

static void test_merge_when_there_are_no_sources_or_empty_ones_then_nothing_is_written(void **state)
{
    struct world *w = world_new(DT_INT64, false);
    uint64_t rng = 3;
    check_merge(w, false);
    add_source(w, w->wide, 0, 1, 1, 1, &rng);
    add_source(w, w->old, 0, 1, 1, 1, &rng);
    choose(w, 5, 5);
    check_merge(w, false);
    world_free(w);
}

static void random_shapes(enum dtype pk, uint64_t seed)
{
    struct world *w = world_new(pk, false);
    uint64_t rng = seed;
    for (int round = 0; round < 12; round++) {
        static const uint32_t sizes[] = { 0, 1, 63, 64, 65, 128, 300, 700 };
        uint32_t nkeys = 1 + (uint32_t)(fx_rand(&rng) % 1000);
        uint32_t nsrc = 1 + (uint32_t)(fx_rand(&rng) % SOURCES_MAX);
        world_clear(w);
        for (uint32_t i = 0; i < nsrc; i++) {
            hts ts = 10 + fx_rand(&rng) % 50;
            add_source(w, fx_rand(&rng) % 3 ? w->wide : w->old,
                       sizes[fx_rand(&rng) % ARRAY_LEN(sizes)], nkeys, ts,
                       ts + (fx_rand(&rng) % 3 ? fx_rand(&rng) % 50 : 0), &rng);
        }
        uint32_t ndels = (uint32_t)(fx_rand(&rng) % 4 * nkeys / 4); /* few rows left, and many */
        for (uint32_t i = 0; i < ndels; i++) {
            add_delete(w, (uint32_t)(fx_rand(&rng) % nkeys), 1 + fx_rand(&rng) % 150);
        }
        choose(w, fx_rand(&rng) % 4 ? fx_rand(&rng) % 150 : 0,
               fx_rand(&rng) % 3 ? 0 : fx_rand(&rng) % 80);
        check_merge(w, round % 4 == 0);
    }
    world_free(w);
}

static void test_merge_when_shapes_are_random_then_it_is_as_the_model(void **state)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        random_shapes(DT_INT64, seed);
        random_shapes(DT_VARCHAR, seed + 100);
    }
}

static void test_merge_when_fields_were_dropped_then_they_are_left_out(void **state)
{
    struct world *w = world_new(DT_INT64, false);
    struct schema *fewer = fx_schema(DT_INT64, fx_all, 5);
    struct status st = STATUS_INIT;
    struct seg_merged got;
    struct segment *seg = NULL;
    struct arena *ar = arena_new(0);
    struct column col;
    uint64_t rng = 4;
    add_source(w, w->wide, 100, 50, 1, 9, &rng);
    add_source(w, w->old, 100, 50, 1, 9, &rng);
    choose(w, 0, 4);
    ASSERT_OK(merge(w, fewer, w->os, &got, &st));
    check_bytes(w, fewer, &got);
    ASSERT_OK(seg_open(9, 2, 3, w->wide, w->os, "to", &seg, &st));
    ASSERT_OK(seg_validate(seg, &st));
    assert_int_equal(seg->nfields, 6);
    ASSERT_OK(seg_fetch(seg, FX_PK + 5, (const uint32_t[]){ 0 }, 1, ar, &col, &st));
    arena_free(ar);
    seg_unref(seg);
    schema_unref(fewer);
    world_free(w);
}

/* A source that was opened before the fields were added. */
static void test_merge_when_source_knows_older_schema_then_new_default_counts(void **state)
{
    struct world *w = world_new(DT_INT64, false);
    struct status st = STATUS_INIT;
    struct seg_merged got;
    uint64_t rng = 5;
    add_source(w, w->old, 100, 50, 1, 9, &rng);
    seg_unref(w->src[0].seg);
    ASSERT_OK(seg_open(1, 2, 3, w->old, w->os, "from/0", &w->src[0].seg, &st));
    choose(w, 0, 4);
    ASSERT_OK(merge(w, w->wide, w->os, &got, &st));
    check_bytes(w, w->wide, &got);
    assert_ptr_equal(seg_schema(w->src[0].seg), w->old);
    world_free(w);
}

static void test_merge_when_blocks_are_larger_than_a_piece_then_bytes_are_the_same(void **state)
{
    static const struct fx_field wide_fields[] = { { DT_FLOAT_VECTOR, DT_NONE, 200, true, false },
                                                   { DT_VARCHAR, DT_NONE, 0, false, false } };
    struct world *w = world_new(DT_INT64, false);
    uint64_t rng = 6;
    schema_unref(w->wide);
    w->wide = fx_schema(DT_INT64, wide_fields, ARRAY_LEN(wide_fields));
    add_source(w, w->wide, ROWS_MAX, 100000, 1, 9, &rng);
    add_source(w, w->wide, ROWS_MAX, 100000, 5, 20, &rng);
    for (uint32_t i = 0; i < 40; i++) { /* long runs between */
        add_delete(w, w->src[i % 2].rows[fx_rand(&rng) % ROWS_MAX].key, 30);
    }
    choose(w, 30, 0);
    assert_true(w->nkept > ROWS_MAX * 2 - 60 && w->nkept < ROWS_MAX * 2);
    struct status st = STATUS_INIT;
    struct seg_merged got;
    ASSERT_OK(merge(w, w->wide, w->os, &got, &st));
    check_bytes(w, w->wide, &got);
    world_free(w);
}

static void lay_and_check(enum dtype pk, uint32_t n, uint32_t nkeys, hts first, hts last)
{
    struct world *w = world_new(pk, false);
    uint64_t rng = n + nkeys;
    add_source(w, n % 2 ? w->old : w->wide, n, nkeys, first, last, &rng);
    choose(w, 0, 0);
    lay(w, &rng);
    check_merge(w, true);
    for (uint32_t key = 0; key < nkeys; key += 3) {
        add_delete(w, key, first + 2); /* young ones, that leave nothing out */
    }
    mem_free(TAKE(w->order));
    choose(w, 0, 0);
    lay(w, &rng);
    w->gone_before = 1;
    check_merge(w, true);
    world_free(w);
}

static void test_merge_when_an_order_is_given_then_rows_lie_so_and_keys_are_found(void **state)
{
    static const uint32_t sizes[] = { 0, 1, 2, 63, 64, 65, 129, 701 };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (int pk = 0; pk < 2; pk++) {
            enum dtype type = pk ? DT_VARCHAR : DT_INT64;
            lay_and_check(type, sizes[i], 1000, 20, 90);
            lay_and_check(type, sizes[i], 5, 20, 23); /* many of one key, some of one timestamp */
            lay_and_check(type, sizes[i], 40, 20, 20); /* no timestamps of their own */
        }
    }
}

/* More rows of one key and timestamp than go on together. */
static void test_merge_when_an_order_is_given_and_keys_are_equal_then_higher_rows_first(void **state)
{
    static const struct fx_field few[] = { { DT_VARCHAR, DT_NONE, 0, true, false } };
    for (uint32_t nkeys = 1; nkeys <= 2; nkeys++) {
        struct world *w = world_new(DT_INT64, false);
        struct status st = STATUS_INIT;
        struct seg_merged got;
        uint64_t rng = 17;
        schema_unref(w->wide);
        w->wide = fx_schema(DT_INT64, few, ARRAY_LEN(few));
        add_source(w, w->wide, ROWS_MAX, nkeys, 5, 5, &rng);
        choose(w, 0, 0);
        lay(w, &rng);
        ASSERT_OK(merge(w, w->wide, w->os, &got, &st));
        check_bytes(w, w->wide, &got);
        world_free(w);
    }
}

static void test_merge_when_an_order_is_not_of_all_rows_then_it_is_refused(void **state)
{
    struct world *w = world_new(DT_INT64, false);
    struct status st = STATUS_INIT;
    struct seg_merged got = { .nrows = 77 };
    uint64_t rng = 18;
    add_source(w, w->wide, 100, 50, 5, 9, &rng);
    choose(w, 0, 0);
    lay(w, &rng);
    uint32_t last = w->order[99], first = w->order[0];
    w->order[99] = first;
    assert_int_equal(merge(w, w->wide, w->os, &got, &st), ST_INVALID);
    assert_non_null(strstr(st.msg, "twice"));
    w->order[99] = 100;
    assert_int_equal(merge(w, w->wide, w->os, &got, &st), ST_INVALID);
    assert_non_null(strstr(st.msg, "row 100"));
    w->order[99] = UINT32_MAX;
    assert_int_equal(merge(w, w->wide, w->os, &got, &st), ST_INVALID);
    w->order[99] = last;
    w->expired_before = 6; /* some are left out */
    assert_int_equal(merge(w, w->wide, w->os, &got, &st), ST_INVALID);
    w->expired_before = 0;
    struct segment *from[] = { w->src[0].seg, w->src[0].seg };
    struct seg_merge two = { .from = from, .nfrom = 2, .schema = w->wide, .order = w->order };
    assert_int_equal(seg_merge_files(&two, w->os, "to", &got, &st), ST_INVALID);
    two.nfrom = 0;
    assert_int_equal(seg_merge_files(&two, w->os, "to", &got, &st), ST_INVALID);
    assert_int_equal(got.nrows, 77);
    check_absent(w->os, "to/rows.seg");
    ASSERT_OK(merge(w, w->wide, w->os, &got, &st)); /* it was for nothing else */
    check_bytes(w, w->wide, &got);
    world_free(w);
}

struct meanwhile {
    const struct world *w;
    uint32_t calls;
};
/* index_check_fn: another thread's deletes come when columns are being written. */
static int delete_meanwhile(void *arg, struct status *st)
{
    struct meanwhile *m = arg;
    if (++m->calls == 12) {
        assert_int_equal(apply_deletes(m->w, m->w->src[0].seg, st), 0);
        assert_int_equal(apply_deletes(m->w, m->w->src[1].seg, st), 0);
    }
    return 0;
}

static void test_merge_when_sources_get_deletes_meanwhile_then_rows_were_chosen_before(void **state)
{
    struct world *w = world_new(DT_INT64, false);
    struct status st = STATUS_INIT;
    struct seg_merged got;
    uint64_t rng = 13;
    add_source(w, w->wide, 200, 100, 5, 9, &rng);
    add_source(w, w->old, 200, 100, 5, 9, &rng);
    choose(w, 50, 6);
    for (uint32_t key = 0; key < 100; key += 2) {
        add_delete(w, key, 20);
    }
    struct meanwhile m = { .w = w };
    struct segment *from[] = { w->src[0].seg, w->src[1].seg };
    const struct seg_merge merge_all = { .from = from, .nfrom = 2, .schema = w->wide, .id = 9,
                                         .collection_id = 2, .partition_id = 3,
                                         .gone_before = 50, .expired_before = 6,
                                         .check = delete_meanwhile, .check_arg = &m };
    ASSERT_OK(seg_merge_files(&merge_all, w->os, "to", &got, &st));
    assert_true(m.calls > 12);
    check_bytes(w, w->wide, &got);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge_when_keys_are_int64_then_it_answers_as_its_sources),
        cmocka_unit_test(test_merge_when_keys_are_varchar_then_it_answers_as_its_sources),
        cmocka_unit_test(test_merge_when_one_key_is_in_all_sources_then_newest_comes_first),
        cmocka_unit_test(test_merge_when_there_are_no_sources_or_empty_ones_then_nothing_is_written),
        cmocka_unit_test(test_merge_when_shapes_are_random_then_it_is_as_the_model),
        cmocka_unit_test(test_merge_when_fields_were_dropped_then_they_are_left_out),
        cmocka_unit_test(test_merge_when_source_knows_older_schema_then_new_default_counts),
        cmocka_unit_test(test_merge_when_blocks_are_larger_than_a_piece_then_bytes_are_the_same),
        cmocka_unit_test(test_merge_when_an_order_is_given_then_rows_lie_so_and_keys_are_found),
        cmocka_unit_test(test_merge_when_an_order_is_given_and_keys_are_equal_then_higher_rows_first),
        cmocka_unit_test(test_merge_when_an_order_is_not_of_all_rows_then_it_is_refused),
        cmocka_unit_test(test_merge_when_sources_get_deletes_meanwhile_then_rows_were_chosen_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
