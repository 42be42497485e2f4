/*
 * object_local.c - objects as files of a folder; the key is the path below it.
 *
 * WHAT        A put writes "<root>/.tmp-<n>", syncs it, renames it to its key and syncs the folder
 *             of the key. All temporary files lie in the root, so an open finds leftovers without
 *             walking the tree, however many objects there are.
 * INVARIANTS  A file under a name without leading dot is whole and durable, or its put has not
 *             returned yet.
 * THREADS     Any; the counter of temporary names is the only state that changes. Two puts on one
 *             key: one of them wins, whole.
 * FAILURE     A crash leaves a temporary file, or an object whose put was not acknowledged. A put
 *             that fails removes its temporary file. object_delete() leaves empty folders behind;
 *             object_delete_prefix() with a folder removes them.
 *             Fault points: object_put_before_write, object_put_before_sync,
 *             object_put_before_rename, object_put_after_rename.
 */
#include "base/alloc.h"
#include "base/fault.h"
#include "object/object_int.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TMP_PREFIX ".tmp-"

struct object_local {
    struct object_store base; /* first */
    char *root;
    _Atomic uint64_t next_tmp; /* relaxed: only has to differ each time */
};

struct local_writer {
    struct object_writer base; /* first */
    char *path, *folder, *tmp;
    struct file *f;
    bool failed; /* an append failed: the temporary file is not what the caller wanted */
};

static char *key_path(const struct object_local *ol, struct slice key)
{
    char *s = xstrndup(key.p, key.n);
    char *path = path_join(ol->root, s);
    mem_free(s);
    return path;
}

/* "not found" of the system names a path; the caller knows keys. */
static int name_key(int rc, struct slice key, struct status *st)
{
    return rc == ST_NOT_FOUND
               ? st_fail(st, ST_NOT_FOUND, "object \"%.*s\" does not exist", SLICE_ARG(key))
               : rc;
}

/* ---- writing ---- */

static void writer_free(struct local_writer *lw)
{
    struct status ignored = STATUS_INIT;
    if (!lw) {
        return;
    }
    file_close(lw->f);
    if (lw->tmp) {
        (void)path_unlink(lw->tmp, &ignored); /* else removed at the next open */
    }
    mem_free(lw->tmp);
    mem_free(lw->path);
    mem_free(lw->folder);
    mem_free(lw);
}

static int local_writer_open(struct object_store *os, struct slice key,
                             struct object_writer **ret_ow, struct status *st)
{
    struct object_local *ol = (struct object_local *)os;
    struct local_writer *lw = xalloc(sizeof *lw);
    char name[40];
    int rc;

    lw->base.os = os;
    lw->path = key_path(ol, key);
    lw->folder = xstrndup(lw->path, (size_t)(strrchr(lw->path, '/') - lw->path));
    TRY(FAULT_POINT("object_put_before_write", st));
    (void)snprintf(
        name, sizeof name, TMP_PREFIX "%llu",
        (unsigned long long)atomic_fetch_add_explicit(&ol->next_tmp, 1, memory_order_relaxed));
    lw->tmp = path_join(ol->root, name);
    TRY(file_open(lw->tmp, FILE_WRITE | FILE_CREATE | FILE_TRUNC, &lw->f, st));
    *ret_ow = &TAKE(lw)->base;
out:
    writer_free(lw);
    return rc;
}

static int local_appendv(struct object_writer *ow, const struct file_part *parts, size_t nparts,
                         struct status *st)
{
    struct local_writer *lw = (struct local_writer *)ow;
    int rc;
    if (lw->failed) {
        FAIL(st, ST_IO, "%s: an earlier append failed", lw->path);
    }
    rc = file_appendv(lw->f, parts, nparts, st);
    lw->failed = rc != 0;
out:
    return rc;
}

/* The folder of a key, and the rename into it. A concurrent delete of the folder is met by making
 * it once more. */
static int give_name(struct local_writer *lw, struct status *st)
{
    int rc;
    TRY(dir_make(lw->folder, st));
    rc = path_rename(lw->tmp, lw->path, st);
    if (rc == ST_NOT_FOUND) {
        st_clear(st);
        TRY(dir_make(lw->folder, st));
        rc = path_rename(lw->tmp, lw->path, st);
    }
    TRY(rc);
    mem_free(TAKE(lw->tmp));
    TRY(dir_sync(lw->folder, st));
out:
    return rc;
}

static int local_commit(struct object_writer *ow, struct status *st)
{
    struct local_writer *lw = (struct local_writer *)ow;
    int rc;
    if (lw->failed) {
        FAIL(st, ST_IO, "%s: an earlier append failed", lw->path);
    }
    TRY(FAULT_POINT("object_put_before_sync", st));
    TRY(file_sync(lw->f, st));
    TRY(FAULT_POINT("object_put_before_rename", st));
    TRY(give_name(lw, st));
    TRY(FAULT_POINT("object_put_after_rename", st));
out:
    writer_free(lw);
    return rc;
}

static void local_abort(struct object_writer *ow)
{
    writer_free((struct local_writer *)ow);
}

static int local_delete(struct object_store *os, struct slice key, struct status *st)
{
    char *path = key_path((struct object_local *)os, key);
    char *folder = xstrndup(path, (size_t)(strrchr(path, '/') - path));
    bool exists, is_dir;
    uint64_t size;
    int rc;
    TRY(path_stat(path, &exists, &is_dir, &size, st));
    if (exists && !is_dir) {
        TRY(path_unlink(path, st));
        TRY(dir_sync(folder, st));
    }
out:
    mem_free(folder);
    mem_free(path);
    return rc;
}

static int local_delete_folder(struct object_store *os, struct slice prefix, struct status *st)
{
    char *path = key_path((struct object_local *)os, slice_n(prefix.p, prefix.n - 1));
    bool exists, is_dir;
    uint64_t size;
    int rc;
    TRY(path_stat(path, &exists, &is_dir, &size, st));
    if (exists && is_dir) {
        TRY(path_remove_tree(path, st));
    }
out:
    mem_free(path);
    return rc;
}

/* ---- reading ---- */

static int local_stat(struct object_store *os, struct slice key, struct object_info *ret,
                      struct status *st)
{
    char *path = key_path((struct object_local *)os, key);
    bool exists, is_dir;
    uint64_t size;
    int rc;
    TRY(path_stat(path, &exists, &is_dir, &size, st));
    if (!exists || is_dir) {
        TRY(name_key(ST_NOT_FOUND, key, st));
    }
    *ret = (struct object_info){key, size};
out:
    mem_free(path);
    return rc;
}

static int local_get(struct object_store *os, struct slice key, uint64_t off, void *p, size_t n,
                     size_t *ret_n, struct status *st)
{
    char *path = key_path((struct object_local *)os, key);
    struct object_info info;
    struct file *f = NULL;
    int rc;
    TRY(local_stat(os, key, &info, st)); /* a folder can be opened too */
    TRY(name_key(file_open(path, FILE_READ, &f, st), key, st));
    TRY(file_pread(f, off, p, n, ret_n, st));
out:
    file_close(f);
    mem_free(path);
    return rc;
}

static int local_map(struct object_store *os, struct slice key, struct mapping **ret_map,
                     struct status *st)
{
    char *path = key_path((struct object_local *)os, key);
    struct object_info info;
    int rc;
    TRY(local_stat(os, key, &info, st));
    TRY(name_key(file_map(path, ret_map, st), key, st));
out:
    mem_free(path);
    return rc;
}

static int local_descriptor(struct object_store *os, struct slice key)
{
    char *path = key_path((struct object_local *)os, key);
    int fd = file_descriptor(path);
    mem_free(path);
    return fd;
}

/* ---- listing ---- */

struct walk {
    const struct object_local *ol;
    const struct object_range *range;
    struct arena *ar;
    struct object_list list;
    size_t cap;
};

static int walk_add(struct walk *wk, struct slice key, uint64_t size, struct status *st)
{
    struct slice copy;
    if (wk->list.n == wk->cap) {
        size_t cap = wk->cap ? wk->cap * 2 : 64;
        struct object_info *items = arena_try_array(wk->ar, cap, sizeof *items);
        if (!items) {
            return st_fail(st, ST_NO_MEMORY, "no memory for a list of %zu objects", cap);
        }
        if (wk->list.n) {
            memcpy(items, wk->list.items, wk->list.n * sizeof *items);
        }
        wk->list.items = items;
        wk->cap = cap;
    }
    copy = arena_copy(wk->ar, key);
    if (!copy.p) {
        return st_fail(st, ST_NO_MEMORY, "no memory for a list of objects");
    }
    wk->list.items[wk->list.n++] = (struct object_info){copy, size};
    return 0;
}

static int walk_dir(struct walk *wk, const char *dir_key, struct status *st);

/* key: of a file, or of a folder without the slash at its end. */
static int walk_entry(struct walk *wk, const char *key, struct status *st)
{
    struct slice k = slice_of(key), prefix = wk->range->prefix;
    char *path = path_join(wk->ol->root, key);
    bool exists, is_dir;
    uint64_t size;
    int rc = 0;
    /* Neither under the prefix nor on the way to it. */
    if (!slice_starts(k, slice_n(prefix.p, MIN(prefix.n, k.n)))) {
        goto out;
    }
    TRY(path_stat(path, &exists, &is_dir, &size, st));
    if (exists && is_dir) {
        TRY(walk_dir(wk, key, st));
    } else if (exists && slice_starts(k, prefix) && slice_cmp(k, wk->range->start_after) > 0) {
        TRY(walk_add(wk, k, size, st));
    }
out:
    mem_free(path);
    return rc;
}

static int walk_dir(struct walk *wk, const char *dir_key, struct status *st)
{
    char *path = *dir_key ? path_join(wk->ol->root, dir_key) : xstrdup(wk->ol->root);
    char **names = NULL;
    size_t n = 0;
    int rc = dir_list(path, &names, &n, st);
    if (rc == ST_NOT_FOUND) {
        st_clear(st);
        rc = 0; /* deleted while we walked */
        goto out;
    }
    TRY(rc);
    for (size_t i = 0; i < n; i++) {
        char *key;
        if (names[i][0] == '.') {
            continue;
        }
        key = *dir_key ? path_join(dir_key, names[i]) : xstrdup(names[i]);
        rc = walk_entry(wk, key, st);
        mem_free(key);
        TRY(rc);
    }
out:
    dir_list_free(names, n);
    mem_free(path);
    return rc;
}

static int info_cmp(const void *a, const void *b)
{
    const struct object_info *x = a, *y = b;
    return slice_cmp(x->key, y->key);
}

static int local_list(struct object_store *os, const struct object_range *range, struct arena *ar,
                      struct object_list *ret, struct status *st)
{
    struct walk wk = {.ol = (struct object_local *)os, .range = range, .ar = ar};
    const char *slash = range->prefix.n ? memrchr(range->prefix.p, '/', range->prefix.n) : NULL;
    char *start =
        slash ? xstrndup(range->prefix.p, (size_t)(slash - range->prefix.p)) : xstrdup("");
    bool exists = true, is_dir = true;
    uint64_t size;
    char *path = NULL;
    int rc;
    if (*start) {
        path = path_join(wk.ol->root, start);
        TRY(path_stat(path, &exists, &is_dir, &size, st));
    }
    if (exists && is_dir) {
        TRY(walk_dir(&wk, start, st));
    }
    /* The order of names in folders is not that of keys: "a-b" sorts before "a/b". */
    if (wk.list.n > 1) {
        qsort(wk.list.items, wk.list.n, sizeof *wk.list.items, info_cmp);
    }
    wk.list.more = wk.list.n > range->limit;
    wk.list.n = MIN(wk.list.n, range->limit);
    *ret = wk.list;
out:
    mem_free(path);
    mem_free(start);
    return rc;
}

/* ---- opening ---- */

static void local_close(struct object_store *os)
{
    struct object_local *ol = (struct object_local *)os;
    mem_free(ol->root);
    mem_free(ol);
}

static const struct object_ops local_ops = {
    .writer_open = local_writer_open,
    .appendv = local_appendv,
    .commit = local_commit,
    .abort = local_abort,
    .del = local_delete,
    .delete_folder = local_delete_folder,
    .stat = local_stat,
    .get = local_get,
    .map = local_map,
    .descriptor = local_descriptor,
    .list = local_list,
    .close = local_close,
};

static int remove_leftovers(const char *root, struct status *st)
{
    char **names = NULL;
    size_t n = 0;
    int rc;
    TRY(dir_list(root, &names, &n, st));
    for (size_t i = 0; i < n; i++) {
        if (strncmp(names[i], TMP_PREFIX, strlen(TMP_PREFIX)) == 0) {
            char *path = path_join(root, names[i]);
            rc = path_unlink(path, st);
            mem_free(path);
            TRY(rc);
        }
    }
out:
    dir_list_free(names, n);
    return rc;
}

int object_local_open(const char *dir, struct object_store **ret_os, struct status *st)
{
    struct object_local *ol;
    int rc;
    TRY(dir_make(dir, st));
    TRY(remove_leftovers(dir, st));
    ol = xalloc(sizeof *ol);
    ol->base.ops = &local_ops;
    ol->root = xstrdup(dir);
    *ret_os = &ol->base;
out:
    return rc;
}
