/*
 * eval.c - a plan over one chunk: the tree, the columns, nulls.
 *
 * The method is in eval_int.h. Columns that a segment does not have (the field came later) are the
 * field's default in every row, or null.
 *
 * MEMORY   Bitsets of the chunk, at most three per level of nesting, and what lists and patterns
 * need, all from the caller's arena; nothing per row.
 * THREADS  pure.
 */
#include "query/eval_int.h"
#include "schema/errors.h"

#define SCRATCH_PER_LEVEL 3

static int no_memory(struct eval *ev)
{
    return st_fail(ev->st, ST_NO_MEMORY, "filter over %u rows takes too much memory", ev->nrows);
}

/* Valid until eval_node() of the same depth asks again; NULL past the arena's limit. */
static uint64_t *scratch(struct eval *ev, uint32_t depth, int k)
{
    uint64_t **slot = &ev->scratch[(size_t)depth * SCRATCH_PER_LEVEL + (size_t)k];
    if (!*slot) {
        *slot = arena_try_array(ev->ar, ev->nwords, sizeof **slot);
    }
    return *slot;
}

static void words_copy(const struct eval *ev, uint64_t *to, const uint64_t *from)
{
    memcpy(to, from, ev->nwords * sizeof *to);
}

static bool words_empty(const struct eval *ev, const uint64_t *w)
{
    uint64_t any = 0;
    for (size_t i = 0; i < ev->nwords; i++) {
        any |= w[i];
    }
    return any == 0;
}

/* ---- columns */

/* A column that repeats the field's default. NULL past the arena's limit. */
static const struct column *default_column(struct eval *ev, const struct field *f)
{
    size_t width = dtype_width(f->type, f->dim);
    struct column *c = arena_try_array(ev->ar, 1, sizeof *c);
    if (!c) {
        return NULL;
    }
    *c = (struct column){.field_id = f->id, .type = f->type, .elem = f->elem, .nrows = ev->nrows};
    if (width && f->default_cell.n == width) {
        uint8_t *data = arena_try_array(ev->ar, ev->nrows, width);
        for (uint32_t i = 0; data && i < ev->nrows; i++) {
            memcpy(data + (size_t)i * width, f->default_cell.p, width);
        }
        c->width = width;
        c->data = data;
        return data ? c : NULL;
    }
    struct slice *refs = arena_try_array(ev->ar, ev->nrows, sizeof *refs);
    for (uint32_t i = 0; refs && i < ev->nrows; i++) {
        refs[i] = f->default_cell;
    }
    c->refs = refs;
    return refs ? c : NULL;
}

static bool shape_fits(const struct eval *ev, const struct operand *o, const struct column *c)
{
    size_t width = dtype_width(o->type, c->dim);
    bool shape = width ? c->width == width && c->data : !c->width && (c->refs || c->ends);
    return c->type == o->type && c->nrows >= ev->nrows && shape &&
           (o->type != DT_ARRAY || c->elem == o->elem);
}

/* *ret = NULL: every row is null. */
static int get_column(struct eval *ev, const struct operand *o, const struct column **ret)
{
    const struct column *c = ev->cr->column(ev->cr, o->field_id);
    const struct field *f = schema_field(ev->cr->schema, o->field_id);
    if (!c && !f) {
        return st_fail(ev->st, ERR_FIELD_NOT_FOUND, "field not found[field=%lld]",
                       (long long)o->field_id);
    }
    if (!c && f->has_default && f->type == o->type && f->elem == o->elem) {
        c = default_column(ev, f);
        if (!c) {
            return no_memory(ev);
        }
    }
    if (c && !shape_fits(ev, o, c)) {
        return st_fail(ev->st, ST_INVALID, "plan wants field %lld as %s, the column is %s",
                       (long long)o->field_id, dtype_name(o->type), dtype_name(c->type));
    }
    *ret = c;
    return 0;
}

static void keep_valid(const struct eval *ev, const struct column *c, uint64_t *io)
{
    if (c->valid) {
        for (size_t i = 0; i < ev->nwords; i++) {
            io[i] &= c->valid[i];
        }
    }
}

/* ---- leaves */

static void is_null(struct eval *ev, const struct expr *e, const struct column *c, bool neg,
                    const uint64_t *mask, uint64_t *out)
{
    bool want_null = e->negate == neg;
    words_copy(ev, out, mask);
    if (!c) {
        memset(out, 0, want_null ? 0 : ev->nwords * sizeof *out);
        return;
    }
    /* out: the rows with a value; their complement within the mask is null. */
    keep_valid(ev, c, out);
    if (e->operand.nsteps) {
        ROWS_WHERE(ev, out, TRI_TRUE, row,
                   tri_of(eval__json_exists(&e->operand, column_cell(c, row))))
    }
    for (size_t i = 0; want_null && i < ev->nwords; i++) {
        out[i] = mask[i] & ~out[i];
    }
}

static void exists(struct eval *ev, const struct expr *e, const struct column *c, bool neg,
                   const uint64_t *mask, uint64_t *out)
{
    words_copy(ev, out, mask);
    if (c) {
        keep_valid(ev, c, out);
        ROWS_WHERE(ev, out, TRI_TRUE, row,
                   tri_of(eval__json_exists(&e->operand, column_cell(c, row))))
    } else {
        memset(out, 0, ev->nwords * sizeof *out);
    }
    for (size_t i = 0; neg && i < ev->nwords; i++) {
        out[i] = mask[i] & ~out[i];
    }
}

/* Conditions on one fixed-width column that give whole words: io keeps the rows asked for. */
static int fixed_leaf(struct eval *ev, const struct expr *e, const struct column *c, uint32_t depth,
                      bool neg, uint64_t *io)
{
    static const struct value yes = {.type = VAL_BOOL, .b = true};
    uint64_t *bits = scratch(ev, depth, 0);
    struct column own = *c; /* a column may run ahead of the chunk's row count */
    if (!bits) {
        return no_memory(ev);
    }
    own.nrows = ev->nrows;
    switch (e->kind) {
    case EX_CMP:
        eval__fixed_cmp(&own, e->op, &e->value, bits);
        break;
    case EX_BOOL:
        eval__fixed_cmp(&own, OP_EQ, &yes, bits);
        break;
    case EX_RANGE:
        eval__fixed_range(e, &own, bits);
        break;
    default:
        eval__fixed_in(ev, &own, &e->value, io, bits);
        break;
    }
    if (ev->no_memory) {
        return no_memory(ev);
    }
    for (size_t i = 0; i < ev->nwords; i++) {
        io[i] &= neg ? ~bits[i] : bits[i];
    }
    return 0;
}

static bool is_fixed(const struct operand *o)
{
    enum opd_class cls = plan__class(o);
    return o->nsteps == 0 && (cls == CLS_BOOL || cls == CLS_INT || cls == CLS_FLOAT);
}

static int value_leaf(struct eval *ev, const struct expr *e, const struct column *c, uint32_t depth,
                      bool neg, uint64_t *io)
{
    const struct column *c2 = NULL;
    enum tri want = neg ? TRI_FALSE : TRI_TRUE;
    int rc = 0;
    if (e->kind == EX_CMP_FIELDS) {
        TRY(get_column(ev, &e->operand2, &c2));
        if (!c2) {
            memset(io, 0, ev->nwords * sizeof *io);
            return 0;
        }
        keep_valid(ev, c2, io);
        if (is_fixed(&e->operand) && is_fixed(&e->operand2)) {
            eval__fixed_fields(ev, e, c, c2, want, io);
            return 0;
        }
    } else if (is_fixed(&e->operand)) {
        if (e->kind != EX_CMP_ARITH) {
            return fixed_leaf(ev, e, c, depth, neg, io);
        }
        eval__fixed_arith(ev, e, c, want, io);
        return 0;
    }
    eval__rows(ev, e, c, c2, want, io);
    if (ev->no_memory) {
        return no_memory(ev);
    }
out:
    return rc;
}

static int leaf(struct eval *ev, const struct expr *e, uint32_t depth, bool neg,
                const uint64_t *mask, uint64_t *out)
{
    const struct column *c = NULL;
    int rc = 0;
    TRY(get_column(ev, &e->operand, &c));
    if (e->kind == EX_IS_NULL) {
        is_null(ev, e, c, neg, mask, out);
        return 0;
    }
    if (e->kind == EX_EXISTS) {
        exists(ev, e, c, neg, mask, out);
        return 0;
    }
    if (!c) {
        memset(out, 0, ev->nwords * sizeof *out);
        return 0;
    }
    words_copy(ev, out, mask);
    keep_valid(ev, c, out);
    if (!words_empty(ev, out)) {
        TRY(value_leaf(ev, e, c, depth, neg != (e->kind == EX_IN && e->negate), out));
    }
out:
    return rc;
}

/* ---- the tree */

/* out: rows of mask where e is true, or false when neg. out and mask are different. */
static int eval_node(struct eval *ev, const struct expr *e, uint32_t depth, bool neg,
                     const uint64_t *mask, uint64_t *out);

static int all_of(struct eval *ev, const struct expr *e, uint32_t depth, bool neg,
                  const uint64_t *mask, uint64_t *out)
{
    uint64_t *part = scratch(ev, depth, 1);
    int rc = 0;
    if (!part) {
        return no_memory(ev);
    }
    words_copy(ev, out, mask);
    for (uint32_t i = 0; i < e->nkids && !words_empty(ev, out); i++) {
        TRY(eval_node(ev, e->kids[i], depth + 1, neg, out, part));
        words_copy(ev, out, part);
    }
out:
    return rc;
}

static int any_of(struct eval *ev, const struct expr *e, uint32_t depth, bool neg,
                  const uint64_t *mask, uint64_t *out)
{
    uint64_t *part = scratch(ev, depth, 1), *left = scratch(ev, depth, 2);
    int rc = 0;
    if (!part || !left) {
        return no_memory(ev);
    }
    words_copy(ev, left, mask);
    memset(out, 0, ev->nwords * sizeof *out);
    for (uint32_t i = 0; i < e->nkids && !words_empty(ev, left); i++) {
        TRY(eval_node(ev, e->kids[i], depth + 1, neg, left, part));
        for (size_t w = 0; w < ev->nwords; w++) {
            out[w] |= part[w];
            left[w] &= ~part[w];
        }
    }
out:
    return rc;
}

static int eval_node(struct eval *ev, const struct expr *e, uint32_t depth, bool neg,
                     const uint64_t *mask, uint64_t *out)
{
    switch (e->kind) {
    case EX_CONST:
        memset(out, 0, ev->nwords * sizeof *out);
        if (e->value.b != neg) {
            words_copy(ev, out, mask);
        }
        return 0;
    case EX_AND:
    case EX_OR:
        return (e->kind == EX_AND) != neg ? all_of(ev, e, depth, neg, mask, out)
                                          : any_of(ev, e, depth, neg, mask, out);
    case EX_NOT:
        return eval_node(ev, e->kids[0], depth + 1, !neg, mask, out);
    default:
        return leaf(ev, e, depth, neg, mask, out);
    }
}

static uint32_t depth_of(const struct expr *e)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < e->nkids; i++) {
        most = MAX(most, depth_of(e->kids[i]));
    }
    return most + 1;
}

int filter_eval(const struct expr *e, const struct chunk_reader *cr, struct arena *ar,
                uint64_t *out, struct status *st)
{
    struct eval ev = {
        .cr = cr, .ar = ar, .st = st, .nrows = cr->nrows, .nwords = bits_words(cr->nrows)};
    if (!e || cr->nrows == 0) {
        bits_fill(out, cr->nrows, true);
        return 0;
    }
    ev.scratch = arena_try_array(ar, (size_t)depth_of(e) * SCRATCH_PER_LEVEL, sizeof *ev.scratch);
    uint64_t *all = arena_try_array(ar, ev.nwords, sizeof *all);
    if (!ev.scratch || !all) {
        return no_memory(&ev);
    }
    bits_fill(all, cr->nrows, true);
    return eval_node(&ev, e, 0, false, all, out);
}
