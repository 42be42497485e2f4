/*
 * filter_type.c - syntax tree to plan: names become columns and paths, every node gets a type.
 *
 * The messages are those of the API where clients are known to look at them.
 *
 * THREADS  pure.
 */
#include "query/type_int.h"
#include "schema/errors.h"

static int type_node(struct typer *tp, const struct node *nd, struct typed *ret, struct status *st);

const char *type__name(const struct typed *t)
{
    switch (t->tag) {
    case TY_VALUE:
        return const__type_name(&t->value);
    case TY_OPERAND:
        return dtype_name(plan__type(&t->operand));
    case TY_ARITH:
        return t->cls == CLS_INT ? "Int64" : t->cls == CLS_FLOAT ? "Double" : "JSON";
    case TY_PRED:
        break;
    }
    return "Bool";
}

struct expr *type__expr(struct typer *tp, enum expr_kind kind)
{
    struct expr *e = arena_try_array(tp->ar, 1, sizeof *e);
    if (e) {
        e->kind = kind;
    }
    return e;
}

int type__no_memory(struct status *st)
{
    return st_fail(st, ST_NO_MEMORY, "the expression takes too much memory");
}

struct typed type__pred(const struct expr *e)
{
    if (e->kind == EX_CONST) {
        return (struct typed){.tag = TY_VALUE, .value = e->value};
    }
    return (struct typed){.tag = TY_PRED, .pred = e};
}

/* ---- names */

static int steps_of_key(struct typer *tp, const struct node *nd, struct operand *o,
                        struct status *st)
{
    struct path_step *steps = arena_try_array(tp->ar, (size_t)nd->nsteps + 1, sizeof *steps);
    if (!steps) {
        return type__no_memory(st);
    }
    steps[0].key = nd->name;
    if (nd->nsteps) {
        memcpy(steps + 1, nd->steps, nd->nsteps * sizeof *steps);
    }
    o->steps = steps;
    o->nsteps = nd->nsteps + 1;
    return 0;
}

static int check_path(const struct field *f, const struct node *nd, struct status *st)
{
    int rc = 0;
    if (nd->nsteps == 0 || f->type == DT_JSON) {
        return 0;
    }
    if (f->type != DT_ARRAY) {
        FAIL(st, ERR_PARAMETER_INVALID, "%s data type not supported accessed with []",
             dtype_name(f->type));
    }
    if (!nd->steps[0].is_index) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "can only access array field with integer index, but got: %.*s", TEXT_ARG(nd->text));
    }
    if (nd->nsteps > 1) {
        FAIL(st, ERR_PARAMETER_INVALID, "elements of array field %s have no elements: %.*s",
             f->name, TEXT_ARG(nd->text));
    }
out:
    return rc;
}

static int resolve(struct typer *tp, const struct node *nd, struct operand *ret, struct status *st)
{
    const struct field *f = nd->is_meta ? tp->s->dynamic : schema_field_by_name(tp->s, nd->name);
    const struct field *dyn = tp->s->dynamic;
    struct operand o = {0};
    int rc = 0;
    if (!f && !dyn) {
        FAIL(st, ERR_PARAMETER_INVALID, "field %.*s not exist", TEXT_ARG(nd->name));
    }
    if (nd->is_meta && (nd->nsteps == 0 || nd->steps[0].is_index)) {
        FAIL(st, ERR_PARAMETER_INVALID, "%s needs a key: %s[\"...\"]", META_FIELD_NAME,
             META_FIELD_NAME);
    }
    o.field_id = f ? f->id : dyn->id;
    o.type = f ? f->type : DT_JSON;
    o.elem = f ? f->elem : DT_NONE;
    if (f) {
        TRY(check_path(f, nd, st));
        o.steps = nd->steps;
        o.nsteps = nd->nsteps;
    } else {
        TRY(steps_of_key(tp, nd, &o, st));
    }
    *ret = o;
out:
    return rc;
}

static int type_operand(struct typer *tp, const struct node *nd, struct typed *ret,
                        struct status *st)
{
    int rc = 0;
    struct typed t = {.tag = TY_OPERAND, .text = nd->text};
    TRY(resolve(tp, nd, &t.operand, st));
    t.cls = plan__class(&t.operand);
    if (t.cls == CLS_NONE) {
        FAIL(st, ERR_PARAMETER_INVALID, "filtering on field %.*s of type %s is not supported",
             TEXT_ARG(nd->name), dtype_name(t.operand.type));
    }
    *ret = t;
out:
    return rc;
}

static int type_is_null(struct typer *tp, const struct node *nd, struct typed *ret,
                        struct status *st)
{
    struct operand o;
    int rc = 0;
    TRY(resolve(tp, nd->kids[0], &o, st));
    if (dtype_is_vector(o.type)) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "IsNull/IsNotNull operations are not supported on vector fields");
    }
    if (o.nsteps && o.type != DT_JSON) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "IsNull/IsNotNull operations need a field or a JSON path, got: %.*s",
             TEXT_ARG(nd->kids[0]->text));
    }
    struct expr *e = type__expr(tp, EX_IS_NULL);
    if (!e) {
        return type__no_memory(st);
    }
    e->operand = o;
    e->negate = nd->negate;
    *ret = type__pred(e);
out:
    return rc;
}

static int type_exists(struct typer *tp, const struct node *nd, struct typed *ret,
                       struct status *st)
{
    struct typed what;
    int rc = 0;
    TRY(type_node(tp, nd->kids[0], &what, st));
    if (what.tag != TY_OPERAND || what.cls != CLS_JSON) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "exists operations are only supported on json field, got: %s", type__name(&what));
    }
    struct expr *e = type__expr(tp, EX_EXISTS);
    if (!e) {
        return type__no_memory(st);
    }
    e->operand = what.operand;
    *ret = type__pred(e);
out:
    return rc;
}

/* ---- like and functions */

static int type_like(struct typer *tp, const struct node *nd, struct typed *ret, struct status *st)
{
    struct typed what, pattern;
    int rc = 0;
    TRY(type_node(tp, nd->kids[0], &what, st));
    TRY(type_node(tp, nd->kids[1], &pattern, st));
    if (what.tag != TY_OPERAND) {
        FAIL(st, ERR_PARAMETER_INVALID, "like operation on complicated expr is unsupported");
    }
    if (what.cls != CLS_STRING && what.cls != CLS_JSON) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "like operation on non-string or no-json field is unsupported");
    }
    if (pattern.tag != TY_VALUE || pattern.value.type != VAL_STRING) {
        FAIL(st, ERR_PARAMETER_INVALID, "the right operand of like must be a string: %.*s",
             TEXT_ARG(nd->kids[1]->text));
    }
    struct expr *e = type__expr(tp, EX_LIKE);
    if (!e) {
        return type__no_memory(st);
    }
    e->operand = what.operand;
    e->value = pattern.value;
    *ret = type__pred(e);
out:
    return rc;
}

/* Constants of contains_* on an Array field, in the form of its elements. */
static int cast_elements(struct typer *tp, const struct operand *array, enum contains_mode mode,
                         const struct value *v, struct value *ret, struct status *st)
{
    struct operand elem = *array;
    struct path_step step = {.is_index = true};
    const struct value *from = mode == CONTAINS_ONE ? v : v->a.items;
    uint32_t n = mode == CONTAINS_ONE ? 1 : v->a.n;
    struct value *items = arena_try_array(tp->ar, MAX(n, 1u), sizeof *items);
    int rc = 0;
    if (!items) {
        return type__no_memory(st);
    }
    elem.nsteps = 1;
    elem.steps = &step;
    for (uint32_t i = 0; i < n; i++) {
        if (!type__cast(plan__class(&elem), &from[i], &items[i])) {
            FAIL(st, ERR_PARAMETER_INVALID,
                 "contains operation can't compare between array element type: %s and %s",
                 dtype_name(array->elem), const__type_name(&from[i]));
        }
    }
    *ret = mode == CONTAINS_ONE ? items[0] : (struct value){.type = VAL_ARRAY, .a = {items, n}};
out:
    return rc;
}

static int type_contains(struct typer *tp, const struct node *nd, struct typed *ret,
                         struct status *st)
{
    static const char *const names[] = {"contains", "contains_all", "contains_any"};
    enum contains_mode mode = nd->fn == FN_CONTAINS       ? CONTAINS_ONE
                              : nd->fn == FN_CONTAINS_ALL ? CONTAINS_ALL
                                                          : CONTAINS_ANY;
    struct typed what, arg;
    int rc = 0;
    TRY(type_node(tp, nd->kids[0], &what, st));
    TRY(type_node(tp, nd->kids[1], &arg, st));
    if (what.tag != TY_OPERAND || (what.cls != CLS_JSON && what.cls != CLS_ARRAY)) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "%s operation are only supported on json or array fields now, got: %.*s", names[mode],
             TEXT_ARG(nd->kids[0]->text));
    }
    if (arg.tag != TY_VALUE) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "%s operation are only supported explicit element now, got: %.*s", names[mode],
             TEXT_ARG(nd->kids[1]->text));
    }
    if (mode != CONTAINS_ONE && arg.value.type != VAL_ARRAY) {
        FAIL(st, ERR_PARAMETER_INVALID, "%s operation element must be an array", names[mode]);
    }
    struct expr *e = type__expr(tp, EX_CONTAINS);
    if (!e) {
        return type__no_memory(st);
    }
    e->operand = what.operand;
    e->mode = mode;
    e->value = arg.value;
    if (what.cls == CLS_ARRAY) {
        TRY(cast_elements(tp, &what.operand, mode, &arg.value, &e->value, st));
    }
    *ret = type__pred(e);
out:
    return rc;
}

/* ---- arithmetic */

static int add_step(struct typer *tp, struct typed *t, struct arith_step step, struct status *st)
{
    return vec__push(&t->steps, tp->ar, &step, sizeof step) ? 0 : type__no_memory(st);
}

static int type_length(struct typer *tp, const struct node *nd, struct typed *ret,
                       struct status *st)
{
    struct typed t;
    int rc = 0;
    TRY(type_node(tp, nd->kids[0], &t, st));
    if (t.tag != TY_OPERAND || (t.cls != CLS_JSON && t.cls != CLS_ARRAY)) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "array_length operation are only supported on json or array fields now, got: %.*s",
             TEXT_ARG(nd->kids[0]->text));
    }
    t.tag = TY_ARITH;
    t.cls = CLS_INT;
    TRY(add_step(tp, &t, (struct arith_step){.op = AR_LENGTH}, st));
    *ret = t;
out:
    return rc;
}

static const char *arith_name(enum tok op)
{
    switch (op) {
    case TK_ADD:
        return "add";
    case TK_SUB:
        return "subtract";
    case TK_MUL:
        return "multiply";
    case TK_DIV:
        return "divide";
    case TK_MOD:
        return "modulo";
    default:
        return "power";
    }
}

static bool is_numeric(const struct typed *t)
{
    switch (t->tag) {
    case TY_VALUE:
        return t->value.type == VAL_INT || t->value.type == VAL_DOUBLE;
    case TY_OPERAND:
    case TY_ARITH:
        return t->cls == CLS_INT || t->cls == CLS_FLOAT || t->cls == CLS_JSON;
    case TY_PRED:
        break;
    }
    return false;
}

static int type_arith(struct typer *tp, enum tok op, const struct typed *l, const struct typed *r,
                      struct typed *ret, struct status *st)
{
    static const enum arith_op map[] = {
        [TK_ADD] = AR_ADD, [TK_SUB] = AR_SUB, [TK_MUL] = AR_MUL,
        [TK_DIV] = AR_DIV, [TK_MOD] = AR_MOD, [TK_POW] = AR_POW,
    };
    bool reversed = l->tag == TY_VALUE;
    struct typed t = reversed ? *r : *l;
    const struct value *v = reversed ? &l->value : &r->value;
    int rc = 0;
    if (!is_numeric(l) || !is_numeric(r)) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "'%s' can only be used between integer or floating or json field expressions",
             arith_name(op));
    }
    if (l->tag != TY_VALUE && r->tag != TY_VALUE) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "not supported to do arithmetic operations between multiple fields");
    }
    bool zero = v->type == VAL_INT ? v->i == 0 : v->d == 0;
    if ((op == TK_DIV || op == TK_MOD) && zero && !reversed) {
        FAIL(st, ERR_PARAMETER_INVALID, "division or modulus by zero (%s by zero)",
             op == TK_DIV ? "division" : "modulo");
    }
    if (op == TK_MOD && (t.cls == CLS_FLOAT || v->type != VAL_INT)) {
        FAIL(st, ERR_PARAMETER_INVALID, "modulo can only apply on integer types");
    }
    t.tag = TY_ARITH;
    if (t.cls == CLS_INT && (op == TK_POW || v->type == VAL_DOUBLE)) {
        t.cls = CLS_FLOAT;
    }
    struct arith_step step = {.op = map[op], .reversed = reversed, .value = *v};
    if (t.steps.n) {
        /* The other typed keeps its own steps: copy before growing. */
        t.steps.cap = t.steps.n;
    }
    TRY(add_step(tp, &t, step, st));
    *ret = t;
out:
    return rc;
}

static int type_unary(struct typer *tp, const struct node *nd, struct typed *ret, struct status *st)
{
    struct typed kid;
    const struct expr *cond;
    int rc = 0;
    TRY(type_node(tp, nd->kids[0], &kid, st));
    if (nd->op == TK_NOT) {
        TRY(type__condition(tp, &kid, &cond, st));
        if (!cond) {
            FAIL(st, ERR_PARAMETER_INVALID, "not op can only be applied on boolean expression");
        }
        TRY(type__not(tp, cond, &cond, st));
        *ret = type__pred(cond);
    } else if (nd->op == TK_SUB) {
        struct typed zero = {.tag = TY_VALUE, .value = {.type = VAL_INT}};
        TRY(type_arith(tp, TK_SUB, &zero, &kid, ret, st));
    } else {
        if (!is_numeric(&kid)) {
            FAIL(st, ERR_PARAMETER_INVALID, "sign can only be applied on numbers");
        }
        *ret = kid;
    }
out:
    return rc;
}

/* ---- the walk */

static int type_logic(struct typer *tp, const struct node *nd, struct typed *ret, struct status *st)
{
    const struct expr **conds = arena_try_array(tp->ar, nd->nkids, sizeof *conds);
    const struct expr *e;
    int rc = 0;
    if (!conds) {
        return type__no_memory(st);
    }
    for (uint32_t i = 0; i < nd->nkids; i++) {
        struct typed t;
        TRY(type_node(tp, nd->kids[i], &t, st));
        TRY(type__condition(tp, &t, &conds[i], st));
        if (!conds[i]) {
            FAIL(st, ERR_PARAMETER_INVALID, "'%s' can only be used between boolean expressions",
                 nd->op == TK_AND ? "and" : "or");
        }
    }
    TRY(type__logic(tp, nd->op == TK_AND ? EX_AND : EX_OR, conds, nd->nkids, &e, st));
    *ret = type__pred(e);
out:
    return rc;
}

static int type_binary(struct typer *tp, const struct node *nd, struct typed *ret,
                       struct status *st)
{
    struct typed l, r;
    int rc = 0;
    TRY(type_node(tp, nd->kids[0], &l, st));
    TRY(type_node(tp, nd->kids[1], &r, st));
    switch (nd->op) {
    case TK_ADD:
    case TK_SUB:
    case TK_MUL:
    case TK_DIV:
    case TK_MOD:
    case TK_POW:
        return type_arith(tp, nd->op, &l, &r, ret, st);
    default:
        return type__compare(tp, nd->op, &l, &r, ret, st);
    }
out:
    return rc;
}

static int type_chain(struct typer *tp, const struct node *nd, struct typed *ret, struct status *st)
{
    struct typed l, mid, r;
    int rc = 0;
    TRY(type_node(tp, nd->kids[0], &l, st));
    TRY(type_node(tp, nd->kids[1], &mid, st));
    TRY(type_node(tp, nd->kids[2], &r, st));
    TRY(type__range(tp, nd, &l, &mid, &r, ret, st));
out:
    return rc;
}

static int type_in(struct typer *tp, const struct node *nd, struct typed *ret, struct status *st)
{
    struct typed what, list;
    int rc = 0;
    TRY(type_node(tp, nd->kids[0], &what, st));
    TRY(type_node(tp, nd->kids[1], &list, st));
    TRY(type__in(tp, nd, &what, &list, ret, st));
out:
    return rc;
}

static int type_node(struct typer *tp, const struct node *nd, struct typed *ret, struct status *st)
{
    int rc;
    switch (nd->kind) {
    case ND_VALUE:
        *ret = (struct typed){.tag = TY_VALUE, .value = nd->value};
        rc = 0;
        break;
    case ND_NAME:
        rc = type_operand(tp, nd, ret, st);
        break;
    case ND_UNARY:
        rc = type_unary(tp, nd, ret, st);
        break;
    case ND_BINARY:
        rc = type_binary(tp, nd, ret, st);
        break;
    case ND_LOGIC:
        rc = type_logic(tp, nd, ret, st);
        break;
    case ND_CHAIN:
        rc = type_chain(tp, nd, ret, st);
        break;
    case ND_IN:
        rc = type_in(tp, nd, ret, st);
        break;
    case ND_LIKE:
        rc = type_like(tp, nd, ret, st);
        break;
    case ND_IS_NULL:
        rc = type_is_null(tp, nd, ret, st);
        break;
    case ND_EXISTS:
        rc = type_exists(tp, nd, ret, st);
        break;
    case ND_CALL:
        rc = nd->fn == FN_LENGTH ? type_length(tp, nd, ret, st) : type_contains(tp, nd, ret, st);
        break;
    default:
        rc = st_fail(st, ST_INTERNAL, "unknown node %d", (int)nd->kind);
        break;
    }
    if (rc == 0) {
        ret->text = nd->text;
    }
    return rc;
}

/* ---- filter_parse() */

#define TEXT_SHOWN 400 /* of a filter in a message: the reason behind it must fit too */

static struct slice trimmed(struct slice s)
{
    while (s.n && memchr(" \t\r\n", s.p[0], 4)) {
        s.p++;
        s.n--;
    }
    while (s.n && memchr(" \t\r\n", s.p[s.n - 1], 4)) {
        s.n--;
    }
    return s;
}

int filter_parse(struct slice text, const struct schema *s, const struct template_value *templates,
                 size_t ntemplates, struct arena *ar, const struct expr **ret_expr,
                 struct status *st)
{
    struct typer tp = {s, ar};
    const struct node *tree;
    const struct expr *cond = NULL;
    struct typed t;
    int shown = (int)MIN(text.n, (size_t)TEXT_SHOWN);
    const char *more = text.n > TEXT_SHOWN ? "..." : "";
    int rc = 0;
    if (trimmed(text).n == 0) {
        *ret_expr = NULL;
        return 0;
    }
    rc = parse__tree(text, templates, ntemplates, ar, &tree, st);
    if (rc == 0) {
        rc = type_node(&tp, tree, &t, st);
    }
    if (rc == 0) {
        rc = type__condition(&tp, &t, &cond, st);
    }
    if (rc != 0) {
        /* In two steps: st_context() would take the text for its own format's argument twice. */
        const char *why = arena_strdup(ar, st->msg);
        return st_fail(st, rc, "cannot parse expression: %.*s%s, error: %s", shown, text.p, more,
                       why);
    }
    if (!cond) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "predicate is not a boolean expression: %.*s%s, data type: %s", shown, text.p, more,
             type__name(&t));
    }
    *ret_expr = cond;
out:
    return rc;
}
