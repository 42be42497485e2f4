/*
 * options.c - joins the rooms' option tables and fills them from arguments and a YAML file.
 *
 * THREADS   Start-up only.
 */
#include "main/options.h"
#include "base/log.h"
#include "base/slice.h"
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

#define YAML_DEPTH_MAX 32
#define YAML_KEY_MAX 512

struct yaml_walk {
    struct config *cfg;
    yaml_document_t doc;
    size_t unknown;
    char first_unknown[YAML_KEY_MAX];
};

static int yaml_scalar(struct yaml_walk *w, const char *key, const yaml_node_t *n,
                       struct status *st)
{
    struct slice v = slice_n(n->data.scalar.value, n->data.scalar.length);
    struct status why = STATUS_INIT;

    if (config_set(w->cfg, key, v, &why) == 0) {
        return 0;
    }
    if (why.code == ST_NOT_FOUND) {
        if (w->unknown++ == 0) {
            snprintf(w->first_unknown, sizeof w->first_unknown, "%s", key);
        }
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
        return st_fail(st, ST_INVALID, "%s: nested deeper than %d levels", prefix, YAML_DEPTH_MAX);
    }
    if (n->type == YAML_SCALAR_NODE) {
        return yaml_scalar(w, prefix, n, st);
    }
    if (n->type != YAML_MAPPING_NODE) {
        w->unknown++; /* no option is a list */
        return 0;
    }
    for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        yaml_node_t *k = yaml_document_get_node(&w->doc, p->key);
        yaml_node_t *v = yaml_document_get_node(&w->doc, p->value);
        char key[YAML_KEY_MAX];
        int len;

        if (!k || !v || k->type != YAML_SCALAR_NODE) {
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

int options_read_yaml(struct config *cfg, const char *path, struct status *st)
{
    struct yaml_walk w = { .cfg = cfg };
    yaml_parser_t parser;
    yaml_node_t *root;
    FILE *f = fopen(path, "rb");
    int rc = 0;

    if (!f) {
        return st_fail(st, ST_NOT_FOUND, "--config %s: the file cannot be opened", path);
    }
    if (!yaml_parser_initialize(&parser)) {
        fclose(f);
        return st_fail(st, ST_NO_MEMORY, "--config %s: no memory", path);
    }
    yaml_parser_set_input_file(&parser, f);
    if (!yaml_parser_load(&parser, &w.doc)) {
        rc = st_fail(st, ST_INVALID, "--config %s: line %zu: %s", path,
                     parser.problem_mark.line + 1, parser.problem ? parser.problem : "not YAML");
    } else {
        root = yaml_document_get_root_node(&w.doc);
        if (root) {
            rc = yaml_node(&w, "", root, 0, st);
        }
        yaml_document_delete(&w.doc);
        if (rc != 0) {
            st_context(st, "--config %s", path);
        } else if (w.unknown) {
            LOG_W("configuration keys without a meaning here are ignored: file=%s keys=%zu first=%s",
                  path, w.unknown, w.first_unknown);
        }
    }
    yaml_parser_delete(&parser);
    fclose(f);
    return rc;
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
                 "  --port PORT            public port, gRPC and REST (19530)\n"
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
