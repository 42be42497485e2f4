/*
 * fuzz_schema.c - a CollectionSchema from outside: schema_check(), then schema_new().
 *
 * What the check accepts must be accepted again as it left it, and, with ids given as the
 * coordinator gives them, must be a schema whose every field can be found and has a size.
 */
#include "base/alloc.h"
#include "proto/proto.h"
#include "schema/schema.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef Milvus__Proto__Schema__CollectionSchema collection_schema;
typedef Milvus__Proto__Schema__FieldSchema field_schema;

static void give_ids(collection_schema *pb, struct arena *ar)
{
    field_schema **fields = arena_alloc(ar, (pb->n_fields + 1) * sizeof *fields);
    for (size_t i = 0; i < pb->n_fields; i++) {
        fields[i] = pb->fields[i];
        fields[i]->fieldid = 100 + (int64_t)i;
    }
    if (pb->enable_dynamic_field) {
        field_schema *f = ARENA_NEW(ar, field_schema);
        *f = (field_schema)MILVUS__PROTO__SCHEMA__FIELD_SCHEMA__INIT;
        f->fieldid = 100 + (int64_t)pb->n_fields;
        f->name = META_FIELD_NAME;
        f->data_type = MILVUS__PROTO__SCHEMA__DATA_TYPE__JSON;
        f->is_dynamic = true;
        fields[pb->n_fields++] = f;
    }
    pb->fields = fields;
}

static void check_schema(const struct schema *s, size_t nfields)
{
    CHECK(s->nfields == nfields && s->pk && s->pk->is_pk);
    for (uint32_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        CHECK(schema_field(s, f->id) == f);
        CHECK(schema_field_by_name(s, slice_of(f->name)) == f);
        CHECK(dtype_known((int)f->type));
        CHECK(!dtype_is_dense(f->type) || f->dim > 0);
        CHECK(f->type != DT_VARCHAR || f->max_length > 0);
        CHECK(f->type != DT_ARRAY || (f->max_capacity > 0 && dtype_known((int)f->elem)));
        CHECK(!f->has_default || dtype_width(f->type, f->dim) == 0 ||
              f->default_cell.n == dtype_width(f->type, f->dim));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct schema_limits lim = SCHEMA_LIMITS_DEFAULT;
    struct arena *ar = arena_new((size_t)64 << 20);
    struct status st = STATUS_INIT;
    struct schema *s = NULL;
    collection_schema *pb =
        proto_unpack(&milvus__proto__schema__collection_schema__descriptor, slice_n(data, size),
                     ar, &st);
    if (pb) {
        /* As it is: nobody may rely on the check alone. */
        if (schema_new(pb, &s, &st) == 0) {
            schema_unref(TAKE(s));
        }
        st = (struct status)STATUS_INIT;
        int rc = schema_check(pb, &lim, ar, &st);
        if (rc == 0) {
            CHECK(schema_check(pb, &lim, ar, &st) == 0);
            give_ids(pb, ar);
            CHECK(schema_new(pb, &s, &st) == 0);
            check_schema(s, pb->n_fields);
            schema_unref(s);
        } else {
            CHECK(st.code == rc && st.msg[0] != '\0');
        }
    }
    arena_free(ar);
    return 0;
}
