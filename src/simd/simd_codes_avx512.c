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

TR_DEFINE_HADAMARD

void simd__fill_codes_avx512(struct simd_ops *ops)
{
    ts_fill(ops);
    ops->hadamard = hadamard;
}
