/* test_status.c - messages, codes and where they are cut. */
#include "unit.h"
#include "base/utf8.h"
#include <errno.h>
#include <stdio.h>

static void test_fail_when_message_is_short_then_code_and_text_are_set(void **state)
{
    struct status st = STATUS_INIT;
    assert_int_equal(st_fail(&st, ST_INVALID, "dimension %d, field \"%s\"", 129, "emb"),
                     ST_INVALID);
    assert_int_equal(st.code, ST_INVALID);
    assert_false(st.retriable);
    assert_string_equal(st.msg, "dimension 129, field \"emb\"");
}

static void test_fail_when_code_is_temporary_then_retriable(void **state)
{
    static const int yes[] = {ST_TIMEOUT, ST_BUSY, ST_UNAVAILABLE, ST_NOT_READY};
    for (int code = 1; code <= ST_WOULD_WAIT; code++) {
        struct status st = STATUS_INIT;
        bool want = false;
        for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
            want = want || yes[i] == code;
        }
        st.retriable = !want;
        st_fail(&st, code, "x");
        assert_int_equal(st.retriable, want);
    }
}

static void test_fail_when_message_is_its_own_argument_then_it_is_whole(void **state)
{
    struct status st = STATUS_INIT;
    st_fail(&st, ST_IO, "inner");
    st_fail(&st, ST_INTERNAL, "outer (%s)", st.msg);
    assert_string_equal(st.msg, "outer (inner)");
}

static void test_fail_when_too_long_then_cut_on_a_character(void **state)
{
    static const char *const chars[] = {"a", "ä", "€", "😀"};
    for (size_t c = 0; c < ARRAY_LEN(chars); c++) {
        size_t len = strlen(chars[c]);
        for (size_t lead = 0; lead < 4; lead++) {
            char text[2048] = {0};
            memset(text, '.', lead);
            for (size_t n = lead; n < 1500; n += len) {
                memcpy(text + n, chars[c], len);
            }
            struct status st = STATUS_INIT;
            st_fail(&st, ST_IO, "%s", text);
            size_t n = strlen(st.msg);
            assert_true(n <= STATUS_MSG_MAX - 1 && n > STATUS_MSG_MAX - 1 - len);
            assert_true(utf8_valid(slice_of(st.msg)));
            assert_memory_equal(st.msg, text, n);
        }
    }
}

static void test_fail_when_message_fits_exactly_then_nothing_is_cut(void **state)
{
    char text[STATUS_MSG_MAX];
    memset(text, 'x', sizeof text);
    memcpy(text + sizeof text - 4, "€", 3);
    text[sizeof text - 1] = '\0';
    struct status st = STATUS_INIT;
    st_fail(&st, ST_IO, "%s", text);
    assert_string_equal(st.msg, text);
}

static void test_fail_when_bytes_are_not_utf8_then_still_bounded(void **state)
{
    char text[2000];
    memset(text, 0x80, sizeof text);
    text[sizeof text - 1] = '\0';
    struct status st = STATUS_INIT;
    st_fail(&st, ST_IO, "%s", text);
    assert_true(strlen(st.msg) < STATUS_MSG_MAX);
    assert_true(strlen(st.msg) > STATUS_MSG_MAX - 8);
}

static void test_errno_when_known_then_code_matches(void **state)
{
    static const struct {
        int err, code;
    } rows[] = {{ENOSPC, ST_NO_SPACE}, {EDQUOT, ST_NO_SPACE},  {ENOENT, ST_NOT_FOUND},
                {EEXIST, ST_EXISTS},   {ENOMEM, ST_NO_MEMORY}, {EIO, ST_IO},
                {EACCES, ST_IO}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct status st = STATUS_INIT;
        assert_int_equal(st_errno(&st, rows[i].err, "open %s", "/x"), rows[i].code);
        assert_non_null(strstr(st.msg, "open /x: "));
        assert_true(strlen(st.msg) > strlen("open /x: "));
    }
    struct status st = STATUS_INIT;
    st_errno(&st, 99999, "read");
    assert_string_equal(st.msg, "read: error 99999");
}

static void test_errno_when_path_is_long_then_cause_is_kept(void **state)
{
    char path[2000];
    memset(path, 'p', sizeof path);
    path[sizeof path - 1] = '\0';
    struct status st = STATUS_INIT;
    st_errno(&st, ENOSPC, "%s", path);
    assert_non_null(strstr(st.msg, ": No space left on device"));
}

static void test_context_when_added_then_code_and_flag_stay(void **state)
{
    struct status st = STATUS_INIT;
    st_fail(&st, ST_BUSY, "queue full");
    assert_int_equal(st_context(&st, "shard %d", 7), ST_BUSY);
    assert_string_equal(st.msg, "shard 7: queue full");
    assert_true(st.retriable);
}

static void test_context_when_too_long_then_end_is_cut(void **state)
{
    char text[STATUS_MSG_MAX];
    memset(text, 'm', sizeof text);
    text[sizeof text - 1] = '\0';
    struct status st = STATUS_INIT;
    st_fail(&st, ST_IO, "%s", text);
    st_context(&st, "where");
    assert_memory_equal(st.msg, "where: mmm", 10);
    assert_int_equal(strlen(st.msg), STATUS_MSG_MAX - 1);
    st_context(&st, "%s", text);
    assert_int_equal(strlen(st.msg), STATUS_MSG_MAX - 1);
}

static void test_clear_when_called_then_ok(void **state)
{
    struct status st = STATUS_INIT;
    st_fail(&st, ST_BUSY, "x");
    st_clear(&st);
    assert_int_equal(st.code, ST_OK);
    assert_false(st.retriable);
    assert_string_equal(st.msg, "");
}

static void test_code_name_when_any_number_then_named_and_stable(void **state)
{
    for (int code = 0; code <= ST_WOULD_WAIT; code++) {
        assert_null(strstr(st_code_name(code), "error "));
    }
    assert_string_equal(st_code_name(ST_NOT_FOUND), "not found");
    const char *api = st_code_name(1100), *negative = st_code_name(-5);
    assert_string_equal(api, "error 1100");
    assert_string_equal(negative, "error -5");
    assert_ptr_equal(api, st_code_name(1100));
    assert_string_equal(st_code_name(ST_WOULD_WAIT + 1), "error 22");
}

static int with_try(int code, bool *reached, struct status *st)
{
    int rc = 0;
    TRY(code ? st_fail(st, code, "no") : 0);
    *reached = true;
    if (code == 0) {
        FAIL(st, ST_QUOTA, "limit %d", 3);
    }
out:
    return rc;
}

static void test_try_when_it_fails_then_jumps_with_rc(void **state)
{
    struct status st = STATUS_INIT;
    bool reached = false;
    assert_int_equal(with_try(ST_FENCED, &reached, &st), ST_FENCED);
    assert_false(reached);
    assert_int_equal(with_try(0, &reached, &st), ST_QUOTA);
    assert_true(reached);
    assert_string_equal(st.msg, "limit 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_when_message_is_short_then_code_and_text_are_set),
        cmocka_unit_test(test_fail_when_code_is_temporary_then_retriable),
        cmocka_unit_test(test_fail_when_message_is_its_own_argument_then_it_is_whole),
        cmocka_unit_test(test_fail_when_too_long_then_cut_on_a_character),
        cmocka_unit_test(test_fail_when_message_fits_exactly_then_nothing_is_cut),
        cmocka_unit_test(test_fail_when_bytes_are_not_utf8_then_still_bounded),
        cmocka_unit_test(test_errno_when_known_then_code_matches),
        cmocka_unit_test(test_errno_when_path_is_long_then_cause_is_kept),
        cmocka_unit_test(test_context_when_added_then_code_and_flag_stay),
        cmocka_unit_test(test_context_when_too_long_then_end_is_cut),
        cmocka_unit_test(test_clear_when_called_then_ok),
        cmocka_unit_test(test_code_name_when_any_number_then_named_and_stable),
        cmocka_unit_test(test_try_when_it_fails_then_jumps_with_rc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
