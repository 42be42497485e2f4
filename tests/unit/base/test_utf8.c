/* test_utf8.c - text and numbers from outside. */
#include "unit.h"
#include "base/utf8.h"
#include <math.h>
#include <stdio.h>

static void test_utf8_when_wellformed_then_valid(void **state)
{
    static const char *const good[] = {
        "",
        "a",
        "\x7f",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "seven7\xc3\xa4 eight888 ",
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(utf8_valid(slice_of(good[i])));
    }
    assert_true(utf8_valid(slice_n(NULL, 0)));
    assert_true(utf8_valid(SLICE_LIT("a\0b")));
}

static void test_utf8_when_malformed_then_invalid_at_any_place(void **state)
{
    static const char *const bad[] = {
        "\x80",
        "\xbf",
        "\xc0\x80",
        "\xc1\xbf",
        "\xc2",
        "\xc2 ",
        "\xe0\x80\x80",
        "\xe0\x9f\xbf",
        "\xe2\x82",
        "\xed\xa0\x80",
        "\xed\xbf\xbf",
        "\xf0\x8f\xbf\xbf",
        "\xf0\x90\x80",
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xfe",
        "\xff",
        "\xe2\x28\xa1",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        for (int lead = 0; lead < 20; lead++) {
            char text[64];
            int n = snprintf(text, sizeof text, "%.*s%s%s", lead, "aaaaaaaaaaaaaaaaaaaaaaa", bad[i],
                             lead % 2 ? "tail" : "");
            assert_false(utf8_valid(slice_n(text, (size_t)n)));
        }
    }
}

static void test_parse_i64_when_any_text_then_exact_or_refused(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        int64_t v;
    } rows[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"007", true, 7},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0},
        {"99999999999999999999999", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"0x10", false, 0},
        {"1.0", false, 0},
        {"--1", false, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t v = 77;
        assert_int_equal(parse_i64(slice_of(rows[i].text), &v), rows[i].ok);
        assert_true(v == (rows[i].ok ? rows[i].v : 77));
    }
}

static void test_parse_f64_when_any_text_then_nearest_or_refused(void **state)
{
    static const char *const good[] = {
        "0",
        "1",
        "-1",
        "+1",
        "1.",
        ".5",
        "-.5e1",
        "1e5",
        "1E-5",
        "1e+5",
        "0.1",
        "123456789012345",
        "1234567890123456789",
        "9007199254740993",
        "1e22",
        "1e23",
        "1.7976931348623157e308",
        "4.9406564584124654e-324",
        "2.2250738585072011e-308",
        "1e-400",
        "0e999999999999999999999",
        "0.000000000000000000000000000000000000000000001",
        "1000000000000000000000000000000000000",
        "3.14159265358979323846264338327950288419716939937510582097494459",
        "6.6312983e-7",
        "89255.0e-22",
        "1e-22",
        "15e22",
    };
    static const char *const bad[] = {
        "",   "-",   ".",    "e5",    "1e",    "1e+",    "0x1p3",         "inf", "nan", " 1",
        "1 ", "1,5", "1e5.", "1.2.3", "1e309", "-1e309", "1e99999999999", "--1", "+-1"};
    double v;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(parse_f64(slice_of(good[i]), &v));
        double want = strtod(good[i], NULL);
        if (memcmp(&v, &want, sizeof v) != 0) {
            fail_msg("%s: %.17g, not %.17g", good[i], v, want);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        v = 77;
        if (parse_f64(slice_of(bad[i]), &v)) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_true(v == 77);
    }
    assert_true(parse_f64(SLICE_LIT("-0"), &v) && signbit(v) && v == 0);
}

static void test_parse_f64_when_very_long_then_the_last_digit_counts(void **state)
{
    /* 1 + 2^-53 lies between two doubles; one digit far behind decides upwards. */
    static const char half[] = "1.00000000000000011102230246251565404236316680908203125";
    double v;
    assert_true(parse_f64(slice_of(half), &v) && v == 1.0);
    size_t n = sizeof half - 1;
    char *text = xalloc(n + 5000);
    memcpy(text, half, n);
    memset(text + n, '0', 4000);
    assert_true(parse_f64(slice_n(text, n + 4000), &v) && v == 1.0);
    text[n + 4000] = '1';
    assert_true(parse_f64(slice_n(text, n + 4001), &v) && v > 1.0);
    memcpy(text + n + 4001, "e2", 2);
    assert_true(parse_f64(slice_n(text, n + 4003), &v) && v > 100.0 && v < 100.1);
    /* Many digits before the point, undone by the exponent. */
    memset(text, '7', 3000);
    memcpy(text + 3000, "e-2999", 6);
    assert_true(parse_f64(slice_n(text, 3006), &v) && fabs(v - 7.7777777777777777) < 1e-15);
    mem_free(text);
}

static void test_parse_f64_when_random_then_roundtrip(void **state)
{
    uint64_t x = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        double d, got;
        memcpy(&d, &x, sizeof d);
        if (!isfinite(d)) {
            continue;
        }
        char text[64];
        int n = snprintf(text, sizeof text, i % 2 ? "%.17g" : "%.16e", d);
        assert_true(parse_f64(slice_n(text, (size_t)n), &got));
        assert_memory_equal(&got, &d, sizeof d);
        n = snprintf(text, sizeof text, "%.*g", 1 + i % 15, d);
        double want = strtod(text, NULL);
        assert_true(parse_f64(slice_n(text, (size_t)n), &got) || isinf(want));
        assert_true(isinf(want) || memcmp(&got, &want, sizeof want) == 0);
    }
}

static void test_parse_bool_when_known_words_then_value(void **state)
{
    static const char *const yes[] = {"true", "True", "TRUE", "1"};
    static const char *const no[] = {"false", "False", "FALSE", "0"};
    static const char *const bad[] = {"", "tRUE", "yes", "2", "true ", "01"};
    bool v;
    for (size_t i = 0; i < 4; i++) {
        assert_true(parse_bool(slice_of(yes[i]), &v) && v);
        assert_true(parse_bool(slice_of(no[i]), &v) && !v);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(parse_bool(slice_of(bad[i]), &v));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_when_wellformed_then_valid),
        cmocka_unit_test(test_utf8_when_malformed_then_invalid_at_any_place),
        cmocka_unit_test(test_parse_i64_when_any_text_then_exact_or_refused),
        cmocka_unit_test(test_parse_f64_when_any_text_then_nearest_or_refused),
        cmocka_unit_test(test_parse_f64_when_very_long_then_the_last_digit_counts),
        cmocka_unit_test(test_parse_f64_when_random_then_roundtrip),
        cmocka_unit_test(test_parse_bool_when_known_words_then_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
