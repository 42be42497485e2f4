/*
 * test_filter_random.c - random filters over random rows, against an interpreter that is as simple
 * as possible.
 *
 * The interpreter works on the generator's own tree and on the rows as values; it knows neither the
 * parser, the plan nor a column. Numbers are compared as long double, which holds both int64 and
 * double exactly. Each filter also goes plan -> text -> plan and plan -> bytes -> plan.
 */
#include "query_fixture.h"
#include "expect.h"
#include <float.h>
#include <math.h>

#if LDBL_MANT_DIG < 64
#error "the interpreter needs a long double that holds every int64"
#endif

enum { NO, YES, MAYBE };

enum op_kind { OPD_PLAIN, OPD_ELEM, OPD_A, OPD_X, OPD_T, OPD_T_ELEM };
struct gop {
    enum op_kind kind;
    uint32_t field;
    uint32_t index;
};

enum gkind {
    G_CMP,
    G_RANGE,
    G_IN,
    G_LIKE,
    G_ARITH,
    G_LENGTH,
    G_FIELDS,
    G_NULL,
    G_EXISTS,
    G_CONTAINS,
    G_BOOL,
    G_AND,
    G_OR,
    G_NOT
};
#define G_MAX 6
struct g {
    enum gkind kind;
    struct gop o, o2;
    int op; /* == != < <= > >= */
    bool negate, lo_in, hi_in, single;
    uint32_t n;
    struct fx_val v[G_MAX];
    struct g *kids[G_MAX];
    int steps[2];
    bool reversed[2];
    int mode;
    const char *pattern;
};
static const char *const op_names[] = {"==", "!=", "<", "<=", ">", ">="};

/* ---- interpreter */

static struct fx_val value_of(const struct fx *fx, const struct fx_row *r, const struct gop *o)
{
    struct fx_val none = {0};
    const struct fx_object *obj = &r->obj[o->field];
    switch (o->kind) {
    case OPD_PLAIN:
        return r->val[o->field];
    case OPD_ELEM:
        return r->list[o->field].none || o->index >= r->list[o->field].n
                   ? none
                   : r->list[o->field].items[o->index];
    case OPD_A:
        return obj->none ? none : obj->a;
    case OPD_X:
        return obj->none ? none : obj->x;
    case OPD_T_ELEM:
        return obj->none || obj->t.none || o->index >= obj->t.n ? none : obj->t.items[o->index];
    case OPD_T:
        return none;
    }
    return none;
}

static enum dtype type_of(const struct fx *fx, const struct gop *o)
{
    const struct field *f = &fx->fields[o->field];
    return o->kind == OPD_PLAIN ? f->type : o->kind == OPD_ELEM ? f->elem : DT_JSON;
}

static bool is_number(const struct fx_val *v)
{
    return v->kind == FX_INT || v->kind == FX_UINT || v->kind == FX_DOUBLE;
}

static long double number(const struct fx_val *v)
{
    return v->kind == FX_INT    ? (long double)v->i
           : v->kind == FX_UINT ? (long double)v->u
                                : (long double)v->d;
}

/* Constants against Float are single precision. */
static struct fx_val narrow(enum dtype t, struct fx_val v)
{
    if (t == DT_FLOAT && is_number(&v)) {
        double d = (double)number(&v);
        return fx_double(fabs(d) <= (double)FLT_MAX ? (double)(float)d : d);
    }
    return v;
}

static bool holds(int op, int c)
{
    return op == 0   ? c == 0
           : op == 1 ? c != 0
           : op == 2 ? c < 0
           : op == 3 ? c <= 0
           : op == 4 ? c > 0
                     : c >= 0;
}

static int compare(const struct fx_val *a, int op, const struct fx_val *b)
{
    if (is_number(a) && is_number(b)) {
        long double x = number(a), y = number(b);
        if (isnan(x) || isnan(y)) {
            return op == 1;
        }
        return holds(op, (x > y) - (x < y));
    }
    if (a->kind == FX_STRING && b->kind == FX_STRING) {
        return holds(op, slice_cmp(a->s, b->s));
    }
    if (a->kind == FX_BOOL && b->kind == FX_BOOL) {
        return holds(op, a->b - b->b);
    }
    return MAYBE;
}

static bool like(const char *p, size_t np, const char *s, size_t ns)
{
    if (np == 0) {
        return ns == 0;
    }
    if (*p == '%') {
        for (size_t i = 0; i <= ns; i++) {
            if (like(p + 1, np - 1, s + i, ns - i)) {
                return true;
            }
        }
        return false;
    }
    if (ns == 0) {
        return false;
    }
    if (*p == '_') {
        size_t k = 1;
        if (((unsigned char)*s & 0xC0) == 0x80) {
            return false; /* inside a character */
        }
        while (k < ns && ((unsigned char)s[k] & 0xC0) == 0x80) {
            k++;
        }
        return like(p + 1, np - 1, s + k, ns - k);
    }
    if (*p == '\\' && np > 1) {
        p++;
        np--;
    }
    return *p == *s && like(p + 1, np - 1, s + 1, ns - 1);
}

static bool step(int op, bool reversed, bool single, struct fx_val *x, struct fx_val k)
{
    struct fx_val a = reversed ? k : *x, b = reversed ? *x : k;
    if (a.kind == FX_INT && b.kind == FX_INT && op != 5) {
        unsigned __int128 ua = (unsigned __int128)(__int128)a.i,
                          ub = (unsigned __int128)(__int128)b.i;
        if (op >= 3 && b.i == 0) {
            return false;
        }
        __int128 r = op == 0   ? (__int128)(ua + ub)
                     : op == 1 ? (__int128)(ua - ub)
                     : op == 2 ? (__int128)(ua * ub)
                     : op == 3 ? (__int128)a.i / b.i
                               : (__int128)a.i % b.i;
        *x = fx_int((int64_t)(uint64_t)r);
        return true;
    }
    double da = single ? (double)(float)(double)number(&a) : (double)number(&a);
    double db = single ? (double)(float)(double)number(&b) : (double)number(&b);
    if (op == 4 || (op == 3 && db == 0)) {
        return false;
    }
    double r = op == 0   ? da + db
               : op == 1 ? da - db
               : op == 2 ? da * db
               : op == 3 ? da / db
                         : pow(da, db);
    *x = fx_double(single ? (double)(float)r : r);
    return true;
}

static const struct fx_list *list_of(const struct fx_row *r, const struct gop *o)
{
    if (o->kind == OPD_PLAIN) {
        return r->list[o->field].none ? NULL : &r->list[o->field];
    }
    return r->obj[o->field].none || r->obj[o->field].t.none ? NULL : &r->obj[o->field].t;
}

static bool member(const struct fx_list *l, enum dtype elem, struct fx_val v)
{
    struct fx_val k = narrow(elem, v);
    for (uint32_t i = 0; i < l->n; i++) {
        if (compare(&l->items[i], 0, &k) == YES) {
            return true;
        }
    }
    return false;
}

static int contains(const struct fx *fx, const struct g *g, const struct fx_row *r)
{
    const struct fx_list *l = list_of(r, &g->o);
    enum dtype elem = fx->fields[g->o.field].elem;
    uint32_t hits = 0;
    if (!l) {
        return MAYBE;
    }
    for (uint32_t i = 0; i < g->n; i++) {
        hits += member(l, elem, g->v[i]);
    }
    return g->mode == 1 ? hits == g->n : hits > 0;
}

static int interpret(const struct fx *fx, const struct g *g, const struct fx_row *r)
{
    enum dtype t = type_of(fx, &g->o);
    struct fx_val x = value_of(fx, r, &g->o), y;
    int a, b;
    switch (g->kind) {
    case G_CMP:
        y = narrow(t, g->v[0]);
        return compare(&x, g->op, &y);
    case G_BOOL:
        return x.kind == FX_NONE ? MAYBE : x.b;
    case G_RANGE:
        y = narrow(t, g->v[0]);
        a = compare(&x, g->lo_in ? 5 : 4, &y);
        y = narrow(t, g->v[1]);
        b = compare(&x, g->hi_in ? 3 : 2, &y);
        return a == MAYBE || b == MAYBE ? MAYBE : a && b;
    case G_IN:
        a = g->n == 0 ? NO : MAYBE;
        for (uint32_t i = 0; i < g->n; i++) {
            y = narrow(t, g->v[i]);
            b = compare(&x, 0, &y);
            a = b == YES || a == YES ? YES : b == NO || a == NO ? NO : MAYBE;
        }
        return x.kind == FX_NONE || a == MAYBE ? MAYBE : a != g->negate;
    case G_LIKE:
        return x.kind != FX_STRING ? MAYBE : like(g->pattern, strlen(g->pattern), x.s.p, x.s.n);
    case G_LENGTH:
        if (!list_of(r, &g->o)) {
            return MAYBE;
        }
        x = fx_int(list_of(r, &g->o)->n);
        return compare(&x, g->op, &g->v[0]);
    case G_ARITH:
        if (x.kind == FX_UINT) {
            x = fx_double((double)x.u);
        }
        for (uint32_t i = 0; i < g->n; i++) {
            if (!is_number(&x) ||
                !step(g->steps[i], g->reversed[i], t == DT_FLOAT, &x, g->v[i + 1])) {
                return MAYBE;
            }
        }
        y = narrow(t, g->v[0]);
        return compare(&x, g->op, &y);
    case G_FIELDS:
        y = value_of(fx, r, &g->o2);
        return compare(&x, g->op, &y);
    case G_NULL:
        if (g->o.kind == OPD_PLAIN && fx->fields[g->o.field].type == DT_JSON) {
            a = r->obj[g->o.field].none;
        } else if (g->o.kind == OPD_T) {
            a = r->obj[g->o.field].none ||
                (r->obj[g->o.field].t.none && !r->obj[g->o.field].t_scalar);
        } else if (g->o.kind == OPD_PLAIN && fx->fields[g->o.field].type == DT_ARRAY) {
            a = r->list[g->o.field].none;
        } else {
            a = x.kind == FX_NONE;
        }
        return a != g->negate;
    case G_EXISTS:
        return g->o.kind == OPD_T ? !r->obj[g->o.field].none &&
                                        (!r->obj[g->o.field].t.none || r->obj[g->o.field].t_scalar)
                                  : x.kind != FX_NONE;
    case G_CONTAINS:
        return contains(fx, g, r);
    case G_NOT:
        a = interpret(fx, g->kids[0], r);
        return a == MAYBE ? MAYBE : !a;
    case G_AND:
    case G_OR:
        a = g->kind == G_AND;
        for (uint32_t i = 0; i < g->n; i++) {
            b = interpret(fx, g->kids[i], r);
            if (b == (g->kind == G_OR)) {
                return b;
            }
            a = b == MAYBE ? MAYBE : a;
        }
        return a;
    }
    return MAYBE;
}

/* ---- generator */

struct gen {
    const struct fx *fx;
    uint64_t rng;
    struct arena *ar;
    struct buf text;
};

static uint32_t below(struct gen *q, uint32_t n)
{
    return fx_below(&q->rng, n);
}

static struct gop scalar_operand(struct gen *q)
{
    static const uint32_t plain[] = {FX_ID, FX_I8, FX_I16, FX_I32,  FX_I64,  FX_F,   FX_D,
                                     FX_B,  FX_S,  FX_S2,  FX_PART, FX_LATE, FX_GONE};
    static const uint32_t arrays[] = {FX_AI, FX_AV, FX_AF, FX_AB};
    struct gop o = {OPD_PLAIN, 0, below(q, 5)};
    uint32_t k = below(q, 10);
    if (k < 6) {
        o.field = plain[below(q, ARRAY_LEN(plain))];
    } else if (k < 7) {
        o.kind = OPD_ELEM;
        o.field = arrays[below(q, ARRAY_LEN(arrays))];
    } else {
        static const enum op_kind kinds[] = {OPD_A, OPD_X, OPD_T_ELEM};
        o.kind = kinds[below(q, 3)];
        o.field = below(q, 2) ? FX_J : FX_META;
    }
    return o;
}

static struct fx_val constant(struct gen *q, enum dtype t)
{
    struct fx_val v;
    switch (t) {
    case DT_JSON:
        do {
            v = fx_random_scalar(&q->rng);
        } while (v.kind == FX_UINT);
        return v;
    case DT_BOOL:
        return fx_random_bool(&q->rng);
    case DT_VARCHAR:
        return fx_random_string(&q->rng);
    default:
        return below(q, 2) ? fx_random_int(&q->rng) : fx_random_double(&q->rng);
    }
}

static void put_operand(struct gen *q, const struct gop *o)
{
    const char *name = q->fx->fields[o->field].name;
    bool meta = o->field == FX_META, bare = meta && below(q, 2);
    static const char *const keys[] = {
        [OPD_A] = "a", [OPD_X] = "n", [OPD_T] = "t", [OPD_T_ELEM] = "t"};
    if (o->kind == OPD_PLAIN || o->kind == OPD_ELEM) {
        buf_put_str(&q->text, name);
    } else if (bare) {
        buf_put_str(&q->text, keys[o->kind]);
    } else {
        buf_printf(&q->text, below(q, 2) ? "%s[\"%s\"]" : "%s['%s']", name, keys[o->kind]);
    }
    if (o->kind == OPD_X) {
        buf_put_str(&q->text, "[\"x\"]");
    }
    if (o->kind == OPD_ELEM || o->kind == OPD_T_ELEM) {
        buf_printf(&q->text, "[%u]", o->index);
    }
}

static void put_constant(struct gen *q, const struct fx_val *v)
{
    size_t from = q->text.n;
    switch (v->kind) {
    case FX_BOOL:
        buf_put_str(&q->text, v->b ? "true" : "False");
        break;
    case FX_INT:
        if (v->i >= 0 && below(q, 6) == 0) {
            buf_printf(&q->text, "0x%" PRIx64, v->i);
        } else {
            buf_printf(&q->text, "%" PRId64, v->i);
        }
        break;
    case FX_DOUBLE:
        buf_printf(&q->text, "%.17g", v->d);
        if (!memchr(q->text.p + from, '.', q->text.n - from) &&
            !memchr(q->text.p + from, 'e', q->text.n - from)) {
            buf_put_str(&q->text, ".");
        }
        break;
    default:
        buf_putc(&q->text, '\'');
        for (size_t i = 0; i < v->s.n; i++) {
            char c = v->s.p[i];
            if (c == '\'' || c == '\\') {
                buf_putc(&q->text, '\\');
            }
            buf_putc(&q->text, c);
        }
        buf_putc(&q->text, '\'');
        break;
    }
}

static void put_list(struct gen *q, const struct g *g)
{
    buf_putc(&q->text, '[');
    for (uint32_t i = 0; i < g->n; i++) {
        buf_put_str(&q->text, i ? ", " : "");
        put_constant(q, &g->v[i]);
    }
    buf_putc(&q->text, ']');
}

static struct g *generate(struct gen *q, int depth);

static void gen_cmp(struct gen *q, struct g *g)
{
    enum dtype t = type_of(q->fx, &g->o);
    g->v[0] = constant(q, t);
    g->op = (int)below(q, g->v[0].kind == FX_BOOL ? 2 : 6);
    put_operand(q, &g->o);
    buf_printf(&q->text, " %s ", op_names[g->op]);
    put_constant(q, &g->v[0]);
}

static bool gen_range(struct gen *q, struct g *g)
{
    enum dtype t = type_of(q->fx, &g->o);
    g->v[0] = constant(q, t);
    g->v[1] = constant(q, t);
    g->lo_in = below(q, 2);
    g->hi_in = below(q, 2);
    if (g->v[0].kind == FX_BOOL || is_number(&g->v[0]) != is_number(&g->v[1]) ||
        g->v[1].kind == FX_BOOL ||
        compare(&g->v[0], g->lo_in && g->hi_in ? 3 : 2, &g->v[1]) != YES) {
        return false;
    }
    bool down = below(q, 2);
    put_constant(q, &g->v[down ? 1 : 0]);
    buf_put_str(&q->text, down ? (g->hi_in ? " >= " : " > ") : (g->lo_in ? " <= " : " < "));
    put_operand(q, &g->o);
    buf_put_str(&q->text, down ? (g->lo_in ? " >= " : " > ") : (g->hi_in ? " <= " : " < "));
    put_constant(q, &g->v[down ? 0 : 1]);
    return true;
}

static void gen_in(struct gen *q, struct g *g)
{
    enum dtype t = type_of(q->fx, &g->o);
    g->n = below(q, G_MAX + 1);
    g->negate = below(q, 2);
    for (uint32_t i = 0; i < g->n; i++) {
        g->v[i] = dtype_is_int(t) ? fx_random_int(&q->rng) : constant(q, t);
    }
    put_operand(q, &g->o);
    buf_put_str(&q->text, g->negate ? " not in " : " in ");
    put_list(q, g);
}

static bool gen_like(struct gen *q, struct g *g)
{
    static const char *const patterns[] = {
        "a%",    "%b",  "%a%",    "a_b", "_",   "__",    "%",   "",      "abc", "%ab%ab%", "a\\%b",
        "a\\_b", "_%_", "%\\\\b", "a%c", "%_b", "\xC3%", "_b_", "%a_c%", "a%_", "%%"};
    enum dtype t = type_of(q->fx, &g->o);
    if (t != DT_VARCHAR && t != DT_JSON) {
        return false;
    }
    g->pattern = patterns[below(q, ARRAY_LEN(patterns))];
    struct fx_val v = {.kind = FX_STRING, .s = slice_of(g->pattern)};
    put_operand(q, &g->o);
    buf_put_str(&q->text, below(q, 2) ? " like " : " LIKE ");
    put_constant(q, &v);
    return true;
}

static bool gen_arith(struct gen *q, struct g *g)
{
    static const char *const names[] = {"+", "-", "*", "/", "%", "**"};
    enum dtype t = type_of(q->fx, &g->o);
    bool floating = t == DT_FLOAT || t == DT_DOUBLE;
    struct buf inner;
    if (t == DT_BOOL || t == DT_VARCHAR) {
        return false;
    }
    g->n = 1 + below(q, 2);
    for (uint32_t i = 0; i < g->n; i++) {
        struct fx_val k =
            below(q, 3) ? fx_int((int64_t)below(q, 7) - 2) : fx_double(0.5 * (double)below(q, 6));
        g->steps[i] = (int)below(q, 6);
        g->reversed[i] = below(q, 3) == 0;
        if (g->steps[i] == 4 && (floating || k.kind == FX_DOUBLE)) {
            g->steps[i] = 0;
        }
        if ((g->steps[i] == 3 || g->steps[i] == 4) && number(&k) == 0) {
            k = fx_int(3);
        }
        floating = floating || (t != DT_JSON && (k.kind == FX_DOUBLE || g->steps[i] == 5));
        g->v[i + 1] = k;
    }
    g->v[0] = below(q, 2) ? fx_random_int(&q->rng) : fx_random_double(&q->rng);
    g->op = (int)below(q, 6);
    struct buf outer = q->text;
    buf_init(&inner, SIZE_MAX / 2);
    q->text = inner;
    put_operand(q, &g->o);
    for (uint32_t i = 0; i < g->n; i++) {
        inner = q->text;
        buf_init(&q->text, SIZE_MAX / 2);
        buf_putc(&q->text, '(');
        if (g->reversed[i]) {
            /* -2 ** x is -(2 ** x) */
            buf_putc(&q->text, '(');
            put_constant(q, &g->v[i + 1]);
            buf_printf(&q->text, ") %s ", names[g->steps[i]]);
        }
        buf_put_slice(&q->text, buf_slice(&inner));
        if (!g->reversed[i]) {
            buf_printf(&q->text, " %s ", names[g->steps[i]]);
            put_constant(q, &g->v[i + 1]);
        }
        buf_putc(&q->text, ')');
        buf_done(&inner);
    }
    inner = q->text;
    q->text = outer;
    buf_put_slice(&q->text, buf_slice(&inner));
    buf_done(&inner);
    buf_printf(&q->text, " %s ", op_names[g->op]);
    put_constant(q, &g->v[0]);
    return true;
}

static struct gop list_operand(struct gen *q)
{
    static const uint32_t arrays[] = {FX_AI, FX_AV, FX_AF, FX_AB};
    if (below(q, 2)) {
        return (struct gop){OPD_PLAIN, arrays[below(q, 4)], 0};
    }
    return (struct gop){OPD_T, below(q, 2) ? FX_J : FX_META, 0};
}

static void gen_length(struct gen *q, struct g *g)
{
    g->o = list_operand(q);
    g->op = (int)below(q, 6);
    g->v[0] = fx_int(below(q, 5));
    buf_put_str(&q->text, below(q, 2) ? "array_length(" : "ARRAY_LENGTH(");
    put_operand(q, &g->o);
    buf_printf(&q->text, ") %s ", op_names[g->op]);
    put_constant(q, &g->v[0]);
}

static void gen_contains(struct gen *q, struct g *g)
{
    static const char *const names[] = {"", "_all", "_any"};
    g->o = list_operand(q);
    g->mode = (int)below(q, 3);
    g->n = g->mode == 0 ? 1 : below(q, 4);
    enum dtype elem = g->o.kind == OPD_PLAIN ? q->fx->fields[g->o.field].elem : DT_JSON;
    for (uint32_t i = 0; i < g->n; i++) {
        g->v[i] = elem == DT_INT64 ? fx_random_int(&q->rng) : constant(q, elem);
    }
    buf_printf(&q->text, "%s_contains%s(", below(q, 2) ? "json" : "array", names[g->mode]);
    put_operand(q, &g->o);
    buf_put_str(&q->text, ", ");
    if (g->mode == 0) {
        put_constant(q, &g->v[0]);
    } else {
        put_list(q, g);
    }
    buf_putc(&q->text, ')');
}

static bool gen_fields(struct gen *q, struct g *g)
{
    g->o2 = scalar_operand(q);
    enum dtype a = type_of(q->fx, &g->o), b = type_of(q->fx, &g->o2);
    bool na = dtype_is_int(a) || dtype_is_float(a), nb = dtype_is_int(b) || dtype_is_float(b);
    if (a == DT_JSON || b == DT_JSON || !((na && nb) || a == b)) {
        return false;
    }
    g->op = (int)below(q, a == DT_BOOL ? 2 : 6);
    put_operand(q, &g->o);
    buf_printf(&q->text, " %s ", op_names[g->op]);
    put_operand(q, &g->o2);
    return true;
}

static bool gen_null(struct gen *q, struct g *g)
{
    if (below(q, 3) == 0) {
        g->o = list_operand(q);
    } else if (below(q, 8) == 0) {
        g->o = (struct gop){OPD_PLAIN, FX_J, 0};
    }
    if (g->o.kind == OPD_ELEM) {
        return false;
    }
    g->negate = below(q, 2);
    put_operand(q, &g->o);
    buf_put_str(&q->text, g->negate ? " is not null" : " IS NULL");
    return true;
}

static bool gen_leaf(struct gen *q, struct g *g)
{
    g->o = scalar_operand(q);
    switch (g->kind) {
    case G_CMP:
        gen_cmp(q, g);
        return true;
    case G_RANGE:
        return gen_range(q, g);
    case G_IN:
        gen_in(q, g);
        return true;
    case G_LIKE:
        return gen_like(q, g);
    case G_ARITH:
        return gen_arith(q, g);
    case G_LENGTH:
        gen_length(q, g);
        return true;
    case G_FIELDS:
        return gen_fields(q, g);
    case G_NULL:
        return gen_null(q, g);
    case G_EXISTS:
        g->o = (struct gop){below(q, 2)   ? OPD_A
                            : below(q, 2) ? OPD_X
                                          : OPD_T,
                            below(q, 2) ? FX_J : FX_META, 0};
        buf_put_str(&q->text, "exists ");
        put_operand(q, &g->o);
        return true;
    case G_CONTAINS:
        gen_contains(q, g);
        return true;
    default: /* G_BOOL */
        g->o = (struct gop){below(q, 2) ? OPD_PLAIN : OPD_ELEM, FX_B, below(q, 4)};
        g->o.field = g->o.kind == OPD_PLAIN ? FX_B : FX_AB;
        put_operand(q, &g->o);
        return true;
    }
}

static struct g *generate(struct gen *q, int depth)
{
    struct g *g = ARENA_NEW(q->ar, struct g);
    if (depth > 0 && below(q, 3)) {
        g->kind = G_AND + below(q, 3);
        g->n = g->kind == G_NOT ? 1 : 2 + below(q, 3);
        const char *sep =
            g->kind == G_AND ? (below(q, 2) ? " and " : " && ") : (below(q, 2) ? " or " : " || ");
        buf_put_str(&q->text, g->kind == G_NOT ? (below(q, 2) ? "not " : "!") : "");
        for (uint32_t i = 0; i < g->n; i++) {
            buf_put_str(&q->text, i ? sep : "");
            buf_putc(&q->text, '(');
            g->kids[i] = generate(q, depth - 1);
            buf_putc(&q->text, ')');
        }
        return g;
    }
    bool done = false;
    while (!done) {
        *g = (struct g){.kind = (enum gkind)below(q, G_BOOL + 1)};
        done = gen_leaf(q, g);
    }
    return g;
}

/* ---- the property */

static void same_bytes(const struct expr *a, const struct expr *b, const char *text)
{
    struct buf x, y;
    buf_init(&x, SIZE_MAX / 2);
    buf_init(&y, SIZE_MAX / 2);
    assert_true(plan_encode(a, &x) && plan_encode(b, &y));
    if (!slice_eq(buf_slice(&x), buf_slice(&y))) {
        fail_msg("plans differ: %s", text);
    }
    buf_done(&x);
    buf_done(&y);
}

static void round_trips(const struct fx *fx, const struct expr *e, struct arena *ar)
{
    struct status st = STATUS_INIT;
    struct buf dump, bytes;
    const struct expr *again;
    buf_init(&dump, SIZE_MAX / 2);
    buf_init(&bytes, SIZE_MAX / 2);
    assert_true(plan_dump(e, &fx->schema, &dump));
    buf_putc(&dump, '\0');
    if (filter_parse(slice_n(dump.p, dump.n - 1), &fx->schema, NULL, 0, ar, &again, &st) != 0) {
        fail_msg("dump does not parse: %s: %s", (char *)dump.p, st.msg);
    }
    same_bytes(e, again, (char *)dump.p);
    assert_true(plan_encode(e, &bytes));
    ASSERT_OK(plan_decode(buf_slice(&bytes), ar, &again, &st));
    same_bytes(e, again, (char *)dump.p);
    buf_done(&dump);
    buf_done(&bytes);
}

static void one(const struct fx *fx, uint64_t seed)
{
    struct status st = STATUS_INIT;
    struct gen q = {.fx = fx, .rng = seed, .ar = arena_new(0)};
    const struct expr *e;
    buf_init(&q.text, SIZE_MAX / 2);
    struct g *g = generate(&q, (int)(seed % 4));
    buf_putc(&q.text, '\0');
    const char *text = (const char *)q.text.p;
    if (filter_parse(slice_n(q.text.p, q.text.n - 1), &fx->schema, NULL, 0, q.ar, &e, &st) != 0) {
        fail_msg("seed %" PRIu64 ": %s: %s", seed, text, st.msg);
    }
    uint64_t *bits = arena_alloc(q.ar, bits_words(fx->cr.nrows) * 8 + 8);
    ASSERT_OK(filter_eval(e, &fx->cr, q.ar, bits, &st));
    for (uint32_t i = 0; i < fx->cr.nrows; i++) {
        int want = interpret(fx, g, &fx->rows[i]);
        if (bit_get(bits, i) != (want == YES)) {
            fail_msg("seed %" PRIu64 " row %u: %s gives %d, should be %d", seed, i, text,
                     bit_get(bits, i), want);
        }
    }
    if (fx->cr.nrows % 64) {
        assert_int_equal(bits[fx->cr.nrows / 64] >> (fx->cr.nrows % 64), 0);
    }
    round_trips(fx, e, q.ar);
    buf_done(&q.text);
    arena_free(q.ar);
}

static void run(uint64_t seed, uint32_t nrows, bool refs, int filters)
{
    struct fx *fx = fx_new(seed, nrows, refs);
    for (int i = 0; i < filters; i++) {
        one(fx, seed * 1000003 + (uint64_t)i);
    }
    fx_free(fx);
}

static void test_random_filters_over_packed_rows_agree_with_the_interpreter(void **state)
{
    run(1, 200, false, 4000);
}
static void test_random_filters_over_growing_rows_agree_with_the_interpreter(void **state)
{
    run(2, 131, true, 4000);
}
static void test_random_filters_over_row_counts_at_word_borders_agree(void **state)
{
    static const uint32_t counts[] = {0, 1, 63, 64, 65, 128};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        run(10 + i, counts[i], i % 2, 300);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_filters_over_packed_rows_agree_with_the_interpreter),
        cmocka_unit_test(test_random_filters_over_growing_rows_agree_with_the_interpreter),
        cmocka_unit_test(test_random_filters_over_row_counts_at_word_borders_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
