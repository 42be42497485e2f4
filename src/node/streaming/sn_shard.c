/*
 * sn_shard.c - one shard's state: growing and sealed segments, definition, the current view.
 *
 * THREADS   Everything but find, is_current, ref/unref and view_get is for the sequencer of the shard's channel
 *           (or for the opening thread before the shard is registered).
 * MEMORY    Segment descriptions lie in the shard's arena and are never changed, so views may point
 *           to them; the arena goes with the last reference to the shard, and every view reference
 *           is held by someone who also holds the shard. Definition and load state are the
 *           sequencer's alone and are replaced with their arenas, however often they change.
 * INVARIANTS  A view shows the rows of a segment once: growing until the sealed one is loaded. Rows
 *           that are to be readable and are neither stand in `missing`, so that a read fails
 *           instead of leaving them out.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"
#include "base/utf8.h"
#include "proto/proto.h"
#include "schema/errors.h"

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

static int64_t ttl_ms(const Elanus__Collection *c)
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

int sn__set_collection(struct sn_shard *sh, const Elanus__Collection *c, struct status *st)
{
    struct arena *ar = arena_new(0);
    Elanus__Collection *copy = sn__copy(&c->pb, ar);
    struct schema *schema = NULL;
    int rc;

    TRY(schema_new(copy->schema, &schema, st));
    schema_unref(sh->schema);
    sh->schema = schema;
    arena_free(sh->coll_ar);
    sh->coll_ar = TAKE(ar);
    sh->collection = copy;
out:
    arena_free(ar);
    return rc;
}

void sn__set_load(struct sn_shard *sh, const Elanus__Load *load)
{
    struct arena *old = sh->load_ar;

    sh->load_ar = load ? arena_new(0) : NULL;
    sh->load = load ? sn__copy(&load->pb, sh->load_ar) : NULL;
    arena_free(old);
}

void sn__set_failed(struct sn_shard *sh, const struct status *why)
{
    lock_acquire(&sh->lock);
    sh->failed = *why;
    lock_release(&sh->lock);
}

struct sn_shard *sn__shard_new(struct sn *sn, const Elanus__OpenShardReq *req, struct status *st)
{
    struct sn_shard *sh = xalloc(sizeof *sh);

    sh->refs = 1;
    sh->sn = sn;
    sh->vchannel = xstrdup(req->shard->vchannel);
    sh->collection_id = req->shard->collection_id;
    lock_init(&sh->lock, RANK_NODE_SHARD);
    cond_init(&sh->load_free);
    sh->ar = arena_new_small(512);
    sh->term = req->shard->term;
    sh->delta_position = req->shard->delta_position;
    sh->checkpoint = req->shard->checkpoint;
    sn__set_load(sh, req->load);
    if (sn__set_collection(sh, req->collection, st) != 0) {
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
    sn__deletes_trim(sh, UINT64_MAX);
    mem_free(sh->dropped_partitions);
    mem_free(sh->growing);
    mem_free(sh->sealed);
    mem_free(sh->deltas);
    mem_free(sh->gone_deltas);
    mem_free(sh->vchannel);
    schema_unref(sh->schema);
    arena_free(sh->ar);
    arena_free(sh->coll_ar);
    arena_free(sh->load_ar);
    lock_done(&sh->lock);
    cond_done(&sh->load_free);
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

bool sn__shard_is_current(struct sn *sn, const struct sn_shard *sh)
{
    struct status st = STATUS_INIT;
    struct sn_shard *found = NULL;
    bool current = sn__shard_find(sn, sh->vchannel, &found, &st) == 0 && found == sh;

    sn__shard_unref(found);
    return current;
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
    mem_free(vw->missing);
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

bool sn__load_wants(const Elanus__Load *load, int64_t partition_id)
{
    if (!load || load->status != ELANUS__LOAD_STATUS__LOAD_LOADED) {
        return false;
    }
    for (size_t i = 0; i < load->n_partition_ids; i++) {
        if (load->partition_ids[i] == partition_id) {
            return true;
        }
    }
    return load->whole;
}

static void view_load(struct sn_view *vw, const Elanus__Load *load)
{
    if (!load || load->status != ELANUS__LOAD_STATUS__LOAD_LOADED) {
        return;
    }
    vw->loaded = true;
    vw->whole = load->whole;
    vw->npartitions = load->n_partition_ids;
    vw->partitions = xalloc((vw->npartitions + 1) * sizeof *vw->partitions);
    for (size_t i = 0; i < vw->npartitions; i++) {
        vw->partitions[i] = load->partition_ids[i];
    }
}

/* A flushed segment stands in both lists until it is swapped: the loaded sealed one is shown. */
static void view_segments(struct sn_view *vw, struct sn_shard *sh)
{
    vw->growing = xalloc((sh->ngrowing + 1) * sizeof(struct segment *));
    vw->sealed = xalloc((sh->nsealed + 1) * sizeof *vw->sealed);
    vw->missing = xalloc((sh->nsealed + 1) * sizeof(Elanus__Segment *));
    for (size_t i = 0; i < sh->ngrowing; i++) {
        const struct sn_sealed *s = sn__sealed_find(sh, sh->growing[i].id);
        if (!s || s->node_id == 0) {
            vw->growing[vw->ngrowing++] = seg_ref(sh->growing[i].seg);
        }
    }
    for (size_t i = 0; i < sh->nsealed; i++) {
        const struct sn_sealed *s = &sh->sealed[i];
        if (s->node_id != 0) {
            vw->sealed[vw->nsealed++] = *s;
        } else if (sn__load_wants(sh->load, s->meta->partition_id) &&
                   !sn__growing_find(sh, s->meta->id)) {
            vw->missing[vw->nmissing++] = s->meta;
        }
    }
}

void sn__view_publish(struct sn_shard *sh)
{
    struct sn_view *vw = xalloc(sizeof *vw);
    struct sn_view *old;

    vw->refs = 1;
    vw->schema = schema_ref(sh->schema);
    vw->ttl_ms = ttl_ms(sh->collection);
    view_load(vw, sh->load);
    view_segments(vw, sh);
    if (vw->nmissing) {
        sn__flush_queue(sh->sn, sh); /* loads them */
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
        if (sh->growing[i].id == segment_id) {
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
        sh->growing_cap = sh->growing_cap ? sh->growing_cap * 2 : 1;
        sh->growing = xrealloc(sh->growing, sh->growing_cap * sizeof *sh->growing);
    }
    sh->growing[sh->ngrowing] = (struct sn_growing){ .seg = seg,
                                                     .id = segment_id,
                                                     .partition_id = partition_id,
                                                     .last_write_ms = clock_now_ms() };
    *ret = &sh->growing[sh->ngrowing++];
    return 0;
}

void sn__growing_remove(struct sn_shard *sh, struct sn_growing *g)
{
    atomic_fetch_sub(&sh->sn->growing_bytes, g->bytes);
    seg_unref(g->seg);
    *g = sh->growing[--sh->ngrowing];
}

struct sn_sealed *sn__sealed_find(const struct sn_shard *sh, int64_t segment_id)
{
    for (size_t i = 0; i < sh->nsealed; i++) {
        if (sh->sealed[i].meta->id == segment_id) {
            return &sh->sealed[i];
        }
    }
    return NULL;
}

void sn__sealed_add(struct sn_shard *sh, const Elanus__Segment *meta)
{
    if (sn__sealed_find(sh, meta->id)) {
        return;
    }
    if (sh->nsealed == sh->sealed_cap) {
        sh->sealed_cap = sh->sealed_cap ? sh->sealed_cap * 2 : 8;
        sh->sealed = xrealloc(sh->sealed, sh->sealed_cap * sizeof *sh->sealed);
    }
    sh->sealed[sh->nsealed++] = (struct sn_sealed){ .meta = sn__copy(&meta->pb, sh->ar) };
}

bool sn__partition_is_dropped(const struct sn_shard *sh, int64_t partition_id)
{
    for (size_t i = 0; i < sh->ndropped; i++) {
        if (sh->dropped_partitions[i] == partition_id) {
            return true;
        }
    }
    return false;
}

bool sn__delta_is_gone(const struct sn_shard *sh, int64_t id)
{
    for (size_t i = 0; i < sh->ngone_deltas; i++) {
        if (sh->gone_deltas[i] == id) {
            return true;
        }
    }
    return false;
}

void sn__delta_add(struct sn_shard *sh, const Elanus__Delta *delta)
{
    if (sh->ndeltas == sh->deltas_cap) {
        sh->deltas_cap = sh->deltas_cap * 2 + 8;
        sh->deltas = xrealloc(sh->deltas, sh->deltas_cap * sizeof(Elanus__Delta *));
    }
    sh->deltas[sh->ndeltas++] = sn__copy(&delta->pb, sh->ar);
}

void sn__swap_flushed(struct sn_shard *sh)
{
    for (size_t i = sh->ngrowing; i-- > 0;) {
        struct sn_growing *g = &sh->growing[i];
        const struct sn_sealed *s = sn__sealed_find(sh, g->id);
        if (s && (s->node_id != 0 || !sn__load_wants(sh->load, g->partition_id))) {
            sn__growing_remove(sh, g);
        }
    }
}

uint64_t sn__shard_low(const struct sn_shard *sh)
{
    uint64_t low = sh->failed_position ? sh->failed_position : UINT64_MAX;

    for (size_t i = 0; i < sh->ngrowing; i++) {
        const struct sn_growing *g = &sh->growing[i];
        if (g->first_position && !sn__sealed_find(sh, g->id)) {
            low = MIN(low, g->first_position);
        }
    }
    if (sh->deletes.n) { /* in order of positions */
        low = MIN(low, sh->deletes.at[0].position);
    }
    return low;
}
