/*
 * seg_merge.c - rows of several sealed segments as the file of a new one.
 *
 * WHAT        First which rows stay, once: a source may get deletes meanwhile. Then the file, by the
 *             writer of sealed_write.c. Every source has its rows in key order already, so the new
 *             order comes from a heap of one place in each of these orders; nothing is sorted but, of
 *             rows that are laid in another order, those of one key and timestamp.
 * INVARIANTS  A source is not believed. What decides about rows (timestamps, key order, and the key
 *             filter through which its deletes found them) is compared with its checksums before a
 *             row is left out, columns by the writer before they are copied. Of a key order that
 *             fits its checksum, each row has to come strictly behind the one before, and all rows
 *             that stay have to come: then each comes once.
 * THREADS     Any.
 * MEMORY      A bit and a half a row of a source that loses rows, 4 bytes a row that is laid in another
 *             order, and the writer's.
 * FAILURE     As the writer's: the whole file or none.
 */
#include "base/alloc.h"
#include "segment/sealed_write.h"
#include <stdlib.h>

/* What a source gives beside its seg_part. */
struct source {
    uint64_t *keep;   /* NULL: all rows stay */
    uint32_t *before; /* rows that stay in words of keep before each */
    uint32_t row0;    /* number of its first row that stays in the new segment */
    uint32_t *place;  /* of each row in the new segment; NULL: as they lie */
};
struct merging {
    const struct seg_merge *m;
    struct seg_write w;
    struct seg_part *parts;
    struct source *src;
};

static int check_source(const struct merging *g, const struct segment *seg, struct status *st)
{
    const struct field *pk = g->m->schema->pk;
    const struct sf_footer *ft = seg->s.file.footer;
    int rc;
    if (!seg->sealed) {
        FAIL(st, ST_INVALID, "%s is not sealed", seg->name);
    }
    if (seg->fields[seg->pk].id != pk->id || seg->fields[seg->pk].type != pk->type) {
        FAIL(st, ST_INVALID, "%s: its primary key is not field %lld, %s", seg->name,
             (long long)pk->id, dtype_name(pk->type));
    }
    TRY(seg__check_block(&g->w, seg, &ft->ts, "timestamps", FIELD_TIMESTAMP, st));
    TRY(seg__check_block(&g->w, seg, &ft->order, "key order", ft->pk_field_id, st));
    TRY(seg__check_block(&g->w, seg, &ft->filter, "key filter", ft->pk_field_id, st));
out:
    return rc;
}

/* ---- Which rows stay ---- */

static bool stays(const struct seg_merge *m, const struct segment *seg, uint32_t row)
{
    hts gone = m->gone_before ? seg__deleted_at(seg, row) : 0;
    return !(gone && gone <= m->gone_before) && seg__row_ts(seg, row) >= m->expired_before;
}

/* Whether a row may be left out at all. */
static bool may_lose(const struct seg_merge *m, const struct segment *seg)
{
    return (m->gone_before && atomic_load_explicit(&seg->dels.rows, memory_order_relaxed)) ||
           m->expired_before > atomic_load_explicit(&seg->min_ts, memory_order_relaxed);
}

#define CHOOSE_STEP 1024u /* words between two checks */

static int choose_rows(const struct merging *g, struct seg_part *part, struct source *src,
                       struct status *st)
{
    const struct segment *seg = part->seg;
    uint32_t nrows = part->nrows;
    size_t words = bits_words(nrows);
    int rc = 0;
    part->nkept = nrows;
    if (!may_lose(g->m, seg)) {
        goto out;
    }
    src->keep = alloc_try((words + 1) * sizeof *src->keep);
    src->before = alloc_try((words + 1) * sizeof *src->before);
    if (!src->keep || !src->before) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory to choose of %u rows", seg->name, nrows);
    }
    part->nkept = 0;
    for (uint32_t w = 0; w < words; w++) {
        if (w % CHOOSE_STEP == 0) {
            TRY(seg__write_check(&g->w, st));
        }
        uint64_t bits = 0;
        for (uint32_t i = 0; i < 64 && w * 64 + i < nrows; i++) {
            bits |= (uint64_t)stays(g->m, seg, w * 64 + i) << i;
        }
        src->keep[w] = bits;
        src->before[w] = part->nkept;
        part->nkept += (uint32_t)__builtin_popcountll(bits);
    }
    part->keep = src->keep;
out:
    return rc;
}

/* Of the only source. */
static int place_rows(struct merging *g, struct status *st)
{
    struct seg_part *part = &g->parts[0];
    const uint32_t *order = g->m->order;
    uint32_t *place = NULL;
    int rc = 0;
    if (g->m->nfrom != 1 || part->nkept != part->nrows) {
        FAIL(st, ST_INVALID, "%s: an order is of one source that loses no row", g->w.name);
    }
    place = alloc_try(((size_t)part->nrows + 1) * sizeof *place);
    if (!place) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory for an order of %u rows", g->w.name, part->nrows);
    }
    memset(place, 0xff, part->nrows * sizeof *place);
    for (uint32_t i = 0; i < part->nrows; i++) {
        if (order[i] >= part->nrows || place[order[i]] != SEG_NO_ROW) {
            FAIL(st, ST_INVALID, "%s: an order of %u rows has row %u %s", g->w.name, part->nrows,
                 order[i], order[i] < part->nrows ? "twice" : "too");
        }
        place[order[i]] = i;
    }
    part->keep = NULL;
    part->laid = order;
    g->src[0].place = TAKE(place);
out:
    mem_free(place);
    return rc;
}

static int choose(struct merging *g, struct status *st)
{
    struct seg_write *w = &g->w;
    uint64_t nrows = 0;
    int rc = 0;
    w->first_position = UINT64_MAX;
    for (size_t i = 0; i < g->m->nfrom; i++) {
        const struct segment *seg = g->m->from[i];
        struct seg_part *part = &g->parts[i];
        TRY(check_source(g, seg, st));
        *part = (struct seg_part){ .seg = seg, .nrows = seg__nrows(seg) };
        TRY(choose_rows(g, part, &g->src[i], st));
        g->src[i].row0 = (uint32_t)nrows; /* used when all of them are few enough */
        nrows += part->nkept;
        if (part->nrows) { /* an empty one has no positions */
            struct seg_info info;
            seg_get_info(seg, &info);
            w->first_position = MIN(w->first_position, info.first_position);
            w->last_position = MAX(w->last_position, info.last_position);
        }
    }
    if (nrows > SEG_ROWS_MAX) {
        FAIL(st, ST_TOO_LARGE, "%s would have %llu rows, a segment has at most %u", w->name,
             (unsigned long long)nrows, SEG_ROWS_MAX);
    }
    w->nrows = (uint32_t)nrows;
    if (g->m->order) {
        TRY(place_rows(g, st));
    }
out:
    return rc;
}

/* ---- Key order ---- */

/* A place in the key order of a source. */
struct cursor {
    const struct seg_part *part;
    const struct source *src;
    uint32_t next;      /* in the order */
    uint32_t left;      /* rows that stay, from the one it is at on */
    uint32_t to;        /* new number of that row */
    bool again;         /* key and timestamp are those of the row before */
    struct seg_sort at; /* that row */
};

static uint32_t new_row(const struct cursor *c, uint32_t row)
{
    const struct source *src = c->src;
    if (src->place) {
        return src->place[row];
    }
    if (!src->keep) {
        return src->row0 + row;
    }
    uint64_t below = src->keep[row / 64] & ((UINT64_C(1) << (row % 64)) - 1);
    return src->row0 + src->before[row / 64] + (uint32_t)__builtin_popcountll(below);
}

/* On to the next row that stays; there is one, or the order is damaged. */
static int cursor_seek(struct cursor *c, struct status *st)
{
    const struct segment *seg = c->part->seg;
    const uint32_t *order = seg->s.order;
    uint32_t nrows = c->part->nrows;
    while (c->next < nrows) {
        uint32_t row = order[c->next++];
        if (row >= nrows) {
            return st_fail(st, ST_CORRUPT, "%s: key order names row %u of %u", seg->name, row,
                           nrows);
        }
        if (!c->src->keep || bit_get(c->src->keep, row)) {
            c->at = (struct seg_sort){ seg__key_prefix(seg, row), row };
            c->to = new_row(c, row);
            return 0;
        }
    }
    return st_fail(st, ST_CORRUPT, "%s: key order lacks %u rows", seg->name, c->left);
}

static int cursor_next(struct cursor *c, struct status *st)
{
    const struct segment *seg = c->part->seg;
    struct seg_sort last = c->at;
    int rc;
    TRY(cursor_seek(c, st));
    int cmp = seg__row_cmp(seg, &last, seg, &c->at);
    if (cmp > 0 || (cmp == 0 && last.row <= c->at.row)) {
        FAIL(st, ST_CORRUPT, "%s: keys are out of order at row %u", seg->name, c->at.row);
    }
    c->again = cmp == 0;
out:
    return rc;
}

static bool cursor_before(const struct cursor *a, const struct cursor *b)
{
    int c = seg__row_cmp(a->part->seg, &a->at, b->part->seg, &b->at);
    return c ? c < 0 : a->to > b->to;
}

/* Restores the heap below i: its first cursor is at the row that comes next. */
static void sift_down(struct cursor *heap, size_t n, size_t i)
{
    struct cursor c = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < n && cursor_before(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (child >= n || !cursor_before(&heap[child], &c)) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = c;
}

static int cursors(const struct merging *g, struct cursor *heap, size_t *ret_n, struct status *st)
{
    size_t n = 0;
    int rc = 0;
    for (size_t i = 0; i < g->m->nfrom; i++) {
        const struct seg_part *part = &g->parts[i];
        if (part->nkept) {
            heap[n] = (struct cursor){ .part = part, .src = &g->src[i], .left = part->nkept };
            TRY(seg__check_column(part->seg, part->seg->pk, false, st));
            TRY(cursor_seek(&heap[n], st));
            n++;
        }
    }
    for (size_t i = n / 2; i-- > 0;) {
        sift_down(heap, n, i);
    }
    *ret_n = n;
out:
    return rc;
}

#define ORDER_STEP 4096u /* rows that go on together */

/* seg_order_fn */
static int merged_order(const struct seg_write *w, struct seg_writer *out, uint32_t *filter,
                        uint32_t nblocks, struct status *st)
{
    const struct merging *g = w->order_arg;
    struct cursor *heap = alloc_try((g->m->nfrom + 1) * sizeof *heap);
    uint32_t rows[ORDER_STEP];
    size_t n = 0, nheap = 0;
    int rc;
    if (!heap) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory to merge %zu key orders", w->name, g->m->nfrom);
    }
    TRY(cursors(g, heap, &nheap, st));
    while (nheap) {
        struct cursor *c = &heap[0];
        const struct segment *seg = c->part->seg;
        seg__bloom_add(filter, nblocks, seg__key_hash(seg__cell(seg, seg->pk, c->at.row)));
        rows[n++] = c->to;
        if (n == ORDER_STEP) {
            TRY(seg__write_check(w, st));
            TRY(seg__put_order(out, rows, n, st));
            n = 0;
        }
        if (--c->left) {
            TRY(cursor_next(c, st));
        } else {
            heap[0] = heap[--nheap];
        }
        if (nheap) {
            sift_down(heap, nheap, 0);
        }
    }
    TRY(seg__put_order(out, rows, n, st));
out:
    mem_free(heap);
    return rc;
}

/* Rows in key order; from `open` on they have one key and timestamp, and the highest comes first. */
struct laid_rows {
    uint32_t *v;
    size_t n, cap, open;
};

static int laid_add(struct laid_rows *l, const struct cursor *c, struct status *st)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : ORDER_STEP * 2;
        uint32_t *v = alloc_try(cap * sizeof *v);
        if (!v) {
            return st_fail(st, ST_NO_MEMORY, "%s: no memory to order %zu rows of one key",
                           c->part->seg->name, l->n - l->open);
        }
        if (l->n) {
            memcpy(v, l->v, l->n * sizeof *v);
        }
        mem_free(l->v);
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = c->to;
    return 0;
}

static int higher_first(const void *pa, const void *pb)
{
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    return (a < b) - (a > b);
}

static int laid_put(struct laid_rows *l, const struct seg_write *w, struct seg_writer *out,
                    size_t least, struct status *st)
{
    int rc = 0;
    qsort(l->v + l->open, l->n - l->open, sizeof *l->v, higher_first);
    l->open = l->n;
    if (l->n >= least) {
        TRY(seg__write_check(w, st));
        TRY(seg__put_order(out, l->v, l->n, st));
        l->n = l->open = 0;
    }
out:
    return rc;
}

/* seg_order_fn: of one source whose rows are laid in another order. */
static int laid_order(const struct seg_write *w, struct seg_writer *out, uint32_t *filter,
                      uint32_t nblocks, struct status *st)
{
    const struct merging *g = w->order_arg;
    const struct segment *seg = g->m->from[0];
    struct cursor c = { .part = &g->parts[0], .src = &g->src[0], .left = w->nrows };
    struct laid_rows l = { 0 };
    int rc;
    TRY(seg__check_column(seg, seg->pk, false, st));
    TRY(cursor_seek(&c, st));
    while (c.left) {
        seg__bloom_add(filter, nblocks, seg__key_hash(seg__cell(seg, seg->pk, c.at.row)));
        TRY(laid_add(&l, &c, st));
        if (--c.left) {
            TRY(cursor_next(&c, st));
            if (!c.again) {
                TRY(laid_put(&l, w, out, ORDER_STEP, st));
            }
        }
    }
    TRY(laid_put(&l, w, out, 0, st));
out:
    mem_free(l.v);
    return rc;
}

int seg_merge_files(const struct seg_merge *m, struct object_store *os, const char *prefix,
                    struct seg_merged *ret, struct status *st)
{
    const struct schema *s = m->schema;
    struct merging g = { .m = m };
    struct seg_field *fields = xalloc((s->nfields + 1) * sizeof *fields);
    int rc;
    g.parts = xalloc((m->nfrom + 1) * sizeof *g.parts);
    g.src = xalloc((m->nfrom + 1) * sizeof *g.src);
    if (!s->pk) {
        FAIL(st, ST_INVALID, "%s: the schema has no primary key", prefix);
    }
    for (uint32_t i = 0; i < s->nfields; i++) {
        fields[i] = seg__field_of(&s->fields[i]);
    }
    g.w = (struct seg_write){ .name = prefix,
                              .id = m->id,
                              .collection_id = m->collection_id,
                              .partition_id = m->partition_id,
                              .fields = fields,
                              .nfields = s->nfields,
                              .pk = (uint32_t)(s->pk - s->fields),
                              .schema = s,
                              .parts = g.parts,
                              .nparts = m->nfrom,
                              .order = m->order ? laid_order : merged_order,
                              .order_arg = &g,
                              .check = m->check,
                              .check_arg = m->check_arg };
    TRY(choose(&g, st));
    if (g.w.nrows == 0) {
        *ret = (struct seg_merged){ 0 };
        goto out;
    }
    TRY(seg__write(&g.w, os, prefix, ret, st));
out:
    for (size_t i = 0; i < m->nfrom; i++) {
        mem_free(g.src[i].keep);
        mem_free(g.src[i].before);
        mem_free(g.src[i].place);
    }
    mem_free(g.src);
    mem_free(g.parts);
    mem_free(fields);
    return rc;
}
