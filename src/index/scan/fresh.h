/*
 * fresh.h - short codes of rows that come one after the other, and the scan over them.
 *
 * What a growing segment is searched by. Nothing is trained but the mean of the first rows: codes
 * are RaBitQ bits about it (quant/codec.h), written once a row and never again. A search reads all
 * codes, scores the most promising rows exactly and then every row whose lower bound says it could
 * still matter; scores are those of the metric's kernel on the raw rows.
 *
 * THREADS     One thread at a time adds; any number search. fresh_coded() is published last, so a
 *             search sees whole codes only. Raw rows stay with the caller.
 */
#pragma once
#include "index/ann.h"

struct fresh;

/* Rows the mean is taken from, and the least worth coding. */
#define FRESH_MIN_ROWS 1024u

/* first: the FRESH_MIN_ROWS rows the mean comes from. Float types, dense metrics.
 * Fails: ST_INVALID, ST_NO_MEMORY. */
int fresh_new(const struct index_rows *first, struct fresh **ret_fr, struct status *st);
void fresh_free(struct fresh *fr);
/* Codes the next n rows. Fails: ST_NO_MEMORY; nothing is added then. Thread: one at a time. */
int fresh_add(struct fresh *fr, const void *rows, size_t stride, uint32_t n, struct status *st);
/* Rows that have codes. Thread: any. */
uint32_t fresh_coded(const struct fresh *fr);
enum metric fresh_metric(const struct fresh *fr);
size_t fresh_memory(const struct fresh *fr); /* bytes, codes as touched */

/* Raw rows row0 .. row0 + n in one piece. */
struct fresh_span {
    const void *base;
    uint32_t row0, n;
};
struct fresh_query {
    const void *queries;
    size_t query_stride;
    uint32_t nq;
    const struct fresh_span *spans; /* ascending, without gaps from row 0, at least nrows rows */
    uint32_t nspans;
    size_t stride;                  /* of raw rows */
    uint32_t nrows;                 /* search rows below; at most fresh_coded() */
    const uint64_t *allow;          /* NULL: all */
    index_check_fn *check;
    void *check_arg;
};
/* Pushes into tk (rows count from 0). Fails: ST_NO_MEMORY, what check returned. */
int fresh_search(const struct fresh *fr, const struct fresh_query *q, struct topk *tk,
                 struct index_counters *c, struct status *st);
