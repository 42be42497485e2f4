/*
 * seg_int.h - what the files of this room share: a segment's insides.
 *
 * A segment is a list of spans (runs of rows whose columns are contiguous): a growing one has its
 * chunks, a sealed one has exactly one. Search, query and fetch see spans only.
 *
 * PUBLICATION  The writer fills cells, timestamps, key map and the figures of the info, then stores
 *              `nrows` with release. A reader loads `nrows` with acquire first and looks at nothing
 *              beyond it. Chunk and delete-page pointers are stored with release and loaded with
 *              acquire, so they may also be followed by readers who know no row count.
 */
#pragma once
#include <stdatomic.h>
#include "base/hash.h"
#include "base/lock.h"
#include "segment/seg_format.h"
#include "segment/segment.h"

/* Rows a segment can hold: bounds the two-level directories below. */
#define SEG_ROWS_MAX (1u << 26)
/* Chunk 0 and 1 hold 64 rows, every following twice the one before, up to SEG_CHUNK_ROWS: many
 * collections have a nearly empty growing segment each, and idle memory counts. */
#define SEG_FIRST_ROWS 64u
#define SEG_SMALL_CHUNKS 8u /* chunks covering the first SEG_CHUNK_ROWS rows */
#define SEG_PAGE_ROWS 4096u
#define SEG_NO_ROW UINT32_MAX

/* ---- Two-level array of pointers: one writer, readers without locks ---- */

#define SEG_DIR_FAN 128u
struct seg_leaf {
    _Atomic(void *) slot[SEG_DIR_FAN];
};
struct seg_dir {
    _Atomic(struct seg_leaf *) leaf[SEG_DIR_FAN];
};
static inline void *seg__dir_get(const struct seg_dir *d, uint32_t i)
{
    struct seg_leaf *l = atomic_load_explicit(&d->leaf[i / SEG_DIR_FAN], memory_order_acquire);
    return l ? atomic_load_explicit(&l->slot[i % SEG_DIR_FAN], memory_order_acquire) : NULL;
}
/* false without memory. Publishes p (release, for seg__dir_get). */
bool seg__dir_set(struct seg_dir *d, uint32_t i, void *p);
/* Frees the leaves, not what they point to. */
void seg__dir_done(struct seg_dir *d);

/* ---- Columns ---- */

struct seg_field {
    int64_t id;
    enum dtype type, elem;
    uint32_t dim;
    size_t width; /* 0: variable */
    bool nullable;
};

/* One column of one growing chunk. */
struct seg_cells {
    uint8_t *data;           /* fixed width */
    struct slice *refs;      /* variable width */
    _Atomic uint64_t *valid; /* nullable fields; readers copy words, the writer adds bits */
    _Atomic uint32_t nulls;  /* stored before the row count that covers them */
};
struct seg_chunk {
    uint32_t row0, cap;
    hts *ts;
    _Atomic hts min_ts, max_ts; /* of ts; stored before the row count that covers them */
    uint32_t *older; /* row -> next older row of the same key; behind the segment's lock */
    struct seg_cells cells[];
};

static inline uint32_t seg__chunk_of(uint32_t row)
{
    if (row >= SEG_CHUNK_ROWS) {
        return SEG_SMALL_CHUNKS - 1 + row / SEG_CHUNK_ROWS;
    }
    uint32_t q = row / SEG_FIRST_ROWS;
    return q == 0 ? 0 : 32 - (uint32_t)__builtin_clz(q);
}
static inline uint32_t seg__chunk_row0(uint32_t chunk)
{
    if (chunk >= SEG_SMALL_CHUNKS) {
        return (chunk - SEG_SMALL_CHUNKS + 1) * SEG_CHUNK_ROWS;
    }
    return chunk == 0 ? 0 : SEG_FIRST_ROWS << (chunk - 1);
}
static inline uint32_t seg__chunk_cap(uint32_t chunk)
{
    return seg__chunk_row0(chunk + 1) - seg__chunk_row0(chunk);
}

/* Bytes of variable cells: blocks never move. */
struct seg_block {
    struct seg_block *next;
    size_t used, cap;
    uint8_t bytes[];
};

/* Key -> newest row. A slot holds a hash tag (high half) and row + 1 (low half; 0: free). */
struct seg_keymap {
    uint64_t *slots;
    uint32_t mask; /* slots - 1 */
    uint32_t used;
};

struct seg_growing {
    struct seg_dir chunks;
    struct seg_block *blocks; /* newest first */
    struct seg_keymap keys;   /* behind the lock */
    struct seg_codes *codes;  /* per field */
};

/* What the first use of a sealed column found out about its offsets and cells. */
enum { SEG_UNCHECKED, SEG_ENDS_OK, SEG_CELLS_OK };

struct seg_sealed {
    struct mapping *map; /* NULL when the bytes belong to the caller (tests) */
    const uint8_t *bytes;
    size_t nbytes;
    struct sf_file file;      /* parsed footer, pointing into bytes */
    struct column *cols;      /* per field, all rows */
    uint32_t *file_col;       /* per field: its record in the footer */
    _Atomic uint8_t *checked; /* per field; monotone, any thread may raise it */
    const hts *ts;            /* NULL: every row has min_ts */
    const uint32_t *order;    /* rows by (key, newer first) */
    const uint32_t *filter;
    uint32_t filter_blocks;
    /* Per field: NULL until seg_index_open() stores one (release; searches load with acquire),
     * which then stays as long as the segment. */
    _Atomic(struct seg_index *) *indexes;
    struct seg_kept *kept; /* of filters: seg_kept.c */
};

/* An open index file. Immutable. */
struct seg_index {
    struct mapping *map;
    struct index *ix;
    enum index_type declared; /* in the definition: AUTOINDEX has parameters of its own */
    enum metric metric;
};

/* ---- Codes of growing vectors: seg_codes.c ---- */

struct seg_codes;
struct fresh;
/* false without memory. */
bool seg__codes_alloc(struct segment *seg);
void seg__codes_done(struct segment *seg);
/* Codes of field f for a metric; NULL: none (yet). Notes what a search of nrows rows would like to
 * have. Thread: any. */
struct fresh *seg__codes_get(const struct segment *seg, uint32_t f, enum metric metric,
                             enum vec_type type, uint32_t nrows);
/* fresh_row_fn over the vectors of a growing segment's field f. */
struct seg_raw {
    const struct segment *seg;
    uint32_t f;
    size_t width;
};
const void *seg__codes_row(const void *raw, uint32_t row);
/* What a vector field's elements are. Fails: ERR_SEGCORE_UNSUPPORTED. */
int seg__vec_type(const struct seg_field *f, enum vec_type *ret, struct status *st);
/* Rows were added. Thread: the writer. */
void seg__codes_append(struct segment *seg, uint32_t nrows, uint32_t added);

/* ---- Deletes ---- */

struct seg_page {
    _Atomic uint64_t any[SEG_PAGE_ROWS / 64]; /* bit per deleted row; after ts, release */
    _Atomic hts max_ts;                       /* upper bound; stored before any */
    _Atomic hts ts[SEG_PAGE_ROWS];
};
struct seg_dels {
    struct seg_dir pages;
    _Atomic uint32_t rows;
};

struct seg_old_schema {
    struct seg_old_schema *next;
    const struct schema *schema;
};

struct segment {
    _Atomic uint32_t refs;
    bool sealed;
    int64_t id, collection_id, partition_id;
    char *name; /* for messages: the file, or "growing segment 7" */
    uint32_t nfields, pk;
    struct seg_field *fields; /* what rows here have; the schema may know more */

    _Atomic(const struct schema *) schema; /* for readers */
    struct seg_old_schema *old_schemas;    /* behind the lock; live until the end */
    struct rwlock *lock;                   /* RANK_SEGMENT */

    /* Written by the writer before the release store of nrows. */
    _Atomic uint32_t nrows;
    _Atomic hts min_ts, max_ts;
    _Atomic uint64_t first_position, last_position;
    _Atomic size_t memory;

    struct seg_dels dels;
    struct seg_growing g;
    struct seg_sealed s;
};

static inline uint32_t seg__nrows(const struct segment *seg)
{
    return atomic_load_explicit(&seg->nrows, memory_order_acquire);
}
/* A segment without rows, fields from the schema. */
struct segment *seg__new(int64_t id, int64_t collection_id, int64_t partition_id,
                         const struct schema *schema);
void seg__fields_from_schema(struct segment *seg, const struct schema *schema);
struct seg_field seg__field_of(const struct field *f);
/* Index in seg->fields, or -1. */
int seg__field(const struct segment *seg, int64_t field_id);
void seg__growing_done(struct segment *seg);
void seg__sealed_done(struct segment *seg);
void seg__dels_done(struct seg_dels *d);
static inline void seg__add_memory(struct segment *seg, size_t n)
{
    atomic_fetch_add_explicit(&seg->memory, n, memory_order_relaxed);
}

/* ---- Spans ---- */

struct seg_span {
    const struct segment *seg;
    const struct seg_chunk *chunk; /* NULL: sealed */
    uint32_t row0, nrows;          /* row0 is a multiple of 64 */
    const hts *ts;                 /* NULL: all rows have ts0 */
    hts ts0;
};
/* Number of spans that hold nrows rows. */
uint32_t seg__nspans(const struct segment *seg, uint32_t nrows);
struct seg_span seg__span(const struct segment *seg, uint32_t i, uint32_t nrows);
/* The column of field f in a span. Bits of growing nullable columns are copied into ar. `cells`
 * asks that Array and sparse cells be well-formed too. Fails: ST_CORRUPT, ST_NO_MEMORY. */
int seg__span_column(const struct seg_span *sp, uint32_t f, bool cells, struct arena *ar,
                     struct column *ret, struct status *st);
/* Sealed: offsets (and cells) of column f are safe to follow; looks once, then remembers. */
int seg__check_column(const struct segment *seg, uint32_t f, bool cells, struct status *st);
bool seg__cell_valid(const struct seg_field *f, struct slice cell);

/* One cell of a row below the published count. Variable sealed columns must have been checked. */
struct slice seg__cell(const struct segment *seg, uint32_t f, uint32_t row);
bool seg__cell_null(const struct segment *seg, uint32_t f, uint32_t row);
hts seg__row_ts(const struct segment *seg, uint32_t row);

/* ---- Keys ---- */

static inline uint64_t seg__key_hash(struct slice key)
{
    return hash64(key.p, key.n);
}
/* Growing. Room for `more` further keys; false without memory. Thread: the writer. */
bool seg__keymap_reserve(struct segment *seg, uint32_t more);
/* Enters rows [from, to), whose cells are in place. */
void seg__keymap_add(struct segment *seg, uint32_t from, uint32_t to);
void seg__keymap_done(struct seg_keymap *km);
/* Calls fn for every row below nrows that has this key, in no particular order; stops at and
 * returns its first nonzero answer. Between seg__keys_lock and seg__keys_unlock.
 * Fails: ST_CORRUPT. */
typedef int seg_row_fn(void *ctx, uint32_t row, struct status *st);
int seg__key_rows(const struct segment *seg, struct slice key, uint32_t nrows, seg_row_fn *fn,
                  void *ctx, struct status *st);
/* Fails when the key column of a sealed segment is damaged. */
int seg__keys_lock(const struct segment *seg, struct status *st);
void seg__keys_unlock(const struct segment *seg);

/* Rows in the order (key, newer first); of one key and timestamp the higher row first. */
struct seg_sort {
    uint64_t prefix; /* orders as the key's first 8 bytes do */
    uint32_t row;
};
uint64_t seg__key_prefix(const struct segment *seg, uint32_t row);
void seg__sort_rows(const struct segment *seg, struct seg_sort *items, size_t n);
/* Order of the keys alone. */
int seg__key_cmp(const struct segment *seg, const struct seg_sort *a, const struct seg_sort *b);
/* Order of rows of two segments of one key type: key, newer first; 0 when both are equal. */
int seg__row_cmp(const struct segment *sa, const struct seg_sort *a, const struct segment *sb,
                 const struct seg_sort *b);

/* Split-block Bloom filter over key hashes (docs/format.md "Key filter"). */
uint32_t seg__bloom_blocks(uint32_t nrows);
void seg__bloom_add(uint32_t *filter, uint32_t nblocks, uint64_t hash);
bool seg__bloom_maybe(const uint32_t *filter, uint32_t nblocks, uint64_t hash);

/* ---- Visibility and filters ---- */

/* Earliest delete of a row, 0: none. */
hts seg__deleted_at(const struct segment *seg, uint32_t row);
/* Whether every published row passes: none is deleted, expired or later, and there is no
 * expression. Look after the row count. */
bool seg__all_visible(const struct segment *seg, const struct seg_filter *f);
/* Bit i of bits: row sp->row0 + i is visible and not expired. */
void seg__visible(const struct seg_span *sp, const struct seg_filter *f, uint64_t *bits);
/* The same and the filter's expression. Scratch from tmp. */
int seg__pass(const struct seg_span *sp, const struct seg_filter *f, struct arena *tmp,
              uint64_t *bits, struct status *st);

/* The filter as a list of rows when it names primary keys: *ret_rows ascending and unique, all
 * passing; *ret_is_list false when the filter is not of that kind. */
int seg__pass_list(const struct segment *seg, const struct seg_filter *f, uint32_t nrows,
                   struct arena *ar, bool *ret_is_list, uint32_t **ret_rows, uint32_t *ret_n,
                   struct status *st);

/* ---- Answers of filters kept: seg_kept.c ---- */

struct seg_kept *seg__kept_new(uint32_t nrows);
void seg__kept_done(struct seg_kept *k);
size_t seg__kept_bytes(const struct seg_kept *k); /* heap; k may be NULL */

/* bits (of all nrows rows of a sealed segment) where f's expression holds: kept ones or eval's. */
typedef int seg_where_fn(void *arg, uint64_t *bits, struct status *st);
int seg__where(const struct segment *seg, const struct seg_filter *f, seg_where_fn *eval, void *arg,
               uint64_t *bits, uint32_t nrows, struct status *st);

/* What an index of a field may return under a filter. */
struct seg_pass {
    const uint64_t *bits;
    uint32_t count;
    bool kept;
    const struct index_filter *filter; /* of ix; NULL: not prepared */
};
/* As seg_bits() with the field's nulls left out, kept or new. *ret_pass is own (bits from ar) or a
 * kept one: seg__pass_done() in any case. */
int seg__pass_get(const struct segment *seg, const struct index *ix, uint32_t field,
                  const struct seg_filter *f, int64_t deadline_us, struct arena *ar,
                  struct seg_pass *own, const struct seg_pass **ret_pass, struct status *st);
void seg__pass_done(const struct seg_pass *p);

/* Stops long work. */
struct seg_stop {
    int64_t deadline_us;
    const _Atomic bool *cancel;
};
int seg__stop_check(void *stop, struct status *st); /* index_check_fn */

/* ---- Indexes ---- */

void seg__indexes_done(struct segment *seg);
/* Adds what is open to a segment's figures. */
void seg__indexes_info(const struct segment *seg, struct seg_info *ret);
/* The index that answers q over field f; NULL: none does. */
const struct seg_index *seg__index_for(const struct segment *seg, uint32_t f,
                                       const struct seg_search *q);
int seg__search_index(const struct segment *seg, const struct seg_index *si, uint32_t f,
                      const struct seg_search *q, struct topk *tk, struct arena *scratch,
                      struct status *st);

/* Scratch of one span: reset after each. Bounded, so that one filter cannot take the machine. */
#define SEG_TMP_MAX ((size_t)512 << 20)
