/*
 * kmeans.h - Lloyd's k-means and nearest-centroid assignment, the same result for any thread count.
 *
 * Rows are drawn by a seeded permutation of their numbers, sums are reduced over fixed blocks in a
 * fixed order, ties go to the lower centroid. COSINE clusters normalised rows by inner product with
 * normalised centroids; IP clusters by L2 (lists of like rows), probing by inner product is the
 * caller's. VEC_BIN: k-majority over bits by Hamming distance.
 */
#pragma once
#include "index/ann.h"

struct kmeans_opts {
    uint32_t nlist;
    uint32_t rounds;      /* 0: 10 */
    uint32_t sample_per_list; /* at most nlist times this many rows are looked at; 0: 256 */
    bool balance;         /* split lists of more than 4x the mean, in place of empty ones */
    uint64_t seed;
    struct pool *pool;
    index_check_fn *check;
    void *check_arg;
};
/* nlist x dim f32 (VEC_BIN: nlist x dim / 8 bytes) into centroids. With fewer distinct rows than
 * lists, spare centroids repeat others and stay empty. nrows 0: zeros. */
int kmeans_train(const struct index_rows *rows, const struct kmeans_opts *o, void *centroids,
                 struct status *st);
/* ret_list[i] = nearest of nlist centroids to row i. Exact up to 4,096 lists; above, through a
 * two-level tree (stated recall in kmeans.c). */
int kmeans_assign(const struct index_rows *rows, const void *centroids, const struct kmeans_opts *o,
                  uint32_t *ret_list, struct status *st);
