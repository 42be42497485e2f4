/*
 * field_data_out.c - columns to protobuf FieldData and IDs, and IDs of a request to a column.
 *
 * A response's scalars have one element per row, a placeholder where the row is null; its vectors
 * leave null rows out. Nullable fields always carry valid_data, others never do.
 * The message borrows cells where their layout is the message's (JSON, sparse vectors, whole
 * columns of vectors and 4- and 8-byte numbers) and uses the arena for the rest: the column, the
 * schema and the arena must outlive it.
 * THREADS   Any.
 */
#include "schema/field_data.h"
#include "schema/schema_int.h"

typedef Milvus__Proto__Schema__FieldData field_data_pb;
typedef Milvus__Proto__Schema__ScalarField scalars_pb;
typedef Milvus__Proto__Schema__VectorField vectors_pb;

#define SCALAR(name) MILVUS__PROTO__SCHEMA__SCALAR_FIELD__DATA_##name
#define VECTOR(name) MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_##name

/* The rows to send: a list, or the first n. */
struct picked {
    const struct column *c;
    const uint32_t *rows;
    uint32_t n;
    struct arena *ar;
};

static inline uint32_t row_at(const struct picked *p, uint32_t i)
{
    return p->rows ? p->rows[i] : i;
}

#define NEW_MESSAGE(ptr, ar, type, INIT)                                                           \
    do {                                                                                           \
        (ptr) = arena_try((ar), sizeof(type));                                                     \
        if (ptr) {                                                                                 \
            *(ptr) = (type)INIT;                                                                   \
        }                                                                                          \
    } while (0)

/* Cells of width w side by side; borrowed when all rows are wanted in order. compact: without
 * null rows. *ret_count says how many; NULL past the arena's limit. */
static void *gather(const struct picked *p, size_t w, bool compact, size_t *ret_count)
{
    const struct column *c = p->c;
    bool skip = compact && c->valid;
    size_t bytes, count = 0;
    if (!p->rows && !skip) {
        *ret_count = p->n;
        return (void *)(uintptr_t)(p->n ? c->data : (const uint8_t *)"");
    }
    uint8_t *data = mul_size(p->n, w, &bytes) ? arena_try(p->ar, bytes) : NULL;
    if (!data) {
        return NULL;
    }
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t row = row_at(p, i);
        if (skip && column_is_null(c, row)) {
            continue;
        }
        memcpy(data + count * w, c->data + (size_t)row * w, w);
        count++;
    }
    *ret_count = count;
    return data;
}

/* ---- Lists of numbers and strings */

static bool bools_of(const uint8_t *src, size_t n, struct arena *ar, scalars_pb *ret)
{
    NEW_MESSAGE(ret->bool_data, ar, Milvus__Proto__Schema__BoolArray,
                MILVUS__PROTO__SCHEMA__BOOL_ARRAY__INIT);
    protobuf_c_boolean *v = arena_try_array(ar, n, sizeof *v);
    if (!ret->bool_data || !v) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        v[i] = src[i] != 0;
    }
    ret->bool_data->data = v;
    ret->bool_data->n_data = n;
    ret->data_case = SCALAR(BOOL_DATA);
    return true;
}

/* width: 1, 2 or 4 bytes each in src */
static bool ints_of(const void *src, size_t width, size_t n, struct arena *ar, scalars_pb *ret)
{
    NEW_MESSAGE(ret->int_data, ar, Milvus__Proto__Schema__IntArray,
                MILVUS__PROTO__SCHEMA__INT_ARRAY__INIT);
    int32_t *v = arena_try_array(ar, n, 4);
    if (!ret->int_data || !v) {
        return false;
    }
    struct column c = {.data = src, .width = width};
    for (size_t i = 0; i < n; i++) {
        v[i] = (int32_t)column_int(&c, (uint32_t)i);
    }
    ret->int_data->data = v;
    ret->int_data->n_data = n;
    ret->data_case = SCALAR(INT_DATA);
    return true;
}

/* Numbers that travel as they are stored. Cells of Arrays have no alignment: they are copied. */
static bool numbers_of(enum dtype t, void *data, size_t n, struct arena *ar, scalars_pb *ret)
{
    size_t width = dtype_width(t, 0);
    if ((uintptr_t)data % width != 0) {
        data = (void *)(uintptr_t)arena_copy(ar, slice_n(data, n * width)).p;
    }
    if (!data) {
        return false;
    }
    if (t == DT_INT64) {
        NEW_MESSAGE(ret->long_data, ar, Milvus__Proto__Schema__LongArray,
                    MILVUS__PROTO__SCHEMA__LONG_ARRAY__INIT);
        if (ret->long_data) {
            ret->long_data->data = data;
            ret->long_data->n_data = n;
            ret->data_case = SCALAR(LONG_DATA);
        }
    } else if (t == DT_FLOAT) {
        NEW_MESSAGE(ret->float_data, ar, Milvus__Proto__Schema__FloatArray,
                    MILVUS__PROTO__SCHEMA__FLOAT_ARRAY__INIT);
        if (ret->float_data) {
            ret->float_data->data = data;
            ret->float_data->n_data = n;
            ret->data_case = SCALAR(FLOAT_DATA);
        }
    } else if (t == DT_DOUBLE) {
        NEW_MESSAGE(ret->double_data, ar, Milvus__Proto__Schema__DoubleArray,
                    MILVUS__PROTO__SCHEMA__DOUBLE_ARRAY__INIT);
        if (ret->double_data) {
            ret->double_data->data = data;
            ret->double_data->n_data = n;
            ret->data_case = SCALAR(DOUBLE_DATA);
        }
    } else {
        NEW_MESSAGE(ret->timestamptz_data, ar, Milvus__Proto__Schema__TimestamptzArray,
                    MILVUS__PROTO__SCHEMA__TIMESTAMPTZ_ARRAY__INIT);
        if (ret->timestamptz_data) {
            ret->timestamptz_data->data = data;
            ret->timestamptz_data->n_data = n;
            ret->data_case = SCALAR(TIMESTAMPTZ_DATA);
        }
    }
    return ret->data_case != 0;
}

/* Cells as zero-terminated strings, all in one block. cell(i) comes from a column or an array. */
static Milvus__Proto__Schema__StringArray *string_array(size_t n, size_t bytes, struct arena *ar,
                                                        char **ret_block)
{
    Milvus__Proto__Schema__StringArray *a;
    NEW_MESSAGE(a, ar, Milvus__Proto__Schema__StringArray,
                MILVUS__PROTO__SCHEMA__STRING_ARRAY__INIT);
    const char **v = arena_try_array(ar, n, sizeof *v);
    char *block = arena_try(ar, bytes + n);
    if (!a || !v || !block) {
        return NULL;
    }
    a->data = v;
    *ret_block = block;
    return a;
}

static char *add_string(Milvus__Proto__Schema__StringArray *a, char *at, struct slice cell)
{
    a->data[a->n_data++] = at;
    if (cell.n) {
        memcpy(at, cell.p, cell.n);
    }
    at[cell.n] = 0;
    return at + cell.n + 1;
}

static Milvus__Proto__Schema__StringArray *strings_of_column(const struct picked *p)
{
    size_t bytes = 0;
    char *at;
    for (uint32_t i = 0; i < p->n; i++) {
        bytes += column_cell(p->c, row_at(p, i)).n;
    }
    Milvus__Proto__Schema__StringArray *a = string_array(p->n, bytes, p->ar, &at);
    for (uint32_t i = 0; a && i < p->n; i++) {
        at = add_string(a, at, column_cell(p->c, row_at(p, i)));
    }
    return a;
}

/* Cells as bytes fields, borrowed. */
static ProtobufCBinaryData *bytes_of(const struct picked *p, bool compact, size_t *ret_count)
{
    ProtobufCBinaryData *v = arena_try_array(p->ar, p->n, sizeof *v);
    size_t count = 0;
    for (uint32_t i = 0; v && i < p->n; i++) {
        uint32_t row = row_at(p, i);
        if (compact && column_is_null(p->c, row)) {
            continue;
        }
        struct slice cell = column_cell(p->c, row);
        v[count].data = (uint8_t *)(uintptr_t)cell.p;
        v[count++].len = cell.n;
    }
    *ret_count = count;
    return v;
}

/* ---- Arrays */

static bool array_cell_out(enum dtype elem, struct slice cell, struct arena *ar, scalars_pb *ret)
{
    uint32_t n = array_count(elem, cell);
    size_t width = dtype_width(elem, 0);
    char *at;
    switch (elem) {
    case DT_BOOL:
        return bools_of((const uint8_t *)cell.p, n, ar, ret);
    case DT_INT8:
    case DT_INT16:
    case DT_INT32:
        return ints_of(cell.p, width, n, ar, ret);
    case DT_VARCHAR:
        ret->string_data = string_array(n, cell.n, ar, &at);
        if (!ret->string_data) {
            return false;
        }
        for (uint32_t i = 0; i < n; i++) {
            at = add_string(ret->string_data, at, array_elem(elem, cell, i));
        }
        ret->data_case = SCALAR(STRING_DATA);
        return true;
    default:
        return numbers_of(elem, (void *)(uintptr_t)(cell.p ? cell.p : ""), n, ar, ret);
    }
}

static bool arrays_of(const struct field *f, const struct picked *p, scalars_pb *ret)
{
    Milvus__Proto__Schema__ArrayArray *a;
    NEW_MESSAGE(a, p->ar, Milvus__Proto__Schema__ArrayArray,
                MILVUS__PROTO__SCHEMA__ARRAY_ARRAY__INIT);
    scalars_pb **v = arena_try_array(p->ar, p->n, sizeof *v);
    scalars_pb *cells = arena_try_array(p->ar, p->n, sizeof *cells);
    if (!a || !v || !cells) {
        return false;
    }
    for (uint32_t i = 0; i < p->n; i++) {
        cells[i] = (scalars_pb)MILVUS__PROTO__SCHEMA__SCALAR_FIELD__INIT;
        v[i] = &cells[i];
        if (!array_cell_out(f->elem, column_cell(p->c, row_at(p, i)), p->ar, &cells[i])) {
            return false;
        }
    }
    a->element_type = (Milvus__Proto__Schema__DataType)f->elem;
    a->data = v;
    a->n_data = p->n;
    ret->array_data = a;
    ret->data_case = SCALAR(ARRAY_DATA);
    return true;
}

/* ---- Columns */

static bool small_column(const struct field *f, const struct picked *p, scalars_pb *ret)
{
    size_t n;
    void *data = gather(p, p->c->width, false, &n);
    if (!data) {
        return false;
    }
    if (f->type == DT_BOOL) {
        return bools_of(data, n, p->ar, ret);
    }
    return ints_of(data, p->c->width, n, p->ar, ret);
}

static bool number_column(const struct field *f, const struct picked *p, scalars_pb *ret)
{
    size_t n;
    void *data = gather(p, p->c->width, false, &n);
    return data && numbers_of(f->type, data, n, p->ar, ret);
}

static bool json_column(const struct picked *p, scalars_pb *ret)
{
    size_t n;
    NEW_MESSAGE(ret->json_data, p->ar, Milvus__Proto__Schema__JSONArray,
                MILVUS__PROTO__SCHEMA__JSONARRAY__INIT);
    ProtobufCBinaryData *v = bytes_of(p, false, &n);
    if (!ret->json_data || !v) {
        return false;
    }
    ret->json_data->data = v;
    ret->json_data->n_data = n;
    ret->data_case = SCALAR(JSON_DATA);
    return true;
}

static bool scalar_column(const struct field *f, const struct picked *p, scalars_pb *ret)
{
    switch (f->type) {
    case DT_BOOL:
    case DT_INT8:
    case DT_INT16:
    case DT_INT32:
        return small_column(f, p, ret);
    case DT_VARCHAR:
    case DT_TEXT:
        ret->string_data = strings_of_column(p);
        ret->data_case = SCALAR(STRING_DATA);
        return ret->string_data != NULL;
    case DT_GEOMETRY:
        ret->geometry_wkt_data = (void *)strings_of_column(p);
        ret->data_case = SCALAR(GEOMETRY_WKT_DATA);
        return ret->geometry_wkt_data != NULL;
    case DT_JSON:
        return json_column(p, ret);
    case DT_ARRAY:
        return arrays_of(f, p, ret);
    default:
        return number_column(f, p, ret);
    }
}

static bool sparse_column(const struct picked *p, vectors_pb *ret)
{
    size_t n;
    Milvus__Proto__Schema__SparseFloatArray *a;
    NEW_MESSAGE(a, p->ar, Milvus__Proto__Schema__SparseFloatArray,
                MILVUS__PROTO__SCHEMA__SPARSE_FLOAT_ARRAY__INIT);
    ProtobufCBinaryData *v = bytes_of(p, true, &n);
    if (!a || !v) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (v[i].len >= 8) { /* indices ascend: the last pair has the largest */
            a->dim = MAX(a->dim, (int64_t)load_u32(v[i].data + v[i].len - 8) + 1);
        }
    }
    a->contents = v;
    a->n_contents = n;
    ret->dim = a->dim;
    ret->sparse_float_vector = a;
    ret->data_case = VECTOR(SPARSE_FLOAT_VECTOR);
    return true;
}

/* data: count vectors of a dense type side by side. */
static bool dense_out(enum dtype t, uint32_t dim, void *data, size_t count, struct arena *ar,
                      vectors_pb *ret)
{
    size_t bytes = count * dtype_width(t, dim);
    ret->dim = dim;
    switch (t) {
    case DT_FLOAT_VECTOR:
        if ((uintptr_t)data % 4 != 0) {
            data = (void *)(uintptr_t)arena_copy(ar, slice_n(data, bytes)).p;
        }
        NEW_MESSAGE(ret->float_vector, ar, Milvus__Proto__Schema__FloatArray,
                    MILVUS__PROTO__SCHEMA__FLOAT_ARRAY__INIT);
        if (!data || !ret->float_vector) {
            return false;
        }
        ret->float_vector->data = data;
        ret->float_vector->n_data = bytes / 4;
        ret->data_case = VECTOR(FLOAT_VECTOR);
        return true;
    case DT_BINARY_VECTOR:
        ret->data_case = VECTOR(BINARY_VECTOR);
        break;
    case DT_FLOAT16_VECTOR:
        ret->data_case = VECTOR(FLOAT16_VECTOR);
        break;
    case DT_BFLOAT16_VECTOR:
        ret->data_case = VECTOR(BFLOAT16_VECTOR);
        break;
    default:
        ret->data_case = VECTOR(INT8_VECTOR);
        break;
    }
    ret->binary_vector.data = data; /* the bytes members share their place */
    ret->binary_vector.len = bytes;
    return true;
}

static bool vector_array_column(const struct field *f, const struct picked *p, vectors_pb *ret)
{
    size_t n, width = dtype_width(f->elem, f->dim);
    Milvus__Proto__Schema__VectorArray *a;
    NEW_MESSAGE(a, p->ar, Milvus__Proto__Schema__VectorArray,
                MILVUS__PROTO__SCHEMA__VECTOR_ARRAY__INIT);
    ProtobufCBinaryData *cells = bytes_of(p, true, &n);
    vectors_pb **v = arena_try_array(p->ar, p->n, sizeof *v);
    vectors_pb *rows = arena_try_array(p->ar, p->n, sizeof *rows);
    if (!a || !cells || !v || !rows) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        rows[i] = (vectors_pb)MILVUS__PROTO__SCHEMA__VECTOR_FIELD__INIT;
        v[i] = &rows[i];
        if (!dense_out(f->elem, f->dim, cells[i].data, cells[i].len / width, p->ar, &rows[i])) {
            return false;
        }
    }
    a->dim = f->dim;
    a->element_type = (Milvus__Proto__Schema__DataType)f->elem;
    a->data = v;
    a->n_data = n;
    ret->dim = f->dim;
    ret->vector_array = a;
    ret->data_case = VECTOR(VECTOR_ARRAY);
    return true;
}

static bool vector_column(const struct field *f, const struct picked *p, vectors_pb *ret)
{
    if (f->type == DT_SPARSE_FLOAT_VECTOR) {
        return sparse_column(p, ret);
    }
    if (f->type == DT_ARRAY_OF_VECTOR) {
        return vector_array_column(f, p, ret);
    }
    size_t n;
    void *data = gather(p, p->c->width, true, &n);
    return data && dense_out(f->type, f->dim, data, n, p->ar, ret);
}

static bool add_valid(const struct picked *p, field_data_pb *ret)
{
    protobuf_c_boolean *v = arena_try_array(p->ar, p->n, sizeof *v);
    if (!v) {
        return false;
    }
    for (uint32_t i = 0; i < p->n; i++) {
        v[i] = !column_is_null(p->c, row_at(p, i));
    }
    ret->valid_data = v;
    ret->n_valid_data = p->n;
    return true;
}

field_data_pb *field_data_from_column(const struct field *f, const struct column *c,
                                      const uint32_t *rows, uint32_t n, struct arena *ar)
{
    struct picked p = {c, rows, rows ? n : c->nrows, ar};
    field_data_pb *fd;
    NEW_MESSAGE(fd, ar, field_data_pb, MILVUS__PROTO__SCHEMA__FIELD_DATA__INIT);
    if (!fd) {
        return NULL;
    }
    fd->type = (Milvus__Proto__Schema__DataType)f->type;
    fd->field_name = f->name;
    fd->field_id = f->id;
    fd->is_dynamic = f->is_dynamic;
    bool ok;
    if (dtype_is_vector(f->type)) {
        fd->field_case = MILVUS__PROTO__SCHEMA__FIELD_DATA__FIELD_VECTORS;
        NEW_MESSAGE(fd->vectors, ar, vectors_pb, MILVUS__PROTO__SCHEMA__VECTOR_FIELD__INIT);
        ok = fd->vectors && vector_column(f, &p, fd->vectors);
    } else {
        fd->field_case = MILVUS__PROTO__SCHEMA__FIELD_DATA__FIELD_SCALARS;
        NEW_MESSAGE(fd->scalars, ar, scalars_pb, MILVUS__PROTO__SCHEMA__SCALAR_FIELD__INIT);
        ok = fd->scalars && scalar_column(f, &p, fd->scalars);
    }
    return ok && (!f->nullable || add_valid(&p, fd)) ? fd : NULL;
}

/* ---- Primary keys */

Milvus__Proto__Schema__IDs *ids_from_column(const struct column *pk, const uint32_t *rows,
                                            uint32_t n, struct arena *ar)
{
    struct picked p = {pk, rows, rows ? n : pk->nrows, ar};
    Milvus__Proto__Schema__IDs *ids;
    NEW_MESSAGE(ids, ar, Milvus__Proto__Schema__IDs, MILVUS__PROTO__SCHEMA__IDS__INIT);
    if (!ids) {
        return NULL;
    }
    if (pk->type == DT_INT64) {
        scalars_pb s = MILVUS__PROTO__SCHEMA__SCALAR_FIELD__INIT;
        size_t count;
        void *data = gather(&p, 8, false, &count);
        if (!data || !numbers_of(DT_INT64, data, count, ar, &s)) {
            return NULL;
        }
        ids->int_id = s.long_data;
        ids->id_field_case = MILVUS__PROTO__SCHEMA__IDS__ID_FIELD_INT_ID;
    } else {
        ids->str_id = strings_of_column(&p);
        ids->id_field_case = MILVUS__PROTO__SCHEMA__IDS__ID_FIELD_STR_ID;
        if (!ids->str_id) {
            return NULL;
        }
    }
    return ids;
}

int ids_to_column(const struct schema *s, const Milvus__Proto__Schema__IDs *ids, struct arena *ar,
                  struct column *ret, struct status *st)
{
    int rc = 0;
    const struct field *pk = s->pk;
    bool ints = ids->id_field_case == MILVUS__PROTO__SCHEMA__IDS__ID_FIELD_INT_ID;
    size_t n = !ids->id_field_case ? 0 : ints ? ids->int_id->n_data : ids->str_id->n_data;
    struct column c = {.field_id = pk->id, .type = pk->type, .width = dtype_width(pk->type, 0)};
    if (ids->id_field_case && ints != (pk->type == DT_INT64)) {
        TRY(fail_param(st, "ids are %s, but primary key %s is %s", ints ? "Int64" : "VarChar",
                       pk->name, dtype_name(pk->type)));
    }
    if (n > UINT32_MAX) {
        TRY(fail_param(st, "%zu ids are too many", n));
    }
    c.nrows = (uint32_t)n;
    if (n != 0 && ints) {
        c.data = (const uint8_t *)ids->int_id->data;
    } else if (n != 0) {
        struct column_builder *cb = column_builder_new(ar, pk->id, pk->type, DT_NONE, 0, c.nrows);
        for (size_t i = 0; i < n; i++) {
            if (!column_builder_add(cb, slice_of(ids->str_id->data[i]))) {
                TRY(fail_memory(st));
            }
        }
        column_builder_finish(cb, &c);
    }
    *ret = c;
out:
    return rc;
}
