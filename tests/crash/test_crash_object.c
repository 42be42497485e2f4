/*
 * test_crash_object.c - the power goes at every sync and at every change of an object store's life.
 *
 * The life: put new objects, replace, stream, delete, in several folders. The test remembers for
 * each key what it was last told and what was under way. After the power came back an object is
 * what was acknowledged last, or what was being put when the power went, whole; an acknowledged
 * delete stays; no temporary file is left after the open; and the store works.
 */
#include "expect.h"
#include "base/fault.h"
#include "file_crash.h"
#include "object/object.h"
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { KEYS = 6, STEPS = 30, BYTES = 700 };

struct life {
    int told[KEYS];      /* version acknowledged; 0: absent */
    int under_way[KEYS]; /* version whose put (0: delete) had begun and was not acknowledged */
    bool open_step[KEYS];
};

static const char *const keys[KEYS] = {"a", "s/1/x", "s/1/y", "s/2/x", "s/2/z/deep/file", "t/k"};

static const char *store_dir = "store";

static size_t content(int key, int version, uint8_t *out)
{
    size_t n = (size_t)(key * 97 + version * 61) % BYTES;
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint8_t)(key * 3 + version * 7 + (int)i);
    }
    return n;
}

static int put(struct object_store *os, int key, int version, bool stream, struct status *st)
{
    uint8_t bytes[BYTES];
    size_t n = content(key, version, bytes);
    struct file_part part = {bytes, n};
    struct object_writer *ow = NULL;
    int rc;
    if (!stream) {
        return object_put(os, slice_of(keys[key]), &part, 1, st);
    }
    TRY(object_writer_open(os, slice_of(keys[key]), &ow, st));
    for (size_t off = 0; off < n; off += 100) {
        TRY(object_append(ow, bytes + off, MIN(n - off, (size_t)100), st));
    }
    TRY(object_commit(TAKE(ow), st));
out:
    object_abort(ow);
    return rc;
}

static void live(struct life *li)
{
    struct status st = STATUS_INIT;
    struct object_store *os = NULL;
    if (object_local_open(store_dir, &os, &st) != 0) {
        return;
    }
    for (int step = 0; step < STEPS; step++) {
        int key = step * 5 % KEYS;
        bool del = step % 7 == 6;
        int version = del ? 0 : step + 1;
        li->under_way[key] = version;
        li->open_step[key] = true;
        int rc = del ? object_delete(os, slice_of(keys[key]), &st)
                     : put(os, key, version, step % 3 == 1, &st);
        if (rc != 0) {
            break;
        }
        li->open_step[key] = false;
        li->told[key] = version;
    }
    object_close(os);
}

static bool is_version(struct object_store *os, int key, int version)
{
    uint8_t bytes[BYTES];
    struct object_info info;
    struct mapping *map = NULL;
    struct status absent = STATUS_INIT;
    int rc = object_stat(os, slice_of(keys[key]), &info, &absent);
    assert_true(rc == 0 || rc == ST_NOT_FOUND);
    if (rc == ST_NOT_FOUND || version == 0) {
        return rc == ST_NOT_FOUND && version == 0;
    }
    size_t n = content(key, version, bytes);
    OK(object_map(os, slice_of(keys[key]), &map, st));
    bool same = map->n == n && memcmp(map->p, bytes, n) == 0;
    mapping_free(map);
    return same;
}

static void check(struct life *li)
{
    struct object_store *os = NULL;
    char **names;
    size_t n;
    OK(object_local_open(store_dir, &os, st));
    for (int k = 0; k < KEYS; k++) {
        bool good = is_version(os, k, li->told[k]) ||
                    (li->open_step[k] && is_version(os, k, li->under_way[k]));
        if (!good) {
            fail_msg("%s is neither version %d nor %d", keys[k], li->told[k],
                     li->open_step[k] ? li->under_way[k] : li->told[k]);
        }
    }
    OK(dir_list(store_dir, &names, &n, st));
    for (size_t i = 0; i < n; i++) {
        assert_int_not_equal(names[i][0], '.');
    }
    dir_list_free(names, n);
    for (int k = 0; k < KEYS; k++) {
        OK(put(os, k, 99, false, st));
        assert_true(is_version(os, k, 99));
    }
    object_close(os);
}

static bool one_case(enum crash_mode mode, bool at_change, long n, uint64_t seed)
{
    struct crash_fs *fs = crash_fs_new(seed);
    struct life li = {0};
    if (at_change) {
        crash_fs_arm_change(fs, mode, n);
    } else {
        crash_fs_arm(fs, mode, n);
    }
    live(&li);
    bool off = crash_fs_is_off(fs);
    if (!off) { /* also right after the last step */
        crash_fs_power_off(fs, mode);
    }
    crash_fs_restart(fs);
    check(&li);
    crash_fs_free(fs);
    return off;
}

static void all_cases(enum crash_mode mode, bool at_change, uint64_t seeds)
{
    long n = 1;
    for (bool more = true; more; n++) {
        more = false;
        for (uint64_t seed = 1; seed <= seeds; seed++) {
            more |= one_case(mode, at_change, n, seed * 1000 + (uint64_t)n);
        }
    }
    assert_true(n > STEPS);
}

static void test_crash_when_unsynced_is_dropped(void **state)
{
    all_cases(CRASH_DROP, false, 1);
    all_cases(CRASH_DROP, true, 1);
}
static void test_crash_when_unsynced_is_torn(void **state)
{
    all_cases(CRASH_TEAR, false, 4);
}
static void test_crash_when_unsynced_is_garbled(void **state)
{
    all_cases(CRASH_GARBLE, false, 4);
}
static void test_crash_when_killed_at_any_change(void **state)
{
    all_cases(CRASH_KEEP, true, 1);
}
static void test_crash_when_power_goes_at_any_change(void **state)
{
    all_cases(CRASH_MIX, true, 4);
}

#ifdef ELANUS_FAULTS
static const char *const points[] = {"object_put_before_write", "object_put_before_sync",
                                     "object_put_before_rename", "object_put_after_rename"};

/* A process on the real disk is killed at a fault point; false when it never got there. */
static bool killed_at(const char *point, int nth)
{
    char *tmp = unit_tmp_dir(), *dir = path_join(tmp, "store");
    struct life *li =
        mmap(NULL, sizeof *li, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ws = 0;
    assert_true(li != MAP_FAILED);
    store_dir = dir;
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
    check(li);
    store_dir = "store";
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
        for (int nth = 1; nth < 20; nth++) {
            struct crash_fs *fs = crash_fs_new(1);
            struct life li = {0};
            char spec[80];
            (void)snprintf(spec, sizeof spec, "%s:%s:%d", points[i], nth & 1 ? "error" : "nospace",
                           nth);
            fault_arm(spec);
            live(&li);
            fault_arm(NULL);
            check(&li);
            crash_fs_free(fs);
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
        cmocka_unit_test(test_crash_when_killed_at_any_change),
        cmocka_unit_test(test_crash_when_power_goes_at_any_change),
#ifdef ELANUS_FAULTS
        cmocka_unit_test(test_crash_when_a_step_fails_at_a_fault_point),
        cmocka_unit_test(test_crash_when_killed_at_a_fault_point),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
