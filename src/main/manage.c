/*
 * manage.c - health, metrics and version for probes and people.
 *
 * WHAT      Names follow Milvus where the meaning is the same: milvus_proxy_req_count and
 *           milvus_proxy_req_latency, with function_name and status.
 * THREADS   Net threads (on_done, and the requests themselves: none of them blocks).
 */
#include "main/manage.h"
#include "base/metrics.h"
#include <stdio.h>
#include <string.h>

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
        reply_text(req, 200, "application/json", "{\"name\":\"elanus\",\"version\":\"" ELANUS_VERSION "\"}\n");
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

/* Methods are few and fixed, so their metrics are found once and kept per path. */
struct rpc_metrics {
    char name[64];
    struct measure *total, *ok, *fail, *latency;
};

static struct rpc_metrics *find_metrics(struct slice name)
{
    static struct rpc_metrics table[512]; /* open addressing; filled by net threads */
    static _Atomic(struct rpc_metrics *) slots[512];
    static _Atomic size_t used;
    char labels[128];
    uint32_t h = 2166136261u;

    if (name.n == 0 || name.n >= sizeof table[0].name) {
        return NULL;
    }
    for (size_t i = 0; i < name.n; i++) {
        h = (h ^ (uint8_t)name.p[i]) * 16777619u;
    }
    for (size_t i = 0; i < ARRAY_LEN(slots); i++) {
        size_t at = (h + i) % ARRAY_LEN(slots);
        struct rpc_metrics *m = slots[at];
        if (m && slice_is(name, m->name)) {
            return m;
        }
        if (m) {
            continue;
        }
        size_t mine = used++;
        if (mine >= ARRAY_LEN(table)) {
            used = ARRAY_LEN(table);
            return NULL;
        }
        struct rpc_metrics *fresh = &table[mine], *expected = NULL;
        memcpy(fresh->name, name.p, name.n);
        snprintf(labels, sizeof labels, "function_name=\"%s\",status=\"total\"", fresh->name);
        fresh->total = metric_get(METRIC_COUNTER, "milvus_proxy_req_count", labels,
                                  "calls by function and outcome");
        snprintf(labels, sizeof labels, "function_name=\"%s\",status=\"success\"", fresh->name);
        fresh->ok = metric_get(METRIC_COUNTER, "milvus_proxy_req_count", labels,
                               "calls by function and outcome");
        snprintf(labels, sizeof labels, "function_name=\"%s\",status=\"fail\"", fresh->name);
        fresh->fail = metric_get(METRIC_COUNTER, "milvus_proxy_req_count", labels,
                                 "calls by function and outcome");
        snprintf(labels, sizeof labels, "function_name=\"%s\"", fresh->name);
        fresh->latency = metric_get(METRIC_HISTOGRAM, "milvus_proxy_req_latency", labels,
                                    "milliseconds from request head to end of reply");
        if (!__atomic_compare_exchange_n((struct rpc_metrics **)(void *)&slots[at], &expected,
                                         fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            i--; /* another thread took the place: look at it again */
        }
    }
    return NULL;
}

void manage_on_done(void *arg, const struct net_done *d)
{
    struct rpc_metrics *m;

    (void)arg;
    if (!d->is_grpc || !d->known || !(m = find_metrics(short_name(d->path)))) {
        return;
    }
    metric_add(m->total, 1);
    metric_add(d->status == 0 ? m->ok : m->fail, 1);
    metric_observe(m->latency, (double)d->duration_us / 1000.0);
}
