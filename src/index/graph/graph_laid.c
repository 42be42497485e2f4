/*
 * graph_laid.c - rows laid in the order of a graph's nodes: making the order, and building over them.
 *
 * WHAT        index_order_new() does the first part of a build, clusters and node order, and keeps
 *             what the rows do not tell once they lie in that order: where clusters, supers and groups
 *             begin, and the centroids. A build that is given this takes it as its own order: node i is
 *             row i, and the file has no PERM.
 * INVARIANTS  A plan's clusters, supers and groups are runs that follow each other without a gap, and no
 *             group is in two clusters: checked before anything follows it. Whether its rows are near each
 *             other nobody can check; a search over others is slow and finds less, no more.
 * THREADS     order.h.
 * WHY         K-means again over the laid rows would draw other rows and put some in other clusters.
 *             The laid rows alone do not say where clusters end, and runs of a fixed length cut
 *             clusters in two.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/pool.h"
#include "index/graph/graph_build_int.h"
#include "index/graph/order.h"

#define ENCODE_BLOCK 256u

static const char plan_magic[8] = { 'e', 'l', 'a', 'n', 'u', 's', 'O', 'R' };

struct order_head {
    char magic[8];
    uint16_t version, vec_type;
    uint32_t metric;
    uint64_t dim;
    uint32_t nrows, nclusters, npivots, nsupers;
    uint32_t crc, zero; /* of everything after the head */
};
_Static_assert(sizeof(struct order_head) == 48, "no padding");
#define PLAN_VERSION 1u

struct index_order {
    uint32_t *rows;
    uint8_t *plan;
    size_t plan_size;
};

static size_t plan_size(const struct order_head *h, size_t centroid)
{
    const size_t numbers = (size_t)h->nclusters + 1 + h->nsupers + 1 + h->nsupers + h->npivots;
    return sizeof *h + numbers * sizeof(uint32_t) + h->nclusters * centroid;
}

/* ---- Making ---- */

static void *put(void *to, const void *p, size_t n)
{
    memcpy(to, p, n);
    return (uint8_t *)to + n;
}

static int write_plan(const struct graph_builder *b, struct index_order *o, struct status *st)
{
    const struct graph *g = &b->g;
    const struct index_rows *rows = b->in->rows;
    const size_t centroid = graph__centroid_bytes(rows);
    struct order_head h = { .version = PLAN_VERSION,
                            .vec_type = (uint16_t)rows->type,
                            .metric = rows->metric,
                            .dim = rows->dim,
                            .nrows = g->n,
                            .nclusters = g->nclusters,
                            .npivots = g->npivots,
                            .nsupers = g->nsupers };
    memcpy(h.magic, plan_magic, sizeof h.magic);
    o->plan_size = plan_size(&h, centroid);
    o->plan = alloc_try(o->plan_size);
    if (!o->plan) {
        return st_fail(st, ST_NO_MEMORY, "no memory for the order of %u rows", g->n);
    }
    void *to = o->plan + sizeof h;
    if (g->n) {
        to = put(to, b->cluster_first, (g->nclusters + 1) * sizeof(uint32_t));
        to = put(to, b->super_first, (g->nsupers + 1) * sizeof(uint32_t));
        to = put(to, b->super_cluster, g->nsupers * sizeof(uint32_t));
        to = put(to, b->pivot_node, g->npivots * sizeof(uint32_t));
        put(to, b->centroids, g->nclusters * centroid);
    } else {
        memset(to, 0, o->plan_size - sizeof h);
    }
    h.crc = crc32c(0, o->plan + sizeof h, o->plan_size - sizeof h);
    memcpy(o->plan, &h, sizeof h);
    return 0;
}

int index_order_new(const struct index_build *in, struct index_order **ret_o, struct status *st)
{
    int rc = 0;
    struct graph_builder *b = xalloc(sizeof *b);
    struct index_order *o = xalloc(sizeof *o);
    b->in = in;
    TRY(index__check_rows(in->rows, st));
    if (in->rows->nrows) {
        TRY(graph__arrange(b, st));
    }
    TRY(write_plan(b, o, st));
    o->rows = TAKE(b->perm);
    *ret_o = TAKE(o);
out:
    graph__builder_done(b);
    mem_free(b);
    index_order_free(o);
    return rc;
}

const uint32_t *index_order_rows(const struct index_order *o)
{
    return o->rows;
}

const void *index_order_plan(const struct index_order *o, size_t *ret_size)
{
    *ret_size = o->plan_size;
    return o->plan;
}

void index_order_free(struct index_order *o)
{
    if (o) {
        mem_free(o->rows);
        mem_free(o->plan);
        mem_free(o);
    }
}

/* ---- Building over rows that lie in order ---- */

static int check_plan(const struct index_build *in, struct order_head *ret, struct status *st)
{
    const struct index_rows *rows = in->rows;
    struct order_head h;
    const uint8_t *p = in->plan;
    if (in->plan_size < sizeof h) {
        return st_fail(st, ST_CORRUPT, "order of rows: %zu bytes", in->plan_size);
    }
    memcpy(&h, p, sizeof h);
    if (memcmp(h.magic, plan_magic, sizeof h.magic) != 0) {
        return st_fail(st, ST_CORRUPT, "order of rows: it does not begin as one");
    }
    if (h.version != PLAN_VERSION) {
        return st_fail(st, ST_UNSUPPORTED, "order of rows: version %u, this program reads %u",
                       h.version, PLAN_VERSION);
    }
    if (h.vec_type != rows->type || h.dim != rows->dim || h.nrows != rows->nrows) {
        return st_fail(st, ST_INVALID,
                       "order of rows: made for %u rows of dimension %llu and type %u, not %u of "
                       "%zu and %d",
                       h.nrows, (unsigned long long)h.dim, h.vec_type, rows->nrows, rows->dim,
                       (int)rows->type);
    }
    if (in->plan_size != plan_size(&h, graph__centroid_bytes(rows)) ||
        h.crc != crc32c(0, p + sizeof h, in->plan_size - sizeof h)) {
        return st_fail(st, ST_CORRUPT, "order of rows: %zu bytes that are not what was written",
                       in->plan_size);
    }
    if (h.nclusters == 0 || h.nclusters > h.nrows || h.nsupers == 0 || h.nsupers > h.nclusters ||
        h.npivots < h.nclusters || h.npivots > h.nrows) {
        return st_fail(st, ST_CORRUPT, "order of rows: %u clusters, %u groups, %u supers of %u rows",
                       h.nclusters, h.npivots, h.nsupers, h.nrows);
    }
    *ret = h;
    return 0;
}

/* The next n bytes of a plan, copied to be the builder's. */
static void *take(const uint8_t **p, size_t n)
{
    void *to = alloc_try(n);
    if (to) {
        memcpy(to, *p, n);
    }
    *p += n;
    return to;
}

/* Groups lie in clusters, and as many of them as rows of a cluster make. */
static int check_groups(const struct graph_builder *b, struct status *st)
{
    const struct graph *g = &b->g;
    for (uint32_t c = 0; c < g->nclusters; c++) {
        const uint32_t end = b->cluster_first[c + 1];
        uint32_t least = b->cluster_first[c];
        if (b->pivot_first[c + 1] > g->npivots || b->pivot_node[b->pivot_first[c]] != least) {
            return st_fail(st, ST_CORRUPT, "order of rows: cluster %u has no groups", c);
        }
        for (uint32_t i = b->pivot_first[c]; i < b->pivot_first[c + 1]; i++) {
            if (b->pivot_node[i] < least || b->pivot_node[i] >= end) {
                return st_fail(st, ST_CORRUPT, "order of rows: group %u begins at %u", i,
                               b->pivot_node[i]);
            }
            least = b->pivot_node[i] + 1;
        }
    }
    for (uint32_t i = 0; i < g->nsupers; i++) {
        if (b->super_cluster[i] < b->super_first[i] ||
            b->super_cluster[i] >= b->super_first[i + 1]) {
            return st_fail(st, ST_CORRUPT, "order of rows: super %u is not cluster %u", i,
                           b->super_cluster[i]);
        }
    }
    return 0;
}

static int read_plan(struct graph_builder *b, const struct order_head *h, struct status *st)
{
    int rc = 0;
    struct graph *g = &b->g;
    const uint8_t *p = (const uint8_t *)b->in->plan + sizeof *h;
    g->nclusters = h->nclusters;
    g->npivots = h->npivots;
    g->nsupers = h->nsupers;
    b->cluster_first = take(&p, (h->nclusters + 1) * sizeof(uint32_t));
    b->super_first = take(&p, (h->nsupers + 1) * sizeof(uint32_t));
    b->super_cluster = take(&p, h->nsupers * sizeof(uint32_t));
    b->pivot_node = take(&p, h->npivots * sizeof(uint32_t));
    b->centroids = take(&p, h->nclusters * graph__centroid_bytes(b->in->rows));
    if (!b->cluster_first || !b->super_first || !b->super_cluster || !b->pivot_node ||
        !b->centroids) {
        FAIL(st, ST_NO_MEMORY, "no memory for the order of %u rows", g->n);
    }
    TRY(graph__check_firsts("cluster", b->cluster_first, h->nclusters, h->nrows, st));
    TRY(graph__check_firsts("super", b->super_first, h->nsupers, h->nclusters, st));
    TRY(graph__count_pivots(b, st));
    if (b->pivot_first[g->nclusters] != h->npivots) {
        FAIL(st, ST_CORRUPT, "order of rows: %u groups, not %u", h->npivots,
             b->pivot_first[g->nclusters]);
    }
    TRY(check_groups(b, st));
out:
    return rc;
}

static void encode_block(void *ctx, size_t i)
{
    struct graph_builder *b = ctx;
    const struct index_rows *rows = b->in->rows;
    const uint32_t first = (uint32_t)i * ENCODE_BLOCK, end = MIN(first + ENCODE_BLOCK, b->g.n);
    memset(b->codes + first * b->g.stride, 0, (end - first) * b->g.stride);
    for (uint32_t at = first; at < end; at++) {
        codec_encode(b->codec, index_row(rows, at), rows->stride, 1, b->codes + at * b->g.stride);
    }
}

int graph__order_laid(struct graph_builder *b, struct status *st)
{
    int rc = 0;
    struct order_head h = { 0 };
    if (!b->in->plan) {
        return 0;
    }
    TRY(check_plan(b->in, &h, st));
    if (h.metric != b->in->rows->metric) { /* near means something else */
        goto out;
    }
    TRY(read_plan(b, &h, st));
    b->node_cluster = alloc_try(b->g.n * sizeof *b->node_cluster);
    if (!b->node_cluster) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u clusters of %u rows", b->g.nclusters, b->g.n);
    }
    for (uint32_t c = 0; c < b->g.nclusters; c++) {
        for (uint32_t i = b->cluster_first[c]; i < b->cluster_first[c + 1]; i++) {
            b->node_cluster[i] = c;
            b->perm[i] = i;
        }
    }
    parallel_for(b->in->pool, (b->g.n + ENCODE_BLOCK - 1) / ENCODE_BLOCK, encode_block, b);
    TRY(graph__route(b, st));
    b->laid = true;
out:
    return rc;
}
