/*
 * graph_search.c - one query after the other: entries, walk on codes, exact scores of the best.
 *
 * WHAT        ef is the caller's, at least k. The walk compares codes; of what it finds the best
 *             few are scored on the raw rows, so many that the codes' error does not cost recall:
 *             how many times k depends on the codec, and refine_k asks for more. Filters go to
 *             graph_filter.c, ranges and very large ef to the wide walk.
 * THREADS     Scratch is borrowed for the call; everything else is read only.
 */
#include <math.h>
#include <string.h>

#include "index/graph/graph_int.h"

/* Up to here insertion into a sorted pool is cheaper than two heaps. */
#define PLAIN_EF_MAX 768

size_t graph__ef(const struct index_query *q, const struct topk *tk, uint32_t n)
{
    size_t ef = q->params->ef ? q->params->ef : 16;
    return MIN(MAX(ef, (size_t)tk->k), (size_t)n);
}

size_t graph__refine_count(const struct graph *g, const struct index_query *q, uint32_t k,
                           size_t ef)
{
    double want;
    switch (codec_kind_of(g->codec)) {
    case CODEC_I8:
    case CODEC_BIN:
    case CODEC_F32:
        want = k;
        break;
    case CODEC_F16:
    case CODEC_BF16:
    case CODEC_SQ8:
        want = 1.25 * k + 6;
        break;
    case CODEC_SQ6:
        want = 2.0 * k + 8;
        break;
    default:
        want = 4.0 * k + 32;
        break;
    }
    want = MAX(want, q->params->refine_k * k);
    return want < (double)ef ? (size_t)want : ef;
}

bool graph__has_range(const struct topk *tk, uint32_t j)
{
    const struct topk_list *l = &tk->lists[j];
    return l->low_key > -INFINITY || (l->bound_key < INFINITY && l->n < l->k);
}

static void score_best(const struct graph *g, const struct index_query *q, uint32_t j,
                       struct graph_scratch *s, size_t n, struct topk *tk,
                       struct index_counters *c)
{
    for (size_t i = 0; i < n; i++) {
        s->rows[i] = graph_row(g, graph_cand_node(s->pool[i]));
    }
    index__rerank(&g->head, q, j, s->rows, n, tk, c);
}

int graph__search_walk(const struct graph *g, const struct index_query *q, uint32_t j,
                       struct topk *tk, struct index_counters *c, struct status *st)
{
    int rc = 0;
    struct graph_scratch *s = NULL;
    size_t ef = graph__ef(q, tk, g->n), n;
    const bool ranged = graph__has_range(tk, j);
    TRY(graph__scratch_get(g, ef, &s, st));
    codec_query(g->codec, (const uint8_t *)q->queries + j * q->query_stride, s->pq);
    size_t nentries = graph__entries(g, s, c);
    c->strategy = STRAT_GRAPH;
    if (!ranged && !q->allow && ef <= PLAIN_EF_MAX) {
        n = graph__walk(g, s, nentries, ef, c);
    } else {
        struct graph_wide how = { .ef = ef,
                                  .allow = q->allow,
                                  .low_key = -INFINITY,
                                  .radius_key = -INFINITY,
                                  .miss_max = SIZE_MAX,
                                  .check = q->check,
                                  .check_arg = q->check_arg };
        if (ranged) { /* codes are off by a little: the exact scores decide at the bounds */
            const struct topk_list *l = &tk->lists[j];
            how.low_key = l->low_key - 0.01f * fabsf(l->low_key);
            how.radius_key = l->bound_key + 0.01f * fabsf(l->bound_key);
            how.miss_max = MAX(q->params->ef, 16u);
        }
        TRY(graph__walk_wide(g, s, nentries, &how, &n, c, st));
    }
    score_best(g, q, j, s, ranged ? n : MIN(n, graph__refine_count(g, q, tk->k, ef)), tk, c);
out:
    graph__scratch_put(g, s);
    return rc;
}

int graph__search(const struct index *ix, const struct index_query *q, struct topk *tk,
                  struct index_counters *c, struct status *st)
{
    const struct graph *g = CONTAINER_OF(ix, const struct graph, head);
    int rc = 0;
    for (uint32_t j = 0; j < q->nq; j++) {
        if (q->check) {
            TRY(q->check(q->check_arg, st));
        }
        if (q->allow) {
            TRY(graph__search_filtered(g, q, j, tk, c, st));
        } else {
            TRY(graph__search_walk(g, q, j, tk, c, st));
        }
    }
out:
    return rc;
}
