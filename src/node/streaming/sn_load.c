/*
 * sn_load.c - from flushed to readable: how a sealed segment enters a shard's view.
 *
 * WHAT      Compares what is to be readable with what is, in rounds:
 *             1 look     (sequencer) flushed segments in what is to be loaded that no node serves
 *             2 load     on the nodes the coordinator names, with the shard's delete files
 *             3 publish  (sequencer) delete files made since 1 and pending deletes follow; then the
 *                        segments are served, and growing ones with the same rows go
 *           until nothing is missing. Flush, load, release, start and repair all end here;
 *           sn_replace.c takes the same steps with a segment that is to take the place of others.
 * INVARIANTS  A segment is served (node_id != 0) only when its node has the shard's definition and
 *             every delete that is applied in this shard; from then on sn_apply.c sends it each
 *             further delete and sn__send_definition() each change, or it is served no more. `load`
 *             of the shard changes only when everything it asks for is served, or shown growing.
 * THREADS   Any but the sequencer. One round-taker per shard (`loading`), others wait: two would
 *           release each other's segments. So what is to be loaded (sh->load) changes only for
 *           whoever is inside, but that the shard or a partition can be dropped at any time. It is
 *           no lock, because it is held over calls: to
 *           query.place_segments(), which takes tables of the coordinator only, and to query nodes.
 * FAILURE   What was loaded and is not served is released again; what is missing stays growing, or
 *           is `missing` in the view, and the flush thread tries again.
 */
#include "node/streaming/sn_load.h"
#include "base/alloc.h"
#include "base/log.h"
#include "schema/errors.h"

#define LOG_ROOM "node"

/* Each round but the last found segments that were flushed in the round before. */
#define ROUNDS_MAX 100

static int64_t placed_on(Elanus__Placement *const *placements, size_t n, int64_t segment_id)
{
    for (size_t i = 0; i < n; i++) {
        if (placements[i]->segment_id == segment_id) {
            return placements[i]->node_id;
        }
    }
    return 0;
}

static const Elanus__Load *target_of(const struct sn_round *r, const struct sn_shard *sh)
{
    return r->target ? r->target : sh->load;
}

/* ---- 1 ---- */

int sn__round_look(struct sn_round *r, const struct sn_shard *sh, size_t n, struct status *st)
{
    r->segs = arena_try_array(r->ar, n + 1, sizeof(Elanus__Segment *));
    r->nodes = arena_try_array(r->ar, n + 1, sizeof *r->nodes);
    r->deltas = arena_try_array(r->ar, sh->ndeltas + 1, sizeof(Elanus__Delta *));
    if (!r->segs || !r->deltas || !r->nodes) {
        return st_fail(st, ST_NO_MEMORY, "no memory to load %zu segments", n);
    }
    r->nsegs = 0;
    r->ndeltas = sh->ndeltas;
    for (size_t i = 0; i < sh->ndeltas; i++) {
        r->deltas[i] = sh->deltas[i];
    }
    return 0;
}

static int look(struct sn_channel *ch, struct sn_msg *m)
{
    struct sn_round *r = m->arg;
    struct sn_shard *sh = m->shard;
    const Elanus__Load *target = target_of(r, sh);
    int rc;

    (void)ch;
    TRY(sn__round_look(r, sh, sh->nsealed, &m->st));
    for (size_t i = 0; i < sh->nsealed; i++) {
        const struct sn_sealed *s = &sh->sealed[i];
        if (s->node_id == 0 && sn__load_wants(target, s->meta->partition_id)) {
            r->segs[r->nsegs++] = s->meta;
        }
    }
    r->collection = r->nsegs ? sn__copy(&sh->collection->pb, r->ar) : NULL;
out:
    return rc;
}

/* ---- 2 ---- */

/* Nodes from the hints; the coordinator is asked for what is not among them. */
static int place(struct sn_round *r, struct sn_shard *sh, const struct call *call, struct status *st)
{
    const struct query_service *query = sh->sn->opts.query;
    Elanus__PlaceSegmentsReq req;
    Elanus__PlaceSegmentsResp resp;
    int rc = 0;

    elanus__place_segments_req__init(&req);
    elanus__place_segments_resp__init(&resp);
    req.segment_ids = arena_try_array(r->ar, r->nsegs + 1, sizeof(int64_t));
    if (!req.segment_ids) {
        FAIL(st, ST_NO_MEMORY, "no memory to place %zu segments", r->nsegs);
    }
    for (size_t i = 0; i < r->nsegs; i++) {
        r->nodes[i] = placed_on(r->hints, r->nhints, r->segs[i]->id);
        if (r->nodes[i] == 0) {
            req.segment_ids[req.n_segment_ids++] = r->segs[i]->id;
        }
    }
    if (req.n_segment_ids == 0) {
        goto out;
    }
    req.collection_id = sh->collection_id;
    req.vchannel = sh->vchannel;
    TRY(query->place_segments(query->self, call, &req, &resp, st));
    for (size_t i = 0; i < r->nsegs; i++) {
        if (r->nodes[i] == 0) {
            r->nodes[i] = placed_on(resp.placements, resp.n_placements, r->segs[i]->id);
        }
    }
out:
    return rc;
}

static int load_on(struct sn_round *r, struct sn_shard *sh, int64_t node, size_t from,
                   const struct call *call, struct status *st)
{
    const struct qnode_service *qs;
    Elanus__LoadSegmentsReq req;
    Elanus__Empty resp;
    int rc = 0;

    elanus__load_segments_req__init(&req);
    elanus__empty__init(&resp);
    req.segments = arena_try_array(r->ar, r->nsegs + 1, sizeof(Elanus__Segment *));
    if (!req.segments) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu segments", r->nsegs);
    }
    for (size_t i = from; i < r->nsegs; i++) {
        if (r->nodes[i] == node) {
            req.segments[req.n_segments++] = r->segs[i];
        }
    }
    req.collection_id = sh->collection_id;
    req.collection = r->collection;
    req.deltas = r->deltas;
    req.n_deltas = r->ndeltas;
    TRY(svc_dir_qnode(sh->sn->opts.dir, node, &qs, st));
    TRY(qs->load_segments(qs->self, call, &req, &resp, st));
out:
    return rc;
}

int sn__round_load(struct sn_round *r, struct sn_shard *sh, const struct call *call,
                   struct status *st)
{
    int rc;

    TRY(place(r, sh, call, st));
    for (size_t i = 0; i < r->nsegs; i++) {
        bool first = r->nodes[i] != 0;
        for (size_t j = 0; j < i; j++) {
            first = first && r->nodes[j] != r->nodes[i];
        }
        if (first) {
            TRY(load_on(r, sh, r->nodes[i], i, call, st));
        }
    }
out:
    return rc;
}

/* ---- 3 ---- */

void sn__release_on_node(struct sn_shard *sh, int64_t node, int64_t segment_id)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    struct status st = STATUS_INIT;
    const struct qnode_service *qs;
    Elanus__ReleaseSegmentsReq req;
    Elanus__Empty resp;

    elanus__release_segments_req__init(&req);
    elanus__empty__init(&resp);
    req.collection_id = sh->collection_id;
    req.segment_ids = &segment_id;
    req.n_segment_ids = 1;
    if (svc_dir_qnode(sh->sn->opts.dir, node, &qs, &st) != 0 ||
        qs->release_segments(qs->self, &call, &req, &resp, &st) != 0) {
        LOG_W("segment not released: seg=%lld node=%lld error=\"%s\"", (long long)segment_id,
              (long long)node, st.msg);
    }
    arena_free(ar);
}

/* Delete files that a flush made since the round began: the segments just loaded lack them. */
static int catch_up(struct sn_round *r, struct sn_shard *sh, const struct sn_sealed *to, size_t n,
                    struct status *st)
{
    int rc = 0;

    for (size_t i = r->ndeltas; n && i < sh->ndeltas && rc == 0; i++) {
        const Elanus__Delta *d = sh->deltas[i];
        struct arena *ar = arena_new(0);
        struct sn_group g = { .scope = { d->n_partition_ids, d->partition_ids } };
        rc = delta_read(sh->sn->opts.os, d->object_key, ar, &g.pks, &g.ts, st);
        if (rc == 0) {
            rc = sn__send_group(sh, &g, to, n, NULL, st);
        }
        arena_free(ar);
    }
    return rc;
}

/* Whether to[i] is on a node, and the first of those that are on it. */
static bool first_of_node(const struct sn_sealed *to, size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (to[j].node_id == to[i].node_id) {
            return false;
        }
    }
    return to[i].node_id != 0;
}

/* Tells a node the definition of now. */
static int define(struct sn_shard *sh, int64_t node, struct arena *ar, struct status *st)
{
    struct call call = call_internal(ar);
    const struct qnode_service *qs;
    Elanus__LoadSegmentsReq req;
    Elanus__Empty resp;
    int rc;

    elanus__load_segments_req__init(&req);
    elanus__empty__init(&resp);
    req.collection_id = sh->collection_id;
    req.collection = sh->collection;
    TRY(svc_dir_qnode(sh->sn->opts.dir, node, &qs, st));
    TRY(qs->load_segments(qs->self, &call, &req, &resp, st));
out:
    return rc;
}

void sn__send_definition(struct sn_shard *sh)
{
    struct arena *ar = arena_new(0);

    for (size_t i = 0; i < sh->nsealed; i++) {
        const int64_t node = sh->sealed[i].node_id;
        struct status st = STATUS_INIT;
        if (!first_of_node(sh->sealed, i) || define(sh, node, ar, &st) == 0) {
            continue;
        }
        LOG_W("node was not told of a definition, its segments are to be loaded again: shard=%s "
              "node=%lld error=\"%s\"", sh->vchannel, (long long)node, st.msg);
        for (size_t j = i; j < sh->nsealed; j++) {
            if (sh->sealed[j].node_id == node) {
                sh->sealed[j].node_id = 0;
            }
        }
    }
    arena_free(ar);
}

/* The nodes show them to readers: everything deleted so far is deleted there. */
static int serve(struct sn_shard *sh, const struct sn_sealed *to, size_t n, struct arena *ar,
                 struct status *st)
{
    struct call call = call_internal(ar);
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        const struct qnode_service *qs;
        Elanus__ApplyDeletesReq req;
        Elanus__Empty resp;
        if (!first_of_node(to, i)) {
            continue;
        }
        elanus__apply_deletes_req__init(&req);
        elanus__empty__init(&resp);
        req.collection_id = sh->collection_id;
        req.activate = true;
        req.segment_ids = arena_try_array(ar, n, sizeof(int64_t));
        if (!req.segment_ids) {
            FAIL(st, ST_NO_MEMORY, "no memory for %zu segments", n);
        }
        for (size_t j = i; j < n; j++) {
            if (to[j].node_id == to[i].node_id) {
                req.segment_ids[req.n_segment_ids++] = to[j].meta->id;
            }
        }
        TRY(svc_dir_qnode(sh->sn->opts.dir, to[i].node_id, &qs, st));
        TRY(qs->apply_deletes(qs->self, &call, &req, &resp, st));
    }
out:
    return rc;
}

int sn__round_serve(struct sn_round *r, struct sn_shard *sh, const struct sn_sealed *to, size_t n,
                    struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        bool changed = r->collection->update_ts != sh->collection->update_ts; /* since the look */
        if (changed && first_of_node(to, i)) {
            TRY(define(sh, to[i].node_id, r->ar, st));
        }
    }
    TRY(catch_up(r, sh, to, n, st));
    TRY(sn__send_pending(sh, to, n, NULL, st));
    TRY(serve(sh, to, n, r->ar, st));
out:
    return rc;
}

/* The loaded segments are served; those that are not to be any more go. */
static int finish_loaded(struct sn_round *r, struct sn_shard *sh, struct status *st)
{
    const Elanus__Load *target = target_of(r, sh);
    struct sn_sealed *to = arena_try_array(r->ar, r->nsegs + 1, sizeof *to);
    size_t n = 0;
    int rc = 0;

    if (!to) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu segments", r->nsegs);
    }
    for (size_t i = 0; i < r->nsegs; i++) {
        const struct sn_sealed *s = sn__sealed_find(sh, r->segs[i]->id);
        if (r->nodes[i] && s && sn__load_wants(target, s->meta->partition_id)) {
            to[n++] = (struct sn_sealed){ s->meta, r->nodes[i] };
        } else if (r->nodes[i]) {
            sn__release_on_node(sh, r->nodes[i], r->segs[i]->id);
            r->nodes[i] = 0;
        }
    }
    TRY(sn__round_serve(r, sh, to, n, st));
    for (size_t i = 0; i < n; i++) {
        sn__sealed_find(sh, to[i].meta->id)->node_id = to[i].node_id;
    }
out:
    return rc;
}

/* A segment that was in no round yet; or one that the coordinator gave no node. */
static void find_missing(struct sn_round *r, const struct sn_shard *sh)
{
    const Elanus__Load *target = target_of(r, sh);

    r->again = false;
    r->complete = true;
    for (size_t i = 0; i < sh->nsealed; i++) {
        bool seen = false;
        if (sh->sealed[i].node_id || !sn__load_wants(target, sh->sealed[i].meta->partition_id)) {
            continue;
        }
        for (size_t j = 0; j < r->nsegs; j++) {
            seen = seen || r->segs[j]->id == sh->sealed[i].meta->id;
        }
        r->complete = false;
        r->again = r->again || !seen;
    }
}

static int publish(struct sn_channel *ch, struct sn_msg *m)
{
    struct sn_round *r = m->arg;
    struct sn_shard *sh = m->shard;
    int rc = 0;

    (void)ch;
    if (sh->dropped) {
        for (size_t i = 0; i < r->nsegs; i++) {
            if (r->nodes[i]) {
                sn__release_on_node(sh, r->nodes[i], r->segs[i]->id);
            }
        }
        r->again = false;
        r->complete = true;
        goto out;
    }
    TRY(finish_loaded(r, sh, &m->st));
    find_missing(r, sh);
    if (r->complete && r->target) {
        sn__set_load(sh, r->target);
        r->target = NULL;
    }
    for (size_t i = 0; i < sh->nsealed; i++) { /* the coordinator tells the node */
        if (!r->target && !sn__load_wants(sh->load, sh->sealed[i].meta->partition_id)) {
            sh->sealed[i].node_id = 0;
        }
    }
    sn__swap_flushed(sh);
    sn__view_publish(sh);
out:
    return rc;
}

/* After a failure. */
static int give_back(struct sn_channel *ch, struct sn_msg *m)
{
    struct sn_round *r = m->arg;
    struct sn_shard *sh = m->shard;

    (void)ch;
    for (size_t i = 0; i < r->nsegs; i++) {
        const struct sn_sealed *s = sn__sealed_find(sh, r->segs[i]->id);
        if (r->nodes[i] && !(s && s->node_id)) {
            sn__release_on_node(sh, r->nodes[i], r->segs[i]->id);
        }
    }
    return 0;
}

/* ---- rounds ---- */

bool sn__loading_begin(struct sn_shard *sh, bool wait)
{
    bool mine;

    net_wait_begin();
    lock_acquire(&sh->lock);
    while (sh->loading && wait) {
        cond_wait(&sh->load_free, &sh->lock);
    }
    mine = !sh->loading;
    sh->loading = true;
    lock_release(&sh->lock);
    net_wait_end();
    return mine;
}

void sn__loading_end(struct sn_shard *sh)
{
    lock_acquire(&sh->lock);
    sh->loading = false;
    cond_signal(&sh->load_free);
    lock_release(&sh->lock);
}

static void set_load_failed(struct sn_shard *sh, int rc, const struct status *st)
{
    lock_acquire(&sh->lock);
    sh->load_failed = rc == 0 ? (struct status)STATUS_INIT : *st;
    lock_release(&sh->lock);
}

static int one_round(struct sn_round *r, struct sn_shard *sh, const struct call *call,
                     struct status *st)
{
    struct status ignored = STATUS_INIT;
    int rc;

    TRY(sn__control(sh->ch, sh, look, r, st));
    rc = sn__round_load(r, sh, call, st);
    if (rc == 0) {
        rc = sn__control(sh->ch, sh, publish, r, st);
    }
    if (rc != 0) { /* a stopping channel needs no giving back */
        (void)sn__control(sh->ch, sh, give_back, r, &ignored);
    }
out:
    return rc;
}

int sn__reconcile(struct sn_shard *sh, const struct sn_want *want, const struct call *call,
                  struct status *st)
{
    struct sn_round r = {
        .target = want->load, .hints = want->placements, .nhints = want->nplacements
    };
    int rc = 0;

    if (!sn__loading_begin(sh, want->wait)) {
        return st_fail(st, ST_BUSY, "shard %s is being loaded", sh->vchannel);
    }
    r.ar = arena_new(0);
    for (int i = 0; i < ROUNDS_MAX; i++) {
        TRY(one_round(&r, sh, call, st));
        if (!r.again) {
            break;
        }
        arena_reset(r.ar);
    }
    if (!r.complete) {
        FAIL(st, ST_UNAVAILABLE, "shard %s: flushed segments have no query node", sh->vchannel);
    }
out:
    set_load_failed(sh, rc, st);
    sn__loading_end(sh);
    arena_free(r.ar);
    return rc;
}

/* ---- repair ---- */

static bool holds(const Elanus__SegmentStatsResp *resp, int64_t segment_id)
{
    for (size_t i = 0; i < resp->n_segments; i++) {
        if (resp->segments[i]->segment_id == segment_id) {
            return true;
        }
    }
    return false;
}

static int verify(struct sn_channel *ch, struct sn_msg *m)
{
    struct sn_shard *sh = m->shard;
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    Elanus__SegmentStatsResp resp;
    Elanus__ReleaseSegmentsReq req;
    int64_t asked = 0;
    bool any = false;
    int rc = 0;

    (void)ch;
    elanus__release_segments_req__init(&req);
    req.collection_id = sh->collection_id;
    for (size_t i = 0; i < sh->nsealed; i++) {
        struct sn_sealed *s = &sh->sealed[i];
        const struct qnode_service *qs;
        if (s->node_id != 0 && s->node_id != asked) {
            asked = s->node_id;
            elanus__segment_stats_resp__init(&resp);
            TRY(svc_dir_qnode(sh->sn->opts.dir, asked, &qs, &m->st));
            TRY(qs->stats(qs->self, &call, &req, &resp, &m->st));
        }
        if (s->node_id != 0 && !holds(&resp, s->meta->id)) {
            LOG_W("segment is not on its node, to be loaded again: shard=%s seg=%lld node=%lld",
                  sh->vchannel, (long long)s->meta->id, (long long)s->node_id);
            s->node_id = 0;
            any = true;
        }
    }
    if (any) {
        sn__view_publish(sh);
    }
out:
    arena_free(ar);
    return rc;
}

int sn__verify_loaded(struct sn_shard *sh, struct status *st)
{
    return sn__control(sh->ch, sh, verify, NULL, st);
}
