/* test_http1.c - the HTTP/1.1 parser in pieces, and the server over sockets. */
#include "harness.h"
#include "net/http1_int.h"

/* ---------- parser ---------- */

/* Feeds all at once or in pieces of `step`; returns the parser's state. */
static enum http1_state feed(struct http1_parser *ps, const char *text, size_t n, size_t step)
{
    size_t at = 0;
    while (at < n && ps->state != HTTP1_COMPLETE && ps->state != HTTP1_ERROR) {
        size_t end = MIN(at + step, n);
        while (at < end && ps->state != HTTP1_COMPLETE && ps->state != HTTP1_ERROR) {
            at += http1_parse(ps, (const uint8_t *)text + at, end - at);
        }
    }
    return ps->state;
}

static int error_of(const char *text)
{
    int all = 0;
    for (size_t step = 1; step <= 4096; step *= 8) {
        struct http1_parser ps;
        http1_parser_init(&ps, 4096, 1000);
        (void)feed(&ps, text, strlen(text), step);
        assert_int_equal(ps.state, HTTP1_ERROR);
        assert_true(step == 1 || ps.error == all);
        all = ps.error;
        http1_parser_done(&ps);
    }
    return all;
}

static void test_parse_when_split_anywhere_then_the_same_request(void **state)
{
    static const char text[] = "\r\nPOST /v2/a%20b?x=1&y HTTP/1.1\r\nHost: h\r\nX-Odd:  a b \t\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n"
                               "5;ext=1\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
    for (size_t step = 1; step < sizeof text; step++) {
        struct http1_parser ps;
        http1_parser_init(&ps, 4096, 1000);
        assert_int_equal(feed(&ps, text, sizeof text - 1, step), HTTP1_COMPLETE);
        assert_true(slice_is(ps.method, "POST"));
        assert_true(slice_is(ps.path, "/v2/a%20b"));
        assert_true(slice_is(ps.query, "x=1&y"));
        assert_int_equal(ps.header_count, 3);
        assert_true(slice_is(ps.headers[1].name, "X-Odd"));
        assert_true(slice_is(ps.headers[1].value, "a b"));
        assert_true(slice_is(buf_slice(&ps.body), "hello 0123456789"));
        assert_true(ps.keep_alive);
        http1_parser_done(&ps);
    }
}

static void test_parse_when_connection_header_then_keep_alive_follows(void **state)
{
    static const struct {
        const char *text;
        bool keep;
    } t[] = {
        { "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true },
        { "GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n", false },
        { "GET / HTTP/1.0\r\n\r\n", false },
        { "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true },
        { "GET http://a/b?c HTTP/1.1\r\nHost: a\r\n\r\n", true },
        { "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", true },
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        struct http1_parser ps;
        http1_parser_init(&ps, 4096, 1000);
        assert_int_equal(feed(&ps, t[i].text, strlen(t[i].text), 4096), HTTP1_COMPLETE);
        assert_int_equal(ps.keep_alive, t[i].keep);
        http1_parser_done(&ps);
    }
}

static void test_parse_when_ambiguous_or_broken_then_status(void **state)
{
#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
    static const struct {
        const char *text;
        int status;
    } t[] = {
        { "GET\r\n\r\n", 400 },
        { "GET /\r\n\r\n", 400 },
        { "GET / HTTP/2.0\r\n\r\n", 505 },
        { "GET / HTTX/1.1\r\n\r\n", 400 },
        { "G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
        { "GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
        { "GET /a\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400 },
        { "GET / HTTP/1.1\r\n\r\n", 400 }, /* no Host */
        { GET "Host: b\r\n\r\n", 400 },
        { GET "Bad Name: x\r\n\r\n", 400 },
        { GET "Name : x\r\n\r\n", 400 },
        { GET "X: a\r\n folded\r\n\r\n", 400 },
        { GET "X: a\x01\r\n\r\n", 400 },
        { GET "no-colon\r\n\r\n", 400 },
        { "GET / HTTP/1.1\nHost: a\r\n\r\n", 400 },
        { GET "X: a\rb\r\n\r\n", 400 },
        { POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400 },
        { POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
        { POST "Content-Length: -1\r\n\r\n", 400 },
        { POST "Content-Length: \r\n\r\n", 400 },
        { POST "Content-Length: 1001\r\n\r\n", 413 },
        { POST "Content-Length: 99999999999999999999999\r\n\r\n", 413 },
        { POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501 },
        { POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
        { "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400 },
        { POST "Expect: tea\r\n\r\n", 417 },
        { POST "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n5 x\r\nhelloX\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n3e9\r\n", 413 },
        { POST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n", 400 },
        { POST "Transfer-Encoding: chunked\r\n\r\n1\n", 400 },
        { "\r\n\r\n\r\n\r\n\r\n", 400 },
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        int got = error_of(t[i].text);
        if (got != t[i].status) {
            fail_msg("%zu: %d, want %d: %s", i, got, t[i].status, t[i].text);
        }
    }
}

static void test_parse_when_head_or_trailer_is_endless_then_431(void **state)
{
    struct buf b;
    buf_init(&b, 1u << 20);
    (void)buf_put_str(&b, "GET /");
    for (int i = 0; i < 5000; i++) {
        (void)buf_putc(&b, 'a');
    }
    (void)buf_putc(&b, 0);
    assert_int_equal(error_of((char *)b.p), 431);
    buf_reset(&b);
    (void)buf_put_str(&b, GET);
    for (int i = 0; i < 300; i++) {
        (void)buf_put_str(&b, "a:b\r\n");
    }
    (void)buf_put_str(&b, "\r\n");
    (void)buf_putc(&b, 0);
    assert_int_equal(error_of((char *)b.p), 431);
    buf_reset(&b);
    (void)buf_put_str(&b, POST "Transfer-Encoding: chunked\r\n\r\n0\r\n");
    for (int i = 0; i < 3000; i++) {
        (void)buf_put_str(&b, "a:b\r\n");
    }
    (void)buf_putc(&b, 0);
    assert_int_equal(error_of((char *)b.p), 431);
    buf_done(&b);
}

/* ---------- server ---------- */

static void on_http(struct http_req *req, void *arg)
{
    struct harness *h = arg;
    struct http_header extra[] = { { SLICE_LIT("X-Extra"), SLICE_LIT("e") },
                                   { SLICE_LIT("X-Bad"), SLICE_LIT("a\r\nInjected: 1") } };
    struct buf b;
    struct slice q;
    buf_init(&b, 64u << 20);
    if (slice_is(http_path(req), "/wait")) {
        h->entered++;
        lock_acquire(&h->lock);
        while (!h->release && !http_is_cancelled(req)) {
            (void)cond_wait_until(&h->cond, &h->lock, deadline_in_ms(2));
        }
        lock_release(&h->lock);
        h->cancelled += http_is_cancelled(req);
    } else if (slice_is(http_path(req), "/big")) {
        (void)buf_put_zero(&b, 20u << 20);
    }
    q = http_query_get(req, "q");
    (void)buf_printf(&b, "%.*s %.*s q=%.*s ct=%.*s body=", SLICE_ARG(http_method(req)),
                     SLICE_ARG(http_path(req)), SLICE_ARG(q),
                     SLICE_ARG(http_header_get(req, "content-TYPE")));
    (void)buf_put_slice(&b, http_body(req));
    http_reply_buf(req, 200, "text/plain", &b, extra, 2);
}

static int http_class(struct slice method, struct slice path, void *arg)
{
    return slice_is(path, "/inline") ? NET_INLINE : NET_POOL_ADMIN;
}

static int start(void **state)
{
    struct harness *h = xalloc(sizeof *h);
    h_init(h);
    h->http = on_http;
    h->http_class = http_class;
    h->o.limits.recv_max = 1u << 20;
    h->o.limits.header_timeout_ms = 1200;
    h->o.limits.body_timeout_ms = 1200;
    h->o.limits.idle_timeout_ms = 1200;
    h->o.pool[NET_POOL_ADMIN].threads = 1;
    h->o.pool[NET_POOL_ADMIN].queue_max = 1;
    h_start(h, NULL, 0);
    *state = h;
    return 0;
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

static char reply[1 << 20];

/* One exchange on a connection of its own, read to the end. */
static const char *exchange(struct harness *h, const char *text)
{
    int fd = raw_dial(h->port);
    assert_true(raw_send(fd, text, strlen(text)));
    (void)shutdown(fd, SHUT_WR);
    (void)raw_read_all(fd, reply, sizeof reply);
    close(fd);
    return reply;
}

/* Reads until the text has come. */
static void read_until(int fd, const char *want)
{
    size_t n = 0;
    reply[0] = 0;
    while (!strstr(reply, want)) {
        ssize_t r = raw_recv(fd, reply + n, sizeof reply - 1 - n, TEST_DEADLINE_MS);
        if (r <= 0) {
            fail_msg("\"%s\" did not come: %s", want, reply);
        }
        n += (size_t)r;
        reply[n] = 0;
    }
}

static void test_request_when_simple_then_reply_with_all_parts(void **state)
{
    const char *r = exchange(*state, "POST /inline?a=1&q=x%20+y HTTP/1.1\r\nHost: a\r\n"
                                     "Content-Type: text/json\r\nContent-Length: 3\r\n\r\nabc");
    assert_non_null(strstr(r, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(r, "POST /inline q=x  y ct=text/json body=abc"));
    assert_non_null(strstr(r, "X-Extra: e\r\n"));
    assert_null(strstr(r, "Injected"));
    assert_non_null(strstr(r, "\r\nContent-Length: 41\r\n"));
    assert_non_null(strstr(r, "\r\nDate: "));
}

static void test_requests_when_pipelined_then_in_order(void **state)
{
    struct harness *h = *state;
    struct buf b;
    char *at;
    int fd = raw_dial(h->port);
    buf_init(&b, 1u << 20);
    for (int i = 0; i < 200; i++) {
        (void)buf_printf(&b, "GET /%s?q=%d HTTP/1.1\r\nHost: a\r\n%s\r\n", i % 3 ? "inline" : "worker",
                         i, i == 199 ? "Connection: close\r\n" : "");
    }
    assert_true(raw_send(fd, b.p, b.n));
    (void)raw_read_all(fd, reply, sizeof reply);
    at = reply;
    for (int i = 0; i < 200; i++) {
        char want[32];
        (void)snprintf(want, sizeof want, " q=%d ct=", i);
        at = strstr(at, want);
        assert_non_null(at);
    }
    buf_done(&b);
    close(fd);
}

static void test_head_when_asked_then_length_without_body(void **state)
{
    const char *r = exchange(*state, "HEAD /inline HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(r, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(r, "Content-Length: "));
    assert_null(strstr(r, "body="));
}

static void test_expect_when_continue_then_asked_for_the_body(void **state)
{
    struct harness *h = *state;
    int fd = raw_dial(h->port);
    const char *head = "POST /inline HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                       "Content-Length: 3\r\n\r\n";
    assert_true(raw_send(fd, head, strlen(head)));
    read_until(fd, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_true(raw_send(fd, "xyz", 3));
    read_until(fd, "body=xyz");
    close(fd);
}

static void test_reply_when_20_mib_then_whole(void **state)
{
    struct harness *h = *state;
    int fd = raw_dial(h->port);
    size_t n = 0;
    ssize_t r;
    const char *q = "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_true(raw_send(fd, q, strlen(q)));
    while ((r = raw_recv(fd, reply, sizeof reply, TEST_DEADLINE_MS)) > 0) {
        n += (size_t)r;
    }
    assert_int_equal(r, 0);
    assert_true(n > 20u << 20 && n < (20u << 20) + 1000);
    close(fd);
}

static void test_errors_when_they_happen_then_status_and_close(void **state)
{
    struct harness *h = *state;
    assert_non_null(strstr(exchange(h, "nonsense\r\n\r\n"), "HTTP/1.1 400 "));
    assert_non_null(strstr(exchange(h, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n"),
                           "HTTP/1.1 413 "));
    assert_non_null(strstr(exchange(h, "PRI * HTTP/2.0\r\n\r\nno"), "HTTP/1.1 505 "));
}

static void test_body_when_refused_early_then_client_still_reads_the_answer(void **state)
{
    struct harness *h = *state;
    int fd = raw_dial(h->port);
    static char junk[300000];
    const char *head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
    assert_true(raw_send(fd, head, strlen(head)));
    (void)raw_send(fd, junk, sizeof junk);
    read_until(fd, "413");
    close(fd);
}

static void test_queue_when_full_then_503(void **state)
{
    struct harness *h = *state;
    const char *q = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    int a = raw_dial(h->port), b, c;
    assert_true(raw_send(a, q, strlen(q)));
    wait_for(h->entered == 1);
    b = raw_dial(h->port);
    assert_true(raw_send(b, q, strlen(q)));
    wait_for(h_calls_open(h) == 2);
    c = raw_dial(h->port);
    assert_true(raw_send(c, q, strlen(q)));
    read_until(c, "HTTP/1.1 503 ");
    h_let_go(h);
    read_until(a, "GET /wait");
    read_until(b, "GET /wait");
    close(a);
    close(b);
    close(c);
}

static void test_client_when_gone_then_handler_sees_it(void **state)
{
    struct harness *h = *state;
    const char *q = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    int fd = raw_dial(h->port);
    assert_true(raw_send(fd, q, strlen(q)));
    wait_for(h->entered == 1);
    close(fd);
    wait_for(h->cancelled == 1);
}

static void test_connection_when_it_dawdles_then_408_or_closed(void **state)
{
    struct harness *h = *state;
    int idle = raw_dial(h->port), head = raw_dial(h->port), body = raw_dial(h->port);
    const char *q = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
    assert_true(raw_send(head, "GET / HT", 8));
    assert_true(raw_send(body, q, strlen(q)));
    read_until(head, "HTTP/1.1 408 ");
    read_until(body, "HTTP/1.1 408 ");
    raw_wait_closed(idle);
    close(idle);
    close(head);
    close(body);
}

static void test_listener_when_without_handler_or_grpc_then_404_and_505(void **state)
{
    struct harness h;
    struct net_listen l = { .host = "127.0.0.1" };
    h_init(&h);
    OK(net_server_new(&h.o, &h.srv, st));
    OK(net_server_listen(h.srv, &l, &h.port, st));
    l.port = h.port;
    FAILS(net_server_listen(h.srv, &l, NULL, st), ST_IO, "cannot listen");
    l.port = 70000;
    FAILS(net_server_listen(h.srv, &l, NULL, st), ST_INVALID, "70000");
    OK(net_server_start(h.srv, st));
    assert_non_null(strstr(exchange(&h, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"), "HTTP/1.1 404 "));
    assert_int_equal(h.done_status, 404);
    assert_non_null(strstr(exchange(&h, H2_PREFACE), "HTTP/1.1 505 "));
    h_stop(&h);
}

#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_when_split_anywhere_then_the_same_request),
        cmocka_unit_test(test_parse_when_connection_header_then_keep_alive_follows),
        cmocka_unit_test(test_parse_when_ambiguous_or_broken_then_status),
        cmocka_unit_test(test_parse_when_head_or_trailer_is_endless_then_431),
        T(test_request_when_simple_then_reply_with_all_parts),
        T(test_requests_when_pipelined_then_in_order),
        T(test_head_when_asked_then_length_without_body),
        T(test_expect_when_continue_then_asked_for_the_body),
        T(test_reply_when_20_mib_then_whole),
        T(test_errors_when_they_happen_then_status_and_close),
        T(test_body_when_refused_early_then_client_still_reads_the_answer),
        T(test_queue_when_full_then_503),
        T(test_client_when_gone_then_handler_sees_it),
        T(test_connection_when_it_dawdles_then_408_or_closed),
        cmocka_unit_test(test_listener_when_without_handler_or_grpc_then_404_and_505),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
