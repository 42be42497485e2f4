/* check_tile.c - the selection and tile slots: which positions and pairs they report. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_simd.h"

void check_select(const struct simd_ops *ops)
{
    for (size_t n = 0; n < 70; n++) {
        struct guard gv, gi;
        guard_new(&gv, n * 4 + 4);
        guard_new(&gi, n * 4 + 4);
        float *v = (float *)(void *)(gv.end - n * 4);
        uint32_t *idx = (uint32_t *)(void *)(gi.end - n * 4);
        for (int round = 0; round < 8; round++) {
            float bound = round == 0 ? INFINITY : round == 1 ? -INFINITY : (float)(rng() % 8);
            for (size_t i = 0; i < n; i++) {
                v[i] = rng() % 9 == 0 ? NAN : (float)(rng() % 8);
            }
            for (int le = 0; le < 2; le++) {
                size_t got = (le ? ops->select_le : ops->select_ge)(v, n, bound, idx), want = 0;
                for (size_t i = 0; i < n; i++) {
                    if (le ? v[i] <= bound : v[i] >= bound) {
                        if (want >= got || idx[want] != i) {
                            check_fail(le ? "select_le" : "select_ge", n, "position",
                                       want < got ? idx[want] : -1.0, (double)i, 0);
                            break;
                        }
                        want++;
                    }
                }
                if (got != want) {
                    check_fail(le ? "select_le" : "select_ge", n, "count", (double)got,
                               (double)want, 0);
                }
            }
        }
        guard_free(&gv);
        guard_free(&gi);
    }
}

struct tile_case {
    size_t nq, nrows, dim, stride;
    struct guard gx, gp, gw, gh;
    uint8_t *base;
    float *queries, *pack, *weight, *cut, *bias;
    struct simd_hit *hits;
};

static void case_new(struct tile_case *c, size_t nq, size_t nrows, size_t dim)
{
    size_t padded = (nq + SIMD_TILE - 1) / SIMD_TILE * SIMD_TILE;
    size_t pack = simd_pack_len(nq, dim) * 4, nums = (2 * padded + nrows) * 4;
    *c = (struct tile_case){ .nq = nq, .nrows = nrows, .dim = dim, .stride = dim * 4 + 1 };
    guard_new(&c->gx, c->stride * nrows);
    guard_new(&c->gp, pack);
    guard_new(&c->gw, nums);
    guard_new(&c->gh, nq * nrows * sizeof(struct simd_hit));
    c->base = c->gx.end - dim * 4 - (nrows - 1) * c->stride;
    c->pack = (float *)(void *)(c->gp.end - pack);
    c->bias = (float *)(void *)(c->gw.end - nums);
    c->weight = c->bias + nrows;
    c->cut = c->weight + padded;
    c->hits = (struct simd_hit *)(void *)(c->gh.end - nq * nrows * sizeof(struct simd_hit));
    c->queries = malloc(nq * dim * 4);
    fill_elems(SIMD_F32, PAT_RANDOM, (uint8_t *)c->queries, nq * dim);
    for (size_t i = 0; i < nrows; i++) {
        fill_elems(SIMD_F32, PAT_RANDOM, c->base + i * c->stride, dim);
    }
    fill_elems(SIMD_F32, PAT_RANDOM, (uint8_t *)c->bias, nrows + padded);
    for (size_t j = 0; j < padded; j++) {
        c->cut[j] = (float)((double)(rng() % 200) / 100 - 1) * sqrtf((float)dim) * 0.4f;
    }
}

static void case_free(struct tile_case *c)
{
    guard_free(&c->gx);
    guard_free(&c->gp);
    guard_free(&c->gw);
    guard_free(&c->gh);
    free(c->queries);
}

static void check_case(const struct simd_ops *ops, struct tile_case *c, size_t nan_row)
{
    struct simd_tile t = { .qpack = c->pack,
                           .nq = c->nq,
                           .dim = c->dim,
                           .q_weight = c->weight,
                           .q_cut = c->cut,
                           .base = c->base,
                           .stride = c->stride,
                           .nrows = c->nrows,
                           .row_bias = c->bias };
    size_t found = ops->tile_f32(&t, c->hits);
    uint8_t *seen = calloc(c->nq, c->nrows);
    for (size_t h = 0; h < found; h++) {
        if (c->hits[h].query >= c->nq || c->hits[h].row >= c->nrows ||
            seen[c->hits[h].query * c->nrows + c->hits[h].row]++) {
            check_fail("tile_f32", c->dim, "hit out of range or twice", c->hits[h].query,
                       c->hits[h].row, 0);
            free(seen);
            return;
        }
    }
    for (size_t j = 0; j < c->nq; j++) {
        for (size_t i = 0; i < c->nrows; i++) {
            double ip = 0, abs_ip = 0;
            for (size_t k = 0; k < c->dim; k++) {
                double p = (double)c->queries[j * c->dim + k] *
                           (double)simd_load_f32(c->base + i * c->stride + 4 * k);
                ip += p;
                abs_ip += fabs(p);
            }
            double add = (double)c->bias[i] * c->weight[j];
            double bound = ((double)c->dim + 3) * 0x1p-24 * (abs_ip + fabs(add));
            bool hit = seen[j * c->nrows + i];
            double over = ip + add - c->cut[j];
            if ((i == nan_row && !hit) || (i != nan_row && (hit ? over < -bound : over > bound))) {
                check_fail("tile_f32", c->dim, hit ? "false hit" : "missed", ip + add, c->cut[j],
                           bound);
            }
        }
    }
    free(seen);
}

void check_tile(const struct simd_ops *ops)
{
    static const size_t dims[] = { 1, 2, 3, 7, 16, 33, 64, 100, 128, 129, 384, 1536 };
    for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
        for (size_t round = 0; round < 24; round++) {
            struct tile_case c;
            size_t nq = round < 8 ? round * 16 + 1 : 1 + rng() % 100;
            case_new(&c, nq, 1 + (round * 5 + d) % 40, dims[d]);
            simd_pack_f32(c.queries, c.dim * 4, c.nq, c.dim, NULL, c.pack);
            check_case(ops, &c, SIZE_MAX);
            size_t nan_row = rng() % c.nrows;
            set_special(SIMD_F32, c.base + nan_row * c.stride, rng() % c.dim, true);
            check_case(ops, &c, nan_row);
            case_free(&c);
        }
    }
}
