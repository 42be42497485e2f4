/*
 * px_group.c - grouping search: the best rows of each of the best groups.
 *
 * WHAT      An ordinary search with the group field as its output, read from the best hit on: a
 *           value not seen before opens a group, until there are offset + limit groups; a group
 *           takes its first group_size hits. When the hits run out before that, the search is
 *           repeated with a larger k. Groups come in the order of their best hits, and each one's
 *           hits together. With strict_group_size the search goes on until all groups are full.
 * BOUND     No search asks for more than topK hits: when a few large groups fill those, the answer
 *           has fewer groups than asked for.
 * NULLS     Rows whose group field is null are a group of their own.
 * FIELDS    Rounds carry the group field only; the output fields of the winners are read by key at
 *           the same snapshot.
 */
#include "base/map.h"
#include "proxy/px_read.h"

#define GROW 4
#define FIRST_K_MIN 64u
#define GROUP_SIZE_MAX 10

struct group {
    uint32_t n, rows[GROUP_SIZE_MAX];
};

static int no_memory(struct status *st)
{
    return st_fail(st, ERR_PARAMETER_TOO_LARGE, "the groups need more memory than a request may "
                   "use: ask for fewer");
}

int px_group_field(struct px_search *s, struct status *st)
{
    const struct field *f = schema_field_by_name(s->coll->schema, slice_of(s->sp.group_by));

    if (!f || f->is_dynamic) {
        if (s->coll->schema->dynamic) {
            return st_fail(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: grouping by %s, "
                           "which is in the dynamic field", s->sp.group_by);
        }
        return st_fail(st, ERR_FIELD_NOT_FOUND, "groupBy field not found in schema: field not found"
                       "[field=%s]", s->sp.group_by);
    }
    if (!dtype_is_int(f->type) && f->type != DT_BOOL && f->type != DT_VARCHAR &&
        f->type != DT_TIMESTAMPTZ) {
        return st_fail(st, ERR_PARAMETER_INVALID, "groupBy field %s is of type %s: groups are made "
                       "by integers, Bool, VarChar and Timestamptz", f->name, dtype_name(f->type));
    }
    s->group = f;
    return 0;
}

/* ---- one query's hits ---- */

struct grouping {
    const struct px_search *s;
    const struct column *values;
    uint32_t wanted;               /* groups, the skipped ones included */
    struct group *groups;
    uint32_t ngroups, nfull;
};

/* True: more hits would change nothing. */
static bool complete(const struct grouping *g)
{
    return g->ngroups == g->wanted && (!g->s->sp.strict_group_size || g->nfull == g->ngroups);
}

static void add_hits(struct grouping *g, uint32_t first, uint32_t n)
{
    struct str_map *known = str_map_new();
    struct group *null_group = NULL;

    g->ngroups = g->nfull = 0;
    for (uint32_t i = first; i < first + n && !complete(g); i++) {
        bool null = column_is_null(g->values, i);
        struct slice value = column_cell(g->values, i);
        struct group *of = null ? null_group : str_map_get(known, value);
        if (!of && g->ngroups < g->wanted) {
            of = &g->groups[g->ngroups++];
            of->n = 0;
            if (null) {
                null_group = of;
            } else {
                str_map_put(known, value, of);
            }
        }
        if (of && of->n < g->s->sp.group_size) {
            of->rows[of->n++] = i;
            g->nfull += of->n == g->s->sp.group_size;
        }
    }
    str_map_free(known, NULL);
}

/* Groups the hits of every query. *ret_short: a larger k may find more. */
static int group_hits(struct px_call *pc, struct px_search *s, uint32_t k, bool *ret_short,
                      struct status *st)
{
    const struct px_hits *h = &s->hits;
    struct grouping g = { .s = s, .values = batch_column(&h->fields, s->group->id),
                          .wanted = (uint32_t)(s->sp.topk + s->sp.offset) };
    size_t most = MIN((size_t)g.wanted, (size_t)k) + 1;
    uint32_t first = 0;

    g.groups = arena_try_array(pc->ar, most, sizeof *g.groups);
    s->topks = arena_try_array(pc->ar, h->nq, sizeof *s->topks);
    s->rows = arena_try_array(pc->ar, h->total + 1, sizeof *s->rows);
    if (!g.groups || !s->topks || !s->rows) {
        return no_memory(st);
    }
    s->nrows = 0;
    *ret_short = false;
    for (uint32_t q = 0; q < h->nq; q++) {
        add_hits(&g, first, g.values ? h->counts[q] : 0);
        *ret_short = *ret_short || (!complete(&g) && h->counts[q] >= k);
        for (uint32_t i = (uint32_t)s->sp.offset; i < g.ngroups; i++) {
            for (uint32_t j = 0; j < g.groups[i].n; j++) {
                s->rows[s->nrows++] = g.groups[i].rows[j];
                s->topks[q]++;
            }
        }
        first += h->counts[q];
    }
    return 0;
}

/* ---- the search ---- */

/* What the rounds bring already needs no second read. */
static bool has_all_fields(const struct px_search *s)
{
    return s->out.nfields == 0 || (s->out.nfields == 1 && s->out.field_ids[0] == s->group->id);
}

static int fetch_fields(struct px_call *pc, struct px_search *s, struct status *st)
{
    struct column pks;
    struct px_fetch f = { .pks = &pks, .field_ids = s->out.field_ids, .nfields = s->out.nfields,
                          .partition_ids = s->req.partition_ids,
                          .npartitions = s->req.n_partition_ids, .snapshot = s->snapshot,
                          .guarantee_ts = s->req.guarantee_ts,
                          .max_bytes = pc->px->lim.max_output_bytes };
    int rc;

    if (!column_select(&s->hits.pks, s->rows, (uint32_t)s->nrows, pc->ar, &pks)) {
        return no_memory(st);
    }
    TRY(px_fetch(pc, s->coll, &f, &s->fields, &s->field_rows, st));
    for (size_t i = 0; i < s->nrows; i++) {
        if (s->field_rows[i] == PX_NO_ROW) {
            FAIL(st, ERR_INCONSISTENT_REQUERY, "inconsistent requery result: a row went away "
                 "between search and fetch");
        }
    }
out:
    return rc;
}

int px_group_search(struct px_call *pc, struct px_search *s, struct status *st)
{
    uint32_t max = (uint32_t)MIN(pc->px->lim.max_topk, (int64_t)PX_TOPK_MAX);
    uint64_t first_k = (uint64_t)(s->sp.topk + s->sp.offset) * s->sp.group_size;
    uint32_t k = (uint32_t)MIN(MAX(first_k, (uint64_t)FIRST_K_MIN), (uint64_t)max);
    int64_t group_id = s->group->id;
    bool more = true;
    int rc;

    s->req.output_field_ids = &group_id;
    s->req.n_output_field_ids = 1;
    for (;;) {
        s->req.k = k;
        TRY(px_search_shards(pc, s->coll, &s->req, s->snapshot, &s->hits, st));
        TRY(group_hits(pc, s, k, &more, st));
        if (!more || k == max) {
            break;
        }
        k = (uint32_t)MIN((uint64_t)k * GROW, (uint64_t)max);
    }
    if (has_all_fields(s) || s->nrows == 0) {
        s->fields = s->hits.fields;
        s->field_rows = s->rows;
    } else {
        TRY(fetch_fields(pc, s, st));
    }
out:
    s->req.output_field_ids = NULL;
    s->req.n_output_field_ids = 0;
    return rc;
}
