/* index.h - the words every index shares: metric, element type, rows as a raw array, early stop. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct status;

enum metric {
    METRIC_L2,           /* squared; smaller is better */
    METRIC_IP,           /* larger is better */
    METRIC_COSINE,       /* larger is better; 0 when a vector is zero */
    METRIC_HAMMING,      /* smaller is better */
    METRIC_JACCARD,      /* 1 - inter / union; smaller is better */
    METRIC_SUBSTRUCTURE, /* 0 for rows that contain every bit of the query; others are no result */
    METRIC_SUPERSTRUCTURE, /* 0 for rows whose every bit is in the query; others are no result */
    METRIC_COUNT
};

enum vec_type { VEC_F32, VEC_F16, VEC_BF16, VEC_I8, VEC_BIN, VEC_COUNT };

/* Bytes of one vector: dim elements, or dim bits for VEC_BIN. */
size_t vec_bytes(enum vec_type type, size_t dim);
/* "L2", "IP", ... as the API spells it. */
const char *metric_name(enum metric metric);
bool metric_larger_is_better(enum metric metric);
bool metric_fits_type(enum metric metric, enum vec_type type);

/* Largest dim accepted for a type (bits for VEC_BIN). */
#define INDEX_DIM_MAX 32768
#define INDEX_BIN_DIM_MAX 262144
/* Largest topk. */
#define INDEX_TOPK_MAX 16384

/* Asked now and then during long work (about every millisecond). Nonzero ends the work with that
 * code, and st filled. */
typedef int index_check_fn(void *arg, struct status *st);
