/*
 * graph_int.h - shared by the files of the graph index (HNSW, HNSW_SQ, HNSW_PQ, HNSW_PRQ) and, for
 * clusters and codes, by scan/.
 *
 * WORDS       node: position in the graph's own order; row: the caller's. perm[node] is the row.
 *             cluster: a run of nodes near one centroid. group: a run of about 32 nodes inside a
 *             cluster near its first node, the pivot. super: a run of clusters.
 * ORDER       Nodes are numbered so that near rows are near in memory: supers, in them clusters, in
 *             them groups, in them rows by distance to the pivot.
 * ENTRY       There are no upper layers: a search compares the query with one code per super, then
 *             per cluster of the best supers, then with the pivots of the best clusters, all of
 *             them contiguous, and starts from those (README.md has the figures).
 * SECTIONS    META  struct graph_meta
 *             CODC  the codec's blob
 *             CODE  n codes of meta.stride bytes, in node order
 *             PERM  u32 n; absent where rows lie in order (order.h): node i is row i
 *             LINK  n records of u32 degree links, unused slots at the end GRAPH_NONE
 *             CLUS  u32 nclusters + 1: first node of each cluster, and n
 *             CENT  nclusters centroids as kmeans.h gives them, rows of dim f32 or dim / 8 bytes
 *             PIVF  u32 nclusters + 1: first pivot of each cluster, and npivots
 *             PIVN  u32 npivots: node of each, ascending
 *             SUPF  u32 nsupers + 1: first cluster of each super, and nclusters
 *             BCOD, BITS  graph_bits.c; may be absent
 *             ROUT  codes: nsupers, then nclusters, then npivots; a cluster's is its first pivot's
 */
#pragma once
#include "index/ann_int.h"
#include "index/quant/codec.h"
#include "simd/simd.h"

#define GRAPH_NONE UINT32_MAX
#define GRAPH_CLUSTER_ROWS 1000u
#define GRAPH_GROUP_ROWS 32u
#define GRAPH_TEN_IN_MAX 64u
/* Bits for scans: fewer rows are in a cache anyway, shorter codes are few lines themselves. */
#define GRAPH_BITS_ROWS 4096u
#define GRAPH_BITS_DIM 64u

#define GRAPH_META IX_TAG('M', 'E', 'T', 'A')
#define GRAPH_CODC IX_TAG('C', 'O', 'D', 'C')
#define GRAPH_CODE IX_TAG('C', 'O', 'D', 'E')
#define GRAPH_PERM IX_TAG('P', 'E', 'R', 'M')
#define GRAPH_LINK IX_TAG('L', 'I', 'N', 'K')
#define GRAPH_CLUS IX_TAG('C', 'L', 'U', 'S')
#define GRAPH_CENT IX_TAG('C', 'E', 'N', 'T')
#define GRAPH_PIVF IX_TAG('P', 'I', 'V', 'F')
#define GRAPH_PIVN IX_TAG('P', 'I', 'V', 'N')
#define GRAPH_SUPF IX_TAG('S', 'U', 'P', 'F')
#define GRAPH_ROUT IX_TAG('R', 'O', 'U', 'T')
#define GRAPH_BCOD IX_TAG('B', 'C', 'O', 'D')
#define GRAPH_BITS IX_TAG('B', 'I', 'T', 'S')

struct graph_meta {
    uint32_t n, degree;
    uint32_t nclusters, npivots, nsupers;
    float off;       /* see struct graph_codes */
    uint32_t stride; /* of codes */
    uint32_t ten_in;
};

/* How well codes tell rows near a query from each other; zeros: not measured. */
struct graph_codes {
    float off;       /* what keys are off by, as a standard deviation */
    uint32_t ten_in; /* the ten best rows are among so many nearest codes */
};

struct graph {
    struct index head;
    struct codec *codec;
    uint32_t n, degree, nclusters, npivots, nsupers;
    size_t stride;
    struct graph_codes quality;    /* of codes */
    const uint8_t *codes;          /* n */
    struct codec *bit_codec;       /* NULL: no bits */
    size_t bit_stride;
    const uint8_t *bit_codes;      /* n */
    /* With bits and f32 rows: centroids as codes, made when the index is opened, and what their
     * keys are multiplied by (COSINE divides by lengths, which centroids should keep). */
    uint8_t *centroid_codes;
    float *centroid_sizes;
    const uint32_t *perm;          /* n; NULL: node i is row i */
    uint32_t *node_of;             /* n or NULL: perm turned around, GRAPH_NONE: no node has this row */
    const uint32_t *links;         /* n records of degree */
    const uint32_t *cluster_first; /* nclusters + 1: nodes */
    const void *centroids;
    const uint32_t *pivot_first;   /* nclusters + 1: pivots */
    const uint32_t *pivot_node;    /* npivots */
    const uint32_t *super_first;   /* nsupers + 1: clusters */
    const uint8_t *super_codes, *cluster_codes, *pivot_codes;
    struct scratch_pool scratch;
    _Atomic size_t scratch_bytes; /* of all scratch made so far */
};

static inline const uint8_t *graph_code(const struct graph *g, uint32_t node)
{
    return g->codes + (size_t)node * g->stride;
}
static inline const uint32_t *graph_links(const struct graph *g, uint32_t node)
{
    return g->links + (size_t)node * g->degree;
}
/* The row of a node; a damaged file cannot name one that is not there. */
static inline uint32_t graph_row(const struct graph *g, uint32_t node)
{
    uint32_t row = g->perm ? g->perm[node] : node;
    return row < g->head.rows.nrows ? row : 0;
}
/* The filter's bits in the order of nodes; NULL: they are in the order of rows. */
static inline const uint64_t *graph_node_bits(const struct graph *g, const struct index_query *q)
{
    return q->filter ? q->filter->bits : g->perm ? NULL : q->allow;
}

/* first[0 .. n] rises from 0 to end; else ST_CORRUPT. */
int graph__check_firsts(const char *what, const uint32_t *first, uint32_t n, uint32_t end,
                        struct status *st);

/* ---- graph_walk.c ---- */

/* A candidate: order-preserving key << 32 | node << 1 | expanded. Smaller is nearer. */
static inline uint32_t graph_key_bits(float key)
{
    uint32_t b;
    __builtin_memcpy(&b, &key, 4);
    return b ^ ((uint32_t)((int32_t)b >> 31) | 0x80000000u);
}
static inline float graph_bits_key(uint32_t b)
{
    float key;
    b ^= ((uint32_t)((int32_t)~b >> 31)) | 0x80000000u;
    __builtin_memcpy(&key, &b, 4);
    return key;
}
static inline uint64_t graph_cand(float key, uint32_t node)
{
    return (uint64_t)graph_key_bits(key) << 32 | (uint64_t)node << 1;
}
static inline uint32_t graph_cand_node(uint64_t c)
{
    return (uint32_t)c >> 1;
}
static inline float graph_cand_key(uint64_t c)
{
    return graph_bits_key((uint32_t)(c >> 32));
}

/* What one search needs; borrowed from graph.scratch. */
struct graph_scratch {
    uint64_t *visited; /* n bits, all 0 between searches */
    uint32_t *seen;    /* nodes whose bit was set; past seen_cap visited is cleared as a whole */
    size_t nseen, seen_cap, nwords;
    uint32_t *ids;  /* batch_cap each: nodes at work, their keys */
    float *keys, *dist, *cover;
    uint32_t *pick;
    size_t batch_cap;
    uint64_t *pool; /* pool_cap: results, sorted or as a heap */
    size_t pool_cap;
    uint64_t *heap; /* heap_cap: frontier of wide walks, what graph_reach.c found */
    size_t heap_cap;
    uint32_t *rows; /* pool_cap: for exact scores */
    void *pq;       /* prepared query */
    void *bit_pq;   /* the same for bits; NULL: none */
    size_t bytes;
};
/* Of the graph's pool or new; room for ef candidates. *ret_s goes back with graph__scratch_put(). */
int graph__scratch_get(const struct graph *g, size_t ef, struct graph_scratch **ret_s,
                       struct status *st);
void graph__scratch_put(const struct graph *g, struct graph_scratch *s);
/* s->heap for n candidates; what is there stays. */
int graph__heap_room(const struct graph *g, struct graph_scratch *s, size_t n, struct status *st);
void graph__scratch_free(struct graph_scratch *s);
/* Marks node; false when it was marked before. */
static inline bool graph_visit(struct graph_scratch *s, uint32_t node)
{
    uint64_t *w = &s->visited[node >> 6], bit = UINT64_C(1) << (node & 63);
    if (*w & bit) {
        return false;
    }
    *w |= bit;
    if (s->nseen < s->seen_cap) {
        s->seen[s->nseen] = node;
    }
    s->nseen++;
    return true;
}
void graph__unvisit(struct graph_scratch *s);

/* Starting points for the query prepared in s->pq: their nodes in s->ids and keys in s->keys,
 * unmarked. Returns their number, at least 1. */
size_t graph__entries(const struct graph *g, struct graph_scratch *s, struct index_counters *c);

/* The ef nodes nearest to the query as far as the walk finds them, ascending in s->pool; returns
 * their number. Entries as graph__entries leaves them. The pool's expanded bits are set. */
size_t graph__walk(const struct graph *g, struct graph_scratch *s, size_t nentries, size_t ef,
                   struct index_counters *c);
/* The same, and behind them, up to keep in all, the nearest of what the walk saw and did not expand. */
size_t graph__walk_past(const struct graph *g, struct graph_scratch *s, size_t nentries, size_t ef,
                        size_t keep, struct index_counters *c);

/* A plain walk between two halves of a step: one waits for links, then for codes, and others may have
 * their turns meanwhile. */
struct graph_steps {
    size_t ef, keep, n, cursor, m;
    float tail;
    bool asked; /* for the codes of m nodes in s->ids */
    size_t distances, hops;
};
/* graph__walk_past() in turns: begin, turns until false, end. The same nodes and counts. An end
 * before that leaves the scratch as it should be, too. */
void graph__walk_begin(const struct graph *g, struct graph_scratch *s, size_t nentries, size_t ef,
                       size_t keep, struct graph_steps *w);
bool graph__walk_turn(const struct graph *g, struct graph_scratch *s, struct graph_steps *w);
void graph__walk_end(const struct graph *g, struct graph_scratch *s, const struct graph_steps *w,
                     struct index_counters *c);

/* How a wide walk chooses what it keeps. */
struct graph_wide {
    size_t ef;             /* results kept */
    const uint64_t *allow; /* rows that may be results; NULL: all */
    float low_key;         /* no result is below */
    float radius_key;      /* under a range: after miss_max nodes in turn that are farther than */
    size_t miss_max;       /* this and no nearer than any before, the walk ends; SIZE_MAX: never */
    index_check_fn *check;
    void *check_arg;
};
/* The same for any ef, under a filter and a range: frontier and results are heaps. Results end
 * ascending in s->pool. Fails: ST_NO_MEMORY, what check returned. */
int graph__walk_wide(const struct graph *g, struct graph_scratch *s, size_t nentries,
                     const struct graph_wide *how, size_t *ret_n, struct index_counters *c,
                     struct status *st);

/* Ascending. */
void graph__sort(uint64_t *cand, size_t n);

/* ---- graph_bits.c ---- */

/* Whether an index over rows whose codes are of that kind has bits. */
bool graph__bits_wanted(const struct index_rows *rows, enum codec_kind kind);
int graph__bits_open(struct graph *g, const struct ix_file *f, struct status *st);
/* ST_CORRUPT: bits are not those that the codec makes of the rows. */
int graph__bits_check(const struct graph *g, struct status *st);

/* ---- graph_search.c ---- */

int graph__search(const struct index *ix, const struct index_query *q, struct topk *tk,
                  struct index_counters *c, struct status *st);
/* The caller's ef, at least k, with coarse codes some more, and at most n. */
size_t graph__ef(const struct graph *g, const struct index_query *q, const struct topk *tk);
/* How many of ef candidates get exact scores. */
size_t graph__refine_count(const struct graph *g, const struct index_query *q, uint32_t k,
                           size_t ef);
/* The first n of an ascending pool into q->near, if that is asked for. */
void graph__near(const struct graph *g, const struct index_query *q, uint32_t j,
                 const uint64_t *pool, size_t n);
/* Whether list j is bounded by a range and not by what it holds. */
bool graph__has_range(const struct topk *tk, uint32_t j);
/* Walks the graph for query j whatever the filter, with exact scores of the best into tk. */
int graph__search_walk(const struct graph *g, const struct index_query *q, uint32_t j,
                       struct topk *tk, struct index_counters *c, struct status *st);

int graph__build(const struct index_build *in, struct ixw *w, struct status *st); /* graph_build.c */

/* ---- graph_filter.c ---- */

/* allow, bits by row, as bits by node. */
void graph__filter(const struct index *ix, const uint64_t *allow, uint64_t *bits);
/* Nodes of allowed rows, from the allow's word *word on, which moves: as many as there is room for, at
 * least 64. */
size_t graph__allowed_nodes(const struct graph *g, const uint64_t *allow, size_t *word,
                            uint32_t *nodes, size_t room);
/* Sets the bits of the nodes whose rows are in allow; bits has none set. For few rows that is less
 * work than looking every node up. */
void graph__turn(const struct graph *g, const uint64_t *allow, uint64_t *bits);
/* Whether node may be a result. */
static inline bool graph_allowed(const struct graph *g, const struct index_query *q, uint32_t node)
{
    const uint64_t *bits = q->filter ? q->filter->bits : q->allow;
    uint32_t at = q->filter ? node : graph_row(g, node);
    return (bits[at >> 6] >> (at & 63)) & 1;
}

/* Query j under q->allow: chooses a strategy and runs it. */
int graph__search_filtered(const struct graph *g, const struct index_query *q, uint32_t j,
                           struct topk *tk, struct index_counters *c, struct status *st);
