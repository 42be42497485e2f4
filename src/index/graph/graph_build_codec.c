/*
 * graph_build_codec.c - the codes that searches of a finished graph walk on.
 *
 * WHAT        A walk's time goes to fetching codes from anywhere in memory, so HNSW takes half the
 *             bytes where that costs next to nothing: walks from some rows gather neighbourhoods,
 *             and when the ten nearest, as the rows tell it, are among the TEN_IN_MAX nearest by
 *             codes of 4 bits, these are the file's; else those of 8 bits that the graph was built
 *             on.
 *             Among how many the ten are is kept with the file: a search's pool is no smaller. So
 *             is how far codes are off: searches in a range look that much further.
 * THREADS     Sample rows in parallel, each writes what is its own: the result does not depend on
 *             their number.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/flat_int.h"
#include "index/graph/graph_build_int.h"
#include "simd/simd.h"

#define SAMPLES 256u
#define NEAR GRAPH_TEN_IN_MAX /* rows of a neighbourhood */
#define BEST 10u
#define KEEP 0.985 /* of the best are to be among so many by their codes, */
#define TEN_IN_MAX 20u /* of 4 bits: sentence embeddings 12, SIFT 20 */
/* Fewer rows are in a cache whatever their codes. */
#define ROWS_MIN 4096u

struct judge {
    struct graph_builder *b;
    const struct codec *codec;
    uint16_t at[SAMPLES][NEAR]; /* best rows at each place by their keys */
    double off2[SAMPLES]; /* sums of squares over compared[] rows */
    uint32_t compared[SAMPLES];
};

struct near {
    float exact, key;
};

static int by_exact(const void *a, const void *b)
{
    const struct near *x = a, *y = b;
    return (x->exact > y->exact) - (x->exact < y->exact);
}

static int by_key(const void *a, const void *b)
{
    const struct near *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key) : by_exact(b, a);
}

/* Rows near row j's node, and how their codes order them. */
static void judge_near(struct judge *k, size_t j, struct near *v, size_t n)
{
    double off2 = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)v[i].key - (double)v[i].exact;
        off2 += d * d;
    }
    k->off2[j] = isfinite(off2) ? off2 : 0;
    k->compared[j] = isfinite(off2) ? (uint32_t)n : 0;
    if (n < 2 * TEN_IN_MAX || !isfinite(off2)) { /* NaN has no order */
        return;
    }
    qsort(v, n, sizeof *v, by_exact);
    const float last = v[BEST - 1].exact;
    qsort(v, n, sizeof *v, by_key); /* equal keys: the worse first */
    uint32_t found = 0;
    for (size_t i = 0; i < n && found < BEST; i++) {
        k->at[j][i] = v[i].exact <= last;
        found += k->at[j][i];
    }
}

static void judge_row(void *ctx, size_t j)
{
    struct judge *k = ctx;
    struct graph_builder *b = k->b;
    const struct graph *g = &b->g;
    const struct index_rows *rows = b->in->rows;
    const size_t stride = codec_stride(k->codec);
    struct graph_scratch *s = NULL;
    struct index_counters c = { 0 };
    struct status st = STATUS_INIT;
    struct near v[NEAR];
    float scores[NEAR];
    uint32_t ids[NEAR];
    uint8_t *codes = alloc_try_aligned(CACHE_LINE, NEAR * stride);
    void *pq = alloc_try_aligned(CACHE_LINE, ROUND_UP(codec_query_bytes(k->codec), (size_t)64));
    if (!codes || !pq || graph__scratch_get(g, NEAR + 1, &s, &st) != 0) {
        graph__fail(b, st_fail(&st, ST_NO_MEMORY, "no memory to choose the codes of a graph"), &st);
        goto out;
    }
    const uint32_t me = (uint32_t)((uint64_t)g->n * j / SAMPLES);
    const void *row = index_row(rows, b->perm[me]);
    codec_query(b->codec, row, s->pq);
    const size_t found = graph__walk(g, s, graph__entries(g, s, &c), NEAR + 1, &c);
    size_t n = 0;
    for (size_t i = 0; i < found && n < NEAR; i++) {
        const uint32_t node = graph_cand_node(s->pool[i]);
        if (node != me) {
            ids[n] = b->perm[node];
            codec_encode(k->codec, index_row(rows, ids[n]), rows->stride, 1, codes + n * stride);
            n++;
        }
    }
    codec_query(k->codec, row, pq);
    codec_rows(k->codec, pq, codes, stride, n, s->keys);
    flat__dist(simd_ops(), rows->metric, rows->type).ids(row, rows->base, rows->stride, ids, n,
                                                         rows->dim, scores);
    const float sign = metric_larger_is_better(rows->metric) ? -1 : 1;
    for (size_t i = 0; i < n; i++) {
        v[i] = (struct near){ .exact = sign * scores[i], .key = s->keys[i] };
    }
    judge_near(k, j, v, n);
out:
    graph__scratch_put(g, s);
    mem_free(codes);
    mem_free(pq);
}

/* Among how many by their keys the ten best are; NEAR: too far, 0: no neighbourhood could be judged. */
static uint32_t ten_in(const struct judge *k)
{
    double at[NEAR] = { 0 }, all = 0, kept = 0;
    for (size_t j = 0; j < SAMPLES; j++) {
        for (size_t i = 0; i < NEAR; i++) {
            at[i] += k->at[j][i];
            all += k->at[j][i];
        }
    }
    uint32_t n = 0;
    while (n < NEAR && kept < KEEP * all) {
        kept += at[n++];
    }
    return all > 0 ? MAX(n, BEST) : 0;
}

static int judge_codec(struct graph_builder *b, const struct codec *codec,
                       struct graph_codes *ret, struct status *st)
{
    int rc = 0;
    double off2 = 0, compared = 0;
    struct judge *k = alloc_try_zero(sizeof *k);
    if (!k) {
        FAIL(st, ST_NO_MEMORY, "no memory to choose the codes of a graph");
    }
    k->b = b;
    k->codec = codec;
    parallel_for(b->in->pool, MIN(SAMPLES, b->g.n), judge_row, k);
    rc = atomic_load(&b->rc);
    if (rc != 0) {
        *st = b->st;
        goto out;
    }
    for (size_t j = 0; j < SAMPLES; j++) {
        off2 += k->off2[j];
        compared += k->compared[j];
    }
    ret->ten_in = ten_in(k);
    ret->off = compared > 0 ? (float)sqrt(off2 / compared) : 0;
out:
    mem_free(k);
    return rc;
}

int graph__search_codec(struct graph_builder *b, const struct codec_spec *spec, bool may_choose,
                        struct codec **ret_own, struct graph_codes *ret, struct status *st)
{
    int rc = 0;
    struct codec *own = NULL;
    struct codec_spec want = *spec;
    *ret = (struct graph_codes){ 0 };
    const bool choose = may_choose && want.kind == CODEC_SQ8 && b->g.n >= ROWS_MIN;
    want.kind = choose ? CODEC_SQ4 : want.kind;
    if (want.kind != codec_kind_of(b->codec)) {
        TRY(graph__train(b, &want, &own, st));
    }
    if (want.kind >= CODEC_SQ8 && want.kind <= CODEC_SQ4) {
        TRY(judge_codec(b, own ? own : b->codec, ret, st));
        if (choose && (ret->ten_in == 0 || ret->ten_in > TEN_IN_MAX)) {
            codec_free(TAKE(own));
            TRY(judge_codec(b, b->codec, ret, st));
        }
    }
    *ret_own = TAKE(own);
out:
    codec_free(own);
    return rc;
}
