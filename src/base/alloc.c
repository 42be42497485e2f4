/*
 * alloc.c - the only callers of malloc and its family.
 *
 * THREADS  Any. The failure counter of tests is one atomic for the whole process.
 */
#include "base/alloc.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Allocations left until the one that fails; 0: none will. */
static atomic_long fail_in;

NORETURN COLD static void out_of_memory(size_t n)
{
    fprintf(stderr, "out of memory: %zu bytes\n", n);
    abort();
}

void *xalloc(size_t n)
{
    void *p = calloc(1, n ? n : 1);
    if (UNLIKELY(!p)) {
        out_of_memory(n);
    }
    return p;
}

void *xrealloc(void *p, size_t n)
{
    void *q = realloc(p, n ? n : 1);
    if (UNLIKELY(!q)) {
        out_of_memory(n);
    }
    return q;
}

char *xstrndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *d = xrealloc(NULL, len + 1);
    memcpy(d, s, len);
    d[len] = '\0';
    return d;
}

char *xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}

/* Relaxed: a test counts its own thread's allocations, or accepts a race for the n-th. */
static bool must_fail(void)
{
    long left = atomic_load_explicit(&fail_in, memory_order_relaxed);
    while (UNLIKELY(left > 0)) {
        if (atomic_compare_exchange_weak_explicit(&fail_in, &left, left - 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            return left == 1;
        }
    }
    return false;
}

void *alloc_try(size_t n)
{
    return must_fail() ? NULL : malloc(n ? n : 1);
}

void *alloc_try_zero(size_t n)
{
    return must_fail() ? NULL : calloc(1, n ? n : 1);
}

void *alloc_try_aligned(size_t align, size_t n)
{
    void *p = NULL;
    if (must_fail() || posix_memalign(&p, align, n ? n : 1) != 0) {
        return NULL;
    }
    return p;
}

void *realloc_try(void *p, size_t n)
{
    return must_fail() ? NULL : realloc(p, n ? n : 1);
}

void mem_free(void *p)
{
    free(p);
}

void alloc_fail_after(long n)
{
    atomic_store_explicit(&fail_in, n, memory_order_relaxed);
}

bool alloc_fail_pending(void)
{
    return atomic_load_explicit(&fail_in, memory_order_relaxed) > 0;
}
