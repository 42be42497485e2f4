/* test_node_life.c - partitions, drops, definitions, limits, failing disks, the log's length. */
#include "roles.h"
#include "file_crash.h"

static void same(const char *a, const char *b)
{
    if (strcmp(a, b) != 0) {
        print_message("--- before\n%s\n--- after\n%s\n", a, b);
    }
    assert_string_equal(a, b);
}

static struct roles *start(void)
{
    struct roles_opts o = { 0 };
    return roles_new(&o);
}

static size_t rows_of(struct rcoll *c, const char *partition, int *ret_code)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct rrow *rows;
    size_t n = 0;
    *ret_code = rcoll_query(c, NULL, partition, 0, ar, &rows, &n, &st);
    arena_free(ar);
    return n;
}

static void test_partitions_when_loaded_and_released_then_just_these_are_read(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 2);
    int code;
    rcoll_partition_new(c, "p");
    rcoll_partition_new(c, "q");
    rcoll_insert(c, "p", 0, 10, 1);
    rcoll_insert(c, "q", 100, 20, 1);
    rcoll_flush(c);
    rcoll_insert(c, "p", 10, 5, 1);
    rcoll_load(c, "p");
    assert_int_equal(rcoll_total(c), 15);
    assert_int_equal(rows_of(c, "p", &code), 15);
    rows_of(c, "q", &code);
    assert_int_equal(code, ERR_PARTITION_NOT_LOADED);
    rcoll_load(c, "q");
    assert_int_equal(rcoll_total(c), 35);
    roles_restart(r);
    assert_int_equal(rcoll_total(c), 35);
    rcoll_release(c, "p");
    assert_int_equal(rcoll_total(c), 20);
    rcoll_delete(c, NULL, 0, 3); /* of released rows */
    rcoll_load(c, NULL);
    assert_int_equal(rcoll_total(c), 32);
    rcoll_partition_new(c, "later"); /* belongs to a loaded collection at once */
    rcoll_insert(c, "later", 500, 4, 1);
    assert_int_equal(rows_of(c, "later", &code), 4);
    rcoll_flush(c);
    assert_int_equal(rcoll_total(c), 36);
    rcoll_free(c);
    roles_free(r);
}

static void test_partition_when_dropped_then_rows_are_gone_and_writes_refused(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    rcoll_partition_new(c, "p");
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 10, 1);
    rcoll_insert(c, "p", 100, 10, 1);
    rcoll_flush(c);
    rcoll_insert(c, "p", 200, 10, 1);
    assert_int_equal(rcoll_total(c), 30);
    if (rcoll_partition_drop(c, "p") != 0) { /* has to be released first, says the API */
        rcoll_release(c, "p");
        assert_int_equal(rcoll_partition_drop(c, "p"), 0);
    }
    assert_int_equal(rcoll_total(c), 10);
    assert_int_equal(rcoll_write(c, R_INSERT, "p", RKEYS(1, 2), 1, NULL, &st),
                     ERR_PARTITION_NOT_FOUND); /* with the id the client still knows */
    rcoll_flush(c);
    roles_restart(r);
    assert_int_equal(rcoll_total(c), 10);
    rcoll_free(c);
    roles_free(r);
}

static void test_collection_when_dropped_with_growing_rows_then_gone(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 2), *d = rcoll_new(r, "d", 1);
    struct status st = STATUS_INIT;
    int64_t n;
    rcoll_load(c, NULL);
    rcoll_load(d, NULL);
    rcoll_insert(c, NULL, 0, 100, 1);
    rcoll_insert(d, NULL, 0, 50, 1);
    rcoll_flush(c);
    rcoll_insert(c, NULL, 0, 100, 1);
    assert_true(r->sn->growing_bytes > 0);
    assert_int_equal(rcoll_drop(c), 0);
    assert_int_equal(rcoll_count(c, NULL, 0, &n, &st), ERR_CHANNEL_NOT_AVAILABLE);
    assert_true(st.retriable);
    assert_int_not_equal(rcoll_write(c, R_INSERT, NULL, RKEYS(1), 1, NULL, &st), 0);
    assert_int_equal(rcoll_qnode_segments(c), 0);
    assert_int_equal(rcoll_total(d), 50);
    roles_restart(r);
    assert_int_equal(rcoll_total(d), 50);
    assert_int_equal(rcoll_drop(d), 0);
    R_WAIT(r->sn->growing_bytes == 0);
    rcoll_free(c);
    rcoll_free(d);
    roles_free(r);
}

/* Drops, loads and releases while flush passes run; nothing stays behind. */
static void test_drops_when_flushes_run_then_nothing_is_left(void **state)
{
    struct roles *r = start();
    for (int i = 0; i < 30; i++) {
        struct rcoll *c = rcoll_new(r, "c", 1);
        rcoll_partition_new(c, "p");
        rcoll_load(c, NULL);
        rcoll_insert(c, NULL, 0, 20, 1);
        rcoll_insert(c, "p", 100, 20, 1);
        rcoll_upsert(c, NULL, 10, 20, 2);
        if (i % 3) {
            r->fail_load = i % 4;
        }
        rcoll_seal(c);
        usleep((useconds_t)(i * 300));
        switch (i % 3) {
        case 0:
            rcoll_release(c, NULL);
            rcoll_load(c, NULL);
            assert_int_equal(rcoll_total(c), 50);
            break;
        case 1:
            r->fail_load = 0; /* the failures are for the flush, not for the call */
            rcoll_release(c, "p");
            assert_int_equal(rcoll_partition_drop(c, "p"), 0);
            assert_int_equal(rcoll_total(c), 30);
            rcoll_wait_swapped(c);
            assert_int_equal(rcoll_total(c), 30);
            break;
        default:
            break;
        }
        r->fail_load = 0;
        assert_int_equal(rcoll_drop(c), 0);
        R_WAIT(r->sn->growing_bytes == 0);
        R_WAIT(rcoll_qnode_segments(c) == 0);
        rcoll_free(c);
    }
    roles_free(r);
}

static void test_segments_when_full_then_sealed_by_themselves(void **state)
{
    struct roles_opts o = { .seal_bytes = 40000, .compute_threads = 2 };
    struct roles *r = roles_new(&o);
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_load(c, NULL);
    for (int i = 0; i < 60; i++) {
        rcoll_insert(c, NULL, i * 100, 100, i);
        rcoll_delete(c, NULL, i * 100 + 7, 1);
    }
    assert_int_equal(rcoll_total(c), 60 * 99);
    R_WAIT(rcoll_flushed(c) >= 8);
    rcoll_wait_swapped(c);
    const char *all = rcoll_dump(c, NULL, 0);
    roles_restart(r);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_free(c);
    roles_free(r);
}

static void test_rows_when_older_than_ttl_then_not_seen(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 10, 1);
    rcoll_flush(c);
    rcoll_insert(c, NULL, 10, 10, 1);
    rcoll_set_property(c, "collection.ttl.seconds", "3600");
    assert_int_equal(rcoll_total(c), 20);
    rcoll_set_property(c, "collection.ttl.seconds", "1");
    R_WAIT(rcoll_total(c) == 0);
    rcoll_insert(c, NULL, 20, 5, 1);
    rcoll_set_property(c, "collection.ttl.seconds", "3600");
    assert_int_equal(rcoll_total(c), 25);
    rcoll_free(c);
    roles_free(r);
}

static void test_field_when_added_then_old_rows_have_its_default(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 3, 1);
    rcoll_flush(c); /* sealed */
    rcoll_insert(c, NULL, 3, 2, 1); /* growing */
    rcoll_add_field(c, "d", true, 42);
    rcoll_add_field(c, "e", false, 0);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(rcoll_values(c, "d", NULL), "0=42 1=42 2=42 3=42 4=42");
        assert_string_equal(rcoll_values(c, "e", NULL), "0=null 1=null 2=null 3=null 4=null");
        assert_string_equal(rcoll_values(c, "d", "d == 42 and id > 1"), "2=42 3=42 4=42");
        assert_string_equal(rcoll_values(c, "d", "d != 42"), "");
        assert_string_equal(rcoll_values(c, "n", "e is null and id < 4"), "0=1 1=1 2=1 3=1");
        assert_string_equal(rcoll_values(c, "n", "e > 0"), "");
        if (i == 0) {
            rcoll_wait_swapped(c); /* the growing segment of the old definition is sealed */
        } else if (i == 1) {
            roles_restart(r);
        } else if (i == 2) {
            rcoll_release(c, NULL);
            rcoll_load(c, NULL);
        }
    }
    rcoll_insert(c, NULL, 10, 2, 5); /* a client that does not know the fields yet */
    assert_string_equal(rcoll_values(c, "d", "id >= 4"), "4=42 10=42 11=42");
    rcoll_flush(c);
    roles_restart(r);
    assert_string_equal(rcoll_values(c, "d", "d == 42 and id >= 4"), "4=42 10=42 11=42");
    rcoll_free(c);
    roles_free(r);
}

/* The query node's next load waits, before it begins, for the test. */
static struct held {
    _Atomic bool armed, arrived, go;
} held;

static int load_held(void *self, const struct call *call, const Elanus__LoadSegmentsReq *req,
                     Elanus__Empty *resp, struct status *st)
{
    struct roles *r = self;
    bool armed = true;
    if (req->n_segments && atomic_compare_exchange_strong(&held.armed, &armed, false)) {
        held.arrived = true;
        while (!held.go) {
            usleep(200);
        }
    }
    return r->qnode_real.load_segments(r->qnode_real.self, call, req, resp, st);
}

/* The node gets the definition that the load began with, and serves nothing of the shard yet, so
 * that the change passes it by. */
static void test_field_when_added_while_a_segment_loads_then_its_node_knows_it(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    r->qnode.load_segments = load_held;
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 3, 1);
    held.armed = true;
    rcoll_seal(c);
    R_WAIT(held.arrived);
    rcoll_add_field(c, "d", true, 42);
    held.go = true;
    rcoll_wait_swapped(c);
    assert_int_equal(rcoll_qnode_segments(c), 1);
    assert_string_equal(rcoll_values(c, "d", NULL), "0=42 1=42 2=42");
    assert_string_equal(rcoll_values(c, "d", "d == 42 and id > 1"), "2=42");
    rcoll_free(c);
    roles_free(r);
}

/* What cannot be told of the new definition is loaded again, with it. */
static void test_field_when_a_node_cannot_be_told_then_its_segments_are_loaded_again(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    int64_t n;
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 3, 1);
    rcoll_flush(c);
    r->fail_load = 1;
    rcoll_add_field(c, "d", true, 42);
    R_WAIT(rcoll_count(c, NULL, 0, &n, &st) == 0);
    assert_int_equal(r->fail_load, 0);
    assert_string_equal(rcoll_values(c, "d", "d == 42"), "0=42 1=42 2=42");
    rcoll_free(c);
    roles_free(r);
}

static void test_writes_when_memory_is_short_then_refused_until_flushed(void **state)
{
    struct roles_opts o = { .memory_high_bytes = 60000 };
    struct roles *r = roles_new(&o);
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    int64_t i = 0, n;
    rcoll_load(c, NULL);
    while (rcoll_write(c, R_INSERT, NULL, RKEYS(i, i + 1, i + 2, i + 3), 1, NULL, &st) == 0) {
        i += 4;
        assert_true(i < 100000);
    }
    assert_int_equal(st.code, ST_QUOTA);
    assert_int_equal(rcoll_total(c), i);
    st_clear(&st);
    ASSERT_OK(rcoll_write(c, R_DELETE, NULL, RKEYS(0), 0, NULL, &st)); /* still taken */
    rcoll_flush(c);
    ASSERT_OK(rcoll_write(c, R_INSERT, NULL, RKEYS(i), 1, NULL, &st));
    ASSERT_OK(rcoll_count(c, NULL, 0, &n, &st));
    assert_int_equal(n, i);
    rcoll_free(c);
    roles_free(r);
}

static void test_disk_when_full_then_rows_stay_and_flush_comes_later(void **state)
{
    struct crash_fs *fs = crash_fs_new(1);
    struct roles_opts o = { .dir = "/data" };
    struct roles *r = roles_new(&o);
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 50, 1);
    rcoll_delete(c, NULL, 0, 5);
    const char *all = rcoll_dump(c, NULL, 0);
    crash_fs_set_space(fs, 0);
    rcoll_seal(c);
    assert_int_equal(rcoll_write(c, R_INSERT, NULL, RKEYS(900), 1, NULL, &st), ST_NO_SPACE);
    same(all, rcoll_dump(c, NULL, 0));
    usleep(150000); /* a few passes fail */
    assert_int_equal(rcoll_flushed(c), 0);
    crash_fs_set_space(fs, UINT64_MAX);
    R_WAIT(rcoll_flushed(c) == 1);
    rcoll_wait_swapped(c);
    same(all, rcoll_dump(c, NULL, 0));
    st_clear(&st);
    ASSERT_OK(rcoll_write(c, R_INSERT, NULL, RKEYS(900), 1, NULL, &st));
    assert_int_equal(rcoll_total(c), 46);
    roles_restart(r);
    assert_int_equal(rcoll_total(c), 46);
    rcoll_free(c);
    roles_free(r);
    crash_fs_free(fs);
}

static uint64_t log_first(struct rcoll *c)
{
    struct sn_shard *sh = rcoll_shard(c, 0);
    uint64_t first = wal_first_position(sh->ch->wal);
    sn__shard_unref(sh);
    return first;
}

static void test_log_when_cut_then_no_needed_record_is_gone(void **state)
{
    struct roles_opts o = { .wal_file_size = 20000 };
    struct roles *r = roles_new(&o);
    struct rcoll *c[6];
    const char *all[6];
    for (int i = 0; i < 6; i++) { /* one channel for all */
        char name[8] = { 'c', (char)('0' + i), 0 };
        c[i] = rcoll_new(r, name, 1);
        rcoll_load(c[i], NULL);
    }
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 6; i++) {
            rcoll_upsert(c[i], NULL, round * 10, 30, round);
            rcoll_delete(c[i], NULL, round * 10 + 3, 2);
        }
        rcoll_flush(c[round % 5]); /* never the last one */
    }
    assert_int_equal(log_first(c[0]), 1); /* c[5] holds it */
    for (int i = 0; i < 6; i++) {
        all[i] = rcoll_dump(c[i], NULL, 0);
    }
    roles_restart(r);
    for (int i = 0; i < 6; i++) {
        same(all[i], rcoll_dump(c[i], NULL, 0));
    }
    for (int i = 5; i >= 0; i--) {
        rcoll_flush(c[i]);
    }
    R_WAIT(log_first(c[0]) > 1);
    roles_restart(r);
    for (int i = 0; i < 6; i++) {
        same(all[i], rcoll_dump(c[i], NULL, 0));
        rcoll_free(c[i]);
    }
    roles_free(r);
}

static void test_write_when_it_does_not_fit_the_schema_then_refused_before_the_log(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    struct status st = STATUS_INIT;
    int64_t id = 5;
    struct column_builder *cb = column_builder_new(ar, c->schema->pk->id, DT_INT64, DT_NONE, 0, 1);
    struct column col;
    assert_true(column_builder_add(cb, slice_n((const char *)&id, 8)));
    column_builder_finish(cb, &col);
    struct batch b = { 1, 1, &col };
    Elanus__WriteReq req = ELANUS__WRITE_REQ__INIT;
    Elanus__WriteResp resp = ELANUS__WRITE_RESP__INIT;
    Elanus__InsertPart part = ELANUS__INSERT_PART__INIT, *parts = &part;
    req.vchannel = c->vchannels[0];
    req.collection_id = c->id;
    req.inserts = &parts;
    req.n_inserts = 1;
    part.partition_id = rcoll_partition(c, "_default");
    part.num_rows = 1;
    ASSERT_OK(nd_batch_bytes(&b, ar, &part.batch, &st));
    /* vec and n are missing */
    assert_int_equal(r->snode.write(r->snode.self, &call, &req, &resp, &st), ST_INVALID);
    st_clear(&st);
    part.num_rows = 2;
    assert_int_equal(r->snode.write(r->snode.self, &call, &req, &resp, &st), ST_INVALID);
    st_clear(&st);
    req.n_inserts = 0;
    assert_int_equal(r->snode.write(r->snode.self, &call, &req, &resp, &st), ST_INVALID);
    st_clear(&st);
    col.type = DT_DOUBLE; /* keys of another type */
    ASSERT_OK(nd_batch_bytes(&b, ar, &req.delete_pks, &st));
    assert_int_equal(r->snode.write(r->snode.self, &call, &req, &resp, &st), ST_INVALID);
    st_clear(&st);
    req.delete_pks.len--;
    assert_int_equal(r->snode.write(r->snode.self, &call, &req, &resp, &st), ST_CORRUPT);
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 3, 1); /* the shard is well */
    assert_int_equal(rcoll_total(c), 3);
    roles_restart(r);
    assert_int_equal(rcoll_total(c), 3);
    arena_free(ar);
    rcoll_free(c);
    roles_free(r);
}

static void test_memory_when_gone_after_the_log_then_shard_fails_and_restart_has_it(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1), *d = rcoll_new(r, "d", 1);
    struct status st = STATUS_INIT;
    int64_t n, acknowledged = 0, keys[64], part = rcoll_partition(c, "_default");
    struct arena *ar = arena_new(0);
    struct sn_shard *sh = rcoll_shard(c, 0);
    bool failed = false;
    rcoll_load(c, NULL);
    rcoll_load(d, NULL);
    rcoll_insert(d, NULL, 0, 5, 1);
    for (long nth = 2; nth < 40 && !failed; nth++) { /* the first one is the log's */
        struct call call = call_internal(ar);
        Elanus__WriteReq req;
        Elanus__WriteResp resp = ELANUS__WRITE_RESP__INIT;
        for (int64_t i = 0; i < 64; i++) {
            keys[i] = nth * 64 + i;
        }
        rcoll_build(c, 0, R_INSERT, part, (struct rkeys){ keys, 64 }, 1, ar, &req);
        alloc_fail_after(nth);
        if (r->snode.write(r->snode.self, &call, &req, &resp, &st) == 0) {
            acknowledged += 64;
        }
        alloc_fail_after(0);
        failed = sh->failed.code != 0;
        if (!failed) {
            rcoll_flush(c);
        }
    }
    sn__shard_unref(sh);
    arena_free(ar);
    assert_true(failed);
    st_clear(&st);
    assert_int_equal(rcoll_count(c, NULL, 0, &n, &st), ST_NO_MEMORY);
    rcoll_seal(c); /* must not lose the record */
    rcoll_insert(d, NULL, 10, 5, 1);
    rcoll_flush(d); /* cuts the log, but not that one */
    assert_int_equal(rcoll_total(d), 10);
    roles_restart(r);
    assert_int_equal(rcoll_total(c), acknowledged + 64); /* the record was durable */
    rcoll_free(c);
    rcoll_free(d);
    roles_free(r);
}

struct writer {
    struct rcoll *c;
    int64_t from, acked;
    struct thread *t;
};

static void write_until_refused(void *arg)
{
    struct writer *w = arg;
    struct status st = STATUS_INIT;
    while (rcoll_write(w->c, R_INSERT, NULL, RKEYS(w->from + w->acked), 1, NULL, &st) == 0) {
        w->acked++;
    }
    CHECK(st.code == ST_NOT_READY);
}

static void test_stop_when_writers_wait_then_all_get_an_answer(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct writer w[8];
    int64_t acked = 0;
    rcoll_load(c, NULL);
    for (int i = 0; i < 8; i++) {
        w[i] = (struct writer){ .c = c, .from = i * 1000000 };
        w[i].t = thread_start("writer", write_until_refused, &w[i]);
    }
    R_WAIT(rcoll_total(c) > 200);
    rcoll_seal(c);
    sn_stop(r->sn);
    for (int i = 0; i < 8; i++) {
        thread_join(w[i].t);
        acked += w[i].acked;
    }
    assert_int_equal(rcoll_total(c), acked); /* reads still work */
    roles_restart(r);
    assert_int_equal(rcoll_total(c), acked);
    rcoll_free(c);
    roles_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partitions_when_loaded_and_released_then_just_these_are_read),
        cmocka_unit_test(test_partition_when_dropped_then_rows_are_gone_and_writes_refused),
        cmocka_unit_test(test_collection_when_dropped_with_growing_rows_then_gone),
        cmocka_unit_test(test_drops_when_flushes_run_then_nothing_is_left),
        cmocka_unit_test(test_segments_when_full_then_sealed_by_themselves),
        cmocka_unit_test(test_rows_when_older_than_ttl_then_not_seen),
        cmocka_unit_test(test_field_when_added_then_old_rows_have_its_default),
        cmocka_unit_test(test_field_when_added_while_a_segment_loads_then_its_node_knows_it),
        cmocka_unit_test(test_field_when_a_node_cannot_be_told_then_its_segments_are_loaded_again),
        cmocka_unit_test(test_writes_when_memory_is_short_then_refused_until_flushed),
        cmocka_unit_test(test_disk_when_full_then_rows_stay_and_flush_comes_later),
        cmocka_unit_test(test_log_when_cut_then_no_needed_record_is_gone),
        cmocka_unit_test(test_write_when_it_does_not_fit_the_schema_then_refused_before_the_log),
        cmocka_unit_test(test_memory_when_gone_after_the_log_then_shard_fails_and_restart_has_it),
        cmocka_unit_test(test_stop_when_writers_wait_then_all_get_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
