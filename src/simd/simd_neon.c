/*
 * simd_neon.c - aarch64 with its base vector unit (ARMv8.0), so every 64-bit ARM server.
 *
 * Selection stays with the reference: its branch is rarely taken and the scores are in cache.
 */
#include <arm_neon.h>

#include "simd/simd_int.h"

typedef float32x4_t vf;
#define VF_LANES 4

INL vf vf_zero(void)
{
    return vdupq_n_f32(0);
}
INL vf vf_add(vf a, vf b)
{
    return vaddq_f32(a, b);
}
INL vf vf_sub(vf a, vf b)
{
    return vsubq_f32(a, b);
}
INL vf vf_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}
INL vf vf_set1(float f)
{
    return vdupq_n_f32(f);
}
INL vf vf_load(enum simd_type t, const uint8_t *p)
{
    uint32_t four;
    switch (t) {
    case SIMD_F32:
        return vreinterpretq_f32_u8(vld1q_u8(p));
    case SIMD_F16:
        return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
    case SIMD_BF16:
        return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
    default:
        memcpy(&four, p, sizeof four);
        return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(four)))));
    }
}
INL vf vf_load_tail(enum simd_type t, const uint8_t *p, size_t n)
{
    uint8_t tmp[VF_LANES * 4] = { 0 };
    memcpy(tmp, p, n * simd_elem_size(t));
    return vf_load(t, tmp);
}
INL void vf_store(float *p, vf v)
{
    vst1q_f32(p, v);
}
INL void vf_reduce4(const vf *v, float *out)
{
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3])));
}
INL float vf_reduce1(vf v)
{
    v = vpaddq_f32(v, v);
    return vgetq_lane_f32(vpaddq_f32(v, v), 0);
}
INL unsigned vf_above(vf a, vf b)
{
    static const uint32_t bit[4] = { 1, 2, 4, 8 };
    return vaddvq_u32(vbicq_u32(vld1q_u32(bit), vcleq_f32(a, b)));
}

typedef int8x16_t vi;
#define VI_BYTES 16
struct vi_acc {
    int32x4_t a, b;
};
INL void vi_clear(struct vi_acc *s)
{
    s->a = s->b = vdupq_n_s32(0);
}
INL vi vi_load(const uint8_t *p)
{
    return vreinterpretq_s8_u8(vld1q_u8(p));
}
INL vi vi_load_tail(const uint8_t *p, size_t n)
{
    uint8_t tmp[VI_BYTES] = { 0 };
    memcpy(tmp, p, n);
    return vi_load(tmp);
}
/* acc + a * b; products of two bytes fit 16 bits, also (-128)^2. */
INL int32x4_t vi_dot(int32x4_t acc, vi a, vi b)
{
    acc = vpadalq_s16(acc, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    return vpadalq_s16(acc, vmull_s8(vget_high_s8(a), vget_high_s8(b)));
}
INL int32x4_t vi_square(int32x4_t acc, int16x8_t d)
{
    acc = vmlal_s16(acc, vget_low_s16(d), vget_low_s16(d));
    return vmlal_s16(acc, vget_high_s16(d), vget_high_s16(d));
}
INL void vi_step(enum simd_kind k, struct vi_acc *s, vi q, vi x)
{
    if (k == K_L2) {
        s->a = vi_square(s->a, vsubl_s8(vget_low_s8(q), vget_low_s8(x)));
        s->a = vi_square(s->a, vsubl_s8(vget_high_s8(q), vget_high_s8(x)));
        return;
    }
    s->a = vi_dot(s->a, k == K_NORM2 ? x : q, x);
    if (k == K_COS) {
        s->b = vi_dot(s->b, x, x);
    }
}
#define vi_sums(k, acc, query, ret_a, ret_b)                                                       \
    do {                                                                                           \
        *(ret_a) = vaddvq_s32((acc)->a);                                                           \
        *(ret_b) = (k) == K_COS ? vaddvq_s32((acc)->b) : 0;                                        \
    } while (0)

typedef uint8x16_t vb;
#define VB_BYTES 16
INL vb vb_zero(void)
{
    return vdupq_n_u8(0);
}
INL vb vb_load(const uint8_t *p)
{
    return vld1q_u8(p);
}
INL vb vb_load_tail(const uint8_t *p, size_t n)
{
    uint8_t tmp[VB_BYTES] = { 0 };
    memcpy(tmp, p, n);
    return vb_load(tmp);
}
INL vb vb_and(vb a, vb b)
{
    return vandq_u8(a, b);
}
INL vb vb_or(vb a, vb b)
{
    return vorrq_u8(a, b);
}
INL vb vb_xor(vb a, vb b)
{
    return veorq_u8(a, b);
}
INL vb vb_andnot(vb a, vb b)
{
    return vbicq_u8(b, a);
}
INL vb vb_count(vb acc, vb v)
{
    uint32x4_t sums = vpaddlq_u16(vpaddlq_u8(vcntq_u8(v)));
    return vreinterpretq_u8_u64(vpadalq_u32(vreinterpretq_u64_u8(acc), sums));
}
INL uint64_t vb_total(vb v)
{
    uint64x2_t w = vreinterpretq_u64_u8(v);
    return vgetq_lane_u64(w, 0) + vgetq_lane_u64(w, 1);
}
INL bool vb_is_zero(vb v)
{
    uint64x2_t w = vreinterpretq_u64_u8(v);
    return (vgetq_lane_u64(w, 0) | vgetq_lane_u64(w, 1)) == 0;
}

/* Blocks: four rows of four dimensions a vector. */
typedef float32x4_t bf;
#define BL_LANES 4
#define BL_FLUSH 1
struct bl_acc {
    int32x4_t front, back; /* rows 0 and 1, rows 2 and 3: two lanes each */
};
INL void bl_clear(struct bl_acc *s)
{
    s->front = s->back = vdupq_n_s32(0);
}
INL void bl_step(struct bl_acc *s, int odd, const uint8_t *codes, const int8_t *w)
{
    uint32_t four[2];
    memcpy(four, w, sizeof four);
    int8x8_t wl = vreinterpret_s8_u32(vdup_n_u32(four[0]));
    int8x8_t wh = vreinterpret_s8_u32(vdup_n_u32(four[1]));
    uint8x16_t c = vld1q_u8(codes);
    int8x16_t lo = vreinterpretq_s8_u8(vandq_u8(c, vdupq_n_u8(15)));
    int8x16_t hi = vreinterpretq_s8_u8(vshrq_n_u8(c, 4));
    (void)odd;
    s->front = vpadalq_s16(
        s->front, vmlal_s8(vmull_s8(vget_low_s8(lo), wl), vget_low_s8(hi), wh));
    s->back = vpadalq_s16(
        s->back, vmlal_s8(vmull_s8(vget_high_s8(lo), wl), vget_high_s8(hi), wh));
}
INL void bl_flush(struct bl_acc *s)
{
    (void)s;
}
INL bf bl_total(struct bl_acc *s)
{
    return vcvtq_f32_s32(vpaddq_s32(s->front, s->back));
}
INL bf bl_load(const uint8_t *p)
{
    return vreinterpretq_f32_u8(vld1q_u8(p));
}
INL bf bl_set1(float f)
{
    return vdupq_n_f32(f);
}
INL bf bl_mul(bf a, bf b)
{
    return vmulq_f32(a, b);
}
INL bf bl_fma(bf a, bf b, bf c)
{
    return vfmaq_f32(c, a, b);
}
INL void bl_store(float *p, bf v)
{
    vst1q_f32(p, v);
}
INL unsigned bl_hits(bf v, bf cut)
{
    static const uint32_t bit[4] = { 1, 2, 4, 8 };
    return vaddvq_u32(vbicq_u32(vld1q_u32(bit), vcltq_f32(v, cut)));
}

/* 6 rows x 16 queries: 24 sums, 4 query vectors and a row scalar of the 32 registers. */
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

#define FLOAT_SET(type, T)                                                                         \
    TF_SET(l2, type, T);                                                                           \
    TF_SET(ip, type, T);                                                                           \
    TF_SET(cos, type, T);                                                                          \
    TF_SET(norm2, type, T);                                                                        \
    ops->widen[T] = widen_##type

#define FLOAT_QUERY_SET(type, T)                                                                   \
    TF_SET(l2q, type, T);                                                                          \
    TF_SET(ipq, type, T)

void simd__fill_neon(struct simd_ops *ops)
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
    ops->tile_f32 = tile_f32;
    ops->scan_block4 = scan_block4;
}
