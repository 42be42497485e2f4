/*
 * nd_read.c - what reading several segments as one has in common (nd_search.c, nd_query.c).
 *
 * WHAT      Room for the work of each segment, bytes of requests and answers, and the choice
 *           whether threads share the work.
 * THREADS   Pure.
 */
#include "base/alloc.h"
#include "node/nd_int.h"
#include <string.h>

/* Scratch of one segment's work: filter bits, gathered rows. */
#define SCRATCH_LIMIT ((size_t)2 << 30)

struct arena *nd__scratch_new(void)
{
    return arena_new(SCRATCH_LIMIT);
}

void nd__work_done(struct nd_work *w, size_t n)
{
    for (size_t i = 0; w && i < n; i++) {
        topk_free(w[i].tk);
        arena_free(w[i].scratch);
    }
    mem_free(w);
}

struct nd_work *nd__work_new(size_t n)
{
    struct nd_work *w = xalloc(MAX(n, (size_t)1) * sizeof *w);
    for (size_t i = 0; i < n; i++) {
        w[i].scratch = nd__scratch_new();
    }
    return w;
}

int nd__work_status(const struct nd_work *w, size_t n, struct status *st)
{
    for (size_t i = 0; i < n; i++) {
        if (w[i].st.code != 0) {
            *st = w[i].st;
            return st->code;
        }
    }
    return 0;
}

int nd_batch_bytes(const struct batch *b, struct arena *ar, ProtobufCBinaryData *ret,
                   struct status *st)
{
    struct buf out;
    int rc = 0;

    buf_init(&out, (size_t)1 << 30);
    if (!batch_encode(b, &out)) {
        FAIL(st, ST_TOO_LARGE, "the answer is larger than %zu bytes", out.max);
    }
    ret->data = arena_try(ar, out.n);
    if (!ret->data) {
        FAIL(st, ST_NO_MEMORY, "no memory for an answer of %zu bytes", out.n);
    }
    memcpy(ret->data, out.p, out.n);
    ret->len = out.n;
out:
    buf_done(&out);
    return rc;
}

int nd__decode_bytes(const ProtobufCBinaryData *bytes, struct arena *ar, struct batch *ret,
                     struct status *st)
{
    if (bytes->len == 0) {
        *ret = (struct batch){ 0 };
        return 0;
    }
    return batch_decode(slice_n(bytes->data, bytes->len), ar, ret, st);
}

int nd__decode_plan(const ProtobufCBinaryData *plan, struct arena *ar,
                    const struct expr **ret_expr, struct status *st)
{
    if (plan->len == 0) {
        *ret_expr = NULL;
        return 0;
    }
    return plan_decode(slice_n(plan->data, plan->len), ar, ret_expr, st);
}

int nd__no_memory(struct status *st)
{
    return st_fail(st, ST_NO_MEMORY, "the request needs more memory than it may use");
}

/* ---- sharing the work ---- */

/* Work below which waking other threads costs more than it saves; and above which that is nothing in
 * comparison, even when the others have work already. */
#define SPREAD_LEAST_US 60u
#define SPREAD_ALWAYS_US 1000u
#define BYTES_PER_US 16384u

struct pool *nd__pool_for(struct pool *compute, struct segment *const *segs, size_t nsegs,
                          size_t row_bytes, const struct call *call)
{
    uint64_t us = call->expect_us;

    if (nsegs < 2 || !compute) {
        return NULL;
    }
    for (size_t i = 0; i < nsegs && !call->expect_us; i++) {
        struct seg_info info;
        seg_get_info(segs[i], &info);
        us += info.nrows * (uint64_t)row_bytes / BYTES_PER_US;
    }
    if (us >= SPREAD_ALWAYS_US) {
        return compute;
    }
    return us >= SPREAD_LEAST_US && (int)call->beside + 1 < pool_threads(compute) ? compute : NULL;
}
