/*
 * co_root_coll.c - collections: create and drop.
 *
 * CREATE    One transaction puts the collection, its partitions and its shards; then a streaming
 *           node opens the shards, then the client is answered. What does not fit into one
 *           transaction is put under a collection in the state "dropping", which the last one turns
 *           into "created". When opening fails the collection is dropped again.
 * DROP      The first transaction makes the collection invisible (state "dropping"). Then nodes
 *           forget it, a second transaction removes everything it has in the store, and its files
 *           follow (co_gc.c).
 * FAILURE   A crash at any line leaves a collection that is whole, or one in the state "dropping",
 *           whose drop the next start carries to its end; files without metadata are orphans.
 */
#include "coord/co_int.h"
#include "base/fault.h"
#include "base/utf8.h"
#include "coord/policy.h"
#include "schema/schema.h"

#define LOG_ROOM "coord"
#include "base/log.h"

enum { PARTITION_KEY_PARTITIONS = 16, SHARDS_MAX = 1024 };

/* ---- create ---- */

struct plan {
    Elanus__Collection coll;
    size_t nparts, nshards;
    Elanus__Partition *parts;
    Elanus__Shard *shards;
};

static const char *partition_key(const pb_schema *s)
{
    for (size_t i = 0; i < s->n_fields; i++) {
        if (s->fields[i]->is_partition_key) {
            return s->fields[i]->name;
        }
    }
    return NULL;
}

static int plan_collection(struct coord *co, const struct call *call,
                           const Elanus__CreateCollectionReq *req, struct plan *p,
                           struct status *st)
{
    int64_t max_parts = config_int(co->opts.config, "rootCoord.maxPartitionNum");
    Elanus__Collection *c = &p->coll;
    struct schema *check = NULL;
    int rc = 0;

    elanus__collection__init(c);
    if (!req->schema) {
        FAIL(st, ST_INVALID, "a collection without a schema");
    }
    if (req->shards_num < 0 || req->shards_num > SHARDS_MAX) {
        FAIL(st, ERR_PARAMETER_INVALID, "invalid shards_num: %d", req->shards_num);
    }
    c->schema = co__copy(&req->schema->pb, call->ar);
    c->db_name = co__db(req->db_name);
    c->name = c->schema->name;
    c->schema->dbname = c->db_name;
    TRY(co__schema_assign(c->schema, &c->next_field_id, call->ar, st));
    TRY(schema_new(c->schema, &check, st)); /* what every node will do with it */
    c->consistency_level = req->consistency_level;
    c->properties = req->properties;
    c->n_properties = req->n_properties;
    p->nshards = MAX(req->shards_num, 1);
    p->nparts = 1;
    if (partition_key(c->schema)) {
        c->num_partitions = req->num_partitions > 0 ? req->num_partitions
                                                    : PARTITION_KEY_PARTITIONS;
        if (c->num_partitions > max_parts) {
            FAIL(st, ERR_PARAMETER_INVALID,
                 "partition number (%" PRId64 ") exceeds max configuration (%" PRId64 ")",
                 c->num_partitions, max_parts);
        }
        p->nparts = (size_t)c->num_partitions;
    } else if (req->num_partitions > 0) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "num_partitions should only be specified with partition key field enabled");
    }
out:
    schema_unref(check);
    return rc;
}

/* Whether the plan describes the collection that is there. */
static bool same_definition(const struct plan *p, const Elanus__Collection *there)
{
    Elanus__Collection c = p->coll;

    c.id = there->id;
    c.vchannels = there->vchannels;
    c.n_vchannels = there->n_vchannels;
    c.created_ts = there->created_ts;
    c.update_ts = there->update_ts;
    return p->nshards == there->n_vchannels && co__pb_equal(&c.pb, &there->pb);
}

static int check_limits(struct coord *co, const struct plan *p, const Elanus__Database *db,
                        struct status *st)
{
    int64_t max = config_int(co->opts.config, "quotaAndLimits.limits.maxCollectionNum");
    int64_t max_db = config_int(co->opts.config, "quotaAndLimits.limits.maxCollectionNumPerDB");
    int64_t max_capacity = config_int(co->opts.config, "rootCoord.maxGeneralCapacity");
    int64_t in_db = 0, capacity = (int64_t)(p->nshards * p->nparts);
    const char *own = co__kv(db->properties, db->n_properties, "database.max.collections");
    size_t pos = 0;
    struct slice key;
    void *v;
    int rc = 0;

    if (own && (!parse_i64(slice_of(own), &max_db) || max_db < 0)) {
        FAIL(st, ERR_PARAMETER_INVALID, "database %s: database.max.collections is \"%s\"",
             db->name, own);
    }
    while (str_map_next(co->names, &pos, &key, &v)) {
        const struct co_coll *c = v;
        in_db += strcmp(co__pb(c)->db_name, db->name) == 0;
        capacity += (int64_t)(co__pb(c)->n_vchannels * c->parts.n);
    }
    if ((int64_t)str_map_count(co->names) >= max) {
        FAIL(st, ERR_COLLECTION_LIMIT,
             "exceeded the limit number of collections[limit=%" PRId64 "]", max);
    }
    if (in_db >= max_db) {
        FAIL(st, ERR_COLLECTION_LIMIT,
             "exceeded the limit number of collections[dbName=%s][limit=%" PRId64 "]", db->name,
             max_db);
    }
    if (capacity > max_capacity) {
        FAIL(st, ERR_CAPACITY_EXCEEDED,
             "failed checking constraint: sum_collections(parition*shard) exceeding the max "
             "general capacity:%" PRId64 ": general capacity exceeded", max_capacity);
    }
out:
    return rc;
}

/* Shards are spread over the channels by how many each has. */
static void plan_shards(struct coord *co, struct plan *p, int64_t owner, int64_t term,
                        struct arena *ar)
{
    size_t *load = arena_alloc(ar, co->npchannels * sizeof *load);
    size_t pos = 0;
    struct slice vchannel;
    void *unused;

    while (str_map_next(co->vchannels, &pos, &vchannel, &unused)) {
        if (slice_starts(vchannel, SLICE_LIT("dml_"))) {
            unsigned long n = strtoul(vchannel.p + 4, NULL, 10); /* ends at the '_' behind it */
            load[MIN(n, co->npchannels - 1)]++;
        }
    }
    p->shards = arena_alloc(ar, p->nshards * sizeof *p->shards);
    p->coll.vchannels = arena_alloc(ar, p->nshards * sizeof(char *));
    for (size_t i = 0; i < p->nshards; i++) {
        Elanus__Shard *sh = &p->shards[i];
        size_t n = policy_pchannel(load, co->npchannels);
        load[n]++;
        elanus__shard__init(sh);
        sh->pchannel = arena_printf(ar, "dml_%zu", n);
        sh->vchannel = arena_printf(ar, "dml_%zu_%" PRId64 "v%zu", n, p->coll.id, i);
        sh->collection_id = p->coll.id;
        sh->owner = owner;
        sh->term = term;
        p->coll.vchannels[p->coll.n_vchannels++] = sh->vchannel;
    }
}

static int plan_ids(struct coord *co, const struct call *call, struct plan *p, struct status *st)
{
    Elanus__Collection *c = &p->coll;
    int64_t id;
    int rc = 0;

    TRY(co__id(co, (uint32_t)p->nparts + 1, call->deadline_us, &id, st));
    TRY(co__ts(co, 1, call->deadline_us, &c->created_ts, st));
    c->id = id;
    c->update_ts = c->created_ts;
    p->parts = arena_alloc(call->ar, p->nparts * sizeof *p->parts);
    for (size_t i = 0; i < p->nparts; i++) {
        Elanus__Partition *part = &p->parts[i];
        elanus__partition__init(part);
        part->id = id + 1 + (int64_t)i;
        part->collection_id = c->id;
        part->created_ts = c->created_ts;
        part->name = c->num_partitions > 0
                         ? arena_printf(call->ar, CO_DEFAULT_PARTITION "_%zu", i)
                         : CO_DEFAULT_PARTITION;
    }
out:
    return rc;
}

static int commit_when_full(struct co_txn *tx, struct status *st)
{
    return co__txn_room(tx) == 0 ? co__commit(tx, st) : 0;
}

static int put_plan(struct co_txn *tx, struct plan *p, struct status *st)
{
    bool one = p->nparts + p->nshards + 1 <= META_TXN_OPS_MAX;
    int rc = 0;

    p->coll.state = one ? ELANUS__COLLECTION_STATE__COLLECTION_CREATED
                        : ELANUS__COLLECTION_STATE__COLLECTION_DROPPING;
    co__put(tx, CO_COLLECTION, &p->coll);
    for (size_t i = 0; i < p->nparts; i++) {
        TRY(commit_when_full(tx, st));
        co__put(tx, CO_PARTITION, &p->parts[i]);
    }
    for (size_t i = 0; i < p->nshards; i++) {
        TRY(commit_when_full(tx, st));
        co__put(tx, CO_SHARD, &p->shards[i]);
    }
    TRY(co__commit(tx, st));
    if (!one) {
        p->coll.state = ELANUS__COLLECTION_STATE__COLLECTION_CREATED;
        co__put(tx, CO_COLLECTION, &p->coll);
        TRY(co__commit(tx, st));
    }
out:
    return rc;
}

static int begin_drop(struct co_txn *tx, const struct co_coll *c, struct status *st)
{
    Elanus__Collection dropping = *co__pb(c);

    dropping.state = ELANUS__COLLECTION_STATE__COLLECTION_DROPPING;
    co__put(tx, CO_COLLECTION, &dropping);
    return co__commit(tx, st);
}

/* After a failure in the middle; the failure stays what is reported. */
static void roll_back(struct coord *co, const struct call *call, int64_t id)
{
    struct status st = STATUS_INIT;
    struct co_coll *c = id_map_ptr(co->colls, id);
    struct co_txn tx;

    co__txn_init(&tx, co, call->ar);
    if (c && (begin_drop(&tx, c, &st) != 0 || co__drop_finish(co, call, c, &st) != 0)) {
        LOG_W("collection not rolled back, the next start will: coll=%" PRId64 " error=\"%s\"", id,
              st.msg);
    }
    co__txn_done(&tx);
}

/* The streaming node with the fewest shards; 0 when there is none yet. */
static int64_t pick_owner(struct coord *co, int64_t *ret_term)
{
    size_t *nshards = xalloc((co->nnodes + 1) * sizeof *nshards);
    size_t best = co->nnodes, pos = 0;
    struct slice key;
    void *v;

    while (str_map_next(co->names, &pos, &key, &v)) {
        const struct co_coll *c = v;
        for (size_t i = 0; i < c->shards.n; i++) {
            struct co_node *node = co__node(co, ((const Elanus__Shard *)c->shards.v[i]->pb)->owner);
            if (node) {
                nshards[node - co->nodes]++;
            }
        }
    }
    for (size_t i = 0; i < co->nnodes; i++) {
        if (co->nodes[i].streaming && (best == co->nnodes || nshards[i] < nshards[best])) {
            best = i;
        }
    }
    mem_free(nshards);
    *ret_term = best < co->nnodes ? co->nodes[best].term : 0;
    return best < co->nnodes ? co->nodes[best].id : 0;
}

static int create(struct coord *co, const struct call *call,
                  const Elanus__CreateCollectionReq *req, struct co_notice *no,
                  struct co_coll **ret, struct status *st)
{
    const Elanus__Database *db;
    struct plan p = { 0 };
    struct co_coll *c;
    struct co_txn tx;
    int64_t owner, term;
    int rc = 0;

    co__txn_init(&tx, co, call->ar);
    TRY(co__find_db(co, req->db_name, &db, st));
    TRY(plan_collection(co, call, req, &p, st));
    c = co__ddl_lookup(co, db->name, p.coll.name);
    if (c && strcmp(co__pb(c)->name, p.coll.name) != 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "collection name [%s] conflicts with an existing alias, "
             "please choose a unique name", p.coll.name);
    }
    if (c) {
        if (!same_definition(&p, co__pb(c))) {
            FAIL(st, ERR_PARAMETER_INVALID,
                 "create duplicate collection with different parameters, collection: %s",
                 p.coll.name);
        }
        *ret = c;
        goto out;
    }
    TRY(check_limits(co, &p, db, st));
    TRY(plan_ids(co, call, &p, st));
    rwlock_read(&co->state);
    owner = pick_owner(co, &term);
    plan_shards(co, &p, owner, term, call->ar);
    rwlock_release(&co->state);
    if (owner == 0) {
        FAIL(st, ST_NOT_READY, "no streaming node is there to take the shards of %s", p.coll.name);
    }
    no->collection_id = p.coll.id;
    no->db = p.coll.db_name;
    co__notice_name(no, p.coll.name);
    rc = put_plan(&tx, &p, st);
    if (rc == 0) {
        c = id_map_ptr(co->colls, p.coll.id);
        rc = co__send_open(co, call, owner, &c, 1, true, st);
    }
    if (rc != 0) {
        roll_back(co, call, p.coll.id);
        goto out;
    }
    *ret = c;
    LOG_I("collection created: coll=%" PRId64 " db=%s name=%s shards=%zu partitions=%zu",
          p.coll.id, p.coll.db_name, p.coll.name, p.nshards, p.nparts);
out:
    co__txn_done(&tx);
    return rc;
}

int co__root_create_collection(void *self, const struct call *call,
                               const Elanus__CreateCollectionReq *req,
                               Elanus__CollectionInfo *resp, struct status *st)
{
    struct coord *co = self;
    struct co_coll *c = NULL;
    struct co_notice no;
    int rc;

    co__ddl_begin(co, &no, call->ar);
    rc = create(co, call, req, &no, &c, st);
    if (rc == 0) {
        rwlock_read(&co->state);
        co__info(c, call->ar, resp);
        rwlock_release(&co->state);
    }
    co__ddl_end(co, &no);
    return rc;
}

/* ---- drop ---- */

static void drop_shards(struct coord *co, const struct call *call, const struct co_coll *c)
{
    struct co_shard_ref *shards;
    size_t n = co__shard_refs(co, c, call->ar, &shards);

    for (size_t i = 0; i < n; i++) {
        struct status st = STATUS_INIT;
        const struct snode_service *sn;
        Elanus__ShardReq req;
        Elanus__Empty resp;
        elanus__shard_req__init(&req);
        elanus__empty__init(&resp);
        req.vchannel = shards[i].vchannel;
        /* A node that does not have the shard, or is not there, has nothing to drop. */
        if (co__owner(co, &shards[i], &sn, &st) == 0 &&
            sn->drop_shard(sn->self, call, &req, &resp, &st) != 0) {
            LOG_W("shard not dropped: shard=%s error=\"%s\"", shards[i].vchannel, st.msg);
        }
    }
}

int co__drop_finish(struct coord *co, const struct call *call, struct co_coll *c,
                    struct status *st)
{
    static const enum co_kind below[] = { CO_PARTITION, CO_INDEX, CO_SEGMENT, CO_DELTA,
                                          CO_SEGINDEX };
    int64_t id = c->id;
    struct co_txn tx;
    struct slice key;
    int rc = 0;

    co__txn_init(&tx, co, call->ar);
    drop_shards(co, call, c);
    co__send_release(co, call, id, NULL, 0);
    for (size_t i = 0; i < ARRAY_LEN(below); i++) {
        struct slice prefix = co__kind_prefix(below[i]);
        co__raw(&tx, meta_op_delete_prefix(slice_of(arena_printf(
                         call->ar, "%.*s%020" PRId64 "/", SLICE_ARG(prefix), id))));
    }
    rwlock_read(&co->state);
    for (size_t i = 0; i < c->shards.n; i++) {
        if (co__key(CO_SHARD, c->shards.v[i]->pb, call->ar, &key, &tx.st) == 0) {
            co__raw(&tx, meta_op_delete(key));
        }
    }
    rwlock_release(&co->state);
    if (c->load) {
        co__delete(&tx, CO_LOAD, c->load->pb);
    }
    co__delete(&tx, CO_COLLECTION, c->rec->pb);
    TRY(co__commit(&tx, st));
    LOG_I("collection dropped: coll=%" PRId64, id);
    TRY(FAULT_POINT("drop_before_gc", st));
    co__gc_collection(co, id);
    co__work_wake(co);
out:
    co__txn_done(&tx);
    return rc;
}

int co__drops_finish(struct coord *co, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    int rc = 0;

    for (bool found = true; found;) {
        size_t pos = 0;
        int64_t id;
        uint64_t v;
        found = false;
        while (!found && id_map_next(co->colls, &pos, &id, &v)) {
            struct co_coll *c = (struct co_coll *)(uintptr_t)v;
            if (co__pb(c)->state == ELANUS__COLLECTION_STATE__COLLECTION_DROPPING) {
                found = true;
                TRY(co__drop_finish(co, &call, c, st));
            }
        }
    }
out:
    arena_free(ar);
    return rc;
}

static const char *alias_list(const struct co_coll *c, struct arena *ar)
{
    const char *text = "";

    for (size_t i = 0; i < c->aliases.n; i++) {
        text = arena_printf(ar, "%s%s%s", text, i ? " " : "",
                            ((const Elanus__Alias *)c->aliases.v[i]->pb)->alias);
    }
    return text;
}

int co__root_drop_collection(void *self, const struct call *call, const Elanus__NameReq *req,
                             Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    const Elanus__Database *db;
    struct co_coll *c;
    struct co_notice no;
    struct co_txn tx;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    TRY(co__find_db(co, req->db_name, &db, st));
    c = co__ddl_lookup(co, db->name, req->name);
    if (!c) {
        goto out;
    }
    if (strcmp(co__pb(c)->name, req->name) != 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "cannot drop the collection via alias = %s", req->name);
    }
    if (c->aliases.n > 0) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "unable to drop the collection [%s] because it has associated aliases [%s], please "
             "remove all aliases before dropping the collection",
             req->name, alias_list(c, call->ar));
    }
    co__notice(&no, c);
    TRY(begin_drop(&tx, c, st));
    TRY(co__drop_finish(co, call, c, st));
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}
