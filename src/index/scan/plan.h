/* plan.h - which index a field gets by itself, and which way a filtered search goes. */
#pragma once
#include "index/ann.h"

/* AUTOINDEX: turns p into the parameters of the type that suits the rows. seed stays. */
void plan_auto(struct index_params *p, enum metric metric, enum vec_type type, size_t dim,
               uint32_t nrows);
