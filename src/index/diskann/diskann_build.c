/*
 * diskann_build.c - the graph, the codes that memory will hold, and the file.
 *
 * GRAPH       Vamana's rule (keep a candidate unless a kept one is alpha times nearer to it) with
 *             alpha 1.2, max_degree links and walks of search_list_size, by the batch builder of
 *             graph/: the same bytes for any number of threads. Its clusters stay; in them nodes
 *             are put in a new order, near ones into one unit (diskann_pack.c).
 * BUDGETS     pq_code_budget_gb_ratio and search_cache_budget_gb_ratio are shares of the raw rows'
 *             bytes; their sum is what memory holds. Row numbers and the way in come first, then
 *             the codec that errs least of those that fit: finer codes save more reads than hot
 *             nodes (README.md has the figures), so these get what is left. Rows so short that a
 *             fit code would say nothing get CODE_MIN bytes.
 * CODECS      SQ codes are finer on data like sift1m's, and their keys take a quarter of the time;
 *             RABITQ has every number of bits and bears dimensions of unlike spread. What each errs
 *             is measured.
 * HOT         The nodes that most links lead to: measured against nothing but themselves, so the
 *             choice needs no sample queries.
 * MEMORY      That of the graph's builder, 16 bytes a row, what packing takes, and one buffer.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "index/by_value.h"
#include "index/diskann/diskann_int.h"
#include "index/graph/graph_build_int.h"

#define ALPHA 1.2f
#define CODE_MIN 32
/* RABITQ must err less than this times what SQ does, for its keys take four times as long. */
#define RABITQ_GAIN 0.7f
/* Errors of codes are measured between this many nodes and the nodes they link to; slack is above
 * all but one in SLACK_MISSED of them. */
#define SLACK_NODES 2000
#define SLACK_LINKS 8u
#define SLACK_MISSED 200

void diskann__layout(const struct index_rows *rows, struct diskann_meta *m)
{
    m->record = diskann_links_at(rows) + m->degree * (uint32_t)sizeof(uint32_t);
    m->per_unit = MAX(DISKANN_BLOCK / m->record, 1u);
    m->per_unit = MIN(m->per_unit, DISKANN_PER_UNIT);
    m->unit = ROUND_UP(m->per_unit * m->record, DISKANN_BLOCK);
}

/* ---- Everything a build holds ---- */

struct writer {
    const struct index_build *in;
    struct graph_builder *b;
    struct codec *codec;
    struct diskann_meta meta;
    uint32_t *order, *place; /* the builder's number of each node, and the way back */
    uint64_t *hot;           /* bits by node */
    uint8_t *buf;
    struct ixw *w;
};

static uint32_t row_of(const struct writer *x, uint32_t node)
{
    return x->b->perm[x->order[node]];
}

static const uint32_t *links_of(const struct writer *x, uint32_t node)
{
    return graph_links(&x->b->g, x->order[node]);
}

static int order_nodes(struct writer *x, struct status *st)
{
    const uint32_t n = x->meta.n;
    int rc = 0;
    x->order = alloc_try(n * sizeof *x->order);
    x->place = alloc_try(n * sizeof *x->place);
    if (!x->order || !x->place) {
        FAIL(st, ST_NO_MEMORY, "no memory to order %u nodes", n);
    }
    TRY(diskann__pack(x->b, x->meta.per_unit, x->order, st));
    for (uint32_t i = 0; i < n; i++) {
        x->place[x->order[i]] = i;
    }
out:
    return rc;
}

/* ---- Codes ---- */

/* How much too large the keys of codes are between near rows. */
static int measure_slack(const struct writer *x, const struct codec *c, float *ret_slack,
                         struct status *st)
{
    const struct index_rows *r = x->in->rows;
    const struct simd_dist kernel = diskann__kernel(r->metric, r->type);
    const bool larger = metric_larger_is_better(r->metric);
    const uint32_t n = x->meta.n, step = n / SLACK_NODES + 1;
    const size_t stride = codec_stride(c);
    size_t nerr = 0;
    float *err = alloc_try((n / step + 1) * (size_t)SLACK_LINKS * sizeof *err), exact;
    void *pq = alloc_try_aligned(CACHE_LINE, ROUND_UP(codec_query_bytes(c), 64));
    uint8_t *code = alloc_try(stride);
    int rc = 0;
    if (!err || !pq || !code) {
        FAIL(st, ST_NO_MEMORY, "no memory to measure codes");
    }
    for (uint32_t node = 0; node < n; node += step) {
        const void *query = index_row(r, row_of(x, node));
        const uint32_t *links = links_of(x, node);
        codec_query(c, query, pq);
        for (size_t k = 0; k < MIN(SLACK_LINKS, x->meta.degree) && links[k] != GRAPH_NONE; k++) {
            const void *row = index_row(r, x->b->perm[links[k]]);
            float key;
            codec_encode(c, row, r->stride, 1, code);
            codec_rows(c, pq, code, stride, 1, &key);
            kernel.rows(query, row, r->stride, 1, r->dim, &exact);
            key -= larger ? -exact : exact;
            if (key == key) {
                err[nerr++] = key;
            }
        }
    }
    qsort(err, nerr, sizeof *err, by_f32);
    *ret_slack = nerr ? MAX(err[nerr - 1 - nerr / SLACK_MISSED], 0.0f) : 0;
out:
    mem_free(err);
    mem_free(pq);
    mem_free(code);
    return rc;
}

/* Keeps the codec of this spec when it fits and is better than what there is. */
static int try_codec(struct writer *x, const struct codec_spec *spec, size_t most,
                     struct status *st)
{
    const struct index_rows *r = x->in->rows;
    struct codec *c = NULL;
    float slack = 0;
    int rc = 0;
    if (spec->kind == CODEC_RABITQ) { /* what a code takes does not depend on what is learnt */
        TRY(codec_new(spec, r->metric, r->type, r->dim, &c, st));
        if (codec_stride(c) > most) {
            goto out;
        }
        codec_free(TAKE(c));
    }
    TRY(codec_train(spec, r, x->in->pool, x->in->check, x->in->check_arg, &c, st));
    if (codec_stride(c) > most) {
        goto out;
    }
    TRY(measure_slack(x, c, &slack, st));
    if (!x->codec || slack < (spec->kind == CODEC_RABITQ ? RABITQ_GAIN : 1) * x->meta.slack) {
        codec_free(x->codec);
        x->codec = TAKE(c);
        x->meta.slack = slack;
        x->meta.stride = codec_stride(x->codec);
    }
out:
    codec_free(c);
    return rc;
}

/* Bytes of memory a row may take besides its code and row number: the way in included. */
static double room_of(const struct writer *x)
{
    const struct index_rows *r = x->in->rows;
    const struct index_params *p = x->in->params;
    const double raw = (double)vec_bytes(r->type, r->dim);
    const double centroids = (double)x->meta.nsupers + x->meta.nclusters;
    const double routing = centroids * (4.0 * (double)r->dim + 4);
    return raw * (p->pq_code_budget_gb_ratio + p->search_cache_budget_gb_ratio) - 4 -
           routing / x->meta.n;
}

/* The codec within the budget that errs least. */
static int choose_codec(struct writer *x, struct status *st)
{
    static const enum codec_kind kinds[] = { CODEC_SQ8, CODEC_SQ6, CODEC_SQ4 };
    const struct index_rows *r = x->in->rows;
    const size_t most = (size_t)MAX(room_of(x), (double)CODE_MIN);
    struct codec_spec spec = { .kind = CODEC_I8, .seed = x->in->params->seed };
    int rc = 0;
    if (r->type == VEC_I8 && r->dim <= most) {
        TRY(try_codec(x, &spec, most, st));
        goto out;
    }
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        spec.kind = kinds[i];
        if (r->dim * (i == 0 ? 8 : i == 1 ? 6 : 4) / 8 <= most) {
            TRY(try_codec(x, &spec, most, st));
        }
    }
    spec.kind = CODEC_RABITQ;
    for (spec.bits = 7; spec.bits > 0; spec.bits--) {
        const struct codec *before = x->codec;
        TRY(try_codec(x, &spec, spec.bits > 1 || x->codec ? most : SIZE_MAX, st));
        if (x->codec != before) { /* fewer bits err more */
            break;
        }
    }
out:
    return rc;
}

/* ---- Hot nodes ---- */

/* Marks the nodes most linked to, as many as fit. */
static int choose_hot(struct writer *x, struct status *st)
{
    /* The bits that say which are hot take 12 bytes for 64 nodes. */
    const double left = x->meta.n * (room_of(x) - (double)x->meta.stride - 12 / 64.0);
    uint32_t n = x->meta.n, want = left > 0 ? (uint32_t)MIN(left / x->meta.record, (double)n) : 0;
    uint32_t *degree = NULL, *count = NULL, most = 0;
    int rc = 0;
    if (want == 0) {
        goto out;
    }
    degree = alloc_try_zero(n * sizeof *degree);
    x->hot = alloc_try_zero((bits_words(n) + 1) * sizeof *x->hot);
    if (!degree || !x->hot) {
        FAIL(st, ST_NO_MEMORY, "no memory for the degrees of %u nodes", n);
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *links = links_of(x, i);
        for (uint32_t k = 0; k < x->meta.degree && links[k] != GRAPH_NONE; k++) {
            most = MAX(most, ++degree[x->place[links[k]]]);
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

static int put_codes(struct writer *x, struct status *st)
{
    const struct index_rows *r = x->in->rows;
    const size_t stride = x->meta.stride;
    int rc;
    TRY(ixw_begin(x->w, DISKANN_CODE, st));
    for (uint32_t i = 0; i < x->meta.n; i++) {
        codec_encode(x->codec, index_row(r, row_of(x, i)), r->stride, 1, x->buf);
        TRY(ixw_put(x->w, x->buf, stride, st));
        if (i % 1024 == 0 && x->in->check) {
            TRY(x->in->check(x->in->check_arg, st));
        }
    }
    TRY(ixw_end(x->w, st));
out:
    return rc;
}

static int put_perm(struct writer *x, struct status *st)
{
    int rc;
    TRY(ixw_begin(x->w, DISKANN_PERM, st));
    for (uint32_t i = 0; i < x->meta.n; i++) {
        const uint32_t row = row_of(x, i);
        TRY(ixw_put(x->w, &row, sizeof row, st));
    }
    TRY(ixw_end(x->w, st));
out:
    return rc;
}

/* Means of each super's clusters, then the clusters' own. */
static int put_centroids(struct writer *x, struct status *st)
{
    const struct graph *g = &x->b->g;
    const size_t dim = x->in->rows->dim;
    const float *clusters = x->b->centroids;
    float *mean = (float *)(void *)x->buf;
    int rc;
    TRY(ixw_begin(x->w, DISKANN_CENT, st));
    for (uint32_t s = 0; s < g->nsupers; s++) {
        const uint32_t first = x->b->super_first[s], end = x->b->super_first[s + 1];
        memset(mean, 0, dim * sizeof *mean);
        for (uint32_t c = first; c < end; c++) {
            for (size_t i = 0; i < dim; i++) {
                mean[i] += clusters[c * dim + i] / (float)(end - first);
            }
        }
        TRY(ixw_put(x->w, mean, dim * sizeof *mean, st));
    }
    TRY(ixw_put(x->w, clusters, g->nclusters * dim * sizeof *clusters, st));
    TRY(ixw_end(x->w, st));
out:
    return rc;
}

static void make_record(const struct writer *x, uint32_t node, uint8_t *record)
{
    const struct index_rows *r = x->in->rows;
    const size_t len = vec_bytes(r->type, r->dim), at = diskann_links_at(r);
    const uint32_t *links = links_of(x, node);
    memcpy(record, index_row(r, row_of(x, node)), len);
    memset(record + len, 0, at - len);
    for (uint32_t k = 0; k < x->meta.degree; k++) {
        const uint32_t to = links[k] == GRAPH_NONE ? DISKANN_NONE : x->place[links[k]];
        memcpy(record + at + k * sizeof to, &to, sizeof to);
    }
}

static int put_hot(struct writer *x, struct status *st)
{
    const size_t words = bits_words(x->meta.n);
    uint32_t before = 0;
    int rc;
    if (x->meta.nhot == 0) {
        TRY(ixw_section(x->w, DISKANN_HOTB, NULL, 0, st));
        TRY(ixw_section(x->w, DISKANN_HOTR, NULL, 0, st));
        goto out;
    }
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
    TRY(ixw_section(x->w, DISKANN_META, &x->meta, sizeof x->meta, st));
    TRY(ixw_section(x->w, DISKANN_CODC, blob, size, st));
    TRY(put_codes(x, st));
    TRY(put_perm(x, st));
    TRY(ixw_section(x->w, DISKANN_CLUS, x->b->cluster_first, (g->nclusters + 1) * sizeof(uint32_t),
                    st));
    TRY(ixw_section(x->w, DISKANN_SUPF, x->b->super_first, (g->nsupers + 1) * sizeof(uint32_t),
                    st));
    TRY(put_centroids(x, st));
    TRY(put_hot(x, st));
    TRY(put_units(x, st));
out:
    return rc;
}

/* All but the graph. */
static int finish(struct writer *x, struct status *st)
{
    int rc;
    x->meta.nclusters = x->b->g.nclusters;
    x->meta.nsupers = x->b->g.nsupers;
    TRY(order_nodes(x, st));
    TRY(choose_codec(x, st));
    const size_t largest = MAX(x->meta.stride, x->in->rows->dim * sizeof(float));
    x->buf = alloc_try(MAX(x->meta.unit, largest));
    if (!x->buf) {
        FAIL(st, ST_NO_MEMORY, "no memory for a page");
    }
    TRY(choose_hot(x, st));
    TRY(put_all(x, st));
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
    x.meta.version = DISKANN_VERSION;
    x.meta.n = in->rows->nrows;
    x.meta.degree = p->max_degree;
    diskann__layout(in->rows, &x.meta);
    if (x.meta.n == 0) {
        TRY(ixw_section(w, DISKANN_META, &x.meta, sizeof x.meta, st));
        goto out;
    }
    TRY(graph__make(x.b, p->max_degree, p->search_list_size, ALPHA, st));
    TRY(finish(&x, st));
out:
    codec_free(x.codec);
    mem_free(x.order);
    mem_free(x.place);
    mem_free(x.hot);
    mem_free(x.buf);
    graph__builder_done(x.b);
    mem_free(x.b);
    return rc;
}
