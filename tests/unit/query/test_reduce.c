/* test_reduce.c - merging of sorted answers, by hand and against sorting everything. */
#include "query_fixture.h"
#include "query/reduce.h"
#include "expect.h"

static struct column int_keys(const int64_t *keys, uint32_t n)
{
    return (struct column){.type = DT_INT64, .nrows = n, .width = 8, .data = (const uint8_t *)keys};
}

static void test_reduce_hits_orders_by_score_then_key_and_drops_repeated_keys(void **state)
{
    struct arena *ar = arena_new(0);
    static const int64_t k0[] = {99, 5, 7, 1}, k1[] = {3, 7, 2};
    static const float s0[] = {0.9f, 0.5f, 0.1f}, s1[] = {0.9f, 0.6f, 0.5f};
    struct column c0 = int_keys(k0, 4), c1 = int_keys(k1, 3);
    /* list 0 starts at row 1 */
    struct hit_list lists[] = {{3, s0, &c0, 1}, {3, s1, &c1, 0}, {0, NULL, NULL, 0}};
    struct merged_hit ret[8];
    uint32_t dups;
    assert_int_equal(reduce_hits(lists, 3, false, 0, 8, ar, ret, &dups), 5);
    static const struct merged_hit want[] = {
        {1, 0, 0.9f}, {0, 1, 0.9f}, {1, 1, 0.6f}, {1, 2, 0.5f}, {0, 3, 0.1f}};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ret[i].list, want[i].list);
        assert_int_equal(ret[i].row, want[i].row);
        assert_true(ret[i].score == want[i].score);
    }
    assert_int_equal(dups, 1);
    assert_int_equal(reduce_hits(lists, 3, false, 1, 2, ar, ret, &dups), 2);
    assert_int_equal(ret[0].row, 1);
    assert_int_equal(ret[1].list, 1);
    assert_int_equal(reduce_hits(lists, 3, false, 9, 2, ar, ret, &dups), 0);
    assert_int_equal(reduce_hits(NULL, 0, false, 0, 2, ar, ret, &dups), 0);
    assert_int_equal(reduce_hits(lists, 3, false, 0, 0, ar, ret, &dups), 0);
    arena_free(ar);
}

static void test_reduce_hits_ascending_takes_the_smallest(void **state)
{
    struct arena *ar = arena_new(0);
    static const int64_t k0[] = {1, 2}, k1[] = {2, 3};
    static const float s0[] = {0.1f, 0.7f}, s1[] = {0.2f, 0.3f};
    struct column c0 = int_keys(k0, 2), c1 = int_keys(k1, 2);
    struct hit_list lists[] = {{2, s0, &c0, 0}, {2, s1, &c1, 0}};
    struct merged_hit ret[4];
    uint32_t dups;
    assert_int_equal(reduce_hits(lists, 2, true, 0, 4, ar, ret, &dups), 3);
    assert_true(ret[0].score == 0.1f && ret[1].score == 0.2f && ret[2].score == 0.3f);
    assert_int_equal(dups, 1);
    arena_free(ar);
}

enum { LISTS = 7, ROWS = 60 };
static int by_int(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Keys 0..39, each list sorted, with repeats inside and between lists. */
static void random_rows(uint64_t *rng, int64_t keys[LISTS][ROWS], uint64_t ts[LISTS][ROWS],
                        uint32_t n[LISTS])
{
    for (int l = 0; l < LISTS; l++) {
        n[l] = fx_below(rng, ROWS);
        for (uint32_t i = 0; i < n[l]; i++) {
            keys[l][i] = fx_below(rng, 40);
            ts[l][i] = fx_next(rng) % 1000;
        }
        qsort(keys[l], n[l], sizeof keys[l][0], by_int);
    }
}

static void test_reduce_rows_random_lists_give_the_newest_of_each_key(void **state)
{
    static int64_t keys[LISTS][ROWS];
    static uint64_t ts[LISTS][ROWS];
    uint64_t rng = 9;
    for (int round = 0; round < 500; round++) {
        struct arena *ar = arena_new(0);
        struct row_list lists[LISTS];
        struct column cols[LISTS];
        struct merged_row ret[64];
        uint32_t n[LISTS], offset = fx_below(&rng, 10), limit = fx_below(&rng, 60), at = 0,
                           seen = 0;
        random_rows(&rng, keys, ts, n);
        for (int l = 0; l < LISTS; l++) {
            cols[l] = int_keys(keys[l], n[l]);
            lists[l] = (struct row_list){n[l], &cols[l], ts[l]};
        }
        uint32_t got = reduce_rows(lists, LISTS, offset, round % 3 ? limit : UINT32_MAX, ar, ret);
        for (int64_t key = 0; key < 40; key++) {
            uint64_t newest = 0;
            bool there = false;
            for (int l = 0; l < LISTS; l++) {
                for (uint32_t i = 0; i < n[l]; i++) {
                    if (keys[l][i] == key) {
                        there = true;
                        newest = MAX(newest, ts[l][i]);
                    }
                }
            }
            if (!there || seen++ < offset || at >= (round % 3 ? limit : UINT32_MAX)) {
                continue;
            }
            assert_true(at < got);
            assert_int_equal(keys[ret[at].list][ret[at].row], key);
            assert_int_equal(ts[ret[at].list][ret[at].row], newest);
            at++;
        }
        assert_int_equal(at, got);
        arena_free(ar);
    }
}

static void test_reduce_hits_random_lists_of_string_keys_agree_with_sorting(void **state)
{
    uint64_t rng = 11;
    for (int round = 0; round < 300; round++) {
        struct arena *ar = arena_new(0);
        struct hit_list lists[LISTS];
        uint32_t total = 0, dups, ndup = 0;
        struct slice names[40];
        float best[40];
        bool there[40] = {false};
        for (int k = 0; k < 40; k++) {
            names[k] = slice_of(arena_printf(ar, "key-%d", k));
        }
        for (int l = 0; l < LISTS; l++) {
            struct column *c = ARENA_NEW(ar, struct column);
            struct slice *refs = arena_alloc(ar, ROWS * sizeof *refs);
            float *scores = arena_alloc(ar, ROWS * sizeof *scores), s = 100;
            uint32_t n = fx_below(&rng, ROWS);
            for (uint32_t i = 0; i < n; i++) {
                uint32_t k = fx_below(&rng, 40);
                s -= 0.5f + (float)fx_below(&rng, 4); /* no ties inside a list: key order is free */
                refs[i] = names[k];
                scores[i] = s;
                ndup += there[k];
                best[k] = there[k] ? MAX(best[k], s) : s;
                there[k] = true;
            }
            *c = (struct column){.type = DT_VARCHAR, .nrows = n, .refs = refs};
            lists[l] = (struct hit_list){n, scores, c, 0};
            total += n;
        }
        struct merged_hit ret[64];
        uint32_t got = reduce_hits(lists, LISTS, false, 0, 64, ar, ret, &dups);
        assert_int_equal(got + dups, total);
        assert_int_equal(dups, ndup);
        for (uint32_t i = 0; i < got; i++) {
            struct slice key = lists[ret[i].list].pks->refs[ret[i].row];
            bool found = false;
            for (int k = 0; k < 40; k++) {
                if (slice_eq(key, names[k])) {
                    assert_true(there[k] && best[k] == ret[i].score);
                    there[k] = false;
                    found = true;
                }
            }
            assert_true(found);
            if (i) {
                const struct merged_hit *p = &ret[i - 1];
                assert_true(p->score > ret[i].score ||
                            (p->score == ret[i].score &&
                             slice_cmp(lists[p->list].pks->refs[p->row], key) < 0));
            }
        }
        arena_free(ar);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reduce_hits_orders_by_score_then_key_and_drops_repeated_keys),
        cmocka_unit_test(test_reduce_hits_ascending_takes_the_smallest),
        cmocka_unit_test(test_reduce_rows_random_lists_give_the_newest_of_each_key),
        cmocka_unit_test(test_reduce_hits_random_lists_of_string_keys_agree_with_sorting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
