/*
 * graph_search.c - queries: entries, walk on codes, exact scores of the best.
 *
 * WHAT        ef is the caller's, at least k. The walk compares codes; of what it finds the best
 *             are scored on the raw rows, as many as the errors seen on the way call for
 *             (score_best), whatever the codec; refine_k asks for more. Filters go to
 *             graph_filter.c, ranges and very large ef to the wide walk. Queries of one call that
 *             are neither take turns: each walks until it has asked memory for codes, links or rows,
 *             and while they come another goes on. What a query finds does not depend on the others.
 * THREADS     Scratch is borrowed for the call; everything else is read only.
 */
#include <math.h>
#include <string.h>

#include "index/graph/graph_int.h"

/* Up to here insertion into a sorted pool is cheaper than two heaps. */
#define PLAIN_EF_MAX 768
/* Rows scored exactly: k and a few at first, then a few at a time. */
#define SCORE_BATCH 256
#define SCORE_FIRST 2
#define SCORE_MORE 4
/* The part of ef that is kept beyond it for index_near. */
#define NEAR_PAST 4
/* How much worse than the worst error seen another may be. */
#define SCORE_SLACK 2.0f
/* Ranges are searched that many times what codes are usually off by beyond their ends. */
#define RANGE_OFF 3.0f
/* Rows to be scored that are fetched together: a part of the second-level cache. */
#define ROWS_AHEAD_BYTES ((size_t)256 << 10)
/* Queries that take turns. */
#define LANES 2

/* Coarse codes put some of the k best behind others, which a pool of just k would lose: with 4 bits
 * and sentence embeddings 3 %. Of a hundred, a share of 1 in 8 more keeps as many as of ten. */
size_t graph__ef(const struct graph *g, const struct index_query *q, const struct topk *tk)
{
    size_t ef = q->params->ef ? q->params->ef : 16 * (size_t)MAX(q->params->level, 1u), k = tk->k;
    if (g->quality.ten_in > 10) {
        k += (g->quality.ten_in - 10) * MIN(k, (size_t)10) / 10 + (k > 10 ? (k - 10) / 8 : 0);
    }
    return MIN(MAX(ef, k), (size_t)g->n);
}

size_t graph__refine_count(const struct graph *g, const struct index_query *q, uint32_t k,
                           size_t ef)
{
    double want;
    switch (codec_kind_of(g->codec)) {
    case CODEC_I8:
    case CODEC_BIN:
    case CODEC_F32:
        want = k;
        break;
    case CODEC_F16:
    case CODEC_BF16:
    case CODEC_SQ8:
        want = 1.25 * k + 6;
        break;
    case CODEC_SQ6:
    case CODEC_SQ4:
        want = 2.0 * k + 8;
        break;
    default:
        want = 4.0 * k + 32;
        break;
    }
    want = MAX(want, q->params->refine_k * k);
    return want < (double)ef ? (size_t)want : ef;
}

bool graph__has_range(const struct topk *tk, uint32_t j)
{
    const struct topk_list *l = &tk->lists[j];
    return l->low_key > -INFINITY || (l->bound_key < INFINITY && l->n < l->k);
}

void graph__near(const struct graph *g, const struct index_query *q, uint32_t j,
                 const uint64_t *pool, size_t n)
{
    if (!q->near || n == 0) {
        return;
    }
    n = MIN(n, (size_t)q->near->max);
    for (size_t i = 0; i < n; i++) {
        q->near->rows[(size_t)j * q->near->max + i] = graph_row(g, graph_cand_node(pool[i]));
    }
    q->near->counts[j] = (uint32_t)n;
    if (q->near->keys) {
        q->near->keys[j] = graph_cand_key(pool[n - 1]);
    }
}

/* Asks for the rows of the first n of the pool, all at once: the kernel asks for one after the other,
 * and waiting for a dozen was a sixth of a query's time. */
static void fetch_rows(const struct graph *g, const struct graph_scratch *s, size_t n)
{
    const struct index_rows *r = &g->head.rows;
    const size_t bytes = vec_bytes(r->type, r->dim);
    n = MIN(n, ROWS_AHEAD_BYTES / bytes + 1);
    for (size_t i = 0; i < n; i++) {
        const size_t at = graph_row(g, graph_cand_node(s->pool[i]));
        const uint8_t *row = (const uint8_t *)r->base + at * r->stride;
        for (size_t b = 0; b < bytes; b += CACHE_LINE) {
            __builtin_prefetch(row + b, 0, 2);
        }
    }
}

/* Exact scores of the pool, nearest estimates first, until what is left can hardly be among the
 * results: until the next estimate is farther than the worst result by more than estimates have been
 * too far so far, and some. At least least of them. */
static void score_best(const struct graph *g, const struct index_query *q, uint32_t j,
                       struct graph_scratch *s, size_t n, size_t least, struct topk *tk,
                       struct index_counters *c)
{
    const struct topk_list *list = &tk->lists[j];
    float off = 0;
    for (size_t at = 0, part; at < n; at += part) {
        part = at < least ? MIN(least - at, (size_t)SCORE_BATCH) : SCORE_MORE;
        part = MIN(part, n - at);
        for (size_t i = 0; i < part; i++) {
            s->rows[i] = graph_row(g, graph_cand_node(s->pool[at + i]));
        }
        index__scores(&g->head, q, j, s->rows, part, s->keys, c);
        for (size_t i = 0; i < part; i++) {
            float est = graph_cand_key(s->pool[at + i]);
            off = MAX(off, est - topk_key(tk, s->keys[i]));
            topk_push(tk, j, s->keys[i], q->row_base + s->rows[i]);
        }
        if (at + part >= least && at + part < n && list->n >= list->k &&
            graph_cand_key(s->pool[at + part]) > list->bound_key + SCORE_SLACK * off) {
            return;
        }
    }
}

/* Of *n found, how many may be scored, and how many are at least. */
static void scored(const struct graph *g, const struct index_query *q, uint32_t j,
                   const struct topk *tk, size_t ef, size_t *n, size_t *ret_least)
{
    const size_t least = (size_t)MIN(q->params->refine_k * tk->k, (double)ef);
    *ret_least = MAX(least, tk->k + (size_t)SCORE_FIRST);
    if (tk->lists[j].cap > tk->k) { /* a buffer knows no worst result: a fixed share */
        *n = MIN(*n, graph__refine_count(g, q, tk->k, ef));
    }
}

static size_t kept(const struct graph *g, const struct index_query *q, size_t ef)
{
    return q->near ? MIN(ef + ef / NEAR_PAST + 4, (size_t)g->n) : ef;
}

int graph__search_walk(const struct graph *g, const struct index_query *q, uint32_t j,
                       struct topk *tk, struct index_counters *c, struct status *st)
{
    int rc = 0;
    struct graph_scratch *s = NULL;
    size_t ef = graph__ef(g, q, tk), n;
    const bool ranged = graph__has_range(tk, j);
    const size_t keep = kept(g, q, ef);
    TRY(graph__scratch_get(g, keep, &s, st));
    codec_query(g->codec, (const uint8_t *)q->queries + j * q->query_stride, s->pq);
    size_t nentries = graph__entries(g, s, c);
    c->strategy = STRAT_GRAPH;
    if (!ranged && !q->allow && ef <= PLAIN_EF_MAX) {
        n = graph__walk_past(g, s, nentries, ef, keep, c);
        graph__near(g, q, j, s->pool, n);
        n = MIN(n, ef);
    } else {
        struct graph_wide how = { .ef = ef,
                                  .allow = q->allow,
                                  .low_key = -INFINITY,
                                  .radius_key = -INFINITY,
                                  .miss_max = SIZE_MAX,
                                  .check = q->check,
                                  .check_arg = q->check_arg };
        if (ranged) { /* codes are off by a little: the exact scores decide at the bounds */
            const struct topk_list *l = &tk->lists[j];
            how.low_key = l->low_key - 0.01f * fabsf(l->low_key) - RANGE_OFF * g->quality.off;
            how.radius_key = l->bound_key + 0.01f * fabsf(l->bound_key) + RANGE_OFF * g->quality.off;
            how.miss_max = MAX(q->params->ef, 16u);
        }
        TRY(graph__walk_wide(g, s, nentries, &how, &n, c, st));
    }
    size_t least = n;
    if (!ranged) {
        scored(g, q, j, tk, ef, &n, &least);
    }
    fetch_rows(g, s, MIN(n, least));
    score_best(g, q, j, s, n, least, tk, c);
out:
    graph__scratch_put(g, s);
    return rc;
}

/* ---- Several queries in turns ---- */

/* A query on its way. Each turn ends with asking memory for what the next one reads. */
struct lane {
    struct graph_scratch *s;
    enum { LANE_FREE, LANE_WALKS, LANE_FOUND, LANE_SCORES } at;
    uint32_t j;
    size_t n, least; /* found; scored at least */
    struct graph_steps walk;
};

static void lane_begin(const struct graph *g, const struct index_query *q, uint32_t j, size_t ef,
                       struct lane *l, struct index_counters *c)
{
    codec_query(g->codec, (const uint8_t *)q->queries + j * q->query_stride, l->s->pq);
    size_t nentries = graph__entries(g, l->s, c);
    graph__walk_begin(g, l->s, nentries, ef, kept(g, q, ef), &l->walk);
    l->j = j;
    l->at = LANE_WALKS;
}

static void lane_found(const struct graph *g, const struct index_query *q, struct lane *l,
                       const struct topk *tk, struct index_counters *c)
{
    graph__walk_end(g, l->s, &l->walk, c);
    graph__near(g, q, l->j, l->s->pool, l->walk.n);
    l->n = MIN(l->walk.n, l->walk.ef);
    scored(g, q, l->j, tk, l->walk.ef, &l->n, &l->least);
    for (size_t i = 0; g->perm && i < MIN(l->n, l->least); i++) {
        __builtin_prefetch(g->perm + graph_cand_node(l->s->pool[i]), 0, 2);
    }
    l->at = LANE_FOUND;
}

static void lane_turn(const struct graph *g, const struct index_query *q, struct lane *l,
                      struct topk *tk, struct index_counters *c)
{
    switch (l->at) {
    case LANE_WALKS:
        if (!graph__walk_turn(g, l->s, &l->walk)) {
            lane_found(g, q, l, tk, c);
        }
        break;
    case LANE_FOUND:
        fetch_rows(g, l->s, MIN(l->n, l->least));
        l->at = LANE_SCORES;
        break;
    case LANE_SCORES:
        score_best(g, q, l->j, l->s, l->n, l->least, tk, c);
        l->at = LANE_FREE;
        break;
    case LANE_FREE:
        break;
    }
}

static int search_in_turns(const struct graph *g, const struct index_query *q, struct topk *tk,
                           struct index_counters *c, struct status *st)
{
    int rc = 0;
    struct lane lanes[LANES] = { 0 };
    struct status no_more = STATUS_INIT;
    const size_t ef = graph__ef(g, q, tk);
    uint32_t nlanes = 0, next = 0, busy = 0;
    TRY(graph__scratch_get(g, kept(g, q, ef), &lanes[nlanes++].s, st));
    while (nlanes < MIN(q->nq, (uint32_t)LANES) &&
           graph__scratch_get(g, kept(g, q, ef), &lanes[nlanes].s, &no_more) == 0) {
        nlanes++; /* without memory for more: those there are */
    }
    c->strategy = STRAT_GRAPH;
    while (busy > 0 || next < q->nq) {
        for (uint32_t i = 0; i < nlanes; i++) {
            struct lane *l = &lanes[i];
            if (l->at != LANE_FREE) {
                lane_turn(g, q, l, tk, c);
                busy -= l->at == LANE_FREE;
            } else if (next < q->nq) {
                TRY(q->check ? q->check(q->check_arg, st) : 0);
                lane_begin(g, q, next++, ef, l, c);
                busy++;
            }
        }
    }
out:
    for (uint32_t i = 0; i < nlanes; i++) {
        if (lanes[i].at == LANE_WALKS) {
            graph__walk_end(g, lanes[i].s, &lanes[i].walk, c);
        }
        graph__scratch_put(g, lanes[i].s);
    }
    return rc;
}

/* Whether all queries walk plainly. */
static bool can_take_turns(const struct graph *g, const struct index_query *q,
                           const struct topk *tk)
{
    bool can = q->nq > 1 && !q->allow && graph__ef(g, q, tk) <= PLAIN_EF_MAX;
    for (uint32_t j = 0; can && j < q->nq; j++) {
        can = !graph__has_range(tk, j);
    }
    return can;
}

int graph__search(const struct index *ix, const struct index_query *q, struct topk *tk,
                  struct index_counters *c, struct status *st)
{
    const struct graph *g = CONTAINER_OF(ix, const struct graph, head);
    int rc = 0;
    if (can_take_turns(g, q, tk)) {
        return search_in_turns(g, q, tk, c, st);
    }
    for (uint32_t j = 0; j < q->nq; j++) {
        if (q->check) {
            TRY(q->check(q->check_arg, st));
        }
        if (q->allow) {
            TRY(graph__search_filtered(g, q, j, tk, c, st));
        } else {
            TRY(graph__search_walk(g, q, j, tk, c, st));
        }
    }
out:
    return rc;
}
