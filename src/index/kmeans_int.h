/* kmeans_int.h - shared by the files of k-means: who is nearest, for many rows at once. */
#pragma once
#include <stdatomic.h>

#include "index/ann_int.h"
#include "index/kmeans.h"

/* Rows whose nearest centroid is asked for. */
struct km_rows {
    const struct index_rows *rows;
    const uint32_t *ids; /* NULL: rows 0 .. n */
    size_t n;
    bool unit; /* divided by their length */
};

/* Centroids made ready for comparing; the tree of big sets. */
struct km_near;
/* Keeps nothing of centroids. tree_seed shapes the tree above KM_FLAT_MAX lists. */
int km__near_new(const float *centroids, uint32_t nlist, size_t dim, bool unit,
                 const struct kmeans_opts *o, struct km_near **ret_near, struct status *st);
void km__near_free(struct km_near *near);
/* ret_list[i] = list of row i of r. */
int km__near_assign(const struct km_near *near, const struct km_rows *r,
                    const struct kmeans_opts *o, uint32_t *ret_list, struct status *st);
/* Lists above which a row is not compared with every centroid. */
#define KM_FLAT_MAX 4096u

/* One flat training: no tree, no split. centroids: nlist x dim. */
int km__lloyd(const struct km_rows *r, uint32_t nlist, const struct kmeans_opts *o,
              float *centroids, struct status *st);

/* kmeans_bin.c */
int km__train_bin(const struct index_rows *rows, const struct kmeans_opts *o, uint8_t *centroids,
                  struct status *st);
int km__assign_bin(const struct index_rows *rows, const uint32_t *ids, size_t n,
                   const uint8_t *centroids, const struct kmeans_opts *o, uint32_t *ret_list,
                   struct status *st);

/* ids[0 .. n) = n distinct numbers below nrows, drawn by a permutation that seed chooses; a shorter
 * draw is the beginning of a longer one. n <= nrows. */
void km__draw(uint32_t nrows, size_t n, uint64_t seed, uint32_t *ids);
/* start[0 .. nlist + 1), order[0 .. n): the positions of list l are order[start[l] .. start[l+1]),
 * ascending. */
void km__group(const uint32_t *list, size_t n, uint32_t nlist, uint32_t *start, uint32_t *order);

/* Work cut into blocks that may fail: scratch of one size for whoever runs a block, the first
 * failure, the caller's check before each. */
struct km_work {
    const struct kmeans_opts *o;
    size_t scratch_bytes;
    struct scratch_pool pool;
    _Atomic int failed;
    struct status st; /* of the block that failed first; read after parallel_for */
};
typedef void km_block_fn(void *arg, size_t block, void *scratch);
int km__run(const struct kmeans_opts *o, size_t nblocks, size_t scratch_bytes, km_block_fn *fn,
            void *arg, struct status *st);
