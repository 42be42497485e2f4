/*
 * px_names.c - names and key-value lists of requests.
 *
 * THREADS  Any.
 */
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
