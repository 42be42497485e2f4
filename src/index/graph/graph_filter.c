/*
 * graph_filter.c - searches under a filter: which way to the allowed rows.
 *
 * WHAT        Few allowed rows are scored one by one; with more, the graph is walked over all nodes
 *             and the allowed ones are kept.
 * THREADS     As graph_search.c.
 */
#include "index/graph/graph_int.h"

int graph__search_filtered(const struct graph *g, const struct index_query *q, uint32_t j,
                           struct topk *tk, struct index_counters *c, struct status *st)
{
    enum index_strategy want = (enum index_strategy)q->params->strategy;
    if (want == STRAT_AUTO) {
        want = q->allow_count < MAX(g->n / 16, 2048u) || q->allow_count <= 2 * tk->k ? STRAT_FLAT
                                                                                     : STRAT_GRAPH;
    }
    if (want == STRAT_FLAT) {
        return index__flat(&g->head, q, j, 1, tk, c, st);
    }
    return graph__search_walk(g, q, j, tk, c, st);
}
