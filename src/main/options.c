/*
 * options.c - joins the rooms' option tables and fills them from arguments and a YAML file.
 *
 * THREADS   Start-up only.
 */
#include "main/options.h"
#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include <string.h>
#include <yaml.h>

#define LOG_ROOM "main"

#define CONFIG_ROW(key, type, def, min, max, choices, unit, reloadable, help)                      \
    { key, CONFIG_##type, def, min, max, choices, unit, reloadable, help },
static const struct config_row rows[] = {
#include "main/main_config.def"
#include "proxy/proxy_config.def"
#include "coord/coord_config.def"
#include "wal/wal_config.def"
};
#undef CONFIG_ROW

struct config *options_new(void)
{
    return config_new(rows, ARRAY_LEN(rows));
}

/* ---- YAML ---- */

#define YAML_BYTES_MAX ((size_t)16 << 20)
#define YAML_DEPTH_MAX 32
#define YAML_NODES_MAX 100000
#define YAML_KEY_MAX 512

struct yaml_walk {
    struct config *cfg;
    yaml_document_t doc;
    size_t nodes;   /* visited: aliases make a small text a large tree */
    size_t unknown; /* keys that are no option */
    char first_unknown[YAML_KEY_MAX];
};

/* "key:" and "key: null" say nothing; "key: ''" is an empty text. */
static bool yaml_is_null(const yaml_node_t *n)
{
    struct slice v = slice_n(n->data.scalar.value, n->data.scalar.length);

    return n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (v.n == 0 || slice_is(v, "~") || slice_is(v, "null"));
}

static bool is_option(const struct config *cfg, const char *key)
{
    size_t n;
    const struct config_row *r = config_rows(cfg, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(r[i].key, key) == 0) {
            return true;
        }
    }
    return false;
}

static void yaml_unknown(struct yaml_walk *w, const char *key)
{
    if (w->unknown++ == 0) {
        snprintf(w->first_unknown, sizeof w->first_unknown, "%s", key);
    }
}

static int yaml_scalar(struct yaml_walk *w, const char *key, const yaml_node_t *n,
                       struct status *st)
{
    struct status why = STATUS_INIT;

    if (yaml_is_null(n)) {
        return 0;
    }
    if (config_set(w->cfg, key, slice_n(n->data.scalar.value, n->data.scalar.length), &why) == 0) {
        return 0;
    }
    if (why.code == ST_NOT_FOUND) {
        yaml_unknown(w, key);
        return 0;
    }
    *st = why;
    return st->code;
}

static int yaml_node(struct yaml_walk *w, const char *prefix, yaml_node_t *n, int depth,
                     struct status *st)
{
    int rc = 0;

    if (depth > YAML_DEPTH_MAX) {
        FAIL(st, ST_INVALID, "%s: nested deeper than %d levels", prefix, YAML_DEPTH_MAX);
    }
    if (w->nodes++ >= YAML_NODES_MAX) {
        FAIL(st, ST_INVALID, "%s: more than %d values", prefix, YAML_NODES_MAX);
    }
    if (n->type == YAML_SCALAR_NODE) {
        return yaml_scalar(w, prefix, n, st);
    }
    if (n->type != YAML_MAPPING_NODE) {
        if (is_option(w->cfg, prefix)) {
            FAIL(st, ST_INVALID, "%s: a list, one value is expected", prefix);
        }
        yaml_unknown(w, prefix);
        return 0;
    }
    for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        yaml_node_t *k = yaml_document_get_node(&w->doc, p->key);
        yaml_node_t *v = yaml_document_get_node(&w->doc, p->value);
        char key[YAML_KEY_MAX];
        int len;

        if (!k || !v || k->type != YAML_SCALAR_NODE) {
            yaml_unknown(w, prefix);
            continue;
        }
        len = snprintf(key, sizeof key, "%s%s%.*s", prefix, *prefix ? "." : "",
                       (int)k->data.scalar.length, (const char *)k->data.scalar.value);
        if (len < 0 || (size_t)len >= sizeof key) {
            FAIL(st, ST_INVALID, "%s: a key is longer than %d bytes", prefix, YAML_KEY_MAX - 1);
        }
        TRY(yaml_node(w, key, v, depth + 1, st));
    }
out:
    return rc;
}

static int yaml_root(struct yaml_walk *w, struct status *st)
{
    yaml_node_t *root = yaml_document_get_root_node(&w->doc);

    if (!root || (root->type == YAML_SCALAR_NODE && yaml_is_null(root))) {
        return 0; /* nothing but comments */
    }
    if (root->type != YAML_MAPPING_NODE) {
        return st_fail(st, ST_INVALID, "keys with values are expected");
    }
    return yaml_node(w, "", root, 0, st);
}

int options_parse_yaml(struct config *cfg, struct slice text, const char *name, struct status *st)
{
    struct yaml_walk w = { .cfg = cfg };
    yaml_parser_t parser;
    int rc = 0;

    if (!yaml_parser_initialize(&parser)) {
        return st_fail(st, ST_NO_MEMORY, "%s: no memory", name);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
    if (!yaml_parser_load(&parser, &w.doc)) {
        rc = st_fail(st, ST_INVALID, "%s: line %zu: %s", name, parser.problem_mark.line + 1,
                     parser.problem ? parser.problem : "not YAML");
    } else {
        rc = yaml_root(&w, st);
        yaml_document_delete(&w.doc);
        if (rc != 0) {
            st_context(st, "%s", name);
        } else if (w.unknown) {
            LOG_W("configuration keys without a meaning here are ignored: file=%s keys=%zu "
                  "first=%s", name, w.unknown, w.first_unknown);
        }
    }
    yaml_parser_delete(&parser);
    return rc;
}

int options_read_yaml(struct config *cfg, const char *path, struct status *st)
{
    uint8_t *p = NULL;
    size_t n = 0;
    int rc;

    TRY(file_read_all(path, YAML_BYTES_MAX, &p, &n, st));
    TRY(options_parse_yaml(cfg, slice_n(p, n), path, st));
out:
    mem_free(p);
    return rc != 0 ? st_context(st, "--config") : 0;
}

/* ---- arguments ---- */

static const struct flag {
    const char *flag, *key;
} flags[] = {
    { "--data", "localStorage.path" },
    { "--address", "proxy.ip" },
    { "--port", "proxy.port" },
    { "--management-port", "management.port" },
    { "--log-level", "log.level" },
};

static int set_pair(struct config *cfg, const char *pair, struct status *st)
{
    const char *eq = strchr(pair, '=');
    char key[YAML_KEY_MAX];

    if (!eq || eq == pair || (size_t)(eq - pair) >= sizeof key) {
        return st_fail(st, ST_INVALID, "--set %s: key=value is expected", pair);
    }
    memcpy(key, pair, (size_t)(eq - pair));
    key[eq - pair] = '\0';
    if (config_set(cfg, key, slice_of(eq + 1), st) != 0) {
        return st_context(st, "--set %s", pair);
    }
    return 0;
}

static int one_flag(struct config *cfg, const char *name, const char *value,
                    struct options_flags *ret, struct status *st)
{
    if (strcmp(name, "--set") == 0) {
        return set_pair(cfg, value, st);
    }
    if (strcmp(name, "--services") == 0) {
        ret->remote_services = strcmp(value, "remote") == 0;
        return ret->remote_services || strcmp(value, "local") == 0
                   ? 0
                   : st_fail(st, ST_INVALID, "--services %s: local or remote is expected", value);
    }
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (strcmp(name, flags[i].flag) == 0) {
            return config_set(cfg, flags[i].key, slice_of(value), st) == 0
                       ? 0
                       : st_context(st, "%s", name);
        }
    }
    return st_fail(st, ST_INVALID, "%s is no option; try --help", name);
}

int options_parse(struct config *cfg, int argc, char **argv, struct options_flags *ret,
                  struct status *st)
{
    int rc = 0;

    *ret = (struct options_flags){ 0 };
    /* The file first, wherever it stands: arguments override it. */
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < argc; i++) {
            const char *name = argv[i];
            if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
                ret->help = true;
                continue;
            }
            if (i + 1 >= argc) {
                FAIL(st, ST_INVALID, "%s needs a value; try --help", name);
            }
            i++;
            if (strcmp(name, "--config") == 0) {
                if (pass == 0) {
                    TRY(options_read_yaml(cfg, argv[i], st));
                }
            } else if (pass == 1) {
                TRY(one_flag(cfg, name, argv[i], ret, st));
            }
        }
    }
out:
    return rc;
}

/* ---- help ---- */

void options_help(const struct config *cfg, FILE *out)
{
    size_t n;
    const struct config_row *r = config_rows(cfg, &n);

    fprintf(out, "usage: elanus run standalone [options]\n\n"
                 "  --data DIR             folder of all data (./elanus-data)\n"
                 "  --address ADDRESS      address to listen on (0.0.0.0)\n"
                 "  --port PORT            public port, gRPC (19530)\n"
                 "  --management-port PORT health, metrics, version (9091)\n"
                 "  --config FILE          YAML with the keys below; a milvus.yaml will do\n"
                 "  --set KEY=VALUE        one key; may be repeated\n"
                 "  --log-level LEVEL      debug, info, warn, error (info)\n"
                 "  --services local|remote  how roles reach each other: by calls, or over sockets\n\n"
                 "keys (default):\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "  %-46s %s (%s%s%s)\n", r[i].key, r[i].help, r[i].def,
                r[i].unit && *r[i].unit ? " " : "", r[i].unit ? r[i].unit : "");
    }
}

void options_markdown(const struct config *cfg, FILE *out)
{
    static const char *const types[] = { "bool", "integer", "number", "text", "choice" };
    size_t n;
    const struct config_row *r = config_rows(cfg, &n);

    fprintf(out, "# Configuration\n\n"
                 "Made by `elanus help configuration`; do not edit. Keys go into a YAML file\n"
                 "(`--config FILE`, nested maps as in `milvus.yaml`) or on the command line\n"
                 "(`--set key=value`). Arguments override the file. Where Milvus has an option of the\n"
                 "same meaning, the key is Milvus's. Keys of a file that mean nothing here are warned\n"
                 "about once and ignored.\n\n"
                 "| key | type | default | range | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < n; i++) {
        char range[256] = "";
        if (r[i].type == CONFIG_CHOICE) {
            size_t len = 0;
            for (const char *c = r[i].choices; *c && len + 3 < sizeof range; c++) {
                if (*c == '|') {
                    range[len++] = ',';
                    range[len++] = ' ';
                } else {
                    range[len++] = *c;
                }
            }
            range[len] = '\0';
        } else if (r[i].min != r[i].max) {
            snprintf(range, sizeof range, "%.15g to %.15g", r[i].min, r[i].max);
        }
        fprintf(out, "| `%s` | %s | %s%s%s | %s | %s |\n", r[i].key, types[r[i].type],
                *r[i].def ? r[i].def : "(empty)", r[i].unit && *r[i].unit ? " " : "",
                r[i].unit ? r[i].unit : "", range, r[i].help);
    }
}
