/*
 * manage.h - the management port: /healthz, /livez, /metrics, /version over HTTP/1.1.
 */
#pragma once
#include "base/compiler.h"
#include "base/slice.h"
#include "net/http1.h"

struct manage_rpc;
enum { MANAGE_RPCS_MAX = 512 };

/* All zero at first. */
struct manage {
    _Atomic bool ready;   /* every role serves */
    struct manage_rpc *_Atomic rpcs[MANAGE_RPCS_MAX]; /* net threads: metrics by name of the RPC */
};
/* No server may use it any more. */
void manage_done(struct manage *mg);
void manage_http(struct http_req *req, void *arg); /* arg: struct manage */
int manage_http_class(struct slice method, struct slice path, void *arg);
/* net_server's on_done: counters and latencies per RPC. arg: struct manage */
void manage_on_done(void *arg, const struct net_done *d);
