/* test_meta_rocksdb.c - what only the RocksDB store has: locks, damage, read-only views, size. */
#include "expect.h"
#include "base/clock.h"
#include "base/fault.h"
#include "meta/meta.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define S(text) slice_of(text)

static char *dir;
static struct arena *ar;

static int setup(void **state)
{
    (void)state;
    dir = unit_tmp_dir();
    ar = arena_new(0);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    arena_free(ar);
    unit_tmp_remove(dir);
    return 0;
}
static struct meta *open_store(void)
{
    struct meta *m = NULL;
    OK(meta_rocksdb_open(dir, &m, st));
    return m;
}
static void check(struct meta *m, const char *key, const char *value)
{
    struct meta_item it;
    OK(meta_get(m, S(key), ar, &it, st));
    assert_true(slice_is(it.value, value));
}

static void test_open_when_another_has_it_then_busy(void **state)
{
    struct meta *m = open_store(), *second = NULL;
    FAILS(meta_rocksdb_open(dir, &second, st), ST_BUSY, "in use");
    pid_t pid = fork();
    if (pid == 0) {
        struct status st = STATUS_INIT;
        int rc = meta_rocksdb_open(dir, &second, &st);
        _exit(rc == ST_BUSY && strstr(st.msg, "another process") ? 0 : 1);
    }
    int ws = 0;
    assert_int_equal(waitpid(pid, &ws, 0), pid);
    assert_int_equal(ws, 0);
    meta_close(m);
}

/* Overwrites bytes in the middle of the largest file whose name ends in ext. */
static bool damage(const char *ext)
{
    char **names;
    size_t n;
    char *best = NULL;
    uint64_t best_size = 0;
    OK(dir_list(dir, &names, &n, st));
    for (size_t i = 0; i < n; i++) {
        char *path = path_join(dir, names[i]);
        bool exists, is_dir;
        uint64_t size;
        size_t len = strlen(names[i]), elen = strlen(ext);
        OK(path_stat(path, &exists, &is_dir, &size, st));
        if (len > elen && strcmp(names[i] + len - elen, ext) == 0 && size > best_size) {
            mem_free(best);
            best = path;
            best_size = size;
        } else {
            mem_free(path);
        }
    }
    dir_list_free(names, n);
    if (!best) {
        return false;
    }
    int fd = open(best, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, (off_t)(best_size / 2)), 8);
    close(fd);
    mem_free(best);
    return true;
}

static void test_open_when_damaged_then_corrupt_and_folder_named(void **state)
{
    struct meta *m = open_store();
    char *big = xalloc(100000);
    for (int i = 0; i < 8; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "/k/%d", i);
        OK(meta_put(m, S(key), slice_n(big, 100000), NULL, st));
    }
    mem_free(big);
    meta_close(m);
    assert_true(damage(".log"));
    FAILS(meta_rocksdb_open(dir, &m, st), ST_CORRUPT, dir);
}

static void test_open_when_folder_cannot_be_made_then_io(void **state)
{
    struct meta *m = NULL;
    char *path = path_join(dir, "file");
    struct file *f;
    OK(file_open(path, FILE_WRITE | FILE_CREATE, &f, st));
    file_close(f);
    struct status st = STATUS_INIT;
    assert_int_not_equal(meta_rocksdb_open(path, &m, &st), 0);
    assert_non_null(strstr(st.msg, "file"));
    mem_free(path);
}

static void test_readonly_when_server_writes_then_refresh_shows_it(void **state)
{
    struct meta *m = open_store(), *view = NULL;
    struct meta_watch *w = NULL;
    struct meta_list list;
    struct meta_range range = {.prefix = S("/")};
    int64_t rev, lease;
    OK(meta_put(m, S("/a"), S("1"), NULL, st));
    OK(meta_open_readonly(dir, &view, st));
    check(view, "/a", "1");
    OK(meta_put(m, S("/a"), S("2"), NULL, st));
    OK(meta_put(m, S("/b"), S("3"), NULL, st));
    check(view, "/a", "1");
    OK(meta_refresh(view, st));
    check(view, "/a", "2");
    OK(meta_list(view, &range, ar, &list, st));
    assert_int_equal(list.n, 2);
    assert_int_equal(list.revision, 3);
    OK(meta_revision(view, &rev, st));
    assert_int_equal(rev, 3);
    FAILS(meta_put(view, S("/c"), S("x"), NULL, st), ST_DENIED, "read-only");
    FAILS(meta_lease_grant(view, 1000, &lease, st), ST_DENIED, "read-only");
    FAILS(meta_watch_open(view, S("/"), 0, &w, st), ST_UNSUPPORTED, "read-only");
    /* Enough to make the server write tables and drop logs. */
    char *big = xalloc(META_VALUE_MAX);
    for (int i = 0; i < 12; i++) {
        OK(meta_put(m, S("/big"), slice_n(big, META_VALUE_MAX), NULL, st));
    }
    mem_free(big);
    OK(meta_put(m, S("/b"), S("4"), NULL, st));
    OK(meta_refresh(view, st));
    check(view, "/b", "4");
    meta_close(view);
    meta_close(m);
}

static void test_readonly_when_server_is_stopped_then_works_and_changes_nothing(void **state)
{
    struct meta *m = open_store(), *view = NULL;
    char **before, **after;
    size_t nbefore, nafter;
    OK(meta_put(m, S("/a"), S("1"), NULL, st));
    meta_close(m);
    OK(dir_list(dir, &before, &nbefore, st));
    OK(meta_open_readonly(dir, &view, st));
    check(view, "/a", "1");
    meta_close(view);
    OK(dir_list(dir, &after, &nafter, st));
    assert_int_equal(nbefore, nafter);
    for (size_t i = 0; i < nbefore; i++) {
        assert_string_equal(before[i], after[i]);
    }
    dir_list_free(before, nbefore);
    dir_list_free(after, nafter);
}

static void test_readonly_when_folder_holds_no_store_then_not_found(void **state)
{
    struct meta *view = NULL;
    FAILS(meta_open_readonly(dir, &view, st), ST_NOT_FOUND, dir);
    FAILS(meta_open_readonly("/nowhere/at/all", &view, st), ST_NOT_FOUND, "/nowhere");
}

/* A limit on file sizes stands in for a full disk: writes fail, then there is room again. */
static void test_txn_when_a_write_fails_then_reads_work_and_writes_resume(void **state)
{
    struct meta *m = open_store();
    struct meta_watch *w = NULL;
    struct meta_event ev;
    struct rlimit old, tiny;
    char *big = xalloc(300000);
    OK(meta_put(m, S("/a"), S("1"), NULL, st));
    OK(meta_watch_open(m, S("/"), 0, &w, st));
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tiny = old;
    tiny.rlim_cur = 100000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
    FAILS(meta_put(m, S("/b"), slice_n(big, 300000), NULL, st), ST_IO, dir);
    check(m, "/a", "1");
    FAILS(meta_put(m, S("/c"), S("x"), NULL, st), ST_IO, "");
    check(m, "/a", "1");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    OK(meta_put(m, S("/c"), S("2"), NULL, st));
    check(m, "/a", "1");
    check(m, "/c", "2");
    OK(meta_watch_next(w, deadline_in_ms(10000), ar, &ev, st));
    assert_int_equal(ev.kind, META_EV_RESYNC);
    OK(meta_put(m, S("/d"), S("3"), NULL, st));
    OK(meta_watch_next(w, deadline_in_ms(10000), ar, &ev, st));
    assert_int_equal(ev.kind, META_EV_PUT);
    assert_true(slice_is(ev.key, "/d"));
    meta_watch_close(w);
    meta_close(m);
    m = open_store();
    check(m, "/c", "2");
    meta_close(m);
    mem_free(big);
}

#ifdef ELANUS_FAULTS
/* A child dies at the fault point; the parent looks at what is left. */
static void die_at(const char *spec)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct status st = STATUS_INIT;
        struct meta *m;
        struct meta_op ops[] = {meta_op_put(S("/a"), S("2")), meta_op_put(S("/b"), S("2"))};
        if (meta_rocksdb_open(dir, &m, &st) == 0) {
            fault_arm(spec);
            (void)meta_txn(m, NULL, 0, ops, 2, NULL, &st);
        }
        _exit(1);
    }
    int ws = 0;
    assert_int_equal(waitpid(pid, &ws, 0), pid);
    assert_true(WIFSIGNALED(ws) && WTERMSIG(ws) == SIGKILL);
}

static void test_txn_when_killed_around_commit_then_all_or_nothing(void **state)
{
    struct meta *m = open_store();
    OK(meta_put(m, S("/a"), S("1"), NULL, st));
    meta_close(m);
    die_at("meta_txn_before_commit:kill");
    m = open_store();
    check(m, "/a", "1");
    check(m, "/b", "");
    meta_close(m);
    die_at("meta_txn_after_commit:kill");
    m = open_store();
    check(m, "/a", "2");
    check(m, "/b", "2");
    meta_close(m);
}

static void test_txn_when_a_fault_point_fails_then_outcome_is_what_it_says(void **state)
{
    struct meta *m = open_store();
    struct meta_watch *w = NULL;
    struct meta_event ev;
    int64_t rev;
    OK(meta_watch_open(m, S("/"), 0, &w, st));
    fault_arm("meta_txn_before_commit:nospace");
    FAILS(meta_put(m, S("/a"), S("1"), NULL, st), ST_NO_SPACE, "");
    fault_arm(NULL);
    check(m, "/a", "");
    OK(meta_put(m, S("/a"), S("2"), &rev, st));
    assert_int_equal(rev, 1);
    fault_arm("meta_txn_after_commit:error");
    FAILS(meta_put(m, S("/a"), S("3"), NULL, st), ST_IO, "");
    fault_arm(NULL);
    check(m, "/a", "3"); /* ST_IO: it may have happened */
    for (int i = 1; i <= 2; i++) {
        OK(meta_watch_next(w, deadline_in_ms(10000), ar, &ev, st));
        assert_int_equal(ev.kind, META_EV_PUT);
        assert_int_equal(ev.revision, i);
    }
    meta_watch_close(w);
    meta_close(m);
}
#endif

static long resident_kb(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long total = 0, resident = 0;
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &total, &resident), 2);
    (void)fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void test_open_when_measured_then_small_and_fast(void **state)
{
    struct meta *m = open_store(); /* once, for what the library sets up for good */
    meta_close(m);
    long before = resident_kb();
    int64_t t = clock_mono_us();
    m = open_store();
    t = clock_mono_us() - t;
    long opened = resident_kb() - before;
    int64_t p = clock_mono_us();
    for (int i = 0; i < 200; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "/k/%d", i);
        OK(meta_put(m, S(key), S("value"), NULL, st));
    }
    p = clock_mono_us() - p;
    print_message("open %lld us, +%ld KiB; put %lld us each, +%ld KiB after 200\n", (long long)t,
                  opened, (long long)(p / 200), resident_kb() - before);
#ifndef __SANITIZE_ADDRESS__
#if !defined(__has_feature)
#define __has_feature(x) 0
#endif
#if !__has_feature(address_sanitizer)
    assert_true(resident_kb() - before < 8192);
#endif
#endif
    assert_true(t < 2000000); /* generous: the machine may be busy */
    meta_close(m);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_open_when_measured_then_small_and_fast),
        CASE(test_open_when_another_has_it_then_busy),
        CASE(test_open_when_damaged_then_corrupt_and_folder_named),
        CASE(test_open_when_folder_cannot_be_made_then_io),
        CASE(test_readonly_when_server_writes_then_refresh_shows_it),
        CASE(test_readonly_when_server_is_stopped_then_works_and_changes_nothing),
        CASE(test_readonly_when_folder_holds_no_store_then_not_found),
        CASE(test_txn_when_a_write_fails_then_reads_work_and_writes_resume),
#ifdef ELANUS_FAULTS
        CASE(test_txn_when_killed_around_commit_then_all_or_nothing),
        CASE(test_txn_when_a_fault_point_fails_then_outcome_is_what_it_says),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
