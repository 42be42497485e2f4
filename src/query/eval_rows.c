/*
 * eval_rows.c - conditions that look at one row after the other: strings, array elements, JSON.
 *
 * Plain strings have loops of their own. Everything else fetches one scalar per row and applies the
 * condition to it; a scalar of another type than the constant makes the row unknown.
 *
 * THREADS  pure.
 */
#include "query/eval_int.h"

/* ---- one scalar against constants */

/* Order of two numbers; both are SC_INT, SC_UINT or SC_DOUBLE. */
static int number_cmp(const struct scalar *a, const struct scalar *b)
{
    int c;
    if (a->t == b->t) {
        return a->t == SC_INT    ? num_cmp_ii(a->i, b->i)
               : a->t == SC_UINT ? (a->u > b->u) - (a->u < b->u)
                                 : num_cmp_dd(a->d, b->d);
    }
    if (a->t == SC_DOUBLE) {
        c = b->t == SC_INT ? num_cmp_id(b->i, a->d) : num_cmp_ud(b->u, a->d);
        return c == NUM_UNORDERED ? c : -c;
    }
    if (b->t == SC_DOUBLE) {
        return a->t == SC_INT ? num_cmp_id(a->i, b->d) : num_cmp_ud(a->u, b->d);
    }
    return a->t == SC_UINT ? 1 : -1;
}

static bool is_number(const struct scalar *s)
{
    return s->t == SC_INT || s->t == SC_UINT || s->t == SC_DOUBLE;
}

static struct scalar scalar_of(const struct value *v)
{
    switch (v->type) {
    case VAL_BOOL:
        return (struct scalar){.t = SC_BOOL, .b = v->b};
    case VAL_INT:
        return (struct scalar){.t = SC_INT, .i = v->i};
    case VAL_DOUBLE:
        return (struct scalar){.t = SC_DOUBLE, .d = v->d};
    case VAL_STRING:
        return (struct scalar){.t = SC_STRING, .s = v->s};
    case VAL_NULL:
    case VAL_ARRAY:
        break;
    }
    return (struct scalar){.t = SC_OTHER};
}

/* false: types that cannot be compared. */
static bool scalar_order(const struct scalar *a, const struct scalar *b, int *ret)
{
    if (is_number(a) && is_number(b)) {
        *ret = number_cmp(a, b);
        return true;
    }
    if (a->t == SC_STRING && b->t == SC_STRING) {
        int c = slice_cmp(a->s, b->s);
        *ret = (c > 0) - (c < 0);
        return true;
    }
    if (a->t == SC_BOOL && b->t == SC_BOOL) {
        *ret = (int)a->b - (int)b->b;
        return true;
    }
    return false;
}

enum tri eval__scalar_cmp(const struct scalar *a, enum cmp_op op, const struct value *v)
{
    struct scalar b = scalar_of(v);
    int c;
    return scalar_order(a, &b, &c) ? tri_of(cmp_holds(op, c)) : TRI_UNKNOWN;
}

static enum tri scalar_range(const struct scalar *a, const struct expr *e, const struct value *lo,
                             const struct value *hi)
{
    enum tri l = eval__scalar_cmp(a, e->lo_inclusive ? OP_GE : OP_GT, lo);
    enum tri h = eval__scalar_cmp(a, e->hi_inclusive ? OP_LE : OP_LT, hi);
    return l == TRI_UNKNOWN || h == TRI_UNKNOWN ? TRI_UNKNOWN
                                                : tri_of(l == TRI_TRUE && h == TRI_TRUE);
}

/* A list as constants of one column type: the types that occur, for "wrong type". */
struct list {
    const struct value *items; /* ascending */
    uint32_t n;
    bool bools, numbers, strings;
};

static struct list list_of(struct eval *ev, enum dtype t, const struct value *v)
{
    struct list l = {.items = v->a.items, .n = v->a.n};
    struct value *narrow =
        t == DT_FLOAT ? arena_try_array(ev->ar, MAX(l.n, 1u), sizeof *narrow) : NULL;
    if (t == DT_FLOAT && !narrow) {
        ev->no_memory = true;
        l.n = 0;
    }
    for (uint32_t i = 0; i < l.n; i++) {
        l.bools = l.bools || l.items[i].type == VAL_BOOL;
        l.strings = l.strings || l.items[i].type == VAL_STRING;
        l.numbers = l.numbers || l.items[i].type == VAL_INT || l.items[i].type == VAL_DOUBLE;
        if (narrow) {
            narrow[i] = eval__narrow(t, &l.items[i]);
        }
    }
    l.items = narrow ? narrow : l.items;
    return l;
}

/* Bool < number < string, as lists are sorted. */
static int rank(const struct scalar *s)
{
    return s->t == SC_BOOL ? 0 : is_number(s) ? 1 : 2;
}

static enum tri scalar_in(const struct scalar *a, const struct list *l)
{
    if (a->t == SC_NONE) {
        return TRI_UNKNOWN;
    }
    bool known = l->n == 0 || (a->t == SC_BOOL && l->bools) || (a->t == SC_STRING && l->strings) ||
                 (is_number(a) && l->numbers);
    uint32_t from = 0, n = l->n;
    while (known && n > 0) {
        uint32_t half = n / 2;
        struct scalar b = scalar_of(&l->items[from + half]);
        int c;
        if (!scalar_order(a, &b, &c)) {
            c = rank(a) < rank(&b) ? -1 : 1;
        }
        if (c == 0) {
            return TRI_TRUE;
        }
        from += c > 0 ? half + 1 : 0;
        n = c > 0 ? n - half - 1 : half;
    }
    return known ? TRI_FALSE : TRI_UNKNOWN;
}

/* ---- plain strings */

static void string_cmp(struct eval *ev, const struct expr *e, const struct column *c, enum tri want,
                       uint64_t *io)
{
    const struct slice v = e->value.s;
    if (e->op == OP_EQ || e->op == OP_NE) {
        bool eq = e->op == OP_EQ;
        ROWS_WHERE(ev, io, want, row, tri_of(slice_eq(column_cell(c, row), v) == eq))
        return;
    }
    enum cmp_op op = e->op;
    ROWS_WHERE(ev, io, want, row,
               tri_of(op == OP_LT   ? slice_cmp(column_cell(c, row), v) < 0
                      : op == OP_LE ? slice_cmp(column_cell(c, row), v) <= 0
                      : op == OP_GT ? slice_cmp(column_cell(c, row), v) > 0
                                    : slice_cmp(column_cell(c, row), v) >= 0))
}

static int order(struct slice a, struct slice b)
{
    int c = slice_cmp(a, b);
    return (c > 0) - (c < 0);
}

static bool string_between(struct slice s, const struct expr *e)
{
    int lo = slice_cmp(s, e->lo.s), hi = slice_cmp(s, e->hi.s);
    return (lo > 0 || (lo == 0 && e->lo_inclusive)) && (hi < 0 || (hi == 0 && e->hi_inclusive));
}

static void strings(struct eval *ev, const struct expr *e, const struct column *c,
                    const struct column *c2, enum tri want, uint64_t *io)
{
    const struct string_set *set;
    const struct like *lk;
    switch (e->kind) {
    case EX_CMP:
        string_cmp(ev, e, c, want, io);
        break;
    case EX_RANGE:
        ROWS_WHERE(ev, io, want, row, tri_of(string_between(column_cell(c, row), e)))
        break;
    case EX_IN:
        set = eval__string_set(ev, &e->value);
        if (set) {
            ROWS_WHERE(ev, io, want, row, tri_of(string_set_has(set, column_cell(c, row))))
        }
        break;
    case EX_LIKE:
        lk = like__compile(e->value.s, ev->ar);
        ev->no_memory = ev->no_memory || !lk;
        if (lk) {
            ROWS_WHERE(ev, io, want, row, tri_of(like__match(lk, column_cell(c, row))))
        }
        break;
    default: /* EX_CMP_FIELDS: another plain string */
        ROWS_WHERE(ev, io, want, row,
                   tri_of(cmp_holds(e->op, order(column_cell(c, row), column_cell(c2, row)))))
        break;
    }
}

/* ---- any scalar */

static bool plain_get(const struct column *c, uint32_t row, struct scalar *ret)
{
    struct slice cell = column_cell(c, row);
    float f;
    switch (c->type) {
    case DT_BOOL:
        *ret = (struct scalar){.t = SC_BOOL, .b = cell.p[0] != 0};
        break;
    case DT_INT8:
    case DT_INT16:
    case DT_INT32:
    case DT_INT64:
        *ret = (struct scalar){.t = SC_INT, .i = column_int(c, row)};
        break;
    case DT_FLOAT:
        memcpy(&f, cell.p, sizeof f);
        *ret = (struct scalar){.t = SC_DOUBLE, .d = (double)f};
        break;
    case DT_DOUBLE:
        ret->t = SC_DOUBLE;
        memcpy(&ret->d, cell.p, sizeof ret->d);
        break;
    default:
        *ret = (struct scalar){.t = SC_STRING, .s = cell};
        break;
    }
    return true;
}

static struct scalar fetch(struct eval *ev, const struct operand *o, const struct column *c,
                           uint32_t row)
{
    struct scalar s = {.t = SC_NONE};
    if (o->type == DT_JSON) {
        eval__json_get(ev, o, column_cell(c, row), &s);
    } else if (o->type == DT_ARRAY) {
        eval__array_get(o, c, row, &s);
    } else {
        plain_get(c, row, &s);
    }
    return s;
}

static enum tri fields_cmp(struct eval *ev, const struct expr *e, const struct column *c,
                           const struct column *c2, uint32_t row)
{
    struct scalar a = fetch(ev, &e->operand, c, row), b = fetch(ev, &e->operand2, c2, row);
    int order;
    return scalar_order(&a, &b, &order) ? tri_of(cmp_holds(e->op, order)) : TRI_UNKNOWN;
}

static enum tri arith_cmp(struct eval *ev, const struct expr *e, const struct value *v,
                          const struct column *c, uint32_t row)
{
    struct scalar s;
    uint32_t first = 0;
    if (e->steps[0].op == AR_LENGTH) {
        struct slice cell = column_cell(c, row);
        int64_t n = e->operand.type == DT_JSON ? eval__json_length(&e->operand, cell)
                                               : (int64_t)array_count(e->operand.elem, cell);
        s = (struct scalar){.t = n < 0 ? SC_NONE : SC_INT, .i = n};
        first = 1;
    } else {
        s = fetch(ev, &e->operand, c, row);
    }
    bool single = first == 0 && plan__type(&e->operand) == DT_FLOAT;
    return eval__scalar_steps(e, first, single, &s) ? eval__scalar_cmp(&s, e->op, v) : TRI_UNKNOWN;
}

static enum tri like_of(const struct like *lk, const struct scalar *s)
{
    return s->t == SC_STRING ? tri_of(like__match(lk, s->s)) : TRI_UNKNOWN;
}

static enum tri cmp_of(const struct scalar *s, enum cmp_op op, const struct value *v)
{
    return eval__scalar_cmp(s, op, v);
}

static void rows_like(struct eval *ev, const struct expr *e, const struct column *c, enum tri want,
                      uint64_t *io)
{
    const struct like *lk = like__compile(e->value.s, ev->ar);
    if (!lk) {
        ev->no_memory = true;
        return;
    }
    ROWS_WHERE(ev, io, want, row, __extension__({
                   struct scalar s_ = fetch(ev, &e->operand, c, row);
                   like_of(lk, &s_);
               }))
}

static void rows_in(struct eval *ev, const struct expr *e, const struct column *c, enum tri want,
                    uint64_t *io)
{
    struct list l = list_of(ev, plan__type(&e->operand), &e->value);
    ROWS_WHERE(ev, io, want, row, __extension__({
                   struct scalar s_ = fetch(ev, &e->operand, c, row);
                   scalar_in(&s_, &l);
               }))
}

static void rows_contains(struct eval *ev, const struct expr *e, const struct column *c,
                          enum tri want, uint64_t *io)
{
    size_t n = e->mode == CONTAINS_ALL ? bits_words(e->value.a.n) : 0;
    ev->seen = arena_try_array(ev->ar, MAX(n, (size_t)1), sizeof *ev->seen);
    if (!ev->seen) {
        ev->no_memory = true;
    } else if (e->operand.type == DT_JSON) {
        ROWS_WHERE(ev, io, want, row, eval__json_contains(ev, e, column_cell(c, row)))
    } else {
        ROWS_WHERE(ev, io, want, row, eval__array_contains(e, column_cell(c, row)))
    }
}

void eval__rows(struct eval *ev, const struct expr *e, const struct column *c,
                const struct column *c2, enum tri want, uint64_t *io)
{
    static const struct value yes = {.type = VAL_BOOL, .b = true};
    enum dtype t = plan__type(&e->operand);
    struct value v = eval__narrow(t, &e->value), lo = eval__narrow(t, &e->lo);
    struct value hi = eval__narrow(t, &e->hi);
    bool whole_array = e->operand.type == DT_ARRAY && e->operand.nsteps == 0;
    if (dtype_is_string(e->operand.type) && (!c2 || dtype_is_string(e->operand2.type))) {
        strings(ev, e, c, c2, want, io);
        return;
    }
    switch (e->kind) {
    case EX_CMP:
        if (whole_array) {
            ROWS_WHERE(ev, io, want, row, eval__array_equals(e, column_cell(c, row)))
            break;
        }
        ROWS_WHERE(ev, io, want, row, __extension__({
                       struct scalar s_ = fetch(ev, &e->operand, c, row);
                       cmp_of(&s_, e->op, &v);
                   }))
        break;
    case EX_BOOL:
        ROWS_WHERE(ev, io, want, row, __extension__({
                       struct scalar s_ = fetch(ev, &e->operand, c, row);
                       cmp_of(&s_, OP_EQ, &yes);
                   }))
        break;
    case EX_RANGE:
        ROWS_WHERE(ev, io, want, row, __extension__({
                       struct scalar s_ = fetch(ev, &e->operand, c, row);
                       scalar_range(&s_, e, &lo, &hi);
                   }))
        break;
    case EX_CMP_FIELDS:
        ROWS_WHERE(ev, io, want, row, fields_cmp(ev, e, c, c2, row))
        break;
    case EX_CMP_ARITH:
        ROWS_WHERE(ev, io, want, row, arith_cmp(ev, e, &v, c, row))
        break;
    case EX_IN:
        rows_in(ev, e, c, want, io);
        break;
    case EX_LIKE:
        rows_like(ev, e, c, want, io);
        break;
    case EX_CONTAINS:
        rows_contains(ev, e, c, want, io);
        break;
    default: /* eval.c answers the others itself */
        break;
    }
}
