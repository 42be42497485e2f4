/*
 * graph_sketch.c - what a search prepares to read the sketches beside a node's links.
 *
 * WHAT        Beside its links a node has, for each neighbour, a few bits that tell roughly where
 *             the neighbour lies from the node. A walk reads them with the links, in one run of
 *             lines, and fetches codes only of neighbours that may be near enough: codes lie
 *             anywhere in memory, and fetching them is most of what a walk costs.
 *             graph_build_sketch.c makes them; the idea of codes beside the links, relative to the
 *             node, is SymphonyQG's ("Symphonious Integration of Quantization and Graph for
 *             Approximate Nearest Neighbor Search"), one bit a dimension RaBitQ's.
 * ESTIMATE    r = x - c leads from node c to neighbour x, P is a projection onto `bits` directions
 *             in which such steps differ most, s the signs of P r. For a query q
 *                 (q - c).r ~ kappa |r| (s.Pq - s.Pc)
 *             and so, key(q, c) being known, key(q, x) ~ key(q, c) + a - b s.Pq with
 *                 L2          a = |r|^2 + b s.Pc        b = 2 kappa |r|
 *                 COSINE      a = |r|^2 / 2 + b s.Pc    b = kappa |r|
 *                 IP          a = -c.r + b s.Pc         b = kappa |r|
 *             What the estimate is off by grows with |q - c| |r|: tau |q - c| b is taken off it.
 *             tau is measured by the build, such that few of those that belong into a pool are
 *             passed over.
 *             A neighbour passed over at one node gets another chance at the next.
 * QUERY       s.Pq comes from tables: 16 entries for the signs of four directions, in steps of one
 *             127th of the largest table. Pq is taken with q in 8-bit integers.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "index/graph/graph_int.h"
#include "simd/simd.h"

uint32_t graph__sketch_bits(const struct index_rows *rows, enum codec_kind kind)
{
    if (kind != CODEC_SQ8 || rows->nrows < GRAPH_SKETCH_ROWS || rows->dim < 64 ||
        rows->dim > GRAPH_SKETCH_DIM_MAX) {
        return 0;
    }
    const size_t bits = (rows->dim * 23 / 100 + 4) / 8 * 8;
    return (uint32_t)MIN(bits, (size_t)GRAPH_SKETCH_BITS_MAX);
}

size_t graph__sketch_query_bytes(size_t dim, uint32_t bits)
{
    return sizeof(struct graph_sketch_query) + 2 * SIMD_SKETCH_LUT(bits / 8) +
           ROUND_UP(dim, (size_t)64) * 2;
}

/* Sums of every choice of signs of z[0 .. 4), as integers from 0 on; low: the least of them. */
static void put_table(const float *z, float low, float inv, uint8_t *to)
{
    for (unsigned i = 0; i < 16; i++) {
        const float sum = (i & 1 ? z[0] : -z[0]) + (i & 2 ? z[1] : -z[1]) +
                          (i & 4 ? z[2] : -z[2]) + (i & 8 ? z[3] : -z[3]);
        to[i] = (uint8_t)(int)((sum - low) * inv + 0.5f);
    }
}

static void put_tables(const float *z, uint32_t bits, struct graph_sketch_query *sq)
{
    uint8_t *lo = sq->room, *hi = lo + SIMD_SKETCH_LUT(bits / 8);
    float low[GRAPH_SKETCH_BITS_MAX / 4], most = 0, base = 0;
    for (uint32_t i = 0; i < bits / 4; i++) {
        const float *v = z + 4 * i;
        low[i] = -(fabsf(v[0]) + fabsf(v[1]) + fabsf(v[2]) + fabsf(v[3]));
        most = -low[i] > most ? -low[i] : most;
        base += low[i];
    }
    float step = 2 * most / 127, inv = step > 0x1p-120f && step < 0x1p120f ? 1 / step : 0;
    memset(sq->room, 0, 2 * SIMD_SKETCH_LUT(bits / 8));
    for (uint32_t i = 0; inv > 0 && i < bits / 8; i++) {
        put_table(z + 8 * i, low[2 * i], inv, lo + 16 * i);
        put_table(z + 8 * i + 4, low[2 * i + 1], inv, hi + 16 * i);
    }
    sq->base = isfinite(base) ? base : 1e30f; /* all pass, as far as this can see to it */
    sq->s = (struct simd_sketch){ .lo = lo, .hi = hi, .rows = bits / 8,
                                  .step = inv > 0 ? step : 0 };
}

void graph__sketch_query(const struct graph_sketch *k, const struct index_rows *rows,
                         const void *query, struct graph_sketch_query *sq)
{
    const struct simd_ops *ops = simd_ops();
    float wide[GRAPH_SKETCH_DIM_MAX], z[GRAPH_SKETCH_BITS_MAX], size;
    int8_t *hi = (int8_t *)sq->room + 2 * SIMD_SKETCH_LUT(k->bits / 8);
    int8_t *lo = hi + ROUND_UP(rows->dim, (size_t)64);
    int32_t most = 0;
    ops->widen[(enum simd_type)rows->type](query, 0, 1, rows->dim, wide);
    ops->norm2[SIMD_F32].rows(NULL, wide, 0, 1, rows->dim, &size);
    for (size_t i = 0; i < rows->dim; i++) { /* bits of magnitudes compare as they do */
        int32_t b;
        memcpy(&b, &wide[i], sizeof b);
        b &= INT32_MAX;
        most = b > most ? b : most;
    }
    float top, scale = 1;
    memcpy(&top, &most, sizeof top);
    const float inv = top > 0x1p-100f && top < 0x1p100f ? 127 * 128 / top : 0;
    ops->round_bytes(wide, rows->dim, inv, hi, lo);
    ops->ip[SIMD_I8].rows(hi, k->matrix, rows->dim, k->bits, rows->dim, z);
    if (rows->metric == METRIC_COSINE) {
        scale = size > 0 ? 1 / sqrtf(size) : 0;
    }
    scale *= inv > 0 ? 128 / inv * k->unit : 0;
    for (uint32_t i = 0; i < k->bits; i++) {
        z[i] = z[i] * scale - k->centre[i];
    }
    put_tables(z, k->bits, sq);
    /* |q - c|^2 = from + by key + what the node says */
    sq->from = rows->metric == METRIC_L2 ? 0 : rows->metric == METRIC_COSINE ? 2 : size;
    sq->by = rows->metric == METRIC_L2 ? 1 : 2;
}

void graph__query(const struct graph *g, const void *query, struct graph_scratch *s)
{
    codec_query(g->codec, query, s->pq);
    if (s->sq) {
        graph__sketch_query(&g->sketch, &g->head.rows, query, s->sq);
        s->sketched = true;
    }
}

int graph__sketch_open(struct graph *g, const struct ix_file *f, uint32_t bits, struct status *st)
{
    int rc = 0;
    const size_t dim = g->head.rows.dim;
    struct graph_sketch *k = &g->sketch;
    const void *p;
    if (bits != graph__sketch_bits(&g->head.rows, codec_kind_of(g->codec))) {
        FAIL(st, ST_CORRUPT, "index file: a graph with sketches of %u bits", bits);
    }
    TRY(ix_section(f, GRAPH_SKCH, GRAPH_SKETCH_BYTES(dim, bits), &p, NULL, st));
    const float *head = p;
    k->bits = bits;
    k->tau = head[0];
    k->unit = head[1];
    k->centre = head + GRAPH_SKETCH_HEAD / sizeof *head;
    k->matrix = (const int8_t *)(k->centre + bits);
    bool sane = isfinite(k->tau) && isfinite(k->unit);
    for (uint32_t i = 0; i < bits; i++) {
        sane &= isfinite(k->centre[i]);
    }
    if (!sane) {
        FAIL(st, ST_CORRUPT, "index file: sketches scaled by %g and %g", (double)k->tau,
             (double)k->unit);
    }
out:
    return rc;
}
