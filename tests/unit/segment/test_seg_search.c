/* test_seg_search.c - exact search, against comparing every pair. */
#include "unit.h"
#include <math.h>
#include "base/clock.h"
#include "index/flat.h"
#include "schema/errors.h"
#include "segment/segment.h"
#include "seg_fixture.h"

enum { SEED = 3, NROWS = 9000, PLAIN = 101, NULLABLE = 102, BIN = 103, SPARSE = 104, DIM = 4 };

static const struct fx_field fields[] = {
    { DT_FLOAT_VECTOR, DT_NONE, DIM, false, false },
    { DT_FLOAT_VECTOR, DT_NONE, DIM, true, false },
    { DT_BINARY_VECTOR, DT_NONE, 32, false, false },
    { DT_SPARSE_FLOAT_VECTOR, DT_NONE, 0, false, false },
};

struct world {
    struct schema *s;
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
    w->s = fx_schema(DT_INT64, fields, ARRAY_LEN(fields));
    ASSERT_OK(seg_growing_new(1, 1, 1, w->s, &w->segs[0], &st));
    for (uint32_t at = 0; at < NROWS; at += NROWS / 3) {
        struct batch b = fx_batch(w->s, SEED, at, NROWS / 3, 0, w->ar);
        ASSERT_OK(seg_append(w->segs[0], &b, 100 + at, at, &st));
    }
    ASSERT_OK(object_local_open(dir, &os, &st));
    ASSERT_OK(seg_write_files(w->segs[0], os, "s", &bytes, &st));
    ASSERT_OK(seg_open(1, 1, 1, w->s, os, "s", &w->segs[1], &st));
    for (int64_t key = 0; key < NROWS; key += 5) {
        struct column col = fx_keys(&key, 1);
        hts ts = 100 + NROWS;
        uint32_t hits = 0;
        for (int i = 0; i < 2; i++) {
            ASSERT_OK(seg_delete(w->segs[i], &col, &ts, 1, &hits, &st));
            assert_int_equal(hits, 1);
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
    arena_free(w->ar);
    mem_free(w);
    return 0;
}

static bool sees(hts ts, uint32_t row)
{
    hts ins = 100 + row / (NROWS / 3) * (NROWS / 3);
    return ins <= ts && !(row % 5 == 0 && 100 + NROWS <= ts);
}

static float score(const struct field *f, enum metric metric, const float *q, uint32_t row,
                   struct arena *ar)
{
    const float *v = (const void *)fx_cell(f, SEED, row, ar).p;
    double sum = 0;
    for (int i = 0; i < DIM; i++) {
        double d = metric == METRIC_L2 ? (double)(q[i] - v[i]) * (q[i] - v[i])
                                       : (double)q[i] * v[i];
        sum += d;
    }
    return (float)sum;
}

static void search_all(struct world *w, const struct seg_search *q, uint32_t k, struct topk **ret)
{
    struct status st = STATUS_INIT;
    for (int i = 0; i < 2; i++) {
        ASSERT_OK(seg_topk_new(q, k, &ret[i], &st));
        ASSERT_OK(seg_search(w->segs[i], q, ret[i], w->ar, &st));
    }
}

static void check(struct world *w, const struct seg_search *q, uint32_t k)
{
    const struct field *f = schema_field(w->s, q->field_id);
    bool larger = q->metric == METRIC_IP;
    struct topk *tk[2];
    search_all(w, q, k, tk);
    for (uint32_t qi = 0; qi < q->nq; qi++) {
        const float *query = (const float *)q->queries + qi * DIM;
        uint8_t *hit = arena_alloc(w->ar, NROWS);
        uint32_t n = topk_count(tk[0], qi);
        float worst = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t row = (uint32_t)topk_row(tk[0], qi, i);
            worst = score(f, q->metric, query, row, w->ar);
            assert_true(fabsf(worst - topk_score(tk[0], qi, i)) <= 1e-4f * fabsf(worst) + 1e-4f);
            assert_true(sees(q->filter.ts, row) && !fx_null(f, SEED, row) && !hit[row]);
            hit[row] = 1;
            assert_int_equal(topk_row(tk[1], qi, i), row); /* sealed: the same rows */
        }
        assert_int_equal(topk_count(tk[1], qi), n);
        uint32_t beyond = 0;
        for (uint32_t row = 0; row < NROWS; row++) {
            if (hit[row] || !sees(q->filter.ts, row) || fx_null(f, SEED, row)) {
                continue;
            }
            float sc = score(f, q->metric, query, row, w->ar);
            float eps = 1e-4f * fabsf(sc) + 1e-3f;
            if (q->has_bound && (larger ? sc >= q->bound - eps : sc <= q->bound + eps)) {
                continue;
            }
            if (q->has_radius && (larger ? sc <= q->radius + eps : sc >= q->radius - eps)) {
                continue;
            }
            beyond++;
            assert_true(n == k && (larger ? sc <= worst + eps : sc >= worst - eps));
        }
        assert_true(n == k || beyond == 0);
    }
    topk_free(tk[0]);
    topk_free(tk[1]);
}

static const float queries[3 * DIM] = { 1, 2, 3, 4, 50, 50, 50, 50, 99, 0, 99, 0 };

static struct seg_search plain(int64_t field, enum metric metric, hts ts)
{
    return (struct seg_search){ .filter = { .ts = ts },
                                .field_id = field,
                                .metric = metric,
                                .queries = queries,
                                .nq = 3,
                                .deadline_us = DEADLINE_NONE };
}

static void test_search_when_all_see_all_then_best_rows_are_found(void **state)
{
    const hts times[] = { 99, 100, 100 + NROWS / 3, 99 + NROWS, 100 + NROWS, UINT64_MAX };
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        for (int64_t field = PLAIN; field <= NULLABLE; field++) {
            struct seg_search q = plain(field, METRIC_L2, times[i]);
            check(*state, &q, 10);
            q.metric = METRIC_IP;
            check(*state, &q, 700);
        }
    }
}

static void test_search_when_bounded_then_hits_are_strictly_beyond(void **state)
{
    struct world *w = *state;
    const enum metric metrics[] = { METRIC_L2, METRIC_IP };
    for (int mi = 0; mi < 2; mi++) {
        struct seg_search q = plain(PLAIN, metrics[mi], UINT64_MAX);
        q.nq = 1;
        struct topk *tk[2];
        search_all(w, &q, 50, tk);
        q.has_bound = true;
        q.bound = topk_score(tk[0], 0, 20);
        struct topk *next[2];
        search_all(w, &q, 29, next);
        uint32_t at = 21;
        while (topk_score(tk[0], 0, at) == q.bound) {
            at++;
        }
        for (uint32_t i = 0; at + i < 50; i++) {
            assert_int_equal(topk_row(next[0], 0, i), topk_row(tk[0], 0, at + i));
            assert_int_equal(topk_row(next[1], 0, i), topk_row(tk[0], 0, at + i));
        }
        q.has_radius = true;
        q.radius = topk_score(tk[0], 0, 40);
        check(w, &q, 1000);
        for (int i = 0; i < 2; i++) {
            topk_free(tk[i]);
            topk_free(next[i]);
        }
    }
}

static void test_search_when_bits_and_vectors_are_used_then_same_hits(void **state)
{
    struct world *w = *state;
    struct seg_search q = plain(NULLABLE, METRIC_L2, UINT64_MAX);
    struct topk *tk[2], *mine = NULL;
    struct flat_rows rows;
    const uint64_t *valid = NULL;
    uint64_t *bits = NULL;
    uint32_t nrows = 0, n = 0;
    struct status st = STATUS_INIT;
    search_all(w, &q, 25, tk);
    ASSERT_OK(seg_bits(w->segs[1], &q.filter, NULLABLE, DEADLINE_NONE, w->ar, &bits, &nrows, &n,
                       &st));
    assert_true(seg_vectors(w->segs[1], NULLABLE, &rows, &valid));
    assert_non_null(valid);
    assert_false(seg_vectors(w->segs[0], NULLABLE, &rows, &valid));
    assert_false(seg_vectors(w->segs[1], FX_PK, &rows, &valid));
    rows.metric = METRIC_L2;
    rows.allow = bits;
    struct flat_query fq = { .queries = queries, .query_stride = DIM * 4, .nq = 3 };
    ASSERT_OK(seg_topk_new(&q, 25, &mine, &st));
    ASSERT_OK(flat_search(&rows, &fq, mine, &st));
    topk_finish(mine);
    for (uint32_t qi = 0; qi < 3; qi++) {
        assert_int_equal(topk_count(mine, qi), 25);
        for (uint32_t i = 0; i < 25; i++) {
            assert_int_equal(topk_row(mine, qi, i), topk_row(tk[0], qi, i));
        }
    }
    topk_free(mine);
    topk_free(tk[0]);
    topk_free(tk[1]);
}

static void test_search_when_field_is_unfit_then_it_says_so(void **state)
{
    struct world *w = *state;
    struct status st = STATUS_INIT;
    struct seg_search q = plain(PLAIN, METRIC_L2, UINT64_MAX);
    struct topk *tk = NULL;
    ASSERT_OK(seg_topk_new(&q, 5, &tk, &st));
    q.field_id = SPARSE;
    assert_int_equal(seg_search(w->segs[0], &q, tk, w->ar, &st), ERR_SEGCORE_UNSUPPORTED);
    q.field_id = 999;
    assert_int_equal(seg_search(w->segs[1], &q, tk, w->ar, &st), ERR_FIELD_NOT_FOUND);
    q.field_id = BIN;
    assert_int_not_equal(seg_search(w->segs[1], &q, tk, w->ar, &st), 0); /* L2 over bits */
    topk_free(tk);
}

static void test_search_when_stopped_then_it_says_why(void **state)
{
    struct world *w = *state;
    _Atomic bool cancel = true;
    for (int i = 0; i < 2; i++) {
        struct status st = STATUS_INIT;
        struct seg_search q = plain(PLAIN, METRIC_L2, UINT64_MAX);
        struct topk *tk = NULL;
        uint64_t n = 0;
        ASSERT_OK(seg_topk_new(&q, 5, &tk, &st));
        q.deadline_us = 1;
        assert_int_equal(seg_search(w->segs[i], &q, tk, w->ar, &st), ST_TIMEOUT);
        q.deadline_us = DEADLINE_NONE;
        q.cancel = &cancel;
        assert_int_equal(seg_search(w->segs[i], &q, tk, w->ar, &st), ST_CANCELLED);
        assert_int_equal(seg_count(w->segs[i], &q.filter, 1, &n, w->ar, &st), ST_TIMEOUT);
        topk_free(tk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_when_all_see_all_then_best_rows_are_found),
        cmocka_unit_test(test_search_when_bounded_then_hits_are_strictly_beyond),
        cmocka_unit_test(test_search_when_bits_and_vectors_are_used_then_same_hits),
        cmocka_unit_test(test_search_when_field_is_unfit_then_it_says_so),
        cmocka_unit_test(test_search_when_stopped_then_it_says_why),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
