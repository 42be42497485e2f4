/* test_config.c - options: defaults, ranges, messages. */
#include "unit.h"
#include "base/config.h"

static const struct config_row rows[] = {
    {"net.port", CONFIG_INT, "19530", 1, 65535, NULL, "", false, "Port."},
    {"wal.sync", CONFIG_CHOICE, "always", 0, 0, "always|interval|never", "", false,
     "When to sync."},
    {"q.ratio", CONFIG_FLOAT, "0.5", 0, 1, NULL, "", true, "Ratio."},
    {"auth.on", CONFIG_BOOL, "false", 0, 0, NULL, "", false, "Users must log in."},
    {"data.dir", CONFIG_STRING, "", 0, 0, NULL, "", false, "Folder."},
    {"cache.size", CONFIG_INT, "-7", 0, 0, NULL, "bytes", true, "Any number."},
    {"q.delay", CONFIG_INT, "10", 5, 50, NULL, "ms", true, "Delay."},
};

static void test_config_when_nothing_is_set_then_defaults(void **state)
{
    size_t n;
    struct config *cfg = config_new(rows, ARRAY_LEN(rows));
    assert_int_equal(config_int(cfg, "net.port"), 19530);
    assert_string_equal(config_str(cfg, "wal.sync"), "always");
    assert_true(config_float(cfg, "q.ratio") == 0.5);
    assert_false(config_bool(cfg, "auth.on"));
    assert_string_equal(config_str(cfg, "data.dir"), "");
    assert_int_equal(config_int(cfg, "cache.size"), -7);
    assert_true(config_is_default(cfg, "net.port"));
    assert_ptr_equal(config_rows(cfg, &n), rows);
    assert_int_equal(n, ARRAY_LEN(rows));
    config_free(cfg);
    config_free(NULL);
}

static void test_config_when_set_then_value_is_kept(void **state)
{
    struct status st = STATUS_INIT;
    struct config *cfg = config_new(rows, ARRAY_LEN(rows));
    ASSERT_OK(config_set(cfg, "net.port", SLICE_LIT("65535"), &st));
    ASSERT_OK(config_set(cfg, "wal.sync", SLICE_LIT("never"), &st));
    ASSERT_OK(config_set(cfg, "q.ratio", SLICE_LIT("1"), &st));
    ASSERT_OK(config_set(cfg, "auth.on", SLICE_LIT("True"), &st));
    ASSERT_OK(config_set(cfg, "data.dir", SLICE_LIT("/dä"), &st));
    ASSERT_OK(config_set(cfg, "data.dir", slice_n(NULL, 0), &st));
    ASSERT_OK(config_set(cfg, "cache.size", SLICE_LIT("-9223372036854775808"), &st));
    assert_int_equal(config_int(cfg, "net.port"), 65535);
    assert_string_equal(config_str(cfg, "wal.sync"), "never");
    assert_true(config_float(cfg, "q.ratio") == 1);
    assert_true(config_bool(cfg, "auth.on"));
    assert_string_equal(config_str(cfg, "data.dir"), "");
    assert_true(config_int(cfg, "cache.size") == INT64_MIN);
    assert_false(config_is_default(cfg, "net.port"));
    assert_true(config_is_default(cfg, "q.delay"));
    config_free(cfg);
}

static void test_config_when_value_is_bad_then_refused_with_reason(void **state)
{
    static const struct {
        const char *key, *value, *why;
    } bad[] = {
        {"net.port", "0", "0 is below the minimum 1"},
        {"net.port", "65536", "65536 is above the maximum 65535"},
        {"net.port", "12x", "\"12x\" is not an integer"},
        {"net.port", "", "not an integer"},
        {"net.port", "99999999999999999999", "not an integer"},
        {"q.delay", "51", "51 is above the maximum 50 ms"},
        {"q.ratio", "1.01", "above the maximum 1"},
        {"q.ratio", "nan", "not a number"},
        {"wal.sync", "alway", "not one of always|interval|never"},
        {"wal.sync", "", "not one of"},
        {"wal.sync", "always|interval", "not one of"},
        {"auth.on", "yes", "neither true nor false"},
        {"data.dir", "\xff", "UTF-8"},
    };
    struct config *cfg = config_new(rows, ARRAY_LEN(rows));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct status st = STATUS_INIT;
        assert_int_equal(config_set(cfg, bad[i].key, slice_of(bad[i].value), &st), ST_INVALID);
        assert_non_null(strstr(st.msg, bad[i].key));
        if (!strstr(st.msg, bad[i].why)) {
            fail_msg("\"%s\" is not in \"%s\"", bad[i].why, st.msg);
        }
        assert_true(config_is_default(cfg, bad[i].key));
    }
    struct status st = STATUS_INIT;
    assert_int_equal(config_set(cfg, "data.dir", SLICE_LIT("a\0b"), &st), ST_INVALID);
    assert_int_equal(config_set(cfg, "no.such", SLICE_LIT("1"), &st), ST_NOT_FOUND);
    assert_non_null(strstr(st.msg, "no.such"));
    assert_int_equal(config_int(cfg, "net.port"), 19530);
    assert_string_equal(config_str(cfg, "wal.sync"), "always");
    config_free(cfg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_when_nothing_is_set_then_defaults),
        cmocka_unit_test(test_config_when_set_then_value_is_kept),
        cmocka_unit_test(test_config_when_value_is_bad_then_refused_with_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
