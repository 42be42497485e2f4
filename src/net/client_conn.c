/*
 * client_conn.c - one outgoing HTTP/2 connection: resolve, connect, multiplex, notice death.
 *
 * Addresses of a name are tried in turn; when the last fails, the client is told and pauses. A
 * connection that got GOAWAY leaves its slot at once (the next call opens another) and lives on
 * until its streams end. Silence is probed with PING after keepalive_ms; an unanswered PING closes.
 *
 * THREADS     the client loop's.
 */
#include "net/client_int.h"
#include "base/alloc.h"
#include "base/clock.h"
#include <nghttp2/nghttp2.h>
#include <netdb.h>

#define STREAM_WINDOW (16 << 20)
#define CONN_WINDOW (64 << 20)
#define PING_TIMEOUT_US 5000000
#define ADDRS_MAX 8

enum conn_state { CONN_RESOLVING, CONN_CONNECTING, CONN_READY };

struct client_conn {
    struct net_engine e;
    struct grpc_client *cl;
    struct client_conn *prev, *next; /* in cl->all */
    int slot; /* -1: takes no new calls */
    enum conn_state state;
    nghttp2_session *ses;
    struct net_out *out;
    uv_getaddrinfo_t gai;
    struct sockaddr_storage addr[ADDRS_MAX];
    int addr_n, addr_i;
    bool abandoned; /* freed when the resolver returns */
    bool broken;
    int64_t since_us, heard_us, ping_us;
};

static struct client_conn *of(struct net_engine *e)
{
    return CONTAINER_OF(e, struct client_conn, e);
}

static void leave_slot(struct client_conn *c)
{
    if (c->slot >= 0) {
        c->cl->conns[c->slot] = NULL;
        c->slot = -1;
    }
}

static void conn_free(struct client_conn *c)
{
    struct grpc_client *cl = c->cl;
    leave_slot(c);
    if (c->prev) {
        c->prev->next = c->next;
    } else {
        cl->all = c->next;
    }
    if (c->next) {
        c->next->prev = c->prev;
    }
    nghttp2_session_del(c->ses);
    mem_free(c);
    client__conn_freed(cl);
}

/* ---------- nghttp2 ---------- */

static struct client_call *call_of(nghttp2_session *ses, int32_t stream)
{
    return nghttp2_session_get_stream_user_data(ses, stream);
}

static ssize_t on_want_data(nghttp2_session *ses, int32_t stream, uint8_t *buf, size_t length,
                            uint32_t *flags, nghttp2_data_source *src, void *user)
{
    struct client_call *ca = call_of(ses, stream);
    size_t total, n;
    (void)buf;
    (void)src;
    (void)user;
    if (!ca) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    total = ca->body.n + GRPC_PREFIX;
    n = MIN(length, total - ca->body_off);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (ca->body_off + n == total) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

static int on_send_data(nghttp2_session *ses, nghttp2_frame *f, const uint8_t *framehd, size_t length,
                        nghttp2_data_source *src, void *user)
{
    struct client_conn *c = user;
    struct client_call *ca = call_of(ses, f->hd.stream_id);
    struct net_out *out = c->out;
    (void)src;
    if (!ca) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (out->cap - out->n < length + 9 + NET_OUT_ROOM) {
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    memcpy(out->p + out->n, framehd, 9);
    out->n += 9;
    if (ca->body_off < GRPC_PREFIX) {
        uint8_t prefix[GRPC_PREFIX];
        size_t n = MIN(length, GRPC_PREFIX - ca->body_off);
        grpc__prefix_put(prefix, ca->body.n);
        memcpy(out->p + out->n, prefix + ca->body_off, n);
        out->n += n;
        ca->body_off += n;
        length -= n;
    }
    if (length) {
        memcpy(out->p + out->n, ca->body.p + (ca->body_off - GRPC_PREFIX), length);
        out->n += length;
        ca->body_off += length;
    }
    return 0;
}

static int on_header(nghttp2_session *ses, const nghttp2_frame *f, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct client_call *ca = call_of(ses, f->hd.stream_id);
    (void)flags;
    (void)user;
    if (ca && !client__call_header(ca, slice_n(name, name_n), slice_n(value, value_n))) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return 0;
}

static int on_data(nghttp2_session *ses, uint8_t flags, int32_t stream, const uint8_t *p, size_t n,
                   void *user)
{
    struct client_call *ca = call_of(ses, stream);
    (void)flags;
    (void)user;
    if (ca) {
        (void)client__call_data(ca, p, n);
    }
    return 0;
}

static int on_frame(nghttp2_session *ses, const nghttp2_frame *f, void *user)
{
    struct client_conn *c = user;
    (void)ses;
    if (f->hd.type == NGHTTP2_GOAWAY) {
        leave_slot(c);
    } else if (f->hd.type == NGHTTP2_PING && (f->hd.flags & NGHTTP2_FLAG_ACK)) {
        c->ping_us = 0;
    }
    return 0;
}

static int on_stream_closed(nghttp2_session *ses, int32_t stream, uint32_t error, void *user)
{
    struct client_call *ca = call_of(ses, stream);
    (void)user;
    if (ca) {
        (void)nghttp2_session_set_stream_user_data(ses, stream, NULL);
        client__call_closed(ca, error);
    }
    return 0;
}

/* A request that was queued and cannot be sent any more (GOAWAY came first). */
static int on_not_sent(nghttp2_session *ses, const nghttp2_frame *f, int error, void *user)
{
    struct client_conn *c = user;
    (void)ses;
    if (f->hd.type != NGHTTP2_HEADERS || error == NGHTTP2_ERR_STREAM_CLOSING) {
        return 0;
    }
    for (struct client_call *ca = c->cl->calls; ca; ca = ca->next) {
        if (ca->conn == c && ca->stream_id == f->hd.stream_id) {
            ca->conn = NULL;
            client__call_again(ca, nghttp2_strerror(error));
            break;
        }
    }
    return 0;
}

static nghttp2_session *session_new(struct client_conn *c)
{
    nghttp2_session *ses = NULL;
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *o = NULL;
    static const nghttp2_settings_entry set[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
        { NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 256 << 10 },
    };
    if (nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&o) != 0) {
        goto out;
    }
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_closed);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, on_not_sent);
    nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
    nghttp2_option_set_no_closed_streams(o, 1);
    if (nghttp2_session_client_new2(&ses, cb, c, o) != 0) {
        ses = NULL;
    } else if (nghttp2_submit_settings(ses, NGHTTP2_FLAG_NONE, set, ARRAY_LEN(set)) != 0 ||
               nghttp2_session_set_local_window_size(ses, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW) != 0) {
        nghttp2_session_del(ses);
        ses = NULL;
    }
out:
    nghttp2_option_del(o);
    nghttp2_session_callbacks_del(cb);
    return ses;
}

/* ---------- engine ---------- */

static bool cc_recv(struct net_engine *e, const uint8_t *p, size_t n)
{
    struct client_conn *c = of(e);
    c->heard_us = clock_mono_us();
    return c->ses && nghttp2_session_mem_recv(c->ses, p, n) >= 0 && !c->broken;
}

static bool cc_pull(struct net_engine *e, struct net_out *out)
{
    struct client_conn *c = of(e);
    if (!c->ses) {
        return !c->broken;
    }
    c->out = out;
    while (out->cap - out->n >= NET_OUT_ROOM && !c->broken) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(c->ses, &p);
        if (n < 0 || (size_t)MAX(n, (ssize_t)0) > out->cap - out->n) {
            c->broken = true;
        } else if (n == 0) {
            break;
        } else {
            memcpy(out->p + out->n, p, (size_t)n);
            out->n += (size_t)n;
        }
    }
    c->out = NULL;
    return !c->broken;
}

static bool cc_finished(struct net_engine *e)
{
    struct client_conn *c = of(e);
    return c->ses && !nghttp2_session_want_read(c->ses) && !nghttp2_session_want_write(c->ses);
}

static bool cc_wants_input(struct net_engine *e)
{
    (void)e;
    return true;
}

static void cc_drain(struct net_engine *e)
{
    leave_slot(of(e));
}

static bool cc_tick(struct net_engine *e, int64_t now_us)
{
    struct client_conn *c = of(e);
    int64_t every = c->cl->o.keepalive_ms * 1000;
    if (c->state != CONN_READY) {
        return now_us - c->since_us < c->cl->o.connect_timeout_ms * 1000;
    }
    if (c->ping_us) {
        return now_us - c->ping_us < PING_TIMEOUT_US;
    }
    if (every > 0 && now_us - c->heard_us >= every) {
        c->ping_us = now_us;
        (void)nghttp2_submit_ping(c->ses, NGHTTP2_FLAG_NONE, NULL);
        net__engine_dirty(e);
    }
    return true;
}

static bool cc_eof(struct net_engine *e)
{
    (void)e;
    return false;
}

static void cc_up(struct net_engine *e)
{
    struct client_conn *c = of(e);
    c->ses = session_new(c);
    if (!c->ses) {
        c->broken = true;
        return;
    }
    c->state = CONN_READY;
    c->heard_us = clock_mono_us();
    net__engine_dirty(e);
    client__conn_up(c);
}

static void try_next(struct client_conn *c, const char *why);

static void cc_gone(struct net_engine *e, const char *why)
{
    struct client_conn *c = of(e);
    struct grpc_client *cl = c->cl;
    struct client_call *ca;
    if (c->state == CONN_CONNECTING) {
        try_next(c, why);
        return;
    }
    leave_slot(c);
    /* Callbacks may change the list: start over after each. */
    do {
        for (ca = cl->calls; ca && ca->conn != c; ca = ca->next) {
        }
        if (ca) {
            ca->conn = NULL;
            client__call_done(ca, GRPC_UNAVAILABLE, false, "connection to %s lost: %s", cl->address,
                              why);
        }
    } while (ca);
    conn_free(c);
}

static const struct net_engine_ops cc_ops = {
    .recv = cc_recv,
    .pull = cc_pull,
    .finished = cc_finished,
    .wants_input = cc_wants_input,
    .drain = cc_drain,
    .tick = cc_tick,
    .eof = cc_eof,
    .up = cc_up,
    .gone = cc_gone,
};

/* ---------- connecting ---------- */

/* Connects to addr_i, or gives up after the last. c may be gone afterwards. */
static void try_next(struct client_conn *c, const char *why)
{
    struct grpc_client *cl = c->cl;
    if (!cl->closing && c->addr_i < c->addr_n) {
        struct sockaddr *sa = (struct sockaddr *)&c->addr[c->addr_i++];
        c->state = CONN_CONNECTING;
        c->since_us = clock_mono_us();
        (void)net__link_connect(&cl->loop->loop, sa, cl->tls ? net__tls_new(cl->tls) : NULL, &c->e);
        return;
    }
    leave_slot(c);
    client__conn_failed(cl, why);
    conn_free(c);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *res)
{
    struct client_conn *c = CONTAINER_OF(req, struct client_conn, gai);
    if (c->abandoned) {
        uv_freeaddrinfo(res);
        conn_free(c);
        return;
    }
    for (struct addrinfo *ai = res; ai && !status && c->addr_n < ADDRS_MAX; ai = ai->ai_next) {
        memcpy(&c->addr[c->addr_n++], ai->ai_addr, ai->ai_addrlen);
    }
    uv_freeaddrinfo(res);
    try_next(c, status ? uv_strerror(status) : "the name has no address");
}

struct client_conn *client__conn_new(struct grpc_client *cl, int slot)
{
    struct client_conn *c = xalloc(sizeof *c);
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
    int port = cl->port_number, rc;
    c->e.ops = &cc_ops;
    c->cl = cl;
    c->slot = slot;
    c->since_us = clock_mono_us();
    c->next = cl->all;
    if (c->next) {
        c->next->prev = c;
    }
    cl->all = c;
    cl->conns[slot] = c;
    cl->alive++;
    if (uv_ip4_addr(cl->host, port, (struct sockaddr_in *)&c->addr[0]) == 0 ||
        uv_ip6_addr(cl->host, port, (struct sockaddr_in6 *)&c->addr[0]) == 0) {
        c->addr_n = 1;
        try_next(c, "");
        return cl->conns[slot];
    }
    rc = uv_getaddrinfo(&cl->loop->loop.uv, &c->gai, on_resolved, cl->host, cl->port, &hints);
    if (rc) {
        try_next(c, uv_strerror(rc));
    }
    return cl->conns[slot];
}

bool client__conn_ready(const struct client_conn *c)
{
    return c->state == CONN_READY && c->slot >= 0 && !c->broken;
}

static nghttp2_nv nv_of(struct slice name, struct slice value)
{
    return (nghttp2_nv){ (uint8_t *)(uintptr_t)name.p, (uint8_t *)(uintptr_t)value.p, name.n, value.n,
                         NGHTTP2_NV_FLAG_NONE };
}

bool client__conn_submit(struct client_conn *c, struct client_call *ca)
{
    nghttp2_data_provider dp = { .source.ptr = NULL, .read_callback = on_want_data };
    nghttp2_nv nv[8 + GRPC_HEADERS_MAX];
    char timeout[GRPC_TIMEOUT_TEXT];
    size_t n = 0;
    int32_t id;
    if (!nghttp2_session_check_request_allowed(c->ses)) {
        leave_slot(c);
        return false;
    }
    nv[n++] = nv_of(SLICE_LIT(":method"), SLICE_LIT("POST"));
    nv[n++] = nv_of(SLICE_LIT(":scheme"), c->cl->tls ? SLICE_LIT("https") : SLICE_LIT("http"));
    nv[n++] = nv_of(SLICE_LIT(":path"), slice_of(ca->path));
    nv[n++] = nv_of(SLICE_LIT(":authority"), slice_of(c->cl->address));
    nv[n++] = nv_of(SLICE_LIT("content-type"), SLICE_LIT("application/grpc"));
    nv[n++] = nv_of(SLICE_LIT("te"), SLICE_LIT("trailers"));
    if (ca->deadline_us != DEADLINE_NONE) {
        grpc__timeout_format(timeout, ca->deadline_us - clock_mono_us());
        nv[n++] = nv_of(SLICE_LIT("grpc-timeout"), slice_of(timeout));
    }
    for (size_t i = 0; i < ca->md_count; i++) {
        nv[n++] = nv_of(ca->md[i].name, ca->md[i].value);
    }
    id = nghttp2_submit_request(c->ses, NULL, nv, n, &dp, ca);
    if (id < 0) {
        /* Stream numbers used up, or no memory: this connection takes no more. */
        leave_slot(c);
        return false;
    }
    ca->conn = c;
    ca->stream_id = id;
    ca->body_off = 0;
    net__engine_dirty(&c->e);
    return true;
}

void client__conn_cancel(struct client_call *ca)
{
    struct client_conn *c = ca->conn;
    if (!c) {
        return;
    }
    (void)nghttp2_session_set_stream_user_data(c->ses, ca->stream_id, NULL);
    (void)nghttp2_submit_rst_stream(c->ses, NGHTTP2_FLAG_NONE, ca->stream_id, NGHTTP2_CANCEL);
    ca->conn = NULL;
    net__engine_dirty(&c->e);
}

void client__conns_close(struct grpc_client *cl)
{
    struct client_conn *c = cl->all;
    while (c) {
        struct client_conn *next = c->next;
        if (c->e.link) {
            net__link_close(c->e.link, "the client was closed");
        } else {
            c->abandoned = true;
            leave_slot(c);
            (void)uv_cancel((uv_req_t *)&c->gai);
        }
        c = next;
    }
}

struct grpc_client *client__conn_client(const struct client_conn *c)
{
    return c->cl;
}
