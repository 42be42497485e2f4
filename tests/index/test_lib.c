/*
 * test_lib.c - libelanus_index through its public header alone.
 *
 * What indexes find is tested elsewhere; here: that the library hands over what it is given and
 * what comes back, in files and buffers, with every error under its public code.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <elanus/index.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS 3000
#define DIM 24
#define NQ 20
#define K 10

static float rows[ROWS][DIM], queries[NQ][DIM];
static char folder[64], path[96];
static struct elanus_error err;

/* Every type with a way to build it small. */
static const struct {
    const char *index, *build, *search;
} types[] = {
    { "FLAT", NULL, NULL },
    { "IVF_FLAT", "nlist=32", "nprobe=8" },
    { "HNSW", "M=8,efConstruction=60", "ef=40" },
    { "ANNOY", "n_trees=8", "search_k=400" },
};
#define NTYPES (sizeof types / sizeof types[0])

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != ELANUS_OK) {                                                                 \
            fail_msg("%s: %s", #call, err.message);                                                \
        }                                                                                          \
    } while (0)
#define FAILS(want, call, says)                                                                    \
    do {                                                                                           \
        assert_int_equal((call), want);                                                            \
        assert_int_equal(err.code, want);                                                          \
        if (!strstr(err.message, says)) {                                                          \
            fail_msg("%s: '%s' does not say '%s'", #call, err.message, says);                      \
        }                                                                                          \
    } while (0)

static float uniform(void)
{
    static uint64_t state = 7;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(state >> 40) * 0x1p-24f;
}

static struct elanus_vectors vectors(void)
{
    return (struct elanus_vectors){
        .metric = ELANUS_L2, .element = ELANUS_F32, .dim = DIM, .data = rows, .count = ROWS
    };
}

static float l2(const float *a, const float *b)
{
    float s = 0;
    for (int k = 0; k < DIM; k++) {
        s += (a[k] - b[k]) * (a[k] - b[k]);
    }
    return s;
}

static struct elanus_index *built(const char *index, const char *params)
{
    struct elanus_vectors v = vectors();
    struct elanus_build b = { .index = index, .params = params, .threads = 2 };
    struct elanus_index *ix = NULL;
    OK(elanus_index_build_file(&v, &b, path, &err));
    OK(elanus_index_open(path, &v, NULL, &ix, &err));
    return ix;
}

static int setup(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/elanus-lib-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/x.index", folder);
    for (int i = 0; i < ROWS; i++) {
        for (int k = 0; k < DIM; k++) {
            rows[i][k] = (float)(i % 40) + uniform();
        }
    }
    for (int j = 0; j < NQ; j++) {
        for (int k = 0; k < DIM; k++) {
            queries[j][k] = (float)(j * 2) + uniform();
        }
    }
    return 0;
}

static int teardown(void **state)
{
    unlink(path);
    return rmdir(folder); /* fails, and the run with it, when a build left something behind */
}

/* Share of the K nearest rows that results have; no score may be wrong, no order either. */
static double recall(const int64_t *found, const float *scores)
{
    int right = 0;
    for (int j = 0; j < NQ; j++) {
        const int64_t *f = found + j * K;
        const float *s = scores + j * K;
        int nearer = 0;
        for (int i = 0; i < K; i++) {
            assert_in_range(f[i], 0, ROWS - 1);
            float want = l2(queries[j], rows[f[i]]);
            assert_true(fabsf(s[i] - want) <= 1e-3f * (1 + want));
            assert_true(i == 0 || s[i] >= s[i - 1]);
        }
        for (int i = 0; i < ROWS; i++) {
            nearer += l2(queries[j], rows[i]) < s[K - 1];
        }
        right += nearer <= K ? K : K - (nearer - K);
    }
    return (double)right / (NQ * K);
}

static void test_search_when_file_is_opened_then_near_rows_are_found(void **state)
{
    for (size_t t = 0; t < NTYPES; t++) {
        struct elanus_index *ix = built(types[t].index, types[t].build);
        struct elanus_search s = { .k = K, .params = types[t].search };
        int64_t found[NQ * K];
        float scores[NQ * K];
        uint32_t counts[NQ];
        char text[256];
        OK(elanus_index_search(ix, &s, queries, NQ, NULL, scores, found, counts, &err));
        assert_true(recall(found, scores) >= (t == 0 ? 1.0 : 0.9));
        for (int j = 0; j < NQ; j++) {
            assert_int_equal(counts[j], K);
        }
        assert_true(elanus_index_describe(ix, text, sizeof text) < sizeof text);
        assert_memory_equal(text, "type=", 5);
        assert_memory_equal(text + 5, types[t].index, strlen(types[t].index));
        OK(elanus_index_validate(ix, &err));
        elanus_index_free(ix);
    }
}

static void test_build_when_threads_and_targets_differ_then_bytes_are_the_same(void **state)
{
    struct elanus_vectors v = vectors();
    for (size_t t = 0; t < NTYPES; t++) {
        struct elanus_buffer one = { 0 }, two = { 0 };
        struct elanus_build b = { .index = types[t].index, .params = types[t].build, .threads = 1 };
        OK(elanus_index_build_buffer(&v, &b, &one, &err));
        b.threads = 2;
        OK(elanus_index_build_buffer(&v, &b, &two, &err));
        assert_int_equal(one.size, two.size);
        assert_memory_equal(one.data, two.data, one.size);

        OK(elanus_index_build_file(&v, &b, path, &err));
        FILE *f = fopen(path, "rb");
        uint8_t *bytes = malloc(one.size + 1);
        assert_non_null(f);
        assert_int_equal(fread(bytes, 1, one.size + 1, f), one.size);
        assert_memory_equal(one.data, bytes, one.size);
        fclose(f);
        free(bytes);
        elanus_buffer_free(&one);
        elanus_buffer_free(&two);
        assert_null(one.data);
        elanus_buffer_free(&one);
    }
}

static void test_open_when_mapped_copied_or_in_memory_then_answers_agree(void **state)
{
    struct elanus_vectors v = vectors();
    for (size_t t = 0; t < NTYPES; t++) {
        struct elanus_build b = { .index = types[t].index, .params = types[t].build };
        struct elanus_open how[] = { { 0 }, { .copy = 1 }, { .copy = 1, .trusted = 1 } };
        struct elanus_search s = { .k = K, .params = types[t].search };
        struct elanus_buffer buf;
        struct elanus_index *ix = NULL;
        int64_t want[NQ * K], found[NQ * K];
        struct elanus_memory m;
        OK(elanus_index_build_buffer(&v, &b, &buf, &err));
        OK(elanus_index_open_memory(buf.data, buf.size, &v, &ix, &err));
        OK(elanus_index_search(ix, &s, queries, NQ, NULL, NULL, want, NULL, &err));
        elanus_index_memory(ix, &m);
        assert_int_equal(m.mapped, buf.size);
        elanus_index_free(ix);
        OK(elanus_index_build_file(&v, &b, path, &err));
        for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
            OK(elanus_index_open(path, &v, &how[i], &ix, &err));
            if (how[i].copy) {
                assert_int_equal(truncate(path, 0), 0); /* no longer needed */
            }
            memset(found, 0xff, sizeof found);
            OK(elanus_index_search(ix, &s, queries, NQ, NULL, NULL, found, NULL, &err));
            assert_memory_equal(want, found, sizeof want);
            elanus_index_free(ix);
            OK(elanus_index_build_file(&v, &b, path, &err));
        }
        elanus_buffer_free(&buf);
    }
}

static void test_build_when_something_does_not_fit_then_it_is_named(void **state)
{
    struct elanus_vectors v = vectors(), bad;
    struct elanus_build b = { .index = "HNSW" };
    struct elanus_buffer buf = { 0 };
    unlink(path);
    FAILS(ELANUS_INVALID, elanus_index_build_file(&v, NULL, path, &err), "no index");
    FAILS(ELANUS_INVALID, elanus_index_build_file(NULL, &b, path, &err), "no vectors");
    FAILS(ELANUS_INVALID, elanus_index_build_file(&v, &b, NULL, &err), "no path");
    b.index = "BALLTREE";
    FAILS(ELANUS_INVALID, elanus_index_build_file(&v, &b, path, &err), "BALLTREE");
    b.index = "HNSW";
    b.params = "M=1";
    FAILS(ELANUS_INVALID, elanus_index_build_file(&v, &b, path, &err), "M is '1'");
    b.params = "nlist=5";
    FAILS(ELANUS_INVALID, elanus_index_build_buffer(&v, &b, &buf, &err), "nlist");
    b.params = "M";
    FAILS(ELANUS_INVALID, elanus_index_build_buffer(&v, &b, &buf, &err), "key=value");
    b.params = "type=FLAT";
    FAILS(ELANUS_INVALID, elanus_index_build_buffer(&v, &b, &buf, &err), "type");
    b.params = NULL;
    b.threads = -1;
    FAILS(ELANUS_INVALID, elanus_index_build_file(&v, &b, path, &err), "threads");
    b.threads = 1;
    bad = v;
    bad.dim = 40000;
    FAILS(ELANUS_INVALID, elanus_index_build_file(&bad, &b, path, &err), "40000");
    bad = v;
    bad.metric = 77;
    FAILS(ELANUS_INVALID, elanus_index_build_file(&bad, &b, path, &err), "77");
    bad.metric = ELANUS_HAMMING;
    FAILS(ELANUS_INVALID, elanus_index_build_file(&bad, &b, path, &err), "HAMMING");
    bad = v;
    bad.count = (size_t)1 << 31;
    FAILS(ELANUS_INVALID, elanus_index_build_file(&bad, &b, path, &err), "2147483648");
    bad = v;
    bad.data = NULL;
    FAILS(ELANUS_INVALID, elanus_index_build_file(&bad, &b, path, &err), "without data");
    bad = v;
    bad.stride = DIM;
    assert_int_equal(elanus_index_build_file(&bad, &b, path, NULL), ELANUS_INVALID);
    FAILS(ELANUS_NOT_FOUND, elanus_index_build_file(&v, &b, "/nowhere/at/all", &err), "nowhere");
    assert_null(buf.data);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void test_open_when_file_is_wrong_then_code_says_how(void **state)
{
    struct elanus_vectors v = vectors(), other = vectors();
    struct elanus_index *ix = built("FLAT", NULL), *none = NULL;
    elanus_index_free(ix);
    other.count--;
    FAILS(ELANUS_INVALID, elanus_index_open(path, &other, NULL, &none, &err), "2999");
    other = vectors();
    other.metric = ELANUS_IP;
    FAILS(ELANUS_INVALID, elanus_index_open(path, &other, NULL, &none, &err), "IP");
    FAILS(ELANUS_NOT_FOUND, elanus_index_open("/nowhere", &v, NULL, &none, &err), "/nowhere");
    FAILS(ELANUS_CORRUPT, elanus_index_open(folder, &v, NULL, &none, &err), folder);
    FAILS(ELANUS_INVALID, elanus_index_open(NULL, &v, NULL, &none, &err), "path");
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, 9, SEEK_SET);
    fputc(0x5a, f);
    fclose(f);
    FAILS(ELANUS_CORRUPT, elanus_index_open(path, &v, NULL, &none, &err), "damaged");
    assert_int_equal(truncate(path, 100), 0);
    FAILS(ELANUS_CORRUPT, elanus_index_open(path, &v, NULL, &none, &err), "short");
    assert_int_equal(truncate(path, 0), 0);
    FAILS(ELANUS_CORRUPT, elanus_index_open(path, &v, NULL, &none, &err), "empty");
    FAILS(ELANUS_INVALID, elanus_index_open_memory((char *)rows + 1, 100, &v, &none, &err), "64");
    FAILS(ELANUS_INVALID, elanus_index_open_memory(NULL, 100, &v, &none, &err), "64");
    assert_null(none);
}

static void test_search_when_parameters_are_wrong_then_they_are_named(void **state)
{
    struct elanus_index *ix = built("HNSW", "M=8,efConstruction=40");
    struct elanus_search s = { .k = 0 };
    int64_t found[K];
    FAILS(ELANUS_INVALID,
          elanus_index_search(ix, &s, queries, 1, NULL, NULL, found, NULL, &err), "k is 0");
    s.k = 20000;
    FAILS(ELANUS_INVALID,
          elanus_index_search(ix, &s, queries, 1, NULL, NULL, found, NULL, &err), "16384");
    s.k = K;
    s.params = "nprobe=3";
    FAILS(ELANUS_INVALID,
          elanus_index_search(ix, &s, queries, 1, NULL, NULL, found, NULL, &err), "nprobe");
    s.params = "ef=0";
    FAILS(ELANUS_INVALID,
          elanus_index_search(ix, &s, queries, 1, NULL, NULL, found, NULL, &err), "ef is '0'");
    s.params = "ef";
    FAILS(ELANUS_INVALID,
          elanus_index_search(ix, &s, queries, 1, NULL, NULL, found, NULL, &err), "key=value");
    s.params = ",ef=20,,";
    OK(elanus_index_search(ix, &s, queries, 1, NULL, NULL, found, NULL, &err));
    assert_string_equal(err.message, "");
    FAILS(ELANUS_INVALID, elanus_index_search(ix, &s, NULL, 1, NULL, NULL, found, NULL, &err),
          "no queries");
    OK(elanus_index_search(ix, &s, NULL, 0, NULL, NULL, NULL, NULL, &err));
    elanus_index_free(ix);
}

static void test_search_when_filtered_then_only_allowed_rows_come(void **state)
{
    uint64_t allow[(ROWS + 63) / 64] = { 0 };
    for (size_t t = 0; t < NTYPES; t++) {
        struct elanus_index *ix = built(types[t].index, types[t].build);
        struct elanus_search s = { .k = K, .params = types[t].search };
        int64_t found[NQ * K], counted[NQ * K];
        uint32_t counts[NQ];
        memset(allow, 0, sizeof allow);
        for (int i = 0; i < ROWS; i += 500) {
            allow[i / 64] |= UINT64_C(1) << (i % 64);
        }
        struct elanus_filter f = { .allow = allow, .count = ROWS / 500 };
        OK(elanus_index_search(ix, &s, queries, NQ, &f, NULL, found, counts, &err));
        for (int j = 0; j < NQ; j++) { /* six rows: all of them, then filling */
            int64_t sum = 0;
            assert_int_equal(counts[j], 6);
            for (int i = 0; i < 6; i++) {
                sum += found[j * K + i];
            }
            assert_int_equal(sum, 500 * (0 + 1 + 2 + 3 + 4 + 5));
            for (int i = 6; i < K; i++) {
                assert_int_equal(found[j * K + i], -1);
            }
        }
        f.count = 0; /* to be counted */
        OK(elanus_index_search(ix, &s, queries, NQ, &f, NULL, counted, NULL, &err));
        assert_memory_equal(found, counted, sizeof found);
        memset(allow, 0, sizeof allow);
        OK(elanus_index_search(ix, &s, queries, NQ, &f, NULL, found, counts, &err));
        assert_int_equal(counts[NQ - 1], 0);
        assert_int_equal(found[0], -1);
        elanus_index_free(ix);
    }
}

static void test_search_when_bounded_then_scores_lie_within(void **state)
{
    struct elanus_index *ix = built("FLAT", NULL);
    float radius = 8, low = 2, scores[200];
    struct elanus_search s = { .k = 200, .radius = &radius, .range_filter = &low };
    int64_t found[200];
    uint32_t n;
    OK(elanus_index_search(ix, &s, queries[3], 1, NULL, scores, found, &n, &err));
    uint32_t want = 0;
    for (int i = 0; i < ROWS; i++) {
        float d = l2(queries[3], rows[i]);
        want += d >= low && d < radius;
    }
    assert_true(n > 0 && n < 200);
    assert_int_equal(n, want);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(scores[i] >= low && scores[i] < radius);
    }
    assert_int_equal(found[n], -1);
    assert_true(scores[n] == 0);
    elanus_index_free(ix);
}

static void test_searcher_when_run_again_then_it_equals_a_fresh_search(void **state)
{
    enum { MANY = 2100 }; /* more than go to the engine at once */
    struct elanus_index *ix = built("FLAT", NULL);
    struct elanus_search s = { .k = 3 };
    struct elanus_searcher *sr = NULL;
    struct elanus_counters c;
    int64_t *batch = malloc(sizeof *batch * MANY * 3), one[3];
    float *scores = malloc(sizeof *scores * MANY * 3);
    uint32_t *counts = malloc(sizeof *counts * MANY);
    OK(elanus_searcher_new(ix, &s, &sr, &err));
    OK(elanus_searcher_run(sr, queries[1], 1, NULL, NULL, one, NULL, &err));
    OK(elanus_searcher_run(sr, rows, MANY, NULL, scores, batch, counts, &err));
    for (int i = 0; i < MANY; i += 7) {
        assert_int_equal(batch[i * 3], i);
        assert_true(scores[i * 3] == 0);
        assert_int_equal(counts[i], 3);
        OK(elanus_searcher_run(sr, rows[i], 1, NULL, NULL, one, NULL, &err));
        assert_memory_equal(one, batch + i * 3, sizeof one);
    }
    elanus_searcher_counters(sr, &c);
    assert_int_equal(c.queries, 1 + MANY + MANY / 7);
    assert_int_equal(c.exact, c.queries * ROWS);
    assert_string_equal(c.strategy, "flat");
    elanus_searcher_free(sr);
    elanus_index_free(ix);
    free(batch);
    free(scores);
    free(counts);
}

struct stopper {
    atomic_int asked;
};

static int stop_now(void *arg)
{
    atomic_fetch_add(&((struct stopper *)arg)->asked, 1);
    return 1;
}

static int go_on(void *arg)
{
    atomic_fetch_add(&((struct stopper *)arg)->asked, 1);
    return 0;
}

static void see(void *arg, double done)
{
    assert_true(done >= 0 && done <= 1);
    if (done == 1) {
        atomic_fetch_add(&((struct stopper *)arg)->asked, 1000000);
    }
}

static void test_build_when_stopped_then_nothing_is_left(void **state)
{
    struct elanus_vectors v = vectors();
    struct stopper s = { 0 };
    struct elanus_build b = { .index = "HNSW", .stop = stop_now, .arg = &s, .threads = 2 };
    unlink(path);
    FAILS(ELANUS_CANCELLED, elanus_index_build_file(&v, &b, path, &err), "stopped");
    assert_true(s.asked > 0);
    assert_int_not_equal(access(path, F_OK), 0);
    s.asked = 0;
    b.stop = go_on;
    b.progress = see;
    OK(elanus_index_build_file(&v, &b, path, &err));
    assert_true(s.asked > 1000000); /* went on, and heard of the end */
}

static void test_iterator_when_read_to_its_end_then_every_row_came_once(void **state)
{
    uint64_t allow[(ROWS + 63) / 64];
    for (size_t t = 0; t < NTYPES; t++) {
        struct elanus_index *ix = built(types[t].index, types[t].build);
        struct elanus_iterator *it = NULL;
        struct elanus_filter f = { .allow = allow, .count = 500 };
        uint8_t seen[ROWS] = { 0 };
        uint32_t n = 64, total = 0;
        memset(allow, 0, sizeof allow);
        for (int i = 0; i < ROWS; i += 6) {
            allow[i / 64] |= UINT64_C(1) << (i % 64);
        }
        OK(elanus_iterator_new(ix, NULL, queries[2], &f, &it, &err));
        while (n == 64) {
            int64_t found[64];
            float scores[64];
            OK(elanus_iterator_next(it, 64, scores, found, &n, &err));
            for (uint32_t i = 0; i < n; i++) {
                assert_in_range(found[i], 0, ROWS - 1);
                assert_int_equal(found[i] % 6, 0);
                assert_false(seen[found[i]]);
                seen[found[i]] = 1;
            }
            total += n;
        }
        assert_int_equal(total, 500);
        elanus_iterator_free(it);
        elanus_index_free(ix);
    }
}

struct worker {
    const struct elanus_index *ix;
    const int64_t *want;
    bool same;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct elanus_search s = { .k = K, .params = "ef=40" };
    w->same = true;
    for (int round = 0; round < 20; round++) {
        int64_t found[NQ * K];
        if (elanus_index_search(w->ix, &s, queries, NQ, NULL, NULL, found, NULL, NULL) != 0 ||
            memcmp(found, w->want, sizeof found) != 0) {
            w->same = false;
        }
    }
    return NULL;
}

static void test_search_when_threads_share_an_index_then_answers_agree(void **state)
{
    struct elanus_index *ix = built("HNSW", "M=8,efConstruction=60");
    struct elanus_search s = { .k = K, .params = "ef=40" };
    int64_t want[NQ * K];
    struct worker w[3];
    pthread_t threads[3];
    OK(elanus_index_search(ix, &s, queries, NQ, NULL, NULL, want, NULL, &err));
    for (int i = 0; i < 3; i++) {
        w[i] = (struct worker){ .ix = ix, .want = want };
        assert_int_equal(pthread_create(&threads[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_true(w[i].same);
    }
    elanus_index_free(ix);
}

static void test_names_when_asked_then_they_are_there(void **state)
{
    assert_non_null(strchr(elanus_index_version(), '.'));
    assert_true(strlen(elanus_index_kernels()) > 0);
    assert_int_equal(elanus_index_limit_kernels("avx2"), ELANUS_INVALID); /* in use already */
    for (int i = ELANUS_OK; i <= ELANUS_INTERNAL; i++) {
        assert_string_not_equal(elanus_code_name(i), "unknown error");
    }
    assert_string_equal(elanus_code_name(4711), "unknown error");
    elanus_index_free(NULL);
    elanus_searcher_free(NULL);
    elanus_iterator_free(NULL);
    elanus_buffer_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_when_file_is_opened_then_near_rows_are_found),
        cmocka_unit_test(test_build_when_threads_and_targets_differ_then_bytes_are_the_same),
        cmocka_unit_test(test_open_when_mapped_copied_or_in_memory_then_answers_agree),
        cmocka_unit_test(test_build_when_something_does_not_fit_then_it_is_named),
        cmocka_unit_test(test_open_when_file_is_wrong_then_code_says_how),
        cmocka_unit_test(test_search_when_parameters_are_wrong_then_they_are_named),
        cmocka_unit_test(test_search_when_filtered_then_only_allowed_rows_come),
        cmocka_unit_test(test_search_when_bounded_then_scores_lie_within),
        cmocka_unit_test(test_searcher_when_run_again_then_it_equals_a_fresh_search),
        cmocka_unit_test(test_build_when_stopped_then_nothing_is_left),
        cmocka_unit_test(test_iterator_when_read_to_its_end_then_every_row_came_once),
        cmocka_unit_test(test_search_when_threads_share_an_index_then_answers_agree),
        cmocka_unit_test(test_names_when_asked_then_they_are_there),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
