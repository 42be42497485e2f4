/*
 * reduce.c - merging sorted answers.
 *
 * A binary heap of list heads gives the next row; keys already taken are kept in a hash table
 * (hits) or are simply the previous key (rows, which come in key order).
 *
 * MEMORY   One entry per list, and for hits eight bytes per row of the answer: bounded by the API's
 * limits on result windows, so that nothing here can fail.
 * THREADS  pure.
 */
#include "query/reduce.h"
#include "base/hash.h"

struct heap {
    uint32_t n;
    uint32_t *lists; /* lists[0] has the best head */
    uint32_t *at;    /* position in each list */
    const struct hit_list *hits;
    const struct row_list *rows;
    bool ascending;
};

/* Whether the head of list a comes before that of list b. */
static bool before(const struct heap *h, uint32_t a, uint32_t b)
{
    if (h->rows) {
        const struct row_list *ra = &h->rows[a], *rb = &h->rows[b];
        int c = pk_cmp(ra->pks, h->at[a], rb->pks, h->at[b]);
        uint64_t ta = ra->timestamps[h->at[a]], tb = rb->timestamps[h->at[b]];
        return c != 0 ? c < 0 : ta != tb ? ta > tb : a < b;
    }
    const struct hit_list *ha = &h->hits[a], *hb = &h->hits[b];
    float sa = ha->scores[h->at[a]], sb = hb->scores[h->at[b]];
    if (sa < sb || sa > sb) {
        return (sa < sb) == h->ascending;
    }
    int c = pk_cmp(ha->pks, ha->first_row + h->at[a], hb->pks, hb->first_row + h->at[b]);
    return c != 0 ? c < 0 : a < b;
}

static void sift_down(struct heap *h, uint32_t i)
{
    for (;;) {
        uint32_t best = i, left = 2 * i + 1;
        for (uint32_t k = left; k < left + 2 && k < h->n; k++) {
            if (before(h, h->lists[k], h->lists[best])) {
                best = k;
            }
        }
        if (best == i) {
            return;
        }
        uint32_t t = h->lists[i];
        h->lists[i] = h->lists[best];
        h->lists[best] = t;
        i = best;
    }
}

static uint32_t list_length(const struct heap *h, uint32_t list)
{
    return h->rows ? h->rows[list].n : h->hits[list].n;
}

static void heap_init(struct heap *h, uint32_t nlists, struct arena *ar)
{
    h->lists = arena_alloc(ar, (size_t)nlists * sizeof *h->lists + 1);
    h->at = arena_alloc(ar, (size_t)nlists * sizeof *h->at + 1);
    for (uint32_t i = 0; i < nlists; i++) {
        if (list_length(h, i) > 0) {
            h->lists[h->n++] = i;
        }
    }
    for (uint32_t i = h->n / 2; i-- > 0;) {
        sift_down(h, i);
    }
}

/* Takes the best head. */
static void heap_pop(struct heap *h, uint32_t *ret_list, uint32_t *ret_at)
{
    uint32_t list = h->lists[0];
    *ret_list = list;
    *ret_at = h->at[list]++;
    if (h->at[list] == list_length(h, list)) {
        h->lists[0] = h->lists[--h->n];
    }
    sift_down(h, 0);
}

/* ---- hits */

struct key {
    uint32_t list, row; /* row of the list's column */
};

struct key_set {
    struct key *keys; /* list UINT32_MAX: empty */
    uint64_t last;
    const struct hit_list *lists;
};

static uint64_t key_hash(const struct column *pks, uint32_t row)
{
    struct slice cell = column_cell(pks, row);
    return hash64(cell.p, cell.n);
}

/* false when the key is there already. */
static bool key_add(struct key_set *set, uint32_t list, uint32_t row)
{
    const struct column *pks = set->lists[list].pks;
    uint64_t i = key_hash(pks, row) & set->last;
    for (; set->keys[i].list != UINT32_MAX; i = (i + 1) & set->last) {
        if (pk_cmp(set->lists[set->keys[i].list].pks, set->keys[i].row, pks, row) == 0) {
            return false;
        }
    }
    set->keys[i] = (struct key){list, row};
    return true;
}

static void key_set_init(struct key_set *set, const struct hit_list *lists, uint64_t max_keys,
                         struct arena *ar)
{
    uint64_t size = 16;
    while (size < max_keys * 2) {
        size *= 2;
    }
    set->lists = lists;
    set->last = size - 1;
    set->keys = arena_alloc(ar, size * sizeof *set->keys);
    memset(set->keys, 0xFF, size * sizeof *set->keys);
}

uint32_t reduce_hits(const struct hit_list *lists, uint32_t nlists, bool ascending, uint32_t offset,
                     uint32_t limit, struct arena *ar, struct merged_hit *ret, uint32_t *ret_dups)
{
    struct heap h = {.hits = lists, .ascending = ascending};
    struct key_set set;
    uint64_t total = 0, wanted = (uint64_t)offset + limit, kept = 0;
    uint32_t n = 0, dups = 0;
    for (uint32_t i = 0; i < nlists; i++) {
        total += lists[i].n;
    }
    heap_init(&h, nlists, ar);
    key_set_init(&set, lists, MIN(total, wanted), ar);
    while (h.n > 0 && kept < wanted) {
        uint32_t list, at;
        heap_pop(&h, &list, &at);
        uint32_t row = lists[list].first_row + at;
        if (!key_add(&set, list, row)) {
            dups++;
            continue;
        }
        if (kept++ >= offset) {
            ret[n++] = (struct merged_hit){list, row, lists[list].scores[at]};
        }
    }
    *ret_dups = dups;
    return n;
}

/* ---- rows */

uint32_t reduce_rows(const struct row_list *lists, uint32_t nlists, uint32_t offset, uint32_t limit,
                     struct arena *ar, struct merged_row *ret)
{
    struct heap h = {.rows = lists};
    uint64_t kept = 0;
    uint32_t n = 0;
    heap_init(&h, nlists, ar);
    while (h.n > 0 && n < limit) {
        uint32_t list, at, other, row;
        heap_pop(&h, &list, &at);
        /* The heads come newest first, but a list of its own may hold a key twice. */
        while (h.n > 0 &&
               pk_cmp(lists[list].pks, at, lists[h.lists[0]].pks, h.at[h.lists[0]]) == 0) {
            heap_pop(&h, &other, &row);
            if (lists[other].timestamps[row] > lists[list].timestamps[at]) {
                list = other;
                at = row;
            }
        }
        if (kept++ >= offset) {
            ret[n++] = (struct merged_row){list, at};
        }
    }
    return n;
}
