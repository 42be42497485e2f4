/*
 * pool.h - threads: a fixed compute pool with parallel-for, and a task pool with a bounded queue.
 *
 * Compute tasks never wait on anything but other compute tasks. Task-pool handlers may block.
 */
#pragma once
#include "base/compiler.h"
#include "base/status.h"

struct pool;

/* threads >= 1; queue_max bounds waiting tasks. name shows in thread listings. */
struct pool *pool_new(const char *name, int threads, size_t queue_max);
/* Runs what is queued, then joins. */
void pool_free(struct pool *p);
/* ST_BUSY when the queue is full. fn(arg) runs once on some thread. */
int pool_submit(struct pool *p, void (*fn)(void *), void *arg, struct status *st);
size_t pool_queued(const struct pool *p);
int pool_threads(const struct pool *p);

/* Calls fn(ctx, i) for every i in [0, n), on the calling thread and on idle threads of p, and
 * returns when all are done. p may be NULL: then all run here. fn must not fail or block. */
void parallel_for(struct pool *p, size_t n, void (*fn)(void *ctx, size_t i), void *ctx);

/* One named thread; join with thread_join(). */
struct thread;
struct thread *thread_start(const char *name, void (*fn)(void *), void *arg);
/* The calling thread runs for so long at a time when others want its processor. With a short time it
 * comes sooner when it wakes up, and gets no more in all. Kernels that know no such thing (before
 * Linux 6.12) ignore it. */
void thread_set_slice(int64_t us);
void thread_join(struct thread *t);
