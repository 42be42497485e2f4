/*
 * grpc_server.c - the life of a call on the net thread: head, message, dispatch, reply queue, end.
 *
 * INVARIANTS  A call is in its connection's list exactly while call->conn is set. refs is 1 for the
 *             stream plus 1 while a handler owns the call. state only rises. What a call holds of
 *             the server's receive budget is in `charged` and is given back when the handler is done.
 * MEMORY      The body buffer follows the bytes that have come, never the announced length. Small
 *             bodies lie in the arena. Calls and the first block of their arenas are reused.
 * EAGER       A call of an eager method waits in its loop's list of short work (net_short.c) and is
 *             tried there; only a handler that says grpc_defer() costs a change of threads.
 * THREADS     the loop's thread, except work_run() (a worker, while the handler owns the call) and
 *             short_run() (this loop or another one that had nothing to do).
 * NOT HERE    What handlers call: grpc_call.c. HTTP/2: h2_conn.c.
 */
#include "net/grpc_int.h"
#include "base/alloc.h"
#include "base/clock.h"
#include <stdarg.h>
#include <stdio.h>

#define SMALL_BODY 4096
#define FIRST_BODY (64u << 10)
#define CALL_COST 2048 /* charged for every call beside its headers and body */
#define CALLS_KEPT 128
/* When so many tries in a row were deferred, only one of so many calls is tried. */
#define TRIES_FAILED 8
#define TRY_EVERY 16

int grpc_register(struct net_server *srv, const struct grpc_method *m, struct status *st)
{
    struct slice path = slice_of(m->path);
    struct net_method *nm;
    if (path.n < 4 || path.p[0] != '/' || !strchr(path.p + 1, '/')) {
        return st_fail(st, ST_INVALID, "method path \"%s\" is not /service/method", m->path);
    }
    if (m->pool < NET_INLINE || m->pool >= NET_POOL_COUNT ||
        (m->kind == GRPC_BIDI && m->pool != NET_INLINE)) {
        return st_fail(st, ST_INVALID, "method %s: pool %d", m->path, m->pool);
    }
    if (m->eager && (m->kind != GRPC_UNARY || m->pool == NET_INLINE)) {
        return st_fail(st, ST_INVALID, "method %s: only unary calls of workers are tried first",
                       m->path);
    }
    if (srv->started) {
        return st_fail(st, ST_INVALID, "method %s: the server runs already", m->path);
    }
    if (str_map_get(srv->methods, path)) {
        return st_fail(st, ST_EXISTS, "method %s is registered already", m->path);
    }
    nm = xalloc(sizeof *nm);
    *nm = (struct net_method){
        .path = xstrdup(m->path), .kind = (int)m->kind, .pool = m->pool, .fn = m->fn,
        .arg = m->arg, .eager = m->eager
    };
    (void)str_map_put(srv->methods, slice_of(nm->path), nm);
    return 0;
}

/* ---------- birth and death ---------- */

struct grpc_call *grpc__call_new(struct net_ctx *ctx, struct h2_conn *conn, int32_t stream_id)
{
    const struct net_limits *lim = &ctx->srv->opts.limits;
    struct grpc_call *call = ctx->free_calls;
    struct arena *ar;
    if (call) {
        ctx->free_calls = call->next;
        ctx->free_count--;
        ar = call->ar;
        memset(call, 0, sizeof *call);
    } else {
        call = xalloc(sizeof *call);
        ar = arena_new(lim->recv_max * 4 + lim->send_max);
    }
    call->ar = ar;
    call->ctx = ctx;
    call->conn = conn;
    call->stream_id = stream_id;
    call->refs = 1;
    call->outq_tail = &call->outq;
    call->deadline_us = DEADLINE_NONE;
    call->started_us = clock_mono_us();
    call->peer = call->subject = "";
    return call;
}

static void drop_body(struct grpc_call *call)
{
    if (!call->body_in_arena) {
        mem_free(call->body);
    }
    call->body = NULL;
    call->body_n = call->body_cap = 0;
    if (call->charged) {
        net__server_uncharge(call->ctx->srv, call->charged);
        call->charged = 0;
    }
}

static void wake_senders(struct net_ctx *ctx)
{
    if (atomic_load(&ctx->send_waiters) > 0) {
        lock_acquire(&ctx->send_lock);
        cond_broadcast(&ctx->send_cond);
        lock_release(&ctx->send_lock);
    }
}

static void drop_first_out(struct grpc_call *call)
{
    struct grpc_out *o = call->outq;
    call->outq = o->next;
    if (!call->outq) {
        call->outq_tail = &call->outq;
    }
    mem_free(o->owned);
    if (o->heap) {
        /* Pairs with the sender's load: room first, then the wake. */
        atomic_fetch_sub(&call->queued, o->n);
        mem_free(o);
        wake_senders(call->ctx);
    } else {
        o->owned = NULL;
    }
}

static void drop_outq(struct grpc_call *call)
{
    if (call->conn) {
        h2__conn_held(call->conn, 0, call->out_avail);
    }
    call->out_avail = 0;
    while (call->outq) {
        drop_first_out(call);
    }
}

void grpc__call_unref(struct grpc_call *call)
{
    struct net_ctx *ctx = call->ctx;
    ASSERT(call->refs > 0);
    if (--call->refs > 0) {
        return;
    }
    ASSERT(!call->conn);
    drop_outq(call);
    drop_body(call);
    mem_free(call->one.owned);
    if (ctx->free_count < CALLS_KEPT) {
        arena_reset(call->ar);
        call->next = ctx->free_calls;
        ctx->free_calls = call;
        ctx->free_count++;
    } else {
        arena_free(call->ar);
        mem_free(call);
    }
}

void grpc__call_free_cached(struct net_ctx *ctx)
{
    while (ctx->free_calls) {
        struct grpc_call *call = ctx->free_calls;
        ctx->free_calls = call->next;
        arena_free(call->ar);
        mem_free(call);
    }
    ctx->free_count = 0;
}

void net__ctx_done(struct net_ctx *ctx)
{
    if (ctx->srv) {
        grpc__call_free_cached(ctx);
        cond_done(&ctx->send_cond);
        lock_done(&ctx->send_lock);
    }
}

void grpc__call_closed(struct grpc_call *call)
{
    const struct net_opts *o = &call->ctx->srv->opts;
    bool cut = call->state != CALL_DONE || call->out_avail;
    drop_outq(call);
    call->conn = NULL;
    if (o->on_done && call->path.n) {
        struct net_done d = {
            .path = call->path,
            .method = call->http_method,
            .peer = call->peer,
            .is_grpc = true,
            .known = call->method != NULL,
            .cancelled = cut,
            .status = call->state == CALL_DONE ? call->code : GRPC_CANCELLED,
            .duration_us = clock_mono_us() - call->started_us,
            .bytes_in = call->bytes_in,
            .bytes_out = call->bytes_out,
        };
        o->on_done(o->on_done_arg, &d);
    }
    if (call->state == CALL_HANDLER) {
        atomic_store(&call->cancelled, true);
        wake_senders(call->ctx);
        if (call->on_cancel) {
            grpc_fn fn = call->on_cancel;
            call->on_cancel = NULL;
            fn(call, call->on_cancel_arg);
        } else if (call->method->kind == GRPC_BIDI && !call->request_ended) {
            /* Nobody else would make it hand the call back. */
            call->request_ended = true;
            call->body_n = 0;
            call->method->fn(call, call->method->arg);
        }
    }
    grpc__call_unref(call);
}

void grpc__call_reject(struct grpc_call *call, int code, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    if (call->state != CALL_HEADERS) {
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    call->state = CALL_DONE;
    call->code = code;
    call->message = grpc__percent_encode(call->ar, text);
    drop_body(call);
    if (call->conn) {
        h2__call_output(call);
    }
}

/* ---------- the head ---------- */

static bool content_type_is_grpc(struct slice v)
{
    static const struct slice want = SLICE_LIT("application/grpc");
    return slice_starts(v, want) &&
           (v.n == want.n || v.p[want.n] == '+' || v.p[want.n] == ';' || v.p[want.n] == ' ');
}

static void put_metadata(struct grpc_call *call, struct slice name, struct slice value)
{
    if (call->md_count == call->md_cap) {
        size_t cap = call->md_cap ? call->md_cap * 2 : 16;
        struct grpc_kv *md = arena_alloc(call->ar, cap * sizeof *md);
        if (call->md_count) {
            memcpy(md, call->md, call->md_count * sizeof *md);
        }
        call->md = md;
        call->md_cap = cap;
    }
    name = arena_copy(call->ar, name);
    if (grpc__is_bin(name)) {
        const char *comma = value.n ? memchr(value.p, ',', value.n) : NULL;
        if (comma) {
            value.n = (size_t)(comma - value.p);
        }
        if (!grpc__b64_decode(call->ar, value, &value)) {
            return;
        }
    } else {
        value = arena_copy(call->ar, value);
    }
    call->md[call->md_count++] = (struct grpc_kv){ name, value };
}

bool grpc__call_header(struct grpc_call *call, struct slice name, struct slice value)
{
    call->header_bytes += name.n + value.n + 32;
    if (call->header_bytes > call->ctx->srv->opts.limits.header_max) {
        return false;
    }
    if (name.n && name.p[0] == ':') {
        if (slice_eq(name, SLICE_LIT(":path"))) {
            call->path = arena_copy(call->ar, value);
        } else if (slice_eq(name, SLICE_LIT(":method"))) {
            call->http_method = arena_copy(call->ar, value);
        }
        return true;
    }
    if (slice_eq(name, SLICE_LIT("content-type"))) {
        call->is_grpc = content_type_is_grpc(value);
    } else if (slice_eq(name, SLICE_LIT("grpc-timeout"))) {
        int64_t us = grpc__timeout_parse(value);
        call->bad_timeout = us < 0;
        if (us >= 0) {
            call->deadline_us = call->started_us + us;
        }
    }
    put_metadata(call, name, value);
    if (slice_eq(name, SLICE_LIT("grpc-encoding"))) {
        call->encoding = call->md[call->md_count - 1].value;
    }
    return true;
}

static bool encoding_known(struct slice e)
{
    return e.n == 0 || slice_eq(e, SLICE_LIT("identity")) || slice_eq(e, SLICE_LIT("gzip")) ||
           slice_eq(e, SLICE_LIT("deflate"));
}

static void reject_encoding(struct grpc_call *call)
{
    call->trl = arena_alloc(call->ar, GRPC_HEADERS_MAX * sizeof *call->trl);
    call->trl[call->trl_count++] =
        (struct grpc_kv){ SLICE_LIT("grpc-accept-encoding"), SLICE_LIT("identity,deflate,gzip") };
    grpc__call_reject(call, GRPC_UNIMPLEMENTED, "grpc-encoding \"%.*s\" is not supported",
                      SLICE_ARG(call->encoding));
}

static void own_by_handler(struct grpc_call *call)
{
    call->state = CALL_HANDLER;
    call->refs++;
    atomic_fetch_add_explicit(&call->ctx->srv->calls_open, 1, memory_order_relaxed);
}

void grpc__call_head_done(struct grpc_call *call)
{
    struct net_server *srv = call->ctx->srv;
    struct net_link *ln = h2__conn_link(call->conn);
    size_t cost = call->header_bytes + CALL_COST;
    atomic_fetch_add_explicit(&srv->calls_total, 1, memory_order_relaxed);
    if (ln) {
        call->peer = arena_strdup(call->ar, ln->peer);
        call->subject = ln->subject ? arena_strdup(call->ar, ln->subject) : "";
    }
    if (call->header_bytes > srv->opts.limits.header_max) {
        call->is_grpc = true;
        grpc__call_reject(call, GRPC_RESOURCE_EXHAUSTED, "request headers are larger than %zu bytes",
                          srv->opts.limits.header_max);
        return;
    }
    if (!call->is_grpc) {
        call->state = CALL_DONE;
        call->code = GRPC_UNKNOWN;
        return;
    }
    call->method = str_map_get(srv->methods, call->path);
    if (!call->method) {
        grpc__call_reject(call, GRPC_UNIMPLEMENTED, "unknown method %.*s",
                          (int)MIN(call->path.n, (size_t)200), call->path.p);
    } else if (!slice_eq(call->http_method, SLICE_LIT("POST"))) {
        grpc__call_reject(call, GRPC_UNIMPLEMENTED, "gRPC needs the method POST");
    } else if (call->bad_timeout) {
        grpc__call_reject(call, GRPC_INVALID_ARGUMENT, "malformed grpc-timeout");
    } else if (!encoding_known(call->encoding)) {
        reject_encoding(call);
    } else if (h2__conn_full(call->conn)) {
        grpc__call_reject(call, GRPC_UNAVAILABLE, "this connection holds too many unread replies");
    } else if (!net__server_charge(srv, cost)) {
        grpc__call_reject(call, GRPC_UNAVAILABLE, "too many requests in memory");
    } else {
        call->charged = cost;
        if (call->method->kind == GRPC_BIDI) {
            own_by_handler(call);
        }
    }
}

/* ---------- the message ---------- */

/* Refuses what came after the handler took over too (GRPC_BIDI). */
static void fail_input(struct grpc_call *call, int code, const char *text)
{
    if (call->state == CALL_HANDLER) {
        grpc_fn fn = call->on_cancel;
        call->on_cancel = NULL;
        atomic_store(&call->cancelled, true);
        if (fn) {
            fn(call, call->on_cancel_arg);
        } else {
            grpc_finish(call, code, text);
        }
    } else {
        grpc__call_reject(call, code, "%s", text);
    }
}

static bool body_room(struct grpc_call *call, size_t more)
{
    size_t need = call->body_n + more, cap;
    uint8_t *p;
    if (need <= call->body_cap) {
        return true;
    }
    /* The arena of a GRPC_BIDI call would grow with every message. */
    if (call->body_len <= SMALL_BODY && call->method->kind != GRPC_BIDI) {
        call->body = arena_alloc(call->ar, MAX(call->body_len, (size_t)1));
        call->body_cap = call->body_len;
        call->body_in_arena = true;
        return true;
    }
    cap = MIN(MAX(MAX(need, call->body_cap * 2), (size_t)FIRST_BODY), call->body_len);
    if (!net__server_charge(call->ctx->srv, cap - call->body_cap)) {
        fail_input(call, GRPC_UNAVAILABLE, "too many requests in memory");
        return false;
    }
    p = realloc_try(call->body, cap);
    if (!p) {
        net__server_uncharge(call->ctx->srv, cap - call->body_cap);
        fail_input(call, GRPC_UNAVAILABLE, "no memory for the request");
        return false;
    }
    call->charged += cap - call->body_cap;
    call->body = p;
    call->body_cap = cap;
    return true;
}

static bool prefix_done(struct grpc_call *call)
{
    size_t max = call->ctx->srv->opts.limits.recv_max;
    call->body_len = grpc__prefix_len(call->prefix);
    if (call->have_message && call->method->kind != GRPC_BIDI) {
        fail_input(call, GRPC_INTERNAL, "more than one request message");
        return false;
    }
    if (call->prefix[0] > 1 || (call->prefix[0] == 1 && (!call->encoding.n ||
                                slice_eq(call->encoding, SLICE_LIT("identity"))))) {
        fail_input(call, GRPC_INTERNAL, "message flag does not agree with grpc-encoding");
        return false;
    }
    if (call->body_len > max) {
        char text[100];
        (void)snprintf(text, sizeof text, "received message larger than max (%zu vs. %zu)",
                       call->body_len, max);
        fail_input(call, GRPC_RESOURCE_EXHAUSTED, text);
        return false;
    }
    call->have_message = true;
    call->body_n = 0;
    return true;
}

/* Replaces a compressed body by its plain form. On a failure st says why. */
static int inflate_body(struct grpc_call *call, struct status *st)
{
    size_t max = call->ctx->srv->opts.limits.recv_max;
    uint8_t *p;
    size_t n;
    int rc;
    if (call->prefix[0] != 1 || call->inflated) {
        return 0;
    }
    TRY(grpc__inflate(slice_n(call->body, call->body_n), max, &p, &n, st));
    if (!call->body_in_arena) {
        mem_free(call->body);
    }
    call->body_in_arena = false;
    call->inflated = true;
    call->body = p;
    call->body_n = n;
    call->body_cap = n;
out:
    return rc;
}

static void run_handler(struct grpc_call *call)
{
    struct status st = STATUS_INIT;
    if (inflate_body(call, &st)) {
        grpc_finish(call, st.code == ST_TOO_LARGE ? GRPC_RESOURCE_EXHAUSTED : GRPC_INTERNAL, st.msg);
    } else {
        call->method->fn(call, call->method->arg);
    }
}

/* What became of the call while it waited for its turn. */
static void run_if_wanted(struct grpc_call *call)
{
    if (atomic_load_explicit(&call->cancelled, memory_order_relaxed)) {
        grpc_finish(call, GRPC_CANCELLED, "cancelled while waiting for a worker");
    } else if (call->deadline_us != DEADLINE_NONE && clock_mono_us() > call->deadline_us) {
        grpc_finish(call, GRPC_DEADLINE_EXCEEDED, "deadline passed while waiting for a worker");
    } else {
        run_handler(call);
    }
}

/* Thread: a worker. */
static void work_run(struct net_work *w)
{
    run_if_wanted(CONTAINER_OF(w, struct grpc_call, work));
}

/* Thread: a loop. */
static void short_run(struct net_work *w)
{
    struct grpc_call *call = CONTAINER_OF(w, struct grpc_call, work);
    struct net_method *m = call->method;
    unsigned before = atomic_load_explicit(&m->deferred, memory_order_relaxed);
    call->eager = true;
    run_if_wanted(call);
    /* The call is gone. Nobody added: it was answered here. */
    if (before && atomic_load_explicit(&m->deferred, memory_order_relaxed) == before) {
        atomic_store_explicit(&m->deferred, 0, memory_order_relaxed);
    }
}

void grpc__call_to_worker(struct grpc_call *call)
{
    call->work.run = work_run;
    if (!net__workers_push(call->ctx->srv->workers[call->method->pool], &call->work)) {
        grpc_finish(call, GRPC_UNAVAILABLE, "too many requests are waiting");
    }
}

static bool worth_a_try(struct net_method *m)
{
    unsigned n = atomic_load_explicit(&m->deferred, memory_order_relaxed);
    if (n < TRIES_FAILED) {
        return true;
    }
    n = atomic_fetch_add_explicit(&m->deferred, 1, memory_order_relaxed);
    return n % TRY_EVERY == 0;
}

static void dispatch(struct grpc_call *call)
{
    struct net_method *m = call->method;
    if (m->pool == NET_INLINE) {
        own_by_handler(call);
        run_handler(call);
        return;
    }
    /* Before the push: whoever takes it may be done with the call before it returns. */
    own_by_handler(call);
    if (m->eager && call->ctx->sl && worth_a_try(m)) {
        call->work.run = short_run;
        net__short_push(call->ctx->sl, &call->work);
    } else {
        grpc__call_to_worker(call);
    }
}

/* A whole message of a GRPC_BIDI call. */
static void deliver_message(struct grpc_call *call)
{
    call->inflated = false;
    run_handler(call);
    call->prefix_n = 0;
    if (call->state != CALL_DONE) {
        if (!call->body_in_arena) {
            mem_free(call->body);
        }
        call->body = NULL;
        call->body_in_arena = false;
        if (call->charged > call->header_bytes + CALL_COST) {
            net__server_uncharge(call->ctx->srv,
                                 call->charged - call->header_bytes - CALL_COST);
            call->charged = call->header_bytes + CALL_COST;
        }
        call->body_n = call->body_cap = 0;
    }
}

void grpc__call_data(struct grpc_call *call, const uint8_t *p, size_t n)
{
    /* A GRPC_BIDI handler may end the call, and cancellation may free it, in the middle. */
    call->refs++;
    call->bytes_in += n;
    while (call->state != CALL_DONE) {
        size_t take;
        if (call->prefix_n < GRPC_PREFIX) {
            if (!n) {
                break;
            }
            call->prefix[call->prefix_n++] = *p++;
            n--;
            if (call->prefix_n < GRPC_PREFIX) {
                continue;
            }
            if (!prefix_done(call)) {
                break;
            }
        }
        take = MIN(n, call->body_len - call->body_n);
        if (take) {
            if (!body_room(call, take)) {
                break;
            }
            memcpy(call->body + call->body_n, p, take);
            call->body_n += take;
            p += take;
            n -= take;
        }
        if (call->body_n < call->body_len) {
            break;
        }
        if (call->method->kind == GRPC_BIDI) {
            deliver_message(call);
        } else if (n) {
            /* The next prefix: refused there. */
            call->prefix_n = 0;
        } else {
            break;
        }
    }
    grpc__call_unref(call);
}

void grpc__call_end(struct grpc_call *call)
{
    call->request_ended = true;
    if (call->state == CALL_DONE) {
        return;
    }
    if (call->method->kind == GRPC_BIDI) {
        call->body_n = 0;
        call->method->fn(call, call->method->arg);
    } else if (call->prefix_n < GRPC_PREFIX || call->body_n < call->body_len) {
        grpc__call_reject(call, GRPC_INTERNAL, "the request ended before its message was whole");
    } else {
        dispatch(call);
    }
}

/* ---------- the way back ---------- */

bool grpc__call_on_loop(const struct grpc_call *call)
{
    struct net_loop *lp = net__loop_here();
    return lp && &lp->mbox == call->ctx->mbox;
}

static void queue_out(struct grpc_call *call, struct grpc_out *o)
{
    o->next = NULL;
    *call->outq_tail = o;
    call->outq_tail = &o->next;
    call->out_avail += o->n + GRPC_PREFIX;
    h2__conn_held(call->conn, o->n + GRPC_PREFIX, 0);
}

void grpc__call_take_out(struct grpc_out *o)
{
    struct grpc_call *call = o->call;
    if (call->conn) {
        queue_out(call, o);
        h2__call_output(call);
    } else {
        atomic_fetch_sub(&call->queued, o->n);
        mem_free(o);
    }
}

void grpc__call_back(struct net_msg *m)
{
    struct grpc_call *call = CONTAINER_OF(m, struct grpc_call, msg);
    struct net_server *srv = call->ctx->srv;
    call->state = CALL_DONE;
    drop_body(call);
    if (call->deadline_us != DEADLINE_NONE && call->code == GRPC_OK &&
        clock_mono_us() > call->deadline_us) {
        /* What every gRPC server says then, whatever the handler came up with. */
        call->code = GRPC_DEADLINE_EXCEEDED;
        call->message = "deadline passed";
        call->has_reply = false;
    }
    if (call->conn) {
        if (call->has_reply) {
            queue_out(call, &call->one);
        }
        h2__call_output(call);
    }
    atomic_fetch_sub_explicit(&srv->calls_open, 1, memory_order_release);
    grpc__call_unref(call);
    net__server_note_idle(srv);
}

void grpc__call_copy_out(struct grpc_call *call, uint8_t *p, size_t n)
{
    ASSERT(n <= call->out_avail);
    call->out_avail -= n;
    call->bytes_out += n;
    h2__conn_held(call->conn, 0, n);
    while (n) {
        struct grpc_out *o = call->outq;
        size_t take;
        if (o->off < GRPC_PREFIX) {
            uint8_t prefix[GRPC_PREFIX];
            grpc__prefix_put(prefix, o->n);
            take = MIN(n, GRPC_PREFIX - o->off);
            memcpy(p, prefix + o->off, take);
        } else {
            take = MIN(n, o->n + GRPC_PREFIX - o->off);
            memcpy(p, o->p + (o->off - GRPC_PREFIX), take);
        }
        o->off += take;
        p += take;
        n -= take;
        if (o->off == o->n + GRPC_PREFIX) {
            drop_first_out(call);
        }
    }
}
