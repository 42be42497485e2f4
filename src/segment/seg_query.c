/*
 * seg_query.c - which rows pass, in key order; and how many.
 *
 * WHAT        Three ways to the smallest keys. A filter that names keys: look-up, then sort.
 *             A sealed segment with many passing rows: walk its key order and stop at the limit,
 *             nothing is sorted. Otherwise: gather rows, and whenever twice the limit has been
 *             gathered, sort, keep the rows of the `limit` smallest keys, and from then on skip
 *             rows with a key beyond them.
 *             The limit counts keys: all visible rows of a kept key are kept.
 * THREADS     Any.
 */
#include "base/alloc.h"
#include "segment/seg_int.h"

struct gather {
    const struct segment *seg;
    uint32_t limit;
    struct seg_sort *items;
    size_t n, cap;
    bool bounded; /* the first `limit` keys seen so far end with bound */
    struct seg_sort bound;
};

/* Sorts, and cuts behind the last row of the limit-th key. */
static void cut(struct gather *g)
{
    seg__sort_rows(g->seg, g->items, g->n);
    uint32_t keys = 0;
    for (size_t i = 0; i < g->n; i++) {
        if (i > 0 && seg__key_cmp(g->seg, &g->items[i - 1], &g->items[i]) == 0) {
            continue;
        }
        if (keys++ == g->limit) {
            g->n = i;
            break;
        }
    }
    if (keys >= g->limit && g->n > 0) {
        g->bounded = true;
        g->bound = g->items[g->n - 1];
    }
}

/* seg_row_fn */
static int gather_row(void *ctx, uint32_t row, struct status *st)
{
    struct gather *g = ctx;
    struct seg_sort it = { seg__key_prefix(g->seg, row), row };
    if (g->bounded && seg__key_cmp(g->seg, &it, &g->bound) > 0) {
        return 0;
    }
    if (g->n == g->cap) {
        if (g->n / 2 >= g->limit) {
            cut(g);
            if (g->bounded && seg__key_cmp(g->seg, &it, &g->bound) > 0) {
                return 0;
            }
        }
        if (g->n >= g->cap / 2) {
            size_t cap = MAX(g->cap * 2, (size_t)1024);
            struct seg_sort *items = realloc_try(g->items, cap * sizeof *items);
            if (!items) {
                return st_fail(st, ST_NO_MEMORY, "no memory for %zu rows", cap);
            }
            g->items = items;
            g->cap = cap;
        }
    }
    g->items[g->n++] = it;
    return 0;
}

/* Calls fn for every row of the span whose bit is set. */
static int each_bit(const uint64_t *bits, const struct seg_span *sp, seg_row_fn *fn, void *ctx,
                    struct status *st)
{
    int rc = 0;
    for (size_t w = 0; w < bits_words(sp->nrows) && rc == 0; w++) {
        for (uint64_t left = bits[w]; left && rc == 0; left &= left - 1) {
            uint32_t i = (uint32_t)(w * 64) + (uint32_t)__builtin_ctzll(left);
            rc = fn(ctx, sp->row0 + i, st);
        }
    }
    return rc;
}

/* Sealed: rows with a bit, along the key order. */
static int walk_order(struct gather *g, const uint64_t *bits, uint32_t nrows, struct status *st)
{
    const uint32_t *order = g->seg->s.order;
    struct seg_sort last = { 0 };
    uint32_t keys = 0;
    int rc = 0;
    for (uint32_t i = 0; i < nrows; i++) {
        if (order[i] >= nrows) {
            FAIL(st, ST_CORRUPT, "%s: key order names row %u of %u", g->seg->name, order[i], nrows);
        }
        if (!bit_get(bits, order[i])) {
            continue;
        }
        struct seg_sort it = { 0, order[i] };
        if (g->limit != UINT32_MAX) {
            it.prefix = seg__key_prefix(g->seg, it.row);
            bool same = keys > 0 && seg__key_cmp(g->seg, &last, &it) == 0;
            if (!same && keys++ == g->limit) {
                break;
            }
            last = it;
        }
        if (g->n == g->cap) { /* a damaged order may name a row twice: more than bits were set */
            FAIL(st, ST_CORRUPT, "%s: key order names rows twice", g->seg->name);
        }
        g->items[g->n++] = it;
    }
out:
    return rc;
}

static int gather_span(struct gather *g, const struct seg_span *sp, const uint64_t *bits,
                       struct status *st)
{
    size_t passing = bits_count(bits, sp->nrows);
    int rc = 0;
    if (g->seg->sealed && passing) {
        /* Rows to walk until the limit is reached, against gathering and sorting what passes. */
        uint64_t walk = MIN((uint64_t)sp->nrows,
                            (uint64_t)g->limit * sp->nrows / passing + 1);
        if (walk < (uint64_t)passing * 16) {
            g->items = alloc_try(passing * sizeof *g->items);
            if (!g->items) {
                FAIL(st, ST_NO_MEMORY, "no memory for %zu rows", passing);
            }
            g->cap = passing;
            TRY(walk_order(g, bits, sp->nrows, st));
            goto out;
        }
    }
    TRY(each_bit(bits, sp, gather_row, g, st));
    if (g->seg->sealed) {
        cut(g);
    }
out:
    return rc;
}

/* Runs fn over every span with the bits of its passing rows. */
typedef int span_fn(void *ctx, const struct seg_span *sp, const uint64_t *bits, struct status *st);
static int each_span(const struct segment *seg, const struct seg_filter *f, uint32_t nrows,
                     int64_t deadline_us, span_fn *fn, void *ctx, struct status *st)
{
    struct seg_stop stop = { .deadline_us = deadline_us };
    uint32_t nspans = seg__nspans(seg, nrows);
    struct arena *tmp = arena_new(SEG_TMP_MAX);
    int rc = 0;
    for (uint32_t i = 0; i < nspans; i++) {
        struct seg_span sp = seg__span(seg, i, nrows);
        TRY(seg__stop_check(&stop, st));
        arena_reset(tmp);
        uint64_t *bits = arena_try(tmp, bits_words(sp.nrows) * 8);
        if (!bits) {
            FAIL(st, ST_NO_MEMORY, "no memory for the bits of %u rows", sp.nrows);
        }
        TRY(seg__pass(&sp, f, tmp, bits, st));
        TRY(fn(ctx, &sp, bits, st));
    }
out:
    arena_free(tmp);
    return rc;
}

/* span_fn */
static int query_span(void *ctx, const struct seg_span *sp, const uint64_t *bits, struct status *st)
{
    return gather_span(ctx, sp, bits, st);
}

int seg_query(const struct segment *seg, const struct seg_filter *f, uint32_t limit,
              int64_t deadline_us, const uint32_t **ret_rows, uint32_t *ret_n, struct arena *ar,
              struct status *st)
{
    struct gather g = { .seg = seg, .limit = limit };
    uint32_t nrows = limit ? seg__nrows(seg) : 0, nlist = 0;
    uint32_t *list = NULL;
    bool is_list = false;
    int rc = 0;
    if (seg->sealed) {
        TRY(seg__check_column(seg, seg->pk, false, st));
    }
    TRY(seg__pass_list(seg, f, nrows, ar, &is_list, &list, &nlist, st));
    for (uint32_t i = 0; i < nlist; i++) {
        TRY(gather_row(&g, list[i], st));
    }
    if (!is_list) {
        TRY(each_span(seg, f, nrows, deadline_us, query_span, &g, st));
    }
    if (is_list || !seg->sealed) {
        cut(&g);
    }
    uint32_t *rows = arena_try(ar, g.n * sizeof *rows + 1);
    if (!rows) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu rows", g.n);
    }
    for (size_t i = 0; i < g.n; i++) {
        rows[i] = g.items[i].row;
    }
    *ret_rows = rows;
    *ret_n = (uint32_t)g.n;
out:
    mem_free(g.items);
    return rc;
}

/* span_fn */
static int count_span(void *ctx, const struct seg_span *sp, const uint64_t *bits, struct status *st)
{
    (void)st;
    *(uint64_t *)ctx += bits_count(bits, sp->nrows);
    return 0;
}

int seg_count(const struct segment *seg, const struct seg_filter *f, int64_t deadline_us,
              uint64_t *ret, struct arena *scratch, struct status *st)
{
    uint32_t nrows = seg__nrows(seg), n = 0;
    uint32_t *rows = NULL;
    bool is_list = false;
    uint64_t count = 0;
    int rc;
    TRY(seg__pass_list(seg, f, nrows, scratch, &is_list, &rows, &n, st));
    if (is_list) {
        count = n;
    } else {
        TRY(each_span(seg, f, nrows, deadline_us, count_span, &count, st));
    }
    *ret = count;
out:
    return rc;
}
