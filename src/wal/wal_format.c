/*
 * wal_format.c - the bytes of a log file.
 *
 * FORMAT
 *   A log is a folder. Its files are named after their first record, "<20 decimal digits>.log", and
 *   hold consecutive records; the last file is the one appended to. Integers are little-endian.
 *
 *   File header, 64 bytes:
 *      0  8  magic "ELANWAL" and a zero byte
 *      8  4  format version (1)
 *     12  4  size of this header (64)
 *     16  8  position of the first record
 *     24  8  term of the writer
 *     32  8  salt: random, seeds the checksum of every record in this file
 *     40 20  zero
 *     60  4  CRC-32C of bytes 0 to 59
 *   A file gets its name only after its header is durable, so a bad header is damage.
 *
 *   Record, at a multiple of 8, 24 bytes and the payload:
 *      0  4  length of the payload
 *      4  4  CRC-32C of salt, bytes 0 to 3, bytes 8 to 23 and the payload
 *      8  8  position: that of the record before, plus 1
 *     16  2  type (the caller's)
 *     18  2  flags: 1 = last record of its batch
 *     20  4  unsynced: position minus the newest position known durable when this was written,
 *            0xffffffff for anything larger
 *     24     payload, then zeros up to a multiple of 8
 *
 *   The term file, "term", holds "term <decimal>\n": the lowest term that may append.
 *
 * THE END OF A LOG
 *   A record is valid when it fits the file with its padding, its position is the expected one
 *   and its checksum is right. The log ends behind the last valid record with flag 1 that is
 *   reached through valid records only: a batch whose last record is missing never happened.
 *   What follows that end in the last file is one of these:
 *   - nothing, or zeros: reserved space;
 *   - remains of writes that were never synced: cut off. Power loss may keep a later write and lose
 *     an earlier one, so valid records may follow an invalid one even here;
 *   - damage to something that was durable. It shows when any valid record behind the end was
 *     written at a time when the position behind the end was known durable (position - unsynced).
 *     Nothing is changed then: ST_CORRUPT.
 *   The salt keeps a payload that itself contains log records from being taken for some.
 *
 *   In any other file, records up to the first position of the next file must all be valid.
 *   Anything behind that was written by a writer that had been fenced, and counts for nothing.
 *
 * THREADS  Pure functions.
 */
#include "base/buf.h"
#include "base/hash.h"
#include "wal/wal_int.h"
#include <string.h>

void wal__file_header_put(uint8_t out[WAL_FILE_HEADER], const struct wal_file_header *h)
{
    memset(out, 0, WAL_FILE_HEADER);
    memcpy(out, WAL_MAGIC, sizeof WAL_MAGIC);
    store_u32(out + 8, WAL_FORMAT_VERSION);
    store_u32(out + 12, WAL_FILE_HEADER);
    store_u64(out + 16, h->first);
    store_u64(out + 24, h->term);
    store_u64(out + 32, h->salt);
    store_u32(out + 60, crc32c(0, out, 60));
}

int wal__file_header_get(const uint8_t *p, size_t n, const char *path, struct wal_file_header *ret,
                         struct status *st)
{
    if (n < WAL_FILE_HEADER || memcmp(p, WAL_MAGIC, sizeof WAL_MAGIC) != 0) {
        return st_fail(st, ST_CORRUPT, "%s is not a log file", path);
    }
    if (load_u32(p + 60) != crc32c(0, p, 60)) {
        return st_fail(st, ST_CORRUPT, "%s: the checksum of the file header is wrong", path);
    }
    if (load_u32(p + 8) != WAL_FORMAT_VERSION || load_u32(p + 12) != WAL_FILE_HEADER) {
        return st_fail(st, ST_UNSUPPORTED, "%s has format %u, this version knows format %d", path,
                       load_u32(p + 8), WAL_FORMAT_VERSION);
    }
    *ret = (struct wal_file_header){load_u64(p + 16), load_u64(p + 24), load_u64(p + 32)};
    return 0;
}

void wal__record_header_put(uint8_t out[WAL_RECORD_HEADER], const struct wal_record_header *h)
{
    store_u32(out, h->len);
    store_u32(out + 4, h->crc);
    store_u64(out + 8, h->position);
    memcpy(out + 16, &h->type, 2);
    memcpy(out + 18, &h->flags, 2);
    store_u32(out + 20, h->unsynced);
}

struct wal_record_header wal__record_header_get(const uint8_t *p)
{
    struct wal_record_header h = {
        .len = load_u32(p),
        .crc = load_u32(p + 4),
        .position = load_u64(p + 8),
        .unsynced = load_u32(p + 20),
    };
    memcpy(&h.type, p + 16, 2);
    memcpy(&h.flags, p + 18, 2);
    return h;
}

uint32_t wal__record_crc(uint64_t salt, const uint8_t *header)
{
    uint32_t crc = crc32c(0, &salt, sizeof salt);
    crc = crc32c(crc, header, 4);
    return crc32c(crc, header + 8, WAL_RECORD_HEADER - 8);
}
