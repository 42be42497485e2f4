/*
 * field_data_in.c - rows of a request: from protobuf FieldData to a batch of columns.
 *
 * HOW      Two steps per field. First field_values.c turns the payload, whatever the client put
 *          into it, into a column of as many cells as it holds, checked, and borrowed from the
 *          message where its layout is a cell's. Then this file lays the cells out one per row: it
 *          puts nulls and defaults where valid_data says so. Without nulls, the usual case, the
 *          second step has nothing to do and nothing is copied.
 * NULLS    A request's payload leaves out null rows; some clients send a placeholder for each
 *          instead. Both are understood: the payload's length tells them apart.
 * THREADS  Any. The result borrows from the message and lives in the caller's arena.
 */
#include "schema/field_data.h"
#include "schema/field_values.h"
#include "schema/schema_int.h"
#include <stdio.h>

typedef Milvus__Proto__Schema__FieldData field_data_pb;

/* ---- Which message belongs to which field */

static const struct field *field_of(const struct schema *s, const field_data_pb *fd)
{
    if (fd->is_dynamic || strcmp(fd->field_name, META_FIELD_NAME) == 0) {
        return s->dynamic;
    }
    const struct field *f = schema_field_by_name(s, slice_of(fd->field_name));
    return f && !f->is_dynamic ? f : NULL;
}

static int match_fields(const struct schema *s, size_t n, field_data_pb *const *fields_data,
                        const field_data_pb **given, struct status *st)
{
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        const field_data_pb *fd = fields_data[i];
        const struct field *f = field_of(s, fd);
        if (!f && fd->is_dynamic) {
            TRY(fail_param(st, "dynamic field is not enabled, collection %s", s->collection_name));
        }
        if (!f) {
            TRY(fail_param(st, "fieldName %s not exist in collection schema", fd->field_name));
        }
        if (given[f - s->fields]) {
            TRY(fail_param(st,
                           "The FieldDatas parameter being passed contains duplicate data for "
                           "field %s",
                           f->name));
        }
        given[f - s->fields] = fd;
    }
out:
    return rc;
}

static int check_given(const struct schema *s, const struct field *f, const field_data_pb *fd,
                       const struct rows_opts *opts, struct status *st)
{
    int rc = 0;
    if (f->is_pk && f->auto_id && fd && !opts->for_upsert && !opts->allow_auto_pk) {
        TRY(fail_param(st, "can not assign primary field data when auto id enabled %s", f->name));
    }
    if (f->is_pk && f->auto_id && !fd && opts->for_upsert) {
        TRY(fail_param(st, "must assign pk when upsert, primary field: %s", f->name));
    }
    if (!dtype_served(f->type)) {
        FAIL(st, ST_UNSUPPORTED, "data type %s of field %s is not supported", dtype_name(f->type),
             f->name);
    }
    if (f->is_function_output || s->pb->n_functions || s->pb->n_struct_array_fields) {
        FAIL(st, ST_UNSUPPORTED, "collection %s has functions or struct fields: not supported",
             s->collection_name);
    }
    if (!fd && !opts->partial && !f->is_dynamic && !f->has_default && !f->nullable &&
        !(f->is_pk && f->auto_id)) {
        TRY(fail_param(st, "fieldSchema(%s) has no corresponding fieldData pass in", f->name));
    }
out:
    return rc;
}

/* ---- Rows without a value */

static struct column empty_column(const struct field *f, uint32_t nrows)
{
    return (struct column){.field_id = f->id,
                           .type = f->type,
                           .elem = f->elem,
                           .dim = f->dim,
                           .nrows = nrows,
                           .width = dtype_width(f->type, f->dim)};
}

/* What a row of this field holds when the request gives nothing; false: it is null. */
static bool fallback(const struct field *f, struct slice *ret)
{
    if (f->has_default) {
        *ret = f->default_cell;
        return true;
    }
    if (f->is_dynamic) {
        *ret = SLICE_LIT("{}");
        return true;
    }
    return false;
}

static int fill_column(const struct field *f, uint32_t nrows, struct arena *ar, struct column *ret,
                       struct status *st)
{
    int rc = 0;
    struct column c = empty_column(f, nrows);
    struct slice cell = {NULL, 0};
    bool null = !fallback(f, &cell);
    size_t width = c.width ? c.width : cell.n, bytes = 0;
    uint8_t *data = mul_size(width, nrows, &bytes) ? arena_try(ar, bytes) : NULL;
    uint64_t *ends = c.width ? NULL : arena_try_array(ar, nrows, 8);
    uint64_t *valid = null ? arena_try_array(ar, bits_words(nrows), 8) : NULL;
    if (!data || (!c.width && !ends) || (null && !valid)) {
        TRY(fail_memory(st));
    }
    if (null) {
        memset(data, 0, bytes);
    }
    for (uint32_t i = 0; !null && i < nrows && width; i++) {
        memcpy(data + i * width, cell.p, width);
    }
    for (uint32_t i = 0; ends && i < nrows; i++) {
        ends[i] = ((uint64_t)i + 1) * width;
    }
    c.data = data;
    c.ends = ends;
    c.valid = valid;
    *ret = c;
out:
    return rc;
}

/* ---- Cells to rows */

/* How the payload's cells belong to rows. */
struct spread {
    const protobuf_c_boolean *valid; /* NULL: every row has its cell */
    bool compact;                    /* null rows have no cell */
};

static int plan_spread(const struct field *f, const field_data_pb *fd, size_t ncells,
                       uint32_t nrows, struct spread *ret, struct status *st)
{
    int rc = 0;
    size_t n = fd->n_valid_data, nvalid = 0;
    char expected[24], actual[24];
    *ret = (struct spread){NULL, false};
    for (size_t i = 0; i < n; i++) {
        nvalid += fd->valid_data[i] != 0;
    }
    bool optional = f->nullable || f->has_default || f->is_dynamic;
    if (n != 0 && (n != nrows || (!optional && nvalid != n))) {
        snprintf(expected, sizeof expected, "%u", optional ? nrows : 0);
        snprintf(actual, sizeof actual, "%zu", n);
        TRY(fail_expected(st, expected, actual, "the length of valid_data of field(%s) is wrong",
                          f->name));
    }
    if (n != 0 && nvalid != n) {
        ret->valid = fd->valid_data;
        ret->compact = ncells == nvalid;
    }
    if (ncells != nrows && !ret->compact) {
        TRY(fail_param(st, "the num_rows (%zu) of field (%s) is not equal to passed num_rows (%u)",
                       ncells, f->name, nrows));
    }
out:
    return rc;
}

static int spread_cells(const struct field *f, const struct column *cells, const struct spread *how,
                        uint32_t nrows, struct arena *ar, struct column *ret, struct status *st)
{
    int rc = 0;
    struct slice none = {NULL, 0};
    bool keep_null = !fallback(f, &none);
    struct column_builder *cb = column_builder_new(ar, f->id, f->type, f->elem, f->dim, nrows);
    for (uint32_t row = 0, at = 0; row < nrows; row++) {
        bool ok;
        if (how->valid[row]) {
            ok = column_builder_add(cb, column_cell(cells, how->compact ? at : row));
            at++;
        } else {
            ok = keep_null ? column_builder_null(cb) : column_builder_add(cb, none);
        }
        if (!ok) {
            TRY(fail_memory(st));
        }
    }
    column_builder_finish(cb, ret);
out:
    return rc;
}

static int convert_field(const struct schema *s, const struct field *f, const field_data_pb *fd,
                         uint32_t nrows, struct arena *ar, struct column *ret, struct status *st)
{
    int rc = 0;
    size_t ncells;
    struct spread how;
    struct column cells = empty_column(f, 0);
    TRY(field_values_count(f, fd, &ncells, st));
    TRY(plan_spread(f, fd, ncells, nrows, &how, st));
    struct field_values in = {
        .schema = s,
        .f = f,
        .fd = fd,
        .ar = ar,
        .ncells = (uint32_t)ncells,
        .valid = how.valid,
        .compact = how.compact,
    };
    TRY(field_values_convert(&in, &cells, st));
    if (how.valid) {
        TRY(spread_cells(f, &cells, &how, nrows, ar, ret, st));
    } else {
        *ret = cells;
    }
out:
    return rc;
}

int rows_from_pb(const struct schema *s, size_t nfields_data, field_data_pb *const *fields_data,
                 uint32_t num_rows, const struct rows_opts *opts, struct arena *ar,
                 struct batch *ret, struct status *st)
{
    int rc = 0;
    struct batch b = {.nrows = num_rows};
    const field_data_pb **given = arena_try_array(ar, s->nfields, sizeof *given);
    b.cols = arena_try_array(ar, s->nfields, sizeof *b.cols);
    if (!given || !b.cols) {
        TRY(fail_memory(st));
    }
    if (num_rows == 0) {
        TRY(fail_param(st, "num_rows should be greater than 0"));
    }
    TRY(match_fields(s, nfields_data, fields_data, given, st));
    for (uint32_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        TRY(check_given(s, f, given[i], opts, st));
        if (given[i]) {
            TRY(convert_field(s, f, given[i], num_rows, ar, &b.cols[b.ncols], st));
        } else if (opts->partial || (f->is_pk && f->auto_id)) {
            continue;
        } else {
            TRY(fill_column(f, num_rows, ar, &b.cols[b.ncols], st));
        }
        b.ncols++;
    }
    *ret = b;
out:
    return rc;
}
