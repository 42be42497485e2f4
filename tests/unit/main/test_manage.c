/* test_manage.c - counting RPCs: the table of metrics, from many threads. */
#include "unit.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "main/manage.h"
#include <stdio.h>

static void done(struct manage *mg, const char *path, int status, bool known, bool is_grpc)
{
    struct net_done d = { .path = slice_of(path), .method = SLICE_LIT("POST"), .peer = "here",
                          .is_grpc = is_grpc, .known = known, .status = status,
                          .duration_us = 3000 };
    manage_on_done(mg, &d);
}

static int64_t counted(const char *name, const char *status)
{
    char labels[256];
    snprintf(labels, sizeof labels, "function_name=\"%s\",status=\"%s\"", name, status);
    return metric_value(metric_get(METRIC_COUNTER, "milvus_proxy_req_count", labels, ""));
}

static bool shown(const char *text)
{
    struct buf b;
    buf_init(&b, 16 << 20);
    assert_true(metrics_render(&b) && buf_putc(&b, '\0'));
    bool found = strstr((char *)b.p, text) != NULL;
    buf_done(&b);
    return found;
}

static void test_on_done_when_calls_end_then_counts_by_method_and_outcome(void **state)
{
    struct manage mg = { 0 };
    done(&mg, "/milvus.proto.milvus.MilvusService/Search", 0, true, true);
    done(&mg, "/milvus.proto.milvus.MilvusService/Search", 0, true, true);
    done(&mg, "/milvus.proto.milvus.MilvusService/Search", 14, true, true);
    done(&mg, "/milvus.proto.milvus.MilvusService/Insert", 0, true, true);
    assert_int_equal(counted("Search", "total"), 3);
    assert_int_equal(counted("Search", "success"), 2);
    assert_int_equal(counted("Search", "fail"), 1);
    assert_int_equal(counted("Insert", "total"), 1);
    assert_true(shown("milvus_proxy_req_latency_count{function_name=\"Search\"} 3"));
    manage_done(&mg);
}

static void test_on_done_when_method_is_unknown_or_http_then_not_counted(void **state)
{
    struct manage mg = { 0 };
    char longest[300] = "/s/";
    memset(longest + 3, 'x', 200);
    done(&mg, "/evil/Unknown\"} 1", 12, false, true);
    done(&mg, "/metrics", 200, false, false);
    done(&mg, longest, 0, true, true);
    assert_false(shown("Unknown"));
    assert_false(shown("function_name=\"metrics\""));
    assert_false(shown("xxxxxxxx"));
    manage_done(&mg);
}

enum { NAMES = 600, ROUNDS = 20, WORKERS = 4 };

static void work(void *arg)
{
    char path[64];
    for (int r = 0; r < ROUNDS; r++) {
        for (int i = 0; i < NAMES; i++) {
            snprintf(path, sizeof path, "/many.Many/Call%d", i);
            done(arg, path, 0, true, true);
        }
    }
}

/* More names than places: those that found one are counted exactly, the others not at all. */
static void test_on_done_when_threads_race_for_places_then_no_count_is_lost(void **state)
{
    struct manage *mg = xalloc(sizeof *mg);
    struct thread *threads[WORKERS];
    int full = 0;
    for (int i = 0; i < WORKERS; i++) {
        threads[i] = thread_start("manage", work, mg);
    }
    for (int i = 0; i < WORKERS; i++) {
        thread_join(threads[i]);
    }
    for (int i = 0; i < NAMES; i++) {
        char name[32];
        snprintf(name, sizeof name, "Call%d", i);
        int64_t n = counted(name, "total");
        assert_true(n == 0 || n == WORKERS * ROUNDS);
        full += n > 0;
    }
    assert_int_equal(full, MANAGE_RPCS_MAX);
    manage_done(mg);
    mem_free(mg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_on_done_when_calls_end_then_counts_by_method_and_outcome),
        cmocka_unit_test(test_on_done_when_method_is_unknown_or_http_then_not_counted),
        cmocka_unit_test(test_on_done_when_threads_race_for_places_then_no_count_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
