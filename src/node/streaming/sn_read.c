/*
 * sn_read.c - reads of one shard: wait for the snapshot, pin the view, ask everyone, merge.
 *
 * WHAT      Sealed segments are searched by the query nodes that hold them, growing ones here and
 *           after them: what the sealed rows have found already bounds what growing rows are worth
 *           looking at. Hits are merged by score and key, and the output fields of the winners are
 *           fetched from where they are.
 * THREADS   Any. The view is referenced for the whole request, so growing segments stay. A sealed
 *           segment that left its node meanwhile (release, drop) has left the view before: the read
 *           is made again with the view of now, at the same timestamp.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"
#include "schema/errors.h"
#include <math.h>

/* Everything one read needs, released by read_done(). */
struct reading {
    struct sn_shard *sh;
    struct sn_view *vw;
    hts read_ts, ttl_before;
    size_t ngrowing;
    struct segment **growing;         /* borrowed from the view */
    size_t nnodes;
    struct node_part {
        int64_t node_id;
        const struct qnode_service *qs;
        size_t n;
        int64_t *segment_ids;
    } *nodes;
};

static void read_done(struct reading *r)
{
    sn__view_unref(r->vw);
    sn__shard_unref(r->sh);
}

static bool wanted(const struct sn_view *vw, const int64_t *ids, size_t n, int64_t partition_id)
{
    if (n == 0) {
        return sn__view_has_partition(vw, partition_id);
    }
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == partition_id) {
            return true;
        }
    }
    return false;
}

static int group_sealed(struct sn *sn, struct reading *r, const int64_t *partitions,
                        size_t npartitions, struct arena *ar, struct status *st)
{
    const struct sn_view *vw = r->vw;
    int rc = 0;

    r->nodes = arena_try_array(ar, vw->nsealed + 1, sizeof *r->nodes);
    if (!r->nodes) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu segments", vw->nsealed);
    }
    for (size_t i = 0; i < vw->nsealed; i++) {
        const struct sn_sealed *s = &vw->sealed[i];
        struct node_part *np = NULL;
        if (!wanted(vw, partitions, npartitions, s->meta->partition_id)) {
            continue;
        }
        for (size_t j = 0; j < r->nnodes && !np; j++) {
            np = r->nodes[j].node_id == s->node_id ? &r->nodes[j] : NULL;
        }
        if (!np) {
            np = &r->nodes[r->nnodes++];
            np->node_id = s->node_id;
            np->segment_ids = arena_try_array(ar, vw->nsealed, sizeof *np->segment_ids);
            if (!np->segment_ids) {
                FAIL(st, ST_NO_MEMORY, "no memory for %zu segments", vw->nsealed);
            }
            TRY(svc_dir_qnode(sn->opts.dir, s->node_id, &np->qs, st));
        }
        np->segment_ids[np->n++] = s->meta->id;
    }
out:
    return rc;
}

/* What a read asks for, the same in search and query. */
struct ask {
    const char *vchannel;
    const int64_t *partitions;
    size_t npartitions;
    hts guarantee_ts, read_ts;
    bool ignore_growing;
};

static int check_loaded(const struct reading *r, const struct ask *a, struct status *st)
{
    const struct sn_view *vw = r->vw;
    int rc = 0;

    if (!vw || !vw->loaded) {
        FAIL(st, ERR_COLLECTION_NOT_LOADED, "collection not loaded[collection=%lld]",
             (long long)r->sh->collection_id);
    }
    for (size_t i = 0; i < a->npartitions; i++) {
        if (!sn__view_has_partition(vw, a->partitions[i])) {
            FAIL(st, ERR_PARTITION_NOT_LOADED, "partition not loaded[partition=%lld]",
                 (long long)a->partitions[i]);
        }
    }
    for (size_t i = 0; i < vw->nmissing; i++) {
        if (wanted(vw, a->partitions, a->npartitions, vw->missing[i]->partition_id)) {
            struct status why;
            lock_acquire(&r->sh->lock);
            why = r->sh->load_failed;
            lock_release(&r->sh->lock);
            rc = st_fail(st, ERR_SEGMENT_NOT_FOUND, "segment %lld waits to be loaded%s%s",
                         (long long)vw->missing[i]->id, why.code ? ": " : "", why.msg);
            st->retriable = true;
            goto out;
        }
    }
out:
    return rc;
}

static int pin_growing(struct reading *r, const struct ask *a, struct arena *ar,
                       struct status *st)
{
    const struct sn_view *vw = r->vw;

    r->growing = arena_try_array(ar, vw->ngrowing + 1, sizeof(struct segment *));
    if (!r->growing) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %zu segments", vw->ngrowing);
    }
    for (size_t i = 0; i < vw->ngrowing && !a->ignore_growing; i++) {
        struct seg_info info;
        seg_get_info(vw->growing[i], &info);
        if (info.nrows && wanted(vw, a->partitions, a->npartitions, info.partition_id)) {
            r->growing[r->ngrowing++] = vw->growing[i];
        }
    }
    return 0;
}

/* The view of now. Called again when segments of the last one have left their nodes. */
static int pin_view(struct sn *sn, struct reading *r, const struct ask *a, struct arena *ar,
                    struct status *st)
{
    int rc;

    sn__view_unref(r->vw);
    r->vw = sn__view_get(r->sh);
    r->ngrowing = r->nnodes = 0;
    TRY(check_loaded(r, a, st));
    r->ttl_before = 0;
    if (r->vw->ttl_ms) {
        int64_t before = clock_now_ms() - r->vw->ttl_ms;
        r->ttl_before = before > 0 ? hts_make(before, 0) : 0;
    }
    TRY(pin_growing(r, a, ar, st));
    TRY(group_sealed(sn, r, a->partitions, a->npartitions, ar, st));
out:
    return rc;
}

static int read_begin(struct sn *sn, const struct call *call, const struct ask *a,
                      struct reading *r, struct status *st)
{
    hts complete;
    int rc;

    *r = (struct reading){ 0 };
    TRY(sn__shard_find(sn, a->vchannel, &r->sh, st));
    lock_acquire(&r->sh->lock);
    rc = r->sh->failed.code;
    if (rc != 0) {
        *st = r->sh->failed;
    }
    lock_release(&r->sh->lock);
    TRY(rc);
    TRY(sn__wait_ts(r->sh->ch, MAX(a->guarantee_ts, a->read_ts), call, &complete, st));
    r->read_ts = a->read_ts ? a->read_ts : complete;
    TRY(pin_view(sn, r, a, call->ar, st));
out:
    return rc;
}

/* After a failed read: whether the view has changed under it, which may be why. A node that has
 * lost a segment while the view stood still is found out, and the read made again is for the
 * caller. */
static bool view_moved(struct reading *r, struct status *st)
{
    struct status ignored = STATUS_INIT;
    struct sn_view *now;
    bool moved;

    if (!r->vw || (st->code != ERR_SEGMENT_NOT_FOUND && st->code != ERR_COLLECTION_NOT_LOADED &&
                   st->code != ERR_INCONSISTENT_REQUERY)) {
        return false;
    }
    now = sn__view_get(r->sh);
    moved = now != r->vw;
    sn__view_unref(now);
    if (!moved && sn__verify_loaded(r->sh, &ignored) == 0) {
        st->retriable = true;
    }
    return moved;
}

/* ---- search ---- */

/* For each query the score of the k-th hit that a node has alone: k keys are no worse, whatever
 * growing rows hold. NULL without memory: nothing is known. */
static float *limits_of(Elanus__SearchResp *const *parts, size_t nparts,
                        const Elanus__SearchReq *req, struct arena *ar)
{
    bool larger = metric_larger_is_better((enum metric)req->metric);
    float *limits = arena_try(ar, req->nq * sizeof *limits);

    for (uint32_t q = 0; limits && q < req->nq; q++) {
        limits[q] = larger ? -INFINITY : INFINITY;
    }
    for (size_t i = 0; limits && i < nparts; i++) {
        size_t first = 0;
        for (uint32_t q = 0; q < MIN((size_t)req->nq, parts[i]->n_counts); q++) {
            uint32_t n = parts[i]->counts[q];
            if (n >= req->k && first + req->k <= parts[i]->n_scores) {
                float score = parts[i]->scores[first + req->k - 1];
                limits[q] = larger ? MAX(limits[q], score) : MIN(limits[q], score);
            }
            first += n;
        }
    }
    return limits;
}

/* The guides of the growing segments to be searched, where this search is one that they help. */
static size_t guides_of(const struct reading *r, const Elanus__SearchReq *req, struct arena *ar,
                        int64_t **ret_ids)
{
    size_t n = 0;

    *ret_ids = NULL;
    if (req->exact || req->has_radius || req->has_range_filter || req->has_bound) {
        return 0;
    }
    for (size_t i = 0; i < r->ngrowing; i++) {
        int64_t id = seg_guide(r->growing[i], req->field_id);
        bool had = id == 0;
        for (size_t j = 0; j < n; j++) {
            had = had || (*ret_ids)[j] == id;
        }
        if (!had) {
            *ret_ids = *ret_ids ? *ret_ids : arena_try_array(ar, r->ngrowing, sizeof **ret_ids);
            if (!*ret_ids) {
                return 0;
            }
            (*ret_ids)[n++] = id;
        }
    }
    return n;
}

/* For each growing segment what the nodes told of its guide; NULL: of none. */
static const Elanus__SearchNear **near_of(const struct reading *r, int64_t field_id,
                                          Elanus__SearchResp *const *parts, struct arena *ar)
{
    const Elanus__SearchNear **near = NULL;

    for (size_t p = 0; p < r->nnodes; p++) {
        for (size_t k = 0; k < parts[p]->n_near; k++) {
            near = near ? near : arena_try_array(ar, r->ngrowing, sizeof(Elanus__SearchNear *));
            for (size_t i = 0; near && i < r->ngrowing; i++) {
                if (seg_guide(r->growing[i], field_id) == parts[p]->near[k]->segment_id) {
                    near[i] = parts[p]->near[k];
                }
            }
        }
    }
    return near;
}

/* The growing rows brought nothing to what one node has found: its answer is the answer. */
static bool only_sealed(Elanus__SearchResp *const *parts, size_t nparts, const struct call *call,
                        Elanus__SearchResp *ret, uint32_t **ret_part)
{
    uint32_t *part;

    if (nparts != 2 || parts[0]->n_scores || !parts[0]->work || !parts[1]->work) {
        return false;
    }
    part = arena_try(call->ar, (parts[1]->n_scores + 1) * sizeof *part);
    if (!part) {
        return false;
    }
    for (size_t i = 0; i < parts[1]->n_scores; i++) {
        part[i] = 1;
    }
    nd_work_add(parts[1]->work, parts[0]->work);
    parts[1]->searched_rows += parts[0]->searched_rows;
    *ret = *parts[1];
    *ret_part = part;
    return true;
}

/* All sources asked for k hits; *ret is the merged answer of req->k, *ret_part says where each hit
 * came from (0 is this node when there are growing segments). */
static int search_parts(struct reading *r, const struct sn *sn, const struct call *call,
                        const Elanus__SearchReq *req, uint32_t k, Elanus__SearchResp *ret,
                        uint32_t **ret_part, bool *retry_k, struct status *st)
{
    size_t nparts = r->ngrowing ? 1 : 0;
    Elanus__SearchResp **parts =
        arena_try_array(call->ar, r->nnodes + 1, sizeof(Elanus__SearchResp *));
    Elanus__SearchReq sub = *req;
    int rc = 0;

    if (!parts) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu nodes", r->nnodes);
    }
    sub.k = k;
    sub.collection_id = r->sh->collection_id;
    sub.read_ts = r->read_ts;
    sub.ttl_before = r->ttl_before;
    sub.n_output_field_ids = 0;
    sub.n_near_segment_ids = guides_of(r, req, call->ar, &sub.near_segment_ids);
    for (size_t i = 0; i < r->nnodes; i++) {
        parts[nparts] = ARENA_NEW(call->ar, Elanus__SearchResp);
        elanus__search_resp__init(parts[nparts]);
        sub.segment_ids = r->nodes[i].segment_ids;
        sub.n_segment_ids = r->nodes[i].n;
        TRY(r->nodes[i].qs->search(r->nodes[i].qs->self, call, &sub, parts[nparts], st));
        nparts++;
    }
    if (r->ngrowing) {
        struct nd_known known = { 0 };
        if (r->nnodes) {
            known.limits = limits_of(parts + 1, r->nnodes, req, call->ar);
            known.near = near_of(r, req->field_id, parts + 1, call->ar);
        }
        parts[0] = ARENA_NEW(call->ar, Elanus__SearchResp);
        elanus__search_resp__init(parts[0]);
        sub.segment_ids = NULL;
        sub.n_segment_ids = 0;
        sub.n_near_segment_ids = 0;
        TRY(nd_search(r->growing, r->ngrowing, r->vw->schema, &sub, &known, sn->opts.compute, call,
                      parts[0], st));
        nd_measures_add(&sn->measures, parts[0]->work);
        sn__tend_look(r->sh, r->growing, r->ngrowing);
    }
    *retry_k = false;
    if (k == req->k && only_sealed(parts, nparts, call, ret, ret_part)) {
        goto out;
    }
    if (nparts == 1) { /* nothing to merge */
        *ret = *parts[0];
        *ret_part = arena_try_array(call->ar, ret->n_scores + 1, sizeof **ret_part);
        if (!*ret_part) {
            FAIL(st, ST_NO_MEMORY, "no memory for %zu hits", ret->n_scores);
        }
        goto out;
    }
    struct nd_merge how = { .nq = req->nq,
                            .k = req->k,
                            .asked = k,
                            .larger_is_better = metric_larger_is_better((enum metric)req->metric) };
    TRY(nd_merge_search((const Elanus__SearchResp *const *)parts, nparts, &how, call, ret,
                        ret_part, retry_k, st));
out:
    return rc;
}

/* One source's share of the output rows, in the order of the hits. */
static int fetch_part(struct reading *r, size_t source, const struct call *call,
                      const Elanus__SearchReq *req, const int64_t *segs, const uint32_t *rows,
                      size_t n, struct batch *ret, struct status *st)
{
    Elanus__FetchReq freq;
    Elanus__FetchResp fresp;
    const struct node_part *np;
    int rc;

    if (r->ngrowing && source == 0) {
        return nd_fetch(r->growing, r->ngrowing, r->vw->schema, segs, rows, n,
                        req->output_field_ids, req->n_output_field_ids, call, ret, st);
    }
    np = &r->nodes[source - (r->ngrowing ? 1 : 0)];
    elanus__fetch_req__init(&freq);
    elanus__fetch_resp__init(&fresp);
    freq.collection_id = r->sh->collection_id;
    freq.segment_ids = (int64_t *)(uintptr_t)segs;
    freq.n_segment_ids = n;
    freq.rows = (uint32_t *)(uintptr_t)rows;
    freq.n_rows = n;
    freq.field_ids = req->output_field_ids;
    freq.n_field_ids = req->n_output_field_ids;
    TRY(np->qs->fetch(np->qs->self, call, &freq, &fresp, st));
    TRY(batch_decode(slice_n(fresp.batch.data, fresp.batch.len), call->ar, ret, st));
out:
    return rc;
}

static int fetch_fields(struct reading *r, const struct call *call, const Elanus__SearchReq *req,
                        const uint32_t *part, Elanus__SearchResp *resp, struct status *st)
{
    size_t n = resp->n_scores, nsources = r->nnodes + (r->ngrowing ? 1 : 0);
    struct arena *ar = call->ar;
    struct batch *got = arena_try_array(ar, nsources + 1, sizeof *got);
    int64_t *segs = arena_try_array(ar, n + 1, sizeof *segs);
    uint32_t *rows = arena_try_array(ar, n + 1, sizeof *rows);
    uint32_t *rank = arena_try_array(ar, n + 1, sizeof *rank);
    struct column *cols = arena_try_array(ar, req->n_output_field_ids + 1, sizeof *cols);
    int rc = 0;

    if (!got || !segs || !rows || !rank || !cols) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu hits", n);
    }
    for (size_t s = 0; s < nsources; s++) {
        size_t m = 0;
        for (size_t i = 0; i < n; i++) {
            if (part[i] == s) {
                segs[m] = resp->segment_ids[i];
                rank[i] = (uint32_t)m;
                rows[m++] = resp->rows[i];
            }
        }
        if (m) {
            TRY(fetch_part(r, s, call, req, segs, rows, m, &got[s], st));
        }
        if (m == n) { /* one source has them all, in order */
            TRY(nd_batch_bytes(&got[s], ar, &resp->fields, st));
            goto out;
        }
    }
    for (size_t f = 0; f < req->n_output_field_ids; f++) {
        const struct field *fd = schema_field(r->vw->schema, req->output_field_ids[f]);
        struct column_builder *cb = column_builder_new(
            ar, req->output_field_ids[f], fd ? fd->type : DT_INT64, fd ? fd->elem : DT_NONE,
            fd ? fd->dim : 0, (uint32_t)n);
        for (size_t i = 0; i < n; i++) {
            if (!column_builder_take(cb, &got[part[i]].cols[f], rank[i])) {
                FAIL(st, ST_NO_MEMORY, "no memory for the output fields of %zu hits", n);
            }
        }
        column_builder_finish(cb, &cols[f]);
    }
    struct batch b = { (uint32_t)n, (uint32_t)req->n_output_field_ids, cols };
    TRY(nd_batch_bytes(&b, ar, &resp->fields, st));
out:
    return rc;
}

static int search_view(struct reading *r, const struct sn *sn, const struct call *call,
                       const Elanus__SearchReq *req, Elanus__SearchResp *resp, struct status *st)
{
    uint32_t k = req->k, *part = NULL;
    bool retry_k = false;
    int rc = 0;

    elanus__search_resp__init(resp);
    if (r->ngrowing == 0 && r->nnodes == 0) { /* nothing there: nq empty lists */
        resp->counts = arena_try_array(call->ar, req->nq, sizeof *resp->counts);
        if (!resp->counts) {
            FAIL(st, ST_NO_MEMORY, "no memory for %u queries", req->nq);
        }
        resp->n_counts = req->nq;
        goto out;
    }
    for (;;) {
        elanus__search_resp__init(resp);
        TRY(search_parts(r, sn, call, req, k, resp, &part, &retry_k, st));
        if (!retry_k || k >= INDEX_TOPK_MAX) {
            break;
        }
        k = MIN(k * 2, (uint32_t)INDEX_TOPK_MAX);
    }
    if (req->n_output_field_ids && resp->n_scores) {
        TRY(fetch_fields(r, call, req, part, resp, st));
    }
out:
    resp->n_near = 0; /* was for here */
    resp->read_ts = r->read_ts;
    return rc;
}

/* Views move rarely; a read that meets many moves gives up with the last error, which the caller
 * may retry. */
#define VIEWS_MAX 8

int sn__search(struct sn *sn, const struct call *call, const Elanus__SearchReq *req,
               Elanus__SearchResp *resp, struct status *st)
{
    struct ask a = { req->vchannel,     req->partition_ids, req->n_partition_ids,
                     req->guarantee_ts, req->read_ts,       req->ignore_growing };
    struct reading r;
    int rc;

    TRY(read_begin(sn, call, &a, &r, st));
    rc = search_view(&r, sn, call, req, resp, st);
    for (int i = 0; rc != 0 && !call->no_wait && i < VIEWS_MAX && view_moved(&r, st); i++) {
        st_clear(st);
        TRY(pin_view(sn, &r, &a, call->ar, st));
        rc = search_view(&r, sn, call, req, resp, st);
    }
out:
    read_done(&r);
    return rc;
}

/* ---- query ---- */

static int query_view(struct reading *r, const struct sn *sn, const struct call *call,
                      const Elanus__QueryReq *req, Elanus__QueryResp *resp, struct status *st)
{
    Elanus__QueryResp **parts;
    Elanus__QueryReq sub = *req;
    size_t nparts = 0;
    int rc = 0;

    elanus__query_resp__init(resp);
    parts = arena_try_array(call->ar, r->nnodes + 1, sizeof(Elanus__QueryResp *));
    if (!parts) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu nodes", r->nnodes);
    }
    sub.collection_id = r->sh->collection_id;
    sub.read_ts = r->read_ts;
    sub.ttl_before = r->ttl_before;
    if (r->ngrowing || r->nnodes == 0) {
        parts[nparts] = ARENA_NEW(call->ar, Elanus__QueryResp);
        elanus__query_resp__init(parts[nparts]);
        TRY(nd_query(r->growing, r->ngrowing, r->vw->schema, &sub, sn->opts.compute, call,
                     parts[nparts], st));
        nparts++;
    }
    for (size_t i = 0; i < r->nnodes; i++) {
        parts[nparts] = ARENA_NEW(call->ar, Elanus__QueryResp);
        elanus__query_resp__init(parts[nparts]);
        sub.segment_ids = r->nodes[i].segment_ids;
        sub.n_segment_ids = r->nodes[i].n;
        TRY(r->nodes[i].qs->query(r->nodes[i].qs->self, call, &sub, parts[nparts], st));
        nparts++;
    }
    if (nparts == 1) {
        *resp = *parts[0];
    } else {
        TRY(nd_merge_query((const Elanus__QueryResp *const *)parts, nparts, req->limit,
                           req->max_bytes, call, resp, st));
    }
    resp->read_ts = r->read_ts;
out:
    return rc;
}

int sn__query(struct sn *sn, const struct call *call, const Elanus__QueryReq *req,
              Elanus__QueryResp *resp, struct status *st)
{
    struct ask a = { req->vchannel,     req->partition_ids, req->n_partition_ids,
                     req->guarantee_ts, req->read_ts,       req->ignore_growing };
    struct reading r;
    int rc;

    TRY(read_begin(sn, call, &a, &r, st));
    rc = query_view(&r, sn, call, req, resp, st);
    for (int i = 0; rc != 0 && !call->no_wait && i < VIEWS_MAX && view_moved(&r, st); i++) {
        st_clear(st);
        TRY(pin_view(sn, &r, &a, call->ar, st));
        rc = query_view(&r, sn, call, req, resp, st);
    }
out:
    read_done(&r);
    return rc;
}
