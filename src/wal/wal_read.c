/*
 * wal_read.c - reading a log from a position on, also while others append.
 *
 * WHAT        A reader walks one file through a window and goes on to the next file when the
 *             position it expects is the first of that file. It never reads behind the position
 *             that was acknowledged, so it needs no care for records that are being written.
 * INVARIANTS  Every record up to `trusted` that lies in the window was complete when the window was
 *             filled. Behind it the window may hold half a write, and is read again.
 * THREADS     A reader belongs to one thread at a time. It shares with writers only the acked
 *             position and the list of files.
 * MEMORY      One window: 256 KiB, or the largest record met.
 */
#include "base/alloc.h"
#include "base/hash.h"
#include "wal/wal_int.h"

struct local_reader {
    struct wal_reader base; /* first */
    uint64_t next;          /* position of the record to be returned next */
    uint64_t first;         /* of the open file; 0: none is open */
    uint64_t file_end;      /* first position of the file behind it; UINT64_MAX: none yet */
    uint64_t off;           /* of record `at` in the open file */
    uint64_t at;
    uint64_t trusted;
    struct wal_file_header header;
    struct wal_window win;
};

static struct wal_local *log_of(struct local_reader *r)
{
    return (struct wal_local *)r->base.w;
}

/* The file that holds position, and the first position behind that file. */
static int find_file(struct wal_local *w, uint64_t position, uint64_t *ret_first, uint64_t *ret_end,
                     struct status *st)
{
    uint64_t oldest;
    size_t i;
    lock_acquire(&w->files_lock);
    oldest = w->firsts[0];
    for (i = w->nfiles; i > 0 && w->firsts[i - 1] > position; i--) {
    }
    if (i > 0) {
        *ret_first = w->firsts[i - 1];
        *ret_end = i < w->nfiles ? w->firsts[i] : UINT64_MAX;
    }
    lock_release(&w->files_lock);
    return i > 0 ? 0
                 : st_fail(st, ST_NOT_FOUND,
                           "log %s: record %llu is gone, the oldest one kept is %llu", w->dir,
                           (unsigned long long)position, (unsigned long long)oldest);
}

static void close_file(struct local_reader *r)
{
    file_close(r->win.f);
    r->win.f = NULL;
    wal__window_forget(&r->win);
    r->first = 0;
}

/* Makes the file that holds r->next the open one. */
static int need_file(struct local_reader *r, struct status *st)
{
    struct wal_local *w = log_of(r);
    uint64_t first, end;
    int rc = 0;
    if (r->first && r->next < r->file_end) {
        /* The newest file got a successor while we read it? Then that one may hold r->next. */
        if (r->file_end != UINT64_MAX) {
            return 0;
        }
        TRY(find_file(w, r->next, &first, &end, st));
        if (first == r->first) {
            r->file_end = end;
            return 0;
        }
    } else {
        TRY(find_file(w, r->next, &first, &end, st));
    }
    close_file(r);
    rc = wal__file_open(w->dir, first, FILE_READ, &r->win.f, &r->header, st);
    if (rc == ST_NOT_FOUND) {
        FAIL(st, ST_NOT_FOUND, "log %s: record %llu has just been truncated away", w->dir,
             (unsigned long long)r->next);
    }
    TRY(rc);
    r->first = first;
    r->file_end = end;
    r->off = WAL_FILE_HEADER;
    r->at = first;
out:
    return rc;
}

static int corrupt(struct local_reader *r, const char *what, struct status *st)
{
    struct wal_local *w = log_of(r);
    char *path = wal__file_path(w->dir, r->first);
    int rc = st_fail(st, ST_CORRUPT, "%s is damaged at offset %llu: record %llu %s", path,
                     (unsigned long long)r->off, (unsigned long long)r->at, what);
    mem_free(path);
    return rc;
}

/* The record r->at, which is acknowledged, at r->off. */
static int read_record(struct local_reader *r, struct wal_record_header *ret_h,
                       const uint8_t **ret_p, struct status *st)
{
    struct wal_record_header h;
    const uint8_t *p;
    uint32_t crc;
    int rc;
    if (r->at > r->trusted) {
        wal__window_forget(&r->win);
        r->trusted = wal_acked_position(r->base.w);
    }
    TRY(wal__window_get(&r->win, r->off, WAL_RECORD_HEADER, &p, st));
    if (!p) {
        TRY(corrupt(r, "is missing", st));
    }
    h = wal__record_header_get(p);
    if (h.position != r->at || h.len > WAL_RECORD_MAX) {
        TRY(corrupt(r, "has a wrong header", st));
    }
    crc = wal__record_crc(r->header.salt, p);
    TRY(wal__window_get(&r->win, r->off, (size_t)WAL_RECORD_HEADER + h.len, &p, st));
    if (!p) {
        TRY(corrupt(r, "is cut short", st));
    }
    if (crc32c(crc, p + WAL_RECORD_HEADER, h.len) != h.crc) {
        TRY(corrupt(r, "has a wrong checksum", st));
    }
    *ret_h = h;
    *ret_p = p + WAL_RECORD_HEADER;
out:
    return rc;
}

int wal__reader_next(struct wal_reader *base, struct wal_record *ret, bool *ret_found,
                     struct status *st)
{
    struct local_reader *r = (struct local_reader *)base;
    struct wal_record_header h;
    const uint8_t *payload;
    int rc = 0;

    if (r->next > wal_acked_position(base->w)) {
        *ret_found = false;
        return 0;
    }
    TRY(need_file(r, st));
    do {
        TRY(read_record(r, &h, &payload, st));
        r->off += wal__record_size(h.len);
        r->at++;
    } while (r->at <= r->next);
    r->next++;
    *ret = (struct wal_record){h.position, h.type, slice_n(payload, h.len)};
    *ret_found = true;
out:
    return rc;
}

int wal__reader_open(struct wal *base, uint64_t position, struct wal_reader **ret_r,
                     struct status *st)
{
    struct wal_local *w = (struct wal_local *)base;
    struct local_reader *r;
    uint64_t first, end;
    int rc;
    TRY(find_file(w, position, &first, &end, st));
    r = xalloc(sizeof *r);
    r->base.w = base;
    r->next = position;
    *ret_r = &r->base;
out:
    return rc;
}

void wal__reader_close(struct wal_reader *base)
{
    struct local_reader *r = (struct local_reader *)base;
    close_file(r);
    wal__window_done(&r->win);
    mem_free(r);
}
