/*
 * rotate.h - a random rotation in dim log dim steps.
 *
 * WHAT        Three rounds of random signs and fast Walsh-Hadamard transforms. A length that is no
 *             power of two takes the transform over its first and over its last 2^k elements, the
 *             largest power that fits, one after the other: after three rounds a single element's
 *             energy is spread over all within a few per cent.
 *             Everything is orthogonal up to f32 rounding, so lengths and inner products stay.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct simd_ops;

/* Elements after rotation: dim rounded up to a multiple of 64. */
size_t rotate_padded(size_t dim);
/* Floats that rotate_init() writes. */
size_t rotate_signs(size_t padded);
void rotate_init(size_t padded, uint64_t seed, float *signs);
/* In place. */
void rotate_run(const struct simd_ops *simd, size_t padded, const float *signs, float *x);
void rotate_back(const struct simd_ops *simd, size_t padded, const float *signs, float *x);
