/* simd_avx512_bits.h - the bit primitives all AVX-512 levels share, then the kernels themselves.
 * The including level has defined vb, VB_BYTES and vb_count(). */
#include "simd/simd_x86.h"

INL vb vb_zero(void)
{
    return _mm512_setzero_si512();
}
INL vb vb_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}
INL vb vb_load_tail(const uint8_t *p, size_t n)
{
    return _mm512_maskz_loadu_epi8((UINT64_C(1) << n) - 1, p);
}
INL vb vb_and(vb a, vb b)
{
    return _mm512_and_si512(a, b);
}
INL vb vb_or(vb a, vb b)
{
    return _mm512_or_si512(a, b);
}
INL vb vb_xor(vb a, vb b)
{
    return _mm512_xor_si512(a, b);
}
INL vb vb_andnot(vb a, vb b)
{
    return _mm512_andnot_si512(a, b);
}
INL uint64_t vb_total(vb v)
{
    return x86_reduce_u64(
        _mm256_add_epi64(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1)));
}
INL bool vb_is_zero(vb v)
{
    return _mm512_test_epi64_mask(v, v) == 0;
}

#include "simd/simd_bits.h"
