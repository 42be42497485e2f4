/*
 * filter_const.c - constants: folding, and how they appear in messages.
 *
 * As the API does it: integers divide towards zero, `**` always gives a double, a zero divisor is
 * an error. Overflow of int64 and results that are not finite are errors here, because a filter
 * that means a wrapped number is a mistake of its author.
 *
 * THREADS  pure.
 */
#include "query/query_int.h"
#include "schema/errors.h"
#include <inttypes.h>
#include <math.h>

const char *const__type_name(const struct value *v)
{
    switch (v->type) {
    case VAL_BOOL:
        return "Bool";
    case VAL_INT:
        return "Int64";
    case VAL_DOUBLE:
        return "Double";
    case VAL_STRING:
        return "VarChar";
    case VAL_ARRAY:
        return "Array";
    case VAL_NULL:
        break;
    }
    return "None";
}

const char *const__text(const struct value *v, struct arena *ar)
{
    switch (v->type) {
    case VAL_BOOL:
        return v->b ? "bool_val:true" : "bool_val:false";
    case VAL_INT:
        return arena_printf(ar, "int64_val:%" PRId64, v->i);
    case VAL_DOUBLE:
        return arena_printf(ar, "float_val:%.17g", v->d);
    case VAL_STRING:
        return arena_printf(ar, "string_val:\"%.*s\"", (int)MIN(v->s.n, (size_t)64), v->s.p);
    case VAL_ARRAY:
        return arena_printf(ar, "array_val:{%u elements}", v->a.n);
    case VAL_NULL:
        break;
    }
    return "null";
}

bool const__finite(const struct value *v)
{
    if (v->type == VAL_DOUBLE) {
        return isfinite(v->d);
    }
    for (uint32_t i = 0; v->type == VAL_ARRAY && i < v->a.n; i++) {
        if (!const__finite(&v->a.items[i])) {
            return false;
        }
    }
    return true;
}

int64_t num__int_step(enum arith_op op, int64_t a, int64_t b, bool *ok)
{
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b;
    *ok = true;
    switch (op) {
    case AR_ADD:
        return (int64_t)(ua + ub);
    case AR_SUB:
        return (int64_t)(ua - ub);
    case AR_MUL:
        return (int64_t)(ua * ub);
    case AR_DIV:
        *ok = b != 0;
        return b == 0 ? 0 : b == -1 ? (int64_t)(0 - ua) : a / b;
    case AR_MOD:
        *ok = b != 0;
        return b == 0 || b == -1 ? 0 : a % b;
    default:
        *ok = false;
        return 0;
    }
}

double num__double_step(enum arith_op op, double a, double b, bool *ok)
{
    *ok = true;
    switch (op) {
    case AR_ADD:
        return a + b;
    case AR_SUB:
        return a - b;
    case AR_MUL:
        return a * b;
    case AR_DIV:
        *ok = b != 0;
        return b != 0 ? a / b : 0;
    case AR_POW:
        return pow(a, b);
    default:
        *ok = false;
        return 0;
    }
}

static bool is_number(const struct value *v)
{
    return v->type == VAL_INT || v->type == VAL_DOUBLE;
}

static double to_double(const struct value *v)
{
    return v->type == VAL_INT ? (double)v->i : v->d;
}

static bool int_overflows(enum tok op, int64_t a, int64_t b)
{
    int64_t r;
    switch (op) {
    case TK_ADD:
        return __builtin_add_overflow(a, b, &r);
    case TK_SUB:
        return __builtin_sub_overflow(a, b, &r);
    case TK_MUL:
        return __builtin_mul_overflow(a, b, &r);
    default: /* division */
        return a == INT64_MIN && b == -1;
    }
}

static int fold_arith(enum tok op, const struct value *l, const struct value *r, struct slice text,
                      struct value *ret, struct status *st)
{
    static const enum arith_op map[] = {
        [TK_ADD] = AR_ADD, [TK_SUB] = AR_SUB, [TK_MUL] = AR_MUL,
        [TK_DIV] = AR_DIV, [TK_MOD] = AR_MOD, [TK_POW] = AR_POW,
    };
    bool ok;
    int rc = 0;
    if (!is_number(l) || !is_number(r)) {
        FAIL(st, ERR_PARAMETER_INVALID, "arithmetic can only be applied on numbers: %.*s",
             SLICE_ARG(text));
    }
    bool ints = l->type == VAL_INT && r->type == VAL_INT;
    if ((op == TK_DIV || op == TK_MOD) && to_double(r) == 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "%s by zero", op == TK_DIV ? "division" : "modulo");
    }
    if (op == TK_MOD && !ints) {
        FAIL(st, ERR_PARAMETER_INVALID, "modulo can only apply on integer types");
    }
    if (ints && op != TK_POW) {
        if (int_overflows(op, l->i, r->i)) {
            FAIL(st, ERR_PARAMETER_INVALID, "integer overflow: %.*s", SLICE_ARG(text));
        }
        *ret = (struct value){.type = VAL_INT, .i = num__int_step(map[op], l->i, r->i, &ok)};
        return 0;
    }
    double d = num__double_step(map[op], to_double(l), to_double(r), &ok);
    if (!isfinite(d)) {
        FAIL(st, ERR_PARAMETER_INVALID, "result is not a finite number: %.*s", SLICE_ARG(text));
    }
    *ret = (struct value){.type = VAL_DOUBLE, .d = d};
out:
    return rc;
}

static int fold_compare(enum tok op, const struct value *l, const struct value *r,
                        struct slice text, struct value *ret, struct status *st)
{
    static const enum cmp_op map[] = {
        [TK_LT] = OP_LT, [TK_LE] = OP_LE, [TK_GT] = OP_GT,
        [TK_GE] = OP_GE, [TK_EQ] = OP_EQ, [TK_NE] = OP_NE,
    };
    int rc = 0;
    bool equality = op == TK_EQ || op == TK_NE;
    bool same = is_number(l) ? is_number(r) : l->type == r->type;
    if (!same || (!equality && (l->type == VAL_BOOL || l->type == VAL_ARRAY))) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "comparison operations cannot be applied to two incompatible operands: %.*s",
             SLICE_ARG(text));
    }
    int c = l->type == VAL_ARRAY ? !plan__value_eq(l, r) : plan__value_cmp(l, r);
    *ret = (struct value){.type = VAL_BOOL, .b = cmp_holds(map[op], c)};
out:
    return rc;
}

int const__binary(enum tok op, const struct value *l, const struct value *r, struct slice text,
                  struct value *ret, struct status *st)
{
    text.n = MIN(text.n, (size_t)128);
    switch (op) {
    case TK_ADD:
    case TK_SUB:
    case TK_MUL:
    case TK_DIV:
    case TK_MOD:
    case TK_POW:
        return fold_arith(op, l, r, text, ret, st);
    default:
        return fold_compare(op, l, r, text, ret, st);
    }
}

int const__unary(enum tok op, const struct value *v, struct value *ret, struct status *st)
{
    int rc = 0;
    if (op == TK_NOT) {
        if (v->type != VAL_BOOL) {
            FAIL(st, ERR_PARAMETER_INVALID, "not op can only be applied on boolean expression");
        }
        *ret = (struct value){.type = VAL_BOOL, .b = !v->b};
        return 0;
    }
    if (!is_number(v)) {
        FAIL(st, ERR_PARAMETER_INVALID, "sign can only be applied on numbers");
    }
    if (op == TK_SUB && v->type == VAL_INT && v->i == INT64_MIN) {
        FAIL(st, ERR_PARAMETER_INVALID, "integer overflow");
    }
    *ret = *v;
    if (op == TK_SUB && v->type == VAL_INT) {
        ret->i = -v->i;
    } else if (op == TK_SUB) {
        ret->d = -v->d;
    }
out:
    return rc;
}
