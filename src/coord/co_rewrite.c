/*
 * co_rewrite.c - one rewriting of segments, from their files to the shard that reads the new one.
 *
 * STEPS    1 a data node writes the new segment's file, and a file for every index of the collection:
 *            when the segment is first read, it is read through its indexes
 *          2 one metadata transaction: the sources, their index files and the delete files that only
 *            they needed go, the new segment and its index files come
 *          3 the shard moves its reads (snode.replace_segments), then the old files are removed
 * WHICH    Only segments whose records lie before the shard's checkpoint: the log is never replayed
 *          for them, so no replay can bring back rows under the old ids. Chosen by co_compact.c,
 *          checked again under `commit`.
 * DELETES  A row is left out when its delete is older than common.retentionDuration: a read that
 *          began before the delete is over by then. Younger ones stay in their delete files, which
 *          are applied to the new segment as to any. deletes_ts and deletes_id of the new segment
 *          say what was applied for good: files with nothing else in them are needed no more.
 * FAILURE  Before 2: orphans, removed at once or at the next start. Between 2 and 3 the store has the
 *          new list and the shard serves the old one from files that are still there: telling is
 *          tried until it succeeds, or the shard is opened anew, from the new list.
 * LOCKS    The collection is busy (co_ddl.c) over 2 and 3, so that no load places segments that the
 *          shard does not know yet, or the other way round.
 */
#include "coord/co_compact.h"
#include "base/fault.h"
#include "coord/policy.h"

#define LOG_ROOM "coord"
#include "base/log.h"

/* Indexes may be made while files for the ones before are built. */
#define INDEX_ROUNDS 4

/* The change that is to be made, and was made once it is committed. */
struct co_swap {
    struct arena *ar;
    Elanus__CompactReq req;
    Elanus__CompactResp made;
    Elanus__Segment target;
    size_t nindexes, nfiles;
    Elanus__Index **indexes;      /* that are to have a file */
    Elanus__SegmentIndex **files;
    size_t ngone;
    Elanus__Delta **gone;         /* delete files that nobody needs any more */
    bool files_ours;              /* no record names the new files */
};

void co__swap_free(struct co_swap *sw)
{
    if (sw) {
        arena_free(sw->ar);
        mem_free(sw);
    }
}

int64_t co__ttl_ms(const struct co_coll *c)
{
    const Elanus__Collection *pb = co__pb(c);
    const char *text = co__kv(pb->properties, pb->n_properties, "collection.ttl.seconds");
    long long s = text ? strtoll(text, NULL, 10) : 0;

    return s > 0 && s <= INT64_MAX / 1000 ? s * 1000 : 0;
}

const Elanus__Index *co__order_index(const struct co_coll *c)
{
    const Elanus__Index *first = NULL;

    for (size_t i = 0; i < c->indexes.n; i++) {
        const Elanus__Index *idx = c->indexes.v[i]->pb;
        const pb_field *f = co__field(c, idx->field_name);
        if (f && co__is_dense(f) && policy_index_orders(co__index_param(idx, "index_type")) &&
            (!first || idx->field_id < first->field_id)) {
            first = idx;
        }
    }
    return first;
}

bool co__delta_concerns(const Elanus__Delta *d, const Elanus__Segment *seg)
{
    if (d->max_ts <= seg->min_ts || (d->id <= seg->deletes_id && d->max_ts <= seg->deletes_ts) ||
        strcmp(d->vchannel, seg->vchannel) != 0) {
        return false;
    }
    return co__in_ids(d->partition_ids, d->n_partition_ids, seg->partition_id);
}

static hts before_ms(int64_t ms)
{
    return ms > 0 ? hts_make(ms, 0) : 0;
}

/* ---- 1: files ---- */

static void describe_target(struct co_swap *sw, const struct plan *t)
{
    const Elanus__CompactReq *req = &sw->req;
    Elanus__Segment *to = &sw->target;

    elanus__segment__init(to);
    to->id = t->target_id;
    to->collection_id = t->collection_id;
    to->partition_id = t->partition_id;
    to->vchannel = arena_strdup(sw->ar, t->vchannel);
    to->state = ELANUS__SEG_STATE__SEG_FLUSHED;
    to->object_prefix = arena_printf(sw->ar, "segments/%" PRId64 "/%" PRId64 "/%" PRId64,
                                     to->collection_id, to->partition_id, to->id);
    to->first_position = UINT64_MAX;
    for (size_t i = 0; i < req->n_sources; i++) {
        to->first_position = MIN(to->first_position, req->sources[i]->first_position);
        to->last_position = MAX(to->last_position, req->sources[i]->last_position);
    }
    to->deletes_ts = req->gone_before;
}

/* Rows before this are kept no longer; 0: all are. Holds: state or commit */
static hts expired_before(const struct coord *co, const struct co_coll *c)
{
    int64_t ttl = co__ttl_ms(c);

    return ttl ? before_ms(clock_now_ms() - co->compacts->retention_ms - ttl) : 0;
}

/* What the data node is told, copied. false: something of it is gone, or kept longer by now. */
static bool describe(struct plan *t, struct co_swap *sw)
{
    struct coord *co = t->co;
    Elanus__CompactReq *req = &sw->req;
    const Elanus__Index *by;
    struct co_coll *c;
    bool found;

    elanus__compact_req__init(req);
    rwlock_read(&co->state);
    c = co__by_id(co, t->collection_id);
    found = c && co__list_get(&c->parts, t->partition_id);
    if (found) {
        req->collection = co__copy(c->rec->pb, sw->ar);
        req->sources = arena_alloc(sw->ar, (t->nsources + 1) * sizeof(Elanus__Segment *));
        req->deltas = arena_alloc(sw->ar, (c->deltas.n + 1) * sizeof(Elanus__Delta *));
        req->gone_before = before_ms(clock_now_ms() - co->compacts->retention_ms);
        req->expired_before = expired_before(co, c);
        by = co__order_index(c);
        req->order_by = by ? co__copy(&by->pb, sw->ar) : NULL;
    }
    for (size_t i = 0; found && i < t->nsources; i++) {
        const struct co_rec *rec = co__list_get(&c->segs, t->sources[i]);
        found = rec && (!t->expired ||
                        ((const Elanus__Segment *)rec->pb)->max_ts < req->expired_before);
        if (found) {
            req->sources[req->n_sources++] = co__copy(rec->pb, sw->ar);
        }
    }
    if (found) {
        describe_target(sw, t);
        for (size_t i = 0; i < c->deltas.n; i++) {
            const Elanus__Delta *d = c->deltas.v[i]->pb;
            bool any = false;
            for (size_t j = 0; j < req->n_sources && !any; j++) {
                any = co__delta_concerns(d, req->sources[j]);
            }
            if (any) {
                req->deltas[req->n_deltas++] = co__copy(&d->pb, sw->ar);
            }
            if (strcmp(d->vchannel, t->vchannel) == 0) {
                sw->target.deletes_id = MAX(sw->target.deletes_id, d->id);
            }
        }
    }
    rwlock_release(&co->state);
    return found;
}

static int write_segment(struct plan *t, struct co_swap *sw, struct status *st)
{
    struct call call = call_internal(sw->ar);
    const struct dnode_service *dn;
    int rc;

    call.cancel = &t->cancel;
    sw->req.target = &sw->target;
    elanus__compact_resp__init(&sw->made);
    TRY(FAULT_POINT("compact_before_files", st));
    TRY(svc_dir_dnode(t->co->opts.dir, t->node_id, &dn, st));
    sw->files_ours = true;
    TRY(dn->compact(dn->self, &call, &sw->req, &sw->made, st));
    sw->target.num_rows = sw->made.num_rows;
    sw->target.size_bytes = sw->made.size_bytes;
    sw->target.min_ts = sw->made.min_ts;
    sw->target.max_ts = sw->made.max_ts;
    sw->target.format_version = sw->made.format_version;
    if (sw->req.order_by) { /* what gave no order is not tried again */
        sw->target.ordered_by = sw->made.ordered_by ? sw->made.ordered_by : -1;
    }
out:
    return rc;
}

/* Indexes that are to have a file for the new segment, and have none yet. */
static size_t missing_indexes(struct plan *t, struct co_swap *sw)
{
    struct coord *co = t->co;
    struct co_coll *c;
    size_t n = 0;

    rwlock_read(&co->state);
    c = co__by_id(co, t->collection_id);
    sw->indexes = arena_alloc(sw->ar, ((c ? c->indexes.n : 0) + 1) * sizeof(Elanus__Index *));
    for (size_t i = 0; c && i < c->indexes.n; i++) {
        const Elanus__Index *idx = c->indexes.v[i]->pb;
        bool there = !co__index_wants_file(co, c, idx, &sw->target);
        for (size_t j = 0; j < sw->nfiles && !there; j++) {
            there = sw->files[j]->index_id == idx->id;
        }
        if (!there) {
            sw->indexes[n++] = co__copy(&idx->pb, sw->ar);
        }
    }
    rwlock_release(&co->state);
    return n;
}

/* What rules the build out for good is left to co_build.c, which tells of it. */
static int build_index(struct plan *t, struct co_swap *sw, Elanus__Index *idx,
                       const struct dnode_service *dn, struct status *st)
{
    struct call call = call_internal(sw->ar);
    Elanus__SegmentIndex *file = ARENA_NEW(sw->ar, Elanus__SegmentIndex);
    Elanus__BuildIndexReq req;
    Elanus__BuildIndexResp resp;
    int rc;

    elanus__segment_index__init(file);
    elanus__build_index_req__init(&req);
    elanus__build_index_resp__init(&resp);
    call.cancel = &t->cancel;
    TRY(co__id(t->co, 1, DEADLINE_NONE, &file->build_id, st));
    file->collection_id = t->collection_id;
    file->index_id = idx->id;
    file->segment_id = sw->target.id;
    file->field_id = idx->field_id;
    file->num_rows = sw->target.num_rows;
    req.collection = sw->req.collection;
    req.segment = &sw->target;
    req.index = idx;
    req.build_id = file->build_id;
    req.object_key = co__index_key(&sw->target, idx->id, file->build_id, sw->ar);
    rc = dn->build_index(dn->self, &call, &req, &resp, st);
    if (rc != 0 && policy_build_pause_ms(1, rc) < 0) {
        st_clear(st);
        rc = 0;
        goto out;
    }
    TRY(rc);
    file->object_key = resp.size_bytes ? req.object_key : "";
    file->size_bytes = resp.size_bytes;
    file->format_version = resp.format_version;
    file->params = resp.params;
    sw->files[sw->nfiles++] = file;
out:
    return rc;
}

static int build_indexes(struct plan *t, struct co_swap *sw, struct status *st)
{
    const struct dnode_service *dn;
    size_t n;
    int rc;

    TRY(svc_dir_dnode(t->co->opts.dir, t->node_id, &dn, st));
    for (int i = 0; i < INDEX_ROUNDS && (n = missing_indexes(t, sw)) > 0; i++) {
        Elanus__SegmentIndex **old = sw->files;
        size_t before = sw->nfiles;
        sw->files = arena_alloc(sw->ar, (before + n) * sizeof(Elanus__SegmentIndex *));
        if (before) {
            memcpy(sw->files, old, before * sizeof(Elanus__SegmentIndex *));
        }
        for (size_t j = 0; j < n; j++) {
            TRY(build_index(t, sw, sw->indexes[j], dn, st));
        }
        if (sw->nfiles == before) {
            break; /* ruled out, all of them */
        }
    }
out:
    return rc;
}

/* ---- 2: the transaction ---- */

static const Elanus__Shard *shard_of(const struct co_coll *c, const char *vchannel)
{
    const struct co_rec *rec = co__shard(c, vchannel);
    return rec ? rec->pb : NULL;
}

/* Whether the plan still fits what there is. Holds: commit */
static bool still_fits(const struct co_swap *sw, const struct co_coll *c)
{
    const Elanus__Shard *sh = c ? shard_of(c, sw->target.vchannel) : NULL;

    if (!sh || !co__list_get(&c->parts, sw->target.partition_id)) {
        return false;
    }
    for (size_t i = 0; i < sw->req.n_sources; i++) {
        const Elanus__Segment *seg = sw->req.sources[i];
        if (!co__list_get(&c->segs, seg->id) || seg->last_position >= sh->checkpoint) {
            return false;
        }
    }
    return true;
}

static bool is_source(const struct co_swap *sw, int64_t segment_id)
{
    for (size_t i = 0; i < sw->req.n_sources; i++) {
        if (sw->req.sources[i]->id == segment_id) {
            return true;
        }
    }
    return false;
}

/* Whether some row may still have to be deleted by the file: a flushed one, or one that is growing,
 * whose record lies behind the checkpoint. */
static bool is_needed(const struct co_swap *sw, const struct co_coll *c, const Elanus__Shard *sh,
                      const Elanus__Delta *d)
{
    if (strcmp(d->vchannel, sh->vchannel) != 0 || d->last_position >= sh->checkpoint ||
        (sw->target.num_rows && co__delta_concerns(d, &sw->target))) {
        return true;
    }
    for (size_t i = 0; i < c->segs.n; i++) {
        const Elanus__Segment *seg = c->segs.v[i]->pb;
        if (!is_source(sw, seg->id) && co__delta_concerns(d, seg)) {
            return true;
        }
    }
    return false;
}

static void put_changes(struct co_swap *sw, struct co_coll *c, struct co_txn *tx)
{
    const Elanus__Shard *sh = shard_of(c, sw->target.vchannel);

    for (size_t i = 0; i < sw->req.n_sources; i++) { /* index files leave the tables with them */
        for (size_t j = 0; j < c->indexes.n && tx->st.code == 0; j++) {
            const struct co_rec *file =
                co__list_get(&c->indexes.v[j]->files, sw->req.sources[i]->id);
            struct slice key;
            if (file && co__key(CO_SEGINDEX, file->pb, tx->ar, &key, &tx->st) == 0) {
                co__raw(tx, meta_op_delete(key));
            }
        }
        co__delete(tx, CO_SEGMENT, sw->req.sources[i]);
    }
    if (sw->target.num_rows) {
        co__put(tx, CO_SEGMENT, &sw->target);
    }
    for (size_t i = 0; sw->target.num_rows && i < sw->nfiles; i++) {
        if (co__list_get(&c->indexes, sw->files[i]->index_id)) {
            co__put(tx, CO_SEGINDEX, sw->files[i]);
        } else { /* dropped meanwhile */
            co__gc_prefix(tx->co, co__index_prefix(&sw->target, sw->files[i]->index_id, tx->ar));
        }
    }
    sw->gone = arena_alloc(sw->ar, (c->deltas.n + 1) * sizeof(Elanus__Delta *));
    for (size_t i = 0; i < c->deltas.n && co__txn_room(tx) > 0; i++) {
        const Elanus__Delta *d = c->deltas.v[i]->pb;
        if (!is_needed(sw, c, sh, d)) {
            sw->gone[sw->ngone] = co__copy(&d->pb, sw->ar);
            co__delete(tx, CO_DELTA, sw->gone[sw->ngone++]);
        }
    }
}

static int commit(struct plan *t, struct co_swap *sw, bool *ret_moot, struct status *st)
{
    struct coord *co = t->co;
    struct co_coll *c;
    struct co_txn tx;
    uint64_t now;
    int rc = 0;

    co__txn_init(&tx, co, sw->ar);
    lock_acquire(&co->commit); /* segments, partitions and indexes come and go under it only */
    c = co__by_id(co, t->collection_id);
    *ret_moot = !still_fits(sw, c);
    if (*ret_moot) {
        goto out;
    }
    if (sw->req.expired_before > expired_before(co, c)) { /* its properties changed meanwhile */
        FAIL(st, ST_CONFLICT, "rows that were left out are kept longer by now");
    }
    TRY(co__ts(co, 1, DEADLINE_NONE, &now, st));
    sw->target.flushed_ts = now;
    for (size_t i = 0; i < sw->nfiles; i++) {
        sw->files[i]->created_ts = now;
    }
    put_changes(sw, c, &tx);
    if (tx.nmops > META_TXN_OPS_MAX) { /* known before: nothing has happened, the files can go */
        FAIL(st, ST_TOO_LARGE, "%zu segments and their index files are more than one transaction holds",
             sw->req.n_sources);
    }
    TRY(FAULT_POINT("compact_before_commit", st));
    sw->files_ours = false; /* a commit that failed may have happened all the same */
    TRY(co__commit_locked(&tx, st));
out:
    lock_release(&co->commit);
    co__txn_done(&tx);
    return rc;
}

/* ---- 3: the shard ---- */

static int tell_shard(struct plan *t, struct co_swap *sw, const struct co_coll *c,
                      struct status *st)
{
    struct call call = call_internal(sw->ar);
    struct co_shard_ref shard = { .vchannel = t->vchannel };
    const struct snode_service *sn;
    Elanus__ReplaceSegmentsReq req;
    Elanus__Empty resp;
    int rc;

    rwlock_read(&t->co->state);
    shard.owner = shard_of(c, t->vchannel)->owner;
    rwlock_release(&t->co->state);
    if (co__owner(t->co, &shard, &sn, st) != 0) { /* nobody reads it; opened, it is the new list */
        st_clear(st);
        return 0;
    }
    elanus__replace_segments_req__init(&req);
    elanus__empty__init(&resp);
    req.vchannel = t->vchannel;
    req.source_ids = (int64_t *)(uintptr_t)t->sources;
    req.n_source_ids = t->nsources;
    req.target = sw->target.num_rows ? &sw->target : NULL;
    req.gone_delta_ids = arena_alloc(sw->ar, (sw->ngone + 1) * sizeof(int64_t));
    for (size_t i = 0; i < sw->ngone; i++) {
        req.gone_delta_ids[req.n_gone_delta_ids++] = sw->gone[i]->id;
    }
    TRY(FAULT_POINT("compact_after_commit", st));
    TRY(sn->replace_segments(sn->self, &call, &req, &resp, st));
out:
    return rc;
}

static void remove_old(struct plan *t, struct co_swap *sw)
{
    for (size_t i = 0; i < sw->req.n_sources; i++) {
        co__gc_prefix(t->co, arena_printf(sw->ar, "%s/", sw->req.sources[i]->object_prefix));
    }
    for (size_t i = 0; i < sw->ngone; i++) {
        co__gc_object(t->co, sw->gone[i]->object_key);
    }
}

static int64_t rows_of(const Elanus__CompactReq *req)
{
    int64_t rows = 0;

    for (size_t i = 0; i < req->n_sources; i++) {
        rows += req->sources[i]->num_rows;
    }
    return rows;
}

/* With the collection held, so that no load or drop comes between. */
static int swap(struct plan *t, struct co_swap *sw, bool *ret_moot, struct status *st)
{
    struct coord *co = t->co;
    struct co_notice no;
    struct co_coll *c;
    int rc = 0;

    co__ddl_begin(co, &no, sw->ar);
    while ((c = co__by_id(co, t->collection_id)) != NULL && c->busy) {
        cond_wait(&co->ddl_free, &co->ddl);
    }
    *ret_moot = !c;
    if (!c) {
        goto out;
    }
    co__busy_begin(co, c);
    if (!t->committed) {
        rc = commit(t, sw, ret_moot, st);
        if (rc == 0 && !*ret_moot) {
            lock_acquire(&co->compacts->lock);
            t->committed = true;
            lock_release(&co->compacts->lock);
        }
    }
    if (t->committed) {
        rc = tell_shard(t, sw, c, st);
    }
    co__busy_end(co, c);
out:
    co__ddl_end(co, &no);
    return rc;
}

int co__rewrite(struct plan *t, bool *ret_moot, struct status *st)
{
    struct co_swap *sw = t->swap;
    int64_t began = clock_mono_ms(), target;
    int rc = 0;

    *ret_moot = false;
    if (!sw) {
        sw = t->swap = xalloc(sizeof *sw);
        sw->ar = arena_new(0);
        TRY(co__id(t->co, 1, DEADLINE_NONE, &target, st));
        lock_acquire(&t->co->compacts->lock); /* it is asked for */
        t->target_id = target;
        lock_release(&t->co->compacts->lock);
        *ret_moot = !describe(t, sw);
        if (*ret_moot) {
            goto out;
        }
        TRY(write_segment(t, sw, st));
        if (sw->target.num_rows) {
            TRY(build_indexes(t, sw, st));
        }
    }
    TRY(swap(t, sw, ret_moot, st));
    if (*ret_moot) {
        goto out;
    }
    remove_old(t, sw);
    metric_add(t->co->compacts->rows_in, rows_of(&sw->req));
    metric_add(t->co->compacts->rows_out, sw->target.num_rows);
    LOG_I("segments rewritten: coll=%" PRId64 " shard=%s part=%" PRId64 " segments=%zu rows=%" PRId64
          " into=%" PRId64 " rows=%" PRId64 " bytes=%" PRId64 " indexes=%zu delete_files_gone=%zu ms=%"
          PRId64, t->collection_id, t->vchannel, t->partition_id, t->nsources, rows_of(&sw->req),
          sw->target.num_rows ? sw->target.id : 0, sw->target.num_rows, sw->target.size_bytes,
          sw->nfiles, sw->ngone, clock_mono_ms() - began);
out:
    if (!t->committed || rc == 0) {
        if (sw->files_ours && (rc != 0 || *ret_moot || sw->target.num_rows == 0)) {
            co__gc_prefix(t->co, arena_printf(sw->ar, "%s/", sw->target.object_prefix));
        }
        co__swap_free(TAKE(t->swap));
    }
    return rc;
}
