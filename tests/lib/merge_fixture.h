/*
 * merge_fixture.h - a compaction made by the test itself, step by step: rows of flushed segments
 * written as one new segment, the change of metadata, the call that tells the shard.
 *
 * Nothing fails the running test: any thread may use it.
 */
#pragma once
#include "coord/co_int.h"
#include "roles.h"
#include <stdio.h>

/* What metadata has of a collection. */
static inline int merge_list(struct rcoll *c, struct arena *ar, Elanus__SegmentsResp *ret,
                             struct status *st)
{
    struct call call = call_internal(ar);
    Elanus__SegmentsReq req = ELANUS__SEGMENTS_REQ__INIT;

    elanus__segments_resp__init(ret);
    req.collection_id = c->id;
    return c->r->data.list_segments(c->r->data.self, &call, &req, ret, st);
}

static inline int merge_deletes(struct rcoll *c, const Elanus__SegmentsResp *known,
                                struct segment *seg, const char *vchannel, struct arena *ar,
                                struct status *st)
{
    struct seg_info info;
    int rc = 0;

    seg_get_info(seg, &info);
    for (size_t i = 0; i < known->n_deltas; i++) {
        const Elanus__Delta *d = known->deltas[i];
        struct sn_scope scope = { d->n_partition_ids, d->partition_ids };
        struct column pks;
        const hts *ts;
        uint32_t hits;
        if (strcmp(d->vchannel, vchannel) == 0 && sn__scope_has(&scope, info.partition_id)) {
            TRY(delta_read(c->r->os, d->object_key, ar, &pks, &ts, st));
            TRY(seg_delete(seg, &pks, ts, pks.nrows, &hits, st));
        }
    }
out:
    return rc;
}

/* Rows of one source but those deleted at or before gone_before. */
static inline int merge_append(struct segment *from, hts gone_before, struct segment *to,
                               struct arena *ar, struct status *st)
{
    struct seg_filter visible = { .ts = gone_before };
    const struct schema *schema = seg_schema(from);
    struct column *cols = arena_alloc(ar, schema->nfields * sizeof *cols), at;
    const uint32_t *seen;
    uint32_t nseen, n = 0, *rows, *all;
    struct seg_info info;
    bool *keep;
    hts *ts;
    int rc;

    seg_get_info(from, &info);
    rows = arena_alloc(ar, (info.nrows + 1u) * sizeof *rows);
    all = arena_alloc(ar, (info.nrows + 1u) * sizeof *all);
    keep = arena_alloc(ar, (info.nrows + 1u) * sizeof *keep);
    ts = arena_alloc(ar, (info.nrows + 1u) * sizeof *ts);
    TRY(seg_query(from, &visible, UINT32_MAX, DEADLINE_NONE, &seen, &nseen, ar, st));
    for (uint32_t i = 0; i < nseen; i++) {
        keep[seen[i]] = true;
    }
    for (uint32_t i = 0; i < info.nrows; i++) {
        all[i] = i;
    }
    TRY(seg_fetch(from, FIELD_TIMESTAMP, all, info.nrows, ar, &at, st));
    for (uint32_t i = 0; i < info.nrows; i++) {
        if (keep[i] || (hts)column_i64(&at, i) > gone_before) {
            ts[n] = (hts)column_i64(&at, i);
            rows[n++] = i;
        }
    }
    for (uint32_t f = 0; n && f < schema->nfields; f++) {
        TRY(seg_fetch(from, schema->fields[f].id, rows, n, ar, &cols[f], st));
        cols[f].field_id = schema->fields[f].id;
    }
    struct batch b = { n, schema->nfields, cols };
    if (n) {
        TRY(seg_append_at(to, &b, ts, info.first_position, info.last_position, st));
    }
out:
    return rc;
}

/* Writes the files of a new segment; *ret NULL: no row was left. */
static inline int merge_write(struct rcoll *c, const Elanus__SegmentsResp *known,
                              Elanus__Segment *const *sources, size_t n, hts gone_before,
                              struct arena *ar, Elanus__Segment **ret, struct status *st)
{
    struct call call = call_internal(ar);
    struct segment *to = NULL, *from = NULL;
    Elanus__AllocReq req = ELANUS__ALLOC_REQ__INIT;
    Elanus__AllocResp resp = ELANUS__ALLOC_RESP__INIT;
    Elanus__Segment *t = ARENA_NEW(ar, Elanus__Segment);
    struct seg_info info;
    uint64_t bytes;
    int rc;

    req.count = 1;
    TRY(c->r->root.alloc_id(c->r->root.self, &call, &req, &resp, st));
    *t = *sources[0];
    t->id = (int64_t)resp.first;
    t->deletes_ts = gone_before;
    t->object_prefix = arena_printf(ar, "segments/%lld/%lld/%lld", (long long)c->id,
                                    (long long)t->partition_id, (long long)t->id);
    TRY(seg_growing_new(t->id, c->id, t->partition_id, c->schema, &to, st));
    for (size_t i = 0; i < n; i++) {
        TRY(seg_open(sources[i]->id, c->id, sources[i]->partition_id, c->schema, c->r->os,
                     sources[i]->object_prefix, &from, st));
        TRY(merge_deletes(c, known, from, t->vchannel, ar, st));
        TRY(merge_append(from, gone_before, to, ar, st));
        seg_unref(TAKE(from));
        t->first_position = MIN(t->first_position, sources[i]->first_position);
        t->last_position = MAX(t->last_position, sources[i]->last_position);
    }
    seg_get_info(to, &info);
    *ret = NULL;
    if (info.nrows) {
        TRY(seg_write_files(to, c->r->os, t->object_prefix, &bytes, st));
        t->num_rows = info.nrows;
        t->min_ts = info.min_ts;
        t->max_ts = info.max_ts;
        t->size_bytes = (int64_t)bytes;
        *ret = t;
    }
out:
    seg_unref(from);
    seg_unref(to);
    return rc;
}

/* One transaction: the target (NULL: nothing) is there and the sources are not. */
static inline int merge_commit(struct rcoll *c, Elanus__Segment *const *sources, size_t n,
                               const Elanus__Segment *target, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct co_txn tx;
    int rc;

    co__txn_init(&tx, c->r->co, ar);
    if (target) {
        co__put(&tx, CO_SEGMENT, target);
    }
    for (size_t i = 0; i < n; i++) {
        co__delete(&tx, CO_SEGMENT, sources[i]);
    }
    rc = co__commit(&tx, st);
    co__txn_done(&tx);
    co__builds_wake(c->r->co);
    arena_free(ar);
    return rc;
}

static inline int merge_tell(struct rcoll *c, const char *vchannel, Elanus__Segment *const *sources,
                             size_t n, Elanus__Segment *target, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    Elanus__ReplaceSegmentsReq req = ELANUS__REPLACE_SEGMENTS_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    int rc;

    req.vchannel = vchannel;
    req.target = target;
    req.source_ids = arena_alloc(ar, (n + 1) * sizeof *req.source_ids);
    req.n_source_ids = n;
    for (size_t i = 0; i < n; i++) {
        req.source_ids[i] = sources[i]->id;
    }
    rc = c->r->snode.replace_segments(c->r->snode.self, &call, &req, &e, st);
    arena_free(ar);
    return rc;
}

/* Their files are away: whoever opens one fails. */
static inline int merge_clean(struct rcoll *c, Elanus__Segment *const *sources, size_t n,
                              struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        char key[256];
        snprintf(key, sizeof key, "%s/", sources[i]->object_prefix);
        rc = object_delete_prefix(c->r->os, slice_of(key), st);
    }
    return rc;
}
