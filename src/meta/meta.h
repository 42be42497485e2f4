/*
 * meta.h - the metadata store: few, small, precious values under readable paths.
 *
 * This header is the contract; tests/unit/meta/test_meta_conform.c runs it on every implementation.
 * Keys look like "/elanus/coord/collection/17": they start with '/', hold printable ASCII and have
 * at most META_KEY_MAX bytes. Values are opaque, at most META_VALUE_MAX bytes. A store has one
 * revision, a number that rises by one with every transaction that changes something; the version
 * of a key is the revision of its last put. A transaction is atomic, and durable when it returns.
 *
 * Everything returned lies in the caller's arena. All functions are thread-safe and may block on
 * disk or network; besides the codes named, each may fail with ST_IO, ST_CORRUPT, ST_NO_SPACE,
 * ST_NO_MEMORY and ST_UNAVAILABLE (the store is elsewhere and not there now).
 */
#pragma once
#include "base/arena.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "base/status.h"

enum {
    META_KEY_MAX = 1024,
    META_VALUE_MAX = 1 << 20,
    META_TXN_OPS_MAX = 1024,       /* conditions and operations each */
    META_TXN_BYTES_MAX = 16 << 20, /* keys and values of one transaction */
    META_LIST_MAX = 10000,         /* items of one meta_list() */
    META_LIST_BYTES = 16 << 20,    /* about as many bytes of values in one meta_list() */
};

struct meta; /* opaque: meta_int.h */

/* ---- Opening ---- */

/* RocksDB in dir, created when absent. Keys attached to leases of a previous life are gone.
 * Fails: ST_BUSY when another process has it open (says so); ST_CORRUPT with what RocksDB found;
 * ST_UNSUPPORTED when a newer version wrote it. */
int meta_rocksdb_open(const char *dir, struct meta **ret_m, struct status *st);
/* A look at the store in dir while a server runs, or none does; nothing in dir is changed. Shows
 * the state of the moment it was opened or last refreshed. Transactions and leases fail with
 * ST_DENIED, watches with ST_UNSUPPORTED. ST_NOT_FOUND when dir holds no store. */
int meta_open_readonly(const char *dir, struct meta **ret_m, struct status *st);
/* Catches up with what the server has written since. Does nothing on other stores. */
int meta_refresh(struct meta *m, struct status *st);
/* In memory, gone at meta_close(); for tests of the rooms above. */
struct meta *meta_mem_new(void);
/* The n-th following transaction that would change a key below prefix (a literal; "": any key) of an
 * in-memory store fails with code, nothing done (1 = the next; 0 = none). Others, such as those of
 * background threads, neither fail nor count. */
void meta_mem_fail_txn(struct meta *m, const char *prefix, int n, int code);

/* All watches must be closed. Revokes nothing: see leases. NULL is fine. */
void meta_close(struct meta *m);

/* ---- Reading ---- */

struct meta_item {
    struct slice key, value;
    int64_t version; /* 0: the key does not exist */
};

/* A key that does not exist is not an error: ret->version is 0 and ret->value is empty. */
int meta_get(struct meta *m, struct slice key, struct arena *ar, struct meta_item *ret,
             struct status *st);

struct meta_range {
    struct slice prefix;      /* "" or "/" is everything */
    struct slice start_after; /* only keys behind this one; empty: from the beginning */
    size_t limit;             /* 0: META_LIST_MAX */
    bool keys_only;           /* values stay empty */
};
struct meta_list {
    struct meta_item *items; /* sorted bytewise by key */
    size_t n;
    bool more;        /* cut at limit or META_LIST_BYTES: go on behind the last key */
    int64_t revision; /* of the store: exactly the changes up to here are in the answer */
};
int meta_list(struct meta *m, const struct meta_range *range, struct arena *ar,
              struct meta_list *ret, struct status *st);

int meta_revision(struct meta *m, int64_t *ret, struct status *st);

/* ---- Writing ---- */

enum meta_cond_kind {
    META_IF_VERSION, /* version equals; 0: the key must not exist */
    META_IF_EXISTS,
};
struct meta_cond {
    enum meta_cond_kind kind;
    struct slice key;
    int64_t version;
};

enum meta_op_kind { META_PUT, META_DELETE, META_DELETE_PREFIX };
struct meta_op {
    enum meta_op_kind kind;
    struct slice key;   /* for META_DELETE_PREFIX the prefix, at least "/x" */
    struct slice value; /* META_PUT */
    int64_t lease;      /* META_PUT: 0, or the lease whose end deletes the key */
};

/* All conditions hold and all operations happen, or nothing does. Deleting what does not exist is
 * fine. No two operations may touch one key. *ret_revision (may be NULL) gets the revision that
 * contains the effects: the version of every key put.
 * Fails: ST_CONFLICT names the key whose condition did not hold; ST_INVALID, ST_TOO_LARGE name key
 * and limit; ST_NOT_FOUND: the lease is over. After ST_IO, ST_UNAVAILABLE or ST_NO_SPACE the
 * outcome is unknown: read before trying again. */
int meta_txn(struct meta *m, const struct meta_cond *conds, size_t nconds,
             const struct meta_op *ops, size_t nops, int64_t *ret_revision, struct status *st);

static inline struct meta_cond meta_if_version(struct slice key, int64_t version)
{
    return (struct meta_cond){.kind = META_IF_VERSION, .key = key, .version = version};
}
static inline struct meta_cond meta_if_absent(struct slice key)
{
    return meta_if_version(key, 0);
}
static inline struct meta_cond meta_if_exists(struct slice key)
{
    return (struct meta_cond){.kind = META_IF_EXISTS, .key = key};
}
static inline struct meta_op meta_op_put(struct slice key, struct slice value)
{
    return (struct meta_op){.kind = META_PUT, .key = key, .value = value};
}
static inline struct meta_op meta_op_delete(struct slice key)
{
    return (struct meta_op){.kind = META_DELETE, .key = key};
}
static inline struct meta_op meta_op_delete_prefix(struct slice prefix)
{
    return (struct meta_op){.kind = META_DELETE_PREFIX, .key = prefix};
}
/* One unconditional operation. */
int meta_put(struct meta *m, struct slice key, struct slice value, int64_t *ret_revision,
             struct status *st);
int meta_delete(struct meta *m, struct slice key, int64_t *ret_revision, struct status *st);

/* ---- Watching ---- */

enum meta_event_kind {
    META_EV_PUT,
    META_EV_DELETE, /* by an operation or by the end of a lease */
    META_EV_RESYNC, /* the changes up to `revision` are no longer known: list the prefix again */
};
struct meta_event {
    enum meta_event_kind kind;
    struct slice key, value;
    int64_t revision;
};

struct meta_watch;
/* Changes under prefix with a revision of at least from_revision (0: from now on), in order. The
 * usual pattern: meta_list(), then watch from list.revision + 1. A store keeps a bounded history:
 * who asks for too old a revision, or reads too slowly, gets one META_EV_RESYNC and then the
 * changes behind its revision. */
int meta_watch_open(struct meta *m, struct slice prefix, int64_t from_revision,
                    struct meta_watch **ret_w, struct status *st);
/* The next event. Fails: ST_TIMEOUT at the monotonic deadline (base/clock.h); ST_CANCELLED after
 * meta_watch_cancel(). One thread at a time. */
int meta_watch_next(struct meta_watch *w, int64_t deadline_us, struct arena *ar,
                    struct meta_event *ret, struct status *st);
/* Wakes the thread inside meta_watch_next(), now and for ever. From any thread. */
void meta_watch_cancel(struct meta_watch *w);
/* Frees; no thread may be inside meta_watch_next() any more (cancel, join, close). NULL is fine. */
void meta_watch_close(struct meta_watch *w);

/* ---- Leases: keys that live as long as somebody says so ---- */

/* The lease ends ttl_ms after the last keepalive; its keys are deleted, and watchers see it. In an
 * embedded store leases live in the process: their keys are gone at the next open. */
int meta_lease_grant(struct meta *m, int64_t ttl_ms, int64_t *ret_lease, struct status *st);
int meta_lease_keepalive(struct meta *m, int64_t lease, struct status *st); /* ST_NOT_FOUND: over */
int meta_lease_revoke(struct meta *m, int64_t lease, struct status *st);
