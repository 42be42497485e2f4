/*
 * net_int.h - inside the room: loops, links (socket + TLS), engines (bytes in, bytes out), workers.
 *
 * An engine speaks one protocol on one connection. It never touches a socket: its link feeds it
 * bytes and pulls bytes from it, and a fuzz target does the same without a link. Unless a comment
 * says otherwise everything here belongs to the thread of one loop.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/lock.h"
#include "base/map.h"
#include "base/slice.h"
#include "base/status.h"
#include "net/net.h"
#include <stdatomic.h>
#include <uv.h>

struct grpc_call;

/* ---------- mailbox: work handed to a loop from any thread, in order per sender ---------- */

struct net_msg {
    struct net_msg *next;
    void (*fn)(struct net_msg *m); /* runs on the loop; owns m */
};

struct net_mbox {
    /* Newest first. Release by pushers, acquire by net__mbox_run(). */
    _Atomic(struct net_msg *) head;
    void (*wake)(void *arg); /* called by the pusher that found the box empty */
    void *wake_arg;
};

void net__mbox_init(struct net_mbox *mb, void (*wake)(void *), void *arg);
void net__mbox_push(struct net_mbox *mb, struct net_msg *m); /* any thread */
/* Runs what is there now; false when there was nothing. */
bool net__mbox_run(struct net_mbox *mb);

/* ---------- engine ---------- */

struct net_out {
    uint8_t *p;
    size_t n, cap;
};
#define NET_OUT_CAP (256u << 10)
/* pull() stops when less than this is left: one HTTP/2 frame with its header and room for the next
 * control frame always fits. */
#define NET_OUT_ROOM (20u << 10)

struct net_engine;
struct net_link;

struct net_engine_ops {
    /* Takes n bytes from the peer. False: nothing more is read, the link closes after output. */
    bool (*recv)(struct net_engine *e, const uint8_t *p, size_t n);
    /* Appends to out what is ready while NET_OUT_ROOM is left. False: broken, close at once. */
    bool (*pull)(struct net_engine *e, struct net_out *out);
    /* Nothing will be read or written any more. Asked when pull() gave nothing. */
    bool (*finished)(struct net_engine *e);
    /* Reading may go on. */
    bool (*wants_input)(struct net_engine *e);
    /* Finish what runs, take nothing new. */
    void (*drain)(struct net_engine *e);
    /* About once a second. False: close at once. */
    bool (*tick)(struct net_engine *e, int64_t now_us);
    /* The peer closed its side. False: close at once. */
    bool (*eof)(struct net_engine *e);
    /* The transport is up (client links: connected and TLS done). May be NULL. */
    void (*up)(struct net_engine *e);
    /* The connection is gone: cancels what runs and frees e. why: for people. */
    void (*gone)(struct net_engine *e, const char *why);
};

struct net_engine {
    const struct net_engine_ops *ops;
    struct net_link *link; /* NULL in a fuzz target */
};

/* Output is (or may be) ready; the link pulls before its loop sleeps again. */
void net__engine_dirty(struct net_engine *e);

/* ---------- loop ---------- */

struct net_loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle; /* active: the loop does not wait */
    uv_timer_t tick; /* active while links exist or tick_always */
    uv_thread_t thread;
    const char *name; /* shown in thread listings */
    bool inited, started, stopping;
    bool tick_always;
    struct net_mbox mbox;
    struct net_link *links;
    size_t link_count;
    struct net_link *dirty;
    struct net_out out; /* scratch of every flush */
    uint8_t *rbuf;      /* scratch of every read */
    struct net_msg stop_msg;
    int64_t stall_timeout_us;
    void (*on_tick)(struct net_loop *lp, int64_t now_us); /* may be NULL */
    /* Called before the loop waits; true: there is more to do, look at the sockets and come back.
     * And after it has waited. May be NULL, both or none. */
    bool (*work)(struct net_loop *lp);
    void (*awake)(struct net_loop *lp);
    void *owner;
};
#define NET_RBUF_CAP (256u << 10)

int net__loop_init(struct net_loop *lp, struct status *st);
int net__loop_start(struct net_loop *lp, const char *name, struct status *st);
/* Closes all links and handles, joins the thread, runs what is left in the mailbox. Any thread. */
void net__loop_stop(struct net_loop *lp);
/* The loop whose thread this is, or NULL. */
struct net_loop *net__loop_here(void);
/* Fuzz target and tests: pretend. */
void net__loop_set_here(struct net_loop *lp);
int net__thread_create(uv_thread_t *t, size_t stack_bytes, void (*fn)(void *), void *arg,
                       struct status *st);

/* ---------- TLS ---------- */

struct net_tls_ctx; /* shared, reference counted */
struct net_tls;     /* one connection */

int net__tls_server_ctx(const struct tls_opts *o, bool h2, struct net_tls_ctx **ret,
                        struct status *st);
int net__tls_client_ctx(const struct tls_opts *o, const char *host, struct net_tls_ctx **ret,
                        struct status *st);
void net__tls_ctx_free(struct net_tls_ctx *tc);
struct net_tls *net__tls_new(struct net_tls_ctx *tc);
void net__tls_free(struct net_tls *t);
/* Ciphertext in. False: broken. */
bool net__tls_feed(struct net_tls *t, const uint8_t *p, size_t n);
/* Goes on with the handshake: 1 done, 0 needs more bytes, -1 failed (text in why). */
int net__tls_handshake(struct net_tls *t, const char **why);
/* Plaintext out: > 0 bytes, 0 none now, -1 closed or broken. */
int net__tls_read(struct net_tls *t, uint8_t *p, size_t cap);
bool net__tls_write(struct net_tls *t, const uint8_t *p, size_t n);
void net__tls_shutdown(struct net_tls *t);
/* Ciphertext to send; valid until the next call on t. */
struct slice net__tls_pending(struct net_tls *t);
void net__tls_sent(struct net_tls *t);
/* Subject of the peer's certificate; false when it sent none. */
bool net__tls_peer_subject(struct net_tls *t, char *p, size_t cap);

/* ---------- link ---------- */

struct net_link {
    uv_tcp_t tcp;
    struct net_loop *loop;
    struct net_link *prev, *next, *next_dirty;
    struct net_engine *eng;
    struct net_tls *tls;
    bool tls_ready, dirty, in_recv, writing, closing, reading, half_closed, last;
    uint8_t *pend; /* bytes of the write in progress */
    uv_write_t wreq;
    uv_connect_t creq;
    uv_shutdown_t sreq;
    int64_t opened_us, write_since_us;
    int64_t linger_since_us; /* != 0: all is sent, the rest of the peer's bytes is ignored */
    char peer[64];
    char *subject; /* of the peer's certificate, or NULL */
    void (*on_close)(void *arg); /* may be NULL */
    void *on_close_arg;
};

/* Takes fd (closed on failure), tls and eng. */
struct net_link *net__link_accept(struct net_loop *lp, int fd, struct net_tls *tls,
                                  struct net_engine *eng);
/* Starts to connect; eng->ops->up or ->gone follows. Takes tls and eng (also on failure: then NULL
 * is returned and ->gone has run). */
struct net_link *net__link_connect(struct net_loop *lp, const struct sockaddr *sa,
                                   struct net_tls *tls, struct net_engine *eng);
/* Not from inside the engine's own recv() or pull(). */
void net__link_close(struct net_link *ln, const char *why);
/* False: close it. */
bool net__link_tick(struct net_link *ln, int64_t now_us);
void net__link_flush_dirty(struct net_loop *lp);
/* Changes the protocol of a link. The old engine is the caller's. */
void net__link_set_engine(struct net_link *ln, struct net_engine *eng);

/* ---------- workers ---------- */

struct net_work {
    struct net_work *next;
    void (*run)(struct net_work *w);
};
struct net_workers;
struct net_workers *net__workers_new(const char *name, const struct net_pool_opts *o);
/* False when the queue is full or no thread could be started. Any thread. */
bool net__workers_push(struct net_workers *ws, struct net_work *w);
/* Runs what is queued, joins, frees. */
void net__workers_free(struct net_workers *ws);
size_t net__workers_queued(struct net_workers *ws);
int net__workers_threads(struct net_workers *ws);

/* ---------- server ---------- */

struct net_method {
    char *path;
    int kind, pool;
    void (*fn)(struct grpc_call *call, void *arg);
    void *arg;
    bool eager;
    _Atomic unsigned deferred; /* tries in a row that came to nothing; relaxed, a hint */
};

struct net_listener {
    struct net_server *srv;
    struct net_listener *next;
    int fd;
    uv_poll_t poll;
    bool polling, paused;
    struct net_tls_ctx *tls;
    bool grpc;
    http_fn http;
    http_class_fn http_class;
    void *http_arg;
};

/* What the engines of one loop share. */
struct net_ctx {
    struct net_server *srv;
    struct net_server_loop *sl; /* NULL in a fuzz target */
    struct net_mbox *mbox;
    struct grpc_call *free_calls;
    int free_count;
    /* Senders of streaming replies waiting for room, on worker threads. */
    struct lock send_lock;
    struct cond send_cond;
    _Atomic int send_waiters;
    bool draining; /* read by engines that start while the server drains */
};
void net__ctx_init(struct net_ctx *ctx, struct net_server *srv, struct net_mbox *mbox);
void net__ctx_done(struct net_ctx *ctx);

/* Short work of one loop; net_short.c */
struct net_short {
    struct lock lock; /* head, tail */
    struct net_work *head, **tail;
    _Atomic size_t n;
    _Atomic bool running; /* the loop is inside a piece of work */
    _Atomic bool asleep;  /* the loop waits, or is about to, and has seen nothing to do */
};

struct net_server_loop {
    struct net_loop loop;
    struct net_ctx ctx;
    struct net_short todo;
};

void net__short_init(struct net_server_loop *sl);
void net__short_done(struct net_server_loop *sl);
/* Thread: the loop's own. */
void net__short_push(struct net_server_loop *sl, struct net_work *w);
/* The loop's `work` and `awake`, below. */
bool net__short_run(struct net_loop *lp);
void net__short_awake(struct net_loop *lp);

struct net_server {
    struct net_opts opts; /* constant after net_server_new() */
    struct str_map *methods;
    struct net_workers *workers[NET_POOL_COUNT];
    struct net_server_loop *loops;
    struct net_listener *listeners;
    void (*cleanup_fn[8])(void *); /* things registered with the server and freed with it */
    void *cleanup_arg[8];
    int cleanup_count;
    bool started;
    /* loop 0 */
    unsigned next_loop;
    /* any thread */
    _Atomic size_t recv_held;
    _Atomic uint64_t conns_open, conns_total, conns_refused, calls_open, calls_total;
    /* drain and free wait for conns_open and calls_open to fall */
    struct lock idle_lock;
    struct cond idle_cond;
    _Atomic bool waiting_idle;
};
/* Something that net_server_drain() waits for has ended. Any thread. */
void net__server_note_idle(struct net_server *srv);
/* Charges request memory; false when the server holds its maximum already. Any thread. */
bool net__server_charge(struct net_server *srv, size_t n);
void net__server_uncharge(struct net_server *srv, size_t n);
void net__server_cleanup(struct net_server *srv, void (*fn)(void *), void *arg);

/* The engine of a fresh server connection; becomes one of the two below by the first bytes. */
struct net_engine *net__sniff_new(struct net_ctx *ctx, struct net_listener *lis);
struct net_engine *net__h2_new(struct net_ctx *ctx, struct net_link *link); /* NULL: no memory */
struct net_engine *net__http1_new(struct net_ctx *ctx, struct net_listener *lis,
                                  struct net_link *link);
