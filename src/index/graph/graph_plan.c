/*
 * graph_plan.c - the strategy of a filtered graph search.
 *
 * WHAT        Such a search can score all allowed rows, raw or coded; those of the clusters near
 *             the query; or walk to the query and on by allowed neighbours. plan_cost() estimates
 *             each from counts of memory accesses, and the least is taken, under these guards:
 *
 *                 not many more rows allowed than a walk would find: they are all scored
 *                 far fewer allowed among the query's entries than elsewhere: the filter shuns the
 *                 query, and a walk would end before it reaches the allowed rows
 * THREADS     No state.
 * WHY         Costs are memory's, so one table of constants serves: they were measured on an Intel
 *             core with 2 MB of second-level cache, walks on Zen 4, and ratios between a random line,
 *             a streamed byte and a looked-up bit differ little between servers. Calibrating on each
 *             machine was left out: its noise moved choices more than machines do.
 */
#include "index/graph/graph_plan.h"

#include <math.h>

#include "base/compiler.h"

/* ns */
#define LINE_FAR 5.0   /* a further line of a row fetched by number from memory, others in flight */
#define LINE_NEAR 2.0  /* from a cache */
#define FETCH_FAR 18.0 /* the first, and bookkeeping */
#define FETCH_NEAR 5.0
#define STREAM_FAR 0.034 /* a byte of rows read in order */
#define STREAM_NEAR 0.025
#define CACHE (4u << 20) /* bytes of which most searches find most in a cache */
#define BIT 0.6           /* a node's row and bit, nodes in order */
#define BITS_NEAR 3.5     /* a row's bits, in a cache */
#define BITS_FAR 14.0     /* and more from memory: all that will be needed are asked for early */
#define PASS 60.0         /* rows that bits do not rule out, */
#define PASS_EF 14.0      /* and for each of ef */
#define SCATTERED 8.0     /* more for a code where the one before was far away */
#define WORD 0.7          /* 64 bits, few set; */
#define BIT_SET 1.6       /* a bit that is set, brought to its node's place, */
#define BIT_SET_FAR 4.0   /* and more where those are far apart */
#define BIT_FAR 3.0       /* the same for neighbours */
#define HOP 90.0          /* a node taken from the frontier: its links, the heaps */
#define WALK_PART 0.7     /* neighbours of one node lie near each other */
#define POOL 0.012        /* to put a node among so many in order, each */
#define SPARE_POWER 0.4
#define START 4000.0      /* entries of a walk; a query's bits */
#define HOP_ALLOWED 130.0 /* a node whose allowed neighbours are looked for */

/* Walks go on beyond what the share promises, by this much on average. */
#define REACH_MORE 1.1

/* Where clusters and a walk cost the same the walk finds a little more. */
#define UNSURE 1.1

#define SHUNNED_MOST 0.25
#define SHUNNED_OF 8 /* where fewer are allowed near the query than one of so many promised */

/* A try that costs less than one part of so many of what it may spare. */
#define LONG_SHOT 3

/* Fewer are all looked at before their end shows. */
#define CLUSTERS_MIN 64u

/* The part of accesses to n rows of so many bytes that goes to memory. */
static double far_part(const struct plan_search *p, size_t bytes)
{
    double all = (double)p->nrows * (double)bytes;
    return all <= CACHE ? 0 : 1 - CACHE / all;
}

static double by_id(const struct plan_search *p, size_t bytes)
{
    double far = far_part(p, bytes), lines = (double)((bytes + 63) / 64) - 1;
    return far * (FETCH_FAR + LINE_FAR * lines) + (1 - far) * (FETCH_NEAR + LINE_NEAR * lines);
}

static double streamed(const struct plan_search *p, size_t bytes)
{
    double far = far_part(p, bytes);
    return (far * STREAM_FAR + (1 - far) * STREAM_NEAR) * (double)bytes;
}

/* Looking at n rows in a scan. */
static double scanned(const struct plan_search *p, double n)
{
    if (!p->bit_bytes) {
        return n * by_id(p, p->code_bytes);
    }
    return n * (BITS_NEAR + BITS_FAR * far_part(p, p->bit_bytes)) +
           fmin(n, PASS + PASS_EF * (double)p->ef) * by_id(p, p->code_bytes);
}

/* Distances of a walk for ef results: bench/graph_bench gives 300 to start and 16 a result at degree
 * 32, 28 at 64. */
static double walk_distances(double ef, const struct plan_search *p)
{
    return fmin(300 + (4 + 0.375 * (double)p->degree) * ef, p->nrows);
}

/* k / share nodes hold k allowed ones, more or less; what ef is above k makes up for where the walk
 * goes astray, and serves many nearly as it serves k. Sentence embeddings keep their recall with
 * ef - k nodes more at any share; SIFT loses .02 at a fifth with a power of 0.7, .015 at a 30th with 0.5. */
static double spare(const struct plan_search *p, double share)
{
    return p->ef > p->k ? (double)(p->ef - p->k) * pow(fmin(share, 1), SPARE_POWER) : 0;
}

static double walk_ef(const struct plan_search *p, double share)
{
    double s = fmax(share, 1.0 / p->nrows);
    return fmin(((double)p->k + spare(p, s)) / s, p->nrows);
}

static double share_of(const struct plan_search *p)
{
    return p->local < 0 ? (double)p->allowed / fmax(p->nrows, 1) : p->local;
}

size_t plan_walk_ef(const struct plan_search *p)
{
    return (size_t)ceil(walk_ef(p, share_of(p)));
}

size_t plan_walk_allowed(const struct plan_search *p)
{
    return p->k + (size_t)ceil(spare(p, share_of(p)));
}

/* All neighbours of `full` nodes are scored, then the allowed ones of `limit` nodes. */
static double cost_reach(const struct plan_search *p, double full, double limit, double share)
{
    const double d = walk_distances(full, p), code = by_id(p, p->code_bytes);
    return START + d * (WALK_PART * code + BIT_FAR + POOL * full) + d / (0.375 * p->degree) * HOP +
           fmax(limit - full, 0) * (HOP_ALLOWED + 0.1 * p->degree * share * code);
}

bool plan_shunned(const struct plan_search *p)
{
    return p->local >= 0 && p->local * SHUNNED_OF * p->nrows < p->allowed;
}

size_t plan_walk_full(const struct plan_search *p, size_t limit)
{
    return plan_shunned(p) || limit < 2 * p->ef ? limit : p->ef;
}

static double cost_walk(const struct plan_search *p, double local)
{
    const double limit = walk_ef(p, local), full = (double)plan_walk_full(p, (size_t)limit);
    return cost_reach(p, full, REACH_MORE * limit, local);
}

bool plan_long_shot(const struct plan_search *p, const struct plan_choice *c)
{
    return c->strategy != STRAT_GRAPH2 && p->k <= PLAN_PLAIN_EF &&
           c->ns > LONG_SHOT * cost_reach(p, PLAN_PLAIN_EF, PLAN_PLAIN_EF, 1);
}

/* Bringing all bits into the order of nodes. */
static double turn_bits(const struct plan_search *p)
{
    return p->allowed * (BIT_SET + BIT_SET_FAR * far_part(p, 5)) + p->nrows / 64.0 * WORD;
}

/* Finding the allowed among so many nodes. */
static double find_bits(const struct plan_search *p, double look)
{
    return p->prepared ? look / 64 * WORD : fmin(turn_bits(p) + look / 64 * WORD, look * BIT);
}

/* Nodes of the clusters that are looked through. */
static double cluster_nodes(const struct plan_search *p, double local)
{
    /* How far the right clusters reach: to 30 of 117 of sentence embeddings and 42 of 1000 of SIFT
     * when a tenth is allowed, to twice and three times as many when one in three hundred is. */
    double share = fmax(local, 0.5 / p->nrows), clusters = fmax(p->nclusters, 1);
    double size = (double)p->nrows / clusters, near = 2 * sqrt(clusters) * pow(0.1 / share, 0.2);
    const double reach = fmin(0.39 + (double)p->ef / 53, 2);
    return fmin(fmin(near, 0.6 * clusters) * reach + 8 + (double)p->ef / 8, clusters) * size;
}

static double cost_clusters(const struct plan_search *p, double local)
{
    const double look = cluster_nodes(p, local), clusters = fmax(p->nclusters, 1);
    return (p->bit_bytes ? 2 : 1) * START + clusters * (0.1 * (double)p->code_bytes + 20) +
           find_bits(p, look) +
           scanned(p, look * fmin(fmax(local, 0.5 / p->nrows), 1));
}

bool plan_turns(const struct plan_search *p, bool clusters)
{
    const double local = p->local < 0 ? (double)p->allowed / fmax(p->nrows, 1) : p->local;
    const double look = clusters ? cluster_nodes(p, local) : p->nrows;
    return !p->prepared && turn_bits(p) < look * BIT;
}

double plan_cost(const struct plan_search *p, enum index_strategy s)
{
    double n = p->allowed, all = p->nrows, share = n / fmax(all, 1);
    double local = p->local < 0 ? share : p->local;
    double exact = (double)p->keep * by_id(p, p->row_bytes);
    switch (s) {
    case STRAT_FLAT:
        return fmin(n * by_id(p, p->row_bytes), all * streamed(p, p->row_bytes)) +
               all / 64 * WORD;
    case STRAT_SCAN:
        return (p->bit_bytes ? START : 0) +
               (n * PLAN_FEW_OF < all && !p->prepared ? turn_bits(p) : find_bits(p, all)) +
               scanned(p, n) + exact +
               (p->prepared || p->bit_bytes ? 0 : n * SCATTERED * far_part(p, p->code_bytes));
    case STRAT_CLUSTERS:
        return cost_clusters(p, local) + exact;
    default:
        return cost_walk(p, local) + exact;
    }
}

struct plan_choice plan_filtered(const struct plan_search *p)
{
    double flat = plan_cost(p, STRAT_FLAT), scan = plan_cost(p, STRAT_SCAN);
    double share = (double)p->allowed / fmax(p->nrows, 1);
    struct plan_choice best = { .scan = scan < flat ? STRAT_SCAN : STRAT_FLAT };
    best.scan_ns = fmin(scan, flat);
    best.ns = best.scan_ns;
    best.strategy = best.scan;
    if (p->allowed <= 3 * (uint64_t)p->ef) {
        return best;
    }
    double local = p->local < 0 ? share : p->local;
    const enum index_strategy walks[] = { STRAT_CLUSTERS, STRAT_GRAPH2 };
    for (size_t i = 0; i < ARRAY_LEN(walks); i++) {
        /* A walk that has found enough has found the right ones, whatever lies between. Where a
         * filter shuns the query's neighbourhood nobody can tell how far clusters must reach: with
         * bits that is tried, on a small budget, unless so many are allowed elsewhere that the
         * nearest of them must be thousands, all as far. */
        if (walks[i] == STRAT_GRAPH2 && walk_ef(p, local) > PLAN_PLAIN_EF) {
            continue;
        }
        if (walks[i] == STRAT_CLUSTERS &&
            (p->nclusters < CLUSTERS_MIN ||
             (local < share / 6 && (!p->bit_bytes || share > SHUNNED_MOST)))) {
            continue;
        }
        double cost = plan_cost(p, walks[i]);
        if (cost < best.ns * (best.strategy == STRAT_CLUSTERS ? UNSURE : 1)) {
            best.ns = cost;
            best.strategy = walks[i];
        }
    }
    return best;
}
