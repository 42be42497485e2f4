/*
 * schema_value.c - the room's message shapes, and default values as cells.
 *
 * The API writes "<text>: <words of the code>[key=value]"; clients search for these words, so all
 * of the room's refusals are made by the few functions here.
 */
#include "base/json.h"
#include "base/utf8.h"
#include "schema/schema_int.h"
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

int fail_param(struct status *st, const char *fmt, ...)
{
    char text[STATUS_MSG_MAX - 64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return st_fail(st, ERR_PARAMETER_INVALID, "%s: %s", text, err_text(ERR_PARAMETER_INVALID));
}

int fail_missing(struct status *st, const char *fmt, ...)
{
    char text[STATUS_MSG_MAX - 64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return st_fail(st, ERR_PARAMETER_MISSING, "%s: %s", text, err_text(ERR_PARAMETER_MISSING));
}

int fail_expected(struct status *st, const char *expected, const char *actual, const char *fmt, ...)
{
    char text[STATUS_MSG_MAX - 192];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return st_fail(st, ERR_PARAMETER_INVALID, "%s: %s[expected=%s][actual=%s]", text,
                   err_text(ERR_PARAMETER_INVALID), expected, actual);
}

int fail_memory(struct status *st)
{
    return st_fail(st, ST_NO_MEMORY, "the request needs more memory than it may use");
}

bool dtype_served(enum dtype t)
{
    switch (t) {
    case DT_GEOMETRY:
    case DT_TEXT:
    case DT_TIMESTAMPTZ:
    case DT_SPARSE_FLOAT_VECTOR:
    case DT_ARRAY_OF_VECTOR:
    case DT_ARRAY_OF_STRUCT:
        return false;
    default:
        return dtype_known((int)t);
    }
}

static const char *value_type_name(int data_case)
{
    switch (data_case) {
    case MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_BOOL_DATA:
        return "DataType_Bool";
    case MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_INT_DATA:
        return "DataType_Int";
    case MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_LONG_DATA:
        return "DataType_Int64";
    case MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_FLOAT_DATA:
        return "DataType_Float";
    case MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_DOUBLE_DATA:
        return "DataType_Double";
    case MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_STRING_DATA:
        return "DataType_VarChar";
    case MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_TIMESTAMPTZ_DATA:
        return "DataType_Timestamptz";
    default:
        return "DataType_Bytes";
    }
}

/* The member of ValueField that holds values of a type; 0 when the type has no defaults. */
static int value_case_of(enum dtype t)
{
    switch (t) {
    case DT_BOOL:
        return MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_BOOL_DATA;
    case DT_INT8:
    case DT_INT16:
    case DT_INT32:
        return MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_INT_DATA;
    case DT_INT64:
        return MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_LONG_DATA;
    case DT_FLOAT:
        return MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_FLOAT_DATA;
    case DT_DOUBLE:
        return MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_DOUBLE_DATA;
    case DT_VARCHAR:
    case DT_TEXT:
        return MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_STRING_DATA;
    case DT_TIMESTAMPTZ:
        return MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_TIMESTAMPTZ_DATA;
    default:
        return MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA__NOT_SET;
    }
}

static int default_int(const struct field *f, int32_t v, struct arena *ar, struct slice *ret,
                       struct status *st)
{
    int32_t lo = f->type == DT_INT8 ? INT8_MIN : f->type == DT_INT16 ? INT16_MIN : INT32_MIN;
    int32_t hi = f->type == DT_INT8 ? INT8_MAX : f->type == DT_INT16 ? INT16_MAX : INT32_MAX;
    if (v < lo || v > hi) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "default value of field %s: %s[%d out of range %d <= value <= %d]", f->name,
                       err_text(ERR_PARAMETER_INVALID), v, lo, hi);
    }
    /* Little-endian two's complement: the low bytes are the narrower value. */
    *ret = arena_copy(ar, slice_n(&v, dtype_width(f->type, 0)));
    return 0;
}

static int default_float(const struct field *f, double v, struct arena *ar, struct slice *ret,
                         struct status *st)
{
    float narrow = (float)v;
    if (!isfinite(v)) {
        return fail_param(st, "default value '%f' of field %s is not a number or infinity", v,
                          f->name);
    }
    *ret = arena_copy(ar, f->type == DT_FLOAT ? slice_n(&narrow, 4) : slice_n(&v, 8));
    return 0;
}

int default_cell(const struct field *f, struct arena *ar, struct slice *ret, struct status *st)
{
    int rc = 0;
    const Milvus__Proto__Schema__ValueField *v = f->pb->default_value;
    struct slice cell = {NULL, 0};
    int want = value_case_of(f->type);
    if (!want) {
        FAIL(st, ERR_PARAMETER_INVALID, "type not support default_value, type:%s, name:%s: %s",
             dtype_name(f->type), f->name, err_text(ERR_PARAMETER_INVALID));
    }
    if ((int)v->data_case != want) {
        TRY(fail_param(st, "type (%s) of field (%s) is not equal to the type(%s) of default_value",
                       dtype_name(f->type), f->name, value_type_name((int)v->data_case)));
    }
    uint8_t flag =
        v->data_case == MILVUS__PROTO__SCHEMA__VALUE_FIELD__DATA_BOOL_DATA && v->bool_data;
    switch (f->type) {
    case DT_BOOL:
        cell = arena_copy(ar, slice_n(&flag, 1));
        break;
    case DT_INT8:
    case DT_INT16:
    case DT_INT32:
        TRY(default_int(f, v->int_data, ar, &cell, st));
        break;
    case DT_INT64:
        cell = arena_copy(ar, slice_n(&v->long_data, 8));
        break;
    case DT_TIMESTAMPTZ:
        cell = arena_copy(ar, slice_n(&v->timestamptz_data, 8));
        break;
    case DT_FLOAT:
        TRY(default_float(f, (double)v->float_data, ar, &cell, st));
        break;
    case DT_DOUBLE:
        TRY(default_float(f, v->double_data, ar, &cell, st));
        break;
    default:
        cell = slice_of(v->string_data);
        if (!utf8_valid(cell)) {
            TRY(fail_param(st, "default value of field %s is not UTF-8", f->name));
        }
        if (f->type == DT_VARCHAR && cell.n > f->max_length) {
            TRY(fail_param(st, "the length (%zu) of string exceeds max length (%u)", cell.n,
                           f->max_length));
        }
        cell = arena_copy(ar, cell);
        break;
    }
    if (!cell.p) {
        TRY(fail_memory(st));
    }
    *ret = cell;
out:
    return rc;
}
