/* test_proto_unpack.c - proto_unpack() on good, odd, damaged and hostile bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "random_message.h"

#define STATUS_DESC (&milvus__proto__common__status__descriptor)
#define FIELD_DESC (&milvus__proto__schema__field_data__descriptor)
#define SEARCH_DESC (&milvus__proto__milvus__search_request__descriptor)
#define LONGS_DESC (&milvus__proto__schema__long_array__descriptor)

struct fixture {
    struct arena *ar;
    struct status st;
    struct buf b;
};

static int set_up(void **state)
{
    struct fixture *fx = calloc(1, sizeof *fx);
    fx->ar = arena_new(0);
    buf_init(&fx->b, 1 << 28);
    *state = fx;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fx = *state;
    arena_free(fx->ar);
    buf_done(&fx->b);
    free(fx);
    return 0;
}

static void assert_invalid(struct fixture *fx, const ProtobufCMessageDescriptor *d,
                           struct slice wire, const char *part)
{
    st_clear(&fx->st);
    assert_null(proto_unpack(d, wire, fx->ar, &fx->st));
    assert_int_equal(fx->st.code, ST_INVALID);
    if (!strstr(fx->st.msg, part)) {
        fail_msg("\"%s\" does not say \"%s\"", fx->st.msg, part);
    }
}

static void test_unpack_when_any_message_then_packs_to_the_same_bytes(void **state)
{
    const ProtobufCMessageDescriptor *types[TYPES_MAX];
    size_t n = all_types(types);
    for (size_t i = 0; i < n; i++) {
        for (uint64_t seed = 1; seed <= 6; seed++) {
            struct rng r = {seed * 7919 + i};
            struct arena *ar = arena_new(0);
            struct status st = STATUS_INIT;
            struct buf a, b;
            buf_init(&a, 1 << 28);
            buf_init(&b, 1 << 28);
            assert_true(proto_pack(random_message(&r, types[i], 0, ar), &a));
            ProtobufCMessage *m = seed % 2 ? proto_unpack(types[i], buf_slice(&a), ar, &st)
                                           : proto_unpack_borrow(types[i], buf_slice(&a), ar, &st);
            assert_non_null(m);
            assert_true(proto_pack(m, &b));
            assert_true(slice_eq(buf_slice(&a), buf_slice(&b)));
            ProtobufCMessage *theirs = protobuf_c_message_unpack(types[i], NULL, a.n, a.p);
            assert_non_null(theirs);
            buf_reset(&b);
            assert_true(proto_pack(theirs, &b));
            assert_true(slice_eq(buf_slice(&a), buf_slice(&b)));
            protobuf_c_message_free_unpacked(theirs, NULL);
            buf_done(&a);
            buf_done(&b);
            arena_free(ar);
        }
    }
}

static void test_unpack_when_cut_or_flipped_then_no_harm(void **state)
{
    struct rng r = {42};
    struct fixture *fx = *state;
    struct arena *ar = arena_new(1 << 20);
    assert_true(proto_pack(random_message(&r, SEARCH_DESC, 4, fx->ar), &fx->b));
    assert_true(fx->b.n > 100);
    for (size_t i = 0; i < fx->b.n; i++) {
        struct status st = STATUS_INIT;
        uint8_t *copy = malloc(i ? i : 1); /* exact, so that a sanitizer sees a read beyond */
        memcpy(copy, fx->b.p, i);
        if (i) {
            copy[rng_next(&r) % i] ^= (uint8_t)(1 << rng_next(&r) % 8);
        }
        arena_reset(ar);
        if (!proto_unpack(SEARCH_DESC, slice_n(copy, i), ar, &st)) {
            assert_true(st.code == ST_INVALID || st.code == ST_NO_MEMORY);
            assert_true(st.msg[0] != 0);
        }
        free(copy);
    }
    arena_free(ar);
}

static void test_unpack_when_damaged_then_says_what_and_where(void **state)
{
    struct fixture *fx = *state;
    assert_invalid(fx, STATUS_DESC,
                   SLICE_LIT("\x12\x05"
                             "abc"),
                   "field reason 2: length reaches");
    assert_invalid(fx, STATUS_DESC, SLICE_LIT("\x18\xff"), "number without an end");
    assert_invalid(fx, STATUS_DESC, SLICE_LIT("\x18"), "number without an end");
    assert_invalid(fx, STATUS_DESC, SLICE_LIT("\x12"), "length without an end");
    assert_invalid(fx, STATUS_DESC, SLICE_LIT("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
                   "length reaches");
    assert_invalid(fx, STATUS_DESC, SLICE_LIT("\x00\x01"), "damaged field tag");
    assert_invalid(fx, STATUS_DESC, SLICE_LIT("\x80"), "damaged field tag");
    assert_invalid(fx, STATUS_DESC, SLICE_LIT("\xf8\xff\xff\xff\xff\x01\x01"), "damaged field tag");
    assert_invalid(fx, STATUS_DESC, SLICE_LIT("\x1b\x1c"), "unknown wire type");
    assert_invalid(fx, STATUS_DESC, SLICE_LIT("\x9d\x06\x01\x02\x03"), "4 bytes");
    assert_invalid(fx, STATUS_DESC, SLICE_LIT("\x99\x06\x01\x02\x03"), "8 bytes");
    assert_invalid(fx, LONGS_DESC, SLICE_LIT("\x0a\x02\x01\x80"), "number without an end");
    assert_invalid(fx, LONGS_DESC, SLICE_LIT("\x0a\x01\x80"), "number without an end");
    assert_invalid(fx, LONGS_DESC,
                   SLICE_LIT("\x0a\x0b\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
                   "over 10 bytes");
    assert_invalid(fx, &milvus__proto__schema__float_array__descriptor,
                   SLICE_LIT("\x0a\x03"
                             "abc"),
                   "3 bytes for numbers of 4");
    /* damage inside a nested message names that message */
    assert_invalid(fx, &milvus__proto__milvus__bool_response__descriptor,
                   SLICE_LIT("\x0a\x02\x12\x05"), "message Status, field reason");
}

static void test_unpack_when_string_is_not_text_then_names_field(void **state)
{
    struct fixture *fx = *state;
    assert_invalid(fx, STATUS_DESC, SLICE_LIT("\x12\x02\xc3\x28"), "Status.reason");
    assert_invalid(fx, STATUS_DESC,
                   SLICE_LIT("\x12\x03"
                             "a\0b"),
                   "zero byte");
    /* a bytes field takes anything */
    assert_non_null(proto_unpack(&milvus__proto__common__blob__descriptor,
                                 SLICE_LIT("\x0a\x03\xff\x00\xfe"), fx->ar, &fx->st));
}

static void test_unpack_when_empty_then_defaults(void **state)
{
    struct fixture *fx = *state;
    Milvus__Proto__Common__Status *m =
        proto_unpack(STATUS_DESC, (struct slice){NULL, 0}, fx->ar, &fx->st);
    assert_non_null(m);
    assert_string_equal(m->reason, "");
    assert_int_equal(m->code, 0);
    assert_int_equal(m->n_extra_info, 0);
}

/* Wraps b in field `id` (a message) over and over. */
static void nest(struct buf *b, uint8_t id, int levels)
{
    for (int i = 0; i < levels; i++) {
        struct buf outer;
        uint8_t head[8];
        size_t n = 0, len = b->n;
        buf_init(&outer, 1 << 20);
        head[n++] = (uint8_t)(id << 3 | 2);
        for (; len >= 0x80; len >>= 7) {
            head[n++] = (uint8_t)(len | 0x80);
        }
        head[n++] = (uint8_t)len;
        buf_put(&outer, head, n);
        buf_put_slice(&outer, buf_slice(b));
        buf_done(b);
        *b = outer;
    }
}

static void test_unpack_when_nested_to_the_limit_then_only_deeper_fails(void **state)
{
    struct fixture *fx = *state;
    const ProtobufCMessageDescriptor *d =
        &milvus__proto__common__search_aggregation_spec__descriptor;
    nest(&fx->b, 6, PROTO_DEPTH_MAX - 1); /* sub_aggregation */
    assert_non_null(proto_unpack(d, buf_slice(&fx->b), fx->ar, &fx->st));
    nest(&fx->b, 6, 1);
    assert_invalid(fx, d, buf_slice(&fx->b), "deeper than 64");
    nest(&fx->b, 6, 5000);
    assert_invalid(fx, d, buf_slice(&fx->b), "deeper than 64");
    /* the same bytes in a bytes field are just bytes */
    nest(&fx->b, 1, 1);
    assert_non_null(
        proto_unpack(&milvus__proto__common__blob__descriptor, buf_slice(&fx->b), fx->ar, &fx->st));
}

static void test_unpack_when_unknown_fields_then_skipped_without_memory(void **state)
{
    struct fixture *fx = *state;
    struct slice one = SLICE_LIT("\xa0\x06\x07"
                                 "\xa2\x06\x03"
                                 "abc"
                                 "\xa5\x06"
                                 "1234"
                                 "\xa1\x06"
                                 "12345678");
    buf_put_slice(&fx->b, SLICE_LIT("\x18\x05"));
    for (int i = 0; i < 10000; i++) {
        buf_put_slice(&fx->b, one);
    }
    Milvus__Proto__Common__Status *m =
        proto_unpack(STATUS_DESC, buf_slice(&fx->b), fx->ar, &fx->st);
    assert_non_null(m);
    assert_int_equal(m->code, 5);
    assert_int_equal(m->pb.n_unknown_fields, 0);
    assert_true(arena_used(fx->ar) < 1024);
}

static void test_unpack_when_other_wire_type_then_as_unknown(void **state)
{
    struct fixture *fx = *state;
    /* code (int32) as a string, reason (string) as a number */
    Milvus__Proto__Common__Status *m =
        proto_unpack(STATUS_DESC, SLICE_LIT("\x1a\x02hi\x10\x07\x20\x01"), fx->ar, &fx->st);
    assert_non_null(m);
    assert_int_equal(m->code, 0);
    assert_string_equal(m->reason, "");
    assert_true(m->retriable);
}

static void test_unpack_when_field_twice_then_last_wins_and_messages_merge(void **state)
{
    struct fixture *fx = *state;
    Milvus__Proto__Milvus__BoolResponse *m =
        proto_unpack(&milvus__proto__milvus__bool_response__descriptor,
                     SLICE_LIT("\x0a\x0e\x12\x01"
                               "a\x18\x01\x32\x07\x0a\x01k\x12\x02v1"
                               "\x10\x01"
                               "\x0a\x0e\x12\x01"
                               "b\x20\x01\x32\x07\x0a\x01q\x12\x02v2"),
                     fx->ar, &fx->st);
    assert_non_null(m);
    assert_string_equal(m->status->reason, "b");
    assert_int_equal(m->status->code, 1);
    assert_true(m->status->retriable);
    assert_int_equal(m->status->n_extra_info, 2);
    assert_string_equal(m->status->extra_info[0]->key, "k");
    assert_string_equal(m->status->extra_info[1]->value, "v2");
}

static void test_unpack_when_oneof_changes_then_last_member_alone(void **state)
{
    struct fixture *fx = *state;
    /* int_pk = 7, then str_pk = "x" */
    Milvus__Proto__Milvus__QueryCursor *m =
        proto_unpack(&milvus__proto__milvus__query_cursor__descriptor,
                     SLICE_LIT("\x18\x07\x12\x01x"), fx->ar, &fx->st);
    assert_non_null(m);
    assert_int_equal(m->cursor_pk_case, MILVUS__PROTO__MILVUS__QUERY_CURSOR__CURSOR_PK_STR_PK);
    assert_string_equal(m->str_pk, "x");
    /* scalars, then vectors: the pointer of the first must not be merged into */
    Milvus__Proto__Schema__FieldData *fd = proto_unpack(
        FIELD_DESC, SLICE_LIT("\x1a\x04\x12\x02\x0a\x00\x22\x02\x08\x04"), fx->ar, &fx->st);
    assert_non_null(fd);
    assert_int_equal(fd->field_case, MILVUS__PROTO__SCHEMA__FIELD_DATA__FIELD_VECTORS);
    assert_int_equal(fd->vectors->dim, 4);
}

static void test_unpack_when_optional_then_presence_is_seen(void **state)
{
    struct fixture *fx = *state;
    const ProtobufCMessageDescriptor *d = &milvus__proto__milvus__insert_request__descriptor;
    Milvus__Proto__Milvus__InsertRequest *m =
        proto_unpack(d, SLICE_LIT("\x4a\x00"), fx->ar, &fx->st);
    assert_non_null(m);
    assert_true(m->has_namespace_case != 0);
    assert_string_equal(m->namespace_, "");
    m = proto_unpack(d, SLICE_LIT(""), fx->ar, &fx->st);
    assert_non_null(m);
    assert_true(m->has_namespace_case == 0);
}

static void test_unpack_when_numbers_packed_or_not_then_all_in_order(void **state)
{
    struct fixture *fx = *state;
    Milvus__Proto__Schema__LongArray *m = proto_unpack(
        LONGS_DESC, SLICE_LIT("\x08\x01\x0a\x03\x02\x80\x01\x08\x04\x0a\x00\x0a\x01\x05"), fx->ar,
        &fx->st);
    assert_non_null(m);
    assert_int_equal(m->n_data, 5);
    static const int64_t want[] = {1, 2, 128, 4, 5};
    assert_memory_equal(m->data, want, sizeof want);
}

static void test_unpack_when_arena_is_full_then_no_memory(void **state)
{
    struct fixture *fx = *state;
    for (int i = 0; i < 100000; i++) {
        buf_put_slice(&fx->b,
                      SLICE_LIT("\x0a\x00")); /* empty placeholder: 2 bytes, 100 in memory */
    }
    for (size_t limit = 64; limit < (1 << 20); limit = limit * 3 / 2) {
        struct arena *ar = arena_new(limit);
        st_clear(&fx->st);
        assert_null(proto_unpack(&milvus__proto__common__placeholder_group__descriptor,
                                 buf_slice(&fx->b), ar, &fx->st));
        assert_int_equal(fx->st.code, ST_NO_MEMORY);
        arena_free(ar);
    }
}

static void test_unpack_when_borrowing_then_bytes_point_into_input(void **state)
{
    struct fixture *fx = *state;
    const ProtobufCMessageDescriptor *d = &milvus__proto__common__blob__descriptor;
    struct slice wire = SLICE_LIT("\x0a\x03xyz");
    Milvus__Proto__Common__Blob *m = proto_unpack_borrow(d, wire, fx->ar, &fx->st);
    assert_non_null(m);
    assert_ptr_equal(m->value.data, wire.p + 2);
    assert_int_equal(m->value.len, 3);
    m = proto_unpack(d, wire, fx->ar, &fx->st);
    assert_non_null(m);
    assert_true((const char *)m->value.data < wire.p || (const char *)m->value.data > wire.p + 4);
    assert_memory_equal(m->value.data, "xyz", 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_unpack_when_any_message_then_packs_to_the_same_bytes),
        TEST(test_unpack_when_cut_or_flipped_then_no_harm),
        TEST(test_unpack_when_damaged_then_says_what_and_where),
        TEST(test_unpack_when_string_is_not_text_then_names_field),
        TEST(test_unpack_when_empty_then_defaults),
        TEST(test_unpack_when_nested_to_the_limit_then_only_deeper_fails),
        TEST(test_unpack_when_unknown_fields_then_skipped_without_memory),
        TEST(test_unpack_when_other_wire_type_then_as_unknown),
        TEST(test_unpack_when_field_twice_then_last_wins_and_messages_merge),
        TEST(test_unpack_when_oneof_changes_then_last_member_alone),
        TEST(test_unpack_when_optional_then_presence_is_seen),
        TEST(test_unpack_when_numbers_packed_or_not_then_all_in_order),
        TEST(test_unpack_when_arena_is_full_then_no_memory),
        TEST(test_unpack_when_borrowing_then_bytes_point_into_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
