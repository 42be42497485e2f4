/*
 * simd_sq.h - the kernels on scalar quantised codes of one level, written once over primitives.
 *
 * The including level file has defined, for its vectors of VC_BYTES codes (16, 32 or 64)
 *
 *     vc vc_load(const uint8_t *p), vc_load_tail(const uint8_t *p, size_t n)
 *     vc vc_and(vc a, uint8_t mask), vc_or(vc a, vc b)
 *     vc vc_shr(vc a, int bits), vc_shl(vc a, int bits)   in wider lanes: bits cross bytes
 *     vc vc_high(const uint8_t *p, size_t n, size_t j)    upper bits of 6-bit codes, see ts_high()
 *     va va_zero(void)                        sums in 32-bit lanes
 *     va va_dot(bool small, va s, vc c, const int8_t *v)  s + c * v by fours; small: c below 64
 *     va va_self8(va s, vc c)                 s + c * (c - 128)
 *     va va_self(va s, vc c)                  s + c * c for c below 64
 *     vt va_float(va s)                       lanes as f32
 *     vt vt_mul1(vt a, float b), vt_fma1(vt a, float b, vt c)
 *     void vt_reduce4(const vt *v, float *out), float vt_reduce1(vt v)     in the same order
 *
 * A row's three sums (of squares and with both planes of the query) stay apart as integers and are
 * weighed and added as f32 lanes, so that one horizontal sum serves all three, four rows at a time.
 * Rows go one after the other for the reason simd_float.h gives.
 *
 * BY NUMBER   A distance is little work and mostly a wait for memory, so all lines of a row are
 *             asked for TS_AHEAD_BYTES of rows ahead, from before the first row on: with about
 *             as many lines in flight as a core keeps, measured with rows in memory.
 */
#include "simd/simd_int.h"

enum ts_kind { TS_L2, TS_IP, TS_TERM };

#define TS_AHEAD_BYTES 1280
#define TS_AHEAD_MIN 4

INL void ts_fetch(const uint8_t *p, size_t bytes)
{
    /* By the lines themselves: a row may begin anywhere in one. */
    const uint8_t *last = p + bytes - 1;
    for (; p < last; p += 64) {
        __builtin_prefetch(p, 0, 3);
    }
    __builtin_prefetch(last, 0, 3);
}

struct ts_sums {
    va self, hi, lo;
};

/* VC_BYTES codes against the planes at v and v + plane. */
INL void ts_step(enum ts_kind k, enum simd_sq_bits bits, struct ts_sums *s, vc c, const int8_t *hi,
                 const int8_t *lo)
{
    s->hi = va_dot(bits != SIMD_SQ8, s->hi, c, hi);
    if (bits != SIMD_SQ4) {
        s->lo = va_dot(bits != SIMD_SQ8, s->lo, c, lo);
    }
    if (k == TS_L2) {
        s->self = bits == SIMD_SQ8 ? va_self8(s->self, c) : va_self(s->self, c);
    }
}

/* Two vectors of codes from VC_BYTES nibble bytes at j, and the upper bits that belong to them. */
INL void ts_nibbles(enum ts_kind k, enum simd_sq_bits bits, const struct simd_sq *q,
                    struct ts_sums *s, vc v, vc high, size_t j)
{
    size_t at = j / 64 * 128 + j % 64;
    vc even = vc_and(v, 15), odd = vc_and(vc_shr(v, 4), 15);
    if (bits == SIMD_SQ6) {
        even = vc_or(even, vc_and(vc_shl(high, 4), 0x30));
        odd = vc_or(odd, vc_and(high, 0x30));
    }
    ts_step(k, bits, s, even, q->hi + at, q->lo + at);
    ts_step(k, bits, s, odd, q->hi + at + 64, q->lo + at + 64);
}

INL void ts_row_nibbles(enum ts_kind k, enum simd_sq_bits bits, const struct simd_sq *q,
                        const uint8_t *x, struct ts_sums *s)
{
    const size_t nb = (q->dim + 1) / 2;
    size_t j = 0;
    vc high = vc_and(vc_load_tail(x, 0), 0);
    for (; j + VC_BYTES <= nb; j += VC_BYTES) {
        if (bits == SIMD_SQ6) {
            high = vc_high(x + nb, nb, j);
        }
        ts_nibbles(k, bits, q, s, vc_load(x + j), high, j);
    }
    if (j < nb) {
        if (bits == SIMD_SQ6) {
            high = vc_high(x + nb, nb, j);
        }
        ts_nibbles(k, bits, q, s, vc_load_tail(x + j, nb - j), high, j);
    }
}

INL vt ts_row(enum ts_kind k, enum simd_sq_bits bits, const struct simd_sq *q, const uint8_t *x)
{
    struct ts_sums s = { va_zero(), va_zero(), va_zero() };
    if (bits == SIMD_SQ8) {
        size_t j = 0;
        for (; j + VC_BYTES <= q->dim; j += VC_BYTES) {
            ts_step(k, bits, &s, vc_load(x + j), q->hi + j, q->lo + j);
        }
        if (j < q->dim) {
            ts_step(k, bits, &s, vc_load_tail(x + j, q->dim - j), q->hi + j, q->lo + j);
        }
    } else {
        ts_row_nibbles(k, bits, q, x, &s);
    }
    vt f = vt_mul1(va_float(s.hi), 128 * q->cross);
    if (bits != SIMD_SQ4) {
        f = vt_fma1(va_float(s.lo), q->cross, f);
    }
    return k == TS_L2 ? vt_fma1(va_float(s.self), q->self, f) : f;
}

INL float ts_finish(enum ts_kind k, enum simd_sq_bits bits, const struct simd_sq *q,
                    const uint8_t *x, float sum)
{
    float out = q->add + sum;
    if (k == TS_TERM) {
        out += simd_load_f32(x + SIMD_SQ_BYTES(bits, q->dim));
    }
    return k != TS_IP && out < 0 ? 0 : out;
}

INL const uint8_t *ts_at(bool by_id, const uint8_t *base, size_t stride, const uint32_t *ids,
                         size_t i)
{
    return base + (by_id ? ids[i] : i) * stride;
}

INL void ts_run(enum ts_kind k, enum simd_sq_bits bits, bool by_id, const struct simd_sq *query,
                const uint8_t *base, size_t stride, const uint32_t *ids, size_t n, float *out)
{
    const struct simd_sq copy = *query, *q = &copy; /* no store to out can change it */
    const size_t bytes = SIMD_SQ_BYTES(bits, q->dim) + (k == TS_TERM ? 4 : 0);
    size_t i = 0, ahead = TS_AHEAD_BYTES / (bytes + 1);
    ahead = ahead < TS_AHEAD_MIN ? TS_AHEAD_MIN : ahead;
    float a[4];
    vt sums[4];
    if (q->dim == 0) {
        for (; i < n; i++) {
            out[i] = ts_finish(k, bits, q, ts_at(by_id, base, stride, ids, i), 0);
        }
        return;
    }
    for (size_t r = 0; by_id && r < ahead && r < n; r++) {
        ts_fetch(ts_at(true, base, stride, ids, r), bytes);
    }
    for (; i + 4 <= n; i += 4) {
        for (size_t r = 0; r < 4; r++) {
            if (by_id && i + r + ahead < n) {
                ts_fetch(ts_at(true, base, stride, ids, i + r + ahead), bytes);
            }
            sums[r] = ts_row(k, bits, q, ts_at(by_id, base, stride, ids, i + r));
        }
        vt_reduce4(sums, a);
        for (size_t r = 0; r < 4; r++) {
            out[i + r] = ts_finish(k, bits, q, ts_at(by_id, base, stride, ids, i + r), a[r]);
        }
    }
    for (; i < n; i++) {
        const uint8_t *x = ts_at(by_id, base, stride, ids, i);
        out[i] = ts_finish(k, bits, q, x, vt_reduce1(ts_row(k, bits, q, x)));
    }
}

#define TS_DEFINE(name, K, BITS)                                                                   \
    static void name##_rows(const struct simd_sq *q, const void *base, size_t stride, size_t n,    \
                            float *out)                                                            \
    {                                                                                              \
        ts_run(K, BITS, false, q, base, stride, NULL, n, out);                                     \
    }                                                                                              \
    static void name##_ids(const struct simd_sq *q, const void *base, size_t stride,               \
                           const uint32_t *ids, size_t n, float *out)                              \
    {                                                                                              \
        ts_run(K, BITS, true, q, base, stride, ids, n, out);                                       \
    }
#define TS_DEFINE_BITS(n)                                                                          \
    TS_DEFINE(sq##n##_l2, TS_L2, SIMD_SQ##n)                                                       \
    TS_DEFINE(sq##n##_ip, TS_IP, SIMD_SQ##n)                                                       \
    TS_DEFINE(sq##n##_term, TS_TERM, SIMD_SQ##n)
TS_DEFINE_BITS(8)
TS_DEFINE_BITS(6)
TS_DEFINE_BITS(4)

#define TS_SET(n)                                                                                  \
    ops->sq_l2[SIMD_SQ##n] = (struct simd_sq_dist){ sq##n##_l2_rows, sq##n##_l2_ids };             \
    ops->sq_ip[SIMD_SQ##n] = (struct simd_sq_dist){ sq##n##_ip_rows, sq##n##_ip_ids };             \
    ops->sq_term[SIMD_SQ##n] = (struct simd_sq_dist){ sq##n##_term_rows, sq##n##_term_ids }

INL void ts_fill(struct simd_ops *ops)
{
    TS_SET(8);
    TS_SET(6);
    TS_SET(4);
}
