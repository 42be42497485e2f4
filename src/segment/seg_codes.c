/*
 * seg_codes.c - short codes of a growing segment's vectors (index/scan/fresh.h).
 *
 * WHAT        Which metric a field is searched by is known when the first search comes: it names
 *             the metric, and from then on the writer codes every row it appends. Rows from before
 *             are coded by searches, a bounded number each, so that no search waits for all. Rows
 *             without codes are scanned exactly. Another metric later finds no codes, and scans.
 *             Codes are sorted into lists in the same way, after the rows can be searched.
 * THREADS     Whoever sets `busy` codes; the others go on without. `fresh` is published with
 *             release when the first codes are there.
 */
#include "segment/growing_int.h"
#include "index/scan/fresh.h"
#include "base/alloc.h"

/* Rows one search or append codes beyond its own, about a millisecond's work; and sorts, which may be
 * a step of making lists: some milliseconds, 9 seen. */
#define CODES_STEP 512u
#define SORT_STEP 256u

struct seg_codes {
    _Atomic bool busy;
    _Atomic bool refused;  /* no memory for them once: do without */
    _Atomic bool unsorted; /* fresh_sort() has more to do */
    _Atomic(struct fresh *) fresh;
    size_t counted; /* of memory; behind busy */
};

bool seg__codes_alloc(struct segment *seg)
{
    /* A schema has few fields: no size from outside, and a write's first allocation that can fail
     * stays that of the log. */
    seg->g.codes = xalloc(seg->nfields * sizeof *seg->g.codes);
    return true;
}

void seg__codes_done(struct segment *seg)
{
    for (uint32_t f = 0; seg->g.codes && f < seg->nfields; f++) {
        fresh_free(atomic_load_explicit(&seg->g.codes[f].fresh, memory_order_relaxed));
    }
    mem_free(seg->g.codes);
}

static bool take(struct seg_codes *c)
{
    bool was = false;
    return !atomic_load_explicit(&c->refused, memory_order_relaxed) &&
           atomic_compare_exchange_strong_explicit(&c->busy, &was, true, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* The mean comes from the first rows, wherever their chunks lie. */
static struct fresh *start(const struct segment *seg, uint32_t f, enum metric metric,
                           enum vec_type type)
{
    const struct seg_field *sf = &seg->fields[f];
    struct status st = STATUS_INIT;
    struct fresh *fr = NULL;
    size_t bytes;
    uint8_t *first = mul_size(FRESH_MIN_ROWS, sf->width, &bytes) ? alloc_try(bytes) : NULL;
    if (!first) {
        return NULL;
    }
    for (uint32_t row = 0; row < FRESH_MIN_ROWS;) {
        const struct seg_chunk *chunk = seg__dir_get(&seg->g.chunks, seg__chunk_of(row));
        uint32_t n = MIN(chunk->cap, FRESH_MIN_ROWS - row);
        memcpy(first + row * sf->width, chunk->cells[f].data, n * sf->width);
        row += n;
    }
    struct index_rows rows = { .metric = metric, .type = type, .dim = sf->dim, .base = first,
                               .stride = sf->width, .nrows = FRESH_MIN_ROWS };
    if (fresh_new(&rows, &fr, &st) != 0) {
        fr = NULL;
    }
    mem_free(first);
    return fr;
}

/* Codes up to max rows below nrows; behind busy. */
static bool follow(const struct segment *seg, uint32_t f, struct fresh *fr, uint32_t nrows,
                   uint32_t max)
{
    const size_t width = seg->fields[f].width;
    struct status st = STATUS_INIT;
    uint32_t row = fresh_coded(fr), end = row + MIN(nrows - row, max);
    while (row < end) {
        const struct seg_chunk *chunk = seg__dir_get(&seg->g.chunks, seg__chunk_of(row));
        uint32_t at = row - chunk->row0, n = MIN(chunk->cap - at, end - row);
        if (fresh_add(fr, chunk->cells[f].data + at * width, width, n, &st) != 0) {
            return false;
        }
        row += n;
    }
    return true;
}

const void *seg__codes_row(const void *raw, uint32_t row)
{
    const struct seg_raw *v = raw;
    const struct seg_chunk *chunk = seg__dir_get(&v->seg->g.chunks, seg__chunk_of(row));
    return chunk->cells[v->f].data + (row - chunk->row0) * v->width;
}

static void step(struct segment *seg, uint32_t f, struct fresh *fr, uint32_t nrows, uint32_t max)
{
    struct seg_codes *c = &seg->g.codes[f];
    struct seg_raw v = { .seg = seg, .f = f, .width = seg->fields[f].width };
    if (!follow(seg, f, fr, nrows, max)) {
        atomic_store_explicit(&c->refused, true, memory_order_relaxed);
    }
    uint32_t coded = fresh_coded(fr);
    bool more = coded >= FRESH_SORT_MIN &&
                fresh_sort(fr, seg__codes_row, &v, max - CODES_STEP + SORT_STEP);
    atomic_store_explicit(&c->unsorted, more, memory_order_relaxed);
    size_t now = fresh_memory(fr);
    seg__add_memory(seg, now - c->counted);
    c->counted = now;
}

struct fresh *seg__codes_get(const struct segment *seg, uint32_t f, enum metric metric,
                             enum vec_type type, uint32_t nrows)
{
    /* Codes are a cache beside the rows: a reader may add to them. */
    struct segment *own = (struct segment *)(uintptr_t)seg;
    struct seg_codes *c = &own->g.codes[f];
    struct fresh *fr = atomic_load_explicit(&c->fresh, memory_order_acquire);
    if (type == VEC_BIN || nrows < FRESH_MIN_ROWS) {
        return NULL;
    }
    if ((!fr || fresh_coded(fr) < nrows ||
         atomic_load_explicit(&c->unsorted, memory_order_relaxed)) && take(c)) {
        fr = atomic_load_explicit(&c->fresh, memory_order_relaxed);
        if (!fr) {
            fr = start(seg, f, metric, type);
            atomic_store_explicit(&c->fresh, fr, memory_order_release);
            atomic_store_explicit(&c->refused, !fr, memory_order_relaxed);
        }
        if (fr) {
            step(own, f, fr, MAX(nrows, fresh_coded(fr)), CODES_STEP);
        }
        atomic_store_explicit(&c->busy, false, memory_order_release);
    }
    return fr && fresh_metric(fr) == metric && fresh_coded(fr) > 0 ? fr : NULL;
}

void seg__codes_append(struct segment *seg, uint32_t nrows, uint32_t added)
{
    for (uint32_t f = 0; f < seg->nfields; f++) {
        struct seg_codes *c = &seg->g.codes[f];
        struct fresh *fr = atomic_load_explicit(&c->fresh, memory_order_acquire);
        if (fr && take(c)) {
            step(seg, f, fr, nrows, added + CODES_STEP);
            atomic_store_explicit(&c->busy, false, memory_order_release);
        }
    }
}
