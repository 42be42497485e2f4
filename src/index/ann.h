/*
 * ann.h - index types over one array of vectors: build, open from a mapping, search, validate.
 *
 * An index is a file (ixfile.h) that index_build() writes through a sink and index_open() uses in
 * place. The raw rows stay with the caller: they are given again at open, kept mapped as long as
 * the index lives, and every type takes its final scores from them with the metric's own kernel, so
 * a (query, row) pair has one score whatever type finds it.
 *
 * WORDS       row: offset in the caller's array, what results carry. allow: bit set = row may be a
 *             result. key: topk.h's smaller-is-better form of a score.
 * BUILD       The same rows, parameters and seed give the same bytes with any number of threads.
 *             Work is cut into blocks that depend on the input only; parallel_for() runs them.
 * SEARCH      Exactly min(k, allowed rows in range) results for searches without a range: where a
 *             type comes back short, index_search() finishes by a scan. Order is topk.h's.
 * THREADS     Build: one caller, helped by a pool. An open index is immutable: any number of
 *             threads search it at once.
 * FAILURE     index_open() checks checksums of head, table and sections, then sizes and offsets;
 *             what passes cannot make a search read outside the mapping.
 */
#pragma once
#include "index/index.h"
#include "index/params.h"

struct ix_file;
struct ixw;
struct pool;
struct status;
struct topk;

/* Vectors as they lie in memory. */
struct index_rows {
    enum metric metric;
    enum vec_type type;
    size_t dim; /* elements; bits for VEC_BIN */
    const void *base;
    size_t stride;  /* bytes from row to row */
    uint32_t nrows; /* below 2^31 */
};

static inline const void *index_row(const struct index_rows *r, size_t i)
{
    return (const uint8_t *)r->base + i * r->stride;
}
/* Rows first .. first + n, or ids[0 .. n) when ids is given, widened to f32, one after the other;
 * with normalise, divided by their length (a zero row stays zero). Not for VEC_BIN. */
void index_rows_f32(const struct index_rows *r, const uint32_t *ids, size_t first, size_t n,
                    bool normalise, float *out);

/* ---- Building ---- */

typedef void index_progress_fn(void *arg, double done); /* 0 .. 1, rising; any build thread */

struct index_build {
    const struct index_rows *rows;
    const struct index_params *params;
    struct pool *pool;       /* helps the caller; NULL: one thread */
    index_check_fn *check;   /* cancel; called from any build thread; NULL: never */
    void *check_arg;
    index_progress_fn *progress; /* NULL: nobody looks */
    void *progress_arg;
    size_t memory_max;       /* bytes of heap a build should stay under; 0: no limit */
    const void *plan;        /* index_order_plan() of the order in which rows lie (graph/order.h); */
    size_t plan_size;        /* NULL: they lie in any. Types without use for it do not read it */
};
typedef int index_sink_fn(void *arg, const void *p, size_t n, struct status *st);

/* Writes the index file front to back into sink. Zero rows are fine.
 * Fails: ST_INVALID (parameters and rows do not fit; names both), ST_NO_MEMORY, what check or sink
 * returned. */
int index_build(const struct index_build *b, index_sink_fn *sink, void *sink_arg,
                struct status *st);

/* ---- Opening ---- */

struct index;

struct index_source {
    const void *map; /* the whole file, kept mapped by the caller until index_free() */
    size_t size;
    int fd;          /* of the same file, for types that read pages themselves; -1: map only */
    bool trusted;    /* checksums of sections were checked before: do not read them all again */
};
/* Heap taken: index_memory(). Fails: ST_CORRUPT (names section and offset), ST_UNSUPPORTED (of a
 * format or type that this program does not read), ST_INVALID (rows are not those of the file); a
 * file built anew will do. ST_NO_MEMORY. */
int index_open(const struct index_source *src, const struct index_rows *rows,
               struct index **ret_ix, struct status *st);
void index_free(struct index *ix);
/* Everything about the structure that a search relies on, and more; slow. ST_CORRUPT. */
int index_validate(const struct index *ix, struct status *st);

struct index_memory {
    size_t heap;     /* allocated by index_open and scratch of searches so far */
    size_t mapped;   /* of the file */
    size_t resident; /* of it, what searches touch all the time: codes, links, lists */
};
void index_memory(const struct index *ix, struct index_memory *ret);
enum index_type index_type_of(const struct index *ix);
const struct index_params *index_params_of(const struct index *ix);

/* ---- Searching ---- */

enum index_strategy {
    STRAT_AUTO,
    STRAT_FLAT,     /* exact, over the raw rows that are allowed */
    STRAT_SCAN,     /* codes of the allowed rows, then raw rows of the best */
    STRAT_CLUSTERS, /* the same within the clusters near the query */
    STRAT_GRAPH,    /* walk everything, keep what is allowed */
    STRAT_GRAPH2,   /* walk to the query, and on by allowed rows */
    STRAT_LISTS,    /* inverted lists */
    STRAT_TREES,    /* annoy */
    STRAT_COUNT
};
const char *index_strategy_name(enum index_strategy s);

/* A filter that many searches share, in the index's own order. Immutable. */
struct index_filter;

/* What a search did: summed over its queries by the type. */
struct index_counters {
    enum index_strategy strategy; /* of the last query */
    uint64_t distances; /* on codes */
    uint64_t exact;     /* on raw rows */
    uint64_t hops;      /* graph nodes expanded, tree nodes visited */
    uint64_t lists;     /* inverted lists or clusters */
    uint64_t bytes;     /* of codes, links and rows touched */
    uint64_t reads;     /* from disk */
    uint64_t fallbacks; /* queries that came back short and were finished by a scan */
};

/* Where queries lie among an index's rows: the nearest that searches saw, whether or not they may be
 * results. By the index's own estimates, nearest first. */
struct index_near {
    uint32_t max;     /* of a query */
    uint32_t *rows;   /* nq x max */
    uint32_t *counts; /* of each query, 0 before; stays where the way of the search tells none */
    float *keys;      /* of the last of each; may be NULL */
};

struct index_query {
    const void *queries; /* nq vectors of the rows' type and dim */
    size_t query_stride; /* bytes */
    uint32_t nq;
    const uint64_t *allow;  /* nrows bits; NULL: all */
    uint32_t allow_count;   /* bits set; ignored without allow */
    const struct index_filter *filter; /* index_filter_new() of allow; NULL: there is none */
    uint64_t row_base;      /* added to rows in results */
    const struct index_search_params *params;
    index_check_fn *check;  /* NULL: never stop early */
    void *check_arg;
    struct index_near *near; /* filled as well; NULL: not asked for */
};

/* Pushes hits into tk (nq lists, the metric's direction; k and range bounds are tk's).
 * counters may be NULL. Fails: ST_INVALID, ST_NO_MEMORY, ST_IO, what check returned; tk then holds
 * a partial answer. */
int index_search(const struct index *ix, const struct index_query *q, struct topk *tk,
                 struct index_counters *counters, struct status *st);

/* Prepares allow (nrows bits, copied) for searches of this index: answers are the same without, only
 * later. *ret_f is NULL where the type has no use for it. Fails: ST_NO_MEMORY. */
int index_filter_new(const struct index *ix, const uint64_t *allow, struct index_filter **ret_f,
                     struct status *st);
size_t index_filter_bytes(const struct index_filter *f); /* heap; 0 for NULL */
void index_filter_free(struct index_filter *f);

/* Nearest rows in order, a batch at a time: every allowed row exactly once. Within a batch the order
 * is exact; a later batch may hold a row that an approximate index saw late. For one query. */
struct index_iter;
int index_iter_new(const struct index *ix, const struct index_query *q, struct index_iter **ret_it,
                   struct status *st);
/* Up to n further hits; *ret_n < n only at the end. */
int index_iter_next(struct index_iter *it, uint32_t n, float *scores, uint64_t *rows,
                    uint32_t *ret_n, struct status *st);
void index_iter_free(struct index_iter *it);
