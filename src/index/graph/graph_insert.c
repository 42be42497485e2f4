/*
 * graph_insert.c - linking the nodes of a graph, the same for any number of threads.
 *
 * WHAT        Nodes are inserted in batches that double up to a share of the graph
 *             (ParlayANN, "Scalable and Deterministic Parallel Graph-Based ANN Search", batch
 *             insertion). Each node of a batch walks the graph as the last batch left it and keeps,
 *             of the ef_construction nodes it finds, those no kept one is nearer to than the node
 *             itself. Then the batch's edges are turned around, grouped by target, and each target
 *             takes them up, pruned by the same rule when they do not fit.
 *             Pivots go first, in a drawn order, so that every later node starts its walk beside
 *             pivots of its own cluster.
 * INVARIANTS  A batch depends on the graph before it only; edges are sorted before they are applied.
 *             A list never holds its own node or one node twice.
 * THREADS     Blocks of nodes, then blocks of targets, run in parallel; each writes its own lists.
 * MEMORY      16 bytes per edge of a batch.
 * WHY         Equal rows: a node keeps one of several nodes with the same code, however many there
 *             are, so a thousand copies do not fill a list; graph_repair.c sees to it that each is
 *             reached.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/graph/graph_build_int.h"

/* The largest batch is this part of the graph. */
#define BATCH_SHARE 64
#define BATCH_MIN 64
#define INSERT_BLOCK 16
#define TARGET_BLOCK 64
#define CUT_BLOCK 512u
#define ENTRIES_MAX 64

void graph__fail(struct graph_builder *b, int rc, const struct status *st)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&b->rc, &none, -1)) {
        b->st = *st;
        atomic_store(&b->rc, rc);
    }
}

static uint32_t *links_of(struct graph_builder *b, uint32_t node)
{
    return b->links + (size_t)node * b->g.degree;
}

static size_t degree_of(const struct graph_builder *b, uint32_t node)
{
    const uint32_t *links = graph_links(&b->g, node);
    size_t n = 0;
    while (n < b->g.degree && links[n] != GRAPH_NONE) {
        n++;
    }
    return n;
}

/* How much nearer a kept node is to a candidate than the node whose list is pruned: above alpha the
 * candidate is reached through the kept one. key is between the two, self that of an equal row, dist
 * the candidate's to the node. */
static inline float cover(const struct graph_builder *b, float key, float self, float dist)
{
    float between = key + b->origin;
    if (key == self || (b->is_distance && (key < self || between <= 0))) {
        return INFINITY;
    }
    return b->is_distance ? dist / between : between < dist ? INFINITY : 0;
}

/* Of cand[0 .. n), ascending, the nodes that node should lead to: at most limit, into out. First
 * those that no kept one covers at all, then, while there is room, those covered by less than
 * alpha: the long links come before the many. Uses s->ids, s->keys, s->dist, s->cover and s->pq. */
static size_t prune(struct graph_builder *b, struct graph_scratch *s, const uint64_t *cand, size_t n,
                    size_t limit, uint32_t *out)
{
    float *dist = s->dist, *most = s->cover;
    size_t left = n, kept = 0;
    for (size_t i = 0; i < n; i++) {
        s->ids[i] = graph_cand_node(cand[i]);
        dist[i] = graph_cand_key(cand[i]) + b->origin;
        most[i] = 0;
    }
    for (int pass = 0; pass < 2; pass++) {
        const float alpha = pass == 0 ? 1.0f : b->alpha;
        for (size_t at = 0; at < left && kept < limit;) {
            if (most[at] > alpha) {
                at++;
                continue;
            }
            uint32_t node = out[kept++] = s->ids[at];
            size_t m = 0, next = 0;
            codec_query_code(b->codec, graph_code(&b->g, node), s->pq);
            codec_ids(b->codec, s->pq, b->codes, b->g.stride, s->ids, left, s->keys);
            const float self = s->keys[at];
            for (size_t i = 0; i < left; i++) {
                float c = cover(b, s->keys[i], self, dist[i]);
                s->ids[m] = s->ids[i];
                dist[m] = dist[i];
                most[m] = MAX(most[i], c);
                m += i != at && most[m] <= b->alpha;
                next = i < at ? m : next;
            }
            left = m;
            at = next;
        }
    }
    return kept;
}

/* ---- Forward ---- */

/* Nodes inserted before this batch to start from, with keys: pivots of the node's cluster, or first
 * pivots of the clusters of its super, or the very first node. */
static size_t start_nodes(struct graph_builder *b, struct graph_scratch *s, uint32_t node)
{
    const struct graph *g = &b->g;
    uint32_t c = b->node_cluster[node];
    size_t n = 0;
    for (uint32_t p = g->pivot_first[c]; p < g->pivot_first[c + 1] && n < ENTRIES_MAX; p++) {
        if (b->rank[g->pivot_node[p]] < b->batch_first) {
            s->ids[n++] = g->pivot_node[p];
        }
    }
    if (n < 4) {
        uint32_t su = 0;
        while (g->super_first[su + 1] <= c) {
            su++;
        }
        for (c = g->super_first[su]; c < g->super_first[su + 1] && n < ENTRIES_MAX; c++) {
            uint32_t first = g->pivot_node[g->pivot_first[c]];
            if (b->rank[first] < b->batch_first) {
                s->ids[n++] = first;
            }
        }
        s->ids[n++] = b->order[0];
    }
    codec_ids(b->codec, s->pq, b->codes, g->stride, s->ids, n, s->keys);
    return n;
}

static void insert_node(struct graph_builder *b, struct graph_scratch *s, uint32_t node)
{
    struct index_counters c = { 0 };
    codec_query_code(b->codec, graph_code(&b->g, node), s->pq);
    size_t n = graph__walk(&b->g, s, start_nodes(b, s, node), b->ef, &c);
    prune(b, s, s->pool, n, b->degree, links_of(b, node));
}

static void insert_block(void *ctx, size_t block)
{
    struct graph_builder *b = ctx;
    struct graph_scratch *s = NULL;
    struct status st = STATUS_INIT;
    size_t first = b->batch_first + block * INSERT_BLOCK;
    size_t end = MIN(first + INSERT_BLOCK, (size_t)b->batch_first + b->batch_n);
    if (atomic_load_explicit(&b->rc, memory_order_relaxed) != 0) {
        return;
    }
    if ((b->in->check && b->in->check(b->in->check_arg, &st) != 0) ||
        graph__scratch_get(&b->g, b->ef, &s, &st) != 0) {
        graph__fail(b, st.code, &st);
        return;
    }
    for (size_t i = first; i < end; i++) {
        insert_node(b, s, b->order[i]);
    }
    graph__scratch_put(&b->g, s);
}

/* ---- Backward ---- */

/* Sorts n edges by target, then source, through tmp: a radix sort of 11 bits a pass. */
static void sort_edges(uint64_t *edges, uint64_t *tmp, size_t n, uint32_t nodes)
{
    int bits = 32 - __builtin_clz(nodes | 1);
    for (int part = 0; part < 2; part++) {
        for (int at = 0; at < bits; at += 11) {
            int shift = part * 32 + at;
            size_t count[2049] = { 0 };
            for (size_t i = 0; i < n; i++) {
                count[(edges[i] >> shift & 2047) + 1]++;
            }
            for (size_t i = 0; i < 2048; i++) {
                count[i + 1] += count[i];
            }
            for (size_t i = 0; i < n; i++) {
                tmp[count[edges[i] >> shift & 2047]++] = edges[i];
            }
            memcpy(edges, tmp, n * sizeof *edges);
        }
    }
}

/* Adds n sources to target's list and prunes it to the final degree. */
static void take_up(struct graph_builder *b, struct graph_scratch *s, uint32_t target,
                    const uint64_t *edges, size_t n)
{
    uint32_t *links = links_of(b, target);
    size_t m = degree_of(b, target);
    memcpy(s->ids, links, m * sizeof *links);
    for (size_t i = 0; i < n; i++) {
        s->ids[m++] = (uint32_t)edges[i];
    }
    codec_query_code(b->codec, graph_code(&b->g, target), s->pq);
    codec_ids(b->codec, s->pq, b->codes, b->g.stride, s->ids, m, s->keys);
    for (size_t i = 0; i < m; i++) {
        s->pool[i] = graph_cand(s->keys[i], s->ids[i]);
    }
    graph__sort(s->pool, m);
    size_t kept = prune(b, s, s->pool, m, b->degree, links);
    memset(links + kept, 0xff, (b->g.degree - kept) * sizeof *links);
}

static void target_block(void *ctx, size_t block)
{
    struct graph_builder *b = ctx;
    struct graph_scratch *s = NULL;
    struct status st = STATUS_INIT;
    size_t first = block * TARGET_BLOCK, end = MIN(first + TARGET_BLOCK, b->nruns);
    const size_t degree = b->g.degree, room = MAX((size_t)b->ef, degree);
    if (atomic_load_explicit(&b->rc, memory_order_relaxed) != 0) {
        return;
    }
    if (graph__scratch_get(&b->g, degree + room, &s, &st) != 0) {
        graph__fail(b, st.code, &st);
        return;
    }
    for (size_t r = first; r < end; r++) {
        const uint64_t *edges = b->edges + b->runs[r];
        size_t n = b->runs[r + 1] - b->runs[r];
        uint32_t target = (uint32_t)(edges[0] >> 32);
        while (n > 0) {
            size_t had = degree_of(b, target), part = MIN(n, room);
            if (had + part <= degree) {
                for (size_t i = 0; i < part; i++) {
                    links_of(b, target)[had + i] = (uint32_t)edges[i];
                }
            } else {
                take_up(b, s, target, edges, part);
            }
            edges += part;
            n -= part;
        }
    }
    graph__scratch_put(&b->g, s);
}

/* Lists that use their slack are cut at the end. */
static void cut_block(void *ctx, size_t block)
{
    struct graph_builder *b = ctx;
    struct graph_scratch *s = NULL;
    struct status st = STATUS_INIT;
    uint32_t first = (uint32_t)block * CUT_BLOCK, end = MIN(first + CUT_BLOCK, b->g.n);
    if (atomic_load_explicit(&b->rc, memory_order_relaxed) != 0) {
        return;
    }
    if (graph__scratch_get(&b->g, MAX(b->ef, b->g.degree), &s, &st) != 0) {
        graph__fail(b, st.code, &st);
        return;
    }
    for (uint32_t i = first; i < end; i++) {
        if (graph_links(&b->g, i)[b->degree] != GRAPH_NONE) {
            take_up(b, s, i, NULL, 0);
        }
    }
    graph__scratch_put(&b->g, s);
}

/* Cuts every list to the final degree and closes the gaps between them. */
static void cut_all(struct graph_builder *b)
{
    parallel_for(b->in->pool, (b->g.n + CUT_BLOCK - 1) / CUT_BLOCK, cut_block, b);
    for (size_t i = 1; i < b->g.n; i++) {
        memmove(b->links + i * b->degree, b->links + i * b->g.degree,
                b->degree * sizeof *b->links);
    }
    b->g.degree = b->degree;
}

static void turn_around(struct graph_builder *b)
{
    b->nedges = b->nruns = 0;
    for (uint32_t i = b->batch_first; i < b->batch_first + b->batch_n; i++) {
        uint32_t node = b->order[i];
        const uint32_t *links = graph_links(&b->g, node);
        for (size_t k = 0; k < b->g.degree && links[k] != GRAPH_NONE; k++) {
            b->edges[b->nedges++] = (uint64_t)links[k] << 32 | node;
        }
    }
    sort_edges(b->edges, b->edges_tmp, b->nedges, b->g.n);
    for (size_t i = 0; i < b->nedges; i++) {
        if (i == 0 || b->edges[i] >> 32 != b->edges[i - 1] >> 32) {
            b->runs[b->nruns++] = (uint32_t)i;
        }
    }
    b->runs[b->nruns] = (uint32_t)b->nedges;
}

/* ---- Schedule ---- */

static void shuffle(uint32_t *v, size_t n, uint64_t *state)
{
    for (size_t i = n; i > 1; i--) {
        size_t at = graph_random(state) % i;
        uint32_t t = v[i - 1];
        v[i - 1] = v[at];
        v[at] = t;
    }
}

/* Clusters' first pivots, the other pivots, the rest, each drawn. */
static void draw_order(struct graph_builder *b)
{
    const struct graph *g = &b->g;
    uint64_t state = b->in->params->seed ^ UINT64_C(0x6772617068);
    uint32_t n = 0, nfirst = g->nclusters;
    for (uint32_t c = 0; c < g->nclusters; c++) {
        b->order[n++] = g->pivot_node[g->pivot_first[c]];
    }
    for (uint32_t c = 0; c < g->nclusters; c++) {
        for (uint32_t p = g->pivot_first[c] + 1; p < g->pivot_first[c + 1]; p++) {
            b->order[n++] = g->pivot_node[p];
        }
    }
    for (uint32_t i = 0, p = 0; i < g->n; i++) {
        if (p < g->npivots && g->pivot_node[p] == i) {
            p++;
        } else {
            b->order[n++] = i;
        }
    }
    shuffle(b->order, nfirst, &state);
    shuffle(b->order + nfirst, g->npivots - nfirst, &state);
    shuffle(b->order + g->npivots, g->n - g->npivots, &state);
    for (uint32_t i = 0; i < g->n; i++) {
        b->rank[b->order[i]] = i;
    }
}

int graph__insert_all(struct graph_builder *b, struct status *st)
{
    int rc = 0;
    const uint32_t n = b->g.n, most = MAX(n / BATCH_SHARE, (uint32_t)BATCH_MIN);
    const size_t edges = (size_t)MIN(most, n) * b->g.degree;
    b->order = alloc_try(n * sizeof *b->order);
    b->rank = alloc_try(n * sizeof *b->rank);
    b->edges = alloc_try(edges * sizeof *b->edges);
    b->edges_tmp = alloc_try(edges * sizeof *b->edges);
    b->runs = alloc_try((edges + 1) * sizeof *b->runs);
    if (!b->order || !b->rank || !b->edges || !b->edges_tmp || !b->runs) {
        FAIL(st, ST_NO_MEMORY, "no memory to link %u rows", n);
    }
    memset(b->links, 0xff, (size_t)n * b->g.degree * sizeof *b->links);
    draw_order(b);
    for (b->batch_first = 1; b->batch_first < n; b->batch_first += b->batch_n) {
        uint32_t left = n - b->batch_first;
        b->batch_n = MIN(b->batch_first, most);
        b->batch_n = MIN(b->batch_n, left);
        parallel_for(b->in->pool, (b->batch_n + INSERT_BLOCK - 1) / INSERT_BLOCK, insert_block, b);
        turn_around(b);
        parallel_for(b->in->pool, (b->nruns + TARGET_BLOCK - 1) / TARGET_BLOCK, target_block, b);
        rc = atomic_load(&b->rc);
        if (rc != 0) {
            *st = b->st;
            goto out;
        }
        if (b->in->progress) {
            b->in->progress(b->in->progress_arg, 0.1 + 0.85 * b->batch_first / n);
        }
    }
    cut_all(b);
    rc = atomic_load(&b->rc);
    if (rc != 0) {
        *st = b->st;
    }
out:
    return rc;
}
