/*
 * fuzz_placeholder.c - a search's PlaceholderGroup for every type of vector field.
 *
 * Queries that are accepted have the size of nq vectors of the field; every byte is read. The same
 * bytes also serve as the IDs of a request, for both types of key.
 */
#include "base/alloc.h"
#include "proto/common.pb-c.h"
#include "proto/proto.h"
#include "schema/field_data.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct field fields[] = {
    { .id = 100, .name = "float", .type = DT_FLOAT_VECTOR, .dim = 2 },
    { .id = 101, .name = "wide", .type = DT_FLOAT_VECTOR, .dim = 65 },
    { .id = 102, .name = "binary", .type = DT_BINARY_VECTOR, .dim = 16 },
    { .id = 103, .name = "half", .type = DT_FLOAT16_VECTOR, .dim = 3 },
    { .id = 104, .name = "brain", .type = DT_BFLOAT16_VECTOR, .dim = 3 },
    { .id = 105, .name = "bytes", .type = DT_INT8_VECTOR, .dim = 5 },
    { .id = 106, .name = "sparse", .type = DT_SPARSE_FLOAT_VECTOR },
    { .id = 107, .name = "text", .type = DT_VARCHAR, .max_length = 100 },
    { .id = 108, .name = "list", .type = DT_ARRAY_OF_VECTOR, .elem = DT_FLOAT_VECTOR, .dim = 2 },
};

static void check_group(const Milvus__Proto__Common__PlaceholderGroup *group, struct arena *ar)
{
    for (size_t g = 0; g < MIN(group->n_placeholders, (size_t)8); g++) {
        const Milvus__Proto__Common__PlaceholderValue *ph = group->placeholders[g];
        for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
            struct status st = STATUS_INIT;
            struct slice queries;
            uint32_t nq = 0;
            volatile uint8_t sum = 0;
            if (queries_from_placeholder(&fields[i], (int)ph->type, ph->n_values, ph->values, ar,
                                         &queries, &nq, &st) != 0) {
                CHECK(st.msg[0] != '\0');
                continue;
            }
            CHECK(nq == ph->n_values && dtype_is_dense(fields[i].type));
            CHECK(queries.n == nq * dtype_width(fields[i].type, fields[i].dim));
            for (size_t k = 0; k < queries.n; k++) {
                sum = (uint8_t)(sum + (uint8_t)queries.p[k]);
            }
        }
    }
}

static void check_ids(struct slice bytes, enum dtype pk, struct arena *ar)
{
    struct field f = { .id = 100, .name = "id", .type = pk, .max_length = 8, .is_pk = true };
    struct schema s = { .collection_name = "c", .nfields = 1, .fields = &f, .pk = &f };
    struct status st = STATUS_INIT;
    struct column col;
    Milvus__Proto__Schema__IDs *ids =
        proto_unpack_borrow(&milvus__proto__schema__ids__descriptor, bytes, ar, &st), *again;
    if (!ids || ids_to_column(&s, ids, ar, &col, &st) != 0) {
        return;
    }
    CHECK(col.type == pk);
    again = ids_from_column(&col, NULL, 0, ar);
    CHECK(again && (pk == DT_INT64 ? again->int_id->n_data : again->str_id->n_data) == col.nrows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    char *copy = xalloc(size ? size : 1);
    if (size) {
        memcpy(copy, data, size);
    }
    struct slice bytes = slice_n(copy, size);
    Milvus__Proto__Common__PlaceholderGroup *group =
        proto_unpack_borrow(&milvus__proto__common__placeholder_group__descriptor, bytes, ar, &st);
    if (group) {
        check_group(group, ar);
    }
    check_ids(bytes, DT_INT64, ar);
    check_ids(bytes, DT_VARCHAR, ar);
    arena_free(ar);
    mem_free(copy);
    return 0;
}
