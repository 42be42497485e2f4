/*
 * sealed_write.c - rows of segments as a segment file.
 *
 * WHAT        One object per segment, streamed column by column through one piece of memory: a
 *             flush costs one put and one sync. What is written is a list of parts: all rows of a
 *             growing segment (a flush), or chosen rows of several sealed ones (seg_merge.c), or all
 *             rows of one in an order of its own. Rows that lie together go on together, straight from
 *             where they lie. Deletes are not written: they live in the shard's delete files.
 * FORMAT      docs/format.md "Segment files".
 * INVARIANTS  Bytes of a file go into another only after their checksum was found to fit: the new
 *             one gets a checksum of its own, behind which damage would never be found again.
 * THREADS     Any, beside the writer and readers: works on the rows published at the start.
 * MEMORY      SF_PIECE bytes, 1.5 bytes a row for the filter; a flush 16 bytes a row for sorting keys.
 * FAILURE     The object appears whole or not at all (object.h); a crash leaves nothing visible.
 */
#include "segment/sealed_write.h"
#include "base/alloc.h"

struct out_file {
    struct object_writer *ow;
    uint64_t pos;
    uint8_t *piece;
    size_t used;
    struct sf_block *block; /* being written */
};

struct seg_writer {
    const struct seg_write *w;
    struct out_file o;
    struct sf_footer footer;
    struct sf_column *cols;
    struct arena *tmp;
    uint64_t end;   /* of the last cell: put_ends() */
    uint64_t word;  /* null bits that are no whole word yet: put_valid_bits() */
    uint32_t nbits; /* in it */
};

static int piece_out(struct seg_writer *j, const uint8_t *p, size_t n, struct status *st)
{
    struct out_file *o = &j->o;
    int rc;
    TRY(seg__write_check(j->w, st));
    o->block->sum = sf_sum_add(o->block->sum, p, n);
    TRY(object_append(o->ow, p, n, st));
    o->pos += n;
out:
    return rc;
}

static int flush_piece(struct seg_writer *j, struct status *st)
{
    size_t n = j->o.used;
    j->o.used = 0;
    return n ? piece_out(j, j->o.piece, n, st) : 0;
}

static int put(struct seg_writer *j, const void *p, size_t n, struct status *st)
{
    struct out_file *o = &j->o;
    const uint8_t *from = p;
    int rc = 0;
    while (n) {
        if (o->used == 0 && n >= SF_PIECE) { /* whole pieces go without a copy */
            TRY(piece_out(j, from, SF_PIECE, st));
            from += SF_PIECE;
            n -= SF_PIECE;
            continue;
        }
        size_t k = MIN(n, SF_PIECE - o->used);
        memcpy(o->piece + o->used, from, k);
        o->used += k;
        from += k;
        n -= k;
        if (o->used == SF_PIECE) {
            TRY(flush_piece(j, st));
        }
    }
out:
    return rc;
}

static void block_begin(struct seg_writer *j, struct sf_block *b)
{
    *b = (struct sf_block){ .off = j->o.pos };
    j->o.block = b;
}

static int block_end(struct seg_writer *j, struct status *st)
{
    static const uint8_t zeros[SF_ALIGN];
    struct out_file *o = &j->o;
    int rc;
    TRY(flush_piece(j, st));
    o->block->len = o->pos - o->block->off;
    size_t pad = (size_t)(ROUND_UP(o->pos, (uint64_t)SF_ALIGN) - o->pos);
    if (pad) {
        TRY(object_append(o->ow, zeros, pad, st));
        o->pos += pad;
    }
out:
    return rc;
}

/* ---- Rows of the parts ---- */

/* A span of a part. */
struct rows {
    const struct seg_part *part;
    struct seg_span sp;
};

/* Calls fn for every span, in order. j->tmp is fn's. */
typedef int rows_fn(struct seg_writer *j, struct sf_column *c, const struct rows *r,
                    struct status *st);
static int each(struct seg_writer *j, rows_fn *fn, struct sf_column *c, struct status *st)
{
    int rc = 0;
    for (size_t p = 0; p < j->w->nparts; p++) {
        const struct seg_part *part = &j->w->parts[p];
        uint32_t nspans = part->nkept ? seg__nspans(part->seg, part->nrows) : 0;
        for (uint32_t s = 0; s < nspans; s++) {
            struct rows r = { part, seg__span(part->seg, s, part->nrows) };
            arena_reset(j->tmp);
            TRY(fn(j, c, &r, st));
        }
    }
out:
    return rc;
}

/* Rows that go on together; from { 0 } on, next_run() makes it the following ones. */
struct run {
    uint32_t at;   /* the first of them */
    uint32_t next; /* place to look on from */
};

static uint32_t laid_run(const struct rows *r, struct run *run)
{
    const uint32_t *laid = r->part->laid + run->next;
    uint32_t left = r->sp.nrows - run->next, n = 0;
    run->at = left ? laid[0] : 0;
    while (n < left && laid[n] == run->at + n) {
        n++;
    }
    run->next += n;
    return n;
}

/* How many they are, 0 at the end. */
static uint32_t next_run(const struct rows *r, struct run *run)
{
    const uint64_t *keep = r->part->keep;
    uint32_t nrows = r->sp.nrows;
    if (r->part->laid) {
        return laid_run(r, run);
    }
    if (!keep) {
        run->at = run->next;
        run->next = nrows;
        return nrows - run->at;
    }
    uint32_t from = (uint32_t)bits_next(keep, nrows, run->next), end = from;
    while (end < nrows) {
        uint64_t zeros = ~keep[end / 64] >> (end % 64);
        if (zeros) {
            end += (uint32_t)__builtin_ctzll(zeros);
            break;
        }
        end = (end / 64 + 1) * 64;
    }
    run->at = from;
    run->next = MIN(end, nrows);
    return run->next - from;
}

/* A field's cells in a span: a column, or the same cell for every row. */
struct cells {
    bool absent, null;
    struct slice cell;
    struct column col;
};

static int absent_cells(struct seg_writer *j, const struct seg_field *f, struct cells *ret,
                        struct status *st)
{
    const struct field *field = schema_field(j->w->schema, f->id);
    bool null = !field || !field->has_default;
    struct cells cl = { .absent = true, .null = null };
    int rc = 0;
    if (!null) {
        cl.cell = field->default_cell;
    } else if (f->width) {
        cl.cell = slice_n(arena_try_array(j->tmp, 1, f->width), f->width);
        if (!cl.cell.p) {
            FAIL(st, ST_NO_MEMORY, "%s: no memory for a cell of field %lld", j->w->name,
                 (long long)f->id);
        }
    }
    if (f->width && cl.cell.n != f->width) {
        FAIL(st, ST_INVALID, "%s: default of field %lld has %zu bytes, its type has %zu",
             j->w->name, (long long)f->id, cl.cell.n, f->width);
    }
    *ret = cl;
out:
    return rc;
}

/* check_cells: Array and sparse cells too. */
static int cells_of(struct seg_writer *j, const struct sf_column *c, const struct rows *r,
                    bool check_cells, struct cells *ret, struct status *st)
{
    const struct seg_field *f = &j->w->fields[c - j->cols];
    const struct segment *seg = r->part->seg;
    int at = seg__field(seg, f->id);
    if (at < 0) {
        return absent_cells(j, f, ret, st);
    }
    const struct seg_field *have = &seg->fields[at];
    if (have->type != f->type || have->elem != f->elem || have->dim != f->dim) {
        return st_fail(st, ST_INVALID, "%s: field %lld is %s(%u), in %s it is %s(%u)", j->w->name,
                       (long long)f->id, dtype_name(f->type), f->dim, seg->name,
                       dtype_name(have->type), have->dim);
    }
    ret->absent = false;
    return seg__span_column(&r->sp, (uint32_t)at, check_cells, j->tmp, &ret->col, st);
}

static uint32_t nulls_of(const struct cells *cl, const struct rows *r)
{
    uint32_t nrows = r->sp.nrows, n = 0;
    const uint64_t *keep = r->part->keep, *valid = cl->col.valid;
    if (cl->absent) {
        return !cl->null ? 0 : keep ? r->part->nkept : nrows;
    }
    for (uint32_t i = 0; valid && i < bits_words(nrows); i++) {
        uint64_t rows = keep ? keep[i] : ~UINT64_C(0);
        if (!keep && nrows - i * 64 < 64) {
            rows = (UINT64_C(1) << (nrows % 64)) - 1;
        }
        n += (uint32_t)__builtin_popcountll(rows & ~valid[i]);
    }
    return n;
}

/* ---- Columns ---- */

int seg__check_block(const struct seg_write *w, const struct segment *seg,
                     const struct sf_block *b, const char *what, int64_t field_id,
                     struct status *st)
{
    uint64_t sum = 0;
    int rc = 0;
    for (uint64_t at = 0; at < b->len; at += SF_PIECE) {
        TRY(seg__write_check(w, st));
        sum = sf_sum_add(sum, seg->s.bytes + b->off + at, (size_t)MIN(b->len - at, SF_PIECE));
    }
    if (sum != b->sum) {
        FAIL(st, ST_CORRUPT, "%s: %s of field %lld at offset %llu is damaged", seg->name, what,
             (long long)field_id, (unsigned long long)b->off);
    }
out:
    return rc;
}

static int check_column(struct seg_writer *j, const struct sf_column *c, const struct segment *seg,
                        struct status *st)
{
    int at = seg__field(seg, c->field_id), rc = 0;
    if (!seg->sealed || at < 0) {
        goto out;
    }
    const struct sf_column *in = &seg->s.file.cols[seg->s.file_col[at]];
    TRY(seg__check_block(j->w, seg, &in->data, "data", c->field_id, st));
    TRY(seg__check_block(j->w, seg, &in->ends, "offsets", c->field_id, st));
    TRY(seg__check_block(j->w, seg, &in->valid, "null bits", c->field_id, st));
out:
    return rc;
}

static int put_cells(struct seg_writer *j, const struct cells *cl, uint32_t at, uint32_t n,
                     struct status *st)
{
    const struct column *col = &cl->col;
    int rc = 0;
    if (!cl->absent && col->width) {
        return put(j, col->data + (size_t)at * col->width, (size_t)n * col->width, st);
    }
    if (!cl->absent && col->ends) {
        uint64_t from = at ? col->ends[at - 1] : 0;
        return put(j, col->data + from, (size_t)(col->ends[at + n - 1] - from), st);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct slice cell = cl->absent ? cl->cell : column_cell(col, at + i);
        TRY(put(j, cell.p, cell.n, st));
    }
out:
    return rc;
}

/* rows_fn */
static int data_of(struct seg_writer *j, struct sf_column *c, const struct rows *r,
                   struct status *st)
{
    struct cells cl;
    int rc;
    TRY(check_column(j, c, r->part->seg, st));
    TRY(cells_of(j, c, r, true, &cl, st));
    c->nulls += nulls_of(&cl, r);
    struct run run = { 0 };
    for (uint32_t n; (n = next_run(r, &run)) > 0;) {
        TRY(put_cells(j, &cl, run.at, n, st));
    }
out:
    return rc;
}

/* rows_fn */
static int ends_of(struct seg_writer *j, struct sf_column *c, const struct rows *r,
                   struct status *st)
{
    struct cells cl;
    int rc;
    TRY(cells_of(j, c, r, false, &cl, st));
    struct run run = { 0 };
    for (uint32_t n; (n = next_run(r, &run)) > 0;) {
        for (uint32_t i = 0; i < n; i++) {
            j->end += cl.absent ? cl.cell.n : column_cell(&cl.col, run.at + i).n;
            TRY(put(j, &j->end, sizeof j->end, st));
        }
    }
out:
    return rc;
}

/* n bits of w from bit `from` on, at most 64. */
static uint64_t bits_at(const uint64_t *w, uint32_t from, uint32_t n)
{
    uint32_t shift = from % 64;
    uint64_t v = w[from / 64] >> shift;
    if (shift + n > 64) {
        v |= w[from / 64 + 1] << (64 - shift);
    }
    return n < 64 ? v & ((UINT64_C(1) << n) - 1) : v;
}

static int put_bits(struct seg_writer *j, const uint64_t *w, uint32_t from, uint32_t n,
                    struct status *st)
{
    int rc = 0;
    while (n) {
        uint32_t k = MIN(n, 64 - j->nbits);
        j->word |= bits_at(w, from, k) << j->nbits;
        j->nbits += k;
        from += k;
        n -= k;
        if (j->nbits == 64) {
            TRY(put(j, &j->word, sizeof j->word, st));
            j->word = 0;
            j->nbits = 0;
        }
    }
out:
    return rc;
}

/* rows_fn */
static int valid_of(struct seg_writer *j, struct sf_column *c, const struct rows *r,
                    struct status *st)
{
    struct cells cl;
    int rc;
    TRY(cells_of(j, c, r, false, &cl, st));
    const uint64_t *valid = cl.absent ? NULL : cl.col.valid;
    if (!valid) {
        uint64_t *same = arena_try_array(j->tmp, bits_words(r->sp.nrows), sizeof *same);
        if (!same) {
            FAIL(st, ST_NO_MEMORY, "%s: no memory for null bits", j->w->name);
        }
        bits_fill(same, r->sp.nrows, !cl.absent || !cl.null);
        valid = same;
    }
    struct run run = { 0 };
    for (uint32_t n; (n = next_run(r, &run)) > 0;) {
        TRY(put_bits(j, valid, run.at, n, st));
    }
out:
    return rc;
}

static int put_valid_bits(struct seg_writer *j, struct sf_column *c, struct status *st)
{
    int rc = 0;
    j->word = 0;
    j->nbits = 0;
    block_begin(j, &c->valid);
    if (c->nulls) {
        TRY(each(j, valid_of, c, st));
    }
    if (j->nbits) {
        TRY(put(j, &j->word, sizeof j->word, st));
    }
    TRY(block_end(j, st));
out:
    return rc;
}

static int put_columns(struct seg_writer *j, struct status *st)
{
    int rc = 0;
    for (uint32_t f = 0; f < j->w->nfields; f++) {
        const struct seg_field *sf = &j->w->fields[f];
        struct sf_column *c = &j->cols[f];
        *c = (struct sf_column){ .field_id = sf->id,
                                 .type = (uint32_t)sf->type,
                                 .elem = (uint32_t)sf->elem,
                                 .dim = sf->dim,
                                 .width = (uint32_t)sf->width };
        block_begin(j, &c->data);
        TRY(each(j, data_of, c, st));
        TRY(block_end(j, st));
        j->end = 0;
        block_begin(j, &c->ends);
        if (!c->width) {
            TRY(each(j, ends_of, c, st));
        }
        TRY(block_end(j, st));
        TRY(put_valid_bits(j, c, st));
    }
out:
    return rc;
}

/* ---- Timestamps, keys ---- */

/* rows_fn */
static int ts_bounds_of(struct seg_writer *j, struct sf_column *c, const struct rows *r,
                        struct status *st)
{
    struct sf_footer *ft = &j->footer;
    (void)c;
    (void)st;
    struct run run = { 0 };
    for (uint32_t n; (n = next_run(r, &run)) > 0;) {
        for (uint32_t i = 0; i < n; i++) {
            hts ts = r->sp.ts ? r->sp.ts[run.at + i] : r->sp.ts0;
            ft->min_ts = MIN(ft->min_ts, ts);
            ft->max_ts = MAX(ft->max_ts, ts);
        }
    }
    return 0;
}

/* rows_fn */
static int ts_of(struct seg_writer *j, struct sf_column *c, const struct rows *r, struct status *st)
{
    int rc = 0;
    (void)c;
    struct run run = { 0 };
    for (uint32_t n; (n = next_run(r, &run)) > 0;) {
        if (r->sp.ts) {
            TRY(put(j, r->sp.ts + run.at, n * sizeof *r->sp.ts, st));
            continue;
        }
        for (uint32_t i = 0; i < n; i++) {
            TRY(put(j, &r->sp.ts0, sizeof r->sp.ts0, st));
        }
    }
out:
    return rc;
}

static int put_timestamps(struct seg_writer *j, struct status *st)
{
    struct sf_footer *ft = &j->footer;
    int rc;
    ft->min_ts = j->w->nrows ? UINT64_MAX : 0;
    TRY(each(j, ts_bounds_of, NULL, st));
    block_begin(j, &ft->ts);
    if (ft->min_ts != ft->max_ts) {
        TRY(each(j, ts_of, NULL, st));
    }
    TRY(block_end(j, st));
out:
    return rc;
}

int seg__put_order(struct seg_writer *out, const uint32_t *rows, size_t n, struct status *st)
{
    return put(out, rows, n * sizeof *rows, st);
}

static int put_keys(struct seg_writer *j, struct status *st)
{
    uint32_t nblocks = seg__bloom_blocks(j->w->nrows);
    uint32_t *filter = alloc_try_zero((size_t)nblocks * 32);
    int rc;
    if (!filter) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory for a filter of %u keys", j->w->name, j->w->nrows);
    }
    block_begin(j, &j->footer.order);
    TRY(j->w->order(j->w, j, filter, nblocks, st));
    TRY(block_end(j, st));
    block_begin(j, &j->footer.filter);
    TRY(put(j, filter, (size_t)nblocks * 32, st));
    TRY(block_end(j, st));
out:
    mem_free(filter);
    return rc;
}

/* ---- The file ---- */

static int put_header(struct seg_writer *j, struct status *st)
{
    struct sf_header h = { .version = SF_VERSION,
                           .segment_id = j->w->id,
                           .collection_id = j->w->collection_id,
                           .partition_id = j->w->partition_id };
    memcpy(h.magic, SF_MAGIC, sizeof h.magic);
    h.sum = hash64(&h, offsetof(struct sf_header, sum));
    j->o.pos = sizeof h;
    return object_append(j->o.ow, &h, sizeof h, st);
}

static int put_footer(struct seg_writer *j, struct status *st)
{
    struct sf_footer *ft = &j->footer;
    struct sf_trailer t = { .footer_off = j->o.pos, .version = SF_VERSION };
    struct buf b;
    int rc;
    ft->nrows = j->w->nrows;
    ft->ncols = j->w->nfields;
    ft->pk_field_id = j->w->fields[j->w->pk].id;
    buf_init(&b, (size_t)64 << 20);
    buf_put(&b, ft, sizeof *ft);
    buf_put(&b, j->cols, ft->ncols * sizeof *j->cols);
    t.footer_len = b.n;
    t.footer_sum = hash64(b.p, b.n);
    t.total_len = t.footer_off + t.footer_len + sizeof t;
    memcpy(t.magic, SF_END_MAGIC, sizeof t.magic);
    t.sum = hash64(&t, offsetof(struct sf_trailer, sum));
    buf_put(&b, &t, sizeof t);
    if (b.failed) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory for the footer", j->w->name);
    }
    TRY(object_append(j->o.ow, b.p, b.n, st));
    j->o.pos += b.n;
out:
    buf_done(&b);
    return rc;
}

int seg__write(const struct seg_write *w, struct object_store *os, const char *prefix,
               struct seg_merged *ret, struct status *st)
{
    struct seg_writer j = { .w = w };
    char *key = path_join(prefix, SF_FILE_NAME);
    int rc;
    j.tmp = arena_new(SEG_TMP_MAX);
    j.cols = xalloc((w->nfields + 1) * sizeof *j.cols);
    j.footer.first_position = w->first_position;
    j.footer.last_position = w->last_position;
    j.o.piece = alloc_try(SF_PIECE);
    if (!j.o.piece) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory to write", w->name);
    }
    TRY(object_writer_open(os, slice_of(key), &j.o.ow, st));
    TRY(put_header(&j, st));
    TRY(put_columns(&j, st));
    TRY(put_timestamps(&j, st));
    TRY(put_keys(&j, st));
    TRY(put_footer(&j, st));
    TRY(object_commit(TAKE(j.o.ow), st));
    *ret = (struct seg_merged){ .nrows = w->nrows,
                                .bytes = j.o.pos,
                                .min_ts = j.footer.min_ts,
                                .max_ts = j.footer.max_ts };
out:
    object_abort(j.o.ow);
    mem_free(j.o.piece);
    mem_free(j.cols);
    arena_free(j.tmp);
    mem_free(key);
    return rc;
}

/* seg_order_fn: of one segment, by sorting. */
static int sorted_order(const struct seg_write *w, struct seg_writer *out, uint32_t *filter,
                        uint32_t nblocks, struct status *st)
{
    const struct segment *seg = w->parts[0].seg;
    struct seg_sort *items = alloc_try(((size_t)w->nrows + 1) * sizeof *items);
    int rc = 0;
    if (!items) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory to sort %u keys", w->name, w->nrows);
    }
    for (uint32_t i = 0; i < w->nrows; i++) {
        items[i] = (struct seg_sort){ seg__key_prefix(seg, i), i };
        seg__bloom_add(filter, nblocks, seg__key_hash(seg__cell(seg, seg->pk, i)));
    }
    seg__sort_rows(seg, items, w->nrows);
    for (uint32_t i = 0; i < w->nrows; i++) {
        TRY(seg__put_order(out, &items[i].row, 1, st));
    }
out:
    mem_free(items);
    return rc;
}

int seg_write_files(const struct segment *seg, struct object_store *os, const char *prefix,
                    uint64_t *ret_bytes, struct status *st)
{
    uint32_t nrows = seg__nrows(seg);
    const struct seg_part all = { .seg = seg, .nrows = nrows, .nkept = nrows };
    const struct seg_write w = {
        .name = seg->name,
        .id = seg->id,
        .collection_id = seg->collection_id,
        .partition_id = seg->partition_id,
        .fields = seg->fields,
        .nfields = seg->nfields,
        .pk = seg->pk,
        .schema = seg_schema(seg),
        .parts = &all,
        .nparts = 1,
        .nrows = nrows,
        .first_position = atomic_load_explicit(&seg->first_position, memory_order_relaxed),
        .last_position = atomic_load_explicit(&seg->last_position, memory_order_relaxed),
        .order = sorted_order,
    };
    struct seg_merged done;
    int rc = seg__write(&w, os, prefix, &done, st);
    if (rc == 0) {
        *ret_bytes = done.bytes;
    }
    return rc;
}
