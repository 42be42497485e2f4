/*
 * file_posix.c - the operating system's file backend.
 *
 * Appends go through O_APPEND (not on FILE_AT: with it, pwritev would append too), so that the
 * kernel, not this process, knows where the end is. A failed append may leave part of its bytes at
 * the end of the file; the caller that frames records truncates or closes the file. After a failed
 * sync the kernel may already have dropped the pages, so a second sync that succeeds proves
 * nothing: callers treat a failed sync as final.
 *
 * Preallocation keeps the file's size (FALLOC_FL_KEEP_SIZE), for "at the end" to mean the end of
 * what was appended.
 */
#include "base/file_backend.h"
#include "base/alloc.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct posix_file {
    int fd;
    char path[];
};

static int open_retry(const char *path, int flags, mode_t mode)
{
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static int posix_open(void *self, const char *path, int flags, void **ret_h, struct status *st)
{
    (void)self;
    int os = O_RDONLY;
    if (flags & FILE_WRITE) {
        os = ((flags & FILE_READ) ? O_RDWR : O_WRONLY) | ((flags & FILE_AT) ? 0 : O_APPEND);
    }
    os |= (flags & FILE_CREATE) ? O_CREAT : 0;
    os |= (flags & FILE_EXCL) ? O_EXCL : 0;
    os |= (flags & FILE_TRUNC) ? O_TRUNC : 0;
    int fd = open_retry(path, os, 0640);
    if (fd < 0) {
        return st_errno(st, errno, "open %s", path);
    }
    size_t len = strlen(path) + 1;
    struct posix_file *f = xalloc(sizeof *f + len);
    f->fd = fd;
    memcpy(f->path, path, len);
    *ret_h = f;
    return 0;
}

static void posix_close(void *h)
{
    struct posix_file *f = h;
    close(f->fd);
    mem_free(f);
}

/* Drops `done` bytes from the front of iov. */
static void iov_advance(struct iovec **iov, int *n, size_t done)
{
    while (*n > 0 && done >= (*iov)->iov_len) {
        done -= (*iov)->iov_len;
        (*iov)++;
        (*n)--;
    }
    if (*n > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + done;
        (*iov)->iov_len -= done;
    }
}

/* off is where to write, and moves on; NULL: at the end. */
static int write_iov(struct posix_file *f, off_t *off, struct iovec *iov, int n, struct status *st)
{
    while (n > 0) {
        ssize_t done = off ? pwritev(f->fd, iov, n, *off) : writev(f->fd, iov, n);
        if (done < 0) {
            if (errno == EINTR) {
                continue;
            }
            return st_errno(st, errno, "write %s", f->path);
        }
        if (off) {
            *off += done;
        }
        iov_advance(&iov, &n, (size_t)done);
    }
    return 0;
}

static int write_parts(struct posix_file *f, off_t *off, const struct file_part *parts,
                       size_t nparts, struct status *st)
{
    struct iovec iov[IOV_MAX];
    int n = 0, rc = 0;
    for (size_t i = 0; i < nparts; i++) {
        if (parts[i].n == 0) {
            continue;
        }
        iov[n].iov_base = (void *)(uintptr_t)parts[i].p;
        iov[n].iov_len = parts[i].n;
        if (++n == IOV_MAX) {
            TRY(write_iov(f, off, iov, n, st));
            n = 0;
        }
    }
    TRY(write_iov(f, off, iov, n, st));
out:
    return rc;
}

static int posix_appendv(void *h, const struct file_part *parts, size_t nparts, struct status *st)
{
    return write_parts(h, NULL, parts, nparts, st);
}

static int posix_pwritev(void *h, uint64_t off, const struct file_part *parts, size_t nparts,
                         struct status *st)
{
    struct posix_file *f = h;
    if (off > INT64_MAX) {
        return st_fail(st, ST_INVALID, "write %s: offset %llu is out of range", f->path,
                       (unsigned long long)off);
    }
    off_t at = (off_t)off;
    return write_parts(f, &at, parts, nparts, st);
}

static int posix_pread(void *h, uint64_t off, void *p, size_t n, size_t *ret_n, struct status *st)
{
    struct posix_file *f = h;
    size_t got = 0;
    if (off > INT64_MAX - (uint64_t)n) {
        return st_fail(st, ST_INVALID, "read %s: offset %llu is out of range", f->path,
                       (unsigned long long)off);
    }
    while (got < n) {
        ssize_t r = pread(f->fd, (char *)p + got, n - got, (off_t)(off + got));
        if (r < 0) {
            if (errno == EINTR) {
                continue;
            }
            return st_errno(st, errno, "read %s at %llu", f->path, (unsigned long long)off);
        }
        if (r == 0) {
            break;
        }
        got += (size_t)r;
    }
    *ret_n = got;
    return 0;
}

static int posix_size(void *h, uint64_t *ret, struct status *st)
{
    struct posix_file *f = h;
    struct stat s;
    if (fstat(f->fd, &s) != 0) {
        return st_errno(st, errno, "stat %s", f->path);
    }
    *ret = (uint64_t)s.st_size;
    return 0;
}

static int posix_truncate(void *h, uint64_t size, struct status *st)
{
    struct posix_file *f = h;
    int rc;
    do {
        rc = ftruncate(f->fd, (off_t)size);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : st_errno(st, errno, "truncate %s", f->path);
}

static int posix_sync(void *h, struct status *st)
{
    struct posix_file *f = h;
    int rc;
    do {
        rc = fdatasync(f->fd);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : st_errno(st, errno, "sync %s", f->path);
}

static int posix_preallocate(void *h, uint64_t size, struct status *st)
{
    struct posix_file *f = h;
    int rc;
    if (size == 0) {
        return 0;
    }
    do {
        rc = fallocate(f->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size);
    } while (rc != 0 && errno == EINTR);
    if (rc == 0 || errno == EOPNOTSUPP || errno == ENOSYS) {
        return 0;
    }
    return st_errno(st, errno, "preallocate %s", f->path);
}

static int posix_dir_make(void *self, const char *path, struct status *st)
{
    (void)self;
    return mkdir(path, 0750) == 0 ? 0 : st_errno(st, errno, "make directory %s", path);
}

static int posix_dir_sync(void *self, const char *path, struct status *st)
{
    (void)self;
    int fd = open_retry(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) {
        return st_errno(st, errno, "open directory %s", path);
    }
    int rc;
    do {
        rc = fsync(fd);
    } while (rc != 0 && errno == EINTR);
    int err = errno;
    close(fd);
    return rc == 0 ? 0 : st_errno(st, err, "sync directory %s", path);
}

static int posix_dir_list(void *self, const char *path, char ***ret_names, size_t *ret_n,
                          struct status *st)
{
    (void)self;
    int rc = 0;
    char **names = NULL;
    size_t n = 0, cap = 0;
    DIR *d = opendir(path);
    if (!d) {
        return st_errno(st, errno, "list directory %s", path);
    }
    struct dirent *e;
    while (errno = 0, (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        if (n == cap) {
            cap = cap ? cap * 2 : 16;
            char **more = realloc_try(names, cap * sizeof *names);
            if (!more) {
                FAIL(st, ST_NO_MEMORY, "list directory %s: no memory for %zu names", path, cap);
            }
            names = more;
        }
        names[n++] = xstrdup(e->d_name);
    }
    if (errno != 0) {
        TRY(st_errno(st, errno, "list directory %s", path));
    }
    *ret_names = TAKE(names);
    *ret_n = n;
out:
    closedir(d);
    if (rc != 0) {
        dir_list_free(names, n);
    }
    return rc;
}

static int posix_rename(void *self, const char *from, const char *to, struct status *st)
{
    (void)self;
    return rename(from, to) == 0 ? 0 : st_errno(st, errno, "rename %s to %s", from, to);
}

static int posix_unlink(void *self, const char *path, struct status *st)
{
    (void)self;
    return unlink(path) == 0 ? 0 : st_errno(st, errno, "remove %s", path);
}

static int posix_dir_remove(void *self, const char *path, struct status *st)
{
    (void)self;
    return rmdir(path) == 0 ? 0 : st_errno(st, errno, "remove directory %s", path);
}

static int posix_stat(void *self, const char *path, bool follow, bool *ret_is_dir,
                      uint64_t *ret_size, struct status *st)
{
    (void)self;
    struct stat s;
    if ((follow ? stat(path, &s) : lstat(path, &s)) != 0) {
        /* A file where a directory was expected: there is nothing at this path either. */
        return st_errno(st, errno == ENOTDIR ? ENOENT : errno, "stat %s", path);
    }
    *ret_is_dir = S_ISDIR(s.st_mode);
    *ret_size = (uint64_t)s.st_size;
    return 0;
}

static int posix_map(void *self, const char *path, struct mapping *ret_map, struct status *st)
{
    (void)self;
    int rc = 0;
    struct stat s;
    int fd = open_retry(path, O_RDONLY, 0);
    if (fd < 0) {
        return st_errno(st, errno, "open %s", path);
    }
    if (fstat(fd, &s) != 0) {
        TRY(st_errno(st, errno, "stat %s", path));
    }
    if (s.st_size == 0) {
        ret_map->p = (const uint8_t *)""; /* a mapping of no bytes is not possible */
        ret_map->n = 0;
    } else {
        void *p = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            TRY(st_errno(st, errno, "map %s", path));
        }
        ret_map->p = p;
        ret_map->n = (size_t)s.st_size;
    }
out:
    close(fd);
    return rc;
}

static void posix_unmap(struct mapping *map)
{
    if (map->n > 0) {
        munmap((void *)(uintptr_t)map->p, map->n);
    }
}

const struct file_backend file_posix_backend = {
    .open = posix_open,
    .close = posix_close,
    .appendv = posix_appendv,
    .pwritev = posix_pwritev,
    .pread = posix_pread,
    .size = posix_size,
    .truncate = posix_truncate,
    .sync = posix_sync,
    .preallocate = posix_preallocate,
    .dir_make = posix_dir_make,
    .dir_sync = posix_dir_sync,
    .dir_list = posix_dir_list,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .dir_remove = posix_dir_remove,
    .stat = posix_stat,
    .map = posix_map,
    .unmap = posix_unmap,
};
