/*
 * diskann_search.c - walks by codes in memory, exact rows and links from the disk.
 *
 * WHAT        The pool holds the search_list nodes best by code, each taken or not. Up to `beam`
 *             reads are under way per query; whenever one comes back its unit is worked off and the
 *             best nodes not taken are asked for, so no read waits for the slowest of a round. Work
 *             on a unit is: exact scores of all its rows, and the links of those that are good
 *             enough for the pool. So a unit is never read twice for one query.
 * FEW READS   Four things keep them few; README.md has the figures.
 *             The walk starts near its end: all codes of the clusters around the query are compared
 *             first, which costs less than one read.
 *             Units hold near nodes.
 *             Hot nodes' records are in memory.
 *             The walk ends when no node can be expected to matter any more: the best one left is
 *             by code farther than the k-th exact result, by more than codes err (meta.slack), and
 *             a share of the results' own spread more where the list is long for its k: who asks so
 *             wants the last percents.
 * FILTERS     Results are allowed rows. Where few are, the codes of all of them are compared and
 *             only the units of the best are read, links unused; otherwise the pool is larger by
 *             what the filter takes away.
 * SEVERAL     Queries of one call are walked LANES at a time over the same ring, so a disk that
 *             wants deep queues gets them.
 * SEEN        Which nodes were compared is not remembered, but for the clusters of the way in: one
 *             that comes again is still in the pool, which shows when it would be put there, or was
 *             not good enough and is not now. That costs a code more per link now and then and
 *             saves a bit per node and query.
 * INVARIANTS  A row is pushed once: with its unit, or, hot ones, when that or they are looked at
 *             first; lane.asked has a bit per unit and hot node. Raw rows given at open are not
 *             touched.
 * MEMORY      Scratch is borrowed: a ring, buffers of SLOTS units, and per lane a prepared query, a
 *             pool and lane.asked.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/diskann/diskann_int.h"

#define LANES 32
#define SLOTS 256
#define SLOT_BYTES (2u << 20) /* where units are large there are fewer slots */
#define CHUNK 256
#define MARKS 1024 /* words of lane.asked remembered for clearing */
/* All nodes of 4 clusters and one per 5 of the list are compared on the way in, of at most so many
 * clusters; of fewer where a code is longer than so many bytes: reading codes takes its time by the
 * byte, and the third cluster saves fewer reads than it costs where it is as long as four. */
#define SEED_CLUSTERS 16
#define SEED_CODE 96.0
/* Of one cluster, at most: only rows that are equal make larger ones. */
#define SEED_NODES 4096u
/* How much farther than the k-th result nodes are read, per k of the list past the first, in times
 * the distance from the first result to the k-th. */
#define WIDEN 0.05
/* Nanoseconds, to choose how filters are met: a bit and a code looked at, a read not done. */
#define BIT_NS 1.2
#define CODE_NS 6.0
#define READ_NS 25000.0

struct run_of_nodes {
    uint32_t first, n;
};

struct lane {
    void *pq;       /* prepared query; NULL: the lane was never used */
    uint64_t *pool; /* candidates, ascending: key << 32 | node << 1 | taken */
    size_t pool_cap;
    size_t npool, list; /* used, and most */
    size_t next;        /* all before are taken */
    uint64_t *asked;
    uint32_t marks[MARKS], nmarks; /* words of asked that are not 0; past MARKS all are cleared */
    struct run_of_nodes seeded[SEED_CLUSTERS];
    uint32_t nseeded;
    float best; /* nearest exact key */
    uint32_t j, flying;
    bool busy, links; /* links: follow them */
};

struct diskann_scratch {
    struct diskann_io *io;
    uint8_t *buffers; /* nslots units */
    float *query;     /* f32, for centroids */
    float *keys;      /* of clusters, then of supers */
    uint32_t *picks;  /* which */
    struct lane lanes[LANES];
    struct lane *slot_lane[SLOTS];
    uint32_t slot_unit[SLOTS], free_slots[SLOTS], nslots, nfree;
    size_t bytes;
};

struct search {
    struct diskann *d;
    const struct index_query *q;
    struct topk *tk;
    struct index_counters *c;
    struct diskann_scratch *s;
    struct simd_dist kernel;
    size_t (*select_le)(const float *v, size_t n, float bound, uint32_t *idx);
    uint32_t begun; /* queries */
    uint32_t beam, seeds;
    size_t list;
    float widen;
    bool scan; /* filters: compare all allowed codes */
    float scores[DISKANN_PER_UNIT]; /* of a unit */
    uint32_t ids[CHUNK];            /* nodes at work, their keys, which of them are near */
    float key[CHUNK];
    uint32_t pick[CHUNK];
};

struct simd_dist diskann__kernel(enum metric metric, enum vec_type type)
{
    const struct simd_ops *ops = simd_ops();
    return metric == METRIC_L2   ? ops->l2[type]
           : metric == METRIC_IP ? ops->ip[type]
                                 : ops->cos[type];
}

/* ---- Scratch ---- */

void diskann__scratch_free(struct diskann_scratch *s)
{
    if (s) {
        diskann__io_free(s->io);
        mem_free(s->buffers);
        mem_free(s->query);
        mem_free(s->keys);
        mem_free(s->picks);
        for (int i = 0; i < LANES; i++) {
            mem_free(s->lanes[i].pq);
            mem_free(s->lanes[i].pool);
            mem_free(s->lanes[i].asked);
        }
        mem_free(s);
    }
}

static void free_all_slots(struct diskann_scratch *s)
{
    for (s->nfree = 0; s->nfree < s->nslots; s->nfree++) {
        s->free_slots[s->nfree] = s->nfree;
    }
}

static void charge(struct diskann *d, struct diskann_scratch *s, size_t bytes)
{
    s->bytes += bytes;
    atomic_fetch_add_explicit(&d->scratch_bytes, bytes, memory_order_relaxed);
}

static int scratch_new(struct diskann *d, struct diskann_scratch **ret, struct status *st)
{
    const struct diskann_meta *m = &d->meta;
    const size_t dim = d->head.rows.dim, nkeys = (size_t)m->nsupers + m->nclusters;
    struct diskann_scratch *s = alloc_try_zero(sizeof *s);
    int rc = 0;
    if (!s) {
        FAIL(st, ST_NO_MEMORY, "no memory for a search");
    }
    s->nslots = MIN(MAX(SLOT_BYTES / m->unit, 16u), (uint32_t)SLOTS);
    TRY(diskann__io_new(d->fd, d->units, s->nslots, &s->io, st));
    s->buffers = alloc_try_aligned(DISKANN_BLOCK, s->nslots * (size_t)m->unit);
    s->query = alloc_try(dim * sizeof *s->query);
    s->keys = alloc_try(nkeys * sizeof *s->keys);
    s->picks = alloc_try(nkeys * sizeof *s->picks);
    if (!s->buffers || !s->query || !s->keys || !s->picks) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u reads of %u bytes", s->nslots, m->unit);
    }
    free_all_slots(s);
    charge(d, s, sizeof *s + s->nslots * (size_t)m->unit + (dim + 2 * nkeys) * 4);
    *ret = TAKE(s);
out:
    diskann__scratch_free(s);
    return rc;
}

static size_t asked_words(const struct diskann *d)
{
    return bits_words(diskann_units(d->meta.n, d->meta.per_unit) + d->meta.nhot);
}

/* Room for a query with a list this long. */
static int lane_room(const struct search *x, struct lane *l, size_t list, struct status *st)
{
    const size_t pq = ROUND_UP(codec_query_bytes(x->d->codec), (size_t)64);
    const size_t words = asked_words(x->d);
    int rc = 0;
    if (!l->pq) {
        l->asked = alloc_try_zero(words * sizeof *l->asked);
        l->pq = l->asked ? alloc_try_aligned(64, pq) : NULL;
        if (!l->pq) {
            mem_free(TAKE(l->asked));
            FAIL(st, ST_NO_MEMORY, "no memory for a search over %u nodes", x->d->meta.n);
        }
        charge(x->d, x->s, pq + words * sizeof *l->asked);
    }
    if (l->pool_cap < list) {
        const size_t cap = ROUND_UP(list, (size_t)64);
        uint64_t *pool = alloc_try(cap * sizeof *pool);
        if (!pool) {
            FAIL(st, ST_NO_MEMORY, "no memory for %zu candidates of a search", list);
        }
        mem_free(l->pool);
        l->pool = pool;
        charge(x->d, x->s, (cap - l->pool_cap) * sizeof *pool);
        l->pool_cap = cap;
    }
out:
    return rc;
}

/* False when it was asked for before: a unit, or units + a hot node. */
static bool ask(struct lane *l, uint32_t i)
{
    uint64_t *w = &l->asked[i >> 6], bit = UINT64_C(1) << (i & 63);
    if (*w & bit) {
        return false;
    }
    if (*w == 0) {
        if (l->nmarks < MARKS) {
            l->marks[l->nmarks] = i >> 6;
        }
        l->nmarks++;
    }
    *w |= bit;
    return true;
}

/* ---- The pool ---- */

/* An order-preserving key << 32 | node << 1 | taken. Smaller is nearer. */
static uint32_t key_bits(float key)
{
    uint32_t b;
    memcpy(&b, &key, sizeof b);
    return b ^ ((uint32_t)((int32_t)b >> 31) | 0x80000000u);
}

static float bits_key(uint32_t b)
{
    float key;
    b ^= (uint32_t)((int32_t)~b >> 31) | 0x80000000u;
    memcpy(&key, &b, sizeof key);
    return key;
}

static float cand_key(uint64_t cand)
{
    return bits_key((uint32_t)(cand >> 32));
}

/* What a key must be below to get into the pool. */
static float worst_of(const struct lane *l)
{
    return l->npool < l->list ? INFINITY : cand_key(l->pool[l->npool - 1]);
}

/* Into the sorted pool, when it is among the best and not there. Not for a NaN. */
static void insert(struct lane *l, float key, uint32_t node)
{
    const uint64_t cand = (uint64_t)key_bits(key) << 32 | (uint64_t)node << 1;
    uint64_t *pool = l->pool;
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
    if (lo < l->npool && (pool[lo] | 1) == (cand | 1)) {
        return;
    }
    size_t end = l->npool < l->list ? l->npool++ : l->npool - 1;
    memmove(pool + lo + 1, pool + lo, (end - lo) * sizeof *pool);
    pool[lo] = cand;
    l->next = MIN(l->next, lo);
}

/* Keys x->key[0 .. n) of nodes x->ids or, without ids, first on. */
static void offer_keys(struct search *x, struct lane *l, size_t n, const uint32_t *ids,
                       uint32_t first)
{
    const size_t m = x->select_le(x->key, n, worst_of(l), x->pick);
    for (size_t i = 0; i < m; i++) {
        const uint32_t at = x->pick[i];
        insert(l, x->key[at], ids ? ids[at] : first + at);
    }
    x->c->distances += n;
    x->c->bytes += n * x->d->meta.stride;
}

/* Nodes x->ids[0 .. n) compared and offered to the pool. */
static void offer(struct search *x, struct lane *l, size_t n)
{
    codec_ids(x->d->codec, l->pq, x->d->codes, x->d->meta.stride, x->ids, n, x->key);
    offer_keys(x, l, n, x->ids, 0);
}

/* The same for nodes first .. first + n. */
static void offer_run(struct search *x, struct lane *l, uint32_t first, size_t n)
{
    const size_t stride = x->d->meta.stride;
    codec_rows(x->d->codec, l->pq, x->d->codes + first * stride, stride, n, x->key);
    offer_keys(x, l, n, NULL, first);
}

/* ---- Seeds ---- */

/* Keys of centroids first .. first + n of base, smaller is nearer. */
static void centroid_keys(struct search *x, const float *base, uint32_t first, uint32_t n,
                          float *keys)
{
    const struct index_rows *r = &x->d->head.rows;
    const size_t stride = r->dim * sizeof *base;
    const bool larger = metric_larger_is_better(r->metric);
    diskann__kernel(r->metric, VEC_F32).rows(x->s->query, base + first * r->dim, stride, n, r->dim,
                                             keys);
    for (uint32_t i = 0; larger && i < n; i++) {
        keys[i] = -keys[i];
    }
    x->c->bytes += n * stride;
}

/* The nearest of at .. n - 1 comes to at; a NaN is not nearer than anything. */
static void select_nearest(float *keys, uint32_t *picks, uint32_t at, uint32_t n)
{
    uint32_t best = at;
    for (uint32_t i = at + 1; i < n; i++) {
        best = keys[i] < keys[best] ? i : best;
    }
    const float key = keys[best];
    const uint32_t pick = picks[best];
    keys[best] = keys[at];
    picks[best] = picks[at];
    keys[at] = key;
    picks[at] = pick;
}

/* Fills picks and keys with clusters to choose from; returns their number, at least 1. */
static uint32_t route(struct search *x)
{
    const struct diskann *d = x->d;
    const struct diskann_meta *m = &d->meta;
    uint32_t n = 0, *supers = x->s->picks + m->nclusters;
    if (m->nclusters <= d->route) {
        centroid_keys(x, d->cluster_centroids, 0, m->nclusters, x->s->keys);
        for (; n < m->nclusters; n++) {
            x->s->picks[n] = n;
        }
        return n;
    }
    float *super_keys = x->s->keys + m->nclusters;
    centroid_keys(x, d->super_centroids, 0, m->nsupers, super_keys);
    for (uint32_t i = 0; i < m->nsupers; i++) {
        supers[i] = i;
    }
    for (uint32_t i = 0; i < m->nsupers && n < d->route; i++) {
        select_nearest(super_keys, supers, i, m->nsupers);
        const uint32_t first = d->super_first[supers[i]], end = d->super_first[supers[i] + 1];
        centroid_keys(x, d->cluster_centroids, first, end - first, x->s->keys + n);
        for (uint32_t c = first; c < end; c++) {
            x->s->picks[n++] = c;
        }
    }
    return n;
}

/* The nodes of one cluster. */
static void seed_cluster(struct search *x, struct lane *l, uint32_t cluster)
{
    const uint32_t first = x->d->cluster_first[cluster];
    const uint32_t end = MIN(x->d->cluster_first[cluster + 1], first + SEED_NODES);
    for (uint32_t node = first; node < end; node += CHUNK) {
        offer_run(x, l, node, MIN(end - node, (uint32_t)CHUNK));
    }
    l->seeded[l->nseeded++] = (struct run_of_nodes){ .first = first, .n = end - first };
}

static void seed_near(struct search *x, struct lane *l)
{
    const struct diskann *d = x->d;
    const struct index_rows *r = &d->head.rows;
    struct index_rows query = *r;
    query.base = (const uint8_t *)x->q->queries + l->j * x->q->query_stride;
    query.nrows = 1;
    index_rows_f32(&query, NULL, 0, 1, r->metric == METRIC_COSINE, x->s->query);
    const uint32_t n = route(x);
    for (uint32_t i = 0; i < MIN(n, x->seeds); i++) {
        select_nearest(x->s->keys, x->s->picks, i, n);
        seed_cluster(x, l, x->s->picks[i]);
    }
    x->c->lists += l->nseeded;
}

/* All allowed nodes. */
static int seed_allowed(struct search *x, struct lane *l, struct status *st)
{
    const struct diskann *d = x->d;
    const uint64_t *allow = x->q->allow;
    size_t n = 0;
    int rc = 0;
    for (uint32_t node = 0; node < d->meta.n; node++) {
        if (!allow || bit_get(allow, diskann_row(d, node))) {
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

static void push_exact(struct search *x, struct lane *l, uint32_t node, float score)
{
    const float key = topk_key(x->tk, score);
    l->best = key < l->best ? key : l->best;
    const uint32_t row = diskann_row(x->d, node);
    if (!x->q->allow || bit_get(x->q->allow, row)) {
        topk_push(x->tk, l->j, score, x->q->row_base + row);
    }
}

static const void *query_of(const struct search *x, const struct lane *l)
{
    return (const uint8_t *)x->q->queries + l->j * x->q->query_stride;
}

static bool was_seeded(const struct lane *l, uint32_t node)
{
    bool in = false;
    for (uint32_t i = 0; i < l->nseeded; i++) {
        in |= node - l->seeded[i].first < l->seeded[i].n;
    }
    return in;
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
        x->ids[n] = to;
        n += !was_seeded(l, to);
        if (n == CHUNK) {
            offer(x, l, n);
            n = 0;
        }
    }
    offer(x, l, n);
    x->c->hops++;
}

static uint32_t hot_bit(const struct diskann *d, uint32_t node)
{
    return diskann_units(d->meta.n, d->meta.per_unit) + diskann_hot(d, node);
}

static void use_hot(struct search *x, struct lane *l, uint32_t node)
{
    const uint32_t i = diskann_hot(x->d, node);
    float score;
    if (i == x->d->meta.nhot || !ask(l, hot_bit(x->d, node))) {
        return;
    }
    const uint8_t *record = x->d->hot_records + (size_t)i * x->d->meta.record;
    x->kernel.rows(query_of(x, l), record, 0, 1, x->d->head.rows.dim, &score);
    push_exact(x, l, node, score);
    x->c->exact++;
    x->c->bytes += x->d->meta.record;
    if (l->links) {
        follow(x, l, record);
    }
}

/* A unit that came back. */
static void use_unit(struct search *x, struct lane *l, uint32_t unit, const uint8_t *records)
{
    const struct diskann_meta *m = &x->d->meta;
    const uint32_t first = unit * m->per_unit, n = MIN(m->per_unit, m->n - first);
    x->kernel.rows(query_of(x, l), records, m->record, n, x->d->head.rows.dim, x->scores);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t node = first + i;
        if (diskann_is_hot(x->d, node) &&
            (diskann_hot(x->d, node) == m->nhot || !ask(l, hot_bit(x->d, node)))) {
            continue;
        }
        push_exact(x, l, node, x->scores[i]);
        if (l->links && topk_key(x->tk, x->scores[i]) <= worst_of(l)) {
            follow(x, l, records + i * m->record);
        }
    }
    x->c->exact += n;
    x->c->bytes += m->unit;
}

/* ---- A query ---- */

/* Whether reading for this candidate can still change the result. */
static bool may_matter(const struct search *x, const struct lane *l, uint64_t cand)
{
    const float bound = x->tk->lists[l->j].bound_key, spread = MAX(bound - l->best, 0.0f);
    return !(cand_key(cand) - x->d->meta.slack > bound + x->widen * spread);
}

/* Asks for units until `beam` are under way or nothing is left to ask for. */
static void fill(struct search *x, struct lane *l)
{
    struct diskann_scratch *s = x->s;
    const struct diskann *d = x->d;
    while (l->flying < x->beam && s->nfree > 0) {
        while (l->next < l->npool && (l->pool[l->next] & 1)) {
            l->next++;
        }
        if (l->next == l->npool || !may_matter(x, l, l->pool[l->next])) {
            return;
        }
        const uint32_t node = (uint32_t)l->pool[l->next] >> 1;
        l->pool[l->next++] |= 1;
        if (diskann_is_hot(d, node)) {
            use_hot(x, l, node);
            continue;
        }
        const uint32_t unit = node / d->meta.per_unit;
        if (!ask(l, unit)) {
            continue;
        }
        const uint32_t slot = s->free_slots[--s->nfree];
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
    TRY(lane_room(x, l, x->list, st));
    l->busy = true;
    l->links = !x->scan;
    l->j = j;
    l->list = x->list;
    l->npool = l->next = 0;
    l->nseeded = l->flying = 0;
    l->best = INFINITY;
    codec_query(x->d->codec, query_of(x, l), l->pq);
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
    if (l->nmarks > MARKS) {
        memset(l->asked, 0, asked_words(x->d) * sizeof *l->asked);
    }
    for (uint32_t i = 0; i < MIN(l->nmarks, (uint32_t)MARKS); i++) {
        l->asked[l->marks[i]] = 0;
    }
    l->nmarks = 0;
    l->busy = false;
}

/* Until the lane waits for reads or there is no query left. */
static int advance(struct search *x, struct lane *l, struct status *st)
{
    int rc = 0;
    while (l->busy || x->begun < x->q->nq) {
        if (!l->busy) {
            diskann__io_send(x->s->io); /* the way in takes as long as a read */
            TRY(start(x, l, x->begun++, st));
        }
        fill(x, l);
        if (l->flying > 0) {
            break;
        }
        end(x, l);
    }
    if (x->q->check) {
        TRY(x->q->check(x->q->check_arg, st));
    }
out:
    return rc;
}

static int run(struct search *x, uint32_t nlanes, struct status *st)
{
    struct diskann_scratch *s = x->s;
    uint32_t slot;
    int rc = 0;
    for (uint32_t i = 0; i < nlanes; i++) {
        TRY(advance(x, &s->lanes[i], st));
    }
    while (s->nfree < s->nslots) {
        TRY(diskann__io_wait(s->io, &slot, st));
        struct lane *l = s->slot_lane[slot];
        s->free_slots[s->nfree++] = slot;
        l->flying--;
        use_unit(x, l, s->slot_unit[slot], s->buffers + (size_t)slot * x->d->meta.unit);
        TRY(advance(x, l, st));
    }
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
    x->widen = (float)(WIDEN * (list / x->tk->k - 1));
    const double seeds = MIN(4 + list / 5, (double)SEED_CLUSTERS);
    const double bytes = (double)codec_stride(x->d->codec);
    x->seeds = (uint32_t)MAX(seeds * MIN(SEED_CODE / bytes, 1.0), 1.0);
}

int diskann__search(const struct index *ix, const struct index_query *q, struct topk *tk,
                    struct index_counters *c, struct status *st)
{
    struct diskann *d = CONTAINER_OF((struct index *)(uintptr_t)ix, struct diskann, head);
    struct search x = { .d = d, .q = q, .tk = tk, .c = c,
                        .kernel = diskann__kernel(ix->rows.metric, ix->rows.type),
                        .select_le = simd_ops()->select_le };
    uint32_t nlanes;
    int rc = 0;
    plan(&x);
    x.s = scratch_take(&d->scratch);
    if (!x.s) {
        TRY(scratch_new(d, &x.s, st));
    }
    x.beam = (uint32_t)MIN(ceil(2 * q->params->beamwidth_ratio), (double)x.s->nslots);
    nlanes = MIN(x.s->nslots / x.beam, (uint32_t)LANES);
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
