/*
 * topk.c - keeping the best k of a stream.
 *
 * WHAT        Two shapes. k up to TOPK_SORTED_MAX: items stay sorted and a wanted pair is inserted,
 *             the worst falls out; with a good bound insertions are rare and a heap's bookkeeping
 *             would cost more. Larger k: wanted pairs are appended to a buffer with room for more
 *             than k; when it is full, quickselect finds the k best, the rest is dropped and the
 *             bound moves. An append is then O(1) on average whatever k is.
 * INVARIANTS  Sorted shape: n <= k, items ascending. Buffer shape: n < cap between calls. In both
 *             the bound is the range's limit until k items exist, afterwards the worst of k items
 *             that exist, so nothing among the best k is ever refused.
 * WHY         The buffer holds k + min(k, 4096) items, not 4 k: at k = 16,384 selecting from 20,480
 *             every 4,096 appends costs about 5 steps an append, and 200 queries then need 65 MB
 *             instead of 210 MB.
 */
#include "index/topk.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "index/index.h"

#define TOPK_SORTED_MAX 32
#define TOPK_SLACK_MAX 4096

static inline bool item_less(const struct topk_item *a, const struct topk_item *b)
{
    return a->key < b->key || (a->key == b->key && a->row < b->row);
}

static void list_reset(struct topk *tk, struct topk_list *l, const struct topk_range *range)
{
    l->n = 0;
    l->bound_key = INFINITY;
    l->bound_row = UINT64_MAX;
    l->low_key = -INFINITY;
    if (range && range->has_radius) { /* exclusive: no row is below 0 */
        l->bound_key = topk_key(tk, range->radius);
        l->bound_row = 0;
    }
    if (range && range->has_range_filter) {
        l->low_key = topk_key(tk, range->range_filter);
    }
}

void topk_reset(struct topk *tk, const struct topk_range *range)
{
    for (uint32_t q = 0; q < tk->nq; q++) {
        list_reset(tk, &tk->lists[q], range);
    }
}

void topk_limit(struct topk *tk, uint32_t q, float score)
{
    struct topk_list *l = &tk->lists[q];
    float beyond = nextafterf(topk_key(tk, score), INFINITY);
    if (beyond < l->bound_key) {
        l->bound_key = beyond; /* exclusive: no row is below 0 */
        l->bound_row = 0;
    }
}

int topk_new(uint32_t nq, uint32_t k, bool larger_is_better, const struct topk_range *range,
             struct topk **ret_tk, struct status *st)
{
    int rc = 0;
    struct topk *tk = NULL;
    size_t lists_len, items_len, len;
    if (k == 0 || k > TOPK_MAX) {
        FAIL(st, ST_INVALID, "topk %u, must be 1 to %u", k, TOPK_MAX);
    }
    if (nq == 0) {
        FAIL(st, ST_INVALID, "nq is 0");
    }
    uint32_t cap = k <= TOPK_SORTED_MAX ? k : k + MIN(k, (uint32_t)TOPK_SLACK_MAX);
    if (!mul_size(nq, sizeof(struct topk_list), &lists_len) ||
        !mul_size((size_t)nq * cap, sizeof(struct topk_item), &items_len) ||
        !add_size(lists_len + sizeof *tk, items_len, &len) || !(tk = alloc_try(len))) {
        FAIL(st, ST_NO_MEMORY, "no memory for the results of %u queries of topk %u", nq, k);
    }
    tk->larger_is_better = larger_is_better;
    tk->nq = nq;
    tk->k = k;
    tk->lists = (struct topk_list *)(void *)(tk + 1);
    struct topk_item *items = (struct topk_item *)(void *)((char *)tk->lists + lists_len);
    for (uint32_t q = 0; q < nq; q++) {
        tk->lists[q].k = k;
        tk->lists[q].cap = cap;
        tk->lists[q].items = items + (size_t)q * cap;
    }
    topk_reset(tk, range);
    *ret_tk = TAKE(tk);
out:
    topk_free(tk);
    return rc;
}

void topk_free(struct topk *tk)
{
    mem_free(tk);
}

static inline void item_swap(struct topk_item *a, struct topk_item *b)
{
    struct topk_item t = *a;
    *a = *b;
    *b = t;
}

/* Hoare's partition around a pivot that the data cannot foresee cheaply: the middle of three
 * places that depend on the length only. Afterwards items [0, ret) are not above items [ret, n),
 * with 0 < ret < n. n >= 2. */
static size_t partition(struct topk_item *v, size_t n)
{
    size_t a = n / 4, b = n / 2, c = n - 1 - n / 8;
    if (item_less(&v[b], &v[a])) {
        size_t t = a;
        a = b;
        b = t;
    }
    size_t mid = item_less(&v[c], &v[a]) ? a : item_less(&v[c], &v[b]) ? c : b;
    struct topk_item pivot = v[mid];
    item_swap(&v[0], &v[mid]);
    size_t i = 0, j = n - 1;
    for (;;) {
        while (item_less(&v[i], &pivot)) {
            i++;
        }
        while (item_less(&pivot, &v[j])) {
            j--;
        }
        if (i >= j) {
            return j + 1;
        }
        item_swap(&v[i], &v[j]);
        i++;
        j--;
    }
}

static void insertion_sort(struct topk_item *v, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct topk_item x = v[i];
        size_t j = i;
        for (; j > 0 && item_less(&x, &v[j - 1]); j--) {
            v[j] = v[j - 1];
        }
        v[j] = x;
    }
}

static void sift_down(struct topk_item *v, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && item_less(&v[child], &v[child + 1]);
        if (!item_less(&v[i], &v[child])) {
            return;
        }
        item_swap(&v[i], &v[child]);
    }
}

static void heap_sort(struct topk_item *v, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) {
        sift_down(v, i, n);
    }
    for (size_t end = n; end-- > 1;) {
        item_swap(&v[0], &v[end]);
        sift_down(v, 0, end);
    }
}

/* Quicksort; a run of bad pivots ends in heapsort, so no input is quadratic. */
static void sort_items(struct topk_item *v, size_t n, int depth)
{
    while (n > 16) {
        if (depth-- == 0) {
            heap_sort(v, n);
            return;
        }
        size_t cut = partition(v, n);
        if (cut < n - cut) {
            sort_items(v, cut, depth);
            v += cut;
            n -= cut;
        } else {
            sort_items(v + cut, n - cut, depth);
            n = cut;
        }
    }
    insertion_sort(v, n);
}

static int depth_limit(size_t n)
{
    return 2 * (64 - __builtin_clzll(n | 1));
}

/* Moves the k smallest of n items to the front, the largest of them to place k - 1. */
static void select_items(struct topk_item *v, size_t n, size_t k)
{
    int depth = depth_limit(n);
    size_t target = k - 1;
    while (n > 16) {
        if (depth-- == 0) {
            heap_sort(v, n);
            return;
        }
        size_t cut = partition(v, n);
        if (target < cut) {
            n = cut;
        } else {
            v += cut;
            n -= cut;
            target -= cut;
        }
    }
    insertion_sort(v, n);
}

static void set_bound(struct topk_list *l)
{
    l->bound_key = l->items[l->k - 1].key;
    l->bound_row = l->items[l->k - 1].row;
}

void topk__insert(struct topk_list *l, float key, uint64_t row)
{
    struct topk_item x = { .key = key, .row = row };
    if (l->cap > l->k) {
        l->items[l->n++] = x;
        if (l->n == l->cap) {
            select_items(l->items, l->n, l->k);
            l->n = l->k;
            set_bound(l);
        }
        return;
    }
    uint32_t at = l->n < l->k ? l->n++ : l->k - 1; /* the worst falls out */
    for (; at > 0 && item_less(&x, &l->items[at - 1]); at--) {
        l->items[at] = l->items[at - 1];
    }
    l->items[at] = x;
    if (l->n == l->k) {
        set_bound(l);
    }
}

void topk_merge(struct topk *tk, struct topk *other)
{
    ASSERT(tk->nq == other->nq && tk->larger_is_better == other->larger_is_better);
    for (uint32_t q = 0; q < tk->nq; q++) {
        const struct topk_list *from = &other->lists[q];
        for (uint32_t i = 0; i < from->n; i++) {
            if (topk_wants(&tk->lists[q], from->items[i].key, from->items[i].row)) {
                topk__insert(&tk->lists[q], from->items[i].key, from->items[i].row);
            }
        }
    }
}

void topk__drop(struct topk_list *l, uint64_t first, uint64_t n)
{
    uint32_t kept = 0;
    ASSERT(l->n < l->k);
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->items[i].row - first >= n) {
            l->items[kept++] = l->items[i];
        }
    }
    l->n = kept;
}

void topk_finish(struct topk *tk)
{
    for (uint32_t q = 0; q < tk->nq; q++) {
        struct topk_list *l = &tk->lists[q];
        if (l->n > l->k) {
            select_items(l->items, l->n, l->k);
            l->n = l->k;
        }
        sort_items(l->items, l->n, depth_limit(l->n));
        if (l->n == l->k) {
            set_bound(l);
        }
    }
}
