/*
 * simd_tile.h - many queries against a block of rows, written once over vector primitives.
 *
 * Besides vf of simd_float.h the level has defined
 *
 *     TILE_ROWS, TILE_GROUPS    rows and groups of 16 queries whose sums fit the registers
 *     vf vf_set1(float)         vf vf_load(SIMD_F32, p)
 *     unsigned vf_above(vf a, vf b)    bit per lane: a > b or either is NaN
 *
 * Queries lie in lanes and rows are broadcast, so the rows need no packing: queries are packed
 * once a search and every row is used where it lies. Sums stay in registers for the whole of dim;
 * the matrix of inner products is never written. Per step of dim the loop loads TILE_GROUPS query
 * vectors and TILE_ROWS scalars for TILE_ROWS * TILE_GROUPS multiply-adds.
 */
#include "simd/simd_int.h"

#define TILE_VECS (SIMD_TILE / VF_LANES)

INL size_t tt_emit(unsigned mask, size_t query0, size_t nq, size_t row, struct simd_hit *hits)
{
    size_t found = 0;
    while (mask) {
        size_t query = query0 + (size_t)__builtin_ctz(mask);
        mask &= mask - 1;
        if (query < nq) {
            hits[found].query = (uint32_t)query;
            hits[found].row = (uint32_t)row;
            found++;
        }
    }
    return found;
}

/* ng groups from group0 against TILE_ROWS rows from row0, of which nr count. In each step of dim
 * ahead is asked for a little further, so that the next block arrives while this one is worked on:
 * without it 16 queries spend a quarter of their time waiting for memory. */
INL size_t tt_block(const struct simd_tile *t, int ng, size_t group0, size_t row0, size_t nr,
                    const uint8_t *ahead, struct simd_hit *hits)
{
    const int nv = ng * TILE_VECS;
    vf acc[TILE_ROWS][TILE_GROUPS * TILE_VECS], qv[TILE_GROUPS * TILE_VECS];
    const uint8_t *x[TILE_ROWS], *qp = (const uint8_t *)(t->qpack + group0 * t->dim * SIMD_TILE);
    const size_t group_bytes = t->dim * SIMD_TILE * sizeof(float);
    size_t found = 0;
    UNROLL
    for (int r = 0; r < TILE_ROWS; r++) {
        size_t row = row0 + ((size_t)r < nr ? (size_t)r : nr - 1);
        x[r] = (const uint8_t *)t->base + row * t->stride;
        UNROLL
        for (int v = 0; v < nv; v++) {
            acc[r][v] = vf_zero();
        }
    }
    for (size_t k = 0; k < t->dim; k++) {
        __builtin_prefetch(ahead + k * TILE_ROWS * sizeof(float), 0, 2);
        UNROLL
        for (int v = 0; v < nv; v++) {
            qv[v] = vf_load(SIMD_F32, qp + (size_t)(v / TILE_VECS) * group_bytes +
                                          (k * SIMD_TILE + (size_t)(v % TILE_VECS) * VF_LANES) * 4);
        }
        UNROLL
        for (int r = 0; r < TILE_ROWS; r++) {
            vf xv = vf_set1(simd_load_f32(x[r] + 4 * k));
            UNROLL
            for (int v = 0; v < nv; v++) {
                acc[r][v] = vf_fma(qv[v], xv, acc[r][v]);
            }
        }
    }
    UNROLL
    for (int v = 0; v < nv; v++) {
        size_t query0 = group0 * SIMD_TILE + (size_t)v * VF_LANES;
        vf weight = vf_load(SIMD_F32, (const uint8_t *)(t->q_weight + query0));
        vf cut = vf_load(SIMD_F32, (const uint8_t *)(t->q_cut + query0));
        UNROLL
        for (int r = 0; r < TILE_ROWS; r++) {
            if ((size_t)r < nr) {
                vf s = vf_fma(vf_set1(t->row_bias[row0 + r]), weight, acc[r][v]);
                unsigned mask = vf_above(s, cut);
                if (__builtin_expect(mask != 0, 0)) {
                    found += tt_emit(mask, query0, t->nq, row0 + r, hits + found);
                }
            }
        }
    }
    return found;
}

static size_t tile_f32(const struct simd_tile *t, struct simd_hit *hits)
{
    const size_t ngroups = (t->nq + SIMD_TILE - 1) / SIMD_TILE;
    size_t found = 0, step;
    for (size_t g = 0; g < ngroups; g += step) {
        size_t left = ngroups - g;
        /* Four groups left are two and two: a lone last group would use a third of the unit. */
        step = left == TILE_GROUPS + 1 && TILE_GROUPS > 1 ? (left + 1) / 2 : left;
        step = step > TILE_GROUPS ? TILE_GROUPS : step;
        for (size_t i = 0; i < t->nrows; i += TILE_ROWS) {
            size_t nr = t->nrows - i < TILE_ROWS ? t->nrows - i : TILE_ROWS;
            /* Later groups of queries ask again for rows they are about to use. */
            const uint8_t *ahead = (const uint8_t *)(g == 0 && t->ahead ? t->ahead : t->base);
            ahead += i * t->stride;
#if TILE_GROUPS >= 3
            if (step == 3) {
                found += tt_block(t, 3, g, i, nr, ahead, hits + found);
                continue;
            }
            if (step == 2) {
                found += tt_block(t, 2, g, i, nr, ahead, hits + found);
                continue;
            }
#endif
            found += tt_block(t, 1, g, i, nr, ahead, hits + found);
        }
    }
    return found;
}
