/*
 * graph_walk.c - walking the graph from a query's entries to its neighbourhood.
 *
 * WHAT        Best-first search. The plain walk keeps one sorted array of candidates that are
 *             results and frontier at once, each with a bit that says whether it was expanded; it
 *             ends when all of the ef best are. Two candidates are expanded at a time: since the
 *             walk ends only when everything in the pool is expanded, the second would have come
 *             anyway, and the misses of both overlap. The links of the next two are fetched
 *             meanwhile. A step has two halves, before and after its codes have come, so that the
 *             walks of several queries can take turns (struct graph_steps).
 *             The wide walk serves many results, filters and ranges: results and frontier are two
 *             heaps, nodes that may not be results still lead on.
 * INVARIANTS  s->visited is all zero between walks. No node number from a file is used before it
 *             was compared with n: unused slots end a list, and so does a damaged one.
 * THREADS     The graph is only read; the scratch belongs to the caller.
 * WHY         A bitmap cleared by the list of nodes visited costs a few lines per search and stays
 *             in the second-level cache up to some million nodes; epochs take eight or sixteen
 *             times its space.
 *             Prefetches ask for the second-level cache: those for the first hold its few miss
 *             buffers, and the walk waits. On Zen 4 that is 26 us instead of 36 at ef 16, 49 instead
 *             of 75 at ef 60 (wordnet384).
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/graph/graph_int.h"
#include "index/graph/graph_pool.h"
#include "simd/simd.h"

/* Candidates expanded together. */
#define BEAM 2
/* Lines of a code fetched ahead; the rest follows in the hardware's stream. */
#define CODE_LINES_MAX 8
/* Supers and clusters looked into for entries, and entries a walk starts from. */
#define ENTRY_SUPERS 3
#define ENTRY_CLUSTERS 2

/* ---- Scratch ---- */

void graph__scratch_free(struct graph_scratch *s)
{
    if (s) {
        mem_free(s->visited);
        mem_free(s->seen);
        mem_free(s->ids);
        mem_free(s->keys);
        mem_free(s->dist);
        mem_free(s->cover);
        mem_free(s->pick);
        mem_free(s->pool);
        mem_free(s->heap);
        mem_free(s->rows);
        mem_free(s->pq);
        mem_free(s->bit_pq);
        mem_free(s);
    }
}

static int scratch_new(const struct graph *g, struct graph_scratch **ret_s, struct status *st)
{
    int rc = 0;
    struct graph_scratch *s = xalloc(sizeof *s);
    size_t pq = ROUND_UP(codec_query_bytes(g->codec), 64), bits = 0;
    s->nwords = bits_words(g->n);
    s->seen_cap = g->n / 32 + 1024;
    s->visited = alloc_try_zero(s->nwords * 8);
    s->seen = alloc_try(s->seen_cap * 4);
    s->pq = alloc_try_aligned(64, pq);
    if (g->bit_codec) {
        bits = ROUND_UP(codec_query_bytes(g->bit_codec), (size_t)64);
        s->bit_pq = alloc_try_aligned(64, bits);
    }
    if (!s->visited || !s->seen || !s->pq || (bits && !s->bit_pq)) {
        FAIL(st, ST_NO_MEMORY, "no memory for the scratch of a search over %u nodes", g->n);
    }
    s->bytes = s->nwords * 8 + s->seen_cap * 4 + pq + bits + sizeof *s;
    *ret_s = TAKE(s);
out:
    graph__scratch_free(s);
    return rc;
}

/* Nodes of one step: neighbours of a beam, or all there is to look at for entries. */
static size_t batch_room(const struct graph *g)
{
    size_t clusters = 0, pivots = 0;
    for (uint32_t i = 0; i < g->nsupers; i++) {
        clusters = MAX(clusters, (size_t)g->super_first[i + 1] - g->super_first[i]);
    }
    for (uint32_t i = 0; i < g->nclusters; i++) {
        pivots = MAX(pivots, (size_t)g->pivot_first[i + 1] - g->pivot_first[i]);
    }
    const size_t entries = MAX(clusters * ENTRY_SUPERS, pivots * ENTRY_CLUSTERS);
    const size_t beam = MAX((size_t)BEAM * g->degree, (size_t)g->nsupers);
    return MAX(entries, beam);
}

static int scratch_room(const struct graph *g, struct graph_scratch *s, size_t ef,
                        struct status *st)
{
    if (s->pool && ef <= s->pool_cap) {
        return 0;
    }
    size_t cap = MAX(ROUND_UP(ef, 64), (size_t)256);
    s->bytes -= s->pool_cap * 12 + s->batch_cap * 20;
    s->pool_cap = cap;
    s->batch_cap = MAX(cap, ROUND_UP(batch_room(g), 64));
    s->bytes += s->pool_cap * 12 + s->batch_cap * 20;
    mem_free(s->pool);
    mem_free(s->rows);
    mem_free(s->ids);
    mem_free(s->keys);
    mem_free(s->dist);
    mem_free(s->cover);
    mem_free(s->pick);
    s->pool = alloc_try_aligned(64, s->pool_cap * sizeof *s->pool);
    s->rows = alloc_try(s->pool_cap * sizeof *s->rows);
    s->ids = alloc_try(s->batch_cap * sizeof *s->ids);
    s->keys = alloc_try(s->batch_cap * sizeof *s->keys);
    s->dist = alloc_try(s->batch_cap * sizeof *s->dist);
    s->cover = alloc_try(s->batch_cap * sizeof *s->cover);
    s->pick = alloc_try(s->batch_cap * sizeof *s->pick);
    if (!s->pool || !s->rows || !s->ids || !s->keys || !s->dist || !s->cover || !s->pick) {
        mem_free(s->pool);
        s->pool = NULL; /* the next search tries again */
        return st_fail(st, ST_NO_MEMORY, "no memory for %zu candidates of a search", ef);
    }
    return 0;
}

int graph__scratch_get(const struct graph *g, size_t ef, struct graph_scratch **ret_s,
                       struct status *st)
{
    struct graph *mine = (struct graph *)(uintptr_t)g; /* the pool is the one thing that changes */
    struct graph_scratch *s = scratch_take(&mine->scratch);
    int rc = 0;
    if (!s) {
        TRY(scratch_new(g, &s, st));
        atomic_fetch_add_explicit(&mine->scratch_bytes, s->bytes, memory_order_relaxed);
    }
    size_t before = s->bytes;
    rc = scratch_room(g, s, ef, st);
    atomic_fetch_add_explicit(&mine->scratch_bytes, s->bytes - before, memory_order_relaxed);
    if (rc != 0) {
        graph__scratch_put(g, s);
        goto out;
    }
    *ret_s = s;
out:
    return rc;
}

int graph__heap_room(const struct graph *g, struct graph_scratch *s, size_t n, struct status *st)
{
    struct graph *mine = (struct graph *)(uintptr_t)g;
    size_t cap = s->heap_cap ? s->heap_cap : 1024;
    while (cap < n) {
        cap *= 2;
    }
    if (cap > s->heap_cap) {
        const size_t more = (cap - s->heap_cap) * sizeof *s->heap;
        uint64_t *heap = realloc_try(s->heap, cap * sizeof *heap);
        if (!heap) {
            return st_fail(st, ST_NO_MEMORY, "no memory for %zu nodes that a search has found", cap);
        }
        s->bytes += more;
        atomic_fetch_add_explicit(&mine->scratch_bytes, more, memory_order_relaxed);
        s->heap = heap;
        s->heap_cap = cap;
    }
    return 0;
}

void graph__scratch_put(const struct graph *g, struct graph_scratch *s)
{
    struct graph *mine = (struct graph *)(uintptr_t)g;
    if (s && !scratch_give(&mine->scratch, s)) {
        atomic_fetch_sub_explicit(&mine->scratch_bytes, s->bytes, memory_order_relaxed);
        graph__scratch_free(s);
    }
}

void graph__unvisit(struct graph_scratch *s)
{
    if (s->nseen > MIN(s->seen_cap, s->nwords / 4)) { /* so many stores take longer than all */
        memset(s->visited, 0, s->nwords * 8);
    } else {
        for (size_t i = 0; i < s->nseen; i++) {
            s->visited[s->seen[i] >> 6] = 0;
        }
    }
    s->nseen = 0;
}

/* ---- Entries ---- */

/* Positions of the want smallest of keys[0 .. n) into best, in no order that matters; ties and NaN
 * go to the earlier. Returns their number. */
static size_t smallest(const float *keys, size_t n, size_t want, uint32_t *best)
{
    size_t m = 0;
    float key[8];
    for (size_t i = 0; i < n; i++) {
        float k = keys[i];
        if (m == want && !(k < key[m - 1])) {
            continue;
        }
        size_t at = m < want ? m++ : m - 1;
        for (; at > 0 && k < key[at - 1]; at--) {
            key[at] = key[at - 1];
            best[at] = best[at - 1];
        }
        key[at] = k;
        best[at] = (uint32_t)i;
    }
    return m;
}

size_t graph__entries(const struct graph *g, struct graph_scratch *s, struct index_counters *c)
{
    uint32_t super[ENTRY_SUPERS], pick[ENTRY_CLUSTERS];
    size_t nsuper = 1, n = 0, looked = 0;
    super[0] = 0;
    if (g->nsupers > ENTRY_SUPERS) {
        codec_rows(g->codec, s->pq, g->super_codes, g->stride, g->nsupers, s->keys);
        nsuper = smallest(s->keys, g->nsupers, ENTRY_SUPERS, super);
        looked += g->nsupers;
    } else {
        nsuper = g->nsupers;
        for (uint32_t i = 0; i < nsuper; i++) {
            super[i] = i;
        }
    }
    for (size_t i = 0; i < nsuper; i++) {
        uint32_t first = g->super_first[super[i]], end = g->super_first[super[i] + 1];
        codec_rows(g->codec, s->pq, g->cluster_codes + first * g->stride, g->stride, end - first,
                   s->keys + n);
        for (uint32_t k = first; k < end; k++) {
            s->pick[n++] = k;
        }
    }
    looked += n;
    size_t npick = smallest(s->keys, n, ENTRY_CLUSTERS, pick);
    for (size_t i = 0; i < npick; i++) {
        pick[i] = s->pick[pick[i]];
    }
    n = 0;
    for (size_t i = 0; i < npick; i++) {
        uint32_t first = g->pivot_first[pick[i]], end = g->pivot_first[pick[i] + 1];
        codec_rows(g->codec, s->pq, g->pivot_codes + first * g->stride, g->stride, end - first,
                   s->keys + n);
        for (uint32_t k = first; k < end; k++) {
            s->ids[n++] = g->pivot_node[k];
        }
    }
    looked += n;
    c->distances += looked;
    c->bytes += looked * g->stride;
    return n;
}

/* ---- The plain walk ---- */

static inline void fetch_code(const uint8_t *code, size_t lines)
{
    for (size_t l = 0; l < lines; l++) {
        __builtin_prefetch(code + l * CACHE_LINE, 0, 2);
    }
}

static inline void fetch_links(const struct graph *g, uint32_t node)
{
    const uint32_t *links = graph_links(g, node);
    for (size_t i = 0; i < g->degree; i += CACHE_LINE / sizeof *links) {
        __builtin_prefetch(links + i, 0, 2);
    }
}

/* Appends the unvisited neighbours of node to s->ids and fetches their codes. */
static inline size_t gather(const struct graph *g, struct graph_scratch *s, uint32_t node, size_t n,
                            size_t lines)
{
    const uint32_t *links = graph_links(g, node);
    uint32_t *ids = s->ids;
    size_t before = n;
    for (size_t i = 0; i < g->degree; i++) {
        uint32_t id = links[i];
        if (id >= g->n) {
            break;
        }
        uint64_t *w = &s->visited[id >> 6], old = *w, bit = UINT64_C(1) << (id & 63);
        *w = old | bit;
        ids[n] = id;
        n += !(old & bit);
    }
    for (size_t i = before; i < n; i++) {
        fetch_code(graph_code(g, ids[i]), lines);
    }
    return n;
}

static inline void remember(struct graph_scratch *s, size_t n)
{
    if (s->nseen + n <= s->seen_cap) {
        memcpy(s->seen + s->nseen, s->ids, n * sizeof *s->ids);
        s->nseen += n;
    } else {
        s->nseen = s->seen_cap + 1;
    }
}

size_t graph__walk(const struct graph *g, struct graph_scratch *s, size_t nentries, size_t ef,
                   struct index_counters *c)
{
    return graph__walk_past(g, s, nentries, ef, ef, c);
}

/* Lines of a code that are fetched. */
static inline size_t code_lines(const struct graph *g)
{
    return MIN((g->stride + CACHE_LINE - 1) / CACHE_LINE, (size_t)CODE_LINES_MAX);
}

static inline void walk_enter(const struct graph *g, struct graph_scratch *s, size_t nentries,
                              struct graph_steps *w)
{
    for (size_t i = 0; i < nentries; i++) {
        const float tail = w->n < w->keep ? INFINITY : graph_cand_key(s->pool[w->n - 1]);
        if (s->keys[i] <= tail && s->ids[i] < g->n && graph_visit(s, s->ids[i])) {
            pool_insert(s->pool, &w->n, w->keep, graph_cand(s->keys[i], s->ids[i]));
        }
    }
    for (size_t i = 0; i < MIN(w->n, (size_t)BEAM); i++) {
        fetch_links(g, graph_cand_node(s->pool[i]));
    }
}

/* Fetches the links of the next to be expanded, from position next on. */
static inline void fetch_next(const struct graph *g, const struct graph_scratch *s,
                              const struct graph_steps *w, size_t next)
{
    const size_t end = MIN(w->n, w->ef);
    for (size_t ahead = 0; next < end && ahead < BEAM; next++) {
        if (!(s->pool[next] & 1)) {
            fetch_links(g, graph_cand_node(s->pool[next]));
            ahead++;
        }
    }
}

/* First half of a step: expands a beam and asks for its neighbours' codes. */
static inline void step_gather(const struct graph *g, struct graph_scratch *s,
                               struct graph_steps *w, size_t lines)
{
    const size_t end = MIN(w->n, w->ef);
    uint64_t *pool = s->pool;
    size_t m = 0, next = w->cursor;
    w->tail = w->n < w->keep ? INFINITY : graph_cand_key(pool[w->n - 1]);
    for (int b = 0; b < BEAM; b++) {
        while (next < end && (pool[next] & 1)) {
            next++;
        }
        if (next == end) {
            break;
        }
        pool[next] |= 1;
        w->hops++;
        m = gather(g, s, graph_cand_node(pool[next]), m, lines);
    }
    w->cursor = next;
    w->m = m;
}

/* Second half: compares the codes. */
static inline void step_compare(const struct graph *g, struct graph_scratch *s,
                                struct graph_steps *w, const struct simd_ops *ops)
{
    const size_t m = w->m;
    size_t cursor = w->cursor;
    codec_ids(g->codec, s->pq, g->codes, g->stride, s->ids, m, s->keys);
    w->distances += m;
    remember(s, m);
    size_t npick = ops->select_le(s->keys, m, w->tail, s->pick);
    for (size_t i = 0; i < npick; i++) {
        uint32_t at = s->pick[i];
        size_t where = pool_insert(s->pool, &w->n, w->keep, graph_cand(s->keys[at], s->ids[at]));
        cursor = where < cursor ? where : cursor;
    }
    w->cursor = cursor;
}

static inline void walk_count(const struct graph *g, const struct graph_steps *w,
                              struct index_counters *c)
{
    c->distances += w->distances;
    c->hops += w->hops;
    c->bytes += w->distances * g->stride + w->hops * g->degree * sizeof *g->links;
}

size_t graph__walk_past(const struct graph *g, struct graph_scratch *s, size_t nentries, size_t ef,
                        size_t keep, struct index_counters *c)
{
    const struct simd_ops *ops = simd_ops();
    const size_t lines = code_lines(g);
    struct graph_steps w = { .ef = ef, .keep = keep };
    walk_enter(g, s, nentries, &w);
    while (w.cursor < MIN(w.n, ef)) {
        step_gather(g, s, &w, lines);
        fetch_next(g, s, &w, w.cursor);
        step_compare(g, s, &w, ops);
    }
    graph__unvisit(s);
    walk_count(g, &w, c);
    return w.n;
}

void graph__walk_begin(const struct graph *g, struct graph_scratch *s, size_t nentries, size_t ef,
                       size_t keep, struct graph_steps *w)
{
    *w = (struct graph_steps){ .ef = ef, .keep = keep };
    walk_enter(g, s, nentries, w);
}

bool graph__walk_turn(const struct graph *g, struct graph_scratch *s, struct graph_steps *w)
{
    if (w->asked) {
        step_compare(g, s, w, simd_ops());
        w->asked = false;
        while (w->cursor < MIN(w->n, w->ef) && (s->pool[w->cursor] & 1)) {
            w->cursor++;
        }
        if (w->cursor == MIN(w->n, w->ef)) {
            return false;
        }
        fetch_next(g, s, w, w->cursor);
    } else {
        step_gather(g, s, w, code_lines(g));
        w->asked = true;
    }
    return true;
}

void graph__walk_end(const struct graph *g, struct graph_scratch *s, const struct graph_steps *w,
                     struct index_counters *c)
{
    if (w->asked) {
        remember(s, w->m);
    }
    graph__unvisit(s);
    walk_count(g, w, c);
}

/* ---- The wide walk ---- */

static inline void heap_up(uint64_t *h, size_t i, uint64_t x, uint64_t flip)
{
    for (; i > 0 && (x ^ flip) < (h[(i - 1) / 2] ^ flip); i = (i - 1) / 2) {
        h[i] = h[(i - 1) / 2];
    }
    h[i] = x;
}

static inline void heap_down(uint64_t *h, size_t n, uint64_t x, uint64_t flip)
{
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && (h[child + 1] ^ flip) < (h[child] ^ flip);
        if ((x ^ flip) <= (h[child] ^ flip)) {
            break;
        }
        h[i] = h[child];
    }
    h[i] = x;
}

/* Both heaps hold candidates; flip orders them: 0 smallest first, all ones largest first. */
#define NEAREST_FIRST UINT64_C(0)
#define FARTHEST_FIRST UINT64_MAX

struct wide {
    const struct graph *g;
    struct graph_scratch *s;
    const struct graph_wide *how;
    size_t nresults, nfrontier;
};

static int frontier_push(struct wide *w, uint64_t x, struct status *st)
{
    struct graph_scratch *s = w->s;
    int rc = 0;
    if (w->nfrontier == s->heap_cap) {
        TRY(graph__heap_room(w->g, s, s->heap_cap + 1, st));
    }
    heap_up(s->heap, w->nfrontier++, x, NEAREST_FIRST);
out:
    return rc;
}

static float wide_bound(const struct wide *w)
{
    return w->nresults < w->how->ef ? INFINITY : graph_cand_key(w->s->pool[0]);
}

/* A node just measured: into the frontier, and into the results where it may be one. */
static int wide_take(struct wide *w, float key, uint32_t node, struct status *st)
{
    uint64_t x = graph_cand(key, node);
    int rc = frontier_push(w, x, st);
    if (key < w->how->low_key ||
        (w->how->allow && !bit_get(w->how->allow, graph_row(w->g, node)))) {
        return rc;
    }
    if (w->nresults < w->how->ef) {
        heap_up(w->s->pool, w->nresults++, x, FARTHEST_FIRST);
    } else if (x < w->s->pool[0]) {
        heap_down(w->s->pool, w->nresults, x, FARTHEST_FIRST);
    }
    return rc;
}

/* A heap, farthest first, becomes ascending. */
static void unheap(uint64_t *h, size_t n)
{
    while (n > 1) {
        uint64_t last = h[--n];
        h[n] = h[0];
        heap_down(h, n, last, FARTHEST_FIRST);
    }
}

void graph__sort(uint64_t *cand, size_t n)
{
    if (n <= 64) {
        for (size_t i = 1; i < n; i++) {
            uint64_t x = cand[i];
            size_t at = i;
            for (; at > 0 && x < cand[at - 1]; at--) {
                cand[at] = cand[at - 1];
            }
            cand[at] = x;
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        heap_up(cand, i, cand[i], FARTHEST_FIRST);
    }
    unheap(cand, n);
}

int graph__walk_wide(const struct graph *g, struct graph_scratch *s, size_t nentries,
                     const struct graph_wide *how, size_t *ret_n, struct index_counters *c,
                     struct status *st)
{
    int rc = 0;
    const struct simd_ops *ops = simd_ops();
    const size_t lines = MIN((g->stride + CACHE_LINE - 1) / CACHE_LINE, (size_t)CODE_LINES_MAX);
    struct wide w = { .g = g, .s = s, .how = how };
    size_t distances = 0, hops = 0, misses = 0;
    float best = INFINITY;
    for (size_t i = 0; i < nentries; i++) {
        if (s->ids[i] < g->n && graph_visit(s, s->ids[i]) && s->keys[i] == s->keys[i]) {
            TRY(wide_take(&w, s->keys[i], s->ids[i], st));
        }
    }
    while (w.nfrontier > 0) {
        uint64_t top = s->heap[0];
        float key = graph_cand_key(top);
        misses = key <= how->radius_key || key < best ? 0 : misses + 1;
        best = MIN(best, key);
        if (key > wide_bound(&w) || misses > how->miss_max) {
            break;
        }
        uint64_t last = s->heap[--w.nfrontier];
        heap_down(s->heap, w.nfrontier, last, NEAREST_FIRST);
        size_t m = gather(g, s, graph_cand_node(top), 0, lines);
        if (w.nfrontier) {
            fetch_links(g, graph_cand_node(s->heap[0]));
        }
        codec_ids(g->codec, s->pq, g->codes, g->stride, s->ids, m, s->keys);
        distances += m;
        remember(s, m);
        size_t npick = ops->select_le(s->keys, m, wide_bound(&w), s->pick);
        for (size_t i = 0; i < npick; i++) {
            TRY(wide_take(&w, s->keys[s->pick[i]], s->ids[s->pick[i]], st));
        }
        if ((++hops & 63) == 0 && how->check) {
            TRY(how->check(how->check_arg, st));
        }
    }
    unheap(s->pool, w.nresults);
    *ret_n = w.nresults;
out:
    graph__unvisit(s);
    c->distances += distances;
    c->hops += hops;
    c->bytes += distances * g->stride + hops * g->degree * sizeof *g->links;
    return rc;
}
