/*
 * graph_order.c - the order of a graph's nodes, its clusters and the routing codes.
 *
 * WHAT        K-means gives clusters of about GRAPH_CLUSTER_ROWS rows; their centroids are clustered
 *             again into about the square root of their number of supers. Supers, and clusters
 *             inside them, follow each other by nearness. Inside a cluster, pivots are drawn, one
 *             per GRAPH_GROUP_ROWS rows, every row goes to the nearest, and groups follow each
 *             other by nearness of pivots. The first pivot of a cluster is the row nearest to its
 *             centroid: its code stands for the cluster on the way in.
 * INVARIANTS  Every row has one node. No cluster and no group is empty. Depends on rows, seed and
 *             parameters only: clusters are worked on independently, each with draws of its own.
 * THREADS     Clusters run in parallel.
 * MEMORY      Beside the result: 12 bytes a row, and per thread the codes of a piece.
 * WHY         Pieces of at most PIECE_ROWS bound the work where rows are equal by the thousand and
 *             a cluster is large.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/graph/graph_build_int.h"
#include "index/kmeans.h"
#include "simd/simd.h"

#define PIECE_ROWS 4096u
#define PIECE_PIVOTS (PIECE_ROWS / GRAPH_GROUP_ROWS)

size_t graph__centroid_bytes(const struct index_rows *rows)
{
    return rows->type == VEC_BIN ? rows->dim / 8 : rows->dim * sizeof(float);
}

/* Rows that are centroids of others. */
static struct index_rows centroid_rows(const struct index_rows *rows, const void *centroids,
                                       uint32_t n)
{
    return (struct index_rows){ .metric = rows->metric,
                                .type = rows->type == VEC_BIN ? VEC_BIN : VEC_F32,
                                .dim = rows->dim,
                                .base = centroids,
                                .stride = graph__centroid_bytes(rows),
                                .nrows = n };
}

/* Distances between centroids, and of f32 rows to one. */
static simd_rows_fn *centroid_kernel(const struct index_rows *rows)
{
    return rows->type == VEC_BIN ? simd_ops()->hamming.rows : simd_ops()->l2[SIMD_F32].rows;
}

static int cluster(struct graph_builder *b, const struct index_rows *rows, uint32_t nlist,
                   void *centroids, uint32_t *list, struct status *st)
{
    struct kmeans_opts o = { .nlist = nlist,
                             .rounds = 8,
                             .sample_per_list = 100,
                             .balance = true,
                             .seed = b->in->params->seed,
                             .pool = b->in->pool,
                             .check = b->in->check,
                             .check_arg = b->in->check_arg };
    int rc = kmeans_train(rows, &o, centroids, st);
    return rc != 0 ? rc : kmeans_assign(rows, centroids, &o, list, st);
}

/* Orders some of the vectors at base by nearness, starting at the one nearest to from: picks holds
 * their numbers and is permuted. keys has room for all vectors. */
static void chain(const struct index_rows *rows, const uint8_t *base, size_t nall, const void *from,
                  uint32_t *picks, uint32_t npicks, float *keys)
{
    const size_t bytes = graph__centroid_bytes(rows);
    simd_rows_fn *kernel = centroid_kernel(rows);
    for (uint32_t at = 0; at < npicks; at++) {
        uint32_t best = at;
        kernel(from, base, bytes, nall, rows->dim, keys);
        for (uint32_t i = at + 1; i < npicks; i++) {
            if (keys[picks[i]] < keys[picks[best]]) {
                best = i;
            }
        }
        uint32_t p = picks[best];
        picks[best] = picks[at];
        picks[at] = p;
        from = base + p * bytes;
    }
}

/* Clusters that are not empty, supers over them, and both in order: fills cluster_first,
 * super_first, super_cluster, centroids and, per old cluster, its new number. */
struct layout {
    uint32_t nold;
    uint8_t *old; /* centroids as k-means gave them */
    uint32_t *count, *renumber;
};

static int order_clusters(struct graph_builder *b, struct layout *l, struct status *st)
{
    int rc = 0;
    const struct index_rows *rows = b->in->rows;
    const size_t bytes = graph__centroid_bytes(rows);
    uint32_t n = 0, nsupers, made = 0, at = 0, nodes = 0;
    uint8_t *super = NULL;
    uint32_t *super_of = NULL, *sorder = NULL, *members = NULL;
    float *keys = NULL;
    for (uint32_t i = 0; i < l->nold; i++) { /* empty ones leave */
        if (l->count[i]) {
            memmove(l->old + n * bytes, l->old + i * bytes, bytes);
            l->count[n] = l->count[i];
            l->renumber[i] = n++;
        }
    }
    nsupers = n < 16 ? 1 : (uint32_t)lrint(sqrt(n));
    super = alloc_try(nsupers * bytes);
    super_of = alloc_try_zero(n * sizeof *super_of);
    sorder = alloc_try(nsupers * sizeof *sorder);
    members = alloc_try(n * sizeof *members);
    keys = alloc_try(MAX(n, nsupers) * sizeof *keys);
    b->centroids = alloc_try(n * bytes);
    b->cluster_first = alloc_try((n + 1) * sizeof(uint32_t));
    b->super_first = alloc_try((nsupers + 1) * sizeof(uint32_t));
    b->super_cluster = alloc_try(nsupers * sizeof(uint32_t));
    if (!super || !super_of || !sorder || !members || !keys || !b->centroids ||
        !b->cluster_first || !b->super_first || !b->super_cluster) {
        FAIL(st, ST_NO_MEMORY, "no memory to order %u clusters", n);
    }
    struct index_rows crows = centroid_rows(rows, l->old, n);
    TRY(cluster(b, &crows, nsupers, super, super_of, st));
    for (uint32_t s = 0; s < nsupers; s++) {
        sorder[s] = s;
    }
    chain(rows, super, nsupers, super, sorder, nsupers, keys);
    const void *from = l->old;
    for (uint32_t s = 0; s < nsupers; s++) {
        uint32_t m = 0;
        for (uint32_t i = 0; i < n; i++) {
            if (super_of[i] == sorder[s]) {
                members[at + m++] = i;
            }
        }
        if (m == 0) {
            continue;
        }
        chain(rows, l->old, n, from, members + at, m, keys);
        centroid_kernel(rows)(super + sorder[s] * bytes, l->old, bytes, n, rows->dim, keys);
        b->super_first[made] = at;
        b->super_cluster[made] = at;
        for (uint32_t i = at; i < at + m; i++) {
            if (keys[members[i]] < keys[members[b->super_cluster[made]]]) {
                b->super_cluster[made] = i;
            }
        }
        at += m;
        made++;
        from = l->old + members[at - 1] * bytes;
    }
    b->super_first[made] = n;
    b->g.nsupers = made;
    b->g.nclusters = n;
    for (uint32_t i = 0; i < n; i++) {
        memcpy((uint8_t *)b->centroids + i * bytes, l->old + members[i] * bytes, bytes);
        b->cluster_first[i] = nodes;
        nodes += l->count[members[i]];
        super_of[members[i]] = i; /* new number of each old one */
    }
    b->cluster_first[n] = nodes;
    for (uint32_t i = 0; i < l->nold; i++) {
        l->renumber[i] = l->renumber[i] == GRAPH_NONE ? GRAPH_NONE : super_of[l->renumber[i]];
    }
out:
    mem_free(super);
    mem_free(super_of);
    mem_free(sorder);
    mem_free(members);
    mem_free(keys);
    return rc;
}

/* Fills perm with the rows of each cluster in row order, and the clusters' own tables. */
static int make_clusters(struct graph_builder *b, struct status *st)
{
    int rc = 0;
    const struct index_rows *rows = b->in->rows;
    const uint32_t n = rows->nrows, nlist = MAX(n / GRAPH_CLUSTER_ROWS, 1u);
    struct layout l = { .nold = nlist };
    uint32_t *list = alloc_try(n * sizeof *list), *next = NULL;
    l.old = alloc_try(nlist * graph__centroid_bytes(rows));
    l.count = alloc_try_zero(nlist * sizeof *l.count);
    l.renumber = alloc_try(nlist * sizeof *l.renumber);
    if (!list || !l.old || !l.count || !l.renumber) {
        FAIL(st, ST_NO_MEMORY, "no memory to cluster %u rows", n);
    }
    TRY(cluster(b, rows, nlist, l.old, list, st));
    for (uint32_t i = 0; i < n; i++) {
        l.count[list[i]]++;
    }
    memset(l.renumber, 0xff, nlist * sizeof *l.renumber);
    TRY(order_clusters(b, &l, st));
    next = alloc_try(b->g.nclusters * sizeof *next);
    if (!next) {
        FAIL(st, ST_NO_MEMORY, "no memory to cluster %u rows", n);
    }
    memcpy(next, b->cluster_first, b->g.nclusters * sizeof *next);
    for (uint32_t i = 0; i < n; i++) {
        b->perm[next[l.renumber[list[i]]]++] = i;
    }
out:
    mem_free(list);
    mem_free(next);
    mem_free(l.old);
    mem_free(l.count);
    mem_free(l.renumber);
    return rc;
}

/* ---- Inside a cluster ---- */

static uint32_t pivots_of(uint32_t nrows)
{
    uint32_t full = nrows / PIECE_ROWS, rest = nrows % PIECE_ROWS;
    return full * PIECE_PIVOTS + (rest + GRAPH_GROUP_ROWS - 1) / GRAPH_GROUP_ROWS;
}

struct piece {
    uint8_t *codes;
    float *keys;     /* nearest so far */
    float *one;      /* of one pivot */
    float *between;  /* PIECE_PIVOTS squared: between pivots */
    uint32_t *rows, *pivot, *group;
    uint32_t place[PIECE_PIVOTS];
    uint64_t *sorted;
    void *pq;
    float *row;      /* a row widened */
};

static void piece_done(struct piece *p)
{
    mem_free(p->codes);
    mem_free(p->keys);
    mem_free(p->one);
    mem_free(p->between);
    mem_free(p->rows);
    mem_free(p->pivot);
    mem_free(p->group);
    mem_free(p->sorted);
    mem_free(p->pq);
    mem_free(p->row);
}

static bool piece_init(struct piece *p, const struct graph_builder *b, uint32_t n)
{
    *p = (struct piece){ .codes = alloc_try_zero(n * b->g.stride),
                         .keys = alloc_try(n * sizeof(float)),
                         .one = alloc_try(n * sizeof(float)),
                         .between = alloc_try(sizeof(float) * PIECE_PIVOTS * PIECE_PIVOTS),
                         .rows = alloc_try(n * sizeof(uint32_t)),
                         .pivot = alloc_try(n * sizeof(uint32_t)),
                         .group = alloc_try(n * sizeof(uint32_t)),
                         .sorted = alloc_try(n * sizeof(uint64_t)),
                         .pq = alloc_try_aligned(64, ROUND_UP(codec_query_bytes(b->codec), 64)),
                         .row = alloc_try(b->in->rows->dim * sizeof(float)) };
    return p->codes && p->keys && p->one && p->between && p->rows && p->pivot && p->group &&
           p->sorted && p->pq && p->row;
}

/* Place in rows[0 .. n) of the row nearest to centroid c. */
static uint32_t medoid(const struct graph_builder *b, struct piece *p, uint32_t n, uint32_t c)
{
    const struct index_rows *rows = b->in->rows;
    const uint8_t *centroid = (const uint8_t *)b->centroids + c * graph__centroid_bytes(rows);
    float best_key = INFINITY;
    uint32_t best = 0;
    for (uint32_t i = 0; i < n; i++) {
        float key;
        const void *row = p->row;
        if (rows->type == VEC_BIN) {
            row = index_row(rows, p->rows[i]);
        } else {
            index_rows_f32(rows, &p->rows[i], 0, 1, rows->metric == METRIC_COSINE, p->row);
        }
        centroid_kernel(rows)(centroid, row, 0, 1, rows->dim, &key);
        if (key < best_key) {
            best_key = key;
            best = i;
        }
    }
    return best;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* Groups in a chain of nearest pivots, from the first on: p->place becomes each group's. */
static void order_groups(struct piece *p, uint32_t np)
{
    memset(p->place, 0xff, sizeof p->place);
    p->place[0] = 0;
    for (uint32_t i = 1, from = 0; i < np; i++) {
        const float *key = p->between + from * PIECE_PIVOTS;
        uint32_t best = GRAPH_NONE;
        for (uint32_t k = 1; k < np; k++) {
            if (p->place[k] == GRAPH_NONE && (best == GRAPH_NONE || key[k] < key[best])) {
                best = k;
            }
        }
        p->place[best] = i;
        from = best;
    }
}

/* Orders one piece of a cluster: nodes first .. first + n hold its rows, pivots at pivot0. */
static void order_piece(struct graph_builder *b, struct piece *p, uint32_t c, uint32_t first,
                        uint32_t n, uint32_t pivot0)
{
    const struct index_rows *rows = b->in->rows;
    const size_t stride = b->g.stride;
    const uint32_t np = (n + GRAPH_GROUP_ROWS - 1) / GRAPH_GROUP_ROWS;
    uint64_t state = b->in->params->seed ^ ((uint64_t)first << 20);
    memcpy(p->rows, b->perm + first, n * sizeof *p->rows);
    for (uint32_t i = 0; i < n; i++) {
        codec_encode(b->codec, index_row(rows, p->rows[i]), rows->stride, 1, p->codes + i * stride);
        p->pivot[i] = i;
        p->keys[i] = INFINITY;
        p->group[i] = 0;
    }
    for (uint32_t i = 0; i < np; i++) { /* draws without repetition; the first is the medoid */
        uint32_t at = i == 0 ? medoid(b, p, n, c)
                             : i + (uint32_t)(graph_random(&state) % (n - i));
        uint32_t t = p->pivot[i];
        p->pivot[i] = p->pivot[at];
        p->pivot[at] = t;
    }
    for (uint32_t i = 0; i < np; i++) {
        codec_query_code(b->codec, p->codes + p->pivot[i] * stride, p->pq);
        codec_rows(b->codec, p->pq, p->codes, stride, n, p->one);
        for (uint32_t k = 0; k < n; k++) {
            if (p->one[k] < p->keys[k]) {
                p->keys[k] = p->one[k];
                p->group[k] = i;
            }
        }
        for (uint32_t k = 0; k < np; k++) {
            p->between[i * PIECE_PIVOTS + k] = p->one[p->pivot[k]];
        }
    }
    order_groups(p, np);
    for (uint32_t i = 0; i < np; i++) { /* a pivot leads its own group, whatever is equal to it */
        p->group[p->pivot[i]] = i;
        p->keys[p->pivot[i]] = -INFINITY;
    }
    for (uint32_t i = 0; i < n; i++) {
        p->sorted[i] = (uint64_t)p->place[p->group[i]] << 44 |
                       (uint64_t)graph_key_bits(p->keys[i]) << 12 | i;
    }
    qsort(p->sorted, n, sizeof *p->sorted, compare_u64);
    for (uint32_t i = 0, place = GRAPH_NONE; i < n; i++) {
        uint32_t from = (uint32_t)p->sorted[i] & (PIECE_ROWS - 1);
        b->perm[first + i] = p->rows[from];
        if (b->codes) {
            memcpy(b->codes + (first + i) * stride, p->codes + from * stride, stride);
        }
        if (p->place[p->group[from]] != place) {
            place = p->place[p->group[from]];
            b->pivot_node[pivot0 + place] = first + i;
        }
    }
}

static void order_cluster(void *ctx, size_t c)
{
    struct graph_builder *b = ctx;
    struct piece p = { 0 };
    struct status st = STATUS_INIT;
    uint32_t first = b->cluster_first[c], end = b->cluster_first[c + 1], n;
    uint32_t pivot0 = b->pivot_first[c];
    if (atomic_load_explicit(&b->rc, memory_order_relaxed) != 0) {
        return;
    }
    if (b->in->check && b->in->check(b->in->check_arg, &st) != 0) {
        graph__fail(b, st.code, &st);
        return;
    }
    if (!piece_init(&p, b, MIN(end - first, PIECE_ROWS))) {
        graph__fail(b, st_fail(&st, ST_NO_MEMORY, "no memory to order a cluster"), &st);
    } else {
        for (; first < end; first += n, pivot0 += pivots_of(n)) {
            n = MIN(end - first, PIECE_ROWS);
            order_piece(b, &p, (uint32_t)c, first, n, pivot0);
        }
        for (uint32_t i = b->cluster_first[c]; i < end; i++) {
            b->node_cluster[i] = (uint32_t)c;
        }
    }
    piece_done(&p);
}

int graph__route(struct graph_builder *b, struct status *st)
{
    const size_t stride = b->g.stride;
    const struct graph *g = &b->g;
    uint8_t *to = b->routing =
        alloc_try(((size_t)g->nsupers + g->nclusters + g->npivots) * stride);
    if (!to) {
        return st_fail(st, ST_NO_MEMORY, "no memory for the routing codes of %u clusters",
                       g->nclusters);
    }
    for (uint32_t i = 0; i < g->nsupers; i++, to += stride) {
        memcpy(to, b->codes + b->pivot_node[b->pivot_first[b->super_cluster[i]]] * stride, stride);
    }
    for (uint32_t i = 0; i < g->nclusters; i++, to += stride) {
        memcpy(to, b->codes + b->pivot_node[b->pivot_first[i]] * stride, stride);
    }
    for (uint32_t i = 0; i < g->npivots; i++, to += stride) {
        memcpy(to, b->codes + b->pivot_node[i] * stride, stride);
    }
    return 0;
}

int graph__count_pivots(struct graph_builder *b, struct status *st)
{
    const uint32_t nclusters = b->g.nclusters;
    b->pivot_first = alloc_try((nclusters + 1) * sizeof *b->pivot_first);
    if (!b->pivot_first) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %u clusters of %u rows", nclusters, b->g.n);
    }
    for (uint32_t c = 0, at = 0; c <= nclusters; c++) {
        b->pivot_first[c] = at;
        at += c < nclusters ? pivots_of(b->cluster_first[c + 1] - b->cluster_first[c]) : 0;
    }
    return 0;
}

int graph__order(struct graph_builder *b, struct status *st)
{
    int rc = 0;
    TRY(make_clusters(b, st));
    TRY(graph__count_pivots(b, st));
    const uint32_t nclusters = b->g.nclusters;
    b->node_cluster = alloc_try(b->g.n * sizeof *b->node_cluster);
    b->g.npivots = b->pivot_first[nclusters];
    b->pivot_node = alloc_try(b->g.npivots * sizeof *b->pivot_node);
    if (!b->node_cluster || !b->pivot_node) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u clusters of %u rows", nclusters, b->g.n);
    }
    parallel_for(b->in->pool, nclusters, order_cluster, b);
    rc = atomic_load(&b->rc);
    if (rc != 0) {
        *st = b->st;
        goto out;
    }
    if (b->codes) {
        TRY(graph__route(b, st));
    }
out:
    return rc;
}
