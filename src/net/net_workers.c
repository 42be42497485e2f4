/*
 * net_workers.c - a class of worker threads: bounded queue, threads on demand, slots that are given
 * back while a handler waits.
 *
 * `running` counts handlers that use the processor; at most `limit` of them run. A worker that finds
 * more work keeps going without sleeping, and a push wakes (or starts) a thread only when a slot is
 * free and no thread already on its way will take it: under load a hand-over costs a mutex and no
 * system call. A handler inside net_wait_begin() .. net_wait_end() does not count; it may come back
 * above the limit for the rest of its run, which ends no later than the handler.
 *
 * THREADS     any; one lock (RANK_NET_SERVER) per class.
 */
#include "net/net_int.h"
#include "base/alloc.h"
#include <sys/prctl.h>

struct net_workers {
    struct lock lock;
    struct cond cond;
    struct net_work *head, **tail;
    size_t queued, queue_max;
    int running, limit;
    int total, total_max;
    int asleep;
    int coming; /* threads woken or started that have not looked at the queue yet */
    bool stop;
    size_t stack_bytes;
    char name[16];
    uv_thread_t *threads;
};

static _Thread_local struct net_workers *my_class;
static _Thread_local bool waiting;

static void worker_main(void *arg)
{
    struct net_workers *ws = arg;
    my_class = ws;
    (void)prctl(PR_SET_NAME, ws->name, 0, 0, 0);
    lock_acquire(&ws->lock);
    ws->coming--;
    for (;;) {
        struct net_work *w;
        while (!(ws->head && ws->running < ws->limit)) {
            if (ws->stop && !ws->head) {
                lock_release(&ws->lock);
                return;
            }
            ws->asleep++;
            cond_wait(&ws->cond, &ws->lock);
            ws->asleep--;
            if (ws->coming > 0) {
                ws->coming--;
            }
        }
        w = ws->head;
        ws->head = w->next;
        if (!ws->head) {
            ws->tail = &ws->head;
        }
        ws->queued--;
        ws->running++;
        lock_release(&ws->lock);
        w->run(w);
        lock_acquire(&ws->lock);
        ws->running--;
        if (ws->stop && !ws->head) {
            cond_broadcast(&ws->cond);
        }
    }
}

/* Holds: ws->lock. Sees to it that waiting work gets a thread when a slot is free. False when there
 * is no thread at all and none can be started. */
static bool workers_call(struct net_workers *ws)
{
    struct status st = STATUS_INIT;
    if (!ws->head || ws->running + ws->coming >= ws->limit) {
        return true;
    }
    if (ws->asleep > ws->coming) {
        ws->coming++;
        cond_signal(&ws->cond);
        return true;
    }
    if (ws->total >= ws->total_max) {
        return true;
    }
    if (net__thread_create(&ws->threads[ws->total], ws->stack_bytes, worker_main, ws, &st)) {
        return ws->total > 0;
    }
    ws->total++;
    ws->coming++;
    return true;
}

struct net_workers *net__workers_new(const char *name, const struct net_pool_opts *o)
{
    struct net_workers *ws = xalloc(sizeof *ws);
    lock_init(&ws->lock, RANK_NET_SERVER);
    cond_init(&ws->cond);
    ws->tail = &ws->head;
    ws->queue_max = o->queue_max;
    ws->limit = o->threads;
    ws->total_max = MAX(o->threads_max, o->threads);
    ws->stack_bytes = o->stack_bytes;
    (void)snprintf(ws->name, sizeof ws->name, "%s", name);
    ws->threads = xalloc((size_t)ws->total_max * sizeof *ws->threads);
    return ws;
}

bool net__workers_push(struct net_workers *ws, struct net_work *w)
{
    bool ok;
    lock_acquire(&ws->lock);
    ok = ws->queued < ws->queue_max && !ws->stop;
    if (ok) {
        struct net_work **before = ws->tail;
        w->next = NULL;
        *ws->tail = w;
        ws->tail = &w->next;
        ws->queued++;
        ok = workers_call(ws);
        if (!ok) {
            ws->tail = before;
            *before = NULL;
            ws->queued--;
        }
    }
    lock_release(&ws->lock);
    return ok;
}

void net__workers_free(struct net_workers *ws)
{
    if (!ws) {
        return;
    }
    lock_acquire(&ws->lock);
    ws->stop = true;
    cond_broadcast(&ws->cond);
    lock_release(&ws->lock);
    for (int i = 0; i < ws->total; i++) {
        (void)uv_thread_join(&ws->threads[i]);
    }
    ASSERT(!ws->head);
    mem_free(ws->threads);
    cond_done(&ws->cond);
    lock_done(&ws->lock);
    mem_free(ws);
}

size_t net__workers_queued(struct net_workers *ws)
{
    size_t n;
    lock_acquire(&ws->lock);
    n = ws->queued;
    lock_release(&ws->lock);
    return n;
}

int net__workers_threads(struct net_workers *ws)
{
    int n;
    lock_acquire(&ws->lock);
    n = ws->total;
    lock_release(&ws->lock);
    return n;
}

void net_wait_begin(void)
{
    struct net_workers *ws = my_class;
    if (!ws || waiting) {
        return;
    }
    waiting = true;
    lock_acquire(&ws->lock);
    ws->running--;
    (void)workers_call(ws);
    lock_release(&ws->lock);
}

void net_wait_end(void)
{
    struct net_workers *ws = my_class;
    if (!ws || !waiting) {
        return;
    }
    waiting = false;
    lock_acquire(&ws->lock);
    ws->running++;
    lock_release(&ws->lock);
}
