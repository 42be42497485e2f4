/*
 * meta.c - the door of the metadata store: checks what every implementation would have to check,
 * then calls the implementation.
 *
 * Checked here: keys, sizes, counts, and that no two operations of a transaction touch one key
 * (etcd refuses that too; with it gone, the order of operations has no meaning to get wrong).
 *
 * THREADS  No state, no locks.
 */
#include "meta/meta.h"
#include "base/alloc.h"
#include "meta/meta_int.h"
#include <stdlib.h>

static int key_chars_check(struct slice key, const char *what, struct status *st)
{
    if (key.n == 0 || key.p[0] != '/') {
        return st_fail(st, ST_INVALID, "metadata %s \"%.*s\" does not start with '/'", what,
                       (int)MIN(key.n, (size_t)100), key.n ? key.p : "");
    }
    if (key.n > META_KEY_MAX) {
        return st_fail(st, ST_INVALID, "metadata %s \"%.100s...\" has %zu bytes, the limit is %d",
                       what, key.p, key.n, META_KEY_MAX);
    }
    for (size_t i = 0; i < key.n; i++) {
        if (key.p[i] < 0x20 || key.p[i] > 0x7e) {
            return st_fail(st, ST_INVALID,
                           "metadata %s \"%.*s...\": byte 0x%02x at %zu is not printable ASCII",
                           what, (int)MIN(i, (size_t)100), key.p, (unsigned)(uint8_t)key.p[i], i);
        }
    }
    return 0;
}

int meta__copy(struct arena *ar, struct slice s, struct slice *ret, struct status *st)
{
    if (s.n == 0) {
        *ret = (struct slice){"", 0};
        return 0;
    }
    struct slice c = arena_copy(ar, s);
    if (!c.p) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %zu bytes of metadata", s.n);
    }
    *ret = c;
    return 0;
}

void meta_close(struct meta *m)
{
    if (m) {
        m->ops->close(m);
    }
}

int meta_refresh(struct meta *m, struct status *st)
{
    return m->ops->refresh ? m->ops->refresh(m, st) : 0;
}

int meta_get(struct meta *m, struct slice key, struct arena *ar, struct meta_item *ret,
             struct status *st)
{
    int rc;
    TRY(key_chars_check(key, "key", st));
    rc = m->ops->get(m, key, ar, ret, st);
out:
    return rc;
}

int meta_list(struct meta *m, const struct meta_range *range, struct arena *ar,
              struct meta_list *ret, struct status *st)
{
    struct meta_range r = *range;
    int rc;
    if (r.prefix.n > 0) {
        TRY(key_chars_check(r.prefix, "prefix", st));
    }
    if (r.limit == 0 || r.limit > META_LIST_MAX) {
        r.limit = META_LIST_MAX;
    }
    rc = m->ops->list(m, &r, ar, ret, st);
out:
    return rc;
}

int meta_revision(struct meta *m, int64_t *ret, struct status *st)
{
    return m->ops->revision(m, ret, st);
}

static int op_cmp(const void *a, const void *b)
{
    const struct meta_op *x = *(const struct meta_op *const *)a;
    const struct meta_op *y = *(const struct meta_op *const *)b;
    int c = slice_cmp(x->key, y->key);
    /* A prefix before an equal key: neighbours then show every overlap. */
    return c ? c : (y->kind == META_DELETE_PREFIX) - (x->kind == META_DELETE_PREFIX);
}

/* Sorted, whatever a prefix covers follows it directly, so an overlap shows between neighbours. */
static int overlap_check(const struct meta_op *ops, size_t nops, struct status *st)
{
    const struct meta_op **sorted = NULL;
    int rc = 0;
    if (nops < 2) {
        return 0;
    }
    sorted = xalloc(nops * sizeof *sorted);
    for (size_t i = 0; i < nops; i++) {
        sorted[i] = &ops[i];
    }
    qsort(sorted, nops, sizeof *sorted, op_cmp);
    for (size_t i = 0; i + 1 < nops; i++) {
        const struct meta_op *a = sorted[i], *b = sorted[i + 1];
        if (slice_eq(a->key, b->key) ||
            (a->kind == META_DELETE_PREFIX && slice_starts(b->key, a->key))) {
            FAIL(st, ST_INVALID, "two operations of one metadata transaction touch \"%.*s\"",
                 SLICE_ARG(b->key));
        }
    }
out:
    mem_free(sorted);
    return rc;
}

static int op_check(const struct meta_op *op, struct status *st)
{
    int rc;
    switch (op->kind) {
    case META_PUT:
        TRY(key_chars_check(op->key, "key", st));
        if (op->value.n > META_VALUE_MAX) {
            FAIL(st, ST_TOO_LARGE, "metadata value of \"%.*s\" has %zu bytes, the limit is %d",
                 SLICE_ARG(op->key), op->value.n, META_VALUE_MAX);
        }
        break;
    case META_DELETE:
        TRY(key_chars_check(op->key, "key", st));
        break;
    case META_DELETE_PREFIX:
        TRY(key_chars_check(op->key, "prefix", st));
        if (op->key.n < 2) {
            FAIL(st, ST_INVALID, "deleting the metadata prefix \"/\" would delete everything");
        }
        break;
    default:
        FAIL(st, ST_INVALID, "unknown metadata operation %d", (int)op->kind);
    }
    rc = 0;
out:
    return rc;
}

int meta_txn(struct meta *m, const struct meta_cond *conds, size_t nconds,
             const struct meta_op *ops, size_t nops, int64_t *ret_revision, struct status *st)
{
    int64_t revision;
    size_t bytes = 0;
    int rc;
    if (nconds > META_TXN_OPS_MAX || nops > META_TXN_OPS_MAX) {
        FAIL(st, ST_TOO_LARGE,
             "metadata transaction of %zu conditions and %zu operations, the limit is %d each",
             nconds, nops, META_TXN_OPS_MAX);
    }
    for (size_t i = 0; i < nconds; i++) {
        TRY(key_chars_check(conds[i].key, "key", st));
        if (conds[i].kind != META_IF_VERSION && conds[i].kind != META_IF_EXISTS) {
            FAIL(st, ST_INVALID, "unknown metadata condition %d", (int)conds[i].kind);
        }
    }
    for (size_t i = 0; i < nops; i++) {
        TRY(op_check(&ops[i], st));
        bytes += ops[i].key.n + ops[i].value.n; /* each is bounded, and so is their number */
    }
    if (bytes > META_TXN_BYTES_MAX) {
        FAIL(st, ST_TOO_LARGE, "metadata transaction of %zu bytes, the limit is %d", bytes,
             META_TXN_BYTES_MAX);
    }
    TRY(overlap_check(ops, nops, st));
    TRY(m->ops->txn(m, conds, nconds, ops, nops, &revision, st));
    if (ret_revision) {
        *ret_revision = revision;
    }
out:
    return rc;
}

int meta_put(struct meta *m, struct slice key, struct slice value, int64_t *ret_revision,
             struct status *st)
{
    struct meta_op op = meta_op_put(key, value);
    return meta_txn(m, NULL, 0, &op, 1, ret_revision, st);
}

int meta_delete(struct meta *m, struct slice key, int64_t *ret_revision, struct status *st)
{
    struct meta_op op = meta_op_delete(key);
    return meta_txn(m, NULL, 0, &op, 1, ret_revision, st);
}

int meta_watch_open(struct meta *m, struct slice prefix, int64_t from_revision,
                    struct meta_watch **ret_w, struct status *st)
{
    int rc;
    if (prefix.n > 0) {
        TRY(key_chars_check(prefix, "prefix", st));
    }
    if (from_revision < 0) {
        FAIL(st, ST_INVALID, "watch from revision %lld", (long long)from_revision);
    }
    rc = m->ops->watch_open(m, prefix, from_revision, ret_w, st);
out:
    return rc;
}

int meta_watch_next(struct meta_watch *w, int64_t deadline_us, struct arena *ar,
                    struct meta_event *ret, struct status *st)
{
    return w->m->ops->watch_next(w, deadline_us, ar, ret, st);
}

void meta_watch_cancel(struct meta_watch *w)
{
    w->m->ops->watch_cancel(w);
}

void meta_watch_close(struct meta_watch *w)
{
    if (w) {
        w->m->ops->watch_close(w);
    }
}

int meta_lease_grant(struct meta *m, int64_t ttl_ms, int64_t *ret_lease, struct status *st)
{
    /* A day is far beyond use; it keeps the sums of microseconds small. */
    if (ttl_ms < 1 || ttl_ms > 86400000) {
        return st_fail(st, ST_INVALID, "lease of %lld ms, allowed are 1 to 86400000",
                       (long long)ttl_ms);
    }
    return m->ops->lease_grant(m, ttl_ms, ret_lease, st);
}

int meta_lease_keepalive(struct meta *m, int64_t lease, struct status *st)
{
    return m->ops->lease_keepalive(m, lease, st);
}

int meta_lease_revoke(struct meta *m, int64_t lease, struct status *st)
{
    return m->ops->lease_revoke(m, lease, st);
}
