/*
 * filter_lex.c - filter text to tokens.
 *
 * Keywords are recognised all-lower or ALL-UPPER only ("And" is an identifier), booleans also as
 * "True" and "False". Strings come out decoded: C escapes, \u and \U characters; an unknown escape
 * keeps its backslash, so that 'a\%' reaches `like` as written. r"..." keeps every backslash.
 * Integers are decimal, 0x, 0b or octal with a leading 0; floats decimal or hexadecimal.
 *
 * THREADS  pure.
 */
#include "query/query_int.h"
#include "base/utf8.h"
#include "schema/errors.h"
#include <math.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_ident_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_ident(char c)
{
    return is_ident_start(c) || is_digit(c);
}

static int hex_digit(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    char l = (char)(c | 0x20);
    return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

static int bad_number(struct slice text, struct status *st)
{
    return st_fail(st, ERR_PARAMETER_INVALID, "invalid number %.*s", (int)MIN(text.n, (size_t)64),
                   text.p);
}

/* ---- numbers */

/* Digits of a power-of-two base into *ret; false past 64 bits or for a digit out of place. */
static bool int_digits(struct slice s, unsigned bits, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        int d = hex_digit(s.p[i]);
        if (d < 0 || d >= (1 << bits) || v >> (64 - bits)) {
            return false;
        }
        v = v << bits | (uint64_t)d;
    }
    *ret = v;
    return s.n > 0;
}

static bool decimal_digits(struct slice s, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (!is_digit(s.p[i]) || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v)) {
            return false;
        }
    }
    *ret = v;
    return s.n > 0;
}

/* 0x1.8p3: digits beyond what a double holds only shift the exponent. */
static bool hex_float(struct slice s, double *ret)
{
    uint64_t m = 0;
    int exp = 0;
    bool point = false, digits = false, exponent = false;
    size_t i = 2;
    for (; i < s.n; i++) {
        int d = hex_digit(s.p[i]);
        if (s.p[i] == '.' && !point) {
            point = true;
        } else if (d >= 0) {
            digits = true;
            if (m >> 58) {
                m |= d != 0; /* sticky: only rounding sees it */
                exp += point ? 0 : 4;
            } else {
                m = m << 4 | (uint64_t)d;
                exp -= point ? 4 : 0;
            }
        } else {
            break;
        }
        if (exp > 1 << 20 || exp < -(1 << 20)) {
            return false;
        }
    }
    if (i < s.n && (s.p[i] | 0x20) == 'p') {
        bool neg = ++i < s.n && s.p[i] == '-';
        i += i < s.n && (s.p[i] == '-' || s.p[i] == '+');
        int e = 0;
        for (; i < s.n && is_digit(s.p[i]); i++) {
            exponent = true;
            e = e < 100000 ? e * 10 + (s.p[i] - '0') : e;
        }
        exp += neg ? -e : e;
    }
    if (!digits || !exponent || i != s.n) {
        return false;
    }
    *ret = ldexp((double)m, exp);
    return true;
}

/* The longest run that can belong to a number; what it means is checked afterwards. */
static size_t number_length(const char *p, const char *end)
{
    bool hex = end - p > 1 && p[0] == '0' && (p[1] | 0x20) == 'x';
    size_t i = 0, n = (size_t)(end - p);
    while (i < n && (is_ident(p[i]) || p[i] == '.')) {
        char l = (char)(p[i] | 0x20);
        bool exponent = hex ? l == 'p' : l == 'e';
        i++;
        if (exponent && i < n && (p[i] == '+' || p[i] == '-')) {
            i++;
        }
    }
    return i;
}

static int lex_number(struct lexer *lx, struct token *t, struct status *st)
{
    struct slice s = slice_n(lx->p, number_length(lx->p, lx->end));
    bool hex = s.n > 1 && s.p[0] == '0' && (s.p[1] | 0x20) == 'x';
    bool bin = s.n > 1 && s.p[0] == '0' && (s.p[1] | 0x20) == 'b';
    bool is_float = memchr(s.p, '.', s.n) != NULL;
    for (size_t i = 1; i < s.n && !is_float; i++) {
        char l = (char)(s.p[i] | 0x20);
        is_float = hex ? l == 'p' : !bin && l == 'e';
    }
    t->text = s;
    lx->p += s.n;
    if (is_float) {
        double d = 0;
        bool ok = hex ? hex_float(s, &d) : parse_f64(s, &d);
        if (!ok || !isfinite(d)) {
            return bad_number(s, st);
        }
        t->kind = TK_DOUBLE;
        t->value = (struct value){.type = VAL_DOUBLE, .d = d};
        return 0;
    }
    uint64_t v = 0;
    bool ok;
    if (hex || bin) {
        ok = int_digits(slice_n(s.p + 2, s.n - 2), hex ? 4 : 1, &v);
    } else if (s.n > 1 && s.p[0] == '0') {
        ok = int_digits(slice_n(s.p + 1, s.n - 1), 3, &v);
    } else {
        ok = decimal_digits(s, &v);
    }
    if (!ok || v > (uint64_t)1 << 63) {
        return bad_number(s, st);
    }
    t->kind = TK_INT;
    t->big = v == (uint64_t)1 << 63;
    t->value = (struct value){.type = VAL_INT, .i = t->big ? INT64_MIN : (int64_t)v};
    return 0;
}

/* ---- strings */

static size_t put_utf8(char *dst, uint32_t c)
{
    if (c < 0x80) {
        dst[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        dst[0] = (char)(0xC0 | c >> 6);
        dst[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        dst[0] = (char)(0xE0 | c >> 12);
        dst[1] = (char)(0x80 | (c >> 6 & 0x3F));
        dst[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    dst[0] = (char)(0xF0 | c >> 18);
    dst[1] = (char)(0x80 | (c >> 12 & 0x3F));
    dst[2] = (char)(0x80 | (c >> 6 & 0x3F));
    dst[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

static bool hex_run(const char *p, const char *end, size_t n, uint32_t *ret)
{
    uint32_t v = 0;
    if ((size_t)(end - p) < n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        int d = hex_digit(p[i]);
        if (d < 0) {
            return false;
        }
        v = v << 4 | (uint32_t)d;
    }
    *ret = v;
    return true;
}

/* \uXXXX (a surrogate pair counts as one) or \UXXXXXXXX; p is behind the backslash. Returns the
 * number of input bytes eaten, 0 when it is none. */
static size_t unicode_escape(const char *p, const char *end, uint32_t *ret)
{
    size_t n = *p == 'u' ? 4 : 8;
    uint32_t c, low;
    if (!hex_run(p + 1, end, n, &c)) {
        return 0;
    }
    n++;
    if (c >= 0xD800 && c < 0xDC00) {
        if (end - p < 7 || p[n] != '\\' || p[n + 1] != 'u' || !hex_run(p + n + 2, end, 4, &low) ||
            low < 0xDC00 || low > 0xDFFF) {
            return 0;
        }
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        n += 6;
    }
    if (c > 0x10FFFF || (c >= 0xDC00 && c <= 0xDFFF)) {
        return 0;
    }
    *ret = c;
    return n;
}

/* Decodes what stands between the quotes; never longer than the input. */
static bool unescape(struct slice s, char *dst, size_t *ret_n)
{
    static const char names[] = "abfnrtv\\'\"?", bytes[] = "\a\b\f\n\r\t\v\\'\"?";
    const char *p = s.p, *end = s.p + s.n;
    size_t n = 0;
    while (p < end) {
        if (*p != '\\' || p + 1 == end) {
            dst[n++] = *p++;
            continue;
        }
        p++;
        uint32_t c = 0;
        const char *known = memchr(names, *p, sizeof names - 1);
        if (known) {
            dst[n++] = bytes[known - names];
            p++;
        } else if (*p >= '0' && *p <= '7') {
            for (int k = 0; k < 3 && p < end && *p >= '0' && *p <= '7'; k++) {
                c = c * 8 + (uint32_t)(*p++ - '0');
            }
            if (c > 255) {
                return false;
            }
            dst[n++] = (char)c;
        } else if (*p == 'x') {
            size_t k = hex_run(p + 1, end, 2, &c) ? 2 : hex_run(p + 1, end, 1, &c) ? 1 : 0;
            if (k == 0) {
                return false;
            }
            dst[n++] = (char)c;
            p += k + 1;
        } else if (*p == 'u' || *p == 'U') {
            size_t k = unicode_escape(p, end, &c);
            if (k == 0) {
                return false;
            }
            n += put_utf8(dst + n, c);
            p += k;
        } else {
            dst[n++] = '\\';
            dst[n++] = *p++;
        }
    }
    *ret_n = n;
    return true;
}

static int lex_string(struct lexer *lx, bool raw, struct token *t, struct status *st)
{
    const char *from = lx->p;
    const char *p = from + raw;
    char quote = *p++;
    const char *body = p;
    bool escaped = false;
    int rc = 0;
    while (p < lx->end && *p != quote) {
        if (*p == '\\') {
            escaped = true;
            p++;
        }
        p += p < lx->end;
    }
    if (p >= lx->end) {
        FAIL(st, ERR_PARAMETER_INVALID, "unterminated string at offset %zu",
             (size_t)(from - lx->start));
    }
    struct slice s = slice_n(body, (size_t)(p - body));
    if (escaped && !raw) {
        char *dst = arena_try(lx->ar, s.n);
        size_t n = 0;
        if (!dst) {
            FAIL(st, ST_NO_MEMORY, "no memory for a string of %zu bytes", s.n);
        }
        if (!unescape(s, dst, &n)) {
            FAIL(st, ERR_PARAMETER_INVALID, "invalid escape in the string at offset %zu",
                 (size_t)(from - lx->start));
        }
        s = slice_n(dst, n);
    }
    t->kind = TK_STRING;
    t->value = (struct value){.type = VAL_STRING, .s = s};
    t->text = slice_n(from, (size_t)(p + 1 - from));
    lx->p = p + 1;
out:
    return rc;
}

/* ---- words and operators */

static void lex_word(struct lexer *lx, struct token *t)
{
    static const struct {
        const char *lower, *upper;
        enum tok kind;
    } words[] = {
        {"and", "AND", TK_AND}, {"or", "OR", TK_OR},       {"not", "NOT", TK_NOT},
        {"in", "IN", TK_IN},    {"like", "LIKE", TK_LIKE}, {"exists", "EXISTS", TK_EXISTS},
    };
    const char *p = lx->p;
    while (p < lx->end && is_ident(*p)) {
        p++;
    }
    t->text = slice_n(lx->p, (size_t)(p - lx->p));
    t->kind = TK_IDENT;
    lx->p = p;
    if (t->text.n > 6) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (slice_is(t->text, words[i].lower) || slice_is(t->text, words[i].upper)) {
            t->kind = words[i].kind;
            return;
        }
    }
    bool yes = slice_is(t->text, "true") || slice_is(t->text, "True") || slice_is(t->text, "TRUE");
    if (yes || slice_is(t->text, "false") || slice_is(t->text, "False") ||
        slice_is(t->text, "FALSE")) {
        t->kind = TK_BOOL;
        t->value = (struct value){.type = VAL_BOOL, .b = yes};
    }
}

static bool lex_operator(struct lexer *lx, struct token *t)
{
    /* Longer spellings first. */
    static const struct {
        char text[3];
        enum tok kind;
    } ops[] = {
        {"<=", TK_LE},    {">=", TK_GE},    {"==", TK_EQ},        {"!=", TK_NE},
        {"**", TK_POW},   {"<<", TK_SHL},   {">>", TK_SHR},       {"&&", TK_AND},
        {"||", TK_OR},    {"=~", TK_REGEX}, {"!~", TK_NOT_REGEX}, {"<", TK_LT},
        {">", TK_GT},     {"=", TK_ASSIGN}, {"!", TK_NOT},        {"+", TK_ADD},
        {"-", TK_SUB},    {"*", TK_MUL},    {"/", TK_DIV},        {"%", TK_MOD},
        {"&", TK_BAND},   {"|", TK_BOR},    {"^", TK_BXOR},       {"~", TK_BNOT},
        {"(", TK_LPAREN}, {")", TK_RPAREN}, {"[", TK_LBRACKET},   {"]", TK_RBRACKET},
        {"{", TK_LBRACE}, {"}", TK_RBRACE}, {",", TK_COMMA},      {"$", TK_DOLLAR},
    };
    struct slice rest = slice_n(lx->p, (size_t)(lx->end - lx->p));
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        struct slice op = slice_of(ops[i].text);
        if (slice_starts(rest, op)) {
            t->kind = ops[i].kind;
            t->text = slice_n(lx->p, op.n);
            lx->p += op.n;
            return true;
        }
    }
    return false;
}

int lex__next(struct lexer *lx, struct token *ret, struct status *st)
{
    while (lx->p < lx->end &&
           (*lx->p == ' ' || *lx->p == '\t' || *lx->p == '\r' || *lx->p == '\n')) {
        lx->p++;
    }
    size_t left = (size_t)(lx->end - lx->p);
    *ret = (struct token){.kind = TK_END, .text = {lx->p, 0}};
    if (left == 0) {
        return 0;
    }
    char c = lx->p[0];
    char next = left > 1 ? lx->p[1] : '\0';
    if (is_digit(c) || (c == '.' && is_digit(next))) {
        return lex_number(lx, ret, st);
    }
    if (c == '"' || c == '\'') {
        return lex_string(lx, false, ret, st);
    }
    if ((c == 'r' || c == 'R') && (next == '"' || next == '\'')) {
        return lex_string(lx, true, ret, st);
    }
    if (is_ident_start(c)) {
        lex_word(lx, ret);
        return 0;
    }
    struct slice meta = SLICE_LIT("$meta");
    if (slice_starts(slice_n(lx->p, left), meta) && (left == meta.n || !is_ident(lx->p[meta.n]))) {
        ret->kind = TK_META;
        ret->text = slice_n(lx->p, meta.n);
        lx->p += meta.n;
        return 0;
    }
    if (lex_operator(lx, ret)) {
        return 0;
    }
    return st_fail(st, ERR_PARAMETER_INVALID, "unexpected character at offset %zu",
                   (size_t)(lx->p - lx->start));
}
