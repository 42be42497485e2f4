/* test_coord_build.c - index files: who builds them when, what describe says, what is left. */
#include "coord_fixture.h"
#include "base/fault.h"
#include <unistd.h>

enum { ROWS = 5000 };

#define WAIT(cond)                                                                                 \
    do {                                                                                           \
        int64_t wait_until_ = clock_mono_ms() + 20000;                                             \
        while (!(cond)) {                                                                          \
            if (clock_mono_ms() > wait_until_) {                                                   \
                fail_msg("%s:%d: waited too long for %s", __FILE__, __LINE__, #cond);              \
            }                                                                                      \
            usleep(500);                                                                           \
        }                                                                                          \
    } while (0)

struct coll {
    struct fx *fx;
    const char *name;
    int64_t id, part;
    const char *vchannel;
};

static struct coll make(struct fx *fx, const char *name)
{
    Elanus__CollectionInfo info;
    fx_create(fx, "", name);
    ASSERT_CALL(fx_describe(fx, "", name, &info));
    return (struct coll){ fx, name, info.collection->id, info.partitions[0]->id,
                          info.collection->vchannels[0] };
}

static void data_node(struct fx *fx, int64_t id)
{
    struct status st = STATUS_INIT;
    ASSERT_OK(fx_register(fx, id, "datanode", &st));
}

static void flush(struct coll c, int64_t seg, int64_t rows)
{
    ASSERT_CALL(fx_commit(c.fx, c.vchannel, c.id, c.part, seg, rows, 99));
}

static Elanus__IndexStatus *describe(struct coll c, const char *index)
{
    Elanus__IndexReq req = ELANUS__INDEX_REQ__INIT;
    Elanus__IndexList *list = ARENA_NEW(c.fx->ar, Elanus__IndexList);
    elanus__index_list__init(list);
    req.collection_name = c.name;
    req.index_name = index;
    ASSERT_CALL(CALL(c.fx, data, describe_index, &req, list));
    assert_int_equal(list->n_indexes, 1);
    return list->indexes[0];
}

static bool finished(struct coll c, const char *index)
{
    Elanus__IndexStatus *is = describe(c, index);
    return is->indexed_rows == is->total_rows;
}

static Elanus__SegmentIndexesResp *files(struct coll c)
{
    Elanus__SegmentIndexesReq req = ELANUS__SEGMENT_INDEXES_REQ__INIT;
    Elanus__SegmentIndexesResp *resp = ARENA_NEW(c.fx->ar, Elanus__SegmentIndexesResp);
    elanus__segment_indexes_resp__init(resp);
    req.collection_id = c.id;
    ASSERT_CALL(CALL(c.fx, data, segment_indexes, &req, resp));
    return resp;
}

static size_t objects(struct fx *fx, const char *prefix)
{
    struct object_range range = { .prefix = slice_of(prefix) };
    struct object_list list = { 0 };
    struct status st = STATUS_INIT;
    ASSERT_OK(object_list(fx->os, &range, fx->ar, &list, &st));
    return list.n;
}

static int drop_index(struct coll c, const char *name)
{
    Elanus__IndexReq req = ELANUS__INDEX_REQ__INIT;
    req.collection_name = c.name;
    req.index_name = name;
    return CALL_E(c.fx, data, drop_index, &req);
}

static int reject(struct fx *fx, Elanus__SegmentIndex *file)
{
    Elanus__RejectIndexReq req = ELANUS__REJECT_INDEX_REQ__INIT;
    req.file = file;
    req.reason = "section 3 is damaged";
    return CALL_E(fx, data, reject_index, &req);
}

static void test_build_when_segments_are_flushed_then_one_file_each_but_none_for_small(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    flush(c, 5, ROWS);
    flush(c, 6, 1023);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    assert_int_equal(describe(c, "v")->total_rows, ROWS + 1023);
    assert_int_equal(describe(c, "v")->indexed_rows, 1023); /* nobody builds yet */
    data_node(fx, DN_ID);
    WAIT(finished(c, "v"));
    flush(c, 7, 1024);
    WAIT(finished(c, "v"));
    assert_int_equal(files(c)->n_files, 2);
    assert_int_equal(files(c)->n_indexes, 1);
    assert_int_equal(files(c)->files[0]->segment_id, 5);
    assert_int_equal(files(c)->files[0]->num_rows, ROWS);
    assert_true(files(c)->files[0]->build_id != files(c)->files[1]->build_id);
    assert_int_equal(objects(fx, "segments/"), 2);
    assert_int_equal(objects(fx, files(c)->files[0]->object_key), 1);
    assert_int_equal(fx->most_building, 1);
    assert_false(fx_told(fx, "refresh")); /* nothing is loaded */
    fx_free(fx);
}

static void test_build_when_empty_or_no_vector_field_then_finished_at_once(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    assert_true(finished(c, "v"));
    flush(c, 5, ROWS);
    assert_false(finished(c, "v"));
    ASSERT_CALL(fx_index(fx, "c", "name", "n", "INVERTED"));
    assert_true(finished(c, "n"));
    fx_free(fx);
}

static void test_build_when_loaded_then_the_query_node_is_told(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    data_node(fx, DN_ID);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    flush(c, 5, ROWS);
    WAIT(finished(c, "v"));
    ASSERT_CALL(fx_load(fx, "c", NULL));
    assert_true(fx_told(fx, "refresh(1,wait=1)")); /* before the load was answered */
    ASSERT_CALL(reject(fx, files(c)->files[0]));
    WAIT(fx_told(fx, "refresh(1,wait=0)")); /* and after a commit: the first one's may come late */
    WAIT(finished(c, "v"));
    fx_free(fx);
}

static void test_build_when_nodes_are_two_then_one_each_and_loaded_come_first(void **state)
{
    struct fx *fx = fx_new();
    struct coll a = make(fx, "a"), b = make(fx, "b");
    ASSERT_CALL(fx_index(fx, "a", "vec", "va", "HNSW"));
    ASSERT_CALL(fx_index(fx, "b", "vec", "vb", "HNSW"));
    ASSERT_CALL(fx_load(fx, "b", NULL));
    for (int i = 0; i < 3; i++) {
        flush(a, 10 + i, ROWS);
        flush(b, 20 + i, ROWS);
    }
    fx->build_hold = true;
    data_node(fx, DN_ID);
    data_node(fx, DN2_ID);
    WAIT(fx->building == 2);
    assert_true(fx_told(fx, "build(20,vb)"));
    assert_true(fx_told(fx, "build(21,vb)"));
    assert_false(fx_told(fx, "build(1"));
    fx->build_hold = false;
    WAIT(finished(a, "va") && finished(b, "vb"));
    assert_int_equal(fx->most_building, 2);
    fx_free(fx);
}

static void test_build_when_dropped_then_cancelled_and_nothing_is_left(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    data_node(fx, DN_ID);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    flush(c, 5, ROWS);
    WAIT(finished(c, "v"));
    fx->build_hold = true;
    flush(c, 6, ROWS);
    WAIT(fx->building == 1);
    ASSERT_CALL(drop_index(c, "v"));
    WAIT(fx_told(fx, "cancelled(6,v)"));
    assert_int_equal(fx_keys(fx, "/elanus/data/segindex/"), 0);
    WAIT(objects(fx, "segments/") == 0);
    ASSERT_CALL(fx_index(fx, "c", "vec", "w", "IVF_FLAT"));
    WAIT(fx_told(fx, "build(5,w)"));
    ASSERT_CALL(fx_drop(fx, "", "c"));
    WAIT(fx_told(fx, "cancelled(5,w)"));
    WAIT(fx->building == 0);
    assert_int_equal(objects(fx, "segments/"), 0);
    fx_free(fx);
}

static void test_build_when_partition_is_dropped_then_its_files_are_forgotten(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__CollectionInfo info;
    data_node(fx, DN_ID);
    ASSERT_CALL(fx_partition(fx, true, "c", "p"));
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    ASSERT_CALL(fx_commit(fx, c.vchannel, c.id, info.partitions[1]->id, 5, ROWS, 99));
    flush(c, 6, ROWS);
    WAIT(finished(c, "v"));
    assert_int_equal(fx_keys(fx, "/elanus/data/segindex/"), 2);
    ASSERT_CALL(fx_partition(fx, false, "c", "p"));
    assert_int_equal(fx_keys(fx, "/elanus/data/segindex/"), 1);
    assert_int_equal(files(c)->n_files, 1);
    fx_restart(fx);
    assert_int_equal(files(c)->n_files, 1);
    assert_int_equal(files(c)->files[0]->segment_id, 6);
    fx_free(fx);
}

static void test_build_when_it_cannot_be_then_failed_until_a_restart(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    fx->fail_on = "build";
    fx->fail_code = ERR_INDEX_NOT_SUPPORTED;
    data_node(fx, DN_ID);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "AISAQ"));
    flush(c, 5, ROWS);
    WAIT(describe(c, "v")->failure[0]);
    assert_string_equal(describe(c, "v")->failure, "the node refuses build");
    assert_int_equal(describe(c, "v")->indexed_rows, 0);
    assert_int_equal(describe(c, "v")->total_rows, ROWS);
    fx_restart(fx);
    data_node(fx, DN_ID);
    WAIT(finished(c, "v"));
    assert_string_equal(describe(c, "v")->failure, "");
    fx_free(fx);
}

static void test_build_when_it_failed_for_now_then_tried_again(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    fx->fail_on = "build";
    fx->fail_code = ST_NO_SPACE;
    data_node(fx, DN_ID);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    flush(c, 5, ROWS);
    WAIT(fx->fail_on == NULL);
    assert_string_equal(describe(c, "v")->failure, "");
    WAIT(finished(c, "v"));
    assert_int_equal(objects(fx, "segments/"), 1);
    fx_free(fx);
}

static void test_file_when_rejected_then_built_anew_but_an_older_one_changes_nothing(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__SegmentIndex *old, *now;
    data_node(fx, DN_ID);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    flush(c, 5, ROWS);
    WAIT(finished(c, "v"));
    old = files(c)->files[0];
    ASSERT_CALL(reject(fx, old));
    assert_false(finished(c, "v"));
    WAIT(finished(c, "v"));
    now = files(c)->files[0];
    assert_true(now->build_id != old->build_id);
    ASSERT_CALL(reject(fx, old));
    assert_int_equal(files(c)->n_files, 1);
    assert_int_equal(files(c)->files[0]->build_id, now->build_id);
    WAIT(objects(fx, "segments/") == 1);
    fx_free(fx);
}

static void test_file_when_rejected_then_its_rows_count_as_not_indexed_until_another_is_there(
    void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    data_node(fx, DN_ID);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    flush(c, 5, ROWS);
    flush(c, 6, ROWS);
    WAIT(finished(c, "v"));
    fx->build_hold = true;
    ASSERT_CALL(reject(fx, files(c)->files[1]));
    WAIT(fx->building == 1); /* at once */
    assert_int_equal(describe(c, "v")->indexed_rows, ROWS);
    assert_int_equal(describe(c, "v")->total_rows, 2 * ROWS);
    assert_string_equal(describe(c, "v")->failure, "");
    fx->build_hold = false;
    WAIT(finished(c, "v"));
    assert_int_equal(fx_count(fx, "build(5,v)"), 1);
    assert_int_equal(fx_count(fx, "build(6,v)"), 2);
    WAIT(objects(fx, "segments/") == 2);
    fx_free(fx);
}

/* The query node's answer comes while the build's own thread is telling it of the file. */
static void test_files_when_all_are_rejected_then_given_up_until_a_node_registers(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    struct status st = STATUS_INIT;
    data_node(fx, DN_ID);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    flush(c, 5, ROWS);
    WAIT(finished(c, "v"));
    fx->refuse_files = true;
    ASSERT_CALL(fx_load(fx, "c", NULL));
    WAIT(describe(c, "v")->failure[0]);
    assert_string_equal(describe(c, "v")->failure, "index files are built and refused: it aged");
    assert_int_equal(describe(c, "v")->indexed_rows, 0);
    assert_int_equal(fx_count(fx, "build(5,v)"), 3);
    usleep(300000);
    assert_int_equal(fx_count(fx, "build(5,v)"), 3);
    data_node(fx, DN2_ID); /* one more try, not three */
    WAIT(fx_count(fx, "build(5,v)") == 4);
    WAIT(describe(c, "v")->failure[0]);
    usleep(300000);
    assert_int_equal(fx_count(fx, "build(5,v)"), 4);
    WAIT(objects(fx, "segments/") == 0);
    fx->refuse_files = false;
    ASSERT_OK(fx_register(fx, QN2_ID, "querynode", &st));
    WAIT(finished(c, "v"));
    assert_string_equal(describe(c, "v")->failure, "");
    assert_int_equal(fx_count(fx, "build(5,v)"), 5);
    fx_free(fx);
}

/* The query node reports again until it is heard: no build was refused meanwhile. */
static void test_file_when_its_rejection_does_not_commit_then_it_is_not_counted(void **state)
{
#ifdef ELANUS_FAULTS
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    data_node(fx, DN_ID);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    flush(c, 5, ROWS);
    WAIT(finished(c, "v"));
    for (int i = 0; i < 4; i++) {
        fault_arm("meta_txn_before_commit:error");
        assert_int_not_equal(reject(fx, files(c)->files[0]), 0);
        assert_int_equal(files(c)->n_files, 1);
    }
    fault_arm(NULL);
    ASSERT_CALL(reject(fx, files(c)->files[0]));
    WAIT(fx_count(fx, "build(5,v)") == 2);
    WAIT(finished(c, "v"));
    assert_string_equal(describe(c, "v")->failure, "");
    fx_free(fx);
#else
    skip(); /* needs -Dfaults=true */
#endif
}

static void test_start_when_files_are_orphans_then_removed_and_named_ones_stay(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    struct status st = STATUS_INIT;
    struct file_part part = { "x", 1 };
    const char *orphan;
    data_node(fx, DN_ID);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    flush(c, 5, ROWS);
    WAIT(finished(c, "v"));
    orphan = arena_printf(fx->ar, "segments/%" PRId64 "/%" PRId64 "/5/index/77/78/vectors.ix", c.id,
                          c.part);
    ASSERT_OK(object_put(fx->os, slice_of(orphan), &part, 1, &st));
    ASSERT_OK(object_put(fx->os, slice_of(arena_printf(fx->ar, "segments/%" PRId64 "/%" PRId64
                                                       "/5/rows.seg", c.id, c.part)), &part, 1,
                         &st));
    fx_restart(fx);
    assert_int_equal(objects(fx, "segments/"), 2);
    assert_int_equal(objects(fx, orphan), 0);
    assert_true(finished(c, "v"));
    fx_free(fx);
}

static void test_stop_when_a_build_runs_then_cancelled_and_done_after_the_start(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    data_node(fx, DN_ID);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    fx->build_hold = true;
    flush(c, 5, ROWS);
    WAIT(fx->building == 1);
    fx_coord_stop(fx);
    assert_true(fx_told(fx, "cancelled(5,v)"));
    fx->build_hold = false;
    fx_restart(fx);
    assert_false(finished(c, "v"));
    data_node(fx, DN_ID);
    WAIT(finished(c, "v"));
    fx_free(fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build_when_segments_are_flushed_then_one_file_each_but_none_for_small),
        cmocka_unit_test(test_build_when_empty_or_no_vector_field_then_finished_at_once),
        cmocka_unit_test(test_build_when_loaded_then_the_query_node_is_told),
        cmocka_unit_test(test_build_when_nodes_are_two_then_one_each_and_loaded_come_first),
        cmocka_unit_test(test_build_when_dropped_then_cancelled_and_nothing_is_left),
        cmocka_unit_test(test_build_when_partition_is_dropped_then_its_files_are_forgotten),
        cmocka_unit_test(test_build_when_it_cannot_be_then_failed_until_a_restart),
        cmocka_unit_test(test_build_when_it_failed_for_now_then_tried_again),
        cmocka_unit_test(test_file_when_rejected_then_built_anew_but_an_older_one_changes_nothing),
        cmocka_unit_test(
            test_file_when_rejected_then_its_rows_count_as_not_indexed_until_another_is_there),
        cmocka_unit_test(test_files_when_all_are_rejected_then_given_up_until_a_node_registers),
        cmocka_unit_test(test_file_when_its_rejection_does_not_commit_then_it_is_not_counted),
        cmocka_unit_test(test_start_when_files_are_orphans_then_removed_and_named_ones_stay),
        cmocka_unit_test(test_stop_when_a_build_runs_then_cancelled_and_done_after_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
