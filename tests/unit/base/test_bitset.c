/* test_bitset.c - every size around the word boundary against a bool per bit. */
#include "unit.h"
#include "base/bitset.h"

#define NMAX 333

static uint32_t rng = 1;
static bool coin(void)
{
    rng = rng * 1664525 + 1013904223;
    return rng >> 31;
}

static void set_from(uint64_t *w, const bool *b, size_t n)
{
    bits_fill(w, n, false);
    for (size_t i = 0; i < n; i++) {
        if (b[i]) {
            bit_set(w, i);
        }
    }
}

static void check(const uint64_t *w, const bool *b, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(bit_get(w, i), b[i]);
        count += b[i];
    }
    for (size_t i = n; i < bits_words(n) * 64; i++) {
        assert_false(bit_get(w, i));
    }
    assert_int_equal(bits_count(w, n), count);
    for (size_t from = 0; from <= n + 1; from++) {
        size_t want = MIN(from, n);
        while (want < n && !b[want]) {
            want++;
        }
        assert_int_equal(bits_next(w, n, from), want);
    }
}

static void test_operations_when_any_size_then_equal_bool_arrays(void **state)
{
    for (size_t n = 0; n < NMAX; n += n < 140 ? 1 : 41) {
        uint64_t wa[8] = {0}, wb[8] = {0};
        bool a[NMAX], b[NMAX], r[NMAX];
        for (size_t i = 0; i < n; i++) {
            a[i] = coin();
            b[i] = coin() && coin();
        }
        set_from(wb, b, n);
        set_from(wa, a, n);
        check(wa, a, n);
        for (int op = 0; op < 4; op++) {
            set_from(wa, a, n);
            for (size_t i = 0; i < n; i++) {
                r[i] = op == 0   ? a[i] && b[i]
                       : op == 1 ? a[i] || b[i]
                       : op == 2 ? a[i] && !b[i]
                                 : !a[i];
            }
            if (op == 0) {
                bits_and(wa, wb, n);
            } else if (op == 1) {
                bits_or(wa, wb, n);
            } else if (op == 2) {
                bits_and_not(wa, wb, n);
            } else {
                bits_not(wa, n);
            }
            check(wa, r, n);
        }
    }
}

static void test_fill_when_true_then_bits_past_the_end_stay_zero(void **state)
{
    for (size_t n = 0; n < 200; n++) {
        uint64_t w[5];
        memset(w, 0xAA, sizeof w);
        bits_fill(w, n, true);
        assert_int_equal(bits_count(w, n), n);
        if (n & 63) {
            assert_true(w[n / 64] >> (n & 63) == 0);
        }
        assert_true(w[bits_words(n)] == UINT64_C(0xAAAAAAAAAAAAAAAA));
        if (n) {
            bit_clear(w, n - 1);
            assert_int_equal(bits_next(w, n, n - 1), n);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operations_when_any_size_then_equal_bool_arrays),
        cmocka_unit_test(test_fill_when_true_then_bits_past_the_end_stay_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
