/*
 * simd_scan_avx2.c - the loops of simd_scan_body.h, vectorised by the compiler, but for lut4.
 *
 * lut4: pshufb looks up 16 bytes in one table a lane, but neighbouring bytes of a block belong to
 * different tables. So the four sub-codes of 16 rows are first transposed: bytes within 128 bits,
 * then words of four bytes between the four registers.
 */
#include "simd/simd_x86.h"

#define UNUSED_BODY __attribute__((unused))
#include "simd/simd_scan_body.h"
#include "simd/simd_scan_int.h"

INL __m128i scan_load(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* sub[t] = byte t of the four-byte word of each of 16 rows. */
INL void scan_transpose(const uint8_t *p, __m128i sub[4])
{
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m128i a = _mm_shuffle_epi8(scan_load(p), order);
    __m128i b = _mm_shuffle_epi8(scan_load(p + 16), order);
    __m128i c = _mm_shuffle_epi8(scan_load(p + 32), order);
    __m128i d = _mm_shuffle_epi8(scan_load(p + 48), order);
    __m128i ab0 = _mm_unpacklo_epi32(a, b), cd0 = _mm_unpacklo_epi32(c, d);
    __m128i ab1 = _mm_unpackhi_epi32(a, b), cd1 = _mm_unpackhi_epi32(c, d);
    sub[0] = _mm_unpacklo_epi64(ab0, cd0);
    sub[1] = _mm_unpackhi_epi64(ab0, cd0);
    sub[2] = _mm_unpacklo_epi64(ab1, cd1);
    sub[3] = _mm_unpackhi_epi64(ab1, cd1);
}

/* 16-bit sums of a step's eight lookups, at most 2,040 each. */
INL __m256i scan_lut4_step(const uint8_t *p, const uint8_t *lut)
{
    const __m128i low = _mm_set1_epi8(15);
    __m128i sub[4];
    __m256i sum = _mm256_setzero_si256();
    scan_transpose(p, sub);
    UNROLL
    for (int t = 0; t < 4; t++) {
        __m128i a = _mm_shuffle_epi8(scan_load(lut + 16 * t), _mm_and_si128(sub[t], low));
        __m128i b = _mm_shuffle_epi8(scan_load(lut + 64 + 16 * t),
                                     _mm_and_si128(_mm_srli_epi16(sub[t], 4), low));
        sum = _mm256_add_epi16(sum, _mm256_add_epi16(_mm256_cvtepu8_epi16(a),
                                                     _mm256_cvtepu8_epi16(b)));
    }
    return sum;
}

static void lut4(const struct simd_blocks *b, const uint8_t *lut, int32_t *out)
{
    for (size_t i = 0; i < b->nblocks; i++, out += SCAN_ROWS) {
        const uint8_t *p = b->base + i * b->block_stride;
        __m256i lo = _mm256_setzero_si256(), hi = lo;
        for (size_t g = 0; g < b->nsteps;) {
            __m256i sum = _mm256_setzero_si256();
            size_t end = b->nsteps - g > 32 ? g + 32 : b->nsteps; /* 32 * 2,040 < 2^16 */
            for (; g < end; g++) {
                sum = _mm256_add_epi16(sum, scan_lut4_step(p + g * SCAN_STEP, lut + g * 128));
            }
            lo = _mm256_add_epi32(lo, _mm256_cvtepu16_epi32(_mm256_castsi256_si128(sum)));
            hi = _mm256_add_epi32(hi, _mm256_cvtepu16_epi32(_mm256_extracti128_si256(sum, 1)));
        }
        _mm256_storeu_si256((__m256i *)(void *)out, lo);
        _mm256_storeu_si256((__m256i *)(void *)(out + 8), hi);
    }
}

const struct simd_scan simd__scan_avx2 = {
    .nearest = body_nearest,
    .scores = body_scores,
    .dot8 = body_dot8,
    .lut4 = lut4,
    .lut8 = body_lut8,
    .tables = body_tables,
    .bytes = body_bytes,
    .planes = body_planes,
    .cut = body_cut,
};
