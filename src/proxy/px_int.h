/*
 * px_int.h - the proxy inside: one RPC's context, the collection cache, shared checks.
 *
 * HANDLERS  methods.def names one per RPC:
 *               int px_search(struct px_call *pc, const Req *req, Resp *resp, struct status *st)
 *           px_dispatch.c unpacks the request (bytes fields borrow from the body), initialises the
 *           response, calls, puts a failure into the response's Status (px_status.c), and packs.
 *           Handlers allocate from pc->ar only and keep nothing.
 * THREADS   A handler runs on one worker. The cache is shared: entries are immutable and reference
 *           counted; px_call keeps what it looked up until the reply.
 */
#pragma once
#include "base/arena.h"
#include "proto/milvus.pb-c.h"
#include "proxy/proxy.h"
#include "schema/column.h"
#include "schema/errors.h"
#include "schema/schema.h"
#include <stdatomic.h>

/* ---- options, read once ---- */
struct px_limits {
    uint32_t max_name_length, max_fields, max_vector_fields, max_dim, max_varchar_length;
    uint32_t max_array_capacity, max_shards, max_partitions;
    int64_t max_topk, max_nq, max_query_window, max_output_bytes, graceful_ms;
    int64_t slow_query_ms;
    bool auth;
};

struct px_cache;
struct proxy {
    struct proxy_opts opts;
    struct px_limits lim;
    struct px_cache *cache;
    _Atomic bool ready;
    _Atomic int64_t next_identifier;
    _Atomic uint64_t last_ts;      /* newest oracle timestamp this proxy has seen */
};

/* ---- one RPC ---- */
struct px_method;
struct px_pin;                     /* collections held until the reply */
struct px_call {
    struct proxy *px;
    const struct px_method *method;
    struct grpc_call *gc;          /* NULL for REST */
    struct arena *ar;
    struct call call;              /* for calls to services: same arena, deadline, cancellation */
    struct slice db_metadata;      /* `dbname`, may be empty */
    const char *user;
    struct px_pin *pins;
};

/* The request's db_name, else the metadata's, else "default". */
const char *px_db(const struct px_call *pc, const char *db_name);

/* ---- collections ---- */
struct px_coll {
    _Atomic int refs;
    struct arena *ar;
    const Elanus__CollectionInfo *info;
    const Elanus__Collection *pb;  /* info->collection */
    struct schema *schema;
    const struct field *first_vector;
    size_t nvectors;
};

/* By name or alias. ret lives until the reply. ERR_COLLECTION_NOT_FOUND with the text most RPCs use
 * ("collection not found[database=D][collection=C]"). */
int px_collection(struct px_call *pc, const char *db_name, const char *name,
                  const struct px_coll **ret, struct status *st);
/* As above, and loaded: else ERR_COLLECTION_NOT_LOADED. */
int px_collection_loaded(struct px_call *pc, const char *db_name, const char *name,
                         const struct px_coll **ret, struct status *st);
const Elanus__Partition *px_partition(const struct px_coll *coll, struct slice name);
/* Ids of named partitions; none named: none returned (everything). Errors: "partition name P not
 * found" (ERR_PARTITION_NOT_FOUND), and the partition-key-mode text when names are given there. */
int px_partition_ids(struct px_call *pc, const struct px_coll *coll, size_t n,
                     const char *const *names, int64_t **ret_ids, size_t *ret_n,
                     struct status *st);
/* Value of a collection property, or NULL. */
const char *px_property(const struct px_coll *coll, const char *key);
/* The index of a field, or NULL; value of one of its flat params, or NULL. */
const Elanus__Index *px_index_of(const struct px_coll *coll, int64_t field_id);
const char *px_index_param(const Elanus__Index *idx, const char *key);

struct px_cache *px_cache_new(void);
void px_cache_free(struct px_cache *c);
/* Forgets these names and this id; a look-up that began before does not enter its answer. */
void px_cache_invalidate(struct px_cache *c, int64_t collection_id, const char *db_name,
                         size_t n, const char *const *names);

/* ---- time ---- */
/* A fresh timestamp of the oracle. */
int px_now_ts(struct px_call *pc, hts *ret, struct status *st);
/* What a read must wait for (reference: protocol §3). `guarantee_ts`, `level` and `use_default` are
 * the request's; ret_read_ts is not 0 when the request names a snapshot (iterators). */
int px_guarantee(struct px_call *pc, const struct px_coll *coll, int level, bool use_default,
                 uint64_t guarantee_ts, bool is_iterator, hts *ret_guarantee, hts *ret_read_ts,
                 struct status *st);

/* ---- shards ---- */
struct px_shard {
    const char *vchannel;
    const struct snode_service *sn;
};
/* The shards of a collection with their owners, in vchannel order. */
int px_shards(struct px_call *pc, const struct px_coll *coll, struct px_shard **ret, size_t *ret_n,
              struct status *st);

/* ---- status ---- */
void px_status_fill(Milvus__Proto__Common__Status *out, const struct status *st, struct arena *ar);

/* ---- key-value lists ---- */
const char *px_kv(size_t n, Milvus__Proto__Common__KeyValuePair *const *kv, const char *key);

/* ---- names (reference: behaviour §1, errors §3) ---- */
int px_check_collection_name(const struct proxy *px, const char *name, struct status *st);
int px_check_partition_name(const struct proxy *px, const char *name, struct status *st);
int px_check_alias_name(const struct proxy *px, const char *name, struct status *st);
int px_check_database_name(const struct proxy *px, const char *name, struct status *st);
