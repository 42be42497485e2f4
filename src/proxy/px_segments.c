/*
 * px_segments.c - segments and replicas, for tools that look inside.
 *
 * THREADS  Workers.
 */
#include "proxy/px_methods.h"

#define DEFAULT_RESOURCE_GROUP "__default_resource_group"

static Milvus__Proto__Common__SegmentState api_state(Elanus__SegState s)
{
    switch (s) {
    case ELANUS__SEG_STATE__SEG_GROWING:
        return MILVUS__PROTO__COMMON__SEGMENT_STATE__Growing;
    case ELANUS__SEG_STATE__SEG_SEALED:
        return MILVUS__PROTO__COMMON__SEGMENT_STATE__Sealed;
    case ELANUS__SEG_STATE__SEG_FLUSHED:
        return MILVUS__PROTO__COMMON__SEGMENT_STATE__Flushed;
    case ELANUS__SEG_STATE__SEG_DROPPED:
        return MILVUS__PROTO__COMMON__SEGMENT_STATE__Dropped;
    default:
        return MILVUS__PROTO__COMMON__SEGMENT_STATE__SegmentStateNone;
    }
}

static int list_flushed(struct px_call *pc, int64_t collection_id, Elanus__SegmentsResp *ret,
                        struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__SegmentsReq r = ELANUS__SEGMENTS_REQ__INIT;

    r.collection_id = collection_id;
    return data->list_segments(data->self, &pc->call, &r, ret, st);
}

static int locate(struct px_call *pc, int64_t collection_id, Elanus__LocateResp *ret,
                  struct status *st)
{
    const struct streaming_service *streaming = pc->px->opts.streaming;
    Elanus__LocateReq r = ELANUS__LOCATE_REQ__INIT;

    r.collection_id = collection_id;
    return streaming->locate(streaming->self, &pc->call, &r, ret, st);
}

/* ---- persistent ---- */

static bool wanted(const PX_PB(GetPersistentSegmentInfoRequest) *req,
                   Milvus__Proto__Common__SegmentState state)
{
    for (size_t i = 0; i < req->n_states; i++) {
        if (req->states[i] == state) {
            return true;
        }
    }
    return req->n_states == 0;
}

int px_get_persistent_segment_info(struct px_call *pc,
                                   const PX_PB(GetPersistentSegmentInfoRequest) *req,
                                   PX_PB(GetPersistentSegmentInfoResponse) *resp,
                                   struct status *st)
{
    Elanus__SegmentsResp all = ELANUS__SEGMENTS_RESP__INIT;
    const struct px_coll *coll;
    int rc;

    TRY(px_collection(pc, req->dbname, req->collectionname, &coll, st));
    TRY(list_flushed(pc, coll->pb->id, &all, st));
    resp->infos = arena_alloc(pc->ar, (all.n_segments + 1) * sizeof resp->infos[0]);
    for (size_t i = 0; i < all.n_segments; i++) {
        const Elanus__Segment *seg = all.segments[i];
        PX_PB(PersistentSegmentInfo) *info;
        if (!wanted(req, api_state(seg->state))) {
            continue;
        }
        info = ARENA_NEW(pc->ar, PX_PB(PersistentSegmentInfo));
        milvus__proto__milvus__persistent_segment_info__init(info);
        info->segmentid = seg->id;
        info->collectionid = seg->collection_id;
        info->partitionid = seg->partition_id;
        info->num_rows = seg->num_rows;
        info->state = api_state(seg->state);
        info->storage_version = seg->format_version;
        info->insert_channel = seg->vchannel;
        resp->infos[resp->n_infos++] = info;
    }
out:
    return rc;
}

/* ---- loaded ---- */

struct infos {
    struct arena *ar;
    size_t n, cap;
    PX_PB(QuerySegmentInfo) **v;
};

static void add_info(struct infos *l, const struct px_coll *coll, const Elanus__Segment *seg,
                     int64_t node_id)
{
    const Elanus__Index *idx = coll->first_vector ? px_index_of(coll, coll->first_vector->id)
                                                  : NULL;
    PX_PB(QuerySegmentInfo) *info = ARENA_NEW(l->ar, PX_PB(QuerySegmentInfo));

    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        PX_PB(QuerySegmentInfo) **v = arena_alloc(l->ar, cap * sizeof v[0]);
        if (l->n) {
            memcpy(v, l->v, l->n * sizeof v[0]);
        }
        l->v = v;
        l->cap = cap;
    }
    milvus__proto__milvus__query_segment_info__init(info);
    info->segmentid = seg->id;
    info->collectionid = coll->pb->id;
    info->partitionid = seg->partition_id;
    info->mem_size = seg->size_bytes;
    info->num_rows = seg->num_rows;
    info->index_name = idx ? idx->name : "";
    info->indexid = idx ? idx->id : 0;
    info->nodeid = node_id;
    info->nodeids = arena_alloc(l->ar, sizeof info->nodeids[0]);
    info->nodeids[0] = node_id;
    info->n_nodeids = 1;
    info->state = api_state(seg->state);
    info->storage_version = seg->format_version;
    l->v[l->n++] = info;
}

/* Flushed segments of one shard with the query nodes that hold them. */
static int add_placed(struct px_call *pc, const struct px_coll *coll, const char *vchannel,
                      const Elanus__SegmentsResp *all, struct infos *l, struct status *st)
{
    const struct query_service *query = pc->px->opts.query;
    Elanus__PlaceSegmentsReq r = ELANUS__PLACE_SEGMENTS_REQ__INIT;
    Elanus__PlaceSegmentsResp placed = ELANUS__PLACE_SEGMENTS_RESP__INIT;
    int rc = 0;

    r.collection_id = coll->pb->id;
    r.vchannel = vchannel;
    r.segment_ids = arena_alloc(pc->ar, (all->n_segments + 1) * sizeof r.segment_ids[0]);
    for (size_t i = 0; i < all->n_segments; i++) {
        if (strcmp(all->segments[i]->vchannel, vchannel) == 0) {
            r.segment_ids[r.n_segment_ids++] = all->segments[i]->id;
        }
    }
    if (r.n_segment_ids == 0) {
        goto out;
    }
    TRY(query->place_segments(query->self, &pc->call, &r, &placed, st));
    for (size_t i = 0; i < placed.n_placements; i++) {
        for (size_t j = 0; j < all->n_segments; j++) {
            if (all->segments[j]->id == placed.placements[i]->segment_id) {
                add_info(l, coll, all->segments[j], placed.placements[i]->node_id);
            }
        }
    }
out:
    return rc;
}

static int add_growing(struct px_call *pc, const struct px_coll *coll,
                       const struct px_shard *shard, int64_t node_id, struct infos *l,
                       struct status *st)
{
    Elanus__ShardReq r = ELANUS__SHARD_REQ__INIT;
    Elanus__ShardStatsResp stats = ELANUS__SHARD_STATS_RESP__INIT;
    int rc;

    r.vchannel = shard->vchannel;
    TRY(shard->sn->stats(shard->sn->self, &pc->call, &r, &stats, st));
    for (size_t i = 0; i < stats.n_shards; i++) {
        for (size_t j = 0; j < stats.shards[i]->n_growing; j++) {
            add_info(l, coll, stats.shards[i]->growing[j], node_id);
        }
    }
out:
    return rc;
}

static int64_t owner_of(const Elanus__LocateResp *at, const char *vchannel)
{
    for (size_t i = 0; i < at->n_shards; i++) {
        if (strcmp(at->shards[i]->vchannel, vchannel) == 0) {
            return at->shards[i]->node_id;
        }
    }
    return 0;
}

int px_get_query_segment_info(struct px_call *pc, const PX_PB(GetQuerySegmentInfoRequest) *req,
                              PX_PB(GetQuerySegmentInfoResponse) *resp, struct status *st)
{
    Elanus__SegmentsResp all = ELANUS__SEGMENTS_RESP__INIT;
    Elanus__LocateResp at = ELANUS__LOCATE_RESP__INIT;
    struct infos l = { .ar = pc->ar };
    const struct px_coll *coll;
    struct px_shard *shards;
    size_t nshards;
    int rc;

    TRY(px_collection_loaded(pc, req->dbname, req->collectionname, &coll, st));
    TRY(list_flushed(pc, coll->pb->id, &all, st));
    TRY(locate(pc, coll->pb->id, &at, st));
    TRY(px_shards(pc, coll, &shards, &nshards, st));
    for (size_t i = 0; i < nshards; i++) {
        TRY(add_placed(pc, coll, shards[i].vchannel, &all, &l, st));
        TRY(add_growing(pc, coll, &shards[i], owner_of(&at, shards[i].vchannel), &l, st));
    }
    resp->infos = l.v;
    resp->n_infos = l.n;
out:
    return rc;
}

/* ---- replicas ---- */

static PX_PB(ShardReplica) *shard_replica(struct arena *ar, const Elanus__ShardLocation *at)
{
    PX_PB(ShardReplica) *s = ARENA_NEW(ar, PX_PB(ShardReplica));

    milvus__proto__milvus__shard_replica__init(s);
    s->leaderid = at->node_id;
    s->leader_addr = at->address;
    s->dm_channel_name = at->vchannel;
    s->node_ids = arena_alloc(ar, sizeof s->node_ids[0]);
    s->node_ids[0] = at->node_id;
    s->n_node_ids = 1;
    return s;
}

static void add_node(PX_PB(ReplicaInfo) *r, int64_t node_id)
{
    for (size_t i = 0; i < r->n_node_ids; i++) {
        if (r->node_ids[i] == node_id) {
            return;
        }
    }
    r->node_ids[r->n_node_ids++] = node_id;
}

/* There is one replica of everything that is loaded; it is known by its collection's id. */
int px_get_replicas(struct px_call *pc, const PX_PB(GetReplicasRequest) *req,
                    PX_PB(GetReplicasResponse) *resp, struct status *st)
{
    Elanus__LocateResp at = ELANUS__LOCATE_RESP__INIT;
    PX_PB(ReplicaInfo) *r;
    const struct px_coll *coll;
    int rc;

    if (req->collection_name[0] != '\0') {
        TRY(px_collection_loaded(pc, req->db_name, req->collection_name, &coll, st));
    } else {
        TRY(px_collection_or_id(pc, req->db_name, "", req->collectionid, &coll, st));
        TRY(px_collection_loaded(pc, coll->pb->db_name, coll->pb->name, &coll, st));
    }
    TRY(locate(pc, coll->pb->id, &at, st));
    r = ARENA_NEW(pc->ar, PX_PB(ReplicaInfo));
    milvus__proto__milvus__replica_info__init(r);
    r->replicaid = coll->pb->id;
    r->collectionid = coll->pb->id;
    r->partition_ids = coll->info->load->partition_ids;
    r->n_partition_ids = coll->info->load->n_partition_ids;
    r->resource_group_name = DEFAULT_RESOURCE_GROUP;
    r->node_ids = arena_alloc(pc->ar, (at.n_shards + 1) * sizeof r->node_ids[0]);
    r->shard_replicas = arena_alloc(pc->ar, (at.n_shards + 1) * sizeof r->shard_replicas[0]);
    for (size_t i = 0; i < at.n_shards; i++) {
        add_node(r, at.shards[i]->node_id);
        r->shard_replicas[r->n_shard_replicas++] = shard_replica(pc->ar, at.shards[i]);
    }
    resp->replicas = arena_alloc(pc->ar, sizeof resp->replicas[0]);
    resp->replicas[0] = r;
    resp->n_replicas = 1;
out:
    return rc;
}
