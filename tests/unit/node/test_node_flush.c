/* test_node_flush.c - the same answers from growing and sealed segments, after restarts, and while
 * the steps of a flush fail. */
#include "roles.h"
#include "base/fault.h"

static struct roles *start(bool rocksdb)
{
    struct roles_opts o = { .rocksdb = rocksdb };
    return roles_new(&o);
}

static void same(const char *a, const char *b)
{
    if (strcmp(a, b) != 0) {
        print_message("--- before\n%s\n--- after\n%s\n", a, b);
    }
    assert_string_equal(a, b);
}

static void test_rows_when_flushed_then_answers_are_identical(void **state)
{
    for (int shards = 1; shards <= 2; shards++) {
        for (int varchar = 0; varchar < 2; varchar++) {
            struct roles_opts o = { .varchar_pk = varchar };
            struct roles *r = roles_new(&o);
            struct rcoll *c = rcoll_new(r, "c", shards);
            rcoll_load(c, NULL);
            rcoll_insert(c, NULL, 0, 300, 1);
            rcoll_delete(c, NULL, 10, 20);
            rcoll_upsert(c, NULL, 25, 50, 2);
            const char *all = rcoll_dump(c, NULL, 0);
            const char *some = rcoll_dump(c, "n == 2 and not (s like \"s3%\")", 0);
            assert_int_equal(rcoll_total(c), 285); /* 10 .. 24 are gone */
            assert_int_equal(rcoll_flushed(c), 0);
            rcoll_flush(c);
            assert_int_equal(rcoll_flushed(c), shards);
            assert_int_equal(rcoll_qnode_segments(c), shards);
            assert_int_equal(rcoll_deltas(c), 2 * shards); /* of all partitions, and of one */
            same(all, rcoll_dump(c, NULL, 0));
            same(some, rcoll_dump(c, "n == 2 and not (s like \"s3%\")", 0));
            roles_restart(r);
            same(all, rcoll_dump(c, NULL, 0));
            rcoll_release(c, NULL);
            assert_int_equal(rcoll_qnode_segments(c), 0);
            rcoll_load(c, NULL);
            same(all, rcoll_dump(c, NULL, 0));
            rcoll_free(c);
            roles_free(r);
        }
    }
}

static void test_restart_when_nothing_is_flushed_then_replay_gives_all(void **state)
{
    struct roles *r = start(true);
    struct rcoll *c = rcoll_new(r, "c", 2);
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 100, 1);
    rcoll_delete(c, NULL, 3, 5);
    rcoll_upsert(c, NULL, 50, 60, 2);
    const char *all = rcoll_dump(c, NULL, 0);
    for (int i = 0; i < 3; i++) {
        roles_restart(r);
        same(all, rcoll_dump(c, NULL, 0));
    }
    rcoll_insert(c, NULL, 200, 10, 3); /* goes on */
    assert_int_equal(rcoll_total(c), 115);
    rcoll_flush(c);
    assert_int_equal(rcoll_total(c), 115);
    rcoll_free(c);
    roles_free(r);
}

/* By a power cut without wal.sync=always, or with its folder: what is flushed is there, and positions
 * that flushed rows had are not given to others. */
static void test_log_when_its_end_is_lost_then_later_rows_and_deletes_are_kept(void **state)
{
    for (int flushed = 0; flushed < 2; flushed++) {
        struct roles *r = start(true);
        struct rcoll *c = rcoll_new(r, "c", 2);
        rcoll_load(c, NULL);
        for (int i = 0; i < 6; i++) {
            rcoll_insert(c, NULL, i * 50, 50, 1);
            rcoll_delete(c, NULL, i * 50, 5);
        }
        rcoll_flush(c);
        roles_stop(r);
        char *log = path_join(r->dir, "log");
        assert_int_equal(path_remove_tree(log, &r->st), 0);
        mem_free(log);
        assert_int_equal(roles_start(r), 0);
        assert_int_equal(rcoll_total(c), 270);
        rcoll_insert(c, NULL, 1000, 20, 2);
        rcoll_delete(c, NULL, 10, 5);
        const char *all = rcoll_dump(c, NULL, 0);
        assert_int_equal(rcoll_total(c), 285);
        if (flushed) { /* flushed before it is replayed, or after */
            rcoll_flush(c);
        }
        roles_restart(r);
        same(all, rcoll_dump(c, NULL, 0));
        rcoll_flush(c);
        roles_restart(r);
        same(all, rcoll_dump(c, NULL, 0));
        rcoll_free(c);
        roles_free(r);
    }
}

static void test_restart_when_partly_flushed_then_files_and_replay_join(void **state)
{
    struct roles *r = start(true);
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 100, 1);
    rcoll_flush(c);
    rcoll_delete(c, NULL, 0, 10);      /* of flushed rows, only in the log */
    rcoll_upsert(c, NULL, 95, 20, 2);  /* across */
    const char *all = rcoll_dump(c, NULL, 0);
    assert_int_equal(rcoll_total(c), 105);
    roles_restart(r);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_flush(c);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_delete(c, NULL, 112, 2);     /* deletes only, then a restart */
    all = rcoll_dump(c, NULL, 0);
    roles_restart(r);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_flush(c);                    /* a delete file without a segment */
    assert_int_equal(rcoll_flushed(c), 2);
    roles_restart(r);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_free(c);
    roles_free(r);
}

static void test_reads_when_restarted_with_nothing_to_replay_then_rows_are_visible(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct call call = call_internal(ar);
    Elanus__QueryReq req = ELANUS__QUERY_REQ__INIT;
    Elanus__QueryResp resp = ELANUS__QUERY_RESP__INIT;
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 10, 1);
    rcoll_flush(c);
    roles_restart(r);
    req.vchannel = c->vchannels[0];
    req.count_only = true;
    req.limit = -1;
    req.guarantee_ts = 1; /* eventually consistent */
    ASSERT_OK(r->snode.query(r->snode.self, &call, &req, &resp, &st));
    assert_int_equal(resp.count, 10);
    assert_true(resp.read_ts > 1);
    arena_free(ar);
    rcoll_free(c);
    roles_free(r);
}

static void test_deletes_when_in_several_files_then_all_apply_after_load(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_load(c, NULL);
    for (int i = 0; i < 5; i++) {
        rcoll_insert(c, NULL, i * 100, 100, i);
        rcoll_delete(c, NULL, i * 50, 10); /* of this and of older segments */
        rcoll_flush(c);
    }
    const char *all = rcoll_dump(c, NULL, 0);
    assert_int_equal(rcoll_total(c), 450);
    assert_int_equal(rcoll_deltas(c), 5);
    rcoll_release(c, NULL);
    rcoll_load(c, NULL);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_release(c, NULL);
    rcoll_delete(c, NULL, 300, 100); /* while nothing is loaded */
    rcoll_load(c, NULL);
    assert_int_equal(rcoll_total(c), 350);
    rcoll_release(c, NULL);
    rcoll_flush(c);
    rcoll_load(c, NULL);
    assert_int_equal(rcoll_total(c), 350);
    rcoll_free(c);
    roles_free(r);
}

static void test_deletes_when_of_one_partition_then_files_keep_them_there(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_partition_new(c, "p");
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 10, 1);
    rcoll_insert(c, "p", 0, 10, 2);
    rcoll_flush(c);
    rcoll_upsert(c, "p", 0, 5, 3);  /* must leave the rows in _default alone */
    rcoll_delete(c, "p", 8, 1);
    assert_int_equal(rcoll_total(c), 19);
    const char *all = rcoll_dump(c, NULL, 0);
    for (int i = 0; i < 3; i++) {
        if (i == 0) {
            roles_restart(r);
        } else if (i == 1) {
            rcoll_flush(c);
        } else {
            roles_restart(r);
        }
        same(all, rcoll_dump(c, NULL, 0));
        assert_int_equal(rcoll_total(c), 19);
    }
    rcoll_release(c, NULL);
    rcoll_load(c, NULL);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_delete(c, NULL, 8, 1); /* in every partition */
    assert_int_equal(rcoll_total(c), 18);
    rcoll_free(c);
    roles_free(r);
}

static void test_key_when_in_growing_and_sealed_then_newest_and_once(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct rrow *rows;
    int64_t *hits;
    size_t n;
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 20, 1);
    rcoll_flush(c);
    rcoll_insert(c, NULL, 0, 20, 2); /* plain inserts of the same keys */
    rcoll_insert(c, NULL, 0, 20, 3); /* and within one segment */
    ASSERT_OK(rcoll_query(c, NULL, NULL, 0, ar, &rows, &n, &st));
    assert_int_equal(n, 20);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rows[i].key, i);
        assert_int_equal(rows[i].n, 3);
    }
    ASSERT_OK(rcoll_search(c, NULL, 5.0f, 20, 0, ar, &hits, &n, &st));
    assert_int_equal(n, 20); /* all keys, although each stands there three times */
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(hits[i], hits[j]);
        }
    }
    ASSERT_OK(rcoll_search(c, NULL, 5.0f, 7, 0, ar, &hits, &n, &st));
    assert_int_equal(n, 7);
    arena_free(ar);
    rcoll_free(c);
    roles_free(r);
}

static void test_snapshot_when_rows_change_later_then_old_picture_stays(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 2);
    hts ts[6];
    const char *at[6];
    rcoll_load(c, NULL);
    for (int i = 0; i < 6; i++) {
        rcoll_insert(c, NULL, i * 100, 60, i);
        rcoll_upsert(c, NULL, i * 70, 30, i + 10);
        rcoll_delete(c, NULL, i * 40, 7);
        ts[i] = roles_now(r);
        at[i] = rcoll_dump(c, NULL, ts[i]);
        for (int j = 0; j <= i; j++) {
            same(at[j], rcoll_dump(c, NULL, ts[j]));
        }
        if (i % 2) {
            rcoll_flush(c);
        }
        for (int j = 0; j <= i; j++) {
            same(at[j], rcoll_dump(c, NULL, ts[j]));
        }
    }
    roles_restart(r);
    for (int j = 0; j < 6; j++) {
        same(at[j], rcoll_dump(c, NULL, ts[j]));
    }
    rcoll_free(c);
    roles_free(r);
}

static void test_flush_when_commit_fails_then_retried_and_rows_stay(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 50, 1);
    rcoll_delete(c, NULL, 0, 5);
    const char *all = rcoll_dump(c, NULL, 0);
    meta_mem_fail_txn(r->meta, "/elanus/data/segment/", 1, ST_UNAVAILABLE);
    rcoll_seal(c);
    same(all, rcoll_dump(c, NULL, 0));
    R_WAIT(rcoll_flushed(c) == 1);
    rcoll_wait_swapped(c);
    assert_int_equal(rcoll_deltas(c), 1);
    same(all, rcoll_dump(c, NULL, 0));
    roles_restart(r);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_free(c);
    roles_free(r);
}

static void test_flush_when_any_step_fails_once_then_repeated_and_rows_come_once(void **state)
{
#ifdef ELANUS_FAULTS
    static const char *const points[] = { "flush_before_files:error:1", "flush_before_commit:error:1",
                                          "flush_after_commit:error:1",
                                          "delta_before_commit:error:1" };
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        struct roles *r = start(false);
        struct rcoll *c = rcoll_new(r, "c", 1);
        rcoll_load(c, NULL);
        rcoll_insert(c, NULL, 0, 50, 1);
        rcoll_upsert(c, NULL, 40, 20, 2);
        const char *all = rcoll_dump(c, NULL, 0);
        fault_arm(points[i]);
        rcoll_flush(c);
        fault_arm(NULL);
        same(all, rcoll_dump(c, NULL, 0));
        assert_int_equal(rcoll_flushed(c), 1);
        roles_restart(r);
        same(all, rcoll_dump(c, NULL, 0));
        rcoll_free(c);
        roles_free(r);
    }
#else
    skip();
#endif
}

static void test_flush_when_node_cannot_load_then_rows_stay_growing(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 50, 1);
    const char *all = rcoll_dump(c, NULL, 0);
    r->fail_load = 3;
    rcoll_seal(c);
    R_WAIT(rcoll_flushed(c) == 1);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_delete(c, NULL, 7, 1); /* between commit and swap */
    rcoll_upsert(c, NULL, 8, 1, 2);
    const char *later = rcoll_dump(c, NULL, 0);
    rcoll_wait_swapped(c);
    assert_int_equal(r->fail_load, 0);
    same(later, rcoll_dump(c, NULL, 0));
    assert_int_equal(rcoll_qnode_segments(c), 1);
    rcoll_free(c);
    roles_free(r);
}

static void test_restart_when_committed_but_not_swapped_then_rows_come_once(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 50, 1);
    r->fail_load = INT32_MAX;
    rcoll_seal(c);
    R_WAIT(rcoll_flushed(c) == 1);
    rcoll_delete(c, NULL, 7, 1);
    const char *all = rcoll_dump(c, NULL, 0);
    roles_stop(r);
    r->fail_load = 0;
    assert_int_equal(roles_start(r), 0);
    same(all, rcoll_dump(c, NULL, 0));
    assert_int_equal(rcoll_total(c), 49);
    rcoll_free(c);
    roles_free(r);
}

static void test_delete_when_node_misses_it_then_segment_is_loaded_again(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    int64_t n;
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 50, 1);
    rcoll_flush(c);
    r->fail_load = 2; /* so that the gap can be seen */
    r->fail_deletes = 1;
    rcoll_delete(c, NULL, 0, 10); /* acknowledged: it is in the log */
    int rc = rcoll_count(c, NULL, 0, &n, &st);
    assert_true(rc == 0 || (rc == ERR_SEGMENT_NOT_FOUND && st.retriable));
    assert_true(rc != 0 || n == 40); /* never the deleted rows */
    R_WAIT(rcoll_count(c, NULL, 0, &n, &st) == 0);
    assert_int_equal(n, 40);
    rcoll_free(c);
    roles_free(r);
}

static void test_read_when_node_has_lost_segments_then_retriable_and_loaded_again(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    Elanus__ReleaseSegmentsReq req = ELANUS__RELEASE_SEGMENTS_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    Elanus__NodeInfo node = ELANUS__NODE_INFO__INIT;
    Elanus__RegisterReq rreq = ELANUS__REGISTER_REQ__INIT;
    Elanus__RegisterResp rresp = ELANUS__REGISTER_RESP__INIT;
    int64_t n;
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 50, 1);
    rcoll_flush(c);
    rcoll_delete(c, NULL, 0, 10);
    req.collection_id = c->id;
    ASSERT_OK(r->qnode_real.release_segments(r->qnode_real.self, &r->call, &req, &e, &st));
    assert_int_equal(rcoll_count(c, NULL, 0, &n, &st), ERR_COLLECTION_NOT_LOADED);
    assert_true(st.retriable);
    R_WAIT(rcoll_count(c, NULL, 0, &n, &st) == 0);
    assert_int_equal(n, 40);
    /* A query node that comes back empty registers; the coordinator has it loaded again. */
    ASSERT_OK(r->qnode_real.release_segments(r->qnode_real.self, &r->call, &req, &e, &st));
    node.node_id = 1;
    node.role = "querynode";
    rreq.node = &node;
    ASSERT_OK(r->streaming.register_node(r->streaming.self, &r->call, &rreq, &rresp, &st));
    assert_int_equal(rcoll_total(c), 40);
    rcoll_free(c);
    roles_free(r);
}

static void test_start_when_files_cannot_be_loaded_then_reads_say_so_until_they_can(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 1), *d = rcoll_new(r, "d", 1);
    struct status st = STATUS_INIT;
    int64_t n;
    rcoll_load(c, NULL);
    rcoll_load(d, NULL);
    rcoll_insert(c, NULL, 0, 50, 1);
    rcoll_insert(d, NULL, 0, 7, 1);
    rcoll_flush(c);
    roles_stop(r);
    r->fail_load = 2;
    assert_int_equal(roles_start(r), 0);
    if (rcoll_count(c, NULL, 0, &n, &st) != 0) {
        assert_int_equal(st.code, ERR_SEGMENT_NOT_FOUND);
        assert_true(st.retriable);
    }
    assert_int_equal(rcoll_total(d), 7); /* others are not concerned */
    rcoll_insert(c, NULL, 100, 5, 1);
    R_WAIT(rcoll_count(c, NULL, 0, &n, &st) == 0);
    assert_int_equal(n, 55);
    rcoll_free(c);
    rcoll_free(d);
    roles_free(r);
}

static void test_flush_when_not_loaded_then_load_gives_all(void **state)
{
    struct roles *r = start(false);
    struct rcoll *c = rcoll_new(r, "c", 2);
    struct status st = STATUS_INIT;
    int64_t n;
    rcoll_insert(c, NULL, 0, 100, 1);
    rcoll_delete(c, NULL, 0, 10);
    rcoll_flush(c);
    rcoll_delete(c, NULL, 10, 10);
    assert_int_equal(rcoll_qnode_segments(c), 0);
    assert_int_equal(rcoll_count(c, NULL, 0, &n, &st), ERR_COLLECTION_NOT_LOADED);
    rcoll_load(c, NULL);
    assert_int_equal(rcoll_total(c), 80);
    roles_restart(r);
    assert_int_equal(rcoll_total(c), 80);
    rcoll_free(c);
    roles_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_when_flushed_then_answers_are_identical),
        cmocka_unit_test(test_restart_when_nothing_is_flushed_then_replay_gives_all),
        cmocka_unit_test(test_log_when_its_end_is_lost_then_later_rows_and_deletes_are_kept),
        cmocka_unit_test(test_restart_when_partly_flushed_then_files_and_replay_join),
        cmocka_unit_test(test_reads_when_restarted_with_nothing_to_replay_then_rows_are_visible),
        cmocka_unit_test(test_deletes_when_in_several_files_then_all_apply_after_load),
        cmocka_unit_test(test_deletes_when_of_one_partition_then_files_keep_them_there),
        cmocka_unit_test(test_key_when_in_growing_and_sealed_then_newest_and_once),
        cmocka_unit_test(test_snapshot_when_rows_change_later_then_old_picture_stays),
        cmocka_unit_test(test_flush_when_commit_fails_then_retried_and_rows_stay),
        cmocka_unit_test(test_flush_when_any_step_fails_once_then_repeated_and_rows_come_once),
        cmocka_unit_test(test_flush_when_node_cannot_load_then_rows_stay_growing),
        cmocka_unit_test(test_restart_when_committed_but_not_swapped_then_rows_come_once),
        cmocka_unit_test(test_delete_when_node_misses_it_then_segment_is_loaded_again),
        cmocka_unit_test(test_read_when_node_has_lost_segments_then_retriable_and_loaded_again),
        cmocka_unit_test(test_start_when_files_cannot_be_loaded_then_reads_say_so_until_they_can),
        cmocka_unit_test(test_flush_when_not_loaded_then_load_gives_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
