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

/* m items, which are put in order, into ascending v[0 .. *n), at most max: what is there moves
 * once, however many come. Returns where the first went. */
static inline size_t pool_merge(uint64_t *v, size_t *n, size_t max, uint64_t *x, size_t m)
{
    for (size_t i = 1; i < m; i++) {
        uint64_t y = x[i];
        size_t at = i;
        for (; at > 0 && x[at - 1] > y; at--) {
            x[at] = x[at - 1];
        }
        x[at] = y;
    }
    size_t have = *n, to = MIN(have + m, max);
    for (size_t over = have + m - to; over > 0; over--) { /* the largest of both fall out */
        const bool mine = m > 0 && (have == 0 || x[m - 1] > v[have - 1]);
        m -= mine;
        have -= !mine;
    }
    *n = to;
    while (m > 0) {
        const uint64_t y = x[--m];
        size_t at = 0, len = have;
        while (len > 1) {
            size_t half = len / 2;
            at += v[at + half - 1] < y ? half : 0;
            len -= half;
        }
        at += len == 1 && v[at] < y;
        to -= have - at;
        memmove(v + to, v + at, (have - at) * sizeof *v);
        have = at;
        v[--to] = y;
    }
    return to;
}
