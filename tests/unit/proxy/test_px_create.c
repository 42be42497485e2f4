/* test_px_create.c - CreateCollection's own checks, names, properties, key-value lists. */
#include "px_fixture.h"
#include "proxy/px_methods.h"

static void request(struct fx *fx, PX_PB(CreateCollectionRequest) *req)
{
    Milvus__Proto__Schema__CollectionSchema *s = fx_schema(fx, fx->ar);
    struct buf b;

    s->n_fields = 3; /* clients do not send $meta */
    for (size_t i = 0; i < 3; i++) {
        s->fields[i]->fieldid = 0;
    }
    buf_init(&b, 1 << 20);
    assert_true(proto_pack(&s->pb, &b));
    struct slice copy = arena_copy(fx->ar, buf_slice(&b));
    buf_done(&b);
    milvus__proto__milvus__create_collection_request__init(req);
    req->collection_name = "books";
    req->schema = (ProtobufCBinaryData){ copy.n, (uint8_t *)(uintptr_t)copy.p };
    req->consistency_level = MILVUS__PROTO__COMMON__CONSISTENCY_LEVEL__Bounded;
}

static int create(struct fx *fx, const PX_PB(CreateCollectionRequest) *req, struct status *st)
{
    px_status_pb resp;

    milvus__proto__common__status__init(&resp);
    st_clear(st);
    return px_create_collection(&fx->pc, req, &resp, st);
}

static void test_create_hands_on_a_checked_schema(void **state)
{
    PX_PB(CreateCollectionRequest) req;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    request(&fx, &req);
    ASSERT_OK(create(&fx, &req, &st));
    assert_string_equal(fx.created->schema->name, "books"); /* the request's name counts */
    assert_string_equal(fx.created->db_name, "default");
    assert_int_equal(fx.created->shards_num, 1);
    assert_int_equal(fx.created->consistency_level, 2);
    assert_int_equal(fx.created->num_partitions, 0);
    fx_stop(&fx);
}

static void refused(PX_PB(CreateCollectionRequest) *req, struct fx *fx, const char *words)
{
    struct status st = STATUS_INIT;
    int rc = create(fx, req, &st);

    if (rc == 0 || !strstr(st.msg, words)) {
        fail_msg("wanted \"%s\", got %d \"%s\"", words, rc, st.msg);
    }
    assert_null(fx->created);
}

static void test_create_refuses(void **state)
{
    PX_PB(CreateCollectionRequest) req, good;
    struct px_kv_list l = { 0 };
    struct fx fx;

    fx_start(&fx, NULL);
    request(&fx, &good);
    req = good;
    req.collection_name = "no-dash";
    refused(&req, &fx, "collection name can only contain numbers, letters and underscores");
    req.collection_name = "";
    req.schema.len = 0; /* the name is complained about before the schema */
    refused(&req, &fx, "collection name should not be empty");
    req = good;
    req.shards_num = 17;
    refused(&req, &fx, "maximum shards's number should be limited to 16");
    req = good;
    req.num_partitions = 4;
    refused(&req, &fx, "num_partitions should only be specified with partition key field enabled");
    req = good;
    req.num_partitions = -1;
    refused(&req, &fx, "should be greater than 0");
    req = good;
    req.schema = (ProtobufCBinaryData){ 2, (uint8_t *)(uintptr_t)"\xff\xff" };
    refused(&req, &fx, "is no CollectionSchema");
    req = good;
    px_kv_add(&l, fx.ar, "collection.ttl.seconds", "soon");
    req.properties = l.kv;
    req.n_properties = l.n;
    refused(&req, &fx, "collection TTL is not a valid positive integer");
    l.kv[0]->value = "-2";
    refused(&req, &fx, "collection TTL is out of range");
    l.kv[0]->key = "mmap.enabled";
    refused(&req, &fx, "invalid mmap.enabled value: -2");
    fx_stop(&fx);
}

static void test_partition_key_allows_a_number_of_partitions(void **state)
{
    PX_PB(CreateCollectionRequest) req;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    fx.partition_key = true;
    request(&fx, &req);
    req.num_partitions = 1025;
    refused(&req, &fx, "exceeds max configuration (1024)");
    req.num_partitions = 64;
    ASSERT_OK(create(&fx, &req, &st));
    assert_int_equal(fx.created->num_partitions, 64);
    fx_stop(&fx);
}

static void test_limits_come_from_the_configuration(void **state)
{
    PX_PB(CreateCollectionRequest) req;
    struct fx fx;

    fx_start(&fx, (const char *const[]){ "proxy.maxDimension=4", NULL });
    request(&fx, &req);
    refused(&req, &fx, "dimension should be in range 2 ~ 4");
    fx_stop(&fx);
}

static void test_names_by_kind(void **state)
{
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    ASSERT_OK(px_check_partition_name(fx.px, "2024-01", &st));
    ASSERT_OK(px_check_index_name(fx.px, "", &st));
    assert_int_equal(px_check_alias_name(fx.px, "1a", &st), ERR_PARAMETER_INVALID);
    assert_non_null(strstr(st.msg, "Invalid collection alias: 1a."));
    assert_int_equal(px_check_database_name(fx.px, "a b", &st), ERR_DATABASE_INVALID_NAME);
    assert_int_equal(px_check_index_name(fx.px, "a b", &st), ERR_PARAMETER_INVALID);
    fx_stop(&fx);
}

static void test_base64(void **state)
{
    struct arena *ar = arena_new(0);

    assert_true(slice_is(px_base64_decode(ar, SLICE_LIT("TWlsdnVz")), "Milvus"));
    assert_true(slice_is(px_base64_decode(ar, SLICE_LIT("TWlsdnVzMg==")), "Milvus2"));
    assert_true(slice_is(px_base64_decode(ar, SLICE_LIT("TWlsdnVzMg")), "Milvus2"));
    assert_true(slice_is(px_base64_decode(ar, SLICE_LIT("")), ""));
    assert_null(px_base64_decode(ar, SLICE_LIT("A")).p);
    assert_null(px_base64_decode(ar, SLICE_LIT("TW l")).p);
    assert_null(px_base64_decode(ar, SLICE_LIT("TW=s")).p);
    arena_free(ar);
}

static void test_database_of_a_call(void **state)
{
    struct fx fx;

    fx_start(&fx, NULL);
    assert_string_equal(px_db(&fx.pc, ""), "default");
    fx.pc.db_metadata = SLICE_LIT("books");
    assert_string_equal(px_db(&fx.pc, ""), "books");
    assert_string_equal(px_db(&fx.pc, "films"), "films");
    fx_stop(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_hands_on_a_checked_schema),
        cmocka_unit_test(test_create_refuses),
        cmocka_unit_test(test_partition_key_allows_a_number_of_partitions),
        cmocka_unit_test(test_limits_come_from_the_configuration),
        cmocka_unit_test(test_names_by_kind),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_database_of_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
