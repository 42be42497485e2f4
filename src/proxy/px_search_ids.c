/*
 * px_search_ids.c - search by primary keys: the stored vectors of these rows are the queries.
 *
 * WHAT      The rows are read at the search's own snapshot, in every loaded partition (partition
 *           names say where to search, not where the examples come from). One query for each key,
 *           in the order of the request; a key may come twice.
 */
#include "proxy/px_read.h"
#include "schema/field_data.h"
#include <inttypes.h>

/* Keys that an error names. */
#define NAMED_MAX 10

static int missing(struct px_call *pc, const struct column *pks, const uint32_t *at,
                   struct status *st)
{
    struct buf b;
    uint32_t n = 0;
    int rc;

    buf_init(&b, 4096);
    for (uint32_t i = 0; i < pks->nrows && n <= NAMED_MAX; i++) {
        struct slice cell = column_cell(pks, i);
        if (at[i] != PX_NO_ROW) {
            continue;
        }
        if (n++ == NAMED_MAX) {
            buf_put_str(&b, " ...");
        } else if (pks->type == DT_INT64) {
            buf_printf(&b, "%s%" PRId64, n > 1 ? " " : "", column_i64(pks, i));
        } else {
            buf_printf(&b, "%s%.*s", n > 1 ? " " : "", (int)MIN(cell.n, (size_t)64), cell.p);
        }
    }
    buf_putc(&b, '\0');
    rc = st_fail(st, ERR_PARAMETER_INVALID, "some of the provided primary key IDs do not exist: "
                 "missing IDs = [%s]: invalid parameter", b.p ? (const char *)b.p : "");
    buf_done(&b);
    (void)pc;
    return rc;
}

int px_queries_of_ids(struct px_call *pc, const struct px_search *s,
                      const Milvus__Proto__Schema__IDs *ids, ProtobufCBinaryData *ret_queries,
                      uint32_t *ret_nq, struct status *st)
{
    int64_t field_id = s->field->id, max = pc->px->lim.max_nq;
    size_t width = dtype_width(s->field->type, s->field->dim), bytes;
    struct column pks;
    struct px_fetch f = { .pks = &pks, .field_ids = &field_id, .nfields = 1,
                          .guarantee_ts = s->req.guarantee_ts, .snapshot = s->snapshot,
                          .max_bytes = pc->px->lim.max_output_bytes };
    const struct column *vectors;
    struct batch rows;
    uint32_t *at;
    uint8_t *data;
    int rc;

    TRY(ids_to_column(s->coll->schema, ids, pc->ar, &pks, st));
    if (pks.nrows == 0 || (int64_t)pks.nrows > max) {
        FAIL(st, ERR_PARAMETER_INVALID, "nq (number of search vector per search request) should be "
             "in range [1, %" PRId64 "], but got %u", max, pks.nrows);
    }
    if (width == 0 || s->field->is_function_output) {
        FAIL(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: search by primary keys on "
             "field %s of type %s", s->field->name, dtype_name(s->field->type));
    }
    TRY(px_fetch(pc, s->coll, &f, &rows, &at, st));
    data = mul_size(width, pks.nrows, &bytes) ? arena_try(pc->ar, bytes) : NULL;
    if (!data) {
        FAIL(st, ERR_PARAMETER_TOO_LARGE, "no memory for the vectors of %u rows", pks.nrows);
    }
    vectors = batch_column(&rows, field_id);
    for (uint32_t i = 0; i < pks.nrows; i++) {
        if (at[i] == PX_NO_ROW || !vectors) {
            rc = missing(pc, &pks, at, st);
            goto out;
        }
        if (column_is_null(vectors, at[i])) {
            FAIL(st, ERR_PARAMETER_INVALID, "search by primary keys: field %s of row %u of the "
                 "given keys is null, there is nothing to search with", s->field->name, i);
        }
        memcpy(data + (size_t)i * width, column_cell(vectors, at[i]).p, width);
    }
    *ret_queries = (ProtobufCBinaryData){ .data = data, .len = bytes };
    *ret_nq = pks.nrows;
out:
    return rc;
}
