/*
 * fresh_lists.c - lists of like rows for the codes of growing rows.
 *
 * WHAT        Two levels of k-means: cells, and in each cell lists by its share of the rows. Rows
 *             are compared with centres through their codes, which a prepared centre reads at
 *             about 2 ns each; centres are means of the raw rows of a sample. A row goes to the
 *             nearest list of its NEAR_CELLS nearest cells, some 0.3 us a row. Every time the rows
 *             have become SORT_FACTOR times as many, lists are made anew, LIST_ROWS rows each, and
 *             take all rows before they replace the ones before.
 * STEPS       Making is cut in pieces of a few milliseconds, for who adds rows waits for them:
 *             cells and their sample, then the lists of one cell after the other, then a number of
 *             rows each time.
 * INVARIANTS  Rows of a list ascend. A row below `sorted` is in exactly one list.
 * THREADS     The adder's, but for what fresh_int.h says is published.
 */
#include "index/scan/fresh_int.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

#define SORT_FACTOR 3u
#define LIST_ROWS 16u
#define LISTS_MAX 4096u
#define SAMPLE_PER_LIST 16u
#define SAMPLE_PER_CELL 32u
#define ROUNDS 3
#define NEAR_CELLS 2u
#define BLOCK 256u

/* What is trained on: rows and their codes, by cell once cells are known. */
struct fresh_making {
    struct fresh_lists *fl;
    uint32_t n, cell; /* cell: whose lists come next */
    uint32_t *rows;
    uint8_t *codes;
    uint32_t *start; /* of each cell's rows, and the end */
};

/* ---- Centres ---- */

static bool centres_new(struct fresh_centres *c, const struct fresh *fr, uint32_t n)
{
    size_t codes, pqs;
    c->n = n;
    if (mul_size(n, fr->stride, &codes) && mul_size(n, fr->pq_stride, &pqs)) {
        c->codes = alloc_try_aligned(CACHE_LINE, codes);
        c->pqs = alloc_try_aligned(CACHE_LINE, pqs);
        c->bias = alloc_try(n * sizeof *c->bias);
    }
    return c->codes && c->pqs && c->bias;
}

static void centres_done(struct fresh_centres *c)
{
    mem_free(c->codes);
    mem_free(c->pqs);
    mem_free(c->bias);
}

/* |x - c|^2 orders as |c|^2 / 2 - x.c, of which IP's key is the second part. */
static void centre_set(const struct fresh *fr, struct fresh_centres *c, uint32_t i, const float *v)
{
    double norm = 0;
    for (size_t d = 0; fr->metric == METRIC_IP && d < fr->dim; d++) {
        norm += (double)v[d] * (double)v[d];
    }
    c->bias[i] = (float)(norm / 2);
    codec_encode(fr->wide, v, fr->dim * sizeof *v, 1, c->codes + i * fr->stride);
    codec_query(fr->wide, v, c->pqs + i * fr->pq_stride);
}

/* The nearest of centres from .. from + k to each of n codes. */
static void nearest(const struct fresh *fr, const struct fresh_centres *c, uint32_t from,
                    uint32_t k, const uint8_t *codes, uint32_t n, uint32_t *label)
{
    float keys[BLOCK], best[BLOCK];
    for (uint32_t at = 0, m; at < n; at += m) {
        m = MIN(n - at, BLOCK);
        for (uint32_t i = 0; i < m; i++) {
            best[i] = INFINITY;
            label[at + i] = 0;
        }
        for (uint32_t j = 0; j < k; j++) {
            const float bias = c->bias[from + j];
            codec_rows(fr->codec, c->pqs + (from + j) * fr->pq_stride, codes + at * fr->stride,
                       fr->stride, m, keys);
            for (uint32_t i = 0; i < m; i++) {
                bool nearer = keys[i] + bias < best[i];
                best[i] = nearer ? keys[i] + bias : best[i];
                label[at + i] = nearer ? j : label[at + i];
            }
        }
    }
}

/* ---- k-means of a sample ---- */

struct sample {
    const struct fresh *fr;
    fresh_row_fn *row;
    const void *row_arg;
};

static void vector_of(const struct sample *sm, uint32_t row, float *out)
{
    const struct fresh *fr = sm->fr;
    struct index_rows one = { .metric = fr->metric, .type = fr->type, .dim = fr->dim,
                              .base = sm->row(sm->row_arg, row), .nrows = 1 };
    index_rows_f32(&one, NULL, 0, 1, fr->metric == METRIC_COSINE, out);
}

static void means(const struct sample *sm, const uint32_t *rows, const uint32_t *label, uint32_t n,
                  uint32_t k, float *centres, float *sums, uint32_t *counts)
{
    const size_t dim = sm->fr->dim;
    float *v = sums + k * dim;
    memset(sums, 0, k * dim * sizeof *sums);
    memset(counts, 0, k * sizeof *counts);
    for (uint32_t i = 0; i < n; i++) {
        float *sum = sums + label[i] * dim;
        vector_of(sm, rows[i], v);
        counts[label[i]]++;
        for (size_t d = 0; d < dim; d++) {
            sum[d] += v[d];
        }
    }
    for (uint32_t j = 0; j < k; j++) {
        for (size_t d = 0; counts[j] && d < dim; d++) {
            centres[j * dim + d] = sums[j * dim + d] / (float)counts[j];
        }
    }
}

/* Centres from .. from + k of n rows, n >= k; label: which each row is nearest to. */
static bool train(const struct sample *sm, const uint32_t *rows, const uint8_t *codes, uint32_t n,
                  struct fresh_centres *c, uint32_t from, uint32_t k, uint32_t *label)
{
    const size_t dim = sm->fr->dim;
    float *centres = alloc_try(k * dim * sizeof *centres);
    float *sums = alloc_try((k + 1) * dim * sizeof *sums);
    uint32_t *counts = alloc_try(k * sizeof *counts);
    bool ok = centres && sums && counts;
    for (uint32_t j = 0; ok && j < k; j++) {
        vector_of(sm, rows[(uint64_t)j * n / k], centres + j * dim);
    }
    for (int round = 0; ok && round <= ROUNDS; round++) {
        for (uint32_t j = 0; j < k; j++) {
            centre_set(sm->fr, c, from + j, centres + j * dim);
        }
        nearest(sm->fr, c, from, k, codes, n, label);
        if (round < ROUNDS) {
            means(sm, rows, label, n, k, centres, sums, counts);
        }
    }
    mem_free(centres);
    mem_free(sums);
    mem_free(counts);
    return ok;
}

/* ---- Making lists ---- */

void fresh__lists_free(struct fresh_lists *fl)
{
    while (fl) {
        struct fresh_lists *older = fl->older;
        for (uint32_t i = 0; fl->list && i < fl->lists.n; i++) {
            fresh__list_done(&fl->list[i]);
        }
        centres_done(&fl->cells);
        centres_done(&fl->lists);
        mem_free(fl->first);
        mem_free(fl->list);
        mem_free(fl);
        fl = older;
    }
}

static void sample_free(struct fresh_making *m)
{
    mem_free(m->rows);
    mem_free(m->codes);
    mem_free(m->start);
    m->rows = NULL;
    m->codes = NULL;
    m->start = NULL;
}

size_t fresh__lists_memory(const struct fresh *fr)
{
    size_t n = fr->making ? fr->making->fl->memory : 0;
    const struct fresh_lists *fl = atomic_load_explicit(&fr->lists, memory_order_relaxed);
    for (; fl; fl = fl->older) {
        n += fl->memory;
    }
    return n;
}

void fresh__making_free(struct fresh_making *m)
{
    if (m) {
        sample_free(m);
        fresh__lists_free(m->fl);
        mem_free(m);
    }
}

/* The sample by cell, and how many lists each gets. */
static bool group(struct fresh_making *m, const struct fresh *fr, const uint32_t *label,
                  uint32_t nlists)
{
    struct fresh_lists *fl = m->fl;
    uint32_t ncells = fl->cells.n, *at = alloc_try((ncells + 1) * sizeof *at);
    uint32_t *rows = alloc_try(m->n * sizeof *rows);
    uint8_t *codes = alloc_try(m->n * fr->stride);
    bool ok = at && rows && codes;
    if (ok) {
        memset(m->start, 0, (ncells + 1) * sizeof *m->start);
        for (uint32_t i = 0; i < m->n; i++) {
            m->start[label[i] + 1]++;
        }
        fl->first[0] = 0;
        for (uint32_t c = 0; c < ncells; c++) {
            uint32_t n = m->start[c + 1];
            uint32_t lists = (uint32_t)(((uint64_t)n * nlists + m->n / 2) / m->n);
            fl->first[c + 1] = fl->first[c] + MAX(MIN(lists, n), 1u);
            m->start[c + 1] += m->start[c];
        }
        memcpy(at, m->start, (ncells + 1) * sizeof *at);
        for (uint32_t i = 0; i < m->n; i++) {
            uint32_t to = at[label[i]]++;
            rows[to] = m->rows[i];
            memcpy(codes + to * fr->stride, m->codes + i * fr->stride, fr->stride);
        }
        mem_free(m->rows);
        mem_free(m->codes);
        m->rows = TAKE(rows);
        m->codes = TAKE(codes);
    }
    mem_free(at);
    mem_free(rows);
    mem_free(codes);
    return ok;
}

static bool draw(struct fresh_making *m, const struct fresh *fr, uint32_t nrows, uint32_t ncells)
{
    m->rows = alloc_try(m->n * sizeof *m->rows);
    m->codes = alloc_try(m->n * fr->stride);
    m->start = alloc_try((ncells + 1) * sizeof *m->start);
    for (uint32_t i = 0; m->rows && m->codes && i < m->n; i++) {
        m->rows[i] = (uint32_t)((uint64_t)i * nrows / m->n);
        memcpy(m->codes + i * fr->stride, fresh__code(fr, m->rows[i]), fr->stride);
    }
    return m->rows && m->codes && m->start;
}

/* Cells from every so many rows of the sample; all of it is then grouped by them. */
static bool make_cells(struct fresh_making *m, const struct sample *sm, uint32_t nlists)
{
    const struct fresh *fr = sm->fr;
    struct fresh_lists *fl = m->fl;
    uint32_t ncells = fl->cells.n, n = MIN(m->n, ncells * SAMPLE_PER_CELL);
    uint32_t *rows = alloc_try(n * sizeof *rows), *label = alloc_try(m->n * sizeof *label);
    uint8_t *codes = alloc_try(n * fr->stride);
    bool ok = rows && label && codes;
    for (uint32_t i = 0; ok && i < n; i++) {
        uint32_t from = (uint32_t)((uint64_t)i * m->n / n);
        rows[i] = m->rows[from];
        memcpy(codes + i * fr->stride, m->codes + from * fr->stride, fr->stride);
    }
    ok = ok && train(sm, rows, codes, n, &fl->cells, 0, ncells, label);
    if (ok) {
        nearest(fr, &fl->cells, 0, ncells, m->codes, m->n, label);
        ok = group(m, fr, label, nlists);
    }
    mem_free(rows);
    mem_free(label);
    mem_free(codes);
    return ok;
}

static bool begin(struct fresh *fr, const struct sample *sm, uint32_t nrows)
{
    uint32_t nlists = MIN(nrows / LIST_ROWS, LISTS_MAX);
    uint32_t ncells = MIN((uint32_t)sqrt((double)nlists), FRESH_CELLS);
    struct fresh_making *m = fr->making = xalloc(sizeof *m);
    struct fresh_lists *fl = m->fl = xalloc(sizeof *fl);
    m->n = MIN(nrows, nlists * SAMPLE_PER_LIST);
    fl->first = alloc_try((ncells + 1) * sizeof *fl->first);
    if (!fl->first || !centres_new(&fl->cells, fr, ncells) || !draw(m, fr, nrows, ncells) ||
        !make_cells(m, sm, nlists) || !centres_new(&fl->lists, fr, fl->first[ncells])) {
        return false;
    }
    fl->list = alloc_try_zero(fl->lists.n * sizeof *fl->list);
    for (uint32_t i = 0; fl->list && i < fl->lists.n; i++) {
        fresh__spread_init(&fl->list[i].spread);
    }
    size_t centre = fr->stride + fr->pq_stride + sizeof(float);
    fl->memory = sizeof *fl + (fl->lists.n + ncells) * centre + fl->lists.n * sizeof *fl->list;
    return fl->list != NULL;
}

static bool make_lists(struct fresh_making *m, const struct sample *sm)
{
    struct fresh_lists *fl = m->fl;
    uint32_t c = m->cell++, from = m->start[c], n = m->start[c + 1] - from;
    uint32_t k = fl->first[c + 1] - fl->first[c];
    bool ok = true;
    if (n > 0) {
        uint32_t *label = alloc_try(n * sizeof *label);
        ok = label && train(sm, m->rows + from, m->codes + from * sm->fr->stride, n, &fl->lists,
                            fl->first[c], k, label);
        mem_free(label);
    } else { /* one list, where the cell is */
        const struct fresh *fr = sm->fr;
        uint32_t to = fl->first[c];
        memcpy(fl->lists.codes + to * fr->stride, fl->cells.codes + c * fr->stride, fr->stride);
        memcpy(fl->lists.pqs + to * fr->pq_stride, fl->cells.pqs + c * fr->pq_stride,
               fr->pq_stride);
        fl->lists.bias[to] = fl->cells.bias[c];
    }
    if (m->cell == fl->cells.n) {
        sample_free(m);
    }
    return ok;
}

/* ---- Rows into lists ---- */

/* The rows of a block by cell: each is with its NEAR_CELLS nearest. */
struct by_cell {
    uint32_t start[FRESH_CELLS + 1];
    uint32_t rows[BLOCK * NEAR_CELLS];
};

static void near_cells(const struct fresh *fr, const struct fresh_lists *fl, const uint8_t *codes,
                       uint32_t n, struct by_cell *ret)
{
    float keys[BLOCK], best[NEAR_CELLS][BLOCK];
    uint32_t cell[NEAR_CELLS][BLOCK] = { 0 }, at[FRESH_CELLS];
    for (uint32_t i = 0; i < n; i++) {
        best[0][i] = best[1][i] = INFINITY;
    }
    for (uint32_t c = 0; c < fl->cells.n; c++) {
        codec_rows(fr->codec, fl->cells.pqs + c * fr->pq_stride, codes, fr->stride, n, keys);
        for (uint32_t i = 0; i < n; i++) {
            float key = keys[i] + fl->cells.bias[c];
            if (key < best[0][i]) {
                best[1][i] = best[0][i];
                cell[1][i] = cell[0][i];
                best[0][i] = key;
                cell[0][i] = c;
            } else if (key < best[1][i]) {
                best[1][i] = key;
                cell[1][i] = c;
            }
        }
    }
    memset(ret->start, 0, sizeof ret->start);
    for (uint32_t i = 0; i < n * NEAR_CELLS; i++) {
        ret->start[cell[i / n][i % n] + 1]++;
    }
    for (uint32_t c = 0; c < fl->cells.n; c++) {
        ret->start[c + 1] += ret->start[c];
        at[c] = ret->start[c];
    }
    for (uint32_t i = 0; i < n * NEAR_CELLS; i++) {
        ret->rows[at[cell[i / n][i % n]]++] = i % n;
    }
}
_Static_assert(NEAR_CELLS == 2, "near_cells() keeps two");

/* Rows of which codes lie one after the other; at most BLOCK. */
static bool enter_block(const struct fresh *fr, struct fresh_lists *fl, uint32_t row, uint32_t n)
{
    const uint8_t *codes = fresh__code(fr, row);
    struct by_cell by;
    float best[BLOCK], keys[BLOCK * NEAR_CELLS];
    uint32_t label[BLOCK] = { 0 };
    near_cells(fr, fl, codes, n, &by);
    for (uint32_t i = 0; i < n; i++) {
        best[i] = INFINITY;
    }
    for (uint32_t c = 0; c < fl->cells.n; c++) {
        const uint32_t *rows = by.rows + by.start[c], m = by.start[c + 1] - by.start[c];
        for (uint32_t l = fl->first[c]; m && l < fl->first[c + 1]; l++) {
            codec_ids(fr->codec, fl->lists.pqs + l * fr->pq_stride, codes, fr->stride, rows, m,
                      keys);
            for (uint32_t i = 0; i < m; i++) {
                float key = keys[i] + fl->lists.bias[l];
                if (key < best[rows[i]]) {
                    best[rows[i]] = key;
                    label[rows[i]] = l;
                }
            }
        }
    }
    bool ok = true;
    uint32_t i = 0;
    for (; ok && i < n; i += ok) {
        ok = fresh__list_add(fr, &fl->list[label[i]], row + i, codes + i * fr->stride,
                             &fl->memory);
    }
    atomic_store_explicit(&fl->sorted, row + i, memory_order_release); /* searches */
    return ok;
}

static bool enter(const struct fresh *fr, struct fresh_lists *fl, uint32_t end, uint32_t max)
{
    uint32_t row = atomic_load_explicit(&fl->sorted, memory_order_relaxed);
    bool ok = true;
    end = row + MIN(end - row, max);
    for (uint32_t n; ok && row < end; row += n) {
        n = fresh__run(row, MIN(end - row, BLOCK));
        ok = enter_block(fr, fl, row, n);
    }
    return ok;
}

static uint32_t sorted_of(const struct fresh_lists *fl)
{
    return fl ? atomic_load_explicit(&fl->sorted, memory_order_relaxed) : 0;
}

static bool step(struct fresh *fr, const struct sample *sm, uint32_t max)
{
    struct fresh_lists *now = atomic_load_explicit(&fr->lists, memory_order_relaxed);
    uint32_t coded = atomic_load_explicit(&fr->coded, memory_order_relaxed);
    struct fresh_making *m = fr->making;
    if (!m && coded >= fr->sort_at) {
        fr->sort_at = coded > UINT32_MAX / SORT_FACTOR ? UINT32_MAX : coded * SORT_FACTOR;
        return begin(fr, sm, coded);
    }
    if (m && m->cell < m->fl->cells.n) {
        return make_lists(m, sm);
    }
    if (now && !enter(fr, now, coded, max)) {
        return false;
    }
    /* All that is searched through the ones before; without those, all. */
    uint32_t all = now ? sorted_of(now) : coded;
    if (m && !enter(fr, m->fl, coded, 4 * max)) {
        return false;
    }
    if (m && sorted_of(m->fl) >= all) {
        m->fl->older = now;
        atomic_store_explicit(&fr->lists, TAKE(m->fl), memory_order_release); /* searches */
        fresh__making_free(TAKE(fr->making));
    }
    return true;
}

bool fresh_sort(struct fresh *fr, fresh_row_fn *row, const void *row_arg, uint32_t max)
{
    struct sample sm = { .fr = fr, .row = row, .row_arg = row_arg };
    if (!fr->unsorted && !step(fr, &sm, max)) {
        fresh__making_free(TAKE(fr->making));
        fr->unsorted = true;
    }
    const struct fresh_lists *now = atomic_load_explicit(&fr->lists, memory_order_relaxed);
    uint32_t coded = atomic_load_explicit(&fr->coded, memory_order_relaxed);
    return !fr->unsorted && (fr->making || coded >= fr->sort_at || (now && sorted_of(now) < coded));
}
