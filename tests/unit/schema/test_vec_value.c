/* test_vec_value.c - fp16 and bf16 against their definitions, and the search for NaN. */
#include "schema_fixture.h"
#include "schema/schema_int.h"
#include <math.h>

static double f16_value(uint16_t h)
{
    int e = (h >> 10) & 31, m = h & 1023;
    double v = e == 31 ? INFINITY : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

static void test_f16_when_every_value_is_widened_then_narrowing_gives_it_back(void **state)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = (float)f16_value((uint16_t)h);
        uint16_t back;
        if ((h & 0x7fff) > 0x7c00) {
            continue; /* NaN */
        }
        f32_to_f16(&back, &f, 1);
        assert_int_equal(back, h);
    }
}

static void test_f16_when_value_lies_between_then_rounds_to_the_nearer_or_even(void **state)
{
    for (uint32_t h = 0; h < 0x7bff; h++) {
        double lo = f16_value((uint16_t)h), hi = f16_value((uint16_t)(h + 1));
        float mid = (float)((lo + hi) / 2), up = nextafterf(mid, INFINITY);
        float down = nextafterf(mid, 0), v[3] = {down, mid, up};
        uint16_t out[3];
        f32_to_f16(out, v, 3);
        assert_int_equal(out[0], h);
        assert_int_equal(out[1], h & 1 ? h + 1 : h);
        assert_int_equal(out[2], h + 1);
    }
}

static void test_bf16_when_narrowed_then_is_the_nearest(void **state)
{
    uint32_t x = 12345;
    for (int i = 0; i < 100000; i++) {
        x = x * 1664525 + 1013904223;
        uint32_t bits = x & 0xff7fffff;
        uint32_t lo = bits & 0xffff0000, hi = lo + 0x10000;
        uint16_t out;
        f32_to_bf16(&out, &bits, 1);
        uint32_t rest = bits & 0xffff;
        bool round_up = rest > 0x8000 || (rest == 0x8000 && (lo & 0x10000));
        assert_int_equal(out, (round_up ? hi : lo) >> 16);
    }
    float nan_in = NAN, inf_in = -INFINITY;
    uint16_t out;
    f32_to_bf16(&out, &nan_in, 1);
    assert_true((out & 0x7fff) > 0x7f80);
    f32_to_bf16(&out, &inf_in, 1);
    assert_int_equal(out, 0xff80);
    f32_to_f16(&out, &nan_in, 1);
    assert_true((out & 0x7fff) > 0x7c00);
}

static void test_not_finite_when_hidden_anywhere_then_is_found(void **state)
{
    float v[200];
    uint16_t h[200], b[200];
    for (size_t n = 1; n < 200; n += 7) {
        for (size_t i = 0; i < 200; i++) {
            v[i] = i % 2 ? 3.4028235e38f : -1e-45f;
            h[i] = 0xfbff;
            b[i] = 0x7f7f;
        }
        assert_int_equal(f32_first_not_finite(v, n), n);
        assert_int_equal(f16_first_not_finite(h, n), n);
        assert_int_equal(bf16_first_not_finite(b, n), n);
        v[n - 1] = n % 2 ? NAN : -INFINITY;
        h[n - 1] = n % 2 ? 0x7c00 : 0xfe00;
        b[n - 1] = n % 2 ? 0xff80 : 0x7fff;
        assert_int_equal(f32_first_not_finite(v, n), n - 1);
        assert_int_equal(f16_first_not_finite(h, n), n - 1);
        assert_int_equal(bf16_first_not_finite(b, n), n - 1);
        v[n / 2] = INFINITY;
        assert_int_equal(f32_first_not_finite(v, n), n / 2);
    }
    char odd[9] = {0, 0, 0, 0, 0, 0, 0, (char)0x80, (char)0x7f};
    assert_int_equal(f32_first_not_finite(odd + 1, 2), 1);
    assert_int_equal(vec_first_not_finite(DT_INT8_VECTOR, odd, 9), 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_when_every_value_is_widened_then_narrowing_gives_it_back),
        cmocka_unit_test(test_f16_when_value_lies_between_then_rounds_to_the_nearer_or_even),
        cmocka_unit_test(test_bf16_when_narrowed_then_is_the_nearest),
        cmocka_unit_test(test_not_finite_when_hidden_anywhere_then_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
