/* test_net_short.c - eager methods: tried on the loops, deferred to workers, shared between loops. */
#include "harness.h"
#include <sys/prctl.h>

static void say_where(struct grpc_call *call)
{
    char text[32], name[16] = "";
    int n;
    (void)prctl(PR_GET_NAME, name, 0, 0, 0);
    n = snprintf(text, sizeof text, "%s %s", grpc_is_eager(call) ? "eager" : "late", name);
    grpc_reply(call, slice_n(text, (size_t)n));
}

static void on_here(struct grpc_call *call, void *arg)
{
    (void)arg;
    say_where(call);
}

static void on_defer(struct grpc_call *call, void *arg)
{
    struct harness *h = arg;
    if (grpc_is_eager(call) && !h->finished) {
        h->entered++;
        grpc_defer(call);
        return;
    }
    say_where(call);
}

/* Waits on whatever thread it is, as no eager handler should. */
static void on_hold(struct grpc_call *call, void *arg)
{
    assert_true(grpc_is_eager(call));
    on_wait(call, arg);
}

/* A worker that stays until let go, after having been tried. */
static void on_defer_wait(struct grpc_call *call, void *arg)
{
    if (grpc_is_eager(call)) {
        grpc_defer(call);
    } else {
        on_wait(call, arg);
    }
}

/* How many run beside this one. */
static void on_beside(struct grpc_call *call, void *arg)
{
    uint8_t n = (uint8_t)grpc_calls_beside(call);
    (void)arg;
    grpc_reply(call, slice_n(&n, 1));
}

static const struct grpc_method methods[] = {
    { "/t.T/Beside", GRPC_UNARY, NET_POOL_READ, on_beside, NULL, true },
    { "/t.T/Here", GRPC_UNARY, NET_POOL_READ, on_here, NULL, true },
    { "/t.T/Late", GRPC_UNARY, NET_POOL_READ, on_here, NULL, false },
    { "/t.T/Defer", GRPC_UNARY, NET_POOL_READ, on_defer, NULL, true },
    { "/t.T/Hold", GRPC_UNARY, NET_POOL_READ, on_hold, NULL, true },
    { "/t.T/DeferWait", GRPC_UNARY, NET_POOL_WRITE, on_defer_wait, NULL, true },
};

static struct frame f; /* scratch; too large for a stack */

static int start_with(void **state, int threads)
{
    struct harness *h = xalloc(sizeof *h);
    h_init(h);
    h->o.threads = threads;
    h->o.pool[NET_POOL_WRITE].threads = 1;
    h->o.pool[NET_POOL_WRITE].threads_max = 1;
    h->o.pool[NET_POOL_WRITE].queue_max = 1;
    h_start(h, methods, ARRAY_LEN(methods));
    h_client(h);
    *state = h;
    return 0;
}

static int start(void **state)
{
    return start_with(state, 1);
}

static int start_two(void **state)
{
    return start_with(state, 2);
}

static int stop(void **state)
{
    struct harness *h = *state;
    h_let_go(h);
    wait_for(h_calls_open(h) == 0);
    wait_for(h_held(h) == 0);
    h_stop(h);
    mem_free(h);
    return 0;
}

static void expect_answer(struct harness *h, const char *path, const char *text)
{
    struct grpc_req q = { .path = path, .body = SLICE_LIT("abc"),
                          .deadline_us = deadline_in_ms(TEST_DEADLINE_MS) };
    struct grpc_resp r;
    OK(grpc_client_call(h->cl, &q, &r, st));
    assert_int_equal(r.body.n, MAX(strlen(text), (size_t)1));
    assert_memory_equal(r.body.p, text, r.body.n); /* "": a zero */
    grpc_resp_done(&r);
}

static void just_ask(struct harness *h, const char *path)
{
    struct grpc_req q = { .path = path, .body = SLICE_LIT("abc"),
                          .deadline_us = deadline_in_ms(TEST_DEADLINE_MS) };
    struct grpc_resp r;
    OK(grpc_client_call(h->cl, &q, &r, st));
    grpc_resp_done(&r);
}

static void test_eager_when_it_answers_then_on_the_net_thread(void **state)
{
    struct harness *h = *state;
    for (int i = 0; i < 20; i++) {
        expect_answer(h, "/t.T/Here", "eager net");
        expect_answer(h, "/t.T/Late", "late work-read");
    }
}

static void test_eager_when_it_defers_then_again_on_a_worker(void **state)
{
    struct harness *h = *state;
    for (int i = 0; i < 5; i++) {
        expect_answer(h, "/t.T/Defer", "late work-read");
    }
    assert_int_equal(h->entered, 5);
}

static void test_eager_when_it_always_defers_then_seldom_tried(void **state)
{
    struct harness *h = *state;
    for (int i = 0; i < 100; i++) {
        expect_answer(h, "/t.T/Defer", "late work-read");
    }
    assert_in_range(h->entered, 8, 20);
    h->finished = 1; /* the handler answers at once from now on */
    for (int i = 0; i < 40; i++) {
        just_ask(h, "/t.T/Defer");
    }
    for (int i = 0; i < 5; i++) {
        expect_answer(h, "/t.T/Defer", "eager net");
    }
}

struct async {
    _Atomic int done, ok, unavailable;
};

static void on_async(void *arg, struct grpc_resp *resp, const struct status *st)
{
    struct async *a = arg;
    a->ok += st->code == 0;
    a->unavailable += resp->code == GRPC_UNAVAILABLE;
    grpc_resp_done(resp);
    a->done++;
}

static void test_defer_when_the_queue_is_full_then_unavailable(void **state)
{
    struct harness *h = *state;
    struct async a = { 0 };
    struct grpc_req q = { .path = "/t.T/DeferWait", .body = SLICE_LIT("abc"),
                          .deadline_us = deadline_in_ms(TEST_DEADLINE_MS) };
    grpc_client_start(h->cl, &q, on_async, &a);
    wait_for(h->entered == 1);
    for (int i = 0; i < 5; i++) {
        grpc_client_start(h->cl, &q, on_async, &a);
    }
    wait_for(a.unavailable == 4); /* one runs, one waits */
    h_let_go(h);
    wait_for(a.done == 6);
    assert_int_equal(a.ok, 2);
}

static void test_eager_when_many_at_once_then_all_answered(void **state)
{
    struct harness *h = *state;
    struct async a = { 0 };
    for (int i = 0; i < 3000; i++) {
        struct grpc_req q = { .path = i % 3 ? "/t.T/Here" : "/t.T/Defer", .body = SLICE_LIT("abc"),
                              .deadline_us = deadline_in_ms(TEST_DEADLINE_MS) };
        grpc_client_start(h->cl, &q, on_async, &a);
    }
    wait_for(a.done == 3000);
    assert_int_equal(a.ok, 3000);
}

/* Both calls are in one write, so that the loop has read the second before it is inside the first. */
static void test_eager_when_a_loop_is_busy_then_another_one_helps(void **state)
{
    struct harness *h = *state;
    int fd = h2_dial(h->port), ends = 0;
    uint8_t p[2048], head[512];
    size_t n = 0, hn = hp_request(head, "/t.T/Hold");
    for (uint8_t stream = 1; stream <= 3; stream += 2) {
        uint8_t hf[9] = { 0, (uint8_t)(hn >> 8), (uint8_t)hn, H2_HEADERS, 4, 0, 0, 0, stream };
        uint8_t df[14] = { 0, 0, 5, H2_DATA, 1, 0, 0, 0, stream };
        memcpy(p + n, hf, 9);
        memcpy(p + n + 9, head, hn);
        memcpy(p + n + 9 + hn, df, 14);
        n += 9 + hn + 14;
    }
    assert_true(raw_send(fd, p, n));
    wait_for(h->entered == 2);
    assert_int_equal(h->finished, 0);
    h_let_go(h);
    while (ends < 2) {
        assert_true(h2_wait(fd, H2_HEADERS, 0, &f));
        ends += f.flags & 1;
    }
    (void)close(fd);
}

static void test_eager_when_the_client_goes_then_nothing_is_left(void **state)
{
    struct harness *h = *state;
    int fd = h2_dial(h->port);
    uint8_t head[512];
    for (uint32_t stream = 1; stream < 100; stream += 2) {
        assert_true(h2_put(fd, H2_HEADERS, 4, stream, head, hp_request(head, "/t.T/Here")));
        assert_true(h2_put(fd, H2_DATA, 1, stream, "\0\0\0\0", 5));
    }
    (void)close(fd);
    wait_for(h_conns_open(h) <= 1);
    wait_for(h_calls_open(h) == 0);
}

static void test_beside_when_others_run_then_counted(void **state)
{
    struct harness *h = *state;
    struct async a = { 0 };
    struct grpc_req q = { .path = "/t.T/DeferWait", .body = SLICE_LIT("abc"),
                          .deadline_us = deadline_in_ms(TEST_DEADLINE_MS) };
    expect_answer(h, "/t.T/Beside", "");
    grpc_client_start(h->cl, &q, on_async, &a);
    wait_for(h->entered == 1);
    expect_answer(h, "/t.T/Beside", "\1");
    h_let_go(h);
    wait_for(a.done == 1);
}

static void test_registration_when_eager_and_inline_then_refused(void **state)
{
    struct harness *h = *state;
    struct net_server *srv;
    struct grpc_method m = methods[0];
    OK(net_server_new(&h->o, &srv, st));
    m.pool = NET_INLINE;
    FAILS(grpc_register(srv, &m, st), ST_INVALID, "tried first");
    m = methods[0];
    m.kind = GRPC_SERVER_STREAM;
    FAILS(grpc_register(srv, &m, st), ST_INVALID, "tried first");
    net_server_free(srv);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, start, stop)
#define T2(fn) cmocka_unit_test_setup_teardown(fn, start_two, stop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_eager_when_it_answers_then_on_the_net_thread),
        T(test_eager_when_it_defers_then_again_on_a_worker),
        T(test_eager_when_it_always_defers_then_seldom_tried),
        T(test_defer_when_the_queue_is_full_then_unavailable),
        T(test_eager_when_many_at_once_then_all_answered),
        T2(test_eager_when_many_at_once_then_all_answered),
        T2(test_eager_when_a_loop_is_busy_then_another_one_helps),
        T2(test_eager_when_the_client_goes_then_nothing_is_left),
        T(test_beside_when_others_run_then_counted),
        T(test_registration_when_eager_and_inline_then_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
