/*
 * graph_bench.c - recall, speed, counters and build time of an index type on a data set.
 *
 *     graph_bench [options] DIR METRIC EF...
 *
 *     DIR      base.npy, query.npy (f32), gt_<metric>.ivecs and gt_<metric>.npy (ids and scores)
 *     -t TYPE  HNSW ...             -p KEY=VALUE  build parameter      -s KEY=VALUE  search parameter
 *     -j N     build threads (2)    -k K          results (10)         -q N          queries used
 *     -f FILE  index file: written when absent, read when there
 *     -b N     queries per call (1) -m            map the file in place instead of copying it
 *     -n N     first N rows only, without ground truth      -r N  rounds (3)
 *     -i       rows are laid in the index's own order first (index/graph/order.h)
 *
 * One thread searches. Seconds are of processor time, the best of the rounds.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/pool.h"
#include "base/status.h"
#include "index/ann.h"
#include "index/graph/order.h"
#include "index/topk.h"
#include "machine.h"

static struct status st = STATUS_INIT;

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, st.msg);
    exit(1);
}

static double wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu_all(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)r.ru_utime.tv_sec + (double)r.ru_utime.tv_usec * 1e-6 +
           (double)r.ru_stime.tv_sec + (double)r.ru_stime.tv_usec * 1e-6;
}

static void *load(const char *dir, const char *name, size_t *size)
{
    char path[4096];
    struct stat sb;
    snprintf(path, sizeof path, "%s%s%s", dir, *dir ? "/" : "", name);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &sb) != 0) {
        return NULL;
    }
    uint8_t *p = machine_alloc((size_t)sb.st_size);
    for (size_t at = 0; at < (size_t)sb.st_size;) {
        ssize_t n = read(fd, p + at, (size_t)sb.st_size - at);
        if (n <= 0) {
            die(path);
        }
        at += (size_t)n;
    }
    close(fd);
    *size = (size_t)sb.st_size;
    return p;
}

/* f32 array of two dimensions. */
static float *load_npy(const char *dir, const char *name, size_t *rows, size_t *cols)
{
    size_t size;
    uint8_t *p = load(dir, name, &size);
    if (!p) {
        return NULL;
    }
    size_t head = 10 + ((size_t)p[8] | (size_t)p[9] << 8);
    const char *shape = strstr((char *)p + 10, "'shape': (");
    if (!shape || sscanf(shape, "'shape': (%zu, %zu)", rows, cols) != 2 ||
        size != head + *rows * *cols * 4) {
        die(name);
    }
    return (float *)(void *)(p + head);
}

static int file_sink(void *arg, const void *p, size_t n, struct status *s)
{
    return fwrite(p, 1, n, arg) == n ? 0 : st_fail(s, ST_IO, "cannot write");
}

static void show_progress(void *arg, double done)
{
    (void)arg;
    if (isatty(2)) {
        fprintf(stderr, "\r%5.1f %%", done * 100);
    }
}

int main(int argc, char **argv)
{
    struct index_params params;
    struct index_search_params search;
    struct index_rows rows = { .type = VEC_F32 };
    const char *file = "/tmp/graph_bench.ix";
    char name[64];
    bool known, in_place = false, in_order = false;
    int threads = 2, rounds = 3, opt;
    uint32_t k = 10, batch = 1;
    size_t nq, dim, gt_rows, gt_k, size, nqueries = 1000000, nrows, limit = 0;
    enum index_type type = INDEX_HNSW;
    index_params_init(&params, type);
    params.M = 16;
    params.ef_construction = 200;
    index_search_params_init(&search);
    while ((opt = getopt(argc, argv, "t:p:s:j:k:q:f:b:mn:r:i")) != -1) {
        char *eq = optarg ? strchr(optarg, '=') : NULL;
        switch (opt) {
        case 't':
            if (!index_type_find(optarg, &type)) {
                die("no such type");
            }
            index_params_init(&params, type);
            params.M = 16;
            params.ef_construction = 200;
            break;
        case 'p':
        case 's':
            *eq = 0;
            if (opt == 'p' ? index_params_set(&params, optarg, eq + 1, &known, &st)
                           : index_search_params_set(&search, type, optarg, eq + 1, &known, &st)) {
                die(optarg);
            }
            break;
        case 'j':
            threads = atoi(optarg);
            break;
        case 'k':
            k = (uint32_t)atoi(optarg);
            break;
        case 'q':
            nqueries = (size_t)atol(optarg);
            break;
        case 'f':
            file = optarg;
            break;
        case 'b':
            batch = (uint32_t)atoi(optarg);
            break;
        case 'r':
            rounds = atoi(optarg);
            break;
        case 'n':
            limit = (size_t)atol(optarg);
            break;
        case 'i':
            in_order = true;
            break;
        default:
            in_place = true;
        }
    }
    const char *dir = argv[optind], *metric = argv[optind + 1];
    for (int m = 0; m < METRIC_COUNT; m++) {
        if (strcasecmp(metric, metric_name((enum metric)m)) == 0) {
            rows.metric = (enum metric)m;
        }
    }
    struct index_order *order = NULL;
    const float *base = load_npy(dir, "base.npy", &nrows, &dim);
    const float *query = load_npy(dir, "query.npy", &nq, &dim);
    rows.base = base;
    rows.dim = dim;
    rows.stride = dim * 4;
    rows.nrows = (uint32_t)(limit && limit < nrows ? limit : nrows);
    nq = nq < nqueries ? nq : nqueries;
    snprintf(name, sizeof name, "gt_%s.npy", metric);
    for (char *c = name; *c; c++) {
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    }
    const float *truth = limit ? NULL : load_npy(dir, name, &gt_rows, &gt_k);

    struct pool *pool = threads > 1 ? pool_new("build", threads - 1, 16) : NULL;
    if (in_order) {
        struct index_build b = { .rows = &rows, .params = &params, .pool = pool };
        double t = wall();
        if (index_order_new(&b, &order, &st) != 0) {
            die("order");
        }
        printf("order of %u rows by %d threads: %.1f s\n", rows.nrows, threads, wall() - t);
        float *to = machine_alloc(rows.nrows * rows.stride);
        for (uint32_t i = 0; i < rows.nrows; i++) {
            memcpy(to + i * dim, base + index_order_rows(order)[i] * dim, rows.stride);
        }
        rows.base = to;
    }
    if (access(file, R_OK) != 0) {
        FILE *f = fopen(file, "wb");
        struct index_build b = { .rows = &rows, .params = &params, .pool = pool,
                                 .progress = show_progress };
        if (order) {
            b.plan = index_order_plan(order, &b.plan_size);
        }
        double t = wall(), c = cpu_all();
        if (!f || index_build(&b, file_sink, f, &st) != 0) {
            unlink(file);
            die("build");
        }
        fclose(f);
        struct rusage r;
        getrusage(RUSAGE_SELF, &r);
        printf("%s built by %d threads: %.1f s, %.1f s of processor time, peak %.0f MB\n",
               index_type_name(params.type), threads, wall() - t, cpu_all() - c,
               (double)r.ru_maxrss / 1024);
    }
    pool_free(pool);
    struct index_source src = { .fd = -1, .trusted = true };
    if (in_place) {
        struct stat sb;
        int fd = open(file, O_RDONLY);
        fstat(fd, &sb);
        size = (size_t)sb.st_size;
        src.map = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    } else {
        src.map = load("", file, &size);
    }
    src.size = size;
    struct index *ix;
    if (index_open(&src, &rows, &ix, &st) != 0) {
        die("open");
    }
    struct index_memory mem;
    index_memory(ix, &mem);
    printf("file %.1f MB, resident %.1f MB, rows %.1f MB\n", (double)mem.mapped * 1e-6,
           (double)mem.resident * 1e-6, (double)rows.nrows * (double)rows.stride * 1e-6);
    struct topk *tk;
    bool larger = metric_larger_is_better(rows.metric);
    batch = MIN(batch, (uint32_t)nq);
    if (topk_new(batch, k, larger, NULL, &tk, &st) != 0) {
        die("topk");
    }
    for (int i = optind + 2; i < argc; i++) {
        double best = 1e9;
        const double n = (double)(nq / batch * batch); /* what does not fill a call is left out */
        size_t hits = 0;
        struct index_counters c = { 0 };
        search.ef = (uint32_t)atoi(argv[i]);
        for (int round = 0; round < rounds; round++) {
            double t = machine_now(), took = 0;
            hits = 0;
            memset(&c, 0, sizeof c);
            for (size_t j = 0; j + batch <= nq; j += batch) {
                struct index_query q = { .queries = query + j * dim, .query_stride = dim * 4,
                                         .nq = batch, .params = &search };
                topk_reset(tk, NULL);
                if (index_search(ix, &q, tk, &c, &st) != 0) {
                    die("search");
                }
                topk_finish(tk);
                if (round == 0 && truth) { /* not timed */
                    double t1 = machine_now();
                    for (uint32_t b = 0; b < batch; b++) {
                        float worst = truth[(j + b) * gt_k + k - 1];
                        for (uint32_t r = 0; r < topk_count(tk, b); r++) {
                            float s = topk_score(tk, b, r);
                            float slack = 1e-6f * (worst < 0 ? -worst : worst);
                            hits += larger ? s >= worst - slack : s <= worst + slack;
                        }
                    }
                    took += machine_now() - t1;
                }
            }
            t = machine_now() - t - took;
            if (round == 0) {
                printf("ef %4s recall %.4f ", argv[i], (double)hits / (n * k));
            }
            best = t < best ? t : best;
        }
        printf("%8.0f QPS %7.1f us  D %7.1f H %6.1f exact %5.1f KB %6.1f fallbacks %g\n", n / best,
               best / n * 1e6, (double)c.distances / n, (double)c.hops / n, (double)c.exact / n,
               (double)c.bytes / n / 1024, (double)c.fallbacks);
        fflush(stdout);
    }
    topk_free(tk);
    index_free(ix);
    index_order_free(order);
    return 0;
}
