/*
 * px_insert.c - Insert and Upsert: check rows against the schema, give keys, route, answer.
 *
 * THREADS   A worker of the write class; waits for the log inside px_send_writes().
 */
#include "proxy/px_methods.h"
#include "base/map.h"
#include "base/utf8.h"
#include "proxy/px_partial.h"
#include "proxy/px_write.h"
#include "schema/field_data.h"
#include <inttypes.h>

static int no_memory(struct status *st)
{
    return st_fail(st, ERR_PARAMETER_TOO_LARGE, "the request needs more memory than it may use");
}

/* Clients cache the schema and say which one they used; 0 means that they do not know. This proxy's
 * own copy may be the old one of the two. */
static int check_schema_version(struct px_call *pc, uint64_t schema_ts,
                                const struct px_coll **io_coll, struct status *st)
{
    int rc = 0;

    if (schema_ts && schema_ts != (*io_coll)->pb->update_ts) {
        TRY(px_collection_fresh(pc, (*io_coll)->pb->db_name, (*io_coll)->pb->name, io_coll, st));
    }
    if (schema_ts && schema_ts != (*io_coll)->pb->update_ts) {
        FAIL(st, ERR_SCHEMA_MISMATCH, "collection schema mismatch[collection=%s]",
             (*io_coll)->pb->name);
    }
out:
    return rc;
}

static int check_rows(const struct px_coll *coll, uint32_t num_rows, size_t nfields,
                      bool has_namespace, struct status *st)
{
    if (has_namespace) {
        return st_fail(st, ERR_OPERATION_UNSUPPORTED, "unsupported operation: namespaces are not "
                       "supported");
    }
    if (num_rows == 0 || nfields == 0) {
        return st_fail(st, ERR_PARAMETER_INVALID, "collection %s: there is no row to insert: "
                       "num_rows is %u, fields_data has %zu columns", coll->pb->name, num_rows,
                       nfields);
    }
    return 0;
}

/* The batch with one more column in front. */
static int with_key(struct px_call *pc, const struct batch *rows, const struct column *pk,
                    struct batch *ret, struct status *st)
{
    struct column *cols = arena_try_array(pc->ar, rows->ncols + 1u, sizeof *cols);
    uint32_t n = 0;

    if (!cols) {
        return no_memory(st);
    }
    cols[n++] = *pk;
    for (uint32_t c = 0; c < rows->ncols; c++) {
        if (rows->cols[c].field_id != pk->field_id) {
            cols[n++] = rows->cols[c];
        }
    }
    *ret = (struct batch){ .nrows = rows->nrows, .ncols = n, .cols = cols };
    return 0;
}

static int fill_result(struct px_call *pc, const struct batch *rows, const struct px_coll *coll,
                       hts ts, Milvus__Proto__Milvus__MutationResult *resp, struct status *st)
{
    resp->ids = ids_from_column(batch_column(rows, coll->schema->pk->id), NULL, 0, pc->ar);
    resp->succ_index = arena_try_array(pc->ar, rows->nrows, sizeof *resp->succ_index);
    if (!resp->ids || !resp->succ_index) {
        return no_memory(st);
    }
    for (uint32_t i = 0; i < rows->nrows; i++) {
        resp->succ_index[i] = i;
    }
    resp->n_succ_index = rows->nrows;
    resp->acknowledged = true;
    resp->timestamp = ts;
    return 0;
}

int px_insert(struct px_call *pc, const Milvus__Proto__Milvus__InsertRequest *req,
              Milvus__Proto__Milvus__MutationResult *resp, struct status *st)
{
    const struct px_coll *coll;
    struct rows_opts opts = { 0 };
    const char *allow;
    struct batch rows;
    hts ts;
    int rc;

    TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    TRY(check_schema_version(pc, req->schema_timestamp, &coll, st));
    TRY(check_rows(coll, req->num_rows, req->n_fields_data, req->has_namespace_case != 0, st));
    allow = px_property(coll, "allow_insert_auto_id");
    (void)(allow && parse_bool(slice_of(allow), &opts.allow_auto_pk));
    TRY(rows_from_pb(coll->schema, req->n_fields_data, req->fields_data, req->num_rows, &opts,
                     pc->ar, &rows, st));
    if (!batch_column(&rows, coll->schema->pk->id)) {
        struct column ids;
        TRY(px_auto_ids(pc, coll, rows.nrows, &ids, st));
        TRY(with_key(pc, &rows, &ids, &rows, st));
    }
    struct px_write w = { .coll = coll, .rows = &rows, .partition_name = req->partition_name };
    TRY(px_send_writes(pc, &w, &ts, st));
    resp->insert_cnt = rows.nrows;
    TRY(fill_result(pc, &rows, coll, ts, resp, st));
out:
    return rc;
}

/* ---- upsert ---- */

static int check_distinct(const struct column *pks, struct status *st)
{
    struct str_map *seen = str_map_new();
    int rc = 0;

    for (uint32_t i = 0; i < pks->nrows && rc == 0; i++) {
        if (str_map_put(seen, column_cell(pks, i), seen)) {
            rc = st_fail(st, ERR_PARAMETER_INVALID,
                         "duplicate primary keys are not allowed in the same batch");
        }
    }
    str_map_free(seen, NULL);
    return rc;
}

static bool changes_arrays(const Milvus__Proto__Milvus__UpsertRequest *req)
{
    for (size_t i = 0; i < req->n_field_ops; i++) {
        if (req->field_ops[i]->op !=
            MILVUS__PROTO__SCHEMA__FIELD_PARTIAL_UPDATE_OP__OP_TYPE__REPLACE) {
            return true;
        }
    }
    return false;
}

/* Named partitions are separate sets of rows: a key is replaced in the partition that the request
 * names, or in the default one. With a partition key a row may change its partition, so its old
 * version is looked for everywhere. */
int px_upsert(struct px_call *pc, const Milvus__Proto__Milvus__UpsertRequest *req,
              Milvus__Proto__Milvus__MutationResult *resp, struct status *st)
{
    const struct px_coll *coll;
    struct rows_opts opts = { .for_upsert = true };
    struct column *old_pks = ARENA_NEW(pc->ar, struct column);
    struct batch rows;
    hts ts;
    int rc;

    TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    TRY(check_schema_version(pc, req->schema_timestamp, &coll, st));
    TRY(check_rows(coll, req->num_rows, req->n_fields_data, req->has_namespace_case != 0, st));
    opts.partial = req->partial_update || changes_arrays(req);
    if (opts.partial) {
        TRY(px_collection_loaded(pc, req->db_name, req->collection_name, &coll, st));
    }
    TRY(rows_from_pb(coll->schema, req->n_fields_data, req->fields_data, req->num_rows, &opts,
                     pc->ar, &rows, st));
    if (!batch_column(&rows, coll->schema->pk->id)) {
        FAIL(st, ERR_PARAMETER_INVALID, "must assign pk when upsert, primary field: %s",
             coll->schema->pk->name);
    }
    *old_pks = *batch_column(&rows, coll->schema->pk->id);
    TRY(check_distinct(old_pks, st));
    struct px_write w = { .coll = coll, .rows = &rows, .partition_name = req->partition_name,
                          .delete_pks = old_pks };
    TRY(px_write_scope(pc, coll, req->partition_name, false, &w.delete_partitions,
                       &w.ndelete_partitions, st));
    if (opts.partial) {
        enum px_field_op *ops;
        TRY(px_partial_ops(pc, coll->schema, req->n_field_ops, req->field_ops, &ops, st));
        TRY(px_partial_rows(pc, coll, &rows, ops, w.delete_partitions, w.ndelete_partitions, &rows,
                            st));
    }
    if (coll->schema->pk->auto_id) { /* the row gets a new key */
        struct column ids;
        TRY(px_auto_ids(pc, coll, rows.nrows, &ids, st));
        TRY(with_key(pc, &rows, &ids, &rows, st));
    }
    TRY(px_send_writes(pc, &w, &ts, st));
    resp->upsert_cnt = rows.nrows;
    resp->insert_cnt = rows.nrows;
    resp->delete_cnt = rows.nrows;
    TRY(fill_result(pc, &rows, coll, ts, resp, st));
out:
    return rc;
}
