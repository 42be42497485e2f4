/*
 * test_kmeans.c - clustering: the same for any number of threads, as good as it should be, and
 * sound where rows are few, equal, zero or no numbers.
 */
#include "../lib/unit.h"

#include <math.h>

#include "base/pool.h"
#include "index/kmeans.h"

static struct pool *pool;

static uint64_t rng_state;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static float unit(void)
{
    return (float)((double)(int64_t)rng() * 0x1p-63);
}

struct set {
    struct index_rows rows;
    float *x;
};

/* nrows points around nclouds centres in a cube of side 20, each within 1 of its centre. */
static void set_new(struct set *s, enum metric metric, uint32_t nrows, size_t dim, uint32_t nclouds)
{
    float *centre = malloc(nclouds * dim * sizeof(float));
    s->x = malloc(nrows * dim * sizeof(float) + 4);
    rng_state = 88172645463325252u + nrows;
    for (size_t i = 0; i < nclouds * dim; i++) {
        centre[i] = unit() * 10;
    }
    for (uint32_t i = 0; i < nrows; i++) {
        const float *c = centre + rng() % nclouds * dim;
        for (size_t k = 0; k < dim; k++) {
            s->x[i * dim + k] = c[k] + unit();
        }
    }
    free(centre);
    s->rows = (struct index_rows){ .metric = metric,
                                   .type = VEC_F32,
                                   .dim = dim,
                                   .base = s->x,
                                   .stride = dim * sizeof(float),
                                   .nrows = nrows };
}

static double distance2(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t k = 0; k < dim; k++) {
        sum += ((double)a[k] - b[k]) * ((double)a[k] - b[k]);
    }
    return sum;
}

/* Mean squared distance to the list's centroid; asserts that no other is clearly nearer. */
static double inertia(const struct set *s, const float *cent, uint32_t nlist, const uint32_t *list,
                      double *ret_wrong)
{
    double sum = 0;
    size_t wrong = 0, dim = s->rows.dim;
    for (uint32_t i = 0; i < s->rows.nrows; i++) {
        const float *x = s->x + i * dim;
        double own = distance2(x, cent + list[i] * dim, dim), least = INFINITY;
        for (uint32_t l = 0; l < nlist; l++) {
            least = fmin(least, distance2(x, cent + l * dim, dim));
        }
        wrong += own > least * (1 + 1e-4) + 1e-6;
        sum += own;
    }
    *ret_wrong = (double)wrong / s->rows.nrows;
    return sum / s->rows.nrows;
}

static void test_train_when_clouds_are_apart_then_each_gets_its_list(void **state)
{
    (void)state;
    struct status st = STATUS_INIT;
    struct set s;
    struct kmeans_opts o = { .nlist = 32, .seed = 1, .balance = true, .pool = pool };
    float cent[32 * 12];
    uint32_t *list = malloc(4000 * 4);
    double wrong;
    set_new(&s, METRIC_L2, 4000, 12, 32);
    ASSERT_OK(kmeans_train(&s.rows, &o, cent, &st));
    ASSERT_OK(kmeans_assign(&s.rows, cent, &o, list, &st));
    /* 12 coordinates of variance 1/3: 4 where every cloud has one list; two clouds in one list
     * would add some 400 for both. Three clouds may have gone wrong. */
    double mean = inertia(&s, cent, 32, list, &wrong);
    assert_true(mean < 4 + 3 * 2.0 / 32 * 400);
    assert_true(wrong == 0);
    free(list);
    free(s.x);
}

static void test_train_when_far_from_zero_then_as_good(void **state)
{
    (void)state;
    struct status st = STATUS_INIT;
    struct set s;
    struct kmeans_opts o = { .nlist = 40, .seed = 3, .balance = true };
    float cent[40 * 8];
    uint32_t *list = malloc(2000 * 4);
    double near_wrong, far_wrong;
    set_new(&s, METRIC_L2, 2000, 8, 20);
    ASSERT_OK(kmeans_train(&s.rows, &o, cent, &st));
    ASSERT_OK(kmeans_assign(&s.rows, cent, &o, list, &st));
    double near_mean = inertia(&s, cent, 40, list, &near_wrong);
    for (size_t i = 0; i < 2000 * 8; i++) {
        s.x[i] += 20000;
    }
    ASSERT_OK(kmeans_train(&s.rows, &o, cent, &st));
    ASSERT_OK(kmeans_assign(&s.rows, cent, &o, list, &st));
    assert_true(inertia(&s, cent, 40, list, &far_wrong) < 1.2 * near_mean);
    assert_true(far_wrong < 0.05);
    free(list);
    free(s.x);
}

static void check_same(enum metric metric, uint32_t nrows, size_t dim, uint32_t nlist)
{
    struct status st = STATUS_INIT;
    struct set s;
    struct kmeans_opts o = { .nlist = nlist, .seed = 5, .balance = true };
    size_t bytes = nlist * dim * sizeof(float);
    float *one = malloc(bytes), *two = malloc(bytes);
    uint32_t *list1 = malloc(nrows * 4), *list2 = malloc(nrows * 4);
    set_new(&s, metric, nrows, dim, 50);
    ASSERT_OK(kmeans_train(&s.rows, &o, one, &st));
    ASSERT_OK(kmeans_assign(&s.rows, one, &o, list1, &st));
    o.pool = pool;
    ASSERT_OK(kmeans_train(&s.rows, &o, two, &st));
    ASSERT_OK(kmeans_assign(&s.rows, two, &o, list2, &st));
    assert_memory_equal(one, two, bytes);
    assert_memory_equal(list1, list2, nrows * 4);
    o.seed = 6;
    ASSERT_OK(kmeans_train(&s.rows, &o, two, &st));
    assert_memory_not_equal(one, two, bytes);
    free(one);
    free(two);
    free(list1);
    free(list2);
    free(s.x);
}

static void test_train_when_threads_help_then_same_bytes(void **state)
{
    (void)state;
    check_same(METRIC_L2, 3000, 17, 60);
    check_same(METRIC_COSINE, 3000, 17, 60);
    check_same(METRIC_L2, 6000, 3, 4200); /* the tree */
}

static void test_train_when_cosine_then_unit_centroids(void **state)
{
    (void)state;
    struct status st = STATUS_INIT;
    struct set s;
    struct kmeans_opts o = { .nlist = 25, .seed = 2, .balance = true };
    float cent[25 * 10];
    set_new(&s, METRIC_COSINE, 1500, 10, 25);
    memset(s.x, 0, 10 * sizeof(float)); /* a row without direction */
    ASSERT_OK(kmeans_train(&s.rows, &o, cent, &st));
    for (int l = 0; l < 25; l++) {
        double norm2 = 0;
        for (int k = 0; k < 10; k++) {
            norm2 += (double)cent[l * 10 + k] * cent[l * 10 + k];
        }
        assert_true(fabs(norm2 - 1) < 1e-5);
    }
    free(s.x);
}

static void test_assign_when_many_lists_then_nearly_all_exact(void **state)
{
    (void)state;
    struct status st = STATUS_INIT;
    struct set s;
    struct kmeans_opts o = { .nlist = 4500, .seed = 2, .pool = pool };
    float *cent = malloc(4500 * 6 * sizeof(float));
    uint32_t *list = malloc(9000 * 4);
    double wrong;
    set_new(&s, METRIC_L2, 9000, 6, 300);
    ASSERT_OK(kmeans_train(&s.rows, &o, cent, &st));
    ASSERT_OK(kmeans_assign(&s.rows, cent, &o, list, &st));
    s.rows.nrows = 1000; /* enough to compare with all centroids */
    inertia(&s, cent, 4500, list, &wrong);
    assert_true(wrong < 0.03);
    free(cent);
    free(list);
    free(s.x);
}

static void test_train_when_one_cloud_is_huge_then_lists_are_balanced(void **state)
{
    (void)state;
    struct status st = STATUS_INIT;
    struct set s;
    struct kmeans_opts o = { .nlist = 64, .seed = 9, .balance = true };
    float *cent = malloc(64 * 4 * sizeof(float));
    uint32_t *list = malloc(8000 * 4), size[64] = { 0 }, most = 0;
    set_new(&s, METRIC_L2, 8000, 4, 64);
    for (size_t i = 0; i < 6000 * 4; i++) { /* three quarters of the rows in one small place */
        s.x[i] = unit() * 0.1f;
    }
    ASSERT_OK(kmeans_train(&s.rows, &o, cent, &st));
    ASSERT_OK(kmeans_assign(&s.rows, cent, &o, list, &st));
    for (int i = 0; i < 8000; i++) {
        size[list[i]]++;
    }
    for (int l = 0; l < 64; l++) {
        most = size[l] > most ? size[l] : most;
    }
    assert_true(most <= 8 * 8000 / 64);
    free(cent);
    free(list);
    free(s.x);
}

static void test_train_when_rows_are_fewer_than_lists_then_spares_are_empty(void **state)
{
    (void)state;
    struct status st = STATUS_INIT;
    for (uint32_t nrows = 0; nrows < 6; nrows++) {
        struct set s;
        struct kmeans_opts o = { .nlist = 8, .seed = 4, .balance = true };
        float cent[8 * 5];
        uint32_t list[6] = { 0 };
        set_new(&s, METRIC_L2, nrows, 5, 3);
        memset(cent, 0xff, sizeof cent);
        ASSERT_OK(kmeans_train(&s.rows, &o, cent, &st));
        for (int i = 0; i < 8 * 5; i++) {
            assert_true(isfinite(cent[i]));
        }
        ASSERT_OK(kmeans_assign(&s.rows, cent, &o, list, &st));
        for (uint32_t i = 0; i < nrows; i++) {
            assert_true(distance2(s.x + i * 5, cent + list[i] * 5, 5) < 1e-6);
        }
        free(s.x);
    }
}

static void test_train_when_rows_are_equal_or_no_numbers_then_finite(void **state)
{
    (void)state;
    struct status st = STATUS_INIT;
    for (int wild = 0; wild < 3; wild++) {
        struct set s;
        struct kmeans_opts o = { .nlist = 16, .seed = 4, .balance = true, .pool = pool };
        float cent[16 * 7];
        uint32_t list[500];
        set_new(&s, METRIC_L2, 500, 7, 3);
        for (int i = 0; i < 500 * 7; i++) {
            s.x[i] = wild == 0 ? 1.5f : i % 97 == 0 ? (wild == 1 ? NAN : INFINITY) : s.x[i];
        }
        ASSERT_OK(kmeans_train(&s.rows, &o, cent, &st));
        for (int i = 0; i < 16 * 7; i++) {
            assert_true(isfinite(cent[i]));
        }
        ASSERT_OK(kmeans_assign(&s.rows, cent, &o, list, &st));
        for (int i = 0; i < 500; i++) {
            assert_true(list[i] < 16);
        }
        free(s.x);
    }
}

static void test_train_when_bits_then_majorities_and_same_bytes(void **state)
{
    (void)state;
    struct status st = STATUS_INIT;
    enum { N = 1200, BYTES = 9, LISTS = 12 };
    uint8_t centre[LISTS][BYTES], *x = malloc(N * BYTES), cent[LISTS * BYTES], cent2[LISTS * BYTES];
    uint32_t list[N];
    size_t far = 0;
    rng_state = 12345;
    for (int i = 0; i < LISTS * BYTES; i++) {
        centre[i / BYTES][i % BYTES] = (uint8_t)rng();
    }
    for (int i = 0; i < N * BYTES; i++) { /* one bit in eight differs */
        x[i] = centre[i / BYTES % LISTS][i % BYTES] ^ (uint8_t)(rng() & rng() & rng());
    }
    struct index_rows rows = { .metric = METRIC_HAMMING,
                               .type = VEC_BIN,
                               .dim = BYTES * 8,
                               .base = x,
                               .stride = BYTES,
                               .nrows = N };
    struct kmeans_opts o = { .nlist = LISTS, .seed = 1 };
    ASSERT_OK(kmeans_train(&rows, &o, cent, &st));
    o.pool = pool;
    ASSERT_OK(kmeans_train(&rows, &o, cent2, &st));
    assert_memory_equal(cent, cent2, sizeof cent);
    ASSERT_OK(kmeans_assign(&rows, cent, &o, list, &st));
    for (int i = 0; i < N; i++) {
        int d = 0, least = 72;
        for (int l = 0; l < LISTS; l++) {
            int e = 0;
            for (int k = 0; k < BYTES; k++) {
                e += __builtin_popcount((unsigned)(x[i * BYTES + k] ^ cent[l * BYTES + k]));
            }
            least = e < least ? e : least;
            d = l == (int)list[i] ? e : d;
        }
        assert_int_equal(d, least);
        far += d > 20; /* 9 bits differ on average; another cloud's are 36 away */
    }
    assert_true(far < N / 4);
    free(x);
}

static int stop_at_once(void *arg, struct status *st)
{
    (void)arg;
    return st_fail(st, ST_CANCELLED, "enough");
}

static void test_train_when_cancelled_then_says_so(void **state)
{
    (void)state;
    struct status st = STATUS_INIT;
    struct set s;
    struct kmeans_opts o = { .nlist = 8, .check = stop_at_once, .pool = pool };
    float cent[8 * 5];
    set_new(&s, METRIC_L2, 500, 5, 3);
    assert_int_equal(kmeans_train(&s.rows, &o, cent, &st), ST_CANCELLED);
    assert_string_equal(st.msg, "enough");
    free(s.x);
}

static void test_train_when_memory_fails_then_status(void **state)
{
    (void)state;
    struct set s;
    float *cent = malloc(4200 * 2 * sizeof(float));
    for (int big = 0; big < 2; big++) {
        struct kmeans_opts o = { .nlist = big ? 4200 : 8, .rounds = 2 };
        set_new(&s, METRIC_L2, big ? 5000 : 300, 2, 3);
        for (long n = 1; n < 40; n += big ? 13 : 1) {
            struct status st = STATUS_INIT;
            alloc_fail_after(n);
            int rc = kmeans_train(&s.rows, &o, cent, &st);
            bool hit = !alloc_fail_pending();
            alloc_fail_after(0);
            assert_int_equal(rc, hit ? ST_NO_MEMORY : 0);
        }
        free(s.x);
    }
    free(cent);
}

static int setup(void **state)
{
    (void)state;
    pool = pool_new("test", 2, 16);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pool_free(pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_train_when_clouds_are_apart_then_each_gets_its_list),
        cmocka_unit_test(test_train_when_far_from_zero_then_as_good),
        cmocka_unit_test(test_train_when_threads_help_then_same_bytes),
        cmocka_unit_test(test_train_when_cosine_then_unit_centroids),
        cmocka_unit_test(test_assign_when_many_lists_then_nearly_all_exact),
        cmocka_unit_test(test_train_when_one_cloud_is_huge_then_lists_are_balanced),
        cmocka_unit_test(test_train_when_rows_are_fewer_than_lists_then_spares_are_empty),
        cmocka_unit_test(test_train_when_rows_are_equal_or_no_numbers_then_finite),
        cmocka_unit_test(test_train_when_bits_then_majorities_and_same_bytes),
        cmocka_unit_test(test_train_when_cancelled_then_says_so),
        cmocka_unit_test(test_train_when_memory_fails_then_status),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
