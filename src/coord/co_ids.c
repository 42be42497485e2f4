/*
 * co_ids.c - ids of collections, partitions, segments, indexes and generated primary keys.
 *
 * One sequence for all of them. It begins at the timestamp of the first start, as applications
 * expect ids to be large and to differ between installations. co_bound.c keeps it safe; a bound is
 * a few million ahead, so one transaction serves many batches of generated keys.
 */
#include "coord/co_int.h"

enum { IDS_AHEAD = 1 << 22, IDS_COUNT_MAX = 1 << 24 };

int co__ids_load(struct coord *co, struct status *st)
{
    co__bound_init(&co->ids, co, "/elanus/root/id", IDS_AHEAD, false);
    return co__bound_load(&co->ids, (uint64_t)clock_now_ms() << 18, st);
}

int co__id(struct coord *co, uint32_t count, int64_t deadline_us, int64_t *ret_first,
           struct status *st)
{
    uint64_t first;
    int rc = 0;

    if (count == 0 || count > IDS_COUNT_MAX) {
        FAIL(st, ST_INVALID, "%u ids asked for, 1 to %d can be had", count, IDS_COUNT_MAX);
    }
    TRY(co__bound_take(&co->ids, count, deadline_us, &first, st));
    *ret_first = (int64_t)first;
out:
    return rc;
}

int co__root_alloc_id(void *self, const struct call *call, const Elanus__AllocReq *req,
                      Elanus__AllocResp *resp, struct status *st)
{
    int64_t first = 0;
    int rc = co__id(self, req->count, call->deadline_us, &first, st);

    if (rc == 0) {
        resp->first = (uint64_t)first;
        resp->count = req->count;
    }
    return rc;
}
