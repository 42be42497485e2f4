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

/* The sub-vectors of product codes: sub-vector j is dimensions sub_at[j] .. sub_at[j + 1]. */
struct simd_tables {
    const float *q;          /* sub_at[nsub] elements */
    const uint32_t *sub_at;  /* nsub + 1, ascending */
    const float *book;       /* element k of word w: book[k * words + w] */
    size_t nsub, words;      /* words: a multiple of 16 */
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
    /* v[j * words + w] = sum of q[k] * book[k * words + w] over sub-vector j, in order. */
    void (*tables)(const struct simd_tables *t, float *v);
    /* lut[i] = v[i] less its table's least, divided by the scale returned, rounded: the largest
     * range of a table divided by 255. *ret_base = sum of the least. words: a multiple of 16. */
    float (*bytes)(const float *v, size_t ntables, size_t words, uint8_t *lut, double *ret_base);
    /* v[i] * inverse as whole numbers 128 hi + lo, lo in -64 .. 63; |v[i] * inverse| < 16,256.
     * Returns the sum of the whole numbers; *ret_off = sum of |v[i] * inverse - whole|, within
     * 0.004 n, *ret_abs = sum of |whole|. */
    double (*planes)(const float *v, size_t n, float inverse, int8_t *hi, int8_t *lo,
                     double *ret_abs, double *ret_off);
    /* Rows that pass, ascending; hits has room for nrows. Returns their number. */
    size_t (*cut)(const struct simd_cut *t, struct simd_cut_hit *hits);
};

/* The table for this machine under the cap of simd_cap(). */
const struct simd_scan *simd_scan(void);
/* For tests: NULL when this machine does not have the level. Levels without kernels of their own
 * give the table below them. */
const struct simd_scan *simd_scan_at(enum simd_level level);
