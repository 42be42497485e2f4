/*
 * px_write.c - routing of rows: key -> shard, partition key or name -> partition.
 *
 * WHAT      A request's rows become one write per shard, with one part per partition: rows are put
 *           into buckets, one for each pair of shard and partition, by counting. The usual case,
 *           one shard and one partition, encodes the batch as it stands.
 * FAILURE   Shards are written one after another; when a later one fails, the earlier ones have the
 *           rows already, and the client is told of the failure (as with Milvus).
 */
#include "proxy/px_write.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define WRITE_BYTES_MAX ((size_t)256 << 20)
/* Keys in one log record; more go in several records. */
#define DELETE_KEYS_MAX 100000u

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

void px_shard_failed(struct px_call *pc, const struct px_coll *coll, const struct status *st)
{
    if (st->code == ST_UNAVAILABLE || st->code == ST_FENCED || st->code == ST_NOT_FOUND ||
        st->code == ERR_CHANNEL_NOT_AVAILABLE) {
        px_collection_forget(pc, coll);
    }
}

/* ---- partitions ---- */

static int compare_ids(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

int64_t *px_key_partitions(struct px_call *pc, const struct px_coll *coll)
{
    size_t n = coll->info->n_partitions;
    int64_t *sorted = arena_try_array(pc->ar, n + 1, sizeof *sorted);

    for (size_t i = 0; sorted && i < n; i++) {
        sorted[i] = coll->info->partitions[i]->id;
    }
    if (sorted) {
        qsort(sorted, n, sizeof *sorted, compare_ids);
    }
    return sorted;
}

/* The partition that a name in a write means. The cache may not know it yet. */
static int named_partition(struct px_call *pc, const struct px_coll *coll, const char *name,
                           int64_t *ret_id, struct status *st)
{
    const Elanus__Partition *p = px_partition(coll, slice_of(name));
    int rc = 0;

    if (!p) {
        TRY(px_collection_fresh(pc, coll->pb->db_name, coll->pb->name, &coll, st));
        p = px_partition(coll, slice_of(name));
    }
    if (!p) {
        FAIL(st, ERR_PARTITION_NOT_FOUND, "partition not found[partition=%s]", name);
    }
    *ret_id = p->id;
out:
    return rc;
}

int px_write_scope(struct px_call *pc, const struct px_coll *coll, const char *partition_name,
                   bool all_by_default, int64_t **ret_ids, size_t *ret_n, struct status *st)
{
    int64_t *ids;
    int rc = 0;

    if (coll->schema->partition_key && *partition_name) {
        FAIL(st, ERR_PARAMETER_INVALID, "not support manually specifying the partition names if "
             "partition key mode is used");
    }
    *ret_ids = NULL;
    *ret_n = 0;
    if (coll->schema->partition_key || (all_by_default && !*partition_name)) {
        return 0;
    }
    ids = arena_alloc(pc->ar, sizeof *ids);
    TRY(named_partition(pc, coll, *partition_name ? partition_name : DEFAULT_PARTITION, ids, st));
    *ret_ids = ids;
    *ret_n = 1;
out:
    return rc;
}

/* ---- buckets ---- */

/* Rows by shard and partition: those of bucket b are order[first[b]] .. order[first[b + 1] - 1],
 * in the order of the request; b = shard * nparts + partition. */
struct buckets {
    size_t nshards, nparts;
    const int64_t *part_ids;
    uint32_t *first, *order;
};

static int fill_buckets(struct px_call *pc, const struct px_write *w, struct buckets *b,
                        struct status *st)
{
    const struct field *key = w->coll->schema->partition_key;
    const struct column *pks = batch_column(w->rows, w->coll->schema->pk->id);
    const struct column *keys = key ? batch_column(w->rows, key->id) : NULL;
    uint32_t nrows = w->rows->nrows;
    size_t n;
    int64_t *ids;
    uint32_t *of;
    int rc = 0;

    TRY(px_write_scope(pc, w->coll, w->partition_name, false, &ids, &b->nparts, st));
    b->part_ids = ids;
    if (key) {
        b->nparts = w->coll->info->n_partitions;
        b->part_ids = px_key_partitions(pc, w->coll);
    }
    if (b->nparts == 0 || !pks || (key && !keys)) {
        FAIL(st, ST_INTERNAL, "collection %s: no partition or no key for the rows",
             w->coll->pb->name);
    }
    n = b->nshards * b->nparts;
    b->first = arena_try_array(pc->ar, n + 2, sizeof *b->first);
    b->order = arena_try_array(pc->ar, nrows + 1u, sizeof *b->order);
    of = arena_try_array(pc->ar, nrows + 1u, sizeof *of);
    if (!b->part_ids || !b->first || !b->order || !of) {
        rc = no_memory(st);
        goto out;
    }
    for (uint32_t r = 0; r < nrows; r++) {
        size_t part = keys ? pk_hash(keys, r) % (uint32_t)b->nparts : 0;
        of[r] = (uint32_t)(px_shard_of(pks, r, b->nshards) * b->nparts + part);
        b->first[of[r] + 2]++;
    }
    for (size_t i = 2; i < n + 2; i++) {
        b->first[i] += b->first[i - 1];
    }
    for (uint32_t r = 0; r < nrows; r++) { /* moves each start to its end: the next one's start */
        b->order[b->first[of[r] + 1]++] = r;
    }
out:
    return rc;
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

/* Rows of one shard, a part for each partition that has any. */
static int add_rows(struct px_call *pc, const struct px_write *w, const struct buckets *b,
                    size_t shard, struct shard_write *sw, struct status *st)
{
    int rc = 0;

    for (size_t p = 0; p < b->nparts; p++) {
        const uint32_t *first = &b->first[shard * b->nparts + p];
        if (first[1] > first[0]) {
            TRY(add_part(pc, sw, w->rows, b->order + first[0], first[1] - first[0], b->part_ids[p],
                         st));
        }
    }
out:
    return rc;
}

static int add_deletes(struct px_call *pc, const struct px_write *w, size_t shard, size_t nshards,
                       struct shard_write *sw, struct status *st)
{
    const struct column *pks = w->delete_pks;
    struct column sub = *pks;
    uint32_t n = pks->nrows;

    if (nshards > 1) {
        uint32_t *rows = arena_try_array(pc->ar, pks->nrows + 1u, sizeof *rows);
        n = 0;
        for (uint32_t r = 0; rows && r < pks->nrows; r++) {
            if (px_shard_of(pks, r, nshards) == shard) {
                rows[n++] = r;
            }
        }
        if (!rows || (n && !column_select(pks, rows, n, pc->ar, &sub))) {
            return no_memory(st);
        }
    }
    if (n == 0) {
        return 0;
    }
    struct batch b = { .nrows = n, .ncols = 1, .cols = &sub };
    sw->req.delete_partition_ids = w->delete_partitions;
    sw->req.n_delete_partition_ids = w->ndelete_partitions;
    return encode(sw, &b, &sw->req.delete_pks, st);
}

int px_send_writes(struct px_call *pc, const struct px_write *w, hts *ret_ts, struct status *st)
{
    struct buckets b = { .nparts = 1 };
    struct px_shard *shards;
    struct shard_write *sw = NULL;
    size_t nsw = 0;
    int rc;

    *ret_ts = 0;
    TRY(px_shards(pc, w->coll, &shards, &b.nshards, st));
    if (w->rows) {
        TRY(fill_buckets(pc, w, &b, st));
    }
    sw = arena_alloc(pc->ar, (b.nshards + 1) * sizeof *sw);
    for (size_t s = 0; s < b.nshards; s++, nsw++) {
        elanus__write_req__init(&sw[s].req);
        sw[s].bufs = arena_alloc(pc->ar, (b.nparts + 1) * sizeof(struct buf));
        sw[s].req.vchannel = shards[s].vchannel;
        sw[s].req.collection_id = w->coll->pb->id;
        sw[s].req.inserts = arena_alloc(pc->ar, b.nparts * sizeof(Elanus__InsertPart *));
    }
    /* All is made before anything is sent: what does not fit must not be half written. */
    for (size_t s = 0; s < b.nshards; s++) {
        if (w->rows) {
            TRY(add_rows(pc, w, &b, s, &sw[s], st));
        }
        if (w->delete_pks) {
            TRY(add_deletes(pc, w, s, b.nshards, &sw[s], st));
        }
    }
    for (size_t s = 0; s < b.nshards; s++) {
        Elanus__WriteResp resp;
        int asked = 0;
        if (sw[s].req.n_inserts == 0 && sw[s].req.delete_pks.len == 0) {
            continue;
        }
        do { /* what it refuses for its definition it has not written */
            elanus__write_resp__init(&resp);
            rc = shards[s].sn->write(shards[s].sn->self, &pc->call, &sw[s].req, &resp, st);
        } while (px_shard_behind(pc, &asked, rc, st));
        if (rc != 0) {
            px_shard_failed(pc, w->coll, st);
            goto out;
        }
        *ret_ts = MAX(*ret_ts, (hts)resp.timestamp);
    }
out:
    for (size_t s = 0; s < nsw; s++) {
        for (size_t i = 0; i < sw[s].nbufs; i++) {
            buf_done(&sw[s].bufs[i]);
        }
    }
    return rc;
}

int px_send_deletes(struct px_call *pc, const struct px_coll *coll, const struct column *pks,
                    int64_t *partitions, size_t npartitions, hts *ret_ts, struct status *st)
{
    struct px_write w = { .coll = coll, .delete_partitions = partitions,
                          .ndelete_partitions = npartitions };
    uint32_t *rows;
    int rc = 0;

    if (pks->nrows <= DELETE_KEYS_MAX) {
        w.delete_pks = pks;
        return pks->nrows ? px_send_writes(pc, &w, ret_ts, st) : 0;
    }
    rows = arena_try_array(pc->ar, DELETE_KEYS_MAX, sizeof *rows);
    for (uint32_t at = 0; rows && at < pks->nrows; at += DELETE_KEYS_MAX) {
        uint32_t n = MIN(DELETE_KEYS_MAX, pks->nrows - at);
        struct column part;
        hts ts;
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = at + i;
        }
        if (!column_select(pks, rows, n, pc->ar, &part)) {
            return no_memory(st);
        }
        w.delete_pks = &part;
        TRY(px_send_writes(pc, &w, &ts, st));
        *ret_ts = MAX(*ret_ts, ts);
    }
    rc = rows ? 0 : no_memory(st);
out:
    return rc;
}
