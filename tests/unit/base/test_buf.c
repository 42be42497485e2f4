/* test_buf.c - buffers, their ceiling, and the reader. */
#include "unit.h"
#include "alloc_torture.h"
#include "base/buf.h"

static void test_put_when_ceiling_would_be_passed_then_nothing_changes(void **state)
{
    struct buf b;
    buf_init(&b, 10);
    assert_true(buf_put(&b, "12345678", 8));
    assert_false(buf_put(&b, "abc", 3));
    assert_true(b.failed);
    assert_true(slice_is(buf_slice(&b), "12345678"));
    assert_false(buf_putc(&b, 'x')); /* would fit, but the text would have a hole */
    buf_reset(&b);
    assert_true(buf_put(&b, "1234567890", 10));
    assert_false(buf_putc(&b, 'x'));
    buf_reset(&b);
    assert_false(buf_put_zero(&b, SIZE_MAX));
    buf_done(&b);
    buf_done(NULL);
}

static void test_put_when_values_then_little_endian(void **state)
{
    static const uint8_t want[] = {7, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0};
    struct buf b;
    buf_init(&b, 100);
    buf_put_u8(&b, 7);
    buf_put_u32(&b, 0x01020304);
    buf_put_u64(&b, UINT64_C(0x0102030405060708));
    assert_true(buf_pad(&b, 8));
    assert_int_equal(b.n, sizeof want);
    assert_memory_equal(b.p, want, sizeof want);
    assert_true(buf_pad(&b, 8));
    assert_int_equal(b.n, sizeof want);
    buf_done(&b);
}

static void test_printf_when_longer_than_the_stack_buffer_then_whole(void **state)
{
    struct buf b;
    char text[2000];
    memset(text, 'z', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    buf_init(&b, 2003);
    assert_true(buf_printf(&b, "%d:%s;", 1, text));
    assert_int_equal(b.n, 2002);
    assert_false(buf_printf(&b, "%s", text));
    assert_int_equal(b.n, 2002);
    buf_reset(&b);
    /* Exactly at the ceiling: the terminating zero needs no room. */
    assert_true(buf_printf(&b, "1234%s", text));
    assert_int_equal(b.n, 2003);
    buf_done(&b);
}

static void test_json_str_when_any_bytes_then_valid_json(void **state)
{
    static const struct {
        struct slice in;
        const char *out;
    } rows[] = {
        {{"", 0}, "\"\""},
        {{"plain", 5}, "\"plain\""},
        {{"q\" b\\ /", 7}, "\"q\\\" b\\\\ /\""},
        {{"\n\r\t\b\0\x1f", 6}, "\"\\n\\r\\t\\u0008\\u0000\\u001f\""},
        {{"\x7f", 1}, "\"\x7f\""},
        {{"ä€😀", 9}, "\"ä€😀\""},
        {{"a\xff", 2}, "\"a\xEF\xBF\xBD\""},
        {{"\xe2\x82", 2}, "\"\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {{"\xed\xa0\x80", 3}, "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    struct buf b;
    buf_init(&b, 1000);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        buf_reset(&b);
        assert_true(buf_put_json_str(&b, rows[i].in));
        assert_true(slice_is(buf_slice(&b), rows[i].out));
    }
    buf_done(&b);
    buf_init(&b, 6);
    assert_true(buf_put_str(&b, "ab"));
    assert_false(buf_put_json_str(&b, SLICE_LIT("abc")));
    assert_true(slice_is(buf_slice(&b), "ab"));
    buf_done(&b);
}

static void test_take_when_called_then_buffer_is_empty_and_usable(void **state)
{
    struct buf b;
    size_t n;
    buf_init(&b, 100);
    buf_put_str(&b, "abc");
    uint8_t *p = buf_take(&b, &n);
    assert_int_equal(n, 3);
    assert_memory_equal(p, "abc", 3);
    assert_int_equal(b.n, 0);
    assert_true(buf_put_str(&b, "def"));
    buf_done(&b);
    mem_free(p);
}

static void test_put_when_memory_fails_then_false_and_a_prefix_remains(void **state)
{
    ALLOC_TORTURE
    {
        struct buf b;
        buf_init(&b, SIZE_MAX);
        for (size_t i = 0; i < 100; i++) {
            buf_printf(&b, "%099zu,", i);
        }
        assert_int_equal(b.failed, b.n != 10000);
        for (size_t i = 99; i < b.n; i += 100) {
            assert_int_equal(b.p[i], ',');
        }
        buf_done(&b);
    }
}

static void test_reader_when_past_the_end_then_false_for_ever(void **state)
{
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7};
    struct reader r = reader_of(slice_n(bytes, sizeof bytes));
    uint8_t a = 0;
    uint16_t b = 0;
    uint32_t c = 0;
    uint64_t d = 9;
    struct slice s = {0};
    assert_true(reader_u8(&r, &a) && reader_u16(&r, &b) && reader_bytes(&r, 2, &s));
    assert_int_equal(a, 1);
    assert_int_equal(b, 0x0302);
    assert_ptr_equal(s.p, bytes + 3);
    assert_false(reader_u32(&r, &c));
    assert_false(reader_u8(&r, &a)); /* a byte is left, but the caller is lost */
    assert_false(reader_u64(&r, &d));
    assert_false(reader_bytes(&r, 0, &s));
    assert_true(r.failed);
    assert_int_equal(d, 9);

    r = reader_of(slice_n(bytes, sizeof bytes));
    assert_false(reader_bytes(&r, SIZE_MAX, &s));
    r = reader_of(slice_n(NULL, 0));
    assert_int_equal(reader_left(&r), 0);
    assert_false(reader_u8(&r, &a));
}

static void test_slice_when_compared_then_bytewise(void **state)
{
    assert_true(slice_cmp(SLICE_LIT("a"), SLICE_LIT("ab")) < 0);
    assert_true(slice_cmp(SLICE_LIT("\xff"), SLICE_LIT("a")) > 0);
    assert_int_equal(slice_cmp(slice_n(NULL, 0), SLICE_LIT("")), 0);
    assert_true(slice_starts(SLICE_LIT("abc"), SLICE_LIT("ab")));
    assert_false(slice_starts(SLICE_LIT("a"), SLICE_LIT("ab")));
    assert_true(slice_eq(slice_of(NULL), SLICE_LIT("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_when_ceiling_would_be_passed_then_nothing_changes),
        cmocka_unit_test(test_put_when_values_then_little_endian),
        cmocka_unit_test(test_printf_when_longer_than_the_stack_buffer_then_whole),
        cmocka_unit_test(test_json_str_when_any_bytes_then_valid_json),
        cmocka_unit_test(test_take_when_called_then_buffer_is_empty_and_usable),
        cmocka_unit_test(test_put_when_memory_fails_then_false_and_a_prefix_remains),
        cmocka_unit_test(test_reader_when_past_the_end_then_false_for_ever),
        cmocka_unit_test(test_slice_when_compared_then_bytewise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
