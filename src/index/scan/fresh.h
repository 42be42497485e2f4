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
 * With a guide, rows are found through an index over other rows that was searched just before.
 *
 * THREADS     One thread at a time adds and sorts, one attaches; any number search. fresh_coded() is published
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

/* ---- A guide: other rows with an index, searched before (fresh_guide.c) ---- */

/* Rows of the guide that each row is attached to. */
#define FRESH_ATTACH 24u
/* Rows are attached to the nrows rows of this guide from now on, none yet; id is not 0. far: from
 * fresh_guide_far(). What was attached to another is not used any more, and freed with fr.
 * Not for inner products. Fails: ST_NO_MEMORY. Thread, of these three: one at a time. */
int fresh_guide_new(struct fresh *fr, uint64_t id, uint32_t nrows, float far, struct status *st);
void fresh_guide_leave(struct fresh *fr);
/* Attaches the next n rows, which have codes; near: max FRESH_ATTACH, with keys, what searches of
 * the guide with these rows told. Fails: ST_NO_MEMORY, some may be attached. */
int fresh_attach(struct fresh *fr, const struct index_near *near, uint32_t n, struct status *st);
/* Up to where a row still has the guide's rows about it, from a sample of those: the keys that
 * index_near has of each one's FRESH_ATTACH nearest. Sorts keys. */
float fresh_guide_far(enum metric metric, float *keys, uint32_t n);
uint64_t fresh_guide_id(const struct fresh *fr); /* 0: none. Thread: any */
uint32_t fresh_attached(const struct fresh *fr); /* rows below are. Thread: any */
size_t fresh_guide_memory(const struct fresh *fr); /* bytes. Thread: the attacher's */

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
    const struct index_near *near; /* of a search of the guide with the same queries; NULL: none */
    uint64_t near_id;      /* which guide that was */
    index_check_fn *check;
    void *check_arg;
};
/* Pushes into tk (rows count from 0). Fails: ST_NO_MEMORY, what check returned. */
int fresh_search(struct fresh *fr, const struct fresh_query *q, struct topk *tk,
                 struct index_counters *c, struct status *st);
