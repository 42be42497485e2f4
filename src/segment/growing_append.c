/*
 * growing_append.c - adding rows to a growing segment.
 *
 * WHAT        Everything that can fail comes first (checks, chunks, room for bytes, room in the key
 *             map); then cells, timestamps and keys are written; the row count is stored last.
 * THREADS     The shard's single writer. Readers run at the same time: publication in seg_int.h.
 * FAILURE     On failure nothing is visible; reserved memory stays for the next append.
 */
#include "segment/growing_int.h"

/* Where a field's cells of this batch come from: a column, or one cell for every row. */
struct source {
    const struct column *col;
    bool null;
    struct slice cell;
};

static int column_source(const struct segment *seg, const struct seg_field *f,
                         const struct column *col, uint32_t nrows, struct source *ret,
                         struct status *st)
{
    if (col->type != f->type || col->elem != f->elem || col->width != f->width ||
        col->nrows != nrows) {
        return st_fail(st, ST_INVALID,
                       "%s: field %lld is %s of %zu bytes, the rows have %s of %zu bytes",
                       seg->name, (long long)f->id, dtype_name(f->type), f->width,
                       dtype_name(col->type), col->width);
    }
    if (col->valid && !f->nullable && bits_count(col->valid, nrows) != nrows) {
        return st_fail(st, ST_INVALID, "%s: field %lld may not be null", seg->name,
                       (long long)f->id);
    }
    *ret = (struct source){ .col = col };
    return 0;
}

static int absent_source(const struct segment *seg, const struct seg_field *f, struct source *ret,
                         struct status *st)
{
    const struct field *field = schema_field(seg_schema(seg), f->id);
    if (field && field->has_default) {
        *ret = (struct source){ .cell = field->default_cell };
        return 0;
    }
    if (f->nullable) {
        *ret = (struct source){ .null = true };
        return 0;
    }
    if (field && field->is_dynamic) {
        *ret = (struct source){ .cell = SLICE_LIT("{}") };
        return 0;
    }
    return st_fail(st, ST_INVALID, "%s: the rows lack field %lld", seg->name, (long long)f->id);
}

static int find_sources(const struct segment *seg, const struct batch *rows, struct source *src,
                        size_t *ret_bytes, struct status *st)
{
    size_t bytes = 0;
    int rc = 0;
    for (uint32_t i = 0; i < seg->nfields; i++) {
        const struct seg_field *f = &seg->fields[i];
        const struct column *col = batch_column(rows, f->id);
        if (!col) {
            TRY(absent_source(seg, f, &src[i], st));
            if (f->width && !src[i].null && src[i].cell.n != f->width) {
                FAIL(st, ST_INVALID, "%s: default of field %lld has %zu bytes", seg->name,
                     (long long)f->id, src[i].cell.n);
            }
            continue;
        }
        TRY(column_source(seg, f, col, rows->nrows, &src[i], st));
        for (uint32_t r = 0; !f->width && r < rows->nrows; r++) {
            if (!column_is_null(col, r) && !add_size(bytes, column_cell(col, r).n, &bytes)) {
                FAIL(st, ST_TOO_LARGE, "%s: a batch is too large", seg->name);
            }
        }
    }
    *ret_bytes = bytes;
out:
    return rc;
}

/* Rows [from, from + n) of the source become rows at.. of the chunk. */
struct run {
    struct seg_chunk *chunk;
    uint32_t at, from, n;
};

static void put_fixed(struct seg_cells *c, size_t width, const struct source *src, struct run r)
{
    uint8_t *to = c->data + r.at * width;
    if (src->col) {
        memcpy(to, src->col->data + (size_t)r.from * width, r.n * width);
    } else if (src->null) {
        memset(to, 0, r.n * width);
    } else {
        for (uint32_t i = 0; i < r.n; i++) {
            memcpy(to + i * width, src->cell.p, width);
        }
    }
}

static void put_var(struct seg_cells *c, const struct source *src, struct run r, uint8_t **bytes)
{
    for (uint32_t i = 0; i < r.n; i++) {
        struct slice cell = src->cell; /* a default lives as long as the schema */
        if (src->col) {
            cell = (struct slice){ 0 };
            if (!column_is_null(src->col, r.from + i)) {
                cell = column_cell(src->col, r.from + i);
            }
            if (cell.n) {
                memcpy(*bytes, cell.p, cell.n);
                cell.p = (const char *)*bytes;
                *bytes += cell.n;
            }
        }
        c->refs[r.at + i] = cell;
    }
}

static void put_valid(struct seg_cells *c, const struct source *src, struct run r)
{
    uint32_t nulls = 0;
    for (uint32_t i = 0; i < r.n; i++) {
        if (src->null || (src->col && column_is_null(src->col, r.from + i))) {
            nulls++;
            continue;
        }
        uint32_t at = r.at + i;
        /* Readers may copy this word for the rows before; only the writer changes it. */
        uint64_t w = atomic_load_explicit(&c->valid[at / 64], memory_order_relaxed);
        atomic_store_explicit(&c->valid[at / 64], w | UINT64_C(1) << (at % 64),
                              memory_order_relaxed);
    }
    if (nulls) {
        atomic_fetch_add_explicit(&c->nulls, nulls, memory_order_relaxed);
    }
}

static void put_rows(struct segment *seg, const struct source *src, struct run r, const hts *ts,
                     hts ts0, uint8_t **bytes)
{
    size_t touched = r.n * (sizeof *r.chunk->ts + sizeof *r.chunk->older);
    for (uint32_t i = 0; i < seg->nfields; i++) {
        const struct seg_field *f = &seg->fields[i];
        struct seg_cells *c = &r.chunk->cells[i];
        if (f->width) {
            put_fixed(c, f->width, &src[i], r);
        } else {
            put_var(c, &src[i], r, bytes);
        }
        if (c->valid) {
            put_valid(c, &src[i], r);
        }
        touched += r.n * (f->width ? f->width : sizeof(struct slice));
    }
    hts lo = ts ? ts[r.from] : ts0, hi = lo;
    for (uint32_t i = 0; i < r.n; i++) {
        hts t = ts ? ts[r.from + i] : ts0;
        r.chunk->ts[r.at + i] = t;
        lo = MIN(lo, t);
        hi = MAX(hi, t);
    }
    if (r.at == 0 || lo < atomic_load_explicit(&r.chunk->min_ts, memory_order_relaxed)) {
        atomic_store_explicit(&r.chunk->min_ts, lo, memory_order_relaxed);
    }
    if (r.at == 0 || hi > atomic_load_explicit(&r.chunk->max_ts, memory_order_relaxed)) {
        atomic_store_explicit(&r.chunk->max_ts, hi, memory_order_relaxed);
    }
    seg__add_memory(seg, touched);
}

static void widen_bounds(struct segment *seg, const hts *ts, uint32_t n, hts ts0,
                         uint64_t first_position, uint64_t last_position)
{
    hts lo = ts ? ts[0] : ts0, hi = lo;
    for (uint32_t i = 0; ts && i < n; i++) {
        lo = MIN(lo, ts[i]);
        hi = MAX(hi, ts[i]);
    }
    bool first = seg__nrows(seg) == 0;
    if (first || lo < atomic_load_explicit(&seg->min_ts, memory_order_relaxed)) {
        atomic_store_explicit(&seg->min_ts, lo, memory_order_relaxed);
    }
    if (first || hi > atomic_load_explicit(&seg->max_ts, memory_order_relaxed)) {
        atomic_store_explicit(&seg->max_ts, hi, memory_order_relaxed);
    }
    if (first) {
        atomic_store_explicit(&seg->first_position, first_position, memory_order_relaxed);
    }
    atomic_store_explicit(&seg->last_position, last_position, memory_order_relaxed);
}

static int append(struct segment *seg, const struct batch *rows, const hts *ts, hts ts0,
                  uint64_t first_position, uint64_t last_position, struct status *st)
{
    uint32_t nrows = seg__nrows(seg), n = rows->nrows;
    struct arena *ar = NULL;
    size_t nbytes = 0;
    int rc = 0;
    if (n == 0) {
        goto out;
    }
    if (seg->sealed) {
        FAIL(st, ST_INVALID, "%s is sealed", seg->name);
    }
    if (n > SEG_ROWS_MAX - nrows) {
        FAIL(st, ST_TOO_LARGE, "%s would have more than %u rows", seg->name, SEG_ROWS_MAX);
    }
    ar = arena_new(0);
    struct source *src = arena_alloc(ar, (seg->nfields + 1) * sizeof *src);
    TRY(find_sources(seg, rows, src, &nbytes, st));
    if (!src[seg->pk].col) {
        FAIL(st, ST_INVALID, "%s: the rows have no primary key", seg->name);
    }
    uint8_t *bytes = NULL;
    if (!seg__growing_reserve(seg, nrows + n) || !seg__keymap_reserve(seg, n) ||
        (nbytes && !(bytes = seg__growing_bytes(seg, nbytes)))) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory for %u more rows", seg->name, n);
    }
    for (uint32_t done = 0; done < n;) {
        struct run r = { .from = done };
        r.chunk = seg__dir_get(&seg->g.chunks, seg__chunk_of(nrows + done));
        r.at = nrows + done - r.chunk->row0;
        r.n = MIN(n - done, r.chunk->cap - r.at);
        put_rows(seg, src, r, ts, ts0, &bytes);
        done += r.n;
    }
    seg__keymap_add(seg, nrows, nrows + n);
    widen_bounds(seg, ts, n, ts0, first_position, last_position);
    atomic_store_explicit(&seg->nrows, nrows + n, memory_order_release); /* seg__nrows() */
    seg__codes_append(seg, nrows + n, n);
out:
    arena_free(ar);
    return rc;
}

int seg_append(struct segment *seg, const struct batch *rows, hts ts, uint64_t position,
               struct status *st)
{
    return append(seg, rows, NULL, ts, position, position, st);
}

int seg_append_at(struct segment *seg, const struct batch *rows, const hts *ts,
                  uint64_t first_position, uint64_t last_position, struct status *st)
{
    return append(seg, rows, ts, 0, first_position, last_position, st);
}
