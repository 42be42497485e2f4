/* test_nd_ahead.c - pages of an iterator with hits found ahead, against pages that are scanned. */
#include "unit.h"
#include "../segment/seg_fixture.h"
#include "base/arena.h"
#include "base/bitset.h"
#include "node/nd_read.h"
#include "query/filter.h"
#include <math.h>
#include <pthread.h>

enum { SEED = 11, NSEGS = 3, ROWS = 6000, VEC = 101, NUM = 102, DIM = 2, NOW = 1000000 };

static const struct fx_field fields[] = {
    { DT_FLOAT_VECTOR, DT_NONE, DIM, false, false },
    { DT_INT8, DT_NONE, 0, false, false },
};

struct world {
    char *dir;
    struct object_store *os;
    struct schema *s;
    struct segment *segs[NSEGS];
    struct nd_ahead *ahead;
    struct arena *ar;
    float query[DIM];
};

static int setup(void **state)
{
    struct world *w = xalloc(sizeof *w);
    struct status st = STATUS_INIT;
    w->dir = unit_tmp_dir();
    w->ar = arena_new(0);
    w->s = fx_schema(DT_INT64, fields, ARRAY_LEN(fields));
    w->ahead = nd_ahead_new((size_t)1 << 20);
    w->query[0] = 30.05f;
    w->query[1] = 61.5f;
    ASSERT_OK(object_local_open(w->dir, &w->os, &st));
    for (uint32_t i = 0; i < NSEGS; i++) {
        char prefix[8] = { 's', (char)('0' + i), 0 };
        struct segment *growing = NULL;
        uint64_t bytes = 0;
        ASSERT_OK(seg_growing_new(10 + i, 1, 1, w->s, &growing, &st));
        for (uint32_t at = 0; at < ROWS; at += ROWS / 4) { /* four insert timestamps */
            struct batch b = fx_batch(w->s, SEED, i * ROWS + at, ROWS / 4, 0, w->ar);
            ASSERT_OK(seg_append(growing, &b, 100 + at, at, &st));
        }
        ASSERT_OK(seg_write_files(growing, w->os, prefix, &bytes, &st));
        seg_unref(growing);
        ASSERT_OK(seg_open(10 + i, 1, 1, w->s, w->os, prefix, &w->segs[i], &st));
    }
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    for (uint32_t i = 0; i < NSEGS; i++) {
        seg_unref(w->segs[i]);
    }
    nd_ahead_free(w->ahead);
    schema_unref(w->s);
    object_close(w->os);
    unit_tmp_remove(w->dir);
    arena_free(w->ar);
    mem_free(w);
    return 0;
}

static Elanus__SearchReq request(struct world *w, enum metric metric, uint32_t k)
{
    Elanus__SearchReq req = ELANUS__SEARCH_REQ__INIT;
    req.field_id = VEC;
    req.metric = metric;
    req.queries.data = (uint8_t *)w->query;
    req.queries.len = sizeof w->query;
    req.nq = 1;
    req.k = k;
    req.read_ts = NOW;
    req.exact = req.pages = true;
    return req;
}

static void set_filter(struct world *w, Elanus__SearchReq *req, const char *text)
{
    const struct expr *e = NULL;
    struct status st = STATUS_INIT;
    struct buf b;
    buf_init(&b, 1 << 16);
    ASSERT_OK(filter_parse(slice_of(text), w->s, NULL, 0, w->ar, &e, &st));
    assert_true(plan_encode(e, &b));
    req->plan.data = (uint8_t *)(uintptr_t)arena_copy(w->ar, slice_n(b.p, b.n)).p;
    req->plan.len = b.n;
    buf_done(&b);
}

static void delete_keys(struct world *w, int64_t first, int64_t step, hts ts)
{
    struct status st = STATUS_INIT;
    for (int64_t key = first; key < NSEGS * ROWS; key += step) {
        struct column col = fx_keys(&key, 1);
        uint32_t hits = 0;
        ASSERT_OK(seg_delete(w->segs[key / ROWS], &col, &ts, 1, &hits, &st));
    }
}

static void ask(struct world *w, const Elanus__SearchReq *req, struct nd_ahead *ahead,
                struct arena *ar, Elanus__SearchResp *resp)
{
    struct call call = { .ar = ar, .deadline_us = DEADLINE_NONE, .request_id = "" };
    struct nd_known known = { .ahead = ahead };
    struct status st = STATUS_INIT;
    elanus__search_resp__init(resp);
    ASSERT_OK(nd_search(w->segs, NSEGS, w->s, req, &known, NULL, &call, resp, &st));
}

/* Hits of the page, which ends between two scores, as the proxy does it. */
static uint32_t page_end(const Elanus__SearchResp *resp, uint32_t k)
{
    uint32_t n = (uint32_t)resp->n_scores;
    if (n == k) {
        while (n > 0 && resp->scores[n - 1] == resp->scores[k - 1]) {
            n--;
        }
        assert_true(n > 0);
    }
    return n;
}

/* The page from what is there, compared with a scanned one; true: nothing was scanned for it. */
static bool page(struct world *w, const Elanus__SearchReq *req, float *ret_last, uint32_t *ret_n,
                 uint64_t *seen)
{
    struct arena *ar = arena_new(0);
    Elanus__SearchResp got, want;
    ask(w, req, w->ahead, ar, &got);
    ask(w, req, NULL, ar, &want);
    assert_int_equal(got.n_scores, want.n_scores);
    for (size_t i = 0; i < got.n_scores; i++) {
        assert_true(got.scores[i] == want.scores[i]);
        assert_int_equal(got.segment_ids[i], want.segment_ids[i]);
        assert_int_equal(got.rows[i], want.rows[i]);
        assert_int_equal(got.timestamps[i], want.timestamps[i]);
    }
    assert_int_equal(got.pks.len, want.pks.len);
    assert_memory_equal(got.pks.data, want.pks.data, got.pks.len);
    uint32_t n = page_end(&got, req->k);
    for (uint32_t i = 0; seen && i < n; i++) {
        size_t at = (size_t)(got.segment_ids[i] - 10) * ROWS + got.rows[i];
        assert_false(bit_get(seen, at));
        bit_set(seen, at);
    }
    *ret_last = n ? got.scores[n - 1] : req->bound;
    *ret_n = n;
    bool kept = got.work->exact == 0;
    arena_free(ar);
    return kept;
}

struct walk {
    uint32_t rows, pages, kept;
};

static struct walk iterate(struct world *w, Elanus__SearchReq req)
{
    uint64_t seen[(NSEGS * ROWS + 63) / 64] = { 0 };
    struct walk walk = { 0 };
    uint32_t n;
    do {
        walk.kept += page(w, &req, &req.bound, &n, seen);
        walk.pages++;
        walk.rows += n;
        req.has_bound = true;
    } while (n > 0);
    return walk;
}

static void test_pages_when_taken_to_the_end_then_each_row_once_and_few_scans(void **state)
{
    struct world *w = *state;
    static const enum metric metrics[] = { METRIC_L2, METRIC_IP, METRIC_COSINE };
    for (size_t m = 0; m < ARRAY_LEN(metrics); m++) {
        for (uint32_t k = 97; k < 3000; k *= 5) {
            struct walk walk = iterate(w, request(w, metrics[m], k));
            assert_int_equal(walk.rows, NSEGS * ROWS);
            if (k < 1000) { /* 2,048 hits or more are found at once in each of three segments */
                assert_true((walk.pages - walk.kept) * 4 < walk.pages);
            }
        }
    }
}

static void test_pages_when_rows_are_deleted_meanwhile_then_the_snapshot_holds(void **state)
{
    struct world *w = *state;
    uint64_t seen[(NSEGS * ROWS + 63) / 64] = { 0 };
    Elanus__SearchReq req = request(w, METRIC_L2, 101);
    uint32_t n, rows = 0, round = 0;
    set_filter(w, &req, "f2 in [0, 1, 2]");
    delete_keys(w, 0, 3, NOW - 1);
    do {
        page(w, &req, &req.bound, &n, seen);
        delete_keys(w, 1 + 3 * round++, 500, NOW + 1);
        req.has_bound = true;
        rows += n;
    } while (n > 0);
    assert_true(rows > 8000 && rows < 10000);
    for (size_t key = 0; key < NSEGS * ROWS; key += 3) {
        assert_false(bit_get(seen, key));
    }
    req.read_ts = NOW + 2; /* what was kept is of another snapshot */
    req.has_bound = false;
    page(w, &req, &req.bound, &n, NULL);
}

static void test_pages_when_asked_in_any_order_then_as_scanned(void **state)
{
    struct world *w = *state;
    Elanus__SearchReq base = request(w, METRIC_L2, 50);
    uint64_t s = 3;
    uint32_t kept = 0;
    for (int i = 0; i < 400; i++) {
        Elanus__SearchReq req = base;
        req.has_bound = fx_rand(&s) % 8 != 0;
        req.bound = (float)(fx_rand(&s) % 3000);
        req.k = 1 + (uint32_t)(fx_rand(&s) % 300);
        req.has_radius = fx_rand(&s) % 4 == 0;
        req.radius = 900;
        req.has_range_filter = fx_rand(&s) % 4 == 0;
        req.range_filter = fx_rand(&s) % 2 ? 100 : 2000;
        req.metric = fx_rand(&s) % 8 ? METRIC_L2 : METRIC_IP;
        req.read_ts = fx_rand(&s) % 8 ? NOW : NOW + 2;
        w->query[1] = fx_rand(&s) % 8 ? 61.5f : 61.0f;
        struct arena *ar = arena_new(0);
        Elanus__SearchResp got, want;
        ask(w, &req, w->ahead, ar, &got);
        ask(w, &req, NULL, ar, &want);
        assert_int_equal(got.n_scores, want.n_scores);
        assert_memory_equal(got.rows, want.rows, got.n_scores * sizeof *got.rows);
        assert_memory_equal(got.scores, want.scores, got.n_scores * sizeof *got.scores);
        kept += got.work->exact == 0;
        arena_free(ar);
    }
    assert_true(kept > 40);
}

static void test_pages_when_rows_expire_meanwhile_then_as_scanned(void **state)
{
    struct world *w = *state;
    Elanus__SearchReq req = request(w, METRIC_L2, 64);
    uint32_t n, kept = 0, pages = 0;
    req.ttl_before = 50;
    do { /* from 100 to 101 the oldest quarter goes */
        kept += page(w, &req, &req.bound, &n, NULL);
        req.has_bound = true;
        req.ttl_before += pages++ % 8 == 0;
    } while (n > 0 && pages < 500);
    assert_true(pages > 150 && kept > pages / 2);
    assert_true(req.ttl_before > 60);
    req.ttl_before = 0; /* the time to live is taken back */
    req.bound = 1;
    page(w, &req, &req.bound, &n, NULL);
}

static void test_pages_when_scores_are_infinite_then_the_iterator_ends(void **state)
{
    struct world *w = *state;
    Elanus__SearchReq req = request(w, METRIC_L2, 64);
    Elanus__SearchResp got;
    struct arena *ar = arena_new(0);
    w->query[0] = 3e38f; /* every distance is infinite */
    ask(w, &req, w->ahead, ar, &got);
    assert_int_equal(got.n_scores, 64);
    assert_true(isinf(got.scores[0]));
    req.has_bound = true;
    req.bound = got.scores[0];
    for (int i = 0; i < 2; i++) {
        ask(w, &req, i ? w->ahead : NULL, ar, &got);
        assert_int_equal(got.n_scores, 0);
    }
    arena_free(ar);
}

static void test_ahead_when_room_is_short_then_bounded_and_as_scanned(void **state)
{
    struct world *w = *state;
    for (size_t room = 0; room <= 100000; room += 50000) {
        nd_ahead_free(w->ahead);
        w->ahead = nd_ahead_new(room);
        for (int i = 0; i < 6; i++) {
            Elanus__SearchReq req = request(w, METRIC_L2, 500);
            w->query[0] = (float)i;
            assert_int_equal(iterate(w, req).rows, NSEGS * ROWS);
            assert_true(nd_ahead_bytes(w->ahead) <= room);
            assert_int_equal(nd_ahead_bytes(w->ahead) > 0, room > 0);
        }
    }
}

static void test_ahead_when_no_page_of_an_iterator_then_nothing_is_kept(void **state)
{
    struct world *w = *state;
    Elanus__SearchReq req = request(w, METRIC_L2, 10);
    struct arena *ar = arena_new(0);
    Elanus__SearchResp got;
    req.pages = false;
    ask(w, &req, w->ahead, ar, &got);
    req.pages = true;
    req.exact = false;
    ask(w, &req, w->ahead, ar, &got);
    assert_int_equal(nd_ahead_bytes(w->ahead), 0);
    arena_free(ar);
}

struct pages_of {
    struct world *w;
    Elanus__SearchReq req;
    size_t rows;
};

static void *read_all(void *arg)
{
    struct pages_of *r = arg;
    Elanus__SearchReq req = r->req;
    uint32_t n;
    do {
        struct arena *ar = arena_new(0);
        Elanus__SearchResp resp;
        ask(r->w, &req, r->w->ahead, ar, &resp);
        n = page_end(&resp, req.k);
        req.bound = n ? resp.scores[n - 1] : req.bound;
        req.has_bound = true;
        r->rows += n;
        arena_free(ar);
    } while (n > 0);
    return NULL;
}

static void test_ahead_when_threads_share_it_then_each_reads_all(void **state)
{
    enum { N = 4 };
    struct world *w = *state;
    struct pages_of r[N];
    pthread_t t[N];
    nd_ahead_free(w->ahead);
    w->ahead = nd_ahead_new(120000); /* fewer than all of them keep */
    for (int i = 0; i < N; i++) {
        r[i] = (struct pages_of){ .w = w, .req = request(w, i < 2 ? METRIC_L2 : METRIC_COSINE, 400) };
        assert_int_equal(pthread_create(&t[i], NULL, read_all, &r[i]), 0);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(r[i].rows, NSEGS * ROWS);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_pages_when_taken_to_the_end_then_each_row_once_and_few_scans),
        T(test_pages_when_rows_are_deleted_meanwhile_then_the_snapshot_holds),
        T(test_pages_when_asked_in_any_order_then_as_scanned),
        T(test_pages_when_rows_expire_meanwhile_then_as_scanned),
        T(test_pages_when_scores_are_infinite_then_the_iterator_ends),
        T(test_ahead_when_room_is_short_then_bounded_and_as_scanned),
        T(test_ahead_when_no_page_of_an_iterator_then_nothing_is_kept),
        T(test_ahead_when_threads_share_it_then_each_reads_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
