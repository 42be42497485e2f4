/*
 * flat_index.c - the types FLAT and BIN_FLAT: exact answers.
 *
 * WHAT        FLAT over float rows carries 4-bit codes with a bounded error (bound.h) where they
 *             pay; everything else is the plain scan of flat.h, and the file then has no sections.
 * THREADS     As ann.h.
 */
#include "base/alloc.h"
#include "index/scan/bound.h"

struct flat_index {
    struct index head;
    struct bound bound; /* head NULL: no codes */
    struct scratch_pool scratch;
    _Atomic size_t scratch_bytes;
};

static int flat_build(const struct index_build *b, struct ixw *w, struct status *st)
{
    return bound_pays(b->rows) ? bound_build(b, w, st) : 0;
}

static int bin_flat_build(const struct index_build *b, struct ixw *w, struct status *st)
{
    (void)b;
    (void)w;
    (void)st;
    return 0;
}

static int flat_open(const struct ix_file *file, const struct index_rows *rows,
                     const struct index_params *params, const struct index_source *src,
                     struct index **ret_ix, struct status *st)
{
    struct flat_index *fx = alloc_try_zero(sizeof *fx);
    int rc = 0;
    (void)params;
    (void)src;
    if (!fx) {
        FAIL(st, ST_NO_MEMORY, "no memory for an index");
    }
    if (rows->type != VEC_BIN) {
        TRY(bound_open(file, rows, &fx->bound, st));
    }
    *ret_ix = &TAKE(fx)->head;
out:
    mem_free(fx);
    return rc;
}

static int flat_index_search(const struct index *ix, const struct index_query *q, struct topk *tk,
                             struct index_counters *c, struct status *st)
{
    struct flat_index *fx = CONTAINER_OF(ix, struct flat_index, head);
    const struct bound *bd = &fx->bound;
    if (bd->head && (q->params->strategy == STRAT_SCAN || bound_faster(bd, &ix->rows, q, tk->k))) {
        return bound_search(bd, ix, q, &fx->scratch, &fx->scratch_bytes, tk, c, st);
    }
    return index__flat(ix, q, 0, q->nq, tk, c, st);
}

static int flat_validate(const struct index *ix, struct status *st)
{
    const struct flat_index *fx = CONTAINER_OF(ix, struct flat_index, head);
    return fx->bound.head ? bound_validate(&fx->bound, &ix->rows, st) : 0;
}

static void flat_memory(const struct index *ix, struct index_memory *ret)
{
    struct flat_index *fx = CONTAINER_OF(ix, struct flat_index, head);
    ret->heap = sizeof *fx + atomic_load_explicit(&fx->scratch_bytes, memory_order_relaxed);
    ret->resident = fx->bound.nblocks * fx->bound.block_bytes;
}

static void flat_free(struct index *ix)
{
    struct flat_index *fx = CONTAINER_OF(ix, struct flat_index, head);
    for (void *s; (s = scratch_take(&fx->scratch));) {
        bound_scratch_free(s);
    }
    mem_free(fx);
}

const struct index_ops index_flat = {
    .type = INDEX_FLAT,
    .metrics = METRICS_DENSE,
    .types = TYPES_DENSE,
    .build = flat_build,
    .open = flat_open,
    .search = flat_index_search,
    .validate = flat_validate,
    .memory = flat_memory,
    .free = flat_free,
};

const struct index_ops index_bin_flat = {
    .type = INDEX_BIN_FLAT,
    .metrics = METRICS_BINARY,
    .types = TYPE_BIT(VEC_BIN),
    .build = bin_flat_build,
    .open = flat_open,
    .search = flat_index_search,
    .memory = flat_memory,
    .free = flat_free,
};
