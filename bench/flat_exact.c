/*
 * flat_exact.c - the index type FLAT against the plain scan: same answers, less time.
 *
 *     flat_exact check [QUERIES [SEED]]        random shapes; exit 1 at the first difference
 *     flat_exact time [ROWS DIM]               uniform random rows
 *     flat_exact time BASE.fvecs QUERY.fvecs   rows of a file
 *     flat_exact sizes                         small row counts and dimensions: where codes pay
 *
 * check compares every (row, score) of every list bit for bit with flat_search, over metrics,
 * types, dimensions, distributions (with ties, copies, zeros, wild lengths, NaN), k, filters,
 * ranges and batch sizes. Times are CPU time of one thread, the best of several rounds.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "base/status.h"
#include "index/ann.h"
#include "index/flat.h"
#include "index/topk.h"

static uint64_t rng_state = 88172645463325252u;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static double unit(void)
{
    return (double)(rng() >> 11) * 0x1p-53;
}

static double normal(void)
{
    return sqrt(-2 * log(unit() + 1e-300)) * cos(6.283185307179586 * unit());
}

static double cpu_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void die(const char *what, const struct status *st)
{
    fprintf(stderr, "%s: %s\n", what, st->msg);
    exit(2);
}

/* ---- An index in memory ---- */

struct mem {
    uint8_t *p;
    size_t len, cap;
};

static int mem_sink(void *arg, const void *p, size_t n, struct status *st)
{
    struct mem *m = arg;
    if (m->len + n > m->cap) {
        size_t cap = (m->len + n) * 2;
        uint8_t *q = alloc_try_aligned(4096, cap);
        if (!q) {
            return st_fail(st, ST_NO_MEMORY, "no memory");
        }
        if (m->len) {
            memcpy(q, m->p, m->len);
        }
        mem_free(m->p);
        m->p = q;
        m->cap = cap;
    }
    memcpy(m->p + m->len, p, n);
    m->len += n;
    return 0;
}

static struct index *make_index(const struct index_rows *rows, struct mem *m)
{
    struct index_params params;
    struct status st = STATUS_INIT;
    struct index *ix = NULL;
    memset(m, 0, sizeof *m);
    index_params_init(&params, INDEX_FLAT);
    struct index_build b = { .rows = rows, .params = &params };
    if (index_build(&b, mem_sink, m, &st) != 0) {
        die("build", &st);
    }
    struct index_source src = { .map = m->p, .size = m->len, .fd = -1 };
    if (index_open(&src, rows, &ix, &st) != 0) {
        die("open", &st);
    }
    return ix;
}

static void run_plain(const struct index_rows *r, const struct index_query *q, struct topk *tk)
{
    struct status st = STATUS_INIT;
    struct flat_rows rows = { .metric = r->metric, .type = r->type, .dim = r->dim, .base = r->base,
                              .stride = r->stride, .nrows = r->nrows, .row_base = q->row_base,
                              .allow = q->allow };
    struct flat_query fq = { .queries = q->queries, .query_stride = q->query_stride, .nq = q->nq };
    if (flat_search(&rows, &fq, tk, &st) != 0) {
        die("flat_search", &st);
    }
}

static void run_index(const struct index *ix, const struct index_query *q, struct topk *tk,
                      struct index_counters *c)
{
    struct status st = STATUS_INIT;
    if (index_search(ix, q, tk, c, &st) != 0) {
        die("index_search", &st);
    }
}

static struct topk *lists(const struct index_rows *r, uint32_t nq, uint32_t k,
                          const struct topk_range *range)
{
    struct status st = STATUS_INIT;
    struct topk *tk = NULL;
    if (topk_new(nq, k, metric_larger_is_better(r->metric), range, &tk, &st) != 0) {
        die("topk", &st);
    }
    return tk;
}

/* ---- check ---- */

enum shape { UNIFORM, NORMAL, CLUSTERS, GRID, SKEWED, WILD, TINY, NSHAPES };

static void put(enum vec_type type, uint8_t *p, size_t j, double v)
{
    float f = (float)v;
    uint32_t b;
    memcpy(&b, &f, 4);
    if (type == VEC_F32) {
        memcpy(p + 4 * j, &f, 4);
    } else if (type == VEC_BF16) {
        uint16_t h = (uint16_t)(b >> 16);
        memcpy(p + 2 * j, &h, 2);
    } else {
        _Float16 h = (_Float16)v;
        memcpy(p + 2 * j, &h, 2);
    }
}

struct world {
    struct index_rows rows;
    uint8_t *base, *queries;
    size_t bytes, nqueries;
};

static void fill(struct world *w, enum shape shape, uint8_t *p, const double *centers)
{
    double len = shape == WILD ? exp(normal() * (rng() % 8 == 0 ? 5 : 1)) : 1;
    const double *c = centers + rng() % 16 * w->rows.dim;
    bool zero = shape == WILD && rng() % 500 == 0;
    for (size_t j = 0; j < w->rows.dim; j++) {
        double v = 0;
        switch (shape) {
        case UNIFORM:
            v = unit();
            break;
        case NORMAL:
            v = normal();
            break;
        case CLUSTERS:
            v = c[j] + 0.1 * normal();
            break;
        case GRID:
            v = (double)(rng() % 4) - 1;
            break;
        case SKEWED:
            v = normal() * exp(-(double)j / 8) + (j % 7 == 0 ? 30 : 0);
            break;
        case WILD:
            v = normal() * len;
            break;
        default:
            v = normal() * (w->rows.type == VEC_F16 ? 1e-6 : 1e-24);
            break;
        }
        put(w->rows.type, p, j, zero ? 0 : v);
    }
    if (shape == WILD && rng() % 700 == 0) {
        put(w->rows.type, p, rng() % w->rows.dim, rng() & 1 ? (double)NAN : (double)INFINITY);
    }
}

static void world_new(struct world *w, size_t nqueries)
{
    static const size_t dims[] = { 16, 17, 20, 24, 32, 50, 64, 96, 100, 128, 200, 384 };
    enum shape shape = (enum shape)(rng() % NSHAPES);
    memset(w, 0, sizeof *w);
    w->rows.metric = (enum metric)(rng() % 3);
    w->rows.type = rng() % 2 ? VEC_F32 : rng() % 2 ? VEC_F16 : VEC_BF16;
    w->rows.dim = dims[rng() % (sizeof dims / sizeof dims[0])];
    w->rows.nrows = (uint32_t)(4096 + rng() % 16384);
    w->bytes = vec_bytes(w->rows.type, w->rows.dim);
    w->rows.stride = w->bytes + rng() % 2 * 5;
    w->base = malloc(w->rows.nrows * w->rows.stride);
    w->nqueries = nqueries;
    w->queries = malloc(nqueries * w->rows.stride);
    double *centers = malloc(16 * w->rows.dim * sizeof(double));
    for (size_t i = 0; i < 16 * w->rows.dim; i++) {
        centers[i] = normal();
    }
    for (size_t i = 0; i < w->rows.nrows; i++) {
        uint8_t *p = w->base + i * w->rows.stride;
        fill(w, shape, p, centers);
        if (i && rng() % 16 == 0) { /* copies: ties */
            memcpy(p, w->base + rng() % i * w->rows.stride, w->bytes);
        }
    }
    for (size_t i = 0; i < nqueries; i++) {
        uint8_t *p = w->queries + i * w->rows.stride;
        fill(w, shape, p, centers);
        if (rng() % 4 == 0) {
            memcpy(p, w->base + rng() % w->rows.nrows * w->rows.stride, w->bytes);
        }
    }
    w->rows.base = w->base;
    free(centers);
}

static bool same(const struct topk *a, const struct topk *b)
{
    for (uint32_t j = 0; j < a->nq; j++) {
        if (topk_count(a, j) != topk_count(b, j)) {
            return false;
        }
        for (uint32_t i = 0; i < topk_count(a, j); i++) {
            float x = topk_score(a, j, i), y = topk_score(b, j, i);
            if (topk_row(a, j, i) != topk_row(b, j, i) || memcmp(&x, &y, 4) != 0) {
                return false;
            }
        }
    }
    return true;
}

/* Bounds of a range that some rows are in: scores of two rows. */
static void draw_range(const struct world *w, const uint8_t *query, struct topk_range *ret)
{
    struct index_query q = { .queries = query, .query_stride = w->rows.stride, .nq = 1 };
    struct topk *tk = lists(&w->rows, 1, 500, NULL);
    run_plain(&w->rows, &q, tk);
    topk_finish(tk);
    uint32_t n = topk_count(tk, 0);
    *ret = (struct topk_range){ 0 };
    if (n) {
        ret->has_radius = true;
        ret->radius = topk_score(tk, 0, (uint32_t)(rng() % n));
        ret->has_range_filter = rng() & 1;
        ret->range_filter = topk_score(tk, 0, (uint32_t)(rng() % n));
    }
    topk_free(tk);
}

static uint64_t *draw_allow(const struct world *w, uint32_t *ret_count)
{
    size_t nwords = bits_words(w->rows.nrows) + 1;
    uint64_t *allow = calloc(nwords, 8);
    unsigned in_1000 = (unsigned[]){ 900, 500, 100, 20, 2 }[rng() % 5];
    bool runs = rng() & 1;
    for (size_t i = 0; i < w->rows.nrows; i++) {
        if (runs ? i / 300 % 10 * 100 < in_1000 : rng() % 1000 < in_1000) {
            bit_set(allow, i);
        }
    }
    *ret_count = (uint32_t)bits_count(allow, w->rows.nrows);
    return allow;
}

static size_t check_world(size_t want, struct index_counters *c, size_t *pairs)
{
    static const uint32_t ks[] = { 1, 2, 10, 32, 33, 100, 500 };
    struct world w;
    struct mem m;
    size_t done = 0;
    world_new(&w, 64);
    struct index *ix = make_index(&w.rows, &m);
    while (done < want) {
        uint32_t nq = rng() % 3 ? 1 : (uint32_t)(1 + rng() % 64), k = ks[rng() % 7], count = 0;
        size_t first = rng() % (w.nqueries - nq + 1);
        uint64_t *allow = rng() % 3 ? NULL : draw_allow(&w, &count);
        const uint8_t *queries = w.queries + first * w.rows.stride;
        struct topk_range range = { 0 };
        struct index_search_params sp;
        index_search_params_init(&sp);
        sp.strategy = rng() % 4 ? STRAT_SCAN : STRAT_AUTO;
        if (rng() % 4 == 0) {
            draw_range(&w, queries, &range);
        }
        struct index_query q = { .queries = queries, .query_stride = w.rows.stride, .nq = nq,
                                 .allow = allow, .allow_count = count, .row_base = rng() % 1000,
                                 .params = &sp };
        struct topk *a = lists(&w.rows, nq, k, &range), *b = lists(&w.rows, nq, k, &range);
        run_plain(&w.rows, &q, a);
        run_index(ix, &q, b, c);
        topk_finish(a);
        topk_finish(b);
        if (!same(a, b)) {
            printf("DIFFERENT: metric %s type %d dim %zu rows %u nq %u k %u filter %d range %d\n",
                   metric_name(w.rows.metric), w.rows.type, w.rows.dim, w.rows.nrows, nq, k,
                   allow != NULL, range.has_radius);
            exit(1);
        }
        topk_free(a);
        topk_free(b);
        free(allow);
        done += nq;
        *pairs += (size_t)nq * w.rows.nrows;
    }
    index_free(ix);
    mem_free(m.p);
    free(w.base);
    free(w.queries);
    return done;
}

static int check(size_t want)
{
    struct index_counters c = { 0 };
    size_t done = 0, pairs = 0, worlds = 0;
    for (; done < want; worlds++) {
        done += check_world(want - done < 500 ? want - done : 500, &c, &pairs);
    }
    printf("%zu queries over %zu indexes, %zu pairs: all equal; %.2f %% of pairs scored exactly\n",
           done, worlds, pairs, 100.0 * (double)c.exact / (double)pairs);
    return 0;
}

/* ---- time ---- */

static float *read_fvecs(const char *path, size_t *ret_n, size_t *ret_dim)
{
    FILE *f = fopen(path, "rb");
    int32_t dim = 0;
    if (!f || fread(&dim, 4, 1, f) != 1 || dim <= 0 || fseek(f, 0, SEEK_END) != 0) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    size_t n = (size_t)ftell(f) / (4 + 4 * (size_t)dim);
    float *v = alloc_try_aligned(4096, n * (size_t)dim * 4);
    rewind(f);
    for (size_t i = 0; v && i < n; i++) {
        if (fread(&dim, 4, 1, f) != 1 ||
            fread(v + i * (size_t)dim, 4, (size_t)dim, f) != (size_t)dim) {
            fprintf(stderr, "%s is short\n", path);
            exit(2);
        }
    }
    fclose(f);
    *ret_n = n;
    *ret_dim = (size_t)dim;
    return v;
}

static float *uniform(size_t n, size_t dim)
{
    float *v = alloc_try_aligned(4096, n * dim * 4);
    for (size_t i = 0; v && i < n * dim; i++) {
        v[i] = (float)unit();
    }
    return v;
}

struct timing {
    double plain, index, batch, exact; /* seconds a query; rows scored a query */
};

static struct timing time_one(const struct index_rows *r, const struct index *ix, const float *qs,
                              size_t nq, uint32_t k, int rounds)
{
    struct timing t = { 1e9, 1e9, 1e9, 0 };
    struct index_search_params sp;
    index_search_params_init(&sp);
    sp.strategy = STRAT_SCAN;
    struct index_counters c = { 0 };
    uint32_t many = (uint32_t)(nq < 100 ? nq : 100);
    struct topk *tk = lists(r, 1, k, NULL), *all = lists(r, many, k, NULL);
    size_t part = many < 20 ? many : 20;
    struct index_query q = { .query_stride = r->dim * 4, .nq = 1, .params = &sp };
    for (int round = 0; round < rounds; round++) {
        double t0 = cpu_now();
        for (size_t i = 0; i < 3; i++) {
            q.queries = qs + (i * 7 + (size_t)round) % nq * r->dim;
            topk_reset(tk, NULL);
            run_plain(r, &q, tk);
        }
        double t1 = cpu_now();
        for (size_t i = 0; i < part; i++) {
            q.queries = qs + (i + (size_t)round * part) % nq * r->dim;
            topk_reset(tk, NULL);
            run_index(ix, &q, tk, &c);
        }
        double t2 = cpu_now();
        struct index_query b = q;
        b.queries = qs;
        b.nq = many;
        topk_reset(all, NULL);
        struct index_counters cb = { 0 };
        run_index(ix, &b, all, &cb);
        double t3 = cpu_now();
        t.plain = fmin(t.plain, (t1 - t0) / 3);
        t.index = fmin(t.index, (t2 - t1) / (double)part);
        t.batch = fmin(t.batch, (t3 - t2) / many);
    }
    t.exact = (double)c.exact / ((double)part * rounds);
    topk_free(tk);
    topk_free(all);
    return t;
}

static int time_set(float *base, size_t n, size_t dim, float *qs, size_t nq)
{
    static const enum metric metrics[] = { METRIC_L2, METRIC_IP, METRIC_COSINE };
    static const uint32_t ks[] = { 1, 10, 100, 1000 };
    printf("%zu rows x %zu, %zu queries\n", n, dim, nq);
    for (int m = 0; m < 3; m++) {
        struct index_rows r = { .metric = metrics[m], .type = VEC_F32, .dim = dim, .base = base,
                                .stride = dim * 4, .nrows = (uint32_t)n };
        struct mem mem;
        double t0 = cpu_now();
        struct index *ix = make_index(&r, &mem);
        printf("%-6s build %.2f s, %.1f MB\n", metric_name(metrics[m]), cpu_now() - t0,
               (double)mem.len * 1e-6);
        for (int k = 0; k < 4; k++) {
            struct timing t = time_one(&r, ix, qs, nq, ks[k], 12);
            printf("  k %4u: plain %8.1f us  FLAT %8.1f us (%5.1fx, %7.0f/s)  in a batch %8.1f us; "
                   "%.0f rows scored\n",
                   ks[k], t.plain * 1e6, t.index * 1e6, t.plain / t.index, 1 / t.index,
                   t.batch * 1e6, t.exact);
        }
        index_free(ix);
        mem_free(mem.p);
    }
    return 0;
}

static int sizes(void)
{
    static const size_t ns[] = { 1024, 4096, 16384, 65536 }, dims[] = { 16, 32, 64, 128, 512 };
    for (size_t d = 0; d < 5; d++) {
        for (size_t i = 0; i < 4; i++) {
            float *base = uniform(ns[i], dims[d]), *qs = uniform(100, dims[d]);
            struct index_rows r = { .metric = METRIC_L2, .type = VEC_F32, .dim = dims[d],
                                    .base = base, .stride = dims[d] * 4,
                                    .nrows = (uint32_t)ns[i] };
            struct mem mem;
            struct index *ix = make_index(&r, &mem);
            struct timing t = time_one(&r, ix, qs, 100, 10, 30);
            printf("dim %4zu rows %6zu: plain %8.2f us  FLAT %8.2f us  in a batch %8.2f us; %.0f "
                   "scored\n",
                   dims[d], ns[i], t.plain * 1e6, t.index * 1e6, t.batch * 1e6, t.exact);
            index_free(ix);
            mem_free(mem.p);
            mem_free(base);
            mem_free(qs);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "check") == 0) {
        rng_state ^= argc > 3 ? strtoull(argv[3], NULL, 10) * 0x9e3779b97f4a7c15u : 0;
        return check(argc > 2 ? strtoul(argv[2], NULL, 10) : 100000);
    }
    if (strcmp(what, "sizes") == 0) {
        return sizes();
    }
    if (strcmp(what, "time") == 0) {
        size_t n = 100000, dim = 128, nq = 200, qdim = 128;
        float *base, *qs;
        if (argc > 3 && strtoul(argv[2], NULL, 10) == 0) {
            base = read_fvecs(argv[2], &n, &dim);
            qs = read_fvecs(argv[3], &nq, &qdim);
        } else {
            n = argc > 3 ? strtoul(argv[2], NULL, 10) : n;
            dim = argc > 3 ? strtoul(argv[3], NULL, 10) : dim;
            base = uniform(n, dim);
            qs = uniform(nq, dim);
        }
        return base && qs ? time_set(base, n, dim, qs, nq) : 2;
    }
    fprintf(stderr, "usage: flat_exact check [QUERIES [SEED]] | time [...] | sizes\n");
    return 2;
}
