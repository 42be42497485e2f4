/*
 * wal.c - the door of the log: what is the same for every implementation.
 *
 * THREADS  No state, no locks.
 */
#include "wal/wal.h"
#include "wal/wal_int.h"

int wal_append_begin(struct wal *w, const struct wal_entry *entries, size_t n, uint64_t *ret_first,
                     struct status *st)
{
    if (n == 0) {
        return st_fail(st, ST_INVALID, "append of no records");
    }
    for (size_t i = 0; i < n; i++) {
        size_t len = 0;
        for (size_t k = 0; k < entries[i].nparts; k++) {
            if (!add_size(len, entries[i].parts[k].n, &len) || len > WAL_RECORD_MAX) {
                return st_fail(st, ST_TOO_LARGE, "log record %zu of %zu is over %d bytes", i, n,
                               WAL_RECORD_MAX);
            }
        }
    }
    return w->ops->append_begin(w, entries, n, ret_first, st);
}

int wal_append(struct wal *w, const struct wal_entry *entries, size_t n, uint64_t *ret_first,
               struct status *st)
{
    uint64_t first;
    int rc;
    TRY(wal_append_begin(w, entries, n, &first, st));
    TRY(w->ops->wait(w, first + n - 1, DEADLINE_NONE, st));
    *ret_first = first;
out:
    return rc;
}

int wal_wait(struct wal *w, uint64_t position, int64_t deadline_us, struct status *st)
{
    return w->ops->wait(w, position, deadline_us, st);
}

int wal_sync(struct wal *w, struct status *st)
{
    return w->ops->sync(w, st);
}

void wal_get_stats(struct wal *w, struct wal_stats *ret)
{
    w->ops->stats(w, ret);
}

uint64_t wal_first_position(struct wal *w)
{
    struct wal_stats s;
    w->ops->stats(w, &s);
    return s.first;
}

uint64_t wal_last_position(struct wal *w)
{
    struct wal_stats s;
    w->ops->stats(w, &s);
    return s.last;
}

uint64_t wal_durable_position(struct wal *w)
{
    struct wal_stats s;
    w->ops->stats(w, &s);
    return s.durable;
}

uint64_t wal_acked_position(struct wal *w)
{
    return w->ops->acked(w);
}

int wal_truncate_before(struct wal *w, uint64_t position, struct status *st)
{
    return w->ops->truncate_before(w, position, st);
}

int wal_reader_open(struct wal *w, uint64_t position, struct wal_reader **ret_r, struct status *st)
{
    if (position == 0) {
        return st_fail(st, ST_INVALID, "log positions begin at 1");
    }
    return w->ops->reader_open(w, position, ret_r, st);
}

int wal_reader_next(struct wal_reader *r, struct wal_record *ret, bool *ret_found,
                    struct status *st)
{
    return r->w->ops->reader_next(r, ret, ret_found, st);
}

void wal_reader_close(struct wal_reader *r)
{
    if (r) {
        r->w->ops->reader_close(r);
    }
}

int wal_close(struct wal *w, struct status *st)
{
    return w ? w->ops->close(w, st) : 0;
}
