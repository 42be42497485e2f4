/*
 * annoy_int.h - a forest of random projection trees: its nodes and its file.
 *
 * TREES       A node is a split or a leaf. A split is a hyperplane: rows with margin
 *             normal . (x - middle) + bias > 0 belong to its right child, the others to its left
 *             one. A leaf is a list of rows. Every row is in one leaf of every tree.
 * FORMAT      Sections, numbers little-endian:
 *               "TREE"  per tree: the normals of its splits (int8, annoy_stride() bytes each,
 *                       padding zero), then the rows of its leaves (u32), then zeros up to a
 *                       multiple of the stride. So a normal has one number and a row's place one
 *                       index in the whole forest, both counted from the section's start.
 *               "NODE"  struct annoy_node, tree after tree, each in breadth-first order
 *               "ROOT"  u32 per tree: its first node
 *               "MIDL"  L2: f32 per dimension, the mean of the rows; biases are about it
 *               "CODC"  the codec of the rows (quant/codec.h)
 *               "CODE"  their codes, codec_stride() bytes each, in row order
 * INVARIANTS  A split's children are neighbours and have larger numbers than it, within the same
 *             tree; leaf rows ascend; each tree's leaves hold every row once. annoy_validate()
 *             checks each of these; a search relies on none but checks what it follows.
 */
#pragma once
#include "index/ann_int.h"
#include "index/quant/codec.h"

#define ANNOY_TAG_TREE IX_TAG('T', 'R', 'E', 'E')
#define ANNOY_TAG_NODE IX_TAG('N', 'O', 'D', 'E')
#define ANNOY_TAG_ROOT IX_TAG('R', 'O', 'O', 'T')
#define ANNOY_TAG_MIDDLE IX_TAG('M', 'I', 'D', 'L')
#define ANNOY_TAG_CODEC IX_TAG('C', 'O', 'D', 'C')
#define ANNOY_TAG_CODES IX_TAG('C', 'O', 'D', 'E')

struct annoy_node {
    uint32_t child; /* split: its left child, the right one is the next node; leaf: 0 */
    uint32_t at;    /* split: number of the normal; leaf: index of the first row */
    union {
        float scale;    /* split: of the normal; 0: it has no direction, rows were halved */
        uint32_t count; /* leaf: rows */
    };
    float bias; /* split */
};
_Static_assert(sizeof(struct annoy_node) == 16, "no padding");

/* Bytes from normal to normal: short ones share a line, long ones begin one. */
static inline size_t annoy_stride(size_t dim)
{
    return dim <= 16 ? 16 : dim <= 32 ? 32 : ROUND_UP(dim, (size_t)CACHE_LINE);
}

struct annoy {
    struct index head;
    const uint8_t *trees; /* normals and rows */
    size_t trees_size;
    const struct annoy_node *nodes;
    uint32_t nnodes;
    const uint32_t *roots;
    uint32_t ntrees;
    const float *middle; /* NULL: zero */
    struct codec *codec;
    const uint8_t *codes;
    size_t codes_size;
    struct scratch_pool scratch;
    _Atomic size_t scratch_bytes;
};

int annoy__build(const struct index_build *b, struct ixw *w, struct status *st);
int annoy__search(const struct index *ix, const struct index_query *q, struct topk *tk,
                  struct index_counters *c, struct status *st);
struct annoy_scratch;
void annoy__scratch_free(struct annoy_scratch *s);

/* One tree while it is built. */
struct annoy_tree {
    uint32_t number;
    struct annoy_node *nodes; /* `at` counts within the tree */
    int8_t *normals;
    uint32_t *rows; /* leaf after leaf */
    uint32_t nnodes, nsplits;
};
/* What the trees of one build share. */
struct annoy_grow {
    const struct index_build *build;
    const float *lift;   /* IP: the extra coordinate of each row; NULL: none */
    const float *middle; /* L2: the mean of the rows; NULL: zero */
};
/* Grows tree number `number` over all rows. Thread: any. */
int annoy__grow(const struct annoy_grow *g, uint32_t number, struct annoy_tree *ret,
                struct status *st);
void annoy__tree_done(struct annoy_tree *t);
