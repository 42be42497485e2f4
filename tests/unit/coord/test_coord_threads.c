/*
 * test_coord_threads.c - many callers at once: changes, readers, flushes and loads side by side.
 *
 * Meant for the thread and address sanitizers; what it asserts is that nothing hangs, nothing
 * fails that must not, and that a restart finds what was shown.
 */
#include "coord_fixture.h"

enum { ROUNDS = 60 };

struct worker {
    struct fx *fx;
    int number;
    int64_t coll, part;
    const char *vchannel;
    struct arena *ar;
    struct call call;
    int failures;
};

#define W(w, service, method, req, resp)                                                           \
    (st_clear(&st),                                                                                \
     (w)->fx->service.method((w)->fx->service.self, &(w)->call, (req), (resp), &st))
#define WANT(expr)                                                                                 \
    do {                                                                                           \
        if ((expr) != 0) {                                                                         \
            w->failures++;                                                                         \
            fprintf(stderr, "%s: %s\n", #expr, st.msg);                                            \
        }                                                                                          \
    } while (0)

static void change_collections(struct worker *w)
{
    struct status st;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    for (int i = 0; i < ROUNDS; i++) {
        Elanus__CreateCollectionReq create = ELANUS__CREATE_COLLECTION_REQ__INIT;
        Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
        Elanus__CreateIndexReq index = ELANUS__CREATE_INDEX_REQ__INIT;
        Elanus__LoadReq load = ELANUS__LOAD_REQ__INIT;
        Elanus__NameReq drop = ELANUS__NAME_REQ__INIT;
        const char *name = arena_printf(w->ar, "c%d_%d", w->number, i % 3);
        pb_field *fields = arena_alloc(w->ar, 2 * sizeof *fields);
        pb_field *list[2] = { fields, fields + 1 };
        pb_schema schema = MILVUS__PROTO__SCHEMA__COLLECTION_SCHEMA__INIT;
        pb_kv dim = MILVUS__PROTO__COMMON__KEY_VALUE_PAIR__INIT, *dims = &dim;
        milvus__proto__schema__field_schema__init(list[0]);
        milvus__proto__schema__field_schema__init(list[1]);
        fields[0].name = "id";
        fields[0].is_primary_key = true;
        fields[0].data_type = 5;
        fields[1].name = "vec";
        fields[1].data_type = 101;
        dim.key = "dim";
        dim.value = "4";
        fields[1].type_params = &dims;
        fields[1].n_type_params = 1;
        schema.name = name;
        schema.fields = list;
        schema.n_fields = 2;
        create.schema = &schema;
        WANT(W(w, root, create_collection, &create, &info));
        index.collection_name = name;
        index.field_name = "vec";
        index.index_name = "v";
        WANT(W(w, data, create_index, &index, &e));
        load.collection_name = name;
        WANT(W(w, query, load, &load, &e));
        drop.name = name;
        WANT(W(w, root, drop_collection, &drop, &e));
    }
}

static void flush_and_place(struct worker *w)
{
    struct status st;
    for (int i = 0; i < ROUNDS * 4; i++) {
        Elanus__CommitFlushReq req = ELANUS__COMMIT_FLUSH_REQ__INIT;
        Elanus__Segment s = ELANUS__SEGMENT__INIT, *segs[] = { &s };
        Elanus__PlaceSegmentsReq place = ELANUS__PLACE_SEGMENTS_REQ__INIT;
        Elanus__PlaceSegmentsResp placed = ELANUS__PLACE_SEGMENTS_RESP__INIT;
        Elanus__Empty e = ELANUS__EMPTY__INIT;
        s.id = w->number * 1000 + i;
        s.collection_id = w->coll;
        s.partition_id = w->part;
        s.num_rows = 10;
        s.object_prefix = "segments/x";
        req.vchannel = w->vchannel;
        req.collection_id = w->coll;
        req.term = 1;
        req.segments = segs;
        req.n_segments = 1;
        WANT(W(w, data, commit_flush, &req, &e));
        place.collection_id = w->coll;
        place.segment_ids = &s.id;
        place.n_segment_ids = 1;
        WANT(W(w, query, place_segments, &place, &placed));
    }
}

static void read_everything(struct worker *w)
{
    struct status st;
    for (int i = 0; i < ROUNDS * 2; i++) {
        Elanus__ListCollectionsReq list = ELANUS__LIST_COLLECTIONS_REQ__INIT;
        Elanus__CollectionList colls = ELANUS__COLLECTION_LIST__INIT;
        Elanus__SegmentsReq sreq = ELANUS__SEGMENTS_REQ__INIT;
        Elanus__SegmentsResp segs = ELANUS__SEGMENTS_RESP__INIT;
        Elanus__LoadStateReq lreq = ELANUS__LOAD_STATE_REQ__INIT;
        Elanus__LoadStateResp lresp = ELANUS__LOAD_STATE_RESP__INIT;
        Elanus__IndexReq ireq = ELANUS__INDEX_REQ__INIT;
        Elanus__IndexList indexes = ELANUS__INDEX_LIST__INIT;
        Elanus__FlushStateReq freq = ELANUS__FLUSH_STATE_REQ__INIT;
        Elanus__FlushStateResp fresp = ELANUS__FLUSH_STATE_RESP__INIT;
        WANT(W(w, root, list_collections, &list, &colls));
        sreq.collection_id = w->coll;
        WANT(W(w, data, list_segments, &sreq, &segs));
        lreq.collection_name = "fixed";
        WANT(W(w, query, load_state, &lreq, &lresp));
        ireq.collection_name = "fixed";
        WANT(W(w, data, describe_index, &ireq, &indexes));
        freq.all = true;
        WANT(W(w, data, flush_state, &freq, &fresp));
        arena_reset(w->ar);
    }
}

static void load_and_release(struct worker *w)
{
    struct status st;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    for (int i = 0; i < ROUNDS; i++) {
        Elanus__LoadReq load = ELANUS__LOAD_REQ__INIT;
        Elanus__ReleaseReq release = ELANUS__RELEASE_REQ__INIT;
        Elanus__AliasReq alias = ELANUS__ALIAS_REQ__INIT;
        Elanus__PartitionReq part = ELANUS__PARTITION_REQ__INIT;
        load.collection_name = release.collection_name = "fixed";
        alias.collection_name = part.collection_name = "fixed";
        alias.alias = arena_printf(w->ar, "al%d", i % 2);
        part.partition_name = arena_printf(w->ar, "p%d", w->number);
        WANT(W(w, root, create_alias, &alias, &e));
        WANT(W(w, root, create_partition, &part, &e));
        WANT(W(w, query, load, &load, &e));
        WANT(W(w, query, release, &release, &e));
        WANT(W(w, root, drop_alias, &alias, &e));
    }
}

static void (*const jobs[])(struct worker *) = { change_collections, flush_and_place,
                                                 read_everything, load_and_release,
                                                 change_collections, flush_and_place };

static void worker_main(void *arg)
{
    struct worker *w = arg;
    w->ar = arena_new(0);
    w->call = call_internal(w->ar);
    jobs[w->number](w);
    arena_free(w->ar);
}

/* The fixture's nodes keep a log nobody locks; here they only say yes. */
static int yes_open(void *self, const struct call *call, const Elanus__OpenShardsReq *req,
                    Elanus__Empty *resp, struct status *st)
{
    return 0;
}
static int yes_drop(void *self, const struct call *call, const Elanus__ShardReq *req,
                    Elanus__Empty *resp, struct status *st)
{
    return 0;
}
static int yes_load(void *self, const struct call *call, const Elanus__SetLoadReq *req,
                    Elanus__Empty *resp, struct status *st)
{
    return 0;
}
static int yes_release(void *self, const struct call *call, const Elanus__ReleaseSegmentsReq *req,
                       Elanus__Empty *resp, struct status *st)
{
    return 0;
}
static int yes_invalidate(void *self, const struct call *call, const Elanus__InvalidateReq *req,
                          Elanus__Empty *resp, struct status *st)
{
    return 0;
}

static void test_everything_when_done_at_once_then_nothing_breaks(void **state)
{
    struct fx *fx = fx_new();
    struct worker w[ARRAY_LEN(jobs)] = { 0 };
    struct thread *threads[ARRAY_LEN(jobs)];
    Elanus__CollectionInfo info;
    struct snode_service sn = fx->sn;
    struct qnode_service qn = fx->qn;
    struct proxy_service px = fx->px;
    int64_t rows = 0;
    fx_create(fx, "", "fixed");
    ASSERT_CALL(fx_index(fx, "fixed", "vec", "v", "FLAT"));
    ASSERT_CALL(fx_describe(fx, "", "fixed", &info));
    fx->sn.open_shards = yes_open;
    fx->sn.drop_shard = yes_drop;
    fx->sn.set_load = yes_load;
    fx->qn.release_segments = yes_release;
    fx->px.invalidate = yes_invalidate;
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        w[i] = (struct worker){ .fx = fx,
                                .number = (int)i,
                                .coll = info.collection->id,
                                .part = info.partitions[0]->id,
                                .vchannel = info.collection->vchannels[0] };
        threads[i] = thread_start("worker", worker_main, &w[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        thread_join(threads[i]);
        assert_int_equal(w[i].failures, 0);
    }
    assert_int_equal(fx_keys(fx, "/elanus/data/segment/"), 2 * ROUNDS * 4);
    assert_int_equal(fx_keys(fx, "/elanus/root/collection/"), 1);
    for (size_t i = 0; i < fx->co->nnodes; i++) {
        rows += fx->co->nodes[i].rows;
    }
    assert_int_equal(rows, 0); /* released at the end */
    fx->sn = sn;
    fx->qn = qn;
    fx->px = px;
    char *before = fx_dump(fx);
    fx_restart(fx);
    assert_string_equal(fx_dump(fx), before);
    fx_free(fx);
}

int main(void)
{
    log_threshold = LOG_WARN;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_when_done_at_once_then_nothing_breaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
