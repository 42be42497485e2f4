/*
 * hash.c - CRC-32C, XXH3 and MurmurHash3.
 *
 * CRC-32C runs over every byte of the log and of segment files. The CPU's crc32 instruction takes 8
 * bytes in one issue but three cycles of latency, so three stretches of the input run at once and
 * are joined afterwards. Joining means advancing a CRC over the bytes of the later stretches as if
 * they were zero: a multiplication by x^(8 * len) modulo the polynomial. With the carry-less
 * multiplication of the CPU and a constant k = x^(8 * len - 33) mod P, the 64-bit product
 * needs only one more crc32 instruction to be reduced (Gopal et al., "Fast CRC Computation for
 * iSCSI Polynomial Using CRC32 Instruction", section on recombination).
 *
 * Without these instructions: eight tables, eight bytes a step, made at first use.
 *
 * The instructions are reached through compiler builtins: <immintrin.h> is simd/'s.
 */
#include "base/hash.h"
#include <pthread.h>
#include <string.h>
#include <xxhash.h>

static uint64_t load8(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

#define CRC32C_POLY 0x82F63B78u /* bit-reflected */

static uint32_t crc_table[8][256];
static pthread_once_t crc_table_once = PTHREAD_ONCE_INIT;

static void crc_table_make(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) {
            c = (c >> 1) ^ ((c & 1) ? CRC32C_POLY : 0);
        }
        crc_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int k = 1; k < 8; k++) {
            uint32_t before = crc_table[k - 1][i];
            crc_table[k][i] = crc_table[0][before & 0xFF] ^ (before >> 8);
        }
    }
}

/* c is the register: already inverted. */
static uint32_t crc_portable(uint32_t c, const uint8_t *p, size_t n)
{
    pthread_once(&crc_table_once, crc_table_make);
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v = load8(p) ^ c;
        c = crc_table[7][v & 0xFF] ^ crc_table[6][(v >> 8) & 0xFF] ^
            crc_table[5][(v >> 16) & 0xFF] ^ crc_table[4][(v >> 24) & 0xFF] ^
            crc_table[3][(v >> 32) & 0xFF] ^ crc_table[2][(v >> 40) & 0xFF] ^
            crc_table[1][(v >> 48) & 0xFF] ^ crc_table[0][v >> 56];
    }
    for (; n > 0; p++, n--) {
        c = crc_table[0][(c ^ *p) & 0xFF] ^ (c >> 8);
    }
    return c;
}

uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n)
{
    return ~crc_portable(~crc, p, n);
}

#if defined(__x86_64__)

typedef long long v2di __attribute__((vector_size(16)));

/* Stretches of 4096 bytes for long inputs, of 256 for what is left. */
#define LONG_STRETCH ((size_t)4096)
#define SHORT_STRETCH ((size_t)256)
#define K_LONG_1 0x82F89C77u  /* x^(8 * 4096 - 33) */
#define K_LONG_2 0x54A86326u  /* x^(8 * 8192 - 33) */
#define K_SHORT_1 0xB9E02B86u /* x^(8 * 256 - 33) */
#define K_SHORT_2 0xDD7E3B0Cu /* x^(8 * 512 - 33) */

__attribute__((target("sse4.2,pclmul"))) static inline uint64_t advance(uint32_t c, uint32_t k)
{
    v2di a = {(long long)c, 0}, b = {(long long)k, 0};
    v2di r = (v2di)__builtin_ia32_pclmulqdq128(a, b, 0);
    return (uint64_t)r[0];
}

__attribute__((target("sse4.2,pclmul"))) static inline const uint8_t *
crc_three(uint32_t *c, const uint8_t *p, size_t stretch, uint32_t k1, uint32_t k2)
{
    uint64_t c0 = *c, c1 = 0, c2 = 0;
    for (size_t i = 0; i < stretch; i += 8) {
        c0 = __builtin_ia32_crc32di(c0, load8(p + i));
        c1 = __builtin_ia32_crc32di(c1, load8(p + stretch + i));
        c2 = __builtin_ia32_crc32di(c2, load8(p + 2 * stretch + i));
    }
    uint64_t joined = advance((uint32_t)c0, k2) ^ advance((uint32_t)c1, k1);
    *c = (uint32_t)(__builtin_ia32_crc32di(0, joined) ^ c2);
    return p + 3 * stretch;
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t crc_sse42(uint32_t c, const uint8_t *p,
                                                                   size_t n)
{
    for (; n >= 3 * LONG_STRETCH; n -= 3 * LONG_STRETCH) {
        p = crc_three(&c, p, LONG_STRETCH, K_LONG_1, K_LONG_2);
    }
    for (; n >= 3 * SHORT_STRETCH; n -= 3 * SHORT_STRETCH) {
        p = crc_three(&c, p, SHORT_STRETCH, K_SHORT_1, K_SHORT_2);
    }
    uint64_t wide = c;
    for (; n >= 8; p += 8, n -= 8) {
        wide = __builtin_ia32_crc32di(wide, load8(p));
    }
    c = (uint32_t)wide;
    for (; n > 0; p++, n--) {
        c = __builtin_ia32_crc32qi(c, *p);
    }
    return c;
}

static bool cpu_has_crc(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    return ~(cpu_has_crc() ? crc_sse42(~crc, p, n) : crc_portable(~crc, p, n));
}

#else

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    return crc32c_portable(crc, p, n);
}

#endif

uint64_t hash64(const void *p, size_t n)
{
    return XXH3_64bits(p, n);
}

static uint32_t rotl32(uint32_t v, int by)
{
    return (v << by) | (v >> (32 - by));
}

static uint32_t murmur3_word(uint32_t k)
{
    return rotl32(k * 0xCC9E2D51u, 15) * 0x1B873593u;
}

uint32_t murmur3_32(const void *p, size_t n, uint32_t seed)
{
    const uint8_t *b = p;
    uint32_t h = seed;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint32_t k;
        memcpy(&k, b + i, sizeof k);
        h = rotl32(h ^ murmur3_word(k), 13) * 5 + 0xE6546B64u;
    }
    uint32_t tail = 0;
    for (size_t rest = n - i; rest > 0; rest--) {
        tail = (tail << 8) | b[i + rest - 1];
    }
    if (i < n) {
        h ^= murmur3_word(tail);
    }
    h ^= (uint32_t)n;
    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = (h ^ (h >> 13)) * 0xC2B2AE35u;
    return h ^ (h >> 16);
}
