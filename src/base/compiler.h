/* compiler.h - the GNU C extensions this house uses, in one place, with a fixed meaning. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define NODISCARD __attribute__((warn_unused_result))
#define NORETURN __attribute__((noreturn))
#define COLD __attribute__((cold))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define UNUSED __attribute__((unused))
#define ALIGNED(n) __attribute__((aligned(n)))
#define CACHE_LINE 64

/* Ownership moves out of the variable: it is NULL afterwards. */
#define TAKE(ptr)                                                                                  \
    __extension__({                                                                                \
        __typeof__(ptr) take_ = (ptr);                                                             \
        (ptr) = NULL;                                                                              \
        take_;                                                                                     \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                                                                                  \
    __extension__({                                                                                \
        __typeof__(a) min_a_ = (a);                                                                \
        __typeof__(b) min_b_ = (b);                                                                \
        min_a_ < min_b_ ? min_a_ : min_b_;                                                         \
    })
#define MAX(a, b)                                                                                  \
    __extension__({                                                                                \
        __typeof__(a) max_a_ = (a);                                                                \
        __typeof__(b) max_b_ = (b);                                                                \
        max_a_ > max_b_ ? max_a_ : max_b_;                                                         \
    })
#define CONTAINER_OF(ptr, type, member)                                                            \
    ((type *)(void *)((char *)(uintptr_t)(ptr)-offsetof(type, member)))
#define ROUND_UP(n, to) (((n) + (to)-1) / (to) * (to))

/* false when a * b does not fit; *ret is untouched then. */
static inline bool mul_size(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) {
        return false;
    }
    *ret = r;
    return true;
}

static inline bool add_size(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) {
        return false;
    }
    *ret = r;
    return true;
}

/* ASSERT: a bug in this program, checked in debug and sanitizer builds. CHECK: always on, where
 * going on would damage durable data. Neither is for input or I/O. */
NORETURN COLD void check_failed(const char *file, int line, const char *expr);
#define CHECK(e) (LIKELY(e) ? (void)0 : check_failed(__FILE__, __LINE__, #e))
#ifdef NDEBUG
#define ASSERT(e) ((void)sizeof(e))
#else
#define ASSERT(e) CHECK(e)
#endif
