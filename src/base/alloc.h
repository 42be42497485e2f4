/* alloc.h - memory from the system: one pair for small bounded objects, one for outside sizes. */
#pragma once
#include "base/compiler.h"

/* Small, bounded objects. Never NULL: the process ends when memory is gone. Zeroed. */
void *xalloc(size_t n);
void *xrealloc(void *p, size_t n); /* not zeroed beyond the old size */
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);

/* Sizes that came from outside. NULL when memory is gone (or a test says so); not zeroed. */
void *alloc_try(size_t n) NODISCARD;
void *alloc_try_zero(size_t n) NODISCARD;
void *alloc_try_aligned(size_t align, size_t n) NODISCARD; /* align: a power of two >= 8 */
void *realloc_try(void *p, size_t n) NODISCARD;

/* Frees what any function above returned; NULL is fine. */
void mem_free(void *p);

/* Tests: the n-th following alloc_try*, realloc_try fails (1 = the next); 0 switches off. */
void alloc_fail_after(long n);
/* Tests: whether the failure asked for has not happened yet. */
bool alloc_fail_pending(void);
