/*
 * json_find.c - the value at a path of a JSON cell, without looking into what lies beside it.
 *
 * base/json.h parses every value it passes: numbers, UTF-8, nested containers. A filter wants one
 * value of each row, and the cells were validated when they came in, so values beside the path are
 * skipped by their brackets and quotes alone (2 to 3 times faster over cells of some 100 bytes).
 * Damaged text gives a wrong answer or none, and is never read past its end. Of members with one
 * name the last wins, as everywhere.
 *
 * THREADS  pure.
 */
#include "query/eval_int.h"

#define LOST SIZE_MAX

static inline bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static inline size_t skip_blanks(struct slice t, size_t i)
{
    while (i < t.n && is_blank(t.p[i])) {
        i++;
    }
    return i;
}

/* t.p[i] is a quote; the place behind its partner, or LOST. */
static inline size_t skip_string(struct slice t, size_t i, bool *escaped)
{
    for (i++; i < t.n; i++) {
        if (t.p[i] == '"') {
            return i + 1;
        }
        if (t.p[i] == '\\') {
            *escaped = true;
            i++;
        }
    }
    return LOST;
}

static size_t skip_container(struct slice t, size_t i)
{
    size_t depth = 0;
    bool escaped;
    while (i < t.n) {
        char c = t.p[i];
        if (c == '"') {
            i = skip_string(t, i, &escaped);
            if (i == LOST) {
                return LOST;
            }
            continue;
        }
        i++;
        if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            if (--depth == 0) {
                return i;
            }
        }
    }
    return LOST;
}

static size_t skip_value(struct slice t, size_t i)
{
    bool escaped;
    if (i >= t.n) {
        return LOST;
    }
    char c = t.p[i];
    if (c == '"') {
        return skip_string(t, i, &escaped);
    }
    if (c == '{' || c == '[') {
        return skip_container(t, i);
    }
    while (i < t.n && t.p[i] != ',' && t.p[i] != '}' && t.p[i] != ']') {
        i++;
    }
    return i;
}

static bool key_is(struct slice t, size_t from, size_t end, bool escaped, struct slice key)
{
    struct slice raw = slice_n(t.p + from, end - from);
    if (!escaped) {
        return slice_eq(slice_n(raw.p + 1, raw.n - 2), key);
    }
    struct json_value v = {.type = JSON_STRING, .raw = raw, .escaped = true};
    return json_string_eq(&v, key);
}

/* t.p[i] opens an object; where the value of its member begins, or LOST. */
static size_t find_member(struct slice t, size_t i, struct slice key)
{
    size_t found = LOST;
    for (i = skip_blanks(t, i + 1); i < t.n && t.p[i] == '"';) {
        bool escaped = false;
        size_t from = i, end = skip_string(t, i, &escaped);
        if (end == LOST) {
            return LOST;
        }
        i = skip_blanks(t, end);
        if (i >= t.n || t.p[i] != ':') {
            return LOST;
        }
        i = skip_blanks(t, i + 1);
        if (key_is(t, from, end, escaped, key)) {
            found = i;
        }
        i = skip_value(t, i);
        if (i == LOST) {
            return found;
        }
        i = skip_blanks(t, i);
        if (i >= t.n || t.p[i] != ',') {
            break;
        }
        i = skip_blanks(t, i + 1);
    }
    return found;
}

static size_t find_element(struct slice t, size_t i, uint32_t index)
{
    i = skip_blanks(t, i + 1);
    for (uint32_t k = 0; k < index; k++) {
        i = skip_value(t, i);
        i = i == LOST ? LOST : skip_blanks(t, i);
        if (i == LOST || i >= t.n || t.p[i] != ',') {
            return LOST;
        }
        i = skip_blanks(t, i + 1);
    }
    return i < t.n && t.p[i] != ']' ? i : LOST;
}

bool eval__json_find(const struct operand *o, struct slice cell, struct json_value *ret)
{
    size_t i = skip_blanks(cell, 0);
    for (uint32_t k = 0; k < o->nsteps; k++) {
        const struct path_step *s = &o->steps[k];
        if (i >= cell.n || cell.p[i] != (s->is_index ? '[' : '{')) {
            return false;
        }
        i = s->is_index ? find_element(cell, i, s->index) : find_member(cell, i, s->key);
        if (i == LOST) {
            return false;
        }
    }
    struct slice rest = slice_n(cell.p + i, cell.n - i);
    if (rest.n && (rest.p[0] == '{' || rest.p[0] == '[')) {
        *ret =
            (struct json_value){.type = rest.p[0] == '{' ? JSON_OBJECT : JSON_ARRAY, .raw = rest};
        return true;
    }
    return rest.n > 0 && json_parse(rest, ret) && ret->type != JSON_NULL;
}
