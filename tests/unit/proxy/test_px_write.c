/* test_px_write.c - rows and keys to shards and partitions; deletes by filter, a page at a time. */
#include "px_rows_fixture.h"

static int delete(struct rw *rw, const char *expr, const char *partition,
                  Milvus__Proto__Milvus__MutationResult *resp, struct status *st)
{
    Milvus__Proto__Milvus__DeleteRequest req = MILVUS__PROTO__MILVUS__DELETE_REQUEST__INIT;

    milvus__proto__milvus__mutation_result__init(resp);
    req.collection_name = "c";
    req.expr = expr;
    req.partition_name = partition;
    return px_delete(rw->pc, &req, resp, st);
}

static struct batch id_and_word(struct rw *rw, int64_t first, uint32_t n)
{
    struct column_builder *id =
        column_builder_new(rw->fx.ar, 100, DT_INT64, DT_NONE, 0, n);
    struct column_builder *word =
        column_builder_new(rw->fx.ar, 102, DT_VARCHAR, DT_NONE, 0, n);
    struct column *cols = arena_alloc(rw->fx.ar, 2 * sizeof *cols);

    for (uint32_t i = 0; i < n; i++) {
        int64_t key = first + i;
        char text[16];
        int len = snprintf(text, sizeof text, "w%d", (int)(i % 23));
        assert_true(column_builder_add(id, slice_n(&key, 8)));
        assert_true(column_builder_add(word, slice_n(text, (size_t)len)));
    }
    column_builder_finish(id, &cols[0]);
    column_builder_finish(word, &cols[1]);
    return (struct batch){ n, 2, cols };
}

static void test_rows_go_to_the_shard_and_partition_of_their_keys(void **state)
{
    static const struct {
        size_t nshards, nparts;
        bool key;
    } rows[] = { { 1, 1, false }, { 4, 3, false }, { 1, 16, true }, { 16, 16, true } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct status st = STATUS_INIT;
        struct rw rw;
        uint32_t total = 0, nparts = 0;
        hts ts;
        rw_start(&rw, rows[i].nshards, rows[i].nparts, rows[i].key);
        struct batch b = id_and_word(&rw, 0, 1000);
        struct px_write w = { .coll = rw_coll(&rw), .rows = &b, .partition_name = "" };
        ASSERT_OK(px_send_writes(rw.pc, &w, &ts, &st));
        assert_int_equal(rw.nwrites, rows[i].nshards);
        assert_int_equal(ts, 5000 + rw.nwrites);
        for (size_t s = 0; s < rw.nwrites; s++) {
            total += rw.writes[s].nrows;
            nparts = MAX(nparts, rw.writes[s].nparts);
            for (uint32_t p = 1; p < rw.writes[s].nparts; p++) {
                assert_true(rw.writes[s].part_ids[p - 1] < rw.writes[s].part_ids[p]);
            }
        }
        assert_int_equal(total, 1000);
        assert_true(rows[i].key ? nparts > 5 : nparts == 1);
        rw_stop(&rw);
    }
}

static void test_partition_of_a_row_depends_on_its_value_alone(void **state)
{
    struct status st = STATUS_INIT;
    struct rw rw;
    int64_t *sorted;

    (void)state;
    rw_start(&rw, 1, 16, true);
    sorted = px_key_partitions(rw.pc, rw_coll(&rw));
    for (int i = 0; i < 16; i++) {
        assert_int_equal(sorted[i], 100 + i);
    }
    struct batch one = id_and_word(&rw, 500, 1); /* word w0 */
    struct px_write w = { .coll = rw_coll(&rw), .rows = &one, .partition_name = "" };
    hts ts;
    ASSERT_OK(px_send_writes(rw.pc, &w, &ts, &st));
    assert_int_equal(rw.writes[0].part_ids[0],
                     sorted[pk_hash(&one.cols[1], 0) % 16]);
    rw_stop(&rw);
}

static void test_named_partitions(void **state)
{
    struct status st = STATUS_INIT;
    struct rw rw;
    hts ts;

    (void)state;
    rw_start(&rw, 1, 3, false);
    struct batch b = id_and_word(&rw, 0, 3);
    struct px_write w = { .coll = rw_coll(&rw), .rows = &b, .partition_name = "p2" };
    ASSERT_OK(px_send_writes(rw.pc, &w, &ts, &st));
    assert_int_equal(rw.writes[0].part_ids[0], 100 + 2 * 7 % 3);
    w.partition_name = "nope";
    assert_int_equal(px_send_writes(rw.pc, &w, &ts, &st), 200);
    assert_string_equal(st.msg, "partition not found[partition=nope]");
    assert_int_equal(rw.nwrites, 1);
    rw_stop(&rw);
    rw_start(&rw, 1, 16, true);
    w.coll = rw_coll(&rw);
    w.partition_name = "p2";
    st_clear(&st);
    ASSERT_OK(px_write_scope(rw.pc, w.coll, "", false, &w.delete_partitions,
                             &w.ndelete_partitions, &st));
    assert_int_equal(w.ndelete_partitions, 0);
    assert_int_equal(px_write_scope(rw.pc, w.coll, "p2", false, &w.delete_partitions,
                                    &w.ndelete_partitions, &st), 1100);
    assert_non_null(strstr(st.msg, "if partition key mode is used"));
    rw_stop(&rw);
}

/* ---- deletes ---- */

static void test_delete_by_keys_needs_no_read(void **state)
{
    Milvus__Proto__Milvus__MutationResult resp;
    struct status st = STATUS_INIT;
    struct rw rw;

    (void)state;
    rw_start(&rw, 3, 2, false);
    rw.fx.loaded = false;
    ASSERT_OK(delete(&rw, "id in [5, 6, 7, 5, 100000]", "", &resp, &st));
    assert_int_equal(resp.delete_cnt, 4);
    assert_null(resp.ids);
    assert_int_equal(rw.queries, 0);
    assert_int_equal(rw.writes[0].nscope, 0);
    rw.nwrites = 0;
    ASSERT_OK(delete(&rw, "id == 5", "p1", &resp, &st));
    assert_int_equal(rw.writes[0].nscope, 1);
    assert_int_equal(rw.writes[0].scope, 101);
    assert_int_equal(rw.nwrites, 1);
    ASSERT_OK(delete(&rw, "id in []", "", &resp, &st));
    assert_int_equal(resp.delete_cnt, 0);
    assert_true(resp.timestamp > 0);
    assert_int_equal(rw.nwrites, 1);
    rw_stop(&rw);
}

static void test_delete_by_filter_goes_through_pages_at_one_snapshot(void **state)
{
    Milvus__Proto__Milvus__MutationResult resp;
    struct status st = STATUS_INIT;
    struct rw rw;

    (void)state;
    for (size_t shards = 1; shards <= 3; shards += 2) {
        rw_start(&rw, shards, 1, false);
        rw.nrows = 900000;
        rw.deleted = alloc_try(bits_words(900000) * 8);
        memset(rw.deleted, 0, bits_words(900000) * 8);
        ASSERT_OK(delete(&rw, "word != \"x\"", "", &resp, &st));
        assert_int_equal(resp.delete_cnt, 900000);
        assert_int_equal(rw.ndeleted, 900000);
        assert_int_equal(rw.queries, 3); /* three pages of one shard, or one of each */
        for (size_t i = 0; i < rw.nreads; i++) {
            assert_int_equal(rw.read_ts[i], rw.read_ts[0]);
            assert_true(rw.read_ts[i] > 0);
        }
        assert_int_equal(resp.timestamp, 5000 + rw.nwrites);
        rw_stop(&rw);
    }
}

static void test_delete_by_key_and_more_asks_for_the_rows(void **state)
{
    Milvus__Proto__Milvus__MutationResult resp;
    struct status st = STATUS_INIT;
    struct rw rw;

    (void)state;
    rw_start(&rw, 2, 16, true);
    rw.nrows = 20;
    ASSERT_OK(delete(&rw, "id in [5, 50] and word == \"a\"", "", &resp, &st));
    assert_int_equal(resp.delete_cnt, 1);
    assert_int_equal(rw.npartition_ids, 1); /* only the partition of "a" is read */
    assert_int_equal(rw.writes[0].nscope, 0);
    rw_stop(&rw);
}

static void test_deletes_that_are_refused(void **state)
{
    static const struct {
        const char *expr, *partition;
        int code;
        const char *text;
    } rows[] = {
        { "", "", 1100, "failed to create delete plan: delete plan can't be empty or always true" },
        { "  ", "", 1100, "failed to create delete plan: delete plan can't be empty or always "
                          "true" },
        { "1 == 1", "", 1100, "delete plan can't be empty or always true : 1 == 1" },
        { "true", "", 1100, "failed to create delete plan" },
        { "id >", "", 1100, "failed to create delete plan: cannot parse expression: id >" },
        { "id == 4", "nope", 200, "partition not found[partition=nope]" },
        { "word == \"a\"", "", 101, "collection not loaded" },
    };
    Milvus__Proto__Milvus__MutationResult resp;
    struct rw rw;

    (void)state;
    rw_start(&rw, 1, 1, false);
    rw.fx.loaded = false;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct status st = STATUS_INIT;
        assert_int_equal(delete(&rw, rows[i].expr, rows[i].partition, &resp, &st), rows[i].code);
        if (!strstr(st.msg, rows[i].text)) {
            fail_msg("%s: %s", rows[i].text, st.msg);
        }
    }
    struct status st = STATUS_INIT;
    ASSERT_OK(delete(&rw, "1 == 2", "", &resp, &st)); /* never true: nothing to do */
    assert_int_equal(resp.delete_cnt, 0);
    assert_int_equal(rw.nwrites, 0);
    rw_stop(&rw);
}

static void test_a_long_list_of_keys_takes_several_records(void **state)
{
    struct status st = STATUS_INIT;
    struct rw rw;
    hts ts = 0;

    (void)state;
    rw_start(&rw, 1, 1, false);
    rw.nrows = 250000;
    rw.deleted = alloc_try(bits_words(250000) * 8);
    memset(rw.deleted, 0, bits_words(250000) * 8);
    struct batch b = id_and_word(&rw, 0, 250000);
    ASSERT_OK(px_send_deletes(rw.pc, rw_coll(&rw), &b.cols[0], NULL, 0, &ts, &st));
    assert_int_equal(rw.nwrites, 3);
    assert_int_equal(rw.ndeleted, 250000);
    assert_int_equal(ts, 5003);
    rw_stop(&rw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_go_to_the_shard_and_partition_of_their_keys),
        cmocka_unit_test(test_partition_of_a_row_depends_on_its_value_alone),
        cmocka_unit_test(test_named_partitions),
        cmocka_unit_test(test_delete_by_keys_needs_no_read),
        cmocka_unit_test(test_delete_by_filter_goes_through_pages_at_one_snapshot),
        cmocka_unit_test(test_delete_by_key_and_more_asks_for_the_rows),
        cmocka_unit_test(test_deletes_that_are_refused),
        cmocka_unit_test(test_a_long_list_of_keys_takes_several_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
