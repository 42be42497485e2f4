/*
 * graph_repair.c - every node of a graph is reachable.
 *
 * WHAT        Nodes are marked breadth first from the first one inserted. Each node not reached is
 *             then hung under a reached one near it that has a free slot; where the nearest is
 *             full, the node takes the place of its last link and leads on to what was there, so
 *             nothing reached before is lost. What the node leads to is marked in turn.
 * INVARIANTS  Afterwards every node is reachable from b->order[0], and every pivot is, so whichever
 *             entry a search takes, the part it starts in is joined to the rest.
 * THREADS     One: few nodes need it, apart from rows that are equal by the thousand, which hang
 *             under each other without a walk.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/graph/graph_build_int.h"

struct repair {
    struct graph_builder *b;
    uint64_t *reached;
    uint32_t *queue;
};

static void mark_from(struct repair *r, uint32_t node)
{
    const struct graph *g = &r->b->g;
    size_t head = 0, tail = 0;
    bit_set(r->reached, node);
    r->queue[tail++] = node;
    while (head < tail) {
        const uint32_t *links = graph_links(g, r->queue[head++]);
        for (size_t i = 0; i < g->degree && links[i] != GRAPH_NONE; i++) {
            if (!bit_get(r->reached, links[i])) {
                bit_set(r->reached, links[i]);
                r->queue[tail++] = links[i];
            }
        }
    }
}

/* Appends to's number to from's list where there is room. */
static bool append(struct graph_builder *b, uint32_t from, uint32_t to)
{
    uint32_t *links = b->links + (size_t)from * b->g.degree;
    for (size_t i = 0; i < b->g.degree; i++) {
        if (links[i] == to) {
            return true;
        }
        if (links[i] == GRAPH_NONE) {
            links[i] = to;
            return true;
        }
    }
    return false;
}

static bool is_equal(const struct graph_builder *b, uint32_t x, uint32_t y)
{
    return memcmp(graph_code(&b->g, x), graph_code(&b->g, y), b->g.stride) == 0;
}

/* Puts node between from, whose list is full, and from's last link. */
static void squeeze(struct graph_builder *b, uint32_t from, uint32_t node)
{
    uint32_t *last = b->links + (size_t)from * b->g.degree + b->g.degree - 1, to = *last;
    *last = node;
    if (!append(b, node, to)) {
        b->links[(size_t)node * b->g.degree + b->g.degree - 1] = to;
    }
}

static int hang(struct repair *r, uint32_t node, uint32_t *last, struct status *st)
{
    struct graph_builder *b = r->b;
    struct graph_scratch *s = NULL;
    struct index_counters c = { 0 };
    int rc = 0;
    if (*last != GRAPH_NONE && is_equal(b, *last, node) && append(b, *last, node)) {
        return 0;
    }
    TRY(graph__scratch_get(&b->g, b->ef, &s, st));
    codec_query_code(b->codec, graph_code(&b->g, node), s->pq);
    size_t n = graph__walk(&b->g, s, graph__entries(&b->g, s, &c), b->ef, &c);
    uint32_t nearest = b->order[0];
    for (size_t i = 0; i < n; i++) {
        uint32_t at = graph_cand_node(s->pool[i]);
        if (bit_get(r->reached, at)) {
            if (nearest == b->order[0]) {
                nearest = at;
            }
            if (append(b, at, node)) {
                goto out;
            }
        }
    }
    if (!append(b, nearest, node)) {
        squeeze(b, nearest, node);
    }
out:
    graph__scratch_put(&b->g, s);
    if (rc == 0) {
        *last = node;
    }
    return rc;
}

int graph__repair(struct graph_builder *b, uint32_t *ret_repaired, struct status *st)
{
    int rc = 0;
    const uint32_t n = b->g.n;
    uint32_t last = GRAPH_NONE, repaired = 0;
    struct repair r = { .b = b, .reached = alloc_try_zero(bits_words(n) * 8),
                        .queue = alloc_try(n * sizeof *r.queue) };
    if (!r.reached || !r.queue) {
        FAIL(st, ST_NO_MEMORY, "no memory to check %u nodes of a graph", n);
    }
    mark_from(&r, b->order[0]);
    for (uint32_t i = 0; i < n; i++) {
        if (bit_get(r.reached, i)) {
            continue;
        }
        if (repaired % 64 == 0 && b->in->check) {
            TRY(b->in->check(b->in->check_arg, st));
        }
        TRY(hang(&r, i, &last, st));
        mark_from(&r, i);
        repaired++;
    }
    *ret_repaired = repaired;
out:
    mem_free(r.reached);
    mem_free(r.queue);
    return rc;
}
