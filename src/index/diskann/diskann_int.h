/*
 * diskann_int.h - a graph on disk with codes in memory: its file and what its files share.
 *
 * IDEA        Memory holds a short code of every row; the disk holds, side by side, each row in
 *             full and its links. A search walks by codes and pays one read to expand a node, which
 *             brings the exact row with it (Subramanya et al., "DiskANN: Fast Accurate
 *             Billion-point Nearest Neighbor Search on a Single Node"). A disk serves tens of
 *             thousands of reads a second where memory serves many millions, so everything here
 *             spends memory and arithmetic to save reads: see diskann_search.c.
 * WORDS       row: the caller's. node: position in the index's own order; perm[node] is the row.
 *             cluster: a run of nodes near one centroid. super: a run of clusters. record: a node
 *             on disk. unit: what one read brings, whole pages: several records, of nodes near
 *             each other, or one. hot: a node whose record is in memory too.
 * FORMAT      Numbers little-endian. Sections:
 *               "META"  struct diskann_meta
 *               "CODC"  the codec's blob
 *               "CODE"  n codes of meta.stride bytes, in node order
 *               "PERM"  u32 n: the row of each node
 *               "CLUS"  u32 nclusters + 1: first node of each cluster, and n
 *               "SUPF"  u32 nsupers + 1: first cluster of each super, and nclusters
 *               "CENT"  f32 centroids of dim each: nsupers, then nclusters; for COSINE of rows
 *                       divided by their length
 *               "HOTB"  u64 per 64 nodes: bit set = hot; then u32 per 64 nodes: hot ones before.
 *                       Empty without hot nodes
 *               "HOTR"  records of the hot nodes, in node order
 *               "PAGE"  units. Record i of unit u is node u * per_unit + i: the row's vector, zeros
 *                       to a multiple of 4, u32 links[degree]; unused links, at the end, are
 *                       DISKANN_NONE
 * INVARIANTS  diskann_validate() checks perm, links, reach, hot records, and that each record holds
 *             its row. A search compares every number it reads with n at use.
 */
#pragma once
#include "index/ann_int.h"
#include "index/quant/codec.h"
#include "simd/simd.h"

#define DISKANN_META IX_TAG('M', 'E', 'T', 'A')
#define DISKANN_CODC IX_TAG('C', 'O', 'D', 'C')
#define DISKANN_CODE IX_TAG('C', 'O', 'D', 'E')
#define DISKANN_PERM IX_TAG('P', 'E', 'R', 'M')
#define DISKANN_CLUS IX_TAG('C', 'L', 'U', 'S')
#define DISKANN_SUPF IX_TAG('S', 'U', 'P', 'F')
#define DISKANN_CENT IX_TAG('C', 'E', 'N', 'T')
#define DISKANN_HOTB IX_TAG('H', 'O', 'T', 'B')
#define DISKANN_HOTR IX_TAG('H', 'O', 'T', 'R')
#define DISKANN_PAGE IX_TAG('P', 'A', 'G', 'E')
#define DISKANN_VERSION 2u /* from before types counted formats; changes raise those now */
#define DISKANN_NONE UINT32_MAX
#define DISKANN_BLOCK 4096u
#define DISKANN_PER_UNIT 64u /* records, at most */

struct diskann_meta {
    uint32_t version;
    uint32_t n, degree;
    uint32_t nclusters, nsupers, nhot;
    uint32_t record, per_unit; /* bytes; records in a unit */
    uint32_t unit;             /* bytes */
    float slack;               /* keys of near rows are hardly ever more than this too large */
    uint64_t stride;           /* of codes */
};

static inline uint32_t diskann_links_at(const struct index_rows *r)
{
    return (uint32_t)ROUND_UP(vec_bytes(r->type, r->dim), (size_t)4);
}
static inline uint32_t diskann_units(uint32_t n, uint32_t per_unit)
{
    return (n + per_unit - 1) / per_unit;
}
/* Fills record, per_unit and unit from the rows and degree. */
void diskann__layout(const struct index_rows *rows, struct diskann_meta *m);

struct diskann {
    struct index head;
    struct diskann_meta meta;
    struct codec *codec;
    uint32_t links_at; /* bytes from a record's start */
    /* Views into the mapping. */
    const uint8_t *codes;
    const uint32_t *perm, *cluster_first, *super_first;
    const float *super_centroids, *cluster_centroids;
    const uint64_t *hot_bits; /* NULL: none is hot */
    const uint32_t *hot_before;
    const uint8_t *hot_records;
    const uint8_t *units;
    uint64_t units_at; /* in the file */
    int fd;            /* for reads past the page cache; -1: none */
    uint32_t route;    /* clusters compared on the way in, at least: whole supers of them */
    struct scratch_pool scratch;
    _Atomic size_t scratch_bytes;
};

/* The row of a node; a damaged file cannot name one that is not there. */
static inline uint32_t diskann_row(const struct diskann *d, uint32_t node)
{
    uint32_t row = d->perm[node];
    return row < d->meta.n ? row : 0;
}
static inline bool diskann_is_hot(const struct diskann *d, uint32_t node)
{
    return d->hot_bits && (d->hot_bits[node >> 6] >> (node & 63) & 1);
}
/* Which of the hot nodes one is; nhot when the file lies. */
static inline uint32_t diskann_hot(const struct diskann *d, uint32_t node)
{
    uint64_t below = d->hot_bits[node >> 6] & ((UINT64_C(1) << (node & 63)) - 1);
    uint64_t i = d->hot_before[node >> 6] + (uint64_t)__builtin_popcountll(below);
    return (uint32_t)MIN(i, (uint64_t)d->meta.nhot);
}

/* ---- diskann_io.c ---- */

/* Reads of one search. */
struct diskann_io;
enum diskann_io_kind {
    DISKANN_IO_URING, /* asynchronous */
    DISKANN_IO_PREAD, /* one after the other */
    DISKANN_IO_MAP    /* no file: from the mapping */
};
/* A descriptor of the same file whose reads pass the page cache, where that is possible. -1: fd is
 * -1 or cannot be had again. */
int diskann__reopen(int fd);
/* For up to depth reads at once. fd -1: from map. */
int diskann__io_new(int fd, const uint8_t *map, unsigned depth, struct diskann_io **ret_io,
                    struct status *st);
/* Waits for reads under way. */
void diskann__io_free(struct diskann_io *io);
enum diskann_io_kind diskann__io_kind(const struct diskann_io *io);
/* Starts a read; at most depth at once. slot comes back from diskann__io_wait(). offset is of the
 * file for descriptors, of map for mappings. */
void diskann__io_read(struct diskann_io *io, uint32_t slot, uint64_t offset, void *buf, uint32_t n);
/* Reads started so far go to the disk now, not when somebody waits for one. */
void diskann__io_send(struct diskann_io *io);
/* The next read to be done. There must be one under way. Fails: ST_IO; the slot is done then
 * too. */
int diskann__io_wait(struct diskann_io *io, uint32_t *ret_slot, struct status *st);
/* Waits until nothing is under way, whatever became of it. */
void diskann__io_drain(struct diskann_io *io);

/* ---- diskann_build.c, diskann_pack.c, diskann_search.c ---- */

struct graph_builder;
int diskann__build(const struct index_build *b, struct ixw *w, struct status *st);
/* Which nodes of the builder share a unit: order[i] is the builder's number of the index's node i.
 * Clusters stay the runs they are. */
int diskann__pack(struct graph_builder *b, uint32_t per_unit, uint32_t *order,
                  struct status *st);
int diskann__search(const struct index *ix, const struct index_query *q, struct topk *tk,
                    struct index_counters *c, struct status *st);
struct diskann_scratch;
void diskann__scratch_free(struct diskann_scratch *s);
/* The kernel of the metric for rows of a type. */
struct simd_dist diskann__kernel(enum metric metric, enum vec_type type);
