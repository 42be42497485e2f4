/*
 * buf.c - growing buffers and the reader.
 *
 * Once a put has failed, further puts fail too: a caller that checks only at the end never sees
 * bytes with a hole in them.
 */
#include "base/buf.h"
#include "base/alloc.h"
#include "base/utf8.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BUF_FIRST ((size_t)64)

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
    if (b) {
        mem_free(b->p);
        *b = (struct buf){.max = b->max};
    }
}

void buf_reset(struct buf *b)
{
    b->n = 0;
    b->failed = false;
}

COLD static bool fail(struct buf *b)
{
    b->failed = true;
    return false;
}

static bool grow(struct buf *b, size_t need)
{
    size_t cap = MAX(b->cap, BUF_FIRST);
    while (cap < need) {
        cap = cap > SIZE_MAX / 2 ? SIZE_MAX : cap * 2;
    }
    cap = MIN(cap, b->max);
    uint8_t *p = realloc_try(b->p, cap);
    if (!p) {
        return fail(b);
    }
    b->p = p;
    b->cap = cap;
    return true;
}

bool buf_reserve(struct buf *b, size_t more)
{
    if (UNLIKELY(b->failed)) {
        return false;
    }
    if (LIKELY(more <= b->cap - b->n)) {
        return true;
    }
    if (b->n > b->max || more > b->max - b->n) {
        return fail(b);
    }
    return grow(b, b->n + more);
}

bool buf_put(struct buf *b, const void *p, size_t n)
{
    if (UNLIKELY(!buf_reserve(b, n))) {
        return false;
    }
    if (n) {
        memcpy(b->p + b->n, p, n);
        b->n += n;
    }
    return true;
}

bool buf_put_slice(struct buf *b, struct slice s)
{
    return buf_put(b, s.p, s.n);
}

bool buf_put_str(struct buf *b, const char *s)
{
    return buf_put(b, s, strlen(s));
}

bool buf_putc(struct buf *b, char c)
{
    return buf_put_u8(b, (uint8_t)c);
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    char small[256];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (len < 0) {
        return fail(b);
    }
    size_t n = (size_t)len;
    if (n < sizeof small) {
        return buf_put(b, small, n);
    }
    /* vsnprintf writes a zero behind the text, which may be past the ceiling: format aside. */
    char *big = b->failed || n > b->max ? NULL : alloc_try(n + 1);
    if (!big) {
        return fail(b);
    }
    va_start(ap, fmt);
    vsnprintf(big, n + 1, fmt, ap);
    va_end(ap);
    bool ok = buf_put(b, big, n);
    mem_free(big);
    return ok;
}

bool buf_put_zero(struct buf *b, size_t n)
{
    if (!buf_reserve(b, n)) {
        return false;
    }
    if (n) {
        memset(b->p + b->n, 0, n);
        b->n += n;
    }
    return true;
}

bool buf_put_u8(struct buf *b, uint8_t v)
{
    if (UNLIKELY(!buf_reserve(b, 1))) {
        return false;
    }
    b->p[b->n++] = v;
    return true;
}

bool buf_put_u32(struct buf *b, uint32_t v)
{
    return buf_put(b, &v, sizeof v);
}

bool buf_put_u64(struct buf *b, uint64_t v)
{
    return buf_put(b, &v, sizeof v);
}

bool buf_pad(struct buf *b, size_t align)
{
    size_t rest = b->n % align;
    return rest ? buf_put_zero(b, align - rest) : !b->failed;
}

static bool put_json_char(struct buf *b, unsigned char c)
{
    switch (c) {
    case '"':
        return buf_put(b, "\\\"", 2);
    case '\\':
        return buf_put(b, "\\\\", 2);
    case '\n':
        return buf_put(b, "\\n", 2);
    case '\r':
        return buf_put(b, "\\r", 2);
    case '\t':
        return buf_put(b, "\\t", 2);
    default:
        return buf_printf(b, "\\u%04x", c);
    }
}

bool buf_put_json_str(struct buf *b, struct slice s)
{
    size_t before = b->n, i = 0;
    buf_putc(b, '"');
    while (i < s.n && !b->failed) {
        size_t run = i;
        size_t len = 0;
        while (run < s.n) {
            unsigned char c = (unsigned char)s.p[run];
            if (c < 0x20 || c == '"' || c == '\\') {
                break;
            }
            len = utf8_sequence(slice_n(s.p + run, s.n - run));
            if (len == 0) {
                break;
            }
            run += len;
        }
        buf_put(b, s.p + i, run - i);
        i = run;
        if (i < s.n) {
            unsigned char c = (unsigned char)s.p[i++];
            if (c >= 0x80) {
                buf_put(b, "\xEF\xBF\xBD", 3);
            } else {
                put_json_char(b, c);
            }
        }
    }
    buf_putc(b, '"');
    if (b->failed) {
        b->n = before;
    }
    return !b->failed;
}

uint8_t *buf_take(struct buf *b, size_t *ret_n)
{
    uint8_t *p = b->p;
    *ret_n = b->n;
    *b = (struct buf){.max = b->max};
    return p;
}

static bool reader_copy(struct reader *r, void *ret, size_t n)
{
    if (UNLIKELY(r->failed || n > reader_left(r))) {
        r->failed = true;
        return false;
    }
    memcpy(ret, r->p, n);
    r->p += n;
    return true;
}

bool reader_u8(struct reader *r, uint8_t *ret)
{
    return reader_copy(r, ret, sizeof *ret);
}

bool reader_u16(struct reader *r, uint16_t *ret)
{
    return reader_copy(r, ret, sizeof *ret);
}

bool reader_u32(struct reader *r, uint32_t *ret)
{
    return reader_copy(r, ret, sizeof *ret);
}

bool reader_u64(struct reader *r, uint64_t *ret)
{
    return reader_copy(r, ret, sizeof *ret);
}

bool reader_bytes(struct reader *r, size_t n, struct slice *ret)
{
    if (UNLIKELY(r->failed || n > reader_left(r))) {
        r->failed = true;
        return false;
    }
    *ret = slice_n(r->p, n);
    r->p += n;
    return true;
}
