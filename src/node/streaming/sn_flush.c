/*
 * sn_flush.c - from growing to sealed: write files, commit, load, swap, cut the log.
 *
 * WHAT      A shard is queued when one of its growing segments is sealed (by size, age, Flush, or a
 *           log that has grown too long). One pass over a queued shard:
 *             1 prepare  (sequencer) take the sealed segments and all pending deletes, note the
 *                        position P up to which everything is applied
 *             2 files    write each segment, then the delete file
 *             3 commit   one metadata transaction: segments and delete file exist, checkpoint moves
 *             4 load     where the coordinator wants them
 *             5 swap     (sequencer) send deletes younger than P, publish the new view, forget
 *                        the growing segments
 *             6 cut      remove log files that no shard of the channel needs
 * INVARIANTS  The checkpoint never passes a record with a row or delete that is not in files.
 * THREADS   One flush thread; steps 1 and 5 are control messages.
 * FAILURE   Before 3: orphan files, removed by the coordinator's garbage collection; the log still
 *           has everything. Between 3 and 5: the next start finds flushed segments and skips their
 *           records. Any step that fails is tried again with pauses; rows stay readable throughout.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"
#include "base/fault.h"
#include "base/log.h"
#include "schema/errors.h"
#include <inttypes.h>
#include <stdio.h>

#define LOG_ROOM "node"

#define TICK_MS 10000
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 10000

struct flush_job {
    struct sn_shard *sh;
    struct arena *ar;
    Elanus__Collection *collection;
    size_t nsegs;
    struct segment **segs;            /* referenced */
    Elanus__Segment **metas;
    struct column pks;
    const hts *ts;
    int64_t delta_id;
    uint64_t delta_position;          /* deletes up to here are in the new or older files */
    Elanus__Delta *delta;             /* NULL: no deletes were pending */
    size_t ndeltas;
    Elanus__Delta **deltas;           /* all of the shard, the new one included */
    uint64_t checkpoint;
    hts checkpoint_ts;
    int64_t term;
    size_t nplacements;
    Elanus__Placement **placements;
    bool place_again;                 /* swap: the collection was loaded meanwhile */
};

/* ---- steps on the sequencer ---- */

static int prepare(struct sn_channel *ch, struct sn_msg *m)
{
    struct flush_job *job = m->arg;
    struct sn_shard *sh = job->sh;
    uint64_t checkpoint = ch->applied_position + 1;
    int rc = 0;

    job->segs = arena_try_array(job->ar, sh->ngrowing + 1, sizeof *job->segs);
    job->metas = arena_try_array(job->ar, sh->ngrowing + 1, sizeof *job->metas);
    job->deltas = arena_try_array(job->ar, sh->ndeltas + 1, sizeof *job->deltas);
    if (!job->segs || !job->metas || !job->deltas) {
        FAIL(&m->st, ST_NO_MEMORY, "no memory to flush %zu segments", sh->ngrowing);
    }
    if (sh->dropped) {
        goto out;
    }
    for (size_t i = 0; i < sh->ngrowing; i++) {
        const struct sn_growing *g = &sh->growing[i];
        struct seg_info info;
        Elanus__Segment *meta;

        seg_get_info(g->seg, &info);
        if (!g->sealed || info.nrows == 0) {
            if (g->first_position) {
                checkpoint = MIN(checkpoint, g->first_position);
            }
            continue;
        }
        meta = ARENA_NEW(job->ar, Elanus__Segment);
        elanus__segment__init(meta);
        meta->id = info.id;
        meta->collection_id = sh->collection_id;
        meta->partition_id = g->partition_id;
        meta->vchannel = sh->vchannel;
        meta->num_rows = info.nrows;
        meta->min_ts = info.min_ts;
        meta->max_ts = info.max_ts;
        meta->first_position = g->first_position;
        meta->last_position = g->last_position;
        meta->state = ELANUS__SEG_STATE__SEG_FLUSHED;
        meta->object_prefix = arena_printf(job->ar, "segments/%" PRId64 "/%" PRId64 "/%" PRId64,
                                           sh->collection_id, g->partition_id, info.id);
        meta->format_version = 1;
        job->metas[job->nsegs] = meta;
        job->segs[job->nsegs++] = seg_ref(g->seg);
    }
    TRY(sn__deletes_column(sh, 0, job->ar, &job->pks, &job->ts, &job->delta_position, &m->st));
    if (job->pks.nrows == 0) {
        job->delta_position = ch->applied_position;
    } else {
        TRY(sn__take_id(ch, job->ar, &job->delta_id, &m->st));
    }
    for (size_t i = 0; i < sh->ndeltas; i++) {
        job->deltas[job->ndeltas++] = sh->deltas[i];
    }
    job->collection = sn__copy(&sh->collection->pb, job->ar);
    job->checkpoint = checkpoint;
    job->checkpoint_ts = ch->applied_ts;
    job->term = sh->term;
out:
    return rc;
}

static void add_delta(struct sn_shard *sh, const Elanus__Delta *delta)
{
    if (sh->ndeltas == sh->deltas_cap) {
        sh->deltas_cap = sh->deltas_cap * 2 + 8;
        sh->deltas = xrealloc(sh->deltas, sh->deltas_cap * sizeof(Elanus__Delta *));
    }
    sh->deltas[sh->ndeltas++] = sn__copy(&delta->pb, sh->ar);
}

static bool wants_segment(const struct sn_shard *sh, const Elanus__Segment *meta)
{
    if (!sh->load || sh->load->status != ELANUS__LOAD_STATUS__LOAD_LOADED) {
        return false;
    }
    for (size_t i = 0; i < sh->load->n_partition_ids; i++) {
        if (sh->load->partition_ids[i] == meta->partition_id) {
            return true;
        }
    }
    return sh->load->whole;
}

/* The new files are in metadata: what they hold leaves memory for good. */
static void forget_written(struct flush_job *job)
{
    struct sn_shard *sh = job->sh;

    if (job->delta) {
        add_delta(sh, job->delta);
        job->delta = NULL; /* once, also when the swap is repeated */
        sn__deletes_trim(sh, job->delta_position);
    }
    sh->delta_position = MAX(sh->delta_position, job->delta_position);
    sh->checkpoint = MAX(sh->checkpoint, job->checkpoint);
}

static int swap(struct sn_channel *ch, struct sn_msg *m)
{
    struct flush_job *job = m->arg;
    struct sn_shard *sh = job->sh;
    int rc = 0;

    (void)ch;
    job->place_again = false;
    if (sh->dropped) {
        goto out;
    }
    forget_written(job);
    for (size_t i = 0; i < job->nsegs; i++) {
        int64_t node = sn__placed_on(job->placements, job->nplacements, job->metas[i]->id);
        if (wants_segment(sh, job->metas[i])) {
            if (node == 0) {
                job->place_again = true;
                continue;
            }
            TRY(sn__send_deletes(sh, node, &job->metas[i]->id, 1, &m->st));
        } else {
            node = 0; /* released meanwhile; the coordinator has told the node */
        }
        TRY(sn__sealed_add(sh, job->metas[i], node, &m->st));
        sn__growing_remove(sh, job->metas[i]->id);
    }
    sn__view_publish(sh);
out:
    return rc;
}

struct low_job {
    uint64_t low;
    bool log_is_long;
    int64_t idle_before_ms;
};

/* What a shard still needs of the log. */
static uint64_t shard_low(const struct sn_shard *sh, uint64_t next)
{
    uint64_t low = next;
    for (size_t i = 0; i < sh->ngrowing; i++) {
        if (sh->growing[i].first_position) {
            low = MIN(low, sh->growing[i].first_position);
        }
    }
    for (size_t i = 0; i < sh->deletes.n; i++) {
        low = MIN(low, sh->deletes.positions[i]);
    }
    return low;
}

static bool seal_old(struct sn_shard *sh, const struct low_job *job, uint64_t low)
{
    bool any = sh->deletes.n && (sh->deletes.oldest_ms < job->idle_before_ms ||
                                 (job->log_is_long && shard_low(sh, UINT64_MAX) == low));
    for (size_t i = 0; i < sh->ngrowing; i++) {
        struct sn_growing *g = &sh->growing[i];
        if (!g->first_position) {
            continue;
        }
        if (g->last_write_ms < job->idle_before_ms ||
            (job->log_is_long && g->first_position == low)) {
            g->sealed = true;
        }
        any = any || g->sealed;
    }
    return any;
}

/* Over all shards of the channel: the oldest record needed, and who holds the log back. */
static int look_around(struct sn_channel *ch, struct sn_msg *m)
{
    struct low_job *job = m->arg;
    struct sn *sn = ch->sn;
    size_t pos = 0;
    struct slice key;
    void *v;

    job->low = ch->applied_position + 1;
    lock_acquire(&sn->lock);
    while (str_map_next(sn->shards, &pos, &key, &v)) {
        const struct sn_shard *sh = v;
        if (sh->ch == ch) {
            job->low = MIN(job->low, shard_low(sh, job->low));
        }
    }
    pos = 0;
    while (str_map_next(sn->shards, &pos, &key, &v)) {
        struct sn_shard *sh = v;
        if (sh->ch == ch && seal_old(sh, job, job->low)) {
            sn__flush_queue(sn, sh);
        }
    }
    lock_release(&sn->lock);
    return 0;
}

/* ---- steps on the flush thread ---- */

static int write_files(struct flush_job *job, struct status *st)
{
    struct sn_shard *sh = job->sh;
    struct object_store *os = sh->sn->opts.os;
    uint64_t bytes;
    int rc = 0;

    TRY(FAULT_POINT("flush_before_files", st));
    for (size_t i = 0; i < job->nsegs; i++) {
        TRY(seg_write_files(job->segs[i], os, job->metas[i]->object_prefix, &bytes, st));
        job->metas[i]->size_bytes = (int64_t)bytes;
    }
    if (job->pks.nrows && !job->delta) {
        Elanus__Delta *d = ARENA_NEW(job->ar, Elanus__Delta);
        elanus__delta__init(d);
        d->id = job->delta_id;
        d->collection_id = sh->collection_id;
        d->vchannel = sh->vchannel;
        d->object_key = arena_printf(job->ar, "deltas/%" PRId64 "/%s/%" PRId64,
                                     sh->collection_id, sh->vchannel, job->delta_id);
        d->num_rows = job->pks.nrows;
        d->min_ts = job->ts[0];
        d->max_ts = job->ts[0];
        for (uint32_t i = 1; i < job->pks.nrows; i++) {
            d->min_ts = MIN(d->min_ts, job->ts[i]);
            d->max_ts = MAX(d->max_ts, job->ts[i]);
        }
        d->last_position = job->delta_position;
        TRY(delta_write(os, d->object_key, &job->pks, job->ts, &bytes, st));
        d->size_bytes = (int64_t)bytes;
        job->delta = d;
        job->deltas[job->ndeltas++] = d;
    }
    TRY(FAULT_POINT("flush_before_commit", st));
    if (job->delta) {
        TRY(FAULT_POINT("delta_before_commit", st));
    }
out:
    return rc;
}

static int commit(struct flush_job *job, struct status *st)
{
    const struct data_service *data = job->sh->sn->opts.data;
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    Elanus__CommitFlushReq req;
    Elanus__Empty resp;
    int rc;

    elanus__commit_flush_req__init(&req);
    elanus__empty__init(&resp);
    req.vchannel = job->sh->vchannel;
    req.collection_id = job->sh->collection_id;
    req.term = job->term;
    req.segments = job->metas;
    req.n_segments = job->nsegs;
    req.deltas = &job->delta;
    req.n_deltas = job->delta ? 1 : 0;
    req.checkpoint = job->checkpoint;
    req.checkpoint_ts = job->checkpoint_ts;
    req.delta_position = job->delta_position;
    TRY(data->commit_flush(data->self, &call, &req, &resp, st));
    TRY(FAULT_POINT("flush_after_commit", st));
out:
    arena_free(ar);
    return rc;
}

static int place_and_load(struct flush_job *job, struct status *st)
{
    struct sn *sn = job->sh->sn;
    struct call call = call_internal(job->ar);
    Elanus__PlaceSegmentsReq req;
    Elanus__PlaceSegmentsResp resp;
    int64_t *ids = arena_try_array(job->ar, job->nsegs + 1, sizeof *ids);
    int rc = 0;

    if (!ids) {
        FAIL(st, ST_NO_MEMORY, "no memory to place %zu segments", job->nsegs);
    }
    for (size_t i = 0; i < job->nsegs; i++) {
        ids[i] = job->metas[i]->id;
    }
    elanus__place_segments_req__init(&req);
    elanus__place_segments_resp__init(&resp);
    req.collection_id = job->sh->collection_id;
    req.vchannel = job->sh->vchannel;
    req.segment_ids = ids;
    req.n_segment_ids = job->nsegs;
    TRY(sn->opts.query->place_segments(sn->opts.query->self, &call, &req, &resp, st));
    job->placements = resp.placements;
    job->nplacements = resp.n_placements;
    TRY(sn__load_on_nodes(sn, job->collection, job->metas, job->nsegs, job->deltas, job->ndeltas,
                          job->placements, job->nplacements, st));
out:
    return rc;
}

static bool stopping(struct sn *sn)
{
    bool stop;
    lock_acquire(&sn->flush_lock);
    stop = sn->flush_stop;
    lock_release(&sn->flush_lock);
    return stop;
}

/* Runs one step until it succeeds; false when the node stops or the shard is gone. */
static bool persist(struct flush_job *job, int (*step)(struct flush_job *, struct status *),
                    const char *what)
{
    struct sn *sn = job->sh->sn;
    int64_t pause = RETRY_MIN_MS;

    for (;;) {
        struct status st = STATUS_INIT;
        if (step(job, &st) == 0) {
            return true;
        }
        if (st.code == ERR_COLLECTION_NOT_FOUND || st.code == ST_FENCED) {
            return false;
        }
        LOG_W("flush step failed, trying again: step=%s shard=%s error=\"%s\" pause_ms=%" PRId64,
              what, job->sh->vchannel, st.msg, pause);
        lock_acquire(&sn->flush_lock);
        if (!sn->flush_stop) {
            (void)cond_wait_until(&sn->flush_wake, &sn->flush_lock, deadline_in_ms(pause));
        }
        lock_release(&sn->flush_lock);
        if (stopping(sn)) {
            return false;
        }
        pause = MIN(pause * 2, (int64_t)RETRY_MAX_MS);
    }
}

static int swap_step(struct flush_job *job, struct status *st)
{
    return sn__control(job->sh->ch, job->sh, swap, job, st);
}

static void cut_log(struct sn_channel *ch)
{
    struct status st = STATUS_INIT;
    struct low_job low = { .idle_before_ms = 0 };

    if (sn__control(ch, NULL, look_around, &low, &st) != 0 ||
        wal_truncate_before(ch->wal, low.low, &st) != 0) {
        LOG_W("log not cut: channel=%s error=\"%s\"", ch->name, st.msg);
    }
}

static void flush_shard(struct sn *sn, struct sn_shard *sh)
{
    struct flush_job job = { .sh = sh, .ar = arena_new(0) };
    struct status st = STATUS_INIT;
    int64_t began = clock_mono_ms();
    size_t rows = 0;

    (void)sn;
    if (sn__control(sh->ch, sh, prepare, &job, &st) != 0) {
        LOG_W("flush not started: shard=%s error=\"%s\"", sh->vchannel, st.msg);
        goto out;
    }
    if (job.nsegs == 0 && job.pks.nrows == 0) {
        goto out;
    }
    if (!persist(&job, write_files, "write") || !persist(&job, commit, "commit")) {
        goto out;
    }
    do {
        if (!persist(&job, place_and_load, "load") || !persist(&job, swap_step, "swap")) {
            goto out;
        }
    } while (job.place_again);
    for (size_t i = 0; i < job.nsegs; i++) {
        rows += (size_t)job.metas[i]->num_rows;
    }
    LOG_I("flushed: shard=%s segments=%zu rows=%zu deletes=%u checkpoint=%" PRIu64 " ms=%" PRId64,
          sh->vchannel, job.nsegs, rows, job.pks.nrows, job.checkpoint, clock_mono_ms() - began);
    cut_log(sh->ch);
out:
    for (size_t i = 0; i < job.nsegs; i++) {
        seg_unref(job.segs[i]);
    }
    arena_free(job.ar);
}

/* ---- the thread ---- */

void sn__flush_queue(struct sn *sn, struct sn_shard *sh)
{
    lock_acquire(&sn->flush_lock);
    if (!sh->flush_queued && sn->flush_count < ARRAY_LEN(sn->flush_queue)) {
        sh->flush_queued = true;
        sn->flush_queue[(sn->flush_head + sn->flush_count++) % ARRAY_LEN(sn->flush_queue)] =
            sn__shard_ref(sh);
        cond_broadcast(&sn->flush_wake);
    } /* a full queue is no loss: the next tick finds the sealed segments again */
    lock_release(&sn->flush_lock);
}

static void tick(struct sn *sn)
{
    size_t n;

    lock_acquire(&sn->lock);
    n = sn->nchannels; /* channels stay where they are */
    lock_release(&sn->lock);
    for (size_t i = 0; i < n; i++) {
        struct sn_channel *ch = sn->channels[i];
        struct status st = STATUS_INIT;
        struct wal_stats ws;
        struct low_job job = { .idle_before_ms = clock_now_ms() - sn->opts.seal_idle_ms };

        wal_get_stats(ch->wal, &ws);
        job.log_is_long = ws.bytes > sn->opts.wal_max_bytes;
        (void)sn__control(ch, NULL, look_around, &job, &st);
    }
}

static void flush_main(void *arg)
{
    struct sn *sn = arg;
    int64_t next_tick = deadline_in_ms(TICK_MS);

    lock_acquire(&sn->flush_lock);
    while (!sn->flush_stop) {
        if (sn->flush_count == 0) {
            if (!cond_wait_until(&sn->flush_wake, &sn->flush_lock, next_tick)) {
                lock_release(&sn->flush_lock);
                tick(sn);
                next_tick = deadline_in_ms(TICK_MS);
                lock_acquire(&sn->flush_lock);
            }
            continue;
        }
        struct sn_shard *sh = sn->flush_queue[sn->flush_head];
        sn->flush_head = (sn->flush_head + 1) % ARRAY_LEN(sn->flush_queue);
        sn->flush_count--;
        sh->flush_queued = false;
        lock_release(&sn->flush_lock);
        flush_shard(sn, sh);
        sn__shard_unref(sh);
        lock_acquire(&sn->flush_lock);
    }
    lock_release(&sn->flush_lock);
}

int sn__flush_start(struct sn *sn, struct status *st)
{
    (void)st;
    sn->flush_thread = thread_start("flush", flush_main, sn);
    return 0;
}

void sn__flush_stop(struct sn *sn)
{
    lock_acquire(&sn->flush_lock);
    sn->flush_stop = true;
    cond_broadcast(&sn->flush_wake);
    lock_release(&sn->flush_lock);
    if (sn->flush_thread) {
        thread_join(TAKE(sn->flush_thread));
    }
    while (sn->flush_count) {
        sn__shard_unref(sn->flush_queue[sn->flush_head]);
        sn->flush_head = (sn->flush_head + 1) % ARRAY_LEN(sn->flush_queue);
        sn->flush_count--;
    }
}
