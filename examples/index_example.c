/*
 * index_example.c - builds an index over 10,000 vectors, saves it, opens it and asks it a question.
 *
 *     cc index_example.c -o index_example $(pkg-config --cflags --libs elanus_index)
 *     ./index_example
 */
#include <elanus/index.h>
#include <stdio.h>
#include <stdlib.h>

#define ROWS 10000
#define DIM 32

static struct elanus_error err;

static void check(int code)
{
    if (code != ELANUS_OK) {
        fprintf(stderr, "%s: %s\n", elanus_code_name(code), err.message);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    static float rows[ROWS][DIM];
    const char *path = argc > 1 ? argv[1] : "example.index";
    for (int i = 0; i < ROWS; i++) {
        for (int k = 0; k < DIM; k++) {
            rows[i][k] = (float)((i * 31 + k * k * (i % 97)) % 1009) / 1009;
        }
    }
    struct elanus_vectors vectors = { .metric = ELANUS_L2, .element = ELANUS_F32, .dim = DIM,
                                      .data = rows, .count = ROWS };
    struct elanus_build build = { .index = argc > 2 ? argv[2] : "HNSW",
                                  .params = argc > 3 ? argv[3] : "M=16,efConstruction=200" };
    check(elanus_index_build_file(&vectors, &build, path, &err));

    struct elanus_index *index;
    check(elanus_index_open(path, &vectors, NULL, &index, &err));

    struct elanus_search search = { .k = 5, .params = argc > 4 ? argv[4] : "ef=64" };
    float scores[5];
    int64_t found[5];
    check(elanus_index_search(index, &search, rows[4711], 1, NULL, scores, found, NULL, &err));
    for (int i = 0; i < 5; i++) {
        printf("row %5lld, squared distance %.4f\n", (long long)found[i], scores[i]);
    }
    elanus_index_free(index);
    return found[0] == 4711 ? 0 : 1;
}
