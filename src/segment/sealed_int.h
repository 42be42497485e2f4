/* sealed_int.h - opening a segment from bytes that somebody else keeps (tests and fuzzing too). */
#pragma once
#include "segment/seg_int.h"

struct seg_ids {
    int64_t id, collection_id, partition_id;
};
/* p (64-byte aligned) must outlive the segment; name is for messages. Fails as seg_open(). */
int seg__open_bytes(const struct seg_ids *ids, const struct schema *schema, const char *name,
                    const uint8_t *p, size_t n, struct segment **ret_seg, struct status *st);

/* A delete file's bytes (8-byte aligned), borrowed by the results. Fails as delta_read(). */
int delta__parse(const uint8_t *p, size_t n, const char *key, struct column *ret_pks,
                 const hts **ret_ts, struct status *st);
