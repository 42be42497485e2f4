/*
 * px_plan.c - filter text and template values -> plan; names of output fields -> field ids.
 */
#include "proxy/px_plan.h"
#include "base/json.h"
#include "base/utf8.h"
#include "proxy/px_write.h"
#include <stdlib.h>

#define TEMPLATE_DEPTH_MAX 16
#define PLAN_BYTES_MAX ((size_t)64 << 20)

static int too_large(struct status *st)
{
    return st_fail(st, ERR_PARAMETER_TOO_LARGE, "the filter needs more memory than a request may "
                   "use");
}

/* ---- templates ---- */

static int json_to_value(struct slice text, struct arena *ar, struct value *ret,
                         struct status *st)
{
    struct json_value v;

    if (json_validate(text, st) != 0 || !json_parse(text, &v)) {
        return st_fail(st, ERR_PARAMETER_INVALID, "a template value is not JSON");
    }
    switch (v.type) {
    case JSON_BOOL:
        *ret = (struct value){ .type = VAL_BOOL, .b = v.b };
        return 0;
    case JSON_INT:
        *ret = (struct value){ .type = VAL_INT, .i = v.i };
        return 0;
    case JSON_UINT:
    case JSON_DOUBLE:
        *ret = (struct value){ .type = VAL_DOUBLE, .d = json_number(&v) };
        return 0;
    case JSON_STRING:
        *ret = (struct value){ .type = VAL_STRING, .s = json_string(&v, ar) };
        return 0;
    default:
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "a template value may not be an object, array or null inside a list");
    }
}

static int array_to_value(const Milvus__Proto__Schema__TemplateArrayValue *a, struct arena *ar,
                          int depth, struct value *ret, struct status *st);

/* Fills items[i] for one kind of list. */
#define FILL(list, vtype, member)                                                                  \
    do {                                                                                           \
        n = (list) ? (list)->n_data : 0;                                                           \
        items = arena_try_array(ar, n + 1, sizeof *items);                                         \
        if (!items) {                                                                              \
            return too_large(st);                                                                  \
        }                                                                                          \
        for (size_t i = 0; i < n; i++) {                                                           \
            items[i].type = vtype;                                                                 \
            items[i].member = (list)->data[i];                                                     \
        }                                                                                          \
    } while (0)

static int array_to_value(const Milvus__Proto__Schema__TemplateArrayValue *a, struct arena *ar,
                          int depth, struct value *ret, struct status *st)
{
    struct value *items = NULL;
    size_t n = 0;
    int rc = 0;

    if (depth > TEMPLATE_DEPTH_MAX) {
        return st_fail(st, ERR_PARAMETER_INVALID, "a template value is nested deeper than %d",
                       TEMPLATE_DEPTH_MAX);
    }
    switch (a ? a->data_case : MILVUS__PROTO__SCHEMA__TEMPLATE_ARRAY_VALUE__DATA__NOT_SET) {
    case MILVUS__PROTO__SCHEMA__TEMPLATE_ARRAY_VALUE__DATA_BOOL_DATA:
        FILL(a->bool_data, VAL_BOOL, b);
        break;
    case MILVUS__PROTO__SCHEMA__TEMPLATE_ARRAY_VALUE__DATA_LONG_DATA:
        FILL(a->long_data, VAL_INT, i);
        break;
    case MILVUS__PROTO__SCHEMA__TEMPLATE_ARRAY_VALUE__DATA_DOUBLE_DATA:
        FILL(a->double_data, VAL_DOUBLE, d);
        break;
    case MILVUS__PROTO__SCHEMA__TEMPLATE_ARRAY_VALUE__DATA_STRING_DATA:
        n = a->string_data ? a->string_data->n_data : 0;
        items = arena_try_array(ar, n + 1, sizeof *items);
        for (size_t i = 0; items && i < n; i++) {
            items[i] = (struct value){ .type = VAL_STRING, .s = slice_of(a->string_data->data[i]) };
        }
        break;
    case MILVUS__PROTO__SCHEMA__TEMPLATE_ARRAY_VALUE__DATA_ARRAY_DATA:
        n = a->array_data ? a->array_data->n_data : 0;
        items = arena_try_array(ar, n + 1, sizeof *items);
        for (size_t i = 0; items && i < n; i++) {
            TRY(array_to_value(a->array_data->data[i], ar, depth + 1, &items[i], st));
        }
        break;
    case MILVUS__PROTO__SCHEMA__TEMPLATE_ARRAY_VALUE__DATA_JSON_DATA:
        n = a->json_data ? a->json_data->n_data : 0;
        items = arena_try_array(ar, n + 1, sizeof *items);
        for (size_t i = 0; items && i < n; i++) {
            TRY(json_to_value(slice_n(a->json_data->data[i].data, a->json_data->data[i].len), ar,
                              &items[i], st));
        }
        break;
    default: /* an empty list */
        items = arena_try_array(ar, 1, sizeof *items);
        break;
    }
    if (!items) {
        return too_large(st);
    }
    *ret = (struct value){ .type = VAL_ARRAY, .a = { .items = items, .n = (uint32_t)n } };
out:
    return rc;
}

static int template_to_value(const Milvus__Proto__Schema__TemplateValue *t, struct arena *ar,
                             struct value *ret, struct status *st)
{
    switch (t ? t->val_case : MILVUS__PROTO__SCHEMA__TEMPLATE_VALUE__VAL__NOT_SET) {
    case MILVUS__PROTO__SCHEMA__TEMPLATE_VALUE__VAL_BOOL_VAL:
        *ret = (struct value){ .type = VAL_BOOL, .b = t->bool_val };
        return 0;
    case MILVUS__PROTO__SCHEMA__TEMPLATE_VALUE__VAL_INT64_VAL:
        *ret = (struct value){ .type = VAL_INT, .i = t->int64_val };
        return 0;
    case MILVUS__PROTO__SCHEMA__TEMPLATE_VALUE__VAL_FLOAT_VAL:
        *ret = (struct value){ .type = VAL_DOUBLE, .d = t->float_val };
        return 0;
    case MILVUS__PROTO__SCHEMA__TEMPLATE_VALUE__VAL_STRING_VAL:
        *ret = (struct value){ .type = VAL_STRING, .s = slice_of(t->string_val) };
        return 0;
    case MILVUS__PROTO__SCHEMA__TEMPLATE_VALUE__VAL_ARRAY_VAL:
        return array_to_value(t->array_val, ar, 0, ret, st);
    case MILVUS__PROTO__SCHEMA__TEMPLATE_VALUE__VAL_BYTES_VAL:
        return st_fail(st, ERR_PARAMETER_INVALID, "template values of type bytes are not "
                                                  "supported");
    default:
        return st_fail(st, ERR_PARAMETER_INVALID, "a template value has no value");
    }
}

/* ---- plans ---- */

int px_plan_parse(struct px_call *pc, const struct px_coll *coll, const char *text,
                  const struct px_template *templates, size_t ntemplates, const char *context,
                  const struct expr **ret, struct status *st)
{
    struct template_value *tv = arena_try_array(pc->ar, ntemplates + 1, sizeof *tv);
    int rc = 0;

    if (!tv) {
        return too_large(st);
    }
    for (size_t i = 0; i < ntemplates; i++) {
        tv[i].name = slice_of(templates[i].key);
        rc = template_to_value(templates[i].value, pc->ar, &tv[i].value, st);
        if (rc != 0) {
            st_context(st, "%s: expr_template_values[%s]", context, templates[i].key);
            goto out;
        }
    }
    rc = filter_parse(slice_of(text), coll->schema, tv, ntemplates, pc->ar, ret, st);
    if (rc != 0) {
        st_context(st, "%s", context);
    }
out:
    return rc;
}

int px_plan_bytes(struct px_call *pc, const struct expr *e, ProtobufCBinaryData *ret,
                  struct status *st)
{
    struct buf b;
    int rc = 0;

    *ret = (ProtobufCBinaryData){ 0 };
    if (!e) {
        return 0;
    }
    buf_init(&b, PLAN_BYTES_MAX);
    ret->data = plan_encode(e, &b) ? arena_try(pc->ar, b.n) : NULL;
    if (!ret->data) {
        rc = too_large(st);
        goto out;
    }
    memcpy(ret->data, b.p, b.n);
    ret->len = b.n;
out:
    buf_done(&b);
    return rc;
}

static int compare_values(const void *a, const void *b)
{
    const struct value *x = a, *y = b;
    if (x->type == VAL_STRING) {
        return slice_cmp(x->s, y->s);
    }
    return (x->i > y->i) - (x->i < y->i);
}

int px_plan_pk_in(struct px_call *pc, const struct px_coll *coll, const struct column *pks,
                  const struct expr **ret, struct status *st)
{
    struct expr *e = ARENA_NEW(pc->ar, struct expr);
    struct value *items = arena_try_array(pc->ar, pks->nrows + 1u, sizeof *items);
    uint32_t n = 0;

    if (!items) {
        return too_large(st);
    }
    for (uint32_t i = 0; i < pks->nrows; i++) {
        if (pks->type == DT_INT64) {
            items[i] = (struct value){ .type = VAL_INT, .i = column_i64(pks, i) };
        } else {
            items[i] = (struct value){ .type = VAL_STRING, .s = column_cell(pks, i) };
        }
    }
    qsort(items, pks->nrows, sizeof *items, compare_values);
    for (uint32_t i = 0; i < pks->nrows; i++) { /* a plan's list has each value once */
        if (n == 0 || compare_values(&items[n - 1], &items[i]) != 0) {
            items[n++] = items[i];
        }
    }
    e->kind = EX_IN;
    e->operand = (struct operand){ .field_id = coll->schema->pk->id,
                                   .type = coll->schema->pk->type };
    e->value = (struct value){ .type = VAL_ARRAY, .a = { .items = items, .n = n } };
    *ret = e;
    return 0;
}

const struct expr *px_plan_after(struct px_call *pc, const struct px_coll *coll,
                                 const struct expr *plan, const struct column *pks, uint32_t row)
{
    struct expr *cmp = ARENA_NEW(pc->ar, struct expr), *both;
    const struct expr **kids;

    cmp->kind = EX_CMP;
    cmp->op = OP_GT;
    cmp->operand = (struct operand){ .field_id = coll->schema->pk->id,
                                     .type = coll->schema->pk->type };
    if (pks->type == DT_INT64) {
        cmp->value = (struct value){ .type = VAL_INT, .i = column_i64(pks, row) };
    } else {
        cmp->value = (struct value){ .type = VAL_STRING, .s = column_cell(pks, row) };
    }
    if (!plan) {
        return cmp;
    }
    both = ARENA_NEW(pc->ar, struct expr);
    kids = arena_alloc(pc->ar, 2 * sizeof *kids);
    kids[0] = cmp;
    kids[1] = plan;
    both->kind = EX_AND;
    both->kids = kids;
    both->nkids = 2;
    return both;
}

int px_plan_column(struct px_call *pc, const struct field *f, const struct value *list,
                   struct column *ret, struct status *st)
{
    struct column_builder *cb = column_builder_new(pc->ar, f->id, f->type, DT_NONE, 0, list->a.n);

    for (uint32_t i = 0; i < list->a.n; i++) {
        const struct value *v = &list->a.items[i];
        struct slice cell = v->type == VAL_STRING ? v->s : slice_n(&v->i, 8);
        if (v->type != (f->type == DT_INT64 ? VAL_INT : VAL_STRING)) {
            return st_fail(st, ERR_PARAMETER_INVALID, "field %s: a value of another type", f->name);
        }
        if (!column_builder_add(cb, cell)) {
            return too_large(st);
        }
    }
    column_builder_finish(cb, ret);
    return 0;
}

int px_plan_partitions(struct px_call *pc, const struct px_coll *coll, const struct expr *plan,
                       int64_t **ret_ids, size_t *ret_n, struct status *st)
{
    const struct field *key = coll->schema->partition_key;
    const struct value *list = key ? plan_field_list(plan, key->id) : NULL;
    size_t n = coll->info->n_partitions, count = 0;
    int64_t *sorted, *ids;
    struct column col;
    bool *wanted;
    int rc;

    if (!list || list->a.n == 0 || n < 2) {
        return 0;
    }
    TRY(px_plan_column(pc, key, list, &col, st));
    sorted = px_key_partitions(pc, coll);
    wanted = arena_try_array(pc->ar, n, sizeof *wanted);
    ids = arena_try_array(pc->ar, n, sizeof *ids);
    if (!sorted || !wanted || !ids) {
        return too_large(st);
    }
    for (uint32_t r = 0; r < col.nrows; r++) {
        wanted[pk_hash(&col, r) % (uint32_t)n] = true;
    }
    for (size_t i = 0; i < n; i++) {
        if (wanted[i]) {
            ids[count++] = sorted[i];
        }
    }
    if (count < n) {
        *ret_ids = ids;
        *ret_n = count;
    }
out:
    return rc;
}

/* ---- output fields ---- */

static void want_field(struct px_output *out, int64_t id)
{
    for (size_t i = 0; i < out->nfields; i++) {
        if (out->field_ids[i] == id) {
            return;
        }
    }
    out->field_ids[out->nfields++] = id;
}

static void want_name(struct px_output *out, const char *name)
{
    for (size_t i = 0; i < out->nnames; i++) {
        if (strcmp(out->names[i], name) == 0) {
            return;
        }
    }
    out->names[out->nnames++] = name;
}

/* The key that name stands for: itself, or k of $meta["k"]. */
static struct slice dynamic_key(struct px_call *pc, const struct schema *s, const char *name)
{
    struct slice field = slice_of(s->dynamic->name), rest = slice_of(name);
    char *text;

    if (!slice_starts(rest, field)) {
        return rest;
    }
    rest = slice_n(rest.p + field.n, rest.n - field.n);
    if (rest.n < 4 || rest.p[0] != '[' || rest.p[rest.n - 1] != ']' ||
        (rest.p[1] != '"' && rest.p[1] != '\'') || rest.p[rest.n - 2] != rest.p[1]) {
        return slice_of(name);
    }
    rest = slice_n(rest.p + 2, rest.n - 4);
    text = arena_alloc(pc->ar, rest.n + 1);
    return slice_n(text, json_unescape(rest, text));
}

static int one_output(struct px_call *pc, const struct schema *s, const char *name,
                      struct px_output *out, struct status *st)
{
    const struct field *f = schema_field_by_name(s, slice_of(name));

    if (f) {
        if (f->is_function_output) {
            return st_fail(st, ERR_PARAMETER_INVALID, "not allowed to retrieve raw data of field "
                                                      "%s",
                           name);
        }
        want_field(out, f->id);
        want_name(out, f->name);
        return 0;
    }
    if (!s->dynamic) {
        return st_fail(st, ERR_PARAMETER_INVALID, "field %s not exist", name);
    }
    want_field(out, s->dynamic->id);
    want_name(out, name);
    out->keys[out->nkeys++] = dynamic_key(pc, s, name);
    return 0;
}

static bool names_field(const struct px_output *out, const char *name)
{
    for (size_t i = 0; i < out->nnames; i++) {
        if (strcmp(out->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

int px_output_fields(struct px_call *pc, const struct px_coll *coll, size_t n,
                     const char *const *names, bool always_pk, struct px_output *ret,
                     struct status *st)
{
    const struct schema *s = coll->schema;
    int rc = 0;

    *ret = (struct px_output){ 0 };
    ret->field_ids = arena_try_array(pc->ar, s->nfields + 1u, sizeof *ret->field_ids);
    ret->names = arena_try_array(pc->ar, s->nfields + n + 1u, sizeof *ret->names);
    ret->keys = arena_try_array(pc->ar, n + 1u, sizeof *ret->keys);
    if (!ret->field_ids || !ret->names || !ret->keys) {
        return too_large(st);
    }
    if (always_pk) {
        want_field(ret, s->pk->id);
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i], "*") == 0 || strcmp(names[i], "%") == 0) {
            for (uint32_t f = 0; f < s->nfields; f++) {
                bool vector = dtype_is_vector(s->fields[f].type);
                if (!s->fields[f].is_function_output && (names[i][0] == '*' || vector)) {
                    want_field(ret, s->fields[f].id);
                    want_name(ret, s->fields[f].name);
                }
            }
            continue;
        }
        TRY(one_output(pc, s, names[i], ret, st));
    }
    if (s->dynamic && names_field(ret, s->dynamic->name)) {
        ret->nkeys = 0; /* named whole, beside some of its keys */
    }
    if (always_pk) {
        want_name(ret, s->pk->name);
    }
out:
    return rc;
}
