/* test_hash.c - checksums against published values and against the plain definition. */
#include "unit.h"
#include "base/hash.h"

/* Bit by bit, straight from the definition. */
static uint32_t crc32c_slow(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) {
            crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0);
        }
    }
    return ~crc;
}

static void fill(uint8_t *p, size_t n)
{
    uint32_t x = 12345;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        p[i] = (uint8_t)(x >> 24);
    }
}

static void test_crc32c_when_published_input_then_published_value(void **state)
{
    uint8_t b[32];
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283u);
    memset(b, 0, sizeof b); /* RFC 3720, B.4 */
    assert_int_equal(crc32c(0, b, sizeof b), 0x8A9136AAu);
    memset(b, 0xFF, sizeof b);
    assert_int_equal(crc32c(0, b, sizeof b), 0x62A8AB43u);
    for (size_t i = 0; i < sizeof b; i++) {
        b[i] = (uint8_t)i;
    }
    assert_int_equal(crc32c(0, b, sizeof b), 0x46DD794Eu);
    assert_int_equal(crc32c(0, b, 0), 0);
}

static void test_crc32c_when_any_length_and_offset_then_equals_definition(void **state)
{
    enum { N = 40000 };
    uint8_t *p = xalloc(N + 16);
    fill(p, N + 16);
    for (size_t n = 0; n < N; n += n < 1700 ? 1 : 997) {
        size_t at = n % 9;
        uint32_t want = crc32c_slow(0, p + at, n);
        assert_int_equal(crc32c(0, p + at, n), want);
        assert_int_equal(crc32c_portable(0, p + at, n), want);
    }
    for (size_t n = 12288 - 9; n < 12288 + 9; n++) { /* three long stretches */
        assert_int_equal(crc32c(0, p, n), crc32c_slow(0, p, n));
    }
    mem_free(p);
}

static void test_crc32c_when_fed_in_pieces_then_same(void **state)
{
    enum { N = 30000 };
    uint8_t *p = xalloc(N);
    fill(p, N);
    uint32_t whole = crc32c(0, p, N);
    for (size_t cut = 0; cut <= N; cut += 1111) {
        assert_int_equal(crc32c(crc32c(0, p, cut), p + cut, N - cut), whole);
    }
    mem_free(p);
}

static void test_murmur3_when_published_input_then_published_value(void **state)
{
    assert_int_equal(murmur3_32("", 0, 0), 0);
    assert_int_equal(murmur3_32("", 0, 1), 0x514E28B7u);
    assert_int_equal(murmur3_32("", 0, 0xFFFFFFFFu), 0x81F16F39u);
    assert_int_equal(murmur3_32("\xFF\xFF\xFF\xFF", 4, 0), 0x76293B50u);
    assert_int_equal(murmur3_32("\x21\x43\x65\x87", 4, 0), 0xF55B516Bu);
    assert_int_equal(murmur3_32("\x21\x43\x65", 3, 0), 0x7E4A8634u);
    assert_int_equal(murmur3_32("\x21\x43", 2, 0), 0xA0F7B07Au);
    assert_int_equal(murmur3_32("\x21", 1, 0), 0x72661CF4u);
    assert_int_equal(murmur3_32("Hello, world!", 13, 0x9747B28Cu), 0x24884CBAu);
}

static void test_hash64_when_published_input_then_published_value(void **state)
{
    assert_true(hash64("", 0) == UINT64_C(0x2D06800538D394C2));
    assert_true(hash64(NULL, 0) == hash64("", 0));
    assert_true(hash64("a", 1) != hash64("b", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_when_published_input_then_published_value),
        cmocka_unit_test(test_crc32c_when_any_length_and_offset_then_equals_definition),
        cmocka_unit_test(test_crc32c_when_fed_in_pieces_then_same),
        cmocka_unit_test(test_murmur3_when_published_input_then_published_value),
        cmocka_unit_test(test_hash64_when_published_input_then_published_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
