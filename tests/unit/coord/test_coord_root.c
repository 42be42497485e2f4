/* test_coord_root.c - the catalogue and its users: what is done, what is refused. */
#include "coord_fixture.h"

static void test_create_collection_when_new_then_has_ids_partition_and_shard(void **state)
{
    struct fx *fx = fx_new();
    Elanus__CreateCollectionReq *req = fx_create_req(fx, "", "c");
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    char opened[100];
    req->schema->enable_dynamic_field = true;
    req->shards_num = 2;
    ASSERT_CALL(CALL(fx, root, create_collection, req, &info));
    assert_string_equal(info.collection->db_name, "default");
    assert_int_equal(info.collection->schema->n_fields, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(info.collection->schema->fields[i]->fieldid, 100 + (int)i);
    }
    assert_string_equal(info.collection->schema->fields[3]->name, "$meta");
    assert_true(info.collection->schema->fields[3]->is_dynamic);
    assert_false(info.collection->schema->fields[3]->nullable);
    assert_int_equal(info.collection->next_field_id, 104);
    assert_int_equal(info.n_partitions, 1);
    assert_string_equal(info.partitions[0]->name, "_default");
    assert_int_equal(info.collection->n_vchannels, 2);
    assert_true(info.collection->update_ts == info.collection->created_ts);
    assert_true(info.collection->id > (int64_t)1 << 40);
    assert_null(info.load);
    snprintf(opened, sizeof opened, "open(dml_0_%" PRId64 "v1,term=1,fresh=1", info.collection->id);
    assert_true(fx_told(fx, opened));
    assert_true(fx_told(fx, "forget(default.c)"));
    fx_free(fx);
}

static void test_create_collection_when_same_then_succeeds_else_refused(void **state)
{
    struct fx *fx = fx_new();
    Elanus__CollectionInfo a = ELANUS__COLLECTION_INFO__INIT, b = a;
    Elanus__CreateCollectionReq *req = fx_create_req(fx, "", "c");
    const char *text = "create duplicate collection with different parameters, collection: c";
    ASSERT_CALL(CALL(fx, root, create_collection, req, &a));
    ASSERT_CALL(CALL(fx, root, create_collection, req, &b));
    assert_int_equal(a.collection->id, b.collection->id);
    req->consistency_level = 2;
    ASSERT_REFUSED(CALL(fx, root, create_collection, req, &b), ERR_PARAMETER_INVALID, text);
    req->consistency_level = 0;
    req->shards_num = 2;
    ASSERT_REFUSED(CALL(fx, root, create_collection, req, &b), ERR_PARAMETER_INVALID, text);
    req->shards_num = 1;
    req->schema->fields[2]->nullable = true;
    ASSERT_REFUSED(CALL(fx, root, create_collection, req, &b), ERR_PARAMETER_INVALID, text);
    ASSERT_CALL(fx_alias(fx, "c", "other"));
    req->schema = fx_schema(fx, "other");
    ASSERT_REFUSED(CALL(fx, root, create_collection, req, &b), ERR_PARAMETER_INVALID,
                   "collection name [other] conflicts with an existing alias, please choose a "
                   "unique name");
    fx_free(fx);
}

static void test_create_collection_when_partition_key_then_hidden_partitions(void **state)
{
    struct fx *fx = fx_new();
    Elanus__CreateCollectionReq *req = fx_create_req(fx, "", "c");
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    req->num_partitions = 3;
    ASSERT_REFUSED(CALL(fx, root, create_collection, req, &info), ERR_PARAMETER_INVALID,
                   "num_partitions should only be specified with partition key field enabled");
    req->schema->fields[2]->is_partition_key = true;
    ASSERT_CALL(CALL(fx, root, create_collection, req, &info));
    assert_int_equal(info.n_partitions, 3);
    assert_string_equal(info.partitions[2]->name, "_default_2");
    ASSERT_REFUSED(fx_partition(fx, true, "c", "p"), ERR_PARAMETER_INVALID,
                   "disable create partition if partition key mode is used");
    ASSERT_REFUSED(fx_partition(fx, false, "c", "_default_1"), ERR_PARAMETER_INVALID,
                   "disable drop partition if partition key mode is used");
    req = fx_create_req(fx, "", "d");
    req->schema->fields[2]->is_partition_key = true;
    elanus__collection_info__init(&info);
    ASSERT_CALL(CALL(fx, root, create_collection, req, &info));
    assert_int_equal(info.n_partitions, 16);
    assert_int_equal(info.collection->num_partitions, 16);
    /* More than one transaction holds. */
    req = fx_create_req(fx, "", "e");
    req->schema->fields[2]->is_partition_key = true;
    req->num_partitions = 1024;
    req->shards_num = 16;
    elanus__collection_info__init(&info);
    ASSERT_CALL(CALL(fx, root, create_collection, req, &info));
    assert_int_equal(info.n_partitions, 1024);
    req->num_partitions = 1025;
    req->schema->name = "f";
    assert_int_equal(CALL(fx, root, create_collection, req, &info), ERR_PARAMETER_INVALID);
    fx_free(fx);
}

static void test_create_collection_when_node_refuses_then_nothing_is_left(void **state)
{
    struct fx *fx = fx_new();
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    size_t keys = fx_keys(fx, "/elanus/root/partition/");
    fx->fail_on = "open";
    fx->fail_code = ST_NO_SPACE;
    assert_int_equal(CALL(fx, root, create_collection, fx_create_req(fx, "", "c"), &info),
                     ST_NO_SPACE);
    ASSERT_REFUSED(fx_describe(fx, "", "c", &info), ERR_COLLECTION_NOT_FOUND,
                   "can't find collection[database=default][collection=c]");
    assert_int_equal(fx_keys(fx, "/elanus/root/partition/"), keys);
    assert_int_equal(fx_keys(fx, "/elanus/root/collection/"), 0);
    assert_int_equal(fx_keys(fx, "/elanus/data/"), 0);
    fx_create(fx, "", "c");
    fx_free(fx);
}

static void test_create_collection_when_functions_then_outputs_marked(void **state)
{
    struct fx *fx = fx_new();
    Elanus__CreateCollectionReq *req = fx_create_req(fx, "", "c");
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    Milvus__Proto__Schema__FunctionSchema fn = MILVUS__PROTO__SCHEMA__FUNCTION_SCHEMA__INIT;
    Milvus__Proto__Schema__FunctionSchema *fns[] = { &fn };
    const char *in = "name", *out = "sparse";
    fn.name = "bm25";
    fn.input_field_names = &in;
    fn.n_input_field_names = 1;
    fn.output_field_names = &out;
    fn.n_output_field_names = 1;
    req->schema->fields[3] = fx_field(fx, "sparse", 104);
    req->schema->n_fields = 4;
    req->schema->functions = fns;
    req->schema->n_functions = 1;
    ASSERT_CALL(CALL(fx, root, create_collection, req, &info));
    assert_true(info.collection->schema->fields[3]->is_function_output);
    assert_int_equal(info.collection->schema->functions[0]->id, 100);
    assert_int_equal(info.collection->schema->functions[0]->input_field_ids[0], 102);
    assert_int_equal(info.collection->schema->functions[0]->output_field_ids[0], 103);
    fx_free(fx);
}

static void test_limits_when_reached_then_refused(void **state)
{
    struct fx *fx = fx_new();
    struct status st = STATUS_INIT;
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    Elanus__CreateDatabaseReq db = ELANUS__CREATE_DATABASE_REQ__INIT;
    fx_create(fx, "", "a");
    ASSERT_OK(config_set(fx->cfg, "rootCoord.maxPartitionNum", SLICE_LIT("2"), &st));
    ASSERT_CALL(fx_partition(fx, true, "a", "p"));
    ASSERT_CALL(fx_partition(fx, true, "a", "p")); /* there already */
    ASSERT_REFUSED(fx_partition(fx, true, "a", "q"), ERR_PARAMETER_INVALID,
                   "partition number (2) exceeds max configuration (2), collection: a");
    ASSERT_OK(config_set(fx->cfg, "rootCoord.maxGeneralCapacity", SLICE_LIT("2"), &st));
    assert_int_equal(CALL(fx, root, create_collection, fx_create_req(fx, "", "b"), &info),
                     ERR_CAPACITY_EXCEEDED);
    ASSERT_OK(config_set(fx->cfg, "quotaAndLimits.limits.maxCollectionNumPerDB", SLICE_LIT("1"),
                         &st));
    ASSERT_REFUSED(CALL(fx, root, create_collection, fx_create_req(fx, "", "b"), &info),
                   ERR_COLLECTION_LIMIT,
                   "exceeded the limit number of collections[dbName=default][limit=1]");
    ASSERT_OK(config_set(fx->cfg, "quotaAndLimits.limits.maxCollectionNum", SLICE_LIT("1"), &st));
    ASSERT_REFUSED(CALL(fx, root, create_collection, fx_create_req(fx, "", "b"), &info),
                   ERR_COLLECTION_LIMIT, "exceeded the limit number of collections[limit=1]");
    ASSERT_OK(config_set(fx->cfg, "rootCoord.maxDatabaseNum", SLICE_LIT("2"), &st));
    db.name = "d1";
    ASSERT_CALL(CALL_E(fx, root, create_database, &db));
    db.name = "d2";
    ASSERT_REFUSED(CALL_E(fx, root, create_database, &db), ERR_DATABASE_LIMIT,
                   "exceeded the limit number of database[limit=2]");
    fx_free(fx);
}

static void test_drop_collection_when_loaded_with_segments_then_all_gone(void **state)
{
    struct fx *fx = fx_new();
    Elanus__CollectionInfo info;
    struct status st = STATUS_INIT;
    int64_t id = fx_create(fx, "", "c");
    struct file_part part = { .p = "x", .n = 1 };
    char *key;
    bool there = true;
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    ASSERT_CALL(fx_commit(fx, info.collection->vchannels[0], id, info.partitions[0]->id, 500, 10,
                          1));
    key = arena_printf(fx->ar, "segments/%" PRId64 "/%" PRId64 "/500/id.col", id,
                       info.partitions[0]->id);
    ASSERT_OK(object_put(fx->os, slice_of(key), &part, 1, &st));
    ASSERT_CALL(fx_index(fx, "c", "vec", "vec", "FLAT"));
    ASSERT_CALL(fx_load(fx, "c", NULL));
    fx_forget(fx);
    ASSERT_CALL(fx_drop(fx, "", "c"));
    assert_true(fx_told(fx, "drop_shard(dml_0_"));
    assert_true(fx_told(fx, "release(0)"));
    assert_true(fx_told(fx, "forget(default.c)"));
    assert_int_equal(fx_describe(fx, "", "c", &info), ERR_COLLECTION_NOT_FOUND);
    assert_int_equal(fx_keys(fx, "/elanus/data/"), 0);
    assert_int_equal(fx_keys(fx, "/elanus/query/"), 0);
    assert_int_equal(fx_keys(fx, "/elanus/root/partition/"), 0);
    for (int64_t end = deadline_in_ms(10000); there && clock_mono_us() < end;) {
        struct object_info oi;
        st_clear(&st);
        there = object_stat(fx->os, slice_of(key), &oi, &st) == 0;
    }
    assert_false(there);
    ASSERT_CALL(fx_drop(fx, "", "c")); /* gone already */
    fx_free(fx);
}

static void test_drop_collection_when_aliased_then_refused(void **state)
{
    struct fx *fx = fx_new();
    Elanus__AliasReq req = ELANUS__ALIAS_REQ__INIT;
    fx_create(fx, "", "c");
    ASSERT_CALL(fx_alias(fx, "c", "a"));
    ASSERT_REFUSED(fx_drop(fx, "", "a"), ERR_PARAMETER_INVALID,
                   "cannot drop the collection via alias = a");
    ASSERT_REFUSED(fx_drop(fx, "", "c"), ERR_PARAMETER_INVALID,
                   "unable to drop the collection [c] because it has associated aliases [a], "
                   "please remove all aliases before dropping the collection");
    req.alias = "a";
    ASSERT_CALL(CALL_E(fx, root, drop_alias, &req));
    ASSERT_CALL(CALL_E(fx, root, drop_alias, &req));
    ASSERT_CALL(fx_drop(fx, "", "c"));
    ASSERT_REFUSED(fx_drop(fx, "nodb", "c"), ERR_DATABASE_NOT_FOUND,
                   "database not found[database=nodb]");
    fx_free(fx);
}

static void test_aliases_when_used_then_texts_of_the_api(void **state)
{
    struct fx *fx = fx_new();
    Elanus__AliasReq req = ELANUS__ALIAS_REQ__INIT;
    Elanus__AliasList list = ELANUS__ALIAS_LIST__INIT;
    Elanus__CollectionInfo info;
    fx_create(fx, "", "c");
    fx_create(fx, "", "d");
    ASSERT_CALL(fx_alias(fx, "c", "a"));
    ASSERT_CALL(fx_alias(fx, "c", "a"));
    ASSERT_REFUSED(fx_alias(fx, "d", "a"), ERR_ALIAS_EXISTS,
                   "a is alias to another collection: c: alias already "
                   "exist[database=default][alias=a]");
    ASSERT_REFUSED(fx_alias(fx, "d", "c"), ERR_ALIAS_COLLECTION_CONFLICT,
                   "alias and collection name conflict[database=default][alias=c]");
    ASSERT_REFUSED(fx_alias(fx, "x", "b"), ERR_COLLECTION_NOT_FOUND,
                   "collection not found[database=default][collection=x]");
    ASSERT_REFUSED(fx_alias(fx, "a", "b"), ERR_COLLECTION_NOT_FOUND,
                   "collection not found[database=default][collection=a]");
    req.collection_name = "d";
    req.alias = "b";
    ASSERT_REFUSED(CALL_E(fx, root, alter_alias, &req), ERR_ALIAS_NOT_FOUND,
                   "alias not found[database=default][alias=b]");
    req.alias = "a";
    fx_forget(fx);
    ASSERT_CALL(CALL_E(fx, root, alter_alias, &req));
    assert_true(fx_told(fx, "forget(default.a)"));
    ASSERT_CALL(fx_describe(fx, "", "a", &info));
    assert_string_equal(info.collection->name, "d");
    assert_string_equal(info.aliases[0], "a");
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    assert_int_equal(info.n_aliases, 0);
    elanus__alias_req__init(&req);
    ASSERT_CALL(CALL(fx, root, list_aliases, &req, &list));
    assert_int_equal(list.n_aliases, 1);
    assert_string_equal(list.collection_names[0], "d");
    req.alias = "zz";
    elanus__alias_list__init(&list);
    assert_int_equal(CALL(fx, root, list_aliases, &req, &list), ERR_ALIAS_NOT_FOUND);
    fx_free(fx);
}

static void test_databases_when_used_then_texts_of_the_api(void **state)
{
    struct fx *fx = fx_new();
    Elanus__CreateDatabaseReq req = ELANUS__CREATE_DATABASE_REQ__INIT;
    Elanus__AlterDatabaseReq alter = ELANUS__ALTER_DATABASE_REQ__INIT;
    Elanus__NameReq drop = ELANUS__NAME_REQ__INIT;
    Elanus__DatabaseList list = ELANUS__DATABASE_LIST__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    Elanus__CollectionInfo info;
    pb_kv *kv = fx_kv(fx, "database.max.collections", "1");
    const char *key = "database.max.collections";
    req.name = "d";
    ASSERT_CALL(CALL_E(fx, root, create_database, &req));
    ASSERT_REFUSED(CALL_E(fx, root, create_database, &req), ERR_PARAMETER_INVALID,
                   "database already exist: d");
    fx_create(fx, "d", "c");
    assert_int_equal(fx_describe(fx, "", "c", &info), ERR_COLLECTION_NOT_FOUND);
    ASSERT_CALL(fx_describe(fx, "d", "c", &info));
    ASSERT_REFUSED(fx_describe(fx, "x", "c", &info), ERR_DATABASE_NOT_FOUND,
                   "database not found[database=x]");
    alter.name = "d";
    alter.properties = &kv;
    alter.n_properties = 1;
    ASSERT_CALL(CALL_E(fx, root, alter_database, &alter));
    assert_int_equal(CALL(fx, root, create_collection, fx_create_req(fx, "d", "c2"), &info),
                     ERR_COLLECTION_LIMIT);
    alter.delete_keys = &key;
    alter.n_delete_keys = 1;
    ASSERT_REFUSED(CALL_E(fx, root, alter_database, &alter), ERR_PARAMETER_INVALID,
                   "can not provide properties and delete_keys at same time");
    alter.n_properties = 0;
    ASSERT_CALL(CALL_E(fx, root, alter_database, &alter));
    ASSERT_CALL(CALL(fx, root, list_databases, &e, &list));
    assert_int_equal(list.n_databases, 2);
    assert_string_equal(list.databases[0]->name, "default");
    assert_int_equal(list.databases[0]->id, 1);
    assert_int_equal(list.databases[1]->n_properties, 0);
    drop.db_name = "default";
    ASSERT_REFUSED(CALL_E(fx, root, drop_database, &drop), ERR_PARAMETER_INVALID,
                   "can not drop default database");
    drop.db_name = "x";
    ASSERT_REFUSED(CALL_E(fx, root, drop_database, &drop), ERR_DATABASE_NOT_FOUND,
                   "database not found[database=x]");
    drop.db_name = "d";
    ASSERT_REFUSED(CALL_E(fx, root, drop_database, &drop), ERR_PARAMETER_INVALID,
                   "database:d not empty, must drop all collections before drop database");
    ASSERT_CALL(fx_drop(fx, "d", "c"));
    ASSERT_CALL(CALL_E(fx, root, drop_database, &drop));
    assert_int_equal(CALL_E(fx, root, drop_database, &drop), ERR_DATABASE_NOT_FOUND);
    fx_free(fx);
}

static void test_rename_collection_when_valid_then_found_under_new_name_only(void **state)
{
    struct fx *fx = fx_new();
    Elanus__RenameCollectionReq req = ELANUS__RENAME_COLLECTION_REQ__INIT;
    Elanus__CreateDatabaseReq db = ELANUS__CREATE_DATABASE_REQ__INIT;
    Elanus__CollectionInfo info;
    int64_t id = fx_create(fx, "", "c");
    fx_create(fx, "", "d");
    db.name = "other";
    ASSERT_CALL(CALL_E(fx, root, create_database, &db));
    ASSERT_CALL(fx_alias(fx, "c", "a"));
    req.name = "c";
    req.new_name = "d";
    ASSERT_REFUSED(CALL_E(fx, root, rename_collection, &req), ERR_PARAMETER_INVALID,
                   "duplicated new collection name default:d with other collection name or alias");
    req.name = "a";
    req.new_name = "e";
    ASSERT_REFUSED(CALL_E(fx, root, rename_collection, &req), ERR_PARAMETER_INVALID,
                   "unsupported use an alias to rename collection, alias:a");
    req.name = "x";
    ASSERT_REFUSED(CALL_E(fx, root, rename_collection, &req), ERR_COLLECTION_NOT_FOUND,
                   "collection not found[database=default][collection=x]");
    req.name = "c";
    req.new_db_name = "other";
    ASSERT_REFUSED(CALL_E(fx, root, rename_collection, &req), ERR_PARAMETER_INVALID,
                   "fail to rename db name, must drop all aliases of this collection before "
                   "rename");
    req.new_db_name = "";
    fx_forget(fx);
    ASSERT_CALL(CALL_E(fx, root, rename_collection, &req));
    assert_true(fx_told(fx, "forget(default.c)") && fx_told(fx, "forget(default.e)") &&
                fx_told(fx, "forget(default.a)") && fx_told(fx, "update(e)"));
    assert_int_equal(fx_describe(fx, "", "c", &info), ERR_COLLECTION_NOT_FOUND);
    ASSERT_CALL(fx_describe(fx, "", "a", &info));
    assert_int_equal(info.collection->id, id);
    assert_string_equal(info.collection->schema->name, "e");
    req.name = "d";
    req.new_name = "d";
    req.new_db_name = "other";
    ASSERT_CALL(CALL_E(fx, root, rename_collection, &req));
    ASSERT_CALL(fx_describe(fx, "other", "d", &info));
    assert_true(fx_told(fx, "forget(other.d)"));
    fx_free(fx);
}

static void test_alter_collection_when_dynamic_turned_on_then_meta_field(void **state)
{
    struct fx *fx = fx_new();
    Elanus__AlterCollectionReq req = ELANUS__ALTER_COLLECTION_REQ__INIT;
    Elanus__CollectionInfo before, after;
    pb_kv *kvs[] = { fx_kv(fx, "collection.ttl.seconds", "10") };
    const char *key = "collection.ttl.seconds";
    fx_create(fx, "", "c");
    ASSERT_CALL(fx_describe(fx, "", "c", &before));
    req.name = "c";
    req.properties = kvs;
    req.n_properties = 1;
    ASSERT_CALL(CALL_E(fx, root, alter_collection, &req));
    ASSERT_CALL(fx_describe(fx, "", "c", &after));
    assert_string_equal(after.collection->properties[0]->value, "10");
    assert_true(after.collection->update_ts == before.collection->update_ts);
    kvs[0] = fx_kv(fx, "dynamicfield.enabled", "true");
    ASSERT_CALL(CALL_E(fx, root, alter_collection, &req));
    ASSERT_CALL(fx_describe(fx, "", "c", &after));
    assert_true(after.collection->schema->enable_dynamic_field);
    assert_string_equal(after.collection->schema->fields[3]->name, "$meta");
    assert_int_equal(after.collection->schema->fields[3]->fieldid, 103);
    assert_int_equal(after.collection->schema->version, 1);
    assert_true(after.collection->update_ts > before.collection->update_ts);
    kvs[0] = fx_kv(fx, "dynamicfield.enabled", "false");
    ASSERT_REFUSED(CALL_E(fx, root, alter_collection, &req), ERR_PARAMETER_INVALID,
                   "dynamic schema cannot supported to be disabled");
    req.n_properties = 0;
    req.delete_keys = &key;
    req.n_delete_keys = 1;
    ASSERT_CALL(CALL_E(fx, root, alter_collection, &req));
    ASSERT_CALL(fx_describe(fx, "", "c", &after));
    assert_int_equal(after.collection->n_properties, 0);
    req.name = "x";
    ASSERT_REFUSED(CALL_E(fx, root, alter_collection, &req), ERR_COLLECTION_NOT_FOUND,
                   "collection not found[database=default][collection=x]");
    fx_free(fx);
}

static void test_fields_when_added_or_altered_then_schema_moves_on(void **state)
{
    struct fx *fx = fx_new();
    Elanus__CreateCollectionReq *create = fx_create_req(fx, "", "c");
    Elanus__AddFieldReq add = ELANUS__ADD_FIELD_REQ__INIT;
    Elanus__AlterFieldReq alter = ELANUS__ALTER_FIELD_REQ__INIT;
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    pb_kv *kv = fx_kv(fx, "max_length", "99");
    create->schema->enable_dynamic_field = true;
    ASSERT_CALL(CALL(fx, root, create_collection, create, &info));
    add.collection_name = "c";
    add.field = fx_field(fx, "age", 5);
    ASSERT_REFUSED(CALL_E(fx, root, add_field, &add), ERR_PARAMETER_INVALID,
                   "added field must be nullable, please check it, field name = age");
    add.field->nullable = true;
    ASSERT_CALL(CALL_E(fx, root, add_field, &add));
    assert_int_equal(CALL_E(fx, root, add_field, &add), ERR_PARAMETER_INVALID);
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    assert_string_equal(info.collection->schema->fields[3]->name, "age");
    assert_int_equal(info.collection->schema->fields[3]->fieldid, 104);
    assert_string_equal(info.collection->schema->fields[4]->name, "$meta");
    assert_int_equal(info.collection->schema->version, 1);
    assert_true(fx_told(fx, "update(c)"));
    alter.collection_name = "c";
    alter.field_name = "name";
    alter.properties = &kv;
    alter.n_properties = 1;
    ASSERT_CALL(CALL_E(fx, root, alter_field, &alter));
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    assert_string_equal(info.collection->schema->fields[2]->type_params[0]->value, "99");
    assert_int_equal(info.collection->schema->version, 2);
    alter.field_name = "id";
    ASSERT_REFUSED(CALL_E(fx, root, alter_field, &alter), ERR_PARAMETER_INVALID,
                   "id can not modify the maxlength for non-string types");
    kv->key = "dim";
    ASSERT_REFUSED(CALL_E(fx, root, alter_field, &alter), ERR_PARAMETER_INVALID,
                   "dim does not allow update in collection field param");
    alter.field_name = "none";
    ASSERT_REFUSED(CALL_E(fx, root, alter_field, &alter), ERR_FIELD_NOT_FOUND,
                   "field not found[field=none]");
    fx_free(fx);
}

static void test_partitions_when_dropped_then_rules_hold(void **state)
{
    struct fx *fx = fx_new();
    Elanus__CollectionInfo info;
    int64_t id = fx_create(fx, "", "c");
    ASSERT_CALL(fx_partition(fx, true, "c", "p"));
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    ASSERT_CALL(fx_commit(fx, info.collection->vchannels[0], id, info.partitions[1]->id, 7, 5, 1));
    ASSERT_REFUSED(fx_partition(fx, false, "c", "_default"), ERR_PARAMETER_INVALID,
                   "default partition cannot be deleted");
    ASSERT_CALL(fx_index(fx, "c", "vec", "vec", "FLAT"));
    ASSERT_CALL(fx_load(fx, "c", NULL));
    ASSERT_REFUSED(fx_partition(fx, false, "c", "p"), ERR_PARAMETER_INVALID,
                   "partition cannot be dropped, partition is loaded, please release it first");
    ASSERT_CALL(fx_release(fx, "c", "p"));
    ASSERT_CALL(fx_partition(fx, false, "c", "p"));
    assert_true(fx_told(fx, "drop_partition("));
    assert_int_equal(fx_keys(fx, "/elanus/data/segment/"), 0);
    ASSERT_CALL(fx_partition(fx, false, "c", "p"));
    /* Rows of a partition that is gone do not come back with a late flush. */
    ASSERT_CALL(fx_commit(fx, info.collection->vchannels[0], id, info.partitions[1]->id, 8, 5, 1));
    assert_int_equal(fx_keys(fx, "/elanus/data/segment/"), 0);
    ASSERT_REFUSED(fx_partition(fx, true, "x", "p"), ERR_COLLECTION_NOT_FOUND,
                   "collection not found[database=default][collection=x]");
    fx_free(fx);
}

static bool login(struct fx *fx, const char *name, const char *password)
{
    Elanus__CredentialReq req = ELANUS__CREDENTIAL_REQ__INIT;
    Elanus__AuthResp resp = ELANUS__AUTH_RESP__INIT;
    req.name = name;
    req.password = password;
    ASSERT_CALL(CALL(fx, root, authenticate, &req, &resp));
    return resp.ok;
}

static void test_users_when_managed_then_passwords_count(void **state)
{
    struct fx *fx = fx_new();
    struct status st = STATUS_INIT;
    Elanus__CredentialReq req = ELANUS__CREDENTIAL_REQ__INIT;
    Elanus__NameList names = ELANUS__NAME_LIST__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    assert_true(login(fx, "root", "Milvus"));
    assert_false(login(fx, "root", "milvus"));
    assert_false(login(fx, "nobody", ""));
    req.name = "root";
    ASSERT_REFUSED(CALL_E(fx, root, drop_user, &req), ERR_PRIVILEGE_NOT_PERMITTED,
                   "root user cannot be deleted: privilege not permitted");
    req.name = "u";
    req.password = "secret1";
    ASSERT_CALL(CALL_E(fx, root, create_user, &req));
    ASSERT_REFUSED(CALL_E(fx, root, create_user, &req), ERR_PARAMETER_INVALID,
                   "user already exists:u");
    assert_true(login(fx, "u", "secret1"));
    req.old_password = "wrong";
    req.password = "secret2";
    ASSERT_REFUSED(CALL_E(fx, root, update_user, &req), ERR_NOT_AUTHENTICATED,
                   "old password not correct for u: not authenticated");
    req.old_password = "secret1";
    ASSERT_CALL(CALL_E(fx, root, update_user, &req));
    fx_restart(fx);
    assert_true(login(fx, "u", "secret2"));
    assert_false(login(fx, "u", "secret1"));
    ASSERT_CALL(CALL(fx, root, list_users, &e, &names));
    assert_int_equal(names.n_names, 2);
    assert_string_equal(names.names[0], "root");
    ASSERT_OK(config_set(fx->cfg, "proxy.maxUserNum", SLICE_LIT("2"), &st));
    req.name = "v";
    ASSERT_REFUSED(CALL_E(fx, root, create_user, &req), ERR_PARAMETER_INVALID,
                   "unable to add user because the number of users has reached the limit");
    req.name = "u";
    ASSERT_CALL(CALL_E(fx, root, drop_user, &req));
    ASSERT_CALL(CALL_E(fx, root, drop_user, &req));
    assert_false(login(fx, "u", "secret2"));
    fx_free(fx);
}

int main(void)
{
    log_threshold = LOG_WARN;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_collection_when_new_then_has_ids_partition_and_shard),
        cmocka_unit_test(test_create_collection_when_same_then_succeeds_else_refused),
        cmocka_unit_test(test_create_collection_when_partition_key_then_hidden_partitions),
        cmocka_unit_test(test_create_collection_when_node_refuses_then_nothing_is_left),
        cmocka_unit_test(test_create_collection_when_functions_then_outputs_marked),
        cmocka_unit_test(test_limits_when_reached_then_refused),
        cmocka_unit_test(test_drop_collection_when_loaded_with_segments_then_all_gone),
        cmocka_unit_test(test_drop_collection_when_aliased_then_refused),
        cmocka_unit_test(test_aliases_when_used_then_texts_of_the_api),
        cmocka_unit_test(test_databases_when_used_then_texts_of_the_api),
        cmocka_unit_test(test_rename_collection_when_valid_then_found_under_new_name_only),
        cmocka_unit_test(test_alter_collection_when_dynamic_turned_on_then_meta_field),
        cmocka_unit_test(test_fields_when_added_or_altered_then_schema_moves_on),
        cmocka_unit_test(test_partitions_when_dropped_then_rules_hold),
        cmocka_unit_test(test_users_when_managed_then_passwords_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
