/*
 * diskann_int.h - a graph on disk with codes in memory: its file and what its files share.
 *
 * IDEA        Memory holds a short code of every row; the disk holds, side by side, each row in
 *             full and its links. A search walks by codes and pays one read to expand a node, which
 *             brings the exact row with it (Subramanya et al., "DiskANN: Fast Accurate
 *             Billion-point Nearest Neighbor Search on a Single Node"). A disk serves thousands of reads a second
 *             where memory serves many millions, so everything here spends memory and arithmetic to
 *             save reads: see diskann_search.c.
 * WORDS       node, row, cluster, pivot, super: as in graph/graph_int.h, whose builder makes the
 *             graph. record: a node on disk. unit: what one read brings, whole pages: several
 *             records, of nodes near each other by the graph's order, or one. hot: a node whose
 *             record is in memory too.
 * FORMAT      Numbers little-endian. Sections:
 *               "META"  struct diskann_meta
 *               "CODC"  the codec's blob
 *               "CODE"  n codes of meta.stride bytes, in node order
 *               "PERM"  u32 n: the row of each node
 *               "CLUS", "PIVF", "PIVN", "SUPF", "ROUT": the way in, as in graph/graph_int.h
 *               "HOTB"  u64 per 64 nodes: bit set = hot; then u32 per 64 nodes: hot ones before
 *               "HOTR"  records of the hot nodes, in node order
 *               "PAGE"  units. Record i of unit u is node u * per_unit + i: the row's vector, zeros
 *                       to a multiple of 4, u32 links[degree]; unused links are GRAPH_NONE
 * INVARIANTS  diskann_validate() checks perm, links, reach, hot records, and that each record holds
 *             its row. A search compares every number it reads with n at use.
 */
#pragma once
#include "index/ann_int.h"
#include "index/graph/graph_int.h"
#include "index/quant/codec.h"

#define DISKANN_HOTB IX_TAG('H', 'O', 'T', 'B')
#define DISKANN_HOTR IX_TAG('H', 'O', 'T', 'R')
#define DISKANN_PAGE IX_TAG('P', 'A', 'G', 'E')
#define DISKANN_BLOCK 4096u
#define DISKANN_PER_UNIT 64u /* records, at most */

struct diskann_meta {
    uint32_t n, degree;
    uint32_t nclusters, npivots, nsupers, nhot;
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
    struct graph g; /* codes, perm and the way in; it has no links */
    struct diskann_meta meta;
    uint32_t links_at; /* bytes from a record's start */
    const uint64_t *hot_bits;
    const uint32_t *hot_before;
    const uint8_t *hot_records;
    const uint8_t *units; /* in the mapping */
    uint64_t units_at;    /* in the file */
    int fd;               /* for reads past the page cache; -1: none */
    struct scratch_pool scratch;
    _Atomic size_t scratch_bytes;
};

static inline bool diskann_is_hot(const struct diskann *d, uint32_t node)
{
    return d->hot_bits[node >> 6] >> (node & 63) & 1;
}
/* The record of a hot node; NULL when the file lies. */
static inline const uint8_t *diskann_hot(const struct diskann *d, uint32_t node)
{
    uint64_t below = d->hot_bits[node >> 6] & ((UINT64_C(1) << (node & 63)) - 1);
    size_t i = d->hot_before[node >> 6] + (size_t)__builtin_popcountll(below);
    return i < d->meta.nhot ? d->hot_records + i * d->meta.record : NULL;
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
/* The next read to be done. There must be one under way. Fails: ST_IO; the slot is done then
 * too. */
int diskann__io_wait(struct diskann_io *io, uint32_t *ret_slot, struct status *st);
/* Waits until nothing is under way, whatever became of it. */
void diskann__io_drain(struct diskann_io *io);

/* ---- diskann_build.c, diskann_search.c ---- */

int diskann__build(const struct index_build *b, struct ixw *w, struct status *st);
int diskann__search(const struct index *ix, const struct index_query *q, struct topk *tk,
                    struct index_counters *c, struct status *st);
struct diskann_scratch;
void diskann__scratch_free(struct diskann_scratch *s);
/* The kernel of the metric for the rows' type. */
struct simd_dist diskann__kernel(const struct index_rows *rows);
