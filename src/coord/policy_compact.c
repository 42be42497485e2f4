/*
 * policy_compact.c - which segments are rewritten as one.
 *
 * MERGE    Small segments cost every search a walk, a file and a merge of answers; rewriting costs
 *          the bytes and an index build. The smallest segments are merged when the new one is at
 *          least MERGE_GROWTH times the largest of them (three of about one size are): then a row is
 *          rewritten no more often than the logarithm to that base of how much segments have grown (size-tiered merging; O'Neil et
 *          al., "The Log-Structured Merge-Tree", section 3, gives the geometric sizes). One that comes
 *          out full may be made with half of that, since it is the last.
 * DELETED  A segment a fifth of whose rows are gone is rewritten by itself: they take room, and
 *          every search steps over them.
 * EXPIRED  Segments without a living row leave together; there is nothing to write.
 * ORDER    What is rewritten comes out in the order of an index (filtered searches gain by it, others do
 *          not). For that alone a segment is rewritten when asked: it costs an index build.
 */
#include "coord/policy.h"
#include <stdlib.h>

#define MERGE_GROWTH 2.5
#define FULL_GROWTH 1.8
#define FULL_OF 4     /* from 3/4 of the size on a segment is full */
#define GONE_OF 5     /* a fifth */
#define ALL_MAX 2     /* times the size, if nothing should be gone of what is thought to be */
#define ORDER_ROWS_MIN 4096 /* as the data node has it */
#define SEGMENTS_FEW 8 /* "At most 8 of 10M rows": of a partition, when one segment may be so large */

int64_t policy_segment_bytes(int64_t max_bytes, int64_t total_bytes)
{
    return MAX(max_bytes, total_bytes / SEGMENTS_FEW);
}

static int64_t alive_bytes(const struct policy_seg *s)
{
    int64_t gone = MIN(s->gone, s->rows);

    return s->rows > 0 ? (int64_t)((double)s->bytes * (double)(s->rows - gone) / (double)s->rows)
                       : 0;
}

static int smaller_first(const void *pa, const void *pb, void *ctx)
{
    const struct policy_seg *segs = ctx;
    const struct policy_seg *a = &segs[*(const uint32_t *)pa], *b = &segs[*(const uint32_t *)pb];
    int64_t x = alive_bytes(a), y = alive_bytes(b);

    return x != y ? (x > y) - (x < y) : (a->id > b->id) - (a->id < b->id);
}

static int lower_first(const void *pa, const void *pb)
{
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;

    return (a > b) - (a < b);
}

size_t policy_compact_order(const struct policy_seg *segs, size_t n, uint32_t *order)
{
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        if (segs[i].free) {
            order[m++] = (uint32_t)i;
        }
    }
    qsort_r(order, m, sizeof *order, smaller_first, (void *)(uintptr_t)segs);
    return m;
}

static size_t still_free(const struct policy_seg *segs, uint32_t *order, size_t n)
{
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        if (segs[order[i]].free) {
            order[m++] = order[i];
        }
    }
    return m;
}

static size_t sources_max(const struct policy_compact *how)
{
    return how->max_sources ? MIN(how->max_sources, (size_t)POLICY_SOURCES_MAX)
                            : (size_t)POLICY_SOURCES_MAX;
}

/* How many of the smallest are merged; 0: none. */
static size_t merge(const struct policy_seg *segs, const uint32_t *order, size_t n,
                    const struct policy_compact *how)
{
    int64_t sum = 0, all = 0, rows = 0;
    size_t best = 0;

    for (size_t k = 0; k < MIN(n, sources_max(how)); k++) {
        int64_t largest = alive_bytes(&segs[order[k]]);
        sum += largest;
        rows += segs[order[k]].rows; /* all of them: what is gone is an estimate */
        all += segs[order[k]].bytes;
        if ((sum > how->max_bytes || all > ALL_MAX * how->max_bytes || rows > POLICY_ROWS_MAX) &&
            k > 0) {
            break;
        }
        if (k > 0 && (how->forced || (double)sum >= MERGE_GROWTH * (double)largest ||
                      (sum >= how->max_bytes - how->max_bytes / FULL_OF &&
                       (double)sum >= FULL_GROWTH * (double)largest))) {
            best = k + 1;
        }
    }
    return best;
}

size_t policy_compact_next(const struct policy_seg *segs, uint32_t *order, size_t *n,
                           const struct policy_compact *how, uint32_t *ret_picked)
{
    size_t m = *n = still_free(segs, order, *n), k = 0;

    for (size_t i = 0; i < m && k < sources_max(how); i++) {
        if (segs[order[i]].expired) {
            ret_picked[k++] = order[i];
        }
    }
    if (k == 0 && !how->no_merge) {
        k = merge(segs, order, m, how);
        for (size_t i = 0; i < k; i++) {
            ret_picked[i] = order[i];
        }
    }
    for (size_t i = 0; i < m && k == 0; i++) {
        const struct policy_seg *s = &segs[order[i]];
        if (s->gone > 0 && (how->forced || s->gone >= s->rows / GONE_OF)) {
            ret_picked[k++] = order[i];
        }
    }
    for (size_t i = 0; i < m && k == 0 && how->forced && !how->no_merge; i++) {
        const struct policy_seg *s = &segs[order[i]];
        if (s->unordered && s->rows >= ORDER_ROWS_MIN) {
            ret_picked[k++] = order[i];
        }
    }
    qsort(ret_picked, k, sizeof *ret_picked, lower_first);
    return k;
}
