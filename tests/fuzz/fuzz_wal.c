/*
 * fuzz_wal.c - arbitrary bytes as the only file of a log.
 *
 * The first byte says how much is put right before, so that inputs get past the checksums:
 *   bit 0  the file header is replaced by a good one
 *   bit 1  the checksum of every record reached through the lengths is made to fit
 * Opening may fail, with the file named. When it succeeds, every record up to the last position
 * must be readable; a read-only look and a real open must agree; an append must follow on, and be
 * there after the next open.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "base/hash.h"
#include "file_crash.h"
#include "wal/wal.h"
#include "wal/wal_int.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PATH "log/00000000000000000001.log"

static void fix_header(uint8_t *p, size_t n)
{
    struct wal_file_header h = {.first = 1, .term = 1, .salt = 42};
    if (n >= WAL_FILE_HEADER) {
        wal__file_header_put(p, &h);
    }
}

static void fix_records(uint8_t *p, size_t n)
{
    uint64_t off = WAL_FILE_HEADER;
    while (off < n && n - off >= WAL_RECORD_HEADER) {
        struct wal_record_header h = wal__record_header_get(p + off);
        if (h.len > n - off - WAL_RECORD_HEADER) {
            return;
        }
        h.crc = wal__record_crc(42, p + off);
        h.crc = crc32c(h.crc, p + off + WAL_RECORD_HEADER, h.len);
        wal__record_header_put(p + off, &h);
        off += wal__record_size(h.len);
    }
}

static void write_file(const uint8_t *p, size_t n)
{
    struct status st = STATUS_INIT;
    struct file *f = NULL;
    CHECK(dir_make("log", &st) == 0);
    CHECK(file_open(PATH, FILE_WRITE | FILE_CREATE, &f, &st) == 0);
    CHECK(file_append(f, p, n, &st) == 0);
    file_close(f);
}

/* Reads all; the last position. */
static uint64_t read_all(struct wal *w)
{
    struct status st = STATUS_INIT;
    struct wal_reader *r = NULL;
    struct wal_record rec;
    uint64_t last = wal_last_position(w), sum = 0;
    bool found = false;
    CHECK(wal_reader_open(w, 1, &r, &st) == 0);
    for (uint64_t p = 1; p <= last; p++) {
        CHECK(wal_reader_next(r, &rec, &found, &st) == 0);
        CHECK(found && rec.position == p);
        for (size_t i = 0; i < rec.payload.n; i++) {
            sum += (uint8_t)rec.payload.p[i];
        }
    }
    CHECK(wal_reader_next(r, &rec, &found, &st) == 0 && !found);
    wal_reader_close(r);
    CHECK(sum <= UINT64_MAX / 2);
    return last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wal_opts opts = {.dir = "log", .term = 3};
    struct file_part part = {"appended", 8};
    struct wal_entry e = {&part, 1, 1};
    struct status st = STATUS_INIT;
    struct wal *w = NULL;
    if (size < 1) {
        return 0;
    }
    size_t n = size - 1;
    uint8_t *p = xalloc(n + 1);
    memcpy(p, data + 1, n);
    if (data[0] & 1) {
        fix_header(p, n);
    }
    if (data[0] & 2) {
        fix_records(p, n);
    }
    struct crash_fs *fs = crash_fs_new(1);
    write_file(p, n);
    mem_free(p);

    int rc = wal_local_open_readonly("log", &w, &st);
    CHECK(rc == 0 || strstr(st.msg, PATH));
    if (rc == 0) {
        uint64_t last = read_all(w), first = 0;
        CHECK(wal_close(w, &st) == 0);
        rc = wal_local_open(&opts, &w, &st);
        CHECK(rc == 0 || rc == ST_FENCED);
        if (rc == 0) {
            CHECK(read_all(w) == last);
            CHECK(wal_append(w, &e, 1, &first, &st) == 0 && first == last + 1);
            CHECK(wal_close(w, &st) == 0);
            CHECK(wal_local_open(&opts, &w, &st) == 0);
            CHECK(read_all(w) == last + 1);
            CHECK(wal_close(w, &st) == 0);
        }
    }
    crash_fs_free(fs);
    return 0;
}
