/*
 * vec_value.c - components of float vectors: finding NaN and infinities, narrowing fp32.
 *
 * Every inserted component passes here once, so the check runs in blocks of a fixed size without
 * a branch inside, which compilers turn into vector code: adding one unit to an exponent field of
 * all ones carries into the sign bit, which was masked away before. Only a block with a hit is
 * searched for the place.
 */
#include "schema/schema_int.h"
#include <string.h>

#define BLOCK 64

size_t f32_first_not_finite(const void *p, size_t n)
{
    const uint8_t *src = p;
    for (size_t i = 0; i < n; i += BLOCK) {
        uint32_t v[BLOCK] = {0}, acc = 0;
        size_t m = MIN((size_t)BLOCK, n - i);
        memcpy(v, src + i * 4, m * 4);
        for (size_t j = 0; j < BLOCK; j++) {
            acc |= (v[j] & 0x7f800000u) + 0x00800000u;
        }
        for (size_t j = 0; (acc & 0x80000000u) && j < m; j++) {
            if ((v[j] & 0x7f800000u) == 0x7f800000u) {
                return i + j;
            }
        }
    }
    return n;
}

static size_t half_first_not_finite(const void *p, size_t n, uint16_t exponent, uint16_t unit)
{
    const uint8_t *src = p;
    for (size_t i = 0; i < n; i += BLOCK) {
        uint16_t v[BLOCK] = {0}, acc = 0;
        size_t m = MIN((size_t)BLOCK, n - i);
        memcpy(v, src + i * 2, m * 2);
        for (size_t j = 0; j < BLOCK; j++) {
            acc = (uint16_t)(acc | (uint16_t)((v[j] & exponent) + unit));
        }
        for (size_t j = 0; (acc & 0x8000u) && j < m; j++) {
            if ((v[j] & exponent) == exponent) {
                return i + j;
            }
        }
    }
    return n;
}

size_t f16_first_not_finite(const void *p, size_t n)
{
    return half_first_not_finite(p, n, 0x7c00u, 0x0400u);
}

size_t bf16_first_not_finite(const void *p, size_t n)
{
    return half_first_not_finite(p, n, 0x7f80u, 0x0080u);
}

size_t vec_first_not_finite(enum dtype type, const void *p, size_t n)
{
    switch (type) {
    case DT_FLOAT_VECTOR:
        return f32_first_not_finite(p, n);
    case DT_FLOAT16_VECTOR:
        return f16_first_not_finite(p, n);
    case DT_BFLOAT16_VECTOR:
        return bf16_first_not_finite(p, n);
    default:
        return n;
    }
}

static uint16_t f16_of_bits(uint32_t b)
{
    uint32_t sign = (b >> 16) & 0x8000u, a = b & 0x7fffffffu;
    if (a > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u);
    }
    if (a >= 0x477ff000u) { /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (a < 0x38800000u) {
        /* Below the smallest normal fp16: the spacing of floats at 0.5 is that of fp16's
         * subnormals, so the addition rounds to it. */
        float f;
        memcpy(&f, &a, 4);
        f += 0.5f;
        memcpy(&a, &f, 4);
        return (uint16_t)(sign | (a - 0x3f000000u));
    }
    a += 0xfffu + ((a >> 13) & 1);
    return (uint16_t)(sign | ((a - 0x38000000u) >> 13));
}

void f32_to_f16(void *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t b;
        memcpy(&b, (const uint8_t *)src + i * 4, 4);
        uint16_t h = f16_of_bits(b);
        memcpy((uint8_t *)dst + i * 2, &h, 2);
    }
}

void f32_to_bf16(void *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t b;
        memcpy(&b, (const uint8_t *)src + i * 4, 4);
        bool nan = (b & 0x7fffffffu) > 0x7f800000u;
        uint16_t h =
            nan ? (uint16_t)((b >> 16) | 0x40u) : (uint16_t)((b + 0x7fffu + ((b >> 16) & 1)) >> 16);
        memcpy((uint8_t *)dst + i * 2, &h, 2);
    }
}
