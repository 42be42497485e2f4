/*
 * diskann.c - an open disk index: what is used in place, the descriptor for reads, and the proof.
 *
 * Opening checks the small tables and the sizes of the large ones; records, perm and links are
 * checked at use. The units are never read through the mapping by searches that have a descriptor.
 */
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/diskann/diskann_int.h"

static void diskann_free(struct index *ix)
{
    struct diskann *d = CONTAINER_OF(ix, struct diskann, head);
    for (int i = 0; i < SCRATCH_SLOTS; i++) {
        diskann__scratch_free(scratch_take(&d->scratch));
        graph__scratch_free(scratch_take(&d->g.scratch));
    }
    if (d->fd >= 0) {
        close(d->fd);
    }
    codec_free(d->g.codec);
    mem_free(d);
}

static int check_meta(const struct diskann_meta *m, const struct index_rows *rows,
                      const struct index_params *params, struct status *st)
{
    struct diskann_meta want = { .degree = params->max_degree };
    diskann__layout(rows, &want);
    if (m->n != rows->nrows) {
        return st_fail(st, ST_CORRUPT, "index file: graph of %u nodes over %u rows", m->n,
                       rows->nrows);
    }
    if (m->degree != want.degree || m->record != want.record || m->per_unit != want.per_unit ||
        m->unit != want.unit || !(m->slack >= 0)) {
        return st_fail(st, ST_CORRUPT, "index file: %u records of %u bytes in units of %u",
                       m->per_unit, m->record, m->unit);
    }
    if (m->n && (m->nclusters == 0 || m->nclusters > m->n || m->npivots < m->nclusters ||
                 m->npivots > m->n || m->nsupers == 0 || m->nsupers > m->nclusters ||
                 m->nhot > m->n)) {
        return st_fail(st, ST_CORRUPT, "index file: %u clusters, %u pivots, %u hot nodes",
                       m->nclusters, m->npivots, m->nhot);
    }
    return 0;
}

/* The codes, and the way in. */
static int open_graph(struct graph *g, const struct ix_file *f, const struct index_rows *rows,
                      struct status *st)
{
    int rc = 0;
    const void *p, *blob;
    size_t size;
    const uint32_t n = g->n, nc = g->nclusters;
    TRY(ix_section(f, GRAPH_CODC, SIZE_MAX, &blob, &size, st));
    TRY(codec_open(blob, size, rows->metric, rows->type, rows->dim, &g->codec, st));
    if (g->stride != codec_stride(g->codec)) {
        FAIL(st, ST_CORRUPT, "index file: codes of %zu bytes, %zu apart", codec_stride(g->codec),
             g->stride);
    }
    TRY(ix_section(f, GRAPH_CODE, n * g->stride, &p, NULL, st));
    g->codes = p;
    TRY(ix_section(f, GRAPH_PERM, n * sizeof(uint32_t), &p, NULL, st));
    g->perm = p;
    TRY(ix_section(f, GRAPH_CLUS, (nc + 1) * sizeof(uint32_t), &p, NULL, st));
    g->cluster_first = p;
    TRY(graph__check_firsts("cluster", g->cluster_first, nc, n, st));
    TRY(ix_section(f, GRAPH_PIVF, (nc + 1) * sizeof(uint32_t), &p, NULL, st));
    g->pivot_first = p;
    TRY(graph__check_firsts("pivot range", g->pivot_first, nc, g->npivots, st));
    TRY(ix_section(f, GRAPH_SUPF, (g->nsupers + 1) * sizeof(uint32_t), &p, NULL, st));
    g->super_first = p;
    TRY(graph__check_firsts("super", g->super_first, g->nsupers, nc, st));
    TRY(ix_section(f, GRAPH_PIVN, g->npivots * sizeof(uint32_t), &p, NULL, st));
    g->pivot_node = p;
    for (uint32_t i = 0; i < g->npivots; i++) {
        if (g->pivot_node[i] >= n) {
            FAIL(st, ST_CORRUPT, "index file: pivot %u is node %u", i, g->pivot_node[i]);
        }
    }
    TRY(ix_section(f, GRAPH_ROUT, ((size_t)g->nsupers + nc + g->npivots) * g->stride, &p, NULL,
                   st));
    g->super_codes = p;
    g->cluster_codes = g->super_codes + g->nsupers * g->stride;
    g->pivot_codes = g->cluster_codes + nc * g->stride;
out:
    return rc;
}

static int open_records(struct diskann *d, const struct ix_file *f, struct status *st)
{
    const struct diskann_meta *m = &d->meta;
    const size_t words = bits_words(m->n);
    const void *p;
    int rc;
    TRY(ix_section(f, DISKANN_HOTB, words * (sizeof(uint64_t) + sizeof(uint32_t)), &p, NULL, st));
    d->hot_bits = p;
    d->hot_before = (const uint32_t *)(const void *)(d->hot_bits + words);
    TRY(ix_section(f, DISKANN_HOTR, (size_t)m->nhot * m->record, &p, NULL, st));
    d->hot_records = p;
    TRY(ix_section(f, DISKANN_PAGE, (size_t)diskann_units(m->n, m->per_unit) * m->unit, &p, NULL,
                   st));
    d->units = p;
    d->units_at = (uint64_t)(d->units - f->map);
out:
    return rc;
}

static int diskann_open(const struct ix_file *f, const struct index_rows *rows,
                        const struct index_params *params, const struct index_source *src,
                        struct index **ret_ix, struct status *st)
{
    struct diskann *d = xalloc(sizeof *d);
    struct diskann_meta *m = &d->meta;
    const void *p;
    int rc;
    d->fd = -1;
    TRY(ix_section(f, GRAPH_META, sizeof *m, &p, NULL, st));
    memcpy(m, p, sizeof *m);
    TRY(check_meta(m, rows, params, st));
    d->links_at = diskann_links_at(rows);
    d->g = (struct graph){ .n = m->n, .degree = m->degree, .nclusters = m->nclusters,
                           .npivots = m->npivots, .nsupers = m->nsupers, .stride = m->stride };
    d->g.head.rows = *rows;
    if (m->n) {
        TRY(open_graph(&d->g, f, rows, st));
        TRY(open_records(d, f, st));
        d->fd = diskann__reopen(src->fd);
    }
    *ret_ix = &TAKE(d)->head;
out:
    if (d) {
        diskann_free(&d->head);
    }
    return rc;
}

static void diskann_memory(const struct index *ix, struct index_memory *ret)
{
    struct diskann *d = CONTAINER_OF((struct index *)(uintptr_t)ix, struct diskann, head);
    const struct diskann_meta *m = &d->meta;
    ret->heap = sizeof *d + atomic_load_explicit(&d->scratch_bytes, memory_order_relaxed) +
                atomic_load_explicit(&d->g.scratch_bytes, memory_order_relaxed);
    ret->resident = m->n * (m->stride + sizeof(uint32_t)) + bits_words(m->n) * 12 +
                    (size_t)m->nhot * m->record +
                    ((size_t)m->nsupers + m->nclusters + m->npivots) * m->stride;
}

/* ---- Validation ---- */

static const uint8_t *record_of(const struct diskann *d, uint32_t node)
{
    return d->units + (size_t)(node / d->meta.per_unit) * d->meta.unit +
           (size_t)(node % d->meta.per_unit) * d->meta.record;
}

static int check_node(const struct diskann *d, uint32_t node, uint64_t *seen, struct status *st)
{
    const struct index_rows *r = &d->head.rows;
    const uint8_t *record = record_of(d, node);
    const uint32_t row = d->g.perm[node];
    uint32_t to = 0, degree = 0;
    if (row >= d->meta.n || bit_get(seen, row)) {
        return st_fail(st, ST_CORRUPT, "diskann: node %u is row %u", node, row);
    }
    bit_set(seen, row);
    if (memcmp(record, index_row(r, row), vec_bytes(r->type, r->dim)) != 0) {
        return st_fail(st, ST_CORRUPT, "diskann: node %u is not its row %u", node, row);
    }
    for (uint32_t k = 0; k < d->meta.degree; k++) {
        memcpy(&to, record + d->links_at + k * sizeof to, sizeof to);
        if (to == GRAPH_NONE ? false : to >= d->meta.n || to == node || degree != k) {
            return st_fail(st, ST_CORRUPT, "diskann: node %u leads to %u", node, to);
        }
        degree += to != GRAPH_NONE;
    }
    const uint8_t *hot = diskann_is_hot(d, node) ? diskann_hot(d, node) : record;
    if (!hot || memcmp(hot, record, d->meta.record) != 0) {
        return st_fail(st, ST_CORRUPT, "diskann: node %u differs in memory", node);
    }
    return 0;
}

/* From node 0 every node must be reached. */
static int check_reach(const struct diskann *d, uint64_t *seen, uint32_t *queue, struct status *st)
{
    size_t head = 0, tail = 0;
    memset(seen, 0, bits_words(d->meta.n) * 8);
    bit_set(seen, 0);
    queue[tail++] = 0;
    while (head < tail) {
        const uint8_t *links = record_of(d, queue[head++]) + d->links_at;
        for (uint32_t k = 0; k < d->meta.degree; k++) {
            uint32_t to;
            memcpy(&to, links + k * sizeof to, sizeof to);
            if (to != GRAPH_NONE && !bit_get(seen, to)) {
                bit_set(seen, to);
                queue[tail++] = to;
            }
        }
    }
    if (tail != d->meta.n) {
        return st_fail(st, ST_CORRUPT, "diskann: %zu of %u nodes are reachable", tail, d->meta.n);
    }
    return 0;
}

static int diskann_validate(const struct index *ix, struct status *st)
{
    const struct diskann *d = CONTAINER_OF((struct index *)(uintptr_t)ix, struct diskann, head);
    const uint32_t n = d->meta.n;
    uint64_t *seen = alloc_try_zero((bits_words(n) + 1) * 8);
    uint32_t *queue = alloc_try((n + (size_t)1) * sizeof *queue);
    int rc = 0;
    if (!seen || !queue) {
        FAIL(st, ST_NO_MEMORY, "no memory to check a graph of %u nodes", n);
    }
    for (uint32_t node = 0; node < n; node++) {
        TRY(check_node(d, node, seen, st));
    }
    if (n) {
        TRY(check_reach(d, seen, queue, st));
    }
out:
    mem_free(seen);
    mem_free(queue);
    return rc;
}

const struct index_ops diskann_ops = {
    .type = INDEX_DISKANN,
    .metrics = METRICS_DENSE,
    .types = TYPES_DENSE,
    .build = diskann__build,
    .open = diskann_open,
    .search = diskann__search,
    .validate = diskann_validate,
    .memory = diskann_memory,
    .free = diskann_free,
};
