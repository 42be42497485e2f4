/*
 * http1_parse.c - HTTP/1.1 requests from bytes, in pieces of any size.
 *
 * The head is collected whole (it is bounded) and then cut into lines; the body is collected by
 * Content-Length or chunks. Strict where leniency lets two programs read two different requests: no
 * folded lines, no space before a colon, no Content-Length beside Transfer-Encoding or two that
 * differ, no bare LF, no transfer coding but chunked. RFC 9112 is what it follows.
 *
 * MEMORY      head <= head_max, body <= body_max; both grow with what has come.
 * THREADS     none of its own.
 */
#include "net/http1_int.h"
#include "base/alloc.h"

#define TRAILER_MAX 8192

void http1_parser_init(struct http1_parser *ps, size_t head_max, size_t body_max)
{
    *ps = (struct http1_parser){ .state = HTTP1_HEAD, .body_max = body_max };
    buf_init(&ps->head, head_max);
    buf_init(&ps->body, body_max);
}

void http1_parser_done(struct http1_parser *ps)
{
    buf_done(&ps->head);
    buf_done(&ps->body);
    mem_free(ps->headers);
    ps->headers = NULL;
}

void http1_parser_next(struct http1_parser *ps)
{
    size_t head_max = ps->head.max, body_max = ps->body_max;
    http1_parser_done(ps);
    http1_parser_init(ps, head_max, body_max);
}

static size_t fail(struct http1_parser *ps, int status, size_t used)
{
    ps->state = HTTP1_ERROR;
    ps->error = status;
    return used;
}

static bool is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool all_token(struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (!is_token(s.p[i])) {
            return false;
        }
    }
    return s.n > 0;
}

bool http1_name_is(struct slice name, const char *want)
{
    size_t n = strlen(want);
    if (name.n != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char a = name.p[i], b = want[i];
        a = a >= 'A' && a <= 'Z' ? (char)(a + 32) : a;
        b = b >= 'A' && b <= 'Z' ? (char)(b + 32) : b;
        if (a != b) {
            return false;
        }
    }
    return true;
}

/* True when the comma list contains the word, without case. */
static bool list_has(struct slice list, const char *word)
{
    size_t i = 0;
    while (i < list.n) {
        size_t from, to;
        while (i < list.n && (list.p[i] == ' ' || list.p[i] == '\t' || list.p[i] == ',')) {
            i++;
        }
        from = i;
        while (i < list.n && list.p[i] != ',') {
            i++;
        }
        to = i;
        while (to > from && (list.p[to - 1] == ' ' || list.p[to - 1] == '\t')) {
            to--;
        }
        if (http1_name_is(slice_n(list.p + from, to - from), word)) {
            return true;
        }
    }
    return false;
}

/* method SP target SP HTTP/1.x; returns 0 or an HTTP status. */
static int request_line(struct http1_parser *ps, struct slice line)
{
    const char *sp = memchr(line.p, ' ', line.n), *sp2, *q;
    struct slice target, version;
    if (!sp) {
        return 400;
    }
    ps->method = slice_n(line.p, (size_t)(sp - line.p));
    target.p = sp + 1;
    sp2 = memchr(target.p, ' ', (size_t)(line.p + line.n - target.p));
    if (!sp2 || !all_token(ps->method)) {
        return 400;
    }
    target.n = (size_t)(sp2 - target.p);
    version = slice_n(sp2 + 1, (size_t)(line.p + line.n - sp2 - 1));
    if (version.n != 8 || memcmp(version.p, "HTTP/", 5) != 0 || version.p[6] != '.') {
        return 400;
    }
    if (version.p[5] != '1' || version.p[7] < '0' || version.p[7] > '9') {
        return 505;
    }
    ps->minor = version.p[7] - '0';
    for (size_t i = 0; i < target.n; i++) {
        if ((uint8_t)target.p[i] <= 0x20 || target.p[i] == 0x7f) {
            return 400;
        }
    }
    if (slice_starts(target, SLICE_LIT("http://")) || slice_starts(target, SLICE_LIT("https://"))) {
        /* Absolute form: the path starts at the first slash behind the authority. */
        const char *auth = (const char *)memchr(target.p, ':', target.n) + 3;
        const char *path = memchr(auth, '/', (size_t)(target.p + target.n - auth));
        target = path ? slice_n(path, (size_t)(target.p + target.n - path)) : SLICE_LIT("/");
    }
    if (!target.n || (target.p[0] != '/' && !slice_eq(target, SLICE_LIT("*")))) {
        return 400;
    }
    q = memchr(target.p, '?', target.n);
    ps->path = q ? slice_n(target.p, (size_t)(q - target.p)) : target;
    ps->query = q ? slice_n(q + 1, (size_t)(target.p + target.n - q - 1)) : SLICE_LIT("");
    return 0;
}

static int header_line(struct http1_parser *ps, struct slice line)
{
    const char *colon = memchr(line.p, ':', line.n);
    struct slice name, value;
    if (!colon) {
        return 400;
    }
    name = slice_n(line.p, (size_t)(colon - line.p));
    value = slice_n(colon + 1, line.n - name.n - 1);
    while (value.n && (value.p[0] == ' ' || value.p[0] == '\t')) {
        value.p++;
        value.n--;
    }
    while (value.n && (value.p[value.n - 1] == ' ' || value.p[value.n - 1] == '\t')) {
        value.n--;
    }
    if (!all_token(name)) {
        return 400;
    }
    for (size_t i = 0; i < value.n; i++) {
        if (((uint8_t)value.p[i] < 0x20 && value.p[i] != '\t') || value.p[i] == 0x7f) {
            return 400;
        }
    }
    if (ps->header_count == ps->header_cap) {
        if (ps->header_cap == HTTP1_HEADERS_MAX) {
            return 431;
        }
        ps->header_cap = ps->header_cap ? ps->header_cap * 2 : 16;
        ps->headers = xrealloc(ps->headers, ps->header_cap * sizeof *ps->headers);
    }
    ps->headers[ps->header_count++] = (struct http_header){ name, value };
    return 0;
}

static int content_length(struct http1_parser *ps, struct slice v)
{
    uint64_t n = 0;
    if (!v.n || v.n > 18) {
        return v.n ? 413 : 400;
    }
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9') {
            return 400;
        }
        n = n * 10 + (uint64_t)(v.p[i] - '0');
    }
    if (ps->has_length && ps->left != n) {
        return 400;
    }
    ps->has_length = true;
    ps->left = n;
    return 0;
}

/* What the headers say about the body and the connection. */
static int framing(struct http1_parser *ps)
{
    bool host = false, close = false, keep = false;
    int rc = 0;
    for (size_t i = 0; i < ps->header_count && !rc; i++) {
        struct http_header *h = &ps->headers[i];
        if (http1_name_is(h->name, "content-length")) {
            rc = content_length(ps, h->value);
        } else if (http1_name_is(h->name, "transfer-encoding")) {
            rc = ps->chunked ? 400 : http1_name_is(h->value, "chunked") ? 0 : 501;
            ps->chunked = true;
        } else if (http1_name_is(h->name, "host")) {
            rc = host ? 400 : 0;
            host = true;
        } else if (http1_name_is(h->name, "connection")) {
            close = close || list_has(h->value, "close");
            keep = keep || list_has(h->value, "keep-alive");
        } else if (http1_name_is(h->name, "expect")) {
            ps->expects_continue = list_has(h->value, "100-continue");
            rc = ps->expects_continue ? 0 : 417;
        }
    }
    if (rc) {
        return rc;
    }
    if ((ps->chunked && (ps->has_length || ps->minor == 0)) || (!host && ps->minor >= 1)) {
        return 400;
    }
    ps->keep_alive = !close && (ps->minor >= 1 || keep);
    return ps->has_length && ps->left > ps->body_max ? 413 : 0;
}

static void head_complete(struct http1_parser *ps)
{
    const char *p = (const char *)ps->head.p, *end = p + ps->head.n - 2;
    bool first = true;
    int rc = 0;
    while (p < end && !rc) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        struct slice line;
        if (!nl || nl == p || nl[-1] != '\r') {
            rc = 400;
            break;
        }
        line = slice_n(p, (size_t)(nl - 1 - p));
        if (memchr(line.p, '\r', line.n)) {
            rc = 400;
        } else {
            rc = first ? request_line(ps, line) : header_line(ps, line);
        }
        first = false;
        p = nl + 1;
    }
    rc = rc ? rc : first ? 400 : framing(ps);
    if (rc) {
        (void)fail(ps, rc, 0);
        return;
    }
    ps->state = ps->chunked              ? HTTP1_CHUNK_LINE
                : ps->has_length && ps->left ? HTTP1_BODY
                                             : HTTP1_COMPLETE;
}

/* Collects the head; returns what belongs to it. */
static size_t feed_head(struct http1_parser *ps, const uint8_t *p, size_t n)
{
    size_t used = 0;
    /* Empty lines before a request are skipped, as old clients send them after a body. */
    while (used < n && ps->head.n == 0 && (p[used] == '\r' || p[used] == '\n')) {
        if (++ps->blank > 8) {
            return fail(ps, 400, used);
        }
        used++;
    }
    while (used < n) {
        const uint8_t *nl = memchr(p + used, '\n', n - used);
        size_t take = nl ? (size_t)(nl - (p + used)) + 1 : n - used;
        if (!buf_put(&ps->head, p + used, take)) {
            return fail(ps, 431, used);
        }
        used += take;
        if (nl && ps->head.n >= 4 && memcmp(ps->head.p + ps->head.n - 4, "\r\n\r\n", 4) == 0) {
            head_complete(ps);
            break;
        }
    }
    return used;
}

static size_t feed_body(struct http1_parser *ps, const uint8_t *p, size_t n)
{
    size_t take = (size_t)MIN((uint64_t)n, ps->left);
    if (!buf_put(&ps->body, p, take)) {
        return fail(ps, ps->body.n + take > ps->body_max ? 413 : 503, 0);
    }
    ps->left -= take;
    if (!ps->left) {
        ps->state = ps->chunked ? HTTP1_CHUNK_END : HTTP1_COMPLETE;
    }
    return take;
}

static int hex(char c)
{
    return c >= '0' && c <= '9'                   ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                  : -1;
}

/* A whole line without CRLF: size in hex, then perhaps ";extensions". */
static void chunk_line(struct http1_parser *ps)
{
    uint64_t v = 0;
    size_t i = 0;
    while (i < ps->line_n && hex(ps->line[i]) >= 0 && i < 15) {
        v = v * 16 + (uint64_t)hex(ps->line[i]);
        i++;
    }
    if (i == 0 || (i < ps->line_n && !strchr("; \t", ps->line[i]))) {
        (void)fail(ps, 400, 0);
    } else if (v > ps->body_max - ps->body.n) {
        (void)fail(ps, 413, 0);
    } else {
        ps->left = v;
        ps->state = v ? HTTP1_CHUNK_BODY : HTTP1_TRAILER;
    }
}

/* Lines between chunks: the size, the end of a chunk, trailers (ignored). */
static size_t feed_line(struct http1_parser *ps, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != '\n') {
            if (ps->line_n == sizeof ps->line || ++ps->trailer_n > TRAILER_MAX) {
                return fail(ps, ps->state == HTTP1_TRAILER ? 431 : 400, i);
            }
            ps->line[ps->line_n++] = (char)p[i];
            continue;
        }
        if (ps->line_n == 0 || ps->line[ps->line_n - 1] != '\r') {
            return fail(ps, 400, i);
        }
        ps->line_n--;
        if (ps->state == HTTP1_CHUNK_LINE) {
            ps->trailer_n = 0;
            chunk_line(ps);
        } else if (ps->state == HTTP1_CHUNK_END) {
            if (ps->line_n) {
                return fail(ps, 400, i);
            }
            ps->state = HTTP1_CHUNK_LINE;
        } else if (ps->line_n == 0) {
            ps->state = HTTP1_COMPLETE;
        }
        ps->line_n = 0;
        return i + 1;
    }
    return n;
}

size_t http1_parse(struct http1_parser *ps, const uint8_t *p, size_t n)
{
    size_t used = 0;
    bool was_head = ps->state == HTTP1_HEAD;
    while (used < n && ps->state != HTTP1_COMPLETE && ps->state != HTTP1_ERROR) {
        switch (ps->state) {
        case HTTP1_HEAD:
            used += feed_head(ps, p + used, n - used);
            break;
        case HTTP1_BODY:
        case HTTP1_CHUNK_BODY:
            used += feed_body(ps, p + used, n - used);
            break;
        default:
            used += feed_line(ps, p + used, n - used);
            break;
        }
        if (was_head && ps->state != HTTP1_HEAD) {
            break; /* the caller may want to say 100 Continue before the body */
        }
    }
    return used;
}
