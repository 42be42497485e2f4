/* px_alias.c - aliases. THREADS  Workers. */
#include "proxy/px_methods.h"

int px_create_alias(struct px_call *pc, const PX_PB(CreateAliasRequest) *req, px_status_pb *resp,
                    struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__AliasReq r = ELANUS__ALIAS_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    TRY(px_check_alias_name(pc->px, req->alias, st));
    TRY(px_check_collection_name(pc->px, req->collection_name, st));
    r.db_name = px_db(pc, req->db_name);
    r.collection_name = req->collection_name;
    r.alias = req->alias;
    TRY(root->create_alias(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_alter_alias(struct px_call *pc, const PX_PB(AlterAliasRequest) *req, px_status_pb *resp,
                   struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__AliasReq r = ELANUS__ALIAS_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    TRY(px_check_alias_name(pc->px, req->alias, st));
    TRY(px_check_collection_name(pc->px, req->collection_name, st));
    r.db_name = px_db(pc, req->db_name);
    r.collection_name = req->collection_name;
    r.alias = req->alias;
    TRY(root->alter_alias(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_drop_alias(struct px_call *pc, const PX_PB(DropAliasRequest) *req, px_status_pb *resp,
                  struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__AliasReq r = ELANUS__ALIAS_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    TRY(px_check_alias_name(pc->px, req->alias, st));
    r.db_name = px_db(pc, req->db_name);
    r.alias = req->alias;
    TRY(root->drop_alias(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

static int list(struct px_call *pc, const char *db, const char *collection, const char *alias,
                Elanus__AliasList *ret, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__AliasReq r = ELANUS__ALIAS_REQ__INIT;

    r.db_name = db;
    r.collection_name = collection;
    r.alias = alias;
    return root->list_aliases(root->self, &pc->call, &r, ret, st);
}

int px_describe_alias(struct px_call *pc, const PX_PB(DescribeAliasRequest) *req,
                      PX_PB(DescribeAliasResponse) *resp, struct status *st)
{
    Elanus__AliasList found = ELANUS__ALIAS_LIST__INIT;
    const char *db = px_db(pc, req->db_name);
    int rc;

    TRY(px_check_alias_name(pc->px, req->alias, st));
    TRY(list(pc, db, "", req->alias, &found, st));
    if (found.n_aliases == 0 || found.n_collection_names == 0) {
        FAIL(st, ERR_ALIAS_NOT_FOUND, "%s[database=%s][alias=%s]", err_text(ERR_ALIAS_NOT_FOUND),
             db, req->alias);
    }
    resp->db_name = db;
    resp->alias = req->alias;
    resp->collection = found.collection_names[0];
out:
    return rc;
}

int px_list_aliases(struct px_call *pc, const PX_PB(ListAliasesRequest) *req,
                    PX_PB(ListAliasesResponse) *resp, struct status *st)
{
    Elanus__AliasList found = ELANUS__ALIAS_LIST__INIT;
    int rc = 0;

    resp->db_name = px_db(pc, req->db_name);
    resp->collection_name = req->collection_name;
    if (req->collection_name[0] != '\0') {
        TRY(px_check_collection_name(pc->px, req->collection_name, st));
    }
    TRY(list(pc, resp->db_name, req->collection_name, "", &found, st));
    resp->aliases = arena_alloc(pc->ar, (found.n_aliases + 1) * sizeof resp->aliases[0]);
    for (size_t i = 0; i < found.n_aliases; i++) {
        resp->aliases[resp->n_aliases++] = found.aliases[i]->alias;
    }
out:
    return rc;
}
