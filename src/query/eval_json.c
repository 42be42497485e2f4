/*
 * eval_json.c - JSON cells: values and contains. No tree is built, nothing is allocated per row.
 *
 * A path that does not exist, or leads to null, gives no value. Cells were validated when they were
 * inserted; the reader of base/json.h stops safely on damage.
 *
 * THREADS  pure.
 */
#include "query/eval_int.h"

bool eval__json_exists(const struct operand *o, struct slice cell)
{
    struct json_value v;
    return eval__json_find(o, cell, &v);
}

int64_t eval__json_length(const struct operand *o, struct slice cell)
{
    struct json_value v;
    if (!eval__json_find(o, cell, &v) || v.type != JSON_ARRAY) {
        return -1;
    }
    return (int64_t)json_count(&v);
}

/* The string without quotes; decoded into ev->text when it has escapes. */
static bool string_of(struct eval *ev, const struct json_value *v, struct slice *ret)
{
    struct slice s = slice_n(v->raw.p + 1, v->raw.n - 2);
    if (!v->escaped) {
        *ret = s;
        return true;
    }
    if (s.n > ev->text_cap) {
        size_t cap = MAX(s.n, ev->text_cap * 2);
        char *text = arena_try(ev->ar, cap);
        if (!text) {
            ev->no_memory = true;
            return false;
        }
        ev->text = text;
        ev->text_cap = cap;
    }
    *ret = slice_n(ev->text, json_unescape(s, ev->text));
    return true;
}

void eval__json_get(struct eval *ev, const struct operand *o, struct slice cell, struct scalar *ret)
{
    struct json_value v;
    ret->t = SC_NONE;
    if (!eval__json_find(o, cell, &v)) {
        return;
    }
    switch (v.type) {
    case JSON_BOOL:
        *ret = (struct scalar){.t = SC_BOOL, .b = v.b};
        break;
    case JSON_INT:
        *ret = (struct scalar){.t = SC_INT, .i = v.i};
        break;
    case JSON_UINT:
        *ret = (struct scalar){.t = SC_UINT, .u = v.u};
        break;
    case JSON_DOUBLE:
        *ret = (struct scalar){.t = SC_DOUBLE, .d = v.d};
        break;
    case JSON_STRING:
        if (string_of(ev, &v, &ret->s)) {
            ret->t = SC_STRING;
        }
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        ret->t = SC_OTHER;
        break;
    case JSON_NULL:
        break;
    }
}

/* ---- contains */

static bool json_equals(const struct json_value *j, const struct value *v);

static bool arrays_equal(const struct json_value *j, const struct value *v)
{
    struct json_value item;
    struct slice key;
    bool escaped;
    size_t pos = 0;
    uint32_t n = 0;
    while (json_next(j, &pos, &key, &escaped, &item)) {
        if (n == v->a.n || !json_equals(&item, &v->a.items[n])) {
            return false;
        }
        n++;
    }
    return n == v->a.n;
}

static bool json_equals(const struct json_value *j, const struct value *v)
{
    struct scalar s;
    switch (j->type) {
    case JSON_BOOL:
        return v->type == VAL_BOOL && j->b == v->b;
    case JSON_INT:
        s = (struct scalar){.t = SC_INT, .i = j->i};
        break;
    case JSON_UINT:
        s = (struct scalar){.t = SC_UINT, .u = j->u};
        break;
    case JSON_DOUBLE:
        s = (struct scalar){.t = SC_DOUBLE, .d = j->d};
        break;
    case JSON_STRING:
        return v->type == VAL_STRING && json_string_eq(j, v->s);
    case JSON_ARRAY:
        return v->type == VAL_ARRAY && arrays_equal(j, v);
    case JSON_NULL:
    case JSON_OBJECT:
    default:
        return false;
    }
    return eval__scalar_cmp(&s, OP_EQ, v) == TRI_TRUE;
}

/* Notes which constants equal j; true when that settles the answer. */
static bool note(struct eval *ev, const struct expr *e, const struct json_value *j,
                 uint32_t *missing)
{
    if (e->mode == CONTAINS_ONE) {
        return json_equals(j, &e->value);
    }
    for (uint32_t i = 0; i < e->value.a.n; i++) {
        if (e->mode == CONTAINS_ALL && bit_get(ev->seen, i)) {
            continue;
        }
        if (json_equals(j, &e->value.a.items[i])) {
            if (e->mode == CONTAINS_ANY) {
                return true;
            }
            bit_set(ev->seen, i);
            --*missing;
        }
    }
    return e->mode == CONTAINS_ALL && *missing == 0;
}

enum tri eval__json_contains(struct eval *ev, const struct expr *e, struct slice cell)
{
    struct json_value arr, item;
    struct slice key;
    bool escaped, list = e->mode != CONTAINS_ONE;
    size_t pos = 0;
    uint32_t missing = list ? e->value.a.n : 1;
    if (!eval__json_find(&e->operand, cell, &arr) || arr.type != JSON_ARRAY) {
        return TRI_UNKNOWN;
    }
    if (e->mode == CONTAINS_ALL) {
        memset(ev->seen, 0, bits_words(missing) * sizeof *ev->seen);
        if (missing == 0) {
            return TRI_TRUE;
        }
    }
    while (json_next(&arr, &pos, &key, &escaped, &item)) {
        if (note(ev, e, &item, &missing)) {
            return TRI_TRUE;
        }
    }
    return TRI_FALSE;
}
