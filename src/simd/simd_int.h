/*
 * simd_int.h - what the level files share: kinds, unaligned scalars, the fill functions.
 *
 * Included by files that are compiled for one CPU level each, so everything here is static and
 * inlined: a function with external linkage could be built for the wrong CPU and still be chosen
 * by the linker for everyone.
 */
#pragma once
#include <string.h>

#include "simd/simd.h"

#define INL static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum simd_kind { K_L2, K_IP, K_COS, K_NORM2 };
enum simd_bit_kind { KB_HAMMING, KB_JACCARD, KB_SUBSET, KB_SUPERSET };

INL size_t simd_elem_size(enum simd_type t)
{
    return t == SIMD_F32 ? 4 : t == SIMD_I8 ? 1 : 2;
}

INL float simd_load_f32(const uint8_t *p)
{
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

INL uint16_t simd_load_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

INL float simd_bits_to_f32(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

INL float simd_bf16_to_f32(uint16_t h)
{
    return simd_bits_to_f32((uint32_t)h << 16);
}

/* Exact for every half, denormals included; a NaN becomes a quiet NaN with its payload. */
INL float simd_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exp = (h >> 10) & 0x1f, man = h & 0x3ffu;
    if (exp == 0) { /* zero or denormal: man * 2^-24 */
        float f = (float)man * 0x1p-24f;
        return sign ? -f : f;
    }
    if (exp == 31) {
        return simd_bits_to_f32(sign | 0x7f800000u | (man ? 0x400000u | man << 13 : 0));
    }
    return simd_bits_to_f32(sign | (exp + 112) << 23 | man << 13);
}

INL uint32_t simd_f32_bits(float f)
{
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    return b;
}

/* Nearest, ties to even. */
INL uint16_t simd_f32_to_f16(float f)
{
    uint32_t b = simd_f32_bits(f), sign = b >> 16 & 0x8000u, a = b & 0x7fffffffu;
    if (a > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | (a >> 13 & 0x3ffu));
    }
    if (a >= 0x477ff000u) { /* rounds to 2^16 or more */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (a < 0x38800000u) { /* below 2^-14: adding 0.5 leaves multiples of 2^-24 in the low bits */
        float m = simd_bits_to_f32(a) + 0.5f;
        return (uint16_t)(sign | (simd_f32_bits(m) - 0x3f000000u));
    }
    a += 0xfffu + (a >> 13 & 1u);
    return (uint16_t)(sign | ((a - 0x38000000u) >> 13));
}

INL uint16_t simd_f32_to_bf16(float f)
{
    uint32_t b = simd_f32_bits(f);
    if ((b & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(b >> 16 | 0x40u);
    }
    return (uint16_t)((b + 0x7fffu + (b >> 16 & 1u)) >> 16);
}

INL float simd_elem_f32(enum simd_type t, const uint8_t *p, size_t i)
{
    switch (t) {
    case SIMD_F32:
        return simd_load_f32(p + 4 * i);
    case SIMD_F16:
        return simd_f16_to_f32(simd_load_u16(p + 2 * i));
    case SIMD_BF16:
        return simd_bf16_to_f32(simd_load_u16(p + 2 * i));
    default:
        return (float)(int8_t)p[i];
    }
}

/* The last steps of COSINE, the same at every level. */
INL float simd_cos_f32(float ip, float q_norm, float x_norm2)
{
    return q_norm == 0 || x_norm2 == 0 ? 0 : ip / q_norm / __builtin_sqrtf(x_norm2);
}

INL float simd_cos_i32(int32_t ip, int32_t qq, int32_t xx)
{
    if (qq == 0 || xx == 0) {
        return 0;
    }
    return (float)((double)ip / __builtin_sqrt((double)qq * (double)xx));
}

/* One rounding: both counts are exact in f32 up to dim 2^24. */
INL float simd_jaccard(uint64_t inter, uint64_t uni)
{
    return uni == 0 ? 0 : (float)(uni - inter) / (float)uni;
}

void simd__fill_ref(struct simd_ops *ops);
void simd__fill_avx2(struct simd_ops *ops);
void simd__fill_avx512(struct simd_ops *ops);
void simd__fill_vnni(struct simd_ops *ops);
void simd__fill_pop(struct simd_ops *ops);
void simd__fill_bf16(struct simd_ops *ops);
void simd__fill_neon(struct simd_ops *ops);
void simd__fill_codes_avx2(struct simd_ops *ops);
void simd__fill_codes_avx512(struct simd_ops *ops);
void simd__fill_codes_vnni(struct simd_ops *ops);
void simd__fill_codes_pop(struct simd_ops *ops);
void simd__fill_codes_neon(struct simd_ops *ops);

/* ---- What goes before coding, in plain C; simd_ref.c has it too ---- */

#define DS_PLAIN                                                                                   \
    static float largest(const float *x, size_t n)                                                 \
    {                                                                                              \
        uint32_t most = 0;                                                                         \
        for (size_t i = 0; i < n; i++) {                                                           \
            uint32_t b;                                                                            \
            memcpy(&b, x + i, sizeof b);                                                           \
            b &= 0x7fffffffu;                                                                      \
            most = b > most ? b : most;                                                            \
        }                                                                                          \
        return simd_bits_to_f32(most);                                                             \
    }                                                                                              \
    static void times(float *x, const float *y, size_t n)                                          \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            x[i] *= y[i];                                                                          \
        }                                                                                          \
    }                                                                                              \
    static void less(const float *x, const float *y, size_t n, float most, float *out)             \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            float v = x[i] - y[i];                                                                 \
            float w = v > most ? most : v;                                                         \
            out[i] = w < -most ? -most : w;                                                        \
        }                                                                                          \
    }                                                                                              \
    static void plane_sums(const int8_t *hi, const int8_t *lo, size_t n, double *ret_sum,          \
                           double *ret_squares)                                                    \
    {                                                                                              \
        int32_t h = 0, l = 0, hh = 0, hl = 0, ll = 0; /* below 2^30 */                             \
        for (size_t i = 0; i < n; i++) {                                                           \
            const int16_t a = hi[i], b = lo[i];                                                    \
            h += a;                                                                                \
            l += b;                                                                                \
            hh += a * a;                                                                           \
            hl += a * b;                                                                           \
            ll += b * b;                                                                           \
        }                                                                                          \
        *ret_sum = 128.0 * h + l;                                                                  \
        *ret_squares = 128.0 * 128.0 * hh + 256.0 * hl + ll;                                       \
    }
#define DS_PLAIN_FILL(ops)                                                                         \
    (ops)->largest = largest;                                                                      \
    (ops)->times = times;                                                                          \
    (ops)->less = less;                                                                            \
    (ops)->plane_sums = plane_sums
