/*
 * eval_in.c - membership in lists.
 *
 * Up to FEW constants are compared one after the other over runs of rows that stay in a cache. Longer
 * lists of integers become a bitmap when their span is small, else a hash table, or are searched by
 * halving when the list is longer than the chunk and building a table would cost more than it
 * saves. Without memory for a table, halving is used too: nothing here can fail.
 *
 * THREADS  pure.
 */
#include "query/eval_int.h"
#include "base/hash.h"
#include "simd/simd_where.h"

#define FEW 8
#define BITMAP_SPAN_MIN 65536 /* bits: 8 KiB always pays */

/* ---- numbers */

struct int_set {
    const struct value *items; /* ascending */
    uint32_t n;
    int64_t min;
    uint64_t span;
    const uint64_t *bitmap; /* of values minus min, or NULL */
    const int64_t *table;   /* open addressing, or NULL */
    const uint64_t *used;   /* which slots of table are taken */
    uint32_t shift;
};

static uint64_t slot_of(int64_t v, uint32_t shift)
{
    return (uint64_t)v * UINT64_C(0x9E3779B97F4A7C15) >> shift;
}

static void build_bitmap(struct eval *ev, struct int_set *set)
{
    uint64_t *bits = arena_try_array(ev->ar, bits_words((size_t)set->span + 1), sizeof *bits);
    for (uint32_t i = 0; bits && i < set->n; i++) {
        bit_set(bits, (size_t)((uint64_t)set->items[i].i - (uint64_t)set->min));
    }
    set->bitmap = bits;
}

static void build_table(struct eval *ev, struct int_set *set)
{
    uint32_t log2 = 1;
    while ((uint64_t)1 << log2 < (uint64_t)set->n * 2) {
        log2++;
    }
    size_t size = (size_t)1 << log2;
    int64_t *table = arena_try_array(ev->ar, size, sizeof *table);
    uint64_t *used = arena_try_array(ev->ar, bits_words(size), sizeof *used);
    if (!table || !used) {
        return;
    }
    set->shift = 64 - log2;
    for (uint32_t i = 0; i < set->n; i++) {
        uint64_t at = slot_of(set->items[i].i, set->shift);
        while (bit_get(used, at)) {
            at = (at + 1) & (size - 1);
        }
        bit_set(used, at);
        table[at] = set->items[i].i;
    }
    set->table = table;
    set->used = used;
}

static struct int_set int_set_of(struct eval *ev, const struct value *list)
{
    struct int_set set = {.items = list->a.items, .n = list->a.n};
    set.min = set.items[0].i;
    set.span = (uint64_t)set.items[set.n - 1].i - (uint64_t)set.min;
    if (set.span < MAX((uint64_t)BITMAP_SPAN_MIN, (uint64_t)set.n * 64)) {
        build_bitmap(ev, &set);
    } else if (ev->nrows >= set.n) {
        build_table(ev, &set);
    }
    return set;
}

static bool by_halving(const struct int_set *set, int64_t v)
{
    uint32_t from = 0, n = set->n;
    while (n > 1) {
        uint32_t half = n / 2;
        from += set->items[from + half].i <= v ? half : 0;
        n -= half;
    }
    return set->items[from].i == v;
}

static inline bool int_set_has(const struct int_set *set, int64_t v)
{
    uint64_t at = (uint64_t)v - (uint64_t)set->min;
    if (at > set->span) {
        return false;
    }
    if (set->bitmap) {
        return bit_get(set->bitmap, (size_t)at);
    }
    if (!set->table) {
        return by_halving(set, v);
    }
    uint64_t last = ((uint64_t)1 << (64 - set->shift)) - 1;
    for (at = slot_of(v, set->shift); bit_get(set->used, at); at = (at + 1) & last) {
        if (set->table[at] == v) {
            return true;
        }
    }
    return false;
}

/* Doubles, as narrowed for the column; ascending. */
struct double_set {
    const double *items;
    uint32_t n;
};

static bool double_set_has(const struct double_set *set, double v)
{
    uint32_t from = 0, n = set->n;
    while (n > 1) {
        uint32_t half = n / 2;
        from += set->items[from + half] <= v ? half : 0;
        n -= half;
    }
    return set->items[from] == v;
}

/* Few constants: every one over the whole word. The count of a whole word is a constant, so that
 * the inner loop is vectorised without remainders. */
#define FEW_WORD(T, K, count)                                                                      \
    do {                                                                                           \
        const unaligned_##T *p_ = (const unaligned_##T *)(const void *)c->data + w * 64;           \
        uint8_t b_[64] = {0};                                                                      \
        for (uint32_t k_ = 0; mask[w] && k_ < nk; k_++) {                                          \
            const K key_ = keys[k_];                                                               \
            for (uint32_t j_ = 0; j_ < (count); j_++) {                                            \
                b_[j_] |= (uint8_t)((K)p_[j_] == key_);                                            \
            }                                                                                      \
        }                                                                                          \
        out[w] = pack64(b_);                                                                       \
    } while (0)

#define FEW_BLOCKS(T, K)                                                                           \
    for (size_t w = 0; w < ev->nwords; w++) {                                                      \
        if (w < ev->nrows / 64) {                                                                  \
            FEW_WORD(T, K, 64);                                                                    \
        } else {                                                                                   \
            FEW_WORD(T, K, ev->nrows % 64);                                                        \
        }                                                                                          \
    }

#define SET_ROWS(T, has)                                                                           \
    for (size_t w = 0; w < ev->nwords; w++) {                                                      \
        const unaligned_##T *p = (const unaligned_##T *)(const void *)c->data + w * 64;            \
        uint64_t hits = 0;                                                                         \
        for (uint64_t left = mask[w]; left; left &= left - 1) {                                    \
            uint32_t j = (uint32_t)__builtin_ctzll(left);                                          \
            hits |= (uint64_t)(has) << j;                                                          \
        }                                                                                          \
        out[w] = hits;                                                                             \
    }

#define DEFINE_INT_IN(name, T)                                                                     \
    static void name##_set(const struct eval *ev, const struct column *c,                          \
                           const struct int_set *set, const uint64_t *mask, uint64_t *out)         \
    {                                                                                              \
        SET_ROWS(T, int_set_has(set, p[j]))                                                        \
    }

DEFINE_INT_IN(in_i8, int8_t)
DEFINE_INT_IN(in_i16, int16_t)
DEFINE_INT_IN(in_i32, int32_t)
DEFINE_INT_IN(in_i64, int64_t)

/* Rows of one run: the cells of 64 words and their bits stay in the first cache. */
#define FEW_WORDS 64u

static simd_where_fn *where_of(enum dtype t)
{
    const struct simd_where *ops = simd_where();
    return t == DT_INT8 ? ops->i8 : t == DT_INT16 ? ops->i16 : t == DT_INT32 ? ops->i32 : ops->i64;
}

static void few_ints(const struct eval *ev, const struct column *c, const struct value *list,
                     const uint64_t *mask, uint64_t *out)
{
    simd_where_fn *where = where_of(c->type);
    const unsigned bits = 8 * (unsigned)c->width;
    const int64_t top = (int64_t)(UINT64_MAX >> (65 - bits)); /* of the column's type */
    uint64_t hit[FEW_WORDS];
    memset(out, 0, ev->nwords * sizeof *out);
    for (size_t w = 0; w < ev->nwords; w += FEW_WORDS) {
        size_t words = MIN(ev->nwords - w, (size_t)FEW_WORDS), any = 0;
        size_t n = MIN(words * 64, ev->nrows - w * 64);
        for (size_t i = 0; i < words; i++) {
            any |= mask[w + i] != 0;
        }
        for (uint32_t k = 0; any && k < list->a.n; k++) {
            const union simd_bound v = {.i = list->a.items[k].i};
            if (v.i > top || v.i < -top - 1) {
                continue;
            }
            where(c->data + w * 64 * c->width, n, v, v, hit);
            for (size_t i = 0; i < words; i++) {
                out[w + i] |= hit[i];
            }
        }
    }
}

static void in_ints(struct eval *ev, const struct column *c, const struct value *list,
                    const uint64_t *mask, uint64_t *out)
{
    if (list->a.n <= FEW) {
        few_ints(ev, c, list, mask, out);
        return;
    }
    struct int_set set = int_set_of(ev, list);
    switch (c->type) {
    case DT_INT8:
        in_i8_set(ev, c, &set, mask, out);
        break;
    case DT_INT16:
        in_i16_set(ev, c, &set, mask, out);
        break;
    case DT_INT32:
        in_i32_set(ev, c, &set, mask, out);
        break;
    default:
        in_i64_set(ev, c, &set, mask, out);
        break;
    }
}

/* Narrowed and without integers that no double equals; NULL without memory. */
static const double *doubles_of(struct eval *ev, enum dtype t, const struct value *list,
                                uint32_t *ret_n)
{
    double *d = arena_try_array(ev->ar, list->a.n, sizeof *d);
    uint32_t n = 0;
    for (uint32_t i = 0; d && i < list->a.n; i++) {
        struct value v = eval__narrow(t, &list->a.items[i]);
        if (v.type == VAL_DOUBLE) {
            d[n++] = v.d;
        } else if (num_cmp_id(v.i, (double)v.i) == 0) {
            d[n++] = (double)v.i;
        }
    }
    *ret_n = n;
    return d;
}

static void in_doubles(struct eval *ev, const struct column *c, const struct value *list,
                       const uint64_t *mask, uint64_t *out)
{
    uint32_t nk = 0;
    const double *keys = doubles_of(ev, c->type, list, &nk);
    struct double_set set = {keys, nk};
    bool few = nk <= FEW;
    if (!keys) {
        ev->no_memory = true;
    }
    if (nk == 0) {
        memset(out, 0, ev->nwords * sizeof *out);
    } else if (c->type == DT_FLOAT && few) {
        FEW_BLOCKS(float, double)
    } else if (c->type == DT_FLOAT) {
        SET_ROWS(float, double_set_has(&set, (double)p[j]))
    } else if (few) {
        FEW_BLOCKS(double, double)
    } else {
        SET_ROWS(double, double_set_has(&set, p[j]))
    }
}

void eval__fixed_in(struct eval *ev, const struct column *c, const struct value *list,
                    const uint64_t *mask, uint64_t *out)
{
    if (list->a.n == 0) {
        memset(out, 0, ev->nwords * sizeof *out);
    } else if (c->type == DT_BOOL) {
        if (list->a.n == 2) {
            bits_fill(out, ev->nrows, true);
        } else {
            eval__fixed_cmp(c, OP_EQ, &list->a.items[0], out);
        }
    } else if (dtype_is_float(c->type)) {
        in_doubles(ev, c, list, mask, out);
    } else {
        in_ints(ev, c, list, mask, out);
    }
}

/* ---- strings */

struct string_set {
    const struct value *items; /* ascending */
    uint32_t n;
    const uint32_t *table; /* index + 1, 0 = empty; NULL: search by halving */
    uint64_t last;
};

const struct string_set *eval__string_set(struct eval *ev, const struct value *list)
{
    struct string_set *set = arena_try_array(ev->ar, 1, sizeof *set);
    if (!set) {
        ev->no_memory = true;
        return NULL;
    }
    set->items = list->a.items;
    set->n = list->a.n;
    if (set->n <= FEW || set->n > ev->nrows) {
        return set;
    }
    size_t size = 16;
    while (size < (size_t)set->n * 2) {
        size *= 2;
    }
    uint32_t *table = arena_try_array(ev->ar, size, sizeof *table);
    set->last = size - 1;
    for (uint32_t i = 0; table && i < set->n; i++) {
        uint64_t at = hash64(set->items[i].s.p, set->items[i].s.n) & set->last;
        while (table[at]) {
            at = (at + 1) & set->last;
        }
        table[at] = i + 1;
    }
    set->table = table;
    return set;
}

static bool string_by_halving(const struct string_set *set, struct slice s)
{
    uint32_t from = 0, n = set->n;
    while (n > 1) {
        uint32_t half = n / 2;
        from += slice_cmp(set->items[from + half].s, s) <= 0 ? half : 0;
        n -= half;
    }
    return slice_eq(set->items[from].s, s);
}

bool string_set_has(const struct string_set *set, struct slice s)
{
    if (set->n <= FEW) {
        for (uint32_t i = 0; i < set->n; i++) {
            if (slice_eq(set->items[i].s, s)) {
                return true;
            }
        }
        return false;
    }
    if (!set->table) {
        return string_by_halving(set, s);
    }
    uint64_t at = hash64(s.p, s.n) & set->last;
    for (; set->table[at]; at = (at + 1) & set->last) {
        if (slice_eq(set->items[set->table[at] - 1].s, s)) {
            return true;
        }
    }
    return false;
}
