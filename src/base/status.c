/*
 * status.c - filling struct status.
 *
 * Messages are formatted aside and copied, because callers often pass the old message as an
 * argument of the new one. A message that was cut must still be valid UTF-8: it travels in protobuf
 * strings, where a half character makes the whole reply undecodable.
 *
 * THREADS  A status belongs to one thread. st_code_name() may be called from any.
 */
#include "base/status.h"
#include "base/alloc.h"
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Length of s cut to at most n bytes without splitting a character. */
static size_t cut_utf8(const char *s, size_t n)
{
    size_t i = n;
    while (i > 0 && n - i < 4 && ((unsigned char)s[i] & 0xC0) == 0x80) {
        i--;
    }
    return ((unsigned char)s[i] & 0xC0) == 0x80 ? n : i;
}

/* Copies text of len bytes into dst, which has room for cap bytes and the zero. */
static size_t put_cut(char *dst, size_t cap, const char *text, size_t len)
{
    if (len > cap) {
        len = cut_utf8(text, cap);
    }
    memcpy(dst, text, len);
    dst[len] = '\0';
    return len;
}

/* One byte more than a message keeps, so that cut_utf8() sees whether a character was split. */
#define FORMAT_MAX (STATUS_MSG_MAX + 1)

static size_t format(char out[FORMAT_MAX], const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
static size_t format(char out[FORMAT_MAX], const char *fmt, va_list ap)
{
    int n = vsnprintf(out, FORMAT_MAX, fmt, ap);
    if (n < 0) {
        out[0] = '\0';
        return 0;
    }
    return MIN((size_t)n, (size_t)FORMAT_MAX - 1);
}

static bool code_is_retriable(int code)
{
    return code == ST_TIMEOUT || code == ST_BUSY || code == ST_UNAVAILABLE || code == ST_NOT_READY;
}

int st_fail(struct status *st, int code, const char *fmt, ...)
{
    char text[FORMAT_MAX];
    va_list ap;
    va_start(ap, fmt);
    size_t n = format(text, fmt, ap);
    va_end(ap);
    ASSERT(code != ST_OK);
    st->code = code;
    st->retriable = code_is_retriable(code);
    put_cut(st->msg, STATUS_MSG_MAX - 1, text, n);
    return code;
}

int st_errno(struct status *st, int err, const char *fmt, ...)
{
    char text[FORMAT_MAX];
    va_list ap;
    va_start(ap, fmt);
    size_t n = format(text, fmt, ap);
    va_end(ap);

    const char *what = strerrordesc_np(err);
    char number[32];
    if (!what) {
        snprintf(number, sizeof number, "error %d", err);
        what = number;
    }
    /* The cause is worth more than the end of a long path. */
    size_t tail = strlen(what) + 2;
    n = put_cut(st->msg, STATUS_MSG_MAX - 1 - tail, text, n);
    snprintf(st->msg + n, STATUS_MSG_MAX - n, ": %s", what);

    switch (err) {
    case ENOSPC:
    case EDQUOT:
        st->code = ST_NO_SPACE;
        break;
    case ENOENT:
        st->code = ST_NOT_FOUND;
        break;
    case EEXIST:
        st->code = ST_EXISTS;
        break;
    case ENOMEM:
        st->code = ST_NO_MEMORY;
        break;
    default:
        st->code = ST_IO;
    }
    st->retriable = false;
    return st->code;
}

int st_context(struct status *st, const char *fmt, ...)
{
    char text[FORMAT_MAX], old[STATUS_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    size_t n = format(text, fmt, ap);
    va_end(ap);
    memcpy(old, st->msg, sizeof old);
    old[sizeof old - 1] = '\0';

    n = put_cut(st->msg, STATUS_MSG_MAX - 1, text, n);
    size_t left = STATUS_MSG_MAX - 1 - n;
    if (left > 2) {
        memcpy(st->msg + n, ": ", 2);
        put_cut(st->msg + n + 2, left - 2, old, strlen(old));
    }
    return st->code;
}

void st_clear(struct status *st)
{
    st->code = ST_OK;
    st->retriable = false;
    st->msg[0] = '\0';
}

/* Names of numbers outside the table, made once per number and kept: a push-only list, so that a
 * reader needs no lock (acquire pairs with the release of the push). */
struct number_name {
    int code;
    char text[20];
    struct number_name *next;
};

static _Atomic(struct number_name *) number_names;

static const char *number_name_of(int code)
{
    struct number_name *head = atomic_load_explicit(&number_names, memory_order_acquire);
    struct number_name *fresh = NULL;
    for (;;) {
        for (struct number_name *it = head; it; it = it->next) {
            if (it->code == code) {
                mem_free(fresh);
                return it->text;
            }
        }
        if (!fresh) {
            fresh = xalloc(sizeof *fresh);
            fresh->code = code;
            snprintf(fresh->text, sizeof fresh->text, "error %d", code);
        }
        fresh->next = head;
        if (atomic_compare_exchange_weak_explicit(&number_names, &head, fresh, memory_order_release,
                                                  memory_order_acquire)) {
            return fresh->text;
        }
    }
}

const char *st_code_name(int code)
{
    static const char *const names[] = {
        [ST_OK] = "ok",
        [ST_INVALID] = "invalid",
        [ST_NOT_FOUND] = "not found",
        [ST_EXISTS] = "exists",
        [ST_IO] = "i/o error",
        [ST_CORRUPT] = "corrupt",
        [ST_NO_SPACE] = "no space",
        [ST_NO_MEMORY] = "no memory",
        [ST_TIMEOUT] = "timeout",
        [ST_CANCELLED] = "cancelled",
        [ST_FENCED] = "fenced",
        [ST_CONFLICT] = "conflict",
        [ST_QUOTA] = "over quota",
        [ST_BUSY] = "busy",
        [ST_UNAVAILABLE] = "unavailable",
        [ST_UNSUPPORTED] = "unsupported",
        [ST_DENIED] = "denied",
        [ST_UNAUTHENTICATED] = "unauthenticated",
        [ST_TOO_LARGE] = "too large",
        [ST_INTERNAL] = "internal error",
        [ST_NOT_READY] = "not ready",
        [ST_WOULD_WAIT] = "would have to wait",
    };
    if (code >= 0 && (size_t)code < ARRAY_LEN(names)) {
        return names[code];
    }
    return number_name_of(code);
}
