/*
 * sq_train.c - offsets and steps of scalar quantisers from a sample of rows.
 *
 * WHAT        Per dimension, the values of up to 8,192 rows give a histogram and from it ranges
 *             that leave out 0, 0.05, ... 6 % on each side. Fewer bits want narrower ranges: a few
 *             clipped values cost less than wide steps for all. Which range is best is measured:
 *             the squared error of the sample itself under each. With a step per dimension every
 *             dimension takes its best; with one step for all, the step is the widest range, or one
 *             that a few dimensions exceed, under one cut for all.
 * INTEGERS    Where all values are integers of a span that codes can count, the step is the
 *             smallest 1/2^j that still covers the widest span and offsets are whole, so codes are the rows:
 *             SIFT-like data loses nothing.
 * FAR ROWS    A row a thousand times as long as the others would make the step too wide to tell the
 *             others apart. Rows much farther from ordinary rows than these are from each other are
 *             left out of the sample, unless there are many; their codes are clipped.
 * THREADS     Dimensions are spread over the pool; each writes its own numbers.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "index/by_value.h"
#include "index/quant/sq_int.h"

#define SQ_SAMPLE 8192
#define SQ_SAMPLE_BYTES (64u << 20)
#define SQ_BINS 2048
static const double cuts[] = { 0, 0.0005, 0.002, 0.005, 0.01, 0.02, 0.035, 0.06 };
#define NCUTS 8
/* Share of dimensions whose range one step for all must cover. */
static const double covers[] = { 1, 0.97, 0.9, 0.75 };
#define NCOVERS 4

/* A row is far when no witness is nearer than FAR times what is usual; at most one of FAR_SHARE. */
#define WITNESSES 8
#define FAR 16.0
#define FAR_SHARE 200

struct sq_dim {
    float lo[NCUTS], hi[NCUTS]; /* the range under each cut */
    float best_error;           /* of the best cut with its own step */
    int best;
    bool whole; /* only integers */
};

struct sq_job {
    const float *rows;
    size_t n, dim;
    uint32_t levels;
    struct sq_dim *dims;
    float step, cut_error[NCUTS * NCOVERS]; /* of one step for all */
    float *errors;                          /* dim x NCUTS x NCOVERS */
    float steps[NCUTS * NCOVERS];
};

static double range_error(const struct sq_job *j, size_t d, float lo, float step)
{
    double sum = 0;
    float inv = step > 0 ? 1 / step : 0, top = (float)(j->levels - 1);
    for (size_t r = 0; r < j->n; r++) {
        float x = j->rows[r * j->dim + d];
        if (!(fabsf(x) <= CODEC_HUGE)) {
            continue;
        }
        float c = floorf((x - lo) * inv + 0.5f);
        c = c < 0 ? 0 : c > top ? top : c;
        double e = (double)x - (double)lo - (double)(c * step);
        sum += e * e;
    }
    return sum;
}

/* The range of dimension d under each cut. */
static void find_ranges(const struct sq_job *j, size_t d, struct sq_dim *s)
{
    uint32_t bins[SQ_BINS] = { 0 };
    float lo = INFINITY, hi = -INFINITY;
    size_t n = 0;
    s->whole = true;
    for (size_t r = 0; r < j->n; r++) {
        float x = j->rows[r * j->dim + d];
        if (fabsf(x) <= CODEC_HUGE) {
            lo = x < lo ? x : lo;
            hi = x > hi ? x : hi;
            n++;
            s->whole = s->whole && rintf(x) == x && fabsf(x) < 0x1p20f;
        }
    }
    if (n == 0) {
        lo = hi = 0;
    }
    double scale = hi > lo ? (SQ_BINS - 1) / ((double)hi - (double)lo) : 0;
    for (size_t r = 0; r < j->n; r++) {
        float x = j->rows[r * j->dim + d];
        if (fabsf(x) <= CODEC_HUGE) {
            bins[(size_t)(((double)x - (double)lo) * scale)]++;
        }
    }
    for (int k = 0; k < NCUTS; k++) {
        double skip = cuts[k] * (double)n, seen = 0;
        size_t a = 0, b = SQ_BINS - 1;
        for (; a < SQ_BINS - 1 && seen + bins[a] <= skip; a++) {
            seen += bins[a];
        }
        for (seen = 0; b > a && seen + bins[b] <= skip; b--) {
            seen += bins[b];
        }
        double width = scale > 0 ? 1 / scale : 0;
        s->lo[k] = k == 0 ? lo : (float)((double)lo + (double)a * width);
        s->hi[k] = k == 0 ? hi : (float)fmin((double)lo + (double)(b + 1) * width, (double)hi);
    }
}

static void ranges_task(void *ctx, size_t d)
{
    struct sq_job *j = ctx;
    struct sq_dim *s = &j->dims[d];
    find_ranges(j, d, s);
    double best = INFINITY;
    for (int k = 0; k < NCUTS; k++) {
        float step = (s->hi[k] - s->lo[k]) / (float)(j->levels - 1);
        double e = range_error(j, d, s->lo[k], step);
        if (e < best) {
            best = e;
            s->best = k;
        }
    }
    s->best_error = (float)fmin(best, 3e38);
}

/* Where codes of one step start: the range sits in the middle of what they reach. */
static float centred(const struct sq_job *j, const struct sq_dim *s, int cut, float step)
{
    return 0.5f * s->lo[cut] + 0.5f * s->hi[cut] - 0.5f * step * (float)(j->levels - 1);
}

static void uniform_task(void *ctx, size_t d)
{
    struct sq_job *j = ctx;
    for (int i = 0; i < NCUTS * NCOVERS; i++) {
        float lo = centred(j, &j->dims[d], i % NCUTS, j->steps[i]);
        double e = range_error(j, d, lo, j->steps[i]);
        j->errors[d * NCUTS * NCOVERS + (size_t)i] = (float)fmin(e, 3e38);
    }
}

/* The share-th smallest range of all dimensions under a cut; rank counted, dim is small. */
static float covering_range(const struct sq_job *j, int cut, double share)
{
    float best = INFINITY, top = 0;
    size_t want = (size_t)ceil(share * (double)j->dim);
    for (size_t d = 0; d < j->dim; d++) {
        float r = j->dims[d].hi[cut] - j->dims[d].lo[cut];
        top = r > top ? r : top;
    }
    if (share >= 1) {
        return top;
    }
    /* Bisection over the value: 24 counts instead of a sort. */
    float lo = 0, hi = top;
    for (int i = 0; i < 24; i++) {
        float mid = 0.5f * lo + 0.5f * hi;
        size_t below = 0;
        for (size_t d = 0; d < j->dim; d++) {
            below += j->dims[d].hi[cut] - j->dims[d].lo[cut] <= mid;
        }
        if (below >= want) {
            hi = best = mid;
        } else {
            lo = mid;
        }
    }
    return best < INFINITY ? best : top;
}

static bool try_integers(const struct sq_job *j, float *offset, float *step)
{
    float span = 0, one = 1;
    for (size_t d = 0; d < j->dim; d++) {
        const struct sq_dim *s = &j->dims[d];
        span = fmaxf(span, s->hi[0] - s->lo[0]);
        if (!s->whole || span > (float)(j->levels - 1)) {
            return false;
        }
    }
    while (one > 0x1p-8f && 2 * span <= one * (float)(j->levels - 1)) {
        one /= 2;
    }
    for (size_t d = 0; d < j->dim; d++) {
        /* In the middle, but whole and with the top value inside. */
        float o = floorf(centred(j, &j->dims[d], 0, one));
        offset[d] = fmaxf(o, ceilf(j->dims[d].hi[0] - one * (float)(j->levels - 1)));
        step[d] = one;
    }
    return true;
}

/* One step for all. Returns its squared error. */
static double choose_uniform(struct sq_job *j, struct pool *pool, float *offset, float *step)
{
    for (int i = 0; i < NCUTS * NCOVERS; i++) {
        j->steps[i] = covering_range(j, i % NCUTS, covers[i / NCUTS]) / (float)(j->levels - 1);
    }
    parallel_for(pool, j->dim, uniform_task, j);
    double best = INFINITY;
    int at = 0;
    for (int i = 0; i < NCUTS * NCOVERS; i++) {
        double e = 0;
        for (size_t d = 0; d < j->dim; d++) {
            e += (double)j->errors[d * NCUTS * NCOVERS + (size_t)i];
        }
        if (e < best) {
            best = e;
            at = i;
        }
    }
    for (size_t d = 0; d < j->dim; d++) {
        offset[d] = centred(j, &j->dims[d], at % NCUTS, j->steps[at]);
        step[d] = j->steps[at];
    }
    return best;
}

static double choose_own(const struct sq_job *j, float *offset, float *step)
{
    double sum = 0;
    for (size_t d = 0; d < j->dim; d++) {
        const struct sq_dim *s = &j->dims[d];
        offset[d] = s->lo[s->best];
        step[d] = (s->hi[s->best] - s->lo[s->best]) / (float)(j->levels - 1);
        sum += (double)s->best_error;
    }
    return sum;
}

static double distance2(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) {
        double x = (double)a[d] - (double)b[d];
        sum += x * x;
    }
    return sum;
}

/* Takes far rows out of the sample. */
static int drop_far_rows(struct sq_job *j, float *rows, struct status *st)
{
    int rc = 0;
    double *near = alloc_try(2 * MAX(j->n, (size_t)1) * sizeof *near), *sorted = near + j->n;
    size_t far = 0, kept = 0;
    if (!near) {
        FAIL(st, ST_NO_MEMORY, "no memory to train a codec of dimension %zu", j->dim);
    }
    for (size_t i = 0; i < j->n; i++) {
        near[i] = INFINITY;
        for (size_t w = 0; w < WITNESSES; w++) {
            size_t other = (2 * w + 1) * j->n / (2 * WITNESSES);
            if (other != i) {
                near[i] = fmin(near[i], distance2(rows + i * j->dim, rows + other * j->dim, j->dim));
            }
        }
    }
    memcpy(sorted, near, j->n * sizeof *near);
    qsort(sorted, j->n, sizeof *sorted, by_f64);
    double limit = j->n ? FAR * FAR * sorted[j->n / 2] : 0;
    for (size_t i = 0; i < j->n; i++) {
        far += near[i] > limit;
    }
    if (limit == 0 || far == 0 || far > j->n / FAR_SHARE) {
        goto out;
    }
    for (size_t i = 0; i < j->n; i++) {
        if (!(near[i] > limit)) {
            memmove(rows + kept++ * j->dim, rows + i * j->dim, j->dim * sizeof *rows);
        }
    }
    j->n = kept;
out:
    mem_free(near);
    return rc;
}

int sq__train(struct codec *c, uint8_t *payload, const struct codec_train *t, struct status *st)
{
    int rc;
    float *rows = NULL, *offset = (float *)(void *)payload, *step = offset + c->dim;
    struct sq_job j = { .dim = c->dim, .levels = sq__levels(codec_kind_of(c)) };
    TRY(codec__sample(c, t, SQ_SAMPLE, SQ_SAMPLE_BYTES, &rows, &j.n, st));
    j.rows = rows;
    TRY(drop_far_rows(&j, rows, st));
    j.dims = alloc_try_zero(c->dim * sizeof *j.dims);
    j.errors = alloc_try(c->dim * NCUTS * NCOVERS * sizeof(float));
    if (!j.dims || !j.errors) {
        FAIL(st, ST_NO_MEMORY, "no memory to train a codec of dimension %zu", c->dim);
    }
    parallel_for(t->pool, c->dim, ranges_task, &j);
    TRY(t->check ? t->check(t->check_arg, st) : 0);
    if (j.n > 0 && try_integers(&j, offset, step)) {
        goto out;
    }
    double own = choose_own(&j, offset, step);
    if (c->metric == METRIC_L2) {
        float *two = alloc_try(2 * c->dim * sizeof(float));
        if (!two) {
            FAIL(st, ST_NO_MEMORY, "no memory to train a codec of dimension %zu", c->dim);
        }
        double one = choose_uniform(&j, t->pool, two, two + c->dim);
        if (one <= 2 * own) {
            memcpy(payload, two, 2 * c->dim * sizeof(float));
        } else {
            offset[2 * c->dim] = 1;
        }
        mem_free(two);
    }
out:
    mem_free(rows);
    mem_free(j.dims);
    mem_free(j.errors);
    return rc;
}
