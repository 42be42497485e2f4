/*
 * map.h - two hash maps (open addressing, linear probing, at most 3/4 full), not thread-safe.
 *
 * str_map: bytes -> pointer, keys copied. id_map: int64 -> 64-bit value. Iteration order is not
 * defined; callers that show results sort them.
 */
#pragma once
#include "base/compiler.h"
#include "base/slice.h"

struct str_map;
struct str_map *str_map_new(void);
void str_map_free(struct str_map *m, void (*free_value)(void *)); /* free_value may be NULL */
size_t str_map_count(const struct str_map *m);
void *str_map_get(const struct str_map *m, struct slice key);
/* Returns the value that was there before, or NULL. */
void *str_map_put(struct str_map *m, struct slice key, void *value);
void *str_map_remove(struct str_map *m, struct slice key);
/* pos starts at 0; false at the end. */
bool str_map_next(const struct str_map *m, size_t *pos, struct slice *ret_key, void **ret_value);

struct id_map;
struct id_map *id_map_new(void);
void id_map_free(struct id_map *m);
size_t id_map_count(const struct id_map *m);
bool id_map_get(const struct id_map *m, int64_t key, uint64_t *ret);
static inline void *id_map_ptr(const struct id_map *m, int64_t key)
{
    uint64_t v;
    return id_map_get(m, key, &v) ? (void *)(uintptr_t)v : NULL;
}
/* Replaces the value of a known key. false when memory is gone: the map is as before. */
bool id_map_put(struct id_map *m, int64_t key, uint64_t value);
bool id_map_remove(struct id_map *m, int64_t key);
bool id_map_next(const struct id_map *m, size_t *pos, int64_t *ret_key, uint64_t *ret_value);
size_t id_map_bytes(const struct id_map *m);
