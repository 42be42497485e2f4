/*
 * type_logic.c - and, or, not: flattened, constants removed, cheap terms first.
 *
 * Three-valued logic allows all of it: `false and unknown` is false, `true or unknown` is true,
 * and/or are commutative. Terms are ordered by what a row costs, because the evaluator skips rows
 * that earlier terms have decided. `a == 1 or a == 2 or a in [...]` becomes one list.
 *
 * THREADS  pure.
 */
#include "query/type_int.h"

int type__condition(struct typer *tp, const struct typed *t, const struct expr **ret,
                    struct status *st)
{
    struct expr *e;
    *ret = NULL;
    if (t->tag == TY_PRED) {
        *ret = t->pred;
        return 0;
    }
    bool is_const = t->tag == TY_VALUE && t->value.type == VAL_BOOL;
    bool is_field = t->tag == TY_OPERAND && t->cls == CLS_BOOL;
    if (!is_const && !is_field) {
        return 0;
    }
    e = type__expr(tp, is_const ? EX_CONST : EX_BOOL);
    if (!e) {
        return type__no_memory(st);
    }
    if (is_const) {
        e->value = t->value;
    } else {
        e->operand = t->operand;
    }
    *ret = e;
    return 0;
}

/* ---- order */

#define COST_LEVELS 6

static int leaf_cost(const struct expr *e)
{
    if (e->operand.type == DT_JSON) {
        return 5;
    }
    if (e->operand.type == DT_ARRAY) {
        return 4;
    }
    if (e->kind == EX_LIKE) {
        return 3;
    }
    if (dtype_is_string(e->operand.type)) {
        return e->kind == EX_IS_NULL ? 0 : 2;
    }
    return e->kind == EX_IN || e->kind == EX_CMP_ARITH || e->kind == EX_CMP_FIELDS ? 1 : 0;
}

static int cost(const struct expr *e)
{
    int c = 0;
    if (e->nkids == 0) {
        return leaf_cost(e);
    }
    for (uint32_t i = 0; i < e->nkids && c < COST_LEVELS - 1; i++) {
        c = MAX(c, cost(e->kids[i]));
    }
    return c;
}

/* Stable: terms of one cost stay as written. */
static const struct expr **ordered(struct typer *tp, const struct expr *const *kids, uint32_t n)
{
    const struct expr **out = arena_try_array(tp->ar, n, sizeof *out);
    uint8_t *costs = arena_try(tp->ar, n);
    uint32_t k = 0;
    if (!out || !costs) {
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        costs[i] = (uint8_t)cost(kids[i]);
    }
    for (int c = 0; c < COST_LEVELS; c++) {
        for (uint32_t i = 0; i < n; i++) {
            if (costs[i] == c) {
                out[k++] = kids[i];
            }
        }
    }
    return out;
}

/* ---- equalities of one operand become a list */

#define GROUPS_MAX 16 /* operands looked at: keeps long chains linear */

struct group {
    const struct operand *operand;
    int type;             /* JSON: value type of all members; a mixed list has other unknowns */
    uint32_t at, members; /* place of the first one in the output */
    struct vec values;
};

static int list_type(const struct value *items, uint32_t n)
{
    int type = -1;
    for (uint32_t i = 0; i < n; i++) {
        int t = items[i].type == VAL_INT ? VAL_DOUBLE : (int)items[i].type;
        if (type >= 0 && t != type) {
            return -1;
        }
        type = t;
    }
    return type;
}

/* The constants that this term compares its operand with; false when it is no equality. */
static bool equality(const struct expr *e, const struct value **ret_items, uint32_t *ret_n)
{
    if (e->kind == EX_CMP && e->op == OP_EQ && e->value.type != VAL_ARRAY) {
        *ret_items = &e->value;
        *ret_n = 1;
    } else if (e->kind == EX_IN && !e->negate) {
        *ret_items = e->value.a.items;
        *ret_n = e->value.a.n;
    } else {
        return false;
    }
    return e->operand.type != DT_JSON || list_type(*ret_items, *ret_n) >= 0;
}

static struct group *find_group(struct group *groups, uint32_t n, const struct expr *e, int type)
{
    for (uint32_t i = 0; i < n; i++) {
        if (plan__operand_eq(groups[i].operand, &e->operand) &&
            (e->operand.type != DT_JSON || groups[i].type == type)) {
            return &groups[i];
        }
    }
    return NULL;
}

static bool group_add(struct typer *tp, struct group *g, const struct value *items, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!vec__push(&g->values, tp->ar, &items[i], sizeof items[i])) {
            return false;
        }
    }
    g->members++;
    return true;
}

/* Writes at most *io_n terms to out, which may be kids itself. */
static bool merge_equalities(struct typer *tp, const struct expr **terms, uint32_t *io_n)
{
    struct group groups[GROUPS_MAX] = {0};
    uint32_t ngroups = 0, n = 0;
    for (uint32_t i = 0; i < *io_n; i++) {
        const struct expr *e = terms[i];
        const struct value *items;
        uint32_t nitems;
        if (!equality(e, &items, &nitems)) {
            terms[n++] = e;
            continue;
        }
        struct group *g = find_group(groups, ngroups, e, list_type(items, nitems));
        if (!g && ngroups < GROUPS_MAX) {
            g = &groups[ngroups++];
            *g = (struct group){&e->operand, list_type(items, nitems), n, 0, {0}};
        }
        if (!g) {
            terms[n++] = e;
            continue;
        }
        if (!group_add(tp, g, items, nitems)) {
            return false;
        }
        if (g->members == 1) {
            terms[n++] = e;
        }
    }
    for (uint32_t i = 0; i < ngroups; i++) {
        struct group *g = &groups[i];
        if (g->members < 2) {
            continue;
        }
        struct expr *e = type__expr(tp, EX_IN);
        if (!e) {
            return false;
        }
        type__sort_list(g->values.p, &g->values.n);
        e->operand = *g->operand;
        e->value = (struct value){.type = VAL_ARRAY, .a = {g->values.p, g->values.n}};
        terms[g->at] = e;
    }
    *io_n = n;
    return true;
}

/* ---- building */

static int constant(struct typer *tp, bool b, const struct expr **ret, struct status *st)
{
    struct expr *e = type__expr(tp, EX_CONST);
    if (!e) {
        return type__no_memory(st);
    }
    e->value = (struct value){.type = VAL_BOOL, .b = b};
    *ret = e;
    return 0;
}

/* Terms with nested nodes of the same kind spliced in and neutral constants left out.
 * *ret_decided: a constant decides the whole. */
static bool flatten(struct typer *tp, enum expr_kind kind, const struct expr *const *kids,
                    uint32_t nkids, struct vec *out, bool *ret_decided)
{
    for (uint32_t i = 0; i < nkids; i++) {
        const struct expr *e = kids[i];
        if (e->kind == EX_CONST) {
            *ret_decided = *ret_decided || e->value.b == (kind == EX_OR);
            continue;
        }
        const struct expr *const *from = e->kind == kind ? e->kids : &e;
        uint32_t n = e->kind == kind ? e->nkids : 1;
        for (uint32_t k = 0; k < n; k++) {
            if (!vec__push(out, tp->ar, &from[k], sizeof from[k])) {
                return false;
            }
        }
    }
    return true;
}

int type__logic(struct typer *tp, enum expr_kind kind, const struct expr *const *kids,
                uint32_t nkids, const struct expr **ret, struct status *st)
{
    struct vec terms = {0};
    bool decided = false;
    if (!flatten(tp, kind, kids, nkids, &terms, &decided)) {
        return type__no_memory(st);
    }
    if (decided || terms.n == 0) {
        return constant(tp, decided == (kind == EX_OR), ret, st);
    }
    if (kind == EX_OR && !merge_equalities(tp, terms.p, &terms.n)) {
        return type__no_memory(st);
    }
    if (terms.n == 1) {
        *ret = *(const struct expr *const *)terms.p;
        return 0;
    }
    struct expr *e = type__expr(tp, kind);
    const struct expr **sorted = ordered(tp, terms.p, terms.n);
    if (!e || !sorted) {
        return type__no_memory(st);
    }
    e->kids = sorted;
    e->nkids = terms.n;
    *ret = e;
    return 0;
}

int type__not(struct typer *tp, const struct expr *kid, const struct expr **ret, struct status *st)
{
    if (kid->kind == EX_NOT) {
        *ret = kid->kids[0];
        return 0;
    }
    if (kid->kind == EX_CONST) {
        return constant(tp, !kid->value.b, ret, st);
    }
    struct expr *e = type__expr(tp, EX_NOT);
    const struct expr **kids = arena_try_array(tp->ar, 1, sizeof *kids);
    if (!e || !kids) {
        return type__no_memory(st);
    }
    kids[0] = kid;
    e->kids = kids;
    e->nkids = 1;
    *ret = e;
    return 0;
}
