/*
 * simd_float.h - the float kernels of one level, written once over a few vector primitives.
 *
 * The including level file has defined, for its vector type vf of VF_LANES elements:
 *
 *     vf vf_zero(void)                              vf vf_sub(vf a, vf b), vf_add(vf a, vf b)
 *     vf vf_fma(vf a, vf b, vf c)                   a * b + c
 *     vf vf_load(enum simd_type t, const uint8_t *p)            VF_LANES elements, widened
 *     vf vf_load_tail(enum simd_type t, const uint8_t *p, size_t n)  the first n, then zeros
 *     void vf_reduce4(const vf *v, float *out)      out[0..4) = sums of four vectors
 *     float vf_reduce1(vf v)                        the same sum in the same order
 *
 * Rows are summed one after the other with two accumulators each, so that memory is touched in
 * ascending order. WHY: working on several rows in lockstep shares the loads of the query and is
 * 10 to 15 % faster in cache, but the hardware prefetchers do not follow interleaved rows: on Zen 4
 * even two rows side by side read memory at 13 GB/s where one after the other reads 36. Software
 * prefetching did not repair that and slowed the plain order down. The out-of-order window overlaps
 * the sums of neighbouring rows by itself. Only the final horizontal sums are shared, four rows at
 * a time, in an order that does not depend on where in a batch the row stands.
 */
#include "simd/simd_int.h"

/* By number, rows are asked for this many rows and at most this many bytes ahead. */
#define TF_AHEAD_ROWS 4
#define TF_AHEAD_BYTES 2048

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

INL vf tf_load_q(enum simd_kind k, enum simd_type t, const uint8_t *q)
{
    return k == K_NORM2 ? vf_zero() : vf_load(t, q);
}

/* The sum of one row in *ret_a and, for cosine, |x|^2 in *ret_b. ahead is fetched when not NULL.
 * The query is of type tq. */
INL void tf_row_sum(enum simd_kind k, enum simd_type tq, enum simd_type t, const uint8_t *q, const uint8_t *x,
                    const uint8_t *ahead, size_t dim, vf *ret_a, vf *ret_b)
{
    vf a0 = vf_zero(), a1 = a0, b0 = a0, b1 = a0;
    const size_t es = simd_elem_size(t), step = VF_LANES * es;
    const size_t eq = k == K_NORM2 ? es : simd_elem_size(tq);
    size_t j = 0;
    q = k == K_NORM2 ? x : q; /* a norm has no query; nothing is loaded through q */
    for (; j + 2 * VF_LANES <= dim; j += 2 * VF_LANES) {
        const size_t o = j * es;
        if (ahead && o < TF_AHEAD_BYTES) {
            __builtin_prefetch(ahead + o, 0, 3);
            if (step >= 64) {
                __builtin_prefetch(ahead + o + step, 0, 3);
            }
        }
        const uint8_t *qj = q + j * eq;
        tf_step(k, &a0, &b0, tf_load_q(k, tq, qj), vf_load(t, x + o));
        tf_step(k, &a1, &b1, tf_load_q(k, tq, qj + VF_LANES * eq), vf_load(t, x + o + step));
    }
    if (j + VF_LANES <= dim) {
        tf_step(k, &a0, &b0, tf_load_q(k, tq, q + j * eq), vf_load(t, x + j * es));
        j += VF_LANES;
    }
    if (j < dim) {
        vf qv = k == K_NORM2 ? vf_zero() : vf_load_tail(tq, q + j * eq, dim - j);
        tf_step(k, &a1, &b1, qv, vf_load_tail(t, x + j * es, dim - j));
    }
    *ret_a = vf_add(a0, a1);
    *ret_b = vf_add(b0, b1);
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

INL void tf_run(enum simd_kind k, enum simd_type tq, enum simd_type t, bool by_id,
                const uint8_t *q, const uint8_t *base, size_t stride, const uint32_t *ids,
                size_t n, size_t dim, float *out)
{
    float a[4], b[4] = { 0 }, q_norm = 0;
    vf sa[4], sb[4];
    size_t i = 0;
    if (k == K_COS && n > 0) {
        tf_row_sum(K_NORM2, tq, tq, NULL, q, NULL, dim, &sa[0], &sb[0]);
        q_norm = __builtin_sqrtf(vf_reduce1(sa[0]));
    }
    for (; i + 4 <= n; i += 4) {
        UNROLL
        for (int r = 0; r < 4; r++) {
            size_t next = i + r + TF_AHEAD_ROWS;
            const uint8_t *ahead = by_id && next < n ? tf_row(true, base, stride, ids, next) : NULL;
            tf_row_sum(k, tq, t, q, tf_row(by_id, base, stride, ids, i + r), ahead, dim, &sa[r],
                       &sb[r]);
        }
        vf_reduce4(sa, a);
        if (k == K_COS) {
            vf_reduce4(sb, b);
        }
        tf_finish(k, 4, q_norm, a, b, out + i);
    }
    for (; i < n; i++) {
        tf_row_sum(k, tq, t, q, tf_row(by_id, base, stride, ids, i), NULL, dim, &sa[0], &sb[0]);
        a[0] = vf_reduce1(sa[0]);
        b[0] = k == K_COS ? vf_reduce1(sb[0]) : 0;
        tf_finish(k, 1, q_norm, a, b, out + i);
    }
}

#define TF_DEFINE(op, K, type, T) TF_DEFINE_TYPES(op, K, T, type, T)
/* The query's type beside the rows'. */
#define TF_DEFINE_TYPES(op, K, TQ, type, T)                                                        \
    static void op##_##type##_rows(const void *q, const void *base, size_t stride, size_t n,       \
                                   size_t dim, float *out)                                         \
    {                                                                                              \
        tf_run(K, TQ, T, false, q, base, stride, NULL, n, dim, out);                                   \
    }                                                                                              \
    static void op##_##type##_ids(const void *q, const void *base, size_t stride,                  \
                                  const uint32_t *ids, size_t n, size_t dim, float *out)           \
    {                                                                                              \
        tf_run(K, TQ, T, true, q, base, stride, ids, n, dim, out);                                     \
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
