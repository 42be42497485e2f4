/*
 * disk_search.c - recall, reads and speed of a DISKANN index beside what its disk can give.
 *
 *     disk_search [options] INDEX BASE QUERY TRUTH LIST...
 *
 *     INDEX    index file; built when absent       BASE, QUERY  .npy of f32, two dimensions
 *     TRUTH    .ivecs, rows in order of nearness   LIST         search_list; one line each
 *     -n N     first N rows of BASE only           -m METRIC    L2
 *     -p K=V   build parameter                     -s K=V       search parameter
 *     -k K     results (10)                        -q N         queries (1000)
 *     -t N     threads (1)                         -b N         queries a call (1000), whole calls
 *     -S SEC   seconds a line, at least (2)        -D SEC       seconds a depth of the disk's (0.2)
 *
 * One thread opens the file with a descriptor, as the server does: units are read past the page
 * cache, BASE is mapped and rests. Before each line and after the last the disk is measured (see
 * disk_limit.c) over the section the search reads, with reads of the same size. A line's limit is
 * the better of the rates before and after it, divided by the reads a query took. Memory is what
 * index_memory() says, and what the process holds in all.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/pool.h"
#include "base/status.h"
#include "disk_rate.h"
#include "index/diskann/diskann_int.h"

#define THREADS_MAX 64

static struct status st = STATUS_INIT;

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, st.msg);
    exit(1);
}

static const uint8_t *map_file(const char *path, size_t *ret_size, int *ret_fd)
{
    struct stat sb;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &sb) != 0) {
        die(path);
    }
    const uint8_t *p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        die(path);
    }
    *ret_size = (size_t)sb.st_size;
    *ret_fd = fd;
    return p;
}

static const float *map_npy(const char *path, size_t *rows, size_t *cols)
{
    size_t size;
    int fd;
    const uint8_t *p = map_file(path, &size, &fd);
    size_t head = 10 + ((size_t)p[8] | (size_t)p[9] << 8);
    const char *shape = strstr((const char *)p + 10, "'shape': (");
    if (!shape || sscanf(shape, "'shape': (%zu, %zu)", rows, cols) != 2 ||
        size != head + *rows * *cols * 4) {
        die(path);
    }
    return (const float *)(const void *)(p + head);
}

static int file_sink(void *arg, const void *p, size_t n, struct status *s)
{
    return fwrite(p, 1, n, arg) == n ? 0 : st_fail(s, ST_IO, "cannot write");
}

static void build(const char *path, const struct index_rows *rows, const struct index_params *p)
{
    struct pool *pool = pool_new("build", 1, 16);
    FILE *f = fopen(path, "wb");
    struct index_build b = { .rows = rows, .params = p, .pool = pool };
    double t = disk_now();
    if (!f || index_build(&b, file_sink, f, &st) != 0 || fclose(f) != 0) {
        unlink(path);
        die("build");
    }
    printf("built by 2 threads in %.1f s\n", disk_now() - t);
    pool_free(pool);
}

static double resident_mb(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1) {
        pages = 0;
    }
    if (f) {
        fclose(f);
    }
    return (double)pages * (double)sysconf(_SC_PAGESIZE) * 1e-6;
}

struct bench {
    const struct index *ix;
    struct index_search_params search;
    const float *query;
    const int32_t *truth;
    size_t nq, dim, truth_k;
    uint32_t k, batch;
    double seconds;
    _Atomic size_t next;  /* batch; batches are dealt out over and over */
    _Atomic size_t done, hits, reads, exact, distances, hops;
};

static size_t hits_of(const struct bench *x, const struct topk *tk, size_t first, uint32_t n)
{
    size_t hits = 0;
    for (uint32_t j = 0; j < n; j++) {
        const int32_t *truth = x->truth + (first + j) * (x->truth_k + 1) + 1;
        for (uint32_t i = 0; i < topk_count(tk, j); i++) {
            for (uint32_t r = 0; r < x->k; r++) {
                hits += (uint64_t)truth[r] == topk_row(tk, j, i);
            }
        }
    }
    return hits;
}

static void *worker(void *arg)
{
    struct bench *x = arg;
    struct status s = STATUS_INIT;
    struct index_counters c = { 0 };
    struct topk *tk;
    const bool larger = metric_larger_is_better(x->ix->rows.metric);
    const size_t nbatches = x->nq / x->batch;
    size_t done = 0, hits = 0;
    if (topk_new(x->batch, x->k, larger, NULL, &tk, &s) != 0) {
        die("topk");
    }
    for (double start = disk_now();;) {
        const size_t b = atomic_fetch_add(&x->next, 1);
        if (b >= nbatches && disk_now() - start >= x->seconds) {
            break;
        }
        const size_t first = b % nbatches * x->batch;
        const uint32_t n = x->batch;
        struct index_query q = { .queries = x->query + first * x->dim, .query_stride = x->dim * 4,
                                 .nq = n, .params = &x->search };
        topk_reset(tk, NULL);
        if (index_search(x->ix, &q, tk, &c, &s) != 0) {
            fprintf(stderr, "search: %s\n", s.msg);
            exit(1);
        }
        topk_finish(tk);
        done += n;
        hits += hits_of(x, tk, first, n);
    }
    topk_free(tk);
    atomic_fetch_add(&x->done, done);
    atomic_fetch_add(&x->hits, hits);
    atomic_fetch_add(&x->reads, c.reads);
    atomic_fetch_add(&x->exact, c.exact);
    atomic_fetch_add(&x->distances, c.distances);
    atomic_fetch_add(&x->hops, c.hops);
    return NULL;
}

/* Fills the counters; returns searches a second, *ret_cpu seconds of processor time of each. */
static double measure(struct bench *x, unsigned threads, double *ret_cpu)
{
    pthread_t t[THREADS_MAX];
    atomic_store(&x->next, 0);
    atomic_store(&x->done, 0);
    atomic_store(&x->hits, 0);
    atomic_store(&x->reads, 0);
    atomic_store(&x->exact, 0);
    atomic_store(&x->distances, 0);
    atomic_store(&x->hops, 0);
    double start = disk_now(), cpu = disk_cpu();
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&t[i], NULL, worker, x) != 0) {
            die("thread");
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(t[i], NULL);
    }
    const double n = (double)atomic_load(&x->done);
    *ret_cpu = (disk_cpu() - cpu) / n;
    return n / (disk_now() - start);
}

int main(int argc, char **argv)
{
    struct index_params params;
    struct index_rows rows = { .type = VEC_F32, .metric = METRIC_L2 };
    struct bench x = { .k = 10, .batch = 1000, .seconds = 2 };
    size_t nrows, limit = SIZE_MAX, nq = 1000, size;
    double disk_seconds = 0.2;
    unsigned threads = 1, depth = 0;
    bool known;
    int opt, fd;
    index_params_init(&params, INDEX_DISKANN);
    index_search_params_init(&x.search);
    while ((opt = getopt(argc, argv, "n:m:p:s:k:q:t:b:S:D:")) != -1) {
        char *eq = strchr(optarg, '=');
        switch (opt) {
        case 'p':
        case 's':
            if (!eq) {
                die(optarg);
            }
            *eq = 0;
            if (opt == 'p' ? index_params_set(&params, optarg, eq + 1, &known, &st)
                           : index_search_params_set(&x.search, INDEX_DISKANN, optarg, eq + 1,
                                                     &known, &st)) {
                die(optarg);
            }
            break;
        case 'm':
            for (int m = 0; m < METRIC_COUNT; m++) {
                if (strcasecmp(optarg, metric_name((enum metric)m)) == 0) {
                    rows.metric = (enum metric)m;
                }
            }
            break;
        case 'n':
            limit = (size_t)atol(optarg);
            break;
        case 'k':
            x.k = (uint32_t)atoi(optarg);
            break;
        case 'q':
            nq = (size_t)atol(optarg);
            break;
        case 't':
            threads = MIN((unsigned)atoi(optarg), (unsigned)THREADS_MAX);
            break;
        case 'b':
            x.batch = (uint32_t)atoi(optarg);
            break;
        case 'S':
            x.seconds = atof(optarg);
            break;
        case 'D':
            disk_seconds = atof(optarg);
            break;
        default:
            return 2;
        }
    }
    if (argc - optind < 4) {
        fprintf(stderr, "usage: disk_search [options] INDEX BASE QUERY TRUTH LIST...\n");
        return 2;
    }
    char **arg = argv + optind;
    rows.base = map_npy(arg[1], &nrows, &rows.dim);
    rows.stride = rows.dim * sizeof(float);
    rows.nrows = (uint32_t)MIN(nrows, limit);
    x.query = map_npy(arg[2], &x.nq, &x.dim);
    x.nq = MIN(x.nq, nq);
    x.truth = (const int32_t *)(const void *)map_file(arg[3], &size, &fd);
    x.truth_k = (size_t)x.truth[0];
    x.nq = MIN(x.nq, size / ((x.truth_k + 1) * sizeof *x.truth));
    x.batch = (uint32_t)MIN((size_t)x.batch, x.nq);
    if (x.nq == 0 || x.batch == 0 || x.dim != rows.dim || x.truth_k < x.k) {
        die("queries and truth do not fit");
    }
    if (access(arg[0], R_OK) != 0) {
        build(arg[0], &rows, &params);
    }
    struct index_source src = { .trusted = true };
    struct index *ix;
    src.map = map_file(arg[0], &src.size, &src.fd);
    if (index_open(&src, &rows, &ix, &st) != 0) {
        die("open");
    }
    x.ix = ix;
    const struct diskann *d = CONTAINER_OF(ix, struct diskann, head);
    const struct disk_part part = { .path = arg[0],
                                    .at = d->units_at,
                                    .len = (uint64_t)diskann_units(d->meta.n, d->meta.per_unit) *
                                           d->meta.unit,
                                    .read = d->meta.unit };
    const double raw = (double)rows.nrows * (double)rows.stride;
    struct index_memory mem;
    index_memory(ix, &mem);
    printf("rows %.1f MB, in memory %.1f MB (%.4f): codes of %zu bytes, %u hot nodes; a unit is %u "
           "bytes, %u nodes\n", raw * 1e-6, (double)mem.resident * 1e-6, (double)mem.resident / raw,
           (size_t)d->meta.stride, d->meta.nhot, d->meta.unit, d->meta.per_unit);
    struct disk_rate before = disk_rate_best(&part, disk_seconds, &depth), after;
    for (int i = 4; i < argc - optind; i++) {
        double cpu, qps;
        x.search.search_list = (uint32_t)atoi(arg[i]);
        qps = measure(&x, threads, &cpu);
        after = disk_rate_best(&part, disk_seconds, &depth);
        const double n = (double)x.done, reads = (double)x.reads / n;
        const double disk = MAX(before.reads, after.reads);
        printf("list %4s recall %.4f  %7.0f/s  cpu %4.0f us  reads %6.2f  exact %6.1f  codes %7.0f "
               "hops %5.1f  %6.0f reads/s of the disk's %6.0f: %3.0f %%\n", arg[i],
               (double)x.hits / (n * x.k), qps, cpu * 1e6, reads, (double)x.exact / n,
               (double)x.distances / n, (double)x.hops / n, qps * reads, disk,
               qps * reads / disk * 100);
        fflush(stdout);
        before = after;
    }
    index_memory(ix, &mem);
    printf("heap %.2f MB, the process %.1f MB\n", (double)mem.heap * 1e-6, resident_mb());
    index_free(ix);
    return 0;
}
