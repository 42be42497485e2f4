/*
 * sn_shard.c - one shard's state: growing and sealed segments, pending deletes, the current view.
 *
 * THREADS   Everything but find, ref/unref and view_get is for the sequencer of the shard's channel
 *           (or for the opening thread before the shard is registered).
 * MEMORY    Definitions and segment descriptions lie in the shard's arena and are never changed, so
 *           views may point to them; the arena goes with the last reference to the shard, and
 *           every view reference is held by someone who also holds the shard.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"
#include "base/utf8.h"
#include "proto/proto.h"
#include "schema/errors.h"

#define DELETES_MEMORY_MAX ((size_t)4 << 30)
#define COPY_MAX ((size_t)64 << 20)

void *sn__copy(const ProtobufCMessage *m, struct arena *ar)
{
    struct status st = STATUS_INIT;
    struct buf b;
    void *copy;

    buf_init(&b, COPY_MAX);
    CHECK(proto_pack(m, &b));
    copy = proto_unpack(m->descriptor, buf_slice(&b), ar, &st);
    CHECK(copy);
    buf_done(&b);
    return copy;
}

int64_t sn__ttl_ms(const Elanus__Collection *c)
{
    for (size_t i = 0; i < c->n_properties; i++) {
        int64_t seconds;
        if (strcmp(c->properties[i]->key, "collection.ttl.seconds") == 0 &&
            parse_i64(slice_of(c->properties[i]->value), &seconds) && seconds > 0 &&
            seconds < INT64_MAX / 1000) {
            return seconds * 1000;
        }
    }
    return 0;
}

/* ---- life ---- */

struct sn_shard *sn__shard_new(struct sn *sn, const Elanus__OpenShardReq *req, struct status *st)
{
    struct sn_shard *sh = xalloc(sizeof *sh);

    sh->refs = 1;
    sh->sn = sn;
    sh->vchannel = xstrdup(req->shard->vchannel);
    sh->collection_id = req->shard->collection_id;
    lock_init(&sh->lock, RANK_NODE_SHARD);
    sh->ar = arena_new(0);
    sh->collection = sn__copy(&req->collection->pb, sh->ar);
    sh->term = req->shard->term;
    sh->delta_position = req->shard->delta_position;
    sh->checkpoint = req->shard->checkpoint;
    if (req->load) {
        sh->load = sn__copy(&req->load->pb, sh->ar);
    }
    if (schema_new(sh->collection->schema, &sh->schema, st) != 0) {
        sn__shard_unref(sh);
        return NULL;
    }
    return sh;
}

struct sn_shard *sn__shard_ref(struct sn_shard *sh)
{
    atomic_fetch_add(&sh->refs, 1);
    return sh;
}

void sn__shard_unref(struct sn_shard *sh)
{
    if (!sh || atomic_fetch_sub(&sh->refs, 1) != 1) {
        return;
    }
    for (size_t i = 0; i < sh->ngrowing; i++) {
        atomic_fetch_sub(&sh->sn->growing_bytes, sh->growing[i].bytes);
        seg_unref(sh->growing[i].seg);
    }
    sn__view_unref(sh->view);
    arena_free(sh->deletes.ar);
    mem_free(sh->deletes.keys);
    mem_free(sh->deletes.ts);
    mem_free(sh->deletes.positions);
    mem_free(sh->growing);
    mem_free(sh->sealed);
    mem_free(sh->deltas);
    mem_free(sh->vchannel);
    schema_unref(sh->schema);
    arena_free(sh->ar);
    lock_done(&sh->lock);
    mem_free(sh);
}

int sn__shard_find(struct sn *sn, const char *vchannel, struct sn_shard **ret, struct status *st)
{
    struct sn_shard *sh;

    lock_acquire(&sn->lock);
    sh = str_map_get(sn->shards, slice_of(vchannel));
    if (sh) {
        sn__shard_ref(sh);
    }
    lock_release(&sn->lock);
    if (!sh) {
        st_fail(st, ERR_CHANNEL_NOT_AVAILABLE, "channel not available[channel=%s]", vchannel);
        st->retriable = true;
        return st->code;
    }
    *ret = sh;
    return 0;
}

/* ---- views ---- */

void sn__view_unref(struct sn_view *vw)
{
    if (!vw || atomic_fetch_sub(&vw->refs, 1) != 1) {
        return;
    }
    for (size_t i = 0; i < vw->ngrowing; i++) {
        seg_unref(vw->growing[i]);
    }
    mem_free(vw->growing);
    mem_free(vw->sealed);
    mem_free(vw->partitions);
    schema_unref(vw->schema);
    mem_free(vw);
}

struct sn_view *sn__view_get(struct sn_shard *sh)
{
    struct sn_view *vw;

    lock_acquire(&sh->lock);
    vw = sh->view;
    if (vw) {
        atomic_fetch_add(&vw->refs, 1);
    }
    lock_release(&sh->lock);
    return vw;
}

bool sn__view_has_partition(const struct sn_view *vw, int64_t partition_id)
{
    if (vw->whole) {
        return true;
    }
    for (size_t i = 0; i < vw->npartitions; i++) {
        if (vw->partitions[i] == partition_id) {
            return true;
        }
    }
    return false;
}

/* A segment that is being swapped stands in both lists: the loaded sealed one is shown. */
static bool served_sealed(const struct sn_shard *sh, int64_t segment_id)
{
    for (size_t i = 0; i < sh->nsealed; i++) {
        if (sh->sealed[i].meta->id == segment_id) {
            return sh->sealed[i].node_id != 0;
        }
    }
    return false;
}

void sn__view_publish(struct sn_shard *sh)
{
    struct sn_view *vw = xalloc(sizeof *vw);
    struct sn_view *old;

    vw->refs = 1;
    vw->schema = schema_ref(sh->schema);
    vw->ttl_ms = sn__ttl_ms(sh->collection);
    if (sh->load && sh->load->status == ELANUS__LOAD_STATUS__LOAD_LOADED) {
        vw->loaded = true;
        vw->whole = sh->load->whole;
        vw->npartitions = sh->load->n_partition_ids;
        vw->partitions = xalloc((vw->npartitions + 1) * sizeof *vw->partitions);
        for (size_t i = 0; i < vw->npartitions; i++) {
            vw->partitions[i] = sh->load->partition_ids[i];
        }
    }
    vw->growing = xalloc((sh->ngrowing + 1) * sizeof(struct segment *));
    for (size_t i = 0; i < sh->ngrowing; i++) {
        struct seg_info info;
        seg_get_info(sh->growing[i].seg, &info);
        if (!served_sealed(sh, info.id)) {
            vw->growing[vw->ngrowing++] = seg_ref(sh->growing[i].seg);
        }
    }
    vw->sealed = xalloc((sh->nsealed + 1) * sizeof *vw->sealed);
    for (size_t i = 0; i < sh->nsealed; i++) {
        if (sh->sealed[i].node_id != 0) {
            vw->sealed[vw->nsealed++] = sh->sealed[i];
        }
    }
    lock_acquire(&sh->lock);
    old = sh->view;
    sh->view = vw;
    lock_release(&sh->lock);
    sn__view_unref(old);
}

/* ---- segments ---- */

struct sn_growing *sn__growing_find(struct sn_shard *sh, int64_t segment_id)
{
    for (size_t i = 0; i < sh->ngrowing; i++) {
        struct seg_info info;
        seg_get_info(sh->growing[i].seg, &info);
        if (info.id == segment_id) {
            return &sh->growing[i];
        }
    }
    return NULL;
}

int sn__growing_add(struct sn_shard *sh, int64_t segment_id, int64_t partition_id,
                    struct sn_growing **ret, struct status *st)
{
    struct segment *seg;
    int rc = seg_growing_new(segment_id, sh->collection_id, partition_id, sh->schema, &seg, st);

    if (rc != 0) {
        return rc;
    }
    if (sh->ngrowing == sh->growing_cap) {
        sh->growing_cap = sh->growing_cap ? sh->growing_cap * 2 : 4;
        sh->growing = xrealloc(sh->growing, sh->growing_cap * sizeof *sh->growing);
    }
    sh->growing[sh->ngrowing] = (struct sn_growing){
        .seg = seg, .partition_id = partition_id, .last_write_ms = clock_now_ms()
    };
    *ret = &sh->growing[sh->ngrowing++];
    return 0;
}

void sn__growing_remove(struct sn_shard *sh, int64_t segment_id)
{
    struct sn_growing *g = sn__growing_find(sh, segment_id);

    if (g) {
        atomic_fetch_sub(&sh->sn->growing_bytes, g->bytes);
        seg_unref(g->seg);
        *g = sh->growing[--sh->ngrowing];
    }
}

bool sn__is_flushed(const struct sn_shard *sh, int64_t segment_id)
{
    for (size_t i = 0; i < sh->nsealed; i++) {
        if (sh->sealed[i].meta->id == segment_id) {
            return true;
        }
    }
    return false;
}

int sn__sealed_add(struct sn_shard *sh, const Elanus__Segment *meta, int64_t node_id,
                   struct status *st)
{
    (void)st;
    for (size_t i = 0; i < sh->nsealed; i++) {
        if (sh->sealed[i].meta->id == meta->id) {
            sh->sealed[i].node_id = node_id ? node_id : sh->sealed[i].node_id;
            return 0;
        }
    }
    if (sh->nsealed == sh->sealed_cap) {
        sh->sealed_cap = sh->sealed_cap ? sh->sealed_cap * 2 : 8;
        sh->sealed = xrealloc(sh->sealed, sh->sealed_cap * sizeof *sh->sealed);
    }
    sh->sealed[sh->nsealed++] =
        (struct sn_sealed){ .meta = sn__copy(&meta->pb, sh->ar), .node_id = node_id };
    return 0;
}

/* ---- pending deletes ---- */

static bool deletes_grow(struct sn_deletes *d, size_t more)
{
    size_t cap = MAX(d->cap * 2, d->n + more);
    void *keys, *ts, *positions;

    if (d->n + more <= d->cap) {
        return true;
    }
    keys = realloc_try(d->keys, cap * sizeof *d->keys);
    if (!keys) {
        return false;
    }
    d->keys = keys;
    ts = realloc_try(d->ts, cap * sizeof *d->ts);
    if (!ts) {
        return false;
    }
    d->ts = ts;
    positions = realloc_try(d->positions, cap * sizeof *d->positions);
    if (!positions) {
        return false;
    }
    d->positions = positions;
    d->cap = cap;
    return true;
}

int sn__deletes_add(struct sn_shard *sh, const struct column *pks, hts ts, uint64_t position,
                    struct status *st)
{
    struct sn_deletes *d = &sh->deletes;
    size_t n = d->n;

    if (!d->ar) {
        d->ar = arena_new(DELETES_MEMORY_MAX);
        d->oldest_ms = clock_now_ms();
    }
    if (!deletes_grow(d, pks->nrows)) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %u pending deletes", pks->nrows);
    }
    for (uint32_t i = 0; i < pks->nrows; i++, n++) {
        d->keys[n] = arena_copy(d->ar, column_cell(pks, i));
        d->ts[n] = ts;
        d->positions[n] = position;
        if (!d->keys[n].p && column_cell(pks, i).n) {
            return st_fail(st, ST_NO_MEMORY, "no memory for pending deletes");
        }
        d->bytes += d->keys[n].n + 32;
    }
    d->n = n;
    return 0;
}

void sn__deletes_trim(struct sn_shard *sh, uint64_t position)
{
    struct sn_deletes old = sh->deletes;
    struct sn_deletes *d = &sh->deletes;

    *d = (struct sn_deletes){ 0 };
    for (size_t i = 0; i < old.n; i++) {
        if (old.positions[i] > position) {
            if (!d->ar) {
                d->ar = arena_new(DELETES_MEMORY_MAX);
                d->oldest_ms = clock_now_ms();
            }
            CHECK(deletes_grow(d, old.n - i)); /* less than what was just held */
            d->keys[d->n] = arena_copy(d->ar, old.keys[i]);
            d->ts[d->n] = old.ts[i];
            d->positions[d->n] = old.positions[i];
            d->bytes += old.keys[i].n + 32;
            d->n++;
        }
    }
    arena_free(old.ar);
    mem_free(old.keys);
    mem_free(old.ts);
    mem_free(old.positions);
}

int sn__deletes_column(const struct sn_shard *sh, uint64_t after_position, struct arena *ar,
                       struct column *ret_pks, const hts **ret_ts, uint64_t *ret_last,
                       struct status *st)
{
    const struct sn_deletes *d = &sh->deletes;
    const struct field *pk = sh->schema->pk;
    hts *ts = arena_try_array(ar, d->n + 1, sizeof *ts);
    struct column_builder *cb = column_builder_new(ar, pk->id, pk->type, DT_NONE, 0,
                                                   (uint32_t)d->n);
    uint32_t n = 0;

    if (!ts) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %zu pending deletes", d->n);
    }
    *ret_last = after_position;
    for (size_t i = 0; i < d->n; i++) {
        if (d->positions[i] <= after_position) {
            continue;
        }
        ts[n++] = d->ts[i];
        *ret_last = MAX(*ret_last, d->positions[i]);
        if (!column_builder_add(cb, d->keys[i])) {
            return st_fail(st, ST_NO_MEMORY, "no memory for %zu pending deletes", d->n);
        }
    }
    column_builder_finish(cb, ret_pks);
    *ret_ts = ts;
    return 0;
}
