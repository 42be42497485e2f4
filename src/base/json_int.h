/* json_int.h - shared by json.c (checking) and json_read.c (walking). */
#pragma once
#include "base/json.h"

static inline bool json__is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* First byte at or after i that ends a run of plain string characters: a quote, a backslash, a
 * control character or one of a multi-byte character; t.n when there is none. */
size_t json__plain_end(struct slice t, size_t i);

/* Four hex digits at p; -1 when they are not. */
int json__hex4(const char *p);
