/*
 * alloc_torture.h - run a body again and again, with the 1st, 2nd, 3rd ... alloc_try failing.
 *
 *     ALLOC_TORTURE {
 *         struct status st = STATUS_INIT;
 *         int rc = parse(text, &tree, &st);
 *         assert_true(rc == 0 || rc == ST_NO_MEMORY);
 *         tree_free(tree);
 *     }
 *
 * Ends with the run in which no allocation was left to fail. The body must not `break` or `goto`
 * out; `return` only to end the test. What the sanitizer finds is part of the test: a leak on a
 * failure path shows at exit.
 * ALLOC_TORTURE_RUN is the number of the run, 1 for the first.
 */
#pragma once
#include "base/alloc.h"

#define ALLOC_TORTURE_RUNS_MAX 100000 /* a body that allocates in every retry would never end */

static inline bool alloc_torture_next(long *run, bool *done)
{
    if (*run > 0) {
        *done = alloc_fail_pending();
        alloc_fail_after(0);
        CHECK(*run < ALLOC_TORTURE_RUNS_MAX);
    }
    if (*done) {
        return false;
    }
    alloc_fail_after(++*run);
    return true;
}

#define ALLOC_TORTURE                                                                              \
    for (long ALLOC_TORTURE_RUN = 0, at_once_ = 1; at_once_; at_once_ = 0)                         \
        for (bool at_done_ = false; alloc_torture_next(&ALLOC_TORTURE_RUN, &at_done_);)
