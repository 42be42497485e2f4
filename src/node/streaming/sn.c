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

/* What fits into one record of the log with its heads. */
#define RECORD_BYTES ((size_t)WAL_RECORD_MAX - ((size_t)1 << 20))

/* ---- write ---- */

/* Memory for rows and deletes that are not in files. Past the mark inserts are refused; deletes,
 * which need little and may be what frees memory, past twice the mark. */
static int check_memory(const struct sn *sn, const Elanus__WriteReq *req, struct status *st)
{
    uint64_t high = sn->opts.memory_high_bytes, used = sn->growing_bytes;

    if (high && used > (req->n_inserts ? high : high * 2)) {
        return st_fail(st, ST_QUOTA, "quota exceeded[reason=memory quota exceeded, please allocate "
                       "more resources]: unflushed rows use %llu of %llu bytes",
                       (unsigned long long)used, (unsigned long long)high);
    }
    return 0;
}

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
    if (req->n_inserts > SN_RECORD_PARTS_MAX || req->n_delete_partition_ids > SN_RECORD_PARTS_MAX) {
        FAIL(st, ST_TOO_LARGE, "more than %u partitions in one write", SN_RECORD_PARTS_MAX);
    }
    if (!r->parts || !m->batches) {
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
    if (m->bytes > RECORD_BYTES) {
        FAIL(st, ST_TOO_LARGE, "a write of %zu bytes, at most %zu are taken", m->bytes,
             RECORD_BYTES);
    }
out:
    return rc;
}

static int do_write(void *self, const struct call *call, const Elanus__WriteReq *req,
                    Elanus__WriteResp *resp, struct status *st)
{
    struct sn *sn = self;
    struct sn_shard *sh = NULL;
    struct sn_msg m = { 0 };
    int rc;

    TRY(check_memory(sn, req, st));
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
        if (g->nrows && !sn__sealed_find(sh, g->id) &&
            listed(job->req->partition_ids, job->req->n_partition_ids, g->partition_id)) {
            g->sealed = true;
            job->resp->segment_ids[job->resp->n_segment_ids++] = g->id;
        }
    }
    job->resp->position = ch->applied_position;
    job->resp->flush_ts = ch->applied_ts;
    job->resp->deletes = sh->deletes.n > 0;
    if (job->resp->n_segment_ids || job->resp->deletes) {
        sh->flush_deletes_to = ch->applied_position;
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

static int do_set_load(void *self, const struct call *call, const Elanus__SetLoadReq *req,
                       Elanus__Empty *resp, struct status *st)
{
    struct sn *sn = self;
    struct sn_shard *sh = NULL;
    struct sn_want want = {
        .placements = req->placements, .nplacements = req->n_placements, .wait = true
    };
    Elanus__Load none;
    int rc;

    (void)resp;
    elanus__load__init(&none);
    want.load = req->load ? req->load : &none;
    TRY(sn__shard_find(sn, req->vchannel, &sh, st));
    if (want.load->status == ELANUS__LOAD_STATUS__LOAD_LOADED) {
        TRY(sn__verify_loaded(sh, st)); /* told again when a node came back: it is empty */
    }
    TRY(sn__reconcile(sh, &want, call, st));
out:
    sn__shard_unref(sh);
    return rc;
}

static int do_replace_segments(void *self, const struct call *call,
                               const Elanus__ReplaceSegmentsReq *req, Elanus__Empty *resp,
                               struct status *st)
{
    (void)resp;
    return sn__replace_segments(self, call, req, st);
}

/* ---- definition changes ---- */

/* Old rows are read with the new definition; new ones go to new segments. */
static void new_schema(struct sn_shard *sh)
{
    for (size_t i = sh->ngrowing; i-- > 0;) {
        struct sn_growing *g = &sh->growing[i];
        if (g->nrows == 0) {
            sn__growing_remove(sh, g);
            continue;
        }
        seg_set_schema(g->seg, sh->schema);
        g->sealed = true;
    }
    sn__flush_queue(sh->sn, sh);
}

static int update_collection(struct sn_channel *ch, struct sn_msg *m)
{
    const Elanus__Collection *c = m->arg;
    struct sn_shard *sh = m->shard;
    struct schema *old = schema_ref(sh->schema);
    int rc = 0;

    (void)ch;
    if (c->update_ts < sh->collection->update_ts) {
        goto out; /* overtaken by a newer one */
    }
    TRY(sn__set_collection(sh, c, &m->st));
    if (old->version != sh->schema->version || old->nfields != sh->schema->nfields) {
        new_schema(sh);
        sn__send_definition(sh); /* nodes know it before readers meet it in the view */
    }
    sn__view_publish(sh);
out:
    schema_unref(old);
    return rc;
}

/* Shards of the collection that other nodes own are told there. */
static int do_update_collection(void *self, const struct call *call,
                                const Elanus__UpdateCollectionReq *req, Elanus__Empty *resp,
                                struct status *st)
{
    struct sn *sn = self;
    int rc = 0;

    (void)call;
    (void)resp;
    if (!req->collection || !req->collection->schema) {
        return st_fail(st, ST_INVALID, "update_collection without a collection");
    }
    for (size_t i = 0; i < req->collection->n_vchannels && rc == 0; i++) {
        struct status missing = STATUS_INIT;
        struct sn_shard *sh;
        if (sn__shard_find(sn, req->collection->vchannels[i], &sh, &missing) == 0) {
            rc = sn__control(sh->ch, sh, update_collection, req->collection, st);
            sn__shard_unref(sh);
        }
    }
    return rc;
}

static int drop_partition(struct sn_channel *ch, struct sn_msg *m)
{
    const Elanus__DropPartitionReq *req = m->arg;
    struct sn_shard *sh = m->shard;
    struct sn_sealed *gone = xalloc((sh->nsealed + 1) * sizeof *gone);
    size_t kept = 0, ngone = 0;

    (void)ch;
    sh->dropped_partitions = xrealloc(sh->dropped_partitions,
                                      (sh->ndropped + 1) * sizeof *sh->dropped_partitions);
    sh->dropped_partitions[sh->ndropped++] = req->partition_id;
    for (size_t i = sh->ngrowing; i-- > 0;) {
        if (sh->growing[i].partition_id == req->partition_id) {
            sn__growing_remove(sh, &sh->growing[i]);
        }
    }
    for (size_t i = 0; i < sh->nsealed; i++) {
        if (sh->sealed[i].meta->partition_id == req->partition_id) {
            gone[ngone++] = sh->sealed[i];
        } else {
            sh->sealed[kept++] = sh->sealed[i];
        }
    }
    sh->nsealed = kept;
    sn__view_publish(sh); /* before they go: new readers do not look for them */
    for (size_t i = 0; i < ngone; i++) {
        if (gone[i].node_id) {
            sn__release_on_node(sh, gone[i].node_id, gone[i].meta->id);
        }
    }
    mem_free(gone);
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
        sn__growing_remove(sh, &sh->growing[sh->ngrowing - 1]);
    }
    sn__deletes_trim(sh, UINT64_MAX);
    sh->nsealed = 0; /* the coordinator tells the query nodes */
    sn__set_load(sh, NULL);
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

        if (sn__sealed_find(sh, g->id)) {
            continue; /* counted as flushed */
        }
        seg_get_info(g->seg, &info);
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
    if (sh->deletes.n && sh->flush_deletes_to > sh->delta_position) {
        s->flushing_deletes_ts = sh->deletes.at[0].ts;
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
        .replace_segments = do_replace_segments,
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
    nd_measures_find(&sn->measures);
    sn__tend_new(sn);
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
    sn__tend_stop(sn);
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
    sn__tend_free(sn);
    for (size_t i = 0; i < sn->nchannels; i++) {
        sn__channel_free(sn->channels[i]);
    }
    lock_done(&sn->lock);
    lock_done(&sn->flush_lock);
    cond_done(&sn->flush_wake);
    mem_free(sn);
}
