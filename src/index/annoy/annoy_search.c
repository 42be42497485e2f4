/*
 * annoy_search.c - one walk over all trees of a forest, best branches first.
 *
 * WHAT        A queue holds branches of all trees. A branch's priority is the least margin on the
 *             way to it: how far inside of it, or (negative) outside of it, the query lies at the
 *             split where that is worst. The walk takes the best branches, WIDTH at a time, so that
 *             their normals come from memory together and one kernel call computes their margins;
 *             both children go back into the queue, the far one with minus the margin. Rows of
 *             leaves are gathered until search_k different allowed ones were found. (annoy counts a
 *             row once per tree it was found in; counting it once finds more for the same
 *             search_k.) Their codes are compared with the query while they are gathered, and the
 *             best of them by exact score are the result.
 * QUEUE       Priorities need not be ordered exactly: buckets by their sign, exponent and three
 *             bits of mantissa are chains in one array. Push and pop are a handful of instructions
 *             each, where a heap of the usual few thousand branches takes as long as the distances.
 * FILTERS     Rows that are not allowed do not count towards search_k. Where few are allowed, or
 *             search_k nears their number, scanning them is faster, and exact.
 * RANGES      Of the rows best by code none may be left when the best are to be passed over: with
 *             range_filter every gathered row is scored exactly.
 * MEMORY      Scratch is borrowed from the index and made when none is free: a bit per row, and
 *             the queue, which grows to what the longest search so far needed.
 * SAFETY      Numbers read from the file are checked where they are followed: a child must come
 *             after its parent, so no file can make the walk turn in a circle.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/annoy/annoy_int.h"
#include "simd/simd.h"

#define WIDTH 8       /* branches taken at a time */
#define CHUNK 128     /* rows scored at a time */
#define CHECK_EVERY 64 /* takes between two calls of the check: below a millisecond */
#define BUCKET_BITS 12
#define BUCKETS (1u << BUCKET_BITS)
#define NONE UINT32_MAX

struct branch {
    uint32_t node, next;
    float priority;
};

struct annoy_scratch {
    size_t bytes;
    struct branch *branches; /* all ever pushed by this search */
    uint32_t nbranches, branches_cap;
    uint32_t head[BUCKETS];           /* newest branch of a bucket */
    uint64_t filled[BUCKETS / 64];    /* which buckets have one */
    uint64_t filled_words;            /* which words of filled have one */
    uint64_t *seen;                   /* rows met */
    uint32_t *touched, touched_max;   /* rows met, in order, up to where clearing all is faster */
    int8_t *q8;
    void *prepared; /* the codec's query */
    float *wide;
    struct topk *pool; /* best by code */
    uint32_t chunk[CHUNK], pick[CHUNK];
    float keys[CHUNK];
};

static inline uint32_t bucket_of(float priority)
{
    uint32_t b;
    memcpy(&b, &priority, sizeof b);
    b ^= (uint32_t)((int32_t)b >> 31) | UINT32_C(0x80000000);
    return b >> (32 - BUCKET_BITS);
}

static inline void push(struct annoy_scratch *s, uint32_t node, float priority)
{
    uint32_t b = bucket_of(priority), i = s->nbranches++;
    s->branches[i] = (struct branch){ node, s->head[b], priority };
    s->head[b] = i;
    bit_set(s->filled, b);
    s->filled_words |= UINT64_C(1) << (b >> 6);
}

/* A branch of the best bucket. There must be one. */
static inline struct branch pop(struct annoy_scratch *s)
{
    uint32_t word = 63 - (uint32_t)__builtin_clzll(s->filled_words);
    uint32_t b = word * 64 + 63 - (uint32_t)__builtin_clzll(s->filled[word]);
    struct branch top = s->branches[s->head[b]];
    s->head[b] = top.next;
    if (top.next == NONE) {
        bit_clear(s->filled, b);
        s->filled_words &= ~((uint64_t)(s->filled[word] == 0) << word);
    }
    return top;
}

static void queue_clear(struct annoy_scratch *s)
{
    while (s->filled_words) {
        uint32_t word = (uint32_t)__builtin_ctzll(s->filled_words);
        for (; s->filled[word]; s->filled[word] &= s->filled[word] - 1) {
            s->head[word * 64 + (uint32_t)__builtin_ctzll(s->filled[word])] = NONE;
        }
        s->filled_words &= s->filled_words - 1;
    }
    s->nbranches = 0;
}

/* ---- Scratch ---- */

void annoy__scratch_free(struct annoy_scratch *s)
{
    if (s) {
        mem_free(s->branches);
        mem_free(s->seen);
        mem_free(s->touched);
        mem_free(s->q8);
        mem_free(s->prepared);
        mem_free(s->wide);
        topk_free(s->pool);
        mem_free(s);
    }
}

static int scratch_new(struct annoy *a, struct annoy_scratch **ret, struct status *st)
{
    const size_t words = bits_words(a->head.rows.nrows), dim = a->head.rows.dim;
    struct annoy_scratch *s = alloc_try_zero(sizeof *s);
    int rc = 0;
    if (s) {
        s->touched_max = (uint32_t)(words / 4);
        s->branches_cap = 4096 + a->ntrees;
        s->branches = alloc_try(s->branches_cap * sizeof *s->branches);
        s->seen = alloc_try_zero(words * 8 + 8);
        s->touched = alloc_try(s->touched_max * sizeof *s->touched + 4);
        s->q8 = alloc_try_aligned(CACHE_LINE, ROUND_UP(dim, (size_t)CACHE_LINE));
        s->prepared = alloc_try_aligned(CACHE_LINE, ROUND_UP(codec_query_bytes(a->codec), 64));
        s->wide = alloc_try(dim * sizeof *s->wide);
    }
    if (!s || !s->branches || !s->seen || !s->touched || !s->q8 || !s->prepared || !s->wide) {
        annoy__scratch_free(s);
        FAIL(st, ST_NO_MEMORY, "no memory for a search of %u rows", a->head.rows.nrows);
    }
    memset(s->head, 0xff, sizeof s->head);
    s->bytes = sizeof *s + s->branches_cap * sizeof *s->branches + words * 9 + dim * 5 +
               codec_query_bytes(a->codec);
    atomic_fetch_add_explicit(&a->scratch_bytes, s->bytes, memory_order_relaxed);
    *ret = s;
out:
    return rc;
}

static int reserve_branches(struct annoy *a, struct annoy_scratch *s, uint32_t more,
                            struct status *st)
{
    if (s->nbranches + more > s->branches_cap) {
        uint32_t cap = s->branches_cap * 2 + more;
        struct branch *p = realloc_try(s->branches, cap * sizeof *p);
        if (!p) {
            return st_fail(st, ST_NO_MEMORY, "no memory for %u branches", cap);
        }
        size_t grown = (cap - s->branches_cap) * sizeof *p;
        s->branches = p;
        s->branches_cap = cap;
        s->bytes += grown;
        atomic_fetch_add_explicit(&a->scratch_bytes, grown, memory_order_relaxed);
    }
    return 0;
}

static int reserve_pool(struct annoy_scratch *s, uint32_t k, struct status *st)
{
    int rc = 0;
    if (s->pool && s->pool->k == k) {
        topk_reset(s->pool, NULL);
        return 0;
    }
    topk_free(TAKE(s->pool));
    TRY(topk_new(1, k, false, NULL, &s->pool, st));
out:
    return rc;
}

/* ---- The walk ---- */

struct walk {
    struct annoy *a;
    const struct index_query *q;
    struct annoy_scratch *s;
    struct topk *tk;
    struct index_counters *c;
    uint32_t j;    /* query */
    bool exact;    /* no codes */
    uint64_t want; /* rows still to find */
    uint32_t nchunk, found; /* found: rows met, scored or not */
    float q_scale;
    const struct simd_ops *ops;
    const uint32_t *places; /* the trees section as u32 */
};

static void score_chunk(struct walk *w)
{
    struct annoy_scratch *s = w->s;
    const size_t n = w->nchunk;
    w->nchunk = 0;
    if (w->exact) {
        index__rerank(&w->a->head, w->q, w->j, s->chunk, n, w->tk, w->c);
        return;
    }
    const size_t stride = codec_stride(w->a->codec);
    codec_ids(w->a->codec, s->prepared, w->a->codes, stride, s->chunk, n, s->keys);
    size_t picked = w->ops->select_le(s->keys, n, topk_bound(s->pool, 0), s->pick);
    for (size_t i = 0; i < picked; i++) {
        topk_push(s->pool, 0, s->keys[s->pick[i]], s->chunk[s->pick[i]]);
    }
    w->c->distances += n;
    w->c->bytes += n * stride;
}

static void gather_leaf(struct walk *w, const struct annoy_node *leaf)
{
    struct annoy_scratch *s = w->s;
    const uint32_t nrows = w->a->head.rows.nrows;
    const uint64_t *allow = w->q->allow;
    const size_t places = w->a->trees_size / sizeof(uint32_t), stride = codec_stride(w->a->codec);
    const uint32_t n = leaf->at < places ? (uint32_t)MIN(leaf->count, places - leaf->at) : 0;
    const uint32_t *rows = w->places + leaf->at;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t row = rows[i];
        if (row >= nrows || (allow && !bit_get(allow, row)) || bit_get(s->seen, row)) {
            continue;
        }
        bit_set(s->seen, row);
        if (w->found < s->touched_max) {
            s->touched[w->found] = row;
        }
        w->found++;
        if (!w->exact) {
            __builtin_prefetch(w->a->codes + row * stride);
        }
        s->chunk[w->nchunk++] = row;
        if (w->nchunk == CHUNK) {
            score_chunk(w);
        }
    }
    w->c->bytes += n * sizeof *rows;
}

/* The best WIDTH branches: splits give their children back, leaves their rows. */
static void step(struct walk *w)
{
    struct annoy *a = w->a;
    struct annoy_scratch *s = w->s;
    const size_t dim = a->head.rows.dim, stride = annoy_stride(dim);
    const size_t normals = a->trees_size / stride;
    struct branch splits[WIDTH];
    uint32_t at[WIDTH], leaves[WIDTH], nsplits = 0, nleaves = 0;
    float dot[WIDTH];
    for (int i = 0; i < WIDTH && s->filled_words; i++) {
        const struct branch b = pop(s);
        const struct annoy_node *n = &a->nodes[b.node];
        if (n->child == 0) {
            __builtin_prefetch(w->places + MIN(n->at, a->trees_size / 4 - 1));
            leaves[nleaves++] = b.node;
        } else if (n->child > b.node && n->child < a->nnodes - 1 && n->at < normals) {
            const uint8_t *normal = a->trees + n->at * stride;
            for (size_t k = 0; k < dim; k += CACHE_LINE) {
                __builtin_prefetch(normal + k);
            }
            at[nsplits] = n->at;
            splits[nsplits++] = b;
        }
    }
    for (uint32_t i = 0; i < nleaves; i++) {
        gather_leaf(w, &a->nodes[leaves[i]]);
    }
    w->ops->ip[SIMD_I8].ids(s->q8, a->trees, stride, at, nsplits, dim, dot);
    for (uint32_t i = 0; i < nsplits; i++) {
        const struct annoy_node *n = &a->nodes[splits[i].node];
        const float margin = dot[i] * (n->scale * w->q_scale) + n->bias, p = splits[i].priority;
        const bool halved = n->scale == 0;
        __builtin_prefetch(&a->nodes[n->child]);
        push(s, n->child, halved ? p : fminf(p, -margin));
        push(s, n->child + 1, halved ? p : fminf(p, margin));
    }
    w->c->hops += nsplits + nleaves;
    w->c->bytes += nsplits * dim;
}

/* The query as int8, about the rows' middle. */
static void narrow(struct walk *w, const void *query)
{
    struct annoy *a = w->a;
    float *x = w->s->wide, top = 0;
    const size_t dim = a->head.rows.dim;
    w->ops->widen[a->head.rows.type](query, 0, 1, dim, x);
    for (size_t k = 0; k < dim; k++) {
        x[k] -= a->middle ? a->middle[k] : 0;
        top = fmaxf(top, fabsf(x[k]));
    }
    w->q_scale = isfinite(top) ? top / 127 : 0;
    const float inv = w->q_scale > 0 ? 1 / w->q_scale : 0;
    for (size_t k = 0; k < dim; k++) {
        float v = x[k] * inv;
        w->s->q8[k] = fabsf(v) <= 127 ? (int8_t)lrintf(v) : 0; /* a NaN is 0 */
    }
}

static int walk_forest(struct walk *w, struct status *st)
{
    struct annoy *a = w->a;
    struct annoy_scratch *s = w->s;
    uint32_t steps = 0;
    int rc = 0;
    for (uint32_t t = 0; t < a->ntrees; t++) {
        if (a->roots[t] < a->nnodes) {
            push(s, a->roots[t], INFINITY);
        }
    }
    while (w->found < w->want && s->filled_words) {
        TRY(reserve_branches(a, s, 2 * WIDTH, st));
        step(w);
        if (++steps % CHECK_EVERY == 0 && w->q->check) {
            TRY(w->q->check(w->q->check_arg, st));
        }
    }
    score_chunk(w);
out:
    queue_clear(s);
    if (w->found <= s->touched_max) {
        for (uint32_t i = 0; i < w->found; i++) {
            s->seen[s->touched[i] >> 6] = 0;
        }
    } else {
        memset(s->seen, 0, bits_words(a->head.rows.nrows) * 8);
    }
    return rc;
}

/* Rows kept by code, to be scored exactly. SQ8 puts hardly any of the true k behind k others. */
static uint32_t pool_size(uint32_t k)
{
    return k + k / 4 + 8;
}

static int search_one(struct walk *w, struct status *st)
{
    struct annoy_scratch *s = w->s;
    const void *query = (const uint8_t *)w->q->queries + w->j * w->q->query_stride;
    int rc = 0;
    w->nchunk = w->found = 0;
    narrow(w, query);
    if (!w->exact) {
        TRY(reserve_pool(s, pool_size(w->tk->k), st));
        codec_query(w->a->codec, query, s->prepared);
    }
    TRY(walk_forest(w, st));
    if (!w->exact) {
        topk_finish(s->pool);
        for (uint32_t i = 0, n = topk_count(s->pool, 0); i < n; i += CHUNK) {
            uint32_t part = MIN(n - i, (uint32_t)CHUNK);
            for (uint32_t k = 0; k < part; k++) {
                s->chunk[k] = (uint32_t)topk_row(s->pool, 0, i + k);
            }
            index__rerank(&w->a->head, w->q, w->j, s->chunk, part, w->tk, w->c);
        }
    }
    w->c->strategy = STRAT_TREES;
out:
    return rc;
}

static uint64_t rows_wanted(const struct annoy *a, const struct index_query *q, uint32_t k)
{
    const int64_t search_k = q->params->search_k;
    return search_k < 0 ? (uint64_t)a->ntrees * k : MAX((uint64_t)search_k, (uint64_t)k);
}

/* Whether scanning the allowed rows takes less time than finding `want` of them, in nanoseconds as
 * measured (README.md). */
static bool scan_is_faster(const struct annoy *a, const struct index_query *q, uint64_t rows,
                           uint64_t want)
{
    const double all = a->head.rows.nrows, bytes = (double)vec_bytes(a->head.rows.type,
                                                                     a->head.rows.dim);
    const double n = (double)rows, w = (double)want;
    const double row = q->allow && n < all / 4 ? 6 + bytes / 12 : 2 + bytes / 25;
    const double found = 25 + bytes / 16, met = q->allow ? 4 : 0;
    return w >= n || n * row < w * (found + met * all / n) + 100.0 * a->ntrees;
}

int annoy__search(const struct index *ix, const struct index_query *q, struct topk *tk,
                  struct index_counters *c, struct status *st)
{
    struct annoy *a = CONTAINER_OF((struct index *)(uintptr_t)ix, struct annoy, head);
    const uint64_t rows = q->allow ? q->allow_count : ix->rows.nrows;
    const uint64_t want = rows_wanted(a, q, tk->k);
    struct annoy_scratch *s = NULL;
    int rc = 0;
    if (q->params->strategy != STRAT_TREES && scan_is_faster(a, q, rows, want)) {
        return index__flat(ix, q, 0, q->nq, tk, c, st);
    }
    s = scratch_take(&a->scratch);
    if (!s) {
        TRY(scratch_new(a, &s, st));
    }
    struct walk w = { .a = a,
                      .q = q,
                      .s = s,
                      .tk = tk,
                      .c = c,
                      .want = want,
                      .ops = simd_ops(),
                      .places = (const uint32_t *)(const void *)a->trees };
    for (; w.j < q->nq; w.j++) {
        w.exact = tk->lists[w.j].low_key != -INFINITY || pool_size(tk->k) > INDEX_TOPK_MAX;
        TRY(search_one(&w, st));
    }
out:
    if (s && !scratch_give(&a->scratch, s)) {
        atomic_fetch_sub_explicit(&a->scratch_bytes, s->bytes, memory_order_relaxed);
        annoy__scratch_free(s);
    }
    return rc;
}
