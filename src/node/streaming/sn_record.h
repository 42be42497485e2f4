/*
 * sn_record.h - one write as a log record.
 *
 * FORMAT    docs/format.md "Write record": a header, the shard's name, then the inserts' batches
 *           and the deleted keys, each 8-byte aligned, so that a batch is used in place after
 *           replay.
 * THREADS   Pure.
 */
#pragma once
#include "base/file.h"
#include "schema/types.h"
#include "service/service.h"

#define SN_RECORD_WRITE 1 /* the log's record type */
#define SN_RECORD_PARTS_MAX 4096u

struct sn_part {
    int64_t partition_id, segment_id;
    uint32_t num_rows;
    struct slice batch;
};
struct sn_record {
    hts ts;
    int64_t collection_id;
    struct slice vchannel;
    uint32_t nparts;
    struct sn_part *parts;
    struct slice delete_pks;              /* a batch of one column; empty: none */
    uint32_t ndelete_partitions;
    int64_t *delete_partitions;           /* none: all partitions */
};

/* The record in pieces: heads from ar, batches borrowed. */
int sn_record_encode(const struct sn_record *r, struct arena *ar, struct file_part **ret_parts,
                     size_t *ret_n, struct status *st);
/* Borrows from bytes. ST_CORRUPT says what does not fit. */
int sn_record_decode(struct slice bytes, struct arena *ar, struct sn_record *ret,
                     struct status *st);
