/*
 * field_values_vector.c - dense vectors of a request as cells.
 *
 * Borrowed from the message, after one pass that looks for NaN and infinities; only fp32 sent for
 * an fp16 or bf16 field is converted, and then checked for values that became infinite.
 * THREADS  Any.
 */
#include "schema/field_values.h"
#include "schema/schema_int.h"
#include <stdio.h>

static int fail_component(const struct field_values *in, size_t at, const char *value,
                          struct status *st)
{
    return fail_param(st, "value '%s' is not a number or infinity, field %s, row %u, component %zu",
                      value, in->f->name, field_values_row(in, at / in->f->dim), at % in->f->dim);
}

static int convert_halves(const struct field_values *in, const float *src, struct column *ret,
                          struct status *st)
{
    int rc = 0;
    size_t n = (size_t)in->ncells * in->f->dim;
    uint8_t *data = arena_try(in->ar, n * 2);
    if (!data) {
        TRY(fail_memory(st));
    }
    if (in->f->type == DT_FLOAT16_VECTOR) {
        f32_to_f16(data, src, n);
    } else {
        f32_to_bf16(data, src, n);
    }
    size_t bad = vec_first_not_finite(in->f->type, data, n);
    if (bad < n) {
        char text[48];
        snprintf(text, sizeof text, "%g", (double)src[bad]);
        TRY(fail_component(in, bad, text, st));
    }
    ret->data = data;
out:
    return rc;
}

int field_values_vector(const struct field_values *in, struct column *ret, struct status *st)
{
    int rc = 0;
    const Milvus__Proto__Schema__VectorField *v = in->fd->vectors;
    size_t n = (size_t)in->ncells * in->f->dim;
    bool f32 = v->data_case == MILVUS__PROTO__SCHEMA__VECTOR_FIELD__DATA_FLOAT_VECTOR;
    if (f32 && in->f->type != DT_FLOAT_VECTOR) {
        TRY(convert_halves(in, v->float_vector->data, ret, st));
        goto out;
    }
    const void *data = f32 ? (const void *)v->float_vector->data : v->binary_vector.data;
    size_t bad = vec_first_not_finite(in->f->type, data, n);
    if (bad < n) {
        TRY(fail_component(in, bad, "NaN or Inf", st));
    }
    ret->data = data;
out:
    return rc;
}
