/*
 * manage.c - health, metrics and version for probes and people.
 *
 * WHAT      Names follow Milvus where the meaning is the same: milvus_proxy_req_count and
 *           milvus_proxy_req_latency, with function_name and status.
 * THREADS   Net threads (on_done, and the requests themselves: none of them blocks).
 */
#include "main/manage.h"
#include "base/alloc.h"
#include "base/hash.h"
#include "base/metrics.h"
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_BYTES 128 /* of an RPC; longer ones are not counted */

static void reply_text(struct http_req *req, int status, const char *type, const char *text)
{
    http_reply(req, status, type, slice_of(text), NULL, 0);
}

void manage_http(struct http_req *req, void *arg)
{
    const struct manage *mg = arg;
    struct slice path = http_path(req), method = http_method(req);
    struct buf b;

    if (!slice_is(method, "GET") && !slice_is(method, "HEAD")) {
        reply_text(req, 405, "text/plain", "only GET is served here\n");
    } else if (slice_is(path, "/healthz") || slice_is(path, "/api/v1/health")) {
        if (mg->ready) {
            reply_text(req, 200, "text/plain", "OK");
        } else {
            reply_text(req, 503, "text/plain", "starting or stopping");
        }
    } else if (slice_is(path, "/livez")) {
        reply_text(req, 200, "text/plain", "OK");
    } else if (slice_is(path, "/version")) {
        reply_text(req, 200, "application/json",
                   "{\"name\":\"elanus\",\"version\":\"" ELANUS_VERSION "\"}\n");
    } else if (slice_is(path, "/metrics") || slice_is(path, "/metrics_default")) {
        buf_init(&b, (size_t)16 << 20);
        if (metrics_render(&b)) {
            http_reply_buf(req, 200, "text/plain; version=0.0.4", &b, NULL, 0);
        } else {
            reply_text(req, 500, "text/plain", "metrics are larger than 16 MiB\n");
        }
        buf_done(&b);
    } else {
        reply_text(req, 404, "text/plain",
                   "known paths: /healthz /livez /metrics /version\n");
    }
}

int manage_http_class(struct slice method, struct slice path, void *arg)
{
    (void)method;
    (void)path;
    (void)arg;
    return NET_INLINE;
}

/* "/milvus.proto.milvus.MilvusService/Search" -> "Search" */
static struct slice short_name(struct slice path)
{
    const char *slash = path.n ? memrchr(path.p, '/', path.n) : NULL;
    return slash ? slice_n(slash + 1, (size_t)(path.p + path.n - slash - 1)) : path;
}

/* ---- per RPC ---- */

struct manage_rpc {
    char name[NAME_MAX_BYTES];
    struct measure *total, *ok, *fail, *latency;
};

static struct measure *counter(const char *name, const char *status)
{
    char labels[NAME_MAX_BYTES + 64];

    snprintf(labels, sizeof labels, "function_name=\"%s\",status=\"%s\"", name, status);
    return metric_get(METRIC_COUNTER, "milvus_proxy_req_count", labels,
                      "calls by function and outcome");
}

static struct manage_rpc *rpc_new(struct slice name)
{
    struct manage_rpc *m = xalloc(sizeof *m);
    char labels[NAME_MAX_BYTES + 64];

    memcpy(m->name, name.p, name.n);
    m->total = counter(m->name, "total");
    m->ok = counter(m->name, "success");
    m->fail = counter(m->name, "fail");
    snprintf(labels, sizeof labels, "function_name=\"%s\"", m->name);
    m->latency = metric_get(METRIC_HISTOGRAM, "milvus_proxy_req_latency", labels,
                            "milliseconds from request head to end of reply");
    return m;
}

/* Open addressing without a lock: a place goes from empty to an entry once and stays. The release
 * of the exchange makes the entry whole for whoever loads it. NULL when the table is full. */
static struct manage_rpc *find_rpc(struct manage *mg, struct slice name)
{
    struct manage_rpc *fresh = NULL, *m = NULL;
    uint64_t at = hash64(name.p, name.n);

    for (size_t i = 0; i < MANAGE_RPCS_MAX && !m; i++) {
        struct manage_rpc *_Atomic *place = &mg->rpcs[(at + i) % MANAGE_RPCS_MAX];

        m = atomic_load_explicit(place, memory_order_acquire);
        if (!m) {
            fresh = fresh ? fresh : rpc_new(name);
            if (atomic_compare_exchange_strong_explicit(place, &m, fresh, memory_order_acq_rel,
                                                        memory_order_acquire)) {
                return fresh;
            }
        }
        if (!slice_is(name, m->name)) {
            m = NULL;
        }
    }
    mem_free(fresh);
    return m;
}

void manage_on_done(void *arg, const struct net_done *d)
{
    struct slice name = short_name(d->path);
    struct manage_rpc *m;

    if (!d->is_grpc || !d->known || name.n >= NAME_MAX_BYTES || !(m = find_rpc(arg, name))) {
        return;
    }
    metric_add(m->total, 1);
    metric_add(d->status == 0 ? m->ok : m->fail, 1);
    metric_observe(m->latency, (double)d->duration_us / 1000.0);
}

void manage_done(struct manage *mg)
{
    for (size_t i = 0; i < MANAGE_RPCS_MAX; i++) {
        mem_free(atomic_load_explicit(&mg->rpcs[i], memory_order_relaxed));
    }
}
