/*
 * h2_conn.c - HTTP/2 as a server: nghttp2 between bytes and calls.
 *
 * Streams become calls (grpc_call.c). Replies are pulled: nghttp2 asks for as many bytes as flow
 * control allows and they are copied once, from the reply to the loop's output buffer (the NO_COPY
 * way of nghttp2, which leaves framing to it and copying to us).
 *
 * LIMITS      Frames that make us work without asking for anything (PING, SETTINGS, PRIORITY, empty
 *             DATA, RST_STREAM) are counted per second; nghttp2 bounds resets, CONTINUATION frames
 *             and queued acknowledgements. Header bytes are counted by grpc_call.c, and a peer that
 *             goes on sending far above the limit loses the connection. PINGs at any honest rate
 *             are answered.
 * THREADS     the loop's thread.
 * FAILURE     a broken peer gets GOAWAY, then the link closes; every call sees itself cancelled.
 */
#include "net/grpc_int.h"
#include "base/alloc.h"
#include "base/clock.h"
#include <nghttp2/nghttp2.h>

/* Window of one stream and of the connection: more than loopback or a fast network has in flight,
 * so that a 64 MiB message never waits for a WINDOW_UPDATE. Bytes are consumed as they come (what is
 * held is bounded by limits.recv_total_max), so windows cost no memory. */
#define STREAM_WINDOW (16 << 20)
#define CONN_WINDOW (64 << 20)
#define FRAME_MAX (256 << 10)
#define OUT_FRAME 16384 /* of DATA, what nghttp2 sends at a time */
#define CONTINUATIONS_MAX 8
#define RESET_BURST 1000
#define RESET_RATE 100
#define IDLE_FRAMES_PER_S 20000

struct h2_conn {
    struct net_engine e;
    struct net_ctx *ctx;
    nghttp2_session *ses;
    struct net_out *out; /* during pull() */
    struct grpc_call *calls;
    size_t held;         /* reply bytes that wait for the peer */
    int64_t progress_us; /* of DATA towards the peer, while held */
    int64_t second_us;
    unsigned idle_frames;
    unsigned header_excess;
    bool broken, draining, goaway_sent;
};

static struct h2_conn *of(struct net_engine *e)
{
    return CONTAINER_OF(e, struct h2_conn, e);
}

bool h2__conn_full(const struct h2_conn *h)
{
    return h->held > h->ctx->srv->opts.limits.conn_output_max;
}

void h2__conn_held(struct h2_conn *h, size_t plus, size_t minus)
{
    if (minus || (plus && !h->held)) {
        h->progress_us = clock_mono_us();
    }
    h->held += plus - minus;
}

struct net_link *h2__conn_link(const struct h2_conn *h)
{
    return h->e.link;
}

/* ---------- replies ---------- */

#define NV(name_, value_, len_)                                                                    \
    (nghttp2_nv)                                                                                   \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(name_), (uint8_t *)(uintptr_t)(value_), strlen(name_), (len_),      \
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE                           \
    }

static size_t put_kv(nghttp2_nv *nv, const struct grpc_kv *kv, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        nv[i] = (nghttp2_nv){ (uint8_t *)(uintptr_t)kv[i].name.p,
                              (uint8_t *)(uintptr_t)kv[i].value.p, kv[i].name.n, kv[i].value.n,
                              NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };
    }
    return n;
}

/* grpc-status, grpc-message and what the handler set. */
static size_t put_trailers(nghttp2_nv *nv, const struct grpc_call *call)
{
    static const char *const codes[] = { "0", "1", "2",  "3",  "4",  "5",  "6",  "7", "8",
                                         "9", "10", "11", "12", "13", "14", "15", "16" };
    const char *code = codes[(size_t)call->code < ARRAY_LEN(codes) ? call->code : GRPC_UNKNOWN];
    size_t n = 0;
    nv[n++] = NV("grpc-status", code, strlen(code));
    if (call->message && *call->message) {
        nv[n++] = NV("grpc-message", call->message, strlen(call->message));
    }
    return n + put_kv(nv + n, call->trl, call->trl_count);
}

static ssize_t on_want_data(nghttp2_session *ses, int32_t stream_id, uint8_t *buf, size_t length,
                            uint32_t *flags, nghttp2_data_source *src, void *user)
{
    struct grpc_call *call = src->ptr;
    size_t n = MIN(length, call->out_avail);
    (void)buf;
    (void)user;
    if (n == call->out_avail && call->state == CALL_DONE) {
        nghttp2_nv nv[2 + GRPC_HEADERS_MAX];
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(ses, stream_id, nv, put_trailers(nv, call)) != 0) {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    } else if (n == 0) {
        call->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n) {
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    }
    return (ssize_t)n;
}

static int on_send_data(nghttp2_session *ses, nghttp2_frame *frame, const uint8_t *framehd,
                        size_t length, nghttp2_data_source *src, void *user)
{
    struct h2_conn *h = user;
    struct net_out *out = h->out;
    (void)ses;
    (void)frame;
    if (out->cap - out->n < length + 9 + NET_OUT_ROOM) {
        return NGHTTP2_ERR_WOULDBLOCK;
    }
    memcpy(out->p + out->n, framehd, 9);
    out->n += 9;
    grpc__call_copy_out(src->ptr, out->p + out->n, length);
    out->n += length;
    return 0;
}

/* One stream is sent to its end before the next unless it is marked incremental: a reply of many
 * frames would make the small ones behind it wait. */
static void take_turns(struct h2_conn *h, struct grpc_call *call)
{
    nghttp2_extpri pri = { .urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1 };
    (void)nghttp2_session_change_extpri_stream_priority(h->ses, call->stream_id, &pri, 1);
}

void h2__call_output(struct grpc_call *call)
{
    struct h2_conn *h = call->conn;
    nghttp2_data_provider dp = { .source.ptr = call, .read_callback = on_want_data };
    nghttp2_nv nv[4 + 2 * GRPC_HEADERS_MAX];
    size_t n = 0;
    int rc = 0;
    if (call->headers_sent) {
        if (call->deferred) {
            call->deferred = false;
            rc = nghttp2_session_resume_data(h->ses, call->stream_id);
        }
    } else {
        call->headers_sent = true;
        nv[n++] = NV(":status", "200", 3);
        nv[n++] = NV("content-type", "application/grpc", 16);
        n += put_kv(nv + n, call->hdr, call->hdr_count);
        if (call->state == CALL_DONE && !call->out_avail) {
            n += put_trailers(nv + n, call);
            rc = nghttp2_submit_response(h->ses, call->stream_id, nv, n, NULL);
        } else {
            rc = nghttp2_submit_response(h->ses, call->stream_id, nv, n, &dp);
            if (call->out_avail > OUT_FRAME || call->state != CALL_DONE) {
                take_turns(h, call);
            }
        }
    }
    if (rc != 0 && nghttp2_is_fatal(rc)) {
        h->broken = true;
    }
    net__engine_dirty(&h->e);
}

static void submit_415(struct h2_conn *h, struct grpc_call *call)
{
    nghttp2_nv nv[] = { NV(":status", "415", 3), NV("content-length", "0", 1) };
    call->headers_sent = true;
    (void)nghttp2_submit_response(h->ses, call->stream_id, nv, 2, NULL);
}

/* ---------- frames in ---------- */

/* True when the peer sends too much that asks for nothing. */
static bool idle_frame(struct h2_conn *h)
{
    if (++h->idle_frames > IDLE_FRAMES_PER_S) {
        int64_t now = clock_mono_us();
        if (now - h->second_us < 1000000) {
            (void)nghttp2_session_terminate_session(h->ses, NGHTTP2_ENHANCE_YOUR_CALM);
            return true;
        }
        h->second_us = now;
        h->idle_frames = 0;
    }
    return false;
}

/* The second half of h2_drain(). */
static void say_goodbye(struct h2_conn *h)
{
    if (!h->goaway_sent) {
        h->goaway_sent = true;
        (void)nghttp2_submit_goaway(h->ses, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(h->ses),
                                    NGHTTP2_NO_ERROR, NULL, 0);
        net__engine_dirty(&h->e);
    }
}

static int on_begin_headers(nghttp2_session *ses, const nghttp2_frame *f, void *user)
{
    struct h2_conn *h = user;
    struct grpc_call *call;
    if (f->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    call = grpc__call_new(h->ctx, h, f->hd.stream_id);
    call->next = h->calls;
    if (call->next) {
        call->next->prev = call;
    }
    h->calls = call;
    (void)nghttp2_session_set_stream_user_data(ses, f->hd.stream_id, call);
    return 0;
}

static int on_header(nghttp2_session *ses, const nghttp2_frame *f, const uint8_t *name,
                     size_t name_n, const uint8_t *value, size_t value_n, uint8_t flags, void *user)
{
    struct h2_conn *h = user;
    struct grpc_call *call = nghttp2_session_get_stream_user_data(ses, f->hd.stream_id);
    (void)flags;
    if (!call || f->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    if (!grpc__call_header(call, slice_n(name, name_n), slice_n(value, value_n))) {
        /* The head is refused when complete, with a proper answer; one that does not end is not
         * waited for. */
        if (++h->header_excess > 10000) {
            (void)nghttp2_session_terminate_session(ses, NGHTTP2_ENHANCE_YOUR_CALM);
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    return 0;
}

static int on_frame(nghttp2_session *ses, const nghttp2_frame *f, void *user)
{
    struct h2_conn *h = user;
    struct grpc_call *call;
    switch (f->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        call = nghttp2_session_get_stream_user_data(ses, f->hd.stream_id);
        if (!call) {
            return 0;
        }
        if (f->hd.type == NGHTTP2_HEADERS && f->headers.cat == NGHTTP2_HCAT_REQUEST) {
            grpc__call_head_done(call);
            if (!call->is_grpc && !call->headers_sent && call->state == CALL_DONE) {
                submit_415(h, call);
            }
        }
        if (f->hd.flags & NGHTTP2_FLAG_END_STREAM) {
            grpc__call_end(call);
        } else if (f->hd.type == NGHTTP2_DATA && f->hd.length == 0) {
            (void)idle_frame(h);
        }
        return 0;
    case NGHTTP2_PING:
        if ((f->hd.flags & NGHTTP2_FLAG_ACK) && h->draining) {
            say_goodbye(h);
        }
        (void)idle_frame(h);
        return 0;
    case NGHTTP2_SETTINGS:
    case NGHTTP2_PRIORITY:
    case NGHTTP2_RST_STREAM:
        (void)idle_frame(h);
        return 0;
    default:
        return 0;
    }
}

static int on_data(nghttp2_session *ses, uint8_t flags, int32_t stream_id, const uint8_t *p, size_t n,
                   void *user)
{
    struct grpc_call *call = nghttp2_session_get_stream_user_data(ses, stream_id);
    (void)flags;
    (void)user;
    if (call) {
        grpc__call_data(call, p, n);
    }
    return 0;
}

static int on_frame_sent(nghttp2_session *ses, const nghttp2_frame *f, void *user)
{
    (void)user;
    if (f->hd.type == NGHTTP2_HEADERS && (f->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        struct grpc_call *call = nghttp2_session_get_stream_user_data(ses, f->hd.stream_id);
        if (call && !call->request_ended) {
            /* Answered early: the client need not send the rest. */
            (void)nghttp2_submit_rst_stream(ses, NGHTTP2_FLAG_NONE, f->hd.stream_id,
                                            NGHTTP2_NO_ERROR);
        }
    }
    return 0;
}

static void drop_call(struct h2_conn *h, struct grpc_call *call)
{
    if (call->prev) {
        call->prev->next = call->next;
    } else {
        h->calls = call->next;
    }
    if (call->next) {
        call->next->prev = call->prev;
    }
    call->prev = call->next = NULL;
    grpc__call_closed(call);
}

static int on_stream_closed(nghttp2_session *ses, int32_t stream_id, uint32_t error, void *user)
{
    struct grpc_call *call = nghttp2_session_get_stream_user_data(ses, stream_id);
    (void)error;
    if (call) {
        (void)nghttp2_session_set_stream_user_data(ses, stream_id, NULL);
        drop_call(user, call);
    }
    return 0;
}

/* ---------- engine ---------- */

static bool h2_recv(struct net_engine *e, const uint8_t *p, size_t n)
{
    struct h2_conn *h = of(e);
    ssize_t r = nghttp2_session_mem_recv(h->ses, p, n);
    if (r < 0) {
        /* nghttp2 has prepared GOAWAY for what a peer can do wrong, except a bad preface. */
        return false;
    }
    return !h->broken;
}

static bool h2_pull(struct net_engine *e, struct net_out *out)
{
    struct h2_conn *h = of(e);
    h->out = out;
    while (out->cap - out->n >= NET_OUT_ROOM && !h->broken) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->ses, &p);
        if (n < 0) {
            h->broken = true;
        }
        if (n <= 0) {
            break;
        }
        if (out->cap - out->n < (size_t)n) {
            /* Only a HEADERS frame could be so large, and ours are bounded. */
            h->broken = true;
            break;
        }
        memcpy(out->p + out->n, p, (size_t)n);
        out->n += (size_t)n;
    }
    h->out = NULL;
    return !h->broken;
}

static bool h2_finished(struct net_engine *e)
{
    struct h2_conn *h = of(e);
    return !nghttp2_session_want_read(h->ses) && !nghttp2_session_want_write(h->ses);
}

static bool h2_wants_input(struct net_engine *e)
{
    (void)e;
    return true;
}

static void h2_drain(struct net_engine *e)
{
    struct h2_conn *h = of(e);
    if (h->draining) {
        return;
    }
    h->draining = true;
    /* Calls that stay open (they asked to be told) would keep the drain waiting. */
    for (struct grpc_call *call = h->calls; call; call = call->next) {
        if (call->state == CALL_HANDLER && call->on_cancel) {
            grpc_fn fn = call->on_cancel;
            call->on_cancel = NULL;
            atomic_store(&call->cancelled, true);
            fn(call, call->on_cancel_arg);
        }
    }
    /* First "no new streams, please", and the last stream number only when what was already on its
     * way has arrived: the PING comes back after it. */
    (void)nghttp2_submit_shutdown_notice(h->ses);
    (void)nghttp2_submit_ping(h->ses, NGHTTP2_FLAG_NONE, NULL);
    net__engine_dirty(e);
}

static bool h2_tick(struct net_engine *e, int64_t now_us)
{
    struct h2_conn *h = of(e);
    int64_t stall = h->ctx->srv->opts.limits.stall_timeout_ms * 1000;
    h->second_us = now_us;
    h->idle_frames = 0;
    if (h->header_excess && !h->calls) {
        h->header_excess = 0;
    }
    if (h->draining) {
        say_goodbye(h); /* the peer does not answer PINGs */
    }
    return !(h->held && now_us - h->progress_us > stall);
}

static bool h2_eof(struct net_engine *e)
{
    (void)e;
    return false;
}

static void h2_gone(struct net_engine *e, const char *why)
{
    struct h2_conn *h = of(e);
    (void)why;
    while (h->calls) {
        drop_call(h, h->calls);
    }
    nghttp2_session_del(h->ses);
    mem_free(h);
}

static const struct net_engine_ops h2_ops = {
    .recv = h2_recv,
    .pull = h2_pull,
    .finished = h2_finished,
    .wants_input = h2_wants_input,
    .drain = h2_drain,
    .tick = h2_tick,
    .eof = h2_eof,
    .gone = h2_gone,
};

static nghttp2_session *session_new(struct h2_conn *h)
{
    nghttp2_session *ses = NULL;
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *o = NULL;
    if (nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&o) != 0) {
        goto out;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_closed);
    nghttp2_session_callbacks_set_send_data_callback(cb, on_send_data);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_max_continuations(o, CONTINUATIONS_MAX);
    nghttp2_option_set_stream_reset_rate_limit(o, RESET_BURST, RESET_RATE);
    nghttp2_option_set_max_settings(o, 32);
    nghttp2_option_set_max_send_header_block_length(o, 16384);
    if (nghttp2_session_server_new2(&ses, cb, h, o) != 0) {
        ses = NULL;
    }
out:
    nghttp2_option_del(o);
    nghttp2_session_callbacks_del(cb);
    return ses;
}

struct net_engine *net__h2_new(struct net_ctx *ctx, struct net_link *link)
{
    struct h2_conn *h = xalloc(sizeof *h);
    const struct net_limits *lim = &ctx->srv->opts.limits;
    nghttp2_settings_entry set[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)lim->streams_max },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
        { NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FRAME_MAX },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)MIN(lim->header_max, (size_t)1 << 30) },
        /* Priority trees cost work per stream and gRPC uses none. */
        { NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
    };
    h->e.ops = &h2_ops;
    h->e.link = link;
    h->ctx = ctx;
    h->ses = session_new(h);
    if (!h->ses || nghttp2_submit_settings(h->ses, NGHTTP2_FLAG_NONE, set, ARRAY_LEN(set)) != 0 ||
        nghttp2_session_set_local_window_size(h->ses, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW) != 0) {
        nghttp2_session_del(h->ses);
        mem_free(h);
        return NULL;
    }
    if (ctx->draining) {
        h2_drain(&h->e);
    }
    return &h->e;
}
