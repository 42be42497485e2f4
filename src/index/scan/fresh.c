/*
 * fresh.c - codes of growing rows: storage that never moves.
 *
 * SIGNS       The signs of a row's rotated residual are its code's bits; they are kept once more,
 *             eight rows side by side, where a search compares them with the query's at a fraction
 *             of what an estimate costs. The angle between row and query is near pi times the share
 *             of signs that differ; with SPREAD standard deviations of that share allowed, the
 *             angle a row would need to be of interest gives the most signs that may differ.
 *             Elements of the query that rounding made 0 have lost theirs; half of them differ, which
 *             shows the more the nearer the row is, for small elements differ first.
 * STORAGE     Piece i holds FRESH_PIECE << i rows: at most 2x what is needed is reserved, and pages
 *             never touched are never there.
 * THREADS     fresh.h. coded: release by the adding thread, acquire by searches.
 * NOT HERE    Lists: fresh_lists.c. Searching: fresh_search.c.
 */
#include "index/scan/fresh_int.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

#define SPREAD 2.25

static int train(const struct index_rows *first, enum vec_type type, struct codec **ret,
                 struct status *st)
{
    static const struct codec_spec spec = { .kind = CODEC_RABITQ, .bits = 1, .seed = 1 };
    struct index_rows wide = *first;
    float *rows = NULL;
    size_t bytes;
    int rc;
    if (type != first->type) {
        if (!mul_size(first->nrows * sizeof *rows, first->dim, &bytes) ||
            !(rows = alloc_try_aligned(CACHE_LINE, bytes))) {
            FAIL(st, ST_NO_MEMORY, "no memory for %u rows", first->nrows);
        }
        index_rows_f32(first, NULL, 0, first->nrows, false, rows);
        wide.type = type;
        wide.base = rows;
        wide.stride = first->dim * sizeof *rows;
    }
    TRY(codec_train(&spec, &wide, NULL, NULL, NULL, ret, st));
out:
    mem_free(rows);
    return rc;
}

static void set_limits(struct fresh *fr)
{
    const double n = (double)fr->words * 64;
    for (uint32_t i = 0; i <= FRESH_ANGLES; i++) {
        double share = acos(2.0 * i / FRESH_ANGLES - 1) / acos(-1);
        double near = fmax(1 - 2 * share, 0);
        fr->limits[i] = (uint32_t)(n * share + SPREAD * sqrt(n * share * (1 - share)) + 1);
        fr->eases[i] = (float)(near * near);
    }
}

int fresh_new(const struct index_rows *first, struct fresh **ret_fr, struct status *st)
{
    struct fresh *fr = xalloc(sizeof *fr);
    int rc;
    fr->metric = first->metric;
    fr->type = first->type;
    fr->dim = first->dim;
    fr->sort_at = FRESH_SORT_MIN;
    TRY(train(first, first->type, &fr->codec, st));
    TRY(train(first, VEC_F32, &fr->wide, st));
    fr->stride = codec_stride(fr->codec);
    fr->pq_stride = ROUND_UP(codec_query_bytes(fr->codec), (size_t)CACHE_LINE);
    fr->words = codec_sign_words(fr->codec);
    set_limits(fr);
    *ret_fr = TAKE(fr);
out:
    fresh_free(fr);
    return rc;
}

void fresh_free(struct fresh *fr)
{
    void *s;
    if (!fr) {
        return;
    }
    while ((s = scratch_take(&fr->scratch))) {
        fresh__scratch_free(s);
    }
    fresh__making_free(fr->making);
    fresh__lists_free(atomic_load_explicit(&fr->lists, memory_order_relaxed));
    fresh__guides_free(fr->guides);
    for (uint32_t i = 0; i < FRESH_PIECES; i++) {
        mem_free(fr->pieces[i]);
        mem_free(fr->signs[i]);
        mem_free(fr->spread[i]);
    }
    codec_free(fr->codec);
    codec_free(fr->wide);
    mem_free(fr);
}

void fresh__spread_init(struct fresh_spread *sp)
{
    atomic_init(&sp->add, INFINITY);
    atomic_init(&sp->low, INFINITY);
    atomic_init(&sp->high, 0);
}

static void put_min(_Atomic float *to, float v)
{
    if (v < atomic_load_explicit(to, memory_order_relaxed)) {
        atomic_store_explicit(to, v, memory_order_relaxed);
    }
}

void fresh__put_signs(const struct fresh *fr, const uint8_t *code, uint64_t *blocks, uint32_t at,
                      struct fresh_spread *sp)
{
    uint64_t words[INDEX_DIM_MAX / 64 + 1], *to = blocks + at / 8 * fr->words * 8 + at % 8;
    struct codec_signs s;
    codec_row_signs(fr->codec, code, words, &s);
    for (size_t w = 0; w < fr->words; w++) {
        to[w * 8] = words[w];
    }
    bool usable = isfinite(s.len) && isfinite(s.add); /* else whatever it is may matter */
    put_min(&sp->add, usable ? s.add : -INFINITY);
    put_min(&sp->low, usable ? s.len : 0);
    if (!usable || s.len > atomic_load_explicit(&sp->high, memory_order_relaxed)) {
        atomic_store_explicit(&sp->high, usable ? s.len : INFINITY, memory_order_relaxed);
    }
}

bool fresh__list_add(const struct fresh *fr, struct fresh_list *l, uint32_t row,
                     const uint8_t *code, size_t *memory)
{
    struct fresh_chunk *ch = l->tail;
    if (!ch || l->tail_n == ch->cap) {
        uint32_t cap = ch ? ch->cap * 2 : FRESH_CHUNK_FIRST;
        size_t bytes;
        struct fresh_chunk *more = NULL;
        if (mul_size(cap, fr->words * 8 + sizeof *ch->rows, &bytes) &&
            add_size(bytes, FRESH_CHUNK_SIGNS, &bytes)) {
            more = alloc_try_aligned(CACHE_LINE, bytes);
        }
        if (!more) {
            return false;
        }
        *more = (struct fresh_chunk){ .cap = cap };
        more->rows = (uint32_t *)(void *)(fresh__chunk_signs(more) + cap * fr->words);
        *memory += bytes;
        if (ch) {
            ch->next = more;
        } else {
            l->head = more;
        }
        l->tail = ch = more;
        l->tail_n = 0;
    }
    fresh__put_signs(fr, code, fresh__chunk_signs(ch), l->tail_n, &l->spread);
    ch->rows[l->tail_n++] = row;
    uint32_t n = atomic_load_explicit(&l->n, memory_order_relaxed);
    atomic_store_explicit(&l->n, n + 1, memory_order_release); /* scan_list() */
    return true;
}

void fresh__list_done(struct fresh_list *l)
{
    for (struct fresh_chunk *ch = l->head, *next; ch; ch = next) {
        next = ch->next;
        mem_free(ch);
    }
}

static bool piece_new(struct fresh *fr, uint32_t p)
{
    uint32_t n = fresh__piece_rows(p), nspreads = n / FRESH_BLOCK;
    size_t codes, signs;
    if (!mul_size(n, fr->stride, &codes) || !mul_size(n, fr->words * 8, &signs)) {
        return false;
    }
    if (!fr->spread[p] && (fr->spread[p] = alloc_try(nspreads * sizeof **fr->spread))) {
        for (uint32_t i = 0; i < nspreads; i++) {
            fresh__spread_init(&fr->spread[p][i]);
        }
    }
    fr->signs[p] = fr->signs[p] ? fr->signs[p] : alloc_try_aligned(CACHE_LINE, signs);
    fr->pieces[p] = fr->pieces[p] ? fr->pieces[p] : alloc_try_aligned(CACHE_LINE, codes);
    return fr->spread[p] && fr->signs[p] && fr->pieces[p];
}

int fresh_add(struct fresh *fr, const void *rows, size_t stride, uint32_t n, struct status *st)
{
    uint32_t coded = atomic_load_explicit(&fr->coded, memory_order_relaxed);
    int rc = 0;
    if (n > fresh__piece_row0(FRESH_PIECES) - coded) {
        FAIL(st, ST_TOO_LARGE, "no codes for more than %u rows", fresh__piece_row0(FRESH_PIECES));
    }
    for (uint32_t done = 0; done < n;) {
        uint32_t row = coded + done, p = fresh__piece_of(row), part = fresh__run(row, n - done);
        if (!fr->pieces[p] && !piece_new(fr, p)) {
            FAIL(st, ST_NO_MEMORY, "no memory for the codes of %u rows", fresh__piece_rows(p));
        }
        uint32_t at = row - fresh__piece_row0(p);
        codec_encode(fr->codec, (const uint8_t *)rows + done * stride, stride, part,
                     fresh__code(fr, row));
        for (uint32_t i = 0; i < part; i++) {
            fresh__put_signs(fr, fresh__code(fr, row + i), fr->signs[p], at + i,
                             &fr->spread[p][(at + i) / FRESH_BLOCK]);
        }
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

uint32_t fresh_sorted(const struct fresh *fr)
{
    const struct fresh_lists *fl = atomic_load_explicit(&fr->lists, memory_order_acquire);
    return fl ? atomic_load_explicit(&fl->sorted, memory_order_acquire) : 0;
}

enum metric fresh_metric(const struct fresh *fr)
{
    return fr->metric;
}

size_t fresh_memory(const struct fresh *fr)
{
    size_t blob;
    (void)codec_blob(fr->codec, &blob);
    return sizeof *fr + 2 * blob + fresh_coded(fr) * (fr->stride + fr->words * 8) +
           fresh__lists_memory(fr);
}
