/*
 * px_insert.c - Insert and Upsert: check rows against the schema, give keys, route, answer.
 *
 * THREADS   A worker of the write class; waits for the log inside px_send_writes().
 */
#include "proxy/px_methods.h"
#include "base/map.h"
#include "base/utf8.h"
#include "proxy/px_write.h"
#include "schema/field_data.h"
#include <inttypes.h>

static int no_memory(struct status *st)
{
    return st_fail(st, ERR_PARAMETER_TOO_LARGE, "the request needs more memory than it may use");
}

/* Clients cache the schema and say which one they used; 0 means that they do not know. */
static int check_schema_version(const struct px_coll *coll, uint64_t schema_ts, struct status *st)
{
    if (schema_ts && schema_ts != coll->pb->update_ts) {
        return st_fail(st, ERR_SCHEMA_MISMATCH, "collection schema mismatch[collection=%s]",
                       coll->pb->name);
    }
    return 0;
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
    TRY(check_schema_version(coll, req->schema_timestamp, st));
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

/* Named partitions are separate sets of rows; with a partition key a row may change its partition,
 * so its old version is looked for everywhere. */
static int delete_scope(struct px_call *pc, const struct px_coll *coll, const char *partition_name,
                        struct px_write *w, struct status *st)
{
    const Elanus__Partition *p;

    if (coll->schema->partition_key) {
        return 0;
    }
    p = px_partition(coll, slice_of(*partition_name ? partition_name : DEFAULT_PARTITION));
    if (!p) {
        return st_fail(st, ERR_PARTITION_NOT_FOUND, "partition not found[partition=%s]",
                       partition_name);
    }
    w->delete_partitions = arena_alloc(pc->ar, sizeof(int64_t));
    w->delete_partitions[0] = p->id;
    w->ndelete_partitions = 1;
    return 0;
}

int px_upsert(struct px_call *pc, const Milvus__Proto__Milvus__UpsertRequest *req,
              Milvus__Proto__Milvus__MutationResult *resp, struct status *st)
{
    const struct px_coll *coll;
    struct rows_opts opts = { .for_upsert = true };
    const struct column *old_pks;
    struct batch rows;
    hts ts;
    int rc;

    TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    TRY(check_schema_version(coll, req->schema_timestamp, st));
    TRY(check_rows(coll, req->num_rows, req->n_fields_data, req->has_namespace_case != 0, st));
    if (req->partial_update || req->n_field_ops) {
        FAIL(st, ERR_OPERATION_UNSUPPORTED,
             "unsupported operation: partial_update and field_ops are not supported: send whole rows");
    }
    TRY(rows_from_pb(coll->schema, req->n_fields_data, req->fields_data, req->num_rows, &opts,
                     pc->ar, &rows, st));
    old_pks = batch_column(&rows, coll->schema->pk->id);
    if (!old_pks) {
        FAIL(st, ERR_PARAMETER_INVALID, "upsert needs the primary key field %s",
             coll->schema->pk->name);
    }
    TRY(check_distinct(old_pks, st));
    struct px_write w = { .coll = coll, .rows = &rows, .partition_name = req->partition_name,
                          .delete_pks = old_pks };
    TRY(delete_scope(pc, coll, req->partition_name, &w, st));
    if (coll->schema->pk->auto_id) { /* the row gets a new key */
        struct column ids;
        struct column *old = ARENA_NEW(pc->ar, struct column);
        *old = *old_pks;
        w.delete_pks = old;
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
