/*
 * fresh.h - short codes of rows that come one after the other, and the scan over them.
 *
 * What a growing segment is searched by. Nothing is trained but the mean of the first rows: codes
 * are RaBitQ bits about it (quant/codec.h), written once a row and never again. From
 * FRESH_SORT_MIN rows on the codes also stand in lists of like rows, and a search reads the lists
 * nearest to its query; rows that are in no list yet are read one after the other. Which rows could
 * still matter is told by the lower bound of their code; those are scored exactly, by the metric's
 * kernel on the raw rows.
 *
 * A list that brings in a bound (topk_limit()) from rows searched elsewhere is spared most exact
 * scores: hits of equal score are kept, worse ones are not looked for.
 *
 * THREADS     One thread at a time adds and sorts; any number search. fresh_coded() is published
 *             last, so a search sees whole codes only. Raw rows stay with the caller.
 */
#pragma once
#include "index/ann.h"

struct fresh;

/* Rows the mean is taken from, and the least worth coding. */
#define FRESH_MIN_ROWS 256u
/* The least worth sorting. */
#define FRESH_SORT_MIN 12288u

/* The raw row of a number below fresh_coded(). Thread: any. */
typedef const void *fresh_row_fn(const void *arg, uint32_t row);

/* first: the FRESH_MIN_ROWS rows the mean comes from. Float types, dense metrics.
 * Fails: ST_INVALID, ST_NO_MEMORY. */
int fresh_new(const struct index_rows *first, struct fresh **ret_fr, struct status *st);
void fresh_free(struct fresh *fr);
/* Codes the next n rows. Fails: ST_NO_MEMORY; nothing is added then. Thread: one at a time. */
int fresh_add(struct fresh *fr, const void *rows, size_t stride, uint32_t n, struct status *st);
/* Enters rows that have codes in lists, about max of them, or takes one step (a few milliseconds at
 * most) of making new lists, which is due every time the rows have become three times as many.
 * Returns whether there is more to do. Without memory rows stay outside. Thread: the adder's. */
bool fresh_sort(struct fresh *fr, fresh_row_fn *row, const void *row_arg, uint32_t max);
/* Rows that have codes, and those of them that are in lists. Thread: any. */
uint32_t fresh_coded(const struct fresh *fr);
uint32_t fresh_sorted(const struct fresh *fr);
enum metric fresh_metric(const struct fresh *fr);
size_t fresh_memory(const struct fresh *fr); /* bytes, codes as touched. Thread: the adder's */

struct fresh_query {
    const void *queries;
    size_t query_stride;
    uint32_t nq;
    fresh_row_fn *row;
    const void *row_arg;
    uint32_t nrows;        /* search rows below; at most fresh_coded() */
    const uint64_t *allow; /* NULL: all */
    uint32_t allow_count;  /* of the rows below nrows, when allow is given */
    bool whole;            /* read every code */
    index_check_fn *check;
    void *check_arg;
};
/* Pushes into tk (rows count from 0). Fails: ST_NO_MEMORY, what check returned. */
int fresh_search(struct fresh *fr, const struct fresh_query *q, struct topk *tk,
                 struct index_counters *c, struct status *st);
