/*
 * seg_fixture.h - schemas and random rows for the tests of the segment room (and its fuzz target).
 *
 * A row's cells follow from (seed, row, field) alone, so that a test can say what a cell must be
 * without keeping it.
 */
#pragma once
#include "base/alloc.h"
#include "base/arena.h"
#include "schema/column.h"
#include "schema/schema.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FX_PK = 100, FX_FIRST = 101 };

struct fx_field {
    enum dtype type, elem;
    uint32_t dim;
    bool nullable, has_default;
};

/* Every type that a segment stores, plain and nullable. */
static const struct fx_field fx_all[] = {
    { DT_BOOL, DT_NONE, 0, false, false },
    { DT_INT8, DT_NONE, 0, false, false },
    { DT_INT16, DT_NONE, 0, true, false },
    { DT_INT32, DT_NONE, 0, false, true },
    { DT_INT64, DT_NONE, 0, true, false },
    { DT_FLOAT, DT_NONE, 0, false, false },
    { DT_DOUBLE, DT_NONE, 0, true, false },
    { DT_VARCHAR, DT_NONE, 0, false, false },
    { DT_VARCHAR, DT_NONE, 0, true, true },
    { DT_JSON, DT_NONE, 0, true, false },
    { DT_ARRAY, DT_INT32, 0, false, false },
    { DT_ARRAY, DT_VARCHAR, 0, true, false },
    { DT_TIMESTAMPTZ, DT_NONE, 0, false, false },
    { DT_FLOAT_VECTOR, DT_NONE, 4, false, false },
    { DT_FLOAT_VECTOR, DT_NONE, 3, true, false },
    { DT_BINARY_VECTOR, DT_NONE, 24, false, false },
    { DT_FLOAT16_VECTOR, DT_NONE, 5, false, false },
    { DT_BFLOAT16_VECTOR, DT_NONE, 5, false, false },
    { DT_INT8_VECTOR, DT_NONE, 7, true, false },
    { DT_SPARSE_FLOAT_VECTOR, DT_NONE, 0, false, false },
};

static inline struct schema *fx_schema(enum dtype pk_type, const struct fx_field *fields, size_t n)
{
    Milvus__Proto__Schema__CollectionSchema pb = MILVUS__PROTO__SCHEMA__COLLECTION_SCHEMA__INIT;
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct schema *s = NULL;
    pb.name = "c";
    pb.n_fields = n + 1;
    pb.fields = arena_alloc(ar, (n + 1) * sizeof *pb.fields);
    for (size_t i = 0; i <= n; i++) {
        const struct fx_field pk = { .type = pk_type };
        const struct fx_field *f = i ? &fields[i - 1] : &pk;
        Milvus__Proto__Schema__FieldSchema *fp = ARENA_NEW(ar, Milvus__Proto__Schema__FieldSchema);
        *fp = (Milvus__Proto__Schema__FieldSchema)MILVUS__PROTO__SCHEMA__FIELD_SCHEMA__INIT;
        fp->fieldid = FX_PK + (int64_t)i;
        fp->name = arena_printf(ar, "f%zu", i);
        fp->is_primary_key = i == 0;
        fp->data_type = (Milvus__Proto__Schema__DataType)f->type;
        fp->element_type = (Milvus__Proto__Schema__DataType)f->elem;
        fp->nullable = f->nullable;
        fp->n_type_params = 3;
        fp->type_params = arena_alloc(ar, 3 * sizeof *fp->type_params);
        const char *keys[] = { "dim", "max_length", "max_capacity" };
        for (int k = 0; k < 3; k++) {
            Milvus__Proto__Common__KeyValuePair *kv =
                ARENA_NEW(ar, Milvus__Proto__Common__KeyValuePair);
            *kv = (Milvus__Proto__Common__KeyValuePair)MILVUS__PROTO__COMMON__KEY_VALUE_PAIR__INIT;
            kv->key = keys[k];
            kv->value = k ? "1000" : arena_printf(ar, "%u", f->dim);
            fp->type_params[k] = kv;
        }
        if (f->dim == 0) {
            fp->type_params++;
            fp->n_type_params--;
        }
        if (f->has_default) {
            Milvus__Proto__Schema__ValueField *v = ARENA_NEW(ar, Milvus__Proto__Schema__ValueField);
            *v = (Milvus__Proto__Schema__ValueField)MILVUS__PROTO__SCHEMA__VALUE_FIELD__INIT;
            if (f->type == DT_VARCHAR) {
                v->data_case = MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_STRING_DATA;
                v->string_data = "default";
            } else {
                v->data_case = MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_INT_DATA;
                v->int_data = 42;
            }
            fp->default_value = v;
        }
        pb.fields[i] = fp;
    }
    if (schema_new(&pb, &s, &st) != 0) {
        fprintf(stderr, "schema: %s\n", st.msg);
        abort();
    }
    arena_free(ar);
    return s;
}

static inline uint64_t fx_rand(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t fx_state(uint64_t seed, int64_t field, uint32_t row)
{
    uint64_t s = seed * 1000003 + (uint64_t)field * 7919 + row;
    fx_rand(&s);
    return s;
}

static inline bool fx_null(const struct field *f, uint64_t seed, uint32_t row)
{
    uint64_t s = fx_state(seed ^ 0x55, f->id, row);
    return f->nullable && fx_rand(&s) % 4 == 0;
}

/* The cell of a row, in ar. Keys: Int64 is the row number, VarChar "k<row>". */
static inline struct slice fx_cell(const struct field *f, uint64_t seed, uint32_t row,
                                   struct arena *ar)
{
    uint64_t s = fx_state(seed, f->id, row);
    if (f->is_pk) {
        if (f->type == DT_VARCHAR) {
            return slice_of(arena_printf(ar, "key-with-a-prefix-%u", row));
        }
        int64_t v = row;
        return arena_copy(ar, slice_n(&v, 8));
    }
    switch (f->type) {
    case DT_BOOL: {
        uint8_t b = fx_rand(&s) & 1;
        return arena_copy(ar, slice_n(&b, 1));
    }
    case DT_VARCHAR:
        return slice_of(arena_printf(ar, "%.*s%u", (int)(fx_rand(&s) % 20),
                                     "abcdefghijklmnopqrstuvwxyz", (unsigned)(fx_rand(&s) % 9)));
    case DT_JSON:
        return slice_of(arena_printf(ar, "{\"a\":%u,\"b\":[1,\"x\"]}", (unsigned)fx_rand(&s) % 99));
    case DT_ARRAY:
        if (f->elem == DT_INT32) {
            size_t n = fx_rand(&s) % 5;
            int32_t *v = arena_alloc(ar, 5 * sizeof *v);
            for (size_t i = 0; i < n; i++) {
                v[i] = (int32_t)fx_rand(&s);
            }
            return slice_n(v, n * sizeof *v);
        } else {
            uint32_t n = (uint32_t)(fx_rand(&s) % 4), end = 0;
            uint8_t *p = arena_alloc(ar, 4 + 4 * 4 + 3 * 4);
            memcpy(p, &n, 4);
            for (uint32_t i = 0; i < n; i++) {
                end += i;
                memcpy(p + 4 + i * 4, &end, 4);
            }
            memset(p + 4 + n * 4, 'z', end);
            return slice_n(p, 4 + n * 4 + end);
        }
    case DT_SPARSE_FLOAT_VECTOR: {
        uint32_t n = 1 + (uint32_t)(fx_rand(&s) % 4);
        uint8_t *p = arena_alloc(ar, n * 8);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t at = i * 10 + (uint32_t)(fx_rand(&s) % 10);
            float v = (float)(fx_rand(&s) % 100);
            memcpy(p + i * 8, &at, 4);
            memcpy(p + i * 8 + 4, &v, 4);
        }
        return slice_n(p, n * 8);
    }
    case DT_FLOAT_VECTOR: {
        float *v = arena_alloc(ar, f->dim * sizeof *v + 1);
        for (uint32_t i = 0; i < f->dim; i++) {
            v[i] = (float)(fx_rand(&s) % 1000) / 10;
        }
        return slice_n(v, f->dim * sizeof *v);
    }
    case DT_FLOAT16_VECTOR:
    case DT_BFLOAT16_VECTOR: {
        uint16_t *v = arena_alloc(ar, f->dim * sizeof *v + 1);
        for (uint32_t i = 0; i < f->dim; i++) {
            v[i] = (uint16_t)(0x3c00 + fx_rand(&s) % 256); /* a moderate number in both */
        }
        return slice_n(v, f->dim * sizeof *v);
    }
    case DT_FLOAT:
    case DT_DOUBLE: {
        double d = (double)(fx_rand(&s) % 1000) / 8;
        float x = (float)d;
        return arena_copy(ar, f->type == DT_FLOAT ? slice_n(&x, 4) : slice_n(&d, 8));
    }
    default: {
        size_t width = dtype_width(f->type, f->dim);
        uint8_t *p = arena_alloc(ar, width + 8);
        for (size_t i = 0; i < width; i++) {
            p[i] = (uint8_t)(fx_rand(&s) % 4);
        }
        return slice_n(p, width);
    }
    }
}

/* Rows first .. first + n - 1 of every field for which (skip >> index) & 1 is 0. */
static inline struct batch fx_batch(const struct schema *s, uint64_t seed, uint32_t first,
                                    uint32_t n, uint64_t skip, struct arena *ar)
{
    struct batch b = { .nrows = n, .cols = arena_alloc(ar, s->nfields * sizeof *b.cols) };
    for (uint32_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        if ((skip >> i) & 1) {
            continue;
        }
        struct column_builder *cb = column_builder_new(ar, f->id, f->type, f->elem, f->dim, n);
        for (uint32_t r = 0; r < n; r++) {
            CHECK(fx_null(f, seed, first + r)
                      ? column_builder_null(cb)
                      : column_builder_add(cb, fx_cell(f, seed, first + r, ar)));
        }
        column_builder_finish(cb, &b.cols[b.ncols++]);
    }
    return b;
}

/* A column of Int64 keys. */
static inline struct column fx_keys(const int64_t *keys, uint32_t n)
{
    return (struct column){ .field_id = FX_PK,
                            .type = DT_INT64,
                            .nrows = n,
                            .width = 8,
                            .data = (const uint8_t *)keys };
}
