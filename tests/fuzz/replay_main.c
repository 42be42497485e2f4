/*
 * replay_main.c - runs a fuzz target over its saved corpus, without a fuzzer.
 *
 *     fuzz_json_replay [--mutations N] FILE_OR_FOLDER...
 *
 * Each file is given to the target as it is, cut short at some places, and with some bytes changed:
 * always the same ones, so that a failure comes back. The path is printed before a crash only when
 * FUZZ_REPLAY_VERBOSE is set; with one file as argument there is no doubt.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/utf8.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* A copy of exactly n bytes: the sanitizer then sees a read past the end. */
static void give(const uint8_t *p, size_t n)
{
    uint8_t *copy = xalloc(n);
    if (n) {
        memcpy(copy, p, n);
    }
    LLVMFuzzerTestOneInput(copy, n);
    mem_free(copy);
}

static void give_mutated(const uint8_t *p, size_t n, uint64_t *rng)
{
    static const uint8_t interesting[] = {0, 1, 0x7F, 0x80, 0xFF, '"', '\\', '{', ']', '-'};
    uint8_t *copy = xalloc(n);
    memcpy(copy, p, n);
    size_t len = n;
    if (next_random(rng) % 4 == 0) {
        len = (size_t)(next_random(rng) % n);
    }
    for (uint64_t k = next_random(rng) % 4 + (len == n); k > 0 && len > 0; k--) {
        size_t at = (size_t)(next_random(rng) % len);
        if (next_random(rng) & 1) {
            copy[at] = (uint8_t)(copy[at] ^ (1u << (next_random(rng) % 8)));
        } else {
            copy[at] = interesting[next_random(rng) % ARRAY_LEN(interesting)];
        }
    }
    give(copy, len);
    mem_free(copy);
}

static int replay_file(const char *path, int64_t mutations, struct status *st)
{
    uint8_t *p = NULL;
    size_t n = 0;
    int rc;
    if (getenv("FUZZ_REPLAY_VERBOSE")) {
        fprintf(stderr, "%s\n", path);
    }
    TRY(file_read_all(path, (size_t)64 << 20, &p, &n, st));
    give(p, n);
    uint64_t rng = n;
    for (int64_t i = 0; n > 0 && i < mutations; i++) {
        give_mutated(p, n, &rng);
    }
out:
    mem_free(p);
    return rc;
}

static int replay(const char *path, int64_t mutations, size_t *nfiles, struct status *st)
{
    char **names = NULL;
    size_t n = 0;
    bool exists, is_dir;
    uint64_t size;
    int rc;
    TRY(path_stat(path, &exists, &is_dir, &size, st));
    if (!exists) {
        FAIL(st, ST_NOT_FOUND, "there is no %s", path);
    }
    if (!is_dir) {
        ++*nfiles;
        return replay_file(path, mutations, st);
    }
    TRY(dir_list(path, &names, &n, st));
    for (size_t i = 0; i < n; i++) {
        char *child = path_join(path, names[i]);
        rc = replay(child, mutations, nfiles, st);
        mem_free(child);
        TRY(rc);
    }
out:
    dir_list_free(names, n);
    return rc;
}

int main(int argc, char **argv)
{
    struct status st = STATUS_INIT;
    int64_t mutations = 300;
    size_t nfiles = 0;
    int first = 1;
    if (argc > 2 && strcmp(argv[1], "--mutations") == 0) {
        if (!parse_i64(slice_of(argv[2]), &mutations)) {
            fprintf(stderr, "--mutations: not a number: %s\n", argv[2]);
            return 2;
        }
        first = 3;
    }
    LLVMFuzzerTestOneInput(NULL, 0);
    for (int i = first; i < argc; i++) {
        if (replay(argv[i], mutations, &nfiles, &st) != 0) {
            fprintf(stderr, "%s\n", st.msg);
            return 1;
        }
    }
    if (nfiles == 0) {
        fprintf(stderr, "no corpus: nothing was tested\n");
        return 1;
    }
    printf("%zu files, %lld mutations of each\n", nfiles, (long long)mutations);
    return 0;
}
