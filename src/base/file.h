/*
 * file.h - files, directories and mappings; every durable byte of the program passes here.
 *
 * Behind a method table (file_set_backend) so that crash tests can drop, tear or garble what was
 * not synced. Paths are UTF-8. All functions: thread-safe, block on disk, fail with st_errno codes.
 */
#pragma once
#include "base/compiler.h"
#include "base/slice.h"
#include "base/status.h"

struct file;

enum {
    FILE_READ = 1,
    FILE_WRITE = 2,
    FILE_CREATE = 4,
    FILE_EXCL = 8,
    FILE_TRUNC = 16,
    FILE_AT = 32 /* written by file_pwritev() alone, not by file_append() */
};

int file_open(const char *path, int flags, struct file **ret_f, struct status *st);
void file_close(struct file *f);
int file_append(struct file *f, const void *p, size_t n, struct status *st); /* at the end */
struct file_part {
    const void *p;
    size_t n;
};
/* All parts in order at the end of the file, with as few system calls as the system allows. A
 * failed append may leave a part of its bytes there. */
int file_appendv(struct file *f, const struct file_part *parts, size_t nparts, struct status *st);
/* All parts in order at off, over what is there; the file grows when they reach past its end. For
 * files opened with FILE_AT. */
int file_pwritev(struct file *f, uint64_t off, const struct file_part *parts, size_t nparts,
                 struct status *st);
/* Short only at the end of the file; *ret_n says how much. */
int file_pread(struct file *f, uint64_t off, void *p, size_t n, size_t *ret_n, struct status *st);
int file_size(struct file *f, uint64_t *ret, struct status *st);
int file_truncate(struct file *f, uint64_t size, struct status *st);
/* fdatasync. A failed sync is final: the kernel may have dropped the bytes, a retry proves
 * nothing. */
int file_sync(struct file *f, struct status *st);
/* Reserves disk blocks so that later appends do not change metadata; unsupported is not an error.
 * The size of the file does not change. */
int file_preallocate(struct file *f, uint64_t size, struct status *st);

/* With parents; existing is fine. What it created is durable: the parents are synced. */
int dir_make(const char *path, struct status *st);
int dir_sync(const char *path, struct status *st); /* makes creations and renames in it durable */
/* Names (no "." entries), sorted bytewise; free with dir_list_free(). */
int dir_list(const char *path, char ***ret_names, size_t *ret_n, struct status *st);
void dir_list_free(char **names, size_t n);
int path_rename(const char *from, const char *to, struct status *st);
int path_unlink(const char *path, struct status *st); /* a missing path is fine */
int path_remove_tree(const char *path, struct status *st);
int path_stat(const char *path, bool *ret_exists, bool *ret_is_dir, uint64_t *ret_size,
              struct status *st);
/* "a/b" from parts; free with mem_free(). */
char *path_join(const char *a, const char *b);
/* Whole file into memory, at most max bytes; free with mem_free(). */
int file_read_all(const char *path, size_t max, uint8_t **ret_p, size_t *ret_n, struct status *st);
/* Writes path.tmp, syncs, renames, syncs the directory: all or nothing. */
int file_write_atomic(const char *path, const void *p, size_t n, struct status *st);

/* A read-only mapping of a whole file. */
struct mapping {
    const uint8_t *p;
    size_t n;
};
int file_map(const char *path, struct mapping **ret_map, struct status *st);
void mapping_free(struct mapping *map);
/* A descriptor of a file, for those who read in ways of their own; close(2) it. -1: none. */
int file_descriptor(const char *path);
/* Bytes of a mapping will be needed soon: starts reading them, waits for nothing. */
void map_willneed(const void *p, size_t n);
