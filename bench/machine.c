/*
 * machine.c - measuring what the core and its memory can do at best.
 *
 * Other programs share the machine, so time is processor time of this thread and every figure is
 * the best of several short rounds: noise only ever slows a round down.
 */
#include "machine.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Results go here, so that no measured loop is dropped. */
static volatile float float_sink;
static volatile uint64_t word_sink;
static void *volatile pointer_sink;

double machine_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

void *machine_alloc(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    (void)madvise(p, len, MADV_HUGEPAGE);
    return p;
}

void machine_free(void *p, size_t len)
{
    munmap(p, len);
}

double machine_clock_hz(void)
{
    double best = 0;
    for (int round = 0; round < 7; round++) {
        const long steps = 1000000;
        long x = 1;
        double t0 = machine_now();
        for (long i = 0; i < steps; i++) {
#if defined(__x86_64__)
            __asm__ volatile("add $1, %0\n\tadd $1, %0\n\tadd $1, %0\n\tadd $1, %0" : "+r"(x));
#else
            __asm__ volatile("add %0, %0, #1\n\tadd %0, %0, #1\n\tadd %0, %0, #1\n\tadd %0, %0, #1"
                             : "+r"(x));
#endif
        }
        double hz = 4.0 * (double)steps / (machine_now() - t0);
        best = hz > best ? hz : best;
    }
    return best;
}

#if defined(__x86_64__)
#define AVX512 __attribute__((target("avx512f")))
#define AVX2 __attribute__((target("avx2,fma")))

/* streams runs of the buffer are read side by side; ahead bytes are prefetched in each. */
AVX512 static uint64_t read_avx512(const char *p, size_t len, size_t streams, size_t ahead)
{
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    size_t part = len / streams / 256 * 256;
    for (size_t i = 0; i < part; i += 256) {
        for (size_t s = 0; s < streams; s++) {
            const char *x = p + s * part + i;
            if (ahead) {
                for (size_t line = 0; line < 256; line += 64) {
                    __builtin_prefetch((const void *)((uintptr_t)x + ahead + line), 0, 3);
                }
            }
            a = _mm512_xor_si512(a, _mm512_loadu_si512(x));
            b = _mm512_xor_si512(b, _mm512_loadu_si512(x + 64));
            c = _mm512_xor_si512(c, _mm512_loadu_si512(x + 128));
            d = _mm512_xor_si512(d, _mm512_loadu_si512(x + 192));
        }
    }
    a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
    return (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(a));
}

AVX2 static uint64_t read_avx2(const char *p, size_t len, size_t streams, size_t ahead)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    size_t part = len / streams / 256 * 256;
    for (size_t i = 0; i < part; i += 256) {
        for (size_t s = 0; s < streams; s++) {
            for (size_t line = 0; line < 256; line += 64) {
                const char *x = p + s * part + i + line;
                if (ahead) {
                    __builtin_prefetch((const void *)((uintptr_t)x + ahead), 0, 3);
                }
                a = _mm256_xor_si256(a, _mm256_loadu_si256((const void *)x));
                b = _mm256_xor_si256(b, _mm256_loadu_si256((const void *)(x + 32)));
            }
        }
    }
    return (uint64_t)_mm256_extract_epi64(_mm256_xor_si256(a, b), 0);
}

/* Twelve chains hide the latency of the multiply-add; named singly, so that they are registers. */
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

AVX512 static float fma_avx512(long steps)
{
    __m512 x = _mm512_set1_ps(0.5f);
#define CHAIN(i) __m512 v##i = _mm512_set1_ps(i);
    CHAINS(CHAIN)
#undef CHAIN
    for (long s = 0; s < steps; s++) {
#define CHAIN(i) __asm__ volatile("vfmadd213ps %1, %1, %0" : "+v"(v##i) : "v"(x));
        CHAINS(CHAIN)
#undef CHAIN
    }
#define CHAIN(i) x = _mm512_add_ps(x, v##i);
    CHAINS(CHAIN)
#undef CHAIN
    return _mm512_cvtss_f32(x);
}

AVX2 static float fma_avx2(long steps)
{
    __m256 x = _mm256_set1_ps(0.5f);
#define CHAIN(i) __m256 v##i = _mm256_set1_ps(i);
    CHAINS(CHAIN)
#undef CHAIN
    for (long s = 0; s < steps; s++) {
#define CHAIN(i) __asm__ volatile("vfmadd213ps %1, %1, %0" : "+x"(v##i) : "x"(x));
        CHAINS(CHAIN)
#undef CHAIN
    }
#define CHAIN(i) x = _mm256_add_ps(x, v##i);
    CHAINS(CHAIN)
#undef CHAIN
    return _mm256_cvtss_f32(x);
}

static uint64_t read_once(const char *p, size_t len, size_t streams, size_t ahead, int wide)
{
    return wide ? read_avx512(p, len, streams, ahead) : read_avx2(p, len, streams, ahead);
}

static double fma_lanes(long steps, int wide)
{
    float_sink = wide ? fma_avx512(steps) : fma_avx2(steps);
    return wide ? 16 : 8;
}

static int has_wide(void)
{
    return __builtin_cpu_supports("avx512f") != 0;
}
#else
static uint64_t read_once(const char *p, size_t len, size_t streams, size_t ahead, int wide)
{
    uint64_t sum = 0;
    size_t part = len / streams / 64 * 64;
    (void)wide;
    for (size_t i = 0; i < part; i += 64) {
        for (size_t s = 0; s < streams; s++) {
            const uint64_t *x = (const void *)(p + s * part + i);
            if (ahead) {
                __builtin_prefetch((const void *)((uintptr_t)x + ahead), 0, 3);
            }
            for (int k = 0; k < 8; k++) {
                sum ^= x[k];
            }
        }
    }
    return sum;
}

typedef float lanes4 __attribute__((vector_size(16)));

static double fma_lanes(long steps, int wide)
{
    lanes4 v[12] = { { 0 } }, x = { 0.5f, 0.5f, 0.5f, 0.5f };
    (void)wide;
    for (long s = 0; s < steps; s++) {
        for (int i = 0; i < 12; i++) {
            v[i] = v[i] * x + x;
            __asm__ volatile("" : "+w"(v[i]));
        }
    }
    float_sink = v[0][0] + v[11][1];
    return 4;
}

static int has_wide(void)
{
    return 0;
}
#endif

double machine_read_bandwidth(const void *buf, size_t len, int rounds)
{
    static const size_t streams[] = { 1, 2, 4, 8 }, aheads[] = { 0, 1024, 4096 };
    double best = 0;
    for (int round = 0; round < rounds; round++) {
        for (int wide = 0; wide <= has_wide(); wide++) {
            for (size_t s = 0; s < 4; s++) {
                for (size_t a = 0; a < 3; a++) {
                    double t0 = machine_now();
                    word_sink = read_once(buf, len, streams[s], aheads[a], wide);
                    double rate = (double)len / (machine_now() - t0);
                    best = rate > best ? rate : best;
                }
            }
        }
    }
    return best;
}

double machine_fma_per_second(void)
{
    double best = 0;
    for (int round = 0; round < 7; round++) {
        for (int wide = 0; wide <= has_wide(); wide++) {
            const long steps = 300000;
            double t0 = machine_now();
            double lanes = fma_lanes(steps, wide);
            double rate = lanes * 12 * (double)steps / (machine_now() - t0);
            best = rate > best ? rate : best;
        }
    }
    return best;
}

double machine_random_latency(void *buf, size_t len)
{
    size_t lines = len / 64;
    char *base = buf;
    uint32_t *order = malloc(lines * sizeof *order);
    uint64_t state = 88172645463325252u;
    if (!order) {
        return 0;
    }
    for (size_t i = 0; i < lines; i++) {
        order[i] = (uint32_t)i;
    }
    for (size_t i = lines - 1; i > 0; i--) { /* a single cycle over all lines */
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        size_t j = state % i;
        uint32_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (size_t i = 0; i < lines; i++) {
        *(void **)(void *)(base + (size_t)order[i] * 64) =
            base + (size_t)order[(i + 1) % lines] * 64;
    }
    free(order);
    double best = 1;
    void *p = base;
    for (int round = 0; round < 5; round++) {
        const int steps = 200000;
        double t0 = machine_now();
        for (int i = 0; i < steps; i++) {
            p = *(void **)p;
        }
        double t = (machine_now() - t0) / steps;
        best = t < best ? t : best;
        pointer_sink = p;
    }
    return best;
}
