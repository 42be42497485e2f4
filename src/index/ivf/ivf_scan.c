/*
 * ivf_scan.c - one list's codes for one query, and the exact scores of what may be a result.
 *
 * WHAT        Chunks of blocks go through the kernel of the codes, their sums through simd_cut, and
 *             rows come out whose lower bound is not above T: an upper bound of the k-th best key,
 *             the lesser of what the result list knows and the k-th smallest of the rows' own upper
 *             bounds. They are only noted. When all lists are done, those still under T are scored
 *             exactly, most promising first, until the next one's bound is above the k-th exact
 *             key. So about as few raw rows are read as could be.
 * INVARIANTS  Which rows are scored depends on the rows seen, not on the order of lists: T only
 *             falls, margins shrink with it, and the last T decides. (Unless candidates overflow;
 *             then some are scored early and T may fall further: results are no worse.)
 */
#include <math.h>

#include "index/ivf/ivf_int.h"

#define CHUNK_ROWS 256 /* a multiple of every block's rows */
#define FIRST_ROWS 64  /* while nothing is known yet */
#define AHEAD_BYTES 1024 /* of each block of a chunk that is scanned with gaps */

static void kernel(const struct ivf_layout *lay, const struct ivf_query_code *qc,
                   const uint8_t *base, size_t nblocks, int32_t *sum)
{
    const struct simd_scan *scan = simd_scan();
    struct simd_blocks b = { base, lay->block_bytes, nblocks, lay->nsteps };
    switch (lay->kernel) {
    case IVF_DOT8:
        scan->dot8(&b, qc->hi, qc->lo, sum);
        break;
    case IVF_LUT4:
        scan->lut4(&b, qc->lut, sum);
        break;
    default:
        scan->lut8(&b, qc->lut, sum);
        break;
    }
}

/* T: no key above it can be a result. Exact kernels round: by L2 that is relative to T, otherwise
 * it is in the margins. */
static float bound_of(const struct ivf_scan *s, uint32_t i)
{
    float t = s->tk->lists[s->scratch->state[i].query].bound_key;
    float up = s->scratch->up->lists[i].bound_key;
    t = up < t ? up : t;
    if (s->ivf->codec.metric == METRIC_L2 && t < INFINITY) {
        t += t * (float)(2 * ((double)s->ivf->codec.dim + 34) * 0x1p-24) + 1e-30f;
    }
    return t;
}

static bool is_allowed(const struct index_query *q, uint32_t row)
{
    return !q->allow || (q->allow[row >> 6] >> (row & 63) & 1);
}

/* Upper and lower bounds of a candidate's key. */
static float upper_of(const struct ivf_query_code *qc, const struct ivf_cand *c)
{
    if (qc->margin == IVF_LINEAR) {
        return c->key + c->err;
    }
    float err2 = qc->minus_err2 ? c->err * c->err : 0, d2 = c->key + err2 + qc->w0;
    d2 = d2 > 0 ? d2 : 0;
    return (d2 + 2 * sqrtf(d2) * c->err + err2) * 1.00001f + 2 * qc->w0;
}

static float lower_of(const struct ivf_query_code *qc, const struct ivf_cand *c, float root)
{
    return qc->margin == IVF_LINEAR ? c->key - c->err : c->key - 2 * root * c->err - qc->w0;
}

/* A candidate that a range's near end may exclude bounds nothing. */
static bool surely_in_range(const struct ivf_query_code *qc, const struct ivf_cand *c, float low)
{
    if (low == -INFINITY) {
        return true;
    }
    if (qc->margin == IVF_LINEAR) {
        return c->key - c->err > low;
    }
    float d2 = c->key + (qc->minus_err2 ? c->err * c->err : 0) - qc->w0;
    float d = d2 > 0 ? sqrtf(d2) - c->err : 0;
    return d > 0 && d * d * 0.9999f > low;
}

static float root_of(float t)
{
    return t < INFINITY && t > 0 ? sqrtf(t) : 0;
}

static void add_cand(const struct ivf_scan *s, uint32_t i, struct ivf_cand cand)
{
    struct ivf_state *state = &s->scratch->state[i];
    struct topk_list *up = &s->scratch->up->lists[i];
    float low = s->tk->lists[state->query].low_key;
    if (state->ncand == IVF_CAND_MAX) {
        ivf_scan_finish(s, i);
    }
    state->cand[state->ncand++] = cand;
    float upper = s->by_rank ? cand.key : upper_of(&state->code, &cand);
    state->hits += cand.key <= s->radius_key && (low == -INFINITY || cand.key >= low);
    if (topk_wants(up, upper, cand.row) && surely_in_range(&state->code, &cand, low)) {
        topk__insert(up, upper, cand.row);
    }
}

/* Terms of the cut for one list at the bound as it is. */
struct margins {
    float w, w0, scale; /* scale: of e, as candidates keep it */
    float dist;         /* of query and centroid, where codes ask for it */
    float err;          /* e of all rows, where they have none of their own */
};

static void set_cut(const struct ivf_scan *s, uint32_t i, struct margins *m, struct simd_cut *cut)
{
    const struct ivf_query_code *qc = &s->scratch->state[i].code;
    float t = bound_of(s, i);
    cut->bound = t;
    if (s->by_rank) {
        cut->w = cut->w0 = 0;
        return;
    }
    float w = qc->margin == IVF_LINEAR ? qc->w * m->dist
                                           : 2 * root_of(t) * qc->w;
    m->scale = qc->margin == IVF_LINEAR ? w : qc->w;
    bool field = s->ivf->codec.lay.err_at != SIMD_NO_FIELD;
    cut->w = field ? w : 0;
    cut->w0 = field ? qc->w0 : qc->w0 + w * m->err;
}

/* n rows from position at: nblocks blocks from base. mask: allowed rows, or NULL. */
static void scan_run(const struct ivf_scan *s, uint32_t i, struct margins *m, struct simd_cut *cut,
                     uint32_t at, size_t n, const uint64_t *mask)
{
    struct ivf_state *state = &s->scratch->state[i];
    const struct ivf_layout *lay = &s->ivf->codec.lay;
    struct simd_cut_hit *hit = s->scratch->hit;
    kernel(lay, &state->code, cut->base, ivf_block_count(lay, n), s->scratch->sum);
    cut->nrows = n;
    set_cut(s, i, m, cut);
    size_t found = simd_scan()->cut(cut, hit);
    for (size_t h = 0; h < found; h++) {
        size_t r = hit[h].row;
        uint32_t row = s->ivf->rows[at + r];
        if (mask ? !(mask[r >> 6] >> (r & 63) & 1) : !is_allowed(s->q, row)) {
            continue;
        }
        struct ivf_cand cand = { hit[h].key, 0, row };
        if (!s->by_rank) {
            float e = m->err;
            if (lay->err_at != SIMD_NO_FIELD) {
                memcpy(&e, cut->base + r / lay->block_rows * lay->block_bytes + lay->err_at +
                               r % lay->block_rows * 4, sizeof e);
            }
            cand.err = e * m->scale + (state->code.margin == IVF_LINEAR ? state->code.w0 : 0);
        }
        add_cand(s, i, cand);
    }
    s->c->distances += n;
    s->c->bytes += ivf_block_count(lay, n) * lay->block_bytes;
}

/* Bits of the allowed rows at positions at .. at + n. Returns their number. */
static size_t mask_of(const struct ivf_scan *s, uint32_t at, size_t n, uint64_t mask[])
{
    size_t count = 0;
    memset(mask, 0, CHUNK_ROWS / 8);
    for (size_t r = 0; r < n; r++) {
        uint64_t bit = is_allowed(s->q, s->ivf->rows[at + r]);
        mask[r >> 6] |= bit << (r & 63);
        count += bit;
    }
    return count;
}

static bool block_empty(const uint64_t *mask, size_t row, size_t block_rows)
{
    uint64_t word = mask[row >> 6] >> (row & 63);
    return (block_rows == 64 ? word : word & 0xffff) == 0;
}

/* A chunk of which few rows are allowed: only blocks with any. */
static void scan_masked(const struct ivf_scan *s, uint32_t i, struct margins *m,
                        struct simd_cut *cut, uint32_t at, size_t n, const uint64_t *mask)
{
    const struct ivf_layout *lay = &s->ivf->codec.lay;
    const uint8_t *base = cut->base;
    size_t rows = lay->block_rows, ahead = MIN(lay->block_bytes, (size_t)AHEAD_BYTES);
    for (size_t r = 0; r < n; r += rows) { /* gaps stop the hardware from fetching ahead */
        for (size_t at_byte = 0; !block_empty(mask, r, rows) && at_byte < ahead; at_byte += 64) {
            __builtin_prefetch(base + r / rows * lay->block_bytes + at_byte, 0, 2);
        }
    }
    for (size_t r = 0; r < n;) {
        size_t end = r;
        while (end < n && !block_empty(mask, end, rows)) {
            end += rows;
        }
        if (end > r) {
            uint64_t part[CHUNK_ROWS / 64 + 1] = { 0 };
            size_t len = MIN(end, n) - r;
            for (size_t k = 0; k < len; k++) { /* the run's own bits, from its first row */
                part[k >> 6] |= (mask[(r + k) >> 6] >> ((r + k) & 63) & 1) << (k & 63);
            }
            cut->base = base + r / rows * lay->block_bytes;
            scan_run(s, i, m, cut, at + (uint32_t)r, len, part);
            r = end;
        } else {
            r += rows;
        }
    }
}

void ivf_scan_list(const struct ivf_scan *s, uint32_t i, uint32_t list, float key)
{
    const struct ivf *ivf = s->ivf;
    const struct ivf_layout *lay = &ivf->codec.lay;
    struct ivf_state *state = &s->scratch->state[i];
    const struct ivf_query_code *qc = &state->code;
    uint32_t at = ivf->start[list], end = ivf->start[list + 1];
    struct margins m = { .dist = 1, .err = ivf->list_err ? ivf->list_err[list] : 0 };
    struct simd_cut cut = { .sums = s->scratch->sum,
                            .block_stride = lay->block_bytes,
                            .block_rows = lay->block_rows,
                            .add_at = lay->add_at,
                            .mul_at = lay->mul_at,
                            .err_at = s->by_rank ? SIMD_NO_FIELD : lay->err_at,
                            .a = qc->a,
                            .b = qc->b,
                            .c = qc->list_key ? qc->c + key : qc->c };
    if (qc->list_scale) {
        float norm2, d2 = key;
        if (ivf->codec.metric != METRIC_L2) {
            simd_ops()->norm2[SIMD_F32].rows(NULL, ivf->centroids + list * ivf->codec.dim, 0, 1,
                                             ivf->codec.dim, &norm2);
            d2 = qc->norm2 + norm2 + 2 * key;
        }
        m.dist = sqrtf(d2 > 0 ? d2 : 0);
    }
    state->hits = 0;
    state->probed++;
    s->c->lists++;
    const uint8_t *base = ivf->blocks + (size_t)ivf->block_at[list] * lay->block_bytes;
    for (size_t n; at < end; at += (uint32_t)n) {
        uint64_t mask[CHUNK_ROWS / 64];
        n = MIN(end - at, bound_of(s, i) < INFINITY ? (uint32_t)CHUNK_ROWS : (uint32_t)FIRST_ROWS);
        cut.base = base;
        base += ivf_block_count(lay, n) * lay->block_bytes;
        if (!s->premask) {
            scan_run(s, i, &m, &cut, at, n, NULL);
            continue;
        }
        size_t allowed = mask_of(s, at, n, mask);
        state->seen += allowed;
        if (allowed) {
            scan_masked(s, i, &m, &cut, at, n, mask);
        }
    }
    if (!s->premask) {
        state->seen += (uint64_t)((double)(end - ivf->start[list]) * s->pass);
    }
    state->scanned += end - ivf->start[list];
    state->any_hit |= state->hits > 0;
    state->empty = state->hits ? 0 : state->empty + 1;
}

void ivf_scan_finish(const struct ivf_scan *s, uint32_t i)
{
    struct ivf_scratch *x = s->scratch;
    struct ivf_state *state = &x->state[i];
    const struct ivf_query_code *qc = &state->code;
    float t = bound_of(s, i), root = root_of(t);
    size_t n = 0, at = 0;
    for (uint32_t c = 0; c < state->ncand; c++) {
        const struct ivf_cand *cand = &state->cand[c];
        float low = s->by_rank ? cand->key : lower_of(qc, cand, root);
        low = t < INFINITY ? low : cand->key;
        if (!(low > t)) { /* what is no number comes first */
            x->sort[n++] = ivf_sort_key(isnan(low) ? -INFINITY : low, c);
        }
    }
    state->ncand = 0;
    ivf_sort(x->sort, n);
    while (at < n) {
        size_t part = MIN(n - at, MAX((size_t)s->tk->k, (size_t)16));
        for (size_t k = 0; k < part; k++) {
            x->pick[k] = state->cand[(uint32_t)x->sort[at + k]].row;
        }
        index__rerank(&s->ivf->head, s->q, state->query, x->pick, part, s->tk, s->c);
        at += part;
        if (at < n && !s->by_rank && ivf_sort_float(x->sort[at]) > bound_of(s, i)) {
            break;
        }
    }
}
