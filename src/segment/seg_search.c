/*
 * seg_search.c - exact search over a segment's vectors.
 *
 * WHAT        A growing segment that may be searched approximately goes through its codes
 *             (seg_codes.c), what has none yet through the plain scan. Else
 *             span by span: bits of the rows that pass and have a vector, then index/flat.h over
 *             the span's raw rows, which leaves the best in the caller's lists. No bits at all
 *             when every row passes.
 * THREADS     Any. One call runs on one thread; callers spread segments over threads, each with
 *             lists of its own.
 * NOT HERE    Searches through an index file: seg_index.c.
 */
#include <math.h>
#include "index/flat.h"
#include "index/scan/fresh.h"
#include "segment/seg_int.h"
#include "schema/errors.h"

int seg__vec_type(const struct seg_field *f, enum vec_type *ret, struct status *st)
{
    switch (f->type) {
    case DT_FLOAT_VECTOR:
        *ret = VEC_F32;
        return 0;
    case DT_FLOAT16_VECTOR:
        *ret = VEC_F16;
        return 0;
    case DT_BFLOAT16_VECTOR:
        *ret = VEC_BF16;
        return 0;
    case DT_INT8_VECTOR:
        *ret = VEC_I8;
        return 0;
    case DT_BINARY_VECTOR:
        *ret = VEC_BIN;
        return 0;
    default:
        return st_fail(st, ERR_SEGCORE_UNSUPPORTED, "field %lld of type %s cannot be searched",
                       (long long)f->id, dtype_name(f->type));
    }
}

int seg_topk_new(const struct seg_search *q, uint32_t topk, struct topk **ret_tk, struct status *st)
{
    bool larger = metric_larger_is_better(q->metric);
    struct topk_range range = { .has_radius = q->has_radius,
                                .has_range_filter = q->has_range_filter,
                                .radius = q->radius,
                                .range_filter = q->range_filter };
    if (q->has_bound) {
        /* Strictly beyond: the nearest float on the far side, as a limit that counts itself. */
        float beyond = nextafterf(q->bound, larger ? -INFINITY : INFINITY);
        bool tighter = !range.has_range_filter ||
                       (larger ? beyond < range.range_filter : beyond > range.range_filter);
        if (tighter) {
            range.has_range_filter = true;
            range.range_filter = beyond;
        }
        if (isinf(q->bound) && (q->bound < 0) == larger) { /* nothing is beyond, nor its equals */
            range.has_radius = true;
            range.radius = larger ? INFINITY : -INFINITY;
        }
    }
    int rc = topk_new(q->nq, topk, larger, &range, ret_tk, st);
    for (uint32_t i = 0; rc == 0 && q->limits && i < q->nq; i++) {
        topk_limit(*ret_tk, i, q->limits[i]);
    }
    return rc;
}

/* One call's state; bits has room for the largest span. */
struct searching {
    const struct segment *seg;
    const struct seg_search *q;
    uint32_t f, nrows;
    enum vec_type type;
    struct flat_query fq;
    struct arena *tmp;
    uint64_t *bits;
    bool is_list;
    uint32_t *rows;
    uint32_t n, at; /* list: rows before at belong to earlier spans */
};

static int allowed(struct searching *s, const struct seg_span *sp, struct status *st)
{
    if (!s->is_list) {
        return seg__pass(sp, &s->q->filter, s->tmp, s->bits, st);
    }
    bits_fill(s->bits, sp->nrows, false);
    for (; s->at < s->n && s->rows[s->at] - sp->row0 < sp->nrows; s->at++) {
        bit_set(s->bits, s->rows[s->at] - sp->row0);
    }
    return 0;
}

static int search_span(struct searching *s, const struct seg_span *sp, struct topk *tk,
                       struct status *st)
{
    struct column col;
    int rc;
    if (s->is_list && (s->at == s->n || s->rows[s->at] - sp->row0 >= sp->nrows)) {
        return 0;
    }
    TRY(allowed(s, sp, st));
    TRY(seg__span_column(sp, s->f, false, s->tmp, &col, st));
    if (col.valid) {
        bits_and(s->bits, col.valid, sp->nrows);
    }
    size_t n = bits_count(s->bits, sp->nrows);
    if (n == 0) {
        goto out;
    }
    struct flat_rows rows = { .metric = s->q->metric,
                              .type = s->type,
                              .dim = col.dim,
                              .base = col.data,
                              .stride = col.width,
                              .nrows = sp->nrows,
                              .row_base = sp->row0,
                              .allow = n == sp->nrows ? NULL : s->bits };
    TRY(flat_search(&rows, &s->fq, tk, st));
    if (s->q->work) {
        s->q->work->counters.strategy = STRAT_FLAT;
        s->q->work->counters.exact += (uint64_t)n * s->q->nq;
        s->q->work->counters.bytes += (uint64_t)n * s->q->nq * col.width;
    }
out:
    return rc;
}

/* Fewer allowed rows than this are scored one by one. */
#define CODES_MIN_ROWS 256u

/* Rows from row `from` on, of those whose bits lie in all; `from` is a multiple of 64 unless all is
 * NULL: every row. */
static int search_rest(struct searching *s, const uint64_t *all, uint32_t from, struct topk *tk,
                       struct status *st)
{
    int rc = 0;
    if (from == s->nrows) {
        goto out;
    }
    for (uint32_t i = seg__chunk_of(from); i < seg__nspans(s->seg, s->nrows); i++) {
        struct seg_span sp = seg__span(s->seg, i, s->nrows);
        struct column col;
        uint32_t skip = from > sp.row0 ? from - sp.row0 : 0;
        TRY(seg__span_column(&sp, s->f, false, s->tmp, &col, st));
        struct flat_rows rows = { .metric = s->q->metric,
                                  .type = s->type,
                                  .dim = col.dim,
                                  .base = col.data + (size_t)skip * col.width,
                                  .stride = col.width,
                                  .nrows = sp.nrows - skip,
                                  .row_base = sp.row0 + skip,
                                  .allow = all ? all + (sp.row0 + skip) / 64 : NULL };
        TRY(flat_search(&rows, &s->fq, tk, st));
    }
out:
    return rc;
}

/* Bits of the rows that pass and have a vector; *ret_count of them. */
static int pass_bits(struct searching *s, struct arena *scratch, uint64_t **ret_bits,
                     uint32_t *ret_count, struct status *st)
{
    uint64_t *all = arena_try(scratch, bits_words(s->nrows) * 8);
    uint32_t count = 0;
    int rc = 0;
    if (!all) {
        FAIL(st, ST_NO_MEMORY, "no memory for the bits of %u rows", s->nrows);
    }
    for (uint32_t i = 0; i < seg__nspans(s->seg, s->nrows); i++) {
        struct seg_span sp = seg__span(s->seg, i, s->nrows);
        struct column col;
        uint64_t *bits = all + sp.row0 / 64;
        arena_reset(s->tmp);
        TRY(seg__pass(&sp, &s->q->filter, s->tmp, bits, st));
        TRY(seg__span_column(&sp, s->f, false, s->tmp, &col, st));
        if (col.valid) {
            bits_and(bits, col.valid, sp.nrows);
        }
        count += (uint32_t)bits_count(bits, sp.nrows);
    }
    arena_reset(s->tmp);
    *ret_bits = all;
    *ret_count = count;
out:
    return rc;
}

/* A growing segment through its codes. *ret_done false: nothing was done, there are none. */
static int search_codes(struct searching *s, struct arena *scratch, struct topk *tk,
                        bool *ret_done, struct status *st)
{
    struct fresh *fr = seg__codes_get(s->seg, s->f, s->q->metric, s->type, s->nrows);
    struct seg_raw raw = { .seg = s->seg, .f = s->f, .width = s->seg->fields[s->f].width };
    uint32_t coded, count = s->nrows;
    uint64_t *bits = NULL;
    int rc = 0;
    *ret_done = false;
    if (!fr) {
        goto out;
    }
    coded = MIN(fresh_coded(fr), s->nrows);
    if (s->seg->fields[s->f].nullable || !seg__all_visible(s->seg, &s->q->filter)) {
        TRY(pass_bits(s, scratch, &bits, &count, st));
        bits = count == s->nrows ? NULL : bits;
        coded = count < CODES_MIN_ROWS ? 0 : bits ? coded / 64 * 64 : coded;
    }
    struct fresh_query fq = { .queries = s->fq.queries,
                              .query_stride = s->fq.query_stride,
                              .nq = s->fq.nq,
                              .row = seg__codes_row,
                              .row_arg = &raw,
                              .nrows = coded,
                              .allow = bits,
                              .allow_count = count,
                              .whole = s->q->has_radius,
                              .near = s->q->near,
                              .near_id = (uint64_t)s->q->near_id,
                              .check = s->fq.check,
                              .check_arg = s->fq.check_arg };
    /* The rest first: exact scores make the bound that spares rows with codes. */
    TRY(search_rest(s, bits, coded, tk, st));
    if (coded) {
        TRY(fresh_search(fr, &fq, tk, s->q->work ? &s->q->work->counters : NULL, st));
    }
    *ret_done = true;
out:
    return rc;
}

int seg_search(const struct segment *seg, const struct seg_search *q, struct topk *tk,
               struct arena *scratch, struct status *st)
{
    bool done = false;
    struct seg_stop stop = { .deadline_us = q->deadline_us, .cancel = q->cancel };
    struct searching s = { .seg = seg, .q = q, .nrows = seg__nrows(seg) };
    uint32_t nspans = seg__nspans(seg, s.nrows);
    const struct field *field = schema_field(seg_schema(seg), q->field_id);
    int f = seg__field(seg, q->field_id), rc = 0;
    if (!field) {
        FAIL(st, ERR_FIELD_NOT_FOUND, "field %lld", (long long)q->field_id);
    }
    struct seg_field sf = seg__field_of(field);
    TRY(seg__vec_type(&sf, &s.type, st));
    if (f < 0 || s.nrows == 0) {
        goto out; /* added after these rows: null in all of them */
    }
    s.f = (uint32_t)f;
    const struct seg_index *si = seg__index_for(seg, s.f, q);
    if (si) {
        TRY(seg__search_index(seg, si, s.f, q, tk, scratch, st));
        goto out;
    }
    s.tmp = arena_new(SEG_TMP_MAX);
    s.fq = (struct flat_query){ .queries = q->queries,
                                .query_stride = sf.width,
                                .nq = q->nq,
                                .check = seg__stop_check,
                                .check_arg = &stop };
    TRY(seg__pass_list(seg, &q->filter, s.nrows, scratch, &s.is_list, &s.rows, &s.n, st));
    if (q->approx && !seg->sealed && !s.is_list) {
        TRY(search_codes(&s, scratch, tk, &done, st));
    }
    s.bits = done ? NULL
                  : arena_try(scratch, bits_words(seg->sealed ? s.nrows : SEG_CHUNK_ROWS) * 8);
    if (!done && !s.bits) {
        FAIL(st, ST_NO_MEMORY, "no memory for the bits of %u rows", s.nrows);
    }
    for (uint32_t i = 0; !done && i < nspans; i++) {
        struct seg_span sp = seg__span(seg, i, s.nrows);
        TRY(seg__stop_check(&stop, st));
        arena_reset(s.tmp);
        TRY(search_span(&s, &sp, tk, st));
    }
    topk_finish(tk);
out:
    arena_free(s.tmp);
    return rc;
}

bool seg_vectors(const struct segment *seg, int64_t field_id, struct flat_rows *ret,
                 const uint64_t **ret_valid)
{
    int f = seg__field(seg, field_id);
    struct status st = STATUS_INIT;
    enum vec_type type = VEC_COUNT;
    if (!seg->sealed || f < 0 || seg__vec_type(&seg->fields[f], &type, &st) != 0) {
        return false;
    }
    const struct column *col = &seg->s.cols[f];
    *ret = (struct flat_rows){ .type = type,
                               .dim = col->dim,
                               .base = col->data,
                               .stride = col->width,
                               .nrows = col->nrows };
    *ret_valid = col->valid;
    return true;
}
