/*
 * annoy_build.c - growing the trees of a forest at once, and writing its file.
 *
 * Trees are independent: a wave of them grows on the threads there are and is written in order, so
 * bytes do not depend on who grew what, and no more than a wave is held in memory. Only the nodes
 * (16 bytes, about one per 17 rows and tree) are kept until the last tree is written.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/annoy/annoy_int.h"
#include "simd/simd.h"

#define WAVE 8
#define ENCODE_ROWS 1024

struct wave {
    struct annoy_grow *g;
    uint32_t first;
    struct annoy_tree trees[WAVE];
    struct status st[WAVE];
};

static void grow_one(void *ctx, size_t i)
{
    struct wave *wave = ctx;
    annoy__grow(wave->g, wave->first + (uint32_t)i, &wave->trees[i], &wave->st[i]);
}

/* The extra coordinate that gives all rows the length of the longest. */
static int make_lift(const struct index_rows *r, float **ret_lift, struct status *st)
{
    const struct simd_ops *ops = simd_ops();
    float *lift = alloc_try(r->nrows * sizeof *lift + 1), max = 0;
    if (!lift) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %u lengths", r->nrows);
    }
    ops->norm2[r->type].rows(NULL, r->base, r->stride, r->nrows, r->dim, lift);
    for (uint32_t i = 0; i < r->nrows; i++) {
        max = isfinite(lift[i]) ? fmaxf(max, lift[i]) : max;
    }
    for (uint32_t i = 0; i < r->nrows; i++) {
        lift[i] = lift[i] < max ? sqrtf(max - lift[i]) : 0;
    }
    *ret_lift = lift;
    return 0;
}

/* The mean of a few thousand rows spread evenly; rows with a value that is no number do not
 * count. */
static int make_middle(const struct index_rows *r, float **ret_middle, struct status *st)
{
    float *x = alloc_try(2 * r->dim * sizeof *x), *middle = x + r->dim;
    double *sum = alloc_try_zero(r->dim * sizeof *sum), n = 0;
    const uint32_t step = r->nrows / 4096 + 1;
    int rc = 0;
    if (!x || !sum) {
        FAIL(st, ST_NO_MEMORY, "no memory for a mean of dimension %zu", r->dim);
    }
    for (uint32_t i = 0; i < r->nrows; i += step) {
        float norm2;
        index_rows_f32(r, NULL, i, 1, false, x);
        simd_ops()->norm2[SIMD_F32].rows(NULL, x, 0, 1, r->dim, &norm2);
        if (isfinite(norm2)) {
            n++;
            for (size_t k = 0; k < r->dim; k++) {
                sum[k] += (double)x[k];
            }
        }
    }
    for (size_t k = 0; k < r->dim; k++) {
        middle[k] = n > 0 ? (float)(sum[k] / n) : 0;
    }
    memmove(x, middle, r->dim * sizeof *x);
    *ret_middle = TAKE(x);
out:
    mem_free(x);
    mem_free(sum);
    return rc;
}

/* Everything a build holds. */
struct forest {
    const struct index_build *b;
    struct ixw *w;
    struct annoy_node *nodes;
    uint32_t *roots;
    size_t nnodes, nodes_cap;
    uint64_t written; /* bytes of the section so far */
};

/* Appends the tree's nodes to the forest's, numbers now counting from the section's start. */
static int take_nodes(struct forest *f, const struct annoy_tree *t, struct status *st)
{
    const size_t stride = annoy_stride(f->b->rows->dim);
    const uint64_t normal0 = f->written / stride;
    const uint64_t row0 = f->written / 4 + t->nsplits * (stride / 4);
    const size_t node0 = f->nnodes;
    int rc = 0;
    if (row0 + f->b->rows->nrows > UINT32_MAX || node0 + t->nnodes > UINT32_MAX) {
        FAIL(st, ST_INVALID, "n_trees %u is too large for %u rows", f->b->params->n_trees,
             f->b->rows->nrows);
    }
    if (node0 + t->nnodes > f->nodes_cap) {
        size_t cap = (node0 + t->nnodes) * 3 / 2;
        struct annoy_node *nodes = realloc_try(f->nodes, cap * sizeof *nodes);
        if (!nodes) {
            FAIL(st, ST_NO_MEMORY, "no memory for %zu nodes", cap);
        }
        f->nodes = nodes;
        f->nodes_cap = cap;
    }
    f->roots[t->number] = (uint32_t)node0;
    for (uint32_t i = 0; i < t->nnodes; i++) {
        struct annoy_node n = t->nodes[i];
        n.at += (uint32_t)(n.child ? normal0 : row0);
        n.child += n.child ? (uint32_t)node0 : 0;
        f->nodes[f->nnodes++] = n;
    }
out:
    return rc;
}

static int write_tree(struct forest *f, const struct annoy_tree *t, struct status *st)
{
    static const uint8_t zeros[INDEX_DIM_MAX];
    const size_t stride = annoy_stride(f->b->rows->dim);
    const size_t normals = t->nsplits * stride, rows = f->b->rows->nrows * sizeof(uint32_t);
    const size_t pad = ROUND_UP(rows, stride) - rows;
    int rc;
    TRY(take_nodes(f, t, st));
    TRY(ixw_put(f->w, t->normals, normals, st));
    TRY(ixw_put(f->w, t->rows, rows, st));
    TRY(ixw_put(f->w, zeros, pad, st));
    f->written += normals + rows + pad;
out:
    return rc;
}

static int write_trees(struct forest *f, struct annoy_grow *g, struct status *st)
{
    const struct index_build *b = f->b;
    const uint32_t n_trees = b->params->n_trees;
    struct wave wave = { .g = g };
    int rc;
    TRY(ixw_begin(f->w, ANNOY_TAG_TREE, st));
    for (; wave.first < n_trees; wave.first += WAVE) {
        uint32_t n = MIN(n_trees - wave.first, (uint32_t)WAVE);
        parallel_for(b->pool, n, grow_one, &wave);
        for (uint32_t i = 0; i < n; i++) {
            if (wave.st[i].code) {
                *st = wave.st[i];
                rc = st->code;
                goto out;
            }
        }
        for (uint32_t i = 0; i < n; i++) {
            TRY(write_tree(f, &wave.trees[i], st));
            annoy__tree_done(&wave.trees[i]);
        }
        if (b->progress) {
            b->progress(b->progress_arg, 0.95 * (wave.first + n) / n_trees);
        }
    }
    TRY(ixw_end(f->w, st));
out:
    for (uint32_t i = 0; i < WAVE; i++) {
        annoy__tree_done(&wave.trees[i]);
    }
    return rc;
}

static int write_codes(const struct index_build *b, struct ixw *w, struct status *st)
{
    const struct index_rows *r = b->rows;
    struct codec_spec spec = { .kind = r->type == VEC_I8 ? CODEC_I8 : CODEC_SQ8,
                               .seed = b->params->seed };
    struct codec *codec = NULL;
    uint8_t *codes = NULL;
    const void *blob;
    size_t size;
    int rc;
    TRY(codec_train(&spec, r, b->pool, b->check, b->check_arg, &codec, st));
    blob = codec_blob(codec, &size);
    TRY(ixw_section(w, ANNOY_TAG_CODEC, blob, size, st));
    codes = alloc_try(ENCODE_ROWS * codec_stride(codec));
    if (!codes) {
        FAIL(st, ST_NO_MEMORY, "no memory for the codes of %d rows", ENCODE_ROWS);
    }
    TRY(ixw_begin(w, ANNOY_TAG_CODES, st));
    for (uint32_t at = 0; at < r->nrows; at += ENCODE_ROWS) {
        uint32_t n = MIN(r->nrows - at, (uint32_t)ENCODE_ROWS);
        codec_encode(codec, index_row(r, at), r->stride, n, codes);
        TRY(ixw_put(w, codes, n * codec_stride(codec), st));
        if (b->check) {
            TRY(b->check(b->check_arg, st));
        }
    }
    TRY(ixw_end(w, st));
out:
    mem_free(codes);
    codec_free(codec);
    return rc;
}

int annoy__build(const struct index_build *b, struct ixw *w, struct status *st)
{
    struct forest f = { .b = b, .w = w };
    struct annoy_grow g = { .build = b };
    float *lift = NULL, *middle = NULL;
    int rc;
    f.roots = alloc_try(b->params->n_trees * sizeof *f.roots);
    if (!f.roots) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u trees", b->params->n_trees);
    }
    if (b->rows->metric == METRIC_IP) {
        TRY(make_lift(b->rows, &lift, st));
        g.lift = lift;
    }
    if (b->rows->metric == METRIC_L2) {
        TRY(make_middle(b->rows, &middle, st));
        g.middle = middle;
    }
    TRY(write_trees(&f, &g, st));
    TRY(ixw_section(w, ANNOY_TAG_NODE, f.nodes, f.nnodes * sizeof *f.nodes, st));
    TRY(ixw_section(w, ANNOY_TAG_ROOT, f.roots, b->params->n_trees * sizeof *f.roots, st));
    if (middle) {
        TRY(ixw_section(w, ANNOY_TAG_MIDDLE, middle, b->rows->dim * sizeof *middle, st));
    }
    TRY(write_codes(b, w, st));
out:
    mem_free(lift);
    mem_free(middle);
    mem_free(f.nodes);
    mem_free(f.roots);
    return rc;
}
