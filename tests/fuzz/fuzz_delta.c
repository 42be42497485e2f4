/*
 * fuzz_delta.c - delete files from somebody else, through an object store: delta_read().
 *
 * The input is taken as it is and once more with fitting checksums, so that every length in the
 * header can be a lie that only the checks behind the checksums find. What is read must be readable
 * to the last byte, and must be written as the same file.
 */
#include "base/alloc.h"
#include "base/hash.h"
#include "object/object.h"
#include "segment/segment.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Offsets in the header: docs/format.md "Delete file". */
enum { NROWS_AT = 12, PK_TYPE_AT = 24, KEYS_LEN_AT = 32, SUMS_AT = 40, SUM_AT = 64, HEADER = 72 };

static struct object_store *os;
static char dir[64];

static void remove_dir(void)
{
    struct status st = STATUS_INIT;
    object_close(os);
    (void)path_remove_tree(dir, &st);
}

static void open_store(void)
{
    struct status st = STATUS_INIT;
    snprintf(dir, sizeof dir, "%s/elanus-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(dir) && object_local_open(dir, &os, &st) == 0);
    atexit(remove_dir);
}

/* Fits the checksums to the bytes, as far as the lengths lead to bytes. */
static void seal(uint8_t *p, size_t n)
{
    uint32_t nrows, type;
    uint64_t keys, ends, ts, sums[3] = { 0 };
    memcpy(&nrows, p + NROWS_AT, 4);
    memcpy(&type, p + PK_TYPE_AT, 4);
    memcpy(&keys, p + KEYS_LEN_AT, 8);
    keys = keys <= n ? ROUND_UP(keys, (uint64_t)8) : n;
    ends = type == DT_INT64 ? 0 : (uint64_t)nrows * 8;
    ts = (uint64_t)nrows * 8;
    if (keys + ends + ts == n - HEADER) {
        sums[0] = hash64(p + HEADER, keys);
        sums[1] = hash64(p + HEADER + keys, ends);
        sums[2] = hash64(p + HEADER + keys + ends, ts);
        memcpy(p + SUMS_AT, sums, sizeof sums);
    }
    sums[0] = hash64(p, SUM_AT);
    memcpy(p + SUM_AT, sums, 8);
}

static void check_again(const struct column *pks, const hts *ts, struct arena *ar)
{
    struct status st = STATUS_INIT;
    struct column same;
    const hts *same_ts;
    uint64_t bytes;
    CHECK(delta_write(os, "again", pks, ts, &bytes, &st) == 0);
    CHECK(delta_read(os, "again", ar, &same, &same_ts, &st) == 0);
    CHECK(same.nrows == pks->nrows && same.type == pks->type);
    for (uint32_t i = 0; i < pks->nrows; i++) {
        CHECK(slice_eq(column_cell(&same, i), column_cell(pks, i)) && same_ts[i] == ts[i]);
    }
}

static void read_file(const uint8_t *p, size_t n)
{
    struct arena *ar = arena_new((size_t)64 << 20);
    struct status st = STATUS_INIT;
    struct file_part part = { p, n };
    struct column pks;
    const hts *ts;
    CHECK(object_put(os, SLICE_LIT("delta"), &part, 1, &st) == 0);
    if (delta_read(os, "delta", ar, &pks, &ts, &st) == 0) {
        check_again(&pks, ts, ar);
    } else {
        CHECK(st.code == ST_CORRUPT || st.code == ST_UNSUPPORTED);
        CHECK(strstr(st.msg, "delta"));
    }
    arena_free(ar);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!os) {
        open_store();
    }
    uint8_t *p = xalloc(size ? size : 1);
    if (size) {
        memcpy(p, data, size);
    }
    read_file(p, size);
    if (size >= HEADER) {
        seal(p, size);
        read_file(p, size);
    }
    mem_free(p);
    return 0;
}
