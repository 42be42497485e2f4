/* index.c - names and sizes of metrics and element types. */
#include "index/index.h"

#include "base/compiler.h"

size_t vec_bytes(enum vec_type type, size_t dim)
{
    switch (type) {
    case VEC_F32:
        return dim * 4;
    case VEC_F16:
    case VEC_BF16:
        return dim * 2;
    case VEC_I8:
        return dim;
    default:
        return (dim + 7) / 8;
    }
}

const char *metric_name(enum metric metric)
{
    static const char *const names[METRIC_COUNT] = {
        [METRIC_L2] = "L2",
        [METRIC_IP] = "IP",
        [METRIC_COSINE] = "COSINE",
        [METRIC_HAMMING] = "HAMMING",
        [METRIC_JACCARD] = "JACCARD",
        [METRIC_SUBSTRUCTURE] = "SUBSTRUCTURE",
        [METRIC_SUPERSTRUCTURE] = "SUPERSTRUCTURE",
    };
    return metric < METRIC_COUNT ? names[metric] : "unknown";
}

bool metric_larger_is_better(enum metric metric)
{
    return metric == METRIC_IP || metric == METRIC_COSINE;
}

bool metric_fits_type(enum metric metric, enum vec_type type)
{
    if (type >= VEC_COUNT || metric >= METRIC_COUNT) {
        return false;
    }
    bool is_float_metric = metric <= METRIC_COSINE;
    return is_float_metric == (type != VEC_BIN);
}
