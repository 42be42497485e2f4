/* nd_int.h - shared by nd_read.c, nd_search.c, nd_query.c and nd_merge.c. */
#pragma once
#include "node/nd_read.h"

/* One segment's part of a call. */
struct nd_work {
    struct arena *scratch;
    struct topk *tk;
    const uint32_t *rows;        /* query */
    uint32_t nrows;
    uint64_t count;
    struct seg_search_work done; /* search */
    struct index_near near;      /* search: what it tells; max 0: nothing */
    struct status st;
};
struct nd_work *nd__work_new(size_t n);
void nd__work_done(struct nd_work *w, size_t n);
/* The first failure of any segment becomes the call's. */
int nd__work_status(const struct nd_work *w, size_t n, struct status *st);
/* For one call: filter bits, gathered rows. */
struct arena *nd__scratch_new(void);

int nd__no_memory(struct status *st);
/* No bytes: no columns; no expression. */
int nd__decode_bytes(const ProtobufCBinaryData *bytes, struct arena *ar, struct batch *ret,
                     struct status *st);
int nd__decode_plan(const ProtobufCBinaryData *plan, struct arena *ar,
                    const struct expr **ret_expr, struct status *st);

/* The threads that share the work on segments, whose rows are so many bytes each; NULL: this one
 * alone. */
struct pool *nd__pool_for(struct pool *compute, struct segment *const *segs, size_t nsegs,
                          size_t row_bytes, const struct call *call);

/* ---- nd_ahead.c ---- */

/* seg_search() for a page of an iterator, of which this is one of nsegs segments: the same hits,
 * from what an earlier page left, or with hits for later ones found ahead. */
int nd__ahead_search(struct nd_ahead *a, const struct segment *seg, size_t nsegs,
                     const Elanus__SearchReq *req, const struct seg_search *q, struct topk *tk,
                     struct arena *ar, struct status *st);

/* ---- nd_merge.c ---- */

/* Room for the hits of an answer; they are counted down to what was found at the end. */
int nd__resp_reserve(Elanus__SearchResp *resp, uint32_t nq, size_t most, struct arena *ar,
                     struct status *st);
void nd__resp_set_total(Elanus__SearchResp *resp, size_t total);
