/*
 * field_values_array.c - Array columns of a request as cells.
 *
 * Two passes: the first checks every row and adds up the bytes, the second writes them into one
 * block. A row whose element list is not set at all is an empty array.
 * THREADS  Any.
 */
#include "base/utf8.h"
#include "schema/field_values.h"
#include "schema/schema_int.h"

typedef Milvus__Proto__Schema__ScalarField scalars_pb;

#define SCALAR(name) MILVUS__PROTO__SCHEMA__SCALAR_FIELD__DATA_##name

static int elem_case(enum dtype elem)
{
    switch (elem) {
    case DT_BOOL:
        return SCALAR(BOOL_DATA);
    case DT_INT64:
        return SCALAR(LONG_DATA);
    case DT_FLOAT:
        return SCALAR(FLOAT_DATA);
    case DT_DOUBLE:
        return SCALAR(DOUBLE_DATA);
    case DT_VARCHAR:
        return SCALAR(STRING_DATA);
    default:
        return SCALAR(INT_DATA);
    }
}

/* Elements of a row. All repeated members begin alike, but only the set one may be looked at. */
static size_t elem_count(const scalars_pb *s)
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
    default:
        return 0;
    }
}

static int check_ints(const struct field_values *in, const scalars_pb *s, size_t n, uint32_t at,
                      struct status *st)
{
    enum dtype elem = in->f->elem;
    int32_t lo = elem == DT_INT8 ? INT8_MIN : INT16_MIN,
            hi = elem == DT_INT8 ? INT8_MAX : INT16_MAX;
    for (size_t i = 0; (elem == DT_INT8 || elem == DT_INT16) && i < n; i++) {
        int32_t v = s->int_data->data[i];
        if (v < lo || v > hi) {
            return st_fail(
                st, ERR_PARAMETER_INVALID,
                "array field \"%s\", row index: %u, array index: %zu: %s[%d out of range "
                "%d <= value <= %d]",
                in->f->name, field_values_row(in, at), i, err_text(ERR_PARAMETER_INVALID), v, lo,
                hi);
        }
    }
    return 0;
}

static int check_floats(const struct field_values *in, const scalars_pb *s, size_t n, uint32_t at,
                        struct status *st)
{
    for (size_t i = 0; i < n; i++) {
        double v =
            in->f->elem == DT_FLOAT ? (double)s->float_data->data[i] : s->double_data->data[i];
        if (!__builtin_isfinite(v)) {
            return fail_param(st,
                              "value '%f' is not a number or infinity, array field \"%s\", row "
                              "index: %u, array index: %zu",
                              v, in->f->name, field_values_row(in, at), i);
        }
    }
    return 0;
}

/* Checks strings and adds their bytes to *total. */
static int check_strings(const struct field_values *in, const scalars_pb *s, size_t n, uint32_t at,
                         size_t *total, struct status *st)
{
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        struct slice v = slice_of(s->string_data->data[i]);
        if (v.n > in->f->max_length) {
            TRY(fail_param(st,
                           "length of VarChar array field \"%s\" exceeds max length, row index: "
                           "%u, array index: %zu, length: %zu, max length: %u",
                           in->f->name, field_values_row(in, at), i, v.n, in->f->max_length));
        }
        if (!utf8_valid(v)) {
            TRY(fail_param(st, "array field \"%s\", row index: %u, array index: %zu is not UTF-8",
                           in->f->name, field_values_row(in, at), i));
        }
        *total += v.n;
    }
    if (*total > UINT32_MAX) {
        TRY(fail_param(st, "array field \"%s\", row index: %u is larger than 4 GiB", in->f->name,
                       field_values_row(in, at)));
    }
out:
    return rc;
}

static int check_row(const struct field_values *in, const scalars_pb *s, uint32_t i, size_t *ret_n,
                     struct status *st)
{
    int rc = 0;
    const struct field *f = in->f;
    size_t n = elem_count(s), bytes = 0;
    if (s->data_case && (int)s->data_case != elem_case(f->elem)) {
        TRY(fail_expected(st, dtype_name(f->elem), "another type",
                          "array field \"%s\", row index: %u: "
                          "element type mismatch",
                          f->name, field_values_row(in, i)));
    }
    if (n > f->max_capacity) {
        TRY(fail_param(st, "the length (%zu) of %uth array exceeds max capacity (%u), field %s", n,
                       field_values_row(in, i), f->max_capacity, f->name));
    }
    if (f->elem == DT_VARCHAR) {
        TRY(check_strings(in, s, n, i, &bytes, st));
        bytes += 4 + 4 * n;
    } else {
        TRY(dtype_is_float(f->elem) ? check_floats(in, s, n, i, st) : check_ints(in, s, n, i, st));
        bytes = n * dtype_width(f->elem, 0);
    }
    *ret_n = bytes;
out:
    return rc;
}

static void write_strings(uint8_t *dst, const scalars_pb *s, size_t n)
{
    uint8_t *table = dst + 4, *bytes = table + 4 * n;
    uint32_t end = 0;
    store_u32(dst, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(s->string_data->data[i]);
        memcpy(bytes + end, s->string_data->data[i], len);
        end += (uint32_t)len;
        store_u32(table + 4 * i, end);
    }
}

static void write_row(uint8_t *dst, enum dtype elem, const scalars_pb *s)
{
    size_t n = elem_count(s), width = dtype_width(elem, 0);
    if (elem == DT_VARCHAR) {
        write_strings(dst, s, n);
        return;
    }
    if (n == 0) {
        return;
    }
    switch (elem) {
    case DT_BOOL:
        for (size_t i = 0; i < n; i++) {
            dst[i] = s->bool_data->data[i] != 0;
        }
        break;
    case DT_INT8:
    case DT_INT16: /* little-endian: the low bytes are the narrower value */
        for (size_t i = 0; i < n; i++) {
            memcpy(dst + i * width, &s->int_data->data[i], width);
        }
        break;
    case DT_INT32:
        memcpy(dst, s->int_data->data, n * width);
        break;
    case DT_INT64:
        memcpy(dst, s->long_data->data, n * width);
        break;
    case DT_FLOAT:
        memcpy(dst, s->float_data->data, n * width);
        break;
    default:
        memcpy(dst, s->double_data->data, n * width);
        break;
    }
}

int field_values_array(const struct field_values *in, struct column *ret, struct status *st)
{
    int rc = 0;
    scalars_pb *const *rows = in->fd->scalars->array_data->data;
    uint64_t *ends = arena_try_array(in->ar, in->ncells, 8), total = 0;
    if (!ends) {
        TRY(fail_memory(st));
    }
    for (uint32_t i = 0; i < in->ncells; i++) {
        size_t n = 0;
        if (!field_values_skip(in, i)) {
            TRY(check_row(in, rows[i], i, &n, st));
        }
        total += n;
        ends[i] = total;
    }
    uint8_t *data = arena_try(in->ar, total);
    if (!data) {
        TRY(fail_memory(st));
    }
    for (uint32_t i = 0; i < in->ncells; i++) {
        uint64_t from = i ? ends[i - 1] : 0;
        if (ends[i] > from) {
            write_row(data + from, in->f->elem, rows[i]);
        }
    }
    ret->ends = ends;
    ret->data = data;
out:
    return rc;
}
