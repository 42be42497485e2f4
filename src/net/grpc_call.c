/*
 * grpc_call.c - what a handler does with its call: look at the request, reply, stream.
 *
 * THREADS     Whatever thread owns the call. Handing back from the call's own net thread goes
 *             straight to the engine; from elsewhere through the loop's mailbox, in order with the
 *             messages streamed before.
 */
#include "net/grpc_int.h"
#include "base/alloc.h"
#include "base/clock.h"
#include <stdarg.h>
#include <stdio.h>

#define MESSAGE_MAX 2048

/* ---------- reading ---------- */

struct slice grpc_request(const struct grpc_call *call)
{
    return slice_n(call->body, call->body_n);
}

struct slice grpc_path(const struct grpc_call *call)
{
    return call->path;
}

struct slice grpc_metadata(const struct grpc_call *call, const char *name)
{
    struct slice want = slice_of(name);
    for (size_t i = 0; i < call->md_count; i++) {
        if (slice_eq(call->md[i].name, want)) {
            return call->md[i].value;
        }
    }
    return (struct slice){ NULL, 0 };
}

bool grpc_metadata_at(const struct grpc_call *call, size_t i, struct slice *ret_name,
                      struct slice *ret_value)
{
    if (i >= call->md_count) {
        return false;
    }
    *ret_name = call->md[i].name;
    *ret_value = call->md[i].value;
    return true;
}

int64_t grpc_deadline_us(const struct grpc_call *call)
{
    return call->deadline_us;
}

bool grpc_is_cancelled(const struct grpc_call *call)
{
    return atomic_load_explicit(&call->cancelled, memory_order_relaxed) ||
           (call->deadline_us != DEADLINE_NONE && clock_mono_us() > call->deadline_us);
}

unsigned grpc_calls_beside(const struct grpc_call *call)
{
    uint64_t n = atomic_load_explicit(&call->ctx->srv->calls_open, memory_order_relaxed);
    return n > 1 ? (unsigned)(n - 1) : 0;
}

const _Atomic bool *grpc_cancel_flag(const struct grpc_call *call)
{
    return &call->cancelled;
}

const char *grpc_peer(const struct grpc_call *call)
{
    return call->peer;
}

const char *grpc_peer_subject(const struct grpc_call *call)
{
    return call->subject;
}

struct arena *grpc_arena(struct grpc_call *call)
{
    return call->ar;
}

void grpc_set_user(struct grpc_call *call, void *user)
{
    call->user = user;
}

void *grpc_user(const struct grpc_call *call)
{
    return call->user;
}

bool grpc_at_end(const struct grpc_call *call)
{
    return call->request_ended;
}

bool grpc_is_eager(const struct grpc_call *call)
{
    return call->eager;
}

void grpc_defer(struct grpc_call *call)
{
    ASSERT(call->eager);
    call->eager = false;
    atomic_fetch_add_explicit(&call->method->deferred, 1, memory_order_relaxed);
    grpc__call_to_worker(call);
}

struct cancel_msg {
    struct net_msg msg;
    struct grpc_call *call;
    grpc_fn fn;
    void *arg;
};

static void on_cancel_msg(struct net_msg *m)
{
    struct cancel_msg *cm = CONTAINER_OF(m, struct cancel_msg, msg);
    if (cm->call->conn && !cm->call->ctx->draining) {
        cm->call->on_cancel = cm->fn;
        cm->call->on_cancel_arg = cm->arg;
    } else {
        cm->fn(cm->call, cm->arg);
    }
    mem_free(cm);
}

bool grpc_on_cancel(struct grpc_call *call, grpc_fn fn, void *arg)
{
    struct cancel_msg *cm;
    if (grpc__call_on_loop(call)) {
        if (!call->conn || call->ctx->draining) {
            return false;
        }
        call->on_cancel = fn;
        call->on_cancel_arg = arg;
        return true;
    }
    if (atomic_load(&call->cancelled)) {
        return false;
    }
    cm = xalloc(sizeof *cm);
    *cm = (struct cancel_msg){ { NULL, on_cancel_msg }, call, fn, arg };
    net__mbox_push(call->ctx->mbox, &cm->msg);
    return true;
}

/* ---------- replying ---------- */

static bool put_kv(struct grpc_call *call, struct grpc_kv **list, uint8_t *count, const char *name,
                   struct slice value)
{
    struct slice nm = slice_of(name);
    bool bin = grpc__is_bin(nm);
    if (*count == GRPC_HEADERS_MAX || !grpc__md_name_ok(nm) || (!bin && !grpc__md_value_ok(value)) ||
        call->extra_bytes + nm.n + value.n > GRPC_HEADER_BYTES_MAX) {
        return false;
    }
    call->extra_bytes += nm.n + value.n;
    if (!*list) {
        *list = arena_alloc(call->ar, GRPC_HEADERS_MAX * sizeof **list);
    }
    (*list)[(*count)++] = (struct grpc_kv){
        slice_n(arena_strdup(call->ar, name), nm.n),
        bin ? grpc__b64_encode(call->ar, value)
            : slice_n(arena_strndup(call->ar, value.p, value.n), value.n),
    };
    return true;
}

bool grpc_set_header(struct grpc_call *call, const char *name, struct slice value)
{
    return put_kv(call, &call->hdr, &call->hdr_count, name, value);
}

bool grpc_set_trailer(struct grpc_call *call, const char *name, struct slice value)
{
    return put_kv(call, &call->trl, &call->trl_count, name, value);
}

static void hand_back(struct grpc_call *call)
{
    call->msg.fn = grpc__call_back;
    if (grpc__call_on_loop(call)) {
        grpc__call_back(&call->msg);
    } else {
        net__mbox_push(call->ctx->mbox, &call->msg);
    }
}

static bool reply_fits(struct grpc_call *call, size_t n)
{
    size_t max = call->ctx->srv->opts.limits.send_max;
    if (n <= max && n <= UINT32_MAX) {
        return true;
    }
    grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "reply of %zu bytes is larger than max %zu", n, max);
    return false;
}

static void reply_with(struct grpc_call *call, const void *p, size_t n, void *owned)
{
    call->one = (struct grpc_out){ .call = call, .p = p, .n = n, .owned = owned };
    call->has_reply = true;
    call->code = GRPC_OK;
    hand_back(call);
}

void grpc_reply(struct grpc_call *call, struct slice msg)
{
    char *p;
    if (!reply_fits(call, msg.n)) {
        return;
    }
    p = arena_try(call->ar, msg.n ? msg.n : 1);
    if (!p) {
        grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "no memory for a reply of %zu bytes", msg.n);
        return;
    }
    if (msg.n) {
        memcpy(p, msg.p, msg.n);
    }
    reply_with(call, p, msg.n, NULL);
}

void grpc_reply_arena(struct grpc_call *call, struct slice msg)
{
    if (reply_fits(call, msg.n)) {
        reply_with(call, msg.p, msg.n, NULL);
    }
}

void grpc_reply_buf(struct grpc_call *call, struct buf *msg)
{
    size_t n = 0;
    uint8_t *p;
    bool failed = msg->failed;
    p = buf_take(msg, &n);
    if (failed) {
        mem_free(p);
        grpc_fail(call, GRPC_RESOURCE_EXHAUSTED, "the reply does not fit its buffer");
    } else if (reply_fits(call, n)) {
        reply_with(call, p, n, p);
    } else {
        mem_free(p);
    }
}

void grpc_finish(struct grpc_call *call, int code, const char *msg)
{
    char text[MESSAGE_MAX];
    call->code = code >= 0 && code <= GRPC_UNAUTHENTICATED ? code : GRPC_UNKNOWN;
    if (msg && *msg) {
        (void)snprintf(text, sizeof text, "%s", msg);
        call->message = grpc__percent_encode(call->ar, text);
    }
    hand_back(call);
}

void grpc_fail(struct grpc_call *call, int code, const char *fmt, ...)
{
    char text[MESSAGE_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    grpc_finish(call, code, text);
}

void grpc_fail_status(struct grpc_call *call, const struct status *st)
{
    grpc_finish(call, grpc_code_of_status(st->code), st->msg);
}

/* ---------- streaming ---------- */

static void on_out_msg(struct net_msg *m)
{
    grpc__call_take_out(CONTAINER_OF(m, struct grpc_out, msg));
}

static int wait_room(struct grpc_call *call, size_t n, struct status *st)
{
    struct net_ctx *ctx = call->ctx;
    size_t max = ctx->srv->opts.limits.stream_queue_max;
    bool timed_out = false;
    size_t queued = atomic_load(&call->queued);
    if (queued == 0 || queued + n <= max) {
        return 0;
    }
    if (grpc__call_on_loop(call)) {
        return st_fail(st, ST_BUSY, "%zu bytes of this stream are unsent", queued);
    }
    net_wait_begin();
    lock_acquire(&ctx->send_lock);
    atomic_fetch_add(&ctx->send_waiters, 1);
    while (!timed_out && !atomic_load(&call->cancelled) &&
           (queued = atomic_load(&call->queued)) != 0 && queued + n > max) {
        timed_out = !cond_wait_until(&ctx->send_cond, &ctx->send_lock, call->deadline_us);
    }
    atomic_fetch_sub(&ctx->send_waiters, 1);
    lock_release(&ctx->send_lock);
    net_wait_end();
    return timed_out ? st_fail(st, ST_TIMEOUT, "the client's deadline passed") : 0;
}

int grpc_send(struct grpc_call *call, struct slice msg, struct status *st)
{
    size_t max = call->ctx->srv->opts.limits.send_max;
    struct grpc_out *o;
    int rc;
    if (msg.n > max || msg.n > UINT32_MAX) {
        return st_fail(st, ST_TOO_LARGE, "message of %zu bytes is larger than max %zu", msg.n, max);
    }
    TRY(wait_room(call, msg.n, st));
    if (atomic_load(&call->cancelled)) {
        FAIL(st, ST_CANCELLED, "the client went away");
    }
    if (call->deadline_us != DEADLINE_NONE && clock_mono_us() > call->deadline_us) {
        FAIL(st, ST_TIMEOUT, "the client's deadline passed");
    }
    o = alloc_try(sizeof *o + msg.n);
    if (!o) {
        FAIL(st, ST_NO_MEMORY, "no memory for a message of %zu bytes", msg.n);
    }
    *o = (struct grpc_out){ .msg.fn = on_out_msg, .call = call, .p = (uint8_t *)(o + 1),
                            .n = msg.n, .heap = true };
    if (msg.n) {
        memcpy(o + 1, msg.p, msg.n);
    }
    atomic_fetch_add(&call->queued, msg.n);
    if (grpc__call_on_loop(call)) {
        grpc__call_take_out(o);
    } else {
        net__mbox_push(call->ctx->mbox, &o->msg);
    }
out:
    return rc;
}
