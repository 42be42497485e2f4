/*
 * whole.c - CODEC_I8 and CODEC_BIN: the row is its own code.
 *
 * An int8 row cannot be divided by its length, so COSINE keys come from the cosine kernel. Sums
 * are exact: keys are the true ones and their own lower bounds. A prepared query is the row.
 */
#include <string.h>

#include "index/quant/codec_int.h"

static int whole_open(struct codec *c, struct status *st)
{
    (void)st;
    c->stride = vec_bytes(c->type, c->dim);
    c->query_bytes = ROUND_UP(c->stride, 64);
    return 0;
}

static void whole_encode(const struct codec *c, const void *row, uint8_t *code)
{
    memcpy(code, row, vec_bytes(c->type, c->dim));
}

static void whole_query(const struct codec *c, const void *query, void *pq)
{
    memcpy(pq, query, vec_bytes(c->type, c->dim));
}

static void whole_query_code(const struct codec *c, const uint8_t *code, void *pq)
{
    memcpy(pq, code, c->stride);
}

static void i8_decode(const struct codec *c, const uint8_t *code, float *out)
{
    codec__widen(c, code, out);
}

/* Bits as 0 and 1. */
static void bin_decode(const struct codec *c, const uint8_t *code, float *out)
{
    for (size_t i = 0; i < c->dim; i++) {
        out[i] = (float)(code[i / 8] >> (i % 8) & 1);
    }
}

static const struct simd_dist *whole_dist(const struct codec *c)
{
    switch (c->metric) {
    case METRIC_L2:
        return &c->simd->l2[SIMD_I8];
    case METRIC_IP:
        return &c->simd->ip[SIMD_I8];
    case METRIC_COSINE:
        return &c->simd->cos[SIMD_I8];
    case METRIC_HAMMING:
        return &c->simd->hamming;
    case METRIC_JACCARD:
        return &c->simd->jaccard;
    case METRIC_SUBSTRUCTURE:
        return &c->simd->subset;
    default:
        return &c->simd->superset;
    }
}

static void whole_sign(const struct codec *c, size_t n, float *keys)
{
    if (metric_larger_is_better(c->metric)) {
        for (size_t i = 0; i < n; i++) {
            keys[i] = -keys[i];
        }
    }
}

static void whole_rows(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                       size_t n, float *keys)
{
    whole_dist(c)->rows(pq, base, stride, n, c->dim, keys);
    whole_sign(c, n, keys);
}

static void whole_ids(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                      const uint32_t *ids, size_t n, float *keys)
{
    whole_dist(c)->ids(pq, base, stride, ids, n, c->dim, keys);
    whole_sign(c, n, keys);
}

static void whole_bound(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                        const uint32_t *ids, size_t n, float *keys, float *lows)
{
    if (ids) {
        whole_ids(c, pq, base, stride, ids, n, keys);
    } else {
        whole_rows(c, pq, base, stride, n, keys);
    }
    memcpy(lows, keys, n * sizeof *keys);
}

const struct codec_ops codec__i8 = {
    .kind = CODEC_I8,
    .types = 1u << VEC_I8,
    .open = whole_open,
    .encode = whole_encode,
    .decode = i8_decode,
    .query = whole_query,
    .query_code = whole_query_code,
    .rows = whole_rows,
    .ids = whole_ids,
    .bound = whole_bound,
    .bounds_free = true,
};

const struct codec_ops codec__bin = {
    .kind = CODEC_BIN,
    .types = 1u << VEC_BIN,
    .open = whole_open,
    .encode = whole_encode,
    .decode = bin_decode,
    .query = whole_query,
    .query_code = whole_query_code,
    .rows = whole_rows,
    .ids = whole_ids,
    .bound = whole_bound,
    .bounds_free = true,
};
