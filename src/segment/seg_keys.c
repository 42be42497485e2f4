/*
 * seg_keys.c - from a primary key to its rows, and the order of keys.
 *
 * WHAT        Growing: an open-addressing table from key to newest row; older rows of the same key
 *             hang on it as a chain through the chunks (`older`). A slot keeps 32 bits of the
 *             key's hash, which place it too, so that growing the table touches no key.
 *             Sealed: a split-block Bloom filter says "not here" for one cache line (Putze, Sanders
 *             and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", section 3, in the
 *             form of eight 32-bit words per block); then binary search over the row numbers in
 *             key order.
 * THREADS     Growing: the table is behind the segment's lock (writer exclusive, readers shared).
 *             Sealed: immutable, no lock.
 * WHY         The sealed keys are not stored a second time in key order: most look-ups come from
 *             deletes, which the filter stops in 99.5 % of the segments that do not have the key.
 * FORMAT      docs/format.md "Key order", "Key filter".
 */
#include <stdlib.h>
#include "base/alloc.h"
#include "segment/seg_int.h"

/* ---- Growing ---- */

#define KEYMAP_MIN 64u

static uint32_t slot_tag(uint64_t slot)
{
    return (uint32_t)(slot >> 32);
}

static uint32_t *older_of(const struct segment *seg, uint32_t row)
{
    struct seg_chunk *chunk = seg__dir_get(&seg->g.chunks, seg__chunk_of(row));
    return &chunk->older[row - chunk->row0];
}

bool seg__keymap_reserve(struct segment *seg, uint32_t more)
{
    struct seg_keymap *km = &seg->g.keys;
    uint64_t want = (uint64_t)km->used + more;
    uint64_t nslots = km->slots ? (uint64_t)km->mask + 1 : KEYMAP_MIN;
    while (want * 4 > nslots * 3) {
        nslots *= 2;
    }
    if (km->slots && nslots == (uint64_t)km->mask + 1) {
        return true;
    }
    uint64_t *slots = alloc_try_zero((size_t)nslots * sizeof *slots);
    if (!slots) {
        return false;
    }
    uint32_t mask = (uint32_t)(nslots - 1);
    uint64_t *old = km->slots;
    size_t nold = old ? (size_t)km->mask + 1 : 0;
    for (size_t i = 0; i < nold; i++) {
        if (old[i]) {
            uint32_t at = slot_tag(old[i]) & mask;
            while (slots[at]) {
                at = (at + 1) & mask;
            }
            slots[at] = old[i];
        }
    }
    rwlock_write(seg->lock);
    km->slots = slots;
    km->mask = mask;
    rwlock_release(seg->lock);
    mem_free(old);
    seg__add_memory(seg, ((size_t)nslots - nold) * sizeof *slots);
    return true;
}

/* The slot of a key, or the free one where it belongs. */
static uint32_t keymap_slot(const struct segment *seg, struct slice key, uint32_t tag)
{
    const struct seg_keymap *km = &seg->g.keys;
    uint32_t at = tag & km->mask;
    while (km->slots[at]) {
        if (slot_tag(km->slots[at]) == tag &&
            slice_eq(seg__cell(seg, seg->pk, (uint32_t)km->slots[at] - 1), key)) {
            break;
        }
        at = (at + 1) & km->mask;
    }
    return at;
}

void seg__keymap_add(struct segment *seg, uint32_t from, uint32_t to)
{
    struct seg_keymap *km = &seg->g.keys;
    rwlock_write(seg->lock);
    for (uint32_t row = from; row < to; row++) {
        struct slice key = seg__cell(seg, seg->pk, row);
        uint32_t tag = (uint32_t)(seg__key_hash(key) >> 32);
        uint32_t at = keymap_slot(seg, key, tag);
        if (km->slots[at]) {
            *older_of(seg, row) = (uint32_t)km->slots[at] - 1;
        } else {
            *older_of(seg, row) = SEG_NO_ROW;
            km->used++;
        }
        km->slots[at] = (uint64_t)tag << 32 | (row + 1);
    }
    rwlock_release(seg->lock);
}

void seg__keymap_done(struct seg_keymap *km)
{
    mem_free(km->slots);
}

static int growing_rows(const struct segment *seg, struct slice key, uint32_t nrows, seg_row_fn *fn,
                        void *ctx, struct status *st)
{
    if (!seg->g.keys.slots) {
        return 0;
    }
    uint32_t at = keymap_slot(seg, key, (uint32_t)(seg__key_hash(key) >> 32));
    uint32_t row = (uint32_t)seg->g.keys.slots[at] - 1; /* a free slot gives SEG_NO_ROW */
    int rc = 0;
    while (row != SEG_NO_ROW && rc == 0) {
        if (row < nrows) {
            rc = fn(ctx, row, st);
        }
        row = *older_of(seg, row);
    }
    return rc;
}

/* ---- Sealed ---- */

/* Odd multipliers; each picks one bit of its word from the low half of the hash. */
static const uint32_t BLOOM_SALT[8] = { 0x47b6137bu, 0x44974d91u, 0x8824ad5bu, 0xa2b7289du,
                                        0x705495c7u, 0x2df1424bu, 0x9efc4947u, 0x5c6bfb31u };
#define BLOOM_BITS_PER_KEY 12u

uint32_t seg__bloom_blocks(uint32_t nrows)
{
    return (uint32_t)(((uint64_t)nrows * BLOOM_BITS_PER_KEY + 255) / 256) + (nrows == 0);
}

static size_t bloom_block(uint32_t nblocks, uint64_t hash)
{
    return (size_t)(((hash >> 32) * nblocks) >> 32) * 8;
}

void seg__bloom_add(uint32_t *filter, uint32_t nblocks, uint64_t hash)
{
    uint32_t *block = filter + bloom_block(nblocks, hash);
    for (int i = 0; i < 8; i++) {
        block[i] |= 1u << (((uint32_t)hash * BLOOM_SALT[i]) >> 27);
    }
}

bool seg__bloom_maybe(const uint32_t *filter, uint32_t nblocks, uint64_t hash)
{
    const uint32_t *block = filter + bloom_block(nblocks, hash);
    uint32_t missing = 0;
    for (int i = 0; i < 8; i++) {
        missing |= ~block[i] & 1u << (((uint32_t)hash * BLOOM_SALT[i]) >> 27);
    }
    return missing == 0;
}

/* Order of two key cells of the segment's key type. */
static int cell_cmp(const struct segment *seg, struct slice a, struct slice b)
{
    if (seg->fields[seg->pk].type != DT_INT64) {
        return slice_cmp(a, b);
    }
    int64_t x = (int64_t)load_u64(a.p), y = (int64_t)load_u64(b.p);
    return (x > y) - (x < y);
}

static int sealed_rows(const struct segment *seg, struct slice key, uint32_t nrows, seg_row_fn *fn,
                       void *ctx, struct status *st)
{
    const struct seg_sealed *s = &seg->s;
    if (nrows == 0 || !seg__bloom_maybe(s->filter, s->filter_blocks, seg__key_hash(key))) {
        return 0;
    }
    uint32_t lo = 0, hi = nrows;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2, row = s->order[mid];
        if (row >= nrows) {
            return st_fail(st, ST_CORRUPT, "%s: key order names row %u of %u", seg->name, row,
                           nrows);
        }
        if (cell_cmp(seg, seg__cell(seg, seg->pk, row), key) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    int rc = 0;
    for (; lo < nrows && rc == 0; lo++) {
        uint32_t row = s->order[lo];
        if (row >= nrows || !slice_eq(seg__cell(seg, seg->pk, row), key)) {
            break;
        }
        rc = fn(ctx, row, st);
    }
    return rc;
}

/* ---- Both ---- */

int seg__keys_lock(const struct segment *seg, struct status *st)
{
    if (seg->sealed) {
        return seg__check_column(seg, seg->pk, false, st);
    }
    rwlock_read(seg->lock);
    return 0;
}

void seg__keys_unlock(const struct segment *seg)
{
    if (!seg->sealed) {
        rwlock_release(seg->lock);
    }
}

int seg__key_rows(const struct segment *seg, struct slice key, uint32_t nrows, seg_row_fn *fn,
                  void *ctx, struct status *st)
{
    size_t width = seg->fields[seg->pk].width;
    if (width && key.n != width) {
        return st_fail(st, ST_INVALID, "%s: a key of %zu bytes, keys here have %zu", seg->name,
                       key.n, width);
    }
    return seg->sealed ? sealed_rows(seg, key, nrows, fn, ctx, st)
                       : growing_rows(seg, key, nrows, fn, ctx, st);
}

uint64_t seg__key_prefix(const struct segment *seg, uint32_t row)
{
    struct slice key = seg__cell(seg, seg->pk, row);
    if (seg->fields[seg->pk].type == DT_INT64) {
        return load_u64(key.p) ^ UINT64_C(1) << 63;
    }
    uint64_t v = 0;
    memcpy(&v, key.p ? key.p : "", MIN(key.n, sizeof v));
    return __builtin_bswap64(v);
}

/* Of keys in two segments of one key type. */
static int key_cmp(const struct segment *sa, const struct seg_sort *a, const struct segment *sb,
                   const struct seg_sort *b)
{
    if (a->prefix != b->prefix) {
        return a->prefix < b->prefix ? -1 : 1;
    }
    if (sa->fields[sa->pk].type == DT_INT64) {
        return 0;
    }
    return slice_cmp(seg__cell(sa, sa->pk, a->row), seg__cell(sb, sb->pk, b->row));
}

int seg__key_cmp(const struct segment *seg, const struct seg_sort *a, const struct seg_sort *b)
{
    return key_cmp(seg, a, seg, b);
}

int seg__row_cmp(const struct segment *sa, const struct seg_sort *a, const struct segment *sb,
                 const struct seg_sort *b)
{
    int c = key_cmp(sa, a, sb, b);
    if (c) {
        return c;
    }
    hts ta = seg__row_ts(sa, a->row), tb = seg__row_ts(sb, b->row);
    return (ta < tb) - (ta > tb);
}

static int sort_cmp(const void *pa, const void *pb, void *ctx)
{
    const struct segment *seg = ctx;
    const struct seg_sort *a = pa, *b = pb;
    int c = seg__row_cmp(seg, a, seg, b);
    return c ? c : (a->row < b->row) - (a->row > b->row);
}

void seg__sort_rows(const struct segment *seg, struct seg_sort *items, size_t n)
{
    size_t i = 1;
    while (i < n && items[i - 1].prefix < items[i].prefix) {
        i++; /* rows often come in key order already: automatic ids, sorted imports */
    }
    if (i < n) {
        qsort_r(items, n, sizeof *items, sort_cmp, (void *)(uintptr_t)seg);
    }
}
