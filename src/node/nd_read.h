/*
 * nd_read.h - reading several segments of one process as one: search, query, fetch.
 *
 * Shared by the shard (its growing segments) and the query node (its sealed ones); the merging of
 * answers from both is here too. Segments passed in are referenced by the caller for the call; what
 * is returned owns copies in call->ar, so the references may go afterwards.
 * Thread: any; works in parallel over segments on `compute`.
 */
#pragma once
#include "base/pool.h"
#include "segment/segment.h"
#include "service/service.h"

/* Hits of sealed segments found ahead for the next pages of search iterators (nd_ahead.c).
 * Thread: any. */
struct nd_ahead;
struct nd_ahead *nd_ahead_new(size_t bytes_max);
void nd_ahead_free(struct nd_ahead *a);
size_t nd_ahead_bytes(struct nd_ahead *a);

/* Best k hits per query over all segments, equal keys once. Fills counts, scores, pks,
 * segment_ids, rows, timestamps, searched_rows of resp, and near as far as req asks for it.
 * req->read_ts is the snapshot. known may be NULL. */
struct nd_known {
    const float *limits; /* for each query a score, worse hits than which the caller has enough of */
    /* For each segment where the queries lie in its guide (seg_guide()); NULL: not known. */
    const Elanus__SearchNear *const *near;
    struct nd_ahead *ahead; /* for pages of iterators; NULL: nothing is found ahead */
};
int nd_search(struct segment *const *segs, size_t nsegs, const struct schema *schema,
              const Elanus__SearchReq *req, const struct nd_known *known, struct pool *compute,
              const struct call *call, Elanus__SearchResp *resp, struct status *st);

/* ---- nd_near.c: struct index_near and its message ---- */

/* Room for a search of nq queries; asked: most rows of each, 0: all. Fails: ST_NO_MEMORY. */
int nd_near_new(struct arena *ar, uint32_t nq, uint32_t asked, struct index_near *ret,
                struct status *st);
/* *ret is NULL when there is nothing to tell; segment_id is left to the caller. */
int nd_near_pack(const struct index_near *in, uint32_t nq, struct arena *ar,
                 Elanus__SearchNear **ret, struct status *st);
/* The way back, in ar. False: not to be used, or no memory. */
bool nd_near(const Elanus__SearchNear *near, uint32_t nq, struct arena *ar, struct index_near *ret);

/* Rows by ascending key (req->limit smallest), newest of equal keys, or their number. */
int nd_query(struct segment *const *segs, size_t nsegs, const struct schema *schema,
             const Elanus__QueryReq *req, struct pool *compute, const struct call *call,
             Elanus__QueryResp *resp, struct status *st);

/* Cells of given (segment, row) pairs, in order, as a batch with one column per field id.
 * ERR_INCONSISTENT_REQUERY when a segment is not among segs. */
int nd_fetch(struct segment *const *segs, size_t nsegs, const struct schema *schema,
             const int64_t *segment_ids, const uint32_t *rows, size_t n, const int64_t *field_ids,
             size_t nfields, const struct call *call, struct batch *ret, struct status *st);

/* Merges answers of several sources, of which each was asked for `asked` hits, into one of k hits.
 * *retry_k (may be NULL): equal keys cost hits although some source had more: ask for more. */
struct nd_merge {
    uint32_t nq, k, asked;
    bool larger_is_better;
};
int nd_merge_search(const Elanus__SearchResp *const *parts, size_t nparts,
                    const struct nd_merge *how, const struct call *call, Elanus__SearchResp *resp,
                    uint32_t **ret_part_of_hit, bool *retry_k, struct status *st);
int nd_merge_query(const Elanus__QueryResp *const *parts, size_t nparts, int64_t limit,
                   int64_t max_bytes, const struct call *call, Elanus__QueryResp *resp,
                   struct status *st);

/* A batch as the bytes field of an answer, memory from ar. */
int nd_batch_bytes(const struct batch *b, struct arena *ar, ProtobufCBinaryData *ret,
                   struct status *st);

/* Sums of what searches did, for /metrics (nd_work.c). */
enum nd_measure {
    ND_DISTANCES,
    ND_EXACT,
    ND_HOPS,
    ND_LISTS,
    ND_BYTES,
    ND_READS,
    ND_FALLBACKS,
    ND_INDEXED,
    ND_OTHER,
    ND_MEASURES
};
struct measure;
struct nd_measures {
    struct measure *v[ND_MEASURES];
};
void nd_measures_find(struct nd_measures *m);
void nd_measures_add(const struct nd_measures *m, const Elanus__SearchWork *w);
void nd_work_add(Elanus__SearchWork *sum, const Elanus__SearchWork *w);
