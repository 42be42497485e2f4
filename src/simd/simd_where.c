/*
 * simd_where.c - which interval kernels this machine gets.
 *
 * THREADS     A pointer to a constant is published: any order will do.
 */
#include "simd/simd_where.h"

#include <stdatomic.h>

static const struct simd_where *table_of(enum simd_level level)
{
#if defined(__x86_64__)
    if (level >= SIMD_LEVEL_AVX512 && level <= SIMD_LEVEL_AVX512_BF16) {
        return &simd__where_avx512;
    }
    if (level == SIMD_LEVEL_AVX2) {
        return &simd__where_avx2;
    }
#else
    (void)level;
#endif
    return &simd__where_any;
}

const struct simd_where *simd_where(void)
{
    static _Atomic(const struct simd_where *) table;
    const struct simd_where *t = atomic_load_explicit(&table, memory_order_relaxed);
    if (!t) {
        t = table_of(simd_ops()->level);
        atomic_store_explicit(&table, t, memory_order_relaxed);
    }
    return t;
}

const struct simd_where *simd_where_at(enum simd_level level)
{
    struct simd_ops ops;
    return simd_ops_at(level, &ops) ? table_of(level) : NULL;
}
