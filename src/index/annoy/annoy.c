/*
 * annoy.c - an open forest: sections found and sized, and the proof that its trees are trees.
 *
 * Opening reads heads only, whatever the size of the file: what a search follows it checks on the
 * way (annoy_search.c). Everything that annoy_int.h promises is checked by annoy_validate().
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/annoy/annoy_int.h"

static void annoy_free(struct index *ix)
{
    struct annoy *a = CONTAINER_OF(ix, struct annoy, head);
    for (struct annoy_scratch *s; (s = scratch_take(&a->scratch));) {
        annoy__scratch_free(s);
    }
    codec_free(a->codec);
    mem_free(a);
}

static int find_trees(struct annoy *a, const struct ix_file *f, const struct index_rows *rows,
                      struct status *st)
{
    const void *nodes, *roots, *trees, *middle;
    size_t size;
    int rc;
    TRY(ix_section(f, ANNOY_TAG_TREE, SIZE_MAX, &trees, &a->trees_size, st));
    TRY(ix_section(f, ANNOY_TAG_NODE, SIZE_MAX, &nodes, &size, st));
    if (size % sizeof *a->nodes != 0 || size == 0 || size / sizeof *a->nodes > UINT32_MAX ||
        a->trees_size % annoy_stride(rows->dim) != 0) {
        FAIL(st, ST_CORRUPT, "index file: sections of %zu and %zu bytes are no trees",
             a->trees_size, size);
    }
    a->nnodes = (uint32_t)(size / sizeof *a->nodes);
    TRY(ix_section(f, ANNOY_TAG_ROOT, a->ntrees * sizeof *a->roots, &roots, &size, st));
    if (rows->metric == METRIC_L2) {
        TRY(ix_section(f, ANNOY_TAG_MIDDLE, rows->dim * sizeof *a->middle, &middle, &size, st));
        a->middle = middle;
    }
    a->trees = trees;
    a->nodes = nodes;
    a->roots = roots;
out:
    return rc;
}

static int annoy_open(const struct ix_file *file, const struct index_rows *rows,
                      const struct index_params *params, const struct index_source *src,
                      struct index **ret_ix, struct status *st)
{
    struct annoy *a = xalloc(sizeof *a);
    const void *blob, *codes;
    size_t size;
    int rc;
    (void)src;
    a->ntrees = params->n_trees;
    TRY(find_trees(a, file, rows, st));
    TRY(ix_section(file, ANNOY_TAG_CODEC, SIZE_MAX, &blob, &size, st));
    TRY(codec_open(blob, size, rows->metric, rows->type, rows->dim, &a->codec, st));
    a->codes_size = rows->nrows * codec_stride(a->codec);
    TRY(ix_section(file, ANNOY_TAG_CODES, a->codes_size, &codes, &size, st));
    a->codes = codes;
    *ret_ix = &TAKE(a)->head;
out:
    if (a) {
        annoy_free(&a->head);
    }
    return rc;
}

static void annoy_memory(const struct index *ix, struct index_memory *ret)
{
    struct annoy *a = CONTAINER_OF((struct index *)(uintptr_t)ix, struct annoy, head);
    ret->heap = sizeof *a + atomic_load_explicit(&a->scratch_bytes, memory_order_relaxed);
    ret->resident = a->trees_size + a->nnodes * sizeof *a->nodes + a->codes_size;
}

/* ---- Validation ---- */

static int check_leaf(const struct annoy *a, uint32_t i, uint64_t *seen, struct status *st)
{
    const struct annoy_node *n = &a->nodes[i];
    const uint32_t *places = (const uint32_t *)(const void *)a->trees;
    if (n->at > a->trees_size / 4 || n->count > a->trees_size / 4 - n->at) {
        return st_fail(st, ST_CORRUPT, "annoy: leaf %u lies outside of the trees", i);
    }
    for (uint32_t k = 0; k < n->count; k++) {
        const uint32_t row = places[n->at + k];
        if (row >= a->head.rows.nrows || (k > 0 && row <= places[n->at + k - 1]) ||
            bit_get(seen, row)) {
            return st_fail(st, ST_CORRUPT, "annoy: leaf %u: row %u out of range, order or twice",
                           i, row);
        }
        bit_set(seen, row);
    }
    return 0;
}

/* Nodes first .. end are one tree: breadth-first numbers mean that the k-th split's children are
 * the nodes 2k + 1 and 2k + 2. */
static int check_tree(const struct annoy *a, uint32_t first, uint32_t end, uint64_t *seen,
                      struct status *st)
{
    const uint32_t nrows = a->head.rows.nrows;
    const size_t normals = a->trees_size / annoy_stride(a->head.rows.dim);
    uint32_t next = first + 1;
    int rc = 0;
    bits_fill(seen, nrows, false);
    for (uint32_t i = first; i < end; i++) {
        const struct annoy_node *n = &a->nodes[i];
        if (n->child == 0) {
            TRY(check_leaf(a, i, seen, st));
            continue;
        }
        if (n->child != next || end - next < 2 || n->child <= i) {
            FAIL(st, ST_CORRUPT, "annoy: children of node %u are not where they should be", i);
        }
        if (n->at >= normals || !(n->scale >= 0) || !isfinite(n->scale) || !isfinite(n->bias)) {
            FAIL(st, ST_CORRUPT, "annoy: node %u has no plane", i);
        }
        next += 2;
    }
    if (next != end || bits_count(seen, nrows) != nrows) {
        FAIL(st, ST_CORRUPT, "annoy: the tree of node %u holds %zu of %u rows", first,
             bits_count(seen, nrows), nrows);
    }
out:
    return rc;
}

static int annoy_validate(const struct index *ix, struct status *st)
{
    const struct annoy *a = CONTAINER_OF((struct index *)(uintptr_t)ix, struct annoy, head);
    uint64_t *seen = alloc_try(bits_words(ix->rows.nrows) * 8 + 8);
    int rc = 0;
    if (!seen) {
        FAIL(st, ST_NO_MEMORY, "no memory for the check of %u rows", ix->rows.nrows);
    }
    for (uint32_t t = 0; t < a->ntrees; t++) {
        const uint32_t first = a->roots[t], end = t + 1 < a->ntrees ? a->roots[t + 1] : a->nnodes;
        if ((t == 0 && first != 0) || first >= end || end > a->nnodes) {
            FAIL(st, ST_CORRUPT, "annoy: tree %u has nodes %u to %u", t, first, end);
        }
        TRY(check_tree(a, first, end, seen, st));
    }
out:
    mem_free(seen);
    return rc;
}

const struct index_ops annoy_ops = {
    .type = INDEX_ANNOY,
    .metrics = METRICS_DENSE,
    .types = TYPES_DENSE,
    .build = annoy__build,
    .open = annoy_open,
    .search = annoy__search,
    .validate = annoy_validate,
    .memory = annoy_memory,
    .free = annoy_free,
};
