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
