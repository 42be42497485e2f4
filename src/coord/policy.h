/* policy.h - the coordinator's decisions as pure functions: no clock, I/O, lock or allocation. */
#pragma once
#include "base/compiler.h"

struct policy_node {
    int64_t id;
    int64_t rows; /* of the segments placed on it */
};

/* Gives each of n segments the node that has the fewest rows at that point, the smaller id on a
 * tie, and adds its rows there. nnodes >= 1. Deterministic. */
void policy_place(struct policy_node *nodes, size_t nnodes, const int64_t *segment_rows, size_t n,
                  int64_t *ret_node_ids);

/* Whether a registering node takes a shard: its own, and those whose owner is not there. */
bool policy_takes_shard(int64_t owner, int64_t registering, const int64_t *live, size_t nlive);

/* The physical channel for a new shard: the one with the fewest shards, the first on a tie. */
size_t policy_pchannel(const size_t *nshards, size_t nchannels);

/* Whether a segment of so many rows gets an index file of this type: in fewer than rows_min rows a
 * scan is as fast as anything, and BIN_FLAT is nothing but a scan. */
bool policy_index_has_file(const char *index_type, int64_t rows, int64_t rows_min);
/* Whether the type gains when rows lie in an order of its own. */
bool policy_index_orders(const char *index_type);

/* An index file that a segment should have and has not. */
struct policy_build {
    int64_t index_id, segment_id;
    bool loaded;    /* searches scan the segment meanwhile */
    bool taken;     /* being built, or given up */
    int tries;      /* failed so far */
    int64_t due_ms; /* not before */
};
/* Which one is to be built next; n: none now, *ret_next_ms is when one will be (INT64_MAX: never).
 * Deterministic. */
size_t policy_build_next(const struct policy_build *builds, size_t n, int64_t now_ms,
                         int64_t *ret_next_ms);
/* How long to wait after a build has failed for the tries-th time with this code; -1: for good. */
int64_t policy_build_pause_ms(int tries, int code);
/* The same after a file that was built has been refused by its query node for the n-th time. */
int64_t policy_refused_pause_ms(int n);

/* A flushed segment, as compaction sees it. */
struct policy_seg {
    int64_t id, rows, bytes;
    int64_t gone;      /* rows that deletes since it was written may have hit: an estimate */
    bool expired;      /* every row is older than its collection keeps them */
    bool unordered;    /* rows lie as they came, an index would have them in its order */
    bool free;         /* may be rewritten now */
};
struct policy_compact {
    int64_t max_bytes; /* of a segment that merging makes */
    size_t max_sources; /* 0: POLICY_SOURCES_MAX, which is the most */
    bool forced;       /* asked for: every merge that makes fewer segments, every deleted row, and
                        * what is not in order */
    bool no_merge;
};
enum { POLICY_SOURCES_MAX = 128 };
#define POLICY_ROWS_MAX (INT64_C(1) << 26) /* of one segment: its files number them */
/* How large merging makes the segments of a shard's partition that has total_bytes of them:
 * max_bytes, more where that would still leave many. */
int64_t policy_segment_bytes(int64_t max_bytes, int64_t total_bytes);
/* Places in segs of those that are free, smallest first; how many. */
size_t policy_compact_order(const struct policy_seg *segs, size_t n, uint32_t *ret_order);
/* Which segments of one partition of one shard are to be rewritten as one: their places in segs,
 * ascending, at most POLICY_SOURCES_MAX. 0: none. Of the *n in order, those that are not free any
 * more are taken out. Deterministic. */
size_t policy_compact_next(const struct policy_seg *segs, uint32_t *order, size_t *n,
                           const struct policy_compact *how, uint32_t *ret_picked);
