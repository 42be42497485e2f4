/*
 * type_int.h - shared by the files that turn the syntax tree into a plan.
 *
 * filter_type.c walks the tree and resolves names; type_cmp.c builds comparisons, ranges and lists
 * in their normal form; type_logic.c builds and / or / not.
 */
#pragma once
#include "query/query_int.h"

struct typer {
    const struct schema *s;
    struct arena *ar;
};

/* What a subtree means. */
struct typed {
    enum { TY_VALUE, TY_OPERAND, TY_ARITH, TY_PRED } tag;
    struct value value;
    struct operand operand; /* also of TY_ARITH: what the steps start from */
    struct vec steps;       /* struct arith_step */
    enum opd_class cls;     /* of the operand or of the arithmetic's result */
    const struct expr *pred;
    struct slice text;
};

/* printf("%.*s"): at most 128 bytes of source text. */
#define TEXT_ARG(t) (int)MIN((t).n, (size_t)128), (t).p

const char *type__name(const struct typed *t);
struct expr *type__expr(struct typer *tp, enum expr_kind kind); /* NULL past the arena's limit */
int type__no_memory(struct status *st);
struct typed type__pred(const struct expr *e);

int type__compare(struct typer *tp, enum tok op, const struct typed *l, const struct typed *r,
                  struct typed *ret, struct status *st);
int type__range(struct typer *tp, const struct node *nd, const struct typed *l,
                const struct typed *mid, const struct typed *r, struct typed *ret,
                struct status *st);
int type__in(struct typer *tp, const struct node *nd, const struct typed *what,
             const struct typed *list, struct typed *ret, struct status *st);
/* Sorts values and drops equal ones; items are changed in place. */
void type__sort_list(struct value *items, uint32_t *io_n);
/* A constant in the form that rows of class cls are compared with; false when types clash. */
bool type__cast(enum opd_class cls, const struct value *v, struct value *ret);

/* The expression as a condition; *ret = NULL when it is none. */
int type__condition(struct typer *tp, const struct typed *t, const struct expr **ret,
                    struct status *st);
/* kids: conditions. kind EX_AND or EX_OR. */
int type__logic(struct typer *tp, enum expr_kind kind, const struct expr *const *kids,
                uint32_t nkids, const struct expr **ret, struct status *st);
int type__not(struct typer *tp, const struct expr *kid, const struct expr **ret, struct status *st);
