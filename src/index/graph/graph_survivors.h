/*
 * graph_survivors.h - scoring the allowed rows of a graph index by their codes, all of them or
 * those of the clusters near the query, then the raw rows of the best.
 */
#pragma once
#include "index/graph/graph_int.h"
#include "index/graph/graph_plan.h"

/* Of all nodes. Hits go to list j. Fails: ST_NO_MEMORY, what check returned. */
int graph__survivors_all(const struct graph *g, const struct index_query *q, uint32_t j,
                         const struct plan_search *plan, struct topk *tk,
                         struct index_counters *c, struct status *st);
/* Cluster by cluster, nearest first, until clusters stop to matter; at least min(k, allowed) rows. */
int graph__survivors_near(const struct graph *g, const struct index_query *q, uint32_t j,
                          const struct plan_search *plan, struct topk *tk,
                          struct index_counters *c, struct status *st);
/* Moves the k smallest of n distinct values to the front. 0 < k < n. */
void graph__select(uint64_t *v, size_t n, size_t k);
