/*
 * rabitq.c - CODEC_RABITQ: random rotation, then 1 to 9 bits a dimension about a centre.
 *
 * WHAT        Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error
 *             Bound for Approximate Nearest Neighbor Search" (SIGMOD 2024), and for more bits Gao
 *             et al., "Practical and Asymptotically Optimal Quantization of High-Dimensional
 *             Vectors in Euclidean Space" (SIGMOD 2025). With centre c, r = R (x - c) the rotated
 *             residual and u its integers, x~ = u - (2^b - 1) / 2 is a vector of nearly r's
 *             direction, and for a query p = R (q - c)
 *                 p . r ~ (p . x~) |r|^2 / (r . x~)
 *             is unbiased over the rotation. Its error, given x, is a coordinate of a random unit
 *             vector in padded - 1 dimensions times |p| |r| sqrt(1 / cos^2 - 1), cos between x~
 *             and r.
 * CODE        b planes of padded / 8 bytes, highest bit first, then f32 add, rescale, err, qerr:
 *                 L2          key = |q - c|^2 + |r|^2 - 2 p.r
 *                 IP, COSINE  key = -q.c - (x - c).c - p.r
 *             padded to 64 bytes where that costs less than a seventh: a code then touches as few
 *             cache lines as it can wherever it lies in an aligned array.
 * QUERY       p rounded to signed integers of 4 bits for 1-bit codes and 8 for longer ones, one bit
 *             plane each. 4 bits add 2 % to the error of 1-bit codes.
 * BOUND       low = key - EPSILON standard deviations of both errors. The error is close to normal:
 *             a row lies below its bound about once in a thousand. A row that is not finite or
 *             overflows gets err = infinity and the bound -infinity.
 * PAYLOAD     Trained: f32 centre[dim], the mean of up to 65,536 rows. Else nothing: zero.
 */
#include <math.h>
#include <string.h>

#include "index/quant/codec_int.h"
#include "index/quant/rotate.h"

#define EPSILON 3.0
#define MEAN_ROWS 65536
#define PADDED_MAX (INDEX_DIM_MAX + 64)

struct factors {
    float add, rescale, err, qerr;
};

struct rbq_query {
    struct simd_rbq q;
    ALIGNED(64) uint64_t planes[];
};

static uint32_t query_planes(const struct codec *c)
{
    return c->u.rbq.bits == 1 ? 4 : 8;
}

static int rbq_payload(struct codec_head *h, size_t *ret_size, struct status *st)
{
    h->bits = h->bits ? h->bits : 1;
    if (h->bits > 9) {
        return st_fail(st, ST_INVALID, "%u bits a dimension, 1 to 9 wanted", h->bits);
    }
    *ret_size = h->trained ? (size_t)h->dim * sizeof(float) : 0;
    return 0;
}

static int rbq_train(struct codec *c, uint8_t *payload, const struct codec_train *t,
                     struct status *st)
{
    int rc = 0;
    double *sum = NULL;
    float *row = NULL, *centre = (float *)(void *)payload;
    if (!t) {
        goto out;
    }
    sum = alloc_try_zero(c->dim * sizeof *sum);
    row = alloc_try(c->dim * sizeof *row);
    if (!sum || !row) {
        FAIL(st, ST_NO_MEMORY, "no memory for a mean of dimension %zu", c->dim);
    }
    size_t n = t->rows->nrows, used = 0, step = n / MEAN_ROWS + 1;
    for (size_t i = 0; i < n; i += step) {
        codec__widen(c, index_row(t->rows, i), row);
        if (!(codec__norm(row, c->dim) < (double)CODEC_HUGE)) {
            continue;
        }
        for (size_t d = 0; d < c->dim; d++) {
            sum[d] += (double)row[d];
        }
        used++;
        if (t->check && i % 4096 < step) {
            TRY(t->check(t->check_arg, st));
        }
    }
    for (size_t d = 0; d < c->dim; d++) {
        centre[d] = used ? (float)(sum[d] / (double)used) : 0;
    }
out:
    mem_free(sum);
    mem_free(row);
    return rc;
}

static int rbq_open(struct codec *c, struct status *st)
{
    c->u.rbq.padded = rotate_padded(c->dim);
    c->u.rbq.words = c->u.rbq.padded / 64;
    c->u.rbq.bits = c->head->bits;
    c->u.rbq.centre = c->head->trained ? (const float *)(const void *)c->payload : NULL;
    for (size_t i = 0; c->u.rbq.centre && i < c->dim; i++) {
        if (!(fabsf(c->u.rbq.centre[i]) <= CODEC_HUGE)) {
            return st_fail(st, ST_CORRUPT, "codec: centre %g in dimension %zu",
                           (double)c->u.rbq.centre[i], i);
        }
    }
    double size = c->u.rbq.centre ? codec__norm(c->u.rbq.centre, c->dim) : 0;
    c->u.rbq.centre2 = size * size;
    c->u.rbq.signs = alloc_try(rotate_signs(c->u.rbq.padded) * sizeof(float));
    if (!c->u.rbq.signs) {
        return st_fail(st, ST_NO_MEMORY, "no memory for a rotation of %zu", c->u.rbq.padded);
    }
    rotate_init(c->u.rbq.padded, c->head->seed, c->u.rbq.signs);
    size_t bytes = c->u.rbq.bits * c->u.rbq.words * 8 + sizeof(struct factors);
    size_t lines = ROUND_UP(bytes, (size_t)64);
    c->stride = (lines - bytes) * 7 <= bytes ? lines : bytes;
    c->query_bytes = sizeof(struct rbq_query) +
                     SIMD_RBQ_WORDS(c->u.rbq.words) * 8 * query_planes(c);
    return 0;
}

static void rbq_close(struct codec *c)
{
    mem_free(c->u.rbq.signs);
}

/* x - centre, rotated, into out[padded]; *ret_dot = (x - centre) . centre. Returns
 * |x - centre|^2. */
static double residual(const struct codec *c, const float *x, float *out, double *ret_dot)
{
    double sum = 0, dot = 0;
    for (size_t i = 0; i < c->dim; i++) {
        float m = c->u.rbq.centre ? c->u.rbq.centre[i] : 0;
        out[i] = x[i] - m;
        sum += (double)out[i] * (double)out[i];
        dot += (double)out[i] * (double)m;
    }
    memset(out + c->dim, 0, (c->u.rbq.padded - c->dim) * sizeof *out);
    rotate_run(c->simd, c->u.rbq.padded, c->u.rbq.signs, out);
    *ret_dot = dot;
    return sum;
}

/* ---- Codes ---- */

static float level_of(float v, float t, uint32_t bits)
{
    const float half = (float)(1u << (bits - 1)), top = 2 * half - 1;
    float u = floorf(v * t + half);
    return u >= top ? top : u > 0 ? u : 0; /* a NaN becomes 0 */
}

/* r . x~ / |x~| when r is scaled by t before rounding. */
static double fit_of(const float *r, size_t n, float t, uint32_t bits)
{
    const float mid = 0.5f * (float)((1u << bits) - 1);
    double dot = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        float x = level_of(r[i], t, bits) - mid;
        dot += (double)(x * r[i]);
        size += (double)(x * x);
    }
    return dot / sqrt(size);
}

/* The scale under which rounding keeps r's direction best, from a grid: the largest element sits at
 * the end of the levels, or up to twice as far out, so that few elements are clipped. */
static float best_scale(const float *r, size_t n, uint32_t bits)
{
    float top = 0;
    for (size_t i = 0; i < n; i++) {
        top = fmaxf(top, fabsf(r[i]));
    }
    float one = top > 0 ? (float)(1u << (bits - 1)) / top : 0, best = one;
    double best_fit = -1;
    const int steps = bits >= 7 ? 6 : 16;
    for (int i = 0; bits > 1 && i < steps; i++) {
        float t = one * (bits >= 7 ? 0.98f + 0.02f * (float)i : 0.9f + 0.08f * (float)i);
        double fit = fit_of(r, n, t, bits);
        if (fit > best_fit) {
            best_fit = fit;
            best = t;
        }
    }
    return best;
}

static void rbq_encode(const struct codec *c, const void *row, uint8_t *code)
{
    float r[PADDED_MAX];
    const size_t n = c->u.rbq.padded, plane = c->u.rbq.words * 8;
    const uint32_t bits = c->u.rbq.bits;
    const double mid = 0.5 * ((1u << bits) - 1), k = c->metric == METRIC_L2 ? 2 : 1;
    double along, rr = residual(c, row, r, &along), dot = 0, xx = 0;
    float t = best_scale(r, n, bits);
    for (size_t i = 0; i < n; i++) {
        uint32_t u = bits == 1 ? r[i] >= 0 : (uint32_t)level_of(r[i], t, bits);
        for (uint32_t b = 0; b < bits; b++) {
            code[b * plane + i / 8] |= (uint8_t)((u >> (bits - 1 - b) & 1) << (i % 8));
        }
        dot += ((double)u - mid) * (double)r[i];
        xx += ((double)u - mid) * ((double)u - mid);
    }
    struct factors f = { 0 };
    if (dot > 0) {
        double rescale = rr / dot;
        f.add = (float)(c->metric == METRIC_L2 ? rr : -along);
        f.rescale = (float)(-k * rescale);
        double spread = fmax(rescale * rescale * xx - rr, 0);
        f.err = (float)(k * sqrt(spread / ((double)n - 1)));
        f.qerr = (float)(k * rescale * sqrt(xx / (double)n));
    }
    if (!isfinite(f.add) || !isfinite(f.rescale) || !isfinite(f.err) || !isfinite(f.qerr) ||
        !isfinite(rr)) {
        f = (struct factors){ .err = INFINITY };
    }
    memcpy(code + bits * plane, &f, sizeof f);
}

static uint32_t code_at(const struct codec *c, const uint8_t *code, size_t i)
{
    uint32_t u = 0;
    for (uint32_t b = 0; b < c->u.rbq.bits; b++) {
        u = u * 2 + (code[b * c->u.rbq.words * 8 + i / 8] >> (i % 8) & 1u);
    }
    return u;
}

/* The point nearest to the row on the line of x~: err and rescale tell |r|, and so its length. */
static void rbq_decode(const struct codec *c, const uint8_t *code, float *out)
{
    float x[PADDED_MAX];
    const size_t n = c->u.rbq.padded;
    const double mid = 0.5 * ((1u << c->u.rbq.bits) - 1), k = c->metric == METRIC_L2 ? 2 : 1;
    double xx = 0;
    struct factors f;
    memcpy(&f, code + c->u.rbq.bits * c->u.rbq.words * 8, sizeof f);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)((double)code_at(c, code, i) - mid);
        xx += (double)x[i] * (double)x[i];
    }
    double rescale = (double)f.rescale / -k, err = (double)f.err / k, scale = 0;
    if (rescale > 0 && isfinite(err)) {
        double rr = rescale * rescale * xx - err * err * ((double)n - 1);
        scale = fmax(rr, 0) / (rescale * xx);
    }
    rotate_back(c->simd, n, c->u.rbq.signs, x);
    for (size_t i = 0; i < c->dim; i++) {
        out[i] = (float)((double)x[i] * scale) + (c->u.rbq.centre ? c->u.rbq.centre[i] : 0);
    }
}

/* ---- Queries ---- */

/* x - centre, rotated, into out[padded]; *ret_dot = (x - centre) . centre, *ret_size = |x -
 * centre|^2: in f32, which is enough for a query. */
static void query_residual(const struct codec *c, const float *x, float *out, float *ret_dot,
                           float *ret_size)
{
    const float *centre = c->u.rbq.centre;
    const size_t dim = c->dim;
    *ret_dot = 0;
    if (centre) {
        c->simd->less(x, centre, dim, INFINITY, out);
        c->simd->ip[SIMD_F32].rows(centre, out, 0, 1, dim, ret_dot);
    } else {
        memcpy(out, x, dim * sizeof *out);
    }
    memset(out + dim, 0, (c->u.rbq.padded - dim) * sizeof *out);
    c->simd->norm2[SIMD_F32].rows(NULL, out, 0, 1, dim, ret_size);
    rotate_run(c->simd, c->u.rbq.padded, c->u.rbq.signs, out);
}

static void rbq_query(const struct codec *c, const void *query, void *pq)
{
    struct rbq_query *q = pq;
    float p[PADDED_MAX], pp, dot;
    const size_t n = c->u.rbq.padded, padded_words = SIMD_RBQ_WORDS(c->u.rbq.words);
    const uint32_t planes = query_planes(c);
    const float most = (float)((1 << (planes - 1)) - 1);
    int64_t sum;
    query_residual(c, query, p, &dot, &pp);
    const float unit = c->simd->largest(p, n) / most;
    const float inv = unit > 0x1p-120f && unit < 0x1p120f ? 1 / unit : 0;
    memset(q->planes, 0, padded_words * 8 * planes);
    const float qerr = c->simd->round_planes(p, n, inv, planes, q->planes, &sum);
    const double mid = 0.5 * ((1u << c->u.rbq.bits) - 1);
    /* q.c = (q - c).c + c.c */
    q->q = (struct simd_rbq){ .planes = q->planes,
                              .nplanes = planes,
                              .bits = c->u.rbq.bits,
                              .words = c->u.rbq.words,
                              .add = c->metric == METRIC_L2
                                         ? pp
                                         : (float)(-(double)dot - c->u.rbq.centre2),
                              .scale = unit,
                              .bias = (float)(-mid * (double)unit * (double)sum),
                              .err = fmaxf((float)(EPSILON * sqrt((double)pp)), 0x1p-100f),
                              .qerr = (float)EPSILON * unit * sqrtf(qerr) };
}

static void rbq_rows(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                     size_t n, float *keys)
{
    c->simd->rbq_rows(&((const struct rbq_query *)pq)->q, base, stride, n, keys, NULL);
}

static void rbq_ids(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                    const uint32_t *ids, size_t n, float *keys)
{
    c->simd->rbq_ids(&((const struct rbq_query *)pq)->q, base, stride, ids, n, keys, NULL);
}

static void rbq_bound(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                      const uint32_t *ids, size_t n, float *keys, float *lows)
{
    const struct simd_rbq *q = &((const struct rbq_query *)pq)->q;
    if (ids) {
        c->simd->rbq_ids(q, base, stride, ids, n, keys, lows);
    } else {
        c->simd->rbq_rows(q, base, stride, n, keys, lows);
    }
}

void codec_query_spread(const struct codec *c, void *pq, float deviations)
{
    struct simd_rbq *q = &((struct rbq_query *)pq)->q;
    (void)c;
    q->err *= deviations / (float)EPSILON;
    q->qerr *= deviations / (float)EPSILON;
}

/* ---- Signs ---- */

size_t codec_sign_words(const struct codec *c)
{
    return c->u.rbq.words;
}

void codec_query_signs(const struct codec *c, const void *pq, uint64_t *words,
                       struct codec_signs *ret)
{
    const struct simd_rbq *q = &((const struct rbq_query *)pq)->q;
    const uint64_t *top = q->planes + (q->nplanes - 1) * SIMD_RBQ_WORDS(q->words);
    int zeros = 0;
    for (size_t w = 0; w < c->u.rbq.words; w++) {
        uint64_t some = 0;
        for (size_t b = 0; b < q->nplanes; b++) {
            some |= q->planes[b * SIMD_RBQ_WORDS(q->words) + w];
        }
        zeros += 64 - __builtin_popcountll(some);
        words[w] = ~top[w]; /* two's complement: the highest bit says negative */
    }
    *ret = (struct codec_signs){ .add = q->add,
                                 .len = q->err / (float)EPSILON,
                                 .zeros = (float)zeros };
}

/* err^2 (n - 1) / k^2 = rescale^2 x~.x~ - r.r, and all x~ of one bit have the length sqrt(n) / 2. */
void codec_row_signs(const struct codec *c, const uint8_t *code, uint64_t *words,
                     struct codec_signs *ret)
{
    const double n = (double)c->u.rbq.padded, k = c->metric == METRIC_L2 ? 2 : 1;
    struct factors f;
    memcpy(words, code, c->u.rbq.words * 8);
    memcpy(&f, code + c->u.rbq.words * 8, sizeof f);
    double rescale = (double)f.rescale / k, err = (double)f.err / k;
    double rr = rescale * rescale * n / 4 - err * err * (n - 1);
    *ret = (struct codec_signs){ .add = f.add,
                                 .len = isfinite(f.err) ? (float)sqrt(fmax(rr, 0)) : NAN };
}

const struct codec_ops codec__rabitq = {
    .kind = CODEC_RABITQ,
    .types = 1u << VEC_F32 | 1u << VEC_F16 | 1u << VEC_BF16 | 1u << VEC_I8,
    .float_code = true,
    .payload = rbq_payload,
    .train = rbq_train,
    .open = rbq_open,
    .close = rbq_close,
    .encode = rbq_encode,
    .decode = rbq_decode,
    .query = rbq_query,
    .rows = rbq_rows,
    .ids = rbq_ids,
    .bound = rbq_bound,
    .bounds_free = true,
};
