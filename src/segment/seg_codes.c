/*
 * seg_codes.c - short codes of a growing segment's vectors (index/scan/fresh.h), and their guide.
 *
 * WHAT        Which metric a field is searched by is known when the first search comes: it asks for
 *             codes by that metric. Making them for rows that are there, sorting them into lists and
 *             attaching them to a guide is work for whoever calls seg_tend_*() (the node has a
 *             thread for it), never for a search; the writer codes what it appends once the rows
 *             before have codes. Rows without codes are scanned exactly, rows without lists or guide
 *             by signs. Another metric later finds no codes, and scans.
 * THREADS     Whoever sets `busy` codes and sorts; the others go on without. One thread attaches.
 *             `fresh` is published with release when it can be searched.
 */
#include "segment/growing_int.h"
#include "index/scan/fresh.h"
#include "base/alloc.h"

/* Rows coded and sorted in one step: a millisecond or two. A step of making lists takes up to 9. */
#define CODES_STEP 512u
#define SORT_STEP 512u
/* So many rows without codes, or behind in being attached or sorted, are worth the work. */
#define UNCODED_MAX 64u
#define UNTENDED_MAX 1000u

_Static_assert(SEG_GUIDE_NEAR == FRESH_ATTACH, "one number, known to who tends");

struct seg_codes {
    _Atomic bool busy;
    _Atomic bool refused;  /* no memory for them once: do without */
    _Atomic bool wanted;   /* a search met more than it should; cleared by seg_tend_wanted() */
    _Atomic int asked;     /* 1 + the metric of the first search; 0: none yet */
    _Atomic(struct fresh *) fresh;
    size_t counted; /* of memory; behind busy */
    size_t guides_counted; /* the attacher's */
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

/* Memory as it is now; behind busy. */
static void count_memory(struct segment *seg, struct seg_codes *c, const struct fresh *fr)
{
    size_t now = fresh_memory(fr);
    seg__add_memory(seg, now - c->counted);
    c->counted = now;
}

struct fresh *seg__codes_get(const struct segment *seg, uint32_t f, enum metric metric,
                             enum vec_type type, uint32_t nrows)
{
    /* Codes are a cache beside the rows: a reader may ask for them. */
    struct seg_codes *c = &((struct segment *)(uintptr_t)seg)->g.codes[f];
    struct fresh *fr = atomic_load_explicit(&c->fresh, memory_order_acquire);
    if (type == VEC_BIN || nrows < FRESH_MIN_ROWS) {
        return NULL;
    }
    if (!fr && atomic_load_explicit(&c->asked, memory_order_relaxed) == 0) {
        int none = 0;
        (void)atomic_compare_exchange_strong_explicit(&c->asked, &none, 1 + (int)metric,
                                                      memory_order_relaxed, memory_order_relaxed);
    }
    uint32_t coded = fr ? fresh_coded(fr) : 0;
    uint32_t tended = !fr ? 0 : fresh_guide_id(fr) ? fresh_attached(fr) : fresh_sorted(fr);
    if ((nrows > coded + UNCODED_MAX || nrows > tended + UNTENDED_MAX) &&
        !atomic_load_explicit(&c->wanted, memory_order_relaxed)) {
        atomic_store_explicit(&c->wanted, true, memory_order_relaxed);
    }
    return fr && fresh_metric(fr) == metric && coded > 0 ? fr : NULL;
}

void seg__codes_append(struct segment *seg, uint32_t nrows, uint32_t added)
{
    for (uint32_t f = 0; f < seg->nfields; f++) {
        struct seg_codes *c = &seg->g.codes[f];
        struct fresh *fr = atomic_load_explicit(&c->fresh, memory_order_acquire);
        if (fr && fresh_coded(fr) + added >= nrows && take(c)) {
            if (!follow(seg, f, fr, nrows, added)) {
                atomic_store_explicit(&c->refused, true, memory_order_relaxed);
            }
            count_memory(seg, c, fr);
            atomic_store_explicit(&c->busy, false, memory_order_release);
        }
    }
}

/* ---- What searches want done ---- */

bool seg_tend_wanted(const struct segment *seg)
{
    bool wanted = false;
    for (uint32_t f = 0; !seg->sealed && f < seg->nfields; f++) {
        wanted = wanted || atomic_load_explicit(&seg->g.codes[f].wanted, memory_order_relaxed);
    }
    return wanted;
}

uint32_t seg_tend_fields(struct segment *seg, struct seg_tend *ret, uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t f = 0; !seg->sealed && f < seg->nfields && n < max; f++) {
        struct seg_codes *c = &seg->g.codes[f];
        int asked = atomic_load_explicit(&c->asked, memory_order_relaxed);
        if (asked == 0 || atomic_load_explicit(&c->refused, memory_order_relaxed) ||
            !atomic_exchange_explicit(&c->wanted, false, memory_order_relaxed)) {
            continue;
        }
        const struct seg_field *sf = &seg->fields[f];
        ret[n++] = (struct seg_tend){ .field_id = sf->id, .metric = (enum metric)(asked - 1),
                                      .row_bytes = sf->width };
    }
    return n;
}

bool seg_tend_codes(struct segment *seg, int64_t field_id, bool sort)
{
    int at = seg__field(seg, field_id);
    struct seg_codes *c = &seg->g.codes[at];
    struct seg_raw v = { .seg = seg, .f = (uint32_t)at, .width = seg->fields[at].width };
    uint32_t nrows = seg__nrows(seg);
    enum vec_type type;
    struct status st = STATUS_INIT;
    bool more = false;
    if (seg__vec_type(&seg->fields[at], &type, &st) != 0 || nrows < FRESH_MIN_ROWS || !take(c)) {
        return false; /* or the writer is at it: another time */
    }
    struct fresh *fr = atomic_load_explicit(&c->fresh, memory_order_relaxed);
    if (!fr) {
        int asked = atomic_load_explicit(&c->asked, memory_order_relaxed);
        fr = start(seg, v.f, (enum metric)(asked - 1), type);
        atomic_store_explicit(&c->fresh, fr, memory_order_release);
    }
    if (!fr || !follow(seg, v.f, fr, MAX(nrows, fresh_coded(fr)), CODES_STEP)) {
        atomic_store_explicit(&c->refused, true, memory_order_relaxed);
    } else {
        more = fresh_coded(fr) < nrows;
        if (!more && sort && fresh_coded(fr) >= FRESH_SORT_MIN) {
            more = fresh_sort(fr, seg__codes_row, &v, SORT_STEP);
        }
    }
    if (fr) {
        count_memory(seg, c, fr);
    }
    atomic_store_explicit(&c->busy, false, memory_order_release);
    return more;
}

/* ---- The guide ---- */

static struct fresh *fresh_of(const struct segment *seg, int64_t field_id)
{
    int f = seg->sealed ? -1 : seg__field(seg, field_id);
    return f < 0 ? NULL : atomic_load_explicit(&seg->g.codes[f].fresh, memory_order_acquire);
}

int64_t seg_guide(const struct segment *seg, int64_t field_id)
{
    const struct fresh *fr = fresh_of(seg, field_id);
    return fr ? (int64_t)fresh_guide_id(fr) : 0;
}

uint32_t seg_guide_attached(const struct segment *seg, int64_t field_id, uint32_t *ret_coded)
{
    const struct fresh *fr = fresh_of(seg, field_id);
    *ret_coded = fr ? fresh_coded(fr) : 0;
    return fr ? fresh_attached(fr) : 0;
}

static void count_guides(struct segment *seg, int64_t field_id, const struct fresh *fr)
{
    struct seg_codes *c = &seg->g.codes[seg__field(seg, field_id)];
    size_t now = fresh_guide_memory(fr);
    seg__add_memory(seg, now - c->guides_counted);
    c->guides_counted = now;
}

int seg_guide_set(struct segment *seg, int64_t field_id, int64_t guide_id, uint32_t nrows,
                  float *keys, uint32_t nkeys, struct status *st)
{
    struct fresh *fr = fresh_of(seg, field_id);
    int rc = 0;
    if (fr && guide_id == 0) {
        fresh_guide_leave(fr);
    } else if (fr) {
        rc = fresh_guide_new(fr, (uint64_t)guide_id, nrows,
                             fresh_guide_far(fresh_metric(fr), keys, nkeys), st);
        count_guides(seg, field_id, fr);
    }
    return rc;
}

int seg_guide_attach(struct segment *seg, int64_t field_id, const struct index_near *near,
                     uint32_t n, struct status *st)
{
    struct fresh *fr = fresh_of(seg, field_id);
    int rc = fr ? fresh_attach(fr, near, n, st) : 0;
    if (fr) {
        count_guides(seg, field_id, fr);
    }
    return rc;
}
