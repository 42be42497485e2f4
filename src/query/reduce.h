/*
 * reduce.h - merging sorted answers of segments, shards and nodes.
 *
 * Pure. Hits of one query arrive as lists sorted best first; equal scores order by primary key;
 * of equal primary keys the best-scored hit is kept (in a search) or the newest row (in a query).
 */
#pragma once
#include "base/arena.h"
#include "schema/column.h"

struct hit_list {
    uint32_t n;
    const float *scores;
    const struct column *pks;   /* rows first_row .. first_row + n - 1 */
    uint32_t first_row;
};
struct merged_hit {
    uint32_t list;              /* which list it came from */
    uint32_t row;               /* row in that list's pks column */
    float score;
};
/* Best limit hits after skipping offset, of nlists lists. ascending: smaller score is better.
 * ret has room for limit entries. Returns the number written. *ret_dups counts hits dropped
 * because their key came again. Scratch from ar. */
uint32_t reduce_hits(const struct hit_list *lists, uint32_t nlists, bool ascending, uint32_t offset,
                     uint32_t limit, struct arena *ar, struct merged_hit *ret, uint32_t *ret_dups);

struct row_list {
    uint32_t n;
    const struct column *pks;   /* sorted ascending */
    const uint64_t *timestamps;
};
struct merged_row {
    uint32_t list, row;
};
/* Rows by ascending key, newest of equal keys, skipping offset, at most limit (UINT32_MAX: all). */
uint32_t reduce_rows(const struct row_list *lists, uint32_t nlists, uint32_t offset, uint32_t limit,
                     struct arena *ar, struct merged_row *ret);
