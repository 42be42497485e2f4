/*
 * column.h - one column of rows in memory, and batches of columns as bytes.
 *
 * CELLS   A cell's bytes, the same in memory, in log records, between roles and in segment files:
 *   Bool               1 byte, 0 or 1
 *   Int8..Int64, Float, Double, Timestamptz   little-endian, own width
 *   VarChar, Text      UTF-8
 *   JSON, $meta        JSON text
 *   FloatVector        dim x fp32; Float16/BFloat16 dim x 2; Int8 dim; Binary dim / 8, bit 0 first
 *   SparseFloatVector  pairs (u32 index, fp32 value), indices ascending
 *   Array              fixed elements: packed little-endian, count = bytes / width (Bool: 1 byte);
 *                      VarChar elements: u32 count, u32 end[count], bytes (ends are relative to
 *                      the first byte after the table)
 *   ArrayOfVector      vectors one after the other
 * Rows that are null have a zero cell (fixed) or an empty one (variable) and a 0 in `valid`.
 *
 * COLUMN  Three shapes, told apart by which pointer is set:
 *   fixed   data[row * width]
 *   packed  ends[row] (u64 end offset of each row's bytes in `data`; start = previous end)
 *   refs    refs[row] (pointer and length): growing segments, whose bytes never move
 *
 * BATCH   Encoded rows: header and columns, every section 8-byte aligned; the layout is in
 * docs/format.md ("Column batch"). batch_decode() borrows from the bytes and checks every offset,
 * so it is safe on bytes from outside. Decoding copies nothing, unless the bytes begin at an
 * address that is no multiple of 8: then they are copied into the arena once.
 */
#pragma once
#include "base/arena.h"
#include "base/bitset.h"
#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "schema/types.h"

struct column {
    int64_t field_id;
    enum dtype type, elem;
    uint32_t dim;
    uint32_t nrows;
    size_t width;             /* > 0: fixed shape */
    const uint8_t *data;
    const uint64_t *ends;
    const struct slice *refs;
    const uint64_t *valid;    /* bit 1 = value present; NULL: no row is null */
};

static inline bool column_is_null(const struct column *c, uint32_t row)
{
    return c->valid && !bit_get(c->valid, row);
}
static inline struct slice column_cell(const struct column *c, uint32_t row)
{
    if (c->width) {
        return slice_n(c->data + (size_t)row * c->width, c->width);
    }
    if (c->refs) {
        return c->refs[row];
    }
    uint64_t from = row ? c->ends[row - 1] : 0;
    return slice_n(c->data + from, (size_t)(c->ends[row] - from));
}
static inline int64_t column_i64(const struct column *c, uint32_t row)
{
    int64_t v;
    memcpy(&v, c->data + (size_t)row * 8, 8);
    return v;
}
/* Any integer type, widened. */
int64_t column_int(const struct column *c, uint32_t row);

/* Elements of an Array cell. */
uint32_t array_count(enum dtype elem, struct slice cell);
struct slice array_elem(enum dtype elem, struct slice cell, uint32_t i);
/* Checks an Array cell from outside. */
bool array_cell_valid(enum dtype elem, struct slice cell);

struct batch {
    uint32_t nrows;
    uint32_t ncols;
    struct column *cols;
};

const struct column *batch_column(const struct batch *b, int64_t field_id);
/* Appends the encoded batch; false when buf's ceiling is passed or memory is gone. */
bool batch_encode(const struct batch *b, struct buf *out);
/* Takes all of bytes as one batch. Fails: ST_CORRUPT, names the field; ST_NO_MEMORY. */
int batch_decode(struct slice bytes, struct arena *ar, struct batch *ret, struct status *st);

/* Builds columns row by row or gathered from others; everything lives in the arena. */
struct column_builder;
struct column_builder *column_builder_new(struct arena *ar, int64_t field_id, enum dtype type,
                                          enum dtype elem, uint32_t dim, uint32_t expected_rows);
/* false past the arena's limit. A null cell: column_builder_null(). */
bool column_builder_add(struct column_builder *cb, struct slice cell);
bool column_builder_null(struct column_builder *cb);
bool column_builder_take(struct column_builder *cb, const struct column *from, uint32_t row);
void column_builder_finish(struct column_builder *cb, struct column *ret);

/* The rows in the order given, repetitions allowed. Fixed and refs columns are borrowed when the
 * rows follow one another; the rest is copied to the arena. false past the arena's limit. */
bool column_select(const struct column *c, const uint32_t *rows, uint32_t n, struct arena *ar,
                   struct column *ret);

/* Order of two primary keys (Int64 numerically, VarChar bytewise). */
int pk_cmp(const struct column *a, uint32_t ra, const struct column *b, uint32_t rb);
/* Hash for shard and partition-key routing: stable for ever (murmur3 of the cell). */
uint32_t pk_hash(const struct column *c, uint32_t row);
