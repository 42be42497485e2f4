/*
 * simd_codes_pop.c - bit codes with AVX-512 VPOPCNTDQ.
 *
 * Eight rows at a time: each row's words are masked with the query's planes and counted, planes
 * weighed by doubling, and the eight vectors of sums are added across in one tree of 21
 * instructions. A batch that is no multiple of eight repeats its last row, so every row takes the
 * same path. Rows themselves are touched one after the other (simd_float.h says why).
 */
#include "simd/simd_x86.h"

/* Rows asked for ahead, by number. */
#define RBQ_AHEAD 16

INL __m512i rbq_load(const uint8_t *p, __mmask8 m)
{
    return _mm512_maskz_loadu_epi64(m, p);
}

/* Sums of one row over all its words, in lanes. */
INL __m512i rbq_row(const struct simd_rbq *q, const uint8_t *x, size_t nplanes, size_t bits)
{
    const size_t words = q->words, padded = SIMD_RBQ_WORDS(words);
    __m512i sum = _mm512_setzero_si512();
    for (size_t w = 0; w < words; w += 8) {
        const __mmask8 m = (__mmask8)(words - w >= 8 ? 0xff : (1u << (words - w)) - 1);
        __m512i all = _mm512_setzero_si512();
        for (size_t p = 0; p < bits; p++) {
            __m512i v = rbq_load(x + (p * words + w) * 8, m);
            const uint64_t *plane = q->planes + w + (nplanes - 1) * padded;
            __m512i t = _mm512_popcnt_epi64(_mm512_and_si512(v, _mm512_load_si512(plane)));
            t = _mm512_sub_epi64(_mm512_setzero_si512(), t);
            for (size_t k = 1; k < nplanes; k++) {
                plane -= padded;
                __m512i c = _mm512_popcnt_epi64(_mm512_and_si512(v, _mm512_load_si512(plane)));
                t = _mm512_add_epi64(_mm512_add_epi64(t, t), c);
            }
            all = bits == 1 ? t : _mm512_add_epi64(_mm512_add_epi64(all, all), t);
        }
        sum = _mm512_add_epi64(sum, all);
    }
    return sum;
}

INL __m512i rbq_pair(__m512i a, __m512i b)
{
    return _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

#define rbq_halves(a, b, lo, hi)                                                                   \
    _mm512_add_epi64(_mm512_shuffle_i64x2(a, b, lo), _mm512_shuffle_i64x2(a, b, hi))

/* Lane i = sum of v[i]'s lanes. */
INL __m512i rbq_reduce8(const __m512i *v)
{
    __m512i a = rbq_pair(v[0], v[1]), b = rbq_pair(v[2], v[3]); /* 0 1 0 1 0 1 0 1 */
    __m512i c = rbq_pair(v[4], v[5]), d = rbq_pair(v[6], v[7]);
    /* 0 1 0 1 2 3 2 3, then 0 1 2 3 | 4 5 6 7 */
    __m512i e = rbq_halves(a, b, 0x44, 0xee), f = rbq_halves(c, d, 0x44, 0xee);
    return rbq_halves(e, f, 0x88, 0xdd);
}

INL __m512 rbq_factors4(const uint8_t *const *x, size_t at)
{
    __m512 z = _mm512_castps128_ps512(_mm_loadu_ps((const float *)(const void *)(x[0] + at)));
    z = _mm512_insertf32x4(z, _mm_loadu_ps((const float *)(const void *)(x[1] + at)), 1);
    z = _mm512_insertf32x4(z, _mm_loadu_ps((const float *)(const void *)(x[2] + at)), 2);
    return _mm512_insertf32x4(z, _mm_loadu_ps((const float *)(const void *)(x[3] + at)), 3);
}

/* Field f of eight rows' factors. */
INL __m256 rbq_field(__m512 a, __m512 b, int f)
{
    __m512i idx = _mm512_setr_epi32(f, 4 + f, 8 + f, 12 + f, 16 + f, 20 + f, 24 + f, 28 + f, 0, 0,
                                    0, 0, 0, 0, 0, 0);
    return _mm512_castps512_ps256(_mm512_permutex2var_ps(a, idx, b));
}

/* Rows x[0], x[2], x[4], x[6] of one or two words in lanes of 128 bits. */
INL __m512i rbq_four(const uint8_t *const *x, size_t words)
{
    __m128i r[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        const __m128i *p = (const __m128i *)(const void *)x[2 * i];
        r[i] = words == 1 ? _mm_loadl_epi64(p) : _mm_loadu_si128(p);
    }
    __m512i z = _mm512_inserti32x4(_mm512_castsi128_si512(r[0]), r[1], 1);
    return _mm512_inserti32x4(_mm512_inserti32x4(z, r[2], 2), r[3], 3);
}

/* Lane i = the sum of row i, for eight rows of at most two words. */
INL __m512i rbq_short8(const struct simd_rbq *q, const uint8_t *const *x, size_t nplanes,
                       size_t words)
{
    const __m512i a = rbq_four(x, words), b = rbq_four(x + 1, words);
    __m512i s = _mm512_setzero_si512(), t = s;
    for (size_t k = nplanes; k-- > 0;) {
        const __m128i *at = (const __m128i *)(const void *)(q->planes + k * SIMD_RBQ_WORDS(words));
        const __m512i plane = _mm512_broadcast_i32x4(_mm_load_si128(at));
        const __m512i c = _mm512_popcnt_epi64(_mm512_and_si512(a, plane));
        const __m512i d = _mm512_popcnt_epi64(_mm512_and_si512(b, plane));
        const bool top = k + 1 == nplanes; /* counts negative */
        s = top ? _mm512_sub_epi64(s, c) : _mm512_add_epi64(_mm512_add_epi64(s, s), c);
        t = top ? _mm512_sub_epi64(t, d) : _mm512_add_epi64(_mm512_add_epi64(t, t), d);
    }
    return rbq_pair(s, t);
}

INL void rbq_eight(const struct simd_rbq *q, const uint8_t *const *x, __m512i sums, size_t n,
                   float *keys, float *lows)
{
    const size_t at = q->bits * q->words * 8;
    const __mmask8 m = (__mmask8)(n >= 8 ? 0xff : (1u << n) - 1);
    __m256 u = _mm512_cvtepi64_ps(sums);
    __m512 a = rbq_factors4(x, at), b = rbq_factors4(x + 4, at);
    u = _mm256_fmadd_ps(u, _mm256_set1_ps(q->scale), _mm256_set1_ps(q->bias));
    __m256 add = _mm256_add_ps(rbq_field(a, b, 0), _mm256_set1_ps(q->add));
    __m256 key = _mm256_fmadd_ps(rbq_field(a, b, 1), u, add);
    _mm256_mask_storeu_ps(keys, m, key);
    if (lows) {
        __m256 e = _mm256_mul_ps(rbq_field(a, b, 2), _mm256_set1_ps(q->err));
        __m256 f = _mm256_mul_ps(rbq_field(a, b, 3), _mm256_set1_ps(q->qerr));
        __m256 d = _mm256_sqrt_ps(_mm256_fmadd_ps(e, e, _mm256_mul_ps(f, f)));
        _mm256_mask_storeu_ps(lows, m, _mm256_sub_ps(key, d));
    }
}

/* words: 1 or 2 for short rows, 0 for others. */
INL void rbq_run(size_t nplanes, size_t bits, size_t words, bool by_id,
                 const struct simd_rbq *query, const uint8_t *base, size_t stride, const uint32_t *ids, size_t n, float *keys,
                 float *lows)
{
    const struct simd_rbq copy = *query, *q = &copy;
    const size_t last = bits * q->words * 8 + 15;
    const uint8_t *x[8];
    __m512i sums[8];
    for (size_t i = 0; by_id && i < RBQ_AHEAD && i < n; i++) {
        __builtin_prefetch(base + ids[i] * stride, 0, 3);
        __builtin_prefetch(base + ids[i] * stride + last, 0, 3);
    }
    for (size_t i = 0; i < n; i += 8) {
        UNROLL
        for (size_t r = 0; r < 8; r++) {
            const size_t row = i + r < n ? i + r : n - 1;
            if (by_id && row + RBQ_AHEAD < n) {
                const uint8_t *next = base + ids[row + RBQ_AHEAD] * stride;
                for (size_t o = 0; o < last; o += 64) {
                    __builtin_prefetch(next + o, 0, 3);
                }
                __builtin_prefetch(next + last, 0, 3);
            }
            x[r] = base + (by_id ? ids[row] : row) * stride;
            if (words == 0) {
                sums[r] = rbq_row(q, x[r], nplanes, bits);
            }
        }
        rbq_eight(q, x, words ? rbq_short8(q, x, nplanes, words) : rbq_reduce8(sums), n - i,
                  keys + i, lows ? lows + i : NULL);
    }
}

INL void rbq_pick(bool by_id, const struct simd_rbq *q, const uint8_t *base, size_t stride,
                  const uint32_t *ids, size_t n, float *keys, float *lows)
{
    const bool usual = q->bits == 1 && q->nplanes == 4;
    if (usual && q->words == 1) {
        rbq_run(4, 1, 1, by_id, q, base, stride, ids, n, keys, lows);
    } else if (usual && q->words == 2) {
        rbq_run(4, 1, 2, by_id, q, base, stride, ids, n, keys, lows);
    } else if (usual) {
        rbq_run(4, 1, 0, by_id, q, base, stride, ids, n, keys, lows);
    } else {
        rbq_run(q->nplanes, q->bits, 0, by_id, q, base, stride, ids, n, keys, lows);
    }
}

static void rbq_rows(const struct simd_rbq *q, const void *base, size_t stride, size_t n,
                     float *keys, float *lows)
{
    rbq_pick(false, q, base, stride, NULL, n, keys, lows);
}

static void rbq_ids(const struct simd_rbq *q, const void *base, size_t stride, const uint32_t *ids,
                    size_t n, float *keys, float *lows)
{
    rbq_pick(true, q, base, stride, ids, n, keys, lows);
}

/* ---- Bits of eight rows side by side ---- */

INL __m512i bits_of(const uint64_t *q, const uint64_t *x, size_t words, __mmask8 m)
{
    __m512i a = _mm512_setzero_si512(), b = a;
    size_t w = 0;
    for (; w + 2 <= words; w += 2) {
        __m512i u = _mm512_maskz_loadu_epi64(m, x + w * 8);
        __m512i v = _mm512_maskz_loadu_epi64(m, x + w * 8 + 8);
        u = _mm512_xor_si512(u, _mm512_set1_epi64((long long)q[w]));
        v = _mm512_xor_si512(v, _mm512_set1_epi64((long long)q[w + 1]));
        a = _mm512_add_epi64(a, _mm512_popcnt_epi64(u));
        b = _mm512_add_epi64(b, _mm512_popcnt_epi64(v));
    }
    if (w < words) {
        __m512i u = _mm512_maskz_loadu_epi64(m, x + w * 8);
        u = _mm512_xor_si512(u, _mm512_set1_epi64((long long)q[w]));
        a = _mm512_add_epi64(a, _mm512_popcnt_epi64(u));
    }
    return _mm512_add_epi64(a, b);
}

INL size_t bits_run(const uint64_t *q, const uint64_t *blocks, size_t words, size_t n,
                    uint64_t limit, uint32_t *idx)
{
    const __m512i most = _mm512_set1_epi64((long long)limit);
    size_t found = 0;
    for (size_t i = 0; i < n; i += 8, blocks += words * 8) {
        const __mmask8 m = (__mmask8)(n - i >= 8 ? 0xff : (1u << (n - i)) - 1);
        unsigned in = _mm512_mask_cmple_epu64_mask(m, bits_of(q, blocks, words, m), most);
        for (; in; in &= in - 1) {
            idx[found++] = (uint32_t)(i + (size_t)__builtin_ctz(in));
        }
    }
    return found;
}

static size_t bits_le(const uint64_t *q, const uint64_t *blocks, size_t words, size_t n,
                      uint64_t limit, uint32_t *idx)
{
    switch (words) {
    case 2:
        return bits_run(q, blocks, 2, n, limit, idx);
    case 6:
        return bits_run(q, blocks, 6, n, limit, idx);
    case 12:
        return bits_run(q, blocks, 12, n, limit, idx);
    default:
        return bits_run(q, blocks, words, n, limit, idx);
    }
}

void simd__fill_codes_pop(struct simd_ops *ops)
{
    ops->rbq_rows = rbq_rows;
    ops->rbq_ids = rbq_ids;
    ops->bits_le = bits_le;
}
