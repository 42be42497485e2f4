/*
 * co_compact.c - which segments are rewritten, when, and what became of it. One rewriting:
 * co_rewrite.c.
 *
 * PLANS      A plan names a few flushed segments of one partition of one shard that become one
 *            (policy_compact.c says which). Nothing of it is stored: what a crash cuts short is
 *            found again in the state of the segments.
 * WHEN       After every flush, index file, change of a collection, and when rows expire or deletes
 *            are old enough; or when asked (ManualCompaction). Left to itself a segment waits until it
 *            has its index files, so that fresh rows are indexed soon and merged later. A request
 *            is planned when no other plan of the collection is under way: then it finds all segments.
 * FAILURE    Tried again after policy_build_pause_ms(), TRIES_MAX times; then the plan has failed and
 *            its segments are left alone for a while. One whose change is committed is tried for ever.
 * THREADS    One that looks for work and sleeps until there may be some; one for each running plan,
 *            at most one of a collection. `lock` (RANK_COORD_PLANS) guards the list; it is taken below
 *            `state`.
 */
#include "coord/co_compact.h"
#include "coord/policy.h"

#define LOG_ROOM "coord"
#include "base/log.h"

#define TRIES_MAX 6
#define PAUSE_MAX_MS 60000 /* of one that has to succeed in the end */
#define LEFT_ALONE_MS 600000
#define REMEMBERED 1000 /* plans that are over, for those who asked */
#define ASKED_MAX 1000  /* requests that wait */
#define NO_IDS_MS 1000
#define TTL_LOOK_MS 10000

static bool is_over(const struct plan *t)
{
    return t->state == PLAN_ENDED || t->state == PLAN_GAVE_UP;
}

static void plan_free(struct plan *t)
{
    co__swap_free(t->swap);
    arena_free(t->ar);
    mem_free(t);
}

/* ---- candidates ---- */

/* Segments of one partition of one shard. */
struct group {
    const char *vchannel;
    int64_t partition_id;
    size_t n;
    const Elanus__Segment *const *v;
};

/* What may be chosen from, and what for. */
struct look {
    struct coord *co;
    struct arena *ar;
    int64_t now_ms, next_ms;             /* next: when time alone makes work; wall clock */
    const Elanus__CompactSegmentsReq *asked; /* NULL: the policy's own */
    bool orders;                         /* the collection has an index that orders rows */
    double *may_hit;                     /* of the collection's delete files: rows they may concern */
};

static int by_group(const void *pa, const void *pb)
{
    const Elanus__Segment *a = *(const Elanus__Segment *const *)pa;
    const Elanus__Segment *b = *(const Elanus__Segment *const *)pb;
    int c = strcmp(a->vchannel, b->vchannel);

    if (c == 0) {
        c = (a->partition_id > b->partition_id) - (a->partition_id < b->partition_id);
    }
    return c ? c : (a->id > b->id) - (a->id < b->id);
}

static bool same_group(const Elanus__Segment *a, const Elanus__Segment *b)
{
    return a->partition_id == b->partition_id && strcmp(a->vchannel, b->vchannel) == 0;
}

/* Holds: state */
static uint64_t checkpoint_of(const struct co_coll *c, const char *vchannel)
{
    const struct co_rec *rec = co__shard(c, vchannel);
    return rec ? ((const Elanus__Shard *)rec->pb)->checkpoint : 0;
}

/* Holds: lock */
static bool in_a_plan(const struct co_compacts *k, int64_t segment_id)
{
    int64_t now = clock_mono_ms();

    for (size_t i = 0; i < k->n; i++) {
        const struct plan *t = k->v[i];
        if (t->state == PLAN_ENDED || (t->state == PLAN_GAVE_UP && t->due_ms <= now)) {
            continue;
        }
        for (size_t j = 0; j < t->nsources; j++) {
            if (t->sources[j] == segment_id) {
                return true;
            }
        }
    }
    return false;
}

/* Whether an index file of the segment is still to come. Holds: state */
static bool waits_for_index(struct coord *co, const struct co_coll *c, const Elanus__Segment *seg)
{
    for (size_t i = 0; i < c->indexes.n; i++) {
        const struct co_rec *idx = c->indexes.v[i];
        if (!co__list_get(&idx->files, seg->id) && co__index_wants_file(co, c, idx->pb, seg) &&
            !co__build_given_up(co, idx->id, seg->id)) {
            return true;
        }
    }
    return false;
}

static bool asked_for(const Elanus__CompactSegmentsReq *asked, const Elanus__Segment *seg)
{
    return co__in_ids(asked->partition_ids, asked->n_partition_ids, seg->partition_id) &&
           co__in_ids(asked->segment_ids, asked->n_segment_ids, seg->id) &&
           (!asked->vchannel[0] || strcmp(asked->vchannel, seg->vchannel) == 0);
}

/* Holds: state */
static void look_at_deletes(struct look *lk, const struct co_coll *c)
{
    lk->may_hit = arena_alloc(lk->ar, (c->deltas.n + 1) * sizeof *lk->may_hit);
    for (size_t i = 0; i < c->deltas.n; i++) {
        lk->may_hit[i] = 0;
        for (size_t j = 0; j < c->segs.n; j++) {
            const Elanus__Segment *s = c->segs.v[j]->pb;
            lk->may_hit[i] += co__delta_concerns(c->deltas.v[i]->pb, s) ? (double)s->num_rows : 0;
        }
    }
}

/* Rows that deletes since the segment was written may have hit and that may be left out by now: those
 * of the shard's delete files, spread over the rows they may concern. Holds: state */
static int64_t deleted_rows(struct look *lk, const struct co_coll *c, const Elanus__Segment *seg)
{
    uint64_t old_enough = hts_make(MAX(lk->now_ms - lk->co->compacts->retention_ms, (int64_t)0), 0);
    double gone = 0;

    for (size_t i = 0; i < c->deltas.n; i++) {
        const Elanus__Delta *d = c->deltas.v[i]->pb;
        if (!co__delta_concerns(d, seg)) {
            continue;
        }
        if (d->max_ts > old_enough) {
            lk->next_ms = MIN(lk->next_ms, hts_physical_ms(d->max_ts) + lk->co->compacts->retention_ms + 1);
            continue;
        }
        gone += (double)d->num_rows * (double)seg->num_rows / MAX(lk->may_hit[i], 1.0);
    }
    return (int64_t)MIN(gone + 0.999, (double)seg->num_rows);
}

/* Rows past their time, when inserts came evenly. Holds: state */
static int64_t expired_rows(struct look *lk, const struct co_coll *c, const Elanus__Segment *seg,
                            bool *ret_all)
{
    int64_t ttl = co__ttl_ms(c), before = lk->now_ms - lk->co->compacts->retention_ms - ttl;
    int64_t first = hts_physical_ms(seg->min_ts), last = hts_physical_ms(seg->max_ts);

    *ret_all = ttl > 0 && last < before;
    if (ttl > 0 && !*ret_all) {
        lk->next_ms = MIN(lk->next_ms, MAX(last + lk->now_ms - before + 1, lk->now_ms + TTL_LOOK_MS));
    }
    if (ttl == 0 || before <= first) {
        return 0;
    }
    return *ret_all ? seg->num_rows
                    : (int64_t)((double)seg->num_rows * (double)(before - first) /
                                (double)(last - first + 1));
}

/* Holds: state, lock */
static struct policy_seg candidate(struct look *lk, const struct co_coll *c,
                                   const Elanus__Segment *seg)
{
    struct policy_seg p = { .id = seg->id, .rows = seg->num_rows, .bytes = seg->size_bytes };

    p.free = seg->last_position < checkpoint_of(c, seg->vchannel) &&
             !in_a_plan(lk->co->compacts, seg->id) &&
             (lk->asked ? asked_for(lk->asked, seg) : !waits_for_index(lk->co, c, seg));
    if (p.free) {
        p.gone = expired_rows(lk, c, seg, &p.expired);
        p.gone = MIN(p.gone + deleted_rows(lk, c, seg), p.rows);
        p.unordered = lk->orders && seg->ordered_by == 0;
    }
    return p;
}

/* ---- making plans ---- */

/* Holds: lock */
static struct plan *add_plan(struct coord *co, const struct co_coll *c, const struct group *g,
                             const uint32_t *picked, size_t n, int64_t id, int64_t trigger)
{
    struct co_compacts *k = co->compacts;
    struct plan *t = xalloc(sizeof *t);
    int64_t *sources;

    *t = (struct plan){ .co = co, .id = id, .trigger = trigger, .collection_id = c->id,
                        .partition_id = g->partition_id, .nsources = n, .ar = arena_new(0) };
    t->vchannel = arena_strdup(t->ar, g->vchannel);
    sources = arena_alloc(t->ar, (n + 1) * sizeof *sources);
    for (size_t i = 0; i < n; i++) {
        sources[i] = g->v[picked[i]]->id;
    }
    t->sources = sources;
    if (k->n == k->cap) {
        k->cap = k->cap ? k->cap * 2 : 8;
        k->v = xrealloc(k->v, k->cap * sizeof(struct plan *));
    }
    k->v[k->n++] = t;
    return t;
}

/* So that the change fits into one transaction: a source goes with its index files, the target comes
 * with its own. Room is left for delete files that go, and an index that is made meanwhile. */
static size_t sources_max(const struct co_coll *c)
{
    return MAX((size_t)META_TXN_OPS_MAX * 7 / 8 / (c->indexes.n + 2), (size_t)1);
}

/* Plans for one group; id: of the first, nids: how many there may be. Holds: state, lock */
static size_t plan_group(struct look *lk, const struct co_coll *c, const struct group *g,
                         int64_t id, size_t nids, int64_t trigger)
{
    struct policy_seg *segs = arena_alloc(lk->ar, (g->n + 1) * sizeof *segs);
    uint32_t *order = arena_alloc(lk->ar, (g->n + 1) * sizeof *order);
    uint32_t *picked = arena_alloc(lk->ar, (g->n + 1) * sizeof *picked);
    struct policy_compact how = { .forced = lk->asked != NULL,
                                  .max_sources = sources_max(c),
                                  .no_merge = lk->asked && lk->asked->deletes_only };
    int64_t total = 0;
    size_t plans = 0, n, k;

    for (size_t i = 0; i < g->n; i++) {
        segs[i] = candidate(lk, c, g->v[i]);
        total += segs[i].bytes;
    }
    how.max_bytes = policy_segment_bytes(lk->co->compacts->max_bytes, total);
    if (lk->asked && lk->asked->target_bytes > 0) {
        how.max_bytes = lk->asked->target_bytes;
    }
    n = policy_compact_order(segs, g->n, order);
    while (plans < nids && (k = policy_compact_next(segs, order, &n, &how, picked)) > 0) {
        struct plan *t = add_plan(lk->co, c, g, picked, k, id + (int64_t)plans++, trigger);
        t->expired = segs[picked[0]].expired;
        for (size_t i = 0; i < k; i++) {
            segs[picked[i]].free = false;
        }
    }
    return plans;
}

/* Holds: state, lock */
static size_t plan_collection(struct look *lk, const struct co_coll *c, int64_t id, size_t nids,
                              int64_t trigger)
{
    const Elanus__Segment **all = arena_alloc(lk->ar, (c->segs.n + 1) * sizeof(Elanus__Segment *));
    size_t plans = 0;

    for (size_t i = 0; i < c->segs.n; i++) {
        all[i] = c->segs.v[i]->pb;
    }
    qsort(all, c->segs.n, sizeof(Elanus__Segment *), by_group);
    look_at_deletes(lk, c);
    lk->orders = co__order_index(c) != NULL;
    for (size_t i = 0, n; i < c->segs.n; i += n) {
        for (n = 1; i + n < c->segs.n && same_group(all[i], all[i + n]); n++) {
        }
        struct group g = { all[i]->vchannel, all[i]->partition_id, n, all + i };
        plans += plan_group(lk, c, &g, id + (int64_t)plans, nids - plans, trigger);
    }
    return plans;
}

/* ---- running them ---- */

static void note_failure(struct plan *t, const struct status *why)
{
    int64_t pause = policy_build_pause_ms(++t->tries, why->code);

    t->why = *why;
    t->state = PLAN_WAITS;
    t->due_ms = clock_mono_ms() + (pause < 0 ? PAUSE_MAX_MS : pause);
    if (!t->committed && (pause < 0 || t->tries >= TRIES_MAX)) {
        t->state = PLAN_GAVE_UP;
        t->due_ms = clock_mono_ms() + LEFT_ALONE_MS;
    }
}

static void plan_main(void *arg)
{
    struct plan *t = arg;
    struct co_compacts *k = t->co->compacts;
    struct status st = STATUS_INIT;
    bool moot = false;
    int rc = co__rewrite(t, &moot, &st);

    lock_acquire(&k->lock);
    if (rc == 0) {
        t->state = PLAN_ENDED;
        metric_add(k->done, moot ? 0 : 1);
    } else if (t->cancel && !t->committed) {
        t->state = PLAN_ENDED; /* what it was about is gone, or the program stops */
    } else {
        note_failure(t, &st);
        metric_add(k->failed, 1);
        LOG_W("segments not rewritten%s: coll=%" PRId64 " shard=%s segments=%zu try=%d error=\"%s\"",
              t->state == PLAN_GAVE_UP ? ", given up" : "", t->collection_id, t->vchannel,
              t->nsources, t->tries, st.msg);
    }
    t->ended = true;
    k->woken = true;
    cond_signal(&k->wake);
    lock_release(&k->lock);
    co__builds_wake(t->co); /* indexes that were ruled out tell why */
}

/* Joins threads that have ended; forgets plans nobody asked for, and the oldest of the others. */
static void reap(struct co_compacts *k)
{
    size_t over = 0, n = 0;

    lock_acquire(&k->lock);
    for (size_t i = 0; i < k->n; i++) {
        struct plan *t = k->v[i];
        if (t->ended) {
            struct thread *th = TAKE(t->thread);
            t->ended = false;
            lock_release(&k->lock);
            thread_join(th); /* past its last use of the lock */
            lock_acquire(&k->lock);
        }
        over += is_over(t);
    }
    for (size_t i = 0; i < k->n; i++) {
        struct plan *t = k->v[i];
        bool drop = t->state == PLAN_ENDED
                        ? t->trigger == 0 || over > REMEMBERED
                        : t->state == PLAN_GAVE_UP && t->due_ms <= clock_mono_ms() &&
                              (t->trigger == 0 || over > REMEMBERED);
        if (drop && !t->thread) {
            plan_free(t);
            over--;
        } else {
            k->v[n++] = t;
        }
    }
    k->n = n;
    lock_release(&k->lock);
}

/* A source is gone with its partition or collection. Holds: state */
static bool is_moot(struct coord *co, const struct plan *t)
{
    const struct co_coll *c = co__by_id(co, t->collection_id);

    for (size_t i = 0; c && i < t->nsources; i++) {
        if (!co__list_get(&c->segs, t->sources[i])) {
            return true;
        }
    }
    return !c;
}

/* Whether a plan of the collection runs: one at a time, so that they do not wait for each other's
 * swap with files in hand. Holds: lock */
static bool runs(const struct co_compacts *k, int64_t collection_id)
{
    for (size_t i = 0; i < k->n; i++) {
        if (k->v[i]->state == PLAN_RUNS && k->v[i]->collection_id == collection_id) {
            return true;
        }
    }
    return false;
}

/* A data node with room; 0: none. Holds: state, lock */
static int64_t free_node(struct coord *co, int64_t *ids)
{
    const struct co_compacts *k = co->compacts;
    size_t n = co__nodes(co, CO_WORK, ids), least = k->per_node;
    int64_t best = 0;

    for (size_t i = 0; i < n; i++) {
        size_t busy = 0;
        for (size_t j = 0; j < k->n; j++) {
            busy += k->v[j]->state == PLAN_RUNS && k->v[j]->node_id == ids[i];
        }
        if (busy < least) {
            least = busy;
            best = ids[i];
        }
    }
    return best;
}

/* Starts what is due; when the next one is, monotonic. Holds: state, lock */
static int64_t start_due(struct coord *co, struct arena *ar)
{
    struct co_compacts *k = co->compacts;
    int64_t *ids = arena_alloc(ar, CO_NODES_MAX * sizeof *ids);
    int64_t now = clock_mono_ms(), next = INT64_MAX;

    for (size_t i = 0; i < k->n; i++) {
        struct plan *t = k->v[i];
        int64_t node;
        if (t->state == PLAN_RUNS && !t->committed && is_moot(co, t)) {
            t->cancel = true;
        }
        if (t->state == PLAN_GAVE_UP && t->due_ms > now) {
            next = MIN(next, t->due_ms);
        }
        if (t->state != PLAN_WAITS || t->thread || runs(k, t->collection_id)) {
            continue; /* what ends wakes us */
        }
        if (!t->committed && is_moot(co, t)) {
            t->state = PLAN_ENDED;
        } else if (t->due_ms > now) {
            next = MIN(next, t->due_ms);
        } else if ((node = free_node(co, ids)) != 0) {
            t->node_id = node;
            t->state = PLAN_RUNS;
            t->thread = thread_start("co-compact", plan_main, t);
        }
    }
    return next;
}

/* ---- looking for work ---- */

static bool wants_automatic(const struct co_compacts *k, const struct co_coll *c)
{
    const Elanus__Collection *pb = co__pb(c);
    const char *own = co__kv(pb->properties, pb->n_properties, "collection.autocompaction.enabled");

    return k->enabled && (own ? strcasecmp(own, "true") == 0 : k->automatic) &&
           pb->state == ELANUS__COLLECTION_STATE__COLLECTION_CREATED;
}

/* Holds: lock */
static bool under_way(const struct co_compacts *k, int64_t collection_id)
{
    for (size_t i = 0; i < k->n; i++) {
        if (k->v[i]->collection_id == collection_id && !is_over(k->v[i])) {
            return true;
        }
    }
    return false;
}

/* Requests whose collections have nothing under way any more. Holds: state, lock */
static void plan_asked(struct look *lk)
{
    struct co_compacts *k = lk->co->compacts;
    size_t left = 0;

    for (size_t i = 0; i < k->nasked; i++) {
        struct asked a = k->asked[i];
        const struct co_coll *c = co__by_id(lk->co, a.req->collection_id);
        if (c && under_way(k, c->id)) {
            k->asked[left++] = a;
            continue;
        }
        lk->asked = a.req;
        if (c) {
            plan_collection(lk, c, a.id + 1, a.nids, a.id);
        }
        lk->asked = NULL;
        arena_free(a.ar);
    }
    k->nasked = left;
}

/* Ids taken at a time for plans of our own: a collection has one of them at a time. */
#define IDS 16

/* Holds: state, lock */
static bool may_plan(const struct co_compacts *k, const struct co_coll *c)
{
    return c->segs.n > 0 && wants_automatic(k, c) && !under_way(k, c->id);
}

/* Holds: state, lock */
static bool may_plan_any(struct coord *co)
{
    size_t pos = 0;
    int64_t id;
    uint64_t v;

    while (id_map_next(co->colls, &pos, &id, &v)) {
        if (may_plan(co->compacts, (const struct co_coll *)(uintptr_t)v)) {
            return true;
        }
    }
    return false;
}

/* Holds: state, lock */
static void plan_all(struct look *lk)
{
    struct coord *co = lk->co;
    struct co_compacts *k = co->compacts;
    size_t pos = 0;
    int64_t coll;
    uint64_t v;

    while (id_map_next(co->colls, &pos, &coll, &v)) {
        const struct co_coll *c = (const struct co_coll *)(uintptr_t)v;
        if (!may_plan(k, c)) {
            continue;
        }
        if (k->next_id == k->end_id) { /* the others with new ids, at once */
            lk->next_ms = lk->now_ms;
            break;
        }
        k->next_id += (int64_t)plan_collection(lk, c, k->next_id, 1, 0);
    }
}

/* Ids for the plans of a pass; those of the pass before that became no plan serve again. */
static int need_ids(struct coord *co, struct status *st)
{
    struct co_compacts *k = co->compacts;
    bool need;
    int rc = 0;

    rwlock_read(&co->state);
    lock_acquire(&k->lock);
    need = k->next_id == k->end_id && may_plan_any(co);
    lock_release(&k->lock);
    rwlock_release(&co->state);
    if (need) {
        TRY(co__id(co, IDS, DEADLINE_NONE, &k->next_id, st));
        k->end_id = k->next_id + IDS;
    }
out:
    return rc;
}

/* Returns when to look again, monotonic. */
static int64_t pass(struct coord *co)
{
    struct co_compacts *k = co->compacts;
    struct look lk = { .co = co, .ar = arena_new(0), .now_ms = clock_now_ms(),
                       .next_ms = INT64_MAX };
    struct status st = STATUS_INIT;
    int64_t next = INT64_MAX, from_now;
    bool ids;

    reap(k);
    ids = need_ids(co, &st) == 0;
    if (!ids) {
        LOG_W("no ids to rewrite segments: error=\"%s\"", st.msg);
        lk.next_ms = lk.now_ms + NO_IDS_MS;
    }
    rwlock_read(&co->state);
    lock_acquire(&k->lock);
    if (!k->stop) {
        plan_asked(&lk);
        if (ids) {
            plan_all(&lk);
        }
        next = start_due(co, lk.ar);
    }
    lock_release(&k->lock);
    rwlock_release(&co->state);
    if (lk.next_ms != INT64_MAX) {
        from_now = MAX(lk.next_ms - lk.now_ms, (int64_t)0);
        next = MIN(next, clock_mono_ms() + from_now);
    }
    arena_free(lk.ar);
    return next;
}

static void compacts_main(void *arg)
{
    struct coord *co = arg;
    struct co_compacts *k = co->compacts;
    int64_t next_ms = INT64_MAX;

    for (;;) {
        bool stop;
        lock_acquire(&k->lock);
        while (!k->woken && !k->stop && next_ms > clock_mono_ms()) {
            if (next_ms == INT64_MAX) {
                cond_wait(&k->wake, &k->lock);
            } else {
                cond_wait_until(&k->wake, &k->lock, next_ms * 1000);
            }
        }
        stop = k->stop;
        k->woken = false;
        lock_release(&k->lock);
        if (stop) {
            return;
        }
        next_ms = pass(co);
    }
}

/* ---- what clients ask ---- */

/* Holds: lock */
static void add_asked(struct co_compacts *k, const Elanus__CompactSegmentsReq *req, int64_t id,
                      size_t nids)
{
    struct asked *a;

    if (k->nasked == k->asked_cap) {
        k->asked_cap = k->asked_cap ? k->asked_cap * 2 : 4;
        k->asked = xrealloc(k->asked, k->asked_cap * sizeof *k->asked);
    }
    a = &k->asked[k->nasked++];
    *a = (struct asked){ .id = id, .nids = nids, .ar = arena_new(0) };
    a->req = co__copy(&req->pb, a->ar);
}

int co__data_compact(void *self, const struct call *call, const Elanus__CompactSegmentsReq *req,
                     Elanus__CompactSegmentsResp *resp, struct status *st)
{
    struct coord *co = self;
    struct co_compacts *k = co->compacts;
    struct look lk = { .co = co, .ar = call->ar, .now_ms = clock_now_ms(), .asked = req };
    struct co_coll *c;
    int64_t first;
    size_t n;
    int rc = 0;

    if (!k->enabled) {
        FAIL(st, ST_UNSUPPORTED, "compaction is switched off (dataCoord.enableCompaction)");
    }
    rwlock_read(&co->state);
    c = co__by_id(co, req->collection_id);
    n = c ? c->segs.n : 0;
    rwlock_release(&co->state);
    if (!c) {
        FAIL(st, ERR_COLLECTION_NOT_FOUND, "collection not found[collection=%" PRId64 "]",
             req->collection_id);
    }
    TRY(co__id(co, (uint32_t)n + 1, call->deadline_us, &first, st));
    rwlock_read(&co->state);
    lock_acquire(&k->lock);
    c = co__by_id(co, req->collection_id);
    if (c && under_way(k, c->id) && k->nasked >= ASKED_MAX) {
        rc = st_fail(st, ST_BUSY, "%zu requests to compact wait: try again later", k->nasked);
    } else if (c && under_way(k, c->id)) {
        add_asked(k, req, first, n);
    } else if (c) {
        resp->plan_count = (int32_t)plan_collection(&lk, c, first + 1, n, first);
    }
    k->woken = true;
    cond_signal(&k->wake);
    lock_release(&k->lock);
    rwlock_release(&co->state);
    resp->compaction_id = first;
out:
    return rc;
}

/* Holds: lock */
static Elanus__CompactionPlan *describe(const struct plan *t, struct arena *ar)
{
    Elanus__CompactionPlan *p = ARENA_NEW(ar, Elanus__CompactionPlan);

    elanus__compaction_plan__init(p);
    p->id = t->id;
    p->collection_id = t->collection_id;
    p->partition_id = t->partition_id;
    p->vchannel = arena_strdup(ar, t->vchannel);
    p->sources = arena_alloc(ar, (t->nsources + 1) * sizeof(int64_t));
    memcpy(p->sources, t->sources, t->nsources * sizeof(int64_t));
    p->n_sources = t->nsources;
    p->target = t->target_id;
    p->state = t->state == PLAN_WAITS ? ELANUS__COMPACTION_PLAN_STATE__PLAN_WAITING
             : t->state == PLAN_RUNS  ? ELANUS__COMPACTION_PLAN_STATE__PLAN_RUNNING
             : t->state == PLAN_ENDED ? ELANUS__COMPACTION_PLAN_STATE__PLAN_DONE
                                      : ELANUS__COMPACTION_PLAN_STATE__PLAN_FAILED;
    p->failure = arena_strdup(ar, t->why.msg);
    return p;
}

int co__data_compaction_state(void *self, const struct call *call,
                              const Elanus__CompactionStateReq *req,
                              Elanus__CompactionStateResp *resp, struct status *st)
{
    struct coord *co = self;
    struct co_compacts *k = co->compacts;
    int rc = 0;

    lock_acquire(&k->lock);
    for (size_t i = 0; i < k->nasked; i++) {
        resp->waiting |= k->asked[i].id == req->compaction_id;
    }
    resp->plans = arena_try_array(call->ar, k->n + 1, sizeof(Elanus__CompactionPlan *));
    if (!resp->plans) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu plans", k->n);
    }
    for (size_t i = 0; i < k->n; i++) {
        if (k->v[i]->trigger && k->v[i]->trigger == req->compaction_id) {
            resp->plans[resp->n_plans++] = describe(k->v[i], call->ar);
        }
    }
out:
    lock_release(&k->lock);
    return rc;
}

/* ---- life ---- */

void co__compacts_new(struct coord *co)
{
    struct co_compacts *k = xalloc(sizeof *k);
    const struct config *cfg = co->opts.config;

    lock_init(&k->lock, RANK_COORD_PLANS);
    cond_init(&k->wake);
    k->enabled = config_bool(cfg, "dataCoord.enableCompaction");
    k->automatic = config_bool(cfg, "dataCoord.compaction.enableAutoCompaction");
    k->max_bytes = config_int(cfg, "dataCoord.segment.maxSize") * 1048576;
    k->retention_ms = config_int(cfg, "common.retentionDuration") * 1000;
    k->per_node = (size_t)config_int(cfg, "dataNode.compaction.tasks");
    k->done = metric_get(METRIC_COUNTER, "elanus_compactions_total", "status=\"success\"",
                         "times that segments were rewritten as one");
    k->failed = metric_get(METRIC_COUNTER, "elanus_compactions_total", "status=\"fail\"",
                           "times that segments were rewritten as one");
    k->rows_in = metric_get(METRIC_COUNTER, "elanus_compaction_rows_total", "side=\"read\"",
                            "rows of segments before and after they were rewritten");
    k->rows_out = metric_get(METRIC_COUNTER, "elanus_compaction_rows_total", "side=\"written\"",
                             "rows of segments before and after they were rewritten");
    co->compacts = k;
}

void co__compacts_start(struct coord *co)
{
    co->compacts->woken = true;
    co->compacts->thread = thread_start("co-compacts", compacts_main, co);
}

void co__compacts_wake(struct coord *co)
{
    struct co_compacts *k = co->compacts;

    lock_acquire(&k->lock);
    k->woken = true;
    cond_signal(&k->wake);
    lock_release(&k->lock);
}

void co__compacts_stop(struct coord *co)
{
    struct co_compacts *k = co->compacts;

    if (!k) {
        return;
    }
    lock_acquire(&k->lock);
    k->stop = true;
    cond_signal(&k->wake);
    lock_release(&k->lock);
    if (k->thread) {
        thread_join(TAKE(k->thread));
    }
    lock_acquire(&k->lock);
    for (size_t i = 0; i < k->n; i++) {
        k->v[i]->cancel = true;
    }
    for (size_t i = 0; i < k->n; i++) {
        struct thread *th = TAKE(k->v[i]->thread);
        lock_release(&k->lock);
        thread_join(th);
        lock_acquire(&k->lock);
    }
    lock_release(&k->lock);
}

void co__compacts_free(struct coord *co)
{
    struct co_compacts *k = co->compacts;

    if (!k) {
        return;
    }
    for (size_t i = 0; i < k->n; i++) {
        plan_free(k->v[i]);
    }
    for (size_t i = 0; i < k->nasked; i++) {
        arena_free(k->asked[i].ar);
    }
    mem_free(k->asked);
    mem_free(k->v);
    cond_done(&k->wake);
    lock_done(&k->lock);
    mem_free(k);
    co->compacts = NULL;
}
