/*
 * sn_apply.c - what a log record does to a shard's memory; the same at write time and in replay.
 *
 * THREADS   Sequencer, or the opening thread during replay.
 * FAILURE   The record is durable already: when memory cannot follow it, the caller marks the shard
 *           failed, and the next start replays the record.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"

int sn__apply_insert(struct sn_shard *sh, struct sn_growing *g, const struct batch *rows, hts ts,
                     uint64_t position, struct status *st)
{
    struct seg_info info;
    int rc = seg_append(g->seg, rows, ts, position, st);

    if (rc != 0) {
        return rc;
    }
    if (g->first_position == 0) {
        g->first_position = position;
    }
    g->last_position = position;
    g->last_write_ms = clock_now_ms();
    seg_get_info(g->seg, &info);
    atomic_fetch_add(&sh->sn->growing_bytes, info.memory_bytes - g->bytes);
    g->bytes = info.memory_bytes;
    return 0;
}

static bool in_partitions(const int64_t *partitions, size_t n, int64_t id)
{
    if (n == 0) {
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        if (partitions[i] == id) {
            return true;
        }
    }
    return false;
}

/* One call per node that serves sealed segments of this shard. */
static int forward_deletes(struct sn_shard *sh, const struct column *pks, const hts *ts,
                           const int64_t *partitions, size_t npartitions, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    bool *done = ARENA_NEW(ar, bool);
    int64_t *ids = arena_try_array(ar, sh->nsealed + 1, sizeof *ids);
    ProtobufCBinaryData keys = { 0 };
    struct batch b = { .nrows = pks->nrows, .ncols = 1, .cols = (struct column *)(uintptr_t)pks };
    int rc = 0;

    done = arena_try_array(ar, sh->nsealed + 1, sizeof *done);
    if (!done || !ids) {
        FAIL(st, ST_NO_MEMORY, "no memory to forward %u deletes", pks->nrows);
    }
    for (size_t i = 0; i < sh->nsealed; i++) {
        const struct qnode_service *qs;
        Elanus__ApplyDeletesReq req;
        Elanus__Empty resp;
        size_t n = 0;

        if (done[i] || sh->sealed[i].node_id == 0) {
            continue;
        }
        for (size_t j = i; j < sh->nsealed; j++) {
            if (sh->sealed[j].node_id == sh->sealed[i].node_id) {
                done[j] = true;
                if (in_partitions(partitions, npartitions, sh->sealed[j].meta->partition_id)) {
                    ids[n++] = sh->sealed[j].meta->id;
                }
            }
        }
        if (n == 0) {
            continue;
        }
        if (!keys.data) {
            TRY(nd_batch_bytes(&b, ar, &keys, st));
        }
        elanus__apply_deletes_req__init(&req);
        elanus__empty__init(&resp);
        req.collection_id = sh->collection_id;
        req.segment_ids = ids;
        req.n_segment_ids = n;
        req.pks = keys;
        req.timestamps = (uint64_t *)(uintptr_t)ts;
        req.n_timestamps = pks->nrows;
        TRY(svc_dir_qnode(sh->sn->opts.dir, sh->sealed[i].node_id, &qs, st));
        TRY(qs->apply_deletes(qs->self, &call, &req, &resp, st));
    }
out:
    arena_free(ar);
    return rc;
}

int sn__apply_deletes(struct sn_shard *sh, const struct column *pks, const int64_t *partitions,
                      size_t npartitions, hts ts, uint64_t position, bool forward,
                      struct status *st)
{
    hts *all_ts = alloc_try(((size_t)pks->nrows + 1) * sizeof *all_ts);
    uint32_t hits;
    int rc = 0;

    if (!all_ts) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u deletes", pks->nrows);
    }
    for (uint32_t i = 0; i < pks->nrows; i++) {
        all_ts[i] = ts;
    }
    for (size_t i = 0; i < sh->ngrowing; i++) {
        if (in_partitions(partitions, npartitions, sh->growing[i].partition_id)) {
            TRY(seg_delete(sh->growing[i].seg, pks, all_ts, pks->nrows, &hits, st));
        }
    }
    if (forward) {
        TRY(forward_deletes(sh, pks, all_ts, partitions, npartitions, st));
    }
    if (position > sh->delta_position) {
        TRY(sn__deletes_add(sh, pks, ts, position, st));
    }
out:
    mem_free(all_ts);
    return rc;
}
