/*
 * ivf_bin.c - BIN_IVF_FLAT: packed bits in list order about majority centroids.
 *
 * Rows are copied in list order and scanned whole by the metric's own kernel: scores are exact,
 * and the raw rows are not touched. Lists go by the metric's distance of their centroids. The
 * structure metrics have no neighbourhood that centroids could tell: they scan all rows.
 * Ranges as in ivf_search.c, filters too, but for as many allowed rows as without one: bits are
 * coarse, and many rows tie.
 */
#include <math.h>

#include "base/alloc.h"
#include "index/ivf/ivf_int.h"
#include "simd/simd.h"

#define COPY_ROWS 4096
#define CHUNK_ROWS 256
/* An allowed row by number against a row of a list by stream. */
#define FLAT_FACTOR 4.0
#define FARTHER_MOST 4.0 /* as in ivf_search.c */

int ivf_bin_build(const struct index_build *b, struct ixw *w, struct status *st)
{
    struct ivf_lists l = { 0 };
    size_t bytes = b->rows->dim / 8;
    uint8_t *copy = alloc_try(COPY_ROWS * bytes);
    int rc = 0;
    if (!copy) {
        FAIL(st, ST_NO_MEMORY, "no memory to copy rows of %zu bytes", bytes);
    }
    TRY(ivf_lists_make(b, &l, st));
    TRY(ivf_lists_save(&l, b->rows, w, st));
    TRY(ixw_begin(w, IVF_TAG_BLOCKS, st));
    for (uint32_t at = 0; at < b->rows->nrows; at += COPY_ROWS) {
        uint32_t n = MIN(b->rows->nrows - at, (uint32_t)COPY_ROWS);
        for (uint32_t i = 0; i < n; i++) {
            memcpy(copy + i * bytes, index_row(b->rows, l.order[at + i]), bytes);
        }
        TRY(ixw_put(w, copy, n * bytes, st));
    }
    TRY(ixw_end(w, st));
out:
    mem_free(copy);
    ivf_lists_done(&l);
    return rc;
}

struct bin {
    const struct ivf *ivf;
    const struct index_query *q;
    struct topk *tk;
    struct index_counters *c;
    struct simd_dist dist;
    uint64_t *order;
    float *key; /* nlist */
    uint32_t nprobe;
    double want_seen, pass;
    bool range;
};

static bool allowed(const struct index_query *q, uint32_t row)
{
    return !q->allow || (q->allow[row >> 6] >> (row & 63) & 1);
}

/* Scans a list for query j; returns how many rows came into the result or could have. */
static uint32_t scan_list(struct bin *b, uint32_t j, uint32_t list, uint64_t *seen)
{
    const struct ivf *ivf = b->ivf;
    const void *query = (const uint8_t *)b->q->queries + j * b->q->query_stride;
    size_t bytes = ivf->head.rows.dim / 8;
    float score[CHUNK_ROWS];
    uint32_t pick[CHUNK_ROWS], hits = 0;
    for (uint32_t at = ivf->start[list]; at < ivf->start[list + 1]; at += CHUNK_ROWS) {
        uint32_t n = MIN(ivf->start[list + 1] - at, (uint32_t)CHUNK_ROWS);
        b->dist.rows(query, ivf->blocks + at * bytes, bytes, n, ivf->head.rows.dim, score);
        size_t found = simd_ops()->select_le(score, n, topk_bound(b->tk, j), pick);
        for (size_t i = 0; i < found; i++) {
            uint32_t row = ivf->rows[at + pick[i]];
            if (allowed(b->q, row)) {
                topk_push(b->tk, j, score[pick[i]], b->q->row_base + row);
                hits += score[pick[i]] >= b->tk->lists[j].low_key;
            }
        }
        for (uint32_t i = 0; b->q->allow && i < n; i++) {
            *seen += allowed(b->q, ivf->rows[at + i]);
        }
        *seen += b->q->allow ? 0 : n;
        b->c->distances += n;
        b->c->bytes += n * bytes;
    }
    b->c->lists++;
    return hits;
}

static int search_one(struct bin *b, uint32_t j, struct status *st)
{
    const struct ivf *ivf = b->ivf;
    const void *query = (const uint8_t *)b->q->queries + j * b->q->query_stride;
    const size_t dim = ivf->head.rows.dim;
    uint32_t empty = 0, most = MAX(b->q->params->max_empty_result_buckets, 1u), sorted = 0;
    uint64_t seen = 0, before = b->c->distances;
    bool any = b->tk->lists[j].low_key == -INFINITY;
    int rc = 0;
    b->dist.rows(query, ivf->bit_cents, dim / 8, ivf->nlist, dim, b->key);
    for (uint32_t l = 0; l < ivf->nlist; l++) {
        b->order[l] = ivf_sort_key(b->key[l], l);
    }
    double want = b->want_seen;
    for (uint32_t l = 0; l < ivf->nlist; l++) {
        if (l == b->nprobe && b->q->allow) { /* as wanted() of ivf_search.c */
            double expect = b->pass * (double)(b->c->distances - before);
            double farther = seen ? expect / (double)seen : FARTHER_MOST;
            want *= farther < 1 ? 1 : MIN(farther, FARTHER_MOST);
        }
        if (l >= b->nprobe && (b->range ? any && empty >= most : (double)seen >= want)) {
            break;
        }
        if (l >= sorted) {
            uint32_t more = MIN(ivf->nlist - sorted, MAX(b->nprobe, sorted));
            ivf_select(b->order + sorted, ivf->nlist - sorted, more);
            ivf_sort(b->order + sorted, more);
            sorted += more;
        }
        uint32_t hits = scan_list(b, j, (uint32_t)b->order[l], &seen);
        empty = hits ? 0 : empty + 1;
        any |= hits > 0;
        if (l % 16 == 15 && b->q->check) {
            TRY(b->q->check(b->q->check_arg, st));
        }
    }
out:
    return rc;
}

int ivf_bin_search(const struct index *ix, const struct index_query *q, struct topk *tk,
                   struct index_counters *c, struct status *st)
{
    const struct ivf *ivf = CONTAINER_OF(ix, const struct ivf, head);
    const struct simd_ops *ops = simd_ops();
    const struct topk_list *l = &tk->lists[0];
    double rows = ix->rows.nrows, pass = q->allow ? q->allow_count / rows : 1;
    struct bin b = { .ivf = ivf, .q = q, .tk = tk, .c = c, .pass = pass };
    int rc = 0;
    b.dist = ix->rows.metric == METRIC_JACCARD ? ops->jaccard : ops->hamming;
    b.nprobe = MAX(q->params->nprobe, 1u) * MAX(q->params->level, 1u);
    b.nprobe = MIN(b.nprobe, ivf->nlist);
    b.range = (l->n == 0 && l->bound_key < INFINITY) || l->low_key > -INFINITY;
    double share = (double)b.nprobe / ivf->nlist;
    if (ix->rows.metric >= METRIC_SUBSTRUCTURE ||
        (q->params->strategy != STRAT_LISTS && q->allow && !b.range &&
         pass * FLAT_FACTOR < MIN(1.0, share / pass))) {
        return index__flat(ix, q, 0, q->nq, tk, c, st);
    }
    b.want_seen = q->allow ? MAX(MIN(share, pass) * rows, (double)tk->k) : tk->k;
    if (!(b.order = alloc_try((size_t)ivf->nlist * (sizeof *b.order + sizeof *b.key)))) {
        FAIL(st, ST_NO_MEMORY, "no memory to order %u lists", ivf->nlist);
    }
    b.key = (float *)(void *)(b.order + ivf->nlist);
    c->strategy = STRAT_LISTS;
    for (uint32_t j = 0; j < q->nq; j++) {
        TRY(search_one(&b, j, st));
    }
out:
    mem_free(b.order);
    return rc;
}
