/* flat_shim.c - libelanus_flat: what flat_vs_faiss.py loads. */
#include "flat_shim.h"

#include "base/status.h"
#include "index/flat.h"
#include "index/topk.h"
#include "machine.h"
#include "simd/simd.h"

int flat_shim_search(int metric, uint64_t dim, const float *base, uint64_t nrows,
                     const uint64_t *allow, const float *queries, uint32_t nq, uint32_t k,
                     float *scores, int64_t *rows)
{
    int rc = 0;
    struct status st = STATUS_INIT;
    struct topk *tk = NULL;
    struct flat_rows r = { .metric = (enum metric)metric,
                           .type = VEC_F32,
                           .dim = dim,
                           .base = base,
                           .stride = dim * sizeof(float),
                           .nrows = nrows,
                           .allow = allow };
    struct flat_query q = { .queries = queries, .query_stride = dim * sizeof(float), .nq = nq };
    TRY(topk_new(nq, k, metric_larger_is_better(r.metric), NULL, &tk, &st));
    TRY(flat_search(&r, &q, tk, &st));
    topk_finish(tk);
    for (uint32_t j = 0; j < nq; j++) {
        for (uint32_t i = 0; i < k; i++) {
            bool have = i < topk_count(tk, j);
            scores[j * k + i] = have ? topk_score(tk, j, i) : 0;
            rows[j * k + i] = have ? (int64_t)topk_row(tk, j, i) : -1;
        }
    }
out:
    topk_free(tk);
    return rc;
}

const char *flat_shim_level(void)
{
    return simd_level_name(simd_ops()->level);
}

double flat_shim_read_bandwidth(const void *buf, uint64_t len)
{
    return machine_read_bandwidth(buf, len, 1);
}

double flat_shim_fma_per_second(void)
{
    return machine_fma_per_second();
}
