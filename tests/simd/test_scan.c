/*
 * test_scan.c - the scan kernels of every level against loops written here.
 *
 * Sums of integers must be equal; floats within the rounding of their sums. Blocks end flush with
 * their allocation, so that the address sanitizer sees a read past the last one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "simd/simd_scan.h"

static uint64_t rng_state = 88172645463325252u;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static float unit(void)
{
    return (float)((double)(int64_t)rng() * 0x1p-63);
}

static const struct simd_scan *tables[SIMD_NLEVELS];

static int setup(void **state)
{
    (void)state;
    for (int l = 0; l < SIMD_NLEVELS; l++) {
        tables[l] = simd_scan_at((enum simd_level)l);
    }
    assert_non_null(tables[SIMD_LEVEL_REF]);
    return 0;
}

/* Random blocks: the last ends where its memory ends. */
static uint8_t *make_blocks(struct simd_blocks *b, size_t nsteps, size_t nblocks, size_t extra)
{
    size_t len;
    b->nsteps = nsteps;
    b->nblocks = nblocks;
    b->block_stride = nsteps * SCAN_STEP + extra;
    len = nblocks ? (nblocks - 1) * b->block_stride + nsteps * SCAN_STEP : 0;
    uint8_t *p = malloc(len + 1) /* one in front: misaligned */;
    for (size_t i = 0; i < len + 1; i++) {
        p[i] = (uint8_t)rng();
    }
    b->base = p + 1;
    return p;
}

static const size_t step_counts[] = { 0, 1, 2, 3, 7, 12, 31, 32, 33, 65, 255, 256, 257, 300 };
#define NSTEP_COUNTS (sizeof step_counts / sizeof step_counts[0])

static void test_dot8_when_any_level_then_sums_are_exact(void **state)
{
    (void)state;
    for (size_t c = 0; c < NSTEP_COUNTS; c++) {
        struct simd_blocks b;
        size_t n = step_counts[c], nblocks = 1 + rng() % 5;
        uint8_t *mem = make_blocks(&b, n, nblocks, rng() % 3 * 64);
        int8_t *hi = malloc(4 * n + 1), *lo = malloc(4 * n + 1);
        int32_t out[5 * SCAN_ROWS];
        for (size_t i = 0; i < 4 * n; i++) {
            hi[i] = (int8_t)(rng() % 128 - 64);
            lo[i] = (int8_t)(rng() % 128 - 64);
        }
        for (int l = 0; l < SIMD_NLEVELS; l++) {
            if (!tables[l]) {
                continue;
            }
            tables[l]->dot8(&b, hi, lo, out);
            for (size_t i = 0; i < nblocks * SCAN_ROWS; i++) {
                const uint8_t *p = b.base + i / 16 * b.block_stride + i % 16 * 4;
                int64_t sum = 0;
                for (size_t d = 0; d < 4 * n; d++) {
                    sum += p[d / 4 * 64 + d % 4] * (128 * hi[d] + lo[d]);
                }
                assert_int_equal(out[i], sum);
            }
        }
        free(mem);
        free(hi);
        free(lo);
    }
}

static void test_lut4_when_any_level_then_sums_are_exact(void **state)
{
    (void)state;
    for (size_t c = 0; c < NSTEP_COUNTS; c++) {
        struct simd_blocks b;
        size_t n = step_counts[c], nblocks = 1 + rng() % 5;
        uint8_t *mem = make_blocks(&b, n, nblocks, rng() % 3 * 64);
        uint8_t *lut = malloc(128 * n + 1);
        int32_t out[5 * SCAN_ROWS];
        for (size_t i = 0; i < 128 * n; i++) {
            lut[i] = c % 2 ? 255 : (uint8_t)rng(); /* the largest sums too */
        }
        for (int l = 0; l < SIMD_NLEVELS; l++) {
            if (!tables[l]) {
                continue;
            }
            tables[l]->lut4(&b, lut, out);
            for (size_t i = 0; i < nblocks * SCAN_ROWS; i++) {
                const uint8_t *p = b.base + i / 16 * b.block_stride + i % 16 * 4;
                int32_t sum = 0;
                for (size_t j = 0; j < 8 * n; j++) {
                    uint8_t byte = p[j / 8 * 64 + j % 4];
                    sum += lut[j * 16 + (j % 8 < 4 ? byte & 15 : byte >> 4)];
                }
                assert_int_equal(out[i], sum);
            }
        }
        free(mem);
        free(lut);
    }
}

static void test_lut8_when_any_level_then_sums_are_exact(void **state)
{
    (void)state;
    for (size_t c = 0; c < NSTEP_COUNTS; c++) {
        struct simd_blocks b;
        size_t n = step_counts[c], nblocks = 1 + rng() % 3;
        uint8_t *mem = make_blocks(&b, n, nblocks, rng() % 3 * 64);
        uint8_t *lut = malloc(256 * n + 1);
        int32_t out[3 * SCAN_ROWS8];
        for (size_t i = 0; i < 256 * n; i++) {
            lut[i] = c % 2 ? 255 : (uint8_t)rng();
        }
        for (int l = 0; l < SIMD_NLEVELS; l++) {
            if (!tables[l]) {
                continue;
            }
            tables[l]->lut8(&b, lut, out);
            for (size_t i = 0; i < nblocks * SCAN_ROWS8; i++) {
                const uint8_t *p = b.base + i / 64 * b.block_stride + i % 64;
                int32_t sum = 0;
                for (size_t j = 0; j < n; j++) {
                    sum += lut[j * 256 + p[j * 64]];
                }
                assert_int_equal(out[i], sum);
            }
        }
        free(mem);
        free(lut);
    }
}

/* keys of the test's own: double, so that rounding cannot hide a wrong field. */
static void check_cut(const struct simd_scan *s, struct simd_cut *t)
{
    struct simd_cut_hit hits[200];
    size_t n = s->cut(t, hits), at = 0;
    for (size_t i = 0; i < t->nrows; i++) {
        const uint8_t *block = t->base + i / t->block_rows * t->block_stride;
        float f[3] = { 0, 1, 0 };
        const size_t where[3] = { t->add_at, t->mul_at, t->err_at };
        for (int k = 0; k < 3; k++) {
            if (where[k] != SIMD_NO_FIELD) {
                memcpy(&f[k], block + where[k] + i % t->block_rows * 4, 4);
            }
        }
        double key = (double)t->c + f[0] + f[1] * ((double)t->a * t->sums[i] + t->b);
        double low = key - ((double)t->w * f[2] + t->w0);
        if (at < n && hits[at].row == i) {
            assert_true(isnan(low) || low <= t->bound + 1e-4);
            assert_true(isnan(key) ? isnan(hits[at].key) : fabs(hits[at].key - key) < 1e-4);
            assert_true(isnan(low) ? isnan(hits[at].low) : fabs(hits[at].low - low) < 1e-4);
            at++;
        } else {
            assert_true(low > t->bound - 1e-4);
        }
    }
    assert_int_equal(at, n);
}

static void test_cut_when_fields_come_and_go_then_hits_are_those_not_above(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        size_t block_rows = round % 2 ? 64 : 16, nrows = 1 + rng() % 190;
        size_t nblocks = (nrows + block_rows - 1) / block_rows, stride = block_rows * 12 + 8;
        uint8_t *base = malloc(nblocks * stride);
        int32_t sums[256];
        for (size_t i = 0; i < nblocks * stride; i += 4) {
            float f = round % 5 == 0 && rng() % 50 == 0 ? NAN : unit();
            memcpy(base + i, &f, 4);
        }
        for (size_t i = 0; i < 256; i++) {
            sums[i] = (int32_t)(rng() % 2000) - 1000;
        }
        struct simd_cut t = { .sums = sums,
                              .base = base,
                              .block_stride = stride,
                              .block_rows = block_rows,
                              .nrows = nrows,
                              .add_at = round % 3 ? 8 : SIMD_NO_FIELD,
                              .mul_at = round % 7 ? block_rows * 4 + 8 : SIMD_NO_FIELD,
                              .err_at = round % 4 ? block_rows * 8 + 8 : SIMD_NO_FIELD,
                              .a = unit() * 1e-3f,
                              .b = unit(),
                              .c = unit(),
                              .w = unit(),
                              .w0 = unit(),
                              .bound = round % 11 == 0 ? INFINITY : unit() };
        for (int l = 0; l < SIMD_NLEVELS; l++) {
            if (tables[l]) {
                check_cut(tables[l], &t);
            }
        }
        free(base);
    }
}

static void test_tables_when_sub_vectors_differ_then_sums_of_products(void **state)
{
    (void)state;
    for (size_t words = 16; words <= 256; words *= 16) {
        const uint32_t sub_at[] = { 0, 1, 3, 6, 14, 15 };
        float q[15], *book = malloc(15 * words * 4), *v = malloc(5 * words * 4);
        for (size_t i = 0; i < 15 * words; i++) {
            book[i] = unit();
            q[i % 15] = unit();
        }
        struct simd_tables t = { q, sub_at, book, 5, words };
        for (int l = 0; l < SIMD_NLEVELS; l++) {
            if (!tables[l]) {
                continue;
            }
            tables[l]->tables(&t, v);
            for (size_t j = 0; j < 5; j++) {
                for (size_t w = 0; w < words; w++) {
                    double sum = 0;
                    for (size_t k = sub_at[j]; k < sub_at[j + 1]; k++) {
                        sum += (double)q[k] * book[k * words + w];
                    }
                    assert_true(fabs(v[j * words + w] - sum) < 1e-5);
                }
            }
        }
        free(book);
        free(v);
    }
}

static void test_bytes_when_tables_have_ranges_then_one_scale_fits_all(void **state)
{
    (void)state;
    for (size_t words = 16; words <= 256; words *= 16) {
        for (int flat = 0; flat < 2; flat++) {
            enum { TABLES = 9 };
            float *v = malloc(TABLES * words * 4);
            uint8_t *lut = malloc(TABLES * words);
            double range = 0, base = 0, low[TABLES];
            for (size_t j = 0; j < TABLES; j++) {
                double high = -INFINITY;
                low[j] = INFINITY;
                for (size_t w = 0; w < words; w++) {
                    float x = flat ? 3 : unit() * (float)(j + 1) + 5;
                    v[j * words + w] = x;
                    low[j] = fmin(low[j], x);
                    high = fmax(high, x);
                }
                range = fmax(range, high - low[j]);
                base += low[j];
            }
            for (int l = 0; l < SIMD_NLEVELS; l++) {
                double got;
                if (!tables[l]) {
                    continue;
                }
                float scale = tables[l]->bytes(v, TABLES, words, lut, &got);
                assert_true(fabs(got - base) < 1e-4);
                assert_true(fabs(scale - range / 255) < 1e-6);
                for (size_t i = 0; i < TABLES * words; i++) {
                    double off = low[i / words] + lut[i] * (double)scale - v[i];
                    assert_true(fabs(off) <= scale * 0.501 + 1e-6);
                }
            }
            free(v);
            free(lut);
        }
    }
}

static void test_planes_when_numbers_are_split_then_parts_and_sums_fit(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 70; n++) {
        float v[70];
        for (size_t i = 0; i < n; i++) {
            v[i] = i % 9 == 0 ? (i % 2 ? 16255.4f : -16255.4f) : unit() * 16000;
        }
        for (int l = 0; l < SIMD_NLEVELS; l++) {
            int8_t hi[71], lo[71];
            double abs, off, want_sum = 0, want_abs = 0, want_off = 0;
            if (!tables[l]) {
                continue;
            }
            hi[n] = lo[n] = 77;
            double sum = tables[l]->planes(v, n, 1, hi, lo, &abs, &off);
            for (size_t i = 0; i < n; i++) {
                int w = 128 * hi[i] + lo[i];
                assert_true(lo[i] >= -64 && lo[i] <= 63);
                assert_true(fabs(w - (double)v[i]) <= 0.5001);
                want_sum += w;
                want_abs += w < 0 ? -w : w;
                want_off += fabs(w - (double)v[i]);
            }
            assert_true(hi[n] == 77 && lo[n] == 77);
            assert_true(sum == want_sum && abs == want_abs);
            assert_true(fabs(off - want_off) <= 0.004 * (double)n);
        }
    }
}

struct near_case {
    struct simd_near t;
    float *cent, *rows, *pack, *bias;
    double *score;
};

static void near_new(struct near_case *c, size_t ncent, size_t dim, size_t nrows)
{
    size_t lanes = (ncent + SIMD_TILE - 1) / SIMD_TILE * SIMD_TILE;
    c->cent = malloc(ncent * dim * 4 + 1);
    c->rows = malloc(nrows * dim * 4 + 1);
    c->pack = malloc(simd_pack_len(ncent, dim) * 4 + 1);
    c->bias = malloc(lanes * 4);
    c->score = malloc(nrows * ncent * 8);
    for (size_t i = 0; i < ncent * dim; i++) {
        c->cent[i] = unit();
    }
    for (size_t i = 0; i < nrows * dim; i++) {
        c->rows[i] = unit();
    }
    if (ncent > 3) { /* equal centroids: the lower one counts */
        memcpy(c->cent + (ncent - 1) * dim, c->cent, dim * 4);
        memcpy(c->cent + ncent / 2 * dim, c->cent + dim, dim * 4);
    }
    for (size_t j = 0; j < lanes; j++) {
        c->bias[j] = j >= ncent ? -INFINITY : j % 2 ? 0.25f : 0;
    }
    c->bias[ncent - 1] = c->bias[0];
    c->bias[ncent / 2] = c->bias[MIN((size_t)1, ncent - 1)];
    simd_pack_f32(c->cent, dim * 4, ncent, dim, NULL, c->pack);
    for (size_t i = 0; i < nrows; i++) {
        for (size_t j = 0; j < ncent; j++) {
            double s = c->bias[j];
            for (size_t k = 0; k < dim; k++) {
                s += (double)c->rows[i * dim + k] * c->cent[j * dim + k];
            }
            c->score[i * ncent + j] = s;
        }
    }
    c->t = (struct simd_near){ c->pack, c->bias, ncent, dim, c->rows, dim * 4, nrows };
}

static void near_free(struct near_case *c)
{
    free(c->cent);
    free(c->rows);
    free(c->pack);
    free(c->bias);
    free(c->score);
}

static void check_near(const struct simd_scan *s, const struct near_case *c)
{
    size_t ncent = c->t.ncent, lanes = (ncent + 15) / 16 * 16, nrows = c->t.nrows;
    uint32_t *at = malloc(nrows * 4 + 1);
    float *best = malloc(nrows * 4 + 1), *all = malloc(nrows * lanes * 4 + 1);
    s->nearest(&c->t, at, best);
    s->scores(&c->t, all);
    for (size_t i = 0; i < nrows; i++) {
        uint32_t top = 0;
        for (uint32_t j = 0; j < ncent; j++) {
            assert_true(fabs(all[i * lanes + j] - c->score[i * ncent + j]) < 1e-4);
            top = all[i * lanes + j] > all[i * lanes + top] ? j : top;
        }
        assert_int_equal(at[i], top);
        assert_true(best[i] == all[i * lanes + top]);
    }
    free(at);
    free(best);
    free(all);
}

static void test_nearest_when_any_shape_then_best_and_lowest_of_equals(void **state)
{
    (void)state;
    static const size_t counts[] = { 1, 2, 15, 16, 17, 33, 48, 49, 64, 65, 96, 130 };
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct near_case nc;
        near_new(&nc, counts[c], 1 + rng() % 40, 1 + rng() % 140);
        for (int l = 0; l < SIMD_NLEVELS; l++) {
            if (tables[l]) {
                check_near(tables[l], &nc);
            }
        }
        near_free(&nc);
    }
}

static void test_nearest_when_a_row_is_not_a_number_then_first_centroid(void **state)
{
    (void)state;
    struct near_case nc;
    near_new(&nc, 20, 8, 3);
    nc.rows[8] = NAN;
    for (int l = 0; l < SIMD_NLEVELS; l++) {
        uint32_t at[3];
        float best[3];
        if (tables[l]) {
            tables[l]->nearest(&nc.t, at, best);
            assert_int_equal(at[1], 0);
            assert_true(best[1] == -INFINITY);
            assert_true(best[2] > -INFINITY);
        }
    }
    near_free(&nc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dot8_when_any_level_then_sums_are_exact),
        cmocka_unit_test(test_lut4_when_any_level_then_sums_are_exact),
        cmocka_unit_test(test_lut8_when_any_level_then_sums_are_exact),
        cmocka_unit_test(test_cut_when_fields_come_and_go_then_hits_are_those_not_above),
        cmocka_unit_test(test_tables_when_sub_vectors_differ_then_sums_of_products),
        cmocka_unit_test(test_bytes_when_tables_have_ranges_then_one_scale_fits_all),
        cmocka_unit_test(test_planes_when_numbers_are_split_then_parts_and_sums_fit),
        cmocka_unit_test(test_nearest_when_any_shape_then_best_and_lowest_of_equals),
        cmocka_unit_test(test_nearest_when_a_row_is_not_a_number_then_first_centroid),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
