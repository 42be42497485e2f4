/*
 * plan_keys.c - which keys a filter can be true for.
 *
 * The parser turns `key == v` and chains of `or` over one key into lists, so that looking at the
 * root and at the terms of a top-level `and` is enough.
 *
 * THREADS  pure.
 */
#include "query/plan.h"

static const struct value *list_of(const struct expr *e, int64_t field_id)
{
    bool plain = e->operand.field_id == field_id && e->operand.nsteps == 0;
    return e->kind == EX_IN && !e->negate && plain ? &e->value : NULL;
}

const struct value *plan_pk_list(const struct expr *e, int64_t pk_field_id, bool *ret_exact)
{
    *ret_exact = e && list_of(e, pk_field_id);
    return plan_field_list(e, pk_field_id);
}

const struct value *plan_field_list(const struct expr *e, int64_t field_id)
{
    const struct value *best = NULL;
    if (!e) {
        return NULL;
    }
    if (e->kind != EX_AND) {
        return list_of(e, field_id);
    }
    for (uint32_t i = 0; i < e->nkids; i++) {
        const struct value *v = list_of(e->kids[i], field_id);
        if (v && (!best || v->a.n < best->a.n)) {
            best = v;
        }
    }
    return best;
}
