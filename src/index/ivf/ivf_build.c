/*
 * ivf_build.c - writes an inverted file: centroids, lists, codes.
 *
 * WHAT        k-means, every row to its nearest centroid, rows of a list in their own order. Codes
 *             are learnt from a sample and written list by list: batches of lists are encoded by
 *             whoever is free, in pieces of PIECE rows, and go to the file in order.
 * MEMORY      12 bytes a row, centroids three times while they are trained, the codec's sample
 *             (at most SAMPLE rows twice as f32), a batch of BATCH_ROWS rows of codes.
 * FORMAT      Sections: LSTA u32[nlist + 1], LROW u32[rows], CENT, CSQ8 and CBLK (centroids as
 *             SQ8), CODC (ivf_codec.c), BLKS: each list's blocks, the last one padded with zeros;
 *             LERR f32[nlist] where product codes keep no error of each row: the list's own.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/ivf/ivf_int.h"
#include "index/kmeans_int.h"

#define SAMPLE 65536
#define PIECE 256 /* a multiple of every block's rows */
#define BATCH_ROWS 65536

/* ---- Lists ---- */

static void tell(const struct index_build *b, double done)
{
    if (b->progress) {
        b->progress(b->progress_arg, done);
    }
}

static struct kmeans_opts opts_of(const struct index_build *b, uint32_t nlist)
{
    return (struct kmeans_opts){ .nlist = nlist,
                                 .sample_per_list = nlist > 1024 ? 128 : 256,
                                 .balance = true,
                                 .seed = b->params->seed,
                                 .pool = b->pool,
                                 .check = b->check,
                                 .check_arg = b->check_arg };
}

int ivf_lists_make(const struct index_build *b, struct ivf_lists *ret, struct status *st)
{
    const struct index_rows *rows = b->rows;
    uint32_t nlist = MAX(MIN(b->params->nlist, rows->nrows), 1u);
    struct kmeans_opts o = opts_of(b, nlist);
    size_t row = rows->type == VEC_BIN ? rows->dim / 8 : rows->dim * sizeof(float);
    int rc = 0;
    *ret = (struct ivf_lists){ .nlist = nlist,
                               .centroids = alloc_try(nlist * row),
                               .list = alloc_try((size_t)rows->nrows * 4 + 4),
                               .order = alloc_try((size_t)rows->nrows * 4 + 4),
                               .start = alloc_try(((size_t)nlist + 2) * 4) };
    if (!ret->centroids || !ret->list || !ret->order || !ret->start) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u lists of %u rows", nlist, rows->nrows);
    }
    TRY(kmeans_train(rows, &o, ret->centroids, st));
    tell(b, 0.4);
    TRY(kmeans_assign(rows, ret->centroids, &o, ret->list, st));
    tell(b, 0.5);
    km__group(ret->list, rows->nrows, nlist, ret->start, ret->order);
out:
    return rc;
}

int ivf_lists_save(const struct ivf_lists *l, const struct index_rows *rows, struct ixw *w,
                   struct status *st)
{
    size_t row = rows->type == VEC_BIN ? rows->dim / 8 : rows->dim * sizeof(float);
    int rc;
    TRY(ixw_section(w, IVF_TAG_START, l->start, ((size_t)l->nlist + 1) * 4, st));
    TRY(ixw_section(w, IVF_TAG_ROWS, l->order, (size_t)rows->nrows * 4, st));
    TRY(ixw_section(w, IVF_TAG_CENT, l->centroids, l->nlist * row, st));
out:
    return rc;
}

void ivf_lists_done(struct ivf_lists *l)
{
    mem_free(l->centroids);
    mem_free(l->list);
    mem_free(l->order);
    mem_free(l->start);
}

/* ---- Codecs ---- */

/* The sample in row order, with differences from centroids where the codec learns from them. */
static int draw_sample(const struct index_build *b, const struct ivf_lists *l, bool residuals,
                       struct ivf_sample *ret, struct status *st)
{
    const struct index_rows *rows = b->rows;
    size_t n = MIN((size_t)rows->nrows, (size_t)SAMPLE), dim = rows->dim;
    uint32_t *ids = alloc_try(n * 4 + 4);
    float *x = alloc_try(MAX(n, (size_t)1) * dim * sizeof(float));
    float *r = residuals ? alloc_try(MAX(n, (size_t)1) * dim * sizeof(float)) : NULL;
    int rc = 0;
    if (!ids || !x || (residuals && !r)) {
        FAIL(st, ST_NO_MEMORY, "no memory for a sample of %zu rows of dimension %zu", n, dim);
    }
    km__draw(rows->nrows, n, b->params->seed + 1, ids);
    index_rows_f32(rows, ids, 0, n, rows->metric == METRIC_COSINE, x);
    for (size_t i = 0; residuals && i < n; i++) {
        const float *c = (const float *)l->centroids + l->list[ids[i]] * dim;
        for (size_t k = 0; k < dim; k++) {
            r[i * dim + k] = x[i * dim + k] - c[k];
        }
    }
    ret->x = TAKE(x);
    ret->residual = TAKE(r);
    ret->n = n;
out:
    mem_free(ids);
    mem_free(x);
    mem_free(r);
    return rc;
}

static int train_codec(const struct index_build *b, const struct ivf_lists *l, struct ivf_codec *c,
                       struct status *st)
{
    struct ivf_sample s = { 0 };
    int rc;
    ivf_codec_init(b->params, b->rows->metric, b->rows->dim, c);
    if (c->kind == IVF_CODE_RABITQ) {
        return ivf_rabitq_train(b->params, c, st);
    }
    TRY(draw_sample(b, l, c->kind == IVF_CODE_PQ, &s, st));
    if (c->kind == IVF_CODE_PQ) {
        TRY(ivf_pq_train(&s, b, c, st));
    } else {
        TRY(ivf_sq8_train(&s, c, st));
    }
out:
    mem_free((void *)(uintptr_t)s.x);
    mem_free((void *)(uintptr_t)s.residual);
    return rc;
}

static int save_coarse(const struct ivf_lists *l, const struct index_rows *rows, struct ixw *w,
                       struct status *st)
{
    struct ivf_sample s = { .x = l->centroids, .n = l->nlist };
    struct ivf_codec c;
    uint8_t *blocks = NULL;
    int rc;
    ivf_codec_init_coarse(rows->metric, rows->dim, &c);
    size_t bytes = ivf_block_count(&c.lay, l->nlist) * c.lay.block_bytes;
    TRY(ivf_sq8_train(&s, &c, st));
    if (!(blocks = alloc_try_zero(bytes))) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u centroids", l->nlist);
    }
    ivf_sq8_encode(&c, l->centroids, l->nlist, blocks);
    TRY(ivf_codec_save(&c, IVF_TAG_COARSE, w, st));
    TRY(ixw_section(w, IVF_TAG_COARSE_BLOCKS, blocks, bytes, st));
out:
    ivf_codec_done(&c);
    mem_free(blocks);
    return rc;
}

/* ---- Encoding ---- */

struct piece {
    uint32_t list, first, n; /* positions */
    size_t at;               /* of its first block in the batch, bytes */
    double err2;             /* sum over its rows */
};

struct batch {
    const struct index_build *b;
    const struct ivf_lists *l;
    const struct ivf_codec *c;
    struct piece *piece;
    size_t npieces, bytes, rows;
    uint8_t *out;
    double *err2; /* of each list's rows so far */
};

static void encode_piece(void *arg, size_t i, void *scratch)
{
    const struct batch *t = arg;
    struct piece *p = &t->piece[i];
    const struct index_rows *rows = t->b->rows;
    float *x = scratch;
    index_rows_f32(rows, t->l->order + p->first, 0, p->n, rows->metric == METRIC_COSINE, x);
    p->err2 = ivf_encode(t->c, x, p->n, (const float *)t->l->centroids + p->list * rows->dim,
                         t->out + p->at, x + PIECE * rows->dim + 16);
}

/* Encodes and writes the pieces gathered so far. */
static int flush_batch(struct batch *t, const struct kmeans_opts *o, struct ixw *w,
                       struct status *st)
{
    size_t scratch = (PIECE * t->c->dim + 16) * sizeof(float) + ivf_encode_scratch(t->c, PIECE);
    int rc;
    memset(t->out, 0, t->bytes);
    TRY(km__run(o, t->npieces, scratch, encode_piece, t, st));
    TRY(ixw_put(w, t->out, t->bytes, st));
    for (size_t i = 0; i < t->npieces; i++) {
        t->err2[t->piece[i].list] += t->piece[i].err2;
    }
    t->npieces = t->bytes = t->rows = 0;
out:
    return rc;
}

static int write_blocks(const struct index_build *b, const struct ivf_lists *l,
                        const struct ivf_codec *c, struct ixw *w, struct status *st)
{
    struct kmeans_opts o = opts_of(b, l->nlist);
    size_t pieces = BATCH_ROWS / PIECE + 2048;
    /* A batch ends at BATCH_ROWS rows or when its pieces are used up; none is larger than this. */
    size_t piece_bytes = PIECE / c->lay.block_rows * c->lay.block_bytes;
    size_t room = (BATCH_ROWS / PIECE + 1) * piece_bytes + pieces * c->lay.block_bytes;
    struct batch t = { .b = b,
                       .l = l,
                       .c = c,
                       .piece = alloc_try(pieces * sizeof(struct piece)),
                       .out = alloc_try(room),
                       .err2 = alloc_try_zero(l->nlist * sizeof(double)) };
    float *errors = alloc_try(l->nlist * sizeof(float));
    size_t done = 0;
    int rc = 0;
    if (!t.piece || !t.out || !t.err2 || !errors) {
        FAIL(st, ST_NO_MEMORY, "no memory for a batch of %zu bytes of codes", room);
    }
    TRY(ixw_begin(w, IVF_TAG_BLOCKS, st));
    for (uint32_t list = 0; list < l->nlist; list++) {
        for (uint32_t at = l->start[list]; at < l->start[list + 1]; at += PIECE) {
            uint32_t n = MIN(l->start[list + 1] - at, (uint32_t)PIECE);
            t.piece[t.npieces++] = (struct piece){ list, at, n, t.bytes, 0 };
            t.bytes += ivf_block_count(&c->lay, n) * c->lay.block_bytes;
            t.rows += n;
            done += n;
            if (t.npieces == pieces || t.rows >= BATCH_ROWS) {
                TRY(flush_batch(&t, &o, w, st));
                tell(b, 0.6 + 0.4 * (double)done / b->rows->nrows);
            }
        }
    }
    TRY(flush_batch(&t, &o, w, st));
    TRY(ixw_end(w, st));
    if (c->kind == IVF_CODE_PQ && c->lay.err_at == SIMD_NO_FIELD) {
        for (uint32_t list = 0; list < l->nlist; list++) {
            uint32_t n = MAX(l->start[list + 1] - l->start[list], 1u);
            errors[list] = (float)sqrt(t.err2[list] / n);
        }
        TRY(ixw_section(w, IVF_TAG_ERRORS, errors, l->nlist * sizeof(float), st));
    }
out:
    mem_free(t.piece);
    mem_free(t.out);
    mem_free(t.err2);
    mem_free(errors);
    return rc;
}

int ivf_build(const struct index_build *b, struct ixw *w, struct status *st)
{
    struct ivf_lists l = { 0 };
    struct ivf_codec c = { 0 };
    int rc;
    TRY(ivf_lists_make(b, &l, st));
    TRY(ivf_lists_save(&l, b->rows, w, st));
    TRY(save_coarse(&l, b->rows, w, st));
    TRY(train_codec(b, &l, &c, st));
    tell(b, 0.6);
    TRY(ivf_codec_save(&c, IVF_TAG_CODEC, w, st));
    TRY(write_blocks(b, &l, &c, w, st));
out:
    ivf_lists_done(&l);
    ivf_codec_done(&c);
    return rc;
}
