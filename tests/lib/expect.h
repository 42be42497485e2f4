/* expect.h - calls that must succeed or fail, without a status variable in every test. */
#pragma once
#include "unit.h"
#include "base/status.h"

/* The expression passes `st`:  OK(wal_open(&opts, &w, st)); */
#define OK(expr)                                                                                   \
    do {                                                                                           \
        struct status ok_st_ = STATUS_INIT, *st = &ok_st_;                                         \
        if ((expr) != 0) {                                                                         \
            fail_msg("%s: %s", #expr, ok_st_.msg);                                                 \
        }                                                                                          \
    } while (0)
/* The expression uses `st`; its message must hold text. */
#define FAILS(expr, want, text)                                                                    \
    do {                                                                                           \
        struct status no_st_ = STATUS_INIT, *st = &no_st_;                                         \
        assert_int_equal((expr), (want));                                                          \
        assert_int_equal(no_st_.code, (want));                                                     \
        if (!strstr(no_st_.msg, (text))) {                                                         \
            fail_msg("\"%s\" does not mention \"%s\"", no_st_.msg, (text));                        \
        }                                                                                          \
    } while (0)
