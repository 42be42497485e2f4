/* test_coord_tso.c - timestamps and ids: never twice, never backwards, whatever the clock does. */
#include "coord_fixture.h"

static uint64_t take(struct fx *fx, bool ids, uint32_t count)
{
    Elanus__AllocReq req = ELANUS__ALLOC_REQ__INIT;
    Elanus__AllocResp resp = ELANUS__ALLOC_RESP__INIT;
    req.count = count;
    if (ids) {
        ASSERT_CALL(CALL(fx, root, alloc_id, &req, &resp));
    } else {
        ASSERT_CALL(CALL(fx, root, alloc_ts, &req, &resp));
    }
    assert_int_equal(resp.count, count);
    return resp.first;
}

static void test_alloc_ts_when_called_then_hybrid_and_rising(void **state)
{
    struct fx *fx = fx_new();
    uint64_t last = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t ts = take(fx, false, 3);
        assert_true(ts > last);
        last = ts + 2;
    }
    int64_t ms = (int64_t)(last >> 18);
    assert_in_range(ms, clock_now_ms() - 5000, clock_now_ms() + 5000);
    fx_free(fx);
}

static void test_alloc_when_count_is_out_of_range_then_invalid(void **state)
{
    struct fx *fx = fx_new();
    Elanus__AllocReq req = ELANUS__ALLOC_REQ__INIT;
    Elanus__AllocResp resp = ELANUS__ALLOC_RESP__INIT;
    assert_int_equal(CALL(fx, root, alloc_ts, &req, &resp), ST_INVALID);
    assert_int_equal(CALL(fx, root, alloc_id, &req, &resp), ST_INVALID);
    req.count = UINT32_MAX;
    assert_int_equal(CALL(fx, root, alloc_ts, &req, &resp), ST_INVALID);
    assert_int_equal(CALL(fx, root, alloc_id, &req, &resp), ST_INVALID);
    fx_free(fx);
}

static void test_alloc_ts_when_clock_steps_back_then_still_rising_over_restart(void **state)
{
    clock_fake_set_ms(1700000000000);
    struct fx *fx = fx_new();
    uint64_t a = take(fx, false, 1);
    uint64_t id = take(fx, true, 100);
    assert_int_equal(a >> 18, 1700000000000);
    clock_fake_set_ms(1600000000000);
    uint64_t b = take(fx, false, 1);
    assert_true(b > a);
    fx_restart(fx);
    uint64_t c = take(fx, false, 1);
    assert_true(c > b);
    assert_true(c >> 18 <= 1700000000000 + 3000 + 1);
    assert_true(take(fx, true, 1) >= id + 100);
    fx_free(fx);
    clock_real();
}

static void test_alloc_ts_when_clock_jumps_past_the_bound_then_goes_on(void **state)
{
    clock_fake_set_ms(1700000000000);
    struct fx *fx = fx_new();
    (void)take(fx, false, 1);
    clock_fake_set_ms(1700000100000);
    assert_int_equal(take(fx, false, 1) >> 18, 1700000100000);
    fx_free(fx);
    clock_real();
}

static void test_alloc_ts_when_store_fails_then_error_and_later_success(void **state)
{
    clock_fake_set_ms(1700000000000);
    struct fx *fx = fx_new();
    Elanus__AllocReq req = ELANUS__ALLOC_REQ__INIT;
    Elanus__AllocResp resp = ELANUS__ALLOC_RESP__INIT;
    uint64_t last = take(fx, false, 1);
    req.count = 1;
    clock_fake_set_ms(1700000009000);
    meta_mem_fail_txn(fx->meta, "/elanus/root/tso", 1, ST_IO);
    assert_int_equal(CALL(fx, root, alloc_ts, &req, &resp), ST_IO);
    assert_true(take(fx, false, 1) > last);
    fx_free(fx);
    clock_real();
}

static void test_alloc_ts_when_another_coordinator_wrote_then_fenced(void **state)
{
    clock_fake_set_ms(1700000000000);
    struct fx *fx = fx_new();
    struct status st = STATUS_INIT;
    Elanus__AllocReq req = ELANUS__ALLOC_REQ__INIT;
    Elanus__AllocResp resp = ELANUS__ALLOC_RESP__INIT;
    (void)take(fx, false, 1);
    ASSERT_OK(meta_put(fx->meta, SLICE_LIT("/elanus/root/tso"), SLICE_LIT(""), NULL, &st));
    clock_fake_set_ms(1700000009000);
    req.count = 1;
    assert_int_equal(CALL(fx, root, alloc_ts, &req, &resp), ST_FENCED);
    fx_free(fx);
    clock_real();
}

enum { THREADS = 4, PER_THREAD = 20000 };
struct taker {
    struct fx *fx;
    bool ids;
    uint64_t first[PER_THREAD];
};

static void taker_main(void *arg)
{
    struct taker *t = arg;
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    for (int i = 0; i < PER_THREAD; i++) {
        struct status st = STATUS_INIT;
        Elanus__AllocReq req = ELANUS__ALLOC_REQ__INIT;
        Elanus__AllocResp resp = ELANUS__ALLOC_RESP__INIT;
        req.count = t->ids ? 500 : 2;
        int rc = t->ids ? t->fx->root.alloc_id(t->fx->root.self, &call, &req, &resp, &st)
                        : t->fx->root.alloc_ts(t->fx->root.self, &call, &req, &resp, &st);
        t->first[i] = rc == 0 ? resp.first : 0;
    }
    arena_free(ar);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void run_takers(bool ids)
{
    struct fx *fx = fx_new();
    struct taker *t = xalloc(THREADS * sizeof *t);
    struct thread *threads[THREADS];
    uint64_t *all = xalloc(THREADS * PER_THREAD * sizeof *all);
    uint64_t step = ids ? 500 : 2;
    for (int i = 0; i < THREADS; i++) {
        t[i].fx = fx;
        t[i].ids = ids;
        threads[i] = thread_start("taker", taker_main, &t[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        thread_join(threads[i]);
        for (int j = 0; j < PER_THREAD; j++) {
            assert_true(t[i].first[j] != 0);
            assert_true(j == 0 || t[i].first[j] >= t[i].first[j - 1] + step);
            all[i * PER_THREAD + j] = t[i].first[j];
        }
    }
    qsort(all, THREADS * PER_THREAD, sizeof *all, by_value);
    for (int i = 1; i < THREADS * PER_THREAD; i++) {
        assert_true(all[i] >= all[i - 1] + step);
    }
    mem_free(all);
    mem_free(t);
    fx_free(fx);
}

static void test_alloc_ts_when_threads_take_then_all_distinct(void **state)
{
    run_takers(false);
}

static void test_alloc_id_when_threads_cross_many_bounds_then_all_distinct(void **state)
{
    run_takers(true);
}

int main(void)
{
    log_threshold = LOG_WARN;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_ts_when_called_then_hybrid_and_rising),
        cmocka_unit_test(test_alloc_when_count_is_out_of_range_then_invalid),
        cmocka_unit_test(test_alloc_ts_when_clock_steps_back_then_still_rising_over_restart),
        cmocka_unit_test(test_alloc_ts_when_clock_jumps_past_the_bound_then_goes_on),
        cmocka_unit_test(test_alloc_ts_when_store_fails_then_error_and_later_success),
        cmocka_unit_test(test_alloc_ts_when_another_coordinator_wrote_then_fenced),
        cmocka_unit_test(test_alloc_ts_when_threads_take_then_all_distinct),
        cmocka_unit_test(test_alloc_id_when_threads_cross_many_bounds_then_all_distinct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
