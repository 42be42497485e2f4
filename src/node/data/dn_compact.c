/*
 * dn_compact.c - several sealed segments as one: opens them, applies the delete files that concern
 * them, writes what is left, in an order where that is asked for (dn_order.c).
 *
 * SAFETY    The sources go once the new file is known, so damage must not pass through here:
 *           seg_merge_files() looks at every checksum of what it copies (else what was spoiled would
 *           get a new one that fits), and the new file is opened and checked as a whole before it is
 *           answered.
 * MEMORY    The rows stay in their mappings; delete files are read one at a time.
 */
#include "base/alloc.h"
#include "base/fault.h"
#include "node/data/dn_int.h"
#include "segment/segment.h"

#define DELTA_MEMORY_MAX ((size_t)4 << 30)

static int open_sources(const struct dn_task *t, const struct schema *schema, struct segment **segs,
                        struct status *st)
{
    const Elanus__CompactReq *req = t->req;
    int rc = 0;

    for (size_t i = 0; i < req->n_sources; i++) {
        const Elanus__Segment *meta = req->sources[i];
        struct seg_info info;
        TRY(seg_open(meta->id, meta->collection_id, meta->partition_id, schema, t->dn->opts.os,
                     meta->object_prefix, &segs[i], st));
        seg_get_info(segs[i], &info);
        if (info.nrows != meta->num_rows) {
            FAIL(st, ST_CORRUPT, "segment %lld has %u rows, metadata says %lld",
                 (long long)meta->id, info.nrows, (long long)meta->num_rows);
        }
    }
out:
    return rc;
}

static bool in_scope(const Elanus__Delta *d, int64_t partition_id)
{
    for (size_t i = 0; i < d->n_partition_ids; i++) {
        if (d->partition_ids[i] == partition_id) {
            return true;
        }
    }
    return d->n_partition_ids == 0;
}

static int apply_deletes(struct dn_task *t, struct segment *const *segs, struct status *st)
{
    const Elanus__CompactReq *req = t->req;
    struct arena *ar = arena_new(DELTA_MEMORY_MAX);
    int rc = 0;

    for (size_t i = 0; i < req->n_deltas; i++) {
        const Elanus__Delta *d = req->deltas[i];
        struct column pks;
        const hts *ts;
        uint32_t hits;
        if (!in_scope(d, req->target->partition_id)) {
            continue;
        }
        TRY(dn__check(t, st));
        arena_reset(ar);
        TRY(delta_read(t->dn->opts.os, d->object_key, ar, &pks, &ts, st));
        for (size_t j = 0; j < req->n_sources; j++) {
            TRY(seg_delete(segs[j], &pks, ts, pks.nrows, &hits, st));
        }
    }
out:
    arena_free(ar);
    return rc;
}

/* Reads the new file as a query node will. */
static int check_file(struct dn_task *t, const struct schema *schema, const struct seg_merged *made,
                      struct status *st)
{
    const Elanus__Segment *to = ((const Elanus__CompactReq *)t->req)->target;
    struct segment *seg = NULL;
    struct seg_info info;
    int rc;

    TRY(seg_open(to->id, to->collection_id, to->partition_id, schema, t->dn->opts.os,
                 to->object_prefix, &seg, st));
    seg_get_info(seg, &info);
    if (info.nrows != made->nrows || info.min_ts != made->min_ts || info.max_ts != made->max_ts) {
        FAIL(st, ST_CORRUPT, "segment %lld was written with %u rows, its file has %u",
             (long long)to->id, made->nrows, info.nrows);
    }
    TRY(seg_validate(seg, st));
out:
    seg_unref(seg);
    return rc;
}

static int compact(struct dn_task *t, struct status *st)
{
    const Elanus__CompactReq *req = t->req;
    Elanus__CompactResp *resp = t->resp;
    struct segment **segs = xalloc((req->n_sources + 1) * sizeof(struct segment *));
    struct schema *schema = NULL;
    struct seg_merged made;
    int rc;

    TRY(schema_new(req->collection->schema, &schema, st));
    TRY(open_sources(t, schema, segs, st));
    TRY(apply_deletes(t, segs, st));
    struct seg_merge m = {
        .from = segs,
        .nfrom = req->n_sources,
        .schema = schema,
        .id = req->target->id,
        .collection_id = req->target->collection_id,
        .partition_id = req->target->partition_id,
        .gone_before = req->gone_before,
        .expired_before = req->expired_before,
        .check = dn__check,
        .check_arg = t,
    };
    if (req->order_by) {
        TRY(dn__write_ordered(t, &m, &made, st));
    } else {
        TRY(seg_merge_files(&m, t->dn->opts.os, req->target->object_prefix, &made, st));
    }
    TRY(FAULT_POINT("compact_after_file", st));
    if (made.nrows) {
        TRY(check_file(t, schema, &made, st));
    }
    resp->num_rows = made.nrows;
    resp->size_bytes = (int64_t)made.bytes;
    resp->min_ts = made.min_ts;
    resp->max_ts = made.max_ts;
    resp->format_version = 1;
out:
    for (size_t i = 0; i < req->n_sources; i++) {
        seg_unref(segs[i]);
    }
    mem_free(segs);
    schema_unref(schema);
    return rc;
}

int dn__compact(void *self, const struct call *call, const Elanus__CompactReq *req,
                Elanus__CompactResp *resp, struct status *st)
{
    struct dn_task t = { .dn = self, .call = call, .run = compact, .req = req, .resp = resp,
                         .st = STATUS_INIT };

    if (!req->collection || !req->collection->schema || !req->target || req->n_sources == 0 ||
        !req->target->object_prefix[0]) {
        return st_fail(st, ST_INVALID, "compact without sources, a target or its prefix");
    }
    return dn__run(&t, st);
}
