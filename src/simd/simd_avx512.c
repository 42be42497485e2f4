/*
 * simd_avx512.c - AVX-512 F, BW, DQ, VL. Tails use masked loads, which do not touch what is masked,
 * so no dimension has a scalar remainder.
 */
#include "simd/simd_x86.h"

typedef __m512 vf;
#define VF_LANES 16

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
    return _mm512_fmadd_ps(a, b, c);
}
INL vf vf_set1(float f)
{
    return _mm512_set1_ps(f);
}
INL vf vf_load(enum simd_type t, const uint8_t *p)
{
    switch (t) {
    case SIMD_F32:
        return _mm512_loadu_ps(p);
    case SIMD_F16:
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
    case SIMD_BF16:
        return _mm512_castsi512_ps(_mm512_slli_epi32(
            _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16));
    default:
        return _mm512_cvtepi32_ps(
            _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)));
    }
}
INL vf vf_load_tail(enum simd_type t, const uint8_t *p, size_t n)
{
    __mmask16 m = (__mmask16)((1u << n) - 1);
    switch (t) {
    case SIMD_F32:
        return _mm512_maskz_loadu_ps(m, p);
    case SIMD_F16:
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
    case SIMD_BF16:
        return _mm512_castsi512_ps(
            _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
    default:
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, p)));
    }
}
INL void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
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
INL unsigned vf_above(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ);
}

typedef __m512i vi;
#define VI_BYTES 32
struct vi_acc {
    __m512i a, b;
};
INL void vi_clear(struct vi_acc *s)
{
    s->a = s->b = _mm512_setzero_si512();
}
INL vi vi_load(const uint8_t *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
INL vi vi_load_tail(const uint8_t *p, size_t n)
{
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8((__mmask32)((1u << n) - 1), p));
}
INL void vi_step(enum simd_kind k, struct vi_acc *s, vi q, vi x)
{
    if (k == K_L2) {
        vi d = _mm512_sub_epi16(q, x);
        s->a = _mm512_add_epi32(s->a, _mm512_madd_epi16(d, d));
        return;
    }
    s->a = _mm512_add_epi32(s->a, _mm512_madd_epi16(k == K_NORM2 ? x : q, x));
    if (k == K_COS) {
        s->b = _mm512_add_epi32(s->b, _mm512_madd_epi16(x, x));
    }
}
INL int32_t vi_total(__m512i v)
{
    return x86_reduce_i32(
        _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1)));
}
#define vi_sums(k, acc, query, ret_a, ret_b)                                                       \
    do {                                                                                           \
        *(ret_a) = vi_total((acc)->a);                                                             \
        *(ret_b) = (k) == K_COS ? vi_total((acc)->b) : 0;                                          \
    } while (0)

/* Bits without VPOPCNTDQ: nibble table, as in AVX2. */
typedef __m512i vb;
#define VB_BYTES 64
INL vb vb_count(vb acc, vb v)
{
    const __m512i table =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i low = _mm512_set1_epi8(15);
    __m512i lo = _mm512_shuffle_epi8(table, _mm512_and_si512(v, low));
    __m512i hi = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(v, 4), low));
    __m512i sums = _mm512_sad_epu8(_mm512_add_epi8(lo, hi), _mm512_setzero_si512());
    return _mm512_add_epi64(acc, sums);
}

/* Block sums without VNNI: products of a 4-bit code fit 16 bits eight at a time, as in AVX2. */
struct bl_acc {
    __m512i sum, part;
};
#define BL_FLUSH 4
INL void bl_clear(struct bl_acc *s)
{
    s->sum = s->part = _mm512_setzero_si512();
}
INL __m512i bl_weights(const int8_t *w);
INL void bl_step(struct bl_acc *s, int odd, const uint8_t *codes, const int8_t *w)
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512i c = _mm512_loadu_si512(codes);
    __m512i lo = _mm512_maddubs_epi16(_mm512_and_si512(c, low), bl_weights(w));
    __m512i hi = _mm512_maddubs_epi16(_mm512_and_si512(_mm512_srli_epi16(c, 4), low),
                                      bl_weights(w + 4));
    (void)odd;
    s->part = _mm512_add_epi16(s->part, _mm512_add_epi16(lo, hi));
}
INL void bl_flush(struct bl_acc *s)
{
    s->sum = _mm512_add_epi32(s->sum, _mm512_madd_epi16(s->part, _mm512_set1_epi16(1)));
    s->part = _mm512_setzero_si512();
}
INL __m512 bl_total(struct bl_acc *s)
{
    return _mm512_cvtepi32_ps(s->sum);
}

/* 8 rows x 48 queries: 24 sums, 3 query vectors and a row scalar of the 32 registers. */
#define TILE_ROWS 8
#define TILE_GROUPS 3

#include "simd/simd_avx512_bits.h"
#include "simd/simd_avx512_block.h"
#include "simd/simd_float.h"
#include "simd/simd_i8.h"
#include "simd/simd_tile.h"

#define FLOAT_TYPE(type, T)                                                                        \
    TF_DEFINE(l2, K_L2, type, T)                                                                   \
    TF_DEFINE(ip, K_IP, type, T)                                                                   \
    TF_DEFINE(cos, K_COS, type, T)                                                                 \
    TF_DEFINE(norm2, K_NORM2, type, T)                                                             \
    TF_DEFINE_WIDEN(type, T)
FLOAT_TYPE(f32, SIMD_F32)
FLOAT_TYPE(f16, SIMD_F16)
FLOAT_TYPE(bf16, SIMD_BF16)
TF_DEFINE_WIDEN(i8, SIMD_I8)
#define FLOAT_QUERY(type, T)                                                                       \
    TF_DEFINE_TYPES(l2q, K_L2, SIMD_F32, type, T)                                                  \
    TF_DEFINE_TYPES(ipq, K_IP, SIMD_F32, type, T)
FLOAT_QUERY(f16, SIMD_F16)
FLOAT_QUERY(bf16, SIMD_BF16)
FLOAT_QUERY(i8, SIMD_I8)

/* Compresses in a register and stores under a mask: compressing straight to memory is microcoded
 * on Zen 4. */
INL size_t select_masked(int cmp_le, const float *v, size_t n, float bound, uint32_t *idx)
{
    const __m512 bv = _mm512_set1_ps(bound);
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t found = 0;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 in = 0xffff;
        if (n - i < 16) {
            in = (__mmask16)((1u << (n - i)) - 1);
        }
        __m512 x = _mm512_maskz_loadu_ps(in, v + i);
        __mmask16 m = cmp_le ? _mm512_mask_cmp_ps_mask(in, x, bv, _CMP_LE_OQ)
                             : _mm512_mask_cmp_ps_mask(in, x, bv, _CMP_GE_OQ);
        if (m) {
            unsigned count = (unsigned)__builtin_popcount(m);
            __m512i at = _mm512_add_epi32(lane, _mm512_set1_epi32((int)i));
            _mm512_mask_storeu_epi32(idx + found, (__mmask16)((1u << count) - 1),
                                     _mm512_maskz_compress_epi32(m, at));
            found += count;
        }
    }
    return found;
}

static size_t select_le(const float *v, size_t n, float bound, uint32_t *idx)
{
    return select_masked(1, v, n, bound, idx);
}

static size_t select_ge(const float *v, size_t n, float bound, uint32_t *idx)
{
    return select_masked(0, v, n, bound, idx);
}

#define FLOAT_SET(type, T)                                                                         \
    TF_SET(l2, type, T);                                                                           \
    TF_SET(ip, type, T);                                                                           \
    TF_SET(cos, type, T);                                                                          \
    TF_SET(norm2, type, T);                                                                        \
    ops->widen[T] = widen_##type

#define FLOAT_QUERY_SET(type, T)                                                                   \
    TF_SET(l2q, type, T);                                                                          \
    TF_SET(ipq, type, T)

void simd__fill_avx512(struct simd_ops *ops)
{
    FLOAT_SET(f32, SIMD_F32);
    FLOAT_SET(f16, SIMD_F16);
    FLOAT_SET(bf16, SIMD_BF16);
    ops->widen[SIMD_I8] = widen_i8;
    ops->l2q[SIMD_F32] = ops->l2[SIMD_F32];
    ops->ipq[SIMD_F32] = ops->ip[SIMD_F32];
    FLOAT_QUERY_SET(f16, SIMD_F16);
    FLOAT_QUERY_SET(bf16, SIMD_BF16);
    FLOAT_QUERY_SET(i8, SIMD_I8);
    ti_fill(ops);
    tb_fill(ops);
    ops->select_le = select_le;
    ops->select_ge = select_ge;
    ops->tile_f32 = tile_f32;
    ops->scan_block4 = scan_block4;
}
