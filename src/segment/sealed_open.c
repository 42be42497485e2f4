/*
 * sealed_open.c - a segment file as a segment.
 *
 * WHAT        Maps the file, checks its frame (seg_format.c) and points at the columns: work grows
 *             with the number of columns, not of rows, and no block is touched.
 * INVARIANTS  Nothing in a block is trusted before it was looked at: the offsets of a variable
 *             column, and the inner offsets of Array and sparse cells, are checked at the column's
 *             first use (8 bytes a row for offsets) and then remembered. Row numbers in the key
 *             order are checked where they are used. A damaged file thus gives ST_CORRUPT or wrong
 *             values, never a read outside the mapping; wrong values are what seg_validate() finds.
 * THREADS     Immutable after opening but for `checked`, which threads may raise at the same time:
 *             the outcome is the same for all.
 */
#include "base/alloc.h"
#include "segment/sealed_int.h"

static int check_types(const struct segment *seg, const struct sf_column *c, const struct field *f,
                       struct status *st)
{
    if (c->type != (uint32_t)f->type || c->elem != (uint32_t)f->elem || c->dim != f->dim) {
        return st_fail(st, ST_CORRUPT, "%s: field %lld is %s(%u), the schema says %s(%u)",
                       seg->name, (long long)c->field_id, dtype_name((enum dtype)c->type), c->dim,
                       dtype_name(f->type), f->dim);
    }
    return 0;
}

static struct column column_at(const struct sf_column *c, const uint8_t *p, uint32_t nrows)
{
    struct column col = { .field_id = c->field_id,
                          .type = (enum dtype)c->type,
                          .elem = (enum dtype)c->elem,
                          .dim = c->dim,
                          .nrows = nrows,
                          .width = c->width,
                          .data = p + c->data.off };
    if (!c->width) {
        col.ends = (const void *)(p + c->ends.off);
    }
    if (c->nulls) {
        col.valid = (const void *)(p + c->valid.off);
    }
    return col;
}

static int set_columns(struct segment *seg, const struct schema *schema, struct status *st)
{
    struct seg_sealed *s = &seg->s;
    uint32_t ncols = s->file.footer->ncols;
    int rc;
    seg->fields = xalloc((ncols + 1) * sizeof *seg->fields);
    s->cols = xalloc((ncols + 1) * sizeof *s->cols);
    s->file_col = xalloc((ncols + 1) * sizeof *s->file_col);
    s->checked = xalloc(ncols + 1);
    for (uint32_t i = 0; i < ncols; i++) {
        const struct sf_column *c = &s->file.cols[i];
        const struct field *f = schema_field(schema, c->field_id);
        if (!f) {
            continue; /* dropped from the collection since */
        }
        if (seg__field(seg, c->field_id) >= 0) {
            FAIL(st, ST_CORRUPT, "%s: field %lld stands there twice", seg->name,
                 (long long)c->field_id);
        }
        TRY(check_types(seg, c, f, st));
        uint32_t at = seg->nfields++;
        seg->fields[at] = seg__field_of(f);
        s->cols[at] = column_at(c, s->bytes, s->file.footer->nrows);
        s->file_col[at] = i;
    }
    int pk = schema->pk ? seg__field(seg, schema->pk->id) : -1;
    if (pk < 0 || s->file.footer->pk_field_id != schema->pk->id ||
        (schema->pk->type != DT_INT64 && schema->pk->type != DT_VARCHAR)) {
        FAIL(st, ST_CORRUPT, "%s: the schema's primary key is not the file's", seg->name);
    }
    seg->pk = (uint32_t)pk;
    s->indexes = xalloc((seg->nfields + 1) * sizeof *s->indexes);
    rc = 0;
out:
    return rc;
}

int seg__open_bytes(const struct seg_ids *ids, const struct schema *schema, const char *name,
                    const uint8_t *p, size_t n, struct segment **ret_seg, struct status *st)
{
    struct segment *seg = seg__new(ids->id, ids->collection_id, ids->partition_id, schema);
    struct seg_sealed *s = &seg->s;
    int rc;
    seg->sealed = true;
    seg->name = xstrdup(name);
    TRY(sf_parse(p, n, name, &s->file, st));
    const struct sf_footer *ft = s->file.footer;
    if (ft->nrows > SEG_ROWS_MAX) {
        FAIL(st, ST_UNSUPPORTED, "%s: %u rows, at most %u are served", name, ft->nrows,
             SEG_ROWS_MAX);
    }
    s->bytes = p;
    s->nbytes = n;
    TRY(set_columns(seg, schema, st));
    s->ts = ft->ts.len ? (const void *)(p + ft->ts.off) : NULL;
    s->order = (const void *)(p + ft->order.off);
    s->filter = (const void *)(p + ft->filter.off);
    s->filter_blocks = (uint32_t)(ft->filter.len / 32);
    atomic_init(&seg->min_ts, ft->min_ts);
    atomic_init(&seg->max_ts, ft->max_ts);
    atomic_init(&seg->first_position, ft->first_position);
    atomic_init(&seg->last_position, ft->last_position);
    atomic_init(&seg->nrows, ft->nrows);
    s->kept = seg__kept_new(ft->nrows);
    seg__add_memory(seg, sizeof *seg + sizeof *seg->lock +
                             ft->ncols * (sizeof *seg->fields + sizeof *s->cols +
                                          sizeof *s->file_col + sizeof *s->indexes + 1));
    *ret_seg = TAKE(seg);
    rc = 0;
out:
    seg_unref(seg);
    return rc;
}

int seg_open(int64_t id, int64_t collection_id, int64_t partition_id, const struct schema *schema,
             struct object_store *os, const char *prefix, struct segment **ret_seg,
             struct status *st)
{
    const struct seg_ids ids = { id, collection_id, partition_id };
    char *key = path_join(prefix, SF_FILE_NAME);
    struct mapping *map = NULL;
    struct segment *seg = NULL;
    int rc;
    TRY(object_map(os, slice_of(key), &map, st));
    TRY(seg__open_bytes(&ids, schema, key, map->p, map->n, &seg, st));
    seg->s.map = TAKE(map);
    *ret_seg = TAKE(seg);
out:
    mapping_free(map);
    mem_free(key);
    return rc;
}

void seg__sealed_done(struct segment *seg)
{
    seg__indexes_done(seg); /* they point into the columns */
    seg__kept_done(seg->s.kept);
    mem_free(seg->s.cols);
    mem_free(seg->s.file_col);
    mem_free((void *)(uintptr_t)seg->s.checked);
    mapping_free(seg->s.map);
}

static int check_offsets(const struct segment *seg, uint32_t f, struct status *st)
{
    const struct column *col = &seg->s.cols[f];
    uint64_t len = seg->s.file.cols[seg->s.file_col[f]].data.len, prev = 0, falls = 0;
    for (uint32_t i = 0; i < col->nrows; i++) {
        falls |= (uint64_t)(col->ends[i] < prev);
        prev = col->ends[i];
    }
    if (falls || prev != (col->nrows ? len : 0)) {
        return st_fail(st, ST_CORRUPT, "%s: offsets of field %lld are damaged", seg->name,
                       (long long)col->field_id);
    }
    return 0;
}

static int check_cells(const struct segment *seg, uint32_t f, struct status *st)
{
    const struct column *col = &seg->s.cols[f];
    for (uint32_t i = 0; i < col->nrows; i++) {
        if (!seg__cell_valid(&seg->fields[f], column_cell(col, i)) && !column_is_null(col, i)) {
            return st_fail(st, ST_CORRUPT, "%s: field %lld of row %u is damaged", seg->name,
                           (long long)col->field_id, i);
        }
    }
    return 0;
}

int seg__check_column(const struct segment *seg, uint32_t f, bool cells, struct status *st)
{
    _Atomic uint8_t *checked = &seg->s.checked[f];
    /* Relaxed: the outcome concerns immutable bytes; whoever misses it, or finds it lowered by a
     * thread that wanted less, checks again. */
    uint8_t have = atomic_load_explicit(checked, memory_order_relaxed);
    uint8_t want = cells ? SEG_CELLS_OK : SEG_ENDS_OK;
    int rc = 0;
    if (have >= want || seg->fields[f].width) {
        goto out;
    }
    if (have < SEG_ENDS_OK) {
        TRY(check_offsets(seg, f, st));
    }
    if (cells) {
        TRY(check_cells(seg, f, st));
    }
    atomic_store_explicit(checked, want, memory_order_relaxed);
out:
    return rc;
}
