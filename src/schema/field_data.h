/*
 * field_data.h - the only place where rows leave protobuf FieldData and return to it.
 *
 * Inbound checks lengths, ranges, UTF-8, JSON, NaN and infinities, vector sizes, null encoding, and
 * answers with the API's codes and texts (reference: protocol §5, behaviour §7, errors §3).
 */
#pragma once
#include "base/arena.h"
#include "schema/column.h"
#include "schema/schema.h"

/* Request rows -> batch with one column per schema field (defaults, nulls and $meta filled in),
 * in schema order, without the key when it is auto_id (unless for_upsert, or allow_auto_pk and
 * given). The batch borrows from the message where it can and uses ar for the rest. opts is never NULL.
 * Fails: ERR_PARAMETER_INVALID; ST_UNSUPPORTED, names the type; ST_NO_MEMORY, the limit of ar. */
struct rows_opts {
    bool for_upsert;        /* the key must be present even with auto_id */
    bool allow_auto_pk;     /* property allow_insert_auto_id: a given key is kept */
    bool partial;           /* only given columns are converted; none is filled in */
};
int rows_from_pb(const struct schema *s, size_t nfields_data,
                 Milvus__Proto__Schema__FieldData *const *fields_data, uint32_t num_rows,
                 const struct rows_opts *opts, struct arena *ar, struct batch *ret,
                 struct status *st);

/* rows of a column -> FieldData for a response (row-aligned scalars with valid_data; dense and
 * sparse vectors compact). rows NULL: all rows, n is not looked at. Memory from ar; NULL past its
 * limit. The message borrows: f, c and ar must outlive it. */
Milvus__Proto__Schema__FieldData *field_data_from_column(const struct field *f,
                                                         const struct column *c,
                                                         const uint32_t *rows, uint32_t n,
                                                         struct arena *ar);
/* Primary keys as IDs. */
Milvus__Proto__Schema__IDs *ids_from_column(const struct column *pk, const uint32_t *rows,
                                            uint32_t n, struct arena *ar);
/* IDs of a request -> column of the key's type. */
int ids_to_column(const struct schema *s, const Milvus__Proto__Schema__IDs *ids, struct arena *ar,
                  struct column *ret, struct status *st);

/* Search input: one serialized placeholder's rows -> dense queries in the field's own element type
 * (fp32 queries against fp16/bf16 fields are converted). Checks size, NaN and infinities.
 * ph_type is the API's PlaceholderType. */
int queries_from_placeholder(const struct field *f, int ph_type, size_t n,
                             const ProtobufCBinaryData *values, struct arena *ar,
                             struct slice *ret_queries, uint32_t *ret_nq, struct status *st);
