/*
 * buf.h - a growing byte buffer with a ceiling.
 *
 * Every put returns false, and changes nothing, when the ceiling would be passed or memory is gone;
 * the buffer then remembers it (`failed`), so that a series of puts can be checked once at its end.
 */
#pragma once
#include "base/compiler.h"
#include "base/slice.h"

struct buf {
    uint8_t *p;
    size_t n, cap, max;
    bool failed;
};

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);
/* n = 0, keeps the memory, clears failed. */
void buf_reset(struct buf *b);
bool buf_reserve(struct buf *b, size_t more);
bool buf_put(struct buf *b, const void *p, size_t n);
bool buf_put_slice(struct buf *b, struct slice s);
bool buf_put_str(struct buf *b, const char *s);
bool buf_putc(struct buf *b, char c);
bool buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool buf_put_zero(struct buf *b, size_t n);
bool buf_put_u8(struct buf *b, uint8_t v);
bool buf_put_u32(struct buf *b, uint32_t v); /* little-endian */
bool buf_put_u64(struct buf *b, uint64_t v);
/* Zeros up to a multiple of align. */
bool buf_pad(struct buf *b, size_t align);
/* Appends s as a JSON string with quotes; invalid UTF-8 becomes U+FFFD. */
bool buf_put_json_str(struct buf *b, struct slice s);
/* Moves the bytes out; free with mem_free(). b is empty afterwards. */
uint8_t *buf_take(struct buf *b, size_t *ret_n);

static inline struct slice buf_slice(const struct buf *b)
{
    return slice_n(b->p, b->n);
}

/* A reader over bytes from outside; every get returns false past the end, then stays false. */
struct reader {
    const uint8_t *p, *end;
    bool failed;
};

static inline struct reader reader_of(struct slice s)
{
    return (struct reader){(const uint8_t *)s.p, (const uint8_t *)s.p + s.n, false};
}
static inline size_t reader_left(const struct reader *r)
{
    return (size_t)(r->end - r->p);
}
bool reader_u8(struct reader *r, uint8_t *ret);
bool reader_u16(struct reader *r, uint16_t *ret);
bool reader_u32(struct reader *r, uint32_t *ret);
bool reader_u64(struct reader *r, uint64_t *ret);
bool reader_bytes(struct reader *r, size_t n, struct slice *ret); /* borrowed from the input */

static inline uint32_t load_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t load_u64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void store_u32(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}
static inline void store_u64(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "formats are used in place");
