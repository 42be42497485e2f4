/* test_px_group.c - grouping search over shards that exist only as functions. */
#include "px_rows_fixture.h"

static int search(struct rw *rw, Milvus__Proto__Milvus__SearchRequest *req,
                  Milvus__Proto__Schema__SearchResultData **ret, struct status *st)
{
    Milvus__Proto__Milvus__SearchResults resp = MILVUS__PROTO__MILVUS__SEARCH_RESULTS__INIT;
    int rc = px_search(rw->pc, req, &resp, st);
    *ret = resp.results;
    return rc;
}

static void expect_ids(const Milvus__Proto__Schema__SearchResultData *rd, const int64_t *ids,
                       size_t n)
{
    assert_int_equal(rd->ids->int_id->n_data, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rd->ids->int_id->data[i], ids[i]);
    }
}

/* Row r has word r % 6, where 5 is null; row 0 is the best. */
static void run_group(size_t nshards)
{
    static const struct {
        const char *limit, *offset, *size, *strict;
        size_t n;
        int64_t ids[20];
    } rows[] = {
        { "3", "0", "1", "false", 3, { 0, 1, 2 } },
        { "6", "0", "1", "false", 6, { 0, 1, 2, 3, 4, 5 } },
        { "9", "0", "1", "false", 6, { 0, 1, 2, 3, 4, 5 } },
        { "2", "0", "3", "true", 6, { 0, 6, 12, 1, 7, 13 } },
        { "2", "4", "2", "true", 4, { 4, 10, 5, 11 } },
        /* not strict: enough as soon as there are two groups */
        { "2", "0", "3", "false", 2, { 0, 1 } },
        { "3", "10", "1", "false", 0, { 0 } },
    };
    struct rw rw;

    rw_start(&rw, nshards, 1, false);
    rw.nrows = 600;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *params[] = { "topk", rows[i].limit, "offset", rows[i].offset, "group_by_field",
                                 "word", "group_size", rows[i].size, "strict_group_size",
                                 rows[i].strict, NULL };
        struct status st = STATUS_INIT;
        Milvus__Proto__Schema__SearchResultData *rd;
        ASSERT_OK(search(&rw, rw_search_request(&rw, 2, params), &rd, &st));
        assert_int_equal(rd->n_topks, 2);
        assert_int_equal(rd->topks[0], rows[i].n);
        assert_int_equal(rd->topks[1], rows[i].n);
        int64_t twice[40];
        for (size_t j = 0; j < rows[i].n; j++) {
            twice[j] = twice[rows[i].n + j] = rows[i].ids[j];
        }
        expect_ids(rd, twice, 2 * rows[i].n);
        assert_non_null(rd->group_by_field_value);
        assert_string_equal(rd->group_by_field_value->field_name, "word");
        for (size_t j = 0; j < 2 * rows[i].n; j++) {
            const char *word = rw.word(twice[j]);
            assert_int_equal(rd->group_by_field_value->valid_data[j], word != NULL);
            assert_string_equal(rd->group_by_field_value->scalars->string_data->data[j],
                                word ? word : "");
            assert_true(rd->scores[j] == (float)twice[j]);
        }
    }
    rw_stop(&rw);
}

static void test_groups_are_the_best_of_each_in_order(void **state)
{
    (void)state;
    run_group(1);
    run_group(3);
}

static const char *one_big_group(int64_t row)
{
    return row < 5000 ? "big" : row < 5010 ? "mid" : "end";
}

static void test_a_large_group_makes_the_search_grow_at_one_snapshot(void **state)
{
    const char *params[] = { "topk", "3", "group_by_field", "word", NULL };
    Milvus__Proto__Schema__SearchResultData *rd;
    struct status st = STATUS_INIT;
    struct rw rw;

    (void)state;
    rw_start(&rw, 2, 1, false);
    rw.nrows = 6000;
    rw.word = one_big_group;
    Milvus__Proto__Milvus__SearchRequest *req = rw_search_request(&rw, 1, params);
    const char *outputs[] = { "id", "word" };
    req->output_fields = outputs;
    req->n_output_fields = 2;
    ASSERT_OK(search(&rw, req, &rd, &st));
    expect_ids(rd, (int64_t[]){ 0, 5000, 5010 }, 3);
    assert_true(rw.searches > 2 && rw.largest_k > 5010);
    assert_int_equal(rw.queries, 2); /* the output fields */
    for (size_t i = 0; i < rw.nreads; i++) {
        assert_int_equal(rw.read_ts[i], i < 2 ? 0 : 1000 + i % 2);
    }
    assert_int_equal(rd->n_fields_data, 2);
    assert_string_equal(rd->fields_data[1]->scalars->string_data->data[2], "end");
    rw_stop(&rw);
}

static const char *all_one(int64_t row)
{
    return row < 20000 ? "big" : "small";
}

static void test_no_search_asks_for_more_than_topk_allows(void **state)
{
    const char *params[] = { "topk", "2", "group_by_field", "word", NULL };
    Milvus__Proto__Schema__SearchResultData *rd;
    struct status st = STATUS_INIT;
    struct rw rw;

    (void)state;
    rw_start(&rw, 1, 1, false);
    rw.nrows = 21000;
    rw.word = all_one;
    ASSERT_OK(search(&rw, rw_search_request(&rw, 1, params), &rd, &st));
    expect_ids(rd, (int64_t[]){ 0 }, 1);
    assert_int_equal(rw.largest_k, 16384);
    rw_stop(&rw);
}

static void test_wrong_groups_are_refused(void **state)
{
    static const struct {
        const char *key, *value;
        int code;
        const char *text;
    } rows[] = {
        { "group_by_field", "vec", 1100, "groupBy field vec is of type FloatVector" },
        { "group_by_field", "nope", 3000, "dynamic field" },
        { "group_by_fields", "word,id", 3000, "more than one field" },
        { "group_size", "11", 1100, "input group size:11 exceeds configured max group size:10" },
        { "group_size", "0", 1100, "input group size:0 is negative, failed to do search_groupby" },
        { "group_size", "x", 1100, "failed to parse input group size:x" },
        { "iterator", "True", 1100, "Not allowed to do groupBy when doing iteration" },
        { "params", "{\"radius\": 4}", 1100,
          "Not allowed to do range-search when doing search-group-by" },
    };
    struct rw rw;

    (void)state;
    rw_start(&rw, 1, 1, false);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool by = strncmp(rows[i].key, "group_by", 8) == 0;
        const char *params[] = { "topk", "2", rows[i].key, rows[i].value,
                                 by ? NULL : "group_by_field", "word", NULL };
        Milvus__Proto__Schema__SearchResultData *rd;
        struct status st = STATUS_INIT;
        assert_int_equal(search(&rw, rw_search_request(&rw, 1, params), &rd, &st), rows[i].code);
        if (!strstr(st.msg, rows[i].text)) {
            fail_msg("%s: %s", rows[i].text, st.msg);
        }
    }
    assert_int_equal(rw.searches, 0);
    rw_stop(&rw);
}

/* ---- iterators ---- */

static float three_a_score(int64_t row)
{
    return (float)(row / 3);
}

static float run_of_25000(int64_t row)
{
    return row < 5 ? (float)row : 100;
}

/* Goes through all pages; returns how many rows came, which must be 0, 1, 2, ... */
static int64_t iterate(struct rw *rw, const char *batch, size_t *ret_longest)
{
    char bound[64];
    int64_t next = 0;
    const char *id = NULL;

    *ret_longest = 0;
    for (;;) {
        const char *params[] = { "topk", "1", "iterator", "True", "search_iter_v2", "True",
                                 "search_iter_batch_size", batch, id ? "search_iter_id" : NULL, id,
                                 "search_iter_last_bound", bound, NULL };
        Milvus__Proto__Schema__SearchResultData *rd;
        struct status st = STATUS_INIT;
        ASSERT_OK(search(rw, rw_search_request(rw, 1, params), &rd, &st));
        const Milvus__Proto__Schema__SearchIteratorV2Results *it = rd->search_iterator_v2_results;
        assert_int_equal(strlen(it->token), 36);
        if (id) {
            assert_string_equal(it->token, id);
        }
        if (rd->n_scores == 0) {
            return next;
        }
        for (size_t i = 0; i < rd->n_scores; i++) {
            assert_int_equal(rd->ids->int_id->data[i], next++);
        }
        *ret_longest = MAX(*ret_longest, rd->n_scores);
        assert_true(it->last_bound == rd->scores[rd->n_scores - 1]);
        snprintf(bound, sizeof bound, "%.17g", (double)it->last_bound);
        id = it->token;
    }
}

static void test_iterator_pages_end_between_scores(void **state)
{
    static const struct {
        const char *batch;
        size_t longest;
    } rows[] = { { "1", 3 }, { "2", 3 }, { "3", 3 }, { "4", 3 }, { "5", 3 }, { "6", 6 },
                 { "10", 9 }, { "100", 99 }, { "16384", 300 } };
    (void)state;
    for (size_t shards = 1; shards <= 3; shards += 2) {
        struct rw rw;
        rw_start(&rw, shards, 1, false);
        rw.nrows = 300;
        rw.score = three_a_score;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            size_t longest;
            assert_int_equal(iterate(&rw, rows[i].batch, &longest), 300);
            assert_int_equal(longest, rows[i].longest);
        }
        rw_stop(&rw);
    }
}

static void test_iterator_refuses_a_run_it_cannot_pass(void **state)
{
    const char *params[] = { "topk", "1", "iterator", "True", "search_iter_v2", "True",
                             "search_iter_batch_size", "10", NULL };
    const char *behind[] = { "topk", "1", "iterator", "True", "search_iter_v2", "True",
                             "search_iter_batch_size", "10", "search_iter_last_bound", "4", NULL };
    Milvus__Proto__Schema__SearchResultData *rd;
    struct status st = STATUS_INIT;
    struct rw rw;

    (void)state;
    rw_start(&rw, 1, 1, false);
    rw.nrows = 25000;
    rw.score = run_of_25000;
    ASSERT_OK(search(&rw, rw_search_request(&rw, 1, params), &rd, &st));
    expect_ids(rd, (int64_t[]){ 0, 1, 2, 3, 4 }, 5);
    assert_int_equal(search(&rw, rw_search_request(&rw, 1, behind), &rd, &st), 1100);
    assert_non_null(strstr(st.msg, "16384 hits have the same score 100"));
    rw_stop(&rw);
}

/* ---- search by keys, and what surrounds searches ---- */

static void test_a_lost_shard_is_looked_for_again(void **state)
{
    const char *params[] = { "topk", "2", NULL };
    Milvus__Proto__Schema__SearchResultData *rd;
    struct status st = STATUS_INIT;
    struct rw rw;

    (void)state;
    rw_start(&rw, 1, 1, false);
    rw.nrows = 10;
    rw.fail_code = ERR_CHANNEL_NOT_AVAILABLE;
    assert_int_equal(search(&rw, rw_search_request(&rw, 1, params), &rd, &st), 503);
    rw.fail_code = 0;
    st_clear(&st);
    ASSERT_OK(search(&rw, rw_search_request(&rw, 1, params), &rd, &st));
    assert_int_equal(rw.fx.locates, 2);
    rw_stop(&rw);
}

static void test_values_of_the_partition_key_name_the_partitions_to_read(void **state)
{
    static const struct {
        const char *filter;
        size_t most, least;
    } rows[] = {
        { "word == \"a\"", 1, 1 },
        { "word in [\"a\", \"b\", \"c\"] and id > 3", 3, 1 },
        { "word == \"a\" or word == \"b\"", 2, 1 },
        { "word == \"a\" or id > 3", 0, 0 },
        { "word != \"a\"", 0, 0 },
        { "", 0, 0 },
    };
    struct rw rw;

    (void)state;
    rw_start(&rw, 2, 16, true);
    rw.nrows = 10;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *params[] = { "topk", "2", NULL };
        Milvus__Proto__Schema__SearchResultData *rd;
        struct status st = STATUS_INIT;
        Milvus__Proto__Milvus__SearchRequest *req = rw_search_request(&rw, 1, params);
        req->dsl = rows[i].filter;
        ASSERT_OK(search(&rw, req, &rd, &st));
        assert_in_range(rw.npartition_ids, rows[i].least, rows[i].most);
        for (size_t p = 1; p < rw.npartition_ids; p++) {
            assert_true(rw.partition_ids[p - 1] < rw.partition_ids[p]);
        }
    }
    rw_stop(&rw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups_are_the_best_of_each_in_order),
        cmocka_unit_test(test_a_large_group_makes_the_search_grow_at_one_snapshot),
        cmocka_unit_test(test_no_search_asks_for_more_than_topk_allows),
        cmocka_unit_test(test_wrong_groups_are_refused),
        cmocka_unit_test(test_iterator_pages_end_between_scores),
        cmocka_unit_test(test_iterator_refuses_a_run_it_cannot_pass),
        cmocka_unit_test(test_a_lost_shard_is_looked_for_again),
        cmocka_unit_test(test_values_of_the_partition_key_name_the_partitions_to_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
