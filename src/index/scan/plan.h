/* plan.h - which index a field gets by itself. */
#pragma once
#include "index/ann.h"

/* AUTOINDEX: turns p into the parameters of the type that suits the rows. seed stays. */
void plan_auto(struct index_params *p, enum metric metric, enum vec_type type, size_t dim,
               uint32_t nrows);
/* The same with a look at the rows: where even the nearest rows are nearly as far as all others, a
 * graph finds them slower than an exact scan. Fails: ST_NO_MEMORY. */
int plan_auto_rows(struct index_params *p, const struct index_rows *rows, struct status *st);
