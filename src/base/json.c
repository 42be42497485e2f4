/*
 * json.c - the strict check of a whole text.
 *
 * One pass, no recursion: what encloses the current value is one bit per level (array or object),
 * so a text nested a million deep costs 64 bytes and an error. After this check the functions of
 * json_read.c can rely on the grammar, and need to guard only against the end of the text.
 *
 * Beyond the grammar of RFC 8259 a text is refused for: a string that is not UTF-8; an escape of
 * one half of a surrogate pair, which no UTF-8 text can hold; a number that overflows a double.
 */
#include "base/json.h"
#include "base/bitset.h"
#include "base/json_int.h"
#include "base/utf8.h"
#include <string.h>

enum char_class { PLAIN = 0, QUOTE, BACKSLASH, CONTROL, MULTI };

static const uint8_t classes[256] = {
    [0 ... 0x1F] = CONTROL,
    ['"'] = QUOTE,
    ['\\'] = BACKSLASH,
    [0x80 ... 0xFF] = MULTI,
};

/* Eight bytes at once: a bit is set in each byte below 0x20, equal to a quote or backslash, or
 * above 0x7F. Exact for the lowest such byte, which is the one that is asked for. */
static inline uint64_t special_bytes(uint64_t v)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
    uint64_t quote = v ^ (ones * '"'), back = v ^ (ones * '\\');
    return (((v - ones * 0x20) & ~v) | ((quote - ones) & ~quote) | ((back - ones) & ~back) | v) &
           high;
}

size_t json__plain_end(struct slice t, size_t i)
{
    while (t.n - i >= 8) {
        uint64_t hit = special_bytes(load_u64(t.p + i));
        if (hit) {
            return i + (size_t)__builtin_ctzll(hit) / 8;
        }
        i += 8;
    }
    while (i < t.n && classes[(unsigned char)t.p[i]] == PLAIN) {
        i++;
    }
    return i;
}

int json__hex4(const char *p)
{
    int v = 0;
    for (int k = 0; k < 4; k++) {
        char c = p[k];
        int d;
        if (c >= '0' && c <= '9') {
            d = c - '0';
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            d = (c | 0x20) - 'a' + 10;
        } else {
            return -1;
        }
        v = v * 16 + d;
    }
    return v;
}

struct checker {
    struct slice t;
    size_t i;
    struct status *st;
    size_t depth;
    uint64_t is_object[JSON_DEPTH_MAX / 64];
};

COLD static int bad(struct checker *c, size_t at, const char *expected)
{
    return st_fail(c->st, ST_INVALID, "JSON: expected %s at byte %zu", expected, at);
}

static void skip_blanks(struct checker *c)
{
    while (c->i < c->t.n && json__is_blank(c->t.p[c->i])) {
        c->i++;
    }
}

static bool at_char(const struct checker *c, char ch)
{
    return c->i < c->t.n && c->t.p[c->i] == ch;
}

/* At the backslash. */
static int check_escape(struct checker *c)
{
    size_t left = c->t.n - c->i;
    const char *p = c->t.p + c->i;
    if (left < 2 || !strchr("\"\\/bfnrtu", p[1]) || p[1] == '\0') {
        return bad(c, c->i, "an escape sequence");
    }
    if (p[1] != 'u') {
        c->i += 2;
        return 0;
    }
    int u = left >= 6 ? json__hex4(p + 2) : -1;
    if (u < 0) {
        return bad(c, c->i, "\\u and four hex digits");
    }
    if (u >= 0xD800 && u <= 0xDFFF) {
        int low = left >= 12 && p[6] == '\\' && p[7] == 'u' ? json__hex4(p + 8) : -1;
        if (u >= 0xDC00 || low < 0xDC00 || low > 0xDFFF) {
            return bad(c, c->i, "a whole surrogate pair");
        }
        c->i += 6;
    }
    c->i += 6;
    return 0;
}

/* At the opening quote. */
static int check_string(struct checker *c)
{
    int rc = 0;
    c->i++;
    for (;;) {
        c->i = json__plain_end(c->t, c->i);
        if (c->i == c->t.n) {
            return bad(c, c->i, "the end of a string");
        }
        switch ((enum char_class)classes[(unsigned char)c->t.p[c->i]]) {
        case QUOTE:
            c->i++;
            return 0;
        case BACKSLASH:
            TRY(check_escape(c));
            break;
        case MULTI: {
            size_t len = utf8_sequence(slice_n(c->t.p + c->i, c->t.n - c->i));
            if (len == 0) {
                return bad(c, c->i, "UTF-8");
            }
            c->i += len;
            break;
        }
        case CONTROL:
        case PLAIN:
            return bad(c, c->i, "an escaped control character");
        }
    }
out:
    return rc;
}

static size_t digits(const struct checker *c, size_t i)
{
    size_t start = i;
    while (i < c->t.n && c->t.p[i] >= '0' && c->t.p[i] <= '9') {
        i++;
    }
    return i - start;
}

static int check_number(struct checker *c)
{
    size_t start = c->i, i = start;
    const char *p = c->t.p;
    bool small = true; /* an integer of few digits needs no check of its range */
    i += p[i] == '-';
    size_t n = digits(c, i);
    if (n == 0 || (n > 1 && p[i] == '0')) {
        return bad(c, i, n ? "a number without leading zeros" : "a digit");
    }
    i += n;
    small = n < 300;
    if (i < c->t.n && p[i] == '.') {
        n = digits(c, ++i);
        if (n == 0) {
            return bad(c, i, "a digit");
        }
        i += n;
    }
    if (i < c->t.n && (p[i] | 0x20) == 'e') {
        i++;
        i += i < c->t.n && (p[i] == '+' || p[i] == '-');
        n = digits(c, i);
        if (n == 0) {
            return bad(c, i, "a digit");
        }
        i += n;
        small = false;
    }
    double unused;
    if (!small && !parse_f64(slice_n(p + start, i - start), &unused)) {
        return bad(c, start, "a number in the range of a double");
    }
    c->i = i;
    return 0;
}

static int check_word(struct checker *c, const char *word)
{
    size_t n = strlen(word);
    if (c->t.n - c->i < n || memcmp(c->t.p + c->i, word, n) != 0) {
        return bad(c, c->i, "a value");
    }
    c->i += n;
    return 0;
}

static bool in_object(const struct checker *c)
{
    return bit_get(c->is_object, c->depth - 1);
}

static int open_container(struct checker *c, bool object)
{
    if (c->depth == JSON_DEPTH_MAX) {
        return st_fail(c->st, ST_INVALID, "JSON: nested deeper than %d at byte %zu", JSON_DEPTH_MAX,
                       c->i);
    }
    if (object) {
        bit_set(c->is_object, c->depth);
    } else {
        bit_clear(c->is_object, c->depth);
    }
    c->depth++;
    c->i++;
    return 0;
}

/* At a key: checks it and the colon behind it. */
static int check_key(struct checker *c)
{
    int rc;
    if (!at_char(c, '"')) {
        return bad(c, c->i, "a member name");
    }
    TRY(check_string(c));
    skip_blanks(c);
    if (!at_char(c, ':')) {
        return bad(c, c->i, "':'");
    }
    c->i++;
    skip_blanks(c);
out:
    return rc;
}

/* At the first byte of a value. An opening bracket is taken, its contents are not. */
static int check_value_start(struct checker *c, bool *ret_opened)
{
    *ret_opened = false;
    switch (c->i < c->t.n ? c->t.p[c->i] : '\0') {
    case '{':
    case '[':
        *ret_opened = true;
        return open_container(c, c->t.p[c->i] == '{');
    case '"':
        return check_string(c);
    case 't':
        return check_word(c, "true");
    case 'f':
        return check_word(c, "false");
    case 'n':
        return check_word(c, "null");
    case '-':
    case '0' ... '9':
        return check_number(c);
    default:
        return bad(c, c->i, "a value");
    }
}

/* Behind a value: takes closing brackets and at most one comma with the member name that follows.
 * *ret_more: a value has to follow. */
static int check_value_end(struct checker *c, bool *ret_more)
{
    int rc = 0;
    *ret_more = false;
    while (c->depth > 0) {
        bool object = in_object(c);
        skip_blanks(c);
        if (at_char(c, object ? '}' : ']')) {
            c->i++;
            c->depth--;
        } else if (at_char(c, ',')) {
            c->i++;
            skip_blanks(c);
            if (object) {
                TRY(check_key(c));
            }
            *ret_more = true;
            return 0;
        } else {
            return bad(c, c->i, object ? "',' or '}'" : "',' or ']'");
        }
    }
out:
    return rc;
}

int json_validate(struct slice text, struct status *st)
{
    struct checker c = {.t = text, .st = st};
    bool more = true, opened;
    int rc = 0;
    while (more) {
        skip_blanks(&c);
        TRY(check_value_start(&c, &opened));
        if (opened) {
            skip_blanks(&c);
            if (!at_char(&c, in_object(&c) ? '}' : ']')) {
                if (in_object(&c)) {
                    TRY(check_key(&c));
                }
                continue;
            }
        }
        TRY(check_value_end(&c, &more));
    }
    skip_blanks(&c);
    if (c.i < text.n) {
        TRY(bad(&c, c.i, "the end of the text"));
    }
out:
    return rc;
}
