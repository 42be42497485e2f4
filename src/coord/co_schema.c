/*
 * co_schema.c - what the coordinator does to a collection's schema: give ids, add fields, compare.
 *
 * Ids count from 100 in the order sent; fields of structs and then $meta follow. Everything works
 * in place on a message of the caller's arena, never on a record's.
 * NOT HERE   The rules of schemas: the proxy has checked them (schema/schema.h).
 */
#include "coord/co_int.h"

static pb_field *find_field(const pb_schema *s, const char *name)
{
    for (size_t i = 0; i < s->n_fields; i++) {
        if (strcmp(s->fields[i]->name, name) == 0) {
            return s->fields[i];
        }
    }
    return NULL;
}

static int field_ids(const pb_schema *s, const char *const *names, size_t n, bool output,
                     struct arena *ar, int64_t **ret_ids, size_t *ret_n, struct status *st)
{
    int64_t *ids = arena_try_array(ar, n + 1, sizeof *ids);
    int rc = 0;

    if (!ids) {
        FAIL(st, ST_NO_MEMORY, "no memory for a function of %zu fields", n);
    }
    for (size_t i = 0; i < n; i++) {
        pb_field *f = find_field(s, names[i]);
        if (!f) {
            FAIL(st, ERR_FIELD_NOT_FOUND, "field not found[field=%s]", names[i]);
        }
        f->is_function_output |= output;
        ids[i] = f->fieldid;
    }
    *ret_ids = ids;
    *ret_n = n;
out:
    return rc;
}

pb_field *co__schema_meta_field(int64_t id, struct arena *ar)
{
    pb_field *f = ARENA_NEW(ar, pb_field);

    milvus__proto__schema__field_schema__init(f);
    f->fieldid = id;
    f->name = "$meta";
    f->description = "dynamic schema";
    f->data_type = MILVUS__PROTO__SCHEMA__DATA_TYPE__JSON;
    f->is_dynamic = true;
    return f;
}

static void append_field(pb_schema *s, pb_field *f, struct arena *ar)
{
    pb_field **fields = arena_alloc(ar, (s->n_fields + 1) * sizeof(pb_field *));

    if (s->n_fields > 0) {
        memcpy(fields, s->fields, s->n_fields * sizeof(pb_field *));
    }
    fields[s->n_fields++] = f;
    s->fields = fields;
}

void co__schema_add_field(pb_schema *s, pb_field *f, struct arena *ar)
{
    size_t last = s->n_fields;

    append_field(s, f, ar);
    if (last > 0 && s->fields[last - 1]->is_dynamic) {
        s->fields[last] = s->fields[last - 1];
        s->fields[last - 1] = f;
    }
}

int co__schema_assign(pb_schema *s, int64_t *ret_next_id, struct arena *ar, struct status *st)
{
    int64_t id = CO_FIRST_FIELD_ID;
    int64_t function_id = CO_FIRST_FIELD_ID;
    int rc = 0;

    for (size_t i = 0; i < s->n_fields; i++) {
        s->fields[i]->fieldid = id++;
    }
    for (size_t i = 0; i < s->n_struct_array_fields; i++) {
        s->struct_array_fields[i]->fieldid = id++;
        for (size_t j = 0; j < s->struct_array_fields[i]->n_fields; j++) {
            s->struct_array_fields[i]->fields[j]->fieldid = id++;
        }
    }
    if (s->enable_dynamic_field) {
        append_field(s, co__schema_meta_field(id++, ar), ar);
    }
    for (size_t i = 0; i < s->n_functions; i++) {
        Milvus__Proto__Schema__FunctionSchema *fn = s->functions[i];
        fn->id = function_id++;
        TRY(field_ids(s, fn->input_field_names, fn->n_input_field_names, false, ar,
                      &fn->input_field_ids, &fn->n_input_field_ids, st));
        TRY(field_ids(s, fn->output_field_names, fn->n_output_field_names, true, ar,
                      &fn->output_field_ids, &fn->n_output_field_ids, st));
    }
    *ret_next_id = id;
out:
    return rc;
}

bool co__pb_equal(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    struct buf x, y;
    bool equal;

    buf_init(&x, (size_t)64 << 20);
    buf_init(&y, (size_t)64 << 20);
    equal = proto_pack(a, &x) && proto_pack(b, &y) && slice_eq(buf_slice(&x), buf_slice(&y));
    buf_done(&x);
    buf_done(&y);
    return equal;
}

const char *co__kv(pb_kv *const *kvs, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(kvs[i]->key, key) == 0) {
            return kvs[i]->value;
        }
    }
    return NULL;
}

void co__kv_merge(pb_kv *const *old, size_t nold, pb_kv *const *set, size_t nset,
                  const char *const *del, size_t ndel, struct arena *ar, pb_kv ***ret,
                  size_t *ret_n)
{
    pb_kv **kvs = arena_alloc(ar, (nold + nset + 1) * sizeof(pb_kv *));
    size_t n = 0;

    for (size_t i = 0; i < nold; i++) {
        bool gone = co__kv(set, nset, old[i]->key) != NULL;
        for (size_t j = 0; j < ndel && !gone; j++) {
            gone = strcmp(del[j], old[i]->key) == 0;
        }
        if (!gone) {
            kvs[n++] = old[i];
        }
    }
    for (size_t i = 0; i < nset; i++) {
        if (co__kv(&set[i + 1], nset - i - 1, set[i]->key) == NULL) { /* the last one counts */
            kvs[n++] = set[i];
        }
    }
    *ret = kvs;
    *ret_n = n;
}
