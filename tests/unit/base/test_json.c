/* test_json.c - what is accepted, what is refused and where, and walking. */
#include "unit.h"
#include "base/json.h"
#include <stdio.h>

static bool valid(struct slice text, struct status *st)
{
    /* An exact heap copy: the sanitizer sees a read past the end. */
    char *copy = xalloc(text.n);
    if (text.n) {
        memcpy(copy, text.p, text.n);
    }
    int rc = json_validate(slice_n(copy, text.n), st);
    mem_free(copy);
    return rc == 0;
}

static void test_validate_when_wellformed_then_ok(void **state)
{
    static const char *const good[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "10",
        "-1.5e-10",
        "1E+5",
        "0.0",
        "\"\"",
        "[]",
        "{}",
        " [ ] ",
        "\t{\r\n}\n",
        "[1,2,[3,{\"a\":[]}]]",
        "{\"a\":{\"b\":{}},\"c\":[{}]}",
        "\"\\u0000\\ud83d\\ude00\\/\"",
        "\"äöü€😀\x7f\"",
        "{\"a\":1,\"a\":2}",
        "{\"\":0}",
        "123456789012345678901234567890",
        "1e-999",
        "\"12345678\\\"12345678\"",
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        struct status st = STATUS_INIT;
        if (!valid(slice_of(good[i]), &st)) {
            fail_msg("%s: %s", good[i], st.msg);
        }
    }
}

static void test_validate_when_damaged_then_place_and_expectation(void **state)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "a value at byte 0"},
        {"  ", "a value at byte 2"},
        {"nul", "a value at byte 0"},
        {"True", "a value at byte 0"},
        {"1 2", "the end of the text at byte 2"},
        {"[1,]", "a value at byte 3"},
        {"[1 2]", "',' or ']' at byte 3"},
        {"[,1]", "a value at byte 1"},
        {"[1", "',' or ']' at byte 2"},
        {"[", "a value at byte 1"},
        {"]", "a value at byte 0"},
        {"[1}", "',' or ']' at byte 2"},
        {"{\"a\":1,}", "a member name at byte 7"},
        {"{1:2}", "a member name at byte 1"},
        {"{\"a\" 1}", "':' at byte 5"},
        {"{\"a\":}", "a value at byte 5"},
        {"{\"a\":1", "',' or '}' at byte 6"},
        {"{\"a\":1]", "',' or '}' at byte 6"},
        {"{\"a", "the end of a string at byte 3"},
        {"\"a\nb\"", "an escaped control character at byte 2"},
        {"\"\\x\"", "an escape sequence at byte 1"},
        {"\"\\", "an escape sequence at byte 1"},
        {"\"\\u12g4\"", "four hex digits at byte 1"},
        {"\"\\u12", "four hex digits at byte 1"},
        {"\"\\ud800\"", "a whole surrogate pair at byte 1"},
        {"\"\\ud800\\u0041\"", "a whole surrogate pair at byte 1"},
        {"\"\\udc00\"", "a whole surrogate pair at byte 1"},
        {"\"abc\xff\"", "UTF-8 at byte 4"},
        {"\"\xe2\x82", "UTF-8 at byte 1"},
        {"01", "a number without leading zeros at byte 0"},
        {"-", "a digit at byte 1"},
        {"-a", "a digit at byte 1"},
        {"1.", "a digit at byte 2"},
        {".5", "a value at byte 0"},
        {"+1", "a value at byte 0"},
        {"1e", "a digit at byte 2"},
        {"1e+", "a digit at byte 3"},
        {"[1e999]", "a number in the range of a double at byte 1"},
        {"NaN", "a value at byte 0"},
        {"\xef\xbb\xbf{}", "a value at byte 0"},
        {"/**/1", "a value at byte 0"},
        {"'a'", "a value at byte 0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct status st = STATUS_INIT;
        assert_false(valid(slice_of(bad[i].text), &st));
        assert_int_equal(st.code, ST_INVALID);
        if (!strstr(st.msg, bad[i].why)) {
            fail_msg("%s: \"%s\" is not in \"%s\"", bad[i].text, bad[i].why, st.msg);
        }
    }
    struct status st = STATUS_INIT;
    assert_false(valid(SLICE_LIT("\"a\0b\""), &st));
    assert_false(valid(SLICE_LIT("1\0"), &st));
}

static void test_validate_when_nested_then_depth_is_limited(void **state)
{
    enum { MAX = JSON_DEPTH_MAX };
    char text[2 * MAX + 8];
    struct status st = STATUS_INIT;
    memset(text, '[', MAX);
    memset(text + MAX, ']', MAX);
    assert_true(valid(slice_n(text, 2 * MAX), &st));
    memset(text, '[', MAX + 1);
    memset(text + MAX + 1, ']', MAX + 1);
    assert_false(valid(slice_n(text, 2 * MAX + 2), &st));
    assert_non_null(strstr(st.msg, "deeper than 512 at byte 512"));
    /* Kinds are kept apart at each level. */
    size_t n = 0;
    for (int i = 0; i < 100; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, i % 3 ? "[" : "{\"k\":");
    }
    text[n++] = '1';
    for (int i = 99; i >= 0; i--) {
        text[n++] = i % 3 ? ']' : '}';
    }
    assert_true(valid(slice_n(text, n), &st));
    assert_true(n > 300);
    text[300] = text[300] == ']' ? '}' : ']';
    assert_false(valid(slice_n(text, n), &st));
}

static void test_validate_when_long_string_has_one_bad_byte_then_found_at_any_place(void **state)
{
    static const char special[] = {'\n', '\x01', '\x80', '\xff'};
    for (size_t len = 1; len < 40; len++) {
        for (size_t at = 0; at < len; at++) {
            for (size_t k = 0; k < ARRAY_LEN(special); k++) {
                char text[64];
                struct status st = STATUS_INIT;
                memset(text, '~', sizeof text);
                text[0] = text[len + 1] = '"';
                assert_true(valid(slice_n(text, len + 2), &st));
                text[1 + at] = special[k];
                assert_false(valid(slice_n(text, len + 2), &st));
            }
        }
    }
}

static struct json_value parsed(const char *text)
{
    struct json_value v = {0};
    struct status st = STATUS_INIT;
    ASSERT_OK(json_validate(slice_of(text), &st));
    assert_true(json_parse(slice_of(text), &v));
    return v;
}

static void test_numbers_when_parsed_then_exact(void **state)
{
    assert_true(parsed("-0").type == JSON_INT && parsed("-0").i == 0);
    assert_true(parsed("9223372036854775807").i == INT64_MAX);
    assert_true(parsed("-9223372036854775808").i == INT64_MIN);
    struct json_value v = parsed("9223372036854775808");
    assert_true(v.type == JSON_UINT && v.u == (uint64_t)INT64_MAX + 1);
    v = parsed("18446744073709551615");
    assert_true(v.type == JSON_UINT && v.u == UINT64_MAX);
    assert_true(json_number(&v) == 18446744073709551615.0);
    v = parsed("18446744073709551616");
    assert_true(v.type == JSON_DOUBLE && v.d == 18446744073709551616.0);
    v = parsed("-9223372036854775809");
    assert_true(v.type == JSON_DOUBLE && v.d == -9223372036854775808.0);
    v = parsed(" 1.0 ");
    assert_true(v.type == JSON_DOUBLE && v.d == 1 && slice_is(v.raw, "1.0"));
    v = parsed("1e3");
    assert_true(v.type == JSON_DOUBLE && json_number(&v) == 1000 && json_is_number(&v));
    v = parsed("true");
    assert_true(v.type == JSON_BOOL && v.b && !json_is_number(&v));
    assert_true(parsed("null").type == JSON_NULL);
}

static void test_next_when_object_then_members_in_order(void **state)
{
    struct json_value v = parsed(" { \"a\" : 1 , \"b\\n\":[ 2 , {} ],\"c\":\"x,}\"}  "), m;
    size_t pos = 0;
    struct slice key;
    bool escaped;
    assert_int_equal(json_count(&v), 3);
    assert_true(json_next(&v, &pos, &key, &escaped, &m));
    assert_true(slice_is(key, "a") && !escaped && m.i == 1);
    assert_true(json_next(&v, &pos, &key, &escaped, &m));
    assert_true(slice_is(key, "b\\n") && escaped && m.type == JSON_ARRAY);
    assert_int_equal(json_count(&m), 2);
    assert_true(json_next(&v, &pos, &key, &escaped, &m));
    assert_true(json_string_eq(&m, SLICE_LIT("x,}")));
    assert_false(json_next(&v, &pos, &key, &escaped, &m));
    assert_false(json_next(&v, &pos, &key, &escaped, &m));
    v = parsed("[]");
    assert_int_equal(json_count(&v), 0);
    v = parsed("\"[1]\"");
    assert_int_equal(json_count(&v), 0);
}

static void test_member_when_duplicate_or_escaped_then_last_wins(void **state)
{
    struct json_value v = parsed("{\"k\":1,\"\\u006b\":2,\"x\\\"y\":3,\"\":4}"), m;
    assert_true(json_member(&v, SLICE_LIT("k"), &m) && m.i == 2);
    assert_true(json_member(&v, SLICE_LIT("x\"y"), &m) && m.i == 3);
    assert_true(json_member(&v, SLICE_LIT(""), &m) && m.i == 4);
    m.i = 77;
    assert_false(json_member(&v, SLICE_LIT("x"), &m));
    assert_false(json_member(&v, SLICE_LIT("x\\\"y"), &m));
    assert_int_equal(m.i, 77);
    assert_false(json_element(&v, 0, &m));
    v = parsed("[5,[6],7]");
    assert_true(json_element(&v, 2, &m) && m.i == 7);
    assert_false(json_element(&v, 3, &m));
    assert_false(json_member(&v, SLICE_LIT("k"), &m));
}

static void test_string_when_escaped_then_decoded(void **state)
{
    struct arena *ar = arena_new(0);
    struct json_value v = parsed("\"plain\"");
    assert_ptr_equal(json_string(&v, ar).p, v.raw.p + 1);
    assert_int_equal(arena_used(ar), 0);
    v = parsed("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u00e4\\u20AC\\uD83D\\uDE00.\"");
    struct slice want = SLICE_LIT("\"\\/\b\f\n\r\t\0ä€😀.");
    assert_true(slice_eq(json_string(&v, ar), want));
    assert_true(json_string_eq(&v, want));
    assert_false(json_string_eq(&v, slice_n(want.p, want.n - 1)));
    assert_false(json_string_eq(&v, SLICE_LIT("\"\\/\b\f\n\r\t\0ä€😀!")));
    v = parsed("1");
    assert_false(json_string_eq(&v, SLICE_LIT("1")));
    arena_free(ar);

    ar = arena_new(16);
    v = parsed("\"longer than the limit of this arena\\n\"");
    assert_null(json_string(&v, ar).p);
    arena_free(ar);
}

static void test_unescape_when_in_place_or_damaged_then_bounded(void **state)
{
    char text[] = "a\\nb\\u20acc";
    size_t n = json_unescape(slice_of(text), text);
    assert_true(slice_eq(slice_n(text, n), SLICE_LIT("a\nb€c")));
    static const char *const odd[] = {"\\",        "\\u", "\\u1",           "\\u12g4", "\\ud800",
                                      "\\ud800\\", "\\q", "\\ud800\\u0041", "\\udfff"};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        size_t len = strlen(odd[i]);
        char *in = xalloc(len), *out = xalloc(len);
        memcpy(in, odd[i], len);
        assert_true(json_unescape(slice_n(in, len), out) <= len);
        mem_free(in);
        mem_free(out);
    }
}

static void test_parse_when_unchecked_then_never_past_the_text(void **state)
{
    static const char *const odd[] = {"[1,",   "{\"a\":", "{\"a\"", "{\"a", "\"abc\\",
                                      "[\"]",  "tru",     "-",      "{]",   "[}",
                                      "{1:2}", "[1 2]",   "1-2",    "[[",   "{\"a\":1,,}"};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        size_t len = strlen(odd[i]);
        char *in = xalloc(len);
        memcpy(in, odd[i], len);
        struct json_value v, m;
        if (json_parse(slice_n(in, len), &v)) {
            json_count(&v);
            json_member(&v, SLICE_LIT("a"), &m);
        }
        mem_free(in);
    }
    struct json_value v = {.type = JSON_NULL};
    assert_false(json_parse(slice_n(NULL, 0), &v));
    assert_false(json_parse(SLICE_LIT("   "), &v));
    assert_false(json_parse(SLICE_LIT("x"), &v));
    assert_int_equal(v.type, JSON_NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_validate_when_wellformed_then_ok),
        cmocka_unit_test(test_validate_when_damaged_then_place_and_expectation),
        cmocka_unit_test(test_validate_when_nested_then_depth_is_limited),
        cmocka_unit_test(test_validate_when_long_string_has_one_bad_byte_then_found_at_any_place),
        cmocka_unit_test(test_numbers_when_parsed_then_exact),
        cmocka_unit_test(test_next_when_object_then_members_in_order),
        cmocka_unit_test(test_member_when_duplicate_or_escaped_then_last_wins),
        cmocka_unit_test(test_string_when_escaped_then_decoded),
        cmocka_unit_test(test_unescape_when_in_place_or_damaged_then_bounded),
        cmocka_unit_test(test_parse_when_unchecked_then_never_past_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
