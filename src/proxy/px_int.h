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
#include "proto/proto.h"
#include "proxy/proxy.h"
#include "schema/column.h"
#include "schema/errors.h"
#include "schema/schema.h"
#include <stdatomic.h>

/* The generated names are long. */
#define PX_PB(name) Milvus__Proto__Milvus__##name
typedef Milvus__Proto__Common__Status px_status_pb;
typedef Milvus__Proto__Common__KeyValuePair px_kv_pb;

struct px_call;

/* ---- options, read once ---- */
struct px_limits {
    uint32_t max_name_length, max_fields, max_vector_fields, max_dim, max_varchar_length;
    uint32_t max_array_capacity, max_shards, max_partitions;
    int64_t max_topk, max_nq, max_query_window, max_output_bytes, graceful_ms;
    int64_t slow_query_ms;
    uint32_t max_user_length, min_password, max_password;
    bool auth;
};

struct px_cache;
struct px_auth;
struct proxy {
    struct proxy_opts opts;
    struct px_limits lim;
    struct px_cache *cache;
    struct px_auth *auth;
    struct arena *ar;              /* of the method table; written before the server starts */
    _Atomic bool ready;
    _Atomic int64_t next_identifier;
    _Atomic uint64_t last_ts;      /* newest oracle timestamp this proxy has seen */
    int64_t started_ms;            /* wall clock */
};

/* The version told to clients: of the API that is served, not of this program. */
#define PX_API_VERSION "v2.6.6"

/* ---- one RPC ---- */
typedef int px_handler_fn(struct px_call *pc, const void *req, void *resp, struct status *st);
struct px_method {
    struct proxy *px;
    const char *service, *name;
    int pool;                      /* enum net_pool */
    px_handler_fn *fn;             /* NULL: not served */
    const ProtobufCMessageDescriptor *req, *resp;
    const ProtobufCFieldDescriptor *status; /* of resp; NULL: resp is a Status, or has none */
    struct slice constant;         /* the reply of a method that always says the same */
};
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

/* For what has no gRPC call (REST, tests): everything but px and ar is empty. */
void px_call_init(struct px_call *pc, struct proxy *px, struct arena *ar);
/* Lets go of what was pinned. */
void px_call_done(struct px_call *pc);

/* The request's db_name, else the metadata's, else "default". */
const char *px_db(const struct px_call *pc, const char *db_name);

/* ---- collections ---- */
struct px_route;
#define PX_COSTS 32u
struct px_coll {
    _Atomic int refs;
    struct arena *ar;
    const Elanus__CollectionInfo *info;
    const Elanus__Collection *pb;  /* info->collection */
    struct schema *schema;
    const struct field *first_vector;
    size_t nvectors;
    struct px_route *_Atomic route; /* set once, by whoever asks first (px_shards) */
    _Atomic uint32_t cost_us[PX_COSTS]; /* px_cost.c */
};

/* By name or alias. ret lives until the reply. ERR_COLLECTION_NOT_FOUND with the text most RPCs use
 * ("collection not found[database=D][collection=C]"). */
int px_collection(struct px_call *pc, const char *db_name, const char *name,
                  const struct px_coll **ret, struct status *st);
/* The same by name or, when the name is empty, by id; a miss is told with the words
 * DescribeCollection uses ("can't find collection[...]"). */
int px_collection_or_id(struct px_call *pc, const char *db_name, const char *name, int64_t id,
                        const struct px_coll **ret, struct status *st);
/* Asks the coordinator even when the cache knows: for answers about loading and indexes. */
int px_collection_fresh(struct px_call *pc, const char *db_name, const char *name,
                        const struct px_coll **ret, struct status *st);
/* What the cache has of it is out of date (a shard moved, a node said so). */
void px_collection_forget(struct px_call *pc, const struct px_coll *coll);
/* As above, and loaded: else ERR_COLLECTION_NOT_LOADED. */
int px_collection_loaded(struct px_call *pc, const char *db_name, const char *name,
                         const struct px_coll **ret, struct status *st);
bool px_is_loaded(const Elanus__CollectionInfo *info); /* all of it, or some partitions */
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
/* Counts invalidations: read it before asking the coordinator, hand it to px_cache_put(). */
uint64_t px_cache_generation(struct px_cache *c);
/* A reference the caller gives back with px_coll_unref(), or NULL. */
struct px_coll *px_cache_get(struct px_cache *c, const char *db_name, const char *name);
/* Keeps a reference of its own, unless something was invalidated since `generation`. */
void px_cache_put(struct px_cache *c, const char *db_name, const char *name, struct px_coll *coll,
                  uint64_t generation);
size_t px_cache_count(struct px_cache *c);
/* Copies info. Fails: what schema_new() says. */
int px_coll_new(const Elanus__CollectionInfo *info, struct px_coll **ret, struct status *st);
struct px_coll *px_coll_ref(struct px_coll *coll);
void px_coll_unref(struct px_coll *coll);
/* Forgets these names and this id; a look-up that began before does not enter its answer. */
void px_cache_invalidate(struct px_cache *c, int64_t collection_id, const char *db_name,
                         size_t n, const char *const *names);

/* ---- time ---- */
/* A fresh timestamp of the oracle. */
int px_now_ts(struct px_call *pc, hts *ret, struct status *st);
/* Remembers a timestamp the oracle has given out: guarantees up to it need not ask. */
void px_saw_ts(struct proxy *px, hts ts);
/* What a read must wait for (reference: protocol §3). `guarantee_ts`, `level` and `use_default`
 * are the request's; ret_read_ts is not 0 when the request names a snapshot (iterators). A guarantee
 * ahead of the oracle is waited for here. ST_TIMEOUT: the oracle will not get there in time. */
int px_guarantee(struct px_call *pc, const struct px_coll *coll, int level, bool use_default,
                 uint64_t guarantee_ts, bool is_iterator, hts *ret_guarantee, hts *ret_read_ts,
                 struct status *st);

/* ---- shards ---- */
struct px_shard {
    const char *vchannel;
    const struct snode_service *sn;
};
/* After a call of a shard: whether it failed with rc for want of a definition that this proxy has.
 * Then it has waited a moment, *st is clear, and the shard is to be asked again; *io_asked, 0 before
 * the first call, counts. */
bool px_shard_behind(struct px_call *pc, int *io_asked, int rc, struct status *st);
/* The shards of a collection with their owners, in vchannel order. */
int px_shards(struct px_call *pc, const struct px_coll *coll, struct px_shard **ret, size_t *ret_n,
              struct status *st);

/* ---- how long searches take (px_cost.c) ---- */
/* A search of a certain kind in a collection: where its time is remembered. */
struct px_kind {
    _Atomic uint32_t *us;
};
/* True when it is short enough for a net thread; a kind not seen yet is not. */
bool px_kind_is_short(struct px_kind kind);
uint32_t px_kind_us(struct px_kind kind);      /* 0: not known */
void px_kind_took(struct px_kind kind, int64_t us);

/* ---- status ---- */
void px_status_fill(Milvus__Proto__Common__Status *out, const struct status *st, struct arena *ar);
/* The API's number for a status code. */
int px_status_code(int st_code);

/* ---- who is calling ---- */
struct px_auth *px_auth_new(void);
void px_auth_free(struct px_auth *a);
/* Checks the `authorization` metadata when authentication is on; sets pc->user.
 * Fails: ST_UNAUTHENTICATED with the API's words, or what the coordinator says. */
int px_authenticate(struct px_call *pc, struct status *st);
/* Passwords have changed. */
void px_auth_forget(struct px_auth *a);
/* Whether the token was right a moment ago. When not: ask, and hand the generation back with the
 * token that turned out right; a token checked before a px_auth_forget() is not taken. */
bool px_auth_known(struct px_auth *a, struct slice token, uint64_t *ret_generation);
void px_auth_remember(struct px_auth *a, struct slice token, uint64_t generation);
/* Base64 with or without padding; p is NULL when s is none. */
struct slice px_base64_decode(struct arena *ar, struct slice s);

/* ---- key-value lists ---- */
const char *px_kv(size_t n, Milvus__Proto__Common__KeyValuePair *const *kv, const char *key);
struct px_kv_list {
    size_t n, cap;
    Milvus__Proto__Common__KeyValuePair **kv;
};
/* Appends; strings are borrowed. */
void px_kv_add(struct px_kv_list *l, struct arena *ar, const char *key, const char *value);

/* Checks values of the properties this server knows; unknown ones are kept as they are. */
int px_check_properties(size_t n, px_kv_pb *const *kv, struct status *st);

/* ---- names (reference: behaviour §1, errors §3) ---- */
int px_check_collection_name(const struct proxy *px, const char *name, struct status *st);
int px_check_partition_name(const struct proxy *px, const char *name, struct status *st);
int px_check_alias_name(const struct proxy *px, const char *name, struct status *st);
int px_check_database_name(const struct proxy *px, const char *name, struct status *st);
int px_check_index_name(const struct proxy *px, const char *name, struct status *st);
