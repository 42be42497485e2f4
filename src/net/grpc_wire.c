/*
 * grpc_wire.c - the small encodings of gRPC over HTTP/2: timeouts, percent text, base64 metadata,
 * message prefix, compressed messages, and the two tables of codes.
 *
 * Follows the gRPC project's "PROTOCOL-HTTP2" document. Pure functions.
 */
#include "net/grpc_int.h"
#include "base/alloc.h"
#include <stdio.h>
#include <zlib.h>

static const char *const code_names[] = {
    "OK",           "CANCELLED",           "UNKNOWN",           "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED", "NOT_FOUND",      "ALREADY_EXISTS",    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",     "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL",           "UNAVAILABLE",       "DATA_LOSS",
    "UNAUTHENTICATED",
};

const char *grpc_code_name(int code)
{
    return code >= 0 && (size_t)code < ARRAY_LEN(code_names) ? code_names[code] : "UNKNOWN";
}

static const struct {
    int st, grpc;
} code_map[] = {
    /* The first row of a gRPC code is the way back. */
    { ST_OK, GRPC_OK },
    { ST_INVALID, GRPC_INVALID_ARGUMENT },
    { ST_INVALID, GRPC_OUT_OF_RANGE },
    { ST_NOT_FOUND, GRPC_NOT_FOUND },
    { ST_EXISTS, GRPC_ALREADY_EXISTS },
    { ST_INTERNAL, GRPC_INTERNAL },
    { ST_IO, GRPC_INTERNAL },
    { ST_CORRUPT, GRPC_DATA_LOSS },
    { ST_QUOTA, GRPC_RESOURCE_EXHAUSTED },
    { ST_NO_SPACE, GRPC_RESOURCE_EXHAUSTED },
    { ST_NO_MEMORY, GRPC_RESOURCE_EXHAUSTED },
    { ST_TOO_LARGE, GRPC_RESOURCE_EXHAUSTED },
    { ST_TIMEOUT, GRPC_DEADLINE_EXCEEDED },
    { ST_CANCELLED, GRPC_CANCELLED },
    { ST_CONFLICT, GRPC_FAILED_PRECONDITION },
    { ST_FENCED, GRPC_FAILED_PRECONDITION },
    { ST_CONFLICT, GRPC_ABORTED },
    { ST_UNAVAILABLE, GRPC_UNAVAILABLE },
    { ST_BUSY, GRPC_UNAVAILABLE },
    { ST_NOT_READY, GRPC_UNAVAILABLE },
    { ST_WOULD_WAIT, GRPC_UNAVAILABLE },
    { ST_UNSUPPORTED, GRPC_UNIMPLEMENTED },
    { ST_DENIED, GRPC_PERMISSION_DENIED },
    { ST_UNAUTHENTICATED, GRPC_UNAUTHENTICATED },
};

int grpc_code_of_status(int st_code)
{
    for (size_t i = 0; i < ARRAY_LEN(code_map); i++) {
        if (code_map[i].st == st_code) {
            return code_map[i].grpc;
        }
    }
    return GRPC_INTERNAL;
}

int grpc_status_of_code(int grpc_code)
{
    for (size_t i = 0; i < ARRAY_LEN(code_map); i++) {
        if (code_map[i].grpc == grpc_code) {
            return code_map[i].st;
        }
    }
    return ST_INTERNAL;
}

int64_t grpc__timeout_parse(struct slice s)
{
    int64_t v = 0;
    if (s.n < 2 || s.n > 9) {
        return -1;
    }
    for (size_t i = 0; i + 1 < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return -1;
        }
        v = v * 10 + (s.p[i] - '0');
    }
    /* At most 99999999 hours: 3.6e17 microseconds fit. */
    switch (s.p[s.n - 1]) {
    case 'H':
        return v * 3600000000;
    case 'M':
        return v * 60000000;
    case 'S':
        return v * 1000000;
    case 'm':
        return v * 1000;
    case 'u':
        return v;
    case 'n':
        return (v + 999) / 1000;
    default:
        return -1;
    }
}

void grpc__timeout_format(char p[GRPC_TIMEOUT_TEXT], int64_t us)
{
    static const struct {
        int64_t per;
        char unit;
    } units[] = { { 1, 'u' }, { 1000, 'm' }, { 1000000, 'S' }, { 60000000, 'M' } };
    if (us < 0) {
        us = 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        int64_t v = us / units[i].per + (us % units[i].per != 0);
        if (v <= 99999999) {
            (void)snprintf(p, GRPC_TIMEOUT_TEXT, "%d%c", (int)v, units[i].unit);
            return;
        }
    }
    (void)snprintf(p, GRPC_TIMEOUT_TEXT, "99999999H");
}

char *grpc__percent_encode(struct arena *ar, const char *s)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = strlen(s);
    char *p = arena_alloc(ar, n * 3 + 1), *at = p;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)s[i];
        if (c >= 0x20 && c <= 0x7e && c != '%') {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = hex[c >> 4];
            *at++ = hex[c & 15];
        }
    }
    *at = 0;
    return p;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t grpc__percent_decode(char *p, size_t n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '%' && i + 2 < n && hex_digit(p[i + 1]) >= 0 && hex_digit(p[i + 2]) >= 0) {
            p[to++] = (char)(hex_digit(p[i + 1]) << 4 | hex_digit(p[i + 2]));
            i += 2;
        } else {
            p[to++] = p[i];
        }
    }
    return to;
}

struct slice grpc__b64_encode(struct arena *ar, struct slice s)
{
    static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = (const uint8_t *)s.p;
    char *p = arena_alloc(ar, (s.n + 2) / 3 * 4 + 1), *at = p;
    for (size_t i = 0; i < s.n; i += 3) {
        size_t left = s.n - i;
        uint32_t v = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                     (left > 2 ? in[i + 2] : 0);
        *at++ = abc[v >> 18];
        *at++ = abc[v >> 12 & 63];
        if (left > 1) {
            *at++ = abc[v >> 6 & 63];
        }
        if (left > 2) {
            *at++ = abc[v & 63];
        }
    }
    return slice_n(p, (size_t)(at - p));
}

static int b64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool grpc__b64_decode(struct arena *ar, struct slice s, struct slice *ret)
{
    char *p = arena_alloc(ar, s.n / 4 * 3 + 3);
    size_t n = 0;
    uint32_t v = 0;
    int bits = 0;
    while (s.n && s.p[s.n - 1] == '=') {
        s.n--;
    }
    for (size_t i = 0; i < s.n; i++) {
        int d = b64_digit(s.p[i]);
        if (d < 0) {
            return false;
        }
        v = v << 6 | (uint32_t)d;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            p[n++] = (char)(v >> bits & 255);
        }
    }
    if (bits == 6) {
        return false;
    }
    *ret = slice_n(p, n);
    return true;
}

bool grpc__is_bin(struct slice name)
{
    return name.n > 4 && memcmp(name.p + name.n - 4, "-bin", 4) == 0;
}

bool grpc__md_name_ok(struct slice name)
{
    if (!name.n || name.n > 256 || slice_starts(name, SLICE_LIT("grpc-"))) {
        return false;
    }
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.')) {
            return false;
        }
    }
    return true;
}

bool grpc__md_value_ok(struct slice value)
{
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < 0x20 || value.p[i] > 0x7e) {
            return false;
        }
    }
    return !value.n || (value.p[0] != ' ' && value.p[value.n - 1] != ' ');
}

void grpc__prefix_put(uint8_t p[GRPC_PREFIX], size_t n)
{
    p[0] = 0;
    p[1] = (uint8_t)(n >> 24);
    p[2] = (uint8_t)(n >> 16);
    p[3] = (uint8_t)(n >> 8);
    p[4] = (uint8_t)n;
}

uint32_t grpc__prefix_len(const uint8_t p[GRPC_PREFIX])
{
    return (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
}

int grpc__inflate(struct slice in, size_t max, uint8_t **ret_p, size_t *ret_n, struct status *st)
{
    z_stream z = { 0 };
    uint8_t *p = NULL;
    size_t n = 0, cap = 0;
    int zrc = Z_OK, rc = 0;
    if (in.n > UINT32_MAX || inflateInit2(&z, 15 + 32) != Z_OK) {
        return st_fail(st, ST_NO_MEMORY, "cannot decompress a message of %zu bytes", in.n);
    }
    z.next_in = (Bytef *)(uintptr_t)in.p;
    z.avail_in = (uInt)in.n;
    do {
        if (n == cap) {
            size_t want = cap ? cap * 2 : MAX(in.n * 2, (size_t)256);
            uint8_t *q;
            if (cap > max) {
                FAIL(st, ST_TOO_LARGE, "decompressed message is larger than %zu bytes", max);
            }
            /* One byte above the limit tells "exactly at it" from "over it". */
            cap = MIN(want, max + 1);
            q = realloc_try(p, cap);
            if (!q) {
                FAIL(st, ST_NO_MEMORY, "no memory for a message of %zu bytes", cap);
            }
            p = q;
        }
        z.next_out = p + n;
        z.avail_out = (uInt)MIN(cap - n, (size_t)UINT32_MAX);
        zrc = inflate(&z, Z_NO_FLUSH);
        n = (size_t)(z.next_out - p);
        if (zrc != Z_OK && zrc != Z_STREAM_END) {
            FAIL(st, ST_CORRUPT, "broken compressed message");
        }
    } while (zrc != Z_STREAM_END);
    if (z.avail_in) {
        FAIL(st, ST_CORRUPT, "bytes after the end of a compressed message");
    }
    if (n > max) {
        FAIL(st, ST_TOO_LARGE, "decompressed message is larger than %zu bytes", max);
    }
    *ret_p = TAKE(p);
    *ret_n = n;
out:
    (void)inflateEnd(&z);
    mem_free(p);
    return rc;
}
