/* test_pool.c - every index once, every task once, nesting, full queues. */
#include "unit.h"
#include "alloc_torture.h"
#include "base/lock.h"
#include "base/pool.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

struct marks {
    size_t n;
    atomic_int *hit;
    struct pool *pool;
};

static void mark(void *ctx, size_t i)
{
    struct marks *m = ctx;
    atomic_fetch_add(&m->hit[i], 1);
}

static struct marks marks_new(size_t n, struct pool *p)
{
    return (struct marks){n, xalloc((n + 1) * sizeof(atomic_int)), p};
}

static void check_and_free(struct marks *m)
{
    for (size_t i = 0; i < m->n; i++) {
        assert_int_equal(atomic_load(&m->hit[i]), 1);
    }
    assert_int_equal(atomic_load(&m->hit[m->n]), 0);
    mem_free(m->hit);
}

static void test_parallel_for_when_any_count_then_each_index_once(void **state)
{
    static const size_t counts[] = {0, 1, 2, 3, 7, 100, 5000};
    for (int threads = 0; threads <= 5; threads++) {
        struct pool *p = threads ? pool_new("compute", threads, 10) : NULL;
        for (size_t k = 0; k < ARRAY_LEN(counts); k++) {
            for (int round = 0; round < 20; round++) {
                struct marks m = marks_new(counts[k], p);
                parallel_for(p, m.n, mark, &m);
                check_and_free(&m);
            }
        }
        pool_free(p);
    }
}

static void slice_main(void *arg)
{
    uint64_t before[7], after[7]; /* struct sched_attr of the kernel: 56 bytes, runtime at 24 */
    (void)arg;
    assert_int_equal(syscall(SYS_sched_getattr, 0, before, sizeof before, 0), 0);
    thread_set_slice(200);
    assert_int_equal(syscall(SYS_sched_getattr, 0, after, sizeof after, 0), 0);
    assert_memory_equal(before, after, 24); /* policy, flags, nice */
    if (before[3]) {                        /* the kernel knows it */
        assert_int_equal(after[3], 200000);
    }
}

static void test_slice_when_set_then_nothing_else_changes(void **state)
{
    thread_join(thread_start("slice", slice_main, NULL));
}

struct nest {
    struct pool *pool;
    int depth;
    atomic_long *leaves;
};

static void nested(void *ctx, size_t i)
{
    struct nest *n = ctx;
    (void)i;
    if (n->depth == 0) {
        atomic_fetch_add(n->leaves, 1);
        return;
    }
    struct nest deeper = {n->pool, n->depth - 1, n->leaves};
    parallel_for(n->pool, 3, nested, &deeper);
}

static void test_parallel_for_when_nested_then_no_deadlock(void **state)
{
    for (int threads = 1; threads <= 4; threads++) {
        struct pool *p = pool_new("nest", threads, 10);
        atomic_long leaves = 0;
        struct nest n = {p, 6, &leaves};
        for (int round = 0; round < 5; round++) {
            leaves = 0;
            nested(&n, 0);
            assert_int_equal(leaves, 729);
        }
        pool_free(p);
    }
}

static void many_loops(void *arg)
{
    struct pool *p = arg;
    for (int round = 0; round < 300; round++) {
        struct marks m = marks_new(17, p);
        parallel_for(p, m.n, mark, &m);
        check_and_free(&m);
    }
}

static void test_parallel_for_when_many_callers_then_all_complete(void **state)
{
    struct pool *p = pool_new("shared", 3, 100);
    struct thread *t[4];
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        t[i] = thread_start("caller", many_loops, p);
    }
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        thread_join(t[i]);
    }
    pool_free(p);
}

/* Two indices that each wait for the other: returns only when a worker really helps. */
static pthread_barrier_t both;
static void meet(void *ctx, size_t i)
{
    (void)ctx;
    (void)i;
    pthread_barrier_wait(&both);
}

static void test_parallel_for_when_workers_are_idle_then_they_help(void **state)
{
    struct pool *p = pool_new("help", 1, 10);
    pthread_barrier_init(&both, NULL, 2);
    for (int round = 0; round < 200; round++) {
        parallel_for(p, 2, meet, NULL);
    }
    pthread_barrier_destroy(&both);
    pool_free(p);
}

static atomic_int ran;
static void count_run(void *arg)
{
    (void)arg;
    atomic_fetch_add(&ran, 1);
}

/* A task that keeps its worker until the gate opens. */
static struct {
    struct lock lock;
    struct cond cond;
    bool entered, open;
} gate;

static void pass_gate(void *arg)
{
    (void)arg;
    lock_acquire(&gate.lock);
    gate.entered = true;
    cond_broadcast(&gate.cond);
    while (!gate.open) {
        cond_wait(&gate.cond, &gate.lock);
    }
    lock_release(&gate.lock);
}

static struct pool *blocked_pool(size_t queue_max)
{
    struct status st = STATUS_INIT;
    struct pool *p = pool_new("blocked", 1, queue_max);
    lock_init(&gate.lock, RANK_LEAF);
    cond_init(&gate.cond);
    gate.entered = gate.open = false;
    ASSERT_OK(pool_submit(p, pass_gate, NULL, &st));
    lock_acquire(&gate.lock);
    while (!gate.entered) {
        cond_wait(&gate.cond, &gate.lock);
    }
    lock_release(&gate.lock);
    return p;
}

static void open_and_free(struct pool *p)
{
    lock_acquire(&gate.lock);
    gate.open = true;
    cond_broadcast(&gate.cond);
    lock_release(&gate.lock);
    pool_free(p);
    cond_done(&gate.cond);
    lock_done(&gate.lock);
}

static void test_submit_when_queue_is_full_then_busy_and_queued_tasks_run(void **state)
{
    struct status st = STATUS_INIT;
    struct pool *p = blocked_pool(100);
    ran = 0;
    for (int i = 0; i < 100; i++) {
        ASSERT_OK(pool_submit(p, count_run, NULL, &st));
    }
    assert_int_equal(pool_queued(p), 100);
    assert_int_equal(pool_submit(p, count_run, NULL, &st), ST_BUSY);
    assert_true(st.retriable);
    assert_int_equal(ran, 0);
    open_and_free(p); /* runs what is queued */
    assert_int_equal(ran, 100);
}

static void test_submit_when_memory_fails_then_no_memory(void **state)
{
    struct status st = STATUS_INIT;
    struct pool *p = blocked_pool(1000);
    ran = 0;
    int accepted = 0;
    for (int i = 0; i < 200; i++) {
        alloc_fail_after(1);
        int rc = pool_submit(p, count_run, NULL, &st);
        bool failed = !alloc_fail_pending();
        alloc_fail_after(0);
        assert_int_equal(rc, failed ? ST_NO_MEMORY : 0);
        accepted += rc == 0;
        if (failed) {
            ASSERT_OK(pool_submit(p, count_run, NULL, &st));
            accepted++;
        }
    }
    open_and_free(p);
    assert_int_equal(ran, accepted);
}

static void test_parallel_for_when_all_workers_are_blocked_then_caller_does_it(void **state)
{
    struct pool *p = blocked_pool(10);
    struct marks m = marks_new(50, p);
    parallel_for(p, m.n, mark, &m);
    check_and_free(&m);
    open_and_free(p);
}

static void name_of(void *arg)
{
    pthread_getname_np(pthread_self(), arg, 16);
}

static void test_thread_when_started_then_named(void **state)
{
    char name[16];
    thread_join(thread_start("short", name_of, name));
    assert_string_equal(name, "short");
    thread_join(thread_start("much-too-long-for-it", name_of, name));
    assert_string_equal(name, "much-too-long-f");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parallel_for_when_any_count_then_each_index_once),
        cmocka_unit_test(test_slice_when_set_then_nothing_else_changes),
        cmocka_unit_test(test_parallel_for_when_nested_then_no_deadlock),
        cmocka_unit_test(test_parallel_for_when_many_callers_then_all_complete),
        cmocka_unit_test(test_parallel_for_when_workers_are_idle_then_they_help),
        cmocka_unit_test(test_submit_when_queue_is_full_then_busy_and_queued_tasks_run),
        cmocka_unit_test(test_submit_when_memory_fails_then_no_memory),
        cmocka_unit_test(test_parallel_for_when_all_workers_are_blocked_then_caller_does_it),
        cmocka_unit_test(test_thread_when_started_then_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
