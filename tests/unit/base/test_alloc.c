/* test_alloc.c - memory, its failures on demand, and arenas. */
#include "unit.h"
#include "alloc_torture.h"
#include "base/arena.h"

static void test_xalloc_when_asked_then_zeroed(void **state)
{
    uint8_t *p = xalloc(1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(p[i], 0);
    }
    p = xrealloc(p, 5000);
    p[4999] = 1;
    mem_free(p);
    mem_free(xalloc(0));
    mem_free(NULL);
}

static void test_strings_when_copied_then_terminated(void **state)
{
    char *a = xstrdup("hello"), *b = xstrndup("hello", 3), *c = xstrndup("hi", 10);
    assert_string_equal(a, "hello");
    assert_string_equal(b, "hel");
    assert_string_equal(c, "hi");
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

static void test_alloc_try_when_nth_is_to_fail_then_only_that_fails(void **state)
{
    alloc_fail_after(3);
    void *a = alloc_try(10), *b = alloc_try_zero(10), *c = alloc_try_aligned(64, 10);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(c);
    assert_false(alloc_fail_pending());
    c = alloc_try_aligned(64, 10);
    assert_int_equal((uintptr_t)c % 64, 0);

    alloc_fail_after(1);
    assert_null(realloc_try(a, 100)); /* a is still there */
    void *bigger = realloc_try(a, 100);
    assert_non_null(bigger);
    alloc_fail_after(1);
    alloc_fail_after(0);
    void *d = alloc_try(1);
    assert_non_null(d);
    mem_free(bigger);
    mem_free(b);
    mem_free(c);
    mem_free(d);
}

static void test_alloc_try_when_size_is_absurd_then_null(void **state)
{
    volatile size_t huge = SIZE_MAX / 2 - 4096;
    void *p = alloc_try(0);
    assert_non_null(p);
    mem_free(p);
    /* The sanitizers end the process instead. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
    assert_null(alloc_try(huge));
    assert_null(alloc_try_aligned(4096, huge));
#else
    (void)huge;
#endif
}

static void test_torture_when_body_has_three_allocations_then_four_runs(void **state)
{
    long runs = 0, failures = 0;
    ALLOC_TORTURE
    {
        void *p[3];
        runs++;
        assert_int_equal(ALLOC_TORTURE_RUN, runs);
        for (size_t i = 0; i < 3; i++) {
            p[i] = alloc_try(8);
            failures += !p[i];
            if (!p[i]) {
                assert_int_equal(i, runs - 1);
            }
        }
        for (size_t i = 0; i < 3; i++) {
            mem_free(p[i]);
        }
    }
    assert_int_equal(runs, 4);
    assert_int_equal(failures, 3);
    assert_false(alloc_fail_pending());
}

static void test_arena_when_many_sizes_then_aligned_zeroed_and_apart(void **state)
{
    struct arena *ar = arena_new(0);
    enum { N = 2000 };
    uint8_t *p[N];
    for (int round = 0; round < 3; round++) {
        size_t used = 0;
        for (size_t i = 0; i < N; i++) {
            size_t n = i * 7 % 500 + (i % 97 == 0 ? 20000 : 0);
            p[i] = arena_alloc(ar, n);
            used += ROUND_UP(MAX(n, (size_t)1), 16);
            assert_int_equal((uintptr_t)p[i] % 16, 0);
            for (size_t k = 0; k < n; k++) {
                assert_int_equal(p[i][k], 0);
            }
            memset(p[i], (int)(i & 0xFF) | 1, n);
        }
        assert_int_equal(arena_used(ar), used);
        for (size_t i = 0; i < N; i++) {
            size_t n = i * 7 % 500 + (i % 97 == 0 ? 20000 : 0);
            for (size_t k = 0; k < n; k++) {
                assert_int_equal(p[i][k], (uint8_t)((i & 0xFF) | 1));
            }
        }
        arena_reset(ar);
        assert_int_equal(arena_used(ar), 0);
    }
    arena_free(ar);
    arena_free(NULL);
}

static void test_arena_when_limit_is_reached_then_try_fails_and_alloc_goes_on(void **state)
{
    struct arena *ar = arena_new(1000);
    assert_non_null(arena_try(ar, 900));
    assert_null(arena_try(ar, 200));
    assert_null(arena_try(ar, SIZE_MAX));
    assert_null(arena_try(ar, SIZE_MAX - 8));
    assert_non_null(arena_try(ar, 80));
    assert_null(arena_try(ar, 16));
    assert_non_null(arena_alloc(ar, 500));
    assert_null(arena_try(ar, 1));
    assert_null(arena_copy(ar, SLICE_LIT("x")).p);
    arena_reset(ar);
    assert_non_null(arena_try(ar, 900));
    arena_free(ar);
}

static void test_arena_when_first_request_is_big_then_reset_still_works(void **state)
{
    struct arena *ar = arena_new(0);
    memset(arena_try(ar, 1 << 20), 1, 1 << 20);
    memset(arena_alloc(ar, 10), 1, 10);
    arena_reset(ar);
    memset(arena_try(ar, 1 << 20), 1, 1 << 20);
    arena_reset(ar);
    arena_reset(ar);
    memset(arena_alloc(ar, 10), 1, 10);
    arena_free(ar);
}

static void test_arena_when_array_overflows_then_null(void **state)
{
    struct arena *ar = arena_new(0);
    assert_null(arena_try_array(ar, SIZE_MAX / 4, 8));
    uint32_t *v = arena_try_array(ar, 1000, sizeof *v);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(v[i], 0);
    }
    arena_free(ar);
}

static void test_arena_when_strings_then_copied(void **state)
{
    struct arena *ar = arena_new(0);
    char long_text[5000];
    memset(long_text, 'q', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    assert_string_equal(arena_strdup(ar, "abc"), "abc");
    assert_string_equal(arena_strndup(ar, "abcdef", 4), "abcd");
    assert_string_equal(arena_printf(ar, "%d-%s", 5, "x"), "5-x");
    assert_string_equal(arena_printf(ar, "%s", long_text), long_text);
    struct slice s = arena_copy(ar, SLICE_LIT("a\0b"));
    assert_true(slice_eq(s, SLICE_LIT("a\0b")));
    assert_non_null(arena_copy(ar, slice_n(NULL, 0)).p);
    arena_free(ar);
}

static void test_arena_when_memory_fails_then_null_and_usable(void **state)
{
    ALLOC_TORTURE
    {
        struct arena *ar = arena_new(0);
        size_t ok = 0;
        for (size_t i = 0; i < 40; i++) {
            char *p = arena_try(ar, 3000);
            if (p) {
                memset(p, 1, 3000);
                ok++;
            }
        }
        assert_true(ok >= 39);
        arena_free(ar);
    }
}

static void test_mul_size_when_overflow_then_false_and_untouched(void **state)
{
    size_t r = 7;
    assert_false(mul_size(SIZE_MAX, 2, &r));
    assert_false(add_size(SIZE_MAX, 1, &r));
    assert_int_equal(r, 7);
    assert_true(mul_size(6, 7, &r));
    assert_int_equal(r, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xalloc_when_asked_then_zeroed),
        cmocka_unit_test(test_strings_when_copied_then_terminated),
        cmocka_unit_test(test_alloc_try_when_nth_is_to_fail_then_only_that_fails),
        cmocka_unit_test(test_alloc_try_when_size_is_absurd_then_null),
        cmocka_unit_test(test_torture_when_body_has_three_allocations_then_four_runs),
        cmocka_unit_test(test_arena_when_many_sizes_then_aligned_zeroed_and_apart),
        cmocka_unit_test(test_arena_when_limit_is_reached_then_try_fails_and_alloc_goes_on),
        cmocka_unit_test(test_arena_when_first_request_is_big_then_reset_still_works),
        cmocka_unit_test(test_arena_when_array_overflows_then_null),
        cmocka_unit_test(test_arena_when_strings_then_copied),
        cmocka_unit_test(test_arena_when_memory_fails_then_null_and_usable),
        cmocka_unit_test(test_mul_size_when_overflow_then_false_and_untouched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
