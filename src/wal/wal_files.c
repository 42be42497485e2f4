/*
 * wal_files.c - the folder of a log: names, creation, the term, removal, and reading in a window.
 *
 * FAILURE  A new file is written under "<name>.tmp", synced, renamed, and the folder synced, so a
 *          file with its proper name has a durable header; leftovers are removed at the next open.
 *          Old files are unlinked oldest first: whatever a crash leaves is a log without gaps.
 *          Fault points: wal_roll_after_create, wal_truncate_before_unlink,
 *          wal_truncate_after_unlink.
 * THREADS  files_lock guards the list of files; no lock is held over I/O.
 */
#include "base/alloc.h"
#include "base/fault.h"
#include "base/utf8.h"
#include "wal/wal_int.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { NAME_DIGITS = 20, TERM_TEXT_MAX = 64, WINDOW_MIN = 256 << 10 };

void wal__file_name(uint64_t first, char out[WAL_NAME_MAX])
{
    (void)snprintf(out, WAL_NAME_MAX, "%0*llu.log", NAME_DIGITS, (unsigned long long)first);
}

bool wal__file_name_parse(const char *name, uint64_t *ret_first)
{
    int64_t v;
    if (strlen(name) != NAME_DIGITS + 4 || strcmp(name + NAME_DIGITS, ".log") != 0) {
        return false;
    }
    for (int i = 0; i < NAME_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return false;
        }
    }
    if (!parse_i64(slice_n(name, NAME_DIGITS), &v) || v < 1) {
        return false;
    }
    *ret_first = (uint64_t)v;
    return true;
}

char *wal__file_path(const char *dir, uint64_t first)
{
    char name[WAL_NAME_MAX];
    wal__file_name(first, name);
    return path_join(dir, name);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

int wal__files_find(const char *dir, bool clean, uint64_t **ret_firsts, size_t *ret_n,
                    struct status *st)
{
    char **names = NULL;
    size_t nnames = 0, n = 0;
    uint64_t *firsts = NULL;
    int rc;

    TRY(dir_list(dir, &names, &nnames, st));
    firsts = xalloc(MAX(nnames, (size_t)1) * sizeof *firsts);
    for (size_t i = 0; i < nnames; i++) {
        if (wal__file_name_parse(names[i], &firsts[n])) {
            n++; /* names of equal length: their order is that of the positions */
        } else if (clean && ends_with(names[i], ".log.tmp")) {
            char *path = path_join(dir, names[i]);
            rc = path_unlink(path, st);
            mem_free(path);
            TRY(rc);
        }
    }
    *ret_firsts = TAKE(firsts);
    *ret_n = n;
out:
    dir_list_free(names, nnames);
    mem_free(firsts);
    return rc;
}

int wal__file_create(const char *dir, const struct wal_file_header *h, struct file **ret_f,
                     bool *ret_stuck, struct status *st)
{
    uint8_t bytes[WAL_FILE_HEADER];
    struct file_part part = {bytes, sizeof bytes};
    struct status ignored = STATUS_INIT;
    char *path = wal__file_path(dir, h->first);
    char name[WAL_NAME_MAX];
    char tmp_name[WAL_NAME_MAX + 4];
    char *tmp = NULL;
    struct file *f = NULL;
    bool named = false;
    int rc;

    wal__file_name(h->first, name);
    (void)snprintf(tmp_name, sizeof tmp_name, "%s.tmp", name);
    tmp = path_join(dir, tmp_name);
    wal__file_header_put(bytes, h);
    TRY(file_open(tmp, FILE_READ | FILE_WRITE | FILE_AT | FILE_CREATE | FILE_TRUNC, &f, st));
    TRY(file_pwritev(f, 0, &part, 1, st));
    TRY(file_sync(f, st));
    TRY(path_rename(tmp, path, st));
    named = true;
    TRY(FAULT_POINT("wal_roll_after_create", st));
    TRY(dir_sync(dir, st));
    *ret_f = TAKE(f);
out:
    file_close(f);
    if (rc != 0 && named) {
        *ret_stuck = path_unlink(path, &ignored) != 0 || dir_sync(dir, &ignored) != 0;
    } else if (rc != 0) {
        (void)path_unlink(tmp, &ignored); /* else removed at the next open */
    }
    mem_free(tmp);
    mem_free(path);
    return rc;
}

int wal__file_open(const char *dir, uint64_t first, int flags, struct file **ret_f,
                   struct wal_file_header *ret_h, struct status *st)
{
    uint8_t bytes[WAL_FILE_HEADER];
    struct wal_file_header h;
    char *path = wal__file_path(dir, first);
    struct file *f = NULL;
    size_t n;
    int rc;
    TRY(file_open(path, flags, &f, st));
    TRY(file_pread(f, 0, bytes, sizeof bytes, &n, st));
    TRY(wal__file_header_get(bytes, n, path, &h, st));
    if (h.first != first) {
        FAIL(st, ST_CORRUPT, "%s says that it begins at %llu", path, (unsigned long long)h.first);
    }
    *ret_f = TAKE(f);
    *ret_h = h;
out:
    file_close(f);
    mem_free(path);
    return rc;
}

/* ---- the term ---- */

int wal__term_read(const char *dir, uint64_t *ret, struct status *st)
{
    char *path = path_join(dir, "term");
    uint8_t *text = NULL;
    size_t n = 0;
    int64_t term;
    int rc = file_read_all(path, TERM_TEXT_MAX, &text, &n, st);
    if (rc == ST_NOT_FOUND) {
        st_clear(st);
        *ret = 0;
        rc = 0;
        goto out;
    }
    TRY(rc);
    if (n < 7 || memcmp(text, "term ", 5) != 0 || text[n - 1] != '\n' ||
        !parse_i64(slice_n(text + 5, n - 6), &term) || term < 1) {
        FAIL(st, ST_CORRUPT, "%s does not hold a term", path);
    }
    *ret = (uint64_t)term;
out:
    mem_free(text);
    mem_free(path);
    return rc;
}

int wal__term_raise(const char *dir, uint64_t term, struct status *st)
{
    char text[TERM_TEXT_MAX];
    char *path = path_join(dir, "term");
    uint64_t known;
    int rc;
    if (term < 1 || term > INT64_MAX) {
        FAIL(st, ST_INVALID, "log term %llu", (unsigned long long)term);
    }
    TRY(wal__term_read(dir, &known, st));
    if (known > term) {
        FAIL(st, ST_FENCED, "log %s belongs to term %llu, this is term %llu", dir,
             (unsigned long long)known, (unsigned long long)term);
    }
    if (known < term) {
        int n = snprintf(text, sizeof text, "term %llu\n", (unsigned long long)term);
        TRY(file_write_atomic(path, text, (size_t)n, st));
    }
out:
    mem_free(path);
    return rc;
}

int wal_local_fence(const char *dir, uint64_t term, struct status *st)
{
    int rc;
    TRY(dir_make(dir, st));
    TRY(wal__term_raise(dir, term, st));
out:
    return rc;
}

/* ---- the list of files ---- */

/* Holds: w->files_lock */
static void insert_sorted(struct wal_local *w, uint64_t first)
{
    size_t i = w->nfiles;
    if (w->nfiles == w->files_cap) {
        w->files_cap = w->files_cap ? w->files_cap * 2 : 16;
        w->firsts = xrealloc(w->firsts, w->files_cap * sizeof *w->firsts);
    }
    while (i > 0 && w->firsts[i - 1] > first) {
        w->firsts[i] = w->firsts[i - 1];
        i--;
    }
    w->firsts[i] = first;
    w->nfiles++;
}

void wal__files_add(struct wal_local *w, uint64_t first)
{
    lock_acquire(&w->files_lock);
    insert_sorted(w, first);
    lock_release(&w->files_lock);
}

/* Takes the oldest file off the list when all its records lie before position. */
static bool pop_oldest(struct wal_local *w, uint64_t position, uint64_t *ret_first)
{
    bool found = false;
    lock_acquire(&w->files_lock);
    if (w->nfiles > 1 && w->firsts[1] <= position) {
        *ret_first = w->firsts[0];
        w->nfiles--;
        memmove(w->firsts, w->firsts + 1, w->nfiles * sizeof *w->firsts);
        found = true;
    }
    lock_release(&w->files_lock);
    return found;
}

int wal__truncate_before(struct wal *base, uint64_t position, struct status *st)
{
    struct wal_local *w = (struct wal_local *)base;
    struct status after = STATUS_INIT;
    uint64_t first, size;
    bool exists, is_dir, any = false;
    int rc = 0;

    if (w->readonly) {
        return st_fail(st, ST_DENIED, "log %s is open read-only", w->dir);
    }
    while (rc == 0 && pop_oldest(w, position, &first)) {
        char *path = wal__file_path(w->dir, first);
        rc = FAULT_POINT("wal_truncate_before_unlink", st);
        if (rc == 0) {
            rc = path_stat(path, &exists, &is_dir, &size, st);
        }
        if (rc == 0) {
            rc = path_unlink(path, st);
        }
        lock_acquire(&w->files_lock);
        if (rc == 0) {
            w->closed_bytes -= MIN(w->closed_bytes, exists ? size : 0);
            any = true;
        } else {
            insert_sorted(w, first);
        }
        lock_release(&w->files_lock);
        mem_free(path);
        if (rc == 0) {
            rc = FAULT_POINT("wal_truncate_after_unlink", st);
        }
    }
    if (any && dir_sync(w->dir, rc == 0 ? st : &after) != 0 && rc == 0) {
        rc = st->code;
    }
    return rc;
}

/* ---- window ---- */

void wal__window_done(struct wal_window *v)
{
    mem_free(v->p);
    v->p = NULL;
    v->cap = v->n = 0;
}

void wal__window_forget(struct wal_window *v)
{
    v->n = 0;
}

int wal__window_get(struct wal_window *v, uint64_t off, size_t n, const uint8_t **ret_p,
                    struct status *st)
{
    size_t got;
    int rc;
    if (off >= v->off && off - v->off <= v->n && n <= v->n - (size_t)(off - v->off)) {
        *ret_p = v->p + (off - v->off);
        return 0;
    }
    if (n > v->cap) {
        size_t cap = MAX(n, (size_t)WINDOW_MIN);
        uint8_t *p = alloc_try(cap);
        if (!p) {
            return st_fail(st, ST_NO_MEMORY, "no memory for a log record of %zu bytes", n);
        }
        mem_free(v->p);
        v->p = p;
        v->cap = cap;
    }
    v->n = 0;
    TRY(file_pread(v->f, off, v->p, v->cap, &got, st));
    v->off = off;
    v->n = got;
    *ret_p = got >= n ? v->p : NULL;
out:
    return rc;
}
