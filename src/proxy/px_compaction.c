/*
 * px_compaction.c - compaction as clients see it: asking for one, and what became of it.
 *
 * The coordinator rewrites segments by itself; asking makes it merge whatever makes fewer segments,
 * and leave out every row that was deleted long enough ago. An id that is not known (any more) is
 * completed, as for Milvus: what is past is past.
 * THREADS  Workers.
 */
#include "proxy/px_methods.h"

/* Clients that want the server to choose send the greatest number of megabytes there is. */
#define TARGET_MB_MAX ((int64_t)1 << 20)
#define SEGMENT_IDS_MAX 16384u

static int check_kind(const PX_PB(ManualCompactionRequest) *req, const struct px_coll *coll,
                      struct status *st)
{
    int rc = 0;

    if (req->majorcompaction) {
        for (size_t i = 0; i < coll->schema->nfields; i++) {
            if (coll->schema->fields[i].is_clustering_key) {
                FAIL(st, ERR_CLUSTERING_NOT_SUPPORTED, "%s[collection=%s]",
                     err_text(ERR_CLUSTERING_NOT_SUPPORTED), coll->pb->name);
            }
        }
        FAIL(st, ERR_NO_CLUSTERING_KEY, "%s[collection=%s]: it has no clustering key",
             err_text(ERR_NO_CLUSTERING_KEY), coll->pb->name);
    }
    if (req->target_size < 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "invalid parameter[target_size=%lld]: it is a size in MB, at "
             "least 1", (long long)req->target_size);
    }
    if (req->n_segment_ids > SEGMENT_IDS_MAX) {
        FAIL(st, ERR_PARAMETER_INVALID, "invalid parameter[segment_ids]: %zu of them, at most %u",
             req->n_segment_ids, SEGMENT_IDS_MAX);
    }
out:
    return rc;
}

int px_manual_compaction(struct px_call *pc, const PX_PB(ManualCompactionRequest) *req,
                         PX_PB(ManualCompactionResponse) *resp, struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__CompactSegmentsReq r = ELANUS__COMPACT_SEGMENTS_REQ__INIT;
    Elanus__CompactSegmentsResp made = ELANUS__COMPACT_SEGMENTS_RESP__INIT;
    const struct px_coll *coll;
    int64_t partition = req->partition_id;
    int rc;

    if (req->collection_name[0] != '\0') {
        TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    } else {
        TRY(px_collection_or_id(pc, req->db_name, "", req->collectionid, &coll, st));
    }
    TRY(check_kind(req, coll, st));
    r.collection_id = coll->pb->id;
    if (partition > 0) {
        r.partition_ids = &partition;
        r.n_partition_ids = 1;
    }
    r.vchannel = req->channel;
    r.segment_ids = req->segment_ids;
    r.n_segment_ids = req->n_segment_ids;
    if (req->target_size > 0 && req->target_size <= TARGET_MB_MAX) {
        r.target_bytes = req->target_size * 1048576;
    }
    r.deletes_only = req->l0compaction;
    TRY(data->compact(data->self, &pc->call, &r, &made, st));
    resp->compactionid = made.compaction_id;
    resp->compactionplancount = made.plan_count;
out:
    return rc;
}

/* ---- what became of it ---- */

static int plans_of(struct px_call *pc, int64_t id, Elanus__CompactionStateResp *ret,
                    struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__CompactionStateReq r = ELANUS__COMPACTION_STATE_REQ__INIT;

    r.compaction_id = id;
    return data->compaction_state(data->self, &pc->call, &r, ret, st);
}

static bool is_executing(const Elanus__CompactionPlan *p)
{
    return p->state == ELANUS__COMPACTION_PLAN_STATE__PLAN_WAITING ||
           p->state == ELANUS__COMPACTION_PLAN_STATE__PLAN_RUNNING;
}

static Milvus__Proto__Common__CompactionState state_of(const Elanus__CompactionStateResp *plans)
{
    bool executing = plans->waiting;

    for (size_t i = 0; i < plans->n_plans; i++) {
        executing |= is_executing(plans->plans[i]);
    }
    return executing ? MILVUS__PROTO__COMMON__COMPACTION_STATE__Executing
                     : MILVUS__PROTO__COMMON__COMPACTION_STATE__Completed;
}

int px_get_compaction_state(struct px_call *pc, const PX_PB(GetCompactionStateRequest) *req,
                            PX_PB(GetCompactionStateResponse) *resp, struct status *st)
{
    Elanus__CompactionStateResp plans = ELANUS__COMPACTION_STATE_RESP__INIT;
    int rc;

    TRY(plans_of(pc, req->compactionid, &plans, st));
    resp->state = state_of(&plans);
    resp->executingplanno = plans.waiting;
    for (size_t i = 0; i < plans.n_plans; i++) {
        const Elanus__CompactionPlan *p = plans.plans[i];
        resp->executingplanno += is_executing(p);
        resp->completedplanno += p->state == ELANUS__COMPACTION_PLAN_STATE__PLAN_DONE;
        resp->failedplanno += p->state == ELANUS__COMPACTION_PLAN_STATE__PLAN_FAILED;
    }
out:
    return rc;
}

static PX_PB(CompactionMergeInfo) *merge_info(const Elanus__CompactionPlan *p, int64_t trigger,
                                              struct arena *ar)
{
    static const Milvus__Proto__Common__CompactionTaskState states[] = {
        [ELANUS__COMPACTION_PLAN_STATE__PLAN_WAITING] =
            MILVUS__PROTO__COMMON__COMPACTION_TASK_STATE__CompactionTaskStatePipelining,
        [ELANUS__COMPACTION_PLAN_STATE__PLAN_RUNNING] =
            MILVUS__PROTO__COMMON__COMPACTION_TASK_STATE__CompactionTaskStateExecuting,
        [ELANUS__COMPACTION_PLAN_STATE__PLAN_DONE] =
            MILVUS__PROTO__COMMON__COMPACTION_TASK_STATE__CompactionTaskStateCompleted,
        [ELANUS__COMPACTION_PLAN_STATE__PLAN_FAILED] =
            MILVUS__PROTO__COMMON__COMPACTION_TASK_STATE__CompactionTaskStateFailed,
    };
    PX_PB(CompactionMergeInfo) *m = ARENA_NEW(ar, PX_PB(CompactionMergeInfo));

    milvus__proto__milvus__compaction_merge_info__init(m);
    m->sources = p->sources;
    m->n_sources = p->n_sources;
    m->target = p->target ? p->target : -1; /* not made yet */
    m->targets = arena_alloc(ar, sizeof m->targets[0]);
    m->targets[0] = p->target;
    m->n_targets = p->target ? 1 : 0;
    m->plan_id = p->id;
    m->trigger_id = trigger;
    m->collection_id = p->collection_id;
    m->partition_id = p->partition_id;
    m->channel = p->vchannel;
    m->type = MILVUS__PROTO__COMMON__COMPACTION_TYPE__CompactionTypeMix;
    m->state = states[p->state];
    m->failure_reason = p->failure;
    return m;
}

int px_get_compaction_state_with_plans(struct px_call *pc,
                                       const PX_PB(GetCompactionPlansRequest) *req,
                                       PX_PB(GetCompactionPlansResponse) *resp, struct status *st)
{
    Elanus__CompactionStateResp plans = ELANUS__COMPACTION_STATE_RESP__INIT;
    int rc;

    TRY(plans_of(pc, req->compactionid, &plans, st));
    resp->state = state_of(&plans);
    resp->mergeinfos = arena_alloc(pc->ar, (plans.n_plans + 1) * sizeof resp->mergeinfos[0]);
    for (size_t i = 0; i < plans.n_plans; i++) {
        resp->mergeinfos[resp->n_mergeinfos++] = merge_info(plans.plans[i], req->compactionid, pc->ar);
    }
out:
    return rc;
}
