/*
 * seg_format.h - the bytes of a segment file, and their checks (docs/format.md "Segment files").
 *
 * The structs below are the format: little-endian, no padding, used in place from the mapping.
 */
#pragma once
#include "base/compiler.h"
#include "base/status.h"

#define SF_VERSION 1u
#define SF_MAGIC "ELANSEG1"
#define SF_END_MAGIC "ELANSEGE"
#define SF_ALIGN 64u
#define SF_PIECE (1u << 20)
#define SF_COLUMNS_MAX 4096u
#define SF_FILE_NAME "rows.seg"

struct sf_header {
    char magic[8];
    uint32_t version, zero0;
    int64_t segment_id, collection_id, partition_id;
    uint64_t zero1[2];
    uint64_t sum; /* XXH3 of the bytes before */
};
struct sf_block {
    uint64_t off, len, sum;
};
struct sf_column {
    int64_t field_id;
    uint32_t type, elem, dim, width;
    uint32_t nulls, zero;
    struct sf_block data, ends, valid;
};
struct sf_footer {
    uint32_t nrows, ncols;
    int64_t pk_field_id;
    uint64_t min_ts, max_ts, first_position, last_position;
    struct sf_block ts, order, filter;
};
struct sf_trailer {
    uint64_t footer_off, footer_len, footer_sum, total_len;
    uint32_t version, zero0;
    uint64_t zero1;
    char magic[8];
    uint64_t sum; /* XXH3 of the bytes before */
};
_Static_assert(sizeof(struct sf_header) == 64, "format");
_Static_assert(sizeof(struct sf_block) == 24, "format");
_Static_assert(sizeof(struct sf_column) == 104, "format");
_Static_assert(sizeof(struct sf_footer) == 120, "format");
_Static_assert(sizeof(struct sf_trailer) == 64, "format");

/* A file whose header, trailer and footer have been checked. */
struct sf_file {
    const struct sf_header *header;
    const struct sf_footer *footer;
    const struct sf_column *cols;
    const struct sf_trailer *trailer;
};
/* Everything that can be known without touching a block: magics, versions, checksums, lengths, and
 * that the blocks lie one behind the other and have the sizes their column needs. name is for
 * messages. p must be 64-byte aligned. Fails: ST_CORRUPT, ST_UNSUPPORTED (newer version). */
int sf_parse(const uint8_t *p, size_t n, const char *name, struct sf_file *ret, struct status *st);
/* Checksums of all blocks and zeros between them. */
int sf_check_blocks(const struct sf_file *f, const uint8_t *p, const char *name,
                    struct status *st);

/* Block checksums: pieces of SF_PIECE bytes are hashed one by one and chained, so that a writer
 * needs no more than a piece in memory. Start from 0. */
uint64_t sf_sum_add(uint64_t sum, const void *piece, size_t n);
uint64_t sf_sum(const void *p, size_t n);
