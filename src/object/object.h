/*
 * object.h - the object store: immutable files under keys like "segments/7/12/4711/vec.col".
 *
 * This header is the contract; tests/unit/object/test_object_conform.c runs it on every
 * implementation. An object appears whole or not at all, and is durable when put or commit returns;
 * it is never changed in place (a put on an existing key replaces it, readers of the old one keep
 * what they have). Bytes are not checksummed here: the formats stored carry their own checksums.
 *
 * Keys: 1 to OBJECT_KEY_MAX bytes of [A-Za-z0-9_.=@+-] in components parted by single '/'; no
 * component starts with a dot, none is longer than 200 bytes. A key may not be a folder of another.
 *
 * All functions are thread-safe, block on disk or network, and besides the codes named may fail
 * with ST_IO, ST_NO_SPACE, ST_NO_MEMORY and ST_UNAVAILABLE; ST_INVALID names a bad key.
 */
#pragma once
#include "base/arena.h"
#include "base/compiler.h"
#include "base/file.h"
#include "base/slice.h"
#include "base/status.h"

enum { OBJECT_KEY_MAX = 900, OBJECT_LIST_MAX = 100000 };

struct object_store;

/* A folder, created when absent; what unfinished puts left behind is removed. */
int object_local_open(const char *dir, struct object_store **ret_os, struct status *st);
/* All writers must be finished; mappings may live on. NULL is fine. */
void object_close(struct object_store *os);

bool object_key_valid(struct slice key);

/* ---- Writing ---- */

int object_put(struct object_store *os, struct slice key, const struct file_part *parts,
               size_t nparts, struct status *st);

/* For what is too large to hold: append in order, then commit. One thread at a time per writer. */
struct object_writer;
int object_writer_open(struct object_store *os, struct slice key, struct object_writer **ret_ow,
                       struct status *st);
int object_append(struct object_writer *ow, const void *p, size_t n, struct status *st);
int object_appendv(struct object_writer *ow, const struct file_part *parts, size_t nparts,
                   struct status *st);
uint64_t object_writer_size(const struct object_writer *ow); /* bytes appended so far */
/* Makes the object visible and durable. Takes ow, also on failure. After ST_IO or ST_UNAVAILABLE
 * the object may exist all the same; after other failures it does not. */
int object_commit(struct object_writer *ow, struct status *st);
/* Drops what was appended. Takes ow; NULL is fine. */
void object_abort(struct object_writer *ow);

/* Missing is fine: the state wished for is reached. Open mappings stay valid. */
int object_delete(struct object_store *os, struct slice key, struct status *st);
/* Every object whose key starts with prefix (not empty). Not atomic; repeat after a failure. With a
 * '/' at its end the folder goes too: nobody may be putting below it. */
int object_delete_prefix(struct object_store *os, struct slice prefix, struct status *st);

/* ---- Reading ---- */

struct object_info {
    struct slice key;
    uint64_t size;
};
/* ST_NOT_FOUND. ret->key is the key passed in. */
int object_stat(struct object_store *os, struct slice key, struct object_info *ret,
                struct status *st);
/* n bytes from off; short only at the end of the object (*ret_n says how much). ST_NOT_FOUND. */
int object_get(struct object_store *os, struct slice key, uint64_t off, void *p, size_t n,
               size_t *ret_n, struct status *st);
/* The whole object as read-only memory; free with mapping_free(). A remote store fetches it into a
 * local cache first. ST_NOT_FOUND. */
int object_map(struct object_store *os, struct slice key, struct mapping **ret_map,
               struct status *st);

/* A descriptor of the bytes object_map() maps, for reads past the page cache; close(2) it. -1: there
 * is none, use the mapping. */
int object_descriptor(struct object_store *os, struct slice key);

struct object_range {
    struct slice prefix;      /* bytes, need not end at a '/'; "" is everything */
    struct slice start_after; /* only keys behind this one */
    size_t limit;             /* 0: OBJECT_LIST_MAX */
};
struct object_list {
    struct object_info *items; /* sorted bytewise by key, in the caller's arena */
    size_t n;
    bool more;
};
int object_list(struct object_store *os, const struct object_range *range, struct arena *ar,
                struct object_list *ret, struct status *st);
