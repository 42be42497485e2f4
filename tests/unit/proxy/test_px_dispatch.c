/* test_px_dispatch.c - over a socket: which methods there are, and how answers and failures look. */
#include "px_fixture.h"
#include "net/grpc_client.h"
#include "proto/proto.h"

#define SVC "/milvus.proto.milvus.MilvusService/"

struct live {
    struct fx fx;
    struct net_server *srv;
    struct grpc_client *cl;
    struct arena *ar;
};

static void live_start(struct live *l, const char *const *set)
{
    struct status st = STATUS_INIT;
    struct net_opts no;
    struct net_listen nl = { .host = "127.0.0.1", .port = 0, .grpc = true };
    char address[64];
    int port;

    fx_start(&l->fx, set);
    l->ar = arena_new(0);
    net_opts_default(&no);
    ASSERT_OK(net_server_new(&no, &l->srv, &st));
    ASSERT_OK(proxy_register(l->fx.px, l->srv, &st));
    ASSERT_OK(net_server_listen(l->srv, &nl, &port, &st));
    ASSERT_OK(net_server_start(l->srv, &st));
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    struct grpc_client_opts co = { .address = address };
    ASSERT_OK(grpc_client_new(&co, &l->cl, &st));
    proxy_set_ready(l->fx.px, true);
}

static void live_stop(struct live *l)
{
    grpc_client_free(l->cl);
    net_server_free(l->srv);
    arena_free(l->ar);
    fx_stop(&l->fx);
}

/* The gRPC code; the message in *ret when it is OK, the words in l->ar when not. */
static int call_md(struct live *l, const char *path, const ProtobufCMessage *req,
                   const struct grpc_md *md, size_t nmd,
                   const ProtobufCMessageDescriptor *desc, void **ret, const char **ret_words)
{
    struct status st = STATUS_INIT;
    struct grpc_resp resp;
    struct buf body;
    int code;

    buf_init(&body, 1 << 20);
    if (req) {
        assert_true(proto_pack(req, &body));
    }
    struct grpc_req r = { .path = path, .body = buf_slice(&body), .wait_ready = true,
                          .deadline_us = deadline_in_ms(20000), .md = md, .md_count = nmd };
    (void)grpc_client_call(l->cl, &r, &resp, &st);
    code = resp.code;
    if (code == GRPC_OK && ret) {
        *ret = proto_unpack(desc, buf_slice(&resp.body), l->ar, &st);
        assert_non_null(*ret);
    }
    if (ret_words) {
        *ret_words = arena_strndup(l->ar, (const char *)resp.message.p, resp.message.n);
    }
    grpc_resp_done(&resp);
    buf_done(&body);
    return code;
}

static int call(struct live *l, const char *path, const ProtobufCMessage *req,
                const ProtobufCMessageDescriptor *desc, void **ret)
{
    return call_md(l, path, req, NULL, 0, desc, ret, NULL);
}

static void test_version_and_connect(void **state)
{
    PX_PB(GetVersionResponse) *v;
    PX_PB(ConnectResponse) *c, *c2;
    struct live l;

    live_start(&l, NULL);
    proxy_set_ready(l.fx.px, false); /* these answer all the same */
    assert_int_equal(call(&l, SVC "GetVersion", NULL,
                          &milvus__proto__milvus__get_version_response__descriptor, (void **)&v),
                     GRPC_OK);
    assert_string_equal(v->version, PX_API_VERSION);
    assert_non_null(v->status);
    assert_int_equal(v->status->code, 0);
    assert_int_equal(call(&l, SVC "Connect", NULL,
                          &milvus__proto__milvus__connect_response__descriptor, (void **)&c),
                     GRPC_OK);
    assert_int_equal(call(&l, SVC "Connect", NULL,
                          &milvus__proto__milvus__connect_response__descriptor, (void **)&c2),
                     GRPC_OK);
    assert_true(c->identifier != 0 && c2->identifier != c->identifier);
    assert_string_equal(c->server_info->build_tags, PX_API_VERSION);
    assert_string_equal(c->server_info->deploy_mode, "STANDALONE");
    live_stop(&l);
}

static void test_not_served_is_unimplemented(void **state)
{
    const char *words;
    struct live l;

    live_start(&l, NULL);
    assert_int_equal(call_md(&l, SVC "AlterCollectionSchema", NULL, NULL, 0, NULL, NULL, &words),
                     GRPC_UNIMPLEMENTED);
    assert_string_equal(words, "method AlterCollectionSchema is not served");
    assert_int_equal(call(&l, "/milvus.proto.milvus.ClientTelemetryService/ClientHeartbeat", NULL,
                          NULL, NULL), GRPC_UNIMPLEMENTED);
    assert_int_equal(call(&l, SVC "NoSuchMethod", NULL, NULL, NULL), GRPC_UNIMPLEMENTED);
    live_stop(&l);
}

static void test_a_failure_lies_in_the_status_under_grpc_ok(void **state)
{
    PX_PB(DescribeCollectionRequest) req;
    PX_PB(DescribeCollectionResponse) *resp;
    px_status_pb *status;
    PX_PB(DropCollectionRequest) drop;
    struct live l;

    live_start(&l, NULL);
    milvus__proto__milvus__describe_collection_request__init(&req);
    req.collection_name = "nope";
    assert_int_equal(call(&l, SVC "DescribeCollection", &req.pb,
                          &milvus__proto__milvus__describe_collection_response__descriptor,
                          (void **)&resp), GRPC_OK);
    assert_int_equal(resp->status->code, 100);
    assert_int_equal(resp->status->error_code, 4);
    assert_string_equal(resp->status->reason,
                        "can't find collection[database=default][collection=nope]");
    /* a response that is a Status itself */
    milvus__proto__milvus__drop_collection_request__init(&drop);
    drop.collection_name = "no-dash";
    assert_int_equal(call(&l, SVC "DropCollection", &drop.pb,
                          &milvus__proto__common__status__descriptor, (void **)&status), GRPC_OK);
    assert_int_equal(status->code, 1100);
    assert_int_equal(status->error_code, 5);
    live_stop(&l);
}

static void test_describe_shows_the_client_s_own_fields(void **state)
{
    PX_PB(DescribeCollectionRequest) req;
    PX_PB(DescribeCollectionResponse) *resp;
    struct live l;

    live_start(&l, NULL);
    milvus__proto__milvus__describe_collection_request__init(&req);
    req.collection_name = "other";
    assert_int_equal(call(&l, SVC "DescribeCollection", &req.pb,
                          &milvus__proto__milvus__describe_collection_response__descriptor,
                          (void **)&resp), GRPC_OK);
    assert_int_equal(resp->status->code, 0);
    assert_string_equal(resp->schema->name, "c");
    assert_string_equal(resp->collection_name, "c");
    assert_int_equal(resp->schema->n_fields, 3); /* no $meta */
    assert_int_equal(resp->schema->fields[0]->fieldid, 100);
    assert_true(resp->schema->enable_dynamic_field);
    assert_int_equal(resp->collectionid, FX_COLL);
    assert_int_equal(resp->shards_num, 1);
    assert_int_equal(resp->num_partitions, 1);
    assert_string_equal(resp->aliases[0], "other");
    assert_string_equal(resp->physical_channel_names[0], "dml_0");
    assert_int_equal(resp->created_utc_timestamp, 1000);
    assert_int_equal(resp->update_timestamp, hts_make(1000, 2));
    live_stop(&l);
}

static void test_has_collection_is_false_without_an_error(void **state)
{
    PX_PB(HasCollectionRequest) req;
    PX_PB(BoolResponse) *resp;
    struct live l;

    live_start(&l, NULL);
    milvus__proto__milvus__has_collection_request__init(&req);
    req.collection_name = "nope";
    assert_int_equal(call(&l, SVC "HasCollection", &req.pb,
                          &milvus__proto__milvus__bool_response__descriptor, (void **)&resp),
                     GRPC_OK);
    assert_int_equal(resp->status->code, 0);
    assert_false(resp->value);
    req.collection_name = "c";
    assert_int_equal(call(&l, SVC "HasCollection", &req.pb,
                          &milvus__proto__milvus__bool_response__descriptor, (void **)&resp),
                     GRPC_OK);
    assert_true(resp->value);
    live_stop(&l);
}

static void test_database_comes_from_the_metadata_when_the_request_names_none(void **state)
{
    struct grpc_md md[] = { { SLICE_LIT("dbname"), SLICE_LIT("books") } };
    PX_PB(DescribeCollectionRequest) req;
    PX_PB(DescribeCollectionResponse) *resp;
    struct live l;

    live_start(&l, NULL);
    l.fx.exists = false;
    milvus__proto__milvus__describe_collection_request__init(&req);
    req.collection_name = "c";
    assert_int_equal(call_md(&l, SVC "DescribeCollection", &req.pb, md, 1,
                             &milvus__proto__milvus__describe_collection_response__descriptor,
                             (void **)&resp, NULL), GRPC_OK);
    assert_non_null(strstr(resp->status->reason, "[database=books]"));
    req.db_name = "films";
    assert_int_equal(call_md(&l, SVC "DescribeCollection", &req.pb, md, 1,
                             &milvus__proto__milvus__describe_collection_response__descriptor,
                             (void **)&resp, NULL), GRPC_OK);
    assert_non_null(strstr(resp->status->reason, "[database=films]"));
    live_stop(&l);
}

static void test_not_ready_is_said_in_the_status(void **state)
{
    PX_PB(AllocTimestampResponse) *resp;
    PX_PB(CheckHealthResponse) *health;
    struct live l;

    live_start(&l, NULL);
    proxy_set_ready(l.fx.px, false);
    assert_int_equal(call(&l, SVC "AllocTimestamp", NULL,
                          &milvus__proto__milvus__alloc_timestamp_response__descriptor,
                          (void **)&resp), GRPC_OK);
    assert_int_equal(resp->status->code, 1);
    assert_true(resp->status->retriable);
    assert_int_equal(resp->timestamp, 0);
    assert_int_equal(call(&l, SVC "CheckHealth", NULL,
                          &milvus__proto__milvus__check_health_response__descriptor,
                          (void **)&health), GRPC_OK);
    assert_int_equal(health->status->code, 0);
    assert_false(health->ishealthy);
    assert_int_equal(health->n_reasons, 1);
    proxy_set_ready(l.fx.px, true);
    assert_int_equal(call(&l, SVC "AllocTimestamp", NULL,
                          &milvus__proto__milvus__alloc_timestamp_response__descriptor,
                          (void **)&resp), GRPC_OK);
    assert_true(resp->timestamp > 0);
    live_stop(&l);
}

static void test_bytes_that_are_no_request(void **state)
{
    struct status st = STATUS_INIT;
    struct grpc_resp resp;
    struct live l;

    live_start(&l, NULL);
    struct grpc_req r = { .path = SVC "HasCollection", .body = SLICE_LIT("\xff\xff\xff"),
                          .wait_ready = true, .deadline_us = deadline_in_ms(20000) };
    (void)grpc_client_call(l.cl, &r, &resp, &st);
    assert_int_equal(resp.code, GRPC_INVALID_ARGUMENT);
    grpc_resp_done(&resp);
    live_stop(&l);
}

static void test_authentication(void **state)
{
    /* "root:Milvus", "root:wrong" */
    struct grpc_md good[] = { { SLICE_LIT("authorization"), SLICE_LIT("cm9vdDpNaWx2dXM=") } };
    struct grpc_md bad[] = { { SLICE_LIT("authorization"), SLICE_LIT("cm9vdDp3cm9uZw==") } };
    struct grpc_md odd[] = { { SLICE_LIT("authorization"), SLICE_LIT("%%%") } };
    const char *words;
    struct live l;

    live_start(&l, (const char *const[]){ "common.security.authorizationEnabled=true", NULL });
    assert_int_equal(call_md(&l, SVC "Connect", NULL, NULL, 0, NULL, NULL, &words),
                     GRPC_UNAUTHENTICATED);
    assert_non_null(strstr(words, "auth check failure, please check username and password are "
                                  "correct"));
    assert_int_equal(call_md(&l, SVC "Connect", NULL, bad, 1, NULL, NULL, NULL),
                     GRPC_UNAUTHENTICATED);
    assert_int_equal(call_md(&l, SVC "Connect", NULL, odd, 1, NULL, NULL, &words),
                     GRPC_UNAUTHENTICATED);
    assert_non_null(strstr(words, "invalid token format"));
    assert_int_equal(l.fx.authentications, 1);
    assert_int_equal(call_md(&l, SVC "Connect", NULL, good, 1, NULL, NULL, NULL), GRPC_OK);
    assert_int_equal(call_md(&l, SVC "AllocTimestamp", NULL, good, 1, NULL, NULL, NULL), GRPC_OK);
    assert_int_equal(l.fx.authentications, 2); /* remembered */
    px_auth_forget(l.fx.px->auth);
    assert_int_equal(call_md(&l, SVC "AllocTimestamp", NULL, good, 1, NULL, NULL, NULL), GRPC_OK);
    assert_int_equal(l.fx.authentications, 3);
    live_stop(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_and_connect),
        cmocka_unit_test(test_not_served_is_unimplemented),
        cmocka_unit_test(test_a_failure_lies_in_the_status_under_grpc_ok),
        cmocka_unit_test(test_describe_shows_the_client_s_own_fields),
        cmocka_unit_test(test_has_collection_is_false_without_an_error),
        cmocka_unit_test(test_database_comes_from_the_metadata_when_the_request_names_none),
        cmocka_unit_test(test_not_ready_is_said_in_the_status),
        cmocka_unit_test(test_bytes_that_are_no_request),
        cmocka_unit_test(test_authentication),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
