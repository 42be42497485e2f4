/*
 * segment.h - rows of one partition of one shard, for reading: growing and sealed.
 *
 * GROWING   One writer appends; any number of readers. Rows live in chunks of SEG_CHUNK_ROWS that
 *           never move; readers see the published row count (release store after the cells are in
 *           place). A chunk is a set of columns, row-aligned (schema/column.h, fixed or refs).
 * SEALED    Immutable files opened by mapping: docs/format.md "Segment files". One chunk of all
 *           rows. Opening reads footers and checks their checksums, parses nothing else.
 * DELETES   Per row the timestamp of the earliest delete after its insert, in pages allocated on
 *           the first delete that falls into them; 0 = none. Readers need no lock: a row is visible
 *           at T when insert_ts <= T and not (0 < delete_ts <= T).
 * KEYS      growing: hash map key -> rows, behind the segment's lock; sealed: filter + sorted keys.
 * INDEXES   A sealed segment may get an index file for a vector field at any time; a search uses it
 *           from then on, and answers without one the same way, exactly.
 * THREADS   Reference counted. Append, seal: the shard's single writer. seg_delete: one thread at
 *           a time per segment. Everything else: any thread.
 */
#pragma once
#include "base/arena.h"
#include "base/pool.h"
#include "base/status.h"
#include "index/ann.h"
#include "index/index.h"
#include "index/topk.h"
#include "object/object.h"
#include "query/filter.h"
#include "schema/column.h"
#include "schema/schema.h"

#define SEG_CHUNK_ROWS 8192u

struct segment;
struct flat_rows;

struct seg_info {
    int64_t id, collection_id, partition_id;
    uint32_t nrows;              /* published */
    bool sealed;
    hts min_ts, max_ts;          /* of inserts; 0 when empty */
    uint64_t first_position, last_position;
    size_t memory_bytes;         /* heap */
    size_t mapped_bytes;         /* files */
    uint32_t deleted_rows;       /* rows with any delete */
    uint32_t indexes;            /* index files in use */
};

/* Caller frees with seg_unref(). */
int seg_growing_new(int64_t id, int64_t collection_id, int64_t partition_id,
                    const struct schema *schema, struct segment **ret_seg, struct status *st);
struct segment *seg_ref(struct segment *seg);
void seg_unref(struct segment *seg);
void seg_get_info(const struct segment *seg, struct seg_info *ret);
/* Valid as long as the segment. */
const struct schema *seg_schema(const struct segment *seg);
/* A newer schema for readers: fields it adds have their default, or null, in these rows. A growing
 * segment keeps storing the fields it was made with. Thread: any. */
void seg_set_schema(struct segment *seg, const struct schema *schema);

/* Appends all rows of a batch (columns of every schema field; a missing nullable or defaulted one
 * is filled) with one insert timestamp, then publishes them. All or nothing.
 * Fails: ST_NO_MEMORY. Thread: the writer. */
int seg_append(struct segment *seg, const struct batch *rows, hts ts, uint64_t position,
               struct status *st);

/* The same with a timestamp per row (compaction, import). */
int seg_append_at(struct segment *seg, const struct batch *rows, const hts *ts,
                  uint64_t first_position, uint64_t last_position, struct status *st);

/* Marks rows whose key is in pks (one column) and whose insert timestamp is < the key's ts as
 * deleted at ts[i]. *ret_hits counts rows newly marked. Idempotent, any order. */
int seg_delete(struct segment *seg, const struct column *pks, const hts *ts, uint32_t n,
               uint32_t *ret_hits, struct status *st);

/* Writes a growing segment's published rows as files under `prefix` of the object store.
 * *ret_bytes: size of all files. The segment itself is unchanged and readable throughout. */
int seg_write_files(const struct segment *seg, struct object_store *os, const char *prefix,
                    uint64_t *ret_bytes, struct status *st);
/* Opens such files. nrows must match the footer. */
int seg_open(int64_t id, int64_t collection_id, int64_t partition_id, const struct schema *schema,
             struct object_store *os, const char *prefix, struct segment **ret_seg,
             struct status *st);
/* Every structure against itself and every checksum, blocks included; names what is wrong. */
int seg_validate(const struct segment *seg, struct status *st);

/* Rows of sealed segments as the file of a new one. Order: from's, then as they lie, or as told. */
struct seg_merge {
    struct segment *const *from; /* of one partition of one shard, deletes applied (seg_delete) */
    size_t nfrom;
    const struct schema *schema; /* of the new file: what a source lacks gets its default, or null */
    int64_t id, collection_id, partition_id;
    hts gone_before;             /* rows deleted at or before are left out; 0: none */
    hts expired_before;          /* rows inserted before are left out; 0: none */
    /* Of the only source, all of whose rows stay: which is the first row, the second, ...; each of
     * them once. NULL: as they lie. */
    const uint32_t *order;
    index_check_fn *check;       /* asked now and then whether to go on; may be NULL */
    void *check_arg;
};
struct seg_merged {
    uint32_t nrows;              /* 0: nothing is left, nothing was written */
    uint64_t bytes;
    hts min_ts, max_ts;
};
/* Writes it under `prefix`. Deletes that took no row with them still apply to the new segment, and
 * have to be applied to it again when it is opened. Rows are chosen once, at the start. Blocks on
 * disk. Fails: ST_CORRUPT (a source; its checksums are compared), ST_INVALID (a source is growing,
 * or has another key, or a field of another type; order is not one of all rows), ST_TOO_LARGE (more
 * rows than a segment holds), what check says, ST_NO_MEMORY, ST_IO. Thread: any. */
int seg_merge_files(const struct seg_merge *m, struct object_store *os, const char *prefix,
                    struct seg_merged *ret, struct status *st);

/* An index file of one field, and what its index is called and compares by in the definition. */
struct seg_index_file {
    int64_t field_id, build_id;
    const char *key;                      /* of the object */
    const char *index_type, *metric_type; /* the API's names */
};
/* Maps the file, checks it, warms it, and has searches of that field use it from then on.
 * *ret_opened is false when the field has an index already; that one stays. Sealed segments only.
 * Blocks on disk. Fails: ST_CORRUPT, ST_INVALID (the file is of other rows), ST_NOT_FOUND,
 * ST_UNSUPPORTED (of another format), ERR_INDEX_NOT_SUPPORTED (type or metric, whatever the file),
 * ST_NO_MEMORY, ST_IO. Thread: any. */
int seg_index_open(struct segment *seg, const struct seg_index_file *f, struct object_store *os,
                   bool *ret_opened, struct status *st);

/* A reader's fixed picture: rows visible at ts (growing: rows published now). Threads that share
 * one seg_search/seg_query call need nothing more. */
struct seg_filter {
    hts ts;
    const struct expr *expr;     /* NULL: all rows */
    hts ttl_before;              /* rows with insert ts below are expired; 0: no expiry */
};

struct seg_search {
    struct seg_filter filter;
    int64_t field_id;
    enum metric metric;
    const void *queries;         /* nq rows of the field's element type */
    uint32_t nq;
    bool has_radius, has_range_filter;
    float radius, range_filter;
    bool approx;                 /* growing rows may be searched through their codes */
    const float *limits;         /* of each query: worse hits are not wanted; may be NULL */
    bool has_bound;              /* iterator: only hits strictly beyond bound in metric order */
    float bound;
    bool exact;                  /* no approximation */
    int64_t deadline_us;         /* clock.h */
    const _Atomic bool *cancel;  /* may be NULL */
    const struct seg_param {
        const char *key, *value;
    } *params;                   /* of the index, in the API's spelling; unknown ones: ignored */
    size_t nparams;
    struct seg_search_work *work; /* what was done, added up; may be NULL */
    struct index_near *near_out;  /* sealed: filled where an index can tell; may be NULL */
    /* Growing: the same, as searches of the segment near_id with these queries told; may be NULL. It
     * helps where near_id is seg_guide() of the field. */
    const struct index_near *near;
    int64_t near_id;
};
struct seg_search_work {
    bool indexed;                /* through an index; else rows that pass were compared */
    struct index_counters counters;
};
/* Lists fit for q: direction, and q's radius, range filter and bound as their range. Caller frees
 * with topk_free(). */
int seg_topk_new(const struct seg_search *q, uint32_t topk, struct topk **ret_tk,
                 struct status *st);
/* Adds this segment's hits to tk (one list per query; row ids are offsets in this segment), made by
 * seg_topk_new(): bounds are enforced there. The lists are finished (sorted) afterwards.
 * Null vectors are never hits. An index answers searches by its own metric; where the nearest rows
 * are excluded (range_filter, bound) or exact is set, only an exact one does: else rows are scanned.
 * Fails: ERR_SEGCORE*, ST_INVALID (a parameter), ST_TIMEOUT, ST_CANCELLED. */
int seg_search(const struct segment *seg, const struct seg_search *q, struct topk *tk,
               struct arena *scratch, struct status *st);

/* ---- Tending: work that makes searches of a growing segment cheap, for a thread that has time ----
 *
 * Searches note that they met many rows that are scanned one by one. Rows get codes first. Then each is
 * attached to its nearest rows of a guide, a sealed segment that is always searched before this one
 * and has an index that fills index_near (index/scan/fresh.h); without such a segment they are
 * sorted into lists.
 * Thread, of all but the ones marked: one at a time per segment. */
struct seg_tend {
    int64_t field_id;
    enum metric metric;
    size_t row_bytes;
};
/* Whether there is something to do. Thread: any. */
bool seg_tend_wanted(const struct segment *seg);
/* Fields there is something to do for; the note is taken down. */
uint32_t seg_tend_fields(struct segment *seg, struct seg_tend *ret, uint32_t max);
/* A step of coding, or with `sort` of sorting when all have codes. Whether there is more to do. */
bool seg_tend_codes(struct segment *seg, int64_t field_id, bool sort);
/* The guide of a field's rows; 0: none. Thread: any. */
int64_t seg_guide(const struct segment *seg, int64_t field_id);
/* Rows below are attached to it; *ret_coded: rows below have codes, and may be. Thread: any. */
uint32_t seg_guide_attached(const struct segment *seg, int64_t field_id, uint32_t *ret_coded);
/* Another guide, of nrows rows; 0: none from now on. keys: fresh_guide_far(). Fails: ST_NO_MEMORY. */
int seg_guide_set(struct segment *seg, int64_t field_id, int64_t guide_id, uint32_t nrows,
                  float *keys, uint32_t nkeys, struct status *st);
/* The next n rows are attached: near is what the guide told of each. Fails: ST_NO_MEMORY. */
int seg_guide_attach(struct segment *seg, int64_t field_id, const struct index_near *near,
                     uint32_t n, struct status *st);
#define SEG_GUIDE_NEAR 24u /* rows of the guide for each */

/* Offsets of rows that pass, ordered by (primary key, newer first); at most limit smallest keys
 * (UINT32_MAX: all), and all passing rows of each: a key may have several. Rows from ar. */
int seg_query(const struct segment *seg, const struct seg_filter *f, uint32_t limit,
              int64_t deadline_us, const uint32_t **ret_rows, uint32_t *ret_n, struct arena *ar,
              struct status *st);
/* Number of rows that pass. */
int seg_count(const struct segment *seg, const struct seg_filter *f, int64_t deadline_us,
              uint64_t *ret, struct arena *scratch, struct status *st);

/* The rows that pass as bits, for a search through an index: *ret_bits covers *ret_nrows rows, of
 * which *ret_count are set. not_null_field >= 0: only rows with a value in that field. From ar. */
int seg_bits(const struct segment *seg, const struct seg_filter *f, int64_t not_null_field,
             int64_t deadline_us, struct arena *ar, uint64_t **ret_bits, uint32_t *ret_nrows,
             uint32_t *ret_count, struct status *st);
/* A sealed segment's dense vectors as they lie in the mapping, for building an index (metric is
 * left 0); *ret_valid NULL: no row is null. false when there are none. Valid as the segment. */
bool seg_vectors(const struct segment *seg, int64_t field_id, struct flat_rows *ret,
                 const uint64_t **ret_valid);

/* Cells of given rows of one field as a column in ar (borrowing cells from the segment, which the
 * caller keeps referenced). field_id FIELD_TIMESTAMP gives insert timestamps as Int64. A field the
 * segment does not have gives its default or nulls. */
int seg_fetch(const struct segment *seg, int64_t field_id, const uint32_t *rows, uint32_t n,
              struct arena *ar, struct column *ret, struct status *st);

/* Delete files (docs/format.md "Delete file"): key column and timestamps of one shard. */
int delta_write(struct object_store *os, const char *key, const struct column *pks, const hts *ts,
                uint64_t *ret_bytes, struct status *st);
int delta_read(struct object_store *os, const char *key, struct arena *ar, struct column *ret_pks,
               const hts **ret_ts, struct status *st);
