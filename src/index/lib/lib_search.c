/*
 * lib_search.c - libelanus_index: searchers and iterators.
 *
 * WHAT        A searcher keeps what a search would do anew every time: parameters parsed, result
 *             lists allocated. Queries of one call go to the engine NQ_MAX at a time, so that the
 *             lists of a large batch do not grow with it.
 * THREADS     A searcher or iterator belongs to one thread at a time; the index they read does not
 *             change.
 */
#include "index/lib/lib_int.h"

#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/topk.h"

#define NQ_MAX 1024

struct elanus_searcher {
    const struct index *ix;
    const struct index_rows *rows;
    struct index_search_params params;
    struct lib_stop stop;
    struct topk_range range;
    uint32_t k;
    struct topk *tk; /* for tk->nq queries */
    struct index_counters counters;
    uint64_t queries;
};

/* "key=value,..." of a search. */
static int parse_search(struct index_search_params *p, enum index_type type, const char *text,
                        struct status *st)
{
    char buf[1024], *rest = buf, *pair;
    size_t n = strlen(text);
    int rc = 0;
    if (n >= sizeof buf) {
        FAIL(st, ST_INVALID, "search parameters of %zu bytes, at most %zu", n, sizeof buf - 1);
    }
    memcpy(buf, text, n + 1);
    while ((pair = strsep(&rest, ",")) != NULL) {
        char *eq = strchr(pair, '=');
        bool known;
        if (*pair == 0) {
            continue;
        }
        if (!eq) {
            FAIL(st, ST_INVALID, "'%.64s' is not key=value", pair);
        }
        *eq = 0;
        TRY(index_search_params_set(p, type, pair, eq + 1, &known, st));
        if (!known) { /* level belongs to what AUTOINDEX picked, too */
            TRY(index_search_params_set(p, INDEX_AUTOINDEX, pair, eq + 1, &known, st));
        }
        if (!known) {
            FAIL(st, ST_INVALID, "a search of %s has no parameter '%.64s'", index_type_name(type),
                 pair);
        }
    }
out:
    return rc;
}

int elanus_searcher_new(const struct elanus_index *index, const struct elanus_search *search,
                        struct elanus_searcher **ret_searcher, struct elanus_error *err)
{
    struct status st = STATUS_INIT;
    struct elanus_searcher *s = xalloc(sizeof *s);
    int rc = 0;
    s->ix = index->ix;
    s->rows = &index->rows;
    if (search->k == 0 || search->k > INDEX_TOPK_MAX) {
        FAIL(&st, ST_INVALID, "k is %zu, should be in the range [1, %d]", search->k,
             INDEX_TOPK_MAX);
    }
    s->k = (uint32_t)search->k;
    index_search_params_init(&s->params);
    if (search->params) {
        TRY(parse_search(&s->params, index_type_of(s->ix), search->params, &st));
    }
    if (search->radius) {
        s->range.has_radius = true;
        s->range.radius = *search->radius;
    }
    if (search->range_filter) {
        s->range.has_range_filter = true;
        s->range.range_filter = *search->range_filter;
    }
    s->stop = (struct lib_stop){ .stop = search->stop, .arg = search->stop_arg };
    *ret_searcher = TAKE(s);
out:
    elanus_searcher_free(s);
    return lib__end(rc, &st, err);
}

static uint32_t allowed(const struct elanus_filter *filter, size_t nrows)
{
    return (uint32_t)(filter->count ? filter->count : bits_count(filter->allow, nrows));
}

static int lists_for(struct elanus_searcher *s, uint32_t nq, struct status *st)
{
    if (s->tk && s->tk->nq == nq) {
        topk_reset(s->tk, &s->range);
        return 0;
    }
    topk_free(TAKE(s->tk));
    return topk_new(nq, s->k, metric_larger_is_better(s->rows->metric), &s->range, &s->tk, st);
}

static void copy_out(const struct topk *tk, float *scores, int64_t *rows, uint32_t *counts)
{
    for (uint32_t j = 0; j < tk->nq; j++) {
        size_t at = (size_t)j * tk->k;
        uint32_t n = topk_count(tk, j);
        for (uint32_t i = 0; i < n; i++) {
            rows[at + i] = (int64_t)topk_row(tk, j, i);
        }
        for (uint32_t i = n; i < tk->k; i++) {
            rows[at + i] = -1;
        }
        if (scores) {
            for (uint32_t i = 0; i < n; i++) {
                scores[at + i] = topk_score(tk, j, i);
            }
            memset(scores + at + n, 0, (tk->k - n) * sizeof *scores);
        }
        if (counts) {
            counts[j] = n;
        }
    }
}

int elanus_searcher_run(struct elanus_searcher *s, const void *queries, size_t nqueries,
                        const struct elanus_filter *filter, float *ret_scores, int64_t *ret_rows,
                        uint32_t *ret_counts, struct elanus_error *err)
{
    struct status st = STATUS_INIT;
    const size_t bytes = vec_bytes(s->rows->type, s->rows->dim);
    struct index_query q = { .query_stride = bytes, .params = &s->params };
    int rc = 0;
    if (nqueries > 0 && (!queries || !ret_rows)) {
        FAIL(&st, ST_INVALID, "no queries or no room for results are given");
    }
    if (s->stop.stop) {
        q.check = lib__stop;
        q.check_arg = &s->stop;
    }
    if (filter && filter->allow) {
        q.allow = filter->allow;
        q.allow_count = allowed(filter, s->rows->nrows);
    }
    for (size_t at = 0; at < nqueries; at += q.nq) {
        q.queries = (const uint8_t *)queries + at * bytes;
        q.nq = (uint32_t)MIN(nqueries - at, (size_t)NQ_MAX);
        TRY(lists_for(s, q.nq, &st));
        TRY(index_search(s->ix, &q, s->tk, &s->counters, &st));
        topk_finish(s->tk);
        copy_out(s->tk, ret_scores ? ret_scores + at * s->k : NULL, ret_rows + at * s->k,
                 ret_counts ? ret_counts + at : NULL);
        s->queries += q.nq;
    }
out:
    return lib__end(rc, &st, err);
}

void elanus_searcher_counters(const struct elanus_searcher *s, struct elanus_counters *ret)
{
    *ret = (struct elanus_counters){ .strategy = index_strategy_name(s->counters.strategy),
                                     .queries = s->queries,
                                     .distances = s->counters.distances,
                                     .exact = s->counters.exact,
                                     .hops = s->counters.hops,
                                     .lists = s->counters.lists,
                                     .bytes = s->counters.bytes,
                                     .reads = s->counters.reads,
                                     .fallbacks = s->counters.fallbacks };
}

void elanus_searcher_free(struct elanus_searcher *s)
{
    if (s) {
        topk_free(s->tk);
        mem_free(s);
    }
}

int elanus_index_search(const struct elanus_index *index, const struct elanus_search *search,
                        const void *queries, size_t nqueries, const struct elanus_filter *filter,
                        float *ret_scores, int64_t *ret_rows, uint32_t *ret_counts,
                        struct elanus_error *err)
{
    struct elanus_searcher *s = NULL;
    int code = elanus_searcher_new(index, search, &s, err);
    if (code == ELANUS_OK) {
        code = elanus_searcher_run(s, queries, nqueries, filter, ret_scores, ret_rows, ret_counts,
                                   err);
    }
    elanus_searcher_free(s);
    return code;
}

/* ---- Iterators ---- */

struct elanus_iterator {
    struct index_iter *it;
    struct lib_stop stop;
};

int elanus_iterator_new(const struct elanus_index *index, const struct elanus_search *search,
                        const void *query, const struct elanus_filter *filter,
                        struct elanus_iterator **ret_iterator, struct elanus_error *err)
{
    struct status st = STATUS_INIT;
    const struct index_rows *rows = &index->rows;
    struct elanus_iterator *it = xalloc(sizeof *it);
    struct index_search_params params;
    struct index_query q = { .queries = query,
                             .query_stride = vec_bytes(rows->type, rows->dim),
                             .nq = 1,
                             .params = &params };
    int rc = 0;
    index_search_params_init(&params);
    if (search && search->params) {
        TRY(parse_search(&params, index_type_of(index->ix), search->params, &st));
    }
    if (search && search->stop) {
        it->stop = (struct lib_stop){ .stop = search->stop, .arg = search->stop_arg };
        q.check = lib__stop;
        q.check_arg = &it->stop;
    }
    if (filter && filter->allow) {
        q.allow = filter->allow;
        q.allow_count = allowed(filter, rows->nrows);
    }
    TRY(index_iter_new(index->ix, &q, &it->it, &st));
    *ret_iterator = TAKE(it);
out:
    elanus_iterator_free(it);
    return lib__end(rc, &st, err);
}

int elanus_iterator_next(struct elanus_iterator *it, uint32_t n, float *ret_scores,
                         int64_t *ret_rows, uint32_t *ret_n, struct elanus_error *err)
{
    struct status st = STATUS_INIT;
    /* Row numbers are below 2^31: either sign is the same. */
    return lib__end(
        index_iter_next(it->it, n, ret_scores, (uint64_t *)(void *)ret_rows, ret_n, &st), &st, err);
}

void elanus_iterator_free(struct elanus_iterator *it)
{
    if (it) {
        index_iter_free(it->it);
        mem_free(it);
    }
}
