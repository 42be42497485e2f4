/* client_int.h - inside the room: the gRPC client between its callers and its connections. */
#pragma once
#include "net/grpc_client.h"
#include "net/grpc_int.h"
#include "net/net_int.h"

struct client_conn;

/* One call. The loop's, from its start message until its callback. */
struct client_call {
    struct net_msg msg;
    struct grpc_client *cl;
    struct client_call *prev, *next;           /* in cl->calls, while open */
    struct client_call *wait_next;             /* in cl->waiting */
    bool open, waiting;
    uint64_t id;
    struct client_conn *conn; /* NULL: waiting or over */
    int32_t stream_id;
    int attempts;
    /* request */
    char *path;
    struct slice body;
    size_t body_off; /* prefix included */
    int64_t deadline_us;
    struct grpc_md *md;
    size_t md_count;
    bool wait_ready;
    bool (*on_message)(void *arg, struct slice msg);
    void *on_message_arg;
    grpc_done_fn fn;
    void *arg;
    /* response */
    struct arena *ar;
    struct grpc_resp resp;
    size_t md_cap;
    int http_status;
    bool got_status, got_message, gzip;
    size_t header_bytes;
    uint8_t prefix[GRPC_PREFIX];
    uint8_t prefix_n;
    size_t want;
};

struct grpc_loop {
    struct net_loop loop;
};

struct grpc_client {
    /* constant */
    struct grpc_client_opts o;
    char *address, *host, *port;
    int port_number;
    struct grpc_loop *loop;
    bool own_loop;
    struct net_tls_ctx *tls;
    _Atomic uint64_t next_id;
    /* loop */
    uv_timer_t timer;
    struct client_conn **conns; /* o.connections slots; NULL: none */
    unsigned next_conn;
    size_t alive;               /* connections not yet freed */
    struct client_call *calls;
    struct client_call *waiting, **waiting_tail;
    struct client_conn *all;    /* every connection, those without a slot included */
    int64_t backoff_ms, retry_at_us; /* no new connection before */
    int64_t timer_due_us;
    char last_error[256];
    bool closing;
    /* grpc_client_free() waits here */
    struct lock lock; /* RANK_NET_CLIENT */
    struct cond cond;
    bool closed;
};

/* grpc_client.c */
void client__call_done(struct client_call *ca, int code, bool from_peer, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* The server has not looked at the call: another try is safe. */
void client__call_again(struct client_call *ca, const char *why);
void client__conn_up(struct client_conn *c);
void client__conn_failed(struct grpc_client *cl, const char *why);
void client__conn_freed(struct grpc_client *cl);
bool client__call_header(struct client_call *ca, struct slice name, struct slice value);
/* False: reset the stream (the call is over already). */
bool client__call_data(struct client_call *ca, const uint8_t *p, size_t n);
void client__call_closed(struct client_call *ca, uint32_t h2_error);

/* client_conn.c */
struct client_conn *client__conn_new(struct grpc_client *cl, int slot);
bool client__conn_ready(const struct client_conn *c);
/* False: the connection takes no more. */
bool client__conn_submit(struct client_conn *c, struct client_call *ca);
/* Resets the stream; the call is the caller's to finish. */
void client__conn_cancel(struct client_call *ca);
void client__conns_close(struct grpc_client *cl);
struct grpc_client *client__conn_client(const struct client_conn *c);
