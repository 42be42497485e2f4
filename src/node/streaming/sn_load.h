/* sn_load.h - what a round of loading is made of: for sn_load.c and sn_replace.c. */
#pragma once
#include "node/streaming/sn_int.h"

struct sn_round {
    const Elanus__Load *target;       /* NULL: the shard's own */
    Elanus__Placement *const *hints;  /* given by the caller */
    size_t nhints;
    struct arena *ar;
    /* 1: copies, for use off the sequencer */
    Elanus__Collection *collection;
    size_t nsegs, ndeltas;
    Elanus__Segment **segs;           /* metas, immutable */
    Elanus__Delta **deltas;
    /* 2 */
    int64_t *nodes;                   /* of segs; 0: the coordinator wants it nowhere */
    /* 3 */
    bool again, complete;
};

/* Whoever loads segments of a shard, or takes them from it, does so between these two: one at a time.
 * Returns whether it is the caller now; always with `wait`. Thread: any but the sequencer. */
bool sn__loading_begin(struct sn_shard *sh, bool wait);
void sn__loading_end(struct sn_shard *sh);

/* Room for up to n segments in a round, and the delete files of now. Segments and, when there are any,
 * a copy of the definition are the caller's to fill in. Sequencer. */
int sn__round_look(struct sn_round *r, const struct sn_shard *sh, size_t n, struct status *st);
/* Loads the segments on nodes that the coordinator names. After a failure what is in `nodes` may be
 * loaded. Thread: any but the sequencer. */
int sn__round_load(struct sn_round *r, struct sn_shard *sh, const struct call *call,
                   struct status *st);
/* Gives segments of the round that are loaded every delete they lack, and the definition when it has
 * changed; then has their nodes show them to readers. The caller puts them into the view, in the
 * same message. Sequencer. */
int sn__round_serve(struct sn_round *r, struct sn_shard *sh, const struct sn_sealed *to, size_t n,
                    struct status *st);
