/* flat_shim.h - exact search behind one plain function, for scripts that load a shared library. */
#pragma once
#include <stdint.h>

/* Searches nrows f32 rows for nq queries; metric 0 L2, 1 IP, 2 COSINE. allow is a bitset or NULL.
 * Writes nq * k scores and row numbers, best first, -1 past the end. Returns 0 or a status code. */
int flat_shim_search(int metric, uint64_t dim, const float *base, uint64_t nrows,
                     const uint64_t *allow, const float *queries, uint32_t nq, uint32_t k,
                     float *scores, int64_t *rows);
/* Name of the kernel level in use. */
const char *flat_shim_level(void);
/* One core's memory stream over the caller's buffer in bytes a second; its multiply-adds. */
double flat_shim_read_bandwidth(const void *buf, uint64_t len);
double flat_shim_fma_per_second(void);
