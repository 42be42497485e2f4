/*
 * simd_scan_body.h - the kernels of simd_scan.h as plain loops over 16 lanes.
 *
 * simd_scan_ref.c compiles them as they stand: the meaning. Levels whose compilers turn such loops
 * into good code include them too and replace what they do better. BODY_ROWS rows share a pass
 * over the centroids so that sums stay in registers.
 */
#include <math.h>

#include "simd/simd_int.h"
#include "simd/simd_scan.h"

#define BODY_ROWS 4

INL void body_block(const struct simd_near *t, size_t group, size_t row0, size_t nr,
                    float s[BODY_ROWS][SIMD_TILE])
{
    const float *c = t->pack + group * t->dim * SIMD_TILE;
    const uint8_t *x[BODY_ROWS];
    for (size_t r = 0; r < BODY_ROWS; r++) {
        x[r] = (const uint8_t *)t->rows + (row0 + (r < nr ? r : nr - 1)) * t->stride;
        for (size_t l = 0; l < SIMD_TILE; l++) {
            s[r][l] = 0;
        }
    }
    for (size_t k = 0; k < t->dim; k++) {
        for (size_t r = 0; r < BODY_ROWS; r++) {
            float v = simd_load_f32(x[r] + 4 * k);
            for (size_t l = 0; l < SIMD_TILE; l++) {
                s[r][l] += v * c[k * SIMD_TILE + l];
            }
        }
    }
    for (size_t r = 0; r < BODY_ROWS; r++) {
        for (size_t l = 0; l < SIMD_TILE; l++) {
            s[r][l] += t->bias[group * SIMD_TILE + l];
        }
    }
}

static void body_nearest(const struct simd_near *t, uint32_t *at, float *best)
{
    size_t ngroups = (t->ncent + SIMD_TILE - 1) / SIMD_TILE;
    for (size_t i = 0; i < t->nrows; i += BODY_ROWS) {
        size_t nr = t->nrows - i < BODY_ROWS ? t->nrows - i : BODY_ROWS;
        float s[BODY_ROWS][SIMD_TILE];
        for (size_t r = 0; r < nr; r++) {
            at[i + r] = 0;
            best[i + r] = -INFINITY;
        }
        for (size_t g = 0; g < ngroups; g++) {
            body_block(t, g, i, nr, s);
            for (size_t r = 0; r < nr; r++) {
                for (size_t l = 0; l < SIMD_TILE; l++) {
                    if (s[r][l] > best[i + r]) {
                        best[i + r] = s[r][l];
                        at[i + r] = (uint32_t)(g * SIMD_TILE + l);
                    }
                }
            }
        }
    }
}

static void body_scores(const struct simd_near *t, float *out)
{
    size_t ngroups = (t->ncent + SIMD_TILE - 1) / SIMD_TILE, lanes = ngroups * SIMD_TILE;
    for (size_t i = 0; i < t->nrows; i += BODY_ROWS) {
        size_t nr = t->nrows - i < BODY_ROWS ? t->nrows - i : BODY_ROWS;
        float s[BODY_ROWS][SIMD_TILE];
        for (size_t g = 0; g < ngroups; g++) {
            body_block(t, g, i, nr, s);
            for (size_t r = 0; r < nr; r++) {
                memcpy(out + (i + r) * lanes + g * SIMD_TILE, s[r], sizeof s[r]);
            }
        }
    }
}

static void body_dot8(const struct simd_blocks *b, const int8_t *hi, const int8_t *lo, int32_t *out)
{
    for (size_t i = 0; i < b->nblocks; i++, out += SCAN_ROWS) {
        const uint8_t *p = b->base + i * b->block_stride;
        int32_t sum[SCAN_ROWS] = { 0 };
        for (size_t g = 0; g < b->nsteps; g++, p += SCAN_STEP) {
            int32_t w[4];
            for (size_t t = 0; t < 4; t++) {
                w[t] = 128 * hi[4 * g + t] + lo[4 * g + t];
            }
            for (size_t r = 0; r < SCAN_ROWS; r++) {
                sum[r] += p[4 * r] * w[0] + p[4 * r + 1] * w[1] + p[4 * r + 2] * w[2] +
                          p[4 * r + 3] * w[3];
            }
        }
        memcpy(out, sum, sizeof sum);
    }
}

UNUSED_BODY static void body_lut4(const struct simd_blocks *b, const uint8_t *lut, int32_t *out)
{
    for (size_t i = 0; i < b->nblocks; i++, out += SCAN_ROWS) {
        const uint8_t *p = b->base + i * b->block_stride;
        int32_t sum[SCAN_ROWS] = { 0 };
        for (size_t g = 0; g < b->nsteps; g++, p += SCAN_STEP) {
            const uint8_t *l = lut + g * 128;
            for (size_t r = 0; r < SCAN_ROWS; r++) {
                for (size_t t = 0; t < 4; t++) {
                    uint8_t c = p[4 * r + t];
                    sum[r] += l[t * 16 + (c & 15)] + l[64 + t * 16 + (c >> 4)];
                }
            }
        }
        memcpy(out, sum, sizeof sum);
    }
}

static void body_lut8(const struct simd_blocks *b, const uint8_t *lut, int32_t *out)
{
    for (size_t i = 0; i < b->nblocks; i++, out += SCAN_ROWS8) {
        const uint8_t *p = b->base + i * b->block_stride;
        int32_t sum[SCAN_ROWS8] = { 0 };
        for (size_t g = 0; g < b->nsteps; g++, p += SCAN_STEP) {
            for (size_t r = 0; r < SCAN_ROWS8; r++) {
                sum[r] += lut[g * 256 + p[r]];
            }
        }
        memcpy(out, sum, sizeof sum);
    }
}

static void body_tables(const struct simd_tables *t, float *v)
{
    for (size_t j = 0; j < t->nsub; j++, v += t->words) {
        for (size_t w = 0; w < t->words; w++) {
            v[w] = 0;
        }
        for (size_t k = t->sub_at[j]; k < t->sub_at[j + 1]; k++) {
            for (size_t w = 0; w < t->words; w++) {
                v[w] += t->q[k] * t->book[k * t->words + w];
            }
        }
    }
}

static float body_bytes(const float *v, size_t ntables, size_t words, uint8_t *lut,
                        double *ret_base)
{
    float range = 0;
    double base = 0;
    for (size_t j = 0; j < ntables; j++) {
        float low = v[j * words], high = low;
        for (size_t w = 1; w < words; w++) {
            low = v[j * words + w] < low ? v[j * words + w] : low;
            high = v[j * words + w] > high ? v[j * words + w] : high;
        }
        range = high - low > range ? high - low : range;
        base += low;
    }
    float scale = range / 255, inverse = scale > 0 ? 1 / scale : 0;
    for (size_t j = 0; j < ntables; j++) {
        float low = v[j * words];
        for (size_t w = 1; w < words; w++) {
            low = v[j * words + w] < low ? v[j * words + w] : low;
        }
        for (size_t w = 0; w < words; w++) {
            float t = (v[j * words + w] - low) * inverse + 0.5f;
            lut[j * words + w] = (uint8_t)(t < 255 ? t : 255);
        }
    }
    *ret_base = base;
    return scale;
}

static double body_planes(const float *v, size_t n, float inverse, int8_t *hi, int8_t *lo,
                          double *ret_abs, double *ret_off)
{
    int64_t sum = 0, abs = 0;
    float off = 0;
    for (size_t i = 0; i < n; i++) {
        float t = v[i] * inverse;
        int32_t w = (int32_t)(t + (t < 0 ? -0.5f : 0.5f)), h = (w + 64) >> 7;
        hi[i] = (int8_t)h;
        lo[i] = (int8_t)(w - h * 128);
        sum += w;
        abs += w < 0 ? -w : w;
        off += fabsf(t - (float)w);
    }
    *ret_abs = (double)abs;
    *ret_off = (double)off;
    return (double)sum;
}

INL void body_field(const uint8_t *block, size_t at, size_t row, float none, float *v)
{
    for (size_t l = 0; l < 16; l++) {
        v[l] = none;
    }
    if (at != SIMD_NO_FIELD) {
        memcpy(v, block + at + 4 * row, 64);
    }
}

static size_t body_cut(const struct simd_cut *t, struct simd_cut_hit *hits)
{
    size_t found = 0;
    for (size_t i = 0; i < t->nrows; i += 16) {
        const uint8_t *block = t->base + i / t->block_rows * t->block_stride;
        size_t row = i % t->block_rows, n = t->nrows - i < 16 ? t->nrows - i : 16;
        float add[16], mul[16], err[16], key[16], low[16];
        body_field(block, t->add_at, row, 0, add);
        body_field(block, t->mul_at, row, 1, mul);
        body_field(block, t->err_at, row, 0, err);
        for (size_t l = 0; l < 16; l++) {
            key[l] = t->c + add[l] + mul[l] * (t->a * (float)t->sums[i + l] + t->b);
            low[l] = key[l] - (t->w * err[l] + t->w0);
        }
        for (size_t l = 0; l < n; l++) {
            if (!(low[l] > t->bound)) {
                hits[found++] = (struct simd_cut_hit){ (uint32_t)(i + l), key[l], low[l] };
            }
        }
    }
    return found;
}
