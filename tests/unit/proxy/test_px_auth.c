/* test_px_auth.c - passwords seen to be right: remembered, forgotten, and both at once. */
#include "unit.h"
#include "base/arena.h"
#include "proxy/px_int.h"
#include <stdio.h>

static bool known(struct px_auth *a, const char *token)
{
    uint64_t generation;
    return px_auth_known(a, slice_of(token), &generation);
}

static void test_auth_when_remembered_then_known_until_forgotten(void **state)
{
    struct px_auth *a = px_auth_new();
    uint64_t generation;
    assert_false(px_auth_known(a, SLICE_LIT("t"), &generation));
    px_auth_remember(a, SLICE_LIT("t"), generation);
    px_auth_remember(a, SLICE_LIT("t"), generation);
    assert_true(known(a, "t"));
    assert_false(known(a, "T"));
    px_auth_forget(a);
    assert_false(known(a, "t"));
    px_auth_free(a);
    px_auth_free(NULL);
}

/* The old password was found right, then it was changed, and only then the answer arrives. */
static void test_auth_when_password_changes_during_the_check_then_not_remembered(void **state)
{
    struct px_auth *a = px_auth_new();
    uint64_t before, after;
    assert_false(px_auth_known(a, SLICE_LIT("old"), &before));
    px_auth_forget(a);
    px_auth_remember(a, SLICE_LIT("old"), before);
    assert_false(px_auth_known(a, SLICE_LIT("old"), &after));
    px_auth_remember(a, SLICE_LIT("new"), after);
    assert_true(known(a, "new"));
    px_auth_free(a);
}

static void test_auth_when_many_tokens_are_right_then_memory_stays_bounded(void **state)
{
    struct px_auth *a = px_auth_new();
    uint64_t generation;
    char token[32];
    (void)px_auth_known(a, SLICE_LIT("t"), &generation);
    for (int i = 0; i < 10000; i++) {
        snprintf(token, sizeof token, "token%d", i);
        px_auth_remember(a, slice_of(token), generation);
        assert_true(known(a, token));
    }
    assert_false(known(a, "token0"));
    px_auth_free(a);
}

static void test_base64_when_text_is_any_then_decoded_or_refused(void **state)
{
    struct arena *ar = arena_new(0);
    static const struct {
        const char *in, *out;
    } rows[] = {
        { "cm9vdDpNaWx2dXM=", "root:Milvus" }, { "cm9vdDpNaWx2dXM", "root:Milvus" },
        { "", "" }, { "====", "" }, { "YQ==", "a" }, { "YWI=", "ab" }, { "YWJj", "abc" },
        { "-_8=", "\xfb\xff" }, { "+/8=", "\xfb\xff" },
        { "a", NULL }, { "YWJjZ", NULL }, { "Y Q=", NULL }, { "\xff\xff\xff\xff", NULL },
        { "YQ==YQ==", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct slice s = px_base64_decode(ar, slice_of(rows[i].in));
        if (rows[i].out) {
            assert_non_null(s.p);
            assert_true(slice_is(s, rows[i].out) && s.p[s.n] == '\0');
        } else {
            assert_null(s.p);
        }
    }
    arena_free(ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_auth_when_remembered_then_known_until_forgotten),
        cmocka_unit_test(test_auth_when_password_changes_during_the_check_then_not_remembered),
        cmocka_unit_test(test_auth_when_many_tokens_are_right_then_memory_stays_bounded),
        cmocka_unit_test(test_base64_when_text_is_any_then_decoded_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
