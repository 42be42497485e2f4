/*
 * diskann_build.c - the graph, the codes that memory will hold, and the file.
 *
 * GRAPH       Vamana's rule (keep a candidate unless a kept one is alpha times nearer to it) with
 *             alpha 1.2, max_degree links and walks of search_list_size, by the batch builder of
 *             graph/: the same bytes for any number of threads. Its node order, clusters and in
 *             them groups of near rows, is the order on disk, so a unit brings nodes that are near each
 *             other.
 * BUDGETS     pq_code_budget_gb_ratio and search_cache_budget_gb_ratio are shares of the raw rows'
 *             bytes. The finest codec whose code fits the first is taken; perm, way in and hot
 *             records fill what both leave. Rows so short that a fit code would say nothing get
 *             CODE_MIN bytes.
 * HOT         The nodes that most links lead to: measured against nothing but themselves, so the
 *             choice needs no sample queries.
 * MEMORY      That of the graph's builder, 4 bytes a row, and one buffer.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/diskann/diskann_int.h"
#include "index/graph/graph_build_int.h"
#include "simd/simd.h"

#define ALPHA 1.2f
#define CODE_MIN 32
/* Errors of codes are measured between this many nodes and the nodes they link to; slack is above
 * all but one in SLACK_MISSED of them. */
#define SLACK_NODES 2000
#define SLACK_MISSED 200

void diskann__layout(const struct index_rows *rows, struct diskann_meta *m)
{
    m->record = diskann_links_at(rows) + m->degree * (uint32_t)sizeof(uint32_t);
    m->per_unit = MAX(DISKANN_BLOCK / m->record, 1u);
    m->per_unit = MIN(m->per_unit, DISKANN_PER_UNIT);
    m->unit = ROUND_UP(m->per_unit * m->record, DISKANN_BLOCK);
}

/* ---- Codes ---- */

static int try_codec(const struct index_build *b, const struct codec_spec *spec, size_t most,
                     struct codec **ret_codec, struct status *st)
{
    const struct index_rows *r = b->rows;
    struct codec *c = NULL;
    int rc;
    /* What a code takes does not depend on what is learnt. */
    if (spec->kind == CODEC_RABITQ) {
        TRY(codec_new(spec, r->metric, r->type, r->dim, &c, st));
        if (codec_stride(c) > most) {
            goto out;
        }
        codec_free(TAKE(c));
    }
    TRY(codec_train(spec, r, b->pool, b->check, b->check_arg, &c, st));
    if (codec_stride(c) <= most) {
        *ret_codec = TAKE(c);
    }
out:
    codec_free(c);
    return rc;
}

/* The finest codec within the budget. */
static int choose_codec(const struct index_build *b, struct codec **ret_codec, struct status *st)
{
    const struct index_rows *r = b->rows;
    const double share = b->params->pq_code_budget_gb_ratio;
    const size_t most =
        MAX((size_t)(share * (double)vec_bytes(r->type, r->dim)), (size_t)CODE_MIN);
    struct codec_spec spec = { .kind = r->type == VEC_I8 ? CODEC_I8 : CODEC_SQ8,
                               .seed = b->params->seed };
    struct codec *c = NULL;
    int rc = 0;
    if (r->dim <= most) {
        TRY(try_codec(b, &spec, most, &c, st));
    }
    for (spec.kind = CODEC_RABITQ, spec.bits = 7; !c && spec.bits > 0; spec.bits--) {
        TRY(try_codec(b, &spec, spec.bits > 1 ? most : SIZE_MAX, &c, st));
    }
    *ret_codec = c;
out:
    return rc;
}

/* ---- Everything a build holds ---- */

struct writer {
    const struct index_build *in;
    struct graph_builder *b;
    struct codec *codec;
    struct diskann_meta meta;
    uint64_t *hot; /* bits */
    uint8_t *buf;
    struct ixw *w;
};

static void encode_node(const struct writer *x, uint32_t node, uint8_t *code)
{
    const struct index_rows *r = x->in->rows;
    codec_encode(x->codec, index_row(r, x->b->perm[node]), r->stride, 1, code);
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* How much too large the codes' keys are between near rows. */
static int measure_slack(struct writer *x, struct status *st)
{
    const struct graph_builder *b = x->b;
    const struct index_rows *r = x->in->rows;
    const struct simd_dist kernel = diskann__kernel(r);
    const bool larger = metric_larger_is_better(r->metric);
    const uint32_t n = x->meta.n, step = n / SLACK_NODES + 1;
    const size_t stride = codec_stride(x->codec);
    size_t nerr = 0;
    uint32_t ids[8];
    float *err = alloc_try((n / step + 1) * ARRAY_LEN(ids) * sizeof *err), exact;
    void *pq = alloc_try_aligned(CACHE_LINE, ROUND_UP(codec_query_bytes(x->codec), 64));
    int rc = 0;
    if (!err || !pq) {
        FAIL(st, ST_NO_MEMORY, "no memory to measure codes");
    }
    for (uint32_t node = 0; node < n; node += step) {
        const void *query = index_row(r, b->perm[node]);
        const uint32_t *links = graph_links(&b->g, node);
        codec_query(x->codec, query, pq);
        for (size_t k = 0; k < MIN(ARRAY_LEN(ids), x->meta.degree) && links[k] != GRAPH_NONE; k++) {
            float key;
            encode_node(x, links[k], x->buf);
            codec_rows(x->codec, pq, x->buf, stride, 1, &key);
            kernel.rows(query, index_row(r, b->perm[links[k]]), r->stride, 1, r->dim, &exact);
            key -= larger ? -exact : exact;
            if (key == key) {
                err[nerr++] = key;
            }
        }
    }
    qsort(err, nerr, sizeof *err, by_value);
    x->meta.slack = nerr ? MAX(err[nerr - 1 - nerr / SLACK_MISSED], 0.0f) : 0;
out:
    mem_free(err);
    mem_free(pq);
    return rc;
}

/* Marks the nodes most linked to, as many as fit. */
static int choose_hot(struct writer *x, struct status *st)
{
    const struct graph *g = &x->b->g;
    const struct index_params *p = x->in->params;
    const double raw = (double)vec_bytes(x->in->rows->type, x->in->rows->dim) * x->meta.n;
    const double routing =
        ((double)g->nsupers + g->nclusters + g->npivots) * (double)x->meta.stride;
    const double fixed = x->meta.n * ((double)x->meta.stride + 4.2) + routing;
    const double left =
        raw * (p->pq_code_budget_gb_ratio + p->search_cache_budget_gb_ratio) - fixed;
    uint32_t n = x->meta.n, want = left > 0 ? (uint32_t)MIN(left / x->meta.record, (double)n) : 0;
    uint32_t *degree = alloc_try_zero(n * sizeof *degree), *count = NULL, most = 0;
    int rc = 0;
    x->hot = alloc_try_zero((bits_words(n) + 1) * sizeof *x->hot);
    if (!degree || !x->hot) {
        FAIL(st, ST_NO_MEMORY, "no memory for the degrees of %u nodes", n);
    }
    for (size_t i = 0; i < (size_t)n * x->meta.degree; i++) {
        if (g->links[i] != GRAPH_NONE) {
            most = MAX(most, ++degree[g->links[i]]);
        }
    }
    count = alloc_try_zero((most + (size_t)2) * sizeof *count);
    if (!count) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u degrees", most);
    }
    for (uint32_t i = 0; i < n; i++) {
        count[degree[i]]++;
    }
    uint32_t least = most + 1, taken = 0; /* all nodes of at least this degree fit */
    while (least > 0 && taken + count[least - 1] <= want) {
        taken += count[--least];
    }
    for (uint32_t i = 0, some = want - taken; i < n; i++) {
        bool fills = least > 0 && degree[i] == least - 1 && some > 0;
        if (degree[i] >= least || fills) {
            bit_set(x->hot, i);
            some -= fills;
            x->meta.nhot++;
        }
    }
out:
    mem_free(degree);
    mem_free(count);
    return rc;
}

/* ---- Sections ---- */

static int put_codes(struct writer *x, const uint32_t *nodes, uint32_t n, struct status *st)
{
    int rc = 0;
    const size_t stride = x->meta.stride;
    for (uint32_t i = 0; i < n; i++) {
        encode_node(x, nodes ? nodes[i] : i, x->buf);
        TRY(ixw_put(x->w, x->buf, stride, st));
        if (i % 1024 == 0 && x->in->check) {
            TRY(x->in->check(x->in->check_arg, st));
        }
    }
out:
    return rc;
}

static int put_routing(struct writer *x, struct status *st)
{
    const struct graph *g = &x->b->g;
    uint32_t node;
    int rc;
    TRY(ixw_begin(x->w, GRAPH_ROUT, st));
    for (uint32_t i = 0; i < g->nsupers; i++) {
        node = g->pivot_node[g->pivot_first[x->b->super_cluster[i]]];
        TRY(put_codes(x, &node, 1, st));
    }
    for (uint32_t i = 0; i < g->nclusters; i++) {
        TRY(put_codes(x, &g->pivot_node[g->pivot_first[i]], 1, st));
    }
    TRY(put_codes(x, g->pivot_node, g->npivots, st));
    TRY(ixw_end(x->w, st));
out:
    return rc;
}

static void make_record(const struct writer *x, uint32_t node, uint8_t *record)
{
    const struct index_rows *r = x->in->rows;
    const size_t len = vec_bytes(r->type, r->dim), at = diskann_links_at(r);
    memcpy(record, index_row(r, x->b->perm[node]), len);
    memset(record + len, 0, at - len);
    memcpy(record + at, graph_links(&x->b->g, node), x->meta.degree * sizeof(uint32_t));
}

static int put_hot(struct writer *x, struct status *st)
{
    const size_t words = bits_words(x->meta.n);
    uint32_t before = 0;
    int rc;
    TRY(ixw_begin(x->w, DISKANN_HOTB, st));
    TRY(ixw_put(x->w, x->hot, words * sizeof *x->hot, st));
    for (size_t i = 0; i < words; i++) {
        TRY(ixw_put(x->w, &before, sizeof before, st));
        before += (uint32_t)__builtin_popcountll(x->hot[i]);
    }
    TRY(ixw_end(x->w, st));
    TRY(ixw_begin(x->w, DISKANN_HOTR, st));
    for (size_t i = bits_next(x->hot, x->meta.n, 0); i < x->meta.n;
         i = bits_next(x->hot, x->meta.n, i + 1)) {
        make_record(x, (uint32_t)i, x->buf);
        TRY(ixw_put(x->w, x->buf, x->meta.record, st));
    }
    TRY(ixw_end(x->w, st));
out:
    return rc;
}

static int put_units(struct writer *x, struct status *st)
{
    const struct diskann_meta *m = &x->meta;
    int rc;
    TRY(ixw_begin(x->w, DISKANN_PAGE, st));
    for (uint32_t u = 0; u < diskann_units(m->n, m->per_unit); u++) {
        memset(x->buf, 0, m->unit);
        for (uint32_t i = 0; i < m->per_unit && u * m->per_unit + i < m->n; i++) {
            make_record(x, u * m->per_unit + i, x->buf + i * m->record);
        }
        TRY(ixw_put(x->w, x->buf, m->unit, st));
        if (u % 1024 == 0 && x->in->check) {
            TRY(x->in->check(x->in->check_arg, st));
        }
    }
    TRY(ixw_end(x->w, st));
out:
    return rc;
}

static int put_all(struct writer *x, struct status *st)
{
    const struct graph *g = &x->b->g;
    const void *blob;
    size_t size;
    int rc;
    blob = codec_blob(x->codec, &size);
    TRY(ixw_section(x->w, GRAPH_META, &x->meta, sizeof x->meta, st));
    TRY(ixw_section(x->w, GRAPH_CODC, blob, size, st));
    TRY(ixw_begin(x->w, GRAPH_CODE, st));
    TRY(put_codes(x, NULL, g->n, st));
    TRY(ixw_end(x->w, st));
    TRY(ixw_section(x->w, GRAPH_PERM, g->perm, g->n * sizeof(uint32_t), st));
    TRY(ixw_section(x->w, GRAPH_CLUS, g->cluster_first, (g->nclusters + 1) * sizeof(uint32_t), st));
    TRY(ixw_section(x->w, GRAPH_PIVF, g->pivot_first, (g->nclusters + 1) * sizeof(uint32_t), st));
    TRY(ixw_section(x->w, GRAPH_PIVN, g->pivot_node, g->npivots * sizeof(uint32_t), st));
    TRY(ixw_section(x->w, GRAPH_SUPF, g->super_first, (g->nsupers + 1) * sizeof(uint32_t), st));
    TRY(put_routing(x, st));
    TRY(put_hot(x, st));
    TRY(put_units(x, st));
out:
    return rc;
}

int diskann__build(const struct index_build *in, struct ixw *w, struct status *st)
{
    const struct index_params *p = in->params;
    struct writer x = { .in = in, .w = w };
    int rc = 0;
    x.b = xalloc(sizeof *x.b);
    x.b->in = in;
    x.meta.n = in->rows->nrows;
    x.meta.degree = p->max_degree;
    diskann__layout(in->rows, &x.meta);
    if (x.meta.n == 0) {
        TRY(ixw_section(w, GRAPH_META, &x.meta, sizeof x.meta, st));
        goto out;
    }
    TRY(graph__make(x.b, p->max_degree, p->search_list_size, ALPHA, st));
    TRY(choose_codec(in, &x.codec, st));
    x.meta.nclusters = x.b->g.nclusters;
    x.meta.npivots = x.b->g.npivots;
    x.meta.nsupers = x.b->g.nsupers;
    x.meta.stride = codec_stride(x.codec);
    x.buf = alloc_try(MAX(x.meta.unit, x.meta.stride));
    if (!x.buf) {
        FAIL(st, ST_NO_MEMORY, "no memory for a page");
    }
    TRY(measure_slack(&x, st));
    TRY(choose_hot(&x, st));
    TRY(put_all(&x, st));
out:
    codec_free(x.codec);
    mem_free(x.hot);
    mem_free(x.buf);
    graph__builder_done(x.b);
    mem_free(x.b);
    return rc;
}
