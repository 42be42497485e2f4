/*
 * graph_filter.c - searches under a filter: walks that know it, and when they give up.
 *
 * WHAT        The planner (graph_plan.h) picks a way. Walks are of three kinds:
 *
 *             reach   a plain walk for so many nodes, allowed or not, that enough of them should be
 *                     allowed, and on from there as long as too few are: what STRAT_GRAPH is up to
 *                     PLAN_PLAIN_EF nodes. Whatever lies between the query and its allowed rows, a
 *                     walk that has found them has found the nearest.
 *             GRAPH   beyond: every neighbour is scored and leads on; only allowed ones become
 *                     results.
 *             GRAPH2  decides at each expanded node by the share of allowed ones among its unseen
 *                     neighbours, in the manner of "NaviX: A Native Vector Index Design for Graph
 *                     DBMSs With Robust Predicate-Agnostic Search Performance" and "ACORN:
 *                     Performant and Predicate-Agnostic Search Over Vector Embeddings": above one
 *                     half as GRAPH; below, allowed neighbours are scored, and through each of the
 *                     others its own allowed neighbours, up to the degree in all. Where there
 *                     are none, the few nearest of the others are bridges: they lead on without
 *                     being results. The planner never takes it: on no cell of the grid was it the
 *                     fastest. It is there to be forced, as a measure of the others.
 *
 *             Results and frontier are apart: a node that is no result may be the way to some.
 *             Those two end when the frontier's nearest is farther than the worst of ef results.
 * GUARDS      A walk, or a scan by clusters, gives up and the complete scan runs when it ends with
 *             fewer than k results though more rows are allowed, has more open nodes than room, has
 *             spent BUDGET of that scan's cost, or where codes cannot tell the results' order
 *             (score_results). So a search takes at most about 1 + BUDGET times the scan, and never
 *             comes back short.
 * THREADS     As graph_search.c.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/flat_int.h"
#include "index/graph/graph_int.h"
#include "index/graph/graph_plan.h"
#include "index/graph/graph_survivors.h"
#include "simd/simd.h"

#define BUDGET 0.7
#define BUDGET_SHUNNED 0.35 /* of clusters, where few rows near the query are allowed */
#define SURE 1.3 /* of what clusters should cost, even when the scan would be little more */
#define BRIDGES 4u
#define ROUNDS 3 /* walks, each for more, until another way is taken */
#define REACH_BEAM 2u  /* candidates expanded together */
#define FETCH_MAX 512u /* bytes of a code asked for; the rest follows in the hardware's stream */
#define MERGE_MAX 64u  /* candidates put into a pool together */
#define LIST_LOOKS 6u /* what fetching a list of links costs, in bits looked up */
/* A scan as cheap as looking at the entries is not worth the look. */
#define LOOK_NS 20000
/* Of allowed nodes among unseen neighbours: a plain walk above. */
#define MANY_PERCENT 50u

struct filtered {
    const struct graph *g;
    const struct index_query *q;
    struct graph_scratch *s;
    const struct plan_search *plan;
    size_t ef, k, frontier_max;
    uint64_t *results;  /* ascending */
    uint64_t *frontier; /* a heap, nearest first */
    size_t nresults, nfrontier;
    size_t distances, looked_up, hops;
    bool plain;
    bool lost; /* the frontier is full: what was left out may have been the way */
};

/* Into ascending v[0 .. *n), at most max items: the largest falls out. Returns where it went. */
static size_t sorted_insert(uint64_t *v, size_t *n, size_t max, uint64_t x)
{
    size_t at = 0, len = *n;
    while (len > 1) { /* a conditional move per step */
        size_t half = len / 2;
        at += v[at + half - 1] < x ? half : 0;
        len -= half;
    }
    at += len == 1 && v[at] < x;
    if (at >= max) {
        return at;
    }
    size_t end = *n < max ? *n : max - 1;
    memmove(v + at + 1, v + at, (end - at) * sizeof *v);
    v[at] = x;
    *n = end + 1;
    return at;
}

/* m items, which are put in order, into ascending v[0 .. *n), at most max: what is there moves
 * once, however many come. Returns where the first went. */
static size_t sorted_merge(uint64_t *v, size_t *n, size_t max, uint64_t *x, size_t m)
{
    for (size_t i = 1; i < m; i++) {
        uint64_t y = x[i];
        size_t at = i;
        for (; at > 0 && x[at - 1] > y; at--) {
            x[at] = x[at - 1];
        }
        x[at] = y;
    }
    size_t have = *n, to = MIN(have + m, max);
    for (size_t over = have + m - to; over > 0; over--) { /* the largest of both fall out */
        const bool mine = m > 0 && (have == 0 || x[m - 1] > v[have - 1]);
        m -= mine;
        have -= !mine;
    }
    *n = to;
    while (m > 0) {
        const uint64_t y = x[--m];
        size_t at = 0, len = have;
        while (len > 1) {
            size_t half = len / 2;
            at += v[at + half - 1] < y ? half : 0;
            len -= half;
        }
        at += len == 1 && v[at] < y;
        to -= have - at;
        memmove(v + to, v + at, (have - at) * sizeof *v);
        have = at;
        v[--to] = y;
    }
    return to;
}

static void frontier_push(struct filtered *f, uint64_t x)
{
    uint64_t *h = f->frontier;
    if (f->nfrontier == f->frontier_max) {
        f->lost = true;
        return;
    }
    size_t i = f->nfrontier++;
    for (; i > 0 && x < h[(i - 1) / 2]; i = (i - 1) / 2) {
        h[i] = h[(i - 1) / 2];
    }
    h[i] = x;
}

static uint64_t frontier_pop(struct filtered *f)
{
    uint64_t *h = f->frontier, top = h[0], x = h[--f->nfrontier];
    size_t n = f->nfrontier, i = 0;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && h[child + 1] < h[child];
        if (x <= h[child]) {
            break;
        }
        h[i] = h[child];
    }
    h[i] = x;
    return top;
}

void graph__filter(const struct index *ix, const uint64_t *allow, uint64_t *bits)
{
    const struct graph *g = CONTAINER_OF(ix, const struct graph, head);
    for (uint32_t at = 0; at < g->n; at += 64) {
        uint64_t w = 0;
        for (uint32_t i = 0; i < MIN(64u, g->n - at); i++) {
            w |= (uint64_t)bit_get(allow, graph_row(g, at + i)) << i;
        }
        bits[at / 64] = w;
    }
}

static bool is_allowed(const struct filtered *f, uint32_t node)
{
    return graph_allowed(f->g, f->q, node);
}

static float worst_result(const struct filtered *f)
{
    return f->nresults < f->ef ? INFINITY : graph_cand_key(f->results[f->nresults - 1]);
}

static void take(struct filtered *f, float key, uint32_t node, bool allowed)
{
    if (!(key <= worst_result(f))) {
        return;
    }
    frontier_push(f, graph_cand(key, node));
    if (allowed) {
        sorted_insert(f->results, &f->nresults, f->ef, graph_cand(key, node));
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
    f->looked_up += LIST_LOOKS;
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
        sorted_insert(best, &nbest, BRIDGES, graph_cand(s->keys[i], s->ids[i]));
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
    while (f->nfrontier && !f->lost) {
        uint64_t top = frontier_pop(f);
        if (graph_cand_key(top) > worst_result(f)) {
            break;
        }
        if (f->nfrontier) {
            __builtin_prefetch(graph_links(f->g, graph_cand_node(f->frontier[0])));
        }
        expand(f, graph_cand_node(top));
        if ((f->hops & 15) == 0) {
            if (plan_walk_ns(f->plan, f->distances, f->looked_up, f->hops) > budget_ns) {
                goto out;
            }
            if ((f->hops & 63) == 0 && f->q->check) {
                TRY(f->q->check(f->q->check_arg, st));
            }
        }
    }
    *ret_done = !f->lost && f->nresults >= MIN(f->k, (size_t)f->q->allow_count);
out:
    graph__unvisit(s);
    return rc;
}

/* The share of allowed nodes near the query, from the nearest third of its entries. More than
 * overall only as far as their number proves it; less only where some were to be expected. */
static double local_share(const struct graph *g, const struct index_query *q,
                          const struct graph_scratch *s, size_t n)
{
    double share = (double)q->allow_count / g->n, got = 0;
    n = MIN(n, s->pool_cap);
    for (size_t i = 0; i < n; i++) {
        s->pool[i] = graph_cand(s->keys[i], s->ids[i]);
    }
    size_t m = (n + 2) / 3;
    if (m < n) {
        graph__select(s->pool, n, m);
    }
    for (size_t i = 0; i < m; i++) {
        uint32_t node = graph_cand_node(s->pool[i]);
        got += node < g->n && graph_allowed(g, q, node);
    }
    double expected = share * (double)m;
    if (got > expected) {
        return fmax(share, (got - sqrt(got)) / (double)m);
    }
    if (expected < 8) { /* a few are missing by chance now and then */
        return got > 0 || expected < 2 ? share : share / 8;
    }
    return (got + 2 * share) / ((double)m + 2);
}

static int complete(const struct graph *g, const struct index_query *q, uint32_t j,
                    const struct plan_search *plan, enum index_strategy how, struct topk *tk,
                    struct index_counters *c, struct status *st)
{
    return how == STRAT_SCAN ? graph__survivors_all(g, q, j, plan->keep, plan->ef, tk, c, st)
                             : index__flat(&g->head, q, j, 1, tk, c, st);
}

/* Exact scores of the walk's results, as many as what codes were off by calls for, at least keep.
 * False, and nothing pushed: codes were off by so much that the best may be beyond the ef nearest
 * codes, as where the filter leaves rows far from the query, whose scores are dense. */
static bool score_results(struct filtered *f, uint32_t j, struct topk *tk,
                          struct index_counters *c)
{
    const struct index_rows *r = &f->g->head.rows;
    const void *query = (const uint8_t *)f->q->queries + j * f->q->query_stride;
    simd_ids_fn *exact = flat__dist(simd_ops(), r->metric, r->type).ids;
    struct graph_scratch *s = f->s;
    size_t n = f->nresults, m = 0, nbest = 0;
    uint64_t *best = f->frontier; /* the k best exact keys: the frontier is done with */
    float off = 0, last = graph_cand_key(f->results[n - 1]);
    while (m < n && (m < f->plan->keep || nbest < f->k ||
                     graph_cand_key(f->results[m]) - off <= graph_cand_key(best[nbest - 1]))) {
        size_t part = m ? MIN(n - m, (size_t)16) : MIN(n, f->plan->keep);
        for (size_t i = m; i < m + part; i++) {
            s->rows[i] = graph_row(f->g, graph_cand_node(f->results[i]));
        }
        exact(query, r->base, r->stride, s->rows + m, part, r->dim, s->keys + m);
        for (size_t i = m; i < m + part; i++) {
            float key = topk_key(tk, s->keys[i]);
            off = fmaxf(off, fabsf(graph_cand_key(f->results[i]) - key));
            sorted_insert(best, &nbest, f->k, graph_cand(key, (uint32_t)i));
        }
        m += part;
    }
    c->exact += m;
    c->bytes += m * vec_bytes(r->type, r->dim);
    /* Coarse codes are off by much anywhere: only where the filter shuns the query it counts. */
    const double share = (double)f->q->allow_count / f->g->n;
    const bool shunned = f->plan->local >= 0 && f->plan->local < share / 2;
    const enum codec_kind kind = codec_kind_of(f->g->codec);
    const bool fine = kind <= CODEC_SQ8 || (kind <= CODEC_SQ4 && shunned);
    if (fine && n == f->ef && f->q->allow_count > n &&
        2 * off > last - graph_cand_key(f->results[0])) {
        return false;
    }
    for (size_t i = 0; i < m; i++) {
        topk_push(tk, j, s->keys[i], f->q->row_base + s->rows[i]);
    }
    return true;
}

/* ---- The reaching walk ---- */

struct reach {
    const struct graph *g;
    const struct index_query *q;
    struct graph_scratch *s;
    size_t n, cursor, limit, cap; /* of the pool, which is sorted: expanded up to limit */
    size_t distances, hops;
    size_t fetch; /* bytes of a code that are fetched ahead */
};

/* Appends the unvisited neighbours of node and asks for their codes. */
static size_t reach_gather(struct reach *r, uint32_t node, size_t n)
{
    const struct graph *g = r->g;
    const uint32_t *links = graph_links(g, node);
    struct graph_scratch *s = r->s;
    const size_t before = n;
    for (size_t i = 0; i < g->degree && links[i] < g->n; i++) { /* no branch on what was seen */
        uint64_t *w = &s->visited[links[i] >> 6], old = *w, bit = UINT64_C(1) << (links[i] & 63);
        *w = old | bit;
        s->ids[n] = links[i];
        n += !(old & bit);
    }
    for (size_t i = before; i < n; i++) {
        const uint8_t *code = graph_code(g, s->ids[i]);
        for (size_t at = 0; at < r->fetch; at += CACHE_LINE) {
            __builtin_prefetch(code + at, 0, 2);
        }
        if (s->nseen < s->seen_cap) {
            s->seen[s->nseen] = s->ids[i];
        }
        s->nseen++;
    }
    return n;
}

/* Expands the nearest two that were not yet. False: there is none up to the limit. */
static bool reach_step(struct reach *r)
{
    const struct graph *g = r->g;
    struct graph_scratch *s = r->s;
    uint64_t *pool = s->pool;
    const size_t end = MIN(r->n, r->limit);
    size_t next = r->cursor, m = 0, taken = 0;
    for (; next < end && taken < REACH_BEAM; next++) {
        if (!(pool[next] & 1)) {
            pool[next] |= 1;
            m = reach_gather(r, graph_cand_node(pool[next]), m);
            taken++;
        }
    }
    r->cursor = next;
    for (size_t ahead = 0; next < end && ahead < REACH_BEAM; next++) {
        if (!(pool[next] & 1)) {
            const uint32_t *links = graph_links(g, graph_cand_node(pool[next]));
            for (size_t l = 0; l < g->degree; l += CACHE_LINE / 4) {
                __builtin_prefetch(links + l, 0, 2);
            }
            ahead++;
        }
    }
    codec_ids(g->codec, s->pq, g->codes, g->stride, s->ids, m, s->keys);
    float tail = r->n < r->cap ? INFINITY : graph_cand_key(pool[r->n - 1]);
    size_t npick = simd_ops()->select_le(s->keys, m, tail, s->pick);
    for (size_t at = 0; at < npick; at += MERGE_MAX) {
        uint64_t new[MERGE_MAX];
        const size_t part = MIN(npick - at, (size_t)MERGE_MAX);
        for (size_t i = 0; i < part; i++) {
            const uint32_t pick = s->pick[at + i];
            new[i] = graph_cand(s->keys[pick], s->ids[pick]);
        }
        r->cursor = MIN(r->cursor, sorted_merge(pool, &r->n, r->cap, new, part));
    }
    r->distances += m;
    r->hops += taken;
    return taken > 0;
}

/* Allowed ones among the first of the pool. */
static size_t reach_count(const struct reach *r)
{
    size_t got = 0;
    for (size_t i = 0; i < MIN(r->n, r->limit); i++) {
        got += graph_allowed(r->g, r->q, graph_cand_node(r->s->pool[i]));
    }
    return got;
}

/* A walk for so many nodes, allowed or not, that enough of them are allowed: as many as the share of
 * allowed ones promises, then more as long as they are too few, without beginning anew. *ret_done
 * false: nothing was pushed. *ret_share: of allowed ones among those found; negative where more of
 * them would not do. */
static int search_reach(const struct graph *g, const struct index_query *q, uint32_t j,
                        const struct plan_search *plan, struct graph_scratch *s, size_t nentries,
                        size_t limit, struct topk *tk, bool *ret_done, double *ret_share,
                        struct index_counters *c, struct status *st)
{
    struct reach r = { .g = g, .q = q, .s = s, .limit = limit,
                       .fetch = MIN(g->stride, (size_t)FETCH_MAX) };
    const size_t want = MIN(plan_walk_allowed(plan), (size_t)q->allow_count);
    size_t got = 0;
    int rc = 0;
    r.cap = MIN(2 * limit, MAX(limit, (size_t)PLAN_PLAIN_EF));
    c->strategy = STRAT_GRAPH;
    for (size_t i = 0; i < nentries; i++) {
        if (s->ids[i] < g->n && graph_visit(s, s->ids[i]) && s->keys[i] == s->keys[i]) {
            sorted_insert(s->pool, &r.n, r.cap, graph_cand(s->keys[i], s->ids[i]));
        }
    }
    for (;;) {
        while (reach_step(&r)) {
        }
        got = reach_count(&r);
        if (got >= want || r.limit >= r.cap || r.n < r.limit) {
            break;
        }
        r.limit = MIN(r.limit + r.limit * (want - got) / want + 4, r.cap);
        if (q->check) {
            TRY(q->check(q->check_arg, st));
        }
    }
    struct filtered f = { .g = g, .q = q, .s = s, .plan = plan, .k = tk->k, .plain = true };
    graph__near(g, q, j, s->pool, r.n);
    r.n = MIN(r.n, r.limit);
    f.results = s->pool;
    f.frontier = s->pool + r.n;
    for (size_t i = 0; i < r.n; i++) {
        if (graph_allowed(g, q, graph_cand_node(s->pool[i]))) {
            s->pool[f.nresults++] = s->pool[i];
        }
    }
    f.ef = f.nresults;
    *ret_share = r.n < r.limit ? -1 : (double)f.nresults / (double)r.n;
    *ret_done = false;
    if (f.nresults >= MIN(f.k, (size_t)q->allow_count)) {
        *ret_done = score_results(&f, j, tk, c);
        *ret_share = -1;
    }
out:
    graph__unvisit(s);
    c->distances += r.distances;
    c->hops += r.hops;
    c->bytes += r.distances * g->stride + r.hops * g->degree * sizeof *g->links;
    return rc;
}

/* ---- The choice ---- */

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
        *ret_done = score_results(&f, j, tk, c);
    }
out:
    c->distances += f.distances;
    c->hops += f.hops;
    c->bytes += f.distances * g->stride + f.hops * g->degree * sizeof *g->links +
                f.looked_up * sizeof *g->perm;
    return rc;
}

static bool is_walk(enum index_strategy how)
{
    return how == STRAT_GRAPH || how == STRAT_GRAPH2;
}

/* Looks at the query's neighbourhood where that may pay, chooses again by what is allowed there, and
 * walks if that is the choice. A walk that finds too few says how many are allowed where it went,
 * and the choice is made once more. *choice is the last one. */
static int search_walks(const struct graph *g, const struct index_query *q, uint32_t j,
                        struct plan_search *plan, struct plan_choice *choice, struct topk *tk,
                        bool *ret_done, struct index_counters *c, struct status *st)
{
    const enum index_strategy forced = (enum index_strategy)q->params->strategy;
    const size_t frontier = MAX(32 * plan->ef, 2 * (size_t)PLAN_PLAIN_EF) + 1024;
    const double overall = (double)plan->allowed / g->n;
    struct graph_scratch *s = NULL;
    size_t nentries = 0;
    double share = 0;
    int rc = 0;
    bool look = choice->strategy != choice->scan || choice->scan_ns > LOOK_NS;
    choice->strategy = forced ? forced : choice->strategy;
    if (forced ? !is_walk(forced) : !look) {
        return 0;
    }
    TRY(graph__scratch_get(g, plan->ef + frontier, &s, st));
    codec_query(g->codec, (const uint8_t *)q->queries + j * q->query_stride, s->pq);
    for (int round = 0; round < ROUNDS && !*ret_done && share >= 0; round++) {
        if (round == 0 || is_walk(choice->strategy)) {
            nentries = graph__entries(g, s, c);
        }
        plan->local = round ? share : local_share(g, q, s, nentries);
        *choice = plan_filtered(plan);
        choice->strategy = forced ? forced : choice->strategy;
        if (choice->strategy == STRAT_GRAPH && plan_walk_ef(plan) <= PLAN_PLAIN_EF) {
            size_t limit = plan_walk_ef(plan);
            if (plan->local < overall / 2) { /* the nearest ones are excluded: farther at once */
                limit = MAX(limit, (size_t)PLAN_PLAIN_EF / 2);
            }
            TRY(search_reach(g, q, j, plan, s, nentries, limit, tk, ret_done, &share, c, st));
            share = fmin(share, plan->local * 0.7);
        } else if (is_walk(choice->strategy)) {
            TRY(search_walk(g, q, j, plan, s, nentries, choice->strategy == STRAT_GRAPH,
                            BUDGET * choice->scan_ns, tk, ret_done, c, st));
            share = -1;
        } else if (round == 0 && plan_long_shot(plan, choice) && !forced) {
            TRY(search_reach(g, q, j, plan, s, nentries, PLAN_PLAIN_EF, tk, ret_done, &share, c,
                             st));
            share = -1;
        } else {
            goto out;
        }
        c->fallbacks += !*ret_done;
    }
out:
    graph__scratch_put(g, s);
    return rc;
}

int graph__search_filtered(const struct graph *g, const struct index_query *q, uint32_t j,
                           struct topk *tk, struct index_counters *c, struct status *st)
{
    bool done = false;
    int rc = 0;
    struct plan_search plan = { .nrows = g->n,
                                .allowed = q->allow_count,
                                .k = tk->k,
                                .prepared = q->filter != NULL,
                                .nclusters = g->nclusters,
                                .degree = g->degree,
                                .ef = graph__ef(g, q, tk),
                                .row_bytes = vec_bytes(g->head.rows.type, g->head.rows.dim),
                                .code_bytes = g->stride,
                                .bit_bytes = g->bit_stride,
                                .local = -1 };
    plan.keep = graph__refine_count(g, q, tk->k, plan.ef);
    if (graph__has_range(tk, j)) { /* exact where that is affordable: ranges may hold many */
        return plan.allowed < g->n / 4 ? index__flat(&g->head, q, j, 1, tk, c, st)
                                       : graph__search_walk(g, q, j, tk, c, st);
    }
    struct plan_choice choice = plan_filtered(&plan);
    TRY(search_walks(g, q, j, &plan, &choice, tk, &done, c, st));
    if (!done && choice.strategy == STRAT_CLUSTERS) {
        const bool shunned = plan.local >= 0 && plan.local < (double)plan.allowed / g->n / 4;
        double budget = fmax((shunned ? BUDGET_SHUNNED : BUDGET) * choice.scan_ns,
                             SURE * plan_cost(&plan, STRAT_CLUSTERS));
        TRY(graph__survivors_near(g, q, j, &plan, budget, tk, &done, c, st));
        c->fallbacks += !done;
    } else if (choice.strategy == STRAT_SCAN || choice.strategy == STRAT_FLAT) {
        choice.scan = choice.strategy;
    }
    if (!done) {
        TRY(complete(g, q, j, &plan, choice.scan, tk, c, st));
    }
out:
    return rc;
}
