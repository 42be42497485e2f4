/*
 * simd_i8.h - the int8 kernels of one level, written once over a few vector primitives.
 *
 * The including level file has defined, for its vector type vi (VI_BYTES elements a step):
 *
 *     struct vi_acc { ... }                            the accumulators of one row
 *     void vi_clear(struct vi_acc *)
 *     vi vi_load(const uint8_t *p)
 *     vi vi_load_tail(const uint8_t *p, size_t n)      zeros after the first n
 *     void vi_step(enum simd_kind, struct vi_acc *, vi q, vi x)
 *     void vi_sums(enum simd_kind, const struct vi_acc *, struct vi_query, int32_t *a, int32_t *b)
 *         a = the kind's sum; b = |x|^2 for cosine
 *
 * All sums are exact, so neither order nor grouping shows. VI_GROUP rows are in flight.
 */
#pragma once
#include "simd/simd_int.h"

/* Sums over the query that a level's identities need: sum of elements, sum of squares. */
struct vi_query {
    int32_t sum, sum2;
};

INL struct vi_query ti_query(enum simd_kind k, const int8_t *q, size_t dim)
{
    struct vi_query s = { 0, 0 };
    if (k != K_NORM2) {
        for (size_t i = 0; i < dim; i++) {
            s.sum += q[i];
            s.sum2 += q[i] * q[i];
        }
    }
    return s;
}

INL void ti_group(enum simd_kind k, int nr, struct vi_query s, const uint8_t *q,
                  const uint8_t *const *p, const uint8_t *const *ahead, size_t dim, float *out)
{
    struct vi_acc acc[VI_GROUP];
    size_t j = 0;
    UNROLL
    for (int r = 0; r < nr; r++) {
        vi_clear(&acc[r]);
    }
    for (; j + VI_BYTES <= dim; j += VI_BYTES) {
        vi qv = vi_load(k == K_NORM2 ? p[0] + j : q + j);
        if (ahead && j < 4096) {
            UNROLL
            for (int r = 0; r < nr; r++) {
                __builtin_prefetch(ahead[r] + j, 0, 3);
            }
        }
        UNROLL
        for (int r = 0; r < nr; r++) {
            vi_step(k, &acc[r], qv, vi_load(p[r] + j));
        }
    }
    if (j < dim) {
        vi qv = vi_load_tail(k == K_NORM2 ? p[0] + j : q + j, dim - j);
        UNROLL
        for (int r = 0; r < nr; r++) {
            vi_step(k, &acc[r], qv, vi_load_tail(p[r] + j, dim - j));
        }
    }
    UNROLL
    for (int r = 0; r < nr; r++) {
        int32_t a, b;
        vi_sums(k, &acc[r], s, &a, &b);
        out[r] = k == K_COS ? simd_cos_i32(a, s.sum2, b) : (float)a;
    }
}

INL void ti_run(enum simd_kind k, bool by_id, const uint8_t *q, const uint8_t *base, size_t stride,
                const uint32_t *ids, size_t n, size_t dim, float *out)
{
    const uint8_t *p[VI_GROUP], *ahead[VI_GROUP];
    float tmp[VI_GROUP];
    if (n == 0) {
        return;
    }
    struct vi_query s = ti_query(k, (const int8_t *)q, dim);
    size_t i = 0;
    for (; i + VI_GROUP <= n; i += VI_GROUP) {
        for (int r = 0; r < VI_GROUP; r++) {
            size_t next = i + VI_GROUP + r < n ? i + VI_GROUP + r : n - 1;
            p[r] = base + (by_id ? ids[i + r] : i + r) * stride;
            ahead[r] = base + (by_id ? ids[next] : next) * stride;
        }
        ti_group(k, VI_GROUP, s, q, p, ahead, dim, out + i);
    }
    if (n - i > 2) {
        for (int r = 0; r < VI_GROUP; r++) {
            size_t row = i + r < n ? i + r : n - 1;
            p[r] = base + (by_id ? ids[row] : row) * stride;
        }
        ti_group(k, VI_GROUP, s, q, p, NULL, dim, tmp);
        memcpy(out + i, tmp, (n - i) * sizeof tmp[0]);
        return;
    }
    for (; i < n; i++) {
        p[0] = base + (by_id ? ids[i] : i) * stride;
        ti_group(k, 1, s, q, p, NULL, dim, out + i);
    }
}

#define TI_DEFINE(op, K)                                                                           \
    static void op##_i8_rows(const void *q, const void *base, size_t stride, size_t n, size_t dim, \
                             float *out)                                                           \
    {                                                                                              \
        ti_run(K, false, q, base, stride, NULL, n, dim, out);                                      \
    }                                                                                              \
    static void op##_i8_ids(const void *q, const void *base, size_t stride, const uint32_t *ids,   \
                            size_t n, size_t dim, float *out)                                      \
    {                                                                                              \
        ti_run(K, true, q, base, stride, ids, n, dim, out);                                        \
    }
#define TI_SET(op)                                                                                 \
    ops->op[SIMD_I8].rows = op##_i8_rows;                                                          \
    ops->op[SIMD_I8].ids = op##_i8_ids

TI_DEFINE(l2, K_L2)
TI_DEFINE(ip, K_IP)
TI_DEFINE(cos, K_COS)
TI_DEFINE(norm2, K_NORM2)

INL void ti_fill(struct simd_ops *ops)
{
    TI_SET(l2);
    TI_SET(ip);
    TI_SET(cos);
    TI_SET(norm2);
}
