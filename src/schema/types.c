/* types.c - the table behind types.h: one row per data type. */
#include "schema/types.h"

enum { KIND_NONE, KIND_INT, KIND_FLOAT, KIND_BOOL, KIND_TIME, KIND_VAR, KIND_DENSE, KIND_STRUCT };

struct dtype_row {
    const char *name;
    uint8_t kind;
    uint8_t bits; /* of one cell, or of one component of a dense vector */
};

static const struct dtype_row scalars[] = {
    [DT_BOOL] = {"Bool", KIND_BOOL, 8},
    [DT_INT8] = {"Int8", KIND_INT, 8},
    [DT_INT16] = {"Int16", KIND_INT, 16},
    [DT_INT32] = {"Int32", KIND_INT, 32},
    [DT_INT64] = {"Int64", KIND_INT, 64},
    [DT_FLOAT] = {"Float", KIND_FLOAT, 32},
    [DT_DOUBLE] = {"Double", KIND_FLOAT, 64},
    [DT_VARCHAR] = {"VarChar", KIND_VAR, 0},
    [DT_ARRAY] = {"Array", KIND_VAR, 0},
    [DT_JSON] = {"JSON", KIND_VAR, 0},
    [DT_GEOMETRY] = {"Geometry", KIND_VAR, 0},
    [DT_TEXT] = {"Text", KIND_VAR, 0},
    [DT_TIMESTAMPTZ] = {"Timestamptz", KIND_TIME, 64},
};

static const struct dtype_row vectors[] = {
    [DT_BINARY_VECTOR - 100] = {"BinaryVector", KIND_DENSE, 1},
    [DT_FLOAT_VECTOR - 100] = {"FloatVector", KIND_DENSE, 32},
    [DT_FLOAT16_VECTOR - 100] = {"Float16Vector", KIND_DENSE, 16},
    [DT_BFLOAT16_VECTOR - 100] = {"BFloat16Vector", KIND_DENSE, 16},
    [DT_SPARSE_FLOAT_VECTOR - 100] = {"SparseFloatVector", KIND_VAR, 0},
    [DT_INT8_VECTOR - 100] = {"Int8Vector", KIND_DENSE, 8},
    [DT_ARRAY_OF_VECTOR - 100] = {"ArrayOfVector", KIND_VAR, 0},
};

static const struct dtype_row unknown_row = {"Unknown", KIND_NONE, 0};
static const struct dtype_row struct_row = {"ArrayOfStruct", KIND_STRUCT, 0};

static const struct dtype_row *row_of(int t)
{
    const struct dtype_row *r = &unknown_row;
    if (t >= 0 && t < (int)ARRAY_LEN(scalars)) {
        r = &scalars[t];
    } else if (t >= 100 && t < 100 + (int)ARRAY_LEN(vectors)) {
        r = &vectors[t - 100];
    } else if (t == DT_ARRAY_OF_STRUCT) {
        r = &struct_row;
    }
    return r->name ? r : &unknown_row;
}

const char *dtype_name(enum dtype t)
{
    return row_of((int)t)->name;
}

bool dtype_known(int t)
{
    return row_of(t)->kind != KIND_NONE;
}

size_t dtype_width(enum dtype t, uint32_t dim)
{
    const struct dtype_row *r = row_of((int)t);
    return r->kind == KIND_DENSE ? (size_t)dim * r->bits / 8 : r->bits / 8u;
}

bool dtype_is_vector(enum dtype t)
{
    return t >= DT_BINARY_VECTOR && t <= DT_ARRAY_OF_VECTOR;
}

bool dtype_is_dense(enum dtype t)
{
    return row_of((int)t)->kind == KIND_DENSE;
}

bool dtype_is_int(enum dtype t)
{
    return row_of((int)t)->kind == KIND_INT;
}

bool dtype_is_float(enum dtype t)
{
    return row_of((int)t)->kind == KIND_FLOAT;
}

bool dtype_is_string(enum dtype t)
{
    return t == DT_VARCHAR || t == DT_TEXT;
}

bool dtype_is_var(enum dtype t)
{
    return row_of((int)t)->kind == KIND_VAR;
}
