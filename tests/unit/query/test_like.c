/* test_like.c - patterns: a table, and random ones against a backtracking matcher. */
#include "query_fixture.h"
#include "query/query_int.h"
#include "expect.h"

static bool matches(const char *pattern, const char *text)
{
    struct arena *ar = arena_new(0);
    const struct like *lk = like__compile(slice_of(pattern), ar);
    assert_non_null(lk);
    bool r = like__match(lk, slice_of(text));
    arena_free(ar);
    return r;
}

static void test_like_table(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool match;
    } rows[] = {
        {"", "", true},
        {"", "a", false},
        {"%", "", true},
        {"%", "x", true},
        {"%%", "", true},
        {"abc", "abc", true},
        {"abc", "abcd", false},
        {"abc", "ab", false},
        {"ab%", "abc", true},
        {"ab%", "ab", true},
        {"ab%", "a", false},
        {"%bc", "abc", true},
        {"%bc", "abcd", false},
        {"%bc", "bcbc", true},
        {"%b%", "abc", true},
        {"%b%", "ac", false},
        {"a%c", "abbc", true},
        {"a%c", "ac", true},
        {"a%c", "a", false},
        {"ab%ba", "aba", false},
        {"ab%ba", "abba", true},
        {"a%b%c", "axxbyyc", true},
        {"a%b%c", "acb", false},
        {"_", "a", true},
        {"_", "", false},
        {"_", "ab", false},
        {"__", "ab", true},
        {"_%", "", false},
        {"_%", "x", true},
        {"%_", "x", true},
        {"%_", "", false},
        {"a_c", "abc", true},
        {"a_c", "ac", false},
        {"_", "\xC3\xA9", true},
        {"__", "\xC3\xA9", false},
        {"a_", "a\xE4\xB8\xAD", true},
        {"%_b",
         "\xC3\xA9"
         "b",
         true},
        {"%__b",
         "\xC3\xA9"
         "b",
         false},
        {"\\%", "%", true},
        {"\\%", "x", false},
        {"\\_", "_", true},
        {"\\_", "x", false},
        {"\\\\", "\\", true},
        {"\\a", "a", true},
        {"a\\", "a\\", true},
        {"\\%%", "%x", true},
        {"%\\%", "5%", true},
        {"%\\%", "5", false},
        {"%\\\\%", "a\\b", true},
        {"%ab%ab", "abab", true},
        {"%ab%ab", "ab", false},
        {"%a_%", "xa", false},
        {"%a_%", "xab", true},
        {"%_a_%", "aab", true},
        {"%aab", "aaab", true},
        {"%a_b", "aaxb", true},
        {"_b%", "ab", true},
        {"%.%", "a.b", true},
        {"a.c", "abc", false},
        {"%\n%", "a\nb", true},
        {"_", "\n", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (matches(rows[i].pattern, rows[i].text) != rows[i].match) {
            fail_msg("'%s' like '%s' should be %d", rows[i].text, rows[i].pattern, rows[i].match);
        }
    }
}

static bool naive(const char *p, const char *s)
{
    if (!*p) {
        return !*s;
    }
    if (*p == '%') {
        return naive(p + 1, s) || (*s && naive(p, s + 1));
    }
    if (!*s) {
        return false;
    }
    if (*p == '\\' && p[1]) {
        return p[1] == *s && naive(p + 2, s + 1);
    }
    return (*p == '_' || *p == *s) && naive(p + 1, s + 1);
}

static void test_like_random_patterns_agree_with_backtracking(void **state)
{
    uint64_t rng = 42;
    for (int i = 0; i < 100000; i++) {
        char pattern[10], text[10];
        uint32_t np = fx_below(&rng, 9), ns = fx_below(&rng, 9);
        for (uint32_t k = 0; k < np; k++) {
            pattern[k] = "ab%%_\\"[fx_below(&rng, 6)];
        }
        for (uint32_t k = 0; k < ns; k++) {
            text[k] = "aab%\\"[fx_below(&rng, 5)];
        }
        pattern[np] = text[ns] = '\0';
        if (matches(pattern, text) != naive(pattern, text)) {
            fail_msg("'%s' like '%s' should be %d", text, pattern, naive(pattern, text));
        }
    }
}

static void test_like_many_wildcards_over_a_long_text_ends(void **state)
{
    struct arena *ar = arena_new(0);
    char *text = arena_alloc(ar, 65536), *pattern = arena_alloc(ar, 4096);
    memset(text, 'a', 65535);
    for (int i = 0; i < 2000; i += 2) {
        memcpy(pattern + i, i % 4 ? "%a" : "%_", 2);
    }
    memcpy(pattern + 2000, "%b", 3);
    const struct like *lk = like__compile(slice_of(pattern), ar);
    assert_false(like__match(lk, slice_n(text, 65535)));
    text[65534] = 'b';
    assert_true(like__match(lk, slice_n(text, 65535)));
    arena_free(ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_table),
        cmocka_unit_test(test_like_random_patterns_agree_with_backtracking),
        cmocka_unit_test(test_like_many_wildcards_over_a_long_text_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
