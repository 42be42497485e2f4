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
#include "index/graph/graph_int.h"

#define ROUTE_CLUSTERS 1024

static void diskann_free(struct index *ix)
{
    struct diskann *d = CONTAINER_OF(ix, struct diskann, head);
    for (int i = 0; i < SCRATCH_SLOTS; i++) {
        diskann__scratch_free(scratch_take(&d->scratch));
    }
    if (d->fd >= 0) {
        close(d->fd);
    }
    codec_free(d->codec);
    mem_free(d);
}

static int check_meta(const struct diskann_meta *m, const struct index_rows *rows,
                      const struct index_params *params, struct status *st)
{
    struct diskann_meta want = { .degree = params->max_degree };
    diskann__layout(rows, &want);
    if (m->version != DISKANN_VERSION) {
        return st_fail(st, ST_UNSUPPORTED,
                       "index file: DISKANN of version %u, this program reads %u: it has to be "
                       "built anew", m->version, DISKANN_VERSION);
    }
    if (m->n != rows->nrows) {
        return st_fail(st, ST_CORRUPT, "index file: graph of %u nodes over %u rows", m->n,
                       rows->nrows);
    }
    if (m->degree != want.degree || m->record != want.record || m->per_unit != want.per_unit ||
        m->unit != want.unit || !(m->slack >= 0)) {
        return st_fail(st, ST_CORRUPT, "index file: %u records of %u bytes in units of %u",
                       m->per_unit, m->record, m->unit);
    }
    if (m->n && (m->nclusters == 0 || m->nclusters > m->n || m->nsupers == 0 ||
                 m->nsupers > m->nclusters || m->nhot > m->n)) {
        return st_fail(st, ST_CORRUPT, "index file: %u clusters, %u supers, %u hot nodes",
                       m->nclusters, m->nsupers, m->nhot);
    }
    return 0;
}

/* The codes, and the way in. */
static int open_codes(struct diskann *d, const struct ix_file *f, struct status *st)
{
    const struct index_rows *r = &d->head.rows;
    const struct diskann_meta *m = &d->meta;
    const size_t ncentroids = (size_t)m->nsupers + m->nclusters;
    const void *p, *blob;
    size_t size;
    int rc;
    TRY(ix_section(f, DISKANN_CODC, SIZE_MAX, &blob, &size, st));
    TRY(codec_open(blob, size, r->metric, r->type, r->dim, &d->codec, st));
    if (m->stride != codec_stride(d->codec)) {
        FAIL(st, ST_CORRUPT, "index file: codes of %zu bytes, %llu apart", codec_stride(d->codec),
             (unsigned long long)m->stride);
    }
    TRY(ix_section(f, DISKANN_CODE, m->n * m->stride, &p, NULL, st));
    d->codes = p;
    TRY(ix_section(f, DISKANN_PERM, m->n * sizeof(uint32_t), &p, NULL, st));
    d->perm = p;
    TRY(ix_section(f, DISKANN_CLUS, (m->nclusters + (size_t)1) * sizeof(uint32_t), &p, NULL, st));
    d->cluster_first = p;
    TRY(graph__check_firsts("cluster", d->cluster_first, m->nclusters, m->n, st));
    TRY(ix_section(f, DISKANN_SUPF, (m->nsupers + (size_t)1) * sizeof(uint32_t), &p, NULL, st));
    d->super_first = p;
    TRY(graph__check_firsts("super", d->super_first, m->nsupers, m->nclusters, st));
    TRY(ix_section(f, DISKANN_CENT, ncentroids * r->dim * sizeof(float), &p, NULL, st));
    d->super_centroids = p;
    d->cluster_centroids = d->super_centroids + m->nsupers * r->dim;
out:
    return rc;
}

static int open_records(struct diskann *d, const struct ix_file *f, struct status *st)
{
    const struct diskann_meta *m = &d->meta;
    const size_t words = m->nhot ? bits_words(m->n) : 0;
    const void *p;
    int rc;
    TRY(ix_section(f, DISKANN_HOTB, words * (sizeof(uint64_t) + sizeof(uint32_t)), &p, NULL, st));
    d->hot_bits = m->nhot ? p : NULL;
    d->hot_before = m->nhot ? (const uint32_t *)(const void *)(d->hot_bits + words) : NULL;
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
    d->route = ROUTE_CLUSTERS;
    TRY(ix_section(f, DISKANN_META, sizeof *m, &p, NULL, st));
    memcpy(m, p, sizeof *m);
    TRY(check_meta(m, rows, params, st));
    d->links_at = diskann_links_at(rows);
    d->head.rows = *rows;
    if (m->n) {
        TRY(open_codes(d, f, st));
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
    ret->heap = sizeof *d + atomic_load_explicit(&d->scratch_bytes, memory_order_relaxed);
    ret->resident = m->n * (m->stride + sizeof(uint32_t)) +
                    (m->nhot ? bits_words(m->n) * 12 + (size_t)m->nhot * m->record : 0) +
                    ((size_t)m->nsupers + m->nclusters) * (ix->rows.dim * sizeof(float) + 4);
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
    const uint32_t row = d->perm[node];
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
        if (to == DISKANN_NONE ? false : to >= d->meta.n || to == node || degree != k) {
            return st_fail(st, ST_CORRUPT, "diskann: node %u leads to %u", node, to);
        }
        degree += to != DISKANN_NONE;
    }
    const uint32_t hot = diskann_is_hot(d, node) ? diskann_hot(d, node) : DISKANN_NONE;
    if (hot != DISKANN_NONE &&
        (hot == d->meta.nhot ||
         memcmp(d->hot_records + (size_t)hot * d->meta.record, record, d->meta.record) != 0)) {
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
            if (to != DISKANN_NONE && !bit_get(seen, to)) {
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
