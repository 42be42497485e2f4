/*
 * co_root_describe.c - what there is: one collection with everything, all of a database.
 *
 * THREADS   Readers: `state` shared, answers are copies.
 */
#include "coord/co_int.h"

static void **copy_all(const struct co_list *l, struct arena *ar, size_t *ret_n)
{
    void **v = arena_alloc(ar, (l->n + 1) * sizeof(void *));

    for (size_t i = 0; i < l->n; i++) {
        v[i] = co__copy(l->v[i]->pb, ar);
    }
    *ret_n = l->n;
    return v;
}

void co__info(const struct co_coll *c, struct arena *ar, Elanus__CollectionInfo *ret)
{
    ret->collection = co__copy(c->rec->pb, ar);
    ret->partitions = (Elanus__Partition **)copy_all(&c->parts, ar, &ret->n_partitions);
    ret->indexes = (Elanus__Index **)copy_all(&c->indexes, ar, &ret->n_indexes);
    ret->aliases = arena_alloc(ar, (c->aliases.n + 1) * sizeof(char *));
    for (size_t i = 0; i < c->aliases.n; i++) {
        const Elanus__Alias *a = c->aliases.v[i]->pb;
        ret->aliases[ret->n_aliases++] = arena_strdup(ar, a->alias);
    }
    if (c->load) {
        ret->load = co__copy(c->load->pb, ar);
    } else if (c->loading.target) {
        ret->load = co__copy(&c->loading.target->pb, ar);
        ret->load->status = ELANUS__LOAD_STATUS__LOAD_LOADING;
    }
}

int co__root_describe_collection(void *self, const struct call *call,
                                 const Elanus__DescribeCollectionReq *req,
                                 Elanus__CollectionInfo *resp, struct status *st)
{
    struct coord *co = self;
    const Elanus__Database *db;
    struct co_coll *c;
    int rc = 0;

    rwlock_read(&co->state);
    if (req->name[0]) {
        TRY(co__find_db(co, req->db_name, &db, st));
        c = co__lookup(co, db->name, req->name);
        if (!c) {
            FAIL(st, ERR_COLLECTION_NOT_FOUND,
                 "can't find collection[database=%s][collection=%s]", db->name, req->name);
        }
    } else {
        c = co__by_id(co, req->collection_id);
        if (!c) {
            FAIL(st, ERR_COLLECTION_NOT_FOUND,
                 "can't find collection[database=%s][collection=%" PRId64 "]",
                 co__db(req->db_name), req->collection_id);
        }
    }
    co__info(c, call->ar, resp);
out:
    rwlock_release(&co->state);
    return rc;
}

static int by_id(const void *a, const void *b)
{
    const struct co_coll *x = *(struct co_coll *const *)a, *y = *(struct co_coll *const *)b;
    return (x->id > y->id) - (x->id < y->id);
}

int co__root_list_collections(void *self, const struct call *call,
                              const Elanus__ListCollectionsReq *req,
                              Elanus__CollectionList *resp, struct status *st)
{
    struct coord *co = self;
    const Elanus__Database *db;
    struct co_coll **all;
    struct slice key;
    size_t pos = 0, n = 0;
    void *v;
    int rc = 0;

    rwlock_read(&co->state);
    TRY(co__find_db(co, req->db_name, &db, st));
    all = arena_alloc(call->ar, (str_map_count(co->names) + 1) * sizeof(struct co_coll *));
    while (str_map_next(co->names, &pos, &key, &v)) {
        if (strcmp(co__pb(v)->db_name, db->name) == 0) {
            all[n++] = v;
        }
    }
    qsort(all, n, sizeof(struct co_coll *), by_id);
    resp->collections = arena_alloc(call->ar, (n + 1) * sizeof(Elanus__CollectionInfo *));
    for (size_t i = 0; i < n; i++) {
        Elanus__CollectionInfo *info = ARENA_NEW(call->ar, Elanus__CollectionInfo);
        elanus__collection_info__init(info);
        co__info(all[i], call->ar, info);
        resp->collections[resp->n_collections++] = info;
    }
out:
    rwlock_release(&co->state);
    return rc;
}
