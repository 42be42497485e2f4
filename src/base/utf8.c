/*
 * utf8.c - UTF-8 and numbers as text.
 *
 * Doubles are read exactly: short ones by one multiplication or division of values that a double
 * holds exactly (Clinger, "How to Read Floating Point Numbers Accurately", the fast path), others
 * by strtod() over a text rebuilt from digits and exponent. That text has no decimal point, so the
 * locale does not matter, and a bounded length: after SIGNIFICANT_MAX digits a further one can only
 * break a tie, so all of them together are replaced by one '1'.
 */
#include "base/utf8.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_tail(unsigned char c)
{
    return (c & 0xC0) == 0x80;
}

size_t utf8_sequence(struct slice s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    if (s.n == 0) {
        return 0;
    }
    if (p[0] < 0x80) {
        return 1;
    }
    if (p[0] < 0xC2 || p[0] > 0xF4) {
        return 0;
    }
    if (p[0] < 0xE0) {
        return s.n >= 2 && is_tail(p[1]) ? 2 : 0;
    }
    if (p[0] < 0xF0) {
        if (s.n < 3 || !is_tail(p[1]) || !is_tail(p[2]) || (p[0] == 0xE0 && p[1] < 0xA0) ||
            (p[0] == 0xED && p[1] >= 0xA0)) {
            return 0;
        }
        return 3;
    }
    if (s.n < 4 || !is_tail(p[1]) || !is_tail(p[2]) || !is_tail(p[3]) ||
        (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] >= 0x90)) {
        return 0;
    }
    return 4;
}

bool utf8_valid(struct slice s)
{
    size_t i = 0;
    while (i < s.n) {
        uint64_t eight;
        if (s.n - i >= sizeof eight) {
            memcpy(&eight, s.p + i, sizeof eight);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                i += sizeof eight;
                continue;
            }
        }
        if (LIKELY((unsigned char)s.p[i] < 0x80)) {
            i++;
            continue;
        }
        size_t len = utf8_sequence(slice_n(s.p + i, s.n - i));
        if (len == 0) {
            return false;
        }
        i += len;
    }
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool parse_i64(struct slice s, int64_t *ret)
{
    bool neg = s.n > 0 && s.p[0] == '-';
    size_t i = neg ? 1 : 0;
    int64_t v = 0;
    if (i == s.n) {
        return false;
    }
    for (; i < s.n; i++) {
        int d = s.p[i] - '0';
        /* Negative all the way: INT64_MIN has no positive twin. */
        if (!is_digit(s.p[i]) || __builtin_mul_overflow(v, (int64_t)10, &v) ||
            __builtin_sub_overflow(v, (int64_t)d, &v)) {
            return false;
        }
    }
    if (!neg && v == INT64_MIN) {
        return false;
    }
    *ret = neg ? v : -v;
    return true;
}

#define SIGNIFICANT_MAX 800 /* a tie between doubles is decided by at most 767 digits */
#define EXPONENT_MAX 1000000000

struct decimal {
    bool negative;
    int64_t exp10; /* value = digits * 10^exp10 */
    size_t n;      /* digits kept, without leading zeros */
    bool more;     /* a digit other than 0 was dropped behind them */
    char digits[SIGNIFICANT_MAX];
};

static void take_digit(struct decimal *d, char c, bool after_point)
{
    if (d->n == 0 && c == '0') {
        d->exp10 -= after_point;
    } else if (d->n < SIGNIFICANT_MAX) {
        d->digits[d->n++] = c;
        d->exp10 -= after_point;
    } else {
        d->more = d->more || c != '0';
        d->exp10 += !after_point;
    }
}

/* [-+] digits [. digits] [e [-+] digits], with at least one digit in front of the e. */
static bool scan_decimal(struct slice s, struct decimal *d)
{
    size_t i = 0, ndigits = 0;
    d->negative = s.n > 0 && s.p[0] == '-';
    d->exp10 = 0;
    d->n = 0;
    d->more = false;
    if (s.n > 0 && (s.p[0] == '-' || s.p[0] == '+')) {
        i++;
    }
    for (; i < s.n && is_digit(s.p[i]); i++, ndigits++) {
        take_digit(d, s.p[i], false);
    }
    if (i < s.n && s.p[i] == '.') {
        for (i++; i < s.n && is_digit(s.p[i]); i++, ndigits++) {
            take_digit(d, s.p[i], true);
        }
    }
    if (ndigits == 0) {
        return false;
    }
    if (i < s.n && (s.p[i] == 'e' || s.p[i] == 'E')) {
        i++;
        bool neg = i < s.n && s.p[i] == '-';
        if (i < s.n && (s.p[i] == '-' || s.p[i] == '+')) {
            i++;
        }
        if (i == s.n) {
            return false;
        }
        int64_t e = 0;
        for (; i < s.n && is_digit(s.p[i]); i++) {
            e = e < EXPONENT_MAX ? e * 10 + (s.p[i] - '0') : e;
        }
        d->exp10 += neg ? -e : e;
    }
    return i == s.n;
}

static bool small_decimal(const struct decimal *d, double *ret)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (d->n > 15 || d->exp10 < -22 || d->exp10 > 22) {
        return false;
    }
    int64_t w = 0;
    for (size_t i = 0; i < d->n; i++) {
        w = w * 10 + (d->digits[i] - '0');
    }
    double v = (double)w;
    *ret = d->exp10 < 0 ? v / powers[-d->exp10] : v * powers[d->exp10];
    return true;
}

bool parse_f64(struct slice s, double *ret)
{
    struct decimal d;
    double v;
    if (!scan_decimal(s, &d)) {
        return false;
    }
    if (d.n == 0) {
        v = 0;
    } else if (!small_decimal(&d, &v)) {
        char text[SIGNIFICANT_MAX + 32];
        size_t n = d.n;
        int64_t e = d.exp10;
        memcpy(text, d.digits, n);
        if (d.more) {
            text[n++] = '1';
            e--;
        }
        e = MAX(MIN(e, (int64_t)EXPONENT_MAX), -(int64_t)EXPONENT_MAX);
        snprintf(text + n, sizeof text - n, "e%lld", (long long)e);
        v = strtod(text, NULL);
        if (isinf(v)) {
            return false;
        }
    }
    *ret = d.negative ? -v : v;
    return true;
}

bool parse_bool(struct slice s, bool *ret)
{
    static const char *const yes[] = {"true", "True", "TRUE", "1"};
    static const char *const no[] = {"false", "False", "FALSE", "0"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (slice_is(s, yes[i])) {
            *ret = true;
            return true;
        }
        if (slice_is(s, no[i])) {
            *ret = false;
            return true;
        }
    }
    return false;
}
