/*
 * simd_scan.h - kernels of inverted lists and clustering: rows in blocks against tables of a query.
 *
 * A second table beside simd_ops, chosen by the same level; src/index/ivf and kmeans.c are its
 * users. All kernels: no alignment assumed, nothing read outside what the arguments describe, no
 * state, any thread. Integers are exact and equal at every level.
 *
 * BLOCKS      A block holds 16 rows (lut8: 64), a few bytes of each at a time:
 *
 *     dot8    per 4 dimensions 64 bytes: row r's four u8 at 4 r
 *     lut4    per 8 sub-codes of 4 bits 64 bytes: byte 4 r + t holds row r's sub-code t in its low
 *             and t + 4 in its high half (t < 4)
 *     lut8    per sub-code of 8 bits 64 bytes: row r's at r
 *
 *             so that one register holds the same dimensions of all rows and no sum runs across
 *             lanes. Consecutive blocks lie block_stride bytes apart; what follows the codes inside
 *             a block are arrays of one f32 per row that simd_cut reads.
 */
#pragma once
#include "simd/simd.h"

#define SCAN_ROWS 16
#define SCAN_ROWS8 64
#define SCAN_STEP 64 /* bytes of one step of a block */

/* Blocks of codes, as above. */
struct simd_blocks {
    const uint8_t *base;
    size_t block_stride, nblocks;
    size_t nsteps; /* of SCAN_STEP bytes in a block */
};

/* From sums to keys: key = c + add + mul * (a * sum + b), low = key - (w * err + w0), for the rows
 * whose low is not above bound (NaN counts as not above). add, mul, err are arrays of f32 inside
 * each block; SIMD_NO_FIELD: 0, 1 and 0. */
#define SIMD_NO_FIELD SIZE_MAX
struct simd_cut {
    const int32_t *sums; /* block after block; room for whole blocks */
    const uint8_t *base; /* of the first block */
    size_t block_stride, block_rows, nrows;
    size_t add_at, mul_at, err_at; /* bytes from the start of a block */
    float a, b, c, w, w0, bound;
};
struct simd_cut_hit {
    uint32_t row; /* from the first block's first */
    float key, low;
};

/* Rows against centroids packed by simd_pack_f32: score(i, j) = row_i . c_j + bias_j, summed over
 * dim in order. bias has an entry for every packed lane, -INFINITY where there is no centroid. */
struct simd_near {
    const float *pack, *bias;
    size_t ncent, dim;
    const float *rows;
    size_t stride, nrows; /* stride in bytes */
};

struct simd_scan {
    /* at[i] = the centroid with the best score, the lowest of equals; best[i] = its score. Where
     * every score is NaN or -INFINITY: 0 and -INFINITY. */
    void (*nearest)(const struct simd_near *t, uint32_t *at, float *best);
    /* out[i * lanes + j] = score(i, j); lanes = ncent rounded up to SIMD_TILE. */
    void (*scores)(const struct simd_near *t, float *out);
    /* out[16 b + r] = sum over dimensions of code * (128 hi + lo); hi, lo: 4 * nsteps entries.
     * The caller keeps 255 * sum |128 hi + lo| below 2^31. */
    void (*dot8)(const struct simd_blocks *b, const int8_t *hi, const int8_t *lo, int32_t *out);
    /* out[16 b + r] = sum of lut entries; lut: per step 8 tables of 16. */
    void (*lut4)(const struct simd_blocks *b, const uint8_t *lut, int32_t *out);
    /* out[64 b + r] = sum of lut entries; lut: per step a table of 256. */
    void (*lut8)(const struct simd_blocks *b, const uint8_t *lut, int32_t *out);
    /* Rows that pass, ascending; hits has room for nrows. Returns their number. */
    size_t (*cut)(const struct simd_cut *t, struct simd_cut_hit *hits);
};

/* The table for this machine under the cap of simd_cap(). */
const struct simd_scan *simd_scan(void);
/* For tests: NULL when this machine does not have the level. Levels without kernels of their own
 * give the table below them. */
const struct simd_scan *simd_scan_at(enum simd_level level);
