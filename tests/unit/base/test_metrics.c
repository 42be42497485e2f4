/* test_metrics.c - values and the text they are shown in. */
#include "unit.h"
#include "alloc_torture.h"
#include "base/metrics.h"
#include "base/pool.h"
#include <math.h>
#include <stdlib.h>

static char *rendered(void)
{
    struct buf b;
    size_t n;
    buf_init(&b, 1 << 20);
    assert_true(metrics_render(&b));
    buf_putc(&b, '\0');
    return (char *)buf_take(&b, &n);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        fail_msg("not in the text: %s\n%s", part, text);
    }
}

static double value_of(const char *text, const char *name)
{
    char line[200] = "\n";
    strncat(line, name, sizeof line - 3);
    strcat(line, " ");
    const char *at = strstr(text, line);
    assert_non_null(at);
    return strtod(at + strlen(line), NULL);
}

static void test_metric_when_known_then_the_same(void **state)
{
    struct measure *a = metric_get(METRIC_COUNTER, "t_reqs", "f=\"a\"", "Requests.");
    struct measure *b = metric_get(METRIC_COUNTER, "t_reqs", "f=\"b\"", "Requests.");
    assert_ptr_not_equal(a, b);
    assert_ptr_equal(a, metric_get(METRIC_COUNTER, "t_reqs", "f=\"a\"", "other"));
    metric_add(a, 3);
    metric_add(a, 4);
    assert_int_equal(metric_value(a), 7);
    assert_int_equal(metric_value(b), 0);
}

static void test_render_when_families_then_grouped_sorted_with_help(void **state)
{
    metric_set(metric_get(METRIC_GAUGE, "t_a", "", "Back\\slash\nnew line."), -5);
    metric_add(metric_get(METRIC_COUNTER, "t_zz", "k=\"2\"", "Z."), 2);
    metric_add(metric_get(METRIC_COUNTER, "t_zz", "k=\"1\"", "Z."), 1);
    char *text = rendered();
    assert_has(text, "# HELP t_a Back\\\\slash\\nnew line.\n# TYPE t_a gauge\nt_a -5\n");
    assert_has(text, "# HELP t_zz Z.\n# TYPE t_zz counter\nt_zz{k=\"1\"} 1\nt_zz{k=\"2\"} 2\n");
    assert_true(strstr(text, "# HELP t_a") < strstr(text, "# HELP t_zz"));
    mem_free(text);
}

static void test_histogram_when_observed_then_cumulative_buckets(void **state)
{
    struct measure *m = metric_get(METRIC_HISTOGRAM, "t_ms", "f=\"x\"", "Time.");
    static const double values[] = {0, 1, 1.5, 2, 3, 65536, 65537, 1e9};
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        metric_observe(m, values[i]);
    }
    metric_observe(m, (double)NAN);
    assert_int_equal(metric_value(m), 8);
    char *text = rendered();
    assert_has(text, "# TYPE t_ms histogram\nt_ms_bucket{f=\"x\",le=\"1\"} 2\n"
                     "t_ms_bucket{f=\"x\",le=\"2\"} 4\nt_ms_bucket{f=\"x\",le=\"4\"} 5\n");
    assert_has(text, "t_ms_bucket{f=\"x\",le=\"65536\"} 6\nt_ms_bucket{f=\"x\",le=\"+Inf\"} 8\n"
                     "t_ms_sum{f=\"x\"} 1000131080.5\nt_ms_count{f=\"x\"} 8\n");
    mem_free(text);
    metric_observe(metric_get(METRIC_HISTOGRAM, "t_bare", "", "Bare."), 1);
    text = rendered();
    assert_has(text, "t_bare_bucket{le=\"1\"} 1\n");
    assert_has(text, "t_bare_sum 1\nt_bare_count 1\n");
    mem_free(text);
}

static void set_gauge(void *arg)
{
    metric_set(metric_get(METRIC_GAUGE, "t_collected", "", "Set while collecting."), *(int *)arg);
}

static void test_collect_when_rendered_then_callback_runs_first(void **state)
{
    static int v = 11;
    metrics_on_collect(set_gauge, &v);
    char *text = rendered();
    assert_has(text, "t_collected 11\n");
    mem_free(text);
    v = 12;
    text = rendered();
    assert_has(text, "t_collected 12\n");
    mem_free(text);
}

static void test_render_when_process_then_figures_are_plausible(void **state)
{
    char *text = rendered();
    double resident = value_of(text, "process_resident_memory_bytes");
    double virtual = value_of(text, "process_virtual_memory_bytes");
    assert_true(resident > 100000 && virtual >= resident);
    assert_true(value_of(text, "process_cpu_seconds_total") >= 0);
    assert_true(value_of(text, "process_threads") == 1);
    assert_true(value_of(text, "process_start_time_seconds") > 1.6e9);
    double fds = value_of(text, "process_open_fds");
    assert_true(fds >= 3 && fds <= value_of(text, "process_max_fds"));
    mem_free(text);
    int extra = dup(0);
    text = rendered();
    assert_true(value_of(text, "process_open_fds") == fds + 1);
    mem_free(text);
    close(extra);
}

static void test_render_when_buffer_is_full_or_memory_fails_then_false(void **state)
{
    struct buf b;
    buf_init(&b, 100);
    assert_false(metrics_render(&b));
    buf_done(&b);
    ALLOC_TORTURE
    {
        buf_init(&b, 1 << 20);
        bool ok = metrics_render(&b);
        assert_int_equal(ok, alloc_fail_pending());
        buf_done(&b);
    }
}

static void hammer(void *arg)
{
    for (int i = 0; i < 20000; i++) {
        metric_add(metric_get(METRIC_COUNTER, "t_hammer", "", "H."), 1);
        metric_observe(arg, 0.5);
    }
}

static void test_update_when_threads_then_none_is_lost(void **state)
{
    struct measure *h = metric_get(METRIC_HISTOGRAM, "t_hammer_ms", "", "H.");
    struct thread *t[3];
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        t[i] = thread_start("hammer", hammer, h);
    }
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        thread_join(t[i]);
    }
    char *text = rendered();
    assert_has(text, "t_hammer 60000\n");
    assert_has(text, "t_hammer_ms_sum 30000\n");
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metric_when_known_then_the_same),
        cmocka_unit_test(test_render_when_families_then_grouped_sorted_with_help),
        cmocka_unit_test(test_histogram_when_observed_then_cumulative_buckets),
        cmocka_unit_test(test_collect_when_rendered_then_callback_runs_first),
        cmocka_unit_test(test_render_when_process_then_figures_are_plausible),
        cmocka_unit_test(test_render_when_buffer_is_full_or_memory_fails_then_false),
        cmocka_unit_test(test_update_when_threads_then_none_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
