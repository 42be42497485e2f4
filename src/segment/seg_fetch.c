/*
 * seg_fetch.c - cells of chosen rows as one column.
 *
 * WHAT        Fixed cells are copied into the caller's arena, unless the rows follow one another
 *             and lie together, which is borrowed as it is. Variable cells are borrowed: pointer
 *             and length. A field that the rows do not have gives its default, or nulls.
 * THREADS     Any.
 */
#include "schema/errors.h"
#include "segment/seg_int.h"

static int no_memory(uint32_t n, struct status *st)
{
    return st_fail(st, ST_NO_MEMORY, "no memory for the cells of %u rows", n);
}

/* Whether rows[i] == rows[0] + i. */
static bool consecutive(const uint32_t *rows, uint32_t n)
{
    if (n == 0 || rows[n - 1] - rows[0] != n - 1) {
        return false;
    }
    for (uint32_t i = 1; i < n; i++) {
        if (rows[i] != rows[0] + i) {
            return false;
        }
    }
    return true;
}

static int fetch_fixed(const struct segment *seg, uint32_t f, const uint32_t *rows, uint32_t n,
                       struct arena *ar, struct column *ret, struct status *st)
{
    size_t width = ret->width;
    if (consecutive(rows, n) &&
        (seg->sealed || seg__chunk_of(rows[0]) == seg__chunk_of(rows[n - 1]))) {
        ret->data = (const uint8_t *)seg__cell(seg, f, rows[0]).p;
        return 0;
    }
    size_t bytes;
    uint8_t *data = mul_size(n, width, &bytes) ? arena_try(ar, bytes + 1) : NULL;
    if (!data) {
        return no_memory(n, st);
    }
    for (uint32_t i = 0; i < n; i++) {
        memcpy(data + i * width, seg__cell(seg, f, rows[i]).p, width);
    }
    ret->data = data;
    return 0;
}

static int fetch_var(const struct segment *seg, uint32_t f, const uint32_t *rows, uint32_t n,
                     struct arena *ar, struct column *ret, struct status *st)
{
    int rc = 0;
    struct slice *refs = NULL;
    if (seg->sealed) {
        TRY(seg__check_column(seg, f, false, st));
    }
    refs = arena_try_array(ar, (size_t)n + 1, sizeof *refs);
    if (!refs) {
        rc = no_memory(n, st);
        goto out;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (seg__cell_null(seg, f, rows[i])) {
            continue;
        }
        refs[i] = seg__cell(seg, f, rows[i]);
        if (seg->sealed && !seg__cell_valid(&seg->fields[f], refs[i])) {
            FAIL(st, ST_CORRUPT, "%s: field %lld of row %u is damaged", seg->name,
                 (long long)seg->fields[f].id, rows[i]);
        }
    }
    ret->refs = refs;
out:
    return rc;
}

static int fetch_valid(const struct segment *seg, uint32_t f, const uint32_t *rows, uint32_t n,
                       struct arena *ar, struct column *ret, struct status *st)
{
    if (!seg->fields[f].nullable && !(seg->sealed && seg->s.cols[f].valid)) {
        return 0;
    }
    uint64_t *valid = arena_try_array(ar, bits_words(n) + 1, 8);
    if (!valid) {
        return no_memory(n, st);
    }
    bool any_null = false;
    for (uint32_t i = 0; i < n; i++) {
        if (seg__cell_null(seg, f, rows[i])) {
            any_null = true;
        } else {
            bit_set(valid, i);
        }
    }
    ret->valid = any_null ? valid : NULL;
    return 0;
}

static int fetch_absent(const struct segment *seg, int64_t field_id, uint32_t n, struct arena *ar,
                        struct column *ret, struct status *st)
{
    const struct field *f = schema_field(seg_schema(seg), field_id);
    if (!f) {
        return st_fail(st, ERR_FIELD_NOT_FOUND, "field %lld", (long long)field_id);
    }
    struct column_builder *cb = column_builder_new(ar, f->id, f->type, f->elem, f->dim, n);
    bool ok = cb != NULL;
    for (uint32_t i = 0; ok && i < n; i++) {
        ok = f->has_default ? column_builder_add(cb, f->default_cell) : column_builder_null(cb);
    }
    if (!ok) {
        return no_memory(n, st);
    }
    column_builder_finish(cb, ret);
    return 0;
}

static int fetch_timestamps(const struct segment *seg, const uint32_t *rows, uint32_t n,
                            struct arena *ar, struct column *ret, struct status *st)
{
    hts *ts = arena_try_array(ar, (size_t)n + 1, sizeof *ts);
    if (!ts) {
        return no_memory(n, st);
    }
    for (uint32_t i = 0; i < n; i++) {
        ts[i] = seg__row_ts(seg, rows[i]);
    }
    *ret = (struct column){ .field_id = FIELD_TIMESTAMP,
                            .type = DT_INT64,
                            .nrows = n,
                            .width = sizeof *ts,
                            .data = (const uint8_t *)ts };
    return 0;
}

int seg_fetch(const struct segment *seg, int64_t field_id, const uint32_t *rows, uint32_t n,
              struct arena *ar, struct column *ret, struct status *st)
{
    uint32_t nrows = seg__nrows(seg);
    int f = seg__field(seg, field_id), rc;
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i] >= nrows) {
            FAIL(st, ST_INVALID, "%s has %u rows, none numbered %u", seg->name, nrows, rows[i]);
        }
    }
    if (field_id == FIELD_TIMESTAMP) {
        rc = fetch_timestamps(seg, rows, n, ar, ret, st);
        goto out;
    }
    if (f < 0) {
        rc = fetch_absent(seg, field_id, n, ar, ret, st);
        goto out;
    }
    const struct seg_field *sf = &seg->fields[f];
    struct column col = { .field_id = sf->id,
                          .type = sf->type,
                          .elem = sf->elem,
                          .dim = sf->dim,
                          .nrows = n,
                          .width = sf->width };
    if (sf->width) {
        TRY(fetch_fixed(seg, (uint32_t)f, rows, n, ar, &col, st));
    } else {
        TRY(fetch_var(seg, (uint32_t)f, rows, n, ar, &col, st));
    }
    TRY(fetch_valid(seg, (uint32_t)f, rows, n, ar, &col, st));
    *ret = col;
out:
    return rc;
}
