/* check_block.c - the block scan: which rows it reports, and with which value. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check_simd.h"

struct block_case {
    struct guard gb, gw, ga, gr, gv;
    struct simd_block4 b;
    size_t n;
    uint32_t *rows;
    float *v;
};

static float random_unit(void)
{
    return (float)((double)(int64_t)rng() * 0x1p-63);
}

static void set_f32(uint8_t *p, float f)
{
    memcpy(p, &f, sizeof f);
}

/* extreme: all products as large as they get, and of one sign. */
static void case_new(struct block_case *c, size_t nblocks, size_t groups, bool extreme)
{
    size_t bytes = simd_block4_bytes(groups), n = nblocks * SIMD_BLOCK_ROWS;
    memset(c, 0, sizeof *c);
    c->n = n;
    guard_new(&c->gb, nblocks * bytes);
    guard_new(&c->gw, groups * 8);
    guard_new(&c->ga, nblocks * 2);
    guard_new(&c->gr, n * 4);
    guard_new(&c->gv, n * 4);
    uint8_t *blocks = c->gb.end - nblocks * bytes;
    int8_t *w = (int8_t *)c->gw.end - groups * 8;
    int sign = rng() & 1 ? 1 : -1;
    for (size_t i = 0; i < nblocks * bytes; i++) {
        blocks[i] = extreme ? 0xff : (uint8_t)(rng() >> 20);
    }
    for (size_t i = 0; i < groups * 8; i++) {
        w[i] = (int8_t)(extreme ? sign * 127 : (int)(rng() % 255) - 127);
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t *head = blocks + i / SIMD_BLOCK_ROWS * bytes + 4 * (i % SIMD_BLOCK_ROWS);
        set_f32(head, random_unit());
        set_f32(head + 64, random_unit());
        set_f32(head + SIMD_BLOCK4_E, rng() % 64 == 0 ? INFINITY : random_unit());
    }
    c->b = (struct simd_block4){ .blocks = blocks, .nblocks = nblocks, .groups = groups, .w = w,
                                 .a1 = rng() & 1, .g = random_unit() * 1e-3f, .ka = random_unit(),
                                 .ke = fabsf(random_unit()) + 0x1p-20f };
    c->b.cut = random_unit() * sqrtf((float)groups);
    c->rows = (uint32_t *)(void *)(c->gr.end - n * 4);
    c->v = (float *)(void *)(c->gv.end - n * 4);
}

static void case_free(struct block_case *c)
{
    guard_free(&c->gb);
    guard_free(&c->gw);
    guard_free(&c->ga);
    guard_free(&c->gr);
    guard_free(&c->gv);
}

/* The value of row i in double, and how far a kernel may be off. */
static double value_of(const struct simd_block4 *b, size_t i, double *ret_bound)
{
    const uint8_t *p = b->blocks + i / SIMD_BLOCK_ROWS * simd_block4_bytes(b->groups);
    size_t r = i % SIMD_BLOCK_ROWS;
    int64_t sum = 0;
    for (size_t g = 0; g < b->groups; g++) {
        for (size_t j = 0; j < 4; j++) {
            uint8_t two = p[SIMD_BLOCK4_HEAD + 64 * g + 4 * r + j];
            sum += b->w[8 * g + j] * (two & 15) + b->w[8 * g + 4 + j] * (two >> 4);
        }
    }
    double s = (double)sum * b->g, e = (double)simd_load_f32(p + SIMD_BLOCK4_E + 4 * r) * b->ke;
    double a = (double)simd_load_f32(p + (b->a1 ? 64 : 0) + 4 * r) * b->ka;
    *ret_bound = 0x1p-22 * (fabs(s) + fabs(a) + fabs(e));
    return s + a + e;
}

static void check_case(const struct simd_ops *ops, struct block_case *c)
{
    size_t found = ops->scan_block4(&c->b, c->rows, c->v), at = 0;
    for (size_t i = 0; i < c->n; i++) {
        double bound, want = value_of(&c->b, i, &bound);
        bool hit = at < found && c->rows[at] == i;
        bool allowed = !c->b.allow || c->b.allow[i / 8] >> (i % 8) & 1;
        if (hit && fabs(c->v[at] - want) > bound) {
            check_fail("scan_block4", c->b.groups * 8, "value", c->v[at], want, bound);
        }
        if (hit ? !allowed || want < c->b.cut - bound : allowed && !(want < c->b.cut + bound)) {
            check_fail("scan_block4", c->b.groups * 8, hit ? "false hit" : "missed", want,
                       c->b.cut, bound);
        }
        at += hit;
    }
    if (at != found) {
        check_fail("scan_block4", c->b.groups * 8, "order", (double)found, (double)at, 0);
    }
}

void check_block(const struct simd_ops *ops)
{
    static const size_t groups[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 48, 96, 4096 };
    for (size_t d = 0; d < sizeof groups / sizeof groups[0]; d++) {
        for (size_t round = 0; round < (groups[d] > 100 ? 4 : 24); round++) {
            struct block_case c;
            case_new(&c, round % 7, groups[d], round % 4 == 3);
            check_case(ops, &c);
            uint8_t *allow = c.ga.end - c.n / 8;
            for (size_t i = 0; i < c.n / 8; i++) {
                allow[i] = rng() % 3 ? (uint8_t)(rng() >> 9) : 0;
            }
            c.b.allow = allow;
            check_case(ops, &c);
            c.b.cut = -INFINITY;
            check_case(ops, &c);
            case_free(&c);
        }
    }
}
