/*
 * bench_codes.c - cycles of the slots on coded rows, in the second-level cache and in memory.
 *
 * By number from memory is what a graph search does: batches of 32 rows drawn from 256 MiB.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_simd.h"

#define IDS_BATCH 32
#define CACHED ((size_t)512 << 10)
#define FAR ((size_t)256 << 20)

struct rows {
    uint8_t *base;
    uint32_t *ids;
    size_t n, stride;
};

static struct rows rows_new(size_t bytes, size_t stride)
{
    struct rows r = { .n = bytes / stride / IDS_BATCH * IDS_BATCH, .stride = stride };
    r.base = aligned_alloc(64, (bytes + 4095) / 4096 * 4096);
    r.ids = malloc(r.n * sizeof *r.ids);
    memset(r.base, 0, bytes);
    for (size_t i = 0; i < r.n; i++) {
        r.ids[i] = (uint32_t)(rng() % r.n);
    }
    return r;
}

static void rows_free(struct rows *r)
{
    free(r->base);
    free(r->ids);
}

enum family { FAM_SQ, FAM_RBQ };

struct call {
    enum family family;
    const struct simd_ops *ops;
    const struct simd_sq_dist *sq;
    const void *q;
    bool bounds;
};

static void run(const struct call *c, const struct rows *r, bool by_id, size_t first, size_t n,
                float *keys, float *lows)
{
    const uint8_t *at = by_id ? r->base : r->base + first * r->stride;
    lows = c->bounds ? lows : NULL;
    if (c->family == FAM_SQ && by_id) {
        c->sq->ids(c->q, at, r->stride, r->ids + first, n, keys);
    } else if (c->family == FAM_SQ) {
        c->sq->rows(c->q, at, r->stride, n, keys);
    } else if (by_id) {
        c->ops->rbq_ids(c->q, at, r->stride, r->ids + first, n, keys, lows);
    } else {
        c->ops->rbq_rows(c->q, at, r->stride, n, keys, lows);
    }
}

/* Best of several passes over all rows, in nanoseconds a row. */
static double ns_per_row(const struct call *c, const struct rows *r, bool by_id, size_t batch,
                         int passes)
{
    float keys[1024], lows[1024];
    double best = 1e9;
    for (int pass = 0; pass < passes; pass++) {
        double t0 = bench_now();
        for (size_t i = 0; i + batch <= r->n; i += batch) {
            run(c, r, by_id, i, batch, keys, lows);
        }
        double t = (bench_now() - t0) / (double)(r->n / batch * batch) * 1e9;
        best = t < best ? t : best;
    }
    return best;
}

static void bench_one(const char *name, const struct call *c, size_t dim, size_t bytes,
                      size_t stride, double hz)
{
    struct rows cached = rows_new(CACHED, stride), far_away = rows_new(FAR, stride);
    size_t batch = cached.n < 1024 ? cached.n : 1024;
    double rows = ns_per_row(c, &cached, false, batch, 60);
    double ids = ns_per_row(c, &cached, true, IDS_BATCH, 60);
    double stream = ns_per_row(c, &far_away, false, 1024, 3);
    double random = ns_per_row(c, &far_away, true, IDS_BATCH, 2);
    printf("%-9s dim %5zu %5zu B  cached: rows %6.1f cycles (%5.1f B/cycle) ids %6.1f   memory: "
           "rows %6.1f ns (%4.1f GB/s) ids %6.1f ns\n",
           name, dim, bytes, rows * hz * 1e-9, (double)bytes / (rows * hz * 1e-9), ids * hz * 1e-9,
           stream, (double)stride / stream, random);
    rows_free(&cached);
    rows_free(&far_away);
}

static void bench_sq(const struct simd_ops *ops, enum simd_sq_bits bits, bool l2, size_t dim,
                     double hz)
{
    static const char *const names[] = { "sq8", "sq6", "sq4" };
    char name[16];
    int8_t *planes = aligned_alloc(64, 2 * SIMD_SQ_PLANE(dim));
    memset(planes, 3, 2 * SIMD_SQ_PLANE(dim));
    struct simd_sq q = { .hi = planes,
                         .lo = planes + SIMD_SQ_PLANE(dim),
                         .dim = dim,
                         .self = 1,
                         .cross = 1 };
    struct call c = { .family = FAM_SQ,
                      .ops = ops,
                      .sq = l2 ? &ops->sq_l2[bits] : &ops->sq_ip[bits],
                      .q = &q };
    size_t bytes = SIMD_SQ_BYTES(bits, dim);
    snprintf(name, sizeof name, "%s_%s", names[bits], l2 ? "l2" : "ip");
    bench_one(name, &c, dim, bytes, (bytes + 3) / 4 * 4, hz);
    free(planes);
}

static void bench_rbq(const struct simd_ops *ops, size_t bits, size_t nplanes, size_t dim,
                      double hz)
{
    char name[16];
    size_t words = (dim + 63) / 64, qbytes = SIMD_RBQ_WORDS(words) * 8 * nplanes;
    uint64_t *planes = aligned_alloc(64, qbytes);
    memset(planes, 0x5a, qbytes);
    struct simd_rbq q = { planes, nplanes, bits, words, 0, 1, 1, 1, 1 };
    struct call c = { .family = FAM_RBQ, .ops = ops, .q = &q, .bounds = true };
    size_t bytes = bits * words * 8 + 16, lines = (bytes + 63) / 64 * 64;
    snprintf(name, sizeof name, "rbq%zu_q%zu", bits, nplanes);
    bench_one(name, &c, dim, bytes, (lines - bytes) * 7 <= bytes ? lines : bytes, hz);
    free(planes);
}

static void bench_hadamard(const struct simd_ops *ops, size_t n, double hz)
{
    float *x = calloc(n, sizeof *x);
    double best = 1e9;
    for (int pass = 0; pass < 200; pass++) {
        double t0 = bench_now();
        for (int i = 0; i < 20; i++) {
            ops->hadamard(x, n);
        }
        double t = (bench_now() - t0) / 20;
        best = t < best ? t : best;
    }
    printf("hadamard  n %5zu  %8.0f cycles\n", n, best * hz);
    free(x);
}

static void bench_sums(const struct simd_ops *ops, size_t n, double hz)
{
    float *x = calloc(n, sizeof *x);
    volatile double keep = 0;
    double best = 1e9;
    for (int pass = 0; pass < 200; pass++) {
        double t0 = bench_now();
        for (int i = 0; i < 20; i++) {
            keep += ops->dot(x, x, n) + ops->sum(x, n);
            ops->scale(x, n, 0.5, x);
        }
        double t = (bench_now() - t0) / 20;
        best = t < best ? t : best;
    }
    printf("dot, sum and scale n %5zu  %8.0f cycles\n", n, best * hz);
    free(x);
}

void bench_codes(const struct simd_ops *ops, double hz)
{
    static const size_t dims[] = { 64, 100, 128, 384, 768, 1536 };
    for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
        for (int bits = SIMD_SQ8; bits < SIMD_SQ_NBITS; bits++) {
            bench_sq(ops, (enum simd_sq_bits)bits, true, dims[d], hz);
            bench_sq(ops, (enum simd_sq_bits)bits, false, dims[d], hz);
        }
        bench_rbq(ops, 1, 4, dims[d], hz);
        bench_rbq(ops, 4, 8, dims[d], hz);
    }
    for (size_t n = 128; n <= 1024; n *= 2) {
        bench_hadamard(ops, n, hz);
        bench_sums(ops, n, hz);
    }
}
