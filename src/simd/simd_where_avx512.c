/* simd_where_avx512.c - interval kernels on 512 bits: comparisons give bits as they are. */
#include <immintrin.h>
#include <string.h>

#include "simd/simd_where.h"

static inline uint64_t word_i8(const uint8_t *p, __m512i lo, __m512i hi)
{
    __m512i x = _mm512_loadu_si512(p);
    return _mm512_mask_cmple_epi8_mask(_mm512_cmpge_epi8_mask(x, lo), x, hi);
}

static inline uint64_t word_i16(const uint8_t *p, __m512i lo, __m512i hi)
{
    uint64_t w = 0;
    for (size_t k = 0; k < 2; k++) {
        __m512i x = _mm512_loadu_si512(p + k * 64);
        w |= (uint64_t)_mm512_mask_cmple_epi16_mask(_mm512_cmpge_epi16_mask(x, lo), x, hi)
             << (k * 32);
    }
    return w;
}

static inline uint64_t word_i32(const uint8_t *p, __m512i lo, __m512i hi)
{
    uint64_t w = 0;
    for (size_t k = 0; k < 4; k++) {
        __m512i x = _mm512_loadu_si512(p + k * 64);
        w |= (uint64_t)_mm512_mask_cmple_epi32_mask(_mm512_cmpge_epi32_mask(x, lo), x, hi)
             << (k * 16);
    }
    return w;
}

static inline uint64_t word_i64(const uint8_t *p, __m512i lo, __m512i hi)
{
    uint64_t w = 0;
    for (size_t k = 0; k < 8; k++) {
        __m512i x = _mm512_loadu_si512(p + k * 64);
        w |= (uint64_t)_mm512_mask_cmple_epi64_mask(_mm512_cmpge_epi64_mask(x, lo), x, hi)
             << (k * 8);
    }
    return w;
}

static inline uint64_t word_f32(const uint8_t *p, __m512 lo, __m512 hi)
{
    uint64_t w = 0;
    for (size_t k = 0; k < 4; k++) {
        __m512 x = _mm512_loadu_ps(p + k * 64);
        __mmask16 in = _mm512_cmp_ps_mask(x, lo, _CMP_GE_OQ);
        w |= (uint64_t)_mm512_mask_cmp_ps_mask(in, x, hi, _CMP_LE_OQ) << (k * 16);
    }
    return w;
}

static inline uint64_t word_f64(const uint8_t *p, __m512d lo, __m512d hi)
{
    uint64_t w = 0;
    for (size_t k = 0; k < 8; k++) {
        __m512d x = _mm512_loadu_pd(p + k * 64);
        __mmask8 in = _mm512_cmp_pd_mask(x, lo, _CMP_GE_OQ);
        w |= (uint64_t)_mm512_mask_cmp_pd_mask(in, x, hi, _CMP_LE_OQ) << (k * 8);
    }
    return w;
}

WHERE_BY_WORDS(where_i8, __m512i, _mm512_set1_epi8((char)lo.i), _mm512_set1_epi8((char)hi.i),
             word_i8, 1)
WHERE_BY_WORDS(where_i16, __m512i, _mm512_set1_epi16((short)lo.i), _mm512_set1_epi16((short)hi.i),
             word_i16, 2)
WHERE_BY_WORDS(where_i32, __m512i, _mm512_set1_epi32((int)lo.i), _mm512_set1_epi32((int)hi.i),
             word_i32, 4)
WHERE_BY_WORDS(where_i64, __m512i, _mm512_set1_epi64(lo.i), _mm512_set1_epi64(hi.i), word_i64, 8)
WHERE_BY_WORDS(where_f32, __m512, _mm512_set1_ps(lo.f), _mm512_set1_ps(hi.f), word_f32, 4)
WHERE_BY_WORDS(where_f64, __m512d, _mm512_set1_pd(lo.d), _mm512_set1_pd(hi.d), word_f64, 8)

static size_t pick(const uint64_t *bits, uint32_t nbits, const uint32_t *rows, size_t n,
                   uint32_t first, uint32_t *out)
{
    const __m512i one = _mm512_set1_epi32(1), low = _mm512_set1_epi32(31);
    const __m512i end = _mm512_set1_epi32((int)nbits);
    __m512i at = _mm512_add_epi32(_mm512_set1_epi32((int)first),
                                  _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
                                                    14, 15));
    size_t m = 0;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 in = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xffffu);
        __m512i row = _mm512_maskz_loadu_epi32(in, rows + i);
        in = _mm512_mask_cmplt_epu32_mask(in, row, end);
        __m512i word = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), in,
                                                   _mm512_srli_epi32(row, 5), bits, 4);
        __m512i bit = _mm512_sllv_epi32(one, _mm512_and_si512(row, low));
        in = _mm512_mask_test_epi32_mask(in, word, bit);
        _mm512_storeu_si512(out + m, _mm512_maskz_compress_epi32(in, at));
        m += (size_t)__builtin_popcount(in);
        at = _mm512_add_epi32(at, _mm512_set1_epi32(16));
    }
    return m;
}

const struct simd_where simd__where_avx512 = {
    .i8 = where_i8,
    .i16 = where_i16,
    .i32 = where_i32,
    .i64 = where_i64,
    .f32 = where_f32,
    .f64 = where_f64,
    .pick = pick,
};
