/*
 * graph_filter.c - searches under a filter: which way, and when it is given up.
 *
 * WHAT        The planner (graph_plan.h) picks a way: scans (graph_survivors.c, index__flat()) or a
 *             walk:
 *
 *             GRAPH2  to the query, and on by allowed neighbours of so many nodes that enough of
 *                     them are allowed (graph_reach.c). Whatever lies between the query and its
 *                     allowed rows, a walk that has found them has found the nearest.
 *             GRAPH   every neighbour is scored and leads on; only allowed ones become results.
 *                     The planner never takes it: it is there to be forced, as a measure of the
 *                     others.
 *
 * GUARDS      A walk gives up and another way is taken when it ends with fewer than k results though
 *             more rows are allowed, or where codes cannot tell the results' order (score_results);
 *             it looks at PLAN_PLAIN_EF nodes at most. A scan by clusters that finds no end becomes
 *             the complete one. No search comes back short.
 * THREADS     As graph_search.c.
 */
#include <math.h>
#include <string.h>

#include "base/bitset.h"
#include "index/graph/graph_int.h"
#include "index/graph/graph_plan.h"
#include "index/graph/graph_pool.h"
#include "index/graph/graph_reach.h"
#include "index/graph/graph_survivors.h"

#define SCORE_FIRST 2u /* rows scored exactly: k and so many, */
#define SCORE_MORE 4u  /* then so many at a time */
#define SCORE_SLACK 2.0f /* how much more than seen so far codes may be off by */
#define TURN_NODES 512u /* brought into the order of nodes together */
#define FEW 8          /* allowed entries tell little */
#define ROUNDS 3 /* walks, each for more, until another way is taken */
/* A scan as cheap as looking at the entries is not worth the look. */
#define LOOK_NS 20000

void graph__filter(const struct index *ix, const uint64_t *allow, uint64_t *bits)
{
    const struct graph *g = CONTAINER_OF(ix, const struct graph, head);
    if (!g->perm) {
        memcpy(bits, allow, bits_words(g->n) * sizeof *bits);
        return;
    }
    for (uint32_t at = 0; at < g->n; at += 64) {
        uint64_t w = 0;
        for (uint32_t i = 0; i < MIN(64u, g->n - at); i++) {
            w |= (uint64_t)bit_get(allow, graph_row(g, at + i)) << i;
        }
        bits[at / 64] = w;
    }
}

size_t graph__allowed_nodes(const struct graph *g, const uint64_t *allow, size_t *word,
                            uint32_t *nodes, size_t room)
{
    const size_t words = bits_words(g->n);
    size_t n = 0, w = *word;
    for (; w < words && n + 64 <= room; w++) { /* places are asked for before any is read */
        const size_t end = n + bits_list(allow[w], (uint32_t)w * 64, nodes + n);
        for (; n < end; n++) {
            __builtin_prefetch(g->node_of + nodes[n], 0, 3);
        }
    }
    size_t got = 0;
    for (size_t i = 0; i < n; i++) {
        nodes[got] = nodes[i] < g->n ? g->node_of[nodes[i]] : GRAPH_NONE;
        got += nodes[got] < g->n;
    }
    *word = w;
    return got;
}

void graph__turn(const struct graph *g, const uint64_t *allow, uint64_t *bits)
{
    uint32_t nodes[TURN_NODES];
    for (size_t w = 0; w < bits_words(g->n);) {
        const size_t n = graph__allowed_nodes(g, allow, &w, nodes, TURN_NODES);
        for (size_t i = 0; i < n; i++) {
            bits[nodes[i] / 64] |= UINT64_C(1) << (nodes[i] % 64);
        }
    }
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
    if (expected < FEW) { /* a few are missing by chance now and then: those around are asked, too */
        size_t of = 0;
        got = 0;
        for (size_t i = 0; i < m; i++) {
            const uint32_t first = graph_cand_node(s->pool[i]);
            const uint32_t end = first < g->n ? MIN(first + GRAPH_GROUP_ROWS, g->n) : first;
            for (uint32_t node = first; node < end; node++) {
                got += graph_allowed(g, q, node);
            }
            of += end - first;
        }
        expected = share * (double)of;
        return expected < 2 ? share : fmin(share, (got + sqrt(got) + 0.5) / (double)of);
    }
    return (got + 2 * share) / ((double)m + 2);
}

static int complete(const struct graph *g, const struct index_query *q, uint32_t j,
                    const struct plan_search *plan, enum index_strategy how, struct topk *tk,
                    struct index_counters *c, struct status *st)
{
    return how == STRAT_SCAN ? graph__survivors_all(g, q, j, plan, tk, c, st)
                             : index__flat(&g->head, q, j, 1, tk, c, st);
}

/* Exact scores of the walk's n results, ascending in s->pool, as many as what codes were off by calls
 * for. False, and nothing pushed: codes were off by so much that the best may be beyond the last,
 * as where the filter leaves rows far from the query, whose scores are dense. */
static bool score_results(const struct graph *g, const struct index_query *q, uint32_t j,
                          const struct plan_search *plan, struct graph_scratch *s, size_t n,
                          struct topk *tk, struct index_counters *c)
{
    const size_t k = tk->k, least = MAX(k + SCORE_FIRST, (size_t)(q->params->refine_k * (double)k));
    uint64_t *best = s->pool + n; /* the k best exact keys */
    size_t m = 0, nbest = 0;
    float off = 0, last = graph_cand_key(s->pool[n - 1]);
    while (m < n && (m < least || nbest < k ||
                     graph_cand_key(s->pool[m]) - SCORE_SLACK * off <=
                         graph_cand_key(best[nbest - 1]))) {
        const size_t part = MIN(n - m, m ? (size_t)SCORE_MORE : least);
        for (size_t i = m; i < m + part; i++) {
            s->rows[i] = graph_row(g, graph_cand_node(s->pool[i]));
        }
        index__scores(&g->head, q, j, s->rows + m, part, s->keys + m, c);
        for (size_t i = m; i < m + part; i++) {
            float key = topk_key(tk, s->keys[i]);
            off = fmaxf(off, fabsf(graph_cand_key(s->pool[i]) - key));
            pool_insert(best, &nbest, k, graph_cand(key, (uint32_t)i));
        }
        m += part;
    }
    /* Coarse codes are off by much anywhere: only where the filter shuns the query it counts. */
    const bool shunned = plan->local >= 0 && plan->local < (double)q->allow_count / g->n / 2;
    const enum codec_kind kind = codec_kind_of(g->codec);
    if ((kind <= CODEC_SQ8 || (kind <= CODEC_SQ4 && shunned)) && q->allow_count > n &&
        2 * off > last - graph_cand_key(s->pool[0])) {
        return false;
    }
    for (size_t i = 0; i < m; i++) {
        topk_push(tk, j, s->keys[i], q->row_base + s->rows[i]);
    }
    return true;
}

/* A walk for so many nodes, allowed or not, that enough of them are allowed: as many as the share of
 * allowed ones promises, then more as long as they are too few. *ret_done false: nothing was pushed.
 * *ret_share: of allowed ones among those found; negative where more of them would not do. */
static int search_reach(const struct graph *g, const struct index_query *q, uint32_t j,
                        const struct plan_search *plan, struct graph_scratch *s, size_t nentries,
                        size_t limit, struct topk *tk, bool *ret_done, double *ret_share,
                        struct index_counters *c, struct status *st)
{
    const size_t enough = MIN(tk->k, (size_t)q->allow_count);
    struct graph_reach how = { .full = plan_walk_full(plan, limit),
                               .limit = limit,
                               .most = MAX(limit, (size_t)PLAN_PLAIN_EF),
                               .least = enough,
                               .want = MIN(plan_walk_allowed(plan), (size_t)q->allow_count) };
    struct graph_reached got;
    int rc = 0;
    how.max = graph_reach_max(how.most);
    c->strategy = STRAT_GRAPH2;
    TRY(graph__reach(g, q, j, s, nentries, &how, &got, c, st));
    *ret_done = got.n >= enough && got.covered && score_results(g, q, j, plan, s, got.n, tk, c);
    if (q->near && !*ret_done) { /* where it ended is not where the hits are */
        q->near->counts[j] = 0;
    }
    *ret_share = got.n >= enough || got.looked_at < limit
                     ? -1
                     : ((double)got.allowed + 0.5) / ((double)got.looked_at + 1);
out:
    return rc;
}

/* ---- The choice ---- */

/* Looks at the query's neighbourhood where that may pay, chooses again by what is allowed there, and
 * walks if that is the choice. A walk that finds too few says how many are allowed where it went,
 * and the choice is made once more. *choice is the last one. */
static int search_walks(const struct graph *g, const struct index_query *q, uint32_t j,
                        struct plan_search *plan, struct plan_choice *choice, struct topk *tk,
                        bool *ret_done, struct index_counters *c, struct status *st)
{
    const enum index_strategy forced = (enum index_strategy)q->params->strategy;
    struct graph_scratch *s = NULL;
    size_t nentries = 0;
    double share = 0;
    int rc = 0;
    bool look = choice->strategy != choice->scan || choice->scan_ns > LOOK_NS;
    choice->strategy = forced ? forced : choice->strategy;
    if (forced ? forced != STRAT_GRAPH2 : !look) {
        return 0;
    }
    TRY(graph__scratch_get(g, graph_reach_max(PLAN_PLAIN_EF) + tk->k, &s, st));
    codec_query(g->codec, (const uint8_t *)q->queries + j * q->query_stride, s->pq);
    for (int round = 0; round < ROUNDS && !*ret_done && share >= 0; round++) {
        if (round == 0 || choice->strategy == STRAT_GRAPH2) {
            nentries = graph__entries(g, s, c);
        }
        plan->local = round ? share : local_share(g, q, s, nentries);
        *choice = plan_filtered(plan);
        choice->strategy = forced ? forced : choice->strategy;
        if (choice->strategy == STRAT_GRAPH2 && plan_walk_ef(plan) > PLAN_PLAIN_EF) {
            share = -1; /* forced, and farther than walks go */
        } else if (choice->strategy == STRAT_GRAPH2) {
            size_t limit = plan_walk_ef(plan);
            if (plan_shunned(plan)) { /* the nearest ones are excluded: farther at once */
                limit = MAX(limit, (size_t)PLAN_PLAIN_EF / 2);
            }
            TRY(search_reach(g, q, j, plan, s, nentries, limit, tk, ret_done, &share, c, st));
            share = fmin(share, plan->local * 0.7);
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
                                .prepared = graph_node_bits(g, q) != NULL,
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
    if (q->params->strategy == STRAT_GRAPH) {
        return graph__search_walk(g, q, j, tk, c, st);
    }
    struct plan_choice choice = plan_filtered(&plan);
    TRY(search_walks(g, q, j, &plan, &choice, tk, &done, c, st));
    if (!done && choice.strategy == STRAT_CLUSTERS) {
        TRY(graph__survivors_near(g, q, j, &plan, tk, c, st));
        done = true;
    } else if (choice.strategy == STRAT_SCAN || choice.strategy == STRAT_FLAT) {
        choice.scan = choice.strategy;
    }
    if (!done) {
        TRY(complete(g, q, j, &plan, choice.scan, tk, c, st));
    }
out:
    return rc;
}
