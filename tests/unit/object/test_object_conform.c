/*
 * test_object_conform.c - the contract of object.h, on every implementation.
 *
 * A row of `impls` opens an empty store; failures of the disk come from the file double.
 */
#include "expect.h"
#include "base/pool.h"
#include "file_crash.h"
#include "object/object.h"
#include <stdio.h>
#include <unistd.h>

struct impl {
    const char *name;
    void (*setup)(void);
    void (*teardown)(void);
    int (*open)(struct object_store **ret_os, struct status *st); /* again: the same store */
    void (*fail_sync)(long nth);
    void (*set_space)(uint64_t bytes);
    bool (*is_clean)(void); /* no temporary file is left; NULL: cannot tell */
};

static char *dir;
static struct crash_fs *fs;
static const struct impl *im;
static struct object_store *os;
static struct arena *ar;

static bool no_temporary(const char *root)
{
    char **names;
    size_t n;
    bool clean = true;
    OK(dir_list(root, &names, &n, st));
    for (size_t i = 0; i < n; i++) {
        clean &= names[i][0] != '.';
    }
    dir_list_free(names, n);
    return clean;
}
static void disk_setup(void)
{
    dir = unit_tmp_dir();
}
static void disk_teardown(void)
{
    unit_tmp_remove(dir);
}
static int disk_open(struct object_store **ret_os, struct status *st)
{
    return object_local_open(dir, ret_os, st);
}
static bool disk_is_clean(void)
{
    return no_temporary(dir);
}
static void double_setup(void)
{
    fs = crash_fs_new(1);
}
static void double_teardown(void)
{
    crash_fs_free(fs);
}
static int double_open(struct object_store **ret_os, struct status *st)
{
    return object_local_open("objects", ret_os, st);
}
static void double_fail_sync(long nth)
{
    crash_fs_fail_sync(fs, nth);
}
static void double_set_space(uint64_t bytes)
{
    crash_fs_set_space(fs, bytes);
}
static bool double_is_clean(void)
{
    return no_temporary("objects");
}

static const struct impl impls[] = {
    {"local", disk_setup, disk_teardown, disk_open, NULL, NULL, disk_is_clean},
    {"local on the file double", double_setup, double_teardown, double_open, double_fail_sync,
     double_set_space, double_is_clean},
};

static int setup(void **state)
{
    im = *state;
    im->setup();
    ar = arena_new(0);
    OK(im->open(&os, st));
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    object_close(os);
    arena_free(ar);
    im->teardown();
    return 0;
}

#define S(text) slice_of(text)

static int try_put(const char *key, const char *text, struct status *st)
{
    size_t n = strlen(text);
    struct file_part parts[2] = {{text, n / 2}, {text + n / 2, n - n / 2}};
    return object_put(os, S(key), parts, 2, st);
}
static void put(const char *key, const char *text)
{
    OK(try_put(key, text, st));
}
static void check(const char *key, const char *text)
{
    struct object_info info;
    struct mapping *map = NULL;
    size_t n = strlen(text), got = 0;
    char *bytes = xalloc(n + 1);
    OK(object_stat(os, S(key), &info, st));
    assert_int_equal(info.size, n);
    OK(object_get(os, S(key), 0, bytes, n, &got, st));
    assert_int_equal(got, n);
    assert_memory_equal(bytes, text, n);
    OK(object_map(os, S(key), &map, st));
    assert_int_equal(map->n, n);
    assert_memory_equal(map->p, text, n);
    mapping_free(map);
    int fd = object_descriptor(os, S(key)); /* -1 where there are no files */
    if (fd >= 0) {
        assert_int_equal(pread(fd, bytes, n, 0), n);
        assert_memory_equal(bytes, text, n);
        close(fd);
    }
    mem_free(bytes);
}
static void check_absent(const char *key)
{
    struct object_info info;
    struct mapping *map = NULL;
    char b[4];
    size_t got;
    FAILS(object_stat(os, S(key), &info, st), ST_NOT_FOUND, key);
    FAILS(object_get(os, S(key), 0, b, 4, &got, st), ST_NOT_FOUND, key);
    FAILS(object_map(os, S(key), &map, st), ST_NOT_FOUND, key);
    assert_int_equal(object_descriptor(os, S(key)), -1);
}
/* The keys of a listing, joined by spaces. */
static void check_list(const char *prefix, const char *want)
{
    struct object_range range = {.prefix = S(prefix)};
    struct object_list list;
    char got[2000] = "";
    OK(object_list(os, &range, ar, &list, st));
    assert_false(list.more);
    for (size_t i = 0; i < list.n; i++) {
        (void)snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s", i ? " " : "",
                       SLICE_ARG(list.items[i].key));
    }
    assert_string_equal(got, want);
}

static void test_put_when_done_then_read_whole_in_part_and_mapped(void **state)
{
    char b[8];
    size_t got;
    put("segments/1/2/3/a.col", "0123456789");
    check("segments/1/2/3/a.col", "0123456789");
    OK(object_get(os, S("segments/1/2/3/a.col"), 3, b, 4, &got, st));
    assert_int_equal(got, 4);
    assert_memory_equal(b, "3456", 4);
    OK(object_get(os, S("segments/1/2/3/a.col"), 8, b, 8, &got, st));
    assert_int_equal(got, 2);
    OK(object_get(os, S("segments/1/2/3/a.col"), 100, b, 8, &got, st));
    assert_int_equal(got, 0);
    put("empty", "");
    check("empty", "");
    check_absent("segments/1/2/3/b.col");
    check_absent("segments/1/2/3");
    check_absent("segments/1/2/3/a.col/x");
}

static void test_put_when_key_exists_then_replaced_and_old_mapping_stays(void **state)
{
    struct mapping *map = NULL;
    put("k", "old bytes");
    OK(object_map(os, S("k"), &map, st));
    put("k", "new");
    check("k", "new");
    assert_int_equal(map->n, 9);
    assert_memory_equal(map->p, "old bytes", 9);
    OK(object_delete(os, S("k"), st));
    assert_memory_equal(map->p, "old bytes", 9);
    mapping_free(map);
    check_absent("k");
}

static void test_writer_when_streaming_then_visible_only_at_commit(void **state)
{
    struct object_writer *ow = NULL;
    char want[5001] = "";
    OK(object_writer_open(os, S("a/b"), &ow, st));
    for (int i = 0; i < 500; i++) {
        OK(object_append(ow, "0123456789", 10, st));
        memcpy(want + (size_t)i * 10, "0123456789", 10);
        assert_int_equal(object_writer_size(ow), (i + 1) * 10);
    }
    check_absent("a/b");
    check_list("", "");
    OK(object_commit(ow, st));
    check("a/b", want);
    assert_true(im->is_clean());
}

static void test_writer_when_aborted_then_nothing_is_left(void **state)
{
    struct object_writer *ow = NULL;
    put("k", "old");
    OK(object_writer_open(os, S("k"), &ow, st));
    OK(object_append(ow, "new", 3, st));
    object_abort(ow);
    object_abort(NULL);
    check("k", "old");
    assert_true(im->is_clean());
}

static void test_open_when_a_writer_never_finished_then_its_bytes_are_removed(void **state)
{
    struct object_writer *ow = NULL;
    put("k", "kept");
    OK(object_writer_open(os, S("dead"), &ow, st));
    OK(object_append(ow, "new", 3, st));
    assert_false(im->is_clean());
    struct object_store *second = NULL;
    OK(im->open(&second, st)); /* as after a kill */
    assert_true(im->is_clean());
    object_close(second);
    object_abort(ow);
    check("k", "kept");
    check_absent("dead");
}

static void test_list_when_prefix_then_sorted_by_key(void **state)
{
    put("a/b", "1");
    put("a-b", "22");
    put("a/c/1", "333");
    put("a/c/10", "1");
    put("a0", "1");
    put("b", "1");
    check_list("", "a-b a/b a/c/1 a/c/10 a0 b");
    check_list("a", "a-b a/b a/c/1 a/c/10 a0");
    check_list("a/", "a/b a/c/1 a/c/10");
    check_list("a/c/1", "a/c/1 a/c/10");
    check_list("a/c/1/", "");
    check_list("nowhere/at/all", "");
    struct object_range range = {.prefix = S("a/c/1"), .limit = 1};
    struct object_list list;
    OK(object_list(os, &range, ar, &list, st));
    assert_true(list.more);
    assert_int_equal(list.items[0].size, 3);
}

static void test_list_when_limited_then_pages_cover_everything(void **state)
{
    char key[32], last[32] = "";
    for (int i = 0; i < 23; i++) {
        (void)snprintf(key, sizeof key, "p%d/%02d", i % 3, i);
        put(key, "x");
    }
    for (size_t limit = 1; limit <= 24; limit += 5) {
        struct object_range range = {.prefix = S("p"), .limit = limit};
        struct object_list list;
        size_t seen = 0;
        last[0] = 0;
        do {
            OK(object_list(os, &range, ar, &list, st));
            for (size_t i = 0; i < list.n; i++, seen++) {
                (void)snprintf(key, sizeof key, "%.*s", SLICE_ARG(list.items[i].key));
                assert_true(strcmp(key, last) > 0);
                (void)snprintf(last, sizeof last, "%s", key);
            }
            range.start_after = S(last);
        } while (list.more);
        assert_int_equal(seen, 23);
    }
}

static void test_delete_when_missing_then_fine(void **state)
{
    put("a/b", "1");
    OK(object_delete(os, S("a/c"), st));
    OK(object_delete(os, S("x/y/z"), st));
    OK(object_delete(os, S("a"), st)); /* a folder is no object */
    check("a/b", "1");
    OK(object_delete(os, S("a/b"), st));
    OK(object_delete(os, S("a/b"), st));
    check_list("", "");
}

static void test_delete_prefix_when_done_then_the_rest_stays(void **state)
{
    put("s/1/a", "1");
    put("s/1/x/b", "1");
    put("s/10/c", "1");
    put("s/2", "1");
    OK(object_delete_prefix(os, S("s/1/"), st));
    check_list("", "s/10/c s/2");
    OK(object_delete_prefix(os, S("s/1"), st));
    check_list("", "s/2");
    OK(object_delete_prefix(os, S("nothing/"), st));
    FAILS(object_delete_prefix(os, S(""), st), ST_INVALID, "all objects");
    put("s/1/a", "again");
    check("s/1/a", "again");
}

static void test_any_call_when_key_is_bad_then_invalid(void **state)
{
    static const char *const bad[] = {"",       "/a",   "a/",     "a//b", "..",
                                      "a/../b", "./a",  ".tmp-1", "a b",  "a\nb",
                                      "a\\b",   "a/.b", "~",      "a*",   "\xc3\xa4"};
    static const char *const good[] = {"a", "a.b", "A-Z_0=9@x+y/..."};
    char longest[OBJECT_KEY_MAX + 2];
    struct object_info info;
    struct object_writer *ow;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(object_key_valid(S(bad[i])));
        FAILS(try_put(bad[i], "x", st), ST_INVALID, "");
        FAILS(object_stat(os, S(bad[i]), &info, st), ST_INVALID, "");
        FAILS(object_delete(os, S(bad[i]), st), ST_INVALID, "");
        FAILS(object_writer_open(os, S(bad[i]), &ow, st), ST_INVALID, "");
    }
    assert_true(object_key_valid(S(good[0])));
    assert_true(object_key_valid(S(good[1])));
    assert_false(object_key_valid(S(good[2]))); /* its last component starts with a dot */
    assert_false(object_key_valid(slice_n("a\0b", 3)));
    memset(longest, 'k', sizeof longest);
    for (size_t i = 100; i < sizeof longest; i += 100) {
        longest[i] = '/';
    }
    longest[OBJECT_KEY_MAX - 1] = 'z';
    assert_true(object_key_valid(slice_n(longest, OBJECT_KEY_MAX)));
    assert_false(object_key_valid(slice_n(longest, OBJECT_KEY_MAX + 1)));
    memset(longest, 'k', sizeof longest);
    assert_true(object_key_valid(slice_n(longest, 200)));
    assert_false(object_key_valid(slice_n(longest, 201)));
    check_list("", "");
}

static void test_open_when_closed_before_then_objects_are_there(void **state)
{
    put("a/b", "1");
    object_close(os);
    os = NULL;
    OK(im->open(&os, st));
    check("a/b", "1");
}

static void put_many(void *arg)
{
    struct status st = STATUS_INIT;
    char key[32];
    for (int i = 0; i < 30; i++) {
        struct file_part part = {key, 8};
        (void)snprintf(key, sizeof key, "t/%d/%05d", (int)(intptr_t)arg, i);
        CHECK(object_put(os, S(key), &part, 1, &st) == 0);
        CHECK(object_put(os, S("t/same"), &part, 1, &st) == 0);
    }
}

static void test_put_when_concurrent_then_each_is_whole(void **state)
{
    struct thread *t[4];
    struct object_range range = {.prefix = S("t/")};
    struct object_list list;
    for (int i = 0; i < 4; i++) {
        t[i] = thread_start("put", put_many, (void *)(intptr_t)i);
    }
    for (int i = 0; i < 4; i++) {
        thread_join(t[i]);
    }
    OK(object_list(os, &range, ar, &list, st));
    assert_int_equal(list.n, 121);
    for (size_t i = 0; i < list.n; i++) {
        assert_int_equal(list.items[i].size, 8);
    }
    assert_true(im->is_clean());
}

static void test_put_when_disk_is_full_then_refused_and_nothing_is_left(void **state)
{
    if (!im->set_space) {
        skip();
    }
    put("k", "old");
    for (uint64_t space = 0; space < 10; space++) {
        im->set_space(space);
        FAILS(try_put("k", "0123456789", st), ST_NO_SPACE, "");
        FAILS(try_put("other/k", "0123456789", st), ST_NO_SPACE, "");
        assert_true(im->is_clean());
    }
    im->set_space(UINT64_MAX);
    check("k", "old");
    check_list("", "k");
    put("k", "0123456789");
    check("k", "0123456789");
}

static void test_append_when_one_failed_then_commit_refuses(void **state)
{
    struct object_writer *ow = NULL;
    if (!im->set_space) {
        skip();
    }
    OK(object_writer_open(os, S("k"), &ow, st));
    im->set_space(3);
    FAILS(object_append(ow, "12345", 5, st), ST_NO_SPACE, "");
    im->set_space(UINT64_MAX);
    FAILS(object_append(ow, "12345", 5, st), ST_IO, "earlier");
    FAILS(object_commit(ow, st), ST_IO, "earlier");
    check_absent("k");
    assert_true(im->is_clean());
}

static void test_put_when_a_sync_fails_then_error_and_old_object_or_new(void **state)
{
    if (!im->fail_sync) {
        skip();
    }
    for (long n = 1; n <= 6; n++) {
        struct status st = STATUS_INIT;
        char key[16];
        (void)snprintf(key, sizeof key, "d%ld/k", n);
        im->fail_sync(n);
        int rc = try_put(key, "new", &st);
        im->fail_sync(0);
        assert_true(rc == 0 || rc == ST_IO);
        assert_true(rc == ST_IO || n > 2);
        assert_true(im->is_clean());
        put(key, "again");
        check(key, "again");
    }
}

#define CASE(f)                                                                                    \
    {                                                                                              \
#f, f, setup, teardown, NULL                                                               \
    }

int main(void)
{
    struct CMUnitTest tests[] = {
        CASE(test_put_when_done_then_read_whole_in_part_and_mapped),
        CASE(test_put_when_key_exists_then_replaced_and_old_mapping_stays),
        CASE(test_writer_when_streaming_then_visible_only_at_commit),
        CASE(test_writer_when_aborted_then_nothing_is_left),
        CASE(test_open_when_a_writer_never_finished_then_its_bytes_are_removed),
        CASE(test_list_when_prefix_then_sorted_by_key),
        CASE(test_list_when_limited_then_pages_cover_everything),
        CASE(test_delete_when_missing_then_fine),
        CASE(test_delete_prefix_when_done_then_the_rest_stays),
        CASE(test_any_call_when_key_is_bad_then_invalid),
        CASE(test_open_when_closed_before_then_objects_are_there),
        CASE(test_put_when_concurrent_then_each_is_whole),
        CASE(test_put_when_disk_is_full_then_refused_and_nothing_is_left),
        CASE(test_append_when_one_failed_then_commit_refuses),
        CASE(test_put_when_a_sync_fails_then_error_and_old_object_or_new),
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
