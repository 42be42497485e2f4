/*
 * diskann_search.c - walks by codes in memory, exact rows and links from the disk.
 *
 * WHAT        The pool holds the search_list nodes best by code, each taken or not. Up to `beam`
 *             reads are under way per query; whenever one comes back its unit is worked off and the
 *             best nodes not taken are asked for, so no read waits for the slowest of a round. Work
 *             on a unit is: exact scores of all its rows, and the links of those that are in the
 *             pool or good enough for it. So a unit is never read twice for one query.
 * FEW READS   Four things keep them few; README.md has the figures.
 *             The walk starts near its end: all codes of the clusters around the query are compared
 *             first, which costs less than one read.
 *             Units hold near nodes.
 *             Hot nodes' records are in memory.
 *             The walk ends when no node can be expected to matter any more: the best one left is
 *             by code farther than the k-th exact result, by more than codes err (meta.slack; more
 *             where the list is long for its k, for who asks so wants the last percents).
 * FILTERS     Results are allowed rows. Where few are, the codes of all of them are compared and
 *             only the units of the best are read, links unused; otherwise the pool is larger by
 *             what the filter takes away.
 * SEVERAL     Queries of one call are walked LANES at a time over the same ring, so a disk that
 *             wants deep queues gets them.
 * INVARIANTS  A row is pushed once: with its unit, or, hot ones, when taken. Raw rows given at open
 *             are not touched.
 * MEMORY      Scratch is borrowed: a ring, buffers for SLOTS units, and per lane what a graph
 *             search needs and a bit per unit.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/diskann/diskann_int.h"
#include "simd/simd.h"

#define LANES 8
#define SLOTS 128
#define CHUNK 256
/* Nanoseconds, to choose how filters are met: a bit and a code looked at, a read not done. */
#define BIT_NS 1.2
#define CODE_NS 6.0
#define READ_NS 25000.0

struct lane {
    struct graph_scratch *s; /* pool: candidates, bit 0 set when taken */
    uint64_t *asked;         /* units */
    uint32_t *units;         /* asked for, in order, up to where clearing all bits is faster */
    uint32_t nunits, units_max;
    size_t npool, list; /* used, and most */
    size_t next;        /* all before are taken */
    uint32_t j, flying;
    bool busy, links;   /* links: follow them */
};

struct diskann_scratch {
    struct diskann_io *io;
    uint8_t *buffers; /* SLOTS units */
    struct lane lanes[LANES];
    struct lane *slot_lane[SLOTS];
    uint32_t slot_unit[SLOTS], free_slots[SLOTS], nfree;
    size_t bytes;
};

struct search {
    struct diskann *d;
    const struct index_query *q;
    struct topk *tk;
    struct index_counters *c;
    struct diskann_scratch *s;
    struct simd_dist kernel;
    uint32_t beam;
    size_t list;
    float slack;
    bool scan; /* filters: compare all allowed codes */
    float keys[DISKANN_PER_UNIT], scores[DISKANN_PER_UNIT]; /* of a unit */
    uint32_t ids[CHUNK]; /* nodes at work, their keys */
    float key[CHUNK];
};

struct simd_dist diskann__kernel(const struct index_rows *rows)
{
    const struct simd_ops *ops = simd_ops();
    return rows->metric == METRIC_L2   ? ops->l2[rows->type]
           : rows->metric == METRIC_IP ? ops->ip[rows->type]
                                       : ops->cos[rows->type];
}

/* ---- Scratch ---- */

void diskann__scratch_free(struct diskann_scratch *s)
{
    if (s) {
        diskann__io_free(s->io);
        mem_free(s->buffers);
        for (int i = 0; i < LANES; i++) {
            mem_free(s->lanes[i].asked);
            mem_free(s->lanes[i].units);
        }
        mem_free(s);
    }
}

static void free_all_slots(struct diskann_scratch *s)
{
    for (s->nfree = 0; s->nfree < SLOTS; s->nfree++) {
        s->free_slots[s->nfree] = s->nfree;
    }
}

static int scratch_new(struct diskann *d, struct diskann_scratch **ret, struct status *st)
{
    const uint32_t nunits = diskann_units(d->meta.n, d->meta.per_unit);
    const size_t words = bits_words(nunits) + 1;
    struct diskann_scratch *s = alloc_try_zero(sizeof *s);
    int rc = 0;
    if (!s) {
        FAIL(st, ST_NO_MEMORY, "no memory for a search");
    }
    TRY(diskann__io_new(d->fd, d->units, SLOTS, &s->io, st));
    s->buffers = alloc_try_aligned(DISKANN_BLOCK, SLOTS * (size_t)d->meta.unit);
    if (!s->buffers) {
        FAIL(st, ST_NO_MEMORY, "no memory for %d reads of %u bytes", SLOTS, d->meta.unit);
    }
    for (int i = 0; i < LANES; i++) {
        s->lanes[i].asked = alloc_try_zero(words * sizeof(uint64_t));
        s->lanes[i].units = alloc_try(words * sizeof(uint32_t));
        s->lanes[i].units_max = (uint32_t)words;
        if (!s->lanes[i].asked || !s->lanes[i].units) {
            FAIL(st, ST_NO_MEMORY, "no memory for a search over %u units", nunits);
        }
    }
    free_all_slots(s);
    s->bytes = sizeof *s + SLOTS * (size_t)d->meta.unit + LANES * words * 12;
    atomic_fetch_add_explicit(&d->scratch_bytes, s->bytes, memory_order_relaxed);
    *ret = TAKE(s);
out:
    diskann__scratch_free(s);
    return rc;
}

/* ---- The pool ---- */

/* Into the sorted pool, when it is among the best. */
static void insert(struct lane *l, uint64_t cand)
{
    uint64_t *pool = l->s->pool;
    size_t lo = 0, hi = l->npool;
    if (hi == l->list && cand >= pool[hi - 1]) {
        return;
    }
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (pool[mid] < cand) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    size_t end = l->npool < l->list ? l->npool++ : l->npool - 1;
    memmove(pool + lo + 1, pool + lo, (end - lo) * sizeof *pool);
    pool[lo] = cand;
    l->next = MIN(l->next, lo);
}

/* Marks a node taken that came into the pool with this key; false when it is not in it (any
 * more). */
static bool take(struct lane *l, uint64_t cand)
{
    size_t lo = 0, hi = l->npool;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (l->s->pool[mid] < cand) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (lo == l->npool || (l->s->pool[lo] | 1) != (cand | 1)) {
        return false;
    }
    l->s->pool[lo] |= 1;
    return true;
}

static void codes_of(const struct search *x, const struct lane *l, const uint32_t *ids, size_t n,
                     float *keys)
{
    codec_ids(x->d->g.codec, l->s->pq, x->d->g.codes, x->d->g.stride, ids, n, keys);
    x->c->distances += n;
    x->c->bytes += n * x->d->g.stride;
}

/* New nodes among ids[0 .. n), already in x->ids, compared and offered to the pool. */
static void offer(struct search *x, struct lane *l, size_t n)
{
    codes_of(x, l, x->ids, n, x->key);
    for (size_t i = 0; i < n; i++) {
        if (x->key[i] == x->key[i]) {
            insert(l, graph_cand(x->key[i], x->ids[i]));
        }
    }
}

/* ---- Seeds ---- */

/* All nodes of one cluster. */
static void seed_cluster(struct search *x, struct lane *l, uint32_t cluster)
{
    const uint32_t end = x->d->g.cluster_first[cluster + 1];
    size_t n = 0;
    for (uint32_t node = x->d->g.cluster_first[cluster]; node < end; node++) {
        if (graph_visit(l->s, node)) {
            x->ids[n++] = node;
        }
        if (n == CHUNK || (node + 1 == end && n)) {
            offer(x, l, n);
            n = 0;
        }
    }
}

static uint32_t cluster_of(const struct graph *g, uint32_t node)
{
    uint32_t lo = 0, hi = g->nclusters;
    while (hi - lo > 1) {
        uint32_t mid = (lo + hi) / 2;
        if (g->cluster_first[mid] <= node) {
            lo = mid;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static void seed_near(struct search *x, struct lane *l)
{
    const struct graph *g = &x->d->g;
    uint32_t near[64];
    size_t n = graph__entries(g, l->s, x->c), nnear = 0;
    for (size_t i = 0; i < n && nnear < ARRAY_LEN(near); i++) { /* pivots come cluster by cluster */
        uint32_t cluster = cluster_of(g, l->s->ids[i]);
        if (nnear == 0 || near[nnear - 1] != cluster) {
            near[nnear++] = cluster;
        }
    }
    for (size_t i = 0; i < nnear; i++) {
        seed_cluster(x, l, near[i]);
    }
    x->c->lists += nnear;
}

/* All allowed nodes. */
static int seed_allowed(struct search *x, struct lane *l, struct status *st)
{
    const struct diskann *d = x->d;
    const uint64_t *allow = x->q->allow;
    size_t n = 0;
    int rc = 0;
    for (uint32_t node = 0; node < d->meta.n; node++) {
        if (!allow || bit_get(allow, graph_row(&d->g, node))) {
            x->ids[n++] = node;
        }
        if (n == CHUNK || (node + 1 == d->meta.n && n)) {
            offer(x, l, n);
            n = 0;
        }
        if (node % 65536 == 65535 && x->q->check) {
            TRY(x->q->check(x->q->check_arg, st));
        }
    }
out:
    return rc;
}

/* ---- Records ---- */

static void push_exact(struct search *x, const struct lane *l, uint32_t node, float score)
{
    const uint32_t row = graph_row(&x->d->g, node);
    if (!x->q->allow || bit_get(x->q->allow, row)) {
        topk_push(x->tk, l->j, score, x->q->row_base + row);
    }
}

static const void *query_of(const struct search *x, const struct lane *l)
{
    return (const uint8_t *)x->q->queries + l->j * x->q->query_stride;
}

/* What a record leads to. */
static void follow(struct search *x, struct lane *l, const uint8_t *record)
{
    const uint8_t *links = record + x->d->links_at;
    size_t n = 0;
    for (uint32_t k = 0; k < x->d->meta.degree; k++) {
        uint32_t to;
        memcpy(&to, links + k * sizeof to, sizeof to);
        if (to >= x->d->meta.n) {
            break;
        }
        if (graph_visit(l->s, to)) {
            x->ids[n++] = to;
        }
        if (n == CHUNK) {
            offer(x, l, n);
            n = 0;
        }
    }
    offer(x, l, n);
    x->c->hops++;
}

static void use_hot(struct search *x, struct lane *l, uint32_t node)
{
    const uint8_t *record = diskann_hot(x->d, node);
    float score;
    if (record) {
        x->kernel.rows(query_of(x, l), record, 0, 1, x->d->head.rows.dim, &score);
        push_exact(x, l, node, score);
        x->c->exact++;
        x->c->bytes += x->d->meta.record;
        if (l->links) {
            follow(x, l, record);
        }
    }
}

/* A unit that came back. */
static void use_unit(struct search *x, struct lane *l, uint32_t unit, const uint8_t *records)
{
    const struct diskann_meta *m = &x->d->meta;
    const uint32_t first = unit * m->per_unit, n = MIN(m->per_unit, m->n - first);
    x->kernel.rows(query_of(x, l), records, m->record, n, x->d->head.rows.dim, x->scores);
    for (uint32_t i = 0; i < n; i++) {
        if (!diskann_is_hot(x->d, first + i)) {
            push_exact(x, l, first + i, x->scores[i]);
        }
        x->ids[i] = first + i;
    }
    x->c->exact += n;
    x->c->bytes += m->unit;
    if (!l->links) {
        return;
    }
    codes_of(x, l, x->ids, n, x->keys);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t node = first + i;
        if (diskann_is_hot(x->d, node) || x->keys[i] != x->keys[i]) {
            continue;
        }
        const uint64_t cand = graph_cand(x->keys[i], node);
        if (graph_visit(l->s, node)) {
            insert(l, cand);
        }
        if (take(l, cand)) {
            follow(x, l, records + i * m->record);
        }
    }
}

/* ---- A query ---- */

/* Whether reading for this candidate can still change the result. */
static bool may_matter(const struct search *x, const struct lane *l, uint64_t cand)
{
    const float bound = x->tk->lists[l->j].bound_key;
    return !(graph_cand_key(cand) - x->slack > bound);
}

/* Asks for units until `beam` are under way or nothing is left to ask for. */
static void fill(struct search *x, struct lane *l)
{
    struct diskann_scratch *s = x->s;
    const struct diskann *d = x->d;
    while (l->flying < x->beam && s->nfree > 0) {
        while (l->next < l->npool && (l->s->pool[l->next] & 1)) {
            l->next++;
        }
        if (l->next == l->npool || !may_matter(x, l, l->s->pool[l->next])) {
            return;
        }
        const uint32_t node = graph_cand_node(l->s->pool[l->next]);
        l->s->pool[l->next++] |= 1;
        if (diskann_is_hot(d, node)) {
            use_hot(x, l, node);
            continue;
        }
        const uint32_t unit = node / d->meta.per_unit;
        if (bit_get(l->asked, unit)) { /* its unit is on the way */
            continue;
        }
        const uint32_t slot = s->free_slots[--s->nfree];
        bit_set(l->asked, unit);
        if (l->nunits < l->units_max) {
            l->units[l->nunits] = unit;
        }
        l->nunits++;
        s->slot_lane[slot] = l;
        s->slot_unit[slot] = unit;
        l->flying++;
        x->c->reads++;
        const uint64_t units_at = d->fd >= 0 ? d->units_at : 0;
        diskann__io_read(s->io, slot, units_at + (uint64_t)unit * d->meta.unit,
                         s->buffers + (size_t)slot * d->meta.unit, d->meta.unit);
    }
}

static int start(struct search *x, struct lane *l, uint32_t j, struct status *st)
{
    int rc;
    TRY(graph__scratch_get(&x->d->g, x->list, &l->s, st));
    l->busy = true;
    l->links = !x->scan;
    l->j = j;
    l->list = x->list;
    l->npool = l->next = 0;
    l->nunits = l->flying = 0;
    codec_query(x->d->g.codec, (const uint8_t *)x->q->queries + j * x->q->query_stride, l->s->pq);
    if (x->scan) {
        TRY(seed_allowed(x, l, st));
    } else {
        seed_near(x, l);
    }
out:
    return rc;
}

static void end(struct search *x, struct lane *l)
{
    if (l->nunits > l->units_max) {
        memset(l->asked, 0, l->units_max * sizeof *l->asked);
    }
    for (uint32_t i = 0; i < MIN(l->nunits, l->units_max); i++) {
        l->asked[l->units[i] >> 6] = 0;
    }
    l->nunits = 0;
    if (l->s) {
        graph__unvisit(l->s);
        graph__scratch_put(&x->d->g, TAKE(l->s));
    }
    l->busy = false;
}

static int run(struct search *x, uint32_t nlanes, struct status *st)
{
    struct diskann_scratch *s = x->s;
    uint32_t begun = 0, flying;
    int rc = 0;
    do {
        flying = 0;
        for (uint32_t i = 0; i < nlanes; i++) {
            struct lane *l = &s->lanes[i];
            while (l->busy || begun < x->q->nq) {
                if (!l->busy) {
                    TRY(start(x, l, begun++, st));
                }
                fill(x, l);
                if (l->flying > 0) {
                    break;
                }
                end(x, l);
            }
            flying += l->flying;
        }
        if (flying > 0) {
            uint32_t slot;
            TRY(diskann__io_wait(s->io, &slot, st));
            struct lane *l = s->slot_lane[slot];
            s->free_slots[s->nfree++] = slot;
            l->flying--;
            use_unit(x, l, s->slot_unit[slot], s->buffers + (size_t)slot * x->d->meta.unit);
        }
        if (x->q->check) {
            TRY(x->q->check(x->q->check_arg, st));
        }
    } while (flying > 0);
out:
    return rc;
}

/* How the filter is met, and how long the pool is. */
static void plan(struct search *x)
{
    const double n = x->d->meta.n, allowed = x->q->allow ? x->q->allow_count : n;
    const double share = allowed / n;
    const uint32_t want = x->q->params->search_list;
    const double list = MAX(want ? want : 16u, x->tk->k);
    const double scan_ns = n * BIT_NS + allowed * CODE_NS;
    const double walk_reads = 10 + list * (1 / share - 1);
    x->scan = x->q->params->strategy == STRAT_SCAN ||
              (x->q->params->strategy != STRAT_GRAPH && scan_ns < walk_reads * READ_NS);
    x->list = (size_t)MIN(x->scan ? list : list / share, n);
    x->slack = x->d->meta.slack * (float)MAX(list / (8.0 * x->tk->k), 1.0);
}

int diskann__search(const struct index *ix, const struct index_query *q, struct topk *tk,
                    struct index_counters *c, struct status *st)
{
    struct diskann *d = CONTAINER_OF((struct index *)(uintptr_t)ix, struct diskann, head);
    struct search x = { .d = d, .q = q, .tk = tk, .c = c, .kernel = diskann__kernel(&ix->rows) };
    uint32_t nlanes;
    int rc = 0;
    plan(&x);
    x.beam = (uint32_t)MIN(ceil(2 * q->params->beamwidth_ratio), (double)SLOTS);
    x.s = scratch_take(&d->scratch);
    if (!x.s) {
        TRY(scratch_new(d, &x.s, st));
    }
    nlanes = MIN(SLOTS / x.beam, (uint32_t)LANES);
    TRY(run(&x, MIN(nlanes, q->nq), st));
    c->strategy = x.scan ? STRAT_SCAN : STRAT_GRAPH;
out:
    if (x.s) {
        diskann__io_drain(x.s->io);
        for (int i = 0; i < LANES; i++) {
            end(&x, &x.s->lanes[i]);
        }
        free_all_slots(x.s);
    }
    if (x.s && !scratch_give(&d->scratch, x.s)) {
        atomic_fetch_sub_explicit(&d->scratch_bytes, x.s->bytes, memory_order_relaxed);
        diskann__scratch_free(x.s);
    }
    return rc;
}
