/*
 * simd_float.h - the float kernels of one level, written once over a few vector primitives.
 *
 * The including level file has defined, for its vector type vf of VF_LANES elements:
 *
 *     vf vf_zero(void)                              vf vf_sub(vf a, vf b)
 *     vf vf_fma(vf a, vf b, vf c)                   a * b + c
 *     vf vf_load(enum simd_type t, const uint8_t *p)            VF_LANES elements, widened
 *     vf vf_load_tail(enum simd_type t, const uint8_t *p, size_t n)  the first n, then zeros
 *     void vf_reduce4(const vf *v, float *out)      out[0..4) = sums of four vectors
 *     float vf_reduce1(vf v)                        the same sum in the same order
 *
 * and VF_COS_GROUP, the rows cosine can take at once with two accumulators each.
 *
 * Eight rows are in flight with one accumulator each: eight independent chains hide the latency
 * of the multiply-add, the query vector is loaded once for all of them, and a row's sum does not
 * depend on its neighbours. What is left of a batch runs through the same code with the last row
 * repeated, so that every row is summed in the same order wherever it stands.
 */
#pragma once
#include "simd/simd_int.h"

/* Rows shorter than this are prefetched whole, one group ahead; of longer ones the hardware's own
 * streams fetch the rest once the beginning has been asked for. */
#define TF_AHEAD_BYTES 4096

INL void tf_step(enum simd_kind k, vf *a, vf *b, vf q, vf x)
{
    if (k == K_L2) {
        vf d = vf_sub(q, x);
        *a = vf_fma(d, d, *a);
    } else if (k == K_NORM2) {
        *a = vf_fma(x, x, *a);
    } else {
        *a = vf_fma(q, x, *a);
        if (k == K_COS) {
            *b = vf_fma(x, x, *b);
        }
    }
}

/* Sums of nr rows (a compile-time 1, 4 or 8) into a[] and, for cosine, |x|^2 into b[]. ahead holds
 * nr pointers to fetch, or is NULL. */
INL void tf_group(enum simd_kind k, enum simd_type t, int nr, const uint8_t *q,
                  const uint8_t *const *p, const uint8_t *const *ahead, size_t dim, float *ret_a,
                  float *ret_b)
{
    vf a[SIMD_GROUP], b[SIMD_GROUP];
    size_t es = simd_elem_size(t), j = 0;
    size_t ahead_dim = ahead ? TF_AHEAD_BYTES / es : 0;
    UNROLL
    for (int r = 0; r < nr; r++) {
        a[r] = b[r] = vf_zero();
    }
    for (; j + VF_LANES <= dim; j += VF_LANES) {
        vf qv = k == K_NORM2 ? vf_zero() : vf_load(t, q + j * es);
        if (ahead && j < ahead_dim) {
            UNROLL
            for (int r = 0; r < nr; r++) {
                __builtin_prefetch(ahead[r] + j * es, 0, 3);
            }
        }
        UNROLL
        for (int r = 0; r < nr; r++) {
            tf_step(k, &a[r], &b[r], qv, vf_load(t, p[r] + j * es));
        }
    }
    if (j < dim) {
        vf qv = k == K_NORM2 ? vf_zero() : vf_load_tail(t, q + j * es, dim - j);
        UNROLL
        for (int r = 0; r < nr; r++) {
            tf_step(k, &a[r], &b[r], qv, vf_load_tail(t, p[r] + j * es, dim - j));
        }
    }
    if (nr == 1) {
        ret_a[0] = vf_reduce1(a[0]);
        ret_b[0] = k == K_COS ? vf_reduce1(b[0]) : 0;
        return;
    }
    UNROLL
    for (int r = 0; r < nr; r += 4) {
        vf_reduce4(a + r, ret_a + r);
        if (k == K_COS) {
            vf_reduce4(b + r, ret_b + r);
        }
    }
}

INL void tf_finish(enum simd_kind k, int nr, float q_norm, const float *a, const float *b,
                   float *out)
{
    for (int r = 0; r < nr; r++) {
        out[r] = k == K_COS ? simd_cos_f32(a[r], q_norm, b[r]) : a[r];
    }
}

INL const uint8_t *tf_row(bool by_id, const uint8_t *base, size_t stride, const uint32_t *ids,
                          size_t i)
{
    return base + (by_id ? ids[i] : i) * stride;
}

INL void tf_run(enum simd_kind k, enum simd_type t, bool by_id, const uint8_t *q,
                const uint8_t *base, size_t stride, const uint32_t *ids, size_t n, size_t dim,
                float *out)
{
    const int full = k == K_COS ? VF_COS_GROUP : SIMD_GROUP;
    const uint8_t *p[SIMD_GROUP], *ahead[SIMD_GROUP];
    float a[SIMD_GROUP], b[SIMD_GROUP], q_norm = 0;
    size_t i = 0;
    if (k == K_COS && n > 0) {
        tf_group(K_NORM2, t, 1, NULL, &q, NULL, dim, a, b);
        q_norm = __builtin_sqrtf(a[0]);
    }
    for (; i + full <= n; i += full) {
        for (int r = 0; r < full; r++) {
            size_t next = i + full + r;
            p[r] = tf_row(by_id, base, stride, ids, i + r);
            ahead[r] = tf_row(by_id, base, stride, ids, next < n ? next : n - 1);
        }
        tf_group(k, t, full, q, p, ahead, dim, a, b);
        tf_finish(k, full, q_norm, a, b, out + i);
    }
    if (i == n) {
        return;
    }
    size_t rest = n - i;
    for (int r = 0; r < SIMD_GROUP; r++) {
        p[r] = tf_row(by_id, base, stride, ids, i + r < n ? i + r : n - 1);
    }
    if (rest == 1) {
        tf_group(k, t, 1, q, p, NULL, dim, a, b);
    } else if (rest <= 4) {
        tf_group(k, t, 4, q, p, NULL, dim, a, b);
    } else {
        tf_group(k, t, full, q, p, NULL, dim, a, b);
    }
    tf_finish(k, (int)rest, q_norm, a, b, out + i);
}

#define TF_DEFINE(op, K, type, T)                                                                  \
    static void op##_##type##_rows(const void *q, const void *base, size_t stride, size_t n,       \
                                   size_t dim, float *out)                                         \
    {                                                                                              \
        tf_run(K, T, false, q, base, stride, NULL, n, dim, out);                                   \
    }                                                                                              \
    static void op##_##type##_ids(const void *q, const void *base, size_t stride,                  \
                                  const uint32_t *ids, size_t n, size_t dim, float *out)           \
    {                                                                                              \
        tf_run(K, T, true, q, base, stride, ids, n, dim, out);                                     \
    }
#define TF_DEFINE_WIDEN(type, T)                                                                   \
    static void widen_##type(const void *base, size_t stride, size_t n, size_t dim, float *out)    \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            const uint8_t *x = (const uint8_t *)base + i * stride;                                 \
            size_t k = 0;                                                                          \
            for (; k + VF_LANES <= dim; k += VF_LANES) {                                           \
                vf_store(out + i * dim + k, vf_load(T, x + k * simd_elem_size(T)));                \
            }                                                                                      \
            for (; k < dim; k++) {                                                                 \
                out[i * dim + k] = simd_elem_f32(T, x, k);                                         \
            }                                                                                      \
        }                                                                                          \
    }
#define TF_SET(op, type, T)                                                                        \
    ops->op[T].rows = op##_##type##_rows;                                                          \
    ops->op[T].ids = op##_##type##_ids
