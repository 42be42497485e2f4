/*
 * simd_where_avx2.c - interval kernels on 256 bits. Integers have only "greater" here: what lies
 * outside is collected and turned around at the end of a word.
 */
#include <immintrin.h>
#include <string.h>

#include "simd/simd_where.h"

static inline __m256i cells_at(const void *p, size_t i)
{
    return _mm256_loadu_si256((const __m256i *)p + i);
}

static inline uint64_t word_i8(const void *p, __m256i lo, __m256i hi)
{
    uint64_t w = 0;
    for (size_t k = 0; k < 2; k++) {
        __m256i x = cells_at(p, k);
        __m256i off = _mm256_or_si256(_mm256_cmpgt_epi8(lo, x), _mm256_cmpgt_epi8(x, hi));
        w |= (uint64_t)(uint32_t)_mm256_movemask_epi8(off) << (k * 32);
    }
    return ~w;
}

static inline uint64_t word_i16(const void *p, __m256i lo, __m256i hi)
{
    uint64_t w = 0;
    for (size_t k = 0; k < 2; k++) {
        __m256i x = cells_at(p, 2 * k), y = cells_at(p, 2 * k + 1);
        __m256i a = _mm256_or_si256(_mm256_cmpgt_epi16(lo, x), _mm256_cmpgt_epi16(x, hi));
        __m256i b = _mm256_or_si256(_mm256_cmpgt_epi16(lo, y), _mm256_cmpgt_epi16(y, hi));
        __m256i off = _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xd8);
        w |= (uint64_t)(uint32_t)_mm256_movemask_epi8(off) << (k * 32);
    }
    return ~w;
}

static inline uint64_t word_i32(const void *p, __m256i lo, __m256i hi)
{
    uint64_t w = 0;
    for (size_t k = 0; k < 8; k++) {
        __m256i x = cells_at(p, k);
        __m256i off = _mm256_or_si256(_mm256_cmpgt_epi32(lo, x), _mm256_cmpgt_epi32(x, hi));
        w |= (uint64_t)_mm256_movemask_ps(_mm256_castsi256_ps(off)) << (k * 8);
    }
    return ~w;
}

static inline uint64_t word_i64(const void *p, __m256i lo, __m256i hi)
{
    uint64_t w = 0;
    for (size_t k = 0; k < 16; k++) {
        __m256i x = cells_at(p, k);
        __m256i off = _mm256_or_si256(_mm256_cmpgt_epi64(lo, x), _mm256_cmpgt_epi64(x, hi));
        w |= (uint64_t)_mm256_movemask_pd(_mm256_castsi256_pd(off)) << (k * 4);
    }
    return ~w;
}

static inline uint64_t word_f32(const void *p, __m256 lo, __m256 hi)
{
    uint64_t w = 0;
    for (size_t k = 0; k < 8; k++) {
        __m256 x = _mm256_loadu_ps((const float *)p + k * 8);
        __m256 in = _mm256_and_ps(_mm256_cmp_ps(x, lo, _CMP_GE_OQ), _mm256_cmp_ps(x, hi, _CMP_LE_OQ));
        w |= (uint64_t)_mm256_movemask_ps(in) << (k * 8);
    }
    return w;
}

static inline uint64_t word_f64(const void *p, __m256d lo, __m256d hi)
{
    uint64_t w = 0;
    for (size_t k = 0; k < 16; k++) {
        __m256d x = _mm256_loadu_pd((const double *)p + k * 4);
        __m256d in = _mm256_and_pd(_mm256_cmp_pd(x, lo, _CMP_GE_OQ), _mm256_cmp_pd(x, hi, _CMP_LE_OQ));
        w |= (uint64_t)_mm256_movemask_pd(in) << (k * 4);
    }
    return w;
}

WHERE_BY_WORDS(where_i8, __m256i, _mm256_set1_epi8((char)lo.i), _mm256_set1_epi8((char)hi.i),
             word_i8, 1)
WHERE_BY_WORDS(where_i16, __m256i, _mm256_set1_epi16((short)lo.i), _mm256_set1_epi16((short)hi.i),
             word_i16, 2)
WHERE_BY_WORDS(where_i32, __m256i, _mm256_set1_epi32((int)lo.i), _mm256_set1_epi32((int)hi.i),
             word_i32, 4)
WHERE_BY_WORDS(where_i64, __m256i, _mm256_set1_epi64x(lo.i), _mm256_set1_epi64x(hi.i), word_i64, 8)
WHERE_BY_WORDS(where_f32, __m256, _mm256_set1_ps(lo.f), _mm256_set1_ps(hi.f), word_f32, 4)
WHERE_BY_WORDS(where_f64, __m256d, _mm256_set1_pd(lo.d), _mm256_set1_pd(hi.d), word_f64, 8)

const struct simd_where simd__where_avx2 = {
    .i8 = where_i8,
    .i16 = where_i16,
    .i32 = where_i32,
    .i64 = where_i64,
    .f32 = where_f32,
    .f64 = where_f64,
    .pick = simd__pick_any,
};
