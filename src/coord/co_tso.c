/*
 * co_tso.c - the timestamp oracle: hybrid timestamps, milliseconds << 18 | counter.
 *
 * INVARIANT  Every timestamp is greater than all given out before it, over restarts and steps of
 *            the wall clock: they count on from the last one while the clock is behind it. More
 *            than 2^18 in one millisecond simply run into the next.
 * NOT HERE   How that survives a crash: co_bound.c. The bound is kept BOUND_AHEAD_MS ahead, so a
 *            restart waits for nothing and moves time at most that far into the future.
 */
#include "coord/co_int.h"

enum { BOUND_AHEAD_MS = 3000, TS_COUNT_MAX = 1 << 20 };

int co__tso_load(struct coord *co, struct status *st)
{
    co__bound_init(&co->tso, co, "/elanus/root/tso", (uint64_t)BOUND_AHEAD_MS << 18, true);
    return co__bound_load(&co->tso, 1, st);
}

int co__ts(struct coord *co, uint32_t count, int64_t deadline_us, uint64_t *ret_first,
           struct status *st)
{
    if (count == 0 || count > TS_COUNT_MAX) {
        return st_fail(st, ST_INVALID, "%u timestamps asked for, 1 to %d can be had", count,
                       TS_COUNT_MAX);
    }
    return co__bound_take(&co->tso, count, deadline_us, ret_first, st);
}

int co__root_alloc_ts(void *self, const struct call *call, const Elanus__AllocReq *req,
                      Elanus__AllocResp *resp, struct status *st)
{
    struct coord *co = self;
    int rc;

    if (call->no_wait && !co__bound_has(&co->tso, req->count)) {
        return st_fail(st, ST_WOULD_WAIT, "the oracle's bound is to be written first");
    }
    rc = co__ts(co, req->count, call->deadline_us, &resp->first, st);
    if (rc == 0) {
        resp->count = req->count;
    }
    return rc;
}
