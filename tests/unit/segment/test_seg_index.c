/* test_seg_index.c - searches through index files of sealed segments, against searches without. */
#include "unit.h"
#include "base/clock.h"
#include "index/ann.h"
#include "index/flat.h"
#include "schema/errors.h"
#include "segment/segment.h"
#include "seg_fixture.h"

enum { SEED = 5, NROWS = 4000, PLAIN = 101, NULLABLE = 102, BIN = 103, DIM = 4 };

static const struct fx_field fields[] = {
    { DT_FLOAT_VECTOR, DT_NONE, DIM, false, false },
    { DT_FLOAT_VECTOR, DT_NONE, DIM, true, false },
    { DT_BINARY_VECTOR, DT_NONE, 32, false, false },
};

/* The same file opened twice: one segment gets indexes, the other is the truth. */
struct world {
    char *dir;
    struct object_store *os;
    struct schema *s;
    struct segment *seg, *plain;
    struct arena *ar;
};

static int sink(void *arg, const void *p, size_t n, struct status *st)
{
    return object_append(arg, p, n, st);
}

/* Builds an index of a field as the data node does. */
static void build(struct world *w, int64_t field, enum index_type type, enum metric metric,
                  const char *key)
{
    struct status st = STATUS_INIT;
    struct object_writer *ow = NULL;
    struct index_params params;
    struct index_rows rows = { .metric = metric };
    struct index_build b = { .rows = &rows, .params = &params };
    struct flat_rows raw;
    const uint64_t *valid;
    assert_true(seg_vectors(w->seg, field, &raw, &valid));
    rows.type = raw.type;
    rows.dim = raw.dim;
    rows.base = raw.base;
    rows.stride = raw.stride;
    rows.nrows = (uint32_t)raw.nrows;
    index_params_init(&params, type);
    ASSERT_OK(object_writer_open(w->os, slice_of(key), &ow, &st));
    ASSERT_OK(index_build(&b, sink, ow, &st));
    ASSERT_OK(object_commit(ow, &st));
}

static int open_key(struct segment *seg, struct world *w, int64_t field, const char *type,
                    const char *metric, const char *key, bool *ret_opened, struct status *st)
{
    struct seg_index_file f = { .field_id = field, .key = key, .index_type = type,
                                .metric_type = metric };
    return seg_index_open(seg, &f, w->os, ret_opened, st);
}

static void use(struct world *w, int64_t field, enum index_type type, enum metric metric,
                const char *name)
{
    struct status st = STATUS_INIT;
    bool opened = false;
    char key[64];
    snprintf(key, sizeof key, "s/index/%d/%s", (int)field, name);
    build(w, field, type, metric, key);
    ASSERT_OK(open_key(w->seg, w, field, name, metric_name(metric), key, &opened, &st));
    assert_true(opened);
    ASSERT_OK(open_key(w->seg, w, field, name, metric_name(metric), key, &opened, &st));
    assert_false(opened); /* there is one */
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
    for (uint32_t at = 0; at < NROWS; at += NROWS / 4) {
        struct batch b = fx_batch(w->s, SEED, at, NROWS / 4, 0, w->ar);
        ASSERT_OK(seg_append(growing, &b, 100 + at, at, &st));
    }
    ASSERT_OK(seg_write_files(growing, w->os, "s", &bytes, &st));
    seg_unref(growing);
    ASSERT_OK(seg_open(1, 1, 1, w->s, w->os, "s", &w->seg, &st));
    ASSERT_OK(seg_open(1, 1, 1, w->s, w->os, "s", &w->plain, &st));
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    seg_unref(w->seg);
    seg_unref(w->plain);
    schema_unref(w->s);
    object_close(w->os);
    unit_tmp_remove(w->dir);
    arena_free(w->ar);
    mem_free(w);
    return 0;
}

static void delete_every(struct world *w, int64_t step, hts ts)
{
    struct status st = STATUS_INIT;
    for (int64_t key = 0; key < NROWS; key += step) {
        struct column col = fx_keys(&key, 1);
        uint32_t hits = 0;
        ASSERT_OK(seg_delete(w->seg, &col, &ts, 1, &hits, &st));
        ASSERT_OK(seg_delete(w->plain, &col, &ts, 1, &hits, &st));
    }
}

static struct topk *search(struct world *w, struct segment *seg, const struct seg_search *q,
                           uint32_t k)
{
    struct status st = STATUS_INIT;
    struct topk *tk = NULL;
    ASSERT_OK(seg_topk_new(q, k, &tk, &st));
    ASSERT_OK(seg_search(seg, q, tk, w->ar, &st));
    return tk;
}

/* Both segments find the same; through the index when indexed. */
static void same(struct world *w, struct seg_search q, uint32_t k, bool indexed)
{
    struct seg_search_work work = { 0 };
    struct topk *want = search(w, w->plain, &q, k), *got;
    q.work = &work;
    got = search(w, w->seg, &q, k);
    assert_int_equal(work.indexed, indexed);
    for (uint32_t i = 0; i < q.nq; i++) {
        assert_int_equal(topk_count(got, i), topk_count(want, i));
        for (uint32_t j = 0; j < topk_count(got, i); j++) {
            assert_int_equal(topk_row(got, i, j), topk_row(want, i, j));
            assert_true(topk_score(got, i, j) == topk_score(want, i, j));
        }
    }
    topk_free(got);
    topk_free(want);
}

static const float queries[3][DIM] = { { 1, 2, 3, 4 }, { 50, 50, 50, 50 }, { 99, 0, 0, 99 } };

static struct seg_search query(int64_t field, hts ts)
{
    return (struct seg_search){ .filter = { .ts = ts }, .field_id = field, .metric = METRIC_L2,
                                .queries = queries, .nq = 3, .deadline_us = DEADLINE_NONE };
}

static void test_search_when_exact_index_then_the_same_for_every_filter(void **state)
{
    struct world *w = *state;
    struct seg_search q = query(PLAIN, 100 + NROWS);
    use(w, PLAIN, INDEX_FLAT, METRIC_L2, "FLAT");
    same(w, q, 10, true);
    q.filter.ts = 100 + NROWS / 4; /* half of the rows */
    same(w, q, 10, true);
    q.filter.ts = 99;              /* none */
    same(w, q, 10, true);
    q = query(PLAIN, 100 + NROWS);
    q.filter.ttl_before = 100 + NROWS / 2;
    same(w, q, 10, true);
    delete_every(w, 3, 100 + NROWS + 5);
    same(w, query(PLAIN, 100 + NROWS + 4), 10, true); /* before the deletes */
    same(w, query(PLAIN, 100 + NROWS + 5), 10, true);
    q = query(PLAIN, 100 + NROWS + 5);
    q.has_radius = true;
    q.radius = 500;
    same(w, q, 100, true);
    q.has_range_filter = true;
    q.range_filter = 100;
    same(w, q, 100, true);
    q.has_bound = true;
    q.bound = 200;
    same(w, q, 100, true);
    q = query(PLAIN, 100 + NROWS + 5);
    q.metric = METRIC_IP; /* not the index's */
    same(w, q, 10, false);
    same(w, query(PLAIN, 100 + NROWS + 5), NROWS, true);
}

static void test_search_when_rows_are_null_then_no_hits(void **state)
{
    struct world *w = *state;
    use(w, NULLABLE, INDEX_FLAT, METRIC_L2, "FLAT");
    same(w, query(NULLABLE, 100 + NROWS), NROWS, true);
    same(w, query(NULLABLE, 100 + NROWS), 5, true);
}

static void test_search_when_approximate_then_scans_where_the_nearest_are_excluded(void **state)
{
    struct world *w = *state;
    struct seg_search q = query(PLAIN, 100 + NROWS);
    struct seg_param ef = { "ef", "400" };
    use(w, PLAIN, INDEX_HNSW, METRIC_L2, "HNSW");
    q.params = &ef;
    q.nparams = 1;
    same(w, q, 10, true); /* with such an ef it finds all of so few */
    q.exact = true;
    same(w, q, 10, false);
    q.exact = false;
    q.has_bound = true;
    q.bound = 50;
    same(w, q, 10, false);
    q.has_bound = false;
    q.has_radius = q.has_range_filter = true;
    q.radius = 1000;
    q.range_filter = 100;
    same(w, q, 10, false);
}

static void test_search_when_a_parameter_is_wrong_or_unknown_then_named_or_ignored(void **state)
{
    struct world *w = *state;
    struct seg_search q = query(PLAIN, 100 + NROWS);
    struct seg_param p = { "ef", "0" };
    struct status st = STATUS_INIT;
    struct topk *tk = NULL;
    use(w, PLAIN, INDEX_HNSW, METRIC_L2, "HNSW");
    q.params = &p;
    q.nparams = 1;
    ASSERT_OK(seg_topk_new(&q, 5, &tk, &st));
    assert_int_equal(seg_search(w->seg, &q, tk, w->ar, &st), ST_INVALID);
    assert_non_null(strstr(st.msg, "ef"));
    topk_free(tk);
    p = (struct seg_param){ "nprobe", "0" };
    topk_free(search(w, w->seg, &q, 5));
    p = (struct seg_param){ "ef", "1" }; /* below k: raised */
    tk = search(w, w->seg, &q, 500);
    assert_int_equal(topk_count(tk, 0), 500);
    topk_free(tk);
}

static void test_search_when_cancelled_or_late_then_says_so(void **state)
{
    struct world *w = *state;
    struct seg_search q = query(PLAIN, 100 + NROWS);
    _Atomic bool cancel = true;
    struct status st = STATUS_INIT;
    struct topk *tk = NULL;
    use(w, PLAIN, INDEX_HNSW, METRIC_L2, "HNSW");
    ASSERT_OK(seg_topk_new(&q, 5, &tk, &st));
    q.deadline_us = 0;
    assert_int_equal(seg_search(w->seg, &q, tk, w->ar, &st), ST_TIMEOUT);
    q.deadline_us = DEADLINE_NONE;
    q.cancel = &cancel;
    st_clear(&st);
    assert_int_equal(seg_search(w->seg, &q, tk, w->ar, &st), ST_CANCELLED);
    topk_free(tk);
}

static void test_open_when_file_is_wrong_then_refused_and_searches_go_on(void **state)
{
    struct world *w = *state;
    struct status st = STATUS_INIT;
    struct file_part junk = { "this is no index file", 21 };
    struct seg_info info;
    bool opened = false;
    build(w, PLAIN, INDEX_FLAT, METRIC_L2, "good");
    ASSERT_OK(object_put(w->os, SLICE_LIT("junk"), &junk, 1, &st));
    assert_int_equal(open_key(w->seg, w, PLAIN, "FLAT", "L2", "junk", &opened, &st), ST_CORRUPT);
    assert_non_null(strstr(st.msg, "junk"));
    st_clear(&st);
    assert_int_equal(open_key(w->seg, w, PLAIN, "FLAT", "L2", "gone", &opened, &st), ST_NOT_FOUND);
    st_clear(&st);
    assert_int_equal(open_key(w->seg, w, PLAIN, "FLAT", "IP", "good", &opened, &st), ST_INVALID);
    st_clear(&st);
    assert_int_equal(open_key(w->seg, w, BIN, "BIN_FLAT", "HAMMING", "good", &opened, &st),
                     ST_INVALID);
    st_clear(&st);
    assert_int_equal(open_key(w->seg, w, PLAIN, "MAGIC", "L2", "good", &opened, &st),
                     ERR_INDEX_NOT_SUPPORTED);
    st_clear(&st);
    assert_int_equal(open_key(w->seg, w, 999, "FLAT", "L2", "good", &opened, &st), ST_INVALID);
    assert_false(opened);
    seg_get_info(w->seg, &info);
    assert_int_equal(info.indexes, 0);
    same(w, query(PLAIN, 100 + NROWS), 10, false);
    st_clear(&st);
    ASSERT_OK(open_key(w->seg, w, PLAIN, "FLAT", "L2", "good", &opened, &st));
    seg_get_info(w->seg, &info);
    assert_int_equal(info.indexes, 1);
    same(w, query(PLAIN, 100 + NROWS), 10, true);
}

struct racer {
    struct world *w;
    struct seg_search q;
    _Atomic bool stop;
    _Atomic int searches;
    int opened;
};

static void keep_searching(void *arg)
{
    struct racer *r = arg;
    struct arena *ar = arena_new(0);
    while (!r->stop) {
        struct status st = STATUS_INIT;
        struct topk *tk = NULL;
        CHECK(seg_topk_new(&r->q, 5, &tk, &st) == 0);
        CHECK(seg_search(r->w->seg, &r->q, tk, ar, &st) == 0 && topk_count(tk, 2) == 5);
        topk_free(tk);
        arena_reset(ar);
        r->searches++;
    }
    arena_free(ar);
}

static void open_one(void *arg)
{
    struct racer *r = arg;
    struct status st = STATUS_INIT;
    bool opened;
    CHECK(open_key(r->w->seg, r->w, PLAIN, "HNSW", "L2", "k", &opened, &st) == 0);
    r->opened = opened;
}

static void test_open_when_searches_run_and_two_open_then_one_wins_and_nobody_notices(void **state)
{
    struct world *w = *state;
    struct racer r[2] = { { .w = w, .q = query(PLAIN, 100 + NROWS) }, { .w = w } };
    struct thread *reader, *opener[2];
    build(w, PLAIN, INDEX_HNSW, METRIC_L2, "k");
    reader = thread_start("reader", keep_searching, &r[0]);
    while (r[0].searches == 0) {
    }
    for (int i = 0; i < 2; i++) {
        opener[i] = thread_start("opener", open_one, &r[i]);
    }
    for (int i = 0; i < 2; i++) {
        thread_join(opener[i]);
    }
    int before = r[0].searches;
    while (r[0].searches < before + 3) {
    }
    r[0].stop = true;
    thread_join(reader);
    assert_int_equal(r[0].opened + r[1].opened, 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_search_when_exact_index_then_the_same_for_every_filter),
        T(test_search_when_rows_are_null_then_no_hits),
        T(test_search_when_approximate_then_scans_where_the_nearest_are_excluded),
        T(test_search_when_a_parameter_is_wrong_or_unknown_then_named_or_ignored),
        T(test_search_when_cancelled_or_late_then_says_so),
        T(test_open_when_file_is_wrong_then_refused_and_searches_go_on),
        T(test_open_when_searches_run_and_two_open_then_one_wins_and_nobody_notices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
