/*
 * px_cache.c - collection definitions, as the coordinator told them.
 *
 * WHAT     A map from "<database>\0<name or alias>" to an immutable, counted px_coll. Misses are
 *          not kept.
 * RACE     A look-up asks the coordinator without holding the lock; an invalidation may arrive in
 *          between, and what the look-up then brings home is older than it. So invalidations are
 *          counted: a look-up notes the count before it asks, and its answer is kept only when no
 *          invalidation (of anything: they are rare) has been counted since.
 * THREADS  Any. One read-write lock (RANK_PROXY_CACHE), never held over a call.
 * MEMORY   One arena per collection. Past CACHE_MAX entries the cache starts over.
 */
#include "base/alloc.h"
#include "base/lock.h"
#include "base/map.h"
#include "proxy/px_int.h"
#include "proxy/px_route.h"
#include <stdatomic.h>

#define CACHE_MAX 65536
#define KEY_MAX 1024

struct px_cache {
    struct rwlock lock;
    struct str_map *map;
    uint64_t generation;
};

/* Databases' names are at most 255 bytes long, and so on; longer ones are in no cache. */
static struct slice key_of(char *dst, const char *db_name, const char *name)
{
    size_t ndb = strlen(db_name), nname = strlen(name);

    if (ndb + 1 + nname > KEY_MAX) {
        return slice_n(NULL, 0);
    }
    memcpy(dst, db_name, ndb + 1);
    memcpy(dst + ndb + 1, name, nname);
    return slice_n(dst, ndb + 1 + nname);
}

/* ---- entries ---- */

int px_coll_new(const Elanus__CollectionInfo *info, struct px_coll **ret, struct status *st)
{
    struct px_coll *coll = xalloc(sizeof *coll);
    struct buf wire;
    int rc = 0;

    atomic_init(&coll->refs, 1);
    atomic_init(&coll->route, NULL);
    coll->ar = arena_new(0);
    buf_init(&wire, (size_t)64 << 20);
    /* The answer belongs to one request; packing and unpacking copies all of it. */
    if (!proto_pack(&info->pb, &wire)) {
        FAIL(st, ST_NO_MEMORY, "collection %s: its definition does not fit into memory",
             info->collection ? info->collection->name : "");
    }
    coll->info = proto_unpack(&elanus__collection_info__descriptor, buf_slice(&wire), coll->ar, st);
    if (!coll->info) {
        rc = st->code;
        goto out;
    }
    coll->pb = coll->info->collection;
    if (!coll->pb || !coll->pb->schema) {
        FAIL(st, ST_INTERNAL, "the coordinator described a collection without a schema");
    }
    TRY(schema_new(coll->pb->schema, &coll->schema, st));
    for (uint32_t i = 0; i < coll->schema->nfields; i++) {
        const struct field *f = &coll->schema->fields[i];
        if (dtype_is_vector(f->type)) {
            coll->first_vector = coll->first_vector ? coll->first_vector : f;
            coll->nvectors++;
        }
    }
    *ret = TAKE(coll);
out:
    buf_done(&wire);
    px_coll_unref(coll);
    return rc;
}

struct px_coll *px_coll_ref(struct px_coll *coll)
{
    atomic_fetch_add_explicit(&coll->refs, 1, memory_order_relaxed);
    return coll;
}

void px_coll_unref(struct px_coll *coll)
{
    if (!coll || atomic_fetch_sub_explicit(&coll->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    px_route_free(atomic_load_explicit(&coll->route, memory_order_relaxed));
    schema_unref(coll->schema);
    arena_free(coll->ar);
    mem_free(coll);
}

static void unref_value(void *value)
{
    px_coll_unref(value);
}

/* ---- the map ---- */

struct px_cache *px_cache_new(void)
{
    struct px_cache *c = xalloc(sizeof *c);

    rwlock_init(&c->lock, RANK_PROXY_CACHE);
    c->map = str_map_new();
    return c;
}

void px_cache_free(struct px_cache *c)
{
    if (!c) {
        return;
    }
    str_map_free(c->map, unref_value);
    rwlock_done(&c->lock);
    mem_free(c);
}

uint64_t px_cache_generation(struct px_cache *c)
{
    uint64_t g;

    rwlock_read(&c->lock);
    g = c->generation;
    rwlock_release(&c->lock);
    return g;
}

size_t px_cache_count(struct px_cache *c)
{
    size_t n;

    rwlock_read(&c->lock);
    n = str_map_count(c->map);
    rwlock_release(&c->lock);
    return n;
}

struct px_coll *px_cache_get(struct px_cache *c, const char *db_name, const char *name)
{
    char key[KEY_MAX + 1];
    struct slice k = key_of(key, db_name, name);
    struct px_coll *coll;

    if (!k.p) {
        return NULL;
    }
    rwlock_read(&c->lock);
    coll = str_map_get(c->map, k);
    if (coll) {
        px_coll_ref(coll);
    }
    rwlock_release(&c->lock);
    return coll;
}

void px_cache_put(struct px_cache *c, const char *db_name, const char *name, struct px_coll *coll,
                  uint64_t generation)
{
    char key[KEY_MAX + 1];
    struct slice k = key_of(key, db_name, name);
    struct str_map *old_map = NULL;
    struct px_coll *old = NULL;

    if (!k.p) {
        return;
    }
    rwlock_write(&c->lock);
    if (generation == c->generation) {
        if (str_map_count(c->map) >= CACHE_MAX) {
            old_map = c->map;
            c->map = str_map_new();
        }
        old = str_map_put(c->map, k, px_coll_ref(coll));
    }
    rwlock_release(&c->lock);
    px_coll_unref(old);
    str_map_free(old_map, unref_value);
}

/* Removes the entries of one collection, by whatever names. Holds: lock for writing. */
static void remove_id(struct px_cache *c, int64_t id)
{
    struct slice key;
    void *value;
    size_t pos = 0;

    while (str_map_next(c->map, &pos, &key, &value)) {
        if (((struct px_coll *)value)->pb->id == id) {
            px_coll_unref(str_map_remove(c->map, key));
            pos = 0; /* a removal may move what follows */
        }
    }
}

void px_cache_invalidate(struct px_cache *c, int64_t collection_id, const char *db_name, size_t n,
                         const char *const *names)
{
    char key[KEY_MAX + 1];

    rwlock_write(&c->lock);
    c->generation++;
    for (size_t i = 0; i < n; i++) {
        struct slice k = key_of(key, db_name, names[i]);
        if (k.p) {
            px_coll_unref(str_map_remove(c->map, k));
        }
    }
    if (collection_id != 0) {
        remove_id(c, collection_id);
    }
    rwlock_release(&c->lock);
}
