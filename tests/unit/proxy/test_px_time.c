/* test_px_time.c - what a read waits for, by consistency level. */
#include "px_fixture.h"

enum { STRONG, SESSION, BOUNDED, EVENTUALLY, CUSTOMIZED };

static int guarantee(struct fx *fx, int level, bool use_default, uint64_t ts, bool iterator,
                     hts *ret_g, hts *ret_read, struct status *st)
{
    const struct px_coll *c;
    int rc = px_collection(&fx->pc, "", "c", &c, st);

    return rc ? rc
              : px_guarantee(&fx->pc, c, level, use_default, ts, iterator, ret_g, ret_read, st);
}

static void test_levels(void **state)
{
    static const struct {
        int level;
        bool use_default;
        int coll_level;
        uint64_t sent;
        int want; /* 0: now, 1: five seconds ago, 2: eventually, 3: as sent */
    } rows[] = {
        { STRONG, false, BOUNDED, 0, 0 },
        { BOUNDED, false, STRONG, 2, 1 },
        { EVENTUALLY, false, STRONG, 1, 2 },
        { SESSION, false, STRONG, 77, 3 },
        { CUSTOMIZED, false, STRONG, 78, 3 },
        { BOUNDED, true, STRONG, 1, 0 },
        { STRONG, true, BOUNDED, 1, 1 },
        { STRONG, true, EVENTUALLY, 12345678, 2 },
        { STRONG, true, SESSION, 12345678, 3 },
        /* no level, everything in the timestamp */
        { STRONG, false, BOUNDED, 2, 1 },
        { STRONG, false, BOUNDED, 1, 3 },
        { STRONG, false, BOUNDED, 12345678, 3 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct status st = STATUS_INIT;
        hts now, g, read_ts;
        struct fx fx;

        fx_start(&fx, NULL);
        fx.consistency_level = rows[i].coll_level;
        now = fx.now;
        ASSERT_OK(guarantee(&fx, rows[i].level, rows[i].use_default, rows[i].sent, false, &g,
                            &read_ts, &st));
        assert_int_equal(read_ts, 0);
        switch (rows[i].want) {
        case 0:
            assert_int_equal(g, now);
            break;
        case 1:
            assert_int_equal(hts_physical_ms(g), hts_physical_ms(now) - 5000);
            break;
        case 2:
            assert_int_equal(g, 1);
            break;
        default:
            assert_int_equal(g, rows[i].sent);
        }
        fx_stop(&fx);
    }
}

static void test_an_iterator_s_timestamp_is_a_snapshot(void **state)
{
    struct status st = STATUS_INIT;
    hts g, read_ts, page = hts_make(900000, 3);
    struct fx fx;

    fx_start(&fx, NULL);
    ASSERT_OK(guarantee(&fx, STRONG, false, page, true, &g, &read_ts, &st));
    assert_int_equal(g, page);
    assert_int_equal(read_ts, page);
    /* The first page names none. */
    ASSERT_OK(guarantee(&fx, STRONG, false, 0, true, &g, &read_ts, &st));
    assert_int_equal(read_ts, 0);
    assert_true(g >= page);
    fx_stop(&fx);
}

static void test_a_seen_timestamp_is_not_asked_for_again(void **state)
{
    struct status st = STATUS_INIT;
    hts g, read_ts, mine = hts_make(2000000, 0);
    struct fx fx;

    fx_start(&fx, NULL);
    px_saw_ts(fx.px, mine);
    px_saw_ts(fx.px, 5); /* older ones do not count */
    ASSERT_OK(guarantee(&fx, SESSION, false, mine, false, &g, &read_ts, &st));
    assert_int_equal(fx.allocs, 0);
    fx_stop(&fx);
}

static void test_a_guarantee_just_ahead_is_waited_for(void **state)
{
    struct status st = STATUS_INIT;
    hts g, read_ts, ahead;
    struct fx fx;

    fx_start(&fx, NULL);
    ahead = hts_make(hts_physical_ms(fx.now) + 20, 0);
    fx.ts_step = hts_make(10, 0); /* each question takes ten milliseconds */
    ASSERT_OK(guarantee(&fx, CUSTOMIZED, false, ahead, false, &g, &read_ts, &st));
    assert_int_equal(g, ahead);
    assert_int_equal(fx.allocs, 3);
    fx_stop(&fx);
}

static void test_a_guarantee_far_ahead_fails_at_once(void **state)
{
    struct status st = STATUS_INIT;
    hts g = 42, read_ts;
    struct fx fx;

    fx_start(&fx, NULL);
    fx.pc.call.deadline_us = deadline_in_ms(500);
    assert_int_equal(guarantee(&fx, CUSTOMIZED, false, hts_make(9000000, 0), false, &g, &read_ts,
                               &st), ST_TIMEOUT);
    assert_non_null(strstr(st.msg, "time tick long delay"));
    assert_int_equal(g, 42);
    assert_int_equal(fx.allocs, 1);
    fx_stop(&fx);
}

static void test_nobody_waits_for_a_client_that_left(void **state)
{
    struct status st = STATUS_INIT;
    _Atomic bool gone = true;
    hts g, read_ts;
    struct fx fx;

    fx_start(&fx, NULL);
    fx.pc.call.cancel = &gone;
    assert_int_equal(guarantee(&fx, CUSTOMIZED, false, hts_make(1000100, 0), false, &g, &read_ts,
                               &st), ST_CANCELLED);
    fx_stop(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_an_iterator_s_timestamp_is_a_snapshot),
        cmocka_unit_test(test_a_seen_timestamp_is_not_asked_for_again),
        cmocka_unit_test(test_a_guarantee_just_ahead_is_waited_for),
        cmocka_unit_test(test_a_guarantee_far_ahead_fails_at_once),
        cmocka_unit_test(test_nobody_waits_for_a_client_that_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
