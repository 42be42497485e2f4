/*
 * simd_bits.h - the kernels on packed bits of one level, written once over vector primitives.
 *
 * The including level file has defined, for its vector type vb of VB_BYTES bytes:
 *
 *     vb vb_zero(void), vb_load(const uint8_t *p), vb_load_tail(const uint8_t *p, size_t n)
 *     vb vb_and(a, b), vb_or(a, b), vb_xor(a, b), vb_andnot(a, b)     andnot: ~a & b
 *     vb vb_count(vb acc, vb v)      acc + bits set in v, in lanes wide enough never to overflow
 *     uint64_t vb_total(vb acc)
 *     bool vb_is_zero(vb v)
 *
 * Rows of at most TB_SCALAR_BYTES go through 64-bit words and the scalar population count: a
 * vector's horizontal sum would cost more than the whole row.
 */
#include "simd/simd_int.h"

#define TB_SCALAR_BYTES 32
/* By number, rows are asked for this many rows and at most this many bytes ahead. */
#define TB_AHEAD_ROWS 8
#define TB_AHEAD_BYTES 2048

INL uint64_t tb_word(const uint8_t *p, size_t n)
{
    uint64_t w = 0;
    if (n >= 8) {
        memcpy(&w, p, 8);
        return w;
    }
    for (size_t i = 0; i < n; i++) {
        w |= (uint64_t)p[i] << (8 * i);
    }
    return w;
}

INL float tb_short(enum simd_bit_kind k, const uint8_t *q, const uint8_t *x, size_t bytes)
{
    uint64_t a = 0, b = 0;
    for (size_t j = 0; j < bytes; j += 8) {
        uint64_t qw = tb_word(q + j, bytes - j), xw = tb_word(x + j, bytes - j);
        switch (k) {
        case KB_HAMMING:
            a += (uint64_t)__builtin_popcountll(qw ^ xw);
            break;
        case KB_JACCARD:
            a += (uint64_t)__builtin_popcountll(qw & xw);
            b += (uint64_t)__builtin_popcountll(qw | xw);
            break;
        case KB_SUBSET:
            a |= qw & ~xw;
            break;
        default:
            a |= xw & ~qw;
            break;
        }
    }
    return k == KB_HAMMING ? (float)a : k == KB_JACCARD ? simd_jaccard(a, b) : a ? 1 : 0;
}

INL void tb_step(enum simd_bit_kind k, vb *a, vb *b, vb q, vb x)
{
    switch (k) {
    case KB_HAMMING:
        *a = vb_count(*a, vb_xor(q, x));
        break;
    case KB_JACCARD:
        *a = vb_count(*a, vb_and(q, x));
        *b = vb_count(*b, vb_or(q, x));
        break;
    case KB_SUBSET:
        *a = vb_or(*a, vb_andnot(x, q));
        break;
    default:
        *a = vb_or(*a, vb_andnot(q, x));
        break;
    }
}

INL float tb_row(enum simd_bit_kind k, const uint8_t *q, const uint8_t *x, const uint8_t *ahead,
                 size_t bytes)
{
    vb a = vb_zero(), b = a;
    size_t j = 0;
    for (; j + VB_BYTES <= bytes; j += VB_BYTES) {
        if (ahead && j < TB_AHEAD_BYTES) {
            __builtin_prefetch(ahead + j, 0, 3);
        }
        tb_step(k, &a, &b, vb_load(q + j), vb_load(x + j));
    }
    if (j < bytes) {
        tb_step(k, &a, &b, vb_load_tail(q + j, bytes - j), vb_load_tail(x + j, bytes - j));
    }
    return k == KB_HAMMING   ? (float)vb_total(a)
           : k == KB_JACCARD ? simd_jaccard(vb_total(a), vb_total(b))
           : vb_is_zero(a)   ? 0
                             : 1;
}

INL void tb_run(enum simd_bit_kind k, bool by_id, const uint8_t *q, const uint8_t *base,
                size_t stride, const uint32_t *ids, size_t n, size_t dim, float *out)
{
    const size_t bytes = dim / 8;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *x = base + (by_id ? ids[i] : i) * stride;
        const uint8_t *ahead =
            by_id && i + TB_AHEAD_ROWS < n ? base + ids[i + TB_AHEAD_ROWS] * stride : NULL;
        if (bytes > TB_SCALAR_BYTES) {
            out[i] = tb_row(k, q, x, ahead, bytes);
            continue;
        }
        if (ahead) {
            __builtin_prefetch(ahead, 0, 3);
        }
        /* The common sizes get straight-line code. */
        out[i] = bytes == 16   ? tb_short(k, q, x, 16)
                 : bytes == 32 ? tb_short(k, q, x, 32)
                               : tb_short(k, q, x, bytes);
    }
}

#define TB_DEFINE(op, K)                                                                           \
    static void op##_rows(const void *q, const void *base, size_t stride, size_t n, size_t dim,    \
                          float *out)                                                              \
    {                                                                                              \
        tb_run(K, false, q, base, stride, NULL, n, dim, out);                                      \
    }                                                                                              \
    static void op##_ids(const void *q, const void *base, size_t stride, const uint32_t *ids,      \
                         size_t n, size_t dim, float *out)                                         \
    {                                                                                              \
        tb_run(K, true, q, base, stride, ids, n, dim, out);                                        \
    }
TB_DEFINE(hamming, KB_HAMMING)
TB_DEFINE(jaccard, KB_JACCARD)
TB_DEFINE(subset, KB_SUBSET)
TB_DEFINE(superset, KB_SUPERSET)

INL void tb_fill(struct simd_ops *ops)
{
    ops->hamming = (struct simd_dist){ hamming_rows, hamming_ids };
    ops->jaccard = (struct simd_dist){ jaccard_rows, jaccard_ids };
    ops->subset = (struct simd_dist){ subset_rows, subset_ids };
    ops->superset = (struct simd_dist){ superset_rows, superset_ids };
}
