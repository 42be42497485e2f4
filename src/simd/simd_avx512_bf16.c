/*
 * simd_avx512_bf16.c - sums of bf16 products with vdpbf16ps: 32 elements an instruction.
 *
 * Products of two bf16 are exact in f32, so the bound of simd.h holds; denormals are flushed by
 * the instruction, for which the contract leaves room. L2 stays with the wider code: a difference
 * of two bf16 is no bf16.
 */
#include "simd/simd_x86.h"

typedef __m512 vf; /* 32 bf16 as loaded, or 16 f32 sums */
#define VF_LANES 32

INL vf vf_zero(void)
{
    return _mm512_setzero_ps();
}
INL vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
INL vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
INL vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}
INL vf vf_load(enum simd_type t, const uint8_t *p)
{
    (void)t;
    return _mm512_loadu_ps(p);
}
INL vf vf_load_tail(enum simd_type t, const uint8_t *p, size_t n)
{
    (void)t;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16((__mmask32)((UINT64_C(1) << n) - 1), p));
}
INL __m256 vf_fold(vf v)
{
    return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}
INL void vf_reduce4(const vf *v, float *out)
{
    x86_reduce4(vf_fold(v[0]), vf_fold(v[1]), vf_fold(v[2]), vf_fold(v[3]), out);
}
INL float vf_reduce1(vf v)
{
    return x86_reduce1(vf_fold(v));
}

#include "simd/simd_float.h"

TF_DEFINE(ip, K_IP, bf16, SIMD_BF16)
TF_DEFINE(cos, K_COS, bf16, SIMD_BF16)
TF_DEFINE(norm2, K_NORM2, bf16, SIMD_BF16)

void simd__fill_bf16(struct simd_ops *ops)
{
    TF_SET(ip, bf16, SIMD_BF16);
    TF_SET(cos, bf16, SIMD_BF16);
    TF_SET(norm2, bf16, SIMD_BF16);
}
