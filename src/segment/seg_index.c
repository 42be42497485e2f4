/*
 * seg_index.c - index files of sealed segments, and searches through them.
 *
 * WHAT        A file is mapped, checked (index/ann.h reads all of it once), warmed and published by
 *             one store; searches find it by one load. Which rows may be hits is seg_kept.c's answer,
 *             or nothing at all when every row passes, which most searches of most segments are.
 * LIFE        A field's first index stays until the segment ends: a collection whose index is to be
 *             another one is released, and opens its segments anew. So readers count nothing.
 * THREADS     Any. Two that open one for the same field: one wins, the other frees its own.
 */
#include "base/alloc.h"
#include "index/flat.h"
#include "schema/errors.h"
#include "segment/seg_int.h"
#include <unistd.h>

#define PAGE 4096u

static void index_done(struct seg_index *si)
{
    if (si) {
        index_free(si->ix);
        mapping_free(si->map);
        mem_free(si);
    }
}

void seg__indexes_done(struct segment *seg)
{
    for (uint32_t f = 0; seg->s.indexes && f < seg->nfields; f++) {
        index_done(atomic_load_explicit(&seg->s.indexes[f], memory_order_relaxed));
    }
    mem_free((void *)(uintptr_t)seg->s.indexes);
}

void seg__indexes_info(const struct segment *seg, struct seg_info *ret)
{
    for (uint32_t f = 0; seg->s.indexes && f < seg->nfields; f++) {
        /* Acquire: with the release of seg_index_open(). */
        const struct seg_index *si =
            atomic_load_explicit(&seg->s.indexes[f], memory_order_acquire);
        if (si) {
            ret->indexes++;
            ret->mapped_bytes += si->map->n;
        }
    }
}

static bool find_metric(const char *name, enum metric *ret)
{
    for (int m = 0; m < METRIC_COUNT; m++) {
        if (strcmp(metric_name((enum metric)m), name) == 0) {
            *ret = (enum metric)m;
            return true;
        }
    }
    return false;
}

/* What searches touch all the time is in memory before the first of them. DISKANN's file is meant
 * to stay on disk. The rows are only asked for: they are touched here and there. */
static void warm(const struct seg_index *si, const struct index_rows *rows)
{
    unsigned sum = 0;

    map_willneed(rows->base, rows->nrows * rows->stride);
    if (index_type_of(si->ix) == INDEX_DISKANN) {
        return;
    }
    map_willneed(si->map->p, si->map->n);
    for (size_t at = 0; at < si->map->n; at += PAGE) {
        sum += *(const volatile uint8_t *)(si->map->p + at);
    }
    (void)sum;
}

static int open_index(const struct segment *seg, const struct seg_index_file *f,
                      struct object_store *os, struct seg_index *si, struct status *st)
{
    struct index_rows rows = { 0 };
    struct index_source src = { .fd = -1 };
    struct flat_rows raw;
    const uint64_t *valid;
    int rc;

    if (!seg_vectors(seg, f->field_id, &raw, &valid)) {
        FAIL(st, ST_INVALID, "%s has no vectors in field %lld", seg->name, (long long)f->field_id);
    }
    if (!index_type_find(f->index_type, &si->declared) ||
        !find_metric(f->metric_type, &si->metric)) {
        FAIL(st, ERR_INDEX_NOT_SUPPORTED, "index type %s with metric %s is not served",
             f->index_type, f->metric_type);
    }
    rows.metric = si->metric;
    rows.type = raw.type;
    rows.dim = raw.dim;
    rows.base = raw.base;
    rows.stride = raw.stride;
    rows.nrows = (uint32_t)raw.nrows;
    TRY(object_map(os, slice_of(f->key), &si->map, st));
    src.map = si->map->p;
    src.size = si->map->n;
    /* Types that read by themselves keep a descriptor of their own. */
    src.fd = si->declared == INDEX_DISKANN ? object_descriptor(os, slice_of(f->key)) : -1;
    TRY(index_open(&src, &rows, &si->ix, st));
    warm(si, &rows);
out:
    if (src.fd >= 0) {
        close(src.fd);
    }
    return rc;
}

int seg_index_open(struct segment *seg, const struct seg_index_file *f, struct object_store *os,
                   bool *ret_opened, struct status *st)
{
    int at = seg__field(seg, f->field_id), rc = 0;
    struct seg_index *si = NULL, *none = NULL;
    struct index_memory mem;

    *ret_opened = false;
    if (!seg->sealed || at < 0) {
        FAIL(st, ST_INVALID, "%s: no index for field %lld", seg->name, (long long)f->field_id);
    }
    /* Acquire: with the release below. */
    if (atomic_load_explicit(&seg->s.indexes[at], memory_order_acquire)) {
        goto out;
    }
    si = xalloc(sizeof *si);
    rc = open_index(seg, f, os, si, st);
    if (rc != 0) {
        st_context(st, "%s", f->key);
        goto out;
    }
    index_memory(si->ix, &mem);
    if (atomic_compare_exchange_strong_explicit(&seg->s.indexes[at], &none, si,
                                                memory_order_release, memory_order_relaxed)) {
        seg__add_memory(seg, mem.heap);
        *ret_opened = true;
        si = NULL;
    }
out:
    index_done(si);
    return rc;
}

/* ---- searching ---- */

const struct seg_index *seg__index_for(const struct segment *seg, uint32_t f,
                                       const struct seg_search *q)
{
    bool exact = q->exact || q->has_range_filter || q->has_bound;
    const struct seg_index *si;

    if (!seg->sealed) {
        return NULL;
    }
    si = atomic_load_explicit(&seg->s.indexes[f], memory_order_acquire);
    if (!si || si->metric != q->metric) {
        return NULL;
    }
    /* What lies beyond the nearest rows only exact types find: others would end too early. */
    return exact && index_type_of(si->ix) != INDEX_FLAT ? NULL : si;
}

/* Values below what the answer needs are raised to it, as the API's servers do. */
static int search_params(const struct seg_index *si, const struct seg_search *q, uint32_t k,
                         struct index_search_params *p, struct status *st)
{
    bool known;
    int rc = 0;

    index_search_params_init(p);
    for (size_t i = 0; i < q->nparams; i++) {
        TRY(index_search_params_set(p, si->declared, q->params[i].key, q->params[i].value, &known,
                                    st));
    }
    p->ef = p->ef ? MAX(p->ef, k) : 0;
    p->search_list = p->search_list ? MAX(p->search_list, k) : 0;
    p->reorder_k = p->reorder_k ? MAX(p->reorder_k, k) : 0;
out:
    return rc;
}

/* Whether the filter lets every row through that there is. */
static bool all_pass(const struct segment *seg, uint32_t f, const struct seg_filter *filter)
{
    return !filter->expr && !seg->s.cols[f].valid &&
           atomic_load_explicit(&seg->max_ts, memory_order_relaxed) <= filter->ts &&
           atomic_load_explicit(&seg->min_ts, memory_order_relaxed) >= filter->ttl_before &&
           atomic_load_explicit(&seg->dels.rows, memory_order_relaxed) == 0;
}

int seg__search_index(const struct segment *seg, const struct seg_index *si, uint32_t f,
                      const struct seg_search *q, struct topk *tk, struct arena *scratch,
                      struct status *st)
{
    struct seg_stop stop = { .deadline_us = q->deadline_us, .cancel = q->cancel };
    struct index_search_params params;
    struct index_query iq = {
        .queries = q->queries,
        .query_stride = seg->fields[f].width,
        .nq = q->nq,
        .params = &params,
        .check = seg__stop_check,
        .check_arg = &stop,
        .near = q->near_out,
    };
    const struct seg_pass *pass = NULL;
    struct seg_pass own = { 0 };
    int rc;

    TRY(seg__stop_check(&stop, st));
    TRY(search_params(si, q, tk->k, &params, st));
    if (!all_pass(seg, f, &q->filter)) {
        TRY(seg__pass_get(seg, si->ix, f, &q->filter, q->deadline_us, scratch, &own, &pass, st));
        iq.allow = pass->bits;
        iq.allow_count = pass->count;
        iq.filter = pass->filter;
    }
    if (!pass || iq.allow_count > 0) {
        TRY(index_search(si->ix, &iq, tk, q->work ? &q->work->counters : NULL, st));
    }
    if (q->work) {
        q->work->indexed = true;
    }
    topk_finish(tk);
out:
    seg__pass_done(pass);
    return rc;
}
