/* test_proto_json.c - what a person sees of a message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "proto/milvus.pb-c.h"
#include "proto/proto.h"
#include <math.h>
#include <stdio.h>

static void assert_json(const ProtobufCMessage *m, const struct proto_json_opts *opts,
                        const char *want)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_true(proto_to_json(m, &b, opts));
    buf_putc(&b, 0);
    assert_string_equal((const char *)b.p, want);
    buf_done(&b);
}

static void test_json_when_nothing_set_then_empty_object(void **state)
{
    Milvus__Proto__Common__Status m = MILVUS__PROTO__COMMON__STATUS__INIT;
    assert_json(&m.pb, NULL, "{}");
    assert_json(&m.pb, &(struct proto_json_opts){.indent = 4}, "{}");
}

static void test_json_when_scalars_and_map_then_names_and_object(void **state)
{
    Milvus__Proto__Common__Status__ExtraInfoEntry e1 =
        MILVUS__PROTO__COMMON__STATUS__EXTRA_INFO_ENTRY__INIT;
    Milvus__Proto__Common__Status__ExtraInfoEntry e2 = e1;
    Milvus__Proto__Common__Status__ExtraInfoEntry *entries[] = {&e1, &e2};
    Milvus__Proto__Common__Status m = MILVUS__PROTO__COMMON__STATUS__INIT;
    e1.key = "a";
    e1.value = "1";
    e2.key = "b\"";
    m.error_code = MILVUS__PROTO__COMMON__ERROR_CODE__RateLimit;
    m.reason = "line\n";
    m.code = -8;
    m.retriable = true;
    m.n_extra_info = 2;
    m.extra_info = entries;
    assert_json(&m.pb, NULL,
                "{\"error_code\":\"RateLimit\",\"reason\":\"line\\n\",\"code\":-8,"
                "\"retriable\":true,\"extra_info\":{\"a\":\"1\",\"b\\\"\":\"\"}}");
    m.error_code = 12345;
    m.n_extra_info = 0;
    m.reason = "";
    assert_json(&m.pb, &(struct proto_json_opts){.indent = 2},
                "{\n  \"error_code\": 12345,\n  \"code\": -8,\n  \"retriable\": true\n}");
}

static void test_json_when_nested_and_indented_then_lines(void **state)
{
    Milvus__Proto__Common__KeyValuePair kv = MILVUS__PROTO__COMMON__KEY_VALUE_PAIR__INIT;
    Milvus__Proto__Common__KeyValuePair *kvs[] = {&kv};
    Milvus__Proto__Common__Status st = MILVUS__PROTO__COMMON__STATUS__INIT;
    Milvus__Proto__Milvus__GetImportStateResponse m =
        MILVUS__PROTO__MILVUS__GET_IMPORT_STATE_RESPONSE__INIT;
    int64_t ids[] = {INT64_MIN, INT64_MAX};
    kv.key = "k";
    m.status = &st;
    m.n_id_list = 2;
    m.id_list = ids;
    m.n_infos = 1;
    m.infos = kvs;
    assert_json(&m.pb, &(struct proto_json_opts){.indent = 1},
                "{\n \"status\": {},\n \"id_list\": [-9223372036854775808, 9223372036854775807],\n"
                " \"infos\": [\n  {\n   \"key\": \"k\"\n  }\n ]\n}");
}

static void test_json_when_bytes_then_length_and_base64(void **state)
{
    Milvus__Proto__Common__Blob m = MILVUS__PROTO__COMMON__BLOB__INIT;
    static const char *const want[] = {
        "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"}; /* RFC 4648, section 10 */
    m.value.data = (uint8_t *)"foobar";
    for (size_t n = 1; n <= 6; n++) {
        char text[64];
        m.value.len = n;
        snprintf(text, sizeof text, "{\"value\":{\"len\":%zu,\"base64\":\"%s\"}}", n, want[n - 1]);
        assert_json(&m.pb, NULL, text);
    }
    assert_json(&m.pb, &(struct proto_json_opts){.bytes_max = 2},
                "{\"value\":{\"len\":6,\"base64\":\"Zm8=\"}}");
}

static void test_json_when_oneof_then_chosen_member_even_if_zero(void **state)
{
    Milvus__Proto__Schema__ValueField m = MILVUS__PROTO__SCHEMA__VALUE_FIELD__INIT;
    assert_json(&m.pb, NULL, "{}");
    m.data_case = MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_LONG_DATA;
    assert_json(&m.pb, NULL, "{\"long_data\":0}");
    m.data_case = MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_STRING_DATA;
    m.string_data = "x";
    assert_json(&m.pb, NULL, "{\"string_data\":\"x\"}");
}

static void test_json_when_reals_then_shortest_text_and_quoted_infinity(void **state)
{
    Milvus__Proto__Schema__FloatArray m = MILVUS__PROTO__SCHEMA__FLOAT_ARRAY__INIT;
    float f[] = {0.1f, 1.0f, 16777217.0f, NAN, INFINITY, -INFINITY, 1e-30f};
    m.n_data = ARRAY_LEN(f);
    m.data = f;
    assert_json(&m.pb, NULL,
                "{\"data\":[0.1,1,16777216,\"NaN\",\"Infinity\",\"-Infinity\",1e-30]}");
    Milvus__Proto__Schema__DoubleArray d = MILVUS__PROTO__SCHEMA__DOUBLE_ARRAY__INIT;
    double v[] = {0.1, 1.0 / 3};
    d.n_data = 2;
    d.data = v;
    assert_json(&d.pb, NULL, "{\"data\":[0.1,0.3333333333333333]}");
}

static void test_json_when_over_ceiling_then_false(void **state)
{
    Milvus__Proto__Common__Status m = MILVUS__PROTO__COMMON__STATUS__INIT;
    struct buf b;
    buf_init(&b, 12);
    m.reason = "does not fit";
    assert_false(proto_to_json(&m.pb, &b, NULL));
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_when_nothing_set_then_empty_object),
        cmocka_unit_test(test_json_when_scalars_and_map_then_names_and_object),
        cmocka_unit_test(test_json_when_nested_and_indented_then_lines),
        cmocka_unit_test(test_json_when_bytes_then_length_and_base64),
        cmocka_unit_test(test_json_when_oneof_then_chosen_member_even_if_zero),
        cmocka_unit_test(test_json_when_reals_then_shortest_text_and_quoted_infinity),
        cmocka_unit_test(test_json_when_over_ceiling_then_false),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
