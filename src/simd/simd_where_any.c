/*
 * simd_where_any.c - interval kernels in plain C: compared into 64 bytes, which compilers vectorise
 * for any CPU, and those packed into one word.
 */
#include <string.h>

#include "simd/simd_where.h"

/* Bytes that are 0 or 1 -> bits: the product moves byte i's lowest bit to bit 56 + i. */
static uint64_t pack64(const uint8_t b[64])
{
    uint64_t w = 0;
    for (int k = 0; k < 8; k++) {
        uint64_t part = 0;
        for (int i = 0; i < 8; i++) { /* one load where bytes lie that way */
            part |= (uint64_t)b[k * 8 + i] << (i * 8);
        }
        w |= (part * UINT64_C(0x0102040810204080) >> 56) << (k * 8);
    }
    return w;
}

#define DEFINE_WHERE(name, T, member)                                                              \
    typedef T name##_cell __attribute__((aligned(1)));                                             \
    static void name(const void *cells, size_t n, union simd_bound lo, union simd_bound hi,        \
                     uint64_t *out)                                                                \
    {                                                                                              \
        const name##_cell *p = cells;                                                              \
        const T from = (T)lo.member, to = (T)hi.member;                                            \
        uint8_t b[64];                                                                             \
        for (; n >= 64; n -= 64, p += 64) {                                                        \
            for (int j = 0; j < 64; j++) {                                                         \
                const T x = p[j];                                                                  \
                b[j] = (uint8_t)((x >= from) & (x <= to));                                         \
            }                                                                                      \
            *out++ = pack64(b);                                                                    \
        }                                                                                          \
        if (n) {                                                                                   \
            memset(b, 0, sizeof b);                                                                \
            for (size_t j = 0; j < n; j++) {                                                       \
                b[j] = (uint8_t)((p[j] >= from) & (p[j] <= to));                                   \
            }                                                                                      \
            *out = pack64(b);                                                                      \
        }                                                                                          \
    }

DEFINE_WHERE(where_i8, int8_t, i)
DEFINE_WHERE(where_i16, int16_t, i)
DEFINE_WHERE(where_i32, int32_t, i)
DEFINE_WHERE(where_i64, int64_t, i)
DEFINE_WHERE(where_f32, float, f)
DEFINE_WHERE(where_f64, double, d)

size_t simd__pick_any(const uint64_t *bits, uint32_t nbits, const uint32_t *rows, size_t n,
                      uint32_t first, uint32_t *out)
{
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t row = rows[i] < nbits ? rows[i] : 0;
        out[m] = first + (uint32_t)i;
        m += (size_t)(bits[row >> 6] >> (row & 63) & 1) & (rows[i] < nbits);
    }
    return m;
}

const struct simd_where simd__where_any = {
    .i8 = where_i8,
    .i16 = where_i16,
    .i32 = where_i32,
    .i64 = where_i64,
    .f32 = where_f32,
    .f64 = where_f64,
    .pick = simd__pick_any,
};
