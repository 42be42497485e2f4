/*
 * segment.c - what growing and sealed segments share: life, figures, spans, single cells.
 *
 * THREADS     Any. The reference count is the only thing written here besides seg_set_schema(),
 *             which keeps a replaced schema until the segment ends because a reader may hold it.
 * NOT HERE    Appending: growing_append.c. Opening files: sealed_open.c.
 */
#include "segment/segment.h"
#include "base/alloc.h"
#include "segment/seg_int.h"

bool seg__dir_set(struct seg_dir *d, uint32_t i, void *p)
{
    struct seg_leaf *l =
        atomic_load_explicit(&d->leaf[i / SEG_DIR_FAN], memory_order_relaxed); /* one writer */
    if (!l) {
        l = alloc_try_zero(sizeof *l);
        if (!l) {
            return false;
        }
        atomic_store_explicit(&d->leaf[i / SEG_DIR_FAN], l, memory_order_release);
    }
    atomic_store_explicit(&l->slot[i % SEG_DIR_FAN], p, memory_order_release);
    return true;
}

void seg__dir_done(struct seg_dir *d)
{
    for (uint32_t i = 0; i < SEG_DIR_FAN; i++) {
        mem_free(atomic_load_explicit(&d->leaf[i], memory_order_relaxed));
    }
}

struct seg_field seg__field_of(const struct field *f)
{
    return (struct seg_field){ .id = f->id,
                               .type = f->type,
                               .elem = f->elem,
                               .dim = f->dim,
                               .width = dtype_width(f->type, f->dim),
                               .nullable = f->nullable };
}

struct segment *seg__new(int64_t id, int64_t collection_id, int64_t partition_id,
                         const struct schema *schema)
{
    struct segment *seg = xalloc(sizeof *seg);
    seg->id = id;
    seg->collection_id = collection_id;
    seg->partition_id = partition_id;
    atomic_init(&seg->refs, 1);
    atomic_init(&seg->schema, schema_ref(schema));
    seg->lock = xalloc(sizeof *seg->lock);
    rwlock_init(seg->lock, RANK_SEGMENT);
    return seg;
}

struct segment *seg_ref(struct segment *seg)
{
    atomic_fetch_add_explicit(&seg->refs, 1, memory_order_relaxed);
    return seg;
}

static void seg_free(struct segment *seg)
{
    seg__growing_done(seg);
    seg__sealed_done(seg);
    seg__dels_done(&seg->dels);
    while (seg->old_schemas) {
        struct seg_old_schema *old = seg->old_schemas;
        seg->old_schemas = old->next;
        schema_unref((struct schema *)(uintptr_t)old->schema);
        mem_free(old);
    }
    schema_unref((struct schema *)(uintptr_t)seg_schema(seg));
    rwlock_done(seg->lock);
    mem_free(seg->lock);
    mem_free(seg->fields);
    mem_free(seg->name);
    mem_free(seg);
}

void seg_unref(struct segment *seg)
{
    /* Release: what this thread did with the segment comes before the freeing; acquire: the thread
     * that frees sees what all others did. */
    if (seg && atomic_fetch_sub_explicit(&seg->refs, 1, memory_order_acq_rel) == 1) {
        seg_free(seg);
    }
}

void seg_get_info(const struct segment *seg, struct seg_info *ret)
{
    uint32_t nrows = seg__nrows(seg);
    *ret = (struct seg_info){
        .id = seg->id,
        .collection_id = seg->collection_id,
        .partition_id = seg->partition_id,
        .nrows = nrows,
        .sealed = seg->sealed,
        .min_ts = atomic_load_explicit(&seg->min_ts, memory_order_relaxed),
        .max_ts = atomic_load_explicit(&seg->max_ts, memory_order_relaxed),
        .first_position = atomic_load_explicit(&seg->first_position, memory_order_relaxed),
        .last_position = atomic_load_explicit(&seg->last_position, memory_order_relaxed),
        .memory_bytes = atomic_load_explicit(&seg->memory, memory_order_relaxed) +
                        seg__kept_bytes(seg->s.kept),
        .mapped_bytes = seg->s.nbytes,
        .deleted_rows = atomic_load_explicit(&seg->dels.rows, memory_order_relaxed),
    };
    seg__indexes_info(seg, ret);
}

const struct schema *seg_schema(const struct segment *seg)
{
    return atomic_load_explicit(&seg->schema, memory_order_acquire);
}

void seg_set_schema(struct segment *seg, const struct schema *schema)
{
    struct seg_old_schema *old = xalloc(sizeof *old);
    rwlock_write(seg->lock);
    old->schema = atomic_exchange_explicit(&seg->schema, schema_ref(schema), memory_order_acq_rel);
    old->next = seg->old_schemas;
    seg->old_schemas = old;
    rwlock_release(seg->lock);
}

int seg__field(const struct segment *seg, int64_t field_id)
{
    for (uint32_t i = 0; i < seg->nfields; i++) {
        if (seg->fields[i].id == field_id) {
            return (int)i;
        }
    }
    return -1;
}

uint32_t seg__nspans(const struct segment *seg, uint32_t nrows)
{
    if (nrows == 0) {
        return 0;
    }
    return seg->sealed ? 1 : seg__chunk_of(nrows - 1) + 1;
}

struct seg_span seg__span(const struct segment *seg, uint32_t i, uint32_t nrows)
{
    if (seg->sealed) {
        return (struct seg_span){ .seg = seg,
                                  .nrows = nrows,
                                  .ts = seg->s.ts,
                                  .ts0 = atomic_load_explicit(&seg->min_ts, memory_order_relaxed) };
    }
    const struct seg_chunk *chunk = seg__dir_get(&seg->g.chunks, i);
    return (struct seg_span){ .seg = seg,
                              .chunk = chunk,
                              .row0 = chunk->row0,
                              .nrows = MIN(chunk->cap, nrows - chunk->row0),
                              .ts = chunk->ts };
}

static const struct seg_chunk *chunk_with(const struct segment *seg, uint32_t row)
{
    return seg__dir_get(&seg->g.chunks, seg__chunk_of(row));
}

struct slice seg__cell(const struct segment *seg, uint32_t f, uint32_t row)
{
    if (seg->sealed) {
        return column_cell(&seg->s.cols[f], row);
    }
    const struct seg_chunk *chunk = chunk_with(seg, row);
    size_t i = row - chunk->row0, width = seg->fields[f].width;
    return width ? slice_n(chunk->cells[f].data + i * width, width) : chunk->cells[f].refs[i];
}

bool seg__cell_null(const struct segment *seg, uint32_t f, uint32_t row)
{
    if (seg->sealed) {
        return column_is_null(&seg->s.cols[f], row);
    }
    const struct seg_chunk *chunk = chunk_with(seg, row);
    const struct seg_cells *c = &chunk->cells[f];
    uint32_t i = row - chunk->row0;
    /* Relaxed: this row's bit was set before the row was published. */
    return c->valid &&
           !((atomic_load_explicit(&c->valid[i / 64], memory_order_relaxed) >> (i % 64)) & 1);
}

hts seg__row_ts(const struct segment *seg, uint32_t row)
{
    if (!seg->sealed) {
        const struct seg_chunk *chunk = chunk_with(seg, row);
        return chunk->ts[row - chunk->row0];
    }
    return seg->s.ts ? seg->s.ts[row] : atomic_load_explicit(&seg->min_ts, memory_order_relaxed);
}

bool seg__cell_valid(const struct seg_field *f, struct slice cell)
{
    switch (f->type) {
    case DT_ARRAY:
        return array_cell_valid(f->elem, cell);
    case DT_SPARSE_FLOAT_VECTOR:
        return cell.n % 8 == 0;
    default:
        return true;
    }
}

static int growing_column(const struct seg_span *sp, uint32_t f, struct arena *ar,
                          struct column *ret, struct status *st)
{
    const struct seg_cells *c = &sp->chunk->cells[f];
    ret->data = c->data;
    ret->refs = c->refs;
    /* Relaxed: nulls of published rows were counted before the acquire load of the row count. */
    if (!c->valid || atomic_load_explicit(&c->nulls, memory_order_relaxed) == 0) {
        return 0;
    }
    size_t words = bits_words(sp->nrows);
    uint64_t *copy = arena_try(ar, words * 8);
    if (!copy) {
        return st_fail(st, ST_NO_MEMORY, "no memory for the null bits of %u rows", sp->nrows);
    }
    for (size_t i = 0; i < words; i++) {
        copy[i] = atomic_load_explicit(&c->valid[i], memory_order_relaxed);
    }
    if (sp->nrows % 64) {
        copy[words - 1] &= (UINT64_C(1) << (sp->nrows % 64)) - 1; /* rows appended since */
    }
    ret->valid = copy;
    return 0;
}

int seg__span_column(const struct seg_span *sp, uint32_t f, bool cells, struct arena *ar,
                     struct column *ret, struct status *st)
{
    const struct segment *seg = sp->seg;
    const struct seg_field *sf = &seg->fields[f];
    if (seg->sealed) {
        int rc = seg__check_column(seg, f, cells, st);
        if (rc == 0) {
            *ret = seg->s.cols[f];
        }
        return rc;
    }
    struct column col = { .field_id = sf->id,
                          .type = sf->type,
                          .elem = sf->elem,
                          .dim = sf->dim,
                          .nrows = sp->nrows,
                          .width = sf->width };
    int rc = growing_column(sp, f, ar, &col, st);
    if (rc == 0) {
        *ret = col;
    }
    return rc;
}
