/*
 * sn_record.c - encoding and decoding of write records. See sn_record.h.
 *
 * FORMAT    all little-endian
 *   u32 version (1)        u32 number of insert parts
 *   u64 timestamp          i64 collection id
 *   u32 length of vchannel u32 number of partitions the delete is limited to
 *   u64 length of the delete batch (0: none)
 *   per insert part: i64 partition, i64 segment, u64 length of its batch, u32 rows, u32 zero
 *   i64 partitions of the delete
 *   vchannel, zeros up to 8
 *   the delete batch, zeros up to 8; each part's batch, zeros up to 8
 * WHY       The log's own checksum covers the bytes, so there is none here.
 */
#include "node/streaming/sn_record.h"
#include "base/buf.h"

#define RECORD_VERSION 1u
#define HEAD_BYTES 40u
#define PART_BYTES 32u

static const uint8_t zeros[8];

static size_t pad8(size_t n)
{
    return (8 - (n & 7)) & 7;
}

int sn_record_encode(const struct sn_record *r, struct arena *ar, struct file_part **ret_parts,
                     size_t *ret_n, struct status *st)
{
    size_t head_len = HEAD_BYTES + (size_t)r->nparts * PART_BYTES +
                      (size_t)r->ndelete_partitions * 8 + r->vchannel.n + pad8(r->vchannel.n);
    uint8_t *head = arena_try(ar, head_len);
    struct file_part *parts = arena_try_array(ar, (size_t)r->nparts * 2 + 3, sizeof *parts);
    size_t n = 0;
    uint8_t *p = head;

    if (!head || !parts) {
        return st_fail(st, ST_NO_MEMORY, "no memory for a record of %u parts", r->nparts);
    }
    memset(head, 0, head_len);
    store_u32(p, RECORD_VERSION);
    store_u32(p + 4, r->nparts);
    store_u64(p + 8, r->ts);
    store_u64(p + 16, (uint64_t)r->collection_id);
    store_u32(p + 24, (uint32_t)r->vchannel.n);
    store_u32(p + 28, r->ndelete_partitions);
    store_u64(p + 32, r->delete_pks.n);
    p += HEAD_BYTES;
    for (uint32_t i = 0; i < r->nparts; i++, p += PART_BYTES) {
        store_u64(p, (uint64_t)r->parts[i].partition_id);
        store_u64(p + 8, (uint64_t)r->parts[i].segment_id);
        store_u64(p + 16, r->parts[i].batch.n);
        store_u32(p + 24, r->parts[i].num_rows);
    }
    for (uint32_t i = 0; i < r->ndelete_partitions; i++, p += 8) {
        store_u64(p, (uint64_t)r->delete_partitions[i]);
    }
    memcpy(p, r->vchannel.p, r->vchannel.n);
    parts[n++] = (struct file_part){ head, head_len };
    if (r->delete_pks.n) {
        parts[n++] = (struct file_part){ r->delete_pks.p, r->delete_pks.n };
        parts[n++] = (struct file_part){ zeros, pad8(r->delete_pks.n) };
    }
    for (uint32_t i = 0; i < r->nparts; i++) {
        parts[n++] = (struct file_part){ r->parts[i].batch.p, r->parts[i].batch.n };
        parts[n++] = (struct file_part){ zeros, pad8(r->parts[i].batch.n) };
    }
    *ret_parts = parts;
    *ret_n = n;
    return 0;
}

static int damaged(struct status *st, const char *what)
{
    return st_fail(st, ST_CORRUPT, "write record: %s", what);
}

static bool take_padded(struct reader *rd, uint64_t n, struct slice *ret)
{
    struct slice pad;
    if (n > reader_left(rd) || !reader_bytes(rd, (size_t)n, ret)) {
        return false;
    }
    return reader_bytes(rd, MIN(pad8((size_t)n), reader_left(rd)), &pad);
}

int sn_record_decode(struct slice bytes, struct arena *ar, struct sn_record *ret,
                     struct status *st)
{
    struct reader rd = reader_of(bytes);
    uint32_t version, vlen, zero;
    uint64_t coll, delete_len, v;
    struct sn_record r = { 0 };
    uint64_t *lengths;

    if (!reader_u32(&rd, &version) || version != RECORD_VERSION) {
        return damaged(st, "unknown version");
    }
    if (!reader_u32(&rd, &r.nparts) || !reader_u64(&rd, &r.ts) || !reader_u64(&rd, &coll) ||
        !reader_u32(&rd, &vlen) || !reader_u32(&rd, &r.ndelete_partitions) ||
        !reader_u64(&rd, &delete_len) || r.nparts > SN_RECORD_PARTS_MAX ||
        r.ndelete_partitions > SN_RECORD_PARTS_MAX) {
        return damaged(st, "head is cut short or out of range");
    }
    r.collection_id = (int64_t)coll;
    r.parts = arena_try_array(ar, r.nparts + 1u, sizeof *r.parts);
    lengths = arena_try_array(ar, r.nparts + 1u, sizeof *lengths);
    r.delete_partitions = arena_try_array(ar, r.ndelete_partitions + 1u, 8);
    if (!r.parts || !lengths || !r.delete_partitions) {
        return st_fail(st, ST_NO_MEMORY, "no memory for a record of %u parts", r.nparts);
    }
    for (uint32_t i = 0; i < r.nparts; i++) {
        uint64_t part, seg;
        if (!reader_u64(&rd, &part) || !reader_u64(&rd, &seg) || !reader_u64(&rd, &lengths[i]) ||
            !reader_u32(&rd, &r.parts[i].num_rows) || !reader_u32(&rd, &zero)) {
            return damaged(st, "list of parts is cut short");
        }
        r.parts[i].partition_id = (int64_t)part;
        r.parts[i].segment_id = (int64_t)seg;
    }
    for (uint32_t i = 0; i < r.ndelete_partitions; i++) {
        if (!reader_u64(&rd, &v)) {
            return damaged(st, "list of partitions is cut short");
        }
        r.delete_partitions[i] = (int64_t)v;
    }
    if (!take_padded(&rd, vlen, &r.vchannel) || !take_padded(&rd, delete_len, &r.delete_pks)) {
        return damaged(st, "names or keys are cut short");
    }
    for (uint32_t i = 0; i < r.nparts; i++) {
        if (!take_padded(&rd, lengths[i], &r.parts[i].batch)) {
            return damaged(st, "rows are cut short");
        }
    }
    *ret = r;
    return 0;
}
