/* simd_codes_neon.c - coded rows with NEON: codes are widened to 16 bits. */
#include <arm_neon.h>

#include "simd/simd_int.h"

typedef uint8x16_t vc;
typedef int32x4_t va;
typedef float32x4_t vt;
#define VC_BYTES 16
INL vc vc_load(const uint8_t *p)
{
    return vld1q_u8(p);
}
INL vc vc_load_tail(const uint8_t *p, size_t n)
{
    uint8_t tmp[VC_BYTES] = { 0 };
    memcpy(tmp, p, n);
    return vc_load(tmp);
}
INL vc vc_or(vc a, vc b)
{
    return vorrq_u8(a, b);
}
INL vc vc_and(vc a, uint8_t mask)
{
    return vandq_u8(a, vdupq_n_u8(mask));
}
INL vc vc_shr(vc a, int bits)
{
    return vshlq_u8(a, vdupq_n_s8((int8_t)-bits));
}
INL vc vc_shl(vc a, int bits)
{
    return vshlq_u8(a, vdupq_n_s8((int8_t)bits));
}
/* Of the nb nibble bytes, those from j on: 64 of them share 32 bytes of upper bits. */
INL vc vc_high(const uint8_t *p, size_t nb, size_t j)
{
    const size_t block = nb - j / 64 * 64, all = block < 32 ? block : 32;
    const size_t from = j % 32, left = all - from < 16 ? all - from : 16;
    const uint8_t *at = p + j / 64 * 32 + from;
    vc h = left == 16 ? vc_load(at) : vc_load_tail(at, left);
    return j % 64 >= 32 ? vc_shr(h, 2) : h;
}
INL va va_zero(void)
{
    return vdupq_n_s32(0);
}
INL va va_mul(va s, int16x8_t a, int16x8_t b)
{
    s = vmlal_s16(s, vget_low_s16(a), vget_low_s16(b));
    return vmlal_s16(s, vget_high_s16(a), vget_high_s16(b));
}
INL int16x8_t vc_low(vc c)
{
    return vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(c)));
}
INL int16x8_t vc_upper(vc c)
{
    return vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(c)));
}
INL va va_dot(bool is_small, va s, vc c, const int8_t *v)
{
    (void)is_small;
    int8x16_t q = vld1q_s8(v);
    s = va_mul(s, vc_low(c), vmovl_s8(vget_low_s8(q)));
    return va_mul(s, vc_upper(c), vmovl_s8(vget_high_s8(q)));
}
INL va va_self8(va s, vc c)
{
    const int16x8_t mid = vdupq_n_s16(128);
    s = va_mul(s, vc_low(c), vsubq_s16(vc_low(c), mid));
    return va_mul(s, vc_upper(c), vsubq_s16(vc_upper(c), mid));
}
INL va va_self(va s, vc c)
{
    return va_mul(va_mul(s, vc_low(c), vc_low(c)), vc_upper(c), vc_upper(c));
}
INL vt va_float(va s)
{
    return vcvtq_f32_s32(s);
}
INL vt vt_mul1(vt a, float b)
{
    return vmulq_n_f32(a, b);
}
INL vt vt_fma1(vt a, float b, vt c)
{
    return vfmaq_n_f32(c, a, b);
}
INL void vt_reduce4(const vt *v, float *out)
{
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3])));
}
INL float vt_reduce1(vt v)
{
    v = vpaddq_f32(v, v);
    return vgetq_lane_f32(vpaddq_f32(v, v), 0);
}

#include "simd/simd_rbq.h"
#include "simd/simd_sq.h"
#include "simd/simd_sums.h"

TR_DEFINE_HADAMARD
TR_DEFINE
TR_DEFINE_ROUND

void simd__fill_codes_neon(struct simd_ops *ops)
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
