/*
 * ivf_sq.c - one byte a dimension, with a bound that holds.
 *
 * WHAT        Dimension i of a row is coded as mean_i + step_i (c - 127.5), c a byte. Let x be the
 *             row about the mean, x^ what its code stands for and e = |x - x^|, kept per row and
 *             rounded up. The query's side is exact but for the rounding of its 15-bit weights,
 *             which is summed up per query. Then
 *
 *                 L2   |q - x| >= |q - x^| - e: where |q - x^|^2 > (sqrt(T) + e)^2 the row is
 *                      farther than T. Kept per row: |x^|^2 - e^2, so that one multiply-add tests
 *                 IP   |q.x - q.x^| <= |q| e
 *
 *             so a scan of bytes finds every row that can be a result, and few others.
 * INVARIANTS  e also holds the roundings of the exact kernel (simd.h) and of the stored norm. Rows
 *             whose numbers overflow get e = infinity: they are always looked at.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "index/by_value.h"
#include "index/ivf/ivf_int.h"

#define U 0x1p-24
/* Standard deviations that steps cover: a few far rows must not make all codes coarse. They get a
 * large e instead. */
#define RANGE 8.0
/* The same in spreads told from the middle half, which one far row among few cannot widen as it does
 * the standard deviation: centroids are few. */
#define RANGE_MIDDLE 24.0
#define MIDDLE_SAMPLE 1024

/* Narrows [*low, *high] of dimension k to what its quartiles allow. */
static void by_quartiles(const struct ivf_sample *s, size_t dim, size_t k, double *low, double *high)
{
    float v[MIDDLE_SAMPLE];
    size_t n = 0, step = s->n / MIDDLE_SAMPLE + 1;
    for (size_t i = 0; i < s->n; i += step) {
        float x = s->x[i * dim + k];
        if (fabsf(x) < 0x1p60f) {
            v[n++] = x;
        }
    }
    if (n < 4) {
        return;
    }
    qsort(v, n, sizeof *v, by_f32);
    double middle = v[n / 2], spread = ((double)v[3 * n / 4] - (double)v[n / 4]) / 1.349;
    if (spread > 0) { /* a dimension that is mostly one value has no scale of its own */
        *low = MAX(*low, middle - RANGE_MIDDLE * spread);
        *high = MIN(*high, middle + RANGE_MIDDLE * spread);
    }
}

int ivf_sq8_train(const struct ivf_sample *s, struct ivf_codec *c, struct status *st)
{
    size_t dim = c->dim;
    float *mem = alloc_try(2 * dim * sizeof(float));
    if (!mem) {
        return st_fail(st, ST_NO_MEMORY, "no memory for a quantiser of dimension %zu", dim);
    }
    for (size_t k = 0; k < dim; k++) {
        double low = INFINITY, high = -INFINITY, sum = 0, sum2 = 0, n = 0;
        for (size_t i = 0; i < s->n; i++) {
            double v = s->x[i * dim + k];
            if (fabs(v) < 0x1p60) {
                low = MIN(low, v);
                high = MAX(high, v);
                sum += v;
                sum2 += v * v;
                n++;
            }
        }
        if (n == 0) {
            low = high = 0;
            n = 1;
        }
        double mean = sum / n, spread = sqrt(MAX(sum2 / n - mean * mean, 0.0));
        low = MAX(low, mean - RANGE * spread);
        high = MIN(high, mean + RANGE * spread);
        by_quartiles(s, dim, k, &low, &high);
        mem[k] = (float)((low + high) / 2);
        mem[dim + k] = (float)((high - low) / 255);
    }
    c->heap = mem;
    c->mean = mem;
    c->step = mem + dim;
    return 0;
}

static void put_f32(uint8_t *block, size_t at, size_t row, double v)
{
    float f = (float)v;
    memcpy(block + at + 4 * row, &f, sizeof f);
}

void ivf_sq8_encode(const struct ivf_codec *c, const float *x, size_t n, uint8_t *blocks)
{
    size_t dim = c->dim;
    const double slack = 2 * ((double)dim + 32) * U;
    for (size_t i = 0; i < n; i++, x += dim) {
        uint8_t *block = blocks + i / SCAN_ROWS * c->lay.block_bytes;
        size_t r = i % SCAN_ROWS;
        double err2 = 0, norm2 = 0, full2 = 0;
        for (size_t k = 0; k < dim; k++) {
            float d = x[k] - c->mean[k];
            float t = c->step[k] > 0 ? d / c->step[k] + 127.5f : 0;
            t = t > 255 ? 255 : t > 0 ? t : 0; /* a NaN becomes 0 */
            uint8_t code = (uint8_t)(t + 0.5f);
            double back = c->step[k] > 0 ? ((double)code - 127.5) * c->step[k] : 0;
            double off = (double)x[k] - c->mean[k] - back;
            block[k / 4 * SCAN_STEP + r * 4 + k % 4] = code;
            err2 += off * off;
            norm2 += back * back;
            full2 += (double)x[k] * x[k];
        }
        double err = sqrt(err2) * (1 + 1e-6) + slack * sqrt(full2) + 1e-30;
        bool wild = !(err2 < 0x1p100 && norm2 < 0x1p100 && full2 < 0x1p100);
        put_f32(block, c->lay.err_at, r, wild ? INFINITY : err);
        if (c->lay.add_at != SIMD_NO_FIELD) {
            put_f32(block, c->lay.add_at, r, wild ? 0 : norm2 * (1 - 8 * U) - err * err);
        }
    }
}

float ivf_planes(const float *v, size_t dim, size_t nsteps, int8_t *hi, int8_t *lo, double *ret_sum,
                 double *ret_abs, double *ret_off)
{
    float sum_abs = 0, most = 0;
    for (size_t k = 0; k < dim; k++) {
        float m = fabsf(v[k]);
        sum_abs += m;
        most = MAX(most, m);
    }
    /* Weights within 127 * 128, and 255 times their sum within 31 bits. */
    float scale = MAX(most / 16250, sum_abs / 8.3e6f), inverse = scale > 0 ? 1 / scale : 0;
    if (!(inverse < INFINITY)) { /* too small to matter, too small to divide by */
        scale = inverse = 0;
    }
    *ret_sum = simd_scan()->planes(v, dim, inverse, hi, lo, ret_abs, ret_off);
    *ret_off = (*ret_off + 0.004 * (double)dim) * 127.5;
    memset(hi + dim, 0, 4 * nsteps - dim);
    memset(lo + dim, 0, 4 * nsteps - dim);
    return scale;
}

void ivf_sq8_query(const struct ivf_codec *c, struct ivf_query_code *qc)
{
    size_t dim = c->dim;
    bool l2 = c->metric == METRIC_L2;
    double sum, abs, off, norm2 = 0, mean = 0;
    float *v = qc->tmp;
    for (size_t k = 0; k < dim; k++) {
        float q = l2 ? qc->q[k] - c->mean[k] : qc->q[k];
        v[k] = q * c->step[k];
        norm2 += (double)q * q;
        mean += (double)qc->q[k] * c->mean[k];
    }
    double scale = ivf_planes(v, dim, c->lay.nsteps, qc->hi, qc->lo, &sum, &abs, &off);
    double rounding = 6 * U * scale * 255 * abs; /* of sums as f32, of the weights' products */
    qc->minus_err2 = l2;
    if (l2) {
        qc->a = (float)(-2 * scale);
        qc->b = (float)(255 * scale * sum);
        qc->c = (float)norm2;
        qc->margin = IVF_ROOT;
        qc->w = 1.000001f;
        qc->w0 = (float)((2 * scale * off + 2 * rounding + 16 * U * norm2) * 1.00001);
        return;
    }
    qc->a = (float)-scale;
    qc->b = (float)(127.5 * scale * sum);
    qc->c = (float)-mean;
    qc->margin = IVF_LINEAR;
    qc->w = (float)(sqrt(norm2) * 1.00001);
    qc->w0 = (float)((scale * off + rounding + 8 * U * fabs(mean)) * 1.00001);
    if (c->metric == METRIC_COSINE) {
        qc->w0 += (float)((4 * ((double)dim + 16) + 32) * U);
    }
}
