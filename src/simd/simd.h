/*
 * simd.h - distance kernels: one query against many rows, behind one table of function pointers.
 *
 * A search fetches the table once (simd_ops()) and calls a slot per batch of rows, never per pair.
 * Two shapes share one signature family:
 *
 *     rows   n rows that lie `stride` bytes apart, starting at base
 *     ids    n rows picked by number: row ids[i] lies at base + ids[i] * stride (prefetched inside)
 *
 * and both write out[0..n). The score of one (query, row) pair is bit for bit the same in both
 * shapes and wherever in a batch the row stands; it may differ between levels within the bound.
 *
 * CONTRACT    Kernels do not allocate, fail or keep state; any thread. Nothing is read outside the
 *             query's and the rows' dim elements (prefetch hints excepted). No alignment assumed:
 *             elements may be misaligned, stride may be any number of bytes. n may be 0, dim may be
 *             0 (every sum is 0 then). out may not overlap the inputs.
 * f32         Sums accumulate in f32, in any order, fused or not. With u = 2^-24 and
 *             m = SIMD_SUM_STEPS(dim): |ip - exact| <= m * u * sum |q_i x_i| + dim * 2^-149,
 *             |l2 - exact| <= (m + 2) * u * exact + dim * 2^-149, as long as no intermediate
 *             overflows; |cos - exact| <= (2 m + 8) * u when |q|^2 and |x|^2 lie within
 *             [2^-100, 2^126].
 * f16, bf16   Elements are widened exactly to f32, then as f32. bf16 levels with a dot product
 *             instruction may flush denormal elements and sums: + dim * 2^-125 of slack absolute.
 * i8          Sums are exact in int32 up to dim 32,768 (65,025 * 32,768 < 2^31), then rounded once
 *             to f32. Cosine is computed from the exact sums in double.
 * bits        dim counts bits and is a multiple of 8. Counts are exact; HAMMING results are exact
 *             up to dim 2^24, JACCARD is rounded once.
 * NaN, Inf    Follow IEEE: a NaN element gives a NaN score, an infinite one gives Inf or NaN.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum simd_type { SIMD_F32, SIMD_F16, SIMD_BF16, SIMD_I8, SIMD_NTYPES };

/* Levels in rising order; a level includes the ones below it on the same kind of machine. */
enum simd_level {
    SIMD_LEVEL_REF,         /* plain C, scalar: the meaning of every slot */
    SIMD_LEVEL_AVX2,        /* AVX2, FMA, F16C, POPCNT */
    SIMD_LEVEL_AVX512,      /* AVX-512 F, BW, DQ, VL */
    SIMD_LEVEL_AVX512_VNNI, /* + VNNI */
    SIMD_LEVEL_AVX512_POP,  /* + VPOPCNTDQ, BITALG */
    SIMD_LEVEL_AVX512_BF16, /* + BF16 */
    SIMD_LEVEL_NEON,        /* aarch64 */
    SIMD_NLEVELS
};

/* Largest dim of the i8 slots. */
#define SIMD_I8_DIM_MAX 32768
/* Sequential f32 roundings a sum over dim elements may contain at any level. */
#define SIMD_SUM_STEPS(dim) ((double)(dim) + 16.0)

typedef void simd_rows_fn(const void *q, const void *base, size_t stride, size_t n, size_t dim,
                          float *out);
typedef void simd_ids_fn(const void *q, const void *base, size_t stride, const uint32_t *ids,
                         size_t n, size_t dim, float *out);

struct simd_dist {
    simd_rows_fn *rows;
    simd_ids_fn *ids;
};

/* Many f32 queries against a block of f32 rows, keeping only what can matter: for each query j and
 * row i with   ip(j, i) + row_bias[i] * q_weight[j] > q_cut[j]   or either side NaN, a hit.
 * L2, IP and COSINE thresholds all take this form (index/flat_batch.c derives it).
 * Queries are packed by simd_pack_f32 in groups of SIMD_TILE; q_weight and q_cut have
 * SIMD_TILE * groups entries, of which those past nq never give a hit. */
#define SIMD_TILE 16
struct simd_hit {
    uint32_t query, row; /* row counts from the block's first */
};
struct simd_tile {
    const float *qpack;
    size_t nq, dim;
    const float *q_weight, *q_cut;
    const void *base;
    size_t stride, nrows;
    const float *row_bias; /* nrows entries */
    const void *ahead;     /* NULL, or where the next block starts: fetched along the way */
};

struct simd_ops {
    enum simd_level level;
    /* Float-like types; q has the rows' type. cos is ip / (|q| |x|), 0 when either norm is 0.
     * norm2 ignores q (pass NULL) and writes the sum of squares of each row. */
    struct simd_dist l2[SIMD_NTYPES], ip[SIMD_NTYPES], cos[SIMD_NTYPES], norm2[SIMD_NTYPES];
    /* Packed bits; dim in bits, a multiple of 8. jaccard is 1 - |q & x| / |q | x|, 0 when both are
     * empty. subset writes 0 where every bit of q is in x, else 1; superset 0 where every bit of x
     * is in q, else 1. */
    struct simd_dist hamming, jaccard, subset, superset;

    /* out[i * dim ..] = row i widened to f32, for n rows. */
    void (*widen[SIMD_NTYPES])(const void *base, size_t stride, size_t n, size_t dim, float *out);
    /* Positions i with v[i] <= bound (select_le) or v[i] >= bound (select_ge), ascending; never a
     * NaN. idx has room for n. Returns their number. */
    size_t (*select_le)(const float *v, size_t n, float bound, uint32_t *idx);
    size_t (*select_ge)(const float *v, size_t n, float bound, uint32_t *idx);
    /* Appends hits in no particular order; hits has room for nq * nrows. Returns their number. The
     * inner product is one chain of dim fused or unfused f32 steps: |error| <= (dim + 1) * 2^-24 *
     * sum |q_i x_i|. */
    size_t (*tile_f32)(const struct simd_tile *t, struct simd_hit *hits);
};

/* The table of the best level this machine has, at most the cap. The first call detects and fills
 * it; every later call is a load. Thread: any. */
const struct simd_ops *simd_ops(void);
/* Limits the level by name ("ref", "avx2", ... or "auto"). Call before the first simd_ops().
 * Returns false when the name is unknown or the table is in use already. */
bool simd_cap(const char *level_name);
/* Fills ops for one level regardless of the cap; false when this machine does not have it. For
 * tests and benchmarks. */
bool simd_ops_at(enum simd_level level, struct simd_ops *ops);
/* "ref", "avx2", "avx512", "avx512vnni", "avx512pop", "avx512bf16", "neon". */
const char *simd_level_name(enum simd_level level);

/* Floats in the packed form of nq queries of dim elements: whole groups of SIMD_TILE queries. */
size_t simd_pack_len(size_t nq, size_t dim);
/* Packs f32 queries for tile_f32: element k of query j goes to [j / 16][k][j % 16]; absent queries
 * are zeros. Each query is multiplied by scale[j] (scale may be NULL). */
void simd_pack_f32(const float *queries, size_t stride, size_t nq, size_t dim, const float *scale,
                   float *ret_pack);
