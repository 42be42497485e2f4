/*
 * kmeans.c - Lloyd's algorithm for the lists of inverted files and the clusters of everything else.
 *
 * WHAT        Rows are drawn, nlist of them are the first centroids; then rounds of assigning
 *             (kmeans_near.c) and averaging. The first half of the rounds looks at a quarter of the
 *             rows: centroids move far then and need no precision. Empty lists, and with balance
 *             lists far below the mean, give their centroid to a list above it: it is put between
 *             that list's centroid and one of its rows. Rounds end early when almost no row moves.
 *             Above KM_FLAT_MAX lists: about sqrt(nlist) clusters first, each divided into its
 *             share of the lists, then two rounds over all through the tree of kmeans_near.c.
 * INVARIANTS  The same centroids for any number of threads: rows are assigned one by one, a list's
 *             rows are added up in row order by whoever runs that list, in double.
 * THREADS     The caller and the pool.
 * MEMORY      Beside centroids 12 bytes a drawn row; rows are widened block by block, never copied
 *             whole.
 * WHY         wordnet384 in 1,024 lists, nprobe 8, 32, 64 of an IVF_FLAT: recall 0.841, 0.941, 0.971,
 *             its build 7.8 s of CPU; with all rounds on all rows 0.842, 0.940, 0.970 and 12.0 s.
 *             Through the tree, 10,000 rows of sift1m and 16,384 lists: 98.9 % of rows come to the
 *             list they would without it; squared distances grow by 0.08 % on average.
 */
#include "index/kmeans.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/kmeans_int.h"

#define ROUNDS 10
#define SAMPLE_PER_LIST 256
#define EARLY_PER_LIST 32 /* rows a list that early rounds look at, at least */
#define SUM_BATCH 16

/* ---- Drawing rows ---- */

static uint32_t mix32(uint32_t x, uint32_t key)
{
    x = (x ^ key) * 0x85ebca6bu;
    x = (x ^ x >> 15) * 0xc2b2ae35u;
    return x ^ x >> 13;
}

/* Four rounds of a Feistel network over the smallest even number of bits that holds nrows; what
 * falls outside goes round again. */
static uint32_t permute(uint32_t i, uint32_t nrows, uint64_t seed)
{
    unsigned half = 1;
    while (half < 16 && (UINT64_C(1) << 2 * half) < nrows) {
        half++;
    }
    uint32_t mask = (uint32_t)((UINT64_C(1) << half) - 1);
    do {
        uint32_t l = i >> half, r = i & mask;
        for (uint32_t round = 0; round < 4; round++) {
            uint32_t key = (uint32_t)(seed >> (round % 2 * 32)) + round * 0x9e3779b9u;
            uint32_t next = l ^ (mix32(r, key) & mask);
            l = r;
            r = next;
        }
        i = l << half | r;
    } while (i >= nrows);
    return i;
}

void km__draw(uint32_t nrows, size_t n, uint64_t seed, uint32_t *ids)
{
    for (size_t i = 0; i < n; i++) {
        ids[i] = permute((uint32_t)i, nrows, seed);
    }
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

void km__group(const uint32_t *list, size_t n, uint32_t nlist, uint32_t *start, uint32_t *order)
{
    memset(start, 0, ((size_t)nlist + 1) * sizeof *start);
    for (size_t i = 0; i < n; i++) {
        start[list[i] + 1]++;
    }
    for (uint32_t l = 0; l < nlist; l++) {
        start[l + 1] += start[l];
    }
    for (size_t i = 0; i < n; i++) {
        order[start[list[i]]++] = (uint32_t)i;
    }
    memmove(start + 1, start, nlist * sizeof *start); /* each now stood at its list's end */
    start[0] = 0;
}

/* ---- Lloyd's rounds ---- */

struct lloyd {
    struct km_rows r; /* of the round: the drawn rows or the first of them */
    const struct kmeans_opts *o;
    uint32_t nlist;
    size_t dim;
    float *cent;
    uint32_t *ids, *list, *order, *start; /* start has two entries more than lists */
};

/* The mean of one list's rows. An empty list keeps its centroid. */
static void average_list(void *arg, size_t l, void *scratch)
{
    struct lloyd *w = arg;
    size_t dim = w->dim, n = w->start[l + 1] - w->start[l];
    double *sum = scratch, norm2 = 0;
    float *x = (float *)(void *)(sum + dim), *c = w->cent + l * dim;
    uint32_t ids[SUM_BATCH];
    if (n == 0) {
        return;
    }
    memset(sum, 0, dim * sizeof *sum);
    for (size_t i = 0; i < n; i += SUM_BATCH) {
        size_t part = MIN(n - i, (size_t)SUM_BATCH);
        for (size_t j = 0; j < part; j++) {
            uint32_t at = w->order[w->start[l] + i + j];
            ids[j] = w->r.ids ? w->r.ids[at] : at;
        }
        index_rows_f32(w->r.rows, ids, 0, part, w->r.unit, x);
        for (size_t j = 0; j < part; j++) {
            for (size_t k = 0; k < dim; k++) {
                sum[k] += x[j * dim + k];
            }
        }
    }
    for (size_t k = 0; k < dim; k++) {
        norm2 += sum[k] * sum[k];
    }
    if (!isfinite(norm2) || (w->r.unit && norm2 == 0)) {
        return; /* rows that are not numbers must not spoil a centroid */
    }
    double scale = w->r.unit ? 1 / sqrt(norm2) : 1 / (double)n;
    for (size_t k = 0; k < dim; k++) {
        c[k] = (float)(sum[k] * scale);
    }
}

struct list_size {
    uint32_t size, list;
};

static int by_size(const void *a, const void *b)
{
    const struct list_size *x = a, *y = b;
    if (x->size != y->size) {
        return x->size < y->size ? -1 : 1;
    }
    return x->list < y->list ? -1 : x->list > y->list;
}

/* Centroid `to` moves between `from`'s and one of from's rows. */
static void take_share(struct lloyd *w, uint32_t to, uint32_t from, uint32_t nth, float *row)
{
    size_t n = w->start[from + 1] - w->start[from];
    uint32_t at = w->order[w->start[from] + mix32(nth + 1, (uint32_t)w->o->seed) % n];
    uint32_t id = w->r.ids ? w->r.ids[at] : at;
    const float *c = w->cent + from * w->dim;
    float *t = w->cent + to * w->dim;
    index_rows_f32(w->r.rows, &id, 0, 1, w->r.unit, row);
    for (size_t k = 0; k < w->dim; k++) {
        t[k] = isfinite(row[k]) ? (c[k] + row[k]) / 2 : c[k];
    }
}

/* Gives the centroids of lists that have no use for them to lists that are too long. */
static int even_out(struct lloyd *w, bool balance, struct status *st)
{
    struct list_size *by = alloc_try(w->nlist * sizeof *by);
    float *row = alloc_try(w->dim * sizeof(float));
    uint32_t mean = (uint32_t)(w->r.n / w->nlist), top = w->nlist - 1;
    int rc = 0;
    if (!by || !row) {
        FAIL(st, ST_NO_MEMORY, "no memory to even out %u lists", w->nlist);
    }
    for (uint32_t l = 0; l < w->nlist; l++) {
        by[l] = (struct list_size){ w->start[l + 1] - w->start[l], l };
    }
    qsort(by, w->nlist, sizeof *by, by_size);
    uint32_t left = by[top].size; /* what stays with the longest list after its splits */
    for (uint32_t i = 0; i < top; i++) {
        bool spare = by[i].size == 0 || (balance && by[i].size < mean / 8);
        bool needed = by[i].size == 0 ? left > 1 : left > 4 * mean;
        if (!spare || !needed) {
            break;
        }
        take_share(w, by[i].list, by[top].list, i, row);
        left /= 2;
        /* Still longer than the next even so? Then it is split once more. */
        if (left <= by[top - 1].size && top - 1 > i) {
            top--;
            left = by[top].size;
        }
    }
out:
    mem_free(by);
    mem_free(row);
    return rc;
}

static int one_round(struct lloyd *w, bool even, size_t *ret_moved, uint32_t *last,
                     struct status *st)
{
    struct km_near *near = NULL;
    size_t moved = 0;
    int rc;
    TRY(km__near_new(w->cent, w->nlist, w->dim, w->r.unit, w->o, &near, st));
    TRY(km__near_assign(near, &w->r, w->o, w->list, st));
    for (size_t i = 0; i < w->r.n; i++) {
        moved += w->list[i] != last[i];
        last[i] = w->list[i];
    }
    km__group(w->list, w->r.n, w->nlist, w->start, w->order);
    TRY(km__run(w->o, w->nlist, w->dim * (sizeof(double) + SUM_BATCH * sizeof(float)), average_list,
                w, st));
    if (even) {
        TRY(even_out(w, w->o->balance, st));
    }
    *ret_moved = moved;
out:
    km__near_free(near);
    return rc;
}

static int lloyd_new(struct lloyd *w, const struct km_rows *r, uint32_t nlist,
                     const struct kmeans_opts *o, float *centroids, uint32_t **ret_last,
                     struct status *st)
{
    *w = (struct lloyd){ .r = *r, .o = o, .nlist = nlist, .dim = r->rows->dim, .cent = centroids };
    w->ids = alloc_try(r->n * 4 + 4);
    w->list = alloc_try(r->n * 4 + 4);
    w->order = alloc_try(r->n * 4 + 4);
    w->start = alloc_try(((size_t)nlist + 2) * 4);
    *ret_last = alloc_try(r->n * 4 + 4);
    if (!w->ids || !w->list || !w->order || !w->start || !*ret_last) {
        return st_fail(st, ST_NO_MEMORY, "no memory to cluster %zu rows into %u lists", r->n,
                       nlist);
    }
    memset(*ret_last, 0xff, r->n * 4);
    return 0;
}

static void lloyd_free(struct lloyd *w, uint32_t *last)
{
    mem_free(w->ids);
    mem_free(w->list);
    mem_free(w->order);
    mem_free(w->start);
    mem_free(last);
}

int km__lloyd(const struct km_rows *r, uint32_t nlist, const struct kmeans_opts *o,
              float *centroids, struct status *st)
{
    struct lloyd w;
    uint32_t *last = NULL, rounds = o->rounds ? o->rounds : ROUNDS;
    size_t per = o->sample_per_list ? o->sample_per_list : SAMPLE_PER_LIST, moved;
    size_t n = MIN(r->n, MAX(per, (size_t)1) * nlist);
    size_t early = MIN(n, MAX(n / 4, (size_t)nlist * EARLY_PER_LIST));
    int rc;
    TRY(lloyd_new(&w, r, nlist, o, centroids, &last, st));
    km__draw((uint32_t)r->n, n, o->seed, w.ids);
    for (size_t i = 0; r->ids && i < n; i++) {
        w.ids[i] = r->ids[w.ids[i]];
    }
    for (uint32_t l = 0; l < nlist; l++) {
        index_rows_f32(r->rows, &w.ids[l % n], 0, 1, r->unit, centroids + l * w.dim);
        for (size_t k = 0; k < w.dim; k++) { /* not a number: zero, as good as any */
            float *v = &centroids[l * w.dim + k];
            *v = isfinite(*v) ? *v : 0;
        }
    }
    /* Ascending numbers read memory forwards. */
    qsort(w.ids, early, sizeof *w.ids, by_number);
    qsort(w.ids + early, n - early, sizeof *w.ids, by_number);
    w.r.ids = w.ids;
    for (uint32_t i = 0; i < rounds; i++) {
        bool first_half = i < rounds / 2;
        w.r.n = first_half ? early : n;
        TRY(one_round(&w, i + 2 < rounds, &moved, last, st));
        if (moved * 200 < w.r.n && !first_half) {
            break;
        }
    }
out:
    lloyd_free(&w, last);
    return rc;
}

/* ---- Many lists ---- */

/* Shares of nlist by size, none empty of a cluster that has rows; shares sum to nlist. */
static void share_lists(const uint32_t *start, uint32_t nclusters, uint32_t nlist, uint32_t *share)
{
    uint64_t n = start[nclusters], done = 0;
    uint32_t used = 0;
    for (uint32_t c = 0; c < nclusters; c++) {
        /* What all clusters up to this one should have together, less what they have. */
        done += start[c + 1] - start[c];
        uint32_t upto = (uint32_t)(done * nlist / n);
        share[c] = upto > used ? upto - used : 0;
        if (share[c] == 0 && start[c + 1] > start[c] && used < nlist) {
            share[c] = 1;
        }
        used += share[c];
    }
    share[nclusters - 1] += nlist - used;
}

static int divide(const struct km_rows *r, uint32_t nlist, const struct kmeans_opts *o,
                  float *centroids, struct status *st)
{
    uint32_t ntop = (uint32_t)ceil(sqrt(nlist)), done = 0;
    size_t dim = r->rows->dim;
    struct kmeans_opts part = *o;
    struct km_near *near = NULL;
    float *top = alloc_try(ntop * dim * sizeof(float));
    uint32_t *list = alloc_try(r->n * 4), *order = alloc_try(r->n * 4);
    uint32_t *start = alloc_try((ntop + 2) * 4), *share = alloc_try(ntop * 4);
    int rc = 0;
    if (!top || !list || !order || !start || !share) {
        FAIL(st, ST_NO_MEMORY, "no memory to cluster %zu rows into %u lists", r->n, nlist);
    }
    part.balance = true;
    TRY(km__lloyd(r, ntop, &part, top, st));
    TRY(km__near_new(top, ntop, dim, r->unit, o, &near, st));
    TRY(km__near_assign(near, r, o, list, st));
    km__group(list, r->n, ntop, start, order);
    share_lists(start, ntop, nlist, share);
    for (size_t i = 0; r->ids && i < r->n; i++) {
        order[i] = r->ids[order[i]];
    }
    part.balance = o->balance;
    for (uint32_t c = 0; c < ntop; c++) {
        struct km_rows some = *r;
        some.ids = order + start[c];
        some.n = start[c + 1] - start[c];
        if (share[c] && some.n) {
            TRY(km__lloyd(&some, share[c], &part, centroids + done * dim, st));
        }
        for (uint32_t l = 0; share[c] && !some.n && l < share[c]; l++) {
            memcpy(centroids + (done + l) * dim, top + c * dim, dim * sizeof(float));
        }
        done += share[c];
    }
out:
    km__near_free(near);
    mem_free(top);
    mem_free(list);
    mem_free(order);
    mem_free(start);
    mem_free(share);
    return rc;
}

static int train_many(const struct km_rows *r, uint32_t nlist, const struct kmeans_opts *o,
                      float *centroids, struct status *st)
{
    struct lloyd w = { 0 };
    struct km_rows drawn = *r;
    size_t per = o->sample_per_list ? o->sample_per_list : SAMPLE_PER_LIST, moved;
    uint32_t *last = NULL, *ids = NULL;
    int rc = 0;
    drawn.n = MIN(r->n, per * nlist);
    ids = alloc_try(drawn.n * 4);
    if (!ids) {
        FAIL(st, ST_NO_MEMORY, "no memory to draw %zu rows", drawn.n);
    }
    km__draw((uint32_t)r->n, drawn.n, o->seed, ids);
    qsort(ids, drawn.n, sizeof *ids, by_number);
    drawn.ids = ids;
    TRY(divide(&drawn, nlist, o, centroids, st));
    TRY(lloyd_new(&w, &drawn, nlist, o, centroids, &last, st));
    TRY(one_round(&w, true, &moved, last, st));
    TRY(one_round(&w, false, &moved, last, st));
out:
    lloyd_free(&w, last);
    mem_free(ids);
    return rc;
}

/* ---- The interface ---- */

int kmeans_train(const struct index_rows *rows, const struct kmeans_opts *o, void *centroids,
                 struct status *st)
{
    struct km_rows r = { .rows = rows, .n = rows->nrows, .unit = rows->metric == METRIC_COSINE };
    if (rows->nrows == 0) {
        memset(centroids, 0,
               o->nlist * (rows->type == VEC_BIN ? rows->dim / 8 : rows->dim * sizeof(float)));
        return 0;
    }
    if (rows->type == VEC_BIN) {
        return km__train_bin(rows, o, centroids, st);
    }
    if (o->nlist > KM_FLAT_MAX && rows->nrows > o->nlist) {
        return train_many(&r, o->nlist, o, centroids, st);
    }
    return km__lloyd(&r, o->nlist, o, centroids, st);
}

int kmeans_assign(const struct index_rows *rows, const void *centroids, const struct kmeans_opts *o,
                  uint32_t *ret_list, struct status *st)
{
    struct km_rows r = { .rows = rows, .n = rows->nrows, .unit = rows->metric == METRIC_COSINE };
    struct km_near *near = NULL;
    int rc;
    if (rows->type == VEC_BIN) {
        return km__assign_bin(rows, NULL, rows->nrows, centroids, o, ret_list, st);
    }
    TRY(km__near_new(centroids, o->nlist, rows->dim, r.unit, o, &near, st));
    TRY(km__near_assign(near, &r, o, ret_list, st));
out:
    km__near_free(near);
    return rc;
}
