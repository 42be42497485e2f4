/*
 * px_collection.c - collections and their fields: create, drop, rename, change.
 *
 * Checks what the message alone decides; what depends on other collections is the coordinator's.
 * THREADS  Workers.
 */
#include "base/utf8.h"
#include "proxy/px_methods.h"

static struct schema_limits schema_limits(const struct px_limits *l)
{
    return (struct schema_limits){
        .max_fields = l->max_fields,
        .max_vector_fields = l->max_vector_fields,
        .max_dim = l->max_dim,
        .max_varchar_length = l->max_varchar_length,
        .max_array_capacity = l->max_array_capacity,
        .max_name_length = l->max_name_length,
    };
}

static bool has_partition_key(const Milvus__Proto__Schema__CollectionSchema *s)
{
    for (size_t i = 0; i < s->n_fields; i++) {
        if (s->fields[i]->is_partition_key) {
            return true;
        }
    }
    return false;
}

/* The schema travels as bytes inside the request; a copy, because checking normalises it. */
static int read_schema(struct px_call *pc, const PX_PB(CreateCollectionRequest) *req,
                       Milvus__Proto__Schema__CollectionSchema **ret, struct status *st)
{
    struct schema_limits lim = schema_limits(&pc->px->lim);
    Milvus__Proto__Schema__CollectionSchema *s;
    int rc = 0;

    s = proto_unpack(&milvus__proto__schema__collection_schema__descriptor,
                     slice_n(req->schema.data, req->schema.len), pc->ar, st);
    if (!s) {
        FAIL(st, ERR_PARAMETER_INVALID, "the schema of collection %s is no CollectionSchema",
             req->collection_name);
    }
    s->name = req->collection_name;
    TRY(schema_check(s, &lim, pc->ar, st));
    *ret = s;
out:
    return rc;
}

static int check_create(const struct px_limits *lim, const PX_PB(CreateCollectionRequest) *req,
                        const Milvus__Proto__Schema__CollectionSchema *s, struct status *st)
{
    bool keyed = has_partition_key(s);
    int rc = 0;

    if (req->num_partitions < 0) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "the specified partitions should be greater than 0 if partition key is used");
    }
    if (!keyed && req->num_partitions > 0) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "num_partitions should only be specified with partition key field enabled");
    }
    if (req->num_partitions > (int64_t)lim->max_partitions) {
        FAIL(st, ERR_PARAMETER_INVALID, "partition number (%lld) exceeds max configuration (%u)",
             (long long)req->num_partitions, lim->max_partitions);
    }
    if ((int)req->consistency_level < 0 || (int)req->consistency_level > 4) {
        FAIL(st, ERR_PARAMETER_INVALID, "invalid consistency level: %d",
             (int)req->consistency_level);
    }
    TRY(px_check_properties(req->n_properties, req->properties, st));
out:
    return rc;
}

int px_create_collection(struct px_call *pc, const PX_PB(CreateCollectionRequest) *req,
                         px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__CreateCollectionReq r = ELANUS__CREATE_COLLECTION_REQ__INIT;
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    int rc = 0;

    (void)resp;
    TRY(px_check_collection_name(pc->px, req->collection_name, st));
    if (req->shards_num > (int32_t)pc->px->lim.max_shards) {
        FAIL(st, ERR_PARAMETER_INVALID, "maximum shards's number should be limited to %u",
             pc->px->lim.max_shards);
    }
    TRY(read_schema(pc, req, &r.schema, st));
    TRY(check_create(&pc->px->lim, req, r.schema, st));
    r.db_name = px_db(pc, req->db_name);
    r.shards_num = MAX(req->shards_num, 1);
    r.consistency_level = (int32_t)req->consistency_level;
    r.properties = req->properties;
    r.n_properties = req->n_properties;
    r.num_partitions = req->num_partitions;
    TRY(root->create_collection(root->self, &pc->call, &r, &info, st));
out:
    return rc;
}

int px_drop_collection(struct px_call *pc, const PX_PB(DropCollectionRequest) *req,
                       px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__NameReq r = ELANUS__NAME_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    TRY(px_check_collection_name(pc->px, req->collection_name, st));
    r.db_name = px_db(pc, req->db_name);
    r.name = req->collection_name;
    TRY(root->drop_collection(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_rename_collection(struct px_call *pc, const PX_PB(RenameCollectionRequest) *req,
                         px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__RenameCollectionReq r = ELANUS__RENAME_COLLECTION_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    int rc;

    (void)resp;
    TRY(px_check_collection_name(pc->px, req->oldname, st));
    TRY(px_check_collection_name(pc->px, req->newname, st));
    r.db_name = px_db(pc, req->db_name);
    r.name = req->oldname;
    r.new_db_name = req->newdbname[0] != '\0' ? req->newdbname : r.db_name;
    r.new_name = req->newname;
    TRY(root->rename_collection(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

/* ---- changes ---- */

int px_alter_collection(struct px_call *pc, const PX_PB(AlterCollectionRequest) *req,
                        px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__AlterCollectionReq r = ELANUS__ALTER_COLLECTION_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    const struct px_coll *coll;
    int rc;

    (void)resp;
    TRY(px_collection_or_id(pc, req->db_name, req->collection_name, req->collectionid, &coll, st));
    if (req->n_properties == 0 && req->n_delete_keys == 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "no properties or delete keys provided");
    }
    TRY(px_check_properties(req->n_properties, req->properties, st));
    for (size_t i = 0; i < req->n_delete_keys; i++) {
        if (strcmp(req->delete_keys[i], "dynamicfield.enabled") == 0) {
            FAIL(st, ERR_PARAMETER_INVALID, "cannot delete key dynamicfield.enabled");
        }
    }
    r.db_name = coll->pb->db_name;
    r.name = coll->pb->name;
    r.properties = req->properties;
    r.n_properties = req->n_properties;
    r.delete_keys = req->delete_keys;
    r.n_delete_keys = req->n_delete_keys;
    TRY(root->alter_collection(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

/* New values of max_length and max_capacity must be legal ones. */
static int check_field_size(const char *key, const char *value, int64_t max, struct status *st)
{
    int64_t v;

    if (!parse_i64(slice_of(value), &v) || v <= 0 || v > max) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "%s should be in (0, %lld], but got %s", key, (long long)max, value);
    }
    return 0;
}

int px_alter_collection_field(struct px_call *pc, const PX_PB(AlterCollectionFieldRequest) *req,
                              px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__AlterFieldReq r = ELANUS__ALTER_FIELD_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    const struct px_coll *coll;
    int rc;

    (void)resp;
    TRY(px_collection(pc, req->db_name, req->collection_name, &coll, st));
    TRY(px_check_properties(req->n_properties, req->properties, st));
    for (size_t i = 0; i < req->n_properties; i++) {
        const px_kv_pb *kv = req->properties[i];
        if (strcmp(kv->key, "max_length") == 0) {
            TRY(check_field_size("the maximum length specified for the field", kv->value,
                                 pc->px->lim.max_varchar_length, st));
        } else if (strcmp(kv->key, "max_capacity") == 0) {
            TRY(check_field_size("the maximum capacity specified for a Array", kv->value,
                                 pc->px->lim.max_array_capacity, st));
        }
    }
    r.db_name = coll->pb->db_name;
    r.collection_name = coll->pb->name;
    r.field_name = req->field_name;
    r.properties = req->properties;
    r.n_properties = req->n_properties;
    r.delete_keys = req->delete_keys;
    r.n_delete_keys = req->n_delete_keys;
    TRY(root->alter_field(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}

int px_add_collection_field(struct px_call *pc, const PX_PB(AddCollectionFieldRequest) *req,
                            px_status_pb *resp, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    struct schema_limits lim = schema_limits(&pc->px->lim);
    Elanus__AddFieldReq r = ELANUS__ADD_FIELD_REQ__INIT;
    Elanus__Empty empty = ELANUS__EMPTY__INIT;
    const struct px_coll *coll;
    int rc;

    (void)resp;
    TRY(px_collection_or_id(pc, req->db_name, req->collection_name, req->collectionid, &coll, st));
    r.field = proto_unpack(&milvus__proto__schema__field_schema__descriptor,
                           slice_n(req->schema.data, req->schema.len), pc->ar, st);
    if (!r.field) {
        FAIL(st, ERR_PARAMETER_INVALID, "the field to add to %s is no FieldSchema",
             coll->pb->name);
    }
    TRY(schema_check_added_field(coll->schema, r.field, &lim, pc->ar, st));
    r.db_name = coll->pb->db_name;
    r.collection_name = coll->pb->name;
    TRY(root->add_field(root->self, &pc->call, &r, &empty, st));
out:
    return rc;
}
