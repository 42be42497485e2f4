/*
 * json.h - JSON without a tree: a validating pull reader over borrowed text.
 *
 * Built for filters over JSON columns, where a parse tree per row would cost more than the scan:
 * no allocation, values are slices of the input. Numbers keep 64-bit integers exact. Depth is
 * limited to JSON_DEPTH_MAX. Strict RFC 8259 plus the check that strings are UTF-8.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "base/status.h"

#define JSON_DEPTH_MAX 512

enum json_type {
    JSON_NULL,
    JSON_BOOL,
    JSON_INT,
    JSON_UINT,
    JSON_DOUBLE,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
};

struct json_value {
    enum json_type type;
    struct slice raw; /* the value's own text, quotes and brackets included */
    bool escaped;     /* JSON_STRING: raw contains a backslash */
    union {
        bool b;
        int64_t i;  /* JSON_INT */
        uint64_t u; /* JSON_UINT: integers above INT64_MAX */
        double d;   /* JSON_DOUBLE; integers beyond uint64 become doubles */
    };
};

/* Checks the whole text is one JSON value. ST_INVALID names byte offset and what was expected. */
int json_validate(struct slice text, struct status *st);
/* Parses the value that text (already validated, or checked as far as read) begins with. */
bool json_parse(struct slice text, struct json_value *ret);
/* Walks an array or object: pos starts at 0. key is untouched for arrays; a key is returned raw
 * without quotes, *ret_key_escaped tells whether it holds escapes. false at the end or on
 * damage. */
bool json_next(const struct json_value *container, size_t *pos, struct slice *ret_key,
               bool *ret_key_escaped, struct json_value *ret);
size_t json_count(const struct json_value *container);
/* Finds object member `key` (decoded form). The last of duplicate keys wins. */
bool json_member(const struct json_value *obj, struct slice key, struct json_value *ret);
bool json_element(const struct json_value *arr, size_t i, struct json_value *ret);
/* Decoded string: the slice inside raw when there are no escapes, else a copy in ar (p is NULL past
 * its limit). */
struct slice json_string(const struct json_value *v, struct arena *ar);
/* Compares decoded string with s without allocation. */
bool json_string_eq(const struct json_value *v, struct slice s);
/* Unescapes s (without quotes) into dst of at least s.n bytes, which may be s itself; returns the
 * length. */
size_t json_unescape(struct slice s, char *dst);
double json_number(const struct json_value *v); /* JSON_INT, JSON_UINT, JSON_DOUBLE */
bool json_is_number(const struct json_value *v);
