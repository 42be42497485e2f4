/* flat_int.h - shared by the files of exact search: the walk over candidate rows. */
#pragma once
#include "base/compiler.h"
#include "index/flat.h"
#include "index/topk.h"
#include "simd/simd.h"

/* Rows of one step of the walk, at most FLAT_BATCH. */
#define FLAT_BATCH 256

struct flat_batch {
    size_t first;        /* contiguous: rows first .. first + n */
    const uint32_t *ids; /* else n row numbers */
    size_t n;
    const uint64_t *allow; /* contiguous rows of which not all may be results; else NULL */
};

typedef void flat_batch_fn(void *arg, const struct flat_batch *b);

struct flat_plan {
    size_t max_rows;      /* of a batch: a multiple of 64 up to FLAT_BATCH */
    size_t work_factor;   /* what a row costs, in times its bytes from memory */
    size_t dense_percent; /* from this share of allowed rows on, a batch is a run of neighbours */
};

/* Calls fn for batches that together hold every allowed row once and, every time the work done
 * passes a fixed amount, the query's check. */
int flat__walk(const struct flat_rows *rows, const struct flat_query *query,
               const struct flat_plan *plan, flat_batch_fn *fn, void *arg, struct status *st);

/* The kernels of a metric and type. */
struct simd_dist flat__dist(const struct simd_ops *ops, enum metric metric, enum vec_type type);

/* Whether tiles are the faster way for this search. */
bool flat__tiles_pay(const struct flat_rows *rows, uint32_t nq);
/* flat_batch.c: queries in lanes of a tile, survivors scored again by the exact kernel. */
int flat__search_tiles(const struct flat_rows *rows, const struct flat_query *query,
                       struct topk *tk, struct status *st);
