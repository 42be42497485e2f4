/*
 * fresh_search.c - searching codes of growing rows.
 *
 * WHAT        Three ways to read codes. Lists: nearest first by the estimate of the query's
 *             distance to their centres, until a part of the rows has been read and most of that
 *             brought nothing. In order, with a bound (from the lists, or the caller's). Both look
 *             at signs (fresh.c), then at the codes that signs cannot rule out, and score what
 *             those cannot. In order, with no bound: pass one estimates every row, keeps each row's
 *             lower bound and the best few estimates; those rows are scored exactly and give a threshold close to the final one;
 *             pass two scores what that cannot rule out. One pass with a moving threshold scores
 *             several times as many rows, for it starts without any.
 *             Lists when there are any and they spare half of the codes, then the rows that are not
 *             in lists yet; otherwise all rows in order.
 * WHY         384 elements, rows and bound of a text set, 30,000 rows, 3.7 GHz: estimates alone 142
 *             us a query, signs first 50 us, lists 41 us at 0.99 of the hits. Signs read 48 bytes a
 *             row; fewer words of them (4 of 6) leave twice as many codes, which cost more.
 * MEMORY      What a search needs is borrowed from the fresh and stays there.
 */
#include "index/scan/fresh_int.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "base/status.h"
#include "index/flat_int.h"
#include "simd/simd.h"

/* Rows scored exactly after pass one, in times k, and the least. */
#define FRESH_FIRST_FACTOR 3u
#define FRESH_FIRST_MIN 32u
/* Rows gathered before they are scored: their reads from memory overlap. */
#define GATHER 32u
#define SIFT 64u
#define PREFETCH_LINES 8u
#define FIRST_BYTES ((size_t)PREFETCH_LINES * CACHE_LINE)
/* Of the distance that a code's bound keeps from its estimate, three standard deviations. */
#define BOUND_SHARE 0.75f
/* Lists: the least part of the rows that is read; how much further than the last hit; and the part
 * of the lists' centres that is looked at, all up to so many. */
#define LISTS_SHARE 3u
#define LISTS_BEYOND 3u

#define LISTS_ALL 1024u
#define LISTS_PART 4u
#define BUCKETS 256u
#define CHECK_ROWS (32 * FRESH_BLOCK)
/* A guide: rows of it looked at; and what following one attached row costs, in rows compared by signs. */
#define NEAR_MAX 1024u
#define NEAR_COST 16u

struct fresh_scratch {
    float *lows; /* lows_n */
    float *keys; /* keys_n, of lists */
    uint32_t *order, *found; /* keys_n */
    uint32_t lows_n, keys_n;
    uint64_t *seen;   /* seen_n bits, 0 between searches */
    uint32_t *around; /* seen_n: rows whose bit is set */
    uint32_t seen_n;
    uint32_t refs[NEAR_MAX];
    uint64_t *signs; /* of the query */
    ALIGNED(64) uint8_t pq[];
};

void fresh__scratch_free(void *scratch)
{
    struct fresh_scratch *own = scratch;
    if (own) {
        mem_free(own->lows);
        mem_free(own->keys);
        mem_free(own->order);
        mem_free(own->found);
        mem_free(own->seen);
        mem_free(own->around);
        mem_free(own->signs);
        mem_free(own);
    }
}

static bool room_for_lows(struct fresh_scratch *own, uint32_t n)
{
    if (own->lows_n < n) {
        mem_free(own->lows);
        n = ROUND_UP(n + n / 4, 16u);
        own->lows = alloc_try_aligned(CACHE_LINE, n * sizeof *own->lows);
        own->lows_n = own->lows ? n : 0;
    }
    return own->lows_n > 0;
}

static bool room_for_lists(struct fresh_scratch *own, uint32_t n)
{
    if (own->keys_n < n) {
        mem_free(own->keys);
        mem_free(own->order);
        mem_free(own->found);
        own->keys = alloc_try(n * sizeof *own->keys);
        own->order = alloc_try(n * sizeof *own->order);
        own->found = alloc_try(n * sizeof *own->found);
        own->keys_n = own->keys && own->order && own->found ? n : 0;
    }
    return own->keys_n >= n;
}

static bool room_for_rows(struct fresh_scratch *own, uint32_t n)
{
    if (own->seen_n < n) {
        mem_free(own->seen);
        mem_free(own->around);
        n = ROUND_UP(n + n / 4, 64u);
        own->seen = alloc_try_zero(n / 8);
        own->around = alloc_try(n * sizeof *own->around);
        own->seen_n = own->seen && own->around ? n : 0;
    }
    return own->seen_n >= n;
}

/* One query's search. */
struct scan {
    const struct fresh *fr;
    const struct fresh_query *q;
    const struct simd_ops *ops;
    struct simd_dist exact;
    struct fresh_scratch *own;
    uint32_t j; /* the query's number */
    const void *query;
    struct topk *best; /* by estimate; NULL until needed */
    uint32_t first;    /* its k */
    struct topk *tk;
    struct topk_list *list; /* of tk */
    struct index_counters *c;
    struct codec_signs signs; /* the query's */
    float zeros;              /* of which so many differ at most */
    uint32_t rows[GATHER], n;         /* to be scored */
    uint32_t sifted[SIFT], nsifted;   /* of which codes are to be looked at */
    uint32_t unchecked;
    bool hit; /* a score was kept */
};

static bool allows(const struct fresh_query *q, uint32_t row)
{
    return !q->allow || bit_get(q->allow, row);
}

static bool any_allowed(const struct fresh_query *q, uint32_t row, uint32_t n)
{
    bool any = !q->allow;
    for (uint32_t w = row / 64; q->allow && w <= (row + n - 1) / 64; w++) {
        any = any || q->allow[w] != 0;
    }
    return any;
}

static int check(struct scan *s, uint32_t n, struct status *st)
{
    s->unchecked += n;
    if (!s->q->check || s->unchecked < CHECK_ROWS) {
        return 0;
    }
    s->unchecked = 0;
    return s->q->check(s->q->check_arg, st);
}

/* ---- Exact scores ---- */

static void row_ahead(const void *row, size_t from, size_t to)
{
    for (size_t b = from; b < to; b += CACHE_LINE) {
        __builtin_prefetch((const uint8_t *)row + b);
    }
}

static void score(struct scan *s)
{
    const size_t dim = s->fr->dim, bytes = vec_bytes(s->fr->type, dim);
    const void *at[GATHER];
    for (uint32_t i = 0; i < s->n; i++) {
        at[i] = s->q->row(s->q->row_arg, s->rows[i]);
        row_ahead(at[i], 0, MIN(bytes, i ? FIRST_BYTES : bytes));
    }
    for (uint32_t i = 0; i < s->n; i++) {
        float v;
        if (i + 1 < s->n) {
            row_ahead(at[i + 1], FIRST_BYTES, bytes);
        }
        s->exact.rows(s->query, at[i], 0, 1, dim, &v);
        float key = topk_key(s->tk, v);
        if (topk_wants(s->list, key, s->rows[i])) {
            topk__insert(s->list, key, s->rows[i]);
            s->hit = true;
        }
    }
    s->c->exact += s->n;
    s->c->bytes += s->n * bytes;
    s->n = 0;
}

static void gather(struct scan *s, uint32_t row)
{
    s->rows[s->n++] = row;
    if (s->n == GATHER) {
        score(s);
    }
}

/* What can be scored at all while there is no bound; INFINITY marks rows that must not be. */
static float bound_of(const struct scan *s)
{
    return MIN(s->list->bound_key, FLT_MAX);
}

/* After codec_*_bound() of n codes: a bound that is no number bounds nothing. */
static void bounded(struct scan *s, uint32_t n, float *lows)
{
    for (uint32_t i = 0; i < n; i++) {
        lows[i] = lows[i] == lows[i] ? MIN(lows[i], FLT_MAX) : -INFINITY;
    }
    s->c->distances += n;
    s->c->bytes += n * s->fr->stride;
}

/* ---- Signs ---- */

static void query_signs(struct scan *s)
{
    codec_query_signs(s->fr->codec, s->own->pq, s->own->signs, &s->signs);
    s->zeros = s->signs.zeros / 2 + 1.5f * sqrtf(s->signs.zeros);
}

/* Signs of rows within spread that may differ from the query's while the rows are of interest. */
static uint64_t limit_of(const struct scan *s, const struct fresh_spread *spread)
{
    const float add = atomic_load_explicit(&spread->add, memory_order_relaxed);
    const float low = atomic_load_explicit(&spread->low, memory_order_relaxed);
    const float high = atomic_load_explicit(&spread->high, memory_order_relaxed);
    const float p = s->signs.len, bound = s->list->bound_key;
    float cosine; /* the least that any of them needs */
    if (add == -INFINITY) {
        return UINT64_MAX;
    }
    if (s->fr->metric == METRIC_L2) { /* |p|^2 + |r|^2 - 2 p.r <= bound, at its easiest length */
        float rest = s->signs.add - bound, len = rest > 0 ? sqrtf(rest) : low;
        len = MIN(MAX(len, low), high);
        cosine = (rest / len + len) / (2 * p);
    } else {
        float need = s->signs.add + add - bound;
        cosine = need / (p * (need > 0 ? high : low));
    }
    float at = (cosine + 1) * (FRESH_ANGLES / 2);
    if (!(at >= 0)) {
        return UINT64_MAX;
    }
    uint32_t i = at < FRESH_ANGLES ? (uint32_t)at : FRESH_ANGLES;
    return s->fr->limits[i] + (uint64_t)(s->fr->eases[i] * s->zeros);
}

/* Codes of the rows that signs did not rule out, a piece at a time. */
static void sift(struct scan *s)
{
    const uint32_t nsifted = s->nsifted;
    float keys[SIFT], lows[SIFT];
    uint32_t ids[SIFT];
    s->nsifted = 0;
    for (uint32_t p = 0, done = 0; done < nsifted; p++) {
        const uint32_t row0 = fresh__piece_row0(p), rows = fresh__piece_rows(p);
        uint32_t n = 0;
        for (uint32_t i = 0; i < nsifted; i++) {
            ids[n] = s->sifted[i] - row0;
            n += ids[n] < rows;
        }
        if (n == 0) {
            continue;
        }
        done += n;
        (void)codec_ids_bound(s->fr->codec, s->own->pq, s->fr->pieces[p], s->fr->stride, ids, n,
                              keys, lows);
        bounded(s, n, lows);
        float bound = bound_of(s);
        for (uint32_t i = 0; i < n; i++) {
            float low = keys[i] + BOUND_SHARE * (lows[i] - keys[i]);
            if (!(low > bound)) { /* a bound that is no number bounds nothing */
                gather(s, row0 + ids[i]);
            }
        }
    }
}

static void sift_later(struct scan *s, uint32_t row)
{
    s->sifted[s->nsifted++] = row;
    __builtin_prefetch(fresh__code(s->fr, row));
    if (s->nsifted == SIFT) {
        sift(s);
    }
}

static void finish(struct scan *s)
{
    sift(s);
    score(s);
}

/* ---- In order, with a bound ---- */

/* What it leaves is for finish(). */
static int scan_bounded(struct scan *s, uint32_t from, struct status *st)
{
    const struct fresh *fr = s->fr;
    uint32_t found[FRESH_BLOCK];
    int rc = 0;
    for (uint32_t row = from / 8 * 8, n; row < s->q->nrows; row += n) {
        uint32_t p = fresh__piece_of(row), at = row - fresh__piece_row0(p);
        n = MIN(fresh__run(row, s->q->nrows - row), FRESH_BLOCK - at % FRESH_BLOCK);
        TRY(check(s, n, st));
        if (!any_allowed(s->q, row, n)) {
            continue;
        }
        uint64_t limit = limit_of(s, &fr->spread[p][at / FRESH_BLOCK]);
        size_t nfound = s->ops->bits_le(s->own->signs, fr->signs[p] + at * fr->words, fr->words, n,
                                        limit, found);
        for (size_t i = 0; i < nfound; i++) {
            if (row + found[i] >= from && allows(s->q, row + found[i])) {
                sift_later(s, row + found[i]);
            }
        }
        s->c->distances += n;
        s->c->bytes += n * fr->words * 8;
    }
out:
    return rc;
}

/* ---- In order, without ---- */

/* Estimates of rows row .. row + n, within one piece. */
static void estimate_block(struct scan *s, uint32_t row, uint32_t n)
{
    float keys[FRESH_BLOCK], *lows = s->own->lows + row;
    uint32_t near[FRESH_BLOCK];
    (void)codec_rows_bound(s->fr->codec, s->own->pq, fresh__code(s->fr, row), s->fr->stride, n,
                           keys, lows);
    bounded(s, n, lows);
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
}

static int estimate_all(struct scan *s, struct status *st)
{
    int rc = 0;
    for (uint32_t row = 0, n; row < s->q->nrows; row += n) {
        n = fresh__run(row, MIN(s->q->nrows - row, FRESH_BLOCK));
        TRY(check(s, n, st));
        if (any_allowed(s->q, row, n)) {
            estimate_block(s, row, n);
        } else {
            for (uint32_t i = 0; i < n; i++) {
                s->own->lows[row + i] = INFINITY;
            }
        }
    }
out:
    return rc;
}

static void score_best(struct scan *s)
{
    topk_finish(s->best);
    for (uint32_t i = 0; i < topk_count(s->best, 0); i++) {
        uint32_t row = (uint32_t)topk_row(s->best, 0, i);
        if (s->own->lows[row] != INFINITY) {
            s->own->lows[row] = INFINITY;
            gather(s, row);
        }
    }
    score(s);
}

static void score_possible(struct scan *s)
{
    uint32_t rows[FRESH_BLOCK];
    for (uint32_t row = 0; row < s->q->nrows; row += FRESH_BLOCK) {
        uint32_t n = MIN(s->q->nrows - row, FRESH_BLOCK);
        size_t found = s->ops->select_le(s->own->lows + row, n, bound_of(s), rows);
        for (size_t i = 0; i < found; i++) {
            gather(s, row + rows[i]);
        }
    }
    score(s);
}

static int scan_unbounded(struct scan *s, struct status *st)
{
    int rc = 0;
    if (!room_for_lows(s->own, s->q->nrows)) {
        FAIL(st, ST_NO_MEMORY, "no memory to search %u growing rows", s->q->nrows);
    }
    if (!s->best) {
        TRY(topk_new(1, s->first, false, NULL, &s->best, st));
    }
    topk_reset(s->best, NULL);
    TRY(estimate_all(s, st));
    score_best(s);
    score_possible(s);
out:
    return rc;
}

/* ---- Lists ---- */

static uint32_t bucket_of(float key, float low, float scale)
{
    float at = (key - low) * scale;
    return at >= 0 && at < (float)BUCKETS ? (uint32_t)at : BUCKETS - 1; /* a NaN: last */
}

/* order[0 .. n): what[i] by keys[i], near first; as exact as the buckets. */
static void order_by_key(const float *keys, const uint32_t *what, uint32_t n, uint32_t *order)
{
    uint32_t start[BUCKETS + 1] = { 0 };
    float low = INFINITY, high = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        low = keys[i] < low ? keys[i] : low;
        high = keys[i] > high ? keys[i] : high;
    }
    float scale = high > low ? (float)(BUCKETS - 1) / (high - low) : 0;
    for (uint32_t i = 0; i < n; i++) {
        start[bucket_of(keys[i], low, scale) + 1]++;
    }
    for (uint32_t b = 0; b < BUCKETS; b++) {
        start[b + 1] += start[b];
    }
    for (uint32_t i = 0; i < n; i++) {
        order[start[bucket_of(keys[i], low, scale)]++] = what[i];
    }
}

/* The numbers of the lists worth looking at, nearest first, into own->order. Returns how many. */
static uint32_t near_lists(struct scan *s, const struct fresh_lists *fl)
{
    const struct codec *codec = s->fr->codec;
    struct fresh_scratch *own = s->own;
    uint32_t ncells = fl->cells.n, want = fl->lists.n, n = 0;
    if (want > LISTS_ALL && !s->q->allow) { /* a filter may exclude all that is near */
        want = MAX(LISTS_ALL, want / LISTS_PART);
        codec_rows(codec, own->pq, fl->cells.codes, s->fr->stride, ncells, own->keys);
        for (uint32_t i = 0; i < ncells; i++) {
            own->order[i] = i;
        }
        order_by_key(own->keys, own->order, ncells, own->found);
    } else {
        for (uint32_t i = 0; i < ncells; i++) {
            own->found[i] = i;
        }
    }
    uint32_t cells[FRESH_CELLS];
    memcpy(cells, own->found, ncells * sizeof *cells);
    for (uint32_t i = 0; i < ncells && n < want; i++) {
        uint32_t from = fl->first[cells[i]], to = fl->first[cells[i] + 1];
        codec_rows(codec, own->pq, fl->lists.codes + from * s->fr->stride, s->fr->stride, to - from,
                   own->keys + n);
        for (; from < to; from++) {
            own->found[n++] = from;
        }
    }
    s->c->distances += ncells + n;
    order_by_key(own->keys, own->found, n, own->order);
    return n;
}

static void prefetch_list(const struct fresh *fr, const struct fresh_list *l)
{
    uint32_t n = atomic_load_explicit(&l->n, memory_order_acquire);
    const uint8_t *p = n ? (const uint8_t *)l->head : NULL;
    size_t bytes = n ? FRESH_CHUNK_SIGNS + MIN(n, FRESH_CHUNK_FIRST) * fr->words * 8 : 0;
    for (size_t b = 0; b < MIN(bytes, (size_t)PREFETCH_LINES * CACHE_LINE); b += CACHE_LINE) {
        __builtin_prefetch(p + b);
    }
}

/* Rows below limit of one list; returns how many it has. */
static uint32_t scan_list(struct scan *s, const struct fresh_list *l, uint32_t limit)
{
    const size_t words = s->fr->words;
    uint32_t n = atomic_load_explicit(&l->n, memory_order_acquire), left = n;
    uint32_t found[FRESH_BLOCK];
    uint64_t most = n ? limit_of(s, &l->spread) : 0;
    for (const struct fresh_chunk *ch = NULL; left > 0;) {
        ch = ch ? ch->next : l->head; /* next is set only where n counts rows of it */
        const uint32_t in = MIN(left, ch->cap);
        for (uint32_t at = 0, part; at < in; at += part) {
            part = MIN(in - at, FRESH_BLOCK);
            size_t nfound = s->ops->bits_le(s->own->signs, fresh__chunk_signs(ch) + at * words,
                                            words, part, most, found);
            for (size_t i = 0; i < nfound; i++) {
                uint32_t row = ch->rows[at + found[i]];
                if (row < limit && allows(s->q, row)) {
                    sift_later(s, row);
                }
            }
        }
        left -= in;
    }
    if (s->list->bound_key == INFINITY) {
        finish(s);
    }
    s->c->distances += n;
    s->c->bytes += n * words * 8;
    return n;
}

/* Codes to read at least, of limit in lists. */
static uint64_t least(const struct scan *s, uint32_t limit)
{
    const struct fresh_query *q = s->q;
    uint64_t n = MAX(limit / LISTS_SHARE, 16 * s->tk->k);
    return q->allow ? n * q->nrows / MAX(q->allow_count, 1u) : n;
}

static int scan_lists(struct scan *s, const struct fresh_lists *fl, uint32_t limit,
                      struct status *st)
{
    uint64_t want = least(s, limit), done = 0, last = 0;
    uint32_t n;
    int rc = 0;
    if (!room_for_lists(s->own, MAX(fl->lists.n, fl->cells.n))) {
        FAIL(st, ST_NO_MEMORY, "no memory to search %u lists", fl->lists.n);
    }
    n = near_lists(s, fl);
    for (uint32_t i = 0; i < n; i++) {
        if (i + 1 < n) {
            prefetch_list(s->fr, &fl->list[s->own->order[i + 1]]);
        }
        uint32_t codes = scan_list(s, &fl->list[s->own->order[i]], limit);
        TRY(check(s, codes, st));
        done += codes;
        s->c->lists++;
        if (s->hit) {
            s->hit = false;
            last = done;
        }
        if (done >= want && done >= LISTS_BEYOND * last && s->list->bound_key < INFINITY) {
            break;
        }
    }
    finish(s);
out:
    return rc;
}

/* ---- What is attached to rows of a guide ---- */

/* NULL: not for this query, or not worth it. Without a bound the rows searched elsewhere were too few,
 * and these are to fill the list, near or not. */
static const struct fresh_guide *guide_for(const struct scan *s)
{
    const struct fresh_guide *g = atomic_load_explicit(&s->fr->guide, memory_order_acquire);
    const struct index_near *near = s->q->near;
    if (!g || !near || s->q->whole || s->list->bound_key == INFINITY ||
        g->id != s->q->near_id || near->counts[s->j] == 0) {
        return NULL;
    }
    return (uint64_t)near->counts[s->j] * FRESH_ATTACH * NEAR_COST < g->nrows ? g : NULL;
}

/* Rows of a cell that were not met before; how many there are now. */
static uint32_t take_cell(struct scan *s, const _Atomic uint32_t *cell, uint32_t words,
                          uint32_t limit, uint32_t n)
{
    for (uint32_t i = 1; i < words; i++) {
        uint32_t row = atomic_load_explicit(&cell[i], memory_order_relaxed);
        if (row >= limit) { /* they ascend */
            break;
        }
        uint64_t *w = &s->own->seen[row >> 6], bit = UINT64_C(1) << (row & 63);
        if (!(*w & bit) && allows(s->q, row)) {
            *w |= bit;
            s->own->around[n++] = row;
        }
    }
    return n;
}

static uint32_t near_count(const struct scan *s, const uint32_t **ret_rows)
{
    *ret_rows = s->q->near->rows + (size_t)s->j * s->q->near->max;
    return MIN(s->q->near->counts[s->j], NEAR_MAX);
}

/* Three reads that wait for memory lie one behind the other: heads, cells, codes. What else a search
 * has to do comes between them. */
static void heads_ahead(const struct scan *s, const struct fresh_guide *g)
{
    const uint32_t *near, n = near_count(s, &near);
    for (uint32_t i = 0; i < n; i++) {
        __builtin_prefetch((const void *)&g->heads[near[i] < g->nrows ? near[i] : 0]);
    }
}

/* The first cells of all lists into own->refs; how many. */
static uint32_t cells_ahead(struct scan *s, const struct fresh_guide *g)
{
    const uint32_t *near, n = near_count(s, &near);
    uint32_t nrefs = 0, words;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t ref = near[i] < g->nrows
                           ? atomic_load_explicit(&g->heads[near[i]], memory_order_acquire) : 0;
        if (ref) {
            __builtin_prefetch((const void *)fresh__guide_cell(g, ref, &words));
            s->own->refs[nrefs++] = ref;
        }
    }
    s->c->lists += n;
    return nrefs;
}

/* All lists a cell at a time: what one list's next cell takes to come, the others fill. */
static uint32_t rows_around(struct scan *s, const struct fresh_guide *g, uint32_t nrefs,
                            uint32_t limit)
{
    uint32_t *refs = s->own->refs, n = 0, words;
    while (nrefs > 0) {
        uint32_t left = 0;
        for (uint32_t i = 0; i < nrefs; i++) {
            const _Atomic uint32_t *cell = fresh__guide_cell(g, refs[i], &words);
            n = take_cell(s, cell, words, limit, n);
            uint32_t next = atomic_load_explicit(&cell[0], memory_order_relaxed);
            if (next) {
                __builtin_prefetch((const void *)fresh__guide_cell(g, next, &words));
                refs[left++] = next;
            }
        }
        nrefs = left;
    }
    return n;
}

/* Rows that are attached, then all others. */
static int scan_guided(struct scan *s, const struct fresh_guide *g, struct status *st)
{
    /* Before the heads: what is below stands in the cells they lead to. */
    const uint32_t limit =
        MIN(atomic_load_explicit(&g->attached, memory_order_acquire), s->q->nrows);
    int rc = 0;
    if (!room_for_rows(s->own, s->q->nrows)) {
        FAIL(st, ST_NO_MEMORY, "no memory to search %u growing rows", s->q->nrows);
    }
    uint32_t nrefs = cells_ahead(s, g);
    query_signs(s);
    TRY(scan_bounded(s, limit, st));
    TRY(check(s, scan_list(s, &g->outside, limit), st));
    uint32_t n = rows_around(s, g, nrefs, limit);
    for (uint32_t i = 0; i < n; i++) {
        s->own->seen[s->own->around[i] >> 6] = 0;
        sift_later(s, s->own->around[i]);
    }
    finish(s);
    TRY(check(s, n, st));
out:
    return rc;
}

/* ---- All of it ---- */

static struct fresh_scratch *borrow(struct fresh *fr)
{
    struct fresh_scratch *own = scratch_take(&fr->scratch);
    if (!own) {
        own = alloc_try_aligned(CACHE_LINE, sizeof *own + fr->pq_stride);
        if (own) {
            memset(own, 0, sizeof *own);
            own->signs = alloc_try(fr->words * sizeof *own->signs);
        }
    }
    if (own && !own->signs) {
        fresh__scratch_free(TAKE(own));
    }
    return own;
}

static int search_one(struct scan *s, struct status *st)
{
    const struct fresh_guide *g = guide_for(s);
    const struct fresh_lists *fl = atomic_load_explicit(&s->fr->lists, memory_order_acquire);
    uint32_t limit = fl ? atomic_load_explicit(&fl->sorted, memory_order_acquire) : 0;
    int rc = 0;
    if (g) {
        heads_ahead(s, g);
    }
    codec_query(s->fr->codec, s->query, s->own->pq);
    if (g) {
        s->c->strategy = STRAT_LISTS;
        return scan_guided(s, g, st);
    }
    query_signs(s);
    limit = MIN(limit, s->q->nrows);
    if (s->q->whole || limit < FRESH_SORT_MIN / 2 || least(s, limit) > limit / 2) {
        limit = 0;
    }
    if (limit) {
        s->c->strategy = STRAT_LISTS;
        TRY(scan_lists(s, fl, limit, st));
    }
    if (limit || s->list->bound_key < INFINITY) {
        TRY(scan_bounded(s, limit, st));
        finish(s);
    } else {
        TRY(scan_unbounded(s, st));
    }
out:
    return rc;
}

int fresh_search(struct fresh *fr, const struct fresh_query *q, struct topk *tk,
                 struct index_counters *c, struct status *st)
{
    struct index_counters none = { 0 };
    const struct simd_ops *ops = simd_ops();
    struct scan s = { .fr = fr, .q = q, .ops = ops, .tk = tk,
                      .exact = flat__dist(ops, fr->metric, fr->type), .c = c ? c : &none };
    int rc = 0;
    s.first = MIN(MAX(tk->k * FRESH_FIRST_FACTOR, FRESH_FIRST_MIN), MAX(q->nrows, 1u));
    s.first = MIN(s.first, (uint32_t)INDEX_TOPK_MAX);
    s.own = borrow(fr);
    if (!s.own) {
        FAIL(st, ST_NO_MEMORY, "no memory to search %u growing rows", q->nrows);
    }
    s.c->strategy = STRAT_SCAN;
    for (s.j = 0; s.j < q->nq; s.j++) {
        s.query = (const uint8_t *)q->queries + s.j * q->query_stride;
        s.list = &tk->lists[s.j];
        TRY(search_one(&s, st));
    }
out:
    topk_free(s.best);
    if (s.own && !scratch_give(&fr->scratch, s.own)) {
        fresh__scratch_free(s.own);
    }
    return rc;
}
