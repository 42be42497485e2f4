/*
 * px_session.c - connecting, versions, health, timestamps and the server's account of itself.
 *
 * THREADS  Connect and GetVersion may run on the net thread: they block on nothing.
 */
#include "base/json.h"
#include "proxy/px_methods.h"
#include <inttypes.h>

/* A proxy is one of several alike; clients only want a number. */
#define PROXY_NODE_ID 1

int px_get_version(struct px_call *pc, const PX_PB(GetVersionRequest) *req,
                   PX_PB(GetVersionResponse) *resp, struct status *st)
{
    (void)pc;
    (void)req;
    (void)st;
    resp->version = PX_API_VERSION;
    return 0;
}

int px_connect(struct px_call *pc, const PX_PB(ConnectRequest) *req, PX_PB(ConnectResponse) *resp,
               struct status *st)
{
    Milvus__Proto__Common__ServerInfo *info = ARENA_NEW(pc->ar, Milvus__Proto__Common__ServerInfo);

    (void)req;
    (void)st;
    milvus__proto__common__server_info__init(info);
    info->build_tags = PX_API_VERSION;
    info->git_commit = "elanus-" ELANUS_VERSION;
    info->deploy_mode = pc->px->opts.deploy_mode ? pc->px->opts.deploy_mode : "STANDALONE";
    resp->server_info = info;
    resp->identifier = atomic_fetch_add_explicit(&pc->px->next_identifier, 1, memory_order_relaxed);
    return 0;
}

int px_alloc_timestamp(struct px_call *pc, const PX_PB(AllocTimestampRequest) *req,
                       PX_PB(AllocTimestampResponse) *resp, struct status *st)
{
    (void)req;
    return px_now_ts(pc, &resp->timestamp, st);
}

int px_dummy(struct px_call *pc, const PX_PB(DummyRequest) *req, PX_PB(DummyResponse) *resp,
             struct status *st)
{
    (void)pc;
    (void)st;
    resp->response = req->request_type;
    return 0;
}

/* ---- health ---- */

/* Ready, and the coordinator answers. Returns NULL, or why not. */
static const char *ill(struct px_call *pc)
{
    struct status why = STATUS_INIT;
    hts now;

    if (!atomic_load_explicit(&pc->px->ready, memory_order_acquire)) {
        return err_text(1);
    }
    if (px_now_ts(pc, &now, &why) != 0) {
        return arena_printf(pc->ar, "the coordinator does not answer: %s", why.msg);
    }
    return NULL;
}

int px_check_health(struct px_call *pc, const PX_PB(CheckHealthRequest) *req,
                    PX_PB(CheckHealthResponse) *resp, struct status *st)
{
    const char *reason = ill(pc);

    (void)req;
    (void)st;
    resp->ishealthy = reason == NULL;
    if (reason) {
        resp->reasons = arena_alloc(pc->ar, sizeof resp->reasons[0]);
        resp->reasons[0] = reason;
        resp->n_reasons = 1;
    }
    return 0;
}

int px_get_component_states(struct px_call *pc, const PX_PB(GetComponentStatesRequest) *req,
                            PX_PB(ComponentStates) *resp, struct status *st)
{
    PX_PB(ComponentInfo) *self = ARENA_NEW(pc->ar, PX_PB(ComponentInfo));

    (void)req;
    (void)st;
    milvus__proto__milvus__component_info__init(self);
    self->nodeid = PROXY_NODE_ID;
    self->role = "proxy";
    self->state_code = ill(pc) ? MILVUS__PROTO__COMMON__STATE_CODE__Initializing
                               : MILVUS__PROTO__COMMON__STATE_CODE__Healthy;
    resp->state = self;
    return 0;
}

/* ---- metrics ---- */

/* The shape tools expect of "system_info": a list of nodes with what each says of itself. */
static bool put_system_info(const struct proxy *px, struct buf *b)
{
    buf_put_str(b, "{\"nodes_info\":[{\"identifier\":1,\"connected\":[],\"infos\":{"
                   "\"has_error\":false,\"error_reason\":\"\",\"name\":\"proxy1\","
                   "\"type\":\"proxy\",\"id\":1,\"system_info\":{\"system_version\":"
                   "\"" PX_API_VERSION "\",\"build_version\":\"elanus-" ELANUS_VERSION "\","
                   "\"deploy_mode\":");
    buf_put_json_str(b, slice_of(px->opts.deploy_mode ? px->opts.deploy_mode : "STANDALONE"));
    buf_printf(b, "},\"created_time\":\"%" PRId64 "\",\"cached_collections\":%zu}}]}",
               px->started_ms, px_cache_count(px->cache));
    return !b->failed;
}

int px_get_metrics(struct px_call *pc, const PX_PB(GetMetricsRequest) *req,
                   PX_PB(GetMetricsResponse) *resp, struct status *st)
{
    struct json_value v, type;
    struct buf b;
    int rc = 0;

    buf_init(&b, 1 << 16);
    if (json_validate(slice_of(req->request), st) != 0 ||
        !json_parse(slice_of(req->request), &v) || v.type != JSON_OBJECT ||
        !json_member(&v, SLICE_LIT("metric_type"), &type) || type.type != JSON_STRING) {
        FAIL(st, ERR_PARAMETER_INVALID, "failed to parse metric_type in request: %.200s",
             req->request);
    }
    if (!json_string_eq(&type, SLICE_LIT("system_info"))) {
        FAIL(st, ERR_OPERATION_UNSUPPORTED, "metric type %.*s is not served; try system_info",
             SLICE_ARG(type.raw));
    }
    if (!put_system_info(pc->px, &b)) {
        FAIL(st, ST_NO_MEMORY, "no memory for the metrics");
    }
    resp->response = arena_strndup(pc->ar, (const char *)b.p, b.n);
    resp->component_name = "proxy";
out:
    buf_done(&b);
    return rc;
}
