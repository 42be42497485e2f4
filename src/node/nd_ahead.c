/*
 * nd_ahead.c - hits found ahead for the pages of a search iterator.
 *
 * WHAT      A page of an iterator is exact (a row that it misses would never come), so it takes
 *           a scan of the segment: 43 ms for a million rows of 128 dimensions with 1,000 hits, 47
 *           with 16,384, 59 with 65,536. So the scan for one page gathers many pages' worth, and
 *           they are kept: all hits of the segment in order, from the score the scan began beyond
 *           to the last one kept. A later page takes its hits from there; where they end before
 *           the page is full, the next scan is made.
 * VALID     What is kept is found by everything that a page's answer depends on but the bound
 *           and the number of hits: the segment, its schema (which gives fields that it lacks
 *           their defaults), query, filter, range, snapshot. All of these bytes are compared. The
 *           snapshot decides which rows and deletes count: a shard asks at a timestamp only when
 *           everything up to there has been applied, and what comes later is later than the
 *           snapshot. So a page has the same hits, bit for bit, from here and by a scan, and the
 *           client cannot tell whether anything was kept: what is lost (room, restart, another
 *           node) is found again. Only the time to live moves while an iterator goes on: what is
 *           kept serves as long as none of it has expired.
 * THREADS   Any. The lock (RANK_LEAF) is held to find, to compare and to count a reference; entries
 *           are immutable and freed by who drops the last reference.
 * MEMORY    8 bytes a hit, and the question; at most bytes_max in all (those in use by a page not
 *           counted). The least lately used go, and those that no page has asked for in IDLE_MS.
 *           Failing to keep something is no error.
 * WHY       Walking on through the index from where the last page ended, as others do, finds rows
 *           late: nearer than what was given out before, and so either out of order or never. It
 *           also starts over when its state is lost.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/metrics.h"
#include "node/nd_int.h"
#include <stdatomic.h>
#include <string.h>

#define BUCKETS 1024u
#define IDLE_MS (10 * 60 * 1000)
/* Longer questions take longer to compare than they save. */
#define QUESTION_MAX (256u << 10)
/* Pages' worth of hits that a scan gathers, and the least and most of them. */
#define PAGES 32u
#define LEAST 2048u
#define MOST TOPK_MAX

struct found {
    struct found *next;          /* of the bucket */
    struct found *newer, *older; /* by use */
    uint64_t hash;
    int64_t used_ms;
    _Atomic uint32_t refs;
    size_t bytes;
    hts ttl_before, oldest;      /* with a time to live: insert timestamp of the oldest hit */
    bool larger, complete;       /* complete: there are no hits behind the last */
    bool has_from;
    float from;                  /* hits are strictly beyond */
    uint32_t n, nquestion;
    float *scores;               /* n, best first */
    uint32_t *rows;
    uint8_t question[];
};

struct nd_ahead {
    struct lock lock;
    size_t bytes, bytes_max;
    struct found *newest, *oldest;
    struct found *bucket[BUCKETS];
    struct measure *pages[2];
};

struct nd_ahead *nd_ahead_new(size_t bytes_max)
{
    struct nd_ahead *a = xalloc(sizeof *a);

    lock_init(&a->lock, RANK_LEAF);
    a->bytes_max = bytes_max;
    for (int hit = 0; hit < 2; hit++) {
        a->pages[hit] = metric_get(METRIC_COUNTER, "elanus_iterator_pages_total",
                                   hit ? "from=\"kept\"" : "from=\"scan\"",
                                   "pages of search iterators, of each segment");
    }
    return a;
}

static void found_unref(struct found *f)
{
    /* Release and acquire: what others did with it comes before its end. */
    if (f && atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1) {
        mem_free(f->scores);
        mem_free(f);
    }
}

void nd_ahead_free(struct nd_ahead *a)
{
    while (a && a->newest) {
        struct found *f = a->newest;
        a->newest = f->older;
        found_unref(f);
    }
    if (a) {
        lock_done(&a->lock);
    }
    mem_free(a);
}

size_t nd_ahead_bytes(struct nd_ahead *a)
{
    size_t bytes;

    lock_acquire(&a->lock);
    bytes = a->bytes;
    lock_release(&a->lock);
    return bytes;
}

/* ---- the table; all of these hold the lock ---- */

static void list_out(struct nd_ahead *a, struct found *f)
{
    *(f->newer ? &f->newer->older : &a->newest) = f->older;
    *(f->older ? &f->older->newer : &a->oldest) = f->newer;
}

static void list_front(struct nd_ahead *a, struct found *f)
{
    f->newer = NULL;
    f->older = a->newest;
    *(a->newest ? &a->newest->newer : &a->oldest) = f;
    a->newest = f;
    f->used_ms = clock_mono_ms();
}

static struct found **place_of(struct nd_ahead *a, uint64_t hash, struct slice question)
{
    struct found **at = &a->bucket[hash % BUCKETS];

    while (*at && ((*at)->hash != hash || (*at)->nquestion != question.n ||
                   memcmp((*at)->question, question.p, question.n) != 0)) {
        at = &(*at)->next;
    }
    return at;
}

/* Takes the one at *at out; the table's reference goes to the caller. */
static struct found *take_out(struct nd_ahead *a, struct found **at)
{
    struct found *f = *at;

    *at = f->next;
    list_out(a, f);
    a->bytes -= f->bytes;
    return f;
}

/* ---- questions ---- */

/* Before the bytes of query and filter: what else the hits of all pages depend on. */
struct asked {
    int64_t segment_id, field_id;
    uint64_t snapshot;
    int32_t schema_version, metric;
    uint32_t has_radius, has_range_filter;
    float radius, range_filter;
    uint32_t nqueries, nplan;
};
_Static_assert(sizeof(struct asked) == 56, "no padding: its bytes are compared");

/* False: too long, or no memory. */
static bool question_of(const struct segment *seg, const Elanus__SearchReq *req, struct arena *ar,
                        struct slice *ret)
{
    struct seg_info info;
    size_t n = sizeof(struct asked) + req->queries.len + req->plan.len;
    uint8_t *p = n <= QUESTION_MAX ? arena_try(ar, n) : NULL;

    if (!p) {
        return false;
    }
    seg_get_info(seg, &info);
    struct asked asked = { .segment_id = info.id,
                           .field_id = req->field_id,
                           .snapshot = req->read_ts,
                           .schema_version = (int32_t)seg_schema(seg)->version,
                           .metric = req->metric,
                           .has_radius = req->has_radius,
                           .has_range_filter = req->has_range_filter,
                           .radius = req->has_radius ? req->radius : 0,
                           .range_filter = req->has_range_filter ? req->range_filter : 0,
                           .nqueries = (uint32_t)req->queries.len,
                           .nplan = (uint32_t)req->plan.len };
    memcpy(p, &asked, sizeof asked);
    memcpy(p + sizeof asked, req->queries.data, req->queries.len);
    if (req->plan.len) {
        memcpy(p + sizeof asked + req->queries.len, req->plan.data, req->plan.len);
    }
    *ret = slice_n(p, n);
    return true;
}

/* ---- pages ---- */

/* Whether a is strictly beyond b in the order of hits. */
static bool beyond(bool larger, float a, float b)
{
    return larger ? a < b : a > b;
}

/* The page's hits into tk, when all of them are known. */
static bool serve(const struct found *f, const struct seg_search *q, uint32_t k, struct topk *tk)
{
    uint32_t lo = 0, hi = f->n;

    if (q->filter.ttl_before != f->ttl_before &&
        (q->filter.ttl_before < f->ttl_before || f->ttl_before == 0 ||
         f->oldest < q->filter.ttl_before)) {
        return false;
    }
    if (f->has_from && (!q->has_bound || (q->bound != f->from &&
                                          !beyond(f->larger, q->bound, f->from)))) {
        return false;
    }
    while (q->has_bound && lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (beyond(f->larger, f->scores[mid], q->bound)) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    if (f->n - lo < k && !f->complete) {
        return false;
    }
    for (uint32_t i = lo; i < f->n && i - lo < k; i++) {
        topk_push(tk, 0, f->scores[i], f->rows[i]);
    }
    topk_finish(tk);
    return true;
}

static bool find(struct nd_ahead *a, uint64_t hash, struct slice question,
                 const struct seg_search *q, uint32_t k, struct topk *tk)
{
    struct found *f;
    bool hit;

    lock_acquire(&a->lock);
    f = *place_of(a, hash, question);
    if (f) {
        list_out(a, f);
        list_front(a, f);
        /* Relaxed: behind the lock, as all that take a reference. */
        atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
    }
    lock_release(&a->lock);
    hit = f && serve(f, q, k, tk);
    found_unref(f);
    return hit;
}

/* The insert timestamp of the oldest hit. */
static bool oldest_of(const struct segment *seg, const struct found *f, struct arena *ar, hts *ret)
{
    struct status ignored = STATUS_INIT;
    struct column ts;

    if (seg_fetch(seg, FIELD_TIMESTAMP, f->rows, f->n, ar, &ts, &ignored) != 0) {
        return false;
    }
    *ret = UINT64_MAX;
    for (uint32_t i = 0; i < f->n; i++) {
        *ret = MIN(*ret, (hts)column_i64(&ts, i));
    }
    return true;
}

static struct found *found_new(const struct segment *seg, const struct seg_search *q,
                               const struct topk *tk, struct slice question, struct arena *ar)
{
    uint32_t n = topk_count(tk, 0);
    struct found *f = alloc_try_zero(sizeof *f + question.n);

    if (!f) {
        return NULL;
    }
    f->bytes = sizeof *f + question.n + n * (sizeof *f->scores + sizeof *f->rows);
    f->scores = alloc_try(MAX(n, 1u) * (sizeof *f->scores + sizeof *f->rows));
    atomic_init(&f->refs, 1);
    if (!f->scores) {
        found_unref(f);
        return NULL;
    }
    f->rows = (uint32_t *)(void *)(f->scores + n);
    for (uint32_t i = 0; i < n; i++) {
        f->scores[i] = topk_score(tk, 0, i);
        f->rows[i] = (uint32_t)topk_row(tk, 0, i);
    }
    f->n = n;
    f->complete = n < tk->k;
    f->larger = tk->larger_is_better;
    f->has_from = q->has_bound;
    f->from = q->bound;
    f->ttl_before = q->filter.ttl_before;
    f->nquestion = (uint32_t)question.n;
    memcpy(f->question, question.p, question.n);
    if (f->ttl_before && !oldest_of(seg, f, ar, &f->oldest)) {
        found_unref(f);
        return NULL;
    }
    return f;
}

/* Takes f. In place of what was known of the same question. */
static void keep(struct nd_ahead *a, uint64_t hash, struct found *f)
{
    struct found *gone = NULL, **at;
    int64_t idle = clock_mono_ms() - IDLE_MS;

    f->hash = hash;
    lock_acquire(&a->lock);
    at = place_of(a, hash, slice_n(f->question, f->nquestion));
    if (*at) {
        gone = take_out(a, at);
        gone->next = NULL;
    }
    while (a->oldest && (a->bytes + f->bytes > a->bytes_max || a->oldest->used_ms < idle)) {
        struct found *old = a->oldest;
        at = place_of(a, old->hash, slice_n(old->question, old->nquestion));
        old = take_out(a, at);
        old->next = gone;
        gone = old;
    }
    if (f->bytes > a->bytes_max) {
        f->next = gone;
        gone = f;
    } else {
        struct found **bucket = &a->bucket[hash % BUCKETS];
        f->next = *bucket;
        *bucket = f;
        list_front(a, f);
        a->bytes += f->bytes;
    }
    lock_release(&a->lock);
    while (gone) {
        struct found *f0 = gone;
        gone = f0->next;
        found_unref(f0);
    }
}

/* Each page takes about 1 / nsegs of its hits from a segment, and k of them must be known. */
static uint32_t hits_ahead(uint32_t k, size_t nsegs)
{
    uint64_t n = k + (uint64_t)k * PAGES / nsegs;

    return n < LEAST ? LEAST : n > MOST ? MOST : (uint32_t)n;
}

int nd__ahead_search(struct nd_ahead *a, const struct segment *seg, size_t nsegs,
                     const Elanus__SearchReq *req, const struct seg_search *q, struct topk *tk,
                     struct arena *ar, struct status *st)
{
    struct topk *many = NULL;
    struct slice question;
    struct found *f;
    uint64_t hash;
    int rc;

    if (q->limits || tk->nq != 1 || !question_of(seg, req, ar, &question)) {
        return seg_search(seg, q, tk, ar, st);
    }
    hash = hash64(question.p, question.n);
    if (find(a, hash, question, q, tk->k, tk)) {
        metric_add(a->pages[1], 1);
        return 0;
    }
    metric_add(a->pages[0], 1);
    TRY(seg_topk_new(q, hits_ahead(tk->k, nsegs), &many, st));
    TRY(seg_search(seg, q, many, ar, st));
    for (uint32_t i = 0; i < MIN(topk_count(many, 0), tk->k); i++) {
        topk_push(tk, 0, topk_score(many, 0, i), topk_row(many, 0, i));
    }
    topk_finish(tk);
    f = found_new(seg, q, many, question, ar);
    if (f) {
        keep(a, hash, f);
    }
out:
    topk_free(many);
    return rc;
}
