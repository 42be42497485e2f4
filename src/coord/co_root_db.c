/*
 * co_root_db.c - databases: create, drop, alter, list.
 *
 * The default database exists from the first start (coord.c) and cannot be dropped.
 */
#include "coord/co_int.h"

int co__root_create_database(void *self, const struct call *call,
                             const Elanus__CreateDatabaseReq *req, Elanus__Empty *resp,
                             struct status *st)
{
    struct coord *co = self;
    struct co_notice no;
    struct co_txn tx;
    Elanus__Database db;
    int64_t max = config_int(co->opts.config, "rootCoord.maxDatabaseNum");
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    elanus__database__init(&db);
    if (str_map_get(co->dbs, slice_of(req->name))) {
        FAIL(st, ERR_PARAMETER_INVALID, "database already exist: %s", req->name);
    }
    if ((int64_t)str_map_count(co->dbs) >= max) {
        FAIL(st, ERR_DATABASE_LIMIT, "exceeded the limit number of database[limit=%" PRId64 "]",
             max);
    }
    TRY(co__id(co, 1, call->deadline_us, &db.id, st));
    TRY(co__ts(co, 1, call->deadline_us, &db.created_ts, st));
    db.name = req->name;
    db.properties = req->properties;
    db.n_properties = req->n_properties;
    co__put(&tx, CO_DATABASE, &db);
    TRY(co__commit(&tx, st));
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

int co__root_drop_database(void *self, const struct call *call, const Elanus__NameReq *req,
                           Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    const char *name = req->name[0] ? req->name : req->db_name;
    const Elanus__Database *db;
    struct co_notice no;
    struct co_txn tx;
    size_t pos = 0;
    struct slice key;
    void *v;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    if (strcmp(name, CO_DEFAULT_DB) == 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "can not drop default database");
    }
    if (!name[0]) {
        FAIL(st, ERR_DATABASE_INVALID_NAME, "invalid database name[database=]");
    }
    TRY(co__find_db(co, name, &db, st));
    while (str_map_next(co->names, &pos, &key, &v)) {
        const Elanus__Collection *c = co__pb(v);
        if (strcmp(c->db_name, name) == 0) {
            FAIL(st, ERR_PARAMETER_INVALID,
                 "database:%s not empty, must drop all collections before drop database", name);
        }
    }
    co__delete(&tx, CO_DATABASE, db);
    TRY(co__commit(&tx, st));
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

int co__root_alter_database(void *self, const struct call *call,
                            const Elanus__AlterDatabaseReq *req, Elanus__Empty *resp,
                            struct status *st)
{
    struct coord *co = self;
    const Elanus__Database *old;
    Elanus__Database db;
    struct co_notice no;
    struct co_txn tx;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    if (req->n_properties > 0 && req->n_delete_keys > 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "can not provide properties and delete_keys at same time");
    }
    TRY(co__find_db(co, req->name, &old, st));
    db = *old;
    co__kv_merge(old->properties, old->n_properties, req->properties, req->n_properties,
                 req->delete_keys, req->n_delete_keys, call->ar, &db.properties,
                 &db.n_properties);
    co__put(&tx, CO_DATABASE, &db);
    TRY(co__commit(&tx, st));
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

static int by_id(const void *a, const void *b)
{
    const Elanus__Database *x = *(Elanus__Database *const *)a, *y = *(Elanus__Database *const *)b;
    return (x->id > y->id) - (x->id < y->id);
}

int co__root_list_databases(void *self, const struct call *call, const Elanus__Empty *req,
                            Elanus__DatabaseList *resp, struct status *st)
{
    struct coord *co = self;
    size_t pos = 0;
    struct slice key;
    void *v;

    (void)req;
    (void)st;
    rwlock_read(&co->state);
    resp->databases = arena_alloc(call->ar, (str_map_count(co->dbs) + 1) * sizeof(void *));
    while (str_map_next(co->dbs, &pos, &key, &v)) {
        resp->databases[resp->n_databases++] = co__copy(((struct co_rec *)v)->pb, call->ar);
    }
    rwlock_release(&co->state);
    qsort(resp->databases, resp->n_databases, sizeof(void *), by_id);
    return 0;
}
