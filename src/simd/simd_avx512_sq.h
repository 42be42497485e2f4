/* simd_avx512_sq.h - the primitives of simd_sq.h that all AVX-512 levels share. The including level
 * has defined va_dot(), va_self8() and va_self(), which differ. */
#include "simd/simd_x86.h"

INL vc vc_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}
INL vc vc_load_tail(const uint8_t *p, size_t n)
{
    return _mm512_maskz_loadu_epi8((UINT64_C(1) << n) - 1, p);
}
INL vc vc_and(vc a, uint8_t mask)
{
    return _mm512_and_si512(a, _mm512_set1_epi8((char)mask));
}
INL vc vc_or(vc a, vc b)
{
    return _mm512_or_si512(a, b);
}
INL vc vc_shr(vc a, int bits)
{
    return _mm512_srli_epi16(a, (unsigned)bits);
}
INL vc vc_shl(vc a, int bits)
{
    return _mm512_slli_epi16(a, (unsigned)bits);
}
/* Of the nb nibble bytes, those from j on; both halves of the vector come from the same 32. */
INL vc vc_high(const uint8_t *p, size_t nb, size_t j)
{
    const uint8_t *at = p + j / 2;
    __m256i h = nb - j >= 32 ? _mm256_loadu_si256((const __m256i *)(const void *)at)
                             : _mm256_maskz_loadu_epi8((__mmask32)((1u << (nb - j)) - 1), at);
    return _mm512_inserti64x4(_mm512_castsi256_si512(h), _mm256_srli_epi16(h, 2), 1);
}
INL va va_zero(void)
{
    return _mm512_setzero_si512();
}
INL vt va_float(va s)
{
    return _mm512_cvtepi32_ps(s);
}
INL vt vt_mul1(vt a, float b)
{
    return _mm512_mul_ps(a, _mm512_set1_ps(b));
}
INL vt vt_fma1(vt a, float b, vt c)
{
    return _mm512_fmadd_ps(a, _mm512_set1_ps(b), c);
}
INL __m256 vt_half(vt v)
{
    return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}
INL void vt_reduce4(const vt *v, float *out)
{
    x86_reduce4(vt_half(v[0]), vt_half(v[1]), vt_half(v[2]), vt_half(v[3]), out);
}
INL float vt_reduce1(vt v)
{
    return x86_reduce1(vt_half(v));
}

#include "simd/simd_sq.h"
