/* unit.h - what every cmocka test includes, and a folder of its own for tests that use the disk. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include "base/alloc.h"
#include "base/file.h"
#include "base/status.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Fails the test with the message of st. */
#define ASSERT_OK(expr)                                                                            \
    do {                                                                                           \
        if ((expr) != 0) {                                                                         \
            fail_msg("%s: %s", #expr, st.msg);                                                     \
        }                                                                                          \
    } while (0)

static inline char *unit_tmp_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *path = path_join(base && *base ? base : "/tmp", "elanus-test-XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void unit_tmp_remove(char *path)
{
    struct status st = STATUS_INIT;
    ASSERT_OK(path_remove_tree(path, &st));
    mem_free(path);
}
