/*
 * proxy.h - the public face: the Milvus API over gRPC, checks, routing, merging.
 *
 * Holds no durable state: a cache of collection definitions that the coordinator invalidates, and
 * sessions' identifiers. Every RPC is a row of methods.def.
 */
#pragma once
#include "base/config.h"
#include "base/status.h"
#include "net/net.h"
#include "service/directory.h"
#include "service/service.h"

struct proxy;
struct proxy_opts {
    const struct root_service *root;
    const struct data_service *data;
    const struct query_service *query;
    const struct streaming_service *streaming;
    struct svc_dir *dir;
    const struct config *config;      /* rows of proxy_config.def */
    const char *deploy_mode;          /* "STANDALONE" or "DISTRIBUTED" */
};
int proxy_new(const struct proxy_opts *o, struct proxy **ret_px, struct status *st);
/* What the coordinator calls. */
struct proxy_service proxy_service_of(struct proxy *px);
/* Registers every method of the public services on srv. */
int proxy_register(struct proxy *px, struct net_server *srv, struct status *st);
/* HTTP/1.1 on the public port (http_fn and http_class_fn of net.h; arg is the proxy). */
struct http_req;
void proxy_http(struct http_req *req, void *arg);
int proxy_http_class(struct slice method, struct slice path, void *arg);
/* False: calls answer "service not ready" (gRPC OK, code 1) except GetVersion, Connect, health. */
void proxy_set_ready(struct proxy *px, bool ready);
void proxy_free(struct proxy *px);
