/*
 * nd_search.c - search over the segments of one process.
 *
 * WHAT      Each segment fills a top-k of its own, in parallel; keys and timestamps of the
 *           survivors are fetched, and query/reduce.h merges by score and key.
 * THREADS   Pure but for the compute pool. A segment's work never waits.
 * MEMORY    Scratch is one arena per segment, freed here; the answer lies in the call's arena.
 */
#include "node/nd_int.h"
#include "query/reduce.h"
#include "schema/errors.h"
#include <string.h>

struct search_job {
    struct segment *const *segs;
    size_t nsegs;
    const struct schema *schema;
    struct nd_work *work;
    struct seg_search q;
    uint32_t k;              /* hits asked of each segment */
    const struct nd_known *known;
    const Elanus__SearchReq *req;
    struct nd_ahead *ahead;  /* NULL: no page of an iterator */
    struct arena *scratch;
};

static void search_one(void *ctx, size_t i)
{
    struct search_job *job = ctx;
    struct nd_work *w = &job->work[i];
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
    if (seg_topk_new(&q, job->k, &w->tk, &w->st) != 0) {
        return;
    }
    if (job->ahead) {
        (void)nd__ahead_search(job->ahead, job->segs[i], job->nsegs, job->req, &q, w->tk,
                               w->scratch, &w->st);
    } else {
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
        return nd__no_memory(st);
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

/* ---- merging hits ---- */

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
        return nd__no_memory(st);
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
        return nd__no_memory(st);
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
        return nd__no_memory(st);
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
        return nd__no_memory(st);
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
    TRY(nd__resp_reserve(resp, req->nq, most, call->ar, st));
    m.pks = column_builder_new(ar, job->schema->pk->id, job->schema->pk->type, DT_NONE, 0,
                               (uint32_t)most);
    *ret_more = false;
    for (uint32_t q = 0; q < req->nq; q++) {
        *ret_more |= merge_query(job, &m, q, req->k, resp, &full_memory);
    }
    if (full_memory) {
        rc = nd__no_memory(st);
        goto out;
    }
    nd__resp_set_total(resp, m.total);
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
        .segs = segs, .nsegs = nsegs, .schema = schema, .k = req->k, .known = known, .req = req,
        .ahead = known && req->pages && req->exact ? known->ahead : NULL,
    };
    bool more;
    int rc;

    job.scratch = nd__scratch_new();
    TRY(check_field(schema, req, st));
    search_query(&job, req, call);
    job.q.limits = known ? known->limits : NULL;
    TRY(index_params(&job, req, st));
    TRY(nd__decode_plan(&req->plan, job.scratch, &job.q.filter.expr, st));
    job.work = nd__work_new(nsegs);
    TRY(near_ask(&job, req, st));
    compute = nd__pool_for(compute, segs, nsegs,
                           req->queries.len + (job.q.filter.expr ? 64 : 0), call);
    for (;;) {
        parallel_for(compute, nsegs, search_one, &job);
        TRY(nd__work_status(job.work, nsegs, st));
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
    nd__work_done(job.work, nsegs);
    arena_free(job.scratch);
    return rc;
}
