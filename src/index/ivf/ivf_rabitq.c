/*
 * ivf_rabitq.c - a few bits a dimension of what a row differs from its centroid by, after a random
 * rotation.
 *
 * WHAT        "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for
 *             Approximate Nearest Neighbor Search" (Gao, Long, 2024) and its extension to more
 *             bits (2025). Let o = x - c be rotated to o', and v the vector of its codes, centred.
 *             Then for any y,  o.y ~ f v.y'  with f = |o|^2 / v.o', and the error is about
 *             |o| |y| sqrt(1 / cos^2 - 1) / sqrt(dim), cos the cosine of v and o'. With y = q - c:
 *
 *                 L2   |q - x|^2 = |q - c|^2 + |o|^2 - 2 o.(q - c)
 *                 IP   -q.x      = -q.c - o.c - o.(q - c)
 *
 *             v.c' goes into the row's own term, so tables hold the rotated query alone and serve
 *             every list. Kept per row: that term, the factor, the error's size.
 *             Bits 1, 2 and 4 fill half-bytes of lut4 with 4, 2 and 1 dimensions; 8 is dot8. Other
 *             numbers take the next larger, 9 takes 8.
 *             The rotation is ROTATE_ROUNDS rounds of flipped signs and a Hadamard transform over
 *             the first or last power of two of the dimensions: orthogonal for any dim.
 * INVARIANTS  A bound holds with the probability that BOUND standard errors give: 0.986 a side.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "index/ivf/ivf_int.h"

#define BOUND 2.2
#define SCALES 12 /* tried for codes of 2 and 4 bits */

static uint64_t mix(uint64_t *s)
{
    uint64_t z = *s += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

int ivf_rabitq_train(const struct index_params *p, struct ivf_codec *c, struct status *st)
{
    uint64_t s = p->seed ^ UINT64_C(0x5261426974510a0d);
    uint8_t *flips = alloc_try(ROTATE_ROUNDS * c->dim);
    if (!flips) {
        return st_fail(st, ST_NO_MEMORY, "no memory for a rotation of dimension %zu", c->dim);
    }
    for (size_t i = 0; i < ROTATE_ROUNDS * c->dim; i++) {
        flips[i] = (uint8_t)(mix(&s) >> 63);
    }
    c->flips = c->heap = flips;
    return 0;
}

/* In place, n a power of two; divided by sqrt(n). */
static void hadamard(float *x, size_t n)
{
    float scale = (float)(1 / sqrt((double)n));
    for (size_t h = 1; h < n; h *= 2) {
        for (size_t i = 0; i < n; i += 2 * h) {
            for (size_t j = i; j < i + h; j++) {
                float a = x[j], b = x[j + h];
                x[j] = a + b;
                x[j + h] = a - b;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        x[i] *= scale;
    }
}

void ivf_rotate(const uint8_t *flips, float *x, size_t dim)
{
    size_t n = 1;
    while (2 * n <= dim) {
        n *= 2;
    }
    for (int round = 0; round < ROTATE_ROUNDS; round++, flips += dim) {
        for (size_t k = 0; k < dim; k++) {
            x[k] = flips[k] ? -x[k] : x[k];
        }
        hadamard(round % 2 ? x + dim - n : x, n);
    }
}

/* Codes of o at one scale: the nearest of the 2^bits levels around zero. Returns v.o, |v|^2. */
static double quantise(const float *o, size_t dim, uint32_t bits, double scale, uint8_t *code,
                       double *ret_norm2)
{
    const double top = (double)(1u << bits) - 1, mid = top / 2;
    double dot = 0, norm2 = 0;
    for (size_t k = 0; k < dim; k++) {
        double t = o[k] * scale + mid + 0.5;
        t = t < 0 ? 0 : t > top ? top : t;
        uint8_t u = (uint8_t)t;
        double v = u - mid;
        code[k] = u;
        dot += v * o[k];
        norm2 += v * v;
    }
    *ret_norm2 = norm2;
    return dot;
}

/* Codes with the best cosine over a few scales around the largest element. */
static double best_codes(const float *o, size_t dim, uint32_t bits, uint8_t *code, uint8_t *try_,
                         double *ret_norm2)
{
    double most = 0, best = -1, best_dot = 0, norm2;
    for (size_t k = 0; k < dim; k++) {
        most = MAX(most, fabs((double)o[k]));
    }
    double full = (double)(1u << bits) / 2 / (most > 0 ? most : 1);
    for (int i = 0; i < (bits == 1 || bits == 8 ? 1 : SCALES); i++) {
        double dot = quantise(o, dim, bits, full * (1 + i * 0.25), try_, &norm2);
        double cosine = norm2 > 0 ? dot / sqrt(norm2) : 0;
        if (cosine > best) {
            best = cosine;
            best_dot = dot;
            *ret_norm2 = norm2;
            memcpy(code, try_, dim);
        }
    }
    return best_dot;
}

static void put_codes(const struct ivf_codec *c, const uint8_t *code, uint8_t *block, size_t r)
{
    for (size_t k = 0; k < c->dim; k++) {
        if (c->bits == 8) {
            block[k / 4 * SCAN_STEP + r * 4 + k % 4] = code[k];
            continue;
        }
        size_t per = 4 / c->bits, j = k / per; /* dimensions in half a byte; which half */
        uint8_t *p = block + j / 8 * SCAN_STEP + r * 4 + j % 4;
        *p = (uint8_t)(*p | code[k] << (k % per * c->bits + (j % 8 < 4 ? 0 : 4)));
    }
}

void ivf_rabitq_encode(const struct ivf_codec *c, float *x, size_t n, const float *centroid,
                       uint8_t *blocks, void *scratch)
{
    size_t dim = c->dim;
    bool l2 = c->metric == METRIC_L2;
    const double mid = ((double)(1u << c->bits) - 1) / 2;
    float *rotated = scratch; /* the centroid */
    uint8_t *code = (uint8_t *)(rotated + dim), *other = code + dim;
    memcpy(rotated, centroid, dim * sizeof(float));
    ivf_rotate(c->flips, rotated, dim);
    for (size_t i = 0; i < n; i++) {
        float *o = x + i * dim, field[3];
        uint8_t *block = blocks + i / SCAN_ROWS * c->lay.block_bytes;
        double len2 = 0, with_c = 0, code_c = 0, norm2 = 0;
        for (size_t k = 0; k < dim; k++) {
            o[k] -= centroid[k];
            len2 += (double)o[k] * o[k];
            with_c += (double)o[k] * centroid[k];
        }
        bool wild = !(len2 < 0x1p100) || !(fabs(with_c) < 0x1p100);
        for (size_t k = 0; wild && k < dim; k++) {
            o[k] = 0;
        }
        ivf_rotate(c->flips, o, dim);
        double dot = best_codes(o, dim, c->bits, code, other, &norm2);
        for (size_t k = 0; k < dim; k++) {
            code_c += (code[k] - mid) * rotated[k];
        }
        double f = dot > 0 ? len2 / dot : 0;
        double cos2 = dot > 0 ? dot * dot / (norm2 * len2) : 1;
        double err = sqrt(len2) * sqrt(MAX(1 / cos2 - 1, 0.0)) / sqrt(MAX((double)dim - 1, 1.0));
        err += 1e-5 * sqrt(len2);
        field[0] = (float)(l2 ? len2 + 2 * f * code_c : f * code_c - with_c);
        field[1] = (float)(l2 ? -2 * f : -f);
        field[2] = (float)(l2 ? 2 * err : err);
        if (wild) { /* always looked at */
            field[0] = field[1] = 0;
            field[2] = INFINITY;
        }
        size_t r = i % SCAN_ROWS;
        put_codes(c, code, block, r);
        memcpy(block + c->lay.add_at + 4 * r, &field[0], 4);
        memcpy(block + c->lay.mul_at + 4 * r, &field[1], 4);
        memcpy(block + c->lay.err_at + 4 * r, &field[2], 4);
    }
}

void ivf_rabitq_query(const struct ivf_codec *c, struct ivf_query_code *qc)
{
    size_t dim = c->dim;
    const double mid = ((double)(1u << c->bits) - 1) / 2;
    float *q = qc->tmp; /* rotated */
    double base = 0, sum = 0, abs, off;
    if (c->bits == 8) {
        memcpy(q, qc->q, dim * sizeof(float));
        ivf_rotate(c->flips, q, dim);
        qc->a = ivf_planes(q, dim, c->lay.nsteps, qc->hi, qc->lo, &sum, &abs, &off);
        qc->b = (float)(-mid * qc->a * sum);
    } else {
        size_t tables = c->lay.nsteps * 8, per = 4 / c->bits;
        float *v = q + ROUND_UP(dim, (size_t)16);
        memcpy(q, qc->q, dim * sizeof(float));
        ivf_rotate(c->flips, q, dim);
        for (size_t j = 0; j < tables; j++) {
            float *t = v + j * 16;
            size_t size = 1;
            t[0] = 0;
            for (size_t i = 0; i < per; i++) { /* each level of one more dimension */
                float x = j * per + i < dim ? q[j * per + i] : 0;
                for (size_t u = 1; u < 1u << c->bits; u++) {
                    for (size_t w = 0; w < size; w++) {
                        t[u * size + w] = t[w] + (float)u * x;
                    }
                }
                size <<= c->bits;
            }
        }
        for (size_t k = 0; k < dim; k++) {
            sum += q[k];
        }
        qc->a = simd_scan()->bytes(v, tables, 16, qc->lut, &base);
        qc->b = (float)(base - mid * sum);
    }
    qc->c = 0;
    qc->margin = IVF_LINEAR;
    qc->w = (float)BOUND;
    qc->w0 = 0;
    qc->list_key = true;
    qc->list_scale = true;
}
