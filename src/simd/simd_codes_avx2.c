/*
 * simd_codes_avx2.c - coded rows with AVX2.
 *
 * Bytes are widened: pairs of products of bytes may saturate unless codes have 6 bits.
 */
#include "simd/simd_x86.h"

typedef __m256i vc;
typedef __m256i va;
typedef __m256 vt;
#define VC_BYTES 32
INL vc vc_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
INL vc vc_load_tail(const uint8_t *p, size_t n)
{
    uint8_t tmp[VC_BYTES] = { 0 };
    memcpy(tmp, p, n);
    return vc_load(tmp);
}
INL vc vc_or(vc a, vc b)
{
    return _mm256_or_si256(a, b);
}
INL __m256i widen_s8(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}
INL va va_zero(void)
{
    return _mm256_setzero_si256();
}
INL vc vc_and(vc a, uint8_t mask)
{
    return _mm256_and_si256(a, _mm256_set1_epi8((char)mask));
}
INL vc vc_shr(vc a, int bits)
{
    return _mm256_srli_epi16(a, bits);
}
INL vc vc_shl(vc a, int bits)
{
    return _mm256_slli_epi16(a, bits);
}
/* Of the nb nibble bytes, those from j on: 64 of them share 32 bytes of upper bits. */
INL vc vc_high(const uint8_t *p, size_t nb, size_t j)
{
    const size_t block = nb - j / 64 * 64, left = block < 32 ? block : 32;
    const uint8_t *at = p + j / 64 * 32;
    vc h = left == 32 ? vc_load(at) : vc_load_tail(at, left);
    return j % 64 ? vc_shr(h, 2) : h;
}
INL va va_dot(bool is_small, va s, vc c, const int8_t *v)
{
    if (is_small) {
        __m256i pairs = _mm256_maddubs_epi16(c, vc_load((const uint8_t *)v));
        return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    __m256i c0 = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(c));
    __m256i c1 = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(c, 1));
    s = _mm256_add_epi32(s, _mm256_madd_epi16(c0, widen_s8(v)));
    return _mm256_add_epi32(s, _mm256_madd_epi16(c1, widen_s8(v + 16)));
}
INL va va_self8(va s, vc c)
{
    const __m256i mid = _mm256_set1_epi16(128);
    __m256i c0 = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(c));
    __m256i c1 = _mm256_cvtepu8_epi16(_mm256_extracti128_si256(c, 1));
    s = _mm256_add_epi32(s, _mm256_madd_epi16(c0, _mm256_sub_epi16(c0, mid)));
    return _mm256_add_epi32(s, _mm256_madd_epi16(c1, _mm256_sub_epi16(c1, mid)));
}
INL va va_self(va s, vc c)
{
    __m256i pairs = _mm256_maddubs_epi16(c, c);
    return _mm256_add_epi32(s, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
INL vt va_float(va s)
{
    return _mm256_cvtepi32_ps(s);
}
INL vt vt_mul1(vt a, float b)
{
    return _mm256_mul_ps(a, _mm256_set1_ps(b));
}
INL vt vt_fma1(vt a, float b, vt c)
{
    return _mm256_fmadd_ps(a, _mm256_set1_ps(b), c);
}
INL void vt_reduce4(const vt *v, float *out)
{
    x86_reduce4(v[0], v[1], v[2], v[3], out);
}
INL float vt_reduce1(vt v)
{
    return x86_reduce1(v);
}

#include "simd/simd_rbq.h"
#include "simd/simd_sq.h"
#include "simd/simd_sums.h"

TR_DEFINE_HADAMARD
TR_DEFINE
TR_DEFINE_ROUND

void simd__fill_codes_avx2(struct simd_ops *ops)
{
    ts_fill(ops);
    ds_fill(ops);
    ops->hadamard = hadamard;
    ops->rbq_rows = rbq_rows;
    ops->rbq_ids = rbq_ids;
    ops->bits_le = bits_le;
    ops->round_bytes = round_bytes;
    ops->round_planes = round_planes;
}
