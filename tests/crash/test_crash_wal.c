/*
 * test_crash_wal.c - the power goes at every sync and at every change of a log's life.
 *
 * The life: open, append batches of many sizes (alone, and several before one wait), roll to new
 * files, truncate, close, open with a newer term, append again. The test remembers, per position,
 * what was handed over, and the highest position that was acknowledged. After the power came back:
 *   - the log opens;
 *   - every acknowledged record that was not truncated is there, unchanged, in order;
 *   - nothing is there that was not handed over, and no batch is there in part;
 *   - it takes appends, and those survive a clean close.
 * The power goes a second time during or after recovery too. With fault points compiled in, steps
 * fail at them, and a process on the real disk is killed at them.
 */
#include "expect.h"
#include "base/clock.h"
#include "base/fault.h"
#include "file_crash.h"
#include "wal/wal.h"
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { POSITIONS = 400, FILE_SIZE = 1500, ROUNDS = 2 };

struct life {
    uint64_t id[POSITIONS]; /* handed over at this position */
    bool ends_batch[POSITIONS];
    bool reserve;       /* zeros are written ahead */
    bool same_term;     /* the log is opened again with the term it had */
    uint64_t submitted; /* highest position handed over */
    uint64_t acked;
    uint64_t truncated; /* records before this may be gone */
    uint64_t next_id;
    uint64_t term;
};

static const char *log_dir = "log";

static size_t payload(uint64_t id, uint8_t *out)
{
    size_t n = (size_t)(id * 7919 % 211);
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint8_t)(id * 31 + i);
    }
    return n;
}

/* Hands over a batch of n; remembers it before anything can fail. */
static int append(struct life *li, struct wal *w, size_t n, struct status *st)
{
    uint8_t bytes[8][256];
    struct file_part parts[8];
    struct wal_entry entries[8];
    uint64_t position = wal_last_position(w) + 1, first = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t id = li->next_id++;
        parts[i] = (struct file_part){bytes[i], payload(id, bytes[i])};
        entries[i] = (struct wal_entry){&parts[i], 1, (uint16_t)id};
        assert_in_range(position + i, 1, POSITIONS - 1);
        li->id[position + i] = id;
        li->ends_batch[position + i] = i + 1 == n;
        li->submitted = position + i;
    }
    int rc = wal_append_begin(w, entries, n, &first, st);
    if (rc == 0) {
        assert_int_equal(first, position);
    }
    return rc;
}

static int wait_all(struct life *li, struct wal *w, struct status *st)
{
    uint64_t last = wal_last_position(w);
    int rc;
    TRY(wal_wait(w, last, DEADLINE_NONE, st));
    li->acked = last;
out:
    return rc;
}

static struct wal_opts next_opts(struct life *li)
{
    if (!li->same_term || li->term == 0) {
        li->term++;
    }
    return (struct wal_opts){.dir = log_dir,
                             .term = li->term,
                             .file_size = FILE_SIZE,
                             .prealloc = li->reserve ? 700 : 0};
}

static int live_once(struct life *li, struct status *st)
{
    struct wal_opts opts = next_opts(li);
    struct status closing = STATUS_INIT;
    struct wal *w = NULL;
    int rc;
    TRY(wal_local_open(&opts, &w, st));
    for (size_t i = 0; i < 20; i++) {
        TRY(append(li, w, 1 + i % 5, st));
        if (i % 4 != 2) {
            TRY(wait_all(li, w, st));
        }
        if (i == 9) {
            li->truncated = li->acked - 3;
            TRY(wal_truncate_before(w, li->truncated, st));
        }
    }
    TRY(wait_all(li, w, st));
out:
    (void)wal_close(w, &closing);
    return rc;
}

static void live(struct life *li)
{
    struct status st = STATUS_INIT;
    for (int round = 0; round < ROUNDS; round++) {
        if (live_once(li, &st) != 0) {
            return; /* the power is gone */
        }
    }
}

/* Reads everything and compares it with what was handed over. */
static void check(const struct life *li, struct wal *w)
{
    struct wal_reader *r = NULL;
    struct wal_record rec;
    bool found;
    uint64_t first = wal_first_position(w), last = wal_last_position(w);
    uint8_t bytes[256];
    assert_true(last >= li->acked);
    assert_true(last <= li->submitted);
    assert_true(last == 0 || li->ends_batch[last]);
    assert_true(first <= MAX(li->truncated, (uint64_t)1));
    OK(wal_reader_open(w, first, &r, st));
    for (uint64_t p = first; p <= last; p++) {
        OK(wal_reader_next(r, &rec, &found, st));
        assert_true(found);
        assert_int_equal(rec.position, p);
        size_t n = payload(li->id[p], bytes);
        assert_int_equal(rec.type, (uint16_t)li->id[p]);
        assert_int_equal(rec.payload.n, n);
        assert_memory_equal(rec.payload.p, bytes, n);
    }
    OK(wal_reader_next(r, &rec, &found, st));
    assert_false(found);
    wal_reader_close(r);
}

/* With the power on: opens, checks, appends, closes, opens, checks. */
static void check_life_goes_on(struct life *li)
{
    struct wal_opts opts = next_opts(li);
    struct wal *w = NULL;
    for (int round = 0; round < 2; round++) {
        OK(wal_local_open(&opts, &w, st));
        check(li, w);
        OK(append(li, w, 3, st));
        OK(wait_all(li, w, st));
        check(li, w);
        OK(wal_close(w, st));
    }
}

/* One life whose power goes at the n-th sync (or change), then, when again > 0, goes once more
 * at the again-th sync of what follows. False when the first never happened. */
static bool one_case(enum crash_mode mode, bool at_change, long n, long again, uint64_t seed)
{
    struct crash_fs *fs = crash_fs_new(seed);
    uint64_t kind = seed / 1000 + (uint64_t)n;
    struct life li = {.next_id = 1, .same_term = kind & 1, .reserve = kind & 2};
    if (at_change) {
        crash_fs_arm_change(fs, mode, n);
    } else {
        crash_fs_arm(fs, mode, n);
    }
    live(&li);
    bool off = crash_fs_is_off(fs);
    crash_fs_restart(fs);
    if (off && again > 0) {
        struct status st = STATUS_INIT;
        crash_fs_arm(fs, mode, again);
        (void)live_once(&li, &st);
        if (!crash_fs_is_off(fs)) {
            crash_fs_arm(fs, mode, 0);
        }
        crash_fs_restart(fs);
    }
    check_life_goes_on(&li);
    crash_fs_free(fs);
    return off;
}

static void all_cases(enum crash_mode mode, bool at_change, long again, uint64_t seeds)
{
    long n = 1;
    for (bool more = true; more; n++) {
        more = false;
        for (uint64_t seed = 1; seed <= seeds; seed++) {
            more |= one_case(mode, at_change, n, again, seed * 1000 + (uint64_t)n);
        }
    }
    assert_true(n > 20); /* the life has that many syncs at least */
}

static void test_crash_when_unsynced_is_dropped(void **state)
{
    all_cases(CRASH_DROP, false, 0, 1);
}
static void test_crash_when_unsynced_is_torn(void **state)
{
    all_cases(CRASH_TEAR, false, 0, 6);
}
static void test_crash_when_unsynced_is_garbled(void **state)
{
    all_cases(CRASH_GARBLE, false, 0, 6);
}
static void test_crash_when_killed_and_nothing_is_lost(void **state)
{
    all_cases(CRASH_KEEP, true, 0, 1);
}
static void test_crash_when_power_goes_at_any_change(void **state)
{
    all_cases(CRASH_MIX, true, 0, 6);
}
static void test_crash_when_power_goes_again_during_recovery(void **state)
{
    for (long again = 1; again <= 6; again++) {
        all_cases(CRASH_MIX, false, again, 2);
    }
}

/* The process is killed: what it wrote is in the kernel, not on disk. What an open shows counts as
 * durable from then on, so it must survive power loss. */
static void test_crash_when_power_goes_after_recovery_from_a_kill(void **state)
{
    for (int same_term = 0; same_term < 2; same_term++) {
        struct crash_fs *fs = crash_fs_new(1);
        struct life li = {.next_id = 1, .same_term = same_term, .reserve = true};
        struct wal_opts opts = next_opts(&li);
        struct status closing = STATUS_INIT;
        struct wal *killed = NULL, *w = NULL;
        OK(wal_local_open(&opts, &killed, st));
        OK(append(&li, killed, 3, st));
        opts = next_opts(&li);
        OK(wal_local_open(&opts, &w, st));
        assert_int_equal(wal_durable_position(w), 3);
        li.acked = 3;
        crash_fs_power_off(fs, CRASH_DROP);
        (void)wal_close(w, &closing);
        (void)wal_close(killed, &closing);
        crash_fs_restart(fs);
        check_life_goes_on(&li);
        crash_fs_free(fs);
    }
}

/* Without a crash: sync failures at every place leave a log that can be opened again. */
static void test_crash_when_a_sync_fails_at_any_place(void **state)
{
    for (long n = 1; n < 80; n++) {
        struct crash_fs *fs = crash_fs_new((uint64_t)n);
        struct life li = {.next_id = 1, .same_term = n & 1, .reserve = n & 2};
        crash_fs_fail_sync(fs, n);
        live(&li);
        crash_fs_fail_sync(fs, 0);
        check_life_goes_on(&li);
        crash_fs_free(fs);
    }
}

/* The disk fills up at every byte of a batch and of a new file; after that there is space again. */
static void test_crash_when_the_disk_is_full_at_any_byte(void **state)
{
    for (uint64_t space = 0; space < 3000; space += 7) {
        struct crash_fs *fs = crash_fs_new(space + 1);
        struct life li = {.next_id = 1, .same_term = space & 1, .reserve = space & 2};
        crash_fs_set_space(fs, space);
        live(&li);
        crash_fs_set_space(fs, UINT64_MAX);
        check_life_goes_on(&li);
        crash_fs_free(fs);
    }
}

#ifdef ELANUS_FAULTS
static const char *const points[] = {"wal_append_before_write",    "wal_append_before_sync",
                                     "wal_append_after_sync",      "wal_roll_after_create",
                                     "wal_truncate_before_unlink", "wal_truncate_after_unlink"};

/* A process on the real disk is killed at a fault point; false when it never got there. */
static bool killed_at(const char *point, int nth)
{
    char *tmp = unit_tmp_dir(), *dir = path_join(tmp, "log");
    struct life *li =
        mmap(NULL, sizeof *li, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ws = 0;
    assert_true(li != MAP_FAILED);
    li->next_id = 1;
    li->same_term = nth & 1;
    li->reserve = nth & 2;
    log_dir = dir;
    pid_t pid = fork();
    if (pid == 0) {
        char spec[80];
        (void)snprintf(spec, sizeof spec, "%s:kill:%d", point, nth);
        fault_arm(spec);
        live(li);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &ws, 0), pid);
    bool killed = WIFSIGNALED(ws) && WTERMSIG(ws) == SIGKILL;
    assert_true(killed || ws == 0);
    check_life_goes_on(li);
    log_dir = "log";
    (void)munmap(li, sizeof *li);
    mem_free(dir);
    unit_tmp_remove(tmp);
    return killed;
}

static void test_crash_when_killed_at_a_fault_point(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        assert_true(killed_at(points[i], 1));
        for (int nth = 2; nth < 10 && killed_at(points[i], nth); nth++) {
        }
    }
}

static void test_crash_when_a_step_fails_at_a_fault_point(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        for (int nth = 1; nth < 12; nth++) {
            for (int action = 0; action < 2; action++) {
                struct crash_fs *fs = crash_fs_new(1);
                struct life li = {.next_id = 1, .same_term = nth & 1, .reserve = nth & 2};
                char spec[80];
                (void)snprintf(spec, sizeof spec, "%s:%s:%d", points[i],
                               action ? "nospace" : "error", nth);
                fault_arm(spec);
                live(&li);
                fault_arm(NULL);
                check_life_goes_on(&li);
                crash_fs_free(fs);
            }
        }
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash_when_unsynced_is_dropped),
        cmocka_unit_test(test_crash_when_unsynced_is_torn),
        cmocka_unit_test(test_crash_when_unsynced_is_garbled),
        cmocka_unit_test(test_crash_when_killed_and_nothing_is_lost),
        cmocka_unit_test(test_crash_when_power_goes_at_any_change),
        cmocka_unit_test(test_crash_when_power_goes_again_during_recovery),
        cmocka_unit_test(test_crash_when_power_goes_after_recovery_from_a_kill),
        cmocka_unit_test(test_crash_when_a_sync_fails_at_any_place),
        cmocka_unit_test(test_crash_when_the_disk_is_full_at_any_byte),
#ifdef ELANUS_FAULTS
        cmocka_unit_test(test_crash_when_a_step_fails_at_a_fault_point),
        cmocka_unit_test(test_crash_when_killed_at_a_fault_point),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
