/*
 * co_gc.c - files nobody needs any more.
 *
 * ORPHANS   When the program starts, before any node writes, every object under segments/ and
 *           deltas/ that metadata does not name (a segment by its folder, an index file in it by its
 *           key) is left over from a crash and removed. Only with
 *           nodes in this process: in a cluster nodes may be writing.
 * DROPPED   Later the files of what was dropped: by prefix, at once, and once more after
 *           dataCoord.gc.interval, for a flush that was still writing when the collection went.
 * THREADS   One thread; it sleeps without a timer while there is nothing to remove. `bg` guards
 *           the list. An object being read stays readable: object.h.
 * FAILURE   A failed removal is tried again after the interval; a crash leaves orphans.
 */
#include "coord/co_int.h"
#include "base/fault.h"

#define LOG_ROOM "coord"
#include "base/log.h"

struct gc_item {
    char *prefix;
    bool whole; /* it is a key */
    int64_t due_ms; /* monotonic */
    int removals;
};

struct co_gc {
    struct gc_item *items;
    size_t n, cap;
    int64_t interval_ms;
};

int co__gc_new(struct coord *co, struct status *st)
{
    (void)st;
    co->gc = xalloc(sizeof *co->gc);
    co->gc->interval_ms = config_int(co->opts.config, "dataCoord.gc.interval") * 1000;
    return 0;
}

void co__gc_free(struct coord *co)
{
    struct co_gc *gc = co->gc;

    if (gc) {
        for (size_t i = 0; i < gc->n; i++) {
            mem_free(gc->items[i].prefix);
        }
        mem_free(gc->items);
        mem_free(gc);
        co->gc = NULL;
    }
}

/* Holds: bg */
static void add_item(struct co_gc *gc, struct gc_item item)
{
    if (gc->n == gc->cap) {
        gc->cap = gc->cap ? gc->cap * 2 : 8;
        gc->items = xrealloc(gc->items, gc->cap * sizeof *gc->items);
    }
    gc->items[gc->n++] = item;
}

void co__gc_prefix(struct coord *co, const char *prefix)
{
    lock_acquire(&co->bg);
    add_item(co->gc, (struct gc_item){ .prefix = xstrdup(prefix), .due_ms = clock_mono_ms() });
    cond_signal(&co->bg_gc_wake);
    lock_release(&co->bg);
}

void co__gc_object(struct coord *co, const char *key)
{
    lock_acquire(&co->bg);
    add_item(co->gc, (struct gc_item){ .prefix = xstrdup(key), .whole = true,
                                       .due_ms = clock_mono_ms() });
    cond_signal(&co->bg_gc_wake);
    lock_release(&co->bg);
}

void co__gc_collection(struct coord *co, int64_t collection_id)
{
    struct arena *ar = arena_new(0);

    co__gc_prefix(co, arena_printf(ar, "segments/%" PRId64 "/", collection_id));
    co__gc_prefix(co, arena_printf(ar, "deltas/%" PRId64 "/", collection_id));
    arena_free(ar);
}

/* ---- orphans ---- */

/* Prefixes of segments ("segments/7/12/4711"), keys of index files and delete files. */
static struct str_map *referenced(struct coord *co)
{
    struct str_map *m = str_map_new();
    size_t pos = 0;
    int64_t id;
    uint64_t v;

    while (id_map_next(co->colls, &pos, &id, &v)) {
        struct co_coll *c = (struct co_coll *)(uintptr_t)v;
        for (size_t i = 0; i < c->segs.n; i++) {
            const Elanus__Segment *seg = c->segs.v[i]->pb;
            str_map_put(m, slice_of(seg->object_prefix), c);
        }
        for (size_t i = 0; i < c->deltas.n; i++) {
            str_map_put(m, slice_of(((const Elanus__Delta *)c->deltas.v[i]->pb)->object_key), c);
        }
        for (size_t i = 0; i < c->indexes.n; i++) {
            const struct co_list *files = &c->indexes.v[i]->files;
            for (size_t j = 0; j < files->n; j++) {
                const Elanus__SegmentIndex *file = files->v[j]->pb;
                str_map_put(m, slice_of(file->object_key), c);
            }
        }
    }
    return m;
}

/* An object belongs to what is referenced when its key is that, or lies below it; index files have
 * to be named themselves. */
static bool is_referenced(const struct str_map *m, struct slice key)
{
    for (size_t n = key.n; n > 0; n--) {
        if (n == key.n && str_map_get(m, key)) {
            return true;
        }
        if (n < key.n && key.p[n] == '/' && str_map_get(m, slice_n(key.p, n))) {
            return !slice_starts(slice_n(key.p + n, key.n - n), SLICE_LIT("/index/"));
        }
    }
    return false;
}

static int remove_orphans(struct coord *co, const struct str_map *m, struct slice prefix,
                          size_t *removed, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct object_range range = { .prefix = prefix };
    struct object_list list;
    char *last = NULL;
    int rc = 0;

    do {
        arena_reset(ar);
        list = (struct object_list){ 0 };
        TRY(object_list(co->opts.os, &range, ar, &list, st));
        for (size_t i = 0; i < list.n; i++) {
            if (!is_referenced(m, list.items[i].key)) {
                TRY(FAULT_POINT("gc_before_delete", st));
                TRY(object_delete(co->opts.os, list.items[i].key, st));
                (*removed)++;
            }
        }
        if (list.n > 0) {
            mem_free(last);
            last = xstrndup(list.items[list.n - 1].key.p, list.items[list.n - 1].key.n);
            range.start_after = slice_of(last);
        }
    } while (list.more && list.n > 0);
out:
    mem_free(last);
    arena_free(ar);
    return rc;
}

/* A file that cannot be removed takes room and does no harm: no reason not to start. */
static void orphans(struct coord *co)
{
    struct str_map *m = referenced(co);
    struct status st = STATUS_INIT;
    size_t removed = 0;

    if (remove_orphans(co, m, SLICE_LIT("segments/"), &removed, &st) != 0 ||
        remove_orphans(co, m, SLICE_LIT("deltas/"), &removed, &st) != 0) {
        LOG_W("orphan files not removed, tried again at the next start: error=\"%s\"", st.msg);
    }
    if (removed > 0) {
        LOG_I("orphan files removed: n=%zu", removed);
    }
    str_map_free(m, NULL);
}

/* ---- the thread ---- */

static void remove_files(struct coord *co, struct gc_item item)
{
    struct status st = STATUS_INIT;
    bool done = true;

    if (FAULT_POINT("gc_before_delete", &st) != 0 ||
        (item.whole ? object_delete(co->opts.os, slice_of(item.prefix), &st)
                    : object_delete_prefix(co->opts.os, slice_of(item.prefix), &st)) != 0) {
        LOG_W("files not removed, tried again later: prefix=%s error=\"%s\"", item.prefix, st.msg);
        done = false;
    }
    item.removals += done;
    lock_acquire(&co->bg);
    if (item.removals < 2) {
        item.due_ms = clock_mono_ms() + co->gc->interval_ms;
        add_item(co->gc, item);
    } else {
        mem_free(item.prefix);
    }
    lock_release(&co->bg);
}

/* Takes an item that is due. Holds: bg */
static bool take_due(struct co_gc *gc, struct gc_item *ret, int64_t *ret_next_ms)
{
    int64_t now = clock_mono_ms();

    *ret_next_ms = INT64_MAX;
    for (size_t i = 0; i < gc->n; i++) {
        if (gc->items[i].due_ms <= now) {
            *ret = gc->items[i];
            gc->items[i] = gc->items[--gc->n];
            return true;
        }
        *ret_next_ms = MIN(*ret_next_ms, gc->items[i].due_ms);
    }
    return false;
}

static void gc_main(void *arg)
{
    struct coord *co = arg;

    lock_acquire(&co->bg);
    while (!co->bg_stop) {
        struct gc_item item;
        int64_t next_ms;
        if (take_due(co->gc, &item, &next_ms)) {
            lock_release(&co->bg);
            remove_files(co, item);
            lock_acquire(&co->bg);
        } else if (next_ms == INT64_MAX) {
            cond_wait(&co->bg_gc_wake, &co->bg);
        } else {
            cond_wait_until(&co->bg_gc_wake, &co->bg, next_ms * 1000);
        }
    }
    lock_release(&co->bg);
}

void co__gc_start(struct coord *co)
{
    if (co->opts.nodes_in_process) {
        orphans(co);
    }
    co->gc_thread = thread_start("co-gc", gc_main, co);
}

void co__gc_stop(struct coord *co)
{
    lock_acquire(&co->bg);
    co->bg_stop = true;
    cond_broadcast(&co->bg_gc_wake);
    lock_release(&co->bg);
    if (co->gc_thread) {
        thread_join(TAKE(co->gc_thread));
    }
}
