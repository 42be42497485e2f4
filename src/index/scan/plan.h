/* plan.h - which way to search, and which index suits rows nobody chose one for. */
#pragma once
#include "index/params.h"

/* AUTOINDEX: type and parameters by size, element type and metric. */
void plan_auto(struct index_params *p, enum metric metric, enum vec_type type, size_t dim,
               uint32_t nrows);
