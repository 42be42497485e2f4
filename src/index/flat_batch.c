/*
 * flat_batch.c - exact search for many queries at once.
 *
 * WHAT        The tile kernel computes inner products of all queries with a block of rows in
 *             registers and reports the pairs that may beat their list's bound. Those few are
 *             scored again by the kernel of the metric and pushed. The result is therefore the one
 *             of the plain scan, while nearly all work runs at the multiply-add rate of the core.
 *
 * INVARIANTS  A pair whose exact-kernel score would be kept is always reported. Let u = 2^-24, q
 *             and x the vectors, ip* the tile's product, T the bound (the worst score of interest),
 *             s = 2 (dim + 32) u, which exceeds the sum of the relative errors of the tile's
 *             product ((dim + 1) u), of the kernel's own score and of the norms ((dim + 18) u each,
 *             see simd.h), and of the few roundings of the test itself.
 *
 *             L2      |q|^2 + |x|^2 - 2 ip <= T, so
 *                     ip* - (1 - s) |x|^2 / 2  >=  (1 - s) |q|^2 / 2 - (1 + s) T / 2
 *             IP      ip* + s |q| |x|  >=  T
 *             COSINE  queries are packed divided by |q|:   ip* - (T - 2 s) |x|  >=  0
 *
 *             Each is  ip* + row_bias * q_weight > q_cut  with q_cut one step lower than computed
 *             and lowered by what denormals can hide. Where a squared norm is outside
 *             [2^-100, 2^125] (for L2 and IP: above 2^125) the error bound does not hold: row or
 *             query then carries a NaN, which the tile always reports.
 * THREADS     No state; any thread.
 * MEMORY      One allocation per call: packed queries (dim * 4 bytes each, at most about 512 KiB
 *             at a time), a block of rows widened to f32 unless they are f32 already, and the hits
 *             of one block (12 bytes * queries * rows). About 2 MB, 16 at dim 32,768.
 * WHY         L2 through norms alone loses digits when |q - x| is small beside |q|: so every kept
 *             score is recomputed. Packing rows instead of queries would repeat per search.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "index/flat_int.h"

#define QUERY_BYTES (512u << 10)
#define QUERY_MAX 384 /* a multiple of 48, the tile's width at its widest */
#define ROWS_MAX 128

struct tiles {
    const struct flat_rows *rows;
    const struct simd_ops *ops;
    struct simd_dist dist;
    struct topk *tk;
    const uint8_t *queries; /* of this chunk */
    size_t query_stride;
    uint32_t query0, nq; /* the chunk's first list, its length */
    double slack;        /* s above */
    void *scratch;
    float *qpack, *q_weight, *q_cut, *q_norm2, *scale, *row_bias, *wide, *score;
    struct simd_hit *hits;
    uint32_t *start, *ids;
};

static float below(double v)
{
    float f = (float)v;
    return isnan(f) ? f : nextafterf(f, -INFINITY);
}

/* The test's right side for query j, from its list's bound now. */
static void set_cut(struct tiles *t, uint32_t j)
{
    const double tiny = (double)t->rows->dim * 0x1p-120;
    double bound = topk_bound(t->tk, t->query0 + j), qq = t->q_norm2[j];
    double low = t->rows->metric == METRIC_COSINE ? 0x1p-100 : 0;
    if (!(qq >= low && qq <= 0x1p125)) {
        t->q_weight[j] = 0;
        t->q_cut[j] = NAN;
        return;
    }
    switch (t->rows->metric) {
    case METRIC_L2:
        t->q_weight[j] = 1;
        t->q_cut[j] = below((1 - t->slack) * qq / 2 - (1 + t->slack) * bound / 2 - tiny);
        break;
    case METRIC_IP:
        t->q_weight[j] = (float)(t->slack * sqrt(qq));
        t->q_cut[j] = below(bound - tiny);
        break;
    default:
        t->q_weight[j] = (float)(2 * t->slack - bound);
        t->q_cut[j] = (float)-tiny;
        break;
    }
}

static void set_row_bias(struct tiles *t, const void *block, size_t stride, size_t n)
{
    double low = t->rows->metric == METRIC_COSINE ? 0x1p-100 : 0;
    t->ops->norm2[SIMD_F32].rows(NULL, block, stride, n, t->rows->dim, t->row_bias);
    for (size_t i = 0; i < n; i++) {
        float xx = t->row_bias[i];
        t->row_bias[i] = !((double)xx >= low && xx <= 0x1p125f) ? NAN
                         : t->rows->metric == METRIC_L2 ? (float)(-(1 - t->slack) * (double)xx / 2)
                                                        : sqrtf(xx);
    }
}

/* Scores the hits with the metric's own kernel, query by query, and pushes them. */
static void push_hits(struct tiles *t, const struct flat_batch *b, size_t nhits)
{
    const struct flat_rows *rows = t->rows;
    memset(t->start, 0, (t->nq + 2) * sizeof t->start[0]);
    for (size_t h = 0; h < nhits; h++) {
        t->start[t->hits[h].query + 2]++;
    }
    for (uint32_t j = 2; j < t->nq + 2; j++) {
        t->start[j] += t->start[j - 1];
    }
    for (size_t h = 0; h < nhits; h++) { /* afterwards start[j + 1] is where query j ends */
        uint32_t row = t->hits[h].row;
        t->ids[t->start[t->hits[h].query + 1]++] = b->ids ? b->ids[row] : (uint32_t)b->first + row;
    }
    for (uint32_t j = 0; j < t->nq; j++) {
        const uint32_t *ids = t->ids + t->start[j];
        size_t n = t->start[j + 1] - t->start[j];
        if (n == 0) {
            continue;
        }
        t->dist.ids(t->queries + j * t->query_stride, rows->base, rows->stride, ids, n, rows->dim,
                    t->score);
        for (size_t i = 0; i < n; i++) {
            if (!b->allow || (b->allow[ids[i] >> 6] >> (ids[i] & 63) & 1)) {
                topk_push(t->tk, t->query0 + j, t->score[i], rows->row_base + ids[i]);
            }
        }
        set_cut(t, j);
    }
}

static void tile_batch(void *arg, const struct flat_batch *b)
{
    struct tiles *t = arg;
    const struct flat_rows *rows = t->rows;
    const uint8_t *base = rows->base;
    const void *block = base + b->first * rows->stride;
    size_t stride = rows->stride;
    if (b->ids) { /* gathered into neighbours first; the tile then reads them many times */
        for (size_t i = 0; i < b->n; i++) {
            if (i + 8 < b->n) {
                __builtin_prefetch(base + b->ids[i + 8] * rows->stride);
            }
            t->ops->widen[rows->type](base + b->ids[i] * rows->stride, rows->stride, 1, rows->dim,
                                      t->wide + i * rows->dim);
        }
    } else if (rows->type != VEC_F32) {
        t->ops->widen[rows->type](block, rows->stride, b->n, rows->dim, t->wide);
    }
    if (b->ids || rows->type != VEC_F32) {
        block = t->wide;
        stride = rows->dim * sizeof(float);
    }
    set_row_bias(t, block, stride, b->n);
    struct simd_tile tile = { .qpack = t->qpack,
                              .nq = t->nq,
                              .dim = rows->dim,
                              .q_weight = t->q_weight,
                              .q_cut = t->q_cut,
                              .base = block,
                              .stride = stride,
                              .nrows = b->n,
                              .row_bias = t->row_bias };
    if (block != t->wide && b->first + 2 * b->n <= rows->nrows) {
        tile.ahead = (const uint8_t *)block + b->n * stride;
    }
    size_t nhits = t->ops->tile_f32(&tile, t->hits);
    if (nhits) {
        push_hits(t, b, nhits);
    }
}

static void *carve(uint8_t **p, size_t len)
{
    void *at = *p;
    *p += ROUND_UP(len, (size_t)64);
    return at;
}

/* chunk queries and nrows rows at most. */
static int scratch_new(struct tiles *t, size_t chunk, size_t nrows, struct status *st)
{
    size_t dim = t->rows->dim, pack = simd_pack_len(chunk, dim) * sizeof(float);
    size_t pairs = chunk * nrows, wide = nrows * dim * sizeof(float);
    size_t queries = chunk * dim * sizeof(float);
    size_t padded = ROUND_UP(chunk, (size_t)SIMD_TILE) * sizeof(float);
    size_t len = pack + 4 * padded + 2 * nrows * sizeof(float) + MAX(wide, queries) +
                 pairs * (sizeof(struct simd_hit) + sizeof(uint32_t)) +
                 (chunk + 2) * sizeof(uint32_t) + 64 * 16;
    uint8_t *p = alloc_try_aligned(64, len);
    if (!p) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %zu bytes of search scratch", len);
    }
    t->scratch = p;
    t->qpack = carve(&p, pack);
    t->q_weight = carve(&p, padded);
    t->q_cut = carve(&p, padded);
    t->q_norm2 = carve(&p, padded);
    t->scale = carve(&p, padded);
    t->row_bias = carve(&p, nrows * sizeof(float));
    t->score = carve(&p, nrows * sizeof(float));
    t->wide = carve(&p, MAX(wide, queries));
    t->hits = carve(&p, pairs * sizeof(struct simd_hit));
    t->ids = carve(&p, pairs * sizeof(uint32_t));
    t->start = carve(&p, (chunk + 2) * sizeof(uint32_t));
    return 0;
}

/* Packs the chunk's queries and sets what the test needs to know of them. */
static void load_queries(struct tiles *t)
{
    enum vec_type type = t->rows->type;
    size_t dim = t->rows->dim, padded = ROUND_UP((size_t)t->nq, (size_t)SIMD_TILE);
    t->ops->widen[type](t->queries, t->query_stride, t->nq, dim, t->wide);
    t->ops->norm2[SIMD_F32].rows(NULL, t->wide, dim * sizeof(float), t->nq, dim, t->q_norm2);
    bool unit = t->rows->metric == METRIC_COSINE;
    for (uint32_t j = 0; unit && j < t->nq; j++) {
        t->scale[j] = t->q_norm2[j] > 0 ? (float)(1 / sqrt((double)t->q_norm2[j])) : 0;
    }
    simd_pack_f32(t->wide, dim * sizeof(float), t->nq, dim, unit ? t->scale : NULL, t->qpack);
    for (size_t j = t->nq; j < padded; j++) {
        t->q_weight[j] = 0;
        t->q_cut[j] = INFINITY;
    }
    for (uint32_t j = 0; j < t->nq; j++) {
        set_cut(t, j);
    }
}

int flat__search_tiles(const struct flat_rows *rows, const struct flat_query *query,
                       struct topk *tk, struct status *st)
{
    int rc = 0;
    struct tiles t = { .rows = rows,
                       .tk = tk,
                       .ops = simd_ops(),
                       .query_stride = query->query_stride,
                       .slack = 2 * ((double)rows->dim + 32) * 0x1p-24 };
    t.dist = flat__dist(t.ops, rows->metric, rows->type);
    /* Equal chunks of queries, so that none is a small rest. */
    uint32_t most = (uint32_t)(QUERY_BYTES / (rows->dim * sizeof(float)) / 48 * 48);
    most = MAX(MIN(most, (uint32_t)QUERY_MAX), 48u);
    uint32_t chunks = (query->nq + most - 1) / most;
    uint32_t chunk = MIN(ROUND_UP((query->nq + chunks - 1) / chunks, 16u), query->nq);
    size_t nrows = (256u << 10) / (rows->dim * sizeof(float)) / 64 * 64;
    nrows = MAX(MIN(nrows, (size_t)ROWS_MAX), (size_t)64);
    TRY(scratch_new(&t, chunk, nrows, st));
    for (uint32_t at = 0; at < query->nq; at += chunk) {
        t.query0 = at;
        t.nq = MIN(chunk, query->nq - at);
        t.queries = (const uint8_t *)query->queries + at * query->query_stride;
        load_queries(&t);
        /* Pairs, not bytes, are the work: rows that are not allowed are left out even if few. */
        struct flat_plan plan = { .max_rows = nrows,
                                  .work_factor = t.nq / 8 + 1,
                                  .dense_percent = 95 };
        TRY(flat__walk(rows, query, &plan, tile_batch, &t, st));
    }
out:
    mem_free(t.scratch);
    return rc;
}
