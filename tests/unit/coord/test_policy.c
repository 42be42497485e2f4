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

/* ---- compaction ---- */

struct pick {
    size_t n;
    uint32_t at[POLICY_SOURCES_MAX];
};

static struct pick pick_of(const struct policy_seg *segs, size_t n, struct policy_compact how)
{
    uint32_t order[20000], picked[20000];
    size_t free = policy_compact_order(segs, n, order);
    struct pick p = { .n = policy_compact_next(segs, order, &free, &how, picked) };
    assert_true(p.n <= MIN(n, (size_t)POLICY_SOURCES_MAX));
    for (size_t i = 0; i < p.n; i++) {
        p.at[i] = picked[i];
        assert_true(picked[i] < n && segs[picked[i]].free);
        assert_true(i == 0 || picked[i] > picked[i - 1]);
    }
    return p;
}

static struct policy_seg sized(int64_t id, int64_t bytes)
{
    return (struct policy_seg){ .id = id, .rows = bytes, .bytes = bytes, .free = true };
}

static void test_compact_when_sizes_are_alike_then_three_are_merged_two_are_not(void **state)
{
    struct policy_seg s[] = { sized(1, 100), sized(2, 90), sized(3, 110), sized(4, 1000) };
    struct policy_compact how = { .max_bytes = 10000 };
    assert_int_equal(pick_of(s, 2, how).n, 0);
    assert_int_equal(pick_of(s, 4, how).n, 3);
    assert_int_equal(pick_of(s, 4, how).at[2], 2);
    s[1].free = false;
    assert_int_equal(pick_of(s, 4, how).n, 0);
    how.forced = true;
    assert_int_equal(pick_of(s, 4, how).n, 3); /* whatever is free */
    how.no_merge = true;
    assert_int_equal(pick_of(s, 4, how).n, 0);
    assert_int_equal(pick_of(s, 0, how).n, 0);
}

static void test_compact_when_the_sum_would_be_too_large_then_fewer_and_halves_fill_one(void **state)
{
    struct policy_seg s[] = { sized(1, 400), sized(2, 400), sized(3, 400), sized(4, 400) };
    struct policy_compact how = { .max_bytes = 1000 };
    assert_int_equal(pick_of(s, 4, how).n, 2); /* 800 of 1000 is full */
    how.max_bytes = 1200;
    assert_int_equal(pick_of(s, 4, how).n, 3);
    how.max_bytes = 799;
    assert_int_equal(pick_of(s, 4, how).n, 0);
    how.forced = true;
    assert_int_equal(pick_of(s, 4, how).n, 0);
    how.max_bytes = 399; /* each is too large as it is */
    assert_int_equal(pick_of(s, 4, how).n, 0);
}

static void test_compact_when_sources_are_limited_then_no_more_than_that(void **state)
{
    struct policy_seg s[9];
    struct policy_compact how = { .max_bytes = 10000, .max_sources = 4 };
    for (int i = 0; i < 9; i++) {
        s[i] = (struct policy_seg){ .id = i, .rows = 10, .bytes = 100, .free = true };
    }
    assert_int_equal(pick_of(s, 9, how).n, 4);
    for (int i = 0; i < 9; i++) {
        s[i].expired = true;
    }
    assert_int_equal(pick_of(s, 9, how).n, 4);
    how.max_sources = 0;
    assert_int_equal(pick_of(s, 9, how).n, 9);
}

/* Deletes of keys that no row has count, too: what is made is too large by a factor at worst. */
static void test_compact_when_all_is_thought_to_be_gone_then_still_not_without_end(void **state)
{
    struct policy_seg s[40];
    struct policy_compact how = { .max_bytes = 1000, .forced = true };
    for (int i = 0; i < 40; i++) {
        s[i] = (struct policy_seg){ .id = i, .rows = 100, .bytes = 900, .gone = 100, .free = true };
    }
    assert_int_equal(pick_of(s, 40, how).n, 2);
    for (int i = 0; i < 40; i++) {
        s[i].gone = 90;
        s[i].bytes = 100;
    }
    assert_int_equal(pick_of(s, 40, how).n, 20);
}

static void test_compact_when_others_were_picked_then_the_rest_in_turn(void **state)
{
    struct policy_seg s[10];
    struct policy_compact how = { .max_bytes = 300, .forced = true };
    uint32_t order[10], picked[10];
    size_t n, k, plans = 0, taken = 0;
    for (int i = 0; i < 10; i++) {
        s[i] = (struct policy_seg){ .id = i, .rows = 10, .bytes = 100, .free = i != 4 };
    }
    n = policy_compact_order(s, 10, order);
    assert_int_equal(n, 9);
    while ((k = policy_compact_next(s, order, &n, &how, picked)) > 0) {
        assert_int_equal(n, 9 - taken);
        for (size_t i = 0; i < k; i++) {
            assert_true(s[picked[i]].free);
            s[picked[i]].free = false;
        }
        taken += k;
        plans++;
    }
    assert_int_equal(plans, 3);
    assert_int_equal(taken, 9);
    assert_int_equal(n, 0);
}

/* Rows of a few bytes: the merged one has no more of them than a segment can number. */
static void test_compact_when_rows_are_many_then_no_more_than_a_segment_has(void **state)
{
    struct policy_seg s[5];
    struct policy_compact how = { .max_bytes = INT64_C(1) << 40, .forced = true };
    for (int i = 0; i < 5; i++) {
        s[i] = (struct policy_seg){ .id = i, .rows = POLICY_ROWS_MAX / 3, .bytes = 100, .free = true };
    }
    assert_int_equal(pick_of(s, 5, how).n, 3);
    how.forced = false;
    assert_int_equal(pick_of(s, 5, how).n, 3);
    s[0].rows = s[1].rows = s[2].rows = s[3].rows = s[4].rows = POLICY_ROWS_MAX / 2 + 1;
    how.forced = true;
    assert_int_equal(pick_of(s, 5, how).n, 0);
}

static void test_compact_when_rows_are_gone_then_alone_and_only_from_a_fifth_on(void **state)
{
    struct policy_seg s[] = { sized(1, 1000), sized(2, 5) };
    struct policy_compact how = { .max_bytes = 10000 };
    s[0].gone = 199;
    assert_int_equal(pick_of(s, 2, how).n, 0);
    s[0].gone = 200;
    assert_int_equal(pick_of(s, 2, how).n, 1);
    assert_int_equal(pick_of(s, 2, how).at[0], 0);
    s[0].gone = 1;
    how.forced = how.no_merge = true;
    assert_int_equal(pick_of(s, 2, how).n, 1);
    s[0].gone = 5000; /* an estimate may be too high */
    how = (struct policy_compact){ .max_bytes = 10 };
    assert_int_equal(pick_of(s, 2, how).n, 0 + 1);
    s[0].free = false;
    assert_int_equal(pick_of(s, 2, how).n, 0);
}

static void test_compact_when_not_in_order_then_alone_when_asked_after_all_else(void **state)
{
    struct policy_seg s[] = { sized(1, 5000), sized(2, 9000), sized(3, 4095), sized(4, 4096) };
    struct policy_compact how = { .max_bytes = 10 };
    for (int i = 1; i < 4; i++) {
        s[i].unordered = true;
    }
    assert_int_equal(pick_of(s, 4, how).n, 0);
    how.forced = how.no_merge = true;
    assert_int_equal(pick_of(s, 4, how).n, 0);
    how.no_merge = false;
    s[0].gone = 1;
    assert_int_equal(pick_of(s, 4, how).n, 1);
    assert_int_equal(pick_of(s, 4, how).at[0], 0); /* rows to leave */
    s[0].free = false;
    assert_int_equal(pick_of(s, 4, how).at[0], 3);
    s[3].free = false;
    assert_int_equal(pick_of(s, 4, how).at[0], 1);
    s[1].free = false;
    assert_int_equal(pick_of(s, 4, how).n, 0);
    s[0].free = s[1].free = s[3].free = true;
    how.max_bytes = 10000;
    assert_int_equal(pick_of(s, 4, how).n, 2); /* merging orders, too */
}

static void test_index_orders_when_a_graph_or_any_then_true(void **state)
{
    static const char *const yes[] = { "HNSW", "HNSW_SQ", "HNSW_PQ", "HNSW_PRQ", "AUTOINDEX" };
    static const char *const no[] = { "FLAT", "BIN_FLAT", "IVF_FLAT", "DISKANN", "SCANN", "", "HNS" };
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        assert_true(policy_index_orders(yes[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        assert_false(policy_index_orders(no[i]));
    }
}

static void test_compact_when_expired_then_together_before_anything_else(void **state)
{
    struct policy_seg s[300];
    struct policy_compact how = { .max_bytes = 10000 };
    for (int i = 0; i < 300; i++) {
        s[i] = sized(i, 1000000);
        s[i].expired = i % 2;
    }
    assert_int_equal(pick_of(s, 300, how).n, POLICY_SOURCES_MAX);
    assert_int_equal(pick_of(s, 20, how).n, 10);
    assert_int_equal(pick_of(s, 20, how).at[9], 19);
}

/* What the ratio is for: rows are written a bounded number of times, and segments stay few. */
static void test_compact_when_flushes_never_end_then_rewrites_and_segments_are_bounded(void **state)
{
    struct policy_seg s[400];
    struct policy_compact how = { .max_bytes = 2048 };
    int64_t written = 0, flushed = 0, id = 0;
    uint32_t rng = 7;
    size_t n = 0, most = 0;
    for (int i = 0; i < 20000; i++) {
        struct pick p;
        rng = rng * 1664525 + 1013904223;
        s[n++] = sized(++id, 1 + (rng >> 24) % 4);
        flushed += s[n - 1].bytes;
        while ((p = pick_of(s, n, how)).n > 0) {
            int64_t sum = 0;
            for (size_t k = p.n; k-- > 0;) {
                sum += s[p.at[k]].bytes;
                s[p.at[k]] = s[--n];
            }
            assert_true(sum <= how.max_bytes);
            s[n++] = sized(++id, sum);
            written += sum;
        }
        most = MAX(most, n);
    }
    /* The logarithm of 2048 to the base 2.5 is 8.3. */
    assert_true(written <= 8 * flushed);
    assert_true((int64_t)n <= flushed / 1536 + 16);
    assert_true(most < 400);
}

static void test_segment_bytes_when_much_data_then_larger_than_configured(void **state)
{
    assert_int_equal(policy_segment_bytes(1000, 0), 1000);
    assert_int_equal(policy_segment_bytes(1000, 8000), 1000);
    assert_int_equal(policy_segment_bytes(1000, 80000), 10000);
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
        cmocka_unit_test(test_compact_when_sizes_are_alike_then_three_are_merged_two_are_not),
        cmocka_unit_test(test_compact_when_the_sum_would_be_too_large_then_fewer_and_halves_fill_one),
        cmocka_unit_test(test_compact_when_sources_are_limited_then_no_more_than_that),
        cmocka_unit_test(test_compact_when_all_is_thought_to_be_gone_then_still_not_without_end),
        cmocka_unit_test(test_compact_when_others_were_picked_then_the_rest_in_turn),
        cmocka_unit_test(test_compact_when_rows_are_many_then_no_more_than_a_segment_has),
        cmocka_unit_test(test_compact_when_rows_are_gone_then_alone_and_only_from_a_fifth_on),
        cmocka_unit_test(test_compact_when_not_in_order_then_alone_when_asked_after_all_else),
        cmocka_unit_test(test_index_orders_when_a_graph_or_any_then_true),
        cmocka_unit_test(test_compact_when_expired_then_together_before_anything_else),
        cmocka_unit_test(test_compact_when_flushes_never_end_then_rewrites_and_segments_are_bounded),
        cmocka_unit_test(test_segment_bytes_when_much_data_then_larger_than_configured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
