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
 * All sums are exact, so order does not show. Rows are summed one after the other, for the reason
 * simd_float.h gives.
 */
#include "simd/simd_int.h"

/* By number, rows are asked for this many rows and at most this many bytes ahead. */
#define TI_AHEAD_ROWS 8
#define TI_AHEAD_BYTES 2048

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

INL float ti_row(enum simd_kind k, struct vi_query s, const uint8_t *q, const uint8_t *x,
                 const uint8_t *ahead, size_t dim)
{
    struct vi_acc acc;
    size_t j = 0;
    int32_t a, b;
    vi_clear(&acc);
    for (; j + VI_BYTES <= dim; j += VI_BYTES) {
        if (ahead && j < TI_AHEAD_BYTES) {
            __builtin_prefetch(ahead + j, 0, 3);
        }
        vi xv = vi_load(x + j);
        vi_step(k, &acc, k == K_NORM2 ? xv : vi_load(q + j), xv);
    }
    if (j < dim) {
        vi xv = vi_load_tail(x + j, dim - j);
        vi_step(k, &acc, k == K_NORM2 ? xv : vi_load_tail(q + j, dim - j), xv);
    }
    vi_sums(k, &acc, s, &a, &b);
    return k == K_COS ? simd_cos_i32(a, s.sum2, b) : (float)a;
}

INL void ti_run(enum simd_kind k, bool by_id, const uint8_t *q, const uint8_t *base, size_t stride,
                const uint32_t *ids, size_t n, size_t dim, float *out)
{
    if (n == 0) {
        return;
    }
    struct vi_query s = ti_query(k, (const int8_t *)q, dim);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *ahead =
            by_id && i + TI_AHEAD_ROWS < n ? base + ids[i + TI_AHEAD_ROWS] * stride : NULL;
        out[i] = ti_row(k, s, q, base + (by_id ? ids[i] : i) * stride, ahead, dim);
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
