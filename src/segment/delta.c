/*
 * delta.c - delete files: primary keys and the timestamps at which they were deleted.
 *
 * WHAT        Written at a flush for one shard, read once when a segment is loaded. Small beside
 *             the rows, so it is read into memory whole and every byte is checked.
 * FORMAT      docs/format.md "Delete file": a header, then keys, offsets (VarChar keys only) and
 *             timestamps, each padded with zeros to 8 bytes.
 * THREADS     Any.
 */
#include "base/alloc.h"
#include "base/hash.h"
#include "segment/sealed_int.h"

#define DELTA_MAGIC "ELANDEL1"
#define DELTA_VERSION 1u

struct delta_header {
    char magic[8];
    uint32_t version, nrows;
    int64_t pk_field_id;
    uint32_t pk_type, zero;
    uint64_t keys_len;                  /* without padding */
    uint64_t keys_sum, ends_sum, ts_sum; /* XXH3 of each section, padding included */
    uint64_t sum;                       /* XXH3 of the bytes before */
};
_Static_assert(sizeof(struct delta_header) == 72, "format");

static uint64_t pad8(uint64_t n)
{
    return ROUND_UP(n, (uint64_t)8);
}

static bool put_keys(const struct column *pks, struct buf *keys, struct buf *ends)
{
    for (uint32_t i = 0; i < pks->nrows; i++) {
        buf_put_slice(keys, column_cell(pks, i));
        if (!pks->width) {
            buf_put_u64(ends, keys->n);
        }
    }
    return !keys->failed && !ends->failed;
}

int delta_write(struct object_store *os, const char *key, const struct column *pks, const hts *ts,
                uint64_t *ret_bytes, struct status *st)
{
    struct delta_header h = { .version = DELTA_VERSION,
                              .nrows = pks->nrows,
                              .pk_field_id = pks->field_id,
                              .pk_type = (uint32_t)pks->type };
    struct buf keys, ends;
    int rc;
    buf_init(&keys, SIZE_MAX / 2);
    buf_init(&ends, SIZE_MAX / 2);
    if (pks->type != DT_INT64 && pks->type != DT_VARCHAR) {
        FAIL(st, ST_INVALID, "%s: keys of type %s", key, dtype_name(pks->type));
    }
    if (!put_keys(pks, &keys, &ends)) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory for %u deletes", key, pks->nrows);
    }
    h.keys_len = keys.n;
    if (!buf_pad(&keys, 8)) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory for %u deletes", key, pks->nrows);
    }
    size_t ts_bytes = (size_t)pks->nrows * sizeof *ts;
    memcpy(h.magic, DELTA_MAGIC, sizeof h.magic);
    h.keys_sum = hash64(keys.p, keys.n);
    h.ends_sum = hash64(ends.p, ends.n);
    h.ts_sum = hash64(ts, ts_bytes);
    h.sum = hash64(&h, offsetof(struct delta_header, sum));
    struct file_part parts[] = {
        { &h, sizeof h }, { keys.p, keys.n }, { ends.p, ends.n }, { ts, ts_bytes }
    };
    TRY(object_put(os, slice_of(key), parts, ARRAY_LEN(parts), st));
    *ret_bytes = sizeof h + keys.n + ends.n + ts_bytes;
out:
    buf_done(&keys);
    buf_done(&ends);
    return rc;
}

static int damaged(const char *key, const char *what, struct status *st)
{
    return st_fail(st, ST_CORRUPT, "%s: %s of a delete file damaged", key, what);
}

static int check_header(const struct delta_header *h, size_t n, const char *key, struct status *st)
{
    if (memcmp(h->magic, DELTA_MAGIC, 8) != 0) {
        return damaged(key, "magic number", st);
    }
    if (h->version > DELTA_VERSION) {
        return st_fail(st, ST_UNSUPPORTED, "%s: delete file version %u, this program reads %u", key,
                       h->version, DELTA_VERSION);
    }
    bool is_int = h->pk_type == DT_INT64;
    uint64_t ends_len = is_int ? 0 : (uint64_t)h->nrows * 8, ts_len = (uint64_t)h->nrows * 8;
    if (h->sum != hash64(h, offsetof(struct delta_header, sum)) || h->version != DELTA_VERSION ||
        h->zero || (!is_int && h->pk_type != DT_VARCHAR) || h->keys_len > n ||
        (is_int && h->keys_len != ts_len) ||
        n != sizeof *h + pad8(h->keys_len) + ends_len + ts_len) {
        return damaged(key, "header", st);
    }
    return 0;
}

static int check_sections(const struct delta_header *h, const uint8_t *p, const char *key,
                          struct column *col, const hts **ret_ts, struct status *st)
{
    const uint8_t *keys = p + sizeof *h, *ends = keys + pad8(h->keys_len);
    size_t ends_len = col->width ? 0 : (size_t)h->nrows * 8;
    const uint8_t *ts = ends + ends_len;
    if (h->keys_sum != hash64(keys, (size_t)pad8(h->keys_len))) {
        return damaged(key, "keys", st);
    }
    if (h->ends_sum != hash64(ends, ends_len)) {
        return damaged(key, "offsets", st);
    }
    if (h->ts_sum != hash64(ts, (size_t)h->nrows * 8)) {
        return damaged(key, "timestamps", st);
    }
    col->data = keys;
    *ret_ts = (const void *)ts;
    if (!col->width) {
        col->ends = (const void *)ends;
        uint64_t prev = 0;
        for (uint32_t i = 0; i < h->nrows; i++) {
            if (col->ends[i] < prev || col->ends[i] > h->keys_len) {
                return damaged(key, "offsets", st);
            }
            prev = col->ends[i];
        }
    }
    return 0;
}

int delta__parse(const uint8_t *p, size_t n, const char *key, struct column *ret_pks,
                 const hts **ret_ts, struct status *st)
{
    const struct delta_header *h = (const void *)p;
    int rc;
    if (n < sizeof *h) {
        FAIL(st, ST_CORRUPT, "%s: too short for a delete file", key);
    }
    TRY(check_header(h, n, key, st));
    struct column col = { .field_id = h->pk_field_id,
                          .type = (enum dtype)h->pk_type,
                          .nrows = h->nrows,
                          .width = h->pk_type == DT_INT64 ? 8 : 0 };
    const hts *ts = NULL;
    TRY(check_sections(h, p, key, &col, &ts, st));
    *ret_pks = col;
    *ret_ts = ts;
out:
    return rc;
}

int delta_read(struct object_store *os, const char *key, struct arena *ar, struct column *ret_pks,
               const hts **ret_ts, struct status *st)
{
    struct object_info info = { 0 };
    size_t got = 0;
    int rc;
    TRY(object_stat(os, slice_of(key), &info, st));
    uint8_t *p = info.size < SIZE_MAX ? arena_try(ar, (size_t)info.size + 1) : NULL;
    if (!p) {
        FAIL(st, ST_NO_MEMORY, "%s: no memory for %llu bytes", key, (unsigned long long)info.size);
    }
    TRY(object_get(os, slice_of(key), 0, p, (size_t)info.size, &got, st));
    TRY(delta__parse(p, got, key, ret_pks, ret_ts, st));
out:
    return rc;
}
