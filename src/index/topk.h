/*
 * topk.h - the best k of a stream of (score, row) pairs, for one query or many.
 *
 * Inside, a score becomes a key for which smaller is better (the score or its negative), and pairs
 * order by (key, row): equal scores by lower row. The order is total, so the result depends on the
 * set of pairs pushed and not on their order. NaN scores are dropped.
 *
 * THREADS     One thread at a time; several each fill their own and topk_merge() joins them.
 * MEMORY      All of it is allocated by topk_new; pushing never allocates.
 */
#pragma once
#include "base/compiler.h"

struct status;

/* Longest list: more than a search may ask for, as hits are found ahead of searches to come. */
#define TOPK_MAX 65536u

struct topk_item {
    float key;
    uint64_t row;
};

/* Bounds of a range search as the API gives them. For smaller-is-better metrics:
 * range_filter <= score < radius; for the others: radius < score <= range_filter. */
struct topk_range {
    bool has_radius, has_range_filter;
    float radius, range_filter;
};

/* One query's list. Fields are read by the inline functions below and written by topk.c only. */
struct topk_list {
    float bound_key; /* a pair is wanted when (key, row) < (bound_key, bound_row) ... */
    uint64_t bound_row;
    float low_key;      /* ... and key >= low_key */
    uint32_t n, k, cap; /* used, wanted, room: cap == k keeps items sorted, else a buffer */
    struct topk_item *items;
};

struct topk {
    bool larger_is_better;
    uint32_t nq, k;
    struct topk_list *lists; /* nq */
};

/* Lists for nq queries of k results. range may be NULL. *ret_tk is freed with topk_free().
 * Fails: ST_INVALID (k is 0 or above TOPK_MAX, nq is 0), ST_NO_MEMORY. */
int topk_new(uint32_t nq, uint32_t k, bool larger_is_better, const struct topk_range *range,
             struct topk **ret_tk, struct status *st);
void topk_free(struct topk *tk);
/* Forgets all pairs, keeps memory and range. */
void topk_reset(struct topk *tk, const struct topk_range *range);

static inline float topk_key(const struct topk *tk, float score)
{
    return tk->larger_is_better ? -score : score;
}
/* Whether a pair would be kept now. False for NaN. */
static inline bool topk_wants(const struct topk_list *l, float key, uint64_t row)
{
    return (key < l->bound_key || (key == l->bound_key && row < l->bound_row)) && key >= l->low_key;
}
/* The worst score still of interest to query q; +-Inf while everything is. Scores equal to it may
 * be of interest. */
static inline float topk_bound(const struct topk *tk, uint32_t q)
{
    return tk->larger_is_better ? -tk->lists[q].bound_key : tk->lists[q].bound_key;
}
void topk__insert(struct topk_list *l, float key, uint64_t row);
static inline void topk_push(struct topk *tk, uint32_t q, float score, uint64_t row)
{
    struct topk_list *l = &tk->lists[q];
    float key = topk_key(tk, score);
    if (topk_wants(l, key, row)) {
        topk__insert(l, key, row);
    }
}
/* From here on query q wants no hit worse than score; equal ones it does. Before the first push. */
void topk_limit(struct topk *tk, uint32_t q, float score);
/* Pushes everything other has gathered into tk: same nq, same direction. */
void topk_merge(struct topk *tk, struct topk *other);
/* Takes out the items with rows first .. first + n of a list that holds fewer than k. */
void topk__drop(struct topk_list *l, uint64_t first, uint64_t n);
/* Sorts every list, best first, and cuts it to k. Afterwards topk_count and topk_get describe the
 * result; more pairs may be pushed later and finish called again. */
void topk_finish(struct topk *tk);
static inline uint32_t topk_count(const struct topk *tk, uint32_t q)
{
    return tk->lists[q].n;
}
static inline float topk_score(const struct topk *tk, uint32_t q, uint32_t i)
{
    float key = tk->lists[q].items[i].key;
    return tk->larger_is_better ? -key : key;
}
static inline uint64_t topk_row(const struct topk *tk, uint32_t q, uint32_t i)
{
    return tk->lists[q].items[i].row;
}
