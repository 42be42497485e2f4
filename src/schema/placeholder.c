/*
 * placeholder.c - the query vectors of a search, ready for the index.
 *
 * One query is borrowed from the request, several are put side by side; fp32 queries against fp16
 * and bf16 fields are narrowed like inserted vectors are, so that a search for a stored vector
 * finds it at distance zero.
 * THREADS  Any.
 */
#include "schema/field_data.h"
#include "schema/schema_int.h"

#define NQ_MAX 16384u
#define EMB_LIST_FIRST 300
#define EMB_LIST_LAST 305

/* The engine's names of vector types, which clients look for in its complaint. */
static const char *vector_type_name(int type)
{
    switch (type) {
    case DT_BINARY_VECTOR:
        return "VECTOR_BINARY";
    case DT_FLOAT_VECTOR:
        return "VECTOR_FLOAT";
    case DT_FLOAT16_VECTOR:
        return "VECTOR_FLOAT16";
    case DT_BFLOAT16_VECTOR:
        return "VECTOR_BFLOAT16";
    case DT_SPARSE_FLOAT_VECTOR:
        return "VECTOR_SPARSE_U32_F32";
    case DT_INT8_VECTOR:
        return "VECTOR_INT8";
    default:
        return dtype_name((enum dtype)type);
    }
}

static int check_kind(const struct field *f, int ph_type, size_t n, bool *ret_narrow,
                      struct status *st)
{
    int rc = 0;
    bool half = f->type == DT_FLOAT16_VECTOR || f->type == DT_BFLOAT16_VECTOR;
    if (n < 1 || n > NQ_MAX) {
        TRY(fail_param(st,
                       "nq [%zu] is invalid, nq (number of search vector per search request) "
                       "should be in range [1, %u], but got %zu",
                       n, NQ_MAX, n));
    }
    if (!dtype_is_dense(f->type)) {
        FAIL(st, ST_UNSUPPORTED, "search on field %s of data type %s is not supported", f->name,
             dtype_name(f->type));
    }
    if (ph_type == DT_VARCHAR) {
        TRY(fail_param(st,
                       "please provide vectors for field %s: varchar/text is for function fields",
                       f->name));
    }
    if (ph_type >= EMB_LIST_FIRST && ph_type <= EMB_LIST_LAST) {
        FAIL(st, ST_UNSUPPORTED, "embedding lists (field %s) are not supported", f->name);
    }
    *ret_narrow = half && ph_type == DT_FLOAT_VECTOR;
    if (ph_type != (int)f->type && !*ret_narrow) {
        TRY(fail_param(st,
                       "vector type must be the same, field [%s] - type %s, search info type %s",
                       f->name, vector_type_name((int)f->type), vector_type_name(ph_type)));
    }
out:
    return rc;
}

int queries_from_placeholder(const struct field *f, int ph_type, size_t n,
                             const ProtobufCBinaryData *values, struct arena *ar,
                             struct slice *ret_queries, uint32_t *ret_nq, struct status *st)
{
    int rc = 0;
    bool narrow = false;
    size_t width = dtype_width(f->type, f->dim);
    TRY(check_kind(f, ph_type, n, &narrow, st));
    size_t given = narrow ? (size_t)f->dim * 4 : width;
    for (size_t i = 0; i < n; i++) {
        if (values[i].len != given) {
            TRY(fail_param(st,
                           "vector dimension mismatch, expected vector size(byte) %zu, actual %zu, "
                           "field %s",
                           given, values[i].len, f->name));
        }
    }
    const uint8_t *queries = values[0].data;
    if (n > 1 || narrow) {
        uint8_t *copy = arena_try(ar, n * width);
        if (!copy) {
            TRY(fail_memory(st));
        }
        for (size_t i = 0; i < n; i++) {
            if (!narrow) {
                memcpy(copy + i * width, values[i].data, width);
            } else if (f->type == DT_FLOAT16_VECTOR) {
                f32_to_f16(copy + i * width, values[i].data, f->dim);
            } else {
                f32_to_bf16(copy + i * width, values[i].data, f->dim);
            }
        }
        queries = copy;
    }
    size_t components = n * f->dim, bad = vec_first_not_finite(f->type, queries, components);
    if (bad < components) {
        TRY(fail_param(st,
                       "value 'NaN or Inf' is not a number or infinity, field %s, query %zu, "
                       "component %zu",
                       f->name, bad / f->dim, bad % f->dim));
    }
    *ret_queries = slice_n(queries, n * width);
    *ret_nq = (uint32_t)n;
out:
    return rc;
}
