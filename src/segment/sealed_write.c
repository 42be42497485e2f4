/*
 * sealed_write.c - a segment's rows as a segment file.
 *
 * WHAT        One object per segment, streamed column by column through one piece of memory: a
 *             flush costs one put and one sync. Rows keep their numbers. Deletes are not written:
 *             they live in the shard's delete files.
 * FORMAT      docs/format.md "Segment files".
 * THREADS     Any, beside the writer and readers: works on the rows published at the start.
 * MEMORY      SF_PIECE bytes, 20 bytes a row for sorting keys, 1.5 bytes a row for the filter.
 * FAILURE     The object appears whole or not at all (object.h); a crash leaves nothing visible.
 */
#include "base/alloc.h"
#include "segment/seg_int.h"

struct out_file {
    struct object_writer *ow;
    uint64_t pos;
    uint8_t *piece;
    size_t used;
    struct sf_block *block; /* being written */
};

static int flush_piece(struct out_file *o, struct status *st)
{
    int rc = 0;
    if (o->used) {
        o->block->sum = sf_sum_add(o->block->sum, o->piece, o->used);
        rc = object_append(o->ow, o->piece, o->used, st);
        o->pos += o->used;
        o->used = 0;
    }
    return rc;
}

static int put(struct out_file *o, const void *p, size_t n, struct status *st)
{
    const uint8_t *from = p;
    int rc = 0;
    while (n) {
        if (o->used == 0 && n >= SF_PIECE) { /* whole pieces go without a copy */
            o->block->sum = sf_sum_add(o->block->sum, from, SF_PIECE);
            TRY(object_append(o->ow, from, SF_PIECE, st));
            o->pos += SF_PIECE;
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
            TRY(flush_piece(o, st));
        }
    }
out:
    return rc;
}

static void block_begin(struct out_file *o, struct sf_block *b)
{
    *b = (struct sf_block){ .off = o->pos };
    o->block = b;
}

static int block_end(struct out_file *o, struct status *st)
{
    static const uint8_t zeros[SF_ALIGN];
    int rc;
    TRY(flush_piece(o, st));
    o->block->len = o->pos - o->block->off;
    size_t pad = (size_t)(ROUND_UP(o->pos, (uint64_t)SF_ALIGN) - o->pos);
    if (pad) {
        TRY(object_append(o->ow, zeros, pad, st));
        o->pos += pad;
    }
out:
    return rc;
}

/* What one write works on. */
struct job {
    const struct segment *seg;
    uint32_t nrows, nspans;
    struct out_file o;
    struct sf_footer footer;
    struct sf_column *cols;
    struct arena *tmp;
};

static int put_data(struct job *j, uint32_t f, struct sf_column *c, struct status *st)
{
    int rc = 0;
    block_begin(&j->o, &c->data);
    for (uint32_t s = 0; s < j->nspans; s++) {
        struct seg_span sp = seg__span(j->seg, s, j->nrows);
        struct column col;
        arena_reset(j->tmp);
        TRY(seg__span_column(&sp, f, true, j->tmp, &col, st));
        if (col.valid) {
            c->nulls += col.nrows - (uint32_t)bits_count(col.valid, col.nrows);
        }
        if (col.width) {
            TRY(put(&j->o, col.data, (size_t)col.nrows * col.width, st));
        }
        for (uint32_t i = 0; !col.width && i < col.nrows; i++) {
            struct slice cell = column_cell(&col, i);
            TRY(put(&j->o, cell.p, cell.n, st));
        }
    }
    TRY(block_end(&j->o, st));
out:
    return rc;
}

static int put_ends(struct job *j, uint32_t f, struct sf_column *c, struct status *st)
{
    uint64_t end = 0;
    int rc = 0;
    block_begin(&j->o, &c->ends);
    for (uint32_t s = 0; !c->width && s < j->nspans; s++) {
        struct seg_span sp = seg__span(j->seg, s, j->nrows);
        for (uint32_t i = 0; i < sp.nrows; i++) {
            end += seg__cell(j->seg, f, sp.row0 + i).n;
            TRY(put(&j->o, &end, sizeof end, st));
        }
    }
    TRY(block_end(&j->o, st));
out:
    return rc;
}

static int put_valid_bits(struct job *j, uint32_t f, struct sf_column *c, struct status *st)
{
    int rc = 0;
    block_begin(&j->o, &c->valid);
    for (uint32_t s = 0; c->nulls && s < j->nspans; s++) {
        struct seg_span sp = seg__span(j->seg, s, j->nrows);
        struct column col;
        arena_reset(j->tmp);
        TRY(seg__span_column(&sp, f, false, j->tmp, &col, st));
        size_t bytes = bits_words(col.nrows) * 8; /* spans but the last are multiples of 64 */
        if (!col.valid) {
            uint64_t *ones = arena_try(j->tmp, bytes);
            if (!ones) {
                FAIL(st, ST_NO_MEMORY, "%s: no memory for null bits", j->seg->name);
            }
            bits_fill(ones, col.nrows, true);
            col.valid = ones;
        }
        TRY(put(&j->o, col.valid, bytes, st));
    }
    TRY(block_end(&j->o, st));
out:
    return rc;
}

static int put_columns(struct job *j, struct status *st)
{
    int rc = 0;
    for (uint32_t f = 0; f < j->seg->nfields; f++) {
        const struct seg_field *sf = &j->seg->fields[f];
        struct sf_column *c = &j->cols[f];
        *c = (struct sf_column){ .field_id = sf->id,
                                 .type = (uint32_t)sf->type,
                                 .elem = (uint32_t)sf->elem,
                                 .dim = sf->dim,
                                 .width = (uint32_t)sf->width };
        TRY(put_data(j, f, c, st));
        TRY(put_ends(j, f, c, st));
        TRY(put_valid_bits(j, f, c, st));
    }
out:
    return rc;
}

static int put_timestamps(struct job *j, struct status *st)
{
    struct sf_footer *ft = &j->footer;
    int rc = 0;
    ft->min_ts = j->nrows ? UINT64_MAX : 0;
    for (uint32_t s = 0; s < j->nspans; s++) {
        struct seg_span sp = seg__span(j->seg, s, j->nrows);
        for (uint32_t i = 0; i < sp.nrows; i++) {
            hts ts = sp.ts ? sp.ts[i] : sp.ts0;
            ft->min_ts = MIN(ft->min_ts, ts);
            ft->max_ts = MAX(ft->max_ts, ts);
        }
    }
    block_begin(&j->o, &ft->ts);
    for (uint32_t s = 0; ft->min_ts != ft->max_ts && s < j->nspans; s++) {
        struct seg_span sp = seg__span(j->seg, s, j->nrows);
        for (uint32_t i = 0; i < sp.nrows; i++) {
            hts ts = sp.ts ? sp.ts[i] : sp.ts0;
            TRY(put(&j->o, &ts, sizeof ts, st));
        }
    }
    TRY(block_end(&j->o, st));
out:
    return rc;
}

static int put_keys(struct job *j, struct status *st)
{
    const struct segment *seg = j->seg;
    uint32_t nblocks = seg__bloom_blocks(j->nrows);
    struct seg_sort *items = alloc_try(((size_t)j->nrows + 1) * sizeof *items);
    uint32_t *filter = alloc_try_zero((size_t)nblocks * 32);
    int rc = 0;
    if (!items || !filter) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory to sort %u keys", seg->name, j->nrows);
    }
    for (uint32_t i = 0; i < j->nrows; i++) {
        items[i] = (struct seg_sort){ seg__key_prefix(seg, i), i };
        seg__bloom_add(filter, nblocks, seg__key_hash(seg__cell(seg, seg->pk, i)));
    }
    seg__sort_rows(seg, items, j->nrows);
    block_begin(&j->o, &j->footer.order);
    for (uint32_t i = 0; i < j->nrows; i++) {
        TRY(put(&j->o, &items[i].row, sizeof items[i].row, st));
    }
    TRY(block_end(&j->o, st));
    block_begin(&j->o, &j->footer.filter);
    TRY(put(&j->o, filter, (size_t)nblocks * 32, st));
    TRY(block_end(&j->o, st));
out:
    mem_free(items);
    mem_free(filter);
    return rc;
}

static int put_header(struct job *j, struct status *st)
{
    struct sf_header h = { .version = SF_VERSION,
                           .segment_id = j->seg->id,
                           .collection_id = j->seg->collection_id,
                           .partition_id = j->seg->partition_id };
    memcpy(h.magic, SF_MAGIC, sizeof h.magic);
    h.sum = hash64(&h, offsetof(struct sf_header, sum));
    j->o.pos = sizeof h;
    return object_append(j->o.ow, &h, sizeof h, st);
}

static int put_footer(struct job *j, struct status *st)
{
    struct sf_footer *ft = &j->footer;
    struct sf_trailer t = { .footer_off = j->o.pos, .version = SF_VERSION };
    struct buf b;
    int rc;
    ft->nrows = j->nrows;
    ft->ncols = j->seg->nfields;
    ft->pk_field_id = j->seg->fields[j->seg->pk].id;
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
        FAIL(st, ST_NO_MEMORY, "%s: no memory for the footer", j->seg->name);
    }
    TRY(object_append(j->o.ow, b.p, b.n, st));
    j->o.pos += b.n;
out:
    buf_done(&b);
    return rc;
}

int seg_write_files(const struct segment *seg, struct object_store *os, const char *prefix,
                    uint64_t *ret_bytes, struct status *st)
{
    struct job j = { .seg = seg, .nrows = seg__nrows(seg) };
    char *key = path_join(prefix, SF_FILE_NAME);
    int rc;
    j.nspans = seg__nspans(seg, j.nrows);
    j.tmp = arena_new(SEG_TMP_MAX);
    j.cols = xalloc((seg->nfields + 1) * sizeof *j.cols);
    j.footer.first_position = atomic_load_explicit(&seg->first_position, memory_order_relaxed);
    j.footer.last_position = atomic_load_explicit(&seg->last_position, memory_order_relaxed);
    j.o.piece = alloc_try(SF_PIECE);
    if (!j.o.piece) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory to write", seg->name);
    }
    TRY(object_writer_open(os, slice_of(key), &j.o.ow, st));
    TRY(put_header(&j, st));
    TRY(put_columns(&j, st));
    TRY(put_timestamps(&j, st));
    TRY(put_keys(&j, st));
    TRY(put_footer(&j, st));
    TRY(object_commit(TAKE(j.o.ow), st));
    *ret_bytes = j.o.pos;
out:
    object_abort(j.o.ow);
    mem_free(j.o.piece);
    mem_free(j.cols);
    arena_free(j.tmp);
    mem_free(key);
    return rc;
}
