/* graph_reach.h - the walk of a filtered search. */
#pragma once
#include "index/graph/graph_int.h"

struct graph_reach {
    size_t full;  /* nodes whose neighbours are all scored, at least: the pool on the way */
    size_t limit; /* nodes, allowed or not, whose allowed neighbours are scored; */
    size_t most;  /* up to so many when fewer than want allowed ones are found */
    size_t want, least; /* with fewer than least it was in vain */
    size_t max; /* with those that were found by the way */
};
/* Room for what comes by the way, too. */
static inline size_t graph_reach_max(size_t most)
{
    return 2 * most + 256;
}
struct graph_reached {
    size_t n;       /* allowed nodes in s->pool, ascending */
    size_t looked_at, allowed; /* nodes found whether allowed or not, and how many are */
    size_t spread;  /* allowed nodes found by their neighbours */
    bool covered;   /* what is nearer than the last was looked at, as far as the graph leads there */
};

/* Walks for query j, prepared in s->pq; entries as graph__entries() leaves them. s has room for
 * how->max candidates. Near nodes go to q->near. Fails: ST_NO_MEMORY, what check returned. */
int graph__reach(const struct graph *g, const struct index_query *q, uint32_t j,
                 struct graph_scratch *s, size_t nentries, const struct graph_reach *how,
                 struct graph_reached *ret, struct index_counters *c, struct status *st);
