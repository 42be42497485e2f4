/*
 * test_where.c - the interval kernels of every level against one cell after the other.
 *
 * Cells end flush with their allocation and start at odd addresses, so that the address sanitizer
 * sees a read past the last one; bits past the last row must be 0 whatever was there before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "simd/simd_where.h"

static uint64_t rng_state = 88172645463325252u;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static const struct simd_where *tables[SIMD_NLEVELS];

static int setup(void **state)
{
    (void)state;
    for (int l = 0; l < SIMD_NLEVELS; l++) {
        tables[l] = simd_where_at((enum simd_level)l);
    }
    assert_non_null(tables[SIMD_LEVEL_REF]);
    return 0;
}

static const size_t counts[] = { 0, 1, 7, 31, 63, 64, 65, 127, 128, 191, 200, 640, 1000 };
#define NCOUNTS (sizeof counts / sizeof counts[0])

/* Every edge of a type as cell and as bound, and values between. */
#define DEFINE_TEST(name, T, member, field, random_cell)                                           \
    static void test_##name##_when_any_level_then_as_cell_by_cell(void **state)                    \
    {                                                                                              \
        for (size_t c = 0; c < NCOUNTS; c++) {                                                     \
            size_t n = counts[c];                                                                  \
            uint8_t *mem = malloc(n * sizeof(T) + 1), *cells = mem + 1;                            \
            uint64_t out[16];                                                                      \
            for (size_t i = 0; i < n; i++) {                                                       \
                T x = random_cell;                                                                 \
                memcpy(cells + i * sizeof(T), &x, sizeof x);                                       \
            }                                                                                      \
            for (int round = 0; round < 40; round++) {                                             \
                const T lo = random_cell, hi = random_cell;                                        \
                const union simd_bound from = { .field = lo }, to = { .field = hi };               \
                for (int l = 0; l < SIMD_NLEVELS; l++) {                                           \
                    if (!tables[l]) {                                                              \
                        continue;                                                                  \
                    }                                                                              \
                    memset(out, 0xa5, sizeof out);                                                 \
                    tables[l]->member(cells, n, from, to, out);                                    \
                    for (size_t i = 0; i < (n + 63) / 64 * 64; i++) {                              \
                        T x = 0;                                                                   \
                        memcpy(&x, cells + (i < n ? i * sizeof(T) : 0), n ? sizeof x : 0);         \
                        int want = i < n && x >= lo && x <= hi;                                    \
                        assert_int_equal(out[i / 64] >> i % 64 & 1, want);                         \
                    }                                                                              \
                    assert_true((n + 63) / 64 == 16 ||                                             \
                                out[(n + 63) / 64] == UINT64_C(0xa5a5a5a5a5a5a5a5));               \
                }                                                                                  \
            }                                                                                      \
            free(mem);                                                                             \
        }                                                                                          \
    }

/* Of an integer type: its ends, around zero, or anything. */
static int64_t some_int(int64_t min, int64_t max)
{
    const int64_t edge[] = { min, min + 1, max, max - 1, 0, -1, 1 };
    uint64_t r = rng();
    if (r % 3 == 0) {
        return edge[r / 3 % 7];
    }
    return r % 3 == 1 ? (int64_t)(r / 3 % 20) - 10 : (int64_t)((uint64_t)rng() >> (r / 3 % 60));
}

static double some_float(double max, double least)
{
    const double edge[] = { -INFINITY, INFINITY, NAN, max, -max, least, -least, 0.0, -0.0 };
    uint64_t r = rng();
    return r % 3 == 0 ? edge[r / 3 % 9] : (double)((int64_t)(r / 3 % 200) - 100) / 8;
}

DEFINE_TEST(i8, int8_t, i8, i, (int8_t)some_int(INT8_MIN, INT8_MAX))
DEFINE_TEST(i16, int16_t, i16, i, (int16_t)some_int(INT16_MIN, INT16_MAX))
DEFINE_TEST(i32, int32_t, i32, i, (int32_t)some_int(INT32_MIN, INT32_MAX))
DEFINE_TEST(i64, int64_t, i64, i, some_int(INT64_MIN, INT64_MAX))
DEFINE_TEST(f32, float, f32, f, (float)some_float(FLT_MAX, 0x1p-149))
DEFINE_TEST(f64, double, f64, d, some_float(DBL_MAX, 0x1p-1074))

static void test_pick_when_any_level_then_rows_whose_bits_are_set(void **state)
{
    for (int round = 0; round < 200; round++) {
        size_t n = rng() % 100;
        uint32_t nbits = 1 + (uint32_t)(rng() % 300), first = (uint32_t)(rng() % 1000);
        uint32_t *rows = malloc(n * 4 + 1), *out = malloc((n + SIMD_PICK_MORE) * 4);
        uint64_t *bits = malloc((nbits + 63) / 64 * 8);
        for (size_t i = 0; i < (nbits + 63) / 64; i++) {
            bits[i] = rng();
        }
        for (size_t i = 0; i < n; i++) { /* some beyond the bits */
            rows[i] = rng() % 10 ? (uint32_t)(rng() % nbits) : nbits + (uint32_t)(rng() % 3);
            rows[i] = rng() % 50 ? rows[i] : UINT32_MAX;
        }
        for (int l = 0; l < SIMD_NLEVELS; l++) {
            if (!tables[l]) {
                continue;
            }
            size_t got = tables[l]->pick(bits, nbits, rows, n, first, out), want = 0;
            for (size_t i = 0; i < n; i++) {
                if (rows[i] < nbits && bits[rows[i] / 64] >> rows[i] % 64 & 1) {
                    assert_true(want < got);
                    assert_int_equal(out[want], first + i);
                    want++;
                }
            }
            assert_int_equal(got, want);
        }
        free(rows);
        free(out);
        free(bits);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_i8_when_any_level_then_as_cell_by_cell),
        cmocka_unit_test(test_i16_when_any_level_then_as_cell_by_cell),
        cmocka_unit_test(test_i32_when_any_level_then_as_cell_by_cell),
        cmocka_unit_test(test_i64_when_any_level_then_as_cell_by_cell),
        cmocka_unit_test(test_f32_when_any_level_then_as_cell_by_cell),
        cmocka_unit_test(test_f64_when_any_level_then_as_cell_by_cell),
        cmocka_unit_test(test_pick_when_any_level_then_rows_whose_bits_are_set),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
