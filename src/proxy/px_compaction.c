/*
 * px_compaction.c - compaction as clients see it.
 *
 * There is no compaction yet. Deleted and expired rows vanish from reads at once, so a compaction
 * would only give back storage: asking for one is answered with an id that is completed, which the
 * API allows.
 * THREADS  Workers.
 */
#include "proxy/px_methods.h"

int px_manual_compaction(struct px_call *pc, const PX_PB(ManualCompactionRequest) *req,
                         PX_PB(ManualCompactionResponse) *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__AllocReq r = ELANUS__ALLOC_REQ__INIT;
    Elanus__AllocResp id = ELANUS__ALLOC_RESP__INIT;
    const struct px_coll *coll;
    int rc;

    if (req->collection_name[0] != '\0') {
        TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    } else {
        TRY(px_collection_or_id(pc, req->db_name, "", req->collectionid, &coll, st));
    }
    r.count = 1;
    TRY(root->alloc_id(root->self, &pc->call, &r, &id, st));
    resp->compactionid = (int64_t)id.first;
out:
    return rc;
}

int px_get_compaction_state(struct px_call *pc, const PX_PB(GetCompactionStateRequest) *req,
                            PX_PB(GetCompactionStateResponse) *resp, struct status *st)
{
    (void)pc;
    (void)req;
    (void)st;
    resp->state = MILVUS__PROTO__COMMON__COMPACTION_STATE__Completed;
    return 0;
}

int px_get_compaction_state_with_plans(struct px_call *pc,
                                       const PX_PB(GetCompactionPlansRequest) *req,
                                       PX_PB(GetCompactionPlansResponse) *resp, struct status *st)
{
    (void)pc;
    (void)req;
    (void)st;
    resp->state = MILVUS__PROTO__COMMON__COMPACTION_STATE__Completed;
    return 0;
}
