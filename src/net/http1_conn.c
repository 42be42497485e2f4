/*
 * http1_conn.c - an HTTP/1.1 connection: requests in turn, replies in order.
 *
 * One request of a connection is in a handler at a time; what the client sends meanwhile waits in
 * `ahead` (bounded: reading stops), and is parsed when the reply is queued. Errors of the parser are
 * answered and end the connection.
 *
 * LIMITS      The head must be whole header_timeout_ms after its first byte, the body
 *             body_timeout_ms after the head, the next request idle_timeout_ms after the last reply:
 *             a client that drips bytes does not hold a connection for longer.
 * THREADS     the loop's thread; the functions of http1.h run on the handler's. A reply from another
 *             thread comes through the mailbox.
 * MEMORY      A request owns its head, headers, body and arena; it is freed when its reply is sent.
 */
#include "net/http1_int.h"
#include "net/grpc_int.h"
#include "base/alloc.h"
#include "base/clock.h"
#include <stdio.h>
#include <time.h>

#define AHEAD_SOFT (64u << 10)
#define AHEAD_MAX (AHEAD_SOFT + NET_RBUF_CAP + 4096)
#define REQUEST_LINE_MAX 8192

struct http1_conn;

struct http_req {
    struct net_msg msg;
    struct net_work work;
    struct net_ctx *ctx;
    struct http1_conn *conn; /* net thread; NULL when the connection is gone */
    struct net_listener *lis;
    struct arena *ar;
    struct http1_parser ps;  /* the parsed request, taken from the connection */
    size_t charged;
    char peer[64];
    int64_t started_us;
    bool keep_alive;
    _Atomic bool cancelled;  /* set by the net thread */
    /* the reply: the handler's, then the net thread's */
    int status;
    struct buf head;
    uint8_t *body;
    size_t body_n;
};

struct http1_conn {
    struct net_engine e;
    struct net_ctx *ctx;
    struct net_listener *lis;
    struct http1_parser ps;
    struct buf ahead;
    struct http_req *busy;   /* in a handler */
    struct http_req *sending; /* its reply is on the way out */
    size_t sent;             /* bytes of `sending` */
    struct buf interim;      /* 100 Continue */
    size_t charged;          /* for ps.body */
    int64_t since_us;        /* first byte of the head, end of the head, or the last reply */
    bool in_process, draining, last, eof, started;
};

static struct http1_conn *of(struct net_engine *e)
{
    return CONTAINER_OF(e, struct http1_conn, e);
}

/* ---------- the handler's view ---------- */

struct slice http_method(const struct http_req *req)
{
    return req->ps.method;
}

struct slice http_path(const struct http_req *req)
{
    return req->ps.path;
}

struct slice http_query(const struct http_req *req)
{
    return req->ps.query;
}

struct slice http_header_get(const struct http_req *req, const char *name)
{
    for (size_t i = 0; i < req->ps.header_count; i++) {
        if (http1_name_is(req->ps.headers[i].name, name)) {
            return req->ps.headers[i].value;
        }
    }
    return (struct slice){ NULL, 0 };
}

bool http_header_at(const struct http_req *req, size_t i, struct http_header *ret)
{
    if (i >= req->ps.header_count) {
        return false;
    }
    *ret = req->ps.headers[i];
    return true;
}

struct slice http_body(const struct http_req *req)
{
    return buf_slice(&req->ps.body);
}

const char *http_peer(const struct http_req *req)
{
    return req->peer;
}

struct arena *http_arena(struct http_req *req)
{
    return req->ar;
}

bool http_is_cancelled(const struct http_req *req)
{
    return atomic_load_explicit(&req->cancelled, memory_order_relaxed);
}

static int hex(char c)
{
    return c >= '0' && c <= '9'                   ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                  : -1;
}

bool http_decode(struct arena *ar, struct slice s, bool plus, struct slice *ret)
{
    char *p = arena_alloc(ar, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '%') {
            if (i + 2 >= s.n || hex(s.p[i + 1]) < 0 || hex(s.p[i + 2]) < 0) {
                return false;
            }
            p[n++] = (char)(hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]));
            i += 2;
        } else {
            p[n++] = plus && s.p[i] == '+' ? ' ' : s.p[i];
        }
    }
    *ret = slice_n(p, n);
    return true;
}

struct slice http_query_get(struct http_req *req, const char *name)
{
    struct slice q = req->ps.query, want = slice_of(name), key, value;
    while (q.n) {
        const char *amp = memchr(q.p, '&', q.n);
        struct slice part = slice_n(q.p, amp ? (size_t)(amp - q.p) : q.n);
        const char *eq = part.n ? memchr(part.p, '=', part.n) : NULL;
        size_t kn = eq ? (size_t)(eq - part.p) : part.n;
        if (http_decode(req->ar, slice_n(part.p, kn), true, &key) && slice_eq(key, want) &&
            http_decode(req->ar, eq ? slice_n(eq + 1, part.n - kn - 1) : SLICE_LIT(""), true,
                        &value)) {
            return value;
        }
        q = amp ? slice_n(amp + 1, q.n - part.n - 1) : SLICE_LIT("");
    }
    return (struct slice){ NULL, 0 };
}

/* ---------- replies ---------- */

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } t[] = {
        { 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" },
        { 301, "Moved Permanently" }, { 302, "Found" }, { 304, "Not Modified" },
        { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" },
        { 404, "Not Found" }, { 405, "Method Not Allowed" }, { 406, "Not Acceptable" },
        { 408, "Request Timeout" }, { 409, "Conflict" }, { 413, "Content Too Large" },
        { 415, "Unsupported Media Type" }, { 417, "Expectation Failed" },
        { 429, "Too Many Requests" }, { 431, "Request Header Fields Too Large" },
        { 500, "Internal Server Error" }, { 501, "Not Implemented" },
        { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
        { 505, "HTTP Version Not Supported" },
    };
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        if (t[i].status == status) {
            return t[i].text;
        }
    }
    return "Status";
}

static void put_date(struct buf *b)
{
    time_t now = (time_t)(clock_now_ms() / 1000);
    struct tm tm;
    char text[40];
    /* No locale is ever set, so the names are the English ones the protocol wants. */
    if (gmtime_r(&now, &tm) && strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm)) {
        (void)buf_printf(b, "Date: %s\r\n", text);
    }
}

static bool header_clean(struct http_header h)
{
    for (size_t i = 0; i < h.value.n; i++) {
        if ((uint8_t)h.value.p[i] < 0x20 && h.value.p[i] != '\t') {
            return false;
        }
    }
    for (size_t i = 0; i < h.name.n; i++) {
        if ((uint8_t)h.name.p[i] <= 0x20 || h.name.p[i] == ':') {
            return false;
        }
    }
    return h.name.n > 0;
}

static void build_head(struct http_req *req, const char *content_type,
                       const struct http_header *extra, size_t extra_count)
{
    struct buf *b = &req->head;
    buf_init(b, 64u << 10);
    (void)buf_printf(b, "HTTP/1.1 %d %s\r\n", req->status, reason(req->status));
    put_date(b);
    if (content_type) {
        (void)buf_printf(b, "Content-Type: %s\r\n", content_type);
    }
    if (req->status != 204 && req->status != 304) {
        (void)buf_printf(b, "Content-Length: %zu\r\n", req->body_n);
    }
    for (size_t i = 0; i < extra_count; i++) {
        if (header_clean(extra[i])) {
            (void)buf_put_slice(b, extra[i].name);
            (void)buf_put_str(b, ": ");
            (void)buf_put_slice(b, extra[i].value);
            (void)buf_put_str(b, "\r\n");
        }
    }
    /* "Connection" and the empty line are added on the net thread, which knows about draining. */
}

static void on_reply(struct net_msg *m);

static void hand_back(struct http_req *req)
{
    struct net_loop *lp = net__loop_here();
    req->msg.fn = on_reply;
    if (lp && &lp->mbox == req->ctx->mbox) {
        on_reply(&req->msg);
    } else {
        net__mbox_push(req->ctx->mbox, &req->msg);
    }
}

static void reply_owned(struct http_req *req, int status, const char *content_type, uint8_t *body,
                        size_t n, const struct http_header *extra, size_t extra_count)
{
    req->status = status;
    req->body = body;
    req->body_n = content_type ? n : 0;
    build_head(req, content_type, extra, extra_count);
    hand_back(req);
}

void http_reply(struct http_req *req, int status, const char *content_type, struct slice body,
                const struct http_header *extra, size_t extra_count)
{
    uint8_t *p = NULL;
    if (body.n) {
        p = alloc_try(body.n);
        if (!p) {
            reply_owned(req, 503, NULL, NULL, 0, NULL, 0);
            return;
        }
        memcpy(p, body.p, body.n);
    }
    reply_owned(req, status, content_type, p, body.n, extra, extra_count);
}

void http_reply_buf(struct http_req *req, int status, const char *content_type, struct buf *body,
                    const struct http_header *extra, size_t extra_count)
{
    bool failed = body->failed;
    size_t n = 0;
    uint8_t *p = buf_take(body, &n);
    if (failed) {
        mem_free(p);
        reply_owned(req, 503, NULL, NULL, 0, NULL, 0);
    } else {
        reply_owned(req, status, content_type, p, n, extra, extra_count);
    }
}

/* ---------- requests ---------- */

static void req_free(struct http_req *req)
{
    net__server_uncharge(req->ctx->srv, req->charged);
    http1_parser_done(&req->ps);
    buf_done(&req->head);
    mem_free(req->body);
    arena_free(req->ar);
    mem_free(req);
}

/* Moves the parsed request out of the connection. */
static struct http_req *req_new(struct http1_conn *c)
{
    const struct net_limits *lim = &c->ctx->srv->opts.limits;
    struct http_req *req = xalloc(sizeof *req);
    req->ctx = c->ctx;
    req->conn = c;
    req->lis = c->lis;
    req->ar = arena_new(lim->recv_max * 4 + lim->send_max);
    req->ps = c->ps;
    req->keep_alive = c->ps.keep_alive && c->ps.state == HTTP1_COMPLETE;
    req->charged = c->charged;
    req->started_us = clock_mono_us();
    (void)snprintf(req->peer, sizeof req->peer, "%s", c->e.link ? c->e.link->peer : "");
    c->charged = 0;
    http1_parser_init(&c->ps, req->ps.head.max, req->ps.body_max);
    return req;
}

static void call_done(struct http_req *req, bool cut)
{
    const struct net_opts *o = &req->ctx->srv->opts;
    if (o->on_done) {
        struct net_done d = {
            .path = req->ps.path,
            .method = req->ps.method,
            .peer = req->peer,
            .cancelled = cut,
            .status = req->status,
            .duration_us = clock_mono_us() - req->started_us,
            .bytes_in = req->ps.body.n,
            .bytes_out = req->body_n,
        };
        o->on_done(o->on_done_arg, &d);
    }
}

static void process(struct http1_conn *c);

/* Thread: loop. The handler gave the request back. */
static void on_reply(struct net_msg *m)
{
    struct http_req *req = CONTAINER_OF(m, struct http_req, msg);
    struct http1_conn *c = req->conn;
    struct net_server *srv = req->ctx->srv;
    atomic_fetch_sub_explicit(&srv->calls_open, 1, memory_order_release);
    net__server_note_idle(srv);
    if (!c) {
        call_done(req, true);
        req_free(req);
        return;
    }
    if (c->draining || !req->keep_alive || c->eof || req->head.failed) {
        c->last = true;
    }
    (void)buf_put_str(&req->head, c->last ? "Connection: close\r\n\r\n"
                                          : "Connection: keep-alive\r\n\r\n");
    if (slice_eq(req->ps.method, SLICE_LIT("HEAD")) || req->status == 204 || req->status == 304) {
        req->body_n = 0;
    }
    c->busy = NULL;
    c->sending = req;
    c->sent = 0;
    c->since_us = clock_mono_us();
    net__engine_dirty(&c->e);
}

/* Answers for the parser; the connection ends with it. */
static void reply_error(struct http1_conn *c, int status)
{
    struct http_req *req = req_new(c);
    static const struct http_header none[1];
    char text[64];
    req->keep_alive = false;
    c->busy = req;
    c->last = true;
    atomic_fetch_add_explicit(&c->ctx->srv->calls_open, 1, memory_order_relaxed);
    (void)snprintf(text, sizeof text, "%d %s\n", status, reason(status));
    http_reply(req, status, "text/plain", slice_of(text), none, 0);
}

/* Thread: a worker. */
static void work_run(struct net_work *w)
{
    struct http_req *req = CONTAINER_OF(w, struct http_req, work);
    req->lis->http(req, req->lis->http_arg);
}

static void dispatch(struct http1_conn *c)
{
    struct net_server *srv = c->ctx->srv;
    struct http_req *req = req_new(c);
    int pool = NET_POOL_ADMIN;
    c->busy = req;
    atomic_fetch_add_explicit(&srv->calls_open, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&srv->calls_total, 1, memory_order_relaxed);
    if (!c->lis->http) {
        http_reply(req, 404, "text/plain", SLICE_LIT("404 Not Found\n"), NULL, 0);
        return;
    }
    if (c->lis->http_class) {
        pool = c->lis->http_class(req->ps.method, req->ps.path, c->lis->http_arg);
    }
    if (pool < 0 || pool >= NET_POOL_COUNT) {
        c->lis->http(req, c->lis->http_arg);
        return;
    }
    req->work.run = work_run;
    if (!net__workers_push(srv->workers[pool], &req->work)) {
        static const struct http_header retry = { SLICE_LIT("Retry-After"), SLICE_LIT("1") };
        http_reply(req, 503, "text/plain", SLICE_LIT("503 too many requests are waiting\n"), &retry,
                   1);
    }
}

static bool charge_body(struct http1_conn *c)
{
    size_t cap = c->ps.body.cap;
    if (cap > c->charged) {
        if (!net__server_charge(c->ctx->srv, cap - c->charged)) {
            return false;
        }
        c->charged = cap;
    }
    return true;
}

/* Parses what is in `ahead` as far as possible. */
static void process(struct http1_conn *c)
{
    size_t used = 0;
    if (c->in_process) {
        return;
    }
    c->in_process = true;
    while (!c->busy && !c->sending && !c->last && used < c->ahead.n) {
        enum http1_state before = c->ps.state;
        if (!c->started) {
            c->started = true;
            c->since_us = clock_mono_us();
        }
        used += http1_parse(&c->ps, c->ahead.p + used, c->ahead.n - used);
        if (c->ps.state == HTTP1_HEAD && c->ps.head.n == 0) {
            c->started = false;
        }
        if (c->ps.state == HTTP1_ERROR) {
            reply_error(c, c->ps.error);
        } else if (!charge_body(c)) {
            reply_error(c, 503);
        } else if (c->ps.state == HTTP1_COMPLETE) {
            c->started = false;
            dispatch(c);
        } else if (before == HTTP1_HEAD && c->ps.state != HTTP1_HEAD) {
            c->since_us = clock_mono_us();
            if (c->ps.expects_continue && used == c->ahead.n) {
                (void)buf_put_str(&c->interim, "HTTP/1.1 100 Continue\r\n\r\n");
                net__engine_dirty(&c->e);
            }
        }
    }
    if (used == c->ahead.n) {
        buf_done(&c->ahead);
        buf_init(&c->ahead, AHEAD_MAX);
    } else if (used) {
        memmove(c->ahead.p, c->ahead.p + used, c->ahead.n - used);
        c->ahead.n -= used;
    }
    c->in_process = false;
}

/* ---------- engine ---------- */

static bool h1_recv(struct net_engine *e, const uint8_t *p, size_t n)
{
    struct http1_conn *c = of(e);
    if (c->last && !c->busy) {
        return true; /* nothing more is taken; the link ends after the output */
    }
    if (!buf_put(&c->ahead, p, n)) {
        return false;
    }
    process(c);
    return true;
}

static void put(struct net_out *out, const uint8_t *p, size_t n, size_t *at, size_t from)
{
    /* The part [from, from + n) of the reply is p; *at bytes of the whole are gone already. */
    size_t take;
    if (*at < from || *at >= from + n) {
        return;
    }
    take = MIN(from + n - *at, out->cap - out->n);
    memcpy(out->p + out->n, p + (*at - from), take);
    out->n += take;
    *at += take;
}

static bool h1_pull(struct net_engine *e, struct net_out *out)
{
    struct http1_conn *c = of(e);
    struct http_req *req;
    if (c->interim.n && !c->sending) {
        size_t at = 0;
        put(out, c->interim.p, c->interim.n, &at, 0);
        buf_reset(&c->interim);
    }
    while ((req = c->sending) && out->cap - out->n >= NET_OUT_ROOM) {
        put(out, req->head.p, req->head.n, &c->sent, 0);
        put(out, req->body, req->body_n, &c->sent, req->head.n);
        if (c->sent < req->head.n + req->body_n) {
            break;
        }
        c->sending = NULL;
        call_done(req, false);
        req_free(req);
        process(c);
    }
    return true;
}

static bool h1_finished(struct net_engine *e)
{
    struct http1_conn *c = of(e);
    bool idle = !c->busy && !c->sending;
    return idle && (c->last || c->eof || (c->draining && !c->started && !c->ahead.n));
}

static bool h1_wants_input(struct net_engine *e)
{
    return of(e)->ahead.n < AHEAD_SOFT;
}

static void h1_drain(struct net_engine *e)
{
    of(e)->draining = true;
    net__engine_dirty(e);
}

static bool h1_tick(struct net_engine *e, int64_t now_us)
{
    struct http1_conn *c = of(e);
    const struct net_limits *lim = &c->ctx->srv->opts.limits;
    int64_t for_ms = (now_us - c->since_us) / 1000;
    if (c->busy || c->sending || c->last) {
        return true; /* the link watches output that does not move */
    }
    if (!c->started) {
        return for_ms < lim->idle_timeout_ms;
    }
    if (for_ms >= (c->ps.state == HTTP1_HEAD ? lim->header_timeout_ms : lim->body_timeout_ms)) {
        reply_error(c, 408);
    }
    return true;
}

static bool h1_eof(struct net_engine *e)
{
    struct http1_conn *c = of(e);
    c->eof = true;
    if (c->busy) {
        /* It may have closed only its own side and still read: the reply is sent anyway. */
        atomic_store_explicit(&c->busy->cancelled, true, memory_order_relaxed);
    }
    return c->busy || c->sending;
}

static void h1_gone(struct net_engine *e, const char *why)
{
    struct http1_conn *c = of(e);
    (void)why;
    if (c->busy) {
        c->busy->conn = NULL;
        atomic_store_explicit(&c->busy->cancelled, true, memory_order_relaxed);
    }
    if (c->sending) {
        call_done(c->sending, true);
        req_free(c->sending);
    }
    net__server_uncharge(c->ctx->srv, c->charged);
    http1_parser_done(&c->ps);
    buf_done(&c->ahead);
    buf_done(&c->interim);
    mem_free(c);
}

static const struct net_engine_ops h1_ops = {
    .recv = h1_recv,
    .pull = h1_pull,
    .finished = h1_finished,
    .wants_input = h1_wants_input,
    .drain = h1_drain,
    .tick = h1_tick,
    .eof = h1_eof,
    .gone = h1_gone,
};

struct net_engine *net__http1_new(struct net_ctx *ctx, struct net_listener *lis,
                                  struct net_link *link)
{
    const struct net_limits *lim = &ctx->srv->opts.limits;
    struct http1_conn *c = xalloc(sizeof *c);
    c->e.ops = &h1_ops;
    c->e.link = link;
    c->ctx = ctx;
    c->lis = lis;
    c->draining = ctx->draining;
    c->since_us = clock_mono_us();
    http1_parser_init(&c->ps, lim->header_max + REQUEST_LINE_MAX, lim->recv_max);
    buf_init(&c->ahead, AHEAD_MAX);
    buf_init(&c->interim, 256);
    return &c->e;
}
