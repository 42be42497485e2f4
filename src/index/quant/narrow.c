/*
 * narrow.c - CODEC_F32, CODEC_F16, CODEC_BF16: the row itself, in a narrower type.
 *
 * CODE        dim elements, nearest, ties to even; with bounds, f32 |x - x^| rounded up and f32
 *             |x^| rounded up. A value past the half's range becomes infinite, and its bound none.
 * QUERY       f32, so only the code's rounding counts; negated for IP and COSINE, so that the
 *             kernel's inner product is the key.
 * BOUND       Triangle inequality: |q - x| >= |q - x^| - e, |q.x - q.x^| <= |q| e, and the kernels'
 *             own rounding (simd.h) on both sides: lows hold for the exact metric and for what an
 *             f32 kernel makes of the raw rows.
 */
#include <math.h>
#include <string.h>

#include "index/quant/codec_int.h"

struct narrow_query {
    float norm; /* |q|, rounded up */
    float pad[15];
    float v[];
};

static size_t elem_bytes(const struct codec *c)
{
    return c->u.narrow.type == SIMD_F32 ? 4 : 2;
}

static int narrow_open(struct codec *c, struct status *st)
{
    (void)st;
    c->u.narrow.type = codec_kind_of(c) == CODEC_F32   ? SIMD_F32
                       : codec_kind_of(c) == CODEC_F16 ? SIMD_F16
                                                       : SIMD_BF16;
    size_t bytes = c->dim * elem_bytes(c);
    c->stride = ROUND_UP(bytes, 4) + (c->bounds ? 8 : 0);
    c->query_bytes = ROUND_UP(sizeof(struct narrow_query) + c->dim * sizeof(float), 64);
    return 0;
}

static void narrow_decode(const struct codec *c, const uint8_t *code, float *out)
{
    c->simd->widen[c->u.narrow.type](code, 0, 1, c->dim, out);
}

static void put_error(const struct codec *c, const float *row, uint8_t *code)
{
    float back[INDEX_DIM_MAX], pair[2];
    double e = 0;
    narrow_decode(c, code, back);
    for (size_t i = 0; i < c->dim; i++) {
        double d = (double)row[i] - (double)back[i];
        e += d * d;
    }
    /* A row divided by its length was rounded once more before it came here. */
    double unit = c->metric == METRIC_COSINE ? 0x1p-23 : 0;
    pair[0] = codec__up(sqrt(e) * (1 + 1e-12) + unit);
    pair[1] = codec__up(codec__norm(back, c->dim) * (1 + 1e-12));
    memcpy(code + c->stride - 8, pair, 8);
}

static void narrow_encode(const struct codec *c, const void *row, uint8_t *code)
{
    if (c->u.narrow.type == SIMD_F32) {
        memcpy(code, row, c->dim * 4);
    } else {
        c->simd->narrow[c->u.narrow.type](row, c->dim, code);
    }
    if (c->bounds) {
        put_error(c, row, code);
    }
}

static void narrow_query(const struct codec *c, const void *query, void *pq)
{
    struct narrow_query *q = pq;
    const float *v = query;
    q->norm = codec__up(codec__norm(v, c->dim) * (1 + 1e-12));
    for (size_t i = 0; i < c->dim; i++) {
        q->v[i] = c->metric == METRIC_L2 ? v[i] : -v[i];
    }
}

static const struct simd_dist *narrow_dist(const struct codec *c)
{
    return c->metric == METRIC_L2 ? &c->simd->l2q[c->u.narrow.type]
                                  : &c->simd->ipq[c->u.narrow.type];
}

static void narrow_rows(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                        size_t n, float *keys)
{
    narrow_dist(c)->rows(((const struct narrow_query *)pq)->v, base, stride, n, c->dim, keys);
}

static void narrow_ids(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                       const uint32_t *ids, size_t n, float *keys)
{
    narrow_dist(c)->ids(((const struct narrow_query *)pq)->v, base, stride, ids, n, c->dim, keys);
}

static float narrow_low(const struct codec *c, const struct narrow_query *q, const uint8_t *code,
                        float key)
{
    double e = (double)codec__f32(code + c->stride - 8);
    double norm = (double)codec__f32(code + c->stride - 4);
    double u = codec__sum_error(c->dim), tiny = (double)c->dim * 0x1p-140, low;
    if (c->metric == METRIC_L2) {
        double d = sqrt(fmax((double)key * (1 - u) - tiny, 0)) - e;
        low = d > 0 ? d * d * (1 - u) - tiny : 0;
    } else {
        /* Both the key and an f32 score of the raw row carry the error of a sum. */
        double qn = (double)q->norm;
        low = (double)key - qn * e - u * qn * (2 * norm + e) - tiny;
        low -= c->metric == METRIC_COSINE ? 2 * u : 0;
    }
    return low > -INFINITY ? -codec__up(-low) : -INFINITY; /* also when not a number */
}

static void narrow_bound(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                         const uint32_t *ids, size_t n, float *keys, float *lows)
{
    if (ids) {
        narrow_ids(c, pq, base, stride, ids, n, keys);
    } else {
        narrow_rows(c, pq, base, stride, n, keys);
    }
    for (size_t i = 0; i < n; i++) {
        lows[i] = narrow_low(c, pq, codec__at(base, stride, ids, i), keys[i]);
    }
}

const struct codec_ops codec__narrow = {
    .kind = CODEC_F32,
    .types = 1u << VEC_F32 | 1u << VEC_F16 | 1u << VEC_BF16 | 1u << VEC_I8,
    .float_code = true,
    .open = narrow_open,
    .encode = narrow_encode,
    .decode = narrow_decode,
    .query = narrow_query,
    .rows = narrow_rows,
    .ids = narrow_ids,
    .bound = narrow_bound,
};
