/*
 * pool.c - worker threads, a bounded queue and parallel-for.
 *
 * WHAT     A worker takes, in this order: an open parallel_for() that still has indices, a queued
 *          task. parallel_for() puts a record from the caller's stack in the pool's list of open
 *          loops, wakes at most as many idle workers as there are indices to share, and then takes
 *          indices itself, from one atomic counter. Indices are handed out one at a time: callers
 *          choose a grain (a segment, a block of rows) that makes the counter cheap.
 * NESTING  The caller of an inner loop takes indices until there are none and then waits only for
 *          workers that are inside fn right now. Those never wait for the caller, so a chain of
 *          waiting ends at a thread that is running: no deadlock at any depth, with one worker too.
 * THREADS  Everything in struct pool and the helpers count of a loop are under pool->lock, which is
 *          never held while fn runs. loop->next is relaxed: what workers wrote is
 *          published to the caller by the lock, which each worker takes when it leaves the loop.
 * SIGNALS  Threads block the signals the program handles, so these always reach the main thread.
 */
#include "base/pool.h"
#include "base/alloc.h"
#include "base/lock.h"
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Turns the caller spins for its helpers before it sleeps: about the cost of one sleep and wake. */
#define SPIN_TURNS 1000

struct thread {
    pthread_t handle;
    void (*fn)(void *);
    void *arg;
    char name[16];
};

static void *thread_main(void *p)
{
    struct thread *t = p;
    pthread_setname_np(pthread_self(), t->name);
    t->fn(t->arg);
    return NULL;
}

struct thread *thread_start(const char *name, void (*fn)(void *), void *arg)
{
    static const int handled[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE};
    struct thread *t = xalloc(sizeof *t);
    t->fn = fn;
    t->arg = arg;
    snprintf(t->name, sizeof t->name, "%s", name);

    sigset_t block, before;
    sigemptyset(&block);
    for (size_t i = 0; i < ARRAY_LEN(handled); i++) {
        sigaddset(&block, handled[i]);
    }
    pthread_sigmask(SIG_BLOCK, &block, &before);
    int rc = pthread_create(&t->handle, NULL, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        fprintf(stderr, "cannot start thread %s: %s\n", name, strerror(rc));
        abort();
    }
    return t;
}

/* The kernel's struct sched_attr; the C library has neither it nor the calls. */
struct sched_attr_ {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

void thread_set_slice(int64_t us)
{
    struct sched_attr_ a = {.size = sizeof a};
    if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) == 0 && a.policy == SCHED_OTHER) {
        a.runtime = (uint64_t)us * 1000;
        (void)syscall(SYS_sched_setattr, 0, &a, 0);
    }
}

void thread_join(struct thread *t)
{
    if (t) {
        CHECK(pthread_join(t->handle, NULL) == 0);
        mem_free(t);
    }
}

struct task {
    void (*fn)(void *);
    void *arg;
};

/* One parallel_for() in progress; lives on its caller's stack. */
struct loop {
    struct loop *next_loop; /* pool->lock */
    bool listed;            /* pool->lock */
    void (*fn)(void *ctx, size_t i);
    void *ctx;
    size_t n;
    atomic_size_t next;   /* first index nobody took */
    atomic_int helpers;   /* workers inside; written under pool->lock, spun on without */
    struct cond finished; /* helpers became 0 */
};

struct pool {
    struct lock lock;
    struct cond work; /* a task, a loop, or stopping */
    struct loop *loops;
    struct task *ring;
    size_t ring_cap, ring_head, ring_n, ring_max;
    int idle;
    bool stopping;
    int nthreads;
    struct thread **threads;
};

static void loop_unlist(struct pool *p, struct loop *lp)
{
    if (!lp->listed) {
        return;
    }
    for (struct loop **at = &p->loops; *at; at = &(*at)->next_loop) {
        if (*at == lp) {
            *at = lp->next_loop;
            break;
        }
    }
    lp->listed = false;
}

static void loop_run(struct loop *lp)
{
    size_t i;
    while ((i = atomic_fetch_add_explicit(&lp->next, 1, memory_order_relaxed)) < lp->n) {
        lp->fn(lp->ctx, i);
    }
}

/* Holds p->lock on entry and return. */
static void help_loop(struct pool *p, struct loop *lp)
{
    atomic_fetch_add_explicit(&lp->helpers, 1, memory_order_relaxed);
    lock_release(&p->lock);
    loop_run(lp);
    lock_acquire(&p->lock);
    loop_unlist(p, lp);
    if (atomic_fetch_sub_explicit(&lp->helpers, 1, memory_order_release) == 1) {
        cond_signal(&lp->finished);
    }
}

/* Holds p->lock on entry and return. */
static void run_task(struct pool *p)
{
    struct task t = p->ring[p->ring_head];
    p->ring_head = (p->ring_head + 1) % p->ring_cap;
    p->ring_n--;
    lock_release(&p->lock);
    t.fn(t.arg);
    lock_acquire(&p->lock);
}

static void worker_main(void *arg)
{
    struct pool *p = arg;
    lock_acquire(&p->lock);
    for (;;) {
        if (p->loops) {
            help_loop(p, p->loops);
        } else if (p->ring_n > 0) {
            run_task(p);
        } else if (p->stopping) {
            break;
        } else {
            p->idle++;
            cond_wait(&p->work, &p->lock);
            p->idle--;
        }
    }
    lock_release(&p->lock);
}

struct pool *pool_new(const char *name, int threads, size_t queue_max)
{
    CHECK(threads >= 1);
    struct pool *p = xalloc(sizeof *p);
    lock_init(&p->lock, RANK_POOL);
    cond_init(&p->work);
    p->ring_max = queue_max;
    p->nthreads = threads;
    p->threads = xalloc((size_t)threads * sizeof(struct thread *));
    for (int i = 0; i < threads; i++) {
        char full[32];
        snprintf(full, sizeof full, "%.11s-%d", name, i);
        p->threads[i] = thread_start(full, worker_main, p);
    }
    return p;
}

void pool_free(struct pool *p)
{
    if (!p) {
        return;
    }
    lock_acquire(&p->lock);
    p->stopping = true;
    cond_broadcast(&p->work);
    lock_release(&p->lock);
    for (int i = 0; i < p->nthreads; i++) {
        thread_join(p->threads[i]);
    }
    cond_done(&p->work);
    lock_done(&p->lock);
    mem_free(p->threads);
    mem_free(p->ring);
    mem_free(p);
}

/* Holds p->lock. The ring is full and below its maximum. */
static bool ring_grow(struct pool *p)
{
    size_t cap = p->ring_cap ? p->ring_cap * 2 : 64;
    cap = MIN(cap, p->ring_max);
    size_t bytes;
    struct task *ring = mul_size(cap, sizeof *ring, &bytes) ? alloc_try(bytes) : NULL;
    if (!ring) {
        return false;
    }
    for (size_t i = 0; i < p->ring_n; i++) {
        ring[i] = p->ring[(p->ring_head + i) % p->ring_cap];
    }
    mem_free(p->ring);
    p->ring = ring;
    p->ring_cap = cap;
    p->ring_head = 0;
    return true;
}

int pool_submit(struct pool *p, void (*fn)(void *), void *arg, struct status *st)
{
    int rc = 0;
    lock_acquire(&p->lock);
    if (p->stopping) {
        FAIL(st, ST_NOT_READY, "the task pool is stopping");
    }
    if (p->ring_n >= p->ring_max) {
        FAIL(st, ST_BUSY, "the task queue is full (%zu waiting)", p->ring_n);
    }
    if (p->ring_n == p->ring_cap && !ring_grow(p)) {
        FAIL(st, ST_NO_MEMORY, "no memory for a task queue of %zu", p->ring_n + 1);
    }
    p->ring[(p->ring_head + p->ring_n) % p->ring_cap] = (struct task){fn, arg};
    p->ring_n++;
    cond_signal(&p->work);
out:
    lock_release(&p->lock);
    return rc;
}

size_t pool_queued(const struct pool *p)
{
    struct lock *l = (struct lock *)(uintptr_t)&p->lock;
    lock_acquire(l);
    size_t n = p->ring_n;
    lock_release(l);
    return n;
}

int pool_threads(const struct pool *p)
{
    return p->nthreads;
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void parallel_for(struct pool *p, size_t n, void (*fn)(void *ctx, size_t i), void *ctx)
{
    if (!p || n < 2) {
        for (size_t i = 0; i < n; i++) {
            fn(ctx, i);
        }
        return;
    }
    struct loop lp = {.fn = fn, .ctx = ctx, .n = n, .listed = true};
    cond_init(&lp.finished);
    lock_acquire(&p->lock);
    lp.next_loop = p->loops;
    p->loops = &lp;
    int wake = n - 1 < (size_t)p->idle ? (int)(n - 1) : p->idle;
    for (int i = 0; i < wake; i++) {
        cond_signal(&p->work);
    }
    lock_release(&p->lock);

    loop_run(&lp);

    for (int turn = 0; turn < SPIN_TURNS; turn++) {
        if (atomic_load_explicit(&lp.helpers, memory_order_relaxed) == 0) {
            break;
        }
        cpu_relax();
    }
    /* Under the lock even when the spin saw 0: a worker may be about to signal, or to join. */
    lock_acquire(&p->lock);
    loop_unlist(p, &lp);
    while (atomic_load_explicit(&lp.helpers, memory_order_acquire) > 0) {
        cond_wait(&lp.finished, &p->lock);
    }
    lock_release(&p->lock);
    cond_done(&lp.finished);
}
