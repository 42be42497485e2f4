/*
 * schema.h - what a row of one collection is: fields, types, limits. Immutable, reference counted.
 *
 * Built from the API's CollectionSchema with every id assigned (coord) and kept beside it by
 * everyone who reads or writes rows.
 */
#pragma once
#include "base/slice.h"
#include "base/status.h"
#include "proto/schema.pb-c.h"
#include "schema/types.h"

struct field {
    int64_t id;
    const char *name;
    enum dtype type;
    enum dtype elem;         /* Array and ArrayOfVector only */
    uint32_t dim;            /* dense vectors */
    uint32_t max_length;     /* VarChar (also as array element), bytes */
    uint32_t max_capacity;   /* Array */
    bool is_pk, auto_id, nullable, is_dynamic, is_partition_key, is_clustering_key;
    bool is_function_output;
    bool has_default;
    struct slice default_cell; /* encoded as a cell of this type (column.h) */
    const Milvus__Proto__Schema__FieldSchema *pb;
};

struct schema {
    const char *collection_name;
    uint32_t nfields;
    const struct field *fields;   /* in schema order; $meta last when dynamic */
    const struct field *pk;
    const struct field *dynamic;       /* NULL: no dynamic field */
    const struct field *partition_key; /* NULL: none */
    int32_t version;
    const Milvus__Proto__Schema__CollectionSchema *pb;
};

/* Copies what it needs. ST_INVALID when the message is not a schema this room can serve. */
int schema_new(const Milvus__Proto__Schema__CollectionSchema *pb, struct schema **ret_schema,
               struct status *st);
struct schema *schema_ref(const struct schema *s);
void schema_unref(struct schema *s);

const struct field *schema_field(const struct schema *s, int64_t id);          /* NULL: none */
const struct field *schema_field_by_name(const struct schema *s, struct slice name);
/* Value of a type_param, or NULL. */
const char *field_param(const Milvus__Proto__Schema__FieldSchema *pb, const char *key);

/* All rules of CreateCollection and AddCollectionField on names, types, limits and combinations,
 * with the API's codes and texts (reference: behaviour §1, §2; errors §3). Also normalises pb in
 * place: moves the legacy collection-level autoID to the key, fixes "True" to "true". */
struct schema_limits {
    uint32_t max_fields, max_vector_fields, max_dim, max_varchar_length, max_array_capacity;
    uint32_t max_name_length;
};
#define SCHEMA_LIMITS_DEFAULT { 64, 4, 32768, 65535, 4096, 255 }
struct arena;
int schema_check(Milvus__Proto__Schema__CollectionSchema *pb, const struct schema_limits *lim,
                 struct arena *ar, struct status *st);
int schema_check_field(Milvus__Proto__Schema__FieldSchema *pb, const char *collection_name,
                       const struct schema_limits *lim, struct arena *ar, struct status *st);
/* The same for AddCollectionField: also against the fields that s has already. */
int schema_check_added_field(const struct schema *s, Milvus__Proto__Schema__FieldSchema *pb,
                             const struct schema_limits *lim, struct arena *ar, struct status *st);
/* Field names: rule, keywords, reserved names. Other names: names.h. */
int schema_check_field_name(struct slice name, uint32_t max_len, struct status *st);
