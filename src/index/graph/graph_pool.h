/* graph_pool.h - candidates in an ascending array, as walks keep their pools. */
#pragma once
#include <string.h>

#include "index/graph/graph_int.h"

/* Up to here items are moved one by one to make room in a pool. */
#define SHORT_POOL 64

/* Into an ascending pool of *n items, at most ef > 0: the largest falls out. Returns where. */
static inline size_t pool_insert(uint64_t *pool, size_t *n, size_t ef, uint64_t x)
{
    size_t lo = 0, len = *n;
    if (len == ef && x > pool[ef - 1]) {
        return ef;
    }
    if (len <= SHORT_POOL) {
        size_t at = len < ef ? len : ef - 1;
        *n = at + 1;
        for (; at > 0 && pool[at - 1] > x; at--) {
            pool[at] = pool[at - 1];
        }
        pool[at] = x;
        return at;
    }
    while (len > 1) { /* branch-free: a conditional move per step */
        size_t half = len / 2;
        lo += pool[lo + half - 1] < x ? half : 0;
        len -= half;
    }
    lo += len == 1 && pool[lo] < x;
    if (lo >= ef) {
        return lo;
    }
    size_t move = (*n < ef ? *n : ef - 1) - lo;
    memmove(pool + lo + 1, pool + lo, move * sizeof *pool);
    pool[lo] = x;
    *n += *n < ef;
    return lo;
}
