/*
 * config.h - options as rows of tables.
 *
 * Each room that has options keeps a <room>_config.def of CONFIG_ROW lines; main/ joins them into
 * one table. Parsing, range checks, --help and docs/configuration.md come from the row.
 * Not thread-safe while being set; read-only afterwards (reloadable rows are re-read by their room
 * on a reload call).
 */
#pragma once
#include "base/compiler.h"
#include "base/slice.h"
#include "base/status.h"

enum config_type { CONFIG_BOOL, CONFIG_INT, CONFIG_FLOAT, CONFIG_STRING, CONFIG_CHOICE };

struct config_row {
    const char *key; /* the Milvus key where one exists: "proxy.maxNameLength" */
    enum config_type type;
    const char *def;     /* default as text */
    double min, max;     /* numbers only; equal: no limits */
    const char *choices; /* CONFIG_CHOICE: "always|interval|never" */
    const char *unit;    /* "ms", "bytes", or "" */
    bool reloadable;
    const char *help; /* one sentence */
};
/* In a .def file:
 * CONFIG_ROW("key", INT, "default", min, max, choices, "unit", reloadable, "help") */

struct config;
struct config *config_new(const struct config_row *rows, size_t n);
void config_free(struct config *cfg);
/* ST_NOT_FOUND for an unknown key; ST_INVALID names key, value and the limit. */
int config_set(struct config *cfg, const char *key, struct slice value, struct status *st);
/* Whether config_set() was never called for it. */
bool config_is_default(const struct config *cfg, const char *key);
/* The key must be a row of the right type (a bug otherwise). */
bool config_bool(const struct config *cfg, const char *key);
int64_t config_int(const struct config *cfg, const char *key);
double config_float(const struct config *cfg, const char *key);
/* Also CHOICE. Valid until the key is set again. */
const char *config_str(const struct config *cfg, const char *key);
/* Rows in table order, for help and documentation. */
const struct config_row *config_rows(const struct config *cfg, size_t *ret_n);
