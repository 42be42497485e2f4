/*
 * proxy.c - life of the proxy: options read once, the service the coordinator calls.
 *
 * THREADS  proxy_new, proxy_register and proxy_free from the thread that assembles the server;
 *          invalidate from any.
 */
#include "proxy/proxy.h"
#include "base/alloc.h"
#include "proxy/px_int.h"
#include <stdatomic.h>

/* rootCoord.maxPartitionNum of the API; the coordinator checks as well. */
#define PARTITIONS_MAX 1024

static uint32_t limit(const struct config *cfg, const char *key)
{
    return (uint32_t)config_int(cfg, key);
}

static void read_limits(struct px_limits *lim, const struct config *cfg)
{
    *lim = (struct px_limits){
        .max_name_length = limit(cfg, "proxy.maxNameLength"),
        .max_fields = limit(cfg, "proxy.maxFieldNum"),
        .max_vector_fields = limit(cfg, "proxy.maxVectorFieldNum"),
        .max_dim = limit(cfg, "proxy.maxDimension"),
        .max_varchar_length = limit(cfg, "proxy.maxVarCharLength"),
        .max_array_capacity = limit(cfg, "proxy.maxArrayCapacity"),
        .max_shards = limit(cfg, "proxy.maxShardNum"),
        .max_partitions = PARTITIONS_MAX,
        .max_topk = config_int(cfg, "quotaAndLimits.limits.topK"),
        .max_nq = config_int(cfg, "quotaAndLimits.limits.nq"),
        .max_query_window = config_int(cfg, "quotaAndLimits.limits.maxQueryResultWindow"),
        .max_output_bytes = config_int(cfg, "quotaAndLimits.limits.maxOutputSize"),
        .graceful_ms = config_int(cfg, "common.gracefulTime"),
        .slow_query_ms = config_int(cfg, "proxy.slowQuerySpanInSeconds") * 1000,
        .max_user_length = limit(cfg, "proxy.maxUsernameLength"),
        .min_password = limit(cfg, "proxy.minPasswordLength"),
        .max_password = limit(cfg, "proxy.maxPasswordLength"),
        .auth = config_bool(cfg, "common.security.authorizationEnabled"),
    };
}

int proxy_new(const struct proxy_opts *o, struct proxy **ret_px, struct status *st)
{
    struct proxy *px;

    if (!o->root || !o->data || !o->query || !o->streaming || !o->dir || !o->config) {
        return st_fail(st, ST_INVALID, "the proxy needs all services of the coordinator");
    }
    px = xalloc(sizeof *px);
    px->opts = *o;
    read_limits(&px->lim, o->config);
    px->cache = px_cache_new();
    px->auth = px_auth_new();
    px->ar = arena_new(0);
    px->started_ms = clock_now_ms();
    /* Identifiers tell sessions apart; zero would mean "none" to clients. */
    atomic_init(&px->next_identifier, px->started_ms << 10 | 1);
    *ret_px = px;
    return 0;
}

static int invalidate(void *self, const struct call *call, const Elanus__InvalidateReq *req,
                      Elanus__Empty *resp, struct status *st)
{
    struct proxy *px = self;

    (void)call;
    (void)resp;
    (void)st;
    px_cache_invalidate(px->cache, req->collection_id, req->db_name, req->n_names, req->names);
    return 0;
}

struct proxy_service proxy_service_of(struct proxy *px)
{
    return (struct proxy_service){ .self = px, .invalidate = invalidate };
}

void proxy_set_ready(struct proxy *px, bool ready)
{
    atomic_store_explicit(&px->ready, ready, memory_order_release);
}

void proxy_free(struct proxy *px)
{
    if (!px) {
        return;
    }
    px_cache_free(px->cache);
    px_auth_free(px->auth);
    arena_free(px->ar);
    mem_free(px);
}
