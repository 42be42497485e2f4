/* schema_int.h - shared inside the room: the API's message shapes, parsing of field schemas, and
 * checks of vector components. */
#pragma once
#include "base/arena.h"
#include "schema/errors.h"
#include "schema/schema.h"

/* "<text>: invalid parameter" and "<text>: missing parameter", codes 1100 and 1101. */
COLD int fail_param(struct status *st, const char *fmt, ...) PRINTF_LIKE(2, 3);
COLD int fail_missing(struct status *st, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "<text>: invalid parameter[expected=E][actual=A]" */
COLD int fail_expected(struct status *st, const char *expected, const char *actual, const char *fmt,
                       ...) PRINTF_LIKE(4, 5);
COLD int fail_memory(struct status *st);

/* The value of an integer type_param: "128", or quoted as some clients send it. *ret_given tells
 * whether the key is there at all. */
int param_int(const Milvus__Proto__Schema__FieldSchema *pb, const char *key, bool *ret_given,
              int64_t *ret, struct status *st);

/* Encodes the field's default (f->pb->default_value, which is set) as a cell. f needs name, type
 * and max_length. */
int default_cell(const struct field *f, struct arena *ar, struct slice *ret, struct status *st);

/* Types whose layout is defined but which requests cannot use yet. */
bool dtype_served(enum dtype t);

/* Components of float vectors; p needs no alignment. The number of the first one that is NaN or
 * infinite, or n. */
size_t f32_first_not_finite(const void *p, size_t n);
size_t f16_first_not_finite(const void *p, size_t n);
size_t bf16_first_not_finite(const void *p, size_t n);
/* First bad component of vectors of any dense type; n for those that cannot have one. */
size_t vec_first_not_finite(enum dtype type, const void *p, size_t n);
/* Rounds to nearest, ties to even; beyond the range becomes infinite. dst and src: no alignment. */
void f32_to_f16(void *dst, const void *src, size_t n);
void f32_to_bf16(void *dst, const void *src, size_t n);
