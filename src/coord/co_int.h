/*
 * co_int.h - the coordinator inside: tables that mirror the metadata store, and who may touch them.
 *
 * MIRROR    Memory is a function of the store: a record in memory is the decoded value of one key,
 *           and the same function (co__apply_put, co__apply_delete) fills the tables when the
 *           program starts and after each transaction. Only co__commit() changes them. What is not
 *           in the store (who is registered, where segments are placed, loads under way) is kept
 *           beside the records and is found again or decided anew after a restart.
 * LOCKS     ddl     one change of the catalogue at a time. Held over metadata transactions and over
 *                   calls to nodes, which is why a node may call back only functions that do not
 *                   take it: alloc_ts, alloc_id, place_segments, commit_flush, list_segments,
 *                   segment_indexes, reject_index.
 *                   Loading takes long: it marks its collection busy instead and lets go; whoever
 *                   else wants to change that collection waits (co__ddl_coll).
 *           commit  one metadata transaction and its effect on the tables, so that memory takes
 *                   changes in the order in which the store took them. Held over the store's I/O.
 *           state   the tables: readers share it, co__commit() and placement write under it; never
 *                   held over I/O or a call.
 *           Proxies are told of a change when no lock is held (their cache lock is an outer one).
 * POINTERS  A collection and its records of kind collection, partition, index, alias and load
 *           change only under ddl, so its holder reads them freely. Segments, deltas, shards, index
 *           files and placements need state. Answers are copied out under state.
 */
#pragma once
#include "base/alloc.h"
#include "base/lock.h"
#include "base/map.h"
#include "base/pool.h"
#include "coord/coord.h"
#include "proto/proto.h"
#include "schema/errors.h"
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#define CO_DEFAULT_DB "default"
#define CO_DEFAULT_PARTITION "_default"
#define CO_ROOT_USER "root"
enum { CO_DEFAULT_DB_ID = 1, CO_FIRST_FIELD_ID = 100, CO_PROXIES_MAX = 64, CO_NODES_MAX = 1024 };

/* The API's own names are long. */
typedef Milvus__Proto__Schema__CollectionSchema pb_schema;
typedef Milvus__Proto__Schema__FieldSchema pb_field;
typedef Milvus__Proto__Common__KeyValuePair pb_kv;

/* ---- records ---- */

enum co_kind {
    CO_DATABASE,
    CO_USER,
    CO_COLLECTION,
    CO_PARTITION,
    CO_ALIAS,
    CO_INDEX,
    CO_SHARD,
    CO_SEGMENT,
    CO_DELTA,
    CO_SEGINDEX,
    CO_LOAD,
    CO_KINDS
};

struct co_list {
    struct co_rec **v;
    size_t n, cap;
};

struct co_rec {
    struct arena *ar;
    void *pb;        /* message of its kind; immutable */
    int64_t id;      /* what lists are sorted by */
    int64_t version; /* of its key in the store */
    struct co_list files; /* of an index: its files, by segment. Holds: state */
};

/* A load under way: what readers of the load state and place_segments() see meanwhile. */
struct co_loading {
    const Elanus__Load *target; /* of the loading thread */
    size_t shards_done, nshards;
};

struct co_coll {
    int64_t id;
    struct co_rec *rec; /* Elanus__Collection */
    struct co_rec *load; /* Elanus__Load, or NULL: not loaded */
    struct co_list parts, indexes, aliases;
    struct co_list shards, segs, deltas; /* state */
    struct id_map *sealing;              /* state: segment -> timestamp of its seal */
    uint64_t flushing_deletes;           /* state: of the last flush that owes deletes; 0: none */
    struct id_map *placed;               /* state: segment -> query node */
    struct co_loading loading;           /* state */
    bool busy;                           /* ddl: a load or release is under way */
};

struct co_node {
    int64_t id;
    bool streaming, query, data;
    char *address;
    int64_t term;
    int64_t rows; /* of the segments placed here */
};

/* ---- a number that never runs backwards, not even over a crash (co_bound.c) ---- */

struct co_bound {
    struct coord *co;
    const char *key;
    uint64_t ahead;     /* how far a bound is put beyond what was given out */
    bool follows_clock; /* hybrid timestamps: never behind the wall clock */
    struct lock lock; /* RANK_TSO: extending; never held over the store's I/O */
    struct cond done;
    bool extending;
    int64_t version;           /* of the key; -1: read it first. Extender only */
    _Atomic uint64_t next;     /* the smallest number not given out */
    _Atomic uint64_t bound;    /* persisted: everything given out stays below */
    _Atomic bool wanted;       /* the background thread has been asked */
};

struct coord {
    struct coord_opts opts;
    struct lock ddl;
    struct cond ddl_free; /* some collection is no longer busy */
    size_t nbusy;

    struct lock commit;
    bool unsure; /* commit: a transaction's outcome is unknown, the tables may be behind */

    struct rwlock state;
    struct str_map *dbs, *users;    /* name -> struct co_rec * */
    struct str_map *aliases;        /* "db/alias" -> struct co_rec * */
    struct str_map *names;          /* "db/name" -> struct co_coll *; created ones only */
    struct str_map *vchannels;      /* vchannel -> struct co_coll * */
    struct id_map *colls;           /* id -> struct co_coll *; dropping ones too */
    size_t nnodes;
    struct co_node nodes[CO_NODES_MAX];

    struct co_bound tso, ids;
    size_t npchannels;
    int64_t term; /* ddl: the newest given out */

    size_t nproxies;
    const struct proxy_service *proxies[CO_PROXIES_MAX];

    struct arena *load_ar;      /* coord_new() to coord_start(): keys without an owner */
    struct meta_op *strays;
    size_t nstrays, strays_cap;

    struct lock bg;             /* RANK_LEAF: the two threads' wishes */
    struct cond bg_bound_wake, bg_gc_wake;
    bool bg_stop;
    struct thread *bound_thread, *gc_thread;
    struct co_gc *gc;
    struct co_builds *builds;
    struct co_compacts *compacts;
};

/* ---- co_rec.c: records, keys, lists ---- */

/* The key a message belongs under. ST_INVALID when a name cannot be part of a key. */
int co__key(enum co_kind kind, const void *pb, struct arena *ar, struct slice *ret,
            struct status *st);
struct slice co__kind_prefix(enum co_kind kind);
/* Decodes into a record of its own. ST_CORRUPT. */
int co__rec_new(enum co_kind kind, struct slice value, struct co_rec **ret, struct status *st);
void co__rec_free(struct co_rec *rec);
/* Puts the record in its place; returns the one that was there, or NULL. */
struct co_rec *co__list_put(struct co_list *l, struct co_rec *rec);
struct co_rec *co__list_get(const struct co_list *l, int64_t id);
struct co_rec *co__list_remove(struct co_list *l, int64_t id);
void co__list_free(struct co_list *l, bool free_records);
/* A deep copy. Messages here are bounded by what a metadata value may hold. */
void *co__copy(const ProtobufCMessage *m, struct arena *ar);
struct slice co__name_key(const char *db, const char *name, struct arena *ar);

/* Whether id is one of them, as requests and delete files name things; none named: all. */
static inline bool co__in_ids(const int64_t *ids, size_t n, int64_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return n == 0;
}

static inline const Elanus__Collection *co__pb(const struct co_coll *c)
{
    return c->rec->pb;
}

/* ---- co_table.c: tables in memory. Holds: state ---- */

void co__apply_put(struct coord *co, enum co_kind kind, struct co_rec *rec);
void co__apply_delete(struct coord *co, enum co_kind kind, const void *pb);
/* Fills the tables from the store; strays are kept for co__purge_strays(). */
int co__load_all(struct coord *co, struct status *st);
int co__purge_strays(struct coord *co, struct status *st);
void co__tables_free(struct coord *co);
/* ST_INTERNAL names what does not fit together. Takes state. (co_validate.c) */
int co__validate(struct coord *co, struct status *st);

const char *co__db(const char *db_name);
/* ERR_DATABASE_NOT_FOUND */
int co__find_db(struct coord *co, const char *db, const Elanus__Database **ret, struct status *st);
/* By name or alias. NULL: none. */
struct co_coll *co__lookup(struct coord *co, const char *db, const char *name);
/* The same with the API's words: "collection not found[database=..][collection=..]". */
int co__find(struct coord *co, const char *db, const char *name, struct co_coll **ret,
             struct status *st);
struct co_coll *co__by_id(struct coord *co, int64_t id); /* NULL: none, or being dropped */
const Elanus__Partition *co__part(const struct co_coll *c, const char *name);
/* Names to partitions: ERR_PARTITION_NOT_FOUND. Memory from ar. */
int co__part_ids(const struct co_coll *c, const char *const *names, size_t n, struct arena *ar,
                 int64_t **ret, struct status *st);
const pb_field *co__field(const struct co_coll *c, const char *name);
bool co__field_is_vector(const pb_field *f);
/* A shard's record (co_data.c); NULL: c has none of this name, or is NULL. */
struct co_rec *co__shard(const struct co_coll *c, const char *vchannel);
/* Whether rows of a partition are to be readable. */
bool co__load_has(const Elanus__Load *load, int64_t partition_id);
/* Loaded, or being loaded: what the nodes are to serve. NULL: nothing. */
const Elanus__Load *co__load_target(const struct co_coll *c);

/* ---- co_txn.c ---- */

struct co_op {
    enum co_kind kind;
    bool del;
    const void *pb;
    struct co_rec *rec; /* puts: made before the transaction, so that nothing can fail after it */
};
struct co_txn {
    struct coord *co;
    struct arena *ar;
    struct co_op *ops;
    struct meta_op *mops;
    struct meta_cond *conds;
    size_t n, cap, nmops, mops_cap, nconds, conds_cap;
    struct status st; /* the first failure of a put or delete */
};
/* Messages given to put and delete must live until commit. co__txn_done() in every case. */
void co__txn_init(struct co_txn *tx, struct coord *co, struct arena *ar);
void co__txn_done(struct co_txn *tx);
void co__put(struct co_txn *tx, enum co_kind kind, const void *pb);
void co__delete(struct co_txn *tx, enum co_kind kind, const void *pb);
/* Keys without a record in the tables, or whose records go with another's. */
void co__raw(struct co_txn *tx, struct meta_op op);
void co__cond(struct co_txn *tx, struct meta_cond cond);
size_t co__txn_room(const struct co_txn *tx); /* operations that still fit */
/* Transaction, then tables. Takes commit and state. Empties tx for reuse. */
int co__commit(struct co_txn *tx, struct status *st);
/* The same for callers that hold commit already, because they decided under it. */
int co__commit_locked(struct co_txn *tx, struct status *st);

/* ---- co_bound.c, co_tso.c, co_ids.c ---- */

void co__bound_init(struct co_bound *b, struct coord *co, const char *key, uint64_t ahead,
                    bool follows_clock);
void co__bound_done(struct co_bound *b);
int co__bound_load(struct co_bound *b, uint64_t first, struct status *st);
/* Whether taking needs no waiting (now, unless others take at the same time). */
bool co__bound_has(struct co_bound *b, uint32_t count);
/* `count` numbers nobody was given before; the first of them. ST_TIMEOUT, ST_FENCED. */
int co__bound_take(struct co_bound *b, uint32_t count, int64_t deadline_us, uint64_t *ret_first,
                   struct status *st);
/* The thread that moves bounds on before they are reached. */
void co__bound_start(struct coord *co);
void co__bound_stop(struct coord *co);

int co__tso_load(struct coord *co, struct status *st);
int co__ts(struct coord *co, uint32_t count, int64_t deadline_us, uint64_t *ret_first,
           struct status *st);
int co__ids_load(struct coord *co, struct status *st);
int co__id(struct coord *co, uint32_t count, int64_t deadline_us, int64_t *ret_first,
           struct status *st);

/* ---- co_ddl.c: the frame of every change, calls to nodes and proxies ---- */

/* What proxies must forget; names are collected while the change is made. */
struct co_notice {
    struct arena *ar;
    int64_t collection_id;
    const char *db;
    const char *db2; /* a second database whose caches are concerned, or NULL */
    size_t n, cap;
    const char **names;
};
void co__ddl_begin(struct coord *co, struct co_notice *no, struct arena *ar);
void co__notice(struct co_notice *no, const struct co_coll *c); /* name and aliases */
void co__notice_name(struct co_notice *no, const char *name);
/* Lets go of ddl and tells every proxy, also after a failure: part of the change may be made. */
void co__ddl_end(struct coord *co, struct co_notice *no);
/* co__lookup() and co__find() that wait until the collection is not busy. */
struct co_coll *co__ddl_lookup(struct coord *co, const char *db, const char *name);
int co__ddl_coll(struct coord *co, const char *db, const char *name, struct co_coll **ret,
                 struct status *st);
/* Lets go of ddl while c stays untouched by others, and back. */
void co__busy_begin(struct coord *co, struct co_coll *c);
void co__busy_end(struct coord *co, struct co_coll *c);

struct co_shard_ref {
    const char *vchannel;
    int64_t owner;
};
/* The shards of a collection and their owners, copied. Takes state. */
size_t co__shard_refs(struct coord *co, const struct co_coll *c, struct arena *ar,
                      struct co_shard_ref **ret);
/* The node that owns a shard: ERR_CHANNEL_NOT_AVAILABLE, retriable, when it has none. */
int co__owner(struct coord *co, const struct co_shard_ref *sh, const struct snode_service **ret,
              struct status *st);
/* Tells every owner the collection's definition as it is now. Holds: ddl */
int co__send_definition(struct coord *co, const struct call *call, const struct co_coll *c,
                        struct status *st);
/* Sets what is loaded on every shard; counts in c->loading.shards_done. */
int co__send_load(struct coord *co, const struct call *call, struct co_coll *c,
                  const Elanus__Load *load, struct status *st);
/* Tells the query nodes that serve segments of a collection (ids NULL: all placed ones) that there
 * may be new index files. With wait they are in use afterwards. Failures are logged: nodes ask by
 * themselves when they load. Takes state. */
void co__send_refresh(struct coord *co, const struct call *call, int64_t collection_id,
                      const int64_t *ids, size_t n, bool wait);
/* Tells query nodes to forget segments (ids NULL: the whole collection). Failures are logged: query
 * nodes hold nothing durable. */
void co__send_release(struct coord *co, const struct call *call, int64_t collection_id,
                      const int64_t *ids, size_t n);
/* Opens on a node the shards it owns of these collections. Takes state. Holds: ddl */
int co__send_open(struct coord *co, const struct call *call, int64_t node_id,
                  struct co_coll *const *colls, size_t ncolls, bool fresh, struct status *st);
/* Every shard's own account of its growing rows; ST_UNAVAILABLE and such when one cannot say. */
int co__shard_stats(struct coord *co, const struct call *call, int64_t collection_id,
                    Elanus__ShardStats ***ret, size_t *ret_n, struct status *st);

/* ---- co_place.c: which query node serves which segment ---- */

/* Places what target asks for and is not placed (segment_ids NULL: all segments of c); returns the
 * placements of all of them. Takes state. ST_UNAVAILABLE without a query node. */
int co__place(struct coord *co, struct co_coll *c, const Elanus__Load *target,
              const char *vchannel, const int64_t *segment_ids, size_t n, struct arena *ar,
              Elanus__Placement ***ret, size_t *ret_n, struct status *st);
/* Forgets placements that load (NULL: nothing is loaded) does not ask for; the segments' ids.
 * Takes state. */
void co__unplace(struct coord *co, struct co_coll *c, const Elanus__Load *load, struct arena *ar,
                 int64_t **ret_ids, size_t *ret_n);
/* Ids of the nodes of one role. Holds: state */
enum co_role { CO_STREAMING, CO_QUERY, CO_WORK };
size_t co__nodes(struct coord *co, enum co_role role, int64_t *ret_ids);
/* Holds: state, as writer */
void co__unplace_one(struct coord *co, struct co_coll *c, const Elanus__Segment *seg);
struct co_node *co__node(struct coord *co, int64_t id); /* Holds: state */

/* ---- co_build.c: index files, built by data nodes ---- */

void co__builds_new(struct coord *co);
void co__builds_start(struct coord *co);
void co__builds_stop(struct coord *co); /* cancels what runs, waits for it */
void co__builds_free(struct coord *co);
/* Segments, indexes, loads or nodes may have come or gone. Thread: any, under any lock but its
 * own. */
void co__builds_wake(struct coord *co);
/* Whether nobody will build the file. Holds: state */
bool co__build_given_up(struct coord *co, int64_t index_id, int64_t segment_id);
/* Why a build was given up, in ar; NULL: it was not. Holds: state */
const char *co__build_failure(struct coord *co, int64_t index_id, int64_t segment_id,
                              struct arena *ar);
/* A file could not be opened and is about to be forgotten: counts. How long its successor is in
 * coming, -1: it is given up. The caller wakes. */
int64_t co__build_refused(struct coord *co, int64_t collection_id, int64_t index_id,
                          int64_t segment_id, const char *reason);
/* The file's record is gone, or it could not be removed: then nothing was refused. */
void co__build_refused_end(struct coord *co, int64_t index_id, int64_t segment_id, bool gone);
/* One more try for all that was given up. */
void co__builds_retry(struct coord *co);
/* The definition's own word for a parameter; "" when it has none. */
const char *co__index_param(const Elanus__Index *idx, const char *key);
/* Vectors that index files are built over. */
bool co__is_dense(const pb_field *f);
/* Whether the segment is to have a file of the index. Holds: state */
bool co__index_wants_file(struct coord *co, const struct co_coll *c, const Elanus__Index *idx,
                          const Elanus__Segment *seg);
/* The prefix of an index's files in a segment, with a '/' at its end. */
const char *co__index_prefix(const Elanus__Segment *seg, int64_t index_id, struct arena *ar);
/* The object of one build. */
const char *co__index_key(const Elanus__Segment *seg, int64_t index_id, int64_t build_id,
                          struct arena *ar);

/* ---- co_compact.c: rewriting segments ---- */

void co__compacts_new(struct coord *co);
void co__compacts_start(struct coord *co);
void co__compacts_stop(struct coord *co);
void co__compacts_free(struct coord *co);
/* Segments, deletes, index files, properties or nodes may have come or gone. Thread: any, under any
 * lock but its own. */
void co__compacts_wake(struct coord *co);
static inline void co__work_wake(struct coord *co)
{
    co__builds_wake(co);
    co__compacts_wake(co);
}

/* ---- co_root_coll.c, co_root_describe.c ---- */

/* Everything about one collection, copied. Holds: state */
void co__info(const struct co_coll *c, struct arena *ar, Elanus__CollectionInfo *ret);
/* Carries a drop to its end: shards, segments, metadata, files. Holds: ddl */
int co__drop_finish(struct coord *co, const struct call *call, struct co_coll *c,
                    struct status *st);
/* Those whose drop a crash cut short. */
int co__drops_finish(struct coord *co, struct status *st);

/* ---- co_schema.c ---- */

/* Ids for fields, struct fields and functions; $meta when dynamic. In place, memory from ar. */
int co__schema_assign(pb_schema *s, int64_t *ret_next_id, struct arena *ar, struct status *st);
void co__schema_add_field(pb_schema *s, pb_field *f, struct arena *ar); /* in front of $meta */
pb_field *co__schema_meta_field(int64_t id, struct arena *ar);
bool co__pb_equal(const ProtobufCMessage *a, const ProtobufCMessage *b);
const char *co__kv(pb_kv *const *kvs, size_t n, const char *key);
/* old with changes put over it and keys taken out. */
void co__kv_merge(pb_kv *const *old, size_t nold, pb_kv *const *set, size_t nset,
                  const char *const *del, size_t ndel, struct arena *ar, pb_kv ***ret,
                  size_t *ret_n);

/* ---- co_gc.c ---- */

int co__gc_new(struct coord *co, struct status *st);
/* First removes every object no metadata names; before any node writes. */
void co__gc_start(struct coord *co);
void co__gc_stop(struct coord *co);
void co__gc_free(struct coord *co);
/* Files of a collection, or of some segments, nobody needs any more. */
void co__gc_collection(struct coord *co, int64_t collection_id);
void co__gc_prefix(struct coord *co, const char *prefix);
/* One file. */
void co__gc_object(struct coord *co, const char *key);

/* ---- the services' functions, one file per noun ---- */

#define METHOD(service, name, Request, Response, deadline_ms)                                      \
    int co__##service##_##name(void *self, const struct call *call,                                \
                               const Elanus__##Request *req, Elanus__##Response *resp,             \
                               struct status *st);
#include "service/data.def"
#include "service/query.def"
#include "service/root.def"
#include "service/streaming.def"
#undef METHOD
