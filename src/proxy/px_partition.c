/*
 * px_partition.c - partitions: create, drop, list.
 *
 * THREADS  Workers.
 */
#include "proxy/px_methods.h"

int px_create_partition(struct px_call *pc, const PX_PB(CreatePartitionRequest) *req,
                        px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__PartitionReq r = ELANUS__PARTITION_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    TRY(px_check_collection_name(pc->px, req->collection_name, st));
    TRY(px_check_partition_name(pc->px, req->partition_name, st));
    r.db_name = px_db(pc, req->db_name);
    r.collection_name = req->collection_name;
    r.partition_name = req->partition_name;
    TRY(root->create_partition(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_drop_partition(struct px_call *pc, const PX_PB(DropPartitionRequest) *req,
                      px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__PartitionReq r = ELANUS__PARTITION_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    TRY(px_check_collection_name(pc->px, req->collection_name, st));
    TRY(px_check_partition_name(pc->px, req->partition_name, st));
    r.db_name = px_db(pc, req->db_name);
    r.collection_name = req->collection_name;
    r.partition_name = req->partition_name;
    TRY(root->drop_partition(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_has_partition(struct px_call *pc, const PX_PB(HasPartitionRequest) *req,
                     PX_PB(BoolResponse) *resp, struct status *st)
{
    const struct px_coll *coll;
    int rc;

    TRY(px_check_partition_name(pc->px, req->partition_name, st));
    TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    resp->value = px_partition(coll, slice_of(req->partition_name)) != NULL;
out:
    return rc;
}

/* ---- list ---- */

static bool is_loaded(const Elanus__CollectionInfo *info, int64_t partition_id)
{
    for (size_t i = 0; px_is_loaded(info) && i < info->load->n_partition_ids; i++) {
        if (info->load->partition_ids[i] == partition_id) {
            return true;
        }
    }
    return false;
}

static void add(PX_PB(ShowPartitionsResponse) *resp, const Elanus__Partition *p)
{
    size_t n = resp->n_partition_names++;

    resp->partition_names[n] = p->name;
    resp->partitionids[n] = p->id;
    resp->created_timestamps[n] = p->created_ts;
    resp->created_utc_timestamps[n] = (uint64_t)hts_physical_ms(p->created_ts);
    resp->inmemory_percentages[n] = 100;
}

/* The partitions named, or all; with type InMemory only loaded ones. */
static int collect(const PX_PB(ShowPartitionsRequest) *req, const struct px_coll *coll,
                   PX_PB(ShowPartitionsResponse) *resp, struct status *st)
{
    bool in_memory = req->type == MILVUS__PROTO__MILVUS__SHOW_TYPE__InMemory;
    bool all = req->n_partition_names == 0;
    size_t n = all ? coll->info->n_partitions : req->n_partition_names;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        const Elanus__Partition *p = all ? coll->info->partitions[i]
                                         : px_partition(coll, slice_of(req->partition_names[i]));
        bool loaded = p && is_loaded(coll->info, p->id);
        if (!p) {
            FAIL(st, ERR_PARTITION_NOT_FOUND, "%s[partition=%s]",
                 err_text(ERR_PARTITION_NOT_FOUND), req->partition_names[i]);
        }
        if (in_memory && !loaded && !all) {
            FAIL(st, ERR_PARTITION_NOT_LOADED, "%s[partition=%s]",
                 err_text(ERR_PARTITION_NOT_LOADED), p->name);
        }
        if (loaded || !in_memory) {
            add(resp, p);
        }
    }
out:
    return rc;
}

int px_show_partitions(struct px_call *pc, const PX_PB(ShowPartitionsRequest) *req,
                       PX_PB(ShowPartitionsResponse) *resp, struct status *st)
{
    bool in_memory = req->type == MILVUS__PROTO__MILVUS__SHOW_TYPE__InMemory;
    const struct px_coll *coll;
    size_t n;
    int rc;

    if (req->collection_name[0] != '\0') {
        TRY(px_collection_fresh(pc, req->db_name, req->collection_name, &coll, st));
    } else {
        TRY(px_collection_or_id(pc, req->db_name, "", req->collectionid, &coll, st));
    }
    if (req->n_partition_names > pc->px->lim.max_partitions) {
        FAIL(st, ERR_PARAMETER_INVALID, "%zu partitions are named, a collection has at most %u",
             req->n_partition_names, pc->px->lim.max_partitions);
    }
    n = MAX(coll->info->n_partitions, req->n_partition_names) + 1;
    resp->partition_names = arena_alloc(pc->ar, n * sizeof resp->partition_names[0]);
    resp->partitionids = arena_alloc(pc->ar, n * sizeof resp->partitionids[0]);
    resp->created_timestamps = arena_alloc(pc->ar, n * sizeof resp->created_timestamps[0]);
    resp->created_utc_timestamps = arena_alloc(pc->ar, n * sizeof resp->created_utc_timestamps[0]);
    resp->inmemory_percentages = arena_alloc(pc->ar, n * sizeof resp->inmemory_percentages[0]);
    TRY(collect(req, coll, resp, st));
    n = resp->n_partition_names;
    resp->n_partitionids = resp->n_created_timestamps = resp->n_created_utc_timestamps = n;
    resp->n_inmemory_percentages = in_memory ? n : 0;
out:
    return rc;
}
