/*
 * simd_codes_avx512.c - coded rows with AVX-512 F, BW, DQ, VL.
 *
 * Without VNNI bytes are widened: pairs of products of bytes may saturate unless codes have 6 bits.
 */
#include "simd/simd_x86.h"

typedef __m512i vc;
typedef __m512i va;
typedef __m512 vt;
#define VC_BYTES 64
INL va va_dot(bool is_small, va s, vc c, const int8_t *v)
{
    __m512i q = _mm512_load_si512(v);
    if (is_small) {
        __m512i pairs = _mm512_maddubs_epi16(c, q);
        return _mm512_add_epi32(s, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    }
    __m512i c0 = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(c));
    __m512i c1 = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(c, 1));
    __m512i q0 = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(q));
    __m512i q1 = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(q, 1));
    s = _mm512_add_epi32(s, _mm512_madd_epi16(c0, q0));
    return _mm512_add_epi32(s, _mm512_madd_epi16(c1, q1));
}
INL va va_self8(va s, vc c)
{
    const __m512i mid = _mm512_set1_epi16(128);
    __m512i c0 = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(c));
    __m512i c1 = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(c, 1));
    s = _mm512_add_epi32(s, _mm512_madd_epi16(c0, _mm512_sub_epi16(c0, mid)));
    return _mm512_add_epi32(s, _mm512_madd_epi16(c1, _mm512_sub_epi16(c1, mid)));
}
INL va va_self(va s, vc c)
{
    __m512i pairs = _mm512_maddubs_epi16(c, c);
    return _mm512_add_epi32(s, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#include "simd/simd_avx512_sq.h"
#include "simd/simd_rbq.h"
#include "simd/simd_sums.h"

/* ---- Transform ---- */

/* Distances 1, 2, 4 and 8 inside a register: the lower of a pair gets the sum, the upper what the
 * lower one was less itself. */
INL __m512 had_lanes(__m512 a)
{
    __m512 b = _mm512_permute_ps(a, 0xb1);
    a = _mm512_mask_sub_ps(_mm512_add_ps(a, b), 0xaaaa, b, a);
    b = _mm512_permute_ps(a, 0x4e);
    a = _mm512_mask_sub_ps(_mm512_add_ps(a, b), 0xcccc, b, a);
    b = _mm512_shuffle_f32x4(a, a, 0xb1);
    a = _mm512_mask_sub_ps(_mm512_add_ps(a, b), 0xf0f0, b, a);
    b = _mm512_shuffle_f32x4(a, a, 0x4e);
    return _mm512_mask_sub_ps(_mm512_add_ps(a, b), 0xff00, b, a);
}

/* Up to 256 floats without leaving the registers. */
INL void had_block(float *x, int vectors)
{
    __m512 v[16];
    UNROLL
    for (int i = 0; i < vectors; i++) {
        v[i] = had_lanes(_mm512_loadu_ps(x + 16 * i));
    }
    UNROLL
    for (int h = 1; h < vectors; h *= 2) {
        UNROLL
        for (int i = 0; i < vectors; i++) {
            if ((i & h) == 0) {
                const __m512 a = v[i], b = v[i + h];
                v[i] = _mm512_add_ps(a, b);
                v[i + h] = _mm512_sub_ps(a, b);
            }
        }
    }
    UNROLL
    for (int i = 0; i < vectors; i++) {
        _mm512_storeu_ps(x + 16 * i, v[i]);
    }
}

static void hadamard(float *x, size_t n)
{
    switch (n) {
    case 16:
        had_block(x, 1);
        return;
    case 32:
        had_block(x, 2);
        return;
    case 64:
        had_block(x, 4);
        return;
    case 128:
        had_block(x, 8);
        return;
    default:
        break;
    }
    for (size_t i = 0; i < n; i += 256) {
        had_block(x + i, 16);
    }
    for (size_t h = 256; h < n; h *= 2) {
        for (size_t i = 0; i < n; i += 2 * h) {
            for (float *lo = x + i, *hi = lo + h; lo < x + i + h; lo += 16, hi += 16) {
                const __m512 a = _mm512_loadu_ps(lo), b = _mm512_loadu_ps(hi);
                _mm512_storeu_ps(lo, _mm512_add_ps(a, b));
                _mm512_storeu_ps(hi, _mm512_sub_ps(a, b));
            }
        }
    }
}

/* ---- Rounding queries ---- */

INL __m512i round_16(__m512 x)
{
    const __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0f));
    const __m512 half = _mm512_or_ps(sign, _mm512_set1_ps(0.5f));
    const __mmask16 m = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
    return _mm512_maskz_cvttps_epi32(m, _mm512_add_ps(x, half));
}

static void round_bytes(const float *v, size_t n, float inv, int8_t *hi, int8_t *lo)
{
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 m = (__mmask16)(n - i >= 16 ? 0xffff : (1u << (n - i)) - 1);
        const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, v + i), _mm512_set1_ps(inv));
        const __m512i u = round_16(x);
        const __m512i h = _mm512_srai_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(64)), 7);
        _mm512_mask_cvtepi32_storeu_epi8(hi + i, m, h);
        _mm512_mask_cvtepi32_storeu_epi8(lo + i, m,
                                         _mm512_sub_epi32(u, _mm512_slli_epi32(h, 7)));
    }
}

static float round_planes(const float *v, size_t n, float inv, size_t nplanes, uint64_t *planes,
                          int64_t *ret_sum)
{
    const size_t padded = SIMD_RBQ_WORDS(n / 64);
    __m512i sum = _mm512_setzero_si512();
    __m512 err = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 64) {
        __m512i all = _mm512_setzero_si512();
        __m128i part[4];
        UNROLL
        for (size_t r = 0; r < 4; r++) {
            const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(v + i + 16 * r), _mm512_set1_ps(inv));
            const __m512i u = round_16(x);
            const __m512 d = _mm512_sub_ps(x, _mm512_cvtepi32_ps(u));
            err = _mm512_fmadd_ps(d, d, err);
            sum = _mm512_add_epi32(sum, u);
            part[r] = _mm512_cvtepi32_epi8(u);
        }
        all = _mm512_inserti32x4(_mm512_castsi128_si512(part[0]), part[1], 1);
        all = _mm512_inserti32x4(_mm512_inserti32x4(all, part[2], 2), part[3], 3);
        for (size_t k = 0; k < nplanes; k++) {
            planes[k * padded + i / 64] =
                _mm512_test_epi8_mask(all, _mm512_set1_epi8((char)(1u << k)));
        }
    }
    *ret_sum = _mm512_reduce_add_epi32(sum);
    return _mm512_reduce_add_ps(err);
}

void simd__fill_codes_avx512(struct simd_ops *ops)
{
    ts_fill(ops);
    ds_fill(ops);
    ops->hadamard = hadamard;
    ops->round_bytes = round_bytes;
    ops->round_planes = round_planes;
}
