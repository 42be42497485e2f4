/*
 * order.h - an order of rows in which near ones lie side by side, for who may choose how rows lie.
 *
 * A graph index numbers its nodes by clusters. Over rows that lie in that order node i is row i: a filter's
 * bits serve as they are, without being brought from one order into the other, and the rows of hits
 * lie together (README.md, "Rows in order").
 *
 * USE         index_order_new() over rows in any order; write them as index_order_rows() says; keep
 *             index_order_plan()'s bytes with them; give these to every index_build() over the rows as
 *             they lie now (struct index_build.plan). Without the plan a build is right, too, and
 *             chooses clusters and an order of its own.
 * FORMAT      Of a plan, little-endian: struct order_head (graph_laid.c), then as they come u32
 *             cluster_first, super_first, super_cluster, pivot_node, then the centroids; graph_int.h has
 *             the words. 130 bytes for each 1,000 rows, and a centroid.
 * THREADS     One caller, helped by a pool. The same rows, type and seed give the same bytes with any
 *             number of threads.
 */
#pragma once
#include "index/ann.h"

struct index_order;

/* Uses of in: rows, seed of params, pool, check, memory_max. Takes 16 bytes a row of heap, and a
 * copy of a cluster's rows for each thread. Fails: ST_INVALID, ST_NO_MEMORY, what check returned. */
int index_order_new(const struct index_build *in, struct index_order **ret_o, struct status *st);
/* The row that comes first, second, ...; nrows of them, valid until the order is freed. */
const uint32_t *index_order_rows(const struct index_order *o);
const void *index_order_plan(const struct index_order *o, size_t *ret_size);
void index_order_free(struct index_order *o);
