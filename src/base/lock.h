/*
 * lock.h - mutexes and condition variables with a rank.
 *
 * A thread may only acquire locks of rising rank; debug builds abort on a descending or equal
 * acquire. The ranks stand in lock_rank.def, which is the documentation of the lock order.
 */
#pragma once
#include "base/compiler.h"
#include <pthread.h>

enum lock_rank {
#define LOCK_RANK(name, what) name,
#include "base/lock_rank.def"
#undef LOCK_RANK
    LOCK_RANKS
};

struct lock {
    pthread_mutex_t m;
    enum lock_rank rank;
};

struct cond {
    pthread_cond_t c;
};

void lock_init(struct lock *l, enum lock_rank rank);
void lock_done(struct lock *l);
void lock_acquire(struct lock *l);
void lock_release(struct lock *l);

void cond_init(struct cond *c);
void cond_done(struct cond *c);
void cond_wait(struct cond *c, struct lock *l);
/* false when the monotonic deadline (clock.h) passed first. */
bool cond_wait_until(struct cond *c, struct lock *l, int64_t deadline_us);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

/* Readers and one writer; same rank rule. */
struct rwlock {
    pthread_rwlock_t m;
    enum lock_rank rank;
};
void rwlock_init(struct rwlock *l, enum lock_rank rank);
void rwlock_done(struct rwlock *l);
void rwlock_read(struct rwlock *l);
void rwlock_write(struct rwlock *l);
void rwlock_release(struct rwlock *l);
