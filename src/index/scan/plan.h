/* plan.h - which index a field gets by itself, and which way a filtered search goes. */
#pragma once
#include "index/ann.h"

/* AUTOINDEX: turns p into the parameters of the type that suits the rows. seed stays. */
void plan_auto(struct index_params *p, enum metric metric, enum vec_type type, size_t dim,
               uint32_t nrows);
/* The same with a look at the rows: where even the nearest rows are nearly as far as all others, a
 * graph finds them slower than an exact scan. Fails: ST_NO_MEMORY. */
int plan_auto_rows(struct index_params *p, const struct index_rows *rows, struct status *st);

/* A filtered search of a graph index, before it starts. */
struct plan_search {
    uint32_t nrows, allowed, nclusters, degree;
    size_t ef, keep;   /* candidates of a walk; rows that get exact scores */
    size_t row_bytes;  /* raw, */
    size_t code_bytes; /* and coded */
    double local;      /* share of allowed nodes among the query's entries; negative: unknown */
};
struct plan_choice {
    enum index_strategy strategy;
    double scan_ns; /* what the cheapest complete scan would take: a walk's budget is a part of it */
    enum index_strategy scan;
};
/* Estimated costs in ns of a core of today; only their ratios matter. */
double plan_cost(const struct plan_search *p, enum index_strategy s);
struct plan_choice plan_filtered(const struct plan_search *p);
/* Of a walk so far, for its budget. */
double plan_walk_ns(const struct plan_search *p, size_t distances, size_t looked_up, size_t hops);
