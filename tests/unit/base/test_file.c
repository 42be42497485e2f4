/* test_file.c - one set of cases, over the disk and over the crash double: both must agree. */
#include "unit.h"
#include "alloc_torture.h"
#include "file_crash.h"
#include <stdio.h>

struct place {
    char *dir;           /* a folder of its own */
    struct crash_fs *fs; /* NULL: the disk */
};

static int setup_disk(void **state)
{
    struct place *pl = xalloc(sizeof *pl);
    pl->dir = unit_tmp_dir();
    *state = pl;
    return 0;
}

static int setup_memory(void **state)
{
    struct status st = STATUS_INIT;
    struct place *pl = xalloc(sizeof *pl);
    pl->fs = crash_fs_new(1);
    pl->dir = xstrdup("/case/here");
    *state = pl;
    return dir_make(pl->dir, &st);
}

static int teardown(void **state)
{
    struct place *pl = *state;
    struct status st = STATUS_INIT;
    int rc = path_remove_tree(pl->dir, &st);
    mem_free(pl->dir);
    crash_fs_free(pl->fs);
    mem_free(pl);
    return rc;
}

static char *in(struct place *pl, const char *name)
{
    static char path[4][300];
    static int k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", pl->dir, name);
    return path[k];
}

static void assert_content(const char *path, const char *want)
{
    struct status st = STATUS_INIT;
    uint8_t *p;
    size_t n;
    ASSERT_OK(file_read_all(path, 1 << 20, &p, &n, &st));
    assert_int_equal(n, strlen(want));
    assert_memory_equal(p, want, n);
    mem_free(p);
}

static void put(const char *path, const char *text)
{
    struct status st = STATUS_INIT;
    struct file *f;
    ASSERT_OK(file_open(path, FILE_WRITE | FILE_CREATE | FILE_TRUNC, &f, &st));
    ASSERT_OK(file_append(f, text, strlen(text), &st));
    file_close(f);
}

static void test_open_when_flags_differ_then_as_asked(void **state)
{
    struct status st = STATUS_INIT;
    struct file *f = NULL;
    const char *a = in(*state, "a");
    assert_int_equal(file_open(a, FILE_READ, &f, &st), ST_NOT_FOUND);
    assert_non_null(strstr(st.msg, a));
    assert_int_equal(file_open(a, FILE_WRITE, &f, &st), ST_NOT_FOUND);
    assert_null(f);
    ASSERT_OK(file_open(a, FILE_WRITE | FILE_CREATE | FILE_EXCL, &f, &st));
    ASSERT_OK(file_append(f, "one", 3, &st));
    file_close(f);
    assert_int_equal(file_open(a, FILE_WRITE | FILE_CREATE | FILE_EXCL, &f, &st), ST_EXISTS);
    ASSERT_OK(file_open(a, FILE_READ | FILE_WRITE, &f, &st)); /* at the end, not the start */
    ASSERT_OK(file_append(f, "two", 3, &st));
    file_close(f);
    assert_content(a, "onetwo");
    ASSERT_OK(file_open(a, FILE_WRITE | FILE_CREATE | FILE_TRUNC, &f, &st));
    file_close(f);
    assert_content(a, "");
    ASSERT_OK(file_open(a, FILE_READ, &f, &st));
    assert_int_equal(file_append(f, "x", 1, &st), ST_IO);
    file_close(f);
    file_close(NULL);
    assert_int_equal(file_open(in(*state, "no/such"), FILE_WRITE | FILE_CREATE, &f, &st),
                     ST_NOT_FOUND);
    assert_int_equal(file_open(((struct place *)*state)->dir, FILE_WRITE, &f, &st), ST_IO);
}

static void test_appendv_when_many_parts_then_in_order(void **state)
{
    enum { N = 2500 }; /* more than one system call takes */
    struct status st = STATUS_INIT;
    struct file *f;
    struct file_part parts[N];
    static char text[N];
    for (size_t i = 0; i < N; i++) {
        text[i] = (char)('a' + i % 26);
        parts[i] = (struct file_part){&text[i], i % 10 == 9 ? 0 : 1};
    }
    ASSERT_OK(file_open(in(*state, "v"), FILE_READ | FILE_WRITE | FILE_CREATE, &f, &st));
    ASSERT_OK(file_appendv(f, parts, N, &st));
    ASSERT_OK(file_appendv(f, NULL, 0, &st));
    uint64_t size;
    ASSERT_OK(file_size(f, &size, &st));
    assert_int_equal(size, N / 10 * 9);
    char got[N];
    size_t n, k = 0;
    ASSERT_OK(file_pread(f, 0, got, sizeof got, &n, &st));
    assert_int_equal(n, size);
    for (size_t i = 0; i < N; i++) {
        if (i % 10 != 9) {
            assert_int_equal(got[k++], text[i]);
        }
    }
    file_close(f);
}

static void test_pwritev_when_over_and_past_the_end_then_both(void **state)
{
    struct status st = STATUS_INIT;
    struct file *f;
    char got[32];
    size_t n;
    struct file_part parts[] = {{"XY", 2}, {"", 0}, {"Z-end", 5}};
    struct file_part whole = {"0123456789", 10};
    ASSERT_OK(file_open(in(*state, "at"), FILE_READ | FILE_WRITE | FILE_AT | FILE_CREATE, &f, &st));
    ASSERT_OK(file_pwritev(f, 0, &whole, 1, &st));
    ASSERT_OK(file_pwritev(f, 3, parts, 2, &st));
    ASSERT_OK(file_pwritev(f, 8, parts, 3, &st));
    ASSERT_OK(file_pwritev(f, 18, parts, 1, &st)); /* what lies between is zero */
    ASSERT_OK(file_sync(f, &st));
    ASSERT_OK(file_pread(f, 0, got, sizeof got, &n, &st));
    assert_int_equal(n, 20);
    assert_memory_equal(got, "012XY567XYZ-end\0\0\0XY", 20);
    file_close(f);
}

static void test_pread_when_past_the_end_then_short(void **state)
{
    struct status st = STATUS_INIT;
    struct file *f;
    char got[10];
    size_t n = 99;
    put(in(*state, "r"), "0123456789");
    ASSERT_OK(file_open(in(*state, "r"), FILE_READ, &f, &st));
    ASSERT_OK(file_pread(f, 7, got, 10, &n, &st));
    assert_int_equal(n, 3);
    assert_memory_equal(got, "789", 3);
    ASSERT_OK(file_pread(f, 10, got, 10, &n, &st));
    assert_int_equal(n, 0);
    ASSERT_OK(file_pread(f, 1 << 30, got, 10, &n, &st));
    assert_int_equal(n, 0);
    file_close(f);
}

static void test_truncate_when_shorter_and_longer_then_zeros(void **state)
{
    struct status st = STATUS_INIT;
    struct file *f;
    uint64_t size;
    ASSERT_OK(file_open(in(*state, "t"), FILE_READ | FILE_WRITE | FILE_CREATE, &f, &st));
    ASSERT_OK(file_append(f, "abcdef", 6, &st));
    ASSERT_OK(file_sync(f, &st));
    ASSERT_OK(file_truncate(f, 2, &st));
    ASSERT_OK(file_append(f, "XY", 2, &st));
    ASSERT_OK(file_truncate(f, 6, &st));
    ASSERT_OK(file_sync(f, &st));
    char got[8];
    size_t n;
    ASSERT_OK(file_pread(f, 0, got, 8, &n, &st));
    assert_int_equal(n, 6);
    assert_memory_equal(got, "abXY\0\0", 6);
    ASSERT_OK(file_preallocate(f, 100000, &st));
    ASSERT_OK(file_preallocate(f, 0, &st));
    ASSERT_OK(file_size(f, &size, &st));
    assert_int_equal(size, 6);
    file_close(f);
}

static void test_dirs_when_made_listed_removed_then_consistent(void **state)
{
    struct status st = STATUS_INIT;
    char **names;
    size_t n;
    bool exists, is_dir;
    uint64_t size;
    ASSERT_OK(dir_make(in(*state, "d/e//f/"), &st));
    ASSERT_OK(dir_make(in(*state, "d/e"), &st));
    put(in(*state, "d/b"), "x");
    put(in(*state, "d/a"), "x");
    put(in(*state, "d/B"), "x");
    ASSERT_OK(dir_sync(in(*state, "d"), &st));
    ASSERT_OK(dir_list(in(*state, "d"), &names, &n, &st));
    assert_int_equal(n, 4);
    assert_string_equal(names[0], "B");
    assert_string_equal(names[1], "a");
    assert_string_equal(names[2], "b");
    assert_string_equal(names[3], "e");
    dir_list_free(names, n);
    assert_int_equal(dir_list(in(*state, "nope"), &names, &n, &st), ST_NOT_FOUND);
    assert_int_equal(dir_sync(in(*state, "nope"), &st), ST_NOT_FOUND);
    ASSERT_OK(path_stat(in(*state, "d"), &exists, &is_dir, &size, &st));
    assert_true(exists && is_dir);
    ASSERT_OK(path_stat(in(*state, "d/a"), &exists, &is_dir, &size, &st));
    assert_true(exists && !is_dir && size == 1);
    ASSERT_OK(path_stat(in(*state, "d/zz"), &exists, &is_dir, &size, &st));
    assert_false(exists);
    ASSERT_OK(path_stat(in(*state, "d/a/below"), &exists, &is_dir, &size, &st));
    assert_false(exists);
    assert_int_equal(dir_make(in(*state, "d/a"), &st), ST_EXISTS);
    assert_true(path_unlink(in(*state, "d/e"), &st) != 0); /* a directory */
    ASSERT_OK(path_unlink(in(*state, "d/zz"), &st));
    ASSERT_OK(path_remove_tree(in(*state, "d"), &st));
    ASSERT_OK(path_remove_tree(in(*state, "d"), &st));
    ASSERT_OK(path_stat(in(*state, "d"), &exists, &is_dir, &size, &st));
    assert_false(exists);
    put(in(*state, "plain"), "x");
    ASSERT_OK(path_remove_tree(in(*state, "plain"), &st));
}

static void test_rename_when_target_exists_then_replaced(void **state)
{
    struct status st = STATUS_INIT;
    put(in(*state, "from"), "new");
    put(in(*state, "to"), "old");
    ASSERT_OK(path_rename(in(*state, "from"), in(*state, "to"), &st));
    assert_content(in(*state, "to"), "new");
    assert_int_equal(path_rename(in(*state, "from"), in(*state, "x"), &st), ST_NOT_FOUND);
    ASSERT_OK(dir_make(in(*state, "sub"), &st));
    ASSERT_OK(path_rename(in(*state, "to"), in(*state, "sub/to"), &st));
    assert_content(in(*state, "sub/to"), "new");
}

static void test_read_all_when_over_the_limit_then_too_large(void **state)
{
    struct status st = STATUS_INIT;
    uint8_t *p = NULL;
    size_t n = 77;
    put(in(*state, "ten"), "0123456789");
    assert_int_equal(file_read_all(in(*state, "ten"), 9, &p, &n, &st), ST_TOO_LARGE);
    assert_null(p);
    assert_int_equal(n, 77);
    ASSERT_OK(file_read_all(in(*state, "ten"), 10, &p, &n, &st));
    assert_int_equal(n, 10);
    mem_free(p);
    ASSERT_OK(file_read_all(in(*state, "ten"), SIZE_MAX, &p, &n, &st));
    mem_free(p);
    assert_int_equal(file_read_all(in(*state, "none"), 10, &p, &n, &st), ST_NOT_FOUND);
}

static void test_read_all_when_memory_fails_then_no_memory(void **state)
{
    put(in(*state, "mem"), "0123456789");
    ALLOC_TORTURE
    {
        struct status st = STATUS_INIT;
        uint8_t *p = NULL;
        size_t n;
        int rc = file_read_all(in(*state, "mem"), 100, &p, &n, &st);
        assert_int_equal(rc, ALLOC_TORTURE_RUN == 1 ? ST_NO_MEMORY : 0);
        mem_free(p);
    }
}

static void test_map_when_file_has_bytes_or_none_then_readable(void **state)
{
    struct status st = STATUS_INIT;
    struct mapping *map = NULL;
    put(in(*state, "m"), "mapped");
    ASSERT_OK(file_map(in(*state, "m"), &map, &st));
    ASSERT_OK(path_unlink(in(*state, "m"), &st));
    assert_int_equal(map->n, 6);
    assert_memory_equal(map->p, "mapped", 6);
    mapping_free(map);
    put(in(*state, "m"), "");
    ASSERT_OK(file_map(in(*state, "m"), &map, &st));
    assert_int_equal(map->n, 0);
    assert_non_null(map->p);
    mapping_free(map);
    mapping_free(NULL);
    assert_int_equal(file_map(in(*state, "none"), &map, &st), ST_NOT_FOUND);
}

static void test_write_atomic_when_repeated_then_last_content_and_no_leftover(void **state)
{
    struct status st = STATUS_INIT;
    char **names;
    size_t n;
    put(in(*state, "w.tmp"), "left by a crash, and longer than what comes");
    ASSERT_OK(file_write_atomic(in(*state, "w"), "first", 5, &st));
    ASSERT_OK(file_write_atomic(in(*state, "w"), "2nd", 3, &st));
    assert_content(in(*state, "w"), "2nd");
    ASSERT_OK(dir_list(((struct place *)*state)->dir, &names, &n, &st));
    assert_int_equal(n, 1);
    dir_list_free(names, n);
    assert_int_equal(file_write_atomic(in(*state, "no/w"), "x", 1, &st), ST_NOT_FOUND);
}

static void test_remove_tree_when_it_holds_a_link_then_the_target_stays(void **state)
{
    struct status st = STATUS_INIT;
    ASSERT_OK(dir_make(in(*state, "keep"), &st));
    put(in(*state, "keep/file"), "x");
    ASSERT_OK(dir_make(in(*state, "tree"), &st));
    assert_int_equal(symlink(in(*state, "keep"), in(*state, "tree/link")), 0);
    ASSERT_OK(path_remove_tree(in(*state, "tree"), &st));
    assert_content(in(*state, "keep/file"), "x");
}

static void test_write_when_device_is_full_then_no_space(void **state)
{
    struct status st = STATUS_INIT;
    struct file *f;
    ASSERT_OK(file_open("/dev/full", FILE_WRITE, &f, &st));
    assert_int_equal(file_append(f, "x", 1, &st), ST_NO_SPACE);
    assert_non_null(strstr(st.msg, "/dev/full"));
    file_close(f);
}

static void test_read_all_when_size_is_unknown_then_read_to_the_end(void **state)
{
    struct status st = STATUS_INIT;
    uint8_t *p = NULL;
    size_t n;
    ASSERT_OK(file_read_all("/proc/self/status", 1 << 20, &p, &n, &st));
    assert_true(n > 100);
    mem_free(p);
    p = NULL;
    assert_int_equal(file_read_all("/dev/zero", 100000, &p, &n, &st), ST_TOO_LARGE);
    assert_null(p);
}

static void test_path_join_when_slashes_then_one(void **state)
{
    static const char *const rows[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *p = path_join(rows[i][0], rows[i][1]);
        assert_string_equal(p, rows[i][2]);
        mem_free(p);
    }
}

#define BOTH(t)                                                                                    \
    cmocka_unit_test_setup_teardown(t, setup_disk, teardown),                                      \
        cmocka_unit_test_setup_teardown(t, setup_memory, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_open_when_flags_differ_then_as_asked),
        BOTH(test_appendv_when_many_parts_then_in_order),
        BOTH(test_pwritev_when_over_and_past_the_end_then_both),
        BOTH(test_pread_when_past_the_end_then_short),
        BOTH(test_truncate_when_shorter_and_longer_then_zeros),
        BOTH(test_dirs_when_made_listed_removed_then_consistent),
        BOTH(test_rename_when_target_exists_then_replaced),
        BOTH(test_read_all_when_over_the_limit_then_too_large),
        BOTH(test_read_all_when_memory_fails_then_no_memory),
        BOTH(test_map_when_file_has_bytes_or_none_then_readable),
        BOTH(test_write_atomic_when_repeated_then_last_content_and_no_leftover),
        cmocka_unit_test_setup_teardown(test_remove_tree_when_it_holds_a_link_then_the_target_stays,
                                        setup_disk, teardown),
        cmocka_unit_test(test_write_when_device_is_full_then_no_space),
        cmocka_unit_test(test_read_all_when_size_is_unknown_then_read_to_the_end),
        cmocka_unit_test(test_path_join_when_slashes_then_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
