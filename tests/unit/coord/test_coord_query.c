/* test_coord_query.c - load, release, load state, placement, nodes that come and come back. */
#include "coord_fixture.h"

enum { NOT_EXIST = 0, NOT_LOAD = 1, LOADING = 2, LOADED = 3 };

static const char *vchannel_of(struct fx *fx, const char *name, int64_t *ret_id,
                               int64_t *ret_part)
{
    Elanus__CollectionInfo info;
    ASSERT_CALL(fx_describe(fx, "", name, &info));
    *ret_id = info.collection->id;
    *ret_part = info.partitions[0]->id;
    return info.collection->vchannels[0];
}

static void test_load_when_vector_has_no_index_then_refused(void **state)
{
    struct fx *fx = fx_new();
    Elanus__LoadReq req = ELANUS__LOAD_REQ__INIT;
    const char *fields[] = { "id", "vec" };
    fx_create(fx, "", "c");
    ASSERT_REFUSED(fx_load(fx, "c", NULL), ERR_PARAMETER_INVALID,
                   "there is no vector index on field: [vec], please create index firstly");
    ASSERT_CALL(fx_index(fx, "c", "name", "n", "INVERTED"));
    assert_int_equal(fx_load(fx, "c", NULL), ERR_PARAMETER_INVALID);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "FLAT"));
    ASSERT_REFUSED(fx_load(fx, "x", NULL), ERR_COLLECTION_NOT_FOUND,
                   "collection not found[database=default][collection=x]");
    ASSERT_REFUSED(fx_load(fx, "c", "nopart"), ERR_PARTITION_NOT_FOUND,
                   "partition not found[partition=nopart]");
    req.collection_name = "c";
    req.field_names = fields;
    req.n_field_names = 1;
    ASSERT_REFUSED(CALL_E(fx, query, load, &req), ERR_PARAMETER_INVALID,
                   "load field list [id] does not contain vector field");
    fields[0] = "vec";
    ASSERT_REFUSED(CALL_E(fx, query, load, &req), ERR_PARAMETER_INVALID,
                   "load field list [vec] does not contain primary key field id");
    fields[0] = "none";
    ASSERT_REFUSED(CALL_E(fx, query, load, &req), ERR_FIELD_NOT_FOUND,
                   "field not found[field=none]");
    fields[0] = "id";
    req.n_field_names = 2;
    req.replica_number = 2;
    assert_int_equal(CALL_E(fx, query, load, &req), ST_UNAVAILABLE);
    req.replica_number = 1;
    ASSERT_CALL(CALL_E(fx, query, load, &req));
    ASSERT_CALL(fx_load(fx, "c", NULL)); /* loaded: nothing to do */
    req.replica_number = 3;
    ASSERT_REFUSED(CALL_E(fx, query, load, &req), ERR_PARAMETER_INVALID,
                   "can't change the replica number for loaded collection: invalid "
                   "parameter[expected=1][actual=3]");
    fx_free(fx);
}

static void test_load_when_partitions_then_states_follow(void **state)
{
    struct fx *fx = fx_new();
    Elanus__CollectionInfo info;
    fx_create(fx, "", "c");
    ASSERT_CALL(fx_partition(fx, true, "c", "p"));
    ASSERT_CALL(fx_partition(fx, true, "c", "q"));
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "FLAT"));
    assert_int_equal(fx_load_state(fx, "c", NULL), NOT_LOAD);
    assert_int_equal(fx_load_state(fx, "x", NULL), NOT_EXIST);
    fx_forget(fx);
    ASSERT_CALL(fx_load(fx, "c", "p"));
    assert_true(fx_told(fx, "status=2,whole=0,parts=1"));
    assert_true(fx_told(fx, "forget(default.c)"));
    assert_int_equal(fx_load_state(fx, "c", "p"), LOADED);
    assert_int_equal(fx_load_state(fx, "c", "q"), NOT_LOAD);
    assert_int_equal(fx_load_state(fx, "c", NULL), LOADED);
    ASSERT_CALL(fx_load(fx, "c", "q"));
    assert_true(fx_told(fx, "status=2,whole=0,parts=2"));
    ASSERT_CALL(fx_load(fx, "c", NULL));
    assert_true(fx_told(fx, "status=2,whole=1,parts=3"));
    ASSERT_CALL(fx_load(fx, "c", "p"));
    /* A partition made after that is loaded with it. */
    ASSERT_CALL(fx_partition(fx, true, "c", "r"));
    assert_int_equal(fx_load_state(fx, "c", "r"), LOADED);
    ASSERT_CALL(fx_release(fx, "c", "q"));
    assert_true(fx_told(fx, "status=2,whole=0,parts=3"));
    assert_int_equal(fx_load_state(fx, "c", "q"), NOT_LOAD);
    assert_int_equal(fx_load_state(fx, "c", "r"), LOADED);
    ASSERT_CALL(fx_release(fx, "c", NULL));
    assert_true(fx_told(fx, "status=0,whole=0,parts=0"));
    assert_int_equal(fx_load_state(fx, "c", NULL), NOT_LOAD);
    ASSERT_CALL(fx_release(fx, "c", NULL));
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    assert_null(info.load);
    /* The last partition released releases the collection. */
    ASSERT_CALL(fx_load(fx, "c", "p"));
    ASSERT_CALL(fx_release(fx, "c", "p"));
    assert_int_equal(fx_keys(fx, "/elanus/query/load/"), 0);
    fx_free(fx);
}

static void test_load_when_shard_refuses_then_state_is_as_before(void **state)
{
    struct fx *fx = fx_new();
    int64_t id, part;
    fx_create(fx, "", "c");
    ASSERT_CALL(fx_partition(fx, true, "c", "p"));
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "FLAT"));
    const char *vchannel = vchannel_of(fx, "c", &id, &part);
    ASSERT_CALL(fx_commit(fx, vchannel, id, part, 5, 100, 1));
    fx->fail_on = "set_load";
    fx->fail_code = ST_CORRUPT;
    assert_int_equal(fx_load(fx, "c", NULL), ST_CORRUPT);
    assert_int_equal(fx_load_state(fx, "c", NULL), NOT_LOAD);
    assert_int_equal(fx->load_status, 0);
    assert_int_equal(fx->co->nodes[0].rows, 0);
    ASSERT_CALL(fx_load(fx, "c", "p"));
    fx->fail_on = "set_load";
    assert_int_equal(fx_load(fx, "c", NULL), ST_CORRUPT);
    assert_int_equal(fx_load_state(fx, "c", "p"), LOADED);
    assert_int_equal(fx_load_state(fx, "c", "_default"), NOT_LOAD);
    assert_int_equal(fx->load_partitions, 1); /* the shard was told to go back */
    /* The same when the store fails once the shards have loaded. */
    meta_mem_fail_txn(fx->meta, "/elanus/query/load/", 1, ST_NO_SPACE);
    assert_int_equal(fx_load(fx, "c", NULL), ST_NO_SPACE);
    assert_int_equal(fx->load_partitions, 1);
    assert_int_equal(fx->co->nodes[0].rows, 0);
    fx_restart(fx);
    assert_int_equal(fx_load_state(fx, "c", "p"), LOADED);
    fx_free(fx);
}

static void place(struct fx *fx, int64_t coll, int64_t seg, size_t expected, int64_t node)
{
    Elanus__PlaceSegmentsReq req = ELANUS__PLACE_SEGMENTS_REQ__INIT;
    Elanus__PlaceSegmentsResp resp = ELANUS__PLACE_SEGMENTS_RESP__INIT;
    req.collection_id = coll;
    req.segment_ids = &seg;
    req.n_segment_ids = 1;
    ASSERT_CALL(CALL(fx, query, place_segments, &req, &resp));
    assert_int_equal(resp.n_placements, expected);
    if (expected && node) {
        assert_int_equal(resp.placements[0]->node_id, node);
    }
}

static void test_place_when_loaded_then_spread_and_remembered(void **state)
{
    struct fx *fx = fx_new();
    struct status st = STATUS_INIT;
    int64_t id, part;
    fx_create(fx, "", "c");
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "FLAT"));
    const char *vchannel = vchannel_of(fx, "c", &id, &part);
    ASSERT_OK(fx_register(fx, QN2_ID, "querynode", &st));
    ASSERT_CALL(fx_commit(fx, vchannel, id, part, 5, 100, 1));
    place(fx, id, 5, 0, 0); /* not loaded */
    fx_forget(fx);
    ASSERT_CALL(fx_load(fx, "c", NULL));
    assert_true(fx_told(fx, "placed=1"));
    place(fx, id, 5, 1, QN_ID);
    ASSERT_CALL(fx_commit(fx, vchannel, id, part, 6, 60, 1));
    ASSERT_CALL(fx_commit(fx, vchannel, id, part, 7, 60, 1));
    place(fx, id, 6, 1, QN2_ID);
    place(fx, id, 7, 1, QN2_ID);
    place(fx, id, 6, 1, QN2_ID);
    place(fx, id, 99, 0, 0);
    place(fx, id + 12345, 5, 0, 0);
    assert_int_equal(fx->co->nodes[0].rows, 100);
    ASSERT_CALL(fx_release(fx, "c", NULL));
    place(fx, id, 5, 0, 0);
    ASSERT_CALL(fx_drop(fx, "", "c"));
    for (size_t i = 0; i < fx->co->nnodes; i++) {
        assert_int_equal(fx->co->nodes[i].rows, 0);
    }
    fx_free(fx);
}

static void test_register_when_restarted_then_shards_open_with_state_and_greater_term(void **state)
{
    struct fx *fx = fx_new();
    int64_t id, part;
    char text[200];
    fx_create(fx, "", "c");
    fx_create(fx, "", "d");
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "FLAT"));
    const char *vchannel = vchannel_of(fx, "c", &id, &part);
    ASSERT_CALL(fx_commit(fx, vchannel, id, part, 5, 100, 1));
    ASSERT_CALL(fx_load(fx, "c", NULL));
    fx_restart(fx);
    snprintf(text, sizeof text, "open(%s,term=2,fresh=0,load=1,segs=1,parts=1)", vchannel);
    assert_true(fx_told(fx, text));
    assert_int_equal(fx->segments_at_open, 1);
    assert_int_equal(fx->placements_at_open, 1);
    assert_int_equal(fx_load_state(fx, "c", NULL), LOADED);
    /* The owner before it can commit nothing any more. */
    assert_int_equal(fx_commit(fx, vchannel, id, part, 6, 100, 1), ST_FENCED);
    ASSERT_CALL(fx_commit(fx, vchannel, id, part, 6, 100, 2));
    fx_free(fx);
}

static void test_register_when_query_node_comes_back_then_loaded_again(void **state)
{
    struct fx *fx = fx_new();
    struct status st = STATUS_INIT;
    int64_t id, part;
    fx_create(fx, "", "c");
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "FLAT"));
    const char *vchannel = vchannel_of(fx, "c", &id, &part);
    ASSERT_CALL(fx_commit(fx, vchannel, id, part, 5, 100, 1));
    ASSERT_CALL(fx_load(fx, "c", NULL));
    fx_forget(fx);
    ASSERT_OK(fx_register(fx, QN_ID, "querynode", &st));
    assert_true(fx_told(fx, "placed=1"));
    assert_int_equal(fx->co->nodes[0].rows, 100);
    assert_int_equal(fx_register(fx, 5, "gardener", &st), ST_INVALID);
    fx_free(fx);
}

static void test_locate_when_known_then_owner(void **state)
{
    struct fx *fx = fx_new();
    Elanus__LocateReq req = ELANUS__LOCATE_REQ__INIT;
    Elanus__LocateResp resp = ELANUS__LOCATE_RESP__INIT;
    req.collection_id = fx_create(fx, "", "c");
    ASSERT_CALL(CALL(fx, streaming, locate, &req, &resp));
    assert_int_equal(resp.n_shards, 1);
    assert_int_equal(resp.shards[0]->node_id, SN_ID);
    req.collection_id++;
    assert_int_equal(CALL(fx, streaming, locate, &req, &resp), ERR_COLLECTION_NOT_FOUND);
    fx_free(fx);
}

/* ---- a load that takes its time ---- */

struct slow {
    struct fx *fx;
    struct lock lock;
    struct cond cond;
    bool inside, go;
};
static struct slow slow;

static int slow_set_load(void *self, const struct call *call, const Elanus__SetLoadReq *req,
                         Elanus__Empty *resp, struct status *st)
{
    lock_acquire(&slow.lock);
    slow.inside = true;
    cond_broadcast(&slow.cond);
    while (!slow.go) {
        cond_wait(&slow.cond, &slow.lock);
    }
    lock_release(&slow.lock);
    return 0;
}

static void slow_load_main(void *arg)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    struct status st = STATUS_INIT;
    Elanus__LoadReq req = ELANUS__LOAD_REQ__INIT;
    Elanus__Empty resp = ELANUS__EMPTY__INIT;
    req.collection_name = "c";
    ASSERT_OK(slow.fx->query.load(slow.fx->query.self, &call, &req, &resp, &st));
    arena_free(ar);
}

static void test_load_when_under_way_then_loading_and_others_go_on(void **state)
{
    struct fx *fx = fx_new();
    fx_create(fx, "", "c");
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "FLAT"));
    slow.fx = fx;
    lock_init(&slow.lock, RANK_LEAF);
    cond_init(&slow.cond);
    fx->sn.set_load = slow_set_load;
    struct thread *t = thread_start("slow", slow_load_main, NULL);
    lock_acquire(&slow.lock);
    while (!slow.inside) {
        cond_wait(&slow.cond, &slow.lock);
    }
    lock_release(&slow.lock);
    assert_int_equal(fx_load_state(fx, "c", NULL), LOADING);
    fx_create(fx, "", "d"); /* does not wait for it */
    lock_acquire(&slow.lock);
    slow.go = true;
    cond_broadcast(&slow.cond);
    lock_release(&slow.lock);
    ASSERT_CALL(fx_drop(fx, "", "c")); /* waits for it */
    thread_join(t);
    assert_int_equal(fx_load_state(fx, "c", NULL), NOT_EXIST);
    fx_free(fx);
}

int main(void)
{
    log_threshold = LOG_WARN + 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_when_vector_has_no_index_then_refused),
        cmocka_unit_test(test_load_when_partitions_then_states_follow),
        cmocka_unit_test(test_load_when_shard_refuses_then_state_is_as_before),
        cmocka_unit_test(test_place_when_loaded_then_spread_and_remembered),
        cmocka_unit_test(test_register_when_restarted_then_shards_open_with_state_and_greater_term),
        cmocka_unit_test(test_register_when_query_node_comes_back_then_loaded_again),
        cmocka_unit_test(test_locate_when_known_then_owner),
        cmocka_unit_test(test_load_when_under_way_then_loading_and_others_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
