/*
 * px_route.c - which node owns which shard of a collection.
 *
 * The answer of the streaming coordinator is kept with the cached collection: a search asks for it
 * every time. When a shard moves, the coordinator invalidates the collection; a call that finds the
 * old owner gone uses px_collection_forget().
 * THREADS  Any. A route is immutable; coll->route is set once by compare-and-swap (release, paired
 *          with the acquire here), the loser's copy is freed.
 */
#include "base/alloc.h"
#include "proxy/px_int.h"
#include "proxy/px_route.h"
#include <stdatomic.h>

struct px_route {
    size_t n;
    struct px_shard shards[];
};

void px_route_free(struct px_route *r)
{
    mem_free(r);
}

static const Elanus__ShardLocation *location_of(const Elanus__LocateResp *resp,
                                                const char *vchannel)
{
    for (size_t i = 0; i < resp->n_shards; i++) {
        if (strcmp(resp->shards[i]->vchannel, vchannel) == 0) {
            return resp->shards[i];
        }
    }
    return NULL;
}

/* A node that is new to this process is entered by its address. */
static int owner(struct proxy *px, const Elanus__ShardLocation *at,
                 const struct snode_service **ret, struct status *st)
{
    struct status ignored = STATUS_INIT;
    int rc;

    if (svc_dir_snode(px->opts.dir, at->node_id, ret, &ignored) == 0) {
        return 0;
    }
    if (at->address[0] != '\0') {
        TRY(svc_dir_add_remote(px->opts.dir, at->node_id, at->address, st));
    }
    TRY(svc_dir_snode(px->opts.dir, at->node_id, ret, st));
out:
    return rc;
}

static int locate(struct px_call *pc, const struct px_coll *coll, struct px_route **ret,
                  struct status *st)
{
    const struct streaming_service *streaming = pc->px->opts.streaming;
    Elanus__LocateReq req = ELANUS__LOCATE_REQ__INIT;
    Elanus__LocateResp resp = ELANUS__LOCATE_RESP__INIT;
    size_t n = coll->pb->n_vchannels;
    struct px_route *r = NULL;
    int rc;

    if (pc->call.no_wait) {
        return st_fail(st, ST_WOULD_WAIT, "the coordinator is to be asked");
    }
    req.collection_id = coll->pb->id;
    TRY(streaming->locate(streaming->self, &pc->call, &req, &resp, st));
    r = xalloc(sizeof *r + n * sizeof r->shards[0]);
    for (size_t i = 0; i < n; i++) {
        const char *vchannel = coll->pb->vchannels[i];
        const Elanus__ShardLocation *at = location_of(&resp, vchannel);
        if (!at) {
            FAIL(st, ST_UNAVAILABLE, "shard %s of collection %s has no owner", vchannel,
                 coll->pb->name);
        }
        r->shards[i].vchannel = vchannel;
        TRY(owner(pc->px, at, &r->shards[i].sn, st));
    }
    r->n = n;
    *ret = TAKE(r);
out:
    mem_free(r);
    return rc;
}

int px_shards(struct px_call *pc, const struct px_coll *coll, struct px_shard **ret, size_t *ret_n,
              struct status *st)
{
    /* The cache's entry is const to handlers; its route is the one thing that is filled in late. */
    struct px_coll *entry = (struct px_coll *)(uintptr_t)coll;
    struct px_route *r = atomic_load_explicit(&entry->route, memory_order_acquire);
    struct px_route *expected = NULL, *made = NULL;
    int rc = 0;

    if (!r) {
        TRY(locate(pc, coll, &made, st));
        if (atomic_compare_exchange_strong_explicit(&entry->route, &expected, made,
                                                    memory_order_acq_rel, memory_order_acquire)) {
            r = TAKE(made);
        } else {
            r = expected;
        }
    }
    *ret = r->shards;
    *ret_n = r->n;
out:
    px_route_free(made);
    return rc;
}
