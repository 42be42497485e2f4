/*
 * column_builder.c - makes a column out of cells that arrive one at a time.
 *
 * Storage grows by doubling inside the arena, which cannot give the old copy back: a good
 * expected_rows avoids that waste. A failed add leaves the builder as it was before.
 * INVARIANT  valid is NULL until the first null; from then on bit i tells of row i.
 * THREADS    One owner, like the arena.
 */
#include "schema/column.h"

struct column_builder {
    struct arena *ar;
    struct column col; /* identity; nrows counts what was added */
    uint8_t *data;
    size_t used, cap; /* bytes of data */
    uint64_t *ends;   /* variable types only */
    uint64_t *valid;
    uint32_t rows_cap; /* of ends and valid */
    uint32_t expected_rows;
};

struct column_builder *column_builder_new(struct arena *ar, int64_t field_id, enum dtype type,
                                          enum dtype elem, uint32_t dim, uint32_t expected_rows)
{
    struct column_builder *cb = ARENA_NEW(ar, struct column_builder);
    cb->ar = ar;
    cb->col = (struct column){.field_id = field_id,
                              .type = type,
                              .elem = elem,
                              .dim = dim,
                              .width = dtype_width(type, dim)};
    cb->expected_rows = expected_rows;
    return cb;
}

/* A larger copy of old in the arena, or NULL; the part beyond used is not set. */
static void *grown(struct arena *ar, const void *old, size_t used, size_t cap)
{
    void *p = arena_try(ar, cap);
    if (p && used) {
        memcpy(p, old, used);
    }
    return p;
}

static bool reserve_rows(struct column_builder *cb)
{
    uint32_t n = cb->col.nrows;
    if (n < cb->rows_cap) {
        return true;
    }
    if (n == UINT32_MAX) {
        return false;
    }
    uint64_t least = MAX((uint64_t)cb->expected_rows, UINT64_C(16));
    uint64_t want = MAX((uint64_t)n * 2, least);
    uint32_t cap = (uint32_t)MIN(want, (uint64_t)UINT32_MAX);
    uint64_t *ends = cb->ends, *valid = cb->valid;
    if (!cb->col.width) {
        ends = grown(cb->ar, cb->ends, (size_t)n * 8, (size_t)cap * 8);
        if (!ends) {
            return false;
        }
    }
    if (cb->valid) {
        valid = arena_try_array(cb->ar, bits_words(cap), 8);
        if (!valid) {
            return false;
        }
        memcpy(valid, cb->valid, bits_words(n) * 8);
    }
    cb->ends = ends;
    cb->valid = valid;
    cb->rows_cap = cap;
    return true;
}

static bool reserve_data(struct column_builder *cb, size_t more)
{
    size_t need;
    if (!add_size(cb->used, more, &need)) {
        return false;
    }
    if (need <= cb->cap && cb->data) {
        return true;
    }
    size_t want = cb->col.width, twice;
    if (!mul_size(want ? want : 16, cb->expected_rows, &want)) {
        return false;
    }
    want = MAX(want, need);
    want = MAX(want, (size_t)64);
    if (mul_size(cb->cap, 2, &twice)) {
        want = MAX(want, twice);
    }
    /* Close to the arena's limit the generous size may fail where the exact one fits. */
    uint8_t *data = grown(cb->ar, cb->data, cb->used, want);
    if (!data) {
        want = need;
        data = grown(cb->ar, cb->data, cb->used, want);
    }
    if (!data) {
        return false;
    }
    cb->data = data;
    cb->cap = want;
    return true;
}

static bool start_valid(struct column_builder *cb)
{
    if (!cb->valid) {
        uint64_t *valid = arena_try_array(cb->ar, bits_words(cb->rows_cap), 8);
        if (!valid) {
            return false;
        }
        bits_fill(valid, cb->col.nrows, true);
        cb->valid = valid;
    }
    return true;
}

static bool add(struct column_builder *cb, struct slice cell, bool null)
{
    size_t n = cb->col.width ? cb->col.width : cell.n;
    ASSERT(null || cell.n == n);
    if (!reserve_rows(cb) || !reserve_data(cb, n) || (null && !start_valid(cb))) {
        return false;
    }
    if (null) {
        memset(cb->data + cb->used, 0, n);
    } else if (n) {
        memcpy(cb->data + cb->used, cell.p, n);
    }
    cb->used += n;
    if (cb->ends) {
        cb->ends[cb->col.nrows] = cb->used;
    }
    if (cb->valid && !null) {
        bit_set(cb->valid, cb->col.nrows);
    }
    cb->col.nrows++;
    return true;
}

bool column_builder_add(struct column_builder *cb, struct slice cell)
{
    return add(cb, cell, false);
}

bool column_builder_null(struct column_builder *cb)
{
    return add(cb, slice_n(NULL, 0), true);
}

bool column_builder_take(struct column_builder *cb, const struct column *from, uint32_t row)
{
    return column_is_null(from, row) ? column_builder_null(cb)
                                     : column_builder_add(cb, column_cell(from, row));
}

void column_builder_finish(struct column_builder *cb, struct column *ret)
{
    *ret = cb->col;
    ret->data = cb->data;
    ret->ends = cb->ends;
    ret->valid = cb->valid;
}
