/* test_map.c - both maps against a plain array over long random histories. */
#include "unit.h"
#include "alloc_torture.h"
#include "base/map.h"
#include <stdio.h>

static uint32_t rng = 7;
static uint32_t random_below(uint32_t n)
{
    rng = rng * 1664525 + 1013904223;
    return (uint32_t)(((uint64_t)rng * n) >> 32);
}

static struct slice key_of(uint32_t i, char *text)
{
    return slice_n(text, (size_t)snprintf(text, 32, "key-%u", i));
}

static void test_str_map_when_random_history_then_equals_model(void **state)
{
    enum { KEYS = 500 };
    static char values[KEYS * 2];
    char *model[KEYS] = {0};
    size_t count = 0;
    struct str_map *m = str_map_new();
    for (int step = 0; step < 50000; step++) {
        char text[32];
        uint32_t i = random_below(KEYS);
        struct slice key = key_of(i, text);
        if (random_below(100) < (step / 5000 % 2 ? 70 : 30)) {
            assert_ptr_equal(str_map_remove(m, key), model[i]);
            count -= model[i] != NULL;
            model[i] = NULL;
        } else {
            char *v = &values[i + KEYS * random_below(2)];
            assert_ptr_equal(str_map_put(m, key, v), model[i]);
            count += model[i] == NULL;
            model[i] = v;
        }
        i = random_below(KEYS);
        assert_ptr_equal(str_map_get(m, key_of(i, text)), model[i]);
        assert_int_equal(str_map_count(m), count);
    }
    size_t pos = 0, seen = 0;
    struct slice key;
    void *value;
    while (str_map_next(m, &pos, &key, &value)) {
        uint32_t i = (uint32_t)((char *)value - values) % KEYS;
        char text[32];
        assert_ptr_equal(model[i], value);
        assert_true(slice_eq(key, key_of(i, text)));
        seen++;
    }
    assert_int_equal(seen, count);
    str_map_free(m, NULL);
}

static int nfreed;
static void count_free(void *p)
{
    nfreed++;
    mem_free(p);
}

static void test_str_map_when_freed_then_values_are_freed(void **state)
{
    struct str_map *m = str_map_new();
    assert_null(str_map_get(m, SLICE_LIT("x")));
    assert_null(str_map_remove(m, SLICE_LIT("x")));
    for (uint32_t i = 0; i < 100; i++) {
        char text[32];
        str_map_put(m, key_of(i, text), xalloc(1));
    }
    mem_free(str_map_remove(m, SLICE_LIT("key-7")));
    nfreed = 0;
    str_map_free(m, count_free);
    assert_int_equal(nfreed, 99);
    str_map_free(NULL, NULL);
}

static void test_str_map_when_keys_are_odd_then_kept_apart(void **state)
{
    struct str_map *m = str_map_new();
    static int a, b, c, d;
    str_map_put(m, SLICE_LIT(""), &a);
    str_map_put(m, SLICE_LIT("\0"), &b);
    str_map_put(m, SLICE_LIT("a\0b"), &c);
    str_map_put(m, SLICE_LIT("a\0c"), &d);
    assert_ptr_equal(str_map_get(m, slice_n(NULL, 0)), &a);
    assert_ptr_equal(str_map_get(m, SLICE_LIT("\0")), &b);
    assert_ptr_equal(str_map_get(m, SLICE_LIT("a\0b")), &c);
    assert_ptr_equal(str_map_get(m, SLICE_LIT("a\0c")), &d);
    assert_null(str_map_get(m, SLICE_LIT("a")));
    str_map_free(m, NULL);
}

static void test_id_map_when_random_history_then_equals_model(void **state)
{
    enum { KEYS = 400 };
    struct {
        bool has;
        uint64_t v;
    } model[KEYS] = {0};
    size_t count = 0;
    struct id_map *m = id_map_new();
    for (int step = 0; step < 80000; step++) {
        uint32_t i = random_below(KEYS);
        int64_t key = (int64_t)i - 200; /* 0 among them */
        if (random_below(100) < (step / 8000 % 2 ? 70 : 30)) {
            assert_int_equal(id_map_remove(m, key), model[i].has);
            count -= model[i].has;
            model[i].has = false;
        } else {
            uint64_t v = rng;
            assert_true(id_map_put(m, key, v));
            count += !model[i].has;
            model[i].has = true;
            model[i].v = v;
        }
        i = random_below(KEYS);
        uint64_t got = 1;
        assert_int_equal(id_map_get(m, (int64_t)i - 200, &got), model[i].has);
        if (model[i].has) {
            assert_true(got == model[i].v);
        }
        assert_int_equal(id_map_count(m), count);
    }
    size_t pos = 0, seen = 0;
    int64_t key;
    uint64_t value;
    while (id_map_next(m, &pos, &key, &value)) {
        assert_true(model[key + 200].has && model[key + 200].v == value);
        seen++;
    }
    assert_int_equal(seen, count);
    id_map_free(m);
    id_map_free(NULL);
}

static void test_id_map_when_extreme_keys_then_kept(void **state)
{
    static const int64_t keys[] = {0, 1, -1, INT64_MIN, INT64_MAX, INT64_C(1) << 32};
    struct id_map *m = id_map_new();
    uint64_t v;
    assert_false(id_map_get(m, 0, &v));
    assert_false(id_map_get(m, 5, &v));
    assert_false(id_map_remove(m, 5));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        assert_true(id_map_put(m, keys[i], i));
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        assert_true(id_map_get(m, keys[i], &v) && v == i);
    }
    id_map_put(m, 9, (uint64_t)(uintptr_t)&v);
    assert_ptr_equal(id_map_ptr(m, 9), &v);
    assert_null(id_map_ptr(m, 10));
    assert_true(id_map_bytes(m) >= 16 * 16);
    id_map_free(m);
}

static void test_id_map_when_memory_fails_then_false_and_unchanged(void **state)
{
    ALLOC_TORTURE
    {
        struct id_map *m = id_map_new();
        size_t put = 0;
        uint64_t v;
        for (int64_t key = 1; key <= 300; key++) {
            bool ok = id_map_put(m, key, (uint64_t)key);
            put += ok;
            assert_int_equal(id_map_get(m, key, &v), ok);
            assert_int_equal(id_map_count(m), put);
        }
        assert_true(put >= 299);
        id_map_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_str_map_when_random_history_then_equals_model),
        cmocka_unit_test(test_str_map_when_freed_then_values_are_freed),
        cmocka_unit_test(test_str_map_when_keys_are_odd_then_kept_apart),
        cmocka_unit_test(test_id_map_when_random_history_then_equals_model),
        cmocka_unit_test(test_id_map_when_extreme_keys_then_kept),
        cmocka_unit_test(test_id_map_when_memory_fails_then_false_and_unchanged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
