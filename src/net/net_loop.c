/*
 * net_loop.c - an event loop with its thread, and the mailbox through which others reach it.
 *
 * The mailbox is a stack that pushers grow with one compare-and-swap and the loop takes whole; only
 * the pusher that found it empty wakes the loop, so a burst of replies costs one eventfd write.
 *
 * THREADS     net__mbox_push and net__loop_stop: any. The rest: the loop's own, or before start.
 * NOT HERE    what a message does: the senders know. Sockets: net_link.c.
 */
#include "net/net_int.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/pool.h"
#include <signal.h>
#include <sys/prctl.h>

#define NET_STACK_BYTES (1u << 20) /* as a worker's: handlers of eager methods run here too */
#define NET_TICK_MS 1000
/* Loops and clients on the same processors: with the kernel's usual slice (1.4 ms, and a tick of 4 ms
 * to end it) a loop that wakes up waits for whoever runs. Measured with 8 searches in flight on two
 * processors: p99 0.4 ms instead of 3.9 ms, and 53,000 calls a second instead of 40,000. */
#define NET_SLICE_US 200

static _Thread_local struct net_loop *here;

void net__mbox_init(struct net_mbox *mb, void (*wake)(void *), void *arg)
{
    atomic_init(&mb->head, NULL);
    mb->wake = wake;
    mb->wake_arg = arg;
}

void net__mbox_push(struct net_mbox *mb, struct net_msg *m)
{
    struct net_msg *old = atomic_load_explicit(&mb->head, memory_order_relaxed);
    do {
        m->next = old;
    } while (!atomic_compare_exchange_weak_explicit(&mb->head, &old, m, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if (!old) {
        mb->wake(mb->wake_arg);
    }
}

bool net__mbox_run(struct net_mbox *mb)
{
    struct net_msg *m = atomic_exchange_explicit(&mb->head, NULL, memory_order_acquire);
    struct net_msg *first = NULL;
    if (!m) {
        return false;
    }
    while (m) {
        struct net_msg *next = m->next;
        m->next = first;
        first = m;
        m = next;
    }
    while (first) {
        struct net_msg *next = first->next;
        first->fn(first);
        first = next;
    }
    return true;
}

struct net_loop *net__loop_here(void)
{
    return here;
}

void net__loop_set_here(struct net_loop *lp)
{
    here = lp;
}

int net__thread_create(uv_thread_t *t, size_t stack_bytes, void (*fn)(void *), void *arg,
                       struct status *st)
{
    uv_thread_options_t o = { .flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = stack_bytes };
    sigset_t all, old;
    int rc;
    /* Signals are for the main thread. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = uv_thread_create_ex(t, &o, fn, arg);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc ? st_errno(st, -rc, "cannot start a thread") : 0;
}

static void loop_wake(void *arg)
{
    struct net_loop *lp = arg;
    (void)uv_async_send(&lp->async);
}

static void on_async(uv_async_t *a)
{
    struct net_loop *lp = CONTAINER_OF(a, struct net_loop, async);
    (void)net__mbox_run(&lp->mbox);
}

static void on_idle(uv_idle_t *i)
{
    (void)i;
}

static void on_check(uv_check_t *c)
{
    struct net_loop *lp = CONTAINER_OF(c, struct net_loop, check);
    lp->awake(lp);
}

static void on_prepare(uv_prepare_t *p)
{
    struct net_loop *lp = CONTAINER_OF(p, struct net_loop, prepare);
    bool more;
    net__link_flush_dirty(lp);
    more = lp->work && lp->work(lp);
    /* A link used up its share of this turn, or there is work: come back at once. */
    more = (more || lp->dirty) && !lp->stopping;
    if (more && !uv_is_active((uv_handle_t *)&lp->idle)) {
        (void)uv_idle_start(&lp->idle, on_idle);
    } else if (!more && uv_is_active((uv_handle_t *)&lp->idle)) {
        (void)uv_idle_stop(&lp->idle);
    }
    if ((lp->link_count || lp->tick_always) && !uv_is_active((uv_handle_t *)&lp->tick) &&
        !lp->stopping) {
        lp->tick.data = lp;
        (void)uv_timer_again(&lp->tick);
    }
}

static void on_tick(uv_timer_t *t)
{
    struct net_loop *lp = CONTAINER_OF(t, struct net_loop, tick);
    struct net_link *ln = lp->links;
    int64_t now = clock_mono_us();
    if (lp->on_tick) {
        lp->on_tick(lp, now);
    }
    while (ln) {
        struct net_link *next = ln->next;
        if (!ln->closing && !net__link_tick(ln, now)) {
            net__link_close(ln, "timeout");
        }
        ln = next;
    }
    if (!lp->link_count && !lp->tick_always) {
        (void)uv_timer_stop(&lp->tick);
    }
}

static void loop_main(void *arg)
{
    struct net_loop *lp = arg;
    here = lp;
    (void)prctl(PR_SET_NAME, lp->name, 0, 0, 0);
    thread_set_slice(NET_SLICE_US);
    (void)uv_run(&lp->uv, UV_RUN_DEFAULT);
    here = NULL;
}

int net__loop_init(struct net_loop *lp, struct status *st)
{
    int rc = uv_loop_init(&lp->uv);
    if (rc) {
        return st_errno(st, -rc, "cannot make an event loop");
    }
    lp->inited = true;
    CHECK(uv_async_init(&lp->uv, &lp->async, on_async) == 0);
    CHECK(uv_prepare_init(&lp->uv, &lp->prepare) == 0);
    CHECK(uv_check_init(&lp->uv, &lp->check) == 0);
    CHECK(uv_idle_init(&lp->uv, &lp->idle) == 0);
    CHECK(uv_timer_init(&lp->uv, &lp->tick) == 0);
    CHECK(uv_prepare_start(&lp->prepare, on_prepare) == 0);
    if (lp->awake) {
        CHECK(uv_check_start(&lp->check, on_check) == 0);
    }
    CHECK(uv_timer_start(&lp->tick, on_tick, NET_TICK_MS, NET_TICK_MS) == 0);
    net__mbox_init(&lp->mbox, loop_wake, lp);
    lp->rbuf = alloc_try(NET_RBUF_CAP);
    lp->out.p = alloc_try(NET_OUT_CAP);
    lp->out.cap = NET_OUT_CAP;
    if (!lp->rbuf || !lp->out.p) {
        return st_fail(st, ST_NO_MEMORY, "no memory for an event loop");
    }
    return 0;
}

int net__loop_start(struct net_loop *lp, const char *name, struct status *st)
{
    int rc;
    lp->name = name;
    TRY(net__thread_create(&lp->thread, NET_STACK_BYTES, loop_main, lp, st));
    lp->started = true;
out:
    return rc;
}

static void close_any(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h)) {
        uv_close(h, NULL);
    }
}

static void loop_close_all(struct net_loop *lp)
{
    struct net_link *ln = lp->links;
    lp->stopping = true;
    while (ln) {
        struct net_link *next = ln->next;
        net__link_close(ln, "the server stops");
        ln = next;
    }
    uv_walk(&lp->uv, close_any, NULL);
}

static void on_stop_msg(struct net_msg *m)
{
    loop_close_all(CONTAINER_OF(m, struct net_loop, stop_msg));
}

void net__loop_stop(struct net_loop *lp)
{
    struct net_loop *was = here;
    if (!lp->inited) {
        return;
    }
    if (lp->started) {
        lp->stop_msg.fn = on_stop_msg;
        net__mbox_push(&lp->mbox, &lp->stop_msg);
        (void)uv_thread_join(&lp->thread);
        lp->started = false;
    } else {
        loop_close_all(lp);
        (void)uv_run(&lp->uv, UV_RUN_DEFAULT);
    }
    here = lp;
    while (net__mbox_run(&lp->mbox)) {
    }
    here = was;
    (void)uv_loop_close(&lp->uv);
    mem_free(lp->rbuf);
    mem_free(lp->out.p);
    lp->inited = false;
}
