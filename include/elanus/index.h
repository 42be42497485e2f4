/*
 * elanus/index.h - near-neighbour indexes over an array of vectors: build, save, open, search.
 *
 *     struct elanus_vectors v = { .metric = ELANUS_L2, .element = ELANUS_F32, .dim = 128,
 *                                 .data = rows, .count = nrows };
 *     struct elanus_build b = { .index = "HNSW", .params = "M=16,efConstruction=200" };
 *     elanus_index_build_file(&v, &b, "rows.hnsw", &err);
 *     elanus_index_open("rows.hnsw", &v, NULL, &ix, &err);
 *     elanus_index_search(ix, &(struct elanus_search){ .k = 10, .params = "ef=64" },
 *                         query, 1, NULL, scores, found, NULL, &err);
 *
 * THE ROWS    stay with the caller. An index file holds codes, graphs and lists, not the vectors:
 *             they are given again when it is opened, must be the same, and must stay in place and
 *             unchanged until elanus_index_free(). Final scores are computed from them. Row i is
 *             `dim` elements at data + i * stride; results carry i.
 * SCORES      ELANUS_L2: the squared distance. ELANUS_IP, ELANUS_COSINE: the similarity, larger is
 *             better; the cosine of a zero vector is 0. ELANUS_HAMMING: bits that differ.
 *             ELANUS_JACCARD: 1 - common / all bits. ELANUS_SUBSTRUCTURE, ELANUS_SUPERSTRUCTURE: 0
 *             for rows that contain the query's bits, or are contained in them; other rows are no
 *             results. Results are ordered best first, equal scores by lower row.
 * INDEXES     By name, with the parameters the Milvus API gives them, as "key=value,key=value";
 *             keys that an index does not have are an error. In brackets: default.
 *               FLAT, BIN_FLAT                exact, no parameters
 *               IVF_FLAT, IVF_SQ8, BIN_IVF_FLAT   nlist (128); search: nprobe (8)
 *               IVF_PQ                        nlist, m, nbits (8); nprobe
 *               IVF_RABITQ                    nlist, rbq_bits (1), refine; nprobe, refine_k (1)
 *               SCANN                         nlist, with_raw_data (true); nprobe, reorder_k
 *               HNSW                          M (30), efConstruction (360); ef
 *               HNSW_SQ, HNSW_PQ, HNSW_PRQ    and sq_type; m, nbits; nrq; refine; ef, refine_k
 *               DISKANN                       max_degree (56), search_list_size (100); search_list
 *               ANNOY                         n_trees (50); search_k
 *               AUTOINDEX                     picks one for the rows; level (1) to 10
 *             Every index takes `seed`. The same rows, parameters and seed give the same file
 *             with any number of threads.
 * ERRORS      A function that can fail returns a code of enum elanus_code, 0 for success, and
 *             writes it with a sentence to *err; err may be NULL. Outputs are untouched then,
 *             except for result arrays, whose content is undefined.
 * THREADS     An open index never changes: any number of threads may search it at once. A searcher
 *             or an iterator belongs to one thread at a time. Searches run on the calling thread;
 *             a build takes as many as it is allowed. No function needs an initialisation.
 * OWNERSHIP   Pointers in arguments are borrowed for the call, except the vectors of an open index
 *             and the memory given to elanus_index_open_memory(). Every object has a function that
 *             frees it and accepts NULL.
 * STABILITY   Structures are zeroed or initialised by name; a member that is 0 or NULL has its
 *             default. Functions and members are added, never changed, within one major version
 *             (while that is 0: within one minor version).
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ELANUS_API __attribute__((visibility("default")))
#else
#define ELANUS_API
#endif

/* "0.1.0", of the library that runs. */
ELANUS_API const char *elanus_index_version(void);
/* Instruction set of the kernels in use: "avx512bf16", "avx2", "neon", "ref" ... */
ELANUS_API const char *elanus_index_kernels(void);
/* Limits it, for measurements: "ref", "avx2", ... Before anything is built or opened; nonzero
 * afterwards and for unknown names. */
ELANUS_API int elanus_index_limit_kernels(const char *level);

/* ---- Errors ---- */

enum elanus_code {
    ELANUS_OK = 0,
    ELANUS_INVALID = 1,     /* an argument or parameter; the message names it and its range */
    ELANUS_NOT_FOUND = 2,   /* no such file */
    ELANUS_IO = 3,          /* the operating system refused */
    ELANUS_CORRUPT = 4,     /* the file is not what was written: section and offset are named */
    ELANUS_NO_SPACE = 5,    /* disk full */
    ELANUS_NO_MEMORY = 6,
    ELANUS_CANCELLED = 7,   /* the stop callback said so */
    ELANUS_UNSUPPORTED = 8, /* a type known by name or a file's format, not this library's */
    ELANUS_INTERNAL = 9     /* a bug */
};
struct elanus_error {
    int code;
    char message[768]; /* UTF-8, zero-terminated */
};
/* "invalid argument", ... for any value; valid for ever. */
ELANUS_API const char *elanus_code_name(int code);

/* ---- Vectors ---- */

enum elanus_metric {
    ELANUS_L2 = 0,
    ELANUS_IP = 1,
    ELANUS_COSINE = 2,
    ELANUS_HAMMING = 3,
    ELANUS_JACCARD = 4,
    ELANUS_SUBSTRUCTURE = 5,
    ELANUS_SUPERSTRUCTURE = 6
};
enum elanus_element {
    ELANUS_F32 = 0,
    ELANUS_F16 = 1,
    ELANUS_BF16 = 2,
    ELANUS_I8 = 3,
    ELANUS_BIT = 4 /* dim counts bits, a multiple of 8; for HAMMING and the metrics after it */
};
struct elanus_vectors {
    int metric;       /* enum elanus_metric */
    int element;      /* enum elanus_element */
    size_t dim;       /* 1 .. 32,768 elements, or up to 262,144 bits */
    const void *data; /* no alignment needed; 64 bytes are faster */
    size_t stride;    /* bytes from row to row; 0: they follow each other */
    size_t count;     /* rows, below 2^31; 0 is fine */
};

/* ---- Building ---- */

struct elanus_build {
    const char *index;  /* name */
    const char *params; /* "key=value,..."; NULL: defaults */
    int threads;        /* the caller included; 0: one per processor */
    size_t memory_max;  /* bytes of heap to stay under where the index can; 0: no limit */
    void (*progress)(void *arg, double done); /* 0 .. 1, rising; from any thread of the build */
    int (*stop)(void *arg); /* asked every few milliseconds by any of them; nonzero: stop */
    void *arg;              /* of both */
};

/* Writes the file whole or not at all: to path with ".tmp" behind it, synced, then renamed. */
ELANUS_API int elanus_index_build_file(const struct elanus_vectors *vectors,
                                       const struct elanus_build *build, const char *path,
                                       struct elanus_error *err);

/* The same bytes in memory. */
struct elanus_buffer {
    void *data; /* page-aligned */
    size_t size;
    size_t room; /* the library's */
};
ELANUS_API int elanus_index_build_buffer(const struct elanus_vectors *vectors,
                                         const struct elanus_build *build,
                                         struct elanus_buffer *ret_buffer,
                                         struct elanus_error *err);
ELANUS_API void elanus_buffer_free(struct elanus_buffer *buffer); /* empties it */

/* ---- Opening ---- */

struct elanus_index;

struct elanus_open {
    int copy;    /* nonzero: read the file into memory of large pages instead of mapping it: faster
                  * to search at random, and the file may go away */
    int trusted; /* nonzero: do not read the whole file to check its sums */
};
/* options may be NULL. */
ELANUS_API int elanus_index_open(const char *path, const struct elanus_vectors *vectors,
                                 const struct elanus_open *options, struct elanus_index **ret_index,
                                 struct elanus_error *err);
/* Over a file's bytes in memory, 64-byte aligned and left alone until elanus_index_free(). */
ELANUS_API int elanus_index_open_memory(const void *data, size_t size,
                                        const struct elanus_vectors *vectors,
                                        struct elanus_index **ret_index, struct elanus_error *err);
ELANUS_API void elanus_index_free(struct elanus_index *index);

/* Walks the whole structure; slow. ELANUS_CORRUPT says what is wrong with it. */
ELANUS_API int elanus_index_validate(const struct elanus_index *index, struct elanus_error *err);

struct elanus_memory {
    size_t heap;     /* allocated when it was opened, and scratch of searches so far */
    size_t mapped;   /* bytes of the file, mapped or copied */
    size_t resident; /* of these, what searches touch all the time */
};
ELANUS_API void elanus_index_memory(const struct elanus_index *index,
                                    struct elanus_memory *ret_memory);
/* "type=HNSW,seed=0,M=16,..." into text, zero-terminated and cut at room bytes; returns the length
 * of the whole. */
ELANUS_API size_t elanus_index_describe(const struct elanus_index *index, char *text, size_t room);

/* ---- Searching ---- */

struct elanus_search {
    size_t k;           /* results of each query, 1 .. 16,384 */
    const char *params; /* "key=value,..."; NULL: defaults */
    /* Bounds on scores; NULL: none. Distances: range_filter <= score < radius. Similarities:
     * radius < score <= range_filter. */
    const float *radius, *range_filter;
    int (*stop)(void *arg); /* asked about every millisecond; nonzero: stop */
    void *stop_arg;
};

/* Rows that may be results: bit i % 64 of word i / 64 for row i. */
struct elanus_filter {
    const uint64_t *allow;
    size_t count; /* bits set below the number of rows; 0: to be counted */
};

/* What searches did. */
struct elanus_counters {
    const char *strategy; /* of the last query: "flat", "graph", "lists", ... */
    uint64_t queries;
    uint64_t distances; /* on codes */
    uint64_t exact;     /* on rows */
    uint64_t hops;      /* graph and tree nodes visited */
    uint64_t lists;     /* inverted lists or clusters read */
    uint64_t bytes;     /* of codes, links and rows touched */
    uint64_t reads;     /* from disk */
    uint64_t fallbacks; /* queries that came back short and were finished by a scan */
};

/* nqueries vectors of the index's dim and element, one after the other. Query j's results go to
 * scores and rows [j * k .. (j + 1) * k); where there are fewer, -1 and 0 fill up. Without bounds
 * there are min(k, allowed rows) of them, whatever the index and the filter. filter, scores and
 * counts (of results, one per query) may be NULL. */
ELANUS_API int elanus_index_search(const struct elanus_index *index,
                                   const struct elanus_search *search, const void *queries,
                                   size_t nqueries, const struct elanus_filter *filter,
                                   float *ret_scores, int64_t *ret_rows, uint32_t *ret_counts,
                                   struct elanus_error *err);

/* The same with the options read once and the memory kept, for many searches in a row. The index
 * must outlive it. */
struct elanus_searcher;
ELANUS_API int elanus_searcher_new(const struct elanus_index *index,
                                   const struct elanus_search *search,
                                   struct elanus_searcher **ret_searcher,
                                   struct elanus_error *err);
ELANUS_API int elanus_searcher_run(struct elanus_searcher *searcher, const void *queries,
                                   size_t nqueries, const struct elanus_filter *filter,
                                   float *ret_scores, int64_t *ret_rows, uint32_t *ret_counts,
                                   struct elanus_error *err);
/* Of all its runs so far. */
ELANUS_API void elanus_searcher_counters(const struct elanus_searcher *searcher,
                                         struct elanus_counters *ret_counters);
ELANUS_API void elanus_searcher_free(struct elanus_searcher *searcher);

/* All allowed rows, nearest first as far as the index finds them, a batch at a time, each exactly
 * once. search->k and the bounds are ignored. query and filter are copied; the index must outlive
 * it. */
struct elanus_iterator;
ELANUS_API int elanus_iterator_new(const struct elanus_index *index,
                                   const struct elanus_search *search, const void *query,
                                   const struct elanus_filter *filter,
                                   struct elanus_iterator **ret_iterator,
                                   struct elanus_error *err);
/* Up to n further rows; *ret_n is less only at the end. */
ELANUS_API int elanus_iterator_next(struct elanus_iterator *iterator, uint32_t n,
                                    float *ret_scores, int64_t *ret_rows, uint32_t *ret_n,
                                    struct elanus_error *err);
ELANUS_API void elanus_iterator_free(struct elanus_iterator *iterator);

#ifdef __cplusplus
}
#endif
