/* sealed_write.h - the writer of segment files, whatever their rows come from. */
#pragma once
#include "segment/seg_int.h"

/* Rows of one segment that go into the file, as they lie. */
struct seg_part {
    const struct segment *seg;
    uint32_t nrows;       /* that it has: a growing one may get more meanwhile */
    uint32_t nkept;       /* of these, that are written */
    const uint64_t *keep; /* which, of a sealed one; NULL: all */
    const uint32_t *laid; /* its row that is written first, second, ...: of a sealed one that keeps
                           * all; NULL: as they lie */
};

struct seg_write;
struct seg_writer; /* a file being written */

/* Row numbers of the new file by (key, newer first), given to seg__put_order(), and every key into
 * the filter. The parts' columns have been read: their blocks are what they were. */
typedef int seg_order_fn(const struct seg_write *w, struct seg_writer *out, uint32_t *filter,
                         uint32_t nblocks, struct status *st);

struct seg_write {
    const char *name; /* for messages */
    int64_t id, collection_id, partition_id;
    const struct seg_field *fields; /* of the file */
    uint32_t nfields, pk;
    const struct schema *schema; /* default of a field that a part lacks; without one: null */
    const struct seg_part *parts;
    size_t nparts;
    uint32_t nrows; /* all that are kept; at most SEG_ROWS_MAX */
    uint64_t first_position, last_position;
    seg_order_fn *order;
    void *order_arg;
    index_check_fn *check; /* about every SF_PIECE bytes; may be NULL */
    void *check_arg;
};
int seg__write(const struct seg_write *w, struct object_store *os, const char *prefix,
               struct seg_merged *ret, struct status *st);
int seg__put_order(struct seg_writer *out, const uint32_t *rows, size_t n, struct status *st);

static inline int seg__write_check(const struct seg_write *w, struct status *st)
{
    return w->check ? w->check(w->check_arg, st) : 0;
}
/* Whether a sealed segment's block is what was written. Fails: ST_CORRUPT, or as w's check. */
int seg__check_block(const struct seg_write *w, const struct segment *seg,
                     const struct sf_block *b, const char *what, int64_t field_id,
                     struct status *st);
