/*
 * co_place.c - which query node serves which segment: the decision is policy_place's, this file
 * keeps it. Nothing of it is stored: after a restart segments are placed anew.
 *
 * INVARIANT  A node's `rows` is the sum of num_rows over the segments placed on it.
 * THREADS    `state` as writer for every change.
 */
#include "coord/co_int.h"
#include "coord/policy.h"

struct co_node *co__node(struct coord *co, int64_t id)
{
    for (size_t i = 0; i < co->nnodes; i++) {
        if (co->nodes[i].id == id) {
            return &co->nodes[i];
        }
    }
    return NULL;
}

size_t co__nodes(struct coord *co, enum co_role role, int64_t *ret_ids)
{
    size_t n = 0;

    for (size_t i = 0; i < co->nnodes; i++) {
        const struct co_node *node = &co->nodes[i];
        if (role == CO_STREAMING ? node->streaming : role == CO_QUERY ? node->query : node->data) {
            ret_ids[n++] = co->nodes[i].id;
        }
    }
    return n;
}

void co__unplace_one(struct coord *co, struct co_coll *c, const Elanus__Segment *seg)
{
    uint64_t node_id;

    if (id_map_get(c->placed, seg->id, &node_id)) {
        struct co_node *node = co__node(co, (int64_t)node_id);
        if (node) {
            node->rows -= seg->num_rows;
        }
        id_map_remove(c->placed, seg->id);
    }
}

/* Segments to be served: of the shard, in what is loaded, among those asked for. */
static size_t wanted(const struct co_coll *c, const Elanus__Load *target, const char *vchannel,
                     const int64_t *segment_ids, size_t n, const Elanus__Segment **ret)
{
    size_t count = segment_ids ? n : c->segs.n;
    size_t found = 0;

    for (size_t i = 0; i < count; i++) {
        struct co_rec *rec = segment_ids ? co__list_get(&c->segs, segment_ids[i]) : c->segs.v[i];
        const Elanus__Segment *seg = rec ? rec->pb : NULL;
        if (seg && co__load_has(target, seg->partition_id) &&
            (!vchannel || strcmp(seg->vchannel, vchannel) == 0)) {
            ret[found++] = seg;
        }
    }
    return found;
}

static Elanus__Placement *placement(int64_t segment_id, int64_t node_id, struct arena *ar)
{
    Elanus__Placement *p = ARENA_NEW(ar, Elanus__Placement);

    elanus__placement__init(p);
    p->segment_id = segment_id;
    p->node_id = node_id;
    return p;
}

/* Holds: state, as writer */
static int place(struct coord *co, struct co_coll *c, const Elanus__Load *target,
                 const char *vchannel, const int64_t *segment_ids, size_t n, struct arena *ar,
                 Elanus__Placement ***ret, size_t *ret_n, struct status *st)
{
    struct policy_node *nodes = arena_alloc(ar, CO_NODES_MAX * sizeof *nodes);
    const Elanus__Segment **segs;
    Elanus__Placement **all;
    size_t nnodes = 0, nsegs;
    int rc = 0;

    segs = arena_try_array(ar, MAX(c->segs.n, n) + 1, sizeof(Elanus__Segment *));
    all = arena_try_array(ar, MAX(c->segs.n, n) + 1, sizeof(Elanus__Placement *));
    if (!segs || !all) {
        FAIL(st, ST_NO_MEMORY, "no memory to place %zu segments", c->segs.n);
    }
    nsegs = wanted(c, target, vchannel, segment_ids, n, segs);
    for (size_t i = 0; i < co->nnodes; i++) {
        if (co->nodes[i].query) {
            nodes[nnodes++] = (struct policy_node){ co->nodes[i].id, co->nodes[i].rows };
        }
    }
    if (nsegs > 0 && nnodes == 0) {
        FAIL(st, ST_UNAVAILABLE, "no query node to load %zu segments of collection %" PRId64,
             nsegs, c->id);
    }
    for (size_t i = 0; i < nsegs; i++) {
        uint64_t node_id;
        int64_t chosen;
        if (!id_map_get(c->placed, segs[i]->id, &node_id)) {
            policy_place(nodes, nnodes, &segs[i]->num_rows, 1, &chosen);
            if (!id_map_put(c->placed, segs[i]->id, (uint64_t)chosen)) {
                FAIL(st, ST_NO_MEMORY, "no memory to place %zu segments", nsegs);
            }
            co__node(co, chosen)->rows += segs[i]->num_rows;
            node_id = (uint64_t)chosen;
        }
        all[i] = placement(segs[i]->id, (int64_t)node_id, ar);
    }
    *ret = all;
    *ret_n = nsegs;
out:
    return rc;
}

int co__place(struct coord *co, struct co_coll *c, const Elanus__Load *target,
              const char *vchannel, const int64_t *segment_ids, size_t n, struct arena *ar,
              Elanus__Placement ***ret, size_t *ret_n, struct status *st)
{
    int rc;

    rwlock_write(&co->state);
    rc = place(co, c, target, vchannel, segment_ids, n, ar, ret, ret_n, st);
    rwlock_release(&co->state);
    return rc;
}

void co__unplace(struct coord *co, struct co_coll *c, const Elanus__Load *load, struct arena *ar,
                 int64_t **ret_ids, size_t *ret_n)
{
    size_t n = 0;

    rwlock_write(&co->state);
    *ret_ids = arena_alloc(ar, (c->segs.n + 1) * sizeof **ret_ids);
    for (size_t i = 0; i < c->segs.n; i++) {
        const Elanus__Segment *seg = c->segs.v[i]->pb;
        uint64_t node_id;
        if (id_map_get(c->placed, seg->id, &node_id) && !co__load_has(load, seg->partition_id)) {
            co__unplace_one(co, c, seg);
            (*ret_ids)[n++] = seg->id;
        }
    }
    rwlock_release(&co->state);
    *ret_n = n;
}

int co__query_place_segments(void *self, const struct call *call,
                             const Elanus__PlaceSegmentsReq *req, Elanus__PlaceSegmentsResp *resp,
                             struct status *st)
{
    struct coord *co = self;
    struct co_coll *c;
    int rc = 0;

    rwlock_write(&co->state);
    c = co__by_id(co, req->collection_id);
    if (c && co__load_target(c)) {
        rc = place(co, c, co__load_target(c), req->vchannel[0] ? req->vchannel : NULL,
                   req->segment_ids, req->n_segment_ids, call->ar, &resp->placements,
                   &resp->n_placements, st);
    }
    rwlock_release(&co->state);
    return rc;
}
