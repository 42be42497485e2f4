/*
 * meta_watch.c - watches of embedded stores: one ring of recent changes, many cursors.
 *
 * WHAT        Every committed change is appended to a ring shared by all watches. A watch is a
 *             cursor into it and a prefix; its next() walks forward to the first change that
 *             matches. Nothing is queued per watch, so a hundred watches cost a hundred cursors,
 *             and memory is bounded by META_HIST_EVENTS and META_HIST_BYTES whatever they do.
 * INVARIANTS  Events in the ring have rising revisions; those of one transaction are neighbours.
 *             Every change with revision > floor is in the ring. tail <= head.
 * THREADS     hist->lock guards the ring and all cursors; publishers hold the store's lock too, so
 *             the order in the ring is the order of commit. Waiters sleep on one condition: there
 *             are few watches, and changes of metadata are rare.
 * FAILURE     The ring is lost at close. Whoever asks for a change older than the ring, or is
 *             overtaken by it, gets META_EV_RESYNC. A change that finds no memory empties the
 *             ring instead of failing a transaction that is durable already.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "meta/meta_int.h"

struct embed_watch {
    struct meta_watch base; /* first */
    char *prefix;
    size_t nprefix;
    /* Guarded by hist.lock: */
    uint64_t cursor;
    int64_t from; /* older revisions are skipped */
    bool resync;  /* META_EV_RESYNC is due */
    bool cancelled;
};

static struct meta_hist_event *slot(const struct meta_hist *h, uint64_t seq)
{
    return h->ring[seq % META_HIST_EVENTS];
}

void meta__hist_init(struct meta_hist *h, int64_t revision)
{
    lock_init(&h->lock, RANK_META_WATCH);
    cond_init(&h->changed);
    h->floor = revision;
    h->newest = revision;
}

/* Holds: h->lock */
static void drop_oldest(struct meta_hist *h)
{
    struct meta_hist_event *ev = slot(h, h->tail);
    h->ring[h->tail % META_HIST_EVENTS] = NULL;
    h->floor = ev->revision;
    h->bytes -= ev->nkey + ev->nvalue;
    h->tail++;
    mem_free(ev);
}

void meta__hist_done(struct meta_hist *h)
{
    ASSERT(h->nwatches == 0);
    while (h->tail < h->head) {
        drop_oldest(h);
    }
    cond_done(&h->changed);
    lock_done(&h->lock);
}

/* Holds: h->lock */
static void lose(struct meta_hist *h, int64_t revision)
{
    while (h->tail < h->head) {
        drop_oldest(h);
    }
    /* One sequence number is skipped: every cursor is now behind the tail. */
    h->head++;
    h->tail = h->head;
    h->floor = revision;
    h->newest = revision;
}

void meta__hist_lose(struct meta_hist *h, int64_t revision)
{
    lock_acquire(&h->lock);
    lose(h, revision);
    cond_broadcast(&h->changed);
    lock_release(&h->lock);
}

void meta__hist_publish(struct meta_hist *h, const struct meta_change *changes, size_t n,
                        int64_t revision)
{
    lock_acquire(&h->lock);
    for (size_t i = 0; i < n; i++) {
        const struct meta_change *c = &changes[i];
        size_t nvalue = c->kind == META_PUT ? c->value.n : 0;
        struct meta_hist_event *ev = alloc_try(sizeof *ev + c->key.n + nvalue);
        if (!ev) {
            lose(h, revision);
            break;
        }
        ev->kind = c->kind == META_PUT ? META_EV_PUT : META_EV_DELETE;
        ev->revision = revision;
        ev->nkey = c->key.n;
        ev->nvalue = nvalue;
        memcpy(ev->bytes, c->key.p, c->key.n);
        if (nvalue) {
            memcpy(ev->bytes + c->key.n, c->value.p, nvalue);
        }
        while (h->tail < h->head && (h->head - h->tail == META_HIST_EVENTS ||
                                     h->bytes + ev->nkey + nvalue > META_HIST_BYTES)) {
            drop_oldest(h);
        }
        h->ring[h->head % META_HIST_EVENTS] = ev;
        h->bytes += ev->nkey + nvalue;
        h->head++;
    }
    h->newest = revision;
    cond_broadcast(&h->changed);
    lock_release(&h->lock);
}

void meta__hist_poke(struct meta_hist *h)
{
    lock_acquire(&h->lock);
    cond_broadcast(&h->changed);
    lock_release(&h->lock);
}

int meta__watch_open(struct meta *m, struct slice prefix, int64_t from_revision,
                     struct meta_watch **ret_w, struct status *st)
{
    struct meta_embed *me = (struct meta_embed *)m;
    struct meta_hist *h = &me->hist;
    struct embed_watch *w;
    if (me->readonly) {
        return st_fail(st, ST_UNSUPPORTED, "a read-only view of the metadata cannot be watched");
    }
    w = xalloc(sizeof *w);
    w->base.m = m;
    w->prefix = xstrndup(prefix.n ? prefix.p : "", prefix.n);
    w->nprefix = prefix.n;
    lock_acquire(&h->lock);
    w->cursor = h->head;
    w->from = from_revision ? from_revision : h->newest + 1;
    if (w->from <= h->floor) {
        w->resync = true;
    } else {
        while (w->cursor > h->tail && slot(h, w->cursor - 1)->revision >= w->from) {
            w->cursor--;
        }
    }
    h->nwatches++;
    lock_release(&h->lock);
    *ret_w = &w->base;
    return 0;
}

/* The next event for w, or NULL when there is none now. Holds: h->lock */
static const struct meta_hist_event *advance(struct meta_hist *h, struct embed_watch *w)
{
    struct slice prefix = {w->prefix, w->nprefix};
    if (w->cursor < h->tail) {
        w->resync = true;
    }
    if (w->resync) {
        return NULL;
    }
    while (w->cursor < h->head) {
        const struct meta_hist_event *ev = slot(h, w->cursor);
        if (ev->revision >= w->from && slice_starts(slice_n(ev->bytes, ev->nkey), prefix)) {
            return ev;
        }
        w->cursor++;
    }
    return NULL;
}

int meta__watch_next(struct meta_watch *base, int64_t deadline_us, struct arena *ar,
                     struct meta_event *ret, struct status *st)
{
    struct embed_watch *w = (struct embed_watch *)base;
    struct meta_embed *me = (struct meta_embed *)base->m;
    struct meta_hist *h = &me->hist;
    struct meta_event ev = {.kind = META_EV_RESYNC};
    int rc = 0;

    /* The end of a lease is an event too, and there is no thread that waits for it: whoever waits
     * for events does. */
    meta__embed_expire(me);
    lock_acquire(&h->lock);
    for (;;) {
        const struct meta_hist_event *found = advance(h, w);
        if (w->cancelled) {
            FAIL(st, ST_CANCELLED, "the watch is closed");
        }
        if (w->resync) {
            ev.revision = h->newest;
            w->resync = false;
            w->cursor = h->head;
            w->from = h->newest + 1;
            break;
        }
        if (found) {
            ev.kind = found->kind;
            ev.revision = found->revision;
            TRY(meta__copy(ar, slice_n(found->bytes, found->nkey), &ev.key, st));
            TRY(meta__copy(ar, slice_n(found->bytes + found->nkey, found->nvalue), &ev.value, st));
            w->cursor++;
            break;
        }
        int64_t expiry = atomic_load_explicit(&me->next_expiry, memory_order_relaxed);
        if (cond_wait_until(&h->changed, &h->lock, MIN(deadline_us, expiry))) {
            continue;
        }
        lock_release(&h->lock);
        meta__embed_expire(me);
        lock_acquire(&h->lock);
        if (clock_mono_us() >= deadline_us && !advance(h, w) && !w->resync && !w->cancelled) {
            FAIL(st, ST_TIMEOUT, "no change under \"%s\" before the deadline", w->prefix);
        }
    }
    *ret = ev;
out:
    lock_release(&h->lock);
    return rc;
}

void meta__watch_cancel(struct meta_watch *base)
{
    struct embed_watch *w = (struct embed_watch *)base;
    struct meta_hist *h = &((struct meta_embed *)base->m)->hist;
    lock_acquire(&h->lock);
    w->cancelled = true;
    cond_broadcast(&h->changed);
    lock_release(&h->lock);
}

void meta__watch_close(struct meta_watch *base)
{
    struct embed_watch *w = (struct embed_watch *)base;
    struct meta_hist *h = &((struct meta_embed *)base->m)->hist;
    lock_acquire(&h->lock);
    h->nwatches--;
    lock_release(&h->lock);
    mem_free(w->prefix);
    mem_free(w);
}
