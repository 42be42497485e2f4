/*
 * batch.c - a batch of columns as bytes, and such bytes as columns again.
 *
 * FORMAT   docs/format.md, "Column batch". Everything is little-endian and every section begins at
 *          a multiple of 8 from the start of the batch, so that columns are used in place.
 * TRUST    batch_decode() believes nothing: lengths, types, dimensions, the order of ends, the
 *          shape of array and sparse cells, zero bits past the rows and zero padding are all
 *          checked, so that code which walks a decoded column needs no checks of its own. It does
 *          not look at what cells mean (UTF-8, JSON, NaN): that was checked at the door.
 * THREADS  Any.
 */
#include "schema/column.h"
#include <inttypes.h>

#define BATCH_MAGIC 0x31424C45u /* "ELB1" */
#define BATCH_HEAD 24u
#define BATCH_COL_HEAD 32u
#define BATCH_COLS_MAX 1024u

enum { COL_HAS_VALID = 1u };

/* ---- Encoding */

static uint64_t data_bytes(const struct column *c)
{
    if (c->width) {
        return (uint64_t)c->width * c->nrows;
    }
    if (!c->refs) {
        return c->nrows ? c->ends[c->nrows - 1] : 0;
    }
    uint64_t n = 0;
    for (uint32_t i = 0; i < c->nrows; i++) {
        n += c->refs[i].n;
    }
    return n;
}

/* Whole columns from builders have one valid bit set per row or fewer; a copy without nulls says
 * nothing, so it is left out and the same rows always give the same bytes. */
static bool has_nulls(const struct column *c)
{
    return c->valid && bits_count(c->valid, c->nrows) != c->nrows;
}

static uint64_t column_bytes(const struct column *c, uint64_t data)
{
    return BATCH_COL_HEAD + (has_nulls(c) ? bits_words(c->nrows) * 8 : 0) +
           (c->width ? 0 : (uint64_t)c->nrows * 8) + ROUND_UP(data, 8);
}

static bool put_var(const struct column *c, struct buf *out)
{
    if (!c->refs) {
        return buf_put(out, c->ends, (size_t)c->nrows * 8) &&
               buf_put(out, c->data, (size_t)data_bytes(c));
    }
    uint64_t end = 0;
    for (uint32_t i = 0; i < c->nrows; i++) {
        end += c->refs[i].n;
        if (!buf_put_u64(out, end)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < c->nrows; i++) {
        if (!buf_put_slice(out, c->refs[i])) {
            return false;
        }
    }
    return true;
}

static bool put_column(const struct column *c, uint64_t data, struct buf *out)
{
    bool nulls = has_nulls(c);
    bool ok = buf_put_u64(out, (uint64_t)c->field_id) && buf_put_u32(out, (uint32_t)c->type) &&
              buf_put_u32(out, (uint32_t)c->elem) && buf_put_u32(out, c->dim) &&
              buf_put_u32(out, nulls ? COL_HAS_VALID : 0) && buf_put_u64(out, data);
    if (ok && nulls) {
        ok = buf_put(out, c->valid, bits_words(c->nrows) * 8);
    }
    if (ok) {
        ok = c->width ? buf_put(out, c->data, (size_t)data) : put_var(c, out);
    }
    return ok && buf_put_zero(out, (size_t)(ROUND_UP(data, 8) - data));
}

bool batch_encode(const struct batch *b, struct buf *out)
{
    size_t start = out->n;
    uint64_t total = BATCH_HEAD;
    for (uint32_t i = 0; i < b->ncols; i++) {
        ASSERT(b->cols[i].nrows == b->nrows);
        total += column_bytes(&b->cols[i], data_bytes(&b->cols[i]));
    }
    bool ok = b->ncols <= BATCH_COLS_MAX && buf_reserve(out, (size_t)total) &&
              buf_put_u32(out, BATCH_MAGIC) && buf_put_u32(out, 0) && buf_put_u32(out, b->nrows) &&
              buf_put_u32(out, b->ncols) && buf_put_u64(out, total);
    for (uint32_t i = 0; ok && i < b->ncols; i++) {
        ok = put_column(&b->cols[i], data_bytes(&b->cols[i]), out);
    }
    ASSERT(!ok || out->n - start == total);
    if (!ok) {
        out->n = start;
        out->failed = true;
    }
    return ok;
}

/* ---- Decoding */

static bool all_zero(const uint8_t *p, size_t n)
{
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++) {
        any |= p[i];
    }
    return any == 0;
}

static bool type_ok(const struct column *c)
{
    if (!dtype_known((int)c->type) || c->type == DT_ARRAY_OF_STRUCT) {
        return false;
    }
    bool dense_elem = c->type == DT_ARRAY_OF_VECTOR;
    if (c->type == DT_ARRAY && c->elem != DT_VARCHAR &&
        (c->elem < DT_BOOL || c->elem > DT_DOUBLE || !dtype_known((int)c->elem))) {
        return false;
    }
    if (dense_elem && !dtype_is_dense(c->elem)) {
        return false;
    }
    if (dense_elem || dtype_is_dense(c->type)) {
        enum dtype t = dense_elem ? c->elem : c->type;
        return c->dim > 0 && (t != DT_BINARY_VECTOR || c->dim % 8 == 0);
    }
    return true;
}

static bool cell_ok(const struct column *c, struct slice cell)
{
    switch (c->type) {
    case DT_ARRAY:
        return array_cell_valid(c->elem, cell);
    case DT_SPARSE_FLOAT_VECTOR:
        return cell.n % 8 == 0;
    case DT_ARRAY_OF_VECTOR:
        return cell.n % dtype_width(c->elem, c->dim) == 0;
    default:
        return true;
    }
}

static int check_ends(const struct column *c, uint64_t data, struct status *st)
{
    int rc = 0;
    uint64_t prev = 0;
    for (uint32_t i = 0; i < c->nrows; i++) {
        if (c->ends[i] < prev || c->ends[i] > data) {
            FAIL(st, ST_CORRUPT,
                 "column batch: field %" PRId64 ", row %u: end offset %" PRIu64 " is out of order",
                 c->field_id, i, c->ends[i]);
        }
        prev = c->ends[i];
    }
    if (prev != data) {
        FAIL(st, ST_CORRUPT,
             "column batch: field %" PRId64 ": rows end at %" PRIu64 " of %" PRIu64 " bytes",
             c->field_id, prev, data);
    }
    if (c->type == DT_ARRAY || dtype_is_vector(c->type)) {
        for (uint32_t i = 0; i < c->nrows; i++) {
            if (!cell_ok(c, column_cell(c, i))) {
                FAIL(st, ST_CORRUPT, "column batch: field %" PRId64 ", row %u: damaged %s cell",
                     c->field_id, i, dtype_name(c->type));
            }
        }
    }
out:
    return rc;
}

static bool read_valid(struct reader *r, struct column *c)
{
    size_t words = bits_words(c->nrows);
    struct slice s;
    if (!reader_bytes(r, words * 8, &s)) {
        return false;
    }
    c->valid = (const uint64_t *)(const void *)s.p;
    unsigned tail = c->nrows & 63;
    return tail == 0 || c->valid[words - 1] >> tail == 0;
}

static int read_column(struct reader *r, uint32_t nrows, struct column *ret, struct status *st)
{
    int rc = 0;
    struct column c = {.nrows = nrows};
    uint64_t id, data, want;
    uint32_t type, elem, flags;
    struct slice s;
    if (!reader_u64(r, &id) || !reader_u32(r, &type) || !reader_u32(r, &elem) ||
        !reader_u32(r, &c.dim) || !reader_u32(r, &flags) || !reader_u64(r, &data)) {
        FAIL(st, ST_CORRUPT, "column batch: cut inside a column header");
    }
    c.field_id = (int64_t)id;
    c.type = (enum dtype)type;
    c.elem = (enum dtype)elem;
    if (!type_ok(&c) || (flags & ~(uint32_t)COL_HAS_VALID)) {
        FAIL(st, ST_CORRUPT,
             "column batch: field %" PRId64 ": no such column (type %u, element %u, "
             "dim %u, flags %u)",
             c.field_id, type, elem, c.dim, flags);
    }
    c.width = dtype_width(c.type, c.dim);
    if ((flags & COL_HAS_VALID) && !read_valid(r, &c)) {
        FAIL(st, ST_CORRUPT, "column batch: field %" PRId64 ": damaged null bits", c.field_id);
    }
    if (c.width) {
        if (__builtin_mul_overflow((uint64_t)c.width, nrows, &want) || want != data) {
            FAIL(st, ST_CORRUPT,
                 "column batch: field %" PRId64 ": %" PRIu64 " bytes for %u rows of "
                 "%zu",
                 c.field_id, data, nrows, c.width);
        }
    } else {
        if (!reader_bytes(r, (size_t)nrows * 8, &s)) {
            FAIL(st, ST_CORRUPT, "column batch: field %" PRId64 ": cut in the offsets", c.field_id);
        }
        c.ends = (const uint64_t *)(const void *)s.p;
    }
    if (data > SIZE_MAX - 7 || !reader_bytes(r, (size_t)ROUND_UP(data, 8), &s) ||
        !all_zero((const uint8_t *)s.p + data, (size_t)(ROUND_UP(data, 8) - data))) {
        FAIL(st, ST_CORRUPT, "column batch: field %" PRId64 ": damaged data section", c.field_id);
    }
    c.data = (const uint8_t *)s.p;
    if (!c.width) {
        TRY(check_ends(&c, data, st));
    }
    *ret = c;
out:
    return rc;
}

int batch_decode(struct slice bytes, struct arena *ar, struct batch *ret, struct status *st)
{
    int rc = 0;
    struct batch b = {0};
    if ((uintptr_t)bytes.p % 8 != 0) {
        bytes = arena_copy(ar, bytes);
        if (!bytes.p) {
            FAIL(st, ST_NO_MEMORY, "column batch of %zu bytes: no memory for a copy", bytes.n);
        }
    }
    struct reader r = reader_of(bytes);
    uint32_t magic, flags;
    uint64_t total;
    if (!reader_u32(&r, &magic) || !reader_u32(&r, &flags) || !reader_u32(&r, &b.nrows) ||
        !reader_u32(&r, &b.ncols) || !reader_u64(&r, &total)) {
        FAIL(st, ST_CORRUPT, "column batch: %zu bytes are no batch", bytes.n);
    }
    if (magic != BATCH_MAGIC || flags != 0 || total != bytes.n || b.ncols > BATCH_COLS_MAX) {
        FAIL(st, ST_CORRUPT,
             "column batch: damaged header (magic %08x, flags %u, %u columns, %" PRIu64
             " of %zu bytes)",
             magic, flags, b.ncols, total, bytes.n);
    }
    b.cols = arena_try_array(ar, b.ncols, sizeof *b.cols);
    if (!b.cols) {
        FAIL(st, ST_NO_MEMORY, "column batch: no memory for %u columns", b.ncols);
    }
    for (uint32_t i = 0; i < b.ncols; i++) {
        struct batch before = {.nrows = b.nrows, .ncols = i, .cols = b.cols};
        TRY(read_column(&r, b.nrows, &b.cols[i], st));
        if (batch_column(&before, b.cols[i].field_id)) {
            FAIL(st, ST_CORRUPT, "column batch: field %" PRId64 " occurs twice",
                 b.cols[i].field_id);
        }
    }
    if (reader_left(&r) != 0) {
        FAIL(st, ST_CORRUPT, "column batch: %zu bytes after the last column", reader_left(&r));
    }
    *ret = b;
out:
    return rc;
}
