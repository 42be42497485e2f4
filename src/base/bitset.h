/*
 * bitset.h - fixed-size bitsets as plain words: bit i of word i / 64.
 *
 * Bits past nbits in the last word are always 0 (every function keeps that).
 */
#pragma once
#include "base/compiler.h"

static inline size_t bits_words(size_t nbits)
{
    return (nbits + 63) / 64;
}
static inline bool bit_get(const uint64_t *w, size_t i)
{
    return (w[i >> 6] >> (i & 63)) & 1;
}
static inline void bit_set(uint64_t *w, size_t i)
{
    w[i >> 6] |= UINT64_C(1) << (i & 63);
}
static inline void bit_clear(uint64_t *w, size_t i)
{
    w[i >> 6] &= ~(UINT64_C(1) << (i & 63));
}
void bits_fill(uint64_t *w, size_t nbits, bool v);
void bits_and(uint64_t *a, const uint64_t *b, size_t nbits);     /* a &= b */
void bits_or(uint64_t *a, const uint64_t *b, size_t nbits);      /* a |= b */
void bits_and_not(uint64_t *a, const uint64_t *b, size_t nbits); /* a &= ~b */
void bits_not(uint64_t *a, size_t nbits);
size_t bits_count(const uint64_t *w, size_t nbits);
/* First set bit at or after from, or nbits. */
size_t bits_next(const uint64_t *w, size_t nbits, size_t from);
/* Numbers of the bits of one word, from base on, into out, which has room for 64. Returns how many. Four
 * at a time without asking: where few are set a branch for each is guessed wrong. */
static inline size_t bits_list(uint64_t word, uint32_t base, uint32_t *out)
{
    size_t n = 0;
    do {
        for (int i = 0; i < 4; i++) {
            out[n] = base + (uint32_t)__builtin_ctzll(word | UINT64_C(1) << 63);
            n += word != 0;
            word &= word - 1;
        }
    } while (word);
    return n;
}
