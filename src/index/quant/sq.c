/*
 * sq.c - CODEC_SQ8, SQ6, SQ4: unsigned codes c with x^_i = offset_i + step_i * c_i.
 *
 * STEPS       For L2 one step for all dimensions, each with its own offset. The kernel then gets
 *             sum c_i^2 from the codes themselves and a 128-dimensional 8-bit code is two cache
 *             lines, not two and four bytes of a third. Where dimensions differ so much in spread
 *             that one step would more than double the squared error, every dimension gets its own
 *             and codes carry sum (step_i c_i)^2 as an f32 term. For IP and COSINE every dimension
 *             has its own step at no cost: the query absorbs it. sq_train.c chooses.
 * CODE        Packed codes (simd.h), zeros to a multiple of 4, [f32 term], [f32 |x - x^|].
 * QUERY       v as 15-bit integers in two planes of signed bytes with one scale (4-bit codes: one
 *             plane, unless dimensions have their own steps and the metric is L2), so that rounding
 *             the query adds 1/128 of the code's own error and not as much again. With w = q -
 *             offset:
 *                 L2, one step   v = w - 64 s for 8 bits, w for less, s the step; key = |w'|^2 +
 *                                s^2 S - 2 s sum c v, with the kernel's S (simd.h) exactly
 *                                |q' - x^|^2 for the rounded query q' and its w'
 *                 L2, own steps  v_i = w_i step_i; key = |w|^2 - 2 sum c v + term
 *                 IP, COSINE     v_i = -q_i step_i; key = -q.offset + sum c v
 * BOUND       |q - x| >= |q' - x^| - |q - q'| - e; |q.x - q.x^| <= |q| e; what the rounded query
 *             and f32 sums may add is computed per query (struct sq_query). Rigorous.
 * PAYLOAD     f32 offset[dim], step[dim]; then f32 flag: 1 when codes carry the term.
 */
#include <math.h>
#include <string.h>

#include "index/quant/sq_int.h"

/* Relative to the magnitudes summed, see simd.h. */
#define SQ_ROUND (56 * 0x1p-24)

struct sq_query {
    struct simd_sq q;
    /* The bound: low = (sqrt(key - slack) - gap)^2 with e added to gap, or key - slack - norm e. */
    double slack, gap, norm;
    double add, side; /* L2 with one step: |w'| and 64 s sqrt(dim), for the slack of a key */
    ALIGNED(64) int8_t planes[];
};

static uint32_t levels_of(const struct codec *c)
{
    return sq__levels(codec_kind_of(c));
}

static int sq_payload(struct codec_head *h, size_t *ret_size, struct status *st)
{
    (void)st;
    *ret_size = (2 * (size_t)h->dim + 1) * sizeof(float);
    return 0;
}

static bool has_term(const struct codec *c)
{
    return c->u.sq.offset[2 * c->dim] != 0;
}

static int sq_open(struct codec *c, struct status *st)
{
    enum codec_kind kind = codec_kind_of(c);
    c->u.sq.bits = kind == CODEC_SQ8 ? SIMD_SQ8 : kind == CODEC_SQ6 ? SIMD_SQ6 : SIMD_SQ4;
    c->u.sq.offset = (const float *)(const void *)c->payload;
    c->u.sq.step = c->u.sq.offset + c->dim;
    double box = 0;
    for (size_t i = 0; i < c->dim; i++) {
        double lo = (double)c->u.sq.offset[i], step = (double)c->u.sq.step[i];
        double hi = lo + step * (levels_of(c) - 1);
        if (!(fabs(lo) <= 2e30 && step >= 0 && step <= 2e30)) {
            return st_fail(st, ST_CORRUPT, "codec: dimension %zu has offset %g and step %g", i, lo,
                           step);
        }
        box += fmax(lo * lo, hi * hi);
    }
    c->u.sq.box = sqrt(box);
    if (has_term(c) && c->metric != METRIC_L2) {
        return st_fail(st, ST_CORRUPT, "codec: a term with metric %s", metric_name(c->metric));
    }
    size_t bytes = SIMD_SQ_BYTES(c->u.sq.bits, c->dim);
    c->stride = bytes;
    if (has_term(c)) { /* right behind the codes, where the kernel reads it */
        c->u.sq.term_at = bytes;
        c->stride += 4;
    }
    c->stride = ROUND_UP(c->stride, 4);
    if (c->bounds) {
        c->u.sq.err_at = c->stride;
        c->stride += 4;
    }
    c->u.sq.dist = c->metric != METRIC_L2 ? &c->simd->sq_ip[c->u.sq.bits]
                   : has_term(c)          ? &c->simd->sq_term[c->u.sq.bits]
                                          : &c->simd->sq_l2[c->u.sq.bits];
    c->query_bytes = sizeof(struct sq_query) + 2 * SIMD_SQ_PLANE(c->dim);
    return 0;
}

/* ---- Codes ---- */

static uint8_t code_of(float x, float offset, float inv, float top)
{
    float v = (x - offset) * inv + 0.5f;
    /* Written so that a NaN becomes 0. */
    return !(v > 0) ? 0 : v >= top ? (uint8_t)top : (uint8_t)v;
}

static void put_code(enum simd_sq_bits bits, size_t dim, uint8_t *code, size_t i, uint8_t v)
{
    if (bits == SIMD_SQ8) {
        code[i] = v;
        return;
    }
    code[i / 2] |= (uint8_t)((v & 15) << (i % 2 * 4));
    if (bits == SIMD_SQ6) {
        size_t j = i % 128 / 2;
        code[(dim + 1) / 2 + i / 128 * 32 + j % 32] |=
            (uint8_t)((v >> 4) << (i % 2 * 4 + j / 32 * 2));
    }
}

static void sq_encode(const struct codec *c, const void *row, uint8_t *code)
{
    const float *x = row, top = (float)(levels_of(c) - 1);
    double term = 0, err = 0;
    for (size_t i = 0; i < c->dim; i++) {
        float step = c->u.sq.step[i], offset = c->u.sq.offset[i];
        uint8_t v = code_of(x[i], offset, step > 0 ? 1 / step : 0, top);
        put_code(c->u.sq.bits, c->dim, code, i, v);
        double scaled = (double)step * v, d = (double)x[i] - (double)offset - scaled;
        term += scaled * scaled;
        err += d * d;
    }
    float f = (float)term;
    if (c->u.sq.term_at) {
        memcpy(code + c->u.sq.term_at, &f, 4);
    }
    if (c->u.sq.err_at) {
        double unit = c->metric == METRIC_COSINE ? 0x1p-23 : 0;
        f = codec__up(sqrt(err) * (1 + 1e-12) + unit);
        f = f >= 0 ? f : INFINITY; /* a NaN: no bound */
        memcpy(code + c->u.sq.err_at, &f, 4);
    }
}

static void sq_decode(const struct codec *c, const uint8_t *code, float *out)
{
    const float *offset = c->u.sq.offset, *step = c->u.sq.step;
    if (c->u.sq.bits == SIMD_SQ8) { /* often, in graph builds: becomes vector code */
        for (size_t i = 0; i < c->dim; i++) {
            out[i] = offset[i] + step[i] * (float)(int)code[i];
        }
        return;
    }
    for (size_t i = 0; i < c->dim; i++) {
        out[i] = c->u.sq.offset[i] +
                 c->u.sq.step[i] * (float)simd_sq_code(c->u.sq.bits, code, c->dim, i);
    }
}

/* ---- Queries ---- */

/* simd_sq_plane() of 4- and 6-bit codes. Becomes vector code. */
static void evens_first(const int8_t *flat, size_t bytes, int8_t *plane)
{
    for (size_t at = 0; at < bytes; at += 128) {
        for (size_t j = 0; j < 64; j++) {
            plane[at + j] = flat[at + 2 * j];
            plane[at + 64 + j] = flat[at + 2 * j + 1];
        }
    }
}

/* v into planes; *ret_scale is theirs. A NaN in v spoils the scale and so every key. */
static void put_planes(const struct codec *c, const float *v, struct sq_query *pq, float *ret_scale)
{
    const size_t plane = SIMD_SQ_PLANE(c->dim);
    const bool two = c->u.sq.bits != SIMD_SQ4 || has_term(c);
    /* A little below 127 * 128 + 63, so that rounding cannot carry past it. */
    const float most = two ? 127 * 128 + 62 : 127;
    const float top = c->simd->largest(v, c->dim), bad = top - top;
    float scale = top > 0 ? top / most : 0, inv = scale > 0x1p-120f ? 1 / scale : 0;
    int8_t *hi = pq->planes, *lo = hi + plane;
    memset(hi, 0, 2 * plane);
    if (c->u.sq.bits == SIMD_SQ8) {
        c->simd->round_bytes(v, c->dim, inv, hi, lo);
    } else {
        int8_t flat[2 * SIMD_SQ_PLANE(INDEX_DIM_MAX)];
        memset(flat, 0, 2 * plane);
        /* One plane is the upper of two. */
        c->simd->round_bytes(v, c->dim, two ? inv : 128 * inv, flat, flat + plane);
        evens_first(flat, plane, hi);
        if (two) {
            evens_first(flat + plane, plane, lo);
        }
    }
    pq->q.hi = hi;
    pq->q.lo = lo;
    pq->q.dim = c->dim;
    /* One plane counts 128 times as well. */
    *ret_scale = (two ? scale : scale / 128) + bad;
}

static double plane_value(const struct codec *c, const struct sq_query *pq, size_t i, double scale)
{
    size_t at = simd_sq_plane(c->u.sq.bits, i);
    return scale * (128 * pq->q.hi[at] + pq->q.lo[at]);
}

static void finish_l2(const struct codec *c, struct sq_query *pq, double add, double gap,
                      float scale)
{
    const float step = c->u.sq.step[0];
    pq->q.add = (float)add;
    pq->q.self = step * step;
    pq->q.cross = -2 * step * scale;
    pq->gap = sqrt(gap) * (1 + 1e-12);
    if (step > 0 && pq->q.self < 0x1p-100f) {
        pq->gap = INFINITY; /* products that are not normal: no bound */
    }
    pq->add = sqrt(add);
    pq->side = 64 * (double)step * sqrt((double)c->dim);
}

/* Sums over all elements of the integers that the planes hold, and of their squares. */
static void plane_sums(const struct codec *c, const struct sq_query *pq, double *ret_sum,
                       double *ret_squares)
{
    c->simd->plane_sums(pq->q.hi, pq->q.lo, SIMD_SQ_PLANE(c->dim), ret_sum, ret_squares);
}

static void query_l2(const struct codec *c, const float *x, struct sq_query *pq)
{
    float v[INDEX_DIM_MAX], scale;
    const size_t dim = c->dim;
    const float *offset = c->u.sq.offset;
    const float shift = c->u.sq.bits == SIMD_SQ8 ? 64 * c->u.sq.step[0] : 0;
    double sum, squares, gap = 0;
    c->simd->less(x, offset, dim, CODEC_HUGE, v);
    for (size_t i = 0; shift != 0 && i < dim; i++) {
        v[i] -= shift;
    }
    put_planes(c, v, pq, &scale);
    plane_sums(c, pq, &sum, &squares);
    for (size_t i = 0; c->bounds && i < dim; i++) {
        double w = plane_value(c, pq, i, (double)scale) + (double)shift;
        double d = (double)x[i] - (double)offset[i] - w;
        gap += d * d;
    }
    /* |w'|^2: of what the planes hold */
    double add = (double)scale * (double)scale * squares + 2 * (double)scale * (double)shift * sum +
                 (double)dim * (double)shift * (double)shift;
    finish_l2(c, pq, add < 0 ? 0 : add, gap, scale); /* below: what the sums lost */
}

/* From a code, with one step: all integers, so that keys of two codes are the same both ways. */
static void query_code_l2(const struct codec *c, const uint8_t *code, struct sq_query *pq)
{
    const enum simd_sq_bits bits = c->u.sq.bits;
    const size_t plane = SIMD_SQ_PLANE(c->dim);
    int8_t *hi = pq->planes, *lo = hi + plane;
    uint64_t add = 0;
    memset(hi, 0, 2 * plane);
    /* Often, in graph builds: becomes vector code. */
    for (size_t i = 0; bits == SIMD_SQ8 && i < c->dim; i++) {
        int v = code[i], n = v - 64, h = (n + 64) >> 7;
        hi[i] = (int8_t)h;
        lo[i] = (int8_t)(n - h * 128);
        add += (uint32_t)(v * v);
    }
    for (size_t i = 0; bits != SIMD_SQ8 && i < c->dim; i++) {
        int v = (int)simd_sq_code(bits, code, c->dim, i), n = v;
        size_t at = simd_sq_plane(bits, i);
        int h = bits == SIMD_SQ4 ? n : (n + 64) >> 7;
        hi[at] = (int8_t)h;
        lo[at] = (int8_t)(bits == SIMD_SQ4 ? 0 : n - h * 128);
        add += (uint64_t)(v * v);
    }
    pq->q.hi = hi;
    pq->q.lo = lo;
    pq->q.dim = c->dim;
    double step = (double)c->u.sq.step[0];
    finish_l2(c, pq, step * step * (double)add, 0,
              bits == SIMD_SQ4 ? c->u.sq.step[0] / 128 : c->u.sq.step[0]);
}

static void query_term(const struct codec *c, const float *x, struct sq_query *pq)
{
    float v[INDEX_DIM_MAX], scale;
    const size_t dim = c->dim;
    c->simd->less(x, c->u.sq.offset, dim, CODEC_HUGE, v);
    const double half = 0.5 * (levels_of(c) - 1), add = c->simd->dot(v, v, dim);
    c->simd->times(v, c->u.sq.step, dim);
    put_planes(c, v, pq, &scale);
    double sum, squares;
    plane_sums(c, pq, &sum, &squares);
    /* What rounding takes from an average code is given back. */
    pq->q.add = (float)(add - 2 * half * (c->simd->sum(v, dim) - (double)scale * sum));
    pq->q.cross = -2 * scale;
    pq->gap = 0;
    if (c->bounds) {
        double off = 0, size = 0;
        for (size_t i = 0; i < dim; i++) {
            double kept = plane_value(c, pq, i, (double)scale);
            off += half * fabs((double)v[i] - kept);
            size += 2 * half * fabs(kept);
        }
        pq->slack = 2 * off + SQ_ROUND * (2 * add + 4 * size);
    }
}

/* clamped: x is not what was asked, and bounds nothing. */
static void query_ip(const struct codec *c, const float *x, bool clamped, struct sq_query *pq)
{
    float v[INDEX_DIM_MAX], scale;
    const size_t dim = c->dim;
    const float *offset = c->u.sq.offset, *step = c->u.sq.step;
    double off = 0, size = 0, mid = 0, sum, squares;
    const double add = -c->simd->dot(x, offset, dim);
    v[0] = 0; /* dim is not 0, which not every compiler sees */
    for (size_t i = 0; i < dim; i++) {
        v[i] = x[i] * -step[i];
    }
    put_planes(c, v, pq, &scale);
    const double half = 0.5 * (levels_of(c) - 1);
    /* With 15 bits what rounding takes from an average code is far below what it takes at
     * random. */
    if (c->bounds || c->u.sq.bits == SIMD_SQ4) {
        plane_sums(c, pq, &sum, &squares);
        mid = half * (c->simd->sum(v, dim) - (double)scale * sum);
    }
    pq->q.add = (float)(add + mid);
    pq->q.cross = scale;
    if (!c->bounds) {
        return;
    }
    for (size_t i = 0; i < dim; i++) {
        double kept = plane_value(c, pq, i, (double)scale);
        off += half * fabs((double)v[i] - kept);
        size += 2 * half * fabs(kept) + fabs((double)x[i] * (double)offset[i]);
    }
    pq->norm = codec__norm(x, dim) * (1 + 1e-12);
    pq->slack = off + SQ_ROUND * size + codec__sum_error(dim) * pq->norm * c->u.sq.box;
    if (c->metric == METRIC_COSINE) {
        pq->slack += 2 * codec__sum_error(dim);
    }
    if (clamped) {
        pq->slack = INFINITY;
    }
}

/* Apart, so that its room is not on everyone's stack. */
static __attribute__((noinline)) void query_ip_clamped(const struct codec *c, const float *x,
                                                      struct sq_query *pq)
{
    static const float zeros[INDEX_DIM_MAX];
    float own[INDEX_DIM_MAX];
    c->simd->less(x, zeros, c->dim, CODEC_HUGE, own);
    query_ip(c, own, true, pq);
}

static void sq_query(const struct codec *c, const void *query, void *pq)
{
    memset(pq, 0, sizeof(struct sq_query));
    if (c->metric != METRIC_L2) {
        if (c->simd->largest(query, c->dim) <= CODEC_HUGE) {
            query_ip(c, query, false, pq);
        } else {
            query_ip_clamped(c, query, pq);
        }
    } else if (has_term(c)) {
        query_term(c, query, pq);
    } else {
        query_l2(c, query, pq);
    }
}

static void sq_query_code(const struct codec *c, const uint8_t *code, void *pq)
{
    if (c->metric == METRIC_L2 && !has_term(c)) {
        memset(pq, 0, sizeof(struct sq_query));
        query_code_l2(c, code, pq);
        return;
    }
    float row[INDEX_DIM_MAX];
    sq_decode(c, code, row);
    sq_query(c, row, pq);
}

/* ---- Keys ---- */

static void run_kernel(const struct simd_sq_dist *d, const struct simd_sq *q, const uint8_t *base,
                       size_t stride, const uint32_t *ids, size_t n, float *keys)
{
    if (ids) {
        d->ids(q, base, stride, ids, n, keys);
    } else {
        d->rows(q, base, stride, n, keys);
    }
}

/* 4-bit codes with own steps: weights differ as the squares of steps, too much for the one plane
 * that 4-bit kernels take. The finer plane goes through them as a query of its own. */
static void split_keys(const struct codec *c, const struct simd_sq *q, const uint8_t *base,
                       size_t stride, const uint32_t *ids, size_t n, float *keys)
{
    const struct simd_sq_dist *d = &c->simd->sq_ip[SIMD_SQ4];
    struct simd_sq fine = *q;
    float part[64];
    fine.hi = q->lo;
    fine.add = 0;
    fine.cross = q->cross / 128;
    for (size_t i = 0; i < n; i += 64) {
        const size_t m = n - i < 64 ? n - i : 64;
        const uint8_t *at = ids ? base : base + i * stride;
        const uint32_t *some = ids ? ids + i : NULL;
        run_kernel(d, q, at, stride, some, m, keys + i);
        run_kernel(d, &fine, at, stride, some, m, part);
        for (size_t r = 0; r < m; r++) {
            const uint8_t *code = codec__at(at, stride, some, r);
            float key = keys[i + r] + part[r] + codec__f32(code + c->u.sq.term_at);
            keys[i + r] = key < 0 ? 0 : key;
        }
    }
}

static void sq_ids(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                   const uint32_t *ids, size_t n, float *keys)
{
    const struct simd_sq *q = &((const struct sq_query *)pq)->q;
    if (c->u.sq.bits == SIMD_SQ4 && c->u.sq.term_at) {
        split_keys(c, q, base, stride, ids, n, keys);
    } else {
        c->u.sq.dist->ids(q, base, stride, ids, n, keys);
    }
}

static void sq_rows(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                    size_t n, float *keys)
{
    const struct simd_sq *q = &((const struct sq_query *)pq)->q;
    if (c->u.sq.bits == SIMD_SQ4 && c->u.sq.term_at) {
        split_keys(c, q, base, stride, NULL, n, keys);
    } else {
        c->u.sq.dist->rows(q, base, stride, n, keys);
    }
}

static float sq_low(const struct codec *c, const struct sq_query *q, double key, double e,
                    double term)
{
    const double u = codec__sum_error(c->dim), tiny = (double)c->dim * 0x1p-140;
    double low;
    if (c->metric != METRIC_L2) {
        low = key - q->slack - q->norm * e * (1 + u) - tiny;
        return low > -INFINITY ? -codec__up(-low) : -INFINITY;
    }
    double slack = q->slack + SQ_ROUND * 2 * term;
    if (!c->u.sq.term_at) {
        /* |x^ - offset| is at most |w'| + |q' - x^|; that bounds all sums of the kernel. */
        double a = q->add + sqrt(fmax(key, 0)) * (1 + 1e-3);
        slack = SQ_ROUND * (q->add * q->add + a * a + 2 * a * q->side + 2 * a * (q->add + q->side));
    }
    double d = sqrt(fmax(key - slack - tiny, 0)) - q->gap - e;
    low = d > 0 ? d * d * (1 - u) - tiny : 0;
    return low > 0 ? -codec__up(-low) : 0;
}

static void sq_bound(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                     const uint32_t *ids, size_t n, float *keys, float *lows)
{
    if (ids) {
        sq_ids(c, pq, base, stride, ids, n, keys);
    } else {
        sq_rows(c, pq, base, stride, n, keys);
    }
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = codec__at(base, stride, ids, i);
        double term = c->u.sq.term_at ? (double)codec__f32(code + c->u.sq.term_at) : 0;
        lows[i] =
            sq_low(c, pq, (double)keys[i], (double)codec__f32(code + c->u.sq.err_at), term);
    }
}

const struct codec_ops codec__sq = {
    .kind = CODEC_SQ8,
    .types = 1u << VEC_F32 | 1u << VEC_F16 | 1u << VEC_BF16 | 1u << VEC_I8,
    .float_code = true,
    .trains = true,
    .payload = sq_payload,
    .train = sq__train,
    .open = sq_open,
    .encode = sq_encode,
    .decode = sq_decode,
    .query = sq_query,
    .query_code = sq_query_code,
    .rows = sq_rows,
    .ids = sq_ids,
    .bound = sq_bound,
};
