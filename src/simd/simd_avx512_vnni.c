/*
 * simd_avx512_vnni.c - int8 sums with VNNI.
 *
 * vpdpbusd multiplies unsigned by signed bytes, so a row's byte x is taken as x' = x + 128 (one
 * exclusive or) against the signed query or row, and the surplus is subtracted afterwards:
 *
 *     sum x'q = xq + 128 Sq        sum x'x = xx + 128 Sx        sum 64x = 64 Sx
 *     L2 = xx - 2 xq + qq = sum x'x - 2 (sum x'q + sum 64x) + 256 Sq + qq
 *
 * 32-bit lanes may wrap on the way; the final sum fits (simd.h) and arithmetic is modulo 2^32.
 */
#include "simd/simd_x86.h"

typedef __m512i vi;
#define VI_BYTES 64
struct vi_acc {
    __m512i a, b;
};

INL void vi_clear(struct vi_acc *s)
{
    s->a = s->b = _mm512_setzero_si512();
}
INL vi vi_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}
INL vi vi_load_tail(const uint8_t *p, size_t n)
{
    return _mm512_maskz_loadu_epi8((UINT64_C(1) << n) - 1, p);
}
INL vi vi_plus128(vi x)
{
    return _mm512_xor_si512(x, _mm512_set1_epi8((char)0x80));
}
/* COSINE needs xx beside xq. A third accumulator for it would spill, so x is widened to 16 bits. */
INL void vi_step(enum simd_kind k, struct vi_acc *s, vi q, vi x)
{
    vi u = vi_plus128(x);
    if (k == K_L2) {
        s->a = _mm512_dpbusd_epi32(s->a, u, x);
        s->b = _mm512_dpbusd_epi32(s->b, u, q);
        s->b = _mm512_dpbusd_epi32(s->b, _mm512_set1_epi8(64), x);
    } else if (k == K_IP) {
        s->a = _mm512_dpbusd_epi32(s->a, u, q);
    } else if (k == K_NORM2) {
        s->a = _mm512_dpbusd_epi32(s->a, u, x);
        s->b = _mm512_dpbusd_epi32(s->b, _mm512_set1_epi8(64), x);
    } else {
        s->a = _mm512_dpbusd_epi32(s->a, u, q);
        __m512i lo = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(x));
        __m512i hi = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(x, 1));
        s->b = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(s->b, lo, lo), hi, hi);
    }
}
INL uint32_t vi_total(__m512i v)
{
    return (uint32_t)x86_reduce_i32(
        _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1)));
}
#define vi_sums(k, acc, query, ret_a, ret_b)                                                       \
    do {                                                                                           \
        uint32_t a_ = vi_total((acc)->a), b_ = (k) == K_IP ? 0 : vi_total((acc)->b);               \
        uint32_t sum_ = (uint32_t)(query).sum;                                                     \
        *(ret_b) = (int32_t)b_;                                                                    \
        if ((k) == K_L2) {                                                                         \
            *(ret_a) = (int32_t)(a_ - 2 * b_ + 256 * sum_ + (uint32_t)(query).sum2);               \
        } else if ((k) == K_NORM2) {                                                               \
            *(ret_a) = (int32_t)(a_ - 2 * b_);                                                     \
        } else {                                                                                   \
            *(ret_a) = (int32_t)(a_ - 128 * sum_);                                                 \
        }                                                                                          \
    } while (0)

/* Block sums. The high halves stay where they are, sixteen times too large; their sums are divided
 * once at the end. Four chains: the instruction takes four cycles. */
struct bl_acc {
    __m512i lo[2], hi[2];
};
#define BL_FLUSH 2
INL void bl_clear(struct bl_acc *s)
{
    s->lo[0] = s->lo[1] = s->hi[0] = s->hi[1] = _mm512_setzero_si512();
}
INL __m512i bl_weights(const int8_t *w);
INL void bl_step(struct bl_acc *s, int odd, const uint8_t *codes, const int8_t *w)
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512i c = _mm512_loadu_si512(codes);
    s->lo[odd] = _mm512_dpbusd_epi32(s->lo[odd], _mm512_and_si512(c, low), bl_weights(w));
    s->hi[odd] = _mm512_dpbusd_epi32(s->hi[odd], _mm512_andnot_si512(low, c), bl_weights(w + 4));
}
INL void bl_flush(struct bl_acc *s)
{
    (void)s;
}
INL __m512 bl_total(struct bl_acc *s)
{
    __m512i hi = _mm512_srai_epi32(_mm512_add_epi32(s->hi[0], s->hi[1]), 4);
    return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_add_epi32(s->lo[0], s->lo[1]), hi));
}

#include "simd/simd_avx512_block.h"
#include "simd/simd_i8.h"

void simd__fill_vnni(struct simd_ops *ops)
{
    ti_fill(ops);
    ops->scan_block4 = scan_block4;
}
