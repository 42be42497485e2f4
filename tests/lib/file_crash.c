/*
 * file_crash.c - the file backend of crash tests: inodes and names in memory, twice.
 *
 * Every inode has the bytes as programs see them and the bytes of its last sync, with `stable` as
 * the length up to which both are known to be equal. Names live in one list of entries
 * (directory inode, name, inode); changes of names are kept in order in `ops` until a sync of a
 * directory they concern. The durable list of entries is changed only by such a sync.
 *
 * When the power goes, the surviving names are the durable ones plus a prefix of the pending
 * changes (of random length, or none of them, or all): file systems journal names in order. The
 * surviving bytes are chosen per inode. Both then become the new state, in memory and durable.
 *
 * Inodes are freed with the file system only: open handles may point at them.
 */
#include "file_crash.h"
#include "base/alloc.h"
#include "base/buf.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct inode {
    struct inode *next; /* all inodes, for freeing */
    bool is_dir;
    struct buf now, durable;
    size_t stable;
};

struct entry {
    struct inode *dir;
    char *name;
    struct inode *ino;
};

struct entries {
    struct entry *v;
    size_t n, cap;
};

/* A change of names: up to one removal and up to one addition. */
struct name_op {
    struct inode *del_dir, *add_dir;
    char *del_name, *add_name;
    struct inode *add_ino;
};

struct crash_fs {
    pthread_mutex_t mutex;
    struct file_backend be;
    struct inode *inodes, *root;
    struct entries now, durable;
    struct name_op *ops;
    size_t nops, ops_cap;
    uint64_t rng;
    uint64_t generation; /* counts restarts: older handles are dead */
    bool off;
    enum crash_mode mode;
    long syncs, changes;
    long crash_in_syncs, crash_in_changes, fail_in_syncs;
    uint64_t space;
};

struct crash_handle {
    struct crash_fs *fs;
    struct inode *ino;
    uint64_t generation;
    int flags;
    char *path;
};

static uint64_t next_random(struct crash_fs *fs)
{
    uint64_t z = (fs->rng += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Uniform in [0, n]. */
static size_t random_upto(struct crash_fs *fs, size_t n)
{
    return (size_t)(next_random(fs) % ((uint64_t)n + 1));
}

static struct inode *inode_new(struct crash_fs *fs, bool is_dir)
{
    struct inode *ino = xalloc(sizeof *ino);
    ino->is_dir = is_dir;
    buf_init(&ino->now, SIZE_MAX / 2);
    buf_init(&ino->durable, SIZE_MAX / 2);
    ino->next = fs->inodes;
    fs->inodes = ino;
    return ino;
}

static struct entry *entry_find(struct entries *es, const struct inode *dir, const char *name,
                                size_t len)
{
    for (size_t i = 0; i < es->n; i++) {
        struct entry *e = &es->v[i];
        if (e->dir == dir && strlen(e->name) == len && memcmp(e->name, name, len) == 0) {
            return e;
        }
    }
    return NULL;
}

static void entry_set(struct entries *es, struct inode *dir, const char *name, struct inode *ino)
{
    struct entry *e = entry_find(es, dir, name, strlen(name));
    if (e) {
        e->ino = ino;
        return;
    }
    if (es->n == es->cap) {
        es->cap = es->cap ? es->cap * 2 : 16;
        es->v = xrealloc(es->v, es->cap * sizeof *es->v);
    }
    es->v[es->n++] = (struct entry){dir, xstrdup(name), ino};
}

static void entry_del(struct entries *es, const struct inode *dir, const char *name)
{
    struct entry *e = entry_find(es, dir, name, strlen(name));
    if (e) {
        mem_free(e->name);
        *e = es->v[--es->n];
    }
}

static void entries_clear(struct entries *es)
{
    for (size_t i = 0; i < es->n; i++) {
        mem_free(es->v[i].name);
    }
    es->n = 0;
}

static void op_apply(struct entries *es, const struct name_op *op)
{
    if (op->del_dir) {
        entry_del(es, op->del_dir, op->del_name);
    }
    if (op->add_dir) {
        entry_set(es, op->add_dir, op->add_name, op->add_ino);
    }
}

static void op_done(struct name_op *op)
{
    mem_free(op->del_name);
    mem_free(op->add_name);
}

/* Makes the change visible, and pending until a directory of it is synced. */
static void change_names(struct crash_fs *fs, struct name_op op)
{
    op.del_name = op.del_name ? xstrdup(op.del_name) : NULL;
    op.add_name = op.add_name ? xstrdup(op.add_name) : NULL;
    if (fs->nops == fs->ops_cap) {
        fs->ops_cap = fs->ops_cap ? fs->ops_cap * 2 : 16;
        fs->ops = xrealloc(fs->ops, fs->ops_cap * sizeof *fs->ops);
    }
    fs->ops[fs->nops++] = op;
    op_apply(&fs->now, &op);
}

/* The inode of path and, when asked for, its directory and last name (in ret_name, of at least
 * strlen(path) + 1 bytes). False when a directory on the way is missing; *ret_ino is NULL when
 * only the last name is. */
static bool resolve(struct crash_fs *fs, const char *path, struct inode **ret_dir, char *ret_name,
                    struct inode **ret_ino)
{
    struct inode *dir = NULL, *ino = fs->root;
    const char *name = "";
    size_t len = 0;
    while (*path) {
        size_t n = strcspn(path, "/");
        if (n > 0 && !(n == 1 && path[0] == '.')) {
            if (!ino || !ino->is_dir) {
                return false;
            }
            dir = ino;
            name = path;
            len = n;
            struct entry *e = entry_find(&fs->now, dir, name, len);
            ino = e ? e->ino : NULL;
        }
        path += n;
        path += strspn(path, "/");
    }
    if (ret_dir) {
        *ret_dir = dir;
        memcpy(ret_name, name, len);
        ret_name[len] = '\0';
    }
    *ret_ino = ino;
    return true;
}

static void put_random_or_zero(struct crash_fs *fs, struct buf *b, size_t n)
{
    while (n > 0) {
        size_t run = 1 + random_upto(fs, n - 1);
        if (next_random(fs) & 1) {
            buf_put_zero(b, run);
        } else {
            for (size_t i = 0; i < run; i++) {
                buf_put_u8(b, (uint8_t)next_random(fs));
            }
        }
        n -= run;
    }
}

/* Replaces the bytes of a file by what survives. */
static void crash_bytes(struct crash_fs *fs, struct inode *ino, enum crash_mode mode)
{
    if (mode == CRASH_MIX) {
        mode = (enum crash_mode)random_upto(fs, CRASH_KEEP);
    }
    bool truncated = ino->stable < ino->durable.n;
    if (mode == CRASH_DROP || (truncated && mode != CRASH_KEEP && (next_random(fs) & 1))) {
        buf_reset(&ino->now);
        buf_put_slice(&ino->now, buf_slice(&ino->durable));
    } else if (mode == CRASH_TEAR) {
        ino->now.n = ino->stable + random_upto(fs, ino->now.n - ino->stable);
    } else if (mode == CRASH_GARBLE && ino->now.n > 0) {
        size_t len = ino->now.n;
        size_t good = ino->stable + random_upto(fs, len - ino->stable);
        size_t bad_end = good + random_upto(fs, len - good);
        struct buf after;
        buf_init(&after, SIZE_MAX / 2);
        buf_put(&after, ino->now.p + bad_end, len - bad_end);
        ino->now.n = good;
        put_random_or_zero(fs, &ino->now, bad_end - good);
        buf_put_slice(&ino->now, buf_slice(&after));
        buf_done(&after);
    }
    buf_reset(&ino->durable);
    buf_put_slice(&ino->durable, buf_slice(&ino->now));
    CHECK(!ino->now.failed && !ino->durable.failed);
    ino->stable = ino->now.n;
}

static void power_off(struct crash_fs *fs, enum crash_mode mode)
{
    if (fs->off) {
        return;
    }
    fs->off = true;
    size_t survive = fs->nops;
    if (mode == CRASH_DROP) {
        survive = 0;
    } else if (mode != CRASH_KEEP) {
        survive = random_upto(fs, fs->nops);
    }
    for (size_t i = 0; i < fs->nops; i++) {
        if (i < survive) {
            op_apply(&fs->durable, &fs->ops[i]);
        }
        op_done(&fs->ops[i]);
    }
    fs->nops = 0;
    entries_clear(&fs->now);
    for (size_t i = 0; i < fs->durable.n; i++) {
        entry_set(&fs->now, fs->durable.v[i].dir, fs->durable.v[i].name, fs->durable.v[i].ino);
    }
    for (struct inode *ino = fs->inodes; ino; ino = ino->next) {
        crash_bytes(fs, ino, mode);
    }
}

/* Every operation starts here; the mutex is held from then on. */
static int enter(struct crash_fs *fs, struct status *st)
{
    pthread_mutex_lock(&fs->mutex);
    return fs->off ? st_fail(st, ST_IO, "the power is off") : 0;
}

static int leave(struct crash_fs *fs, int rc)
{
    pthread_mutex_unlock(&fs->mutex);
    return rc;
}

static int enter_handle(struct crash_handle *h, struct status *st)
{
    int rc = enter(h->fs, st);
    if (rc == 0 && h->generation != h->fs->generation) {
        rc = st_fail(st, ST_IO, "%s was opened before the power went", h->path);
    }
    return rc;
}

static bool counted_down(long *left)
{
    return *left > 0 && --*left == 0;
}

/* Counts a change; fails when the power goes at it. */
static int count_change(struct crash_fs *fs, struct status *st)
{
    fs->changes++;
    if (counted_down(&fs->crash_in_changes)) {
        power_off(fs, fs->mode);
        return st_fail(st, ST_IO, "the power goes at change %ld", fs->changes);
    }
    return 0;
}

static int count_sync(struct crash_fs *fs, struct status *st)
{
    fs->syncs++;
    if (counted_down(&fs->crash_in_syncs)) {
        power_off(fs, fs->mode);
        return st_fail(st, ST_IO, "the power goes at sync %ld", fs->syncs);
    }
    if (counted_down(&fs->fail_in_syncs)) {
        return st_fail(st, ST_IO, "sync %ld is made to fail", fs->syncs);
    }
    return count_change(fs, st);
}

static int crash_open(void *self, const char *path, int flags, void **ret_h, struct status *st)
{
    struct crash_fs *fs = self;
    struct inode *dir, *ino;
    char *name = xalloc(strlen(path) + 1);
    int rc;
    TRY(enter(fs, st));
    if (!resolve(fs, path, &dir, name, &ino) || (!ino && !(flags & FILE_CREATE))) {
        FAIL(st, ST_NOT_FOUND, "open %s: no such file or directory", path);
    }
    if (ino && (flags & FILE_EXCL)) {
        FAIL(st, ST_EXISTS, "open %s: file exists", path);
    }
    if (ino && ino->is_dir) {
        FAIL(st, ST_IO, "open %s: is a directory", path);
    }
    if (!ino) {
        TRY(count_change(fs, st));
        ino = inode_new(fs, false);
        change_names(fs, (struct name_op){.add_dir = dir, .add_name = name, .add_ino = ino});
    } else if ((flags & FILE_TRUNC) && ino->now.n > 0) {
        TRY(count_change(fs, st));
        ino->now.n = ino->stable = 0;
    }
    struct crash_handle *h = xalloc(sizeof *h);
    h->fs = fs;
    h->ino = ino;
    h->generation = fs->generation;
    h->flags = flags;
    h->path = xstrdup(path);
    *ret_h = h;
out:
    mem_free(name);
    return leave(fs, rc);
}

static void crash_close(void *p)
{
    struct crash_handle *h = p;
    mem_free(h->path);
    mem_free(h);
}

static int check_writable(const struct crash_handle *h, struct status *st)
{
    return (h->flags & FILE_WRITE) ? 0 : st_fail(st, ST_IO, "%s is open for reading only", h->path);
}

static int crash_appendv(void *p, const struct file_part *parts, size_t nparts, struct status *st)
{
    struct crash_handle *h = p;
    struct crash_fs *fs = h->fs;
    int rc;
    TRY(enter_handle(h, st));
    TRY(check_writable(h, st));
    bool full = false;
    for (size_t i = 0; i < nparts && !full; i++) {
        size_t n = parts[i].n;
        if (n > fs->space) {
            n = (size_t)fs->space;
            full = true;
        }
        if (!buf_put(&h->ino->now, parts[i].p, n)) {
            h->ino->now.failed = false;
            FAIL(st, ST_NO_MEMORY, "append to %s: no memory", h->path);
        }
        if (fs->space != UINT64_MAX) {
            fs->space -= n;
        }
    }
    TRY(count_change(fs, st));
    if (full) {
        FAIL(st, ST_NO_SPACE, "append to %s: no space left on device", h->path);
    }
out:
    return leave(fs, rc);
}

static int crash_pwritev(void *p, uint64_t off, const struct file_part *parts, size_t nparts,
                         struct status *st)
{
    struct crash_handle *h = p;
    struct crash_fs *fs = h->fs;
    struct inode *ino = h->ino;
    bool full = false;
    int rc;
    TRY(enter_handle(h, st));
    TRY(check_writable(h, st));
    if (off > ino->now.n && !buf_put_zero(&ino->now, (size_t)off - ino->now.n)) {
        ino->now.failed = false;
        FAIL(st, ST_NO_MEMORY, "write %s: no memory", h->path);
    }
    ino->stable = MIN(ino->stable, (size_t)off);
    for (size_t i = 0; i < nparts && !full; i++) {
        /* Over what is there, then behind it. */
        size_t over = MIN(parts[i].n, ino->now.n - (size_t)off), more = parts[i].n - over;
        if (over) {
            memcpy(ino->now.p + off, parts[i].p, over);
        }
        if (more > fs->space) {
            more = (size_t)fs->space;
            full = true;
        }
        if (more && !buf_put(&ino->now, (const uint8_t *)parts[i].p + over, more)) {
            ino->now.failed = false;
            FAIL(st, ST_NO_MEMORY, "write %s: no memory", h->path);
        }
        if (fs->space != UINT64_MAX) {
            fs->space -= more;
        }
        off += over + more;
    }
    TRY(count_change(fs, st));
    if (full) {
        FAIL(st, ST_NO_SPACE, "write %s: no space left on device", h->path);
    }
out:
    return leave(fs, rc);
}

static int crash_pread(void *p, uint64_t off, void *dst, size_t n, size_t *ret_n, struct status *st)
{
    struct crash_handle *h = p;
    int rc;
    TRY(enter_handle(h, st));
    size_t got = 0;
    if (off < h->ino->now.n) {
        got = MIN(n, h->ino->now.n - (size_t)off);
        memcpy(dst, h->ino->now.p + off, got);
    }
    *ret_n = got;
out:
    return leave(h->fs, rc);
}

static int crash_size(void *p, uint64_t *ret, struct status *st)
{
    struct crash_handle *h = p;
    int rc;
    TRY(enter_handle(h, st));
    *ret = h->ino->now.n;
out:
    return leave(h->fs, rc);
}

static int crash_truncate(void *p, uint64_t size, struct status *st)
{
    struct crash_handle *h = p;
    struct inode *ino = h->ino;
    int rc;
    TRY(enter_handle(h, st));
    TRY(check_writable(h, st));
    TRY(count_change(h->fs, st));
    if (size < ino->now.n) {
        ino->now.n = (size_t)size;
        ino->stable = MIN(ino->stable, ino->now.n);
    } else if (!buf_put_zero(&ino->now, (size_t)(size - ino->now.n))) {
        ino->now.failed = false;
        FAIL(st, ST_NO_MEMORY, "truncate %s: no memory", h->path);
    }
out:
    return leave(h->fs, rc);
}

static int crash_sync(void *p, struct status *st)
{
    struct crash_handle *h = p;
    struct inode *ino = h->ino;
    int rc;
    TRY(enter_handle(h, st));
    TRY(count_sync(h->fs, st));
    ino->durable.n = ino->stable;
    if (ino->now.n > ino->stable) {
        CHECK(buf_put(&ino->durable, ino->now.p + ino->stable, ino->now.n - ino->stable));
    }
    ino->stable = ino->now.n;
out:
    return leave(h->fs, rc);
}

static int crash_preallocate(void *p, uint64_t size, struct status *st)
{
    struct crash_handle *h = p;
    int rc;
    TRY(enter_handle(h, st));
    if (h->fs->space < size && h->fs->space < size - MIN(size, (uint64_t)h->ino->now.n)) {
        FAIL(st, ST_NO_SPACE, "preallocate %s: no space left on device", h->path);
    }
out:
    return leave(h->fs, rc);
}

static int crash_dir_make(void *self, const char *path, struct status *st)
{
    struct crash_fs *fs = self;
    struct inode *dir, *ino;
    char *name = xalloc(strlen(path) + 1);
    int rc;
    TRY(enter(fs, st));
    if (!resolve(fs, path, &dir, name, &ino)) {
        FAIL(st, ST_NOT_FOUND, "make directory %s: no such file or directory", path);
    }
    if (ino) {
        FAIL(st, ST_EXISTS, "make directory %s: file exists", path);
    }
    TRY(count_change(fs, st));
    change_names(
        fs, (struct name_op){.add_dir = dir, .add_name = name, .add_ino = inode_new(fs, true)});
out:
    mem_free(name);
    return leave(fs, rc);
}

static int find_dir(struct crash_fs *fs, const char *path, struct inode **ret, struct status *st)
{
    struct inode *ino;
    if (!resolve(fs, path, NULL, NULL, &ino) || !ino) {
        return st_fail(st, ST_NOT_FOUND, "%s: no such file or directory", path);
    }
    if (!ino->is_dir) {
        return st_fail(st, ST_IO, "%s: not a directory", path);
    }
    *ret = ino;
    return 0;
}

static bool holds(struct inode *const *dirs, size_t n, const struct inode *dir)
{
    for (size_t i = 0; i < n; i++) {
        if (dirs[i] == dir) {
            return true;
        }
    }
    return false;
}

/* Moves the pending changes of dir to the durable names. A rename between two directories takes the
 * earlier changes of its other directory along: it cannot be durable before what it moves. */
static void commit_names(struct crash_fs *fs, struct inode *dir)
{
    struct inode **dirs = xalloc((2 * fs->nops + 1) * sizeof *dirs);
    bool *taken = xalloc(fs->nops);
    size_t ndirs = 0, kept = 0;
    dirs[ndirs++] = dir;
    for (size_t i = fs->nops; i > 0; i--) {
        const struct name_op *op = &fs->ops[i - 1];
        if ((op->del_dir && holds(dirs, ndirs, op->del_dir)) ||
            (op->add_dir && holds(dirs, ndirs, op->add_dir))) {
            taken[i - 1] = true;
            dirs[ndirs++] = op->del_dir;
            dirs[ndirs++] = op->add_dir;
        }
    }
    for (size_t i = 0; i < fs->nops; i++) {
        if (taken[i]) {
            op_apply(&fs->durable, &fs->ops[i]);
            op_done(&fs->ops[i]);
        } else {
            fs->ops[kept++] = fs->ops[i];
        }
    }
    fs->nops = kept;
    mem_free(dirs);
    mem_free(taken);
}

static int crash_dir_sync(void *self, const char *path, struct status *st)
{
    struct crash_fs *fs = self;
    struct inode *dir;
    int rc;
    TRY(enter(fs, st));
    TRY(find_dir(fs, path, &dir, st));
    TRY(count_sync(fs, st));
    commit_names(fs, dir);
out:
    return leave(fs, rc);
}

static int crash_dir_list(void *self, const char *path, char ***ret_names, size_t *ret_n,
                          struct status *st)
{
    struct crash_fs *fs = self;
    struct inode *dir;
    int rc;
    TRY(enter(fs, st));
    TRY(find_dir(fs, path, &dir, st));
    char **names = xalloc(fs->now.n * sizeof *names);
    size_t n = 0;
    for (size_t i = 0; i < fs->now.n; i++) {
        if (fs->now.v[i].dir == dir) {
            names[n++] = xstrdup(fs->now.v[i].name);
        }
    }
    *ret_names = names;
    *ret_n = n;
out:
    return leave(fs, rc);
}

static bool dir_is_empty(const struct crash_fs *fs, const struct inode *dir)
{
    for (size_t i = 0; i < fs->now.n; i++) {
        if (fs->now.v[i].dir == dir) {
            return false;
        }
    }
    return true;
}

static int crash_rename(void *self, const char *from, const char *to, struct status *st)
{
    struct crash_fs *fs = self;
    struct inode *from_dir, *to_dir, *ino, *target;
    char *from_name = xalloc(strlen(from) + 1), *to_name = xalloc(strlen(to) + 1);
    int rc;
    TRY(enter(fs, st));
    if (!resolve(fs, from, &from_dir, from_name, &ino) || !ino || !from_dir ||
        !resolve(fs, to, &to_dir, to_name, &target) || !to_dir) {
        FAIL(st, ST_NOT_FOUND, "rename %s to %s: no such file or directory", from, to);
    }
    if (target && (target->is_dir != ino->is_dir || !dir_is_empty(fs, target))) {
        FAIL(st, ST_IO, "rename %s to %s: the target is in the way", from, to);
    }
    TRY(count_change(fs, st));
    if (target != ino) {
        change_names(fs, (struct name_op){from_dir, to_dir, from_name, to_name, ino});
    }
out:
    mem_free(from_name);
    mem_free(to_name);
    return leave(fs, rc);
}

static int remove_name(struct crash_fs *fs, const char *path, bool want_dir, struct status *st)
{
    struct inode *dir, *ino;
    char *name = xalloc(strlen(path) + 1);
    int rc;
    TRY(enter(fs, st));
    if (!resolve(fs, path, &dir, name, &ino) || !ino || !dir) {
        FAIL(st, ST_NOT_FOUND, "remove %s: no such file or directory", path);
    }
    if (ino->is_dir != want_dir) {
        FAIL(st, ST_IO, "remove %s: %s a directory", path, ino->is_dir ? "is" : "is not");
    }
    if (!dir_is_empty(fs, ino)) {
        FAIL(st, ST_IO, "remove %s: directory not empty", path);
    }
    TRY(count_change(fs, st));
    change_names(fs, (struct name_op){.del_dir = dir, .del_name = name});
out:
    mem_free(name);
    return leave(fs, rc);
}

static int crash_unlink(void *self, const char *path, struct status *st)
{
    return remove_name(self, path, false, st);
}

static int crash_dir_remove(void *self, const char *path, struct status *st)
{
    return remove_name(self, path, true, st);
}

static int crash_stat(void *self, const char *path, bool follow, bool *ret_is_dir,
                      uint64_t *ret_size, struct status *st)
{
    struct crash_fs *fs = self;
    struct inode *ino;
    int rc;
    (void)follow; /* there are no links */
    TRY(enter(fs, st));
    if (!resolve(fs, path, NULL, NULL, &ino) || !ino) {
        FAIL(st, ST_NOT_FOUND, "stat %s: no such file or directory", path);
    }
    *ret_is_dir = ino->is_dir;
    *ret_size = ino->now.n;
out:
    return leave(fs, rc);
}

static int crash_map(void *self, const char *path, struct mapping *ret_map, struct status *st)
{
    struct crash_fs *fs = self;
    struct inode *ino;
    int rc;
    TRY(enter(fs, st));
    if (!resolve(fs, path, NULL, NULL, &ino) || !ino) {
        FAIL(st, ST_NOT_FOUND, "map %s: no such file or directory", path);
    }
    if (ino->is_dir) {
        FAIL(st, ST_IO, "map %s: is a directory", path);
    }
    uint8_t *copy = alloc_try_aligned(64, MAX(ino->now.n, (size_t)1)); /* formats rely on it */
    CHECK(copy);
    if (ino->now.n) {
        memcpy(copy, ino->now.p, ino->now.n);
    }
    ret_map->p = copy;
    ret_map->n = ino->now.n;
out:
    return leave(fs, rc);
}

static void crash_unmap(struct mapping *map)
{
    mem_free((void *)(uintptr_t)map->p);
}

struct crash_fs *crash_fs_new(uint64_t seed)
{
    struct crash_fs *fs = xalloc(sizeof *fs);
    pthread_mutex_init(&fs->mutex, NULL);
    fs->rng = seed;
    fs->space = UINT64_MAX;
    fs->root = inode_new(fs, true);
    fs->be = (struct file_backend){
        .self = fs,
        .open = crash_open,
        .close = crash_close,
        .appendv = crash_appendv,
        .pwritev = crash_pwritev,
        .pread = crash_pread,
        .size = crash_size,
        .truncate = crash_truncate,
        .sync = crash_sync,
        .preallocate = crash_preallocate,
        .dir_make = crash_dir_make,
        .dir_sync = crash_dir_sync,
        .dir_list = crash_dir_list,
        .rename = crash_rename,
        .unlink = crash_unlink,
        .dir_remove = crash_dir_remove,
        .stat = crash_stat,
        .map = crash_map,
        .unmap = crash_unmap,
    };
    file_set_backend(&fs->be);
    return fs;
}

void crash_fs_free(struct crash_fs *fs)
{
    if (!fs) {
        return;
    }
    file_set_backend(NULL);
    struct inode *next;
    for (struct inode *ino = fs->inodes; ino; ino = next) {
        next = ino->next;
        buf_done(&ino->now);
        buf_done(&ino->durable);
        mem_free(ino);
    }
    for (size_t i = 0; i < fs->nops; i++) {
        op_done(&fs->ops[i]);
    }
    entries_clear(&fs->now);
    entries_clear(&fs->durable);
    mem_free(fs->now.v);
    mem_free(fs->durable.v);
    mem_free(fs->ops);
    pthread_mutex_destroy(&fs->mutex);
    mem_free(fs);
}

void crash_fs_arm(struct crash_fs *fs, enum crash_mode mode, long nth_sync)
{
    pthread_mutex_lock(&fs->mutex);
    fs->mode = mode;
    fs->crash_in_syncs = nth_sync;
    pthread_mutex_unlock(&fs->mutex);
}

void crash_fs_arm_change(struct crash_fs *fs, enum crash_mode mode, long nth_change)
{
    pthread_mutex_lock(&fs->mutex);
    fs->mode = mode;
    fs->crash_in_changes = nth_change;
    pthread_mutex_unlock(&fs->mutex);
}

void crash_fs_power_off(struct crash_fs *fs, enum crash_mode mode)
{
    pthread_mutex_lock(&fs->mutex);
    power_off(fs, mode);
    pthread_mutex_unlock(&fs->mutex);
}

bool crash_fs_is_off(struct crash_fs *fs)
{
    pthread_mutex_lock(&fs->mutex);
    bool off = fs->off;
    pthread_mutex_unlock(&fs->mutex);
    return off;
}

void crash_fs_restart(struct crash_fs *fs)
{
    pthread_mutex_lock(&fs->mutex);
    fs->off = false;
    fs->generation++;
    fs->crash_in_syncs = fs->crash_in_changes = fs->fail_in_syncs = 0;
    fs->space = UINT64_MAX;
    pthread_mutex_unlock(&fs->mutex);
}

static long locked_read(struct crash_fs *fs, const long *v)
{
    pthread_mutex_lock(&fs->mutex);
    long got = *v;
    pthread_mutex_unlock(&fs->mutex);
    return got;
}

long crash_fs_syncs(struct crash_fs *fs)
{
    return locked_read(fs, &fs->syncs);
}

long crash_fs_changes(struct crash_fs *fs)
{
    return locked_read(fs, &fs->changes);
}

void crash_fs_fail_sync(struct crash_fs *fs, long nth)
{
    pthread_mutex_lock(&fs->mutex);
    fs->fail_in_syncs = nth;
    pthread_mutex_unlock(&fs->mutex);
}

void crash_fs_set_space(struct crash_fs *fs, uint64_t bytes)
{
    pthread_mutex_lock(&fs->mutex);
    fs->space = bytes;
    pthread_mutex_unlock(&fs->mutex);
}
