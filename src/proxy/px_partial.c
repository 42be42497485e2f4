/*
 * px_partial.c - partial updates: given columns over stored rows.
 *
 * WHAT      The rows that the keys stand for are read strongly; given columns replace theirs,
 *           $meta objects are joined key by key (the given key wins), the rest stays. A key that is
 *           not there makes a new row, for which the rules of insert hold.
 * RACE      Read, change, write without a lock: of two updates of one row at the same time the
 *           later write wins whole, as with any other upsert.
 * THREADS   A worker of the write class.
 */
#include "proxy/px_partial.h"
#include "base/json.h"
#include "proxy/px_read.h"

/* Stored rows that one request may bring together; the result must fit a log record. */
#define STORED_BYTES_MAX ((int64_t)256 << 20)

static int no_memory(struct status *st)
{
    return st_fail(st, ERR_PARAMETER_TOO_LARGE, "the partial update needs more memory than a "
                   "request may use: send fewer rows at a time");
}

/* ---- field_ops ---- */

int px_partial_ops(struct px_call *pc, const struct schema *s, size_t n,
                   Milvus__Proto__Schema__FieldPartialUpdateOp *const *ops,
                   enum px_field_op **ret_ops, struct status *st)
{
    enum px_field_op *of = arena_alloc(pc->ar, (s->nfields + 1u) * sizeof *of);

    for (size_t i = 0; i < n; i++) {
        const struct field *f = schema_field_by_name(s, slice_of(ops[i]->field_name));
        enum px_field_op op =
            ops[i]->op == MILVUS__PROTO__SCHEMA__FIELD_PARTIAL_UPDATE_OP__OP_TYPE__ARRAY_APPEND
                ? PX_ARRAY_APPEND
            : ops[i]->op == MILVUS__PROTO__SCHEMA__FIELD_PARTIAL_UPDATE_OP__OP_TYPE__ARRAY_REMOVE
                ? PX_ARRAY_REMOVE
                : PX_REPLACE;
        if (!f) {
            return st_fail(st, ERR_PARAMETER_INVALID, "field_ops: field %s not exist",
                           ops[i]->field_name);
        }
        if (op != PX_REPLACE && f->type != DT_ARRAY) {
            return st_fail(st, ERR_PARAMETER_INVALID, "field_ops: field %s is of type %s, "
                           "ARRAY_APPEND and ARRAY_REMOVE are for Array fields", f->name,
                           dtype_name(f->type));
        }
        of[f - s->fields] = op;
    }
    *ret_ops = of;
    return 0;
}

/* ---- cells ---- */

static void put_member(struct buf *out, struct slice key, struct slice raw)
{
    buf_putc(out, out->n > 1 ? ',' : '{');
    buf_putc(out, '"');
    buf_put_slice(out, key);
    buf_put(out, "\":", 2);
    buf_put_slice(out, raw);
}

/* A raw key decoded; the copy goes to scratch. */
static struct slice decoded(struct slice key, bool escaped, struct arena *ar)
{
    char *copy = escaped ? arena_try(ar, key.n + 1) : NULL;

    return copy ? slice_n(copy, json_unescape(key, copy)) : key;
}

/* Members of old that are not in new, then those of new. Both are JSON objects. */
static bool join_objects(struct slice old, struct slice new, struct arena *ar, struct buf *out)
{
    struct json_value a, b, v;
    struct slice key;
    size_t pos = 0;
    bool escaped = false;

    buf_reset(out);
    if (!json_parse(old, &a) || a.type != JSON_OBJECT || !json_parse(new, &b) ||
        b.type != JSON_OBJECT) {
        return buf_put_slice(out, new);
    }
    while (json_next(&a, &pos, &key, &escaped, &v)) {
        struct json_value given;
        if (!json_member(&b, decoded(key, escaped, ar), &given)) {
            put_member(out, key, v.raw);
        }
    }
    pos = 0;
    while (json_next(&b, &pos, &key, &escaped, &v)) {
        put_member(out, key, v.raw);
    }
    return out->n ? buf_putc(out, '}') && !out->failed : buf_put(out, "{}", 2);
}

/* An Array cell of these elements (schema/column.h has the layout). */
static bool put_array(enum dtype elem, const struct slice *elems, uint32_t n, struct buf *out)
{
    uint32_t end = 0;

    buf_reset(out);
    if (elem == DT_VARCHAR) {
        buf_put_u32(out, n);
        for (uint32_t i = 0; i < n; i++) {
            end += (uint32_t)elems[i].n;
            buf_put_u32(out, end);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        buf_put_slice(out, elems[i]);
    }
    return !out->failed;
}

static bool is_one_of(enum dtype elem, struct slice what, struct slice cell)
{
    uint32_t n = array_count(elem, cell);

    for (uint32_t i = 0; i < n; i++) {
        if (slice_eq(array_elem(elem, cell, i), what)) {
            return true;
        }
    }
    return false;
}

static int change_array(const struct field *f, enum px_field_op op, struct slice old,
                        struct slice given, struct arena *ar, struct buf *out, struct status *st)
{
    uint32_t nold = array_count(f->elem, old), ngiven = array_count(f->elem, given), n = 0;
    struct slice *elems = arena_try_array(ar, (size_t)nold + ngiven + 1, sizeof *elems);

    if (!elems) {
        return no_memory(st);
    }
    for (uint32_t i = 0; i < nold; i++) {
        struct slice e = array_elem(f->elem, old, i);
        if (op == PX_ARRAY_APPEND || !is_one_of(f->elem, e, given)) {
            elems[n++] = e;
        }
    }
    for (uint32_t i = 0; op == PX_ARRAY_APPEND && i < ngiven; i++) {
        elems[n++] = array_elem(f->elem, given, i);
    }
    if (f->max_capacity && n > f->max_capacity) {
        return st_fail(st, ERR_PARAMETER_INVALID, "ARRAY_APPEND: the length (%u) of the array "
                       "exceeds max capacity (%u), field %s", n, f->max_capacity, f->name);
    }
    return put_array(f->elem, elems, n, out) ? 0 : no_memory(st);
}

/* ---- columns ---- */

struct merging {
    const struct schema *s;
    const uint32_t *at;
    uint32_t nrows;
    struct arena *ar, *scratch;   /* scratch is emptied for every cell */
    struct buf cell;
};

/* The cell of a row for a field that is given: with `old` (NULL: the key is new). */
static int add_given(struct merging *m, const struct field *f, enum px_field_op op,
                     const struct column *given, uint32_t row, const struct column *old,
                     struct column_builder *cb, struct status *st)
{
    uint32_t at = m->at[row];
    bool has_old = old && at != PX_NO_ROW && !column_is_null(old, at);
    struct slice was = has_old ? column_cell(old, at) : slice_n("", 0);
    bool ok;

    arena_reset(m->scratch);
    if (op != PX_REPLACE && column_is_null(given, row)) { /* nothing to append or remove */
        ok = has_old ? column_builder_add(cb, was) : column_builder_null(cb);
    } else if (op != PX_REPLACE) {
        struct slice none = slice_n("\0\0\0\0", f->elem == DT_VARCHAR ? 4 : 0);
        int rc = change_array(f, op, has_old ? was : none, column_cell(given, row), m->scratch,
                              &m->cell, st);
        if (rc != 0) {
            return rc;
        }
        ok = column_builder_add(cb, buf_slice(&m->cell));
    } else if (f->is_dynamic && has_old) {
        ok = join_objects(was, column_cell(given, row), m->scratch, &m->cell) &&
             column_builder_add(cb, buf_slice(&m->cell));
    } else {
        ok = column_builder_take(cb, given, row);
    }
    return ok ? 0 : no_memory(st);
}

/* ... and for one that is not. */
static int add_stored(struct merging *m, const struct field *f, uint32_t row,
                      const struct column *old, struct column_builder *cb, struct status *st)
{
    bool ok;

    if (old && m->at[row] != PX_NO_ROW) {
        ok = column_builder_take(cb, old, m->at[row]);
    } else if (f->has_default) {
        ok = column_builder_add(cb, f->default_cell);
    } else if (f->is_dynamic) {
        ok = column_builder_add(cb, SLICE_LIT("{}"));
    } else if (f->nullable) {
        ok = column_builder_null(cb);
    } else {
        return st_fail(st, ERR_PARAMETER_INVALID, "fieldSchema(%s) has no corresponding fieldData "
                       "pass in: row %u of the partial update has a new primary key", f->name, row);
    }
    return ok ? 0 : no_memory(st);
}

static int merge_column(struct merging *m, const struct field *f, enum px_field_op op,
                        const struct column *given, const struct column *old, struct column *ret,
                        struct status *st)
{
    struct column_builder *cb =
        column_builder_new(m->ar, f->id, f->type, f->elem, f->dim, m->nrows);
    int rc = 0;

    for (uint32_t row = 0; row < m->nrows; row++) {
        TRY(given ? add_given(m, f, op, given, row, old, cb, st)
                  : add_stored(m, f, row, old, cb, st));
    }
    column_builder_finish(cb, ret);
out:
    return rc;
}

/* Given as it is: nothing of the stored row goes into it. */
static bool overwrites(const struct field *f, enum px_field_op op)
{
    return op == PX_REPLACE && !f->is_dynamic;
}

int px_partial_merge(struct px_call *pc, const struct schema *s, const struct batch *given,
                     const enum px_field_op *ops, const struct batch *stored, const uint32_t *at,
                     struct batch *ret, struct status *st)
{
    struct merging m = { .s = s, .at = at, .nrows = given->nrows, .ar = pc->ar };
    struct column *cols = arena_try_array(pc->ar, s->nfields, sizeof *cols);
    uint32_t n = 0;
    int rc = 0;

    buf_init(&m.cell, (size_t)STORED_BYTES_MAX);
    m.scratch = arena_new((size_t)STORED_BYTES_MAX);
    if (!cols) {
        rc = no_memory(st);
        goto out;
    }
    for (uint32_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        const struct column *g = batch_column(given, f->id);
        if (f->is_function_output) {
            continue;
        }
        if (!g && ops[i] != PX_REPLACE) {
            FAIL(st, ERR_PARAMETER_INVALID, "field_ops: field %s has no corresponding fieldData "
                 "pass in", f->name);
        }
        if (g && overwrites(f, ops[i])) {
            cols[n++] = *g;
        } else {
            TRY(merge_column(&m, f, ops[i], g, batch_column(stored, f->id), &cols[n], st));
            n++;
        }
    }
    *ret = (struct batch){ given->nrows, n, cols };
out:
    buf_done(&m.cell);
    arena_free(m.scratch);
    return rc;
}

int px_partial_rows(struct px_call *pc, const struct px_coll *coll, const struct batch *given,
                    const enum px_field_op *ops, int64_t *partition_ids, size_t npartitions,
                    struct batch *ret, struct status *st)
{
    const struct schema *s = coll->schema;
    struct px_fetch f = { .pks = batch_column(given, s->pk->id), .partition_ids = partition_ids,
                          .npartitions = npartitions, .max_bytes = STORED_BYTES_MAX };
    struct batch stored;
    uint32_t *at;
    int rc;

    f.field_ids = arena_alloc(pc->ar, (s->nfields + 1u) * sizeof *f.field_ids);
    for (uint32_t i = 0; i < s->nfields; i++) {
        const struct field *fd = &s->fields[i];
        bool needed = !batch_column(given, fd->id) || !overwrites(fd, ops[i]);
        if (needed && !fd->is_function_output) {
            f.field_ids[f.nfields++] = fd->id;
        }
    }
    if (f.nfields == 0) { /* all is given */
        *ret = *given;
        return 0;
    }
    TRY(px_now_ts(pc, &f.guarantee_ts, st));
    rc = px_fetch(pc, coll, &f, &stored, &at, st);
    if (rc != 0) {
        st_context(st, "partial update of %u rows", given->nrows);
        goto out;
    }
    TRY(px_partial_merge(pc, s, given, ops, &stored, at, ret, st));
out:
    return rc;
}
