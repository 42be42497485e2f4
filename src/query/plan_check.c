/*
 * plan_check.c - what every plan node must satisfy, and the order of constants.
 *
 * The evaluator relies on these rules instead of checking rows one by one: the parser produces only
 * such nodes, and plan_decode() refuses all others.
 *
 * THREADS  pure.
 */
#include "query/query_int.h"

static enum opd_class class_of(enum dtype t)
{
    switch (t) {
    case DT_BOOL:
        return CLS_BOOL;
    case DT_INT8:
    case DT_INT16:
    case DT_INT32:
    case DT_INT64:
        return CLS_INT;
    case DT_FLOAT:
    case DT_DOUBLE:
        return CLS_FLOAT;
    case DT_VARCHAR:
    case DT_TEXT:
        return CLS_STRING;
    default:
        return CLS_NONE;
    }
}

enum opd_class plan__class(const struct operand *o)
{
    if (o->type == DT_JSON) {
        return CLS_JSON;
    }
    if (o->type == DT_ARRAY) {
        if (class_of(o->elem) == CLS_NONE || o->nsteps > 1) {
            return CLS_NONE;
        }
        if (o->nsteps == 0) {
            return CLS_ARRAY;
        }
        return o->steps[0].is_index ? class_of(o->elem) : CLS_NONE;
    }
    return o->nsteps == 0 ? class_of(o->type) : CLS_NONE;
}

enum dtype plan__type(const struct operand *o)
{
    return o->type == DT_ARRAY && o->nsteps == 1 ? o->elem : o->type;
}

bool plan__operand_eq(const struct operand *a, const struct operand *b)
{
    if (a->field_id != b->field_id || a->type != b->type || a->elem != b->elem ||
        a->nsteps != b->nsteps) {
        return false;
    }
    for (uint32_t i = 0; i < a->nsteps; i++) {
        if (a->steps[i].is_index != b->steps[i].is_index ||
            a->steps[i].index != b->steps[i].index || !slice_eq(a->steps[i].key, b->steps[i].key)) {
            return false;
        }
    }
    return true;
}

/* ---- constants */

static bool is_number(const struct value *v)
{
    return v->type == VAL_INT || v->type == VAL_DOUBLE;
}

static int rank(const struct value *v)
{
    return v->type == VAL_INT ? VAL_DOUBLE : v->type;
}

int plan__value_cmp(const struct value *a, const struct value *b)
{
    int ra = rank(a), rb = rank(b);
    if (ra != rb) {
        return ra < rb ? -1 : 1;
    }
    switch (a->type) {
    case VAL_BOOL:
        return (int)a->b - (int)b->b;
    case VAL_INT:
        return b->type == VAL_INT ? num_cmp_ii(a->i, b->i) : num_cmp_id(a->i, b->d);
    case VAL_DOUBLE:
        return b->type == VAL_INT ? -num_cmp_id(b->i, a->d) : num_cmp_dd(a->d, b->d);
    case VAL_STRING: {
        int c = slice_cmp(a->s, b->s);
        return (c > 0) - (c < 0);
    }
    default:
        return 0;
    }
}

bool plan__value_eq(const struct value *a, const struct value *b)
{
    if (a->type != VAL_ARRAY || b->type != VAL_ARRAY) {
        return a->type != VAL_NULL && plan__value_cmp(a, b) == 0;
    }
    if (a->a.n != b->a.n) {
        return false;
    }
    for (uint32_t i = 0; i < a->a.n; i++) {
        if (!plan__value_eq(&a->a.items[i], &b->a.items[i])) {
            return false;
        }
    }
    return true;
}

/* A scalar constant that rows of this class can be compared with. */
static bool fits(enum opd_class cls, const struct value *v)
{
    switch (cls) {
    case CLS_BOOL:
        return v->type == VAL_BOOL;
    case CLS_INT:
        return v->type == VAL_INT;
    case CLS_FLOAT:
        return is_number(v);
    case CLS_STRING:
        return v->type == VAL_STRING;
    case CLS_JSON:
        return v->type == VAL_BOOL || v->type == VAL_STRING || is_number(v);
    default:
        return false;
    }
}

static bool all_fit(enum opd_class cls, const struct value *list)
{
    for (uint32_t i = 0; list->type == VAL_ARRAY && i < list->a.n; i++) {
        if (!fits(cls, &list->a.items[i])) {
            return false;
        }
    }
    return list->type == VAL_ARRAY;
}

static bool no_nulls(const struct value *v)
{
    for (uint32_t i = 0; v->type == VAL_ARRAY && i < v->a.n; i++) {
        if (!no_nulls(&v->a.items[i])) {
            return false;
        }
    }
    return v->type != VAL_NULL;
}

static bool strictly_ascending(const struct value *list)
{
    for (uint32_t i = 1; i < list->a.n; i++) {
        if (plan__value_cmp(&list->a.items[i - 1], &list->a.items[i]) >= 0) {
            return false;
        }
    }
    return true;
}

/* ---- nodes */

static const char *check_cmp(const struct expr *e, enum opd_class cls)
{
    bool equality = e->op == OP_EQ || e->op == OP_NE;
    if (cls == CLS_ARRAY) {
        struct operand elem = e->operand;
        struct path_step step = {.is_index = true};
        elem.nsteps = 1;
        elem.steps = &step;
        return equality && all_fit(plan__class(&elem), &e->value) ? NULL : "array comparison";
    }
    if (!fits(cls, &e->value) || (!equality && e->value.type == VAL_BOOL)) {
        return "comparison with a constant";
    }
    return NULL;
}

static const char *check_fields(const struct expr *e, enum opd_class a)
{
    enum opd_class b = plan__class(&e->operand2);
    bool equality = e->op == OP_EQ || e->op == OP_NE;
    bool numbers = (a == CLS_INT || a == CLS_FLOAT) && (b == CLS_INT || b == CLS_FLOAT);
    bool same = a == b && (a == CLS_STRING || (a == CLS_BOOL && equality));
    return numbers || same ? NULL : "comparison of two fields";
}

static const char *check_arith(const struct expr *e, enum opd_class cls)
{
    if (e->nsteps == 0 || !is_number(&e->value)) {
        return "arithmetic";
    }
    for (uint32_t i = 0; i < e->nsteps; i++) {
        const struct arith_step *s = &e->steps[i];
        if (s->op == AR_LENGTH) {
            if (i > 0 || (cls != CLS_ARRAY && cls != CLS_JSON)) {
                return "array_length";
            }
            cls = CLS_INT;
            continue;
        }
        if (cls != CLS_INT && cls != CLS_FLOAT && cls != CLS_JSON) {
            return "arithmetic operand";
        }
        if (s->op > AR_POW || !is_number(&s->value)) {
            return "arithmetic step";
        }
        bool zero = s->value.type == VAL_INT ? s->value.i == 0 : s->value.d == 0;
        if ((s->op == AR_DIV || s->op == AR_MOD) && zero && !s->reversed) {
            return "division by zero";
        }
        if (s->op == AR_MOD && (cls == CLS_FLOAT || s->value.type != VAL_INT)) {
            return "modulo";
        }
        if (cls == CLS_INT && (s->op == AR_POW || s->value.type == VAL_DOUBLE)) {
            cls = CLS_FLOAT;
        }
    }
    return NULL;
}

static const char *check_range(const struct expr *e, enum opd_class cls)
{
    if (cls == CLS_BOOL || !fits(cls, &e->lo) || !fits(cls, &e->hi) || e->lo.type == VAL_BOOL ||
        is_number(&e->lo) != is_number(&e->hi)) {
        return "range";
    }
    return e->hi.type == VAL_BOOL ? "range" : NULL;
}

static const char *check_contains(const struct expr *e, enum opd_class cls)
{
    struct operand elem = e->operand;
    struct path_step step = {.is_index = true};
    bool list = e->mode != CONTAINS_ONE;
    if (cls == CLS_JSON) {
        return no_nulls(&e->value) && (!list || e->value.type == VAL_ARRAY) ? NULL : "contains";
    }
    if (cls != CLS_ARRAY) {
        return "contains operand";
    }
    elem.nsteps = 1;
    elem.steps = &step;
    bool ok = list ? all_fit(plan__class(&elem), &e->value) : fits(plan__class(&elem), &e->value);
    return ok ? NULL : "contains";
}

static const char *check_steps(const struct expr *e)
{
    for (uint32_t i = 0; i < e->nsteps; i++) {
        if (!const__finite(&e->steps[i].value)) {
            return "number";
        }
    }
    return NULL;
}

const char *plan__check_node(const struct expr *e)
{
    const enum opd_class cls = plan__class(&e->operand);
    if (!const__finite(&e->value) || !const__finite(&e->lo) || !const__finite(&e->hi) ||
        check_steps(e)) {
        return "number";
    }
    switch (e->kind) {
    case EX_CONST:
        return e->value.type == VAL_BOOL ? NULL : "constant";
    case EX_AND:
    case EX_OR:
        return e->nkids >= 2 ? NULL : "number of terms";
    case EX_NOT:
        return e->nkids == 1 ? NULL : "number of terms";
    case EX_CMP:
        return check_cmp(e, cls);
    case EX_CMP_FIELDS:
        return check_fields(e, cls);
    case EX_CMP_ARITH:
        return check_arith(e, cls);
    case EX_RANGE:
        return check_range(e, cls);
    case EX_IN:
        return all_fit(cls, &e->value) && strictly_ascending(&e->value) ? NULL : "list";
    case EX_LIKE:
        return (cls == CLS_STRING || cls == CLS_JSON) && e->value.type == VAL_STRING ? NULL
                                                                                     : "like";
    case EX_IS_NULL:
        return e->operand.nsteps == 0 || cls == CLS_JSON ? NULL : "null test";
    case EX_EXISTS:
        return cls == CLS_JSON ? NULL : "exists";
    case EX_CONTAINS:
        return check_contains(e, cls);
    case EX_BOOL:
        return cls == CLS_BOOL ? NULL : "condition";
    }
    return "kind of node";
}
