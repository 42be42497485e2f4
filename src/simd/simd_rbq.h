/*
 * simd_rbq.h - the kernels on bit codes with factors, in 64-bit words and scalar population counts.
 *
 * What levels without a vector population count use as it is: the words of a row are few and the
 * machine counts one in a cycle or two, so a table look-up in vector registers gains nothing before
 * rows of a kilobyte.
 *
 * The rotation's butterflies are here too; they only add, so every level gives the same bits.
 */
#include "simd/simd_int.h"

INL int64_t tr_word_sum(const struct simd_rbq *q, const uint8_t *x, size_t nplanes)
{
    const size_t words = q->words, padded = SIMD_RBQ_WORDS(words);
    int64_t sum = 0;
    for (size_t p = 0; p < q->bits; p++) {
        int64_t s = 0;
        for (size_t w = 0; w < words; w++) {
            uint64_t v;
            memcpy(&v, x + (p * words + w) * 8, 8);
            int64_t t = -__builtin_popcountll(v & q->planes[(nplanes - 1) * padded + w]);
            for (size_t k = nplanes - 1; k-- > 0;) {
                t = t * 2 + __builtin_popcountll(v & q->planes[k * padded + w]);
            }
            s += t;
        }
        sum = sum * 2 + s;
    }
    return sum;
}

INL void tr_run(bool by_id, const struct simd_rbq *query, const uint8_t *base, size_t stride,
                const uint32_t *ids, size_t n, float *keys, float *lows)
{
    const struct simd_rbq copy = *query, *q = &copy;
    const size_t at = q->bits * q->words * 8;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *x = base + (by_id ? ids[i] : i) * stride;
        if (by_id && i + 8 < n) {
            __builtin_prefetch(base + ids[i + 8] * stride, 0, 3);
            __builtin_prefetch(base + ids[i + 8] * stride + at + 15, 0, 3);
        }
        /* The usual number of planes gets straight-line code. */
        int64_t sum = q->nplanes == 4 ? tr_word_sum(q, x, 4) : tr_word_sum(q, x, q->nplanes);
        float add = simd_load_f32(x + at), rescale = simd_load_f32(x + at + 4);
        float key = q->add + add + rescale * (q->scale * (float)sum + q->bias);
        keys[i] = key;
        if (lows) {
            float e = q->err * simd_load_f32(x + at + 8), f = q->qerr * simd_load_f32(x + at + 12);
            lows[i] = key - __builtin_sqrtf(e * e + f * f);
        }
    }
}

INL size_t tr_bits_le(const uint64_t *q, const uint64_t *blocks, size_t words, size_t n,
                      uint64_t limit, uint32_t *idx)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t *x = blocks + i / 8 * words * 8 + i % 8;
        uint64_t differ = 0;
        for (size_t w = 0; w < words; w++) {
            differ += (uint64_t)__builtin_popcountll(q[w] ^ x[w * 8]);
        }
        idx[found] = (uint32_t)i;
        found += differ <= limit;
    }
    return found;
}

#define TR_DEFINE                                                                                  \
    static size_t bits_le(const uint64_t *q, const uint64_t *blocks, size_t words, size_t n,       \
                          uint64_t limit, uint32_t *idx)                                           \
    {                                                                                              \
        return tr_bits_le(q, blocks, words, n, limit, idx);                                        \
    }                                                                                              \
    static void rbq_rows(const struct simd_rbq *q, const void *base, size_t stride, size_t n,      \
                         float *keys, float *lows)                                                 \
    {                                                                                              \
        tr_run(false, q, base, stride, NULL, n, keys, lows);                                       \
    }                                                                                              \
    static void rbq_ids(const struct simd_rbq *q, const void *base, size_t stride,                 \
                        const uint32_t *ids, size_t n, float *keys, float *lows)                   \
    {                                                                                              \
        tr_run(true, q, base, stride, ids, n, keys, lows);                                         \
    }

/* ---- Rounding queries ---- */

INL int tr_round(float x)
{
    return (int)(x > 0 ? x + 0.5f : x < 0 ? x - 0.5f : 0);
}

INL void tr_round_bytes(const float *v, size_t n, float inv, int8_t *hi, int8_t *lo)
{
    for (size_t i = 0; i < n; i++) {
        int u = tr_round(v[i] * inv), h = (u + 64) >> 7;
        hi[i] = (int8_t)h;
        lo[i] = (int8_t)(u - h * 128);
    }
}

INL float tr_round_planes(const float *v, size_t n, float inv, size_t nplanes, uint64_t *planes,
                          int64_t *ret_sum)
{
    const size_t padded = SIMD_RBQ_WORDS(n / 64);
    float err[16] = { 0 }, total = 0;
    int64_t sum = 0;
    for (size_t i = 0; i < n; i += 64) {
        uint8_t u[64];
        for (size_t j = 0; j < 64; j++) {
            const float x = v[i + j] * inv;
            const int r = tr_round(x);
            const float d = x - (float)r;
            u[j] = (uint8_t)r;
            sum += r;
            err[j % 16] += d * d;
        }
        for (size_t k = 0; k < nplanes; k++) {
            uint64_t word = 0;
            for (size_t j = 0; j < 64; j++) {
                word |= (uint64_t)(u[j] >> k & 1) << j;
            }
            planes[k * padded + i / 64] = word;
        }
    }
    for (size_t j = 0; j < 16; j++) {
        total += err[j];
    }
    *ret_sum = sum;
    return total;
}

#define TR_DEFINE_ROUND                                                                            \
    static void round_bytes(const float *v, size_t n, float inv, int8_t *hi, int8_t *lo)           \
    {                                                                                              \
        tr_round_bytes(v, n, inv, hi, lo);                                                         \
    }                                                                                              \
    static float round_planes(const float *v, size_t n, float inv, size_t nplanes,                 \
                              uint64_t *planes, int64_t *ret_sum)                                  \
    {                                                                                              \
        return tr_round_planes(v, n, inv, nplanes, planes, ret_sum);                               \
    }

/* Sixteen neighbours: four steps without leaving the registers. */
INL void tr_butterfly16(float *x)
{
    float a[16], b[16];
    for (int i = 0; i < 16; i++) {
        a[i] = x[i];
    }
    UNROLL
    for (int h = 1; h < 16; h *= 2) {
        UNROLL
        for (int i = 0; i < 16; i++) {
            b[i] = i & h ? a[i ^ h] - a[i] : a[i] + a[i ^ h];
        }
        UNROLL
        for (int i = 0; i < 16; i++) {
            a[i] = b[i];
        }
    }
    for (int i = 0; i < 16; i++) {
        x[i] = a[i];
    }
}

INL void tr_hadamard(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        tr_butterfly16(x + i);
    }
    for (size_t h = 16; h < n; h *= 2) {
        for (size_t i = 0; i < n; i += 2 * h) {
            float *lo = x + i, *hi = lo + h;
            for (size_t j = 0; j < h; j += 16) {
                for (size_t k = j; k < j + 16; k++) {
                    float a = lo[k], b = hi[k];
                    lo[k] = a + b;
                    hi[k] = a - b;
                }
            }
        }
    }
}

#define TR_DEFINE_HADAMARD                                                                         \
    static void hadamard(float *x, size_t n)                                                       \
    {                                                                                              \
        tr_hadamard(x, n);                                                                         \
    }
