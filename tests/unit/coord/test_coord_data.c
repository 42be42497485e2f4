/* test_coord_data.c - indexes, flush and its state, commit of a flush, numbers of rows. */
#include "coord_fixture.h"

struct coll {
    int64_t id, part;
    const char *vchannel;
};

static struct coll make(struct fx *fx, const char *name)
{
    Elanus__CollectionInfo info;
    fx_create(fx, "", name);
    ASSERT_CALL(fx_describe(fx, "", name, &info));
    return (struct coll){ info.collection->id, info.partitions[0]->id,
                          info.collection->vchannels[0] };
}

static void test_create_index_when_repeated_then_only_the_same_succeeds(void **state)
{
    struct fx *fx = fx_new();
    make(fx, "c");
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "FLAT"));
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "FLAT"));
    assert_int_equal(fx_keys(fx, "/elanus/data/index/"), 1);
    ASSERT_REFUSED(fx_index(fx, "c", "vec", "v", "HNSW"), ERR_PARAMETER_INVALID,
                   "CreateIndex failed: at most one distinct index is allowed per field");
    ASSERT_REFUSED(fx_index(fx, "c", "name", "v", "FLAT"), ERR_PARAMETER_INVALID,
                   "CreateIndex failed: at most one distinct index is allowed per field");
    ASSERT_REFUSED(fx_index(fx, "c", "vec", "w", "FLAT"), ERR_PARAMETER_INVALID,
                   "CreateIndex failed: creating multiple indexes on same field is not supported");
    ASSERT_REFUSED(fx_index(fx, "c", "none", "w", "FLAT"), ERR_PARAMETER_INVALID,
                   "cannot create index on non-exist field: none");
    ASSERT_REFUSED(fx_index(fx, "x", "vec", "v", "FLAT"), ERR_COLLECTION_NOT_FOUND,
                   "collection not found[database=default][collection=x]");
    fx_free(fx);
}

static int drop_index(struct fx *fx, const char *coll, const char *name)
{
    Elanus__IndexReq req = ELANUS__INDEX_REQ__INIT;
    req.collection_name = coll;
    req.index_name = name;
    return CALL_E(fx, data, drop_index, &req);
}

static int alter_index(struct fx *fx, const char *name)
{
    Elanus__AlterIndexReq req = ELANUS__ALTER_INDEX_REQ__INIT;
    pb_kv *kv = fx_kv(fx, "mmap.enabled", "true");
    req.collection_name = "c";
    req.index_name = name;
    req.params = &kv;
    req.n_params = 1;
    return CALL_E(fx, data, alter_index, &req);
}

static void test_index_when_described_altered_dropped_then_texts_of_the_api(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__IndexReq req = ELANUS__INDEX_REQ__INIT;
    Elanus__IndexList list = ELANUS__INDEX_LIST__INIT;
    req.collection_name = "c";
    ASSERT_REFUSED(CALL(fx, data, describe_index, &req, &list), ERR_INDEX_NOT_FOUND,
                   "index not found[collection=c]");
    req.index_name = "v";
    ASSERT_REFUSED(CALL(fx, data, describe_index, &req, &list), ERR_INDEX_NOT_FOUND,
                   "index not found[indexName=v]");
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "FLAT"));
    ASSERT_CALL(fx_index(fx, "c", "name", "n", "INVERTED"));
    ASSERT_CALL(fx_commit(fx, c.vchannel, c.id, c.part, 5, 100, 1));
    ASSERT_CALL(alter_index(fx, "v"));
    ASSERT_REFUSED(alter_index(fx, "zz"), ERR_INDEX_NOT_FOUND, "index not found[indexName=zz]");
    elanus__index_list__init(&list);
    ASSERT_CALL(CALL(fx, data, describe_index, &req, &list));
    assert_int_equal(list.n_indexes, 1);
    assert_int_equal(list.indexes[0]->total_rows, 100);
    assert_int_equal(list.indexes[0]->indexed_rows, 100);
    assert_int_equal(list.indexes[0]->index->field_id, 101);
    assert_int_equal(list.indexes[0]->index->n_params, 2);
    ASSERT_CALL(fx_load(fx, "c", NULL));
    ASSERT_REFUSED(drop_index(fx, "c", "v"), ERR_PARAMETER_INVALID,
                   "index cannot be dropped, collection is loaded, please release it first");
    ASSERT_REFUSED(alter_index(fx, "v"), ERR_COLLECTION_LOADED,
                   "can't alter index on loaded collection, please release the collection first: "
                   "collection already loaded[collection=c]");
    ASSERT_CALL(drop_index(fx, "c", "n")); /* a scalar's may go */
    ASSERT_CALL(drop_index(fx, "c", "nosuch"));
    ASSERT_CALL(fx_release(fx, "c", NULL));
    ASSERT_CALL(drop_index(fx, "c", "v"));
    assert_int_equal(fx_keys(fx, "/elanus/data/index/"), 0);
    assert_int_equal(drop_index(fx, "x", "v"), ERR_COLLECTION_NOT_FOUND);
    fx_free(fx);
}

static bool flushed(struct fx *fx, int64_t coll, int64_t seg, bool all, uint64_t ts)
{
    Elanus__FlushStateReq req = ELANUS__FLUSH_STATE_REQ__INIT;
    Elanus__FlushStateResp resp = ELANUS__FLUSH_STATE_RESP__INIT;
    req.collection_id = coll;
    req.segment_ids = &seg;
    req.n_segment_ids = seg ? 1 : 0;
    req.all = all;
    req.flush_ts = ts;
    ASSERT_CALL(CALL(fx, data, flush_state, &req, &resp));
    return resp.flushed;
}

static void test_flush_when_deletes_are_owed_then_waits_until_they_are_in_files(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__FlushReq req = ELANUS__FLUSH_REQ__INIT;
    Elanus__FlushResp resp = ELANUS__FLUSH_RESP__INIT;
    req.collection_ids = &c.id;
    req.n_collection_ids = 1;
    fx->seal_deletes = true;
    fx->stats.flushing_deletes_ts = 70;
    ASSERT_CALL(CALL(fx, data, flush, &req, &resp));
    assert_int_equal(resp.results[0]->n_sealed_segment_ids, 0);
    assert_false(flushed(fx, c.id, 0, false, 77));
    assert_false(flushed(fx, c.id, 0, false, 0)); /* a client that does not say when */
    assert_false(flushed(fx, 0, 0, true, 77));
    assert_true(flushed(fx, c.id, 0, false, 69)); /* the flush before is done */
    fx->fail_on = "stats";
    fx->fail_code = ST_UNAVAILABLE;
    assert_false(flushed(fx, c.id, 0, false, 77)); /* nobody knows */
    fx->stats.flushing_deletes_ts = 80; /* younger ones, of a flush to come */
    assert_true(flushed(fx, c.id, 0, false, 77));
    assert_false(flushed(fx, c.id, 0, false, 80));
    fx->stats.flushing_deletes_ts = 0;
    assert_true(flushed(fx, 0, 0, true, 80));
    fx->fail_on = "stats";
    assert_true(flushed(fx, c.id, 0, false, 80)); /* no shard is asked any more */
    fx->fail_on = NULL;
    fx_free(fx);
}

static void test_flush_when_sealed_then_waits_until_committed(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__FlushReq req = ELANUS__FLUSH_REQ__INIT;
    Elanus__FlushResp resp = ELANUS__FLUSH_RESP__INIT;
    Elanus__Segment growing = ELANUS__SEGMENT__INIT;
    Elanus__Segment *growings[] = { &growing };
    ASSERT_CALL(fx_commit(fx, c.vchannel, c.id, c.part, 3, 10, 1));
    growing.id = 5;
    fx->stats.growing = growings;
    fx->stats.n_growing = 1;
    fx->seal_ids[0] = 5;
    fx->nseal = 1;
    req.collection_ids = &c.id;
    req.n_collection_ids = 1;
    ASSERT_CALL(CALL(fx, data, flush, &req, &resp));
    assert_int_equal(resp.n_results, 1);
    assert_int_equal(resp.results[0]->n_sealed_segment_ids, 1);
    assert_int_equal(resp.results[0]->sealed_segment_ids[0], 5);
    assert_int_equal(resp.results[0]->n_flushed_segment_ids, 1);
    assert_int_equal(resp.results[0]->flush_ts, 77);
    assert_false(flushed(fx, c.id, 5, false, 0));
    assert_false(flushed(fx, 0, 5, false, 0));
    assert_true(flushed(fx, c.id, 3, false, 0));
    assert_false(flushed(fx, 0, 0, true, 77));
    assert_true(flushed(fx, 0, 0, true, 76)); /* an earlier flush of all is done */
    ASSERT_CALL(fx_commit(fx, c.vchannel, c.id, c.part, 5, 10, 1));
    assert_true(flushed(fx, c.id, 5, false, 0));
    assert_true(flushed(fx, 0, 0, true, 77));
    assert_true(flushed(fx, c.id, 12345, false, 0)); /* nobody knows it */
    growing.id = 6;
    assert_false(flushed(fx, c.id, 6, false, 0));
    /* Sealed, then gone with its partition: nobody waits for it. */
    growing.id = 7;
    fx->seal_ids[0] = 7;
    elanus__flush_resp__init(&resp);
    ASSERT_CALL(CALL(fx, data, flush, &req, &resp));
    assert_false(flushed(fx, 0, 0, true, 0));
    fx->fail_on = "stats"; /* while its owner cannot be asked it waits */
    fx->fail_code = ST_UNAVAILABLE;
    assert_false(flushed(fx, c.id, 7, false, 0));
    fx->stats.n_growing = 0;
    assert_true(flushed(fx, c.id, 7, false, 0));
    assert_true(flushed(fx, 0, 0, true, 0));
    /* One without rows is committed and not stored. */
    ASSERT_CALL(fx_commit(fx, c.vchannel, c.id, c.part, 7, 0, 1));
    assert_int_equal(fx_keys(fx, "/elanus/data/segment/"), 2);
    req.collection_ids[0]++;
    assert_int_equal(CALL(fx, data, flush, &req, &resp), ERR_COLLECTION_NOT_FOUND);
    fx_free(fx);
}

static void test_commit_flush_when_repeated_then_nothing_changes(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__CommitFlushReq req = ELANUS__COMMIT_FLUSH_REQ__INIT;
    Elanus__Delta d = ELANUS__DELTA__INIT, *ds[] = { &d };
    Elanus__SegmentsReq sreq = ELANUS__SEGMENTS_REQ__INIT;
    Elanus__SegmentsResp segs = ELANUS__SEGMENTS_RESP__INIT;
    d.id = 9;
    d.collection_id = c.id;
    d.vchannel = c.vchannel;
    d.object_key = "deltas/1/9";
    d.num_rows = 4;
    req.vchannel = c.vchannel;
    req.collection_id = c.id;
    req.term = 1;
    req.deltas = ds;
    req.n_deltas = 1;
    req.checkpoint = 40;
    req.delta_position = 41;
    ASSERT_CALL(CALL_E(fx, data, commit_flush, &req));
    req.checkpoint = 30; /* an older one never turns it back */
    ASSERT_CALL(CALL_E(fx, data, commit_flush, &req));
    sreq.collection_id = c.id;
    ASSERT_CALL(CALL(fx, data, list_segments, &sreq, &segs));
    assert_int_equal(segs.n_deltas, 1);
    assert_int_equal(segs.shards[0]->checkpoint, 40);
    assert_int_equal(segs.shards[0]->delta_position, 41);
    req.term = 0;
    assert_int_equal(CALL_E(fx, data, commit_flush, &req), ST_FENCED);
    req.term = 1;
    req.vchannel = "dml_0_1v0";
    assert_int_equal(CALL_E(fx, data, commit_flush, &req), ERR_COLLECTION_NOT_FOUND);
    ASSERT_CALL(fx_drop(fx, "", "c"));
    req.vchannel = c.vchannel;
    assert_int_equal(CALL_E(fx, data, commit_flush, &req), ERR_COLLECTION_NOT_FOUND);
    assert_int_equal(fx_keys(fx, "/elanus/data/"), 0);
    fx_free(fx);
}

static void test_stats_when_growing_and_flushed_then_each_row_once(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__StatsReq req = ELANUS__STATS_REQ__INIT;
    Elanus__StatsResp resp = ELANUS__STATS_RESP__INIT;
    Elanus__CollectionInfo info;
    int64_t parts[2], rows[2] = { 30, 3 };
    ASSERT_CALL(fx_partition(fx, true, "c", "p"));
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    parts[0] = info.partitions[0]->id;
    parts[1] = info.partitions[1]->id;
    ASSERT_CALL(fx_commit(fx, c.vchannel, c.id, parts[0], 5, 100, 1));
    ASSERT_CALL(fx_commit(fx, c.vchannel, c.id, parts[1], 6, 7, 1));
    fx->stats.growing_rows = 33;
    fx->stats.partition_ids = parts;
    fx->stats.partition_rows = rows;
    fx->stats.n_partition_ids = fx->stats.n_partition_rows = 2;
    req.collection_id = c.id;
    ASSERT_CALL(CALL(fx, data, stats, &req, &resp));
    assert_int_equal(resp.row_count, 140);
    assert_int_equal(resp.growing_rows, 33);
    assert_int_equal(resp.size_bytes, 1070);
    req.partition_ids = &parts[1];
    req.n_partition_ids = 1;
    elanus__stats_resp__init(&resp);
    ASSERT_CALL(CALL(fx, data, stats, &req, &resp));
    assert_int_equal(resp.row_count, 10);
    req.collection_id++;
    assert_int_equal(CALL(fx, data, stats, &req, &resp), ERR_COLLECTION_NOT_FOUND);
    fx_free(fx);
}

int main(void)
{
    log_threshold = LOG_WARN;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_index_when_repeated_then_only_the_same_succeeds),
        cmocka_unit_test(test_index_when_described_altered_dropped_then_texts_of_the_api),
        cmocka_unit_test(test_flush_when_sealed_then_waits_until_committed),
        cmocka_unit_test(test_flush_when_deletes_are_owed_then_waits_until_they_are_in_files),
        cmocka_unit_test(test_commit_flush_when_repeated_then_nothing_changes),
        cmocka_unit_test(test_stats_when_growing_and_flushed_then_each_row_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
