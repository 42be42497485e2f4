/*
 * wal_append.c - writing batches, and sharing syncs between them.
 *
 * WHAT        wal__append_begin() frames a batch and hands it to the kernel with one write.
 *             Syncing is a separate step that covers everything written so far: whoever waits and
 *             finds nobody syncing becomes the leader and syncs for all (group commit); with
 *             opts.on_durable, a thread of the log leads, and the caller prepares its next batch.
 * INVARIANTS  durable <= last, acked <= last. With WAL_SYNC_ALWAYS acked == durable, else
 *             acked == last. Behind `end` the active file holds nothing but zeros, up to
 * `reserved`, whenever nobody is writing and nothing failed. THREADS     One writer and one syncer
 * at a time; the flags `writing` and `syncing` (guarded by q) say who owns the file, so q is never
 * held over I/O. Writing the next batch while the last one syncs is the point. Rolling to a new
 * file sets both flags. FENCING     The term file is read after the write and before anything is
 * acknowledged. A newer writer raises the term first and then looks for the end of the log. So if
 * the old term is read here, the newer writer's search comes after our write and finds it; if the
 * new term is read, the batch is not acknowledged. Either way nobody is lied to. FAILURE     A
 * failed write is taken back by truncating the file; if that fails too, or a sync fails, the log
 * refuses all further appends: after a failed fdatasync the kernel may have dropped the pages, and
 * a second fdatasync would succeed without them. Fault points: wal_append_before_write,
 * wal_append_before_sync, wal_append_after_sync.
 */
#include "base/alloc.h"
#include "base/fault.h"
#include "base/hash.h"
#include "wal/wal_int.h"
#include <string.h>
#include <sys/random.h>

enum { FRAME_KEEP = 1 << 20, ZEROS = 64 << 10, RESERVE_MAX = 1 << 20 };

/* ---- state, all with w->q held ---- */

static int failure_of(const struct wal_local *w, struct status *st)
{
    if (w->failed) {
        *st = w->failure;
        return st->code;
    }
    return 0;
}

/* The first failure stays: it is the cause. */
static void fail_for_good(struct wal_local *w, const struct status *why)
{
    if (!w->failed) {
        w->failed = true;
        w->failure = *why;
        if (why->code != ST_FENCED) {
            (void)st_context(&w->failure, "log %s takes no more records until it is opened again",
                             w->dir);
        }
        w->failure.retriable = false;
    }
    cond_broadcast(&w->changed);
}

static int writing_take(struct wal_local *w, struct status *st)
{
    int rc;
    while (w->writing && !w->failed) {
        cond_wait(&w->changed, &w->q);
    }
    rc = failure_of(w, st);
    if (rc == 0) {
        w->writing = true;
    }
    return rc;
}

static void writing_give(struct wal_local *w)
{
    w->writing = false;
    cond_broadcast(&w->changed);
}

/* ---- syncing ---- */

static int sync_file(struct file *f, struct status *st)
{
    int rc;
    TRY(FAULT_POINT("wal_append_before_sync", st));
    TRY(file_sync(f, st));
    TRY(FAULT_POINT("wal_append_after_sync", st));
out:
    return rc;
}

/* Syncs what is written now. Holds: w->q, released meanwhile. Nobody else may be syncing. */
static int lead_sync(struct wal_local *w, struct status *st)
{
    uint64_t target = w->last;
    struct file *f = w->active;
    int rc;

    w->syncing = true;
    lock_release(&w->q);
    rc = sync_file(f, st);
    lock_acquire(&w->q);
    w->syncing = false;
    w->nsyncs++;
    if (rc != 0) {
        fail_for_good(w, st);
        return failure_of(w, st);
    }
    w->durable = MAX(w->durable, target);
    w->acked = MAX(w->acked, w->durable);
    cond_broadcast(&w->changed);
    return 0;
}

int wal__sync_locked(struct wal_local *w, struct status *st)
{
    uint64_t target = w->last;
    int rc = failure_of(w, st);
    while (rc == 0 && w->durable < target) {
        if (w->syncing) {
            cond_wait(&w->changed, &w->q);
            rc = failure_of(w, st);
        } else {
            rc = lead_sync(w, st);
        }
    }
    return rc;
}

int wal__sync(struct wal *base, struct status *st)
{
    struct wal_local *w = (struct wal_local *)base;
    int rc;
    lock_acquire(&w->q);
    rc = wal__sync_locked(w, st);
    lock_release(&w->q);
    return rc;
}

int wal__wait(struct wal *base, uint64_t position, int64_t deadline_us, struct status *st)
{
    struct wal_local *w = (struct wal_local *)base;
    int rc = 0;
    lock_acquire(&w->q);
    while (w->acked < position) {
        TRY(failure_of(w, st));
        if (w->opts.sync == WAL_SYNC_ALWAYS && position <= w->last && !w->syncing) {
            TRY(lead_sync(w, st));
        } else if (!cond_wait_until(&w->changed, &w->q, deadline_us) && w->acked < position &&
                   !w->failed) {
            FAIL(st, ST_TIMEOUT, "log %s: record %llu is not there yet, the last one is %llu",
                 w->dir, (unsigned long long)position, (unsigned long long)w->acked);
        }
    }
out:
    lock_release(&w->q);
    return rc;
}

/* ---- the thread ---- */

static bool sync_due(const struct wal_local *w)
{
    if (w->failed || w->syncing || w->durable >= w->last) {
        return false;
    }
    return w->opts.sync == WAL_SYNC_ALWAYS ||
           (w->opts.sync == WAL_SYNC_INTERVAL && clock_mono_us() >= w->next_sync_us);
}

static bool notify_due(const struct wal_local *w)
{
    return w->opts.on_durable && w->acked > w->notified;
}

/* Tells the caller what is acknowledged, or that nothing more will be. Holds: w->q, released. */
static void notify(struct wal_local *w, const struct status *err)
{
    uint64_t position = w->acked;
    w->notified = position;
    lock_release(&w->q);
    w->opts.on_durable(w->opts.on_durable_arg, position, err);
    lock_acquire(&w->q);
}

void wal__thread(void *arg)
{
    struct wal_local *w = arg;
    struct status st = STATUS_INIT;
    bool told = false;

    lock_acquire(&w->q);
    for (;;) {
        if (notify_due(w)) {
            notify(w, NULL);
        } else if (sync_due(w)) {
            /* A failure is kept in w; the appends that wait for it return it. */
            (void)lead_sync(w, &st);
            w->next_sync_us = clock_mono_us() + w->opts.sync_interval_ms * 1000;
        } else if (w->failed && w->opts.on_durable && !told) {
            struct status err = w->failure;
            told = true;
            notify(w, &err);
        } else if (w->stopping && !w->syncing) {
            break;
        } else if (w->opts.sync == WAL_SYNC_INTERVAL && w->durable < w->last && !w->failed) {
            (void)cond_wait_until(&w->changed, &w->q, w->next_sync_us);
        } else {
            cond_wait(&w->changed, &w->q);
        }
    }
    lock_release(&w->q);
}

/* ---- rolling ---- */

static int new_salt(uint64_t *ret, struct status *st)
{
    if (getrandom(ret, sizeof *ret, 0) != (ssize_t)sizeof *ret) {
        return st_fail(st, ST_IO, "the system gives no random bytes");
    }
    return 0;
}

/* Waits until nobody syncs, and keeps others from it; what is written is durable then. */
static int syncing_take(struct wal_local *w, struct status *st)
{
    int rc;
    lock_acquire(&w->q);
    rc = w->active ? wal__sync_locked(w, st) : failure_of(w, st);
    while (rc == 0 && w->syncing) {
        cond_wait(&w->changed, &w->q);
        rc = failure_of(w, st);
    }
    if (rc == 0) {
        w->syncing = true;
    }
    lock_release(&w->q);
    return rc;
}

int wal__roll(struct wal_local *w, uint64_t first, struct status *st)
{
    struct wal_file_header h = {.first = first, .term = w->opts.term};
    struct file *f = NULL;
    bool stuck = false, listed;
    int rc;

    TRY(new_salt(&h.salt, st));
    TRY(syncing_take(w, st));
    /* Gives back the reserved space behind the end. */
    rc = w->active && w->reserved > w->end ? file_truncate(w->active, w->end, st) : 0;
    if (rc == 0) {
        rc = wal__file_create(w->dir, &h, &f, &stuck, st);
    }
    lock_acquire(&w->q);
    w->syncing = false;
    cond_broadcast(&w->changed);
    if (stuck) {
        /* Records appended to the old file now would be hidden by the new one. */
        fail_for_good(w, st);
    }
    if (rc == 0) {
        struct file *old = w->active;
        listed = !old || w->active_h.first != first;
        w->active = TAKE(f);
        w->active_h = h;
        lock_acquire(&w->files_lock);
        w->closed_bytes += old && listed ? w->end : 0;
        lock_release(&w->files_lock);
        w->end = WAL_FILE_HEADER;
        w->reserved = WAL_FILE_HEADER;
        f = old;
    }
    lock_release(&w->q);
    if (rc == 0 && listed) {
        wal__files_add(w, first);
    }
out:
    file_close(f);
    return rc;
}

/* ---- appending ---- */

struct batch {
    uint64_t first, durable, bytes;
    size_t nparts;
    struct file_part *parts;
};

/* Space for the headers and the list of parts of a batch. Owns: writing */
static int frame_reserve(struct wal_local *w, const struct wal_entry *entries, size_t n,
                         struct batch *b, struct status *st)
{
    size_t nparts = 0, bytes, more;
    for (size_t i = 0; i < n; i++) {
        nparts += entries[i].nparts + 2; /* header and padding */
    }
    if (!mul_size(nparts, sizeof(struct file_part), &bytes) ||
        !mul_size(n, WAL_RECORD_HEADER, &more) || !add_size(bytes, more, &bytes)) {
        return st_fail(st, ST_TOO_LARGE, "log batch of %zu records", n);
    }
    if (bytes > w->frame_cap) {
        uint8_t *p = alloc_try(bytes);
        if (!p) {
            return st_fail(st, ST_NO_MEMORY, "no memory for a log batch of %zu records", n);
        }
        mem_free(w->frame);
        w->frame = p;
        w->frame_cap = bytes;
    }
    b->parts = (struct file_part *)(void *)w->frame;
    b->nparts = 0;
    b->bytes = 0;
    return 0;
}

/* Owns: writing */
static int frame_batch(struct wal_local *w, const struct wal_entry *entries, size_t n,
                       struct batch *b, struct status *st)
{
    static const uint8_t zeros[WAL_ALIGN];
    uint8_t *header;
    int rc;
    TRY(frame_reserve(w, entries, n, b, st));
    /* The headers lie behind the parts, whose number is known only afterwards. */
    header = w->frame + w->frame_cap - n * WAL_RECORD_HEADER;
    for (size_t i = 0; i < n; i++, header += WAL_RECORD_HEADER) {
        const struct wal_entry *e = &entries[i];
        struct wal_record_header h = {.position = b->first + i, .type = e->type};
        uint64_t unsynced = h.position - b->durable;
        struct file_part *p = &b->parts[b->nparts];
        for (size_t k = 0; k < e->nparts; k++) {
            h.len += (uint32_t)e->parts[k].n;
        }
        h.flags = i + 1 == n ? WAL_FLAG_LAST : 0;
        h.unsynced = unsynced < UINT32_MAX ? (uint32_t)unsynced : UINT32_MAX;
        wal__record_header_put(header, &h);
        h.crc = wal__record_crc(w->active_h.salt, header);
        *p++ = (struct file_part){header, WAL_RECORD_HEADER};
        for (size_t k = 0; k < e->nparts; k++) {
            h.crc = crc32c(h.crc, e->parts[k].p, e->parts[k].n);
            *p++ = e->parts[k];
        }
        wal__record_header_put(header, &h);
        *p++ = (struct file_part){zeros,
                                  (size_t)(wal__record_size(h.len) - WAL_RECORD_HEADER - h.len)};
        b->nparts = (size_t)(p - b->parts);
        b->bytes += wal__record_size(h.len);
    }
out:
    return rc;
}

static uint64_t batch_bytes(const struct wal_entry *entries, size_t n)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t len = 0;
        for (size_t k = 0; k < entries[i].nparts; k++) {
            len += entries[i].parts[k].n;
        }
        bytes += wal__record_size((uint32_t)len);
    }
    return bytes;
}

static int term_check(struct wal_local *w, struct status *st)
{
    uint64_t term;
    int rc;
    TRY(wal__term_read(w->dir, &term, st));
    if (term > w->opts.term) {
        FAIL(st, ST_FENCED, "log %s belongs to term %llu, this is term %llu", w->dir,
             (unsigned long long)term, (unsigned long long)w->opts.term);
    }
out:
    return rc;
}

/* Writes zeros ahead of the end, so that the next syncs find the size of the file and its blocks
 * settled. Not for batches that would be written twice at great length. Owns: writing */
static int reserve(struct wal_local *w, uint64_t end, struct status *st)
{
    static const uint8_t zeros[ZEROS];
    struct file_part parts[RESERVE_MAX / ZEROS];
    uint64_t from = MAX(w->reserved, w->end), to;
    size_t nparts = 0;
    int rc;
    if (w->opts.prealloc == 0 || end <= w->reserved || end - w->end > RESERVE_MAX / 4) {
        return 0;
    }
    to = MIN(end + w->opts.prealloc, from + RESERVE_MAX);
    for (uint64_t off = from; off < to; off += ZEROS) {
        parts[nparts++] = (struct file_part){zeros, (size_t)MIN(to - off, (uint64_t)ZEROS)};
    }
    TRY(file_pwritev(w->active, from, parts, nparts, st));
    w->reserved = to;
out:
    return rc;
}

/* Writes b behind the end of the active file. Owns: writing. On failure the file is as before, or
 * *ret_stuck is set. A fenced batch stays where it is: the file may have another owner by now. */
static int write_batch(struct wal_local *w, const struct batch *b, bool *ret_stuck,
                       struct status *st)
{
    struct status cut = STATUS_INIT;
    int rc;
    TRY(FAULT_POINT("wal_append_before_write", st));
    rc = reserve(w, w->end + b->bytes, st);
    if (rc == 0) {
        rc = file_pwritev(w->active, w->end, b->parts, b->nparts, st);
    }
    if (rc != 0) {
        *ret_stuck = file_truncate(w->active, w->end, &cut) != 0;
        w->reserved = w->end;
        goto out;
    }
    w->reserved = MAX(w->reserved, w->end + b->bytes);
    rc = term_check(w, st);
    if (rc != 0) {
        *ret_stuck = true;
    }
out:
    return rc;
}

int wal__append_begin(struct wal *base, const struct wal_entry *entries, size_t n,
                      uint64_t *ret_first, struct status *st)
{
    struct wal_local *w = (struct wal_local *)base;
    struct batch b = {0};
    bool stuck = false;
    uint64_t bytes = batch_bytes(entries, n);
    int rc;

    if (w->readonly) {
        return st_fail(st, ST_DENIED, "log %s is open read-only", w->dir);
    }
    lock_acquire(&w->q);
    rc = writing_take(w, st);
    if (rc != 0) {
        lock_release(&w->q);
        return rc;
    }
    b.first = w->last + 1;
    b.durable = w->durable;
    lock_release(&w->q);

    rc = 0;
    if (w->end > WAL_FILE_HEADER && w->end + bytes > w->opts.file_size) {
        rc = wal__roll(w, b.first, st);
    }
    if (rc == 0) {
        rc = frame_batch(w, entries, n, &b, st);
    }
    if (rc == 0) {
        rc = write_batch(w, &b, &stuck, st);
    }
    if (w->frame_cap > FRAME_KEEP) {
        mem_free(TAKE(w->frame));
        w->frame_cap = 0;
    }

    lock_acquire(&w->q);
    if (rc == 0) {
        w->last += n;
        w->end += b.bytes;
        w->nbatches++;
        w->nrecords += n;
        if (w->opts.sync != WAL_SYNC_ALWAYS) {
            w->acked = w->last;
        }
        *ret_first = b.first;
    } else if (stuck) {
        fail_for_good(w, st);
        rc = failure_of(w, st);
    }
    writing_give(w);
    lock_release(&w->q);
    return rc;
}
