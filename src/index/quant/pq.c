/*
 * pq.c - CODEC_PQ and CODEC_PRQ: sub-spaces as numbers of centroids.
 *
 * WHAT        Product quantisation (Jegou, Douze, Schmid, "Product Quantization for Nearest
 *             Neighbor Search", PAMI 2011): a row is cut into m pieces of dim / m elements, and of
 *             each the number of the nearest of 2^nbits centroids is kept. PRQ does so nrq times, each time
 *             with what the rounds before left over (Chen, Guan, Wang, "Approximate Nearest
 *             Neighbor Search by Residual Vector Quantization", 2010, within each piece), and its
 *             row is the sum of all.
 * CODE        Numbers packed lowest bits first, round after round; for PRQ with L2 then f32 |x^|^2.
 *             Zeros to a multiple of 4.
 * QUERY       Up to 8 bits: what every centroid adds to the key, in tables; a key is a sum of
 *             look-ups. 4-bit numbers are looked up in pairs, so a byte is one look-up of 256 for 4
 *             and for 8 bits. From 9 bits on a table would cost more than it saves: the query
 *             itself.
 * PAYLOAD     f32 [round][piece][centroid][element].
 * MEMORY      An open codec of up to 8 bits keeps a copy of its centroids with centroids side by
 *             side, so that tables and nearest centroids are computed in straight runs.
 */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "index/kmeans.h"
#include "index/quant/codec_int.h"

/* Numbers this long need as many rows to learn from as there are centroids. */
#define PQ_FREE_BITS 16
#define PQ_SAMPLE_BYTES (256u << 20)
#define PQ_PAYLOAD_MAX (UINT64_C(8) << 30)

struct pq_query {
    float add;
    float pad[15];
    float table[]; /* or the query */
};

static int pq_payload(struct codec_head *h, size_t *ret_size, struct status *st)
{
    h->nbits = h->nbits ? h->nbits : 8;
    h->nrq = h->kind == CODEC_PRQ ? (h->nrq ? h->nrq : 1) : 0;
    if (h->nbits > 24 || h->m == 0 || h->m > h->dim || h->dim % h->m != 0 || h->nrq > 16) {
        return st_fail(st, ST_INVALID,
                       "product quantiser: m %u must divide dimension %llu, nbits %u be 1 to 24, "
                       "nrq %u at most 16",
                       h->m, (unsigned long long)h->dim, h->nbits, h->nrq);
    }
    uint64_t size = (uint64_t)MAX(h->nrq, 1u) * h->dim * sizeof(float) << h->nbits;
    if (size > PQ_PAYLOAD_MAX) {
        return st_fail(st, ST_INVALID,
                       "product quantiser with nbits %u needs %llu bytes of centroids", h->nbits,
                       (unsigned long long)size);
    }
    *ret_size = (size_t)size;
    return 0;
}

static int pq_fit(const struct codec_head *h, const struct index_rows *rows, struct status *st)
{
    if (h->nbits > PQ_FREE_BITS && rows->nrows < 1u << h->nbits) {
        return st_fail(st, ST_INVALID,
                       "product quantiser with nbits %u needs %u rows to learn from, there are %u",
                       h->nbits, 1u << h->nbits, rows->nrows);
    }
    return 0;
}

/* ---- Numbers in a code ---- */

static size_t numbers(const struct codec *c)
{
    return c->u.pq.m * c->u.pq.rounds;
}

static uint32_t get_number(const struct codec *c, const uint8_t *code, size_t j)
{
    const size_t bits = c->u.pq.nbits, at = j * bits, first = at / 8;
    uint64_t w = 0;
    for (size_t b = first; b <= (at + bits - 1) / 8; b++) {
        w |= (uint64_t)code[b] << (8 * (b - first));
    }
    return (uint32_t)(w >> (at % 8)) & (uint32_t)(c->u.pq.ncent - 1);
}

static void put_number(const struct codec *c, uint8_t *code, size_t j, uint32_t v)
{
    const size_t bits = c->u.pq.nbits, at = j * bits;
    uint64_t w = (uint64_t)v << (at % 8);
    for (size_t b = at / 8; w; b++, w >>= 8) {
        code[b] |= (uint8_t)w;
    }
}

static const float *book_of(const struct codec *c, size_t j)
{
    return c->u.pq.books + j * c->u.pq.ncent * c->u.pq.sub_dim;
}

static void shape(struct codec *c)
{
    const struct codec_head *h = c->head;
    c->u.pq.m = h->m;
    c->u.pq.nbits = h->nbits;
    c->u.pq.rounds = MAX(h->nrq, 1u);
    c->u.pq.sub_dim = c->dim / h->m;
    c->u.pq.ncent = (size_t)1 << h->nbits;
    c->u.pq.wide = h->nbits > 8;
    c->u.pq.books = (const float *)(const void *)c->payload;
}

static bool has_norm(const struct codec *c)
{
    return codec_kind_of(c) == CODEC_PRQ && c->metric == METRIC_L2;
}

/* ---- Nearest centroids ---- */

/* out[i] = |x - centroid i|^2 or x . centroid i, for all centroids of number j. */
static void spread(const struct codec *c, size_t j, bool l2, const float *x, float *out)
{
    const size_t n = c->u.pq.ncent, sub = c->u.pq.sub_dim;
    const float *t = c->u.pq.by_dim + j * n * sub;
    memset(out, 0, n * sizeof *out);
    for (size_t d = 0; d < sub; d++, t += n) {
        const float v = x[d];
        if (l2) {
            for (size_t i = 0; i < n; i++) {
                out[i] += (v - t[i]) * (v - t[i]);
            }
        } else {
            for (size_t i = 0; i < n; i++) {
                out[i] += v * t[i];
            }
        }
    }
}

static float piece_l2(const float *a, const float *b, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    }
    return sum;
}

static float piece_ip(const float *a, const float *b, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static uint32_t nearest(const struct codec *c, size_t j, const float *x)
{
    float best = INFINITY, all[256];
    uint32_t at = 0;
    if (!c->u.pq.wide) {
        spread(c, j, true, x, all);
    }
    for (size_t i = 0; i < c->u.pq.ncent; i++) {
        float d = c->u.pq.wide ? piece_l2(x, book_of(c, j) + i * c->u.pq.sub_dim, c->u.pq.sub_dim)
                               : all[i];
        if (d < best) {
            best = d;
            at = (uint32_t)i;
        }
    }
    return at;
}

/* ---- Training ---- */

static float *by_dimension(const struct codec *c)
{
    const size_t n = c->u.pq.ncent, sub = c->u.pq.sub_dim;
    float *out = alloc_try(numbers(c) * n * sub * sizeof *out);
    for (size_t j = 0; out && j < numbers(c); j++) {
        for (size_t i = 0; i < n; i++) {
            for (size_t d = 0; d < sub; d++) {
                out[(j * sub + d) * n + i] = book_of(c, j)[i * sub + d];
            }
        }
    }
    return out;
}

struct left_job {
    const struct codec *c;
    float *rows;
    size_t n, first; /* number of the round's first book */
};

/* Takes what a round's nearest centroids explain from 256 rows of the sample. */
static void left_task(void *ctx, size_t block)
{
    const struct left_job *j = ctx;
    const struct codec *c = j->c;
    for (size_t r = block * 256; r < j->n && r < block * 256 + 256; r++) {
        for (size_t p = 0; p < c->u.pq.m; p++) {
            const size_t sub = c->u.pq.sub_dim;
            float *x = j->rows + r * c->dim + p * sub;
            const float *cent = book_of(c, j->first + p) + nearest(c, j->first + p, x) * sub;
            for (size_t d = 0; d < sub; d++) {
                x[d] -= cent[d];
            }
        }
    }
}

static int train_round(struct codec *c, float *books, size_t round, float *rows, size_t n,
                       const struct codec_train *t, struct status *st)
{
    int rc = 0;
    const size_t sub = c->u.pq.sub_dim;
    for (size_t p = 0; p < c->u.pq.m; p++) {
        size_t j = round * c->u.pq.m + p;
        struct index_rows piece = { .metric = METRIC_L2,
                                    .type = VEC_F32,
                                    .dim = sub,
                                    .base = rows + p * sub,
                                    .stride = c->dim * sizeof *rows,
                                    .nrows = (uint32_t)n };
        struct kmeans_opts o = { .nlist = (uint32_t)c->u.pq.ncent,
                                 .seed = c->head->seed + j,
                                 .pool = t->pool,
                                 .check = t->check,
                                 .check_arg = t->check_arg };
        TRY(kmeans_train(&piece, &o, books + j * c->u.pq.ncent * sub, st));
    }
    if (round + 1 < c->u.pq.rounds) {
        if (!c->u.pq.wide) {
            mem_free(c->u.pq.by_dim);
            c->u.pq.by_dim = by_dimension(c);
            if (!c->u.pq.by_dim) {
                FAIL(st, ST_NO_MEMORY, "no memory for %zu centroids", c->u.pq.ncent);
            }
        }
        struct left_job job = { .c = c, .rows = rows, .n = n, .first = round * c->u.pq.m };
        parallel_for(t->pool, (n + 255) / 256, left_task, &job);
    }
out:
    return rc;
}

static int pq_train(struct codec *c, uint8_t *payload, const struct codec_train *t,
                    struct status *st)
{
    int rc;
    float *rows = NULL;
    size_t n, want;
    shape(c);
    want = c->u.pq.ncent < 256 ? c->u.pq.ncent * 256 : 65536;
    TRY(codec__sample(c, t, MAX(want, c->u.pq.ncent * 4), PQ_SAMPLE_BYTES, &rows, &n, st));
    for (size_t i = 0; i < n * c->dim; i++) {
        rows[i] = fabsf(rows[i]) <= 1e15f ? rows[i] : 0; /* squares must stay finite */
    }
    for (size_t r = 0; r < c->u.pq.rounds; r++) {
        TRY(train_round(c, (float *)(void *)payload, r, rows, n, t, st));
    }
out:
    mem_free(rows);
    mem_free(c->u.pq.by_dim);
    c->u.pq.by_dim = NULL;
    return rc;
}

static int pq_open(struct codec *c, struct status *st)
{
    shape(c);
    const size_t count = c->u.pq.rounds * c->dim * c->u.pq.ncent;
    for (size_t i = 0; i < count; i++) {
        if (!(fabsf(c->u.pq.books[i]) <= CODEC_HUGE)) {
            return st_fail(st, ST_CORRUPT, "codec: centroid element %zu is %g", i,
                           (double)c->u.pq.books[i]);
        }
    }
    c->u.pq.code_bytes = (numbers(c) * c->u.pq.nbits + 7) / 8;
    c->stride = ROUND_UP(c->u.pq.code_bytes + (has_norm(c) ? 4 : 0), (size_t)4);
    size_t floats = c->u.pq.wide        ? c->dim
                    : c->u.pq.nbits == 4 ? (numbers(c) + 1) / 2 * 256
                                         : numbers(c) * c->u.pq.ncent;
    c->query_bytes = ROUND_UP(sizeof(struct pq_query) + floats * sizeof(float), (size_t)64);
    if (!c->u.pq.wide) {
        c->u.pq.by_dim = by_dimension(c);
        if (!c->u.pq.by_dim) {
            return st_fail(st, ST_NO_MEMORY, "no memory for %zu centroids", c->u.pq.ncent);
        }
    }
    return 0;
}

static void pq_close(struct codec *c)
{
    mem_free(c->u.pq.by_dim);
}

/* ---- Codes ---- */

static void pq_decode(const struct codec *c, const uint8_t *code, float *out)
{
    const size_t sub = c->u.pq.sub_dim;
    memset(out, 0, c->dim * sizeof *out);
    for (size_t j = 0; j < numbers(c); j++) {
        const float *cent = book_of(c, j) + get_number(c, code, j) * sub;
        float *to = out + j % c->u.pq.m * sub;
        for (size_t d = 0; d < sub; d++) {
            to[d] += cent[d];
        }
    }
}

static void pq_encode(const struct codec *c, const void *row, uint8_t *code)
{
    float left[INDEX_DIM_MAX];
    const size_t sub = c->u.pq.sub_dim;
    memcpy(left, row, c->dim * sizeof *left);
    for (size_t j = 0; j < numbers(c); j++) {
        float *x = left + j % c->u.pq.m * sub;
        uint32_t v = nearest(c, j, x);
        put_number(c, code, j, v);
        for (size_t d = 0; c->u.pq.rounds > 1 && d < sub; d++) {
            x[d] -= book_of(c, j)[v * sub + d];
        }
    }
    if (has_norm(c)) {
        pq_decode(c, code, left);
        double norm = codec__norm(left, c->dim);
        float f = (float)(norm * norm);
        memcpy(code + c->u.pq.code_bytes, &f, 4);
    }
}

/* ---- Keys ---- */

/* What centroids add to the key: kind 0 |q - x|^2, else factor * q.x */
static void tables(const struct codec *c, const float *x, bool l2, float factor, float *table)
{
    const size_t n = c->u.pq.ncent, sub = c->u.pq.sub_dim;
    float one[256];
    for (size_t j = 0; j < numbers(c); j++) {
        float *to = c->u.pq.nbits == 4 ? one : table + j * n;
        spread(c, j, l2, x + j % c->u.pq.m * sub, to);
        for (size_t i = 0; !l2 && i < n; i++) {
            to[i] *= factor;
        }
        if (c->u.pq.nbits == 4) { /* the low halves first, the high ones added */
            float *pair = table + j / 2 * 256;
            for (size_t b = 0; b < 256; b++) {
                pair[b] = j % 2 ? pair[b] + one[b >> 4] : one[b & 15];
            }
        }
    }
}

static void pq_query(const struct codec *c, const void *query, void *pq)
{
    struct pq_query *q = pq;
    const float *x = query;
    double norm = codec__norm(x, c->dim);
    q->add = has_norm(c) ? (float)(norm * norm) : 0;
    if (c->u.pq.wide) {
        memcpy(q->table, x, c->dim * sizeof *x);
    } else {
        tables(c, x, c->metric == METRIC_L2 && !has_norm(c), has_norm(c) ? -2.0f : -1.0f, q->table);
    }
}

static float key_wide(const struct codec *c, const struct pq_query *q, const uint8_t *code)
{
    const size_t sub = c->u.pq.sub_dim;
    const bool l2 = c->metric == METRIC_L2 && !has_norm(c);
    float sum = 0;
    for (size_t j = 0; j < numbers(c); j++) {
        const float *cent = book_of(c, j) + get_number(c, code, j) * sub;
        const float *x = q->table + j % c->u.pq.m * sub;
        sum += l2 ? piece_l2(x, cent, sub) : (has_norm(c) ? -2 : -1) * piece_ip(x, cent, sub);
    }
    return sum;
}

/* Four sums, so that an addition does not wait for the one before. */
static float key_bytes(const float *t, size_t n, const uint8_t *code)
{
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    size_t j = 0;
    for (; j + 4 <= n; j += 4, t += 4 * 256) {
        s0 += t[code[j]];
        s1 += t[256 + code[j + 1]];
        s2 += t[512 + code[j + 2]];
        s3 += t[768 + code[j + 3]];
    }
    for (; j < n; j++, t += 256) {
        s0 += t[code[j]];
    }
    return (s0 + s1) + (s2 + s3);
}

static float key_bits(const struct codec *c, const float *t, const uint8_t *code)
{
    float sum = 0;
    for (size_t j = 0; j < numbers(c); j++, t += c->u.pq.ncent) {
        sum += t[get_number(c, code, j)];
    }
    return sum;
}

static void pq_ids(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                   const uint32_t *ids, size_t n, float *keys)
{
    const struct pq_query *q = pq;
    const bool bytes = c->u.pq.nbits == 4 || c->u.pq.nbits == 8, norm = has_norm(c);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = codec__at(base, stride, ids, i);
        if (ids && i + 8 < n) {
            const uint8_t *next = codec__at(base, stride, ids, i + 8);
            __builtin_prefetch(next, 0, 3);
            __builtin_prefetch(next + c->stride - 1, 0, 3);
        }
        float key = bytes            ? key_bytes(q->table, c->u.pq.code_bytes, code)
                    : c->u.pq.wide ? key_wide(c, q, code)
                                   : key_bits(c, q->table, code);
        key += q->add;
        keys[i] = norm ? fmaxf(key + codec__f32(code + c->u.pq.code_bytes), 0) : key;
    }
}

static void pq_rows(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                    size_t n, float *keys)
{
    pq_ids(c, pq, base, stride, NULL, n, keys);
}

const struct codec_ops codec__pq = {
    .kind = CODEC_PQ,
    .types = 1u << VEC_F32 | 1u << VEC_F16 | 1u << VEC_BF16 | 1u << VEC_I8,
    .float_code = true,
    .trains = true,
    .payload = pq_payload,
    .fit = pq_fit,
    .train = pq_train,
    .open = pq_open,
    .close = pq_close,
    .encode = pq_encode,
    .decode = pq_decode,
    .query = pq_query,
    .rows = pq_rows,
    .ids = pq_ids,
};
