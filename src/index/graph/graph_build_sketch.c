/*
 * graph_build_sketch.c - the sketches beside the links of a finished graph: graph_sketch.c says
 * what they are.
 *
 * WHAT        The directions: the principal axes of a sample of edges, by iterating a subspace of
 *             them, in 8-bit integers. Then every row's projection, kappa from the sample, the
 *             records of all nodes, and at last tau: walks from some rows show which neighbours
 *             belonged into the pool, and tau is what lets TAU_KEEP of those pass.
 * THREADS     Directions, blocks of nodes and queries run in parallel, each writes what is its own.
 * MEMORY      n (4 bits + 4) bytes for the projections and n records.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/by_value.h"
#include "index/graph/graph_build_int.h"
#include "simd/simd.h"

#define SAMPLE_EDGES 4096u
#define ROUNDS 8
#define BLOCK 512u
#define LONG_EDGE 16.0f /* times the length that three of four do not exceed */
#define TAU_QUERIES 256u
#define TAU_EF 32u
#define TAU_NODES 16u
#define TAU_KEEP 0.95
#define TAU_MAX 4096u /* neighbours of a query that count */

struct sketcher {
    struct graph_builder *b;
    uint32_t bits, nsample;
    float *edges, *turned;  /* nsample x dim and the other way round */
    float *axes, *spread;   /* bits x dim; bits x nsample: edges along them */
    float *along, *size2;   /* n x bits: projections; n: squared lengths */
    float kappa;
    struct graph_sketch made;
    float *taus;            /* TAU_QUERIES x TAU_MAX */
    uint32_t *ntaus;
};

static void row_of(const struct graph_builder *b, uint32_t node, float *out)
{
    const struct index_rows *rows = b->in->rows;
    index_rows_f32(rows, &b->perm[node], 0, 1, rows->metric == METRIC_COSINE, out);
}

/* ---- Directions ---- */

/* Edges are scaled so that a long one has a length near 1: what becomes of them stays far from the
 * limits of f32 whatever rows are measured in. Edges far longer than most tell nothing of those. */
static void level_edges(struct sketcher *k)
{
    const size_t dim = k->b->in->rows->dim;
    float *length = k->spread, *sorted = k->spread + k->nsample;
    for (uint32_t i = 0; i < k->nsample; i++) {
        double size = 0;
        for (size_t d = 0; d < dim; d++) {
            const double v = (double)k->edges[i * dim + d];
            size += v * v;
        }
        sorted[i] = length[i] = (float)sqrt(size);
    }
    qsort(sorted, k->nsample, sizeof *sorted, by_f32);
    float usual = sorted[(uint64_t)k->nsample * 3 / 4];
    usual = usual > 0 ? usual : sorted[k->nsample - 1]; /* most rows are equal */
    const int by = usual > 0 ? -ilogbf(usual) : 0;
    for (uint32_t i = 0; i < k->nsample; i++) {
        for (size_t d = 0; d < dim; d++) {
            float *v = &k->edges[i * dim + d];
            *v = length[i] <= LONG_EDGE * usual ? scalbnf(*v, by) : 0;
            k->turned[d * k->nsample + i] = *v;
        }
    }
}

static void draw_edges(struct sketcher *k, float *row)
{
    const size_t dim = k->b->in->rows->dim;
    const struct graph *g = &k->b->g;
    uint64_t state = k->b->in->params->seed ^ UINT64_C(0x736b65746368);
    for (uint32_t i = 0; i < k->nsample; i++) {
        float *to = k->edges + i * dim;
        uint32_t node = (uint32_t)(graph_random(&state) % g->n);
        const uint32_t *links = graph_links(g, node);
        uint64_t draw = graph_random(&state);
        size_t n = 0;
        while (n < g->degree && links[n] != GRAPH_NONE) {
            n++;
        }
        row_of(k->b, node, row);
        row_of(k->b, n ? links[draw % n] : node, to);
        for (size_t d = 0; d < dim; d++) {
            float v = to[d] - row[d];
            to[d] = fabsf(v) < 1e18f ? v : 0; /* NaN and Inf too */
        }
    }
    for (size_t i = 0; i < k->bits * dim; i++) {
        k->axes[i] = (float)(int32_t)(graph_random(&state) >> 32) * 0x1p-31f;
    }
}

static void edges_along(void *ctx, size_t i)
{
    const struct sketcher *k = ctx;
    const size_t dim = k->b->in->rows->dim;
    simd_ops()->ip[SIMD_F32].rows(k->axes + i * dim, k->edges, dim * 4, k->nsample, dim,
                                  k->spread + i * k->nsample);
}

static void axis_of(void *ctx, size_t i)
{
    const struct sketcher *k = ctx;
    const size_t dim = k->b->in->rows->dim;
    simd_ops()->ip[SIMD_F32].rows(k->spread + i * k->nsample, k->turned, k->nsample * 4, dim,
                                  k->nsample, k->axes + i * dim);
}

/* Each axis loses what the ones before it have and gets length 1, or 0 where nothing is left. */
static void make_orthogonal(struct sketcher *k)
{
    const size_t dim = k->b->in->rows->dim;
    for (uint32_t i = 0; i < k->bits; i++) {
        float *v = k->axes + i * dim, size;
        for (int pass = 0; pass < 2; pass++) { /* the second takes what rounding left */
            float *dots = k->spread;
            simd_ops()->ip[SIMD_F32].rows(v, k->axes, dim * 4, i, dim, dots);
            for (uint32_t j = 0; j < i; j++) {
                const float *u = k->axes + j * dim;
                for (size_t d = 0; d < dim; d++) {
                    v[d] -= dots[j] * u[d];
                }
            }
            simd_ops()->norm2[SIMD_F32].rows(NULL, v, 0, 1, dim, &size);
            const float by = size > 1e-30f && size < 1e36f ? 1 / sqrtf(size) : 0;
            for (size_t d = 0; d < dim; d++) {
                v[d] *= by;
            }
        }
    }
}

/* The principal axes of the edges, as integers in matrix. */
static void find_axes(struct sketcher *k, int8_t *matrix)
{
    const size_t n = k->bits * k->b->in->rows->dim;
    float top = 0;
    make_orthogonal(k);
    for (int round = 0; round < ROUNDS; round++) {
        parallel_for(k->b->in->pool, k->bits, edges_along, k);
        parallel_for(k->b->in->pool, k->bits, axis_of, k);
        make_orthogonal(k);
    }
    for (size_t i = 0; i < n; i++) {
        top = fmaxf(top, fabsf(k->axes[i]));
    }
    k->made.unit = top / 127;
    for (size_t i = 0; i < n; i++) {
        matrix[i] = (int8_t)(k->made.unit > 0 ? lrintf(k->axes[i] / k->made.unit) : 0);
    }
}

/* ---- Projections ---- */

static void project(const struct sketcher *k, const float *row, float *out)
{
    const size_t dim = k->b->in->rows->dim;
    simd_ops()->ipq[SIMD_I8].rows(row, k->made.matrix, dim, k->bits, dim, out);
    for (uint32_t i = 0; i < k->bits; i++) {
        out[i] *= k->made.unit;
    }
}

static void project_block(void *ctx, size_t block)
{
    struct sketcher *k = ctx;
    const struct graph *g = &k->b->g;
    float row[GRAPH_SKETCH_DIM_MAX];
    uint32_t first = (uint32_t)block * BLOCK, end = MIN(first + BLOCK, g->n);
    for (uint32_t i = first; i < end; i++) {
        row_of(k->b, i, row);
        project(k, row, k->along + (size_t)i * k->bits);
        simd_ops()->norm2[SIMD_F32].rows(NULL, row, 0, 1, k->b->in->rows->dim, &k->size2[i]);
    }
}

/* The mean projection into centre, and kappa: what |r| is times, on average, to give the size of r
 * along the signs of its projection. */
static int centre_of(struct sketcher *k, float *centre, struct status *st)
{
    int rc = 0;
    const struct graph *g = &k->b->g;
    const size_t dim = k->b->in->rows->dim;
    double along = 0, lengths = 0, *sum = alloc_try_zero(k->bits * sizeof *sum);
    if (!sum) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u directions", k->bits);
    }
    for (uint32_t i = 0; i < g->n; i++) {
        for (uint32_t d = 0; d < k->bits; d++) {
            float v = k->along[(size_t)i * k->bits + d];
            sum[d] += fabsf(v) < 1e18f ? (double)v : 0;
        }
    }
    for (uint32_t d = 0; d < k->bits; d++) {
        centre[d] = (float)(sum[d] / g->n);
    }
    for (uint32_t i = 0; i < k->nsample; i++) {
        float z[GRAPH_SKETCH_BITS_MAX], size;
        double zz = 0, z1 = 0;
        project(k, k->edges + i * dim, z);
        simd_ops()->norm2[SIMD_F32].rows(NULL, k->edges + i * dim, 0, 1, dim, &size);
        for (uint32_t d = 0; d < k->bits; d++) {
            zz += (double)z[d] * (double)z[d];
            z1 += (double)fabsf(z[d]);
        }
        along += z1 > 0 ? zz / z1 : 0;
        lengths += sqrt((double)size);
    }
    k->kappa = lengths > 0 ? (float)(along / lengths) : 0;
out:
    mem_free(sum);
    return rc;
}

/* ---- Records ---- */

/* a and b of a neighbour, key apart from node; its signs into codes. */
static void edge(const struct sketcher *k, uint32_t node, uint32_t to, float key, float *ret_a,
                 float *ret_b, uint8_t *codes)
{
    const enum metric metric = k->b->in->rows->metric;
    const float *zc = k->along + (size_t)node * k->bits, *zx = k->along + (size_t)to * k->bits;
    const float cc = k->size2[node];
    float rr = metric == METRIC_L2       ? key
               : metric == METRIC_COSINE ? 2 + 2 * key
                                         : k->size2[to] + cc + 2 * key;
    float part = metric == METRIC_L2 ? rr : metric == METRIC_COSINE ? rr / 2 : key + cc;
    float sum = 0;
    rr = rr > 0 ? rr : 0;
    for (uint32_t d = 0; d < k->bits; d++) {
        bool up = zx[d] >= zc[d];
        float v = zc[d] - k->made.centre[d];
        sum += up ? v : -v;
        codes[d / 8 * 16] |= (uint8_t)(up << d % 8);
    }
    *ret_b = (metric == METRIC_L2 ? 2 : 1) * k->kappa * sqrtf(rr);
    *ret_a = part + *ret_b * sum;
}

static void put_record(const struct sketcher *k, struct graph_scratch *s, uint32_t node,
                       uint32_t *record)
{
    struct graph_builder *b = k->b;
    const uint32_t *links = graph_links(&b->g, node), degree = b->g.degree;
    uint8_t *at = (uint8_t *)(record + degree), *a = at + SIMD_SKETCH_HEAD, *bb = a + degree;
    float head[4] = { 0 }, low = INFINITY, high = -INFINITY, most = 0;
    uint32_t n = 0;
    memcpy(record, links, degree * sizeof *links);
    while (n < degree && links[n] != GRAPH_NONE) {
        n++;
    }
    codec_query_code(b->codec, graph_code(&b->g, node), s->pq);
    codec_ids(b->codec, s->pq, b->codes, b->g.stride, links, n, s->keys);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *codes = bb + degree + i / 16 * 2 * k->bits + i % 16;
        edge(k, node, links[i], s->keys[i], &s->dist[i], &s->cover[i], codes);
        low = fminf(low, s->dist[i]);
        high = fmaxf(high, s->dist[i]);
        most = fmaxf(most, s->cover[i]);
        if (!isfinite(s->dist[i]) || !isfinite(s->cover[i])) {
            head[0] = -INFINITY; /* all pass, whatever the query */
        }
    }
    head[3] = b->in->rows->metric == METRIC_IP ? k->size2[node] : 0;
    if (n > 0 && head[0] == 0) {
        head[0] = low;
        head[1] = (high - low) / 255;
        head[2] = most / 255;
    }
    for (uint32_t i = 0; i < n; i++) {
        a[i] = (uint8_t)(head[1] > 0 ? (s->dist[i] - low) / head[1] + 0.5f : 0);
        bb[i] = (uint8_t)(head[2] > 0 ? s->cover[i] / head[2] + 0.5f : 0);
    }
    memcpy(at, head, sizeof head);
}

static void record_block(void *ctx, size_t block)
{
    struct sketcher *k = ctx;
    struct graph_builder *b = k->b;
    struct graph_scratch *s = NULL;
    struct status st = STATUS_INIT;
    uint32_t first = (uint32_t)block * BLOCK, end = MIN(first + BLOCK, b->g.n);
    if (atomic_load_explicit(&b->rc, memory_order_relaxed) != 0) {
        return;
    }
    if ((b->in->check && b->in->check(b->in->check_arg, &st) != 0) ||
        graph__scratch_get(&b->g, b->g.degree, &s, &st) != 0) {
        graph__fail(b, st.code, &st);
        return;
    }
    for (uint32_t i = first; i < end; i++) {
        put_record(k, s, i, b->records + i * b->record_words);
    }
    graph__scratch_put(&b->g, s);
}

/* ---- tau ---- */

/* The taus that neighbours need which belong into the pool of a walk for row j's node. */
static void tau_query(void *ctx, size_t j)
{
    struct sketcher *k = ctx;
    struct graph_builder *b = k->b;
    const struct graph *g = &b->g;
    struct graph_scratch *s = NULL;
    struct index_counters c = { 0 };
    struct status st = STATUS_INIT;
    struct graph_sketch_query *sq =
        alloc_try_aligned(64, ROUND_UP(graph__sketch_query_bytes(g->head.rows.dim, k->bits), 64));
    if (!sq || graph__scratch_get(g, TAU_EF, &s, &st) != 0) {
        graph__fail(b, st_fail(&st, ST_NO_MEMORY, "no memory to measure sketches"), &st);
        goto out;
    }
    const uint32_t me = (uint32_t)((uint64_t)g->n * j / TAU_QUERIES), degree = g->degree;
    const void *row = index_row(b->in->rows, b->perm[me]);
    float *tau = k->taus + j * TAU_MAX;
    uint32_t n = 0;
    graph__sketch_query(&k->made, b->in->rows, row, sq);
    codec_query(b->codec, row, s->pq);
    size_t found = MIN(graph__walk(g, s, graph__entries(g, s, &c), TAU_EF, &c), (size_t)TAU_NODES);
    for (size_t i = 0; i < found; i++) {
        const uint32_t node = graph_cand_node(s->pool[i]);
        const uint32_t *record = b->records + node * b->record_words;
        const uint8_t *at = (const uint8_t *)(record + degree);
        const float key = graph_cand_key(s->pool[i]);
        const float far = graph_sketch_far(sq, at, key);
        float head[4];
        memcpy(head, at, sizeof head);
        size_t all = simd_ops()->sketch_pass(&sq->s, at, record, degree, sq->base, INFINITY,
                                             s->pick, s->cover);
        if (all != degree || node == me) {
            continue;
        }
        size_t links = 0;
        while (links < degree && record[links] != GRAPH_NONE) {
            links++;
        }
        codec_ids(b->codec, s->pq, b->codes, g->stride, record, links, s->keys);
        for (size_t e = 0; e < links && n < TAU_MAX; e++) {
            const float most = graph_cand_key(s->pool[found - 1]);
            const float by = head[2] * at[SIMD_SKETCH_HEAD + degree + e] * far;
            if (s->keys[e] <= most && record[e] != me && by > 0) {
                tau[n++] = (key + s->cover[e] - most) / by;
            }
        }
    }
    k->ntaus[j] = n;
out:
    graph__scratch_put(g, s);
    mem_free(sq);
}

static int find_tau(struct sketcher *k, float *ret_tau, struct status *st)
{
    int rc = 0;
    struct graph_builder *b = k->b;
    size_t n = 0;
    k->taus = alloc_try((size_t)TAU_QUERIES * TAU_MAX * sizeof *k->taus);
    k->ntaus = alloc_try_zero(TAU_QUERIES * sizeof *k->ntaus);
    if (!k->taus || !k->ntaus) {
        FAIL(st, ST_NO_MEMORY, "no memory to measure sketches");
    }
    parallel_for(b->in->pool, TAU_QUERIES, tau_query, k);
    rc = atomic_load(&b->rc);
    if (rc != 0) {
        *st = b->st;
        goto out;
    }
    for (uint32_t j = 0; j < TAU_QUERIES; j++) {
        for (uint32_t i = 0; i < k->ntaus[j]; i++) {
            const float tau = k->taus[(size_t)j * TAU_MAX + i];
            if (isfinite(tau)) {
                k->taus[n++] = tau;
            }
        }
    }
    qsort(k->taus, n, sizeof *k->taus, by_f32);
    *ret_tau = n ? k->taus[(size_t)((double)(n - 1) * TAU_KEEP)] : 0;
out:
    return rc;
}

/* ---- All ---- */

int graph__sketch_build(struct graph_builder *b, struct status *st)
{
    int rc = 0;
    const uint32_t bits = b->bits;
    struct graph *g = &b->g;
    const size_t dim = b->in->rows->dim, n = g->n;
    struct sketcher k = { .b = b, .bits = bits, .nsample = MIN(g->n, SAMPLE_EDGES) };
    float *row = alloc_try(dim * sizeof *row);
    b->record_words = graph_record_bytes(g->degree, bits) / 4;
    b->sketch = alloc_try_zero(GRAPH_SKETCH_BYTES(dim, bits));
    b->records = alloc_try_zero(n * b->record_words * 4);
    k.edges = alloc_try(k.nsample * dim * sizeof(float));
    k.turned = alloc_try(k.nsample * dim * sizeof(float));
    k.axes = alloc_try(bits * dim * sizeof(float));
    k.spread = alloc_try((size_t)bits * k.nsample * sizeof(float));
    k.along = alloc_try(n * bits * sizeof(float));
    k.size2 = alloc_try(n * sizeof(float));
    if (!row || !b->sketch || !b->records || !k.edges || !k.turned || !k.axes || !k.spread ||
        !k.along || !k.size2) {
        FAIL(st, ST_NO_MEMORY, "no memory for the sketches of %zu rows", n);
    }
    float *head = b->sketch, *centre = head + GRAPH_SKETCH_HEAD / sizeof *head;
    int8_t *matrix = (int8_t *)(centre + bits);
    k.made.bits = bits;
    k.made.matrix = matrix;
    k.made.centre = centre;
    draw_edges(&k, row);
    level_edges(&k);
    find_axes(&k, matrix);
    parallel_for(b->in->pool, (n + BLOCK - 1) / BLOCK, project_block, &k);
    TRY(centre_of(&k, centre, st));
    parallel_for(b->in->pool, (n + BLOCK - 1) / BLOCK, record_block, &k);
    rc = atomic_load(&b->rc);
    if (rc != 0) {
        *st = b->st;
        goto out;
    }
    head[1] = k.made.unit;
    TRY(find_tau(&k, &head[0], st));
out:
    mem_free(row);
    mem_free(k.edges);
    mem_free(k.turned);
    mem_free(k.axes);
    mem_free(k.spread);
    mem_free(k.along);
    mem_free(k.size2);
    mem_free(k.taus);
    mem_free(k.ntaus);
    return rc;
}
