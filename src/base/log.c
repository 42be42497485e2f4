/*
 * log.c - one line per event, one write(2) per line.
 *
 * A line is built on the stack and cut at LINE_MAX_BYTES: lines of that size are written whole
 * even when several threads, or several processes on one pipe, log at once. Control characters in
 * a message are shown as '?': what a client sent must not be able to forge a log line.
 */
#include "base/log.h"
#include "base/clock.h"
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096 /* PIPE_BUF on Linux */

_Atomic int log_threshold = LOG_INFO;

static const char *const level_names[] = {"DEBUG", "INFO", "WARN", "ERROR"};

void log_write(enum log_level lv, const char *room, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    int saved_errno = errno;
    int64_t now_ms = clock_now_ms();
    time_t sec = (time_t)(now_ms / 1000);
    struct tm tm;
    gmtime_r(&sec, &tm);
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    int head = snprintf(line + n, sizeof line - n, ".%03dZ %s %s ", (int)(now_ms % 1000),
                        level_names[lv], room);
    n += (size_t)head;

    size_t text = n, room_left = sizeof line - n - 1;
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(line + n, room_left + 1, fmt, ap);
    va_end(ap);
    n += len < 0 ? 0 : MIN((size_t)len, room_left);
    for (size_t i = text; i < n; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c < 0x20 || c == 0x7F) {
            line[i] = '?';
        }
    }
    line[n++] = '\n';
    ssize_t done;
    do {
        done = write(STDERR_FILENO, line, n);
    } while (done < 0 && errno == EINTR);
    errno = saved_errno;
}

bool log_level_parse(const char *s, enum log_level *ret)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(s, names[i]) == 0) {
            *ret = (enum log_level)i;
            return true;
        }
    }
    return false;
}
