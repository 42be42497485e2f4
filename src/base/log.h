/*
 * log.h - one line per event to standard error: time, level, room, message, key=value pairs.
 *
 * Rooms of rank 0 to 4 log at DEBUG only; they return status. Thread-safe: one write(2) per line.
 * Never log vectors or secrets.
 */
#pragma once
#include "base/compiler.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

extern _Atomic int log_threshold; /* written at start and on reload */

void log_write(enum log_level lv, const char *room, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* false when the name is none of debug, info, warn, error. */
bool log_level_parse(const char *s, enum log_level *ret);

/* Each .c file that logs defines LOG_ROOM, for example "wal". */
#define LOG_AT(lv, ...)                                                                            \
    ((int)(lv) >= log_threshold ? log_write((lv), LOG_ROOM, __VA_ARGS__) : (void)0)
#define LOG_D(...) LOG_AT(LOG_DEBUG, __VA_ARGS__)
#define LOG_I(...) LOG_AT(LOG_INFO, __VA_ARGS__)
#define LOG_W(...) LOG_AT(LOG_WARN, __VA_ARGS__)
#define LOG_E(...) LOG_AT(LOG_ERROR, __VA_ARGS__)
