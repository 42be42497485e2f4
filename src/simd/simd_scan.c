/*
 * simd_scan.c - which scan kernels this machine gets.
 *
 * The level is that of simd_ops(), so simd_cap() holds here too. The AVX-512 kernels also need
 * VBMI, which every CPU with VPOPCNTDQ and VNNI has in practice but which has a bit of its own.
 */
#include "simd/simd_scan.h"

#include <stdatomic.h>

#include "simd/simd_scan_int.h"

#if defined(__x86_64__)
#include <cpuid.h>

static bool has_vbmi_and_vnni(void)
{
    uint32_t a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 1 & 1) && (c >> 11 & 1);
}
#endif

static const struct simd_scan *table_of(enum simd_level level)
{
#if defined(__x86_64__)
    if (level >= SIMD_LEVEL_AVX512_VNNI && level <= SIMD_LEVEL_AVX512_BF16 && has_vbmi_and_vnni()) {
        return &simd__scan_avx512;
    }
    return level >= SIMD_LEVEL_AVX2 && level <= SIMD_LEVEL_AVX512_BF16 ? &simd__scan_avx2
                                                                       : &simd__scan_ref;
#elif defined(__aarch64__)
    return level == SIMD_LEVEL_NEON ? &simd__scan_neon : &simd__scan_ref;
#else
    (void)level;
    return &simd__scan_ref;
#endif
}

const struct simd_scan *simd_scan(void)
{
    static _Atomic(const struct simd_scan *) table; /* a pointer to a constant: any order will do */
    const struct simd_scan *t = atomic_load_explicit(&table, memory_order_relaxed);
    if (!t) {
        t = table_of(simd_ops()->level);
        atomic_store_explicit(&table, t, memory_order_relaxed);
    }
    return t;
}

const struct simd_scan *simd_scan_at(enum simd_level level)
{
    struct simd_ops ops;
    return simd_ops_at(level, &ops) ? table_of(level) : NULL;
}
