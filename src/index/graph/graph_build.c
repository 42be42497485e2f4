/*
 * graph_build.c - building a graph index and writing its sections.
 *
 * WHAT        The codec of the build, node order and routing (graph_order.c), links
 *             (graph_insert.c), reachability (graph_repair.c). Graphs are built on codes that lose
 *             next to nothing (SQ8, or int8 and bits as they are); types whose searches walk
 *             coarser codes get those as well at the end, so one quality of graph serves them all.
 * IP          Where lengths differ, rows are linked by inner product as it is (ip-NSW, "Non-metric
 *             Similarity Graphs for Maximum Inner Product Search"): lists lead to long rows, which
 *             are the answers. Lifting rows onto a sphere by one more dimension, which makes of it a
 *             distance, took twice the ef (words50: recall .90 at ef 20 instead of .95). Where
 *             lengths are about equal, minus the inner product plus the largest square of a length
 *             is as good as a distance, and lists are pruned by ALPHA as for the others.
 * MEMORY      n (code stride + 6 degree + 16) bytes and the edges of a batch; checked against
 *             memory_max beforehand.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "index/graph/graph_build_int.h"
#include "simd/simd.h"

/* Of squared distances. Against 1.0, recall .95 takes 10 % fewer distances and a quarter fewer hops
 * (README.md). */
#define ALPHA 1.2f
/* Rows of inner products count as equally long when their mean square is this part of the largest. */
#define EQUAL_LENGTHS 0.8

static bool codec_is_exact(enum vec_type type)
{
    return type == VEC_I8 || type == VEC_BIN;
}

static enum codec_kind build_kind(enum vec_type type)
{
    return type == VEC_I8 ? CODEC_I8 : type == VEC_BIN ? CODEC_BIN : CODEC_SQ8;
}

/* What searches walk on. */
static struct codec_spec search_spec(const struct index_params *p, enum vec_type type)
{
    static const enum codec_kind of_quant[] = {
        [QUANT_SQ4U] = CODEC_SQ4,  [QUANT_SQ6] = CODEC_SQ6,   [QUANT_SQ8] = CODEC_SQ8,
        [QUANT_FP16] = CODEC_F16,  [QUANT_BF16] = CODEC_BF16, [QUANT_FP32] = CODEC_F32,
    };
    struct codec_spec spec = { .kind = build_kind(type), .seed = p->seed };
    switch (p->type) {
    case INDEX_HNSW_SQ:
        spec.kind = type == VEC_I8 ? CODEC_I8 : of_quant[p->sq_type];
        break;
    case INDEX_HNSW_PQ:
    case INDEX_HNSW_PRQ:
        spec.kind = p->type == INDEX_HNSW_PQ ? CODEC_PQ : CODEC_PRQ;
        spec.m = p->m;
        spec.nbits = p->nbits;
        spec.nrq = p->nrq;
        break;
    default:
        break;
    }
    return spec;
}

/* Codes start on lines of their own, or share one where they are short. */
static size_t padded_stride(const struct codec *c)
{
    size_t n = codec_stride(c), to = 4;
    while (to < n && to < CACHE_LINE) {
        to *= 2;
    }
    return ROUND_UP(n, to);
}

int graph__train(const struct graph_builder *b, const struct codec_spec *spec,
                 struct codec **ret_c, struct status *st)
{
    const struct index_rows *rows = b->in->rows;
    if (codec_is_exact(rows->type) && (spec->kind == CODEC_I8 || spec->kind == CODEC_BIN)) {
        return codec_new(spec, rows->metric, rows->type, rows->dim, ret_c, st);
    }
    return codec_train(spec, rows, b->in->pool, b->in->check, b->in->check_arg, ret_c, st);
}

static int check_memory(const struct graph_builder *b, struct status *st)
{
    const size_t n = b->g.n, degree = b->g.degree;
    size_t bytes = n * (b->g.stride + 4 * degree + 16) + n / 64 * degree * 20 + ((size_t)8 << 20);
    if (b->in->memory_max && bytes > b->in->memory_max) {
        return st_fail(st, ST_NO_MEMORY, "building over %zu rows takes %zu MiB, limit %zu MiB", n,
                       bytes >> 20, b->in->memory_max >> 20);
    }
    return 0;
}

/* How keys become distances. */
static void set_scale(struct graph_builder *b)
{
    const struct index_rows *rows = b->in->rows;
    simd_rows_fn *norm2 = simd_ops()->norm2[rows->type == VEC_BIN ? VEC_I8 : rows->type].rows;
    double sum = 0, max = 0;
    b->origin = rows->metric == METRIC_COSINE ? 1.0f : 0.0f;
    b->is_distance = true;
    if (rows->metric != METRIC_IP) {
        return;
    }
    for (uint32_t i = 0; i < b->g.n; i++) {
        float x;
        norm2(NULL, index_row(rows, i), 0, 1, rows->dim, &x);
        x = x < 1e30f ? x : 0; /* NaN and Inf too */
        sum += (double)x;
        max = MAX(max, (double)x);
    }
    b->is_distance = sum >= EQUAL_LENGTHS * max * b->g.n;
    b->origin = b->is_distance ? (float)max : 0;
    b->alpha = b->is_distance ? b->alpha : 1;
}

static void views(struct graph_builder *b)
{
    struct graph *g = &b->g;
    g->codec = b->codec;
    g->codes = b->codes;
    g->perm = b->perm;
    g->links = b->links;
    g->cluster_first = b->cluster_first;
    g->centroids = b->centroids;
    g->pivot_first = b->pivot_first;
    g->pivot_node = b->pivot_node;
    g->super_first = b->super_first;
    g->super_codes = b->routing;
    g->cluster_codes = g->super_codes + (size_t)g->nsupers * g->stride;
    g->pivot_codes = g->cluster_codes + (size_t)g->nclusters * g->stride;
}

/* The codec that the build works on, and room for the order. */
static int begin(struct graph_builder *b, struct status *st)
{
    int rc = 0;
    const struct codec_spec spec = { .kind = build_kind(b->in->rows->type),
                                     .seed = b->in->params->seed };
    b->g.n = b->in->rows->nrows;
    b->g.head.rows = *b->in->rows;
    TRY(graph__train(b, &spec, &b->codec, st));
    b->g.stride = padded_stride(b->codec);
    b->perm = alloc_try(b->g.n * sizeof *b->perm);
    if (!b->perm) {
        FAIL(st, ST_NO_MEMORY, "no memory for the order of %u rows", b->g.n);
    }
out:
    return rc;
}

int graph__arrange(struct graph_builder *b, struct status *st)
{
    int rc = 0;
    TRY(begin(b, st));
    TRY(graph__order(b, st));
out:
    return rc;
}

int graph__make(struct graph_builder *b, uint32_t degree, uint32_t ef, float alpha,
                struct status *st)
{
    int rc = 0;
    uint32_t repaired;
    TRY(begin(b, st));
    b->degree = degree;
    b->g.degree = ROUND_UP(degree + degree / 2, 16u);
    b->ef = MIN(MAX(ef, degree), b->g.n);
    b->alpha = alpha;
    TRY(check_memory(b, st));
    b->codes = alloc_try_aligned(4096, (size_t)b->g.n * b->g.stride);
    b->links = alloc_try_aligned(4096, (size_t)b->g.n * b->g.degree * sizeof *b->links);
    if (!b->codes || !b->links) {
        FAIL(st, ST_NO_MEMORY, "no memory for a graph over %u rows", b->g.n);
    }
    TRY(graph__order_laid(b, st));
    if (!b->laid) {
        TRY(graph__order(b, st));
    }
    if (b->in->progress) {
        b->in->progress(b->in->progress_arg, 0.1);
    }
    views(b);
    set_scale(b);
    TRY(graph__insert_all(b, st));
    TRY(graph__repair(b, &repaired, st));
out:
    return rc;
}

/* ---- Writing ---- */

/* Codes of nodes[0 .. n) (NULL: 0, 1, ...) by a codec that is not the build's. */
static int put_encoded(struct graph_builder *b, const struct codec *c, size_t stride,
                       const uint32_t *nodes, uint32_t n, struct ixw *w, struct status *st)
{
    int rc = 0;
    enum { PART = 512 };
    const struct index_rows *rows = b->in->rows;
    uint8_t *buf = alloc_try_zero(PART * stride);
    if (!buf) {
        FAIL(st, ST_NO_MEMORY, "no memory to encode rows");
    }
    for (uint32_t at = 0; at < n; at += PART) {
        uint32_t part = MIN(n - at, (uint32_t)PART);
        for (uint32_t i = 0; i < part; i++) {
            uint32_t node = nodes ? nodes[at + i] : at + i;
            codec_encode(c, index_row(rows, b->perm[node]), rows->stride, 1, buf + i * stride);
        }
        TRY(ixw_put(w, buf, part * stride, st));
        if (b->in->check) {
            TRY(b->in->check(b->in->check_arg, st));
        }
    }
out:
    mem_free(buf);
    return rc;
}

/* The nodes whose codes lead in, in the order of the section. */
static int put_routing(struct graph_builder *b, const struct codec *c, size_t stride, struct ixw *w,
                       struct status *st)
{
    int rc = 0;
    const struct graph *g = &b->g;
    const uint32_t n = g->nsupers + g->nclusters + g->npivots;
    uint32_t at = 0, *nodes = alloc_try(MAX(n, 1u) * sizeof *nodes);
    if (!nodes) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u routing codes", n);
    }
    for (uint32_t i = 0; i < g->nsupers; i++) {
        nodes[at++] = g->pivot_node[g->pivot_first[b->super_cluster[i]]];
    }
    for (uint32_t i = 0; i < g->nclusters; i++) {
        nodes[at++] = g->pivot_node[g->pivot_first[i]];
    }
    for (uint32_t i = 0; i < g->npivots; i++) {
        nodes[at++] = g->pivot_node[i];
    }
    TRY(put_encoded(b, c, stride, nodes, n, w, st));
out:
    mem_free(nodes);
    return rc;
}

static int put_codes(struct graph_builder *b, const struct codec *c, size_t stride, struct ixw *w,
                     struct status *st)
{
    int rc = 0;
    const struct graph *g = &b->g;
    TRY(ixw_begin(w, GRAPH_CODE, st));
    if (c == b->codec) {
        TRY(ixw_put(w, b->codes, (size_t)g->n * stride, st));
    } else {
        TRY(put_encoded(b, c, stride, NULL, g->n, w, st));
    }
    TRY(ixw_end(w, st));
    TRY(ixw_begin(w, GRAPH_ROUT, st));
    if (c == b->codec) {
        TRY(ixw_put(w, b->routing, ((size_t)g->nsupers + g->nclusters + g->npivots) * stride, st));
    } else {
        TRY(put_routing(b, c, stride, w, st));
    }
    TRY(ixw_end(w, st));
out:
    return rc;
}

static int put_all(struct graph_builder *b, struct ixw *w, struct status *st)
{
    int rc = 0;
    const struct graph *g = &b->g;
    const struct codec_spec spec = search_spec(b->in->params, b->in->rows->type);
    struct codec *own = NULL;
    const struct codec *c = b->codec;
    size_t size;
    struct graph_codes quality;
    TRY(graph__search_codec(b, &spec, b->in->params->type == INDEX_HNSW, &own, &quality, st));
    c = own ? own : c;
    const struct graph_meta meta = { .n = g->n, .degree = g->degree, .nclusters = g->nclusters,
                                     .npivots = g->npivots, .nsupers = g->nsupers,
                                     .off = quality.off, .ten_in = quality.ten_in,
                                     .stride = (uint32_t)padded_stride(c) };
    const void *blob = codec_blob(c, &size);
    TRY(ixw_section(w, GRAPH_META, &meta, sizeof meta, st));
    TRY(ixw_section(w, GRAPH_CODC, blob, size, st));
    if (!b->laid) {
        TRY(ixw_section(w, GRAPH_PERM, b->perm, g->n * sizeof(uint32_t), st));
    }
    TRY(ixw_section(w, GRAPH_CLUS, b->cluster_first, (g->nclusters + 1) * sizeof(uint32_t), st));
    TRY(ixw_section(w, GRAPH_CENT, b->centroids,
                    g->nclusters * graph__centroid_bytes(b->in->rows), st));
    TRY(ixw_section(w, GRAPH_PIVF, b->pivot_first, (g->nclusters + 1) * sizeof(uint32_t), st));
    TRY(ixw_section(w, GRAPH_PIVN, b->pivot_node, g->npivots * sizeof(uint32_t), st));
    TRY(ixw_section(w, GRAPH_SUPF, b->super_first, (g->nsupers + 1) * sizeof(uint32_t), st));
    TRY(ixw_section(w, GRAPH_LINK, b->links, (size_t)g->n * g->degree * sizeof(uint32_t), st));
    TRY(put_codes(b, c, meta.stride, w, st));
    if (graph__bits_wanted(b->in->rows, codec_kind_of(c))) {
        TRY(graph__bits_put(b, w, st));
    }
out:
    codec_free(own);
    return rc;
}

void graph__builder_done(struct graph_builder *b)
{
    for (int i = 0; i < SCRATCH_SLOTS; i++) {
        graph__scratch_free(scratch_take(&b->g.scratch));
    }
    codec_free(b->codec);
    mem_free(b->codes);
    mem_free(b->perm);
    mem_free(b->links);
    mem_free(b->cluster_first);
    mem_free(b->pivot_first);
    mem_free(b->pivot_node);
    mem_free(b->super_first);
    mem_free(b->super_cluster);
    mem_free(b->centroids);
    mem_free(b->routing);
    mem_free(b->order);
    mem_free(b->rank);
    mem_free(b->node_cluster);
    mem_free(b->edges);
    mem_free(b->edges_tmp);
    mem_free(b->runs);
}

int graph__build(const struct index_build *in, struct ixw *w, struct status *st)
{
    int rc = 0;
    struct graph_builder *b = xalloc(sizeof *b);
    b->in = in;
    if (in->rows->nrows == 0) {
        const struct graph_meta meta = { 0 };
        TRY(ixw_section(w, GRAPH_META, &meta, sizeof meta, st));
        goto out;
    }
    TRY(graph__make(b, ROUND_UP(2 * in->params->M, 16u), in->params->ef_construction, ALPHA, st));
    TRY(put_all(b, w, st));
out:
    graph__builder_done(b);
    mem_free(b);
    return rc;
}
