/*
 * graph.c - HNSW, HNSW_SQ, HNSW_PQ and HNSW_PRQ: one graph over codes of their own precision.
 *
 * WHAT        The types differ in the codec that searches walk on (graph_build.c chooses it); the
 *             file says which. Sections are used where they lie.
 * FORMAT      graph_int.h.
 * INVARIANTS  Opening checks every number of the small tables and the sizes of the large ones;
 *             links and perm are compared with n at each use.
 * THREADS     Immutable but for the pool of scratch.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/graph/graph_int.h"

static void graph_free(struct index *ix)
{
    struct graph *g = CONTAINER_OF(ix, struct graph, head);
    for (int i = 0; i < SCRATCH_SLOTS; i++) {
        graph__scratch_free(scratch_take(&g->scratch));
    }
    codec_free(g->codec);
    codec_free(g->bit_codec);
    mem_free(g->centroid_codes);
    mem_free(g->centroid_sizes);
    mem_free(g->node_of);
    mem_free(g);
}

int graph__check_firsts(const char *what, const uint32_t *first, uint32_t n, uint32_t end,
                        struct status *st)
{
    for (uint32_t i = 0; i < n; i++) {
        if (first[i] >= first[i + 1] || (i == 0 && first[0] != 0)) {
            return st_fail(st, ST_CORRUPT, "index file: %s %u is no range", what, i);
        }
    }
    if (first[n] != end) {
        return st_fail(st, ST_CORRUPT, "index file: %ss end at %u of %u", what, first[n], end);
    }
    return 0;
}

static int check_meta(const struct graph_meta *m, const struct index_rows *rows,
                      const struct index_params *params, struct status *st)
{
    if (m->n != rows->nrows) {
        return st_fail(st, ST_CORRUPT, "index file: graph of %u nodes over %u rows", m->n,
                       rows->nrows);
    }
    if (m->n && (m->degree != ROUND_UP(2 * params->M, 16u) || m->nclusters == 0 ||
                 m->nclusters > m->n || m->npivots < m->nclusters || m->npivots > m->n ||
                 m->nsupers == 0 || m->nsupers > m->nclusters || !(m->off >= 0) ||
                 m->ten_in > GRAPH_TEN_IN_MAX)) {
        return st_fail(st, ST_CORRUPT, "index file: a graph of degree %u, %u clusters, %u pivots",
                       m->degree, m->nclusters, m->npivots);
    }
    return 0;
}

static int open_sections(struct graph *g, const struct ix_file *f, const struct index_rows *rows,
                         struct status *st)
{
    int rc = 0;
    const void *p, *blob;
    size_t size;
    const uint32_t n = g->n, nc = g->nclusters;
    const size_t routing = (size_t)g->nsupers + nc + g->npivots;
    const size_t centroid = rows->type == VEC_BIN ? rows->dim / 8 : rows->dim * sizeof(float);
    TRY(ix_section(f, GRAPH_CODC, SIZE_MAX, &blob, &size, st));
    TRY(codec_open(blob, size, rows->metric, rows->type, rows->dim, &g->codec, st));
    if (g->stride < codec_stride(g->codec) || g->stride > codec_stride(g->codec) + CACHE_LINE) {
        FAIL(st, ST_CORRUPT, "index file: codes of %zu bytes, %zu apart", codec_stride(g->codec),
             g->stride);
    }
    TRY(ix_section(f, GRAPH_CODE, n * g->stride, &p, NULL, st));
    g->codes = p;
    if (ix_has_section(f, GRAPH_PERM)) {
        TRY(ix_section(f, GRAPH_PERM, n * sizeof(uint32_t), &p, NULL, st));
        g->perm = p;
    }
    TRY(ix_section(f, GRAPH_LINK, (size_t)n * g->degree * sizeof(uint32_t), &p, NULL, st));
    g->links = p;
    TRY(ix_section(f, GRAPH_CENT, nc * centroid, &p, NULL, st));
    g->centroids = p;
    TRY(ix_section(f, GRAPH_CLUS, (nc + 1) * sizeof(uint32_t), &p, NULL, st));
    g->cluster_first = p;
    TRY(graph__check_firsts("cluster", g->cluster_first, nc, n, st));
    TRY(ix_section(f, GRAPH_PIVF, (nc + 1) * sizeof(uint32_t), &p, NULL, st));
    g->pivot_first = p;
    TRY(graph__check_firsts("pivot range", g->pivot_first, nc, g->npivots, st));
    TRY(ix_section(f, GRAPH_SUPF, (g->nsupers + 1) * sizeof(uint32_t), &p, NULL, st));
    g->super_first = p;
    TRY(graph__check_firsts("super", g->super_first, g->nsupers, nc, st));
    TRY(ix_section(f, GRAPH_PIVN, g->npivots * sizeof(uint32_t), &p, NULL, st));
    g->pivot_node = p;
    for (uint32_t i = 0; i < g->npivots; i++) {
        if (g->pivot_node[i] >= n || (i > 0 && g->pivot_node[i] <= g->pivot_node[i - 1])) {
            FAIL(st, ST_CORRUPT, "index file: pivot %u is node %u", i, g->pivot_node[i]);
        }
    }
    TRY(ix_section(f, GRAPH_ROUT, routing * g->stride, &p, NULL, st));
    g->super_codes = p;
    g->cluster_codes = g->super_codes + g->nsupers * g->stride;
    g->pivot_codes = g->cluster_codes + nc * g->stride;
    TRY(graph__bits_open(g, f, st));
out:
    return rc;
}

/* perm turned around. A damaged file leaves rows without a node. */
static int turn_perm(struct graph *g, struct status *st)
{
    if (!g->perm) {
        return 0;
    }
    g->node_of = alloc_try((size_t)g->n * sizeof *g->node_of);
    if (!g->node_of) {
        return st_fail(st, ST_NO_MEMORY, "no memory for the nodes of %u rows", g->n);
    }
    memset(g->node_of, 0xff, (size_t)g->n * sizeof *g->node_of); /* GRAPH_NONE */
    for (uint32_t i = 0; i < g->n; i++) {
        if (g->perm[i] < g->n) {
            g->node_of[g->perm[i]] = i;
        }
    }
    return 0;
}

static int graph_open(const struct ix_file *f, const struct index_rows *rows,
                      const struct index_params *params, const struct index_source *src,
                      struct index **ret_ix, struct status *st)
{
    int rc = 0;
    struct graph *g = xalloc(sizeof *g);
    struct graph_meta meta;
    const void *p;
    (void)src;
    TRY(ix_section(f, GRAPH_META, sizeof meta, &p, NULL, st));
    memcpy(&meta, p, sizeof meta);
    TRY(check_meta(&meta, rows, params, st));
    g->n = meta.n;
    g->degree = meta.degree;
    g->nclusters = meta.nclusters;
    g->npivots = meta.npivots;
    g->nsupers = meta.nsupers;
    g->stride = meta.stride;
    g->quality = (struct graph_codes){ .off = meta.off, .ten_in = meta.ten_in };
    if (g->n) {
        g->head.rows = *rows;
        TRY(open_sections(g, f, rows, st));
        TRY(turn_perm(g, st));
    }
    *ret_ix = &TAKE(g)->head;
out:
    if (g) {
        graph_free(&g->head);
    }
    return rc;
}

static int check_perm(const struct graph *g, uint64_t *seen, struct status *st)
{
    for (uint32_t i = 0; g->perm && i < g->n; i++) {
        if (g->perm[i] >= g->n || bit_get(seen, g->perm[i])) {
            return st_fail(st, ST_CORRUPT, "graph: node %u is row %u", i, g->perm[i]);
        }
        bit_set(seen, g->perm[i]);
    }
    return 0;
}

static int check_links(const struct graph *g, struct status *st)
{
    for (uint32_t i = 0; i < g->n; i++) {
        const uint32_t *links = graph_links(g, i);
        bool ended = false;
        for (uint32_t k = 0; k < g->degree; k++) {
            ended |= links[k] == GRAPH_NONE;
            if (ended ? links[k] != GRAPH_NONE : links[k] >= g->n || links[k] == i) {
                return st_fail(st, ST_CORRUPT, "graph: node %u leads to %u", i, links[k]);
            }
        }
    }
    return 0;
}

/* Whether all nodes can be reached from node 0's first pivot, which reaches every other. */
static int check_reach(const struct graph *g, uint32_t from, uint64_t *seen, uint32_t *queue,
                       struct status *st)
{
    size_t head = 0, tail = 0;
    memset(seen, 0, bits_words(g->n) * 8);
    bit_set(seen, from);
    queue[tail++] = from;
    while (head < tail) {
        const uint32_t *links = graph_links(g, queue[head++]);
        for (size_t i = 0; i < g->degree && links[i] != GRAPH_NONE; i++) {
            if (!bit_get(seen, links[i])) {
                bit_set(seen, links[i]);
                queue[tail++] = links[i];
            }
        }
    }
    if (tail != g->n) {
        return st_fail(st, ST_CORRUPT, "graph: %zu of %u nodes are reachable from %u", tail, g->n,
                       from);
    }
    return 0;
}

static int graph_validate(const struct index *ix, struct status *st)
{
    const struct graph *g = CONTAINER_OF(ix, const struct graph, head);
    int rc = 0;
    uint64_t *seen = alloc_try_zero((bits_words(g->n) + 1) * 8);
    uint32_t *queue = alloc_try((g->n + (size_t)1) * sizeof *queue);
    if (!seen || !queue) {
        FAIL(st, ST_NO_MEMORY, "no memory to check a graph of %u nodes", g->n);
    }
    if (g->n) {
        TRY(check_perm(g, seen, st));
        TRY(check_links(g, st));
        TRY(check_reach(g, 0, seen, queue, st));
        TRY(graph__bits_check(g, st));
    }
out:
    mem_free(seen);
    mem_free(queue);
    return rc;
}

static void graph_memory(const struct index *ix, struct index_memory *ret)
{
    const struct graph *g = CONTAINER_OF(ix, const struct graph, head);
    size_t n = g->n;
    ret->heap = sizeof *g + (g->perm ? n * sizeof *g->node_of : 0) +
                (g->centroid_codes ? g->nclusters * (g->stride + sizeof(float)) : 0) +
                atomic_load_explicit(&g->scratch_bytes, memory_order_relaxed);
    ret->resident = n * (g->stride + g->bit_stride + (g->degree + (g->perm != NULL)) * sizeof(uint32_t)) +
                    ((size_t)g->nsupers + g->nclusters + g->npivots) * g->stride;
}

#define GRAPH_OPS(index_type, index_metrics, index_types) \
    { \
        .type = index_type, .metrics = index_metrics, .types = index_types, .build = graph__build, \
        .open = graph_open, .search = graph__search, .validate = graph_validate, \
        .filter = graph__filter, .memory = graph_memory, .free = graph_free, \
    }

const struct index_ops hnsw_ops =
    GRAPH_OPS(INDEX_HNSW,
              METRICS_DENSE | METRIC_BIT(METRIC_HAMMING) | METRIC_BIT(METRIC_JACCARD),
              TYPES_DENSE | TYPE_BIT(VEC_BIN));
const struct index_ops hnsw_sq_ops = GRAPH_OPS(INDEX_HNSW_SQ, METRICS_DENSE, TYPES_DENSE);
const struct index_ops hnsw_pq_ops = GRAPH_OPS(INDEX_HNSW_PQ, METRICS_DENSE, TYPES_DENSE);
const struct index_ops hnsw_prq_ops = GRAPH_OPS(INDEX_HNSW_PRQ, METRICS_DENSE, TYPES_DENSE);
