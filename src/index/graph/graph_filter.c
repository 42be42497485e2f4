/*
 * graph_filter.c - searches under a filter: walks that know it, and when they give up.
 *
 * WHAT        The planner (scan/plan.h) picks a way. Two of them walk the graph:
 *
 *             GRAPH   every neighbour is scored and leads on; only allowed ones become results.
 *             GRAPH2  decides at each expanded node by the share of allowed ones among its unseen
 *                     neighbours, in the manner of "NaviX: A Native Vector Index Design for Graph
 *                     DBMSs With Robust Predicate-Agnostic Search Performance" and "ACORN:
 *                     Performant and Predicate-Agnostic Search Over Vector Embeddings": above one
 *                     half as GRAPH; below, allowed neighbours are scored, and through each of the
 *                     others its own allowed neighbours, up to the degree in all. Where there
 *                     are none, the few nearest of the others are bridges: they lead on without
 *                     being results.
 *
 *             Results and frontier are apart: a node that is no result may be the way to some.
 *             A walk ends when the frontier's nearest is farther than the worst of ef results.
 * GUARDS      It gives up, and the complete scan runs, when it ends with fewer than k results though
 *             more rows are allowed, or has spent BUDGET of that scan's cost with fewer than ef. So
 *             a search takes at most 1 + BUDGET times the scan, and never comes back short.
 * THREADS     As graph_search.c.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/graph/graph_int.h"
#include "index/scan/plan.h"
#include "index/scan/survivors.h"
#include "simd/simd.h"

#define BUDGET 0.7
#define BRIDGES 4u
/* Of allowed nodes among unseen neighbours: a plain walk above. */
#define MANY_PERCENT 50u

struct filtered {
    const struct graph *g;
    const struct index_query *q;
    struct graph_scratch *s;
    const struct plan_search *plan;
    size_t ef, k, frontier_max;
    uint64_t *results, *frontier; /* ascending; the frontier from lo on */
    size_t nresults, lo, nfrontier;
    size_t distances, looked_up, hops;
    bool plain;
};

/* Into v[lo .. *n), ascending, at most max items: the largest falls out. */
static void sorted_insert(uint64_t *v, size_t lo, size_t *n, size_t max, uint64_t x)
{
    size_t at = lo, len = *n - lo;
    while (len > 0) {
        size_t half = len / 2;
        if (v[at + half] < x) {
            at += half + 1;
            len -= half + 1;
        } else {
            len = half;
        }
    }
    if (at >= max) {
        return;
    }
    size_t end = *n < max ? *n : max - 1;
    memmove(v + at + 1, v + at, (end - at) * sizeof *v);
    v[at] = x;
    *n = end + 1;
}

static bool is_allowed(const struct filtered *f, uint32_t node)
{
    return bit_get(f->q->allow, graph_row(f->g, node));
}

static float worst_result(const struct filtered *f)
{
    return f->nresults < f->ef ? INFINITY : graph_cand_key(f->results[f->nresults - 1]);
}

static void lead_on(struct filtered *f, float key, uint32_t node)
{
    if (f->lo > f->frontier_max / 2) { /* room in front */
        f->nfrontier -= f->lo;
        memmove(f->frontier, f->frontier + f->lo, f->nfrontier * sizeof *f->frontier);
        f->lo = 0;
    }
    sorted_insert(f->frontier, f->lo, &f->nfrontier, f->frontier_max, graph_cand(key, node));
}

static void take(struct filtered *f, float key, uint32_t node, bool allowed)
{
    if (!(key <= worst_result(f))) {
        return;
    }
    lead_on(f, key, node);
    if (allowed) {
        sorted_insert(f->results, 0, &f->nresults, f->ef, graph_cand(key, node));
    }
}

/* Keys of s->ids[0 .. n). */
static void measure(struct filtered *f, size_t n)
{
    struct graph_scratch *s = f->s;
    codec_ids(f->g->codec, s->pq, f->g->codes, f->g->stride, s->ids, n, s->keys);
    f->distances += n;
}

/* Appends the allowed and unseen among the neighbours of node. */
static size_t through(struct filtered *f, uint32_t node, size_t n, size_t most)
{
    const uint32_t *links = graph_links(f->g, node);
    for (size_t i = 0; i < f->g->degree && links[i] < f->g->n && n < most; i++) {
        f->looked_up++;
        if (is_allowed(f, links[i]) && graph_visit(f->s, links[i])) {
            f->s->ids[n++] = links[i];
        }
    }
    return n;
}

/* The nearest few of the nodes that are not allowed, s->pick[0 .. n), go into the frontier. */
static void bridge(struct filtered *f, size_t n)
{
    struct graph_scratch *s = f->s;
    uint64_t best[BRIDGES];
    size_t nbest = 0;
    memcpy(s->ids, s->pick, n * sizeof *s->ids);
    measure(f, n);
    for (size_t i = 0; i < n; i++) {
        sorted_insert(best, 0, &nbest, BRIDGES, graph_cand(s->keys[i], s->ids[i]));
    }
    for (size_t i = 0; i < nbest; i++) {
        take(f, graph_cand_key(best[i]), graph_cand_node(best[i]), false);
    }
}

/* Neighbours of one node. s->ids gets the allowed ones, s->pick the others. */
static void expand(struct filtered *f, uint32_t node)
{
    const struct graph *g = f->g;
    struct graph_scratch *s = f->s;
    const uint32_t *links = graph_links(g, node);
    size_t n = 0, others = 0, most = g->degree;
    for (size_t i = 0; i < g->degree && links[i] < g->n; i++) {
        if (graph_visit(s, links[i])) {
            bool allowed = is_allowed(f, links[i]);
            s->ids[n] = links[i];
            s->pick[others] = links[i];
            n += allowed;
            others += !allowed;
        }
    }
    f->looked_up += n + others;
    f->hops++;
    size_t unseen = n + others, mine = n;
    if (f->plain || mine * 100 > unseen * MANY_PERCENT) {
        memcpy(s->ids + n, s->pick, others * sizeof *s->ids);
        measure(f, unseen);
        for (size_t i = 0; i < unseen; i++) {
            take(f, s->keys[i], s->ids[i], i < mine);
        }
        return;
    }
    for (size_t i = 0; i < others && i < 4; i++) {
        __builtin_prefetch(graph_links(g, s->pick[i]));
    }
    for (size_t i = 0; i < others && n < most; i++) {
        if (i + 4 < others) {
            __builtin_prefetch(graph_links(g, s->pick[i + 4]));
        }
        n = through(f, s->pick[i], n, most);
    }
    measure(f, n);
    for (size_t i = 0; i < n; i++) {
        take(f, s->keys[i], s->ids[i], true);
    }
    if (n == 0 && others) {
        bridge(f, others);
    }
}

/* False: gave up. */
static int walk(struct filtered *f, size_t nentries, double budget_ns, bool *ret_done,
                struct status *st)
{
    struct graph_scratch *s = f->s;
    int rc = 0;
    *ret_done = false;
    for (size_t i = 0; i < nentries; i++) {
        if (s->ids[i] < f->g->n && graph_visit(s, s->ids[i]) && s->keys[i] == s->keys[i]) {
            take(f, s->keys[i], s->ids[i], is_allowed(f, s->ids[i]));
        }
    }
    while (f->lo < f->nfrontier) {
        uint64_t top = f->frontier[f->lo++];
        if (graph_cand_key(top) > worst_result(f)) {
            break;
        }
        if (f->lo < f->nfrontier) {
            __builtin_prefetch(graph_links(f->g, graph_cand_node(f->frontier[f->lo])));
        }
        expand(f, graph_cand_node(top));
        if ((f->hops & 15) == 0) {
            if (f->nresults < f->ef &&
                plan_walk_ns(f->plan, f->distances, f->looked_up, f->hops) > budget_ns) {
                goto out;
            }
            if ((f->hops & 63) == 0 && f->q->check) {
                TRY(f->q->check(f->q->check_arg, st));
            }
        }
    }
    *ret_done = f->nresults >= MIN(f->k, (size_t)f->q->allow_count);
out:
    graph__unvisit(s);
    return rc;
}

/* The part of the query's entries that is allowed. */
static double local_share(const struct graph *g, const struct index_query *q,
                          const struct graph_scratch *s, size_t n)
{
    size_t got = 0;
    for (size_t i = 0; i < n; i++) {
        got += s->ids[i] < g->n && bit_get(q->allow, graph_row(g, s->ids[i]));
    }
    return n ? (double)got / (double)n : 0;
}

static int complete(const struct graph *g, const struct index_query *q, uint32_t j, size_t keep,
                    enum index_strategy how, struct topk *tk, struct index_counters *c,
                    struct status *st)
{
    return how == STRAT_SCAN ? survivors_all(g, q, j, keep, tk, c, st)
                             : index__flat(&g->head, q, j, 1, tk, c, st);
}

/* Runs a walk whose entries are ready. *ret_done false: nothing was pushed. */
static int search_walk(const struct graph *g, const struct index_query *q, uint32_t j,
                       const struct plan_search *plan, struct graph_scratch *s, size_t nentries,
                       bool plain, double budget_ns, struct topk *tk, bool *ret_done,
                       struct index_counters *c, struct status *st)
{
    struct filtered f = { .g = g, .q = q, .s = s, .plan = plan, .ef = plan->ef, .k = tk->k,
                          .plain = plain };
    int rc = 0;
    f.results = s->pool;
    f.frontier = s->pool + f.ef;
    f.frontier_max = s->pool_cap - f.ef;
    c->strategy = plain ? STRAT_GRAPH : STRAT_GRAPH2;
    TRY(walk(&f, nentries, budget_ns, ret_done, st));
    if (*ret_done) {
        size_t n = MIN(f.nresults, plan->keep);
        for (size_t i = 0; i < n; i++) {
            s->rows[i] = graph_row(g, graph_cand_node(f.results[i]));
        }
        index__rerank(&g->head, q, j, s->rows, n, tk, c);
    }
out:
    c->distances += f.distances;
    c->hops += f.hops;
    c->bytes += f.distances * g->stride + f.hops * g->degree * sizeof *g->links +
                f.looked_up * sizeof *g->perm;
    return rc;
}

int graph__search_filtered(const struct graph *g, const struct index_query *q, uint32_t j,
                           struct topk *tk, struct index_counters *c, struct status *st)
{
    const enum index_strategy forced = (enum index_strategy)q->params->strategy;
    struct graph_scratch *s = NULL;
    bool done = false;
    int rc = 0;
    struct plan_search plan = { .nrows = g->n,
                                .allowed = q->allow_count,
                                .nclusters = g->nclusters,
                                .degree = g->degree,
                                .ef = graph__ef(q, tk, g->n),
                                .row_bytes = vec_bytes(g->head.rows.type, g->head.rows.dim),
                                .code_bytes = g->stride,
                                .local = -1 };
    plan.keep = graph__refine_count(g, q, tk->k, plan.ef);
    if (graph__has_range(tk, j)) { /* exact where that is affordable: ranges may hold many */
        return plan.allowed < g->n / 4 ? index__flat(&g->head, q, j, 1, tk, c, st)
                                       : graph__search_walk(g, q, j, tk, c, st);
    }
    struct plan_choice choice = plan_filtered(&plan);
    size_t frontier = 4 * plan.ef + 512, nentries = 0;
    TRY(graph__scratch_get(g, plan.ef + frontier, &s, st));
    if (forced ? forced == STRAT_GRAPH || forced == STRAT_GRAPH2 : choice.strategy != choice.scan) {
        codec_query(g->codec, (const uint8_t *)q->queries + j * q->query_stride, s->pq);
        nentries = graph__entries(g, s, c);
        /* Two virtual entries with the filter's overall share: a few entries prove little. */
        double share = (double)plan.allowed / g->n;
        plan.local = (local_share(g, q, s, nentries) * (double)nentries + 2 * share) /
                     ((double)nentries + 2);
        choice = plan_filtered(&plan);
    }
    if (forced) {
        choice.strategy = forced;
    }
    if (choice.strategy == STRAT_GRAPH || choice.strategy == STRAT_GRAPH2) {
        TRY(search_walk(g, q, j, &plan, s, nentries, choice.strategy == STRAT_GRAPH,
                        BUDGET * choice.scan_ns, tk, &done, c, st));
        c->fallbacks += !done;
    }
    graph__scratch_put(g, TAKE(s)); /* scans borrow for themselves */
    if (choice.strategy == STRAT_CLUSTERS) {
        TRY(survivors_near(g, q, j, plan.keep, tk, c, st));
        done = true;
    } else if (choice.strategy == STRAT_SCAN || choice.strategy == STRAT_FLAT) {
        choice.scan = choice.strategy;
    }
    if (!done) {
        TRY(complete(g, q, j, plan.keep, choice.scan, tk, c, st));
    }
out:
    graph__scratch_put(g, s);
    return rc;
}
