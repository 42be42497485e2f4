/*
 * test_annoy.c - the forest: what search_k and n_trees mean, which way is taken under filters, the
 * proof of its trees, and files whose sums are right and whose numbers are wild.
 */
#include "conform.h"

#include "index/annoy/annoy_int.h"

#define DIM 20
#define NROWS 6000
#define NQ 30
#define K 10

static struct cf_set set;
static struct cf_index forest;

static void build(struct cf_index *x, const struct cf_set *s, uint32_t n_trees, uint64_t seed)
{
    struct status st = STATUS_INIT;
    struct index_params p;
    *x = (struct cf_index){ 0 };
    index_params_init(&p, INDEX_ANNOY);
    p.n_trees = n_trees;
    p.seed = seed;
    ASSERT_OK(cf_build(s, &p, NULL, &x->file, &st));
    ASSERT_OK(cf_open(s, &x->file, &x->ix, &st));
}

static int set_up(void **state)
{
    cf_set_new(&set, METRIC_L2, VEC_F32, DIM, NROWS, NQ, 300, 1);
    build(&forest, &set, 20, 0);
    return 0;
}

static int tear_down(void **state)
{
    cf_index_done(&forest);
    cf_set_done(&set);
    return 0;
}

static struct topk *search_forest(const struct cf_index *x, const struct cf_set *s,
                                  int64_t search_k, const uint64_t *allow, uint32_t strategy,
                                  struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct index_search_params sp;
    index_search_params_init(&sp);
    sp.search_k = search_k;
    sp.strategy = strategy;
    struct index_query q = { .queries = s->queries, .query_stride = s->query_stride, .nq = s->nq,
                             .allow = allow, .params = &sp,
                             .allow_count =
                                 allow ? (uint32_t)bits_count(allow, s->rows.nrows) : 0 };
    *c = (struct index_counters){ 0 };
    ASSERT_OK(topk_new(s->nq, K, cf_larger(s), NULL, &tk, &st));
    ASSERT_OK(index_search(x->ix, &q, tk, c, &st));
    topk_finish(tk);
    return tk;
}

static double recall_of(const struct cf_index *x, const struct cf_set *s, int64_t search_k,
                        const uint64_t *allow, uint32_t strategy, struct index_counters *c)
{
    struct topk *truth = cf_truth(s, K, allow, NULL);
    struct topk *got = search_forest(x, s, search_k, allow, strategy, c);
    double recall = cf_recall(s, got, truth, allow);
    topk_free(truth);
    topk_free(got);
    return recall;
}

static void test_search_when_search_k_rises_then_it_looks_at_that_many_rows_and_finds_more(void **s)
{
    static const int64_t ks[] = { 40, 200, 1000 };
    double before = 0;
    for (size_t i = 0; i < ARRAY_LEN(ks); i++) {
        struct index_counters c;
        double recall = recall_of(&forest, &set, ks[i], NULL, STRAT_TREES, &c);
        assert_true(c.strategy == STRAT_TREES && c.fallbacks == 0);
        /* Different rows, and hardly more than were asked for. */
        assert_in_range(c.distances, (uint64_t)ks[i] * NQ, (uint64_t)(ks[i] + 400) * NQ);
        assert_true(recall >= before);
        before = recall;
    }
    assert_true(before > 0.97);
}

static void test_search_when_search_k_is_not_given_then_it_is_trees_times_k(void **state)
{
    struct index_counters c, d;
    topk_free(search_forest(&forest, &set, -1, NULL, STRAT_TREES, &c));
    topk_free(search_forest(&forest, &set, 20 * K, NULL, STRAT_TREES, &d));
    assert_int_equal(c.distances, d.distances);
}

static void test_search_when_there_are_more_trees_then_the_same_search_k_finds_more(void **state)
{
    struct cf_index one;
    struct index_counters c;
    build(&one, &set, 1, 0);
    double few = recall_of(&one, &set, 150, NULL, STRAT_TREES, &c);
    double many = recall_of(&forest, &set, 150, NULL, STRAT_TREES, &c);
    assert_true(many > few + 0.02);
    cf_index_done(&one);
}

static void test_search_when_search_k_reaches_all_rows_then_it_is_a_scan(void **state)
{
    struct index_counters c;
    assert_true(recall_of(&forest, &set, NROWS, NULL, STRAT_AUTO, &c) == 1);
    assert_int_equal(c.strategy, STRAT_FLAT);
}

static void test_search_when_filtered_then_only_allowed_rows_count(void **state)
{
    uint64_t allow[(NROWS + 63) / 64];
    bits_fill(allow, NROWS, false);
    for (uint32_t i = 0; i < NROWS; i += 3) {
        bit_set(allow, i);
    }
    struct index_counters c;
    double recall = recall_of(&forest, &set, 400, allow, STRAT_TREES, &c);
    assert_in_range(c.distances, 400 * NQ, 800 * NQ);
    assert_true(recall > 0.95);
}

static void test_search_when_few_rows_are_allowed_then_they_are_scanned(void **state)
{
    uint64_t allow[(NROWS + 63) / 64];
    bits_fill(allow, NROWS, false);
    for (uint32_t i = 0; i < NROWS; i += 30) {
        bit_set(allow, i);
    }
    struct index_counters c;
    assert_true(recall_of(&forest, &set, -1, allow, STRAT_AUTO, &c) == 1);
    assert_int_equal(c.strategy, STRAT_FLAT);
}

/* Inner products are largest with long rows, wherever they lie. */
static void test_search_when_lengths_differ_then_inner_products_are_found(void **state)
{
    struct cf_set s;
    struct cf_index x;
    struct index_counters c;
    cf_set_new(&s, METRIC_IP, VEC_F32, DIM, NROWS, NQ, 300, 3);
    for (uint32_t i = 0; i < NROWS; i++) {
        float f = 0.2f + 3.0f * (float)(i % 17) / 17;
        for (size_t k = 0; k < DIM; k++) {
            float v;
            memcpy(&v, s.data + i * s.rows.stride + 4 * k, 4);
            v *= f;
            memcpy(s.data + i * s.rows.stride + 4 * k, &v, 4);
        }
    }
    build(&x, &s, 20, 0);
    assert_true(recall_of(&x, &s, 1200, NULL, STRAT_TREES, &c) > 0.85);
    cf_index_done(&x);
    cf_set_done(&s);
}

/* Far from the origin int8 has no digits left for differences, unless the middle is taken off. */
static void test_search_when_rows_are_far_from_the_origin_then_trees_still_lead_to_them(
    void **state)
{
    struct cf_set s;
    struct cf_index x;
    struct index_counters c;
    cf_set_new(&s, METRIC_L2, VEC_F32, DIM, NROWS, NQ, 300, 4);
    for (uint32_t i = 0; i < (NROWS + NQ) * DIM; i++) {
        uint8_t *p = i < NROWS * DIM ? s.data + 4 * i : s.queries + 4 * (i - NROWS * DIM);
        float v;
        memcpy(&v, p, 4);
        v += 1000;
        memcpy(p, &v, 4);
    }
    build(&x, &s, 20, 0);
    assert_true(recall_of(&x, &s, 1000, NULL, STRAT_TREES, &c) > 0.9);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_build_when_the_seed_differs_then_the_trees_do(void **state)
{
    struct cf_index x;
    build(&x, &set, 20, 5);
    assert_true(x.file.n != forest.file.n || memcmp(x.file.p, forest.file.p, x.file.n) != 0);
    cf_index_done(&x);
}

static int stop(void *arg, struct status *st)
{
    return st_fail(st, ST_TIMEOUT, "late");
}

static void test_search_when_the_deadline_passes_then_it_ends_and_the_next_is_whole(void **state)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct index_counters c;
    struct index_search_params sp;
    index_search_params_init(&sp);
    sp.search_k = NROWS;
    sp.strategy = STRAT_TREES;
    struct index_query q = { .queries = set.queries, .query_stride = set.query_stride, .nq = NQ,
                             .params = &sp, .check = stop };
    double before = recall_of(&forest, &set, 400, NULL, STRAT_TREES, &c);
    ASSERT_OK(topk_new(NQ, K, false, NULL, &tk, &st));
    assert_int_equal(index_search(forest.ix, &q, tk, NULL, &st), ST_TIMEOUT);
    topk_free(tk);
    assert_true(recall_of(&forest, &set, 400, NULL, STRAT_TREES, &c) == before);
}

static uint8_t *section_at(const struct cf_index *x, uint32_t tag, uint8_t *copy, size_t *ret_n)
{
    const struct ix_file *f = &x->ix->file;
    for (uint32_t i = 0; i < f->nsections; i++) {
        if (f->entries[i].tag == tag) {
            *ret_n = f->entries[i].size;
            return copy + f->entries[i].offset;
        }
    }
    fail_msg("no section");
    return NULL;
}

/* Sums are not read again from a trusted file, so its numbers may say anything. */
static void test_search_when_numbers_in_the_file_are_wild_then_it_stays_inside(void **state)
{
    static const uint32_t tags[] = { ANNOY_TAG_NODE, ANNOY_TAG_TREE, ANNOY_TAG_ROOT };
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, METRIC_COSINE, VEC_F32, 8, 900, 3, 40, 6);
    build(&x, &s, 4, 0);
    uint8_t *copy = alloc_try_aligned(4096, ROUND_UP(x.file.n, 4096));
    for (int round = 0; round < 120; round++) {
        struct status st = STATUS_INIT;
        struct cf_index y = { 0 };
        size_t n = 0;
        memcpy(copy, x.file.p, x.file.n);
        uint8_t *p = section_at(&x, tags[round % 3], copy, &n);
        for (int i = 0; i < 1 + round; i++) { /* one word, to many */
            uint32_t wild = (uint32_t)(cf_uniform() * (round % 2 ? 4294967295.0 : 1200.0));
            memcpy(p + (size_t)(cf_uniform() * (double)(n / 4)) * 4, &wild, 4);
        }
        struct index_source src = { .map = copy, .size = x.file.n, .fd = -1, .trusted = true };
        ASSERT_OK(index_open(&src, &s.rows, &y.ix, &st));
        struct index_counters c;
        struct topk *tk = search_forest(&y, &s, 300, NULL, STRAT_TREES, &c);
        for (uint32_t j = 0; j < s.nq; j++) {
            assert_int_equal(topk_count(tk, j), K);
        }
        topk_free(tk);
        index_free(y.ix);
    }
    mem_free(copy);
    cf_index_done(&x);
    cf_set_done(&s);
}

/* One lie each that leaves every number in range. */
static void test_validate_when_a_tree_lies_then_it_says_so(void **state)
{
    struct cf_set s;
    struct cf_index x;
    cf_set_new(&s, METRIC_COSINE, VEC_F32, 8, 900, 3, 40, 7);
    build(&x, &s, 3, 0);
    uint8_t *copy = alloc_try_aligned(4096, ROUND_UP(x.file.n, 4096));
    for (int lie = 0; lie < 5; lie++) {
        struct annoy broken = *CONTAINER_OF(x.ix, struct annoy, head);
        struct status st = STATUS_INIT;
        size_t n = 0;
        memcpy(copy, x.file.p, x.file.n);
        struct annoy_node *nodes = (struct annoy_node *)section_at(&x, ANNOY_TAG_NODE, copy, &n);
        uint32_t leaf = 0;
        while (nodes[leaf].child || nodes[leaf].count < 2) {
            leaf++;
        }
        uint32_t *rows = (uint32_t *)section_at(&x, ANNOY_TAG_TREE, copy, &n) + nodes[leaf].at;
        switch (lie) {
        case 0: /* a row twice, another never */
            rows[0] = rows[1];
            break;
        case 1:
            rows[0] = s.rows.nrows;
            break;
        case 2: /* one row less */
            nodes[leaf].count--;
            break;
        case 3: /* the children of another node */
            nodes[0].child += 2;
            break;
        default:
            nodes[0].scale = NAN;
            break;
        }
        broken.nodes = nodes;
        broken.trees = section_at(&x, ANNOY_TAG_TREE, copy, &n);
        assert_int_equal(annoy_ops.validate(&broken.head, &st), ST_CORRUPT);
    }
    mem_free(copy);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_memory_when_searches_ran_then_their_scratch_is_counted_once(void **state)
{
    struct index_counters c;
    struct index_memory one, two;
    topk_free(search_forest(&forest, &set, 100, NULL, STRAT_TREES, &c));
    index_memory(forest.ix, &one);
    topk_free(search_forest(&forest, &set, 100, NULL, STRAT_TREES, &c));
    index_memory(forest.ix, &two);
    assert_true(one.heap > NROWS / 8 && one.heap == two.heap);
    assert_true(one.resident > 20 * NROWS * 4 && one.resident <= one.mapped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            test_search_when_search_k_rises_then_it_looks_at_that_many_rows_and_finds_more),
        cmocka_unit_test(test_search_when_search_k_is_not_given_then_it_is_trees_times_k),
        cmocka_unit_test(test_search_when_there_are_more_trees_then_the_same_search_k_finds_more),
        cmocka_unit_test(test_search_when_search_k_reaches_all_rows_then_it_is_a_scan),
        cmocka_unit_test(test_search_when_filtered_then_only_allowed_rows_count),
        cmocka_unit_test(test_search_when_few_rows_are_allowed_then_they_are_scanned),
        cmocka_unit_test(test_search_when_lengths_differ_then_inner_products_are_found),
        cmocka_unit_test(
            test_search_when_rows_are_far_from_the_origin_then_trees_still_lead_to_them),
        cmocka_unit_test(test_build_when_the_seed_differs_then_the_trees_do),
        cmocka_unit_test(
            test_search_when_the_deadline_passes_then_it_ends_and_the_next_is_whole),
        cmocka_unit_test(test_search_when_numbers_in_the_file_are_wild_then_it_stays_inside),
        cmocka_unit_test(test_validate_when_a_tree_lies_then_it_says_so),
        cmocka_unit_test(test_memory_when_searches_ran_then_their_scratch_is_counted_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
