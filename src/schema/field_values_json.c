/*
 * field_values_json.c - JSON columns and the dynamic field of a request as cells.
 *
 * Every text is one valid JSON value of at most JSON_BYTES_MAX bytes. The dynamic field ($meta)
 * holds one object per row, whose keys must not hide declared fields.
 * THREADS  Any.
 */
#include "base/json.h"
#include "schema/field_values.h"
#include "schema/schema_int.h"

#define JSON_BYTES_MAX 65536u

static int check_length(const struct field_values *in, size_t n, struct status *st)
{
    if (n <= JSON_BYTES_MAX) {
        return 0;
    }
    if (in->f->is_dynamic) {
        return fail_expected(st, "valid length dynamic field", "length exceeds max length",
                             "the length (%zu) of dynamic field exceeds max length (%u)", n,
                             JSON_BYTES_MAX);
    }
    return fail_expected(st, "valid length json string", "length exceeds max length",
                         "the length (%zu) of json field (%s) exceeds max length (%u)", n,
                         in->f->name, JSON_BYTES_MAX);
}

static int check_key(const struct field_values *in, struct slice key, bool escaped, uint32_t i,
                     struct status *st)
{
    if (escaped) {
        char *plain = arena_try(in->ar, key.n);
        if (!plain) {
            return fail_memory(st);
        }
        key = slice_n(plain, json_unescape(key, plain));
    }
    const struct field *f = schema_field_by_name(in->schema, key);
    if (!f) {
        return 0;
    }
    if (f->is_dynamic) {
        return fail_param(st, "cannot set key name to: %s, row number: %u", f->name,
                          field_values_row(in, i));
    }
    return fail_param(st,
                      "dynamic field name cannot include the static field name: %s, row number: "
                      "%u",
                      f->name, field_values_row(in, i));
}

static int check_object(const struct field_values *in, struct slice text, uint32_t i,
                        struct status *st)
{
    int rc = 0;
    struct json_value obj, value;
    struct slice key;
    size_t pos = 0;
    bool escaped;
    if (!json_parse(text, &obj) || obj.type != JSON_OBJECT) {
        TRY(fail_param(st, "dynamic field must be a JSON object, row number: %u",
                       field_values_row(in, i)));
    }
    while (json_next(&obj, &pos, &key, &escaped, &value)) {
        TRY(check_key(in, key, escaped, i, st));
    }
out:
    return rc;
}

static int check_text(const struct field_values *in, struct slice text, uint32_t i,
                      struct status *st)
{
    int rc = 0;
    struct status why = STATUS_INIT;
    TRY(check_length(in, text.n, st));
    if (json_validate(text, &why)) {
        TRY(fail_param(st, "field %s, row number: %u is not valid JSON: %s", in->f->name,
                       field_values_row(in, i), why.msg));
    }
    if (in->f->is_dynamic) {
        TRY(check_object(in, text, i, st));
    }
out:
    return rc;
}

int field_values_json(const struct field_values *in, struct column *ret, struct status *st)
{
    int rc = 0;
    const ProtobufCBinaryData *v = in->fd->scalars->json_data->data;
    uint64_t *ends = arena_try_array(in->ar, in->ncells, 8), total = 0;
    if (!ends) {
        TRY(fail_memory(st));
    }
    for (uint32_t i = 0; i < in->ncells; i++) {
        if (!field_values_skip(in, i)) {
            TRY(check_text(in, slice_n(v[i].data, v[i].len), i, st));
        }
        total += v[i].len;
        ends[i] = total;
    }
    uint8_t *data = arena_try(in->ar, total);
    if (!data) {
        TRY(fail_memory(st));
    }
    for (uint32_t i = 0; i < in->ncells; i++) {
        if (v[i].len) {
            memcpy(data + (ends[i] - v[i].len), v[i].data, v[i].len);
        }
    }
    ret->ends = ends;
    ret->data = data;
out:
    return rc;
}
