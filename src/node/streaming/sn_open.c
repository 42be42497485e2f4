/*
 * sn_open.c - taking over shards: replay what is not flushed, load what is, then serve.
 *
 * WHAT      The coordinator hands over a shard's definition, flushed segments, delete files and
 *           where each segment is to be loaded. Records of the log from the checkpoint on are
 *           applied to new growing segments under their old ids, except rows of flushed segments
 *           and of partitions that are gone. Then flushed segments are loaded (sn_load.c), which
 *           sends them the deletes that the replay found.
 * THREADS   Any; replay itself runs on the channel's sequencer.
 * FAILURE   Nothing durable happens here but that a log without its end is filled up (fill_lost), so a
 *           failed open is simply repeated.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"
#include "base/log.h"
#include "schema/errors.h"

#define LOG_ROOM "node"

/* ---- replay ---- */

/* The shards of one channel that are opened together: the log is read once. */
struct open_job {
    size_t n;
    struct opening {
        struct sn_shard *sh;              /* reference moves to the node when it is registered */
        const Elanus__OpenShardReq *req;
    } *shards;
    struct str_map *by_name;              /* vchannel -> struct opening * */
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

static int replay_insert(struct open_job *job, const struct opening *o, const struct sn_part *part,
                         hts ts, uint64_t position, struct arena *ar, struct status *st)
{
    struct sn_growing *g;
    struct batch b;
    int rc = 0;

    if (sn__sealed_find(o->sh, part->segment_id) ||
        !partition_exists(o->req, part->partition_id)) {
        goto out;
    }
    TRY(batch_decode(part->batch, ar, &b, st));
    g = sn__growing_find(o->sh, part->segment_id);
    if (!g) {
        TRY(sn__growing_add(o->sh, part->segment_id, part->partition_id, &g, st));
    }
    TRY(sn__apply_insert(o->sh, g, &b, ts, position, st));
    job->rows += b.nrows;
out:
    return rc;
}

static int replay_record(struct open_job *job, const struct wal_record *wr, struct arena *ar,
                         struct status *st)
{
    const struct opening *o;
    struct sn_record r;
    struct batch b;
    int rc = 0;

    if (wr->type != SN_RECORD_WRITE) {
        FAIL(st, ST_CORRUPT, "type %u is unknown", wr->type);
    }
    TRY(sn_record_decode(wr->payload, ar, &r, st));
    o = str_map_get(job->by_name, r.vchannel);
    if (!o || wr->position < o->sh->checkpoint) {
        goto out; /* dropped, open already, or flushed long ago */
    }
    job->records++;
    if (r.delete_pks.n) {
        struct sn_scope scope = { r.ndelete_partitions, r.delete_partitions };
        TRY(batch_decode(r.delete_pks, ar, &b, st));
        if (b.ncols != 1) {
            FAIL(st, ST_CORRUPT, "deleted keys in %u columns", b.ncols);
        }
        TRY(sn__apply_deletes(o->sh, &b.cols[0], &scope, r.ts, wr->position, false, st));
    }
    for (uint32_t i = 0; i < r.nparts; i++) {
        TRY(replay_insert(job, o, &r.parts[i], r.ts, wr->position, ar, st));
    }
out:
    return rc;
}

static int replay_log(struct sn_channel *ch, struct open_job *job, uint64_t from,
                      struct status *st)
{
    struct arena *ar = arena_new(0);
    struct wal_reader *rd = NULL;
    struct wal_record wr;
    bool found;
    int rc;

    TRY(wal_reader_open(ch->wal, MAX(from, wal_first_position(ch->wal)), &rd, st));
    for (;;) {
        TRY(wal_reader_next(rd, &wr, &found, st));
        if (!found) {
            break;
        }
        rc = replay_record(job, &wr, ar, st);
        if (rc != 0) {
            st_context(st, "log %s, record %llu", ch->name, (unsigned long long)wr.position);
            goto out;
        }
        arena_reset(ar);
    }
out:
    wal_reader_close(rd);
    arena_free(ar);
    return rc;
}

/* ---- a log that has lost its end ---- */

#define FILL_BATCH 1024u

/* What metadata says is in files may have been in the log's end when a power cut took it (wal.sync
 * other than always), or the log is a new one. Its positions are not given out again: what stood there
 * would be taken for flushed by the next replay, and by the commit of a flush. Empty records stand in
 * for what was lost. */
static int fill_lost(struct sn_channel *ch, const struct open_job *job, struct arena *ar,
                     struct status *st)
{
    const struct sn_record empty = { .vchannel = SLICE_LIT("") };
    uint64_t last = wal_last_position(ch->wal), used = last, from;
    struct wal_entry *entries, entry = { .type = SN_RECORD_WRITE };
    struct file_part *parts;
    int rc = 0;

    for (size_t i = 0; i < job->n; i++) {
        const struct sn_shard *sh = job->shards[i].sh;
        used = MAX(used, sh->delta_position);
        used = MAX(used, sh->checkpoint ? sh->checkpoint - 1 : 0);
    }
    if (used == last) {
        goto out;
    }
    LOG_W("log ends before what is in files, its end was lost: channel=%s last=%llu files=%llu",
          ch->name, (unsigned long long)last, (unsigned long long)used);
    TRY(sn_record_encode(&empty, ar, &parts, &entry.nparts, st));
    entry.parts = parts;
    entries = arena_try_array(ar, FILL_BATCH, sizeof *entries);
    if (!entries) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u records", FILL_BATCH);
    }
    for (uint32_t i = 0; i < FILL_BATCH; i++) {
        entries[i] = entry;
    }
    while (last < used) {
        size_t n = (size_t)MIN(used - last, (uint64_t)FILL_BATCH);
        TRY(wal_append(ch->wal, entries, n, &from, st));
        last = from + n - 1;
    }
    ch->applied_position = last;
out:
    return rc;
}

/* Only the newest growing segment of a partition goes on taking rows. */
static void seal_older(struct sn_shard *sh)
{
    bool any = false;

    for (size_t i = 0; i < sh->ngrowing; i++) {
        for (size_t j = 0; j < sh->ngrowing; j++) {
            if (sh->growing[i].partition_id == sh->growing[j].partition_id &&
                sh->growing[j].id > sh->growing[i].id) {
                sh->growing[i].sealed = true;
            }
        }
        if (sh->growing[i].bytes >= sh->sn->opts.seal_bytes) {
            sh->growing[i].sealed = true;
        }
        any = any || sh->growing[i].sealed;
    }
    if (any) {
        sn__flush_queue(sh->sn, sh);
    }
}

/* The node serves the shard from here on. An older opening of the same shard answers that it is not
 * available: its callers find this one when they try again. */
static void register_shard(struct sn *sn, struct sn_shard *sh)
{
    struct sn_shard *old;

    lock_acquire(&sn->lock);
    old = str_map_put(sn->shards, slice_of(sh->vchannel), sh);
    lock_release(&sn->lock);
    if (old) {
        struct status st = STATUS_INIT;
        st_fail(&st, ERR_CHANNEL_NOT_AVAILABLE, "channel not available[channel=%s]", sh->vchannel);
        st.retriable = true;
        sn__set_failed(old, &st);
        sn__shard_unref(old);
    }
}

/* On the sequencer, so that the log does not grow meanwhile. All shards are registered before any
 * is flushed: a flush cuts the log by what the registered ones need. */
static int open_on_channel(struct sn_channel *ch, struct sn_msg *m)
{
    struct open_job *job = m->arg;
    struct arena *ar = arena_new(0);
    uint64_t from = UINT64_MAX;
    hts now = 0;
    int rc;

    for (size_t i = 0; i < job->n; i++) {
        if (!job->shards[i].req->fresh) {
            from = MIN(from, job->shards[i].sh->checkpoint);
        }
    }
    TRY(fill_lost(ch, job, ar, &m->st));
    if (from != UINT64_MAX) {
        TRY(replay_log(ch, job, from, &m->st));
    }
    /* Everything older than this is applied, also what is only in files. */
    TRY(sn__take_timestamps(ch, 1, ar, &now, &m->st));
    ch->applied_ts = MAX(ch->applied_ts, now);
    for (size_t i = 0; i < job->n; i++) {
        sn__view_publish(job->shards[i].sh);
        register_shard(ch->sn, sn__shard_ref(job->shards[i].sh));
    }
    for (size_t i = 0; i < job->n; i++) {
        seal_older(job->shards[i].sh);
    }
out:
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
    for (size_t i = 0; i < req->n_deltas; i++) {
        sn__delta_add(sh, req->deltas[i]);
    }
    for (size_t i = 0; i < req->n_segments; i++) {
        sn__sealed_add(sh, req->segments[i]);
    }
    *ret = TAKE(sh);
out:
    sn__shard_unref(sh);
    return rc;
}

static int open_channel(struct sn_channel *ch, struct sn_shard **shards,
                        const Elanus__OpenShardsReq *req, struct arena *ar, struct status *st)
{
    struct open_job job = { .by_name = str_map_new() };
    int64_t began = clock_mono_ms();
    int rc = 0;

    job.shards = arena_try_array(ar, req->n_shards + 1, sizeof *job.shards);
    if (!job.shards) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu shards", req->n_shards);
    }
    for (size_t i = 0; i < req->n_shards; i++) {
        if (shards[i]->ch == ch) {
            struct opening *o = &job.shards[job.n++];
            *o = (struct opening){ shards[i], req->shards[i] };
            if (!req->shards[i]->fresh) {
                str_map_put(job.by_name, slice_of(shards[i]->vchannel), o);
            }
        }
    }
    TRY(sn__control(ch, NULL, open_on_channel, &job, st));
    if (str_map_count(job.by_name)) {
        LOG_I("log replayed: channel=%s shards=%zu records=%llu rows=%llu ms=%lld", ch->name,
              str_map_count(job.by_name), (unsigned long long)job.records,
              (unsigned long long)job.rows, (long long)(clock_mono_ms() - began));
    }
out:
    str_map_free(job.by_name, NULL);
    return rc;
}

/* What was readable before is readable again when this returns. A shard whose files cannot be
 * loaded is open all the same: it takes writes, reads of it fail, and loading is tried again. */
static void load_shard(struct sn_shard *sh, const Elanus__OpenShardReq *req,
                       const struct call *call)
{
    struct sn_want want = { NULL, req->placements, req->n_placements, true };
    struct status st = STATUS_INIT;

    if (req->n_segments && req->load && sn__reconcile(sh, &want, call, &st) != 0) {
        LOG_E("shard is open, but not all of it can be read: shard=%s error=\"%s\"", sh->vchannel,
              st.msg);
    }
}

int sn__open_shards(struct sn *sn, const struct call *call, const Elanus__OpenShardsReq *req,
                    struct status *st)
{
    struct sn_shard **shards = arena_try_array(call->ar, req->n_shards + 1,
                                               sizeof(struct sn_shard *));
    int rc = 0;

    if (!shards) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %zu shards", req->n_shards);
    }
    for (size_t i = 0; i < req->n_shards; i++) {
        TRY(build_shard(sn, req->shards[i], &shards[i], st));
    }
    for (size_t i = 0; i < req->n_shards; i++) {
        bool first = true;
        for (size_t j = 0; j < i && first; j++) {
            first = shards[j]->ch != shards[i]->ch;
        }
        if (first) {
            TRY(open_channel(shards[i]->ch, shards, req, call->ar, st));
        }
    }
    for (size_t i = 0; i < req->n_shards; i++) {
        load_shard(shards[i], req->shards[i], call);
    }
out:
    for (size_t i = 0; i < req->n_shards; i++) {
        sn__shard_unref(shards[i]);
    }
    return rc;
}
