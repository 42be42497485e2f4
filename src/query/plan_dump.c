/*
 * plan_dump.c - a plan as filter text again.
 *
 * The text is fully bracketed and parses back to an equal plan: doubles are printed with 17 digits
 * and always look like doubles, dynamic keys are written $meta["key"].
 *
 * THREADS  pure.
 */
#include "query/query_int.h"
#include "base/utf8.h"
#include <inttypes.h>

static void put_text(struct buf *b, struct slice s)
{
    bool utf8 = utf8_valid(s);
    buf_putc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\') {
            buf_putc(b, '\\');
            buf_putc(b, (char)c);
        } else if (c == '\n') {
            buf_put_str(b, "\\n");
        } else if (c < 0x20 || c == 0x7F || (c >= 0x80 && !utf8)) {
            buf_printf(b, "\\x%02x", c);
        } else {
            buf_putc(b, (char)c);
        }
    }
    buf_putc(b, '"');
}

static void put_double(struct buf *b, double d)
{
    size_t from = b->n;
    if (buf_printf(b, "%.17g", d) && !memchr(b->p + from, '.', b->n - from) &&
        !memchr(b->p + from, 'e', b->n - from)) {
        buf_put_str(b, ".0");
    }
}

static void put_value(struct buf *b, const struct value *v)
{
    switch (v->type) {
    case VAL_NULL:
        buf_put_str(b, "null");
        break;
    case VAL_BOOL:
        buf_put_str(b, v->b ? "true" : "false");
        break;
    case VAL_INT:
        buf_printf(b, "%" PRId64, v->i);
        break;
    case VAL_DOUBLE:
        put_double(b, v->d);
        break;
    case VAL_STRING:
        put_text(b, v->s);
        break;
    case VAL_ARRAY:
        buf_putc(b, '[');
        for (uint32_t i = 0; i < v->a.n; i++) {
            if (i) {
                buf_put_str(b, ", ");
            }
            put_value(b, &v->a.items[i]);
        }
        buf_putc(b, ']');
        break;
    }
}

static void put_operand(struct buf *b, const struct operand *o, const struct schema *s)
{
    const struct field *f = schema_field(s, o->field_id);
    if (f) {
        buf_put_str(b, f->name);
    } else {
        buf_printf(b, "field_%" PRId64, o->field_id);
    }
    for (uint32_t i = 0; i < o->nsteps; i++) {
        buf_putc(b, '[');
        if (o->steps[i].is_index) {
            buf_printf(b, "%u", o->steps[i].index);
        } else {
            put_text(b, o->steps[i].key);
        }
        buf_putc(b, ']');
    }
}

static const char *op_text(enum cmp_op op)
{
    static const char *const text[] = {" == ", " != ", " < ", " <= ", " > ", " >= "};
    return text[op];
}

/* ((f + 1) * 2): steps from the inside out, so the opening brackets come first. */
static void put_arith(struct buf *b, const struct expr *e, const struct schema *s)
{
    static const char *const text[] = {
        [AR_ADD] = " + ", [AR_SUB] = " - ", [AR_MUL] = " * ",
        [AR_DIV] = " / ", [AR_MOD] = " % ", [AR_POW] = " ** ",
    };
    bool length = e->nsteps && e->steps[0].op == AR_LENGTH;
    for (uint32_t i = e->nsteps; i-- > (length ? 1u : 0u);) {
        buf_putc(b, '(');
        if (e->steps[i].reversed) {
            buf_putc(b, '(');
            put_value(b, &e->steps[i].value);
            buf_putc(b, ')');
            buf_put_str(b, text[e->steps[i].op]);
        }
    }
    buf_put_str(b, length ? "array_length(" : "");
    put_operand(b, &e->operand, s);
    buf_put_str(b, length ? ")" : "");
    for (uint32_t i = length; i < e->nsteps; i++) {
        if (!e->steps[i].reversed) {
            buf_put_str(b, text[e->steps[i].op]);
            buf_putc(b, '(');
            put_value(b, &e->steps[i].value);
            buf_putc(b, ')');
        }
        buf_putc(b, ')');
    }
    buf_put_str(b, op_text(e->op));
    put_value(b, &e->value);
}

static void put_node(struct buf *b, const struct expr *e, const struct schema *s)
{
    static const char *const contains[] = {"contains", "contains_all", "contains_any"};
    switch (e->kind) {
    case EX_CONST:
        put_value(b, &e->value);
        break;
    case EX_AND:
    case EX_OR:
        for (uint32_t i = 0; i < e->nkids; i++) {
            buf_put_str(b, i == 0 ? "(" : e->kind == EX_AND ? ") and (" : ") or (");
            put_node(b, e->kids[i], s);
        }
        buf_putc(b, ')');
        break;
    case EX_NOT:
        buf_put_str(b, "not (");
        put_node(b, e->kids[0], s);
        buf_putc(b, ')');
        break;
    case EX_CMP:
        put_operand(b, &e->operand, s);
        buf_put_str(b, op_text(e->op));
        put_value(b, &e->value);
        break;
    case EX_CMP_FIELDS:
        put_operand(b, &e->operand, s);
        buf_put_str(b, op_text(e->op));
        put_operand(b, &e->operand2, s);
        break;
    case EX_CMP_ARITH:
        put_arith(b, e, s);
        break;
    case EX_RANGE:
        put_value(b, &e->lo);
        buf_put_str(b, e->lo_inclusive ? " <= " : " < ");
        put_operand(b, &e->operand, s);
        buf_put_str(b, e->hi_inclusive ? " <= " : " < ");
        put_value(b, &e->hi);
        break;
    case EX_IN:
        put_operand(b, &e->operand, s);
        buf_put_str(b, e->negate ? " not in " : " in ");
        put_value(b, &e->value);
        break;
    case EX_LIKE:
        put_operand(b, &e->operand, s);
        buf_put_str(b, " like ");
        put_value(b, &e->value);
        break;
    case EX_IS_NULL:
        put_operand(b, &e->operand, s);
        buf_put_str(b, e->negate ? " is not null" : " is null");
        break;
    case EX_EXISTS:
        buf_put_str(b, "exists ");
        put_operand(b, &e->operand, s);
        break;
    case EX_CONTAINS:
        buf_put_str(b, e->operand.type == DT_ARRAY ? "array_" : "json_");
        buf_put_str(b, contains[e->mode]);
        buf_putc(b, '(');
        put_operand(b, &e->operand, s);
        buf_put_str(b, ", ");
        put_value(b, &e->value);
        buf_putc(b, ')');
        break;
    case EX_BOOL:
        put_operand(b, &e->operand, s);
        break;
    }
}

bool plan_dump(const struct expr *e, const struct schema *s, struct buf *out)
{
    put_node(out, e, s);
    return !out->failed;
}
