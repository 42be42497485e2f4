/*
 * column.c - reading columns: cells of arrays, gathering rows, order and hash of primary keys.
 *
 * Pure functions over borrowed memory; what column_select() makes lives in the caller's arena.
 * Building columns: column_builder.c. Columns as bytes: batch.c.
 * THREADS  Any; nothing here is shared.
 */
#include "schema/column.h"
#include "base/hash.h"

int64_t column_int(const struct column *c, uint32_t row)
{
    const uint8_t *p = c->data + (size_t)row * c->width;
    int16_t v16;
    int32_t v32;
    switch (c->width) {
    case 1:
        return (int8_t)*p;
    case 2:
        memcpy(&v16, p, 2);
        return v16;
    case 4:
        memcpy(&v32, p, 4);
        return v32;
    default:
        return column_i64(c, row);
    }
}

uint32_t array_count(enum dtype elem, struct slice cell)
{
    if (elem == DT_VARCHAR) {
        return cell.n >= 4 ? load_u32(cell.p) : 0;
    }
    size_t width = dtype_width(elem, 0);
    return width ? (uint32_t)(cell.n / width) : 0;
}

struct slice array_elem(enum dtype elem, struct slice cell, uint32_t i)
{
    if (elem != DT_VARCHAR) {
        size_t width = dtype_width(elem, 0);
        return slice_n(cell.p + i * width, width);
    }
    size_t base = 4 + 4 * (size_t)load_u32(cell.p);
    uint32_t from = i ? load_u32(cell.p + 4 * (size_t)i) : 0;
    uint32_t to = load_u32(cell.p + 4 + 4 * (size_t)i);
    return slice_n(cell.p + base + from, to - from);
}

static bool string_array_valid(struct slice cell)
{
    if (cell.n < 4) {
        return false;
    }
    size_t count = load_u32(cell.p);
    if (count > (cell.n - 4) / 4) {
        return false;
    }
    size_t bytes = cell.n - 4 - 4 * count;
    uint32_t prev = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t end = load_u32(cell.p + 4 + 4 * i);
        if (end < prev) {
            return false;
        }
        prev = end;
    }
    return prev == bytes;
}

bool array_cell_valid(enum dtype elem, struct slice cell)
{
    if (cell.n == 0) {
        return true; /* a null row's cell */
    }
    if (elem == DT_VARCHAR) {
        return string_array_valid(cell);
    }
    size_t width = dtype_width(elem, 0);
    return elem <= DT_DOUBLE && width && cell.n % width == 0 && cell.n / width <= UINT32_MAX;
}

const struct column *batch_column(const struct batch *b, int64_t field_id)
{
    for (uint32_t i = 0; i < b->ncols; i++) {
        if (b->cols[i].field_id == field_id) {
            return &b->cols[i];
        }
    }
    return NULL;
}

static bool rows_contiguous(const uint32_t *rows, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        if (rows[i] != rows[0] + i) {
            return false;
        }
    }
    return true;
}

/* Gathers rows of a fixed column; the usual widths get a loop of their own. */
static void gather_fixed(uint8_t *dst, const struct column *c, const uint32_t *rows, uint32_t n)
{
    size_t w = c->width;
    if (w == 8) {
        for (uint32_t i = 0; i < n; i++) {
            memcpy(dst + (size_t)i * 8, c->data + (size_t)rows[i] * 8, 8);
        }
    } else if (w == 4) {
        for (uint32_t i = 0; i < n; i++) {
            memcpy(dst + (size_t)i * 4, c->data + (size_t)rows[i] * 4, 4);
        }
    } else {
        for (uint32_t i = 0; i < n; i++) {
            memcpy(dst + i * w, c->data + rows[i] * w, w);
        }
    }
}

static bool select_packed(const struct column *c, const uint32_t *rows, uint32_t n,
                          struct arena *ar, struct column *ret)
{
    uint64_t *ends = arena_try_array(ar, n, sizeof *ends);
    if (!ends) {
        return false;
    }
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        total += column_cell(c, rows[i]).n;
        ends[i] = total;
    }
    uint8_t *data = arena_try(ar, total);
    if (!data) {
        return false;
    }
    uint64_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct slice cell = column_cell(c, rows[i]);
        if (cell.n) {
            memcpy(data + at, cell.p, cell.n);
        }
        at += cell.n;
    }
    ret->ends = ends;
    ret->data = data;
    ret->refs = NULL;
    return true;
}

bool column_select(const struct column *c, const uint32_t *rows, uint32_t n, struct arena *ar,
                   struct column *ret)
{
    struct column out = *c;
    out.nrows = n;
    bool contiguous = rows_contiguous(rows, n);
    if (c->width && contiguous) {
        out.data = n ? c->data + (size_t)rows[0] * c->width : c->data;
    } else if (c->width) {
        size_t bytes;
        uint8_t *data = mul_size(n, c->width, &bytes) ? arena_try(ar, bytes) : NULL;
        if (!data) {
            return false;
        }
        gather_fixed(data, c, rows, n);
        out.data = data;
    } else if (c->refs && contiguous) {
        out.refs = n ? c->refs + rows[0] : c->refs;
    } else if (!select_packed(c, rows, n, ar, &out)) {
        return false;
    }
    if (c->valid) {
        uint64_t *valid = arena_try_array(ar, bits_words(n), 8);
        if (!valid) {
            return false;
        }
        for (uint32_t i = 0; i < n; i++) {
            if (bit_get(c->valid, rows[i])) {
                bit_set(valid, i);
            }
        }
        out.valid = valid;
    }
    *ret = out;
    return true;
}

int pk_cmp(const struct column *a, uint32_t ra, const struct column *b, uint32_t rb)
{
    if (a->type == DT_INT64) {
        int64_t x = column_i64(a, ra), y = column_i64(b, rb);
        return (x > y) - (x < y);
    }
    return slice_cmp(column_cell(a, ra), column_cell(b, rb));
}

/* Rows are placed by this value: a change would look for them in the wrong shard. The tests pin
 * results for both key types. */
uint32_t pk_hash(const struct column *c, uint32_t row)
{
    struct slice cell = column_cell(c, row);
    return murmur3_32(cell.p, cell.n, 0);
}
