/*
 * plan.c - the type AUTOINDEX stands for.
 *
 * WHAT        Few rows are scanned: building anything would cost more than all searches it saves.
 *             Binary rows get lists; everything else a graph.
 * THREADS     No state.
 */
#include "index/scan/plan.h"

/* Below this many bytes of rows an exact scan takes less than half a millisecond. */
#define AUTO_FLAT_BYTES (8u << 20)

void plan_auto(struct index_params *p, enum metric metric, enum vec_type type, size_t dim,
               uint32_t nrows)
{
    uint64_t seed = p->seed;
    size_t bytes = vec_bytes(type, dim) * nrows;
    enum index_type pick = INDEX_HNSW;
    if (type == VEC_BIN) {
        bool listed = metric == METRIC_HAMMING || metric == METRIC_JACCARD;
        pick = listed && bytes > AUTO_FLAT_BYTES ? INDEX_BIN_IVF_FLAT : INDEX_BIN_FLAT;
    } else if (bytes <= AUTO_FLAT_BYTES) {
        pick = INDEX_FLAT;
    }
    index_params_init(p, pick);
    p->seed = seed;
}
