/*
 * test_ivf.c - what inverted files promise beyond the shared suite (test_conform.c): exactness of
 * bounds, recall floors, filters that cost no recall, many queries at once, ranges, parameters.
 *
 * usage: test_ivf [LEVEL]
 */
#include "conform.h"

#include "index/ivf/ivf_int.h"
#include "simd/simd.h"

#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

static struct index_search_params search_params(uint32_t nprobe)
{
    struct index_search_params p;
    index_search_params_init(&p);
    p.nprobe = nprobe;
    p.strategy = STRAT_LISTS; /* the cost model may not hide the lists behind a raw scan */
    return p;
}

static void build(struct cf_index *x, const struct cf_set *s, const struct index_params *p)
{
    struct status st = STATUS_INIT;
    *x = (struct cf_index){ 0 };
    ASSERT_OK(cf_build(s, p, NULL, &x->file, &st));
    ASSERT_OK(cf_open(s, &x->file, &x->ix, &st));
}

static struct index_params params_of(enum index_type type, uint32_t nlist, size_t dim)
{
    struct index_params p;
    index_params_init(&p, type);
    p.nlist = nlist;
    p.m = (uint32_t)dim / 2;
    p.nbits = 4;
    p.sub_dim = 2;
    return p;
}

static struct topk *search(const struct cf_index *x, const struct cf_set *s, uint32_t query0,
                           uint32_t nq, uint32_t k, const struct index_search_params *sp,
                           const uint64_t *allow, const struct topk_range *range,
                           struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct index_query q = { .queries = s->queries + query0 * s->query_stride,
                             .query_stride = s->query_stride,
                             .nq = nq,
                             .row_base = 1000,
                             .allow = allow,
                             .allow_count =
                                 allow ? (uint32_t)bits_count(allow, s->rows.nrows) : 0,
                             .params = sp };
    ASSERT_OK(topk_new(nq, k, cf_larger(s), range, &tk, &st));
    ASSERT_OK(index_search(x->ix, &q, tk, c, &st));
    topk_finish(tk);
    return tk;
}

static bool same_bits(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

/* List i of got holds what list j of want does. */
static void assert_same(const struct topk *got, uint32_t i, const struct topk *want, uint32_t j,
                        uint64_t row_base)
{
    assert_int_equal(topk_count(got, i), topk_count(want, j));
    for (uint32_t h = 0; h < topk_count(got, i); h++) {
        assert_int_equal(topk_row(got, i, h), topk_row(want, j, h) + row_base);
        assert_true(same_bits(topk_score(got, i, h), topk_score(want, j, h)));
    }
}

/* Rows with zeros, duplicates, huge and tiny numbers and none at all among ordinary ones. */
static void make_wild(struct cf_set *s)
{
    size_t dim = s->rows.dim;
    for (uint32_t i = 0; i < s->rows.nrows; i += 37) {
        float *x = (float *)(void *)(s->data + i * s->rows.stride);
        for (size_t k = 0; k < dim; k++) {
            switch (i / 37 % 8) {
            case 0:
                x[k] = 0;
                break;
            case 1:
                x[k] *= 1e12f;
                break;
            case 2:
                x[k] *= 1e22f;
                break;
            case 3:
                x[k] *= 1e-25f;
                break;
            case 4:
                x[k] = k == 1 ? NAN : x[k];
                break;
            case 5:
                x[k] = k == 0 ? -INFINITY : x[k];
                break;
            default:
                x[k] = ((float *)(void *)s->data)[k + dim];
                break;
            }
        }
    }
    memcpy(s->queries, s->data, s->query_stride);                            /* zeros */
    memcpy(s->queries + s->query_stride, s->data + 74 * s->rows.stride, s->query_stride); /* huge */
    memcpy(s->queries + 2 * s->query_stride, s->data + 37 * s->rows.stride, s->query_stride);
}

static void check_exact(enum index_type type, enum metric metric, enum vec_type vt, size_t dim,
                        bool wild)
{
    static const double rates[] = { 1, 0.9, 0.3, 0.02 };
    struct cf_set s;
    struct cf_index x;
    enum { N = 1500 };
    uint64_t allow[N / 64 + 1];
    struct index_params p = params_of(type, 24, dim);
    struct index_search_params sp = search_params(24);
    cf_set_new(&s, metric, vt, dim, N, 6, 15, 7 + dim);
    if (wild) {
        make_wild(&s);
    }
    build(&x, &s, &p);
    for (size_t r = 0; r < ARRAY(rates); r++) {
        bits_fill(allow, N, false);
        for (uint32_t i = 0; i < N; i++) {
            if (cf_uniform() < rates[r]) {
                bit_set(allow, i);
            }
        }
        const uint64_t *a = r ? allow : NULL;
        for (uint32_t k = 1; k <= 100; k = k * 10) {
            struct topk *want = cf_truth(&s, k, a, NULL);
            struct topk *got = search(&x, &s, 0, s.nq, k, &sp, a, NULL, NULL);
            for (uint32_t j = 0; j < s.nq; j++) {
                assert_same(got, j, want, j, 1000);
            }
            topk_free(want);
            topk_free(got);
        }
    }
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_search_when_all_lists_are_probed_then_bits_are_those_of_a_flat_search(void **state)
{
    (void)state;
    static const enum metric metrics[] = { METRIC_L2, METRIC_IP, METRIC_COSINE };
    static const enum vec_type types[] = { VEC_F32, VEC_F16, VEC_BF16, VEC_I8 };
    for (size_t m = 0; m < 3; m++) {
        for (size_t t = 0; t < 4; t++) {
            check_exact(t % 2 ? INDEX_IVF_SQ8 : INDEX_IVF_FLAT, metrics[m], types[t], 19, false);
        }
        check_exact(INDEX_IVF_FLAT, metrics[m], VEC_F32, 1, false);
        check_exact(INDEX_IVF_SQ8, metrics[m], VEC_F32, 64, false);
        check_exact(INDEX_IVF_FLAT, metrics[m], VEC_F32, 24, true);
    }
}

/* Far from zero nearly all of a squared distance by products is rounding. */
static void test_search_when_rows_are_far_from_zero_then_still_exact(void **state)
{
    (void)state;
    struct cf_set s;
    struct cf_index x;
    struct index_params p = params_of(INDEX_IVF_FLAT, 16, 12);
    struct index_search_params sp = search_params(16);
    cf_set_new(&s, METRIC_L2, VEC_F32, 12, 1000, 8, 15, 3);
    for (size_t i = 0; i < 1008 * 12; i++) {
        float *v = (float *)(void *)(i < 12000 ? s.data : s.queries) + (i < 12000 ? i : i - 12000);
        *v += 5000;
    }
    build(&x, &s, &p);
    struct index_counters c = { 0 };
    struct topk *want = cf_truth(&s, 10, NULL, NULL);
    struct topk *got = search(&x, &s, 0, s.nq, 10, &sp, NULL, NULL, &c);
    for (uint32_t j = 0; j < s.nq; j++) {
        assert_same(got, j, want, j, 1000);
    }
    assert_true(c.exact < 8 * 300); /* the bound still tells most rows apart */
    topk_free(want);
    topk_free(got);
    cf_index_done(&x);
    cf_set_done(&s);
}

struct floor {
    enum index_type type;
    uint32_t m, nbits, rbq_bits;
    double recall;
};

static void test_search_when_codes_are_coarse_then_recall_stays_above_the_floor(void **state)
{
    (void)state;
    static const struct floor floors[] = {
        { INDEX_IVF_PQ, 16, 4, 1, 0.95 },  { INDEX_IVF_PQ, 8, 8, 1, 0.95 },
        { INDEX_IVF_PQ, 4, 8, 1, 0.90 },   { INDEX_IVF_PQ, 8, 12, 1, 0.97 },
        { INDEX_IVF_PQ, 16, 2, 1, 0.80 },  { INDEX_IVF_PQ, 32, 6, 1, 0.99 },
        { INDEX_SCANN, 16, 4, 1, 0.95 },   { INDEX_IVF_RABITQ, 0, 0, 1, 0.95 },
        { INDEX_IVF_RABITQ, 0, 0, 2, 0.97 }, { INDEX_IVF_RABITQ, 0, 0, 4, 0.99 },
        { INDEX_IVF_RABITQ, 0, 0, 9, 0.995 },
    };
    static const enum metric metrics[] = { METRIC_L2, METRIC_IP, METRIC_COSINE };
    for (size_t m = 0; m < 3; m++) {
        struct cf_set s;
        cf_set_new(&s, metrics[m], VEC_F32, 32, 3000, 20, 30, 11);
        struct topk *want = cf_truth(&s, 10, NULL, NULL);
        for (size_t f = 0; f < ARRAY(floors); f++) {
            struct cf_index x;
            struct index_params p = params_of(floors[f].type, 20, 32);
            struct index_search_params sp = search_params(20);
            struct index_counters c = { 0 };
            p.m = floors[f].m ? floors[f].m : p.m;
            p.nbits = floors[f].nbits ? floors[f].nbits : p.nbits;
            p.rbq_bits = floors[f].rbq_bits;
            build(&x, &s, &p);
            struct topk *got = search(&x, &s, 0, s.nq, 10, &sp, NULL, NULL, &c);
            topk_free(got);
            /* row_base 1000 would not be below nrows + base in cf_recall: search as it does */
            struct index_query q = { .queries = s.queries, .query_stride = s.query_stride,
                                     .nq = s.nq, .params = &sp };
            struct status st = STATUS_INIT;
            ASSERT_OK(topk_new(s.nq, 10, cf_larger(&s), NULL, &got, &st));
            ASSERT_OK(index_search(x.ix, &q, got, NULL, &st));
            topk_finish(got);
            double recall = cf_recall(&s, got, want, NULL);
            if (recall < floors[f].recall) {
                fail_msg("type %s m %u nbits %u bits %u metric %s: recall %f",
                         index_type_name(floors[f].type), p.m, p.nbits, p.rbq_bits,
                         metric_name(metrics[m]), recall);
            }
            assert_int_equal(c.lists, 20 * s.nq);
            assert_int_equal(c.distances, 3000 * s.nq);
            assert_true(c.exact < 3000 / 2 * s.nq);
            topk_free(got);
            cf_index_done(&x);
        }
        topk_free(want);
        cf_set_done(&s);
    }
}

static const enum index_type all_types[] = { INDEX_IVF_FLAT, INDEX_IVF_SQ8,    INDEX_IVF_PQ,
                                             INDEX_SCANN,    INDEX_IVF_RABITQ, INDEX_BIN_IVF_FLAT };

static void set_of(struct cf_set *s, enum index_type type, uint32_t n, uint32_t nq, uint64_t seed)
{
    bool bin = type == INDEX_BIN_IVF_FLAT;
    cf_set_new(s, bin ? METRIC_JACCARD : METRIC_COSINE, bin ? VEC_BIN : VEC_F32, bin ? 128 : 32, n,
               nq, 40, seed);
}

static void test_search_when_many_queries_then_each_as_if_alone(void **state)
{
    (void)state;
    for (size_t t = 0; t < ARRAY(all_types); t++) {
        for (int filtered = 0; filtered < 3; filtered++) {
            enum { N = 2500, NQ = 37 };
            struct cf_set s;
            struct cf_index x;
            uint64_t allow[N / 64 + 1];
            struct index_params p = params_of(all_types[t], 30, 32);
            struct index_search_params sp = search_params(5);
            set_of(&s, all_types[t], N, NQ, 5);
            build(&x, &s, &p);
            bits_fill(allow, N, false);
            for (uint32_t i = 0; i < N; i++) {
                if (cf_uniform() < (filtered == 1 ? 0.8 : 0.1)) {
                    bit_set(allow, i);
                }
            }
            const uint64_t *a = filtered ? allow : NULL;
            struct topk *all = search(&x, &s, 0, NQ, 10, &sp, a, NULL, NULL);
            for (uint32_t j = 0; j < NQ; j++) {
                struct topk *one = search(&x, &s, j, 1, 10, &sp, a, NULL, NULL);
                assert_same(one, 0, all, j, 0);
                topk_free(one);
            }
            topk_free(all);
            cf_index_done(&x);
            cf_set_done(&s);
        }
    }
}

static double recall_at(const struct cf_index *x, const struct cf_set *s, uint32_t nprobe,
                        const uint64_t *allow)
{
    struct status st = STATUS_INIT;
    struct index_search_params sp = search_params(nprobe);
    struct topk *got, *want = cf_truth(s, 10, allow, NULL);
    struct index_query q = { .queries = s->queries, .query_stride = s->query_stride, .nq = s->nq,
                             .allow = allow, .params = &sp,
                             .allow_count =
                                 allow ? (uint32_t)bits_count(allow, s->rows.nrows) : 0 };
    ASSERT_OK(topk_new(s->nq, 10, cf_larger(s), NULL, &got, &st));
    ASSERT_OK(index_search(x->ix, &q, got, NULL, &st));
    topk_finish(got);
    double recall = cf_recall(s, got, want, allow);
    topk_free(got);
    topk_free(want);
    return recall;
}

/* A filter may not cost recall, whether it is blind to where rows lie or not. */
static void test_search_when_filtered_then_recall_is_no_less_than_without(void **state)
{
    (void)state;
    static const double rates[] = { 0.99, 0.9, 0.6, 0.4, 0.1, 0.03, 0.01, 0.004 };
    for (size_t t = 0; t < ARRAY(all_types); t++) {
        enum { N = 6000, NQ = 30, NPROBE = 4 };
        struct cf_set s;
        struct cf_index x;
        uint64_t allow[N / 64 + 1];
        struct index_params p = params_of(all_types[t], 48, 32);
        set_of(&s, all_types[t], N, NQ, 21);
        build(&x, &s, &p);
        double open = recall_at(&x, &s, NPROBE, NULL);
        for (size_t r = 0; r < ARRAY(rates); r++) {
            for (int shape = 0; shape < 2; shape++) {
                /* at random; by the sign of things: rows that agree in their first coordinates */
                bits_fill(allow, N, false);
                for (uint32_t i = 0; i < N; i++) {
                    const uint8_t *row = s.data + i * s.rows.stride;
                    double u = shape == 0 ? cf_uniform()
                               : s.rows.type == VEC_BIN
                                   ? row[0] / 256.0
                                   : 0.5 + ((const float *)(const void *)row)[0] / 8;
                    if (u < rates[r]) {
                        bit_set(allow, i);
                    }
                }
                if (bits_count(allow, N) < 10) {
                    continue;
                }
                double got = recall_at(&x, &s, NPROBE, allow);
                if (got < open - 0.02) {
                    fail_msg("%s rate %g shape %d: recall %f, without filter %f",
                             index_type_name(all_types[t]), rates[r], shape, got, open);
                }
            }
        }
        cf_index_done(&x);
        cf_set_done(&s);
    }
}

static void test_search_when_a_range_is_asked_then_its_rows_come_and_no_others(void **state)
{
    (void)state;
    for (size_t t = 0; t < ARRAY(all_types); t++) {
        struct cf_set s;
        struct cf_index x;
        struct index_params p = params_of(all_types[t], 40, 32);
        struct index_search_params sp = search_params(1);
        set_of(&s, all_types[t], 3000, 10, 13);
        build(&x, &s, &p);
        struct topk *near = cf_truth(&s, 60, NULL, NULL);
        size_t found = 0, all = 0;
        for (uint32_t j = 0; j < s.nq; j++) {
            struct status st = STATUS_INIT;
            /* The 20th to the 60th, whatever lies between. */
            struct topk_range range = { true, true, topk_score(near, j, 59),
                                        topk_score(near, j, 19) };
            struct index_query q = { .queries = s.queries + j * s.query_stride, .nq = 1,
                                     .params = &sp };
            struct topk *got;
            ASSERT_OK(topk_new(1, 100, cf_larger(&s), &range, &got, &st));
            ASSERT_OK(index_search(x.ix, &q, got, NULL, &st));
            topk_finish(got);
            for (uint32_t i = 0; i < topk_count(got, 0); i++) {
                float score = topk_score(got, 0, i);
                assert_true(cf_larger(&s) ? score > range.radius && score <= range.range_filter
                                          : score < range.radius && score >= range.range_filter);
            }
            found += topk_count(got, 0);
            for (uint32_t i = 0; i < 60; i++) {
                float score = topk_score(near, j, i);
                all += cf_larger(&s) ? score > range.radius && score <= range.range_filter
                                     : score < range.radius && score >= range.range_filter;
            }
            topk_free(got);
        }
        assert_true(all > 50);
        if ((double)found < 0.85 * (double)all) {
            fail_msg("%s: %zu of %zu in range", index_type_name(all_types[t]), found, all);
        }
        topk_free(near);
        cf_index_done(&x);
        cf_set_done(&s);
    }
}

static void test_search_when_more_empty_lists_are_let_pass_then_more_lists_are_seen(void **state)
{
    (void)state;
    struct cf_set s;
    struct cf_index x;
    struct index_params p = params_of(INDEX_IVF_FLAT, 40, 32);
    struct index_search_params sp = search_params(1);
    uint64_t lists[3];
    set_of(&s, INDEX_IVF_FLAT, 3000, 1, 13);
    build(&x, &s, &p);
    struct topk_range range = { .has_radius = true, .radius = 0.999999f }; /* nothing is so near */
    for (int i = 0; i < 3; i++) {
        struct index_counters c = { 0 };
        sp.max_empty_result_buckets = i == 0 ? 1 : i == 1 ? 2 : 30;
        topk_free(search(&x, &s, 0, 1, 10, &sp, NULL, &range, &c));
        lists[i] = c.lists;
    }
    assert_int_equal(lists[0], 1);
    assert_int_equal(lists[1], 2);
    assert_int_equal(lists[2], 30);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_search_when_reorder_k_is_given_then_so_many_rows_are_scored(void **state)
{
    (void)state;
    struct cf_set s;
    struct cf_index x;
    struct index_params p = params_of(INDEX_SCANN, 20, 32);
    struct index_search_params sp = search_params(20);
    set_of(&s, INDEX_SCANN, 3000, 4, 17);
    build(&x, &s, &p);
    for (uint32_t n = 20; n <= 160; n *= 2) {
        struct index_counters c = { 0 };
        sp.reorder_k = n;
        topk_free(search(&x, &s, 0, 4, 10, &sp, NULL, NULL, &c));
        /* up to 32 by a sorted list, above by a buffer that may hold some more */
        assert_true(c.exact >= 4 * n && c.exact <= (n <= 32 ? 4 * n + 8 : 4 * 2 * n));
    }
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_search_when_few_rows_then_all_of_them(void **state)
{
    (void)state;
    for (size_t t = 0; t < ARRAY(all_types); t++) {
        for (uint32_t n = 0; n <= 40; n = n ? n * 3 : 1) {
            struct cf_set s;
            struct cf_index x;
            struct index_params p = params_of(all_types[t], 128, 32);
            struct index_search_params sp = search_params(1);
            set_of(&s, all_types[t], n, 3, n);
            for (uint32_t i = 0; i + 1 < n; i += 2) { /* pairs of equal rows */
                memcpy(s.data + (i + 1) * s.rows.stride, s.data + i * s.rows.stride,
                       s.query_stride);
            }
            build(&x, &s, &p);
            struct topk *want = cf_truth(&s, 100, NULL, NULL);
            struct topk *got = search(&x, &s, 0, 3, 100, &sp, NULL, NULL, NULL);
            for (uint32_t j = 0; j < 3; j++) {
                assert_same(got, j, want, j, 1000);
            }
            topk_free(want);
            topk_free(got);
            cf_index_done(&x);
            cf_set_done(&s);
        }
    }
}

static void test_build_when_m_does_not_divide_then_refused(void **state)
{
    (void)state;
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_file f = { 0 };
    struct index_params p = params_of(INDEX_IVF_PQ, 8, 32);
    set_of(&s, INDEX_IVF_PQ, 100, 1, 1);
    p.m = 5;
    assert_int_equal(cf_build(&s, &p, NULL, &f, &st), ST_INVALID);
    assert_non_null(strstr(st.msg, "32"));
    p = params_of(INDEX_SCANN, 8, 32);
    p.sub_dim = 5;
    assert_int_equal(cf_build(&s, &p, NULL, &f, &st), ST_INVALID);
    mem_free(f.p);
    cf_set_done(&s);
}

/* What open does not look for, for it is no danger, validate does. */
static void test_validate_when_a_row_stands_twice_then_corrupt(void **state)
{
    (void)state;
    struct status st = STATUS_INIT;
    struct cf_set s;
    struct cf_index x;
    struct index_params p = params_of(INDEX_IVF_SQ8, 8, 32);
    set_of(&s, INDEX_IVF_SQ8, 500, 1, 1);
    build(&x, &s, &p);
    ASSERT_OK(index_validate(x.ix, &st));
    const struct ivf *ivf = CONTAINER_OF(x.ix, const struct ivf, head);
    uint32_t *rows = (uint32_t *)(uintptr_t)ivf->rows; /* in the test's own memory */
    uint32_t kept = rows[1];
    rows[1] = rows[0];
    assert_int_equal(x.ix->ops->validate(x.ix, &st), ST_CORRUPT);
    rows[1] = kept;
    ASSERT_OK(x.ix->ops->validate(x.ix, &st));
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_rotate_when_any_dim_then_lengths_and_products_stay(void **state)
{
    (void)state;
    for (size_t dim = 1; dim <= 130; dim++) {
        float a[130], b[130];
        uint8_t flips[ROTATE_ROUNDS * 130];
        double before = 0, after = 0, moved = 0;
        for (size_t i = 0; i < ROTATE_ROUNDS * dim; i++) {
            flips[i] = cf_uniform() < 0.5;
        }
        for (size_t k = 0; k < dim; k++) {
            a[k] = (float)cf_gauss();
            b[k] = (float)cf_gauss();
            before += (double)a[k] * b[k];
            moved += a[k];
        }
        ivf_rotate(flips, a, dim);
        ivf_rotate(flips, b, dim);
        for (size_t k = 0; k < dim; k++) {
            after += (double)a[k] * b[k];
            moved -= a[k];
        }
        assert_true(fabs(before - after) < 1e-4 * (double)dim);
        assert_true(dim < 4 || fabs(moved) > 1e-6);
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_sort_when_any_order_then_ascending_and_the_smallest_in_front(void **state)
{
    (void)state;
    enum { MOST = 1500 };
    static uint64_t v[MOST], w[MOST], sorted[MOST];
    for (size_t n = 1; n <= MOST; n = n * 5 / 4 + 1) {
        for (int shape = 0; shape < 5; shape++) {
            for (size_t i = 0; i < n; i++) {
                float key = shape == 0   ? (float)cf_gauss()
                            : shape == 1 ? (float)i
                            : shape == 2 ? -(float)i
                            : shape == 3 ? (float)(i % 3)
                                         : (float)(i < n / 2 ? i : n - i);
                v[i] = w[i] = sorted[i] = ivf_sort_key(key, (uint32_t)i);
                assert_true(ivf_sort_float(v[i]) == key);
            }
            qsort(sorted, n, sizeof *sorted, by_value);
            ivf_sort(v, n);
            assert_memory_equal(v, sorted, n * sizeof *v);
            size_t some = (size_t)(cf_uniform() * (double)n);
            ivf_select(w, n, some);
            qsort(w, some, sizeof *w, by_value);
            assert_memory_equal(w, sorted, some * sizeof *w);
        }
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_when_all_lists_are_probed_then_bits_are_those_of_a_flat_search),
        cmocka_unit_test(test_search_when_rows_are_far_from_zero_then_still_exact),
        cmocka_unit_test(test_search_when_codes_are_coarse_then_recall_stays_above_the_floor),
        cmocka_unit_test(test_search_when_many_queries_then_each_as_if_alone),
        cmocka_unit_test(test_search_when_filtered_then_recall_is_no_less_than_without),
        cmocka_unit_test(test_search_when_a_range_is_asked_then_its_rows_come_and_no_others),
        cmocka_unit_test(test_search_when_more_empty_lists_are_let_pass_then_more_lists_are_seen),
        cmocka_unit_test(test_search_when_reorder_k_is_given_then_so_many_rows_are_scored),
        cmocka_unit_test(test_search_when_few_rows_then_all_of_them),
        cmocka_unit_test(test_build_when_m_does_not_divide_then_refused),
        cmocka_unit_test(test_validate_when_a_row_stands_twice_then_corrupt),
        cmocka_unit_test(test_rotate_when_any_dim_then_lengths_and_products_stay),
        cmocka_unit_test(test_sort_when_any_order_then_ascending_and_the_smallest_in_front),
    };
    if (argc > 1) {
        CHECK(simd_cap(argv[1]));
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
