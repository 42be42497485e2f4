/*
 * kmeans_bin.c - k-majority: Lloyd's algorithm on packed bits under the Hamming distance.
 *
 * A centroid's bit is the one most of its rows have, 0 when they are even: that vector has the
 * least sum of distances. An empty list takes a row of the longest list as its centroid.
 *
 * THREADS     As kmeans.c: assigned row by row, counted list by list.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "index/kmeans_int.h"
#include "simd/simd.h"

#define ROUNDS 10
#define SAMPLE_PER_LIST 256
#define BLOCK_ROWS 256

struct bin {
    const struct index_rows *rows;
    const uint32_t *ids;
    size_t n, nbytes;
    uint32_t nlist;
    uint8_t *cent;
    uint32_t *list, *start, *order;
};

static uint32_t row_of(const struct bin *b, size_t i)
{
    return b->ids ? b->ids[i] : (uint32_t)i;
}

static void assign_block(void *arg, size_t block, void *scratch)
{
    struct bin *b = arg;
    float *d = scratch;
    size_t first = block * BLOCK_ROWS, end = MIN(first + BLOCK_ROWS, b->n);
    for (size_t i = first; i < end; i++) {
        uint32_t best = 0;
        simd_ops()->hamming.rows(index_row(b->rows, row_of(b, i)), b->cent, b->nbytes, b->nlist,
                                 b->rows->dim, d);
        for (uint32_t l = 1; l < b->nlist; l++) {
            best = d[l] < d[best] ? l : best;
        }
        b->list[i] = best;
    }
}

static int assign(struct bin *b, const struct kmeans_opts *o, struct status *st)
{
    return km__run(o, (b->n + BLOCK_ROWS - 1) / BLOCK_ROWS, b->nlist * sizeof(float), assign_block,
                   b, st);
}

static void majority_list(void *arg, size_t l, void *scratch)
{
    struct bin *b = arg;
    uint32_t *count = scratch, n = b->start[l + 1] - b->start[l];
    uint8_t *c = b->cent + l * b->nbytes;
    if (n == 0) {
        return;
    }
    memset(count, 0, b->nbytes * 8 * sizeof *count);
    for (uint32_t i = b->start[l]; i < b->start[l + 1]; i++) {
        const uint8_t *x = index_row(b->rows, row_of(b, b->order[i]));
        for (size_t k = 0; k < b->nbytes * 8; k++) {
            count[k] += x[k / 8] >> (k % 8) & 1;
        }
    }
    memset(c, 0, b->nbytes);
    for (size_t k = 0; k < b->nbytes * 8; k++) {
        c[k / 8] = (uint8_t)(c[k / 8] | (count[k] > n / 2) << (k % 8));
    }
}

static void refill_empty(struct bin *b)
{
    uint32_t longest = 0, taken = 0;
    for (uint32_t l = 1; l < b->nlist; l++) {
        if (b->start[l + 1] - b->start[l] > b->start[longest + 1] - b->start[longest]) {
            longest = l;
        }
    }
    uint32_t n = b->start[longest + 1] - b->start[longest];
    for (uint32_t l = 0; l < b->nlist && taken < n; l++) {
        if (b->start[l + 1] == b->start[l]) {
            uint32_t at = b->order[b->start[longest] + taken++];
            memcpy(b->cent + l * b->nbytes, index_row(b->rows, row_of(b, at)), b->nbytes);
        }
    }
}

int km__train_bin(const struct index_rows *rows, const struct kmeans_opts *o, uint8_t *centroids,
                  struct status *st)
{
    size_t per = o->sample_per_list ? o->sample_per_list : SAMPLE_PER_LIST;
    size_t n = MIN((size_t)rows->nrows, per * o->nlist);
    uint32_t rounds = o->rounds ? o->rounds : ROUNDS;
    uint32_t *ids = alloc_try(n * 4);
    struct bin b = { .rows = rows,
                     .ids = ids,
                     .n = n,
                     .nbytes = rows->dim / 8,
                     .nlist = o->nlist,
                     .cent = centroids,
                     .list = alloc_try(n * 4),
                     .order = alloc_try(n * 4),
                     .start = alloc_try(((size_t)o->nlist + 2) * 4) };
    int rc = 0;
    if (!ids || !b.list || !b.order || !b.start) {
        FAIL(st, ST_NO_MEMORY, "no memory to cluster %zu rows into %u lists", n, o->nlist);
    }
    km__draw(rows->nrows, n, o->seed, ids);
    for (uint32_t l = 0; l < o->nlist; l++) {
        memcpy(centroids + l * b.nbytes, index_row(rows, ids[l % n]), b.nbytes);
    }
    for (uint32_t i = 0; i < rounds; i++) {
        TRY(assign(&b, o, st));
        km__group(b.list, n, o->nlist, b.start, b.order);
        TRY(km__run(o, o->nlist, b.nbytes * 8 * sizeof(uint32_t), majority_list, &b, st));
        if (i + 1 < rounds) {
            refill_empty(&b);
        }
    }
out:
    mem_free(ids);
    mem_free(b.list);
    mem_free(b.order);
    mem_free(b.start);
    return rc;
}

int km__assign_bin(const struct index_rows *rows, const uint32_t *ids, size_t n,
                   const uint8_t *centroids, const struct kmeans_opts *o, uint32_t *ret_list,
                   struct status *st)
{
    uint8_t *same = (uint8_t *)(uintptr_t)centroids; /* only read here */
    struct bin b = { .rows = rows,
                     .ids = ids,
                     .n = n,
                     .nbytes = rows->dim / 8,
                     .nlist = o->nlist,
                     .cent = same,
                     .list = ret_list };
    return assign(&b, o, st);
}
