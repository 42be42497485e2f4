/*
 * schema_check.c - may this collection, or this field, be created?
 *
 * Every rule of CreateCollection and AddCollectionField that can be decided from the message
 * alone, in the order in which the API checks them, because clients expect a certain complaint
 * first. What clients spell differently is brought into one form on the way: quoted numbers,
 * "True", the collection-level autoID. Replaced strings live in the caller's arena.
 * THREADS  Any; the message belongs to the caller.
 * NOT HERE Names of other things: names.c. Limits on counts of collections: coord.
 */
#include "base/arena.h"
#include "base/utf8.h"
#include "schema/names.h"
#include "schema/schema.h"
#include "schema/schema_int.h"
#include <inttypes.h>
#include <strings.h>

/* The generated names, which leave no room on a line. */
typedef Milvus__Proto__Schema__FieldSchema field_pb;
typedef Milvus__Proto__Schema__CollectionSchema collection_pb;

/* ---- One form for what clients spell in several */

static bool is_flag(const char *key)
{
    static const char *const flags[] = {"enable_analyzer", "enable_match", "mmap.enabled",
                                        "mmap_enabled", "field.skipLoad"};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (strcmp(key, flags[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void normalise_params(field_pb *f, struct arena *ar)
{
    for (size_t i = 0; i < f->n_type_params; i++) {
        Milvus__Proto__Common__KeyValuePair *kv = f->type_params[i];
        size_t n = strlen(kv->value);
        if (strcmp(kv->key, "mmap_enabled") == 0) {
            kv->key = "mmap.enabled";
        }
        if (is_flag(kv->key)) {
            kv->value = strcasecmp(kv->value, "true") == 0    ? "true"
                        : strcasecmp(kv->value, "false") == 0 ? "false"
                                                              : kv->value;
        } else if (n > 2 && kv->value[0] == '"' && kv->value[n - 1] == '"') {
            int64_t number;
            if (parse_i64(slice_n(kv->value + 1, n - 2), &number)) {
                kv->value = arena_strndup(ar, kv->value + 1, n - 2);
            }
        }
    }
    if (f->default_value && !f->default_value->data_case) {
        f->default_value = NULL; /* an empty one stands for none */
    }
}

/* ---- Parameters of one field */

static int check_dim(const field_pb *f, const struct schema_limits *lim, struct status *st)
{
    int rc = 0;
    bool given, binary = (int)f->data_type == DT_BINARY_VECTOR;
    int64_t dim, max = binary ? (int64_t)lim->max_dim * 8 : (int64_t)lim->max_dim;
    TRY(param_int(f, "dim", &given, &dim, st));
    if ((int)f->data_type == DT_SPARSE_FLOAT_VECTOR) {
        if (given) {
            TRY(fail_param(st,
                           "dim should not be specified for sparse vector field %s(%" PRId64 ")",
                           f->name, f->fieldid));
        }
        goto out;
    }
    if (!given) {
        TRY(fail_param(st,
                       "dimension is not defined in field type params of field %s, check type "
                       "param `dim` for vector field",
                       f->name));
    }
    if (dim <= 1) {
        TRY(fail_param(st, "invalid dimension: %" PRId64 ". should be in range 2 ~ %u", dim,
                       lim->max_dim));
    }
    if (binary && dim % 8 != 0) {
        TRY(fail_param(st,
                       "invalid dimension: %" PRId64 " of field %s. binary vector dimension "
                       "should be multiple of 8. ",
                       dim, f->name));
    }
    if (dim > max) {
        TRY(fail_param(st,
                       "invalid dimension: %" PRId64 " of field %s. %s vector dimension should "
                       "be in range 2 ~ %" PRId64,
                       dim, f->name, binary ? "binary" : "float", max));
    }
out:
    return rc;
}

static int check_max_length(const field_pb *f, const char *coll, const struct schema_limits *lim,
                            struct status *st)
{
    int rc = 0;
    bool given;
    int64_t n;
    TRY(param_int(f, "max_length", &given, &n, st));
    if (!given) {
        TRY(fail_missing(st,
                         "type param(max_length) should be specified for the field(%s) of "
                         "collection %s",
                         f->name, coll));
    }
    if (n <= 0 || n > (int64_t)lim->max_varchar_length) {
        TRY(fail_param(st,
                       "the maximum length specified for the field(%s) should be in (0, %u], "
                       "but got %" PRId64 " instead",
                       f->name, lim->max_varchar_length, n));
    }
out:
    return rc;
}

static int check_array(const field_pb *f, const char *coll, const struct schema_limits *lim,
                       struct status *st)
{
    int rc = 0;
    bool given;
    int64_t n;
    enum dtype elem = (enum dtype)f->element_type;
    if (elem != DT_VARCHAR && (elem < DT_BOOL || elem > DT_DOUBLE || !dtype_known((int)elem))) {
        TRY(fail_param(st, "element type %s is not supported, field %s", dtype_name(elem),
                       f->name));
    }
    if (elem == DT_VARCHAR) {
        TRY(check_max_length(f, coll, lim, st));
    }
    TRY(param_int(f, "max_capacity", &given, &n, st));
    if (!given) {
        TRY(fail_missing(st,
                         "type param(max_capacity) should be specified for array field %s of "
                         "collection %s",
                         f->name, coll));
    }
    if (n <= 0 || n > (int64_t)lim->max_array_capacity) {
        TRY(fail_param(st,
                       "the maximum capacity specified for a Array should be in (0, %u], field "
                       "%s has %" PRId64,
                       lim->max_array_capacity, f->name, n));
    }
out:
    return rc;
}

static int check_default(const field_pb *pb, struct arena *ar, struct status *st)
{
    int rc = 0;
    struct slice cell;
    bool given;
    int64_t max_length;
    if (!pb->default_value) {
        goto out;
    }
    if (pb->is_primary_key) {
        TRY(fail_param(st, "primary field not support default_value, field name = %s", pb->name));
    }
    TRY(param_int(pb, "max_length", &given, &max_length, st));
    struct field f = {.name = pb->name,
                      .type = (enum dtype)pb->data_type,
                      .max_length = (uint32_t)max_length,
                      .pb = pb};
    TRY(default_cell(&f, ar, &cell, st));
out:
    return rc;
}

static int check_type(const field_pb *f, struct status *st)
{
    int rc = 0;
    int type = (int)f->data_type;
    if (type == MILVUS__PROTO__SCHEMA__DATA_TYPE__String) {
        TRY(fail_param(st, "string data type not supported yet, please use VarChar type instead"));
    }
    if (type == DT_NONE) {
        TRY(fail_param(st, "data type None is not valid, field name = %s", f->name));
    }
    if (type == DT_ARRAY_OF_VECTOR) {
        TRY(fail_param(st, "array of vector can only be in the struct array field, field name: %s",
                       f->name));
    }
    if (!dtype_known(type)) {
        TRY(fail_param(st, "data type %d of field %s is not valid", type, f->name));
    }
    if (!dtype_served((enum dtype)type)) {
        FAIL(st, ST_UNSUPPORTED, "data type %s of field %s is not supported",
             dtype_name((enum dtype)type), f->name);
    }
out:
    return rc;
}

/* What a field may not be at once. */
static int check_roles(const field_pb *f, struct status *st)
{
    int rc = 0;
    bool key_type = (int)f->data_type == DT_INT64 || (int)f->data_type == DT_VARCHAR;
    if (f->is_dynamic) {
        TRY(fail_param(st, "cannot explicitly set a field as a dynamic field, field name = %s",
                       f->name));
    }
    if (f->is_primary_key && !key_type) {
        TRY(fail_param(st,
                       "the data type of primary key should be Int64 or VarChar, field name = %s",
                       f->name));
    }
    if (f->autoid && !f->is_primary_key) {
        TRY(fail_param(st, "only primary field can speficy AutoID with true, field name = %s",
                       f->name));
    }
    if (f->is_primary_key && f->nullable) {
        TRY(fail_param(st, "primary field not support null, field name = %s", f->name));
    }
    if (f->is_partition_key) {
        if (f->is_primary_key) {
            TRY(fail_param(st, "the partition key field must not be primary field, field name = %s",
                           f->name));
        }
        if (!key_type) {
            TRY(fail_param(st,
                           "the data type of partition key should be Int64 or VarChar, field "
                           "name = %s",
                           f->name));
        }
        if (f->nullable) {
            TRY(fail_param(st, "partition key field not support nullable, field name = %s",
                           f->name));
        }
    }
    if (f->is_clustering_key && dtype_is_vector((enum dtype)f->data_type)) {
        FAIL(st, 107, "%s[field=%s]", err_text(107), f->name);
    }
out:
    return rc;
}

int schema_check_field(field_pb *pb, const char *collection_name, const struct schema_limits *lim,
                       struct arena *ar, struct status *st)
{
    int rc = 0;
    normalise_params(pb, ar);
    TRY(schema_check_field_name(slice_of(pb->name), lim->max_name_length, st));
    TRY(check_type(pb, st));
    TRY(check_roles(pb, st));
    if (dtype_is_vector((enum dtype)pb->data_type)) {
        TRY(check_dim(pb, lim, st));
    } else if ((int)pb->data_type == DT_VARCHAR) {
        TRY(check_max_length(pb, collection_name, lim, st));
    } else if ((int)pb->data_type == DT_ARRAY) {
        TRY(check_array(pb, collection_name, lim, st));
    }
    TRY(check_default(pb, ar, st));
out:
    return rc;
}

int schema_check_added_field(const struct schema *s, field_pb *pb, const struct schema_limits *lim,
                             struct arena *ar, struct status *st)
{
    int rc = 0;
    uint32_t nvectors = 0, nfields = s->nfields - (s->dynamic ? 1 : 0);
    TRY(schema_check_field(pb, s->collection_name, lim, ar, st));
    if (schema_field_by_name(s, slice_of(pb->name))) {
        TRY(fail_param(st, "duplicated field name %s found", pb->name));
    }
    if (pb->is_primary_key) {
        TRY(fail_param(st, "not support to add pk field, field name = %s", pb->name));
    }
    if (pb->is_partition_key) {
        TRY(fail_param(st, "not support to add partition key field, field name  = %s", pb->name));
    }
    if (!pb->nullable && !pb->default_value) {
        TRY(fail_param(st, "added field must be nullable, please check it, field name = %s",
                       pb->name));
    }
    if (nfields >= lim->max_fields) {
        TRY(fail_param(st, "maximum field's number should be limited to %u", lim->max_fields));
    }
    for (uint32_t i = 0; i < s->nfields; i++) {
        nvectors += dtype_is_vector(s->fields[i].type);
        if (pb->is_clustering_key && s->fields[i].is_clustering_key) {
            TRY(fail_param(st, "there are more than one clustering key, field name = %s, %s",
                           s->fields[i].name, pb->name));
        }
    }
    if (dtype_is_vector((enum dtype)pb->data_type) && nvectors >= lim->max_vector_fields) {
        TRY(fail_param(st, "maximum vector field's number should be limited to %u",
                       lim->max_vector_fields));
    }
out:
    return rc;
}

/* ---- All fields together */

static int check_counts(const collection_pb *pb, const struct schema_limits *lim, struct status *st)
{
    int rc = 0;
    uint32_t nvectors = 0;
    if (pb->n_functions) {
        FAIL(st, ST_UNSUPPORTED, "function %s: functions are not supported",
             pb->functions[0]->name);
    }
    if (pb->n_struct_array_fields) {
        FAIL(st, ST_UNSUPPORTED, "data type ArrayOfStruct of field %s is not supported",
             pb->struct_array_fields[0]->name);
    }
    if (pb->n_fields > lim->max_fields) {
        TRY(fail_param(st, "maximum field's number should be limited to %u", lim->max_fields));
    }
    for (size_t i = 0; i < pb->n_fields; i++) {
        nvectors += dtype_is_vector((enum dtype)pb->fields[i]->data_type);
    }
    if (nvectors > lim->max_vector_fields) {
        TRY(fail_param(st, "maximum vector field's number should be limited to %u",
                       lim->max_vector_fields));
    }
    if (nvectors == 0) {
        TRY(fail_param(st, "schema does not contain vector field"));
    }
out:
    return rc;
}

static int check_duplicates(const collection_pb *pb, struct status *st)
{
    for (size_t i = 0; i < pb->n_fields; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(pb->fields[i]->name, pb->fields[j]->name) == 0) {
                return fail_param(st, "duplicated field name %s found", pb->fields[i]->name);
            }
        }
    }
    return 0;
}

/* The keys a collection has at most one of, and exactly one primary key. */
static int check_keys(const collection_pb *pb, struct status *st)
{
    int rc = 0;
    const field_pb *pk = NULL, *part = NULL, *cluster = NULL;
    for (size_t i = 0; i < pb->n_fields; i++) {
        const field_pb *f = pb->fields[i];
        if (f->is_primary_key && pk) {
            TRY(fail_param(st, "there are more than one primary key, field name = %s, %s", pk->name,
                           f->name));
        }
        if (f->is_partition_key && part) {
            TRY(fail_param(st, "there are more than one partition key, field name = %s, %s",
                           part->name, f->name));
        }
        if (f->is_clustering_key && cluster) {
            TRY(fail_param(st, "there are more than one clustering key, field name = %s, %s",
                           cluster->name, f->name));
        }
        pk = f->is_primary_key ? f : pk;
        part = f->is_partition_key ? f : part;
        cluster = f->is_clustering_key ? f : cluster;
    }
    if (!pk) {
        TRY(fail_param(st, "primary key is not specified"));
    }
out:
    return rc;
}

static void move_auto_id(collection_pb *pb)
{
    for (size_t i = 0; pb->autoid && i < pb->n_fields; i++) {
        if (pb->fields[i]->is_primary_key) {
            pb->fields[i]->autoid = true;
        }
    }
    pb->autoid = false;
}

int schema_check(collection_pb *pb, const struct schema_limits *lim, struct arena *ar,
                 struct status *st)
{
    int rc = 0;
    TRY(check_counts(pb, lim, st));
    TRY(name_check(NAME_COLLECTION, slice_of(pb->name), lim->max_name_length, st));
    TRY(check_duplicates(pb, st));
    TRY(check_keys(pb, st));
    move_auto_id(pb);
    for (size_t i = 0; i < pb->n_fields; i++) {
        /* Only a function makes a field its output, and there are none. */
        pb->fields[i]->is_function_output = false;
        TRY(schema_check_field(pb->fields[i], pb->name, lim, ar, st));
    }
out:
    return rc;
}
