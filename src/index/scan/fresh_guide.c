/*
 * fresh_guide.c - growing rows attached to the rows of an index that is searched before them.
 *
 * WHAT        Each growing row stands in the lists of its FRESH_ATTACH nearest rows of the guide, an
 *             index over other rows. A search of that index ends among the guide's rows nearest to
 *             its query (struct index_near); what is attached to those is nearly all of the growing
 *             rows that can be among the results, and their number depends on how many there are
 *             for each of the guide's rows, not on how many there are.
 *             A row with nothing near it in the guide (far: beyond what is usual among the guide's
 *             own) would be met by hardly any of the searches it is the answer to. It goes into a
 *             list that every search reads by signs.
 * STORAGE     A list is a chain of cells, newest first: one of 4 words, one of 8, then ones of 16.
 *             Word 0 names the next cell, the others are rows, ascending, GUIDE_NONE where free. A
 *             reference is a unit of 4 words, shifted, and the cell's class; 0: none.
 * THREADS     One attaches. A cell is whole before a head or a cell names it; rows in it are ignored
 *             from `attached` on, so a search sees each row once: here, or by its signs.
 */
#include "index/scan/fresh_int.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

#define UNIT_WORDS 4u
#define LINE_UNITS (CACHE_LINE / sizeof(uint32_t) / UNIT_WORDS)
/* Classes of cells: 1, 2 and 4 units. */
#define CLASS_LAST 2u
#define CLASS_WORDS(class) (UNIT_WORDS << (class))
/* Of the distances at which the guide's own rows have their last neighbour, the share that is usual,
 * and how much farther is far. */
#define FAR_SHARE 0.95
#define FAR_FACTOR 1.2f

static uint32_t piece_of(uint32_t unit)
{
    return 31 - (uint32_t)__builtin_clz(unit / GUIDE_PIECE + 1);
}

static _Atomic uint32_t *unit_at(const struct fresh_guide *g, uint32_t unit)
{
    uint32_t p = piece_of(unit);
    return g->pieces[p] + (unit - GUIDE_PIECE * ((1u << p) - 1)) * (size_t)UNIT_WORDS;
}

const _Atomic uint32_t *fresh__guide_cell(const struct fresh_guide *g, uint32_t ref,
                                          uint32_t *ret_words)
{
    *ret_words = CLASS_WORDS(ref & 3);
    return unit_at(g, ref >> 2);
}

/* ---- Life ---- */

int fresh_guide_new(struct fresh *fr, uint64_t id, uint32_t nrows, float far, struct status *st)
{
    struct fresh_guide *g = NULL;
    size_t bytes;
    int rc = 0;
    if (!mul_size(nrows, sizeof g->heads[0], &bytes) || !add_size(bytes, sizeof *g, &bytes) ||
        !(g = alloc_try_zero(bytes))) {
        FAIL(st, ST_NO_MEMORY, "no memory for a guide of %u rows", nrows);
    }
    g->id = id;
    g->nrows = nrows;
    g->far = far;
    g->units = LINE_UNITS; /* unit 0 is none */
    atomic_init(&g->memory, bytes);
    fresh__spread_init(&g->outside.spread);
    g->older = fr->guides;
    fr->guides = g;
    atomic_store_explicit(&fr->guide, g, memory_order_release); /* searches */
out:
    return rc;
}

void fresh_guide_leave(struct fresh *fr)
{
    atomic_store_explicit(&fr->guide, NULL, memory_order_release);
}

void fresh__guides_free(struct fresh_guide *g)
{
    while (g) {
        struct fresh_guide *older = g->older;
        fresh__list_done(&g->outside);
        for (uint32_t p = 0; p < GUIDE_PIECES; p++) {
            mem_free(g->pieces[p]);
        }
        mem_free(g);
        g = older;
    }
}

uint64_t fresh_guide_id(const struct fresh *fr)
{
    const struct fresh_guide *g = atomic_load_explicit(&fr->guide, memory_order_acquire);
    return g ? g->id : 0;
}

uint32_t fresh_attached(const struct fresh *fr)
{
    const struct fresh_guide *g = atomic_load_explicit(&fr->guide, memory_order_acquire);
    return g ? atomic_load_explicit(&g->attached, memory_order_acquire) : 0;
}

size_t fresh_guide_memory(const struct fresh *fr)
{
    size_t n = 0;
    for (const struct fresh_guide *g = fr->guides; g; g = g->older) {
        n += atomic_load_explicit(&g->memory, memory_order_relaxed);
    }
    return n;
}

/* ---- What is far ---- */

static float distance_of(enum metric metric, float key)
{
    return metric == METRIC_COSINE ? 1 + key : key;
}

float fresh_guide_far(enum metric metric, float *keys, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) { /* a small sample */
        float x = keys[i];
        uint32_t at = i;
        for (; at > 0 && x < keys[at - 1]; at--) {
            keys[at] = keys[at - 1];
        }
        keys[at] = x;
    }
    return n ? distance_of(metric, keys[(uint32_t)(FAR_SHARE * (n - 1))]) * FAR_FACTOR : -INFINITY;
}

/* ---- Attaching ---- */

/* The unit of a cell of a class, words all GUIDE_NONE; 0: no memory. Cells of one class share
 * lines. */
static uint32_t cell_new(struct fresh_guide *g, uint32_t class)
{
    uint32_t unit = g->next[class];
    if (unit % LINE_UNITS == 0) {
        unit = g->units;
        uint32_t p = piece_of(unit);
        if (p >= GUIDE_PIECES) {
            return 0;
        }
        if (!g->pieces[p]) {
            size_t bytes = ((size_t)GUIDE_PIECE << p) * UNIT_WORDS * sizeof(uint32_t);
            g->pieces[p] = alloc_try_aligned(CACHE_LINE, bytes);
            if (!g->pieces[p]) {
                return 0;
            }
        }
        g->units += LINE_UNITS;
        atomic_fetch_add_explicit(&g->memory, CACHE_LINE, memory_order_relaxed);
    }
    g->next[class] = unit + (1u << class);
    _Atomic uint32_t *cell = unit_at(g, unit);
    for (uint32_t i = 0; i < CLASS_WORDS(class); i++) {
        atomic_init(&cell[i], GUIDE_NONE);
    }
    return unit;
}

static bool attach(struct fresh_guide *g, uint32_t to, uint32_t row)
{
    uint32_t head = atomic_load_explicit(&g->heads[to], memory_order_relaxed), class = 0;
    if (head) {
        _Atomic uint32_t *cell = unit_at(g, head >> 2);
        class = head & 3;
        for (uint32_t i = 1; i < CLASS_WORDS(class); i++) {
            if (atomic_load_explicit(&cell[i], memory_order_relaxed) == GUIDE_NONE) {
                atomic_store_explicit(&cell[i], row, memory_order_relaxed);
                return true;
            }
        }
        class = MIN(class + 1, CLASS_LAST);
    }
    uint32_t unit = cell_new(g, class);
    if (unit == 0) {
        return false;
    }
    _Atomic uint32_t *cell = unit_at(g, unit);
    atomic_store_explicit(&cell[0], head, memory_order_relaxed);
    atomic_store_explicit(&cell[1], row, memory_order_relaxed);
    /* Searches that follow it see the cell. */
    atomic_store_explicit(&g->heads[to], unit << 2 | class, memory_order_release);
    return true;
}

static bool is_far(const struct fresh *fr, const struct fresh_guide *g,
                   const struct index_near *near, uint32_t i)
{
    return near->counts[i] < FRESH_ATTACH ||
           !(distance_of(fr->metric, near->keys[i]) <= g->far);
}

int fresh_attach(struct fresh *fr, const struct index_near *near, uint32_t n, struct status *st)
{
    struct fresh_guide *g = atomic_load_explicit(&fr->guide, memory_order_relaxed);
    uint32_t row = atomic_load_explicit(&g->attached, memory_order_relaxed);
    size_t more = 0;
    bool ok = true;
    int rc = 0;
    for (uint32_t i = 0; i < n; i++, row++) {
        const uint32_t *to = near->rows + (size_t)i * near->max;
        if (is_far(fr, g, near, i)) {
            ok = fresh__list_add(fr, &g->outside, row, fresh__code(fr, row), &more);
        }
        for (uint32_t a = 0; ok && a < FRESH_ATTACH && !is_far(fr, g, near, i); a++) {
            ok = to[a] < g->nrows && attach(g, to[a], row);
        }
        if (!ok) { /* what stands in some lists of it is never looked at: attached stays */
            FAIL(st, ST_NO_MEMORY, "no memory to attach row %u", row);
        }
        atomic_store_explicit(&g->attached, row + 1, memory_order_release); /* searches */
    }
out:
    atomic_fetch_add_explicit(&g->memory, more, memory_order_relaxed);
    return rc;
}
