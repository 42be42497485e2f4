/*
 * sn_replace.c - one segment takes the place of others that it was written from.
 *
 * WHAT      The coordinator has, in one transaction, put a segment (the target) in the place of
 *           flushed ones (its sources): the same rows with the same timestamps, less those that no
 *           reader sees any more. The shard still reads the sources. In three steps:
 *             1 begin    (sequencer) what is asked for is checked; the delete files of now are noted
 *             2 load     the target on the node that the coordinator names, with these deletes and
 *                        with the index files there are: readers know nothing of it
 *             3 finish   (sequencer) the target gets the deletes since 1 and is served, the sources
 *                        leave the lists of flushed and of growing segments (they stand in the
 *                        latter when they were never loaded), and the view that says so is published
 *           and only then the sources' nodes may forget them. Where there is nothing to load (nothing
 *           was left of the sources, or nobody reads their partition) 1 and 3 are one step.
 * INVARIANTS  Rows are shown once. The target stands in no list of the shard before step 3, so no
 *           view, no round of loading, and no delete on its way sees it half done; and step 3 is one
 *           message of the sequencer: a view has either the sources or the target.
 *             A delete reaches whatever is shown. Up to step 3 the sources are shown, and get it like
 *           any segment (sn_apply.c). The target has it from the files noted in step 1 when it was in
 *           one by then; else, at step 3, it is in a file made since or still pending, and both are
 *           sent before the target is served (sn__round_serve). No write is applied between that and
 *           the end of step 3. Later ones find the target among the served segments.
 *             A read that holds the old view and comes to a source's node too late is told that the
 *           segment is not there, finds that the view has moved, and is made again in the new one at
 *           the same timestamp (sn_read.c): the view is published before the first source goes.
 *             Growing rows that are attached to a source (sn_tend.c) are searched without it from then
 *           on, and are attached to another segment: never to rows of the target by numbers that
 *           rows of a source had, as it has an id of its own.
 *             When the call is answered nobody opens the sources' files any more: whoever loads
 *           segments of the shard waits for `loading`, and knows no source afterwards. A source
 *           that was committed but is not remembered as flushed yet (sn_flush.c) leaves the growing
 *           segments here, and what is not among those is not remembered.
 * CALLER    The coordinator calls again until it is told that it is done: a call that finds nothing to
 *           do says so, and sources that are not known are passed over. A target becomes a source
 *           only after its own call was answered: until then the shard may not know it, and shows
 *           its sources. Sources are behind the shard's checkpoint, so that a replay brings none
 *           back. The log's rows of a source that is gone are nobody's: the target has them.
 * THREADS   Any but the sequencer, inside `loading` (sn_load.c) from before step 1 until the sources
 *           are released. Rounds of the flush thread come again after a pause, others wait.
 * FAILURE   The target could not be loaded or given its deletes: its node may forget it, the sources
 *           are shown as before. Nothing durable happens here: a shard that is opened anew has
 *           what metadata says, which is the target.
 *           The partition or the shard was dropped meanwhile: that is done, too.
 */
#include "node/streaming/sn_load.h"
#include "base/alloc.h"
#include "base/log.h"
#include "schema/errors.h"

#define LOG_ROOM "node"

struct replacing {
    const Elanus__ReplaceSegmentsReq *req;
    struct sn_round round;            /* of the target alone */
    bool done, dropped;
    size_t ngone;
    struct sn_sealed *gone;           /* left the view: for their nodes to forget */
};

/* ---- On the sequencer ---- */

static bool is_source(const Elanus__ReplaceSegmentsReq *req, int64_t id)
{
    for (size_t i = 0; i < req->n_source_ids; i++) {
        if (req->source_ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* What would show rows twice, or not at all. */
static int check(const Elanus__ReplaceSegmentsReq *req, struct sn_shard *sh, struct status *st)
{
    const Elanus__Segment *t = req->target;
    int rc = 0;

    if (t && (t->collection_id != sh->collection_id || strcmp(t->vchannel, sh->vchannel) != 0)) {
        FAIL(st, ST_INVALID, "target: segment %lld is of collection %lld, shard %s, not of %lld, %s",
             (long long)t->id, (long long)t->collection_id, t->vchannel,
             (long long)sh->collection_id, sh->vchannel);
    }
    if (t && (t->id <= 0 || is_source(req, t->id) || sn__growing_find(sh, t->id))) {
        FAIL(st, ST_INVALID, "target: segment %lld is a source, growing, or none", (long long)t->id);
    }
    for (size_t i = 0; i < req->n_source_ids; i++) {
        int64_t id = req->source_ids[i];
        const struct sn_sealed *s = sn__sealed_find(sh, id);
        const struct sn_growing *g = sn__growing_find(sh, id);
        int64_t partition = s ? s->meta->partition_id : g ? g->partition_id : 0;
        if (g && !s && !g->sealed) {
            FAIL(st, ST_INVALID, "source_ids: segment %lld takes rows still", (long long)id);
        }
        if (t && (s || g) && partition != t->partition_id) {
            FAIL(st, ST_INVALID, "source_ids: segment %lld is of partition %lld, target %lld of %lld",
                 (long long)id, (long long)partition, (long long)t->id,
                 (long long)t->partition_id);
        }
    }
out:
    return rc;
}

/* The sources are not shown any more, once a view is published. */
static void leave(struct replacing *rp, struct sn_shard *sh)
{
    size_t kept = 0;

    for (size_t i = 0; i < sh->nsealed; i++) {
        if (!is_source(rp->req, sh->sealed[i].meta->id)) {
            sh->sealed[kept++] = sh->sealed[i];
        } else if (sh->sealed[i].node_id) {
            rp->gone[rp->ngone++] = sh->sealed[i];
        }
    }
    sh->nsealed = kept;
    for (size_t i = sh->ngrowing; i-- > 0;) {
        if (is_source(rp->req, sh->growing[i].id)) {
            sn__growing_remove(sh, &sh->growing[i]);
        }
    }
}

/* Delete files that nobody needs are not to be opened any more. Rounds count on their order, but the
 * only one there may be is this one, and it has read them. One that a flush has committed and not
 * remembered yet must not come afterwards. */
static void forget_deltas(const Elanus__ReplaceSegmentsReq *req, struct sn_shard *sh)
{
    size_t kept = 0;

    for (size_t i = 0; i < sh->ndeltas; i++) {
        bool gone = false;
        for (size_t j = 0; j < req->n_gone_delta_ids && !gone; j++) {
            gone = req->gone_delta_ids[j] == sh->deltas[i]->id;
        }
        if (!gone) {
            sh->deltas[kept++] = sh->deltas[i];
        }
    }
    sh->ndeltas = kept;
    for (size_t j = 0; j < req->n_gone_delta_ids; j++) {
        if (!sn__delta_is_gone(sh, req->gone_delta_ids[j])) {
            sh->gone_deltas = xrealloc(sh->gone_deltas, (sh->ngone_deltas + 1) * sizeof(int64_t));
            sh->gone_deltas[sh->ngone_deltas++] = req->gone_delta_ids[j];
        }
    }
}

/* node: where the target is loaded; 0: nowhere. */
static int finish(struct replacing *rp, struct sn_shard *sh, int64_t node, struct status *st)
{
    const Elanus__Segment *t = rp->req->target;
    bool wanted = !sh->dropped && t && !sn__partition_is_dropped(sh, t->partition_id);
    int rc = 0;

    if (!sh->dropped && sh->failed.code != 0) {
        *st = sh->failed;
        rc = st->code;
        goto out;
    }
    rp->gone = arena_try_array(rp->round.ar, sh->nsealed + 1, sizeof *rp->gone);
    if (!rp->gone) {
        FAIL(st, ST_NO_MEMORY, "no memory to replace segments among %zu", sh->nsealed);
    }
    if (node && wanted) {
        struct sn_sealed to = { rp->round.segs[0], node };
        TRY(sn__round_serve(&rp->round, sh, &to, 1, st));
    } else if (node) {
        rp->gone[rp->ngone++] = (struct sn_sealed){ rp->round.segs[0], node };
    }
    if (wanted) {
        sn__sealed_add(sh, t);
        if (node) {
            sn__sealed_find(sh, t->id)->node_id = node;
        }
    }
    leave(rp, sh);
    forget_deltas(rp->req, sh);
    sn__view_publish(sh);
    sn__tend_guides(sh);
    rp->done = true;
    rp->dropped = sh->dropped;
out:
    return rc;
}

static int finish_loaded(struct sn_channel *ch, struct sn_msg *m)
{
    struct replacing *rp = m->arg;

    (void)ch;
    return finish(rp, m->shard, rp->round.nodes[0], &m->st);
}

static int begin(struct sn_channel *ch, struct sn_msg *m)
{
    struct replacing *rp = m->arg;
    struct sn_shard *sh = m->shard;
    Elanus__Segment *t = rp->req->target;
    const struct sn_sealed *there = t ? sn__sealed_find(sh, t->id) : NULL;
    int rc;

    (void)ch;
    TRY(check(rp->req, sh, &m->st));
    if (!t || (there && there->node_id) || !sn__load_wants(sh->load, t->partition_id) ||
        sn__partition_is_dropped(sh, t->partition_id)) {
        rc = finish(rp, sh, 0, &m->st);
        goto out;
    }
    TRY(sn__round_look(&rp->round, sh, 1, &m->st));
    rp->round.segs[rp->round.nsegs++] = t;
    rp->round.collection = sn__copy(&sh->collection->pb, rp->round.ar);
out:
    return rc;
}

/* ---- Off the sequencer ---- */

/* So that searches do not fall back to comparing rows one by one, if there are files to do better
 * with. */
static void open_indexes(struct replacing *rp, struct sn_shard *sh, const struct call *call)
{
    const struct qnode_service *qs;
    struct status st = STATUS_INIT;
    Elanus__RefreshIndexesReq req;
    Elanus__Empty resp;

    elanus__refresh_indexes_req__init(&req);
    elanus__empty__init(&resp);
    req.collection_id = sh->collection_id;
    req.segment_ids = &rp->round.segs[0]->id;
    req.n_segment_ids = 1;
    req.wait = true;
    if (svc_dir_qnode(sh->sn->opts.dir, rp->round.nodes[0], &qs, &st) != 0 ||
        qs->refresh_indexes(qs->self, call, &req, &resp, &st) != 0) {
        LOG_W("segment replaces others before its indexes are open: seg=%lld node=%lld error=\"%s\"",
              (long long)rp->round.segs[0]->id, (long long)rp->round.nodes[0], st.msg);
    }
}

static int load(struct replacing *rp, struct sn_shard *sh, const struct call *call,
                struct status *st)
{
    struct sn_round *r = &rp->round;
    int rc;

    TRY(sn__round_load(r, sh, call, st));
    if (r->nodes[0] == 0) {
        FAIL(st, ST_UNAVAILABLE, "shard %s: segment %lld has no query node", sh->vchannel,
             (long long)r->segs[0]->id);
    }
    open_indexes(rp, sh, call);
    TRY(sn__control(sh->ch, sh, finish_loaded, rp, st));
out:
    if (rc != 0 && r->nodes[0]) {
        sn__release_on_node(sh, r->nodes[0], r->segs[0]->id);
    }
    return rc;
}

static int replace(struct replacing *rp, struct sn_shard *sh, const struct call *call,
                   struct status *st)
{
    int64_t began = clock_mono_ms();
    int rc;

    TRY(sn__control(sh->ch, sh, begin, rp, st));
    if (!rp->done) {
        TRY(load(rp, sh, call, st));
    }
    for (size_t i = 0; i < rp->ngone; i++) {
        sn__release_on_node(sh, rp->gone[i].node_id, rp->gone[i].meta->id);
    }
    LOG_I("segments replaced: shard=%s sources=%zu seg=%lld released=%zu ms=%lld", sh->vchannel,
          rp->req->n_source_ids, (long long)(rp->req->target ? rp->req->target->id : 0), rp->ngone,
          (long long)(clock_mono_ms() - began));
out:
    return rc;
}

int sn__replace_segments(struct sn *sn, const struct call *call,
                         const Elanus__ReplaceSegmentsReq *req, struct status *st)
{
    struct replacing rp = { .req = req };
    struct sn_shard *sh = NULL;
    int rc;

    TRY(sn__shard_find(sn, req->vchannel, &sh, st));
    (void)sn__loading_begin(sh, true);
    rp.round.ar = arena_new(0);
    rc = replace(&rp, sh, call, st);
    sn__loading_end(sh);
    arena_free(rp.round.ar);
    if (rc == 0 && !rp.dropped && !sn__shard_is_current(sn, sh)) { /* told of the sources? */
        st_fail(st, ERR_CHANNEL_NOT_AVAILABLE, "channel not available[channel=%s]", req->vchannel);
        st->retriable = true;
        rc = st->code;
    }
out:
    sn__shard_unref(sh);
    return rc;
}
