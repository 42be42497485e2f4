/*
 * meta_embed.c - transactions and leases of a store inside this process.
 *
 * WHAT        A transaction checks its conditions, turns operations into plain puts and deletes,
 *             commits them through the key-value backend, then tells the watches. Leases are a
 *             list in memory: when one ends, its keys are deleted by an ordinary commit.
 * INVARIANTS  revision is that of the last commit that succeeded. A key is in `leased` exactly
 *             when its last put named a lease that still runs.
 * THREADS     One transaction at a time, under lock (RANK_META), held over the commit and so over
 *             its sync: conditions must still hold when the batch is written, and metadata changes
 *             at most some hundred times a second. Reads take no lock here.
 *             Nobody waits for leases to end; instead every call looks at next_expiry first, and a
 *             waiting watch wakes for it. So expiry needs no thread and follows a test's clock.
 * FAILURE     A commit that fails with unknown outcome sets `unsure`; the next transaction asks
 *             the backend what it really holds before it does anything, and watches resync.
 *             Fault points: meta_txn_before_commit, meta_txn_after_commit.
 * NOT HERE    Checks of arguments: meta.c. The history for watches: meta_watch.c.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "meta/meta_int.h"

struct meta_lease {
    struct meta_lease *next;
    int64_t id, ttl_us, deadline_us;
};

struct change_list {
    struct meta_change *v;
    size_t n, cap;
};

static int change_add(struct arena *ar, struct change_list *cl, struct meta_change c,
                      struct status *st)
{
    if (cl->n == cl->cap) {
        size_t cap = cl->cap ? cl->cap * 2 : 16;
        struct meta_change *v = arena_try_array(ar, cap, sizeof *v);
        if (!v) {
            return st_fail(st, ST_NO_MEMORY, "no memory for a transaction of %zu changes", cap);
        }
        if (cl->n) {
            memcpy(v, cl->v, cl->n * sizeof *v);
        }
        cl->v = v;
        cl->cap = cap;
    }
    cl->v[cl->n++] = c;
    return 0;
}

/* ---- leases ---- */

/* Holds: me->lock */
static struct meta_lease *lease_find(struct meta_embed *me, int64_t id)
{
    struct meta_lease *l = me->leases;
    while (l && l->id != id) {
        l = l->next;
    }
    return l;
}

static int lease_need(struct meta_embed *me, int64_t id, struct meta_lease **ret, struct status *st)
{
    struct meta_lease *l = lease_find(me, id);
    if (!l) {
        return st_fail(st, ST_NOT_FOUND, "lease %lld is over", (long long)id);
    }
    *ret = l;
    return 0;
}

/* Holds: me->lock */
static void next_expiry_set(struct meta_embed *me)
{
    int64_t min = INT64_MAX;
    for (const struct meta_lease *l = me->leases; l; l = l->next) {
        min = MIN(min, l->deadline_us);
    }
    atomic_store_explicit(&me->next_expiry, min, memory_order_relaxed);
}

/* ---- commit ---- */

/* Holds: me->lock */
static int make_sure(struct meta_embed *me, struct status *st)
{
    int64_t revision;
    int rc = 0;
    if (me->unsure) {
        TRY(me->kv->recover(me, &revision, st));
        me->unsure = false;
        atomic_store(&me->revision, revision);
        meta__hist_lose(&me->hist, revision);
    }
out:
    return rc;
}

/* A write failed, and may be in the log of the store all the same. When the store can be opened
 * again at once its revision tells: 0 when the write is there. Else the next transaction asks.
 * Holds: me->lock */
static int settle(struct meta_embed *me, int64_t revision, struct status *st)
{
    struct status why = STATUS_INIT;
    int64_t found;

    if (!me->unsure || me->kv->recover(me, &found, &why) != 0) {
        return st->code;
    }
    me->unsure = false;
    if (found == revision) {
        st_clear(st);
    }
    return st->code;
}

/* Holds: me->lock */
static int commit(struct meta_embed *me, const struct change_list *cl, int64_t *ret_revision,
                  struct status *st)
{
    int64_t revision = atomic_load(&me->revision);
    int rc = 0;
    if (cl->n > 0) {
        revision++;
        TRY(FAULT_POINT("meta_txn_before_commit", st));
        if (me->kv->commit(me, cl->v, cl->n, revision, &me->unsure, st) != 0) {
            TRY(settle(me, revision, st));
        }
        atomic_store(&me->revision, revision);
        for (size_t i = 0; i < cl->n; i++) {
            const struct meta_change *c = &cl->v[i];
            str_map_remove(me->leased, c->key);
            if (c->kind == META_PUT && c->lease) {
                str_map_put(me->leased, c->key, lease_find(me, c->lease));
            }
        }
        meta__hist_publish(&me->hist, cl->v, cl->n, revision);
        TRY(FAULT_POINT("meta_txn_after_commit", st));
    }
    *ret_revision = revision;
out:
    return rc;
}

/* Deletes the keys of l, then l. Holds: me->lock */
static int lease_end(struct meta_embed *me, struct meta_lease *l, struct status *st)
{
    struct change_list cl = {0};
    struct arena *ar = arena_new(0);
    int64_t revision;
    size_t pos = 0;
    struct slice key;
    void *owner;
    int rc;

    TRY(make_sure(me, st));
    while (str_map_next(me->leased, &pos, &key, &owner)) {
        if (owner == l) {
            struct meta_change c = {.kind = META_DELETE};
            /* Committing removes the entry, and with it the map's copy of the key. */
            TRY(meta__copy(ar, key, &c.key, st));
            TRY(change_add(ar, &cl, c, st));
        }
    }
    TRY(commit(me, &cl, &revision, st));
    struct meta_lease **link = &me->leases;
    while (*link != l) {
        link = &(*link)->next;
    }
    *link = l->next;
    mem_free(l);
    next_expiry_set(me);
out:
    arena_free(ar);
    return rc;
}

/* Holds: me->lock */
static void expire_locked(struct meta_embed *me)
{
    int64_t now = clock_mono_us();
    if (LIKELY(now < atomic_load_explicit(&me->next_expiry, memory_order_relaxed))) {
        return;
    }
    for (struct meta_lease *l = me->leases, *next; l; l = next) {
        struct status st = STATUS_INIT;
        next = l->next;
        if (now >= l->deadline_us && lease_end(me, l, &st) != 0) {
            /* A full disk, most likely. The lease stays and is tried again in a second; the call
             * that happened to look at the clock is not to blame. */
            atomic_store_explicit(&me->next_expiry, now + 1000000, memory_order_relaxed);
            break;
        }
    }
}

void meta__embed_expire(struct meta_embed *me)
{
    /* relaxed: a late look only delays the end of a lease; its state is read under the lock. */
    int64_t expiry = atomic_load_explicit(&me->next_expiry, memory_order_relaxed);
    if (expiry == INT64_MAX || clock_mono_us() < expiry) {
        return;
    }
    lock_acquire(&me->lock);
    expire_locked(me);
    lock_release(&me->lock);
}

/* ---- transactions ---- */

/* Holds: me->lock */
static int conds_check(struct meta_embed *me, const struct meta_cond *conds, size_t n,
                       struct arena *ar, struct status *st)
{
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        const struct meta_cond *c = &conds[i];
        struct meta_item item;
        TRY(me->kv->get(me, c->key, ar, &item, st));
        if (c->kind == META_IF_EXISTS && item.version == 0) {
            FAIL(st, ST_CONFLICT, "metadata key \"%.*s\" does not exist", SLICE_ARG(c->key));
        }
        if (c->kind == META_IF_VERSION && item.version != c->version) {
            FAIL(st, ST_CONFLICT, "metadata key \"%.*s\" has version %lld, expected %lld",
                 SLICE_ARG(c->key), (long long)item.version, (long long)c->version);
        }
    }
out:
    return rc;
}

/* Holds: me->lock */
static int expand_prefix(struct meta_embed *me, struct slice prefix, struct arena *ar,
                         struct change_list *cl, struct status *st)
{
    struct meta_range range = {.prefix = prefix, .limit = META_LIST_MAX, .keys_only = true};
    struct meta_list list;
    int rc;
    do {
        TRY(me->kv->list(me, &range, ar, &list, st));
        for (size_t i = 0; i < list.n; i++) {
            struct meta_change c = {.kind = META_DELETE, .key = list.items[i].key};
            TRY(change_add(ar, cl, c, st));
            range.start_after = c.key;
        }
    } while (list.more);
out:
    return rc;
}

/* Holds: me->lock */
static int expand(struct meta_embed *me, const struct meta_op *ops, size_t nops, struct arena *ar,
                  struct change_list *cl, struct status *st)
{
    struct meta_lease *l = NULL;
    struct meta_item item;
    int rc = 0;
    for (size_t i = 0; i < nops; i++) {
        const struct meta_op *op = &ops[i];
        struct meta_change c = {op->kind, op->key, op->value, op->lease};
        switch (op->kind) {
        case META_PUT:
            if (op->lease) {
                TRY(lease_need(me, op->lease, &l, st));
            }
            TRY(change_add(ar, cl, c, st));
            break;
        case META_DELETE:
            TRY(me->kv->get(me, op->key, ar, &item, st));
            if (item.version) {
                TRY(change_add(ar, cl, c, st));
            }
            break;
        case META_DELETE_PREFIX:
            TRY(expand_prefix(me, op->key, ar, cl, st));
            break;
        }
    }
out:
    return rc;
}

static int embed_txn(struct meta *m, const struct meta_cond *conds, size_t nconds,
                     const struct meta_op *ops, size_t nops, int64_t *ret_revision,
                     struct status *st)
{
    struct meta_embed *me = (struct meta_embed *)m;
    struct arena *ar = NULL;
    struct change_list cl = {0};
    int rc;

    if (me->readonly) {
        return st_fail(st, ST_DENIED, "the metadata is open read-only");
    }
    ar = arena_new(0);
    lock_acquire(&me->lock);
    TRY(make_sure(me, st));
    expire_locked(me);
    TRY(conds_check(me, conds, nconds, ar, st));
    TRY(expand(me, ops, nops, ar, &cl, st));
    TRY(commit(me, &cl, ret_revision, st));
out:
    lock_release(&me->lock);
    arena_free(ar);
    return rc;
}

/* ---- the rest of struct meta_ops ---- */

static int embed_get(struct meta *m, struct slice key, struct arena *ar, struct meta_item *ret,
                     struct status *st)
{
    struct meta_embed *me = (struct meta_embed *)m;
    meta__embed_expire(me);
    return me->kv->get(me, key, ar, ret, st);
}

static int embed_list(struct meta *m, const struct meta_range *range, struct arena *ar,
                      struct meta_list *ret, struct status *st)
{
    struct meta_embed *me = (struct meta_embed *)m;
    meta__embed_expire(me);
    return me->kv->list(me, range, ar, ret, st);
}

static int embed_revision(struct meta *m, int64_t *ret, struct status *st)
{
    struct meta_embed *me = (struct meta_embed *)m;
    (void)st;
    meta__embed_expire(me);
    *ret = atomic_load(&me->revision);
    return 0;
}

static int embed_refresh(struct meta *m, struct status *st)
{
    struct meta_embed *me = (struct meta_embed *)m;
    int64_t revision;
    int rc = 0;
    if (me->kv->refresh) {
        TRY(me->kv->refresh(me, &revision, st));
        atomic_store(&me->revision, revision);
    }
out:
    return rc;
}

static int embed_lease_grant(struct meta *m, int64_t ttl_ms, int64_t *ret_lease, struct status *st)
{
    struct meta_embed *me = (struct meta_embed *)m;
    struct meta_lease *l = NULL;
    if (me->readonly) {
        return st_fail(st, ST_DENIED, "the metadata is open read-only");
    }
    l = xalloc(sizeof *l);
    l->ttl_us = ttl_ms * 1000;
    lock_acquire(&me->lock);
    l->id = ++me->next_lease;
    l->deadline_us = clock_mono_us() + l->ttl_us;
    l->next = me->leases;
    me->leases = l;
    *ret_lease = l->id;
    next_expiry_set(me);
    lock_release(&me->lock);
    meta__hist_poke(&me->hist);
    return 0;
}

static int embed_lease_keepalive(struct meta *m, int64_t lease, struct status *st)
{
    struct meta_embed *me = (struct meta_embed *)m;
    struct meta_lease *l = NULL;
    int rc;
    lock_acquire(&me->lock);
    expire_locked(me);
    TRY(lease_need(me, lease, &l, st));
    l->deadline_us = clock_mono_us() + l->ttl_us;
    next_expiry_set(me);
out:
    lock_release(&me->lock);
    return rc;
}

static int embed_lease_revoke(struct meta *m, int64_t lease, struct status *st)
{
    struct meta_embed *me = (struct meta_embed *)m;
    struct meta_lease *l = NULL;
    int rc;
    lock_acquire(&me->lock);
    TRY(lease_need(me, lease, &l, st));
    TRY(lease_end(me, l, st));
out:
    lock_release(&me->lock);
    return rc;
}

static void embed_close(struct meta *m)
{
    struct meta_embed *me = (struct meta_embed *)m;
    me->kv->close(me);
}

static const struct meta_ops embed_ops = {
    .get = embed_get,
    .list = embed_list,
    .revision = embed_revision,
    .txn = embed_txn,
    .refresh = embed_refresh,
    .watch_open = meta__watch_open,
    .watch_next = meta__watch_next,
    .watch_cancel = meta__watch_cancel,
    .watch_close = meta__watch_close,
    .lease_grant = embed_lease_grant,
    .lease_keepalive = embed_lease_keepalive,
    .lease_revoke = embed_lease_revoke,
    .close = embed_close,
};

void meta__embed_init(struct meta_embed *me, const struct meta_kv_ops *kv, int64_t revision,
                      bool readonly)
{
    me->base.ops = &embed_ops;
    me->kv = kv;
    me->readonly = readonly;
    lock_init(&me->lock, RANK_META);
    me->leased = str_map_new();
    atomic_store(&me->revision, revision);
    atomic_store(&me->next_expiry, INT64_MAX);
    meta__hist_init(&me->hist, revision);
}

void meta__embed_done(struct meta_embed *me)
{
    meta__hist_done(&me->hist);
    while (me->leases) {
        struct meta_lease *l = me->leases;
        me->leases = l->next;
        mem_free(l);
    }
    str_map_free(me->leased, NULL);
    lock_done(&me->lock);
}
