/*
 * config.c - values of the options, checked against their rows.
 *
 * min == max means that a number has no limits of its own. A default that its own row refuses is a
 * bug and ends the process at start.
 */
#include "base/config.h"
#include "base/alloc.h"
#include "base/map.h"
#include "base/utf8.h"
#include <string.h>

struct config_value {
    const struct config_row *row;
    bool is_set;
    union {
        bool b;
        int64_t i;
        double f;
    };
    char *s; /* STRING and CHOICE */
};

struct config {
    const struct config_row *rows;
    size_t n;
    struct config_value *values; /* in row order */
    struct str_map *by_key;      /* -> struct config_value */
};

static const char *suffix(const struct config_row *row)
{
    return row->unit ? row->unit : "";
}

static int check_range(const struct config_row *row, double v, struct slice text, struct status *st)
{
    if (row->min == row->max || (v >= row->min && v <= row->max)) {
        return 0;
    }
    bool low = v < row->min;
    return st_fail(st, ST_INVALID, "%s: %.*s is %s %.17g%s%s", row->key, SLICE_ARG(text),
                   low ? "below the minimum" : "above the maximum", low ? row->min : row->max,
                   *suffix(row) ? " " : "", suffix(row));
}

static bool is_choice(const char *choices, struct slice text)
{
    const char *at = choices;
    for (;;) {
        size_t len = strcspn(at, "|");
        if (slice_eq(slice_n(at, len), text)) {
            return true;
        }
        if (at[len] == '\0') {
            return false;
        }
        at += len + 1;
    }
}

/* Parses text into *v; *v is untouched on failure. */
static int parse_value(const struct config_row *row, struct slice text, struct config_value *v,
                       struct status *st)
{
    int rc = 0;
    bool b;
    int64_t i;
    double f;
    switch (row->type) {
    case CONFIG_BOOL:
        if (!parse_bool(text, &b)) {
            FAIL(st, ST_INVALID, "%s: \"%.*s\" is neither true nor false", row->key,
                 SLICE_ARG(text));
        }
        v->b = b;
        break;
    case CONFIG_INT:
        if (!parse_i64(text, &i)) {
            FAIL(st, ST_INVALID, "%s: \"%.*s\" is not an integer", row->key, SLICE_ARG(text));
        }
        TRY(check_range(row, (double)i, text, st));
        v->i = i;
        break;
    case CONFIG_FLOAT:
        if (!parse_f64(text, &f)) {
            FAIL(st, ST_INVALID, "%s: \"%.*s\" is not a number", row->key, SLICE_ARG(text));
        }
        TRY(check_range(row, f, text, st));
        v->f = f;
        break;
    case CONFIG_CHOICE:
        if (!is_choice(row->choices, text)) {
            FAIL(st, ST_INVALID, "%s: \"%.*s\" is not one of %s", row->key, SLICE_ARG(text),
                 row->choices);
        }
        mem_free(v->s);
        v->s = xstrndup(text.p, text.n);
        break;
    case CONFIG_STRING:
        if (!utf8_valid(text) || memchr(text.p ? text.p : "", 0, text.n)) {
            FAIL(st, ST_INVALID, "%s: the value is not text in UTF-8", row->key);
        }
        mem_free(v->s);
        v->s = xstrndup(text.p ? text.p : "", text.n);
        break;
    }
out:
    return rc;
}

struct config *config_new(const struct config_row *rows, size_t n)
{
    struct config *cfg = xalloc(sizeof *cfg);
    struct status st = STATUS_INIT;
    cfg->rows = rows;
    cfg->n = n;
    cfg->values = xalloc(n * sizeof *cfg->values);
    cfg->by_key = str_map_new();
    for (size_t i = 0; i < n; i++) {
        struct config_value *v = &cfg->values[i];
        v->row = &rows[i];
        CHECK(parse_value(&rows[i], slice_of(rows[i].def ? rows[i].def : ""), v, &st) == 0);
        CHECK(str_map_put(cfg->by_key, slice_of(rows[i].key), v) == NULL);
    }
    return cfg;
}

void config_free(struct config *cfg)
{
    if (!cfg) {
        return;
    }
    for (size_t i = 0; i < cfg->n; i++) {
        mem_free(cfg->values[i].s);
    }
    mem_free(cfg->values);
    str_map_free(cfg->by_key, NULL);
    mem_free(cfg);
}

int config_set(struct config *cfg, const char *key, struct slice value, struct status *st)
{
    struct config_value *v = str_map_get(cfg->by_key, slice_of(key));
    if (!v) {
        return st_fail(st, ST_NOT_FOUND, "there is no option %s", key);
    }
    int rc = parse_value(v->row, value, v, st);
    if (rc == 0) {
        v->is_set = true;
    }
    return rc;
}

static const struct config_value *value_of(const struct config *cfg, const char *key)
{
    const struct config_value *v = str_map_get(cfg->by_key, slice_of(key));
    CHECK(v != NULL);
    return v;
}

bool config_is_default(const struct config *cfg, const char *key)
{
    return !value_of(cfg, key)->is_set;
}

bool config_bool(const struct config *cfg, const char *key)
{
    const struct config_value *v = value_of(cfg, key);
    CHECK(v->row->type == CONFIG_BOOL);
    return v->b;
}

int64_t config_int(const struct config *cfg, const char *key)
{
    const struct config_value *v = value_of(cfg, key);
    CHECK(v->row->type == CONFIG_INT);
    return v->i;
}

double config_float(const struct config *cfg, const char *key)
{
    const struct config_value *v = value_of(cfg, key);
    CHECK(v->row->type == CONFIG_FLOAT);
    return v->f;
}

const char *config_str(const struct config *cfg, const char *key)
{
    const struct config_value *v = value_of(cfg, key);
    CHECK(v->row->type == CONFIG_STRING || v->row->type == CONFIG_CHOICE);
    return v->s;
}

const struct config_row *config_rows(const struct config *cfg, size_t *ret_n)
{
    *ret_n = cfg->n;
    return cfg->rows;
}
