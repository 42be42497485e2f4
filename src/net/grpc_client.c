/*
 * grpc_client.c - calls to another server: start, wait, deadline, answer.
 *
 * A call is made by its caller, travels to the client loop in the mailbox, and belongs to the loop
 * until its callback. There it is in cl->calls; without a connection it is in cl->waiting too. One
 * timer per client stands at the nearest deadline or reconnection.
 *
 * INVARIANTS  A call's callback runs exactly once, and its body is not looked at afterwards.
 * THREADS     client__* and static functions below "loop side": the client loop. Others: the caller.
 * NOT HERE    HTTP/2 and sockets: client_conn.c.
 */
#include "net/client_int.h"
#include "base/alloc.h"
#include <nghttp2/nghttp2.h>
#include <stdarg.h>
#include <stdio.h>

#define ATTEMPTS_MAX 3
#define RESP_HEADER_MAX (64u << 10)
#define CANCEL_POLL_MS 20

/* ---------- response ---------- */

struct slice grpc_resp_metadata(const struct grpc_resp *resp, const char *name)
{
    struct slice want = slice_of(name);
    for (size_t i = 0; i < resp->md_count; i++) {
        if (slice_eq(resp->md[i].name, want)) {
            return resp->md[i].value;
        }
    }
    return (struct slice){ NULL, 0 };
}

void grpc_resp_done(struct grpc_resp *resp)
{
    buf_done(&resp->body);
    buf_done(&resp->message);
    arena_free(TAKE(resp->ar));
    resp->md = NULL;
    resp->md_count = 0;
}

/* ---------- loop side: calls ---------- */

/* Sees to it that the timer fires then or earlier. */
static void timer_by(struct grpc_client *cl, int64_t at_us);

static void unwait(struct client_call *ca)
{
    struct grpc_client *cl = ca->cl;
    struct client_call **at = &cl->waiting;
    if (!ca->waiting) {
        return;
    }
    while (*at != ca) {
        at = &(*at)->wait_next;
    }
    *at = ca->wait_next;
    if (!*at) {
        cl->waiting_tail = at;
    }
    ca->waiting = false;
}

static void wait_for_conn(struct client_call *ca)
{
    struct grpc_client *cl = ca->cl;
    ca->waiting = true;
    ca->wait_next = NULL;
    *cl->waiting_tail = ca;
    cl->waiting_tail = &ca->wait_next;
}

void client__call_done(struct client_call *ca, int code, bool from_peer, const char *fmt, ...)
{
    struct grpc_client *cl = ca->cl;
    struct status st = STATUS_INIT;
    client__conn_cancel(ca);
    unwait(ca);
    if (ca->open) {
        if (ca->prev) {
            ca->prev->next = ca->next;
        } else {
            cl->calls = ca->next;
        }
        if (ca->next) {
            ca->next->prev = ca->prev;
        }
    }
    ca->resp.code = code;
    ca->resp.from_peer = from_peer;
    if (fmt) {
        char text[512];
        va_list ap;
        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        buf_reset(&ca->resp.message);
        (void)buf_put_str(&ca->resp.message, text);
    }
    if (code != GRPC_OK) {
        (void)st_fail(&st, grpc_status_of_code(code), "%s: %s: %.*s", ca->path, grpc_code_name(code),
                      SLICE_ARG(buf_slice(&ca->resp.message)));
    }
    ca->resp.ar = ca->ar;
    ca->fn(ca->arg, &ca->resp, &st);
    mem_free(ca);
}

/* The connection to use now: a ready one, else NULL after having started one where allowed. */
static struct client_conn *pick_conn(struct grpc_client *cl)
{
    int n = cl->o.connections;
    struct client_conn *ready = NULL;
    unsigned turn = cl->next_conn++;
    for (int i = 0; i < n; i++) {
        int slot = (int)((turn + (unsigned)i) % (unsigned)n);
        struct client_conn *c = cl->conns[slot];
        if (!c && i == 0 && clock_mono_us() >= cl->retry_at_us && !cl->closing) {
            c = client__conn_new(cl, slot);
        }
        if (c && client__conn_ready(c)) {
            ready = c;
            break;
        }
    }
    return ready;
}

static bool any_conn(const struct grpc_client *cl)
{
    for (int i = 0; i < cl->o.connections; i++) {
        if (cl->conns[i]) {
            return true;
        }
    }
    return false;
}

static void submit_or_wait(struct client_call *ca)
{
    struct grpc_client *cl = ca->cl;
    struct client_conn *c = pick_conn(cl);
    while (c) {
        if (client__conn_submit(c, ca)) {
            return;
        }
        c = pick_conn(cl);
    }
    if (!ca->wait_ready && !any_conn(cl)) {
        client__call_done(ca, GRPC_UNAVAILABLE, false, "cannot reach %s: %s", cl->address,
                          cl->last_error);
        return;
    }
    wait_for_conn(ca);
}

void client__call_again(struct client_call *ca, const char *why)
{
    if (ca->cl->closing || ++ca->attempts >= ATTEMPTS_MAX) {
        client__call_done(ca, GRPC_UNAVAILABLE, false, "%s refused the call: %s", ca->cl->address,
                          why);
        return;
    }
    ca->got_status = ca->got_message = false;
    submit_or_wait(ca);
}

static void put_md(struct client_call *ca, struct slice name, struct slice value)
{
    struct grpc_resp *r = &ca->resp;
    if (r->md_count == ca->md_cap) {
        size_t cap = ca->md_cap ? ca->md_cap * 2 : 8;
        struct grpc_md *md = arena_alloc(ca->ar, cap * sizeof *md);
        if (r->md_count) {
            memcpy(md, r->md, r->md_count * sizeof *md);
        }
        r->md = md;
        ca->md_cap = cap;
    }
    if (grpc__is_bin(name)) {
        if (!grpc__b64_decode(ca->ar, value, &value)) {
            return;
        }
    } else {
        value = arena_copy(ca->ar, value);
    }
    r->md[r->md_count++] = (struct grpc_md){ arena_copy(ca->ar, name), value };
}

static int small_int(struct slice s)
{
    int v = 0;
    if (!s.n || s.n > 4) {
        return -1;
    }
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return -1;
        }
        v = v * 10 + (s.p[i] - '0');
    }
    return v;
}

bool client__call_header(struct client_call *ca, struct slice name, struct slice value)
{
    ca->header_bytes += name.n + value.n;
    if (ca->header_bytes > RESP_HEADER_MAX) {
        return false;
    }
    if (slice_eq(name, SLICE_LIT(":status"))) {
        ca->http_status = small_int(value);
    } else if (slice_eq(name, SLICE_LIT("grpc-status"))) {
        int code = small_int(value);
        ca->resp.code = code < 0 || code > GRPC_UNAUTHENTICATED ? GRPC_UNKNOWN : code;
        ca->got_status = true;
    } else if (slice_eq(name, SLICE_LIT("grpc-message"))) {
        buf_reset(&ca->resp.message);
        (void)buf_put_slice(&ca->resp.message, value);
        ca->resp.message.n =
            grpc__percent_decode((char *)ca->resp.message.p, ca->resp.message.n);
    } else if (slice_eq(name, SLICE_LIT("grpc-encoding"))) {
        ca->gzip = slice_eq(value, SLICE_LIT("gzip")) || slice_eq(value, SLICE_LIT("deflate"));
    } else if (name.n && name.p[0] != ':') {
        put_md(ca, name, value);
    }
    return true;
}

/* A whole message is in resp.body. False: the call is over. */
static bool message_done(struct client_call *ca)
{
    struct buf *b = &ca->resp.body;
    struct status st = STATUS_INIT;
    if (ca->prefix[0] == 1) {
        uint8_t *p;
        size_t n;
        bool ok;
        if (!ca->gzip || grpc__inflate(buf_slice(b), ca->cl->o.recv_max, &p, &n, &st)) {
            client__call_done(ca, st.code == ST_TOO_LARGE ? GRPC_RESOURCE_EXHAUSTED : GRPC_INTERNAL,
                              false, "reply: %s", st.code ? st.msg : "unknown compression");
            return false;
        }
        buf_reset(b);
        ok = buf_put(b, p, n);
        mem_free(p);
        if (!ok) {
            client__call_done(ca, GRPC_RESOURCE_EXHAUSTED, false, "no memory for the reply");
            return false;
        }
    }
    ca->got_message = true;
    if (ca->on_message) {
        if (!ca->on_message(ca->on_message_arg, buf_slice(b))) {
            client__call_done(ca, GRPC_CANCELLED, false, "cancelled by the receiver");
            return false;
        }
        buf_reset(b);
        ca->prefix_n = 0;
    }
    return true;
}

bool client__call_data(struct client_call *ca, const uint8_t *p, size_t n)
{
    while (n) {
        size_t take;
        if (ca->prefix_n < GRPC_PREFIX) {
            ca->prefix[ca->prefix_n++] = *p++;
            n--;
            if (ca->prefix_n < GRPC_PREFIX) {
                continue;
            }
            ca->want = grpc__prefix_len(ca->prefix);
            if (ca->want > ca->cl->o.recv_max) {
                client__call_done(ca, GRPC_RESOURCE_EXHAUSTED, false,
                                  "received message larger than max (%zu vs. %zu)", ca->want,
                                  ca->cl->o.recv_max);
                return false;
            }
            if (ca->want == 0 && !message_done(ca)) {
                return false;
            }
            continue;
        }
        if (ca->got_message && !ca->on_message) {
            client__call_done(ca, GRPC_INTERNAL, false, "more than one reply message");
            return false;
        }
        take = MIN(n, ca->want - ca->resp.body.n);
        if (!buf_put(&ca->resp.body, p, take)) {
            client__call_done(ca, GRPC_RESOURCE_EXHAUSTED, false, "no memory for the reply");
            return false;
        }
        p += take;
        n -= take;
        if (ca->resp.body.n == ca->want && !message_done(ca)) {
            return false;
        }
    }
    return true;
}

void client__call_closed(struct client_call *ca, uint32_t h2_error)
{
    int code;
    ca->conn = NULL;
    if (ca->got_status) {
        if (ca->resp.code == GRPC_OK && !ca->got_message && !ca->on_message) {
            client__call_done(ca, GRPC_INTERNAL, false, "status OK without a reply message");
        } else {
            client__call_done(ca, ca->resp.code, true, NULL);
        }
        return;
    }
    if (h2_error == NGHTTP2_REFUSED_STREAM) {
        client__call_again(ca, "stream refused");
        return;
    }
    if (ca->http_status && ca->http_status != 200) {
        code = ca->http_status == 401   ? GRPC_UNAUTHENTICATED
               : ca->http_status == 403 ? GRPC_PERMISSION_DENIED
               : ca->http_status == 404 ? GRPC_UNIMPLEMENTED
               : ca->http_status == 429 || ca->http_status >= 502 ? GRPC_UNAVAILABLE
                                                                  : GRPC_UNKNOWN;
        client__call_done(ca, code, false, "HTTP status %d", ca->http_status);
        return;
    }
    code = h2_error == NGHTTP2_CANCEL              ? GRPC_CANCELLED
           : h2_error == NGHTTP2_ENHANCE_YOUR_CALM ? GRPC_RESOURCE_EXHAUSTED
           : h2_error == NGHTTP2_NO_ERROR          ? GRPC_UNAVAILABLE
                                                   : GRPC_INTERNAL;
    client__call_done(ca, code, false, "stream closed: %s", nghttp2_http2_strerror(h2_error));
}

/* ---------- loop side: connections and time ---------- */

static void run_waiting(struct grpc_client *cl)
{
    struct client_call *ca = TAKE(cl->waiting);
    cl->waiting_tail = &cl->waiting;
    while (ca) {
        struct client_call *next = ca->wait_next;
        ca->waiting = false;
        submit_or_wait(ca);
        ca = next;
    }
}

void client__conn_up(struct client_conn *c)
{
    struct grpc_client *cl = client__conn_client(c);
    cl->backoff_ms = cl->o.backoff_min_ms;
    cl->retry_at_us = 0;
    run_waiting(cl);
}

void client__conn_failed(struct grpc_client *cl, const char *why)
{
    struct client_call *ca;
    (void)snprintf(cl->last_error, sizeof cl->last_error, "%s", why);
    cl->retry_at_us = clock_mono_us() + cl->backoff_ms * 1000;
    cl->backoff_ms = MIN(cl->backoff_ms * 2, cl->o.backoff_max_ms);
    if (any_conn(cl)) {
        return;
    }
    do {
        for (ca = cl->waiting; ca && ca->wait_ready && !cl->closing; ca = ca->wait_next) {
        }
        if (ca) {
            client__call_done(ca, GRPC_UNAVAILABLE, false, "cannot reach %s: %s", cl->address, why);
        }
    } while (ca);
    if (cl->waiting) {
        timer_by(cl, cl->retry_at_us);
    }
}

static void on_timer(uv_timer_t *t)
{
    struct grpc_client *cl = t->data;
    int64_t now = clock_mono_us(), at = DEADLINE_NONE;
    struct client_call *ca = cl->calls, *next;
    cl->timer_due_us = DEADLINE_NONE;
    for (; ca; ca = next) {
        /* Callbacks start calls only through the mailbox, so next stays in the list. */
        next = ca->next;
        if (ca->deadline_us <= now) {
            client__call_done(ca, GRPC_DEADLINE_EXCEEDED, false, "no reply within the deadline");
        } else {
            at = MIN(at, ca->deadline_us);
        }
    }
    if (cl->waiting && now >= cl->retry_at_us) {
        run_waiting(cl);
    }
    if (cl->waiting && !any_conn(cl)) {
        at = MIN(at, cl->retry_at_us);
    }
    timer_by(cl, at);
}

static void timer_by(struct grpc_client *cl, int64_t at_us)
{
    int64_t now;
    if (at_us >= cl->timer_due_us || cl->closing) {
        return;
    }
    now = clock_mono_us();
    cl->timer_due_us = at_us;
    uv_update_time(&cl->loop->loop.uv);
    (void)uv_timer_start(&cl->timer, on_timer,
                         at_us <= now ? 0 : (uint64_t)((at_us - now + 999) / 1000), 0);
}

static void on_timer_closed(uv_handle_t *h)
{
    struct grpc_client *cl = h->data;
    lock_acquire(&cl->lock);
    cl->closed = true;
    cond_broadcast(&cl->cond);
    lock_release(&cl->lock);
}

static void maybe_closed(struct grpc_client *cl)
{
    if (cl->closing && cl->alive == 0 && !uv_is_closing((uv_handle_t *)&cl->timer)) {
        uv_close((uv_handle_t *)&cl->timer, on_timer_closed);
    }
}

void client__conn_freed(struct grpc_client *cl)
{
    cl->alive--;
    maybe_closed(cl);
}

/* ---------- loop side: messages ---------- */

static void on_start(struct net_msg *m)
{
    struct client_call *ca = CONTAINER_OF(m, struct client_call, msg);
    struct grpc_client *cl = ca->cl;
    int64_t deadline_us = ca->deadline_us;
    ca->open = true;
    ca->next = cl->calls;
    if (ca->next) {
        ca->next->prev = ca;
    }
    cl->calls = ca;
    if (cl->closing) {
        client__call_done(ca, GRPC_CANCELLED, false, "the client was closed");
        return;
    }
    if (deadline_us != DEADLINE_NONE && deadline_us <= clock_mono_us()) {
        client__call_done(ca, GRPC_DEADLINE_EXCEEDED, false, "the deadline passed before the start");
        return;
    }
    timer_by(cl, deadline_us);
    submit_or_wait(ca);
    if (cl->waiting && !any_conn(cl)) {
        timer_by(cl, cl->retry_at_us);
    }
}

struct control_msg {
    struct net_msg msg;
    struct grpc_client *cl;
    uint64_t id;
};

static void on_cancel(struct net_msg *m)
{
    struct control_msg *cm = CONTAINER_OF(m, struct control_msg, msg);
    struct client_call *ca = cm->cl->calls;
    while (ca && ca->id != cm->id) {
        ca = ca->next;
    }
    if (ca) {
        client__call_done(ca, GRPC_CANCELLED, false, "cancelled by the caller");
    }
    mem_free(cm);
}

static void on_open(struct net_msg *m)
{
    struct control_msg *cm = CONTAINER_OF(m, struct control_msg, msg);
    CHECK(uv_timer_init(&cm->cl->loop->loop.uv, &cm->cl->timer) == 0);
    cm->cl->timer.data = cm->cl;
    mem_free(cm);
}

static void on_close(struct net_msg *m)
{
    struct control_msg *cm = CONTAINER_OF(m, struct control_msg, msg);
    struct grpc_client *cl = cm->cl;
    mem_free(cm);
    cl->closing = true;
    (void)uv_timer_stop(&cl->timer);
    while (cl->calls) {
        client__call_done(cl->calls, GRPC_CANCELLED, false, "the client was closed");
    }
    client__conns_close(cl);
    maybe_closed(cl);
}

static void tell_loop(struct grpc_client *cl, void (*fn)(struct net_msg *), uint64_t id)
{
    struct control_msg *cm = xalloc(sizeof *cm);
    *cm = (struct control_msg){ { NULL, fn }, cl, id };
    net__mbox_push(&cl->loop->loop.mbox, &cm->msg);
}

/* ---------- caller side ---------- */

int grpc_loop_new(struct grpc_loop **ret_loop, struct status *st)
{
    struct grpc_loop *lp = xalloc(sizeof *lp);
    int rc;
    TRY(net__loop_init(&lp->loop, st));
    TRY(net__loop_start(&lp->loop, "net-client", st));
    *ret_loop = TAKE(lp);
out:
    grpc_loop_free(lp);
    return rc;
}

void grpc_loop_free(struct grpc_loop *loop)
{
    if (loop) {
        net__loop_stop(&loop->loop);
        mem_free(loop);
    }
}

static int port_number(struct slice s)
{
    int v = 0;
    if (!s.n || s.n > 5) {
        return -1;
    }
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return -1;
        }
        v = v * 10 + (s.p[i] - '0');
    }
    return v <= 65535 ? v : -1;
}

/* "host:port" or "[v6]:port" */
static int split_address(struct grpc_client *cl, struct status *st)
{
    const char *a = cl->address, *colon = strrchr(a, ':');
    size_t n = colon ? (size_t)(colon - a) : 0;
    if (n >= 2 && a[0] == '[' && a[n - 1] == ']') {
        a++;
        n -= 2;
    }
    if (!colon || n == 0 || port_number(slice_of(colon + 1)) < 0) {
        return st_fail(st, ST_INVALID, "address \"%s\" is not host:port", cl->address);
    }
    cl->host = xstrndup(a, n);
    cl->port = xstrdup(colon + 1);
    cl->port_number = port_number(slice_of(colon + 1));
    return 0;
}

static void client_destroy(struct grpc_client *cl)
{
    if (!cl) {
        return;
    }
    if (cl->own_loop) {
        grpc_loop_free(cl->loop);
    }
    net__tls_ctx_free(cl->tls);
    cond_done(&cl->cond);
    lock_done(&cl->lock);
    mem_free(cl->conns);
    mem_free(cl->address);
    mem_free(cl->host);
    mem_free(cl->port);
    mem_free(cl);
}

int grpc_client_new(const struct grpc_client_opts *o, struct grpc_client **ret_cl,
                    struct status *st)
{
    struct grpc_client *cl = xalloc(sizeof *cl);
    struct grpc_client_opts *co = &cl->o;
    int rc;
    *co = *o;
    co->connections = o->connections > 0 ? o->connections : 1;
    co->recv_max = o->recv_max ? o->recv_max : 256u << 20;
    co->send_max = o->send_max ? o->send_max : 256u << 20;
    co->connect_timeout_ms = o->connect_timeout_ms ? o->connect_timeout_ms : 5000;
    co->backoff_min_ms = o->backoff_min_ms ? o->backoff_min_ms : 50;
    co->backoff_max_ms = o->backoff_max_ms ? o->backoff_max_ms : 5000;
    co->keepalive_ms = o->keepalive_ms ? o->keepalive_ms : 10000;
    lock_init(&cl->lock, RANK_NET_CLIENT);
    cond_init(&cl->cond);
    cl->address = xstrdup(o->address);
    cl->waiting_tail = &cl->waiting;
    cl->backoff_ms = co->backoff_min_ms;
    cl->timer_due_us = DEADLINE_NONE;
    cl->conns = xalloc((size_t)co->connections * sizeof(struct client_conn *));
    TRY(split_address(cl, st));
    if (o->tls) {
        TRY(net__tls_client_ctx(o->tls, cl->host, &cl->tls, st));
    }
    co->tls = NULL;
    co->address = NULL;
    cl->loop = o->loop;
    if (!cl->loop) {
        TRY(grpc_loop_new(&cl->loop, st));
        cl->own_loop = true;
    }
    tell_loop(cl, on_open, 0);
    *ret_cl = TAKE(cl);
out:
    client_destroy(cl);
    return rc;
}

void grpc_client_free(struct grpc_client *cl)
{
    if (!cl) {
        return;
    }
    tell_loop(cl, on_close, 0);
    lock_acquire(&cl->lock);
    while (!cl->closed) {
        cond_wait(&cl->cond, &cl->lock);
    }
    lock_release(&cl->lock);
    client_destroy(cl);
}

/* Copies request metadata; false when a name or value cannot be sent. */
static bool copy_md(struct client_call *ca, const struct grpc_req *req)
{
    size_t bytes = 0;
    if (req->md_count > GRPC_HEADERS_MAX) {
        return false;
    }
    ca->md = arena_alloc(ca->ar, (req->md_count + 1) * sizeof *ca->md);
    for (size_t i = 0; i < req->md_count; i++) {
        const struct grpc_md *md = &req->md[i];
        bool bin = grpc__is_bin(md->name);
        bytes += md->name.n + md->value.n;
        if (!grpc__md_name_ok(md->name) || (!bin && !grpc__md_value_ok(md->value)) ||
            bytes > GRPC_HEADER_BYTES_MAX) {
            return false;
        }
        ca->md[ca->md_count++] = (struct grpc_md){
            arena_copy(ca->ar, md->name),
            bin ? grpc__b64_encode(ca->ar, md->value) : arena_copy(ca->ar, md->value),
        };
    }
    return true;
}

static uint64_t start(struct grpc_client *cl, const struct grpc_req *req, grpc_done_fn fn, void *arg)
{
    struct client_call *ca = xalloc(sizeof *ca);
    uint64_t id = atomic_fetch_add_explicit(&cl->next_id, 1, memory_order_relaxed);
    ca->cl = cl;
    ca->id = id;
    ca->ar = arena_new(1u << 20);
    ca->path = arena_strdup(ca->ar, req->path);
    ca->body = req->body;
    ca->deadline_us = req->deadline_us ? req->deadline_us : DEADLINE_NONE;
    ca->wait_ready = req->wait_ready;
    ca->on_message = req->on_message;
    ca->on_message_arg = req->on_message_arg;
    ca->fn = fn;
    ca->arg = arg;
    buf_init(&ca->resp.body, cl->o.recv_max);
    buf_init(&ca->resp.message, RESP_HEADER_MAX + 512);
    if (req->body.n > cl->o.send_max || req->body.n > UINT32_MAX) {
        client__call_done(ca, GRPC_RESOURCE_EXHAUSTED, false, "request of %zu bytes, max is %zu",
                          req->body.n, cl->o.send_max);
    } else if (!copy_md(ca, req)) {
        client__call_done(ca, GRPC_INVALID_ARGUMENT, false, "metadata cannot be sent");
    } else {
        ca->msg.fn = on_start;
        net__mbox_push(&cl->loop->loop.mbox, &ca->msg);
    }
    return id;
}

void grpc_client_start(struct grpc_client *cl, const struct grpc_req *req, grpc_done_fn fn,
                       void *arg)
{
    (void)start(cl, req, fn, arg);
}

struct waiter {
    struct lock lock;
    struct cond cond;
    bool done;
    struct grpc_resp *resp;
    struct status *st;
};

static void on_waited(void *arg, struct grpc_resp *resp, const struct status *st)
{
    struct waiter *w = arg;
    *w->resp = *resp;
    if (st->code) {
        *w->st = *st;
    }
    lock_acquire(&w->lock);
    w->done = true;
    cond_signal(&w->cond);
    lock_release(&w->lock);
}

int grpc_client_call(struct grpc_client *cl, const struct grpc_req *req,
                     struct grpc_resp *ret_resp, struct status *st)
{
    struct status result = STATUS_INIT;
    struct waiter w = { .resp = ret_resp, .st = &result };
    bool told = false;
    uint64_t id;
    lock_init(&w.lock, RANK_NET_CLIENT);
    cond_init(&w.cond);
    net_wait_begin();
    id = start(cl, req, on_waited, &w);
    lock_acquire(&w.lock);
    while (!w.done) {
        if (!req->cancel || told) {
            cond_wait(&w.cond, &w.lock);
        } else if (!cond_wait_until(&w.cond, &w.lock, deadline_in_ms(CANCEL_POLL_MS)) && !w.done &&
                   atomic_load_explicit(req->cancel, memory_order_relaxed)) {
            told = true;
            tell_loop(cl, on_cancel, id);
        }
    }
    lock_release(&w.lock);
    net_wait_end();
    cond_done(&w.cond);
    lock_done(&w.lock);
    if (result.code) {
        *st = result;
    }
    return result.code;
}
