/* test_px_status.c - causes and numbers become what clients read. */
#include "px_fixture.h"

static px_status_pb fill(int code, bool retriable, struct arena *ar)
{
    struct status st = STATUS_INIT;
    px_status_pb out;

    st.code = code;
    st.retriable = retriable;
    snprintf(st.msg, sizeof st.msg, "words of %d", code);
    px_status_fill(&out, &st, ar);
    return out;
}

static void test_success_is_two_zeroes_and_no_words(void **state)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    px_status_pb out;

    px_status_fill(&out, &st, ar);
    assert_int_equal(out.code, 0);
    assert_int_equal(out.error_code, 0);
    assert_string_equal(out.reason, "");
    assert_int_equal(out.n_extra_info, 0);
    arena_free(ar);
}

static void test_every_cause_has_a_number(void **state)
{
    for (int code = ST_INVALID; code <= ST_WOULD_WAIT; code++) {
        int api = px_status_code(code);
        assert_true(api != 0);
        assert_true(err_text(api) != NULL || api == 10000);
    }
    assert_int_equal(px_status_code(ST_INVALID), 1100);
    assert_int_equal(px_status_code(ST_NOT_READY), 1);
    assert_int_equal(px_status_code(ST_TIMEOUT), 11);
    assert_int_equal(px_status_code(ST_QUOTA), 9);
    assert_int_equal(px_status_code(ST_BUSY), 8);
    assert_int_equal(px_status_code(99), 65535);
}

static void test_a_number_of_the_api_passes_with_its_legacy_twin(void **state)
{
    static const struct {
        int code, legacy;
        bool retriable, caller;
    } rows[] = {
        { 100, 4, false, true },   { 101, 1, false, true },  { 109, 62, false, true },
        { 200, 15, false, true },  { 503, 46, false, false }, { 700, 25, false, true },
        { 1100, 5, false, true },  { 1101, 1, false, true }, { 2000, 1, false, false },
        { 2200, 1, true, false },  { 65535, 1, false, false },
    };
    struct arena *ar = arena_new(0);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        px_status_pb s = fill(rows[i].code, false, ar);
        assert_int_equal(s.code, rows[i].code);
        assert_int_equal(s.error_code, rows[i].legacy);
        assert_int_equal(s.retriable, rows[i].retriable);
        assert_int_equal(s.n_extra_info, rows[i].caller);
        if (rows[i].caller) {
            assert_string_equal(s.extra_info[0]->key, "is_input_error");
            assert_string_equal(s.extra_info[0]->value, "true");
        }
        assert_string_equal(s.detail, s.reason);
    }
    assert_string_equal(fill(100, false, ar).reason, "words of 100");
    arena_free(ar);
}

static void test_error_code_is_never_zero_for_a_failure(void **state)
{
    struct arena *ar = arena_new(0);

    for (int code = 1; code < 3000; code++) {
        px_status_pb s = fill(code, false, ar);
        assert_true(s.code != 0 && s.error_code != 0);
    }
    arena_free(ar);
}

static void test_retriable_of_the_cause_is_kept(void **state)
{
    struct arena *ar = arena_new(0);

    assert_true(fill(ERR_CHANNEL_NOT_AVAILABLE, true, ar).retriable);
    assert_false(fill(ERR_CHANNEL_NOT_AVAILABLE, false, ar).retriable);
    assert_true(fill(ST_UNAVAILABLE, false, ar).retriable);
    arena_free(ar);
}

static void test_a_cause_without_words_gets_the_number_s(void **state)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    px_status_pb out;

    st.code = ST_NOT_READY;
    px_status_fill(&out, &st, ar);
    assert_string_equal(out.reason, "service not ready");
    arena_free(ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_success_is_two_zeroes_and_no_words),
        cmocka_unit_test(test_every_cause_has_a_number),
        cmocka_unit_test(test_a_number_of_the_api_passes_with_its_legacy_twin),
        cmocka_unit_test(test_error_code_is_never_zero_for_a_failure),
        cmocka_unit_test(test_retriable_of_the_cause_is_kept),
        cmocka_unit_test(test_a_cause_without_words_gets_the_number_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
