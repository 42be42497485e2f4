/* simd_avx512_block.h - block scans of the 512-bit levels: the floats, and the shape of a step. */
#include "simd/simd_x86.h"

typedef __m512 bf;
#define BL_LANES 16
INL bf bl_load(const uint8_t *p)
{
    return _mm512_loadu_ps(p);
}
INL bf bl_set1(float f)
{
    return _mm512_set1_ps(f);
}
INL bf bl_mul(bf a, bf b)
{
    return _mm512_mul_ps(a, b);
}
INL bf bl_fma(bf a, bf b, bf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
INL void bl_store(float *p, bf v)
{
    _mm512_storeu_ps(p, v);
}
INL unsigned bl_hits(bf v, bf cut)
{
    return _mm512_cmp_ps_mask(v, cut, _CMP_NLT_UQ);
}
INL __m512i bl_weights(const int8_t *w)
{
    int32_t four;
    memcpy(&four, w, sizeof four);
    return _mm512_set1_epi32(four);
}

#include "simd/simd_block.h"
