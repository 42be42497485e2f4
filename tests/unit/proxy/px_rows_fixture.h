/*
 * px_rows_fixture.h - px_fixture.h with shards that have rows: numbered 0 .. n - 1, each with a
 * score and a word given by functions, spread by key. Writes are recorded; queries understand "key
 * in" and "key >" (also inside `and`) and take every other condition for true.
 */
#pragma once
#include "px_fixture.h"
#include "proxy/px_methods.h"
#include "proxy/px_read.h"
#include "proxy/px_write.h"
#include "query/plan.h"

enum { RW_SHARDS_MAX = 16, RW_WRITES_MAX = 64 };

struct rw_write {
    uint32_t shard, nrows, nkeys, nparts;
    uint32_t part_rows[32];
    int64_t part_ids[32];
    size_t nscope;
    int64_t scope;
};
struct rw;
struct rw_shard {
    struct rw *rw;
    uint32_t no;
};
struct rw {
    struct fx fx;
    struct px_call *pc;
    size_t nshards, npartitions;
    struct rw_shard shards[RW_SHARDS_MAX];
    struct snode_service nodes[RW_SHARDS_MAX];
    int64_t nrows;
    float (*score)(int64_t row);
    const char *(*word)(int64_t row);     /* NULL: null */
    /* what was asked */
    int searches, queries;
    uint32_t last_k, largest_k;
    hts read_ts[64];                      /* of every search and query, as asked */
    size_t nreads, npartition_ids;
    int64_t partition_ids[32];
    struct rw_write writes[RW_WRITES_MAX];
    size_t nwrites;
    uint64_t *deleted;                    /* a bit a row */
    int64_t ndeleted;
    int fail_code;
    int behind, behind_code;              /* so many of the next calls fail with the code */
};

static inline int rw_behind(struct rw *rw, struct status *st)
{
    if (rw->behind == 0) {
        return 0;
    }
    rw->behind--;
    return st_fail(st, rw->behind_code, "field not found[field=103]");
}

static inline int rw_describe(void *self, const struct call *call,
                              const Elanus__DescribeCollectionReq *req,
                              Elanus__CollectionInfo *resp, struct status *st)
{
    struct fx *fx = self;
    struct rw *rw = (struct rw *)fx;      /* its first member */
    static const char *names[RW_SHARDS_MAX] = { "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7",
                                                "s8", "s9", "s10", "s11", "s12", "s13", "s14",
                                                "s15" };
    int rc = fx_describe(self, call, req, resp, st);
    if (rc == 0) {
        resp->collection->schema->fields[2]->nullable = !fx->partition_key;
        resp->collection->vchannels = names;
        resp->collection->n_vchannels = rw->nshards;
        resp->n_partitions = rw->npartitions;
        resp->partitions = arena_alloc(call->ar, rw->npartitions * sizeof resp->partitions[0]);
        for (size_t i = 0; i < rw->npartitions; i++) {
            Elanus__Partition *p = ARENA_NEW(call->ar, Elanus__Partition);
            elanus__partition__init(p);
            p->id = 100 + (int64_t)(i * 7 % rw->npartitions); /* in no order */
            p->name = i ? arena_printf(call->ar, "p%zu", i) : "_default";
            resp->partitions[i] = p;
        }
    }
    return rc;
}

static inline int rw_locate(void *self, const struct call *call, const Elanus__LocateReq *req,
                            Elanus__LocateResp *resp, struct status *st)
{
    struct rw *rw = self;
    (void)req;
    (void)st;
    rw->fx.locates++;
    resp->n_shards = rw->nshards;
    resp->shards = arena_alloc(call->ar, rw->nshards * sizeof resp->shards[0]);
    for (size_t i = 0; i < rw->nshards; i++) {
        resp->shards[i] = ARENA_NEW(call->ar, Elanus__ShardLocation);
        elanus__shard_location__init(resp->shards[i]);
        resp->shards[i]->vchannel = arena_printf(call->ar, "s%zu", i);
        resp->shards[i]->node_id = 50 + (int64_t)i;
    }
    return 0;
}

static inline struct column rw_key(const int64_t *key)
{
    return (struct column){ .field_id = 100, .type = DT_INT64, .nrows = 1, .width = 8,
                            .data = (const uint8_t *)key };
}

static inline bool rw_is_mine(const struct rw_shard *s, int64_t row)
{
    struct column c = rw_key(&row);
    return px_shard_of(&c, 0, s->rw->nshards) == s->no;
}

struct rw_item {
    int64_t row;
    float score;
};

static inline int rw_by_score(const void *a, const void *b)
{
    const struct rw_item *x = a, *y = b;
    if (x->score != y->score) {
        return x->score < y->score ? -1 : 1;
    }
    return x->row < y->row ? -1 : x->row > y->row;
}

/* id and word of rows, as encoded batches. */
static inline ProtobufCBinaryData rw_batch(struct rw *rw, const struct rw_item *items, size_t n,
                                           const int64_t *fields, size_t nfields, struct arena *ar)
{
    struct column *cols = arena_alloc(ar, nfields * sizeof *cols);
    struct batch b = { (uint32_t)n, (uint32_t)nfields, cols };
    struct buf out;
    ProtobufCBinaryData ret;

    for (size_t f = 0; f < nfields; f++) {
        bool key = fields[f] == 100;
        assert_true(key || fields[f] == 102);
        struct column_builder *cb = column_builder_new(ar, fields[f], key ? DT_INT64 : DT_VARCHAR,
                                                       DT_NONE, 0, (uint32_t)n);
        for (size_t i = 0; i < n; i++) {
            const char *w = key ? NULL : rw->word(items[i].row);
            assert_true(key ? column_builder_add(cb, slice_n(&items[i].row, 8))
                        : w ? column_builder_add(cb, slice_of(w))
                            : column_builder_null(cb));
        }
        column_builder_finish(cb, &cols[f]);
    }
    buf_init(&out, (size_t)1 << 30);
    assert_true(batch_encode(&b, &out));
    ret.data = arena_alloc(ar, out.n);
    memcpy(ret.data, out.p, out.n);
    ret.len = out.n;
    buf_done(&out);
    return ret;
}

static inline void rw_read(struct rw *rw, hts read_ts, const int64_t *ids, size_t n)
{
    if (rw->nreads < ARRAY_LEN(rw->read_ts)) {
        rw->read_ts[rw->nreads++] = read_ts;
    }
    rw->npartition_ids = n;
    for (size_t i = 0; i < n && i < ARRAY_LEN(rw->partition_ids); i++) {
        rw->partition_ids[i] = ids[i];
    }
}

static inline int rw_search(void *self, const struct call *call, const Elanus__SearchReq *req,
                            Elanus__SearchResp *resp, struct status *st)
{
    struct rw_shard *s = self;
    struct rw *rw = s->rw;
    struct rw_item *items = xalloc((size_t)(rw->nrows + 1) * sizeof *items);
    size_t n = 0;
    int64_t key = 100;

    if (rw->fail_code || rw_behind(rw, st) != 0) {
        mem_free(items);
        return rw->fail_code ? st_fail(st, rw->fail_code, "told to fail") : st->code;
    }
    rw->searches++;
    rw->last_k = req->k;
    rw->largest_k = MAX(rw->largest_k, req->k);
    rw_read(rw, req->read_ts, req->partition_ids, req->n_partition_ids);
    for (int64_t r = 0; r < rw->nrows; r++) {
        float score = rw->score(r);
        if (rw_is_mine(s, r) && !(req->has_bound && score <= req->bound)) {
            items[n++] = (struct rw_item){ r, score };
        }
    }
    qsort(items, n, sizeof *items, rw_by_score);
    n = MIN(n, (size_t)req->k);
    resp->counts = arena_alloc(call->ar, req->nq * sizeof *resp->counts);
    resp->n_counts = req->nq;
    resp->n_scores = n * req->nq;
    resp->scores = arena_alloc(call->ar, (resp->n_scores + 1) * sizeof *resp->scores);
    items = xrealloc(items, (n * req->nq + 1) * sizeof *items);
    for (size_t q = 0; q < req->nq; q++) {
        resp->counts[q] = (uint32_t)n;
        for (size_t i = 0; i < n; i++) {
            items[q * n + i] = items[i];
            resp->scores[q * n + i] = items[i].score;
        }
    }
    if (n) {
        resp->pks = rw_batch(rw, items, n * req->nq, &key, 1, call->ar);
    }
    if (n && req->n_output_field_ids) {
        resp->fields = rw_batch(rw, items, n * req->nq, req->output_field_ids,
                                req->n_output_field_ids, call->ar);
    }
    resp->read_ts = req->read_ts ? req->read_ts : 1000 + s->no;
    mem_free(items);
    return 0;
}

static inline bool rw_passes(const struct expr *e, int64_t row)
{
    if (!e || e->operand.field_id != 100) {
        bool ok = true;
        for (uint32_t i = 0; e && e->kind == EX_AND && i < e->nkids; i++) {
            ok = ok && rw_passes(e->kids[i], row);
        }
        return ok;
    }
    if (e->kind == EX_CMP && e->op == OP_GT) {
        return row > e->value.i;
    }
    for (uint32_t i = 0; e->kind == EX_IN && i < e->value.a.n; i++) {
        if (e->value.a.items[i].i == row) {
            return true;
        }
    }
    return e->kind != EX_IN;
}

static inline int rw_query(void *self, const struct call *call, const Elanus__QueryReq *req,
                           Elanus__QueryResp *resp, struct status *st)
{
    struct rw_shard *s = self;
    struct rw *rw = s->rw;
    struct rw_item *items = xalloc((size_t)(rw->nrows + 1) * sizeof *items);
    const struct expr *plan = NULL;
    int64_t fields[8] = { 100 };
    size_t n = 0, nfields = 1;

    if (rw_behind(rw, st) != 0) {
        mem_free(items);
        return st->code;
    }
    rw->queries++;
    rw_read(rw, req->read_ts, req->partition_ids, req->n_partition_ids);
    if (req->plan.len) {
        assert_int_equal(plan_decode(slice_n(req->plan.data, req->plan.len), call->ar, &plan, st),
                         0);
    }
    for (int64_t r = 0; r < rw->nrows && (req->limit < 0 || (int64_t)n < req->limit); r++) {
        if (rw_is_mine(s, r) && rw_passes(plan, r)) {
            items[n++] = (struct rw_item){ r, 0 };
        }
    }
    for (size_t f = 0; f < req->n_output_field_ids; f++) {
        if (req->output_field_ids[f] != 100) {
            fields[nfields++] = req->output_field_ids[f];
        }
    }
    resp->count = (int64_t)n;
    resp->batch = rw_batch(rw, items, n, fields, nfields, call->ar);
    resp->n_timestamps = n;
    resp->timestamps = arena_alloc(call->ar, (n + 1) * sizeof *resp->timestamps);
    resp->read_ts = req->read_ts ? req->read_ts : 2000 + s->no;
    mem_free(items);
    return 0;
}

static inline int rw_write(void *self, const struct call *call, const Elanus__WriteReq *req,
                           Elanus__WriteResp *resp, struct status *st)
{
    struct rw_shard *s = self;
    struct rw *rw = s->rw;
    struct rw_write *w = &rw->writes[MIN(rw->nwrites, (size_t)RW_WRITES_MAX - 1)];
    struct batch b;

    if (rw->fail_code) {
        return st_fail(st, rw->fail_code, "told to fail");
    }
    if (rw_behind(rw, st) != 0) {
        return st->code;
    }
    rw->nwrites++;
    *w = (struct rw_write){ .shard = s->no, .nscope = req->n_delete_partition_ids };
    w->scope = w->nscope ? req->delete_partition_ids[0] : 0;
    for (size_t i = 0; i < req->n_inserts; i++) {
        const Elanus__InsertPart *p = req->inserts[i];
        assert_int_equal(batch_decode(slice_n(p->batch.data, p->batch.len), call->ar, &b, st), 0);
        assert_int_equal(b.nrows, p->num_rows);
        for (uint32_t r = 0; r < b.nrows; r++) {
            assert_int_equal(px_shard_of(batch_column(&b, 100), r, rw->nshards), s->no);
        }
        w->part_rows[w->nparts] = b.nrows;
        w->part_ids[w->nparts++] = p->partition_id;
        w->nrows += b.nrows;
    }
    if (req->delete_pks.len) {
        assert_int_equal(batch_decode(slice_n(req->delete_pks.data, req->delete_pks.len), call->ar,
                                      &b, st), 0);
        w->nkeys = b.nrows;
        for (uint32_t r = 0; r < b.nrows; r++) {
            int64_t key = column_i64(&b.cols[0], r);
            assert_int_equal(px_shard_of(&b.cols[0], r, rw->nshards), s->no);
            if (rw->deleted && key >= 0 && key < rw->nrows) {
                assert_false(bit_get(rw->deleted, (uint32_t)key));
                bit_set(rw->deleted, (uint32_t)key);
                rw->ndeleted++;
            }
        }
    }
    resp->timestamp = 5000 + rw->nwrites;
    return 0;
}

static inline float rw_score_is_row(int64_t row)
{
    return (float)row;
}

static inline const char *rw_word_default(int64_t row)
{
    static const char *const words[] = { "a", "b", "c", "d", "e" };
    return row % 6 == 5 ? NULL : words[row % 6];
}

static inline void rw_start(struct rw *rw, size_t nshards, size_t npartitions, bool key)
{
    struct status st = STATUS_INIT;

    *rw = (struct rw){ .nshards = nshards, .npartitions = npartitions, .score = rw_score_is_row,
                       .word = rw_word_default };
    fx_start(&rw->fx, NULL);
    rw->pc = &rw->fx.pc;
    rw->fx.loaded = rw->fx.has_index = true;
    rw->fx.partition_key = key;
    rw->fx.root.describe_collection = rw_describe;
    rw->fx.streaming = (struct streaming_service){ .self = rw, .locate = rw_locate };
    for (size_t i = 0; i < nshards; i++) {
        rw->shards[i] = (struct rw_shard){ rw, (uint32_t)i };
        rw->nodes[i] = (struct snode_service){ .self = &rw->shards[i], .search = rw_search,
                                               .query = rw_query, .write = rw_write };
        svc_dir_add(rw->fx.dir, 50 + (int64_t)i, &rw->nodes[i], NULL);
    }
    (void)st;
}

static inline void rw_stop(struct rw *rw)
{
    mem_free(rw->deleted);
    fx_stop(&rw->fx);
}

static inline const struct px_coll *rw_coll(struct rw *rw)
{
    struct status st = STATUS_INIT;
    const struct px_coll *c = NULL;
    ASSERT_OK(px_collection(rw->pc, "", "c", &c, &st));
    return c;
}

/* ---- requests ---- */

static inline void rw_param(struct rw *rw, px_kv_pb ***kv, size_t *n, const char *key,
                            const char *value)
{
    struct px_kv_list l = { *n, *n, *kv };
    px_kv_add(&l, rw->fx.ar, key, value);
    *kv = l.kv;
    *n = l.n;
}

/* A search of nq zero vectors; params: key, value, ..., NULL. */
static inline Milvus__Proto__Milvus__SearchRequest *rw_search_request(struct rw *rw, size_t nq,
                                                                      const char *const *params)
{
    Milvus__Proto__Milvus__SearchRequest *req =
        ARENA_NEW(rw->fx.ar, Milvus__Proto__Milvus__SearchRequest);
    Milvus__Proto__Common__PlaceholderGroup pg = MILVUS__PROTO__COMMON__PLACEHOLDER_GROUP__INIT;
    Milvus__Proto__Common__PlaceholderValue pv = MILVUS__PROTO__COMMON__PLACEHOLDER_VALUE__INIT;
    Milvus__Proto__Common__PlaceholderValue *pvs[] = { &pv };
    struct buf b;

    milvus__proto__milvus__search_request__init(req);
    req->collection_name = "c";
    req->consistency_level = MILVUS__PROTO__COMMON__CONSISTENCY_LEVEL__Eventually;
    for (; *params; params += 2) {
        rw_param(rw, &req->search_params, &req->n_search_params, params[0], params[1]);
    }
    pv.tag = "$0";
    pv.type = MILVUS__PROTO__COMMON__PLACEHOLDER_TYPE__FloatVector;
    pv.n_values = nq;
    pv.values = arena_alloc(rw->fx.ar, nq * sizeof pv.values[0]);
    for (size_t i = 0; i < nq; i++) {
        pv.values[i].data = arena_alloc(rw->fx.ar, 32);
        pv.values[i].len = 32;
    }
    pg.placeholders = pvs;
    pg.n_placeholders = 1;
    buf_init(&b, 1 << 24);
    assert_true(proto_pack(&pg.pb, &b));
    req->search_input_case = MILVUS__PROTO__MILVUS__SEARCH_REQUEST__SEARCH_INPUT_PLACEHOLDER_GROUP;
    req->placeholder_group.data = arena_alloc(rw->fx.ar, b.n);
    memcpy(req->placeholder_group.data, b.p, b.n);
    req->placeholder_group.len = b.n;
    buf_done(&b);
    return req;
}
