/*
 * type_cmp.c - comparisons, ranges and lists in normal form.
 *
 * NORMAL FORM   Column or path on the left. Constants of integer columns are integers: a fractional
 * bound is rounded to the integer bound that selects the same rows. What can never or always hold
 * becomes `< INT64_MIN` or `>= INT64_MIN`, which still leaves null rows unknown. Integers against
 * floating columns become doubles when nothing is lost and stay integers otherwise. Lists are
 * sorted and free of doubles. `==` on the primary key and on a partition key is a list of one, so
 * that plan_field_list() finds it.
 *
 * THREADS  pure.
 */
#include "query/type_int.h"
#include "schema/errors.h"
#include <math.h>
#include <stdlib.h>

static int mismatch(const struct typed *l, const struct typed *r, struct status *st)
{
    return st_fail(st, ERR_PARAMETER_INVALID, "comparisons between %s and %s are not supported",
                   type__name(l), type__name(r));
}

static bool is_number(const struct value *v)
{
    return v->type == VAL_INT || v->type == VAL_DOUBLE;
}

static enum cmp_op op_of(enum tok op)
{
    static const enum cmp_op map[] = {
        [TK_LT] = OP_LT, [TK_LE] = OP_LE, [TK_GT] = OP_GT,
        [TK_GE] = OP_GE, [TK_EQ] = OP_EQ, [TK_NE] = OP_NE,
    };
    return map[op];
}

static enum cmp_op mirrored(enum cmp_op op)
{
    switch (op) {
    case OP_LT:
        return OP_GT;
    case OP_LE:
        return OP_GE;
    case OP_GT:
        return OP_LT;
    case OP_GE:
        return OP_LE;
    default:
        return op;
    }
}

static bool is_equality(enum cmp_op op)
{
    return op == OP_EQ || op == OP_NE;
}

/* ---- integers against fractional constants */

static void int_const(enum cmp_op *io_op, struct value *v, enum cmp_op op, int64_t i)
{
    *io_op = op;
    *v = (struct value){.type = VAL_INT, .i = i};
}

static void int_verdict(enum cmp_op *io_op, struct value *v, bool holds)
{
    int_const(io_op, v, holds ? OP_GE : OP_LT, INT64_MIN);
}

/* x op d over int64 x -> the same over an integer constant. */
static void int_against_double(enum cmp_op *io_op, struct value *v)
{
    double d = v->d;
    if (d >= TWO_63 || d < -TWO_63) {
        bool below = d >= TWO_63; /* every x is below d */
        bool holds = *io_op == OP_NE || (below ? *io_op == OP_LT || *io_op == OP_LE
                                               : *io_op == OP_GT || *io_op == OP_GE);
        int_verdict(io_op, v, holds);
        return;
    }
    switch (*io_op) {
    case OP_EQ:
    case OP_NE:
        if (d == floor(d)) {
            int_const(io_op, v, *io_op, (int64_t)d);
        } else {
            int_verdict(io_op, v, *io_op == OP_NE);
        }
        break;
    case OP_LT:
    case OP_GE:
        int_const(io_op, v, *io_op, (int64_t)ceil(d));
        break;
    case OP_LE:
    case OP_GT:
        int_const(io_op, v, *io_op, (int64_t)floor(d));
        break;
    }
}

bool type__cast(enum opd_class cls, const struct value *v, struct value *ret)
{
    switch (cls) {
    case CLS_BOOL:
        *ret = *v;
        return v->type == VAL_BOOL;
    case CLS_INT:
        *ret = *v;
        return v->type == VAL_INT;
    case CLS_STRING:
        *ret = *v;
        return v->type == VAL_STRING;
    case CLS_JSON:
        *ret = *v;
        return v->type != VAL_ARRAY && v->type != VAL_NULL;
    case CLS_FLOAT:
        *ret = *v;
        if (v->type == VAL_INT && num_cmp_id(v->i, (double)v->i) == 0) {
            *ret = (struct value){.type = VAL_DOUBLE, .d = (double)v->i};
        }
        return is_number(v);
    default:
        return false;
    }
}

/* ---- comparisons */

static bool is_key(const struct typer *tp, const struct operand *o)
{
    const struct field *f = schema_field(tp->s, o->field_id);
    return f && (f->is_pk || f->is_partition_key);
}

static int key_equals(struct typer *tp, const struct operand *o, const struct value *v,
                      struct typed *ret, struct status *st)
{
    struct expr *e = type__expr(tp, EX_IN);
    struct value *item = arena_try_array(tp->ar, 1, sizeof *item);
    if (!e || !item) {
        return type__no_memory(st);
    }
    *item = *v;
    e->operand = *o;
    e->value = (struct value){.type = VAL_ARRAY, .a = {item, 1}};
    *ret = type__pred(e);
    return 0;
}

static int array_equals(struct typer *tp, enum cmp_op op, const struct typed *l,
                        const struct typed *r, struct expr *e, struct status *st)
{
    struct operand elem = l->operand;
    struct path_step step = {.is_index = true};
    const struct value *list = &r->value;
    int rc = 0;
    if (list->type != VAL_ARRAY || !is_equality(op)) {
        FAIL(st, ERR_PARAMETER_INVALID, "can not comparisons array fields directly");
    }
    struct value *items = arena_try_array(tp->ar, MAX(list->a.n, 1u), sizeof *items);
    if (!items) {
        return type__no_memory(st);
    }
    elem.nsteps = 1;
    elem.steps = &step;
    for (uint32_t i = 0; i < list->a.n; i++) {
        if (!type__cast(plan__class(&elem), &list->a.items[i], &items[i])) {
            FAIL(st, ERR_PARAMETER_INVALID, "cannot cast value to Array, value: %s",
                 const__text(&list->a.items[i], tp->ar));
        }
    }
    e->value = (struct value){.type = VAL_ARRAY, .a = {items, list->a.n}};
out:
    return rc;
}

/* l is an operand or arithmetic, r a constant. */
static int compare_const(struct typer *tp, enum cmp_op op, const struct typed *l,
                         const struct typed *r, struct typed *ret, struct status *st)
{
    bool arith = l->tag == TY_ARITH;
    struct value v = r->value;
    int rc = 0;
    struct expr *e = type__expr(tp, arith ? EX_CMP_ARITH : EX_CMP);
    if (!e) {
        return type__no_memory(st);
    }
    e->operand = l->operand;
    e->op = op;
    if (arith) {
        if (!is_number(&v)) {
            return mismatch(l, r, st);
        }
        e->steps = l->steps.p;
        e->nsteps = l->steps.n;
        e->value = v;
        *ret = type__pred(e);
        return 0;
    }
    if (l->cls == CLS_ARRAY) {
        TRY(array_equals(tp, op, l, r, e, st));
        *ret = type__pred(e);
        return 0;
    }
    if (l->cls == CLS_INT && v.type == VAL_DOUBLE) {
        int_against_double(&e->op, &v);
    } else if (!type__cast(l->cls, &v, &v)) {
        return mismatch(l, r, st);
    }
    if (v.type == VAL_BOOL && !is_equality(op)) {
        FAIL(st, ERR_PARAMETER_INVALID, "only == and != are supported on boolean values");
    }
    if (e->op == OP_EQ && l->operand.nsteps == 0 && is_key(tp, &l->operand)) {
        return key_equals(tp, &l->operand, &v, ret, st);
    }
    e->value = v;
    *ret = type__pred(e);
out:
    return rc;
}

static int compare_fields(struct typer *tp, enum cmp_op op, const struct typed *l,
                          const struct typed *r, struct typed *ret, struct status *st)
{
    int rc = 0;
    if (l->tag != TY_OPERAND || r->tag != TY_OPERAND) {
        FAIL(st, ERR_PARAMETER_INVALID, "only comparison between two fields is supported");
    }
    if (l->cls == CLS_JSON || r->cls == CLS_JSON) {
        FAIL(st, ERR_PARAMETER_INVALID, "two column comparison with JSON type is not supported");
    }
    if (l->cls == CLS_ARRAY || r->cls == CLS_ARRAY) {
        FAIL(st, ERR_PARAMETER_INVALID, "can not comparisons array fields directly");
    }
    struct expr *e = type__expr(tp, EX_CMP_FIELDS);
    if (!e) {
        return type__no_memory(st);
    }
    e->operand = l->operand;
    e->operand2 = r->operand;
    e->op = op;
    if (plan__check_node(e)) {
        return mismatch(l, r, st);
    }
    *ret = type__pred(e);
out:
    return rc;
}

int type__compare(struct typer *tp, enum tok op, const struct typed *l, const struct typed *r,
                  struct typed *ret, struct status *st)
{
    int rc = 0;
    if (l->tag == TY_VALUE && r->tag == TY_VALUE) {
        struct typed v = {.tag = TY_VALUE};
        TRY(const__binary(op, &l->value, &r->value, l->text, &v.value, st));
        *ret = v;
        return 0;
    }
    if (l->tag == TY_PRED || r->tag == TY_PRED) {
        FAIL(st, ERR_PARAMETER_INVALID, "a condition cannot be compared: %.*s",
             TEXT_ARG(l->tag == TY_PRED ? l->text : r->text));
    }
    if (l->tag == TY_VALUE) {
        return compare_const(tp, mirrored(op_of(op)), r, l, ret, st);
    }
    if (r->tag == TY_VALUE) {
        return compare_const(tp, op_of(op), l, r, ret, st);
    }
    return compare_fields(tp, op_of(op), l, r, ret, st);
out:
    return rc;
}

/* ---- ranges */

/* Two comparisons, for chains that are not a plain range. */
static int chain_as_and(struct typer *tp, const struct node *nd, const struct typed *l,
                        const struct typed *mid, const struct typed *r, struct typed *ret,
                        struct status *st)
{
    struct typed parts[2];
    const struct expr *conds[2], *e;
    int rc = 0;
    TRY(type__compare(tp, nd->op, l, mid, &parts[0], st));
    TRY(type__compare(tp, nd->op2, mid, r, &parts[1], st));
    TRY(type__condition(tp, &parts[0], &conds[0], st));
    TRY(type__condition(tp, &parts[1], &conds[1], st));
    TRY(type__logic(tp, EX_AND, conds, 2, &e, st));
    *ret = type__pred(e);
out:
    return rc;
}

/* A range over an integer column with a fractional bound -> closed integer bounds, or the
 * comparison that never holds. */
static void int_range(struct expr *e)
{
    enum cmp_op lo_op = e->lo_inclusive ? OP_GE : OP_GT, hi_op = e->hi_inclusive ? OP_LE : OP_LT;
    if (e->lo.type == VAL_INT && e->hi.type == VAL_INT) {
        return;
    }
    if (e->lo.type == VAL_DOUBLE) {
        int_against_double(&lo_op, &e->lo);
    }
    if (e->hi.type == VAL_DOUBLE) {
        int_against_double(&hi_op, &e->hi);
    }
    /* "always" is >= INT64_MIN for either bound; "never" is < INT64_MIN. */
    bool never = lo_op == OP_LT || (hi_op == OP_LT && e->hi.i == INT64_MIN) ||
                 (lo_op == OP_GT && e->lo.i == INT64_MAX);
    if (hi_op == OP_GE) {
        hi_op = OP_LE;
        e->hi.i = INT64_MAX;
    }
    if (!never) {
        e->lo.i += lo_op == OP_GT;
        e->hi.i -= hi_op == OP_LT;
        never = e->lo.i > e->hi.i;
    }
    e->lo_inclusive = e->hi_inclusive = true;
    if (never) {
        e->kind = EX_CMP;
        e->lo = e->hi = (struct value){0};
        e->lo_inclusive = e->hi_inclusive = false;
        int_verdict(&e->op, &e->value, false);
    }
}

int type__range(struct typer *tp, const struct node *nd, const struct typed *l,
                const struct typed *mid, const struct typed *r, struct typed *ret,
                struct status *st)
{
    bool up = nd->op == TK_LT || nd->op == TK_LE;
    int rc = 0;
    if (mid->tag != TY_OPERAND || l->tag != TY_VALUE || r->tag != TY_VALUE) {
        return chain_as_and(tp, nd, l, mid, r, ret, st);
    }
    const struct typed *lo = up ? l : r, *hi = up ? r : l;
    if (mid->cls == CLS_ARRAY) {
        FAIL(st, ERR_PARAMETER_INVALID, "can not comparisons array fields directly");
    }
    if (mid->cls == CLS_BOOL || lo->value.type == VAL_BOOL || hi->value.type == VAL_BOOL) {
        FAIL(st, ERR_PARAMETER_INVALID, "invalid range operations on boolean expr");
    }
    struct expr *e = type__expr(tp, EX_RANGE);
    if (!e) {
        return type__no_memory(st);
    }
    e->operand = mid->operand;
    e->lo_inclusive = (up ? nd->op : nd->op2) == TK_LE || (up ? nd->op : nd->op2) == TK_GE;
    e->hi_inclusive = (up ? nd->op2 : nd->op) == TK_LE || (up ? nd->op2 : nd->op) == TK_GE;
    /* Integer columns take any number here; int_range() rounds. */
    enum opd_class cls = mid->cls == CLS_INT ? CLS_FLOAT : mid->cls;
    if (!type__cast(cls, &lo->value, &e->lo)) {
        return mismatch(mid, lo, st);
    }
    if (!type__cast(cls, &hi->value, &e->hi) || is_number(&e->lo) != is_number(&e->hi)) {
        return mismatch(mid, hi, st);
    }
    int c = plan__value_cmp(&lo->value, &hi->value);
    if (c > 0 || (c == 0 && !(e->lo_inclusive && e->hi_inclusive))) {
        FAIL(st, ERR_PARAMETER_INVALID, "invalid range: lowerbound is greater than upperbound");
    }
    if (mid->cls == CLS_INT) {
        e->lo = lo->value;
        e->hi = hi->value;
        int_range(e);
    }
    *ret = type__pred(e);
out:
    return rc;
}

/* ---- lists */

static int by_value(const void *a, const void *b)
{
    return plan__value_cmp(a, b);
}

/* Long lists of keys often come sorted. */
static bool is_ascending(const struct value *items, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        if (plan__value_cmp(&items[i - 1], &items[i]) >= 0) {
            return false;
        }
    }
    return true;
}

void type__sort_list(struct value *items, uint32_t *io_n)
{
    uint32_t n = 0;
    if (is_ascending(items, *io_n)) {
        return;
    }
    qsort(items, *io_n, sizeof *items, by_value);
    for (uint32_t i = 1; i < *io_n; i++) {
        if (plan__value_cmp(&items[n], &items[i]) != 0) {
            items[++n] = items[i];
        }
    }
    *io_n = n + 1;
}

int type__in(struct typer *tp, const struct node *nd, const struct typed *what,
             const struct typed *list, struct typed *ret, struct status *st)
{
    int rc = 0;
    if (what->tag == TY_VALUE) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "'term' can only be used on non-const expression, but got: %.*s",
             TEXT_ARG(what->text));
    }
    if (what->tag != TY_OPERAND || what->cls == CLS_ARRAY) {
        FAIL(st, ERR_PARAMETER_INVALID, "'term' can only be used on single field, but got: %.*s",
             TEXT_ARG(what->text));
    }
    if (list->tag != TY_VALUE) {
        FAIL(st, ERR_PARAMETER_INVALID, "value '%.*s' in list cannot be a non-const expression",
             TEXT_ARG(list->text));
    }
    if (list->value.type != VAL_ARRAY) {
        FAIL(st, ERR_PARAMETER_INVALID, "the right-hand side of 'in' must be a list, but got: %.*s",
             TEXT_ARG(list->text));
    }
    uint32_t n = list->value.a.n;
    struct value *items = arena_try_array(tp->ar, MAX(n, 1u), sizeof *items);
    struct expr *e = type__expr(tp, EX_IN);
    if (!e || !items) {
        return type__no_memory(st);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!type__cast(what->cls, &list->value.a.items[i], &items[i])) {
            FAIL(st, ERR_PARAMETER_INVALID, "value '%s' in list cannot be casted to %s",
                 const__text(&list->value.a.items[i], tp->ar), type__name(what));
        }
    }
    type__sort_list(items, &n);
    e->operand = what->operand;
    e->negate = nd->negate;
    e->value = (struct value){.type = VAL_ARRAY, .a = {items, n}};
    *ret = type__pred(e);
out:
    return rc;
}
