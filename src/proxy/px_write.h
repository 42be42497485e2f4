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
/* Ids of the partitions of a collection with a partition key, ascending: a row belongs to the one
 * at pk_hash(value) % number. NULL past the arena's limit. */
int64_t *px_key_partitions(struct px_call *pc, const struct px_coll *coll);
/* Where a write with this partition name looks for rows: that partition. Without a name the default
 * one, or with all_by_default everywhere; with a partition key everywhere (none returned): a row
 * may have changed its partition. "partition not found[partition=P]" (ERR_PARTITION_NOT_FOUND). */
int px_write_scope(struct px_call *pc, const struct px_coll *coll, const char *partition_name,
                   bool all_by_default, int64_t **ret_ids, size_t *ret_n, struct status *st);
/* After a shard's failure: when it says that the shard is not there, its place is asked for again
 * by the next call. */
void px_shard_failed(struct px_call *pc, const struct px_coll *coll, const struct status *st);
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
/* Deletes by key, in records of a bounded size; nothing to do without keys (*ret_ts stays). */
int px_send_deletes(struct px_call *pc, const struct px_coll *coll, const struct column *pks,
                    int64_t *partitions, size_t npartitions, hts *ret_ts, struct status *st);
