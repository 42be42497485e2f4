/*
 * px_fixture.h - a proxy over a coordinator that exists only as functions: one collection "c"
 * (id 7, alias "other"), an oracle under the test's hand, and counts of what was asked.
 */
#pragma once
#include "unit.h"
#include "base/config.h"
#include "proxy/px_int.h"
#include <stdatomic.h>
#include <stdio.h>

static const struct config_row fx_rows[] = {
#define CONFIG_ROW(key, type, def, min, max, choices, unit, reload, help)                          \
    { key, CONFIG_##type, def, min, max, choices, unit, reload, help },
#include "proxy/proxy_config.def"
#undef CONFIG_ROW
};

enum { FX_COLL = 7, FX_NODE = 3 };

struct fx {
    struct config *cfg;
    struct svc_dir *dir;
    struct arena *ar;
    struct root_service root;
    struct data_service data;
    struct query_service query;
    struct streaming_service streaming;
    struct snode_service snode;
    struct proxy *px;
    struct px_call pc;
    struct proxy_service proxy;
    /* the world */
    hts now;              /* of the oracle; grows by ts_step a question */
    hts ts_step;
    bool exists, loaded, has_index, partition_key;
    int consistency_level;
    const char *partitions[4];
    size_t npartitions;
    void (*during_describe)(struct fx *fx); /* runs between question and answer */
    int fail_code;        /* the next describe fails with it */
    /* what was asked */
    int describes, locates, allocs, authentications;
    Elanus__CreateCollectionReq *created;
};

static inline int fx_alloc_ts(void *self, const struct call *call, const Elanus__AllocReq *req,
                              Elanus__AllocResp *resp, struct status *st)
{
    struct fx *fx = self;
    (void)call;
    (void)st;
    fx->allocs++;
    resp->first = fx->now;
    resp->count = req->count;
    fx->now += fx->ts_step;
    return 0;
}

static inline Milvus__Proto__Schema__FieldSchema *fx_field(struct arena *ar, int64_t id,
                                                           const char *name, int type)
{
    Milvus__Proto__Schema__FieldSchema *f = ARENA_NEW(ar, Milvus__Proto__Schema__FieldSchema);
    milvus__proto__schema__field_schema__init(f);
    f->fieldid = id;
    f->name = name;
    f->data_type = (Milvus__Proto__Schema__DataType)type;
    return f;
}

static inline void fx_param(struct arena *ar, Milvus__Proto__Schema__FieldSchema *f,
                            const char *key, const char *value)
{
    struct px_kv_list l = { f->n_type_params, f->n_type_params, f->type_params };
    px_kv_add(&l, ar, key, value);
    f->type_params = l.kv;
    f->n_type_params = l.n;
}

static inline Milvus__Proto__Schema__CollectionSchema *fx_schema(struct fx *fx, struct arena *ar)
{
    Milvus__Proto__Schema__CollectionSchema *s =
        ARENA_NEW(ar, Milvus__Proto__Schema__CollectionSchema);
    milvus__proto__schema__collection_schema__init(s);
    s->name = "c";
    s->fields = arena_alloc(ar, 4 * sizeof s->fields[0]);
    s->fields[0] = fx_field(ar, 100, "id", DT_INT64);
    s->fields[0]->is_primary_key = true;
    s->fields[1] = fx_field(ar, 101, "vec", DT_FLOAT_VECTOR);
    fx_param(ar, s->fields[1], "dim", "8");
    s->fields[2] = fx_field(ar, 102, "word", DT_VARCHAR);
    fx_param(ar, s->fields[2], "max_length", "64");
    s->fields[2]->is_partition_key = fx->partition_key;
    s->fields[3] = fx_field(ar, 103, "$meta", DT_JSON);
    s->fields[3]->is_dynamic = true;
    s->n_fields = 4;
    s->enable_dynamic_field = true;
    return s;
}

static inline void fx_info(struct fx *fx, struct arena *ar, Elanus__CollectionInfo *info)
{
    Elanus__Collection *c = ARENA_NEW(ar, Elanus__Collection);
    static const char *vchannels[] = { "dml_0_7v0" };
    static const char *aliases[] = { "other" };

    elanus__collection__init(c);
    c->id = FX_COLL;
    c->db_name = "default";
    c->name = "c";
    c->schema = fx_schema(fx, ar);
    c->consistency_level = fx->consistency_level;
    c->vchannels = vchannels;
    c->n_vchannels = 1;
    c->created_ts = hts_make(1000, 1);
    c->update_ts = hts_make(1000, 2);
    info->collection = c;
    info->aliases = aliases;
    info->n_aliases = 1;
    info->partitions = arena_alloc(ar, 4 * sizeof info->partitions[0]);
    for (size_t i = 0; i < fx->npartitions; i++) {
        Elanus__Partition *p = ARENA_NEW(ar, Elanus__Partition);
        elanus__partition__init(p);
        p->id = 70 + (int64_t)i;
        p->name = fx->partitions[i];
        info->partitions[info->n_partitions++] = p;
    }
    if (fx->loaded) {
        info->load = ARENA_NEW(ar, Elanus__Load);
        elanus__load__init(info->load);
        info->load->status = ELANUS__LOAD_STATUS__LOAD_LOADED;
    }
    if (fx->has_index) {
        struct px_kv_list l = { 0 };
        info->indexes = arena_alloc(ar, sizeof info->indexes[0]);
        info->indexes[0] = ARENA_NEW(ar, Elanus__Index);
        elanus__index__init(info->indexes[0]);
        info->indexes[0]->field_id = 101;
        info->indexes[0]->name = "vec";
        px_kv_add(&l, ar, "metric_type", "L2");
        info->indexes[0]->params = l.kv;
        info->indexes[0]->n_params = l.n;
        info->n_indexes = 1;
    }
}

static inline int fx_describe(void *self, const struct call *call,
                              const Elanus__DescribeCollectionReq *req,
                              Elanus__CollectionInfo *resp, struct status *st)
{
    struct fx *fx = self;
    bool known = strcmp(req->name, "c") == 0 || strcmp(req->name, "other") == 0 ||
                 (req->name[0] == '\0' && req->collection_id == FX_COLL);
    fx->describes++;
    if (fx->fail_code) {
        int code = fx->fail_code;
        fx->fail_code = 0;
        return st_fail(st, code, "told to fail");
    }
    if (!fx->exists || !known) {
        return st_fail(st, ERR_COLLECTION_NOT_FOUND, "no such thing");
    }
    fx_info(fx, call->ar, resp);
    if (fx->during_describe) {
        void (*fn)(struct fx *) = fx->during_describe;
        fx->during_describe = NULL;
        fn(fx);
    }
    return 0;
}

static inline int fx_create(void *self, const struct call *call,
                            const Elanus__CreateCollectionReq *req, Elanus__CollectionInfo *resp,
                            struct status *st)
{
    struct fx *fx = self;
    struct buf b;
    (void)call;
    (void)resp;
    buf_init(&b, 1 << 20);
    assert_true(proto_pack(&req->pb, &b));
    fx->created = proto_unpack(&elanus__create_collection_req__descriptor, buf_slice(&b), fx->ar,
                               st);
    buf_done(&b);
    assert_non_null(fx->created);
    return 0;
}

static inline int fx_authenticate(void *self, const struct call *call,
                                  const Elanus__CredentialReq *req, Elanus__AuthResp *resp,
                                  struct status *st)
{
    struct fx *fx = self;
    (void)call;
    (void)st;
    fx->authentications++;
    resp->ok = strcmp(req->name, "root") == 0 && strcmp(req->password, "Milvus") == 0;
    return 0;
}

static inline int fx_locate(void *self, const struct call *call, const Elanus__LocateReq *req,
                            Elanus__LocateResp *resp, struct status *st)
{
    struct fx *fx = self;
    (void)st;
    fx->locates++;
    assert_int_equal(req->collection_id, FX_COLL);
    resp->shards = arena_alloc(call->ar, sizeof resp->shards[0]);
    resp->shards[0] = ARENA_NEW(call->ar, Elanus__ShardLocation);
    elanus__shard_location__init(resp->shards[0]);
    resp->shards[0]->vchannel = "dml_0_7v0";
    resp->shards[0]->node_id = FX_NODE;
    resp->n_shards = 1;
    return 0;
}

/* set: "key=value" options, NULL at the end. */
static inline void fx_start(struct fx *fx, const char *const *set)
{
    struct status st = STATUS_INIT;

    *fx = (struct fx){ .now = hts_make(1000000, 0), .ts_step = 1, .exists = true };
    fx->partitions[fx->npartitions++] = "_default";
    fx->cfg = config_new(fx_rows, ARRAY_LEN(fx_rows));
    for (; set && *set; set++) {
        const char *eq = strchr(*set, '=');
        char *key = xstrndup(*set, (size_t)(eq - *set));
        ASSERT_OK(config_set(fx->cfg, key, slice_of(eq + 1), &st));
        mem_free(key);
    }
    fx->ar = arena_new(0);
    fx->dir = svc_dir_new(NULL);
    fx->root = (struct root_service){ .self = fx, .alloc_ts = fx_alloc_ts, .alloc_id = fx_alloc_ts,
                                      .describe_collection = fx_describe,
                                      .create_collection = fx_create,
                                      .authenticate = fx_authenticate };
    fx->streaming = (struct streaming_service){ .self = fx, .locate = fx_locate };
    svc_dir_add(fx->dir, FX_NODE, &fx->snode, NULL);
    struct proxy_opts o = { .root = &fx->root, .data = &fx->data, .query = &fx->query,
                            .streaming = &fx->streaming, .dir = fx->dir, .config = fx->cfg,
                            .deploy_mode = "STANDALONE" };
    ASSERT_OK(proxy_new(&o, &fx->px, &st));
    fx->proxy = proxy_service_of(fx->px);
    px_call_init(&fx->pc, fx->px, fx->ar);
}

static inline void fx_stop(struct fx *fx)
{
    px_call_done(&fx->pc);
    proxy_free(fx->px);
    svc_dir_free(fx->dir);
    config_free(fx->cfg);
    arena_free(fx->ar);
}

/* The coordinator says: forget this. */
static inline void fx_invalidate(struct fx *fx, int64_t id, const char *name)
{
    Elanus__InvalidateReq req = ELANUS__INVALIDATE_REQ__INIT;
    Elanus__Empty resp = ELANUS__EMPTY__INIT;
    struct status st = STATUS_INIT;
    req.collection_id = id;
    req.db_name = "default";
    req.names = &name;
    req.n_names = name ? 1 : 0;
    ASSERT_OK(fx->proxy.invalidate(fx->proxy.self, &fx->pc.call, &req, &resp, &st));
}
