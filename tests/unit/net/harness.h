/*
 * harness.h - a server on a free loopback port, and raw sockets to annoy it with.
 *
 * Waiting is always for a condition with a deadline (wait_for), never for time to pass.
 */
#pragma once
#include "unit.h"
#include "expect.h"
#include "base/clock.h"
#include "base/lock.h"
#include "net/grpc.h"
#include "net/grpc_client.h"
#include "net/http1.h"
#include "net/net.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#define TEST_DEADLINE_MS 20000

struct harness {
    struct net_server *srv;
    struct net_opts o;
    int port;
    char addr[64];
    struct grpc_client *cl;
    /* handlers that wait until let go */
    struct lock lock;
    struct cond cond;
    bool release;
    _Atomic int entered, cancelled, finished;
    _Atomic int done_count, done_status, done_cancelled;
    /* listener */
    const struct tls_opts *tls;
    http_fn http;
    http_class_fn http_class;
};

/* Spins politely until expr or the deadline. */
#define wait_for(expr)                                                                             \
    do {                                                                                           \
        int64_t until_ = deadline_in_ms(TEST_DEADLINE_MS);                                         \
        while (!(expr)) {                                                                          \
            if (clock_mono_us() > until_) {                                                        \
                fail_msg("not reached: %s", #expr);                                                \
            }                                                                                      \
            (void)poll(NULL, 0, 1);                                                                \
        }                                                                                          \
    } while (0)

static inline void h_on_done(void *arg, const struct net_done *d)
{
    struct harness *h = arg;
    h->done_status = d->status;
    if (d->cancelled) {
        h->done_cancelled++;
    }
    h->done_count++;
}

static inline void h_init(struct harness *h)
{
    memset(h, 0, sizeof *h);
    net_opts_default(&h->o);
    h->o.on_done = h_on_done;
    h->o.on_done_arg = h;
    lock_init(&h->lock, RANK_SERVER);
    cond_init(&h->cond);
}

static inline void h_start(struct harness *h, const struct grpc_method *m, size_t n)
{
    struct net_listen l = { .host = "127.0.0.1", .grpc = true, .tls = h->tls, .http = h->http,
                            .http_class = h->http_class, .http_arg = h };
    OK(net_server_new(&h->o, &h->srv, st));
    for (size_t i = 0; i < n; i++) {
        struct grpc_method mm = m[i];
        mm.arg = h;
        OK(grpc_register(h->srv, &mm, st));
    }
    OK(net_server_listen(h->srv, &l, &h->port, st));
    OK(net_server_start(h->srv, st));
    (void)snprintf(h->addr, sizeof h->addr, "127.0.0.1:%d", h->port);
}

static inline void h_client(struct harness *h)
{
    struct grpc_client_opts co = { .address = h->addr };
    OK(grpc_client_new(&co, &h->cl, st));
}

static inline void h_let_go(struct harness *h)
{
    lock_acquire(&h->lock);
    h->release = true;
    cond_broadcast(&h->cond);
    lock_release(&h->lock);
}

static inline void h_stop(struct harness *h)
{
    h_let_go(h);
    grpc_client_free(h->cl);
    net_server_free(h->srv);
    cond_done(&h->cond);
    lock_done(&h->lock);
}

static inline uint64_t h_calls_open(struct harness *h)
{
    struct net_stats s;
    net_server_stats(h->srv, &s);
    return s.calls_open;
}

static inline uint64_t h_conns_open(struct harness *h)
{
    struct net_stats s;
    net_server_stats(h->srv, &s);
    return s.conns_open;
}

static inline uint64_t h_held(struct harness *h)
{
    struct net_stats s;
    net_server_stats(h->srv, &s);
    return s.recv_bytes_held;
}

/* ---------- handlers ---------- */

static inline void on_echo(struct grpc_call *call, void *arg)
{
    (void)arg;
    grpc_reply(call, grpc_request(call));
}

/* Waits until let go or cancelled, then echoes. */
static inline void on_wait(struct grpc_call *call, void *arg)
{
    struct harness *h = arg;
    h->entered++;
    lock_acquire(&h->lock);
    while (!h->release && !grpc_is_cancelled(call)) {
        (void)cond_wait_until(&h->cond, &h->lock, deadline_in_ms(2));
    }
    lock_release(&h->lock);
    if (grpc_is_cancelled(call)) {
        h->cancelled++;
    }
    h->finished++;
    grpc_reply(call, grpc_request(call));
}

/* ---------- raw sockets ---------- */

static inline int raw_dial(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* False when the other side does not take it all (it may have closed). */
static inline bool raw_send(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t w = send(fd, at, n, MSG_NOSIGNAL);
        if (w <= 0) {
            return false;
        }
        at += w;
        n -= (size_t)w;
    }
    return true;
}

/* Up to cap bytes; 0 at the end or a reset, -1 when nothing came for ms. */
static inline ssize_t raw_recv(int fd, void *p, size_t cap, int ms)
{
    struct pollfd pf = { .fd = fd, .events = POLLIN };
    ssize_t r;
    if (poll(&pf, 1, ms) == 0) {
        return -1;
    }
    r = recv(fd, p, cap, 0);
    return r < 0 ? 0 : r;
}

/* Reads until the other side closes, into p (terminated); returns the count. */
static inline size_t raw_read_all(int fd, char *p, size_t cap)
{
    size_t n = 0;
    ssize_t r;
    while (n + 1 < cap && (r = raw_recv(fd, p + n, cap - 1 - n, TEST_DEADLINE_MS)) != 0) {
        assert_true(r > 0);
        n += (size_t)r;
    }
    p[n] = 0;
    return n;
}

/* Reads and forgets until the other side closes. */
static inline void raw_wait_closed(int fd)
{
    char p[65536];
    ssize_t r;
    while ((r = raw_recv(fd, p, sizeof p, TEST_DEADLINE_MS)) != 0) {
        assert_true(r > 0);
    }
}

/* ---------- raw HTTP/2 ---------- */

#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
enum { H2_DATA, H2_HEADERS, H2_PRIORITY, H2_RST, H2_SETTINGS, H2_PUSH, H2_PING, H2_GOAWAY, H2_WINDOW,
       H2_CONTINUATION };

struct frame {
    int type, flags;
    uint32_t stream;
    size_t n;
    uint8_t p[1 << 20];
};

static inline bool h2_put(int fd, int type, int flags, uint32_t stream, const void *p, size_t n)
{
    uint8_t *f = xalloc(n + 9);
    bool ok;
    f[0] = (uint8_t)(n >> 16);
    f[1] = (uint8_t)(n >> 8);
    f[2] = (uint8_t)n;
    f[3] = (uint8_t)type;
    f[4] = (uint8_t)flags;
    f[5] = (uint8_t)(stream >> 24);
    f[6] = (uint8_t)(stream >> 16);
    f[7] = (uint8_t)(stream >> 8);
    f[8] = (uint8_t)stream;
    if (n) {
        memcpy(f + 9, p, n);
    }
    ok = raw_send(fd, f, n + 9);
    mem_free(f);
    return ok;
}

/* Header literals without indexing. */
static inline size_t hp_put(uint8_t *at, const char *name, const char *value)
{
    size_t nn = strlen(name), vn = strlen(value), n = 0;
    assert_true(nn < 127 && vn < 127);
    at[n++] = 0;
    at[n++] = (uint8_t)nn;
    memcpy(at + n, name, nn);
    n += nn;
    at[n++] = (uint8_t)vn;
    memcpy(at + n, value, vn);
    return n + vn;
}

static inline size_t hp_request(uint8_t *at, const char *path)
{
    size_t n = 0;
    n += hp_put(at + n, ":method", "POST");
    n += hp_put(at + n, ":scheme", "http");
    n += hp_put(at + n, ":path", path);
    n += hp_put(at + n, ":authority", "x");
    n += hp_put(at + n, "content-type", "application/grpc");
    n += hp_put(at + n, "te", "trailers");
    return n;
}

/* The next frame; false at the end of the connection. */
static inline bool h2_get(int fd, struct frame *f)
{
    uint8_t h[9];
    size_t got = 0;
    ssize_t r;
    while (got < 9) {
        r = raw_recv(fd, h + got, 9 - got, TEST_DEADLINE_MS);
        assert_true(r >= 0);
        if (r == 0) {
            return false;
        }
        got += (size_t)r;
    }
    f->n = (size_t)h[0] << 16 | (size_t)h[1] << 8 | h[2];
    f->type = h[3];
    f->flags = h[4];
    f->stream = (uint32_t)h[5] << 24 | (uint32_t)h[6] << 16 | (uint32_t)h[7] << 8 | h[8];
    assert_true(f->n <= sizeof f->p);
    for (got = 0; got < f->n;) {
        r = raw_recv(fd, f->p + got, f->n - got, TEST_DEADLINE_MS);
        assert_true(r >= 0);
        if (r == 0) {
            return false;
        }
        got += (size_t)r;
    }
    return true;
}

/* Reads frames until one of that type on that stream (any when 0); false at the end. */
static inline bool h2_wait(int fd, int type, uint32_t stream, struct frame *f)
{
    while (h2_get(fd, f)) {
        if (f->type == type && (!stream || f->stream == stream)) {
            return true;
        }
    }
    return false;
}

/* Acknowledges the server's SETTINGS too: its limits hold from then on. */
static inline int h2_dial(int port)
{
    struct frame *f = xalloc(sizeof *f);
    int fd = raw_dial(port);
    assert_true(raw_send(fd, H2_PREFACE, 24));
    assert_true(h2_put(fd, H2_SETTINGS, 0, 0, NULL, 0));
    assert_true(h2_wait(fd, H2_SETTINGS, 0, f));
    assert_true(h2_put(fd, H2_SETTINGS, 1, 0, NULL, 0));
    mem_free(f);
    return fd;
}
