/* simd_avx512_pop.c - AVX-512 VPOPCNTDQ: bits of eight 64-bit words counted by one instruction. */
#include "simd/simd_x86.h"

typedef __m512i vb;
#define VB_BYTES 64
INL vb vb_count(vb acc, vb v)
{
    return _mm512_add_epi64(acc, _mm512_popcnt_epi64(v));
}

#include "simd/simd_avx512_bits.h"

void simd__fill_pop(struct simd_ops *ops)
{
    tb_fill(ops);
}
