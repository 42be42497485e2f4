/*
 * test_wal_recover.c - what opening and reading make of damaged log files: byte by byte.
 *
 * Works on the file double for speed; no power is lost here, the damage is written by the test.
 */
#include "wal_test.h"
#include "alloc_torture.h"
#include "base/buf.h"
#include "base/hash.h"
#include "file_crash.h"
#include "wal/wal_int.h"

static struct crash_fs *fs;

static int setup(void **state)
{
    (void)state;
    fs = crash_fs_new(7);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    crash_fs_free(fs);
    return 0;
}

static struct wal_opts opts_of(uint64_t term, uint64_t file_size)
{
    return (struct wal_opts){.dir = "log", .term = term, .file_size = file_size};
}
static struct wal *open_log(uint64_t file_size)
{
    struct wal_opts opts = opts_of(1, file_size);
    struct wal *w = NULL;
    OK(wal_local_open(&opts, &w, st));
    return w;
}

struct bytes {
    uint8_t *p;
    size_t n;
};
static struct bytes slurp(const char *path)
{
    struct bytes b;
    OK(file_read_all(path, 1 << 20, &b.p, &b.n, st));
    return b;
}
static void spill(const char *path, const uint8_t *p, size_t n)
{
    struct file *f = NULL;
    OK(file_open(path, FILE_WRITE | FILE_CREATE | FILE_TRUNC, &f, st));
    OK(file_append(f, p, n, st));
    file_close(f);
}

#define FILE_ONE "log/00000000000000000001.log"

/* A log of n records, each appended alone, in one file; ends[i] is where record i + 1 ends. */
static struct bytes make_log(size_t n, uint64_t *ends)
{
    struct wal *w = open_log(0);
    struct wal_stats stats;
    for (size_t i = 0; i < n; i++) {
        test_fill(w, 1);
        wal_get_stats(w, &stats);
        ends[i] = stats.bytes;
    }
    OK(wal_close(w, st));
    return slurp(FILE_ONE);
}

/* Opens what is there; 0 and the last position, or the code. Reads everything when it opens. */
static int try_open(uint64_t *ret_last, uint64_t *ret_cut)
{
    struct wal_opts opts = opts_of(1, 0);
    struct status st = STATUS_INIT;
    struct wal_stats stats;
    struct wal *w = NULL;
    int rc = wal_local_open(&opts, &w, &st);
    if (rc != 0) {
        assert_non_null(strstr(st.msg, "log/"));
        return rc;
    }
    wal_get_stats(w, &stats);
    *ret_last = stats.last;
    *ret_cut = stats.cut_bytes;
    test_check_range(w, 1, stats.last);
    assert_int_equal(wal_close(w, &st), 0);
    return 0;
}

enum { N = 6 };

static void test_open_when_file_ends_anywhere_then_whole_records_stay(void **state)
{
    uint64_t ends[N], last = 0, cut = 0;
    struct bytes b = make_log(N, ends);
    for (size_t len = WAL_FILE_HEADER; len <= b.n; len++) {
        size_t whole = 0;
        while (whole < N && ends[whole] <= len) {
            whole++;
        }
        spill(FILE_ONE, b.p, len);
        assert_int_equal(try_open(&last, &cut), 0);
        assert_int_equal(last, whole);
    }
    for (size_t len = 0; len < WAL_FILE_HEADER; len++) {
        spill(FILE_ONE, b.p, len);
        assert_int_equal(try_open(&last, &cut), ST_CORRUPT);
    }
    mem_free(b.p);
}

static void test_open_when_any_byte_is_flipped_then_never_a_silent_loss(void **state)
{
    uint64_t ends[N], last = 0, cut = 0;
    struct bytes b = make_log(N, ends);
    size_t cuts = 0, corrupt = 0, harmless = 0;
    for (size_t i = 0; i < b.n; i++) {
        b.p[i] ^= 0x41;
        spill(FILE_ONE, b.p, b.n);
        int rc = try_open(&last, &cut);
        if (i >= ends[N - 2]) {
            /* The last record: nothing behind it proves that it was durable. */
            assert_int_equal(rc, 0);
            assert_true(last == N || (last == N - 1 && cut > 0));
            cuts += last == N - 1;
        } else if (rc == 0) {
            assert_int_equal(last, N); /* padding */
            harmless++;
        } else {
            struct bytes now = slurp(FILE_ONE);
            assert_true(rc == ST_CORRUPT || rc == ST_UNSUPPORTED);
            assert_int_equal(now.n, b.n); /* nothing was changed */
            assert_memory_equal(now.p, b.p, b.n);
            mem_free(now.p);
            corrupt++;
        }
        b.p[i] ^= 0x41;
    }
    assert_true(cuts >= WAL_RECORD_HEADER);
    assert_true(corrupt >= WAL_FILE_HEADER + (N - 1) * WAL_RECORD_HEADER);
    assert_true(harmless < N * WAL_ALIGN);
    mem_free(b.p);
}

static void test_open_when_a_middle_record_is_damaged_then_file_and_offset_are_named(void **state)
{
    uint64_t ends[N];
    struct bytes b = make_log(N, ends);
    struct wal_opts opts = opts_of(1, 0);
    struct wal *w = NULL;
    char where[64];
    b.p[ends[1] + WAL_RECORD_HEADER] ^= 1;
    spill(FILE_ONE, b.p, b.n);
    (void)snprintf(where, sizeof where, "%s is damaged at offset %llu", FILE_ONE,
                   (unsigned long long)ends[1]);
    FAILS(wal_local_open(&opts, &w, st), ST_CORRUPT, where);
    FAILS(wal_local_open(&opts, &w, st), ST_CORRUPT, "record 3");
    FAILS(wal_local_open_readonly("log", &w, st), ST_CORRUPT, where);
    mem_free(b.p);
}

static void test_open_when_zeros_follow_then_clean_end(void **state)
{
    uint64_t ends[N], last = 0, cut = 1;
    struct bytes b = make_log(N, ends);
    uint8_t *longer = xalloc(b.n + 100000);
    memcpy(longer, b.p, b.n);
    spill(FILE_ONE, longer, b.n + 100000);
    assert_int_equal(try_open(&last, &cut), 0);
    assert_int_equal(last, N);
    assert_int_equal(cut, 0);
    struct bytes now = slurp(FILE_ONE);
    assert_int_equal(now.n, b.n);
    mem_free(now.p);

    /* Garbage between zeros is reported up to its last byte. */
    longer[b.n + 5000] = 9;
    spill(FILE_ONE, longer, b.n + 100000);
    assert_int_equal(try_open(&last, &cut), 0);
    assert_int_equal(last, N);
    assert_int_equal(cut, 5001);
    mem_free(longer);
    mem_free(b.p);
}

static void test_open_when_zeros_replace_a_middle_record_then_corrupt(void **state)
{
    uint64_t ends[N], last = 0, cut = 0;
    struct bytes b = make_log(N, ends);
    memset(b.p + ends[1], 0, ends[2] - ends[1]);
    spill(FILE_ONE, b.p, b.n);
    assert_int_equal(try_open(&last, &cut), ST_CORRUPT);
    mem_free(b.p);
}

static void test_open_when_readonly_then_a_torn_tail_is_shown_and_kept(void **state)
{
    uint64_t ends[N];
    struct bytes b = make_log(N, ends), now;
    struct wal *w = NULL;
    struct wal_stats stats;
    spill(FILE_ONE, b.p, ends[N - 1] - 3);
    OK(wal_local_open_readonly("log", &w, st));
    wal_get_stats(w, &stats);
    assert_int_equal(stats.last, N - 1);
    assert_true(stats.cut_bytes > 0);
    test_check_range(w, 1, N - 1);
    FAILS(test_append(w, 1, 1, NULL, st), ST_DENIED, "read-only");
    FAILS(wal_truncate_before(w, 3, st), ST_DENIED, "read-only");
    OK(wal_close(w, st));
    now = slurp(FILE_ONE);
    assert_int_equal(now.n, ends[N - 1] - 3);
    mem_free(now.p);
    mem_free(b.p);
    FAILS(wal_local_open_readonly("nowhere", &w, st), ST_NOT_FOUND, "nowhere");
}

/* Files of one record or so each. */
static void make_files(uint64_t n)
{
    struct wal *w = open_log(200);
    for (uint64_t i = 0; i < n; i++) {
        test_fill(w, 1);
    }
    OK(wal_close(w, st));
}

static void test_reader_when_an_older_file_is_damaged_then_corrupt_at_that_record(void **state)
{
    struct wal_reader *r = NULL;
    struct wal_record rec;
    bool found;
    uint64_t *firsts;
    size_t n;
    make_files(20);
    OK(wal__files_find("log", false, &firsts, &n, st));
    assert_true(n > 4);
    char *path = wal__file_path("log", firsts[2]);
    struct bytes b = slurp(path);
    b.p[WAL_FILE_HEADER + 9] ^= 1;
    spill(path, b.p, b.n);
    struct wal *w = open_log(200);
    OK(wal_reader_open(w, 1, &r, st));
    for (uint64_t p = 1; p < firsts[2]; p++) {
        OK(wal_reader_next(r, &rec, &found, st));
        test_check_record(&rec, p);
    }
    FAILS(wal_reader_next(r, &rec, &found, st), ST_CORRUPT, path);
    FAILS(wal_reader_next(r, &rec, &found, st), ST_CORRUPT, "offset 64");
    wal_reader_close(r);
    test_check_range(w, firsts[3], 20);
    OK(wal_close(w, st));
    mem_free(b.p);
    mem_free(path);
    mem_free(firsts);
}

static void test_reader_when_a_file_is_missing_then_corrupt(void **state)
{
    struct wal_reader *r = NULL;
    struct wal_record rec;
    bool found;
    uint64_t *firsts;
    size_t n;
    make_files(20);
    OK(wal__files_find("log", false, &firsts, &n, st));
    char *path = wal__file_path("log", firsts[2]);
    OK(path_unlink(path, st));
    struct wal *w = open_log(200);
    OK(wal_reader_open(w, 1, &r, st));
    for (uint64_t p = 1; p < firsts[2]; p++) {
        OK(wal_reader_next(r, &rec, &found, st));
    }
    FAILS(wal_reader_next(r, &rec, &found, st), ST_CORRUPT, "is missing");
    wal_reader_close(r);
    OK(wal_close(w, st));
    mem_free(path);
    mem_free(firsts);
}

static void test_open_when_names_are_strange_then_ignored_and_leftovers_removed(void **state)
{
    uint64_t ends[N], last = 0, cut = 0, size;
    struct bytes b = make_log(N, ends);
    bool exists, is_dir;
    static const char *const names[] = {"log/readme",
                                        "log/1.log",
                                        "log/0000000000000000000x.log",
                                        "log/00000000000000000000.log",
                                        "log/99999999999999999999.log",
                                        "log/00000000000000000007.log.tmp"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        spill(names[i], b.p, 10);
    }
    assert_int_equal(try_open(&last, &cut), 0);
    assert_int_equal(last, N);
    OK(path_stat("log/readme", &exists, &is_dir, &size, st));
    assert_true(exists);
    OK(path_stat(names[5], &exists, &is_dir, &size, st));
    assert_false(exists);
    mem_free(b.p);
}

static void test_open_when_file_is_newer_or_misnamed_then_refused(void **state)
{
    uint64_t ends[N];
    struct bytes b = make_log(N, ends);
    struct wal_opts opts = opts_of(1, 0);
    struct wal *w = NULL;
    struct wal_file_header h;
    spill("log/00000000000000000009.log", b.p, b.n);
    FAILS(wal_local_open(&opts, &w, st), ST_CORRUPT, "begins at 1");
    OK(path_unlink("log/00000000000000000009.log", st));
    OK(wal__file_header_get(b.p, b.n, "f", &h, st));
    wal__file_header_put(b.p, &h);
    store_u32(b.p + 8, WAL_FORMAT_VERSION + 1);
    store_u32(b.p + 60, crc32c(0, b.p, 60));
    spill(FILE_ONE, b.p, b.n);
    FAILS(wal_local_open(&opts, &w, st), ST_UNSUPPORTED, "format 2");
    mem_free(b.p);
}

static void test_open_when_term_file_is_damaged_then_corrupt(void **state)
{
    static const char *const bad[] = {"",         "term",     "term \n",
                                      "term x\n", "term 0\n", "term -1\n",
                                      "term 1",   "TERM 1\n", "term 99999999999999999999\n"};
    struct wal_opts opts = opts_of(1, 0);
    struct wal *w = open_log(0);
    OK(wal_close(w, st));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        spill("log/term", (const uint8_t *)bad[i], strlen(bad[i]));
        FAILS(wal_local_open(&opts, &w, st), ST_CORRUPT, "log/term");
    }
    spill("log/term", (const uint8_t *)"term 5\n", 7);
    FAILS(wal_local_open(&opts, &w, st), ST_FENCED, "term 5");
}

static void test_open_when_a_torn_payload_holds_log_records_then_only_cut(void **state)
{
    uint64_t ends[N], last = 0, cut = 0, first;
    struct bytes b = make_log(N, ends);
    struct wal *w;
    OK(path_remove_tree("log", st));
    w = open_log(0);
    test_fill(w, 2);
    /* A payload that is a piece of another log, with positions that would fit here. */
    struct file_part part = {b.p + ends[1], (size_t)(ends[N - 1] - ends[1])};
    struct wal_entry e = {&part, 1, 1};
    OK(wal_append(w, &e, 1, &first, st));
    OK(wal_close(w, st));
    struct bytes now = slurp(FILE_ONE);
    now.p[ends[1] + 4] ^= 1; /* its checksum */
    spill(FILE_ONE, now.p, now.n);
    assert_int_equal(try_open(&last, &cut), 0);
    assert_int_equal(last, 2);
    mem_free(now.p);
    mem_free(b.p);
}

static void test_open_and_read_when_memory_is_gone_then_status(void **state)
{
    uint64_t ends[N];
    struct bytes b = make_log(N, ends);
    mem_free(b.p);
    ALLOC_TORTURE
    {
        struct status st = STATUS_INIT;
        struct wal *w = NULL;
        struct wal_reader *r = NULL;
        struct wal_record rec;
        bool found = true;
        struct wal_opts opts = opts_of(1, 0);
        uint64_t first, before = 0;
        struct file_part part = {"x", 1};
        struct wal_entry e = {&part, 1, 1};
        int rc = wal_local_open(&opts, &w, &st);
        if (rc == 0) {
            before = wal_last_position(w);
            rc = wal_reader_open(w, 1, &r, &st);
        }
        while (rc == 0 && found) {
            rc = wal_reader_next(r, &rec, &found, &st);
        }
        if (rc == 0) {
            rc = wal_append(w, &e, 1, &first, &st);
            assert_int_equal(wal_last_position(w), before + (rc == 0));
        }
        assert_true(rc == 0 || rc == ST_NO_MEMORY);
        wal_reader_close(r);
        (void)wal_close(w, &st);
    }
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_open_when_file_ends_anywhere_then_whole_records_stay),
        CASE(test_open_when_any_byte_is_flipped_then_never_a_silent_loss),
        CASE(test_open_when_a_middle_record_is_damaged_then_file_and_offset_are_named),
        CASE(test_open_when_zeros_follow_then_clean_end),
        CASE(test_open_when_zeros_replace_a_middle_record_then_corrupt),
        CASE(test_open_when_readonly_then_a_torn_tail_is_shown_and_kept),
        CASE(test_reader_when_an_older_file_is_damaged_then_corrupt_at_that_record),
        CASE(test_reader_when_a_file_is_missing_then_corrupt),
        CASE(test_open_when_names_are_strange_then_ignored_and_leftovers_removed),
        CASE(test_open_when_file_is_newer_or_misnamed_then_refused),
        CASE(test_open_when_term_file_is_damaged_then_corrupt),
        CASE(test_open_when_a_torn_payload_holds_log_records_then_only_cut),
        CASE(test_open_and_read_when_memory_is_gone_then_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
