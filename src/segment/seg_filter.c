/*
 * seg_filter.c - a reader's filter as bits of a span, or as a short list of rows.
 *
 * WHAT        Bits: visibility first (seg_delete.c), then the expression over the span's columns,
 *             unless nothing is visible; a sealed segment keeps what came out (seg_kept.c). List: when the expression can only hold for named primary
 *             keys, those are looked up, and the rest of the expression is evaluated on just the
 *             rows found, gathered into small columns.
 * THREADS     Any; scratch is the caller's.
 * FAILURE     The evaluator cannot be told that a column is damaged or does not fit in memory: it
 *             sees an absent column, and the error kept aside is returned instead of its result.
 */
#include <stdlib.h>
#include "base/clock.h"
#include "segment/seg_int.h"

struct reader_ctx {
    struct chunk_reader cr; /* first: the callback gets only this */
    const struct seg_span *sp;
    const struct segment *seg;
    const uint32_t *rows; /* list reader; NULL: span reader */
    struct arena *ar;
    struct column *cols; /* per field, loaded on demand */
    bool *loaded;
    int rc;
    struct status *st;
};

static const struct column *reader_column(const struct chunk_reader *cr, int64_t field_id)
{
    struct reader_ctx *ctx = CONTAINER_OF(cr, struct reader_ctx, cr);
    int f = seg__field(ctx->seg, field_id);
    if (f < 0 || ctx->rc != 0) {
        return NULL;
    }
    if (!ctx->loaded[f]) {
        ctx->rc = ctx->rows ? seg_fetch(ctx->seg, field_id, ctx->rows, ctx->cr.nrows, ctx->ar,
                                        &ctx->cols[f], ctx->st)
                            : seg__span_column(ctx->sp, (uint32_t)f, true, ctx->ar, &ctx->cols[f],
                                               ctx->st);
        if (ctx->rc != 0) {
            return NULL;
        }
        ctx->loaded[f] = true;
    }
    return &ctx->cols[f];
}

static int eval(struct reader_ctx *ctx, const struct expr *e, uint32_t nrows, uint64_t *bits,
                struct status *st)
{
    ctx->cr = (struct chunk_reader){ .nrows = nrows,
                                     .column = reader_column,
                                     .schema = seg_schema(ctx->seg) };
    ctx->cols = arena_alloc(ctx->ar, (ctx->seg->nfields + 1) * sizeof *ctx->cols);
    ctx->loaded = arena_alloc(ctx->ar, ctx->seg->nfields + 1);
    struct status column_st = STATUS_INIT;
    ctx->st = &column_st;
    int rc = filter_eval(e, &ctx->cr, ctx->ar, bits, st);
    if (ctx->rc != 0) {
        *st = column_st;
        rc = ctx->rc;
    }
    return rc;
}

/* seg_where_fn */
struct span_eval {
    const struct seg_span *sp;
    const struct expr *expr;
    struct arena *tmp;
};

static int eval_span(void *arg, uint64_t *bits, struct status *st)
{
    struct span_eval *e = arg;
    struct reader_ctx ctx = { .sp = e->sp, .seg = e->sp->seg, .ar = e->tmp };
    return eval(&ctx, e->expr, e->sp->nrows, bits, st);
}

int seg__pass(const struct seg_span *sp, const struct seg_filter *f, struct arena *tmp,
              uint64_t *bits, struct status *st)
{
    seg__visible(sp, f, bits);
    if (!f->expr || bits_next(bits, sp->nrows, 0) == sp->nrows) {
        return 0;
    }
    uint64_t *hold = arena_try(tmp, bits_words(sp->nrows) * 8);
    if (!hold) {
        return st_fail(st, ST_NO_MEMORY, "no memory to filter %u rows", sp->nrows);
    }
    struct span_eval e = { .sp = sp, .expr = f->expr, .tmp = tmp };
    int rc = sp->seg->sealed ? seg__where(sp->seg, f, eval_span, &e, hold, sp->nrows, st)
                             : eval_span(&e, hold, st);
    if (rc == 0) {
        bits_and(bits, hold, sp->nrows);
    }
    return rc;
}

/* ---- Lists ---- */

struct found {
    const struct segment *seg;
    const struct seg_filter *f;
    struct arena *ar;
    uint32_t *rows;
    uint32_t n, cap;
};

/* seg_row_fn: gathers visible rows. */
static int found_row(void *ctx, uint32_t row, struct status *st)
{
    struct found *fd = ctx;
    hts ts = seg__row_ts(fd->seg, row), gone = seg__deleted_at(fd->seg, row);
    if (ts > fd->f->ts || ts < fd->f->ttl_before || (gone != 0 && gone <= fd->f->ts)) {
        return 0;
    }
    if (fd->n == fd->cap) {
        uint32_t cap = fd->cap ? fd->cap * 2 : 64;
        uint32_t *rows = arena_try(fd->ar, cap * sizeof *rows);
        if (!rows) {
            return st_fail(st, ST_NO_MEMORY, "no memory for the rows of %u keys", fd->n);
        }
        if (fd->n) {
            memcpy(rows, fd->rows, fd->n * sizeof *rows);
        }
        fd->rows = rows;
        fd->cap = cap;
    }
    fd->rows[fd->n++] = row;
    return 0;
}

static int row_cmp(const void *pa, const void *pb)
{
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    return (a > b) - (a < b);
}

static int find_keys(struct found *fd, const struct value *keys, uint32_t nrows, struct status *st)
{
    const struct value *items = keys->type == VAL_ARRAY ? keys->a.items : keys;
    uint32_t nkeys = keys->type == VAL_ARRAY ? keys->a.n : 1, n = 0;
    bool is_int = fd->seg->fields[fd->seg->pk].type == DT_INT64;
    int rc = seg__keys_lock(fd->seg, st);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t i = 0; i < nkeys; i++) {
        const struct value *v = &items[i];
        if (v->type != (is_int ? VAL_INT : VAL_STRING)) {
            continue; /* no key equals a value of another type */
        }
        struct slice key = is_int ? slice_n(&v->i, sizeof v->i) : v->s;
        TRY(seg__key_rows(fd->seg, key, nrows, found_row, fd, st));
    }
out:
    seg__keys_unlock(fd->seg);
    if (rc == 0 && fd->n > 1) {
        qsort(fd->rows, fd->n, sizeof *fd->rows, row_cmp);
        for (uint32_t i = 0; i < fd->n; i++) { /* a key may have been named twice */
            if (i == 0 || fd->rows[i] != fd->rows[i - 1]) {
                fd->rows[n++] = fd->rows[i];
            }
        }
        fd->n = n;
    }
    return rc;
}

static bool plain_keys(const struct value *keys)
{
    const struct value *items = keys->type == VAL_ARRAY ? keys->a.items : keys;
    uint32_t n = keys->type == VAL_ARRAY ? keys->a.n : 1;
    for (uint32_t i = 0; i < n; i++) {
        if (items[i].type == VAL_DOUBLE) {
            return false; /* 1.0 equals the key 1: left to the evaluator */
        }
    }
    return true;
}

int seg__pass_list(const struct segment *seg, const struct seg_filter *f, uint32_t nrows,
                   struct arena *ar, bool *ret_is_list, uint32_t **ret_rows, uint32_t *ret_n,
                   struct status *st)
{
    bool exact = false;
    const struct value *keys = NULL;
    if (f->expr) {
        keys = plan_pk_list(f->expr, seg->fields[seg->pk].id, &exact);
    }
    uint32_t nkeys = keys ? (keys->type == VAL_ARRAY ? keys->a.n : 1) : 0;
    /* A scan costs a few nanoseconds a row, a look-up about a hundred. */
    if (!keys || !plain_keys(keys) || nkeys > nrows / 16 + 64) {
        *ret_is_list = false;
        return 0;
    }
    struct found fd = { .seg = seg, .f = f, .ar = ar };
    int rc;
    TRY(find_keys(&fd, keys, nrows, st));
    if (!exact && fd.n) {
        uint64_t *bits = arena_try(ar, bits_words(fd.n) * 8);
        if (!bits) {
            FAIL(st, ST_NO_MEMORY, "no memory to filter %u rows", fd.n);
        }
        struct reader_ctx ctx = { .seg = seg, .rows = fd.rows, .ar = ar };
        TRY(eval(&ctx, f->expr, fd.n, bits, st));
        uint32_t n = 0;
        for (uint32_t i = 0; i < fd.n; i++) {
            if (bit_get(bits, i)) {
                fd.rows[n++] = fd.rows[i];
            }
        }
        fd.n = n;
    }
    *ret_is_list = true;
    *ret_rows = fd.rows;
    *ret_n = fd.n;
out:
    return rc;
}

int seg__stop_check(void *stop, struct status *st)
{
    const struct seg_stop *s = stop;
    if (s->cancel && atomic_load_explicit(s->cancel, memory_order_relaxed)) {
        return st_fail(st, ST_CANCELLED, "cancelled by the caller");
    }
    if (s->deadline_us != DEADLINE_NONE && clock_mono_us() >= s->deadline_us) {
        return st_fail(st, ST_TIMEOUT, "the deadline passed");
    }
    return 0;
}

int seg_bits(const struct segment *seg, const struct seg_filter *f, int64_t not_null_field,
             int64_t deadline_us, struct arena *ar, uint64_t **ret_bits, uint32_t *ret_nrows,
             uint32_t *ret_count, struct status *st)
{
    uint32_t nrows = seg__nrows(seg), nspans = seg__nspans(seg, nrows), n = 0;
    struct seg_stop stop = { .deadline_us = deadline_us };
    struct arena *tmp = arena_new(SEG_TMP_MAX);
    uint64_t *bits = arena_try_array(ar, bits_words(nrows) + 1, 8);
    int fi = not_null_field >= 0 ? seg__field(seg, not_null_field) : -1, rc = 0;
    uint32_t *rows = NULL;
    bool is_list = false;
    if (!bits) {
        FAIL(st, ST_NO_MEMORY, "no memory for the bits of %u rows", nrows);
    }
    TRY(seg__pass_list(seg, f, nrows, tmp, &is_list, &rows, &n, st));
    for (uint32_t i = 0; is_list && i < n; i++) {
        bit_set(bits, rows[i]);
    }
    for (uint32_t i = 0; i < nspans; i++) {
        struct seg_span sp = seg__span(seg, i, nrows);
        TRY(seg__stop_check(&stop, st));
        if (!is_list) {
            arena_reset(tmp);
            TRY(seg__pass(&sp, f, tmp, bits + sp.row0 / 64, st));
        }
        if (fi >= 0) {
            struct column col;
            TRY(seg__span_column(&sp, (uint32_t)fi, false, tmp, &col, st));
            if (col.valid) {
                bits_and(bits + sp.row0 / 64, col.valid, sp.nrows);
            }
        } else if (not_null_field >= 0) {
            bits_fill(bits + sp.row0 / 64, sp.nrows, false); /* null in every row */
        }
    }
    *ret_bits = bits;
    *ret_nrows = nrows;
    *ret_count = (uint32_t)bits_count(bits, nrows);
out:
    arena_free(tmp);
    return rc;
}
