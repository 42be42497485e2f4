/*
 * manage.h - the management port: /healthz, /livez, /metrics, /version over HTTP/1.1.
 */
#pragma once
#include "base/compiler.h"
#include "base/slice.h"
#include "net/http1.h"

struct manage {
    _Atomic bool ready;   /* every role serves */
};
void manage_http(struct http_req *req, void *arg); /* arg: struct manage */
int manage_http_class(struct slice method, struct slice path, void *arg);
/* net_server's on_done: counters and latencies per RPC. arg: struct manage */
void manage_on_done(void *arg, const struct net_done *d);
