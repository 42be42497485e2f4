/*
 * simd_block.h - the scan over blocks of 4-bit codes, written once over a few vector primitives.
 *
 * The including level file has defined, for vectors that hold BL_LANES rows:
 *
 *     bf                                                BL_LANES floats
 *     struct bl_acc { ... }                             sums of BL_LANES rows
 *     void bl_clear(struct bl_acc *)
 *     void bl_step(struct bl_acc *, int odd, const uint8_t *codes, const int8_t *w)
 *         adds a group; odd is a constant: groups alternate between two sets of sums where the
 *         multiply-add's latency asks for it
 *     void bl_flush(struct bl_acc *)                    called after every BL_FLUSH groups at least
 *     bf bl_total(struct bl_acc *)
 *     bf bl_load(const uint8_t *), bl_set1(float), bl_mul(bf, bf), bl_fma(bf, bf, bf)
 *     void bl_store(float *, bf)
 *     unsigned bl_hits(bf v, bf cut)                    bit i: v[i] is not below cut[i]
 *
 * Rows of a block are taken in 16 / BL_LANES passes over it, in the order of memory: two blocks
 * side by side would hide latency as well, but break the hardware's streams.
 */
#include "simd/simd_int.h"

#define BL_PASSES (SIMD_BLOCK_ROWS / BL_LANES)

INL bf bl_sums(const uint8_t *codes, const int8_t *w, size_t groups)
{
    struct bl_acc acc;
    size_t g = 0;
    bl_clear(&acc);
    while (g + BL_FLUSH <= groups) {
        UNROLL
        for (int i = 0; i < BL_FLUSH; i++) {
            bl_step(&acc, i & 1, codes + (g + (size_t)i) * 64, w + (g + (size_t)i) * 8);
        }
        bl_flush(&acc);
        g += BL_FLUSH;
    }
    for (; g < groups; g++) {
        bl_step(&acc, 0, codes + g * 64, w + g * 8);
    }
    bl_flush(&acc);
    return bl_total(&acc);
}

static size_t scan_block4(const struct simd_block4 *b, uint32_t *rows, float *v)
{
    const size_t bytes = simd_block4_bytes(b->groups), a = b->a1 ? 64 : 0;
    const bf g = bl_set1(b->g), ka = bl_set1(b->ka), ke = bl_set1(b->ke), cut = bl_set1(b->cut);
    size_t found = 0;
    for (size_t i = 0; i < b->nblocks; i++) {
        const uint8_t *p = b->blocks + i * bytes;
        unsigned in = 0xffff, hits = 0;
        bf val[BL_PASSES];
        if (b->allow) {
            in = simd_load_u16(b->allow + 2 * i);
            if (in == 0) {
                continue;
            }
        }
        UNROLL
        for (unsigned pass = 0; pass < BL_PASSES; pass++) {
            const uint8_t *head = p + pass * BL_LANES * 4;
            bf sum = bl_sums(p + SIMD_BLOCK4_HEAD + pass * BL_LANES * 4, b->w, b->groups);
            bf err = bl_mul(bl_load(head + SIMD_BLOCK4_E), ke);
            val[pass] = bl_fma(sum, g, bl_fma(bl_load(head + a), ka, err));
            hits |= bl_hits(val[pass], cut) << pass * BL_LANES;
        }
        hits &= in;
        if (__builtin_expect(hits != 0, 0)) {
            float tmp[SIMD_BLOCK_ROWS];
            UNROLL
            for (unsigned pass = 0; pass < BL_PASSES; pass++) {
                bl_store(tmp + pass * BL_LANES, val[pass]);
            }
            for (; hits; hits &= hits - 1) {
                unsigned r = (unsigned)__builtin_ctz(hits);
                rows[found] = (uint32_t)(i * SIMD_BLOCK_ROWS + r);
                v[found++] = tmp[r];
            }
        }
    }
    return found;
}
