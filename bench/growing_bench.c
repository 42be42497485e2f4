/*
 * growing_bench.c - searching growing rows after an index of other rows: time and recall by the way.
 *
 *     growing_bench [options] BASE.npy QUERIES.npy METRIC INDEX-FILE
 *
 *     -g N,N,...  growing rows      -e EF,...  of the index      -k K  results (10)
 *     -m N        most growing rows: the rest of BASE is indexed (INDEX-FILE is written when absent)
 *     -q N        queries (500)     -a EF      of attaching (64)  -l    no lists
 *     -c N        the last N growing rows are a cloud far from all others, and the queries stand in it,
 *                 or half way to it
 *
 * Rows are shuffled. For each number of growing rows and ef: of the growing rows among the true K best
 * how many are found, and the microseconds of the growing rows' part: by signs, in lists, by the guide.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/pool.h"
#include "base/status.h"
#include "index/ann.h"
#include "index/flat.h"
#include "index/scan/fresh.h"
#include "index/topk.h"

static struct status st = STATUS_INIT;

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, st.msg);
    exit(1);
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void *load(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0) {
        return NULL;
    }
    *size = (size_t)ftell(f);
    rewind(f);
    void *p = aligned_alloc(64, (*size + 63) / 64 * 64);
    if (!p || fread(p, 1, *size, f) != *size) {
        die(path);
    }
    fclose(f);
    return p;
}

static float *load_npy(const char *path, size_t *rows, size_t *dim)
{
    size_t size;
    uint8_t *p = load(path, &size);
    const char *shape = p ? strstr((char *)p + 10, "'shape': (") : NULL;
    if (!shape || sscanf(shape, "'shape': (%zu, %zu)", rows, dim) != 2) {
        die(path);
    }
    return (float *)(void *)(p + 10 + ((size_t)p[8] | (size_t)p[9] << 8));
}

static int file_sink(void *arg, const void *p, size_t n, struct status *s)
{
    return fwrite(p, 1, n, arg) == n ? 0 : st_fail(s, ST_IO, "cannot write");
}

static struct index *open_index(const struct index_rows *rows, const char *path)
{
    struct index_source src = { .fd = -1, .trusted = true };
    struct index *ix;
    void *map = load(path, &src.size);
    if (!map) {
        struct index_params p;
        index_params_init(&p, INDEX_HNSW);
        p.M = 16;
        p.ef_construction = 200;
        struct pool *pool = pool_new("build", 2, 0);
        struct index_build b = { .rows = rows, .params = &p, .pool = pool };
        FILE *f = fopen(path, "wb");
        if (!f || index_build(&b, file_sink, f, &st) != 0) {
            die(path);
        }
        fclose(f);
        pool_free(pool);
        map = load(path, &src.size);
    }
    src.map = map;
    if (index_open(&src, rows, &ix, &st) != 0) {
        die("index_open");
    }
    return ix;
}

static const void *row_of(const void *arg, uint32_t row)
{
    return index_row(arg, row);
}

static struct topk *lists_of(uint32_t nq, uint32_t k, enum metric m)
{
    struct topk *tk;
    if (topk_new(nq, k, metric_larger_is_better(m), NULL, &tk, &st) != 0) {
        die("topk");
    }
    return tk;
}

static void flat(const struct index_rows *r, uint32_t n, uint64_t base, const float *queries,
                 uint32_t nq, struct topk *tk)
{
    struct flat_rows rows = { .metric = r->metric, .type = r->type, .dim = r->dim, .base = r->base,
                              .stride = r->stride, .nrows = n, .row_base = base };
    struct flat_query q = { .queries = queries, .query_stride = r->dim * sizeof *queries, .nq = nq };
    if (flat_search(&rows, &q, tk, &st) != 0) {
        die("flat");
    }
}

static struct index_near near_new(uint32_t nq, uint32_t max)
{
    return (struct index_near){ .max = max, .rows = calloc((size_t)nq * max, 4),
                                .counts = calloc(nq, 4), .keys = calloc(nq, sizeof(float)) };
}

static void near_of(struct index *ix, enum metric metric, const void *rows, size_t stride, uint32_t n,
                    uint32_t ef, struct index_near *near)
{
    struct index_search_params p;
    index_search_params_init(&p);
    p.ef = ef;
    memset(near->counts, 0, n * sizeof *near->counts);
    struct index_query q = { .queries = rows, .query_stride = stride, .nq = n, .params = &p,
                             .near = near };
    struct topk *tk = lists_of(n, 1, metric);
    if (index_search(ix, &q, tk, NULL, &st) != 0) {
        die("near");
    }
    topk_free(tk);
}

#define BATCH 64u

static struct fresh *coded(const struct index_rows *g, uint32_t n)
{
    struct index_rows first = *g;
    struct fresh *fr;
    first.nrows = FRESH_MIN_ROWS;
    if (fresh_new(&first, &fr, &st) != 0 || fresh_add(fr, g->base, g->stride, n, &st) != 0) {
        die("codes");
    }
    return fr;
}

static void guide(struct fresh *fr, struct index *ix, const struct index_rows *sealed,
                  const struct index_rows *g, uint32_t n, uint32_t ef)
{
    enum { SAMPLE = 256 };
    struct index_near near = near_new(SAMPLE, FRESH_ATTACH);
    float *sample = malloc(SAMPLE * sealed->stride);
    for (uint32_t i = 0; i < SAMPLE; i++) {
        memcpy((uint8_t *)sample + i * sealed->stride,
               index_row(sealed, (uint64_t)i * sealed->nrows / SAMPLE), sealed->stride);
    }
    near_of(ix, g->metric, sample, sealed->stride, SAMPLE, ef, &near);
    float far = fresh_guide_far(sealed->metric, near.keys, SAMPLE);
    double t = now_us();
    if (fresh_guide_new(fr, 1, sealed->nrows, far, &st) != 0) {
        die("guide");
    }
    for (uint32_t at = 0; at < n; at += BATCH) {
        uint32_t m = n - at < BATCH ? n - at : BATCH;
        near_of(ix, g->metric, index_row(g, at), g->stride, m, ef, &near);
        if (fresh_attach(fr, &near, m, &st) != 0) {
            die("attach");
        }
    }
    printf("%u attached in %.1f us each, %.0f bytes each, far %.3f\n", n, (now_us() - t) / n,
           (double)(fresh_guide_memory(fr) - 4 * (size_t)sealed->nrows) / n, (double)far);
}

struct result {
    double us, recall, distances, exact;
};

/* Growing rows from `base` on in truth: those found by searching each query after the index. */
static struct result measure(struct fresh *fr, const struct index_rows *g, uint32_t n,
                             struct index *ix, uint32_t ef, uint32_t k, const float *queries,
                             uint32_t nq, bool guided, struct topk *truth, uint64_t base,
                             double *ret_index_us, double *ret_sealed)
{
    struct result best = { .us = 1e9 };
    struct index_search_params p;
    struct index_near near = near_new(1, 2 * ef + 16);
    index_search_params_init(&p);
    p.ef = ef;
    for (int round = 0; round < 3; round++) {
        struct result r = { 0 };
        struct index_counters c = { 0 };
        uint32_t hits = 0, found = 0, sealed = 0, sealed_found = 0;
        double index_us = 0;
        for (uint32_t j = 0; j < nq; j++) {
            const float *query = queries + (size_t)j * g->dim;
            struct topk *tk = lists_of(1, k, g->metric), *more = lists_of(1, k, g->metric);
            struct index_query iq = { .queries = query, .query_stride = g->stride, .nq = 1,
                                      .params = &p, .near = guided ? &near : NULL };
            near.counts[0] = 0;
            double t0 = now_us();
            if (index_search(ix, &iq, tk, NULL, &st) != 0) {
                die("search");
            }
            topk_finish(tk);
            double t1 = now_us();
            topk_limit(more, 0, topk_score(tk, 0, k - 1));
            struct fresh_query fq = { .queries = query, .query_stride = g->stride, .nq = 1,
                                      .row = row_of, .row_arg = g, .nrows = n,
                                      .near = guided ? &near : NULL, .near_id = 1 };
            if (fresh_search(fr, &fq, more, &c, &st) != 0) {
                die("fresh");
            }
            double t2 = now_us();
            topk_finish(more);
            index_us += t1 - t0;
            r.us += t2 - t1;
            for (uint32_t i = 0; i < topk_count(truth, j); i++) {
                uint64_t row = topk_row(truth, j, i);
                bool is = row >= base, got = false;
                struct topk *in = is ? more : tk;
                for (uint32_t x = 0; x < topk_count(in, 0); x++) {
                    got = got || topk_row(in, 0, x) == (is ? row - base : row);
                }
                hits += is;
                found += is && got;
                sealed += !is;
                sealed_found += !is && got;
            }
            topk_free(tk);
            topk_free(more);
        }
        r.us /= nq;
        r.recall = hits ? (double)found / hits : 1;
        r.distances = (double)c.distances / nq;
        r.exact = (double)c.exact / nq;
        if (r.us < best.us) {
            best = r;
        }
        *ret_index_us = round ? (*ret_index_us < index_us / nq ? *ret_index_us : index_us / nq)
                              : index_us / nq;
        *ret_sealed = sealed ? (double)sealed_found / sealed : 1;
    }
    return best;
}

static float normal(uint64_t *x)
{
    float sum = -6;
    for (int i = 0; i < 12; i++) {
        *x = *x * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(*x >> 40) / (float)(1u << 24);
    }
    return sum;
}

/* Rows about a point as long as the queries and in no relation to them. */
static void make_cloud(float *rows, uint32_t n, float *queries, uint32_t nq, size_t dim)
{
    float *centre = malloc(dim * sizeof *centre), unit = 0;
    uint64_t x = 7;
    for (size_t d = 0; d < dim; d++) {
        for (uint32_t j = 0; j < nq; j++) {
            unit += queries[j * dim + d] * queries[j * dim + d];
        }
    }
    unit = __builtin_sqrtf(unit / ((float)nq * (float)dim));
    for (size_t d = 0; d < dim; d++) {
        centre[d] = unit * normal(&x);
    }
    for (uint32_t i = 0; i < n; i++) {
        for (size_t d = 0; d < dim; d++) {
            rows[i * dim + d] = centre[d] + unit * 0.4f * normal(&x);
        }
    }
    for (uint32_t j = 0; j < nq; j++) {
        for (size_t d = 0; d < dim; d++) {
            float in = centre[d] + unit * 0.4f * normal(&x);
            queries[j * dim + d] = j % 2 ? in : (in + queries[j * dim + d]) / 2;
        }
    }
    free(centre);
}

static uint32_t numbers(char *text, uint32_t *ret)
{
    uint32_t n = 0;
    for (char *t = strtok(text, ","); t && n < 16; t = strtok(NULL, ",")) {
        ret[n++] = (uint32_t)atol(t);
    }
    return n;
}

int main(int argc, char **argv)
{
    uint32_t growing[16] = { 2000, 10000, 30000 }, efs[16] = { 14, 48 }, ngrowing = 3, nefs = 2;
    uint32_t k = 10, nq = 500, most = 30000, attach_ef = 64, cloud = 0;
    bool lists = true;
    int opt;
    while ((opt = getopt(argc, argv, "g:e:k:m:q:a:lc:")) != -1) {
        switch (opt) {
        case 'g': ngrowing = numbers(optarg, growing); break;
        case 'e': nefs = numbers(optarg, efs); break;
        case 'k': k = (uint32_t)atol(optarg); break;
        case 'm': most = (uint32_t)atol(optarg); break;
        case 'q': nq = (uint32_t)atol(optarg); break;
        case 'a': attach_ef = (uint32_t)atol(optarg); break;
        case 'c': cloud = (uint32_t)atol(optarg); break;
        case 'l': lists = false; break;
        default: return 2;
        }
    }
    if (argc - optind != 4) {
        fprintf(stderr, "usage: see growing_bench.c\n");
        return 2;
    }
    size_t nrows, dim, nqueries, qdim;
    float *base = load_npy(argv[optind], &nrows, &dim);
    float *queries = load_npy(argv[optind + 1], &nqueries, &qdim);
    enum metric metric = METRIC_COUNT;
    for (int m = 0; m < METRIC_COUNT; m++) {
        metric = strcmp(metric_name((enum metric)m), argv[optind + 2]) == 0 ? (enum metric)m
                                                                            : metric;
    }
    if (qdim != dim || metric == METRIC_COUNT || most >= nrows) {
        die("arguments");
    }
    nq = nq < nqueries ? nq : (uint32_t)nqueries;
    uint64_t x = 88172645463325252u;
    float *tmp = malloc(dim * sizeof *tmp);
    for (size_t i = nrows - 1; i > 0; i--) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        size_t j = x % (i + 1);
        memcpy(tmp, base + i * dim, dim * sizeof *tmp);
        memcpy(base + i * dim, base + j * dim, dim * sizeof *tmp);
        memcpy(base + j * dim, tmp, dim * sizeof *tmp);
    }
    if (cloud) {
        make_cloud(base + (most - cloud) * dim, cloud, queries, nq, dim);
    }
    struct index_rows g = { .metric = metric, .type = VEC_F32, .dim = dim, .base = base,
                            .stride = dim * sizeof *base, .nrows = most };
    struct index_rows sealed = g;
    sealed.base = base + most * dim;
    sealed.nrows = (uint32_t)(nrows - most);
    struct index *ix = open_index(&sealed, argv[optind + 3]);
    const uint64_t first = sealed.nrows;
    printf("%u sealed rows\n", sealed.nrows);
    for (uint32_t i = 0; i < ngrowing; i++) {
        uint32_t n = growing[i] < most ? growing[i] : most;
        struct topk *truth = lists_of(nq, k, metric);
        flat(&sealed, sealed.nrows, 0, queries, nq, truth);
        flat(&g, n, first, queries, nq, truth);
        topk_finish(truth);
        struct fresh *fr = coded(&g, n), *sorted = coded(&g, n);
        while (lists && fresh_sort(sorted, row_of, &g, 500)) {
        }
        guide(fr, ix, &sealed, &g, n, attach_ef);
        for (uint32_t e = 0; e < nefs; e++) {
            double us, us2, sealed_recall;
            struct result a = measure(fr, &g, n, ix, efs[e], k, queries, nq, false, truth, first,
                                      &us, &sealed_recall);
            struct result b = measure(sorted, &g, n, ix, efs[e], k, queries, nq, false, truth,
                                      first, &us, &sealed_recall);
            struct result c = measure(fr, &g, n, ix, efs[e], k, queries, nq, true, truth, first,
                                      &us2, &sealed_recall);
            printf("%6u ef %3u: index %.1f us (with near %.1f) recall %.4f | signs %.1f us %.4f | "
                   "lists %.1f us %.4f | guide %.1f us %.4f, %.0f looked at, %.1f exact\n", n,
                   efs[e], us, us2, sealed_recall, a.us, a.recall, b.us, b.recall, c.us, c.recall,
                   c.distances, c.exact);
            fflush(stdout);
        }
        fresh_free(fr);
        fresh_free(sorted);
        topk_free(truth);
    }
    index_free(ix);
    return 0;
}
