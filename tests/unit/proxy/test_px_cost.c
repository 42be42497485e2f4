/* test_px_cost.c - how long searches of a kind take, and which are tried on the net thread. */
#include "px_fixture.h"
#include "net/grpc_client.h"
#include "proxy/px_read.h"

static uint32_t mean_after(uint32_t mean, int64_t us, int times)
{
    _Atomic uint32_t at = mean;
    for (int i = 0; i < times; i++) {
        px_kind_took((struct px_kind){ &at }, us);
    }
    return at;
}

static void test_mean_when_times_come_then_it_follows(void **state)
{
    assert_int_equal(mean_after(0, 70, 1), 70);
    assert_int_equal(mean_after(0, 0, 1), 1);
    assert_int_equal(mean_after(50, 50, 100), 50);
    assert_int_equal(mean_after(50, 90, 100), 90);
    assert_int_equal(mean_after(90, 10, 100), 10);
    assert_int_equal(mean_after(UINT32_MAX, INT64_MAX / 8, 3), UINT32_MAX);
}

static void test_mean_when_one_time_is_far_off_then_little_changes(void **state)
{
    assert_in_range(mean_after(50, 1000000, 1), 51, 80);
    assert_true(mean_after(50, 1000000, 10) > 200); /* but it is seen when it stays */
}

static void test_kind_when_unknown_or_long_then_not_short(void **state)
{
    _Atomic uint32_t us = 0;
    struct px_kind k = { &us };
    assert_false(px_kind_is_short(k));
    us = 1;
    assert_true(px_kind_is_short(k));
    us = 100;
    assert_true(px_kind_is_short(k));
    us = 5000;
    assert_false(px_kind_is_short(k));
}

static void test_kind_when_searches_differ_then_not_the_same(void **state)
{
    struct px_coll coll = { 0 };
    struct px_search a = { .coll = &coll, .sp = { .params = "{\"ef\": 10}" } }, b;
    int same = 0;

    elanus__search_req__init(&a.req);
    a.req.nq = 1;
    a.req.k = 10;
    assert_ptr_equal(px_search_kind(&a).us, px_search_kind(&a).us);
#define DIFFERS(change)                                                                            \
    b = a;                                                                                         \
    b.change;                                                                                      \
    same += px_search_kind(&a).us == px_search_kind(&b).us
    DIFFERS(req.nq = 100);
    DIFFERS(req.k = 100);
    DIFFERS(req.field_id = 7);
    DIFFERS(req.plan.len = 7);
    DIFFERS(req.has_radius = true);
    DIFFERS(sp.params = "{\"ef\": 500}");
    assert_in_range(same, 0, 1); /* places are shared by chance */
}

/* ---- over a socket ---- */

struct world {
    struct fx fx;
    struct net_server *srv;
    struct grpc_client *cl;
    _Atomic int searches, eager, refuse, expected;
};

static int shard_search(void *self, const struct call *call, const Elanus__SearchReq *req,
                        Elanus__SearchResp *resp, struct status *st)
{
    struct world *w = self;
    w->searches++;
    w->eager += call->no_wait;
    w->expected += call->expect_us != 0;
    if (call->no_wait && w->refuse) {
        return st_fail(st, ST_WOULD_WAIT, "as told");
    }
    resp->counts = arena_alloc(call->ar, req->nq * sizeof *resp->counts);
    resp->n_counts = req->nq;
    return 0;
}

static int32_t search(struct world *w)
{
    static float vec[8];
    Milvus__Proto__Milvus__SearchRequest req;
    Milvus__Proto__Common__PlaceholderGroup pg = MILVUS__PROTO__COMMON__PLACEHOLDER_GROUP__INIT;
    Milvus__Proto__Common__PlaceholderValue pv = MILVUS__PROTO__COMMON__PLACEHOLDER_VALUE__INIT;
    Milvus__Proto__Common__PlaceholderValue *pvs = &pv;
    ProtobufCBinaryData value = { sizeof vec, (uint8_t *)vec };
    struct px_kv_list kv = { 0 };
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct grpc_resp resp;
    struct buf body, group;
    Milvus__Proto__Milvus__SearchResults *got;
    int32_t code;

    buf_init(&body, 1 << 20);
    buf_init(&group, 1 << 20);
    milvus__proto__milvus__search_request__init(&req);
    pv.tag = "$0";
    pv.type = MILVUS__PROTO__COMMON__PLACEHOLDER_TYPE__FloatVector;
    pv.values = &value;
    pv.n_values = 1;
    pg.placeholders = &pvs;
    pg.n_placeholders = 1;
    assert_true(proto_pack(&pg.pb, &group));
    req.collection_name = "c";
    req.search_input_case = MILVUS__PROTO__MILVUS__SEARCH_REQUEST__SEARCH_INPUT_PLACEHOLDER_GROUP;
    req.placeholder_group = (ProtobufCBinaryData){ group.n, group.p };
    px_kv_add(&kv, ar, "anns_field", "vec");
    px_kv_add(&kv, ar, "topk", "3");
    req.search_params = kv.kv;
    req.n_search_params = kv.n;
    assert_true(proto_pack(&req.pb, &body));
    struct grpc_req r = { .path = "/milvus.proto.milvus.MilvusService/Search",
                          .body = buf_slice(&body), .wait_ready = true,
                          .deadline_us = deadline_in_ms(20000) };
    ASSERT_OK(grpc_client_call(w->cl, &r, &resp, &st));
    got = proto_unpack(&milvus__proto__milvus__search_results__descriptor, buf_slice(&resp.body),
                       ar, &st);
    assert_non_null(got);
    code = got->status->code;
    grpc_resp_done(&resp);
    buf_done(&body);
    buf_done(&group);
    arena_free(ar);
    return code;
}

static void world_start(struct world *w)
{
    struct status st = STATUS_INIT;
    struct net_opts no;
    struct net_listen nl = { .host = "127.0.0.1", .grpc = true };
    char address[64];
    int port;

    *w = (struct world){ 0 };
    fx_start(&w->fx, NULL);
    w->fx.loaded = w->fx.has_index = true;
    w->fx.snode = (struct snode_service){ .self = w, .search = shard_search };
    net_opts_default(&no);
    ASSERT_OK(net_server_new(&no, &w->srv, &st));
    ASSERT_OK(proxy_register(w->fx.px, w->srv, &st));
    ASSERT_OK(net_server_listen(w->srv, &nl, &port, &st));
    ASSERT_OK(net_server_start(w->srv, &st));
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    struct grpc_client_opts co = { .address = address };
    ASSERT_OK(grpc_client_new(&co, &w->cl, &st));
    proxy_set_ready(w->fx.px, true);
}

static void world_stop(struct world *w)
{
    grpc_client_free(w->cl);
    net_server_free(w->srv);
    fx_stop(&w->fx);
}

/* Searches until one is tried on the net thread: a busy machine may take long for the first ones. */
static void search_until_eager(struct world *w)
{
    int64_t until = deadline_in_ms(20000);
    int before = w->eager;
    while (w->eager == before) {
        assert_true(clock_mono_us() < until);
        assert_int_equal(search(w), 0);
    }
}

static void test_search_when_known_to_be_short_then_eager(void **state)
{
    struct world w;

    world_start(&w);
    assert_int_equal(search(&w), 0);
    assert_int_equal(w.searches, 1);
    assert_int_equal(w.eager, 0); /* the collection is unknown, and how long it takes */
    assert_int_equal(w.expected, 0);
    search_until_eager(&w);
    w.searches = w.expected = 0;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(search(&w), 0);
    }
    assert_int_equal(w.searches, 50);
    assert_int_equal(w.expected, 50);
    world_stop(&w);
}

static void test_search_when_it_would_wait_then_made_again(void **state)
{
    struct world w;

    world_start(&w);
    search_until_eager(&w);
    w.refuse = 1;
    search_until_eager(&w);
    w.searches = w.eager = 0;
    assert_int_equal(search(&w), 0);
    assert_int_equal(w.searches, 1 + w.eager);
    world_stop(&w);
}

static void test_search_when_wrong_then_told_by_the_worker(void **state)
{
    struct world w;

    world_start(&w);
    assert_int_equal(search(&w), 0);
    w.fx.loaded = false;
    fx_invalidate(&w.fx, FX_COLL, "c");
    assert_int_equal(search(&w), ERR_COLLECTION_NOT_LOADED);
    assert_int_equal(w.searches, 1);
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mean_when_times_come_then_it_follows),
        cmocka_unit_test(test_mean_when_one_time_is_far_off_then_little_changes),
        cmocka_unit_test(test_kind_when_unknown_or_long_then_not_short),
        cmocka_unit_test(test_kind_when_searches_differ_then_not_the_same),
        cmocka_unit_test(test_search_when_known_to_be_short_then_eager),
        cmocka_unit_test(test_search_when_it_would_wait_then_made_again),
        cmocka_unit_test(test_search_when_wrong_then_told_by_the_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
