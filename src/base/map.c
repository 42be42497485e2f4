/*
 * map.c - open addressing with linear probing.
 *
 * A removal moves later members of the probe chain back into the gap, so there are no tombstones
 * and a map that is filled and emptied for ever stays fast.
 *
 * Hashes are seeded with the map's address: keys come from clients, and with a fixed hash they
 * could be chosen to fall on one slot; also, copying one map to another in slot order would
 * otherwise fill the other's chains from one end (quadratic time).
 *
 * id_map marks an empty slot with key 0 and keeps the value of the real key 0 aside: 16 bytes a
 * slot and no second array to touch.
 */
#include "base/map.h"
#include "base/alloc.h"
#include "base/hash.h"
#include <string.h>

#define FIRST_SLOTS ((size_t)16)

/* Finaliser of MurmurHash3 (64 bits): every input bit reaches every output bit. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 33)) * UINT64_C(0xFF51AFD7ED558CCD);
    x = (x ^ (x >> 33)) * UINT64_C(0xC4CEB9FE1A85EC53);
    return x ^ (x >> 33);
}

static bool too_full(size_t count, size_t slots)
{
    return count >= slots - slots / 4;
}

/* Whether the member that wants slot `home` and sits at `at` may move to the gap at `gap`. */
static bool may_move(size_t home, size_t at, size_t gap, size_t mask)
{
    return ((at - home) & mask) >= ((at - gap) & mask);
}

struct str_slot {
    char *key; /* NULL: empty */
    size_t len;
    uint64_t hash;
    void *value;
};

struct str_map {
    struct str_slot *slots;
    size_t nslots, count;
    uint64_t seed;
};

struct str_map *str_map_new(void)
{
    struct str_map *m = xalloc(sizeof *m);
    m->seed = mix((uint64_t)(uintptr_t)m);
    return m;
}

void str_map_free(struct str_map *m, void (*free_value)(void *))
{
    if (!m) {
        return;
    }
    for (size_t i = 0; i < m->nslots; i++) {
        if (m->slots[i].key) {
            mem_free(m->slots[i].key);
            if (free_value) {
                free_value(m->slots[i].value);
            }
        }
    }
    mem_free(m->slots);
    mem_free(m);
}

size_t str_map_count(const struct str_map *m)
{
    return m->count;
}

static uint64_t str_hash(const struct str_map *m, struct slice key)
{
    return mix(hash64(key.p, key.n) ^ m->seed);
}

/* The slot of key, or the empty slot where it belongs. There is always an empty slot. */
static struct str_slot *str_find(const struct str_map *m, struct slice key, uint64_t hash)
{
    size_t mask = m->nslots - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct str_slot *s = &m->slots[i];
        if (!s->key || (s->hash == hash && s->len == key.n &&
                        (key.n == 0 || memcmp(s->key, key.p, key.n) == 0))) {
            return s;
        }
    }
}

void *str_map_get(const struct str_map *m, struct slice key)
{
    if (m->count == 0) {
        return NULL;
    }
    struct str_slot *s = str_find(m, key, str_hash(m, key));
    return s->key ? s->value : NULL;
}

static void str_grow(struct str_map *m)
{
    size_t nslots = m->nslots ? m->nslots * 2 : FIRST_SLOTS, bytes;
    CHECK(mul_size(nslots, sizeof *m->slots, &bytes));
    struct str_slot *slots = xalloc(bytes);
    for (size_t k = 0; k < m->nslots; k++) {
        if (m->slots[k].key) {
            size_t i = m->slots[k].hash & (nslots - 1);
            while (slots[i].key) {
                i = (i + 1) & (nslots - 1);
            }
            slots[i] = m->slots[k];
        }
    }
    mem_free(m->slots);
    m->slots = slots;
    m->nslots = nslots;
}

void *str_map_put(struct str_map *m, struct slice key, void *value)
{
    if (m->nslots == 0 || too_full(m->count + 1, m->nslots)) {
        str_grow(m);
    }
    uint64_t hash = str_hash(m, key);
    struct str_slot *s = str_find(m, key, hash);
    void *old = s->key ? s->value : NULL;
    if (!s->key) {
        s->key = xrealloc(NULL, key.n);
        if (key.n) {
            memcpy(s->key, key.p, key.n);
        }
        s->len = key.n;
        s->hash = hash;
        m->count++;
    }
    s->value = value;
    return old;
}

void *str_map_remove(struct str_map *m, struct slice key)
{
    if (m->count == 0) {
        return NULL;
    }
    struct str_slot *s = str_find(m, key, str_hash(m, key));
    if (!s->key) {
        return NULL;
    }
    void *old = s->value;
    mem_free(s->key);
    size_t mask = m->nslots - 1, gap = (size_t)(s - m->slots);
    for (size_t i = (gap + 1) & mask; m->slots[i].key; i = (i + 1) & mask) {
        if (may_move(m->slots[i].hash & mask, i, gap, mask)) {
            m->slots[gap] = m->slots[i];
            gap = i;
        }
    }
    m->slots[gap] = (struct str_slot){0};
    m->count--;
    return old;
}

bool str_map_next(const struct str_map *m, size_t *pos, struct slice *ret_key, void **ret_value)
{
    while (*pos < m->nslots) {
        const struct str_slot *s = &m->slots[(*pos)++];
        if (s->key) {
            *ret_key = slice_n(s->key, s->len);
            *ret_value = s->value;
            return true;
        }
    }
    return false;
}

struct id_slot {
    int64_t key; /* 0: empty */
    uint64_t value;
};

struct id_map {
    struct id_slot *slots;
    size_t nslots, count; /* count is without the key 0 */
    uint64_t seed;
    uint64_t zero_value;
    bool has_zero;
};

struct id_map *id_map_new(void)
{
    struct id_map *m = xalloc(sizeof *m);
    m->seed = mix((uint64_t)(uintptr_t)m);
    return m;
}

void id_map_free(struct id_map *m)
{
    if (m) {
        mem_free(m->slots);
        mem_free(m);
    }
}

size_t id_map_count(const struct id_map *m)
{
    return m->count + (m->has_zero ? 1 : 0);
}

static size_t id_home(const struct id_map *m, int64_t key)
{
    return mix((uint64_t)key ^ m->seed) & (m->nslots - 1);
}

static struct id_slot *id_find(const struct id_map *m, int64_t key)
{
    size_t mask = m->nslots - 1;
    size_t i = id_home(m, key);
    while (m->slots[i].key != 0 && m->slots[i].key != key) {
        i = (i + 1) & mask;
    }
    return &m->slots[i];
}

bool id_map_get(const struct id_map *m, int64_t key, uint64_t *ret)
{
    if (key == 0) {
        if (m->has_zero) {
            *ret = m->zero_value;
        }
        return m->has_zero;
    }
    if (m->count == 0) {
        return false;
    }
    const struct id_slot *s = id_find(m, key);
    if (s->key == 0) {
        return false;
    }
    *ret = s->value;
    return true;
}

static bool id_grow(struct id_map *m)
{
    size_t nslots = m->nslots ? m->nslots * 2 : FIRST_SLOTS, bytes;
    struct id_slot *slots = NULL;
    if (mul_size(nslots, sizeof *slots, &bytes)) {
        slots = alloc_try_zero(bytes);
    }
    if (!slots) {
        return false;
    }
    struct id_map bigger = *m;
    bigger.slots = slots;
    bigger.nslots = nslots;
    for (size_t k = 0; k < m->nslots; k++) {
        if (m->slots[k].key != 0) {
            *id_find(&bigger, m->slots[k].key) = m->slots[k];
        }
    }
    mem_free(m->slots);
    *m = bigger;
    return true;
}

bool id_map_put(struct id_map *m, int64_t key, uint64_t value)
{
    if (key == 0) {
        m->has_zero = true;
        m->zero_value = value;
        return true;
    }
    if (m->count > 0) {
        struct id_slot *known = id_find(m, key);
        if (known->key != 0) {
            known->value = value;
            return true;
        }
    }
    if ((m->nslots == 0 || too_full(m->count + 1, m->nslots)) && !id_grow(m)) {
        return false;
    }
    *id_find(m, key) = (struct id_slot){key, value};
    m->count++;
    return true;
}

bool id_map_remove(struct id_map *m, int64_t key)
{
    if (key == 0) {
        bool had = m->has_zero;
        m->has_zero = false;
        return had;
    }
    if (m->count == 0) {
        return false;
    }
    struct id_slot *s = id_find(m, key);
    if (s->key == 0) {
        return false;
    }
    size_t mask = m->nslots - 1, gap = (size_t)(s - m->slots);
    for (size_t i = (gap + 1) & mask; m->slots[i].key != 0; i = (i + 1) & mask) {
        if (may_move(id_home(m, m->slots[i].key), i, gap, mask)) {
            m->slots[gap] = m->slots[i];
            gap = i;
        }
    }
    m->slots[gap] = (struct id_slot){0};
    m->count--;
    return true;
}

/* Position 0 is the key 0, position i + 1 is slot i. */
bool id_map_next(const struct id_map *m, size_t *pos, int64_t *ret_key, uint64_t *ret_value)
{
    if (*pos == 0) {
        *pos = 1;
        if (m->has_zero) {
            *ret_key = 0;
            *ret_value = m->zero_value;
            return true;
        }
    }
    while (*pos - 1 < m->nslots) {
        const struct id_slot *s = &m->slots[(*pos)++ - 1];
        if (s->key != 0) {
            *ret_key = s->key;
            *ret_value = s->value;
            return true;
        }
    }
    return false;
}

size_t id_map_bytes(const struct id_map *m)
{
    return sizeof *m + m->nslots * sizeof *m->slots;
}
