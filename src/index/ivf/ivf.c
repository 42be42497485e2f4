/*
 * ivf.c - the types IVF_FLAT, IVF_SQ8, IVF_PQ, IVF_RABITQ, SCANN and BIN_IVF_FLAT: opening,
 * checking, figures.
 *
 * INVARIANTS  Lists cover positions 0 .. nrows without gaps; every row stands at one position. What
 *             a search reads beyond that are blocks, whose number follows from the lists. The first
 *             is checked at open as far as memory safety goes (starts rise, rows are below nrows);
 *             that no row stands twice is for ivf_validate().
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "index/ivf/ivf_int.h"

static int open_lists(struct ivf *ivf, const struct ix_file *f, const struct index_rows *rows,
                      size_t row_bytes, struct status *st)
{
    size_t size;
    const void *cents;
    int rc;
    TRY(ix_section(f, IVF_TAG_START, SIZE_MAX, (const void **)&ivf->start, &size, st));
    if (size < 8 || size % 4 != 0 || size / 4 - 1 > MAX(rows->nrows, 1u)) {
        FAIL(st, ST_CORRUPT, "index file: %zu bytes of list starts for %u rows", size, rows->nrows);
    }
    ivf->nlist = (uint32_t)(size / 4 - 1);
    TRY(ix_section(f, IVF_TAG_ROWS, (size_t)rows->nrows * 4, (const void **)&ivf->rows, &size,
                   st));
    TRY(ix_section(f, IVF_TAG_CENT, ivf->nlist * row_bytes, &cents, &size, st));
    ivf->centroids = cents;
    ivf->bit_cents = cents;
    if (ivf->start[0] != 0 || ivf->start[ivf->nlist] != rows->nrows) {
        FAIL(st, ST_CORRUPT, "index file: lists do not hold %u rows", rows->nrows);
    }
    for (uint32_t l = 0; l < ivf->nlist; l++) {
        if (ivf->start[l] > ivf->start[l + 1]) {
            FAIL(st, ST_CORRUPT, "index file: list %u ends before it starts", l);
        }
    }
    for (uint32_t i = 0; i < rows->nrows; i++) {
        if (ivf->rows[i] >= rows->nrows) {
            FAIL(st, ST_CORRUPT, "index file: row %u at position %u of %u", ivf->rows[i], i,
                 rows->nrows);
        }
    }
out:
    return rc;
}

static int open_codes(struct ivf *ivf, const struct ix_file *f, const struct index_rows *rows,
                      const struct index_params *params, struct status *st)
{
    size_t size, heap = ((size_t)ivf->nlist + 1) * 4;
    uint32_t blocks = 0;
    int rc;
    ivf_codec_init_coarse(rows->metric, rows->dim, &ivf->coarse);
    TRY(ivf_codec_open(f, IVF_TAG_COARSE, &ivf->coarse, st));
    TRY(ix_section(f, IVF_TAG_COARSE_BLOCKS,
                   ivf_block_count(&ivf->coarse.lay, ivf->nlist) * ivf->coarse.lay.block_bytes,
                   (const void **)&ivf->coarse_blocks, &size, st));
    ivf_codec_init(params, rows->metric, rows->dim, &ivf->codec);
    TRY(ivf_codec_open(f, IVF_TAG_CODEC, &ivf->codec, st));
    if (!(ivf->block_at = alloc_try(heap))) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u lists", ivf->nlist);
    }
    ivf->heap += heap;
    for (uint32_t l = 0; l < ivf->nlist; l++) {
        ivf->block_at[l] = blocks;
        blocks += (uint32_t)ivf_block_count(&ivf->codec.lay, ivf->start[l + 1] - ivf->start[l]);
    }
    ivf->block_at[ivf->nlist] = blocks;
    TRY(ix_section(f, IVF_TAG_BLOCKS, (size_t)blocks * ivf->codec.lay.block_bytes,
                   (const void **)&ivf->blocks, &size, st));
    if (ivf->codec.kind == IVF_CODE_PQ && ivf->codec.lay.err_at == SIMD_NO_FIELD) {
        TRY(ix_section(f, IVF_TAG_ERRORS, ivf->nlist * sizeof(float),
                       (const void **)&ivf->list_err, &size, st));
    }
out:
    return rc;
}

static void ivf_free(struct index *ix)
{
    struct ivf *ivf = CONTAINER_OF(ix, struct ivf, head);
    for (int i = 0; i < SCRATCH_SLOTS; i++) {
        ivf_scratch_free(atomic_load(&ivf->scratch.slot[i]));
    }
    mem_free(ivf->block_at);
    mem_free(ivf);
}

static int ivf_open(const struct ix_file *file, const struct index_rows *rows,
                    const struct index_params *params, const struct index_source *src,
                    struct index **ret_ix, struct status *st)
{
    struct ivf *ivf = xalloc(sizeof *ivf);
    size_t size;
    int rc;
    (void)src;
    if (rows->type == VEC_BIN) {
        TRY(open_lists(ivf, file, rows, rows->dim / 8, st));
        TRY(ix_section(file, IVF_TAG_BLOCKS, rows->nrows * (rows->dim / 8),
                       (const void **)&ivf->blocks, &size, st));
    } else {
        TRY(open_lists(ivf, file, rows, rows->dim * sizeof(float), st));
        TRY(open_codes(ivf, file, rows, params, st));
    }
    ivf->heap += sizeof *ivf;
    ivf->resident = file->size;
    *ret_ix = &TAKE(ivf)->head;
out:
    if (ivf) {
        ivf_free(&ivf->head);
    }
    return rc;
}

static int ivf_validate(const struct index *ix, struct status *st)
{
    const struct ivf *ivf = CONTAINER_OF(ix, const struct ivf, head);
    uint8_t *seen = alloc_try_zero((size_t)ix->rows.nrows + 1);
    int rc = 0;
    if (!seen) {
        FAIL(st, ST_NO_MEMORY, "no memory to validate %u rows", ix->rows.nrows);
    }
    for (uint32_t l = 0; l < ivf->nlist; l++) {
        for (uint32_t i = ivf->start[l]; i < ivf->start[l + 1]; i++) {
            uint32_t row = ivf->rows[i];
            if (seen[row]) {
                FAIL(st, ST_CORRUPT, "index file: row %u stands in two places", row);
            }
            if (i > ivf->start[l] && ivf->rows[i - 1] > row) {
                FAIL(st, ST_CORRUPT, "index file: rows of list %u are not in order", l);
            }
            seen[row] = 1;
        }
    }
out:
    mem_free(seen);
    return rc;
}

static void ivf_memory(const struct index *ix, struct index_memory *ret)
{
    const struct ivf *ivf = CONTAINER_OF(ix, const struct ivf, head);
    ret->heap = ivf->heap + atomic_load_explicit(&ivf->scratch_bytes, memory_order_relaxed);
    ret->resident = ivf->resident;
}

#define IVF_OPS(name, kind)                                                                        \
    const struct index_ops name = {                                                                \
        .type = kind,                                                                              \
        .metrics = METRICS_DENSE,                                                                  \
        .types = TYPES_DENSE,                                                                      \
        .build = ivf_build,                                                                        \
        .open = ivf_open,                                                                          \
        .search = ivf_search,                                                                      \
        .validate = ivf_validate,                                                                  \
        .memory = ivf_memory,                                                                      \
        .free = ivf_free,                                                                          \
    }
IVF_OPS(index_ivf_flat, INDEX_IVF_FLAT);
IVF_OPS(index_ivf_sq8, INDEX_IVF_SQ8);
IVF_OPS(index_ivf_pq, INDEX_IVF_PQ);
IVF_OPS(index_ivf_rabitq, INDEX_IVF_RABITQ);
IVF_OPS(index_scann, INDEX_SCANN);

const struct index_ops index_bin_ivf_flat = {
    .type = INDEX_BIN_IVF_FLAT,
    .metrics = METRICS_BINARY,
    .types = TYPE_BIT(VEC_BIN),
    .build = ivf_bin_build,
    .open = ivf_open,
    .search = ivf_bin_search,
    .validate = ivf_validate,
    .memory = ivf_memory,
    .free = ivf_free,
};
