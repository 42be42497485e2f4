/*
 * meta_int.h - what the implementations of the metadata store share.
 *
 * Two layers. `struct meta` is any implementation: meta.c checks arguments and calls its ops.
 * `struct meta_embed` is the part that every embedded store needs (transactions, leases, history
 * for watches) over a small key-value backend: RocksDB or memory. A store elsewhere (etcd, SQL)
 * implements struct meta_ops alone.
 */
#pragma once
#include "base/lock.h"
#include "base/map.h"
#include "meta/meta.h"
#include <stdatomic.h>

struct meta_watch {
    struct meta *m;
};

struct meta_ops {
    int (*get)(struct meta *m, struct slice key, struct arena *ar, struct meta_item *ret,
               struct status *st);
    int (*list)(struct meta *m, const struct meta_range *range, struct arena *ar,
                struct meta_list *ret, struct status *st); /* range->limit is set */
    int (*revision)(struct meta *m, int64_t *ret, struct status *st);
    int (*txn)(struct meta *m, const struct meta_cond *conds, size_t nconds,
               const struct meta_op *ops, size_t nops, int64_t *ret_revision, struct status *st);
    int (*refresh)(struct meta *m, struct status *st);
    int (*watch_open)(struct meta *m, struct slice prefix, int64_t from_revision,
                      struct meta_watch **ret_w, struct status *st);
    int (*watch_next)(struct meta_watch *w, int64_t deadline_us, struct arena *ar,
                      struct meta_event *ret, struct status *st);
    void (*watch_cancel)(struct meta_watch *w);
    void (*watch_close)(struct meta_watch *w);
    int (*lease_grant)(struct meta *m, int64_t ttl_ms, int64_t *ret_lease, struct status *st);
    int (*lease_keepalive)(struct meta *m, int64_t lease, struct status *st);
    int (*lease_revoke)(struct meta *m, int64_t lease, struct status *st);
    void (*close)(struct meta *m);
};

struct meta {
    const struct meta_ops *ops;
};

/* ---- history of changes, meta_watch.c ---- */

enum { META_HIST_EVENTS = 4096, META_HIST_BYTES = 4 << 20 };

struct meta_hist_event {
    enum meta_event_kind kind;
    int64_t revision;
    size_t nkey, nvalue;
    char bytes[]; /* key, then value */
};

/* A ring of the newest changes, shared by all watches: each holds the sequence number of the next
 * event it has not looked at. */
struct meta_hist {
    struct lock lock; /* RANK_META_WATCH; guards everything below */
    struct cond changed;
    struct meta_hist_event *ring[META_HIST_EVENTS]; /* event s is in slot s % META_HIST_EVENTS */
    uint64_t tail, head;                            /* oldest kept, next to be written */
    size_t bytes;
    int64_t floor;  /* changes up to this revision may be missing */
    int64_t newest; /* revision of the last change */
    int nwatches;
};

struct meta_change {
    enum meta_op_kind kind; /* META_PUT or META_DELETE */
    struct slice key, value;
    int64_t lease;
};

void meta__hist_init(struct meta_hist *h, int64_t revision);
void meta__hist_done(struct meta_hist *h);
void meta__hist_publish(struct meta_hist *h, const struct meta_change *changes, size_t n,
                        int64_t revision);
/* Forgets everything; every watch gets META_EV_RESYNC. */
void meta__hist_lose(struct meta_hist *h, int64_t revision);
/* Wakes waiting watches so that they look at the clock again. */
void meta__hist_poke(struct meta_hist *h);

/* ---- embedded stores, meta_embed.c ---- */

struct meta_embed;

/* The key-value backend. get and list may run at any time on any thread; commit and recover run
 * under meta_embed.lock, one at a time. */
struct meta_kv_ops {
    int (*get)(struct meta_embed *me, struct slice key, struct arena *ar, struct meta_item *ret,
               struct status *st);
    int (*list)(struct meta_embed *me, const struct meta_range *range, struct arena *ar,
                struct meta_list *ret, struct status *st);
    /* All or nothing, durable; keys put get version `revision`. *ret_unsure is set when a failed
     * commit may have happened all the same. */
    int (*commit)(struct meta_embed *me, const struct meta_change *changes, size_t n,
                  int64_t revision, bool *ret_unsure, struct status *st);
    /* After an unsure commit: makes the backend usable and tells its revision. */
    int (*recover)(struct meta_embed *me, int64_t *ret_revision, struct status *st);
    int (*refresh)(struct meta_embed *me, int64_t *ret_revision, struct status *st);
    void (*close)(struct meta_embed *me); /* frees me too */
};

struct meta_lease;

struct meta_embed {
    struct meta base; /* first: cast from struct meta */
    const struct meta_kv_ops *kv;
    bool readonly;

    struct lock lock; /* RANK_META: check and commit of a transaction, leases */
    bool unsure;      /* the last commit failed with unknown outcome */
    struct meta_lease *leases;
    struct str_map *leased; /* key -> struct meta_lease */
    int64_t next_lease;

    _Atomic int64_t revision;    /* written under lock, read anywhere */
    _Atomic int64_t next_expiry; /* monotonic us of the first lease to end; written under lock */
    struct meta_hist hist;
};

/* In place; the backend sets its own fields before. */
void meta__embed_init(struct meta_embed *me, const struct meta_kv_ops *kv, int64_t revision,
                      bool readonly);
/* To be called by kv->close() before it frees. */
void meta__embed_done(struct meta_embed *me);
/* Ends leases whose time is over; costs one atomic load when there is none. */
void meta__embed_expire(struct meta_embed *me);

int meta__watch_open(struct meta *m, struct slice prefix, int64_t from_revision,
                     struct meta_watch **ret_w, struct status *st);
int meta__watch_next(struct meta_watch *w, int64_t deadline_us, struct arena *ar,
                     struct meta_event *ret, struct status *st);
void meta__watch_cancel(struct meta_watch *w);
void meta__watch_close(struct meta_watch *w);

/* Copies s into ar; ST_NO_MEMORY. */
int meta__copy(struct arena *ar, struct slice s, struct slice *ret, struct status *st);
