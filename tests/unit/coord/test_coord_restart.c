/*
 * test_coord_restart.c - what a coordinator knows after a restart, and after dying in the middle.
 *
 * A crash is a metadata transaction that fails, the coordinator thrown away right after it and
 * built again over the same store: for every transaction of a scenario in turn.
 */
#include "coord_fixture.h"
#include "base/fault.h"

static void build_world(struct fx *fx)
{
    Elanus__CreateDatabaseReq db = ELANUS__CREATE_DATABASE_REQ__INIT;
    Elanus__CollectionInfo info;
    db.name = "other";
    ASSERT_CALL(CALL_E(fx, root, create_database, &db));
    fx_create(fx, "", "a");
    fx_create(fx, "", "b");
    fx_create(fx, "other", "a");
    ASSERT_CALL(fx_partition(fx, true, "a", "p1"));
    ASSERT_CALL(fx_partition(fx, true, "a", "p2"));
    ASSERT_CALL(fx_alias(fx, "a", "al1"));
    ASSERT_CALL(fx_alias(fx, "b", "al2"));
    ASSERT_CALL(fx_index(fx, "a", "vec", "v", "FLAT"));
    ASSERT_CALL(fx_index(fx, "b", "vec", "v", "HNSW"));
    ASSERT_CALL(fx_describe(fx, "", "a", &info));
    for (int64_t i = 0; i < 5; i++) {
        ASSERT_CALL(fx_commit(fx, info.collection->vchannels[0], info.collection->id,
                              info.partitions[i % 3]->id, 100 + i, 10 + i, 1));
    }
    ASSERT_CALL(fx_load(fx, "a", NULL));
    ASSERT_CALL(fx_release(fx, "a", "p1"));
    ASSERT_CALL(fx_load(fx, "b", "_default"));
}

static void test_restart_when_much_is_there_then_everything_is_the_same(void **state)
{
    struct fx *fx = fx_new();
    build_world(fx);
    char *before = fx_dump(fx);
    fx_restart(fx);
    assert_string_equal(fx_dump(fx), before);
    fx_restart(fx);
    assert_string_equal(fx_dump(fx), before);
    fx_free(fx);
}

static void test_restart_when_a_value_is_damaged_then_key_is_named(void **state)
{
    struct fx *fx = fx_new();
    struct status st = STATUS_INIT;
    struct meta_range range = { .prefix = SLICE_LIT("/elanus/root/collection/") };
    struct meta_list list = { 0 };
    fx_create(fx, "", "a");
    ASSERT_OK(meta_list(fx->meta, &range, fx->ar, &list, &st));
    fx_coord_stop(fx);
    ASSERT_OK(meta_put(fx->meta, list.items[0].key, SLICE_LIT("\x0a\xff"), NULL, &st));
    assert_int_equal(fx_coord_start(fx, &st), ST_CORRUPT);
    assert_non_null(strstr(st.msg, "/elanus/root/collection/"));
    st_clear(&st);
    /* The value of another key. */
    ASSERT_OK(meta_put(fx->meta, SLICE_LIT("/elanus/root/collection/00000000000000000007"),
                       list.items[0].value, NULL, &st));
    ASSERT_OK(meta_delete(fx->meta, list.items[0].key, NULL, &st));
    assert_int_equal(fx_coord_start(fx, &st), ST_CORRUPT);
    assert_non_null(strstr(st.msg, "00000000000000000007"));
    fx_free(fx);
}

/* ---- dying in the middle ---- */

typedef int scenario_fn(struct fx *fx);

static int do_create(struct fx *fx)
{
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    Elanus__CreateCollectionReq *req = fx_create_req(fx, "", "n");
    req->schema->fields[2]->is_partition_key = true;
    req->num_partitions = 1024; /* several transactions */
    req->shards_num = 4;
    return CALL(fx, root, create_collection, req, &info);
}
static int do_drop(struct fx *fx)
{
    return fx_drop(fx, "other", "a");
}
static int do_drop_partition(struct fx *fx)
{
    return fx_partition(fx, false, "a", "p1");
}
static int do_load(struct fx *fx)
{
    return fx_load(fx, "b", NULL);
}
static int do_release(struct fx *fx)
{
    return fx_release(fx, "a", NULL);
}
static int do_rename(struct fx *fx)
{
    Elanus__RenameCollectionReq req = ELANUS__RENAME_COLLECTION_REQ__INIT;
    req.name = "b";
    req.new_name = "bb";
    return CALL_E(fx, root, rename_collection, &req);
}
static int do_index(struct fx *fx)
{
    return fx_index(fx, "a", "name", "n", "INVERTED");
}

/* Every record belongs to a collection that is there, and every collection is whole. */
static void check_consistent(struct fx *fx)
{
    Elanus__ListCollectionsReq req = ELANUS__LIST_COLLECTIONS_REQ__INIT;
    const char *dbs[] = { "default", "other" };
    size_t colls = 0, parts = 0, shards = 0;
    for (int i = 0; i < 2; i++) {
        Elanus__CollectionList list = ELANUS__COLLECTION_LIST__INIT;
        req.db_name = dbs[i];
        ASSERT_CALL(CALL(fx, root, list_collections, &req, &list));
        for (size_t j = 0; j < list.n_collections; j++) {
            const Elanus__CollectionInfo *info = list.collections[j];
            char text[100];
            colls++;
            parts += info->n_partitions;
            shards += info->collection->n_vchannels;
            assert_true(info->n_partitions > 0);
            if (info->collection->num_partitions > 0) {
                assert_int_equal(info->n_partitions, info->collection->num_partitions);
            }
            snprintf(text, sizeof text, "open(%s,", info->collection->vchannels[0]);
            assert_true(fx_told(fx, text));
        }
    }
    assert_int_equal(fx_keys(fx, "/elanus/root/collection/"), colls);
    assert_int_equal(fx_keys(fx, "/elanus/root/partition/"), parts);
    assert_int_equal(fx_keys(fx, "/elanus/data/shard/"), shards);
}

static void die_at_every_transaction(scenario_fn *fn)
{
    bool done = false;
    for (int n = 1; !done; n++) {
        struct fx *fx = fx_new();
        char *before, *after;
        assert_in_range(n, 1, 20);
        build_world(fx);
        before = fx_dump(fx);
        meta_mem_fail_txn(fx->meta, "", n, ST_IO);
        done = fn(fx) == 0;
        meta_mem_fail_txn(fx->meta, "", 0, 0);
        after = fx_dump(fx);
        if (!done && fn != do_drop && fn != do_drop_partition) {
            assert_string_equal(after, before); /* a failed change leaves nothing behind */
        }
        fx_restart(fx);
        check_consistent(fx);
        assert_string_equal(fx_dump(fx), after); /* and a restart finds what was shown */
        fx_free(fx);
    }
}

static void test_create_when_dying_anywhere_then_all_or_nothing(void **state)
{
    die_at_every_transaction(do_create);
}
static void test_drop_when_dying_anywhere_then_finished_by_the_restart(void **state)
{
    die_at_every_transaction(do_drop);
}
static void test_drop_partition_when_dying_anywhere_then_consistent(void **state)
{
    die_at_every_transaction(do_drop_partition);
}
static void test_load_when_dying_anywhere_then_all_or_nothing(void **state)
{
    die_at_every_transaction(do_load);
}
static void test_release_when_dying_anywhere_then_all_or_nothing(void **state)
{
    die_at_every_transaction(do_release);
}
static void test_rename_when_dying_anywhere_then_all_or_nothing(void **state)
{
    die_at_every_transaction(do_rename);
}
static void test_create_index_when_dying_anywhere_then_all_or_nothing(void **state)
{
    die_at_every_transaction(do_index);
}

static void test_restart_when_records_have_no_owner_then_they_go(void **state)
{
    struct fx *fx = fx_new();
    struct status st = STATUS_INIT;
    Elanus__Segment seg = ELANUS__SEGMENT__INIT;
    Elanus__Partition part = ELANUS__PARTITION__INIT;
    struct slice key;
    struct buf b;
    int64_t id = fx_create(fx, "", "a");
    fx_coord_stop(fx);
    buf_init(&b, 1 << 20);
    seg.id = 5;
    seg.collection_id = id;
    seg.partition_id = 4; /* gone */
    assert_true(proto_pack(&seg.pb, &b));
    ASSERT_OK(co__key(CO_SEGMENT, &seg, fx->ar, &key, &st));
    ASSERT_OK(meta_put(fx->meta, key, buf_slice(&b), NULL, &st));
    buf_reset(&b);
    part.id = 6;
    part.collection_id = 7; /* gone */
    part.name = "x";
    assert_true(proto_pack(&part.pb, &b));
    ASSERT_OK(co__key(CO_PARTITION, &part, fx->ar, &key, &st));
    ASSERT_OK(meta_put(fx->meta, key, buf_slice(&b), NULL, &st));
    buf_done(&b);
    fx_restart(fx);
    assert_int_equal(fx_keys(fx, "/elanus/data/segment/"), 0);
    assert_int_equal(fx_keys(fx, "/elanus/root/partition/"), 1);
    fx_free(fx);
}

static bool object_there(struct fx *fx, const char *key)
{
    struct status st = STATUS_INIT;
    struct object_info oi;
    return object_stat(fx->os, slice_of(key), &oi, &st) == 0;
}

static void test_restart_when_objects_are_orphans_then_only_those_go(void **state)
{
    struct fx *fx = fx_new();
    struct status st = STATUS_INIT;
    struct file_part part = { .p = "x", .n = 1 };
    Elanus__CollectionInfo info;
    const char *orphans[] = { "segments/1/2/3/vec.col", "deltas/1/v/2" };
    char *kept, *beside;
    int64_t id = fx_create(fx, "", "a");
    ASSERT_CALL(fx_describe(fx, "", "a", &info));
    ASSERT_CALL(fx_commit(fx, info.collection->vchannels[0], id, info.partitions[0]->id, 41, 5, 1));
    kept = arena_printf(fx->ar, "segments/%" PRId64 "/%" PRId64 "/41/sub/vec.col", id,
                        info.partitions[0]->id);
    beside = arena_printf(fx->ar, "segments/%" PRId64 "/%" PRId64 "/411/vec.col", id,
                          info.partitions[0]->id);
    ASSERT_OK(object_put(fx->os, slice_of(kept), &part, 1, &st));
    ASSERT_OK(object_put(fx->os, slice_of(beside), &part, 1, &st));
    ASSERT_OK(object_put(fx->os, slice_of("else/x"), &part, 1, &st));
    for (size_t i = 0; i < ARRAY_LEN(orphans); i++) {
        ASSERT_OK(object_put(fx->os, slice_of(orphans[i]), &part, 1, &st));
    }
    fx_restart(fx);
    assert_true(object_there(fx, kept));
    assert_true(object_there(fx, "else/x"));
    assert_false(object_there(fx, beside));
    for (size_t i = 0; i < ARRAY_LEN(orphans); i++) {
        assert_false(object_there(fx, orphans[i]));
    }
    fx_free(fx);
}

/* The store did it and then failed to say so: the answer is found by reading. */
static void test_change_when_store_fails_after_the_commit_then_it_counts(void **state)
{
#ifdef ELANUS_FAULTS
    struct fx *fx = fx_new();
    Elanus__CollectionInfo info;
    build_world(fx);
    fault_arm("meta_txn_after_commit:error");
    ASSERT_CALL(fx_partition(fx, true, "b", "new"));
    fault_arm("meta_txn_after_commit:error");
    ASSERT_CALL(fx_drop(fx, "other", "a"));
    fault_arm("meta_txn_after_commit:error");
    ASSERT_CALL(fx_release(fx, "a", NULL)); /* a deletion only */
    fault_arm(NULL);
    char *before = fx_dump(fx);
    fx_restart(fx);
    assert_string_equal(fx_dump(fx), before);
    check_consistent(fx);
    assert_int_equal(fx_describe(fx, "other", "a", &info), ERR_COLLECTION_NOT_FOUND);
    fx_free(fx);
#else
    skip(); /* needs -Dfaults=true */
#endif
}

static void test_drop_partition_when_segments_are_many_then_all_go(void **state)
{
    struct fx *fx = fx_new();
    Elanus__CollectionInfo info;
    fx_create(fx, "", "a");
    ASSERT_CALL(fx_partition(fx, true, "a", "p"));
    ASSERT_CALL(fx_describe(fx, "", "a", &info));
    for (int64_t i = 1; i <= 2100; i++) {
        ASSERT_CALL(fx_commit(fx, info.collection->vchannels[0], info.collection->id,
                              info.partitions[i % 10 != 0]->id, i, 5, 1));
    }
    ASSERT_CALL(fx_partition(fx, false, "a", "p"));
    assert_int_equal(fx_keys(fx, "/elanus/data/segment/"), 210);
    fx_free(fx);
}

int main(void)
{
    log_threshold = LOG_WARN + 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restart_when_much_is_there_then_everything_is_the_same),
        cmocka_unit_test(test_restart_when_a_value_is_damaged_then_key_is_named),
        cmocka_unit_test(test_create_when_dying_anywhere_then_all_or_nothing),
        cmocka_unit_test(test_drop_when_dying_anywhere_then_finished_by_the_restart),
        cmocka_unit_test(test_drop_partition_when_dying_anywhere_then_consistent),
        cmocka_unit_test(test_load_when_dying_anywhere_then_all_or_nothing),
        cmocka_unit_test(test_release_when_dying_anywhere_then_all_or_nothing),
        cmocka_unit_test(test_rename_when_dying_anywhere_then_all_or_nothing),
        cmocka_unit_test(test_create_index_when_dying_anywhere_then_all_or_nothing),
        cmocka_unit_test(test_change_when_store_fails_after_the_commit_then_it_counts),
        cmocka_unit_test(test_drop_partition_when_segments_are_many_then_all_go),
        cmocka_unit_test(test_restart_when_records_have_no_owner_then_they_go),
        cmocka_unit_test(test_restart_when_objects_are_orphans_then_only_those_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
