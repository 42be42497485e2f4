/* test_grpc_services.c - health and reflection, and calls with many request messages, over raw
 * HTTP/2: our client sends one message per call. */
#include "harness.h"
#include "net/grpc_pb.h"

static struct frame f;

static struct grpc_health *health;

/* FileDescriptorSet with a.proto (imports b.proto; service p.S.M, message p.A.Inner) and b.proto. */
static void make_set(struct buf *set)
{
    struct buf file, msg, inner, svc, method;
    buf_init(set, 1u << 16);
    buf_init(&file, 1u << 16);
    buf_init(&msg, 4096);
    buf_init(&inner, 4096);
    buf_init(&svc, 4096);
    buf_init(&method, 4096);
    (void)pb__put_bytes(&inner, 1, SLICE_LIT("Inner"));
    (void)pb__put_bytes(&msg, 1, SLICE_LIT("A"));
    (void)pb__put_bytes(&msg, 3, buf_slice(&inner));
    (void)pb__put_bytes(&msg, 4, buf_slice(&inner)); /* an enum of the same name does for a test */
    (void)pb__put_bytes(&method, 1, SLICE_LIT("M"));
    (void)pb__put_bytes(&svc, 1, SLICE_LIT("S"));
    (void)pb__put_bytes(&svc, 2, buf_slice(&method));
    (void)pb__put_bytes(&file, 1, SLICE_LIT("a.proto"));
    (void)pb__put_bytes(&file, 2, SLICE_LIT("p"));
    (void)pb__put_bytes(&file, 3, SLICE_LIT("b.proto"));
    (void)pb__put_bytes(&file, 4, buf_slice(&msg));
    (void)pb__put_bytes(&file, 6, buf_slice(&svc));
    (void)pb__put_bytes(set, 1, buf_slice(&file));
    buf_reset(&file);
    (void)pb__put_bytes(&file, 1, SLICE_LIT("b.proto"));
    (void)pb__put_bytes(&file, 5, buf_slice(&inner));
    (void)pb__put_bytes(set, 1, buf_slice(&file));
    assert_false(set->failed);
    buf_done(&file);
    buf_done(&msg);
    buf_done(&inner);
    buf_done(&svc);
    buf_done(&method);
}

static struct buf set;

static int start(void **state)
{
    struct harness *h = xalloc(sizeof *h);
    struct net_listen l = { .host = "127.0.0.1", .grpc = true };
    h_init(h);
    make_set(&set);
    OK(net_server_new(&h->o, &h->srv, st));
    OK(grpc_health_register(h->srv, &health, st));
    OK(grpc_reflect_register(h->srv, buf_slice(&set), st));
    OK(net_server_listen(h->srv, &l, &h->port, st));
    OK(net_server_start(h->srv, st));
    (void)snprintf(h->addr, sizeof h->addr, "127.0.0.1:%d", h->port);
    h_client(h);
    *state = h;
    return 0;
}

static int stop(void **state)
{
    struct harness *h = *state;
    h_stop(h);
    grpc_health_free(health);
    buf_done(&set);
    mem_free(h);
    return 0;
}

static int check(struct harness *h, const char *service, int *ret_state, struct status *st)
{
    struct buf b;
    struct grpc_req q = { .path = "/grpc.health.v1.Health/Check" };
    struct grpc_resp r;
    int rc;
    buf_init(&b, 1000);
    if (*service) {
        (void)pb__put_bytes(&b, 1, slice_of(service));
    }
    q.body = buf_slice(&b);
    rc = grpc_client_call(h->cl, &q, &r, st);
    if (!rc) {
        assert_int_equal(r.body.n, 2);
        assert_int_equal(r.body.p[0], 8);
        *ret_state = r.body.p[1];
    }
    grpc_resp_done(&r);
    buf_done(&b);
    return rc;
}

static void test_check_when_state_is_set_then_answered(void **state)
{
    struct harness *h = *state;
    int s = 0;
    OK(check(h, "", &s, st));
    assert_int_equal(s, 2);
    grpc_health_set(health, "", true);
    grpc_health_set(health, "p.S", true);
    OK(check(h, "", &s, st));
    assert_int_equal(s, 1);
    OK(check(h, "p.S", &s, st));
    assert_int_equal(s, 1);
    FAILS(check(h, "p.T", &s, st), ST_NOT_FOUND, "p.T");
}

struct watched {
    _Atomic int count, last, done, code;
};

static bool on_watched(void *arg, struct slice msg)
{
    struct watched *w = arg;
    w->last = msg.p[1];
    w->count++;
    return true;
}

static void on_watch_done(void *arg, struct grpc_resp *resp, const struct status *st)
{
    struct watched *w = arg;
    w->code = resp->code;
    grpc_resp_done(resp);
    w->done = 1;
}

static void test_watch_when_state_changes_then_told_until_the_server_stops(void **state)
{
    struct harness *h = *state;
    struct watched w = { 0 }, u = { 0 };
    struct grpc_req q = { .path = "/grpc.health.v1.Health/Watch", .on_message = on_watched,
                          .on_message_arg = &w };
    grpc_client_start(h->cl, &q, on_watch_done, &w);
    q.body = SLICE_LIT("\n\1x");
    q.on_message_arg = &u;
    grpc_client_start(h->cl, &q, on_watch_done, &u);
    wait_for(w.count == 1 && u.count == 1);
    assert_int_equal(w.last, 2);
    assert_int_equal(u.last, 3);
    grpc_health_set(health, "", true);
    wait_for(w.count == 2);
    assert_int_equal(w.last, 1);
    grpc_health_set(health, "", true); /* no change: no message */
    grpc_health_set(health, "", false);
    wait_for(w.count == 3);
    assert_int_equal(w.last, 2);
    assert_int_equal(u.count, 1);
    assert_true(net_server_drain(h->srv, deadline_in_ms(TEST_DEADLINE_MS)));
    wait_for(w.done && u.done);
    assert_int_equal(w.code, GRPC_UNAVAILABLE);
}

static void test_watch_when_client_leaves_then_forgotten(void **state)
{
    struct harness *h = *state;
    struct watched w = { 0 };
    struct grpc_req q = { .path = "/grpc.health.v1.Health/Watch", .on_message = on_watched,
                          .on_message_arg = &w };
    grpc_client_start(h->cl, &q, on_watch_done, &w);
    wait_for(w.count == 1);
    assert_int_equal(h_calls_open(h), 1);
    grpc_client_free(h->cl);
    h->cl = NULL;
    wait_for(h_calls_open(h) == 0);
    grpc_health_set(health, "", true);
    assert_int_equal(w.done, 1);
}

static void send_msg(int fd, uint32_t number, const char *text, bool last)
{
    struct buf b;
    buf_init(&b, 1000);
    (void)buf_put_zero(&b, 5);
    (void)pb__put_bytes(&b, number, slice_of(text));
    b.p[4] = (uint8_t)(b.n - 5);
    assert_true(h2_put(fd, H2_DATA, last, 1, b.p, b.n));
    buf_done(&b);
}

/* The next response message; its field `number` (a message) or p == NULL. */
static struct slice answer(int fd, uint32_t number)
{
    struct reader r;
    struct pb_field pf;
    struct slice found = { NULL, 0 };
    assert_true(h2_wait(fd, H2_DATA, 1, &f));
    r = reader_of(slice_n(f.p + 5, f.n - 5));
    while (pb__next(&r, &pf)) {
        if (pf.number == number) {
            found = pf.bytes;
        }
    }
    assert_false(r.failed);
    return found;
}

static int open_stream(struct harness *h, const char *path)
{
    uint8_t head[512];
    int fd = h2_dial(h->port);
    assert_true(h2_put(fd, H2_HEADERS, 4, 1, head, hp_request(head, path)));
    return fd;
}

static int count(struct slice msg, const char *text)
{
    int n = 0;
    const char *p = msg.p, *end = msg.p + msg.n;
    while (p && (p = memmem(p, (size_t)(end - p), text, strlen(text)))) {
        n++;
        p++;
    }
    return n;
}

static void test_reflection_when_asked_one_by_one_then_answers(void **state)
{
    static const char *const paths[] = {
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    };
    for (size_t i = 0; i < 2; i++) {
        int fd = open_stream(*state, paths[i]);
        struct slice a;
        send_msg(fd, 7, "", false);
        a = answer(fd, 6);
        assert_int_equal(count(a, "p.S"), 1);
        assert_int_equal(count(a, "grpc.health.v1.Health"), 1);
        assert_int_equal(count(a, "ServerReflection"), 2);
        send_msg(fd, 3, "b.proto", false);
        a = answer(fd, 4);
        assert_int_equal(count(a, "b.proto"), 1);
        assert_int_equal(count(a, "a.proto"), 0);
        static const char *const symbols[] = { "p.S", "p.S.M", "p.A", "p.A.Inner" };
        for (size_t k = 0; k < ARRAY_LEN(symbols); k++) {
            send_msg(fd, 4, symbols[k], false);
            a = answer(fd, 4);
            assert_int_equal(count(a, "a.proto"), 1);
            assert_int_equal(count(a, "b.proto"), 2); /* the import and the file */
        }
        send_msg(fd, 4, "Inner", false); /* b.proto has no package */
        assert_int_equal(count(answer(fd, 4), "a.proto"), 0);
        send_msg(fd, 4, "p.Nothing", false);
        assert_int_equal(count(answer(fd, 7), "p.Nothing"), 1);
        send_msg(fd, 6, "p.A", false);
        assert_int_equal(count(answer(fd, 5), "p.A"), 1);
        send_msg(fd, 4, "grpc.health.v1.HealthCheckResponse.ServingStatus", true);
        assert_int_equal(count(answer(fd, 4), "grpc/health/v1/health.proto"), 1);
        assert_true(h2_wait(fd, H2_HEADERS, 1, &f));
        assert_true(f.flags & 1);
        close(fd);
    }
}

static void test_reflection_when_client_leaves_early_then_call_ends(void **state)
{
    struct harness *h = *state;
    int fd = open_stream(h, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    wait_for(h_calls_open(h) == 1);
    assert_true(h2_put(fd, H2_RST, 0, 1, "\0\0\0\x8", 4));
    wait_for(h_calls_open(h) == 0);
    close(fd);
    fd = open_stream(h, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    send_msg(fd, 7, "", false);
    (void)answer(fd, 6);
    close(fd);
    wait_for(h_calls_open(h) == 0);
    wait_for(h_held(h) == 0);
}

static void test_reflection_when_request_is_broken_then_refused(void **state)
{
    struct harness *h = *state;
    int fd = open_stream(h, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    assert_true(h2_put(fd, H2_DATA, 0, 1, "\0\0\0\0\2\xff\xff", 7));
    assert_true(h2_wait(fd, H2_HEADERS, 1, &f));
    assert_true(f.flags & 1);
    close(fd);
}

static void test_reflection_when_set_is_broken_then_corrupt(void **state)
{
    struct net_opts o;
    struct net_server *srv;
    net_opts_default(&o);
    OK(net_server_new(&o, &srv, st));
    FAILS(grpc_reflect_register(srv, SLICE_LIT("\x0a\x05" "abc"), st), ST_CORRUPT, "5 bytes");
    FAILS(grpc_reflect_register(srv, SLICE_LIT("\x0a\x02\x22\x05"), st), ST_CORRUPT, "4 bytes");
    OK(grpc_reflect_register(srv, SLICE_LIT(""), st));
    net_server_free(srv);
}

#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_check_when_state_is_set_then_answered),
        T(test_watch_when_state_changes_then_told_until_the_server_stops),
        T(test_watch_when_client_leaves_then_forgotten),
        T(test_reflection_when_asked_one_by_one_then_answers),
        T(test_reflection_when_client_leaves_early_then_call_ends),
        T(test_reflection_when_request_is_broken_then_refused),
        cmocka_unit_test(test_reflection_when_set_is_broken_then_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
