/*
 * growing.c - a growing segment's memory: chunks of columns, and blocks for variable cells.
 *
 * WHAT        Rows lie in chunks of 64, 64, 128, ... 4096, 8192, 8192, ... rows, so that the first
 *             SEG_CHUNK_ROWS rows take no more than twice what they need. A chunk has one 64-byte
 *             aligned allocation per column. Fixed cells lie in it; of variable ones it holds
 *             pointer and length, and the bytes lie in blocks that never move.
 * THREADS     Made by the writer; chunks are published through the directory before the row count.
 * MEMORY      Counted as touched: a chunk's columns by the rows written, blocks by their size.
 *             Large allocations come straight from the system, which gives pages when touched.
 */
#include "segment/growing_int.h"
#include <stdio.h>
#include "base/alloc.h"

int seg_growing_new(int64_t id, int64_t collection_id, int64_t partition_id,
                    const struct schema *schema, struct segment **ret_seg, struct status *st)
{
    struct segment *seg = seg__new(id, collection_id, partition_id, schema);
    int rc;
    char name[64];
    snprintf(name, sizeof name, "growing segment %lld", (long long)id);
    seg->name = xstrdup(name);
    seg->fields = xalloc((schema->nfields + 1) * sizeof *seg->fields);
    for (uint32_t i = 0; i < schema->nfields; i++) {
        seg->fields[i] = seg__field_of(&schema->fields[i]);
    }
    seg->nfields = schema->nfields;
    if (!seg__codes_alloc(seg)) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory for %u fields", seg->name, seg->nfields);
    }
    int pk = schema->pk ? seg__field(seg, schema->pk->id) : -1;
    if (pk < 0) {
        FAIL(st, ST_INVALID, "%s: the schema has no primary key", seg->name);
    }
    seg->pk = (uint32_t)pk;
    seg__add_memory(seg, sizeof *seg + sizeof *seg->lock + seg->nfields * sizeof *seg->fields);
    *ret_seg = TAKE(seg);
    rc = 0;
out:
    seg_unref(seg);
    return rc;
}

static void chunk_free(struct seg_chunk *chunk, uint32_t nfields)
{
    if (!chunk) {
        return;
    }
    for (uint32_t f = 0; f < nfields; f++) {
        mem_free(chunk->cells[f].data);
        mem_free(chunk->cells[f].refs);
        mem_free((void *)(uintptr_t)chunk->cells[f].valid);
    }
    mem_free(chunk->ts);
    mem_free(chunk->older);
    mem_free(chunk);
}

static bool cells_alloc(struct seg_cells *c, const struct seg_field *f, uint32_t cap)
{
    size_t bytes;
    if (!mul_size(cap, f->width ? f->width : sizeof *c->refs, &bytes)) {
        return false;
    }
    if (f->width) {
        c->data = alloc_try_aligned(SF_ALIGN, bytes);
    } else {
        c->refs = alloc_try_aligned(SF_ALIGN, bytes);
    }
    if (f->nullable) {
        c->valid = alloc_try_zero(bits_words(cap) * 8);
    }
    return (c->data || c->refs) && (c->valid || !f->nullable);
}

static struct seg_chunk *chunk_new(const struct segment *seg, uint32_t i)
{
    struct seg_chunk *chunk =
        alloc_try_zero(sizeof *chunk + seg->nfields * sizeof chunk->cells[0]);
    if (!chunk) {
        return NULL;
    }
    chunk->row0 = seg__chunk_row0(i);
    chunk->cap = seg__chunk_cap(i);
    chunk->ts = alloc_try_aligned(SF_ALIGN, (size_t)chunk->cap * sizeof *chunk->ts);
    chunk->older = alloc_try_aligned(SF_ALIGN, (size_t)chunk->cap * sizeof *chunk->older);
    bool ok = chunk->ts && chunk->older;
    for (uint32_t f = 0; ok && f < seg->nfields; f++) {
        ok = cells_alloc(&chunk->cells[f], &seg->fields[f], chunk->cap);
    }
    if (!ok) {
        chunk_free(chunk, seg->nfields);
        return NULL;
    }
    return chunk;
}

bool seg__growing_reserve(struct segment *seg, uint32_t nrows)
{
    /* From the last published row's chunk: a failed append may have left chunks behind. */
    for (uint32_t i = seg__nspans(seg, seg__nrows(seg)); i < seg__nspans(seg, nrows); i++) {
        if (seg__dir_get(&seg->g.chunks, i)) {
            continue;
        }
        struct seg_chunk *chunk = chunk_new(seg, i);
        if (!chunk) {
            return false;
        }
        if (!seg__dir_set(&seg->g.chunks, i, chunk)) {
            chunk_free(chunk, seg->nfields);
            return false;
        }
        seg__add_memory(seg, sizeof *chunk + seg->nfields * sizeof chunk->cells[0]);
    }
    return true;
}

#define BLOCK_MIN ((size_t)4096)
#define BLOCK_MAX ((size_t)1 << 20)

uint8_t *seg__growing_bytes(struct segment *seg, size_t n)
{
    struct seg_block *b = seg->g.blocks;
    if (!b || b->cap - b->used < n) {
        size_t cap = b ? MIN(MAX(b->cap * 2, BLOCK_MIN), BLOCK_MAX) : BLOCK_MIN, total;
        cap = MAX(cap, n);
        if (!add_size(cap, sizeof *b, &total)) {
            return NULL;
        }
        b = alloc_try(total);
        if (!b) {
            return NULL;
        }
        b->next = seg->g.blocks;
        b->used = 0;
        b->cap = cap;
        seg->g.blocks = b;
        seg__add_memory(seg, total);
    }
    uint8_t *p = b->bytes + b->used;
    b->used += n;
    return p;
}

void seg__growing_done(struct segment *seg)
{
    for (uint32_t i = 0; i < SEG_DIR_FAN * SEG_DIR_FAN; i++) {
        if (i % SEG_DIR_FAN == 0 && !atomic_load_explicit(&seg->g.chunks.leaf[i / SEG_DIR_FAN],
                                                          memory_order_relaxed)) {
            break;
        }
        chunk_free(seg__dir_get(&seg->g.chunks, i), seg->nfields);
    }
    seg__dir_done(&seg->g.chunks);
    while (seg->g.blocks) {
        struct seg_block *b = seg->g.blocks;
        seg->g.blocks = b->next;
        mem_free(b);
    }
    seg__keymap_done(&seg->g.keys);
    seg__codes_done(seg);
}
