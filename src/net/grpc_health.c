/*
 * grpc_health.c - grpc.health.v1.Health: is this server, or one of its services, serving?
 *
 * Check answers at once. Watch answers with the state now and again with every change; the stream
 * stays open until the client leaves or the server drains it.
 *
 * THREADS     grpc_health_set: any. Handlers and cancellation: net threads (of several loops, hence
 *             the lock, RANK_NET_CLIENT: grpc_send() takes the mailbox only, and grpc_finish() may
 *             take locks of RANK_NET_SERVER).
 */
#include "net/grpc_int.h"
#include "net/grpc_pb.h"
#include "base/alloc.h"

enum { HEALTH_SERVING = 1, HEALTH_NOT_SERVING = 2, HEALTH_SERVICE_UNKNOWN = 3 };
#define WATCHERS_MAX 1000

struct watcher {
    struct watcher *next;
    struct grpc_call *call;
    char *service;
};

struct grpc_health {
    struct lock lock;
    struct str_map *states; /* service -> 1 + state, as a pointer */
    struct watcher *watchers;
    int watcher_count;
};

static int state_of(struct grpc_health *h, struct slice service)
{
    uintptr_t v = (uintptr_t)str_map_get(h->states, service);
    return v ? (int)v : HEALTH_SERVICE_UNKNOWN;
}

/* HealthCheckResponse { status = 1 } */
static struct slice response(char p[2], int state)
{
    p[0] = 8;
    p[1] = (char)state;
    return slice_n(p, 2);
}

/* HealthCheckRequest { service = 1 } */
bool grpc__health_request(struct slice msg, struct slice *ret_service)
{
    struct reader r = reader_of(msg);
    struct pb_field f;
    *ret_service = SLICE_LIT("");
    while (pb__next(&r, &f)) {
        if (f.number == 1 && f.wire == 2) {
            *ret_service = f.bytes;
        }
    }
    return !r.failed;
}

static void check(struct grpc_call *call, void *arg)
{
    struct grpc_health *h = arg;
    struct slice service;
    char p[2];
    int state;
    if (!grpc__health_request(grpc_request(call), &service)) {
        grpc_fail(call, GRPC_INVALID_ARGUMENT, "broken HealthCheckRequest");
        return;
    }
    lock_acquire(&h->lock);
    state = state_of(h, service);
    lock_release(&h->lock);
    if (state == HEALTH_SERVICE_UNKNOWN) {
        grpc_fail(call, GRPC_NOT_FOUND, "unknown service %.*s", SLICE_ARG(service));
    } else {
        grpc_reply(call, response(p, state));
    }
}

static void watch_gone(struct grpc_call *call, void *arg)
{
    struct grpc_health *h = arg;
    struct watcher **at, *w;
    lock_acquire(&h->lock);
    at = &h->watchers;
    while (*at && (*at)->call != call) {
        at = &(*at)->next;
    }
    w = *at;
    if (w) {
        *at = w->next;
        h->watcher_count--;
    }
    lock_release(&h->lock);
    if (w) {
        mem_free(w->service);
        mem_free(w);
    }
    grpc_finish(call, GRPC_UNAVAILABLE, "the server stops");
}

static void watch(struct grpc_call *call, void *arg)
{
    struct grpc_health *h = arg;
    struct status st = STATUS_INIT;
    struct slice service;
    struct watcher *w;
    char p[2];
    bool full;
    if (!grpc__health_request(grpc_request(call), &service)) {
        grpc_fail(call, GRPC_INVALID_ARGUMENT, "broken HealthCheckRequest");
        return;
    }
    lock_acquire(&h->lock);
    full = h->watcher_count >= WATCHERS_MAX;
    if (!full) {
        w = xalloc(sizeof *w);
        w->call = call;
        w->service = xstrndup(service.p, service.n);
        w->next = h->watchers;
        h->watchers = w;
        h->watcher_count++;
        (void)grpc_send(call, response(p, state_of(h, service)), &st);
    }
    lock_release(&h->lock);
    if (full) {
        grpc_finish(call, GRPC_RESOURCE_EXHAUSTED, "too many watchers");
    } else if (!grpc_on_cancel(call, watch_gone, h)) {
        watch_gone(call, h);
    }
}

int grpc_health_register(struct net_server *srv, struct grpc_health **ret_h, struct status *st)
{
    struct grpc_health *h = xalloc(sizeof *h);
    struct grpc_method m[] = {
        { "/grpc.health.v1.Health/Check", GRPC_UNARY, NET_INLINE, check, h },
        { "/grpc.health.v1.Health/Watch", GRPC_SERVER_STREAM, NET_INLINE, watch, h },
    };
    int rc;
    lock_init(&h->lock, RANK_NET_CLIENT);
    h->states = str_map_new();
    grpc_health_set(h, "", false);
    for (size_t i = 0; i < ARRAY_LEN(m); i++) {
        TRY(grpc_register(srv, &m[i], st));
    }
    *ret_h = TAKE(h);
out:
    grpc_health_free(h);
    return rc;
}

void grpc_health_set(struct grpc_health *h, const char *service, bool serving)
{
    uintptr_t state = serving ? HEALTH_SERVING : HEALTH_NOT_SERVING;
    struct status st = STATUS_INIT;
    char p[2];
    lock_acquire(&h->lock);
    if ((uintptr_t)str_map_put(h->states, slice_of(service), (void *)state) != state) {
        for (struct watcher *w = h->watchers; w; w = w->next) {
            if (strcmp(w->service, service) == 0) {
                /* Two bytes never fill the queue of a stream; a gone client is seen elsewhere. */
                (void)grpc_send(w->call, response(p, (int)state), &st);
            }
        }
    }
    lock_release(&h->lock);
}

void grpc_health_free(struct grpc_health *h)
{
    if (!h) {
        return;
    }
    while (h->watchers) {
        struct watcher *w = h->watchers;
        h->watchers = w->next;
        mem_free(w->service);
        mem_free(w);
    }
    str_map_free(h->states, NULL);
    lock_done(&h->lock);
    mem_free(h);
}
