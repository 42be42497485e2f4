/*
 * sn_tend.c - work beside searches that makes searching growing rows cheap.
 *
 * WHAT      A search that met many rows it had to compare one by one leaves a note in their segment,
 *           and its shard comes here. The rows get codes; then each is attached to its nearest rows
 *           of the segment's guide (segment.h): the largest sealed segment of its partition that is
 *           in the view, so that every search of the growing rows has searched it before. The guide
 *           is asked through the query node that serves it, like any search. Without one, rows are
 *           sorted into lists.
 *           A load that nobody searches costs nothing here.
 * GUIDE     Kept while it is in the view and no other is GUIDE_GROWN times as large; else rows are
 *           attached anew. One that has left the view is let go of (sn__tend_guides), or rows that
 *           are all attached would never be missed: searches scan them then, and leave a note. An index that does not tell where queries lie is not asked again for
 *           REFUSED_MS. Inner products have none: rows of unlike length lie apart and are still
 *           each other's best.
 * THREADS   One, started when first needed, at low priority, which works in steps of a few
 *           milliseconds and pauses for as long as each took. `lock` (RANK_LEAF) guards the queue;
 *           nothing else is held over a call. Segments are referenced through the view.
 * FAILURE   What fails is left as it is until the next note: searches are right without.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"
#include "base/log.h"
#include <inttypes.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOG_ROOM "node"

#define NICE 10
/* A visit of a shard, and the time from one to the next when all was done. */
#define VISIT_MS 1000
#define PAUSE_MS 200
/* Rows attached in one call, and what the guide's index is searched with for them. */
#define BATCH 64u
#define ATTACH_EF "48"
/* Rows of the guide that tell what is usual. */
#define SAMPLE 256u
#define GUIDE_MIN_ROWS 4096
#define GUIDE_GROWN 3
#define REFUSED_MS 30000
#define FIELDS_MAX 8u

struct sn_tend {
    struct lock lock;
    struct cond wake;
    size_t n, cap;
    struct sn_shard **queue; /* referenced */
    _Atomic bool stop;       /* ends calls under way, too */
    struct thread *thread;
    /* The thread's. */
    int64_t refused_id, refused_until_ms;
};

/* ---- One shard ---- */

struct tending {
    struct sn *sn;
    struct sn_shard *sh;
    struct sn_view *vw;
    int64_t until_us;
    struct segment *seg;
    struct seg_tend what;
};

/* Others wait, or the segments are perhaps no longer those of the shard. */
static bool is_over(const struct tending *g)
{
    struct sn_view *now = sn__view_get(g->sh);
    bool moved = now != g->vw;

    sn__view_unref(now);
    return moved || g->sn->tend->stop || clock_mono_us() >= g->until_us;
}

/* Gives the processor away for as long as the step took. */
static void rest(struct sn_tend *t, int64_t began_us)
{
    int64_t now = clock_mono_us();

    lock_acquire(&t->lock);
    while (!t->stop && cond_wait_until(&t->wake, &t->lock, now + (now - began_us))) {
        /* woken for another shard */
    }
    lock_release(&t->lock);
}

static const struct sn_sealed *find_sealed(const struct sn_view *vw, int64_t id)
{
    for (size_t i = 0; i < vw->nsealed; i++) {
        if (vw->sealed[i].meta->id == id) {
            return &vw->sealed[i];
        }
    }
    return NULL;
}

/* What the segment should have as its guide; NULL: nothing serves. */
static const struct sn_sealed *choose(const struct tending *g)
{
    const struct sn_sealed *now = find_sealed(g->vw, seg_guide(g->seg, g->what.field_id));
    const struct sn_sealed *best = now;
    const struct sn_tend *t = g->sn->tend;
    struct seg_info info;

    if (g->what.metric != METRIC_L2 && g->what.metric != METRIC_COSINE) {
        return NULL;
    }
    seg_get_info(g->seg, &info);
    for (size_t i = 0; i < g->vw->nsealed; i++) {
        const struct sn_sealed *s = &g->vw->sealed[i];
        bool refused = s->meta->id == t->refused_id && clock_mono_ms() < t->refused_until_ms;
        int64_t least = best == now && now ? GUIDE_GROWN * now->meta->num_rows
                        : best             ? best->meta->num_rows
                                           : GUIDE_MIN_ROWS - 1;
        if (s->meta->partition_id == info.partition_id && !refused &&
            s->meta->num_rows > least) {
            best = s;
        }
    }
    return best;
}

/* Asks the guide where rows lie in it. Fails: ST_UNSUPPORTED when its index cannot tell. */
static int ask(const struct tending *g, const struct sn_sealed *guide, const struct column *rows,
               struct arena *ar, struct index_near *ret, struct status *st)
{
    Milvus__Proto__Common__KeyValuePair ef, *params[1] = { &ef };
    struct call call = call_internal(ar);
    const struct qnode_service *qs;
    Elanus__SearchReq req;
    Elanus__SearchResp resp;
    int64_t id = guide->meta->id;
    int rc;

    milvus__proto__common__key_value_pair__init(&ef);
    ef.key = (char *)(uintptr_t)"ef";
    ef.value = (char *)(uintptr_t)ATTACH_EF;
    elanus__search_req__init(&req);
    elanus__search_resp__init(&resp);
    call.cancel = &g->sn->tend->stop;
    req.collection_id = g->sh->collection_id;
    req.field_id = g->what.field_id;
    req.metric = (int32_t)g->what.metric;
    req.queries.data = (uint8_t *)(uintptr_t)rows->data;
    req.queries.len = rows->nrows * g->what.row_bytes;
    req.nq = rows->nrows;
    req.k = 1;
    req.read_ts = INT64_MAX;
    req.segment_ids = req.near_segment_ids = &id;
    req.n_segment_ids = req.n_near_segment_ids = 1;
    req.near_max = SEG_GUIDE_NEAR;
    req.index_params = params;
    req.n_index_params = 1;
    TRY(svc_dir_qnode(g->sn->opts.dir, guide->node_id, &qs, st));
    TRY(qs->search(qs->self, &call, &req, &resp, st));
    if (resp.n_near != 1 || resp.near[0]->segment_id != id ||
        !nd_near(resp.near[0], req.nq, ar, ret)) {
        FAIL(st, ST_UNSUPPORTED, "segment %" PRId64 " has no index that tells where rows lie", id);
    }
out:
    return rc;
}

/* Some of the guide's own rows. */
static int sample_of(const struct tending *g, const struct sn_sealed *guide, struct arena *ar,
                     struct column *ret, struct status *st)
{
    struct call call = call_internal(ar);
    const struct qnode_service *qs;
    struct batch b;
    Elanus__FetchReq req;
    Elanus__FetchResp resp;
    int64_t ids[SAMPLE], field = g->what.field_id;
    uint32_t rows[SAMPLE];
    int rc;

    elanus__fetch_req__init(&req);
    elanus__fetch_resp__init(&resp);
    for (uint32_t i = 0; i < SAMPLE; i++) {
        ids[i] = guide->meta->id;
        rows[i] = (uint32_t)((uint64_t)guide->meta->num_rows * i / SAMPLE);
    }
    call.cancel = &g->sn->tend->stop;
    req.collection_id = g->sh->collection_id;
    req.segment_ids = ids;
    req.rows = rows;
    req.n_segment_ids = req.n_rows = SAMPLE;
    req.field_ids = &field;
    req.n_field_ids = 1;
    TRY(svc_dir_qnode(g->sn->opts.dir, guide->node_id, &qs, st));
    TRY(qs->fetch(qs->self, &call, &req, &resp, st));
    TRY(batch_decode(slice_n(resp.batch.data, resp.batch.len), ar, &b, st));
    if (b.ncols != 1 || b.nrows != SAMPLE || b.cols[0].width != g->what.row_bytes) {
        FAIL(st, ST_INTERNAL, "a sample of %u rows in %u columns", b.nrows, b.ncols);
    }
    *ret = b.cols[0];
out:
    return rc;
}

static int set_guide(const struct tending *g, const struct sn_sealed *guide, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct column sample;
    struct index_near near;
    int rc;

    TRY(sample_of(g, guide, ar, &sample, st));
    TRY(ask(g, guide, &sample, ar, &near, st));
    TRY(seg_guide_set(g->seg, g->what.field_id, guide->meta->id,
                      (uint32_t)guide->meta->num_rows, near.keys, sample.nrows, st));
out:
    arena_free(ar);
    return rc;
}

/* *ret_more false: all that have codes are attached. */
static int attach(const struct tending *g, const struct sn_sealed *guide, bool *ret_more,
                  struct status *st)
{
    struct arena *ar = arena_new(0);
    uint32_t coded, from = seg_guide_attached(g->seg, g->what.field_id, &coded), rows[BATCH];
    uint32_t n = MIN(coded - from, BATCH);
    struct index_near near;
    struct column col;
    int rc = 0;

    *ret_more = false;
    if (n == 0) {
        goto out;
    }
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = from + i;
    }
    TRY(seg_fetch(g->seg, g->what.field_id, rows, n, ar, &col, st));
    TRY(ask(g, guide, &col, ar, &near, st));
    TRY(seg_guide_attach(g->seg, g->what.field_id, &near, n, st));
    *ret_more = from + n < coded;
out:
    arena_free(ar);
    return rc;
}

/* Until there is nothing more to do, or is_over(). */
static void tend_field(struct tending *g)
{
    struct sn_tend *t = g->sn->tend;
    const struct sn_sealed *guide = choose(g);
    struct status st = STATUS_INIT;
    bool more = true;
    int rc = 0;

    while (more && !is_over(g)) { /* codes, for all else rests on them */
        int64_t began = clock_mono_us();
        more = seg_tend_codes(g->seg, g->what.field_id, false);
        rest(t, began);
    }
    if (guide && seg_guide(g->seg, g->what.field_id) != guide->meta->id) {
        rc = set_guide(g, guide, &st);
        LOG_D("guide set: seg=%" PRId64 " rc=%d %s", guide->meta->id, rc, st.msg);
    } else if (!guide && seg_guide(g->seg, g->what.field_id)) {
        (void)seg_guide_set(g->seg, g->what.field_id, 0, 0, NULL, 0, &st);
    }
    for (more = true; guide && rc == 0 && more && !is_over(g);) {
        int64_t began = clock_mono_us();
        rc = attach(g, guide, &more, &st);
        rest(t, began);
    }
    if (rc == ST_UNSUPPORTED) { /* perhaps it gets one */
        t->refused_id = guide->meta->id;
        t->refused_until_ms = clock_mono_ms() + REFUSED_MS;
    }
    for (more = true; (!guide || rc == ST_UNSUPPORTED) && more && !is_over(g);) {
        int64_t began = clock_mono_us();
        more = seg_tend_codes(g->seg, g->what.field_id, true);
        rest(t, began);
    }
}

/* The next searches miss them, and want others. */
static void let_go(const struct sn_view *vw)
{
    struct status none = STATUS_INIT;

    for (size_t i = 0; i < vw->ngrowing; i++) {
        for (uint32_t f = 0; f < vw->schema->nfields; f++) {
            int64_t guide = seg_guide(vw->growing[i], vw->schema->fields[f].id);
            if (guide && !find_sealed(vw, guide)) {
                (void)seg_guide_set(vw->growing[i], vw->schema->fields[f].id, 0, 0, NULL, 0, &none);
            }
        }
    }
}

/* Returns whether all was done. */
static bool tend_shard(struct sn *sn, struct sn_shard *sh)
{
    bool gone = atomic_exchange(&sh->tend_guides, false); /* before the view is taken */
    struct tending g = { .sn = sn, .sh = sh, .vw = sn__view_get(sh),
                         .until_us = deadline_in_ms(VISIT_MS) };
    bool done;

    if (gone && g.vw) {
        let_go(g.vw);
    }
    for (size_t i = 0; g.vw && i < g.vw->ngrowing; i++) {
        struct seg_tend fields[FIELDS_MAX];
        uint32_t n = seg_tend_fields(g.vw->growing[i], fields, FIELDS_MAX);
        g.seg = g.vw->growing[i];
        for (uint32_t f = 0; f < n && !sn->tend->stop; f++) {
            g.what = fields[f];
            tend_field(&g);
        }
    }
    done = !is_over(&g);
    sn__view_unref(g.vw);
    return done;
}

/* ---- The thread ---- */

static void step_back(void)
{
    struct sched_param none = { 0 };

    (void)sched_setscheduler(0, SCHED_BATCH, &none);
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
}

static void tend_main(void *arg);

/* Unless it is queued. */
static void queue(struct sn_shard *sh)
{
    struct sn_tend *t = sh->sn->tend;

    if (atomic_exchange(&sh->tend_queued, true)) {
        return;
    }
    lock_acquire(&t->lock);
    if (!t->stop) {
        if (t->n == t->cap) {
            t->cap = t->cap ? t->cap * 2 : 16;
            t->queue = xrealloc(t->queue, t->cap * sizeof(struct sn_shard *));
        }
        t->queue[t->n++] = sn__shard_ref(sh);
        if (!t->thread) {
            t->thread = thread_start("sn-tend", tend_main, sh->sn);
        }
        cond_signal(&t->wake);
    }
    lock_release(&t->lock);
}

static void tend_main(void *arg)
{
    struct sn *sn = arg;
    struct sn_tend *t = sn->tend;

    step_back();
    lock_acquire(&t->lock);
    while (!t->stop) {
        if (t->n == 0) {
            cond_wait(&t->wake, &t->lock);
            continue;
        }
        struct sn_shard *sh = t->queue[0];
        t->n--;
        memmove(t->queue, t->queue + 1, t->n * sizeof(struct sn_shard *));
        lock_release(&t->lock);
        int64_t pause_ms = tend_shard(sn, sh) ? PAUSE_MS : 0;
        atomic_store_explicit(&sh->tend_at_us, clock_mono_us() + pause_ms * 1000,
                              memory_order_relaxed);
        atomic_store(&sh->tend_queued, false);
        if (atomic_load(&sh->tend_guides)) { /* not queued, because it was */
            queue(sh);
        }
        sn__shard_unref(sh);
        lock_acquire(&t->lock);
    }
    lock_release(&t->lock);
}

void sn__tend_look(struct sn_shard *sh, struct segment *const *growing, size_t n)
{
    bool wanted = false;

    for (size_t i = 0; i < n; i++) {
        wanted = wanted || seg_tend_wanted(growing[i]);
    }
    if (wanted && !atomic_load_explicit(&sh->tend_queued, memory_order_relaxed) &&
        clock_mono_us() >= atomic_load_explicit(&sh->tend_at_us, memory_order_relaxed)) {
        queue(sh);
    }
}

void sn__tend_guides(struct sn_shard *sh)
{
    struct sn_tend *t = sh->sn->tend;
    bool never;

    lock_acquire(&t->lock);
    never = !t->thread; /* then nothing has a guide */
    lock_release(&t->lock);
    if (!never) {
        atomic_store(&sh->tend_guides, true);
        queue(sh);
    }
}

/* ---- Life ---- */

void sn__tend_new(struct sn *sn)
{
    sn->tend = xalloc(sizeof *sn->tend);
    lock_init(&sn->tend->lock, RANK_LEAF);
    cond_init(&sn->tend->wake);
}

void sn__tend_stop(struct sn *sn)
{
    struct sn_tend *t = sn->tend;
    struct thread *thread;

    lock_acquire(&t->lock);
    t->stop = true;
    thread = TAKE(t->thread);
    cond_broadcast(&t->wake);
    lock_release(&t->lock);
    thread_join(thread);
    lock_acquire(&t->lock);
    size_t n = t->n;
    t->n = 0;
    lock_release(&t->lock);
    for (size_t i = 0; i < n; i++) {
        sn__shard_unref(t->queue[i]);
    }
    mem_free(TAKE(t->queue));
}

void sn__tend_free(struct sn *sn)
{
    cond_done(&sn->tend->wake);
    lock_done(&sn->tend->lock);
    mem_free(TAKE(sn->tend));
}
