/*
 * meta_mem.c - a metadata store in memory: the same transactions, watches and leases, no disk.
 *
 * For tests of the rooms above, and the plainest statement of what a backend must do. A sorted
 * array, since tests hold hundreds of keys and the order comes for free.
 *
 * THREADS  mem->lock guards the array and lets readers in beside a transaction; commits are one at
 *          a time anyway (meta_embed.c).
 */
#include "base/alloc.h"
#include "meta/meta_int.h"

struct mem_item {
    char *key, *value;
    size_t nkey, nvalue;
    int64_t version;
};

struct meta_mem {
    struct meta_embed base; /* first */
    struct rwlock lock;     /* RANK_LEAF */
    struct mem_item *items; /* sorted by key */
    size_t n, cap;
    int64_t revision;
    const char *fail_below; /* meta_mem_fail_txn */
    int fail_in, fail_code;
};

static struct slice key_of(const struct mem_item *it)
{
    return slice_n(it->key, it->nkey);
}

/* First item whose key is >= key. Holds: mem->lock */
static size_t lower_bound(const struct meta_mem *mem, struct slice key)
{
    size_t lo = 0, hi = mem->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (slice_cmp(key_of(&mem->items[mid]), key) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static int item_copy(const struct mem_item *it, bool keys_only, struct arena *ar,
                     struct meta_item *ret, struct status *st)
{
    struct meta_item item = {.version = it->version};
    int rc;
    TRY(meta__copy(ar, key_of(it), &item.key, st));
    TRY(meta__copy(ar, slice_n(it->value, keys_only ? 0 : it->nvalue), &item.value, st));
    *ret = item;
out:
    return rc;
}

static int mem_get(struct meta_embed *me, struct slice key, struct arena *ar, struct meta_item *ret,
                   struct status *st)
{
    struct meta_mem *mem = (struct meta_mem *)me;
    int rc;
    rwlock_read(&mem->lock);
    size_t i = lower_bound(mem, key);
    if (i < mem->n && slice_eq(key_of(&mem->items[i]), key)) {
        rc = item_copy(&mem->items[i], false, ar, ret, st);
    } else {
        struct meta_item item = {.value = {"", 0}};
        rc = meta__copy(ar, key, &item.key, st);
        if (rc == 0) {
            *ret = item;
        }
    }
    rwlock_release(&mem->lock);
    return rc;
}

static int mem_list(struct meta_embed *me, const struct meta_range *range, struct arena *ar,
                    struct meta_list *ret, struct status *st)
{
    struct meta_mem *mem = (struct meta_mem *)me;
    struct meta_list list = {0};
    size_t first, end, bytes = 0;
    int rc = 0;

    rwlock_read(&mem->lock);
    first = lower_bound(mem, range->prefix);
    if (range->start_after.n && slice_cmp(range->start_after, range->prefix) >= 0) {
        first = lower_bound(mem, range->start_after);
        if (first < mem->n && slice_eq(key_of(&mem->items[first]), range->start_after)) {
            first++;
        }
    }
    end = first;
    while (end < mem->n && slice_starts(key_of(&mem->items[end]), range->prefix) &&
           end - first < range->limit && bytes < META_LIST_BYTES) {
        bytes += range->keys_only ? 0 : mem->items[end].nvalue;
        end++;
    }
    list.more = end < mem->n && slice_starts(key_of(&mem->items[end]), range->prefix);
    list.revision = mem->revision;
    list.items = arena_try_array(ar, MAX(end - first, (size_t)1), sizeof *list.items);
    if (!list.items) {
        FAIL(st, ST_NO_MEMORY, "no memory for a list of %zu metadata keys", end - first);
    }
    for (size_t i = first; i < end; i++) {
        TRY(item_copy(&mem->items[i], range->keys_only, ar, &list.items[list.n], st));
        list.n++;
    }
    *ret = list;
out:
    rwlock_release(&mem->lock);
    return rc;
}

/* Holds: mem->lock for writing */
static void apply(struct meta_mem *mem, const struct meta_change *c, int64_t revision)
{
    size_t i = lower_bound(mem, c->key);
    bool there = i < mem->n && slice_eq(key_of(&mem->items[i]), c->key);
    struct mem_item *it;
    if (!there && c->kind == META_DELETE) {
        return;
    }
    if (mem->n == mem->cap) {
        mem->cap = mem->cap ? mem->cap * 2 : 64;
        mem->items = xrealloc(mem->items, mem->cap * sizeof *mem->items);
    }
    it = &mem->items[i];
    if (there) {
        mem_free(it->value);
    }
    if (c->kind == META_DELETE) {
        mem_free(it->key);
        memmove(it, it + 1, (mem->n - i - 1) * sizeof *it);
        mem->n--;
        return;
    }
    if (!there) {
        memmove(it + 1, it, (mem->n - i) * sizeof *it);
        mem->n++;
        it->key = xstrndup(c->key.p, c->key.n);
        it->nkey = c->key.n;
    }
    it->value = xalloc(MAX(c->value.n, (size_t)1));
    if (c->value.n) {
        memcpy(it->value, c->value.p, c->value.n);
    }
    it->nvalue = c->value.n;
    it->version = revision;
}

/* Holds: mem->lock for writing */
static bool to_fail(struct meta_mem *mem, const struct meta_change *changes, size_t n)
{
    if (mem->fail_in <= 0) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (slice_starts(changes[i].key, slice_of(mem->fail_below))) {
            return --mem->fail_in == 0;
        }
    }
    return false;
}

static int mem_commit(struct meta_embed *me, const struct meta_change *changes, size_t n,
                      int64_t revision, bool *ret_unsure, struct status *st)
{
    struct meta_mem *mem = (struct meta_mem *)me;
    int rc = 0;
    rwlock_write(&mem->lock);
    if (to_fail(mem, changes, n)) {
        FAIL(st, mem->fail_code, "metadata transaction failed on demand");
    }
    for (size_t i = 0; i < n; i++) {
        apply(mem, &changes[i], revision);
    }
    mem->revision = revision;
    *ret_unsure = false;
out:
    rwlock_release(&mem->lock);
    return rc;
}

static void mem_close(struct meta_embed *me)
{
    struct meta_mem *mem = (struct meta_mem *)me;
    meta__embed_done(me);
    for (size_t i = 0; i < mem->n; i++) {
        mem_free(mem->items[i].key);
        mem_free(mem->items[i].value);
    }
    mem_free(mem->items);
    rwlock_done(&mem->lock);
    mem_free(mem);
}

static const struct meta_kv_ops mem_kv = {
    .get = mem_get,
    .list = mem_list,
    .commit = mem_commit,
    .close = mem_close,
};

struct meta *meta_mem_new(void)
{
    struct meta_mem *mem = xalloc(sizeof *mem);
    rwlock_init(&mem->lock, RANK_LEAF);
    meta__embed_init(&mem->base, &mem_kv, 0, false);
    return &mem->base.base;
}

void meta_mem_fail_txn(struct meta *m, const char *prefix, int n, int code)
{
    struct meta_mem *mem = (struct meta_mem *)m;
    CHECK(mem->base.kv == &mem_kv);
    rwlock_write(&mem->lock);
    mem->fail_below = prefix;
    mem->fail_in = n;
    mem->fail_code = code;
    rwlock_release(&mem->lock);
}
