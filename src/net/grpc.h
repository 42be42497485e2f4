/*
 * grpc.h - the server side of gRPC: registering methods, reading a call, replying to it.
 *
 * A handler is straight-line C: `void fn(struct grpc_call *call, void *arg)`. It owns the call until
 * it hands it back by exactly one of grpc_reply*(), grpc_fail(), grpc_finish(), from any thread, now
 * or later (the handler may return first). After that the call must not be touched. Everything
 * reached through a call (request, metadata, arena) lives until then.
 *
 * THREADS. One thread at a time uses a call. Only grpc_is_cancelled() and the flag of
 * grpc_cancel_flag() may be read by several.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "base/status.h"
#include "net/net.h"

struct grpc_call;

enum grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};
/* "DEADLINE_EXCEEDED"; "CODE_17" style text is never returned: unknown numbers give "UNKNOWN". */
const char *grpc_code_name(int code);

enum grpc_kind {
    GRPC_UNARY,         /* one request; grpc_reply*() or grpc_fail() */
    GRPC_SERVER_STREAM, /* one request; grpc_send() any number of times, then grpc_finish() */
    /* fn runs on the net thread once per request message and once more with grpc_at_end() true
     * (also when the client goes away, unless grpc_on_cancel() was used); it may grpc_send(), and
     * must grpc_finish() at the end or earlier. Needs pool NET_INLINE. */
    GRPC_BIDI,
};

typedef void (*grpc_fn)(struct grpc_call *call, void *arg);

struct grpc_method {
    const char *path; /* "/package.Service/Method"; copied */
    enum grpc_kind kind;
    int pool; /* enum net_pool */
    grpc_fn fn;
    void *arg; /* kept; must outlive the server */
    /* Short calls need no change of threads: fn is tried on a net thread first. There it must not
     * wait, nor go on for much longer than a tenth of a millisecond; when it would, it calls
     * grpc_defer() instead of replying and is called once more, on a worker of its class. Unary
     * methods of a worker class only. */
    bool eager;
};
/* Before net_server_start(). Fails: ST_EXISTS, ST_INVALID (path, pool, eager). */
int grpc_register(struct net_server *srv, const struct grpc_method *m, struct status *st);

/* Whether this is the try on a net thread. */
bool grpc_is_eager(const struct grpc_call *call);
/* Gives the call back unanswered, to run on a worker. What the handler has put into the arena stays
 * there. Takes the call. */
void grpc_defer(struct grpc_call *call);

/* --- reading a call --- */

/* The request message, decompressed. 8-byte aligned start is not promised. */
struct slice grpc_request(const struct grpc_call *call);
struct slice grpc_path(const struct grpc_call *call);
/* First value of a metadata key (lower case), or p == NULL. Keys ending in "-bin" give bytes. */
struct slice grpc_metadata(const struct grpc_call *call, const char *name);
/* i counts from 0 over all metadata, pseudo-headers left out; false past the end. */
bool grpc_metadata_at(const struct grpc_call *call, size_t i, struct slice *ret_name,
                      struct slice *ret_value);
/* Monotonic (clock.h); DEADLINE_NONE when the client set none. */
int64_t grpc_deadline_us(const struct grpc_call *call);
/* The client cancelled, went away, or its deadline passed: the reply will not be read. (Also true for
 * a call that used grpc_on_cancel() when the server drains.) */
bool grpc_is_cancelled(const struct grpc_call *call);
/* Calls of the server that handlers have at the moment, beside this one. */
unsigned grpc_calls_beside(const struct grpc_call *call);
/* Turns true when the client cancelled or went away (the deadline is not in it). Lives as long as
 * the call; for loops that poll without knowing this room. */
const _Atomic bool *grpc_cancel_flag(const struct grpc_call *call);
/* For calls that stay open: fn(call, arg) runs on the net thread when the client goes away, or the
 * server drains, before the handler finished; fn may grpc_finish(). False: that has happened already
 * and fn will not run (never false off the net thread, where fn then runs soon). */
bool grpc_on_cancel(struct grpc_call *call, grpc_fn fn, void *arg);
/* "address:port" of the client; and the subject of its certificate, or "". */
const char *grpc_peer(const struct grpc_call *call);
const char *grpc_peer_subject(const struct grpc_call *call);
/* Memory of this request; freed after the reply has been sent. */
struct arena *grpc_arena(struct grpc_call *call);
/* A place for the layer above; NULL at first. */
void grpc_set_user(struct grpc_call *call, void *user);
void *grpc_user(const struct grpc_call *call);

/* --- replying --- */

/* Before the first reply byte: response header. Until the end: trailer. Names lower case; copied.
 * Values of names ending in "-bin" are any bytes, others printable ASCII. False when refused (bad
 * name or value, or more than 8 KiB of them). */
bool grpc_set_header(struct grpc_call *call, const char *name, struct slice value);
bool grpc_set_trailer(struct grpc_call *call, const char *name, struct slice value);

/* Unary success. Takes the call. A message over limits.send_max is turned into RESOURCE_EXHAUSTED. */
void grpc_reply(struct grpc_call *call, struct slice msg);        /* msg is copied */
void grpc_reply_arena(struct grpc_call *call, struct slice msg);  /* msg lies in grpc_arena() */
void grpc_reply_buf(struct grpc_call *call, struct buf *msg);     /* takes the bytes, empties msg */
/* Ends without a message. Takes the call. msg: UTF-8 for humans, printf style. */
void grpc_fail(struct grpc_call *call, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* grpc_fail with the code that belongs to st->code. */
void grpc_fail_status(struct grpc_call *call, const struct status *st);
/* The gRPC code for a cause below ST_CODE_API; INTERNAL for API numbers. */
int grpc_code_of_status(int st_code);

/* Streaming reply: one message, copied. On a worker it waits while more than
 * limits.stream_queue_max bytes are unsent; on a net thread it then fails with ST_BUSY.
 * Fails: ST_CANCELLED, ST_TIMEOUT (deadline), ST_TOO_LARGE, ST_BUSY. */
int grpc_send(struct grpc_call *call, struct slice msg, struct status *st);
/* Ends a streaming call. Takes the call. msg may be NULL. */
void grpc_finish(struct grpc_call *call, int code, const char *msg);
/* GRPC_BIDI: the client has sent its last message; grpc_request() is empty. */
bool grpc_at_end(const struct grpc_call *call);

/* --- services that come with the room --- */

/* grpc.health.v1.Health: Check and Watch. Unset services are NOT_FOUND; "" is the whole server and
 * starts as NOT_SERVING. Free after the server. */
struct grpc_health;
int grpc_health_register(struct net_server *srv, struct grpc_health **ret_h, struct status *st);
void grpc_health_set(struct grpc_health *h, const char *service, bool serving); /* any thread */
void grpc_health_free(struct grpc_health *h);

/* Server reflection, v1 and v1alpha, over a serialized google.protobuf.FileDescriptorSet (borrowed
 * for the life of the server; health and reflection are listed as services beside it). Freed by
 * the server. Fails: ST_CORRUPT. */
int grpc_reflect_register(struct net_server *srv, struct slice file_descriptor_set,
                          struct status *st);
