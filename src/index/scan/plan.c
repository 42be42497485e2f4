/*
 * plan.c - the choices of the engine.
 *
 * AUTOINDEX follows the API's documented picks: a graph for dense vectors, lists for bits.
 */
#include "index/scan/plan.h"

#define AUTO_BIN_NLIST 1024

void plan_auto(struct index_params *p, enum metric metric, enum vec_type type, size_t dim,
               uint32_t nrows)
{
    uint64_t seed = p->seed;
    (void)metric;
    (void)dim;
    (void)nrows;
    if (type == VEC_BIN) {
        index_params_init(p, INDEX_BIN_IVF_FLAT);
        p->nlist = AUTO_BIN_NLIST;
    } else {
        index_params_init(p, INDEX_HNSW);
        p->M = 18;
        p->ef_construction = 240;
    }
    p->seed = seed;
}
