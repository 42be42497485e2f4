/*
 * fresh.c - codes of growing rows: storage that never moves, and a scan in two passes.
 *
 * WHAT        Pass one estimates every row from its code, keeps each row's lower bound and the best
 *             few estimates; those rows are scored exactly and give a threshold close to the final
 *             one. Pass two scores what the threshold cannot rule out. One pass with a moving
 *             threshold scores several times as many rows, for it starts without any.
 * STORAGE     Piece i holds FRESH_PIECE << i rows: at most 2x what is needed is reserved, and pages
 *             never touched are never there.
 * THREADS     fresh.h. coded: release by the adding thread, acquire by searches.
 */
#include "index/scan/fresh.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "base/compiler.h"
#include "base/status.h"
#include "index/flat_int.h"
#include "index/quant/codec.h"
#include "index/topk.h"
#include "simd/simd.h"

#define FRESH_PIECE 8192u
#define FRESH_PIECES 14u /* 2^27 rows */
#define FRESH_BLOCK 512u
/* Rows scored exactly after pass one, in times k, and the least. */
#define FRESH_FIRST_FACTOR 3u
#define FRESH_FIRST_MIN 32u

struct fresh {
    enum metric metric;
    enum vec_type type;
    size_t dim, stride; /* of codes */
    struct codec *codec;
    _Atomic uint32_t coded;
    uint8_t *pieces[FRESH_PIECES]; /* set before coded covers them */
};

static uint32_t piece_of(uint32_t row)
{
    return 31 - (uint32_t)__builtin_clz(row / FRESH_PIECE + 1);
}
static uint32_t piece_row0(uint32_t piece)
{
    return FRESH_PIECE * ((1u << piece) - 1);
}
static uint32_t piece_rows(uint32_t piece)
{
    return FRESH_PIECE << piece;
}

int fresh_new(const struct index_rows *first, struct fresh **ret_fr, struct status *st)
{
    static const struct codec_spec spec = { .kind = CODEC_RABITQ, .bits = 1, .seed = 1 };
    struct fresh *fr = xalloc(sizeof *fr);
    int rc;
    fr->metric = first->metric;
    fr->type = first->type;
    fr->dim = first->dim;
    TRY(codec_train(&spec, first, NULL, NULL, NULL, &fr->codec, st));
    fr->stride = codec_stride(fr->codec);
    *ret_fr = TAKE(fr);
out:
    fresh_free(fr);
    return rc;
}

void fresh_free(struct fresh *fr)
{
    if (fr) {
        for (uint32_t i = 0; i < FRESH_PIECES; i++) {
            mem_free(fr->pieces[i]);
        }
        codec_free(fr->codec);
        mem_free(fr);
    }
}

int fresh_add(struct fresh *fr, const void *rows, size_t stride, uint32_t n, struct status *st)
{
    uint32_t coded = atomic_load_explicit(&fr->coded, memory_order_relaxed);
    int rc = 0;
    if (n > piece_row0(FRESH_PIECES) - coded) {
        FAIL(st, ST_TOO_LARGE, "no codes for more than %u rows", piece_row0(FRESH_PIECES));
    }
    for (uint32_t done = 0; done < n;) {
        uint32_t row = coded + done, p = piece_of(row);
        uint32_t part = MIN(n - done, piece_row0(p) + piece_rows(p) - row);
        if (!fr->pieces[p]) {
            size_t bytes;
            if (!mul_size(piece_rows(p), fr->stride, &bytes) ||
                !(fr->pieces[p] = alloc_try_aligned(CACHE_LINE, bytes))) {
                FAIL(st, ST_NO_MEMORY, "no memory for the codes of %u rows", piece_rows(p));
            }
        }
        codec_encode(fr->codec, (const uint8_t *)rows + done * stride, stride, part,
                     fr->pieces[p] + (row - piece_row0(p)) * fr->stride);
        done += part;
    }
    atomic_store_explicit(&fr->coded, coded + n, memory_order_release); /* fresh_coded() */
out:
    return rc;
}

uint32_t fresh_coded(const struct fresh *fr)
{
    return atomic_load_explicit(&fr->coded, memory_order_acquire);
}

enum metric fresh_metric(const struct fresh *fr)
{
    return fr->metric;
}

size_t fresh_memory(const struct fresh *fr)
{
    size_t blob;
    (void)codec_blob(fr->codec, &blob);
    return sizeof *fr + blob + fresh_coded(fr) * fr->stride;
}

/* ---- Searching ---- */

/* One query's scan. */
struct scan {
    const struct fresh *fr;
    const struct fresh_query *q;
    const struct simd_ops *ops;
    struct simd_dist exact;
    uint32_t j;        /* the query's number */
    const void *query;
    void *pq;
    float *lows;       /* nrows; INFINITY: scored already, or not allowed */
    struct topk *best; /* by estimate */
    struct topk *tk;
    struct index_counters *c;
    uint32_t span; /* cursor: rows are scored in ascending order */
};

static bool word_allows(const struct fresh_query *q, uint32_t row)
{
    return !q->allow || q->allow[row / 64] != 0;
}

/* Estimates of rows row .. row + n, within one piece. */
static void estimate_block(struct scan *s, uint32_t row, uint32_t n)
{
    const struct fresh *fr = s->fr;
    const uint32_t p = piece_of(row);
    float keys[FRESH_BLOCK], *lows = s->lows + row;
    uint32_t near[FRESH_BLOCK];
    (void)codec_rows_bound(fr->codec, s->pq, fr->pieces[p] + (row - piece_row0(p)) * fr->stride,
                           fr->stride, n, keys, lows);
    /* A bound that is no number bounds nothing; INFINITY has a meaning of its own. */
    for (uint32_t i = 0; i < n; i++) {
        lows[i] = lows[i] == lows[i] ? MIN(lows[i], FLT_MAX) : -INFINITY;
    }
    if (s->q->allow) {
        for (uint32_t i = 0; i < n; i++) {
            if (!bit_get(s->q->allow, row + i)) {
                lows[i] = INFINITY;
                keys[i] = INFINITY;
            }
        }
    }
    size_t found = s->ops->select_le(keys, n, s->best->lists[0].bound_key, near);
    for (size_t i = 0; i < found; i++) {
        topk_push(s->best, 0, keys[near[i]], row + near[i]);
    }
    s->c->distances += n;
    s->c->bytes += n * fr->stride;
}

static int estimate_all(struct scan *s, struct status *st)
{
    int rc = 0;
    uint32_t nrows = s->q->nrows, checked = 0;
    for (uint32_t row = 0; row < nrows;) {
        uint32_t p = piece_of(row);
        uint32_t end = MIN(nrows, piece_row0(p) + piece_rows(p)), n = MIN(end - row, FRESH_BLOCK);
        bool any = false;
        for (uint32_t w = row; w < row + n; w += 64) {
            any = any || word_allows(s->q, w);
        }
        if (any) {
            estimate_block(s, row, n);
        } else {
            for (uint32_t i = 0; i < n; i++) {
                s->lows[row + i] = INFINITY;
            }
        }
        row += n;
        if (s->q->check && row - checked >= 32 * FRESH_BLOCK) {
            checked = row;
            TRY(s->q->check(s->q->check_arg, st));
        }
    }
out:
    return rc;
}

/* Exact scores of rows in ascending order. */
static void score(struct scan *s, const uint32_t *rows, size_t n)
{
    const struct fresh_query *q = s->q;
    uint32_t local[FRESH_BLOCK];
    float scores[FRESH_BLOCK];
    for (size_t at = 0; at < n;) {
        const struct fresh_span *sp = &q->spans[s->span];
        size_t part = 0;
        while (at + part < n && part < FRESH_BLOCK && rows[at + part] - sp->row0 < sp->n) {
            local[part] = rows[at + part] - sp->row0;
            part++;
        }
        if (part == 0) {
            s->span++;
            continue;
        }
        s->exact.ids(s->query, sp->base, q->stride, local, part, s->fr->dim, scores);
        for (size_t i = 0; i < part; i++) {
            topk_push(s->tk, s->j, scores[i], sp->row0 + local[i]);
        }
        at += part;
    }
    s->c->exact += n;
    s->c->bytes += n * vec_bytes(s->fr->type, s->fr->dim);
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void score_best(struct scan *s, uint32_t *rows)
{
    topk_finish(s->best);
    size_t n = 0;
    for (uint32_t i = 0; i < topk_count(s->best, 0); i++) {
        uint32_t row = (uint32_t)topk_row(s->best, 0, i);
        if (s->lows[row] != INFINITY) {
            rows[n++] = row;
            s->lows[row] = INFINITY;
        }
    }
    qsort(rows, n, sizeof *rows, by_number);
    s->span = 0;
    score(s, rows, n);
}

static void score_possible(struct scan *s)
{
    uint32_t rows[FRESH_BLOCK];
    s->span = 0;
    for (uint32_t row = 0; row < s->q->nrows; row += FRESH_BLOCK) {
        uint32_t n = MIN(s->q->nrows - row, FRESH_BLOCK);
        float bound = s->tk->lists[s->j].bound_key;
        /* With no bound yet everything allowed is possible, but INFINITY marks what is not. */
        bound = MIN(bound, FLT_MAX);
        size_t found = s->ops->select_le(s->lows + row, n, bound, rows);
        for (size_t i = 0; i < found; i++) {
            rows[i] += row;
        }
        score(s, rows, found);
    }
}

int fresh_search(const struct fresh *fr, const struct fresh_query *q, struct topk *tk,
                 struct index_counters *c, struct status *st)
{
    struct index_counters none = { 0 };
    const struct simd_ops *ops = simd_ops();
    struct scan s = { .fr = fr, .q = q, .ops = ops, .tk = tk,
                      .exact = flat__dist(ops, fr->metric, fr->type), .c = c ? c : &none };
    uint32_t first = MAX(tk->k * FRESH_FIRST_FACTOR, FRESH_FIRST_MIN);
    uint32_t *rows = NULL;
    int rc;
    first = MIN(first, q->nrows);
    first = MIN(first, (uint32_t)INDEX_TOPK_MAX);
    s.lows = alloc_try_aligned(CACHE_LINE, ROUND_UP(q->nrows, 16) * sizeof *s.lows);
    s.pq = alloc_try_aligned(CACHE_LINE, ROUND_UP(codec_query_bytes(fr->codec), CACHE_LINE));
    rows = alloc_try(first * sizeof *rows);
    if (!s.lows || !s.pq || !rows) {
        FAIL(st, ST_NO_MEMORY, "no memory to search %u growing rows", q->nrows);
    }
    TRY(topk_new(1, first, false, NULL, &s.best, st));
    s.c->strategy = STRAT_SCAN;
    for (s.j = 0; s.j < q->nq; s.j++) {
        s.query = (const uint8_t *)q->queries + s.j * q->query_stride;
        codec_query(fr->codec, s.query, s.pq);
        topk_reset(s.best, NULL);
        TRY(estimate_all(&s, st));
        score_best(&s, rows);
        score_possible(&s);
    }
out:
    topk_free(s.best);
    mem_free(s.lows);
    mem_free(s.pq);
    mem_free(rows);
    return rc;
}
