/*
 * http1.h - the handler's view of an HTTP/1.1 request.
 *
 * A handler (http_fn of net.h) owns the request until http_reply*(), which it calls exactly once,
 * from any thread. Slices live until then. Requests of one connection are handled one after another.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "net/net.h"

struct http_header {
    struct slice name, value;
};

struct slice http_method(const struct http_req *req);   /* "GET" */
struct slice http_path(const struct http_req *req);     /* before '?', not percent-decoded */
struct slice http_query(const struct http_req *req);    /* after '?', may be empty */
/* First value of a header, name compared without case; p == NULL when absent. */
struct slice http_header_get(const struct http_req *req, const char *name);
bool http_header_at(const struct http_req *req, size_t i, struct http_header *ret);
struct slice http_body(const struct http_req *req);
const char *http_peer(const struct http_req *req);
struct arena *http_arena(struct http_req *req);
/* The client closed the connection: nobody reads the reply. */
bool http_is_cancelled(const struct http_req *req);

/* First value of a query parameter, percent-decoded into the arena; p == NULL when absent. */
struct slice http_query_get(struct http_req *req, const char *name);
/* Percent-decodes s ('+' is a space when plus) into the arena; false on a broken escape. */
bool http_decode(struct arena *ar, struct slice s, bool plus, struct slice *ret);

/* Takes the request. content_type may be NULL (no body then). Extra headers are copied; names and
 * values with control bytes are dropped. Content-Length, Date and Connection are added here. */
void http_reply(struct http_req *req, int status, const char *content_type, struct slice body,
                const struct http_header *extra, size_t extra_count); /* body is copied */
void http_reply_buf(struct http_req *req, int status, const char *content_type, struct buf *body,
                    const struct http_header *extra, size_t extra_count); /* takes the bytes */
