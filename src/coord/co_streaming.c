/*
 * co_streaming.c - nodes that register, and which streaming node owns which shard.
 *
 * A registering streaming node gets a term greater than every one before, takes the shards that
 * policy_takes_shard() gives it, and has opened them (replayed their log) when register_node()
 * returns. The term stands in the shard's record: a flush of an earlier owner is refused, and its
 * log is fenced by the node that opens it. A data node only becomes known, and a query node, which
 * whoever loads next uses. A query node that registers again has lost what it held: the shards are
 * told to load there again.
 */
#include "coord/co_int.h"
#include "coord/policy.h"

#define LOG_ROOM "coord"
#include "base/log.h"

#define TERM_KEY "/elanus/streaming/term"

static int read_term(struct coord *co, struct arena *ar, int64_t *ret, struct status *st)
{
    struct meta_item item;
    Elanus__Bound *pb;
    int rc = 0;

    TRY(meta_get(co->opts.meta, SLICE_LIT(TERM_KEY), ar, &item, st));
    *ret = 0;
    if (item.version != 0) {
        pb = proto_unpack(&elanus__bound__descriptor, item.value, ar, st);
        if (!pb) {
            FAIL(st, ST_CORRUPT, "%s cannot be read", TERM_KEY);
        }
        *ret = (int64_t)pb->value;
    }
out:
    return rc;
}

/* The term is stored before any shard has it, in the first transaction of the registration. */
static int next_term(struct coord *co, struct co_txn *tx, int64_t *ret, struct status *st)
{
    Elanus__Bound pb;
    struct buf b;
    int64_t stored;
    int rc = 0;

    buf_init(&b, 64);
    TRY(read_term(co, tx->ar, &stored, st));
    elanus__bound__init(&pb);
    *ret = MAX(stored, co->term) + 1;
    pb.value = (uint64_t)*ret;
    CHECK(proto_pack(&pb.pb, &b));
    co__raw(tx, meta_op_put(SLICE_LIT(TERM_KEY), arena_copy(tx->ar, buf_slice(&b))));
out:
    buf_done(&b);
    return rc;
}

/* ---- taking shards ---- */

/* Copies of the shard records the node takes, and the collections they belong to. */
static size_t shards_to_take(struct coord *co, int64_t node_id, struct arena *ar,
                             Elanus__Shard ***ret_shards, struct co_coll ***ret_colls,
                             size_t *ret_ncolls)
{
    int64_t *live = arena_alloc(ar, CO_NODES_MAX * sizeof *live);
    size_t nlive, n = 0, ncolls = 0, pos = 0;
    struct slice key;
    void *v;

    rwlock_read(&co->state);
    nlive = co__nodes(co, CO_STREAMING, live);
    *ret_shards = arena_alloc(ar, (str_map_count(co->vchannels) + 1) * sizeof(Elanus__Shard *));
    *ret_colls = arena_alloc(ar, (str_map_count(co->names) + 1) * sizeof(struct co_coll *));
    while (str_map_next(co->names, &pos, &key, &v)) {
        struct co_coll *c = v;
        size_t before = n;
        for (size_t i = 0; i < c->shards.n; i++) {
            const Elanus__Shard *sh = c->shards.v[i]->pb;
            if (policy_takes_shard(sh->owner, node_id, live, nlive)) {
                (*ret_shards)[n++] = co__copy(&sh->pb, ar);
            }
        }
        if (n > before) {
            (*ret_colls)[ncolls++] = c;
        }
    }
    rwlock_release(&co->state);
    *ret_ncolls = ncolls;
    return n;
}

/* Under `commit`, so that a flush of the old owner does not slip in between copy and change. */
static int own_shards(struct co_txn *tx, Elanus__Shard **shards, size_t n, int64_t node_id,
                      int64_t term, struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        if (co__txn_room(tx) == 0) {
            TRY(co__commit_locked(tx, st));
        }
        shards[i]->owner = node_id;
        shards[i]->term = term;
        co__put(tx, CO_SHARD, shards[i]);
    }
    TRY(co__commit_locked(tx, st));
out:
    return rc;
}

static int take_shards(struct coord *co, const struct call *call, int64_t node_id,
                       int64_t *ret_term, struct status *st)
{
    Elanus__Shard **shards;
    struct co_coll **colls;
    size_t n, ncolls;
    struct co_txn tx;
    int64_t term;
    int rc = 0;

    co__txn_init(&tx, co, call->ar);
    lock_acquire(&co->commit);
    n = shards_to_take(co, node_id, call->ar, &shards, &colls, &ncolls);
    rc = next_term(co, &tx, &term, st);
    if (rc == 0) {
        rc = own_shards(&tx, shards, n, node_id, term, st);
    }
    lock_release(&co->commit);
    TRY(rc);
    co->term = term;
    TRY(co__send_open(co, call, node_id, colls, ncolls, false, st));
    LOG_I("shards opened: node=%" PRId64 " term=%" PRId64 " shards=%zu", node_id, term, n);
    *ret_term = term;
out:
    co__txn_done(&tx);
    return rc;
}

/* ---- query nodes ---- */

/* A node that comes back is empty: what was placed there is placed again. */
static void forget_placements(struct coord *co, int64_t node_id)
{
    size_t pos = 0;
    int64_t id;
    uint64_t v;

    while (id_map_next(co->colls, &pos, &id, &v)) {
        struct co_coll *c = (struct co_coll *)(uintptr_t)v;
        for (size_t i = 0; i < c->segs.n; i++) {
            uint64_t on;
            if (id_map_get(c->placed, c->segs.v[i]->id, &on) && (int64_t)on == node_id) {
                co__unplace_one(co, c, c->segs.v[i]->pb);
            }
        }
    }
}

static void load_again(struct coord *co, const struct call *call)
{
    size_t pos = 0;
    struct slice key;
    void *v;

    while (str_map_next(co->names, &pos, &key, &v)) {
        struct co_coll *c = v;
        struct status st = STATUS_INIT;
        if (c->load && co__send_load(co, call, c, c->load->pb, &st) != 0) {
            LOG_W("not loaded on the node that came back: coll=%" PRId64 " error=\"%s\"", c->id,
                  st.msg);
        }
    }
}

/* ---- registering ---- */

static int remember(struct coord *co, const Elanus__NodeInfo *info, int64_t id,
                    enum co_role role, bool *ret_again, struct status *st)
{
    struct co_node *node;
    int rc = 0;

    rwlock_write(&co->state);
    node = co__node(co, id);
    *ret_again = node && (role == CO_STREAMING ? node->streaming
                          : role == CO_QUERY   ? node->query
                                               : node->data);
    if (!node) {
        if (co->nnodes == CO_NODES_MAX) {
            FAIL(st, ST_QUOTA, "more than %d nodes", CO_NODES_MAX);
        }
        node = &co->nodes[co->nnodes++];
        *node = (struct co_node){ .id = id };
    }
    mem_free(node->address);
    node->address = xstrdup(info->address);
    if (role == CO_QUERY) {
        node->query = true;
        if (*ret_again) {
            forget_placements(co, id);
        }
    } else if (role == CO_WORK) {
        node->data = true;
    }
out:
    rwlock_release(&co->state);
    return rc;
}

static void serves(struct coord *co, int64_t id, int64_t term)
{
    rwlock_write(&co->state);
    co__node(co, id)->streaming = true;
    co__node(co, id)->term = term;
    rwlock_release(&co->state);
}

static int64_t free_node_id(struct coord *co)
{
    int64_t id = 1;

    rwlock_read(&co->state);
    for (size_t i = 0; i < co->nnodes; i++) {
        id = MAX(id, co->nodes[i].id + 1);
    }
    rwlock_release(&co->state);
    return id;
}

static bool role_of(const char *name, enum co_role *ret)
{
    static const char *const names[] = { [CO_STREAMING] = "streamingnode",
                                         [CO_QUERY] = "querynode",
                                         [CO_WORK] = "datanode" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], name) == 0) {
            *ret = (enum co_role)i;
            return true;
        }
    }
    return false;
}

int co__streaming_register_node(void *self, const struct call *call,
                                const Elanus__RegisterReq *req, Elanus__RegisterResp *resp,
                                struct status *st)
{
    struct coord *co = self;
    const Elanus__NodeInfo *info = req->node;
    struct co_notice no;
    enum co_role role = CO_STREAMING;
    bool again;
    int64_t id, term = 0;
    int rc = 0;

    co__ddl_begin(co, &no, call->ar);
    while (co->nbusy > 0) { /* a load under way would miss the node, or the node the load */
        cond_wait(&co->ddl_free, &co->ddl);
    }
    if (!info) {
        FAIL(st, ST_INVALID, "a node registers without saying who it is");
    }
    if (!role_of(info->role, &role)) {
        FAIL(st, ST_INVALID, "node role \"%s\": streamingnode, querynode or datanode expected",
             info->role);
    }
    id = info->node_id > 0 ? info->node_id : free_node_id(co);
    if (!co->opts.nodes_in_process) {
        TRY(svc_dir_add_remote(co->opts.dir, id, info->address, st));
    }
    TRY(remember(co, info, id, role, &again, st));
    if (role == CO_STREAMING) {
        TRY(take_shards(co, call, id, &term, st));
        serves(co, id, term);
    } else {
        co__builds_retry(co); /* it may be a newer program than those before */
        co__compacts_wake(co);
    }
    if (role == CO_QUERY && again) {
        load_again(co, call);
    }
    resp->node_id = id;
    resp->term = term;
    LOG_I("node registered: node=%" PRId64 " role=%s address=%s", id, info->role, info->address);
out:
    co__ddl_end(co, &no);
    return rc;
}

int co__streaming_locate(void *self, const struct call *call, const Elanus__LocateReq *req,
                         Elanus__LocateResp *resp, struct status *st)
{
    struct coord *co = self;
    struct co_coll *c;
    int rc = 0;

    rwlock_read(&co->state);
    c = co__by_id(co, req->collection_id);
    if (!c) {
        FAIL(st, ERR_COLLECTION_NOT_FOUND, "collection not found[collection=%" PRId64 "]",
             req->collection_id);
    }
    resp->shards = arena_alloc(call->ar, (c->shards.n + 1) * sizeof(Elanus__ShardLocation *));
    for (size_t i = 0; i < c->shards.n; i++) {
        const Elanus__Shard *sh = c->shards.v[i]->pb;
        const struct co_node *node = co__node(co, sh->owner);
        Elanus__ShardLocation *loc = ARENA_NEW(call->ar, Elanus__ShardLocation);
        elanus__shard_location__init(loc);
        loc->vchannel = arena_strdup(call->ar, sh->vchannel);
        loc->node_id = sh->owner;
        loc->address = node ? arena_strdup(call->ar, node->address) : "";
        resp->shards[resp->n_shards++] = loc;
    }
out:
    rwlock_release(&co->state);
    return rc;
}
