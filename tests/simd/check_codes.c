/*
 * check_codes.c - the slots on coded rows: scalar quantised codes, bit codes, f32 queries against
 * narrow rows, narrowing, the transform, sums.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_simd.h"

#define MAX_ROWS 37

/* ---- f32 query, rows of any type ---- */

static void check_query_f32(const struct simd_ops *ops, bool l2, enum simd_type t, enum pattern pat,
                            size_t n, size_t dim)
{
    const struct simd_dist *d = l2 ? &ops->l2q[t] : &ops->ipq[t];
    size_t bytes = dim * simd_elem_size(t), stride = bytes + rng() % 3;
    struct guard gq, gx;
    float out[MAX_ROWS], by_id[MAX_ROWS];
    uint32_t ids[MAX_ROWS];
    guard_new(&gq, dim * 4);
    guard_new(&gx, stride * n);
    uint8_t *q = gq.end - dim * 4, *base = gx.end - bytes - (n - 1) * stride;
    fill_elems(SIMD_F32, pat, q, dim);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (uint32_t)(n - 1 - i);
        fill_elems(t, pat, base + i * stride, dim);
    }
    d->rows(q, base, stride, n, dim, out);
    d->ids(q, base, stride, ids, n, dim, by_id);
    for (size_t i = 0; i < n; i++) {
        double sum = 0, abs_sum = 0, u = 0x1p-24, m = SIMD_SUM_STEPS(dim);
        for (size_t k = 0; k < dim; k++) {
            double a = simd_load_f32(q + 4 * k), b = simd_elem_f32(t, base + i * stride, k);
            sum += l2 ? (a - b) * (a - b) : a * b;
            abs_sum += l2 ? (a - b) * (a - b) : fabs(a * b);
        }
        if (!(fabs((double)out[i] - sum) <= (m + 2) * u * abs_sum + (double)dim * 0x1p-149)) {
            check_fail(l2 ? "l2q" : "ipq", dim, "value", out[i], sum, (m + 2) * u * abs_sum);
        }
        if (memcmp(&out[i], &by_id[n - 1 - i], 4) != 0) {
            check_fail(l2 ? "l2q" : "ipq", dim, "rows and ids differ", by_id[n - 1 - i], out[i], 0);
        }
    }
    guard_free(&gq);
    guard_free(&gx);
}

/* ---- narrowing ---- */

static void check_narrow(const struct simd_ops *ops, enum simd_type t, size_t n)
{
    struct guard gv, go;
    guard_new(&gv, n * 4);
    guard_new(&go, n * 2);
    uint8_t *v = gv.end - n * 4, *out = go.end - n * 2;
    for (size_t i = 0; i < n; i++) {
        /* Any bits; half of them near what a half holds, and many in the middle of two. */
        uint32_t bits = (uint32_t)rng();
        if (rng() & 1) {
            bits = (bits & 0x807fffffu) | (100 + (uint32_t)(rng() % 45)) << 23;
        }
        if (rng() % 3 == 0) {
            bits = (bits & 0xffffe000u) | 0x1000u;
        }
        memcpy(v + 4 * i, &bits, 4);
    }
    ops->narrow[t]((const float *)(void *)v, n, out);
    for (size_t i = 0; i < n; i++) {
        float f = simd_load_f32(v + 4 * i);
        uint16_t got = simd_load_u16(out + 2 * i);
        float g = t == SIMD_F16 ? simd_f16_to_f32(got) : simd_bf16_to_f32(got);
        if (isnan(f) || isnan(g)) {
            if (isnan(f) != isnan(g)) {
                check_fail("narrow", n, "NaN", g, f, 0);
            }
            continue;
        }
        /* No neighbour is nearer; of two as near, the even one. Infinity stands for the power of
         * two it would be. */
        double dist = INFINITY, inf = t == SIMD_F16 ? 65536.0 : 0x1p128;
        bool tie_to_odd = false;
        for (int step = -1; step <= 1; step++) {
            uint16_t other = (uint16_t)(got + step);
            float o = t == SIMD_F16 ? simd_f16_to_f32(other) : simd_bf16_to_f32(other);
            double od = isnan(o) ? INFINITY : fabs((isinf(o) ? copysign(inf, o) : o) - (double)f);
            if (step != 0 && !isinf(f) && ((other ^ got) & 0x8000) == 0) {
                double gd = fabs((isinf(g) ? copysign(inf, g) : g) - (double)f);
                dist = od < dist ? od : dist;
                tie_to_odd = tie_to_odd || (od == gd && (got & 1));
            }
        }
        double gd = isinf(f) && f == g ? 0
                                       : fabs((isinf(g) ? copysign(inf, g) : g) - (double)f);
        if (isinf(g) && fabs((double)f) >= inf) {
            continue;
        }
        if (gd > dist || tie_to_odd || (signbit(f) != 0) != (signbit(g) != 0)) {
            check_fail("narrow", n, "value", g, f, dist);
        }
    }
    guard_free(&gv);
    guard_free(&go);
}

/* ---- scalar quantised codes ---- */

struct sq_case {
    enum simd_sq_bits bits;
    int kind; /* 0 l2, 1 ip, 2 term */
    size_t n, dim, bytes, stride;
    bool wide; /* all codes and planes at their largest */
    struct simd_sq q;
    uint8_t *base;
};

/* A row: random codes, unused bits zeros; the term behind them. */
static void fill_codes(const struct sq_case *c, uint8_t *x)
{
    static const uint8_t top[] = { 255, 63, 15 };
    memset(x, 0, c->bytes);
    for (size_t i = 0; i < c->dim; i++) {
        uint32_t v = c->wide ? top[c->bits] : (uint32_t)(rng() & top[c->bits]);
        if (c->bits == SIMD_SQ8) {
            x[i] = (uint8_t)v;
            continue;
        }
        x[i / 2] |= (uint8_t)((v & 15) << (i % 2 * 4));
        size_t j = i % 128 / 2;
        if (c->bits == SIMD_SQ6) {
            x[(c->dim + 1) / 2 + i / 128 * 32 + j % 32] |=
                (uint8_t)((v >> 4) << (i % 2 * 4 + j / 32 * 2));
        }
    }
    float term = (float)(rng() % 1000);
    if (c->kind == 2) {
        memcpy(x + SIMD_SQ_BYTES(c->bits, c->dim), &term, 4);
    }
}

static double want_sq(const struct sq_case *c, const uint8_t *x, double *ret_bound)
{
    double self = 0, abs_self = 0, cross = 0, abs_cross = 0, term = 0;
    for (size_t i = 0; i < c->dim; i++) {
        double v = simd_sq_code(c->bits, x, c->dim, i);
        size_t at = simd_sq_plane(c->bits, i);
        double hi = c->q.hi[at], lo = c->bits == SIMD_SQ4 ? 0 : c->q.lo[at];
        self += c->bits == SIMD_SQ8 ? v * (v - 128) : v * v;
        abs_self += v * (v + 128);
        cross += v * (128 * hi + lo);
        abs_cross += v * (128 * fabs(hi) + fabs(lo));
    }
    term = c->kind == 0 ? (double)c->q.self * self
           : c->kind == 2
               ? (double)simd_load_f32(x + SIMD_SQ_BYTES(c->bits, c->dim))
               : 0;
    *ret_bound = 48 * 0x1p-24 *
                 (fabs((double)c->q.add) + fabs((double)c->q.self) * abs_self +
                  fabs((double)c->q.cross) * abs_cross + (c->kind == 2 ? term : 0));
    double want = (double)c->q.add + term + (double)c->q.cross * cross;
    return c->kind != 1 && want < 0 ? 0 : want;
}

static void check_sq_case(const struct simd_ops *ops, enum simd_sq_bits bits, int kind, size_t n,
                          size_t dim, bool wide)
{
    static const char *const names[3][3] = { { "sq8_l2", "sq8_ip", "sq8_term" },
                                             { "sq6_l2", "sq6_ip", "sq6_term" },
                                             { "sq4_l2", "sq4_ip", "sq4_term" } };
    const struct simd_sq_dist *d = kind == 0   ? &ops->sq_l2[bits]
                                   : kind == 1 ? &ops->sq_ip[bits]
                                               : &ops->sq_term[bits];
    const char *name = names[bits][kind];
    struct sq_case c = { .bits = bits, .kind = kind, .n = n, .dim = dim, .wide = wide };
    struct guard gq, gx;
    float out[MAX_ROWS + 1], by_id[MAX_ROWS + 1], one;
    uint32_t ids[MAX_ROWS];
    c.bytes = SIMD_SQ_BYTES(bits, dim) + (kind == 2 ? 4 : 0);
    c.stride = c.bytes + rng() % 3;
    size_t plane = SIMD_SQ_PLANE(dim);
    guard_new(&gq, 2 * plane);
    guard_new(&gx, c.stride * n);
    int8_t *hi = (int8_t *)gq.end - 2 * plane, *lo = hi + plane;
    for (size_t i = 0; i < dim; i++) {
        size_t at = simd_sq_plane(bits, i);
        hi[at] = (int8_t)(wide ? 127 : (int)(rng() % 255) - 127);
        lo[at] = (int8_t)(wide ? 63 : (int)(rng() % 128) - 64);
    }
    c.q = (struct simd_sq){ .hi = hi,
                            .lo = lo,
                            .dim = dim,
                            .add = (float)(rng() % 100000),
                            .self = kind == 0 ? 0.37f : 0,
                            .cross = -0.013f };
    c.base = gx.end - c.bytes - (n - 1) * c.stride;
    for (size_t i = 0; i < n; i++) {
        fill_codes(&c, c.base + i * c.stride);
        ids[i] = (uint32_t)(n - 1 - i);
    }
    out[n] = by_id[n] = -777;
    d->rows(&c.q, c.base, c.stride, n, out);
    d->ids(&c.q, c.base, c.stride, ids, n, by_id);
    if (out[n] != -777 || by_id[n] != -777) {
        check_fail(name, dim, "wrote past out", out[n], -777, 0);
    }
    for (size_t i = 0; i < n; i++) {
        double bound, want = want_sq(&c, c.base + i * c.stride, &bound);
        if (!(fabs((double)out[i] - want) <= bound)) {
            check_fail(name, dim, "value", out[i], want, bound);
        }
        d->rows(&c.q, c.base + i * c.stride, c.stride, 1, &one);
        if (memcmp(&out[i], &by_id[n - 1 - i], 4) != 0 || memcmp(&out[i], &one, 4) != 0) {
            check_fail(name, dim, "shapes differ", by_id[n - 1 - i], out[i], 0);
        }
    }
    guard_free(&gq);
    guard_free(&gx);
}

static void check_sq(const struct simd_ops *ops, size_t dim)
{
    for (int bits = SIMD_SQ8; bits < SIMD_SQ_NBITS; bits++) {
        for (int kind = 0; kind < 3; kind++) {
            size_t n = 1 + rng() % (dim > 130 ? 9 : 23);
            check_sq_case(ops, (enum simd_sq_bits)bits, kind, n, dim, dim % 5 == 0);
        }
    }
}

/* ---- bit codes ---- */

static float small_float(void)
{
    return (float)((double)(int64_t)rng() * 0x1p-60);
}

static int64_t want_bit_sum(const struct simd_rbq *q, const uint8_t *x)
{
    int64_t sum = 0;
    for (size_t i = 0; i < q->words * 64; i++) {
        int64_t u = 0, w = 0;
        for (size_t p = 0; p < q->bits; p++) {
            u = u * 2 + (x[p * q->words * 8 + i / 8] >> (i % 8) & 1);
        }
        for (size_t k = 0; k < q->nplanes; k++) {
            uint64_t word = q->planes[k * SIMD_RBQ_WORDS(q->words) + i / 64];
            int64_t bit = (int64_t)(word >> (i % 64) & 1);
            w += bit << k;
            w -= k + 1 == q->nplanes ? bit << (k + 1) : 0;
        }
        sum += u * w;
    }
    return sum;
}

static void check_rbq_row(const struct simd_rbq *q, const uint8_t *x, float key, float low)
{
    const uint8_t *f = x + q->bits * q->words * 8;
    double add = simd_load_f32(f), rescale = simd_load_f32(f + 4), u = (double)want_bit_sum(q, x);
    double inner = (double)q->scale * u + (double)q->bias;
    double want = (double)q->add + add + rescale * inner;
    double bound = 8 * 0x1p-24 *
                   (fabs((double)q->add) + fabs(add) +
                    fabs(rescale) * (fabs((double)q->scale * u) + fabs((double)q->bias)));
    if (!(fabs((double)key - want) <= bound)) {
        check_fail("rbq", q->words * 64, "key", key, want, bound);
    }
    double e = (double)q->err * (double)simd_load_f32(f + 8);
    double g = (double)q->qerr * (double)simd_load_f32(f + 12), off = sqrt(e * e + g * g);
    bound += 8 * 0x1p-24 * off;
    if (!(fabs((double)low - (want - off)) <= bound)) {
        check_fail("rbq", q->words * 64, "low", low, want - off, bound);
    }
}

static void check_rbq(const struct simd_ops *ops, size_t bits, size_t nplanes, size_t words,
                      size_t n)
{
    size_t bytes = bits * words * 8 + 16, stride = bytes + rng() % 5;
    size_t qbytes = SIMD_RBQ_WORDS(words) * 8 * nplanes;
    struct guard gq, gx;
    float keys[MAX_ROWS + 1], by_id[MAX_ROWS + 1], lows[MAX_ROWS + 1], one, one_low;
    uint32_t ids[MAX_ROWS];
    guard_new(&gq, qbytes);
    guard_new(&gx, stride * n);
    uint64_t *planes = (uint64_t *)(void *)(gq.end - qbytes);
    uint8_t *base = gx.end - bytes - (n - 1) * stride;
    bool wide = rng() % 4 == 0;
    for (size_t k = 0; k < nplanes; k++) {
        for (size_t w = 0; w < words; w++) {
            planes[k * SIMD_RBQ_WORDS(words) + w] = wide ? UINT64_MAX : rng();
        }
    }
    struct simd_rbq q = { planes,        nplanes,       bits,          words,        small_float(),
                          small_float(), small_float(), small_float(), small_float() };
    for (size_t i = 0; i < n; i++) {
        ids[i] = (uint32_t)(n - 1 - i);
        for (size_t b = 0; b < bytes; b++) {
            base[i * stride + b] = wide ? 0xff : (uint8_t)rng();
        }
        for (size_t f = 0; f < 4; f++) {
            float v = small_float();
            memcpy(base + i * stride + bytes - 16 + 4 * f, &v, 4);
        }
    }
    keys[n] = lows[n] = by_id[n] = -777;
    ops->rbq_rows(&q, base, stride, n, keys, lows);
    ops->rbq_ids(&q, base, stride, ids, n, by_id, NULL);
    if (keys[n] != -777 || lows[n] != -777 || by_id[n] != -777) {
        check_fail("rbq", words * 64, "wrote past out", keys[n], -777, 0);
    }
    for (size_t i = 0; i < n; i++) {
        check_rbq_row(&q, base + i * stride, keys[i], lows[i]);
        ops->rbq_ids(&q, base + i * stride, stride, &ids[n - 1], 1, &one, &one_low);
        if (memcmp(&keys[i], &by_id[n - 1 - i], 4) != 0 || memcmp(&keys[i], &one, 4) != 0 ||
            memcmp(&lows[i], &one_low, 4) != 0) {
            check_fail("rbq", words * 64, "shapes differ", by_id[n - 1 - i], keys[i], 0);
        }
    }
    guard_free(&gq);
    guard_free(&gx);
}

/* ---- transform ---- */

static void check_hadamard(const struct simd_ops *ops, size_t n)
{
    static struct simd_ops ref;
    struct guard g;
    float *was = malloc(n * sizeof *was), *want = malloc(n * sizeof *want);
    guard_new(&g, n * 4);
    float *x = (float *)(void *)(g.end - n * 4);
    simd_ops_at(SIMD_LEVEL_REF, &ref);
    for (size_t i = 0; i < n; i++) {
        was[i] = x[i] = want[i] = small_float();
    }
    ops->hadamard(x, n);
    ref.hadamard(want, n);
    if (memcmp(x, want, n * 4) != 0) {
        check_fail("hadamard", n, "bits differ from the reference", x[0], want[0], 0);
    }
    for (size_t i = 0; i < n; i += 1 + n / 37) {
        double sum = 0, size = 0;
        for (size_t k = 0; k < n; k++) {
            sum += __builtin_parityll(i & k) ? -(double)was[k] : (double)was[k];
            size += fabs((double)was[k]);
        }
        if (!(fabs(sum - (double)x[i]) <= 16 * 0x1p-24 * size)) {
            check_fail("hadamard", n, "value", x[i], sum, 16 * 0x1p-24 * size);
        }
    }
    free(was);
    free(want);
    guard_free(&g);
}

/* ---- what goes before coding ---- */

static void same_f64(const char *slot, size_t n, double got, double want)
{
    if (memcmp(&got, &want, sizeof got) != 0 && !(isnan(got) && isnan(want))) {
        check_fail(slot, n, "bits differ from the reference", (float)got, want, 0);
    }
}

static void same_f32s(const char *slot, size_t n, const float *got, const float *want)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], 4) != 0 && !(isnan(got[i]) && isnan(want[i]))) {
            check_fail(slot, n, "bits differ from the reference", got[i], (double)want[i], 0);
        }
    }
}

/* wild: values that are no numbers, and ones that overflow. */
static void check_sums(const struct simd_ops *ops, size_t n, bool wild)
{
    static struct simd_ops ref;
    struct guard gx, gy, go;
    float *want = malloc(n * sizeof *want);
    double dot = 0, sum = 0, size = 0;
    guard_new(&gx, n * 4);
    guard_new(&gy, n * 4);
    guard_new(&go, n * 4);
    float *x = (float *)(void *)(gx.end - n * 4), *y = (float *)(void *)(gy.end - n * 4);
    float *out = (float *)(void *)(go.end - n * 4);
    simd_ops_at(SIMD_LEVEL_REF, &ref);
    for (size_t i = 0; i < n; i++) {
        x[i] = small_float();
        y[i] = small_float();
        if (wild && rng() % 40 == 0) {
            static const float odd[] = { NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, -0.0f };
            x[i] = odd[rng() % 7];
        }
        dot += (double)x[i] * (double)y[i];
        sum += (double)x[i];
        size += fabs((double)x[i] * (double)y[i]) + fabs((double)x[i]);
    }
    same_f64("dot", n, ops->dot(x, y, n), ref.dot(x, y, n));
    same_f64("sum", n, ops->sum(x, n), ref.sum(x, n));
    if (!wild && !(fabs(ops->dot(x, y, n) - dot) + fabs(ops->sum(x, n) - sum) <= 1e-12 * size)) {
        check_fail("dot", n, "value", (float)ops->dot(x, y, n), dot, 1e-12 * size);
    }
    same_f64("largest", n, (double)ops->largest(x, n), (double)ref.largest(x, n));
    ops->scale(x, n, 1.0 / 3, out);
    ref.scale(x, n, 1.0 / 3, want);
    same_f32s("scale", n, out, want);
    ops->less(x, y, n, 1.5f, out);
    for (size_t i = 0; i < n; i++) {
        float v = x[i] - y[i];
        want[i] = v > 1.5f ? 1.5f : v < -1.5f ? -1.5f : v;
    }
    same_f32s("less", n, out, want);
    for (size_t i = 0; i < n; i++) {
        out[i] = x[i];
        want[i] = x[i] * y[i];
    }
    ops->times(out, y, n);
    same_f32s("times", n, out, want);
    free(want);
    guard_free(&gx);
    guard_free(&gy);
    guard_free(&go);
}

/* extreme: all that 32-bit sums have to hold. */
static void check_plane_sums(const struct simd_ops *ops, size_t n, bool extreme)
{
    struct guard gh, gl;
    int64_t sum = 0, squares = 0;
    double got_sum, got_squares;
    guard_new(&gh, n);
    guard_new(&gl, n);
    int8_t *hi = (int8_t *)gh.end - n, *lo = (int8_t *)gl.end - n;
    for (size_t i = 0; i < n; i++) {
        hi[i] = (int8_t)(extreme ? -127 : (int)(rng() % 255) - 127);
        lo[i] = (int8_t)(extreme ? -64 : (int)(rng() % 128) - 64);
        int64_t v = hi[i] * 128 + lo[i];
        sum += v;
        squares += v * v;
    }
    ops->plane_sums(hi, lo, n, &got_sum, &got_squares);
    if (got_sum != (double)sum || got_squares != (double)squares) {
        check_fail("plane_sums", n, "value", (float)got_squares, (double)squares, 0);
    }
    guard_free(&gh);
    guard_free(&gl);
}

static void check_bits_le(const struct simd_ops *ops, size_t words, size_t n)
{
    size_t blocks = (n + 7) / 8;
    struct guard gx, gq, gi;
    guard_new(&gx, blocks * words * 64);
    guard_new(&gq, words * 8);
    guard_new(&gi, n * 4 + 4);
    uint64_t *x = (uint64_t *)(void *)(gx.end - blocks * words * 64);
    uint64_t *q = (uint64_t *)(void *)(gq.end - words * 8);
    uint32_t *idx = (uint32_t *)(void *)(gi.end - n * 4);
    for (size_t w = 0; w < words; w++) {
        q[w] = rng();
    }
    for (size_t i = 0; i < blocks * 8; i++) { /* rows near and far, and full lanes behind n */
        for (size_t w = 0; w < words; w++) {
            uint64_t differ = i % 3 == 0 ? rng() & rng() : i % 3 == 1 ? rng() : 0;
            x[(i / 8 * words + w) * 8 + i % 8] = i < n ? q[w] ^ differ : q[w];
        }
    }
    const uint64_t limits[] = { 0, words * 16, words * 32, words * 64 - 1, words * 64, UINT64_MAX };
    for (size_t l = 0; l < sizeof limits / sizeof limits[0]; l++) {
        size_t got = ops->bits_le(q, x, words, n, limits[l], idx), want = 0;
        for (size_t i = 0; i < n; i++) {
            uint64_t differ = 0;
            for (size_t w = 0; w < words; w++) {
                differ += (uint64_t)__builtin_popcountll(q[w] ^ x[(i / 8 * words + w) * 8 + i % 8]);
            }
            if (differ <= limits[l]) {
                if (want >= got || idx[want] != i) {
                    check_fail("bits_le", words * 64, "position", want < got ? idx[want] : -1.0,
                               (double)i, 0);
                    break;
                }
                want++;
            }
        }
        if (got != want) {
            check_fail("bits_le", words * 64, "count", (double)got, (double)want, 0);
        }
    }
    guard_free(&gx);
    guard_free(&gq);
    guard_free(&gi);
}

/* ---- rounding queries ---- */

static double rounded(float v, float inv)
{
    float x = v * inv;
    return x != x ? 0 : trunc((double)x + (x > 0 ? 0.5 : -0.5));
}

static void check_round(const struct simd_ops *ops, size_t n, size_t nplanes)
{
    struct guard gv, gh, gl, gp;
    const size_t padded = SIMD_RBQ_WORDS(n / 64), words = padded * nplanes;
    guard_new(&gv, n * 4);
    guard_new(&gh, n);
    guard_new(&gl, n);
    guard_new(&gp, words * 8);
    float *v = (float *)(void *)(gv.end - n * 4);
    int8_t *hi = (int8_t *)gh.end - n, *lo = (int8_t *)gl.end - n;
    uint64_t *planes = (uint64_t *)(void *)(gp.end - words * 8);
    int64_t sum = 0, want_sum = 0;
    double want_err = 0;
    for (size_t i = 0; i < n; i++) {
        v[i] = rng() % 16 ? small_float() : rng() % 2 ? NAN : 0;
        v[i] = fabsf(v[i]) > 8 ? 8 : v[i];
    }
    v[n - 1] = 8;
    ops->round_bytes(v, n, 2000, hi, lo);
    for (size_t i = 0; i < n; i++) {
        if (hi[i] * 128 + lo[i] != rounded(v[i], 2000) || lo[i] < -64 || lo[i] > 63) {
            check_fail("round_bytes", n, "value", (float)(hi[i] * 128 + lo[i]),
                       rounded(v[i], 2000), 0);
        }
        v[i] = v[i] != v[i] ? 0 : v[i]; /* an error of NaN says nothing */
    }
    if (n % 64 == 0) {
        const float inv = (float)((1 << (nplanes - 1)) - 1) / 8 + 0.01f;
        memset(planes, 0, words * 8);
        float err = ops->round_planes(v, n, inv, nplanes, planes, &sum);
        for (size_t i = 0; i < n; i++) {
            double want = rounded(v[i], inv), x = (double)(v[i] * inv);
            int64_t got = 0;
            for (size_t k = 0; k < nplanes; k++) {
                int64_t bit = (int64_t)(planes[k * padded + i / 64] >> (i % 64) & 1);
                got += k + 1 == nplanes ? -(bit << k) : bit << k;
            }
            if ((double)got != want) {
                check_fail("round_planes", n, "value", (float)got, want, 0);
            }
            want_sum += got;
            want_err += (x - want) * (x - want);
        }
        if (sum != want_sum || !(fabs((double)err - want_err) <= 1e-5 * want_err + 1e-6)) {
            check_fail("round_planes", n, "sum or error", err, want_err, 0);
        }
    }
    guard_free(&gv);
    guard_free(&gh);
    guard_free(&gl);
    guard_free(&gp);
}

void check_codes(const struct simd_ops *ops)
{
    static const size_t large[] = { 255, 256, 257, 384, 768, 960, 1000, 1536, 4096 };
    for (size_t i = 0; i < 260 + sizeof large / sizeof large[0]; i++) {
        size_t dim = i < 260 ? i + 1 : large[i - 260];
        check_sq(ops, dim);
        for (int t = SIMD_F32; i % 3 == 0 && t < SIMD_NTYPES; t++) {
            for (int pat = 0; pat < PAT_COUNT; pat++) {
                check_query_f32(ops, rng() & 1, (enum simd_type)t, (enum pattern)pat,
                                1 + rng() % 11, dim);
            }
        }
        check_narrow(ops, SIMD_F16, dim);
        check_narrow(ops, SIMD_BF16, dim);
    }
    for (size_t words = 1; words <= 26; words++) {
        for (size_t nplanes = 1; nplanes <= 8; nplanes++) {
            check_rbq(ops, 1, nplanes, words, 1 + rng() % 27);
            check_rbq(ops, 1 + rng() % 9, nplanes, words, 1 + rng() % 20);
        }
    }
    check_rbq(ops, 9, 8, SIMD_SQ_DIM_MAX / 64, 3);
    for (size_t words = 1; words <= 26; words++) {
        for (size_t n = 0; n < 40; n += 1 + n / 9) {
            check_bits_le(ops, words, n);
        }
    }
    for (size_t n = 16; n <= 16384; n *= 2) {
        check_hadamard(ops, n);
    }
    for (size_t n = 1; n <= 200; n++) {
        check_sums(ops, n, false);
        check_sums(ops, n, true);
        check_plane_sums(ops, n * 128, false);
        check_round(ops, n, 1);
        check_round(ops, n * 64, 2 + n % 7);
    }
    check_plane_sums(ops, SIMD_SQ_DIM_MAX, true);
    for (int bits = SIMD_SQ8; bits < SIMD_SQ_NBITS; bits++) {
        for (int kind = 0; kind < 3; kind++) { /* where lanes come nearest to overflowing */
            check_sq_case(ops, (enum simd_sq_bits)bits, kind, 5, SIMD_SQ_DIM_MAX, true);
        }
    }
}
