/* test_policy.c - placement and ownership as pure functions. */
#include "unit.h"
#include "coord/policy.h"
#include "schema/errors.h"

static void test_place_when_segments_are_equal_then_nodes_are_balanced(void **state)
{
    struct policy_node nodes[3] = { { 30, 0 }, { 10, 0 }, { 20, 0 } };
    int64_t rows[30], on[30];
    for (int i = 0; i < 30; i++) {
        rows[i] = 100;
    }
    policy_place(nodes, 3, rows, 30, on);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(nodes[i].rows, 1000);
    }
    assert_int_equal(on[0], 10); /* the smallest id on a tie */
    assert_int_equal(on[1], 20);
}

static void test_place_when_node_is_full_then_others_get_rows_first(void **state)
{
    struct policy_node nodes[2] = { { 1, 1000 }, { 2, 0 } };
    int64_t rows[] = { 400, 400, 400 }, on[3];
    policy_place(nodes, 2, rows, 3, on);
    assert_int_equal(on[0], 2);
    assert_int_equal(on[1], 2);
    assert_int_equal(on[2], 2);
    policy_place(nodes, 2, rows, 1, on);
    assert_int_equal(on[0], 1);
}

/* Greedy never leaves nodes further apart than the largest segment. */
static void test_place_when_sizes_are_random_then_spread_is_below_the_largest(void **state)
{
    uint32_t rng = 12345;
    for (int round = 0; round < 200; round++) {
        struct policy_node nodes[7];
        int64_t least = INT64_MAX, most = 0, biggest = 0;
        for (int i = 0; i < 7; i++) {
            nodes[i] = (struct policy_node){ i + 1, 0 };
        }
        for (int i = 0; i < 100; i++) {
            int64_t on, rows;
            rng = rng * 1664525 + 1013904223;
            rows = rng >> 16;
            biggest = rows > biggest ? rows : biggest;
            policy_place(nodes, 7, &rows, 1, &on);
        }
        for (int i = 0; i < 7; i++) {
            least = nodes[i].rows < least ? nodes[i].rows : least;
            most = nodes[i].rows > most ? nodes[i].rows : most;
        }
        assert_true(most - least <= biggest);
    }
}

static void test_takes_shard_when_owner_is_gone_or_self_then_true(void **state)
{
    const int64_t live[] = { 5, 6 };
    assert_true(policy_takes_shard(7, 7, live, 2));
    assert_true(policy_takes_shard(4, 7, live, 2));
    assert_false(policy_takes_shard(5, 7, live, 2));
    assert_true(policy_takes_shard(5, 7, NULL, 0));
}

static void test_pchannel_when_counts_differ_then_the_emptiest_first(void **state)
{
    const size_t n[] = { 3, 1, 1, 2 };
    assert_int_equal(policy_pchannel(n, 4), 1);
    assert_int_equal(policy_pchannel(n, 1), 0);
}

static void test_index_file_when_rows_are_few_or_type_is_a_scan_then_none(void **state)
{
    assert_true(policy_index_has_file("HNSW", 1024, 1024));
    assert_false(policy_index_has_file("HNSW", 1023, 1024));
    assert_true(policy_index_has_file("FLAT", 5000, 1024)); /* codes that spare most of the scan */
    assert_false(policy_index_has_file("BIN_FLAT", 5000, 1024));
}

static void test_build_next_when_several_wait_then_loaded_unfailed_oldest_first(void **state)
{
    struct policy_build b[] = {
        { .segment_id = 1, .index_id = 9 },
        { .segment_id = 3, .index_id = 9, .loaded = true, .tries = 1, .due_ms = 100 },
        { .segment_id = 5, .index_id = 9, .loaded = true },
        { .segment_id = 4, .index_id = 8, .loaded = true },
        { .segment_id = 4, .index_id = 7, .loaded = true },
        { .segment_id = 2, .index_id = 9, .loaded = true, .taken = true },
    };
    const size_t order[] = { 4, 3, 2, 1, 0 }, n = sizeof b / sizeof b[0];
    int64_t next;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(policy_build_next(b, n, 100, &next), order[i]);
        b[order[i]].taken = true;
    }
    assert_int_equal(policy_build_next(b, n, 100, &next), n);
    assert_true(next == INT64_MAX);
    assert_int_equal(policy_build_next(b, 0, 100, &next), 0);
}

static void test_build_next_when_none_is_due_then_says_when(void **state)
{
    struct policy_build b[] = { { .segment_id = 1, .due_ms = 700 },
                                { .segment_id = 2, .due_ms = 600 } };
    int64_t next;
    assert_int_equal(policy_build_next(b, 2, 599, &next), 2);
    assert_int_equal(next, 600);
    assert_int_equal(policy_build_next(b, 2, 600, &next), 1);
    assert_int_equal(next, 700);
}

static void test_build_pause_when_failed_then_doubles_ends_or_gives_up(void **state)
{
    assert_int_equal(policy_build_pause_ms(1, ST_NO_SPACE), 200);
    assert_int_equal(policy_build_pause_ms(2, ST_NO_SPACE), 400);
    assert_int_equal(policy_build_pause_ms(5, ST_UNAVAILABLE), 3200);
    assert_int_equal(policy_build_pause_ms(1000000, ST_IO), 300000);
    assert_int_equal(policy_build_pause_ms(1, ST_INVALID), -1);
    assert_int_equal(policy_build_pause_ms(1, ST_UNSUPPORTED), -1);
    assert_int_equal(policy_build_pause_ms(1, ERR_INDEX_NOT_SUPPORTED), -1);
    assert_int_equal(policy_build_pause_ms(7, ST_CORRUPT), 12800);
    assert_int_equal(policy_build_pause_ms(8, ST_CORRUPT), -1);
}

static void test_refused_pause_when_first_then_none_and_the_third_is_the_last(void **state)
{
    assert_int_equal(policy_refused_pause_ms(1), 0);
    assert_int_equal(policy_refused_pause_ms(2), 3000);
    assert_int_equal(policy_refused_pause_ms(3), -1);
    assert_int_equal(policy_refused_pause_ms(1000), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place_when_segments_are_equal_then_nodes_are_balanced),
        cmocka_unit_test(test_place_when_node_is_full_then_others_get_rows_first),
        cmocka_unit_test(test_place_when_sizes_are_random_then_spread_is_below_the_largest),
        cmocka_unit_test(test_takes_shard_when_owner_is_gone_or_self_then_true),
        cmocka_unit_test(test_pchannel_when_counts_differ_then_the_emptiest_first),
        cmocka_unit_test(test_index_file_when_rows_are_few_or_type_is_a_scan_then_none),
        cmocka_unit_test(test_build_next_when_several_wait_then_loaded_unfailed_oldest_first),
        cmocka_unit_test(test_build_next_when_none_is_due_then_says_when),
        cmocka_unit_test(test_build_pause_when_failed_then_doubles_ends_or_gives_up),
        cmocka_unit_test(test_refused_pause_when_first_then_none_and_the_third_is_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
