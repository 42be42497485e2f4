/*
 * flat_bench.c - exact search on one thread against the limits of the core.
 *
 *     flat_bench [rows [dim]]
 *
 * Uniform random f32 rows. One query at a time is read against the memory stream of the same run,
 * a batch against the multiply-add rate; filtered searches against the unfiltered one. Figures are
 * the best of several rounds that alternate with the reference.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bitset.h"
#include "flat_shim.h"
#include "machine.h"

#define NQ 200
#define K 10
/* Much larger than any third-level cache: what memory itself delivers. Rows that fill the cache
 * once or twice can be read somewhat faster. */
#define BIG_LEN ((size_t)256 << 20)

static uint64_t rng_state = 88172645463325252u;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static float scores[NQ * K];
static int64_t found[NQ * K];

static double search_seconds(int metric, size_t dim, const float *base, size_t rows,
                             const uint64_t *allow, const float *queries, uint32_t nq)
{
    double t0 = machine_now();
    if (flat_shim_search(metric, dim, base, rows, allow, queries, nq, K, scores, found) != 0) {
        fprintf(stderr, "search failed\n");
        exit(1);
    }
    return machine_now() - t0;
}

static void run(size_t rows, size_t dim, const void *big)
{
    static const char *const metrics[] = { "L2", "IP", "COSINE" };
    static const unsigned nqs[] = { 2, 4, 8, 12, 16, 32, 64, NQ };
    static const double densities[] = { 0.99, 0.9, 0.75, 0.5, 0.25, 0.1, 0.01, 0.001 };
    size_t len = rows * dim * sizeof(float);
    float *base = machine_alloc(len), *queries = malloc(NQ * dim * sizeof(float));
    uint64_t *allow = calloc(bits_words(rows), 8);
    for (size_t i = 0; i < rows * dim; i++) {
        base[i] = (float)(rng() >> 40) * 0x1p-24f;
    }
    for (size_t i = 0; i < NQ * dim; i++) {
        queries[i] = (float)(rng() >> 40) * 0x1p-24f;
    }
    double fma = machine_fma_per_second(), stream = 0;
    printf("%zu rows x %zu, %.1f MB, kernels %s, %.1f GMAC/s\n", rows, dim, (double)len * 1e-6,
           flat_shim_level(), fma * 1e-9);
    for (int metric = 0; metric < 3; metric++) {
        double best = 1e9, same = 0;
        for (int i = 0; i < 25; i++) {
            double t =
                search_seconds(metric, dim, base, rows, NULL, queries + (size_t)(i % NQ) * dim, 1);
            best = t < best ? t : best;
            if (i % 6 == 0) {
                double s = machine_read_bandwidth(base, len, 1);
                same = s > same ? s : same;
                s = machine_read_bandwidth(big, BIG_LEN, 1);
                stream = s > stream ? s : stream;
            }
        }
        printf(
            "  %-6s nq   1: %8.3f ms/query  %6.2f GB/s; memory stream %.2f (%3.0f %%), over this "
            "buffer %.2f\n",
            metrics[metric], best * 1e3, (double)len / best * 1e-9, stream * 1e-9,
            100 * (double)len / best / stream, same * 1e-9);
    }
    for (int metric = 0; metric < 3; metric++) {
        for (size_t n = metric ? 7 : 0; n < 8; n++) {
            double best = 1e9;
            for (int i = 0; i < 4; i++) {
                double t = search_seconds(metric, dim, base, rows, NULL, queries, nqs[n]);
                best = t < best ? t : best;
            }
            double mac = (double)rows * (double)dim * nqs[n] / best;
            printf("  %-6s nq %3u: %8.3f ms/query  %6.1f GMAC/s (%3.0f %% of peak)\n",
                   metrics[metric], nqs[n], best / nqs[n] * 1e3, mac * 1e-9, 100 * mac / fma);
        }
    }
    for (size_t d = 0; d < 8; d++) {
        double one = 1e9, batch = 1e9;
        for (size_t i = 0; i < rows; i++) {
            bit_clear(allow, i);
            if ((double)(rng() >> 11) * 0x1p-53 < densities[d]) {
                bit_set(allow, i);
            }
        }
        for (int i = 0; i < 15; i++) {
            double t = search_seconds(0, dim, base, rows, allow, queries + (size_t)i * dim, 1);
            one = t < one ? t : one;
        }
        for (int i = 0; i < 2; i++) {
            double t = search_seconds(0, dim, base, rows, allow, queries, NQ);
            batch = t < batch ? t : batch;
        }
        printf("  L2 %5.1f %% allowed: one %8.3f ms, batch %8.4f ms/query\n", densities[d] * 100,
               one * 1e3, batch / NQ * 1e3);
    }
    machine_free(base, len);
    free(queries);
    free(allow);
}

int main(int argc, char **argv)
{
    size_t rows = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    void *big = machine_alloc(BIG_LEN);
    memset(big, 1, BIG_LEN);
    if (argc > 2) {
        run(rows, strtoul(argv[2], NULL, 10), big);
    } else {
        run(rows, 128, big);
        run(rows, 384, big);
    }
    machine_free(big, BIG_LEN);
    return 0;
}
