/*
 * test_wal_conform.c - the contract of wal.h, on every implementation.
 *
 * An implementation is a row of `impls`: how to open the log of one channel with a term and a sync
 * mode, and how to fence it. Failures of the disk are asked for through the file double, so rows
 * that keep bytes elsewhere bring their own `fail_sync` and `set_space`, or leave them NULL.
 */
#include "wal_test.h"
#include "base/pool.h"
#include "file_crash.h"
#include <sched.h>
#include <stdatomic.h>

struct impl {
    const char *name;
    void (*setup)(void);
    void (*teardown)(void);
    int (*open)(struct wal_opts *opts, struct wal **ret_w, struct status *st);
    int (*fence)(uint64_t term, struct status *st);
    void (*fail_sync)(void);           /* the next sync fails */
    void (*set_space)(uint64_t bytes); /* UINT64_MAX: no limit */
};

static char *disk_dir;
static struct crash_fs *fs;
static const struct impl *im;

static void disk_setup(void)
{
    disk_dir = unit_tmp_dir();
}
static void disk_teardown(void)
{
    unit_tmp_remove(disk_dir);
}
static int disk_open(struct wal_opts *opts, struct wal **ret_w, struct status *st)
{
    opts->dir = disk_dir;
    return wal_local_open(opts, ret_w, st);
}
static int disk_fence(uint64_t term, struct status *st)
{
    return wal_local_fence(disk_dir, term, st);
}

static void double_setup(void)
{
    fs = crash_fs_new(1);
}
static void double_teardown(void)
{
    crash_fs_free(fs);
}
static int double_open(struct wal_opts *opts, struct wal **ret_w, struct status *st)
{
    opts->dir = "wal";
    return wal_local_open(opts, ret_w, st);
}
static int reserved_open(struct wal_opts *opts, struct wal **ret_w, struct status *st)
{
    opts->prealloc = 1000;
    return double_open(opts, ret_w, st);
}
static int double_fence(uint64_t term, struct status *st)
{
    return wal_local_fence("wal", term, st);
}
static void double_fail_sync(void)
{
    crash_fs_fail_sync(fs, 1);
}
static void double_set_space(uint64_t bytes)
{
    crash_fs_set_space(fs, bytes);
}

static const struct impl impls[] = {
    {"local", disk_setup, disk_teardown, disk_open, disk_fence, NULL, NULL},
    {"local on the file double", double_setup, double_teardown, double_open, double_fence,
     double_fail_sync, double_set_space},
    {"local with reserved space, on the file double", double_setup, double_teardown, reserved_open,
     double_fence, double_fail_sync, double_set_space},
};

static int setup(void **state)
{
    im = *state;
    im->setup();
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    im->teardown();
    return 0;
}

static struct wal *open_as(uint64_t term, enum wal_sync sync)
{
    struct wal_opts opts = {.term = term, .sync = sync, .file_size = 4096};
    struct wal *w = NULL;
    OK(im->open(&opts, &w, st));
    return w;
}

static void test_open_when_new_then_empty(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_ALWAYS);
    assert_int_equal(wal_first_position(w), 1);
    assert_int_equal(wal_last_position(w), 0);
    assert_int_equal(wal_durable_position(w), 0);
    test_check_range(w, 1, 0);
    OK(wal_close(w, st));
}

static void test_append_when_batches_then_positions_follow_and_read_back(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_ALWAYS);
    for (size_t i = 0; i < 50; i++) {
        test_fill(w, 1 + i % 16);
        assert_int_equal(wal_durable_position(w), wal_last_position(w));
    }
    test_check_range(w, 1, wal_last_position(w));
    OK(wal_close(w, st));
}

static void test_open_when_closed_before_then_log_goes_on(void **state)
{
    for (uint64_t round = 0; round < 8; round++) {
        /* The same term twice, then the next. */
        struct wal *w = open_as(1 + round / 2, WAL_SYNC_ALWAYS);
        assert_int_equal(wal_last_position(w), round * 21);
        test_fill(w, 5);
        test_fill(w, 16);
        test_check_range(w, 1, (round + 1) * 21);
        OK(wal_close(w, st));
    }
}

static void test_append_when_payload_empty_or_large_then_read_back(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_ALWAYS);
    size_t n = 5 << 20;
    uint8_t *big = xalloc(n);
    struct file_part parts[3] = {{big, 1}, {big + 1, n - 8}, {big + n - 7, 7}};
    struct wal_entry entries[3] = {{NULL, 0, 7}, {parts, 3, 8}, {NULL, 0, 65535}};
    struct wal_reader *r = NULL;
    struct wal_record rec;
    uint64_t first = 0;
    bool found;
    for (size_t i = 0; i < n; i++) {
        big[i] = (uint8_t)(i * i >> 3);
    }
    OK(wal_append(w, entries, 3, &first, st));
    OK(wal_reader_open(w, first, &r, st));
    OK(wal_reader_next(r, &rec, &found, st));
    assert_int_equal(rec.payload.n, 0);
    assert_int_equal(rec.type, 7);
    OK(wal_reader_next(r, &rec, &found, st));
    assert_int_equal(rec.payload.n, n);
    assert_memory_equal(rec.payload.p, big, n);
    OK(wal_reader_next(r, &rec, &found, st));
    assert_true(found);
    assert_int_equal(rec.type, 65535);
    wal_reader_close(r);
    OK(wal_close(w, st));
    mem_free(big);
}

static void test_append_when_arguments_are_wrong_then_refused(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_ALWAYS);
    struct file_part huge = {"x", (size_t)WAL_RECORD_MAX + 1};
    struct wal_entry e = {&huge, 1, 0};
    struct wal_reader *r = NULL;
    uint64_t first = 77;
    FAILS(wal_append(w, NULL, 0, &first, st), ST_INVALID, "no records");
    FAILS(wal_append(w, &e, 1, &first, st), ST_TOO_LARGE, "record 0");
    assert_int_equal(first, 77);
    FAILS(wal_reader_open(w, 0, &r, st), ST_INVALID, "1");
    assert_int_equal(wal_last_position(w), 0);
    test_fill(w, 1);
    OK(wal_close(w, st));
}

static void test_reader_when_opened_in_the_middle_then_starts_there(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_ALWAYS);
    for (int i = 0; i < 12; i++) {
        test_fill(w, 16);
    }
    for (uint64_t p = 1; p <= 193; p += 3) {
        test_check_range(w, p, 192);
    }
    OK(wal_close(w, st));
}

static void test_reader_when_at_the_end_then_sees_later_appends(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_ALWAYS);
    struct wal_reader *r = NULL;
    struct wal_record rec;
    bool found;
    OK(wal_reader_open(w, 1, &r, st));
    for (uint64_t p = 1; p <= 100; p++) {
        OK(wal_reader_next(r, &rec, &found, st));
        assert_false(found);
        test_fill(w, 1);
        OK(wal_reader_next(r, &rec, &found, st));
        assert_true(found);
        assert_int_equal(rec.position, p);
        test_check_record(&rec, p);
    }
    wal_reader_close(r);
    OK(wal_close(w, st));
}

static void test_truncate_when_records_are_old_then_first_moves_and_newest_stays(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_ALWAYS);
    struct wal_reader *r = NULL;
    uint64_t first;
    for (int i = 0; i < 20; i++) {
        test_fill(w, 16);
    }
    OK(wal_truncate_before(w, 200, st));
    first = wal_first_position(w);
    assert_true(first > 1 && first <= 200);
    test_check_range(w, first, 320);
    FAILS(wal_reader_open(w, first - 1, &r, st), ST_NOT_FOUND, "oldest");
    OK(wal_truncate_before(w, 10000, st));
    assert_int_equal(wal_last_position(w), 320);
    OK(wal_close(w, st));

    w = open_as(1, WAL_SYNC_ALWAYS);
    assert_int_equal(wal_last_position(w), 320);
    test_fill(w, 16);
    test_check_range(w, wal_first_position(w), 336);
    OK(wal_close(w, st));
}

static void test_reader_when_its_place_is_truncated_then_not_found(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_ALWAYS);
    struct wal_reader *r = NULL;
    struct wal_record rec;
    bool found;
    OK(wal_reader_open(w, 1, &r, st));
    for (int i = 0; i < 20; i++) {
        test_fill(w, 16);
    }
    OK(wal_truncate_before(w, 300, st));
    FAILS(wal_reader_next(r, &rec, &found, st), ST_NOT_FOUND, "1");
    wal_reader_close(r);
    OK(wal_close(w, st));
}

static void test_fence_when_term_is_newer_then_old_writer_cannot_append(void **state)
{
    struct wal *old = open_as(3, WAL_SYNC_ALWAYS), *w;
    struct wal_opts opts = {.term = 3};
    test_fill(old, 3);
    OK(im->fence(4, st));
    FAILS(test_append(old, 99, 1, NULL, st), ST_FENCED, "term 4");
    FAILS(test_append(old, 99, 1, NULL, st), ST_FENCED, "term 4");
    FAILS(im->open(&opts, &w, st), ST_FENCED, "term 4");
    FAILS(im->fence(3, st), ST_FENCED, "term 4");
    OK(im->fence(4, st));

    w = open_as(5, WAL_SYNC_ALWAYS);
    /* What the fenced writer tried may or may not be there, it was never acknowledged. */
    uint64_t last = wal_last_position(w);
    assert_true(last == 3 || last == 4);
    OK(test_append(w, last + 1, 2, NULL, st));
    FAILS(test_append(old, 99, 1, NULL, st), ST_FENCED, "term");
    (void)wal_close(old, &(struct status)STATUS_INIT);
    OK(wal_close(w, st));
    w = open_as(5, WAL_SYNC_ALWAYS);
    assert_int_equal(wal_last_position(w), last + 2);
    OK(wal_close(w, st));
}

static void
test_fence_when_old_writer_comes_back_later_then_its_writes_count_for_nothing(void **state)
{
    struct wal *old = open_as(1, WAL_SYNC_ALWAYS), *w;
    test_fill(old, 3);
    w = open_as(2, WAL_SYNC_ALWAYS);
    FAILS(test_append(old, 99, 5, NULL, st), ST_FENCED, "term 2");
    test_fill(w, 4);
    (void)wal_close(old, &(struct status)STATUS_INIT);
    test_check_range(w, 1, 7);
    OK(wal_close(w, st));
    w = open_as(2, WAL_SYNC_ALWAYS);
    test_check_range(w, 1, 7);
    OK(wal_close(w, st));
}

static void test_open_when_term_is_zero_then_refused(void **state)
{
    struct wal_opts opts = {.term = 0};
    struct wal *w = NULL;
    FAILS(im->open(&opts, &w, st), ST_INVALID, "term 0");
}

enum { THREADS = 6, EACH = 40 };
struct appender {
    struct wal *w;
    uint64_t positions[EACH];
};

static void append_many(void *arg)
{
    struct appender *a = arg;
    struct status st = STATUS_INIT;
    for (int i = 0; i < EACH; i++) {
        struct file_part part = {&a, sizeof a};
        struct wal_entry e = {&part, 1, 9};
        CHECK(wal_append(a->w, &e, 1, &a->positions[i], &st) == 0);
        CHECK(wal_durable_position(a->w) >= a->positions[i]);
    }
}

static void test_append_when_concurrent_then_every_position_once_and_syncs_shared(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_ALWAYS);
    struct appender a[THREADS];
    struct thread *t[THREADS];
    struct wal_stats stats;
    bool seen[THREADS * EACH + 1] = {false};
    for (int i = 0; i < THREADS; i++) {
        a[i].w = w;
        t[i] = thread_start("appender", append_many, &a[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        thread_join(t[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        for (int k = 0; k < EACH; k++) {
            assert_in_range(a[i].positions[k], 1, THREADS * EACH);
            assert_false(seen[a[i].positions[k]]);
            seen[a[i].positions[k]] = true;
            assert_true(k == 0 || a[i].positions[k] > a[i].positions[k - 1]);
        }
    }
    wal_get_stats(w, &stats);
    assert_int_equal(stats.last, THREADS * EACH);
    assert_true(stats.nsyncs <= stats.nbatches);
    OK(wal_close(w, st));
}

static void *follow_result;
static void follow(void *arg)
{
    struct wal *w = arg;
    struct status st = STATUS_INIT;
    struct wal_reader *r = NULL;
    struct wal_record rec;
    bool found;
    CHECK(wal_reader_open(w, 1, &r, &st) == 0);
    for (uint64_t p = 1; p <= 600;) {
        CHECK(wal_reader_next(r, &rec, &found, &st) == 0);
        if (!found) {
            CHECK(wal_wait(w, p, deadline_in_ms(20000), &st) == 0);
            continue;
        }
        uint8_t bytes[300];
        size_t n = test_payload(p, bytes, sizeof bytes);
        CHECK(rec.position == p && rec.payload.n == n && memcmp(rec.payload.p, bytes, n) == 0);
        p++;
    }
    wal_reader_close(r);
    follow_result = w;
}

static void test_reader_when_following_a_writer_then_sees_each_record_once(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_ALWAYS);
    struct thread *t;
    follow_result = NULL;
    t = thread_start("follower", follow, w);
    while (wal_last_position(w) < 600) {
        test_fill(w, 1 + wal_last_position(w) % 5);
    }
    thread_join(t);
    assert_ptr_equal(follow_result, w);
    OK(wal_close(w, st));
}

static _Atomic uint64_t told;
static _Atomic int told_error;
static void on_durable(void *arg, uint64_t position, const struct status *err)
{
    (void)arg;
    CHECK(position >= atomic_load(&told));
    atomic_store(&told, position);
    if (err) {
        atomic_store(&told_error, err->code);
    }
}

static void await(uint64_t position)
{
    int64_t deadline = deadline_in_ms(20000);
    while (atomic_load(&told) < position && atomic_load(&told_error) == 0) {
        assert_true(clock_mono_us() < deadline);
        sched_yield();
    }
}

static void test_append_begin_when_callback_then_told_once_durable(void **state)
{
    struct wal_opts opts = {.term = 1, .on_durable = on_durable, .file_size = 4096};
    struct wal *w = NULL;
    uint64_t first;
    atomic_store(&told, 0);
    atomic_store(&told_error, 0);
    OK(im->open(&opts, &w, st));
    for (uint64_t i = 1; i <= 200; i++) {
        struct file_part part = {"0123456789", 10};
        struct wal_entry e = {&part, 1, 1};
        OK(wal_append_begin(w, &e, 1, &first, st));
        assert_int_equal(first, i);
    }
    await(200);
    assert_int_equal(atomic_load(&told_error), 0);
    assert_int_equal(wal_durable_position(w), 200);
    OK(wal_close(w, st));
}

static void test_wait_when_nothing_comes_then_timeout(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_ALWAYS);
    test_fill(w, 2);
    OK(wal_wait(w, 2, deadline_in_ms(0), st));
    FAILS(wal_wait(w, 3, deadline_in_ms(5), st), ST_TIMEOUT, "record 3");
    OK(wal_close(w, st));
}

static void test_append_when_sync_is_never_then_acknowledged_and_durable_on_demand(void **state)
{
    struct wal *w = open_as(1, WAL_SYNC_NEVER);
    test_fill(w, 4);
    assert_int_equal(wal_acked_position(w), 4);
    test_check_range(w, 1, 4);
    OK(wal_sync(w, st));
    assert_int_equal(wal_durable_position(w), 4);
    test_fill(w, 1);
    OK(wal_close(w, st));
    w = open_as(1, WAL_SYNC_NEVER);
    test_check_range(w, 1, 5);
    OK(wal_close(w, st));
}

static void test_append_when_sync_is_interval_then_durable_soon(void **state)
{
    struct wal_opts opts = {.term = 1, .sync = WAL_SYNC_INTERVAL, .sync_interval_ms = 2};
    struct wal *w = NULL;
    int64_t deadline = deadline_in_ms(20000);
    OK(im->open(&opts, &w, st));
    for (int i = 0; i < 3; i++) {
        test_fill(w, 4);
        assert_int_equal(wal_acked_position(w), wal_last_position(w));
        while (wal_durable_position(w) < wal_last_position(w)) {
            assert_true(clock_mono_us() < deadline);
            sched_yield();
        }
    }
    OK(wal_close(w, st));
}

static void test_append_when_disk_is_full_then_refused_and_later_fine(void **state)
{
    struct wal *w;
    if (!im->set_space) {
        skip();
    }
    w = open_as(1, WAL_SYNC_ALWAYS);
    test_fill(w, 8);
    for (uint64_t space = 0; space < 400; space += 13) {
        im->set_space(space);
        FAILS(test_append(w, 7, 8, NULL, st), ST_NO_SPACE, "");
        assert_int_equal(wal_last_position(w), 8 + space / 13);
        im->set_space(UINT64_MAX);
        test_fill(w, 1);
    }
    test_check_range(w, 1, wal_last_position(w));
    uint64_t last = wal_last_position(w);
    OK(wal_close(w, st));
    w = open_as(1, WAL_SYNC_ALWAYS);
    test_check_range(w, 1, last);
    OK(wal_close(w, st));
}

static void test_append_when_a_sync_failed_then_refused_until_opened_again(void **state)
{
    struct status closing = STATUS_INIT;
    struct wal *w;
    if (!im->fail_sync) {
        skip();
    }
    w = open_as(1, WAL_SYNC_ALWAYS);
    test_fill(w, 3);
    im->fail_sync();
    FAILS(test_append(w, 4, 2, NULL, st), ST_IO, "until it is opened again");
    assert_int_equal(wal_acked_position(w), 3);
    test_check_range(w, 1, 3);
    FAILS(test_append(w, 4, 2, NULL, st), ST_IO, "until it is opened again");
    FAILS(wal_sync(w, st), ST_IO, "until it is opened again");
    FAILS(wal_wait(w, 4, DEADLINE_NONE, st), ST_IO, "until it is opened again");
    assert_int_equal(wal_close(w, &closing), ST_IO);
    w = open_as(1, WAL_SYNC_ALWAYS);
    assert_true(wal_last_position(w) == 3 || wal_last_position(w) == 5);
    test_check_range(w, 1, wal_last_position(w));
    test_fill(w, 2);
    OK(wal_close(w, st));
}

static void test_append_begin_when_a_sync_failed_then_callback_tells(void **state)
{
    struct wal_opts opts = {.term = 1, .on_durable = on_durable};
    struct status closing = STATUS_INIT;
    struct wal *w = NULL;
    struct file_part part = {"x", 1};
    struct wal_entry e = {&part, 1, 1};
    uint64_t first;
    if (!im->fail_sync) {
        skip();
    }
    atomic_store(&told, 0);
    atomic_store(&told_error, 0);
    OK(im->open(&opts, &w, st));
    im->fail_sync();
    OK(wal_append_begin(w, &e, 1, &first, st));
    await(1);
    assert_int_equal(atomic_load(&told), 0);
    assert_int_equal(atomic_load(&told_error), ST_IO);
    assert_int_equal(wal_close(w, &closing), ST_IO);
}

#define CASE(f)                                                                                    \
    {                                                                                              \
#f, f, setup, teardown, NULL                                                               \
    }

int main(void)
{
    struct CMUnitTest tests[] = {
        CASE(test_open_when_new_then_empty),
        CASE(test_append_when_batches_then_positions_follow_and_read_back),
        CASE(test_open_when_closed_before_then_log_goes_on),
        CASE(test_append_when_payload_empty_or_large_then_read_back),
        CASE(test_append_when_arguments_are_wrong_then_refused),
        CASE(test_reader_when_opened_in_the_middle_then_starts_there),
        CASE(test_reader_when_at_the_end_then_sees_later_appends),
        CASE(test_truncate_when_records_are_old_then_first_moves_and_newest_stays),
        CASE(test_reader_when_its_place_is_truncated_then_not_found),
        CASE(test_fence_when_term_is_newer_then_old_writer_cannot_append),
        CASE(test_fence_when_old_writer_comes_back_later_then_its_writes_count_for_nothing),
        CASE(test_open_when_term_is_zero_then_refused),
        CASE(test_append_when_concurrent_then_every_position_once_and_syncs_shared),
        CASE(test_reader_when_following_a_writer_then_sees_each_record_once),
        CASE(test_append_begin_when_callback_then_told_once_durable),
        CASE(test_wait_when_nothing_comes_then_timeout),
        CASE(test_append_when_sync_is_never_then_acknowledged_and_durable_on_demand),
        CASE(test_append_when_sync_is_interval_then_durable_soon),
        CASE(test_append_when_disk_is_full_then_refused_and_later_fine),
        CASE(test_append_when_a_sync_failed_then_refused_until_opened_again),
        CASE(test_append_begin_when_a_sync_failed_then_callback_tells),
    };
    int failed = 0;
    for (size_t i = 0; i < ARRAY_LEN(impls); i++) {
        for (size_t k = 0; k < ARRAY_LEN(tests); k++) {
            tests[k].initial_state = (void *)(uintptr_t)&impls[i];
        }
        failed += cmocka_run_group_tests_name(impls[i].name, tests, NULL, NULL);
    }
    return failed;
}
