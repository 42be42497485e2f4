/* flat.h - exact search over a raw array of vectors (FLAT, BIN_FLAT, growing rows, fallback). */
#pragma once
#include "index/index.h"

struct status;
struct topk;

/* Rows as they lie in memory. A segment in several chunks is searched chunk by chunk into the same
 * topk, row_base counting up. */
struct flat_rows {
    enum metric metric;
    enum vec_type type;
    size_t dim; /* elements; bits for VEC_BIN, a multiple of 8 */
    const void *base;
    size_t stride;         /* bytes from row to row, at least vec_bytes(type, dim) */
    size_t nrows;          /* below 2^32 */
    uint64_t row_base;     /* number of the first row in results */
    const uint64_t *allow; /* bit i set: row i of this chunk may be a result; NULL: all may.
                            * Bits past nrows are ignored. */
};

struct flat_query {
    const void *queries; /* nq vectors of the rows' type and dim */
    size_t query_stride; /* bytes */
    uint32_t nq;
    index_check_fn *check; /* NULL: never stop early */
    void *check_arg;
};

/* Pushes every allowed row's score for every query into tk, which has nq lists, the metric's
 * direction and the range bounds. Call topk_finish() after the last chunk. The result equals that
 * of comparing every pair with the single-query kernel, whichever path runs.
 * Scratch is taken from the heap once per call for several queries, never for one.
 * Fails: ST_INVALID (metric and type do not fit, dim out of range, tk does not match),
 * ST_NO_MEMORY, or whatever check returned; tk then holds a partial answer. Thread: any. */
int flat_search(const struct flat_rows *rows, const struct flat_query *query, struct topk *tk,
                struct status *st);
