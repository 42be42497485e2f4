/* lib_int.h - what the files of libelanus_index share: errors, options, vectors. */
#pragma once
#include <elanus/index.h>

#include "base/status.h"
#include "index/ann.h"

/* Ends every public function: st in the public form, returned as its code. */
int lib__end(int rc, const struct status *st, struct elanus_error *err);
/* ST_INVALID for enums out of range and counts the engine cannot take. */
int lib__rows(const struct elanus_vectors *v, struct index_rows *ret, struct status *st);

/* The searches' stop callback as the engine calls it. arg: struct lib_stop. */
struct lib_stop {
    int (*stop)(void *arg);
    void *arg;
};
int lib__stop(void *arg, struct status *st);

/* Anonymous memory on large pages where the system has them, page-aligned. NULL: none left. */
void *lib__pages_new(size_t n);
void *lib__pages_grow(void *p, size_t old, size_t n); /* p may be NULL; NULL: p is unchanged */
void lib__pages_free(void *p, size_t n);

struct elanus_index {
    struct index *ix;
    struct index_rows rows;
    const void *map;
    size_t size;
    int fd;      /* -1: opened over the caller's memory, or copied */
    bool mapped; /* map is to be unmapped */
};
