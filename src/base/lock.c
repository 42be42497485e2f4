/*
 * lock.c - pthread locks with a check of their order.
 *
 * Debug builds keep, per thread, the ranks of the locks it holds. A lock may be taken when its rank
 * is above all of them; anything else could be one half of a deadlock, whether or not the other
 * half ran today. Locks may be released in any order.
 *
 * cond_wait_until() under the fake clock looks at it every millisecond: the test that moves the
 * clock does not know who waits.
 */
#include "base/lock.h"
#include "base/clock.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifndef NDEBUG

#define HELD_MAX 32

static _Thread_local enum lock_rank held[HELD_MAX];
static _Thread_local size_t nheld;

static const char *const rank_names[] = {
#define LOCK_RANK(name, what) #name,
#include "base/lock_rank.def"
#undef LOCK_RANK
};

static void rank_push(enum lock_rank rank)
{
    for (size_t i = 0; i < nheld; i++) {
        if (held[i] >= rank) {
            fprintf(stderr, "lock order: %s acquired while %s is held\n", rank_names[rank],
                    rank_names[held[i]]);
            abort();
        }
    }
    CHECK(nheld < HELD_MAX);
    held[nheld++] = rank;
}

static void rank_pop(enum lock_rank rank)
{
    for (size_t i = nheld; i > 0; i--) {
        if (held[i - 1] == rank) {
            for (size_t k = i; k < nheld; k++) {
                held[k - 1] = held[k];
            }
            nheld--;
            return;
        }
    }
    fprintf(stderr, "lock order: %s released, not held by this thread\n", rank_names[rank]);
    abort();
}

#else

static inline void rank_push(enum lock_rank rank)
{
    (void)rank;
}

static inline void rank_pop(enum lock_rank rank)
{
    (void)rank;
}

#endif

/* A failing pthread call here is a lock used before init, after done, or twice: a bug, and going
 * on would run unprotected. */
static inline void must(int rc)
{
    CHECK(rc == 0);
}

void lock_init(struct lock *l, enum lock_rank rank)
{
    must(pthread_mutex_init(&l->m, NULL));
    l->rank = rank;
}

void lock_done(struct lock *l)
{
    must(pthread_mutex_destroy(&l->m));
}

void lock_acquire(struct lock *l)
{
    rank_push(l->rank);
    must(pthread_mutex_lock(&l->m));
}

void lock_release(struct lock *l)
{
    rank_pop(l->rank);
    must(pthread_mutex_unlock(&l->m));
}

void cond_init(struct cond *c)
{
    pthread_condattr_t attr;
    must(pthread_condattr_init(&attr));
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    must(pthread_cond_init(&c->c, &attr));
    pthread_condattr_destroy(&attr);
}

void cond_done(struct cond *c)
{
    must(pthread_cond_destroy(&c->c));
}

void cond_wait(struct cond *c, struct lock *l)
{
    must(pthread_cond_wait(&c->c, &l->m));
}

/* Until a monotonic time of the system's clock; false when it passed. */
static bool wait_real(struct cond *c, struct lock *l, struct timespec ts)
{
    int rc = pthread_cond_timedwait(&c->c, &l->m, &ts);
    if (rc == ETIMEDOUT) {
        return false;
    }
    must(rc);
    return true;
}

static bool wait_fake(struct cond *c, struct lock *l, int64_t deadline_us)
{
    while (clock_is_fake()) {
        if (clock_mono_us() >= deadline_us) {
            return false;
        }
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        ts.tv_nsec += 1000000;
        if (ts.tv_nsec >= 1000000000) {
            ts.tv_nsec -= 1000000000;
            ts.tv_sec++;
        }
        if (wait_real(c, l, ts)) {
            return true;
        }
    }
    return true;
}

bool cond_wait_until(struct cond *c, struct lock *l, int64_t deadline_us)
{
    if (deadline_us == DEADLINE_NONE) {
        cond_wait(c, l);
        return true;
    }
    if (clock_is_fake()) {
        return wait_fake(c, l, deadline_us);
    }
    struct timespec ts = {0};
    if (deadline_us > 0) {
        ts.tv_sec = (time_t)(deadline_us / 1000000);
        ts.tv_nsec = (long)(deadline_us % 1000000) * 1000;
    }
    return wait_real(c, l, ts);
}

void cond_signal(struct cond *c)
{
    must(pthread_cond_signal(&c->c));
}

void cond_broadcast(struct cond *c)
{
    must(pthread_cond_broadcast(&c->c));
}

void rwlock_init(struct rwlock *l, enum lock_rank rank)
{
    must(pthread_rwlock_init(&l->m, NULL));
    l->rank = rank;
}

void rwlock_done(struct rwlock *l)
{
    must(pthread_rwlock_destroy(&l->m));
}

void rwlock_read(struct rwlock *l)
{
    rank_push(l->rank);
    must(pthread_rwlock_rdlock(&l->m));
}

void rwlock_write(struct rwlock *l)
{
    rank_push(l->rank);
    must(pthread_rwlock_wrlock(&l->m));
}

void rwlock_release(struct rwlock *l)
{
    rank_pop(l->rank);
    must(pthread_rwlock_unlock(&l->m));
}
