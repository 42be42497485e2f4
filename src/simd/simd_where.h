/*
 * simd_where.h - which cells of a column lie in a closed interval, as bits; which bits of some rows
 * are set.
 *
 * A table beside simd_ops, chosen by the same level; src/query is its user. Every comparison with a
 * constant is an interval or what it leaves out: integers and floats alike have a next value.
 * All kernels: no alignment assumed, nothing read past n cells, no state, any thread. A NaN lies in
 * no interval, and none has cells when lo is above hi or either is a NaN.
 */
#pragma once
#include "simd/simd.h"

/* Bounds in the member of the cells' type: f of f32, d of f64, i of every integer, whose bounds must
 * be values of that type. */
union simd_bound {
    int64_t i;
    float f;
    double d;
};

/* Bit j of out is set where lo <= cell j <= hi; out has room for n bits in whole words, and those
 * past n become 0. */
typedef void simd_where_fn(const void *cells, size_t n, union simd_bound lo, union simd_bound hi,
                           uint64_t *out);

/* first + i for each i with rows[i] below nbits and that bit of bits set, ascending, into out, which
 * has room for n + SIMD_PICK_MORE: what follows the picked is overwritten. Returns their number. */
#define SIMD_PICK_MORE 16
typedef size_t simd_pick_fn(const uint64_t *bits, uint32_t nbits, const uint32_t *rows, size_t n,
                            uint32_t first, uint32_t *out);

struct simd_where {
    simd_where_fn *i8, *i16, *i32, *i64, *f32, *f64;
    simd_pick_fn *pick;
};

const struct simd_where *simd_where(void);
/* Of one level; NULL when this machine does not have it. For tests. */
const struct simd_where *simd_where_at(enum simd_level level);

/* For the tables below AVX-512: a gather of 256 bits is no faster. */
simd_pick_fn simd__pick_any;
extern const struct simd_where simd__where_any, simd__where_avx2, simd__where_avx512;

/* A simd_where_fn of one level from word(): the bits of 64 cells of width bytes against bounds in
 * V. The rest is compared from a copy, so that nothing past the end is read. */
#define WHERE_BY_WORDS(name, V, set_lo, set_hi, word, width)                                       \
    static void name(const void *cells, size_t n, union simd_bound lo, union simd_bound hi,        \
                     uint64_t *out)                                                                \
    {                                                                                              \
        const uint8_t *p = cells;                                                                  \
        const V from = set_lo, to = set_hi;                                                        \
        for (; n >= 64; n -= 64, p += 64 * (width)) {                                              \
            *out++ = word(p, from, to);                                                            \
        }                                                                                          \
        if (n) {                                                                                   \
            uint8_t rest[64 * (width)] = { 0 };                                                    \
            memcpy(rest, p, n * (width));                                                          \
            *out = word(rest, from, to) & ((UINT64_C(1) << n) - 1);                                \
        }                                                                                          \
    }
