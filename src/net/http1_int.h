/* http1_int.h - inside the room: the HTTP/1.1 parser. */
#pragma once
#include "net/http1.h"

enum http1_state {
    HTTP1_HEAD,
    HTTP1_BODY,       /* by Content-Length */
    HTTP1_CHUNK_LINE,
    HTTP1_CHUNK_BODY,
    HTTP1_CHUNK_END,
    HTTP1_TRAILER,
    HTTP1_COMPLETE,
    HTTP1_ERROR,      /* error is the HTTP status to answer; the connection is of no more use */
};
#define HTTP1_HEADERS_MAX 256

struct http1_parser {
    enum http1_state state;
    int error;
    struct buf head, body;
    size_t body_max;
    uint64_t left;
    int blank;
    char line[256];
    size_t line_n, trailer_n;
    /* Valid from the end of the head on; slices into head. */
    struct slice method, path, query;
    int minor; /* HTTP/1.minor */
    bool keep_alive, chunked, has_length, expects_continue;
    struct http_header *headers;
    size_t header_count, header_cap;
};

void http1_parser_init(struct http1_parser *ps, size_t head_max, size_t body_max);
void http1_parser_done(struct http1_parser *ps);
/* Ready for the next request of the connection. */
void http1_parser_next(struct http1_parser *ps);
/* Takes bytes until the end of the head, of the request, or an error; returns how many. Call again
 * with the rest. */
size_t http1_parse(struct http1_parser *ps, const uint8_t *p, size_t n);
bool http1_name_is(struct slice name, const char *want);
