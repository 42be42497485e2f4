/*
 * simd_sums.h - sums of floats and of their products in f64, scaling and limits: what a query or a
 * row goes through before it is coded.
 *
 * The same bits at every level: the product of two floats is exact in f64, so fused or not is the
 * same; element i goes to partial sum i % 16, and those are added in one order.
 */
#pragma once
#include "simd/simd_int.h"

#define DS_LANES 16

/* As many as the level's registers hold; compilers take three instructions to widen where one does. */
#if defined(__AVX512F__)
#define DS_WIDE 8
#elif defined(__AVX__)
#define DS_WIDE 4
#else
#define DS_WIDE 2
#endif
typedef float ds_f __attribute__((vector_size(DS_WIDE * 4)));
typedef double ds_d __attribute__((vector_size(DS_WIDE * 8)));

INL ds_d ds_load(const float *p)
{
    ds_f v;
    memcpy(&v, p, sizeof v);
#if defined(__AVX512F__)
    return (ds_d)_mm512_cvtps_pd((__m256)v);
#elif defined(__AVX__)
    return (ds_d)_mm256_cvtps_pd((__m128)v);
#else
    return __builtin_convertvector(v, ds_d);
#endif
}

INL ds_f ds_narrow(ds_d v)
{
#if defined(__AVX512F__)
    return (ds_f)_mm512_cvtpd_ps((__m512d)v);
#elif defined(__AVX__)
    return (ds_f)_mm256_cvtpd_ps((__m256d)v);
#else
    return __builtin_convertvector(v, ds_f);
#endif
}

INL double ds_fold(double *s)
{
    UNROLL
    for (int h = DS_LANES / 2; h > 0; h /= 2) {
        UNROLL
        for (int i = 0; i < h; i++) {
            s[i] += s[i + h];
        }
    }
    return s[0];
}

/* two is a constant where this is inlined; without, b is not looked at. */
INL double ds_sum(bool two, const float *a, const float *b, size_t n)
{
    ds_d v[DS_LANES / DS_WIDE] = { { 0 } };
    double s[DS_LANES];
    size_t i = 0;
    for (; i + DS_LANES <= n; i += DS_LANES) {
        UNROLL
        for (size_t k = 0; k < DS_LANES / DS_WIDE; k++) {
            const ds_d x = ds_load(a + i + DS_WIDE * k);
            v[k] += two ? x * ds_load(b + i + DS_WIDE * k) : x;
        }
    }
    memcpy(s, v, sizeof s);
    for (size_t k = 0; i < n; i++, k++) {
        s[k] += two ? (double)a[i] * (double)b[i] : (double)a[i];
    }
    return ds_fold(s);
}

static double dot(const float *a, const float *b, size_t n)
{
    return ds_sum(true, a, b, n);
}

static double sum(const float *x, size_t n)
{
    return ds_sum(false, x, x, n);
}

static void scale(const float *x, size_t n, double by, float *out)
{
    size_t i = 0;
    for (; i + DS_WIDE <= n; i += DS_WIDE) {
        ds_f v = ds_narrow(ds_load(x + i) * by);
        memcpy(out + i, &v, sizeof v);
    }
    for (; i < n; i++) {
        out[i] = (float)((double)x[i] * by);
    }
}

/* The rest becomes vector code of the level as it stands. */
DS_PLAIN

INL void ds_fill(struct simd_ops *ops)
{
    ops->dot = dot;
    ops->sum = sum;
    ops->scale = scale;
    DS_PLAIN_FILL(ops);
}
