/*
 * arena.c - blocks in a list, a bump pointer in the newest.
 *
 * MEMORY  The first block is FIRST_BLOCK bytes, each further one twice the last up to MAX_BLOCK. A
 *         request over a quarter of the next block gets a block of exactly its size, put behind the
 *         current one, so that the rest of that stays in use: waste is below a quarter.
 *         The limit counts what was handed out (rounded to 16), not block overhead: the same
 *         requests then hit it at the same place in every run.
 *         Under the address sanitizer the unused part of each block is poisoned.
 */
#include "base/arena.h"
#include "base/alloc.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#define FIRST_BLOCK ((size_t)4096)
#define MAX_BLOCK ((size_t)1 << 20)
#define ARENA_ALIGN ((size_t)16)

struct block {
    struct block *next;
    size_t size; /* of the data behind this header */
};
_Static_assert(sizeof(struct block) % 16 == 0, "data starts aligned");

struct arena {
    struct block *head;  /* the newest block of regular size: pos and end lie in it */
    struct block *first; /* kept by arena_reset() */
    char *pos, *end;
    size_t limit, used, next_size;
};

static char *block_data(struct block *b)
{
    return (char *)(b + 1);
}

static struct block *block_new(size_t size, bool must)
{
    size_t total;
    if (!add_size(size, sizeof(struct block), &total)) {
        return NULL;
    }
    struct block *b = must ? xrealloc(NULL, total) : alloc_try(total);
    if (b) {
        b->next = NULL;
        b->size = size;
        ASAN_POISON_MEMORY_REGION(block_data(b), size);
    }
    return b;
}

static void block_free(struct block *b)
{
    ASAN_UNPOISON_MEMORY_REGION(block_data(b), b->size);
    mem_free(b);
}

struct arena *arena_new(size_t limit_bytes)
{
    struct arena *ar = xalloc(sizeof *ar);
    ar->limit = limit_bytes ? limit_bytes : SIZE_MAX;
    ar->next_size = FIRST_BLOCK;
    return ar;
}

struct arena *arena_new_small(size_t first_block)
{
    struct arena *ar = arena_new(0);
    ar->next_size = first_block;
    return ar;
}

static void free_blocks_but(struct arena *ar, struct block *keep)
{
    struct block *next;
    for (struct block *b = ar->head; b; b = next) {
        next = b->next;
        if (b != keep) {
            block_free(b);
        }
    }
}

void arena_free(struct arena *ar)
{
    if (ar) {
        free_blocks_but(ar, NULL);
        mem_free(ar);
    }
}

void arena_reset(struct arena *ar)
{
    free_blocks_but(ar, ar->first);
    ar->head = ar->first;
    ar->used = 0;
    ar->next_size = ar->first ? FIRST_BLOCK * 2 : FIRST_BLOCK;
    if (ar->first) {
        ar->first->next = NULL;
        ar->pos = block_data(ar->first);
        ar->end = ar->pos + ar->first->size;
        ASAN_POISON_MEMORY_REGION(ar->pos, ar->first->size);
    } else {
        ar->pos = ar->end = NULL;
    }
}

size_t arena_used(const struct arena *ar)
{
    return ar->used;
}

/* n is a multiple of ARENA_ALIGN and does not fit in the current block. */
static char *take_from_new_block(struct arena *ar, size_t n, bool must)
{
    bool own = n > ar->next_size / 4;
    struct block *b = block_new(own ? n : ar->next_size, must);
    if (!b) {
        return NULL;
    }
    if (own && ar->head) {
        b->next = ar->head->next;
        ar->head->next = b;
        return block_data(b);
    }
    b->next = ar->head;
    ar->head = b;
    ar->end = block_data(b) + b->size;
    ar->pos = block_data(b) + n;
    if (!ar->first && !own) {
        ar->first = b;
    }
    ar->next_size = MIN(ar->next_size * 2, MAX_BLOCK);
    return block_data(b);
}

static void *take(struct arena *ar, size_t n, bool must)
{
    size_t size = n ? n : 1;
    if (size > SIZE_MAX - ARENA_ALIGN) {
        return NULL;
    }
    size = ROUND_UP(size, ARENA_ALIGN);
    if (!must && (size > ar->limit || ar->used > ar->limit - size)) {
        return NULL;
    }
    char *p;
    if (LIKELY(size <= (size_t)(ar->end - ar->pos))) {
        p = ar->pos;
        ar->pos += size;
    } else {
        p = take_from_new_block(ar, size, must);
        if (!p) {
            return NULL;
        }
    }
    ar->used += size;
    ASAN_UNPOISON_MEMORY_REGION(p, n);
    return p;
}

void *arena_alloc(struct arena *ar, size_t n)
{
    void *p = take(ar, n, true);
    CHECK(p != NULL);
    return memset(p, 0, n);
}

void *arena_try(struct arena *ar, size_t n)
{
    return take(ar, n, false);
}

void *arena_try_array(struct arena *ar, size_t count, size_t size)
{
    size_t n;
    void *p = mul_size(count, size, &n) ? take(ar, n, false) : NULL;
    return p ? memset(p, 0, n) : NULL;
}

char *arena_strndup(struct arena *ar, const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *d = arena_alloc(ar, len + 1);
    memcpy(d, s, len);
    return d;
}

char *arena_strdup(struct arena *ar, const char *s)
{
    return arena_strndup(ar, s, strlen(s));
}

char *arena_printf(struct arena *ar, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    CHECK(n >= 0);
    char *d = arena_alloc(ar, (size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(d, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return d;
}

struct slice arena_copy(struct arena *ar, struct slice s)
{
    char *p = arena_try(ar, s.n);
    if (!p) {
        return slice_n(NULL, 0);
    }
    if (s.n) {
        memcpy(p, s.p, s.n);
    }
    return slice_n(p, s.n);
}
