/*
 * eval_array.c - Array cells: one element, equality, contains.
 *
 * An index past the end gives no value (the row is unknown).
 *
 * THREADS  pure.
 */
#include "query/eval_int.h"

static struct scalar element(enum dtype elem, struct slice cell, uint32_t i)
{
    struct slice s = array_elem(elem, cell, i);
    struct scalar r = {.t = SC_INT};
    int16_t i16;
    int32_t i32;
    float f32;
    switch (elem) {
    case DT_BOOL:
        return (struct scalar){.t = SC_BOOL, .b = s.p[0] != 0};
    case DT_INT8:
        r.i = (int8_t)s.p[0];
        break;
    case DT_INT16:
        memcpy(&i16, s.p, sizeof i16);
        r.i = i16;
        break;
    case DT_INT32:
        memcpy(&i32, s.p, sizeof i32);
        r.i = i32;
        break;
    case DT_INT64:
        memcpy(&r.i, s.p, sizeof r.i);
        break;
    case DT_FLOAT:
        memcpy(&f32, s.p, sizeof f32);
        return (struct scalar){.t = SC_DOUBLE, .d = (double)f32};
    case DT_DOUBLE:
        r.t = SC_DOUBLE;
        memcpy(&r.d, s.p, sizeof r.d);
        break;
    default:
        return (struct scalar){.t = SC_STRING, .s = s};
    }
    return r;
}

bool eval__array_get(const struct operand *o, const struct column *c, uint32_t row,
                     struct scalar *ret)
{
    struct slice cell = column_cell(c, row);
    uint32_t i = o->steps[0].index;
    if (i >= array_count(o->elem, cell)) {
        ret->t = SC_NONE;
        return false;
    }
    *ret = element(o->elem, cell, i);
    return true;
}

static bool equals(enum dtype elem, const struct scalar *s, const struct value *v)
{
    struct value k = eval__narrow(elem, v);
    return eval__scalar_cmp(s, OP_EQ, &k) == TRI_TRUE;
}

enum tri eval__array_equals(const struct expr *e, struct slice cell)
{
    enum dtype elem = e->operand.elem;
    uint32_t n = array_count(elem, cell);
    bool same = n == e->value.a.n;
    for (uint32_t i = 0; same && i < n; i++) {
        struct scalar s = element(elem, cell, i);
        same = equals(elem, &s, &e->value.a.items[i]);
    }
    return tri_of(same == (e->op == OP_EQ));
}

static bool has_value(enum dtype elem, struct slice cell, uint32_t n, const struct value *v)
{
    for (uint32_t i = 0; i < n; i++) {
        struct scalar s = element(elem, cell, i);
        if (equals(elem, &s, v)) {
            return true;
        }
    }
    return false;
}

enum tri eval__array_contains(const struct expr *e, struct slice cell)
{
    enum dtype elem = e->operand.elem;
    uint32_t n = array_count(elem, cell);
    if (e->mode == CONTAINS_ONE) {
        return tri_of(has_value(elem, cell, n, &e->value));
    }
    bool all = e->mode == CONTAINS_ALL;
    for (uint32_t i = 0; i < e->value.a.n; i++) {
        if (has_value(elem, cell, n, &e->value.a.items[i]) != all) {
            return tri_of(!all);
        }
    }
    return tri_of(all);
}
