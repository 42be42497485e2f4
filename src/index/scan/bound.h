/*
 * bound.h - 4-bit codes whose error is bounded, so that a scan over them proves most rows away and
 * an exact answer needs only the rest from the raw rows.
 *
 * FORMAT      BNDB  blocks of 16 rows as simd.h's struct simd_block4; rows past the last have
 *                   e = -Inf
 *             BNDH  struct bound_head, then f32 low[d], step[d], mean[d], mid[d] with
 *                   d = 8 * groups; entries past the dimension are zeros
 *             bound.c says what they mean, bound_search.c why the answer is exact.
 * THREADS     An open bound is immutable.
 */
#pragma once
#include "index/ann_int.h"

#define BOUND_TAG_BLOCKS IX_TAG('B', 'N', 'D', 'B')
#define BOUND_TAG_HEAD IX_TAG('B', 'N', 'D', 'H')

struct bound_head {
    uint32_t groups;   /* of 8 dimensions */
    uint32_t nodd;     /* rows without a bound: always scored */
    double e_max;      /* of the others: largest e, |a0| and |a1|, */
    double a_max;
    double u_max;      /* distance of the codes from mid, */
    double norm_max;   /* length */
};

struct bound {
    const struct bound_head *head; /* NULL: the file has no codes */
    const float *low, *step, *mean, *mid;
    const uint8_t *blocks;
    size_t nblocks, block_bytes;
};

/* Whether codes of such rows are worth their memory. */
bool bound_pays(const struct index_rows *rows);
/* Writes both sections, or none where the rows do not suit. Fails: ST_NO_MEMORY, what check or the
 * sink returned. */
int bound_build(const struct index_build *b, struct ixw *w, struct status *st);
/* Views into the file. ST_CORRUPT. */
int bound_open(const struct ix_file *file, const struct index_rows *rows, struct bound *ret,
               struct status *st);
/* Every row's stored bound against its raw row. ST_CORRUPT. */
int bound_validate(const struct bound *bd, const struct index_rows *rows, struct status *st);

/* What a search borrows; made by the first. */
struct bound_scratch;
void bound_scratch_free(struct bound_scratch *s);

/* Exact search of all queries. pool keeps the scratch, *bytes counts what was allocated for it.
 * Fails: ST_NO_MEMORY, what check returned. */
int bound_search(const struct bound *bd, const struct index *ix, const struct index_query *q,
                 struct scratch_pool *pool, _Atomic size_t *bytes, struct topk *tk,
                 struct index_counters *c, struct status *st);
/* Whether the codes are the faster way for a search; else the raw rows are. */
bool bound_faster(const struct bound *bd, const struct index_rows *rows,
                  const struct index_query *q, uint32_t k);
