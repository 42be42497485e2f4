/* px_database.c - databases. THREADS  Workers. */
#include "proxy/px_methods.h"

int px_create_database(struct px_call *pc, const PX_PB(CreateDatabaseRequest) *req,
                       px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__CreateDatabaseReq r = ELANUS__CREATE_DATABASE_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    TRY(px_check_database_name(pc->px, req->db_name, st));
    r.name = req->db_name;
    r.properties = req->properties;
    r.n_properties = req->n_properties;
    TRY(root->create_database(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_drop_database(struct px_call *pc, const PX_PB(DropDatabaseRequest) *req, px_status_pb *resp,
                     struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__NameReq r = ELANUS__NAME_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    TRY(px_check_database_name(pc->px, req->db_name, st));
    r.db_name = req->db_name;
    r.name = req->db_name;
    TRY(root->drop_database(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_alter_database(struct px_call *pc, const PX_PB(AlterDatabaseRequest) *req,
                      px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__AlterDatabaseReq r = ELANUS__ALTER_DATABASE_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc = 0;

    (void)resp;
    if (req->n_properties == 0 && req->n_delete_keys == 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "alter database requires either properties or deletekeys");
    }
    r.name = px_db(pc, req->db_name);
    r.properties = req->properties;
    r.n_properties = req->n_properties;
    r.delete_keys = req->delete_keys;
    r.n_delete_keys = req->n_delete_keys;
    TRY(root->alter_database(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

static int list(struct px_call *pc, Elanus__DatabaseList *ret, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;

    return root->list_databases(root->self, &pc->call, &empty, ret, st);
}

int px_list_databases(struct px_call *pc, const PX_PB(ListDatabasesRequest) *req,
                      PX_PB(ListDatabasesResponse) *resp, struct status *st)
{
    Elanus__DatabaseList all = ELANUS__DATABASE_LIST__INIT;
    size_t n;
    int rc;

    (void)req;
    TRY(list(pc, &all, st));
    n = all.n_databases;
    resp->db_names = arena_alloc(pc->ar, (n + 1) * sizeof resp->db_names[0]);
    resp->created_timestamp = arena_alloc(pc->ar, (n + 1) * sizeof resp->created_timestamp[0]);
    resp->db_ids = arena_alloc(pc->ar, (n + 1) * sizeof resp->db_ids[0]);
    for (size_t i = 0; i < n; i++) {
        resp->db_names[i] = all.databases[i]->name;
        resp->created_timestamp[i] = all.databases[i]->created_ts;
        resp->db_ids[i] = all.databases[i]->id;
    }
    resp->n_db_names = resp->n_created_timestamp = resp->n_db_ids = n;
out:
    return rc;
}

int px_describe_database(struct px_call *pc, const PX_PB(DescribeDatabaseRequest) *req,
                         PX_PB(DescribeDatabaseResponse) *resp, struct status *st)
{
    Elanus__DatabaseList all = ELANUS__DATABASE_LIST__INIT;
    const char *name = px_db(pc, req->db_name);
    int rc;

    TRY(list(pc, &all, st));
    for (size_t i = 0; i < all.n_databases; i++) {
        const Elanus__Database *db = all.databases[i];
        if (strcmp(db->name, name) == 0) {
            resp->db_name = db->name;
            resp->dbid = db->id;
            resp->created_timestamp = db->created_ts;
            resp->properties = db->properties;
            resp->n_properties = db->n_properties;
            goto out;
        }
    }
    FAIL(st, ERR_DATABASE_NOT_FOUND, "%s[database=%s]", err_text(ERR_DATABASE_NOT_FOUND), name);
out:
    return rc;
}
