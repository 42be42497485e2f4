/*
 * schema.c - from the API's CollectionSchema to struct schema.
 *
 * The message is copied by packing and unpacking it into the schema's own arena; fields, names and
 * default cells live there too, so one release frees everything.
 * INVARIANTS  ids are unique and >= FIELD_FIRST_USER; exactly one key; at most one partition key;
 *             a dynamic field, when there is one, is the last field and is called $meta.
 * THREADS     Immutable once returned; the count is the only thing written, atomically.
 * NOT HERE    The rules of CreateCollection with the API's words: schema_check.c.
 */
#include "schema/schema.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/utf8.h"
#include "proto/proto.h"
#include "schema/schema_int.h"
#include <inttypes.h>
#include <stdatomic.h>

#define SCHEMA_BYTES_MAX ((size_t)64 << 20)

struct schema_box {
    struct schema s; /* first: the public pointer is the box's */
    atomic_int refs;
    struct arena *ar;
};

const char *field_param(const Milvus__Proto__Schema__FieldSchema *pb, const char *key)
{
    for (size_t i = 0; i < pb->n_type_params; i++) {
        if (strcmp(pb->type_params[i]->key, key) == 0) {
            return pb->type_params[i]->value;
        }
    }
    return NULL;
}

int param_int(const Milvus__Proto__Schema__FieldSchema *pb, const char *key, bool *ret_given,
              int64_t *ret, struct status *st)
{
    const char *text = field_param(pb, key);
    int64_t v = 0;
    if (text) {
        struct slice s = slice_of(text);
        if (s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"') {
            s = slice_n(s.p + 1, s.n - 2);
        }
        if (!parse_i64(s, &v)) {
            return fail_param(st, "the value for %s of field %s must be an integer, but got %s",
                              key, pb->name, text);
        }
    }
    *ret_given = text != NULL;
    *ret = v;
    return 0;
}

static int param_u32(const Milvus__Proto__Schema__FieldSchema *pb, const char *key, uint32_t *ret,
                     struct status *st)
{
    int rc = 0;
    bool given;
    int64_t v;
    TRY(param_int(pb, key, &given, &v, st));
    if (given && (v <= 0 || v > UINT32_MAX)) {
        FAIL(st, ST_INVALID, "field \"%s\": %s %" PRId64 " is out of range", pb->name, key, v);
    }
    *ret = (uint32_t)v;
out:
    return rc;
}

static bool array_elem_known(enum dtype t)
{
    return t == DT_VARCHAR || (t >= DT_BOOL && t <= DT_DOUBLE && dtype_known((int)t));
}

static int check_layout(const struct field *f, struct status *st)
{
    int rc = 0;
    if (!dtype_known((int)f->type) || f->type == DT_ARRAY_OF_STRUCT) {
        FAIL(st, ST_INVALID, "field \"%s\": data type %d cannot be stored", f->name, (int)f->type);
    }
    if (f->type == DT_ARRAY && !array_elem_known(f->elem)) {
        FAIL(st, ST_INVALID, "field \"%s\": no arrays of %s", f->name, dtype_name(f->elem));
    }
    if (f->type == DT_ARRAY_OF_VECTOR && !dtype_is_dense(f->elem)) {
        FAIL(st, ST_INVALID, "field \"%s\": no arrays of %s", f->name, dtype_name(f->elem));
    }
    enum dtype vec = f->type == DT_ARRAY_OF_VECTOR ? f->elem : f->type;
    if (dtype_is_dense(vec) && (f->dim == 0 || (vec == DT_BINARY_VECTOR && f->dim % 8))) {
        FAIL(st, ST_INVALID, "field \"%s\": dim %u does not fit %s", f->name, f->dim,
             dtype_name(vec));
    }
out:
    return rc;
}

static int make_field(const Milvus__Proto__Schema__FieldSchema *pb, struct arena *ar,
                      struct field *ret, struct status *st)
{
    int rc = 0;
    *ret = (struct field){
        .id = pb->fieldid,
        .name = pb->name,
        .type = (enum dtype)pb->data_type,
        .elem = (enum dtype)pb->element_type,
        .is_pk = pb->is_primary_key,
        .auto_id = pb->autoid,
        .nullable = pb->nullable,
        .is_dynamic = pb->is_dynamic,
        .is_partition_key = pb->is_partition_key,
        .is_clustering_key = pb->is_clustering_key,
        .is_function_output = pb->is_function_output,
        .pb = pb,
    };
    if (pb->fieldid < FIELD_FIRST_USER || !pb->name[0]) {
        FAIL(st, ST_INVALID, "field \"%s\" has id %" PRId64 ": ids begin at %d", pb->name,
             pb->fieldid, FIELD_FIRST_USER);
    }
    /* Parameters of other types mean nothing here, whatever they say. */
    if (dtype_is_vector(ret->type)) {
        TRY(param_u32(pb, "dim", &ret->dim, st));
    }
    if (dtype_is_string(ret->type) || (ret->type == DT_ARRAY && dtype_is_string(ret->elem))) {
        TRY(param_u32(pb, "max_length", &ret->max_length, st));
    }
    if (ret->type == DT_ARRAY || ret->type == DT_ARRAY_OF_VECTOR) {
        TRY(param_u32(pb, "max_capacity", &ret->max_capacity, st));
    }
    TRY(check_layout(ret, st));
    if (pb->default_value && pb->default_value->data_case) {
        TRY(default_cell(ret, ar, &ret->default_cell, st));
        ret->has_default = true;
    }
out:
    return rc;
}

/* Names the special fields and checks what must be true of all fields together. */
static int link_fields(struct schema *s, struct status *st)
{
    int rc = 0;
    for (uint32_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        if (schema_field(s, f->id) != f || schema_field_by_name(s, slice_of(f->name)) != f) {
            FAIL(st, ST_INVALID, "field \"%s\" (id %" PRId64 ") occurs twice", f->name, f->id);
        }
        const struct field **slot = f->is_pk              ? &s->pk
                                    : f->is_dynamic       ? &s->dynamic
                                    : f->is_partition_key ? &s->partition_key
                                                          : NULL;
        if (slot && *slot) {
            FAIL(st, ST_INVALID, "fields \"%s\" and \"%s\" claim the same place", (*slot)->name,
                 f->name);
        }
        if (slot) {
            *slot = f;
        }
    }
    if (!s->pk || (s->pk->type != DT_INT64 && s->pk->type != DT_VARCHAR) || s->pk->nullable) {
        FAIL(st, ST_INVALID, "schema of \"%s\" has no usable primary key", s->collection_name);
    }
    if (s->dynamic && (s->dynamic->type != DT_JSON || s->dynamic != &s->fields[s->nfields - 1])) {
        FAIL(st, ST_INVALID, "dynamic field \"%s\" is not JSON", s->dynamic->name);
    }
    if (s->pb->enable_dynamic_field && !s->dynamic) {
        FAIL(st, ST_INVALID, "schema of \"%s\" has dynamic fields but no " META_FIELD_NAME,
             s->collection_name);
    }
out:
    return rc;
}

static int copy_message(const Milvus__Proto__Schema__CollectionSchema *pb, struct arena *ar,
                        const Milvus__Proto__Schema__CollectionSchema **ret, struct status *st)
{
    int rc = 0;
    struct buf b;
    buf_init(&b, SCHEMA_BYTES_MAX);
    if (!proto_pack(&pb->pb, &b)) {
        FAIL(st, ST_NO_MEMORY, "schema of \"%s\" is too large to keep", pb->name);
    }
    const Milvus__Proto__Schema__CollectionSchema *copy =
        proto_unpack(&milvus__proto__schema__collection_schema__descriptor, buf_slice(&b), ar, st);
    if (!copy) {
        rc = st->code;
        goto out;
    }
    *ret = copy;
out:
    buf_done(&b);
    return rc;
}

int schema_new(const Milvus__Proto__Schema__CollectionSchema *pb, struct schema **ret_schema,
               struct status *st)
{
    int rc = 0;
    struct arena *ar = arena_new(0);
    struct schema_box *box = ARENA_NEW(ar, struct schema_box);
    struct schema *s = &box->s;
    TRY(copy_message(pb, ar, &s->pb, st));
    s->collection_name = s->pb->name;
    s->version = s->pb->version;
    struct field *fields = arena_try_array(ar, s->pb->n_fields, sizeof *fields);
    if (!fields || s->pb->n_fields > UINT32_MAX) {
        FAIL(st, ST_NO_MEMORY, "schema of \"%s\": %zu fields", pb->name, s->pb->n_fields);
    }
    s->fields = fields;
    for (int dynamic = 0; dynamic <= 1; dynamic++) {
        for (size_t i = 0; i < s->pb->n_fields; i++) {
            if (!s->pb->fields[i]->is_dynamic == !dynamic) {
                TRY(make_field(s->pb->fields[i], ar, &fields[s->nfields], st));
                s->nfields++;
            }
        }
    }
    TRY(link_fields(s, st));
    atomic_init(&box->refs, 1);
    box->ar = TAKE(ar);
    *ret_schema = s;
out:
    arena_free(ar);
    return rc;
}

static struct schema_box *box_of(const struct schema *s)
{
    return CONTAINER_OF(s, struct schema_box, s);
}

struct schema *schema_ref(const struct schema *s)
{
    struct schema_box *box = box_of(s);
    atomic_fetch_add_explicit(&box->refs, 1, memory_order_relaxed);
    return &box->s;
}

void schema_unref(struct schema *s)
{
    if (!s) {
        return;
    }
    struct schema_box *box = box_of(s);
    /* Release pairs with the acquire of whoever takes the count to zero: uses come before. */
    if (atomic_fetch_sub_explicit(&box->refs, 1, memory_order_acq_rel) == 1) {
        arena_free(box->ar);
    }
}

const struct field *schema_field(const struct schema *s, int64_t id)
{
    for (uint32_t i = 0; i < s->nfields; i++) {
        if (s->fields[i].id == id) {
            return &s->fields[i];
        }
    }
    return NULL;
}

const struct field *schema_field_by_name(const struct schema *s, struct slice name)
{
    for (uint32_t i = 0; i < s->nfields; i++) {
        if (slice_is(name, s->fields[i].name)) {
            return &s->fields[i];
        }
    }
    return NULL;
}
