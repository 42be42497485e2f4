/* co_root_alias.c - aliases: second names of collections, unique in their database. */
#include "coord/co_int.h"

static const Elanus__Alias *find_alias(struct coord *co, const char *db, const char *alias,
                                       struct arena *ar)
{
    struct co_rec *rec = str_map_get(co->aliases, co__name_key(db, alias, ar));
    return rec ? rec->pb : NULL;
}

/* The collection an alias may point to: by its own name, not through another alias. */
static int target(struct coord *co, const char *db, const char *name, struct arena *ar,
                  struct co_coll **ret, struct status *st)
{
    struct co_coll *c = str_map_get(co->names, co__name_key(db, name, ar));

    if (!c) {
        return st_fail(st, ERR_COLLECTION_NOT_FOUND,
                       "collection not found[database=%s][collection=%s]", db, name);
    }
    *ret = c;
    return 0;
}

static int put_alias(struct coord *co, const struct call *call, const Elanus__AliasReq *req,
                     bool alter, struct co_notice *no, struct status *st)
{
    const Elanus__Database *db;
    const Elanus__Alias *there;
    struct co_coll *c = NULL;
    Elanus__Alias a;
    struct co_txn tx;
    int rc = 0;

    co__txn_init(&tx, co, call->ar);
    elanus__alias__init(&a);
    TRY(co__find_db(co, req->db_name, &db, st));
    if (str_map_get(co->names, co__name_key(db->name, req->alias, call->ar))) {
        FAIL(st, ERR_ALIAS_COLLECTION_CONFLICT,
             "alias and collection name conflict[database=%s][alias=%s]", db->name, req->alias);
    }
    TRY(target(co, db->name, req->collection_name, call->ar, &c, st));
    there = find_alias(co, db->name, req->alias, call->ar);
    if (alter && !there) {
        FAIL(st, ERR_ALIAS_NOT_FOUND, "alias not found[database=%s][alias=%s]", db->name,
             req->alias);
    }
    if (there && there->collection_id == c->id) {
        goto out;
    }
    if (there && !alter) {
        struct co_coll *other = id_map_ptr(co->colls, there->collection_id);
        FAIL(st, ERR_ALIAS_EXISTS,
             "%s is alias to another collection: %s: alias already exist[database=%s][alias=%s]",
             req->alias, co__pb(other)->name, db->name, req->alias);
    }
    a.db_name = db->name;
    a.alias = req->alias;
    a.collection_id = c->id;
    TRY(co__ts(co, 1, call->deadline_us, &a.created_ts, st));
    if (there) {
        co__notice(no, id_map_ptr(co->colls, there->collection_id));
    }
    co__notice(no, c);
    co__notice_name(no, req->alias);
    co__put(&tx, CO_ALIAS, &a);
    TRY(co__commit(&tx, st));
out:
    co__txn_done(&tx);
    return rc;
}

int co__root_create_alias(void *self, const struct call *call, const Elanus__AliasReq *req,
                          Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    struct co_notice no;
    int rc;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    rc = put_alias(co, call, req, false, &no, st);
    co__ddl_end(co, &no);
    return rc;
}

int co__root_alter_alias(void *self, const struct call *call, const Elanus__AliasReq *req,
                         Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    struct co_notice no;
    int rc;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    rc = put_alias(co, call, req, true, &no, st);
    co__ddl_end(co, &no);
    return rc;
}

int co__root_drop_alias(void *self, const struct call *call, const Elanus__AliasReq *req,
                        Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    const Elanus__Database *db;
    const Elanus__Alias *a;
    struct co_notice no;
    struct co_txn tx;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    TRY(co__find_db(co, req->db_name, &db, st));
    a = find_alias(co, db->name, req->alias, call->ar);
    if (!a) {
        goto out;
    }
    co__notice(&no, id_map_ptr(co->colls, a->collection_id));
    co__delete(&tx, CO_ALIAS, a);
    TRY(co__commit(&tx, st));
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(Elanus__Alias *const *)a)->alias, (*(Elanus__Alias *const *)b)->alias);
}

/* Of a collection, of a database (no collection named), or one alias (alias named). */
int co__root_list_aliases(void *self, const struct call *call, const Elanus__AliasReq *req,
                          Elanus__AliasList *resp, struct status *st)
{
    struct coord *co = self;
    const Elanus__Database *db;
    struct co_coll *only = NULL;
    struct slice key;
    size_t pos = 0;
    void *v;
    int rc = 0;

    rwlock_read(&co->state);
    TRY(co__find_db(co, req->db_name, &db, st));
    if (req->collection_name[0]) {
        TRY(co__find(co, db->name, req->collection_name, &only, st));
    }
    resp->aliases = arena_alloc(call->ar, (str_map_count(co->aliases) + 1) * sizeof(void *));
    resp->collection_names =
        arena_alloc(call->ar, (str_map_count(co->aliases) + 1) * sizeof(char *));
    while (str_map_next(co->aliases, &pos, &key, &v)) {
        const Elanus__Alias *a = ((struct co_rec *)v)->pb;
        if (strcmp(a->db_name, db->name) == 0 && (!only || a->collection_id == only->id) &&
            (!req->alias[0] || strcmp(a->alias, req->alias) == 0)) {
            resp->aliases[resp->n_aliases++] = co__copy(&a->pb, call->ar);
        }
    }
    if (req->alias[0] && resp->n_aliases == 0) {
        FAIL(st, ERR_ALIAS_NOT_FOUND, "alias not found[database=%s][alias=%s]", db->name,
             req->alias);
    }
    qsort(resp->aliases, resp->n_aliases, sizeof(void *), by_name);
    for (size_t i = 0; i < resp->n_aliases; i++) {
        const struct co_coll *c = id_map_ptr(co->colls, resp->aliases[i]->collection_id);
        resp->collection_names[resp->n_collection_names++] =
            arena_strdup(call->ar, co__pb(c)->name);
    }
out:
    rwlock_release(&co->state);
    return rc;
}
