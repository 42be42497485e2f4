/* types.h - the API's data types and what is true of each; scalar ids and hybrid timestamps. */
#pragma once
#include "base/compiler.h"

/* Values are those of the API's DataType. */
enum dtype {
    DT_NONE = 0,
    DT_BOOL = 1,
    DT_INT8 = 2,
    DT_INT16 = 3,
    DT_INT32 = 4,
    DT_INT64 = 5,
    DT_FLOAT = 10,
    DT_DOUBLE = 11,
    DT_VARCHAR = 21,
    DT_ARRAY = 22,
    DT_JSON = 23,
    DT_GEOMETRY = 24,
    DT_TEXT = 25,
    DT_TIMESTAMPTZ = 26,
    DT_BINARY_VECTOR = 100,
    DT_FLOAT_VECTOR = 101,
    DT_FLOAT16_VECTOR = 102,
    DT_BFLOAT16_VECTOR = 103,
    DT_SPARSE_FLOAT_VECTOR = 104,
    DT_INT8_VECTOR = 105,
    DT_ARRAY_OF_VECTOR = 106,
    DT_ARRAY_OF_STRUCT = 200,
};

/* "Int64", "FloatVector", ...; "Unknown" otherwise. Valid for ever. */
const char *dtype_name(enum dtype t);
bool dtype_known(int t);
/* Bytes of one cell for types of fixed width (dim is used by dense vectors), 0 for variable ones. */
size_t dtype_width(enum dtype t, uint32_t dim);
bool dtype_is_vector(enum dtype t);      /* 100..106 */
bool dtype_is_dense(enum dtype t);       /* 100..103, 105 */
bool dtype_is_int(enum dtype t);         /* Int8..Int64 */
bool dtype_is_float(enum dtype t);       /* Float, Double */
bool dtype_is_string(enum dtype t);      /* VarChar, Text */
bool dtype_is_var(enum dtype t);         /* stored with offsets */

/* Hybrid timestamp: physical milliseconds << 18 | counter. */
typedef uint64_t hts;
#define HTS_LOGICAL_BITS 18
static inline hts hts_make(int64_t physical_ms, uint32_t logical)
{
    return ((uint64_t)physical_ms << HTS_LOGICAL_BITS) | logical;
}
static inline int64_t hts_physical_ms(hts ts)
{
    return (int64_t)(ts >> HTS_LOGICAL_BITS);
}

/* Field ids below 100 are the system's. */
#define FIELD_ROW_ID 0
#define FIELD_TIMESTAMP 1
#define FIELD_FIRST_USER 100
#define META_FIELD_NAME "$meta"
#define DEFAULT_PARTITION "_default"
#define DEFAULT_DATABASE "default"
