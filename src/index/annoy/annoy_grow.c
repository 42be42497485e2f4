/*
 * annoy_grow.c - growing one random projection tree.
 *
 * WHAT        The tree of Spotify's annoy. A node with more than LEAF_ROWS rows is split: a small
 *             sample of its rows is clustered by an online 2-means, and the split is the
 *             hyperplane half way between the two centroids. Nodes are split in breadth-first
 *             order, so that the tops of the trees, which every search walks, lie together.
 * METRICS     L2: the bisector, with a bias. COSINE: centroids of normalised rows, a plane through
 *             the origin; a row's side does not depend on its length, so rows are not normalised
 *             to be sorted. IP: rows are lifted onto a sphere by one more coordinate,
 *             sqrt(max |x|^2 - |x|^2) (Bachrach et al., "Speeding up the Xbox recommender system
 *             using a Euclidean transformation for inner-product spaces"), and treated as under
 *             COSINE. A query's extra coordinate is 0, so the normal's is needed here only.
 * ROUNDING    Normals are kept in int8 and rows are sorted by the rounded normal: what a search
 *             computes for a row is what put the row where it is, up to the rounding of the query.
 * DETERMINISM Every random number is a hash of (seed, tree, node, counter).
 * MEMORY      Per tree 8 bytes a row, the nodes, and a sample.
 */
#include "index/annoy/annoy_int.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "simd/simd.h"

/* Largest leaf. Smaller leaves make a candidate of a search better and dearer to find: measured in
 * README.md. */
#define LEAF_ROWS 48
/* Rows looked at by a 2-means. */
#define SAMPLE_ROWS 128
/* A split that leaves less than this share of its rows on one side is tried again. */
#define SMALL_SIDE 0.05
#define TRIES 3
#define MARGIN_BATCH 128

struct range {
    uint32_t first, n;
};

struct grower {
    const struct annoy_grow *g;
    const struct index_rows *rows;
    const struct simd_ops *ops;
    struct annoy_tree *tree;
    size_t dim, lifted; /* lifted: with the extra coordinate */
    struct range *ranges; /* of every node so far */
    uint32_t nodes_cap, normals_cap;
    uint32_t *spill;  /* the right side of a split under way */
    uint64_t *sides;  /* a bit per row of it */
    float *sample, *centroids, *normal, *wide;
    uint64_t seed;
    uint64_t draws;
};

/* SplitMix64: a bijection that scatters. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint32_t draw(struct grower *w, uint32_t below)
{
    return (uint32_t)(((mix(w->seed + w->draws++) >> 32) * below) >> 32);
}

/* ---- The hyperplane ---- */

/* n rows of a node into the sample: all of a small node, else drawn with replacement. */
static uint32_t take_sample(struct grower *w, const uint32_t *ids, uint32_t n)
{
    const struct annoy_grow *g = w->g;
    uint32_t take = MIN(n, (uint32_t)SAMPLE_ROWS);
    for (uint32_t i = 0; i < take; i++) {
        uint32_t id = ids[n <= SAMPLE_ROWS ? i : draw(w, n)];
        float *x = w->sample + i * w->lifted;
        w->ops->widen[w->rows->type](index_row(w->rows, id), 0, 1, w->dim, x);
        if (g->lift) {
            x[w->dim] = g->lift[id];
        }
        if (w->rows->metric != METRIC_L2) {
            float norm2, scale;
            w->ops->norm2[SIMD_F32].rows(NULL, x, 0, 1, w->lifted, &norm2);
            scale = norm2 > 0 ? 1.0f / sqrtf(norm2) : 0;
            for (size_t k = 0; k < w->lifted; k++) {
                x[k] *= scale;
            }
        }
    }
    return take;
}

/* Online 2-means: each sampled row, in random order, pulls the nearer centroid towards itself. The
 * distance to a centroid is multiplied by the number of rows it has, which keeps the two sides of
 * a size. */
static void two_means(struct grower *w, uint32_t n)
{
    const bool flat_space = w->rows->metric == METRIC_L2;
    const struct simd_dist kernel = flat_space ? w->ops->l2[SIMD_F32] : w->ops->cos[SIMD_F32];
    const size_t bytes = w->lifted * sizeof(float);
    float *centroid[2] = { w->centroids, w->centroids + w->lifted };
    float count[2] = { 1, 1 };
    uint32_t a = draw(w, n), b = draw(w, n - 1);
    memcpy(centroid[0], w->sample + a * w->lifted, bytes);
    memcpy(centroid[1], w->sample + (b + (b >= a)) * w->lifted, bytes);
    for (uint32_t i = 0; i < SAMPLE_ROWS; i++) {
        const float *x = w->sample + (n < SAMPLE_ROWS ? draw(w, n) : i) * w->lifted;
        float d[2];
        kernel.rows(x, w->centroids, bytes, 2, w->lifted, d);
        if (!flat_space) {
            d[0] = 1 - d[0];
            d[1] = 1 - d[1];
        }
        if (!(d[0] * count[0] != d[1] * count[1])) {
            continue; /* a tie says nothing, nor does a NaN */
        }
        int near = d[0] * count[0] > d[1] * count[1];
        float *c = centroid[near], step = 1 / (count[near] + 1);
        for (size_t k = 0; k < w->lifted; k++) {
            c[k] += (x[k] - c[k]) * step;
        }
        count[near] += 1;
    }
}

/* The plane between the centroids, rounded: node's scale and bias, the int8 normal, and in
 * w->normal what it stands for. Under IP the last element is the extra coordinate's, not rounded.
 * False: the centroids are the same or not finite. */
static bool make_plane(struct grower *w, struct annoy_node *node, int8_t *ret_normal)
{
    float *v = w->normal, norm2, top = 0;
    for (size_t k = 0; k < w->lifted; k++) {
        v[k] = w->centroids[w->lifted + k] - w->centroids[k];
    }
    w->ops->norm2[SIMD_F32].rows(NULL, v, 0, 1, w->lifted, &norm2);
    if (!(norm2 > 0) || !isfinite(norm2)) {
        return false;
    }
    float unit = 1 / sqrtf(norm2);
    for (size_t k = 0; k < w->lifted; k++) {
        v[k] *= unit;
        top = k < w->dim ? fmaxf(top, fabsf(v[k])) : top;
    }
    if (!(top > 0) || !isfinite(unit)) {
        return false;
    }
    node->scale = top / 127;
    node->bias = 0;
    for (size_t k = 0; k < w->dim; k++) {
        ret_normal[k] = (int8_t)lrintf(v[k] / node->scale);
        v[k] = (float)ret_normal[k] * node->scale;
    }
    if (w->rows->metric == METRIC_L2) {
        double middle = 0;
        for (size_t k = 0; k < w->dim; k++) {
            middle += (double)v[k] * ((double)w->centroids[k] + (double)w->centroids[w->dim + k]);
        }
        node->bias = (float)(-middle / 2);
    }
    return isfinite(node->bias);
}

static void margins(struct grower *w, const uint32_t *ids, size_t n, float bias, float *out)
{
    const struct index_rows *r = w->rows;
    if (r->type == VEC_F32) {
        w->ops->ip[SIMD_F32].ids(w->normal, r->base, r->stride, ids, n, w->dim, out);
    } else {
        index_rows_f32(r, ids, 0, n, false, w->wide);
        w->ops->ip[SIMD_F32].rows(w->normal, w->wide, w->dim * sizeof(float), n, w->dim, out);
    }
    for (size_t i = 0; i < n; i++) {
        out[i] += bias + (w->g->lift ? w->normal[w->dim] * w->g->lift[ids[i]] : 0);
    }
}

/* Finds the side of every row: bit set = right. Rows in the plane, or whose margin is no number, go
 * by lot. Returns how many are left. */
static uint32_t find_sides(struct grower *w, const uint32_t *ids, uint32_t n, float bias)
{
    uint32_t right = 0;
    float m[MARGIN_BATCH];
    for (uint32_t at = 0; at < n; at += MARGIN_BATCH) {
        uint32_t part = MIN(n - at, (uint32_t)MARGIN_BATCH);
        margins(w, ids + at, part, bias, m);
        for (uint32_t i = 0; i < part; i += 64) {
            uint64_t word = 0;
            for (uint32_t k = i; k < MIN(part, i + 64); k++) {
                bool goes_right = m[k] > 0 || (!(m[k] < 0) && draw(w, 2));
                word |= (uint64_t)goes_right << (k - i);
            }
            w->sides[(at + i) / 64] = word;
            right += (uint32_t)__builtin_popcountll(word);
        }
    }
    return n - right;
}

/* Moves the rows of the right side behind the others; both keep their order. */
static void part_sides(struct grower *w, uint32_t *ids, uint32_t n)
{
    uint32_t left = 0, right = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool goes_right = bit_get(w->sides, i);
        uint32_t id = ids[i];
        ids[left] = w->spill[right] = id;
        left += !goes_right;
        right += goes_right;
    }
    memcpy(ids + left, w->spill, right * sizeof *ids);
}

/* ---- The tree ---- */

static int reserve(struct grower *w, struct status *st)
{
    struct annoy_tree *t = w->tree;
    const size_t stride = annoy_stride(w->dim);
    if (t->nnodes + 2 > w->nodes_cap) {
        uint32_t cap = w->nodes_cap + w->nodes_cap / 2 + 64;
        struct annoy_node *nodes = realloc_try(t->nodes, cap * sizeof *nodes);
        if (nodes) {
            t->nodes = nodes;
        }
        struct range *ranges = nodes ? realloc_try(w->ranges, cap * sizeof *ranges) : NULL;
        if (!ranges) {
            return st_fail(st, ST_NO_MEMORY, "no memory for %u nodes of a tree", cap);
        }
        w->ranges = ranges;
        w->nodes_cap = cap;
    }
    if (t->nsplits + 1 > w->normals_cap) {
        uint32_t cap = w->normals_cap + w->normals_cap / 2 + 32;
        int8_t *normals = realloc_try(t->normals, cap * stride);
        if (!normals) {
            return st_fail(st, ST_NO_MEMORY, "no memory for %u splits of a tree", cap);
        }
        t->normals = normals;
        w->normals_cap = cap;
    }
    return 0;
}

/* The query comes less the middle, so that int8 is fine enough for rows far from the origin. */
static float bias_about_middle(const struct grower *w, const struct annoy_node *node)
{
    double bias = node->bias;
    for (size_t k = 0; w->g->middle && node->scale > 0 && k < w->dim; k++) {
        bias += (double)w->normal[k] * (double)w->g->middle[k];
    }
    return (float)bias;
}

/* Splits node i in two new nodes at the end. */
static void split(struct grower *w, uint32_t i)
{
    struct annoy_tree *t = w->tree;
    const struct range r = w->ranges[i];
    uint32_t *ids = t->rows + r.first, left = 0;
    struct annoy_node node = { .child = t->nnodes, .at = t->nsplits };
    int8_t *normal = t->normals + t->nsplits * annoy_stride(w->dim);
    memset(normal, 0, annoy_stride(w->dim));
    w->seed = mix(mix(w->g->build->params->seed ^ mix(t->number)) + i);
    w->draws = 0;
    for (int try = 0; try < TRIES; try++) {
        two_means(w, take_sample(w, ids, r.n));
        left = make_plane(w, &node, normal) ? find_sides(w, ids, r.n, node.bias) : 0;
        if (MIN(left, r.n - left) >= SMALL_SIDE * r.n) {
            break;
        }
    }
    if (left == 0 || left == r.n) { /* the same row over and over: any half is as good */
        memset(normal, 0, annoy_stride(w->dim));
        node.scale = node.bias = 0;
        left = r.n / 2;
    } else {
        part_sides(w, ids, r.n);
    }
    node.bias = bias_about_middle(w, &node);
    t->nodes[i] = node;
    w->ranges[t->nnodes++] = (struct range){ r.first, left };
    w->ranges[t->nnodes++] = (struct range){ r.first + left, r.n - left };
    t->nsplits++;
}

static int grow(struct grower *w, struct status *st)
{
    const struct index_build *b = w->g->build;
    struct annoy_tree *t = w->tree;
    uint64_t work = 0;
    int rc = 0;
    TRY(reserve(w, st));
    w->ranges[t->nnodes++] = (struct range){ 0, w->rows->nrows };
    for (uint32_t i = 0; i < t->nnodes; i++) {
        const struct range r = w->ranges[i];
        if (r.n <= LEAF_ROWS) {
            t->nodes[i] = (struct annoy_node){ .at = r.first, .count = r.n };
            continue;
        }
        TRY(reserve(w, st));
        split(w, i);
        work += r.n + SAMPLE_ROWS;
        if (work > 16384 && b->check) {
            work = 0;
            TRY(b->check(b->check_arg, st));
        }
    }
out:
    return rc;
}

int annoy__grow(const struct annoy_grow *g, uint32_t number, struct annoy_tree *ret,
                struct status *st)
{
    const struct index_rows *rows = g->build->rows;
    struct annoy_tree t = { .number = number };
    const size_t lifted = rows->dim + (g->lift != NULL);
    struct grower w = { .g = g,
                        .rows = rows,
                        .ops = simd_ops(),
                        .tree = &t,
                        .dim = rows->dim,
                        .lifted = lifted };
    float *floats = alloc_try(((SAMPLE_ROWS + 3) * lifted + MARGIN_BATCH * rows->dim) * 4);
    int rc;
    t.rows = alloc_try(rows->nrows * sizeof *t.rows + 1);
    w.spill = alloc_try(rows->nrows * sizeof *w.spill + 1);
    w.sides = alloc_try(bits_words(rows->nrows) * sizeof *w.sides + 1);
    if (!floats || !t.rows || !w.spill || !w.sides) {
        FAIL(st, ST_NO_MEMORY, "no memory for a tree over %u rows", rows->nrows);
    }
    w.sample = floats;
    w.centroids = w.sample + SAMPLE_ROWS * lifted;
    w.normal = w.centroids + 2 * lifted;
    w.wide = w.normal + lifted;
    for (uint32_t i = 0; i < rows->nrows; i++) {
        t.rows[i] = i;
    }
    TRY(grow(&w, st));
    *ret = t;
    t = (struct annoy_tree){ 0 };
out:
    mem_free(floats);
    mem_free(w.spill);
    mem_free(w.sides);
    mem_free(w.ranges);
    annoy__tree_done(&t);
    return rc;
}

void annoy__tree_done(struct annoy_tree *t)
{
    mem_free(t->nodes);
    mem_free(t->normals);
    mem_free(t->rows);
    *t = (struct annoy_tree){ 0 };
}
