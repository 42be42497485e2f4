/* graph_plan.h - which way a filtered search of a graph index goes. */
#pragma once
#include "index/ann.h"

/* A filtered search of a graph index, before it starts. */
struct plan_search {
    uint32_t nrows, allowed, nclusters, degree;
    size_t k, ef, keep; /* results; candidates of a walk; rows that get exact scores */
    size_t row_bytes;  /* raw, */
    size_t code_bytes; /* coded, */
    size_t bit_bytes;  /* and by the bits that are looked at first; 0: none are */
    bool prepared;     /* the filter's bits are in the order of nodes */
    double local;      /* share of allowed nodes among the query's entries; negative: unknown */
};
struct plan_choice {
    enum index_strategy strategy;
    double ns;      /* what it should take */
    double scan_ns; /* and the cheapest complete scan */
    enum index_strategy scan;
};
/* Estimated costs in ns of a core of today; only their ratios matter. */
double plan_cost(const struct plan_search *p, enum index_strategy s);
struct plan_choice plan_filtered(const struct plan_search *p);
/* How many nodes a walk should find so that the allowed ones among them do as well as ef would without
 * a filter, how many of them should be allowed, and up to how many such walks go. */
size_t plan_walk_allowed(const struct plan_search *p);
size_t plan_walk_ef(const struct plan_search *p);
#define PLAN_PLAIN_EF 768u
/* Whether the choice scans for so long that the widest of them is worth a try before it: where the
 * filter shuns the query's next neighbours and not those behind them, it ends the search. */
bool plan_long_shot(const struct plan_search *p, const struct plan_choice *c);
/* So few are allowed near the query that they are excluded on purpose. */
bool plan_shunned(const struct plan_search *p);
/* Of limit nodes, those whose neighbours are all scored, allowed or not. Where the filter shuns the
 * query all are: the way to what is allowed leads through what is not. */
size_t plan_walk_full(const struct plan_search *p, size_t limit);
/* Fewer allowed than one of so many: a complete scan finds them by their rows. */
#define PLAN_FEW_OF 64u
/* Whether a scan, of all or by clusters, brings all bits into the order of nodes first: that is less
 * than looking up every node. */
bool plan_turns(const struct plan_search *p, bool clusters);
