/*
 * nd_query.c - query and fetch over the segments of one process.
 *
 * WHAT      Each segment lists its rows by key, in parallel; query/reduce.h merges them, the newest
 *           of equal keys, and cells of those kept are copied out.
 * THREADS   Pure but for the compute pool. A segment's work never waits.
 * MEMORY    Scratch is one arena per segment, freed here; the answer lies in the call's arena.
 */
#include "node/nd_int.h"
#include "query/reduce.h"
#include "schema/errors.h"

/* ---- fetch ---- */

int nd_fetch(struct segment *const *segs, size_t nsegs, const struct schema *schema,
             const int64_t *segment_ids, const uint32_t *rows, size_t n, const int64_t *field_ids,
             size_t nfields, const struct call *call, struct batch *ret, struct status *st)
{
    struct arena *ar = call->ar;
    uint32_t *src = arena_try_array(ar, n + 1, sizeof *src);      /* which segment */
    uint32_t *rank = arena_try_array(ar, n + 1, sizeof *rank);    /* place among its rows */
    uint32_t *counts = arena_try_array(ar, nsegs + 1, sizeof *counts);
    uint32_t **seg_rows = arena_try_array(ar, nsegs + 1, sizeof *seg_rows);
    struct column *cols = arena_try_array(ar, nsegs + 1, sizeof *cols);
    struct column *out_cols = arena_try_array(ar, nfields + 1, sizeof *out_cols);
    struct seg_info *infos = arena_try_array(ar, nsegs + 1, sizeof *infos);
    int rc = 0;

    if (!src || !rank || !counts || !seg_rows || !cols || !out_cols || !infos) {
        return nd__no_memory(st);
    }
    for (size_t s = 0; s < nsegs; s++) {
        seg_get_info(segs[s], &infos[s]);
    }
    for (size_t i = 0; i < n; i++) {
        size_t s = i > 0 && infos[src[i - 1]].id == segment_ids[i] ? src[i - 1] : 0;
        while (s < nsegs && infos[s].id != segment_ids[i]) {
            s++;
        }
        if (s == nsegs) {
            FAIL(st, ERR_INCONSISTENT_REQUERY, "inconsistent requery result: segment %lld left",
                 (long long)segment_ids[i]);
        }
        if (rows[i] >= infos[s].nrows) {
            FAIL(st, ST_INVALID, "row %u of segment %lld, which has %u", rows[i],
                 (long long)segment_ids[i], infos[s].nrows);
        }
        src[i] = (uint32_t)s;
        rank[i] = counts[s]++;
    }
    for (size_t s = 0; s < nsegs; s++) {
        seg_rows[s] = arena_try_array(ar, counts[s] + 1u, sizeof **seg_rows);
        if (!seg_rows[s]) {
            rc = nd__no_memory(st);
            goto out;
        }
    }
    for (size_t i = 0; i < n; i++) {
        seg_rows[src[i]][rank[i]] = rows[i];
    }
    for (size_t f = 0; f < nfields; f++) {
        const struct field *fd = schema_field(schema, field_ids[f]);
        struct column_builder *cb;
        if (!fd && field_ids[f] != FIELD_TIMESTAMP) {
            FAIL(st, ERR_FIELD_NOT_FOUND, "field not found[field=%lld]", (long long)field_ids[f]);
        }
        for (size_t s = 0; s < nsegs; s++) {
            TRY(seg_fetch(segs[s], field_ids[f], seg_rows[s], counts[s], ar, &cols[s], st));
        }
        cb = column_builder_new(ar, field_ids[f], fd ? fd->type : DT_INT64,
                                fd ? fd->elem : DT_NONE, fd ? fd->dim : 0, (uint32_t)n);
        for (size_t i = 0; i < n; i++) {
            if (!column_builder_take(cb, &cols[src[i]], rank[i])) {
                rc = nd__no_memory(st);
                goto out;
            }
        }
        column_builder_finish(cb, &out_cols[f]);
    }
    *ret = (struct batch){ .nrows = (uint32_t)n, .ncols = (uint32_t)nfields, .cols = out_cols };
out:
    return rc;
}

/* ---- query ---- */

struct query_job {
    struct segment *const *segs;
    struct nd_work *work;
    struct seg_filter filter;
    uint32_t limit;
    bool count_only;
    int64_t deadline_us;
};

static void query_one(void *ctx, size_t i)
{
    struct query_job *job = ctx;
    struct nd_work *w = &job->work[i];

    if (job->count_only) {
        (void)seg_count(job->segs[i], &job->filter, job->deadline_us, &w->count, w->scratch,
                        &w->st);
    } else {
        (void)seg_query(job->segs[i], &job->filter, job->limit, job->deadline_us, &w->rows,
                        &w->nrows, w->scratch, &w->st);
    }
}

/* Cells of the rows kept, copied out of the segments: key first, then the fields asked for. */
static int query_output(struct segment *const *segs, size_t nsegs, const struct schema *schema,
                        const Elanus__QueryReq *req, const struct nd_work *work,
                        const struct merged_row *keep, uint32_t nkeep, struct arena *scratch,
                        const struct call *call, Elanus__QueryResp *resp, struct status *st)
{
    struct call inner = { .ar = scratch, .deadline_us = call->deadline_us, .request_id = "" };
    int64_t *ids = arena_try_array(scratch, nkeep + 1u, sizeof *ids);
    uint32_t *rows = arena_try_array(scratch, nkeep + 1u, sizeof *rows);
    int64_t *fields = arena_try_array(scratch, req->n_output_field_ids + 2, sizeof *fields);
    int64_t *seg_ids = arena_try_array(scratch, nsegs + 1, sizeof *seg_ids);
    size_t nfields = 0;
    struct batch b;
    size_t bytes = 0;
    int rc;

    if (!ids || !rows || !fields || !seg_ids) {
        return nd__no_memory(st);
    }
    for (size_t i = 0; i < nsegs; i++) {
        struct seg_info info;
        seg_get_info(segs[i], &info);
        seg_ids[i] = info.id;
    }
    for (uint32_t i = 0; i < nkeep; i++) {
        ids[i] = seg_ids[keep[i].list];
        rows[i] = work[keep[i].list].rows[keep[i].row];
    }
    fields[nfields++] = schema->pk->id;
    for (size_t i = 0; i < req->n_output_field_ids; i++) {
        if (req->output_field_ids[i] != schema->pk->id) {
            fields[nfields++] = req->output_field_ids[i];
        }
    }
    fields[nfields++] = FIELD_TIMESTAMP;
    TRY(nd_fetch(segs, nsegs, schema, ids, rows, nkeep, fields, nfields, &inner, &b, st));
    resp->timestamps = arena_try_array(call->ar, nkeep + 1u, sizeof *resp->timestamps);
    if (!resp->timestamps) {
        return nd__no_memory(st);
    }
    resp->n_timestamps = nkeep;
    for (uint32_t i = 0; i < nkeep; i++) {
        resp->timestamps[i] = (uint64_t)column_i64(&b.cols[b.ncols - 1], i);
    }
    b.ncols--;
    for (uint32_t c = 0; c < b.ncols; c++) {
        const struct column *col = &b.cols[c];
        bytes += col->width ? col->width * col->nrows : col->nrows ? col->ends[col->nrows - 1] : 0;
    }
    if (req->max_bytes > 0 && bytes > (size_t)req->max_bytes) {
        FAIL(st, ST_TOO_LARGE, "query results exceed the maxOutputSize Limit %lld: narrow the "
             "filter, name fewer output_fields or set a limit", (long long)req->max_bytes);
    }
    TRY(nd_batch_bytes(&b, call->ar, &resp->batch, st));
out:
    return rc;
}

int nd_query(struct segment *const *segs, size_t nsegs, const struct schema *schema,
             const Elanus__QueryReq *req, struct pool *compute, const struct call *call,
             Elanus__QueryResp *resp, struct status *st)
{
    struct nd_work *work = NULL;
    struct arena *scratch = nd__scratch_new();
    uint32_t limit = req->limit < 0 || req->limit > UINT32_MAX ? UINT32_MAX : (uint32_t)req->limit;
    struct query_job job = {
        .segs = segs,
        .filter = { .ts = req->read_ts, .ttl_before = req->ttl_before },
        .limit = limit,
        .count_only = req->count_only,
        .deadline_us = call->deadline_us,
    };
    struct row_list *lists;
    struct merged_row *keep;
    size_t total = 0;
    uint32_t nkeep;
    int rc;

    TRY(nd__decode_plan(&req->plan, scratch, &job.filter.expr, st));
    work = job.work = nd__work_new(nsegs);
    compute = nd__pool_for(compute, segs, nsegs, job.filter.expr ? 64 : 16, call);
    parallel_for(compute, nsegs, query_one, &job);
    TRY(nd__work_status(work, nsegs, st));
    resp->read_ts = req->read_ts;
    if (req->count_only) {
        for (size_t i = 0; i < nsegs; i++) {
            resp->count += (int64_t)work[i].count;
        }
        goto out;
    }
    lists = arena_try_array(scratch, nsegs + 1, sizeof *lists);
    if (!lists) {
        rc = nd__no_memory(st);
        goto out;
    }
    for (size_t i = 0; i < nsegs; i++) {
        struct column *cols = arena_try_array(scratch, 2, sizeof *cols);
        if (!cols) {
            rc = nd__no_memory(st);
            goto out;
        }
        TRY(seg_fetch(segs[i], schema->pk->id, work[i].rows, work[i].nrows, scratch, &cols[0], st));
        TRY(seg_fetch(segs[i], FIELD_TIMESTAMP, work[i].rows, work[i].nrows, scratch, &cols[1],
                      st));
        lists[i] = (struct row_list){ .n = work[i].nrows,
                                      .pks = &cols[0],
                                      .timestamps = (const uint64_t *)(const void *)cols[1].data };
        total += work[i].nrows;
    }
    keep = arena_try_array(scratch, MIN(total, (size_t)limit) + 1, sizeof *keep);
    if (!keep) {
        rc = nd__no_memory(st);
        goto out;
    }
    nkeep = reduce_rows(lists, (uint32_t)nsegs, 0, limit, scratch, keep);
    resp->count = nkeep;
    TRY(query_output(segs, nsegs, schema, req, work, keep, nkeep, scratch, call, resp, st));
out:
    nd__work_done(work, nsegs);
    arena_free(scratch);
    return rc;
}
