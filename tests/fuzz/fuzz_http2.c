/*
 * fuzz_http2.c - the HTTP/2 and gRPC server engine, fed bytes without a socket.
 *
 * The first byte chooses the size of the pieces, the rest follows a good preface. Handlers run inline
 * (echo, a stream, health, reflection), output is pulled after every piece, and at the end no call is
 * open and no request memory is held.
 */
#include "base/alloc.h"
#include "net/grpc_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct net_server *srv;
    struct grpc_health *health;
    struct net_loop loop;
    struct net_ctx ctx;
    struct net_out out;
} g;

static void no_wake(void *arg)
{
    (void)arg;
}

static void on_echo(struct grpc_call *call, void *arg)
{
    (void)arg;
    (void)grpc_set_trailer(call, "x-bin", grpc_request(call));
    grpc_reply(call, grpc_request(call));
}

static void on_stream(struct grpc_call *call, void *arg)
{
    struct status st = STATUS_INIT;
    (void)arg;
    for (int i = 0; i < 5 && !st.code; i++) {
        (void)grpc_send(call, grpc_request(call), &st);
    }
    grpc_finish(call, st.code ? GRPC_INTERNAL : GRPC_OK, st.msg);
}

static void set_up(void)
{
    static const struct grpc_method methods[] = {
        { "/t.T/E", GRPC_UNARY, NET_INLINE, on_echo, NULL },
        { "/t.T/S", GRPC_SERVER_STREAM, NET_INLINE, on_stream, NULL },
    };
    struct status st = STATUS_INIT;
    struct net_opts o;
    net_opts_default(&o);
    o.limits.recv_max = 64u << 10;
    o.limits.header_max = 4096;
    o.limits.stream_queue_max = 64u << 10;
    CHECK(net_server_new(&o, &g.srv, &st) == 0);
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        CHECK(grpc_register(g.srv, &methods[i], &st) == 0);
    }
    CHECK(grpc_health_register(g.srv, &g.health, &st) == 0);
    CHECK(grpc_reflect_register(g.srv, SLICE_LIT(""), &st) == 0);
    net__mbox_init(&g.loop.mbox, no_wake, NULL);
    net__loop_set_here(&g.loop);
    net__ctx_init(&g.ctx, g.srv, &g.loop.mbox);
    g.out.p = xalloc(NET_OUT_CAP);
    g.out.cap = NET_OUT_CAP;
}

/* False: the engine is done with. */
static bool pull(struct net_engine *e)
{
    for (int i = 0; i < 8; i++) {
        g.out.n = 0;
        if (!e->ops->pull(e, &g.out)) {
            return false;
        }
        CHECK(g.out.n <= g.out.cap);
        if (!g.out.n) {
            return !e->ops->finished(e);
        }
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    struct net_engine *e;
    size_t step, at = 1;
    bool open;
    if (!g.srv) {
        set_up();
    }
    e = net__h2_new(&g.ctx, NULL);
    CHECK(e);
    step = size && data[0] ? data[0] : SIZE_MAX / 2;
    open = e->ops->recv(e, (const uint8_t *)preface, sizeof preface - 1);
    while (open && at < size) {
        size_t n = MIN(step, size - at);
        uint8_t *copy = xalloc(n);
        memcpy(copy, data + at, n);
        open = e->ops->recv(e, copy, n) && pull(e);
        mem_free(copy);
        at += n;
        (void)net__mbox_run(&g.loop.mbox);
    }
    if (size % 2) {
        e->ops->drain(e);
    }
    (void)pull(e);
    (void)e->ops->tick(e, INT64_MAX / 2);
    e->ops->gone(e, "end of input");
    (void)net__mbox_run(&g.loop.mbox);
    CHECK(atomic_load(&g.srv->calls_open) == 0);
    CHECK(atomic_load(&g.srv->recv_held) == 0);
    return 0;
}
