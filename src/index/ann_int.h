/* ann_int.h - what index types implement and share; not for other rooms. */
#pragma once
#include <stdatomic.h>

#include "base/compiler.h"
#include "base/status.h"
#include "index/ann.h"
#include "index/ixfile.h"
#include "index/topk.h"

/* Head of every open index; a type's struct begins with it. ann.c fills it after ops->open. */
struct index {
    const struct index_ops *ops;
    struct index_rows rows;
    struct index_params params;
    struct ix_file file;
};

/* One constant per type, listed in index_table.def. */
struct index_ops {
    enum index_type type;
    uint32_t metrics; /* bit 1 << enum metric */
    uint32_t types;   /* bit 1 << enum vec_type */
    /* rows, parameters and their fit are checked. Writes sections only. */
    int (*build)(const struct index_build *b, struct ixw *w, struct status *st);
    /* file is checked; rows match it. Allocates the type's struct, zeroed head. src->fd as there. */
    int (*open)(const struct ix_file *file, const struct index_rows *rows,
                const struct index_params *params, const struct index_source *src,
                struct index **ret_ix, struct status *st);
    /* q has at least one query, k >= 1, and at least one allowed row. May return short. */
    int (*search)(const struct index *ix, const struct index_query *q, struct topk *tk,
                  struct index_counters *c, struct status *st);
    int (*validate)(const struct index *ix, struct status *st); /* NULL: nothing beyond open */
    /* allow (bits by row) in the type's own order, as it finds them in q->filter; NULL: rows are. */
    void (*filter)(const struct index *ix, const uint64_t *allow, uint64_t *bits);
    void (*memory)(const struct index *ix, struct index_memory *ret); /* heap, resident */
    void (*free)(struct index *ix); /* frees the struct too */
};

struct index_filter {
    size_t bytes;
    uint64_t bits[];
};

#define METRIC_BIT(m) (1u << (m))
#define TYPE_BIT(t) (1u << (t))
#define METRICS_DENSE (METRIC_BIT(METRIC_L2) | METRIC_BIT(METRIC_IP) | METRIC_BIT(METRIC_COSINE))
#define METRICS_BINARY \
    (METRIC_BIT(METRIC_HAMMING) | METRIC_BIT(METRIC_JACCARD) | \
     METRIC_BIT(METRIC_SUBSTRUCTURE) | METRIC_BIT(METRIC_SUPERSTRUCTURE))
#define TYPES_DENSE \
    (TYPE_BIT(VEC_F32) | TYPE_BIT(VEC_F16) | TYPE_BIT(VEC_BF16) | TYPE_BIT(VEC_I8))

#define INDEX_OPS(name, format) extern const struct index_ops name;
#include "index/index_table.def"
#undef INDEX_OPS

/* NULL: no such type here. */
const struct index_ops *index__ops(enum index_type type);
/* ST_INVALID: rows that no type can index. */
int index__check_rows(const struct index_rows *r, struct status *st);
/* Of the files the type writes and reads; 0: no such type here. */
uint16_t index__format(enum index_type type);

/* Raw scan of the allowed rows of query i into list i of tk. What STRAT_FLAT and finishing are. */
int index__flat(const struct index *ix, const struct index_query *q, uint32_t query0, uint32_t nq,
                struct topk *tk, struct index_counters *c, struct status *st);
/* Exact scores of n rows (distinct, allowed) for query j, pushed into its list. */
void index__rerank(const struct index *ix, const struct index_query *q, uint32_t j,
                   const uint32_t *rows, size_t n, struct topk *tk, struct index_counters *c);

/* The same without pushing: scores[i] is of rows[i]. */
void index__scores(const struct index *ix, const struct index_query *q, uint32_t j,
                   const uint32_t *rows, size_t n, float *scores, struct index_counters *c);

/* Objects that searches borrow instead of allocating: as many are made as searches ran at once. */
#define SCRATCH_SLOTS 64
struct scratch_pool {
    _Atomic(void *) slot[SCRATCH_SLOTS];
};
/* NULL: none is free, make one. */
static inline void *scratch_take(struct scratch_pool *p)
{
    for (int i = 0; i < SCRATCH_SLOTS; i++) {
        if (atomic_load_explicit(&p->slot[i], memory_order_relaxed)) {
            void *s = atomic_exchange_explicit(&p->slot[i], NULL, memory_order_acquire);
            if (s) {
                return s;
            }
        }
    }
    return NULL;
}
/* False: all slots are full, free it. */
static inline bool scratch_give(struct scratch_pool *p, void *s)
{
    for (int i = 0; i < SCRATCH_SLOTS; i++) {
        void *none = NULL;
        if (!atomic_load_explicit(&p->slot[i], memory_order_relaxed) &&
            atomic_compare_exchange_strong_explicit(&p->slot[i], &none, s, memory_order_release,
                                                    memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}
