/* rotate.c - see rotate.h. Signs carry the transform's 1 / sqrt(2^k), so it costs nothing extra. */
#include "index/quant/rotate.h"

#include <math.h>

#include "simd/simd.h"

#define ROUNDS 3

static size_t block_of(size_t padded)
{
    size_t block = 64;
    while (block * 2 <= padded) {
        block *= 2;
    }
    return block;
}

size_t rotate_padded(size_t dim)
{
    return (dim + 63) / 64 * 64;
}

size_t rotate_signs(size_t padded)
{
    size_t block = block_of(padded);
    return ROUNDS * (block == padded ? block : 2 * block);
}

void rotate_init(size_t padded, uint64_t seed, float *signs)
{
    const float size = (float)(1 / sqrt((double)block_of(padded)));
    const size_t n = rotate_signs(padded);
    uint64_t state = seed, bits = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % 64 == 0) { /* splitmix64 */
            state += UINT64_C(0x9e3779b97f4a7c15);
            bits = (state ^ state >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
            bits = (bits ^ bits >> 27) * UINT64_C(0x94d049bb133111eb);
            bits ^= bits >> 31;
        }
        signs[i] = bits >> (i % 64) & 1 ? -size : size;
    }
}

void rotate_run(const struct simd_ops *simd, size_t padded, const float *signs, float *x)
{
    const size_t block = block_of(padded);
    for (int round = 0; round < ROUNDS; round++) {
        simd->times(x, signs, block);
        simd->hadamard(x, block);
        signs += block;
        if (block != padded) {
            simd->times(x + padded - block, signs, block);
            simd->hadamard(x + padded - block, block);
            signs += block;
        }
    }
}

/* The transform is its own inverse but for its scale, which the signs carry. */
void rotate_back(const struct simd_ops *simd, size_t padded, const float *signs, float *x)
{
    const size_t block = block_of(padded);
    signs += rotate_signs(padded);
    for (int round = 0; round < ROUNDS; round++) {
        if (block != padded) {
            signs -= block;
            simd->hadamard(x + padded - block, block);
            simd->times(x + padded - block, signs, block);
        }
        signs -= block;
        simd->hadamard(x, block);
        simd->times(x, signs, block);
    }
}
