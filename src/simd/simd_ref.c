/*
 * simd_ref.c - the meaning of every slot, as plain loops.
 *
 * Built without auto-vectorisation and without contraction of a * b + c, so that it computes what
 * it says. Every faster level is tested against a wider version of these loops, and a machine
 * without any known vector unit runs on this file.
 */
#include "simd/simd_int.h"
#include "simd/simd_rbq.h"

static float ref_pair(enum simd_kind k, enum simd_type t, const uint8_t *q, const uint8_t *x,
                      size_t dim)
{
    float sum = 0, qq = 0, xx = 0;
    for (size_t i = 0; i < dim; i++) {
        float b = simd_elem_f32(t, x, i);
        float a = k == K_NORM2 ? b : simd_elem_f32(t, q, i);
        if (k == K_L2) {
            sum += (a - b) * (a - b);
        } else {
            sum += a * b;
        }
        qq += a * a;
        xx += b * b;
    }
    return k == K_COS ? simd_cos_f32(sum, __builtin_sqrtf(qq), xx) : sum;
}

static float ref_pair_i8(enum simd_kind k, const int8_t *q, const int8_t *x, size_t dim)
{
    int32_t sum = 0, qq = 0, xx = 0;
    for (size_t i = 0; i < dim; i++) {
        int32_t b = x[i], a = k == K_NORM2 ? b : q[i];
        sum += k == K_L2 ? (a - b) * (a - b) : a * b;
        qq += a * a;
        xx += b * b;
    }
    return k == K_COS ? simd_cos_i32(sum, qq, xx) : (float)sum;
}

static float ref_pair_bits(enum simd_bit_kind k, const uint8_t *q, const uint8_t *x, size_t dim)
{
    uint64_t diff = 0, inter = 0, uni = 0, q_only = 0, x_only = 0;
    for (size_t i = 0; i < dim / 8; i++) {
        diff += (uint64_t)__builtin_popcount((unsigned)(q[i] ^ x[i]));
        inter += (uint64_t)__builtin_popcount((unsigned)(q[i] & x[i]));
        uni += (uint64_t)__builtin_popcount((unsigned)(q[i] | x[i]));
        q_only |= q[i] & ~(unsigned)x[i];
        x_only |= x[i] & ~(unsigned)q[i];
    }
    switch (k) {
    case KB_HAMMING:
        return (float)diff;
    case KB_JACCARD:
        return simd_jaccard(inter, uni);
    case KB_SUBSET:
        return q_only ? 1 : 0;
    default:
        return x_only ? 1 : 0;
    }
}

#define REF_ROWS(name, call)                                                                       \
    static void name##_rows(const void *qv, const void *base, size_t stride, size_t n, size_t dim, \
                            float *out)                                                            \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            const void *q = qv, *x = (const uint8_t *)base + i * stride;                           \
            out[i] = call;                                                                         \
        }                                                                                          \
    }                                                                                              \
    static void name##_ids(const void *qv, const void *base, size_t stride, const uint32_t *ids,   \
                           size_t n, size_t dim, float *out)                                       \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            const void *q = qv, *x = (const uint8_t *)base + ids[i] * stride;                      \
            out[i] = call;                                                                         \
        }                                                                                          \
    }
#define REF_FLOAT(type, TYPE)                                                                      \
    REF_ROWS(ref_l2_##type, ref_pair(K_L2, TYPE, q, x, dim))                                       \
    REF_ROWS(ref_ip_##type, ref_pair(K_IP, TYPE, q, x, dim))                                       \
    REF_ROWS(ref_cos_##type, ref_pair(K_COS, TYPE, q, x, dim))                                     \
    REF_ROWS(ref_norm2_##type, ref_pair(K_NORM2, TYPE, q, x, dim))

REF_FLOAT(f32, SIMD_F32)
REF_FLOAT(f16, SIMD_F16)
REF_FLOAT(bf16, SIMD_BF16)
REF_ROWS(ref_l2_i8, ref_pair_i8(K_L2, q, x, dim))
REF_ROWS(ref_ip_i8, ref_pair_i8(K_IP, q, x, dim))
REF_ROWS(ref_cos_i8, ref_pair_i8(K_COS, q, x, dim))
REF_ROWS(ref_norm2_i8, ref_pair_i8(K_NORM2, q, x, dim))
REF_ROWS(ref_hamming, ref_pair_bits(KB_HAMMING, q, x, dim))
REF_ROWS(ref_jaccard, ref_pair_bits(KB_JACCARD, q, x, dim))
REF_ROWS(ref_subset, ref_pair_bits(KB_SUBSET, q, x, dim))
REF_ROWS(ref_superset, ref_pair_bits(KB_SUPERSET, q, x, dim))

#define REF_WIDEN(type, TYPE)                                                                      \
    static void ref_widen_##type(const void *base, size_t stride, size_t n, size_t dim,            \
                                 float *out)                                                       \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            for (size_t k = 0; k < dim; k++) {                                                     \
                out[i * dim + k] = simd_elem_f32(TYPE, (const uint8_t *)base + i * stride, k);     \
            }                                                                                      \
        }                                                                                          \
    }
REF_WIDEN(f32, SIMD_F32)
REF_WIDEN(f16, SIMD_F16)
REF_WIDEN(bf16, SIMD_BF16)
REF_WIDEN(i8, SIMD_I8)

/* f32 query, rows of any type */
static float ref_pair_q(bool l2, enum simd_type t, const float *q, const uint8_t *x, size_t dim)
{
    float sum = 0;
    for (size_t i = 0; i < dim; i++) {
        float a = simd_load_f32((const uint8_t *)q + 4 * i), b = simd_elem_f32(t, x, i);
        sum += l2 ? (a - b) * (a - b) : a * b;
    }
    return sum;
}
#define REF_FLOAT_Q(type, TYPE)                                                                    \
    REF_ROWS(ref_l2q_##type, ref_pair_q(true, TYPE, q, x, dim))                                    \
    REF_ROWS(ref_ipq_##type, ref_pair_q(false, TYPE, q, x, dim))
REF_FLOAT_Q(f32, SIMD_F32)
REF_FLOAT_Q(f16, SIMD_F16)
REF_FLOAT_Q(bf16, SIMD_BF16)
REF_FLOAT_Q(i8, SIMD_I8)

enum ref_sq { REF_SQ_L2, REF_SQ_IP, REF_SQ_TERM };

static float ref_sq_pair(enum ref_sq kind, enum simd_sq_bits bits, const struct simd_sq *q,
                         const uint8_t *x)
{
    int32_t s = 0, h = 0, l = 0;
    for (size_t i = 0; i < q->dim; i++) {
        int32_t c = (int32_t)simd_sq_code(bits, x, q->dim, i);
        size_t at = simd_sq_plane(bits, i);
        s += c * (bits == SIMD_SQ8 ? c - 128 : c);
        h += c * q->hi[at];
        l += bits == SIMD_SQ4 ? 0 : c * q->lo[at];
    }
    float cross = q->cross * 128 * (float)h + q->cross * (float)l;
    float term = kind == REF_SQ_L2     ? q->self * (float)s
                 : kind == REF_SQ_TERM ? simd_load_f32(x + SIMD_SQ_BYTES(bits, q->dim))
                                       : 0;
    float out = q->add + term + cross;
    return kind != REF_SQ_IP && out < 0 ? 0 : out;
}
#define REF_SQ(name, KIND, BITS)                                                                   \
    static void name##_rows(const struct simd_sq *q, const void *base, size_t stride, size_t n,    \
                            float *out)                                                            \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            out[i] = ref_sq_pair(KIND, BITS, q, (const uint8_t *)base + i * stride);               \
        }                                                                                          \
    }                                                                                              \
    static void name##_ids(const struct simd_sq *q, const void *base, size_t stride,               \
                           const uint32_t *ids, size_t n, float *out)                              \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            out[i] = ref_sq_pair(KIND, BITS, q, (const uint8_t *)base + ids[i] * stride);          \
        }                                                                                          \
    }
#define REF_SQ_BITS(n)                                                                             \
    REF_SQ(ref_sq##n##_l2, REF_SQ_L2, SIMD_SQ##n)                                                  \
    REF_SQ(ref_sq##n##_ip, REF_SQ_IP, SIMD_SQ##n)                                                  \
    REF_SQ(ref_sq##n##_term, REF_SQ_TERM, SIMD_SQ##n)
REF_SQ_BITS(8)
REF_SQ_BITS(6)
REF_SQ_BITS(4)

TR_DEFINE
TR_DEFINE_ROUND
TR_DEFINE_HADAMARD

static void ref_narrow_f16(const float *v, size_t n, void *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h = simd_f32_to_f16(v[i]);
        memcpy((uint8_t *)out + 2 * i, &h, 2);
    }
}

static void ref_narrow_bf16(const float *v, size_t n, void *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h = simd_f32_to_bf16(v[i]);
        memcpy((uint8_t *)out + 2 * i, &h, 2);
    }
}

static size_t ref_select_le(const float *v, size_t n, float bound, uint32_t *idx)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i] <= bound) {
            idx[found++] = (uint32_t)i;
        }
    }
    return found;
}

static size_t ref_select_ge(const float *v, size_t n, float bound, uint32_t *idx)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i] >= bound) {
            idx[found++] = (uint32_t)i;
        }
    }
    return found;
}

static size_t ref_tile_f32(const struct simd_tile *t, struct simd_hit *hits)
{
    size_t found = 0;
    for (size_t j = 0; j < t->nq; j++) {
        const float *q = t->qpack + j / SIMD_TILE * t->dim * SIMD_TILE + j % SIMD_TILE;
        for (size_t i = 0; i < t->nrows; i++) {
            const uint8_t *x = (const uint8_t *)t->base + i * t->stride;
            float ip = 0;
            for (size_t k = 0; k < t->dim; k++) {
                ip += q[k * SIMD_TILE] * simd_load_f32(x + 4 * k);
            }
            /* Written so that a NaN on either side is a hit. */
            if (!(ip + t->row_bias[i] * t->q_weight[j] <= t->q_cut[j])) {
                hits[found].query = (uint32_t)j;
                hits[found].row = (uint32_t)i;
                found++;
            }
        }
    }
    return found;
}

static size_t ref_scan_block4(const struct simd_block4 *b, uint32_t *rows, float *v)
{
    size_t found = 0;
    for (size_t i = 0; i < b->nblocks * SIMD_BLOCK_ROWS; i++) {
        size_t block = i / SIMD_BLOCK_ROWS, r = i % SIMD_BLOCK_ROWS;
        const uint8_t *p = b->blocks + block * simd_block4_bytes(b->groups);
        if (b->allow && !(simd_load_u16(b->allow + 2 * block) >> r & 1)) {
            continue;
        }
        int32_t sum = 0;
        for (size_t k = 0; k < b->groups * 8; k++) {
            uint8_t two = p[SIMD_BLOCK4_HEAD + k / 8 * 64 + 4 * r + k % 4];
            sum += b->w[k] * (k % 8 < 4 ? two & 15 : two >> 4);
        }
        float val = (float)sum * b->g + simd_load_f32(p + (b->a1 ? 64 : 0) + 4 * r) * b->ka +
                    simd_load_f32(p + SIMD_BLOCK4_E + 4 * r) * b->ke;
        if (!(val < b->cut)) {
            rows[found] = (uint32_t)i;
            v[found++] = val;
        }
    }
    return found;
}

/* simd_sums.h, an element at a time. */
static double ref_fold(double *s)
{
    for (int h = 8; h > 0; h /= 2) {
        for (int i = 0; i < h; i++) {
            s[i] += s[i + h];
        }
    }
    return s[0];
}

static double ref_dot(const float *a, const float *b, size_t n)
{
    double s[16] = { 0 };
    for (size_t i = 0; i < n; i++) {
        s[i % 16] += (double)a[i] * (double)b[i];
    }
    return ref_fold(s);
}

static double ref_sum(const float *x, size_t n)
{
    double s[16] = { 0 };
    for (size_t i = 0; i < n; i++) {
        s[i % 16] += (double)x[i];
    }
    return ref_fold(s);
}

static void ref_scale(const float *x, size_t n, double by, float *out)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (float)((double)x[i] * by);
    }
}

DS_PLAIN

#define REF_SLOT(op, type, TYPE)                                                                   \
    ops->op[TYPE].rows = ref_##op##_##type##_rows;                                                 \
    ops->op[TYPE].ids = ref_##op##_##type##_ids
#define REF_SLOTS(type, TYPE)                                                                      \
    REF_SLOT(l2, type, TYPE);                                                                      \
    REF_SLOT(ip, type, TYPE);                                                                      \
    REF_SLOT(cos, type, TYPE);                                                                     \
    REF_SLOT(norm2, type, TYPE);                                                                   \
    REF_SLOT(l2q, type, TYPE);                                                                     \
    REF_SLOT(ipq, type, TYPE);                                                                     \
    ops->widen[TYPE] = ref_widen_##type

#define REF_SQ_SET(n)                                                                              \
    ops->sq_l2[SIMD_SQ##n] = (struct simd_sq_dist){ ref_sq##n##_l2_rows, ref_sq##n##_l2_ids };     \
    ops->sq_ip[SIMD_SQ##n] = (struct simd_sq_dist){ ref_sq##n##_ip_rows, ref_sq##n##_ip_ids };     \
    ops->sq_term[SIMD_SQ##n] = (struct simd_sq_dist){ ref_sq##n##_term_rows, ref_sq##n##_term_ids }

void simd__fill_ref(struct simd_ops *ops)
{
    REF_SLOTS(f32, SIMD_F32);
    REF_SLOTS(f16, SIMD_F16);
    REF_SLOTS(bf16, SIMD_BF16);
    REF_SLOTS(i8, SIMD_I8);
    ops->hamming = (struct simd_dist){ ref_hamming_rows, ref_hamming_ids };
    ops->jaccard = (struct simd_dist){ ref_jaccard_rows, ref_jaccard_ids };
    ops->subset = (struct simd_dist){ ref_subset_rows, ref_subset_ids };
    ops->superset = (struct simd_dist){ ref_superset_rows, ref_superset_ids };
    ops->select_le = ref_select_le;
    ops->select_ge = ref_select_ge;
    ops->tile_f32 = ref_tile_f32;
    ops->scan_block4 = ref_scan_block4;
    REF_SQ_SET(8);
    REF_SQ_SET(6);
    REF_SQ_SET(4);
    ops->rbq_rows = rbq_rows;
    ops->rbq_ids = rbq_ids;
    ops->bits_le = bits_le;
    ops->round_bytes = round_bytes;
    ops->round_planes = round_planes;
    ops->hadamard = hadamard;
    ops->dot = ref_dot;
    ops->sum = ref_sum;
    ops->scale = ref_scale;
    DS_PLAIN_FILL(ops);
    ops->narrow[SIMD_F16] = ref_narrow_f16;
    ops->narrow[SIMD_BF16] = ref_narrow_bf16;
}
