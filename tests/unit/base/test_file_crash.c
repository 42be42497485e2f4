/* test_file_crash.c - the crash double keeps its promises, and file_write_atomic() its own. */
#include "unit.h"
#include "file_crash.h"
#include <stdio.h>

static void append(const char *path, const char *text, bool sync)
{
    struct status st = STATUS_INIT;
    struct file *f;
    ASSERT_OK(file_open(path, FILE_WRITE | FILE_CREATE, &f, &st));
    ASSERT_OK(file_append(f, text, strlen(text), &st));
    if (sync) {
        ASSERT_OK(file_sync(f, &st));
    }
    file_close(f);
}

/* The content, zero-terminated, or NULL when the file does not exist. */
static char *content(const char *path, size_t *ret_n)
{
    struct status st = STATUS_INIT;
    uint8_t *p;
    int rc = file_read_all(path, 1 << 20, &p, ret_n, &st);
    if (rc == ST_NOT_FOUND) {
        return NULL;
    }
    ASSERT_OK(rc);
    char *text = xalloc(*ret_n + 1);
    memcpy(text, p, *ret_n);
    mem_free(p);
    return text;
}

static void assert_content(const char *path, const char *want)
{
    size_t n;
    char *text = content(path, &n);
    if (want) {
        assert_non_null(text);
        assert_string_equal(text, want);
    } else {
        assert_null(text);
    }
    mem_free(text);
}

static void test_drop_when_power_goes_then_only_synced_remains(void **state)
{
    struct status st = STATUS_INIT;
    struct crash_fs *fs = crash_fs_new(1);
    append("/a", "synced,", true);
    append("/b", "synced, no name", true);
    ASSERT_OK(dir_sync("/", &st));
    append("/a", "not", false);
    append("/c", "c", true);
    ASSERT_OK(path_unlink("/b", &st));
    crash_fs_power_off(fs, CRASH_DROP);
    crash_fs_restart(fs);
    assert_content("/a", "synced,");
    assert_content("/b", "synced, no name");
    assert_content("/c", NULL);
    crash_fs_free(fs);
}

static void test_keep_when_power_goes_then_all_remains(void **state)
{
    struct crash_fs *fs = crash_fs_new(1);
    append("/a", "x", false);
    crash_fs_power_off(fs, CRASH_KEEP);
    crash_fs_restart(fs);
    assert_content("/a", "x");
    crash_fs_free(fs);
}

static void test_tear_when_power_goes_then_a_first_part_of_the_rest(void **state)
{
    bool some = false, none = false, all = false;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct status st = STATUS_INIT;
        size_t n;
        struct crash_fs *fs = crash_fs_new(seed);
        append("/a", "1234", true);
        ASSERT_OK(dir_sync("/", &st));
        append("/a", "5678", false);
        crash_fs_power_off(fs, CRASH_TEAR);
        crash_fs_restart(fs);
        char *text = content("/a", &n);
        assert_true(n >= 4 && n <= 8 && memcmp(text, "12345678", n) == 0);
        none = none || n == 4;
        some = some || (n > 4 && n < 8);
        all = all || n == 8;
        mem_free(text);
        crash_fs_free(fs);
    }
    assert_true(none && some && all);
}

static void test_garble_when_power_goes_then_synced_part_is_whole(void **state)
{
    int damaged = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct status st = STATUS_INIT;
        size_t n;
        struct crash_fs *fs = crash_fs_new(seed);
        append("/a", "1234", true);
        ASSERT_OK(dir_sync("/", &st));
        append("/a", "5678abcd", false);
        crash_fs_power_off(fs, CRASH_GARBLE);
        crash_fs_restart(fs);
        char *text = content("/a", &n);
        assert_int_equal(n, 12);
        assert_memory_equal(text, "1234", 4);
        damaged += memcmp(text, "12345678abcd", 12) != 0;
        mem_free(text);
        crash_fs_free(fs);
    }
    assert_true(damaged > 50);
}

static void test_truncate_when_not_synced_then_old_or_new(void **state)
{
    int longer = 0, shorter = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct status st = STATUS_INIT;
        struct file *f;
        size_t n;
        struct crash_fs *fs = crash_fs_new(seed);
        append("/a", "123456", true);
        ASSERT_OK(dir_sync("/", &st));
        ASSERT_OK(file_open("/a", FILE_WRITE, &f, &st));
        ASSERT_OK(file_truncate(f, 3, &st));
        file_close(f);
        crash_fs_power_off(fs, CRASH_TEAR);
        crash_fs_restart(fs);
        char *text = content("/a", &n);
        assert_true(strcmp(text, "123456") == 0 || strcmp(text, "123") == 0);
        longer += n == 6;
        shorter += n == 3;
        mem_free(text);
        crash_fs_free(fs);
    }
    assert_true(longer > 0 && shorter > 0);
}

static void test_off_when_any_operation_then_fails_and_old_handles_stay_dead(void **state)
{
    struct status st = STATUS_INIT;
    struct file *f, *g = NULL;
    struct crash_fs *fs = crash_fs_new(1);
    char **names, byte;
    size_t n;
    uint64_t size;
    bool exists, is_dir;
    append("/a", "x", true);
    ASSERT_OK(dir_sync("/", &st));
    ASSERT_OK(file_open("/a", FILE_READ | FILE_WRITE, &f, &st));
    crash_fs_arm(fs, CRASH_DROP, 1);
    assert_int_equal(file_sync(f, &st), ST_IO);
    assert_true(crash_fs_is_off(fs));
    assert_int_equal(file_append(f, "x", 1, &st), ST_IO);
    assert_int_equal(file_pread(f, 0, &byte, 1, &n, &st), ST_IO);
    assert_int_equal(file_size(f, &size, &st), ST_IO);
    assert_int_equal(file_open("/a", FILE_READ, &g, &st), ST_IO);
    assert_int_equal(dir_list("/", &names, &n, &st), ST_IO);
    assert_int_equal(path_stat("/a", &exists, &is_dir, &size, &st), ST_IO);
    assert_int_equal(path_unlink("/a", &st), ST_IO);
    assert_int_equal(dir_make("/d", &st), ST_IO);
    crash_fs_restart(fs);
    assert_int_equal(file_append(f, "x", 1, &st), ST_IO);
    file_close(f);
    assert_content("/a", "x");
    crash_fs_free(fs);
}

static void test_rename_when_target_directory_is_synced_then_whole(void **state)
{
    struct status st = STATUS_INIT;
    struct crash_fs *fs = crash_fs_new(1);
    ASSERT_OK(dir_make("/x", &st));
    ASSERT_OK(dir_make("/y", &st));
    append("/x/f", "data", true); /* its creation in /x is not synced */
    ASSERT_OK(path_rename("/x/f", "/y/g", &st));
    ASSERT_OK(dir_sync("/y", &st));
    crash_fs_power_off(fs, CRASH_DROP);
    crash_fs_restart(fs);
    assert_content("/x/f", NULL);
    assert_content("/y/g", "data");
    crash_fs_free(fs);
}

static void test_directory_when_its_entry_is_lost_then_children_are(void **state)
{
    struct status st = STATUS_INIT;
    struct crash_fs *fs = crash_fs_new(1);
    /* Past dir_make(), which syncs: the raw step of the backend. */
    ASSERT_OK(dir_make("/p", &st));
    ASSERT_OK(path_rename("/p", "/q", &st));
    append("/q/f", "x", true);
    ASSERT_OK(dir_sync("/q", &st));
    crash_fs_power_off(fs, CRASH_DROP);
    crash_fs_restart(fs);
    assert_content("/q/f", NULL);
    assert_content("/p/f", "x");
    crash_fs_free(fs);
}

static void test_sync_when_made_to_fail_then_nothing_is_durable(void **state)
{
    struct status st = STATUS_INIT;
    struct file *f;
    struct crash_fs *fs = crash_fs_new(1);
    ASSERT_OK(file_open("/a", FILE_WRITE | FILE_CREATE, &f, &st));
    ASSERT_OK(dir_sync("/", &st));
    ASSERT_OK(file_append(f, "x", 1, &st));
    crash_fs_fail_sync(fs, 1);
    assert_int_equal(file_sync(f, &st), ST_IO);
    assert_false(crash_fs_is_off(fs));
    file_close(f);
    crash_fs_power_off(fs, CRASH_DROP);
    crash_fs_restart(fs);
    assert_content("/a", "");
    crash_fs_free(fs);
}

static void test_space_when_used_up_then_part_is_written(void **state)
{
    struct status st = STATUS_INIT;
    struct file *f;
    struct crash_fs *fs = crash_fs_new(1);
    crash_fs_set_space(fs, 5);
    ASSERT_OK(file_open("/a", FILE_WRITE | FILE_CREATE, &f, &st));
    ASSERT_OK(file_append(f, "abc", 3, &st));
    assert_int_equal(file_append(f, "defg", 4, &st), ST_NO_SPACE);
    assert_int_equal(file_preallocate(f, 100, &st), ST_NO_SPACE);
    assert_content("/a", "abcde");
    crash_fs_set_space(fs, UINT64_MAX);
    ASSERT_OK(file_append(f, "!", 1, &st));
    file_close(f);
    crash_fs_free(fs);
}

/* The use the double is for: every step, every kind of loss. */
static void test_write_atomic_when_power_goes_at_any_change_then_old_or_new(void **state)
{
    for (int by_change = 0; by_change < 2; by_change++) {
        for (enum crash_mode mode = CRASH_DROP; mode <= CRASH_MIX; mode++) {
            for (uint64_t seed = 0; seed < 20; seed++) {
                bool went_off = true;
                for (long nth = 1; went_off; nth++) {
                    struct status st = STATUS_INIT;
                    struct crash_fs *fs = crash_fs_new(seed);
                    ASSERT_OK(file_write_atomic("/conf", "old", 3, &st));
                    if (by_change) {
                        crash_fs_arm_change(fs, mode, nth);
                    } else {
                        crash_fs_arm(fs, mode, nth);
                    }
                    int rc = file_write_atomic("/conf", "brand new", 9, &st);
                    went_off = crash_fs_is_off(fs);
                    assert_true(went_off || rc == 0);
                    assert_true(!went_off || rc != 0);
                    crash_fs_restart(fs);
                    size_t n;
                    char *text = content("/conf", &n);
                    assert_non_null(text);
                    assert_true(strcmp(text, "brand new") == 0 ||
                                (rc != 0 && strcmp(text, "old") == 0));
                    mem_free(text);
                    crash_fs_free(fs);
                    assert_true(nth < 10);
                }
            }
        }
    }
}

static void test_dir_make_when_power_goes_after_it_then_it_exists(void **state)
{
    struct status st = STATUS_INIT;
    bool exists, is_dir;
    uint64_t size;
    struct crash_fs *fs = crash_fs_new(1);
    ASSERT_OK(dir_make("rel/a/b", &st));
    crash_fs_power_off(fs, CRASH_DROP);
    crash_fs_restart(fs);
    ASSERT_OK(path_stat("rel/a/b", &exists, &is_dir, &size, &st));
    assert_true(exists && is_dir);
    assert_true(crash_fs_syncs(fs) == 3 && crash_fs_changes(fs) == 6);
    crash_fs_free(fs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drop_when_power_goes_then_only_synced_remains),
        cmocka_unit_test(test_keep_when_power_goes_then_all_remains),
        cmocka_unit_test(test_tear_when_power_goes_then_a_first_part_of_the_rest),
        cmocka_unit_test(test_garble_when_power_goes_then_synced_part_is_whole),
        cmocka_unit_test(test_truncate_when_not_synced_then_old_or_new),
        cmocka_unit_test(test_off_when_any_operation_then_fails_and_old_handles_stay_dead),
        cmocka_unit_test(test_rename_when_target_directory_is_synced_then_whole),
        cmocka_unit_test(test_directory_when_its_entry_is_lost_then_children_are),
        cmocka_unit_test(test_sync_when_made_to_fail_then_nothing_is_durable),
        cmocka_unit_test(test_space_when_used_up_then_part_is_written),
        cmocka_unit_test(test_write_atomic_when_power_goes_at_any_change_then_old_or_new),
        cmocka_unit_test(test_dir_make_when_power_goes_after_it_then_it_exists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
