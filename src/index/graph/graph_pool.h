/* graph_pool.h - candidates in an ascending array, as walks under a filter keep them. */
#pragma once
#include <string.h>

#include "index/graph/graph_int.h"

/* Into ascending v[0 .. *n), at most max items: the largest falls out. Returns where it went. */
static inline size_t pool_put(uint64_t *v, size_t *n, size_t max, uint64_t x)
{
    size_t at = 0, len = *n;
    while (len > 1) { /* a conditional move per step */
        size_t half = len / 2;
        at += v[at + half - 1] < x ? half : 0;
        len -= half;
    }
    at += len == 1 && v[at] < x;
    if (at >= max) {
        return at;
    }
    size_t end = *n < max ? *n : max - 1;
    memmove(v + at + 1, v + at, (end - at) * sizeof *v);
    v[at] = x;
    *n = end + 1;
    return at;
}
