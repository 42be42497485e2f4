/*
 * fuzz_http1.c - the HTTP/1.1 parser and engine, fed bytes without a socket.
 *
 * The parser must come to the same end whether bytes come at once or singly; the engine (whose
 * handler answers with what it got) must never lose count of calls or request memory.
 */
#include "base/alloc.h"
#include "net/http1_int.h"
#include "net/net_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct net_server *srv;
    struct net_listener lis;
    struct net_loop loop;
    struct net_ctx ctx;
    struct net_out out;
} g;

static void no_wake(void *arg)
{
    (void)arg;
}

static void on_http(struct http_req *req, void *arg)
{
    struct http_header h = { SLICE_LIT("X-Query"), http_query_get(req, "q") };
    (void)arg;
    (void)http_header_get(req, "content-type");
    http_reply(req, 200, "text/plain", http_body(req), &h, 1);
}

static int inline_class(struct slice method, struct slice path, void *arg)
{
    (void)method;
    (void)path;
    (void)arg;
    return NET_INLINE;
}

static void set_up(void)
{
    struct status st = STATUS_INIT;
    struct net_opts o;
    net_opts_default(&o);
    o.limits.recv_max = 4096;
    o.limits.header_max = 1024;
    CHECK(net_server_new(&o, &g.srv, &st) == 0);
    net__mbox_init(&g.loop.mbox, no_wake, NULL);
    net__loop_set_here(&g.loop);
    net__ctx_init(&g.ctx, g.srv, &g.loop.mbox);
    g.lis = (struct net_listener){ .srv = g.srv, .fd = -1, .http = on_http,
                                   .http_class = inline_class };
    g.out.p = xalloc(NET_OUT_CAP);
    g.out.cap = NET_OUT_CAP;
}

static void parse(struct http1_parser *ps, const uint8_t *p, size_t n, size_t step)
{
    size_t at = 0;
    http1_parser_init(ps, 2048, 1024);
    while (at < n && ps->state != HTTP1_COMPLETE && ps->state != HTTP1_ERROR) {
        size_t end = MIN(at + step, n);
        while (at < end && ps->state != HTTP1_COMPLETE && ps->state != HTTP1_ERROR) {
            size_t used = http1_parse(ps, p + at, end - at);
            CHECK(used <= end - at && (used || ps->state == HTTP1_ERROR));
            at += used;
        }
    }
}

static void check_parser(const uint8_t *p, size_t n)
{
    struct http1_parser a, b;
    parse(&a, p, n, n ? n : 1);
    parse(&b, p, n, 1);
    CHECK(a.state == b.state && a.error == b.error);
    if (a.state == HTTP1_COMPLETE) {
        CHECK(slice_eq(a.method, b.method) && slice_eq(a.path, b.path) && slice_eq(a.query, b.query));
        CHECK(slice_eq(buf_slice(&a.body), buf_slice(&b.body)) && a.header_count == b.header_count);
        CHECK(a.method.n && a.path.n && a.body.n <= 1024);
    }
    http1_parser_done(&a);
    http1_parser_done(&b);
}

static void check_engine(const uint8_t *p, size_t n, size_t step)
{
    struct net_engine *e = net__http1_new(&g.ctx, &g.lis, NULL);
    bool open = true;
    for (size_t at = 0; open && at < n; at += step) {
        open = e->ops->recv(e, p + at, MIN(step, n - at));
        do {
            g.out.n = 0;
            open = open && e->ops->pull(e, &g.out);
        } while (open && g.out.n);
        open = open && !e->ops->finished(e);
    }
    (void)e->ops->tick(e, INT64_MAX / 2);
    e->ops->gone(e, "end of input");
    CHECK(atomic_load(&g.srv->calls_open) == 0);
    CHECK(atomic_load(&g.srv->recv_held) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = xalloc(size);
    if (!g.srv) {
        set_up();
    }
    if (size) {
        memcpy(copy, data, size);
    }
    check_parser(copy, size);
    check_engine(copy, size, 1 + size % 61);
    mem_free(copy);
    return 0;
}
