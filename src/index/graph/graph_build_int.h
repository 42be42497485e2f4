/* graph_build_int.h - shared by the files that build a graph index. */
#pragma once
#include "index/graph/graph_int.h"

struct graph_builder {
    const struct index_build *in;
    struct graph g;            /* walks run on it while it grows; views into what follows */
    struct codec *codec;       /* of walks and pruning while building */
    uint8_t *codes;            /* in node order */
    uint32_t *perm, *links, *cluster_first, *pivot_first, *pivot_node, *super_first;
    uint32_t *super_cluster;   /* nsupers: the cluster whose code stands for each */
    void *centroids;           /* in cluster order */
    uint8_t *routing;          /* codes of supers, clusters, pivots */
    float origin;              /* key + origin is a distance: 0 or little more between equal rows */
    bool is_distance;          /* no row is nearer to a row than itself */
    uint32_t ef;               /* of walks */
    uint32_t degree;           /* of the finished graph; g.degree has slack while it grows */
    float alpha;               /* above 1: more and longer links survive pruning */
    uint32_t *order, *rank;    /* node of each insertion; insertion of each node */
    uint32_t *node_cluster;    /* n */
    bool laid;                 /* perm is 0, 1, ...: in->plan was followed, no PERM is written */
    /* Of the batch in work. */
    uint32_t batch_first, batch_n;
    uint64_t *edges, *edges_tmp; /* target << 32 | source */
    size_t nedges;
    uint32_t *runs;            /* first edge of each target, and nedges */
    size_t nruns;
    _Atomic int rc;            /* first failure of a block; the others stop */
    struct status st;
};

/* graph_build.c: order, links and reachability in one, for DISKANN too. b holds `in` and zeros. */
int graph__make(struct graph_builder *b, uint32_t degree, uint32_t ef, float alpha,
                struct status *st);
void graph__builder_done(struct graph_builder *b);
/* graph_bits.c: the sections BCOD and BITS. */
int graph__bits_put(struct graph_builder *b, struct ixw *w, struct status *st);
/* The first part of that: perm, clusters and groups, without codes of all rows. */
int graph__arrange(struct graph_builder *b, struct status *st);
/* graph_order.c: clusters, node order and, where there is room for codes, these and routing. */
int graph__order(struct graph_builder *b, struct status *st);
/* pivot_first, from the sizes of clusters. */
int graph__count_pivots(struct graph_builder *b, struct status *st);
/* Copies of the codes that lead in. */
int graph__route(struct graph_builder *b, struct status *st);
/* graph_laid.c: the same as graph__order() from in->plan; b->laid stays false where there is none, or none
 * for this metric. */
int graph__order_laid(struct graph_builder *b, struct status *st);
/* Bytes of one centroid. */
size_t graph__centroid_bytes(const struct index_rows *rows);
/* graph_insert.c: links. */
int graph__insert_all(struct graph_builder *b, struct status *st);
/* graph_repair.c: every node is reachable from every entry's node; returns how many were not in
 * *ret_repaired. */
int graph__repair(struct graph_builder *b, uint32_t *ret_repaired, struct status *st);
/* A codec for the builder's rows. */
int graph__train(const struct graph_builder *b, const struct codec_spec *spec,
                 struct codec **ret_c, struct status *st);
/* graph_build_codec.c: the codec of spec for searches, NULL in *ret_own when it is the build's;
 * may_choose: 4-bit codes in place of 8-bit ones where they do. */
int graph__search_codec(struct graph_builder *b, const struct codec_spec *spec, bool may_choose,
                        struct codec **ret_own, struct graph_codes *ret, struct status *st);
/* Records the first failure of blocks that run in parallel; thread: any. */
void graph__fail(struct graph_builder *b, int rc, const struct status *st);
/* A seeded stream of 64-bit numbers. */
static inline uint64_t graph_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
