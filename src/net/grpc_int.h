/*
 * grpc_int.h - inside the room: a call between the HTTP/2 engine, the handler and the way back.
 *
 * A call has two holders: its stream (until the stream closes) and its handler (until it hands the
 * call back). Both references are counted on the net thread only: a handler on another thread gives
 * its own back through the mailbox.
 */
#pragma once
#include "net/grpc.h"
#include "net/grpc_client.h"
#include "net/net_int.h"

struct h2_conn;

struct grpc_kv {
    struct slice name, value;
};

/* A message on its way out, with the five bytes that precede it on the wire. */
struct grpc_out {
    struct net_msg msg; /* first: from grpc_send() to the net thread */
    struct grpc_call *call;
    struct grpc_out *next;
    const uint8_t *p;
    size_t n, off; /* off counts the prefix too */
    void *owned;   /* mem_free()d with it, or NULL */
    bool heap;     /* the struct itself is */
};
#define GRPC_PREFIX 5
#define GRPC_HEADERS_MAX 24
#define GRPC_HEADER_BYTES_MAX 8192

enum call_state {
    CALL_HEADERS,  /* receiving */
    CALL_HANDLER,  /* the handler owns it */
    CALL_DONE,     /* handed back or rejected */
};

struct grpc_call {
    /* --- net thread --- */
    struct net_msg msg;         /* carries the call back */
    struct net_work work;       /* carries it to a worker */
    struct net_ctx *ctx;
    struct h2_conn *conn;       /* NULL once the stream is closed */
    struct grpc_call *prev, *next;
    struct net_method *method;
    int refs;
    int32_t stream_id;
    enum call_state state;
    bool request_ended, headers_sent, deferred, in_handler;
    struct grpc_out *outq, **outq_tail;
    size_t out_avail;           /* unsent bytes of outq, prefixes included */
    uint64_t bytes_in, bytes_out;
    int64_t started_us;
    grpc_fn on_cancel;          /* set through the mailbox or on the net thread */
    void *on_cancel_arg;

    /* --- request: net thread until the handler runs, then the handler's --- */
    struct arena *ar;
    struct slice path, http_method, encoding;
    bool is_grpc;               /* content-type */
    bool bad_timeout;
    size_t header_bytes;
    struct grpc_kv *md;
    size_t md_count, md_cap;
    int64_t deadline_us;
    uint8_t prefix[GRPC_PREFIX];
    uint8_t prefix_n;
    bool have_message, body_in_arena, inflated;
    bool eager;                 /* on a net thread, for a try */
    uint8_t *body;
    size_t body_n, body_len, body_cap;
    size_t charged;
    const char *peer;           /* copied to the arena */
    const char *subject;
    void *user;

    /* --- reply: the handler's until it hands the call back, then the net thread's --- */
    int code;
    const char *message;        /* percent-encoded, in the arena */
    bool has_reply;
    struct grpc_out one;
    struct grpc_kv *hdr;        /* response headers and trailers the handler set */
    struct grpc_kv *trl;
    uint8_t hdr_count, trl_count;
    size_t extra_bytes;

    /* --- shared --- */
    /* Set by the net thread; readers need no ordering with other data. */
    _Atomic bool cancelled;
    /* Bytes given to grpc_send() and not yet sent: added by the sender, taken by the net thread. */
    _Atomic size_t queued;
};

/* grpc_server.c; all on the net thread */
struct grpc_call *grpc__call_new(struct net_ctx *ctx, struct h2_conn *conn, int32_t stream_id);
/* Drops one reference. */
void grpc__call_unref(struct grpc_call *call);
/* A request header; false: too many bytes. */
bool grpc__call_header(struct grpc_call *call, struct slice name, struct slice value);
/* The head is complete: finds the method. On a refusal the call is CALL_DONE with code set. */
void grpc__call_head_done(struct grpc_call *call);
void grpc__call_data(struct grpc_call *call, const uint8_t *p, size_t n);
void grpc__call_end(struct grpc_call *call);
/* The stream is gone: cancels the handler, tells on_done, drops the stream's reference. */
void grpc__call_closed(struct grpc_call *call);
/* Ends a call that no handler owns. */
void grpc__call_reject(struct grpc_call *call, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Copies the next n <= out_avail bytes of output. */
void grpc__call_copy_out(struct grpc_call *call, uint8_t *p, size_t n);
void grpc__call_free_cached(struct net_ctx *ctx);
/* The handler has handed the call back. */
void grpc__call_back(struct net_msg *m);
/* Queues a streamed message, or frees it when the stream is gone. */
void grpc__call_take_out(struct grpc_out *o);
bool grpc__call_on_loop(const struct grpc_call *call);
/* To a worker of its class; ends the call when their queue is full. */
void grpc__call_to_worker(struct grpc_call *call);

/* h2_conn.c: the call has something to say: new output, or its end */
void h2__call_output(struct grpc_call *call);
/* Bytes of replies the connection holds; true when it must not get more calls. */
bool h2__conn_full(const struct h2_conn *h);
void h2__conn_held(struct h2_conn *h, size_t plus, size_t minus);
struct net_link *h2__conn_link(const struct h2_conn *h);

/* grpc_wire.c */
#define GRPC_TIMEOUT_TEXT 16
/* Microseconds, or -1 when s is no timeout ("8 digits, then one of HMSmun"). */
int64_t grpc__timeout_parse(struct slice s);
void grpc__timeout_format(char p[GRPC_TIMEOUT_TEXT], int64_t us);
/* grpc-message: everything outside 0x20..0x7E, and '%', becomes %XX. */
char *grpc__percent_encode(struct arena *ar, const char *s);
/* In place; returns the new length. Broken escapes stay as they are. */
size_t grpc__percent_decode(char *p, size_t n);
struct slice grpc__b64_encode(struct arena *ar, struct slice s);
/* Standard alphabet, padding optional. */
bool grpc__b64_decode(struct arena *ar, struct slice s, struct slice *ret);
bool grpc__is_bin(struct slice name);
bool grpc__md_name_ok(struct slice name);
bool grpc__md_value_ok(struct slice value);
void grpc__prefix_put(uint8_t p[GRPC_PREFIX], size_t n);
uint32_t grpc__prefix_len(const uint8_t p[GRPC_PREFIX]);
/* gzip or zlib. The result is the caller's to mem_free(). Fails: ST_TOO_LARGE, ST_CORRUPT,
 * ST_NO_MEMORY. */
int grpc__inflate(struct slice in, size_t max, uint8_t **ret_p, size_t *ret_n, struct status *st);

/* grpc_reflect.c, without a server. A set that walks is borrowed for the life of *ret_rf. Fails:
 * ST_CORRUPT */
struct reflect;
int grpc__reflect_new(struct slice file_descriptor_set, struct reflect **ret_rf,
                      struct status *st);
void grpc__reflect_free(void *rf);
/* Appends the ServerReflectionResponse to one request; a gRPC code, and why it is not GRPC_OK. */
int grpc__reflect_answer(struct reflect *rf, struct slice request, struct buf *b,
                         const char **ret_why);
/* grpc_health.c: the service a HealthCheckRequest names; false: broken. */
bool grpc__health_request(struct slice msg, struct slice *ret_service);
