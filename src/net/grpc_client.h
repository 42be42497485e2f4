/*
 * grpc_client.h - calls to other servers: one client per address, shared by all threads.
 *
 * Calls are spread over a few HTTP/2 connections, opened on first use and reopened with growing
 * pauses. A call waits for a connection until its deadline only when wait_ready is set; otherwise
 * it fails with ST_UNAVAILABLE while the address cannot be reached.
 *
 * THREADS. Everything here from any thread but a client loop's own; callbacks run on the client
 * loop and must not block. A client loop may serve many clients.
 */
#pragma once
#include "base/buf.h"
#include "base/clock.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "base/status.h"
#include "net/grpc.h"
#include "net/net.h"

struct grpc_client;
struct grpc_loop;

/* One thread with an event loop for any number of clients. Free after its clients. */
int grpc_loop_new(struct grpc_loop **ret_loop, struct status *st);
void grpc_loop_free(struct grpc_loop *loop);

struct grpc_client_opts {
    const char *address;         /* "host:port" or "[v6]:port"; copied */
    const struct tls_opts *tls;  /* NULL: plain; read during grpc_client_new() only */
    struct grpc_loop *loop;      /* NULL: a loop of its own */
    int connections;             /* 0: 1 */
    size_t recv_max, send_max;   /* 0: 256 MiB, 256 MiB */
    int64_t connect_timeout_ms;  /* 0: 5000 */
    int64_t backoff_min_ms, backoff_max_ms; /* 0: 50, 5000 */
    int64_t keepalive_ms;        /* PING when nothing came for so long; 0: 10000; <0: never */
};
int grpc_client_new(const struct grpc_client_opts *o, struct grpc_client **ret_cl,
                    struct status *st);
/* Fails open calls with ST_CANCELLED and waits for their callbacks. No call may be started meanwhile. */
void grpc_client_free(struct grpc_client *cl);

struct grpc_md {
    struct slice name, value; /* names lower case; "-bin" names carry bytes */
};

struct grpc_req {
    const char *path;          /* "/package.Service/Method" */
    struct slice body;         /* the request message; borrowed until the call is over */
    int64_t deadline_us;       /* clock.h; 0 or DEADLINE_NONE: none. Sent as grpc-timeout too */
    const struct grpc_md *md;  /* copied */
    size_t md_count;
    bool wait_ready;
    const _Atomic bool *cancel; /* may be NULL; grpc_client_call() looks at it every 20 ms */
    /* Streaming replies: called with every message, in order, on the client loop; the response has
     * no body then. False cancels. */
    bool (*on_message)(void *arg, struct slice msg);
    void *on_message_arg;
};

struct grpc_resp {
    int code;              /* gRPC status; GRPC_UNAVAILABLE etc. also when made up on this side */
    bool from_peer;        /* code came from the other side */
    struct buf body;       /* the reply message; buf_take() to keep it */
    struct buf message;    /* grpc-message, decoded */
    struct grpc_md *md;    /* response headers, then trailers; valid until grpc_resp_done() */
    size_t md_count;
    struct arena *ar;      /* memory of md; NULL when there is none */
};
/* First value, or p == NULL. */
struct slice grpc_resp_metadata(const struct grpc_resp *resp, const char *name);
void grpc_resp_done(struct grpc_resp *resp);

/* Blocks until the reply, the deadline or cancellation. *ret_resp is filled in every case, failures
 * included; end it with grpc_resp_done(). Returns 0 for gRPC status OK, else the cause: UNAVAILABLE
 * -> ST_UNAVAILABLE, DEADLINE_EXCEEDED -> ST_TIMEOUT, CANCELLED -> ST_CANCELLED, NOT_FOUND ->
 * ST_NOT_FOUND, ALREADY_EXISTS -> ST_EXISTS, INVALID_ARGUMENT and OUT_OF_RANGE -> ST_INVALID,
 * RESOURCE_EXHAUSTED -> ST_QUOTA, PERMISSION_DENIED -> ST_DENIED, UNAUTHENTICATED ->
 * ST_UNAUTHENTICATED, UNIMPLEMENTED -> ST_UNSUPPORTED, FAILED_PRECONDITION and ABORTED ->
 * ST_CONFLICT, DATA_LOSS -> ST_CORRUPT, else ST_INTERNAL. A worker's slot is given back meanwhile
 * (net_wait_begin). */
int grpc_client_call(struct grpc_client *cl, const struct grpc_req *req,
                     struct grpc_resp *ret_resp, struct status *st);
int grpc_status_of_code(int grpc_code);

/* The same without waiting: fn runs once, on the client loop (or before this returns, when the call
 * cannot even start); resp is its to grpc_resp_done(). req itself may go away at once, its body must
 * stay. */
typedef void (*grpc_done_fn)(void *arg, struct grpc_resp *resp, const struct status *st);
void grpc_client_start(struct grpc_client *cl, const struct grpc_req *req, grpc_done_fn fn,
                       void *arg);
