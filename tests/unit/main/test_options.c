/* test_options.c - from arguments and YAML to one table: who wins, what is refused. */
#include "unit.h"
#include "main/options.h"
#include <fcntl.h>
#include <stdio.h>

struct fx {
    struct config *cfg;
    char *dir, *log;
    int saved; /* standard error as it was */
};

static int setup(void **state)
{
    struct fx *fx = xalloc(sizeof *fx);
    fx->cfg = options_new();
    fx->dir = unit_tmp_dir();
    fx->log = path_join(fx->dir, "stderr");
    fx->saved = -1;
    *state = fx;
    return 0;
}

static int teardown(void **state)
{
    struct fx *fx = *state;
    config_free(fx->cfg);
    mem_free(fx->log);
    unit_tmp_remove(fx->dir);
    mem_free(fx);
    return 0;
}

/* What the functions log goes to a file until ... */
static void capture(struct fx *fx)
{
    int fd = open(fx->log, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    fx->saved = dup(2);
    assert_int_equal(dup2(fd, 2), 2);
    close(fd);
}

/* ... here, where it is the answer; caller frees. */
static char *captured(struct fx *fx)
{
    struct status st = STATUS_INIT;
    uint8_t *p;
    size_t n;
    assert_int_equal(dup2(fx->saved, 2), 2);
    close(fx->saved);
    ASSERT_OK(file_read_all(fx->log, 1 << 20, &p, &n, &st));
    char *text = xstrndup((char *)p, n);
    mem_free(p);
    return text;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) {
        n++;
    }
    return n;
}

static const char *write_file(struct fx *fx, const char *text, char path[512])
{
    struct status st = STATUS_INIT;
    snprintf(path, 512, "%s/elanus.yaml", fx->dir);
    ASSERT_OK(file_write_atomic(path, text, strlen(text), &st));
    return path;
}

static int yaml(struct fx *fx, const char *text, struct status *st)
{
    *st = (struct status)STATUS_INIT;
    return options_parse_yaml(fx->cfg, slice_of(text), "a.yaml", st);
}

static void refuse_yaml(struct fx *fx, const char *text, const char *part)
{
    struct status st;
    assert_int_equal(yaml(fx, text, &st), ST_INVALID);
    if (!strstr(st.msg, part) || strncmp(st.msg, "a.yaml: ", 8) != 0) {
        fail_msg("\"%s\" for \"%s\": no \"%s\"", st.msg, text, part);
    }
}

#define PARSE(fx, ret, st, ...)                                                                    \
    options_parse((fx)->cfg, (int)ARRAY_LEN(((const char *[]){ __VA_ARGS__ })),                    \
                  (char **)(uintptr_t)(const char *[]){ __VA_ARGS__ }, ret, st)
#define REFUSE(fx, part, ...)                                                                      \
    do {                                                                                           \
        struct options_flags flags_;                                                               \
        struct status st_ = STATUS_INIT;                                                           \
        assert_int_not_equal(PARSE(fx, &flags_, &st_, __VA_ARGS__), 0);                            \
        if (!strstr(st_.msg, part)) {                                                              \
            fail_msg("\"%s\" has no \"%s\"", st_.msg, part);                                       \
        }                                                                                          \
    } while (0)

/* ---- YAML ---- */

/* The shape of a milvus.yaml: most of it means nothing here, some keys have no value. */
static const char milvus_yaml[] =
    "# Licensed to somebody\n"
    "etcd:\n"
    "  endpoints: localhost:2379\n"
    "  rootPath: by-dev # where data is kept\n"
    "  log:\n"
    "    level: info\n"
    "localStorage:\n"
    "  path: /var/lib/milvus/data/\n"
    "minio:\n"
    "  address: localhost\n"
    "  port: 9000\n"
    "  useSSL: false\n"
    "mq:\n"
    "  type: default\n"
    "kafka:\n"
    "  brokerList:\n"
    "  saslUsername:\n"
    "rootCoord:\n"
    "  dmlChannelNum: 16\n"
    "  maxPartitionNum: 1024\n"
    "  ip: # the first unicast address when empty\n"
    "  port: 53100\n"
    "proxy:\n"
    "  maxNameLength: 255\n"
    "  maxDimension: 32768\n"
    "  ip:\n"
    "  port: 19530\n"
    "  internalPort: 19529\n"
    "  grpc:\n"
    "    serverMaxSendSize: 268435456\n"
    "    serverMaxRecvSize: 67108864\n"
    "  accessLog:\n"
    "    formatters:\n"
    "      base:\n"
    "        format: \"[$time_now] [ACCESS] <$user_name: $user_addr>\"\n"
    "      query:\n"
    "        methods: [\"Query\", \"Delete\"]\n"
    "dataCoord:\n"
    "  segment:\n"
    "    maxSize: 1024\n"
    "    sealProportion: 0.12\n"
    "    maxIdleTime: 600\n"
    "  gc:\n"
    "    interval: 3600\n"
    "log:\n"
    "  level: info\n"
    "  stdout: true\n"
    "tls:\n"
    "  serverPemPath: configs/cert/server.pem\n"
    "  serverKeyPath: configs/cert/server.key\n"
    "  caPemPath: configs/cert/ca.pem\n"
    "common:\n"
    "  gracefulTime: 5000\n"
    "  security:\n"
    "    authorizationEnabled: false\n"
    "    superUsers:\n"
    "    defaultRootPassword: Milvus\n"
    "    tlsMode: 0\n"
    "  threadCoreCoefficient:\n"
    "    highPriority: 10\n"
    "quotaAndLimits:\n"
    "  enabled: true\n"
    "  limits:\n"
    "    maxCollectionNum: 65536\n"
    "  dml:\n"
    "    insertRate:\n"
    "      max: -1\n";

static void test_yaml_when_file_is_a_milvus_yaml_then_taken_with_one_warning(void **state)
{
    struct fx *fx = *state;
    struct status st = STATUS_INIT;
    char path[512];
    capture(fx);
    int rc = options_read_yaml(fx->cfg, write_file(fx, milvus_yaml, path), &st);
    char *log = captured(fx);
    assert_int_equal(rc, 0);
    assert_int_equal(count(log, "\n"), 1);
    assert_non_null(strstr(log, "without a meaning here are ignored"));
    assert_non_null(strstr(log, path));
    assert_non_null(strstr(log, "first=etcd.endpoints"));
    assert_int_equal(config_int(fx->cfg, "rootCoord.dmlChannelNum"), 16);
    assert_true(config_float(fx->cfg, "dataCoord.segment.sealProportion") == 0.12);
    assert_string_equal(config_str(fx->cfg, "localStorage.path"), "/var/lib/milvus/data/");
    assert_string_equal(config_str(fx->cfg, "tls.caPemPath"), "configs/cert/ca.pem");
    assert_string_equal(config_str(fx->cfg, "proxy.ip"), "0.0.0.0"); /* "ip:" says nothing */
    assert_true(config_is_default(fx->cfg, "proxy.ip"));
    assert_false(config_is_default(fx->cfg, "proxy.port"));
    mem_free(log);
}

static void test_yaml_when_all_keys_are_known_then_no_warning(void **state)
{
    struct fx *fx = *state;
    struct status st;
    capture(fx);
    int rc = yaml(fx, "proxy: {port: 1}\nwal.sync: never\n\"log.level\": 'warn'\n", &st);
    char *log = captured(fx);
    assert_int_equal(rc, 0);
    assert_string_equal(log, "");
    assert_int_equal(config_int(fx->cfg, "proxy.port"), 1);
    assert_string_equal(config_str(fx->cfg, "wal.sync"), "never");
    assert_string_equal(config_str(fx->cfg, "log.level"), "warn");
    mem_free(log);
}

static void test_yaml_when_a_value_is_missing_then_default_and_quotes_mean_empty(void **state)
{
    struct fx *fx = *state;
    struct status st;
    assert_int_equal(yaml(fx, "proxy:\n  port:\n  ip: ~\nwal: {sync: null}\ntls:\n", &st), 0);
    assert_int_equal(config_int(fx->cfg, "proxy.port"), 19530);
    assert_true(config_is_default(fx->cfg, "proxy.ip"));
    assert_true(config_is_default(fx->cfg, "wal.sync"));
    assert_int_equal(yaml(fx, "common: {security: {defaultRootPassword: ''}}", &st), 0);
    assert_string_equal(config_str(fx->cfg, "common.security.defaultRootPassword"), "");
    assert_int_equal(yaml(fx, "", &st), 0);
    assert_int_equal(yaml(fx, "# nothing\n---\n", &st), 0);
}

static void test_yaml_when_it_is_wrong_then_says_where(void **state)
{
    struct fx *fx = *state;
    char deep[256] = "", wide[2048] = "";
    refuse_yaml(fx, "proxy:\n  port: many\n", "proxy.port: \"many\" is not an integer");
    refuse_yaml(fx, "proxy:\n  port: 70000\n", "proxy.port: 70000 is above the maximum 65535");
    refuse_yaml(fx, "proxy:\n  port: ''\n", "proxy.port: \"\" is not an integer");
    refuse_yaml(fx, "proxy:\n  port: [1, 2]\n", "proxy.port: a list");
    refuse_yaml(fx, "wal: {sync: sometimes}", "wal.sync: \"sometimes\" is not one of");
    refuse_yaml(fx, "a: b\n  c: d\n e", "line 2");
    refuse_yaml(fx, "proxy: {port: 1\n", "line 2");
    refuse_yaml(fx, "\t\tx", "line 1");
    refuse_yaml(fx, "- a\n- b\n", "keys with values are expected");
    refuse_yaml(fx, "only words", "keys with values are expected");
    refuse_yaml(fx, "a: \xff\n", "line");
    for (int i = 0; i < 40; i++) {
        strcat(deep, "{a: ");
    }
    refuse_yaml(fx, deep, "line");
    strcat(deep, "1");
    for (int i = 0; i < 40; i++) {
        strcat(deep, "}");
    }
    refuse_yaml(fx, deep, "nested deeper than 32");
    memset(wide, 'k', 600);
    strcpy(wide + 600, ": 1\n");
    refuse_yaml(fx, wide, "longer than 511");
}

static void test_yaml_when_aliases_multiply_then_ends_with_an_error(void **state)
{
    struct fx *fx = *state;
    char text[4096];
    int n = snprintf(text, sizeof text, "a0: &a0 {x: 1}\n");
    for (int i = 1; i < 20; i++) {
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "a%d: &a%d {b: *a%d, c: *a%d, d: *a%d, e: *a%d}\n", i, i, i - 1, i - 1,
                      i - 1, i - 1);
    }
    refuse_yaml(fx, text, "more than 100000 values");
    refuse_yaml(fx, "a: &a\n  b: *a\n  c: *a\n", ""); /* a circle: depth or number ends it */
}

static void test_yaml_when_the_file_is_not_there_then_says_so(void **state)
{
    struct fx *fx = *state;
    struct status st = STATUS_INIT;
    assert_int_not_equal(options_read_yaml(fx->cfg, "/no/such/file.yaml", &st), 0);
    assert_non_null(strstr(st.msg, "--config"));
    assert_non_null(strstr(st.msg, "/no/such/file.yaml"));
    st = (struct status)STATUS_INIT;
    assert_int_not_equal(options_read_yaml(fx->cfg, fx->dir, &st), 0);
    assert_non_null(strstr(st.msg, fx->dir));
}

/* ---- arguments ---- */

static void test_parse_when_file_and_arguments_differ_then_arguments_win(void **state)
{
    struct fx *fx = *state;
    struct options_flags flags;
    struct status st = STATUS_INIT;
    char path[512];
    write_file(fx, "proxy: {port: 1, maxFieldNum: 7}\nlocalStorage: {path: /a}\n", path);
    ASSERT_OK(PARSE(fx, &flags, &st, "--port", "2", "--set", "localStorage.path=/b", "--config",
                    path, "--data", "/c"));
    assert_int_equal(config_int(fx->cfg, "proxy.port"), 2);
    assert_int_equal(config_int(fx->cfg, "proxy.maxFieldNum"), 7);
    assert_string_equal(config_str(fx->cfg, "localStorage.path"), "/c");
    assert_false(flags.help || flags.remote_services);
}

static void test_parse_when_flags_are_given_then_all_are_taken(void **state)
{
    struct fx *fx = *state;
    struct options_flags flags;
    struct status st = STATUS_INIT;
    ASSERT_OK(PARSE(fx, &flags, &st, "--address", "::1", "--management-port", "0", "--port", "0",
                    "--log-level", "debug", "--services", "remote", "--set",
                    "common.security.defaultRootPassword=a=b", "--set", "tls.caPemPath="));
    assert_string_equal(config_str(fx->cfg, "proxy.ip"), "::1");
    assert_int_equal(config_int(fx->cfg, "management.port"), 0);
    assert_int_equal(config_int(fx->cfg, "proxy.port"), 0);
    assert_string_equal(config_str(fx->cfg, "log.level"), "debug");
    assert_string_equal(config_str(fx->cfg, "common.security.defaultRootPassword"), "a=b");
    assert_true(flags.remote_services);
    ASSERT_OK(PARSE(fx, &flags, &st, "--services", "local", "-h"));
    assert_true(flags.help && !flags.remote_services);
    ASSERT_OK(options_parse(fx->cfg, 0, NULL, &flags, &st));
    assert_false(flags.help);
}

static void test_parse_when_an_argument_is_wrong_then_says_which_and_why(void **state)
{
    struct fx *fx = *state;
    REFUSE(fx, "--prot is no option", "--prot", "1");
    REFUSE(fx, "standalone is no option", "standalone", "x");
    REFUSE(fx, "--port needs a value", "--port");
    REFUSE(fx, "--port: proxy.port: 65536 is above the maximum 65535", "--port", "65536");
    REFUSE(fx, "--port: proxy.port: -1 is below the minimum 0", "--port", "-1");
    REFUSE(fx, "--port: proxy.port: \"x\" is not an integer", "--port", "x");
    REFUSE(fx, "--log-level: log.level: \"loud\" is not one of debug", "--log-level", "loud");
    REFUSE(fx, "--services both: local or remote", "--services", "both");
    REFUSE(fx, "--set nothing: key=value", "--set", "nothing");
    REFUSE(fx, "--set =1: key=value", "--set", "=1");
    REFUSE(fx, "--set no.such=1: there is no option no.such", "--set", "no.such=1");
    REFUSE(fx, "wal.sync: \"\" is not one of always|interval|never", "--set", "wal.sync=");
    REFUSE(fx, "above the maximum 1", "--set", "dataCoord.segment.sealProportion=1.5");
    REFUSE(fx, "neither true nor false", "--set", "common.security.authorizationEnabled=maybe");
    REFUSE(fx, "/no/such", "--config", "/no/such");
    REFUSE(fx, "is not text", "--data", "\xff\xfe");
    assert_true(config_is_default(fx->cfg, "proxy.port"));
}

/* ---- help ---- */

static char *printed(void (*fn)(const struct config *cfg, FILE *out), const struct config *cfg)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    fn(cfg, f);
    assert_int_equal(fclose(f), 0);
    return text;
}

static void test_help_when_printed_then_has_every_key_once(void **state)
{
    struct fx *fx = *state;
    char *help = printed(options_help, fx->cfg), *page = printed(options_markdown, fx->cfg);
    size_t n;
    const struct config_row *r = config_rows(fx->cfg, &n);
    assert_true(n > 30);
    for (size_t i = 0; i < n; i++) {
        char cell[128];
        snprintf(cell, sizeof cell, "\n| `%s` |", r[i].key);
        assert_int_equal(count(page, cell), 1);
        assert_non_null(strstr(help, r[i].key));
        assert_true(r[i].help && strlen(r[i].help) > 5 && r[i].help[strlen(r[i].help) - 1] == '.');
    }
    assert_non_null(strstr(page, "always, interval, never"));
    assert_non_null(strstr(page, "0 to 65535"));
    free(help);
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
        TEST(test_yaml_when_file_is_a_milvus_yaml_then_taken_with_one_warning),
        TEST(test_yaml_when_all_keys_are_known_then_no_warning),
        TEST(test_yaml_when_a_value_is_missing_then_default_and_quotes_mean_empty),
        TEST(test_yaml_when_it_is_wrong_then_says_where),
        TEST(test_yaml_when_aliases_multiply_then_ends_with_an_error),
        TEST(test_yaml_when_the_file_is_not_there_then_says_so),
        TEST(test_parse_when_file_and_arguments_differ_then_arguments_win),
        TEST(test_parse_when_flags_are_given_then_all_are_taken),
        TEST(test_parse_when_an_argument_is_wrong_then_says_which_and_why),
        TEST(test_help_when_printed_then_has_every_key_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
