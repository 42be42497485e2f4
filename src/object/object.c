/*
 * object.c - the door of the object store: checks keys, then calls the implementation.
 *
 * The rules for keys are those that a folder, S3 and a shell can all live with; they also keep a
 * key from leaving the folder ("..", a leading '/') and from meeting our temporary files (a leading
 * dot).
 *
 * THREADS  No state, no locks.
 */
#include "object/object.h"
#include "object/object_int.h"

enum { COMPONENT_MAX = 200, DELETE_BATCH = 1000 };

static bool char_ok(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '=' || c == '@' || c == '+' || c == '-';
}

/* Whole components, except that the last one may be empty or cut short in a prefix. */
static bool path_ok(struct slice s, bool is_prefix)
{
    size_t len = 0;
    if (s.n > OBJECT_KEY_MAX) {
        return false;
    }
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '/') {
            if (len == 0) {
                return false;
            }
            len = 0;
            continue;
        }
        if (!char_ok(s.p[i]) || (len == 0 && s.p[i] == '.') || ++len > COMPONENT_MAX) {
            return false;
        }
    }
    return is_prefix || len > 0;
}

bool object_key_valid(struct slice key)
{
    return path_ok(key, false);
}

static int key_check(struct slice key, struct status *st)
{
    if (!object_key_valid(key)) {
        return st_fail(st, ST_INVALID, "\"%.*s\" is not an object key",
                       (int)MIN(key.n, (size_t)200), key.n ? key.p : "");
    }
    return 0;
}

static int prefix_check(struct slice prefix, struct status *st)
{
    if (!path_ok(prefix, true)) {
        return st_fail(st, ST_INVALID, "\"%.*s\" is not a prefix of object keys",
                       (int)MIN(prefix.n, (size_t)200), prefix.p);
    }
    return 0;
}

void object_close(struct object_store *os)
{
    if (os) {
        os->ops->close(os);
    }
}

/* ---- writing ---- */

int object_writer_open(struct object_store *os, struct slice key, struct object_writer **ret_ow,
                       struct status *st)
{
    int rc;
    TRY(key_check(key, st));
    rc = os->ops->writer_open(os, key, ret_ow, st);
out:
    return rc;
}

int object_appendv(struct object_writer *ow, const struct file_part *parts, size_t nparts,
                   struct status *st)
{
    int rc;
    TRY(ow->os->ops->appendv(ow, parts, nparts, st));
    for (size_t i = 0; i < nparts; i++) {
        ow->size += parts[i].n;
    }
out:
    return rc;
}

int object_append(struct object_writer *ow, const void *p, size_t n, struct status *st)
{
    struct file_part part = {p, n};
    return object_appendv(ow, &part, 1, st);
}

uint64_t object_writer_size(const struct object_writer *ow)
{
    return ow->size;
}

int object_commit(struct object_writer *ow, struct status *st)
{
    return ow->os->ops->commit(ow, st);
}

void object_abort(struct object_writer *ow)
{
    if (ow) {
        ow->os->ops->abort(ow);
    }
}

int object_put(struct object_store *os, struct slice key, const struct file_part *parts,
               size_t nparts, struct status *st)
{
    struct object_writer *ow = NULL;
    int rc;
    TRY(object_writer_open(os, key, &ow, st));
    TRY(object_appendv(ow, parts, nparts, st));
    TRY(object_commit(TAKE(ow), st));
out:
    object_abort(ow);
    return rc;
}

int object_delete(struct object_store *os, struct slice key, struct status *st)
{
    int rc;
    TRY(key_check(key, st));
    rc = os->ops->del(os, key, st);
out:
    return rc;
}

int object_delete_prefix(struct object_store *os, struct slice prefix, struct status *st)
{
    struct object_range range = {.prefix = prefix, .limit = DELETE_BATCH};
    struct object_list list;
    struct arena *ar = NULL;
    int rc;

    if (prefix.n == 0) {
        return st_fail(st, ST_INVALID, "deleting all objects is not served");
    }
    TRY(prefix_check(prefix, st));
    ar = arena_new(0);
    do {
        arena_reset(ar);
        TRY(os->ops->list(os, &range, ar, &list, st));
        for (size_t i = 0; i < list.n; i++) {
            TRY(os->ops->del(os, list.items[i].key, st));
        }
    } while (list.more);
    if (prefix.p[prefix.n - 1] == '/') {
        TRY(os->ops->delete_folder(os, prefix, st));
    }
out:
    arena_free(ar);
    return rc;
}

/* ---- reading ---- */

int object_stat(struct object_store *os, struct slice key, struct object_info *ret,
                struct status *st)
{
    int rc;
    TRY(key_check(key, st));
    rc = os->ops->stat(os, key, ret, st);
out:
    return rc;
}

int object_get(struct object_store *os, struct slice key, uint64_t off, void *p, size_t n,
               size_t *ret_n, struct status *st)
{
    int rc;
    TRY(key_check(key, st));
    rc = os->ops->get(os, key, off, p, n, ret_n, st);
out:
    return rc;
}

int object_map(struct object_store *os, struct slice key, struct mapping **ret_map,
               struct status *st)
{
    int rc;
    TRY(key_check(key, st));
    rc = os->ops->map(os, key, ret_map, st);
out:
    return rc;
}

int object_descriptor(struct object_store *os, struct slice key)
{
    return object_key_valid(key) && os->ops->descriptor ? os->ops->descriptor(os, key) : -1;
}

int object_list(struct object_store *os, const struct object_range *range, struct arena *ar,
                struct object_list *ret, struct status *st)
{
    struct object_range r = *range;
    int rc;
    TRY(prefix_check(r.prefix, st));
    if (r.limit == 0 || r.limit > OBJECT_LIST_MAX) {
        r.limit = OBJECT_LIST_MAX;
    }
    rc = os->ops->list(os, &r, ar, ret, st);
out:
    return rc;
}
