/*
 * test_codec.c - every quantiser, by what its header promises, on data of many shapes.
 *
 * A codec's own decode() says what a code stands for: keys are held to the exact distance between
 * the query and the decoded row, decoded rows to the rows, bounds to the exact distance of the row.
 */
#include "../lib/unit.h"

#include <math.h>

#include "base/hash.h"
#include "index/quant/codec.h"
#include "simd/simd.h"

static uint64_t rng_state = 88172645463325252u;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static float rng_unit(void)
{
    return (float)((double)(int64_t)rng() * 0x1p-63);
}

static float rng_normal(void)
{
    return rng_unit() + rng_unit() + rng_unit() + rng_unit();
}

/* ---- Elements ---- */

static uint16_t half_of(float f) /* truncates */
{
    uint32_t b;
    memcpy(&b, &f, 4);
    if (isnan(f) || isinf(f)) {
        return (uint16_t)((b >> 16 & 0x8000) | 0x7c00 | (isnan(f) ? 0x200 : 0));
    }
    int exp = (int)(b >> 23 & 0xff) - 112;
    return exp <= 0   ? 0
           : exp > 30 ? (uint16_t)((b >> 16 & 0x8000) | 0x7bff)
                      : (uint16_t)((b >> 16 & 0x8000) | (uint32_t)exp << 10 | (b >> 13 & 0x3ff));
}

static float half_to(uint16_t h)
{
    int exp = h >> 10 & 31, man = h & 1023;
    float f = exp == 0    ? ldexpf((float)man, -24)
              : exp == 31 ? (man ? NAN : INFINITY)
                          : ldexpf((float)(man + 1024), exp - 25);
    return h & 0x8000 ? -f : f;
}

static void put_elem(enum vec_type type, uint8_t *p, size_t i, float f)
{
    uint32_t b;
    uint16_t h;
    switch (type) {
    case VEC_F32:
        memcpy(p + 4 * i, &f, 4);
        break;
    case VEC_F16:
        h = half_of(f);
        memcpy(p + 2 * i, &h, 2);
        break;
    case VEC_BF16:
        memcpy(&b, &f, 4);
        h = (uint16_t)(b >> 16);
        memcpy(p + 2 * i, &h, 2);
        break;
    default:
        p[i] = (uint8_t)(int8_t)(f >= 127 ? 127 : f <= -128 ? -128 : isnan(f) ? 0 : rintf(f));
        break;
    }
}

static double get_elem(enum vec_type type, const uint8_t *p, size_t i)
{
    float f;
    uint16_t h;
    uint32_t b;
    switch (type) {
    case VEC_F32:
        memcpy(&f, p + 4 * i, 4);
        return f;
    case VEC_F16:
        memcpy(&h, p + 2 * i, 2);
        return half_to(h);
    case VEC_BF16:
        memcpy(&h, p + 2 * i, 2);
        b = (uint32_t)h << 16;
        memcpy(&f, &b, 4);
        return f;
    case VEC_I8:
        return (int8_t)p[i];
    default:
        return p[i / 8] >> (i % 8) & 1;
    }
}

/* ---- A set of rows, one codec of it, codes ---- */

enum data { DATA_NORMAL, DATA_SPREAD, DATA_CONSTANT, DATA_ZERO, DATA_TINY, DATA_WHOLE, DATA_COUNT };

#define NROWS 64
#define NQUERIES 5

struct world {
    enum codec_kind kind;
    enum metric metric;
    enum vec_type type;
    size_t dim, bytes, stride;
    struct index_rows rows;
    uint8_t *base, *queries, *codes;
    struct codec *c;
    void *pq;
};

static float value_of(enum data data, enum vec_type type, size_t i)
{
    float scale = type == VEC_I8 ? 40 : 1;
    switch (data) {
    case DATA_SPREAD: /* dimensions of very different spread and place */
        return scale * (rng_normal() * ldexpf(1, -(int)(i % 5)) * 0.5f + (float)(i % 3) - 1);
    case DATA_CONSTANT:
        return scale * ((float)(i % 7) - 3);
    case DATA_ZERO:
        return 0;
    case DATA_TINY:
        return scale * rng_normal() * 0x1p-130f;
    case DATA_WHOLE:
        return (float)(rng() % 120);
    default:
        return scale * rng_normal();
    }
}

static void fill_row(const struct world *w, enum data data, uint8_t *p)
{
    if (w->type == VEC_BIN) {
        for (size_t i = 0; i < w->bytes; i++) {
            p[i] = data == DATA_ZERO       ? 0
                   : data == DATA_CONSTANT ? 0xa5
                   : data == DATA_SPREAD   ? (uint8_t)(rng() & rng() & rng())
                                           : (uint8_t)rng();
        }
        return;
    }
    for (size_t i = 0; i < w->dim; i++) {
        put_elem(w->type, p, i, value_of(data, w->type, i));
    }
}

static uint32_t forced_bits; /* of RaBitQ, in tests of each */

static struct codec_spec spec_of(enum codec_kind kind, size_t dim)
{
    static const uint32_t nbits[] = { 8, 4, 6, 8, 10, 4 }, bits[] = { 1, 2, 1, 4, 1, 8, 9, 3 };
    struct codec_spec s = { .kind = kind, .seed = 7, .bounds = true };
    s.nbits = nbits[dim % 6];
    s.bits = bits[dim % 8];
    s.nrq = 2;
    s.bits = forced_bits ? forced_bits : s.bits;
    s.m = (uint32_t)(dim % 8 == 0 ? dim / 8 : dim % 2 == 0 ? dim / 2 : dim);
    return s;
}

static struct codec_spec the_spec; /* of the world being made */

static void world_new(struct world *w, enum codec_kind kind, enum metric metric, enum vec_type type,
                      size_t dim, enum data data)
{
    struct status st = STATUS_INIT;
    memset(w, 0, sizeof *w);
    w->kind = kind;
    w->metric = metric;
    w->type = type;
    w->dim = dim;
    w->bytes = vec_bytes(type, dim);
    size_t row_stride = w->bytes + rng() % 2 * 3;
    w->base = malloc(NROWS * row_stride);
    w->queries = malloc(NQUERIES * w->bytes);
    for (size_t i = 0; i < NROWS; i++) {
        fill_row(w, data, w->base + i * row_stride);
    }
    for (size_t i = 0; i < NQUERIES; i++) {
        fill_row(w, i < 3 ? data : DATA_NORMAL, w->queries + i * w->bytes);
    }
    memcpy(w->queries, w->base, w->bytes);
    w->rows = (struct index_rows){ .metric = metric,
                                   .type = type,
                                   .dim = dim,
                                   .base = w->base,
                                   .stride = row_stride,
                                   .nrows = NROWS };
    the_spec = spec_of(kind, dim);
    ASSERT_OK(codec_train(&the_spec, &w->rows, NULL, NULL, NULL, &w->c, &st));
    w->stride = codec_stride(w->c);
    w->codes = malloc(NROWS * w->stride);
    codec_encode(w->c, w->base, row_stride, NROWS, w->codes);
    w->pq = aligned_alloc(64, ROUND_UP(codec_query_bytes(w->c), 64));
}

static void world_free(struct world *w)
{
    codec_free(w->c);
    free(w->base);
    free(w->queries);
    free(w->codes);
    free(w->pq);
}

/* The row or query as doubles, divided by its length for COSINE (not for raw int8 codes). */
static void exact_vec(const struct world *w, const uint8_t *p, double *out)
{
    double n = 0;
    for (size_t i = 0; i < w->dim; i++) {
        out[i] = get_elem(w->type, p, i);
        n += out[i] * out[i];
    }
    for (size_t i = 0; i < w->dim && w->metric == METRIC_COSINE; i++) {
        out[i] = n > 0 ? out[i] / sqrt(n) : 0;
    }
}

static double exact_key(const struct world *w, const double *q, const double *x)
{
    double l2 = 0, ip = 0, inter = 0, uni = 0, q_only = 0, x_only = 0, nx = 0, nq = 0;
    for (size_t i = 0; i < w->dim; i++) {
        l2 += (q[i] - x[i]) * (q[i] - x[i]);
        ip += q[i] * x[i];
        nx += x[i] * x[i];
        nq += q[i] * q[i];
        inter += q[i] != 0 && x[i] != 0;
        uni += q[i] != 0 || x[i] != 0;
        q_only += q[i] != 0 && x[i] == 0;
        x_only += x[i] != 0 && q[i] == 0;
    }
    switch (w->metric) {
    case METRIC_L2:
        return l2;
    case METRIC_IP:
        return -ip;
    case METRIC_COSINE:
        return w->kind == CODEC_I8 ? (nx > 0 && nq > 0 ? -ip / sqrt(nx) / sqrt(nq) : 0) : -ip;
    case METRIC_HAMMING:
        return q_only + x_only;
    case METRIC_JACCARD:
        return uni > 0 ? 1 - inter / uni : 0;
    case METRIC_SUBSTRUCTURE:
        return q_only > 0;
    default:
        return x_only > 0;
    }
}

static const size_t dims[] = { 1, 2, 3, 7, 16, 31, 64, 100, 128, 129, 384, 768 };
#define NDIMS (sizeof dims / sizeof dims[0])

/* At the lower levels a few dims show whether the kernels' tails are right; check_simd has them all. */
static bool few_dims;

typedef void world_fn(struct world *w, enum data data);

/* fn on worlds of every fitting kind, metric, type and dim; data rotates. */
static void each_world(world_fn *fn, bool every_data)
{
    unsigned turn = 0;
    for (int kind = 0; kind < CODEC_COUNT; kind++) {
        for (int metric = 0; metric < METRIC_COUNT; metric++) {
            for (int type = 0; type < VEC_COUNT; type++) {
                bool bin = kind == CODEC_BIN, i8 = kind == CODEC_I8;
                if (!metric_fits_type(metric, type) || bin != (type == VEC_BIN) ||
                    (i8 && type != VEC_I8)) {
                    continue;
                }
                for (size_t d = 0; d < NDIMS; d++) {
                    /* Types are widened first and large dims differ little: a part will do. */
                    bool learns = kind == CODEC_PQ || kind == CODEC_PRQ; /* slowly */
                    if (few_dims && dims[d] != 7 && dims[d] != 31 && dims[d] != 129) {
                        continue;
                    }
                    bool plain = (type == VEC_F32 && !learns) || i8 || bin;
                    if (!plain && dims[d] != 7 && dims[d] != (learns ? 64 : 128) &&
                        !(learns && type == VEC_F32 && dims[d] < 130)) {
                        continue;
                    }
                    for (int data = 0; data < DATA_COUNT; data++) {
                        bool all = every_data && plain && dims[d] <= 31;
                        if (!all && (unsigned)data != turn % DATA_COUNT) {
                            continue;
                        }
                        struct world w;
                        world_new(&w, kind, metric, type, bin ? dims[d] * 8 : dims[d], data);
                        fn(&w, data);
                        world_free(&w);
                    }
                    turn++;
                }
            }
        }
    }
}

/* ---- Keys are the distance to the decoded row ---- */

/* How far a key may be from the exact distance between query and decoded row. */
static double key_slack(const struct world *w, const double *q, const float *x, double key)
{
    double qn = 0, xn = 0;
    for (size_t i = 0; i < w->dim; i++) {
        qn += q[i] * q[i];
        xn += (double)x[i] * (double)x[i];
    }
    qn = sqrt(qn);
    xn = sqrt(xn);
    double u = ((double)w->dim + 64) * 0x1p-23, reach = 0;
    if (w->kind >= CODEC_SQ8 && w->kind <= CODEC_SQ4) { /* between the lowest and highest code */
        uint8_t *code = malloc(w->stride);
        float *lo = malloc(w->dim * sizeof *lo), *hi = malloc(w->dim * sizeof *hi);
        memset(code, 0, w->stride);
        codec_decode(w->c, code, lo);
        memset(code, 0xff, w->stride);
        codec_decode(w->c, code, hi);
        for (size_t i = 0; i < w->dim; i++) {
            reach += ((double)hi[i] - (double)lo[i]) * ((double)hi[i] - (double)lo[i]);
        }
        free(code);
        free(lo);
        free(hi);
        qn += sqrt(reach);
    }
    switch (w->kind) {
    case CODEC_F32:
    case CODEC_F16:
    case CODEC_BF16:
    case CODEC_I8:
    case CODEC_BIN:
        return w->metric == METRIC_L2 ? 2 * u * fabs(key) + 1e-30 : u * (qn * xn + 1) + 1e-30;
    case CODEC_PQ:
    case CODEC_PRQ:
        return u * (w->metric == METRIC_L2 ? (qn + xn) * (qn + xn) : qn * xn + 1) + 1e-30;
    default:
        /* One plane of 127 levels or two of 16,319; the query may lie outside of what codes
         * reach. */
        u += (w->kind == CODEC_SQ4 ? 0.02 : 2e-4);
        if (w->metric == METRIC_L2) {
            double size = qn + xn;
            return u * size * (sqrt(fabs(key)) + u * size) + 4e-6 * size * size + 1e-30;
        }
        return u * qn * (xn + reach) * sqrt((double)w->dim) + 1e-30;
    }
}

static void check_keys(struct world *w, enum data data)
{
    if (w->kind == CODEC_RABITQ) {
        return; /* estimates of the row, not of what a code decodes to */
    }
    float keys[NROWS], *row = malloc(w->dim * sizeof *row);
    double *q = malloc(w->dim * sizeof *q), *x = malloc(w->dim * sizeof *x);
    for (int j = 0; j < NQUERIES; j++) {
        exact_vec(w, w->queries + j * w->bytes, q);
        codec_query(w->c, w->queries + j * w->bytes, w->pq);
        codec_rows(w->c, w->pq, w->codes, w->stride, NROWS, keys);
        for (size_t i = 0; i < NROWS; i += 7) {
            codec_decode(w->c, w->codes + i * w->stride, row);
            for (size_t d = 0; d < w->dim; d++) {
                x[d] = row[d];
            }
            double want = exact_key(w, q, x), slack = key_slack(w, q, row, want);
            if (!(fabs(keys[i] - want) <= slack)) {
                fail_msg("kind %d metric %d type %d dim %zu data %d query %d row %zu: key %.9g "
                         "want %.9g slack %.3g",
                         w->kind, w->metric, w->type, w->dim, data, j, i, keys[i], want, slack);
            }
        }
    }
    free(row);
    free(q);
    free(x);
}

static void test_codec_when_rows_are_scored_then_keys_are_those_of_decoded_rows(void **state)
{
    each_world(check_keys, true);
}

/* ---- Both shapes ---- */

static void check_shapes(struct world *w, enum data data)
{
    float keys[NROWS], by_id[NROWS], lows[NROWS], keys2[NROWS];
    uint32_t ids[NROWS];
    /* Codes inside longer records at odd addresses. */
    size_t wide = w->stride + 5;
    uint8_t *records = malloc(NROWS * wide + 1);
    for (size_t i = 0; i < NROWS; i++) {
        ids[i] = (uint32_t)(rng() % NROWS);
        memcpy(records + 1 + i * wide, w->codes + i * w->stride, w->stride);
    }
    for (int j = 0; j < NQUERIES; j++) {
        codec_query(w->c, w->queries + j * w->bytes, w->pq);
        codec_rows(w->c, w->pq, w->codes, w->stride, NROWS, keys);
        size_t n = rng() % NROWS;
        codec_ids(w->c, w->pq, records + 1, wide, ids, n, by_id);
        for (size_t i = 0; i < n; i++) {
            assert_memory_equal(&by_id[i], &keys[ids[i]], 4);
        }
        if (codec_rows_bound(w->c, w->pq, records + 1, wide, NROWS, keys2, lows)) {
            assert_memory_equal(keys, keys2, sizeof keys);
            float lows2[NROWS];
            assert_true(codec_ids_bound(w->c, w->pq, w->codes, w->stride, ids, n, by_id, lows2));
            for (size_t i = 0; i < n; i++) {
                assert_memory_equal(&by_id[i], &keys[ids[i]], 4);
                assert_memory_equal(&lows2[i], &lows[ids[i]], 4);
            }
        }
        codec_rows(w->c, w->pq, w->codes, w->stride, 0, NULL);
        codec_ids(w->c, w->pq, w->codes, w->stride, NULL, 0, NULL);
    }
    free(records);
}

static void test_codec_when_rows_are_picked_by_number_then_keys_are_the_same_bits(void **state)
{
    each_world(check_shapes, false);
}

/* ---- Decoded rows are near the rows ---- */

static void check_decode(struct world *w, enum data data)
{
    float *row = malloc(w->dim * sizeof *row);
    double *x = malloc(w->dim * sizeof *x), err = 0, size = 0;
    for (size_t i = 0; i < NROWS; i++) {
        codec_decode(w->c, w->codes + i * w->stride, row);
        exact_vec(w, w->base + i * w->rows.stride, x);
        for (size_t d = 0; d < w->dim; d++) {
            if (w->kind == CODEC_I8 && w->metric == METRIC_COSINE) {
                continue; /* codes keep their length */
            }
            err += (x[d] - row[d]) * (x[d] - row[d]);
            size += x[d] * x[d];
        }
    }
    static const double most[CODEC_COUNT] = {
        [CODEC_F32] = 1e-7, [CODEC_F16] = 3e-4, [CODEC_BF16] = 3e-3, [CODEC_SQ8] = 0.008,
        [CODEC_SQ6] = 0.03, [CODEC_SQ4] = 0.15, [CODEC_PQ] = 0.9,    [CODEC_PRQ] = 0.8,
        [CODEC_RABITQ] = 0.66,
    };
    if (data == DATA_TINY && w->metric != METRIC_COSINE) {
        size += 1e-10; /* below what a half holds */
    }
    if (data == DATA_WHOLE && w->kind == CODEC_SQ8 && w->metric != METRIC_COSINE) {
        assert_true(err == 0);
    }
    if (!(sqrt(err) <= most[w->kind] * sqrt(size))) {
        fail_msg("kind %d metric %d type %d dim %zu data %d: error %.4g of %.4g", w->kind,
                 w->metric, w->type, w->dim, data, sqrt(err), sqrt(size));
    }
    free(row);
    free(x);
}

static void test_codec_when_a_row_is_decoded_then_it_is_near(void **state)
{
    each_world(check_decode, true);
}

/* ---- Bits about a centre ---- */

/* Estimates of random rows are right on average, and as near as the bits allow. */
static void test_rabitq_when_keys_are_estimated_then_they_are_unbiased(void **state)
{
    static const double most[] = { 0, 0.85, 0.45, 0.23, 0.13, 0.07, 0.04, 0.025, 0.016, 0.014 };
    for (int metric = METRIC_L2; metric <= METRIC_COSINE; metric++) {
        for (uint32_t bits = 1; bits <= 9; bits++) {
            struct world w;
            size_t dim = bits % 2 ? 384 : 100;
            float keys[NROWS], by_code[NROWS];
            double *q = malloc(dim * sizeof *q), *x = malloc(dim * sizeof *x);
            double bias = 0, spread = 0, size = 0;
            forced_bits = bits;
            world_new(&w, CODEC_RABITQ, metric, VEC_F32, dim, DATA_NORMAL);
            forced_bits = 0;
            for (int j = 1; j < NQUERIES; j++) {
                exact_vec(&w, w.queries + j * w.bytes, q);
                codec_query(w.c, w.queries + j * w.bytes, w.pq);
                codec_rows(w.c, w.pq, w.codes, w.stride, NROWS, keys);
                for (size_t i = 0; i < NROWS; i++) {
                    exact_vec(&w, w.base + i * w.rows.stride, x);
                    double qn = 0, xn = 0, e = keys[i] - exact_key(&w, q, x);
                    for (size_t d = 0; d < dim; d++) {
                        qn += q[d] * q[d];
                        xn += x[d] * x[d];
                    }
                    /* An inner product of random directions spreads by |q| |x| / sqrt(dim). */
                    double unit = sqrt(qn * xn / (double)dim) * (metric == METRIC_L2 ? 2 : 1);
                    bias += e / unit;
                    spread += e * e / (unit * unit);
                    size++;
                }
            }
            spread = sqrt(spread / size);
            if (!(spread < most[bits]) || !(fabs(bias / size) < 6 * spread / sqrt(size))) {
                fail_msg("metric %d bits %u: bias %g spread %g", metric, bits, bias / size, spread);
            }
            /* A code as query: about the key of its row. */
            codec_query_code(w.c, w.codes, w.pq);
            codec_rows(w.c, w.pq, w.codes, w.stride, NROWS, by_code);
            codec_query(w.c, w.base, w.pq);
            codec_rows(w.c, w.pq, w.codes, w.stride, NROWS, keys);
            double off = 0, all = 0;
            for (size_t i = 0; i < NROWS; i++) {
                off += fabs(by_code[i] - keys[i]);
                all += fabs(keys[i]) + 0.1;
            }
            assert_true(off < (bits == 1 ? 0.75 : 0.4) * all);
            world_free(&w);
            free(q);
            free(x);
        }
    }
}

/* ---- Bounds ---- */

static void check_bounds(struct world *w, enum data data)
{
    float keys[NROWS], lows[NROWS];
    double *q = malloc(w->dim * sizeof *q), *x = malloc(w->dim * sizeof *x);
    double gap = 0, size = 0;
    size_t broken = 0, all = 0;
    for (int j = 0; j < NQUERIES; j++) {
        exact_vec(w, w->queries + j * w->bytes, q);
        codec_query(w->c, w->queries + j * w->bytes, w->pq);
        if (!codec_rows_bound(w->c, w->pq, w->codes, w->stride, NROWS, keys, lows)) {
            assert_true(w->kind == CODEC_PQ || w->kind == CODEC_PRQ);
            break;
        }
        for (size_t i = 0; i < NROWS; i++) {
            exact_vec(w, w->base + i * w->rows.stride, x);
            double want = exact_key(w, q, x);
            bool exact = w->kind == CODEC_I8 || w->kind == CODEC_BIN;
            all++;
            double round = exact                        ? 1e-6 * fabs(want) + 1e-12
                           : w->kind == CODEC_RABITQ ? 1e-5 * (fabs(want) + 1)
                                                        : 0;
            broken += lows[i] > want + round;
            gap += fabs(want - lows[i]);
            size += fabs(want) + 0.1;
        }
    }
    /* RaBitQ's bound is one of probability. */
    if (broken > (w->kind == CODEC_RABITQ ? all / 50 + 1 : 0)) {
        fail_msg("kind %d metric %d type %d dim %zu data %d: %zu of %zu bounds broken", w->kind,
                 w->metric, w->type, w->dim, data, broken, all);
    }
    if (data == DATA_NORMAL && w->dim >= 16 && w->kind <= CODEC_SQ6 && !(gap < 0.5 * size)) {
        fail_msg("kind %d metric %d type %d dim %zu: bounds say nothing: %g of %g", w->kind,
                 w->metric, w->type, w->dim, gap, size);
    }
    free(q);
    free(x);
}

/* Bounds move towards the keys in proportion. */
static void test_query_when_its_spread_is_set_then_bounds_are_so_far(void **state)
{
    enum { N = 50, DIM = 96 };
    static float rows[N * DIM];
    struct status st = STATUS_INIT;
    struct codec *c;
    float keys[N], three[N], one[N];
    for (size_t i = 0; i < N * DIM; i++) {
        rows[i] = (float)((i * 2654435761u) % 1000) - 500;
    }
    const struct codec_spec spec = { .kind = CODEC_RABITQ, .bits = 1, .seed = 3 };
    ASSERT_OK(codec_new(&spec, METRIC_L2, VEC_F32, DIM, &c, &st));
    const size_t stride = codec_stride(c);
    uint8_t *codes = alloc_try_zero(N * stride);
    void *pq = alloc_try_aligned(64, ROUND_UP(codec_query_bytes(c), (size_t)64));
    codec_encode(c, rows, DIM * 4, N, codes);
    codec_query(c, rows + DIM, pq);
    assert_true(codec_rows_bound(c, pq, codes, stride, N, keys, three));
    codec_query_spread(c, pq, 1);
    assert_true(codec_rows_bound(c, pq, codes, stride, N, keys, one));
    for (size_t i = 0; i < N; i++) {
        const double d = (double)(keys[i] - three[i]);
        assert_true(d > 0);
        assert_true(fabs((double)(keys[i] - one[i]) * 3 - d) <= 1e-4 * d + 2e-6 * fabs((double)keys[i]));
    }
    mem_free(pq);
    mem_free(codes);
    codec_free(c);
}

/* Queries whose own sums lose everything, values beyond what codes take, products that underflow. */
static void test_query_when_at_the_edge_of_numbers_then_no_row_is_nearer(void **state)
{
    enum { N = 50, DIM = 37 };
    static const enum codec_kind kinds[] = { CODEC_SQ8, CODEC_SQ6, CODEC_SQ4 };
    static const float sizes[] = { 1, 1e-18f, 3e-20f };
    static const float edges[] = { 0, 3e38f, -2e30f };
    (void)state;
    for (int at = 0; at < 3 * 3 * 3 * 2; at++) {
        const enum metric metric = at % 2 ? METRIC_IP : METRIC_L2;
        const float size = sizes[at / 2 % 3], edge = edges[at / 6 % 3];
        struct status st = STATUS_INIT;
        struct codec_spec spec = { .kind = kinds[at / 18], .seed = 7, .bounds = true };
        float rows[N * DIM], query[DIM] = { 0 }, keys[N], lows[N];
        for (int i = 0; i < N * DIM; i++) {
            rows[i] = i < DIM ? 0 : size * fabsf(rng_unit()); /* least: 0 in every dimension */
        }
        query[3] = edge;
        struct index_rows r = { .metric = metric, .type = VEC_F32, .dim = DIM, .base = rows,
                                .stride = DIM * 4, .nrows = N };
        struct codec *c;
        ASSERT_OK(codec_train(&spec, &r, NULL, NULL, NULL, &c, &st));
        uint8_t *codes = xalloc(N * codec_stride(c));
        void *pq = alloc_try_aligned(64, codec_query_bytes(c));
        codec_encode(c, rows, DIM * 4, N, codes);
        codec_query(c, query, pq);
        assert_true(codec_rows_bound(c, pq, codes, codec_stride(c), N, keys, lows));
        for (int i = 0; i < N; i++) {
            double key = 0;
            for (int k = 0; k < DIM; k++) {
                double x = (double)rows[i * DIM + k], q = (double)query[k];
                key += metric == METRIC_IP ? -q * x : (q - x) * (q - x);
            }
            if (!((double)lows[i] <= key)) {
                fail_msg("kind %d metric %d size %g edge %g row %d: low %g, true %g", spec.kind,
                         metric, (double)size, (double)edge, i, (double)lows[i], key);
            }
        }
        mem_free(pq);
        mem_free(codes);
        codec_free(c);
    }
}

static void test_codec_when_bounds_are_asked_for_then_no_row_is_nearer(void **state)
{
    each_world(check_bounds, true);
}

/* ---- Queries from codes ---- */

static void check_query_code(struct world *w, enum data data)
{
    if (w->kind == CODEC_RABITQ) {
        return;
    }
    float keys[NROWS], back[NROWS], *row = malloc(w->dim * sizeof *row);
    double *q = malloc(w->dim * sizeof *q), *x = malloc(w->dim * sizeof *x);
    for (size_t j = 0; j < 24; j++) {
        codec_query_code(w->c, w->codes + j * w->stride, w->pq);
        codec_rows(w->c, w->pq, w->codes, w->stride, 24, keys);
        codec_decode(w->c, w->codes + j * w->stride, row);
        for (size_t d = 0; d < w->dim; d++) {
            q[d] = row[d];
        }
        for (size_t i = 0; i < 24; i++) {
            codec_decode(w->c, w->codes + i * w->stride, row);
            for (size_t d = 0; d < w->dim; d++) {
                x[d] = row[d];
            }
            double want = exact_key(w, q, x), slack = key_slack(w, q, row, want);
            codec_query_code(w->c, w->codes + i * w->stride, w->pq);
            codec_rows(w->c, w->pq, w->codes + j * w->stride, w->stride, 1, &back[i]);
            bool ways = w->metric < METRIC_SUBSTRUCTURE; /* the same both ways */
            if (!(fabs(keys[i] - want) <= slack) || (ways && !(fabs(back[i] - want) <= slack))) {
                fail_msg("kind %d metric %d type %d dim %zu data %d codes %zu %zu: %.9g and %.9g, "
                         "want %.9g slack %.3g",
                         w->kind, w->metric, w->type, w->dim, data, j, i, keys[i], back[i], want,
                         slack);
            }
        }
    }
    free(row);
    free(q);
    free(x);
}

static void test_codec_when_a_query_is_a_code_then_keys_are_symmetrical(void **state)
{
    each_world(check_query_code, false);
}

/* ---- Blobs ---- */

static void check_blob(struct world *w, enum data data)
{
    struct status st = STATUS_INIT;
    struct codec *c2 = NULL, *again = NULL;
    float keys[NROWS], keys2[NROWS];
    size_t size;
    const void *blob = codec_blob(w->c, &size);
    uint8_t *copy = malloc(size + 9), *at = copy + rng() % 9;
    memcpy(at, blob, size);
    ASSERT_OK(codec_open(at, size, w->metric, w->type, w->dim, &c2, &st));
    assert_int_equal(codec_kind_of(c2), w->kind);
    assert_int_equal(codec_stride(c2), w->stride);
    assert_int_equal(codec_query_bytes(c2), codec_query_bytes(w->c));
    uint8_t *codes = malloc(NROWS * w->stride);
    codec_encode(c2, w->base, w->rows.stride, NROWS, codes);
    assert_memory_equal(codes, w->codes, NROWS * w->stride);
    codec_query(w->c, w->queries, w->pq);
    codec_rows(w->c, w->pq, codes, w->stride, NROWS, keys);
    codec_query(c2, w->queries, w->pq);
    codec_rows(c2, w->pq, codes, w->stride, NROWS, keys2);
    assert_memory_equal(keys, keys2, sizeof keys);
    /* The same rows and seed make the same blob. */
    size_t size2;
    ASSERT_OK(codec_train(&the_spec, &w->rows, NULL, NULL, NULL, &again, &st));
    assert_memory_equal(codec_blob(again, &size2), blob, size);
    assert_int_equal(size2, size);
    codec_free(again);
    codec_free(c2);
    /* Another dim, shorter, or with any bit turned: corrupt. */
    c2 = NULL;
    assert_int_equal(codec_open(at, size, w->metric, w->type, w->dim + 8, &c2, &st), ST_CORRUPT);
    for (int i = 0; i < 30; i++) {
        size_t cut = rng() % size;
        assert_int_equal(codec_open(at, cut, w->metric, w->type, w->dim, &c2, &st), ST_CORRUPT);
        size_t bit = rng() % (size * 8);
        at[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(codec_open(at, size, w->metric, w->type, w->dim, &c2, &st), ST_CORRUPT);
        at[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    /* Of another version, the sum right: no damage. Numbers of the head: sum at 4, version at 8. */
    uint32_t version = 9, crc;
    memcpy(at + 8, &version, sizeof version);
    crc = crc32c(0, at + 8, size - 8);
    memcpy(at + 4, &crc, sizeof crc);
    assert_int_equal(codec_open(at, size, w->metric, w->type, w->dim, &c2, &st), ST_UNSUPPORTED);
    assert_null(c2);
    free(copy);
    free(codes);
}

static void test_codec_when_a_blob_is_opened_then_it_is_the_same_codec_or_refused(void **state)
{
    each_world(check_blob, false);
}

/* ---- Values that are no good ---- */

static void check_wild(struct world *w, enum data data)
{
    if (w->type == VEC_BIN) {
        return;
    }
    static const float wild[] = { NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-40f };
    float keys[8], lows[8], *row = malloc(w->dim * sizeof *row);
    uint8_t *bad = malloc(8 * w->bytes), *codes = malloc(8 * w->stride);
    for (size_t i = 0; i < 8; i++) {
        fill_row(w, data, bad + i * w->bytes);
        put_elem(w->type, bad + i * w->bytes, rng() % w->dim, wild[i % 6]);
        for (size_t d = 0; d < w->dim && i >= 6; d++) {
            put_elem(w->type, bad + i * w->bytes, d, wild[i - 6 ? 3 : 0]);
        }
    }
    codec_encode(w->c, bad, w->bytes, 8, codes);
    for (size_t i = 0; i < 8; i++) {
        codec_decode(w->c, codes + i * w->stride, row);
        codec_query(w->c, bad + i * w->bytes, w->pq);
        codec_rows(w->c, w->pq, codes, w->stride, 8, keys);
        codec_rows_bound(w->c, w->pq, codes, w->stride, 8, keys, lows);
        codec_query_code(w->c, codes + i * w->stride, w->pq);
        codec_rows(w->c, w->pq, codes, w->stride, 8, keys);
    }
    /* Rows that are no good do not spoil what is learnt from the others. */
    struct status st = STATUS_INIT;
    struct codec *c2 = NULL;
    for (size_t d = 0; d < w->dim; d++) {
        put_elem(w->type, w->base + 3 * w->rows.stride, d, wild[d % 6]);
    }
    ASSERT_OK(codec_train(&the_spec, &w->rows, NULL, NULL, NULL, &c2, &st));
    codec_encode(c2, w->base, w->rows.stride, 1, codes);
    codec_query(c2, w->base, w->pq);
    codec_rows(c2, w->pq, codes, w->stride, 1, keys);
    if (isnan(keys[0])) {
        fail_msg("kind %d metric %d type %d dim %zu data %d: one bad row spoils all", w->kind,
                 w->metric, w->type, w->dim, data);
    }
    codec_free(c2);
    free(row);
    free(bad);
    free(codes);
}

static void test_codec_when_values_are_no_numbers_then_nothing_breaks(void **state)
{
    each_world(check_wild, false);
}

/* ---- Refusals ---- */

static void test_codec_when_it_does_not_fit_the_rows_then_it_is_invalid(void **state)
{
    struct status st = STATUS_INIT;
    struct codec *c = NULL;
    struct codec_spec s = { .kind = CODEC_I8 };
    assert_int_equal(codec_new(&s, METRIC_L2, VEC_F32, 8, &c, &st), ST_INVALID);
    s.kind = CODEC_BIN;
    assert_int_equal(codec_new(&s, METRIC_L2, VEC_F32, 8, &c, &st), ST_INVALID);
    assert_int_equal(codec_new(&s, METRIC_HAMMING, VEC_BIN, 12, &c, &st), ST_INVALID);
    s.kind = CODEC_SQ8;
    assert_int_equal(codec_new(&s, METRIC_L2, VEC_F32, 8, &c, &st), ST_INVALID);
    s.kind = CODEC_RABITQ;
    s.bits = 10;
    assert_int_equal(codec_new(&s, METRIC_L2, VEC_F32, 8, &c, &st), ST_INVALID);
    float rows[4 * 8] = { 0 };
    struct index_rows r = { METRIC_L2, VEC_F32, 8, rows, 32, 4 };
    s = (struct codec_spec){ .kind = CODEC_PQ, .m = 3, .nbits = 8 };
    assert_int_equal(codec_train(&s, &r, NULL, NULL, NULL, &c, &st), ST_INVALID);
    s.m = 2;
    s.nbits = 25;
    assert_int_equal(codec_train(&s, &r, NULL, NULL, NULL, &c, &st), ST_INVALID);
    s.nbits = 18; /* more centroids than rows */
    assert_int_equal(codec_train(&s, &r, NULL, NULL, NULL, &c, &st), ST_INVALID);
    assert_non_null(strstr(st.msg, "262144"));
    s.kind = CODEC_F32;
    assert_int_equal(codec_new(&s, METRIC_L2, VEC_F32, 0, &c, &st), ST_INVALID);
    assert_int_equal(codec_new(&s, METRIC_L2, VEC_F32, INDEX_DIM_MAX + 1, &c, &st), ST_INVALID);
    assert_int_equal(codec_new(&s, METRIC_HAMMING, VEC_F32, 8, &c, &st), ST_INVALID);
    assert_null(c);
}

static void test_codec_when_memory_is_gone_then_the_status_says_so(void **state)
{
    struct world w;
    for (int kind = 0; kind < CODEC_COUNT; kind++) {
        bool bin = kind == CODEC_BIN, i8 = kind == CODEC_I8;
        world_new(&w, kind, bin ? METRIC_HAMMING : METRIC_L2,
                  bin ? VEC_BIN : i8 ? VEC_I8 : VEC_F32, 16, DATA_SPREAD);
        for (long n = 1;; n++) {
            struct status st = STATUS_INIT;
            struct codec *c = NULL;
            alloc_fail_after(n);
            int rc = codec_train(&the_spec, &w.rows, NULL, NULL, NULL, &c, &st);
            bool pending = alloc_fail_pending();
            alloc_fail_after(0);
            if (pending) {
                ASSERT_OK(rc);
                codec_free(c);
                break;
            }
            assert_int_equal(rc, ST_NO_MEMORY);
            assert_null(c);
        }
        world_free(&w);
    }
}

int main(int argc, char **argv)
{
    few_dims = argc > 1 && strcmp(argv[1], "auto") != 0;
    if (argc > 1 && !simd_cap(argv[1])) {
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codec_when_rows_are_scored_then_keys_are_those_of_decoded_rows),
        cmocka_unit_test(test_codec_when_rows_are_picked_by_number_then_keys_are_the_same_bits),
        cmocka_unit_test(test_codec_when_a_row_is_decoded_then_it_is_near),
        cmocka_unit_test(test_rabitq_when_keys_are_estimated_then_they_are_unbiased),
        cmocka_unit_test(test_query_when_its_spread_is_set_then_bounds_are_so_far),
        cmocka_unit_test(test_query_when_at_the_edge_of_numbers_then_no_row_is_nearer),
        cmocka_unit_test(test_codec_when_bounds_are_asked_for_then_no_row_is_nearer),
        cmocka_unit_test(test_codec_when_a_query_is_a_code_then_keys_are_symmetrical),
        cmocka_unit_test(test_codec_when_a_blob_is_opened_then_it_is_the_same_codec_or_refused),
        cmocka_unit_test(test_codec_when_values_are_no_numbers_then_nothing_breaks),
        cmocka_unit_test(test_codec_when_it_does_not_fit_the_rows_then_it_is_invalid),
        cmocka_unit_test(test_codec_when_memory_is_gone_then_the_status_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
