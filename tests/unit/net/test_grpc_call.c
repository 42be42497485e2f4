/* test_grpc_call.c - calls between our client and our server: payloads, metadata, limits, time. */
#include "harness.h"

static void on_where(struct grpc_call *call, void *arg)
{
    char text[200];
    int n = snprintf(text, sizeof text, "%.*s|%s|%.*s", SLICE_ARG(grpc_metadata(call, "dbname")),
                     strncmp(grpc_peer(call), "127.0.0.1:", 10) == 0 ? "peer" : grpc_peer(call),
                     SLICE_ARG(grpc_metadata(call, "token-bin")));
    assert_true(grpc_set_header(call, "x-head", SLICE_LIT("h")));
    assert_true(grpc_set_trailer(call, "x-trail", SLICE_LIT("t")));
    assert_true(grpc_set_trailer(call, "detail-bin", slice_n("\0\1\xff", 3)));
    assert_false(grpc_set_trailer(call, "grpc-status", SLICE_LIT("0")));
    assert_false(grpc_set_trailer(call, "bad", SLICE_LIT("a\r\nb")));
    grpc_reply(call, slice_n(text, (size_t)n));
}

static void on_fail(struct grpc_call *call, void *arg)
{
    (void)grpc_set_trailer(call, "detail-bin", slice_n("\0\2", 2));
    grpc_fail(call, GRPC_FAILED_PRECONDITION, "no: 100%% \xc3\xa4\n%d", 7);
}

static void on_size(struct grpc_call *call, void *arg)
{
    struct slice r = grpc_request(call);
    uint64_t out[2] = { r.n, 0 };
    for (size_t i = 0; i < r.n; i++) {
        out[1] = out[1] * 31 + (uint8_t)r.p[i];
    }
    grpc_reply(call, slice_n(out, sizeof out));
}

/* The request is a number of bytes to send back. */
static void on_make(struct grpc_call *call, void *arg)
{
    struct buf b;
    uint64_t n = load_u64(grpc_request(call).p);
    buf_init(&b, (size_t)1 << 30);
    (void)buf_put_zero(&b, n);
    if (n) {
        b.p[n - 1] = 7;
    }
    grpc_reply_buf(call, &b);
}

static void on_arena(struct grpc_call *call, void *arg)
{
    char *p = arena_printf(grpc_arena(call), "deadline %d", grpc_deadline_us(call) != DEADLINE_NONE);
    grpc_reply_arena(call, slice_of(p));
}

/* Sends n messages of m bytes: request is two u32. */
static void on_stream(struct grpc_call *call, void *arg)
{
    struct harness *h = arg;
    struct status st = STATUS_INIT;
    uint32_t n = load_u32(grpc_request(call).p), m = load_u32(grpc_request(call).p + 4);
    char *p = xalloc(m + 4);
    h->entered++;
    for (uint32_t i = 0; i < n && !st.code; i++) {
        store_u32(p, i);
        (void)grpc_send(call, slice_n(p, m + 4), &st);
    }
    mem_free(p);
    if (st.code == ST_CANCELLED) {
        h->cancelled++;
    }
    if (st.code) {
        grpc_fail_status(call, &st);
    } else {
        grpc_finish(call, GRPC_OK, NULL);
    }
    h->finished++;
}

static void on_later_thread(void *arg)
{
    struct grpc_call *call = arg;
    grpc_reply(call, SLICE_LIT("later"));
}

struct thread *later;
static void on_later(struct grpc_call *call, void *arg);

static const struct grpc_method methods[] = {
    { "/t.T/Echo", GRPC_UNARY, NET_POOL_READ, on_echo, NULL },
    { "/t.T/EchoInline", GRPC_UNARY, NET_INLINE, on_echo, NULL },
    { "/t.T/Where", GRPC_UNARY, NET_INLINE, on_where, NULL },
    { "/t.T/Fail", GRPC_UNARY, NET_POOL_READ, on_fail, NULL },
    { "/t.T/Size", GRPC_UNARY, NET_POOL_WRITE, on_size, NULL },
    { "/t.T/Make", GRPC_UNARY, NET_POOL_READ, on_make, NULL },
    { "/t.T/Arena", GRPC_UNARY, NET_INLINE, on_arena, NULL },
    { "/t.T/Wait", GRPC_UNARY, NET_POOL_READ, on_wait, NULL },
    { "/t.T/WaitWrite", GRPC_UNARY, NET_POOL_WRITE, on_wait, NULL },
    { "/t.T/Stream", GRPC_SERVER_STREAM, NET_POOL_READ, on_stream, NULL },
    { "/t.T/Later", GRPC_UNARY, NET_INLINE, on_later, NULL },
};

#include "base/pool.h"
static void on_later(struct grpc_call *call, void *arg)
{
    later = thread_start("later", on_later_thread, call);
}

static int start(void **state)
{
    struct harness *h = xalloc(sizeof *h);
    h_init(h);
    h->o.limits.recv_max = 64u << 20;
    h_start(h, methods, ARRAY_LEN(methods));
    h_client(h);
    *state = h;
    return 0;
}

static int stop(void **state)
{
    h_stop(*state);
    mem_free(*state);
    return 0;
}

static void test_unary_when_inline_or_worker_then_echoes(void **state)
{
    struct harness *h = *state;
    static const char *const paths[] = { "/t.T/Echo", "/t.T/EchoInline" };
    for (size_t i = 0; i < 2; i++) {
        for (size_t n = 0; n < 3; n++) {
            struct grpc_req q = { .path = paths[i], .body = slice_n("abc", n) };
            struct grpc_resp r;
            OK(grpc_client_call(h->cl, &q, &r, st));
            assert_true(r.from_peer);
            assert_true(slice_eq(buf_slice(&r.body), q.body));
            grpc_resp_done(&r);
        }
    }
    wait_for(h->done_count == 6);
    wait_for(h_held(h) == 0);
}

static void test_unary_when_replied_from_another_thread_then_arrives(void **state)
{
    struct harness *h = *state;
    struct grpc_req q = { .path = "/t.T/Later" };
    struct grpc_resp r;
    OK(grpc_client_call(h->cl, &q, &r, st));
    assert_true(slice_is(buf_slice(&r.body), "later"));
    grpc_resp_done(&r);
    thread_join(later);
}

static void test_metadata_when_sent_then_seen_and_returned(void **state)
{
    struct harness *h = *state;
    struct grpc_md md[] = { { SLICE_LIT("dbname"), SLICE_LIT("books") },
                            { SLICE_LIT("token-bin"), SLICE_LIT("\xff#") } };
    struct grpc_req q = { .path = "/t.T/Where", .md = md, .md_count = 2 };
    struct grpc_resp r;
    OK(grpc_client_call(h->cl, &q, &r, st));
    assert_true(slice_is(buf_slice(&r.body), "books|peer|\xff#"));
    assert_true(slice_is(grpc_resp_metadata(&r, "x-head"), "h"));
    assert_true(slice_is(grpc_resp_metadata(&r, "x-trail"), "t"));
    assert_true(slice_eq(grpc_resp_metadata(&r, "detail-bin"), slice_n("\0\1\xff", 3)));
    assert_null(grpc_resp_metadata(&r, "bad").p);
    grpc_resp_done(&r);
}

static void test_failure_when_code_and_message_then_client_has_both(void **state)
{
    struct harness *h = *state;
    struct grpc_req q = { .path = "/t.T/Fail" };
    struct grpc_resp r;
    FAILS(grpc_client_call(h->cl, &q, &r, st), ST_CONFLICT, "no: 100% \xc3\xa4\n7");
    assert_int_equal(r.code, GRPC_FAILED_PRECONDITION);
    assert_true(r.from_peer);
    assert_true(slice_eq(grpc_resp_metadata(&r, "detail-bin"), slice_n("\0\2", 2)));
    grpc_resp_done(&r);
    wait_for(h->done_status == GRPC_FAILED_PRECONDITION);
}

static void test_method_when_unknown_then_unimplemented(void **state)
{
    struct harness *h = *state;
    struct grpc_req q = { .path = "/t.T/Nothing" };
    struct grpc_resp r;
    FAILS(grpc_client_call(h->cl, &q, &r, st), ST_UNSUPPORTED, "unknown method /t.T/Nothing");
    assert_int_equal(r.code, GRPC_UNIMPLEMENTED);
    grpc_resp_done(&r);
}

static void test_message_when_64_mib_then_whole_both_ways(void **state)
{
    struct harness *h = *state;
    size_t n = 64u << 20;
    struct grpc_req q = { .path = "/t.T/Size" };
    struct grpc_resp r;
    uint64_t sum = 0, want = n;
    char *p = alloc_try(n);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        p[i] = (char)(i * 7 + (i >> 13));
        sum = sum * 31 + (uint8_t)p[i];
    }
    q.body = slice_n(p, n);
    OK(grpc_client_call(h->cl, &q, &r, st));
    assert_int_equal(load_u64(r.body.p), n);
    assert_int_equal(load_u64(r.body.p + 8), sum);
    grpc_resp_done(&r);
    mem_free(p);
    q = (struct grpc_req){ .path = "/t.T/Make", .body = slice_n(&want, 8) };
    OK(grpc_client_call(h->cl, &q, &r, st));
    assert_int_equal(r.body.n, n);
    assert_int_equal(r.body.p[n - 1], 7);
    grpc_resp_done(&r);
    wait_for(h_held(h) == 0);
}

static void test_message_when_over_receive_limit_then_resource_exhausted(void **state)
{
    struct harness *h = *state;
    size_t n = (64u << 20) + 1;
    char *p = alloc_try_zero(n);
    struct grpc_req q = { .path = "/t.T/Size", .body = slice_n(p, n) };
    struct grpc_resp r;
    assert_non_null(p);
    FAILS(grpc_client_call(h->cl, &q, &r, st), ST_QUOTA, "larger than max (67108865 vs. 67108864)");
    assert_int_equal(r.code, GRPC_RESOURCE_EXHAUSTED);
    grpc_resp_done(&r);
    mem_free(p);
    wait_for(h_held(h) == 0);
}

static void test_reply_when_over_send_limit_then_resource_exhausted(void **state)
{
    struct harness *h = *state;
    uint64_t want = (256u << 20) + 1;
    struct grpc_req q = { .path = "/t.T/Make", .body = slice_n(&want, 8) };
    struct grpc_resp r;
    FAILS(grpc_client_call(h->cl, &q, &r, st), ST_QUOTA, "larger than max");
    grpc_resp_done(&r);
}

static void test_deadline_when_handler_is_slow_then_timeout_and_handler_sees_it(void **state)
{
    struct harness *h = *state;
    struct grpc_req q = { .path = "/t.T/Wait", .deadline_us = deadline_in_ms(50) };
    struct grpc_resp r;
    FAILS(grpc_client_call(h->cl, &q, &r, st), ST_TIMEOUT, "deadline");
    grpc_resp_done(&r);
    wait_for(h->cancelled == 1);
    wait_for(h->done_count == 1);
    assert_true(h->done_cancelled == 1 || h->done_status == GRPC_DEADLINE_EXCEEDED);
    wait_for(h_calls_open(h) == 0);
}

static void test_deadline_when_passed_before_the_start_then_timeout(void **state)
{
    struct harness *h = *state;
    struct grpc_req q = { .path = "/t.T/Echo", .deadline_us = clock_mono_us() - 1 };
    struct grpc_resp r;
    FAILS(grpc_client_call(h->cl, &q, &r, st), ST_TIMEOUT, "deadline");
    grpc_resp_done(&r);
    q = (struct grpc_req){ .path = "/t.T/Arena", .deadline_us = deadline_in_ms(5000) };
    OK(grpc_client_call(h->cl, &q, &r, st));
    assert_true(slice_is(buf_slice(&r.body), "deadline 1"));
    grpc_resp_done(&r);
}

struct blocking {
    struct harness *h;
    const char *path;
    _Atomic bool cancel;
    int rc, code;
};

static void call_thread(void *arg)
{
    struct blocking *b = arg;
    struct status st = STATUS_INIT;
    struct grpc_req q = { .path = b->path, .cancel = &b->cancel };
    struct grpc_resp r;
    b->rc = grpc_client_call(b->h->cl, &q, &r, &st);
    b->code = r.code;
    grpc_resp_done(&r);
}

static void test_cancel_when_caller_sets_flag_then_both_sides_see_it(void **state)
{
    struct harness *h = *state;
    struct blocking b = { .h = h, .path = "/t.T/Wait" };
    struct thread *t = thread_start("call", call_thread, &b);
    wait_for(h->entered == 1);
    b.cancel = true;
    thread_join(t);
    assert_int_equal(b.rc, ST_CANCELLED);
    wait_for(h->cancelled == 1);
}

static void test_cancel_when_client_is_freed_then_handler_sees_it(void **state)
{
    struct harness *h = *state;
    struct blocking b = { .h = h, .path = "/t.T/Wait" };
    struct thread *t = thread_start("call", call_thread, &b);
    struct grpc_client *cl;
    wait_for(h->entered == 1);
    cl = h->cl;
    grpc_client_free(cl);
    thread_join(t);
    assert_int_equal(b.rc, ST_CANCELLED);
    wait_for(h->cancelled == 1);
    wait_for(h_conns_open(h) == 0);
    h->cl = NULL;
}

struct async {
    _Atomic int done, ok;
};

static void on_async(void *arg, struct grpc_resp *resp, const struct status *st)
{
    struct async *a = arg;
    a->ok += st->code == 0 && resp->body.n == 3;
    grpc_resp_done(resp);
    a->done++;
}

static void test_calls_when_many_at_once_then_all_answered(void **state)
{
    struct harness *h = *state;
    struct async a = { 0 };
    for (int i = 0; i < 3000; i++) {
        struct grpc_req q = { .path = i % 2 ? "/t.T/Echo" : "/t.T/EchoInline",
                              .body = SLICE_LIT("xyz"), .deadline_us = deadline_in_ms(15000) };
        grpc_client_start(h->cl, &q, on_async, &a);
    }
    wait_for(a.done == 3000);
    assert_int_equal(a.ok, 3000);
}

static void test_classes_when_one_is_full_then_other_answers(void **state)
{
    struct harness *h = *state;
    struct async a = { 0 };
    struct grpc_req w = { .path = "/t.T/WaitWrite", .body = SLICE_LIT("xyz") };
    struct grpc_req q = { .path = "/t.T/Echo", .body = SLICE_LIT("xyz"),
                          .deadline_us = deadline_in_ms(10000) };
    struct grpc_resp r;
    for (int i = 0; i < 20; i++) {
        grpc_client_start(h->cl, &w, on_async, &a);
    }
    wait_for(h->entered == 4); /* the threads of the class */
    OK(grpc_client_call(h->cl, &q, &r, st));
    grpc_resp_done(&r);
    assert_int_equal(a.done, 0);
    h_let_go(h);
    wait_for(a.done == 20);
    assert_int_equal(a.ok, 20);
}

struct streamed {
    uint32_t count;
    size_t bytes;
    bool in_order, stop_at_5;
    _Atomic int done, code;
};

static bool on_message(void *arg, struct slice msg)
{
    struct streamed *s = arg;
    s->in_order = (s->count == 0 || s->in_order) && load_u32(msg.p) == s->count;
    s->count++;
    s->bytes += msg.n;
    return !(s->stop_at_5 && s->count == 5);
}

static void on_streamed(void *arg, struct grpc_resp *resp, const struct status *st)
{
    struct streamed *s = arg;
    s->code = resp->code;
    grpc_resp_done(resp);
    s->done = 1;
}

static void test_stream_when_long_then_in_order_and_bounded(void **state)
{
    struct harness *h = *state;
    uint32_t want[2] = { 300, 200000 };
    struct streamed s = { 0 };
    struct grpc_req q = { .path = "/t.T/Stream", .body = slice_n(want, 8), .on_message = on_message,
                          .on_message_arg = &s };
    grpc_client_start(h->cl, &q, on_streamed, &s);
    wait_for(s.done);
    assert_int_equal(s.code, GRPC_OK);
    assert_true(s.in_order);
    assert_int_equal(s.count, 300);
    assert_int_equal(s.bytes, 300 * 200004);
}

static void test_stream_when_empty_then_ok(void **state)
{
    struct harness *h = *state;
    uint32_t want[2] = { 0, 0 };
    struct streamed s = { 0 };
    struct grpc_req q = { .path = "/t.T/Stream", .body = slice_n(want, 8), .on_message = on_message,
                          .on_message_arg = &s };
    grpc_client_start(h->cl, &q, on_streamed, &s);
    wait_for(s.done);
    assert_int_equal(s.code, GRPC_OK);
    assert_int_equal(s.count, 0);
}

static void test_stream_when_receiver_stops_then_sender_is_cancelled(void **state)
{
    struct harness *h = *state;
    uint32_t want[2] = { UINT32_MAX, 100000 };
    struct streamed s = { .stop_at_5 = true };
    struct grpc_req q = { .path = "/t.T/Stream", .body = slice_n(want, 8), .on_message = on_message,
                          .on_message_arg = &s };
    grpc_client_start(h->cl, &q, on_streamed, &s);
    wait_for(s.done);
    assert_int_equal(s.code, GRPC_CANCELLED);
    wait_for(h->cancelled == 1);
    wait_for(h_calls_open(h) == 0);
}

static void test_registration_when_wrong_then_refused(void **state)
{
    struct harness *h = *state;
    struct net_opts o;
    struct net_server *srv;
    struct grpc_method m = methods[0];
    net_opts_default(&o);
    FAILS(grpc_register(h->srv, &m, st), ST_INVALID, "runs already");
    OK(net_server_new(&o, &srv, st));
    OK(grpc_register(srv, &m, st));
    FAILS(grpc_register(srv, &m, st), ST_EXISTS, "/t.T/Echo");
    m.path = "nothing";
    FAILS(grpc_register(srv, &m, st), ST_INVALID, "nothing");
    m = methods[0];
    m.path = "/t.T/B";
    m.kind = GRPC_BIDI;
    FAILS(grpc_register(srv, &m, st), ST_INVALID, "pool");
    net_server_free(srv);
    o.threads = 0;
    FAILS(net_server_new(&o, &srv, st), ST_INVALID, "net threads");
}

#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_unary_when_inline_or_worker_then_echoes),
        T(test_unary_when_replied_from_another_thread_then_arrives),
        T(test_metadata_when_sent_then_seen_and_returned),
        T(test_failure_when_code_and_message_then_client_has_both),
        T(test_method_when_unknown_then_unimplemented),
        T(test_message_when_64_mib_then_whole_both_ways),
        T(test_message_when_over_receive_limit_then_resource_exhausted),
        T(test_reply_when_over_send_limit_then_resource_exhausted),
        T(test_deadline_when_handler_is_slow_then_timeout_and_handler_sees_it),
        T(test_deadline_when_passed_before_the_start_then_timeout),
        T(test_cancel_when_caller_sets_flag_then_both_sides_see_it),
        T(test_cancel_when_client_is_freed_then_handler_sees_it),
        T(test_calls_when_many_at_once_then_all_answered),
        T(test_classes_when_one_is_full_then_other_answers),
        T(test_stream_when_long_then_in_order_and_bounded),
        T(test_stream_when_empty_then_ok),
        T(test_stream_when_receiver_stops_then_sender_is_cancelled),
        T(test_registration_when_wrong_then_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
