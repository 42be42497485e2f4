/*
 * sn_apply.c - what a log record does to a shard's memory; the same at write time and in replay.
 *
 * WHAT      What can be refused is refused before the log (sn__check_rows); afterwards only memory
 *           can fail.
 * THREADS   Sequencer.
 * FAILURE   The record is durable already: when memory cannot follow it, the caller marks the shard
 *           failed, and the next start replays the record. A query node that cannot be told of a
 *           delete loses the segments concerned: they are missing from the view until they have
 *           been loaded again, with every delete.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"
#include "base/log.h"
#include "schema/errors.h"

#define LOG_ROOM "node"

static bool may_be_absent(const struct field *f)
{
    return !f->is_pk && (f->nullable || f->has_default || f->is_dynamic);
}

int sn__check_rows(const struct schema *schema, const struct batch *rows, struct status *st)
{
    for (uint32_t i = 0; i < schema->nfields; i++) {
        const struct field *f = &schema->fields[i];
        const struct column *col = batch_column(rows, f->id);
        if (!col && !may_be_absent(f)) {
            return st_fail(st, ST_INVALID, "the rows lack field %s", f->name);
        }
        if (!col) {
            continue;
        }
        if (col->type != f->type || col->elem != f->elem ||
            col->width != dtype_width(f->type, f->dim)) {
            return st_fail(st, ST_INVALID, "field %s is %s, the rows have %s of dimension %u",
                           f->name, dtype_name(f->type), dtype_name(col->type), col->dim);
        }
        if (col->valid && !f->nullable && bits_count(col->valid, col->nrows) != col->nrows) {
            return st_fail(st, ST_INVALID, "field %s may not be null", f->name);
        }
    }
    for (uint32_t i = 0; i < rows->ncols; i++) {
        if (!schema_field(schema, rows->cols[i].field_id)) {
            st_fail(st, ERR_SCHEMA_MISMATCH, "collection schema mismatch[field=%lld]",
                    (long long)rows->cols[i].field_id);
            st->retriable = true; /* this node may not know the newest definition yet */
            return st->code;
        }
    }
    return 0;
}

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
    g->nrows = info.nrows;
    atomic_fetch_add(&sh->sn->growing_bytes, info.memory_bytes - g->bytes);
    g->bytes = info.memory_bytes;
    return 0;
}

/* To the nodes that serve sealed segments. Those that cannot be told are out of the view before the
 * write is acknowledged. */
static int forward(struct sn_shard *sh, const struct sn_group *g, struct status *st)
{
    bool *lost = alloc_try_zero(sh->nsealed + 1);
    bool any = false;
    struct status why = STATUS_INIT;
    int rc = 0;

    if (!lost) {
        FAIL(st, ST_NO_MEMORY, "no memory to forward %u deletes", g->pks.nrows);
    }
    if (sn__send_group(sh, g, sh->sealed, sh->nsealed, lost, &why) != 0) {
        *st = why;
        rc = st->code;
        goto out;
    }
    for (size_t i = 0; i < sh->nsealed; i++) {
        if (lost[i]) {
            LOG_W("segment is behind its deletes, to be loaded again: shard=%s seg=%lld node=%lld "
                  "error=\"%s\"", sh->vchannel, (long long)sh->sealed[i].meta->id,
                  (long long)sh->sealed[i].node_id, why.msg);
            sh->sealed[i].node_id = 0;
            any = true;
        }
    }
    if (any) {
        sn__view_publish(sh);
    }
out:
    mem_free(lost);
    return rc;
}

int sn__apply_deletes(struct sn_shard *sh, const struct column *pks, const struct sn_scope *scope,
                      hts ts, uint64_t position, bool forwarded, struct status *st)
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
        if (sn__scope_has(scope, sh->growing[i].partition_id)) {
            TRY(seg_delete(sh->growing[i].seg, pks, all_ts, pks->nrows, &hits, st));
        }
    }
    if (position > sh->delta_position) { /* before forwarding: who loads again gets it from here */
        TRY(sn__deletes_add(sh, pks, scope, ts, position, st));
    }
    if (forwarded) {
        struct sn_group g = { .scope = *scope, .pks = *pks, .ts = all_ts };
        TRY(forward(sh, &g, st));
    }
out:
    mem_free(all_ts);
    return rc;
}
