/*
 * ivf_order.c - which lists to look at, nearest centroid first.
 *
 * Centroids are scanned as bytes, 16 at a time; the nearest by that are measured again as f32, and
 * some more than asked for, so that what the bytes misjudge at the edge is put right. Of the rest
 * only what is asked for later is ordered.
 */
#include <math.h>
#include <string.h>

#include "index/ivf/ivf_int.h"
#include "simd/simd.h"

static void sift(uint64_t *v, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && v[child] < v[child + 1];
        if (v[i] >= v[child]) {
            return;
        }
        uint64_t t = v[i];
        v[i] = v[child];
        v[child] = t;
    }
}

static void heap_sort(uint64_t *v, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) {
        sift(v, i, n);
    }
    for (size_t end = n; end-- > 1;) {
        uint64_t t = v[0];
        v[0] = v[end];
        v[end] = t;
        sift(v, 0, end);
    }
}

static void insertion_sort(uint64_t *v, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        uint64_t x = v[i];
        size_t j = i;
        for (; j > 0 && x < v[j - 1]; j--) {
            v[j] = v[j - 1];
        }
        v[j] = x;
    }
}

/* Hoare's around the middle of three, put in front: afterwards [0, ret) are not above [ret, n),
 * 0 < ret < n; n >= 3. */
static size_t partition(uint64_t *v, size_t n)
{
    size_t a = 0, b = n / 2, c = n - 1, i = 0, j = n - 1;
    if (v[b] < v[a]) {
        a = b;
        b = 0;
    }
    size_t mid = v[c] < v[a] ? a : v[c] < v[b] ? c : b;
    uint64_t pivot = v[mid];
    v[mid] = v[0];
    v[0] = pivot;
    for (;;) {
        while (v[i] < pivot) {
            i++;
        }
        while (v[j] > pivot) {
            j--;
        }
        if (i >= j) {
            return j + 1;
        }
        uint64_t t = v[i];
        v[i++] = v[j];
        v[j--] = t;
    }
}

static int depth_of(size_t n)
{
    return 2 * (64 - __builtin_clzll(n | 1));
}

static void sort_part(uint64_t *v, size_t n, int depth)
{
    while (n > 24) {
        if (depth-- == 0) {
            heap_sort(v, n);
            return;
        }
        size_t cut = partition(v, n);
        sort_part(v, cut, depth);
        v += cut;
        n -= cut;
    }
    insertion_sort(v, n);
}

void ivf_sort(uint64_t *v, size_t n)
{
    sort_part(v, n, depth_of(n));
}

void ivf_select(uint64_t *v, size_t all, size_t n)
{
    int depth = depth_of(all);
    while (all > 24 && n > 0 && n < all) {
        if (depth-- == 0) {
            heap_sort(v, all);
            return;
        }
        size_t cut = partition(v, all);
        if (n <= cut) {
            all = cut;
        } else {
            v += cut;
            all -= cut;
            n -= cut;
        }
    }
    insertion_sort(v, n < all ? all : 0);
}

/* Exact keys for n entries. */
static void measure(const struct ivf *ivf, const float *q, uint64_t *key, uint32_t n,
                    struct ivf_order *o)
{
    const struct simd_ops *ops = simd_ops();
    bool l2 = ivf->coarse.metric == METRIC_L2;
    size_t dim = ivf->coarse.dim;
    for (uint32_t i = 0; i < n; i++) {
        o->pick[i] = (uint32_t)key[i];
    }
    (l2 ? ops->l2 : ops->ip)[SIMD_F32].ids(q, ivf->centroids, dim * sizeof(float), o->pick, n, dim,
                                           o->exact);
    for (uint32_t i = 0; i < n; i++) {
        float d = l2 ? o->exact[i] : -o->exact[i];
        key[i] = ivf_sort_key(isnan(d) ? INFINITY : d, o->pick[i]);
    }
}

/* Of the left entries after those in place, measures the some nearest and sorts them; want are in
 * place then. */
static void finish_front(const struct ivf *ivf, const struct ivf_query_code *coarse, uint32_t want,
                         uint32_t left, uint32_t some, struct ivf_order *o)
{
    uint64_t *rest = o->key + o->sorted;
    ivf_select(rest, left, some);
    measure(ivf, coarse->q, rest, some, o);
    ivf_sort(rest, some);
    o->sorted = want;
}

/* The want-th smallest of n keys or a little above: lists are looked at in groups, several times as
 * many as wanted, and no more than want - 1 lists below the want-th smallest group minimum can be
 * missed by those groups. */
static float cut_key(const float *key, uint32_t n, uint32_t want, uint64_t *tmp)
{
    uint32_t group = n / (4 * want), groups = 0;
    for (uint32_t i = 0; i < n; i += group) {
        float least = INFINITY;
        for (uint32_t l = i; l < MIN(i + group, n); l++) {
            least = key[l] < least ? key[l] : least;
        }
        tmp[groups++] = ivf_sort_key(least, i);
    }
    ivf_select(tmp, groups, want);
    uint64_t most = 0;
    for (uint32_t g = 0; g < want; g++) {
        most = tmp[g] > most ? tmp[g] : most;
    }
    return ivf_sort_float(most);
}

void ivf_order_start(const struct ivf *ivf, struct ivf_query_code *coarse, uint32_t want,
                     struct ivf_order *o)
{
    const struct ivf_layout *lay = &ivf->coarse.lay;
    struct simd_blocks b = { ivf->coarse_blocks, lay->block_bytes,
                             ivf_block_count(lay, ivf->nlist), lay->nsteps };
    uint32_t n = ivf->nlist, some = MIN(want + want / 8 + 4, n);
    float *key = o->exact;
    o->n = n;
    o->sorted = 0;
    simd_scan()->dot8(&b, coarse->hi, coarse->lo, o->sum);
    for (uint32_t i = 0; i < n; i += SCAN_ROWS) {
        const uint8_t *block = b.base + i / SCAN_ROWS * lay->block_bytes;
        float add[SCAN_ROWS] = { 0 }, err[SCAN_ROWS];
        if (lay->add_at != SIMD_NO_FIELD) {
            memcpy(add, block + lay->add_at, sizeof add);
        }
        memcpy(err, block + lay->err_at, sizeof err);
        /* A far centroid that the bytes cannot hold is measured rather than missed: its error
         * counts in its favour. */
        float w = coarse->margin == IVF_LINEAR ? coarse->w : 0;
        for (uint32_t r = 0; r < MIN(n - i, (uint32_t)SCAN_ROWS); r++) {
            float est = coarse->c + coarse->b + add[r] + coarse->a * (float)o->sum[i + r];
            key[i + r] = err[r] < INFINITY ? est - w * err[r] : -INFINITY;
        }
    }
    if (n < 8 * some) {
        for (uint32_t i = 0; i < n; i++) {
            o->key[i] = ivf_sort_key(key[i], i);
        }
        ivf_order_more(ivf, coarse, want, o);
        return;
    }
    /* Few are wanted: those under the cut go in front, in one pass. */
    float most = cut_key(key, n, some, o->key);
    uint32_t front = 0, back = n;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t v = ivf_sort_key(key[i], i);
        bool near = v <= ivf_sort_key(most, UINT32_MAX);
        o->key[near ? front : back - 1] = v;
        front += near;
        back -= !near;
    }
    finish_front(ivf, coarse, want, front, some, o);
}

void ivf_order_more(const struct ivf *ivf, const struct ivf_query_code *coarse, uint32_t want,
                    struct ivf_order *o)
{
    want = MIN(want, o->n);
    if (want <= o->sorted) {
        return;
    }
    uint32_t left = o->n - o->sorted, n = want - o->sorted;
    finish_front(ivf, coarse, want, left, MIN(n + n / 8 + 4, left), o);
}
