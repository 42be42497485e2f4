/*
 * px_describe.c - what there is: one collection in the client's terms, lists, row counts.
 *
 * THREADS  Workers.
 */
#include "proxy/px_methods.h"
#include <inttypes.h>

/* Clients see their own fields: neither the system's (ids below 100) nor $meta. */
static Milvus__Proto__Schema__CollectionSchema *
visible_schema(const Milvus__Proto__Schema__CollectionSchema *s, const char *name, struct arena *ar)
{
    Milvus__Proto__Schema__CollectionSchema *v =
        ARENA_NEW(ar, Milvus__Proto__Schema__CollectionSchema);

    *v = *s;
    v->name = name;
    v->fields = arena_alloc(ar, (s->n_fields + 1) * sizeof v->fields[0]);
    v->n_fields = 0;
    for (size_t i = 0; i < s->n_fields; i++) {
        if (s->fields[i]->fieldid >= FIELD_FIRST_USER && !s->fields[i]->is_dynamic) {
            v->fields[v->n_fields++] = s->fields[i];
        }
    }
    return v;
}

/* "dml_0" of "dml_0_4711v0". */
static const char *physical_channel(const char *vchannel, struct arena *ar)
{
    const char *end = strrchr(vchannel, '_');

    return end ? arena_strndup(ar, vchannel, (size_t)(end - vchannel)) : vchannel;
}

static void describe(const struct px_coll *coll, struct arena *ar,
                     PX_PB(DescribeCollectionResponse) *resp)
{
    const Elanus__Collection *pb = coll->pb;

    resp->schema = visible_schema(pb->schema, pb->name, ar);
    resp->collectionid = pb->id;
    resp->collection_name = pb->name;
    resp->db_name = pb->db_name;
    resp->db_id = strcmp(pb->db_name, DEFAULT_DATABASE) == 0; /* others' ids are not cached */
    resp->shards_num = (int32_t)pb->n_vchannels;
    resp->virtual_channel_names = pb->vchannels;
    resp->n_virtual_channel_names = pb->n_vchannels;
    resp->physical_channel_names = arena_alloc(ar, (pb->n_vchannels + 1) * sizeof(char *));
    resp->n_physical_channel_names = pb->n_vchannels;
    for (size_t i = 0; i < pb->n_vchannels; i++) {
        resp->physical_channel_names[i] = physical_channel(pb->vchannels[i], ar);
    }
    resp->num_partitions = coll->schema->partition_key ? pb->num_partitions : 1;
    resp->aliases = coll->info->aliases;
    resp->n_aliases = coll->info->n_aliases;
    resp->consistency_level = (Milvus__Proto__Common__ConsistencyLevel)pb->consistency_level;
    resp->properties = pb->properties;
    resp->n_properties = pb->n_properties;
    resp->created_timestamp = pb->created_ts;
    resp->created_utc_timestamp = (uint64_t)hts_physical_ms(pb->created_ts);
    resp->update_timestamp = pb->update_ts;
    resp->update_timestamp_str = arena_printf(ar, "%" PRIu64, pb->update_ts);
}

int px_describe_collection(struct px_call *pc, const PX_PB(DescribeCollectionRequest) *req,
                           PX_PB(DescribeCollectionResponse) *resp, struct status *st)
{
    const struct px_coll *coll;
    int rc;

    TRY(px_collection_or_id(pc, req->db_name, req->collection_name, req->collectionid, &coll, st));
    describe(coll, pc->ar, resp);
out:
    return rc;
}

int px_batch_describe_collection(struct px_call *pc,
                                 const PX_PB(BatchDescribeCollectionRequest) *req,
                                 PX_PB(BatchDescribeCollectionResponse) *resp, struct status *st)
{
    size_t n = req->n_collection_name ? req->n_collection_name : req->n_collectionid;
    int rc = 0;

    resp->responses = arena_try_array(pc->ar, n + 1, sizeof resp->responses[0]);
    if (!resp->responses) {
        FAIL(st, ST_NO_MEMORY, "%zu collections are too many for one request", n);
    }
    for (size_t i = 0; i < n; i++) {
        PX_PB(DescribeCollectionResponse) *one = ARENA_NEW(pc->ar,
                                                           PX_PB(DescribeCollectionResponse));
        const char *name = req->n_collection_name ? req->collection_name[i] : "";
        int64_t id = req->n_collection_name ? 0 : req->collectionid[i];
        struct status why = STATUS_INIT;
        const struct px_coll *coll;

        milvus__proto__milvus__describe_collection_response__init(one);
        if (px_collection_or_id(pc, req->db_name, name, id, &coll, &why) == 0) {
            describe(coll, pc->ar, one);
        }
        one->status = ARENA_NEW(pc->ar, px_status_pb);
        px_status_fill(one->status, &why, pc->ar);
        resp->responses[resp->n_responses++] = one;
    }
out:
    return rc;
}

int px_has_collection(struct px_call *pc, const PX_PB(HasCollectionRequest) *req,
                      PX_PB(BoolResponse) *resp, struct status *st)
{
    const struct px_coll *coll;
    int rc = px_collection(pc, req->db_name, req->collection_name, &coll, st);

    if (rc == ERR_COLLECTION_NOT_FOUND) {
        st_clear(st);
        return 0;
    }
    resp->value = rc == 0;
    return rc;
}

/* ---- lists ---- */

static bool asked_for(const PX_PB(ShowCollectionsRequest) *req, const char *name)
{
    for (size_t i = 0; i < req->n_collection_names; i++) {
        if (strcmp(req->collection_names[i], name) == 0) {
            return true;
        }
    }
    return req->n_collection_names == 0;
}

int px_show_collections(struct px_call *pc, const PX_PB(ShowCollectionsRequest) *req,
                        PX_PB(ShowCollectionsResponse) *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    bool in_memory = req->type == MILVUS__PROTO__MILVUS__SHOW_TYPE__InMemory;
    Elanus__ListCollectionsReq r = ELANUS__LIST_COLLECTIONS_REQ__INIT;
    Elanus__CollectionList list = ELANUS__COLLECTION_LIST__INIT;
    size_t n;
    int rc;

    r.db_name = px_db(pc, req->db_name);
    TRY(root->list_collections(root->self, &pc->call, &r, &list, st));
    n = list.n_collections + 1;
    resp->collection_names = arena_alloc(pc->ar, n * sizeof resp->collection_names[0]);
    resp->collection_ids = arena_alloc(pc->ar, n * sizeof resp->collection_ids[0]);
    resp->created_timestamps = arena_alloc(pc->ar, n * sizeof resp->created_timestamps[0]);
    resp->created_utc_timestamps = arena_alloc(pc->ar, n * sizeof resp->created_utc_timestamps[0]);
    resp->inmemory_percentages = arena_alloc(pc->ar, n * sizeof resp->inmemory_percentages[0]);
    resp->query_service_available = arena_alloc(pc->ar,
                                                n * sizeof resp->query_service_available[0]);
    resp->shards_num = arena_alloc(pc->ar, n * sizeof resp->shards_num[0]);
    n = 0;
    for (size_t i = 0; i < list.n_collections; i++) {
        const Elanus__CollectionInfo *info = list.collections[i];
        const Elanus__Collection *pb = info->collection;
        if (!pb || (in_memory && !px_is_loaded(info)) || !asked_for(req, pb->name)) {
            continue;
        }
        resp->collection_names[n] = pb->name;
        resp->collection_ids[n] = pb->id;
        resp->created_timestamps[n] = pb->created_ts;
        resp->created_utc_timestamps[n] = (uint64_t)hts_physical_ms(pb->created_ts);
        resp->inmemory_percentages[n] = 100;
        resp->query_service_available[n] = true;
        resp->shards_num[n++] = (int32_t)pb->n_vchannels;
    }
    resp->n_collection_names = resp->n_collection_ids = n;
    resp->n_created_timestamps = resp->n_created_utc_timestamps = resp->n_shards_num = n;
    resp->n_inmemory_percentages = resp->n_query_service_available = in_memory ? n : 0;
out:
    return rc;
}

/* ---- row counts ---- */

static px_kv_pb **row_count(int64_t rows, struct arena *ar)
{
    struct px_kv_list l = { 0 };

    px_kv_add(&l, ar, "row_count", arena_printf(ar, "%" PRId64, rows));
    return l.kv;
}

int px_get_collection_statistics(struct px_call *pc,
                                 const PX_PB(GetCollectionStatisticsRequest) *req,
                                 PX_PB(GetCollectionStatisticsResponse) *resp, struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__StatsReq r = ELANUS__STATS_REQ__INIT;
    Elanus__StatsResp stats = ELANUS__STATS_RESP__INIT;
    const struct px_coll *coll;
    int rc;

    TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    r.collection_id = coll->pb->id;
    TRY(data->stats(data->self, &pc->call, &r, &stats, st));
    resp->stats = row_count(stats.row_count, pc->ar);
    resp->n_stats = 1;
out:
    return rc;
}

int px_get_partition_statistics(struct px_call *pc, const PX_PB(GetPartitionStatisticsRequest) *req,
                                PX_PB(GetPartitionStatisticsResponse) *resp, struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__StatsReq r = ELANUS__STATS_REQ__INIT;
    Elanus__StatsResp stats = ELANUS__STATS_RESP__INIT;
    const Elanus__Partition *part;
    const struct px_coll *coll;
    int64_t id;
    int rc;

    TRY(px_collection_fresh(pc, req->db_name, req->collection_name, &coll, st));
    part = px_partition(coll, slice_of(req->partition_name));
    if (!part) {
        FAIL(st, ERR_PARTITION_NOT_FOUND, "%s[partition=%s]", err_text(ERR_PARTITION_NOT_FOUND),
             req->partition_name);
    }
    id = part->id;
    r.collection_id = coll->pb->id;
    r.partition_ids = &id;
    r.n_partition_ids = 1;
    TRY(data->stats(data->self, &pc->call, &r, &stats, st));
    resp->stats = row_count(stats.row_count, pc->ar);
    resp->n_stats = 1;
out:
    return rc;
}
