/*
 * sn_flush.c - from memory to files: write, commit, cut the log.
 *
 * WHAT      A shard is queued when one of its growing segments is sealed (by size, age, Flush, or a
 *           log that has grown too long), when deletes pile up, or when a flushed segment is to be
 *           loaded. One pass over a queued shard:
 *             1 prepare   (sequencer) take sealed segments and pending deletes, note the log
 *                         position from which the shard would have to be replayed without them
 *             2 files     write each segment, then a delete file per scope
 *             3 commit    one metadata transaction: they exist, the checkpoint moves
 *             4 remember  (sequencer) they are flushed; deletes in files leave memory
 *             5 load      sn__reconcile(): the growing segments go when the sealed ones are served
 *             6 cut       remove log files that no shard of the channel needs
 * INVARIANTS  The checkpoint never passes a record with a row or delete that is not in files. A
 *             shard whose memory could not follow the log is not flushed: its next start replays.
 * THREADS   One flush thread; steps 1, 4 and the look-around are control messages.
 * FAILURE   A crash before 3: orphan files, removed by the coordinator's garbage collection; the
 *           log still has everything. After 3: the next start finds flushed segments and skips
 *           their records. A step that fails ends the pass; the shard comes again after a pause,
 *           others go first. Rows stay readable throughout. After a failed commit nobody knows
 *           whether it happened: the files stay, and committing the same segments again changes
 *           nothing.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"
#include "base/fault.h"
#include "base/log.h"
#include <inttypes.h>
#include <stdio.h>

#define LOG_ROOM "node"

#define TICK_MS 10000
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 10000
/* One transaction holds a commit; what is left comes in the next pass. */
#define PASS_SEGMENTS 256u
#define PASS_SCOPES 256u

struct flush_job {
    struct sn_shard *sh;
    struct arena *ar;
    size_t nsegs;
    struct segment **segs;            /* referenced */
    Elanus__Segment **metas;
    size_t ngroups;
    struct sn_group *groups;
    Elanus__Delta **deltas;           /* of groups; their ids are taken at the beginning */
    uint64_t delta_position;          /* deletes up to here are in the new or older files */
    uint64_t checkpoint;
    hts checkpoint_ts;
    int64_t term;
    bool more;                        /* did not fit into this pass */
    bool load;                        /* flushed segments wait to be loaded or forgotten */
};

/* ---- steps on the sequencer ---- */

static Elanus__Segment *describe(const struct flush_job *job, const struct sn_growing *g)
{
    const struct sn_shard *sh = job->sh;
    Elanus__Segment *meta = ARENA_NEW(job->ar, Elanus__Segment);
    struct seg_info info;

    seg_get_info(g->seg, &info);
    elanus__segment__init(meta);
    meta->id = g->id;
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
                                       sh->collection_id, g->partition_id, g->id);
    meta->format_version = 1;
    return meta;
}

static int prepare_deletes(struct sn_channel *ch, struct flush_job *job, struct status *st)
{
    struct sn_shard *sh = job->sh;
    const struct sn_deletes *d = &sh->deletes;
    int rc = 0;

    if (sh->flush_deletes_to <= sh->delta_position && job->nsegs == 0) { /* just loading */
        job->checkpoint = MIN(job->checkpoint, d->n ? d->at[0].position : job->checkpoint);
        job->delta_position = 0;
        goto out;
    }
    TRY(sn__deletes_groups(sh, PASS_SCOPES, job->ar, &job->groups, &job->ngroups,
                           &job->delta_position, st));
    if (job->ngroups == 0 || d->at[d->n - 1].position == job->delta_position) {
        job->delta_position = ch->applied_position; /* all that there are */
    } else {
        job->more = true;
        for (size_t i = d->n; i-- > 0 && d->at[i].position > job->delta_position;) {
            job->checkpoint = MIN(job->checkpoint, d->at[i].position);
        }
    }
    job->deltas = arena_try_array(job->ar, job->ngroups + 1, sizeof(Elanus__Delta *));
    if (!job->deltas) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu delete files", job->ngroups);
    }
    for (size_t i = 0; i < job->ngroups; i++) {
        job->deltas[i] = ARENA_NEW(job->ar, Elanus__Delta);
        elanus__delta__init(job->deltas[i]);
        TRY(sn__take_id(ch, job->ar, &job->deltas[i]->id, st));
    }
out:
    return rc;
}

static int prepare(struct sn_channel *ch, struct sn_msg *m)
{
    struct flush_job *job = m->arg;
    struct sn_shard *sh = job->sh;
    int rc = 0;

    if (sh->dropped) {
        goto out;
    }
    if (sh->failed.code != 0) {
        m->st = sh->failed;
        return m->st.code;
    }
    job->segs = arena_try_array(job->ar, sh->ngrowing + 1, sizeof(struct segment *));
    job->metas = arena_try_array(job->ar, sh->ngrowing + 1, sizeof(Elanus__Segment *));
    if (!job->segs || !job->metas) {
        FAIL(&m->st, ST_NO_MEMORY, "no memory to flush %zu segments", sh->ngrowing);
    }
    job->checkpoint = ch->applied_position + 1;
    job->checkpoint_ts = ch->applied_ts;
    job->term = sh->term;
    for (size_t i = 0; i < sh->ngrowing; i++) {
        const struct sn_growing *g = &sh->growing[i];
        if (sn__sealed_find(sh, g->id)) {
            job->load = true;
        } else if (g->sealed && g->nrows && job->nsegs < PASS_SEGMENTS) {
            job->metas[job->nsegs] = describe(job, g);
            job->segs[job->nsegs++] = seg_ref(g->seg);
        } else {
            job->more = job->more || (g->sealed && g->nrows);
            job->checkpoint = g->first_position ? MIN(job->checkpoint, g->first_position)
                                                : job->checkpoint;
        }
    }
    for (size_t i = 0; i < sh->nsealed; i++) {
        job->load = job->load || (sh->sealed[i].node_id == 0 &&
                                  sn__load_wants(sh->load, sh->sealed[i].meta->partition_id));
    }
    TRY(prepare_deletes(ch, job, &m->st));
out:
    return rc;
}

/* The new files are in metadata: what they hold leaves memory, or will once it is loaded. */
static int remember(struct sn_channel *ch, struct sn_msg *m)
{
    struct flush_job *job = m->arg;
    struct sn_shard *sh = job->sh;

    (void)ch;
    if (sh->dropped) {
        return 0;
    }
    for (size_t i = 0; i < job->nsegs; i++) {
        if (sn__growing_find(sh, job->metas[i]->id)) { /* else dropped, or replaced already */
            sn__sealed_add(sh, job->metas[i]);
        }
    }
    for (size_t i = 0; i < job->ngroups; i++) {
        if (!sn__delta_is_gone(sh, job->deltas[i]->id)) {
            sn__delta_add(sh, job->deltas[i]);
        }
    }
    sh->ngone_deltas = 0; /* ids of later ones are new */
    sn__deletes_trim(sh, job->ngroups ? job->delta_position : 0);
    sh->delta_position = MAX(sh->delta_position, job->delta_position);
    sh->checkpoint = MAX(sh->checkpoint, job->checkpoint);
    return 0;
}

struct low_job {
    uint64_t low;
    bool log_is_long;
    int64_t idle_before_ms;
};

/* Seals what is old or holds the log back. Whether the flush thread has work here. */
static bool seal_old(struct sn_channel *ch, struct sn_shard *sh, const struct low_job *job)
{
    bool any = sh->deletes.n && (sh->deletes.oldest_ms < job->idle_before_ms ||
                                 (job->log_is_long && sh->deletes.at[0].position == job->low));
    if (any) {
        sh->flush_deletes_to = ch->applied_position;
    }
    for (size_t i = 0; i < sh->ngrowing; i++) {
        struct sn_growing *g = &sh->growing[i];
        if (!g->first_position) {
            continue;
        }
        if (g->last_write_ms < job->idle_before_ms ||
            (job->log_is_long && g->first_position == job->low)) {
            g->sealed = true;
        }
        any = any || g->sealed;
    }
    return any || (sh->view && sh->view->nmissing);
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
            job->low = MIN(job->low, sn__shard_low(sh));
        }
    }
    pos = 0;
    while (str_map_next(sn->shards, &pos, &key, &v)) {
        struct sn_shard *sh = v;
        if (sh->ch == ch && seal_old(ch, sh, job)) {
            sn__flush_queue(sn, sh);
        }
    }
    lock_release(&sn->lock);
    return 0;
}

/* ---- steps on the flush thread ---- */

static int write_delta(struct flush_job *job, size_t i, struct status *st)
{
    const struct sn_shard *sh = job->sh;
    const struct sn_group *g = &job->groups[i];
    Elanus__Delta *d = job->deltas[i];
    uint64_t bytes;
    int rc;

    d->collection_id = sh->collection_id;
    d->vchannel = sh->vchannel;
    d->object_key = arena_printf(job->ar, "deltas/%" PRId64 "/%s/%" PRId64, sh->collection_id,
                                 sh->vchannel, d->id);
    d->num_rows = g->pks.nrows;
    d->min_ts = d->max_ts = g->ts[0];
    for (uint32_t r = 1; r < g->pks.nrows; r++) {
        d->min_ts = MIN(d->min_ts, g->ts[r]);
        d->max_ts = MAX(d->max_ts, g->ts[r]);
    }
    d->last_position = job->delta_position;
    d->partition_ids = g->scope.ids;
    d->n_partition_ids = g->scope.n;
    TRY(delta_write(sh->sn->opts.os, d->object_key, &g->pks, g->ts, &bytes, st));
    d->size_bytes = (int64_t)bytes;
out:
    return rc;
}

static int write_files(struct flush_job *job, struct status *st)
{
    struct object_store *os = job->sh->sn->opts.os;
    uint64_t bytes;
    int rc = 0;

    TRY(FAULT_POINT("flush_before_files", st));
    for (size_t i = 0; i < job->nsegs; i++) {
        TRY(seg_write_files(job->segs[i], os, job->metas[i]->object_prefix, &bytes, st));
        job->metas[i]->size_bytes = (int64_t)bytes;
    }
    for (size_t i = 0; i < job->ngroups; i++) {
        TRY(write_delta(job, i, st));
    }
    TRY(FAULT_POINT("flush_before_commit", st));
    if (job->ngroups) {
        TRY(FAULT_POINT("delta_before_commit", st));
    }
out:
    return rc;
}

/* Delete files have new names in the next pass; these would lie around until the next start. */
static void remove_deltas(struct flush_job *job)
{
    struct object_store *os = job->sh->sn->opts.os;

    for (size_t i = 0; i < job->ngroups; i++) {
        struct status ignored = STATUS_INIT;
        if (job->deltas[i]->object_key[0]) {
            (void)object_delete(os, slice_of(job->deltas[i]->object_key), &ignored);
        }
    }
}

static int commit(struct flush_job *job, struct status *st)
{
    const struct data_service *data = job->sh->sn->opts.data;
    struct call call = call_internal(job->ar);
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
    req.deltas = job->deltas;
    req.n_deltas = job->ngroups;
    req.checkpoint = job->checkpoint;
    req.checkpoint_ts = job->checkpoint_ts;
    req.delta_position = job->delta_position;
    TRY(data->commit_flush(data->self, &call, &req, &resp, st));
    TRY(FAULT_POINT("flush_after_commit", st));
out:
    return rc;
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

static int persist(struct flush_job *job, struct status *st)
{
    struct sn_shard *sh = job->sh;
    int64_t began = clock_mono_ms(), rows = 0;
    int rc = write_files(job, st);

    if (rc != 0) {
        remove_deltas(job);
        goto out;
    }
    TRY(commit(job, st));
    TRY(sn__control(sh->ch, sh, remember, job, st));
    for (size_t i = 0; i < job->nsegs; i++) {
        rows += job->metas[i]->num_rows;
    }
    job->load = job->load || job->nsegs;
    LOG_I("flushed: shard=%s segments=%zu rows=%" PRId64 " delete_files=%zu checkpoint=%" PRIu64
          " ms=%" PRId64, sh->vchannel, job->nsegs, rows, job->ngroups, job->checkpoint,
          clock_mono_ms() - began);
out:
    return rc;
}

static int pass(struct sn_shard *sh, struct flush_job *job, struct status *st)
{
    struct call call = call_internal(job->ar);
    struct sn_want want = { .wait = false }; /* a long load must not hold up other shards */
    bool flushed;
    int rc;

    TRY(sn__control(sh->ch, sh, prepare, job, st));
    flushed = job->nsegs || job->ngroups;
    if (flushed) {
        TRY(persist(job, st));
    }
    if (job->load) {
        rc = sn__reconcile(sh, &want, &call, st);
    }
    if (flushed) {
        cut_log(sh->ch);
    }
    if (job->more) {
        sn__flush_queue(sh->sn, sh);
    }
out:
    return rc;
}

/* ---- the thread ---- */

void sn__flush_queue(struct sn *sn, struct sn_shard *sh)
{
    lock_acquire(&sn->flush_lock);
    if (!sh->flush_queued && !sn->flush_stop) {
        if (sn->flush_n == sn->flush_cap) {
            sn->flush_cap = sn->flush_cap * 2 + 16;
            sn->flush_queue =
                xrealloc(sn->flush_queue, sn->flush_cap * sizeof(struct sn_shard *));
        }
        sh->flush_queued = true;
        sn->flush_queue[sn->flush_n++] = sn__shard_ref(sh);
        cond_signal(&sn->flush_wake);
    }
    lock_release(&sn->flush_lock);
}

static void flush_shard(struct sn *sn, struct sn_shard *sh)
{
    struct flush_job job = { .sh = sh, .ar = arena_new(0) };
    struct status st = STATUS_INIT;
    int rc = pass(sh, &job, &st);
    /* A shard that was dropped or opened anew has nobody who waits for its flush. */
    bool again = rc != 0 && rc != ST_NOT_READY && sn__shard_is_current(sn, sh);

    lock_acquire(&sn->flush_lock);
    if (rc == 0) {
        sh->flush_pause_ms = 0;
    } else {
        sh->flush_pause_ms = sh->flush_pause_ms ? MIN(sh->flush_pause_ms * 2, RETRY_MAX_MS)
                                                : RETRY_MIN_MS;
    }
    sh->flush_at_us = deadline_in_ms(sh->flush_pause_ms);
    lock_release(&sn->flush_lock);
    if (again) {
        if (rc != ST_BUSY) {
            LOG_W("flush failed, tried again: shard=%s pause_ms=%" PRId64 " error=\"%s\"",
                  sh->vchannel, sh->flush_pause_ms, st.msg);
        }
        sn__flush_queue(sn, sh);
    }
    for (size_t i = 0; i < job.nsegs; i++) {
        seg_unref(job.segs[i]);
    }
    arena_free(job.ar);
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
        if (sn__control(ch, NULL, look_around, &job, &st) != 0) {
            continue; /* stopping */
        }
        if (wal_truncate_before(ch->wal, job.low, &st) != 0) {
            LOG_W("log not cut: channel=%s error=\"%s\"", ch->name, st.msg);
        }
    }
}

/* The first queued shard that is due; else *ret_next is when the first one will be. Holds:
 * flush_lock. */
static struct sn_shard *take_due(struct sn *sn, int64_t *ret_next)
{
    int64_t now = clock_mono_us();

    for (size_t i = 0; i < sn->flush_n; i++) {
        struct sn_shard *sh = sn->flush_queue[i];
        if (sh->flush_at_us <= now) {
            sn->flush_n--;
            memmove(&sn->flush_queue[i], &sn->flush_queue[i + 1],
                    (sn->flush_n - i) * sizeof(struct sn_shard *));
            sh->flush_queued = false;
            return sh;
        }
        *ret_next = MIN(*ret_next, sh->flush_at_us);
    }
    return NULL;
}

static void flush_main(void *arg)
{
    struct sn *sn = arg;
    int64_t next_tick = deadline_in_ms(TICK_MS);

    lock_acquire(&sn->flush_lock);
    while (!sn->flush_stop) {
        int64_t next = next_tick;
        struct sn_shard *sh = take_due(sn, &next);
        if (!sh && clock_mono_us() < next_tick) {
            (void)cond_wait_until(&sn->flush_wake, &sn->flush_lock, next);
            continue;
        }
        lock_release(&sn->flush_lock);
        if (sh) {
            flush_shard(sn, sh);
            sn__shard_unref(sh);
        }
        if (clock_mono_us() >= next_tick) {
            tick(sn);
            next_tick = deadline_in_ms(TICK_MS);
        }
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
    size_t n;

    lock_acquire(&sn->flush_lock);
    sn->flush_stop = true; /* nothing is queued any more */
    cond_signal(&sn->flush_wake);
    lock_release(&sn->flush_lock);
    if (sn->flush_thread) {
        thread_join(TAKE(sn->flush_thread));
    }
    lock_acquire(&sn->flush_lock);
    n = sn->flush_n;
    sn->flush_n = 0;
    lock_release(&sn->flush_lock);
    for (size_t i = 0; i < n; i++) {
        sn__shard_unref(sn->flush_queue[i]);
    }
    mem_free(TAKE(sn->flush_queue));
}
