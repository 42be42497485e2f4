/* utf8.h - checks on text from outside. */
#pragma once
#include "base/compiler.h"
#include "base/slice.h"

/* Well-formed UTF-8: no overlong forms, surrogates or values above U+10FFFF. */
bool utf8_valid(struct slice s);
/* Length of the well-formed character s begins with, or 0. */
size_t utf8_sequence(struct slice s);
/* Decimal integers and doubles from the whole of s; false when anything is left over or out of
 * range. No locale, no leading blanks, no hex. */
bool parse_i64(struct slice s, int64_t *ret);
bool parse_f64(struct slice s, double *ret);
/* "true", "True", "TRUE", "1" and their opposites. */
bool parse_bool(struct slice s, bool *ret);
