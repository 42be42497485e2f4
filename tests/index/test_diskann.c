/*
 * test_diskann.c - the disk index: its layout and budgets, that every way of reading gives the same
 * answers, that the raw rows rest, filters, wild files, failing disks.
 */
#include "conform.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/hash.h"
#include "index/diskann/diskann_int.h"

#define DIM 64
#define NROWS 3000
#define NQ 24
#define K 10

static struct cf_set set;
static struct cf_file file;
static char *dir, *path;
static int fd = -1;

static void build_cached(const struct cf_set *s, uint32_t max_degree, double cache,
                         struct cf_file *ret)
{
    struct status st = STATUS_INIT;
    struct index_params p;
    index_params_init(&p, INDEX_DISKANN);
    p.max_degree = max_degree;
    p.search_list_size = 60;
    p.search_cache_budget_gb_ratio = cache;
    ASSERT_OK(cf_build(s, &p, NULL, ret, &st));
}

static void build(const struct cf_set *s, uint32_t max_degree, struct cf_file *ret)
{
    build_cached(s, max_degree, 0.1, ret);
}

static struct diskann *disk_of(struct index *ix)
{
    return CONTAINER_OF(ix, struct diskann, head);
}

static int set_up(void **state)
{
    struct status st = STATUS_INIT;
    cf_set_new(&set, METRIC_L2, VEC_F32, DIM, NROWS, NQ, 100, 1);
    build(&set, 24, &file);
    dir = unit_tmp_dir();
    path = path_join(dir, "index");
    ASSERT_OK(file_write_atomic(path, file.p, file.n, &st));
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    return 0;
}

static int tear_down(void **state)
{
    close(fd);
    mem_free(path);
    unit_tmp_remove(dir);
    mem_free(file.p);
    cf_set_done(&set);
    return 0;
}

static struct index *open_with(int from, const struct index_rows *rows)
{
    struct status st = STATUS_INIT;
    struct index *ix = NULL;
    struct index_source src = { .map = file.p, .size = file.n, .fd = from };
    ASSERT_OK(index_open(&src, rows, &ix, &st));
    return ix;
}

struct ask {
    uint32_t search_list, strategy, first, nq;
    const uint64_t *allow;
};

static struct topk *answer(const struct index *ix, const struct cf_set *s, struct ask a,
                           struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct index_search_params sp;
    index_search_params_init(&sp);
    sp.search_list = a.search_list;
    sp.strategy = a.strategy;
    struct index_query q = { .queries = s->queries + a.first * s->query_stride,
                             .query_stride = s->query_stride, .nq = a.nq ? a.nq : s->nq,
                             .params = &sp, .allow = a.allow,
                             .allow_count =
                                 a.allow ? (uint32_t)bits_count(a.allow, s->rows.nrows) : 0 };
    *c = (struct index_counters){ 0 };
    ASSERT_OK(topk_new(q.nq, K, cf_larger(s), NULL, &tk, &st));
    ASSERT_OK(index_search(ix, &q, tk, c, &st));
    topk_finish(tk);
    return tk;
}

static double recall_of(const struct index *ix, const struct cf_set *s, struct ask a,
                        struct index_counters *c)
{
    struct topk *truth = cf_truth(s, K, a.allow, NULL), *got = answer(ix, s, a, c);
    double recall = cf_recall(s, got, truth, a.allow);
    topk_free(truth);
    topk_free(got);
    return recall;
}

static uint64_t digest(const struct index *ix, struct ask a)
{
    struct index_counters c;
    struct topk *tk = answer(ix, &set, a, &c);
    uint64_t h = 1;
    for (uint32_t j = 0; j < tk->nq; j++) {
        for (uint32_t i = 0; i < topk_count(tk, j); i++) {
            h = (h ^ topk_row(tk, j, i)) * 1099511628211u;
        }
    }
    topk_free(tk);
    return h;
}

/* ---- Layout and budgets ---- */

static void test_layout_when_rows_are_short_or_long_then_pages_hold_several_or_several_hold_one(
    void **state)
{
    struct index_rows r = { .metric = METRIC_L2, .type = VEC_F32, .dim = 128 };
    struct diskann_meta m = { .degree = 56 };
    diskann__layout(&r, &m);
    assert_int_equal(m.record, 128 * 4 + 56 * 4);
    assert_int_equal(m.per_unit, 5);
    assert_int_equal(m.unit, 4096);
    r.dim = 1536;
    diskann__layout(&r, &m);
    assert_int_equal(m.per_unit, 1);
    assert_int_equal(m.unit, 8192);
    r.type = VEC_I8;
    r.dim = 3;
    m.degree = 1;
    diskann__layout(&r, &m);
    assert_int_equal(m.record, 8);
    assert_int_equal(m.per_unit, DISKANN_PER_UNIT);
}

static void test_build_when_budgets_are_given_then_memory_stays_inside(void **state)
{
    /* The cache's share goes to finer codes first. */
    static const double pq[] = { 0.06, 0.125, 0.125, 0.25 }, cache[] = { 0, 0.05, 0.1, 0.25 };
    struct cf_set s;
    size_t stride = 0;
    float slack = 0;
    cf_set_new(&s, METRIC_COSINE, VEC_F32, 256, 700, 2, 20, 2);
    for (size_t i = 0; i < ARRAY_LEN(pq); i++) {
        struct status st = STATUS_INIT;
        struct index_params p;
        struct cf_index x = { 0 };
        struct index_memory mem;
        index_params_init(&p, INDEX_DISKANN);
        p.max_degree = 16;
        p.search_list_size = 30;
        p.pq_code_budget_gb_ratio = pq[i];
        p.search_cache_budget_gb_ratio = cache[i];
        ASSERT_OK(cf_build(&s, &p, NULL, &x.file, &st));
        ASSERT_OK(cf_open(&s, &x.file, &x.ix, &st));
        ASSERT_OK(index_validate(x.ix, &st));
        index_memory(x.ix, &mem);
        double raw = 700 * 1024.0;
        assert_true((double)mem.resident <= raw * (pq[i] + cache[i]));
        const struct diskann_meta *m = &disk_of(x.ix)->meta;
        assert_true(i == 0 || (m->stride > stride && m->slack < slack));
        assert_true((double)m->stride >= 0.6 * raw * (pq[i] + MIN(cache[i], 0.1)) / 700);
        assert_true(i < 3 || m->nhot > 50);
        stride = m->stride;
        slack = m->slack;
        cf_index_done(&x);
    }
    cf_set_done(&s);
}

/* Five rows of 128 dimensions share a unit; the rows come five and five about a centre. */
static void test_build_when_rows_come_in_fives_then_each_five_shares_a_unit(void **state)
{
    enum { N = 1500 };
    struct cf_set s;
    struct cf_index x = { 0 };
    struct status st = STATUS_INIT;
    uint32_t together = 0, seen[N], unit_of[N];
    cf_set_new(&s, METRIC_L2, VEC_F32, 128, N, 1, N, 3);
    float *rows = (float *)(void *)s.data;
    for (uint32_t i = 0; i < N; i++) { /* row i and i + N / 5 ... */
        for (uint32_t k = 0; k < 128; k++) {
            const float *centre = rows + (size_t)(i % (N / 5)) * 128;
            rows[i * 128 + k] = centre[k] + 0.001f * (float)cf_uniform();
        }
    }
    build(&s, 56, &x.file);
    ASSERT_OK(cf_open(&s, &x.file, &x.ix, &st));
    const struct diskann *d = disk_of(x.ix);
    assert_int_equal(d->meta.per_unit, 5);
    memset(seen, 0, sizeof seen);
    for (uint32_t node = 0; node < N; node++) {
        seen[diskann_row(d, node)]++;
        unit_of[diskann_row(d, node)] = node / 5;
    }
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(seen[i], 1);
    }
    for (uint32_t i = 0; i < N / 5; i++) {
        bool one = true;
        for (uint32_t k = 1; k < 5; k++) {
            one = one && unit_of[i] == unit_of[i + k * (N / 5)];
        }
        together += one;
    }
    assert_true(together > N / 5 * 9 / 10); /* clusters may end inside a unit */
    ASSERT_OK(index_validate(x.ix, &st));
    cf_index_done(&x);
    cf_set_done(&s);
}

/* ---- Reading ---- */

static void test_search_when_nodes_are_hot_then_every_row_comes_once(void **state)
{
    struct cf_index x = { 0 };
    struct status st = STATUS_INIT;
    struct index_counters c;
    struct topk *got;
    const struct ask a = { .search_list = 300, .strategy = STRAT_GRAPH };
    build_cached(&set, 24, 0.3, &x.file);
    ASSERT_OK(cf_open(&set, &x.file, &x.ix, &st));
    assert_true(disk_of(x.ix)->meta.nhot > 100);
    got = answer(x.ix, &set, a, &c);
    for (uint32_t j = 0; j < NQ; j++) {
        assert_int_equal(topk_count(got, j), K);
        for (uint32_t i = 0; i < K; i++) {
            for (uint32_t o = 0; o < i; o++) {
                assert_true(topk_row(got, j, i) != topk_row(got, j, o));
            }
        }
    }
    topk_free(got);
    assert_int_equal(digest(x.ix, a), digest(x.ix, (struct ask){ .strategy = STRAT_FLAT }));
    cf_index_done(&x);
}

static void test_search_when_clusters_are_many_then_supers_lead_to_them(void **state)
{
    struct cf_set s;
    struct cf_index x = { 0 };
    struct status st = STATUS_INIT;
    struct index_params p;
    struct index_counters all, some;
    const struct ask a = { .search_list = 20, .strategy = STRAT_GRAPH };
    cf_set_new(&s, METRIC_COSINE, VEC_F32, 8, 17000, NQ, 500, 9);
    index_params_init(&p, INDEX_DISKANN);
    p.max_degree = 8;
    p.search_list_size = 12;
    ASSERT_OK(cf_build(&s, &p, NULL, &x.file, &st));
    ASSERT_OK(cf_open(&s, &x.file, &x.ix, &st));
    struct diskann *d = disk_of(x.ix);
    assert_true(d->meta.nclusters >= 16 && d->meta.nsupers > 2);
    const double whole = recall_of(x.ix, &s, a, &all);
    d->route = 1;
    const double part = recall_of(x.ix, &s, a, &some);
    assert_true(whole > 0.9 && part > whole - 0.1);
    assert_true(some.lists < all.lists && some.lists >= NQ);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_search_when_reads_go_through_a_ring_or_the_mapping_then_answers_are_the_same(
    void **state)
{
    struct index *ring = open_with(fd, &set.rows), *map = open_with(-1, &set.rows);
    assert_true(disk_of(ring)->fd >= 0 && disk_of(map)->fd < 0);
    /* Reads come back in any order, and so rows are looked at; a wide list makes up for it. */
    struct ask a = { .search_list = 300 };
    assert_int_equal(digest(ring, a), digest(map, a));
    a.strategy = STRAT_SCAN;
    assert_int_equal(digest(ring, a), digest(map, a));
    index_free(ring);
    index_free(map);
}

static void test_search_when_queries_come_together_or_alone_then_answers_are_the_same(void **state)
{
    struct index *ix = open_with(fd, &set.rows);
    struct index_counters c;
    struct topk *all = answer(ix, &set, (struct ask){ .search_list = 200 }, &c);
    for (uint32_t j = 0; j < NQ; j++) {
        struct topk *one = answer(ix, &set, (struct ask){ .search_list = 200, .first = j, .nq = 1 },
                                  &c);
        for (uint32_t i = 0; i < K; i++) {
            assert_int_equal(topk_row(all, j, i), topk_row(one, 0, i));
        }
        topk_free(one);
    }
    topk_free(all);
    index_free(ix);
}

static void test_search_when_rows_are_locked_away_then_it_does_without(void **state)
{
    struct index_counters c;
    const size_t n = ROUND_UP((size_t)NROWS * set.rows.stride, 4096);
    uint8_t *locked = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t allow[(NROWS + 63) / 64];
    bits_fill(allow, NROWS, true);
    memcpy(locked, set.data, (size_t)NROWS * set.rows.stride);
    struct index_rows rows = set.rows;
    rows.base = locked;
    struct index *ix = open_with(fd, &rows);
    assert_int_equal(mprotect(locked, n, PROT_NONE), 0);
    topk_free(answer(ix, &set, (struct ask){ .search_list = 50 }, &c));
    assert_true(c.reads > 0 && c.fallbacks == 0);
    for (uint32_t i = 0; i < NROWS; i += 2) {
        bit_clear(allow, i);
    }
    topk_free(answer(ix, &set, (struct ask){ .search_list = 50, .allow = allow }, &c));
    topk_free(answer(ix, &set,
                     (struct ask){ .search_list = 50, .allow = allow, .strategy = STRAT_GRAPH },
                     &c));
    index_free(ix);
    munmap(locked, n);
}

static void test_search_when_the_list_grows_then_it_reads_and_finds_more_but_not_all(void **state)
{
    struct index *ix = open_with(fd, &set.rows);
    struct index_counters few, many;
    double low = recall_of(ix, &set, (struct ask){ .search_list = 10, .strategy = STRAT_GRAPH },
                           &few);
    double high = recall_of(ix, &set, (struct ask){ .search_list = 100, .strategy = STRAT_GRAPH },
                            &many);
    assert_true(high >= low && high > 0.97);
    assert_true(few.reads > 0 && many.reads >= few.reads);
    /* Far less than the list: units are shared, hot nodes kept, and the walk knows when to end. */
    assert_true(many.reads < 100 * NQ);
    index_free(ix);
}

static void test_search_when_rows_are_equal_by_the_thousand_then_not_all_codes_are_compared(
    void **state)
{
    enum { N = 9000 };
    struct cf_set s;
    struct cf_index x = { 0 };
    struct index_counters c;
    struct status st = STATUS_INIT;
    cf_set_new(&s, METRIC_L2, VEC_F32, 8, N, 1, 1, 4);
    for (uint32_t i = 1; i < N; i++) {
        memcpy((uint8_t *)s.data + (size_t)i * s.rows.stride, s.data, s.rows.stride);
    }
    build(&s, 8, &x.file);
    ASSERT_OK(cf_open(&s, &x.file, &x.ix, &st));
    assert_int_equal(disk_of(x.ix)->meta.nclusters, 1);
    const struct ask a = { .search_list = 20, .strategy = STRAT_GRAPH };
    struct topk *tk = answer(x.ix, &s, a, &c);
    assert_int_equal(topk_count(tk, 0), K);
    assert_true(c.distances < 5000 && c.fallbacks == 0);
    topk_free(tk);
    cf_index_done(&x);
    cf_set_done(&s);
}

static void test_search_when_few_rows_are_allowed_then_their_codes_are_compared(void **state)
{
    struct index *ix = open_with(fd, &set.rows);
    struct index_counters c;
    uint64_t allow[(NROWS + 63) / 64];
    bits_fill(allow, NROWS, false);
    for (uint32_t i = 0; i < NROWS; i += 50) {
        bit_set(allow, i);
    }
    assert_true(recall_of(ix, &set, (struct ask){ .search_list = 30, .allow = allow }, &c) > 0.99);
    assert_int_equal(c.strategy, STRAT_SCAN);
    assert_true(c.distances <= NROWS / 50 * NQ && c.reads <= 30 * NQ);
    index_free(ix);
}

static void test_search_when_half_is_allowed_and_the_graph_is_walked_then_recall_holds(void **state)
{
    struct index *ix = open_with(fd, &set.rows);
    struct index_counters c;
    uint64_t allow[(NROWS + 63) / 64];
    bits_fill(allow, NROWS, false);
    for (uint32_t i = 0; i < NROWS; i += 2) {
        bit_set(allow, i);
    }
    struct ask a = { .search_list = 40, .allow = allow, .strategy = STRAT_GRAPH };
    assert_true(recall_of(ix, &set, a, &c) > 0.95);
    assert_int_equal(c.strategy, STRAT_GRAPH);
    index_free(ix);
}

/* ---- What goes wrong ---- */

static void test_search_when_the_file_is_cut_short_then_it_fails_and_recovers(void **state)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    char *other = path_join(dir, "cut");
    ASSERT_OK(file_write_atomic(other, file.p, file.n, &st));
    int cut = open(other, O_RDWR);
    struct index *ix = open_with(cut, &set.rows);
    struct ask a = { .search_list = 250, .strategy = STRAT_GRAPH };
    uint64_t want = digest(ix, a);
    assert_int_equal(ftruncate(cut, 4096), 0);
    struct index_query q = { .queries = set.queries, .query_stride = set.query_stride, .nq = NQ };
    ASSERT_OK(topk_new(NQ, K, false, NULL, &tk, &st));
    assert_int_equal(index_search(ix, &q, tk, NULL, &st), ST_IO);
    topk_free(tk);
    assert_int_equal(pwrite(cut, file.p, file.n, 0), (ssize_t)file.n);
    assert_int_equal(digest(ix, a), want);
    index_free(ix);
    close(cut);
    mem_free(other);
}

static int stop(void *arg, struct status *st)
{
    int *left = arg;
    return (*left)-- > 0 ? 0 : st_fail(st, ST_TIMEOUT, "late");
}

static void test_search_when_the_deadline_passes_with_reads_under_way_then_the_next_is_whole(
    void **state)
{
    struct status st = STATUS_INIT;
    struct topk *tk;
    struct index *ix = open_with(fd, &set.rows);
    struct ask a = { .search_list = 250, .strategy = STRAT_GRAPH };
    uint64_t want = digest(ix, a);
    for (int left = 0; left < 12; left++) {
        int budget = left;
        struct index_query q = { .queries = set.queries, .query_stride = set.query_stride, .nq = NQ,
                                 .check = stop, .check_arg = &budget };
        ASSERT_OK(topk_new(NQ, K, false, NULL, &tk, &st));
        assert_int_equal(index_search(ix, &q, tk, NULL, &st), ST_TIMEOUT);
        topk_free(tk);
        assert_int_equal(digest(ix, a), want);
    }
    index_free(ix);
}

static const struct ix_entry *entry_of(const struct index *ix, uint32_t tag)
{
    for (uint32_t i = 0; i < ix->file.nsections; i++) {
        if (ix->file.entries[i].tag == tag) {
            return &ix->file.entries[i];
        }
    }
    fail_msg("no section");
    return NULL;
}

static void test_search_when_numbers_in_the_file_are_wild_then_it_stays_inside(void **state)
{
    static const uint32_t tags[] = { DISKANN_PAGE, DISKANN_PERM, DISKANN_HOTB, DISKANN_HOTR };
    struct cf_set s;
    struct cf_index x = { 0 };
    struct status st = STATUS_INIT;
    cf_set_new(&s, METRIC_IP, VEC_F32, 16, 900, 3, 40, 6);
    build_cached(&s, 12, 0.3, &x.file);
    ASSERT_OK(cf_open(&s, &x.file, &x.ix, &st));
    assert_true(disk_of(x.ix)->meta.nhot > 0);
    uint8_t *copy = alloc_try_aligned(4096, ROUND_UP(x.file.n, 4096));
    for (int round = 0; round < 120; round++) {
        struct index *y;
        struct index_counters c;
        const struct ix_entry *e = entry_of(x.ix, tags[round % 4]);
        memcpy(copy, x.file.p, x.file.n);
        for (int i = 0; i < 1 + 4 * round && e->size >= 4; i++) { /* one word, to many */
            uint32_t wild = (uint32_t)(cf_uniform() * (round % 8 < 4 ? 4294967295.0 : 1200.0));
            memcpy(copy + e->offset + (size_t)(cf_uniform() * (double)(e->size / 4)) * 4, &wild, 4);
        }
        struct index_source src = { .map = copy, .size = x.file.n, .fd = -1, .trusted = true };
        ASSERT_OK(index_open(&src, &s.rows, &y, &st));
        struct topk *tk = answer(y, &s, (struct ask){ .search_list = 60, .strategy = STRAT_GRAPH },
                                 &c);
        for (uint32_t j = 0; j < s.nq; j++) {
            for (uint32_t i = 0; i < topk_count(tk, j); i++) {
                assert_true(topk_row(tk, j, i) < s.rows.nrows);
            }
        }
        topk_free(tk);
        index_free(y);
    }
    mem_free(copy);
    cf_index_done(&x);
    cf_set_done(&s);
}

/* A file whose META says `version`, sums mended, is opened. */
static int open_of_version(const struct index *ix, uint32_t version, bool mend, struct status *st)
{
    uint8_t *copy = alloc_try_aligned(4096, ROUND_UP(file.n, 4096)), *tail = copy + file.n - 32;
    size_t table = (size_t)((const uint8_t *)ix->file.entries - ix->file.map);
    struct ix_entry *e = (struct ix_entry *)(void *)(copy + table);
    uint32_t crc;
    memcpy(copy, file.p, file.n);
    e += entry_of(ix, DISKANN_META) - ix->file.entries;
    memcpy(copy + e->offset + offsetof(struct diskann_meta, version), &version, sizeof version);
    if (mend) {
        e->crc = crc32c(0, copy + e->offset, e->size);
        crc = crc32c(0, copy + table, ix->file.nsections * sizeof *e);
        memcpy(tail + 12, &crc, sizeof crc);
        crc = crc32c(0, tail, 28);
        memcpy(tail + 28, &crc, sizeof crc);
    }
    struct index_source src = { .map = copy, .size = file.n, .fd = -1 };
    struct index *made = NULL;
    st_clear(st);
    int rc = index_open(&src, &set.rows, &made, st);
    index_free(made);
    mem_free(copy);
    return rc;
}

/* Files from before META began with a number have their rows there. */
static void test_open_when_the_meta_is_of_another_version_then_it_is_no_damage(void **state)
{
    struct status st = STATUS_INIT;
    struct index *ix = open_with(-1, &set.rows);
    ASSERT_OK(open_of_version(ix, DISKANN_VERSION, true, &st));
    assert_int_equal(open_of_version(ix, DISKANN_VERSION + 1, true, &st), ST_UNSUPPORTED);
    assert_non_null(strstr(st.msg, "DISKANN of version 3, this program reads 2"));
    assert_int_equal(open_of_version(ix, NROWS, true, &st), ST_UNSUPPORTED);
    assert_int_equal(open_of_version(ix, DISKANN_VERSION + 1, false, &st), ST_CORRUPT);
    index_free(ix);
}

/* One lie each that leaves every number in range. */
static void test_validate_when_a_record_lies_then_it_says_so(void **state)
{
    struct index *ix = open_with(-1, &set.rows);
    struct diskann broken = *disk_of(ix);
    const struct ix_entry *e = entry_of(ix, DISKANN_PAGE);
    uint8_t *units = alloc_try(e->size);
    uint32_t *perm = alloc_try(NROWS * sizeof *perm);
    struct status st = STATUS_INIT;
    ASSERT_OK(index_validate(ix, &st));
    for (int lie = 0; lie < 4; lie++) {
        memcpy(units, file.p + e->offset, e->size);
        memcpy(perm, broken.perm, sizeof *perm * NROWS);
        broken.units = units;
        uint32_t *links = (uint32_t *)(void *)(units + broken.links_at);
        switch (lie) {
        case 0: /* of the vector */
            units[5] ^= 1;
            break;
        case 1: /* to itself */
            links[0] = 0;
            break;
        case 2: /* to nowhere */
            links[0] = NROWS;
            break;
        default: /* node 0 leads on no more */
            memset(links, 0xff, broken.meta.degree * sizeof *links);
            break;
        }
        assert_int_equal(diskann_ops.validate(&broken.head, &st), ST_CORRUPT);
    }
    broken.units = file.p + e->offset;
    perm[3] = perm[4];
    broken.perm = perm;
    assert_int_equal(diskann_ops.validate(&broken.head, &st), ST_CORRUPT);
    mem_free(units);
    mem_free(perm);
    index_free(ix);
}

struct both {
    struct index *ix;
    uint64_t got[8];
};

static void one_of_both(void *ctx, size_t i)
{
    struct both *b = ctx;
    b->got[i] = digest(b->ix, (struct ask){ .search_list = 200 });
}

static void test_search_when_two_threads_do_then_each_has_its_own(void **state)
{
    struct index *ix = open_with(fd, &set.rows);
    uint64_t want = digest(ix, (struct ask){ .search_list = 200 });
    struct both both = { .ix = ix };
    struct pool *pool = pool_new("search", 2, 16);
    parallel_for(pool, 8, one_of_both, &both);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(both.got[i], want);
    }
    pool_free(pool);
    index_free(ix);
}

/* As container runtimes do it. */
static int forbid(long call)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { .len = ARRAY_LEN(f), .filter = f };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static void test_search_when_rings_are_forbidden_then_plain_reads_give_the_same_answers(
    void **state)
{
    struct index *ix = open_with(fd, &set.rows);
    struct ask a = { .search_list = 300 };
    uint64_t want = digest(ix, a);
    index_free(ix);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct status st = STATUS_INIT;
        struct diskann_io *io;
        if (forbid(SYS_io_uring_setup) != 0 || diskann__io_new(fd, file.p, 4, &io, &st) != 0 ||
            diskann__io_kind(io) != DISKANN_IO_PREAD) {
            _exit(2);
        }
        diskann__io_free(io);
        ix = open_with(fd, &set.rows);
        _exit(digest(ix, a) == want ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* From 0 on: what a ring gave back before and after it takes no more. */
static int reads_of_a_failing_ring(void)
{
    struct status st = STATUS_INIT;
    struct diskann_io *io;
    uint8_t *buf = alloc_try_aligned(4096, 4 * 4096);
    uint32_t slot;
    if (!buf || diskann__io_new(fd, file.p, 4, &io, &st) != 0) {
        return -1;
    }
    if (diskann__io_kind(io) != DISKANN_IO_URING) {
        return 0; /* this machine has none */
    }
    diskann__io_read(io, 7, 0, buf, 4096);
    diskann__io_send(io);
    if (forbid(SYS_io_uring_enter) != 0) {
        return -2;
    }
    for (uint32_t i = 1; i < 4; i++) { /* these never leave */
        diskann__io_read(io, i, 0, buf + i * 4096, 4096);
    }
    diskann__io_drain(io);
    if (diskann__io_kind(io) != DISKANN_IO_PREAD) {
        return -3;
    }
    diskann__io_read(io, 9, 0, buf, 4096);
    if (diskann__io_wait(io, &slot, &st) != 0 || slot != 9 || memcmp(buf, file.p, 4096) != 0) {
        return -4;
    }
    diskann__io_free(io);
    mem_free(buf);
    return 0;
}

static void test_io_when_a_ring_takes_no_more_then_it_is_done_without(void **state)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(-reads_of_a_failing_ring());
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_io_when_a_ring_takes_no_more_then_it_is_done_without),
        cmocka_unit_test(
            test_layout_when_rows_are_short_or_long_then_pages_hold_several_or_several_hold_one),
        cmocka_unit_test(test_build_when_budgets_are_given_then_memory_stays_inside),
        cmocka_unit_test(test_build_when_rows_come_in_fives_then_each_five_shares_a_unit),
        cmocka_unit_test(test_search_when_nodes_are_hot_then_every_row_comes_once),
        cmocka_unit_test(test_search_when_clusters_are_many_then_supers_lead_to_them),
        cmocka_unit_test(
            test_search_when_reads_go_through_a_ring_or_the_mapping_then_answers_are_the_same),
        cmocka_unit_test(test_search_when_queries_come_together_or_alone_then_answers_are_the_same),
        cmocka_unit_test(test_search_when_rows_are_locked_away_then_it_does_without),
        cmocka_unit_test(test_search_when_the_list_grows_then_it_reads_and_finds_more_but_not_all),
        cmocka_unit_test(
            test_search_when_rows_are_equal_by_the_thousand_then_not_all_codes_are_compared),
        cmocka_unit_test(test_search_when_few_rows_are_allowed_then_their_codes_are_compared),
        cmocka_unit_test(
            test_search_when_half_is_allowed_and_the_graph_is_walked_then_recall_holds),
        cmocka_unit_test(test_search_when_the_file_is_cut_short_then_it_fails_and_recovers),
        cmocka_unit_test(
            test_search_when_the_deadline_passes_with_reads_under_way_then_the_next_is_whole),
        cmocka_unit_test(test_search_when_numbers_in_the_file_are_wild_then_it_stays_inside),
        cmocka_unit_test(test_open_when_the_meta_is_of_another_version_then_it_is_no_damage),
        cmocka_unit_test(test_validate_when_a_record_lies_then_it_says_so),
        cmocka_unit_test(test_search_when_two_threads_do_then_each_has_its_own),
        cmocka_unit_test(
            test_search_when_rings_are_forbidden_then_plain_reads_give_the_same_answers),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
