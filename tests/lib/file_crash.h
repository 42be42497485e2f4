/*
 * file_crash.h - a file backend in memory that loses power.
 *
 * Keeps what was synced apart from what was not. When the power goes, a file that was appended to
 * since its last sync may be without those bytes, with some of them, or with garbage in their
 * place; a file that was truncated may be long again; a name that was created, renamed or removed
 * since its directory was last synced may be as before. From then on every operation fails with
 * ST_IO until crash_fs_restart(); after that, the surviving files are there to be opened.
 * Files opened before the power went stay dead: close them.
 *
 * Use:  for (long n = 1;; n++) {
 *           struct crash_fs *fs = crash_fs_new(seed);
 *           crash_fs_arm(fs, CRASH_MIX, n);
 *           run the writer; remember what it was told is durable
 *           bool off = crash_fs_is_off(fs);
 *           crash_fs_restart(fs);
 *           open again; all that was acknowledged must be there
 *           crash_fs_free(fs);
 *           if (!off) break;              the writer made fewer than n syncs
 *       }
 *
 * Paths: absolute or not, all are below one root; "." is the root and exists. No links. Any thread.
 */
#pragma once
#include "base/file_backend.h"

/* What happens to bytes that were not synced. */
enum crash_mode {
    CRASH_DROP,   /* all is lost, names too */
    CRASH_TEAR,   /* some first part of it is there */
    CRASH_GARBLE, /* the length is there, the bytes are partly zeros or random */
    CRASH_KEEP,   /* nothing is lost: what kill -9 leaves */
    CRASH_MIX,    /* each file on its own, by chance */
};

struct crash_fs;

/* Empty, and installed as the process's backend. The seed decides all chances. */
struct crash_fs *crash_fs_new(uint64_t seed);
/* Installs the system's backend again. All files and mappings must be closed. */
void crash_fs_free(struct crash_fs *fs);

/* At the nth sync from now (of a file or a directory; 1 = the next), the power goes before the sync
 * has done anything. 0: never. */
void crash_fs_arm(struct crash_fs *fs, enum crash_mode mode, long nth_sync);
/* The same at the nth operation that changes anything (append, truncate, create, rename, unlink,
 * make and remove directory, sync); an append that is hit is itself an unsynced write. */
void crash_fs_arm_change(struct crash_fs *fs, enum crash_mode mode, long nth_change);
/* The power goes now. */
void crash_fs_power_off(struct crash_fs *fs, enum crash_mode mode);
bool crash_fs_is_off(struct crash_fs *fs);
void crash_fs_restart(struct crash_fs *fs);

/* Syncs and changes since crash_fs_new(), for tests that want to know how far to count. */
long crash_fs_syncs(struct crash_fs *fs);
long crash_fs_changes(struct crash_fs *fs);

/* The nth sync from now fails with ST_IO and makes nothing durable; the power stays on. 0: none. */
void crash_fs_fail_sync(struct crash_fs *fs, long nth);
/* Appends past this many further bytes fail with ST_NO_SPACE, after the part that fits was
 * written. UINT64_MAX: no limit. */
void crash_fs_set_space(struct crash_fs *fs, uint64_t bytes);
