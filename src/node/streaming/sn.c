/*
 * sn.c - the streaming node's face: every call of snode.def, start and stop.
 *
 * THREADS   Calls come from any thread; what changes a shard goes through its channel's sequencer
 *           (sn_channel.c).
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"
#include "base/log.h"
#include "schema/errors.h"

#define LOG_ROOM "node"

/* ---- write ---- */

/* Rows are decoded before they reach the log: what cannot be read must never be acknowledged. */
static int decode_write(struct sn_shard *sh, const Elanus__WriteReq *req, struct arena *ar,
                        struct sn_msg *m, struct status *st)
{
    struct sn_record *r = &m->record;
    int rc = 0;

    r->collection_id = req->collection_id;
    r->vchannel = slice_of(sh->vchannel);
    r->parts = arena_try_array(ar, req->n_inserts + 1, sizeof *r->parts);
    m->batches = arena_try_array(ar, req->n_inserts + 1, sizeof *m->batches);
    if (!r->parts || !m->batches || req->n_inserts > 4096) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu partitions in one write", req->n_inserts);
    }
    r->nparts = (uint32_t)req->n_inserts;
    for (uint32_t i = 0; i < r->nparts; i++) {
        const Elanus__InsertPart *p = req->inserts[i];
        r->parts[i] = (struct sn_part){ .partition_id = p->partition_id,
                                        .num_rows = p->num_rows,
                                        .batch = slice_n(p->batch.data, p->batch.len) };
        TRY(batch_decode(r->parts[i].batch, ar, &m->batches[i], st));
        if (m->batches[i].nrows != p->num_rows || p->num_rows == 0) {
            FAIL(st, ST_INVALID, "%u rows in a batch said to have %u", m->batches[i].nrows,
                 p->num_rows);
        }
        m->bytes += p->batch.len;
    }
    if (req->delete_pks.len) {
        r->delete_pks = slice_n(req->delete_pks.data, req->delete_pks.len);
        TRY(batch_decode(r->delete_pks, ar, &m->deletes, st));
        if (m->deletes.ncols != 1 || m->deletes.nrows == 0) {
            FAIL(st, ST_INVALID, "deleted keys in %u columns of %u rows", m->deletes.ncols,
                 m->deletes.nrows);
        }
        r->delete_partitions = req->delete_partition_ids;
        r->ndelete_partitions = (uint32_t)req->n_delete_partition_ids;
        m->bytes += req->delete_pks.len;
    }
    if (m->bytes == 0) {
        FAIL(st, ST_INVALID, "a write without rows");
    }
out:
    return rc;
}

static int do_write(void *self, const struct call *call, const Elanus__WriteReq *req,
                    Elanus__WriteResp *resp, struct status *st)
{
    struct sn *sn = self;
    struct sn_shard *sh = NULL;
    struct sn_msg m = { .write = req, .ar = call->ar };
    int rc;

    if (sn->opts.memory_high_bytes && sn->growing_bytes > sn->opts.memory_high_bytes &&
        req->n_inserts) {
        return st_fail(st, ST_QUOTA, "quota exceeded[reason=memory quota exceeded, please allocate "
                       "more resources]: unflushed rows use %zu of %llu bytes",
                       (size_t)sn->growing_bytes, (unsigned long long)sn->opts.memory_high_bytes);
    }
    TRY(sn__shard_find(sn, req->vchannel, &sh, st));
    TRY(decode_write(sh, req, call->ar, &m, st));
    m.shard = sh;
    TRY(sn__submit(sh->ch, &m, st));
    resp->timestamp = m.ts;
    resp->position = m.position;
out:
    sn__shard_unref(sh);
    return rc;
}

/* ---- seal ---- */

struct seal_job {
    const Elanus__SealReq *req;
    struct arena *ar;
    Elanus__SealResp *resp;
};

static bool listed(const int64_t *ids, size_t n, int64_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return n == 0;
}

static int seal(struct sn_channel *ch, struct sn_msg *m)
{
    struct seal_job *job = m->arg;
    struct sn_shard *sh = m->shard;

    job->resp->segment_ids = arena_try_array(job->ar, sh->ngrowing + 1, sizeof(int64_t));
    if (!job->resp->segment_ids) {
        return st_fail(&m->st, ST_NO_MEMORY, "no memory for %zu segments", sh->ngrowing);
    }
    for (size_t i = 0; i < sh->ngrowing; i++) {
        struct sn_growing *g = &sh->growing[i];
        struct seg_info info;
        seg_get_info(g->seg, &info);
        if (info.nrows && listed(job->req->partition_ids, job->req->n_partition_ids,
                                 g->partition_id)) {
            g->sealed = true;
            job->resp->segment_ids[job->resp->n_segment_ids++] = info.id;
        }
    }
    job->resp->position = ch->applied_position;
    job->resp->flush_ts = ch->applied_ts;
    if (job->resp->n_segment_ids || sh->deletes.n) {
        sn__flush_queue(ch->sn, sh);
    }
    return 0;
}

static int do_seal(void *self, const struct call *call, const Elanus__SealReq *req,
                   Elanus__SealResp *resp, struct status *st)
{
    struct sn_shard *sh = NULL;
    struct seal_job job = { req, call->ar, resp };
    int rc;

    TRY(sn__shard_find(self, req->vchannel, &sh, st));
    TRY(sn__control(sh->ch, sh, seal, &job, st));
out:
    sn__shard_unref(sh);
    return rc;
}

/* ---- load ---- */

struct load_job {
    const Elanus__SetLoadReq *req;
    struct arena *ar;
    /* Taken at the beginning, on the sequencer. */
    Elanus__Collection *collection;
    size_t nsegs, ndeltas;
    Elanus__Segment **segs;        /* flushed and to be loaded */
    Elanus__Delta **deltas;
    size_t nplacements;
    Elanus__Placement **placements;
};

static bool load_wants(const Elanus__Load *load, int64_t partition_id)
{
    return load && load->status == ELANUS__LOAD_STATUS__LOAD_LOADED &&
           (load->whole || (load->n_partition_ids &&
                            listed(load->partition_ids, load->n_partition_ids, partition_id)));
}

static int load_snapshot(struct sn_channel *ch, struct sn_msg *m)
{
    struct load_job *job = m->arg;
    struct sn_shard *sh = m->shard;

    (void)ch;
    job->segs = arena_try_array(job->ar, sh->nsealed + 1, sizeof *job->segs);
    job->deltas = arena_try_array(job->ar, sh->ndeltas + 1, sizeof *job->deltas);
    if (!job->segs || !job->deltas) {
        return st_fail(&m->st, ST_NO_MEMORY, "no memory to load %zu segments", sh->nsealed);
    }
    job->nsegs = 0;
    for (size_t i = 0; i < sh->nsealed; i++) {
        if (load_wants(job->req->load, sh->sealed[i].meta->partition_id)) {
            job->segs[job->nsegs++] = sh->sealed[i].meta;
        }
    }
    job->ndeltas = sh->ndeltas;
    for (size_t i = 0; i < sh->ndeltas; i++) {
        job->deltas[i] = sh->deltas[i];
    }
    job->collection = sh->collection;
    return 0;
}

/* Delete files that a flush made since the snapshot: the segments just loaded lack them. */
static int catch_up(struct sn_shard *sh, size_t known, int64_t node, const int64_t *segment_ids,
                    size_t n, struct arena *ar, struct status *st)
{
    struct call call = call_internal(ar);
    int rc = 0;

    for (size_t i = known; i < sh->ndeltas; i++) {
        const struct qnode_service *qs;
        Elanus__ApplyDeletesReq req;
        Elanus__Empty resp;
        struct column pks;
        const hts *ts;

        elanus__apply_deletes_req__init(&req);
        elanus__empty__init(&resp);
        TRY(delta_read(sh->sn->opts.os, sh->deltas[i]->object_key, ar, &pks, &ts, st));
        struct batch b = { .nrows = pks.nrows, .ncols = 1, .cols = &pks };
        TRY(nd_batch_bytes(&b, ar, &req.pks, st));
        req.collection_id = sh->collection_id;
        req.segment_ids = (int64_t *)(uintptr_t)segment_ids;
        req.n_segment_ids = n;
        req.timestamps = (uint64_t *)(uintptr_t)ts;
        req.n_timestamps = pks.nrows;
        TRY(svc_dir_qnode(sh->sn->opts.dir, node, &qs, st));
        TRY(qs->apply_deletes(qs->self, &call, &req, &resp, st));
    }
out:
    return rc;
}

static int load_publish(struct sn_channel *ch, struct sn_msg *m)
{
    struct load_job *job = m->arg;
    struct sn_shard *sh = m->shard;
    int rc = 0;

    (void)ch;
    for (size_t i = 0; i < job->nsegs; i++) {
        int64_t node = sn__placed_on(job->placements, job->nplacements, job->segs[i]->id);
        if (node) {
            TRY(catch_up(sh, job->ndeltas, node, &job->segs[i]->id, 1, job->ar, &m->st));
            TRY(sn__send_deletes(sh, node, &job->segs[i]->id, 1, &m->st));
        }
    }
    sh->load = job->req->load ? sn__copy(&job->req->load->pb, sh->ar) : NULL;
    for (size_t i = 0; i < sh->nsealed; i++) {
        int64_t node = sn__placed_on(job->placements, job->nplacements, sh->sealed[i].meta->id);
        sh->sealed[i].node_id =
            load_wants(sh->load, sh->sealed[i].meta->partition_id) ? node : 0;
    }
    sn__view_publish(sh);
out:
    return rc;
}

/* Segments flushed after the coordinator made its list. */
static int place_missing(struct sn *sn, struct sn_shard *sh, const struct call *call,
                         struct load_job *job, struct status *st)
{
    Elanus__PlaceSegmentsReq req;
    Elanus__PlaceSegmentsResp resp;
    size_t n = 0;
    int rc = 0;

    job->placements = arena_try_array(call->ar, job->req->n_placements + job->nsegs + 1,
                                      sizeof(Elanus__Placement *));
    elanus__place_segments_req__init(&req);
    elanus__place_segments_resp__init(&resp);
    req.segment_ids = arena_try_array(call->ar, job->nsegs + 1, sizeof(int64_t));
    if (!job->placements || !req.segment_ids) {
        FAIL(st, ST_NO_MEMORY, "no memory to place %zu segments", job->nsegs);
    }
    for (size_t i = 0; i < job->req->n_placements; i++) {
        job->placements[n++] = job->req->placements[i];
    }
    for (size_t i = 0; i < job->nsegs; i++) {
        if (!sn__placed_on(job->req->placements, job->req->n_placements, job->segs[i]->id)) {
            req.segment_ids[req.n_segment_ids++] = job->segs[i]->id;
        }
    }
    if (req.n_segment_ids) {
        req.collection_id = sh->collection_id;
        req.vchannel = sh->vchannel;
        TRY(sn->opts.query->place_segments(sn->opts.query->self, call, &req, &resp, st));
        for (size_t i = 0; i < resp.n_placements && i < job->nsegs; i++) {
            job->placements[n++] = resp.placements[i];
        }
    }
    job->nplacements = n;
out:
    return rc;
}

static int do_set_load(void *self, const struct call *call, const Elanus__SetLoadReq *req,
                       Elanus__Empty *resp, struct status *st)
{
    struct sn *sn = self;
    struct sn_shard *sh = NULL;
    struct load_job job = { .req = req, .ar = call->ar };
    int rc;

    (void)resp;
    TRY(sn__shard_find(sn, req->vchannel, &sh, st));
    TRY(sn__control(sh->ch, sh, load_snapshot, &job, st));
    TRY(place_missing(sn, sh, call, &job, st));
    TRY(sn__load_on_nodes(sn, job.collection, job.segs, job.nsegs, job.deltas, job.ndeltas,
                          job.placements, job.nplacements, st));
    TRY(sn__control(sh->ch, sh, load_publish, &job, st));
out:
    sn__shard_unref(sh);
    return rc;
}

/* ---- definition changes ---- */

static int update_collection(struct sn_channel *ch, struct sn_msg *m)
{
    const Elanus__Collection *c = m->arg;
    struct sn_shard *sh = m->shard;
    struct schema *schema = NULL;
    bool changed;
    int rc;

    TRY(schema_new(c->schema, &schema, &m->st));
    changed = schema->version != sh->schema->version || schema->nfields != sh->schema->nfields;
    sh->collection = sn__copy(&c->pb, sh->ar);
    schema_unref(sh->schema);
    sh->schema = TAKE(schema);
    for (size_t i = 0; changed && i < sh->ngrowing; i++) {
        sh->growing[i].sealed = true; /* rows of the new definition go to new segments */
        sn__flush_queue(ch->sn, sh);
    }
    sn__view_publish(sh);
out:
    schema_unref(schema);
    return rc;
}

static int do_update_collection(void *self, const struct call *call,
                                const Elanus__UpdateCollectionReq *req, Elanus__Empty *resp,
                                struct status *st)
{
    struct sn *sn = self;
    int rc = 0;

    (void)call;
    (void)resp;
    for (size_t i = 0; i < req->collection->n_vchannels; i++) {
        struct sn_shard *sh;
        TRY(sn__shard_find(sn, req->collection->vchannels[i], &sh, st));
        rc = sn__control(sh->ch, sh, update_collection, req->collection, st);
        sn__shard_unref(sh);
        TRY(rc);
    }
out:
    return rc;
}

static void release_on_node(struct sn_shard *sh, int64_t node, int64_t segment_id)
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

static int drop_partition(struct sn_channel *ch, struct sn_msg *m)
{
    const Elanus__DropPartitionReq *req = m->arg;
    struct sn_shard *sh = m->shard;
    size_t kept = 0;

    (void)ch;
    for (size_t i = sh->ngrowing; i-- > 0;) {
        if (sh->growing[i].partition_id == req->partition_id) {
            struct seg_info info;
            seg_get_info(sh->growing[i].seg, &info);
            sn__growing_remove(sh, info.id);
        }
    }
    for (size_t i = 0; i < sh->nsealed; i++) {
        if (sh->sealed[i].meta->partition_id != req->partition_id) {
            sh->sealed[kept++] = sh->sealed[i];
        } else if (sh->sealed[i].node_id) {
            release_on_node(sh, sh->sealed[i].node_id, sh->sealed[i].meta->id);
        }
    }
    sh->nsealed = kept;
    sn__view_publish(sh);
    return 0;
}

static int do_drop_partition(void *self, const struct call *call,
                             const Elanus__DropPartitionReq *req, Elanus__Empty *resp,
                             struct status *st)
{
    struct sn_shard *sh = NULL;
    int rc;

    (void)call;
    (void)resp;
    TRY(sn__shard_find(self, req->vchannel, &sh, st));
    TRY(sn__control(sh->ch, sh, drop_partition, (void *)(uintptr_t)req, st));
out:
    sn__shard_unref(sh);
    return rc;
}

static int drop_shard(struct sn_channel *ch, struct sn_msg *m)
{
    struct sn_shard *sh = m->shard;

    (void)ch;
    sh->dropped = true;
    while (sh->ngrowing) {
        struct seg_info info;
        seg_get_info(sh->growing[0].seg, &info);
        sn__growing_remove(sh, info.id);
    }
    sn__deletes_trim(sh, UINT64_MAX);
    sh->nsealed = 0;
    sh->load = NULL;
    sn__view_publish(sh);
    return 0;
}

static int do_drop_shard(void *self, const struct call *call, const Elanus__ShardReq *req,
                         Elanus__Empty *resp, struct status *st)
{
    struct sn *sn = self;
    struct sn_shard *sh = NULL;
    int rc = 0;

    (void)call;
    (void)resp;
    lock_acquire(&sn->lock);
    sh = str_map_remove(sn->shards, slice_of(req->vchannel));
    lock_release(&sn->lock);
    if (sh) { /* a shard that is not there is dropped already */
        rc = sn__control(sh->ch, sh, drop_shard, NULL, st);
    }
    sn__shard_unref(sh);
    return rc;
}

/* ---- statistics ---- */

struct stats_job {
    struct arena *ar;
    Elanus__ShardStats *ret;
};

static int shard_stats(struct sn_channel *ch, struct sn_msg *m)
{
    struct stats_job *job = m->arg;
    struct sn_shard *sh = m->shard;
    Elanus__ShardStats *s = job->ret;

    s->vchannel = arena_strdup(job->ar, sh->vchannel);
    s->applied_ts = ch->applied_ts;
    s->growing = arena_try_array(job->ar, sh->ngrowing + 1, sizeof(Elanus__Segment *));
    s->partition_ids = arena_try_array(job->ar, sh->ngrowing + 1, sizeof(int64_t));
    s->partition_rows = arena_try_array(job->ar, sh->ngrowing + 1, sizeof(int64_t));
    if (!s->growing || !s->partition_ids || !s->partition_rows) {
        return st_fail(&m->st, ST_NO_MEMORY, "no memory for statistics");
    }
    for (size_t i = 0; i < sh->ngrowing; i++) {
        const struct sn_growing *g = &sh->growing[i];
        Elanus__Segment *meta;
        struct seg_info info;

        seg_get_info(g->seg, &info);
        if (sn__is_flushed(sh, info.id)) {
            continue; /* counted as flushed */
        }
        meta = ARENA_NEW(job->ar, Elanus__Segment);
        elanus__segment__init(meta);
        meta->id = info.id;
        meta->collection_id = sh->collection_id;
        meta->partition_id = g->partition_id;
        meta->vchannel = s->vchannel;
        meta->num_rows = info.nrows;
        meta->size_bytes = (int64_t)info.memory_bytes;
        meta->min_ts = info.min_ts;
        meta->max_ts = info.max_ts;
        meta->state = g->sealed ? ELANUS__SEG_STATE__SEG_SEALED : ELANUS__SEG_STATE__SEG_GROWING;
        s->growing[s->n_growing++] = meta;
        s->partition_ids[s->n_partition_ids++] = g->partition_id;
        s->partition_rows[s->n_partition_rows++] = info.nrows;
        s->growing_rows += info.nrows;
        s->memory_bytes += (int64_t)info.memory_bytes;
    }
    for (size_t i = 0; i < sh->nsealed; i++) {
        s->sealed_rows += sh->sealed[i].meta->num_rows;
    }
    return 0;
}

static int do_stats(void *self, const struct call *call, const Elanus__ShardReq *req,
                    Elanus__ShardStatsResp *resp, struct status *st)
{
    struct sn_shard *sh = NULL;
    struct stats_job job = { .ar = call->ar };
    int rc;

    TRY(sn__shard_find(self, req->vchannel, &sh, st));
    job.ret = ARENA_NEW(call->ar, Elanus__ShardStats);
    elanus__shard_stats__init(job.ret);
    TRY(sn__control(sh->ch, sh, shard_stats, &job, st));
    resp->shards = arena_alloc(call->ar, sizeof(Elanus__ShardStats *));
    resp->shards[0] = job.ret;
    resp->n_shards = 1;
out:
    sn__shard_unref(sh);
    return rc;
}

/* ---- the rest ---- */

static int do_open_shards(void *self, const struct call *call, const Elanus__OpenShardsReq *req,
                          Elanus__Empty *resp, struct status *st)
{
    (void)resp;
    return sn__open_shards(self, call, req, st);
}

static int do_search(void *self, const struct call *call, const Elanus__SearchReq *req,
                     Elanus__SearchResp *resp, struct status *st)
{
    return sn__search(self, call, req, resp, st);
}

static int do_query(void *self, const struct call *call, const Elanus__QueryReq *req,
                    Elanus__QueryResp *resp, struct status *st)
{
    return sn__query(self, call, req, resp, st);
}

struct snode_service sn_service(struct sn *sn)
{
    return (struct snode_service){
        .self = sn,
        .open_shards = do_open_shards,
        .drop_shard = do_drop_shard,
        .update_collection = do_update_collection,
        .drop_partition = do_drop_partition,
        .write = do_write,
        .seal = do_seal,
        .set_load = do_set_load,
        .search = do_search,
        .query = do_query,
        .stats = do_stats,
    };
}

int sn_new(const struct sn_opts *o, struct sn **ret_sn, struct status *st)
{
    struct sn *sn = xalloc(sizeof *sn);

    (void)st;
    sn->opts = *o;
    lock_init(&sn->lock, RANK_NODE_REGISTRY);
    lock_init(&sn->flush_lock, RANK_NODE_FLUSH);
    cond_init(&sn->flush_wake);
    sn->shards = str_map_new();
    *ret_sn = sn;
    return 0;
}

int sn_start(struct sn *sn, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    Elanus__NodeInfo node;
    Elanus__RegisterReq req;
    Elanus__RegisterResp resp;
    int rc;

    TRY(sn__flush_start(sn, st));
    elanus__node_info__init(&node);
    elanus__register_req__init(&req);
    elanus__register_resp__init(&resp);
    node.node_id = sn->opts.node_id;
    node.role = "streamingnode";
    node.address = sn->opts.address;
    req.node = &node;
    TRY(sn->opts.streaming->register_node(sn->opts.streaming->self, &call, &req, &resp, st));
out:
    arena_free(ar);
    return rc;
}

void sn_stop(struct sn *sn)
{
    sn->stopping = true;
    sn__flush_stop(sn);
    for (size_t i = 0; i < sn->nchannels; i++) {
        sn__channel_stop(sn->channels[i]);
    }
}

static void free_shard(void *v)
{
    sn__shard_unref(v);
}

void sn_free(struct sn *sn)
{
    if (!sn) {
        return;
    }
    sn_stop(sn);
    str_map_free(sn->shards, free_shard);
    for (size_t i = 0; i < sn->nchannels; i++) {
        sn__channel_free(sn->channels[i]);
    }
    lock_done(&sn->lock);
    lock_done(&sn->flush_lock);
    cond_done(&sn->flush_wake);
    mem_free(sn);
}
