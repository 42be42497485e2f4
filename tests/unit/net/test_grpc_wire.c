/* test_grpc_wire.c - timeouts, percent text, base64, compressed messages, codes. */
#include "harness.h"
#include "net/grpc_int.h"
#include <zlib.h>

static void test_timeout_when_well_formed_then_microseconds(void **state)
{
    assert_int_equal(grpc__timeout_parse(SLICE_LIT("1S")), 1000000);
    assert_int_equal(grpc__timeout_parse(SLICE_LIT("100m")), 100000);
    assert_int_equal(grpc__timeout_parse(SLICE_LIT("7u")), 7);
    assert_int_equal(grpc__timeout_parse(SLICE_LIT("1n")), 1);
    assert_int_equal(grpc__timeout_parse(SLICE_LIT("2001n")), 3);
    assert_int_equal(grpc__timeout_parse(SLICE_LIT("2M")), 120000000);
    assert_int_equal(grpc__timeout_parse(SLICE_LIT("99999999H")), 99999999 * INT64_C(3600000000));
    assert_int_equal(grpc__timeout_parse(SLICE_LIT("0m")), 0);
}

static void test_timeout_when_malformed_then_refused(void **state)
{
    static const char *const bad[] = { "", "S", "1", "1s", "1x", "-1S", "123456789S", "1 S", "1.5S" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(grpc__timeout_parse(slice_of(bad[i])), -1);
    }
}

static void test_timeout_when_formatted_then_parses_to_no_less(void **state)
{
    static const int64_t us[] = { 0, 1, 999, 99999999, 100000000, 123456789, INT64_C(123456789012),
                                  INT64_C(98765432109876), INT64_C(1) << 60 };
    for (size_t i = 0; i < ARRAY_LEN(us); i++) {
        char p[GRPC_TIMEOUT_TEXT];
        int64_t back;
        grpc__timeout_format(p, us[i]);
        back = grpc__timeout_parse(slice_of(p));
        assert_true(back >= 0);
        if (us[i] < INT64_C(90000000) * 60000000) {
            assert_true(back >= us[i]);
        }
        assert_true(back - us[i] <= us[i] / 1000 + 1);
    }
}

static void test_percent_when_encoded_then_decodes_to_the_same(void **state)
{
    struct arena *ar = arena_new(0);
    char *p = grpc__percent_encode(ar, "50% of\n\xc3\xa4 done~");
    assert_string_equal(p, "50%25 of%0A%C3%A4 done~");
    p[grpc__percent_decode(p, strlen(p))] = 0;
    assert_string_equal(p, "50% of\n\xc3\xa4 done~");
    arena_free(ar);
}

static void test_percent_when_escape_is_broken_then_kept(void **state)
{
    char p[] = "a%2 %zz %4";
    assert_int_equal(grpc__percent_decode(p, strlen(p)), strlen(p));
    assert_string_equal(p, "a%2 %zz %4");
}

static void test_base64_when_every_length_then_round_trips(void **state)
{
    struct arena *ar = arena_new(0);
    char in[70];
    struct slice out;
    for (size_t n = 0; n < sizeof in; n++) {
        struct slice e;
        in[n] = (char)(n * 37);
        e = grpc__b64_encode(ar, slice_n(in, n));
        assert_true(grpc__b64_decode(ar, e, &out));
        assert_true(slice_eq(out, slice_n(in, n)));
    }
    assert_true(grpc__b64_decode(ar, SLICE_LIT("QUI="), &out));
    assert_true(slice_is(out, "AB"));
    assert_false(grpc__b64_decode(ar, SLICE_LIT("Q"), &out));
    assert_false(grpc__b64_decode(ar, SLICE_LIT("Q*I"), &out));
    arena_free(ar);
}

static size_t gzip(const void *p, size_t n, uint8_t *out, size_t cap)
{
    z_stream z = { 0 };
    size_t r;
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)p;
    z.avail_in = (uInt)n;
    z.next_out = out;
    z.avail_out = (uInt)cap;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    r = cap - z.avail_out;
    (void)deflateEnd(&z);
    return r;
}

static void test_inflate_when_gzip_then_original(void **state)
{
    size_t n = 300000, m;
    uint8_t *in = xalloc(n), *z = xalloc(n), *out;
    for (size_t i = 0; i < n; i++) {
        in[i] = (uint8_t)(i * i >> 7);
    }
    m = gzip(in, n, z, n);
    OK(grpc__inflate(slice_n(z, m), n, &out, &n, st));
    assert_int_equal(n, 300000);
    assert_memory_equal(in, out, n);
    mem_free(out);
    mem_free(in);
    mem_free(z);
}

static void test_inflate_when_over_the_limit_then_too_large(void **state)
{
    size_t n = 100000, m;
    uint8_t *in = xalloc(n), *z = xalloc(n), *out = NULL;
    m = gzip(in, n, z, n);
    FAILS(grpc__inflate(slice_n(z, m), n - 1, &out, &n, st), ST_TOO_LARGE, "larger than");
    OK(grpc__inflate(slice_n(z, m), n, &out, &n, st));
    mem_free(out);
    FAILS(grpc__inflate(slice_n(z, m - 9), n, &out, &n, st), ST_CORRUPT, "broken");
    z[m] = 0;
    FAILS(grpc__inflate(slice_n(z, m + 1), n, &out, &n, st), ST_CORRUPT, "after the end");
    FAILS(grpc__inflate(SLICE_LIT("rubbish"), n, &out, &n, st), ST_CORRUPT, "broken");
    FAILS(grpc__inflate(SLICE_LIT(""), n, &out, &n, st), ST_CORRUPT, "broken");
    alloc_fail_after(1);
    FAILS(grpc__inflate(slice_n(z, m), n, &out, &n, st), ST_NO_MEMORY, "memory");
    alloc_fail_after(0);
    mem_free(in);
    mem_free(z);
}

static void test_codes_when_mapped_both_ways_then_consistent(void **state)
{
    for (int st_code = ST_OK; st_code <= ST_WOULD_WAIT; st_code++) {
        int g = grpc_code_of_status(st_code);
        assert_true(g >= GRPC_OK && g <= GRPC_UNAUTHENTICATED);
        assert_true((g == GRPC_OK) == (st_code == ST_OK));
    }
    assert_int_equal(grpc_status_of_code(GRPC_UNAVAILABLE), ST_UNAVAILABLE);
    assert_int_equal(grpc_status_of_code(GRPC_DEADLINE_EXCEEDED), ST_TIMEOUT);
    assert_int_equal(grpc_status_of_code(GRPC_RESOURCE_EXHAUSTED), ST_QUOTA);
    assert_int_equal(grpc_status_of_code(77), ST_INTERNAL);
    assert_int_equal(grpc_code_of_status(1100), GRPC_INTERNAL);
    assert_string_equal(grpc_code_name(GRPC_UNIMPLEMENTED), "UNIMPLEMENTED");
    assert_string_equal(grpc_code_name(-1), "UNKNOWN");
}

static void test_metadata_names_when_odd_then_refused(void **state)
{
    assert_true(grpc__md_name_ok(SLICE_LIT("client-request-id")));
    assert_false(grpc__md_name_ok(SLICE_LIT("")));
    assert_false(grpc__md_name_ok(SLICE_LIT("Upper")));
    assert_false(grpc__md_name_ok(SLICE_LIT("grpc-status")));
    assert_false(grpc__md_name_ok(SLICE_LIT(":path")));
    assert_false(grpc__md_value_ok(SLICE_LIT("a\nb")));
    assert_false(grpc__md_value_ok(SLICE_LIT(" a")));
    assert_true(grpc__is_bin(SLICE_LIT("status-bin")));
    assert_false(grpc__is_bin(SLICE_LIT("-bin")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeout_when_well_formed_then_microseconds),
        cmocka_unit_test(test_timeout_when_malformed_then_refused),
        cmocka_unit_test(test_timeout_when_formatted_then_parses_to_no_less),
        cmocka_unit_test(test_percent_when_encoded_then_decodes_to_the_same),
        cmocka_unit_test(test_percent_when_escape_is_broken_then_kept),
        cmocka_unit_test(test_base64_when_every_length_then_round_trips),
        cmocka_unit_test(test_inflate_when_gzip_then_original),
        cmocka_unit_test(test_inflate_when_over_the_limit_then_too_large),
        cmocka_unit_test(test_codes_when_mapped_both_ways_then_consistent),
        cmocka_unit_test(test_metadata_names_when_odd_then_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
