/*
 * json_read.c - walking a text that json_validate() has accepted.
 *
 * Finding the end of a value only skips: strings to their closing quote, containers by counting
 * brackets outside of strings. On a text that was never checked, this may take nonsense for a
 * value, but it never reads past the text, and json_next() ends where it is lost.
 */
#include "base/json.h"
#include "base/json_int.h"
#include "base/utf8.h"
#include <string.h>

static size_t skip_blanks(struct slice t, size_t i)
{
    while (i < t.n && json__is_blank(t.p[i])) {
        i++;
    }
    return i;
}

/* i is at the opening quote. Position behind the closing quote; 0 when there is none. */
static size_t string_end(struct slice t, size_t i, bool *ret_escaped)
{
    bool escaped = false;
    for (i++; i < t.n;) {
        i = json__plain_end(t, i);
        if (i == t.n) {
            break;
        }
        if (t.p[i] == '"') {
            *ret_escaped = escaped;
            return i + 1;
        }
        if (t.p[i] == '\\') {
            escaped = true;
            i++;
        }
        i++;
    }
    return 0;
}

/* i is at the opening bracket. Position behind the closing one; 0 when there is none. */
static size_t container_end(struct slice t, size_t i)
{
    size_t depth = 0;
    bool unused;
    while (i < t.n) {
        switch (t.p[i]) {
        case '"':
            i = string_end(t, i, &unused);
            if (i == 0) {
                return 0;
            }
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            if (--depth == 0) {
                return i + 1;
            }
            break;
        default:
            break;
        }
        i++;
    }
    return 0;
}

/* Up to 19 digits fit into 64 bits without a check; a 20th is checked. */
static bool parse_integer(struct slice s, struct json_value *v)
{
    bool neg = s.p[0] == '-';
    uint64_t u = 0;
    for (size_t i = neg; i < s.n; i++) {
        uint64_t d = (uint64_t)(s.p[i] - '0');
        if (i - neg >= 19 &&
            (__builtin_mul_overflow(u, UINT64_C(10), &u) || __builtin_add_overflow(u, d, &u))) {
            return false;
        } else if (i - neg < 19) {
            u = u * 10 + d;
        }
    }
    if (neg) {
        if (u > (uint64_t)INT64_MAX + 1) {
            return false;
        }
        v->type = JSON_INT;
        v->i = (int64_t)(0 - u);
    } else if (u > INT64_MAX) {
        v->type = JSON_UINT;
        v->u = u;
    } else {
        v->type = JSON_INT;
        v->i = (int64_t)u;
    }
    return true;
}

static bool parse_number(struct slice t, size_t i, struct json_value *v)
{
    size_t start = i;
    bool integer = true;
    i += t.p[i] == '-';
    size_t first = i;
    for (; i < t.n; i++) {
        char c = t.p[i];
        if (c >= '0' && c <= '9') {
            continue;
        }
        if (c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-') {
            break;
        }
        integer = false;
    }
    if (i == first) {
        return false;
    }
    v->raw = slice_n(t.p + start, i - start);
    if (integer && parse_integer(v->raw, v)) {
        return true;
    }
    v->type = JSON_DOUBLE;
    return parse_f64(v->raw, &v->d);
}

static bool parse_word(struct slice t, size_t i, const char *word, enum json_type type, bool b,
                       struct json_value *v)
{
    size_t n = strlen(word);
    if (t.n - i < n || memcmp(t.p + i, word, n) != 0) {
        return false;
    }
    v->type = type;
    v->raw = slice_n(t.p + i, n);
    v->b = b;
    return true;
}

static bool parse_bracket(struct slice t, size_t i, struct json_value *v)
{
    size_t end = container_end(t, i);
    v->type = t.p[i] == '{' ? JSON_OBJECT : JSON_ARRAY;
    v->raw = slice_n(t.p + i, end - i);
    return end != 0;
}

/* The value at i; *v may be half written when there is none. */
static bool parse_at(struct slice t, size_t i, struct json_value *v)
{
    if (i >= t.n) {
        return false;
    }
    v->escaped = false;
    v->u = 0;
    switch (t.p[i]) {
    case '"': {
        size_t end = string_end(t, i, &v->escaped);
        v->type = JSON_STRING;
        v->raw = slice_n(t.p + i, end - i);
        return end != 0;
    }
    case '{':
    case '[':
        return parse_bracket(t, i, v);
    case 't':
        return parse_word(t, i, "true", JSON_BOOL, true, v);
    case 'f':
        return parse_word(t, i, "false", JSON_BOOL, false, v);
    case 'n':
        return parse_word(t, i, "null", JSON_NULL, false, v);
    case '-':
    case '0' ... '9':
        return parse_number(t, i, v);
    default:
        return false;
    }
}

bool json_parse(struct slice text, struct json_value *ret)
{
    struct json_value v;
    if (!parse_at(text, skip_blanks(text, 0), &v)) {
        return false;
    }
    *ret = v;
    return true;
}

bool json_next(const struct json_value *container, size_t *pos, struct slice *ret_key,
               bool *ret_key_escaped, struct json_value *ret)
{
    struct slice t = container->raw;
    size_t i = skip_blanks(t, *pos ? *pos : 1);
    struct slice key = {0};
    bool key_escaped = false;
    struct json_value v;
    if (container->type != JSON_OBJECT && container->type != JSON_ARRAY) {
        return false;
    }
    if (*pos != 0) {
        if (i >= t.n || t.p[i] != ',') {
            return false;
        }
        i = skip_blanks(t, i + 1);
    }
    if (container->type == JSON_OBJECT) {
        size_t end = i < t.n && t.p[i] == '"' ? string_end(t, i, &key_escaped) : 0;
        if (end == 0) {
            return false;
        }
        key = slice_n(t.p + i + 1, end - i - 2);
        i = skip_blanks(t, end);
        if (i >= t.n || t.p[i] != ':') {
            return false;
        }
        i = skip_blanks(t, i + 1);
    }
    if (!parse_at(t, i, &v)) {
        return false;
    }
    *pos = i + v.raw.n;
    *ret = v;
    if (container->type == JSON_OBJECT) {
        *ret_key = key;
        *ret_key_escaped = key_escaped;
    }
    return true;
}

size_t json_count(const struct json_value *container)
{
    size_t pos = 0, n = 0;
    struct slice key;
    bool escaped;
    struct json_value v;
    while (json_next(container, &pos, &key, &escaped, &v)) {
        n++;
    }
    return n;
}

static size_t put_utf8(uint32_t c, char *dst)
{
    if (c < 0x80) {
        dst[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        dst[0] = (char)(0xC0 | (c >> 6));
        dst[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        dst[0] = (char)(0xE0 | (c >> 12));
        dst[1] = (char)(0x80 | ((c >> 6) & 0x3F));
        dst[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    dst[0] = (char)(0xF0 | (c >> 18));
    dst[1] = (char)(0x80 | ((c >> 12) & 0x3F));
    dst[2] = (char)(0x80 | ((c >> 6) & 0x3F));
    dst[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

/* Decodes the escape at p[0] (a backslash) into dst: *ret_used of at most `left` bytes are taken.
 * The result, at most 4 bytes, is never longer than what was taken, except for damage at the very
 * end of a text that was not checked: there the bytes are copied. */
static size_t unescape_one(const char *p, size_t left, char *dst, size_t *ret_used)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (left < 2 || (p[1] == 'u' && left < 6)) {
        *ret_used = 1;
        dst[0] = p[0];
        return 1;
    }
    *ret_used = 2;
    if (p[1] != 'u') {
        const char *at = p[1] ? strchr(from, p[1]) : NULL;
        dst[0] = at ? to[at - from] : p[1];
        return 1;
    }
    int u = json__hex4(p + 2);
    *ret_used = 6;
    if (u < 0) {
        return put_utf8(0xFFFD, dst);
    }
    if (u >= 0xD800 && u <= 0xDFFF) {
        int low = u < 0xDC00 && left >= 12 && p[6] == '\\' && p[7] == 'u' ? json__hex4(p + 8) : -1;
        if (low < 0xDC00 || low > 0xDFFF) {
            return put_utf8(0xFFFD, dst);
        }
        *ret_used = 12;
        u = 0x10000 + ((u - 0xD800) << 10) + (low - 0xDC00);
    }
    return put_utf8((uint32_t)u, dst);
}

size_t json_unescape(struct slice s, char *dst)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n;) {
        const char *back = memchr(s.p + i, '\\', s.n - i);
        size_t run = back ? (size_t)(back - s.p) - i : s.n - i;
        memmove(dst + n, s.p + i, run); /* dst may be the text itself */
        n += run;
        i += run;
        if (back) {
            size_t used;
            n += unescape_one(back, s.n - i, dst + n, &used);
            i += used;
        }
    }
    return n;
}

static bool escaped_eq(struct slice raw, struct slice s)
{
    size_t at = 0;
    for (size_t i = 0; i < raw.n;) {
        char one[4];
        size_t used = 1, n = 1;
        one[0] = raw.p[i];
        if (raw.p[i] == '\\') {
            n = unescape_one(raw.p + i, raw.n - i, one, &used);
        }
        if (s.n - at < n || memcmp(s.p + at, one, n) != 0) {
            return false;
        }
        at += n;
        i += used;
    }
    return at == s.n;
}

static bool text_eq(struct slice raw, bool escaped, struct slice s)
{
    if (!escaped) {
        return slice_eq(raw, s);
    }
    return raw.n >= s.n && escaped_eq(raw, s);
}

static struct slice inside(const struct json_value *v)
{
    return v->raw.n >= 2 ? slice_n(v->raw.p + 1, v->raw.n - 2) : slice_n(v->raw.p, 0);
}

bool json_member(const struct json_value *obj, struct slice key, struct json_value *ret)
{
    size_t pos = 0;
    struct slice name;
    bool escaped, found = false;
    struct json_value v;
    if (obj->type != JSON_OBJECT) {
        return false;
    }
    while (json_next(obj, &pos, &name, &escaped, &v)) {
        if (text_eq(name, escaped, key)) {
            *ret = v;
            found = true;
        }
    }
    return found;
}

bool json_element(const struct json_value *arr, size_t i, struct json_value *ret)
{
    size_t pos = 0;
    struct slice key;
    bool escaped;
    struct json_value v;
    if (arr->type != JSON_ARRAY) {
        return false;
    }
    for (size_t k = 0; json_next(arr, &pos, &key, &escaped, &v); k++) {
        if (k == i) {
            *ret = v;
            return true;
        }
    }
    return false;
}

struct slice json_string(const struct json_value *v, struct arena *ar)
{
    struct slice s = inside(v);
    if (!v->escaped) {
        return s;
    }
    char *dst = arena_try(ar, s.n);
    return dst ? slice_n(dst, json_unescape(s, dst)) : slice_n(NULL, 0);
}

bool json_string_eq(const struct json_value *v, struct slice s)
{
    return v->type == JSON_STRING && text_eq(inside(v), v->escaped, s);
}

bool json_is_number(const struct json_value *v)
{
    return v->type == JSON_INT || v->type == JSON_UINT || v->type == JSON_DOUBLE;
}

double json_number(const struct json_value *v)
{
    switch (v->type) {
    case JSON_INT:
        return (double)v->i;
    case JSON_UINT:
        return (double)v->u;
    default:
        return v->d;
    }
}
