/*
 * px_load.c - loading and releasing collections and partitions, and how far it is.
 *
 * THREADS  Workers. query.load returns when everything is readable, which may take minutes; clients
 *          with a deadline poll the progress.
 */
#include "proxy/px_methods.h"

#define DEFAULT_RESOURCE_GROUP "__default_resource_group"

/* ---- what may be loaded ---- */

static bool listed(const char *name, size_t n, const char *const *names)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* A list of fields must hold the keys and a vector; unknown names are refused. */
static int check_fields(const struct px_coll *coll, size_t n, const char *const *names,
                        struct status *st)
{
    const struct schema *s = coll->schema;
    bool vector = false;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        const struct field *f = schema_field_by_name(s, slice_of(names[i]));
        if (!f) {
            FAIL(st, ERR_FIELD_NOT_FOUND, "%s[field=%s]", err_text(ERR_FIELD_NOT_FOUND), names[i]);
        }
        vector |= dtype_is_vector(f->type);
    }
    if (n > 0 && !listed(s->pk->name, n, names)) {
        FAIL(st, ERR_PARAMETER_INVALID, "load field list does not contain primary key field %s",
             s->pk->name);
    }
    if (n > 0 && s->partition_key && !listed(s->partition_key->name, n, names)) {
        FAIL(st, ERR_PARAMETER_INVALID, "load field list does not contain partition key field %s",
             s->partition_key->name);
    }
    if (n > 0 && !vector) {
        FAIL(st, ERR_PARAMETER_INVALID, "load field list does not contain any vector field");
    }
out:
    return rc;
}

static int check_indexes(const struct px_coll *coll, size_t n, const char *const *names,
                         struct status *st)
{
    int rc = 0;

    for (uint32_t i = 0; i < coll->schema->nfields; i++) {
        const struct field *f = &coll->schema->fields[i];
        if (dtype_is_vector(f->type) && (n == 0 || listed(f->name, n, names)) &&
            !px_index_of(coll, f->id)) {
            FAIL(st, ERR_PARAMETER_INVALID,
                 "there is no vector index on field: [%s], please create index firstly", f->name);
        }
    }
out:
    return rc;
}

static int check_groups(size_t n, const char *const *groups, struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        if (strcmp(groups[i], DEFAULT_RESOURCE_GROUP) != 0) {
            FAIL(st, 300, "%s[rg=%s]", err_text(300), groups[i]);
        }
    }
out:
    return rc;
}

/* ---- load ---- */

static int load(struct px_call *pc, const char *db_name, Elanus__LoadReq *r, struct status *st)
{
    const struct query_service *query = pc->px->opts.query;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    const struct px_coll *coll;
    int rc;

    TRY(px_collection_fresh(pc, db_name, r->collection_name, &coll, st));
    TRY(check_fields(coll, r->n_field_names, r->field_names, st));
    TRY(check_indexes(coll, r->n_field_names, r->field_names, st));
    for (size_t i = 0; i < r->n_partition_names; i++) {
        if (!px_partition(coll, slice_of(r->partition_names[i]))) {
            FAIL(st, ERR_PARTITION_NOT_FOUND, "%s[partition=%s]",
                 err_text(ERR_PARTITION_NOT_FOUND), r->partition_names[i]);
        }
    }
    r->db_name = coll->pb->db_name;
    r->collection_name = coll->pb->name;
    r->replica_number = MAX(r->replica_number, 1);
    TRY(query->load(query->self, &pc->call, r, &empty, st));
out:
    return rc;
}

/* load_params of both requests: a map, of the same shape under two generated names. */
#define COPY_LOAD_PARAMS(pc, req, r)                                                               \
    do {                                                                                           \
        struct px_kv_list list_ = { 0 };                                                           \
        for (size_t i_ = 0; i_ < (req)->n_load_params; i_++) {                                     \
            px_kv_add(&list_, (pc)->ar, (req)->load_params[i_]->key,                               \
                      (req)->load_params[i_]->value);                                              \
        }                                                                                          \
        (r)->params = list_.kv;                                                                    \
        (r)->n_params = list_.n;                                                                   \
    } while (0)

int px_load_collection(struct px_call *pc, const PX_PB(LoadCollectionRequest) *req,
                       px_status_pb *resp, struct status *st)
{
    Elanus__LoadReq r = ELANUS__LOAD_REQ__INIT;
    int rc;

    (void)resp;
    TRY(check_groups(req->n_resource_groups, req->resource_groups, st));
    r.collection_name = req->collection_name;
    r.replica_number = req->replica_number;
    r.field_names = req->load_fields;
    r.n_field_names = req->n_load_fields;
    r.refresh = req->refresh;
    COPY_LOAD_PARAMS(pc, req, &r);
    TRY(load(pc, req->db_name, &r, st));
out:
    return rc;
}

int px_load_partitions(struct px_call *pc, const PX_PB(LoadPartitionsRequest) *req,
                       px_status_pb *resp, struct status *st)
{
    Elanus__LoadReq r = ELANUS__LOAD_REQ__INIT;
    const struct px_coll *coll;
    int rc;

    (void)resp;
    TRY(check_groups(req->n_resource_groups, req->resource_groups, st));
    TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    if (coll->schema->partition_key) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "disable load partitions if partition key mode is used");
    }
    if (req->n_partition_names == 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "due to no partition specified");
    }
    r.collection_name = req->collection_name;
    r.partition_names = req->partition_names;
    r.n_partition_names = req->n_partition_names;
    r.replica_number = req->replica_number;
    r.field_names = req->load_fields;
    r.n_field_names = req->n_load_fields;
    r.refresh = req->refresh;
    COPY_LOAD_PARAMS(pc, req, &r);
    TRY(load(pc, req->db_name, &r, st));
out:
    return rc;
}

/* ---- release ---- */

static int release(struct px_call *pc, const char *db_name, const char *name, size_t n,
                   const char **partitions, struct status *st)
{
    const struct query_service *query = pc->px->opts.query;
    Elanus__ReleaseReq r = ELANUS__RELEASE_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    const struct px_coll *coll;
    int rc;

    TRY(px_collection_fresh(pc, db_name, name, &coll, st));
    for (size_t i = 0; i < n; i++) {
        if (!px_partition(coll, slice_of(partitions[i]))) {
            FAIL(st, ERR_PARTITION_NOT_FOUND, "%s[partition=%s]",
                 err_text(ERR_PARTITION_NOT_FOUND), partitions[i]);
        }
    }
    r.db_name = coll->pb->db_name;
    r.collection_name = coll->pb->name;
    r.partition_names = partitions;
    r.n_partition_names = n;
    TRY(query->release(query->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_release_collection(struct px_call *pc, const PX_PB(ReleaseCollectionRequest) *req,
                          px_status_pb *resp, struct status *st)
{
    (void)resp;
    return release(pc, req->db_name, req->collection_name, 0, NULL, st);
}

int px_release_partitions(struct px_call *pc, const PX_PB(ReleasePartitionsRequest) *req,
                          px_status_pb *resp, struct status *st)
{
    const struct px_coll *coll;
    int rc;

    (void)resp;
    TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    if (coll->schema->partition_key) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "disable release partitions if partition key mode is used");
    }
    if (req->n_partition_names == 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "due to no partition specified");
    }
    TRY(release(pc, req->db_name, req->collection_name, req->n_partition_names,
                req->partition_names, st));
out:
    return rc;
}

/* ---- how far ---- */

static int load_state(struct px_call *pc, const struct px_coll *coll, size_t n,
                      const char **partitions, Elanus__LoadStateResp *ret, struct status *st)
{
    const struct query_service *query = pc->px->opts.query;
    Elanus__LoadStateReq r = ELANUS__LOAD_STATE_REQ__INIT;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        if (!px_partition(coll, slice_of(partitions[i]))) {
            FAIL(st, ERR_PARTITION_NOT_FOUND, "%s[partition=%s]",
                 err_text(ERR_PARTITION_NOT_FOUND), partitions[i]);
        }
    }
    r.db_name = coll->pb->db_name;
    r.collection_name = coll->pb->name;
    r.partition_names = partitions;
    r.n_partition_names = n;
    TRY(query->load_state(query->self, &pc->call, &r, ret, st));
out:
    return rc;
}

int px_get_loading_progress(struct px_call *pc, const PX_PB(GetLoadingProgressRequest) *req,
                            PX_PB(GetLoadingProgressResponse) *resp, struct status *st)
{
    Elanus__LoadStateResp state = ELANUS__LOAD_STATE_RESP__INIT;
    const struct px_coll *coll;
    int rc;

    TRY(px_collection_fresh(pc, req->db_name, req->collection_name, &coll, st));
    TRY(load_state(pc, coll, req->n_partition_names, req->partition_names, &state, st));
    if (state.state == MILVUS__PROTO__COMMON__LOAD_STATE__LoadStateNotLoad ||
        state.state == MILVUS__PROTO__COMMON__LOAD_STATE__LoadStateNotExist) {
        if (req->n_partition_names > 0 && coll->info->load) {
            FAIL(st, ERR_PARTITION_NOT_LOADED, "%s[partition=%s]",
                 err_text(ERR_PARTITION_NOT_LOADED), req->partition_names[0]);
        }
        FAIL(st, ERR_COLLECTION_NOT_LOADED, "%s[collection=%s]",
             err_text(ERR_COLLECTION_NOT_LOADED), req->collection_name);
    }
    resp->progress = state.progress;
    /* A refresh is done when the load call that asked for it returns. */
    resp->refresh_progress = state.progress;
out:
    return rc;
}

int px_get_load_state(struct px_call *pc, const PX_PB(GetLoadStateRequest) *req,
                      PX_PB(GetLoadStateResponse) *resp, struct status *st)
{
    Elanus__LoadStateResp state = ELANUS__LOAD_STATE_RESP__INIT;
    const struct px_coll *coll;
    int rc = px_collection_fresh(pc, req->db_name, req->collection_name, &coll, st);

    if (rc == ERR_COLLECTION_NOT_FOUND) {
        st_clear(st);
        resp->state = MILVUS__PROTO__COMMON__LOAD_STATE__LoadStateNotExist;
        return 0;
    }
    TRY(rc);
    TRY(load_state(pc, coll, req->n_partition_names, req->partition_names, &state, st));
    resp->state = (Milvus__Proto__Common__LoadState)state.state;
out:
    return rc;
}
