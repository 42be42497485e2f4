/*
 * coord_fixture.h - a coordinator over a metadata store in memory, with nodes and a proxy that only
 * write down what they are told.
 *
 * Nodes call back into the coordinator from inside its calls, as real ones do, so a lock held where
 * it must not be shows as a deadlock or a rank failure.
 */
#pragma once
#include "unit.h"
#define LOG_ROOM "test"
#include "base/log.h"
#include "coord/co_int.h"
#include <stdio.h>

enum { SN_ID = 11, QN_ID = 21, QN2_ID = 22, DN_ID = 31, DN2_ID = 32 };

static const struct config_row fx_rows[] = {
#define CONFIG_ROW(key, type, def, min, max, choices, unit, reload, help)                          \
    { key, CONFIG_##type, def, min, max, choices, unit, reload, help },
#include "coord/coord_config.def"
#undef CONFIG_ROW
};

struct fx {
    char *dir;
    struct meta *meta;
    struct object_store *os;
    struct svc_dir *svc;
    struct config *cfg;
    struct coord *co;
    struct arena *ar;
    struct call call;
    struct root_service root;
    struct data_service data;
    struct query_service query;
    struct streaming_service streaming;
    struct snode_service sn;
    struct qnode_service qn;
    struct dnode_service dn;
    struct proxy_service px;
    /* What the others were told, one word a call: "open(dml_0_4711v0,fresh) set_load(..)" */
    struct lock log_lock;
    char log[65536];
    const char *_Atomic fail_on; /* this call fails ... */
    int fail_code;       /* ... with this code, once */
    int64_t seal_ids[4];
    size_t nseal;
    bool seal_deletes;
    Elanus__ShardStats stats;
    struct id_map *on; /* streaming node: shards opened by hash of name */
    size_t placements_at_open, segments_at_open;
    int64_t load_status, load_partitions;
    _Atomic bool build_hold;
    _Atomic bool refuse_files; /* the query node reports each file it is told of, at once */
    _Atomic int building, most_building;
    _Atomic bool compact_hold;
    _Atomic bool compact_in_order; /* where that is asked for */
    _Atomic int64_t compact_rows; /* what is left of the sources; -1: all of it */
};

static inline void fx_log(struct fx *fx, const char *what, const char *arg)
{
    lock_acquire(&fx->log_lock);
    size_t n = strlen(fx->log);
    if (n < sizeof fx->log - 300) {
        snprintf(fx->log + n, sizeof fx->log - n, "%s(%s) ", what, arg);
    }
    lock_release(&fx->log_lock);
}
static inline int fx_fail(struct fx *fx, const char *what, struct status *st)
{
    const char *on = fx->fail_on;
    if (on && strcmp(on, what) == 0 && atomic_compare_exchange_strong(&fx->fail_on, &on, NULL)) {
        return st_fail(st, fx->fail_code, "the node refuses %s", what);
    }
    return 0;
}
static inline bool fx_told(struct fx *fx, const char *text)
{
    lock_acquire(&fx->log_lock);
    bool told = strstr(fx->log, text) != NULL;
    lock_release(&fx->log_lock);
    return told;
}
static inline int fx_count(struct fx *fx, const char *text)
{
    int n = 0;
    lock_acquire(&fx->log_lock);
    for (const char *at = fx->log; (at = strstr(at, text)) != NULL; at++) {
        n++;
    }
    lock_release(&fx->log_lock);
    return n;
}
static inline void fx_forget(struct fx *fx)
{
    lock_acquire(&fx->log_lock);
    fx->log[0] = '\0';
    lock_release(&fx->log_lock);
}

/* A node needs ids and timestamps in the middle of whatever it does. */
static UNUSED void fx_call_back(struct fx *fx)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    struct status st = STATUS_INIT;
    Elanus__AllocReq req = ELANUS__ALLOC_REQ__INIT;
    Elanus__AllocResp resp = ELANUS__ALLOC_RESP__INIT;
    Elanus__PlaceSegmentsReq preq = ELANUS__PLACE_SEGMENTS_REQ__INIT;
    Elanus__PlaceSegmentsResp presp = ELANUS__PLACE_SEGMENTS_RESP__INIT;
    req.count = 1;
    ASSERT_OK(fx->root.alloc_ts(fx->root.self, &call, &req, &resp, &st));
    ASSERT_OK(fx->root.alloc_id(fx->root.self, &call, &req, &resp, &st));
    ASSERT_OK(fx->query.place_segments(fx->query.self, &call, &preq, &presp, &st));
    arena_free(ar);
}

static UNUSED int fx_open_shards(void *self, const struct call *call,
                                 const Elanus__OpenShardsReq *req, Elanus__Empty *resp,
                                 struct status *st)
{
    struct fx *fx = self;
    for (size_t i = 0; i < req->n_shards; i++) {
        char text[200];
        snprintf(text, sizeof text, "%s,term=%d,fresh=%d,load=%d,segs=%zu,parts=%zu",
                 req->shards[i]->shard->vchannel, (int)req->shards[i]->shard->term,
                 req->shards[i]->fresh, req->shards[i]->load ? 1 : 0,
                 req->shards[i]->n_segments, req->shards[i]->n_partition_ids);
        fx_log(fx, "open", text);
        fx->segments_at_open += req->shards[i]->n_segments;
        fx->placements_at_open += req->shards[i]->n_placements;
    }
    fx_call_back(fx);
    return fx_fail(fx, "open", st);
}
static UNUSED int fx_drop_shard(void *self, const struct call *call, const Elanus__ShardReq *req,
                         Elanus__Empty *resp, struct status *st)
{
    fx_log(self, "drop_shard", req->vchannel);
    fx_call_back(self);
    return fx_fail(self, "drop_shard", st);
}
static UNUSED int fx_update_collection(void *self, const struct call *call,
                                const Elanus__UpdateCollectionReq *req, Elanus__Empty *resp,
                                struct status *st)
{
    fx_log(self, "update", req->collection->name);
    fx_call_back(self);
    return fx_fail(self, "update", st);
}
static UNUSED int fx_drop_partition(void *self, const struct call *call,
                             const Elanus__DropPartitionReq *req, Elanus__Empty *resp,
                             struct status *st)
{
    fx_log(self, "drop_partition", req->vchannel);
    return fx_fail(self, "drop_partition", st);
}
static UNUSED int fx_write(void *self, const struct call *call, const Elanus__WriteReq *req,
                    Elanus__WriteResp *resp, struct status *st)
{
    return st_fail(st, ST_UNSUPPORTED, "no writes here");
}
static UNUSED int fx_seal(void *self, const struct call *call, const Elanus__SealReq *req,
                   Elanus__SealResp *resp, struct status *st)
{
    struct fx *fx = self;
    fx_log(fx, "seal", req->vchannel);
    resp->segment_ids = fx->seal_ids;
    resp->n_segment_ids = fx->nseal;
    resp->flush_ts = 77;
    resp->deletes = fx->seal_deletes;
    return fx_fail(fx, "seal", st);
}
static UNUSED int fx_set_load(void *self, const struct call *call, const Elanus__SetLoadReq *req,
                       Elanus__Empty *resp, struct status *st)
{
    struct fx *fx = self;
    char text[200];
    snprintf(text, sizeof text, "%s,status=%d,whole=%d,parts=%zu,placed=%zu", req->vchannel,
             (int)req->load->status, req->load->whole, req->load->n_partition_ids,
             req->n_placements);
    fx_log(fx, "set_load", text);
    fx_call_back(fx);
    fx->load_status = req->load->status;
    fx->load_partitions = (int64_t)req->load->n_partition_ids;
    return fx_fail(fx, "set_load", st);
}
static UNUSED int fx_sn_search(void *self, const struct call *call, const Elanus__SearchReq *req,
                        Elanus__SearchResp *resp, struct status *st)
{
    return st_fail(st, ST_UNSUPPORTED, "no reads here");
}
static UNUSED int fx_sn_query(void *self, const struct call *call, const Elanus__QueryReq *req,
                       Elanus__QueryResp *resp, struct status *st)
{
    return st_fail(st, ST_UNSUPPORTED, "no reads here");
}
static UNUSED int fx_sn_stats(void *self, const struct call *call, const Elanus__ShardReq *req,
                       Elanus__ShardStatsResp *resp, struct status *st)
{
    struct fx *fx = self;
    Elanus__ShardStats *s = arena_alloc(call->ar, sizeof *s);
    *s = fx->stats;
    s->vchannel = req->vchannel;
    resp->shards = arena_alloc(call->ar, sizeof s);
    resp->shards[0] = s;
    resp->n_shards = 1;
    return fx_fail(fx, "stats", st);
}
static UNUSED int fx_release_segments(void *self, const struct call *call,
                               const Elanus__ReleaseSegmentsReq *req, Elanus__Empty *resp,
                               struct status *st)
{
    char text[64];
    snprintf(text, sizeof text, "%zu", req->n_segment_ids);
    fx_log(self, "release", text);
    return fx_fail(self, "release", st);
}
static UNUSED void fx_refuse_files(struct fx *fx, int64_t collection_id)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    struct status st = STATUS_INIT;
    Elanus__SegmentIndexesReq req = ELANUS__SEGMENT_INDEXES_REQ__INIT;
    Elanus__SegmentIndexesResp resp = ELANUS__SEGMENT_INDEXES_RESP__INIT;
    Elanus__Empty none = ELANUS__EMPTY__INIT;
    req.collection_id = collection_id;
    ASSERT_OK(fx->data.segment_indexes(fx->data.self, &call, &req, &resp, &st));
    for (size_t i = 0; i < resp.n_files; i++) {
        Elanus__RejectIndexReq reject = ELANUS__REJECT_INDEX_REQ__INIT;
        reject.file = resp.files[i];
        reject.reason = "it aged";
        ASSERT_OK(fx->data.reject_index(fx->data.self, &call, &reject, &none, &st));
    }
    arena_free(ar);
}
static UNUSED int fx_refresh_indexes(void *self, const struct call *call,
                                     const Elanus__RefreshIndexesReq *req, Elanus__Empty *resp,
                                     struct status *st)
{
    char text[64];
    snprintf(text, sizeof text, "%zu,wait=%d", req->n_segment_ids, req->wait);
    fx_log(self, "refresh", text);
    fx_call_back(self);
    if (((struct fx *)self)->refuse_files) {
        fx_refuse_files(self, req->collection_id);
    }
    return fx_fail(self, "refresh", st);
}
/* Builds take as long as the test says: build_hold keeps them from ending (until cancelled). */
static UNUSED int fx_build_index(void *self, const struct call *call,
                                 const Elanus__BuildIndexReq *req, Elanus__BuildIndexResp *resp,
                                 struct status *st)
{
    struct fx *fx = self;
    struct file_part part = { req->object_key, strlen(req->object_key) };
    char text[100];
    int rc = 0;

    snprintf(text, sizeof text, "%" PRId64 ",%s", req->segment->id, req->index->name);
    fx_log(fx, "build", text);
    fx->building++;
    fx->most_building = MAX(fx->most_building, fx->building);
    while (fx->build_hold) {
        if (call->cancel && *call->cancel) {
            fx_log(fx, "cancelled", text);
            FAIL(st, ST_CANCELLED, "cancelled");
        }
        usleep(200);
    }
    TRY(fx_fail(fx, "build", st));
    TRY(object_put(fx->os, slice_of(req->object_key), &part, 1, st));
    resp->size_bytes = (int64_t)part.n;
    resp->format_version = 1;
    resp->params = "type=HNSW";
out:
    fx->building--;
    return rc;
}
static inline char *fx_ids(struct arena *ar, const int64_t *ids, size_t n)
{
    char *text = arena_strdup(ar, "");
    for (size_t i = 0; i < n; i++) {
        text = arena_printf(ar, "%s%s%" PRId64, text, i ? "+" : "", ids[i]);
    }
    return text;
}
/* Writes a file of any contents under the target's prefix. */
static UNUSED int fx_compact(void *self, const struct call *call, const Elanus__CompactReq *req,
                             Elanus__CompactResp *resp, struct status *st)
{
    struct fx *fx = self;
    struct arena *ar = arena_new(0);
    int64_t *ids = arena_alloc(ar, (req->n_sources + 1) * sizeof *ids), rows = 0;
    struct file_part part = { "rows", 4 };
    char *key = arena_printf(ar, "%s/rows.seg", req->target->object_prefix);
    int rc = 0;

    resp->min_ts = UINT64_MAX;
    for (size_t i = 0; i < req->n_sources; i++) {
        ids[i] = req->sources[i]->id;
        rows += req->sources[i]->num_rows;
        resp->min_ts = MIN(resp->min_ts, req->sources[i]->min_ts);
        resp->max_ts = MAX(resp->max_ts, req->sources[i]->max_ts);
    }
    fx_log(fx, "compact", arena_printf(ar, "%s,deltas=%zu,expire=%d",
                                       fx_ids(ar, ids, req->n_sources), req->n_deltas,
                                       req->expired_before != 0));
    if (req->order_by) {
        fx_log(fx, "order_by", req->order_by->name);
        resp->ordered_by = fx->compact_in_order ? req->order_by->field_id : 0;
    }
    while (fx->compact_hold) {
        if (call->cancel && *call->cancel) {
            fx_log(fx, "cancelled", "compact");
            FAIL(st, ST_CANCELLED, "cancelled");
        }
        usleep(200);
    }
    TRY(fx_fail(fx, "compact", st));
    resp->num_rows = fx->compact_rows >= 0 ? fx->compact_rows : rows;
    resp->size_bytes = resp->num_rows * 10;
    resp->format_version = 1;
    if (resp->num_rows) {
        TRY(object_put(fx->os, slice_of(key), &part, 1, st));
    }
out:
    arena_free(ar);
    return rc;
}
static UNUSED int fx_replace_segments(void *self, const struct call *call,
                                      const Elanus__ReplaceSegmentsReq *req, Elanus__Empty *resp,
                                      struct status *st)
{
    struct fx *fx = self;
    struct arena *ar = arena_new(0);
    int rc;
    (void)call;
    (void)resp;
    fx_log(fx, "replace", arena_printf(ar, "%s,rows=%" PRId64 ",deltas=%s",
                                       fx_ids(ar, req->source_ids, req->n_source_ids),
                                       req->target ? req->target->num_rows : 0,
                                       fx_ids(ar, req->gone_delta_ids, req->n_gone_delta_ids)));
    fx_call_back(fx);
    rc = fx_fail(fx, "replace", st);
    arena_free(ar);
    return rc;
}
static UNUSED int fx_invalidate(void *self, const struct call *call,
                                const Elanus__InvalidateReq *req, Elanus__Empty *resp,
                                struct status *st)
{
    for (size_t i = 0; i < req->n_names; i++) {
        char text[200];
        snprintf(text, sizeof text, "%s.%s", req->db_name, req->names[i]);
        fx_log(self, "forget", text);
    }
    return fx_fail(self, "invalidate", st);
}

static UNUSED int fx_register(struct fx *fx, int64_t id, const char *role, struct status *st)
{
    Elanus__NodeInfo node = ELANUS__NODE_INFO__INIT;
    Elanus__RegisterReq req = ELANUS__REGISTER_REQ__INIT;
    Elanus__RegisterResp resp = ELANUS__REGISTER_RESP__INIT;
    node.node_id = id;
    node.role = role;
    req.node = &node;
    return fx->streaming.register_node(fx->streaming.self, &fx->call, &req, &resp, st);
}

static UNUSED int fx_coord_start(struct fx *fx, struct status *st)
{
    struct coord_opts o = {
        .meta = fx->meta, .os = fx->os, .dir = fx->svc, .config = fx->cfg, .nodes_in_process = true
    };
    int rc = 0;
    TRY(coord_new(&o, &fx->co, st));
    fx->root = coord_root(fx->co);
    fx->data = coord_data(fx->co);
    fx->query = coord_query(fx->co);
    fx->streaming = coord_streaming(fx->co);
    coord_add_proxy(fx->co, &fx->px);
    TRY(coord_start(fx->co, st));
    TRY(fx_register(fx, QN_ID, "querynode", st));
    TRY(fx_register(fx, SN_ID, "streamingnode", st));
out:
    return rc;
}
static inline void fx_coord_stop(struct fx *fx)
{
    struct status st = STATUS_INIT;
    if (fx->co) {
        ASSERT_OK(co__validate(fx->co, &st));
        coord_stop(fx->co);
        coord_free(fx->co);
        fx->co = NULL;
    }
}
static inline void fx_restart(struct fx *fx)
{
    struct status st = STATUS_INIT;
    fx_coord_stop(fx);
    fx_forget(fx);
    fx->segments_at_open = fx->placements_at_open = 0;
    ASSERT_OK(fx_coord_start(fx, &st));
}

static UNUSED struct fx *fx_new(void)
{
    struct status st = STATUS_INIT;
    struct fx *fx = xalloc(sizeof *fx);
    char *path;
    lock_init(&fx->log_lock, RANK_LEAF);
    fx->dir = unit_tmp_dir();
    path = path_join(fx->dir, "objects");
    fx->meta = meta_mem_new();
    ASSERT_OK(object_local_open(path, &fx->os, &st));
    mem_free(path);
    fx->svc = svc_dir_new(NULL);
    fx->cfg = config_new(fx_rows, ARRAY_LEN(fx_rows));
    /* Tests of other things count segments. */
    ASSERT_OK(config_set(fx->cfg, "dataCoord.compaction.enableAutoCompaction", SLICE_LIT("false"),
                         &st));
    fx->ar = arena_new(0);
    fx->call = call_internal(fx->ar);
    elanus__shard_stats__init(&fx->stats);
    fx->sn = (struct snode_service){ .self = fx,
                                     .open_shards = fx_open_shards,
                                     .drop_shard = fx_drop_shard,
                                     .update_collection = fx_update_collection,
                                     .drop_partition = fx_drop_partition,
                                     .write = fx_write,
                                     .seal = fx_seal,
                                     .set_load = fx_set_load,
                                     .search = fx_sn_search,
                                     .query = fx_sn_query,
                                     .replace_segments = fx_replace_segments,
                                     .stats = fx_sn_stats };
    fx->qn = (struct qnode_service){ .self = fx,
                                     .release_segments = fx_release_segments,
                                     .refresh_indexes = fx_refresh_indexes };
    fx->dn = (struct dnode_service){ .self = fx, .build_index = fx_build_index,
                                     .compact = fx_compact };
    fx->compact_rows = -1;
    fx->px = (struct proxy_service){ .self = fx, .invalidate = fx_invalidate };
    svc_dir_add(fx->svc, SN_ID, &fx->sn, NULL);
    svc_dir_add(fx->svc, QN_ID, NULL, &fx->qn);
    svc_dir_add(fx->svc, QN2_ID, NULL, &fx->qn);
    svc_dir_add_dnode(fx->svc, DN_ID, &fx->dn);
    svc_dir_add_dnode(fx->svc, DN2_ID, &fx->dn);
    ASSERT_OK(fx_coord_start(fx, &st));
    return fx;
}
static UNUSED void fx_free(struct fx *fx)
{
    fx_coord_stop(fx);
    svc_dir_free(fx->svc);
    config_free(fx->cfg);
    meta_close(fx->meta);
    object_close(fx->os);
    arena_free(fx->ar);
    unit_tmp_remove(fx->dir);
    mem_free(fx);
}

/* ---- requests ---- */

static UNUSED pb_field *fx_field(struct fx *fx, const char *name, int type)
{
    pb_field *f = ARENA_NEW(fx->ar, pb_field);
    milvus__proto__schema__field_schema__init(f);
    f->name = name;
    f->data_type = (Milvus__Proto__Schema__DataType)type;
    return f;
}
static UNUSED pb_kv *fx_kv(struct fx *fx, const char *key, const char *value)
{
    pb_kv *kv = ARENA_NEW(fx->ar, pb_kv);
    milvus__proto__common__key_value_pair__init(kv);
    kv->key = key;
    kv->value = value;
    return kv;
}
static UNUSED void fx_param(struct fx *fx, pb_field *f, const char *key, const char *value)
{
    f->type_params = arena_alloc(fx->ar, sizeof(pb_kv *));
    f->type_params[0] = fx_kv(fx, key, value);
    f->n_type_params = 1;
}
/* id Int64 key, vec FloatVector 4, name VarChar 20. */
static UNUSED pb_schema *fx_schema(struct fx *fx, const char *name)
{
    pb_schema *s = ARENA_NEW(fx->ar, pb_schema);
    milvus__proto__schema__collection_schema__init(s);
    s->name = name;
    s->fields = arena_alloc(fx->ar, 4 * sizeof(pb_field *));
    s->fields[0] = fx_field(fx, "id", 5);
    s->fields[0]->is_primary_key = true;
    s->fields[1] = fx_field(fx, "vec", 101);
    fx_param(fx, s->fields[1], "dim", "4");
    s->fields[2] = fx_field(fx, "name", 21);
    fx_param(fx, s->fields[2], "max_length", "20");
    s->n_fields = 3;
    return s;
}
static UNUSED Elanus__CreateCollectionReq *fx_create_req(struct fx *fx, const char *db,
                                                         const char *name)
{
    Elanus__CreateCollectionReq *req = ARENA_NEW(fx->ar, Elanus__CreateCollectionReq);
    elanus__create_collection_req__init(req);
    req->db_name = db;
    req->schema = fx_schema(fx, name);
    req->shards_num = 1;
    return req;
}

/* CALL(fx, root, drop_collection, Empty, &req) -> code, message in fx_st, answer in resp. */
static struct status fx_st;
#define CALL(fx, service, method, req, resp)                                                       \
    (st_clear(&fx_st), (fx)->service.method((fx)->service.self, &(fx)->call, (req), (resp), &fx_st))
#define CALL_E(fx, service, method, req)                                                           \
    (fx_empty = (Elanus__Empty)ELANUS__EMPTY__INIT, CALL(fx, service, method, req, &fx_empty))
static Elanus__Empty fx_empty;

#define ASSERT_CALL(expr)                                                                          \
    do {                                                                                           \
        if ((expr) != 0) {                                                                         \
            fail_msg("%s: %d %s", #expr, fx_st.code, fx_st.msg);                                   \
        }                                                                                          \
    } while (0)
#define ASSERT_REFUSED(expr, wanted_code, text)                                                    \
    do {                                                                                           \
        assert_int_equal((expr), (wanted_code));                                                   \
        assert_string_equal(fx_st.msg, (text));                                                    \
    } while (0)

static UNUSED int64_t fx_create(struct fx *fx, const char *db, const char *name)
{
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    ASSERT_CALL(CALL(fx, root, create_collection, fx_create_req(fx, db, name), &info));
    return info.collection->id;
}
static UNUSED int fx_describe(struct fx *fx, const char *db, const char *name,
                       Elanus__CollectionInfo *ret)
{
    Elanus__DescribeCollectionReq req = ELANUS__DESCRIBE_COLLECTION_REQ__INIT;
    elanus__collection_info__init(ret);
    req.db_name = db;
    req.name = name;
    return CALL(fx, root, describe_collection, &req, ret);
}
static UNUSED int fx_drop(struct fx *fx, const char *db, const char *name)
{
    Elanus__NameReq req = ELANUS__NAME_REQ__INIT;
    req.db_name = db;
    req.name = name;
    return CALL_E(fx, root, drop_collection, &req);
}
static UNUSED int fx_partition(struct fx *fx, bool create, const char *coll, const char *part)
{
    Elanus__PartitionReq req = ELANUS__PARTITION_REQ__INIT;
    req.collection_name = coll;
    req.partition_name = part;
    return create ? CALL_E(fx, root, create_partition, &req)
                  : CALL_E(fx, root, drop_partition, &req);
}
static UNUSED int fx_alias(struct fx *fx, const char *coll, const char *alias)
{
    Elanus__AliasReq req = ELANUS__ALIAS_REQ__INIT;
    req.collection_name = coll;
    req.alias = alias;
    return CALL_E(fx, root, create_alias, &req);
}
static UNUSED int fx_index(struct fx *fx, const char *coll, const char *field, const char *name,
                    const char *type)
{
    Elanus__CreateIndexReq req = ELANUS__CREATE_INDEX_REQ__INIT;
    req.collection_name = coll;
    req.field_name = field;
    req.index_name = name;
    req.params = arena_alloc(fx->ar, sizeof(pb_kv *));
    req.params[0] = fx_kv(fx, "index_type", type);
    req.n_params = 1;
    req.user_params = req.params;
    req.n_user_params = 1;
    return CALL_E(fx, data, create_index, &req);
}
static UNUSED int fx_load(struct fx *fx, const char *coll, const char *part)
{
    Elanus__LoadReq req = ELANUS__LOAD_REQ__INIT;
    req.collection_name = coll;
    req.partition_names = part ? &part : NULL;
    req.n_partition_names = part ? 1 : 0;
    return CALL_E(fx, query, load, &req);
}
static UNUSED int fx_release(struct fx *fx, const char *coll, const char *part)
{
    Elanus__ReleaseReq req = ELANUS__RELEASE_REQ__INIT;
    req.collection_name = coll;
    req.partition_names = part ? &part : NULL;
    req.n_partition_names = part ? 1 : 0;
    return CALL_E(fx, query, release, &req);
}
static UNUSED int64_t fx_load_state(struct fx *fx, const char *coll, const char *part)
{
    Elanus__LoadStateReq req = ELANUS__LOAD_STATE_REQ__INIT;
    Elanus__LoadStateResp resp = ELANUS__LOAD_STATE_RESP__INIT;
    req.collection_name = coll;
    req.partition_names = part ? &part : NULL;
    req.n_partition_names = part ? 1 : 0;
    ASSERT_CALL(CALL(fx, query, load_state, &req, &resp));
    return resp.state;
}
static UNUSED int fx_commit(struct fx *fx, const char *vchannel, int64_t coll, int64_t part,
                            int64_t seg, int64_t rows, int64_t term)
{
    Elanus__CommitFlushReq req = ELANUS__COMMIT_FLUSH_REQ__INIT;
    Elanus__Segment s = ELANUS__SEGMENT__INIT;
    Elanus__Segment *segs[] = { &s };
    s.id = seg;
    s.collection_id = coll;
    s.partition_id = part;
    s.num_rows = rows;
    s.size_bytes = rows * 10;
    s.object_prefix = arena_printf(fx->ar, "segments/%" PRId64 "/%" PRId64 "/%" PRId64, coll, part,
                                   seg);
    req.vchannel = vchannel;
    req.collection_id = coll;
    req.term = term;
    req.segments = segs;
    req.n_segments = 1;
    req.checkpoint = (uint64_t)seg;
    return CALL_E(fx, data, commit_flush, &req);
}

/* Everything the coordinator shows, as text. */
static UNUSED char *fx_dump(struct fx *fx)
{
    Elanus__DatabaseList dbs = ELANUS__DATABASE_LIST__INIT;
    Elanus__NameList users = ELANUS__NAME_LIST__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    struct buf b;
    char *text;
    buf_init(&b, (size_t)64 << 20);
    ASSERT_CALL(CALL(fx, root, list_databases, &e, &dbs));
    ASSERT_CALL(CALL(fx, root, list_users, &e, &users));
    assert_true(proto_to_json(&dbs.pb, &b, NULL) && proto_to_json(&users.pb, &b, NULL));
    for (size_t i = 0; i < dbs.n_databases; i++) {
        Elanus__ListCollectionsReq req = ELANUS__LIST_COLLECTIONS_REQ__INIT;
        Elanus__CollectionList list = ELANUS__COLLECTION_LIST__INIT;
        Elanus__AliasReq areq = ELANUS__ALIAS_REQ__INIT;
        Elanus__AliasList aliases = ELANUS__ALIAS_LIST__INIT;
        req.db_name = dbs.databases[i]->name;
        areq.db_name = dbs.databases[i]->name;
        ASSERT_CALL(CALL(fx, root, list_collections, &req, &list));
        ASSERT_CALL(CALL(fx, root, list_aliases, &areq, &aliases));
        assert_true(proto_to_json(&list.pb, &b, NULL) && proto_to_json(&aliases.pb, &b, NULL));
        for (size_t j = 0; j < list.n_collections; j++) {
            Elanus__SegmentsReq sreq = ELANUS__SEGMENTS_REQ__INIT;
            Elanus__SegmentsResp segs = ELANUS__SEGMENTS_RESP__INIT;
            sreq.collection_id = list.collections[j]->collection->id;
            ASSERT_CALL(CALL(fx, data, list_segments, &sreq, &segs));
            for (size_t k = 0; k < segs.n_shards; k++) {
                segs.shards[k]->term = 0; /* rises with every registration */
            }
            assert_true(proto_to_json(&segs.pb, &b, NULL));
        }
    }
    assert_true(buf_putc(&b, '\0'));
    text = arena_strdup(fx->ar, (const char *)b.p);
    buf_done(&b);
    return text;
}
static UNUSED size_t fx_keys(struct fx *fx, const char *prefix)
{
    struct status st = STATUS_INIT;
    struct meta_range range = { .prefix = slice_of(prefix), .keys_only = true };
    struct meta_list list = { 0 };
    ASSERT_OK(meta_list(fx->meta, &range, fx->ar, &list, &st));
    return list.n;
}
