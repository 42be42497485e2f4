/* check_simd.h - what the parts of check_simd share. */
#pragma once
#include "simd/simd.h"
#include "simd/simd_int.h"

enum pattern { PAT_RANDOM, PAT_ZERO, PAT_DENORMAL, PAT_EXTREME, PAT_MIXED, PAT_COUNT };

/* A mapping whose bytes before end are usable and whose byte at end faults. */
struct guard {
    uint8_t *map, *end;
    size_t map_len;
};

struct sums {
    double l2, ip, abs_ip, qq, xx;
};

void guard_new(struct guard *g, size_t len);
void guard_free(struct guard *g);
uint64_t rng(void);
void fill_elems(enum simd_type t, enum pattern pat, uint8_t *p, size_t n);
void set_special(enum simd_type t, uint8_t *p, size_t i, bool nan);
double want_of(enum simd_kind k, enum simd_type t, const uint8_t *q, const uint8_t *x, size_t dim,
               double *ret_bound);
void check_fail(const char *slot, size_t dim, const char *what, double got, double want,
                double bound);
/* Every slot; returns the number of failures. */
long check_all(const struct simd_ops *ops);
void check_select(const struct simd_ops *ops);
void check_tile(const struct simd_ops *ops);
void check_block(const struct simd_ops *ops);
void check_codes(const struct simd_ops *ops);
void bench_all(const struct simd_ops *ops);
void bench_codes(const struct simd_ops *ops, double hz);
double bench_now(void);
/* Core cycles a second. */
double bench_clock_hz(void);
