/*
 * test_meta_conform.c - the contract of meta.h, on every implementation.
 *
 * An implementation is a row of `impls`: how to open an empty store, and (when it outlives its
 * handle) how to open the same store again.
 */
#include "expect.h"
#include "base/clock.h"
#include "base/pool.h"
#include "meta/meta.h"
#include <stdatomic.h>
#include <stdio.h>

struct impl {
    const char *name;
    void (*setup)(void);
    void (*teardown)(void);
    int (*open)(struct meta **ret_m, struct status *st); /* again: the same store */
    bool survives;                                       /* close and open keeps the data */
};

static char *dir;
static const struct impl *im;
static struct meta *m;
static struct arena *ar;

static void nothing(void)
{
}
static int mem_open(struct meta **ret_m, struct status *st)
{
    (void)st;
    *ret_m = meta_mem_new();
    return 0;
}
static void rocks_setup(void)
{
    dir = unit_tmp_dir();
}
static void rocks_teardown(void)
{
    unit_tmp_remove(dir);
}
static int rocks_open(struct meta **ret_m, struct status *st)
{
    return meta_rocksdb_open(dir, ret_m, st);
}

static const struct impl impls[] = {
    {"memory", nothing, nothing, mem_open, false},
    {"RocksDB", rocks_setup, rocks_teardown, rocks_open, true},
};

static int setup(void **state)
{
    im = *state;
    im->setup();
    ar = arena_new(0);
    OK(im->open(&m, st));
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    clock_real();
    meta_close(m);
    arena_free(ar);
    im->teardown();
    return 0;
}
static void reopen(void)
{
    meta_close(m);
    m = NULL;
    OK(im->open(&m, st));
}

#define S(text) slice_of(text)

static int64_t put(const char *key, const char *value)
{
    int64_t rev = 0;
    OK(meta_put(m, S(key), S(value), &rev, st));
    return rev;
}
static int64_t revision(void)
{
    int64_t rev = -1;
    OK(meta_revision(m, &rev, st));
    return rev;
}
static void check(const char *key, const char *value, int64_t version)
{
    struct meta_item it;
    OK(meta_get(m, S(key), ar, &it, st));
    assert_true(slice_is(it.key, key));
    assert_int_equal(it.version, version);
    if (!slice_is(it.value, value)) {
        fail_msg("%s is \"%.*s\", expected \"%s\"", key, SLICE_ARG(it.value), value);
    }
}
static void check_absent(const char *key)
{
    check(key, "", 0);
}
/* The keys under prefix, joined by spaces. */
static void check_keys(const char *prefix, const char *want)
{
    struct meta_range range = {.prefix = S(prefix), .keys_only = true};
    struct meta_list list;
    char got[2000] = "";
    OK(meta_list(m, &range, ar, &list, st));
    assert_false(list.more);
    for (size_t i = 0; i < list.n; i++) {
        (void)snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s", i ? " " : "",
                       SLICE_ARG(list.items[i].key));
        assert_int_equal(list.items[i].value.n, 0);
    }
    assert_string_equal(got, want);
}

/* ---- get, list, put ---- */

static void test_get_when_absent_then_version_zero(void **state)
{
    check_absent("/nothing");
    assert_int_equal(revision(), 0);
}

static void test_put_when_repeated_then_version_is_the_store_revision(void **state)
{
    assert_int_equal(put("/a", "1"), 1);
    assert_int_equal(put("/b", "2"), 2);
    assert_int_equal(put("/a", "3"), 3);
    check("/a", "3", 3);
    check("/b", "2", 2);
    assert_int_equal(revision(), 3);
}

static void test_put_when_value_is_binary_empty_or_largest_then_read_back(void **state)
{
    char *big = xalloc(META_VALUE_MAX);
    struct meta_item it;
    memset(big, 0xa5, META_VALUE_MAX);
    put("/empty", "");
    OK(meta_put(m, S("/bin"), slice_n("\0\1\0", 3), NULL, st));
    OK(meta_put(m, S("/big"), slice_n(big, META_VALUE_MAX), NULL, st));
    check("/empty", "", 1);
    OK(meta_get(m, S("/bin"), ar, &it, st));
    assert_true(slice_eq(it.value, slice_n("\0\1\0", 3)));
    OK(meta_get(m, S("/big"), ar, &it, st));
    assert_true(slice_eq(it.value, slice_n(big, META_VALUE_MAX)));
    mem_free(big);
}

static void test_any_call_when_key_is_bad_then_invalid(void **state)
{
    char longest[META_KEY_MAX + 2];
    struct meta_item it;
    memset(longest, 'k', sizeof longest);
    longest[0] = '/';
    OK(meta_put(m, slice_n(longest, META_KEY_MAX), S("v"), NULL, st));
    OK(meta_get(m, slice_n(longest, META_KEY_MAX), ar, &it, st));
    assert_int_equal(it.version, 1);
    FAILS(meta_put(m, slice_n(longest, META_KEY_MAX + 1), S("v"), NULL, st), ST_INVALID, "1024");
    FAILS(meta_put(m, S(""), S("v"), NULL, st), ST_INVALID, "'/'");
    FAILS(meta_put(m, S("a"), S("v"), NULL, st), ST_INVALID, "'/'");
    FAILS(meta_put(m, S("/a\n"), S("v"), NULL, st), ST_INVALID, "0x0a");
    FAILS(meta_get(m, slice_n("/\0", 2), ar, &it, st), ST_INVALID, "0x00");
    FAILS(meta_delete(m, S("/\xc3\xa4"), NULL, st), ST_INVALID, "0xc3");
    char *big = xalloc((size_t)META_VALUE_MAX + 1);
    FAILS(meta_put(m, S("/a"), slice_n(big, (size_t)META_VALUE_MAX + 1), NULL, st), ST_TOO_LARGE,
          "1048576");
    mem_free(big);
    assert_int_equal(revision(), 1);
}

static void test_list_when_prefix_then_sorted_and_bounded(void **state)
{
    put("/b/2", "x");
    put("/b/10", "x");
    put("/a", "x");
    put("/b", "x");
    put("/b0", "x");
    put("/c", "x");
    check_keys("/b/", "/b/10 /b/2");
    check_keys("/b", "/b /b/10 /b/2 /b0");
    check_keys("/", "/a /b /b/10 /b/2 /b0 /c");
    check_keys("", "/a /b /b/10 /b/2 /b0 /c");
    check_keys("/d", "");
}

static void test_list_when_limited_then_pages_cover_everything(void **state)
{
    struct meta_list list;
    for (int i = 0; i < 25; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "/p/%02d", i);
        put(key, key);
    }
    put("/q", "x");
    for (size_t limit = 1; limit < 30; limit++) {
        struct meta_range range = {.prefix = S("/p/"), .limit = limit};
        int seen = 0;
        do {
            OK(meta_list(m, &range, ar, &list, st));
            assert_true(list.n <= limit);
            assert_int_equal(list.revision, 26);
            for (size_t i = 0; i < list.n; i++, seen++) {
                assert_int_equal(list.items[i].version, seen + 1);
                assert_true(slice_eq(list.items[i].key, list.items[i].value));
            }
            if (list.n) {
                range.start_after = list.items[list.n - 1].key;
            }
        } while (list.more);
        assert_int_equal(seen, 25);
    }
    /* A start that lies before the prefix, or behind it. */
    struct meta_range range = {.prefix = S("/p/"), .start_after = S("/a")};
    OK(meta_list(m, &range, ar, &list, st));
    assert_int_equal(list.n, 25);
    range.start_after = S("/z");
    OK(meta_list(m, &range, ar, &list, st));
    assert_int_equal(list.n, 0);
    range.start_after = S("/p/23x");
    OK(meta_list(m, &range, ar, &list, st));
    assert_int_equal(list.n, 1);
}

static void test_list_when_values_are_large_then_cut_by_bytes(void **state)
{
    char *big = xalloc(META_VALUE_MAX);
    struct meta_range range = {.prefix = S("/p/")};
    struct meta_list list;
    size_t seen = 0, pages = 0;
    for (int i = 0; i < 20; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "/p/%02d", i);
        OK(meta_put(m, S(key), slice_n(big, META_VALUE_MAX), NULL, st));
    }
    do {
        arena_reset(ar);
        OK(meta_list(m, &range, ar, &list, st));
        assert_in_range(list.n, 1, 17);
        seen += list.n;
        pages++;
        (void)snprintf(big, 16, "%.*s", SLICE_ARG(list.items[list.n - 1].key));
        range.start_after = S(big);
    } while (list.more);
    assert_int_equal(seen, 20);
    assert_int_equal(pages, 2);
    range = (struct meta_range){.prefix = S("/p/"), .keys_only = true};
    OK(meta_list(m, &range, ar, &list, st));
    assert_int_equal(list.n, 20);

    struct meta_op ops[17];
    char keys[17][8];
    for (int i = 0; i < 17; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "/q/%d", i);
        ops[i] = meta_op_put(S(keys[i]), slice_n(big, META_VALUE_MAX));
    }
    FAILS(meta_txn(m, NULL, 0, ops, 17, NULL, st), ST_TOO_LARGE, "16777216");
    mem_free(big);
}

/* ---- transactions ---- */

static void test_txn_when_conditions_hold_then_all_operations_happen_at_one_revision(void **state)
{
    int64_t a = put("/a", "1"), rev = 0;
    put("/x/1", "");
    put("/x/2", "");
    struct meta_cond conds[] = {meta_if_version(S("/a"), a), meta_if_absent(S("/b")),
                                meta_if_exists(S("/x/1"))};
    struct meta_op ops[] = {meta_op_put(S("/a"), S("2")), meta_op_put(S("/b"), S("3")),
                            meta_op_delete_prefix(S("/x/")), meta_op_delete(S("/nothing"))};
    OK(meta_txn(m, conds, 3, ops, 4, &rev, st));
    assert_int_equal(rev, 4);
    check("/a", "2", 4);
    check("/b", "3", 4);
    check_keys("/", "/a /b");
}

static void test_txn_when_a_condition_fails_then_nothing_happens_and_key_is_named(void **state)
{
    put("/a", "1");
    put("/b", "1");
    struct meta_op ops[] = {meta_op_put(S("/a"), S("2")), meta_op_delete(S("/b"))};
    struct meta_cond c = meta_if_version(S("/a"), 2);
    FAILS(meta_txn(m, &c, 1, ops, 2, NULL, st), ST_CONFLICT, "\"/a\" has version 1, expected 2");
    c = meta_if_absent(S("/b"));
    FAILS(meta_txn(m, &c, 1, ops, 2, NULL, st), ST_CONFLICT, "\"/b\"");
    c = meta_if_exists(S("/c"));
    FAILS(meta_txn(m, &c, 1, ops, 2, NULL, st), ST_CONFLICT, "\"/c\" does not exist");
    c = meta_if_version(S("/c"), 7);
    FAILS(meta_txn(m, &c, 1, ops, 2, NULL, st), ST_CONFLICT, "\"/c\"");
    check("/a", "1", 1);
    check("/b", "1", 2);
    assert_int_equal(revision(), 2);
}

static void test_txn_when_nothing_changes_then_revision_stays(void **state)
{
    int64_t rev = 0;
    put("/a", "1");
    struct meta_op ops[] = {meta_op_delete(S("/none")), meta_op_delete_prefix(S("/none/"))};
    struct meta_cond c = meta_if_exists(S("/a"));
    OK(meta_txn(m, NULL, 0, ops, 2, &rev, st));
    assert_int_equal(rev, 1);
    OK(meta_txn(m, &c, 1, NULL, 0, &rev, st));
    assert_int_equal(rev, 1);
}

static void test_txn_when_operations_overlap_then_invalid(void **state)
{
    struct meta_op twice[] = {meta_op_put(S("/a"), S("1")), meta_op_put(S("/a"), S("2"))};
    struct meta_op under[] = {meta_op_put(S("/a/1"), S("1")), meta_op_put(S("/b"), S("1")),
                              meta_op_delete_prefix(S("/a/"))};
    struct meta_op nested[] = {meta_op_delete_prefix(S("/a/b")), meta_op_delete_prefix(S("/a"))};
    struct meta_op same[] = {meta_op_delete_prefix(S("/a")), meta_op_delete(S("/a"))};
    struct meta_op beside[] = {meta_op_delete_prefix(S("/a/")), meta_op_put(S("/a"), S("1")),
                               meta_op_put(S("/a0"), S("1"))};
    struct meta_op all = meta_op_delete_prefix(S("/"));
    FAILS(meta_txn(m, NULL, 0, twice, 2, NULL, st), ST_INVALID, "\"/a\"");
    FAILS(meta_txn(m, NULL, 0, under, 3, NULL, st), ST_INVALID, "\"/a/1\"");
    FAILS(meta_txn(m, NULL, 0, nested, 2, NULL, st), ST_INVALID, "\"/a/b\"");
    FAILS(meta_txn(m, NULL, 0, same, 2, NULL, st), ST_INVALID, "\"/a\"");
    FAILS(meta_txn(m, NULL, 0, &all, 1, NULL, st), ST_INVALID, "everything");
    OK(meta_txn(m, NULL, 0, beside, 3, NULL, st));
}

static void test_txn_when_too_large_then_refused(void **state)
{
    static struct meta_op ops[META_TXN_OPS_MAX + 1];
    static char keys[META_TXN_OPS_MAX + 1][16];
    for (int i = 0; i <= META_TXN_OPS_MAX; i++) {
        (void)snprintf(keys[i], sizeof keys[i], "/k/%d", i);
        ops[i] = meta_op_put(S(keys[i]), S("v"));
    }
    FAILS(meta_txn(m, NULL, 0, ops, META_TXN_OPS_MAX + 1, NULL, st), ST_TOO_LARGE, "1024");
    OK(meta_txn(m, NULL, 0, ops, META_TXN_OPS_MAX, NULL, st));
    check("/k/1023", "v", 1);
}

enum { THREADS = 4, ROUNDS = 25 };
static void count_up(void *arg)
{
    struct status st = STATUS_INIT;
    struct arena *mine = arena_new(0);
    (void)arg;
    for (int i = 0; i < ROUNDS;) {
        struct meta_item it;
        char text[24];
        CHECK(meta_get(m, S("/n"), mine, &it, &st) == 0);
        (void)snprintf(text, sizeof text, "%lld", (long long)it.version + 1);
        struct meta_cond c = meta_if_version(S("/n"), it.version);
        struct meta_op op = meta_op_put(S("/n"), S(text));
        int rc = meta_txn(m, &c, 1, &op, 1, NULL, &st);
        CHECK(rc == 0 || rc == ST_CONFLICT);
        i += rc == 0;
    }
    arena_free(mine);
}

static void test_txn_when_concurrent_then_no_update_is_lost(void **state)
{
    struct thread *t[THREADS];
    for (int i = 0; i < THREADS; i++) {
        t[i] = thread_start("count", count_up, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        thread_join(t[i]);
    }
    check("/n", "100", THREADS * ROUNDS);
}

static void test_open_when_closed_before_then_everything_is_there(void **state)
{
    if (!im->survives) {
        skip();
    }
    put("/a", "1");
    put("/b", "2");
    OK(meta_delete(m, S("/a"), NULL, st));
    reopen();
    check_absent("/a");
    check("/b", "2", 2);
    assert_int_equal(revision(), 3);
    assert_int_equal(put("/c", "3"), 4);
    reopen();
    check_keys("/", "/b /c");
}

/* ---- watches ---- */

static struct meta_watch *watch(const char *prefix, int64_t from)
{
    struct meta_watch *w = NULL;
    OK(meta_watch_open(m, S(prefix), from, &w, st));
    return w;
}
static void check_event(struct meta_watch *w, enum meta_event_kind kind, const char *key,
                        const char *value, int64_t rev)
{
    struct meta_event ev;
    OK(meta_watch_next(w, deadline_in_ms(10000), ar, &ev, st));
    assert_int_equal(ev.kind, kind);
    assert_int_equal(ev.revision, rev);
    assert_true(slice_eq(ev.key, S(key)));
    assert_true(slice_eq(ev.value, S(value)));
}
static void check_no_event(struct meta_watch *w)
{
    struct meta_event ev;
    FAILS(meta_watch_next(w, clock_mono_us(), ar, &ev, st), ST_TIMEOUT, "");
}

static void test_watch_when_changes_match_then_events_in_order(void **state)
{
    put("/w/0", "before");
    struct meta_watch *w = watch("/w/", 0), *all = watch("", 0);
    check_no_event(w);
    put("/w/1", "one");
    put("/other", "x");
    struct meta_op ops[] = {meta_op_put(S("/w/2"), S("two")), meta_op_delete(S("/w/1"))};
    OK(meta_txn(m, NULL, 0, ops, 2, NULL, st));
    OK(meta_delete(m, S("/w/none"), NULL, st));
    struct meta_op gone = meta_op_delete_prefix(S("/w/"));
    OK(meta_txn(m, NULL, 0, &gone, 1, NULL, st));
    check_event(w, META_EV_PUT, "/w/1", "one", 2);
    check_event(w, META_EV_PUT, "/w/2", "two", 4);
    check_event(w, META_EV_DELETE, "/w/1", "", 4);
    check_event(w, META_EV_DELETE, "/w/0", "", 5);
    check_event(w, META_EV_DELETE, "/w/2", "", 5);
    check_no_event(w);
    check_event(all, META_EV_PUT, "/w/1", "one", 2);
    check_event(all, META_EV_PUT, "/other", "x", 3);
    meta_watch_close(w);
    meta_watch_close(all);
}

static void test_watch_when_from_an_earlier_revision_then_history_comes_first(void **state)
{
    for (int i = 0; i < 5; i++) {
        put("/a", "x");
    }
    struct meta_watch *w = watch("/", 4), *future = watch("/", 8);
    check_event(w, META_EV_PUT, "/a", "x", 4);
    check_event(w, META_EV_PUT, "/a", "x", 5);
    check_no_event(w);
    put("/b", "6");
    put("/b", "7");
    check_event(w, META_EV_PUT, "/b", "6", 6);
    check_no_event(future);
    put("/b", "8");
    check_event(future, META_EV_PUT, "/b", "8", 8);
    meta_watch_close(w);
    meta_watch_close(future);
}

static void test_watch_when_too_slow_then_resync_and_later_events(void **state)
{
    struct meta_watch *w = watch("/", 0);
    char *big = xalloc(META_VALUE_MAX);
    for (int i = 0; i < 40; i++) {
        OK(meta_put(m, S("/big"), slice_n(big, META_VALUE_MAX), NULL, st));
    }
    mem_free(big);
    check_event(w, META_EV_RESYNC, "", "", 40);
    check_no_event(w);
    put("/a", "1");
    check_event(w, META_EV_PUT, "/a", "1", 41);
    meta_watch_close(w);
    w = watch("/", 2);
    check_event(w, META_EV_RESYNC, "", "", 41);
    check_no_event(w);
    meta_watch_close(w);
}

static void test_watch_when_store_was_opened_again_then_old_revisions_resync(void **state)
{
    if (!im->survives) {
        skip();
    }
    put("/a", "1");
    put("/a", "2");
    reopen();
    struct meta_watch *w = watch("/", 2), *next = watch("/", 3);
    check_event(w, META_EV_RESYNC, "", "", 2);
    put("/a", "3");
    check_event(w, META_EV_PUT, "/a", "3", 3);
    check_event(next, META_EV_PUT, "/a", "3", 3);
    meta_watch_close(w);
    meta_watch_close(next);
}

static void cancel(void *arg)
{
    meta_watch_cancel(arg);
}
static void put_later(void *arg)
{
    struct status st = STATUS_INIT;
    (void)arg;
    CHECK(meta_put(m, S("/late"), S("v"), NULL, &st) == 0);
}

static void test_watch_when_cancelled_from_another_thread_then_wakes(void **state)
{
    struct meta_watch *w = watch("/", 0);
    struct meta_event ev;
    struct thread *t = thread_start("cancel", cancel, w);
    FAILS(meta_watch_next(w, DEADLINE_NONE, ar, &ev, st), ST_CANCELLED, "");
    thread_join(t);
    FAILS(meta_watch_next(w, DEADLINE_NONE, ar, &ev, st), ST_CANCELLED, "");
    meta_watch_close(w);
}

static void test_watch_when_waiting_then_a_put_wakes_it(void **state)
{
    struct meta_watch *w = watch("/", 0);
    struct thread *t = thread_start("put", put_later, NULL);
    check_event(w, META_EV_PUT, "/late", "v", 1);
    thread_join(t);
    meta_watch_close(w);
}

/* ---- leases ---- */

static int64_t grant(int64_t ttl_ms)
{
    int64_t lease = 0;
    OK(meta_lease_grant(m, ttl_ms, &lease, st));
    return lease;
}
static void put_leased(const char *key, int64_t lease)
{
    struct meta_op op = meta_op_put(S(key), S("v"));
    op.lease = lease;
    OK(meta_txn(m, NULL, 0, &op, 1, NULL, st));
}

static void test_lease_when_revoked_then_its_keys_go_and_watchers_see_it(void **state)
{
    int64_t a = grant(60000), b = grant(60000);
    put_leased("/s/a1", a);
    put_leased("/s/a2", a);
    put_leased("/s/b", b);
    put("/s/plain", "v");
    struct meta_watch *w = watch("/s/", 0);
    OK(meta_lease_revoke(m, a, st));
    check_keys("/s/", "/s/b /s/plain");
    struct meta_event ev;
    for (int i = 0; i < 2; i++) {
        OK(meta_watch_next(w, deadline_in_ms(10000), ar, &ev, st));
        assert_int_equal(ev.kind, META_EV_DELETE);
        assert_int_equal(ev.revision, 5);
    }
    check_no_event(w);
    meta_watch_close(w);
    FAILS(meta_lease_revoke(m, a, st), ST_NOT_FOUND, "over");
    FAILS(meta_lease_keepalive(m, a, st), ST_NOT_FOUND, "over");
    struct meta_op op = meta_op_put(S("/s/a1"), S("v"));
    op.lease = a;
    FAILS(meta_txn(m, NULL, 0, &op, 1, NULL, st), ST_NOT_FOUND, "over");
    FAILS(meta_lease_grant(m, 0, &a, st), ST_INVALID, "0 ms");
}

static void test_lease_when_time_is_over_then_keys_go_unless_kept_alive(void **state)
{
    clock_fake_set_ms(1000000);
    int64_t a = grant(5000), b = grant(5000);
    put_leased("/a", a);
    put_leased("/b", b);
    struct meta_watch *w = watch("/", 0);
    clock_fake_set_ms(1004000);
    OK(meta_lease_keepalive(m, b, st));
    check_keys("/", "/a /b");
    clock_fake_set_ms(1005000);
    check_event(w, META_EV_DELETE, "/a", "", 3); /* nobody but the watch looks at the clock */
    check_keys("/", "/b");
    FAILS(meta_lease_keepalive(m, a, st), ST_NOT_FOUND, "over");
    clock_fake_set_ms(1009000);
    check_absent("/b");
    check_event(w, META_EV_DELETE, "/b", "", 4);
    meta_watch_close(w);
}

static void test_lease_when_key_is_put_again_then_the_last_put_counts(void **state)
{
    int64_t a = grant(60000), b = grant(60000);
    put_leased("/freed", a);
    put_leased("/moved", a);
    put_leased("/gone", a);
    put("/freed", "v");
    put_leased("/moved", b);
    OK(meta_delete(m, S("/gone"), NULL, st));
    put("/gone", "v");
    OK(meta_lease_revoke(m, a, st));
    check_keys("/", "/freed /gone /moved");
    OK(meta_lease_revoke(m, b, st));
    check_keys("/", "/freed /gone");
}

static void test_lease_when_its_process_ended_then_its_keys_are_gone(void **state)
{
    if (!im->survives) {
        skip();
    }
    int64_t a = grant(60000);
    put_leased("/s/1", a);
    put_leased("/s/2", a);
    put_leased("/s/3", a);
    put("/s/3", "kept");
    OK(meta_delete(m, S("/s/2"), NULL, st));
    put("/s/2", "kept");
    reopen();
    check_keys("/", "/s/2 /s/3");
    assert_int_equal(revision(), 7); /* their end is a change like any other */
    reopen();
    assert_int_equal(revision(), 7);
    FAILS(meta_lease_keepalive(m, a, st), ST_NOT_FOUND, "over");
}

#define CASE(f)                                                                                    \
    {                                                                                              \
#f, f, setup, teardown, NULL                                                               \
    }

int main(void)
{
    struct CMUnitTest tests[] = {
        CASE(test_get_when_absent_then_version_zero),
        CASE(test_put_when_repeated_then_version_is_the_store_revision),
        CASE(test_put_when_value_is_binary_empty_or_largest_then_read_back),
        CASE(test_any_call_when_key_is_bad_then_invalid),
        CASE(test_list_when_prefix_then_sorted_and_bounded),
        CASE(test_list_when_limited_then_pages_cover_everything),
        CASE(test_list_when_values_are_large_then_cut_by_bytes),
        CASE(test_txn_when_conditions_hold_then_all_operations_happen_at_one_revision),
        CASE(test_txn_when_a_condition_fails_then_nothing_happens_and_key_is_named),
        CASE(test_txn_when_nothing_changes_then_revision_stays),
        CASE(test_txn_when_operations_overlap_then_invalid),
        CASE(test_txn_when_too_large_then_refused),
        CASE(test_txn_when_concurrent_then_no_update_is_lost),
        CASE(test_open_when_closed_before_then_everything_is_there),
        CASE(test_watch_when_changes_match_then_events_in_order),
        CASE(test_watch_when_from_an_earlier_revision_then_history_comes_first),
        CASE(test_watch_when_too_slow_then_resync_and_later_events),
        CASE(test_watch_when_store_was_opened_again_then_old_revisions_resync),
        CASE(test_watch_when_cancelled_from_another_thread_then_wakes),
        CASE(test_watch_when_waiting_then_a_put_wakes_it),
        CASE(test_lease_when_revoked_then_its_keys_go_and_watchers_see_it),
        CASE(test_lease_when_time_is_over_then_keys_go_unless_kept_alive),
        CASE(test_lease_when_key_is_put_again_then_the_last_put_counts),
        CASE(test_lease_when_its_process_ended_then_its_keys_are_gone),
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
