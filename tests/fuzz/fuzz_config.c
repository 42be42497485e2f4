/*
 * fuzz_config.c - configuration files: options_parse_yaml().
 *
 * Whatever the file says, every option keeps a value within its limits; a file that is refused says
 * why, in words that name it.
 */
#include "base/alloc.h"
#include "base/log.h"
#include "main/options.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_values(const struct config *cfg)
{
    size_t n;
    const struct config_row *r = config_rows(cfg, &n);
    for (size_t i = 0; i < n; i++) {
        double v = r[i].min;
        if (r[i].type == CONFIG_INT) {
            v = (double)config_int(cfg, r[i].key);
        } else if (r[i].type == CONFIG_FLOAT) {
            v = config_float(cfg, r[i].key);
        } else if (r[i].type == CONFIG_BOOL) {
            (void)config_bool(cfg, r[i].key);
        } else {
            CHECK(config_str(cfg, r[i].key) != NULL);
        }
        CHECK(r[i].min == r[i].max || (v >= r[i].min && v <= r[i].max));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *cfg = options_new();
    struct status st = STATUS_INIT;
    char *copy = xalloc(size ? size : 1);
    log_threshold = LOG_ERROR;
    if (size) {
        memcpy(copy, data, size);
    }
    if (options_parse_yaml(cfg, slice_n(copy, size), "x.yaml", &st) != 0) {
        CHECK(st.code && strncmp(st.msg, "x.yaml: ", 8) == 0);
    }
    check_values(cfg);
    config_free(cfg);
    mem_free(copy);
    return 0;
}
