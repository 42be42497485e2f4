/*
 * bound.c - making and checking 4-bit codes with a bounded error.
 *
 * WHAT        Row x (for COSINE divided by its length) becomes x^ = low + step * u with u in
 *             0 .. 15 for each dimension; low and step are a least-squares fit on a sample, so that
 *             the sum of squared errors is about as small as uniform steps allow. Stored for a row
 *             are its codes and three floats:
 *
 *                 e   |r| for r = x - x^, computed in double and rounded up
 *                 a0  L2, COSINE: e^2 - |x^ - mean|^2;  IP: <mean, r>
 *                 a1  L2, COSINE: -|x - mean|^2;  IP: 0
 *
 *             mean is the sample's. Rows whose length is no number, zero under COSINE, or far above
 *             the sample's are odd: they get e = +Inf and are scored by every search, so that they
 *             do not widen the slack of all others.
 * THREADS     Encoding is cut into runs of blocks; sums that all runs share are maxima, so the file
 *             does not depend on the number of threads.
 * MEMORY      The sample (16 MB) and one piece of blocks (8 MB) at a time.
 * WHY         4 bits and not 8: half the bytes, and for 100,000 rows of 128 dimensions the codes
 *             then stay in the cache beside everything else. A hundred or so rows pass in place of
 *             twelve (uniform 128-d: 262 of 100,000, sentence embeddings 384-d: 100 of 116,647),
 *             which costs less than the second half of the bytes. A rotation before coding was left
 *             out: it evens out dimensions, which step already does.
 */
#include "index/scan/bound.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/by_value.h"
#include "simd/simd.h"

#define SAMPLE_FLOATS (4u << 20)
#define SAMPLE_MAX 8192u
#define FIT_ROUNDS 8
#define PIECE_BYTES (8u << 20)
#define RUN_BLOCKS 64u /* of one task */
/* Longest row that is not odd, in times the length that one in ten of the sample exceeds. */
#define NORM_FACTOR 16.0
#define NORM_MAX 0x1p50

/* Below these a scan over the raw rows is as fast (measured by bench/flat_exact sizes). */
#define BYTES_MIN (1u << 20)
#define ROWS_MIN 2048u
#define DIM_MIN 16u

bool bound_pays(const struct index_rows *rows)
{
    return rows->type != VEC_BIN && rows->type != VEC_I8 && rows->dim >= DIM_MIN &&
           rows->nrows >= ROWS_MIN && vec_bytes(rows->type, rows->dim) * rows->nrows >= BYTES_MIN;
}

struct coder {
    const struct index_rows *rows;
    size_t dim, padded, groups, block_bytes;
    float *low, *step, *mean, *mid; /* one allocation */
    double norm_limit;
};

/* What one run of blocks adds to the head. */
struct run_stat {
    uint32_t nodd;
    double e_max, a_max, u2_max, norm_max;
};

static float rounded_up(double v)
{
    return nextafterf((float)v, INFINITY);
}

/* ---- Fitting ---- */

/* Length of a row, or -1 where it is no use. */
static double usable_norm(const struct index_rows *rows, const float *x)
{
    double sum = 0;
    for (size_t j = 0; j < rows->dim; j++) {
        sum += (double)x[j] * (double)x[j];
    }
    double low = rows->metric == METRIC_COSINE ? 0x1p-100 : 0;
    return sum >= low && sum <= NORM_MAX * NORM_MAX ? sqrt(sum) : -1;
}

/* low, step of one dimension from n values v[i * stride]: alternates between the nearest codes and
 * the line through them. */
static void fit_dim(const float *v, size_t n, size_t stride, float *ret_low, float *ret_step)
{
    double sum = 0, sum2 = 0, lo = INFINITY, hi = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        double x = v[i * stride];
        sum += x;
        sum2 += x * x;
        lo = fmin(lo, x);
        hi = fmax(hi, x);
    }
    double mean = sum / (double)n, dev = sqrt(fmax(sum2 / (double)n - mean * mean, 0));
    lo = fmax(lo, mean - 2.7 * dev);
    hi = fmin(hi, mean + 2.7 * dev);
    double step = (hi - lo) / 15;
    for (int round = 0; round < FIT_ROUNDS && step > 0; round++) {
        double su = 0, su2 = 0, sxu = 0, inv = 1 / step;
        for (size_t i = 0; i < n; i++) {
            double x = v[i * stride], at = (x - lo) * inv + 0.5;
            double u = at >= 15 ? 15 : at <= 0 ? 0 : (double)(int)at;
            su += u;
            su2 += u * u;
            sxu += x * u;
        }
        double det = (double)n * su2 - su * su;
        if (!(det > 0)) {
            break;
        }
        step = ((double)n * sxu - sum * su) / det;
        lo = (sum - step * su) / (double)n;
    }
    *ret_low = (float)lo;
    *ret_step = step > 0 ? (float)step : 0;
}

struct fit {
    struct coder *cd;
    const float *sample;
    size_t n;
};

static void fit_run(void *ctx, size_t g)
{
    struct fit *f = ctx;
    struct coder *cd = f->cd;
    for (size_t j = g * 8; j < MIN(g * 8 + 8, cd->dim); j++) {
        double sum = 0, sum_u = 0;
        fit_dim(f->sample + j, f->n, cd->dim, &cd->low[j], &cd->step[j]);
        for (size_t i = 0; i < f->n; i++) {
            double x = f->sample[i * cd->dim + j];
            sum += x;
            if (cd->step[j] > 0) {
                double at = (x - (double)cd->low[j]) / (double)cd->step[j];
                sum_u += at >= 15 ? 15 : at <= 0 ? 0 : at;
            }
        }
        cd->mean[j] = (float)(sum / (double)f->n);
        cd->mid[j] = (float)(sum_u / (double)f->n);
    }
}

/* *ret_ok false: the rows do not suit. */
static int fit(struct coder *cd, struct pool *pool, bool *ret_ok, struct status *st)
{
    const struct index_rows *rows = cd->rows;
    size_t want = MAX(MIN(SAMPLE_FLOATS / cd->dim, (size_t)SAMPLE_MAX), (size_t)256), n = 0, ok = 0;
    int rc = 0;
    want = MIN(want, (size_t)rows->nrows);
    float *sample = alloc_try(want * cd->dim * sizeof(float));
    double *norm = alloc_try(want * sizeof(double));
    if (!sample || !norm) {
        FAIL(st, ST_NO_MEMORY, "no memory for a sample of %zu rows", want);
    }
    for (size_t i = 0; i < want; i++) {
        float *x = sample + ok * cd->dim;
        index_rows_f32(rows, NULL, (size_t)((uint64_t)i * rows->nrows / want), 1, false, x);
        norm[ok] = usable_norm(rows, x);
        ok += norm[ok] >= 0;
    }
    *ret_ok = ok * 100 >= want * 99;
    if (!*ret_ok) {
        goto out;
    }
    qsort(norm, ok, sizeof *norm, by_f64);
    cd->norm_limit = rows->metric == METRIC_COSINE
                         ? NORM_MAX
                         : fmin(NORM_FACTOR * norm[ok * 9 / 10], NORM_MAX);
    for (size_t i = 0; i < ok; i++) {
        float *x = sample + i * cd->dim, *to = sample + n * cd->dim;
        double len = usable_norm(rows, x);
        if (len > cd->norm_limit) {
            continue;
        }
        double scale = rows->metric == METRIC_COSINE ? 1 / len : 1;
        for (size_t j = 0; j < cd->dim; j++) {
            to[j] = (float)((double)x[j] * scale);
        }
        n++;
    }
    struct fit f = { .cd = cd, .sample = sample, .n = n };
    parallel_for(pool, (cd->dim + 7) / 8, fit_run, &f);
out:
    mem_free(sample);
    mem_free(norm);
    return rc;
}

/* ---- Encoding ---- */

/* What is stored of one row, and what it rests on. */
struct coded {
    float a0, a1, e;
    double u2, norm;
    bool odd;
};

/* x: the row as f32; u: room for padded codes. */
static void code_row(const struct coder *cd, const float *x, uint8_t *u, struct coded *ret)
{
    const enum metric metric = cd->rows->metric;
    double len = usable_norm(cd->rows, x), scale = 1;
    *ret = (struct coded){ .e = INFINITY, .odd = true };
    memset(u, 0, cd->padded);
    if (!(len >= 0 && len <= cd->norm_limit)) {
        return;
    }
    if (metric == METRIC_COSINE) {
        scale = 1 / len;
    }
    double e2 = 0, y2 = 0, x2 = 0, zr = 0, u2 = 0;
    for (size_t j = 0; j < cd->dim; j++) {
        double v = (double)x[j] * scale, low = cd->low[j], step = cd->step[j], mean = cd->mean[j];
        double at = step > 0 ? (v - low) / step + 0.5 : 0;
        u[j] = at >= 15 ? 15 : at <= 0 ? 0 : (uint8_t)at;
        double near = low + step * u[j], r = v - near, du = (double)u[j] - (double)cd->mid[j];
        e2 += r * r;
        y2 += (near - mean) * (near - mean);
        x2 += (v - mean) * (v - mean);
        zr += mean * r;
        u2 += du * du;
    }
    /* Roundings of these sums in double are below 2^-40 of the lengths they come from. */
    double size = sqrt(y2) + len * scale;
    float e = rounded_up(sqrt(e2) * (1 + 0x1p-40) + size * 0x1p-40);
    *ret = (struct coded){ .e = e, .u2 = u2, .norm = len };
    ret->a0 = (float)(metric == METRIC_IP ? zr : (double)e * (double)e - y2);
    ret->a1 = (float)(metric == METRIC_IP ? 0 : -x2);
}

static void put_row(uint8_t *block, unsigned r, const uint8_t *u, size_t groups,
                    const struct coded *c)
{
    memcpy(block + 4 * r, &c->a0, 4);
    memcpy(block + 64 + 4 * r, &c->a1, 4);
    memcpy(block + SIMD_BLOCK4_E + 4 * r, &c->e, 4);
    for (size_t g = 0; g < groups; g++) {
        uint8_t *to = block + SIMD_BLOCK4_HEAD + 64 * g + 4 * r;
        for (size_t j = 0; j < 4; j++) {
            to[j] = (uint8_t)(u[8 * g + j] | u[8 * g + 4 + j] << 4);
        }
    }
}

struct piece {
    const struct coder *cd;
    uint8_t *blocks, *scratch;
    size_t first, n, scratch_len; /* blocks */
    struct run_stat *stat;
};

static void encode_run(void *ctx, size_t run)
{
    struct piece *p = ctx;
    const struct coder *cd = p->cd;
    float *x = (float *)(void *)(p->scratch + run * p->scratch_len);
    uint8_t *u = p->scratch + run * p->scratch_len + cd->dim * sizeof(float);
    struct run_stat *s = &p->stat[run];
    for (size_t b = run * RUN_BLOCKS; b < MIN((run + 1) * RUN_BLOCKS, p->n); b++) {
        uint8_t *block = p->blocks + b * cd->block_bytes;
        for (unsigned r = 0; r < SIMD_BLOCK_ROWS; r++) {
            size_t row = (p->first + b) * SIMD_BLOCK_ROWS + r;
            struct coded c = { .e = -INFINITY };
            if (row < cd->rows->nrows) {
                index_rows_f32(cd->rows, NULL, row, 1, false, x);
                code_row(cd, x, u, &c);
                s->nodd += c.odd;
                s->e_max = c.odd ? s->e_max : fmax(s->e_max, (double)c.e);
                s->a_max = fmax(s->a_max, fmax(fabs((double)c.a0), fabs((double)c.a1)));
                s->u2_max = fmax(s->u2_max, c.u2);
                s->norm_max = fmax(s->norm_max, c.norm);
            } else {
                memset(u, 0, cd->padded);
            }
            put_row(block, r, u, cd->groups, &c);
        }
    }
}

static int write_blocks(const struct index_build *b, const struct coder *cd, struct ixw *w,
                        struct run_stat *ret, struct status *st)
{
    size_t nblocks = (cd->rows->nrows + SIMD_BLOCK_ROWS - 1) / SIMD_BLOCK_ROWS;
    size_t piece = MAX(PIECE_BYTES / cd->block_bytes / RUN_BLOCKS, (size_t)1) * RUN_BLOCKS;
    struct piece p = { .cd = cd,
                       .scratch_len = ROUND_UP(cd->dim * sizeof(float) + cd->padded, (size_t)64) };
    int rc = 0;
    piece = MIN(piece, ROUND_UP(nblocks, (size_t)RUN_BLOCKS));
    size_t nruns = piece / RUN_BLOCKS;
    p.blocks = alloc_try(piece * cd->block_bytes);
    p.scratch = alloc_try(nruns * p.scratch_len);
    p.stat = alloc_try(nruns * sizeof *p.stat);
    if (!p.blocks || !p.scratch || !p.stat) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu blocks of codes", piece);
    }
    TRY(ixw_begin(w, BOUND_TAG_BLOCKS, st));
    for (p.first = 0; p.first < nblocks; p.first += piece) {
        if (b->check) {
            TRY(b->check(b->check_arg, st));
        }
        p.n = MIN(piece, nblocks - p.first);
        memset(p.stat, 0, nruns * sizeof *p.stat);
        parallel_for(b->pool, (p.n + RUN_BLOCKS - 1) / RUN_BLOCKS, encode_run, &p);
        TRY(ixw_put(w, p.blocks, p.n * cd->block_bytes, st));
        for (size_t i = 0; i < nruns; i++) {
            ret->nodd += p.stat[i].nodd;
            ret->e_max = fmax(ret->e_max, p.stat[i].e_max);
            ret->a_max = fmax(ret->a_max, p.stat[i].a_max);
            ret->u2_max = fmax(ret->u2_max, p.stat[i].u2_max);
            ret->norm_max = fmax(ret->norm_max, p.stat[i].norm_max);
        }
        if (b->progress) {
            b->progress(b->progress_arg, (double)(p.first + p.n) / (double)nblocks);
        }
    }
    TRY(ixw_end(w, st));
out:
    mem_free(p.blocks);
    mem_free(p.scratch);
    mem_free(p.stat);
    return rc;
}

static void coder_shape(struct coder *cd, const struct index_rows *rows)
{
    cd->rows = rows;
    cd->dim = rows->dim;
    cd->groups = (rows->dim + 7) / 8;
    cd->padded = cd->groups * 8;
    cd->block_bytes = simd_block4_bytes(cd->groups);
}

int bound_build(const struct index_build *b, struct ixw *w, struct status *st)
{
    struct coder cd = { 0 };
    struct run_stat all = { 0 };
    bool ok = false;
    int rc = 0;
    coder_shape(&cd, b->rows);
    cd.low = alloc_try_zero(4 * cd.padded * sizeof(float));
    if (!cd.low) {
        FAIL(st, ST_NO_MEMORY, "no memory for the scales of %zu dimensions", cd.dim);
    }
    cd.step = cd.low + cd.padded;
    cd.mean = cd.step + cd.padded;
    cd.mid = cd.mean + cd.padded;
    TRY(fit(&cd, b->pool, &ok, st));
    if (!ok) {
        goto out;
    }
    TRY(write_blocks(b, &cd, w, &all, st));
    struct bound_head head = { .groups = (uint32_t)cd.groups,
                               .nodd = all.nodd,
                               .e_max = all.e_max,
                               .a_max = all.a_max,
                               .u_max = sqrt(all.u2_max) * (1 + 0x1p-40),
                               .norm_max = all.norm_max * (1 + 0x1p-40) };
    TRY(ixw_begin(w, BOUND_TAG_HEAD, st));
    TRY(ixw_put(w, &head, sizeof head, st));
    TRY(ixw_put(w, cd.low, 4 * cd.padded * sizeof(float), st));
    TRY(ixw_end(w, st));
out:
    mem_free(cd.low);
    return rc;
}

/* ---- Opening ---- */

int bound_open(const struct ix_file *file, const struct index_rows *rows, struct bound *ret,
               struct status *st)
{
    struct coder cd = { 0 };
    struct bound bd = { 0 };
    const void *p = NULL, *blocks = NULL;
    int rc = 0;
    if (!ix_has_section(file, BOUND_TAG_HEAD)) {
        *ret = bd;
        goto out;
    }
    coder_shape(&cd, rows);
    bd.block_bytes = cd.block_bytes;
    bd.nblocks = ((size_t)rows->nrows + SIMD_BLOCK_ROWS - 1) / SIMD_BLOCK_ROWS;
    TRY(ix_section(file, BOUND_TAG_HEAD,
                   sizeof(struct bound_head) + 4 * cd.padded * sizeof(float), &p, NULL, st));
    TRY(ix_section(file, BOUND_TAG_BLOCKS, bd.nblocks * cd.block_bytes, &blocks, NULL, st));
    bd.head = p;
    bd.blocks = blocks;
    bd.low = (const float *)(bd.head + 1);
    bd.step = bd.low + cd.padded;
    bd.mean = bd.step + cd.padded;
    bd.mid = bd.mean + cd.padded;
    const struct bound_head *h = bd.head;
    if (h->groups != cd.groups || h->nodd > rows->nrows || !isfinite(h->e_max) ||
        !isfinite(h->a_max) || !isfinite(h->u_max) || !isfinite(h->norm_max)) {
        FAIL(st, ST_CORRUPT, "index file: the head of the codes makes no sense");
    }
    *ret = bd;
out:
    return rc;
}

static bool row_holds(const struct bound *bd, const struct coder *cd, const struct coded *c,
                      const uint8_t *u, size_t row)
{
    const uint8_t *block = bd->blocks + row / SIMD_BLOCK_ROWS * bd->block_bytes;
    unsigned r = row % SIMD_BLOCK_ROWS;
    float a0, a1, e;
    memcpy(&a0, block + 4 * r, 4);
    memcpy(&a1, block + 64 + 4 * r, 4);
    memcpy(&e, block + SIMD_BLOCK4_E + 4 * r, 4);
    for (size_t k = 0; k < cd->padded; k++) {
        uint8_t two = block[SIMD_BLOCK4_HEAD + k / 8 * 64 + 4 * r + k % 4];
        if ((k % 8 < 4 ? two & 15 : two >> 4) != u[k]) {
            return false;
        }
    }
    bool within = c->odd || ((double)e <= bd->head->e_max && fabs((double)a0) <= bd->head->a_max &&
                             fabs((double)a1) <= bd->head->a_max &&
                             sqrt(c->u2) <= bd->head->u_max && c->norm <= bd->head->norm_max);
    return within && e == c->e && a0 == c->a0 && a1 == c->a1;
}

int bound_validate(const struct bound *bd, const struct index_rows *rows, struct status *st)
{
    struct coder cd = { .norm_limit = bd->head->norm_max };
    int rc = 0;
    coder_shape(&cd, rows);
    cd.low = (float *)(uintptr_t)bd->low;
    cd.step = (float *)(uintptr_t)bd->step;
    cd.mean = (float *)(uintptr_t)bd->mean;
    cd.mid = (float *)(uintptr_t)bd->mid;
    float *x = alloc_try(cd.dim * sizeof(float));
    uint8_t *u = alloc_try(cd.padded);
    if (!x || !u) {
        FAIL(st, ST_NO_MEMORY, "no memory for one row");
    }
    for (size_t i = 0; i < rows->nrows; i++) {
        struct coded c;
        index_rows_f32(rows, NULL, i, 1, false, x);
        code_row(&cd, x, u, &c);
        if (!row_holds(bd, &cd, &c, u, i)) {
            FAIL(st, ST_CORRUPT, "index file: the code of row %zu is not that row's", i);
        }
    }
out:
    mem_free(x);
    mem_free(u);
    return rc;
}
