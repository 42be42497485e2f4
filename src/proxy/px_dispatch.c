/*
 * px_dispatch.c - from methods.def to registered gRPC methods, and what surrounds every handler.
 *
 * WHAT     Unpack, check the caller, run the handler, put its failure where the API wants it, pack.
 *          Failures of the API travel in the response's Status under gRPC OK. Other than OK are
 *          only: methods that are not served (clients fall back on exactly UNIMPLEMENTED), missing
 *          or wrong credentials, bytes that are no request, and answers that have no Status.
 * STATUS   Where a response keeps its Status is found in its descriptor: it is one, or it has a
 *          field of that type. It is always sent, because some clients read it without asking
 *          whether it is there.
 * EAGER    A search is tried on the net thread, where it must not wait (struct call, no_wait). Any
 *          failure there, a wrong request too, has it made again on a worker: what is answered is
 *          what the worker found.
 * FAST     GetVersion is a health probe of clients; its reply is packed once and sent as it is.
 * THREADS  proxy_register() runs before the server starts; the rest on workers, or on the net
 *          thread where methods.def says NET_INLINE.
 */
#include "base/log.h"
#include "net/grpc.h"
#include "proto/proto.h"
#include "proxy/px_methods.h"

#define LOG_ROOM "proxy"
#define PACKAGE "milvus.proto.milvus."
#define REPLY_MAX ((size_t)INT32_MAX)

/* ---- the table ---- */

#define PX_METHOD(Name, Request, Response, handler, pool)                                          \
    static int call_##handler(struct px_call *pc, const void *req, void *resp, struct status *st)  \
    {                                                                                              \
        return handler(pc, req, resp, st);                                                         \
    }
#define PX_STATUS_METHOD(Name, Request, handler, pool) PX_METHOD(Name, Request, , handler, pool)
#define PX_UNSERVED(service, Name)
#include "proxy/methods.def"
#undef PX_METHOD
#undef PX_STATUS_METHOD
#undef PX_UNSERVED

#define PX_METHOD(Name, Request, Response, handler, class)                                         \
    { .service = "MilvusService", .name = #Name, .pool = class, .fn = call_##handler },
#define PX_STATUS_METHOD(Name, Request, handler, class) PX_METHOD(Name, Request, , handler, class)
#define PX_UNSERVED(svc, Name) { .service = #svc, .name = #Name, .pool = NET_INLINE, .fn = NULL },
static const struct px_method rows[] = {
#include "proxy/methods.def"
};
#undef PX_METHOD
#undef PX_STATUS_METHOD
#undef PX_UNSERVED

static const ProtobufCFieldDescriptor *status_field(const ProtobufCMessageDescriptor *resp)
{
    for (unsigned i = 0; i < resp->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &resp->fields[i];
        if (f->label != PROTOBUF_C_LABEL_REPEATED && f->type == PROTOBUF_C_TYPE_MESSAGE &&
            f->descriptor == &milvus__proto__common__status__descriptor) {
            return f;
        }
    }
    return NULL;
}

/* The row's message types, from the service's own description. */
static int describe(struct px_method *m, struct status *st)
{
    const ProtobufCServiceDescriptor *svc =
        strcmp(m->service, "MilvusService") == 0
            ? &milvus__proto__milvus__milvus_service__descriptor
            : &milvus__proto__milvus__client_telemetry_service__descriptor;

    for (unsigned i = 0; i < svc->n_methods; i++) {
        if (strcmp(svc->methods[i].name, m->name) == 0) {
            m->req = svc->methods[i].input;
            m->resp = svc->methods[i].output;
            m->status = status_field(m->resp);
            return 0;
        }
    }
    return st_fail(st, ST_INTERNAL, "methods.def: %s has no method %s", m->service, m->name);
}

/* ---- one call ---- */

void px_call_init(struct px_call *pc, struct proxy *px, struct arena *ar)
{
    *pc = (struct px_call){
        .px = px,
        .ar = ar,
        .call = call_internal(ar),
        .user = "",
    };
}

static struct slice metadata_copy(struct grpc_call *gc, struct arena *ar, const char *name)
{
    struct slice v = grpc_metadata(gc, name);

    return v.n ? slice_n(arena_strndup(ar, v.p, v.n), v.n) : slice_n("", 0);
}

static void set_status(const struct px_method *m, ProtobufCMessage *resp, const struct status *st,
                       struct arena *ar)
{
    Milvus__Proto__Common__Status *s, **at;

    if (m->resp == &milvus__proto__common__status__descriptor) {
        px_status_fill((Milvus__Proto__Common__Status *)resp, st, ar);
        return;
    }
    at = (Milvus__Proto__Common__Status **)(void *)((char *)resp + m->status->offset);
    if (st->code == 0 && *at) {
        return; /* the handler has said more than "success" */
    }
    s = ARENA_NEW(ar, Milvus__Proto__Common__Status);
    px_status_fill(s, st, ar);
    *at = s;
}

static bool has_status(const struct px_method *m)
{
    return m->status || m->resp == &milvus__proto__common__status__descriptor;
}

static int check_ready(const struct px_method *m, struct status *st)
{
    /* Probes and Connect answer while the rest is still starting. */
    static const char *const always[] = { "Connect", "GetVersion", "CheckHealth",
                                          "GetComponentStates" };

    if (atomic_load_explicit(&m->px->ready, memory_order_acquire)) {
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(always); i++) {
        if (strcmp(m->name, always[i]) == 0) {
            return 0;
        }
    }
    return st_fail(st, ST_NOT_READY, "%s", err_text(1));
}

static void log_slow(const struct px_call *pc, int64_t began_us)
{
    int64_t ms = (clock_mono_us() - began_us) / 1000;

    if (pc->px->lim.slow_query_ms > 0 && ms >= pc->px->lim.slow_query_ms &&
        (pc->method->pool == NET_POOL_READ || pc->method->pool == NET_POOL_WRITE)) {
        LOG_W("slow call: method=%s ms=%lld peer=%s request=%s", pc->method->name, (long long)ms,
              grpc_peer(pc->gc), pc->call.request_id);
    }
}

/* Ends a call that has no answer: on a net thread a worker tries it again, else it has failed. Either
 * way the call may be gone, or be another thread's, at once: what hangs on its arena goes first. */
static void give_up(struct px_call *pc, const struct status *st)
{
    px_call_done(pc);
    if (pc->call.no_wait) {
        grpc_defer(pc->gc);
    } else {
        grpc_fail_status(pc->gc, st);
    }
}

/* Runs the handler and packs what it answers into out. False: the call is over. */
static bool run(struct px_call *pc, struct buf *out)
{
    const struct px_method *m = pc->method;
    struct status st = STATUS_INIT;
    ProtobufCMessage *resp;
    void *req;

    if (px_authenticate(pc, &st) != 0) {
        give_up(pc, &st);
        return false;
    }
    req = proto_unpack_borrow(m->req, grpc_request(pc->gc), pc->ar, &st);
    if (!req) {
        px_call_done(pc);
        grpc_fail_status(pc->gc, &st);
        return false;
    }
    resp = arena_alloc(pc->ar, m->resp->sizeof_message);
    m->resp->message_init(resp);
    if (check_ready(m, &st) == 0) {
        (void)m->fn(pc, req, resp, &st); /* st has it */
    }
    if (st.code != 0 && (pc->call.no_wait || !has_status(m))) {
        give_up(pc, &st);
        return false;
    }
    if (st.code != 0) {
        m->resp->message_init(resp); /* nothing half done goes out */
    }
    if (has_status(m)) {
        set_status(m, resp, &st, pc->ar);
    }
    if (!proto_pack(resp, out)) {
        px_call_done(pc);
        grpc_fail(pc->gc, GRPC_RESOURCE_EXHAUSTED, "the answer of %s does not fit into memory",
                  m->name);
        return false;
    }
    return true;
}

static void serve(struct grpc_call *gc, void *arg)
{
    const struct px_method *m = arg;
    struct arena *ar = grpc_arena(gc);
    int64_t began_us = clock_mono_us();
    struct px_call pc;
    struct buf out;
    bool ok;

    px_call_init(&pc, m->px, ar);
    pc.method = m;
    pc.gc = gc;
    pc.call.deadline_us = grpc_deadline_us(gc);
    pc.call.cancel = grpc_cancel_flag(gc);
    pc.call.no_wait = grpc_is_eager(gc);
    pc.call.beside = grpc_calls_beside(gc);
    pc.call.request_id = metadata_copy(gc, ar, "client-request-id").p;
    pc.db_metadata = metadata_copy(gc, ar, "dbname");
    buf_init(&out, REPLY_MAX);
    ok = run(&pc, &out);
    if (ok) {
        /* The reply ends the call, and its arena with it. */
        px_call_done(&pc);
        log_slow(&pc, began_us);
        grpc_reply_buf(gc, &out);
    }
    buf_done(&out);
}

static void serve_constant(struct grpc_call *gc, void *arg)
{
    const struct px_method *m = arg;

    grpc_reply(gc, m->constant);
}

static void serve_none(struct grpc_call *gc, void *arg)
{
    const struct px_method *m = arg;

    grpc_fail(gc, GRPC_UNIMPLEMENTED, "method %s is not served", m->name);
}

/* ---- registration ---- */

/* Packs the reply of a handler that looks at nothing. */
static int make_constant(struct px_method *m, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct status good = STATUS_INIT; /* what *st has from earlier is nobody's answer */
    struct px_call pc;
    struct buf out;
    ProtobufCMessage *req = arena_alloc(ar, m->req->sizeof_message);
    ProtobufCMessage *resp = arena_alloc(ar, m->resp->sizeof_message);
    int rc;

    buf_init(&out, 1 << 16);
    px_call_init(&pc, m->px, ar);
    m->req->message_init(req);
    m->resp->message_init(resp);
    TRY(m->fn(&pc, req, resp, st));
    set_status(m, resp, &good, ar);
    if (!proto_pack(resp, &out)) {
        FAIL(st, ST_INTERNAL, "%s: constant reply over 64 KiB", m->name);
    }
    m->constant = arena_copy(m->px->ar, buf_slice(&out));
out:
    buf_done(&out);
    arena_free(ar);
    return rc;
}

int proxy_register(struct proxy *px, struct net_server *srv, struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct px_method *m = ARENA_NEW(px->ar, struct px_method);
        *m = rows[i];
        m->px = px;
        TRY(describe(m, st));
        struct grpc_method gm = {
            .path = arena_printf(px->ar, "/" PACKAGE "%s/%s", m->service, m->name),
            .kind = GRPC_UNARY,
            .pool = m->pool,
            .fn = m->fn ? serve : serve_none,
            .arg = m,
        };
        gm.eager = m->fn && strcmp(m->name, "Search") == 0;
        if (strcmp(m->name, "GetVersion") == 0) {
            TRY(make_constant(m, st));
            gm.fn = serve_constant;
        }
        if (strcmp(m->name, "Connect") == 0 && px->lim.auth) {
            gm.pool = NET_POOL_ADMIN; /* asks the coordinator who it is */
        }
        TRY(grpc_register(srv, &gm, st));
    }
out:
    return rc;
}
