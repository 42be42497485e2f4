/*
 * graph_bits.c - one bit a dimension of every node, for scans under a filter.
 *
 * WHAT        A code is a gather of several lines for each row that a filter leaves. Beside the
 *             codes lie, in node order, those of CODEC_RABITQ with one bit about the mean of all
 *             rows: at 384 dimensions one line with their factors. A scan estimates from these and
 *             takes the codes only of rows that the estimate's spread cannot rule out: 100 to some
 *             hundreds, however many are scanned (graph_survivors.c).
 * FORMAT      BCOD  the codec's blob
 *             BITS  n codes of codec_stride() bytes, in node order
 *             Both or neither; a file without them is searched by its codes.
 * WHY         Centred on each row's cluster the estimates are a twelfth better (standard deviation
 *             .0330 for .0357 on sentence embeddings; at two deviations 100 rows pass for 125): not
 *             enough for integers of more bits, or a query prepared anew for every cluster. The
 *             plain walk does not read them: a look anywhere in memory costs it as much as is left
 *             out.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/graph/graph_build_int.h"

#define PART_ROWS 8192u
#define BLOCK 64u

bool graph__bits_wanted(const struct index_rows *rows, enum codec_kind kind)
{
    const bool wide = kind == CODEC_SQ8 || kind == CODEC_SQ6 || kind == CODEC_SQ4 ||
                      kind == CODEC_F32 || kind == CODEC_F16 || kind == CODEC_BF16;
    return wide && rows->type != VEC_I8 && rows->type != VEC_BIN &&
           rows->nrows >= GRAPH_BITS_ROWS && rows->dim >= GRAPH_BITS_DIM;
}

static int code_centroids(struct graph *g, struct status *st)
{
    const struct index_rows *rows = &g->head.rows;
    const size_t size = rows->dim * sizeof(float);
    g->centroid_codes = alloc_try_zero(g->nclusters * g->stride);
    g->centroid_sizes = alloc_try(g->nclusters * sizeof(float));
    if (!g->centroid_codes || !g->centroid_sizes) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %u centroids", g->nclusters);
    }
    simd_ops()->norm2[SIMD_F32].rows(NULL, g->centroids, size, g->nclusters, rows->dim,
                                     g->centroid_sizes);
    for (uint32_t i = 0; i < g->nclusters; i++) {
        codec_encode(g->codec, (const uint8_t *)g->centroids + i * size, size, 1,
                     g->centroid_codes + i * g->stride);
        g->centroid_sizes[i] = rows->metric == METRIC_COSINE ? sqrtf(g->centroid_sizes[i]) : 1;
    }
    return 0;
}

int graph__bits_open(struct graph *g, const struct ix_file *f, struct status *st)
{
    int rc = 0;
    const struct index_rows *rows = &g->head.rows;
    const void *blob, *codes;
    size_t size;
    if (!ix_has_section(f, GRAPH_BITS)) {
        return 0;
    }
    TRY(ix_section(f, GRAPH_BCOD, SIZE_MAX, &blob, &size, st));
    TRY(codec_open(blob, size, rows->metric, rows->type, rows->dim, &g->bit_codec, st));
    if (codec_kind_of(g->bit_codec) != CODEC_RABITQ) {
        FAIL(st, ST_CORRUPT, "index file: bits of another kind");
    }
    g->bit_stride = codec_stride(g->bit_codec);
    TRY(ix_section(f, GRAPH_BITS, g->n * g->bit_stride, &codes, NULL, st));
    g->bit_codes = codes;
    if (rows->type == VEC_F32) {
        TRY(code_centroids(g, st));
    }
out:
    return rc;
}

int graph__bits_check(const struct graph *g, struct status *st)
{
    int rc = 0;
    if (!g->bit_codec) {
        return 0;
    }
    const struct index_rows *rows = &g->head.rows;
    uint8_t *code = alloc_try(g->bit_stride);
    if (!code) {
        FAIL(st, ST_NO_MEMORY, "no memory to check the bits of %u nodes", g->n);
    }
    for (uint32_t i = 0; i < g->n; i++) {
        codec_encode(g->bit_codec, index_row(rows, graph_row(g, i)), rows->stride, 1, code);
        if (memcmp(code, g->bit_codes + i * g->bit_stride, g->bit_stride) != 0) {
            FAIL(st, ST_CORRUPT, "graph: bits of node %u are not its row's", i);
        }
    }
out:
    mem_free(code);
    return rc;
}

struct bits_part {
    const struct graph_builder *b;
    const struct codec *codec;
    uint8_t *codes;
    uint32_t first, n;
};

static void encode_block(void *ctx, size_t i)
{
    const struct bits_part *p = ctx;
    const struct index_rows *rows = p->b->in->rows;
    const size_t stride = codec_stride(p->codec);
    const uint32_t end = MIN((uint32_t)(i + 1) * BLOCK, p->n);
    for (uint32_t at = (uint32_t)i * BLOCK; at < end; at++) {
        codec_encode(p->codec, index_row(rows, p->b->perm[p->first + at]), rows->stride, 1,
                     p->codes + at * stride);
    }
}

int graph__bits_put(struct graph_builder *b, struct ixw *w, struct status *st)
{
    int rc = 0;
    const struct codec_spec spec = { .kind = CODEC_RABITQ, .bits = 1, .seed = b->in->params->seed };
    struct codec *codec = NULL;
    struct bits_part p = { .b = b };
    size_t size;
    TRY(codec_train(&spec, b->in->rows, b->in->pool, b->in->check, b->in->check_arg, &codec, st));
    const void *blob = codec_blob(codec, &size);
    TRY(ixw_section(w, GRAPH_BCOD, blob, size, st));
    p.codec = codec;
    p.codes = alloc_try(PART_ROWS * codec_stride(codec));
    if (!p.codes) {
        FAIL(st, ST_NO_MEMORY, "no memory to encode rows");
    }
    TRY(ixw_begin(w, GRAPH_BITS, st));
    for (; p.first < b->g.n; p.first += p.n) {
        p.n = MIN(b->g.n - p.first, PART_ROWS);
        parallel_for(b->in->pool, (p.n + BLOCK - 1) / BLOCK, encode_block, &p);
        TRY(ixw_put(w, p.codes, p.n * codec_stride(codec), st));
        if (b->in->check) {
            TRY(b->in->check(b->in->check_arg, st));
        }
    }
    TRY(ixw_end(w, st));
out:
    mem_free(p.codes);
    codec_free(codec);
    return rc;
}
