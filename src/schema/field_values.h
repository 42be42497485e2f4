/* field_values.h - inside the room: the payload of one FieldData as checked cells. */
#pragma once
#include "schema/column.h"
#include "schema/schema.h"

struct field_values {
    const struct schema *schema;
    const struct field *f;
    const Milvus__Proto__Schema__FieldData *fd;
    struct arena *ar;
    uint32_t ncells;                 /* field_values_count() */
    const protobuf_c_boolean *valid; /* NULL: all cells count */
    bool compact;                    /* the payload leaves out rows that are not valid */
};

/* Cells in the payload: elements of scalars, whole vectors of vectors. Fails when the payload is
 * of another type than the field or cuts a vector. */
int field_values_count(const struct field *f, const Milvus__Proto__Schema__FieldData *fd,
                       size_t *ret, struct status *st);
/* A column of ncells rows without nulls; cells of invalid rows in a payload that is not compact
 * are whatever the client put there, unchecked where they cannot do harm. */
int field_values_convert(const struct field_values *in, struct column *ret, struct status *st);

/* Row that cell i belongs to, for messages: takes a walk over the rows. */
uint32_t field_values_row(const struct field_values *in, size_t i);
static inline bool field_values_skip(const struct field_values *in, size_t i)
{
    return in->valid && !in->compact && !in->valid[i];
}
/* Kinds with a file of their own. */
int field_values_vector(const struct field_values *in, struct column *ret, struct status *st);
int field_values_array(const struct field_values *in, struct column *ret, struct status *st);
int field_values_json(const struct field_values *in, struct column *ret, struct status *st);
