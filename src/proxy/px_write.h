/*
 * px_write.h - rows and keys on their way to the shards, shared by insert, upsert and delete.
 */
#pragma once
#include "proxy/px_int.h"

/* Generated keys for a schema with autoID. */
int px_auto_ids(struct px_call *pc, const struct px_coll *coll, uint32_t n, struct column *ret,
                struct status *st);
/* The row's shard: hash of its key. */
uint32_t px_shard_of(const struct column *pks, uint32_t row, size_t nshards);
/* Sends rows and deletes of one request to their shards. rows may be NULL (deletes only), deletes
 * may be NULL. Partitions: by partition key, or partition_name ("" is the default one). Deletes
 * reach only delete_partitions (none: all). *ret_ts: the greatest timestamp given. */
struct px_write {
    const struct px_coll *coll;
    const struct batch *rows;          /* with the key column */
    const char *partition_name;
    const struct column *delete_pks;
    size_t ndelete_partitions;
    int64_t *delete_partitions;
};
int px_send_writes(struct px_call *pc, const struct px_write *w, hts *ret_ts, struct status *st);
