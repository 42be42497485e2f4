/*
 * fuzz_rows.c - rows of a request: FieldData -> rows_from_pb() -> bytes -> FieldData.
 *
 * The first byte chooses one of the schemas below, the second the options of rows_from_pb(); the
 * rest is an InsertRequest. Rows that are accepted must encode, decode to the same bytes, leave as
 * FieldData, and be accepted again as the same rows: what a client reads it can write back.
 */
#include "base/alloc.h"
#include "proto/milvus.pb-c.h"
#include "proto/proto.h"
#include "schema/errors.h"
#include "schema/field_data.h"
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef Milvus__Proto__Schema__FieldData field_data;
typedef Milvus__Proto__Schema__FieldSchema field_schema;

enum { PK = 1, AUTO_ID = 2, NULLABLE = 4, DEFAULT = 8, DYNAMIC = 16 };
struct shape_field {
    const char *name;
    enum dtype type, elem;
    const char *size; /* dim, max_length or max_capacity */
    int flags;
};
#define SHAPE_FIELDS 16

static const struct shape_field shapes[][SHAPE_FIELDS] = {
    { { "id", DT_INT64, DT_NONE, NULL, PK },
      { "b", DT_BOOL, DT_NONE, NULL, 0 },
      { "i8", DT_INT8, DT_NONE, NULL, 0 },
      { "i16", DT_INT16, DT_NONE, NULL, 0 },
      { "i32", DT_INT32, DT_NONE, NULL, 0 },
      { "i64", DT_INT64, DT_NONE, NULL, 0 },
      { "f", DT_FLOAT, DT_NONE, NULL, 0 },
      { "d", DT_DOUBLE, DT_NONE, NULL, 0 },
      { "s", DT_VARCHAR, DT_NONE, "8", 0 },
      { "j", DT_JSON, DT_NONE, NULL, 0 },
      { "t", DT_TIMESTAMPTZ, DT_NONE, NULL, 0 },
      { "v", DT_FLOAT_VECTOR, DT_NONE, "3", 0 } },
    { { "id", DT_VARCHAR, DT_NONE, "16", PK },
      { "b", DT_BOOL, DT_NONE, NULL, NULLABLE },
      { "i8", DT_INT8, DT_NONE, NULL, NULLABLE | DEFAULT },
      { "i16", DT_INT16, DT_NONE, NULL, NULLABLE },
      { "i32", DT_INT32, DT_NONE, NULL, DEFAULT },
      { "i64", DT_INT64, DT_NONE, NULL, NULLABLE },
      { "f", DT_FLOAT, DT_NONE, NULL, NULLABLE },
      { "d", DT_DOUBLE, DT_NONE, NULL, NULLABLE },
      { "s", DT_VARCHAR, DT_NONE, "8", NULLABLE | DEFAULT },
      { "j", DT_JSON, DT_NONE, NULL, NULLABLE },
      { "v", DT_FLOAT_VECTOR, DT_NONE, "2", NULLABLE } },
    { { "id", DT_INT64, DT_NONE, NULL, PK | AUTO_ID },
      { "bin", DT_BINARY_VECTOR, DT_NONE, "16", 0 },
      { "f16", DT_FLOAT16_VECTOR, DT_NONE, "3", 0 },
      { "bf16", DT_BFLOAT16_VECTOR, DT_NONE, "3", NULLABLE },
      { "i8v", DT_INT8_VECTOR, DT_NONE, "5", 0 },
      { "sp", DT_SPARSE_FLOAT_VECTOR, DT_NONE, NULL, 0 },
      { "spn", DT_SPARSE_FLOAT_VECTOR, DT_NONE, NULL, NULLABLE },
      { "$meta", DT_JSON, DT_NONE, NULL, DYNAMIC } },
    { { "id", DT_INT64, DT_NONE, NULL, PK },
      { "ab", DT_ARRAY, DT_BOOL, "4", 0 },
      { "a8", DT_ARRAY, DT_INT8, "4", 0 },
      { "a16", DT_ARRAY, DT_INT16, "4", NULLABLE },
      { "a32", DT_ARRAY, DT_INT32, "4", 0 },
      { "a64", DT_ARRAY, DT_INT64, "4", 0 },
      { "af", DT_ARRAY, DT_FLOAT, "4", 0 },
      { "ad", DT_ARRAY, DT_DOUBLE, "4", NULLABLE },
      { "as", DT_ARRAY, DT_VARCHAR, "4", 0 },
      { "asn", DT_ARRAY, DT_VARCHAR, "4", NULLABLE },
      { "v", DT_FLOAT_VECTOR, DT_NONE, "2", 0 },
      { "$meta", DT_JSON, DT_NONE, NULL, DYNAMIC } },
    { { "id", DT_VARCHAR, DT_NONE, "16", PK | AUTO_ID },
      { "v", DT_FLOAT_VECTOR, DT_NONE, "2", 0 },
      { "$meta", DT_JSON, DT_NONE, NULL, DYNAMIC } },
};

static void param(field_schema *f, const char *key, const char *value, struct arena *ar)
{
    Milvus__Proto__Common__KeyValuePair *kv = ARENA_NEW(ar, Milvus__Proto__Common__KeyValuePair);
    *kv = (Milvus__Proto__Common__KeyValuePair)MILVUS__PROTO__COMMON__KEY_VALUE_PAIR__INIT;
    kv->key = key;
    kv->value = value;
    if (!f->type_params) {
        f->type_params = arena_alloc(ar, 4 * sizeof *f->type_params);
    }
    f->type_params[f->n_type_params++] = kv;
}

static field_schema *make_field(const struct shape_field *sf, int64_t id, struct arena *ar)
{
    field_schema *f = ARENA_NEW(ar, field_schema);
    *f = (field_schema)MILVUS__PROTO__SCHEMA__FIELD_SCHEMA__INIT;
    f->fieldid = id;
    f->name = sf->name;
    f->data_type = (Milvus__Proto__Schema__DataType)sf->type;
    f->element_type = (Milvus__Proto__Schema__DataType)sf->elem;
    f->is_primary_key = (sf->flags & PK) != 0;
    f->autoid = (sf->flags & AUTO_ID) != 0;
    f->nullable = (sf->flags & NULLABLE) != 0;
    f->is_dynamic = (sf->flags & DYNAMIC) != 0;
    if (sf->size) {
        const char *key = sf->type == DT_VARCHAR ? "max_length"
                          : sf->type == DT_ARRAY ? "max_capacity"
                                                 : "dim";
        param(f, key, sf->size, ar);
    }
    if (sf->elem == DT_VARCHAR) {
        param(f, "max_length", "6", ar);
    }
    if (sf->flags & DEFAULT) {
        Milvus__Proto__Schema__ValueField *v = ARENA_NEW(ar, Milvus__Proto__Schema__ValueField);
        *v = (Milvus__Proto__Schema__ValueField)MILVUS__PROTO__SCHEMA__VALUE_FIELD__INIT;
        v->data_case = sf->type == DT_VARCHAR ? MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_STRING_DATA
                                              : MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_INT_DATA;
        if (sf->type == DT_VARCHAR) {
            v->string_data = "usual";
        } else {
            v->int_data = -5;
        }
        f->default_value = v;
    }
    return f;
}

static const struct schema *schema_at(size_t shape)
{
    static struct schema *made[ARRAY_LEN(shapes)];
    if (!made[shape]) {
        Milvus__Proto__Schema__CollectionSchema pb = MILVUS__PROTO__SCHEMA__COLLECTION_SCHEMA__INIT;
        struct arena *ar = arena_new(0);
        struct status st = STATUS_INIT;
        pb.name = "c";
        pb.fields = arena_alloc(ar, SHAPE_FIELDS * sizeof *pb.fields);
        for (size_t i = 0; i < SHAPE_FIELDS && shapes[shape][i].name; i++) {
            pb.fields[i] = make_field(&shapes[shape][i], 100 + (int64_t)i, ar);
            pb.enable_dynamic_field |= pb.fields[i]->is_dynamic;
            pb.n_fields++;
        }
        CHECK(schema_new(&pb, &made[shape], &st) == 0);
        arena_free(ar);
    }
    return made[shape];
}

static void encode(const struct batch *b, struct buf *out)
{
    buf_init(out, SIZE_MAX / 2);
    CHECK(batch_encode(b, out));
}

/* The rows as a request again, through the wire. */
static Milvus__Proto__Milvus__InsertRequest *as_request(const struct schema *s,
                                                        const struct batch *b, struct arena *ar)
{
    Milvus__Proto__Milvus__InsertRequest req = MILVUS__PROTO__MILVUS__INSERT_REQUEST__INIT, *again;
    struct status st = STATUS_INIT;
    struct buf wire;
    req.num_rows = b->nrows;
    req.n_fields_data = b->ncols;
    req.fields_data = arena_alloc(ar, (b->ncols + 1) * sizeof *req.fields_data);
    for (uint32_t i = 0; i < b->ncols; i++) {
        const struct field *f = schema_field(s, b->cols[i].field_id);
        CHECK(f && b->cols[i].nrows == b->nrows);
        req.fields_data[i] = field_data_from_column(f, &b->cols[i], NULL, 0, ar);
        CHECK(req.fields_data[i]);
    }
    buf_init(&wire, SIZE_MAX / 2);
    CHECK(proto_pack(&req.pb, &wire));
    again = proto_unpack(&milvus__proto__milvus__insert_request__descriptor, buf_slice(&wire), ar,
                         &st);
    CHECK(again);
    buf_done(&wire);
    return again;
}

static void check_rows(const struct schema *s, const struct rows_opts *opts, const struct batch *b)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct batch decoded, rows;
    struct buf first, second, third;
    encode(b, &first);
    CHECK(batch_decode(buf_slice(&first), ar, &decoded, &st) == 0);
    encode(&decoded, &second);
    CHECK(slice_eq(buf_slice(&first), buf_slice(&second)));
    Milvus__Proto__Milvus__InsertRequest *req = as_request(s, &decoded, ar);
    if (rows_from_pb(s, req->n_fields_data, req->fields_data, req->num_rows, opts, ar, &rows,
                     &st) != 0) {
        fprintf(stderr, "rows that were accepted are refused: %s\n", st.msg);
        CHECK(false);
    }
    encode(&rows, &third);
    CHECK(slice_eq(buf_slice(&first), buf_slice(&third)));
    buf_done(&first);
    buf_done(&second);
    buf_done(&third);
    arena_free(ar);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Milvus__Proto__Milvus__InsertRequest *req;
    struct status st = STATUS_INIT;
    struct batch rows;
    if (size < 2) {
        return 0;
    }
    const struct schema *s = schema_at(data[0] % ARRAY_LEN(shapes));
    struct rows_opts opts = { .for_upsert = data[1] & 1, .allow_auto_pk = data[1] & 2,
                              .partial = data[1] & 4 };
    struct arena *ar = arena_new((size_t)64 << 20);
    char *copy = xalloc(size);
    memcpy(copy, data + 2, size - 2);
    req = proto_unpack_borrow(&milvus__proto__milvus__insert_request__descriptor,
                              slice_n(copy, size - 2), ar, &st);
    if (req && req->num_rows <= 100000) {
        int rc = rows_from_pb(s, req->n_fields_data, req->fields_data, req->num_rows, &opts, ar,
                              &rows, &st);
        if (rc == 0) {
            CHECK(rows.nrows == req->num_rows);
            check_rows(s, &opts, &rows);
        } else {
            CHECK(st.code == rc && st.msg[0] != '\0');
        }
    }
    mem_free(copy);
    arena_free(ar);
    return 0;
}
