/* test_px_behind.c - shards that have not been told of a field yet: they are asked again. */
#include "px_rows_fixture.h"

static int search_rows(struct rw *rw, struct status *st)
{
    const char *params[] = { "topk", "3", "offset", "0", NULL };
    Milvus__Proto__Milvus__SearchResults resp = MILVUS__PROTO__MILVUS__SEARCH_RESULTS__INIT;
    int rc = px_search(rw->pc, rw_search_request(rw, 1, params), &resp, st);
    if (rc == 0) {
        assert_int_equal(resp.results->ids->int_id->n_data, 3);
    }
    return rc;
}

static int query_rows(struct rw *rw, struct status *st)
{
    Milvus__Proto__Milvus__QueryRequest req = MILVUS__PROTO__MILVUS__QUERY_REQUEST__INIT;
    Milvus__Proto__Milvus__QueryResults resp = MILVUS__PROTO__MILVUS__QUERY_RESULTS__INIT;
    const char *fields[] = { "id" };
    req.collection_name = "c";
    req.expr = "id > 16";
    req.output_fields = fields;
    req.n_output_fields = 1;
    req.consistency_level = MILVUS__PROTO__COMMON__CONSISTENCY_LEVEL__Eventually;
    int rc = px_query(rw->pc, &req, &resp, st);
    if (rc == 0) {
        assert_int_equal(resp.fields_data[0]->scalars->long_data->n_data, 3);
    }
    return rc;
}

static int delete_rows(struct rw *rw, struct status *st)
{
    Milvus__Proto__Milvus__DeleteRequest req = MILVUS__PROTO__MILVUS__DELETE_REQUEST__INIT;
    Milvus__Proto__Milvus__MutationResult resp = MILVUS__PROTO__MILVUS__MUTATION_RESULT__INIT;
    req.collection_name = "c";
    req.expr = "word == \"a\" and id > 16";
    int rc = px_delete(rw->pc, &req, &resp, st);
    if (rc == 0) {
        assert_int_equal(resp.delete_cnt, 3);
    }
    return rc;
}

static int write_rows(struct rw *rw, struct status *st)
{
    int64_t ids[] = { 1, 2, 3 };
    struct column id = { .field_id = 100, .type = DT_INT64, .nrows = 3, .width = 8,
                         .data = (const uint8_t *)ids };
    struct batch b = { 3, 1, &id };
    struct px_write w = { .coll = rw_coll(rw), .rows = &b, .partition_name = "" };
    hts ts = 0;
    return px_send_writes(rw->pc, &w, &ts, st);
}

static const struct {
    int (*call)(struct rw *rw, struct status *st);
    int code; /* of a shard that lacks the definition */
} calls[] = {
    { search_rows, ERR_FIELD_NOT_FOUND },
    { query_rows, ERR_FIELD_NOT_FOUND },
    { delete_rows, ERR_FIELD_NOT_FOUND },
    { write_rows, ERR_SCHEMA_MISMATCH },
};

static void test_a_shard_that_learns_the_field_meanwhile_is_asked_again(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        struct status st = STATUS_INIT;
        struct rw rw;
        rw_start(&rw, 1, 1, false);
        rw.nrows = 20;
        rw.behind = 3;
        rw.behind_code = calls[i].code;
        ASSERT_OK(calls[i].call(&rw, &st));
        assert_int_equal(rw.behind, 0);
        rw_stop(&rw);
    }
}

static void test_a_shard_that_never_learns_it_fails_by_the_deadline(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        struct status st = STATUS_INIT;
        struct rw rw;
        rw_start(&rw, 1, 1, false);
        rw.nrows = 20;
        rw.behind = 1000000;
        rw.behind_code = calls[i].code;
        rw.pc->call.deadline_us = deadline_in_ms(30);
        assert_int_equal(calls[i].call(&rw, &st), calls[i].code);
        assert_non_null(strstr(st.msg, "field not found[field=103]"));
        assert_true(clock_mono_us() >= rw.pc->call.deadline_us);
        rw_stop(&rw);
    }
}

static void test_a_call_that_must_not_wait_fails_at_once(void **state)
{
    struct status st = STATUS_INIT;
    struct px_shard *shards;
    struct rw rw;
    size_t n;
    rw_start(&rw, 1, 1, false);
    ASSERT_OK(px_shards(rw.pc, rw_coll(&rw), &shards, &n, &st)); /* known from now on */
    rw.behind = 5;
    rw.behind_code = ERR_FIELD_NOT_FOUND;
    rw.pc->call.no_wait = true; /* is made again from another thread, whatever it says */
    assert_int_equal(query_rows(&rw, &st), ERR_FIELD_NOT_FOUND);
    assert_int_equal(rw.behind, 4);
    rw_stop(&rw);
}

static void test_other_failures_are_told_at_once(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        struct status st = STATUS_INIT;
        struct rw rw;
        rw_start(&rw, 1, 1, false);
        rw.nrows = 20;
        rw.behind = 5;
        rw.behind_code = ST_INVALID;
        assert_int_equal(calls[i].call(&rw, &st), ST_INVALID);
        assert_int_equal(rw.behind, 4);
        rw_stop(&rw);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_shard_that_learns_the_field_meanwhile_is_asked_again),
        cmocka_unit_test(test_a_shard_that_never_learns_it_fails_by_the_deadline),
        cmocka_unit_test(test_a_call_that_must_not_wait_fails_at_once),
        cmocka_unit_test(test_other_failures_are_told_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
