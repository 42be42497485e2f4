/*
 * net.h - a server: listeners, limits, worker pools, start and drain.
 *
 * One port may carry plain or TLS connections and speaks HTTP/2 (gRPC, see grpc.h) and HTTP/1.1
 * (see http1.h); the first bytes of a connection decide. Several listeners with different handlers
 * live in one server.
 *
 * THREADS. A server owns `threads` net threads (each an event loop that frames requests and never
 * blocks) and NET_POOL_COUNT classes of worker threads, started on demand. A method or route runs
 * on the net thread (NET_INLINE: it must not block, and takes microseconds) or on a worker of its
 * class (it may block), or is tried on the net thread first (grpc.h, eager). Replies may come from
 * any thread, exactly once per request.
 *
 * ORDER. net_server_new, register methods (grpc.h, grpc_health.h), net_server_listen, then
 * net_server_start; nothing may be registered afterwards. All of these from one thread.
 */
#pragma once
#include "base/compiler.h"
#include "base/slice.h"
#include "base/status.h"

struct net_server;
struct http_req;

/* Where a handler runs. Separate classes so that slow work of one kind cannot starve another. */
enum net_pool {
    NET_INLINE = -1,   /* on the net thread: microseconds, never blocks */
    NET_POOL_READ = 0, /* searches and queries */
    NET_POOL_WRITE,    /* inserts, deletes, and what waits for the log */
    NET_POOL_ADMIN,    /* everything else */
    NET_POOL_COUNT
};

struct net_pool_opts {
    int threads;       /* handlers of this class running (not waiting) at a time */
    int threads_max;   /* threads including those inside net_wait_begin() .. net_wait_end() */
    size_t queue_max;  /* waiting requests; past it the answer is UNAVAILABLE or 503 */
    size_t stack_bytes;
};

struct net_limits {
    size_t recv_max;          /* one request message or HTTP/1.1 body; 64 MiB */
    size_t send_max;          /* one reply message; 256 MiB */
    size_t recv_total_max;    /* all requests held in memory by this server; 1 GiB */
    size_t conn_output_max;   /* unsent replies of one connection before it gets no new call */
    size_t header_max;        /* all header names and values of one request; 32 KiB */
    int streams_max;          /* concurrent streams of one HTTP/2 connection; 1000 */
    int conns_max;            /* open connections; more are closed at once; 20000 */
    size_t stream_queue_max;  /* unsent bytes of one streaming reply before grpc_send() waits */
    int64_t header_timeout_ms; /* handshake, first bytes, HTTP/1.1 request head; 10 s */
    int64_t body_timeout_ms;   /* HTTP/1.1 body; 60 s */
    int64_t idle_timeout_ms;   /* HTTP/1.1 keep-alive between requests; 60 s. HTTP/2: unlimited */
    int64_t stall_timeout_ms;  /* output is waiting and the peer takes none; 120 s */
};

/* One finished request, for metrics and the access log. All slices are valid during the call. */
struct net_done {
    struct slice path;    /* as it came, without query */
    struct slice method;  /* "POST" for gRPC */
    const char *peer;     /* "127.0.0.1:4711" */
    bool is_grpc;
    bool known;           /* a registered gRPC method: safe as a metric label */
    bool cancelled;       /* the client went away before the end of the reply */
    int status;           /* gRPC status, or HTTP status when !is_grpc */
    int64_t duration_us;  /* request head complete to end of reply */
    uint64_t bytes_in, bytes_out; /* bodies */
};
/* Thread: a net thread; must not block. */
typedef void (*net_done_fn)(void *arg, const struct net_done *d);

struct net_opts {
    int threads; /* net threads; 1 */
    struct net_pool_opts pool[NET_POOL_COUNT];
    struct net_limits limits;
    net_done_fn on_done; /* may be NULL */
    void *on_done_arg;
};

/* Fills in every default. */
void net_opts_default(struct net_opts *o);

/* Certificates, in PEM files. As server: cert and key are needed; ca with require_client_cert makes
 * it mutual. As client: ca (NULL: the system's) verifies the server; cert and key are its own. */
struct tls_opts {
    const char *cert_file;
    const char *key_file;
    const char *ca_file;
    const char *server_name; /* client: name to verify and to send as SNI; NULL: host of the address */
    bool require_client_cert;
    bool insecure; /* client: do not verify */
};

/* An HTTP/1.1 handler: reads the request (http1.h) and replies exactly once, from any thread. */
typedef void (*http_fn)(struct http_req *req, void *arg);
/* Chooses where the handler runs: a net_pool. Thread: net thread; must not block. */
typedef int (*http_class_fn)(struct slice method, struct slice path, void *arg);

struct net_listen {
    const char *host;            /* NULL: all addresses */
    int port;                    /* 0: any free one */
    const struct tls_opts *tls;  /* NULL: plain */
    bool grpc;                   /* HTTP/2 with the registered methods is served */
    http_fn http;                /* NULL: HTTP/1.1 is answered with 404 */
    http_class_fn http_class;    /* NULL: all on NET_POOL_ADMIN */
    void *http_arg;
};

int net_server_new(const struct net_opts *o, struct net_server **ret_srv, struct status *st);

/* Binds at once and accepts from net_server_start() on. ret_port (may be NULL) gets the bound port.
 * Keeps: http_arg. Fails: ST_INVALID (address, certificate), ST_IO (port in use). */
int net_server_listen(struct net_server *srv, const struct net_listen *l, int *ret_port,
                      struct status *st);
int net_server_start(struct net_server *srv, struct status *st);

/* Stops accepting, tells every client to go (GOAWAY, Connection: close), and returns when all calls
 * are finished and all connections are closed, or at the deadline (clock.h), when the rest is cut.
 * Cut calls see themselves cancelled. False when something was cut. Blocks; not from a net thread
 * nor a worker. */
bool net_server_drain(struct net_server *srv, int64_t deadline_us);
/* Drains with no patience when that was not done, waits for running handlers, frees. NULL is fine. */
void net_server_free(struct net_server *srv);

struct net_stats {
    uint64_t conns_open, conns_total, conns_refused;
    uint64_t calls_open, calls_total;
    uint64_t recv_bytes_held; /* request bytes in memory */
    uint64_t queued[NET_POOL_COUNT];
    uint64_t threads[NET_POOL_COUNT];
};
/* Thread: any. */
void net_server_stats(const struct net_server *srv, struct net_stats *ret);

/* A worker's handler is about to wait (for a disk sync, another node) without using the processor:
 * its slot goes to another request until net_wait_end(). Elsewhere than on a worker: no effect.
 * Pairs do not nest. */
void net_wait_begin(void);
void net_wait_end(void);
