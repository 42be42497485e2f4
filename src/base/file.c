/*
 * file.c - file.h over the installed backend, and what is made of its pieces.
 *
 * FAILURE  file_write_atomic(): a crash before the rename leaves at most path.tmp, which the next
 *          write of the same path truncates. dir_make() syncs the parent of each directory it
 *          creates: who then creates and syncs a file inside needs to sync only that directory.
 * THREADS  Any; the backend pointer is written by tests before they start threads.
 */
#include "base/file.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/file_backend.h"
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct file {
    const struct file_backend *be;
    void *h;
};

struct owned_mapping {
    struct mapping map; /* first: what the caller sees */
    const struct file_backend *be;
};

static const struct file_backend *_Atomic backend = &file_posix_backend;

void file_set_backend(const struct file_backend *be)
{
    atomic_store(&backend, be ? be : &file_posix_backend);
}

static const struct file_backend *current(void)
{
    return atomic_load_explicit(&backend, memory_order_acquire);
}

int file_open(const char *path, int flags, struct file **ret_f, struct status *st)
{
    const struct file_backend *be = current();
    void *h;
    int rc = be->open(be->self, path, flags, &h, st);
    if (rc == 0) {
        struct file *f = xalloc(sizeof *f);
        f->be = be;
        f->h = h;
        *ret_f = f;
    }
    return rc;
}

void file_close(struct file *f)
{
    if (f) {
        f->be->close(f->h);
        mem_free(f);
    }
}

int file_append(struct file *f, const void *p, size_t n, struct status *st)
{
    struct file_part part = {p, n};
    return f->be->appendv(f->h, &part, 1, st);
}

int file_appendv(struct file *f, const struct file_part *parts, size_t nparts, struct status *st)
{
    return f->be->appendv(f->h, parts, nparts, st);
}

int file_pwritev(struct file *f, uint64_t off, const struct file_part *parts, size_t nparts,
                 struct status *st)
{
    return f->be->pwritev(f->h, off, parts, nparts, st);
}

int file_pread(struct file *f, uint64_t off, void *p, size_t n, size_t *ret_n, struct status *st)
{
    return f->be->pread(f->h, off, p, n, ret_n, st);
}

int file_size(struct file *f, uint64_t *ret, struct status *st)
{
    return f->be->size(f->h, ret, st);
}

int file_truncate(struct file *f, uint64_t size, struct status *st)
{
    return f->be->truncate(f->h, size, st);
}

int file_sync(struct file *f, struct status *st)
{
    return f->be->sync(f->h, st);
}

int file_preallocate(struct file *f, uint64_t size, struct status *st)
{
    return f->be->preallocate(f->h, size, st);
}

/* The directory part of path ("." when there is none, "/" for children of the root). */
static char *path_parent(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    while (n > 0 && path[n - 1] != '/') {
        n--;
    }
    if (n == 0) {
        return xstrdup(".");
    }
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    return xstrndup(path, n);
}

/* Makes path, whose parent exists. */
static int make_one(const struct file_backend *be, const char *path, struct status *st)
{
    char *parent = NULL;
    bool is_dir;
    uint64_t size;
    int rc = be->stat(be->self, path, true, &is_dir, &size, st);
    if (rc == 0) {
        return is_dir ? 0 : st_fail(st, ST_EXISTS, "%s exists and is not a directory", path);
    }
    if (rc != ST_NOT_FOUND) {
        return rc;
    }
    rc = be->dir_make(be->self, path, st);
    if (rc == ST_EXISTS) {
        rc = 0; /* another thread was faster; the sync below holds for its entry as well */
    }
    TRY(rc);
    parent = path_parent(path);
    TRY(be->dir_sync(be->self, parent, st));
out:
    mem_free(parent);
    return rc;
}

int dir_make(const char *path, struct status *st)
{
    const struct file_backend *be = current();
    char *partial = xstrdup(path);
    int rc = 0;
    for (size_t i = 1; rc == 0 && partial[0] && partial[i]; i++) {
        if (partial[i] == '/' && partial[i - 1] != '/') {
            partial[i] = '\0';
            rc = make_one(be, partial, st);
            partial[i] = '/';
        }
    }
    if (rc == 0) {
        rc = make_one(be, path, st);
    }
    mem_free(partial);
    return rc;
}

int dir_sync(const char *path, struct status *st)
{
    const struct file_backend *be = current();
    return be->dir_sync(be->self, path, st);
}

static int cmp_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int dir_list(const char *path, char ***ret_names, size_t *ret_n, struct status *st)
{
    const struct file_backend *be = current();
    int rc = be->dir_list(be->self, path, ret_names, ret_n, st);
    if (rc == 0 && *ret_n > 1) {
        qsort(*ret_names, *ret_n, sizeof **ret_names, cmp_names);
    }
    return rc;
}

void dir_list_free(char **names, size_t n)
{
    for (size_t i = 0; names && i < n; i++) {
        mem_free(names[i]);
    }
    mem_free(names);
}

int path_rename(const char *from, const char *to, struct status *st)
{
    const struct file_backend *be = current();
    return be->rename(be->self, from, to, st);
}

int path_unlink(const char *path, struct status *st)
{
    const struct file_backend *be = current();
    int rc = be->unlink(be->self, path, st);
    if (rc == ST_NOT_FOUND) {
        st_clear(st);
        rc = 0;
    }
    return rc;
}

/* Directories below the first come from a listing and nest no deeper than paths can be long. */
int path_remove_tree(const char *path, struct status *st)
{
    const struct file_backend *be = current();
    char **names = NULL;
    size_t n = 0;
    bool is_dir;
    uint64_t size;
    int rc = be->stat(be->self, path, false, &is_dir, &size, st);
    if (rc == ST_NOT_FOUND) {
        st_clear(st);
        return 0;
    }
    TRY(rc);
    if (!is_dir) {
        return path_unlink(path, st);
    }
    TRY(be->dir_list(be->self, path, &names, &n, st));
    for (size_t i = 0; i < n; i++) {
        char *child = path_join(path, names[i]);
        rc = path_remove_tree(child, st);
        mem_free(child);
        TRY(rc);
    }
    TRY(be->dir_remove(be->self, path, st));
out:
    dir_list_free(names, n);
    return rc;
}

int path_stat(const char *path, bool *ret_exists, bool *ret_is_dir, uint64_t *ret_size,
              struct status *st)
{
    const struct file_backend *be = current();
    int rc = be->stat(be->self, path, true, ret_is_dir, ret_size, st);
    if (rc == ST_NOT_FOUND) {
        st_clear(st);
        *ret_exists = *ret_is_dir = false;
        *ret_size = 0;
        return 0;
    }
    if (rc == 0) {
        *ret_exists = true;
    }
    return rc;
}

char *path_join(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b);
    bool slash = na > 0 && a[na - 1] != '/';
    char *p = xalloc(na + nb + 2);
    memcpy(p, a, na);
    if (slash) {
        p[na++] = '/';
    }
    memcpy(p + na, b, nb);
    return p;
}

int file_read_all(const char *path, size_t max, uint8_t **ret_p, size_t *ret_n, struct status *st)
{
    struct file *f = NULL;
    struct buf b;
    uint64_t size;
    int rc;
    /* One byte more than allowed, to see that a file which grows meanwhile is too large. */
    buf_init(&b, max < SIZE_MAX ? max + 1 : max);
    TRY(file_open(path, FILE_READ, &f, st));
    TRY(file_size(f, &size, st));
    if (size > max) {
        FAIL(st, ST_TOO_LARGE, "%s has %llu bytes, the limit is %zu", path,
             (unsigned long long)size, max);
    }
    /* The size is a hint only: files under /proc have none. */
    size_t want = (size_t)size < max ? (size_t)size + 1 : (size_t)size;
    for (;;) {
        size_t got;
        want = MAX(want, (size_t)1);
        if (!buf_reserve(&b, want)) {
            FAIL(st, ST_NO_MEMORY, "read %s: no memory for %zu bytes", path, b.n + want);
        }
        TRY(file_pread(f, b.n, b.p + b.n, want, &got, st));
        b.n += got;
        if (b.n > max) {
            FAIL(st, ST_TOO_LARGE, "%s has over %zu bytes, the limit", path, max);
        }
        if (got < want) {
            break;
        }
        want = MIN((size_t)65536, b.max - b.n);
    }
    *ret_p = buf_take(&b, ret_n);
out:
    file_close(f);
    buf_done(&b);
    return rc;
}

int file_write_atomic(const char *path, const void *p, size_t n, struct status *st)
{
    struct file *f = NULL;
    struct status ignored = STATUS_INIT;
    bool created = false;
    int rc;
    size_t len = strlen(path);
    char *parent = path_parent(path);
    char *tmp = xalloc(len + sizeof ".tmp");
    memcpy(tmp, path, len);
    memcpy(tmp + len, ".tmp", sizeof ".tmp");

    TRY(file_open(tmp, FILE_WRITE | FILE_CREATE | FILE_TRUNC, &f, st));
    created = true;
    TRY(file_append(f, p, n, st));
    TRY(file_sync(f, st));
    file_close(TAKE(f));
    TRY(path_rename(tmp, path, st));
    created = false;
    TRY(dir_sync(parent, st));
out:
    file_close(f);
    if (created) {
        (void)path_unlink(tmp, &ignored);
    }
    mem_free(tmp);
    mem_free(parent);
    return rc;
}

int file_map(const char *path, struct mapping **ret_map, struct status *st)
{
    struct owned_mapping *own = xalloc(sizeof *own);
    own->be = current();
    int rc = own->be->map(own->be->self, path, &own->map, st);
    if (rc == 0) {
        *ret_map = &own->map;
    } else {
        mem_free(own);
    }
    return rc;
}

void mapping_free(struct mapping *map)
{
    if (map) {
        struct owned_mapping *own = CONTAINER_OF(map, struct owned_mapping, map);
        own->be->unmap(map);
        mem_free(own);
    }
}

void map_willneed(const void *p, size_t n)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)p & ~(page - 1);

    if (n > 0) {
        (void)madvise((void *)from, (uintptr_t)p + n - from, MADV_WILLNEED);
    }
}

int file_descriptor(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat s;

    if (fd >= 0 && (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}
