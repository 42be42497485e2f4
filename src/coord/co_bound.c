/*
 * co_bound.c - numbers that are never given out twice, whatever happens to the process.
 *
 * WHAT        A bound stands in the metadata store; every number given out is below it. After a
 *             restart counting goes on at the bound. Numbers between are lost, which costs nothing.
 * FAST PATH   One compare-and-swap on `next` while it stays below `bound`. When half of the room is
 *             used a background thread moves the bound on, so a call waits for the store only when
 *             the program has been idle for longer than the bound reaches.
 * FENCING     The key is written under the condition that its version is the one last seen: a
 *             second coordinator makes the first one fail instead of giving out the same numbers.
 * THREADS     Any. `lock` elects the one who writes the bound and is not held while it does.
 *             `bound` is stored (release) after the store has it and loaded (acquire) before use.
 * FAILURE     An unknown outcome of the write is harmless: the bound is read again before the next.
 */
#include "coord/co_int.h"

#define LOG_ROOM "coord"
#include "base/log.h"

#define CLOCK_SHIFT 18

void co__bound_init(struct co_bound *b, struct coord *co, const char *key, uint64_t ahead,
                    bool follows_clock)
{
    b->co = co;
    b->key = key;
    b->ahead = ahead;
    b->follows_clock = follows_clock;
    b->version = -1;
    lock_init(&b->lock, RANK_TSO);
    cond_init(&b->done);
}

void co__bound_done(struct co_bound *b)
{
    if (b->co) {
        cond_done(&b->done);
        lock_done(&b->lock);
    }
}

static uint64_t clock_floor(const struct co_bound *b)
{
    return b->follows_clock ? (uint64_t)clock_now_ms() << CLOCK_SHIFT : 0;
}

static int read_bound(struct co_bound *b, struct arena *ar, uint64_t *ret, struct status *st)
{
    struct meta_item item;
    Elanus__Bound *pb;
    int rc = 0;

    TRY(meta_get(b->co->opts.meta, slice_of(b->key), ar, &item, st));
    b->version = item.version;
    *ret = 0;
    if (item.version != 0) {
        pb = proto_unpack(&elanus__bound__descriptor, item.value, ar, st);
        if (!pb) {
            FAIL(st, ST_CORRUPT, "%s cannot be read", b->key);
        }
        *ret = pb->value;
    }
out:
    return rc;
}

int co__bound_load(struct co_bound *b, uint64_t first, struct status *st)
{
    struct arena *ar = arena_new(0);
    uint64_t value;
    int rc;

    TRY(read_bound(b, ar, &value, st));
    if (value == 0) {
        value = first;
    }
    atomic_store(&b->next, value);
    atomic_store(&b->bound, value);
out:
    arena_free(ar);
    return rc;
}

/* Only the elected extender is here. */
static int write_bound(struct co_bound *b, uint64_t least, uint64_t *ret, struct status *st)
{
    struct arena *ar = arena_new(0);
    uint64_t floor = clock_floor(b);
    uint64_t next = MAX(atomic_load(&b->next), floor);
    uint64_t value = MAX(next + b->ahead, least);
    uint64_t seen = 0;
    Elanus__Bound pb;
    struct meta_cond cond;
    struct meta_op op;
    struct buf buf;
    int rc = 0;

    buf_init(&buf, 64);
    if (b->version < 0) {
        TRY(read_bound(b, ar, &seen, st));
        value = MAX(value, seen);
    }
    elanus__bound__init(&pb);
    pb.value = value;
    CHECK(proto_pack(&pb.pb, &buf));
    cond = meta_if_version(slice_of(b->key), b->version);
    op = meta_op_put(slice_of(b->key), buf_slice(&buf));
    rc = meta_txn(b->co->opts.meta, &cond, 1, &op, 1, &b->version, st);
    if (rc == ST_CONFLICT) {
        rc = st_fail(st, ST_FENCED, "another coordinator has written %s", b->key);
        goto out;
    }
    if (rc != 0) {
        b->version = -1;
        goto out;
    }
    *ret = value;
out:
    buf_done(&buf);
    arena_free(ar);
    return rc;
}

/* Persists a bound of at least `least`, or waits for the thread that is at it. */
static int extend(struct co_bound *b, uint64_t least, int64_t deadline_us, struct status *st)
{
    uint64_t value = 0;
    int rc = 0;

    lock_acquire(&b->lock);
    while (b->extending && atomic_load(&b->bound) < least) {
        if (!cond_wait_until(&b->done, &b->lock, deadline_us)) {
            lock_release(&b->lock);
            return st_fail(st, ST_TIMEOUT, "no answer from the metadata store about %s in time",
                           b->key);
        }
    }
    if (atomic_load(&b->bound) >= least) {
        lock_release(&b->lock);
        return 0;
    }
    b->extending = true;
    lock_release(&b->lock);

    rc = write_bound(b, least, &value, st);

    lock_acquire(&b->lock);
    b->extending = false;
    if (rc == 0 && value > atomic_load(&b->bound)) {
        atomic_store_explicit(&b->bound, value, memory_order_release);
    }
    cond_broadcast(&b->done);
    lock_release(&b->lock);
    return rc;
}

static void want(struct co_bound *b)
{
    if (!atomic_exchange(&b->wanted, true)) {
        lock_acquire(&b->co->bg);
        cond_signal(&b->co->bg_bound_wake);
        lock_release(&b->co->bg);
    }
}

bool co__bound_has(struct co_bound *b, uint32_t count)
{
    return MAX(atomic_load(&b->next), clock_floor(b)) + count <= atomic_load(&b->bound);
}

int co__bound_take(struct co_bound *b, uint32_t count, int64_t deadline_us, uint64_t *ret_first,
                   struct status *st)
{
    uint64_t next = atomic_load(&b->next);
    int rc = 0;

    for (;;) {
        uint64_t first = MAX(next, clock_floor(b));
        uint64_t bound = atomic_load_explicit(&b->bound, memory_order_acquire);
        if (first + count > bound) {
            TRY(extend(b, first + count, deadline_us, st));
            next = atomic_load(&b->next);
            continue;
        }
        if (atomic_compare_exchange_weak(&b->next, &next, first + count)) {
            if (bound - first < b->ahead / 2 && !atomic_load(&b->wanted)) {
                want(b);
            }
            *ret_first = first;
            return 0;
        }
    }
out:
    return rc;
}

/* ---- the background thread ---- */

static void serve(struct co_bound *b)
{
    struct status st = STATUS_INIT;

    if (!atomic_load(&b->wanted)) {
        return;
    }
    if (extend(b, atomic_load(&b->bound) + 1, DEADLINE_NONE, &st) != 0) {
        LOG_W("bound not extended: key=%s error=\"%s\"", b->key, st.msg);
    }
    atomic_store(&b->wanted, false);
}

static void bound_main(void *arg)
{
    struct coord *co = arg;

    for (;;) {
        bool stop;
        lock_acquire(&co->bg);
        while (!co->bg_stop && !atomic_load(&co->tso.wanted) && !atomic_load(&co->ids.wanted)) {
            cond_wait(&co->bg_bound_wake, &co->bg);
        }
        stop = co->bg_stop;
        lock_release(&co->bg);
        if (stop) {
            return;
        }
        serve(&co->tso);
        serve(&co->ids);
    }
}

void co__bound_start(struct coord *co)
{
    co->bound_thread = thread_start("co-bound", bound_main, co);
}

void co__bound_stop(struct coord *co)
{
    lock_acquire(&co->bg);
    co->bg_stop = true;
    cond_broadcast(&co->bg_bound_wake);
    lock_release(&co->bg);
    if (co->bound_thread) {
        thread_join(TAKE(co->bound_thread));
    }
}
