/*
 * plan.c - the type AUTOINDEX stands for.
 *
 * WHAT        Few rows are scanned, through codes that keep it exact; binary rows get lists;
 *             everything else a graph, unless a sample says that rows have no neighbourhoods to
 *             speak of: then the exact scan is faster than a graph of the same recall.
 * THREADS     No state.
 */
#include "index/scan/plan.h"

#include <math.h>

#include "base/status.h"
#include "index/flat.h"
#include "index/topk.h"

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

/* ---- How hard the rows are ---- */

#define SAMPLE 4096u
#define PROBES 64u
#define NEAREST 20u
/* Local intrinsic dimension of a sample above which a graph needs more than the scan: uniform
 * random rows have about 54 at 128 dimensions and 34 at 64, sentence embeddings 22, SIFT 14. */
#define HARD_LID 32.0
/* Codes (bound.h) of so many bytes are still scanned in less than a walk takes there. */
#define HARD_CODES (64u << 20)

/* Maximum-likelihood estimate from the distances to the nearest rows of a sample, as in "Estimating
 * Local Intrinsic Dimensionality"; *ret is negative where distances say nothing. */
static int sample_lid(const struct index_rows *r, double *ret, struct status *st)
{
    const size_t step = r->nrows / SAMPLE;
    const bool cosine = r->metric == METRIC_COSINE;
    struct flat_rows rows = { .metric = cosine ? METRIC_COSINE : METRIC_L2,
                              .type = r->type,
                              .dim = r->dim,
                              .base = r->base,
                              .stride = r->stride * step,
                              .nrows = SAMPLE };
    /* Between the sample's rows, so that no row is its own neighbour. */
    struct flat_query q = { .queries = index_row(r, step / 2),
                            .query_stride = r->stride * (r->nrows / PROBES / step * step),
                            .nq = PROBES };
    struct topk *tk = NULL;
    double sum = 0;
    size_t n = 0;
    int rc = 0;
    TRY(topk_new(PROBES, NEAREST, cosine, NULL, &tk, st));
    TRY(flat_search(&rows, &q, tk, st));
    topk_finish(tk);
    for (uint32_t j = 0; j < PROBES; j++) {
        double far = 0;
        for (uint32_t i = topk_count(tk, j); i-- > 0;) {
            double d = topk_score(tk, j, i);
            d = cosine ? 2 - 2 * d : d;
            far = fmax(far, d);
            if (d > 1e-5 * far && i + 1 < topk_count(tk, j)) { /* copies say nothing */
                sum += 0.5 * log(far / d); /* of squares */
                n++;
            }
        }
    }
    *ret = sum > 0 ? (double)n / sum : -1;
out:
    topk_free(tk);
    return rc;
}

int plan_auto_rows(struct index_params *p, const struct index_rows *rows, struct status *st)
{
    uint64_t seed = p->seed;
    double lid = -1;
    int rc = 0;
    plan_auto(p, rows->metric, rows->type, rows->dim, rows->nrows);
    size_t codes = (rows->dim / 2 + 12) * (size_t)rows->nrows;
    if (p->type != INDEX_HNSW || rows->type == VEC_I8 || codes > HARD_CODES ||
        rows->nrows < 2 * SAMPLE) {
        goto out;
    }
    TRY(sample_lid(rows, &lid, st));
    if (lid > HARD_LID) {
        index_params_init(p, INDEX_FLAT);
        p->seed = seed;
    }
out:
    return rc;
}
