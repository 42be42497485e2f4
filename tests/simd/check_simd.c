/*
 * check_simd.c - every slot of the kernel table at one level against wider arithmetic.
 *
 *     check_simd LEVEL            check; exit 77 (skipped) when this machine lacks the level
 *     check_simd LEVEL --bench    print cycles per row and the fraction of the core's peak
 *     check_simd selftest         breaks slots on purpose and expects the checks to notice
 *
 * Floats are held to the bounds stated in simd/simd.h, integers and bit counts to equality. Inputs
 * end flush against an unreadable page and start at odd addresses; every dim from 1 to 130 and the
 * usual large ones run with random values, zeros, denormals, extremes and mixed magnitudes.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check_simd.h"

static long failures;
static bool quiet;

void check_fail(const char *slot, size_t dim, const char *what, double got, double want,
                double bound)
{
    failures++;
    if (!quiet && failures <= 40) {
        printf("FAIL %s dim %zu %s: got %.9g want %.9g bound %.3g\n", slot, dim, what, got, want,
               bound);
    }
}

/* ---- memory that ends at an unreadable page ---- */

void guard_new(struct guard *g, size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    g->map_len = (len + page - 1) / page * page + 2 * page;
    g->map = mmap(NULL, g->map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->map == MAP_FAILED || mprotect(g->map + g->map_len - page, page, PROT_NONE) != 0) {
        perror("guard page");
        exit(2);
    }
    g->end = g->map + g->map_len - page;
}

void guard_free(struct guard *g)
{
    munmap(g->map, g->map_len);
}

/* ---- random numbers and elements ---- */

static uint64_t rng_state = 0x9e3779b97f4a7c15u;

uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static float rng_unit(void)
{
    return (float)((double)(int64_t)rng() * 0x1p-63);
}

static float random_float(enum pattern pat, enum simd_type t)
{
    switch (pat) {
    case PAT_ZERO:
        return rng() & 1 ? 0.0f : -0.0f;
    case PAT_DENORMAL:
        return t == SIMD_F16 ? rng_unit() * 0x1p-15f : rng_unit() * 0x1p-127f;
    case PAT_EXTREME:
        return (rng() & 1 ? 1.0f : -1.0f) * (t == SIMD_F16 ? 65504.0f : 1e15f);
    case PAT_MIXED:
        return ldexpf(rng_unit(),
                      (int)(rng() % (t == SIMD_F16 ? 16 : 60)) - (t == SIMD_F16 ? 8 : 30));
    default:
        return rng_unit();
    }
}

/* Nearest-enough half and bf16: the checks read back what was stored. */
static uint16_t to_f16(float f)
{
    uint16_t sign = signbit(f) ? 0x8000 : 0;
    int exp;
    float m = frexpf(fabsf(f), &exp); /* m in [0.5, 1) */
    if (f == 0) {
        return sign;
    }
    if (exp < -13) {
        return (uint16_t)(sign | (uint16_t)ldexpf(m, exp + 24));
    }
    return (uint16_t)(sign | (uint16_t)((exp + 14) << 10) | ((uint16_t)(m * 2048) & 0x3ff));
}

void fill_elems(enum simd_type t, enum pattern pat, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float f = random_float(pat, t);
        uint16_t h;
        uint32_t bits;
        switch (t) {
        case SIMD_F32:
            memcpy(p + 4 * i, &f, 4);
            break;
        case SIMD_F16:
            h = to_f16(f);
            memcpy(p + 2 * i, &h, 2);
            break;
        case SIMD_BF16:
            memcpy(&bits, &f, 4);
            h = (uint16_t)(bits >> 16);
            memcpy(p + 2 * i, &h, 2);
            break;
        default:
            p[i] = pat == PAT_ZERO      ? 0
                   : pat == PAT_EXTREME ? (rng() & 3 ? 0x80 : 0x7f)
                                        : (uint8_t)rng();
            break;
        }
    }
}

void set_special(enum simd_type t, uint8_t *p, size_t i, bool nan)
{
    uint32_t f32 = nan ? 0x7fc00000 : 0x7f800000;
    uint16_t f16 = nan ? 0x7e00 : 0x7c00, bf16 = (uint16_t)(f32 >> 16);
    if (t == SIMD_F32) {
        memcpy(p + 4 * i, &f32, 4);
    } else {
        memcpy(p + 2 * i, t == SIMD_F16 ? &f16 : &bf16, 2);
    }
}

/* ---- the wider meaning ---- */

static void exact_sums(enum simd_type t, const uint8_t *q, const uint8_t *x, size_t dim,
                       struct sums *s)
{
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < dim; i++) {
        double a = simd_elem_f32(t, q, i), b = simd_elem_f32(t, x, i);
        s->l2 += (a - b) * (a - b);
        s->ip += a * b;
        s->abs_ip += fabs(a * b);
        s->qq += a * a;
        s->xx += b * b;
    }
}

double want_of(enum simd_kind k, enum simd_type t, const uint8_t *q, const uint8_t *x, size_t dim,
               double *ret_bound)
{
    const double u = 0x1p-24, m = SIMD_SUM_STEPS(dim);
    const double tiny = (double)dim * (t == SIMD_BF16 ? 0x1p-125 : 0x1p-149);
    struct sums s;
    exact_sums(t, q, x, dim, &s);
    switch (k) {
    case K_L2:
        *ret_bound = t == SIMD_I8 ? 0 : (m + 2) * u * s.l2 + tiny;
        return t == SIMD_I8 ? (float)s.l2 : s.l2;
    case K_IP:
        *ret_bound = t == SIMD_I8 ? 0 : m * u * s.abs_ip + tiny;
        return t == SIMD_I8 ? (float)s.ip : s.ip;
    case K_NORM2:
        *ret_bound = t == SIMD_I8 ? 0 : m * u * s.xx + tiny;
        return t == SIMD_I8 ? (float)s.xx : s.xx;
    default:
        break;
    }
    if (s.qq == 0 || s.xx == 0) {
        *ret_bound = 0;
        return 0;
    }
    bool in_range = s.qq > 0x1p-100 && s.qq < 0x1p126 && s.xx > 0x1p-100 && s.xx < 0x1p126;
    *ret_bound = t == SIMD_I8 ? u : in_range ? (2 * m + 8) * u : INFINITY;
    return s.ip / (sqrt(s.qq) * sqrt(s.xx));
}

static double want_bits(enum simd_bit_kind k, const uint8_t *q, const uint8_t *x, size_t dim)
{
    size_t diff = 0, inter = 0, uni = 0, q_only = 0, x_only = 0;
    for (size_t i = 0; i < dim; i++) {
        int a = q[i / 8] >> (i % 8) & 1, b = x[i / 8] >> (i % 8) & 1;
        diff += a != b;
        inter += a && b;
        uni += a || b;
        q_only += a && !b;
        x_only += b && !a;
    }
    switch (k) {
    case KB_HAMMING:
        return (double)diff;
    case KB_JACCARD:
        return uni ? 1 - (double)inter / (double)uni : 0;
    case KB_SUBSET:
        return q_only ? 1 : 0;
    default:
        return x_only ? 1 : 0;
    }
}

/* ---- one slot at one dim ---- */

#define MAX_ROWS 37

/* rows, ids and one-row calls must agree bit for bit. Fills out[0..n) with the rows form. */
static void check_forms(const char *slot, const struct simd_dist *d, const void *q,
                        const uint8_t *base, size_t stride, size_t n, size_t dim, float *out)
{
    uint32_t ids[MAX_ROWS];
    float by_id[MAX_ROWS + 1], one;
    for (size_t i = 0; i < n; i++) {
        ids[i] = (uint32_t)(n - 1 - i);
        out[i] = by_id[i] = -12345;
    }
    by_id[n] = out[n] = -777;
    d->rows(q, base, stride, n, dim, out);
    d->ids(q, base, stride, ids, n, dim, by_id);
    if (out[n] != -777 || by_id[n] != -777) {
        check_fail(slot, dim, "wrote past out", out[n], -777, 0);
    }
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&out[i], &by_id[n - 1 - i], 4) != 0 &&
            !(isnan(out[i]) && isnan(by_id[n - 1 - i]))) {
            check_fail(slot, dim, "rows and ids differ", by_id[n - 1 - i], out[i], 0);
        }
    }
    size_t pick = rng() % n;
    d->rows(q, base + pick * stride, stride, 1, dim, &one);
    if (memcmp(&one, &out[pick], 4) != 0 && !(isnan(one) && isnan(out[pick]))) {
        check_fail(slot, dim, "one row and many differ", one, out[pick], 0);
    }
}

static void check_special(const char *slot, const struct simd_dist *d, enum simd_kind k,
                          enum simd_type t, const uint8_t *q, uint8_t *base, size_t stride,
                          size_t n, size_t dim)
{
    float out[MAX_ROWS + 1];
    size_t row = rng() % n, at = rng() % dim;
    uint8_t keep[4];
    size_t es = simd_elem_size(t);
    memcpy(keep, base + row * stride + at * es, es);
    for (int nan = 0; nan < 2; nan++) {
        set_special(t, base + row * stride, at, nan != 0);
        check_forms(slot, d, q, base, stride, n, dim, out);
        for (size_t i = 0; i < n; i++) {
            if (i != row && isnan(out[i])) {
                check_fail(slot, dim, "special value leaked into another row", out[i], 0, 0);
            }
        }
        bool ok = nan                         ? isnan(out[row])
                  : k == K_L2 || k == K_NORM2 ? isinf(out[row]) && out[row] > 0
                                              : !isfinite(out[row]) || k == K_COS;
        if (!ok) {
            check_fail(slot, dim, nan ? "NaN lost" : "Inf lost", out[row], NAN, 0);
        }
    }
    memcpy(base + row * stride + at * es, keep, es);
}

static void check_float_dim(const struct simd_ops *ops, enum simd_kind k, enum simd_type t,
                            enum pattern pat, size_t n, size_t dim)
{
    static const char *const kinds[] = { "l2", "ip", "cos", "norm2" };
    static const char *const types[] = { "f32", "f16", "bf16", "i8" };
    const struct simd_dist *d = k == K_L2    ? &ops->l2[t]
                                : k == K_IP  ? &ops->ip[t]
                                : k == K_COS ? &ops->cos[t]
                                             : &ops->norm2[t];
    char slot[32];
    size_t bytes = dim * simd_elem_size(t), stride = bytes + 1 + rng() % 3;
    struct guard gq, gx;
    float out[MAX_ROWS + 1];
    snprintf(slot, sizeof slot, "%s_%s", kinds[k], types[t]);
    guard_new(&gq, bytes);
    guard_new(&gx, stride * n);
    uint8_t *q = gq.end - bytes, *base = gx.end - bytes - (n - 1) * stride;
    fill_elems(t, pat, q, dim);
    for (size_t i = 0; i < n; i++) {
        fill_elems(t, pat, base + i * stride, dim);
    }
    if (n > 1) {
        memcpy(base, q, bytes);
    }
    check_forms(slot, d, k == K_NORM2 ? NULL : q, base, stride, n, dim, out);
    for (size_t i = 0; i < n; i++) {
        double bound, want = want_of(k, t, q, base + i * stride, dim, &bound);
        if (!(fabs((double)out[i] - want) <= bound)) {
            check_fail(slot, dim, "value", out[i], want, bound);
        }
    }
    if (pat == PAT_RANDOM && t != SIMD_I8) {
        check_special(slot, d, k, t, k == K_NORM2 ? NULL : q, base, stride, n, dim);
    }
    guard_free(&gq);
    guard_free(&gx);
}

static void check_bits_dim(const struct simd_ops *ops, enum simd_bit_kind k, size_t n, size_t dim)
{
    static const char *const slots[] = { "hamming", "jaccard", "subset", "superset" };
    const struct simd_dist *all[] = { &ops->hamming, &ops->jaccard, &ops->subset, &ops->superset };
    size_t bytes = dim / 8, stride = bytes + rng() % 3;
    struct guard gq, gx;
    float out[MAX_ROWS + 1];
    guard_new(&gq, bytes);
    guard_new(&gx, stride * n);
    uint8_t *q = gq.end - bytes, *base = gx.end - bytes - (n - 1) * stride;
    int shape = (int)(rng() % 4);
    for (size_t b = 0; b < bytes; b++) {
        q[b] = shape == 0 ? 0 : shape == 1 ? 0xff : (uint8_t)(rng() & rng());
    }
    for (size_t i = 0; i < n; i++) {
        int rel = (int)(rng() % 6); /* some rows contain the query, or are contained, bar one bit */
        uint8_t *x = base + i * stride;
        for (size_t b = 0; b < bytes; b++) {
            uint8_t r = (uint8_t)rng();
            x[b] = rel == 0               ? 0
                   : rel == 1 || rel == 4 ? q[b] | r
                   : rel == 2 || rel == 5 ? q[b] & r
                                          : r;
        }
        if (rel >= 4) {
            x[rng() % bytes] ^= (uint8_t)(1u << (rng() % 8));
        }
    }
    check_forms(slots[k], all[k], q, base, stride, n, dim, out);
    for (size_t i = 0; i < n; i++) {
        double want = want_bits(k, q, base + i * stride, dim);
        double bound = k == KB_JACCARD ? 0x1p-24 : 0;
        if (!(fabs((double)out[i] - want) <= bound)) {
            check_fail(slots[k], dim, "value", out[i], want, bound);
        }
    }
    guard_free(&gq);
    guard_free(&gx);
}

static void check_widen(const struct simd_ops *ops, enum simd_type t, size_t dim)
{
    size_t bytes = dim * simd_elem_size(t), stride = bytes + 1, n = 3;
    struct guard gx, go;
    guard_new(&gx, stride * n);
    guard_new(&go, n * dim * sizeof(float));
    uint8_t *base = gx.end - bytes - (n - 1) * stride;
    float *out = (float *)(void *)(go.end - n * dim * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        fill_elems(t, (enum pattern)(rng() % PAT_COUNT), base + i * stride, dim);
    }
    ops->widen[t](base, stride, n, dim, out);
    for (size_t i = 0; i < n * dim; i++) {
        float want = simd_elem_f32(t, base + i / dim * stride, i % dim);
        if (memcmp(&want, &out[i], 4) != 0) {
            check_fail("widen", dim, "value", out[i], want, 0);
        }
    }
    guard_free(&gx);
    guard_free(&go);
}

static const size_t large_dims[] = { 255, 256, 257, 384, 768, 960, 1024, 1536, 3072, 4096 };

static void check_dims(const struct simd_ops *ops, size_t dim)
{
    for (int k = K_L2; k <= K_NORM2; k++) {
        for (int t = SIMD_F32; t < SIMD_NTYPES; t++) {
            for (int pat = 0; pat < PAT_COUNT; pat++) {
                size_t n = 1 + (dim * 7 + (size_t)pat * 5 + (size_t)k * 3) % (dim > 130 ? 11 : 36);
                check_float_dim(ops, (enum simd_kind)k, (enum simd_type)t, (enum pattern)pat, n,
                                dim);
            }
        }
    }
    for (int t = SIMD_F32; t < SIMD_NTYPES; t++) {
        check_widen(ops, (enum simd_type)t, dim);
    }
    for (int k = KB_HAMMING; k <= KB_SUPERSET; k++) {
        for (int round = 0; round < 3; round++) {
            check_bits_dim(ops, (enum simd_bit_kind)k, 1 + rng() % 20, dim * 8);
        }
    }
}

long check_all(const struct simd_ops *ops)
{
    failures = 0;
    for (size_t dim = 1; dim <= 130; dim++) {
        check_dims(ops, dim);
    }
    for (size_t i = 0; i < sizeof large_dims / sizeof large_dims[0]; i++) {
        check_dims(ops, large_dims[i]);
    }
    for (int k = K_L2; k <= K_NORM2; k++) { /* the largest int8 dim, where L2 nearly overflows */
        check_float_dim(ops, (enum simd_kind)k, SIMD_I8, PAT_EXTREME, 9, SIMD_I8_DIM_MAX);
    }
    for (int k = KB_HAMMING; k <= KB_SUPERSET; k++) {
        check_bits_dim(ops, (enum simd_bit_kind)k, 5, 262144);
    }
    check_select(ops);
    check_tile(ops);
    check_block(ops);
    check_codes(ops);
    return failures;
}

/* ---- does the check notice? ---- */

static struct simd_ops good;

static void broken_last(const void *q, const void *base, size_t stride, size_t n, size_t dim,
                        float *out)
{
    good.l2[SIMD_F32].rows(q, base, stride, n, dim - 1, out);
}
static void broken_scale(const void *q, const void *base, size_t stride, const uint32_t *ids,
                         size_t n, size_t dim, float *out)
{
    good.ip[SIMD_F16].ids(q, base, stride, ids, n, dim, out);
    out[n - 1] *= 1 + 0x1p-20f;
}
static void broken_i8(const void *q, const void *base, size_t stride, size_t n, size_t dim,
                      float *out)
{
    good.l2[SIMD_I8].rows(q, base, stride, n, dim, out);
    out[0] += dim == 64;
}
static void broken_bits(const void *q, const void *base, size_t stride, size_t n, size_t dim,
                        float *out)
{
    good.subset.rows(q, base, stride, n, dim - 8, out);
}
static void broken_sq8(const struct simd_sq *q, const void *base, size_t stride, size_t n,
                       float *out)
{
    struct simd_sq one = *q; /* as if the finer plane were not there */
    static const __attribute__((aligned(64))) int8_t zeros[SIMD_SQ_DIM_MAX];
    one.lo = zeros;
    good.sq_ip[SIMD_SQ8].rows(&one, base, stride, n, out);
}
static void broken_sq6(const struct simd_sq *q, const void *base, size_t stride, size_t n,
                       float *out)
{
    good.sq_l2[SIMD_SQ4].rows(q, base, stride, n, out);
}
static void broken_rbq(const struct simd_rbq *q, const void *base, size_t stride, size_t n,
                       float *keys, float *lows)
{
    struct simd_rbq one = *q; /* a bound without the query's own error */
    one.qerr = 0;
    good.rbq_rows(&one, base, stride, n, keys, lows);
}
static size_t broken_bits_le(const uint64_t *q, const uint64_t *blocks, size_t words, size_t n,
                             uint64_t limit, uint32_t *idx)
{
    size_t found = good.bits_le(q, blocks, words, n, limit, idx); /* a row behind the last */
    if (n % 8 && found < n) {
        idx[found++] = (uint32_t)n;
    }
    return found;
}
static void broken_hadamard(float *x, size_t n)
{
    good.hadamard(x, n);
    x[n - 1] *= n == 256 ? -1.0f : 1.0f;
}
static double broken_dot(const float *a, const float *b, size_t n)
{
    return n == 33 ? nextafter(good.dot(a, b, n), INFINITY) : good.dot(a, b, n);
}
static void broken_less(const float *x, const float *y, size_t n, float most, float *out)
{
    good.less(x, y, n, most, out);
    for (size_t i = 0; i < n; i++) {
        out[i] = out[i] == out[i] ? out[i] : most; /* what a minimum makes of a NaN */
    }
}
static float broken_planes(const float *v, size_t n, float inv, size_t nplanes, uint64_t *planes,
                           int64_t *ret_sum)
{
    float err = good.round_planes(v, n, inv, nplanes, planes, ret_sum);
    planes[0] ^= n == 128;
    return err;
}
static void broken_bytes(const float *v, size_t n, float inv, int8_t *hi, int8_t *lo)
{
    good.round_bytes(v, n, inv, hi, lo);
    lo[n - 1] = (int8_t)(n == 33 ? lo[n - 1] + 1 : lo[n - 1]);
}
static void broken_narrow(const float *v, size_t n, void *out)
{
    good.narrow[SIMD_F16](v, n, out);
    *(uint8_t *)out ^= n == 100;
}
static size_t broken_select(const float *v, size_t n, float bound, uint32_t *idx)
{
    return good.select_le(v, n, nextafterf(bound, -INFINITY), idx);
}
static size_t broken_tile(const struct simd_tile *t, struct simd_hit *hits)
{
    size_t n = good.tile_f32(t, hits);
    return n > 1 ? n - 1 : n;
}
static size_t broken_block(const struct simd_block4 *b, uint32_t *rows, float *v)
{
    struct simd_block4 less = *b;
    less.ke = 0;
    return good.scan_block4(&less, rows, v);
}

static int selftest(void)
{
    int missed = 0;
    quiet = true;
    simd_ops_at(SIMD_LEVEL_REF, &good);
    for (int i = 0; i < 17; i++) {
        struct simd_ops bad = good;
        switch (i) {
        case 0:
            bad.l2[SIMD_F32].rows = broken_last;
            break;
        case 1:
            bad.ip[SIMD_F16].ids = broken_scale;
            break;
        case 2:
            bad.l2[SIMD_I8].rows = broken_i8;
            break;
        case 3:
            bad.subset.rows = broken_bits;
            break;
        case 4:
            bad.select_le = broken_select;
            break;
        case 5:
            bad.tile_f32 = broken_tile;
            break;
        case 6:
            bad.scan_block4 = broken_block;
            break;
        case 7:
            bad.sq_ip[SIMD_SQ8].rows = broken_sq8;
            break;
        case 8:
            bad.sq_l2[SIMD_SQ6].rows = broken_sq6;
            break;
        case 9:
            bad.rbq_rows = broken_rbq;
            break;
        case 11:
            bad.bits_le = broken_bits_le;
            break;
        case 10:
            bad.hadamard = broken_hadamard;
            break;
        case 12:
            bad.round_planes = broken_planes;
            break;
        case 13:
            bad.round_bytes = broken_bytes;
            break;
        case 14:
            bad.dot = broken_dot;
            break;
        case 15:
            bad.less = broken_less;
            break;
        default:
            bad.narrow[SIMD_F16] = broken_narrow;
            break;
        }
        if (check_all(&bad) == 0) {
            printf("broken slot %d went unnoticed\n", i);
            missed++;
        }
    }
    return missed != 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: check_simd LEVEL [--bench] | selftest\n");
        return 2;
    }
    if (strcmp(argv[1], "selftest") == 0) {
        return selftest();
    }
    for (int l = 0; l < SIMD_NLEVELS; l++) {
        struct simd_ops ops;
        if (strcmp(argv[1], simd_level_name((enum simd_level)l)) != 0) {
            continue;
        }
        if (!simd_ops_at((enum simd_level)l, &ops)) {
            printf("this machine has no %s\n", argv[1]);
            return 77;
        }
        if (argc > 2 && strcmp(argv[2], "--bench") == 0) {
            bench_all(&ops);
            return 0;
        }
        long bad = check_all(&ops);
        printf("%s: %ld failures\n", argv[1], bad);
        return bad != 0;
    }
    fprintf(stderr, "unknown level %s\n", argv[1]);
    return 2;
}
