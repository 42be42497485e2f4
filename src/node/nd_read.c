/*
 * nd_read.c - search, query and fetch over the segments of one process.
 *
 * WHAT      Each segment fills a top-k (or row list) of its own, in parallel; keys and timestamps
 *           of the survivors are fetched, and query/reduce.h merges by score and key.
 * THREADS   Pure but for the compute pool. A segment's work never waits.
 * MEMORY    Scratch is one arena per segment, freed here; the answer lies in the call's arena.
 */
#include "node/nd_read.h"
#include "base/alloc.h"
#include "query/reduce.h"
#include "schema/errors.h"
#include <string.h>

/* Scratch of one segment's work: filter bits, gathered rows. */
#define SCRATCH_LIMIT ((size_t)2 << 30)

struct seg_work {
    struct arena *scratch;
    struct topk *tk;
    const uint32_t *rows;   /* query */
    uint32_t nrows;
    uint64_t count;
    struct seg_search_work done; /* search */
    struct index_near near;      /* search: what it tells; max 0: nothing */
    struct status st;
};

static void work_done(struct seg_work *w, size_t n)
{
    for (size_t i = 0; w && i < n; i++) {
        topk_free(w[i].tk);
        arena_free(w[i].scratch);
    }
    mem_free(w);
}

static struct seg_work *work_new(size_t n)
{
    struct seg_work *w = xalloc(MAX(n, (size_t)1) * sizeof *w);
    for (size_t i = 0; i < n; i++) {
        w[i].scratch = arena_new(SCRATCH_LIMIT);
    }
    return w;
}

/* The first failure of any segment becomes the call's. */
static int work_status(const struct seg_work *w, size_t n, struct status *st)
{
    for (size_t i = 0; i < n; i++) {
        if (w[i].st.code != 0) {
            *st = w[i].st;
            return st->code;
        }
    }
    return 0;
}

int nd_batch_bytes(const struct batch *b, struct arena *ar, ProtobufCBinaryData *ret,
                   struct status *st)
{
    struct buf out;
    int rc = 0;

    buf_init(&out, (size_t)1 << 30);
    if (!batch_encode(b, &out)) {
        FAIL(st, ST_TOO_LARGE, "the answer is larger than %zu bytes", out.max);
    }
    ret->data = arena_try(ar, out.n);
    if (!ret->data) {
        FAIL(st, ST_NO_MEMORY, "no memory for an answer of %zu bytes", out.n);
    }
    memcpy(ret->data, out.p, out.n);
    ret->len = out.n;
out:
    buf_done(&out);
    return rc;
}

static int decode_bytes(const ProtobufCBinaryData *bytes, struct arena *ar, struct batch *ret,
                        struct status *st)
{
    if (bytes->len == 0) {
        *ret = (struct batch){ 0 };
        return 0;
    }
    return batch_decode(slice_n(bytes->data, bytes->len), ar, ret, st);
}

static int decode_plan(const ProtobufCBinaryData *plan, struct arena *ar,
                       const struct expr **ret_expr, struct status *st)
{
    if (plan->len == 0) {
        *ret_expr = NULL;
        return 0;
    }
    return plan_decode(slice_n(plan->data, plan->len), ar, ret_expr, st);
}

static int no_memory(struct status *st)
{
    return st_fail(st, ST_NO_MEMORY, "the request needs more memory than it may use");
}

/* ---- search ---- */

struct search_job {
    struct segment *const *segs;
    size_t nsegs;
    const struct schema *schema;
    struct seg_work *work;
    struct seg_search q;
    uint32_t k;              /* hits asked of each segment */
    const struct nd_known *known;
    struct arena *scratch;
};

static void search_one(void *ctx, size_t i)
{
    struct search_job *job = ctx;
    struct seg_work *w = &job->work[i];
    struct seg_search q = job->q;

    const struct nd_known *known = job->known;
    struct index_near in;

    q.work = &w->done;
    if (w->near.max) {
        memset(w->near.counts, 0, q.nq * sizeof *w->near.counts);
        q.near_out = &w->near;
    }
    if (known && known->near && known->near[i] &&
        nd_near(known->near[i], q.nq, w->scratch, &in)) {
        q.near = &in;
        q.near_id = known->near[i]->segment_id;
    }
    topk_free(TAKE(w->tk));
    if (seg_topk_new(&q, job->k, &w->tk, &w->st) == 0) {
        (void)seg_search(job->segs[i], &q, w->tk, w->scratch, &w->st);
    }
}

/* ---- where queries lie ---- */

/* Room for what the segments named in req tell. */
static int near_ask(struct search_job *job, const Elanus__SearchReq *req, struct status *st)
{
    int rc = 0;

    for (size_t i = 0; req->n_near_segment_ids && i < job->nsegs; i++) {
        struct seg_info info;
        seg_get_info(job->segs[i], &info);
        for (size_t n = 0; n < req->n_near_segment_ids && !job->work[i].near.max; n++) {
            if (req->near_segment_ids[n] == info.id) {
                TRY(nd_near_new(job->scratch, req->nq, req->near_max, &job->work[i].near, st));
            }
        }
    }
out:
    return rc;
}

static int near_tell(const struct search_job *job, struct arena *ar, Elanus__SearchResp *resp,
                     struct status *st)
{
    int rc = 0;

    resp->near = arena_try_array(ar, job->nsegs, sizeof(Elanus__SearchNear *));
    if (!resp->near) {
        return no_memory(st);
    }
    for (size_t i = 0; i < job->nsegs; i++) {
        Elanus__SearchNear *near;
        struct seg_info info;
        TRY(nd_near_pack(&job->work[i].near, job->q.nq, ar, &near, st));
        if (near) {
            seg_get_info(job->segs[i], &info);
            near->segment_id = info.id;
            resp->near[resp->n_near++] = near;
        }
    }
out:
    return rc;
}

/* ---- sharing the work ---- */

/* Work below which waking other threads costs more than it saves; and above which that is nothing in
 * comparison, even when the others have work already. */
#define SPREAD_LEAST_US 60u
#define SPREAD_ALWAYS_US 1000u
#define BYTES_PER_US 16384u

/* The threads that share the work on segments; NULL: this one alone. */
static struct pool *pool_for(struct pool *compute, struct segment *const *segs, size_t nsegs,
                             size_t row_bytes, const struct call *call)
{
    uint64_t us = call->expect_us;

    if (nsegs < 2 || !compute) {
        return NULL;
    }
    for (size_t i = 0; i < nsegs && !call->expect_us; i++) {
        struct seg_info info;
        seg_get_info(segs[i], &info);
        us += info.nrows * (uint64_t)row_bytes / BYTES_PER_US;
    }
    if (us >= SPREAD_ALWAYS_US) {
        return compute;
    }
    return us >= SPREAD_LEAST_US && (int)call->beside + 1 < pool_threads(compute) ? compute : NULL;
}

/* Hits of one segment as flat arrays over all queries, with keys and timestamps. */
struct seg_hits {
    uint32_t total;
    uint32_t *first;    /* per query, nq + 1 */
    float *scores;
    uint32_t *rows;
    struct column pks, ts;
};

static int gather_hits(const struct segment *seg, const struct schema *schema,
                       const struct topk *tk, struct arena *ar, struct seg_hits *ret,
                       struct status *st)
{
    uint32_t total = 0;

    ret->first = arena_try_array(ar, (size_t)tk->nq + 1, sizeof *ret->first);
    if (!ret->first) {
        return no_memory(st);
    }
    for (uint32_t q = 0; q < tk->nq; q++) {
        ret->first[q] = total;
        total += topk_count(tk, q);
    }
    ret->first[tk->nq] = total;
    ret->total = total;
    if (total == 0) {
        return 0;
    }
    ret->scores = arena_try_array(ar, total, sizeof *ret->scores);
    ret->rows = arena_try_array(ar, total, sizeof *ret->rows);
    if (!ret->scores || !ret->rows) {
        return no_memory(st);
    }
    for (uint32_t q = 0, n = 0; q < tk->nq; q++) {
        for (uint32_t i = 0; i < topk_count(tk, q); i++, n++) {
            ret->scores[n] = topk_score(tk, q, i);
            ret->rows[n] = (uint32_t)topk_row(tk, q, i);
        }
    }
    int rc = seg_fetch(seg, schema->pk->id, ret->rows, total, ar, &ret->pks, st);
    return rc ? rc : seg_fetch(seg, FIELD_TIMESTAMP, ret->rows, total, ar, &ret->ts, st);
}

/* Room for the hits of an answer; they are counted down to what was found at the end. */
static int resp_reserve(Elanus__SearchResp *resp, uint32_t nq, size_t most, struct arena *ar,
                        struct status *st)
{
    resp->counts = arena_try_array(ar, nq, sizeof *resp->counts);
    resp->scores = arena_try_array(ar, most, sizeof *resp->scores);
    resp->segment_ids = arena_try_array(ar, most, sizeof *resp->segment_ids);
    resp->rows = arena_try_array(ar, most, sizeof *resp->rows);
    resp->timestamps = arena_try_array(ar, most, sizeof *resp->timestamps);
    if (!resp->counts || (most && (!resp->scores || !resp->segment_ids || !resp->rows ||
                                   !resp->timestamps))) {
        return no_memory(st);
    }
    resp->n_counts = nq;
    return 0;
}

static void resp_set_total(Elanus__SearchResp *resp, size_t total)
{
    resp->n_scores = total;
    resp->n_segment_ids = total;
    resp->n_rows = total;
    resp->n_timestamps = total;
}

static int check_field(const struct schema *schema, const Elanus__SearchReq *req,
                       struct status *st)
{
    const struct field *f = schema_field(schema, req->field_id);
    size_t width;

    if (!f) {
        return st_fail(st, ERR_FIELD_NOT_FOUND, "field not found[field=%lld]",
                       (long long)req->field_id);
    }
    if (!dtype_is_dense(f->type)) {
        return st_fail(st, ST_INVALID, "field %lld is no vector field that can be searched",
                       (long long)req->field_id);
    }
    width = dtype_width(f->type, f->dim);
    if (req->nq == 0 || req->queries.len != width * req->nq) {
        return st_fail(st, ST_INVALID, "%zu bytes of queries, %u of %zu expected",
                       req->queries.len, req->nq, width);
    }
    if (req->metric < 0 || req->metric >= METRIC_COUNT || req->k == 0 ||
        req->k > INDEX_TOPK_MAX) {
        return st_fail(st, ST_INVALID, "metric %d, topk %u", req->metric, req->k);
    }
    return 0;
}

static void search_query(struct search_job *job, const Elanus__SearchReq *req,
                         const struct call *call)
{
    job->q = (struct seg_search){
        .filter = { .ts = req->read_ts, .ttl_before = req->ttl_before },
        .field_id = req->field_id,
        .metric = (enum metric)req->metric,
        .queries = req->queries.data,
        .nq = req->nq,
        .has_radius = req->has_radius,
        .has_range_filter = req->has_range_filter,
        .radius = req->radius,
        .range_filter = req->range_filter,
        .has_bound = req->has_bound,
        .bound = req->bound,
        .exact = req->exact,
        .approx = !req->exact && !req->has_range_filter && !req->has_bound,
        .deadline_us = call->deadline_us,
        .cancel = call->cancel,
    };
}

static int index_params(struct search_job *job, const Elanus__SearchReq *req, struct status *st)
{
    struct seg_param *p = arena_try_array(job->scratch, req->n_index_params + 1, sizeof *p);

    if (!p) {
        return no_memory(st);
    }
    for (size_t i = 0; i < req->n_index_params; i++) {
        p[i] = (struct seg_param){ req->index_params[i]->key, req->index_params[i]->value };
    }
    job->q.params = p;
    job->q.nparams = req->n_index_params;
    return 0;
}

static void sum_work(const struct search_job *job, Elanus__SearchWork *w)
{
    for (size_t i = 0; i < job->nsegs; i++) {
        const struct index_counters *c = &job->work[i].done.counters;
        w->strategies |= UINT64_C(1) << c->strategy;
        w->distances += c->distances;
        w->exact += c->exact;
        w->hops += c->hops;
        w->lists += c->lists;
        w->bytes += c->bytes;
        w->reads += c->reads;
        w->fallbacks += c->fallbacks;
        w->indexed_segments += job->work[i].done.indexed;
        w->other_segments += !job->work[i].done.indexed;
    }
}

/* The hits of all segments, merged. */
struct search_merge {
    struct seg_hits *hits;
    struct hit_list *lists;
    struct merged_hit *merged;
    int64_t *segment_ids;
    struct column_builder *pks;
    size_t total;
};

/* One query's lists into the answer; true when equal keys cost hits that a segment may have. */
static bool merge_query(const struct search_job *job, struct search_merge *m, uint32_t q,
                        uint32_t k, Elanus__SearchResp *resp, bool *ret_full_memory)
{
    uint32_t dups = 0, n;
    bool more = false;

    for (size_t i = 0; i < job->nsegs; i++) {
        const struct seg_hits *h = &m->hits[i];
        m->lists[i] = (struct hit_list){
            .n = h->first[q + 1] - h->first[q],
            .scores = h->scores ? h->scores + h->first[q] : NULL,
            .pks = &h->pks,
            .first_row = h->first[q],
        };
        more = more || m->lists[i].n >= job->k;
    }
    n = reduce_hits(m->lists, (uint32_t)job->nsegs, !metric_larger_is_better(job->q.metric), 0, k,
                    job->scratch, m->merged, &dups);
    for (uint32_t j = 0; j < n; j++, m->total++) {
        const struct seg_hits *h = &m->hits[m->merged[j].list];
        uint32_t at = m->merged[j].row;
        resp->scores[m->total] = m->merged[j].score;
        resp->segment_ids[m->total] = m->segment_ids[m->merged[j].list];
        resp->rows[m->total] = h->rows[at];
        resp->timestamps[m->total] = (uint64_t)column_i64(&h->ts, at);
        if (!column_builder_take(m->pks, &h->pks, at)) {
            *ret_full_memory = true;
        }
    }
    resp->counts[q] = n;
    return n < k && dups > 0 && more;
}

static int merge_segments(struct search_job *job, const Elanus__SearchReq *req,
                          const struct call *call, Elanus__SearchResp *resp, bool *ret_more,
                          struct status *st)
{
    struct arena *ar = job->scratch;
    struct search_merge m = { 0 };
    size_t most = 0;
    bool full_memory = false;
    struct column pks;
    int rc = 0;

    m.hits = arena_try_array(ar, job->nsegs + 1, sizeof *m.hits);
    m.lists = arena_try_array(ar, job->nsegs + 1, sizeof *m.lists);
    m.segment_ids = arena_try_array(ar, job->nsegs + 1, sizeof *m.segment_ids);
    m.merged = arena_try_array(ar, req->k, sizeof *m.merged);
    if (!m.hits || !m.lists || !m.segment_ids || !m.merged) {
        return no_memory(st);
    }
    resp->searched_rows = 0;
    for (size_t i = 0; i < job->nsegs; i++) {
        struct seg_info info;
        TRY(gather_hits(job->segs[i], job->schema, job->work[i].tk, ar, &m.hits[i], st));
        most += m.hits[i].total;
        seg_get_info(job->segs[i], &info);
        resp->searched_rows += info.nrows;
        m.segment_ids[i] = info.id;
    }
    most = MIN(most, (size_t)req->nq * req->k);
    TRY(resp_reserve(resp, req->nq, most, call->ar, st));
    m.pks = column_builder_new(ar, job->schema->pk->id, job->schema->pk->type, DT_NONE, 0,
                               (uint32_t)most);
    *ret_more = false;
    for (uint32_t q = 0; q < req->nq; q++) {
        *ret_more |= merge_query(job, &m, q, req->k, resp, &full_memory);
    }
    if (full_memory) {
        rc = no_memory(st);
        goto out;
    }
    resp_set_total(resp, m.total);
    column_builder_finish(m.pks, &pks);
    struct batch b = { .nrows = (uint32_t)m.total, .ncols = 1, .cols = &pks };
    TRY(nd_batch_bytes(&b, call->ar, &resp->pks, st));
    resp->read_ts = req->read_ts;
out:
    return rc;
}

int nd_search(struct segment *const *segs, size_t nsegs, const struct schema *schema,
              const Elanus__SearchReq *req, const struct nd_known *known, struct pool *compute,
              const struct call *call, Elanus__SearchResp *resp, struct status *st)
{
    struct search_job job = {
        .segs = segs, .nsegs = nsegs, .schema = schema, .k = req->k, .known = known,
    };
    bool more;
    int rc;

    job.scratch = arena_new(SCRATCH_LIMIT);
    TRY(check_field(schema, req, st));
    search_query(&job, req, call);
    job.q.limits = known ? known->limits : NULL;
    TRY(index_params(&job, req, st));
    TRY(decode_plan(&req->plan, job.scratch, &job.q.filter.expr, st));
    job.work = work_new(nsegs);
    TRY(near_ask(&job, req, st));
    compute = pool_for(compute, segs, nsegs, req->queries.len + (job.q.filter.expr ? 64 : 0), call);
    for (;;) {
        parallel_for(compute, nsegs, search_one, &job);
        TRY(work_status(job.work, nsegs, st));
        TRY(merge_segments(&job, req, call, resp, &more, st));
        if (!more || job.k >= INDEX_TOPK_MAX) {
            break;
        }
        job.k = MIN(job.k * 2, (uint32_t)INDEX_TOPK_MAX); /* keys stood there several times */
    }
    resp->work = ARENA_NEW(call->ar, Elanus__SearchWork);
    elanus__search_work__init(resp->work);
    sum_work(&job, resp->work);
    if (req->n_near_segment_ids) {
        TRY(near_tell(&job, call->ar, resp, st));
    }
out:
    work_done(job.work, nsegs);
    arena_free(job.scratch);
    return rc;
}

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
        return no_memory(st);
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
            rc = no_memory(st);
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
                rc = no_memory(st);
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
    struct seg_work *work;
    struct seg_filter filter;
    uint32_t limit;
    bool count_only;
    int64_t deadline_us;
};

static void query_one(void *ctx, size_t i)
{
    struct query_job *job = ctx;
    struct seg_work *w = &job->work[i];

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
                        const Elanus__QueryReq *req, const struct seg_work *work,
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
        return no_memory(st);
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
        return no_memory(st);
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
    struct seg_work *work = NULL;
    struct arena *scratch = arena_new(SCRATCH_LIMIT);
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

    TRY(decode_plan(&req->plan, scratch, &job.filter.expr, st));
    work = job.work = work_new(nsegs);
    parallel_for(pool_for(compute, segs, nsegs, job.filter.expr ? 64 : 16, call), nsegs, query_one,
                 &job);
    TRY(work_status(work, nsegs, st));
    resp->read_ts = req->read_ts;
    if (req->count_only) {
        for (size_t i = 0; i < nsegs; i++) {
            resp->count += (int64_t)work[i].count;
        }
        goto out;
    }
    lists = arena_try_array(scratch, nsegs + 1, sizeof *lists);
    if (!lists) {
        rc = no_memory(st);
        goto out;
    }
    for (size_t i = 0; i < nsegs; i++) {
        struct column *cols = arena_try_array(scratch, 2, sizeof *cols);
        if (!cols) {
            rc = no_memory(st);
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
        rc = no_memory(st);
        goto out;
    }
    nkeep = reduce_rows(lists, (uint32_t)nsegs, 0, limit, scratch, keep);
    resp->count = nkeep;
    TRY(query_output(segs, nsegs, schema, req, work, keep, nkeep, scratch, call, resp, st));
out:
    work_done(work, nsegs);
    arena_free(scratch);
    return rc;
}

/* ---- merging answers ---- */

void nd_work_add(Elanus__SearchWork *sum, const Elanus__SearchWork *w)
{
    sum->strategies |= w->strategies;
    sum->distances += w->distances;
    sum->exact += w->exact;
    sum->hops += w->hops;
    sum->lists += w->lists;
    sum->bytes += w->bytes;
    sum->reads += w->reads;
    sum->fallbacks += w->fallbacks;
    sum->indexed_segments += w->indexed_segments;
    sum->other_segments += w->other_segments;
}

int nd_merge_search(const Elanus__SearchResp *const *parts, size_t nparts,
                    const struct nd_merge *how, const struct call *call, Elanus__SearchResp *resp,
                    uint32_t **ret_part_of_hit, bool *retry_k, struct status *st)
{
    uint32_t nq = how->nq, k = how->k;
    struct arena *ar = call->ar;
    struct batch *pks = arena_try_array(ar, nparts + 1, sizeof *pks);
    size_t *first = arena_try_array(ar, nparts + 1, sizeof *first);
    struct hit_list *lists = arena_try_array(ar, nparts + 1, sizeof *lists);
    struct merged_hit *merged = arena_try_array(ar, k, sizeof *merged);
    struct column_builder *cb = NULL;
    struct column pk_col;
    uint32_t *part_of = NULL;
    size_t most = 0, total = 0;
    Elanus__SearchWork *work = ARENA_NEW(ar, Elanus__SearchWork);
    bool more = false;
    int rc = 0;

    if (!pks || !first || !lists || !merged) {
        return no_memory(st);
    }
    elanus__search_work__init(work);
    resp->work = work;
    for (size_t i = 0; i < nparts; i++) {
        TRY(decode_bytes(&parts[i]->pks, ar, &pks[i], st));
        if (parts[i]->n_counts != nq || pks[i].nrows != parts[i]->n_scores) {
            FAIL(st, ST_INTERNAL, "a part of the answer has %zu lists, %u expected",
                 parts[i]->n_counts, nq);
        }
        most += parts[i]->n_scores;
        resp->searched_rows += parts[i]->searched_rows;
        if (parts[i]->work) {
            nd_work_add(work, parts[i]->work);
        }
    }
    TRY(resp_reserve(resp, nq, most, ar, st));
    part_of = arena_try_array(ar, most + 1, sizeof *part_of);
    if (!part_of) {
        rc = no_memory(st);
        goto out;
    }
    for (uint32_t q = 0; q < nq; q++) {
        uint32_t dups = 0, n;
        bool full = false;
        for (size_t i = 0; i < nparts; i++) {
            lists[i] = (struct hit_list){
                .n = parts[i]->counts[q],
                .scores = parts[i]->scores + first[i],
                .pks = pks[i].ncols ? &pks[i].cols[0] : NULL,
                .first_row = (uint32_t)first[i],
            };
            full = full || parts[i]->counts[q] >= how->asked;
        }
        n = reduce_hits(lists, (uint32_t)nparts, !how->larger_is_better, 0, k, ar, merged, &dups);
        more = more || (n < k && dups > 0 && full);
        for (uint32_t j = 0; j < n; j++, total++) {
            const Elanus__SearchResp *p = parts[merged[j].list];
            uint32_t at = merged[j].row;
            const struct column *col = &pks[merged[j].list].cols[0];
            resp->scores[total] = merged[j].score;
            resp->segment_ids[total] = p->segment_ids[at];
            resp->rows[total] = p->rows[at];
            resp->timestamps[total] = p->timestamps[at];
            part_of[total] = merged[j].list;
            if (!cb) {
                cb = column_builder_new(ar, col->field_id, col->type, col->elem, col->dim,
                                        (uint32_t)most);
            }
            if (!column_builder_take(cb, col, at)) {
                rc = no_memory(st);
                goto out;
            }
        }
        resp->counts[q] = n;
        for (size_t i = 0; i < nparts; i++) {
            first[i] += parts[i]->counts[q];
        }
    }
    resp_set_total(resp, total);
    if (cb) {
        column_builder_finish(cb, &pk_col);
        struct batch b = { .nrows = (uint32_t)total, .ncols = 1, .cols = &pk_col };
        TRY(nd_batch_bytes(&b, ar, &resp->pks, st));
    }
    *ret_part_of_hit = part_of;
    if (retry_k) {
        *retry_k = more;
    }
out:
    return rc;
}

int nd_merge_query(const Elanus__QueryResp *const *parts, size_t nparts, int64_t limit,
                   int64_t max_bytes, const struct call *call, Elanus__QueryResp *resp,
                   struct status *st)
{
    struct arena *ar = call->ar;
    struct batch *b = arena_try_array(ar, nparts + 1, sizeof *b);
    struct row_list *lists = arena_try_array(ar, nparts + 1, sizeof *lists);
    struct merged_row *keep;
    struct column *cols;
    struct batch out = { 0 };
    uint32_t most = limit < 0 || limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit;
    uint32_t nkeep;
    size_t total = 0, bytes = 0, model = 0;
    int rc = 0;

    if (!b || !lists) {
        return no_memory(st);
    }
    for (size_t i = 0; i < nparts; i++) {
        resp->count += parts[i]->count;
        TRY(decode_bytes(&parts[i]->batch, ar, &b[i], st));
        if (b[i].nrows != parts[i]->n_timestamps) {
            FAIL(st, ST_INTERNAL, "a part of the answer has %u rows and %zu timestamps",
                 b[i].nrows, parts[i]->n_timestamps);
        }
        lists[i] = (struct row_list){ .n = b[i].nrows,
                                      .pks = b[i].ncols ? &b[i].cols[0] : NULL,
                                      .timestamps = parts[i]->timestamps };
        total += b[i].nrows;
        model = b[i].ncols ? i : model;
    }
    if (nparts == 0 || b[model].ncols == 0) { /* counts only */
        goto out;
    }
    keep = arena_try_array(ar, MIN(total, (size_t)most) + 1, sizeof *keep);
    cols = arena_try_array(ar, b[model].ncols, sizeof *cols);
    if (!keep || !cols) {
        rc = no_memory(st);
        goto out;
    }
    nkeep = reduce_rows(lists, (uint32_t)nparts, 0, most, ar, keep);
    resp->count = nkeep;
    resp->timestamps = arena_try_array(ar, nkeep + 1u, sizeof *resp->timestamps);
    if (!resp->timestamps) {
        rc = no_memory(st);
        goto out;
    }
    resp->n_timestamps = nkeep;
    for (uint32_t i = 0; i < nkeep; i++) {
        resp->timestamps[i] = parts[keep[i].list]->timestamps[keep[i].row];
    }
    for (uint32_t c = 0; c < b[model].ncols; c++) {
        const struct column *m = &b[model].cols[c];
        struct column_builder *cb =
            column_builder_new(ar, m->field_id, m->type, m->elem, m->dim, nkeep);
        for (uint32_t i = 0; i < nkeep; i++) {
            const struct column *from = &b[keep[i].list].cols[c];
            if (max_bytes > 0) {
                bytes += column_cell(from, keep[i].row).n;
            }
            if (!column_builder_take(cb, from, keep[i].row)) {
                rc = no_memory(st);
                goto out;
            }
        }
        column_builder_finish(cb, &cols[c]);
    }
    if (max_bytes > 0 && bytes > (size_t)max_bytes) {
        FAIL(st, ST_TOO_LARGE, "query results exceed the maxOutputSize Limit %lld: narrow the "
             "filter, name fewer output_fields or set a limit", (long long)max_bytes);
    }
    out = (struct batch){ .nrows = nkeep, .ncols = b[model].ncols, .cols = cols };
    TRY(nd_batch_bytes(&out, ar, &resp->batch, st));
out:
    return rc;
}
