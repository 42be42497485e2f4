/*
 * roles.h - coordinator, query node and streaming node in one process without a server, for tests.
 *
 * Stores live in a folder of their own (or in memory), so that roles_restart() can take everything
 * down and open it again over the same stores, as a new process would. Collections have the fields
 *   id (Int64, or VarChar key), vec (FloatVector 4), n (Int64), s (VarChar 40, nullable)
 * and the rows are made from a key and a number: roles_write() builds them, roles_dump() shows what
 * can be read as text, so that two states of a server are compared with one string comparison.
 *
 * Functions that take a status can be used from any thread; the others fail the running test.
 */
#pragma once
#include "unit.h"
#include "coord/coord.h"
#include "node/node.h"
#include "node/streaming/sn_int.h"
#include "schema/errors.h"
#include "service/directory.h"

struct roles_opts {
    bool rocksdb;               /* else metadata in memory, which survives roles_restart() */
    bool varchar_pk;
    int compute_threads;        /* 0: searches on the caller's thread */
    uint64_t seal_bytes;        /* 0: 64 MiB */
    uint64_t wal_file_size;     /* 0: 1 MiB */
    uint64_t wal_max_bytes;     /* 0: 1 GiB */
    uint64_t memory_high_bytes; /* 0: no bound */
    bool compaction;            /* by itself; rows deleted two seconds ago leave files */
    const char *index_type;     /* of vec; NULL: FLAT */
    int index_rows_min;         /* of a segment with an index file; 0: the default */
    const char *dir;            /* NULL: a new temporary folder */
};

struct roles {
    struct roles_opts o;
    char *dir;
    struct config *cfg;
    struct meta *meta;
    struct object_store *os;
    struct pool *compute;
    struct svc_dir *svc;
    struct coord *co;
    struct qn *qn;
    struct sn *sn;
    struct dn *dn;
    struct root_service root;
    struct data_service data;
    struct query_service query;
    struct streaming_service streaming;
    struct snode_service snode;
    struct qnode_service qnode;
    struct dnode_service dnode;
    struct qnode_service qnode_real; /* what qnode forwards to, unless told to fail */
    struct proxy_service proxy;
    _Atomic int fail_load, fail_deletes; /* so many of the next calls to the query node fail */
    /* Called once, by the thread that has loaded segments, when they are loaded and not served. */
    void (*_Atomic on_load)(struct roles *r);
    struct arena *ar;           /* of the test: freed by roles_free() */
    struct call call;           /* of the test's own thread */
    struct status st;
};

/* One collection as a client knows it. */
struct rcoll {
    struct roles *r;
    char name[64];
    int64_t id;
    Elanus__CollectionInfo *info;
    struct schema *schema;
    size_t nshards;
    const char **vchannels;
};

struct roles *roles_new(const struct roles_opts *o);
void roles_free(struct roles *r);
void roles_stop(struct roles *r); /* stores stay open */
int roles_start(struct roles *r); /* after roles_stop() */
void roles_restart(struct roles *r);

/* Created with nshards shards; indexed, not loaded. Free with rcoll_free(). */
struct rcoll *rcoll_new(struct roles *r, const char *name, int nshards);
void rcoll_free(struct rcoll *c);
/* Asks the coordinator again: after partitions or fields changed. */
void rcoll_refresh(struct rcoll *c);
int64_t rcoll_partition(struct rcoll *c, const char *name); /* id */
void rcoll_partition_new(struct rcoll *c, const char *name);
int rcoll_partition_drop(struct rcoll *c, const char *name);
void rcoll_load(struct rcoll *c, const char *partition); /* NULL: all */
void rcoll_release(struct rcoll *c, const char *partition);
int rcoll_drop(struct rcoll *c);
/* An Int64 field with a default (or nullable without one), added to what is there. */
void rcoll_add_field(struct rcoll *c, const char *name, bool has_default, int64_t def);
void rcoll_set_property(struct rcoll *c, const char *key, const char *value);
/* data.flush, then waits until all of it is committed (and served sealed when loaded). */
void rcoll_flush(struct rcoll *c);
void rcoll_seal(struct rcoll *c); /* only asks */
/* Waits until no growing segment is left to flush or swap. */
void rcoll_wait_swapped(struct rcoll *c);

struct rkeys {
    const int64_t *v;
    size_t n;
};
#define RKEYS(...)                                                                                 \
    (struct rkeys)                                                                                 \
    {                                                                                              \
        (const int64_t[]){ __VA_ARGS__ }, sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)     \
    }
enum rwrite { R_INSERT = 1, R_DELETE = 2, R_UPSERT = 3 };
/* Rows of these keys with the number n into a partition (NULL: default); an upsert deletes in that
 * partition, a delete in all when partition is NULL. *ret_ts: the greatest timestamp. */
int rcoll_write(struct rcoll *c, enum rwrite what, const char *partition, struct rkeys keys,
                int64_t n, hts *ret_ts, struct status *st);
/* The request for one shard, in ar; false when none of the keys is its. partition 0: all
 * (deletes). */
bool rcoll_build(struct rcoll *c, size_t shard, enum rwrite what, int64_t partition,
                 struct rkeys keys, int64_t n, struct arena *ar, Elanus__WriteReq *req);
/* The same with keys from .. from + count - 1; failing fails the test. */
hts rcoll_insert(struct rcoll *c, const char *partition, int64_t from, int64_t count, int64_t n);
hts rcoll_upsert(struct rcoll *c, const char *partition, int64_t from, int64_t count, int64_t n);
hts rcoll_delete(struct rcoll *c, const char *partition, int64_t from, int64_t count);

struct rrow {
    int64_t key, n;
    hts ts;
};
/* Rows that pass the filter (NULL: all), by key, in ar; read_ts 0: everything acknowledged. Any
 * thread. */
int rcoll_query(struct rcoll *c, const char *filter, const char *partition, hts read_ts,
                struct arena *ar, struct rrow **ret, size_t *ret_n, struct status *st);
int rcoll_count(struct rcoll *c, const char *filter, hts read_ts, int64_t *ret, struct status *st);
/* The k nearest of (x, x, x, x), as keys in ar. Any thread. */
int rcoll_search(struct rcoll *c, const char *filter, float x, uint32_t k, hts read_ts,
                 struct arena *ar, int64_t **ret, size_t *ret_n, struct status *st);
/* Everything readable as text: rows with all fields, count, some searches. In r->ar. */
const char *rcoll_dump(struct rcoll *c, const char *filter, hts read_ts);
/* The same of one more field: "key=value" or "key=null", by key. */
const char *rcoll_values(struct rcoll *c, const char *field, const char *filter);
int64_t rcoll_total(struct rcoll *c); /* count of everything; fails the test on error */

size_t rcoll_qnode_segments(struct rcoll *c); /* loaded on the query node */
size_t rcoll_indexed_segments(struct rcoll *c); /* of these, with an index in use */
size_t rcoll_flushed(struct rcoll *c);        /* segments in metadata */
size_t rcoll_deltas(struct rcoll *c);
hts roles_now(struct roles *r);               /* a timestamp from the oracle */
/* The first shard from within: hold with sn__shard_unref(). */
struct sn_shard *rcoll_shard(struct rcoll *c, size_t i);

#define R_WAIT(cond)                                                                               \
    do {                                                                                           \
        int64_t r_deadline_ = clock_mono_ms() + 60000;                                             \
        while (!(cond)) {                                                                          \
            if (clock_mono_ms() > r_deadline_) {                                                   \
                fail_msg("%s:%d: waited too long for %s", __FILE__, __LINE__, #cond);              \
            }                                                                                      \
            usleep(500);                                                                           \
        }                                                                                          \
    } while (0)
