/*
 * co_send.c - what the coordinator tells nodes: open, definition, load, release.
 *
 * Everything sent is already committed, and a node that misses it learns it when its shards are
 * opened next. Requests are copied out of the tables first: no table lock is held over a call, so
 * nodes may call back (alloc_id, place_segments, commit_flush) from inside one.
 */
#include "coord/co_int.h"

#define LOG_ROOM "coord"
#include "base/log.h"

size_t co__shard_refs(struct coord *co, const struct co_coll *c, struct arena *ar,
                      struct co_shard_ref **ret)
{
    size_t n;

    rwlock_read(&co->state);
    n = c->shards.n;
    *ret = arena_alloc(ar, (n + 1) * sizeof **ret);
    for (size_t i = 0; i < n; i++) {
        const Elanus__Shard *sh = c->shards.v[i]->pb;
        (*ret)[i] = (struct co_shard_ref){ arena_strdup(ar, sh->vchannel), sh->owner };
    }
    rwlock_release(&co->state);
    return n;
}

int co__owner(struct coord *co, const struct co_shard_ref *sh, const struct snode_service **ret,
              struct status *st)
{
    struct co_node *node;
    bool there;

    rwlock_read(&co->state);
    node = co__node(co, sh->owner);
    there = node && node->streaming;
    rwlock_release(&co->state);
    if (!there) {
        st_fail(st, ERR_CHANNEL_NOT_AVAILABLE, "channel not available[channel=%s]", sh->vchannel);
        st->retriable = true;
        return st->code;
    }
    return svc_dir_snode(co->opts.dir, sh->owner, ret, st);
}

int co__send_definition(struct coord *co, const struct call *call, const struct co_coll *c,
                        struct status *st)
{
    struct co_shard_ref *shards;
    size_t n = co__shard_refs(co, c, call->ar, &shards);
    const struct snode_service *sn;
    Elanus__UpdateCollectionReq req;
    Elanus__Empty resp;
    int rc = 0;

    elanus__update_collection_req__init(&req);
    req.collection = c->rec->pb; /* changes only under ddl, which the caller holds */
    for (size_t i = 0; i < n; i++) {
        bool told = false;
        for (size_t j = 0; j < i; j++) {
            told |= shards[j].owner == shards[i].owner;
        }
        if (told) {
            continue;
        }
        struct status why = STATUS_INIT; /* others are to know all the same */
        elanus__empty__init(&resp);
        if ((co__owner(co, &shards[i], &sn, &why) != 0 ||
             sn->update_collection(sn->self, call, &req, &resp, &why) != 0) && rc == 0) {
            *st = why;
            rc = st->code;
        }
    }
    if (rc != 0) {
        st_context(st, "the change is made, a node could not be told");
    }
    return rc;
}

static void count_shard(struct coord *co, struct co_coll *c)
{
    rwlock_write(&co->state);
    c->loading.shards_done++;
    rwlock_release(&co->state);
}

int co__send_load(struct coord *co, const struct call *call, struct co_coll *c,
                  const Elanus__Load *load, struct status *st)
{
    struct co_shard_ref *shards;
    size_t n = co__shard_refs(co, c, call->ar, &shards);
    const struct snode_service *sn;
    Elanus__Load none;
    Elanus__SetLoadReq req;
    Elanus__Empty resp;
    int rc = 0;

    elanus__load__init(&none);
    none.collection_id = c->id;
    for (size_t i = 0; i < n; i++) {
        elanus__set_load_req__init(&req);
        elanus__empty__init(&resp);
        if (load) {
            TRY(co__place(co, c, load, shards[i].vchannel, NULL, 0, call->ar, &req.placements,
                          &req.n_placements, st));
        }
        rc = co__owner(co, &shards[i], &sn, st);
        if (rc != 0 && !load) { /* nobody serves it, nobody need be told */
            st_clear(st);
            rc = 0;
            continue;
        }
        TRY(rc);
        req.vchannel = shards[i].vchannel;
        req.load = load ? (Elanus__Load *)(uintptr_t)load : &none;
        TRY(sn->set_load(sn->self, call, &req, &resp, st));
        count_shard(co, c);
    }
out:
    return rc;
}

void co__send_release(struct coord *co, const struct call *call, int64_t collection_id,
                      const int64_t *ids, size_t n)
{
    int64_t *nodes = arena_alloc(call->ar, CO_NODES_MAX * sizeof *nodes);
    const struct qnode_service *qn;
    Elanus__ReleaseSegmentsReq req;
    Elanus__Empty resp;
    size_t nnodes;

    rwlock_read(&co->state);
    nnodes = co__nodes(co, CO_QUERY, nodes);
    rwlock_release(&co->state);
    elanus__release_segments_req__init(&req);
    req.collection_id = collection_id;
    req.segment_ids = (int64_t *)(uintptr_t)ids;
    req.n_segment_ids = n;
    for (size_t i = 0; i < nnodes; i++) {
        struct status st = STATUS_INIT;
        elanus__empty__init(&resp);
        if (svc_dir_qnode(co->opts.dir, nodes[i], &qn, &st) != 0 ||
            qn->release_segments(qn->self, call, &req, &resp, &st) != 0) {
            LOG_W("segments not released: node=%" PRId64 " coll=%" PRId64 " error=\"%s\"",
                  nodes[i], collection_id, st.msg);
        }
    }
}

/* The placed ones of the segments, by node: ids[i] is on nodes[i]. Holds: state */
static size_t placed_segments(const struct co_coll *c, const int64_t *ids, size_t n,
                              int64_t *ret_ids, int64_t *ret_nodes)
{
    size_t found = 0;

    for (size_t i = 0; i < (ids ? n : c->segs.n); i++) {
        int64_t id = ids ? ids[i] : c->segs.v[i]->id;
        uint64_t node;
        if (id_map_get(c->placed, id, &node)) {
            ret_ids[found] = id;
            ret_nodes[found++] = (int64_t)node;
        }
    }
    return found;
}

static void refresh_on(struct coord *co, const struct call *call, int64_t node,
                       Elanus__RefreshIndexesReq *req)
{
    struct status st = STATUS_INIT;
    const struct qnode_service *qn;
    Elanus__Empty resp;

    elanus__empty__init(&resp);
    if (svc_dir_qnode(co->opts.dir, node, &qn, &st) != 0 ||
        qn->refresh_indexes(qn->self, call, req, &resp, &st) != 0) {
        LOG_W("query node not told of index files: node=%" PRId64 " coll=%" PRId64
              " error=\"%s\"", node, req->collection_id, st.msg);
    }
}

void co__send_refresh(struct coord *co, const struct call *call, int64_t collection_id,
                      const int64_t *ids, size_t n, bool wait)
{
    Elanus__RefreshIndexesReq req;
    int64_t *placed = NULL, *nodes = NULL;
    struct co_coll *c;
    size_t nplaced = 0;

    rwlock_read(&co->state);
    c = co__by_id(co, collection_id);
    if (c) {
        placed = arena_alloc(call->ar, (MAX(n, c->segs.n) + 1) * sizeof *placed);
        nodes = arena_alloc(call->ar, (MAX(n, c->segs.n) + 1) * sizeof *nodes);
        nplaced = placed_segments(c, ids, n, placed, nodes);
    }
    rwlock_release(&co->state);
    elanus__refresh_indexes_req__init(&req);
    req.collection_id = collection_id;
    req.wait = wait;
    req.segment_ids = arena_alloc(call->ar, (nplaced + 1) * sizeof(int64_t));
    for (size_t i = 0; i < nplaced; i++) {
        int64_t node = nodes[i];
        if (node == 0) {
            continue; /* told with an earlier one */
        }
        req.n_segment_ids = 0;
        for (size_t j = i; j < nplaced; j++) {
            if (nodes[j] == node) {
                req.segment_ids[req.n_segment_ids++] = placed[j];
                nodes[j] = 0;
            }
        }
        refresh_on(co, call, node, &req);
    }
}

/* ---- opening shards ---- */

static void copy_list(const struct co_list *l, struct arena *ar, const char *vchannel,
                      bool segments, void ***ret, size_t *ret_n)
{
    void **v = arena_alloc(ar, (l->n + 1) * sizeof(void *));
    size_t n = 0;

    for (size_t i = 0; i < l->n; i++) {
        const char *of = segments ? ((const Elanus__Segment *)l->v[i]->pb)->vchannel
                                  : ((const Elanus__Delta *)l->v[i]->pb)->vchannel;
        if (strcmp(of, vchannel) == 0) {
            v[n++] = co__copy(l->v[i]->pb, ar);
        }
    }
    *ret = v;
    *ret_n = n;
}

static Elanus__OpenShardReq *open_req(struct co_coll *c, const Elanus__Shard *sh, bool fresh,
                                      Elanus__Placement **placements, size_t nplacements,
                                      struct arena *ar)
{
    Elanus__OpenShardReq *req = ARENA_NEW(ar, Elanus__OpenShardReq);

    elanus__open_shard_req__init(req);
    req->fresh = fresh;
    req->shard = co__copy(&sh->pb, ar);
    req->collection = co__copy(c->rec->pb, ar);
    req->load = c->load ? co__copy(c->load->pb, ar) : NULL;
    copy_list(&c->segs, ar, sh->vchannel, true, (void ***)&req->segments, &req->n_segments);
    copy_list(&c->deltas, ar, sh->vchannel, false, (void ***)&req->deltas, &req->n_deltas);
    req->partition_ids = arena_alloc(ar, (c->parts.n + 1) * sizeof(int64_t));
    for (size_t i = 0; i < c->parts.n; i++) {
        req->partition_ids[req->n_partition_ids++] = c->parts.v[i]->id;
    }
    req->placements = arena_alloc(ar, (nplacements + 1) * sizeof(Elanus__Placement *));
    for (size_t i = 0; i < nplacements; i++) {
        struct co_rec *seg = co__list_get(&c->segs, placements[i]->segment_id);
        if (seg && strcmp(((const Elanus__Segment *)seg->pb)->vchannel, sh->vchannel) == 0) {
            req->placements[req->n_placements++] = placements[i];
        }
    }
    return req;
}

int co__send_open(struct coord *co, const struct call *call, int64_t node_id,
                  struct co_coll *const *colls, size_t ncolls, bool fresh, struct status *st)
{
    const struct snode_service *sn;
    Elanus__OpenShardsReq req;
    Elanus__Empty resp;
    size_t cap = 0;
    int rc = 0;

    elanus__open_shards_req__init(&req);
    elanus__empty__init(&resp);
    for (size_t i = 0; i < ncolls; i++) {
        cap += co__pb(colls[i])->n_vchannels;
    }
    req.shards = arena_alloc(call->ar, (cap + 1) * sizeof(Elanus__OpenShardReq *));
    for (size_t i = 0; i < ncolls; i++) {
        struct co_coll *c = colls[i];
        Elanus__Placement **placements = NULL;
        size_t nplacements = 0;
        struct status place_st = STATUS_INIT;
        if (c->load && co__place(co, c, c->load->pb, NULL, NULL, 0, call->ar, &placements,
                                 &nplacements, &place_st) != 0) {
            LOG_W("segments wait for a query node: coll=%" PRId64 " error=\"%s\"", c->id,
                  place_st.msg);
        }
        rwlock_read(&co->state);
        for (size_t j = 0; j < c->shards.n && req.n_shards < cap; j++) {
            const Elanus__Shard *sh = c->shards.v[j]->pb;
            if (sh->owner == node_id) {
                req.shards[req.n_shards++] =
                    open_req(c, sh, fresh, placements, nplacements, call->ar);
            }
        }
        rwlock_release(&co->state);
    }
    if (req.n_shards > 0) {
        TRY(svc_dir_snode(co->opts.dir, node_id, &sn, st));
        TRY(sn->open_shards(sn->self, call, &req, &resp, st));
    }
out:
    return rc;
}

int co__shard_stats(struct coord *co, const struct call *call, int64_t collection_id,
                    Elanus__ShardStats ***ret, size_t *ret_n, struct status *st)
{
    struct co_shard_ref *shards = NULL;
    Elanus__ShardStats **all;
    struct co_coll *c;
    size_t n = 0, total = 0, cap;
    int rc = 0;

    rwlock_read(&co->state);
    c = co__by_id(co, collection_id);
    n = c ? c->shards.n : 0;
    shards = arena_alloc(call->ar, (n + 1) * sizeof *shards);
    for (size_t i = 0; i < n; i++) {
        const Elanus__Shard *sh = c->shards.v[i]->pb;
        shards[i] = (struct co_shard_ref){ arena_strdup(call->ar, sh->vchannel), sh->owner };
    }
    rwlock_release(&co->state);
    cap = n;
    all = arena_alloc(call->ar, (cap + 1) * sizeof(Elanus__ShardStats *));
    for (size_t i = 0; i < n; i++) {
        const struct snode_service *sn;
        Elanus__ShardReq req;
        Elanus__ShardStatsResp resp;
        elanus__shard_req__init(&req);
        elanus__shard_stats_resp__init(&resp);
        req.vchannel = shards[i].vchannel;
        TRY(co__owner(co, &shards[i], &sn, st));
        TRY(sn->stats(sn->self, call, &req, &resp, st));
        for (size_t j = 0; j < resp.n_shards && total < cap; j++) {
            if (strcmp(resp.shards[j]->vchannel, shards[i].vchannel) == 0) {
                all[total++] = resp.shards[j];
            }
        }
    }
    *ret = all;
    *ret_n = total;
out:
    return rc;
}
