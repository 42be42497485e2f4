/*
 * merge_fixture.h - segments to be merged, and a plain model of what has to come of it.
 *
 * The model says which rows stay. A growing segment that gets exactly these rows has to be written
 * as the very bytes of the merged file.
 */
#pragma once
#include "unit.h"
#include "file_crash.h"
#include "segment/seg_int.h"
#include "segment/segment.h"
#include "seg_fixture.h"

enum { SOURCES_MAX = 8, ROWS_MAX = 6000, DELETES_MAX = 4000, OLD = ARRAY_LEN(fx_all) };

/* Fields of the newest schema behind those of fx_all. */
static const struct fx_field added[] = {
    { DT_INT32, DT_NONE, 0, false, true },
    { DT_VARCHAR, DT_NONE, 0, true, false },
    { DT_VARCHAR, DT_NONE, 0, true, true },
    { DT_BOOL, DT_NONE, 0, true, false },
    { DT_JSON, DT_NONE, 0, true, false },
    { DT_ARRAY, DT_VARCHAR, 0, true, false },
    { DT_FLOAT_VECTOR, DT_NONE, 4, true, false },
    { DT_INT64, DT_NONE, 0, true, false },
};

struct row {
    uint32_t key;
    uint64_t seed;    /* of its cells */
    uint32_t nfields; /* that it was written with */
    hts ts, del;
    uint32_t to; /* in the merged segment, or SEG_NO_ROW */
};
struct source {
    struct segment *seg;
    uint32_t n;
    struct row rows[ROWS_MAX];
};
struct world {
    struct crash_fs *fs; /* in memory: quick */
    char *dir;           /* or on disk, where a test has its own crash_fs or counts allocations */
    struct object_store *os;
    enum dtype pk;
    struct schema *old, *wide;
    uint32_t nsrc, ndels, nkept;
    struct source src[SOURCES_MAX];
    struct {
        uint32_t key;
        hts ts;
    } dels[DELETES_MAX];
    struct row kept[SOURCES_MAX * ROWS_MAX];
    hts gone_before, expired_before;
    uint32_t *order; /* how rows of the only source are laid; NULL: as they lie */
    uint64_t first_position, last_position;
};

static inline struct world *world_new(enum dtype pk, bool on_disk)
{
    struct world *w = xalloc(sizeof *w);
    struct fx_field fields[OLD + ARRAY_LEN(added)];
    struct status st = STATUS_INIT;
    memcpy(fields, fx_all, sizeof fx_all);
    memcpy(fields + OLD, added, sizeof added);
    if (on_disk) {
        w->dir = unit_tmp_dir();
    } else {
        w->fs = crash_fs_new(1);
    }
    w->pk = pk;
    w->old = fx_schema(pk, fields, OLD);
    w->wide = fx_schema(pk, fields, ARRAY_LEN(fields));
    ASSERT_OK(object_local_open(w->dir ? w->dir : "store", &w->os, &st));
    return w;
}

static inline void world_clear(struct world *w)
{
    for (uint32_t i = 0; i < w->nsrc; i++) {
        seg_unref(w->src[i].seg);
    }
    w->nsrc = w->ndels = w->nkept = 0;
    w->gone_before = w->expired_before = 0;
    mem_free(TAKE(w->order));
}

static inline void world_free(struct world *w)
{
    world_clear(w);
    object_close(w->os);
    if (w->dir) {
        unit_tmp_remove(w->dir);
    } else {
        crash_fs_free(w->fs);
    }
    schema_unref(w->old);
    schema_unref(w->wide);
    mem_free(w);
}

/* ---- Rows ---- */

/* The cell of a row as the newest schema sees it. */
static inline bool want_null(const struct field *f, const struct row *r)
{
    return f->id > FX_PK + r->nfields ? !f->has_default : fx_null(f, r->seed, r->key);
}

static inline struct slice want_cell(const struct field *f, const struct row *r, struct arena *ar)
{
    return f->id > FX_PK + r->nfields ? f->default_cell : fx_cell(f, r->seed, r->key, ar);
}

static inline struct batch rows_batch(const struct schema *s, const struct row *rows, uint32_t n,
                               struct arena *ar)
{
    struct batch b = { .nrows = n, .ncols = s->nfields };
    b.cols = arena_alloc(ar, s->nfields * sizeof *b.cols);
    for (uint32_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        struct column_builder *cb = column_builder_new(ar, f->id, f->type, f->elem, f->dim, n);
        for (uint32_t r = 0; r < n; r++) {
            CHECK(want_null(f, &rows[r]) ? column_builder_null(cb)
                                         : column_builder_add(cb, want_cell(f, &rows[r], ar)));
        }
        column_builder_finish(cb, &b.cols[i]);
    }
    return b;
}

static inline struct segment *growing(const struct schema *s, const struct row *rows, uint32_t n,
                               uint64_t first_position, uint64_t last_position)
{
    struct segment *seg = NULL;
    struct status st = STATUS_INIT;
    struct arena *ar = arena_new(0);
    struct batch b = rows_batch(s, rows, n, ar);
    hts *ts = arena_alloc(ar, (n + 1) * sizeof *ts);
    for (uint32_t i = 0; i < n; i++) {
        ts[i] = rows[i].ts;
    }
    ASSERT_OK(seg_growing_new(9, 2, 3, s, &seg, &st));
    ASSERT_OK(seg_append_at(seg, &b, ts, first_position, last_position, &st));
    arena_free(ar);
    return seg;
}

/* Rows with keys 0 .. nkeys - 1 and timestamps min_ts .. max_ts as one more source. */
static inline void add_source(struct world *w, const struct schema *s, uint32_t n, uint32_t nkeys,
                       hts min_ts, hts max_ts, uint64_t *rng)
{
    struct source *src = &w->src[w->nsrc];
    struct status st = STATUS_INIT;
    char prefix[32];
    uint64_t bytes = 0;
    src->n = n;
    for (uint32_t i = 0; i < n; i++) {
        src->rows[i] = (struct row){ .key = (uint32_t)(fx_rand(rng) % nkeys),
                                     .seed = fx_rand(rng),
                                     .nfields = s->nfields - 1,
                                     .ts = min_ts + fx_rand(rng) % (max_ts - min_ts + 1) };
    }
    uint64_t at = 100 + fx_rand(rng) % 100;
    struct segment *seg = growing(s, src->rows, n, at, at + 7);
    w->first_position = MIN(n ? at : UINT64_MAX, w->nsrc ? w->first_position : UINT64_MAX);
    w->last_position = MAX(n ? at + 7 : 0, w->nsrc ? w->last_position : 0);
    snprintf(prefix, sizeof prefix, "from/%u", w->nsrc);
    ASSERT_OK(seg_write_files(seg, w->os, prefix, &bytes, &st));
    ASSERT_OK(seg_open(w->nsrc, 2, 3, w->wide, w->os, prefix, &src->seg, &st));
    seg_unref(seg);
    w->nsrc++;
}

/* All deletes that were noted, as a node applies them to a segment. */
static inline int apply_deletes(const struct world *w, struct segment *seg, struct status *st)
{
    struct arena *ar = arena_new(0);
    const struct field *pk = w->wide->pk;
    struct column_builder *cb = column_builder_new(ar, pk->id, pk->type, pk->elem, 0, w->ndels);
    struct column keys;
    hts *ts = arena_alloc(ar, (w->ndels + 1) * sizeof *ts);
    uint32_t hits = 0;
    for (uint32_t i = 0; i < w->ndels; i++) {
        CHECK(column_builder_add(cb, fx_cell(pk, 0, w->dels[i].key, ar)));
        ts[i] = w->dels[i].ts;
    }
    column_builder_finish(cb, &keys);
    int rc = seg_delete(seg, &keys, ts, w->ndels, &hits, st);
    arena_free(ar);
    return rc;
}

static inline void add_delete(struct world *w, uint32_t key, hts ts)
{
    w->dels[w->ndels].key = key;
    w->dels[w->ndels++].ts = ts;
}

/* Deletes are applied to rows and sources, and it is said which rows stay. */
static inline void choose(struct world *w, hts gone_before, hts expired_before)
{
    w->gone_before = gone_before;
    w->expired_before = expired_before;
    w->nkept = 0;
    struct status st = STATUS_INIT;
    for (uint32_t s = 0; s < w->nsrc; s++) {
        ASSERT_OK(apply_deletes(w, w->src[s].seg, &st));
        for (uint32_t i = 0; i < w->src[s].n; i++) {
            struct row *r = &w->src[s].rows[i];
            r->del = 0;
            for (uint32_t d = 0; d < w->ndels; d++) {
                if (w->dels[d].key == r->key && w->dels[d].ts > r->ts) {
                    r->del = r->del ? MIN(r->del, w->dels[d].ts) : w->dels[d].ts;
                }
            }
            bool gone = (r->del && r->del <= gone_before) || r->ts < expired_before;
            r->to = gone ? SEG_NO_ROW : w->nkept;
            if (!gone) {
                w->kept[w->nkept++] = *r;
            }
        }
    }
}

/* The rows of the only source are laid anew: mixed up, but for runs that stay together. After
 * choose(), which left out none. */
static inline void lay(struct world *w, uint64_t *rng)
{
    struct source *src = &w->src[0];
    uint32_t run = 1 + (uint32_t)(fx_rand(rng) % 5), nruns = (src->n + run - 1) / run;
    uint32_t *runs = xalloc((nruns + 1) * sizeof *runs), n = 0;
    CHECK(w->nsrc == 1 && w->nkept == src->n);
    w->order = xalloc((src->n + 1) * sizeof *w->order);
    for (uint32_t i = 0; i < nruns; i++) {
        uint32_t at = (uint32_t)(fx_rand(rng) % (i + 1));
        runs[i] = runs[at];
        runs[at] = i;
    }
    for (uint32_t i = 0; i < nruns; i++) {
        for (uint32_t r = runs[i] * run; r < MIN((runs[i] + 1) * run, src->n); r++) {
            src->rows[r].to = n;
            w->kept[n] = src->rows[r];
            w->order[n++] = r;
        }
    }
    mem_free(runs);
}

static inline int merge(const struct world *w, const struct schema *s, struct object_store *os,
                 struct seg_merged *ret, struct status *st)
{
    struct segment *from[SOURCES_MAX];
    struct seg_merge m = { .from = from,
                           .nfrom = w->nsrc,
                           .schema = s,
                           .id = 9,
                           .collection_id = 2,
                           .partition_id = 3,
                           .gone_before = w->gone_before,
                           .expired_before = w->expired_before,
                           .order = w->order };
    for (uint32_t i = 0; i < w->nsrc; i++) {
        from[i] = w->src[i].seg;
    }
    return seg_merge_files(&m, os, "to", ret, st);
}

/* ---- What has to be so ---- */

static inline void check_absent(struct object_store *os, const char *key)
{
    struct object_info info;
    struct status st = STATUS_INIT;
    assert_int_equal(object_stat(os, slice_of(key), &info, &st), ST_NOT_FOUND);
}

/* The file is the one a flush of the rows that stay would have given. */
static inline void check_bytes(const struct world *w, const struct schema *s, const struct seg_merged *got)
{
    struct segment *seg = growing(s, w->kept, w->nkept, w->first_position, w->last_position);
    struct status st = STATUS_INIT;
    struct mapping *a = NULL, *b = NULL;
    struct seg_info info;
    uint64_t bytes = 0;
    ASSERT_OK(seg_write_files(seg, w->os, "want", &bytes, &st));
    ASSERT_OK(object_map(w->os, SLICE_LIT("want/rows.seg"), &a, &st));
    ASSERT_OK(object_map(w->os, SLICE_LIT("to/rows.seg"), &b, &st));
    seg_get_info(seg, &info);
    assert_int_equal(got->nrows, w->nkept);
    assert_int_equal(got->bytes, b->n);
    assert_int_equal(got->min_ts, info.min_ts);
    assert_int_equal(got->max_ts, info.max_ts);
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->p, b->p, a->n);
    mapping_free(a);
    mapping_free(b);
    seg_unref(seg);
}

static inline void check_cells(const struct world *w, const struct schema *s, const struct segment *seg)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct column col;
    uint32_t *rows = arena_alloc(ar, (w->nkept + 1) * sizeof *rows);
    for (uint32_t i = 0; i < w->nkept; i++) {
        rows[i] = i;
    }
    for (uint32_t i = 0; i < s->nfields; i++) {
        const struct field *f = &s->fields[i];
        ASSERT_OK(seg_fetch(seg, f->id, rows, w->nkept, ar, &col, &st));
        for (uint32_t r = 0; r < w->nkept; r++) {
            bool null = want_null(f, &w->kept[r]);
            assert_int_equal(column_is_null(&col, r), null);
            assert_true(null || slice_eq(column_cell(&col, r), want_cell(f, &w->kept[r], ar)));
        }
    }
    ASSERT_OK(seg_fetch(seg, FIELD_TIMESTAMP, rows, w->nkept, ar, &col, &st));
    for (uint32_t r = 0; r < w->nkept; r++) {
        assert_int_equal(column_i64(&col, r), w->kept[r].ts);
    }
    arena_free(ar);
}
