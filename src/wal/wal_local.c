/*
 * wal_local.c - a log in local files: opening and closing. The bytes are described in
 * wal_format.c, appending in wal_append.c.
 *
 * OPENING     Raise the term, list the files, find the end of the last one (wal_recover.c), cut
 *             what is behind it, sync. The order matters: the term first, so that an older writer
 *             either finished its write before we look, or will not acknowledge it. A log whose
 *             last writer had another term goes on in a new file, since that writer may still have
 *             the old one open; what it adds there is behind the first position of our file, and
 *             so counts for nothing.
 * FAILURE     A crash between any two of these steps leaves a log that opens the same way.
 * THREADS     Open and close: one thread, nobody else has the log. Positions are read under q.
 */
#include "base/alloc.h"
#include "wal/wal_int.h"
#include <string.h>

enum { SYNC_INTERVAL_MS = 200 };
#define FILE_SIZE_DEFAULT ((uint64_t)64 << 20)

static void local_stats(struct wal *base, struct wal_stats *ret)
{
    struct wal_local *w = (struct wal_local *)base;
    lock_acquire(&w->q);
    lock_acquire(&w->files_lock);
    *ret = (struct wal_stats){
        .first = w->firsts[0],
        .last = w->last,
        .durable = w->durable,
        .nfiles = w->nfiles,
        .bytes = w->closed_bytes + w->end,
        .cut_bytes = w->cut_bytes,
        .nsyncs = w->nsyncs,
        .nbatches = w->nbatches,
        .nrecords = w->nrecords,
    };
    lock_release(&w->files_lock);
    lock_release(&w->q);
}

static uint64_t local_acked(struct wal *base)
{
    struct wal_local *w = (struct wal_local *)base;
    uint64_t acked;
    lock_acquire(&w->q);
    acked = w->acked;
    lock_release(&w->q);
    return acked;
}

static void local_free(struct wal_local *w)
{
    if (!w) {
        return;
    }
    file_close(w->active);
    mem_free(w->frame);
    mem_free(w->firsts);
    mem_free(w->dir);
    cond_done(&w->changed);
    lock_done(&w->q);
    lock_done(&w->files_lock);
    mem_free(w);
}

static int local_close(struct wal *base, struct status *st)
{
    struct wal_local *w = (struct wal_local *)base;
    int rc = 0;
    if (!w->readonly) {
        lock_acquire(&w->q);
        if (w->durable < w->last) {
            rc = wal__sync_locked(w, st);
        }
        w->stopping = true;
        cond_broadcast(&w->changed);
        lock_release(&w->q);
        if (w->thread) {
            thread_join(w->thread);
        }
        if (!w->failed && w->reserved > w->end) {
            struct status ignored = STATUS_INIT;
            (void)file_truncate(w->active, w->end, &ignored); /* gives back space, no more */
        }
    }
    local_free(w);
    return rc;
}

static const struct wal_ops local_ops = {
    .append_begin = wal__append_begin,
    .wait = wal__wait,
    .sync = wal__sync,
    .truncate_before = wal__truncate_before,
    .stats = local_stats,
    .acked = local_acked,
    .reader_open = wal__reader_open,
    .reader_next = wal__reader_next,
    .reader_close = wal__reader_close,
    .close = local_close,
};

static struct wal_local *local_new(const struct wal_opts *opts, bool readonly)
{
    struct wal_local *w = xalloc(sizeof *w);
    w->base.ops = &local_ops;
    w->opts = *opts;
    w->dir = xstrdup(opts->dir);
    w->opts.dir = w->dir;
    w->readonly = readonly;
    if (w->opts.sync_interval_ms <= 0) {
        w->opts.sync_interval_ms = SYNC_INTERVAL_MS;
    }
    if (w->opts.file_size == 0) {
        w->opts.file_size = FILE_SIZE_DEFAULT;
    }
    w->opts.prealloc = MIN(w->opts.prealloc, w->opts.file_size);
    lock_init(&w->q, RANK_WAL_QUEUE);
    lock_init(&w->files_lock, RANK_WAL_FILES);
    cond_init(&w->changed);
    return w;
}

/* Sizes of the files before the last, for the statistics. */
static int measure(struct wal_local *w, struct status *st)
{
    int rc = 0;
    for (size_t i = 0; i + 1 < w->nfiles; i++) {
        char *path = wal__file_path(w->dir, w->firsts[i]);
        bool exists = false, is_dir;
        uint64_t size = 0;
        rc = path_stat(path, &exists, &is_dir, &size, st);
        mem_free(path);
        TRY(rc);
        w->closed_bytes += exists ? size : 0;
    }
out:
    return rc;
}

/* Takes over the last file as scan found it. */
static int take_over(struct wal_local *w, const struct wal_scan *scan, struct status *st)
{
    struct wal_file_header h;
    struct file *f = NULL;
    int rc;
    TRY(wal__file_open(w->dir, scan->header.first, FILE_READ | FILE_WRITE | FILE_AT, &f, &h, st));
    /* Zeros behind the end are space reserved before, and stay. */
    if (scan->cut_bytes > 0) {
        TRY(file_truncate(f, scan->end, st));
        w->reserved = scan->end;
    } else {
        w->reserved = scan->size;
    }
    /* After kill -9 the records may still be only in the kernel. */
    TRY(file_sync(f, st));
    TRY(dir_sync(w->dir, st));
    w->active = TAKE(f);
    w->active_h = h;
    w->end = scan->end;
out:
    file_close(f);
    return rc;
}

static void set_end(struct wal_local *w, const struct wal_scan *scan)
{
    w->last = w->acked = w->durable = w->notified = scan->last;
    w->cut_bytes = scan->cut_bytes;
    w->end = scan->end;
}

static int recover(struct wal_local *w, struct status *st)
{
    struct wal_scan scan = {0};
    int rc;
    TRY(wal__files_find(w->dir, !w->readonly, &w->firsts, &w->nfiles, st));
    w->files_cap = w->nfiles;
    if (w->nfiles == 0) {
        if (w->readonly) {
            FAIL(st, ST_NOT_FOUND, "%s holds no log", w->dir);
        }
        TRY(wal__roll(w, 1, st));
        goto out;
    }
    TRY(measure(w, st));
    TRY(wal__scan(w->dir, w->firsts[w->nfiles - 1], &scan, st));
    set_end(w, &scan);
    if (w->readonly) {
        goto out;
    }
    if (scan.header.term > w->opts.term) {
        FAIL(st, ST_FENCED, "log %s belongs to term %llu, this is term %llu", w->dir,
             (unsigned long long)scan.header.term, (unsigned long long)w->opts.term);
    }
    TRY(take_over(w, &scan, st));
    if (scan.header.term != w->opts.term) {
        /* An empty file is replaced by ours of the same name. */
        TRY(wal__roll(w, w->last + 1, st));
    }
out:
    return rc;
}

int wal_local_open(const struct wal_opts *opts, struct wal **ret_w, struct status *st)
{
    struct wal_local *w = NULL;
    int rc;
    if (opts->sync != WAL_SYNC_ALWAYS && opts->sync != WAL_SYNC_INTERVAL &&
        opts->sync != WAL_SYNC_NEVER) {
        FAIL(st, ST_INVALID, "unknown sync mode %d of log %s", (int)opts->sync, opts->dir);
    }
    TRY(dir_make(opts->dir, st));
    TRY(wal__term_raise(opts->dir, opts->term, st));
    w = local_new(opts, false);
    TRY(recover(w, st));
    if (opts->on_durable || opts->sync == WAL_SYNC_INTERVAL) {
        w->thread = thread_start("wal", wal__thread, w);
    }
    *ret_w = &TAKE(w)->base;
out:
    local_free(w);
    return rc;
}

int wal_local_open_readonly(const char *dir, struct wal **ret_w, struct status *st)
{
    struct wal_opts opts = {.dir = dir};
    struct wal_local *w = local_new(&opts, true);
    int rc;
    TRY(recover(w, st));
    *ret_w = &TAKE(w)->base;
out:
    local_free(w);
    return rc;
}
