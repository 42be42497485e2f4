/*
 * simd_dispatch.c - which table this machine gets.
 *
 * A level counts only when the CPU has its instructions and the operating system saves its
 * registers. The table starts as the reference and each level overwrites what it does better, in
 * rising order, up to the cap.
 *
 * THREADS     simd_ops() may be called by any thread at any time: the first caller fills
 *             it and publishes; others wait for that.
 */
#include <stdatomic.h>
#include <string.h>

#include "simd/simd.h"
#include "simd/simd_int.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const level_names[SIMD_NLEVELS] = {
    [SIMD_LEVEL_REF] = "ref",
    [SIMD_LEVEL_AVX2] = "avx2",
    [SIMD_LEVEL_AVX512] = "avx512",
    [SIMD_LEVEL_AVX512_VNNI] = "avx512vnni",
    [SIMD_LEVEL_AVX512_POP] = "avx512pop",
    [SIMD_LEVEL_AVX512_BF16] = "avx512bf16",
    [SIMD_LEVEL_NEON] = "neon",
};

#if defined(__x86_64__)
static bool has(uint32_t reg, int bit)
{
    return (reg >> bit) & 1;
}

/* The register state the operating system switches (XCR0). */
static uint64_t os_state(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static unsigned machine_levels(void)
{
    uint32_t a, b, c, d, b7, c7, a71 = 0;
    unsigned set = 1u << SIMD_LEVEL_REF;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, 27 /* OSXSAVE */)) {
        return set;
    }
    uint64_t os = os_state();
    bool ok = has(c, 28 /* AVX */) && has(c, 12 /* FMA */) && has(c, 29 /* F16C */) &&
              has(c, 23 /* POPCNT */) && (os & 0x6) == 0x6;
    if (!ok || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d) || !has(b7, 5 /* AVX2 */) ||
        !has(b7, 3 /* BMI1 */) || !has(b7, 8 /* BMI2 */)) {
        return set;
    }
    set |= 1u << SIMD_LEVEL_AVX2;
    if ((os & 0xe6) != 0xe6 || !has(b7, 16 /* F */) || !has(b7, 17 /* DQ */) ||
        !has(b7, 30 /* BW */) || !has(b7, 31 /* VL */)) {
        return set;
    }
    set |= 1u << SIMD_LEVEL_AVX512;
    if (a >= 1) { /* sub-leaves of leaf 7 */
        __get_cpuid_count(7, 1, &a71, &b, &c, &d);
    }
    set |= has(c7, 11) ? 1u << SIMD_LEVEL_AVX512_VNNI : 0;
    set |= has(c7, 14) ? 1u << SIMD_LEVEL_AVX512_POP : 0;
    set |= has(a71, 5) ? 1u << SIMD_LEVEL_AVX512_BF16 : 0;
    return set;
}

static void fill_one(enum simd_level level, struct simd_ops *ops)
{
    switch (level) {
    case SIMD_LEVEL_AVX2:
        simd__fill_avx2(ops);
        simd__fill_codes_avx2(ops);
        break;
    case SIMD_LEVEL_AVX512:
        simd__fill_avx512(ops);
        simd__fill_codes_avx512(ops);
        break;
    case SIMD_LEVEL_AVX512_VNNI:
        simd__fill_vnni(ops);
        simd__fill_codes_vnni(ops);
        break;
    case SIMD_LEVEL_AVX512_POP:
        simd__fill_pop(ops);
        simd__fill_codes_pop(ops);
        break;
    case SIMD_LEVEL_AVX512_BF16:
        simd__fill_bf16(ops);
        break;
    default:
        break;
    }
}
#elif defined(__aarch64__)
static unsigned machine_levels(void)
{
    return 1u << SIMD_LEVEL_REF | 1u << SIMD_LEVEL_NEON; /* part of the architecture */
}

static void fill_one(enum simd_level level, struct simd_ops *ops)
{
    if (level == SIMD_LEVEL_NEON) {
        simd__fill_neon(ops);
        simd__fill_codes_neon(ops);
    }
}
#else
static unsigned machine_levels(void)
{
    return 1u << SIMD_LEVEL_REF;
}

static void fill_one(enum simd_level level, struct simd_ops *ops)
{
    (void)level;
    (void)ops;
}
#endif

/* 0 empty, 1 being filled, 2 published: pairs with the acquire load in simd_ops(). */
static _Atomic int table_state;
static _Atomic int level_cap = SIMD_NLEVELS - 1;
static struct simd_ops table;

static void fill_up_to(unsigned levels, enum simd_level top, struct simd_ops *ops)
{
    memset(ops, 0, sizeof *ops);
    simd__fill_ref(ops);
    for (int l = SIMD_LEVEL_REF + 1; l <= (int)top; l++) {
        if (levels >> l & 1) {
            fill_one((enum simd_level)l, ops);
            ops->level = (enum simd_level)l;
        }
    }
}

const struct simd_ops *simd_ops(void)
{
    if (atomic_load_explicit(&table_state, memory_order_acquire) == 2) {
        return &table;
    }
    int expected = 0;
    if (atomic_compare_exchange_strong(&table_state, &expected, 1)) {
        fill_up_to(machine_levels(), (enum simd_level)atomic_load(&level_cap), &table);
        atomic_store_explicit(&table_state, 2, memory_order_release);
    } else {
        while (atomic_load_explicit(&table_state, memory_order_acquire) != 2) {
            /* Another thread is copying pointers: a microsecond at most. */
        }
    }
    return &table;
}

bool simd_cap(const char *level_name)
{
    int cap = SIMD_NLEVELS - 1;
    if (strcmp(level_name, "auto") != 0) {
        for (cap = 0; cap < SIMD_NLEVELS && strcmp(level_name, level_names[cap]) != 0; cap++) {
        }
    }
    if (cap == SIMD_NLEVELS || atomic_load(&table_state) != 0) {
        return false;
    }
    atomic_store(&level_cap, cap);
    return true;
}

bool simd_ops_at(enum simd_level level, struct simd_ops *ops)
{
    unsigned levels = machine_levels();
    if (level >= SIMD_NLEVELS || !(levels >> level & 1)) {
        return false;
    }
    fill_up_to(levels, level, ops);
    return true;
}

const char *simd_level_name(enum simd_level level)
{
    return level < SIMD_NLEVELS ? level_names[level] : "unknown";
}

size_t simd_pack_len(size_t nq, size_t dim)
{
    return (nq + SIMD_TILE - 1) / SIMD_TILE * SIMD_TILE * dim;
}

void simd_pack_f32(const float *queries, size_t stride, size_t nq, size_t dim, const float *scale,
                   float *ret_pack)
{
    size_t padded = (nq + SIMD_TILE - 1) / SIMD_TILE * SIMD_TILE;
    for (size_t j = 0; j < padded; j++) {
        const uint8_t *q = (const uint8_t *)queries + j * stride;
        float *to = ret_pack + j / SIMD_TILE * dim * SIMD_TILE + j % SIMD_TILE;
        float s = scale && j < nq ? scale[j] : 1;
        for (size_t k = 0; k < dim; k++) {
            to[k * SIMD_TILE] = j < nq ? simd_load_f32(q + 4 * k) * s : 0;
        }
    }
}
