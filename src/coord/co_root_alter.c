/*
 * co_root_alter.c - changes to a collection that exists: name, properties, fields.
 *
 * A change of the schema raises schema.version and update_ts; nodes take the newest version they
 * see, and clients that wrote against an older one are told to read the schema again. Owners of
 * shards get the new definition after the transaction and before the answer.
 */
#include "coord/co_int.h"
#include "base/utf8.h"

/* A changeable copy: the schema is deep, the rest is borrowed from the record. */
static Elanus__Collection *change_of(const struct co_coll *c, struct arena *ar)
{
    Elanus__Collection *pb = ARENA_NEW(ar, Elanus__Collection);

    *pb = *co__pb(c);
    pb->schema = co__copy(&co__pb(c)->schema->pb, ar);
    return pb;
}

static int schema_changed(struct coord *co, const struct call *call, Elanus__Collection *pb,
                          struct status *st)
{
    pb->schema->version++;
    return co__ts(co, 1, call->deadline_us, &pb->update_ts, st);
}

static int put_and_tell(struct coord *co, const struct call *call, struct co_coll *c,
                        const Elanus__Collection *pb, struct co_notice *no, struct status *st)
{
    struct co_txn tx;
    int rc = 0;

    co__txn_init(&tx, co, call->ar);
    co__notice(no, c);
    co__put(&tx, CO_COLLECTION, pb);
    TRY(co__commit(&tx, st));
    TRY(co__send_definition(co, call, c, st));
out:
    co__txn_done(&tx);
    return rc;
}

/* ---- rename ---- */

int co__root_rename_collection(void *self, const struct call *call,
                               const Elanus__RenameCollectionReq *req, Elanus__Empty *resp,
                               struct status *st)
{
    struct coord *co = self;
    const char *new_db = req->new_db_name[0] ? req->new_db_name : co__db(req->db_name);
    const Elanus__Database *db;
    Elanus__Collection *pb;
    struct co_coll *c;
    struct co_notice no;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    TRY(co__find_db(co, new_db, &db, st));
    TRY(co__ddl_coll(co, req->db_name, req->name, &c, st));
    if (strcmp(co__pb(c)->name, req->name) != 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "unsupported use an alias to rename collection, alias:%s",
             req->name);
    }
    if (co__lookup(co, new_db, req->new_name)) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "duplicated new collection name %s:%s with other collection name or alias", new_db,
             req->new_name);
    }
    if (strcmp(new_db, co__pb(c)->db_name) != 0 && c->aliases.n > 0) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "fail to rename db name, must drop all aliases of this collection before rename");
    }
    pb = change_of(c, call->ar);
    pb->name = req->new_name;
    pb->db_name = new_db;
    pb->schema->name = req->new_name;
    pb->schema->dbname = new_db;
    co__notice_name(&no, req->new_name);
    no.db2 = strcmp(new_db, co__pb(c)->db_name) != 0 ? new_db : NULL;
    TRY(put_and_tell(co, call, c, pb, &no, st));
out:
    co__ddl_end(co, &no);
    return rc;
}

/* ---- properties ---- */

static bool touches(const char *const *del, size_t ndel, pb_kv *const *set, size_t nset,
                    const char *key)
{
    for (size_t i = 0; i < ndel; i++) {
        if (strcmp(del[i], key) == 0) {
            return true;
        }
    }
    return co__kv(set, nset, key) != NULL;
}

static int check_mmap(const struct co_coll *c, const char *const *del, size_t ndel,
                      pb_kv *const *set, size_t nset, struct status *st)
{
    if (touches(del, ndel, set, nset, "mmap.enabled") && (c->load || c->loading.target)) {
        return st_fail(st, ERR_COLLECTION_LOADED,
                       "can not alter mmap properties if collection loaded: collection already "
                       "loaded[collection=%s]", co__pb(c)->name);
    }
    return 0;
}

/* Properties that are more than a value kept: they change the schema. Taken out of the list. */
static int apply_special(Elanus__Collection *pb, pb_kv ***set, size_t *nset, bool *ret_schema,
                         struct arena *ar, struct status *st)
{
    pb_kv **rest = arena_alloc(ar, (*nset + 1) * sizeof(pb_kv *));
    size_t n = 0;
    int rc = 0;

    for (size_t i = 0; i < *nset; i++) {
        pb_kv *kv = (*set)[i];
        bool on;
        if (strcmp(kv->key, "dynamicfield.enabled") == 0) {
            if (!parse_bool(slice_of(kv->value), &on)) {
                FAIL(st, ERR_PARAMETER_INVALID, "invalid dynamicfield.enabled value: %s",
                     kv->value);
            }
            if (!on && pb->schema->enable_dynamic_field) {
                FAIL(st, ERR_PARAMETER_INVALID, "dynamic schema cannot supported to be disabled");
            }
            if (on && !pb->schema->enable_dynamic_field) {
                pb->schema->enable_dynamic_field = true;
                co__schema_add_field(pb->schema, co__schema_meta_field(pb->next_field_id++, ar),
                                     ar);
                *ret_schema = true;
            }
        } else if (strcmp(kv->key, "collection.description") == 0) {
            pb->schema->description = kv->value;
            *ret_schema = true;
        } else {
            rest[n++] = kv;
        }
    }
    *set = rest;
    *nset = n;
out:
    return rc;
}

int co__root_alter_collection(void *self, const struct call *call,
                              const Elanus__AlterCollectionReq *req, Elanus__Empty *resp,
                              struct status *st)
{
    struct coord *co = self;
    Elanus__Collection *pb;
    struct co_coll *c;
    struct co_notice no;
    pb_kv **set = req->properties;
    size_t nset = req->n_properties;
    bool schema = false;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    if (req->n_properties > 0 && req->n_delete_keys > 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "can not provide properties and delete_keys at same time");
    }
    TRY(co__ddl_coll(co, req->db_name, req->name, &c, st));
    TRY(check_mmap(c, req->delete_keys, req->n_delete_keys, set, nset, st));
    pb = change_of(c, call->ar);
    TRY(apply_special(pb, &set, &nset, &schema, call->ar, st));
    co__kv_merge(pb->properties, pb->n_properties, set, nset, req->delete_keys,
                 req->n_delete_keys, call->ar, &pb->properties, &pb->n_properties);
    if (schema) {
        TRY(schema_changed(co, call, pb, st));
    }
    TRY(put_and_tell(co, call, c, pb, &no, st));
    co__compacts_wake(co); /* how long rows live, whether segments are rewritten unasked */
out:
    co__ddl_end(co, &no);
    return rc;
}

/* ---- fields ---- */

static pb_field *own_field(pb_schema *s, const char *name)
{
    for (size_t i = 0; i < s->n_fields; i++) {
        if (strcmp(s->fields[i]->name, name) == 0 && !s->fields[i]->is_dynamic) {
            return s->fields[i];
        }
    }
    for (size_t i = 0; i < s->n_struct_array_fields; i++) {
        for (size_t j = 0; j < s->struct_array_fields[i]->n_fields; j++) {
            if (strcmp(s->struct_array_fields[i]->fields[j]->name, name) == 0) {
                return s->struct_array_fields[i]->fields[j];
            }
        }
    }
    return NULL;
}

static int check_field_change(const pb_field *f, const Elanus__AlterFieldReq *req,
                              struct status *st)
{
    static const char *const set_keys[] = { "max_length", "max_capacity", "mmap.enabled",
                                            "warmup", "field.skipLoad", "field.description" };
    bool string = f->data_type == MILVUS__PROTO__SCHEMA__DATA_TYPE__VarChar ||
                  f->element_type == MILVUS__PROTO__SCHEMA__DATA_TYPE__VarChar;
    int rc = 0;

    for (size_t i = 0; i < req->n_properties + req->n_delete_keys; i++) {
        bool del = i >= req->n_properties;
        const char *key = del ? req->delete_keys[i - req->n_properties] : req->properties[i]->key;
        bool known = false;
        for (size_t j = del ? 2 : 0; j < ARRAY_LEN(set_keys); j++) {
            known |= strcmp(key, set_keys[j]) == 0;
        }
        if (!known) {
            FAIL(st, ERR_PARAMETER_INVALID, "%s does not allow %s in collection field param", key,
                 del ? "delete" : "update");
        }
        if (strcmp(key, "max_length") == 0 && !string) {
            FAIL(st, ERR_PARAMETER_INVALID, "%s can not modify the maxlength for non-string types",
                 f->name);
        }
        if (strcmp(key, "max_capacity") == 0 &&
            f->data_type != MILVUS__PROTO__SCHEMA__DATA_TYPE__Array) {
            FAIL(st, ERR_PARAMETER_INVALID, "%s can not modify the maxcapacity for non-array types",
                 f->name);
        }
    }
out:
    return rc;
}

int co__root_alter_field(void *self, const struct call *call, const Elanus__AlterFieldReq *req,
                         Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    Elanus__Collection *pb;
    struct co_coll *c;
    struct co_notice no;
    pb_field *f;
    pb_kv **set = req->properties;
    size_t nset = req->n_properties;
    const char *description;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    TRY(co__ddl_coll(co, req->db_name, req->collection_name, &c, st));
    pb = change_of(c, call->ar);
    f = own_field(pb->schema, req->field_name);
    if (!f) {
        FAIL(st, ERR_FIELD_NOT_FOUND, "field not found[field=%s]", req->field_name);
    }
    TRY(check_field_change(f, req, st));
    TRY(check_mmap(c, req->delete_keys, req->n_delete_keys, req->properties, req->n_properties,
                   st));
    description = co__kv(req->properties, req->n_properties, "field.description");
    if (description) {
        static const char *const key[] = { "field.description" };
        f->description = description;
        co__kv_merge(set, nset, NULL, 0, key, 1, call->ar, &set, &nset);
    }
    co__kv_merge(f->type_params, f->n_type_params, set, nset, req->delete_keys,
                 req->n_delete_keys, call->ar, &f->type_params, &f->n_type_params);
    TRY(schema_changed(co, call, pb, st));
    TRY(put_and_tell(co, call, c, pb, &no, st));
out:
    co__ddl_end(co, &no);
    return rc;
}

int co__root_add_field(void *self, const struct call *call, const Elanus__AddFieldReq *req,
                       Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    Elanus__Collection *pb;
    struct co_coll *c;
    struct co_notice no;
    pb_field *f;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    TRY(co__ddl_coll(co, req->db_name, req->collection_name, &c, st));
    if (!req->field) {
        FAIL(st, ERR_PARAMETER_MISSING, "no field to add to %s", req->collection_name);
    }
    if (co__field(c, req->field->name)) {
        FAIL(st, ERR_PARAMETER_INVALID, "duplicate field name: %s", req->field->name);
    }
    if (!req->field->nullable &&
        !(req->field->default_value && req->field->default_value->data_case)) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "added field must be nullable, please check it, field name = %s", req->field->name);
    }
    pb = change_of(c, call->ar);
    f = co__copy(&req->field->pb, call->ar);
    f->fieldid = pb->next_field_id++;
    co__schema_add_field(pb->schema, f, call->ar);
    TRY(schema_changed(co, call, pb, st));
    TRY(put_and_tell(co, call, c, pb, &no, st));
out:
    co__ddl_end(co, &no);
    return rc;
}
