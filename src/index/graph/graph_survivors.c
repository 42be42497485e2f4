/*
 * graph_survivors.c - scans over the allowed rows of a graph index.
 *
 * WHAT        Nodes are in cluster order and the filter's bits, unless rows lie in order, in row
 *             order: for a run of nodes the allowed ones are picked by allow[perm[node]], scored by
 *             their codes, and the best `keep` of them get exact scores. Where the index has bits (graph_bits.c) those are read
 *             first, and codes only of rows that are not so many deviations of the bits' estimate
 *             behind the `keep` best so far.
 *             graph__survivors_near() takes clusters in the order of their centroids' distance.
 *             Clusters without an allowed row cost the look at their bits. It ends when `keep`
 *             candidates are there and, for some clusters and a share of those before, none
 *             changed them:
 *             how far the right clusters reach depends on data, filter and k, and this follows it
 *             instead of a count fixed beforehand.
 * THREADS     As the graph: one call per thread, scratch from the graph's pool.
 * WHY         Bounds by cluster radius (distance less radius beats the k-th) never end a scan above
 *             some 20 dimensions: radii are as long as distances. Groups of 32 rows in place of
 *             clusters were no faster on sentence embeddings at a recall of 0.98: putting thousands
 *             of groups in order costs what they spare.
 */
#include "index/graph/graph_survivors.h"

#include <math.h>
#include <string.h>

#include "base/bitset.h"
#include "index/flat_int.h"
#include "simd/simd.h"
#include "simd/simd_where.h"

/* Clusters without a find before the scan ends: this many, more for a wider search, and a third of
 * those that had survivors. On sentence embeddings, a fifth to a thirtieth allowed: 8 lost .035 to the
 * walk without a filter for some forty queries at ef 14, 14 nowhere more than .01. */
#define PATIENCE 14u
#define PATIENCE_EF 8u
#define PATIENCE_PART 3u
/* Candidates kept are so many times those that get exact scores for sure: where scores are dense,
 * as far from the query, codes order them badly and many more must be looked at. */
#define SPARE 8u
#define SPARE_MORE 512u
#define RUN_NODES 4096u /* between two calls of check */
/* More than SCORE_NODES are scored together; PICK_NODES are looked at before the next question, and
 * with what a pick overwrites there is room for both. */
#define SCORE_NODES 96u
#define PICK_NODES 128u
/* Standard deviations of an estimate from bits, more for a wider search. Of 1,000 results on sentence
 * embeddings none was lost at 2 (125 codes looked at in any number of rows), 1 or 2 at 1.5 (81), 18
 * at 1 (53). */
#define SPREAD_LEAST 2.0f
#define SPREAD_MOST 3.0f
#define SPREAD_EF 70.0f /* of ef for one more: where scores are dense every part counts */
#define HOLD_NODES 16u /* more have their codes compared together, after bits */
#define FETCH_MAX 512u /* of a code; the rest follows in the hardware's stream */

struct survivors {
    const struct graph *g;
    const struct index_query *q;
    struct graph_scratch *s;
    struct index_counters *c;
    simd_ids_fn *exact;
    size_t keep, n; /* candidates in s->pool: at least the keep best, fewer than twice as many */
    float cut;      /* no candidate is farther */
    size_t sure, nnear; /* the best of them, behind: a heap, farthest first */
    uint64_t *near;
    uint32_t seen;
    size_t waiting, fetch; /* in s->ids; bytes of a code that are fetched ahead */
    const uint8_t *first;  /* what is looked at first of a node: its bits, else its code */
    size_t stride, first_fetch;
    const uint64_t *bits;  /* allowed nodes in the order of nodes; NULL: not at hand */
    uint32_t j;
    struct topk *tk;
    float off;    /* how far codes were off at most, and some; from the first scores on */
    bool settled; /* exact scores of so many candidates are in that the list's bound holds */
    size_t nhold;
    uint32_t hold[HOLD_NODES + 256]; /* nodes that bits did not rule out */
};

/* The max smallest of all that were offered, a heap with the largest first. */
static void heap_keep(uint64_t *h, size_t *n, size_t max, uint64_t x)
{
    size_t i = 0;
    if (*n < max) {
        for (i = (*n)++; i > 0 && x > h[(i - 1) / 2]; i = (i - 1) / 2) {
            h[i] = h[(i - 1) / 2];
        }
    } else if (x < h[0]) {
        for (size_t child; (child = 2 * i + 1) < max; i = child) {
            child += child + 1 < max && h[child + 1] > h[child];
            if (x >= h[child]) {
                break;
            }
            h[i] = h[child];
        }
    } else {
        return;
    }
    h[i] = x;
}

void graph__select(uint64_t *v, size_t n, size_t k)
{
    size_t lo = 0, hi = n;
    while (hi - lo > 1) {
        const uint64_t a = v[lo], b = v[lo + (hi - lo) / 2], c = v[hi - 1];
        const size_t mid = (a < b) == (b < c)   ? lo + (hi - lo) / 2
                           : (b < a) == (a < c) ? lo
                                                : hi - 1;
        const uint64_t pivot = v[mid];
        size_t less = lo;
        v[mid] = c;
        for (size_t i = lo; i < hi - 1; i++) { /* always a swap, never a branch to guess */
            const uint64_t x = v[i];
            v[i] = v[less];
            v[less] = x;
            less += x < pivot;
        }
        v[hi - 1] = v[less];
        v[less] = pivot;
        if (less == k || less + 1 == k) {
            return;
        }
        hi = less > k ? less : hi;
        lo = less > k ? lo : less + 1;
    }
}

/* Compares codes of n nodes; of those no farther than what is kept, takes the best. */
static void settle(struct survivors *v);

static void score_codes(struct survivors *v, const uint32_t *ids, size_t n)
{
    struct graph_scratch *s = v->s;
    const struct graph *g = v->g;
    codec_ids(g->codec, s->pq, g->codes, g->stride, ids, n, s->keys);
    size_t npick = simd_ops()->select_le(s->keys, n, v->cut, s->pick);
    for (size_t i = 0; i < npick; i++) {
        uint64_t x = graph_cand(s->keys[s->pick[i]], ids[s->pick[i]]);
        s->pool[v->n++] = x;
        heap_keep(v->near, &v->nnear, v->sure, x);
        if (v->n == 2 * v->keep && codec_kind_of(g->codec) <= CODEC_SQ4) {
            settle(v);
        } else if (v->n == 2 * v->keep) {
            graph__select(s->pool, v->n, v->keep);
            v->n = v->keep;
            v->cut = graph_cand_key(s->pool[0]);
            for (size_t k = 1; k < v->n; k++) {
                v->cut = fmaxf(v->cut, graph_cand_key(s->pool[k]));
            }
        }
    }
    v->c->distances += n;
    v->c->bytes += n * g->stride;
}

static void score_held(struct survivors *v)
{
    score_codes(v, v->hold, v->nhold);
    v->nhold = 0;
}

/* The m-th smallest of n. Keys without a lower bound are of rows that bits tell nothing of: last. */
static float smallest(const float *keys, const float *lows, size_t n, size_t m, uint64_t *room)
{
    for (size_t i = 0; i < n; i++) {
        room[i] = graph_cand(lows[i] > -INFINITY ? keys[i] : INFINITY, 0) | i;
    }
    if (m < n) {
        graph__select(room, n, m);
    }
    float most = -INFINITY;
    for (size_t i = 0; i < MIN(m, n); i++) {
        most = fmaxf(most, graph_cand_key(room[i]));
    }
    return most;
}

/* Of the nodes that wait, those that bits do not rule out are held until enough are. */
static void score_bits(struct survivors *v)
{
    struct graph_scratch *s = v->s;
    const struct graph *g = v->g;
    const size_t n = v->waiting, missing = v->sure - v->nnear;
    /* The best by codes look better than they are where scores are dense, as a filling pool tells. */
    float *lows = s->dist, cut = v->settled ? v->tk->lists[v->j].bound_key
                                 : v->nnear ? graph_cand_key(v->near[0]) +
                                              (v->n > v->keep / 2 ? 2 * g->quality.off : 0)
                                            : INFINITY;
    codec_ids_bound(g->bit_codec, s->bit_pq, g->bit_codes, g->bit_stride, s->ids, n, s->keys, lows);
    if (missing && n > 0) {
        float worst = INFINITY; /* of as many as are wanted, with those that are there */
        if (n > missing) {
            uint64_t room[256];
            worst = smallest(s->keys, lows, n, missing, room);
        }
        cut = v->nnear ? fmaxf(cut, worst) : worst;
    }
    size_t npick = simd_ops()->select_le(lows, n, cut, s->pick);
    for (size_t i = 0; i < npick; i++) {
        const uint32_t node = s->ids[s->pick[i]];
        const uint8_t *code = graph_code(g, node);
        v->hold[v->nhold++] = node;
        for (size_t at = 0; at < v->fetch; at += CACHE_LINE) {
            __builtin_prefetch(code + at, 0, 2);
        }
    }
    if (v->nhold > HOLD_NODES || (missing && v->nhold)) {
        score_held(v);
    }
    v->c->bytes += n * g->bit_stride;
}

/* Scores the nodes that wait in s->ids. */
static void score(struct survivors *v)
{
    const size_t n = v->waiting;
    if (v->g->bit_codec) {
        score_bits(v);
    } else {
        score_codes(v, v->s->ids, n);
    }
    v->waiting = 0;
    v->seen += (uint32_t)n;
}

/* n nodes behind those that wait: their codes are asked for, into the second cache as there are many,
 * and all are scored when enough wait. */
static inline void add(struct survivors *v, size_t n)
{
    for (size_t i = v->waiting; i < v->waiting + n; i++) {
        const uint8_t *code = v->first + v->s->ids[i] * v->stride;
        for (size_t at = 0; at < v->first_fetch; at += CACHE_LINE) {
            __builtin_prefetch(code + at, 0, 2);
        }
    }
    v->waiting += n;
    if (v->waiting > SCORE_NODES) {
        score(v);
    }
}

/* The allowed nodes of first .. end where the filter's bits are in the order of nodes. */
static void scan_bits(struct survivors *v, uint32_t first, uint32_t end)
{
    const uint64_t *bits = v->bits;
    size_t n = 0;
    for (uint32_t w = first / 64; w < (end + 63) / 64; w++) {
        uint64_t left = bits[w];
        left &= w == first / 64 ? UINT64_MAX << (first % 64) : UINT64_MAX;
        left &= w == end / 64 ? ~(UINT64_MAX << (end % 64)) : UINT64_MAX;
        if (left) {
            n += bits_list(left, w * 64, v->s->ids + v->waiting + n);
        }
        if (n + 64 > PICK_NODES) {
            add(v, n);
            n = 0;
        }
    }
    add(v, n);
}

/* The allowed nodes of first .. end. */
static void scan_run(struct survivors *v, uint32_t first, uint32_t end)
{
    const struct graph *g = v->g;
    if (v->bits) {
        scan_bits(v, first, end);
        return;
    }
    for (size_t n = 0; first < end; first += (uint32_t)n) {
        n = MIN(end - first, PICK_NODES);
        add(v, simd_where()->pick(v->q->allow, g->head.rows.nrows, g->perm + first, n, first,
                                  v->s->ids + v->waiting));
    }
}

/* Brings the filter's bits into the order of nodes. */
static void turn_bits(struct survivors *v)
{
    graph__turn(v->g, v->q->allow, v->s->visited);
    v->bits = v->s->visited;
}

static void end(struct survivors *v)
{
    if (v->s && v->bits == v->s->visited) {
        memset(v->s->visited, 0, v->s->nwords * 8);
    }
    graph__scratch_put(v->g, v->s);
}

/* All allowed nodes by their rows. */
static int scan_rows(struct survivors *v, struct status *st)
{
    const struct graph *g = v->g;
    int rc = 0;
    for (size_t w = 0, before = 0; w < bits_words(g->n);) {
        add(v, graph__allowed_nodes(g, v->q->allow, &w, v->s->ids + v->waiting, PICK_NODES));
        if (w - before >= RUN_NODES && v->q->check) {
            TRY(v->q->check(v->q->check_arg, st));
            before = w;
        }
    }
out:
    return rc;
}

static int begin(const struct graph *g, const struct index_query *q, uint32_t j, size_t keep,
                 size_t ef, size_t room, struct topk *tk, struct index_counters *c,
                 struct survivors *ret, struct status *st)
{
    int rc = 0;
    *ret = (struct survivors){ .g = g, .q = q, .c = c, .sure = keep, .j = j, .tk = tk,
                              .bits = graph_node_bits(g, q),
                              .keep = SPARE * keep + SPARE_MORE,
                              .cut = INFINITY,
                              .fetch = MIN(g->stride, (size_t)FETCH_MAX) };
    TRY(graph__scratch_get(g, 2 * ret->keep + keep + room, &ret->s, st));
    ret->exact = flat__dist(simd_ops(), g->head.rows.metric, g->head.rows.type).ids;
    ret->near = ret->s->pool + 2 * ret->keep;
    const void *query = (const uint8_t *)q->queries + j * q->query_stride;
    codec_query(g->codec, query, ret->s->pq);
    ret->first = g->codes;
    ret->stride = g->stride;
    ret->first_fetch = ret->fetch;
    if (g->bit_codec) {
        codec_query(g->bit_codec, query, ret->s->bit_pq);
        codec_query_spread(g->bit_codec, ret->s->bit_pq,
                           fminf(SPREAD_LEAST + (float)ef / SPREAD_EF, SPREAD_MOST));
        ret->first = g->bit_codes;
        ret->stride = g->bit_stride;
        ret->first_fetch = g->bit_stride;
    }
out:
    return rc;
}

/* Exact scores of candidates at .. at + n, apart from s->keys, which may be in use; how far codes
 * are off at most is kept in *off. */
static void rerank_part(struct survivors *v, size_t at, size_t n, float *off)
{
    struct topk *tk = v->tk;
    const uint32_t j = v->j;
    const struct index_rows *r = &v->g->head.rows;
    const void *query = (const uint8_t *)v->q->queries + j * v->q->query_stride;
    struct graph_scratch *s = v->s;
    for (size_t i = 0; i < n; i++) {
        s->rows[i] = graph_row(v->g, graph_cand_node(s->pool[at + i]));
    }
    v->exact(query, r->base, r->stride, s->rows, n, r->dim, s->cover);
    for (size_t i = 0; i < n; i++) {
        float key = topk_key(tk, s->cover[i]);
        *off = fmaxf(*off, fabsf(graph_cand_key(s->pool[at + i]) - key));
        topk_push(tk, j, s->cover[i], v->q->row_base + s->rows[i]);
    }
    v->c->exact += n;
    v->c->bytes += n * vec_bytes(r->type, r->dim);
}

/* How much more than seen codes may be off. */
#define OFF_MORE 1.5f

/* The v->sure nearest codes in any case, and others as long as what codes were off by among those
 * could still bring one among the best k. */
static void rerank(struct survivors *v)
{
    uint64_t *pool = v->s->pool;
    const float *bound = &v->tk->lists[v->j].bound_key;
    float off = v->off / OFF_MORE;
    size_t n = 0, first = v->settled ? 0 : MIN(v->sure, v->n);
    if (first < v->n && first > 0) {
        graph__select(pool, v->n, first);
    }
    rerank_part(v, 0, first, &off);
    off *= OFF_MORE;
    for (size_t i = first; i < v->n; i++) {
        if (graph_cand_key(pool[i]) - off <= *bound) {
            pool[n++] = pool[i];
        }
    }
    graph__sort(pool, n);
    for (size_t at = 0; at < n && graph_cand_key(pool[at]) - off <= *bound; at += 32) {
        rerank_part(v, at, MIN(n - at, (size_t)32), &off);
    }
    v->off = off;
}

/* The pool is full: where scores are dense more rows than it holds are within what codes are off
 * by. Exact scores of those that matter bound the rest. */
static void settle(struct survivors *v)
{
    rerank(v);
    v->n = 0;
    v->settled = true;
    v->cut = v->tk->lists[v->j].bound_key + v->off;
}

int graph__survivors_all(const struct graph *g, const struct index_query *q, uint32_t j,
                         const struct plan_search *plan, struct topk *tk,
                         struct index_counters *c, struct status *st)
{
    struct survivors v = { 0 };
    int rc = 0;
    TRY(begin(g, q, j, plan->keep, plan->ef, 0, tk, c, &v, st));
    c->strategy = STRAT_SCAN;
    _Static_assert(SCORE_NODES + PICK_NODES + SIMD_PICK_MORE <= 256, "the least room of s->ids");
    const bool few = !v.bits && q->allow_count < g->n / PLAN_FEW_OF;
    if (few) {
        TRY(scan_rows(&v, st));
    } else if (plan_turns(plan, false)) {
        turn_bits(&v);
    }
    for (uint32_t at = 0; !few && at < g->n; at += RUN_NODES) {
        scan_run(&v, at, MIN(at + RUN_NODES, g->n));
        if (q->check) {
            TRY(q->check(q->check_arg, st));
        }
    }
    score(&v);
    score_held(&v);
    rerank(&v);
out:
    end(&v);
    return rc;
}

static void sift_down(uint64_t *h, size_t n, size_t i)
{
    uint64_t x = h[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && h[child + 1] < h[child];
        if (x <= h[child]) {
            break;
        }
        h[i] = h[child];
    }
    h[i] = x;
}

/* Clusters as candidates, a heap with the nearest first, behind the kept ones in the pool. */
static uint64_t *order_clusters(struct survivors *v, uint32_t j)
{
    const struct graph *g = v->g;
    const struct index_rows *r = &g->head.rows;
    const struct simd_ops *ops = simd_ops();
    uint64_t *order = v->near + v->sure;
    float *keys = v->s->keys;
    if (g->centroid_codes) {
        codec_rows(g->codec, v->s->pq, g->centroid_codes, g->stride, g->nclusters, keys);
        for (uint32_t i = 0; i < g->nclusters; i++) {
            keys[i] *= g->centroid_sizes[i];
        }
        v->c->bytes += g->nclusters * g->stride;
    } else if (r->type == VEC_F32) {
        const void *query = (const uint8_t *)v->q->queries + j * v->q->query_stride;
        size_t stride = r->dim * sizeof(float);
        bool l2 = r->metric == METRIC_L2;
        (l2 ? ops->l2 : ops->ip)[SIMD_F32].rows(query, g->centroids, stride, g->nclusters, r->dim,
                                               keys);
        for (uint32_t i = 0; !l2 && i < g->nclusters; i++) {
            keys[i] = -keys[i];
        }
        v->c->bytes += g->nclusters * stride;
    } else {
        codec_rows(g->codec, v->s->pq, g->cluster_codes, g->stride, g->nclusters, keys);
        v->c->bytes += g->nclusters * g->stride;
    }
    for (uint32_t i = 0; i < g->nclusters; i++) {
        order[i] = graph_cand(keys[i], i);
    }
    for (size_t i = g->nclusters / 2; i-- > 0;) {
        sift_down(order, g->nclusters, i);
    }
    v->c->distances += g->nclusters;
    return order;
}

int graph__survivors_near(const struct graph *g, const struct index_query *q, uint32_t j,
                          const struct plan_search *plan, struct topk *tk,
                          struct index_counters *c, struct status *st)
{
    struct survivors v = { 0 };
    int rc = 0;
    TRY(begin(g, q, j, plan->keep, plan->ef, g->nclusters, tk, c, &v, st));
    c->strategy = STRAT_CLUSTERS;
    uint64_t *order = order_clusters(&v, j);
    if (plan_turns(plan, true)) {
        turn_bits(&v);
    }
    size_t left = g->nclusters;
    const uint32_t patience = (PATIENCE + (uint32_t)MIN(plan->ef / PATIENCE_EF, 30u)) *
                              (plan_shunned(plan) ? 2 : 1); /* what is far lies anywhere */
    uint32_t with = 0, dry = 0, held = 0;
    v.near[0] = UINT64_MAX;
    while (left) {
        uint32_t k = graph_cand_node(order[0]), first = g->cluster_first[k];
        uint32_t before = v.seen, waiting = (uint32_t)v.waiting;
        uint64_t worst = v.near[0];
        order[0] = order[--left];
        sift_down(order, left, 0);
        if (!v.bits && left) { /* a page of its own */
            const uint32_t next = graph_cand_node(order[0]);
            for (uint32_t i = g->cluster_first[next]; i < g->cluster_first[next + 1];
                 i += CACHE_LINE / sizeof *g->perm) {
                __builtin_prefetch(g->perm + i, 0, 2);
            }
        }
        scan_run(&v, first, g->cluster_first[k + 1]);
        c->lists++;
        held += v.seen != before || v.waiting != waiting;
        if (v.seen == before) { /* nothing was scored */
            continue;
        }
        with += held;
        dry = v.near[0] < worst || v.nnear < v.sure ? 0 : dry + held;
        held = 0;
        if (dry >= patience + with / PATIENCE_PART) {
            break;
        }
        if (q->check) {
            TRY(q->check(q->check_arg, st));
        }
    }
    score(&v);
    score_held(&v);
    rerank(&v);
out:
    end(&v);
    return rc;
}
