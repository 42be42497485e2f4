/*
 * bench_simd.c - cycles of each slot on data in the second-level cache.
 *
 * Cycles are core cycles: the clock is taken from a chain of dependent additions run beside each
 * measurement, so a clock that moves does not distort the figures. Peak is the best multiply-add
 * rate the level's registers reach in a loop of independent chains.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check_simd.h"

double bench_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* Core cycles a second: one dependent addition takes one cycle. */
double bench_clock_hz(void)
{
    double best = 0;
    for (int round = 0; round < 5; round++) {
        const long steps = 2000000;
        long x = 1;
        double t0 = bench_now();
        for (long i = 0; i < steps; i++) {
            /* The chain is opaque, else the compiler folds it. */
#if defined(__x86_64__)
            __asm__ volatile("add $1, %0\n\tadd $1, %0\n\tadd $1, %0\n\tadd $1, %0" : "+r"(x));
#else
            __asm__ volatile("add %0, %0, #1\n\tadd %0, %0, #1\n\tadd %0, %0, #1\n\tadd %0, %0, #1"
                             : "+r"(x));
#endif
        }
        double hz = 4.0 * (double)steps / (bench_now() - t0);
        best = hz > best ? hz : best;
    }
    return best;
}

struct bench_data {
    uint8_t *q, *base;
    uint32_t *ids;
    float *out;
    size_t n, stride, dim;
};

static double cycles_per_row(const struct simd_dist *d, const struct bench_data *b, bool ids,
                             double hz)
{
    double best = 1e9;
    for (int round = 0; round < 7; round++) {
        int reps = 20;
        double t0 = bench_now();
        for (int i = 0; i < reps; i++) {
            if (ids) {
                d->ids(b->q, b->base, b->stride, b->ids, b->n, b->dim, b->out);
            } else {
                d->rows(b->q, b->base, b->stride, b->n, b->dim, b->out);
            }
        }
        double t = (bench_now() - t0) / reps / (double)b->n;
        best = t < best ? t : best;
    }
    return best * hz;
}

static void bench_dist(const char *name, const struct simd_dist *d, size_t dim, size_t bytes,
                       double hz)
{
    struct bench_data b = { .n = 512 * 1024 / bytes, .stride = bytes, .dim = dim };
    b.n = b.n > 4096 ? 4096 : b.n;
    b.q = malloc(bytes);
    b.base = aligned_alloc(64, (b.n * bytes + 63) / 64 * 64);
    b.ids = malloc(b.n * 4);
    b.out = malloc(b.n * 4);
    memset(b.q, 1, bytes);
    memset(b.base, 2, b.n * bytes);
    for (size_t i = 0; i < b.n; i++) {
        b.ids[i] = (uint32_t)(rng() % b.n);
    }
    double rows = cycles_per_row(d, &b, false, hz), ids = cycles_per_row(d, &b, true, hz);
    printf("%-12s dim %6zu  rows %8.1f cycles/row (%5.1f B/cycle)  ids %8.1f\n", name, dim, rows,
           (double)bytes / rows, ids);
    free(b.q);
    free(b.base);
    free(b.ids);
    free(b.out);
}

static void bench_tile(const struct simd_ops *ops, size_t dim, size_t nq, double hz)
{
    size_t nrows = 64, padded = (nq + SIMD_TILE - 1) / SIMD_TILE * SIMD_TILE;
    float *pack = calloc(simd_pack_len(nq, dim), 4), *base = calloc(nrows * dim, 4);
    float *nums = calloc(2 * padded + nrows, 4);
    struct simd_hit *hits = malloc(nq * nrows * sizeof *hits);
    for (size_t j = 0; j < padded; j++) {
        nums[nrows + padded + j] = 1;
    }
    struct simd_tile t = { .qpack = pack,
                           .nq = nq,
                           .dim = dim,
                           .q_weight = nums + nrows,
                           .q_cut = nums + nrows + padded,
                           .base = base,
                           .stride = dim * 4,
                           .nrows = nrows,
                           .row_bias = nums };
    double best = 1e9;
    for (int round = 0; round < 15; round++) {
        double t0 = bench_now();
        ops->tile_f32(&t, hits);
        double s = bench_now() - t0;
        best = s < best ? s : best;
    }
    double per_cycle = (double)nq * (double)nrows * (double)dim / (best * hz);
    printf(
        "tile_f32     dim %6zu  nq %3zu  %6.2f multiply-adds/cycle (512-bit peak of this kind of "
        "core: 16 or 32)\n",
        dim, nq, per_cycle);
    free(pack);
    free(base);
    free(nums);
    free(hits);
}

void bench_all(const struct simd_ops *ops)
{
    static const char *const types[] = { "f32", "f16", "bf16", "i8" };
    static const size_t dims[] = { 96, 100, 128, 384, 768, 1536 };
    double hz = bench_clock_hz();
    printf("level %s, clock %.2f GHz\n", simd_level_name(ops->level), hz * 1e-9);
    for (int t = 0; t < SIMD_NTYPES; t++) {
        const struct simd_dist *slots[] = { &ops->l2[t], &ops->ip[t], &ops->cos[t],
                                            &ops->norm2[t] };
        static const char *const kinds[] = { "l2", "ip", "cos", "norm2" };
        for (int k = 0; k < 4; k++) {
            char name[32];
            snprintf(name, sizeof name, "%s_%s", kinds[k], types[t]);
            for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
                bench_dist(name, slots[k], dims[d], dims[d] * simd_elem_size((enum simd_type)t),
                           hz);
            }
        }
    }
    static const size_t bit_dims[] = { 128, 256, 512, 768, 1024, 4096 };
    for (size_t d = 0; d < sizeof bit_dims / sizeof bit_dims[0]; d++) {
        bench_dist("hamming", &ops->hamming, bit_dims[d], bit_dims[d] / 8, hz);
        bench_dist("jaccard", &ops->jaccard, bit_dims[d], bit_dims[d] / 8, hz);
        bench_dist("subset", &ops->subset, bit_dims[d], bit_dims[d] / 8, hz);
    }
    static const size_t tile_dims[] = { 128, 384, 768, 1536 }, nqs[] = { 16, 32, 48, 200 };
    for (size_t d = 0; d < 4; d++) {
        for (size_t i = 0; i < 4; i++) {
            bench_tile(ops, tile_dims[d], nqs[i], hz);
        }
    }
    bench_codes(ops, hz);
}
