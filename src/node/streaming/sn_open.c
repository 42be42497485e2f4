/*
 * sn_open.c - taking over shards: load what is flushed, replay what is not, then serve.
 *
 * WHAT      The coordinator hands over a shard's definition, flushed segments, delete files and where
 *           each segment is to be loaded. Records of the log from the checkpoint on are applied to
 *           new growing segments under their old ids, except rows of flushed segments and of
 *           partitions that are gone.
 * THREADS   Any; replay itself runs on the channel's sequencer.
 * FAILURE   Nothing durable happens here, so a failed open is simply repeated.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"
#include "base/log.h"
#include "schema/errors.h"

#define LOG_ROOM "node"

int64_t sn__placed_on(Elanus__Placement *const *placements, size_t n, int64_t segment_id)
{
    for (size_t i = 0; i < n; i++) {
        if (placements[i]->segment_id == segment_id) {
            return placements[i]->node_id;
        }
    }
    return 0;
}

int sn__load_on_nodes(struct sn *sn, const Elanus__Collection *coll, Elanus__Segment *const *segs,
                      size_t nsegs, Elanus__Delta *const *deltas, size_t ndeltas,
                      Elanus__Placement *const *placements, size_t nplacements,
                      struct status *st)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    Elanus__Segment **mine = arena_try_array(ar, nsegs + 1, sizeof *mine);
    bool *done = arena_try_array(ar, nsegs + 1, sizeof *done);
    int rc = 0;

    if (!mine || !done) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu segments", nsegs);
    }
    for (size_t i = 0; i < nsegs; i++) {
        int64_t node = sn__placed_on(placements, nplacements, segs[i]->id);
        const struct qnode_service *qs;
        Elanus__LoadSegmentsReq req;
        Elanus__Empty resp;
        size_t n = 0;

        if (done[i] || node == 0) {
            continue;
        }
        for (size_t j = i; j < nsegs; j++) {
            if (!done[j] && sn__placed_on(placements, nplacements, segs[j]->id) == node) {
                done[j] = true;
                mine[n++] = segs[j];
            }
        }
        elanus__load_segments_req__init(&req);
        elanus__empty__init(&resp);
        req.collection_id = coll->id;
        req.collection = (Elanus__Collection *)(uintptr_t)coll;
        req.segments = mine;
        req.n_segments = n;
        req.deltas = (Elanus__Delta **)(uintptr_t)deltas;
        req.n_deltas = ndeltas;
        TRY(svc_dir_qnode(sn->opts.dir, node, &qs, st));
        TRY(qs->load_segments(qs->self, &call, &req, &resp, st));
    }
out:
    arena_free(ar);
    return rc;
}

int sn__send_deletes(struct sn_shard *sh, int64_t node_id, const int64_t *segment_ids, size_t n,
                     struct status *st)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    const struct qnode_service *qs;
    Elanus__ApplyDeletesReq req;
    Elanus__Empty resp;
    struct column pks;
    const hts *ts;
    uint64_t last;
    int rc = 0;

    if (sh->deletes.n == 0 || n == 0) {
        goto out;
    }
    TRY(sn__deletes_column(sh, 0, ar, &pks, &ts, &last, st));
    elanus__apply_deletes_req__init(&req);
    elanus__empty__init(&resp);
    req.collection_id = sh->collection_id;
    req.segment_ids = (int64_t *)(uintptr_t)segment_ids;
    req.n_segment_ids = n;
    req.timestamps = (uint64_t *)(uintptr_t)ts;
    req.n_timestamps = pks.nrows;
    struct batch b = { .nrows = pks.nrows, .ncols = 1, .cols = &pks };
    TRY(nd_batch_bytes(&b, ar, &req.pks, st));
    TRY(svc_dir_qnode(sh->sn->opts.dir, node_id, &qs, st));
    TRY(qs->apply_deletes(qs->self, &call, &req, &resp, st));
out:
    arena_free(ar);
    return rc;
}

/* ---- replay ---- */

struct open_job {
    struct sn_channel *ch;
    size_t n;
    struct sn_shard **shards;             /* of this channel */
    const Elanus__OpenShardReq **reqs;
    uint64_t records, rows;
};

static bool partition_exists(const Elanus__OpenShardReq *req, int64_t id)
{
    for (size_t i = 0; i < req->n_partition_ids; i++) {
        if (req->partition_ids[i] == id) {
            return true;
        }
    }
    return false;
}

static int replay_record(struct open_job *job, const struct wal_record *wr, struct arena *ar,
                         struct status *st)
{
    struct sn_record r;
    struct sn_shard *sh = NULL;
    const Elanus__OpenShardReq *req = NULL;
    struct batch b;
    int rc;

    TRY(sn_record_decode(wr->payload, ar, &r, st));
    if (r.ts > job->ch->applied_ts) {
        job->ch->applied_ts = r.ts;
    }
    for (size_t i = 0; i < job->n && !sh; i++) {
        if (slice_is(r.vchannel, job->shards[i]->vchannel)) {
            sh = job->shards[i];
            req = job->reqs[i];
        }
    }
    if (!sh || wr->position < sh->checkpoint) {
        goto out; /* dropped, another node's, or flushed long ago */
    }
    job->records++;
    if (r.delete_pks.n) {
        TRY(batch_decode(r.delete_pks, ar, &b, st));
        if (b.ncols != 1) {
            FAIL(st, ST_CORRUPT, "deleted keys in %u columns", b.ncols);
        }
        TRY(sn__apply_deletes(sh, &b.cols[0], r.delete_partitions, r.ndelete_partitions, r.ts,
                              wr->position, false, st));
    }
    for (uint32_t i = 0; i < r.nparts; i++) {
        struct sn_growing *g;
        if (sn__is_flushed(sh, r.parts[i].segment_id) ||
            !partition_exists(req, r.parts[i].partition_id)) {
            continue;
        }
        TRY(batch_decode(r.parts[i].batch, ar, &b, st));
        g = sn__growing_find(sh, r.parts[i].segment_id);
        if (!g) {
            TRY(sn__growing_add(sh, r.parts[i].segment_id, r.parts[i].partition_id, &g, st));
        }
        TRY(sn__apply_insert(sh, g, &b, r.ts, wr->position, st));
        job->rows += b.nrows;
    }
out:
    return rc;
}

/* Only the newest growing segment of a partition goes on taking rows. */
static void seal_older(struct sn_shard *sh)
{
    for (size_t i = 0; i < sh->ngrowing; i++) {
        for (size_t j = 0; j < sh->ngrowing; j++) {
            if (sh->growing[i].partition_id == sh->growing[j].partition_id &&
                sh->growing[j].first_position > sh->growing[i].first_position) {
                sh->growing[i].sealed = true;
            }
        }
        if (sh->growing[i].bytes >= sh->sn->opts.seal_bytes) {
            sh->growing[i].sealed = true;
        }
        if (sh->growing[i].sealed) {
            sn__flush_queue(sh->sn, sh);
        }
    }
}

static int replay(struct sn_channel *ch, struct sn_msg *m)
{
    struct open_job *job = m->arg;
    struct wal_reader *rd = NULL;
    struct arena *ar = arena_new(0);
    uint64_t from = UINT64_MAX;
    struct wal_record wr;
    bool found;
    int rc;

    for (size_t i = 0; i < job->n; i++) {
        from = MIN(from, job->shards[i]->checkpoint);
    }
    from = MAX(from, wal_first_position(ch->wal));
    TRY(wal_reader_open(ch->wal, from, &rd, &m->st));
    for (;;) {
        TRY(wal_reader_next(rd, &wr, &found, &m->st));
        if (!found) {
            break;
        }
        rc = replay_record(job, &wr, ar, &m->st);
        if (rc != 0) {
            st_context(&m->st, "log %s, record %llu", ch->name, (unsigned long long)wr.position);
            goto out;
        }
        arena_reset(ar);
    }
    for (size_t i = 0; i < job->n; i++) {
        struct sn_shard *sh = job->shards[i];
        for (size_t s = 0; s < sh->nsealed; s++) {
            if (sh->sealed[s].node_id) {
                TRY(sn__send_deletes(sh, sh->sealed[s].node_id, &sh->sealed[s].meta->id, 1,
                                     &m->st));
            }
        }
        seal_older(sh);
        sn__view_publish(sh);
    }
out:
    wal_reader_close(rd);
    arena_free(ar);
    return rc;
}

/* ---- opening ---- */

static int build_shard(struct sn *sn, const Elanus__OpenShardReq *req, struct sn_shard **ret,
                       struct status *st)
{
    struct sn_shard *sh = NULL;
    int rc = 0;

    if (!req->shard || !req->collection || !req->collection->schema) {
        FAIL(st, ST_INVALID, "open_shards without shard or collection");
    }
    sh = sn__shard_new(sn, req, st);
    if (!sh) {
        rc = st->code;
        goto out;
    }
    TRY(sn__channel_get(sn, req->shard->pchannel, req->shard->term, &sh->ch, st));
    sh->deltas_cap = req->n_deltas + 8;
    sh->deltas = xalloc(sh->deltas_cap * sizeof(Elanus__Delta *));
    for (size_t i = 0; i < req->n_deltas; i++) {
        sh->deltas[sh->ndeltas++] = sn__copy(&req->deltas[i]->pb, sh->ar);
    }
    TRY(sn__load_on_nodes(sn, req->collection, req->segments, req->n_segments, req->deltas,
                          req->n_deltas, req->placements, req->n_placements, st));
    for (size_t i = 0; i < req->n_segments; i++) {
        TRY(sn__sealed_add(sh, req->segments[i],
                           sn__placed_on(req->placements, req->n_placements,
                                         req->segments[i]->id), st));
    }
    *ret = TAKE(sh);
out:
    sn__shard_unref(sh);
    return rc;
}

/* Replays the shards of one channel together: the log is read once. */
static int replay_channel(struct sn_channel *ch, struct sn_shard **shards,
                          const Elanus__OpenShardsReq *req, struct arena *ar, struct status *st)
{
    struct open_job job = { .ch = ch };
    int64_t began = clock_mono_ms();
    int rc = 0;

    job.shards = arena_try_array(ar, req->n_shards + 1, sizeof *job.shards);
    job.reqs = arena_try_array(ar, req->n_shards + 1, sizeof *job.reqs);
    if (!job.shards || !job.reqs) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu shards", req->n_shards);
    }
    for (size_t i = 0; i < req->n_shards; i++) {
        if (shards[i]->ch == ch && !req->shards[i]->fresh) {
            job.shards[job.n] = shards[i];
            job.reqs[job.n++] = req->shards[i];
        }
    }
    if (job.n == 0) {
        goto out;
    }
    TRY(sn__control(ch, NULL, replay, &job, st));
    LOG_I("log replayed: channel=%s shards=%zu records=%llu rows=%llu ms=%lld", ch->name, job.n,
          (unsigned long long)job.records, (unsigned long long)job.rows,
          (long long)(clock_mono_ms() - began));
out:
    return rc;
}

int sn__open_shards(struct sn *sn, const struct call *call, const Elanus__OpenShardsReq *req,
                    struct status *st)
{
    struct sn_shard **shards = arena_try_array(call->ar, req->n_shards + 1, sizeof *shards);
    int rc = 0;

    if (!shards) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %zu shards", req->n_shards);
    }
    for (size_t i = 0; i < req->n_shards; i++) {
        TRY(build_shard(sn, req->shards[i], &shards[i], st));
    }
    for (size_t i = 0; i < req->n_shards; i++) {
        bool first = true;
        for (size_t j = 0; j < i; j++) {
            first = first && shards[j]->ch != shards[i]->ch;
        }
        if (first) {
            TRY(replay_channel(shards[i]->ch, shards, req, call->ar, st));
        }
        if (req->shards[i]->fresh) {
            sn__view_publish(shards[i]);
        }
    }
    lock_acquire(&sn->lock);
    for (size_t i = 0; i < req->n_shards; i++) {
        struct sn_shard *old = str_map_put(sn->shards, slice_of(shards[i]->vchannel), shards[i]);
        shards[i] = old; /* reopened: the old one goes */
    }
    lock_release(&sn->lock);
out:
    for (size_t i = 0; i < req->n_shards; i++) {
        sn__shard_unref(shards[i]);
    }
    return rc;
}
