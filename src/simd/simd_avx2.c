/*
 * simd_avx2.c - AVX2 with FMA, F16C and POPCNT: the level of nearly every server since 2013.
 *
 * Tails are copied into a zeroed vector, except f32 ones, for which the masked load (which does
 * not touch masked elements) is as good.
 */
#include "simd/simd_x86.h"

typedef __m256 vf;
#define VF_LANES 8

INL vf vf_zero(void)
{
    return _mm256_setzero_ps();
}
INL vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
INL vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
INL vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
INL vf vf_set1(float f)
{
    return _mm256_set1_ps(f);
}
INL vf vf_load(enum simd_type t, const uint8_t *p)
{
    switch (t) {
    case SIMD_F32:
        return _mm256_loadu_ps((const float *)(const void *)p);
    case SIMD_F16:
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
    case SIMD_BF16:
        return _mm256_castsi256_ps(_mm256_slli_epi32(
            _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16));
    default:
        return _mm256_cvtepi32_ps(
            _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
    }
}
INL vf vf_load_tail(enum simd_type t, const uint8_t *p, size_t n)
{
    if (t == SIMD_F32) {
        __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
        return _mm256_maskload_ps((const float *)(const void *)p, mask);
    }
    uint8_t tmp[VF_LANES * 4] = { 0 };
    memcpy(tmp, p, n * simd_elem_size(t));
    return vf_load(t, tmp);
}
INL void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}
INL void vf_reduce4(const vf *v, float *out)
{
    x86_reduce4(v[0], v[1], v[2], v[3], out);
}
INL float vf_reduce1(vf v)
{
    return x86_reduce1(v);
}
INL unsigned vf_above(vf a, vf b)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLE_UQ));
}

/* Integers: widened to 16 bits and multiplied pairwise. vpmaddubsw would saturate on full-range
 * codes. */
typedef __m256i vi;
#define VI_BYTES 16
struct vi_acc {
    __m256i a, b;
};
INL void vi_clear(struct vi_acc *s)
{
    s->a = s->b = _mm256_setzero_si256();
}
INL vi vi_load(const uint8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}
INL vi vi_load_tail(const uint8_t *p, size_t n)
{
    uint8_t tmp[VI_BYTES] = { 0 };
    memcpy(tmp, p, n);
    return vi_load(tmp);
}
INL void vi_step(enum simd_kind k, struct vi_acc *s, vi q, vi x)
{
    if (k == K_L2) {
        vi d = _mm256_sub_epi16(q, x);
        s->a = _mm256_add_epi32(s->a, _mm256_madd_epi16(d, d));
        return;
    }
    s->a = _mm256_add_epi32(s->a, _mm256_madd_epi16(k == K_NORM2 ? x : q, x));
    if (k == K_COS) {
        s->b = _mm256_add_epi32(s->b, _mm256_madd_epi16(x, x));
    }
}
#define vi_sums(k, acc, query, ret_a, ret_b)                                                       \
    do {                                                                                           \
        *(ret_a) = x86_reduce_i32((acc)->a);                                                       \
        *(ret_b) = (k) == K_COS ? x86_reduce_i32((acc)->b) : 0;                                    \
    } while (0)

/* Bits: the two nibbles of each byte are counted by table, bytes are summed to 64-bit lanes. */
typedef __m256i vb;
#define VB_BYTES 32
INL vb vb_zero(void)
{
    return _mm256_setzero_si256();
}
INL vb vb_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
INL vb vb_load_tail(const uint8_t *p, size_t n)
{
    uint8_t tmp[VB_BYTES] = { 0 };
    memcpy(tmp, p, n);
    return vb_load(tmp);
}
INL vb vb_and(vb a, vb b)
{
    return _mm256_and_si256(a, b);
}
INL vb vb_or(vb a, vb b)
{
    return _mm256_or_si256(a, b);
}
INL vb vb_xor(vb a, vb b)
{
    return _mm256_xor_si256(a, b);
}
INL vb vb_andnot(vb a, vb b)
{
    return _mm256_andnot_si256(a, b);
}
INL vb vb_count(vb acc, vb v)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1,
                                           2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    __m256i lo = _mm256_shuffle_epi8(table, _mm256_and_si256(v, low));
    __m256i hi = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(v, 4), low));
    __m256i sums = _mm256_sad_epu8(_mm256_add_epi8(lo, hi), _mm256_setzero_si256());
    return _mm256_add_epi64(acc, sums);
}
INL uint64_t vb_total(vb v)
{
    return x86_reduce_u64(v);
}
INL bool vb_is_zero(vb v)
{
    return _mm256_testz_si256(v, v) != 0;
}

/* Blocks: products of a 4-bit code with a signed byte stay below 2^11, so eight pairs are added in
 * 16 bits before they are widened. */
typedef __m256 bf;
#define BL_LANES 8
#define BL_FLUSH 4
struct bl_acc {
    __m256i sum, part;
};
INL void bl_clear(struct bl_acc *s)
{
    s->sum = s->part = _mm256_setzero_si256();
}
INL __m256i bl_weights(const int8_t *w)
{
    int32_t four;
    memcpy(&four, w, sizeof four);
    return _mm256_set1_epi32(four);
}
INL void bl_step(struct bl_acc *s, int odd, const uint8_t *codes, const int8_t *w)
{
    const __m256i low = _mm256_set1_epi8(15);
    __m256i c = _mm256_loadu_si256((const __m256i *)(const void *)codes);
    __m256i lo = _mm256_maddubs_epi16(_mm256_and_si256(c, low), bl_weights(w));
    __m256i hi = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(c, 4), low),
                                      bl_weights(w + 4));
    (void)odd;
    s->part = _mm256_add_epi16(s->part, _mm256_add_epi16(lo, hi));
}
INL void bl_flush(struct bl_acc *s)
{
    s->sum = _mm256_add_epi32(s->sum, _mm256_madd_epi16(s->part, _mm256_set1_epi16(1)));
    s->part = _mm256_setzero_si256();
}
INL bf bl_total(struct bl_acc *s)
{
    return _mm256_cvtepi32_ps(s->sum);
}
INL bf bl_load(const uint8_t *p)
{
    return _mm256_loadu_ps((const float *)(const void *)p);
}
INL bf bl_set1(float f)
{
    return _mm256_set1_ps(f);
}
INL bf bl_mul(bf a, bf b)
{
    return _mm256_mul_ps(a, b);
}
INL bf bl_fma(bf a, bf b, bf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
INL void bl_store(float *p, bf v)
{
    _mm256_storeu_ps(p, v);
}
INL unsigned bl_hits(bf v, bf cut)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(v, cut, _CMP_NLT_UQ));
}

/* 6 rows x 16 queries: 12 sums, 2 query vectors and a row scalar of the 16 registers. */
#define TILE_ROWS 6
#define TILE_GROUPS 1

#include "simd/simd_bits.h"
#include "simd/simd_block.h"
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

static size_t select_masked(bool le, const float *v, size_t n, float bound, uint32_t *idx)
{
    const __m256 bv = _mm256_set1_ps(bound);
    size_t i = 0, found = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 x = _mm256_loadu_ps(v + i);
        unsigned mask = (unsigned)_mm256_movemask_ps(le ? _mm256_cmp_ps(x, bv, _CMP_LE_OQ)
                                                        : _mm256_cmp_ps(x, bv, _CMP_GE_OQ));
        for (; mask; mask &= mask - 1) {
            idx[found++] = (uint32_t)i + (uint32_t)__builtin_ctz(mask);
        }
    }
    for (; i < n; i++) {
        if (le ? v[i] <= bound : v[i] >= bound) {
            idx[found++] = (uint32_t)i;
        }
    }
    return found;
}

static size_t select_le(const float *v, size_t n, float bound, uint32_t *idx)
{
    return select_masked(true, v, n, bound, idx);
}

static size_t select_ge(const float *v, size_t n, float bound, uint32_t *idx)
{
    return select_masked(false, v, n, bound, idx);
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

void simd__fill_avx2(struct simd_ops *ops)
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
