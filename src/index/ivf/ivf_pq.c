/*
 * ivf_pq.c - product codes of what a row differs from its centroid by.
 *
 * WHAT        A row's difference r from its list's centroid c is cut into sub-vectors, each coded
 *             as one of 16 or 256 words. With r^ what the codes stand for,
 *
 *                 L2   |q - x|^2 ~ |q - c|^2 - 2 (q - mean).r^ + a
 *                      a = 2 (c - mean).r^ + |r^|^2 - |r - r^|^2, kept per row
 *                 IP   -q.x ~ -q.c - q.r^
 *
 *             so one table per query serves all lists, and only the query's distance to the
 *             centroid is added per list. Tables are bytes with one scale (simd_scan.h).
 *             SCANN by IP or COSINE codes with the loss of "Accelerating Large-Scale Inference with
 *             Anisotropic Vector Quantization" (Guo et al., 2020): the part of the error along the
 *             row counts eta times, for it is what moves the products that matter. Words are
 *             chosen by going over the sub-vectors again and again, each time taking the word that
 *             helps most. The words themselves are those of plain k-means.
 *             nbits above 8 becomes twice the sub-vectors at 8 bits: no fewer bits than asked for.
 * INVARIANTS  Estimates have no bound. Seen from a row, |q - x^|^2 is |q - x|^2 + |r - r^|^2 but
 *             for a product of q - x and the coding error, which know nothing of each other: so the
 *             error is about 2 |q - x| e / sqrt(dim) (L2) and |q| e / sqrt(dim) (IP), e the root
 *             mean square of |r - r^| over the list's rows. A search looks at what SPREAD
 *             of these could bring in. By inner product a query near the row does know the coding
 *             error, which shortens rows: for unit rows without the loss above SPREAD_PLAIN makes
 *             up for it; by IP, where the longest rows are the ones that count, each row keeps its
 *             own SPREAD |r - r^| / sqrt(dim) and what it was shortened by.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/ivf/ivf_int.h"
#include "index/kmeans.h"
#include "simd/simd.h"

/* How many standard errors a row's estimate may be off and the row still be looked at. */
#define SPREAD 2.0
#define SPREAD_PLAIN 3.0
/* Products below this share of the norms do not matter to the loss (T of the paper). */
#define ETA_SHARE 0.2
#define DESCENTS 3
#define ENCODE_ROWS 256

static void *sub(uint8_t **at, size_t bytes)
{
    void *p = *at;
    *at += ROUND_UP(bytes, (size_t)64);
    return p;
}

/* ---- Words ---- */

struct pq_train {
    const struct ivf_sample *s;
    struct ivf_codec *c;
    float *book; /* word after word of each sub-vector, then turned into c->book's order */
    const struct index_build *b;
};

static int train_sub(struct pq_train *t, uint32_t j, uint32_t words, struct status *st)
{
    const struct ivf_codec *c = t->c;
    size_t at = c->sub_at[j], d = c->sub_at[j + 1] - at;
    struct index_rows rows = { .metric = METRIC_L2,
                               .type = VEC_F32,
                               .dim = d,
                               .base = t->s->residual + at,
                               .stride = c->dim * sizeof(float),
                               .nrows = (uint32_t)t->s->n };
    struct kmeans_opts o = { .nlist = words,
                             .rounds = 12,
                             .sample_per_list = (uint32_t)(32768 / words + 64),
                             .seed = t->b->params->seed + j + 1,
                             .pool = t->b->pool,
                             .check = t->b->check,
                             .check_arg = t->b->check_arg };
    float *turned = (float *)(uintptr_t)c->book + c->sub_at[j] * c->words;
    int rc = kmeans_train(&rows, &o, t->book, st);
    for (size_t k = 0; rc == 0 && k < d; k++) {
        for (uint32_t w = 0; w < c->words; w++) { /* unused words repeat the first */
            turned[k * c->words + w] = t->book[(w < words ? w : 0) * d + k];
        }
    }
    return rc;
}

/* How rows are cut: m equal sub-vectors, halves of them for more than 8 bits. */
static uint32_t cut_dims(const struct index_params *p, size_t dim, uint32_t *sub_at)
{
    uint32_t m = p->type == INDEX_SCANN ? (uint32_t)(dim / p->sub_dim) : p->m, n = 0;
    size_t d = dim / m;
    for (uint32_t j = 0; j < m; j++) {
        sub_at[n++] = (uint32_t)(j * d);
        if (p->type == INDEX_IVF_PQ && p->nbits > 8 && d > 1) {
            sub_at[n++] = (uint32_t)(j * d + (d + 1) / 2);
        }
    }
    sub_at[n] = (uint32_t)dim;
    return n;
}

int ivf_pq_train(const struct ivf_sample *s, const struct index_build *b, struct ivf_codec *c,
                 struct status *st)
{
    const struct index_params *p = b->params;
    size_t dim = c->dim, words = c->lay.kernel == IVF_LUT4 ? 16 : 256;
    uint32_t nbits = p->type == INDEX_SCANN ? 4 : MIN(p->nbits, 8u);
    size_t bytes = (2 * dim + 1) * 4 + dim * 4 + dim * words * 4 + 512;
    uint8_t *mem = alloc_try(bytes), *at = mem;
    struct pq_train t = { .s = s, .c = c, .b = b, .book = alloc_try(dim * words * sizeof(float)) };
    int rc = 0;
    if (!mem || !t.book) {
        FAIL(st, ST_NO_MEMORY, "no memory for product codes of dimension %zu", dim);
    }
    c->heap = mem;
    float *mean = sub(&at, dim * sizeof(float));
    uint32_t *sub_at = sub(&at, (2 * dim + 1) * 4);
    memset(sub_at, 0, (2 * dim + 1) * 4);
    c->words = (uint32_t)words;
    c->nsub = cut_dims(p, dim, sub_at);
    c->sub_at = sub_at;
    c->book = sub(&at, dim * words * sizeof(float));
    c->mean = mean;
    for (size_t k = 0; k < dim; k++) {
        double sum = 0;
        for (size_t i = 0; i < s->n; i++) {
            sum += s->x[i * dim + k];
        }
        mean[k] = s->n && isfinite(sum) ? (float)(sum / (double)s->n) : 0;
    }
    for (uint32_t j = 0; j < c->nsub; j++) {
        TRY(train_sub(&t, j, 1u << nbits, st));
    }
    c->eta = 1;
    if (p->type == INDEX_SCANN && c->metric != METRIC_L2) {
        double share = ETA_SHARE * ETA_SHARE;
        c->eta = (float)MAX(1.0, ((double)dim - 1) * share / (1 - share));
    }
out:
    mem_free(t.book);
    return rc;
}

/* ---- Encoding ---- */

struct pq_scratch {
    uint32_t *at; /* ENCODE_ROWS x nsub */
    float *best, *pack, *bias, *word;
};

static void scratch_place(const struct ivf_codec *c, size_t n, void *mem, struct pq_scratch *s)
{
    uint8_t *at = mem;
    s->at = sub(&at, n * c->nsub * 4);
    s->best = sub(&at, n * 4);
    s->bias = sub(&at, c->words * 4);
    s->word = sub(&at, c->dim * 4);
    s->pack = sub(&at, c->words * c->dim * 4);
}

size_t ivf_encode_scratch(const struct ivf_codec *c, size_t n)
{
    if (c->kind == IVF_CODE_SQ8) {
        return 64;
    }
    if (c->kind == IVF_CODE_RABITQ) {
        return (3 * c->dim + 64) * sizeof(float);
    }
    return n * c->nsub * 4 + n * 4 + c->words * 4 + c->dim * 4 + c->words * c->dim * 4 + 512;
}

/* Nearest words of all rows; r holds differences from the centroid. */
static void nearest_words(const struct ivf_codec *c, const float *r, size_t n,
                          const struct pq_scratch *s)
{
    for (uint32_t j = 0; j < c->nsub; j++) {
        size_t at = c->sub_at[j], d = c->sub_at[j + 1] - at;
        const float *book = c->book + c->sub_at[j] * c->words;
        /* 16 words are packed as they lie; 256 go into groups of 16. */
        for (size_t g = 0; g < c->words / SIMD_TILE; g++) {
            for (size_t k = 0; k < d; k++) {
                memcpy(s->pack + (g * d + k) * SIMD_TILE, book + k * c->words + g * SIMD_TILE,
                       SIMD_TILE * sizeof(float));
            }
        }
        for (size_t w = 0; w < c->words; w++) {
            double norm2 = 0;
            for (size_t k = 0; k < d; k++) {
                norm2 += (double)book[k * c->words + w] * book[k * c->words + w];
            }
            s->bias[w] = (float)(-norm2 / 2);
        }
        struct simd_near t = { s->pack, s->bias, c->words, d, r + at, c->dim * sizeof(float), n };
        simd_scan()->nearest(&t, s->at + j * n, s->best);
    }
}

/* One row: u its direction, loss |r - r^|^2 + (eta - 1) ((r - r^).u)^2. Goes over the sub-vectors
 * and takes for each the word with the least loss, the others being as they are. */
static void descend(const struct ivf_codec *c, const float *r, const float *u, uint32_t *at,
                    size_t step)
{
    float along = 0; /* (r - r^).u */
    for (uint32_t j = 0; j < c->nsub; j++) {
        const float *book = c->book + c->sub_at[j] * c->words + at[j * step];
        for (size_t k = c->sub_at[j], i = 0; k < c->sub_at[j + 1]; k++, i++) {
            along += (r[k] - book[i * c->words]) * u[k];
        }
    }
    for (int round = 0; round < DESCENTS; round++) {
        bool moved = false;
        for (uint32_t j = 0; j < c->nsub; j++) {
            const float *book = c->book + c->sub_at[j] * c->words;
            size_t first = c->sub_at[j], d = c->sub_at[j + 1] - first;
            float off[16] = { 0 }, par[16] = { 0 };
            for (size_t k = 0; k < d; k++) {
                for (int w = 0; w < 16; w++) {
                    float e = r[first + k] - book[k * 16 + (size_t)w];
                    off[w] += e * e;
                    par[w] += e * u[first + k];
                }
            }
            float rest = along - par[at[j * step]], least = INFINITY;
            uint32_t best = at[j * step];
            for (uint32_t w = 0; w < 16; w++) {
                float sum = rest + par[w], loss = off[w] + (c->eta - 1) * sum * sum;
                if (loss < least) {
                    least = loss;
                    best = w;
                }
            }
            moved |= best != at[j * step];
            along = rest + par[best];
            at[j * step] = best;
        }
        if (!moved) {
            break;
        }
    }
}

static void put_code(const struct ivf_codec *c, uint8_t *block, size_t r, uint32_t j, uint32_t code)
{
    if (c->lay.kernel == IVF_LUT8) {
        block[j * SCAN_STEP + r] = (uint8_t)code;
        return;
    }
    uint8_t *p = block + j / 8 * SCAN_STEP + r * 4 + j % 4;
    *p = (uint8_t)(*p | code << (j % 8 < 4 ? 0 : 4));
}

/* r^ of row i of a batch into word; returns |r - r^|^2. */
static double decode(const struct ivf_codec *c, const float *r, const uint32_t *at, size_t step,
                     float *word)
{
    double err2 = 0;
    for (uint32_t j = 0; j < c->nsub; j++) {
        const float *book = c->book + c->sub_at[j] * c->words + at[j * step];
        for (size_t k = c->sub_at[j], i = 0; k < c->sub_at[j + 1]; k++, i++) {
            word[k] = book[i * c->words];
            err2 += ((double)r[k] - word[k]) * ((double)r[k] - word[k]);
        }
    }
    return err2;
}

/* The row's term by L2, its error by IP. Returns |r - r^|^2. */
static double put_fields(const struct ivf_codec *c, const float *r, const uint32_t *code,
                         size_t step, const float *centroid, float *word, uint8_t *block, size_t at)
{
    double err2 = decode(c, r, code, step, word), term = 0, norm2 = 0, shorter = 0;
    float f;
    if (c->metric == METRIC_COSINE) {
        return err2;
    }
    for (size_t k = 0; k < c->dim; k++) {
        double x = (double)r[k] + centroid[k];
        term += word[k] * (2 * ((double)centroid[k] - c->mean[k]) + word[k]);
        shorter += ((double)r[k] - word[k]) * x;
        norm2 += x * x;
    }
    if (c->metric == METRIC_L2) {
        f = (float)(term - err2);
        memcpy(block + c->lay.add_at + 4 * at, &f, sizeof f);
        return err2;
    }
    shorter = norm2 > 0 && shorter > 0 ? shorter / sqrt(norm2) : 0;
    f = (float)(SPREAD * sqrt(err2 / (double)c->dim) + shorter);
    memcpy(block + c->lay.err_at + 4 * at, &f, sizeof f);
    return err2;
}

static double encode_some(const struct ivf_codec *c, float *x, size_t n, const float *centroid,
                        uint8_t *blocks, size_t row0, void *scratch)
{
    struct pq_scratch s;
    size_t dim = c->dim;
    double err2 = 0;
    scratch_place(c, n, scratch, &s);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < dim; k++) {
            x[i * dim + k] -= centroid[k];
        }
    }
    nearest_words(c, x, n, &s);
    for (size_t i = 0; i < n; i++) {
        float *r = x + i * dim;
        uint8_t *block = blocks + (row0 + i) / c->lay.block_rows * c->lay.block_bytes;
        size_t at = (row0 + i) % c->lay.block_rows;
        if (c->eta > 1) {
            double norm2 = 0;
            for (size_t k = 0; k < dim; k++) {
                s.word[k] = r[k] + centroid[k];
                norm2 += (double)s.word[k] * s.word[k];
            }
            for (size_t k = 0; k < dim; k++) {
                s.word[k] = norm2 > 0 ? (float)(s.word[k] / sqrt(norm2)) : 0;
            }
            descend(c, r, s.word, s.at + i, n);
        }
        for (uint32_t j = 0; j < c->nsub; j++) {
            put_code(c, block, at, j, s.at[j * n + i]);
        }
        double e2 = put_fields(c, r, s.at + i, n, centroid, s.word, block, at);
        err2 += e2 < 0x1p100 ? e2 : 0; /* one row that is no number must not widen its list */
    }
    return err2;
}

double ivf_pq_encode(const struct ivf_codec *c, float *x, size_t n, const float *centroid,
                     uint8_t *blocks, void *scratch)
{
    double err2 = 0;
    for (size_t i = 0; i < n; i += ENCODE_ROWS) {
        err2 += encode_some(c, x + i * c->dim, MIN(n - i, (size_t)ENCODE_ROWS), centroid, blocks, i,
                            scratch);
    }
    return err2;
}

/* ---- Query ---- */

void ivf_pq_query(const struct ivf_codec *c, struct ivf_query_code *qc)
{
    bool l2 = c->metric == METRIC_L2;
    size_t tables = c->lay.kernel == IVF_LUT4 ? c->lay.nsteps * 8 : c->lay.nsteps;
    float *q = qc->tmp, *v = q + ROUND_UP(c->dim, (size_t)16);
    struct simd_tables t = { q, c->sub_at, c->book, c->nsub, c->words };
    double base;
    for (size_t k = 0; k < c->dim; k++) {
        q[k] = l2 ? -2 * (qc->q[k] - c->mean[k]) : -qc->q[k];
    }
    simd_scan()->tables(&t, v);
    memset(v + c->nsub * c->words, 0, (tables - c->nsub) * c->words * sizeof(float));
    qc->a = simd_scan()->bytes(v, tables, c->words, qc->lut, &base);
    qc->b = (float)base;
    qc->c = 0;
    qc->w0 = 0;
    qc->list_key = true;
    double f = (l2 || c->eta > 1 ? SPREAD : SPREAD_PLAIN) / sqrt((double)c->dim);
    qc->margin = l2 ? IVF_ROOT : IVF_LINEAR;
    qc->w = (float)(l2 ? f : (c->metric == METRIC_IP ? 1 : f) * sqrt(qc->norm2));
}
