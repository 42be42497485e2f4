/*
 * co_root_part.c - partitions: create and drop.
 *
 * A new partition of a wholly loaded collection is loaded at once. Dropping one removes it in the
 * first transaction, with as many of its segments as fit; a crash before the rest leaves segments
 * without a partition, which the next start takes away.
 */
#include "coord/co_int.h"

#define LOG_ROOM "coord"
#include "base/log.h"

static bool has_partition_key(const struct co_coll *c)
{
    return co__pb(c)->num_partitions > 0;
}

int co__root_create_partition(void *self, const struct call *call, const Elanus__PartitionReq *req,
                              Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    int64_t max = config_int(co->opts.config, "rootCoord.maxPartitionNum");
    Elanus__Partition part;
    Elanus__Load load;
    struct co_coll *c;
    struct co_notice no;
    struct co_txn tx;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    elanus__partition__init(&part);
    TRY(co__ddl_coll(co, req->db_name, req->collection_name, &c, st));
    if (has_partition_key(c)) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "disable create partition if partition key mode is used");
    }
    if (co__part(c, req->partition_name)) {
        goto out;
    }
    if ((int64_t)c->parts.n >= max) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "partition number (%zu) exceeds max configuration (%" PRId64 "), collection: %s",
             c->parts.n, max, req->collection_name);
    }
    TRY(co__id(co, 1, call->deadline_us, &part.id, st));
    TRY(co__ts(co, 1, call->deadline_us, &part.created_ts, st));
    part.collection_id = c->id;
    part.name = req->partition_name;
    co__put(&tx, CO_PARTITION, &part);
    if (c->load && ((const Elanus__Load *)c->load->pb)->whole) {
        load = *(const Elanus__Load *)c->load->pb;
        int64_t *ids = arena_alloc(call->ar, (load.n_partition_ids + 1) * sizeof *ids);
        for (size_t i = 0; i < load.n_partition_ids; i++) {
            ids[i] = load.partition_ids[i];
        }
        ids[load.n_partition_ids++] = part.id;
        load.partition_ids = ids;
        co__put(&tx, CO_LOAD, &load);
    }
    co__notice(&no, c);
    TRY(co__commit(&tx, st));
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

/* Of the segments and their index files. Holds: commit */
static size_t segment_keys(const struct co_coll *c, int64_t partition_id, struct arena *ar,
                           struct slice **ret)
{
    struct status st = STATUS_INIT;
    size_t n = 0;

    *ret = arena_alloc(ar, (c->segs.n * (1 + c->indexes.n) + 1) * sizeof **ret);
    for (size_t i = 0; i < c->segs.n; i++) {
        const Elanus__Segment *seg = c->segs.v[i]->pb;
        if (seg->partition_id != partition_id) {
            continue;
        }
        n += co__key(CO_SEGMENT, seg, ar, &(*ret)[n], &st) == 0;
        for (size_t j = 0; j < c->indexes.n; j++) {
            const struct co_rec *file = co__list_get(&c->indexes.v[j]->files, seg->id);
            n += file && co__key(CO_SEGINDEX, file->pb, ar, &(*ret)[n], &st) == 0;
        }
    }
    return n;
}

static int tell_shards(struct coord *co, const struct call *call, const struct co_coll *c,
                       int64_t partition_id, struct status *st)
{
    struct co_shard_ref *shards;
    size_t n = co__shard_refs(co, c, call->ar, &shards);
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        const struct snode_service *sn;
        Elanus__DropPartitionReq req;
        Elanus__Empty resp;
        elanus__drop_partition_req__init(&req);
        elanus__empty__init(&resp);
        req.vchannel = shards[i].vchannel;
        req.partition_id = partition_id;
        if (co__owner(co, &shards[i], &sn, st) != 0) { /* opened later, without the partition */
            st_clear(st);
            continue;
        }
        TRY(sn->drop_partition(sn->self, call, &req, &resp, st));
    }
out:
    return rc;
}

/* With the partition its segments leave the tables (co_table.c), so keys that did not fit into
 * its transaction are only to be cleaned up. Under `commit`: no flush adds a segment meanwhile. */
static int drop_stored(struct coord *co, struct co_txn *tx, const struct co_coll *c,
                       const Elanus__Partition *p, struct status *st)
{
    struct status late = STATUS_INIT;
    bool first = true;
    struct slice *keys;
    size_t n;
    int rc = 0;

    lock_acquire(&co->commit);
    n = segment_keys(c, p->id, tx->ar, &keys);
    co__delete(tx, CO_PARTITION, p);
    for (size_t i = 0; i <= n && rc == 0; i++) {
        if (i == n || co__txn_room(tx) == 0) {
            rc = co__commit_locked(tx, first ? st : &late);
            if (rc != 0 && !first) {
                LOG_W("segments of a dropped partition stay until the next start: coll=%" PRId64
                      " error=\"%s\"", c->id, late.msg);
                rc = 0;
                break;
            }
            first = false;
        }
        if (i < n) {
            co__raw(tx, meta_op_delete(keys[i]));
        }
    }
    lock_release(&co->commit);
    return rc;
}

static int drop(struct coord *co, const struct call *call, struct co_coll *c,
                const Elanus__Partition *p, struct status *st)
{
    int64_t id = p->id;
    struct co_txn tx;
    int rc = 0;

    co__txn_init(&tx, co, call->ar);
    TRY(drop_stored(co, &tx, c, p, st));
    TRY(tell_shards(co, call, c, id, st));
    co__gc_prefix(co, arena_printf(call->ar, "segments/%" PRId64 "/%" PRId64 "/", c->id, id));
    co__work_wake(co);
out:
    co__txn_done(&tx);
    return rc;
}

int co__root_drop_partition(void *self, const struct call *call, const Elanus__PartitionReq *req,
                            Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    const Elanus__Partition *p;
    struct co_coll *c;
    struct co_notice no;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    TRY(co__ddl_coll(co, req->db_name, req->collection_name, &c, st));
    if (has_partition_key(c)) {
        FAIL(st, ERR_PARAMETER_INVALID, "disable drop partition if partition key mode is used");
    }
    if (strcmp(req->partition_name, CO_DEFAULT_PARTITION) == 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "default partition cannot be deleted");
    }
    p = co__part(c, req->partition_name);
    if (!p) {
        goto out;
    }
    if (c->load && co__load_has(c->load->pb, p->id)) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "partition cannot be dropped, partition is loaded, please release it first");
    }
    co__notice(&no, c);
    TRY(drop(co, call, c, p, st));
out:
    co__ddl_end(co, &no);
    return rc;
}
