/*
 * px_hybrid_group.c - a fused ranking as groups.
 *
 * WHAT      The sub-searches are grouped already, so that each brings the best rows of its best
 *           groups. Their fused rows are put together by value; a group's score is the largest, the
 *           sum or the mean of its rows' scores, and groups of equal score keep the order of their
 *           best rows.
 * THREADS   Any.
 */
#include "proxy/px_hybrid.h"
#include "base/map.h"
#include <stdlib.h>

struct fused_group {
    size_t order;                  /* of its best row */
    double score;
    uint32_t n, cap;
    const struct px_fused **rows;
};

static int no_memory(struct status *st)
{
    return st_fail(st, ERR_PARAMETER_TOO_LARGE, "the groups need more memory than a request may "
                   "use: ask for fewer");
}

static int by_score(const void *a, const void *b)
{
    const struct fused_group *x = a, *y = b;

    if (x->score != y->score) {
        return x->score < y->score ? 1 : -1;
    }
    return (x->order > y->order) - (x->order < y->order);
}

/* The group of a value, made when it is new; NULL past the arena's limit. */
static struct fused_group *group_of(struct px_call *pc, const struct px_fused *f,
                                    struct str_map *known, struct fused_group **io_null,
                                    struct fused_group *groups, size_t *io_n, uint32_t size)
{
    const struct column *values = batch_column(&f->sub->hits.fields, f->sub->group->id);
    bool null = column_is_null(values, f->row);
    struct slice value = column_cell(values, f->row);
    struct fused_group *g = null ? *io_null : str_map_get(known, value);

    if (g) {
        return g;
    }
    g = &groups[*io_n];
    *g = (struct fused_group){ .order = *io_n, .cap = size };
    g->rows = arena_try_array(pc->ar, size, sizeof *g->rows);
    if (!g->rows) {
        return NULL;
    }
    (*io_n)++;
    if (null) {
        *io_null = g;
    } else {
        str_map_put(known, value, g);
    }
    return g;
}

static void score_group(struct fused_group *g, enum px_group_scorer scorer)
{
    double sum = 0;

    for (uint32_t i = 0; i < g->n; i++) {
        sum += g->rows[i]->score;
    }
    g->score = scorer == PX_GROUP_MAX   ? g->rows[0]->score
               : scorer == PX_GROUP_SUM ? sum
                                        : sum / g->n;
}

int px_group_fused(struct px_call *pc, const struct px_fused_groups *how,
                   const struct px_fused *list, size_t n, struct px_fused **ret, size_t *ret_n,
                   struct status *st)
{
    struct fused_group *groups = arena_try_array(pc->ar, n + 1, sizeof *groups), *null = NULL;
    struct px_fused *out = arena_try_array(pc->ar, n + 1, sizeof *out);
    struct str_map *known = str_map_new();
    size_t ngroups = 0, nout = 0;
    int rc = 0;

    if (!groups || !out) {
        rc = no_memory(st);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        struct fused_group *g =
            group_of(pc, &list[i], known, &null, groups, &ngroups, how->size);
        if (!g) {
            rc = no_memory(st);
            goto out;
        }
        if (g->n < g->cap) {
            g->rows[g->n++] = &list[i];
        }
    }
    for (size_t i = 0; i < ngroups; i++) {
        score_group(&groups[i], how->scorer);
    }
    qsort(groups, ngroups, sizeof *groups, by_score);
    for (size_t i = (size_t)how->offset; i < ngroups && i < (size_t)(how->offset + how->limit);
         i++) {
        for (uint32_t r = 0; r < groups[i].n; r++) {
            out[nout++] = *groups[i].rows[r];
        }
    }
    *ret = out;
    *ret_n = nout;
out:
    str_map_free(known, NULL);
    return rc;
}
