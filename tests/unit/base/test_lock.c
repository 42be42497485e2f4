/* test_lock.c - clocks, locks, conditions, log lines: the small services of a process. */
#include "unit.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/pool.h"
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <fcntl.h>

#define LOG_ROOM "test"

static void test_clock_when_real_then_advances(void **state)
{
    int64_t a = clock_mono_us(), wall = clock_now_ms();
    assert_true(clock_mono_us() >= a);
    assert_true(wall > INT64_C(1600000000000));
    assert_false(clock_is_fake());
}

static void test_clock_when_fake_then_only_the_test_moves_it(void **state)
{
    clock_fake_set_ms(5000);
    assert_true(clock_is_fake());
    assert_int_equal(clock_now_ms(), 5000);
    assert_int_equal(clock_mono_us(), 5000000);
    assert_int_equal(deadline_in_ms(10), 5010000);
    assert_true(deadline_in_ms(INT64_MAX) == DEADLINE_NONE);
    clock_fake_set_ms(6000);
    assert_int_equal(clock_mono_ms(), 6000);
    clock_real();
    assert_true(clock_now_ms() > 6000);
}

/* Runs fn in a child; whether it was aborted. What it prints is thrown away. */
static bool aborts(void (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        fn();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) == SIGABRT : WEXITSTATUS(status) != 0;
}

static struct lock outer, inner;

static void take_rising(void)
{
    lock_init(&outer, RANK_META);
    lock_init(&inner, RANK_LEAF);
    for (int i = 0; i < 3; i++) {
        lock_acquire(&outer);
        lock_acquire(&inner);
        lock_release(&outer); /* any order */
        lock_release(&inner);
    }
}

#ifndef NDEBUG
static void take_falling(void)
{
    take_rising();
    lock_acquire(&inner);
    lock_acquire(&outer);
}

static void take_equal(void)
{
    struct rwlock other;
    take_rising();
    rwlock_init(&other, RANK_LEAF);
    lock_acquire(&inner);
    rwlock_read(&other);
}

static void read_twice(void)
{
    struct rwlock l;
    rwlock_init(&l, RANK_LEAF);
    rwlock_read(&l);
    rwlock_read(&l);
}

static void release_unheld(void)
{
    take_rising();
    lock_release(&inner);
}
#endif

static void test_lock_when_rank_does_not_rise_then_abort(void **state)
{
    assert_false(aborts(take_rising));
#ifndef NDEBUG
    assert_true(aborts(take_falling));
    assert_true(aborts(take_equal));
    assert_true(aborts(read_twice));
    assert_true(aborts(release_unheld));
#endif
}

static void failing_check(void)
{
    CHECK(1 + 1 == 3);
}

static void test_check_when_false_then_abort(void **state)
{
    assert_true(aborts(failing_check));
}

static struct {
    struct lock lock;
    struct cond cond;
    bool waiting, timed_out, ready;
    int64_t deadline_us;
} w;

static void wait_for_deadline(void *arg)
{
    (void)arg;
    lock_acquire(&w.lock);
    w.waiting = true;
    cond_broadcast(&w.cond);
    while (!w.ready) {
        if (!cond_wait_until(&w.cond, &w.lock, w.deadline_us)) {
            w.timed_out = true;
            break;
        }
    }
    lock_release(&w.lock);
}

static struct thread *start_waiter(int64_t deadline_us)
{
    lock_init(&w.lock, RANK_LEAF);
    cond_init(&w.cond);
    w.waiting = w.timed_out = w.ready = false;
    w.deadline_us = deadline_us;
    struct thread *t = thread_start("waiter", wait_for_deadline, NULL);
    lock_acquire(&w.lock);
    while (!w.waiting) {
        cond_wait(&w.cond, &w.lock);
    }
    lock_release(&w.lock);
    return t;
}

static void end_waiter(struct thread *t)
{
    thread_join(t);
    cond_done(&w.cond);
    lock_done(&w.lock);
}

static void test_wait_when_fake_deadline_passes_then_false(void **state)
{
    clock_fake_set_ms(1000);
    struct thread *t = start_waiter(deadline_in_ms(60000));
    clock_fake_set_ms(61000);
    end_waiter(t);
    assert_true(w.timed_out);
    clock_real();
}

static void test_wait_when_signalled_then_true(void **state)
{
    for (int fake = 0; fake < 2; fake++) {
        if (fake) {
            clock_fake_set_ms(1000);
        }
        struct thread *t = start_waiter(fake ? deadline_in_ms(60000) : DEADLINE_NONE);
        lock_acquire(&w.lock);
        w.ready = true;
        cond_signal(&w.cond);
        lock_release(&w.lock);
        end_waiter(t);
        assert_false(w.timed_out);
        clock_real();
    }
}

static void test_wait_when_real_deadline_passes_then_false(void **state)
{
    struct lock l;
    struct cond c;
    lock_init(&l, RANK_LEAF);
    cond_init(&c);
    lock_acquire(&l);
    int64_t deadline = deadline_in_ms(5);
    while (cond_wait_until(&c, &l, deadline)) {
    }
    assert_true(clock_mono_us() >= deadline);
    assert_false(cond_wait_until(&c, &l, 0));
    assert_false(cond_wait_until(&c, &l, -5));
    lock_release(&l);
    cond_done(&c);
    lock_done(&l);
}

static struct rwlock rw;
static long shared;

static void add_many(void *arg)
{
    for (int i = 0; i < 2000; i++) {
        rwlock_write(&rw);
        shared++;
        rwlock_release(&rw);
        rwlock_read(&rw);
        *(volatile long *)arg += shared > 0;
        rwlock_release(&rw);
    }
}

static void test_rwlock_when_two_writers_then_no_update_is_lost(void **state)
{
    long seen[2] = {0};
    rwlock_init(&rw, RANK_LEAF);
    shared = 0;
    struct thread *a = thread_start("a", add_many, &seen[0]),
                  *b = thread_start("b", add_many, &seen[1]);
    thread_join(a);
    thread_join(b);
    thread_join(NULL);
    rwlock_done(&rw);
    assert_int_equal(shared, 4000);
    assert_int_equal(seen[0] + seen[1], 4000);
}

/* What log_write() puts on standard error. */
static char *logged(enum log_level lv, const char *text)
{
    static char line[8192];
    int ends[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    fflush(stderr);
    dup2(ends[1], STDERR_FILENO);
    LOG_AT(lv, "%s", text);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    ssize_t n = read(ends[0], line, sizeof line - 1);
    close(ends[0]);
    line[MAX(n, 0)] = '\0';
    return line;
}

static void test_log_when_at_threshold_then_one_line(void **state)
{
    clock_fake_set_ms(INT64_C(1700000000123));
    assert_string_equal(logged(LOG_WARN, "disk slow ms=5"),
                        "2023-11-14T22:13:20.123Z WARN test disk slow ms=5\n");
    assert_string_equal(logged(LOG_DEBUG, "hidden"), "");
    log_threshold = LOG_DEBUG;
    assert_string_equal(logged(LOG_DEBUG, "shown"), "2023-11-14T22:13:20.123Z DEBUG test shown\n");
    log_threshold = LOG_INFO;
    assert_non_null(strstr(logged(LOG_INFO, "a\nb\x1b[0m"), " a?b?[0m\n"));
    clock_real();
}

static void test_log_when_too_long_then_cut_with_newline(void **state)
{
    char text[6000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    char *line = logged(LOG_ERROR, text);
    assert_int_equal(strlen(line), 4096);
    assert_int_equal(line[4095], '\n');
    assert_int_equal(line[4094], 'x');
}

static void test_log_level_when_parsed_then_known_names_only(void **state)
{
    enum log_level lv = LOG_ERROR;
    assert_true(log_level_parse("debug", &lv) && lv == LOG_DEBUG);
    assert_true(log_level_parse("warn", &lv) && lv == LOG_WARN);
    assert_false(log_level_parse("WARN", &lv));
    assert_false(log_level_parse("", &lv));
    assert_int_equal(lv, LOG_WARN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock_when_real_then_advances),
        cmocka_unit_test(test_clock_when_fake_then_only_the_test_moves_it),
        cmocka_unit_test(test_lock_when_rank_does_not_rise_then_abort),
        cmocka_unit_test(test_check_when_false_then_abort),
        cmocka_unit_test(test_wait_when_fake_deadline_passes_then_false),
        cmocka_unit_test(test_wait_when_signalled_then_true),
        cmocka_unit_test(test_wait_when_real_deadline_passes_then_false),
        cmocka_unit_test(test_rwlock_when_two_writers_then_no_update_is_lost),
        cmocka_unit_test(test_log_when_at_threshold_then_one_line),
        cmocka_unit_test(test_log_when_too_long_then_cut_with_newline),
        cmocka_unit_test(test_log_level_when_parsed_then_known_names_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
