/* co_compact.c - rewriting segments. */
#include "coord/co_int.h"

int co__data_compact(void *self, const struct call *call, const Elanus__CompactSegmentsReq *req,
                     Elanus__CompactSegmentsResp *resp, struct status *st)
{
    (void)self, (void)call, (void)req, (void)resp;
    return st_fail(st, ST_UNSUPPORTED, "compaction");
}

int co__data_compaction_state(void *self, const struct call *call,
                              const Elanus__CompactionStateReq *req,
                              Elanus__CompactionStateResp *resp, struct status *st)
{
    (void)self, (void)call, (void)req, (void)resp;
    return st_fail(st, ST_UNSUPPORTED, "compaction");
}
