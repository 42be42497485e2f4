/*
 * seg_kept.c - what filters let through of a sealed segment, kept from one search to the next.
 *
 * WHAT        Two kinds of answers, found by the bytes of the plan (all of them are compared; the
 *             hash only spares most comparisons) and by the reader's schema, which gives fields
 *             that the segment lacks their defaults:
 *
 *             where   rows for which the expression is true. The rows of a sealed segment never
 *                     change, and nothing in a plan depends on anything but the row, so it holds as
 *                     long as the segment. Deletes and timestamps are applied after.
 *             pass    rows that one field's index may return: the expression, visibility, nulls. Of a
 *                     moment, therefore: with it stand the number of deleted rows and a timestamp
 *                     that no insert or delete is later than. It serves readers from then on until
 *                     the next delete. It has the bits in the index's order, too (ann.h), so that a
 *                     search neither evaluates nor copies nor permutes anything.
 *
 *             An answer is kept when its question comes a second time, and the least lately asked
 *             goes when there is no room; room is BYTES_PER_ROW for each row of the segment.
 * VALID       Why no reader sees a wrong `pass`: it is kept only if the count of deletes was the
 *             same before and after the bits were made, and no page has a delete later than the
 *             reader who made them, M. A delete counted then is in the bits. One that was being
 *             entered meanwhile is in them or not; its timestamp was in the page before its bit, so
 *             it is at most M, and a reader at M or later sees that row deleted, or came before the
 *             delete was complete, where either will do. Once it is complete the count is another
 *             and the answer is not found any more.
 * THREADS     Any. The lock (RANK_LEAF) is held to find, to compare a plan, to count a reference;
 *             answers are immutable and freed by who drops the last reference.
 * MEMORY      Counted in seg_get_info(). Failing to keep something is no error.
 */
#include "base/alloc.h"
#include "base/metrics.h"
#include "segment/seg_int.h"

#define SLOTS 24u
#define BYTES_PER_ROW 2u
#define BYTES_LEAST (64u << 10)
#define PLAN_MAX (16u << 10) /* longer plans take longer to compare than they save */
#define ASKED 64u            /* questions remembered, by their hashes */

struct seg_answer {
    _Atomic uint32_t refs;
    bool is_pass;
    uint64_t hash, used; /* used: behind the lock */
    const struct schema *schema;
    uint32_t field, nplan;
    uint32_t deleted; /* pass: rows with a delete, */
    hts ts;           /* none of which, and no insert, is later */
    size_t bytes;
    struct seg_pass pass;
    uint64_t *bits;
    uint8_t plan[];
};

struct seg_kept {
    struct lock lock;
    struct seg_answer *slot[SLOTS];
    uint64_t asked[ASKED];
    uint64_t turn;
    size_t room;
    _Atomic size_t bytes; /* written behind the lock */
};

static void count(bool is_pass, bool hit)
{
    static _Atomic(struct measure *) m[2][2];
    static const char *const names[2] = { "elanus_segment_filter_misses_total",
                                          "elanus_segment_filter_hits_total" };
    /* Release and acquire hand over what the first caller found; metric_get() finds the same. */
    struct measure *c = atomic_load_explicit(&m[is_pass][hit], memory_order_acquire);
    if (!c) {
        c = metric_get(METRIC_COUNTER, names[hit], is_pass ? "kept=\"pass\"" : "kept=\"where\"",
                       hit ? "filters of sealed segments answered from what an earlier call left"
                           : "filters of sealed segments evaluated");
        atomic_store_explicit(&m[is_pass][hit], c, memory_order_release);
    }
    metric_add(c, 1);
}

/* ---- life ---- */

struct seg_kept *seg__kept_new(uint32_t nrows)
{
    struct seg_kept *k = xalloc(sizeof *k);
    lock_init(&k->lock, RANK_LEAF);
    k->room = (size_t)nrows * BYTES_PER_ROW + BYTES_LEAST;
    atomic_init(&k->bytes, sizeof *k);
    return k;
}

static void answer_unref(struct seg_answer *a)
{
    /* Release and acquire: what others did with it comes before its end. */
    if (a && atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) == 1) {
        index_filter_free((struct index_filter *)(uintptr_t)a->pass.filter);
        mem_free(a->bits);
        mem_free(a);
    }
}

void seg__kept_done(struct seg_kept *k)
{
    for (uint32_t i = 0; k && i < SLOTS; i++) {
        answer_unref(k->slot[i]);
    }
    if (k) {
        lock_done(&k->lock);
    }
    mem_free(k);
}

size_t seg__kept_bytes(const struct seg_kept *k)
{
    return k ? atomic_load_explicit(&k->bytes, memory_order_relaxed) : 0;
}

void seg__pass_done(const struct seg_pass *p)
{
    if (p && p->kept) {
        answer_unref((struct seg_answer *)(uintptr_t)CONTAINER_OF(p, const struct seg_answer, pass));
    }
}

/* ---- questions ---- */

/* What is asked. plan points into buf. */
struct question {
    bool is_pass;
    uint64_t hash;
    const struct schema *schema;
    uint32_t field, deleted;
    hts ts;
    struct slice plan;
    struct buf buf;
};

/* False: the answer cannot be kept. question_done() in any case. */
static bool ask(struct question *q, const struct segment *seg, const struct seg_filter *f,
                bool is_pass, uint32_t field)
{
    *q = (struct question){ .is_pass = is_pass, .schema = seg_schema(seg), .field = field };
    buf_init(&q->buf, PLAN_MAX);
    if (!seg->s.kept || (f->expr && !plan_encode(f->expr, &q->buf))) {
        return false;
    }
    if (is_pass && (atomic_load_explicit(&seg->min_ts, memory_order_relaxed) < f->ttl_before ||
                    atomic_load_explicit(&seg->max_ts, memory_order_relaxed) > f->ts)) {
        return false;
    }
    q->plan = buf_slice(&q->buf);
    q->ts = f->ts;
    /* Acquire: deletes complete before the call are counted; seg__kept_pass() compares. */
    q->deleted = atomic_load_explicit(&seg->dels.rows, memory_order_acquire);
    q->hash = hash64(q->plan.p, q->plan.n) + (is_pass ? 1 + field : 0);
    return true;
}

static bool same_question(const struct seg_answer *a, const struct question *q)
{
    return a->hash == q->hash && a->is_pass == q->is_pass && a->schema == q->schema &&
           a->field == q->field && a->nplan == q->plan.n &&
           (a->nplan == 0 || memcmp(a->plan, q->plan.p, a->nplan) == 0);
}

static bool holds(const struct seg_answer *a, const struct question *q)
{
    return !a->is_pass || (a->deleted == q->deleted && a->ts <= q->ts);
}

/* A reference; NULL: not kept. *ret_again: the question came before. */
static struct seg_answer *find(struct seg_kept *k, const struct question *q, bool *ret_again)
{
    struct seg_answer *found = NULL;
    uint64_t moment = q->is_pass ? q->deleted : 0;
    uint64_t mark = (q->hash ^ moment * UINT64_C(0x9E3779B97F4A7C15)) | 1;
    uint64_t *asked = &k->asked[mark / 2 % ASKED];
    lock_acquire(&k->lock);
    for (uint32_t i = 0; i < SLOTS && !found; i++) {
        struct seg_answer *a = k->slot[i];
        if (a && same_question(a, q) && holds(a, q)) {
            atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
            a->used = ++k->turn;
            found = a;
        }
    }
    *ret_again = *asked == mark;
    *asked = mark;
    lock_release(&k->lock);
    count(q->is_pass, found != NULL);
    return found;
}

/* Takes the slot of the same question, or a free one, or makes room. Keeps a reference of its own. */
static void keep(struct seg_kept *k, struct seg_answer *a, const struct question *q)
{
    struct seg_answer *gone[SLOTS];
    uint32_t ngone = 0, at = SLOTS;
    size_t sum;
    if (a->bytes > k->room) {
        return;
    }
    lock_acquire(&k->lock);
    sum = atomic_load_explicit(&k->bytes, memory_order_relaxed);
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (k->slot[i] && same_question(k->slot[i], q)) {
            sum -= k->slot[i]->bytes;
            gone[ngone++] = TAKE(k->slot[i]);
        }
        at = k->slot[i] ? at : i;
    }
    while (at == SLOTS || sum + a->bytes > k->room) {
        uint32_t old = SLOTS;
        for (uint32_t i = 0; i < SLOTS; i++) {
            if (k->slot[i] && (old == SLOTS || k->slot[i]->used < k->slot[old]->used)) {
                old = i;
            }
        }
        if (old == SLOTS) {
            break; /* nothing is left to go: the answer alone fits */
        }
        sum -= k->slot[old]->bytes;
        gone[ngone++] = TAKE(k->slot[old]);
        at = old;
    }
    atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
    a->used = ++k->turn;
    k->slot[at] = a;
    atomic_store_explicit(&k->bytes, sum + a->bytes, memory_order_relaxed);
    lock_release(&k->lock);
    while (ngone) {
        answer_unref(gone[--ngone]);
    }
}

/* An answer with a reference for the caller; NULL without memory. */
static struct seg_answer *answer_new(const struct question *q, const uint64_t *bits, uint32_t nrows)
{
    struct seg_answer *a = alloc_try_zero(sizeof *a + q->plan.n);
    uint64_t *copy = alloc_try(bits_words(nrows) * 8 + 8);
    if (!a || !copy) {
        mem_free(a);
        mem_free(copy);
        return NULL;
    }
    memcpy(copy, bits, bits_words(nrows) * 8);
    atomic_init(&a->refs, 1);
    a->is_pass = q->is_pass;
    a->hash = q->hash;
    a->schema = q->schema;
    a->field = q->field;
    a->nplan = (uint32_t)q->plan.n;
    if (a->nplan) {
        memcpy(a->plan, q->plan.p, a->nplan);
    }
    a->bits = copy;
    a->bytes = sizeof *a + a->nplan + bits_words(nrows) * 8 + 8;
    return a;
}

/* ---- where ---- */

int seg__where(const struct segment *seg, const struct seg_filter *f, seg_where_fn *eval, void *arg,
               uint64_t *bits, uint32_t nrows, struct status *st)
{
    struct question q;
    bool again = false, can = ask(&q, seg, f, false, 0);
    struct seg_answer *a = can ? find(seg->s.kept, &q, &again) : NULL;
    int rc = 0;
    if (a) {
        memcpy(bits, a->bits, bits_words(nrows) * 8);
        goto out;
    }
    TRY(eval(arg, bits, st));
    if (again) {
        a = answer_new(&q, bits, nrows);
        if (a) {
            keep(seg->s.kept, a, &q);
        }
    }
out:
    answer_unref(a);
    buf_done(&q.buf);
    return rc;
}

/* ---- pass ---- */

/* Whether what was made at q->ts holds from then on. */
static bool lasts(const struct segment *seg, const struct question *q)
{
    for (uint32_t row = 0; q->deleted && row < seg__nrows(seg); row += SEG_PAGE_ROWS) {
        const struct seg_page *page = seg__dir_get(&seg->dels.pages, row / SEG_PAGE_ROWS);
        if (page && atomic_load_explicit(&page->max_ts, memory_order_acquire) > q->ts) {
            return false;
        }
    }
    return atomic_load_explicit(&seg->dels.rows, memory_order_acquire) == q->deleted;
}

int seg__pass_get(const struct segment *seg, const struct index *ix, uint32_t field,
                  const struct seg_filter *f, int64_t deadline_us, struct arena *ar,
                  struct seg_pass *own, const struct seg_pass **ret_pass, struct status *st)
{
    struct question q;
    bool again = false, can = ask(&q, seg, f, true, field);
    struct seg_answer *a = can ? find(seg->s.kept, &q, &again) : NULL;
    uint64_t *bits;
    uint32_t nrows;
    int rc = 0;
    if (a) {
        *ret_pass = &a->pass;
        goto out;
    }
    TRY(seg_bits(seg, f, seg->fields[field].id, deadline_us, ar, &bits, &nrows, &own->count, st));
    own->bits = bits;
    *ret_pass = own;
    if (again && own->count > 0 && own->count < nrows && lasts(seg, &q)) {
        struct status ignored = STATUS_INIT;
        struct index_filter *filter = NULL;
        a = answer_new(&q, bits, nrows);
        if (a && index_filter_new(ix, bits, &filter, &ignored) == 0) {
            a->deleted = q.deleted;
            a->ts = q.ts;
            a->pass = (struct seg_pass){ .bits = a->bits, .count = own->count, .filter = filter,
                                         .kept = true };
            a->bytes += index_filter_bytes(filter);
            keep(seg->s.kept, a, &q);
            *ret_pass = &a->pass;
            a = NULL; /* the reference is the caller's */
        }
        answer_unref(a);
    }
out:
    buf_done(&q.buf);
    return rc;
}
