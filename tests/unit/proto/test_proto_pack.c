/* test_proto_pack.c - proto_pack() against protobuf-c's own writer, and its ceilings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "random_message.h"

static void test_pack_when_any_message_then_bytes_of_protobuf_c(void **state)
{
    const ProtobufCMessageDescriptor *types[TYPES_MAX];
    size_t n = all_types(types);
    assert_true(n > 300);
    for (size_t i = 0; i < n; i++) {
        for (uint64_t seed = 1; seed <= 6; seed++) {
            struct rng r = {seed * 1000003 + i};
            struct arena *ar = arena_new(0);
            struct buf b;
            buf_init(&b, 1 << 28);
            buf_put_str(&b, "head");
            ProtobufCMessage *m = random_message(&r, types[i], 0, ar);
            size_t want_n = protobuf_c_message_get_packed_size(m);
            uint8_t *want = arena_alloc(ar, want_n + 1);
            assert_int_equal(protobuf_c_message_pack(m, want), want_n);
            assert_true(proto_pack(m, &b));
            assert_int_equal(b.n, want_n + 4);
            assert_memory_equal(b.p, "head", 4);
            assert_memory_equal(b.p + 4, want, want_n);
            buf_done(&b);
            arena_free(ar);
        }
    }
}

static void test_pack_when_negative_numbers_then_ten_bytes(void **state)
{
    Milvus__Proto__Common__Status m = MILVUS__PROTO__COMMON__STATUS__INIT;
    struct buf b;
    buf_init(&b, 100);
    m.code = -1;
    assert_true(proto_pack(&m.pb, &b));
    assert_int_equal(b.n, 11);
    assert_memory_equal(b.p, "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
    buf_done(&b);
}

static void test_pack_when_over_ceiling_then_nothing_appended(void **state)
{
    Milvus__Proto__Common__Status m = MILVUS__PROTO__COMMON__STATUS__INIT;
    struct buf b;
    buf_init(&b, 10);
    buf_put_str(&b, "abc");
    m.reason = "longer than ten bytes";
    assert_false(proto_pack(&m.pb, &b));
    assert_true(b.failed);
    assert_int_equal(b.n, 3);
    buf_done(&b);
}

static void test_pack_when_memory_is_gone_then_false(void **state)
{
    Milvus__Proto__Common__Status m = MILVUS__PROTO__COMMON__STATUS__INIT;
    struct buf b;
    buf_init(&b, 1000);
    m.reason = "x";
    alloc_fail_after(1);
    assert_false(proto_pack(&m.pb, &b));
    alloc_fail_after(0);
    assert_int_equal(b.n, 0);
    buf_done(&b);
}

static void test_pack_when_message_is_empty_then_no_bytes(void **state)
{
    Milvus__Proto__Common__Status m = MILVUS__PROTO__COMMON__STATUS__INIT;
    struct buf b;
    buf_init(&b, 10);
    assert_true(proto_pack(&m.pb, &b));
    assert_int_equal(b.n, 0);
    buf_done(&b);
}

static void test_pack_when_unknown_fields_then_kept_behind(void **state)
{
    Milvus__Proto__Common__Status m = MILVUS__PROTO__COMMON__STATUS__INIT;
    ProtobufCMessageUnknownField extra = {
        .tag = 100, .wire_type = PROTOBUF_C_WIRE_TYPE_VARINT, .len = 1, .data = (uint8_t *)"\x07"};
    struct buf b;
    buf_init(&b, 100);
    m.code = 1;
    m.pb.n_unknown_fields = 1;
    m.pb.unknown_fields = &extra;
    assert_true(proto_pack(&m.pb, &b));
    assert_int_equal(b.n, 5);
    assert_memory_equal(b.p, "\x18\x01\xa0\x06\x07", 5);
    buf_done(&b);
}

/* Tag and length of each FileDescriptorProto; collects the names (field 1 of each). */
static void test_descriptor_set_when_walked_then_public_files_only(void **state)
{
    static const char *const want[] = {"common.proto", "schema.proto", "rg.proto",
                                       "msg.proto",    "feder.proto",  "milvus.proto"};
    struct slice set = proto_descriptor_set();
    const uint8_t *p = (const uint8_t *)set.p, *end = p + set.n;
    size_t files = 0, found = 0;
    while (p < end) {
        size_t len = 0;
        unsigned shift = 0;
        assert_int_equal(*p++, 0x0a); /* field 1, length-delimited */
        do {
            len |= (size_t)(*p & 0x7f) << shift;
            shift += 7;
        } while (*p++ & 0x80);
        assert_true(len <= (size_t)(end - p));
        assert_int_equal(p[0], 0x0a);
        for (size_t i = 0; i < ARRAY_LEN(want); i++) {
            found += slice_is(slice_n(p + 2, p[1]), want[i]);
        }
        files++;
        p += len;
    }
    assert_int_equal(files, ARRAY_LEN(want));
    assert_int_equal(found, ARRAY_LEN(want));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pack_when_any_message_then_bytes_of_protobuf_c),
        cmocka_unit_test(test_pack_when_negative_numbers_then_ten_bytes),
        cmocka_unit_test(test_pack_when_over_ceiling_then_nothing_appended),
        cmocka_unit_test(test_pack_when_memory_is_gone_then_false),
        cmocka_unit_test(test_pack_when_message_is_empty_then_no_bytes),
        cmocka_unit_test(test_pack_when_unknown_fields_then_kept_behind),
        cmocka_unit_test(test_descriptor_set_when_walked_then_public_files_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
