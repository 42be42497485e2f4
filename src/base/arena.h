/*
 * arena.h - memory of one request, freed in one step.
 *
 * Blocks double from the first size; big requests get a block of their own. Not thread-safe: one
 * owner at a time. Every arena has a limit, so that a request cannot take the machine: past it, or
 * when memory is gone, arena_try() returns NULL and arena_alloc() (for small bounded objects) ends
 * the process only when memory itself is gone (a full limit is exceeded by those).
 */
#pragma once
#include "base/compiler.h"
#include "base/slice.h"

struct arena;

/* limit_bytes 0: no limit. Free with arena_free(). */
struct arena *arena_new(size_t limit_bytes);
/* Starts with a block of first_block bytes: for the many that hold one small object each. */
struct arena *arena_new_small(size_t first_block);
void arena_free(struct arena *ar);
/* Forgets everything allocated, keeps the first block for reuse. */
void arena_reset(struct arena *ar);
size_t arena_used(const struct arena *ar);

/* 16-byte aligned. Small bounded objects; never NULL; zeroed. */
void *arena_alloc(struct arena *ar, size_t n);
/* 16-byte aligned, sizes from outside; NULL past the limit or without memory; not zeroed. */
void *arena_try(struct arena *ar, size_t n) NODISCARD;
void *arena_try_array(struct arena *ar, size_t count, size_t size) NODISCARD; /* zeroed */
char *arena_strdup(struct arena *ar, const char *s);
char *arena_strndup(struct arena *ar, const char *s, size_t n);
char *arena_printf(struct arena *ar, const char *fmt, ...) PRINTF_LIKE(2, 3);
struct slice arena_copy(struct arena *ar, struct slice s); /* p is NULL past the limit */

#define ARENA_NEW(ar, type) ((type *)arena_alloc((ar), sizeof(type)))
