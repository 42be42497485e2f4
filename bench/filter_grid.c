/*
 * filter_grid.c - filtered search of a graph index: recall and time of every strategy, cell by
 * cell.
 *
 *     filter_grid [-c] [-i] [-o] [-p] [-s STRATEGY] [-x LIE:RATE] [-r ROUNDS] [-f FIRST] [-n N]
 *                 BASE.fvecs QUERY.fvecs METRIC [K [EF [INDEX]]]
 *     filter_grid [...] uniform ROWS DIM METRIC [K [EF]]
 *
 * Cells are pass rates times how the filter lies to the query: at random; the query's own
 * neighbourhood (near); everything but the nearest 30 % (far); one run of rows; stripes; all but the
 * nearest 50, which were seen already, at random. A cell
 * prints, for each forced strategy and for the planner (auto), recall@K against exact search and
 * microseconds a query (CPU time, the best of rounds over all queries), the planner's choice, how far
 * it is from the best forced strategy that reaches the recall of an unfiltered search less 0.01, and
 * from that search, which is timed again before each cell. INDEX, a file, keeps the index
 * between runs. -f and -n choose the queries (those from 0 on were used to find the planner's
 * constants: judge it by others), -c takes few pass rates, -x one cell, -s one strategy, -o only the
 * planner; -p gives filters prepared by index_filter_new(), as repeated ones are; -i lays the rows in
 * the index's own order first (graph/order.h), runs and stripes being of the rows as BASE has them.
 */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "base/pool.h"
#include "base/status.h"
#include "index/ann.h"
#include "index/flat.h"
#include "index/graph/order.h"
#include "index/topk.h"
#include "simd/simd.h"

#define QUERIES 100
#define ROUNDS 7
#define SEEN_ROWS 50u /* nearest ones that were shown before */

enum lie { RANDOM, NEAR, FAR, RUN, STRIPES, SEEN, NLIES };
static const char *const lie_names[] = { "random", "near", "far", "run", "stripes", "seen" };
static const enum index_strategy forced[] = { STRAT_FLAT, STRAT_SCAN, STRAT_CLUSTERS, STRAT_GRAPH2,
                                              STRAT_GRAPH, STRAT_AUTO };
#define NFORCED 6

static uint64_t rng_state = 88172645463325252u;

static uint64_t rng(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state;
}

static double cpu_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(2);
}

struct world {
    struct index_rows rows;
    float *base, *queries;
    size_t nq;
    struct index *ix;
    uint32_t k, ef;
    uint64_t *bits; /* of the filter at hand: as in a segment they were written just before */
    bool coarse, prepare, lay;
    uint32_t *place; /* of each row of BASE; NULL: as in the file */
    struct index_order *laid;
    const char *only; /* strategy that is measured; NULL: all are */
    const char *cell; /* the only one, as LIE:RATE; NULL: all */
    int rounds;
    uint32_t *order[QUERIES]; /* rows by exact score, best first */
    float *scores[QUERIES];   /* of row i */
};

/* ---- Data ---- */

static float *read_fvecs(const char *path, size_t most, size_t *ret_n, size_t *ret_dim)
{
    FILE *f = fopen(path, "rb");
    int32_t dim = 0;
    if (!f || fread(&dim, 4, 1, f) != 1 || dim <= 0 || fseek(f, 0, SEEK_END) != 0) {
        die(path, "cannot be read");
    }
    size_t n = (size_t)ftell(f) / (4 + 4 * (size_t)dim);
    n = n < most ? n : most;
    float *v = alloc_try_aligned(4096, n * (size_t)dim * 4);
    rewind(f);
    for (size_t i = 0; v && i < n; i++) {
        if (fread(&dim, 4, 1, f) != 1 ||
            fread(v + i * (size_t)dim, 4, (size_t)dim, f) != (size_t)dim) {
            die(path, "is short");
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
        v[i] = (float)(rng() >> 40) * 0x1p-24f;
    }
    return v;
}

/* ---- The index ---- */

/* Lays the rows in the order of a graph's nodes. */
static void lay_rows(struct world *w)
{
    struct status st = STATUS_INIT;
    struct index_params params;
    struct pool *pool = pool_new("order", 2, 16);
    index_params_init(&params, INDEX_HNSW);
    struct index_build b = { .rows = &w->rows, .params = &params, .pool = pool };
    if (index_order_new(&b, &w->laid, &st) != 0) {
        die("order", st.msg);
    }
    const uint32_t n = w->rows.nrows, *row = index_order_rows(w->laid);
    float *base = alloc_try_aligned(4096, n * w->rows.stride);
    w->place = malloc(n * sizeof *w->place);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(base + i * w->rows.dim, w->base + row[i] * w->rows.dim, w->rows.stride);
        w->place[row[i]] = i;
    }
    mem_free(w->base);
    w->rows.base = w->base = base;
    pool_free(pool);
}

static int file_sink(void *arg, const void *p, size_t n, struct status *st)
{
    return fwrite(p, 1, n, arg) == n ? 0 : st_fail(st, ST_IO, "cannot write the index");
}

static void open_index(struct world *w, const char *path)
{
    struct status st = STATUS_INIT;
    struct stat sb;
    if (stat(path, &sb) != 0 || sb.st_size == 0) {
        struct index_params params;
        index_params_init(&params, INDEX_HNSW);
        struct pool *pool = pool_new("build", 2, 16);
        struct index_build b = { .rows = &w->rows, .params = &params, .pool = pool };
        if (w->laid) {
            b.plan = index_order_plan(w->laid, &b.plan_size);
        }
        FILE *f = fopen(path, "wb");
        if (!f || index_build(&b, file_sink, f, &st) != 0 || fclose(f) != 0) {
            die("build", st.msg);
        }
        pool_free(pool);
        stat(path, &sb);
    }
    int fd = open(path, O_RDONLY);
    void *map = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    struct index_source src = { .map = map, .size = (size_t)sb.st_size, .fd = fd };
    if (map == MAP_FAILED || index_open(&src, &w->rows, &w->ix, &st) != 0) {
        die("open", st.msg);
    }
}

/* ---- Truth ---- */

static const float *sort_scores;
static bool sort_larger;

static int cmp_row(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    float x = sort_scores[i], y = sort_scores[j];
    if (x != y) {
        return (x < y) != sort_larger ? -1 : 1;
    }
    return (i > j) - (i < j);
}

static void rank_rows(struct world *w)
{
    const struct simd_ops *ops = simd_ops();
    const struct simd_dist *d = w->rows.metric == METRIC_L2   ? ops->l2
                                : w->rows.metric == METRIC_IP ? ops->ip
                                                              : ops->cos;
    for (size_t j = 0; j < w->nq; j++) {
        w->order[j] = malloc(w->rows.nrows * 4);
        w->scores[j] = malloc(w->rows.nrows * 4);
        d[SIMD_F32].rows(w->queries + j * w->rows.dim, w->base, w->rows.stride, w->rows.nrows,
                         w->rows.dim, w->scores[j]);
        for (uint32_t i = 0; i < w->rows.nrows; i++) {
            w->order[j][i] = i;
        }
        sort_scores = w->scores[j];
        sort_larger = metric_larger_is_better(w->rows.metric);
        qsort(w->order[j], w->rows.nrows, 4, cmp_row);
    }
}

static uint32_t place_of(const struct world *w, uint32_t row)
{
    return w->place ? w->place[row] : row;
}

static uint32_t make_filter(const struct world *w, size_t j, enum lie lie, double rate,
                            uint64_t *allow)
{
    uint32_t n = w->rows.nrows, want = (uint32_t)(rate * n + 0.5), from = 0;
    memset(allow, 0, bits_words(n) * 8);
    switch (lie) {
    case RANDOM:
        for (uint32_t i = 0; i < n; i++) {
            if ((double)(rng() >> 11) * 0x1p-53 < rate) {
                bit_set(allow, i);
            }
        }
        break;
    case NEAR:
        for (uint32_t i = 0; i < want; i++) {
            bit_set(allow, w->order[j][i]);
        }
        break;
    case FAR:
    case SEEN:
        from = lie == FAR ? (uint32_t)(0.3 * n) : MIN(SEEN_ROWS, n);
        for (uint32_t i = from; i < n; i++) {
            if ((double)(rng() >> 11) * 0x1p-53 < rate) {
                bit_set(allow, w->order[j][i]);
            }
        }
        break;
    case RUN:
        from = (uint32_t)(rng() % (n - want + 1));
        for (uint32_t i = 0; i < want; i++) {
            bit_set(allow, place_of(w, from + i));
        }
        break;
    default:
        for (uint32_t i = 0; i < n; i++) {
            if (fmod((double)i * rate, 1.0) < rate) {
                bit_set(allow, place_of(w, i));
            }
        }
        break;
    }
    return (uint32_t)bits_count(allow, n);
}

/* ---- Cells ---- */

struct cell {
    double recall[NFORCED], us[NFORCED];
    uint32_t chosen[STRAT_COUNT];
    uint64_t fallbacks, distances, lists;
    double allowed;
};

/* The score of the last of the min(k, n) true hits. */
static float true_worst(const struct world *w, size_t j, const uint64_t *allow, uint32_t *ret_n)
{
    float worst = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->rows.nrows && n < w->k; i++) {
        if (bit_get(allow, w->order[j][i])) {
            worst = w->scores[j][w->order[j][i]];
            n++;
        }
    }
    *ret_n = n;
    return worst;
}

static double search(const struct world *w, size_t j, const uint64_t *allow, uint32_t count,
                     const struct index_filter *filter, enum index_strategy how, struct topk *tk, struct index_counters *c)
{
    struct status st = STATUS_INIT;
    struct index_search_params sp;
    index_search_params_init(&sp);
    sp.ef = w->ef;
    sp.strategy = how;
    struct index_query q = { .queries = w->queries + j * w->rows.dim,
                             .query_stride = w->rows.dim * 4, .nq = 1, .allow = w->bits,
                             .allow_count = count, .filter = filter, .params = &sp };
    topk_reset(tk, NULL);
    memcpy(w->bits, allow, bits_words(w->rows.nrows) * 8);
    double t0 = cpu_now();
    if (index_search(w->ix, &q, tk, c, &st) != 0) {
        die("search", st.msg);
    }
    double t = cpu_now() - t0;
    topk_finish(tk);
    return t;
}

/* A query of a cell. */
struct asked {
    uint64_t *allow;
    uint32_t count;
    struct index_filter *filter;
    double best; /* seconds, of the strategy at hand */
};

static void check_hits(const struct world *w, size_t j, const struct asked *a, struct topk *tk,
                       enum index_strategy how, double *ret_recall)
{
    uint32_t n, hits = 0;
    float worst = true_worst(w, j, a->allow, &n);
    for (uint32_t i = 0; i < topk_count(tk, 0); i++) {
        float s = topk_score(tk, 0, i);
        if (!bit_get(a->allow, topk_row(tk, 0, i))) {
            die("filter", "a hit is not allowed");
        }
        hits += tk->larger_is_better ? s >= worst : s <= worst;
    }
    if (topk_count(tk, 0) != n) {
        die("count", index_strategy_name(how));
    }
    *ret_recall += n ? (double)hits / n : 1;
}

/* Every strategy goes over all queries of the cell and over them again, so that none finds what its
 * own last run has left in the caches; of each query the best round counts. */
static void run_cell(const struct world *w, struct asked *asked, struct topk *tk, struct cell *cell)
{
    struct status st = STATUS_INIT;
    for (size_t j = 0; j < w->nq; j++) {
        asked[j].filter = NULL;
        if (w->prepare && asked[j].count < w->rows.nrows &&
            index_filter_new(w->ix, asked[j].allow, &asked[j].filter, &st) != 0) {
            die("filter", st.msg);
        }
        cell->allowed += asked[j].count;
    }
    for (int f = 0; f < NFORCED; f++) {
        double all = 0;
        if (w->only && strcmp(index_strategy_name(forced[f]), w->only) != 0) {
            continue;
        }
        for (int round = 0; round < w->rounds && (round == 0 || all < 4e-3 * (double)w->nq);
             round++) {
            for (size_t j = 0; j < w->nq; j++) {
                struct index_counters c = { 0 };
                struct asked *a = &asked[j];
                double t = search(w, j, a->allow, a->count, a->filter, forced[f], tk, &c);
                a->best = round ? fmin(a->best, t) : t;
                all += round ? 0 : t;
                if (round) {
                    continue;
                }
                check_hits(w, j, a, tk, forced[f], &cell->recall[f]);
                if (forced[f] == STRAT_AUTO) {
                    cell->chosen[c.strategy]++;
                    cell->fallbacks += c.fallbacks;
                    cell->distances += c.distances;
                    cell->lists += c.lists;
                }
            }
        }
        for (size_t j = 0; j < w->nq; j++) {
            cell->us[f] += asked[j].best * 1e6;
        }
    }
    for (size_t j = 0; j < w->nq; j++) {
        index_filter_free(asked[j].filter);
    }
}

/* Over all cells. */
struct sum {
    int cells, low, slow, far;
    double worst_recall, worst_slow, worst_far;
};

static void print_cell(const struct world *w, enum lie lie, double rate, struct cell *cell,
                       double target, double free_us, struct sum *sum)
{
    double best = 1e9;
    printf("%-8s %7.4f %9.0f ", lie_names[lie], rate, cell->allowed / (double)w->nq);
    for (int f = 0; f < NFORCED; f++) {
        cell->recall[f] /= (double)w->nq;
        cell->us[f] /= (double)w->nq;
        printf(" %.3f %7.0f", cell->recall[f], cell->us[f]);
        if (forced[f] != STRAT_AUTO && cell->recall[f] >= target - 0.01) {
            best = fmin(best, cell->us[f]);
        }
    }
    int most = 0;
    for (int s = 1; s < STRAT_COUNT; s++) {
        most = cell->chosen[s] > cell->chosen[most] ? s : most;
    }
    double ours = cell->us[NFORCED - 1], recall = cell->recall[NFORCED - 1] - target;
    bool low = recall < -0.01, slow = ours > 2 * best + 5, far = free_us / ours < 0.3;
    printf("  %-8s %6.0f %4.0f %3llu x%.2f %.2f%s%s%s\n",
           index_strategy_name((enum index_strategy)most),
           (double)cell->distances / (double)w->nq, (double)cell->lists / (double)w->nq,
           (unsigned long long)cell->fallbacks, ours / best, free_us / ours,
           low ? " RECALL" : "", slow ? " SLOW" : "", far ? " <0.3" : "");
    fflush(stdout);
    sum->cells++;
    sum->low += low;
    sum->slow += slow;
    sum->far += far;
    sum->worst_recall = fmin(sum->worst_recall, recall);
    sum->worst_slow = fmax(sum->worst_slow, ours / (best + 2.5));
    sum->worst_far = fmin(sum->worst_far, free_us / ours);
}

static void run(struct world *w)
{
    static const double rates[] = { 1,    .9,   .7,   .5,   .3,    .2,    .1,   .07,
                                    .05, .03,  .02,  .01,  .005, .003,  .001, .0003 };
    static const double few[] = { .9, .5, .2, .1, .03, .01, .003, .001 };
    const size_t nrates = ARRAY_LEN(rates), nfew = ARRAY_LEN(few);
    struct sum sum = { .worst_far = 1e9, .worst_recall = 1 };
    struct status st = STATUS_INIT;
    struct topk *tk = NULL;
    uint32_t n = w->rows.nrows;
    struct asked asked[QUERIES];
    if (topk_new(1, w->k, metric_larger_is_better(w->rows.metric), NULL, &tk, &st) != 0) {
        die("topk", st.msg);
    }
    rank_rows(w);
    w->bits = alloc_try_zero((bits_words(n) + 1) * 8);
    struct cell all = { 0 };
    struct asked every[QUERIES]; /* without a filter: asked again before each cell, as noise passes */
    for (size_t j = 0; j < w->nq; j++) {
        asked[j] = (struct asked){ .allow = calloc(bits_words(n) + 1, 8), .count = n };
        every[j] = (struct asked){ .allow = calloc(bits_words(n) + 1, 8), .count = n };
        bits_fill(every[j].allow, n, true);
    }
    struct world whole = *w;
    whole.only = index_strategy_name(STRAT_AUTO);
    run_cell(&whole, every, tk, &all);
    double target = all.recall[NFORCED - 1] / (double)w->nq;
    double free_us = all.us[NFORCED - 1] / (double)w->nq;
    printf("%u rows x %zu, %s, k %u, ef %u: unfiltered recall %.3f, %.0f us\n", n, w->rows.dim,
           metric_name(w->rows.metric), w->k, w->ef, target, free_us);
    printf("filter      pass   allowed     flat            scan        clusters          graph2"
           "           graph            auto  chosen   codes lists fall  x best, of unfiltered\n");
    for (int lie = 0; lie < NLIES; lie++) {
        for (size_t r = 0; r < (w->coarse ? nfew : nrates + 2); r++) {
            double rate = w->coarse        ? few[r]
                          : r < nrates     ? rates[r]
                          : r == nrates    ? (double)w->k / n
                                           : (double)(w->k / 2) / n;
            struct cell cell = { 0 };
            char name[64];
            snprintf(name, sizeof name, "%s:%g", lie_names[lie], rate);
            if (rate == 1 || (w->cell && strcmp(name, w->cell) != 0)) {
                continue;
            }
            for (size_t j = 0; j < w->nq; j++) {
                asked[j].count = make_filter(w, j, (enum lie)lie, rate, asked[j].allow);
            }
            all = (struct cell){ 0 };
            run_cell(&whole, every, tk, &all);
            run_cell(w, asked, tk, &cell);
            free_us = all.us[NFORCED - 1] / (double)w->nq;
            print_cell(w, (enum lie)lie, rate, &cell, target, free_us, &sum);
        }
    }
    printf("%d cells: recall low in %d (worst %+.3f), slower than twice the best in %d (worst "
           "%.2f), below 0.3 of unfiltered in %d (worst %.2f)\n",
           sum.cells, sum.low, sum.worst_recall, sum.slow, sum.worst_slow, sum.far, sum.worst_far);
    topk_free(tk);
    for (size_t j = 0; j < w->nq; j++) {
        free(asked[j].allow);
        free(every[j].allow);
    }
}

int main(int argc, char **argv)
{
    struct world w = { .k = 10, .ef = 64, .nq = 40, .rounds = ROUNDS };
    size_t n, dim, qdim, first = 0;
    const char *path = NULL;
    for (int opt; (opt = getopt(argc, argv, "icops:x:r:f:n:")) != -1;) {
        w.coarse |= opt == 'c';
        w.only = opt == 's' ? optarg : opt == 'o' ? index_strategy_name(STRAT_AUTO) : w.only;
        w.cell = opt == 'x' ? optarg : w.cell;
        w.rounds = opt == 'r' ? atoi(optarg) : w.rounds;
        w.prepare |= opt == 'p';
        w.lay |= opt == 'i';
        first = opt == 'f' ? strtoul(optarg, NULL, 10) : first;
        w.nq = opt == 'n' ? MIN(strtoul(optarg, NULL, 10), (size_t)QUERIES) : w.nq;
    }
    argc -= optind - 1;
    argv += optind - 1;
    if (argc < 4) {
        die("usage", "filter_grid [options] BASE QUERY METRIC [K [EF [INDEX]]] | uniform ROWS DIM "
                     "METRIC");
    }
    int at = 4;
    const char *metric = argv[3];
    if (strcmp(argv[1], "uniform") == 0) {
        n = strtoul(argv[2], NULL, 10);
        dim = strtoul(argv[3], NULL, 10);
        metric = argc > 4 ? argv[4] : "L2";
        at = 5;
        w.base = uniform(n, dim);
        w.queries = uniform(w.nq, dim);
    } else {
        w.base = read_fvecs(argv[1], SIZE_MAX, &n, &dim);
        w.queries = read_fvecs(argv[2], first + w.nq, &w.nq, &qdim);
        if (w.nq <= first) {
            die(argv[2], "has no such queries");
        }
        w.nq -= first;
        w.queries += first * qdim;
    }
    if (argc > at) {
        w.k = (uint32_t)strtoul(argv[at], NULL, 10);
    }
    if (argc > at + 1) {
        w.ef = (uint32_t)strtoul(argv[at + 1], NULL, 10);
    }
    if (argc > at + 2) {
        path = argv[at + 2];
    }
    w.rows = (struct index_rows){ .metric = strcmp(metric, "IP") == 0       ? METRIC_IP
                                            : strcmp(metric, "COSINE") == 0 ? METRIC_COSINE
                                                                            : METRIC_L2,
                                  .type = VEC_F32, .dim = dim, .base = w.base, .stride = dim * 4,
                                  .nrows = (uint32_t)n };
    if (w.lay) {
        lay_rows(&w);
    }
    char tmp[] = "/tmp/filter_grid-XXXXXX";
    if (!path) {
        int fd = mkstemp(tmp);
        if (fd < 0) {
            die("mkstemp", "no file");
        }
        close(fd);
        path = tmp;
    }
    open_index(&w, path);
    if (path == tmp) {
        unlink(tmp);
    }
    run(&w);
    return 0;
}
