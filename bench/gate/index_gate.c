/*
 * index_gate.c - the searches whose instructions gate.py counts, through the public library.
 *
 *     index_gate build FOLDER           writes the index of each case
 *     index_gate check FOLDER           a line per case: name, counters of a query, recall
 *     index_gate search FOLDER CASE     runs its queries and says nothing
 *
 * WHAT        A frozen set: 5,000 rows of 64 dimensions in 100 clouds, made by a generator of
 *             whole numbers, so that every machine has the same bytes. Kernels are limited to AVX2,
 *             which valgrind knows.
 * THREADS     One, so that counts repeat.
 */
#include <elanus/index.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 5000
#define DIM 64
#define CLOUDS 100
#define NQ 200
#define K 10

static float rows[ROWS][DIM], queries[NQ][DIM];
static uint64_t some[(ROWS + 63) / 64]; /* every tenth row */
static struct elanus_error err;

static const struct gate_case {
    const char *name, *index, *build, *search;
    int filtered, batch, nq;
} cases[] = {
    { "FLAT", "FLAT", NULL, NULL, 0, 0, 50 },
    { "FLAT_batch", "FLAT", NULL, NULL, 0, 1, NQ },
    { "FLAT_tenth", "FLAT", NULL, NULL, 1, 0, NQ },
    { "IVF_FLAT", "IVF_FLAT", "nlist=128", "nprobe=2", 0, 0, NQ },
    { "HNSW", "HNSW", "M=8,efConstruction=60", "ef=10", 0, 0, NQ },
    { "HNSW_tenth", "HNSW", "M=8,efConstruction=60", "ef=10", 1, 0, NQ },
};
#define NCASES (sizeof cases / sizeof cases[0])

static void check(int code)
{
    if (code != ELANUS_OK) {
        fprintf(stderr, "%s: %s\n", elanus_code_name(code), err.message);
        exit(1);
    }
}

/* Multiples of 2^-20 around 0, nearly normal; sums of them are exact. */
static float noise(uint64_t *state)
{
    int32_t sum = 0;
    for (int i = 0; i < 6; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        sum += (int32_t)(*state >> 44) - (1 << 19);
    }
    return (float)sum * 0x1p-20f;
}

static void make_set(void)
{
    static float centre[CLOUDS][DIM];
    uint64_t state = 2026;
    for (int c = 0; c < CLOUDS; c++) {
        for (int k = 0; k < DIM; k++) {
            centre[c][k] = 2 * noise(&state);
        }
    }
    for (int i = 0; i < ROWS + NQ; i++) {
        float *row = i < ROWS ? rows[i] : queries[i - ROWS];
        state = state * 6364136223846793005u + 1442695040888963407u;
        const float *c = centre[(state >> 33) % CLOUDS];
        for (int k = 0; k < DIM; k++) {
            row[k] = c[k] + noise(&state);
        }
    }
    for (int i = 0; i < ROWS; i += 10) {
        some[i / 64] |= UINT64_C(1) << (i % 64);
    }
}

static struct elanus_vectors vectors(void)
{
    return (struct elanus_vectors){
        .metric = ELANUS_L2, .element = ELANUS_F32, .dim = DIM, .data = rows, .count = ROWS
    };
}

static void path_of(const char *folder, const struct gate_case *c, char *path, size_t room)
{
    snprintf(path, room, "%s/%s.index", folder, c->index);
}

static void build(const char *folder)
{
    struct elanus_vectors v = vectors();
    char path[512];
    for (size_t i = 0; i < NCASES; i++) {
        struct elanus_build b = { .index = cases[i].index, .params = cases[i].build, .threads = 1 };
        path_of(folder, &cases[i], path, sizeof path);
        check(elanus_index_build_file(&v, &b, path, &err));
    }
}

/* found may be NULL. */
static void search(const char *folder, const struct gate_case *c, int64_t *found,
                   struct elanus_counters *ret)
{
    static int64_t ids[NQ * K];
    struct elanus_vectors v = vectors();
    struct elanus_search s = { .k = K, .params = c->search };
    struct elanus_filter f = { .allow = some, .count = ROWS / 10 };
    struct elanus_index *ix;
    struct elanus_searcher *sr;
    char path[512];
    int64_t *out = found ? found : ids;
    path_of(folder, c, path, sizeof path);
    check(elanus_index_open(path, &v, NULL, &ix, &err));
    check(elanus_searcher_new(ix, &s, &sr, &err));
    for (int j = 0; j < c->nq; j += c->batch ? c->nq : 1) {
        check(elanus_searcher_run(sr, queries[j], c->batch ? (size_t)c->nq : 1,
                                  c->filtered ? &f : NULL, NULL, out + j * K, NULL, &err));
    }
    elanus_searcher_counters(sr, ret);
    elanus_searcher_free(sr);
    elanus_index_free(ix);
}

static void report(const char *folder, const struct gate_case *c)
{
    static int64_t found[NQ * K], want[NQ * K];
    struct elanus_counters n, ignored;
    struct gate_case exact = *c;
    int right = 0;
    exact.index = "FLAT";
    exact.search = NULL;
    search(folder, c, found, &n);
    search(folder, &exact, want, &ignored);
    for (int j = 0; j < c->nq; j++) {
        for (int i = 0; i < K; i++) {
            for (int l = 0; l < K; l++) {
                right += found[j * K + i] == want[j * K + l];
            }
        }
    }
    double nq = c->nq;
    printf("%s\t%d\t%.2f\t%.2f\t%.2f\t%.4f\n", c->name, c->nq, (double)n.distances / nq,
           (double)n.exact / nq, (double)n.hops / nq, right / (nq * K));
}

int main(int argc, char **argv)
{
    struct elanus_counters n;
    if (argc < 3 || elanus_index_limit_kernels("avx2") != ELANUS_OK) {
        fprintf(stderr, "usage: index_gate build|check|search FOLDER [CASE]\n");
        return 2;
    }
    make_set();
    if (strcmp(argv[1], "build") == 0) {
        build(argv[2]);
    }
    for (size_t i = 0; i < NCASES; i++) {
        if (strcmp(argv[1], "check") == 0) {
            report(argv[2], &cases[i]);
        } else if (strcmp(argv[1], "search") == 0 && argc > 3 &&
                   strcmp(argv[3], cases[i].name) == 0) {
            search(argv[2], &cases[i], NULL, &n);
        }
    }
    return 0;
}
