/*
 * px_write.c - routing of rows: key -> shard, partition key or name -> partition.
 *
 * WHAT      A request's rows become one write per shard, with one part per partition; the usual case,
 *           one shard and one partition, encodes the batch as it stands.
 * FAILURE   Shards are written one after another; when a later one fails, the earlier ones have the
 *           rows already, and the client is told of the failure (as with Milvus).
 */
#include "proxy/px_write.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define WRITE_BYTES_MAX ((size_t)256 << 20)

static int no_memory(struct status *st)
{
    return st_fail(st, ERR_PARAMETER_TOO_LARGE, "the request needs more memory than it may use");
}

int px_auto_ids(struct px_call *pc, const struct px_coll *coll, uint32_t n, struct column *ret,
                struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    const struct field *pk = coll->schema->pk;
    struct column_builder *cb;
    Elanus__AllocReq req;
    Elanus__AllocResp resp;
    int rc;

    elanus__alloc_req__init(&req);
    elanus__alloc_resp__init(&resp);
    req.count = n;
    TRY(root->alloc_id(root->self, &pc->call, &req, &resp, st));
    cb = column_builder_new(pc->ar, pk->id, pk->type, DT_NONE, 0, n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t id = resp.first + i;
        char text[24];
        struct slice cell = slice_n(&id, 8);
        if (pk->type != DT_INT64) {
            int len = snprintf(text, sizeof text, "%" PRIu64, id);
            cell = slice_n(text, (size_t)len);
        }
        if (!column_builder_add(cb, cell)) {
            rc = no_memory(st);
            goto out;
        }
    }
    column_builder_finish(cb, ret);
out:
    return rc;
}

uint32_t px_shard_of(const struct column *pks, uint32_t row, size_t nshards)
{
    return nshards == 1 ? 0 : pk_hash(pks, row) % (uint32_t)nshards;
}

/* ---- partitions ---- */

static int compare_ids(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Partition of every row; *ret_single is set when all share one. */
static int route_partitions(struct px_call *pc, const struct px_write *w, int64_t **ret_ids,
                            int64_t *ret_single, struct status *st)
{
    const struct px_coll *coll = w->coll;
    const struct field *key = coll->schema->partition_key;
    size_t n = coll->info->n_partitions;
    const struct column *col;
    int64_t *sorted, *ids;

    *ret_ids = NULL;
    if (!key) {
        const char *name = *w->partition_name ? w->partition_name : DEFAULT_PARTITION;
        const Elanus__Partition *p = px_partition(coll, slice_of(name));
        if (!p) {
            return st_fail(st, ERR_PARTITION_NOT_FOUND, "partition not found[partition=%s]", name);
        }
        *ret_single = p->id;
        return 0;
    }
    if (*w->partition_name) {
        return st_fail(st, ERR_PARAMETER_INVALID, "not support manually specifying the partition "
                       "names if partition key mode is used");
    }
    sorted = arena_try_array(pc->ar, n + 1, sizeof *sorted);
    ids = arena_try_array(pc->ar, w->rows->nrows + 1u, sizeof *ids);
    col = batch_column(w->rows, key->id);
    if (!sorted || !ids || !col || n == 0) {
        return no_memory(st);
    }
    for (size_t i = 0; i < n; i++) {
        sorted[i] = coll->info->partitions[i]->id;
    }
    qsort(sorted, n, sizeof *sorted, compare_ids);
    for (uint32_t r = 0; r < w->rows->nrows; r++) {
        ids[r] = sorted[pk_hash(col, r) % (uint32_t)n];
    }
    *ret_ids = ids;
    return 0;
}

/* ---- writes ---- */

struct shard_write {
    Elanus__WriteReq req;
    struct buf *bufs;              /* encoded batches, one per part, then the keys */
    size_t nbufs;
};

static int encode(struct shard_write *sw, const struct batch *b, ProtobufCBinaryData *ret,
                  struct status *st)
{
    struct buf *out = &sw->bufs[sw->nbufs++];

    buf_init(out, WRITE_BYTES_MAX);
    if (!batch_encode(b, out)) {
        return no_memory(st);
    }
    *ret = (ProtobufCBinaryData){ .data = out->p, .len = out->n };
    return 0;
}

static int add_part(struct px_call *pc, struct shard_write *sw, const struct batch *all,
                    const uint32_t *rows, uint32_t n, int64_t partition_id, struct status *st)
{
    Elanus__InsertPart *part = ARENA_NEW(pc->ar, Elanus__InsertPart);
    struct batch sub = *all;
    int rc;

    if (n != all->nrows) {
        sub.nrows = n;
        sub.cols = arena_try_array(pc->ar, all->ncols, sizeof *sub.cols);
        if (!sub.cols) {
            return no_memory(st);
        }
        for (uint32_t c = 0; c < all->ncols; c++) {
            if (!column_select(&all->cols[c], rows, n, pc->ar, &sub.cols[c])) {
                return no_memory(st);
            }
        }
    }
    elanus__insert_part__init(part);
    part->partition_id = partition_id;
    part->num_rows = n;
    TRY(encode(sw, &sub, &part->batch, st));
    sw->req.inserts[sw->req.n_inserts++] = part;
out:
    return rc;
}

/* Rows of one shard, grouped by partition. */
static int add_rows(struct px_call *pc, const struct px_write *w, size_t shard, size_t nshards,
                    const struct column *pks, const int64_t *partitions, int64_t single,
                    struct shard_write *sw, struct status *st)
{
    uint32_t n = w->rows->nrows, mine = 0;
    uint32_t *rows = arena_try_array(pc->ar, n + 1u, sizeof *rows);
    uint32_t *part_rows = arena_try_array(pc->ar, n + 1u, sizeof *part_rows);
    int64_t *order;
    size_t nparts = 0;
    int rc = 0;

    if (!rows || !part_rows) {
        return no_memory(st);
    }
    for (uint32_t r = 0; r < n; r++) {
        if (px_shard_of(pks, r, nshards) == shard) {
            rows[mine++] = r;
        }
    }
    if (mine == 0) {
        return 0;
    }
    if (!partitions) {
        return add_part(pc, sw, w->rows, rows, mine, single, st);
    }
    order = arena_try_array(pc->ar, w->coll->info->n_partitions + 1, sizeof *order);
    if (!order) {
        return no_memory(st);
    }
    for (uint32_t i = 0; i < mine; i++) {
        size_t p = 0;
        while (p < nparts && order[p] != partitions[rows[i]]) {
            p++;
        }
        if (p == nparts) {
            order[nparts++] = partitions[rows[i]];
        }
    }
    for (size_t p = 0; p < nparts; p++) {
        uint32_t m = 0;
        for (uint32_t i = 0; i < mine; i++) {
            if (partitions[rows[i]] == order[p]) {
                part_rows[m++] = rows[i];
            }
        }
        TRY(add_part(pc, sw, w->rows, part_rows, m, order[p], st));
    }
out:
    return rc;
}

static int add_deletes(struct px_call *pc, const struct px_write *w, size_t shard, size_t nshards,
                       struct shard_write *sw, struct status *st)
{
    const struct column *pks = w->delete_pks;
    uint32_t *rows = arena_try_array(pc->ar, pks->nrows + 1u, sizeof *rows);
    struct column sub;
    uint32_t n = 0;

    if (!rows) {
        return no_memory(st);
    }
    for (uint32_t r = 0; r < pks->nrows; r++) {
        if (px_shard_of(pks, r, nshards) == shard) {
            rows[n++] = r;
        }
    }
    if (n == 0) {
        return 0;
    }
    if (!column_select(pks, rows, n, pc->ar, &sub)) {
        return no_memory(st);
    }
    struct batch b = { .nrows = n, .ncols = 1, .cols = &sub };
    sw->req.delete_partition_ids = w->delete_partitions;
    sw->req.n_delete_partition_ids = w->ndelete_partitions;
    return encode(sw, &b, &sw->req.delete_pks, st);
}

int px_send_writes(struct px_call *pc, const struct px_write *w, hts *ret_ts, struct status *st)
{
    const struct column *pks = NULL;
    struct px_shard *shards;
    struct shard_write *sw = NULL;
    size_t nshards, most = w->coll->info->n_partitions + 2;
    int64_t *partitions = NULL, single = 0;
    int rc;

    *ret_ts = 0;
    TRY(px_shards(pc, w->coll, &shards, &nshards, st));
    if (w->rows) {
        pks = batch_column(w->rows, w->coll->schema->pk->id);
        TRY(route_partitions(pc, w, &partitions, &single, st));
    }
    sw = arena_try_array(pc->ar, nshards + 1, sizeof *sw);
    if (!sw) {
        rc = no_memory(st);
        goto out;
    }
    for (size_t s = 0; s < nshards; s++) {
        Elanus__WriteResp resp;
        elanus__write_req__init(&sw[s].req);
        elanus__write_resp__init(&resp);
        sw[s].bufs = arena_alloc(pc->ar, most * sizeof(struct buf));
        sw[s].req.vchannel = shards[s].vchannel;
        sw[s].req.collection_id = w->coll->pb->id;
        sw[s].req.inserts = arena_alloc(pc->ar, most * sizeof(Elanus__InsertPart *));
        if (w->rows) {
            TRY(add_rows(pc, w, s, nshards, pks, partitions, single, &sw[s], st));
        }
        if (w->delete_pks) {
            TRY(add_deletes(pc, w, s, nshards, &sw[s], st));
        }
        if (sw[s].req.n_inserts || sw[s].req.delete_pks.len) {
            TRY(shards[s].sn->write(shards[s].sn->self, &pc->call, &sw[s].req, &resp, st));
            *ret_ts = MAX(*ret_ts, (hts)resp.timestamp);
        }
    }
out:
    for (size_t s = 0; sw && s < nshards; s++) {
        for (size_t i = 0; i < sw[s].nbufs; i++) {
            buf_done(&sw[s].bufs[i]);
        }
    }
    return rc;
}
