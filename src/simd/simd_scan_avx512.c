/*
 * simd_scan_avx512.c - AVX-512 with VNNI and VBMI.
 *
 * lut4: vpermb looks up 64 bytes in a table of 64, its index being four bits of code and two that
 * say which of the four sub-codes of a word the byte is: one table register serves all four. Then
 * vpdpbusd adds the four bytes of each word onto a 32-bit sum per row, so nothing saturates and no
 * lane is ever summed across: 7 instructions per 128 lookups. WHY: the usual pshufb with 16-bit
 * sums takes 11, and its sums must be split and widened.
 *
 * lut8: two vpermi2b look up in 128 bytes each, the index's top bit chooses.
 */
#include "simd/simd_x86.h"

#include "simd/simd_scan.h"
#include "simd/simd_scan_int.h"

#define NEAR_ROWS 8
#define NEAR_GROUPS 3
#define NEAR_BATCH 64 /* rows that share a pass over the centroids */

struct near_best {
    __m512 best[NEAR_BATCH];
    __m512i group[NEAR_BATCH];
};

/* out: the matrix, or NULL to keep the best. */
INL void near_block(const struct simd_near *t, int ng, size_t group0, size_t row0, size_t nr,
                    size_t batch0, struct near_best *nb, float *out, size_t lanes)
{
    __m512 acc[NEAR_ROWS][NEAR_GROUPS], c[NEAR_GROUPS];
    const uint8_t *x[NEAR_ROWS];
    const float *pack = t->pack + group0 * t->dim * SIMD_TILE;
    UNROLL
    for (int r = 0; r < NEAR_ROWS; r++) {
        x[r] = (const uint8_t *)t->rows + (row0 + ((size_t)r < nr ? (size_t)r : nr - 1)) * t->stride;
        UNROLL
        for (int g = 0; g < ng; g++) {
            acc[r][g] = _mm512_setzero_ps();
        }
    }
    for (size_t k = 0; k < t->dim; k++) {
        UNROLL
        for (int g = 0; g < ng; g++) {
            c[g] = _mm512_loadu_ps(pack + ((size_t)g * t->dim + k) * SIMD_TILE);
        }
        UNROLL
        for (int r = 0; r < NEAR_ROWS; r++) {
            __m512 v = _mm512_set1_ps(simd_load_f32(x[r] + 4 * k));
            UNROLL
            for (int g = 0; g < ng; g++) {
                acc[r][g] = _mm512_fmadd_ps(c[g], v, acc[r][g]);
            }
        }
    }
    UNROLL
    for (int g = 0; g < ng; g++) {
        size_t group = group0 + (size_t)g;
        __m512 bias = _mm512_loadu_ps(t->bias + group * SIMD_TILE);
        UNROLL
        for (int r = 0; r < NEAR_ROWS; r++) {
            __m512 s = _mm512_add_ps(acc[r][g], bias);
            if (out) {
                if ((size_t)r < nr) {
                    _mm512_storeu_ps(out + (row0 + (size_t)r) * lanes + group * SIMD_TILE, s);
                }
                continue;
            }
            size_t at = row0 - batch0 + (size_t)r;
            __mmask16 m = _mm512_cmp_ps_mask(s, nb->best[at], _CMP_GT_OQ);
            nb->best[at] = _mm512_mask_mov_ps(nb->best[at], m, s);
            nb->group[at] = _mm512_mask_mov_epi32(nb->group[at], m, _mm512_set1_epi32((int)group));
        }
    }
}

INL void near_rows(const struct simd_near *t, int ng, size_t group0, size_t row0, size_t nrows,
                   struct near_best *nb, float *out, size_t lanes)
{
    for (size_t i = 0; i < nrows; i += NEAR_ROWS) {
        size_t nr = nrows - i < NEAR_ROWS ? nrows - i : NEAR_ROWS;
        near_block(t, ng, group0, row0 + i, nr, row0, nb, out, lanes);
    }
}

INL void near_batch(const struct simd_near *t, size_t row0, size_t nrows, struct near_best *nb,
                    float *out)
{
    size_t ngroups = (t->ncent + SIMD_TILE - 1) / SIMD_TILE, lanes = ngroups * SIMD_TILE, step;
    for (size_t g = 0; g < ngroups; g += step) {
        size_t left = ngroups - g;
        step = left == 4 ? 2 : left > NEAR_GROUPS ? NEAR_GROUPS : left;
        if (step == 3) {
            near_rows(t, 3, g, row0, nrows, nb, out, lanes);
        } else if (step == 2) {
            near_rows(t, 2, g, row0, nrows, nb, out, lanes);
        } else {
            near_rows(t, 1, g, row0, nrows, nb, out, lanes);
        }
    }
}

static void nearest(const struct simd_near *t, uint32_t *at, float *best)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    struct near_best nb;
    for (size_t i = 0; i < t->nrows; i += NEAR_BATCH) {
        size_t n = t->nrows - i < NEAR_BATCH ? t->nrows - i : NEAR_BATCH;
        for (size_t r = 0; r < NEAR_BATCH; r++) {
            nb.best[r] = _mm512_set1_ps(-__builtin_inff());
            nb.group[r] = _mm512_setzero_si512();
        }
        near_batch(t, i, n, &nb, NULL);
        for (size_t r = 0; r < n; r++) {
            float top = _mm512_reduce_max_ps(nb.best[r]);
            __m512i id = _mm512_add_epi32(_mm512_slli_epi32(nb.group[r], 4), lane);
            __mmask16 m = _mm512_cmp_ps_mask(nb.best[r], _mm512_set1_ps(top), _CMP_EQ_OQ);
            best[i + r] = top;
            at[i + r] = top == -__builtin_inff() ? 0 : _mm512_mask_reduce_min_epu32(m, id);
        }
    }
}

static void scores(const struct simd_near *t, float *out)
{
    for (size_t i = 0; i < t->nrows; i += NEAR_BATCH) {
        size_t n = t->nrows - i < NEAR_BATCH ? t->nrows - i : NEAR_BATCH;
        near_batch(t, i, n, NULL, out);
    }
}

INL __m512i scan_word(const int8_t *p)
{
    int32_t w;
    memcpy(&w, p, sizeof w);
    return _mm512_set1_epi32(w);
}

/* Two blocks at a time: the query's words are loaded once and four chains of sums hide latency. */
static void dot8(const struct simd_blocks *b, const int8_t *hi, const int8_t *lo, int32_t *out)
{
    for (size_t i = 0; i < b->nblocks; i += 2) {
        const uint8_t *p = b->base + i * b->block_stride;
        const uint8_t *p2 = i + 1 < b->nblocks ? p + b->block_stride : p;
        __m512i h = _mm512_setzero_si512(), l = h, h2 = h, l2 = h;
        for (size_t g = 0; g < b->nsteps; g++) {
            __m512i x = _mm512_loadu_si512(p + g * SCAN_STEP);
            __m512i x2 = _mm512_loadu_si512(p2 + g * SCAN_STEP);
            __m512i wh = scan_word(hi + 4 * g), wl = scan_word(lo + 4 * g);
            h = _mm512_dpbusd_epi32(h, x, wh);
            l = _mm512_dpbusd_epi32(l, x, wl);
            h2 = _mm512_dpbusd_epi32(h2, x2, wh);
            l2 = _mm512_dpbusd_epi32(l2, x2, wl);
        }
        _mm512_storeu_si512(out + i * SCAN_ROWS, _mm512_add_epi32(_mm512_slli_epi32(h, 7), l));
        if (i + 1 < b->nblocks) {
            _mm512_storeu_si512(out + (i + 1) * SCAN_ROWS,
                                _mm512_add_epi32(_mm512_slli_epi32(h2, 7), l2));
        }
    }
}

/* (v & mask) | tag as one instruction. */
INL __m512i scan_index(__m512i v)
{
    const __m512i mask = _mm512_set1_epi8(15), tag = _mm512_set1_epi32(0x30201000);
    return _mm512_ternarylogic_epi64(v, mask, tag, 0xea);
}

INL void lut4_step(const uint8_t *p, __m512i t0, __m512i t1, __m512i *a, __m512i *b)
{
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i v = _mm512_loadu_si512(p);
    __m512i lo = _mm512_permutexvar_epi8(scan_index(v), t0);
    __m512i hi = _mm512_permutexvar_epi8(scan_index(_mm512_srli_epi16(v, 4)), t1);
    *a = _mm512_dpbusd_epi32(*a, lo, ones);
    *b = _mm512_dpbusd_epi32(*b, hi, ones);
}

static void lut4(const struct simd_blocks *b, const uint8_t *lut, int32_t *out)
{
    for (size_t i = 0; i < b->nblocks; i += 2) {
        const uint8_t *p = b->base + i * b->block_stride;
        const uint8_t *p2 = i + 1 < b->nblocks ? p + b->block_stride : p;
        __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t g = 0; g < b->nsteps; g++) {
            __m512i t0 = _mm512_loadu_si512(lut + g * 128);
            __m512i t1 = _mm512_loadu_si512(lut + g * 128 + 64);
            lut4_step(p + g * SCAN_STEP, t0, t1, &s0, &s1);
            lut4_step(p2 + g * SCAN_STEP, t0, t1, &s2, &s3);
        }
        _mm512_storeu_si512(out + i * SCAN_ROWS, _mm512_add_epi32(s0, s1));
        if (i + 1 < b->nblocks) {
            _mm512_storeu_si512(out + (i + 1) * SCAN_ROWS, _mm512_add_epi32(s2, s3));
        }
    }
}

/* Even and odd bytes as 16-bit sums: even holds even + 256 odd. */
static void lut8(const struct simd_blocks *b, const uint8_t *lut, int32_t *out)
{
    for (size_t i = 0; i < b->nblocks; i++, out += SCAN_ROWS8) {
        const uint8_t *p = b->base + i * b->block_stride;
        __m512i sum[4];
        UNROLL
        for (int s = 0; s < 4; s++) {
            sum[s] = _mm512_setzero_si512();
        }
        for (size_t g = 0; g < b->nsteps;) {
            __m512i even = _mm512_setzero_si512(), odd = even;
            size_t end = b->nsteps - g > 256 ? g + 256 : b->nsteps; /* 256 * 255 < 2^16 */
            for (; g < end; g++) {
                const uint8_t *t = lut + g * 256;
                __m512i v = _mm512_loadu_si512(p + g * SCAN_STEP);
                __m512i lo = _mm512_permutex2var_epi8(_mm512_loadu_si512(t), v,
                                                      _mm512_loadu_si512(t + 64));
                __m512i hi = _mm512_permutex2var_epi8(_mm512_loadu_si512(t + 128), v,
                                                      _mm512_loadu_si512(t + 192));
                __m512i r = _mm512_mask_mov_epi8(lo, _mm512_movepi8_mask(v), hi);
                even = _mm512_add_epi16(even, r);
                odd = _mm512_add_epi16(odd, _mm512_srli_epi16(r, 8));
            }
            even = _mm512_sub_epi16(even, _mm512_slli_epi16(odd, 8));
            /* Row 2 i is word i of even, row 2 i + 1 word i of odd: 32-bit sums in that order. */
            __m512i low = _mm512_set1_epi32(0xffff);
            sum[0] = _mm512_add_epi32(sum[0], _mm512_and_si512(even, low));
            sum[1] = _mm512_add_epi32(sum[1], _mm512_and_si512(odd, low));
            sum[2] = _mm512_add_epi32(sum[2], _mm512_srli_epi32(even, 16));
            sum[3] = _mm512_add_epi32(sum[3], _mm512_srli_epi32(odd, 16));
        }
        /* sum[s] lane i is row 4 i + s. */
        int32_t part[4][16];
        UNROLL
        for (int s = 0; s < 4; s++) {
            _mm512_storeu_si512(part[s], sum[s]);
        }
        for (int r = 0; r < SCAN_ROWS8; r++) {
            out[r] = part[r % 4][r / 4];
        }
    }
}

static void tables(const struct simd_tables *t, float *v)
{
    for (size_t j = 0; j < t->nsub; j++) {
        for (size_t w = 0; w < t->words; w += 16, v += 16) {
            __m512 sum = _mm512_setzero_ps();
            for (size_t k = t->sub_at[j]; k < t->sub_at[j + 1]; k++) {
                sum = _mm512_fmadd_ps(_mm512_set1_ps(t->q[k]),
                                      _mm512_loadu_ps(t->book + k * t->words + w), sum);
            }
            _mm512_storeu_ps(v, sum);
        }
    }
}

INL float table_low(const float *v, size_t words, float *ret_high)
{
    __m512 low = _mm512_loadu_ps(v), high = low;
    for (size_t w = 16; w < words; w += 16) {
        __m512 x = _mm512_loadu_ps(v + w);
        low = _mm512_min_ps(low, x);
        high = _mm512_max_ps(high, x);
    }
    *ret_high = _mm512_reduce_max_ps(high);
    return _mm512_reduce_min_ps(low);
}

/* The least of a table is kept in the first bytes of its place in lut between the passes. */
static float bytes(const float *v, size_t ntables, size_t words, uint8_t *lut, double *ret_base)
{
    float range = 0, low, high;
    double base = 0;
    for (size_t j = 0; j < ntables; j++) {
        low = table_low(v + j * words, words, &high);
        memcpy(lut + j * words, &low, sizeof low);
        range = high - low > range ? high - low : range;
        base += (double)low;
    }
    float scale = range / 255, inverse = scale > 0 ? 1 / scale : 0;
    for (size_t j = 0; j < ntables; j++) {
        memcpy(&low, lut + j * words, sizeof low);
        for (size_t w = 0; w < words; w += 16) {
            __m512 x = _mm512_sub_ps(_mm512_loadu_ps(v + j * words + w), _mm512_set1_ps(low));
            __m512i i = _mm512_cvttps_epi32(
                _mm512_fmadd_ps(x, _mm512_set1_ps(inverse), _mm512_set1_ps(0.5f)));
            _mm_storeu_si128((__m128i *)(void *)(lut + j * words + w), _mm512_cvtusepi32_epi8(i));
        }
    }
    *ret_base = base;
    return scale;
}

static double planes(const float *v, size_t n, float inverse, int8_t *hi, int8_t *lo,
                     double *ret_abs, double *ret_off)
{
    /* Sums of 16-bit numbers: 2^31 holds those of more elements than a vector has. */
    __m512i sum = _mm512_setzero_si512(), abs = sum;
    __m512 off = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xffff);
        __m512 t = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, v + i), _mm512_set1_ps(inverse));
        __m512i w = _mm512_cvtps_epi32(t);
        __m512i h = _mm512_srai_epi32(_mm512_add_epi32(w, _mm512_set1_epi32(64)), 7);
        __m512i l = _mm512_sub_epi32(w, _mm512_slli_epi32(h, 7));
        _mm_mask_storeu_epi8(hi + i, m, _mm512_cvtepi32_epi8(h));
        _mm_mask_storeu_epi8(lo + i, m, _mm512_cvtepi32_epi8(l));
        sum = _mm512_add_epi32(sum, w);
        abs = _mm512_add_epi32(abs, _mm512_abs_epi32(w));
        off = _mm512_add_ps(off, _mm512_abs_ps(_mm512_sub_ps(t, _mm512_cvtepi32_ps(w))));
    }
    *ret_abs = (double)_mm512_reduce_add_epi32(abs);
    *ret_off = (double)_mm512_reduce_add_ps(off);
    return (double)_mm512_reduce_add_epi32(sum);
}

INL __m512 cut_field(const uint8_t *p, size_t at, __m512 none)
{
    return at == SIMD_NO_FIELD ? none : _mm512_loadu_ps(p + at);
}

static size_t cut(const struct simd_cut *t, struct simd_cut_hit *hits)
{
    const __m512 a = _mm512_set1_ps(t->a), b = _mm512_set1_ps(t->b), c = _mm512_set1_ps(t->c);
    const __m512 w = _mm512_set1_ps(t->w), w0 = _mm512_set1_ps(t->w0);
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1);
    const __m512 bound = _mm512_set1_ps(t->bound);
    size_t found = 0, row = 0;
    const uint8_t *block = t->base;
    for (size_t i = 0; i < t->nrows; i += 16) {
        const uint8_t *p = block + 4 * row;
        row += 16;
        if (row == t->block_rows) {
            row = 0;
            block += t->block_stride;
        }
        __mmask16 in = (__mmask16)(t->nrows - i < 16 ? (1u << (t->nrows - i)) - 1 : 0xffff);
        __m512 s = _mm512_cvtepi32_ps(_mm512_loadu_si512(t->sums + i));
        __m512 key = _mm512_fmadd_ps(cut_field(p, t->mul_at, one), _mm512_fmadd_ps(a, s, b),
                                     _mm512_add_ps(c, cut_field(p, t->add_at, zero)));
        __m512 low = _mm512_sub_ps(key, _mm512_fmadd_ps(w, cut_field(p, t->err_at, zero), w0));
        __mmask16 m = _mm512_mask_cmp_ps_mask(in, low, bound, _CMP_NGT_UQ);
        if (__builtin_expect(m != 0, 0)) {
            float k[16], l[16];
            _mm512_storeu_ps(k, key);
            _mm512_storeu_ps(l, low);
            for (unsigned bits = m; bits; bits &= bits - 1) {
                unsigned at = (unsigned)__builtin_ctz(bits);
                hits[found++] = (struct simd_cut_hit){ (uint32_t)(i + at), k[at], l[at] };
            }
        }
    }
    return found;
}

const struct simd_scan simd__scan_avx512 = {
    .nearest = nearest,
    .scores = scores,
    .dot8 = dot8,
    .lut4 = lut4,
    .lut8 = lut8,
    .tables = tables,
    .bytes = bytes,
    .planes = planes,
    .cut = cut,
};
