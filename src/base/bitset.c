/*
 * bitset.c - whole-word operations.
 *
 * The loops are plain so that the compiler vectorises them. Counting uses the CPU's popcnt where
 * there is one: it runs over the filter's result of every search.
 */
#include "base/bitset.h"
#include <string.h>

/* Zeroes what lies past nbits in the last word. */
static void trim(uint64_t *w, size_t nbits)
{
    if (nbits & 63) {
        w[nbits >> 6] &= (UINT64_C(1) << (nbits & 63)) - 1;
    }
}

void bits_fill(uint64_t *w, size_t nbits, bool v)
{
    if (nbits) {
        memset(w, v ? 0xFF : 0, bits_words(nbits) * sizeof *w);
        trim(w, nbits);
    }
}

void bits_and(uint64_t *a, const uint64_t *b, size_t nbits)
{
    for (size_t i = 0, n = bits_words(nbits); i < n; i++) {
        a[i] &= b[i];
    }
}

void bits_or(uint64_t *a, const uint64_t *b, size_t nbits)
{
    for (size_t i = 0, n = bits_words(nbits); i < n; i++) {
        a[i] |= b[i];
    }
}

void bits_and_not(uint64_t *a, const uint64_t *b, size_t nbits)
{
    for (size_t i = 0, n = bits_words(nbits); i < n; i++) {
        a[i] &= ~b[i];
    }
}

void bits_not(uint64_t *a, size_t nbits)
{
    for (size_t i = 0, n = bits_words(nbits); i < n; i++) {
        a[i] = ~a[i];
    }
    trim(a, nbits);
}

static inline size_t count_words(const uint64_t *w, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (size_t)__builtin_popcountll(w[i]);
    }
    return sum;
}

#if defined(__x86_64__)
__attribute__((target("popcnt"))) static size_t count_words_popcnt(const uint64_t *w, size_t n)
{
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (size_t)__builtin_popcountll(w[i]);
    }
    return sum;
}

size_t bits_count(const uint64_t *w, size_t nbits)
{
    size_t n = bits_words(nbits);
    return __builtin_cpu_supports("popcnt") ? count_words_popcnt(w, n) : count_words(w, n);
}
#else
size_t bits_count(const uint64_t *w, size_t nbits)
{
    return count_words(w, bits_words(nbits));
}
#endif

size_t bits_next(const uint64_t *w, size_t nbits, size_t from)
{
    if (from >= nbits) {
        return nbits;
    }
    size_t i = from >> 6, n = bits_words(nbits);
    uint64_t word = w[i] & (~UINT64_C(0) << (from & 63));
    while (word == 0) {
        if (++i == n) {
            return nbits;
        }
        word = w[i];
    }
    return i * 64 + (size_t)__builtin_ctzll(word);
}
