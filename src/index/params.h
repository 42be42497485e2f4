/*
 * params.h - build and search parameters of the index types, and their text form.
 *
 * Names, ranges and defaults are the Milvus API's, one row each in params.def; nothing else in the
 * room spells a parameter's name.
 */
#pragma once
#include "index/index.h"

enum index_type {
    INDEX_FLAT,
    INDEX_IVF_FLAT,
    INDEX_IVF_SQ8,
    INDEX_IVF_PQ,
    INDEX_IVF_RABITQ,
    INDEX_SCANN,
    INDEX_HNSW,
    INDEX_HNSW_SQ,
    INDEX_HNSW_PQ,
    INDEX_HNSW_PRQ,
    INDEX_DISKANN,
    INDEX_ANNOY,
    INDEX_BIN_FLAT,
    INDEX_BIN_IVF_FLAT,
    INDEX_AUTOINDEX, /* resolved to one of the others before a build: index_params_resolve() */
    INDEX_TYPE_COUNT
};
/* "IVF_FLAT", ... NULL out of range. */
const char *index_type_name(enum index_type t);
/* False: no such type here. */
bool index_type_find(const char *name, enum index_type *ret);

/* sq_type, refine_type */
enum quant { QUANT_SQ4U, QUANT_SQ6, QUANT_SQ8, QUANT_FP16, QUANT_BF16, QUANT_FP32, QUANT_COUNT };

struct index_params {
    enum index_type type;
    uint64_t seed;
    uint32_t nlist;             /* IVF_*, SCANN, BIN_IVF_FLAT */
    uint32_t m, nbits;          /* IVF_PQ, HNSW_PQ, HNSW_PRQ: sub-quantisers, bits of each */
    uint32_t nrq;               /* HNSW_PRQ: residual rounds */
    uint32_t M, ef_construction; /* HNSW_* */
    enum quant sq_type;         /* HNSW_SQ */
    bool refine;                /* HNSW_SQ, _PQ, _PRQ, IVF_RABITQ */
    enum quant refine_type;
    uint32_t rbq_bits;          /* IVF_RABITQ: bits of a dimension, 1 .. 9 */
    bool with_raw_data;         /* SCANN */
    uint32_t sub_dim;           /* SCANN: dimensions of a 4-bit code */
    uint32_t n_trees;           /* ANNOY */
    uint32_t max_degree, search_list_size; /* DISKANN */
    double pq_code_budget_gb_ratio, search_cache_budget_gb_ratio;
};

struct index_search_params {
    uint32_t ef;          /* HNSW_*; 0: max(k, 16) */
    uint32_t nprobe;      /* IVF_*, SCANN */
    uint32_t reorder_k;   /* SCANN; 0: k */
    double refine_k;      /* HNSW_*, IVF_RABITQ: candidates for exact scores, in times k */
    uint32_t rbq_query_bits; /* IVF_RABITQ */
    int64_t search_k;     /* ANNOY; -1: n_trees * k */
    uint32_t search_list; /* DISKANN; 0: max(k, 16) */
    double beamwidth_ratio;  /* DISKANN */
    uint32_t level;       /* AUTOINDEX: 1 .. 10, times the least ef, or nprobe */
    uint32_t max_empty_result_buckets; /* IVF range search */
    bool ensure_topk_full;   /* IVF: go on past nprobe until k are found */
    uint32_t strategy;    /* enum index_strategy: forces one, for tests; 0: chosen */
};

/* Defaults of a type. */
void index_params_init(struct index_params *p, enum index_type type);
void index_search_params_init(struct index_search_params *p);
/* Sets one from its API spelling; keys the type does not have are ignored (*ret_known false).
 * ST_INVALID names the key and the range. */
int index_params_set(struct index_params *p, const char *key, const char *value, bool *ret_known,
                     struct status *st);
int index_search_params_set(struct index_search_params *p, enum index_type type, const char *key,
                            const char *value, bool *ret_known, struct status *st);
/* AUTOINDEX becomes what suits the rows; other types stay. Then everything that depends on the
 * rows: m divides dim, nlist at most what rows allow, type and metric fit. ST_INVALID. */
int index_params_resolve(struct index_params *p, enum metric metric, enum vec_type type, size_t dim,
                         uint32_t nrows, struct status *st);
/* "nlist=128,seed=0": all parameters of the type, parsed again by index_params_parse(). */
size_t index_params_print(const struct index_params *p, char *buf, size_t cap);
int index_params_parse(struct index_params *p, const char *text, struct status *st);
