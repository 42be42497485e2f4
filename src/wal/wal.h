/*
 * wal.h - the log of one physical channel: append, read, truncate, fence.
 *
 * This header is the contract; tests/unit/wal/test_wal_conform.c runs it on every implementation.
 * Records are opaque bytes with a 16-bit type the caller chooses. Each has a position: 1, 2, 3 ...
 * without gaps, in order of append. A batch (one call) is all or nothing after a crash. What was
 * acknowledged survives kill -9 in every mode, and power loss with WAL_SYNC_ALWAYS.
 *
 * A log has one writer, named by its term. A newer term fences the older ones: their appends fail
 * with ST_FENCED and are never acknowledged.
 */
#pragma once
#include "base/compiler.h"
#include "base/file.h"
#include "base/slice.h"
#include "base/status.h"

enum wal_sync {
    WAL_SYNC_ALWAYS,   /* acknowledged when on disk */
    WAL_SYNC_INTERVAL, /* acknowledged when the kernel has it; synced in the background */
    WAL_SYNC_NEVER,    /* synced when a file is full and at close */
};

enum { WAL_RECORD_MAX = 256 << 20 }; /* payload bytes of one record */

struct wal;
struct wal_opts {
    const char *dir;
    uint64_t term; /* at least 1 */
    enum wal_sync sync;
    int64_t sync_interval_ms; /* WAL_SYNC_INTERVAL; 0: 200 */
    uint64_t file_size;       /* a new file begins behind this many bytes; 0: 64 MiB */
    uint64_t prealloc;        /* zeros written ahead of the end at a time, up to 1 MiB; 0: none */
    /* May be NULL. Called on a thread of the log, never with a lock held, one call at a time:
     * every record up to position is acknowledged in the sense of the sync mode (always rising).
     * err is not NULL when the log has failed: what lies behind position is not acknowledged, its
     * fate is unknown, and no call follows. The callback may call anything but wal_close(). */
    void (*on_durable)(void *arg, uint64_t position, const struct status *err);
    void *on_durable_arg;
};

/* Opens or creates the log. An unfinished tail (power loss, kill) is cut, see wal_get_stats().
 * Fails: ST_CORRUPT names file and offset when a record that was durable is damaged: nothing is
 * changed; ST_FENCED when a newer term is known; ST_IO, ST_NO_SPACE. Free with wal_close(). */
int wal_local_open(const struct wal_opts *opts, struct wal **ret_w, struct status *st);
/* For tools: reads the log of a stopped server, changes nothing; appends fail with ST_DENIED.
 * ST_NOT_FOUND when dir holds no log. */
int wal_local_open_readonly(const char *dir, struct wal **ret_w, struct status *st);
/* Syncs what is written, then frees. All readers must be closed. The status tells whether the last
 * sync succeeded; the log is freed in any case. NULL is fine. */
int wal_close(struct wal *w, struct status *st);

/* Makes term the lowest that may append to the log in dir, durably, whoever has it open. Opening
 * does this too. ST_FENCED when a newer term is known already. */
int wal_local_fence(const char *dir, uint64_t term, struct status *st);

/* ---- Appending ---- */

struct wal_entry {
    const struct file_part *parts; /* the payload in pieces; they are not copied together */
    size_t nparts;
    uint16_t type;
};

/* Appends n records and returns when they are acknowledged in the sense of the sync mode. The first
 * gets *ret_first, the others follow. Concurrent callers share one sync.
 * Fails: ST_NO_SPACE: nothing was appended, the log stays usable and takes appends again when there
 * is space; ST_FENCED; ST_TOO_LARGE; ST_IO: after a failed sync the log refuses appends until it is
 * opened again, for nobody knows what the disk holds. */
int wal_append(struct wal *w, const struct wal_entry *entries, size_t n, uint64_t *ret_first,
               struct status *st);
/* The same in two halves, for one thread that prepares the next batch while the disk syncs the
 * last: this hands the records to the kernel (entries may be reused at once) and starts a sync when
 * opts.on_durable is set. Acknowledge nothing before on_durable or wal_wait() says so. */
int wal_append_begin(struct wal *w, const struct wal_entry *entries, size_t n, uint64_t *ret_first,
                     struct status *st);
/* Returns when every record up to position is acknowledged; position may be one that nobody has
 * appended yet. Fails: ST_TIMEOUT at the monotonic deadline; the log's error when it failed. */
int wal_wait(struct wal *w, uint64_t position, int64_t deadline_us, struct status *st);
/* Syncs everything written so far, in any mode. */
int wal_sync(struct wal *w, struct status *st);

uint64_t wal_first_position(struct wal *w);   /* the oldest record kept; last + 1 when none */
uint64_t wal_last_position(struct wal *w);    /* the newest record written; 0 in a new log */
uint64_t wal_acked_position(struct wal *w);   /* what readers may see */
uint64_t wal_durable_position(struct wal *w); /* what survives power loss */

/* ---- Reading, also while others append ---- */

struct wal_record {
    uint64_t position;
    uint16_t type;
    struct slice payload; /* valid until the next call on the reader */
};
struct wal_reader;
/* The first record read is the one at position; last + 1 waits for the next one.
 * ST_NOT_FOUND when the record has been truncated away: names the oldest one kept. */
int wal_reader_open(struct wal *w, uint64_t position, struct wal_reader **ret_r, struct status *st);
/* *ret_found is false when no acknowledged record is left for now; call again later, or wait with
 * wal_wait(w, position). ST_CORRUPT names file and offset, and nothing behind it is returned. */
int wal_reader_next(struct wal_reader *r, struct wal_record *ret, bool *ret_found,
                    struct status *st);
void wal_reader_close(struct wal_reader *r); /* NULL is fine */

/* ---- Truncating ---- */

/* Removes files that hold only records before position; so some of those may stay. The newest file
 * always stays. */
int wal_truncate_before(struct wal *w, uint64_t position, struct status *st);

struct wal_stats {
    uint64_t first, last, durable;
    uint64_t nfiles, bytes;              /* bytes used by records and headers */
    uint64_t cut_bytes;                  /* unfinished tail removed when the log was opened */
    uint64_t nsyncs, nbatches, nrecords; /* since it was opened */
};
void wal_get_stats(struct wal *w, struct wal_stats *ret);
