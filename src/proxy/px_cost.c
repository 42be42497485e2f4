/*
 * px_cost.c - how long searches of a kind take, to know which ones are short.
 *
 * WHAT     A search that takes less than SHORT_US costs less on the net thread that has read it than
 *          the change to a worker and back. How long it takes depends on rows, index, parameters and
 *          filter; what is known of that here is how long the last ones took. Each collection
 *          remembers a running mean for each kind of search, in a small table addressed by hash:
 *          kinds that share a place share their mean.
 * MEAN     One eighth of the distance to the new time, which counts at most four times the mean: a
 *          search that was interrupted by another thread changes little, a collection that has grown
 *          is noticed within ten searches.
 * THREADS  Any; relaxed, and an update that gets lost is one of many.
 */
#include "base/hash.h"
#include "proxy/px_read.h"

#define SHORT_US 200u
#define LEAST_US 20u /* what a mean may rise by in one step, at least */

struct px_kind px_search_kind(const struct px_search *s)
{
    /* The table is the one part of a cached collection that changes, beside its route. */
    struct px_coll *coll = (struct px_coll *)(uintptr_t)s->coll;
    const Elanus__SearchReq *req = &s->req;
    uint64_t what[] = { (uint64_t)req->field_id,
                        req->nq,
                        req->k,
                        (uint64_t)(req->plan.len != 0) | (uint64_t)req->has_radius << 1 |
                            (uint64_t)req->ignore_growing << 2,
                        hash64(s->sp.params, strlen(s->sp.params)) };

    return (struct px_kind){ &coll->cost_us[hash64(what, sizeof what) % PX_COSTS] };
}

uint32_t px_kind_us(struct px_kind kind)
{
    return atomic_load_explicit(kind.us, memory_order_relaxed);
}

bool px_kind_is_short(struct px_kind kind)
{
    uint32_t us = px_kind_us(kind);

    return us != 0 && us <= SHORT_US;
}

void px_kind_took(struct px_kind kind, int64_t us)
{
    int64_t mean = atomic_load_explicit(kind.us, memory_order_relaxed);

    us = MAX(us, (int64_t)1);
    if (mean == 0) {
        mean = MIN(us, (int64_t)UINT32_MAX);
    } else {
        us = MIN(us, 4 * mean + LEAST_US);
        /* Rounded away from the mean, so that it reaches what it nears. */
        mean += us > mean ? (us - mean + 7) / 8 : -((mean - us + 7) / 8);
    }
    atomic_store_explicit(kind.us, (uint32_t)MIN(mean, (int64_t)UINT32_MAX), memory_order_relaxed);
}
