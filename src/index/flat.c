/*
 * flat.c - exact search, query by query within a block of rows.
 *
 * WHAT        The walk hands out batches of rows. Without a filter, and where nearly all rows of a
 *             batch are allowed, a batch is a run of neighbours and the rows kernel streams over
 *             it; where few are, their numbers are collected over many words of the bitset and the
 *             ids kernel fetches just them; words without a bit cost one load. Scores of a batch
 *             are compared with the list's bound as vectors, and only what passes is pushed.
 *             Several queries share a batch while it is in the second-level cache, so memory is
 *             read once for all of them. From half a dozen queries on, tiles are faster still
 *             (flat_batch.c).
 * INVARIANTS  Whichever way a pair is scored, the score is the one of the kernel of the metric, bit
 *             for bit, so results do not depend on filter density, batching or chunking.
 * THREADS     No state; any thread.
 * MEMORY      One query: the stack only (about 4 KiB).
 */
#include "index/flat.h"

#include <math.h>

#include "base/status.h"
#include "index/flat_int.h"

/* Bytes of rows between two calls of the check: about 0.3 ms of one core's memory stream. */
#define CHECK_BYTES (8u << 20)
/* Fewest queries for which a tile beats one pass per query over a cached block: a tile always
 * works on 16 lanes. */
#define TILE_MIN_NQ 6

struct simd_dist flat__dist(const struct simd_ops *ops, enum metric metric, enum vec_type type)
{
    switch (metric) {
    case METRIC_L2:
        return ops->l2[type];
    case METRIC_IP:
        return ops->ip[type];
    case METRIC_COSINE:
        return ops->cos[type];
    case METRIC_HAMMING:
        return ops->hamming;
    case METRIC_JACCARD:
        return ops->jaccard;
    case METRIC_SUBSTRUCTURE:
        return ops->subset;
    default:
        return ops->superset;
    }
}

/* State of one walk: row numbers collected from sparse words until a batch is full. */
struct walk {
    const struct flat_rows *rows;
    const struct flat_query *query;
    flat_batch_fn *fn;
    void *arg;
    const struct flat_plan *plan;
    size_t row_bytes, work;
    size_t nids;
    uint32_t ids[FLAT_BATCH];
};

static int walk_emit(struct walk *w, const struct flat_batch *b, struct status *st)
{
    w->fn(w->arg, b);
    w->work += b->n * w->row_bytes * w->plan->work_factor;
    if (w->work < CHECK_BYTES || !w->query->check) {
        return 0;
    }
    w->work = 0;
    return w->query->check(w->query->check_arg, st);
}

static int walk_flush_ids(struct walk *w, struct status *st)
{
    struct flat_batch b = { .ids = w->ids, .n = w->nids };
    w->nids = 0;
    return b.n ? walk_emit(w, &b, st) : 0;
}

/* Word i of the filter without the bits past the last row: a chunk's bitset may be a window into a
 * longer one. */
static uint64_t allow_word(const struct flat_rows *rows, size_t i)
{
    uint64_t word = rows->allow[i];
    size_t left = rows->nrows - i * 64;
    return left < 64 ? word & ((UINT64_C(1) << left) - 1) : word;
}

static int walk_sparse(struct walk *w, size_t first, size_t nwords, struct status *st)
{
    int rc = 0;
    for (size_t i = 0; i < nwords; i++) {
        uint64_t word = allow_word(w->rows, first / 64 + i);
        for (; word; word &= word - 1) {
            w->ids[w->nids++] = (uint32_t)(first + i * 64 + (size_t)__builtin_ctzll(word));
            if (w->nids == w->plan->max_rows) {
                TRY(walk_flush_ids(w, st));
            }
        }
    }
out:
    return rc;
}

int flat__walk(const struct flat_rows *rows, const struct flat_query *query,
               const struct flat_plan *plan, flat_batch_fn *fn, void *arg, struct status *st)
{
    int rc = 0;
    struct walk w;
    w.rows = rows;
    w.query = query;
    w.fn = fn;
    w.arg = arg;
    w.plan = plan;
    w.row_bytes = vec_bytes(rows->type, rows->dim);
    w.work = w.nids = 0;
    for (size_t first = 0; first < rows->nrows;) {
        struct flat_batch b = { .first = first, .n = MIN(plan->max_rows, rows->nrows - first) };
        if (rows->allow) {
            size_t nwords = (b.n + 63) / 64, allowed = 0;
            if (allow_word(rows, first / 64) ==
                0) { /* skip empty words one by one: the next batch starts at a bit */
                first += 64;
                continue;
            }
            for (size_t i = 0; i < nwords; i++) {
                allowed += (size_t)__builtin_popcountll(allow_word(rows, first / 64 + i));
            }
            if (allowed * 100 < b.n * plan->dense_percent) {
                TRY(walk_sparse(&w, first, nwords, st));
                first += b.n;
                continue;
            }
            b.allow = allowed == b.n ? NULL : rows->allow;
        }
        TRY(walk_emit(&w, &b, st));
        first += b.n;
    }
    TRY(walk_flush_ids(&w, st));
out:
    return rc;
}

struct stream {
    const struct flat_rows *rows;
    const struct flat_query *query;
    struct topk *tk;
    const struct simd_ops *ops;
    struct simd_dist dist;
    bool zero_only; /* structure metrics: 0 is the only score of a result */
    float score[FLAT_BATCH];
    uint32_t pick[FLAT_BATCH];
};

static void stream_query(struct stream *s, const struct flat_batch *b, uint32_t q)
{
    const struct flat_rows *rows = s->rows;
    const uint8_t *base = rows->base;
    const void *query = (const uint8_t *)s->query->queries + q * s->query->query_stride;
    if (b->ids) {
        s->dist.ids(query, base, rows->stride, b->ids, b->n, rows->dim, s->score);
    } else {
        s->dist.rows(query, base + b->first * rows->stride, rows->stride, b->n, rows->dim,
                     s->score);
    }
    float bound = topk_bound(s->tk, q);
    if (s->zero_only && bound > 0) {
        bound = 0;
    }
    size_t n = s->tk->larger_is_better ? s->ops->select_ge(s->score, b->n, bound, s->pick)
                                       : s->ops->select_le(s->score, b->n, bound, s->pick);
    for (size_t i = 0; i < n; i++) {
        size_t row = b->ids ? b->ids[s->pick[i]] : b->first + s->pick[i];
        if (!b->allow || (b->allow[row >> 6] >> (row & 63) & 1)) {
            topk_push(s->tk, q, s->score[s->pick[i]], rows->row_base + row);
        }
    }
}

static void stream_batch(void *arg, const struct flat_batch *b)
{
    struct stream *s = arg;
    for (uint32_t q = 0; q < s->query->nq; q++) {
        stream_query(s, b, q);
    }
}

static int check_args(const struct flat_rows *rows, const struct flat_query *query,
                      const struct topk *tk, struct status *st)
{
    int rc = 0;
    size_t dim_max = rows->type == VEC_BIN ? INDEX_BIN_DIM_MAX : INDEX_DIM_MAX;
    if (!metric_fits_type(rows->metric, rows->type)) {
        FAIL(st, ST_INVALID, "metric %s does not fit the vector type", metric_name(rows->metric));
    }
    if (rows->dim == 0 || rows->dim > dim_max || (rows->type == VEC_BIN && rows->dim % 8 != 0)) {
        FAIL(st, ST_INVALID, "dimension %zu, must be 1 to %zu%s", rows->dim, dim_max,
             rows->type == VEC_BIN ? " and a multiple of 8" : "");
    }
    if (rows->nrows > UINT32_MAX || rows->stride < vec_bytes(rows->type, rows->dim)) {
        FAIL(st, ST_INVALID, "%zu rows of stride %zu", rows->nrows, rows->stride);
    }
    if (tk->nq != query->nq || tk->larger_is_better != metric_larger_is_better(rows->metric)) {
        FAIL(st, ST_INVALID, "result lists for %u queries, search of %u", tk->nq, query->nq);
    }
out:
    return rc;
}

bool flat__tiles_pay(const struct flat_rows *rows, uint32_t nq)
{
    /* int8 inner products have an instruction of their own that is as fast one query at a time. */
    return nq >= TILE_MIN_NQ && rows->type != VEC_BIN &&
           !(rows->type == VEC_I8 && rows->metric == METRIC_IP);
}

int flat_search(const struct flat_rows *rows, const struct flat_query *query, struct topk *tk,
                struct status *st)
{
    int rc = 0;
    struct stream s;
    TRY(check_args(rows, query, tk, st));
    if (flat__tiles_pay(rows, query->nq)) {
        return flat__search_tiles(rows, query, tk, st);
    }
    s.rows = rows;
    s.query = query;
    s.tk = tk;
    s.ops = simd_ops();
    s.dist = flat__dist(s.ops, rows->metric, rows->type);
    s.zero_only = rows->metric == METRIC_SUBSTRUCTURE || rows->metric == METRIC_SUPERSTRUCTURE;
    /* Streaming over all rows of a batch beats fetching the allowed ones by number until well below
     * half are allowed: a gap saves bytes but breaks the hardware's streams (measured at 512 and
     * 1,536 bytes a row: 12 GB/s by number, 35 streamed). Short rows share lines. */
    size_t row_bytes = vec_bytes(rows->type, rows->dim);
    struct flat_plan plan = { .max_rows = FLAT_BATCH,
                              .work_factor = query->nq,
                              .dense_percent = row_bytes >= 256 ? 40 : 25 };
    if (query->nq > 1) { /* they go over a block that stays in cache: 128 KiB, at least 64 rows */
        size_t fit = (128u << 10) / row_bytes / 64 * 64;
        plan.max_rows = MAX(MIN(fit, (size_t)FLAT_BATCH), (size_t)64);
    }
    TRY(flat__walk(rows, query, &plan, stream_batch, &s, st));
out:
    return rc;
}
