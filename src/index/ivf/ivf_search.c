/*
 * ivf_search.c - which lists are scanned, for whom, and when it is enough.
 *
 * WHAT        Queries go in tiles. Each orders the lists by their centroids' distance; the tile's
 *             (query, list) pairs are sorted by list, so that a list's codes are read from memory
 *             once, after every query's nearest list has given it a bound.
 *             Filters: nprobe is meant for all rows. When only a share p passes, neighbours lie
 *             farther out, and lists are scanned until nprobe lists' worth of rows times p^0.4 were
 *             allowed ones, about nprobe / p^0.6 lists. Measured on wordnet384, nprobe 32 of 1,024,
 *             recall 0.941 unfiltered: as many allowed rows as without a filter gave 0.971 at
 *             p = 0.5 and 1.0 at 0.05, more than asked for. Where scoring the allowed rows directly
 *             is cheaper, they are (index__flat); costs are per byte and row.
 *             Ranges: lists go on, beyond nprobe, until max_empty_result_buckets in a row had no
 *             row in the range.
 *             Fewer than k rows seen: lists go on until there are, whether ensure_topk_full says
 *             so or not, for a search promises k.
 * THREADS     The index is immutable; scratch is borrowed.
 * MEMORY      Scratch for IVF_TILE queries: per query its tables, 20 bytes a list, 48 KiB of
 *             candidates; kept for later searches.
 */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "index/ivf/ivf_int.h"
#include "simd/simd.h"

/* Costs in nanoseconds, of a Zen 4 core at 3.7 GHz: exact scores by number where rows come from
 * memory (1,536 bytes: 48 ns cached, 200 on a busy machine), codes at the memory's rate without
 * gaps and with, a random bit with its row number. */
#define NS_EXACT_ROW 40.0
#define NS_EXACT_BYTE 0.05
#define NS_CODE_BYTE 0.035
#define NS_CODE_BYTE_GAPS 0.12
#define NS_CODE_ROW 0.3
#define NS_BIT 3.0
/* Lines of the next list that are asked for before a list is scanned. */
#define NEXT_LINES 8
/* Below this share of allowed rows blocks are tested before they are scanned. */
#define PREMASK_SHARE 0.7
/* Allowed rows to see fall with this power of their share. */
#define FILTER_POWER 0.4
/* By how much a filter that avoids the query may widen the search. */
#define FARTHER_MOST 4.0

struct ivf_pair {
    uint32_t list, state;
    float key;
};

/* ---- Scratch ---- */

/* at is a number: the size is asked for where there is no memory yet. */
static void *carve(uintptr_t *at, size_t bytes)
{
    void *p = (void *)*at;
    *at += ROUND_UP(bytes, (size_t)64);
    return p;
}

static size_t lay_scratch(const struct ivf *ivf, struct ivf_scratch *x, uint8_t *mem)
{
    uintptr_t at = (uintptr_t)mem;
    size_t lists = ROUND_UP(ivf->nlist, 16u);
    float *tmp = carve(&at, MAX(ivf_query_tmp(&ivf->codec), ivf_query_tmp(&ivf->coarse)) * 4);
    uint32_t *pick = carve(&at, lists * 4);
    float *exact = carve(&at, lists * 4);
    int32_t *sum = carve(&at, lists * 4);
    for (int i = 0; i < IVF_TILE; i++) {
        struct ivf_state *s = &x->state[i];
        ivf_query_place(&ivf->codec, carve(&at, ivf_query_bytes(&ivf->codec)), &s->code);
        ivf_query_place(&ivf->coarse, carve(&at, ivf_query_bytes(&ivf->coarse)), &s->coarse);
        s->code.tmp = s->coarse.tmp = tmp;
        s->order.key = carve(&at, lists * 8);
        s->order.pick = pick;
        s->order.exact = exact;
        s->order.sum = sum;
        s->cand = carve(&at, IVF_CAND_MAX * sizeof *s->cand);
    }
    x->sort = carve(&at, IVF_CAND_MAX * sizeof *x->sort);
    x->pick = carve(&at, IVF_CAND_MAX * sizeof *x->pick);
    x->hit = carve(&at, 256 * sizeof *x->hit);
    x->sum = carve(&at, 256 * sizeof *x->sum);
    x->pair = carve(&at, (size_t)IVF_TILE * lists * sizeof *x->pair);
    return (size_t)(at - (uintptr_t)mem);
}

void ivf_scratch_free(struct ivf_scratch *x)
{
    if (x) {
        topk_free(x->up);
        mem_free(x->heap);
        mem_free(x);
    }
}

static int take_scratch(const struct ivf *ivf, uint32_t up_k, struct ivf_scratch **ret_x,
                        struct status *st)
{
    struct ivf *mutable = (struct ivf *)(uintptr_t)ivf; /* the pool of scratch alone changes */
    struct ivf_scratch *x = scratch_take(&mutable->scratch);
    int rc = 0;
    if (!x) {
        x = xalloc(sizeof *x);
        struct ivf_scratch none;
        size_t bytes = lay_scratch(ivf, &none, NULL);
        x->heap = alloc_try_aligned(64, bytes);
        if (!x->heap) {
            FAIL(st, ST_NO_MEMORY, "no memory for %zu bytes of a search", bytes);
        }
        lay_scratch(ivf, x, x->heap);
        atomic_fetch_add_explicit(&mutable->scratch_bytes, bytes, memory_order_relaxed);
    }
    if (!x->up || x->up_k != up_k) {
        topk_free(TAKE(x->up));
        TRY(topk_new(IVF_TILE, up_k, false, NULL, &x->up, st));
        x->up_k = up_k;
    }
    *ret_x = TAKE(x);
out:
    ivf_scratch_free(x);
    return rc;
}

static void give_scratch(const struct ivf *ivf, struct ivf_scratch *x)
{
    struct ivf *mutable = (struct ivf *)(uintptr_t)ivf;
    if (x && !scratch_give(&mutable->scratch, x)) {
        ivf_scratch_free(x);
    }
}

/* ---- One tile of queries ---- */

struct tile {
    struct ivf_scan scan;
    uint32_t nprobe, max_lists; /* lists of a query: at first, at most */
    double want_seen;           /* allowed rows */
    bool range;
    uint32_t n; /* queries */
};

/* Where fewer of the rows near the query are allowed than everywhere, its neighbours lie farther
 * out than lists by number tell: more is looked at. */
static double wanted(const struct tile *t, const struct ivf_state *s)
{
    double expect = t->scan.pass * (double)s->scanned, got = MAX((double)s->seen, 1.0);
    double farther = MIN(expect / got, FARTHER_MOST);
    return t->want_seen * MAX(farther, 1.0);
}

static bool enough(const struct tile *t, struct ivf_state *s, uint32_t probed)
{
    if (probed >= t->max_lists) {
        return true;
    }
    if (probed < t->nprobe) {
        return false;
    }
    if (t->range) {
        bool low_open = t->scan.tk->lists[s->query].low_key == -INFINITY;
        return (s->any_hit || low_open) &&
               s->empty >= MAX(t->scan.q->params->max_empty_result_buckets, 1u);
    }
    s->want_seen = s->want_seen < 0 ? wanted(t, s) : s->want_seen;
    return (double)s->seen >= s->want_seen;
}

/* Fills in query i; lists in order. False: scanned raw instead. */
static bool start_query(struct tile *t, uint32_t i, uint32_t query)
{
    const struct ivf *ivf = t->scan.ivf;
    const struct index_rows *rows = &ivf->head.rows;
    const struct index_query *q = t->scan.q;
    struct ivf_state *s = &t->scan.scratch->state[i];
    struct index_rows one = { .metric = rows->metric,
                              .type = rows->type,
                              .dim = rows->dim,
                              .base = (const uint8_t *)q->queries + query * q->query_stride,
                              .stride = q->query_stride,
                              .nrows = 1 };
    s->query = query;
    s->ncand = s->probed = s->hits = s->empty = 0;
    s->any_hit = s->done = false;
    s->seen = s->scanned = 0;
    s->want_seen = -1;
    index_rows_f32(&one, NULL, 0, 1, rows->metric == METRIC_COSINE, s->code.q);
    memcpy(s->coarse.q, s->code.q, rows->dim * sizeof(float));
    if (!ivf_query_prepare(&ivf->codec, &s->code) || !ivf_query_prepare(&ivf->coarse, &s->coarse)) {
        s->done = true;
        return false;
    }
    ivf_order_start(ivf, &s->coarse, t->nprobe, &s->order);
    return true;
}

static int by_list(const void *a, const void *b)
{
    const struct ivf_pair *x = a, *y = b;
    if (x->list != y->list) {
        return x->list < y->list ? -1 : 1;
    }
    return x->state < y->state ? -1 : x->state > y->state;
}

static int scan_pairs(struct tile *t, size_t npairs, struct status *st)
{
    struct ivf_pair *pair = t->scan.scratch->pair;
    const struct index_query *q = t->scan.q;
    int rc = 0;
    if (t->n > 1) {
        qsort(pair, npairs, sizeof *pair, by_list);
    }
    for (size_t p = 0; p < npairs; p++) {
        uint64_t before = t->scan.c->bytes;
        if (p + 1 < npairs) { /* the next list's first lines are on their way */
            const struct ivf *ivf = t->scan.ivf;
            const uint8_t *next =
                ivf->blocks + (size_t)ivf->block_at[pair[p + 1].list] * ivf->codec.lay.block_bytes;
            for (int line = 0; line < NEXT_LINES; line++) {
                __builtin_prefetch(next + line * 64, 0, 2);
            }
        }
        ivf_scan_list(&t->scan, pair[p].state, pair[p].list, pair[p].key);
        t->scan.work += t->scan.c->bytes - before;
        if (t->scan.work > (8u << 20) && q->check) {
            t->scan.work = 0;
            TRY(q->check(q->check_arg, st));
        }
    }
out:
    return rc;
}

/* Pairs of all queries for the lists [from, to) of their orders. */
static size_t gather(struct tile *t, uint32_t from, uint32_t to)
{
    struct ivf_pair *pair = t->scan.scratch->pair;
    size_t n = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        struct ivf_state *s = &t->scan.scratch->state[i];
        if (s->done) {
            continue;
        }
        ivf_order_more(t->scan.ivf, &s->coarse, to, &s->order);
        for (uint32_t l = from; l < MIN(to, s->order.n); l++) {
            pair[n++] = (struct ivf_pair){ ivf_order_list(&s->order, l), i,
                                           ivf_sort_float(s->order.key[l]) };
        }
    }
    return n;
}

/* Past nprobe: one list after another until it is enough. */
static int go_on(struct tile *t, uint32_t i, struct status *st)
{
    struct ivf_state *s = &t->scan.scratch->state[i];
    const struct index_query *q = t->scan.q;
    int rc = 0;
    for (uint32_t l = t->nprobe; !enough(t, s, l); l++) {
        if (l >= s->order.sorted) {
            ivf_order_more(t->scan.ivf, &s->coarse, l + l / 2 + 8, &s->order);
        }
        ivf_scan_list(&t->scan, i, ivf_order_list(&s->order, l), ivf_sort_float(s->order.key[l]));
        if (l % 16 == 0 && q->check) {
            TRY(q->check(q->check_arg, st));
        }
    }
out:
    return rc;
}

static int run_tile(struct tile *t, uint32_t query0, struct status *st)
{
    const struct index_query *q = t->scan.q;
    int rc = 0;
    topk_reset(t->scan.scratch->up, NULL);
    for (uint32_t i = 0; i < t->n; i++) {
        if (!start_query(t, i, query0 + i)) {
            TRY(index__flat(&t->scan.ivf->head, q, query0 + i, 1, t->scan.tk, t->scan.c, st));
        }
    }
    if (t->n > 1) {
        TRY(scan_pairs(t, gather(t, 0, 1), st));
        TRY(scan_pairs(t, gather(t, 1, t->nprobe), st));
    } else {
        TRY(scan_pairs(t, gather(t, 0, t->nprobe), st));
    }
    for (uint32_t i = 0; i < t->n; i++) {
        if (!t->scan.scratch->state[i].done) {
            TRY(go_on(t, i, st));
            ivf_scan_finish(&t->scan, i);
        }
    }
out:
    return rc;
}

/* ---- The search ---- */

/* Whether scoring every allowed row costs less than scanning lists. */
static bool flat_is_cheaper(const struct ivf *ivf, const struct index_query *q, uint32_t nprobe)
{
    const struct index_rows *rows = &ivf->head.rows;
    const struct ivf_layout *lay = &ivf->codec.lay;
    double allowed = q->allow ? q->allow_count : rows->nrows, pass = allowed / rows->nrows;
    double share = (double)nprobe / ivf->nlist / pow(pass, 1 - FILTER_POWER);
    double seen = MIN(share, 1.0) * rows->nrows;
    bool gaps = pass < PREMASK_SHARE;
    double code = NS_CODE_ROW + (gaps ? NS_BIT : 0) +
                  (gaps ? NS_CODE_BYTE_GAPS : NS_CODE_BYTE) *
                      (double)(lay->block_bytes / lay->block_rows);
    double exact = NS_EXACT_ROW + NS_EXACT_BYTE * (double)vec_bytes(rows->type, rows->dim);
    return q->allow && allowed * exact < seen * code;
}

int ivf_search(const struct index *ix, const struct index_query *q, struct topk *tk,
               struct index_counters *c, struct status *st)
{
    const struct ivf *ivf = CONTAINER_OF(ix, const struct ivf, head);
    const struct topk_list *l = &tk->lists[0];
    struct tile t = { .scan = { .ivf = ivf, .q = q, .tk = tk, .c = c } };
    uint32_t up_k = tk->k;
    int rc = 0;
    t.nprobe = MIN(MAX(q->params->nprobe, 1u), ivf->nlist);
    t.max_lists = ivf->nlist;
    /* A list that already holds results of other rows has a bound too: a range shows in how it
     * began, and only then before anything was found. */
    t.range = (l->n == 0 && l->bound_key < INFINITY) || l->low_key > -INFINITY;
    t.scan.radius_key = t.range ? l->bound_key : INFINITY;
    if (q->params->strategy != STRAT_LISTS && !t.range && flat_is_cheaper(ivf, q, t.nprobe)) {
        return index__flat(ix, q, 0, q->nq, tk, c, st);
    }
    t.scan.pass = q->allow ? (double)q->allow_count / ix->rows.nrows : 1;
    t.scan.premask = q->allow && t.scan.pass < PREMASK_SHARE;
    double seen = (double)t.nprobe / ivf->nlist * ix->rows.nrows * pow(t.scan.pass, FILTER_POWER);
    t.want_seen = MIN(seen, t.scan.pass * ix->rows.nrows);
    t.want_seen = q->allow ? MAX(t.want_seen, (double)tk->k) : tk->k;
    if (ix->params.type == INDEX_SCANN && q->params->reorder_k > tk->k && !t.range) {
        t.scan.by_rank = true;
        up_k = MIN(q->params->reorder_k, (uint32_t)INDEX_TOPK_MAX);
    } else if (ix->params.type == INDEX_IVF_RABITQ && q->params->refine_k > 1) {
        up_k = (uint32_t)MIN(ceil(q->params->refine_k * tk->k), (double)INDEX_TOPK_MAX);
    }
    TRY(take_scratch(ivf, up_k, &t.scan.scratch, st));
    c->strategy = STRAT_LISTS;
    for (uint32_t at = 0; at < q->nq; at += IVF_TILE) {
        t.n = MIN(q->nq - at, (uint32_t)IVF_TILE);
        TRY(run_tile(&t, at, st));
    }
out:
    give_scratch(ivf, t.scan.scratch);
    return rc;
}
