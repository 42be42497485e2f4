/*
 * by_value.h - ascending order of numbers for qsort(). No NaN among them.
 */
#pragma once

static inline int by_f32(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}
static inline int by_f64(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
