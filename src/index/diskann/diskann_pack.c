/*
 * diskann_pack.c - which nodes share a unit.
 *
 * WHAT        A read brings a whole unit, so a unit should hold rows that are results together. The
 *             links inside a cluster are taken from the shortest on, and the groups of their two
 *             ends become one when that fits a unit (Kruskal's rule with a limit). Most groups end
 *             full; the others fill the units that are left, larger ones first, each where the
 *             nearest company is.
 * INVARIANTS  A cluster keeps its nodes, as a run. Units at the run's ends are shared with the
 *             neighbours, so the room there is what is left of a unit. Depends on rows and links
 *             only: pieces of a cluster are worked on independently.
 * THREADS     Clusters run in parallel.
 * MEMORY      Per thread: of a piece, 16 bytes a link.
 * WHY         sift1m's first 200,000 rows, 5 a unit: the ten nearest of a query lie in 9.3 units in
 *             the builder's order (by distance to a pivot of 32 rows), 8.5 when each unit is filled
 *             with what is nearest to one row, 8.2 so; 8.0 when clusters are ignored, which would
 *             take their codes apart. Six a unit instead of five would save 2 % more.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/diskann/diskann_int.h"
#include "index/graph/graph_build_int.h"

#define PIECE_NODES 4096u

struct pack {
    struct graph_builder *b; /* rc and st only are written */
    struct simd_dist kernel;
    bool larger;
    uint32_t per_unit;
    uint32_t *order;
};

struct edge {
    uint32_t key; /* rises with distance */
    uint16_t a, b;
};

struct piece {
    uint32_t first, n;
    struct edge *edges;
    size_t nedges;
    uint16_t *root, *size;     /* n: of union-find */
    uint16_t *next;            /* n: rings of the members of a group */
    uint16_t *groups;          /* n: roots, larger groups first */
    uint16_t *unit, *used, *room; /* n: members, unit after unit; per unit: how many, at most */
    uint32_t nunits;
};

static const void *row_of(const struct pack *p, uint32_t node)
{
    return index_row(p->b->in->rows, p->b->perm[node]);
}

static float between(const struct pack *p, uint32_t a, uint32_t b)
{
    float score;
    p->kernel.rows(row_of(p, a), row_of(p, b), 0, 1, p->b->in->rows->dim, &score);
    return p->larger ? -score : score;
}

static int by_key(const void *x, const void *y)
{
    const struct edge *a = x, *b = y;
    if (a->key != b->key) {
        return a->key < b->key ? -1 : 1;
    }
    return a->a != b->a ? a->a - b->a : a->b - b->b;
}

/* The links inside the piece, shortest first. */
static void gather(const struct pack *p, struct piece *c)
{
    c->nedges = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        const uint32_t *links = graph_links(&p->b->g, c->first + i);
        for (uint32_t k = 0; k < p->b->g.degree && links[k] != GRAPH_NONE; k++) {
            const uint32_t to = links[k] - c->first;
            if (to < c->n) {
                const float key = between(p, c->first + i, c->first + to);
                c->edges[c->nedges++] = (struct edge){ .key = graph_key_bits(key),
                                                       .a = (uint16_t)i,
                                                       .b = (uint16_t)to };
            }
        }
    }
    qsort(c->edges, c->nedges, sizeof *c->edges, by_key);
}

static uint16_t root_of(struct piece *c, uint16_t i)
{
    while (c->root[i] != i) {
        i = c->root[i] = c->root[c->root[i]];
    }
    return i;
}

static void join(const struct pack *p, struct piece *c)
{
    for (uint32_t i = 0; i < c->n; i++) {
        c->root[i] = c->next[i] = (uint16_t)i;
        c->size[i] = 1;
    }
    for (size_t i = 0; i < c->nedges; i++) {
        const uint16_t a = root_of(c, c->edges[i].a), b = root_of(c, c->edges[i].b);
        if (a != b && c->size[a] + c->size[b] <= p->per_unit) {
            const uint16_t t = c->next[a];
            c->next[a] = c->next[b];
            c->next[b] = t;
            c->root[b] = a;
            c->size[a] = (uint16_t)(c->size[a] + c->size[b]);
        }
    }
}

/* Roots, largest groups first, else by number. */
static uint32_t list_groups(const struct pack *p, struct piece *c)
{
    uint32_t n = 0;
    for (uint32_t size = p->per_unit; size > 0; size--) {
        for (uint32_t i = 0; i < c->n; i++) {
            if (c->root[i] == i && c->size[i] == size) {
                c->groups[n++] = (uint16_t)i;
            }
        }
    }
    return n;
}

static void lay_units(const struct pack *p, struct piece *c)
{
    uint32_t left = c->n, room = p->per_unit - c->first % p->per_unit;
    for (c->nunits = 0; left > 0; left -= c->room[c->nunits++], room = p->per_unit) {
        c->room[c->nunits] = (uint16_t)MIN(room, left);
        c->used[c->nunits] = 0;
    }
}

/* A unit for want members of node i's group: an empty one for those that fill half of it, else
 * the one with room and the nearest member, else one with the most room. */
static uint32_t choose_unit(const struct pack *p, const struct piece *c, uint32_t i, uint32_t want)
{
    uint32_t nearest = GRAPH_NONE, empty = GRAPH_NONE, most = GRAPH_NONE;
    float best = 0;
    for (uint32_t u = 0; u < c->nunits; u++) {
        const uint32_t left = (uint32_t)c->room[u] - c->used[u];
        if (left > 0 && (most == GRAPH_NONE || left > (uint32_t)c->room[most] - c->used[most])) {
            most = u;
        }
        if (left < want) {
            continue;
        }
        if (c->used[u] == 0) {
            empty = empty == GRAPH_NONE ? u : empty;
            continue;
        }
        if (2 * want > p->per_unit && empty != GRAPH_NONE) {
            break;
        }
        const float key = between(p, c->first + i, c->first + c->unit[u * p->per_unit]);
        if (nearest == GRAPH_NONE || key < best) {
            nearest = u;
            best = key;
        }
    }
    const bool large = 2 * want > p->per_unit;
    const uint32_t first = large ? empty : nearest, second = large ? nearest : empty;
    return first != GRAPH_NONE ? first : second != GRAPH_NONE ? second : most;
}

static void fill_units(const struct pack *p, struct piece *c, uint32_t ngroups)
{
    for (uint32_t g = 0; g < ngroups; g++) {
        uint16_t i = c->groups[g];
        for (uint32_t left = c->size[i]; left > 0;) { /* more than once: it was taken apart */
            const uint32_t u = choose_unit(p, c, i, left);
            for (; left > 0 && c->used[u] < c->room[u]; left--, i = c->next[i]) {
                c->unit[u * p->per_unit + c->used[u]++] = i;
            }
        }
    }
}

static void pack_piece(const struct pack *p, struct piece *c)
{
    gather(p, c);
    join(p, c);
    lay_units(p, c);
    fill_units(p, c, list_groups(p, c));
    uint32_t at = c->first;
    for (uint32_t u = 0; u < c->nunits; u++) {
        for (uint32_t i = 0; i < c->room[u]; i++) {
            p->order[at++] = c->first + c->unit[u * p->per_unit + i];
        }
    }
}

static bool piece_init(const struct pack *p, struct piece *c, uint32_t n)
{
    const size_t units = n + 2 * (size_t)p->per_unit; /* places of all units, whole ones */
    *c = (struct piece){ .edges = alloc_try((size_t)n * p->b->g.degree * sizeof *c->edges),
                         .root = alloc_try(n * sizeof *c->root),
                         .size = alloc_try(n * sizeof *c->size),
                         .next = alloc_try(n * sizeof *c->next),
                         .groups = alloc_try(n * sizeof *c->groups),
                         .unit = alloc_try(units * sizeof *c->unit),
                         .used = alloc_try(units * sizeof *c->used),
                         .room = alloc_try(units * sizeof *c->room) };
    return c->edges && c->root && c->size && c->next && c->groups && c->unit && c->used && c->room;
}

static void piece_done(struct piece *c)
{
    mem_free(c->edges);
    mem_free(c->root);
    mem_free(c->size);
    mem_free(c->next);
    mem_free(c->groups);
    mem_free(c->unit);
    mem_free(c->used);
    mem_free(c->room);
}

static void pack_cluster(void *ctx, size_t i)
{
    const struct pack *p = ctx;
    struct graph_builder *b = p->b;
    struct status st = STATUS_INIT;
    struct piece c;
    const uint32_t end = b->cluster_first[i + 1];
    uint32_t first = b->cluster_first[i];
    if (atomic_load_explicit(&b->rc, memory_order_relaxed) != 0) {
        return;
    }
    if (b->in->check && b->in->check(b->in->check_arg, &st) != 0) {
        graph__fail(b, st.code, &st);
        return;
    }
    if (!piece_init(p, &c, MIN(end - first, PIECE_NODES))) {
        graph__fail(b, st_fail(&st, ST_NO_MEMORY, "no memory to pack a cluster"), &st);
    } else {
        for (; first < end; first += c.n) {
            c.first = first;
            c.n = MIN(end - first, PIECE_NODES);
            pack_piece(p, &c);
        }
    }
    piece_done(&c);
}

int diskann__pack(struct graph_builder *b, uint32_t per_unit, uint32_t *order, struct status *st)
{
    const struct index_rows *r = b->in->rows;
    struct pack p = { .b = b, .per_unit = per_unit, .order = order,
                      .kernel = diskann__kernel(r->metric, r->type),
                      .larger = metric_larger_is_better(r->metric) };
    if (per_unit == 1) {
        for (uint32_t i = 0; i < b->g.n; i++) {
            order[i] = i;
        }
        return 0;
    }
    parallel_for(b->in->pool, b->g.nclusters, pack_cluster, &p);
    if (atomic_load(&b->rc) != 0) {
        *st = b->st;
    }
    return atomic_load(&b->rc);
}
