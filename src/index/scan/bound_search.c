/*
 * bound_search.c - exact search through 4-bit codes.
 *
 * WHAT        The scan computes for every row a bound on its score, and reports rows that may be
 *             among the best k. Of those, the ones that look better than the k-th best so far are
 *             scored from the raw rows at once, which moves the threshold; the others wait until
 *             all codes are read, and most are then ruled out by the final threshold. The answer
 *             is the one of the plain scan, bit for bit. The first rows give a threshold to start
 *             with: of them the k that look best are scored, whatever the others are.
 *             Several queries go over a chunk of codes while it is in the second-level cache.
 *
 * INVARIANTS  Let T be a key that k rows found so far do not exceed, x a row, x^ its code's vector,
 *             r = x - x^, e >= |r|, and u = 2^-24. A row is dropped only if its kernel score is
 *             worse than T, by what follows; equal scores are kept, so ties fall as in the plain
 *             scan.
 *
 *             The query takes part as 8-bit integers w with one scale t: with q' = q step (by
 *             dimension), d = q' - t w, mid any fixed vector near the codes, S = sum w u
 *
 *                 q x^ = q low + q' u = q low + d mid + t S + d (u - mid) = K + t S +- E
 *                 E = |d| max |u - mid|
 *
 *             L2      Vectors about the mean (distances stay). Kernel scores s of x obey
 *                     s >= (1 - m u) |q - x|^2 - tiny, so s <= T implies |q - x|^2 <= T' with
 *                     T' = T / (1 - m u) + tiny. By the triangle inequality |q - x| >= |q - x^| -
 *                     e; the row is dropped if |q - x^|^2 > (sqrt T' + e)^2, which is
 *                         2 t S + (e^2 - |x^|^2) + 2 sqrt(T') e  <  |q|^2 - T' - 2 K - 2 E
 *                     Also |q - x|^2 = |q|^2 + |x|^2 - 2 q x^ - 2 q r >= T' if
 *                         2 t S - |x|^2 + 2 |q| e  <  |q|^2 - T' - 2 K - 2 E
 *                     which is sharper while |q| < sqrt T': a0 and a1 are for these two.
 *             COSINE  The same for vectors of length one, where |q - x|^2 = 2 - 2 cos:
 *                     T' = 2 - 2 T + 2 (2 m + 8) u.
 *             IP      q x = q x^ + (q - b z) r + b z r for the mean z and any b; b = q z / |z|^2
 *                     makes |q - b z| small. The row is dropped if
 *                         t S + b (z r) + |q - b z| e  <  T - m u |q| max |x| - tiny - K - E
 *
 *             Each is  g S + ka a + ke e < cut  with g and ka taken as floats before K and E are
 *             computed, ke rounded up, and cut lowered by 16 u of the summands' sizes (the kernel's
 *             sum, ke e taken off and added again with another ke, a exchanged) and rounded down.
 *             m u etc. are the bounds of simd.h with some room.
 * THREADS     One call per thread; scratch is borrowed from the pool.
 * MEMORY      bound_scratch: 12 bytes for each of WAITING rows, 8 for each of CHUNK_ROWS, dim bytes
 *             for each of QUERIES.
 * WHY         Scoring every reported row at once costs k c log(N / first) exact scores where c rows
 *             pass for each of the k (about 25 for uniform rows, 10 for sentence embeddings);
 *             waiting makes that k log + k c: 300 instead of 715 for 100,000 uniform rows.
 */
#include "index/scan/bound.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/flat_int.h"
#include "simd/simd.h"

#define QUERIES 16u              /* that share a pass over the codes */
#define CHUNK_ROWS 4096u         /* at most, between two looks at the lists */
#define CHUNK_BYTES (384u << 10) /* and of codes, where queries share them */
#define SEED_ROWS 1024u
#define BATCH 256u
#define WAITING (1u << 17) /* rows that wait, of all queries of a pass */
/* Where this part of all rows waits, reading them all is faster. */
#define GIVE_UP_PART 6u

/* Rows that may be results: est is the scan's value without ke e. */
struct waiting {
    uint32_t *rows;
    float *est, *e;
    size_t n, cap;
};

struct bound_query {
    const void *raw;
    int8_t *w;
    double rest;    /* cut without what depends on the threshold */
    double sum_max; /* largest |g S| */
    float g, ka, ke, cut;
    float q_len;    /* L2, COSINE: 2 |q| about the mean, rounded up */
    bool a1;
    float bound_key, seed_key; /* threshold as a key: the one cut stands for; of the first rows */
    uint32_t list;
    size_t nexact, nscanned;
    struct waiting wait;
    bool plain; /* done by the raw rows from here on */
};

struct bound_scratch {
    struct bound_query query[QUERIES];
    uint32_t wait_rows[WAITING];
    float wait_est[WAITING], wait_e[WAITING];
    uint32_t rows[CHUNK_ROWS], ids[BATCH];
    float v[CHUNK_ROWS], score[BATCH];
    double *center; /* dim: the query being prepared, about the mean */
    int8_t *w;      /* QUERIES x padded */
};

struct run {
    const struct bound *bd;
    const struct index *ix;
    const struct index_query *q;
    struct topk *tk;
    struct index_counters *c;
    struct bound_scratch *s;
    simd_ids_fn *exact;
    const struct simd_ops *ops;
    size_t first, n; /* rows of the chunk */
};

void bound_scratch_free(struct bound_scratch *s)
{
    mem_free(s);
}

static struct bound_scratch *scratch_new(size_t dim, size_t padded, _Atomic size_t *bytes)
{
    size_t len = sizeof(struct bound_scratch) + dim * sizeof(double) + QUERIES * padded;
    struct bound_scratch *s = alloc_try_aligned(64, len);
    if (s) {
        s->center = (double *)(void *)(s + 1);
        s->w = (int8_t *)(s->center + dim);
        atomic_fetch_add_explicit(bytes, len, memory_order_relaxed);
    }
    return s;
}

/* ---- The threshold ---- */

/* Where a row's a0 lies. */
static const uint8_t *bound_row_head(const struct bound *bd, size_t row)
{
    return bd->blocks + row / SIMD_BLOCK_ROWS * bd->block_bytes + 4 * (row % SIMD_BLOCK_ROWS);
}

static float lower(double v)
{
    return nextafterf((float)v, -INFINITY);
}

/* From here on the triangle inequality is sharper: rows that wait get its a. */
static void leave_a1(const struct bound *bd, struct bound_query *bq)
{
    struct waiting *w = &bq->wait;
    for (size_t i = 0; i < w->n; i++) {
        float a0, a1;
        memcpy(&a0, bound_row_head(bd, w->rows[i]), 4);
        memcpy(&a1, bound_row_head(bd, w->rows[i]) + 64, 4);
        w->est[i] += a0 - a1;
    }
    bq->a1 = false;
}

/* Sets ke and cut from the list's bound, where that has moved. */
static void set_cut(const struct run *r, struct bound_query *bq)
{
    const struct bound_head *h = r->bd->head;
    const double u = 0x1p-24, m = SIMD_SUM_STEPS(r->ix->rows.dim) + 4;
    const double tiny = (double)r->ix->rows.dim * 0x1p-120;
    float key = fminf(r->tk->lists[bq->list].bound_key, bq->seed_key);
    if (key == bq->bound_key) {
        return;
    }
    bq->bound_key = key;
    if (!(key < INFINITY)) {
        bq->cut = -INFINITY;
        return;
    }
    double t = key, cut = bq->rest;
    if (r->ix->rows.metric == METRIC_IP) {
        cut -= t;
    } else {
        t = r->ix->rows.metric == METRIC_L2 ? t / (1 - m * u) + tiny
                                            : 2 + 2 * t + 2 * (2 * m + 8) * u;
        t = t > 0 ? t : 0;
        cut -= t;
        float ke = nextafterf((float)(2 * sqrt(t)), INFINITY);
        if (bq->a1 && ke < bq->q_len) {
            leave_a1(r->bd, bq);
        }
        bq->ke = bq->a1 ? bq->q_len : ke;
    }
    double slack = bq->sum_max + fabs((double)bq->ka) * h->a_max + (double)bq->ke * h->e_max;
    bq->cut = lower(cut - 16 * u * slack - fabs(cut) * 0x1p-40);
}

/* Widens the query into s->center and returns its squared length, -1 if that is no use. */
static double load_query(const struct run *r, const void *raw)
{
    const size_t dim = r->ix->rows.dim;
    double *q = r->s->center, sum = 0;
    for (size_t at = 0; at < dim; at += BATCH) { /* score is room enough for a part at a time */
        size_t n = MIN(dim - at, (size_t)BATCH);
        size_t elem = vec_bytes(r->ix->rows.type, 1);
        r->ops->widen[r->ix->rows.type]((const uint8_t *)raw + at * elem, 0, 1, n, r->s->score);
        for (size_t j = 0; j < n; j++) {
            q[at + j] = r->s->score[j];
            sum += q[at + j] * q[at + j];
        }
    }
    double low = r->ix->rows.metric == METRIC_COSINE ? 0x1p-99 : 0;
    return sum >= low && sum <= 0x1p100 ? sum : -1;
}

/* Turns the query into integers and computes what its test needs. */
static void prepare(const struct run *r, struct bound_query *bq)
{
    const struct bound *bd = r->bd;
    const enum metric metric = r->ix->rows.metric;
    const size_t dim = r->ix->rows.dim;
    double *q = r->s->center, norm2 = load_query(r, bq->raw), most = 0, qz = 0, zz = 0;
    bq->nexact = bq->nscanned = 0;
    bq->plain = norm2 < 0;
    if (bq->plain) {
        return;
    }
    double scale = metric == METRIC_COSINE ? 1 / sqrt(norm2) : 1;
    for (size_t j = 0; j < dim; j++) {
        if (metric == METRIC_IP) {
            qz += q[j] * (double)bd->mean[j];
            zz += (double)bd->mean[j] * (double)bd->mean[j];
        } else {
            q[j] = q[j] * scale - (double)bd->mean[j];
        }
        most = fmax(most, fabs(q[j] * (double)bd->step[j]));
    }
    float t = most > 0 ? nextafterf((float)(most / 127), INFINITY) : 1, beta = 0;
    if (metric == METRIC_IP && zz > 0) {
        beta = (float)(qz / zz);
    }
    double inv = 1 / (double)t, k = 0, d2 = 0, qq = 0, sum = 0, size = norm2 * scale * scale;
    for (size_t j = 0; j < dim; j++) {
        double step = bd->step[j], low = bd->low[j], mean = bd->mean[j], qs = q[j] * step;
        double at = qs * inv;
        int w = (int)(at < 0 ? at - 0.5 : at + 0.5);
        w = w > 127 ? 127 : w < -127 ? -127 : w;
        double d = qs - (double)t * w, across = metric == METRIC_IP ? q[j] - (double)beta * mean
                                                                     : q[j];
        bq->w[j] = (int8_t)w;
        sum += w < 0 ? -w : w;
        d2 += d * d;
        qq += across * across;
        double at_low = q[j] * (metric == METRIC_IP ? low : low - mean);
        k += at_low + d * (double)bd->mid[j];
        size += fabs(at_low) + 30 * fabs(qs);
    }
    memset(bq->w + dim, 0, bd->head->groups * 8 - dim);
    double err = sqrt(d2) * bd->head->u_max * (1 + 0x1p-20);
    double dust = 0x1p-35 * (qq + size); /* roundings of these sums in double */
    if (metric == METRIC_IP) {
        double m = (SIMD_SUM_STEPS(dim) + 4) * 0x1p-24;
        bq->g = t;
        bq->ka = beta;
        bq->ke = fmaxf(nextafterf((float)sqrt(qq), INFINITY), FLT_MIN);
        bq->rest = -m * sqrt(norm2) * bd->head->norm_max - (double)dim * 0x1p-120 - k - err - dust;
    } else {
        bq->g = 2 * t;
        bq->ka = 1;
        bq->ke = bq->q_len = fmaxf(nextafterf((float)(2 * sqrt(qq)), INFINITY), FLT_MIN);
        bq->rest = qq - 2 * k - 2 * err - dust;
    }
    bq->a1 = metric != METRIC_IP;
    bq->sum_max = (double)bq->g * 15 * sum;
    bq->plain = !(bq->sum_max < 0x1p120) || !isfinite(bq->rest);
    bq->bound_key = NAN; /* set_cut has something to do */
    bq->seed_key = INFINITY;
}

/* ---- Candidates ---- */

/* Exact scores of n rows, pushed. Returns how many of them the list could want, and the worst key
 * of those. */
static size_t score_all(struct run *r, struct bound_query *bq, const uint32_t *rows, size_t n,
                        float *ret_worst)
{
    const struct index_rows *ir = &r->ix->rows;
    const struct topk_list *l = &r->tk->lists[bq->list];
    float *score = r->s->score, worst = -INFINITY;
    size_t wanted = 0;
    for (size_t at = 0; at < n; at += BATCH) {
        size_t part = MIN(n - at, (size_t)BATCH);
        r->exact(bq->raw, ir->base, ir->stride, rows + at, part, ir->dim, score);
        for (size_t i = 0; i < part; i++) {
            float key = topk_key(r->tk, score[i]);
            if (key >= l->low_key) {
                wanted++;
                worst = fmaxf(worst, key);
            }
            topk_push(r->tk, bq->list, score[i], r->q->row_base + rows[at + i]);
        }
    }
    bq->nexact += n;
    *ret_worst = worst;
    return wanted;
}

static void wait_swap(struct waiting *w, size_t i, size_t j)
{
    uint32_t row = w->rows[i];
    float est = w->est[i], e = w->e[i];
    w->rows[i] = w->rows[j];
    w->est[i] = w->est[j];
    w->e[i] = w->e[j];
    w->rows[j] = row;
    w->est[j] = est;
    w->e[j] = e;
}

/* Moves the k with the largest est to the front; NaN counts as anything. 0 < k < n. */
static void wait_select(struct waiting *w, size_t k)
{
    size_t lo = 0, hi = w->n;
    const float *v = w->est;
    while (hi - lo > 1) {
        /* Equal values go to either side, so runs of them do not hurt. */
        float pivot = v[lo + (hi - lo) / 2];
        size_t i = lo, j = hi - 1;
        for (;;) {
            while (v[i] > pivot) {
                i++;
            }
            while (v[j] < pivot) {
                j--;
            }
            if (i >= j) {
                break;
            }
            wait_swap(w, i++, j--);
        }
        size_t cut = i > lo ? i : lo + 1;
        if (cut == k) {
            return;
        }
        if (cut > k) {
            hi = cut;
        } else {
            lo = cut;
        }
    }
}

/* Drops rows from place from on that the threshold rules out by now. */
static void wait_filter(struct bound_query *bq, size_t from)
{
    struct waiting *w = &bq->wait;
    const float ke = bq->ke, cut = bq->cut;
    size_t kept = from;
    for (size_t i = from; i < w->n; i++) {
        w->rows[kept] = w->rows[i];
        w->est[kept] = w->est[i];
        w->e[kept] = w->e[i];
        kept += !(w->est[i] + ke * w->e[i] < cut);
    }
    w->n = kept;
}

/* Scores what waits and can still matter. */
static void wait_finish(struct run *r, struct bound_query *bq)
{
    struct waiting *w = &bq->wait;
    float worst;
    for (size_t at = 0; at < w->n;) {
        size_t part = MIN(w->n - at, (size_t)BATCH);
        score_all(r, bq, w->rows + at, part, &worst);
        at += part;
        set_cut(r, bq);
        wait_filter(bq, at);
    }
    w->n = 0;
}

/* Nothing is known of the list's bound: of what waits, the best-looking k are scored. */
static void seed(struct run *r, struct bound_query *bq)
{
    struct waiting *w = &bq->wait;
    size_t k = MIN(w->n, (size_t)r->tk->k);
    float worst;
    if (k < w->n) {
        wait_select(w, k);
    }
    if (score_all(r, bq, w->rows, k, &worst) >= r->tk->k) {
        bq->seed_key = fminf(bq->seed_key, worst);
    }
    w->n -= k;
    memmove(w->rows, w->rows + k, w->n * sizeof *w->rows);
    memmove(w->est, w->est + k, w->n * sizeof *w->est);
    memmove(w->e, w->e + k, w->n * sizeof *w->e);
    set_cut(r, bq);
    wait_filter(bq, 0);
}

/* Takes in n reported rows of the chunk: those that look good are scored, the others wait. */
static void take_reported(struct run *r, struct bound_query *bq, size_t n, bool all_wait)
{
    const struct bound *bd = r->bd;
    struct bound_scratch *s = r->s;
    struct waiting *w = &bq->wait;
    size_t good = 0;
    float worst;
    for (size_t i = 0; i < n; i++) {
        size_t row = r->first + s->rows[i];
        float e, est;
        memcpy(&e, bound_row_head(bd, row) + SIMD_BLOCK4_E, 4);
        est = s->v[i] - bq->ke * e;
        if (!all_wait && !(est < bq->cut)) {
            s->ids[good++] = (uint32_t)row;
            if (good == BATCH) {
                score_all(r, bq, s->ids, good, &worst);
                set_cut(r, bq);
                good = 0;
            }
            continue;
        }
        w->rows[w->n] = (uint32_t)row;
        w->est[w->n] = est;
        w->e[w->n++] = e;
    }
    if (good) {
        score_all(r, bq, s->ids, good, &worst);
        set_cut(r, bq);
    }
}

/* One chunk for one query. */
static void scan_chunk(struct run *r, struct bound_query *bq)
{
    const struct bound *bd = r->bd;
    struct bound_scratch *s = r->s;
    size_t block = r->first / SIMD_BLOCK_ROWS, n;
    set_cut(r, bq);
    struct simd_block4 b = { .blocks = bd->blocks + block * bd->block_bytes,
                             .nblocks = (r->n + SIMD_BLOCK_ROWS - 1) / SIMD_BLOCK_ROWS,
                             .groups = bd->head->groups,
                             .w = bq->w,
                             .a1 = bq->a1,
                             .g = bq->g,
                             .ka = bq->ka,
                             .ke = bq->ke,
                             .cut = bq->cut };
    b.allow = r->q->allow ? (const uint8_t *)r->q->allow + 2 * block : NULL;
    n = r->ops->scan_block4(&b, s->rows, s->v);
    while (n && s->rows[n - 1] >= r->n) { /* padding of the last block */
        n--;
    }
    bq->nscanned += r->n;
    if (bq->wait.n + n > bq->wait.cap) {
        wait_filter(bq, 0);
        if (bq->wait.n + n > bq->wait.cap) {
            wait_finish(r, bq);
        }
    }
    bool known = bq->bound_key < INFINITY;
    take_reported(r, bq, n, !known);
    if (!known) {
        seed(r, bq);
    }
}

/* More wait than is worth it. */
static bool hopeless(const struct run *r, struct bound_query *bq)
{
    size_t many = r->ix->rows.nrows / GIVE_UP_PART;
    if (bq->wait.n > many) {
        wait_filter(bq, 0);
    }
    return bq->wait.n > many || bq->nexact > many;
}

/* ---- Searches ---- */

static struct topk one_list(const struct run *r, const struct bound_query *bq)
{
    struct topk one = *r->tk;
    one.nq = 1;
    one.lists += bq->list;
    return one;
}

/* The raw rows from the given one on (a multiple of 64). */
static int finish_plain(struct run *r, const struct bound_query *bq, size_t from, struct status *st)
{
    const struct index_rows *ir = &r->ix->rows;
    struct flat_rows rows = { .metric = ir->metric,
                              .type = ir->type,
                              .dim = ir->dim,
                              .base = index_row(ir, from),
                              .stride = ir->stride,
                              .nrows = ir->nrows - from,
                              .row_base = r->q->row_base + from,
                              .allow = r->q->allow ? r->q->allow + from / 64 : NULL };
    struct flat_query fq = { .queries = bq->raw,
                             .query_stride = r->q->query_stride,
                             .nq = 1,
                             .check = r->q->check,
                             .check_arg = r->q->check_arg };
    struct topk one = one_list(r, bq);
    r->c->exact += rows.nrows;
    r->c->bytes += rows.nrows * vec_bytes(ir->type, ir->dim);
    return flat_search(&rows, &fq, &one, st);
}

static int start(struct run *r, uint32_t query0, uint32_t nq, size_t *ret_left, struct status *st)
{
    struct bound_scratch *s = r->s;
    size_t cap = WAITING / nq;
    int rc = 0;
    *ret_left = nq;
    for (uint32_t i = 0; i < nq; i++) {
        struct bound_query *bq = &s->query[i];
        bq->list = query0 + i;
        bq->raw = (const uint8_t *)r->q->queries + (query0 + i) * r->q->query_stride;
        bq->w = s->w + (size_t)i * r->bd->head->groups * 8;
        bq->wait = (struct waiting){ .rows = s->wait_rows + i * cap,
                                     .est = s->wait_est + i * cap,
                                     .e = s->wait_e + i * cap,
                                     .cap = cap };
        prepare(r, bq);
        if (bq->plain) {
            TRY(finish_plain(r, bq, 0, st));
            --*ret_left;
        }
    }
out:
    return rc;
}

static void end(struct run *r, struct bound_query *bq)
{
    struct topk one = one_list(r, bq);
    if (!bq->plain && bq->wait.n) {
        topk_finish(&one); /* a long list moves its bound only now and then */
        set_cut(r, bq);
        wait_filter(bq, 0);
        wait_finish(r, bq);
    }
    r->c->exact += bq->nexact;
    r->c->distances += bq->nscanned;
    r->c->bytes += bq->nscanned * (r->bd->block_bytes / SIMD_BLOCK_ROWS) +
                   bq->nexact * vec_bytes(r->ix->rows.type, r->ix->rows.dim);
}

/* Queries query0 .. + nq over all rows. */
static int pass(struct run *r, uint32_t query0, uint32_t nq, struct status *st)
{
    struct bound_scratch *s = r->s;
    const size_t nrows = r->ix->rows.nrows;
    size_t left, most = CHUNK_ROWS;
    int rc = 0;
    if (nq > 1) {
        size_t fit = CHUNK_BYTES * SIMD_BLOCK_ROWS / r->bd->block_bytes / 64 * 64;
        most = fit < 64 ? 64 : MIN(fit, most);
    }
    TRY(start(r, query0, nq, &left, st));
    for (r->first = 0; r->first < nrows && left; r->first += r->n) {
        r->n = MIN(r->first == 0 && most > SEED_ROWS ? SEED_ROWS : most, nrows - r->first);
        for (uint32_t i = 0; i < nq; i++) {
            struct bound_query *bq = &s->query[i];
            if (bq->plain) {
                continue;
            }
            scan_chunk(r, bq);
            if (hopeless(r, bq) && r->first + r->n < nrows) {
                wait_finish(r, bq);
                bq->plain = true;
                TRY(finish_plain(r, bq, r->first + r->n, st));
                left--;
            }
        }
        if (r->q->check) {
            TRY(r->q->check(r->q->check_arg, st));
        }
    }
    for (uint32_t i = 0; i < nq; i++) {
        end(r, &s->query[i]);
    }
out:
    return rc;
}

int bound_search(const struct bound *bd, const struct index *ix, const struct index_query *q,
                 struct scratch_pool *pool, _Atomic size_t *bytes, struct topk *tk,
                 struct index_counters *c, struct status *st)
{
    const struct simd_ops *ops = simd_ops();
    struct run r = { .bd = bd, .ix = ix, .q = q, .tk = tk, .c = c, .ops = ops };
    int rc = 0;
    r.exact = flat__dist(ops, ix->rows.metric, ix->rows.type).ids;
    r.s = scratch_take(pool);
    if (!r.s && !(r.s = scratch_new(ix->rows.dim, bd->head->groups * 8, bytes))) {
        FAIL(st, ST_NO_MEMORY, "no memory for the scratch of a search");
    }
    c->strategy = STRAT_SCAN;
    for (uint32_t at = 0; at < q->nq; at += QUERIES) {
        TRY(pass(&r, at, MIN(q->nq - at, QUERIES), st));
    }
out:
    if (r.s && !scratch_give(pool, r.s)) {
        bound_scratch_free(r.s);
    }
    return rc;
}

bool bound_faster(const struct bound *bd, const struct index_rows *rows,
                  const struct index_query *q, uint32_t k)
{
    if ((uint64_t)k * 32 > rows->nrows) {
        return false;
    }
    if (!q->allow) {
        return true;
    }
    /* Bytes from memory at the rates measured for each way: codes in blocks that have an allowed
     * row, raw rows one by one or, where many are allowed, all of them. */
    size_t touched = 0, row_bytes = vec_bytes(rows->type, rows->dim);
    for (size_t i = 0; i < bits_words(rows->nrows); i++) {
        uint64_t w = q->allow[i];
        touched += w == 0 ? 0
                          : (size_t)((w & 0xffff) != 0) + ((w >> 16 & 0xffff) != 0) +
                                ((w >> 32 & 0xffff) != 0) + (w >> 48 != 0);
    }
    double codes = (double)touched * (double)bd->block_bytes / 45;
    double by_id = (double)q->allow_count * (double)row_bytes / 12;
    double stream = (double)rows->nrows * (double)row_bytes / 31;
    return codes < MIN(by_id, stream);
}
