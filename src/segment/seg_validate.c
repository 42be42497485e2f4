/*
 * seg_validate.c - every structure of a segment against itself.
 *
 * WHAT        Sealed: checksums of all blocks, zeros between them, then what checksums cannot say
 *             of a file that was written wrongly: offsets, null counts, cells, the order of keys,
 *             keys missing from the filter, bounds of timestamps. Growing: chunks, bounds, and that
 *             every row is found by its key, once.
 *             Both: delete pages against the row count and the insert timestamps.
 * THREADS     Any; a growing segment may be appended to meanwhile (published rows are checked).
 *             Not beside seg_delete(): the number of deleted rows is compared.
 */
#include "base/alloc.h"
#include "segment/seg_int.h"

static int check_timestamps(const struct segment *seg, uint32_t nrows, struct status *st)
{
    hts min_ts = atomic_load_explicit(&seg->min_ts, memory_order_relaxed);
    hts max_ts = atomic_load_explicit(&seg->max_ts, memory_order_relaxed);
    bool at_min = false, at_max = false;
    for (uint32_t i = 0; i < nrows; i++) {
        hts ts = seg__row_ts(seg, i);
        at_min |= ts == min_ts;
        at_max |= ts == max_ts;
        if (ts < min_ts || ts > max_ts) {
            return st_fail(st, ST_CORRUPT, "%s: timestamp of row %u is out of the bounds",
                           seg->name, i);
        }
    }
    /* A growing segment's bounds may be those of rows not published yet. */
    if (seg->sealed && nrows && !(at_min && at_max)) {
        return st_fail(st, ST_CORRUPT, "%s: bounds of the timestamps are not tight", seg->name);
    }
    return 0;
}

static int check_deletes(const struct segment *seg, uint32_t nrows, struct status *st)
{
    uint32_t n = 0;
    for (uint32_t p = 0; p < SEG_ROWS_MAX / SEG_PAGE_ROWS; p++) {
        const struct seg_page *page = seg__dir_get(&seg->dels.pages, p);
        for (uint32_t i = 0; page && i < SEG_PAGE_ROWS; i++) {
            hts ts = atomic_load_explicit(&page->ts[i], memory_order_relaxed);
            uint64_t any = atomic_load_explicit(&page->any[i / 64], memory_order_relaxed);
            uint32_t row = p * SEG_PAGE_ROWS + i;
            if (((any >> (i % 64)) & 1) != (ts != 0) || (ts && row >= nrows) ||
                ts > atomic_load_explicit(&page->max_ts, memory_order_relaxed) ||
                (ts && ts <= seg__row_ts(seg, row))) {
                return st_fail(st, ST_CORRUPT, "%s: delete mark of row %u is wrong", seg->name,
                               row);
            }
            n += ts != 0;
        }
    }
    if (n != atomic_load_explicit(&seg->dels.rows, memory_order_relaxed)) {
        return st_fail(st, ST_CORRUPT, "%s: number of deleted rows is wrong", seg->name);
    }
    return 0;
}

static int check_column(const struct segment *seg, uint32_t f, struct status *st)
{
    const struct column *col = &seg->s.cols[f];
    const struct sf_column *c = &seg->s.file.cols[seg->s.file_col[f]];
    long long id = (long long)col->field_id;
    int rc;
    TRY(seg__check_column(seg, f, true, st));
    if (col->valid) {
        uint64_t tail = col->nrows % 64 ? col->valid[col->nrows / 64] >> (col->nrows % 64) : 0;
        if (tail || col->nrows - bits_count(col->valid, col->nrows) != c->nulls) {
            FAIL(st, ST_CORRUPT, "%s: null bits of field %lld do not fit their count", seg->name,
                 id);
        }
        for (uint32_t i = 0; !col->width && i < col->nrows; i++) {
            if (column_is_null(col, i) && column_cell(col, i).n) {
                FAIL(st, ST_CORRUPT, "%s: row %u of field %lld is null and has bytes", seg->name, i,
                     id);
            }
        }
    }
    for (uint32_t i = 0; col->type == DT_BOOL && i < col->nrows; i++) {
        if (col->data[i] > 1) {
            FAIL(st, ST_CORRUPT, "%s: row %u of field %lld is no Bool", seg->name, i, id);
        }
    }
out:
    return rc;
}

static int check_keys(const struct segment *seg, uint32_t nrows, struct status *st)
{
    const struct seg_sealed *s = &seg->s;
    uint64_t *seen = alloc_try_zero((bits_words(nrows) + 1) * 8);
    struct seg_sort last = { 0 };
    int rc = 0;
    if (!seen) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory to check %u keys", seg->name, nrows);
    }
    for (uint32_t i = 0; i < nrows; i++) {
        uint32_t row = s->order[i];
        if (row >= nrows || bit_get(seen, row)) {
            FAIL(st, ST_CORRUPT, "%s: key order names row %u twice or out of %u", seg->name, row,
                 nrows);
        }
        bit_set(seen, row);
        struct seg_sort it = { seg__key_prefix(seg, row), row };
        int c = i ? seg__key_cmp(seg, &last, &it) : -1;
        hts newer = i ? seg__row_ts(seg, last.row) : 0, older = seg__row_ts(seg, row);
        if (c > 0 || (c == 0 && (newer < older || (newer == older && last.row < row)))) {
            FAIL(st, ST_CORRUPT, "%s: keys are out of order at row %u", seg->name, row);
        }
        if (!seg__bloom_maybe(s->filter, s->filter_blocks,
                              seg__key_hash(seg__cell(seg, seg->pk, row)))) {
            FAIL(st, ST_CORRUPT, "%s: the key filter lacks row %u", seg->name, row);
        }
        last = it;
    }
out:
    mem_free(seen);
    return rc;
}

static int check_sealed(const struct segment *seg, uint32_t nrows, struct status *st)
{
    const struct seg_sealed *s = &seg->s;
    struct sf_file again;
    int rc;
    TRY(sf_parse(s->bytes, s->nbytes, seg->name, &again, st));
    TRY(sf_check_blocks(&again, s->bytes, seg->name, st));
    for (uint32_t f = 0; f < seg->nfields; f++) {
        TRY(check_column(seg, f, st));
    }
    TRY(check_keys(seg, nrows, st));
out:
    return rc;
}

struct seek {
    uint32_t row, hits;
};

/* seg_row_fn */
static int seek_row(void *ctx, uint32_t row, struct status *st)
{
    struct seek *s = ctx;
    (void)st;
    s->hits += row == s->row;
    return 0;
}

static int check_chunk(const struct segment *seg, uint32_t i, uint32_t nrows, struct status *st)
{
    const struct seg_chunk *chunk = seg__dir_get(&seg->g.chunks, i);
    if (!chunk || chunk->row0 != seg__chunk_row0(i) || chunk->cap != seg__chunk_cap(i)) {
        return st_fail(st, ST_CORRUPT, "%s: chunk %u is missing or misplaced", seg->name, i);
    }
    for (uint32_t f = 0; f < seg->nfields; f++) {
        const struct seg_cells *c = &chunk->cells[f];
        if (!c->data == !c->refs || !c->valid == seg->fields[f].nullable) {
            return st_fail(st, ST_CORRUPT, "%s: chunk %u lacks cells of field %lld", seg->name, i,
                           (long long)seg->fields[f].id);
        }
        for (uint32_t r = 0; r < chunk->cap && chunk->row0 + r < nrows; r++) {
            bool null = seg__cell_null(seg, f, chunk->row0 + r);
            struct slice cell = seg__cell(seg, f, chunk->row0 + r);
            if ((null && c->refs && cell.n) || (!null && !seg__cell_valid(&seg->fields[f], cell))) {
                return st_fail(st, ST_CORRUPT, "%s: field %lld of row %u is damaged", seg->name,
                               (long long)seg->fields[f].id, chunk->row0 + r);
            }
        }
    }
    return 0;
}

static int check_growing(const struct segment *seg, uint32_t nrows, struct status *st)
{
    int rc = 0;
    bool locked = false;
    for (uint32_t i = 0; i < seg__nspans(seg, nrows); i++) {
        TRY(check_chunk(seg, i, nrows, st));
    }
    TRY(seg__keys_lock(seg, st));
    locked = true;
    for (uint32_t row = 0; row < nrows; row++) {
        struct seek s = { .row = row };
        TRY(seg__key_rows(seg, seg__cell(seg, seg->pk, row), nrows, seek_row, &s, st));
        if (s.hits != 1) {
            FAIL(st, ST_CORRUPT, "%s: row %u is found %u times by its key", seg->name, row,
                 s.hits);
        }
    }
out:
    if (locked) {
        seg__keys_unlock(seg);
    }
    return rc;
}

int seg_validate(const struct segment *seg, struct status *st)
{
    uint32_t nrows = seg__nrows(seg);
    int rc;
    TRY(seg->sealed ? check_sealed(seg, nrows, st) : check_growing(seg, nrows, st));
    TRY(check_timestamps(seg, nrows, st));
    TRY(check_deletes(seg, nrows, st));
out:
    return rc;
}
