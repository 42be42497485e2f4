/*
 * filter_parse.c - tokens to a syntax tree: precedence climbing, constants folded on the way.
 *
 * Precedence, tightest first (README.md has the grammar): like; **; unary + - ~ not; * / %; + -;
 * << >>; in; < <= > >= with chained ranges; == !=; & ; ^ ; |; and; or. `not` binds tighter than a
 * comparison, as in the API. `is null` belongs to the name in front of it.
 *
 * BOUNDS     Recursion follows only brackets and prefix operators, FILTER_DEPTH_MAX of them; chains
 * of `and` or `or` are loops and give one flat node, however long. Left-deep arithmetic is bounded
 * by the depth that each node carries. Lists hold values, not nodes: long `in` lists stay small.
 * TEMPLATES  {name} becomes its value here, so nothing behind the parser knows of them.
 * THREADS    pure.
 */
#include "query/query_int.h"
#include "schema/errors.h"

struct parser {
    struct lexer lx;
    struct token cur, next; /* two tokens of look-ahead: `not in`, `is not null` */
    const char *last_end;   /* behind the last token taken */
    const struct template_value *templates;
    size_t ntemplates;
    struct arena *ar;
    uint32_t nesting;  /* of parse_expr() */
    uint32_t brackets; /* and of what the author nested: brackets and prefix operators */
};

enum {
    PREC_OR = 1,
    PREC_AND,
    PREC_BOR,
    PREC_BXOR,
    PREC_BAND,
    PREC_EQ,
    PREC_REL,
    PREC_IN,
    PREC_SHIFT,
    PREC_ADD,
    PREC_MUL,
    PREC_UNARY,
    PREC_POW,
    PREC_LIKE
};

static int parse_expr(struct parser *ps, int min_prec, const struct node **ret, struct status *st);

bool vec__push(struct vec *v, struct arena *ar, const void *item, size_t size)
{
    if (v->n == v->cap) {
        uint32_t cap = v->cap ? v->cap * 2 : 8;
        void *p = cap > v->cap ? arena_try_array(ar, cap, size) : NULL;
        if (!p) {
            return false;
        }
        if (v->n) {
            memcpy(p, v->p, v->n * size);
        }
        v->p = p;
        v->cap = cap;
    }
    memcpy((char *)v->p + v->n * size, item, size);
    v->n++;
    return true;
}

/* Recursion in parse_expr(): between two brackets it climbs at most the precedences. Together with
 * the size of its frames this bounds the stack. */
#define NESTING_MAX 1000

static int too_deep(struct status *st)
{
    return st_fail(st, ERR_PARAMETER_INVALID,
                   "the expression is nested too deeply, at most %d levels", FILTER_DEPTH_MAX);
}

static int no_memory(struct status *st)
{
    return st_fail(st, ST_NO_MEMORY, "the expression takes too much memory");
}

/* ---- tokens */

static int take(struct parser *ps, struct status *st)
{
    ps->last_end = ps->cur.text.p + ps->cur.text.n;
    ps->cur = ps->next;
    if (ps->next.kind == TK_END) {
        return 0;
    }
    return lex__next(&ps->lx, &ps->next, st);
}

static int unexpected(const struct parser *ps, struct status *st)
{
    if (ps->cur.kind == TK_END) {
        return st_fail(st, ERR_PARAMETER_INVALID, "invalid expression: unexpected end");
    }
    return st_fail(st, ERR_PARAMETER_INVALID, "invalid expression: unexpected '%.*s' at offset %zu",
                   (int)MIN(ps->cur.text.n, (size_t)64), ps->cur.text.p,
                   (size_t)(ps->cur.text.p - ps->lx.start));
}

static int expect(struct parser *ps, enum tok kind, struct status *st)
{
    return ps->cur.kind == kind ? take(ps, st) : unexpected(ps, st);
}

static bool is_word(const struct token *t, const char *lower, const char *upper)
{
    return t->kind == TK_IDENT && (slice_is(t->text, lower) || slice_is(t->text, upper));
}

static int unsupported(struct status *st, const char *what)
{
    return st_fail(st, ERR_PARAMETER_INVALID, "%s not supported", what);
}

/* ---- nodes */

static int new_node(struct parser *ps, enum node_kind kind, const char *from,
                    const struct node *const *kids, uint32_t nkids, struct node **ret,
                    struct status *st)
{
    uint32_t depth = 0;
    struct node *nd = arena_try_array(ps->ar, 1, sizeof *nd);
    const struct node **copy = nkids ? arena_try_array(ps->ar, nkids, sizeof *copy) : NULL;
    if (!nd || (nkids && !copy)) {
        return no_memory(st);
    }
    for (uint32_t i = 0; i < nkids; i++) {
        copy[i] = kids[i];
        depth = MAX(depth, kids[i]->depth);
    }
    if (depth >= FILTER_DEPTH_MAX) {
        return too_deep(st);
    }
    nd->kind = kind;
    nd->kids = copy;
    nd->nkids = nkids;
    nd->depth = depth + 1;
    nd->text = slice_n(from, (size_t)(ps->last_end - from));
    *ret = nd;
    return 0;
}

static int new_value(struct parser *ps, const char *from, struct value v, const struct node **ret,
                     struct status *st)
{
    struct node *nd = NULL;
    int rc = 0;
    TRY(new_node(ps, ND_VALUE, from, NULL, 0, &nd, st));
    nd->value = v;
    *ret = nd;
out:
    return rc;
}

static int new_binary(struct parser *ps, enum tok op, const struct node *l, const struct node *r,
                      const struct node **ret, struct status *st)
{
    const struct node *kids[2] = {l, r};
    struct node *nd = NULL;
    struct value v;
    int rc = 0;
    if (l->kind == ND_VALUE && r->kind == ND_VALUE) {
        struct slice text = slice_n(l->text.p, (size_t)(ps->last_end - l->text.p));
        TRY(const__binary(op, &l->value, &r->value, text, &v, st));
        return new_value(ps, l->text.p, v, ret, st);
    }
    TRY(new_node(ps, ND_BINARY, l->text.p, kids, 2, &nd, st));
    nd->op = op;
    *ret = nd;
out:
    return rc;
}

/* ---- primaries */

static bool has_null(const struct value *v)
{
    for (uint32_t i = 0; v->type == VAL_ARRAY && i < v->a.n; i++) {
        if (has_null(&v->a.items[i])) {
            return true;
        }
    }
    return v->type == VAL_NULL;
}

static int parse_template(struct parser *ps, const struct node **ret, struct status *st)
{
    const char *from = ps->cur.text.p;
    int rc = 0;
    TRY(take(ps, st));
    struct slice name = ps->cur.text;
    TRY(expect(ps, TK_IDENT, st));
    TRY(expect(ps, TK_RBRACE, st));
    for (size_t i = 0; i < ps->ntemplates; i++) {
        if (slice_eq(ps->templates[i].name, name)) {
            if (has_null(&ps->templates[i].value)) {
                FAIL(st, ERR_PARAMETER_INVALID, "expression template variable {%.*s} has no value",
                     SLICE_ARG(name));
            }
            if (!const__finite(&ps->templates[i].value)) {
                FAIL(st, ERR_PARAMETER_INVALID,
                     "the value of expression template variable {%.*s} is not a finite number",
                     SLICE_ARG(name));
            }
            return new_value(ps, from, ps->templates[i].value, ret, st);
        }
    }
    FAIL(st, ERR_PARAMETER_INVALID,
         "the value of expression template variable name {%.*s} is not found", SLICE_ARG(name));
out:
    return rc;
}

/* A literal that is a whole list element needs no node. */
static bool list_literal(const struct parser *ps, struct value *ret)
{
    bool ends = ps->next.kind == TK_COMMA || ps->next.kind == TK_RBRACKET;
    bool literal = ps->cur.kind == TK_INT || ps->cur.kind == TK_DOUBLE ||
                   ps->cur.kind == TK_STRING || ps->cur.kind == TK_BOOL;
    if (!ends || !literal || ps->cur.big) {
        return false;
    }
    *ret = ps->cur.value;
    return true;
}

static int parse_list(struct parser *ps, const struct node **ret, struct status *st)
{
    const char *from = ps->cur.text.p;
    struct vec items = {0};
    int rc = 0;
    TRY(take(ps, st));
    while (ps->cur.kind != TK_RBRACKET) {
        struct value v;
        if (list_literal(ps, &v)) {
            TRY(take(ps, st));
        } else {
            const struct node *nd;
            TRY(parse_expr(ps, PREC_OR, &nd, st));
            if (nd->kind != ND_VALUE) {
                FAIL(st, ERR_PARAMETER_INVALID,
                     "value '%.*s' in list cannot be a non-const expression",
                     (int)MIN(nd->text.n, (size_t)128), nd->text.p);
            }
            v = nd->value;
        }
        if (!vec__push(&items, ps->ar, &v, sizeof v)) {
            return no_memory(st);
        }
        if (ps->cur.kind == TK_COMMA) {
            TRY(take(ps, st));
        } else if (ps->cur.kind != TK_RBRACKET) {
            return unexpected(ps, st);
        }
    }
    TRY(take(ps, st));
    struct value list = {.type = VAL_ARRAY, .a = {items.p, items.n}};
    return new_value(ps, from, list, ret, st);
out:
    return rc;
}

/* ["key"] and [3] behind a name. */
static int parse_steps(struct parser *ps, struct node *nd, struct status *st)
{
    struct vec steps = {0};
    int rc = 0;
    while (ps->cur.kind == TK_LBRACKET) {
        struct path_step step = {0};
        TRY(take(ps, st));
        if (ps->cur.kind == TK_STRING) {
            step.key = ps->cur.value.s;
        } else if (ps->cur.kind == TK_INT && !ps->cur.big && ps->cur.value.i <= UINT32_MAX) {
            step.is_index = true;
            step.index = (uint32_t)ps->cur.value.i;
        } else if (ps->cur.kind == TK_IDENT) {
            return unsupported(st, "paths into struct fields are");
        } else {
            return unexpected(ps, st);
        }
        TRY(take(ps, st));
        TRY(expect(ps, TK_RBRACKET, st));
        if (!vec__push(&steps, ps->ar, &step, sizeof step)) {
            return no_memory(st);
        }
        if (steps.n > FILTER_DEPTH_MAX) {
            FAIL(st, ERR_PARAMETER_INVALID, "the path is nested too deeply, at most %d levels",
                 FILTER_DEPTH_MAX);
        }
    }
    nd->steps = steps.p;
    nd->nsteps = steps.n;
out:
    return rc;
}

/* `is null` and `is not null`, when they follow. */
static int parse_null_test(struct parser *ps, const struct node **io, struct status *st)
{
    const struct node *name = *io;
    struct node *nd = NULL;
    int rc = 0;
    bool negate = ps->next.kind == TK_NOT;
    TRY(take(ps, st));
    if (negate) {
        TRY(take(ps, st));
    }
    if (!is_word(&ps->cur, "null", "NULL")) {
        return unexpected(ps, st);
    }
    TRY(take(ps, st));
    TRY(new_node(ps, ND_IS_NULL, name->text.p, &name, 1, &nd, st));
    nd->negate = negate;
    *io = nd;
out:
    return rc;
}

static int parse_name(struct parser *ps, const struct node **ret, struct status *st)
{
    const char *from = ps->cur.text.p;
    struct node *nd = NULL;
    int rc = 0;
    struct token name = ps->cur;
    TRY(take(ps, st));
    TRY(new_node(ps, ND_NAME, from, NULL, 0, &nd, st));
    nd->is_meta = name.kind == TK_META;
    nd->name = name.text;
    TRY(parse_steps(ps, nd, st));
    nd->text.n = (size_t)(ps->last_end - from);
    *ret = nd;
    if (is_word(&ps->cur, "is", "IS")) {
        return parse_null_test(ps, ret, st);
    }
out:
    return rc;
}

static const struct {
    const char *lower, *upper;
    enum filter_fn fn; /* FN_NONE: known to the API, not served */
} functions[] = {
    {"json_contains", "JSON_CONTAINS", FN_CONTAINS},
    {"array_contains", "ARRAY_CONTAINS", FN_CONTAINS},
    {"json_contains_all", "JSON_CONTAINS_ALL", FN_CONTAINS_ALL},
    {"array_contains_all", "ARRAY_CONTAINS_ALL", FN_CONTAINS_ALL},
    {"json_contains_any", "JSON_CONTAINS_ANY", FN_CONTAINS_ANY},
    {"array_contains_any", "ARRAY_CONTAINS_ANY", FN_CONTAINS_ANY},
    {"array_length", "ARRAY_LENGTH", FN_LENGTH},
};

static int parse_call(struct parser *ps, const struct node **ret, struct status *st)
{
    const char *from = ps->cur.text.p;
    struct slice name = ps->cur.text;
    const struct node *args[2] = {NULL, NULL};
    enum filter_fn fn = FN_NONE;
    struct node *nd = NULL;
    int rc = 0;
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        if (slice_is(name, functions[i].lower) || slice_is(name, functions[i].upper)) {
            fn = functions[i].fn;
        }
    }
    if (fn == FN_NONE) {
        FAIL(st, ERR_PARAMETER_INVALID, "%.*s is not supported", (int)MIN(name.n, (size_t)64),
             name.p);
    }
    uint32_t nargs = fn == FN_LENGTH ? 1 : 2;
    TRY(take(ps, st));
    TRY(take(ps, st));
    for (uint32_t i = 0; i < nargs; i++) {
        if (i > 0) {
            TRY(expect(ps, TK_COMMA, st));
        }
        TRY(parse_expr(ps, PREC_OR, &args[i], st));
    }
    TRY(expect(ps, TK_RPAREN, st));
    TRY(new_node(ps, ND_CALL, from, args, nargs, &nd, st));
    nd->fn = fn;
    *ret = nd;
out:
    return rc;
}

static int parse_word(struct parser *ps, const struct node **ret, struct status *st)
{
    if (ps->cur.kind == TK_IDENT && ps->next.kind == TK_LPAREN) {
        return parse_call(ps, ret, st);
    }
    if (ps->next.kind == TK_STRING && is_word(&ps->cur, "iso", "ISO")) {
        return unsupported(st, "ISO timestamps are");
    }
    if (ps->next.kind == TK_STRING && is_word(&ps->cur, "interval", "INTERVAL")) {
        return unsupported(st, "INTERVAL expressions are");
    }
    return parse_name(ps, ret, st);
}

static int parse_bracket(struct parser *ps, const struct node **ret, struct status *st)
{
    int rc = 0;
    TRY(take(ps, st));
    TRY(parse_expr(ps, PREC_OR, ret, st));
    TRY(expect(ps, TK_RPAREN, st));
out:
    return rc;
}

static int parse_primary(struct parser *ps, const struct node **ret, struct status *st)
{
    const struct token t = ps->cur;
    int rc = 0;
    switch (t.kind) {
    case TK_INT:
        if (t.big) {
            FAIL(st, ERR_PARAMETER_INVALID, "invalid number %.*s: integer overflow",
                 SLICE_ARG(t.text));
        }
        /* fall through */
    case TK_DOUBLE:
    case TK_STRING:
    case TK_BOOL:
        TRY(take(ps, st));
        return new_value(ps, t.text.p, t.value, ret, st);
    case TK_IDENT:
    case TK_META:
        return parse_word(ps, ret, st);
    case TK_LBRACE:
        return parse_template(ps, ret, st);
    case TK_LBRACKET:
        return parse_list(ps, ret, st);
    case TK_LPAREN:
        return parse_bracket(ps, ret, st);
    case TK_DOLLAR:
        return unsupported(st, "element expressions ($) are");
    default:
        return unexpected(ps, st);
    }
out:
    return rc;
}

static int parse_exists(struct parser *ps, const struct node **ret, struct status *st)
{
    const char *from = ps->cur.text.p;
    const struct node *what;
    struct node *nd = NULL;
    int rc = 0;
    TRY(take(ps, st));
    TRY(parse_primary(ps, &what, st));
    TRY(new_node(ps, ND_EXISTS, from, &what, 1, &nd, st));
    *ret = nd;
out:
    return rc;
}

/* + - not in front of an operand. */
static int parse_sign(struct parser *ps, const struct node **ret, struct status *st)
{
    const char *from = ps->cur.text.p;
    enum tok op = ps->cur.kind;
    const struct node *kid;
    struct node *nd = NULL;
    struct value v;
    int rc = 0;
    TRY(take(ps, st));
    if (op == TK_SUB && ps->cur.kind == TK_INT && ps->cur.big) {
        v = ps->cur.value;
        TRY(take(ps, st));
        return new_value(ps, from, v, ret, st);
    }
    TRY(parse_expr(ps, PREC_UNARY, &kid, st));
    if (kid->kind == ND_VALUE) {
        TRY(const__unary(op, &kid->value, &v, st));
        return new_value(ps, from, v, ret, st);
    }
    TRY(new_node(ps, ND_UNARY, from, &kid, 1, &nd, st));
    nd->op = op;
    *ret = nd;
out:
    return rc;
}

static int parse_prefix(struct parser *ps, const struct node **ret, struct status *st)
{
    int rc;
    if (++ps->brackets > FILTER_DEPTH_MAX) {
        return too_deep(st);
    }
    switch (ps->cur.kind) {
    case TK_EXISTS:
        rc = parse_exists(ps, ret, st);
        break;
    case TK_ADD:
    case TK_SUB:
    case TK_NOT:
        rc = parse_sign(ps, ret, st);
        break;
    case TK_BNOT:
        rc = unsupported(st, "bitwise operators are");
        break;
    default:
        rc = parse_primary(ps, ret, st);
        break;
    }
    ps->brackets--;
    return rc;
}

/* ---- operators between operands */

static int precedence(const struct parser *ps)
{
    switch (ps->cur.kind) {
    case TK_OR:
        return PREC_OR;
    case TK_AND:
        return PREC_AND;
    case TK_BOR:
        return PREC_BOR;
    case TK_BXOR:
        return PREC_BXOR;
    case TK_BAND:
        return PREC_BAND;
    case TK_EQ:
    case TK_NE:
        return PREC_EQ;
    case TK_LT:
    case TK_LE:
    case TK_GT:
    case TK_GE:
        return PREC_REL;
    case TK_NOT:
        return ps->next.kind == TK_IN ? PREC_IN : 0;
    case TK_IN:
        return PREC_IN;
    case TK_SHL:
    case TK_SHR:
        return PREC_SHIFT;
    case TK_ADD:
    case TK_SUB:
        return PREC_ADD;
    case TK_MUL:
    case TK_DIV:
    case TK_MOD:
        return PREC_MUL;
    case TK_POW:
        return PREC_POW;
    case TK_LIKE:
    case TK_REGEX:
    case TK_NOT_REGEX:
        return PREC_LIKE;
    default:
        return 0;
    }
}

/* a and b and c ...: one node with all the terms. */
static int parse_logic(struct parser *ps, int prec, const struct node **io, struct status *st)
{
    enum tok op = ps->cur.kind;
    struct vec terms = {0};
    const struct node *term = *io;
    struct node *nd = NULL;
    int rc = 0;
    for (;;) {
        if (!vec__push(&terms, ps->ar, &term, sizeof term)) {
            return no_memory(st);
        }
        if (ps->cur.kind != op) {
            break;
        }
        TRY(take(ps, st));
        TRY(parse_expr(ps, prec + 1, &term, st));
    }
    TRY(new_node(ps, ND_LOGIC, (*io)->text.p, terms.p, terms.n, &nd, st));
    nd->op = op;
    *io = nd;
out:
    return rc;
}

static int parse_relation(struct parser *ps, const struct node **io, struct status *st)
{
    enum tok op = ps->cur.kind;
    const struct node *kids[3] = {*io};
    struct node *nd = NULL;
    int rc = 0;
    TRY(take(ps, st));
    TRY(parse_expr(ps, PREC_REL + 1, &kids[1], st));
    enum tok op2 = ps->cur.kind;
    bool up = (op == TK_LT || op == TK_LE) && (op2 == TK_LT || op2 == TK_LE);
    bool down = (op == TK_GT || op == TK_GE) && (op2 == TK_GT || op2 == TK_GE);
    if (!up && !down) {
        return new_binary(ps, op, kids[0], kids[1], io, st);
    }
    TRY(take(ps, st));
    TRY(parse_expr(ps, PREC_REL + 1, &kids[2], st));
    TRY(new_node(ps, ND_CHAIN, kids[0]->text.p, kids, 3, &nd, st));
    nd->op = op;
    nd->op2 = op2;
    *io = nd;
out:
    return rc;
}

static int parse_in(struct parser *ps, const struct node **io, struct status *st)
{
    const struct node *kids[2] = {*io};
    struct node *nd = NULL;
    int rc = 0;
    bool negate = ps->cur.kind == TK_NOT;
    if (negate) {
        TRY(take(ps, st));
    }
    TRY(take(ps, st));
    TRY(parse_expr(ps, PREC_IN + 1, &kids[1], st));
    TRY(new_node(ps, ND_IN, kids[0]->text.p, kids, 2, &nd, st));
    nd->negate = negate;
    *io = nd;
out:
    return rc;
}

static int parse_infix(struct parser *ps, int prec, const struct node **io, struct status *st)
{
    const enum tok op = ps->cur.kind;
    const struct node *kids[2] = {*io};
    struct node *nd = NULL;
    int rc = 0;
    switch (op) {
    case TK_AND:
    case TK_OR:
        return parse_logic(ps, prec, io, st);
    case TK_LT:
    case TK_LE:
    case TK_GT:
    case TK_GE:
        return parse_relation(ps, io, st);
    case TK_IN:
    case TK_NOT:
        return parse_in(ps, io, st);
    case TK_BAND:
    case TK_BOR:
    case TK_BXOR:
        return unsupported(st, "bitwise operators are");
    case TK_SHL:
    case TK_SHR:
        return unsupported(st, "shift operators are");
    case TK_REGEX:
        return unsupported(st, "regular expressions (=~) are");
    case TK_NOT_REGEX:
        return unsupported(st, "regular expressions (!~) are");
    default:
        break;
    }
    TRY(take(ps, st));
    TRY(parse_expr(ps, prec + 1, &kids[1], st));
    if (op != TK_LIKE) {
        return new_binary(ps, op, kids[0], kids[1], io, st);
    }
    TRY(new_node(ps, ND_LIKE, kids[0]->text.p, kids, 2, &nd, st));
    *io = nd;
out:
    return rc;
}

static int parse_expr(struct parser *ps, int min_prec, const struct node **ret, struct status *st)
{
    const struct node *nd = NULL;
    int rc = 0;
    if (++ps->nesting > NESTING_MAX) {
        return too_deep(st);
    }
    TRY(parse_prefix(ps, &nd, st));
    for (;;) {
        int prec = precedence(ps);
        if (prec == 0 || prec < min_prec) {
            break;
        }
        TRY(parse_infix(ps, prec, &nd, st));
    }
    *ret = nd;
    ps->nesting--;
out:
    return rc;
}

int parse__tree(struct slice text, const struct template_value *templates, size_t ntemplates,
                struct arena *ar, const struct node **ret_node, struct status *st)
{
    struct parser ps = {
        .lx = {text.p, text.p + text.n, text.p, ar},
        .templates = templates,
        .ntemplates = ntemplates,
        .ar = ar,
    };
    const struct node *nd;
    int rc = 0;
    TRY(lex__next(&ps.lx, &ps.cur, st));
    TRY(lex__next(&ps.lx, &ps.next, st));
    ps.last_end = text.p;
    TRY(parse_expr(&ps, PREC_OR, &nd, st));
    if (ps.cur.kind != TK_END) {
        return unexpected(&ps, st);
    }
    *ret_node = nd;
out:
    return rc;
}
