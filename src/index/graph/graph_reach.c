/*
 * graph_reach.c - the walk of a filtered search: to the query first, then on by allowed nodes.
 *
 * WHAT        Where a share of the rows is allowed, the k nearest allowed ones are among the k / share
 *             nearest of all, more or less: `limit` nodes. A walk for so many scores ten times as
 *             many, most of them to no end. This one goes to the query's neighbourhood as without a
 *             filter, its pool `full` nodes wide, and keeps whatever it scored; then it takes the
 *             `limit` nearest of those, in no order, and of their links scores only the allowed.
 *             These lead on in the same way where they are near enough. A link that is not allowed
 *             costs two bits where a score costs lines of memory. Where fewer than half as many again as
 *             `limit` were scored on the way, all neighbours of more nodes are scored first (widen).
 *             When too few allowed are found the limit grows, without beginning anew.
 * INVARIANTS  found[0 .. chosen) are the nearest, of which [0 .. done) were expanded; s->visited
 *             marks nodes that were scored or asked about and is zero between walks.
 * THREADS     The graph is only read; the scratch belongs to the caller.
 * WHY         A sorted pool of `limit` candidates cost more than the scores: most of what is scored
 *             goes into it ahead of others. Here a node is appended, and the nearest are selected.
 */
#include "index/graph/graph_reach.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "index/graph/graph_pool.h"
#include "index/graph/graph_survivors.h"
#include "simd/simd.h"

#define BEAM 2u          /* candidates expanded together on the way to the query, */
#define BEAM_ALLOWED 16u /* and after: few neighbours of each are scored */
#define BEAM_WIDE 4u     /* where all neighbours of more nodes are scored */
#define WIDEN 32u        /* candidates chosen together when too few were scored */
#define MORE_OF 3u       /* more are wanted where the limit had to grow */
#define SURE_OF 4u       /* so many allowed in the pool tell how far to go */
#define FETCH_MAX 512u   /* bytes of a code asked for; the rest follows in the hardware's stream */

struct walk {
    const struct graph *g;
    const struct index_query *q;
    const struct graph_reach *how;
    struct graph_scratch *s;
    const uint64_t *allow;  /* bits by row, */
    const uint32_t *row_of; /* which nodes have; NULL: bits by node */
    size_t npool;           /* the way to the query: s->pool, sorted, */
    size_t cursor;          /* expanded up to here */
    size_t nfound, chosen, done; /* in s->heap */
    size_t m;               /* nodes in s->ids that wait for their scores */
    size_t fetch, distances, hops;
};

/* The unvisited among the neighbours of node, which are visited from now on, behind those in s->ids.
 * Returns how many. */
static inline size_t unvisited(struct walk *w, uint32_t node)
{
    struct graph_scratch *s = w->s;
    const uint32_t *links = graph_links(w->g, node);
    const size_t degree = w->g->degree;
    const uint32_t nodes = w->g->n;
    uint64_t *visited = s->visited;
    uint32_t *ids = s->ids + w->m;
    size_t n = 0;
    for (size_t i = 0; i < degree && links[i] < nodes; i++) { /* no branch on what was seen */
        const uint32_t at = links[i];
        const uint64_t old = visited[at >> 6], bit = UINT64_C(1) << (at & 63);
        visited[at >> 6] = old | bit;
        ids[n] = at;
        n += !(old & bit);
    }
    if (s->nseen + n <= s->seen_cap) {
        memcpy(s->seen + s->nseen, ids, n * sizeof *ids);
    }
    s->nseen += n;
    return n;
}

/* n more of s->ids wait for their scores. */
static inline void wants(struct walk *w, size_t n)
{
    for (size_t end = w->m + n; w->m < end; w->m++) {
        const uint8_t *code = graph_code(w->g, w->s->ids[w->m]);
        for (size_t at = 0; at < w->fetch; at += CACHE_LINE) {
            __builtin_prefetch(code + at, 0, 2);
        }
    }
}

/* The unvisited neighbours of node will be scored. */
static void gather(struct walk *w, uint32_t node)
{
    wants(w, unvisited(w, node));
}

/* Neighbours of nodes, n of them, that are allowed; nobody asks about the others again. Rows of all are
 * on their way before any is looked at. */
static void gather_allowed(struct walk *w, const uint64_t *nodes, size_t n)
{
    const uint32_t *row_of = w->row_of, rows = w->g->head.rows.nrows;
    const uint64_t *allow = w->allow;
    const size_t first = w->m;
    for (size_t i = 0; i < n; i++) {
        const size_t before = w->m;
        w->m += unvisited(w, graph_cand_node(nodes[i]));
        for (size_t at = before; row_of && at < w->m; at++) {
            __builtin_prefetch(row_of + w->s->ids[at], 0, 3);
        }
    }
    uint32_t *ids = w->s->ids;
    size_t got = first;
    for (size_t i = first; i < w->m; i++) { /* no branch on the answer */
        const uint32_t at = ids[i], row = row_of ? row_of[at] : at, safe = row < rows ? row : 0;
        ids[got] = at;
        got += allow[safe >> 6] >> (safe & 63) & 1;
    }
    w->m = first;
    wants(w, got - first);
}

static inline void fetch_links(const struct walk *w, uint64_t cand)
{
    const uint32_t *links = graph_links(w->g, graph_cand_node(cand));
    for (size_t l = 0; l < w->g->degree; l += CACHE_LINE / sizeof *links) {
        __builtin_prefetch(links + l, 0, 2);
    }
}

/* Scores what waits and appends it to what was found; s->ids and s->keys keep it. */
static int score(struct walk *w, struct status *st)
{
    const struct graph *g = w->g;
    struct graph_scratch *s = w->s;
    const size_t m = w->m;
    int rc = 0;
    if (w->nfound + m > s->heap_cap) {
        TRY(graph__heap_room(g, s, w->nfound + m, st));
    }
    codec_ids(g->codec, s->pq, g->codes, g->stride, s->ids, m, s->keys);
    uint64_t *found = s->heap + w->nfound;
    size_t n = 0;
    for (size_t i = 0; i < m; i++) {
        found[n] = graph_cand(s->keys[i], s->ids[i]);
        n += s->keys[i] == s->keys[i];
    }
    w->nfound += n;
    w->distances += m;
    w->m = 0;
out:
    return rc;
}

/* What was scored last, m nodes, into the pool, where they are near enough. */
static void pool_add(struct walk *w, size_t m)
{
    struct graph_scratch *s = w->s;
    const size_t max = w->how->full;
    const float tail = w->npool < max ? INFINITY : graph_cand_key(s->pool[max - 1]);
    const size_t npick = simd_ops()->select_le(s->keys, m, tail, s->pick);
    for (size_t i = 0; i < npick; i++) {
        const uint64_t x = graph_cand(s->keys[s->pick[i]], s->ids[s->pick[i]]);
        w->cursor = MIN(w->cursor, pool_insert(s->pool, &w->npool, max, x));
    }
}

/* To the query's neighbourhood: until all of the `full` nearest are expanded. */
static int approach(struct walk *w, struct status *st)
{
    uint64_t *pool = w->s->pool;
    int rc = 0;
    while (w->cursor < w->npool) {
        size_t next = w->cursor, taken = 0;
        for (; next < w->npool && taken < BEAM; next++) {
            if (!(pool[next] & 1)) {
                pool[next] |= 1;
                gather(w, graph_cand_node(pool[next]));
                taken++;
            }
        }
        w->cursor = next;
        for (size_t ahead = 0; next < w->npool && ahead < BEAM; next++) {
            if (!(pool[next] & 1)) {
                fetch_links(w, pool[next]);
                ahead++;
            }
        }
        const size_t m = w->m;
        TRY(score(w, st));
        pool_add(w, m);
        w->hops += taken;
        if ((w->hops & 63) < taken && w->q->check) {
            TRY(w->q->check(w->q->check_arg, st));
        }
    }
out:
    return rc;
}

/* What is no farther than near, the pool's end, to the front. */
static void choose_pool(struct walk *w, uint64_t near)
{
    uint64_t *found = w->s->heap;
    for (size_t i = 0; i < w->nfound; i++) {
        const uint64_t x = found[i];
        found[i] = found[w->chosen];
        found[w->chosen] = x;
        w->chosen += x <= near;
    }
}

/* The `limit` nearest of what was found, and the most distant of them. */
static uint64_t choose(struct walk *w, size_t limit)
{
    uint64_t *found = w->s->heap, last = 0;
    if (w->chosen < limit && w->chosen < w->nfound) {
        const size_t more = MIN(limit, w->nfound) - w->chosen;
        if (w->chosen + more < w->nfound) {
            graph__select(found + w->chosen, w->nfound - w->chosen, more);
        }
        w->chosen += more;
    }
    for (size_t i = w->done; i < w->chosen; i++) {
        last = MAX(last, found[i]);
    }
    return last;
}

static inline bool is_allowed(const struct walk *w, uint32_t node)
{
    const uint32_t row = w->row_of ? graph_row(w->g, node) : node;
    return w->allow[row >> 6] >> (row & 63) & 1;
}

/* Of those chosen from first on. */
static size_t count_allowed(const struct walk *w, size_t first)
{
    size_t n = 0;
    for (size_t i = first; i < w->chosen; i++) {
        n += is_allowed(w, graph_cand_node(w->s->heap[i]));
    }
    return n;
}

/* Where few were scored on the way, as in a part of the graph of its own, the nearest of all would not be
 * among them: all neighbours of the next ones are scored, too. */
static int widen(struct walk *w, size_t least, struct status *st)
{
    const size_t beam = MAX(MIN((size_t)BEAM_WIDE, w->s->batch_cap / w->g->degree), (size_t)1);
    int rc = 0;
    while (w->nfound < least && w->chosen < w->nfound) {
        choose(w, w->chosen + WIDEN);
        while (w->done < w->chosen) {
            const size_t end = MIN(w->done + beam, w->chosen);
            for (size_t i = end; i < MIN(end + beam, w->chosen); i++) {
                fetch_links(w, w->s->heap[i]);
            }
            for (; w->done < end; w->done++) {
                gather(w, graph_cand_node(w->s->heap[w->done]));
                w->hops++;
            }
            TRY(score(w, st));
        }
    }
out:
    return rc;
}

/* Expands what is chosen. Allowed neighbours no farther than last are chosen, too, up to max. */
static int spread(struct walk *w, uint64_t last, size_t max, struct status *st)
{
    struct graph_scratch *s = w->s;
    const size_t beam = MAX(MIN((size_t)BEAM_ALLOWED, s->batch_cap / w->g->degree), (size_t)1);
    int rc = 0;
    while (w->done < w->chosen) {
        const size_t end = MIN(w->done + beam, w->chosen), ahead = MIN(end + beam, w->chosen);
        for (size_t i = end; i < ahead; i++) {
            fetch_links(w, s->heap[i]);
        }
        gather_allowed(w, s->heap + w->done, end - w->done);
        w->hops += end - w->done;
        w->done = end;
        if ((w->hops & 255) < BEAM_ALLOWED && w->q->check) {
            TRY(w->q->check(w->q->check_arg, st));
        }
        size_t i = w->nfound;
        TRY(score(w, st));
        uint64_t *found = s->heap; /* it may have moved */
        for (; i < w->nfound; i++) {
            if (found[i] <= last && w->chosen < max) {
                const uint64_t x = found[i];
                found[i] = found[w->chosen];
                found[w->chosen++] = x;
            }
        }
    }
out:
    return rc;
}

int graph__reach(const struct graph *g, const struct index_query *q, uint32_t j,
                 struct graph_scratch *s, size_t nentries, const struct graph_reach *how,
                 struct graph_reached *ret, struct index_counters *c, struct status *st)
{
    int rc = 0;
    struct walk w = { .g = g,
                      .q = q,
                      .how = how,
                      .s = s,
                      .allow = q->filter ? q->filter->bits : q->allow,
                      .row_of = graph_node_bits(g, q) ? NULL : g->perm,
                      .fetch = MIN(g->stride, (size_t)FETCH_MAX) };
    *ret = (struct graph_reached){ 0 };
    TRY(graph__heap_room(g, s, nentries, st));
    for (size_t i = 0; i < nentries; i++) {
        if (s->ids[i] < g->n && s->keys[i] == s->keys[i] && graph_visit(s, s->ids[i])) {
            const uint64_t x = graph_cand(s->keys[i], s->ids[i]);
            s->heap[w.nfound++] = x;
            pool_insert(s->pool, &w.npool, how->full, x);
        }
    }
    TRY(approach(&w, st));
    const uint64_t near = w.npool < how->full ? UINT64_MAX : s->pool[w.npool - 1] & ~UINT64_C(1);
    size_t limit = how->limit, want = how->want, got = 0;
    choose_pool(&w, near);
    w.done = w.chosen; /* they were expanded on the way */
    ret->looked_at = w.chosen;
    ret->allowed = count_allowed(&w, 0);
    if (ret->allowed >= SURE_OF) { /* the pool knows better */
        limit = MIN(limit, w.chosen * how->want * 3 / (2 * ret->allowed) + 1);
    }
    const size_t pool = w.chosen;
    TRY(widen(&w, limit + limit / 2, st));
    ret->looked_at = w.chosen;
    ret->allowed += count_allowed(&w, pool);
    for (;;) {
        const size_t known = w.chosen;
        const uint64_t last = choose(&w, limit);
        const size_t chosen = w.chosen;
        ret->looked_at += chosen - known;
        ret->allowed += count_allowed(&w, known);
        TRY(spread(&w, last, how->max, st));
        ret->spread += w.chosen - chosen;
        got = ret->allowed + ret->spread;
        const bool hopeless = w.chosen * how->least > how->most * (got + 1);
        ret->covered = w.chosen >= limit || w.npool < how->full;
        if (got >= want || limit >= how->most || w.chosen == w.nfound || hopeless ||
            w.chosen >= how->max) {
            break;
        }
        limit = MAX(limit, w.chosen);
        if (want == how->want) { /* the share was not as promised: what is nearer may be, too */
            want += want / MORE_OF;
        }
        limit = MIN(limit + limit * (want - got) / want + 4, how->most);
    }
    for (size_t i = 0; i < w.chosen; i++) {
        s->pool[ret->n] = s->heap[i];
        ret->n += is_allowed(&w, graph_cand_node(s->heap[i]));
    }
    graph__sort(s->pool, ret->n);
    if (q->near) {
        const size_t n = MIN(w.chosen, (size_t)q->near->max);
        if (n && n < w.chosen) {
            graph__select(s->heap, w.chosen, n);
        }
        graph__sort(s->heap, n);
        graph__near(g, q, j, s->heap, n);
    }
out:
    graph__unvisit(s);
    c->distances += w.distances;
    c->hops += w.hops;
    c->bytes += w.distances * g->stride + w.hops * g->degree * sizeof *g->links;
    return rc;
}
