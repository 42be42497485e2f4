/*
 * meta_rocksdb.c - the metadata store of a standalone server: RocksDB in the data folder.
 *
 * WHAT        A key-value backend for meta_embed.c, and read-only views for tools.
 * FORMAT      docs/format.md, section "Metadata". A user key is stored as it is (it starts with
 *             '/'); its value is the version (u64, little-endian) and the user's bytes. Our own
 *             keys start with a zero byte: \0format (u32), \0revision (u64), and \0lease<key> for
 *             every key that a lease holds, so that an open can delete those without a full scan.
 * INVARIANTS  Every batch writes \0revision, so data and revision never disagree. A list reads
 *             both through one iterator, which is one moment of the store (snapshots are not
 *             available in a read-only view, iterators are).
 * THREADS     RocksDB is thread-safe. `handle` lets readers in beside each other; it is taken for
 *             writing only to replace a handle that refuses writes, see FAILURE.
 * MEMORY      Metadata is a few megabytes: write buffers of 1 MiB, a block cache of 1 MiB, two
 *             background threads, no preallocated logs. test_meta_rocksdb measures it.
 * FAILURE     Batches are synced. After a failed write RocksDB refuses all further ones, and its C
 *             interface has no resume: recover() closes and opens the database again, once a probe
 *             file shows that the disk takes bytes. Until then reads work on the old handle.
 *             A table file that does not fit on the disk ends the process where RocksDB is built
 *             with assertions, as Debian's is. So no table may be due while the disk is full: an
 *             open probes for room first, and a commit is refused when the disk is nearly full and
 *             the write buffer half full (small ones: seven eighths). Until then the log's
 *             preallocated space takes it.
 *             Log recovery tolerates only an unfinished last record: damage before that is an
 *             error to be looked at, not a silent step back in time.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/file.h"
#include "meta/meta_int.h"
#include <errno.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define META_FORMAT_VERSION 1
#define KEY_FORMAT ((struct slice){"\0format", 7})
#define KEY_REVISION ((struct slice){"\0revision", 9})
#define KEY_LEASE ((struct slice){"\0lease", 6})
enum { VALUE_HEADER = 8, PROBE_BYTES = 2 << 20, WRITE_BUFFER = 1 << 20 };
/* Below NEARLY_FULL bytes on the disk a commit looks at the write buffer; below ROOMY an open does
 * not trust the file system's word (quotas) and writes a probe. */
#define NEARLY_FULL ((uint64_t)4 << 20)
#define ROOMY ((uint64_t)64 << 20)
/* Bytes of a change that may use the buffer up: counters on which reads depend, for hours. */
#define SMALL 128u

struct meta_rocks {
    struct meta_embed base; /* first */
    char *dir;
    char *view_dir; /* read-only: RocksDB's own files, removed at close */
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read_options;
    rocksdb_writeoptions_t *write_options;
    struct rwlock handle; /* RANK_LEAF: guards db */
    rocksdb_t *db;        /* NULL only after a recover() that could close but not open */
};

/* Turns RocksDB's words into a status. Takes err. */
static int rocks_fail(const struct meta_rocks *mr, char *err, const char *doing, struct status *st)
{
    int code = ST_IO;
    int rc;
    if (strncmp(err, "Corruption", 10) == 0) {
        rc = st_fail(st, ST_CORRUPT, "metadata in \"%s\" is damaged (%s): %s", mr->dir, doing, err);
        rocksdb_free(err);
        return rc;
    }
    if (strstr(err, "/LOCK") && (strstr(err, "lock file") || strstr(err, "lock hold"))) {
        rc = st_fail(st, ST_BUSY, "metadata folder \"%s\" is in use by another process", mr->dir);
        rocksdb_free(err);
        return rc;
    }
    if (strstr(err, "No space left") || strstr(err, "NoSpace") || strstr(err, "quota exceeded")) {
        code = ST_NO_SPACE;
    }
    rc = st_fail(st, code, "metadata in \"%s\" (%s): %s", mr->dir, doing, err);
    rocksdb_free(err);
    return rc;
}

static rocksdb_options_t *make_options(bool readonly)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(1 << 20);

    rocksdb_block_based_options_set_block_cache(t, cache);
    rocksdb_cache_destroy(cache); /* the table options hold it */
    rocksdb_options_set_block_based_table_factory(o, t);
    rocksdb_block_based_options_destroy(t);

    rocksdb_options_set_create_if_missing(o, !readonly);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_wal_recovery_mode(o, 0 /* tolerate an unfinished last record */);
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    rocksdb_options_set_write_buffer_size(o, WRITE_BUFFER);
    rocksdb_options_set_max_write_buffer_number(o, 2);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_max_open_files(o, readonly ? -1 : 64); /* a view must hold all */
    rocksdb_options_set_recycle_log_file_num(o, 0);
    rocksdb_options_set_manifest_preallocation_size(o, 64 << 10);
    rocksdb_options_set_max_manifest_file_size(o, 1 << 20);
    rocksdb_options_set_target_file_size_base(o, 4 << 20);
    rocksdb_options_set_info_log_level(o, 2 /* warnings */);
    rocksdb_options_set_max_log_file_size(o, 256 << 10);
    rocksdb_options_set_keep_log_file_num(o, 2);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);
    rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
    return o;
}

/* ---- reading ---- */

/* A raw value into buf; *ret_found says whether the key exists. Holds: mr->handle */
static int raw_get(struct meta_rocks *mr, struct slice key, rocksdb_pinnableslice_t **ret,
                   struct status *st)
{
    char *err = NULL;
    rocksdb_pinnableslice_t *v = rocksdb_get_pinned(mr->db, mr->read_options, key.p, key.n, &err);
    if (err) {
        return rocks_fail(mr, err, "reading", st);
    }
    *ret = v;
    return 0;
}

/* An integer of n bytes under one of our own keys; *ret is untouched when it is absent. */
static int raw_get_int(struct meta_rocks *mr, struct slice key, size_t n, uint64_t *ret,
                       struct status *st)
{
    rocksdb_pinnableslice_t *v = NULL;
    int rc;
    TRY(raw_get(mr, key, &v, st));
    if (v) {
        size_t len;
        const char *p = rocksdb_pinnableslice_value(v, &len);
        if (len != n) {
            FAIL(st, ST_CORRUPT, "metadata in \"%s\": \"%s\" has %zu bytes instead of %zu", mr->dir,
                 key.p + 1, len, n);
        }
        *ret = n == 4 ? load_u32(p) : load_u64(p);
    }
out:
    if (v) {
        rocksdb_pinnableslice_destroy(v);
    }
    return rc;
}

static int decode(const struct meta_rocks *mr, struct slice key, struct slice raw, bool keys_only,
                  struct arena *ar, struct meta_item *ret, struct status *st)
{
    struct meta_item item = {0};
    int rc;
    if (raw.n < VALUE_HEADER || (int64_t)load_u64(raw.p) <= 0) {
        FAIL(st, ST_CORRUPT, "metadata in \"%s\": the value of \"%.*s\" has no version", mr->dir,
             SLICE_ARG(key));
    }
    item.version = (int64_t)load_u64(raw.p);
    TRY(meta__copy(ar, key, &item.key, st));
    TRY(meta__copy(ar, slice_n(raw.p + VALUE_HEADER, keys_only ? 0 : raw.n - VALUE_HEADER),
                   &item.value, st));
    *ret = item;
out:
    return rc;
}

/* Holds on success: mr->handle for reading */
static int handle_take(struct meta_rocks *mr, struct status *st)
{
    rwlock_read(&mr->handle);
    if (!mr->db) {
        rwlock_release(&mr->handle);
        return st_fail(st, ST_UNAVAILABLE, "metadata in \"%s\" could not be opened again", mr->dir);
    }
    return 0;
}

static int rocks_get(struct meta_embed *me, struct slice key, struct arena *ar,
                     struct meta_item *ret, struct status *st)
{
    struct meta_rocks *mr = (struct meta_rocks *)me;
    rocksdb_pinnableslice_t *v = NULL;
    struct meta_item item = {.value = {"", 0}};
    int rc = handle_take(mr, st);
    if (rc != 0) {
        return rc;
    }
    TRY(raw_get(mr, key, &v, st));
    if (v) {
        size_t n;
        const char *p = rocksdb_pinnableslice_value(v, &n);
        TRY(decode(mr, key, slice_n(p, n), false, ar, &item, st));
    } else {
        TRY(meta__copy(ar, key, &item.key, st));
    }
    *ret = item;
out:
    if (v) {
        rocksdb_pinnableslice_destroy(v);
    }
    rwlock_release(&mr->handle);
    return rc;
}

static struct slice iter_key(const rocksdb_iterator_t *it)
{
    size_t n;
    const char *p = rocksdb_iter_key(it, &n);
    return slice_n(p, n);
}

static struct slice iter_value(const rocksdb_iterator_t *it)
{
    size_t n;
    const char *p = rocksdb_iter_value(it, &n);
    return slice_n(p, n);
}

/* The end of an iteration, or an error that looks like one. */
static int iter_check(const struct meta_rocks *mr, const rocksdb_iterator_t *it, struct status *st)
{
    char *err = NULL;
    rocksdb_iter_get_error(it, &err);
    return err ? rocks_fail(mr, err, "listing", st) : 0;
}

static int iter_revision(const struct meta_rocks *mr, rocksdb_iterator_t *it, int64_t *ret,
                         struct status *st)
{
    struct slice v;
    int rc;
    rocksdb_iter_seek(it, KEY_REVISION.p, KEY_REVISION.n);
    TRY(iter_check(mr, it, st));
    if (!rocksdb_iter_valid(it) || !slice_eq(iter_key(it), KEY_REVISION)) {
        *ret = 0;
        goto out;
    }
    v = iter_value(it);
    if (v.n != 8) {
        FAIL(st, ST_CORRUPT, "metadata in \"%s\": the revision has %zu bytes", mr->dir, v.n);
    }
    *ret = (int64_t)load_u64(v.p);
out:
    return rc;
}

static int list_add(struct arena *ar, struct meta_list *list, size_t *cap, struct status *st)
{
    if (list->n == *cap) {
        size_t more = *cap ? *cap * 2 : 32;
        struct meta_item *items = arena_try_array(ar, more, sizeof *items);
        if (!items) {
            return st_fail(st, ST_NO_MEMORY, "no memory for a list of %zu metadata keys", more);
        }
        if (list->n) {
            memcpy(items, list->items, list->n * sizeof *items);
        }
        list->items = items;
        *cap = more;
    }
    return 0;
}

static int rocks_list(struct meta_embed *me, const struct meta_range *range, struct arena *ar,
                      struct meta_list *ret, struct status *st)
{
    struct meta_rocks *mr = (struct meta_rocks *)me;
    struct slice prefix = range->prefix.n ? range->prefix : SLICE_LIT("/");
    struct slice from = slice_cmp(range->start_after, prefix) > 0 ? range->start_after : prefix;
    struct meta_list list = {0};
    rocksdb_iterator_t *it = NULL;
    size_t cap = 0, bytes = 0;
    int rc = handle_take(mr, st);
    if (rc != 0) {
        return rc;
    }
    it = rocksdb_create_iterator(mr->db, mr->read_options);
    TRY(iter_revision(mr, it, &list.revision, st));
    for (rocksdb_iter_seek(it, from.p, from.n); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
        struct slice key = iter_key(it);
        if (!slice_starts(key, prefix)) {
            break;
        }
        if (slice_cmp(key, range->start_after) <= 0) {
            continue;
        }
        if (list.n == range->limit || bytes >= META_LIST_BYTES) {
            list.more = true;
            break;
        }
        TRY(list_add(ar, &list, &cap, st));
        TRY(decode(mr, key, iter_value(it), range->keys_only, ar, &list.items[list.n], st));
        bytes += list.items[list.n].value.n;
        list.n++;
    }
    TRY(iter_check(mr, it, st));
    *ret = list;
out:
    if (it) {
        rocksdb_iter_destroy(it);
    }
    rwlock_release(&mr->handle);
    return rc;
}

/* ---- writing ---- */

static void batch_put_int(rocksdb_writebatch_t *b, struct slice key, uint64_t v, size_t n)
{
    rocksdb_writebatch_put(b, key.p, key.n, (const char *)&v, n);
}

static int batch_fill(rocksdb_writebatch_t *b, const struct meta_change *changes, size_t n,
                      int64_t revision, struct status *st)
{
    char lease_key[META_KEY_MAX + 8];
    uint64_t version = (uint64_t)revision;
    memcpy(lease_key, KEY_LEASE.p, KEY_LEASE.n);
    for (size_t i = 0; i < n; i++) {
        const struct meta_change *c = &changes[i];
        if (c->key.n > META_KEY_MAX) {
            return st_fail(st, ST_INTERNAL, "metadata key of %zu bytes", c->key.n);
        }
        memcpy(lease_key + KEY_LEASE.n, c->key.p, c->key.n);
        if (c->kind == META_PUT) {
            const char *const keys[] = {c->key.p};
            const size_t nkeys[] = {c->key.n};
            const char *const values[] = {(const char *)&version, c->value.p};
            const size_t nvalues[] = {VALUE_HEADER, c->value.n};
            rocksdb_writebatch_putv(b, 1, keys, nkeys, c->value.n ? 2 : 1, values, nvalues);
        } else {
            rocksdb_writebatch_delete(b, c->key.p, c->key.n);
        }
        if (c->kind == META_PUT && c->lease) {
            rocksdb_writebatch_put(b, lease_key, KEY_LEASE.n + c->key.n, "", 0);
        } else {
            rocksdb_writebatch_delete(b, lease_key, KEY_LEASE.n + c->key.n);
        }
    }
    batch_put_int(b, KEY_REVISION, version, 8);
    return 0;
}

static int disk_free(const struct meta_rocks *mr, uint64_t *ret, struct status *st)
{
    struct statvfs v;
    if (statvfs(mr->dir, &v) != 0) {
        return st_errno(st, errno, "free space of \"%s\"", mr->dir);
    }
    *ret = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}

/* Holds: mr->handle */
static int room_check(const struct meta_rocks *mr, const struct meta_change *changes, size_t n,
                      struct status *st)
{
    uint64_t left = 0, used = 0, bytes = 0, limit;
    int rc;
    TRY(disk_free(mr, &left, st));
    if (left >= NEARLY_FULL) {
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        bytes += changes[i].key.n + changes[i].value.n;
    }
    limit = bytes <= SMALL ? WRITE_BUFFER / 8 * 7 : WRITE_BUFFER / 2;
    if (rocksdb_property_int(mr->db, "rocksdb.cur-size-active-mem-table", &used) != 0 ||
        used > limit) {
        FAIL(st, ST_NO_SPACE, "metadata in \"%s\": no space, %llu bytes are left on the disk",
             mr->dir, (unsigned long long)left);
    }
out:
    return rc;
}

static int batch_write(struct meta_rocks *mr, rocksdb_writebatch_t *b, bool *ret_unsure,
                       struct status *st)
{
    char *err = NULL;
    rocksdb_write(mr->db, mr->write_options, b, &err);
    if (err) {
        *ret_unsure = true;
        return rocks_fail(mr, err, "writing", st);
    }
    return 0;
}

static int rocks_commit(struct meta_embed *me, const struct meta_change *changes, size_t n,
                        int64_t revision, bool *ret_unsure, struct status *st)
{
    struct meta_rocks *mr = (struct meta_rocks *)me;
    rocksdb_writebatch_t *b = NULL;
    int rc = handle_take(mr, st);
    if (rc != 0) {
        *ret_unsure = true;
        return rc;
    }
    b = rocksdb_writebatch_create();
    TRY(room_check(mr, changes, n, st));
    TRY(batch_fill(b, changes, n, revision, st));
    TRY(batch_write(mr, b, ret_unsure, st));
out:
    rocksdb_writebatch_destroy(b);
    rwlock_release(&mr->handle);
    return rc;
}

/* ---- opening ---- */

/* Keys of leases that ended with the process that held them. Holds: nobody else has mr */
static int drop_leased(struct meta_rocks *mr, int64_t *revision, struct status *st)
{
    rocksdb_iterator_t *it = rocksdb_create_iterator(mr->db, mr->read_options);
    rocksdb_writebatch_t *b = rocksdb_writebatch_create();
    bool unsure;
    int rc;
    for (rocksdb_iter_seek(it, KEY_LEASE.p, KEY_LEASE.n); rocksdb_iter_valid(it);
         rocksdb_iter_next(it)) {
        struct slice key = iter_key(it);
        if (!slice_starts(key, KEY_LEASE)) {
            break;
        }
        rocksdb_writebatch_delete(b, key.p, key.n);
        rocksdb_writebatch_delete(b, key.p + KEY_LEASE.n, key.n - KEY_LEASE.n);
    }
    TRY(iter_check(mr, it, st));
    if (rocksdb_writebatch_count(b) > 0) {
        batch_put_int(b, KEY_REVISION, (uint64_t)*revision + 1, 8);
        TRY(batch_write(mr, b, &unsure, st));
        (*revision)++;
    }
out:
    rocksdb_iter_destroy(it);
    rocksdb_writebatch_destroy(b);
    return rc;
}

static int format_check(struct meta_rocks *mr, bool readonly, struct status *st)
{
    uint64_t format = 0;
    uint64_t revision = 0;
    rocksdb_writebatch_t *b = NULL;
    bool unsure;
    int rc;
    TRY(raw_get_int(mr, KEY_FORMAT, 4, &format, st));
    if (format == META_FORMAT_VERSION) {
        goto out;
    }
    if (format > META_FORMAT_VERSION) {
        FAIL(st, ST_UNSUPPORTED,
             "metadata in \"%s\" has format %llu, this version knows formats up to %d", mr->dir,
             (unsigned long long)format, META_FORMAT_VERSION);
    }
    TRY(raw_get_int(mr, KEY_REVISION, 8, &revision, st));
    if (revision) {
        FAIL(st, ST_CORRUPT, "metadata in \"%s\" has a revision and no format", mr->dir);
    }
    if (readonly) {
        FAIL(st, ST_NOT_FOUND, "\"%s\" holds no metadata yet", mr->dir);
    }
    b = rocksdb_writebatch_create();
    batch_put_int(b, KEY_FORMAT, META_FORMAT_VERSION, 4);
    TRY(batch_write(mr, b, &unsure, st));
out:
    if (b) {
        rocksdb_writebatch_destroy(b);
    }
    return rc;
}

static struct meta_rocks *rocks_new(const char *dir, bool readonly)
{
    struct meta_rocks *mr = xalloc(sizeof *mr);
    mr->dir = xstrdup(dir);
    mr->options = make_options(readonly);
    mr->read_options = rocksdb_readoptions_create();
    mr->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(mr->write_options, 1);
    rwlock_init(&mr->handle, RANK_LEAF);
    return mr;
}

static void rocks_free(struct meta_rocks *mr)
{
    struct status st = STATUS_INIT;
    if (!mr) {
        return;
    }
    if (mr->db) {
        rocksdb_close(mr->db);
    }
    rocksdb_options_destroy(mr->options);
    rocksdb_readoptions_destroy(mr->read_options);
    rocksdb_writeoptions_destroy(mr->write_options);
    rwlock_done(&mr->handle);
    if (mr->view_dir) {
        (void)path_remove_tree(mr->view_dir, &st); /* a leftover in the temporary folder */
    }
    mem_free(mr->view_dir);
    mem_free(mr->dir);
    mem_free(mr);
}

static void rocks_close(struct meta_embed *me)
{
    meta__embed_done(me);
    rocks_free((struct meta_rocks *)me);
}

/* Writes as much as opening a database takes, and takes it away again. */
static int probe_space(const struct meta_rocks *mr, struct status *st)
{
    struct status ignored = STATUS_INIT;
    char *path = path_join(mr->dir, "space.probe");
    struct file *f = NULL;
    char *zeros = xalloc(PROBE_BYTES);
    int rc;
    TRY(file_open(path, FILE_WRITE | FILE_CREATE | FILE_TRUNC, &f, st));
    TRY(file_append(f, zeros, PROBE_BYTES, st));
    TRY(file_sync(f, st));
out:
    file_close(f);
    (void)path_unlink(path, &ignored);
    mem_free(zeros);
    mem_free(path);
    return rc;
}

/* Holds: me->lock; takes mr->handle for writing over the reopening: readers wait for it. */
static int rocks_recover(struct meta_embed *me, int64_t *ret_revision, struct status *st)
{
    struct meta_rocks *mr = (struct meta_rocks *)me;
    uint64_t revision = 0;
    char *err = NULL;
    int rc;

    rc = probe_space(mr, st);
    if (rc != 0) {
        return st_context(st, "metadata refuses writes since one failed");
    }
    rwlock_write(&mr->handle);
    if (mr->db) {
        rocksdb_close(mr->db);
    }
    mr->db = rocksdb_open(mr->options, mr->dir, &err);
    if (err) {
        rc = rocks_fail(mr, err, "opening again", st);
        goto out;
    }
    TRY(raw_get_int(mr, KEY_REVISION, 8, &revision, st));
    *ret_revision = (int64_t)revision;
out:
    rwlock_release(&mr->handle);
    return rc;
}

static int rocks_refresh(struct meta_embed *me, int64_t *ret_revision, struct status *st)
{
    struct meta_rocks *mr = (struct meta_rocks *)me;
    uint64_t revision = 0;
    char *err = NULL;
    int rc;
    if (!me->readonly) {
        *ret_revision = atomic_load(&me->revision);
        return 0;
    }
    rwlock_write(&mr->handle);
    rocksdb_try_catch_up_with_primary(mr->db, &err);
    if (err) {
        rc = rocks_fail(mr, err, "catching up", st);
        goto out;
    }
    TRY(raw_get_int(mr, KEY_REVISION, 8, &revision, st));
    *ret_revision = (int64_t)revision;
out:
    rwlock_release(&mr->handle);
    return rc;
}

static const struct meta_kv_ops rocks_kv = {
    .get = rocks_get,
    .list = rocks_list,
    .commit = rocks_commit,
    .recover = rocks_recover,
    .refresh = rocks_refresh,
    .close = rocks_close,
};

int meta_rocksdb_open(const char *dir, struct meta **ret_m, struct status *st)
{
    struct meta_rocks *mr = NULL;
    uint64_t stored = 0, left = 0;
    int64_t revision;
    char *err = NULL;
    int rc;

    TRY(dir_make(dir, st));
    mr = rocks_new(dir, false);
    TRY(disk_free(mr, &left, st));
    if (left < ROOMY) {
        TRY(probe_space(mr, st));
    }
    mr->db = rocksdb_open(mr->options, dir, &err);
    if (err) {
        rc = rocks_fail(mr, err, "opening", st);
        goto out;
    }
    TRY(format_check(mr, false, st));
    TRY(raw_get_int(mr, KEY_REVISION, 8, &stored, st));
    revision = (int64_t)stored;
    TRY(drop_leased(mr, &revision, st));
    meta__embed_init(&mr->base, &rocks_kv, revision, false);
    *ret_m = &TAKE(mr)->base.base;
out:
    rocks_free(mr);
    return rc;
}

/* A private folder for what RocksDB writes about a view (an info log). */
static int view_dir_make(char **ret, struct status *st)
{
    const char *tmp = getenv("TMPDIR");
    char *path = path_join(tmp && *tmp ? tmp : "/tmp", "elanus-meta-XXXXXX");
    if (!mkdtemp(path)) {
        int rc = st_errno(st, errno, "create folder \"%s\"", path);
        mem_free(path);
        return rc;
    }
    *ret = path;
    return 0;
}

int meta_open_readonly(const char *dir, struct meta **ret_m, struct status *st)
{
    struct meta_rocks *mr = NULL;
    char *current = path_join(dir, "CURRENT");
    uint64_t revision = 0, size;
    bool exists, is_dir;
    char *err = NULL;
    int rc;

    TRY(path_stat(current, &exists, &is_dir, &size, st));
    if (!exists || is_dir) {
        FAIL(st, ST_NOT_FOUND, "\"%s\" holds no metadata", dir);
    }
    mr = rocks_new(dir, true);
    TRY(view_dir_make(&mr->view_dir, st));
    mr->db = rocksdb_open_as_secondary(mr->options, dir, mr->view_dir, &err);
    if (err) {
        rc = rocks_fail(mr, err, "opening read-only", st);
        goto out;
    }
    TRY(format_check(mr, true, st));
    TRY(raw_get_int(mr, KEY_REVISION, 8, &revision, st));
    meta__embed_init(&mr->base, &rocks_kv, (int64_t)revision, true);
    *ret_m = &TAKE(mr)->base.base;
out:
    rocks_free(mr);
    mem_free(current);
    return rc;
}
