/*
 * seg_delete.c - deletes by key, and who sees which row.
 *
 * WHAT        Per row the earliest timestamp of a delete later than its insert, in pages that exist
 *             from their first delete on. A page also has a bit per row with a delete and an upper
 *             bound of its timestamps: a reader later than the bound (the usual case) clears
 *             deleted rows 64 at a time and reads no timestamp.
 * THREADS     One deleter per segment at a time; readers without locks. A row's timestamp is stored
 *             before its bit (release), the bound before the timestamp: a reader that sees a bit
 *             sees both. A timestamp only ever falls, to a delete that came out of order.
 */
#include "base/alloc.h"
#include "segment/seg_int.h"

void seg__dels_done(struct seg_dels *d)
{
    for (uint32_t i = 0; i < SEG_DIR_FAN; i++) {
        if (!atomic_load_explicit(&d->pages.leaf[i], memory_order_relaxed)) {
            continue;
        }
        for (uint32_t j = 0; j < SEG_DIR_FAN; j++) {
            mem_free(seg__dir_get(&d->pages, i * SEG_DIR_FAN + j));
        }
    }
    seg__dir_done(&d->pages);
}

struct marking {
    struct segment *seg;
    hts ts;
    uint32_t hits;
};

static struct seg_page *page_for(struct segment *seg, uint32_t row)
{
    struct seg_page *page = seg__dir_get(&seg->dels.pages, row / SEG_PAGE_ROWS);
    if (!page) {
        page = alloc_try_zero(sizeof *page);
        if (page && !seg__dir_set(&seg->dels.pages, row / SEG_PAGE_ROWS, page)) {
            mem_free(page);
            page = NULL;
        }
        if (page) {
            seg__add_memory(seg, sizeof *page);
        }
    }
    return page;
}

/* seg_row_fn */
static int mark_row(void *ctx, uint32_t row, struct status *st)
{
    struct marking *m = ctx;
    if (seg__row_ts(m->seg, row) >= m->ts) {
        return 0;
    }
    struct seg_page *page = page_for(m->seg, row);
    if (!page) {
        return st_fail(st, ST_NO_MEMORY, "%s: no memory for a page of deletes", m->seg->name);
    }
    uint32_t i = row % SEG_PAGE_ROWS;
    hts was = atomic_load_explicit(&page->ts[i], memory_order_relaxed);
    if (was != 0 && was <= m->ts) {
        return 0;
    }
    if (m->ts > atomic_load_explicit(&page->max_ts, memory_order_relaxed)) {
        atomic_store_explicit(&page->max_ts, m->ts, memory_order_relaxed);
    }
    atomic_store_explicit(&page->ts[i], m->ts, memory_order_release);
    if (was == 0) {
        atomic_fetch_or_explicit(&page->any[i / 64], UINT64_C(1) << (i % 64),
                                 memory_order_release); /* seg__visible() */
        /* Release: who counts this delete sees its bit (seg_kept.c). */
        atomic_fetch_add_explicit(&m->seg->dels.rows, 1, memory_order_release);
        m->hits++;
    }
    return 0;
}

int seg_delete(struct segment *seg, const struct column *pks, const hts *ts, uint32_t n,
               uint32_t *ret_hits, struct status *st)
{
    struct marking m = { .seg = seg };
    uint32_t nrows = seg__nrows(seg);
    hts min_ts = atomic_load_explicit(&seg->min_ts, memory_order_relaxed);
    int rc;
    if (pks->type != seg->fields[seg->pk].type) {
        return st_fail(st, ST_INVALID, "%s: keys are %s, the deleted ones %s", seg->name,
                       dtype_name(seg->fields[seg->pk].type), dtype_name(pks->type));
    }
    rc = seg__keys_lock(seg, st);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t i = 0; i < n && nrows > 0; i++) {
        if (ts[i] > min_ts) {
            m.ts = ts[i];
            TRY(seg__key_rows(seg, column_cell(pks, i), nrows, mark_row, &m, st));
        }
    }
    *ret_hits = m.hits;
out:
    seg__keys_unlock(seg);
    return rc;
}

hts seg__deleted_at(const struct segment *seg, uint32_t row)
{
    const struct seg_page *page = seg__dir_get(&seg->dels.pages, row / SEG_PAGE_ROWS);
    return page ? atomic_load_explicit(&page->ts[row % SEG_PAGE_ROWS], memory_order_acquire) : 0;
}

/* Rows of one page that are deleted at ts, of its word w. */
static uint64_t deleted_word(const struct seg_page *page, uint32_t w, hts ts)
{
    /* Acquire: with the release of mark_row(); max_ts and ts of these rows are visible after it. */
    uint64_t any = atomic_load_explicit(&page->any[w], memory_order_acquire);
    if (any == 0 || atomic_load_explicit(&page->max_ts, memory_order_relaxed) <= ts) {
        return any;
    }
    uint64_t gone = 0;
    for (uint64_t left = any; left; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(left);
        if (atomic_load_explicit(&page->ts[w * 64 + i], memory_order_relaxed) <= ts) {
            gone |= UINT64_C(1) << i;
        }
    }
    return gone;
}

static void clear_deleted(const struct seg_span *sp, hts ts, uint64_t *bits)
{
    /* row0 is a multiple of 64, so words of the span and of the pages coincide. */
    size_t words = bits_words(sp->nrows), w0 = sp->row0 / 64;
    const size_t page_words = SEG_PAGE_ROWS / 64;
    for (size_t w = 0; w < words;) {
        size_t in_page = (w0 + w) % page_words, n = MIN(page_words - in_page, words - w);
        const struct seg_page *page =
            seg__dir_get(&sp->seg->dels.pages, (uint32_t)((w0 + w) / page_words));
        for (size_t i = 0; page && i < n; i++) {
            bits[w + i] &= ~deleted_word(page, (uint32_t)(in_page + i), ts);
        }
        w += n;
    }
}

/* Bits of rows with from <= insert timestamp <= to. */
static void between(const struct seg_span *sp, hts from, hts to, uint64_t *bits)
{
    if (!sp->ts) {
        bits_fill(bits, sp->nrows, sp->ts0 >= from && sp->ts0 <= to);
        return;
    }
    for (uint32_t at = 0; at < sp->nrows; at += 64) {
        uint32_t n = MIN(64u, sp->nrows - at);
        uint64_t w = 0;
        for (uint32_t i = 0; i < n; i++) {
            w |= (uint64_t)(sp->ts[at + i] >= from && sp->ts[at + i] <= to) << i;
        }
        bits[at / 64] = w;
    }
}

/* Whether all rows of a span have from <= insert timestamp <= to. */
static bool all_between(const struct seg_span *sp, hts from, hts to)
{
    /* Relaxed: what concerns a published row was stored before the row count was. */
    const struct segment *seg = sp->seg;
    const _Atomic hts *min = sp->chunk ? &sp->chunk->min_ts : &seg->min_ts;
    const _Atomic hts *max = sp->chunk ? &sp->chunk->max_ts : &seg->max_ts;
    return atomic_load_explicit(max, memory_order_relaxed) <= to &&
           atomic_load_explicit(min, memory_order_relaxed) >= from;
}

void seg__visible(const struct seg_span *sp, const struct seg_filter *f, uint64_t *bits)
{
    if (all_between(sp, f->ttl_before, f->ts)) {
        bits_fill(bits, sp->nrows, true);
    } else {
        between(sp, f->ttl_before, f->ts, bits);
    }
    if (atomic_load_explicit(&sp->seg->dels.rows, memory_order_relaxed) > 0) {
        clear_deleted(sp, f->ts, bits);
    }
}

bool seg__all_visible(const struct segment *seg, const struct seg_filter *f)
{
    const struct seg_span all = { .seg = seg };
    return !f->expr && all_between(&all, f->ttl_before, f->ts) &&
           atomic_load_explicit(&seg->dels.rows, memory_order_relaxed) == 0;
}
