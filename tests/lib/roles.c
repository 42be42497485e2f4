/* roles.c - see roles.h. */
#include "roles.h"
#include "base/buf.h"
#include "base/clock.h"
#include "query/filter.h"
#include "query/reduce.h"
#include <inttypes.h>
#include <stdio.h>

enum { NODE = 1, DIM = 4, DUMP_MAX = 64 << 20 };

typedef Milvus__Proto__Schema__CollectionSchema pb_schema;
typedef Milvus__Proto__Schema__FieldSchema pb_field;
typedef Milvus__Proto__Common__KeyValuePair pb_kv;

static const struct config_row rows[] = {
#define CONFIG_ROW(key, type, def, min, max, choices, unit, reload, help)                          \
    { key, CONFIG_##type, def, min, max, choices, unit, reload, help },
#include "coord/coord_config.def"
#undef CONFIG_ROW
};

/* ---- fakes ---- */

static int invalidate(void *self, const struct call *call, const Elanus__InvalidateReq *req,
                      Elanus__Empty *resp, struct status *st)
{
    (void)self;
    (void)call;
    (void)req;
    (void)resp;
    (void)st;
    return 0;
}

static bool take_failure(_Atomic int *left)
{
    int n = *left;
    while (n > 0 && !atomic_compare_exchange_weak(left, &n, n - 1)) {
    }
    return n > 0;
}

static int load_segments(void *self, const struct call *call, const Elanus__LoadSegmentsReq *req,
                         Elanus__Empty *resp, struct status *st)
{
    struct roles *r = self;
    if (take_failure(&r->fail_load)) {
        return st_fail(st, ST_UNAVAILABLE, "the query node does not load");
    }
    int rc = r->qnode_real.load_segments(r->qnode_real.self, call, req, resp, st);
    void (*then)(struct roles *) = req->n_segments ? atomic_exchange(&r->on_load, NULL) : NULL;
    if (then) {
        then(r);
    }
    return rc;
}

static int apply_deletes(void *self, const struct call *call, const Elanus__ApplyDeletesReq *req,
                         Elanus__Empty *resp, struct status *st)
{
    struct roles *r = self;
    if (take_failure(&r->fail_deletes)) {
        return st_fail(st, ST_UNAVAILABLE, "the query node takes no deletes");
    }
    return r->qnode_real.apply_deletes(r->qnode_real.self, call, req, resp, st);
}

#define FORWARD(name, Req, Resp)                                                                   \
    static int forward_##name(void *self, const struct call *call, const Elanus__##Req *req,       \
                              Elanus__##Resp *resp, struct status *st)                             \
    {                                                                                              \
        struct roles *r = self;                                                                    \
        return r->qnode_real.name(r->qnode_real.self, call, req, resp, st);                        \
    }
FORWARD(release_segments, ReleaseSegmentsReq, Empty)
FORWARD(search, SearchReq, SearchResp)
FORWARD(fetch, FetchReq, FetchResp)
FORWARD(query, QueryReq, QueryResp)
FORWARD(stats, ReleaseSegmentsReq, SegmentStatsResp)
FORWARD(refresh_indexes, RefreshIndexesReq, Empty)

/* ---- life ---- */

int roles_start(struct roles *r)
{
    struct coord_opts co = { .config = r->cfg, .nodes_in_process = true };
    char *wal_dir = arena_printf(r->ar, "%s/log", r->dir); /* kept by the node */
    char *obj_dir = arena_printf(r->ar, "%s/objects", r->dir);
    char *meta_dir = arena_printf(r->ar, "%s/meta", r->dir);
    struct status *st = &r->st;
    int rc;

    st_clear(st);
    TRY(dir_make(wal_dir, st));
    if (r->o.rocksdb) {
        TRY(meta_rocksdb_open(meta_dir, &r->meta, st));
    }
    TRY(object_local_open(obj_dir, &r->os, st));
    r->compute = r->o.compute_threads ? pool_new("compute", r->o.compute_threads, 1024) : NULL;
    r->svc = svc_dir_new(NULL);
    co.meta = r->meta;
    co.os = r->os;
    co.dir = r->svc;
    TRY(coord_new(&co, &r->co, st));
    r->root = coord_root(r->co);
    r->data = coord_data(r->co);
    r->query = coord_query(r->co);
    r->streaming = coord_streaming(r->co);
    struct qn_opts qo = {
        .node_id = NODE, .address = "", .os = r->os, .compute = r->compute,
        .streaming = &r->streaming,
        .data = &r->data,
    };
    struct dn_opts dno = {
        .node_id = NODE, .address = "", .os = r->os, .index_threads = 2,
        .streaming = &r->streaming,
    };
    struct sn_opts so = {
        .node_id = NODE,
        .address = "",
        .wal_dir = wal_dir,
        .wal_sync = WAL_SYNC_NEVER,
        .wal_file_size = r->o.wal_file_size ? r->o.wal_file_size : 1 << 20,
        .wal_max_bytes = r->o.wal_max_bytes ? r->o.wal_max_bytes : 1 << 30,
        .os = r->os,
        .compute = r->compute,
        .root = &r->root,
        .data = &r->data,
        .query = &r->query,
        .streaming = &r->streaming,
        .dir = r->svc,
        .seal_bytes = r->o.seal_bytes ? r->o.seal_bytes : (uint64_t)64 << 20,
        .seal_idle_ms = 3600000,
        .memory_high_bytes = r->o.memory_high_bytes,
    };
    TRY(qn_new(&qo, &r->qn, st));
    TRY(sn_new(&so, &r->sn, st));
    TRY(dn_new(&dno, &r->dn, st));
    r->dnode = dn_service(r->dn);
    r->snode = sn_service(r->sn);
    r->qnode_real = qn_service(r->qn);
    r->qnode = (struct qnode_service){ .self = r,
                                       .load_segments = load_segments,
                                       .release_segments = forward_release_segments,
                                       .apply_deletes = apply_deletes,
                                       .search = forward_search,
                                       .fetch = forward_fetch,
                                       .query = forward_query,
                                       .stats = forward_stats,
                                       .refresh_indexes = forward_refresh_indexes };
    r->proxy = (struct proxy_service){ .invalidate = invalidate };
    svc_dir_add(r->svc, NODE, &r->snode, &r->qnode);
    svc_dir_add_dnode(r->svc, NODE, &r->dnode);
    coord_add_proxy(r->co, &r->proxy);
    TRY(coord_start(r->co, st));
    TRY(qn_start(r->qn, st));
    TRY(sn_start(r->sn, st));
    TRY(dn_start(r->dn, st));
out:
    return rc;
}

void roles_stop(struct roles *r)
{
    if (r->sn) {
        sn_stop(r->sn);
    }
    if (r->co) {
        coord_stop(r->co);
    }
    sn_free(TAKE(r->sn));
    dn_free(TAKE(r->dn));
    qn_free(TAKE(r->qn));
    coord_free(TAKE(r->co));
    svc_dir_free(TAKE(r->svc));
    pool_free(TAKE(r->compute));
    object_close(TAKE(r->os));
    if (r->o.rocksdb) {
        meta_close(TAKE(r->meta));
    }
}

void roles_restart(struct roles *r)
{
    roles_stop(r);
    if (roles_start(r) != 0) {
        fail_msg("restart: %s", r->st.msg);
    }
}

struct roles *roles_new(const struct roles_opts *o)
{
    struct roles *r = xalloc(sizeof *r);

    r->o = *o;
    r->dir = o->dir ? xstrdup(o->dir) : unit_tmp_dir();
    r->cfg = config_new(rows, ARRAY_LEN(rows));
    if (o->index_rows_min) {
        char text[16];
        snprintf(text, sizeof text, "%d", o->index_rows_min);
        CHECK(config_set(r->cfg, "indexCoord.segment.minSegmentNumRowsToEnableIndex", slice_of(text),
                         &r->st) == 0);
    }
    CHECK(config_set(r->cfg, "dataCoord.compaction.enableAutoCompaction",
                     o->compaction ? SLICE_LIT("true") : SLICE_LIT("false"), &r->st) == 0);
    if (o->compaction) {
        CHECK(config_set(r->cfg, "common.retentionDuration", SLICE_LIT("2"), &r->st) == 0);
    }
    r->meta = o->rocksdb ? NULL : meta_mem_new();
    r->ar = arena_new(0);
    r->call = call_internal(r->ar);
    if (roles_start(r) != 0) {
        fail_msg("start: %s", r->st.msg);
    }
    return r;
}

void roles_free(struct roles *r)
{
    roles_stop(r);
    meta_close(r->meta);
    config_free(r->cfg);
    arena_free(r->ar);
    if (r->o.dir) {
        mem_free(r->dir);
    } else {
        unit_tmp_remove(r->dir);
    }
    mem_free(r);
}

/* CALL_OK(r, root, drop_collection, &req, &resp) */
#define CALL_OK(r, service, method, req, resp)                                                     \
    do {                                                                                           \
        st_clear(&(r)->st);                                                                        \
        if ((r)->service.method((r)->service.self, &(r)->call, (req), (resp), &(r)->st) != 0) {    \
            fail_msg("%s.%s: %d %s", #service, #method, (r)->st.code, (r)->st.msg);                \
        }                                                                                          \
    } while (0)

hts roles_now(struct roles *r)
{
    Elanus__AllocReq req = ELANUS__ALLOC_REQ__INIT;
    Elanus__AllocResp resp = ELANUS__ALLOC_RESP__INIT;
    req.count = 1;
    CALL_OK(r, root, alloc_ts, &req, &resp);
    return resp.first;
}

/* ---- collections ---- */

static pb_kv *kv(struct arena *ar, const char *key, const char *value)
{
    pb_kv *p = ARENA_NEW(ar, pb_kv);
    milvus__proto__common__key_value_pair__init(p);
    p->key = key;
    p->value = value;
    return p;
}

static pb_kv **kvs(struct arena *ar, const char *key, const char *value)
{
    pb_kv **p = arena_alloc(ar, sizeof(pb_kv *));
    p[0] = kv(ar, key, value);
    return p;
}

static pb_field *field(struct arena *ar, const char *name, enum dtype type)
{
    pb_field *f = ARENA_NEW(ar, pb_field);
    milvus__proto__schema__field_schema__init(f);
    f->name = name;
    f->data_type = (Milvus__Proto__Schema__DataType)type;
    if (type == DT_FLOAT_VECTOR || type == DT_VARCHAR) {
        f->type_params = type == DT_VARCHAR ? kvs(ar, "max_length", "40") : kvs(ar, "dim", "4");
        f->n_type_params = 1;
    }
    return f;
}

static pb_schema *schema_pb(struct roles *r, const char *name)
{
    pb_schema *s = ARENA_NEW(r->ar, pb_schema);
    milvus__proto__schema__collection_schema__init(s);
    s->name = arena_strdup(r->ar, name);
    s->fields = arena_alloc(r->ar, 4 * sizeof(pb_field *));
    s->n_fields = 4;
    s->fields[0] = field(r->ar, "id", r->o.varchar_pk ? DT_VARCHAR : DT_INT64);
    s->fields[0]->is_primary_key = true;
    s->fields[1] = field(r->ar, "vec", DT_FLOAT_VECTOR);
    s->fields[2] = field(r->ar, "n", DT_INT64);
    s->fields[3] = field(r->ar, "s", DT_VARCHAR);
    s->fields[3]->nullable = true;
    return s;
}

void rcoll_refresh(struct rcoll *c)
{
    Elanus__DescribeCollectionReq req = ELANUS__DESCRIBE_COLLECTION_REQ__INIT;
    struct status st = STATUS_INIT;

    req.name = c->name;
    c->info = ARENA_NEW(c->r->ar, Elanus__CollectionInfo);
    elanus__collection_info__init(c->info);
    CALL_OK(c->r, root, describe_collection, &req, c->info);
    schema_unref(c->schema);
    c->schema = NULL;
    ASSERT_OK(schema_new(c->info->collection->schema, &c->schema, &st));
    c->id = c->info->collection->id;
    c->nshards = c->info->collection->n_vchannels;
    c->vchannels = (const char **)c->info->collection->vchannels;
}

struct rcoll *rcoll_new(struct roles *r, const char *name, int nshards)
{
    Elanus__CreateCollectionReq req = ELANUS__CREATE_COLLECTION_REQ__INIT;
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    Elanus__CreateIndexReq ireq = ELANUS__CREATE_INDEX_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    struct rcoll *c = xalloc(sizeof *c);

    c->r = r;
    snprintf(c->name, sizeof c->name, "%s", name);
    req.schema = schema_pb(r, name);
    req.shards_num = nshards;
    CALL_OK(r, root, create_collection, &req, &info);
    ireq.collection_name = c->name;
    ireq.field_name = "vec";
    ireq.index_name = "vec";
    ireq.params = arena_alloc(r->ar, 4 * sizeof(pb_kv *));
    ireq.params[0] = kv(r->ar, "index_type", r->o.index_type ? r->o.index_type : "FLAT");
    ireq.params[1] = kv(r->ar, "metric_type", "L2");
    ireq.n_params = 2;
    if (strcmp(ireq.params[0]->value, "HNSW") == 0) { /* a race detector's builds take long */
        ireq.params[ireq.n_params++] = kv(r->ar, "M", "8");
        ireq.params[ireq.n_params++] = kv(r->ar, "efConstruction", "40");
    }
    CALL_OK(r, data, create_index, &ireq, &e);
    rcoll_refresh(c);
    return c;
}

void rcoll_free(struct rcoll *c)
{
    schema_unref(c->schema);
    mem_free(c);
}

int64_t rcoll_partition(struct rcoll *c, const char *name)
{
    for (size_t i = 0; i < c->info->n_partitions; i++) {
        if (strcmp(c->info->partitions[i]->name, name) == 0) {
            return c->info->partitions[i]->id;
        }
    }
    return -1;
}

void rcoll_partition_new(struct rcoll *c, const char *name)
{
    Elanus__PartitionReq req = ELANUS__PARTITION_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    req.collection_name = c->name;
    req.partition_name = name;
    CALL_OK(c->r, root, create_partition, &req, &e);
    rcoll_refresh(c);
}

int rcoll_partition_drop(struct rcoll *c, const char *name)
{
    struct roles *r = c->r;
    Elanus__PartitionReq req = ELANUS__PARTITION_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    req.collection_name = c->name;
    req.partition_name = name;
    st_clear(&r->st);
    return r->root.drop_partition(r->root.self, &r->call, &req, &e, &r->st);
}

void rcoll_load(struct rcoll *c, const char *partition)
{
    Elanus__LoadReq req = ELANUS__LOAD_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    req.collection_name = c->name;
    req.partition_names = &partition;
    req.n_partition_names = partition ? 1 : 0;
    CALL_OK(c->r, query, load, &req, &e);
}

void rcoll_release(struct rcoll *c, const char *partition)
{
    Elanus__ReleaseReq req = ELANUS__RELEASE_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    req.collection_name = c->name;
    req.partition_names = &partition;
    req.n_partition_names = partition ? 1 : 0;
    CALL_OK(c->r, query, release, &req, &e);
}

int rcoll_drop(struct rcoll *c)
{
    struct roles *r = c->r;
    Elanus__NameReq req = ELANUS__NAME_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    req.name = c->name;
    st_clear(&r->st);
    return r->root.drop_collection(r->root.self, &r->call, &req, &e, &r->st);
}

void rcoll_add_field(struct rcoll *c, const char *name, bool has_default, int64_t def)
{
    struct arena *ar = c->r->ar;
    Elanus__AddFieldReq req = ELANUS__ADD_FIELD_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    req.collection_name = c->name;
    req.field = field(ar, name, DT_INT64);
    req.field->nullable = true;
    if (has_default) {
        req.field->default_value = ARENA_NEW(ar, Milvus__Proto__Schema__ValueField);
        milvus__proto__schema__value_field__init(req.field->default_value);
        req.field->default_value->data_case = MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_LONG_DATA;
        req.field->default_value->long_data = def;
    }
    CALL_OK(c->r, root, add_field, &req, &e);
    rcoll_refresh(c);
}

void rcoll_set_property(struct rcoll *c, const char *key, const char *value)
{
    Elanus__AlterCollectionReq req = ELANUS__ALTER_COLLECTION_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    req.name = c->name;
    req.properties = kvs(c->r->ar, key, value);
    req.n_properties = 1;
    CALL_OK(c->r, root, alter_collection, &req, &e);
}

/* ---- flush ---- */

void rcoll_seal(struct rcoll *c)
{
    Elanus__FlushReq req = ELANUS__FLUSH_REQ__INIT;
    Elanus__FlushResp resp = ELANUS__FLUSH_RESP__INIT;
    req.collection_ids = &c->id;
    req.n_collection_ids = 1;
    CALL_OK(c->r, data, flush, &req, &resp);
}

struct sn_shard *rcoll_shard(struct rcoll *c, size_t i)
{
    struct status st = STATUS_INIT;
    struct sn_shard *sh = NULL;
    ASSERT_OK(sn__shard_find(c->r->sn, c->vchannels[i], &sh, &st));
    return sh;
}

/* Sealed growing segments and pending deletes, seen from the sequencer. */
struct pending {
    size_t growing, deletes;
};

static int count_pending(struct sn_channel *ch, struct sn_msg *m)
{
    struct pending *p = m->arg;
    (void)ch;
    for (size_t i = 0; i < m->shard->ngrowing; i++) {
        p->growing += m->shard->growing[i].sealed;
    }
    p->deletes += m->shard->deletes.n;
    return 0;
}

static bool is_swapped(struct rcoll *c, bool deletes_too)
{
    struct pending p = { 0 };
    for (size_t i = 0; i < c->nshards; i++) {
        struct status st = STATUS_INIT;
        struct sn_shard *sh = rcoll_shard(c, i);
        ASSERT_OK(sn__control(sh->ch, sh, count_pending, &p, &st));
        sn__shard_unref(sh);
    }
    return p.growing == 0 && (p.deletes == 0 || !deletes_too);
}

void rcoll_wait_swapped(struct rcoll *c)
{
    R_WAIT(is_swapped(c, false));
}

void rcoll_flush(struct rcoll *c)
{
    struct roles *r = c->r;
    Elanus__FlushReq req = ELANUS__FLUSH_REQ__INIT;
    Elanus__FlushResp resp = ELANUS__FLUSH_RESP__INIT;
    Elanus__FlushStateReq sreq = ELANUS__FLUSH_STATE_REQ__INIT;
    Elanus__FlushStateResp sresp = ELANUS__FLUSH_STATE_RESP__INIT;
    req.collection_ids = &c->id;
    req.n_collection_ids = 1;
    CALL_OK(r, data, flush, &req, &resp);
    sreq.collection_id = c->id;
    sreq.segment_ids = resp.results[0]->sealed_segment_ids;
    sreq.n_segment_ids = resp.results[0]->n_sealed_segment_ids;
    do {
        CALL_OK(r, data, flush_state, &sreq, &sresp);
    } while (!sresp.flushed && usleep(500) == 0);
    R_WAIT(is_swapped(c, true));
}

/* ---- writes ---- */

static struct slice key_cell(const struct rcoll *c, int64_t key, char *buf)
{
    if (c->schema->pk->type == DT_VARCHAR) {
        return slice_n(buf, (size_t)snprintf(buf, 24, "k%07" PRId64, key));
    }
    memcpy(buf, &key, 8);
    return slice_n(buf, 8);
}

static int64_t cell_key(const struct rcoll *c, const struct column *col, uint32_t row)
{
    char text[32] = { 0 };
    struct slice cell = column_cell(col, row);
    if (c->schema->pk->type != DT_VARCHAR) {
        return column_i64(col, row);
    }
    memcpy(text, cell.p, MIN(cell.n, sizeof text - 1));
    return strtoll(text + 1, NULL, 10);
}

static struct column_builder *builder(struct arena *ar, const struct field *f, size_t n)
{
    return column_builder_new(ar, f->id, f->type, f->elem, f->dim, (uint32_t)n);
}

static void add_row(const struct rcoll *c, struct column_builder **cb, int64_t key, int64_t n)
{
    float vec[DIM] = { (float)key, (float)(key % 7), (float)n, 1.0f };
    char buf[32];
    bool ok = column_builder_add(cb[0], key_cell(c, key, buf));
    ok &= column_builder_add(cb[1], slice_n((const char *)vec, sizeof vec));
    ok &= column_builder_add(cb[2], slice_n((const char *)&n, 8));
    if (key % 5 == 0) {
        ok &= column_builder_null(cb[3]);
    } else {
        int len = snprintf(buf, sizeof buf, "s%" PRId64 "-%" PRId64, key, n);
        ok &= column_builder_add(cb[3], slice_n(buf, (size_t)len));
    }
    CHECK(ok);
}

static ProtobufCBinaryData encode(struct column *cols, uint32_t ncols, struct arena *ar)
{
    struct batch b = { cols[0].nrows, ncols, cols };
    struct status st = STATUS_INIT;
    ProtobufCBinaryData bytes = { 0 };
    CHECK(nd_batch_bytes(&b, ar, &bytes, &st) == 0);
    return bytes;
}

bool rcoll_build(struct rcoll *c, size_t shard, enum rwrite what, int64_t partition,
                 struct rkeys keys, int64_t n, struct arena *ar, Elanus__WriteReq *req)
{
    Elanus__InsertPart *part = ARENA_NEW(ar, Elanus__InsertPart);
    struct column_builder *cb[4];
    struct column cols[4];

    elanus__write_req__init(req);
    elanus__insert_part__init(part);
    for (size_t f = 0; f < 4; f++) {
        cb[f] = builder(ar, &c->schema->fields[f], keys.n);
    }
    for (size_t i = 0; i < keys.n; i++) {
        struct column_builder *one = builder(ar, c->schema->pk, 1);
        struct column pk;
        char buf[32];
        CHECK(column_builder_add(one, key_cell(c, keys.v[i], buf)));
        column_builder_finish(one, &pk);
        if (pk_hash(&pk, 0) % c->nshards == shard) {
            add_row(c, cb, keys.v[i], n);
        }
    }
    for (size_t f = 0; f < 4; f++) {
        column_builder_finish(cb[f], &cols[f]);
    }
    req->vchannel = c->vchannels[shard];
    req->collection_id = c->id;
    if (what & R_DELETE) {
        req->delete_pks = encode(cols, 1, ar);
        req->delete_partition_ids = arena_alloc(ar, sizeof(int64_t));
        req->delete_partition_ids[0] = partition;
        req->n_delete_partition_ids = partition > 0 ? 1 : 0;
    }
    if (what & R_INSERT) {
        part->partition_id = partition;
        part->num_rows = cols[0].nrows;
        part->batch = encode(cols, 4, ar);
        req->inserts = arena_alloc(ar, sizeof part);
        req->inserts[0] = part;
        req->n_inserts = 1;
    }
    return cols[0].nrows > 0;
}

int rcoll_write(struct rcoll *c, enum rwrite what, const char *partition, struct rkeys keys,
                int64_t n, hts *ret_ts, struct status *st)
{
    struct arena *ar = arena_new(0);
    int64_t id = partition || what != R_DELETE
                     ? rcoll_partition(c, partition ? partition : "_default") : 0;
    hts ts = 0;
    int rc = 0;

    for (size_t i = 0; i < c->nshards; i++) {
        struct call call = call_internal(ar);
        Elanus__WriteReq req;
        Elanus__WriteResp resp = ELANUS__WRITE_RESP__INIT;
        if (rcoll_build(c, i, what, id, keys, n, ar, &req)) {
            TRY(c->r->snode.write(c->r->snode.self, &call, &req, &resp, st));
            ts = MAX(ts, resp.timestamp);
        }
    }
    if (ret_ts) {
        *ret_ts = ts;
    }
out:
    arena_free(ar);
    return rc;
}

static hts write_range(struct rcoll *c, enum rwrite what, const char *partition, int64_t from,
                       int64_t count, int64_t n)
{
    struct status st = STATUS_INIT;
    int64_t *keys = xalloc(((size_t)count + 1) * sizeof *keys);
    hts ts = 0;
    for (int64_t i = 0; i < count; i++) {
        keys[i] = from + i;
    }
    ASSERT_OK(rcoll_write(c, what, partition, (struct rkeys){ keys, (size_t)count }, n, &ts, &st));
    mem_free(keys);
    return ts;
}

hts rcoll_insert(struct rcoll *c, const char *partition, int64_t from, int64_t count, int64_t n)
{
    return write_range(c, R_INSERT, partition, from, count, n);
}

hts rcoll_upsert(struct rcoll *c, const char *partition, int64_t from, int64_t count, int64_t n)
{
    return write_range(c, R_UPSERT, partition, from, count, n);
}

hts rcoll_delete(struct rcoll *c, const char *partition, int64_t from, int64_t count)
{
    return write_range(c, R_DELETE, partition, from, count, 0);
}

/* ---- reads ---- */

static int plan_bytes(struct rcoll *c, const char *filter, struct arena *ar,
                      ProtobufCBinaryData *ret, struct status *st)
{
    const struct expr *e = NULL;
    struct buf b;
    int rc = 0;

    buf_init(&b, 1 << 20);
    if (!filter) {
        goto out;
    }
    TRY(filter_parse(slice_of(filter), c->schema, NULL, 0, ar, &e, st));
    CHECK(plan_encode(e, &b));
    ret->len = b.n;
    ret->data = arena_try(ar, b.n + 1);
    memcpy(ret->data, b.p, b.n);
out:
    buf_done(&b);
    return rc;
}

static hts fresh_ts(struct rcoll *c, struct arena *ar)
{
    struct call call = call_internal(ar);
    struct status st = STATUS_INIT;
    Elanus__AllocReq req = ELANUS__ALLOC_REQ__INIT;
    Elanus__AllocResp resp = ELANUS__ALLOC_RESP__INIT;
    req.count = 1;
    CHECK(c->r->root.alloc_ts(c->r->root.self, &call, &req, &resp, &st) == 0);
    return resp.first;
}

/* Asks every shard and merges. */
static int query_shards(struct rcoll *c, const char *filter, const char *partition, hts read_ts,
                        int64_t *fields, size_t nfields, bool count_only, struct arena *ar,
                        Elanus__QueryResp *resp, struct status *st)
{
    struct call call = call_internal(ar);
    Elanus__QueryReq req = ELANUS__QUERY_REQ__INIT;
    Elanus__QueryResp **parts = arena_alloc(ar, c->nshards * sizeof(Elanus__QueryResp *));
    int64_t id = partition ? rcoll_partition(c, partition) : 0;
    int rc = 0;

    TRY(plan_bytes(c, filter, ar, &req.plan, st));
    req.collection_id = c->id;
    req.partition_ids = &id;
    req.n_partition_ids = partition ? 1 : 0;
    req.output_field_ids = fields;
    req.n_output_field_ids = nfields;
    req.limit = -1;
    req.count_only = count_only;
    req.read_ts = read_ts;
    req.guarantee_ts = read_ts ? read_ts : fresh_ts(c, ar);
    for (size_t i = 0; i < c->nshards; i++) {
        parts[i] = ARENA_NEW(ar, Elanus__QueryResp);
        elanus__query_resp__init(parts[i]);
        req.vchannel = c->vchannels[i];
        TRY(c->r->snode.query(c->r->snode.self, &call, &req, parts[i], st));
    }
    elanus__query_resp__init(resp);
    TRY(nd_merge_query((const Elanus__QueryResp *const *)parts, c->nshards, -1, 0, &call, resp,
                       st));
out:
    return rc;
}

int rcoll_query(struct rcoll *c, const char *filter, const char *partition, hts read_ts,
                struct arena *ar, struct rrow **ret, size_t *ret_n, struct status *st)
{
    int64_t fields[] = { c->schema->fields[2].id };
    Elanus__QueryResp resp;
    struct batch b;
    int rc;

    TRY(query_shards(c, filter, partition, read_ts, fields, 1, false, ar, &resp, st));
    TRY(batch_decode(slice_n(resp.batch.data, resp.batch.len), ar, &b, st));
    *ret = arena_alloc(ar, (b.nrows + 1u) * sizeof **ret);
    for (uint32_t i = 0; i < b.nrows; i++) {
        (*ret)[i] = (struct rrow){ cell_key(c, &b.cols[0], i), column_i64(&b.cols[1], i),
                                   resp.timestamps[i] };
    }
    *ret_n = b.nrows;
out:
    return rc;
}

int rcoll_count(struct rcoll *c, const char *filter, hts read_ts, int64_t *ret, struct status *st)
{
    struct arena *ar = arena_new(0);
    Elanus__QueryResp resp;
    int rc;

    TRY(query_shards(c, filter, NULL, read_ts, NULL, 0, true, ar, &resp, st));
    *ret = resp.count;
out:
    arena_free(ar);
    return rc;
}

int64_t rcoll_total(struct rcoll *c)
{
    struct status st = STATUS_INIT;
    int64_t n = -1;
    ASSERT_OK(rcoll_count(c, NULL, 0, &n, &st));
    return n;
}

static int search_shards(struct rcoll *c, const char *filter, float x, uint32_t k, hts read_ts,
                         struct arena *ar, Elanus__SearchResp *resp, struct status *st)
{
    struct call call = call_internal(ar);
    Elanus__SearchReq req = ELANUS__SEARCH_REQ__INIT;
    Elanus__SearchResp **parts = arena_alloc(ar, c->nshards * sizeof(Elanus__SearchResp *));
    struct nd_merge how = { .nq = 1, .k = k, .asked = k };
    float q[DIM] = { x, x, x, x };
    int64_t out[] = { c->schema->fields[2].id };
    uint32_t *part_of;
    int rc;

    TRY(plan_bytes(c, filter, ar, &req.plan, st));
    req.collection_id = c->id;
    req.field_id = c->schema->fields[1].id;
    req.metric = METRIC_L2;
    req.queries.data = (uint8_t *)q;
    req.queries.len = sizeof q;
    req.nq = 1;
    req.k = k;
    req.output_field_ids = out;
    req.n_output_field_ids = 1;
    req.read_ts = read_ts;
    req.guarantee_ts = read_ts ? read_ts : fresh_ts(c, ar);
    for (size_t i = 0; i < c->nshards; i++) {
        parts[i] = ARENA_NEW(ar, Elanus__SearchResp);
        elanus__search_resp__init(parts[i]);
        req.vchannel = c->vchannels[i];
        TRY(c->r->snode.search(c->r->snode.self, &call, &req, parts[i], st));
        CHECK(parts[i]->n_scores <= k);
    }
    elanus__search_resp__init(resp);
    if (c->nshards == 1) {
        *resp = *parts[0];
        goto out;
    }
    TRY(nd_merge_search((const Elanus__SearchResp *const *)parts, c->nshards, &how, &call, resp,
                        &part_of, NULL, st));
out:
    return rc;
}

int rcoll_search(struct rcoll *c, const char *filter, float x, uint32_t k, hts read_ts,
                 struct arena *ar, int64_t **ret, size_t *ret_n, struct status *st)
{
    Elanus__SearchResp resp;
    struct batch b = { 0 };
    int rc;

    TRY(search_shards(c, filter, x, k, read_ts, ar, &resp, st));
    *ret = arena_alloc(ar, (resp.n_scores + 1) * sizeof **ret);
    *ret_n = resp.n_scores;
    if (resp.n_scores) {
        TRY(batch_decode(slice_n(resp.pks.data, resp.pks.len), ar, &b, st));
        for (uint32_t i = 0; i < b.nrows; i++) {
            (*ret)[i] = cell_key(c, &b.cols[0], i);
        }
    }
out:
    return rc;
}

/* ---- dumps ---- */

static void put(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void put(struct buf *b, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    assert_true(n >= 0 && (size_t)n < sizeof text && buf_put(b, text, (size_t)n));
}

static const char *taken(struct roles *r, struct buf *b)
{
    const char *text = arena_strndup(r->ar, b->n ? (const char *)b->p : "", b->n);
    buf_done(b);
    return text;
}

const char *rcoll_dump(struct rcoll *c, const char *filter, hts read_ts)
{
    int64_t fields[] = { c->schema->fields[1].id, c->schema->fields[2].id,
                         c->schema->fields[3].id };
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    Elanus__QueryResp resp;
    struct batch batch;
    int64_t count;
    struct buf b;

    buf_init(&b, DUMP_MAX);
    ASSERT_OK(query_shards(c, filter, NULL, read_ts, fields, 3, false, ar, &resp, &st));
    ASSERT_OK(batch_decode(slice_n(resp.batch.data, resp.batch.len), ar, &batch, &st));
    ASSERT_OK(rcoll_count(c, filter, read_ts, &count, &st));
    put(&b, "count %" PRId64 "\n", count);
    for (uint32_t i = 0; i < batch.nrows; i++) {
        struct slice s = column_cell(&batch.cols[3], i);
        float v[DIM];
        memcpy(v, column_cell(&batch.cols[1], i).p, sizeof v);
        put(&b, "%" PRId64 " n=%" PRId64 " vec=%g,%g,%g ", cell_key(c, &batch.cols[0], i),
            column_i64(&batch.cols[2], i), (double)v[0], (double)v[1], (double)v[2]);
        if (column_is_null(&batch.cols[3], i)) {
            put(&b, "null");
        } else {
            put(&b, "\"%.*s\"", (int)s.n, s.p);
        }
        put(&b, " ts=%" PRIu64 "\n", (uint64_t)resp.timestamps[i]);
    }
    for (int x = 0; x < 40; x += 13) {
        Elanus__SearchResp sr;
        ASSERT_OK(search_shards(c, filter, (float)x, 10, read_ts, ar, &sr, &st));
        put(&b, "search %d:", x);
        if (sr.n_scores) {
            ASSERT_OK(batch_decode(slice_n(sr.pks.data, sr.pks.len), ar, &batch, &st));
        }
        for (size_t i = 0; i < sr.n_scores; i++) {
            put(&b, " %" PRId64 "(%g)", cell_key(c, &batch.cols[0], (uint32_t)i),
                (double)sr.scores[i]);
        }
        put(&b, "\n");
    }
    arena_free(ar);
    return taken(c->r, &b);
}

const char *rcoll_values(struct rcoll *c, const char *name, const char *filter)
{
    const struct field *f = schema_field_by_name(c->schema, slice_of(name));
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    Elanus__QueryResp resp;
    struct batch batch;
    struct buf b;

    assert_non_null(f);
    int64_t id = f->id;
    buf_init(&b, DUMP_MAX);
    ASSERT_OK(query_shards(c, filter, NULL, 0, &id, 1, false, ar, &resp, &st));
    ASSERT_OK(batch_decode(slice_n(resp.batch.data, resp.batch.len), ar, &batch, &st));
    for (uint32_t i = 0; i < batch.nrows; i++) {
        put(&b, "%s%" PRId64 "=", i ? " " : "", cell_key(c, &batch.cols[0], i));
        if (column_is_null(&batch.cols[1], i)) {
            put(&b, "null");
        } else {
            put(&b, "%" PRId64, column_i64(&batch.cols[1], i));
        }
    }
    arena_free(ar);
    return taken(c->r, &b);
}

/* ---- counts ---- */

static Elanus__SegmentStatsResp qnode_stats(struct rcoll *c)
{
    Elanus__ReleaseSegmentsReq req = ELANUS__RELEASE_SEGMENTS_REQ__INIT;
    Elanus__SegmentStatsResp resp = ELANUS__SEGMENT_STATS_RESP__INIT;
    req.collection_id = c->id;
    CALL_OK(c->r, qnode, stats, &req, &resp);
    return resp;
}

size_t rcoll_qnode_segments(struct rcoll *c)
{
    return qnode_stats(c).n_segments;
}

size_t rcoll_indexed_segments(struct rcoll *c)
{
    Elanus__SegmentStatsResp resp = qnode_stats(c);
    size_t n = 0;
    for (size_t i = 0; i < resp.n_segments; i++) {
        n += resp.segments[i]->indexes > 0;
    }
    return n;
}

static Elanus__SegmentsResp segments(struct rcoll *c)
{
    Elanus__SegmentsReq req = ELANUS__SEGMENTS_REQ__INIT;
    Elanus__SegmentsResp resp = ELANUS__SEGMENTS_RESP__INIT;
    req.collection_id = c->id;
    CALL_OK(c->r, data, list_segments, &req, &resp);
    return resp;
}

size_t rcoll_flushed(struct rcoll *c)
{
    return segments(c).n_segments;
}

size_t rcoll_deltas(struct rcoll *c)
{
    return segments(c).n_deltas;
}
