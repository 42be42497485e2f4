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
