/*
 * file_backend.h - the table of functions under file.h.
 *
 * The program uses one for the whole process: the operating system's. Tests install a double that
 * forgets what was not synced. An open file and a mapping keep the backend they came from.
 *
 * Contract of each function: see the function of the same name in file.h. `h` is the backend's own
 * handle. A backend is complete: no entry may be NULL.
 */
#pragma once
#include "base/file.h"

struct file_backend {
    void *self; /* passed to the functions on paths */
    int (*open)(void *self, const char *path, int flags, void **ret_h, struct status *st);
    void (*close)(void *h);
    int (*appendv)(void *h, const struct file_part *parts, size_t nparts, struct status *st);
    int (*pwritev)(void *h, uint64_t off, const struct file_part *parts, size_t nparts,
                   struct status *st);
    int (*pread)(void *h, uint64_t off, void *p, size_t n, size_t *ret_n, struct status *st);
    int (*size)(void *h, uint64_t *ret, struct status *st);
    int (*truncate)(void *h, uint64_t size, struct status *st);
    int (*sync)(void *h, struct status *st);
    int (*preallocate)(void *h, uint64_t size, struct status *st);
    /* One directory, its parent exists. ST_EXISTS when the name is taken. */
    int (*dir_make)(void *self, const char *path, struct status *st);
    int (*dir_sync)(void *self, const char *path, struct status *st);
    int (*dir_list)(void *self, const char *path, char ***ret_names, size_t *ret_n,
                    struct status *st); /* any order */
    int (*rename)(void *self, const char *from, const char *to, struct status *st);
    int (*unlink)(void *self, const char *path, struct status *st); /* ST_NOT_FOUND when missing */
    int (*dir_remove)(void *self, const char *path, struct status *st); /* an empty directory */
    /* follow: of the target of a symbolic link. ST_NOT_FOUND when missing. */
    int (*stat)(void *self, const char *path, bool follow, bool *ret_is_dir, uint64_t *ret_size,
                struct status *st);
    int (*map)(void *self, const char *path, struct mapping *ret_map, struct status *st);
    void (*unmap)(struct mapping *map);
};

/* NULL: the operating system's again. Not while files are being opened by other threads. */
void file_set_backend(const struct file_backend *be);
extern const struct file_backend file_posix_backend;
