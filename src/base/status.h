/*
 * status.h - the one error type.
 *
 * A function that can fail takes `struct status *st` last (never NULL), returns 0 or the code it
 * stored there, and leaves its outputs untouched on failure. Codes below 100 are causes, named
 * here. Codes from 100 on are the API's own error numbers and are named in schema/errors.h; this
 * room carries them and gives them no meaning.
 */
#pragma once
#include "base/compiler.h"

enum {
    ST_OK = 0,
    ST_INVALID = 1,     /* the caller's argument is wrong */
    ST_NOT_FOUND,       /* the named thing does not exist */
    ST_EXISTS,          /* the named thing exists already */
    ST_IO,              /* the operating system refused; errno text is in the message */
    ST_CORRUPT,         /* bytes read are not what was written: file and offset are named */
    ST_NO_SPACE,        /* disk full */
    ST_NO_MEMORY,       /* an outside size could not be allocated */
    ST_TIMEOUT,         /* the deadline passed */
    ST_CANCELLED,       /* the caller went away */
    ST_FENCED,          /* a newer term owns this */
    ST_CONFLICT,        /* a transaction's condition did not hold */
    ST_QUOTA,           /* a limit of the configuration would be passed */
    ST_BUSY,            /* a queue is full: try again later */
    ST_UNAVAILABLE,     /* the other side is not there (now) */
    ST_UNSUPPORTED,     /* understood, not served */
    ST_DENIED,          /* no permission */
    ST_UNAUTHENTICATED, /* no or wrong credentials */
    ST_TOO_LARGE,       /* a message or value over its limit */
    ST_INTERNAL,        /* a bug, reported instead of a crash */
    ST_NOT_READY,       /* still starting or already stopping */
    ST_WOULD_WAIT,      /* the caller must not wait, and would have to: again from another thread */
    ST_CODE_API = 100,  /* first of the API's own numbers */
};

#define STATUS_MSG_MAX 768

struct status {
    int code;
    bool retriable;
    char msg[STATUS_MSG_MAX];
};

#define STATUS_INIT                                                                                \
    {                                                                                              \
        .code = 0, .retriable = false, .msg = { 0 }                                                \
    }

/* Sets code and message, returns code. Messages longer than the buffer are cut on a whole UTF-8
 * character. ST_TIMEOUT, ST_BUSY, ST_UNAVAILABLE and ST_NOT_READY set retriable. */
COLD int st_fail(struct status *st, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Like st_fail for a failed system call: appends the text of err and picks ST_NO_SPACE for ENOSPC
 * and EDQUOT, ST_NOT_FOUND for ENOENT, ST_EXISTS for EEXIST, ST_NO_MEMORY for ENOMEM, ST_IO
 * otherwise. */
COLD int st_errno(struct status *st, int err, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "context: " in front of the message, keeps code; returns code. */
COLD int st_context(struct status *st, const char *fmt, ...) PRINTF_LIKE(2, 3);
void st_clear(struct status *st);
/* Name of a code below 100 ("not found"), or "error N". Valid for ever. */
const char *st_code_name(int code);

/* Runs an expression returning a status code; on failure jumps to `out` with rc set. */
#define TRY(expr)                                                                                  \
    do {                                                                                           \
        rc = (expr);                                                                               \
        if (UNLIKELY(rc != 0)) {                                                                   \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)

/* Fails the current function with a message. */
#define FAIL(...)                                                                                  \
    do {                                                                                           \
        rc = st_fail(__VA_ARGS__);                                                                 \
        goto out;                                                                                  \
    } while (0)
