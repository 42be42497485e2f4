/*
 * wal_int.h - what the files of this room share: the method table of a log, and the local log.
 */
#pragma once
#include "base/clock.h"
#include "base/lock.h"
#include "base/pool.h"
#include "wal/wal.h"

/* ---- any log ---- */

struct wal_ops {
    int (*append_begin)(struct wal *w, const struct wal_entry *entries, size_t n,
                        uint64_t *ret_first, struct status *st);
    int (*wait)(struct wal *w, uint64_t position, int64_t deadline_us, struct status *st);
    int (*sync)(struct wal *w, struct status *st);
    int (*truncate_before)(struct wal *w, uint64_t position, struct status *st);
    void (*stats)(struct wal *w, struct wal_stats *ret);
    uint64_t (*acked)(struct wal *w);
    int (*reader_open)(struct wal *w, uint64_t position, struct wal_reader **ret_r,
                       struct status *st);
    int (*reader_next)(struct wal_reader *r, struct wal_record *ret, bool *ret_found,
                       struct status *st);
    void (*reader_close)(struct wal_reader *r);
    int (*close)(struct wal *w, struct status *st);
};

struct wal {
    const struct wal_ops *ops;
};

struct wal_reader {
    struct wal *w;
};

/* ---- bytes of a log file; the essay is in wal_format.c ---- */

#define WAL_MAGIC "ELANWAL"
enum {
    WAL_FORMAT_VERSION = 1,
    WAL_FILE_HEADER = 64,
    WAL_RECORD_HEADER = 24,
    WAL_ALIGN = 8,
    WAL_FLAG_LAST = 1, /* the last record of its batch */
    WAL_NAME_MAX = 32, /* "<20 digits>.log" and a zero */
};

struct wal_file_header {
    uint64_t first, term, salt;
};

struct wal_record_header {
    uint32_t len, crc;
    uint64_t position;
    uint16_t type, flags;
    uint32_t unsynced; /* position minus the durable position when it was written, saturated */
};

static inline uint64_t wal__record_size(uint32_t len)
{
    return ROUND_UP((uint64_t)WAL_RECORD_HEADER + len, WAL_ALIGN);
}

void wal__file_header_put(uint8_t out[WAL_FILE_HEADER], const struct wal_file_header *h);
/* ST_CORRUPT, ST_UNSUPPORTED; path is for the message. */
int wal__file_header_get(const uint8_t *p, size_t n, const char *path, struct wal_file_header *ret,
                         struct status *st);
void wal__record_header_put(uint8_t out[WAL_RECORD_HEADER], const struct wal_record_header *h);
struct wal_record_header wal__record_header_get(const uint8_t *p);
/* Over the header at p (its crc field left out), not yet over the payload. */
uint32_t wal__record_crc(uint64_t salt, const uint8_t *header);

/* ---- names and files, wal_files.c ---- */

void wal__file_name(uint64_t first, char out[WAL_NAME_MAX]);
bool wal__file_name_parse(const char *name, uint64_t *ret_first);
char *wal__file_path(const char *dir, uint64_t first); /* free with mem_free() */
/* First positions of the log files in dir, ascending; removes *.tmp when clean. mem_free(). */
int wal__files_find(const char *dir, bool clean, uint64_t **ret_firsts, size_t *ret_n,
                    struct status *st);
/* A new file with its header, durable under its name; open for appending at *ret_f. On failure
 * nothing is left, or *ret_stuck is set: a file that must not be is there. */
int wal__file_create(const char *dir, const struct wal_file_header *h, struct file **ret_f,
                     bool *ret_stuck, struct status *st);
int wal__file_open(const char *dir, uint64_t first, int flags, struct file **ret_f,
                   struct wal_file_header *ret_h, struct status *st);
/* 0 when no term was ever written. */
int wal__term_read(const char *dir, uint64_t *ret, struct status *st);
int wal__term_raise(const char *dir, uint64_t term, struct status *st);

/* A sliding view of a file through pread, for what is read from front to back. */
struct wal_window {
    struct file *f;
    uint8_t *p;
    size_t cap, n;
    uint64_t off; /* of p[0] */
};
void wal__window_done(struct wal_window *v); /* leaves f alone */
/* *ret_p points to n bytes at off, valid until the next call; NULL when the file ends before. */
int wal__window_get(struct wal_window *v, uint64_t off, size_t n, const uint8_t **ret_p,
                    struct status *st);
void wal__window_forget(struct wal_window *v);

/* ---- recovery, wal_recover.c ---- */

struct wal_scan {
    struct wal_file_header header;
    uint64_t last;      /* last position of a whole batch; header.first - 1 when none */
    uint64_t end;       /* where the next record goes */
    uint64_t size;      /* of the file */
    uint64_t cut_bytes; /* bytes behind end that are not zero fill */
};
int wal__scan(const char *dir, uint64_t first, struct wal_scan *ret, struct status *st);

/* ---- the local log ---- */

struct wal_local {
    struct wal base; /* first */

    /* Fixed after open. */
    struct wal_opts opts;
    char *dir;
    bool readonly;
    struct thread *thread; /* syncs and calls back; NULL when neither is wanted */

    struct lock q; /* RANK_WAL_QUEUE; guards everything down to the next group */
    struct cond changed;
    bool writing; /* somebody writes or rolls: owns `active`, `end`, `active_h` and `frame` */
    bool syncing; /* somebody syncs `active`, which must not be replaced meanwhile */
    bool stopping;
    bool failed; /* for good; why is in failure */
    struct status failure;
    uint64_t last, acked, durable;
    uint64_t notified;    /* told to opts.on_durable; thread only */
    int64_t next_sync_us; /* WAL_SYNC_INTERVAL */
    uint64_t nsyncs, nbatches, nrecords, cut_bytes;
    uint64_t end; /* bytes used in the active file */

    /* Owned by whoever set `writing`. */
    struct file *active;
    struct wal_file_header active_h;
    uint64_t reserved; /* size of the active file: zeros from `end` up to here */
    uint8_t *frame;    /* headers and parts of the batch being written */
    size_t frame_cap;

    struct lock files_lock; /* RANK_WAL_FILES */
    uint64_t *firsts;       /* first positions of all files, ascending; never empty */
    size_t nfiles, files_cap;
    uint64_t closed_bytes; /* of all files but the active one */
};

int wal__append_begin(struct wal *base, const struct wal_entry *entries, size_t n,
                      uint64_t *ret_first, struct status *st);
int wal__wait(struct wal *base, uint64_t position, int64_t deadline_us, struct status *st);
int wal__sync(struct wal *base, struct status *st);
void wal__thread(void *arg);
/* Waits for the batch being synced, then syncs what is written. Holds: w->q */
int wal__sync_locked(struct wal_local *w, struct status *st);
/* A new active file that begins at first; the old one is synced. Owns: writing */
int wal__roll(struct wal_local *w, uint64_t first, struct status *st);

int wal__truncate_before(struct wal *base, uint64_t position, struct status *st);
void wal__files_add(struct wal_local *w, uint64_t first); /* takes files_lock */

int wal__reader_open(struct wal *base, uint64_t position, struct wal_reader **ret_r,
                     struct status *st);
int wal__reader_next(struct wal_reader *base, struct wal_record *ret, bool *ret_found,
                     struct status *st);
void wal__reader_close(struct wal_reader *base);
