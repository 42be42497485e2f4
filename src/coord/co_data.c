/*
 * co_data.c - segments: flush, what is flushed, and the one transaction that makes a flush true.
 *
 * FLUSH     asks every shard to seal what it has and remembers the sealed ids until the shard
 *           commits them. A segment is flushed when it is in the store; one that is neither there
 *           nor among its shard's growing ones is gone (dropped, empty) and counts as flushed.
 *           Deletes are flushed when their shard owes none up to the flush any more.
 * COMMIT    Segments, delete files and the shard's checkpoint become true together, under the
 *           condition that the shard record is the one seen: a shard that moved to another node
 *           has a greater term, and the old owner gets ST_FENCED. Sent twice it changes nothing.
 * THREADS   commit_flush() does not take ddl: it is called by nodes, also while ddl is held over a
 *           call to them. It decides under `commit`, so nothing it saw changes before it is stored.
 */
#include "coord/co_int.h"

#define LOG_ROOM "coord"
#include "base/log.h"

/* ---- flush ---- */

static int seal_shards(struct coord *co, const struct call *call, int64_t id,
                       const struct co_shard_ref *shards, size_t nshards,
                       Elanus__FlushResult *res, struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < nshards; i++) {
        const struct snode_service *sn;
        Elanus__SealReq req;
        Elanus__SealResp resp;
        struct co_coll *c;
        int64_t *ids;
        elanus__seal_req__init(&req);
        elanus__seal_resp__init(&resp);
        req.vchannel = shards[i].vchannel;
        TRY(co__owner(co, &shards[i], &sn, st));
        TRY(sn->seal(sn->self, call, &req, &resp, st));
        res->flush_ts = MAX(res->flush_ts, resp.flush_ts);
        ids = arena_alloc(call->ar,
                          (res->n_sealed_segment_ids + resp.n_segment_ids + 1) * sizeof *ids);
        for (size_t j = 0; j < res->n_sealed_segment_ids; j++) {
            ids[j] = res->sealed_segment_ids[j];
        }
        rwlock_write(&co->state);
        c = co__by_id(co, id);
        if (c && resp.deletes) {
            c->flushing_deletes = MAX(c->flushing_deletes, resp.flush_ts);
        }
        for (size_t j = 0; c && j < resp.n_segment_ids; j++) {
            int64_t seg = resp.segment_ids[j];
            ids[res->n_sealed_segment_ids++] = seg;
            if (!co__list_get(&c->segs, seg)) { /* may be committed by now */
                CHECK(id_map_put(c->sealing, seg, resp.flush_ts));
            }
        }
        rwlock_release(&co->state);
        res->sealed_segment_ids = ids;
    }
out:
    return rc;
}

static int flush_one(struct coord *co, const struct call *call, int64_t id,
                     Elanus__FlushResult *res, struct status *st)
{
    struct co_shard_ref *shards = NULL;
    size_t nshards = 0;
    struct co_coll *c;
    int rc = 0;

    res->collection_id = id;
    rwlock_read(&co->state);
    c = co__by_id(co, id);
    if (c) {
        nshards = c->shards.n;
        shards = arena_alloc(call->ar, (nshards + 1) * sizeof *shards);
        for (size_t i = 0; i < nshards; i++) {
            const Elanus__Shard *sh = c->shards.v[i]->pb;
            shards[i] = (struct co_shard_ref){ arena_strdup(call->ar, sh->vchannel), sh->owner };
        }
        res->flushed_segment_ids = arena_alloc(call->ar, (c->segs.n + 1) * sizeof(int64_t));
        for (size_t i = 0; i < c->segs.n; i++) {
            res->flushed_segment_ids[res->n_flushed_segment_ids++] = c->segs.v[i]->id;
        }
    }
    rwlock_release(&co->state);
    if (!c) {
        FAIL(st, ERR_COLLECTION_NOT_FOUND, "collection not found[collection=%" PRId64 "]", id);
    }
    TRY(seal_shards(co, call, id, shards, nshards, res, st));
    if (res->flush_ts == 0) {
        TRY(co__ts(co, 1, call->deadline_us, &res->flush_ts, st));
    }
out:
    return rc;
}

int co__data_flush(void *self, const struct call *call, const Elanus__FlushReq *req,
                   Elanus__FlushResp *resp, struct status *st)
{
    Elanus__FlushResult **results = arena_try_array(call->ar, req->n_collection_ids + 1,
                                                    sizeof(Elanus__FlushResult *));
    int rc = 0;

    if (!results) {
        FAIL(st, ST_NO_MEMORY, "no memory to flush %zu collections", req->n_collection_ids);
    }
    for (size_t i = 0; i < req->n_collection_ids; i++) {
        results[i] = ARENA_NEW(call->ar, Elanus__FlushResult);
        elanus__flush_result__init(results[i]);
        TRY(flush_one(self, call, req->collection_ids[i], results[i], st));
    }
    resp->results = results;
    resp->n_results = req->n_collection_ids;
out:
    return rc;
}

/* ---- whether it is done ---- */

static bool lists(Elanus__ShardStats *const *stats, size_t n, int64_t segment_id)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < stats[i]->n_growing; j++) {
            if (stats[i]->growing[j]->id == segment_id) {
                return true;
            }
        }
    }
    return false;
}

struct waiting {
    int64_t collection_id;
    size_t n;
    int64_t *ids;
    uint64_t deletes; /* co_coll's flushing_deletes */
};

/* A shard lists a segment until it has committed it, so one that is neither stored nor listed is
 * gone: its partition was dropped, or it was empty. Whether nothing is still to come of the segments
 * and of deletes up to flush_ts (0: whenever). */
static bool is_flushed(struct coord *co, const struct call *call, const struct waiting *w,
                       uint64_t flush_ts)
{
    struct status st = STATUS_INIT;
    Elanus__ShardStats **stats = NULL;
    size_t nstats = 0;
    struct co_coll *c;
    bool all = true, owed = false;

    if (w->n == 0 && !w->deletes) {
        return true;
    }
    if (co__shard_stats(co, call, w->collection_id, &stats, &nstats, &st) != 0) {
        LOG_D("not known whether flushed: coll=%" PRId64 " error=\"%s\"", w->collection_id, st.msg);
        return false; /* its owner is away: the caller asks again */
    }
    for (size_t i = 0; i < nstats; i++) {
        uint64_t ts = stats[i]->flushing_deletes_ts;
        owed = owed || ts;
        all = all && !(ts && (flush_ts == 0 || ts <= flush_ts));
    }
    rwlock_write(&co->state);
    c = co__by_id(co, w->collection_id);
    for (size_t i = 0; i < w->n; i++) {
        if (lists(stats, nstats, w->ids[i])) {
            all = all && c && co__list_get(&c->segs, w->ids[i]); /* committed since */
        } else if (c) {
            id_map_remove(c->sealing, w->ids[i]);
        }
    }
    if (c && !owed && c->flushing_deletes == w->deletes) {
        c->flushing_deletes = 0;
    }
    rwlock_release(&co->state);
    return all;
}

/* Collections with segments sealed at or before flush_ts (0: whenever) and not committed, or with
 * deletes on their way to files. */
static size_t all_waiting(struct coord *co, uint64_t flush_ts, struct arena *ar,
                          struct waiting **ret)
{
    size_t pos = 0, n = 0;
    int64_t id;
    uint64_t v;

    rwlock_read(&co->state);
    *ret = arena_alloc(ar, (id_map_count(co->colls) + 1) * sizeof **ret);
    while (id_map_next(co->colls, &pos, &id, &v)) {
        const struct co_coll *c = (const struct co_coll *)(uintptr_t)v;
        struct waiting *w = &(*ret)[n];
        size_t spos = 0;
        int64_t seg;
        uint64_t ts;
        *w = (struct waiting){ .collection_id = id, .deletes = c->flushing_deletes };
        w->ids = arena_alloc(ar, (id_map_count(c->sealing) + 1) * sizeof *w->ids);
        while (id_map_next(c->sealing, &spos, &seg, &ts)) {
            if (flush_ts == 0 || ts <= flush_ts) {
                w->ids[w->n++] = seg;
            }
        }
        n += w->n > 0 || w->deletes;
    }
    rwlock_release(&co->state);
    return n;
}

int co__data_flush_state(void *self, const struct call *call, const Elanus__FlushStateReq *req,
                         Elanus__FlushStateResp *resp, struct status *st)
{
    struct coord *co = self;
    struct waiting *w = NULL;
    size_t nw = 0;
    int rc = 0;

    if (req->all || req->collection_id == 0) {
        nw = all_waiting(co, req->all ? req->flush_ts : 0, call->ar, &w);
    } else {
        struct co_coll *c;
        w = ARENA_NEW(call->ar, struct waiting);
        w->collection_id = req->collection_id;
        w->ids = arena_try_array(call->ar, req->n_segment_ids + 1, sizeof *w->ids);
        if (!w->ids) {
            FAIL(st, ST_NO_MEMORY, "no memory for %zu segments", req->n_segment_ids);
        }
        rwlock_read(&co->state);
        c = co__by_id(co, req->collection_id);
        w->deletes = c ? c->flushing_deletes : 0;
        for (size_t i = 0; c && i < req->n_segment_ids; i++) {
            if (!co__list_get(&c->segs, req->segment_ids[i])) {
                w->ids[w->n++] = req->segment_ids[i];
            }
        }
        rwlock_release(&co->state);
        nw = 1;
    }
    resp->flushed = true;
    for (size_t i = 0; i < nw; i++) {
        resp->flushed = is_flushed(co, call, &w[i], req->flush_ts) && resp->flushed;
    }
out:
    return rc;
}

/* ---- commit ---- */

struct co_rec *co__shard(const struct co_coll *c, const char *vchannel)
{
    for (size_t i = 0; c && i < c->shards.n; i++) {
        if (strcmp(((const Elanus__Shard *)c->shards.v[i]->pb)->vchannel, vchannel) == 0) {
            return c->shards.v[i];
        }
    }
    return NULL;
}

/* Sent again after an answer that was lost: the segment may have been rewritten since, and its rows
 * would come twice. None that is not committed has records before the checkpoint. (A delete file
 * that was needed no more may be gone; what it held is in no new file, being before delta_position.) */
static bool was_committed(const Elanus__Segment *seg, const Elanus__Shard *before)
{
    return seg->first_position && seg->first_position < before->checkpoint;
}

/* Segments of a partition dropped meanwhile are not taken: their files go. */
static int put_segments(struct coord *co, struct co_txn *tx, struct co_coll *c,
                        const Elanus__CommitFlushReq *req, const Elanus__Shard *before,
                        uint64_t now, struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < req->n_segments; i++) {
        Elanus__Segment seg = *req->segments[i];
        if (seg.collection_id != c->id) {
            FAIL(st, ST_INVALID, "segment %" PRId64 " is not of collection %" PRId64, seg.id,
                 c->id);
        }
        if (!co__list_get(&c->parts, seg.partition_id)) {
            if (seg.object_prefix[0]) {
                co__gc_prefix(co, arena_printf(tx->ar, "%s/", seg.object_prefix));
            }
            continue;
        }
        if (co__list_get(&c->segs, seg.id) || seg.num_rows == 0 || was_committed(&seg, before)) {
            continue;
        }
        seg.state = ELANUS__SEG_STATE__SEG_FLUSHED;
        seg.flushed_ts = now;
        seg.vchannel = req->vchannel;
        co__put(tx, CO_SEGMENT, &seg);
    }
    for (size_t i = 0; i < req->n_deltas; i++) {
        if (!co__list_get(&c->deltas, req->deltas[i]->id) &&
            (before->delta_position == 0 ||
             req->deltas[i]->last_position > before->delta_position)) {
            co__put(tx, CO_DELTA, req->deltas[i]);
        }
    }
out:
    return rc;
}

static void forget_sealing(struct coord *co, struct co_coll *c, const Elanus__CommitFlushReq *req)
{
    rwlock_write(&co->state);
    for (size_t i = 0; i < req->n_segments; i++) {
        id_map_remove(c->sealing, req->segments[i]->id);
    }
    rwlock_release(&co->state);
}

int co__data_commit_flush(void *self, const struct call *call, const Elanus__CommitFlushReq *req,
                          Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    struct co_coll *c;
    struct co_rec *rec;
    struct co_txn tx;
    Elanus__Shard shard;
    struct slice key;
    uint64_t now;
    int rc = 0;

    (void)resp;
    co__txn_init(&tx, co, call->ar);
    lock_acquire(&co->commit); /* the tables stand still: only commits change what is read here */
    TRY(co__ts(co, 1, call->deadline_us, &now, st));
    c = co__by_id(co, req->collection_id);
    rec = co__shard(c, req->vchannel);
    if (!rec) {
        FAIL(st, ERR_COLLECTION_NOT_FOUND, "collection not found[collection=%" PRId64 "]",
             req->collection_id);
    }
    shard = *(const Elanus__Shard *)rec->pb;
    if (req->term < shard.term) {
        FAIL(st, ST_FENCED, "shard %s has term %" PRId64 ", a flush came with %" PRId64,
             req->vchannel, shard.term, req->term);
    }
    TRY(put_segments(co, &tx, c, req, &shard, now, st));
    shard.checkpoint = MAX(shard.checkpoint, req->checkpoint);
    shard.checkpoint_ts = MAX(shard.checkpoint_ts, req->checkpoint_ts);
    shard.delta_position = MAX(shard.delta_position, req->delta_position);
    co__put(&tx, CO_SHARD, &shard);
    TRY(co__key(CO_SHARD, &shard, call->ar, &key, st));
    co__cond(&tx, meta_if_version(key, rec->version));
    rc = co__commit_locked(&tx, st);
    if (rc == ST_CONFLICT) {
        rc = st_fail(st, ST_FENCED, "shard %s was changed by another coordinator", req->vchannel);
    }
    TRY(rc);
    forget_sealing(co, c, req);
    co__work_wake(co);
out:
    lock_release(&co->commit);
    co__txn_done(&tx);
    return rc;
}

/* ---- lists and numbers ---- */

int co__data_list_segments(void *self, const struct call *call, const Elanus__SegmentsReq *req,
                           Elanus__SegmentsResp *resp, struct status *st)
{
    struct coord *co = self;
    struct arena *ar = call->ar;
    struct co_coll *c;
    int rc = 0;

    rwlock_read(&co->state);
    c = co__by_id(co, req->collection_id);
    if (!c) {
        FAIL(st, ERR_COLLECTION_NOT_FOUND, "collection not found[collection=%" PRId64 "]",
             req->collection_id);
    }
    resp->segments = arena_alloc(ar, (c->segs.n + 1) * sizeof(Elanus__Segment *));
    resp->deltas = arena_alloc(ar, (c->deltas.n + 1) * sizeof(Elanus__Delta *));
    resp->shards = arena_alloc(ar, (c->shards.n + 1) * sizeof(Elanus__Shard *));
    for (size_t i = 0; i < c->segs.n; i++) {
        const Elanus__Segment *seg = c->segs.v[i]->pb;
        if (co__in_ids(req->partition_ids, req->n_partition_ids, seg->partition_id)) {
            resp->segments[resp->n_segments++] = co__copy(&seg->pb, ar);
        }
    }
    for (size_t i = 0; i < c->deltas.n; i++) {
        resp->deltas[resp->n_deltas++] = co__copy(c->deltas.v[i]->pb, ar);
    }
    for (size_t i = 0; i < c->shards.n; i++) {
        resp->shards[resp->n_shards++] = co__copy(c->shards.v[i]->pb, ar);
    }
out:
    rwlock_release(&co->state);
    return rc;
}

static int64_t growing_rows(const Elanus__ShardStats *s, const Elanus__StatsReq *req)
{
    int64_t rows = 0;

    if (req->n_partition_ids == 0) {
        return s->growing_rows;
    }
    for (size_t i = 0; i < MIN(s->n_partition_ids, s->n_partition_rows); i++) {
        if (co__in_ids(req->partition_ids, req->n_partition_ids, s->partition_ids[i])) {
            rows += s->partition_rows[i];
        }
    }
    return rows;
}

int co__data_stats(void *self, const struct call *call, const Elanus__StatsReq *req,
                   Elanus__StatsResp *resp, struct status *st)
{
    struct coord *co = self;
    Elanus__ShardStats **stats = NULL;
    size_t nstats = 0;
    struct co_coll *c;
    int rc = 0;

    /* Growing first: a segment flushed in between is missed at worst, never counted twice. */
    TRY(co__shard_stats(co, call, req->collection_id, &stats, &nstats, st));
    rwlock_read(&co->state);
    c = co__by_id(co, req->collection_id);
    for (size_t i = 0; c && i < c->segs.n; i++) {
        const Elanus__Segment *seg = c->segs.v[i]->pb;
        if (co__in_ids(req->partition_ids, req->n_partition_ids, seg->partition_id) &&
            !lists(stats, nstats, seg->id)) {
            resp->row_count += seg->num_rows;
            resp->size_bytes += seg->size_bytes;
        }
    }
    for (size_t i = 0; c && i < c->deltas.n && req->n_partition_ids == 0; i++) {
        resp->deleted_rows += ((const Elanus__Delta *)c->deltas.v[i]->pb)->num_rows;
    }
    rwlock_release(&co->state);
    if (!c) {
        FAIL(st, ERR_COLLECTION_NOT_FOUND, "collection not found[collection=%" PRId64 "]",
             req->collection_id);
    }
    for (size_t i = 0; i < nstats; i++) {
        resp->growing_rows += growing_rows(stats[i], req);
    }
    resp->row_count += resp->growing_rows;
out:
    return rc;
}
