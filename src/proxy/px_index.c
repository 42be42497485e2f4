/*
 * px_index.c - indexes: create, alter, describe, drop.
 *
 * An index is finished when every flushed segment large enough to have one has its file; until then,
 * and for good where it cannot be built, segments are searched exactly.
 * THREADS  Workers.
 */
#include "proxy/px_index_params.h"
#include "proxy/px_methods.h"

/* The field an index is for. An unknown name with a JSON path is a key of $meta. */
static const struct field *target(const struct px_coll *coll, const PX_PB(CreateIndexRequest) *req)
{
    const struct field *f = schema_field_by_name(coll->schema, slice_of(req->field_name));

    if (!f && coll->schema->dynamic &&
        px_kv(req->n_extra_params, req->extra_params, "json_cast_type")) {
        return coll->schema->dynamic;
    }
    return f;
}

/* Whether the index has all that is asked for. What was made of a request counts, not how it was
 * spelled; properties that were altered since do not. */
static bool same_params(const Elanus__Index *idx, const struct px_kv_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        const char *v = px_index_param(idx, l->kv[i]->key);
        if (!v || strcmp(v, l->kv[i]->value) != 0) {
            return false;
        }
    }
    return true;
}

static bool exists(const struct px_coll *coll, const struct field *f, const char *name,
                   const struct px_kv_list *l)
{
    for (size_t i = 0; i < coll->info->n_indexes; i++) {
        const Elanus__Index *idx = coll->info->indexes[i];
        if (idx->field_id == f->id && strcmp(idx->name, name) == 0) {
            return same_params(idx, l);
        }
    }
    return false;
}

int px_create_index(struct px_call *pc, const PX_PB(CreateIndexRequest) *req, px_status_pb *resp,
                    struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__CreateIndexReq r = ELANUS__CREATE_INDEX_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    struct px_index_params params;
    const struct px_coll *coll;
    const struct field *f;
    int rc;

    (void)resp;
    TRY(px_collection_fresh(pc, req->db_name, req->collection_name, &coll, st));
    TRY(px_check_index_name(pc->px, req->index_name, st));
    f = target(coll, req);
    if (!f) {
        FAIL(st, ERR_PARAMETER_INVALID, "cannot create index on non-exist field: %s",
             req->field_name);
    }
    TRY(px_index_params_read(f, req->n_extra_params, req->extra_params, pc->ar, &params, st));
    if (f->is_dynamic && !px_kv(params.flat.n, params.flat.kv, "json_path")) {
        px_kv_add(&params.flat, pc->ar, "json_path", req->field_name);
    }
    r.db_name = coll->pb->db_name;
    r.collection_name = coll->pb->name;
    r.field_name = f->name;
    r.index_name = req->index_name[0] != '\0' ? req->index_name : req->field_name;
    if (exists(coll, f, r.index_name, &params.flat)) {
        goto out;
    }
    r.params = params.flat.kv;
    r.n_params = params.flat.n;
    r.user_params = params.user.kv;
    r.n_user_params = params.user.n;
    TRY(data->create_index(data->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_alter_index(struct px_call *pc, const PX_PB(AlterIndexRequest) *req, px_status_pb *resp,
                   struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__AlterIndexReq r = ELANUS__ALTER_INDEX_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    const struct px_coll *coll;
    int rc;

    (void)resp;
    TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    TRY(px_check_index_name(pc->px, req->index_name, st));
    TRY(px_index_check_alter(req->n_extra_params, req->extra_params, req->n_delete_keys,
                             req->delete_keys, st));
    r.db_name = coll->pb->db_name;
    r.collection_name = coll->pb->name;
    r.index_name = req->index_name;
    r.params = req->extra_params;
    r.n_params = req->n_extra_params;
    r.delete_keys = req->delete_keys;
    r.n_delete_keys = req->n_delete_keys;
    TRY(data->alter_index(data->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_drop_index(struct px_call *pc, const PX_PB(DropIndexRequest) *req, px_status_pb *resp,
                  struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__IndexReq r = ELANUS__INDEX_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    const struct px_coll *coll;
    int rc;

    (void)resp;
    TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    r.db_name = coll->pb->db_name;
    r.collection_name = coll->pb->name;
    r.index_name = req->index_name;
    /* Old clients name the field and leave the index out; newer ones may fill in both. */
    r.field_name = req->index_name[0] != '\0' ? "" : req->field_name;
    TRY(data->drop_index(data->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

/* ---- what there is ---- */

static int describe(struct px_call *pc, const char *db_name, const char *collection_name,
                    const char *field_name, const char *index_name, Elanus__IndexList *ret,
                    struct status *st)
{
    const struct data_service *data = pc->px->opts.data;
    Elanus__IndexReq r = ELANUS__INDEX_REQ__INIT;
    const struct px_coll *coll;
    int rc;

    TRY(px_collection(pc, db_name, collection_name, &coll, st));
    r.db_name = coll->pb->db_name;
    r.collection_name = coll->pb->name;
    r.field_name = field_name;
    r.index_name = index_name;
    TRY(data->describe_index(data->self, &pc->call, &r, ret, st));
    if (ret->n_indexes == 0) {
        FAIL(st, ERR_INDEX_NOT_FOUND, "%s[collection=%s]", err_text(ERR_INDEX_NOT_FOUND),
             collection_name);
    }
out:
    return rc;
}

static Milvus__Proto__Common__IndexState state_of(const Elanus__IndexStatus *is)
{
    return is->failure[0]                      ? MILVUS__PROTO__COMMON__INDEX_STATE__Failed
           : is->indexed_rows < is->total_rows ? MILVUS__PROTO__COMMON__INDEX_STATE__InProgress
                                               : MILVUS__PROTO__COMMON__INDEX_STATE__Finished;
}

static PX_PB(IndexDescription) *description(const Elanus__IndexStatus *is, struct arena *ar)
{
    PX_PB(IndexDescription) *d = ARENA_NEW(ar, PX_PB(IndexDescription));

    milvus__proto__milvus__index_description__init(d);
    d->index_name = is->index->name;
    d->indexid = is->index->id;
    d->params = is->index->user_params;
    d->n_params = is->index->n_user_params;
    d->field_name = is->index->field_name;
    d->indexed_rows = is->indexed_rows;
    d->total_rows = is->total_rows;
    d->pending_index_rows = is->total_rows - is->indexed_rows;
    d->state = state_of(is);
    d->index_state_fail_reason = is->failure;
    return d;
}

static PX_PB(IndexDescription) **descriptions(const Elanus__IndexList *l, struct arena *ar)
{
    PX_PB(IndexDescription) **v = arena_alloc(ar, (l->n_indexes + 1) * sizeof v[0]);

    for (size_t i = 0; i < l->n_indexes; i++) {
        v[i] = description(l->indexes[i], ar);
    }
    return v;
}

int px_describe_index(struct px_call *pc, const PX_PB(DescribeIndexRequest) *req,
                      PX_PB(DescribeIndexResponse) *resp, struct status *st)
{
    Elanus__IndexList l = ELANUS__INDEX_LIST__INIT;
    int rc;

    TRY(describe(pc, req->db_name, req->collection_name, req->field_name, req->index_name, &l, st));
    resp->index_descriptions = descriptions(&l, pc->ar);
    resp->n_index_descriptions = l.n_indexes;
out:
    return rc;
}

int px_get_index_statistics(struct px_call *pc, const PX_PB(GetIndexStatisticsRequest) *req,
                            PX_PB(GetIndexStatisticsResponse) *resp, struct status *st)
{
    Elanus__IndexList l = ELANUS__INDEX_LIST__INIT;
    int rc;

    TRY(describe(pc, req->db_name, req->collection_name, "", req->index_name, &l, st));
    resp->index_descriptions = descriptions(&l, pc->ar);
    resp->n_index_descriptions = l.n_indexes;
out:
    return rc;
}

int px_get_index_state(struct px_call *pc, const PX_PB(GetIndexStateRequest) *req,
                       PX_PB(GetIndexStateResponse) *resp, struct status *st)
{
    Elanus__IndexList l = ELANUS__INDEX_LIST__INIT;
    int rc;

    TRY(describe(pc, req->db_name, req->collection_name, req->field_name, req->index_name, &l, st));
    resp->state = MILVUS__PROTO__COMMON__INDEX_STATE__Finished;
    for (size_t i = 0; i < l.n_indexes; i++) { /* of several, the one that is furthest from done */
        Milvus__Proto__Common__IndexState state = state_of(l.indexes[i]);
        if (resp->state == MILVUS__PROTO__COMMON__INDEX_STATE__Finished ||
            state == MILVUS__PROTO__COMMON__INDEX_STATE__Failed) {
            resp->state = state;
            resp->fail_reason = l.indexes[i]->failure;
        }
    }
out:
    return rc;
}

int px_get_index_build_progress(struct px_call *pc,
                                const PX_PB(GetIndexBuildProgressRequest) *req,
                                PX_PB(GetIndexBuildProgressResponse) *resp, struct status *st)
{
    Elanus__IndexList l = ELANUS__INDEX_LIST__INIT;
    int rc;

    TRY(describe(pc, req->db_name, req->collection_name, req->field_name, req->index_name, &l, st));
    for (size_t i = 0; i < l.n_indexes; i++) {
        resp->indexed_rows += l.indexes[i]->indexed_rows;
        resp->total_rows += l.indexes[i]->total_rows;
    }
out:
    return rc;
}
