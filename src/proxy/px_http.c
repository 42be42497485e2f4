/*
 * px_http.c - HTTP/1.1 on the public port. REST is not served: every path says so.
 *
 * THREADS  The net thread; nothing here blocks.
 */
#include "net/http1.h"
#include "proxy/proxy.h"

int proxy_http_class(struct slice method, struct slice path, void *arg)
{
    (void)method;
    (void)path;
    (void)arg;
    return NET_INLINE;
}

void proxy_http(struct http_req *req, void *arg)
{
    static const struct slice body =
        SLICE_LIT("{\"code\":10,\"message\":\"REST is not served; use gRPC on this port\"}");

    (void)arg;
    http_reply(req, 404, "application/json", body, NULL, 0);
}
