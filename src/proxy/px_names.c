/*
 * px_names.c - names and key-value lists of requests.
 *
 * THREADS  Any.
 */
#include "base/utf8.h"
#include "proxy/px_int.h"
#include "schema/names.h"

int px_check_collection_name(const struct proxy *px, const char *name, struct status *st)
{
    return name_check(NAME_COLLECTION, slice_of(name), px->lim.max_name_length, st);
}

int px_check_partition_name(const struct proxy *px, const char *name, struct status *st)
{
    return name_check(NAME_PARTITION, slice_of(name), px->lim.max_name_length, st);
}

int px_check_alias_name(const struct proxy *px, const char *name, struct status *st)
{
    return name_check(NAME_ALIAS, slice_of(name), px->lim.max_name_length, st);
}

int px_check_database_name(const struct proxy *px, const char *name, struct status *st)
{
    return name_check(NAME_DATABASE, slice_of(name), px->lim.max_name_length, st);
}

int px_check_index_name(const struct proxy *px, const char *name, struct status *st)
{
    return name_check(NAME_INDEX, slice_of(name), px->lim.max_name_length, st);
}

const char *px_kv(size_t n, Milvus__Proto__Common__KeyValuePair *const *kv, const char *key)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(kv[i]->key, key) == 0) {
            return kv[i]->value;
        }
    }
    return NULL;
}

void px_kv_add(struct px_kv_list *l, struct arena *ar, const char *key, const char *value)
{
    Milvus__Proto__Common__KeyValuePair *kv = ARENA_NEW(ar, Milvus__Proto__Common__KeyValuePair);

    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        Milvus__Proto__Common__KeyValuePair **grown = arena_alloc(ar, cap * sizeof *grown);
        if (l->n) {
            memcpy(grown, l->kv, l->n * sizeof *grown);
        }
        l->kv = grown;
        l->cap = cap;
    }
    milvus__proto__common__key_value_pair__init(kv);
    kv->key = key;
    kv->value = value;
    l->kv[l->n++] = kv;
}

#define TTL_MAX_S 3155760000LL /* a hundred years */

static int check_ttl(const char *value, struct status *st)
{
    int64_t ttl;

    if (!parse_i64(slice_of(value), &ttl)) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "collection TTL is not a valid positive integer: %s", value);
    }
    if (ttl < -1 || ttl > TTL_MAX_S) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "collection TTL is out of range, expect [-1, %lld], got %lld", TTL_MAX_S,
                       (long long)ttl);
    }
    return 0;
}

int px_check_properties(size_t n, px_kv_pb *const *kv, struct status *st)
{
    static const char *const flags[] = { "mmap.enabled", "lazyload.enabled",
                                         "partitionkey.isolation", "allow_insert_auto_id",
                                         "collection.autocompaction.enabled" };
    bool flag;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        if (strcmp(kv[i]->key, "mmap_enabled") == 0) {
            kv[i]->key = "mmap.enabled";
        }
        if (strcmp(kv[i]->key, "collection.ttl.seconds") == 0) {
            TRY(check_ttl(kv[i]->value, st));
        }
        for (size_t j = 0; j < ARRAY_LEN(flags); j++) {
            if (strcmp(kv[i]->key, flags[j]) == 0 && !parse_bool(slice_of(kv[i]->value), &flag)) {
                FAIL(st, ERR_PARAMETER_INVALID, "invalid %s value: %s, expected: true, false",
                     flags[j], kv[i]->value);
            }
        }
    }
out:
    return rc;
}
