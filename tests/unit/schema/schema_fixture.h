/* schema_fixture.h - small protobuf messages for tests of the schema room, built in an arena. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/arena.h"
#include "schema/errors.h"
#include "schema/field_data.h"
#include "schema/schema.h"
#include <stdio.h>
#include <string.h>

typedef Milvus__Proto__Schema__CollectionSchema fx_coll;
typedef Milvus__Proto__Schema__FieldSchema fx_field;
typedef Milvus__Proto__Schema__FieldData fx_data;
typedef Milvus__Proto__Schema__ScalarField fx_scalars;

#define FX_NEW(ar, type, ...)                                                                      \
    __extension__({                                                                                \
        type *fx_new_ = arena_alloc((ar), sizeof(type));                                           \
        *fx_new_ = (type)__VA_ARGS__;                                                              \
        fx_new_;                                                                                   \
    })
#define FX_FIELDS_MAX 80

static inline fx_coll *fx_coll_new(struct arena *ar, const char *name)
{
    fx_coll *c = FX_NEW(ar, fx_coll, MILVUS__PROTO__SCHEMA__COLLECTION_SCHEMA__INIT);
    c->name = name;
    c->fields = arena_alloc(ar, FX_FIELDS_MAX * sizeof *c->fields);
    return c;
}

static inline void fx_param(struct arena *ar, fx_field *f, const char *key, const char *value)
{
    if (!f->type_params) {
        f->type_params = arena_alloc(ar, 8 * sizeof *f->type_params);
    }
    Milvus__Proto__Common__KeyValuePair *kv = FX_NEW(ar, Milvus__Proto__Common__KeyValuePair,
                                                     MILVUS__PROTO__COMMON__KEY_VALUE_PAIR__INIT);
    kv->key = key;
    kv->value = value;
    f->type_params[f->n_type_params++] = kv;
}

/* Adds a field with the next id; dim, max_length or max_capacity from `param`, where it applies. */
static inline fx_field *fx_add(struct arena *ar, fx_coll *c, const char *name, int type,
                               const char *param)
{
    fx_field *f = FX_NEW(ar, fx_field, MILVUS__PROTO__SCHEMA__FIELD_SCHEMA__INIT);
    f->name = name;
    f->data_type = (Milvus__Proto__Schema__DataType)type;
    f->fieldid = 100 + (int64_t)c->n_fields;
    if (param) {
        fx_param(ar, f,
                 type == DT_VARCHAR ? "max_length"
                 : type == DT_ARRAY ? "max_capacity"
                                    : "dim",
                 param);
    }
    c->fields[c->n_fields++] = f;
    return f;
}

/* id Int64 key, vec FloatVector dim 4 */
static inline fx_coll *fx_simple(struct arena *ar)
{
    fx_coll *c = fx_coll_new(ar, "books");
    fx_add(ar, c, "id", DT_INT64, NULL)->is_primary_key = true;
    fx_add(ar, c, "vec", DT_FLOAT_VECTOR, "4");
    return c;
}

static inline void fx_dynamic(struct arena *ar, fx_coll *c)
{
    c->enable_dynamic_field = true;
    fx_add(ar, c, "$meta", DT_JSON, NULL)->is_dynamic = true;
}

static inline struct schema *fx_schema(fx_coll *c)
{
    struct status st = STATUS_INIT;
    struct schema *s = NULL;
    if (schema_new(c, &s, &st)) {
        print_error("schema_new: %s\n", st.msg);
    }
    assert_non_null(s);
    return s;
}

static inline fx_data *fx_scalar_data(struct arena *ar, const char *name, int type)
{
    fx_data *d = FX_NEW(ar, fx_data, MILVUS__PROTO__SCHEMA__FIELD_DATA__INIT);
    d->field_name = name;
    d->type = (Milvus__Proto__Schema__DataType)type;
    d->field_case = MILVUS__PROTO__SCHEMA__FIELD_DATA__FIELD_SCALARS;
    d->scalars = FX_NEW(ar, fx_scalars, MILVUS__PROTO__SCHEMA__SCALAR_FIELD__INIT);
    return d;
}

#define FX_SCALARS(fn, member, CASE, MSG, INIT, ctype, dtype)                                      \
    static inline fx_data *fn(struct arena *ar, const char *name, size_t n, ctype const *v)        \
    {                                                                                              \
        fx_data *d = fx_scalar_data(ar, name, dtype);                                              \
        d->scalars->data_case = MILVUS__PROTO__SCHEMA__SCALAR_FIELD__DATA_##CASE;                  \
        d->scalars->member = FX_NEW(ar, MSG, INIT);                                                \
        d->scalars->member->n_data = n;                                                            \
        d->scalars->member->data = arena_alloc(ar, n * sizeof(ctype));                             \
        if (n) {                                                                                   \
            memcpy(d->scalars->member->data, v, n * sizeof(ctype));                                \
        }                                                                                          \
        return d;                                                                                  \
    }
FX_SCALARS(fx_bools, bool_data, BOOL_DATA, Milvus__Proto__Schema__BoolArray,
           MILVUS__PROTO__SCHEMA__BOOL_ARRAY__INIT, protobuf_c_boolean, DT_BOOL)
FX_SCALARS(fx_ints, int_data, INT_DATA, Milvus__Proto__Schema__IntArray,
           MILVUS__PROTO__SCHEMA__INT_ARRAY__INIT, int32_t, DT_INT32)
FX_SCALARS(fx_longs, long_data, LONG_DATA, Milvus__Proto__Schema__LongArray,
           MILVUS__PROTO__SCHEMA__LONG_ARRAY__INIT, int64_t, DT_INT64)
FX_SCALARS(fx_floats, float_data, FLOAT_DATA, Milvus__Proto__Schema__FloatArray,
           MILVUS__PROTO__SCHEMA__FLOAT_ARRAY__INIT, float, DT_FLOAT)
FX_SCALARS(fx_doubles, double_data, DOUBLE_DATA, Milvus__Proto__Schema__DoubleArray,
           MILVUS__PROTO__SCHEMA__DOUBLE_ARRAY__INIT, double, DT_DOUBLE)
FX_SCALARS(fx_strings, string_data, STRING_DATA, Milvus__Proto__Schema__StringArray,
           MILVUS__PROTO__SCHEMA__STRING_ARRAY__INIT, char *, DT_VARCHAR)

static inline fx_data *fx_jsons(struct arena *ar, const char *name, size_t n, const char *const *v)
{
    fx_data *d = fx_scalar_data(ar, name, DT_JSON);
    d->is_dynamic = strcmp(name, "$meta") == 0;
    d->scalars->data_case = MILVUS__PROTO__SCHEMA__SCALAR_FIELD__DATA_JSON_DATA;
    d->scalars->json_data =
        FX_NEW(ar, Milvus__Proto__Schema__JSONArray, MILVUS__PROTO__SCHEMA__JSONARRAY__INIT);
    d->scalars->json_data->n_data = n;
    d->scalars->json_data->data = arena_alloc(ar, n * sizeof(ProtobufCBinaryData));
    for (size_t i = 0; i < n; i++) {
        d->scalars->json_data->data[i].len = strlen(v[i]);
        d->scalars->json_data->data[i].data = (uint8_t *)arena_strdup(ar, v[i]);
    }
    return d;
}

/* rows: scalar messages made by the functions above */
static inline fx_data *fx_arrays(struct arena *ar, const char *name, size_t n, fx_data *const *rows)
{
    fx_data *d = fx_scalar_data(ar, name, DT_ARRAY);
    d->scalars->data_case = MILVUS__PROTO__SCHEMA__SCALAR_FIELD__DATA_ARRAY_DATA;
    d->scalars->array_data =
        FX_NEW(ar, Milvus__Proto__Schema__ArrayArray, MILVUS__PROTO__SCHEMA__ARRAY_ARRAY__INIT);
    d->scalars->array_data->n_data = n;
    d->scalars->array_data->data = arena_alloc(ar, n * sizeof(fx_scalars *));
    for (size_t i = 0; i < n; i++) {
        d->scalars->array_data->data[i] = rows[i]->scalars;
    }
    return d;
}

static inline fx_data *fx_vectors(struct arena *ar, const char *name, uint32_t dim)
{
    fx_data *d = FX_NEW(ar, fx_data, MILVUS__PROTO__SCHEMA__FIELD_DATA__INIT);
    d->field_name = name;
    d->field_case = MILVUS__PROTO__SCHEMA__FIELD_DATA__FIELD_VECTORS;
    d->vectors =
        FX_NEW(ar, Milvus__Proto__Schema__VectorField, MILVUS__PROTO__SCHEMA__VECTOR_FIELD__INIT);
    d->vectors->dim = dim;
    return d;
}

static inline fx_data *fx_float_vectors(struct arena *ar, const char *name, uint32_t dim, size_t n,
                                        const float *v)
{
    fx_data *d = fx_vectors(ar, name, dim);
    d->type = MILVUS__PROTO__SCHEMA__DATA_TYPE__FloatVector;
    d->vectors->data_case = MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_FLOAT_VECTOR;
    d->vectors->float_vector =
        FX_NEW(ar, Milvus__Proto__Schema__FloatArray, MILVUS__PROTO__SCHEMA__FLOAT_ARRAY__INIT);
    d->vectors->float_vector->n_data = n;
    d->vectors->float_vector->data = arena_alloc(ar, n * 4);
    if (n) {
        memcpy(d->vectors->float_vector->data, v, n * 4);
    }
    return d;
}

static inline fx_data *fx_byte_vectors(struct arena *ar, const char *name, uint32_t dim, int type,
                                       size_t n, const void *v)
{
    fx_data *d = fx_vectors(ar, name, dim);
    d->type = (Milvus__Proto__Schema__DataType)type;
    switch (type) {
    case DT_BINARY_VECTOR:
        d->vectors->data_case = MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_BINARY_VECTOR;
        break;
    case DT_FLOAT16_VECTOR:
        d->vectors->data_case = MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_FLOAT16_VECTOR;
        break;
    case DT_BFLOAT16_VECTOR:
        d->vectors->data_case = MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_BFLOAT16_VECTOR;
        break;
    default:
        d->vectors->data_case = MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_INT8_VECTOR;
        break;
    }
    d->vectors->binary_vector.len = n;
    d->vectors->binary_vector.data = arena_alloc(ar, n ? n : 1);
    if (n) {
        memcpy(d->vectors->binary_vector.data, v, n);
    }
    return d;
}

static inline fx_data *fx_valid(struct arena *ar, fx_data *d, const char *bits)
{
    d->n_valid_data = strlen(bits);
    d->valid_data = arena_alloc(ar, d->n_valid_data * sizeof *d->valid_data);
    for (size_t i = 0; i < d->n_valid_data; i++) {
        d->valid_data[i] = bits[i] == '1';
    }
    return d;
}

static inline void fx_has(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        print_error("\"%s\" does not contain \"%s\"\n", text, part);
        fail();
    }
}

static inline void fx_cell(const struct column *c, uint32_t row, const void *p, size_t n)
{
    struct slice cell = column_cell(c, row);
    assert_int_equal(cell.n, n);
    assert_true(n == 0 || memcmp(cell.p, p, n) == 0);
}
