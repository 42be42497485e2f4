/*
 * field_values.c - the payload of one scalar column of a request as checked cells.
 *
 * Whole columns at a time: Int32, Int64, Float and Double arrays have the layout of cells and are
 * borrowed; Bool, Int8 and Int16 travel as 32-bit numbers and are narrowed in one loop each;
 * strings become one block with ends. NOT HERE  Vectors: field_values_vector.c. Array and JSON:
 * field_values_array.c, _json.c. THREADS   Any.
 */
#include "schema/field_values.h"
#include "base/utf8.h"
#include "schema/schema_int.h"
#include <inttypes.h>
#include <stdio.h>

typedef Milvus__Proto__Schema__FieldData field_data_pb;
typedef Milvus__Proto__Schema__ScalarField scalars_pb;

#define SCALAR(name) MILVUS__PROTO__SCHEMA__SCALAR_FIELD__DATA_##name

uint32_t field_values_row(const struct field_values *in, size_t i)
{
    uint32_t row = 0;
    if (!in->valid || !in->compact) {
        return (uint32_t)i;
    }
    for (size_t left = i + 1;; row++) {
        left -= in->valid[row] != 0;
        if (left == 0) {
            return row;
        }
    }
}

/* ---- Counting */

struct scalar_kind {
    int data_case;
    const char *what;
};

static struct scalar_kind kind_of(enum dtype t)
{
    switch (t) {
    case DT_BOOL:
        return (struct scalar_kind){SCALAR(BOOL_DATA), "bool"};
    case DT_INT8:
    case DT_INT16:
    case DT_INT32:
        return (struct scalar_kind){SCALAR(INT_DATA), "int"};
    case DT_INT64:
        return (struct scalar_kind){SCALAR(LONG_DATA), "long int"};
    case DT_FLOAT:
        return (struct scalar_kind){SCALAR(FLOAT_DATA), "float32"};
    case DT_DOUBLE:
        return (struct scalar_kind){SCALAR(DOUBLE_DATA), "float64"};
    case DT_VARCHAR:
        return (struct scalar_kind){SCALAR(STRING_DATA), "string"};
    case DT_JSON:
        return (struct scalar_kind){SCALAR(JSON_DATA), "json"};
    default:
        return (struct scalar_kind){SCALAR(ARRAY_DATA), "array"};
    }
}

static size_t scalar_count(const scalars_pb *s)
{
    switch ((int)s->data_case) {
    case SCALAR(BOOL_DATA):
        return s->bool_data->n_data;
    case SCALAR(INT_DATA):
        return s->int_data->n_data;
    case SCALAR(LONG_DATA):
        return s->long_data->n_data;
    case SCALAR(FLOAT_DATA):
        return s->float_data->n_data;
    case SCALAR(DOUBLE_DATA):
        return s->double_data->n_data;
    case SCALAR(STRING_DATA):
        return s->string_data->n_data;
    case SCALAR(JSON_DATA):
        return s->json_data->n_data;
    case SCALAR(ARRAY_DATA):
        return s->array_data->n_data;
    default:
        return 0;
    }
}

static int count_scalars(const struct field *f, const field_data_pb *fd, size_t *ret,
                         struct status *st)
{
    struct scalar_kind kind = kind_of(f->type);
    const scalars_pb *s =
        fd->field_case == MILVUS__PROTO__SCHEMA__FIELD_DATA__FIELD_SCALARS ? fd->scalars : NULL;
    if (s && (int)s->data_case == kind.data_case) {
        *ret = scalar_count(s);
        return 0;
    }
    /* A column of nulls alone may come without a payload. */
    if (fd->field_case == MILVUS__PROTO__SCHEMA__FIELD_DATA__FIELD__NOT_SET ||
        (s && !s->data_case)) {
        *ret = 0;
        return 0;
    }
    char expected[48];
    snprintf(expected, sizeof expected, "need %s array", kind.what);
    return fail_expected(st, expected, "another type",
                         "%s field '%s' is illegal, array type mismatch", dtype_name(f->type),
                         f->name);
}

/* Texts of a vector payload that is no whole number of vectors differ by type. */
static int fail_length(const struct field *f, size_t n, const char *what, struct status *st)
{
    if (f->type == DT_BINARY_VECTOR) {
        return fail_param(st, "the num(%zu) of all bits should divide the dim(%u), field %s", n * 8,
                          f->dim, f->name);
    }
    return fail_param(st, "the length(%zu) of %s data should divide the dim(%u), field %s", n, what,
                      f->dim, f->name);
}

static int count_vectors(const struct field *f, const field_data_pb *fd, size_t *ret,
                         struct status *st)
{
    static const struct {
        int data_case;
        const char *what;
    } kinds[] = {
        [DT_BINARY_VECTOR - 100] = {MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_BINARY_VECTOR,
                                    "binary"},
        [DT_FLOAT_VECTOR - 100] = {MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_FLOAT_VECTOR, "float"},
        [DT_FLOAT16_VECTOR - 100] = {MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_FLOAT16_VECTOR,
                                     "float16"},
        [DT_BFLOAT16_VECTOR - 100] = {MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_BFLOAT16_VECTOR,
                                      "bfloat16"},
        [DT_INT8_VECTOR - 100] = {MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_INT8_VECTOR, "int8"},
    };
    int rc = 0;
    const Milvus__Proto__Schema__VectorField *v =
        fd->field_case == MILVUS__PROTO__SCHEMA__FIELD_DATA__FIELD_VECTORS ? fd->vectors : NULL;
    if (!v || !v->data_case) {
        if (v || fd->field_case == MILVUS__PROTO__SCHEMA__FIELD_DATA__FIELD__NOT_SET) {
            *ret = 0;
            goto out;
        }
        TRY(fail_expected(st, "need vectors", "got scalars",
                          "%s field '%s' is illegal, array type "
                          "mismatch",
                          dtype_name(f->type), f->name));
    }
    bool half = f->type == DT_FLOAT16_VECTOR || f->type == DT_BFLOAT16_VECTOR;
    size_t n = 0, unit = 1;
    if (v->data_case == MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_FLOAT_VECTOR &&
        (half || f->type == DT_FLOAT_VECTOR)) {
        n = v->float_vector->n_data;
        unit = f->dim;
        if (n % unit) {
            TRY(fail_length(f, n, "float", st));
        }
    } else if ((int)v->data_case == kinds[f->type - 100].data_case) {
        n = v->binary_vector.len; /* the bytes members share their place */
        unit = dtype_width(f->type, f->dim);
        if (n % unit) {
            TRY(fail_length(f, n, kinds[f->type - 100].what, st));
        }
    } else {
        char expected[48];
        snprintf(expected, sizeof expected, "need %s vector", kinds[f->type - 100].what);
        TRY(fail_expected(st, expected, "another type",
                          "%s field '%s' is illegal, array type "
                          "mismatch",
                          dtype_name(f->type), f->name));
    }
    if (v->dim != 0 && v->dim != (int64_t)f->dim) {
        TRY(fail_param(st,
                       "the dim (%" PRId64 ") of field data(%s) is not equal to schema dim (%u)",
                       v->dim, f->name, f->dim));
    }
    *ret = n / unit;
out:
    return rc;
}

int field_values_count(const struct field *f, const field_data_pb *fd, size_t *ret,
                       struct status *st)
{
    return dtype_is_vector(f->type) ? count_vectors(f, fd, ret, st) : count_scalars(f, fd, ret, st);
}

/* ---- Converting */

static int convert_bool(const struct field_values *in, struct column *ret, struct status *st)
{
    const protobuf_c_boolean *v = in->fd->scalars->bool_data->data;
    uint8_t *data = arena_try(in->ar, in->ncells);
    if (!data) {
        return fail_memory(st);
    }
    for (uint32_t i = 0; i < in->ncells; i++) {
        data[i] = v[i] != 0;
    }
    ret->data = data;
    return 0;
}

static int convert_small_int(const struct field_values *in, struct column *ret, struct status *st)
{
    const int32_t *v = in->fd->scalars->int_data->data;
    bool narrow = in->f->type == DT_INT8;
    int32_t lo = narrow ? INT8_MIN : INT16_MIN, hi = narrow ? INT8_MAX : INT16_MAX;
    uint32_t bad = 0;
    uint8_t *data = arena_try(in->ar, (size_t)in->ncells * ret->width);
    if (!data) {
        return fail_memory(st);
    }
    for (uint32_t i = 0; i < in->ncells; i++) {
        bad |= v[i] < lo || v[i] > hi;
    }
    for (uint32_t i = 0; bad && i < in->ncells; i++) {
        if (v[i] < lo || v[i] > hi) {
            return st_fail(st, ERR_PARAMETER_INVALID,
                           "the %uth element (%d) of field %s is out of range: %s[%d out of range "
                           "%d <= value <= %d]",
                           field_values_row(in, i), v[i], in->f->name,
                           err_text(ERR_PARAMETER_INVALID), v[i], lo, hi);
        }
    }
    if (narrow) {
        for (uint32_t i = 0; i < in->ncells; i++) {
            data[i] = (uint8_t)v[i];
        }
    } else {
        for (uint32_t i = 0; i < in->ncells; i++) {
            int16_t x = (int16_t)v[i];
            memcpy(data + (size_t)i * 2, &x, 2);
        }
    }
    ret->data = data;
    return 0;
}

static int convert_float(const struct field_values *in, struct column *ret, struct status *st)
{
    const float *v = in->fd->scalars->float_data->data;
    size_t bad = f32_first_not_finite(v, in->ncells);
    if (bad < in->ncells) {
        return fail_param(st, "value '%f' is not a number or infinity, field %s, row %u",
                          (double)v[bad], in->f->name, field_values_row(in, bad));
    }
    ret->data = (const uint8_t *)v;
    return 0;
}

static int convert_double(const struct field_values *in, struct column *ret, struct status *st)
{
    const double *v = in->fd->scalars->double_data->data;
    for (uint32_t i = 0; i < in->ncells; i++) {
        if (!__builtin_isfinite(v[i])) {
            return fail_param(st, "value '%f' is not a number or infinity, field %s, row %u", v[i],
                              in->f->name, field_values_row(in, i));
        }
    }
    ret->data = (const uint8_t *)v;
    return 0;
}

static int convert_strings(const struct field_values *in, struct column *ret, struct status *st)
{
    int rc = 0;
    const Milvus__Proto__Schema__StringArray *v = in->fd->scalars->string_data;
    uint64_t *ends = arena_try_array(in->ar, in->ncells, 8);
    uint64_t total = 0;
    if (!ends) {
        TRY(fail_memory(st));
    }
    for (uint32_t i = 0; i < in->ncells; i++) {
        size_t n = strlen(v->data[i]);
        if (n > in->f->max_length && !field_values_skip(in, i)) {
            TRY(fail_param(st,
                           "length of varchar field %s exceeds max length, row number: %u, "
                           "length: %zu, max length: %u",
                           in->f->name, field_values_row(in, i), n, in->f->max_length));
        }
        total += n;
        ends[i] = total;
    }
    char *data = arena_try(in->ar, total);
    if (!data) {
        TRY(fail_memory(st));
    }
    for (uint32_t i = 0; i < in->ncells; i++) {
        uint64_t from = i ? ends[i - 1] : 0;
        struct slice cell = slice_n(data + from, (size_t)(ends[i] - from));
        memcpy(data + from, v->data[i], cell.n);
        if (!utf8_valid(cell)) {
            TRY(fail_param(st, "varchar field %s, row number %u is not UTF-8", in->f->name,
                           field_values_row(in, i)));
        }
    }
    ret->ends = ends;
    ret->data = (const uint8_t *)data;
out:
    return rc;
}

int field_values_convert(const struct field_values *in, struct column *ret, struct status *st)
{
    int rc = 0;
    struct column c = *ret;
    c.nrows = in->ncells;
    if (in->ncells == 0) {
        *ret = c;
        goto out;
    }
    switch (in->f->type) {
    case DT_BOOL:
        TRY(convert_bool(in, &c, st));
        break;
    case DT_INT8:
    case DT_INT16:
        TRY(convert_small_int(in, &c, st));
        break;
    case DT_INT32:
        c.data = (const uint8_t *)in->fd->scalars->int_data->data;
        break;
    case DT_INT64:
        c.data = (const uint8_t *)in->fd->scalars->long_data->data;
        break;
    case DT_FLOAT:
        TRY(convert_float(in, &c, st));
        break;
    case DT_DOUBLE:
        TRY(convert_double(in, &c, st));
        break;
    case DT_VARCHAR:
        TRY(convert_strings(in, &c, st));
        break;
    case DT_JSON:
        TRY(field_values_json(in, &c, st));
        break;
    case DT_ARRAY:
        TRY(field_values_array(in, &c, st));
        break;
    default:
        TRY(field_values_vector(in, &c, st));
        break;
    }
    *ret = c;
out:
    return rc;
}
